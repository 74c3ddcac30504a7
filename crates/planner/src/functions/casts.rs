//! Casts whose result in Spark differs from Arrow's, rewritten to functions before types are coerced.
//!
//! Arrow takes a number for microseconds where Spark takes it for seconds, and writes `T` and `Z` into the text
//! of a timestamp.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::{Cast, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{Expr, ExprSchemable, ScalarUDF, cast};

use super::datetime;
/// The rewrite.
#[derive(Debug)]
pub(crate) struct SparkCasts;

impl FunctionRewrite for SparkCasts {
    fn name(&self) -> &str {
        "spark_casts"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, config: &ConfigOptions) -> Result<Transformed<Expr>> {
        match expr {
            Expr::Cast(cast) => rewrite_cast(cast, schema, config),
            other => Ok(Transformed::no(other)),
        }
    }
}

fn rewrite_cast(cast_expr: Cast, schema: &DFSchema, config: &ConfigOptions) -> Result<Transformed<Expr>> {
    let Ok(from) = cast_expr.expr.get_type(schema) else { return Ok(Transformed::no(Expr::Cast(cast_expr))) };
    let zone = config.execution.time_zone.as_deref().unwrap_or("UTC");
    let to = cast_expr.field.data_type().clone();
    let call =
        |udf: std::sync::Arc<ScalarUDF>, arg: Box<Expr>| Expr::ScalarFunction(ScalarFunction::new_udf(udf, vec![*arg]));
    let expr = match (&from, &to) {
        (DataType::Timestamp(_, _), DataType::Utf8) => call(datetime::timestamp_text(zone), cast_expr.expr),
        (from, DataType::Timestamp(_, Some(_))) if from.is_integer() || from.is_floating() => {
            call(datetime::timestamp_seconds(), cast_expr.expr)
        }
        (DataType::Timestamp(_, _), to) if to.is_integer() => {
            let seconds = call(datetime::unix_timestamp(zone), cast_expr.expr);
            if *to == DataType::Int64 { seconds } else { cast(seconds, to.clone()) }
        }
        _ => return Ok(Transformed::no(Expr::Cast(cast_expr))),
    };
    Ok(Transformed::yes(expr))
}
