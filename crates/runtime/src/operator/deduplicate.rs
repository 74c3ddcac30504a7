//! `DEDUPLICATE BY` and `SELECT DISTINCT` over a stream.
//!
//! State: that of [`super::first_keys`]. A row goes on when its key has none. The output keeps the input's columns.

use std::fmt;
use std::sync::{Arc, PoisonError};

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result as DfResult, internal_err};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, InputDistributionRequirements, Partitioning,
    PlanProperties,
};
use futures::StreamExt;

use super::first_keys::{FirstKeys, Remembered};
use super::plan::StagedCell;
use super::watermark::in_microseconds;
use crate::clock::EpochWatermark;
use crate::state::StateTable;

/// See the module.
#[derive(Clone)]
pub struct StreamDeduplicateExec {
    input: Arc<dyn ExecutionPlan>,
    on: Vec<Arc<dyn PhysicalExpr>>,
    remembered: Remembered,
    table: Arc<StateTable>,
    epoch: u64,
    watermark: EpochWatermark,
    staged: StagedCell,
    properties: Arc<PlanProperties>,
}

impl StreamDeduplicateExec {
    /// Over `input`; each key comes with the name under which it is stored.
    pub(super) fn try_new(
        input: Arc<dyn ExecutionPlan>,
        on: Vec<(Arc<dyn PhysicalExpr>, String)>,
        remembered: Remembered,
        table: Arc<StateTable>,
        (epoch, watermark): (u64, EpochWatermark),
        staged: StagedCell,
    ) -> DfResult<Self> {
        let schema = input.schema();
        let stored = on.iter().map(|(key, name)| Ok((name.clone(), key.data_type(&schema)?)));
        remembered.bind(&table, stored.collect::<DfResult<_>>()?)?;
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let on = on.into_iter().map(|(key, _)| key).collect();
        Ok(StreamDeduplicateExec {
            input,
            on,
            remembered,
            table,
            epoch,
            watermark,
            staged,
            properties: Arc::new(properties),
        })
    }
}

impl StreamDeduplicateExec {
    /// The rows of a batch whose key comes for the first time.
    fn first_rows(&self, run: &mut FirstKeys, batch: &RecordBatch) -> DfResult<RecordBatch> {
        let rows = batch.num_rows();
        let evaluate = |expr: &Arc<dyn PhysicalExpr>| expr.evaluate(batch)?.into_array(rows);
        let keys = self.on.iter().map(evaluate).collect::<DfResult<Vec<_>>>()?;
        let first = run.first_of(&keys, rows)?;
        if let Remembered::Within(time, delay_us) = &self.remembered {
            run.note_times(&in_microseconds(evaluate(time)?)?, *delay_us)?;
        }
        Ok(take_record_batch(batch, &UInt32Array::from(first))?)
    }
}

impl ExecutionPlan for StreamDeduplicateExec {
    fn name(&self) -> &str {
        "StreamDeduplicateExec"
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
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        for key in &self.on {
            if f(key)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        match &self.remembered {
            Remembered::Within(time, _) => f(time),
            Remembered::ForEver | Remembered::UntilPassed(_) => Ok(TreeNodeRecursion::Continue),
        }
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(StreamDeduplicateExec { input, ..(*self).clone() })),
            _ => internal_err!("StreamDeduplicateExec has one input"),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        let recompute = datafusion::physical_plan::execution_plan::ChildrenPropertiesMode::Recompute;
        self.replace_children(children, ReplaceChildrenOptions::new(recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("StreamDeduplicateExec has no partition {partition}");
        }
        let reservation = MemoryConsumer::new("StreamDeduplicate").register(context.memory_pool());
        let input = self.input.execute(0, context)?;
        let begun = (FirstKeys::begin(self.table.clone())?, input, reservation, self.clone());
        let rows = futures::stream::try_unfold(Some(begun), |state| async move {
            let Some((mut run, mut input, reservation, exec)) = state else { return Ok(None) };
            match input.next().await {
                Some(batch) => {
                    let first = exec.first_rows(&mut run, &batch?)?;
                    reservation.try_resize(run.bytes())?;
                    Ok(Some((first, Some((run, input, reservation, exec)))))
                }
                None => {
                    let staged = run.finish(&exec.remembered, exec.epoch, exec.watermark)?;
                    *exec.staged.lock().unwrap_or_else(PoisonError::into_inner) = Some(staged);
                    Ok(None)
                }
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}

impl DisplayAs for StreamDeduplicateExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "StreamDeduplicateExec: operator={}", self.table.operator())
    }
}

impl fmt::Debug for StreamDeduplicateExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamDeduplicateExec")
            .field("operator", &self.table.operator())
            .field("input", &self.input)
            .finish()
    }
}
