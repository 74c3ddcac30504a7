//! `GROUP BY session_window(ts, gap)` over a stream.
//!
//! State: key = the grouping columns with the session's bounds, value = DataFusion's partial state of each aggregate, one
//! row for each session that can still grow; and beside it, key = the grouping columns without the session, value = the
//! bounds of the key's sessions in order ([`super::session_merge`]). Both are written for the keys an epoch's rows have
//! and for those whose sessions end; in APPEND a session is forgotten when the watermark reaches its end, which comes out
//! then, once. In COMPLETE nothing is forgotten and every session comes out. The input is the epoch's partial states, each
//! with the session that its rows would make alone, in one partition.

use std::fmt;
use std::sync::{Arc, PoisonError};

use alluvium_parser::OutputMode;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result as DfResult, internal_err};
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

use super::merge::Aggregates;
use super::plan::StagedCell;
use super::session_merge::{SessionMerge, SessionTables, Sessions};
use crate::clock::EpochWatermark;
use crate::state::StateScan;

/// Merges an epoch's sessions into stored ones and gives results; see the module.
#[derive(Clone)]
pub struct StreamSessionExec {
    input: Arc<dyn ExecutionPlan>,
    aggregates: Aggregates,
    tables: SessionTables,
    sessions: Sessions,
    mode: OutputMode,
    epoch: u64,
    watermark: EpochWatermark,
    /// Of the sessions, and of the keys' bounds.
    staged: (StagedCell, StagedCell),
    metrics: ExecutionPlanMetricsSet,
    properties: Arc<PlanProperties>,
}

impl StreamSessionExec {
    /// Above `partial`, whose key column `session` has the sessions of rows. `schema`: of the output.
    pub(super) fn try_new(
        partial: Arc<AggregateExec>,
        tables: SessionTables,
        schema: SchemaRef,
        (mode, session): (OutputMode, usize),
        (epoch, watermark): (u64, EpochWatermark),
        staged: (StagedCell, StagedCell),
    ) -> DfResult<StreamSessionExec> {
        let keys = partial.group_expr().expr().len();
        let aggregates = Aggregates::try_new(partial.aggr_expr().to_vec(), keys)?;
        let state_schema = partial.schema();
        // COMPLETE never lets a session go, so its state need not be in the order of time.
        tables.sessions.bind_timed(&state_schema, keys, Some(session).filter(|_| mode == OutputMode::Append))?;
        let mut fields = Vec::with_capacity(keys);
        for (at, field) in state_schema.fields().iter().take(keys).enumerate() {
            if at != session {
                fields.push(field.as_ref().clone());
            }
        }
        fields.push(Field::new("sessions", DataType::new_list(DataType::Int64, true), true));
        tables.keys.bind(&Schema::new(fields), keys - 1)?;
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Ok(StreamSessionExec {
            input: partial,
            aggregates,
            tables,
            sessions: Sessions { schema: state_schema, keys, at: session },
            mode,
            epoch,
            watermark,
            staged,
            metrics: ExecutionPlanMetricsSet::new(),
            properties: Arc::new(properties),
        })
    }

    /// Reads the input to its end and stages the new state.
    async fn merge(&self, context: Arc<TaskContext>) -> DfResult<StateScan> {
        let metrics = BaselineMetrics::new(&self.metrics, 0);
        let reservation = MemoryConsumer::new("StreamSession").register(context.memory_pool());
        let mut merge = SessionMerge::new(self.aggregates.clone(), self.sessions.clone());
        let mut input = self.input.execute(0, context)?;
        while let Some(batch) = input.next().await {
            let batch = batch?;
            let timer = metrics.elapsed_compute().timer();
            merge.push(&batch)?;
            reservation.try_resize(merge.bytes())?;
            timer.done();
        }
        let timer = metrics.elapsed_compute().timer();
        let until_us = match self.mode {
            OutputMode::Append => self.watermark.until_us,
            OutputMode::Complete => None,
            OutputMode::Update => return internal_err!("sessions are not replaced row by row"),
        };
        let merged = merge.finish(&self.tables, self.epoch, until_us)?;
        reservation.try_resize(merged.done.iter().map(RecordBatch::get_array_memory_size).sum())?;
        let results = match self.mode {
            OutputMode::Complete => self.tables.sessions.scan(Some(&merged.sessions))?,
            _ => StateScan::of(merged.done),
        };
        *self.staged.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(merged.sessions);
        *self.staged.1.lock().unwrap_or_else(PoisonError::into_inner) = Some(merged.keys);
        timer.done();
        Ok(results)
    }

    /// Results of the state, a batch at a time.
    fn results(self: Arc<Self>, scan: StateScan) -> impl Stream<Item = DfResult<RecordBatch>> {
        let metrics = BaselineMetrics::new(&self.metrics, 0);
        let schema = self.schema();
        futures::stream::iter(scan).map(move |rows| {
            let timer = metrics.elapsed_compute().timer();
            let results = self.aggregates.evaluate(&rows?, &schema)?;
            timer.done();
            metrics.record_output(results.num_rows());
            Ok(results)
        })
    }
}

impl ExecutionPlan for StreamSessionExec {
    fn name(&self) -> &str {
        "StreamSessionExec"
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
            (Some(input), true) => Ok(Arc::new(StreamSessionExec { input, ..(*self).clone() })),
            _ => internal_err!("StreamSessionExec has one input"),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        let recompute = datafusion::physical_plan::execution_plan::ChildrenPropertiesMode::Recompute;
        self.replace_children(children, ReplaceChildrenOptions::new(recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("StreamSessionExec has no partition {partition}");
        }
        let this = Arc::new(self.clone());
        let results = futures::stream::once(async move {
            let scan = this.merge(context).await?;
            Ok::<_, datafusion::error::DataFusionError>(this.results(scan))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), results.try_flatten())))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

impl DisplayAs for StreamSessionExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "StreamSessionExec: operator={}, mode={:?}", self.tables.sessions.operator(), self.mode)
    }
}

impl fmt::Debug for StreamSessionExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamSessionExec")
            .field("operator", &self.tables.sessions.operator())
            .field("input", &self.input)
            .finish()
    }
}
