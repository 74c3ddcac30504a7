//! The side of a join that holds state is read first, and so to its end.
//!
//! A join whose first side turns out empty never asks its second one. An operator with state would then not take in
//! the epoch's rows, and a watermark not see their times. DataFusion chooses the sides by size; this rule, right behind
//! that choice, puts the side with the operator first. Knows nothing of what the operators do.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::execution::SessionState;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec};

use super::exec::OperatorExec;
use super::join::StreamJoinExec;

/// DataFusion's rule that chooses the sides.
const JOIN_SELECTION: &str = "join_selection";

/// The physical optimizer's rules, with this one in its place.
pub(super) fn with_join_sides(state: &SessionState) -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = state.physical_optimizers().to_vec();
    let at = rules.iter().position(|rule| rule.name() == JOIN_SELECTION).map_or(0, |at| at + 1);
    rules.insert(at, Arc::new(StateFirst));
    rules
}

/// The rule.
#[derive(Debug)]
struct StateFirst;

impl PhysicalOptimizerRule for StateFirst {
    fn name(&self) -> &str {
        "state_first"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| match swapped(&node)? {
            Some(join) => Ok(Transformed::yes(join)),
            None => Ok(Transformed::no(node)),
        })
        .map(|transformed| transformed.data)
    }
}

/// A join with its sides exchanged, if only its second side holds state.
fn swapped(node: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let second = |left, right| !holds_state(left) && holds_state(right);
    if let Some(join) = node.downcast_ref::<HashJoinExec>() {
        let may = join.join_type().supports_swap() && !join.null_aware;
        return match may && second(join.left(), join.right()) {
            true => join.swap_inputs(*join.partition_mode()).map(Some),
            false => Ok(None),
        };
    }
    if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
        return match join.join_type().supports_swap() && second(join.left(), join.right()) {
            true => join.swap_inputs().map(Some),
            false => Ok(None),
        };
    }
    match node.downcast_ref::<CrossJoinExec>() {
        Some(join) if second(join.left(), join.right()) => join.swap_inputs().map(Some),
        _ => Ok(None),
    }
}

fn holds_state(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let here = plan.downcast_ref::<OperatorExec>().is_some_and(|exec| exec.operator().needs_every_row())
        || plan.downcast_ref::<StreamJoinExec>().is_some();
    here || plan.children().into_iter().any(holds_state)
}
