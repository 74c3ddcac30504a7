//! `WATERMARK`: looks at the event times that pass.
//!
//! State: none of its own. The greatest event time of an epoch's input is read off when the epoch is through, and goes
//! into its commit; the next epoch's watermark is made from it. So the watermark never depends on the order of rows
//! within an epoch.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use arrow::array::{ArrayRef, TimestampMicrosecondArray};
use arrow::compute::{cast, max};
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::Result as DfResult;
use datafusion::physical_expr::PhysicalExpr;
use futures::StreamExt;

use super::exec::{Operator, Rows, Run};
use crate::state::times_of;

/// The greatest event time that was met; none yet at first.
#[derive(Debug, Clone)]
pub(super) struct Greatest(Arc<AtomicI64>);

impl Default for Greatest {
    fn default() -> Self {
        Greatest(Arc::new(AtomicI64::new(i64::MIN)))
    }
}

/// Event times that are too far ahead of the clock.
#[derive(Debug, Clone, Default)]
pub(super) struct Future {
    /// Later ones do not count, microseconds since 1970 UTC; None: all do.
    pub until_us: Option<i64>,
    /// How many there were.
    pub rows: Arc<AtomicU64>,
}

impl Future {
    /// The greatest of the times that count.
    fn max(&self, times: &TimestampMicrosecondArray) -> Option<i64> {
        let greatest = max(times);
        let Some(until_us) = self.until_us.filter(|until_us| greatest.is_some_and(|time| time > *until_us)) else {
            return greatest;
        };
        let ahead = times.iter().flatten().filter(|time| *time > until_us).count();
        self.rows.fetch_add(ahead as u64, Ordering::Relaxed);
        times.iter().flatten().filter(|time| *time <= until_us).max()
    }
}

impl Greatest {
    /// None: there was no event time.
    pub(super) fn get(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|time| *time != i64::MIN)
    }
}

/// Passes rows on and notes their greatest event time; see the module.
pub(super) struct Watermark {
    /// A timestamp of the rows.
    pub time: Arc<dyn PhysicalExpr>,
    pub greatest: Greatest,
    pub future: Future,
}

impl Operator for Watermark {
    fn name(&self) -> &'static str {
        "WatermarkExec"
    }

    fn describe(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}", self.time)
    }

    fn expressions(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.time]
    }

    fn needs_every_row(&self) -> bool {
        true
    }

    fn run(self: Arc<Self>, run: Run) -> DfResult<Rows> {
        let rows = run.input()?.map(move |batch| {
            let batch = batch?;
            let times = in_microseconds(self.time.evaluate(&batch)?.into_array(batch.num_rows())?)?;
            if let Some(time) = self.future.max(&times_of(&times)?) {
                self.greatest.0.fetch_max(time, Ordering::Relaxed);
            }
            Ok(batch)
        });
        Ok(rows.boxed())
    }
}

/// Sources may have timestamps of other units; windows have not.
pub(super) fn in_microseconds(times: ArrayRef) -> DfResult<ArrayRef> {
    match times.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => Ok(times),
        DataType::Timestamp(_, zone) => Ok(cast(&times, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?),
        _ => Ok(times),
    }
}
