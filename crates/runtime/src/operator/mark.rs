//! `DISTINCT` inside an aggregate over a stream: marks the first row of each grouping key and value.
//!
//! State: that of [`super::first_keys`], a key per value of a group; it is forgotten with the group. Every row goes on,
//! with a Boolean column behind its own. Rows that the aggregate's FILTER leaves out are not marked and not remembered.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, prep_null_mask_filter};
use arrow::datatypes::SchemaRef;
use datafusion::common::Result as DfResult;
use datafusion::physical_expr::PhysicalExpr;

use super::exec::{Operator, Rows, Run};
use super::first_keys::{FirstKeys, Keys, rows_by_keys};

/// See the module.
pub(super) struct StreamMark {
    pub keys: Keys,
    /// Which rows count; None: all.
    pub condition: Option<Arc<dyn PhysicalExpr>>,
    /// Columns of the input and the mark.
    pub schema: SchemaRef,
}

impl StreamMark {
    fn marked(&self, met: &mut FirstKeys, batch: &RecordBatch) -> DfResult<RecordBatch> {
        let rows = batch.num_rows();
        let mut mark = vec![false; rows];
        match &self.condition {
            None => {
                for row in self.keys.first_of(met, batch)? {
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
                let first = self.keys.first_of(met, &filter_record_batch(batch, &wanted)?)?;
                first.into_iter().for_each(|row| mark[places[row as usize] as usize] = true);
            }
        }
        let mut columns = batch.columns().to_vec();
        columns.push(Arc::new(BooleanArray::from(mark)) as ArrayRef);
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

impl Operator for StreamMark {
    fn name(&self) -> &'static str {
        "StreamMarkExec"
    }

    fn describe(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "operator={}", self.keys.operator())
    }

    fn expressions(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.keys.expressions().into_iter().chain(&self.condition).collect()
    }

    fn needs_every_row(&self) -> bool {
        true
    }

    fn run(self: Arc<Self>, run: Run) -> DfResult<Rows> {
        rows_by_keys(&run, "StreamMark", self, |operator| &operator.keys, StreamMark::marked)
    }
}
