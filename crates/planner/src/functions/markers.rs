//! Calls that nobody types: one stands for a clause between parser and binder and never runs, one only changes a name.

use std::sync::Arc;

use alluvium_parser::Deduplicate;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::casts_apart::APART;

/// DEDUPLICATE BY, among the conditions of WHERE.
pub(super) fn deduplicate() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(Marker { signature: Signature::variadic_any(Volatility::Volatile) }))
}

/// The value itself, under another name ([`crate::casts_apart`]).
pub(super) fn apart() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(Apart { signature: Signature::any(2, Volatility::Immutable) }))
}

/// The text of what a call of [`apart`] is called around.
pub(crate) fn set_apart(call: &ScalarFunction) -> Option<&str> {
    call.func.inner().downcast_ref::<Apart>()?;
    match call.args.last() {
        Some(Expr::Literal(text, _)) => text.try_as_str().flatten(),
        _ => None,
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Apart {
    signature: Signature,
}

impl ScalarUDFImpl for Apart {
    fn name(&self) -> &str {
        APART
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types {
            [value, _] => Ok(value.clone()),
            _ => internal_err!("{APART} is called around one value"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.into_iter().next() {
            Some(value) => Ok(value),
            None => internal_err!("{APART} is called around one value"),
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Marker {
    signature: Signature,
}

impl ScalarUDFImpl for Marker {
    fn name(&self) -> &str {
        Deduplicate::CALL
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        internal_err!("{} stands for a clause", Deduplicate::CALL)
    }
}
