//! Keys that come for the first time: what `DEDUPLICATE BY` and `DISTINCT` inside an aggregate remember.
//!
//! State: key = the columns that make rows the same, value = nothing, or with WITHIN WATERMARK the instant until which
//! the key is remembered: the least event time of its rows in the epoch it came with, and the delay. Written with a
//! key's first row; forgotten when the watermark passes the key's event time or that instant. Which of the rows of one
//! epoch is the first is not said.

use std::sync::{Arc, PoisonError};

use arrow::array::{
    Array, ArrayRef, BooleanArray, RecordBatch, TimestampMicrosecondArray, UInt32Array, new_empty_array,
};
use arrow::compute::{concat, filter, take};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::common::{Result as DfResult, internal_err};
use datafusion::physical_expr::PhysicalExpr;
use futures::StreamExt;

use super::exec::{Rows, Run};
use super::plan::StagedCell;
use super::watermark::in_microseconds;
use crate::clock::EpochWatermark;
use crate::state::{Eviction, StagedState, StateTable, Touched, canonical_keys, times_of};

/// How long a key is remembered.
#[derive(Debug, Clone)]
pub(super) enum Remembered {
    /// For ever.
    ForEver,
    /// Until the watermark passes this key column.
    UntilPassed(usize),
    /// Until the watermark passes the event time, given by this expression, and this many microseconds.
    Within(Arc<dyn PhysicalExpr>, i64),
}

impl Remembered {
    /// Says to `table` what is kept: the keys by name and type.
    fn bind(&self, table: &StateTable, keys: Vec<(String, DataType)>) -> DfResult<()> {
        let count = keys.len();
        let mut fields: Vec<Field> = keys.into_iter().map(|(name, of)| Field::new(name, of, true)).collect();
        if matches!(self, Remembered::Within(..)) {
            fields.push(Field::new("until", DataType::Timestamp(TimeUnit::Microsecond, None), true));
        }
        Ok(table.bind_timed(&Schema::new(fields), count, self.time(count))?)
    }

    /// The column of the state that says when a row of it is forgotten.
    fn time(&self, keys: usize) -> Option<usize> {
        match self {
            Remembered::ForEver => None,
            Remembered::UntilPassed(key) => Some(*key),
            Remembered::Within(..) => Some(keys),
        }
    }
}

/// The keys of an operator that asks which rows come first.
pub(super) struct Keys {
    on: Vec<Arc<dyn PhysicalExpr>>,
    remembered: Remembered,
    table: Arc<StateTable>,
    epoch: u64,
    watermark: EpochWatermark,
    staged: StagedCell,
}

impl Keys {
    /// Over rows of `input`; each key comes with the name under which it is stored.
    pub(super) fn try_new(
        input: &Schema,
        on: Vec<(Arc<dyn PhysicalExpr>, String)>,
        remembered: Remembered,
        table: Arc<StateTable>,
        (epoch, watermark): (u64, EpochWatermark),
        staged: StagedCell,
    ) -> DfResult<Keys> {
        let stored = on.iter().map(|(key, name)| Ok((name.clone(), key.data_type(input)?)));
        remembered.bind(&table, stored.collect::<DfResult<_>>()?)?;
        let on = on.into_iter().map(|(key, _)| key).collect();
        Ok(Keys { on, remembered, table, epoch, watermark, staged })
    }

    /// Number of the operator.
    pub(super) fn operator(&self) -> u32 {
        self.table.operator()
    }

    /// What is computed of the rows.
    pub(super) fn expressions(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        let time = match &self.remembered {
            Remembered::Within(time, _) => Some(time),
            Remembered::ForEver | Remembered::UntilPassed(_) => None,
        };
        self.on.iter().chain(time).collect()
    }

    /// The rows of a batch whose key comes for the first time.
    pub(super) fn first_of(&self, met: &mut FirstKeys, batch: &RecordBatch) -> DfResult<Vec<u32>> {
        let rows = batch.num_rows();
        let evaluate = |expr: &Arc<dyn PhysicalExpr>| expr.evaluate(batch)?.into_array(rows);
        let keys = self.on.iter().map(evaluate).collect::<DfResult<Vec<_>>>()?;
        let first = met.first_of(&keys, rows)?;
        if let Remembered::Within(time, delay_us) = &self.remembered {
            met.note_times(&in_microseconds(evaluate(time)?)?, *delay_us)?;
        }
        Ok(first)
    }

    fn finish(&self, met: FirstKeys) -> DfResult<()> {
        let staged = met.finish(&self.remembered, self.epoch, self.watermark)?;
        *self.staged.lock().unwrap_or_else(PoisonError::into_inner) = Some(staged);
        Ok(())
    }
}

