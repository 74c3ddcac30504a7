//! GROUPING SETS of static queries over no rows have no groups, as in Spark and as over streams.
//!
//! Spark makes a row of each set for each row that there is, and groups those: without rows the empty set `()` has no group
//! either (SPARK-29701). DataFusion gives the total of nothing, as the SQL standard wants. So beside other sets a group counts
//! its rows, and one that has none is left out. `GROUPING SETS (())` alone is no grouping, and has its one row in both. (Streams
//! make Spark's rows themselves, see `streaming/grouping.rs`.) Rewriting twice gives what rewriting once gives.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{Aggregate, Expr, Filter, LogicalPlan, Projection, col, lit};
use datafusion::optimizer::AnalyzerRule;

use crate::bind::first_stream;
use crate::streaming::sets_of;

/// The rule.
#[derive(Debug)]
pub(super) struct NoTotalOfNothing;

/// The rows of a group.
const ROWS: &str = "__rows";

impl AnalyzerRule for NoTotalOfNothing {
    fn name(&self) -> &str {
        "no_total_of_nothing"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(rewritten).map(|rewritten| rewritten.data)
    }
}

fn rewritten(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    match node {
        LogicalPlan::Aggregate(aggregate) if has_total(&aggregate)? && first_stream(&aggregate.input).is_none() => {
            let columns = aggregate.schema.columns().into_iter().map(Expr::Column).collect();
            let Aggregate { input, group_expr, mut aggr_expr, .. } = aggregate;
            aggr_expr.push(count(lit(1_i64)).alias(ROWS));
            let counted = LogicalPlan::Aggregate(Aggregate::try_new(input, group_expr, aggr_expr)?);
            let some = LogicalPlan::Filter(Filter::try_new(col(ROWS).gt(lit(0_i64)), Arc::new(counted))?);
            Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(some))?)))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// Whether some of its sets are empty and others are not, and nobody counts their rows yet.
fn has_total(aggregate: &Aggregate) -> Result<bool> {
    let [Expr::GroupingSet(sets)] = aggregate.group_expr.as_slice() else { return Ok(false) };
    let counted = |expr: &Expr| matches!(expr, Expr::Alias(alias) if alias.name == ROWS);
    let sets = sets_of(sets)?;
    let empty = sets.iter().filter(|set| set.is_empty()).count();
    Ok(empty > 0 && empty < sets.len() && !aggregate.aggr_expr.iter().any(counted))
}
