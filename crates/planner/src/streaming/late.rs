//! Keeping late rows: a node below each operator that leaves them out.

use datafusion::common::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, lit};

use crate::node::LateRowsNode;
use crate::relation::METADATA_COLUMN;
use crate::windows::WINDOW_COLUMN;

/// `input` with its late rows kept, if anybody wants them; `time` says which are late, and
/// `lag_us` how far they may stay behind the watermark.
pub(super) fn kept(input: LogicalPlan, time: &Expr, lag_us: i64, wanted: Option<&SessionState>) -> Result<LogicalPlan> {
    let Some(state) = wanted else { return Ok(input) };
    let row = as_json(&input, state)?;
    let node = LateRowsNode { time: time.clone().unalias(), row, input, lag_us };
    Ok(LogicalPlan::Extension(Extension { node: std::sync::Arc::new(node) }))
}

/// The columns of a plan as the text of a JSON object. A column of windows is called `window`.
fn as_json(plan: &LogicalPlan, state: &SessionState) -> Result<Expr> {
    let function = |name: &str, args| {
        let known = state.scalar_functions().get(name).cloned();
        let known = known.ok_or_else(|| datafusion::common::internal_datafusion_err!("there is no function {name}"))?;
        Ok::<_, datafusion::common::DataFusionError>(Expr::ScalarFunction(ScalarFunction::new_udf(known, args)))
    };
    let mut fields = Vec::new();
    for column in plan.schema().columns() {
        if column.name != METADATA_COLUMN {
            let name = if column.name.starts_with(WINDOW_COLUMN) { "window" } else { column.name.as_str() };
            fields.extend([lit(name), Expr::Column(column.clone())]);
        }
    }
    function("to_json", vec![function("named_struct", fields)?])
}
