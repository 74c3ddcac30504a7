//! `LIMIT` over a stream.
//!
//! State: one row without a key, how many rows went on so far. Written by each epoch that lets rows through; never
//! forgotten. Which rows of an epoch are the first is not said. The input is read to its end, whatever is let through:
//! operators below take in all of it, and so do the sources' positions.

use std::fmt;
use std::sync::{Arc, PoisonError};

use arrow::array::{Array, AsArray, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result as DfResult, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, InputDistributionRequirements, Partitioning,
    PlanProperties,
};
use futures::StreamExt;

use super::plan::StagedCell;
use crate::error::Result;
use crate::state::{StateTable, Touched};

/// Lets the first rows through; see the module.
#[derive(Clone)]
pub struct StreamLimitExec {
    input: Arc<dyn ExecutionPlan>,
    rows: u64,
    table: Arc<StateTable>,
    epoch: u64,
    staged: StagedCell,
    properties: Arc<PlanProperties>,
}

impl StreamLimitExec {
    /// Over `input`: `rows` of it.
    pub(super) fn try_new(
        input: Arc<dyn ExecutionPlan>,
        rows: u64,
        table: Arc<StateTable>,
        epoch: u64,
        staged: StagedCell,
    ) -> DfResult<StreamLimitExec> {
        table.bind(&Schema::new(vec![Field::new("rows", DataType::Int64, true)]), 0)?;
        let properties = PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(StreamLimitExec { input, rows, table, epoch, staged, properties: Arc::new(properties) })
    }
}

/// How many rows the LIMIT whose state this is let through by committed epochs.
pub fn rows_let_through(table: &StateTable) -> Result<u64> {
    for rows in table.scan(None)? {
        let rows = rows?;
        let count = rows.columns().first().and_then(|column| column.as_primitive_opt::<Int64Type>());
        if let Some(count) = count.filter(|count| count.len() == 1) {
            return Ok(count.value(0) as u64);
        }
    }
    Ok(0)
}

/// A run over an epoch's rows.
struct Run {
    touched: Vec<u32>,
    is_new: bool,
    before: u64,
    now: u64,
}

impl Run {
    fn begin(table: &StateTable) -> DfResult<Run> {
        let run = table.begin_run()?;
        let mut touched = Vec::new();
        table.touch(run, &[], 1, &mut touched, &mut Touched::default())?;
        let is_new = table.stored(&touched, &[])?.positions.is_empty();
        let before = rows_let_through(table)?;
        Ok(Run { touched, is_new, before, now: before })
    }

    fn finish(self, exec: &StreamLimitExec) -> DfResult<()> {
        let staged = match self.now == self.before {
            true => {
                exec.table.stage(exec.epoch, vec![Arc::new(Int64Array::from(Vec::<i64>::new()))], Vec::new(), 0, None)
            }
            false => {
                let count = Int64Array::from(vec![self.now as i64]);
                exec.table.stage(exec.epoch, vec![Arc::new(count)], self.touched, u64::from(self.is_new), None)
            }
        };
        *exec.staged.lock().unwrap_or_else(PoisonError::into_inner) = Some(staged?);
        Ok(())
    }
}

impl ExecutionPlan for StreamLimitExec {
    fn name(&self) -> &str {
        "StreamLimitExec"
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
            (Some(input), true) => Ok(Arc::new(StreamLimitExec { input, ..(*self).clone() })),
            _ => internal_err!("StreamLimitExec has one input"),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        let recompute = datafusion::physical_plan::execution_plan::ChildrenPropertiesMode::Recompute;
        self.replace_children(children, ReplaceChildrenOptions::new(recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("StreamLimitExec has no partition {partition}");
        }
        let begun = (Run::begin(&self.table)?, self.input.execute(0, context)?, self.clone());
        let rows = futures::stream::try_unfold(Some(begun), |state| async move {
            let Some((mut run, mut input, exec)) = state else { return Ok(None) };
            while let Some(batch) = input.next().await {
                let batch = batch?;
                let left = exec.rows.saturating_sub(run.now);
                let rows = left.min(batch.num_rows() as u64);
                if rows > 0 {
                    run.now += rows;
                    return Ok(Some((batch.slice(0, rows as usize), Some((run, input, exec)))));
                }
            }
            run.finish(&exec)?;
            Ok(None)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}

impl DisplayAs for StreamLimitExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "StreamLimitExec: operator={}, rows={}", self.table.operator(), self.rows)
    }
}

impl fmt::Debug for StreamLimitExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamLimitExec").field("operator", &self.table.operator()).field("input", &self.input).finish()
    }
}
