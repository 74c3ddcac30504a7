//! Calls that stand for clauses between parser and binder: they are looked up like functions, and never run.

use std::sync::Arc;

use alluvium_parser::Deduplicate;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

/// DEDUPLICATE BY, among the conditions of WHERE.
pub(super) fn deduplicate() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(Marker { signature: Signature::variadic_any(Volatility::Volatile) }))
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
