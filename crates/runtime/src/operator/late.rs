//! Rows that come too late for an operator with state: left out and counted.
//!
//! A row is late when its event time, or the end of its window, is at or before the watermark of the epoch before: what
//! it belongs to has come out and is forgotten. A row without an event time is never late. A row with a pane of sliding windows
//! is late once for each of its windows that is over, and left out when all are.
//! Where the stream's late rows are kept in a table, they are collected here as text, within the memory limit; the epoch
//! writes them.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use alluvium_planner::node::TimeWindow;
use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::{filter_record_batch, not};
use arrow::datatypes::TimestampMicrosecondType;
use datafusion::common::{Result as DfResult, internal_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use futures::StreamExt;

use super::exec::{Operator, OperatorExec, Rows, Run, Shape};
use super::watermark::in_microseconds;
use crate::state::times_of;

/// Late rows of one batch that are kept.
#[derive(Debug)]
pub struct KeptRows {
    /// Their event times.
    pub times: TimestampMicrosecondArray,
    /// The rows as JSON, a column of strings.
    pub rows: ArrayRef,
    /// The memory they take.
    _memory: MemoryReservation,
}

/// Where a run's late rows are collected.
pub(super) type Collected = Arc<Mutex<Vec<KeptRows>>>;

/// See the module.
pub(super) struct Late {
    time: Arc<dyn PhysicalExpr>,
    /// The windows whose panes `time` gives, where it does.
    panes: Option<TimeWindow>,
    /// Microseconds since 1970 UTC.
    late_us: i64,
    dropped: Arc<AtomicU64>,
    /// The row as text, and where late ones go.
    kept: Option<(Arc<dyn PhysicalExpr>, Collected)>,
}

impl Late {
    /// `time`: a timestamp or a window of the rows; `dropped` counts the rows left out.
    pub(super) fn new(time: Arc<dyn PhysicalExpr>, late_us: i64, dropped: Arc<AtomicU64>) -> Self {
        Late { time, panes: None, late_us, dropped, kept: None }
    }

    /// Over `input`.
    pub(super) fn over(self, input: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        let schema = input.schema();
        OperatorExec::new(self, input, schema, Shape::Passes)
    }

    /// The same where `time` is a pane of these windows.
    pub(super) fn of_panes(self, windows: TimeWindow) -> Self {
        Late { panes: Some(windows), ..self }
    }

    /// With late rows, as this expression says them, put into `collected`.
    pub(super) fn keeping(self, row: Arc<dyn PhysicalExpr>, collected: Collected) -> Self {
        Late { kept: Some((row, collected)), ..self }
    }

    /// The rows of a batch that are not late.
    fn timely(&self, batch: RecordBatch, pool: &Arc<dyn MemoryPool>) -> DfResult<RecordBatch> {
        let times = in_microseconds(self.time.evaluate(&batch)?.into_array(batch.num_rows())?)?;
        if let Some(windows) = self.panes {
            self.dropped.fetch_add(windows_over(&times, windows, self.late_us)?, Ordering::Relaxed);
        }
        let times = times_of(&times)?;
        if times.iter().all(|time| time.is_none_or(|time| time > self.late_us)) {
            return Ok(batch);
        }
        let timely: BooleanArray = times.iter().map(|time| Some(time.is_none_or(|time| time > self.late_us))).collect();
        if self.panes.is_none() {
            self.dropped.fetch_add((batch.num_rows() - timely.true_count()) as u64, Ordering::Relaxed);
        }
        if let Some((row, collected)) = &self.kept {
            let late = not(&timely)?;
            let batch = filter_record_batch(&batch, &late)?;
            let rows = row.evaluate(&batch)?.into_array(batch.num_rows())?;
            let times: TimestampMicrosecondArray =
                times.iter().zip(late.values()).filter(|(_, late)| *late).map(|(time, _)| time).collect();
            let memory = MemoryConsumer::new("LateRows").register(pool);
            memory.try_grow(rows.get_array_memory_size())?;
            let kept = KeptRows { times, rows, _memory: memory };
            collected.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
        }
        Ok(filter_record_batch(&batch, &timely)?)
    }
}

impl Operator for Late {
    fn name(&self) -> &'static str {
        "LateExec"
    }

    fn describe(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} > {}us", self.time, self.late_us)
    }

    fn expressions(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        std::iter::once(&self.time).chain(self.kept.as_ref().map(|(row, _)| row)).collect()
    }

    fn needs_every_row(&self) -> bool {
        true
    }

    fn run(self: Arc<Self>, run: Run) -> DfResult<Rows> {
        let pool = run.memory_pool();
        Ok(run.input()?.map(move |batch| self.timely(batch?, &pool)).boxed())
    }
}

/// How many windows of the rows' panes are over.
fn windows_over(panes: &ArrayRef, windows: TimeWindow, late_us: i64) -> DfResult<u64> {
    let starts = panes.as_struct_opt().and_then(|panes| panes.column_by_name("start"));
    let Some(starts) = starts.and_then(|starts| starts.as_primitive_opt::<TimestampMicrosecondType>()) else {
        return internal_err!("a pane without a start");
    };
    let over = |pane: i64| windows.starts(pane).filter(|start| start.saturating_add(windows.size) <= late_us).count();
    // Every window that has a pane ends behind its start.
    let late = starts.iter().flatten().filter(|pane| *pane < late_us);
    Ok(late.map(|pane| over(pane) as u64).sum())
}
