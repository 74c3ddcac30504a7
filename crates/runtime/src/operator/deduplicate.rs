//! `DEDUPLICATE BY` and `SELECT DISTINCT` over a stream.
//!
//! State: that of [`super::first_keys`]. A row goes on when its key has none. The output keeps the input's columns.

use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use datafusion::common::Result as DfResult;
use datafusion::physical_expr::PhysicalExpr;

use super::exec::{Operator, Rows, Run};
use super::first_keys::{FirstKeys, Keys, rows_by_keys};

/// See the module.
pub(super) struct StreamDeduplicate {
    pub keys: Keys,
}

impl StreamDeduplicate {
    /// The rows of a batch whose key comes for the first time.
    fn first_rows(&self, met: &mut FirstKeys, batch: &RecordBatch) -> DfResult<RecordBatch> {
        Ok(take_record_batch(batch, &UInt32Array::from(self.keys.first_of(met, batch)?))?)
    }
}

impl Operator for StreamDeduplicate {
    fn name(&self) -> &'static str {
        "StreamDeduplicateExec"
    }

    fn describe(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "operator={}", self.keys.operator())
    }

    fn expressions(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.keys.expressions()
    }

    fn needs_every_row(&self) -> bool {
        true
    }

    fn run(self: Arc<Self>, run: Run) -> DfResult<Rows> {
        rows_by_keys(&run, "StreamDeduplicate", self, |operator| &operator.keys, StreamDeduplicate::first_rows)
    }
}
