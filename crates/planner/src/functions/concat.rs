//! `concat`: texts one behind the other, or arrays one behind the other; NULL when any of them is.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::functions_nested::concat::array_concat_udf;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility, lit, when,
};

use super::fields::is_list;

#[derive(Debug, PartialEq, Eq, Hash)]
struct Concat {
    texts: Arc<ScalarUDF>,
    arrays: Arc<ScalarUDF>,
    signature: Signature,
}

/// The function.
pub(super) fn udf() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(Concat {
        texts: datafusion_spark::function::string::concat(),
        arrays: array_concat_udf(),
        signature: Signature::user_defined(Volatility::Immutable),
    }))
}

impl ScalarUDFImpl for Concat {
    fn name(&self) -> &str {
        "concat"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let Some(list) = arg_types.iter().find(|given| is_list(given)) else {
            return self.texts.coerce_types(arg_types);
        };
        // A NULL is an array that is not there, not an element.
        let null_as_list = |given: &DataType| if *given == DataType::Null { list.clone() } else { given.clone() };
        self.arrays.coerce_types(&arg_types.iter().map(null_as_list).collect::<Vec<_>>())
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        if arg_types.iter().any(is_list) {
            self.arrays.return_type(arg_types)
        } else {
            self.texts.return_type(arg_types)
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        if args.arg_fields.iter().any(|field| is_list(field.data_type())) {
            let field = self.arrays.return_field_from_args(args)?;
            return Ok(Arc::new(field.as_ref().clone().with_nullable(true)));
        }
        self.texts.return_field_from_args(args)
    }

    /// Arrays are taken over by the function that joins them, which skips what is NULL.
    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let mut lists = false;
        for arg in &args {
            lists |= is_list(&arg.get_type(info.schema())?);
        }
        if !lists {
            return Ok(ExprSimplifyResult::Original(args));
        }
        let null = args.iter().cloned().map(Expr::is_null).reduce(Expr::or);
        let joined = Expr::ScalarFunction(ScalarFunction::new_udf(self.arrays.clone(), args));
        let none = lit(ScalarValue::try_from(&joined.get_type(info.schema())?)?);
        Ok(ExprSimplifyResult::Simplified(match null {
            Some(null) => when(null, none).otherwise(joined)?,
            None => joined,
        }))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if args.arg_fields.iter().any(|field| is_list(field.data_type())) {
            return exec_err!("concat of arrays was run without having been optimized");
        }
        self.texts.invoke_with_args(args)
    }
}
