//! `DEDUPLICATE BY` and `SELECT DISTINCT` over a stream.
//!
//! State: key = the columns that make rows the same, value = nothing, or with WITHIN WATERMARK the instant until which
//! the key is remembered: the least event time of its rows in the epoch it came with, and the delay. Written with a
//! key's first row; forgotten when the watermark passes the key's event time or that instant. A row goes on when its
//! key has no state. The output keeps the input's columns; which of the rows of one epoch is the first is not said.

use std::fmt;
use std::sync::{Arc, PoisonError};

use arrow::array::{
    Array, ArrayRef, BooleanArray, RecordBatch, TimestampMicrosecondArray, UInt32Array, new_empty_array,
};
use arrow::compute::{concat, filter, take, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
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

use super::plan::StagedCell;
use super::watermark::in_microseconds;
use crate::clock::EpochWatermark;
use crate::state::{Eviction, StagedState, StateTable, Touched, canonical_keys, times_of};

/// What a key's state is.
#[derive(Debug, Clone)]
pub(super) enum Remembered {
    /// For ever.
    ForEver,
    /// Until the watermark passes this key column.
    UntilPassed(usize),
    /// Until the watermark passes the event time, given by this expression, and this many microseconds.
    Within(Arc<dyn PhysicalExpr>, i64),
}

/// See the module.
#[derive(Clone)]
pub struct StreamDeduplicateExec {
    input: Arc<dyn ExecutionPlan>,
    on: Vec<Arc<dyn PhysicalExpr>>,
    remembered: Remembered,
    table: Arc<StateTable>,
    epoch: u64,
    watermark: EpochWatermark,
    staged: StagedCell,
    properties: Arc<PlanProperties>,
}

impl StreamDeduplicateExec {
    /// Over `input`; each key comes with the name under which it is stored.
    pub(super) fn try_new(
        input: Arc<dyn ExecutionPlan>,
        on: Vec<(Arc<dyn PhysicalExpr>, String)>,
        remembered: Remembered,
        table: Arc<StateTable>,
        (epoch, watermark): (u64, EpochWatermark),
        staged: StagedCell,
    ) -> DfResult<Self> {
        let schema = input.schema();
        let mut fields = Vec::with_capacity(on.len() + 1);
        for (key, name) in &on {
            fields.push(Field::new(name, key.data_type(&schema)?, true));
        }
        let time = match &remembered {
            Remembered::ForEver => None,
            Remembered::UntilPassed(key) => Some(*key),
            Remembered::Within(..) => {
                fields.push(Field::new("until", DataType::Timestamp(TimeUnit::Microsecond, None), true));
                Some(on.len())
            }
        };
        table.bind_timed(&Schema::new(fields), on.len(), time)?;
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let on = on.into_iter().map(|(key, _)| key).collect();
        Ok(StreamDeduplicateExec {
            input,
            on,
            remembered,
            table,
            epoch,
            watermark,
            staged,
            properties: Arc::new(properties),
        })
    }
}

/// Keys met in one run.
struct Run {
    run: u32,
    /// Slots of the keys met, by the table's number.
    touched: Vec<u32>,
    /// Which of them had no state.
    is_new: Vec<bool>,
    /// Until when they are remembered, with WITHIN WATERMARK.
    until: Vec<Option<i64>>,
    /// Key columns of the keys met, in pieces.
    keys: Vec<Vec<ArrayRef>>,
    bytes: usize,
    scratch: Touched,
}

impl Run {
    fn begin(table: &StateTable) -> DfResult<Run> {
        Ok(Run {
            run: table.begin_run()?,
            touched: Vec::new(),
            is_new: Vec::new(),
            until: Vec::new(),
            keys: Vec::new(),
            bytes: 0,
            scratch: Touched::default(),
        })
    }

    fn bytes(&self) -> usize {
        self.bytes + self.touched.len() * (size_of::<u32>() + size_of::<Option<i64>>() + 1)
    }

    /// The rows of a batch whose key has not been met before, in this run or an earlier epoch.
    fn first_rows(&mut self, exec: &StreamDeduplicateExec, batch: &RecordBatch) -> DfResult<RecordBatch> {
        let rows = batch.num_rows();
        let evaluate = |expr: &Arc<dyn PhysicalExpr>| expr.evaluate(batch)?.into_array(rows);
        let keys = canonical_keys(&exec.on.iter().map(evaluate).collect::<DfResult<Vec<_>>>()?);
        let before = self.touched.len();
        exec.table.touch(self.run, &keys, rows, &mut self.touched, &mut self.scratch)?;
        let fresh = UInt32Array::from(self.scratch.fresh.clone());
        let mut first = Vec::with_capacity(fresh.len());
        if !fresh.is_empty() {
            let keys = keys.iter().map(|column| take(column, &fresh, None)).collect::<Result<Vec<_>, _>>()?;
            self.is_new.resize(self.touched.len(), true);
            for position in exec.table.stored(&self.touched[before..], &keys)?.positions {
                self.is_new[before + position as usize] = false;
            }
            self.bytes += keys.iter().map(|column| column.get_array_memory_size()).sum::<usize>();
            self.keys.push(keys);
            let is_first = |(at, row): (usize, &u32)| self.is_new[before + at].then_some(*row);
            first.extend(self.scratch.fresh.iter().enumerate().filter_map(is_first));
        }
        if let Remembered::Within(time, delay) = &exec.remembered {
            let times = times_of(&in_microseconds(evaluate(time)?)?)?;
            self.until.resize(self.touched.len(), None);
            for (row, group) in self.scratch.groups.iter().enumerate() {
                if times.is_valid(row) {
                    let until = times.value(row).saturating_add(*delay);
                    let known = &mut self.until[*group];
                    *known = Some(known.map_or(until, |known| known.min(until)));
                }
            }
        }
        Ok(take_record_batch(batch, &UInt32Array::from(first))?)
    }

    /// New keys as state, without those that the watermark ends at once.
    fn finish(self, exec: &StreamDeduplicateExec) -> DfResult<StagedState> {
        let Some((schema, keys)) = exec.table.schema()? else { return internal_err!("state without a schema") };
        let mut columns = Vec::with_capacity(schema.fields().len());
        for at in 0..keys {
            let parts: Vec<&dyn Array> = self.keys.iter().map(|keys| keys[at].as_ref()).collect();
            columns.push(match parts.is_empty() {
                true => new_empty_array(schema.field(at).data_type()),
                false => concat(&parts)?,
            });
        }
        if matches!(exec.remembered, Remembered::Within(..)) {
            columns.push(Arc::new(TimestampMicrosecondArray::from(self.until)) as ArrayRef);
        }
        let until_us = exec.watermark.until_us;
        let time = match exec.remembered {
            Remembered::ForEver => None,
            Remembered::UntilPassed(key) => Some(key),
            Remembered::Within(..) => Some(keys),
        };
        let keep: BooleanArray = match (time, until_us) {
            (Some(time), Some(until_us)) => {
                let times = times_of(&columns[time])?;
                let stays = times.iter().map(|time| time.is_none_or(|time| time > until_us));
                stays.zip(&self.is_new).map(|(stays, new)| Some(stays && *new)).collect()
            }
            _ => BooleanArray::from(self.is_new),
        };
        let columns = columns.iter().map(|column| filter(column, &keep)).collect::<Result<Vec<_>, _>>()?;
        let slots: Vec<u32> =
            self.touched.iter().zip(keep.values()).filter(|(_, keep)| *keep).map(|(slot, _)| *slot).collect();
        let new = slots.len() as u64;
        let staged = exec.table.stage(exec.epoch, columns, slots, new, None)?;
        match (time, until_us) {
            (Some(_), Some(until_us)) => {
                let rows = exec.table.expired(until_us, None, false)?.rows;
                Ok(staged.evicting(Eviction { until_us, rows }))
            }
            _ => Ok(staged),
        }
    }
}

impl ExecutionPlan for StreamDeduplicateExec {
    fn name(&self) -> &str {
        "StreamDeduplicateExec"
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
        for key in &self.on {
            if f(key)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        match &self.remembered {
            Remembered::Within(time, _) => f(time),
            Remembered::ForEver | Remembered::UntilPassed(_) => Ok(TreeNodeRecursion::Continue),
        }
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(StreamDeduplicateExec { input, ..(*self).clone() })),
            _ => internal_err!("StreamDeduplicateExec has one input"),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        let recompute = datafusion::physical_plan::execution_plan::ChildrenPropertiesMode::Recompute;
        self.replace_children(children, ReplaceChildrenOptions::new(recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("StreamDeduplicateExec has no partition {partition}");
        }
        let reservation = MemoryConsumer::new("StreamDeduplicate").register(context.memory_pool());
        let input = self.input.execute(0, context)?;
        let begun = (Run::begin(&self.table)?, input, reservation, self.clone());
        let rows = futures::stream::try_unfold(Some(begun), |state| async move {
            let Some((mut run, mut input, reservation, exec)) = state else { return Ok(None) };
            match input.next().await {
                Some(batch) => {
                    let first = run.first_rows(&exec, &batch?)?;
                    reservation.try_resize(run.bytes())?;
                    Ok(Some((first, Some((run, input, reservation, exec)))))
                }
                None => {
                    let staged = run.finish(&exec)?;
                    *exec.staged.lock().unwrap_or_else(PoisonError::into_inner) = Some(staged);
                    Ok(None)
                }
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}

impl DisplayAs for StreamDeduplicateExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "StreamDeduplicateExec: operator={}", self.table.operator())
    }
}

impl fmt::Debug for StreamDeduplicateExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamDeduplicateExec")
            .field("operator", &self.table.operator())
            .field("input", &self.input)
            .finish()
    }
}
