//! Forgetting rows as the watermark passes their time.
//!
//! What is evicted is said by one instant: every row whose time is at or before it is gone. The log has that instant,
//! not the keys; the hot table has an index by time, and keys in the store begin with the time where it is part of the
//! key, so that both forget a range. Where the time is among the values (`WITHIN WATERMARK`), rows in the store are
//! looked through, unless the oldest of them is younger.

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;

use super::codec;
use super::event_time::{from_ordered, ordered, time_at, times_of};
use super::table::{Bound, Inner, StateTable};
use super::{Batch, Column};
use crate::error::Result;

/// Rows per page of the store.
const PAGE_ROWS: usize = 8192;

/// What a watermark ends.
#[derive(Debug, Default)]
pub struct Expired {
    /// How many rows.
    pub rows: u64,
    /// The rows, key and state columns; none when only their number was asked for.
    pub batches: Vec<RecordBatch>,
}

/// The eviction of one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eviction {
    /// Rows whose time is at or before this are forgotten, in microseconds since 1970 UTC.
    pub until_us: i64,
    /// How many they are.
    pub rows: u64,
}

impl StateTable {
    /// Committed rows whose time is at or before `until_us`, but for those that `run` has touched. `wanted`: the rows
    /// themselves, not only their number.
    pub fn expired(&self, until_us: i64, run: Option<u32>, wanted: bool) -> Result<Expired> {
        let mut inner = self.lock()?;
        let partial = inner.partial;
        let bound = inner.bound()?;
        let mut expired = Expired::default();
        let slots = bound.hot.expired(until_us, run);
        expired.rows += slots.len() as u64;
        if wanted {
            for slots in slots.chunks(PAGE_ROWS) {
                expired.batches.push(bound.hot.rows_of(slots)?);
            }
        }
        if partial {
            self.expired_cold(&mut inner, until_us, run, &mut expired, wanted)?;
        }
        Ok(expired)
    }

    /// The next time behind `after`, and not behind `until_us`, of which there are committed rows; with those of them that
    /// `run` has not touched. None: there is none.
    pub fn next_in_time(&self, after: Option<i64>, until_us: i64, run: u32) -> Result<Option<(i64, Vec<RecordBatch>)>> {
        let mut inner = self.lock()?;
        let (partial, floor) = (inner.partial, inner.floor);
        let after = after.max(floor);
        let bound = inner.bound_mut()?;
        let cold_time = if partial { self.next_cold_time(bound, after, until_us)? } else { None };
        let hot_time = bound.hot.next_time(after).filter(|time| *time <= until_us);
        let Some(time) = hot_time.into_iter().chain(cold_time).min() else { return Ok(None) };
        let mut batches = Vec::new();
        for slots in bound.hot.untouched_at(time, run).chunks(PAGE_ROWS) {
            batches.push(bound.hot.rows_of(slots)?);
        }
        if cold_time == Some(time) {
            let (mut from, until) = self.cold_range(bound, time.checked_sub(1), time);
            let mut slots = Vec::new();
            loop {
                let page = self.store.page(Column::Rows, &from, &until, PAGE_ROWS)?;
                let Some(next) = page.next_key() else { break };
                from = next;
                let rows = decode(bound, &page.iter().collect::<Vec<_>>())?;
                bound.hot.intern(&rows.columns()[..bound.keys], rows.num_rows(), &mut slots)?;
                let current: BooleanArray =
                    slots.iter().map(|slot| Some(bound.hot.only_stored(*slot as u32, Some(run)))).collect();
                batches.push(filter_record_batch(&rows, &current)?);
            }
        }
        Ok(Some((time, batches)))
    }

    /// The least time behind `after` and not behind `until_us` of a row in the store, whose time is part of its key.
    fn next_cold_time(&self, bound: &Bound, after: Option<i64>, until_us: i64) -> Result<Option<i64>> {
        let (from, until) = self.cold_range(bound, after, until_us);
        let page = self.store.page(Column::Rows, &from, &until, 1)?;
        let bytes = page.last_key().and_then(|key| key.get(4..12)).and_then(|bytes| bytes.first_chunk());
        Ok(bytes.map(|bytes| from_ordered(*bytes)))
    }

