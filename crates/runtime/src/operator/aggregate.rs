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
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result as DfResult, internal_err};
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, InputDistributionRequirements, Partitioning,
    PlanProperties,
};
use futures::{Stream, StreamExt, TryStreamExt};
use tokio::sync::OnceCell;

use super::merge::{Aggregates, Merge};
use super::plan::{StagedCell, TouchedCell};
use super::results::Results;
use crate::clock::EpochWatermark;
use crate::state::{StateScan, StateTable};

/// What all partitions learn of the merge.
type Merged = Result<Arc<Mutex<StateScan>>, Arc<DataFusionError>>;

/// Merges an epoch's partial states into stored state and gives results; see the module.
#[derive(Clone)]
pub struct StreamAggregateExec {
    input: Arc<dyn ExecutionPlan>,
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
    merged: Arc<OnceCell<Merged>>,
    /// Where the keys that the epoch touched are told, when only their results come out.
    touched: Option<TouchedCell>,
    metrics: ExecutionPlanMetricsSet,
    properties: Arc<PlanProperties>,
}

impl StreamAggregateExec {
    /// Above `input`, which has the columns of `partial`; they are pinned as those of `table`. `schema`: of the output,
    /// which has `partitions` where it may be large. `touched`: given where only results of touched keys are
    /// wanted; always in UPDATE mode.
    pub(super) fn try_new(
        (input, partial): (Arc<dyn ExecutionPlan>, &AggregateExec),
        table: Arc<StateTable>,
        (schema, partitions): (SchemaRef, usize),
        (mode, time): (OutputMode, Option<usize>),
        (epoch, watermark): (u64, EpochWatermark),
        (staged, touched): (StagedCell, Option<TouchedCell>),
    ) -> DfResult<StreamAggregateExec> {
        let keys = partial.group_expr().expr().len();
        let aggregates = Aggregates::try_new(partial.aggr_expr().to_vec(), keys)?;
        let state_schema = partial.schema();
        // COMPLETE never lets a group go, so its state need not be in the order of time.
        table.bind_timed(&state_schema, keys, time.filter(|_| mode != OutputMode::Complete))?;
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(if mode == OutputMode::Complete && keys > 0 { partitions } else { 1 }),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Ok(StreamAggregateExec {
            input,
            aggregates,
            table,
            state_schema,
            mode,
            time,
            epoch,
            watermark,
            staged,
            merged: Arc::default(),
            touched,
            metrics: ExecutionPlanMetricsSet::new(),
            properties: Arc::new(properties),
        })
    }

    /// Its number.
    pub(super) fn operator(&self) -> u32 {
        self.table.operator()
    }

    /// How its state becomes what it gives.
    pub(super) fn results_of_state(&self) -> Results {
        Results { aggregates: self.aggregates.clone(), schema: self.schema() }
    }

    /// Reads the input to its end and stages the new state.
    async fn merge(&self, context: Arc<TaskContext>) -> DfResult<StateScan> {
        let metrics = BaselineMetrics::new(&self.metrics, 0);
        let reservation = MemoryConsumer::new("StreamAggregate").register(context.memory_pool());
        let mut merge = Merge::begin(self.aggregates.clone(), self.table.clone(), self.state_schema.clone())?;
        let mut input = self.input.execute(0, context)?;
        while let Some(batch) = input.next().await {
            let batch = batch?;
            let timer = metrics.elapsed_compute().timer();
            merge.push(batch)?;
            reservation.try_resize(merge.bytes())?;
            timer.done();
        }
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

    /// Results of the state, a batch at a time.
    fn results(self: Arc<Self>, scan: Arc<Mutex<StateScan>>) -> impl Stream<Item = DfResult<RecordBatch>> {
        let metrics = BaselineMetrics::new(&self.metrics, 0);
        let schema = self.schema();
        let next = move || scan.lock().unwrap_or_else(PoisonError::into_inner).next();
        futures::stream::iter(std::iter::from_fn(next)).map(move |rows| {
            let timer = metrics.elapsed_compute().timer();
            let results = self.aggregates.evaluate(&rows?, &schema)?;
            timer.done();
            metrics.record_output(results.num_rows());
            Ok(results)
        })
    }
}

impl ExecutionPlan for StreamAggregateExec {
    fn name(&self) -> &str {
        "StreamAggregateExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![Distribution::SinglePartition])
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => {
                Ok(Arc::new(StreamAggregateExec { input, merged: Arc::default(), ..(*self).clone() }))
            }
            _ => internal_err!("StreamAggregateExec has one input"),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        let recompute = datafusion::physical_plan::execution_plan::ChildrenPropertiesMode::Recompute;
        self.replace_children(children, ReplaceChildrenOptions::new(recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        if partition >= self.properties.partitioning.partition_count() {
            return internal_err!("StreamAggregateExec has no partition {partition}");
        }
        let this = Arc::new(self.clone());
        let results = futures::stream::once(async move {
            let merge = || async {
                match this.merge(context).await {
                    Ok(scan) => Ok(Arc::new(Mutex::new(scan))),
                    Err(error) => Err(Arc::new(error)),
                }
            };
            match this.merged.get_or_init(merge).await {
                Ok(scan) => Ok(this.clone().results(scan.clone())),
                Err(error) => Err(DataFusionError::Shared(error.clone())),
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), results.try_flatten())))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

impl DisplayAs for StreamAggregateExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "StreamAggregateExec: operator={}, mode={:?}", self.table.operator(), self.mode)
    }
}

impl fmt::Debug for StreamAggregateExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamAggregateExec")
            .field("operator", &self.table.operator())
            .field("input", &self.input)
            .finish()
    }
}
