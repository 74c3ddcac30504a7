//! What the state of an aggregate says: as an epoch's output, and without an epoch for statements that look at state.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::Result as DfResult;
use datafusion::physical_plan::ExecutionPlan;
use futures::{Stream, StreamExt};

use super::exec::{OperatorExec, Run};
use super::merge::Aggregates;
use crate::error::Result;

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
    let results = plan.downcast_ref::<OperatorExec>().and_then(|exec| exec.operator().results(&exec.schema()));
    found.extend(results);
    plan.children().into_iter().for_each(|child| collect(child, found));
}

/// Results of rows of state, a batch at a time.
pub(super) fn evaluated<S: Iterator<Item = Result<RecordBatch>>>(
    aggregates: Aggregates,
    state: S,
    run: &Run,
) -> impl Stream<Item = DfResult<RecordBatch>> + use<S> {
    let (metrics, schema) = (run.metrics(), run.schema.clone());
    futures::stream::iter(state).map(move |rows| {
        let timer = metrics.elapsed_compute().timer();
        let results = aggregates.evaluate(&rows?, &schema)?;
        timer.done();
        metrics.record_output(results.num_rows());
        Ok(results)
    })
}