    fn expired_cold(
        &self,
        inner: &mut Inner,
        until_us: i64,
        run: Option<u32>,
        expired: &mut Expired,
        wanted: bool,
    ) -> Result<()> {
        if inner.cold_oldest.is_some_and(|oldest| oldest > until_us) {
            return Ok(());
        }
        let floor = inner.floor;
        let bound = inner.bound_mut()?;
        let (mut from, until) = self.cold_range(bound, floor, until_us);
        let mut oldest: Option<i64> = None;
        let mut slots = Vec::new();
        loop {
            let page = self.store.page(Column::Rows, &from, &until, PAGE_ROWS)?;
            let Some(next) = page.next_key() else { break };
            from = next;
            let entries: Vec<(&[u8], &[u8])> = page.iter().collect();
            let rows = decode(bound, &entries)?;
            let Some(time) = bound.time else { break };
            let times = times_of(rows.column(time))?;
            bound.hot.intern(&rows.columns()[..bound.keys], rows.num_rows(), &mut slots)?;
            let mut due = Vec::with_capacity(rows.num_rows());
            for (row, slot) in slots.iter().enumerate() {
                let time = time_at(&times, row);
                let alive = time.is_some_and(|time| floor.is_none_or(|floor| time > floor));
                let is_due = alive && time.is_some_and(|time| time <= until_us);
                if let Some(time) = time.filter(|_| alive) {
                    oldest = Some(oldest.map_or(time, |known| known.min(time)));
                }
                due.push(is_due && bound.hot.only_stored(*slot as u32, run));
            }
            let due = BooleanArray::from(due);
            expired.rows += due.true_count() as u64;
            if wanted && due.true_count() > 0 {
                expired.batches.push(filter_record_batch(&rows, &due)?);
            }
        }
        if !bound.time_in_key() {
            // With rows that are due: this run may fail, and the next one asks again.
            inner.cold_oldest = Some(oldest.unwrap_or(i64::MAX));
        }
        Ok(())
    }

    /// Where rows of the store can be whose time is behind `floor` and not behind `until_us`.
    fn cold_range(&self, bound: &Bound, floor: Option<i64>, until_us: i64) -> (Vec<u8>, Vec<u8>) {
        let (first, end) = codec::operator_range(self.operator);
        if !bound.time_in_key() {
            return (first, end);
        }
        let from = match floor.and_then(|floor| floor.checked_add(1)) {
            Some(time) => [&first[..], &ordered(Some(time))].concat(),
            None => first.clone(),
        };
        let until = until_us.checked_add(1).map_or(end, |time| [&first[..], &ordered(Some(time))].concat());
        (from, until)
    }

    /// Removes from the store what was evicted, as part of folding. The range that it was, where it is one.
    pub(super) fn fold_evicted(&self, inner: &Inner, last: &mut Batch) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        let (Some(floor), Ok(bound)) = (inner.floor, inner.bound()) else { return Ok(None) };
        if bound.time_in_key() {
            let (from, until) = self.cold_range(bound, None, floor);
            last.delete_range(Column::Rows, from.clone(), until.clone());
            return Ok(Some((from, until)));
        }
        let Some(time) = bound.time else { return Ok(None) };
        let (mut from, until) = codec::operator_range(self.operator);
        loop {
            let page = self.store.page(Column::Rows, &from, &until, PAGE_ROWS)?;
            let Some(next) = page.next_key() else { return Ok(None) };
            let entries: Vec<(&[u8], &[u8])> = page.iter().collect();
            let times = times_of(decode(bound, &entries)?.column(time))?;
            for (row, (key, _)) in entries.iter().enumerate() {
                if time_at(&times, row).is_some_and(|time| time <= floor) {
                    last.delete(Column::Rows, *key);
                }
            }
            from = next;
        }
    }
}

impl Inner {
    /// The watermark has passed `until_us`: rows up to it are gone.
    pub(super) fn evict(&mut self, until_us: i64) -> Result<()> {
        self.floor = Some(self.floor.map_or(until_us, |floor| floor.max(until_us)));
        self.bound_mut()?.hot.evict(until_us)
    }
}

