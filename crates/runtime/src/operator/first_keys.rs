//! Keys that come for the first time: what `DEDUPLICATE BY` and `DISTINCT` inside an aggregate remember.
//!
//! State: key = the columns that make rows the same, value = nothing, or with WITHIN WATERMARK the instant until which
//! the key is remembered: the least event time of its rows in the epoch it came with, and the delay. Written with a
//! key's first row; forgotten when the watermark passes the key's event time or that instant. Which of the rows of one
//! epoch is the first is not said.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, TimestampMicrosecondArray, UInt32Array, new_empty_array};
use arrow::compute::{concat, filter, take};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::common::{Result as DfResult, internal_err};
use datafusion::physical_expr::PhysicalExpr;

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
    pub(super) fn bind(&self, table: &StateTable, keys: Vec<(String, DataType)>) -> DfResult<()> {
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
    pub(super) fn begin(table: Arc<StateTable>) -> DfResult<FirstKeys> {
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
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.touched.len() * (size_of::<u32>() + size_of::<Option<i64>>() + 1)
    }

    /// Of `rows` rows with these keys, those whose key has not been met before, in this run or an earlier epoch.
    pub(super) fn first_of(&mut self, keys: &[ArrayRef], rows: usize) -> DfResult<Vec<u32>> {
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
    pub(super) fn note_times(&mut self, times: &ArrayRef, delay_us: i64) -> DfResult<()> {
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
    pub(super) fn finish(
        self,
        remembered: &Remembered,
        epoch: u64,
        watermark: EpochWatermark,
    ) -> DfResult<StagedState> {
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
