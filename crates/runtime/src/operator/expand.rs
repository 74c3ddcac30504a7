//! GROUPING SETS, ROLLUP, CUBE: each batch once for every set, its keys and the set's number behind its columns.
//!
//! State: none. Columns are shared between the copies; only the set's number is new memory.

use std::fmt;
use std::sync::Arc;

use alluvium_planner::node::GroupingSet;
use arrow::array::{ArrayRef, RecordBatch, UInt64Array, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result as DfResult, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::StreamExt;

/// See the module.
#[derive(Debug, Clone)]
pub struct ExpandExec {
    input: Arc<dyn ExecutionPlan>,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    sets: Arc<Vec<GroupingSet>>,
    properties: Arc<PlanProperties>,
}

impl ExpandExec {
    /// Over `input`. `schema`: its columns, the keys, the set's number.
    pub(super) fn new(
        input: Arc<dyn ExecutionPlan>,
        schema: SchemaRef,
        keys: Vec<Arc<dyn PhysicalExpr>>,
        sets: Vec<GroupingSet>,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        ExpandExec { input, keys, sets: Arc::new(sets), properties: Arc::new(properties) }
    }

    /// The rows of a batch in each of the sets.
    fn expanded(&self, batch: &RecordBatch) -> DfResult<Vec<RecordBatch>> {
        let (rows, schema) = (batch.num_rows(), self.schema());
        let keys = self.keys.iter().map(|key| key.evaluate(batch)?.into_array(rows)).collect::<DfResult<Vec<_>>>()?;
        let nulls: Vec<ArrayRef> = keys.iter().map(|key| new_null_array(key.data_type(), rows)).collect();
        let id_type = schema.field(schema.fields().len() - 1).data_type();
        let in_set = |set: &GroupingSet| {
            let mut columns = batch.columns().to_vec();
            for ((key, null), without) in keys.iter().zip(&nulls).zip(&set.without) {
                columns.push(if *without { null.clone() } else { key.clone() });
            }
            columns.push(cast(&UInt64Array::from_value(set.id, rows), id_type)?);
            Ok(RecordBatch::try_new(schema.clone(), columns)?)
        };
        self.sets.iter().map(in_set).collect()
    }
}

impl ExecutionPlan for ExpandExec {
    fn name(&self) -> &str {
        "ExpandExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        for key in &self.keys {
            if f(key)? == TreeNodeRecursion::Stop {
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
            (Some(input), true) => {
                let (schema, sets) = (self.schema(), self.sets.as_ref().clone());
                Ok(Arc::new(ExpandExec::new(input, schema, self.keys.clone(), sets)))
            }
            _ => internal_err!("ExpandExec has one input"),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        let recompute = datafusion::physical_plan::execution_plan::ChildrenPropertiesMode::Recompute;
        self.replace_children(children, ReplaceChildrenOptions::new(recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let exec = self.clone();
        let rows = self.input.execute(partition, context)?.flat_map(move |batch| {
            let expanded = batch.and_then(|batch| exec.expanded(&batch));
            futures::stream::iter(match expanded {
                Ok(batches) => batches.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            })
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}

impl DisplayAs for ExpandExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "ExpandExec: {} sets", self.sets.len())
    }
}