fn decode(bound: &Bound, entries: &[(&[u8], &[u8])]) -> Result<RecordBatch> {
    let mut columns = bound.codec.decode_keys(entries.iter().map(|(key, _)| *key))?;
    columns.extend(bound.codec.decode_values(entries)?);
    codec::batch_of(bound.schema.clone(), columns, entries.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, TimestampMicrosecondArray};
    use arrow::datatypes::{DataType, Field, Schema, TimeUnit};

    use super::super::codec::RowCodec;
    use super::super::{MemoryStore, StateStore, StateTable};
    use super::*;

    fn schema() -> Arc<Schema> {
        Arc::new(Schema::new(vec![
            Field::new("k", DataType::Int64, true),
            Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        ]))
    }

    fn columns(rows: &[(i64, Option<i64>)]) -> Vec<ArrayRef> {
        let times: TimestampMicrosecondArray = rows.iter().map(|(_, time)| *time).collect();
        vec![Arc::new(Int64Array::from_iter_values(rows.iter().map(|(k, _)| *k))), Arc::new(times)]
    }

    /// The bytes of state format 2 on disk: they may only change with another format.
    #[test]
    fn row_keys_of_format_2_begin_with_the_time() {
        let codec = RowCodec::new(7, schema(), 2, Some(1)).unwrap();
        let keys = codec.keys(&columns(&[(5, Some(0x0102)), (5, Some(-1)), (5, None)]), 3).unwrap();
        let row = [1, 128, 0, 0, 0, 0, 0, 0, 5];
        let time = |at: i64| [&[1][..], &((at as u64) ^ (1 << 63)).to_be_bytes()].concat();
        assert_eq!(keys.get(0), [&[0, 0, 0, 7, 128, 0, 0, 0, 0, 0, 1, 2][..], &row, &time(0x0102)].concat());
        assert_eq!(keys.get(1), [&[0, 0, 0, 7, 127, 255, 255, 255, 255, 255, 255, 255][..], &row, &time(-1)].concat());
        assert_eq!(keys.get(2)[..12], [0, 0, 0, 7, 255, 255, 255, 255, 255, 255, 255, 255]);
        assert_eq!(keys.sorted(), [1, 0, 2]);
        let back = codec.decode_keys((0..3).map(|at| keys.get(at))).unwrap();
        assert_eq!(back, columns(&[(5, Some(0x0102)), (5, Some(-1)), (5, None)]));
    }

    #[test]
    fn what_is_evicted_stays_gone_after_folds_and_restarts() {
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
        for budget in [1 << 20, 0] {
            let operator = budget as u32;
            let mut kept: Vec<i64> = Vec::new();
            for epoch in 0..12_i64 {
                let table = Arc::new(StateTable::open_with(store.clone(), operator, budget, 0).unwrap());
                table.bind_timed(&schema(), 2, Some(1)).unwrap();
                let rows: Vec<_> = (0..20).map(|k| (k, Some(epoch * 10 + k))).collect();
                let until = epoch * 10 - 5;
                let new: Vec<_> = rows.into_iter().filter(|(_, time)| time.is_some_and(|time| time > until)).collect();
                let (run, mut touched, mut out) = (table.begin_run().unwrap(), Vec::new(), Default::default());
                let columns = columns(&new);
                table.touch(run, &columns, new.len(), &mut touched, &mut out).unwrap();
                let known = table.stored(&touched, &columns).unwrap().positions.len();
                assert_eq!(known, 0, "every key is new: another k has the same time");
                let due = kept.iter().filter(|time| **time <= until).count() as u64;
                let expired = table.expired(until, Some(run), true).unwrap();
                assert_eq!(
                    (expired.rows, expired.batches.iter().map(RecordBatch::num_rows).sum::<usize>()),
                    (due, due as usize)
                );
                let staged = table.stage(epoch as u64, columns, touched, new.len() as u64, None).unwrap();
                let staged = staged.evicting(Eviction { until_us: until, rows: due });
                let mut batch = Batch::default();
                staged.prepare().unwrap();
                let receipt = staged.write_into(&mut batch).unwrap();
                store.write(batch, true).unwrap();
                staged.apply(receipt).unwrap();
                kept.retain(|time| *time > until);
                kept.extend(new.iter().filter_map(|(_, time)| *time));
                assert_eq!(table.size().unwrap().rows, kept.len() as u64, "epoch {epoch}, budget {budget}");
                let scanned: usize = table.scan(None).unwrap().map(|rows| rows.unwrap().num_rows()).sum();
                assert_eq!(scanned, kept.len(), "epoch {epoch}, budget {budget}");
            }
        }
    }
}
