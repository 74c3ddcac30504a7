//! `DISTINCT` inside an aggregate over a stream: marks the first row of each grouping key and value.
//!
//! State: that of [`super::first_keys`], a key per value of a group; it is forgotten with the group. Every row goes on,
//! with a Boolean column behind its own. Rows that the aggregate's FILTER leaves out are not marked and not remembered.

use std::fmt;
use std::sync::{Arc, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, prep_null_mask_filter};
use arrow::datatypes::SchemaRef;
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
use crate::clock::EpochWatermark;
use crate::state::StateTable;

/// See the module.
#[derive(Clone)]
pub struct StreamMarkExec {
    input: Arc<dyn ExecutionPlan>,
    on: Vec<Arc<dyn PhysicalExpr>>,
    condition: Option<Arc<dyn PhysicalExpr>>,
    remembered: Remembered,
    table: Arc<StateTable>,
    epoch: u64,
    watermark: EpochWatermark,
    staged: StagedCell,
    properties: Arc<PlanProperties>,
}

impl StreamMarkExec {
    /// Over `input`; each key comes with the name under which it is stored. `schema`: the input's and the mark.
    pub(super) fn try_new(
        input: Arc<dyn ExecutionPlan>,
        schema: SchemaRef,
        (on, condition): (Vec<(Arc<dyn PhysicalExpr>, String)>, Option<Arc<dyn PhysicalExpr>>),
        remembered: Remembered,
        table: Arc<StateTable>,
        (epoch, watermark): (u64, EpochWatermark),
        staged: StagedCell,
    ) -> DfResult<Self> {
        let below = input.schema();
        let stored = on.iter().map(|(key, name)| Ok((name.clone(), key.data_type(&below)?)));
        remembered.bind(&table, stored.collect::<DfResult<_>>()?)?;
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let on = on.into_iter().map(|(key, _)| key).collect();
        let properties = Arc::new(properties);
        Ok(StreamMarkExec { input, on, condition, remembered, table, epoch, watermark, staged, properties })
    }

    fn marked(&self, run: &mut FirstKeys, batch: &RecordBatch) -> DfResult<RecordBatch> {
        let rows = batch.num_rows();
        let mut mark = vec![false; rows];
        match &self.condition {
            None => {
                for row in self.first_of(run, batch)? {
                    mark[row as usize] = true;
                }
            }
            Some(condition) => {
                let condition = condition.evaluate(batch)?.into_array(rows)?;
                let condition = condition.as_boolean();
                let wanted = match condition.nulls() {
                    Some(_) => prep_null_mask_filter(condition),
                    None => condition.clone(),
                };
                let places: Vec<u32> = wanted.values().set_indices_u32().collect();
                let first = self.first_of(run, &filter_record_batch(batch, &wanted)?)?;
                first.into_iter().for_each(|row| mark[places[row as usize] as usize] = true);
            }
        }
        let mut columns = batch.columns().to_vec();
        columns.push(Arc::new(BooleanArray::from(mark)) as ArrayRef);
        Ok(RecordBatch::try_new(self.schema(), columns)?)
    }

    fn first_of(&self, run: &mut FirstKeys, batch: &RecordBatch) -> DfResult<Vec<u32>> {
        let rows = batch.num_rows();
        let keys = self.on.iter().map(|key| key.evaluate(batch)?.into_array(rows)).collect::<DfResult<Vec<_>>>()?;
        run.first_of(&keys, rows)
    }
}

impl ExecutionPlan for StreamMarkExec {
    fn name(&self) -> &str {
        "StreamMarkExec"
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
        for expr in self.on.iter().chain(&self.condition) {
            if f(expr)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(StreamMarkExec { input, ..(*self).clone() })),
            _ => internal_err!("StreamMarkExec has one input"),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        let recompute = datafusion::physical_plan::execution_plan::ChildrenPropertiesMode::Recompute;
        self.replace_children(children, ReplaceChildrenOptions::new(recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("StreamMarkExec has no partition {partition}");
        }
        let reservation = MemoryConsumer::new("StreamMark").register(context.memory_pool());
        let input = self.input.execute(0, context)?;
        let begun = (FirstKeys::begin(self.table.clone())?, input, reservation, self.clone());
        let rows = futures::stream::try_unfold(Some(begun), |state| async move {
            let Some((mut run, mut input, reservation, exec)) = state else { return Ok(None) };
            match input.next().await {
                Some(batch) => {
                    let marked = exec.marked(&mut run, &batch?)?;
                    reservation.try_resize(run.bytes())?;
                    Ok(Some((marked, Some((run, input, reservation, exec)))))
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

impl DisplayAs for StreamMarkExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "StreamMarkExec: operator={}", self.table.operator())
    }
}

impl fmt::Debug for StreamMarkExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamMarkExec").field("operator", &self.table.operator()).field("input", &self.input).finish()
    }
}
