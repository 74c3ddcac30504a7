//! Physical forms of the stateful operators.
//!
//! A [`StreamExtensionPlanner`] lives for one run of one epoch: it plans the stateful nodes of the query on their
//! state, and afterwards has what they staged. Nothing here writes to the store; whether the run counts is decided by
//! the epoch, which commits what was staged or drops it.

mod aggregate;
mod deduplicate;
mod exec;
mod expand;
mod first_keys;
mod join;
mod join_sides;
mod late;
mod limit;
mod mark;
mod merge;
mod pane_aggregate;
mod panes;
mod plan;
mod results;
mod session;
mod session_merge;
#[cfg(test)]
mod tests;
mod unordered_sets;
mod watermark;

pub use late::KeptRows;
pub use limit::rows_let_through;
pub use plan::StreamExtensionPlanner;
pub use results::{Results, results_of};

use std::sync::Arc;

use datafusion::execution::SessionState;
use datafusion::physical_optimizer::PhysicalOptimizerRule;

/// The physical optimizer's rules, with ours in their places.
pub fn physical_rules(state: &SessionState) -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = join_sides::with_join_sides(state);
    rules.insert(0, Arc::new(unordered_sets::UnorderedSets));
    rules
}
