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
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result as DfResult, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::ReplaceChildrenOptions;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt;

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
#[derive(Debug, Clone)]
pub struct WatermarkExec {
    input: Arc<dyn ExecutionPlan>,
    time: Arc<dyn PhysicalExpr>,
    greatest: Greatest,
    future: Future,
}

impl WatermarkExec {
    /// `time`: a timestamp over `input`.
    pub(super) fn new(
        input: Arc<dyn ExecutionPlan>,
        time: Arc<dyn PhysicalExpr>,
        greatest: Greatest,
        future: Future,
    ) -> Self {
        WatermarkExec { input, time, greatest, future }
    }
}

impl ExecutionPlan for WatermarkExec {
    fn name(&self) -> &str {
        "WatermarkExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        f(&self.time)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(WatermarkExec { input, ..(*self).clone() })),
            _ => internal_err!("WatermarkExec has one input"),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        let recompute = datafusion::physical_plan::execution_plan::ChildrenPropertiesMode::Recompute;
        self.replace_children(children, ReplaceChildrenOptions::new(recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let (time, greatest, future) = (self.time.clone(), self.greatest.clone(), self.future.clone());
        let rows = self.input.execute(partition, context)?.map(move |batch| {
            let batch = batch?;
            let times = in_microseconds(time.evaluate(&batch)?.into_array(batch.num_rows())?)?;
            if let Some(time) = future.max(&times_of(&times)?) {
                greatest.0.fetch_max(time, Ordering::Relaxed);
            }
            Ok(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
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

impl DisplayAs for WatermarkExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "WatermarkExec: {}", self.time)
    }
}
