//! `GROUP BY` over a stream.
//!
//! State: key = the grouping columns, value = DataFusion's partial state of each aggregate. Written once per epoch for
//! the keys its input has; in APPEND and UPDATE forgotten when the watermark reaches the key's event time, never
//! otherwise. The input is the epoch's partial states, in one partition; the output is the result of every key (COMPLETE),
//! of the touched ones (UPDATE, and COMPLETE into a sink that takes changes), or of those that the watermark has reached
//! (APPEND), each of which comes out once. Results are made a batch at a time from the state, whose keys are distinct
//! already, so the output needs no hash table and no memory that grows with it. In COMPLETE the
//! partitions of the output share one scan, so that results are made and written side by side.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use alluvium_parser::OutputMode;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::Result as DfResult;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::OnceCell;

use super::exec::{Operator, OperatorExec, Rows, Run, Shape};
use super::merge::{Aggregates, Merge};
use super::plan::{StagedCell, TouchedCell};
use super::results::{Results, evaluated};
use crate::clock::EpochWatermark;
use crate::state::{StateScan, StateTable};

/// What all partitions learn of the merge.
type Merged = Result<Arc<Mutex<StateScan>>, Arc<DataFusionError>>;

/// Merges an epoch's partial states into stored state and gives results; see the module.
pub(super) struct StreamAggregate {
    aggregates: Aggregates,
    table: Arc<StateTable>,
    /// Key and state columns.
    state_schema: SchemaRef,
    mode: OutputMode,
    /// The key column that tells when a key is final.
    time: Option<usize>,
    epoch: u64,
    watermark: EpochWatermark,
    staged: StagedCell,
    /// The scan that the partitions of the output share, once the input is merged.
    merged: OnceCell<Merged>,
    /// Where the keys that the epoch touched are told, when only their results come out.
    touched: Option<TouchedCell>,
}

impl StreamAggregate {
    /// Above `input`, which has the columns of `partial`; they are pinned as those of `table`. `schema`: of the output,
    /// which has `partitions` where it may be large. `touched`: given where only results of touched keys are
    /// wanted; always in UPDATE mode.
    pub(super) fn plan(
        (input, partial): (Arc<dyn ExecutionPlan>, &AggregateExec),
        table: Arc<StateTable>,
        (schema, partitions): (SchemaRef, usize),
        (mode, time): (OutputMode, Option<usize>),
        (epoch, watermark): (u64, EpochWatermark),
        (staged, touched): (StagedCell, Option<TouchedCell>),
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let keys = partial.group_expr().expr().len();
        let aggregates = Aggregates::try_new(partial.aggr_expr().to_vec(), keys)?;
        let state_schema = partial.schema();
        // COMPLETE never lets a group go, so its state need not be in the order of time.
        table.bind_timed(&state_schema, keys, time.filter(|_| mode != OutputMode::Complete))?;
        let partitions = if mode == OutputMode::Complete && keys > 0 { partitions } else { 1 };
        let merged = OnceCell::new();
        let operator =
            StreamAggregate { aggregates, table, state_schema, mode, time, epoch, watermark, staged, merged, touched };
        Ok(OperatorExec::new(operator, input, schema, Shape::Concludes(partitions)))
    }

    /// Reads the input to its end and stages the new state.
    async fn merge(&self, run: &Run) -> DfResult<StateScan> {
        let mut merge = Merge::begin(self.aggregates.clone(), self.table.clone(), self.state_schema.clone())?;
        let reservation = run
            .read_all("StreamAggregate", |batch| {
                merge.push(batch)?;
                Ok(merge.bytes())
            })
            .await?;
        let metrics = run.metrics();
        let timer = metrics.elapsed_compute().timer();
        let (staged, results) = match (self.mode, self.time, self.watermark.until_us) {
            (OutputMode::Complete, ..) if self.touched.is_none() => {
                let staged = merge.finish(self.epoch)?;
                let results = self.table.scan(Some(&staged))?;
                (staged, results)
            }
            (OutputMode::Append, Some(time), Some(until_us)) => {
                let (staged, done) = merge.finish_until(self.epoch, time, until_us)?;
                reservation.try_resize(done.iter().map(RecordBatch::get_array_memory_size).sum())?;
                (staged, StateScan::of(done))
            }
            (OutputMode::Append, ..) => (merge.finish(self.epoch)?, StateScan::of(Vec::new())),
            (OutputMode::Update, Some(time), Some(until_us)) => {
                let (staged, touched, _) = merge.finish_keeping(self.epoch, time, until_us)?;
                reservation.try_resize(touched.get_array_memory_size())?;
                self.tell_touched(&touched, Some(until_us))?;
                (staged, StateScan::of(vec![touched]))
            }
            (OutputMode::Update | OutputMode::Complete, ..) => {
                let staged = merge.finish(self.epoch)?;
                self.tell_touched(staged.rows(), None)?;
                let results = StateScan::of(vec![staged.rows().clone()]);
                (staged, results)
            }
        };
        staged.encode_beside();
        *self.staged.lock().unwrap_or_else(PoisonError::into_inner) = Some(staged);
        timer.done();
        Ok(results)
    }

    /// `rows`: of state, one for each key that was touched. Keys up to the instant `until_us` are done with.
    fn tell_touched(&self, rows: &RecordBatch, until_us: Option<i64>) -> DfResult<()> {
        if let Some(cell) = &self.touched {
            let keys: Vec<usize> = (0..self.aggregates.keys).collect();
            *cell.lock().unwrap_or_else(PoisonError::into_inner) = Some((rows.project(&keys)?, until_us));
        }
        Ok(())
    }
}

/// A scan that several partitions take turns at.
struct Shared(Arc<Mutex<StateScan>>);

impl Iterator for Shared {
    type Item = <StateScan as Iterator>::Item;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next()
    }
}

impl Operator for StreamAggregate {
    fn name(&self) -> &'static str {
        "StreamAggregateExec"
    }

    fn describe(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "operator={}, mode={:?}", self.table.operator(), self.mode)
    }

    fn needs_every_row(&self) -> bool {
        true
    }

    fn results(&self, schema: &SchemaRef) -> Option<(u32, Results)> {
        let results = Results { aggregates: self.aggregates.clone(), schema: schema.clone() };
        Some((self.table.operator(), results))
    }

    fn run(self: Arc<Self>, run: Run) -> DfResult<Rows> {
        let results = futures::stream::once(async move {
            let merge = || async {
                match self.merge(&run).await {
                    Ok(scan) => Ok(Arc::new(Mutex::new(scan))),
                    Err(error) => Err(Arc::new(error)),
                }
            };
            match self.merged.get_or_init(merge).await {
                Ok(scan) => Ok(evaluated(self.aggregates.clone(), Shared(scan.clone()), &run)),
                Err(error) => Err(DataFusionError::Shared(error.clone())),
            }
        });
        Ok(results.try_flatten().boxed())
    }
}
