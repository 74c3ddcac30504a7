//! `date_part` and EXTRACT of texts and dates as well as of timestamps.
//!
//! The work is `datafusion-spark`'s; names of parts and the session's zone are [`super::casts`]' business.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, cast,
};

use super::times;
use crate::ddl::{sql_type, timestamp};

#[derive(Debug, PartialEq, Eq, Hash)]
struct DatePart {
    inner: Arc<ScalarUDF>,
    aliases: Vec<String>,
    signature: Signature,
}

/// The function.
pub(super) fn date_part() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(DatePart {
        inner: datafusion_spark::function::datetime::date_part(),
        aliases: vec!["datepart".to_string()],
        signature: Signature::user_defined(Volatility::Immutable),
    }))
}

/// Whether a part is the seconds of a minute, which have a fraction.
fn is_second(part: &str) -> bool {
    matches!(part.to_ascii_lowercase().as_str(), "second" | "s" | "sec" | "seconds" | "secs")
}

impl ScalarUDFImpl for DatePart {
    fn name(&self) -> &str {
        "date_part"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        match arg_types {
            [_, at @ (DataType::Timestamp(_, _) | DataType::Date32)] => Ok(vec![DataType::Utf8, at.clone()]),
            [_, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 | DataType::Null] => {
                Ok(vec![DataType::Utf8, timestamp()])
            }
            [_, other] => plan_err!("parts are of a TIMESTAMP, DATE or STRING type, not of {}", sql_type(other)),
            _ => plan_err!("date_part takes a part such as 'DAY' and a time"),
        }
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int32)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let part = args.scalar_arguments.first().copied().flatten();
        if part.and_then(|part| part.try_as_str()).flatten().is_some_and(is_second) {
            return Ok(Arc::new(Field::new(self.name(), times::seconds_type(), true)));
        }
        self.inner.return_field_from_args(args)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        if let [Expr::Literal(part, _), time] = args.as_slice()
            && part.try_as_str().flatten().is_some_and(is_second)
        {
            // No zone is away from another by a part of a minute, so any will do.
            let local = DataType::Timestamp(TimeUnit::Microsecond, None);
            let args = vec![cast(time.clone(), local)];
            let seconds = Expr::ScalarFunction(ScalarFunction::new_udf(times::seconds(), args));
            return Ok(ExprSimplifyResult::Simplified(seconds));
        }
        self.inner.simplify(args, info)
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("date_part was run without having been optimized")
    }
}
