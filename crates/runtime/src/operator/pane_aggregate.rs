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
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result as DfResult, internal_err};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, InputDistributionRequirements, Partitioning,
    PlanProperties,
};
use futures::{Stream, StreamExt, TryStreamExt};

use super::merge::{Aggregates, Merge};
use super::panes::WindowsOf;
use super::plan::StagedCell;
use crate::clock::EpochWatermark;
use crate::state::StateTable;

/// Merges an epoch's panes into stored ones and gives the panes of windows that end; see the module.
#[derive(Clone)]
pub struct StreamPaneExec {
    input: Arc<dyn ExecutionPlan>,
    aggregates: Aggregates,
    table: Arc<StateTable>,
    panes: Panes,
    epoch: u64,
    watermark: EpochWatermark,
    staged: StagedCell,
    metrics: ExecutionPlanMetricsSet,
    properties: Arc<PlanProperties>,
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
    table.bind_timed(&partial.schema(), keys, Some(panes.key))?;
    let properties = PlanProperties::new(
        EquivalenceProperties::new(partial.schema()),
        Partitioning::UnknownPartitioning(1),
        EmissionType::Final,
        Boundedness::Bounded,
    );
    let (groups, functions) = (partial.group_expr().as_final(), partial.aggr_expr().to_vec());
    let (filters, schema) = (vec![None; functions.len()], partial.input_schema());
    let exec = StreamPaneExec {
        input: partial,
        aggregates,
        table,
        panes,
        epoch,
        watermark,
        staged,
        metrics: ExecutionPlanMetricsSet::new(),
        properties: Arc::new(properties),
    };
    Ok(Arc::new(AggregateExec::try_new(AggregateMode::Final, groups, functions, filters, Arc::new(exec), schema)?))
}

impl StreamPaneExec {
    /// Reads the input to its end and stages the new state.
    async fn merge(&self, context: Arc<TaskContext>) -> DfResult<Option<PanesOfWindows>> {
        let metrics = BaselineMetrics::new(&self.metrics, 0);
        let reservation = MemoryConsumer::new("StreamPane").register(context.memory_pool());
        let mut merge = Merge::begin(self.aggregates.clone(), self.table.clone(), self.schema())?;
        let mut input = self.input.execute(0, context)?;
        while let Some(batch) = input.next().await {
            let batch = batch?;
            let timer = metrics.elapsed_compute().timer();
            merge.push(batch)?;
            reservation.try_resize(merge.bytes())?;
            timer.done();
        }
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

    /// Rows of windows, of one time's panes after the other.
    fn results(self: Arc<Self>, panes: Option<PanesOfWindows>) -> impl Stream<Item = DfResult<RecordBatch>> {
        let metrics = BaselineMetrics::new(&self.metrics, 0);
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

impl ExecutionPlan for StreamPaneExec {
    fn name(&self) -> &str {
        "StreamPaneExec"
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
            (Some(input), true) => Ok(Arc::new(StreamPaneExec { input, ..(*self).clone() })),
            _ => internal_err!("StreamPaneExec has one input"),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        let recompute = datafusion::physical_plan::execution_plan::ChildrenPropertiesMode::Recompute;
        self.replace_children(children, ReplaceChildrenOptions::new(recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("StreamPaneExec has no partition {partition}");
        }
        let this = Arc::new(self.clone());
        let results = futures::stream::once(async move {
            let panes = this.merge(context).await?;
            Ok::<_, datafusion::error::DataFusionError>(this.results(panes))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), results.try_flatten())))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

impl DisplayAs for StreamPaneExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "StreamPaneExec: operator={}", self.table.operator())
    }
}

impl fmt::Debug for StreamPaneExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamPaneExec").field("operator", &self.table.operator()).field("input", &self.input).finish()
    }
}
