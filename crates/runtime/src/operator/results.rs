//! What the state of an operator says, told without an epoch: for statements that look at state.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::Result as DfResult;
use datafusion::physical_plan::ExecutionPlan;

use super::StreamAggregateExec;
use super::merge::Aggregates;

/// Makes an aggregate's results of its state.
#[derive(Debug, Clone)]
pub struct Results {
    pub(super) aggregates: Aggregates,
    pub(super) schema: SchemaRef,
}

impl Results {
    /// Keys and results, one row per row of state.
    pub fn of(&self, state: &RecordBatch) -> DfResult<RecordBatch> {
        self.aggregates.evaluate(state, &self.schema)
    }

    /// Columns of that.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

/// Of each aggregate in a plan, by operator number.
pub fn results_of(plan: &Arc<dyn ExecutionPlan>) -> BTreeMap<u32, Results> {
    let mut found = BTreeMap::new();
    collect(plan, &mut found);
    found
}

fn collect(plan: &Arc<dyn ExecutionPlan>, found: &mut BTreeMap<u32, Results>) {
    if let Some(aggregate) = plan.downcast_ref::<StreamAggregateExec>() {
        found.insert(aggregate.operator(), aggregate.results_of_state());
    }
    plan.children().into_iter().for_each(|child| collect(child, found));
}
