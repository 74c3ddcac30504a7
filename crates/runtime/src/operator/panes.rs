//! Sliding windows out of panes.
//!
//! A pane is the stretch between two borders of windows; its partial states belong to every window that has it. Here a row
//! of a pane becomes a row for each of those windows, and an aggregation above makes one of the rows of a window.

use std::fmt;
use std::sync::Arc;

use alluvium_planner::node::Panes;
use arrow::array::{ArrayRef, AsArray, RecordBatch, StructArray, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use datafusion::common::{Result as DfResult, internal_err};

use super::exec::{Operator, Rows, Run};

/// The windows that are wanted of a pane's.
#[derive(Debug, Clone, Copy)]
pub(super) struct WindowsOf {
    pub panes: Panes,
    /// Only windows that end behind this.
    pub after_us: Option<i64>,
    /// Only windows that end at or before this.
    pub until_us: Option<i64>,
}

/// Rows of a batch, unless one pane has more windows.
const BATCH_ROWS: usize = 8192;

impl WindowsOf {
    fn wants(&self, end: i64) -> bool {
        self.after_us.is_none_or(|after| end > after) && self.until_us.is_none_or(|until| end <= until)
    }

    /// Whether there can be windows.
    pub(super) fn any(&self) -> bool {
        self.until_us.is_none_or(|until| self.wants(self.panes.windows.last_end(until)))
    }

    /// The greatest end of a last window that a pane in one of the windows can have.
    pub(super) fn last_end_of_panes(&self) -> i64 {
        let windows = self.panes.windows;
        let last = self.until_us.map_or(i64::MAX, |until| windows.last_end(until));
        last.saturating_add(windows.size - 1)
    }

    /// A row for each window of each row's pane, in batches.
    pub(super) fn rows(&self, batch: &RecordBatch) -> DfResult<Vec<RecordBatch>> {
        let key = self.panes.key;
        let panes = batch.columns().get(key).and_then(|column| column.as_struct_opt());
        let panes = panes.and_then(|panes| panes.column_by_name("start"));
        let Some(panes) = panes.and_then(|panes| panes.as_primitive_opt::<TimestampMicrosecondType>()) else {
            return internal_err!("a pane without a start");
        };
        let (mut batches, mut rows, mut starts) = (Vec::new(), Vec::new(), Vec::new());
        let size = self.panes.windows.size;
        for row in 0..batch.num_rows() {
            let windows = self.panes.windows.starts(panes.value(row));
            starts.extend(windows.filter(|start| self.wants(start.saturating_add(size))));
            rows.resize(starts.len(), row as u32);
            if rows.len() >= BATCH_ROWS {
                batches.push(self.batch(batch, std::mem::take(&mut rows), std::mem::take(&mut starts))?);
            }
        }
        if !rows.is_empty() {
            batches.push(self.batch(batch, rows, starts)?);
        }
        Ok(batches)
    }

    /// These rows of a batch, with the windows that start there instead of panes.
    fn batch(&self, batch: &RecordBatch, rows: Vec<u32>, starts: Vec<i64>) -> DfResult<RecordBatch> {
        let (rows, key) = (UInt32Array::from(rows), self.panes.key);
        let DataType::Struct(fields) = batch.schema_ref().field(key).data_type().clone() else {
            return internal_err!("a window is a struct");
        };
        let time = fields.first().map_or(DataType::Null, |field| field.data_type().clone());
        let ends = starts.iter().map(|start| start.saturating_add(self.panes.windows.size)).collect();
        let column = |times: Vec<i64>| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from(times).with_data_type(time.clone()))
        };
        let windows: ArrayRef = Arc::new(StructArray::try_new(fields, vec![column(starts), column(ends)], None)?);
        let columns = batch.columns().iter().enumerate().map(|(at, column)| match at == key {
            true => Ok(windows.clone()),
            false => take(column, &rows, None),
        });
        Ok(RecordBatch::try_new(batch.schema(), columns.collect::<Result<_, _>>()?)?)
    }
}

/// Makes a row for each window out of each row of a pane.
pub(super) struct Windows(pub WindowsOf);

impl Operator for Windows {
    fn name(&self) -> &'static str {
        "WindowsExec"
    }

    fn describe(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let windows = self.0.panes.windows;
        write!(f, "size={}us, slide={}us", windows.size, windows.slide)
    }

    fn needs_every_row(&self) -> bool {
        false
    }

    fn run(self: Arc<Self>, run: Run) -> DfResult<Rows> {
        run.each(move |batch| self.0.rows(&batch))
    }
}
