//! `GROUP BY` sliding windows over a stream, in APPEND.
//!
//! State: key = the pane and the other grouping columns, value = DataFusion's partial state of each aggregate. Written once
//! per epoch for the keys its input has, forgotten when the watermark reaches the end of the last window that has the
//! pane. The input is the epoch's partial states by pane, in one partition. The output is partial states by window, of the windows
//! that end with this epoch (behind the watermark of the epoch before, by which rows are late): a row for each of their
//! panes, read in the order of time and held one time at once. An aggregation above puts them together.

use std::fmt;
use std::sync::{Arc, PoisonError};

use alluvium_planner::node::Panes;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::{Result as DfResult, internal_err};
use datafusion::error::DataFusionError;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use futures::{Stream, StreamExt, TryStreamExt};

use super::exec::{Operator, OperatorExec, Rows, Run, Shape};
use super::merge::{Aggregates, Merge};
use super::panes::WindowsOf;
use super::plan::StagedCell;
use crate::clock::EpochWatermark;
use crate::state::StateTable;

/// Merges an epoch's panes into stored ones and gives the panes of windows that end; see the module.
struct StreamPanes {
    aggregates: Aggregates,
    table: Arc<StateTable>,
    /// Key and state columns.
    state_schema: SchemaRef,
    panes: Panes,
    epoch: u64,
    watermark: EpochWatermark,
    staged: StagedCell,
}

/// Windows made of `partial`, which has panes: the operator with state, and the aggregation above it.
pub(super) fn windows_of_panes(
    partial: Arc<AggregateExec>,
    table: Arc<StateTable>,
    panes: Panes,
    (epoch, watermark): (u64, EpochWatermark),
    staged: StagedCell,
) -> DfResult<Arc<dyn ExecutionPlan>> {
    let keys = partial.group_expr().expr().len();
    let aggregates = Aggregates::try_new(partial.aggr_expr().to_vec(), keys)?;
    let state_schema = partial.schema();
    table.bind_timed(&state_schema, keys, Some(panes.key))?;
    let (groups, functions) = (partial.group_expr().as_final(), partial.aggr_expr().to_vec());
    let (filters, schema) = (vec![None; functions.len()], partial.input_schema());
    let operator =
        StreamPanes { aggregates, table, state_schema: state_schema.clone(), panes, epoch, watermark, staged };
    let exec = OperatorExec::new(operator, partial, state_schema, Shape::Concludes(1));
    Ok(Arc::new(AggregateExec::try_new(AggregateMode::Final, groups, functions, filters, exec, schema)?))
}

impl StreamPanes {
    /// Reads the input to its end and stages the new state.
    async fn merge(&self, run: &Run) -> DfResult<Option<PanesOfWindows>> {
        let mut merge = Merge::begin(self.aggregates.clone(), self.table.clone(), self.state_schema.clone())?;
        let _held = run
            .read_all("StreamPane", |batch| {
                merge.push(batch)?;
                Ok(merge.bytes())
            })
            .await?;
        let metrics = run.metrics();
        let timer = metrics.elapsed_compute().timer();
        let (staged, panes) = match self.watermark.until_us {
            None => (merge.finish(self.epoch)?, None),
            Some(until_us) => {
                let (staged, rows, run) = merge.finish_keeping(self.epoch, self.panes.key, until_us)?;
                let windows =
                    WindowsOf { panes: self.panes, after_us: self.watermark.late_us, until_us: Some(until_us) };
                let panes = windows.any().then(|| PanesOfWindows {
                    table: self.table.clone(),
                    windows,
                    run,
                    after: self.watermark.late_us,
                    waiting: vec![rows],
                });
                (staged, panes)
            }
        };
        *self.staged.lock().unwrap_or_else(PoisonError::into_inner) = Some(staged);
        timer.done();
        Ok(panes)
    }
}

/// Rows of windows, of one time's panes after the other.
fn results(panes: Option<PanesOfWindows>, run: &Run) -> impl Stream<Item = DfResult<RecordBatch>> + use<> {
    let metrics = run.metrics();
    let windows = panes.as_ref().map(|panes| panes.windows);
    let rows = futures::stream::iter(panes.into_iter().flatten()).map(move |rows| {
        let Some(windows) = windows else { return internal_err!("panes without windows") };
        let timer = metrics.elapsed_compute().timer();
        let batches = windows.rows(&rows?)?;
        timer.done();
        metrics.record_output(batches.iter().map(RecordBatch::num_rows).sum());
        Ok(futures::stream::iter(batches.into_iter().map(Ok)))
    });
    rows.try_flatten()
}

/// The panes of the windows that end, in batches. Nothing may be applied to the table while they are read.
struct PanesOfWindows {
    table: Arc<StateTable>,
    windows: WindowsOf,
    run: u32,
    /// Panes up to this time were read.
    after: Option<i64>,
    waiting: Vec<RecordBatch>,
}

impl Iterator for PanesOfWindows {
    type Item = DfResult<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(rows) = self.waiting.pop() {
                return Some(Ok(rows));
            }
            match self.table.next_in_time(self.after, self.windows.last_end_of_panes(), self.run) {
                Ok(Some((time, batches))) => {
                    self.after = Some(time);
                    self.waiting = batches;
                }
                Ok(None) => return None,
                Err(error) => return Some(Err(error.into())),
            }
        }
    }
}

impl Operator for StreamPanes {
    fn name(&self) -> &'static str {
        "StreamPaneExec"
    }

    fn describe(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "operator={}", self.table.operator())
    }

    fn needs_every_row(&self) -> bool {
        true
    }

    fn run(self: Arc<Self>, run: Run) -> DfResult<Rows> {
        let results =
            futures::stream::once(async move { Ok::<_, DataFusionError>(results(self.merge(&run).await?, &run)) });
        Ok(results.try_flatten().boxed())
    }
}
