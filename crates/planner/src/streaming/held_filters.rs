//! Conditions without columns stay above operators with state.
//!
//! DataFusion moves a condition below a node of ours unless it names one of its columns. `HAVING current_timestamp() > …`
//! names none, and below the aggregate it would keep rows from it instead of results.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::{ApplyOrder, Optimizer, OptimizerConfig, OptimizerRule};

use super::kept_operators;

/// The optimizer, with this care taken, and that of `kept_operators.rs`.
pub(super) fn careful(optimizer: &Optimizer) -> Optimizer {
    let rule = |rule: &Arc<dyn OptimizerRule + Send + Sync>| match rule.name() {
        "push_down_filter" => Arc::new(HeldFilters(PushDownFilter::new())) as Arc<dyn OptimizerRule + Send + Sync>,
        _ => kept_operators::kept(rule),
    };
    Optimizer { rules: optimizer.rules.iter().map(rule).collect() }
}

#[derive(Debug)]
struct HeldFilters(PushDownFilter);

impl OptimizerRule for HeldFilters {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if let LogicalPlan::Filter(filter) = &plan
            && matches!(filter.input.as_ref(), LogicalPlan::Extension(_))
            && split_conjunction(&filter.predicate).iter().any(|part| part.column_refs().is_empty())
        {
            // Others of its parts name columns of the node, and would stay as well.
            return Ok(Transformed::no(plan));
        }
        self.0.rewrite(plan, config)
    }
}
