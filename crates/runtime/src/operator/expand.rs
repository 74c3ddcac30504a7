//! GROUPING SETS, ROLLUP, CUBE: each batch once for every set, its keys and the set's number behind its columns.
//!
//! State: none. Columns are shared between the copies; only the set's number is new memory.

use std::fmt;
use std::sync::Arc;

use alluvium_planner::node::GroupingSet;
use arrow::array::{ArrayRef, RecordBatch, UInt64Array, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use datafusion::common::Result as DfResult;
use datafusion::physical_expr::PhysicalExpr;

use super::exec::{Operator, Rows, Run};

/// See the module.
pub(super) struct Expand {
    pub keys: Vec<Arc<dyn PhysicalExpr>>,
    pub sets: Vec<GroupingSet>,
}

impl Expand {
    /// The rows of a batch in each of the sets.
    fn expanded(&self, batch: &RecordBatch, schema: &SchemaRef) -> DfResult<Vec<RecordBatch>> {
        let rows = batch.num_rows();
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

impl Operator for Expand {
    fn name(&self) -> &'static str {
        "ExpandExec"
    }

    fn describe(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} sets", self.sets.len())
    }

    fn expressions(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.keys.iter().collect()
    }

    fn needs_every_row(&self) -> bool {
        false
    }

    fn run(self: Arc<Self>, run: Run) -> DfResult<Rows> {
        let schema = run.schema.clone();
        run.each(move |batch| self.expanded(&batch, &schema))
    }
}
