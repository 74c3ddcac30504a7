//! `date_trunc(unit, time)` with Spark's units, of dates and text as well.
//!
//! The work is `datafusion-spark`'s; the second argument is brought to a TIMESTAMP, and to the session's zone, by
//! [`super::casts`].

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::ddl::{sql_type, timestamp};

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct DateTrunc {
    signature: Signature,
}

impl DateTrunc {
    pub fn udf() -> Arc<ScalarUDF> {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::from(DateTrunc { signature }))
    }
}

impl ScalarUDFImpl for DateTrunc {
    fn name(&self) -> &str {
        "date_trunc"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        match arg_types {
            [_, at @ (DataType::Timestamp(_, _) | DataType::Date32 | DataType::Utf8)] => {
                Ok(vec![DataType::Utf8, at.clone()])
            }
            [_, DataType::Utf8View | DataType::LargeUtf8 | DataType::Null] => Ok(vec![DataType::Utf8, DataType::Utf8]),
            [_, other] => plan_err!("date_trunc takes a TIMESTAMP, DATE or STRING type, not {}", sql_type(other)),
            _ => plan_err!("date_trunc takes a unit such as 'DAY' and a time"),
        }
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types.get(1) {
            Some(at @ DataType::Timestamp(_, _)) => Ok(at.clone()),
            _ => Ok(timestamp()),
        }
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        datafusion_spark::function::datetime::date_trunc().simplify(args, info)
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("date_trunc was run without having been optimized")
    }
}