/// What `step` makes of each batch of the input. `keys` are those of `operator`, which `step` asks; what was met is staged
/// at the end.
pub(super) fn rows_by_keys<O: Send + Sync + 'static>(
    run: &Run,
    consumer: &str,
    operator: Arc<O>,
    keys: fn(&O) -> &Keys,
    step: fn(&O, &mut FirstKeys, &RecordBatch) -> DfResult<RecordBatch>,
) -> DfResult<Rows> {
    let met = FirstKeys::begin(keys(&operator).table.clone())?;
    let begun = (met, run.input()?, run.reservation(consumer), operator);
    let rows = futures::stream::try_unfold(Some(begun), move |state| async move {
        let Some((mut met, mut input, reservation, operator)) = state else { return Ok(None) };
        match input.next().await {
            Some(batch) => {
                let rows = step(&operator, &mut met, &batch?)?;
                reservation.try_resize(met.bytes())?;
                Ok(Some((rows, Some((met, input, reservation, operator)))))
            }
            None => {
                keys(&operator).finish(met)?;
                Ok(None)
            }
        }
    });
    Ok(rows.boxed())
}

/// Keys met in one run.
pub(super) struct FirstKeys {
    table: Arc<StateTable>,
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

impl FirstKeys {
    /// Begins a run over `table`, which is bound.
    fn begin(table: Arc<StateTable>) -> DfResult<FirstKeys> {
        Ok(FirstKeys {
            run: table.begin_run()?,
            table,
            touched: Vec::new(),
            is_new: Vec::new(),
            until: Vec::new(),
            keys: Vec::new(),
            bytes: 0,
            scratch: Touched::default(),
        })
    }

    /// Memory so far.
    fn bytes(&self) -> usize {
        self.bytes + self.touched.len() * (size_of::<u32>() + size_of::<Option<i64>>() + 1)
    }

    /// Of `rows` rows with these keys, those whose key has not been met before, in this run or an earlier epoch.
    fn first_of(&mut self, keys: &[ArrayRef], rows: usize) -> DfResult<Vec<u32>> {
        let keys = canonical_keys(keys);
        let before = self.touched.len();
        self.table.touch(self.run, &keys, rows, &mut self.touched, &mut self.scratch)?;
        if self.scratch.fresh.is_empty() {
            return Ok(Vec::new());
        }
        let fresh = UInt32Array::from(self.scratch.fresh.clone());
        let keys = keys.iter().map(|column| take(column, &fresh, None)).collect::<Result<Vec<_>, _>>()?;
        self.is_new.resize(self.touched.len(), true);
        for position in self.table.stored(&self.touched[before..], &keys)?.positions {
            self.is_new[before + position as usize] = false;
        }
        self.bytes += keys.iter().map(|column| column.get_array_memory_size()).sum::<usize>();
        self.keys.push(keys);
        let is_first = |(at, row): (usize, &u32)| self.is_new[before + at].then_some(*row);
        Ok(self.scratch.fresh.iter().enumerate().filter_map(is_first).collect())
    }

    /// The event times of the rows just given to [`Self::first_of`], for WITHIN WATERMARK.
    fn note_times(&mut self, times: &ArrayRef, delay_us: i64) -> DfResult<()> {
        let times = times_of(times)?;
        self.until.resize(self.touched.len(), None);
        for (row, group) in self.scratch.groups.iter().enumerate() {
            if times.is_valid(row) {
                let until = times.value(row).saturating_add(delay_us);
                let known = &mut self.until[*group];
                *known = Some(known.map_or(until, |known| known.min(until)));
            }
        }
        Ok(())
    }

    /// New keys as state, without those that the watermark ends at once.
    fn finish(self, remembered: &Remembered, epoch: u64, watermark: EpochWatermark) -> DfResult<StagedState> {
        let Some((schema, keys)) = self.table.schema()? else { return internal_err!("state without a schema") };
        let mut columns = Vec::with_capacity(schema.fields().len());
        for at in 0..keys {
            let parts: Vec<&dyn Array> = self.keys.iter().map(|keys| keys[at].as_ref()).collect();
            columns.push(match parts.is_empty() {
                true => new_empty_array(schema.field(at).data_type()),
                false => concat(&parts)?,
            });
        }
        if matches!(remembered, Remembered::Within(..)) {
            columns.push(Arc::new(TimestampMicrosecondArray::from(self.until)) as ArrayRef);
        }
        let time = remembered.time(keys);
        let keep: BooleanArray = match (time, watermark.until_us) {
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
        let staged = self.table.stage(epoch, columns, slots, new, None)?;
        match (time, watermark.until_us) {
            (Some(_), Some(until_us)) => {
                let rows = self.table.expired(until_us, None, false)?.rows;
                Ok(staged.evicting(Eviction { until_us, rows }))
            }
            _ => Ok(staged),
        }
    }
}
