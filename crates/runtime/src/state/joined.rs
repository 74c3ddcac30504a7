//! Rows of the two sides of a join of streams, by key and by time.
//!
//! State: `Rows` has, for each side, a row under its join key, time and number, so that what matches a key within a stretch
//! of time is one range; and, for a side whose rows are forgotten, an entry under time and number that names the key, so
//! that what a watermark ends is one range too. The entry also says whether the row has matched: of a row that comes out
//! when nothing matched it, that is all that ever changes. Written with the epoch that brings the row; removed with the
//! epoch whose watermark ends it. Nothing is kept in memory between epochs: what is hot is so in the store's cache.
//!
//! Knows nothing of which rows match; `operator/join` asks it for ranges and tells it what to write.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_row::{RowConverter, SortField};

use super::codec;
use super::event_time::ordered;
use super::hash::hash64;
use super::table::{StateSize, StateTable, differs, meta_key, parse_count};
use super::{Batch, Column, StateStore, prefix_end};
use crate::error::Result;

/// Version of the layouts in this file; stored with the operator.
const STATE_FORMAT_JOINED: &str = "3";
/// In a schema's metadata: types of the join keys.
pub(super) const JOIN_KEYS: &str = "alluvium.join_keys";
/// Names of the sides in `Meta`.
pub(super) const SIDES: [&str; 2] = ["left", "right"];
/// Operator and part.
pub(super) const PREFIX: usize = 5;
/// Time and number behind a key.
pub(super) const SUFFIX: usize = 16;
/// Checksum in front of a row.
pub(super) const CHECKSUM: usize = 4;

/// The rows of both sides of a join.
pub struct JoinTable {
    operator: u32,
    store: Arc<dyn StateStore>,
    sides: [Side; 2],
    /// Number of the next row.
    next: u64,
}

struct Side {
    schema: SchemaRef,
    /// None where nothing of a row is needed.
    rows: Option<RowConverter>,
    /// Rows are forgotten by time.
    is_timed: bool,
    /// Rows and bytes as committed.
    size: (u64, u64),
    /// Rows whose time is at or before this were forgotten.
    ended_us: Option<i64>,
}

/// Where a stored row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowId {
    /// Its time in microseconds; None: it has none.
    pub time: Option<i64>,
    /// Its number, which no other row of the operator has or had.
    pub number: u64,
    /// Bytes of its value.
    pub bytes: u32,
}

/// Stored rows that were asked for.
pub struct Found {
    /// Their columns.
    pub rows: RecordBatch,
    /// Where each is.
    pub ids: Vec<RowId>,
    /// The range in which each was found.
    pub ranges: Vec<u32>,
}

/// Rows that a watermark ends, oldest first.
pub struct Ended {
    /// Where each is.
    pub ids: Vec<RowId>,
    /// Whether each has matched.
    pub matched: Vec<bool>,
    /// Their join keys.
    pub keys: Vec<Vec<u8>>,
    /// Where the next ones begin; None: these are all.
    pub next: Option<Vec<u8>>,
}

/// Changes of one epoch: to be committed or dropped.
pub struct StagedJoin {
    operator: u32,
    epoch: u64,
    writes: Batch,
}

impl StagedJoin {
    /// The epoch that changed it.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The operator that changed.
    pub fn operator(&self) -> u32 {
        self.operator
    }

    /// The changes, for the commit's batch.
    pub fn into_writes(self) -> Batch {
        self.writes
    }
}

impl JoinTable {
    /// The rows of `table`'s operator: the columns of each side, the types of the join keys, and which sides' rows are
    /// forgotten by time. The first call pins these in the checkpoint; a later one that differs is refused, unless nothing
    /// is kept yet.
    pub fn open(table: &StateTable, columns: [&Schema; 2], keys: &[DataType], timed: [bool; 2]) -> Result<JoinTable> {
        let (operator, store) = (table.operator, table.store.clone());
        let count = |what: &str| -> Result<u64> {
            let count = store.get(Column::Meta, &meta_key(operator, what))?;
            count.map_or(Ok(0), |count| parse_count(operator, count))
        };
        let mut batch = Batch::default();
        let mut side = |at: usize| -> Result<Side> {
            let name = SIDES[at];
            let wanted = pinned(columns[at], keys, timed[at]);
            let size = (count(&format!("{name}/rows"))?, count(&format!("{name}/bytes"))?);
            let key = meta_key(operator, &format!("{name}/schema"));
            let stored = match store.get(Column::Meta, &key)? {
                Some(stored) => Some(codec::decode_schema(operator, &stored)?),
                None => None,
            };
            match stored {
                Some(stored) if stored.as_ref() == wanted.as_ref() => {}
                Some(stored) if size.0 > 0 => return Err(differs(operator, &stored, &wanted)),
                _ => batch.put(Column::Meta, key, codec::encode_schema(&wanted)?),
            }
            let fields: Vec<_> =
                columns[at].fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
            let rows = if fields.is_empty() { None } else { Some(RowConverter::new(fields)?) };
            let schema = Arc::new(Schema::new(wanted.fields()[..columns[at].fields().len()].to_vec()));
            let ended_us = match store.get(Column::Meta, &meta_key(operator, &format!("{name}/ended")))? {
                Some(text) => {
                    let ended_us = String::from_utf8(text).ok().and_then(|text| text.parse().ok());
                    Some(ended_us.ok_or_else(|| codec::corrupt(operator, "what it has forgotten"))?)
                }
                None => None,
            };
            Ok(Side { schema, rows, is_timed: timed[at], size, ended_us })
        };
        let sides = [side(0)?, side(1)?];
        let format = meta_key(operator, "format");
        match store.get(Column::Meta, &format)? {
            Some(known) if known == STATE_FORMAT_JOINED.as_bytes() => {}
            Some(found) if sides.iter().any(|side| side.size.0 > 0) => {
                return Err(super::table::unknown_format(operator, &found));
            }
            _ => batch.put(Column::Meta, format, STATE_FORMAT_JOINED),
        }
        if !batch.is_empty() {
            store.write(batch, true)?;
        }
        let next = count("next")?;
        Ok(JoinTable { operator, store, sides, next })
    }

    /// The operator whose rows these are.
    pub fn operator(&self) -> u32 {
        self.operator
    }

    /// Columns of a side's rows.
    pub fn schema(&self, side: usize) -> &SchemaRef {
        &self.sides[side].schema
    }

    /// Where rows of `side` with this join key are whose time is from `least` to `most`; without either, all of them.
    pub fn range_of(&self, side: usize, key: &[u8], least: Option<i64>, most: Option<i64>) -> (Vec<u8>, Vec<u8>) {
        let prefix = [&self.rows_prefix(side)[..], key].concat();
        let from = match least {
            Some(least) => [&prefix[..], &ordered(Some(least))].concat(),
            None => prefix.clone(),
        };
        let until = match most.and_then(|most| most.checked_add(1)) {
            Some(behind) => [&prefix[..], &ordered(Some(behind))].concat(),
            None => prefix_end(&prefix),
        };
        (from, until)
    }

    /// Rows of `side` in `ranges`, which ascend: about `limit` of them. Ranges are cut to what is left of them; once
    /// everything was read they are empty.
    pub fn find(&self, side: usize, ranges: &mut Ranges, limit: usize) -> Result<Found> {
        let (mut ids, mut found_in) = (Vec::new(), Vec::new());
        let (mut values, mut ends) = (Vec::new(), Vec::new());
        let damaged =
            |key: &[u8]| codec::corrupt(self.operator, &format!("a row of the {} side ({})", SIDES[side], hex(key)));
        let mut last = None;
        self.store.scan_ranges(Column::Rows, &ranges.left, &mut |range, key, value| {
            let (row, time, number) = self.checked(key, value).ok_or_else(|| damaged(key))?;
            values.extend_from_slice(row);
            ends.push(values.len());
            ids.push(RowId { time, number, bytes: value.len() as u32 });
            found_in.push((ranges.first + range) as u32);
            let more = ids.len() < limit;
            if !more {
                last = Some((range, [key, &[0]].concat()));
            }
            Ok(more)
        })?;
        ranges.cut(last);
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let rows = starts.zip(&ends).map(|(start, end)| &values[start..*end]);
        Ok(Found { rows: self.decode(side, rows, ids.len())?, ids, ranges: found_in })
    }

    /// Rows of `side` whose time is at or before `until_us`, from `from` on: about `limit`.
    pub fn ended(&self, side: usize, until_us: i64, from: Option<Vec<u8>>, limit: usize) -> Result<Ended> {
        let (first, until) = self.ended_range(side, until_us);
        let page = self.store.page(Column::Rows, &from.unwrap_or(first), &until, limit)?;
        let mut ended = Ended { ids: Vec::new(), matched: Vec::new(), keys: Vec::new(), next: page.next_key() };
        for (entry, value) in page.iter() {
            let damaged = || codec::corrupt(self.operator, &format!("the time of a row of the {} side", SIDES[side]));
            let (time, number) = suffix(entry).ok_or_else(damaged)?;
            let (flag, rest) = value.split_first().ok_or_else(damaged)?;
            let (bytes, key) = rest.split_first_chunk().ok_or_else(damaged)?;
            ended.ids.push(RowId { time, number, bytes: u32::from_be_bytes(*bytes) });
            ended.matched.push(*flag == 1);
            ended.keys.push(key.to_vec());
        }
        Ok(ended)
    }

    /// The rows at `ids`, which have these keys, in no particular order.
    pub fn rows_at(&self, side: usize, rows: &[(&[u8], RowId)]) -> Result<RecordBatch> {
        let mut keys: Vec<Vec<u8>> = rows.iter().map(|(key, id)| self.row_key(side, key, *id)).collect();
        keys.sort_unstable();
        let sorted: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let mut values: Vec<Vec<u8>> = Vec::with_capacity(rows.len());
        self.store.multi_get(Column::Rows, &sorted, &mut |at, value| {
            let damaged =
                || codec::corrupt(self.operator, &format!("a row of the {} side ({})", SIDES[side], hex(sorted[at])));
            values.push(self.checked(sorted[at], value).ok_or_else(damaged)?.0.to_vec());
            Ok(())
        })?;
        if values.len() != rows.len() {
            return Err(codec::corrupt(
                self.operator,
                &format!("{} rows of the {} side", rows.len() - values.len(), SIDES[side]),
            ));
        }
        self.decode(side, values.iter().map(Vec::as_slice), values.len())
    }

    /// Begins the changes of an epoch.
    pub fn changes(self: &Arc<Self>) -> JoinChanges {
        let sizes = [self.sides[0].size, self.sides[1].size];
        JoinChanges { table: self.clone(), writes: Batch::default(), next: self.next, sizes }
    }

    /// Rows and bytes that operators of joins have in `store`, a side each.
    pub fn stored_sizes(store: &dyn StateStore, operator: u32) -> Result<Vec<StateSize>> {
        let count = |side: &str, what: &str| -> Result<Option<u64>> {
            let count = store.get(Column::Meta, &meta_key(operator, &format!("{side}/{what}")))?;
            count.map(|count| parse_count(operator, count)).transpose()
        };
        let mut sizes = Vec::new();
        for side in SIDES {
            if store.get(Column::Meta, &meta_key(operator, &format!("{side}/schema")))?.is_some() {
                let (rows, bytes) = (count(side, "rows")?.unwrap_or(0), count(side, "bytes")?.unwrap_or(0));
                sizes.push(StateSize { operator, part: Some(side), rows, bytes, ..StateSize::default() });
            }
        }
        Ok(sizes)
    }

    fn decode<'a>(&self, side: usize, rows: impl Iterator<Item = &'a [u8]>, count: usize) -> Result<RecordBatch> {
        let Side { schema, rows: converter, .. } = &self.sides[side];
        let columns = match converter {
            Some(converter) => {
                let parser = converter.parser();
                let columns = converter.convert_rows(rows.map(|row| parser.parse(row)))?;
                let typed = columns.into_iter().zip(schema.fields()).map(|(column, field)| {
                    // Dictionaries come back as plain values.
                    match column.data_type() == field.data_type() {
                        true => Ok(column),
                        false => arrow::compute::cast(&column, field.data_type()),
                    }
                });
                typed.collect::<std::result::Result<Vec<ArrayRef>, _>>()?
            }
            None => Vec::new(),
        };
        codec::batch_of(schema.clone(), columns, count)
    }

    /// The row in a value, with time and number from its key; None if either is damaged.
    fn checked<'a>(&self, key: &[u8], value: &'a [u8]) -> Option<(&'a [u8], Option<i64>, u64)> {
        let (time, number) = suffix(key)?;
        let (sum, row) = value.split_first_chunk::<CHECKSUM>()?;
        (u32::from_be_bytes(*sum) == checksum(row)).then_some((row, time, number))
    }

    fn rows_prefix(&self, side: usize) -> [u8; PREFIX] {
        self.prefix(side as u8)
    }

    fn times_prefix(&self, side: usize) -> [u8; PREFIX] {
        self.prefix(side as u8 + 2)
    }

    fn prefix(&self, part: u8) -> [u8; PREFIX] {
        let [a, b, c, d] = self.operator.to_be_bytes();
        [a, b, c, d, part]
    }

    fn row_key(&self, side: usize, key: &[u8], id: RowId) -> Vec<u8> {
        [&self.rows_prefix(side)[..], key, &ordered(id.time), &id.number.to_be_bytes()].concat()
    }

    fn time_key(&self, side: usize, id: RowId) -> Vec<u8> {
        [&self.times_prefix(side)[..], &ordered(id.time), &id.number.to_be_bytes()].concat()
    }

    /// From behind what was forgotten before, whose traces in the store need not be passed again.
    fn ended_range(&self, side: usize, until_us: i64) -> (Vec<u8>, Vec<u8>) {
        let prefix = self.times_prefix(side);
        let behind = |time: i64| time.checked_add(1).map(|behind| [&prefix[..], &ordered(Some(behind))].concat());
        let from = self.sides[side].ended_us.and_then(behind).unwrap_or_else(|| prefix.to_vec());
        (from, behind(until_us).unwrap_or_else(|| prefix_end(&prefix)))
    }
}

/// Ranges that are read one after another.
pub struct Ranges {
    left: Vec<(Vec<u8>, Vec<u8>)>,
    /// How many were read to their end.
    first: usize,
}

impl Ranges {
    /// Of these, which ascend.
    pub fn of(ranges: Vec<(Vec<u8>, Vec<u8>)>) -> Ranges {
        Ranges { left: ranges, first: 0 }
    }

    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// Goes on in range `at` of those that are left, at a key; None: nothing is left.
    fn cut(&mut self, last: Option<(usize, Vec<u8>)>) {
        match last {
            Some((at, from)) => {
                self.left.drain(..at);
                self.first += at;
                if let Some(range) = self.left.first_mut() {
                    range.0 = from;
                }
            }
            None => {
                self.first += self.left.len();
                self.left.clear();
            }
        }
    }
}

/// The changes of an epoch while they are made.
pub struct JoinChanges {
    table: Arc<JoinTable>,
    writes: Batch,
    next: u64,
    sizes: [(u64, u64); 2],
}

impl JoinChanges {
    /// Keeps rows of a side: their join keys, times and whether they matched, for each of `rows`.
    pub fn keep<'a>(
        &mut self,
        side: usize,
        rows: &RecordBatch,
        kept: impl Iterator<Item = (usize, &'a [u8], Option<i64>, bool)>,
    ) -> Result<()> {
        let table = self.table.clone();
        let encoded = match &table.sides[side].rows {
            Some(converter) => Some(converter.convert_columns(rows.columns())?),
            None => None,
        };
        for (at, key, time, matched) in kept {
            let row = encoded.as_ref().map(|rows| rows.row(at));
            let row = row.as_ref().map_or(&[][..], |row| row.data());
            let value = [&checksum(row).to_be_bytes()[..], row].concat();
            let id = RowId { time, number: self.next, bytes: value.len() as u32 };
            self.next += 1;
            let row_key = table.row_key(side, key, id);
            let (rows, bytes) = &mut self.sizes[side];
            *rows += 1;
            *bytes += row_bytes(key, id);
            self.writes.put(Column::Rows, row_key, value);
            if table.sides[side].is_timed {
                self.note(side, key, id, matched);
            }
        }
        Ok(())
    }

    /// A stored row has matched.
    pub fn matched(&mut self, side: usize, key: &[u8], id: RowId) {
        self.note(side, key, id, true);
    }

    fn note(&mut self, side: usize, key: &[u8], id: RowId, matched: bool) {
        let value = [&[u8::from(matched)][..], &id.bytes.to_be_bytes(), key].concat();
        self.writes.put(Column::Rows, self.table.time_key(side, id), value);
    }

    /// Forgets a stored row.
    pub fn remove(&mut self, side: usize, key: &[u8], id: RowId) {
        self.remove_row(side, key, id);
        if self.table.sides[side].is_timed {
            self.writes.delete(Column::Rows, self.table.time_key(side, id));
        }
    }

    /// Forgets rows that [`JoinTable::ended`] gave; their times go with [`Self::end`].
    pub fn remove_row(&mut self, side: usize, key: &[u8], id: RowId) {
        self.writes.delete(Column::Rows, self.table.row_key(side, key, id));
        let (rows, bytes) = &mut self.sizes[side];
        *rows = rows.saturating_sub(1);
        *bytes = bytes.saturating_sub(row_bytes(key, id));
    }

    /// Forgets the times of a side that are at or before `until_us`.
    pub fn end(&mut self, side: usize, until_us: i64) {
        if self.table.sides[side].ended_us.is_some_and(|ended_us| ended_us >= until_us) {
            return;
        }
        let (from, until) = self.table.ended_range(side, until_us);
        self.writes.delete_range(Column::Rows, from, until);
        let ended = meta_key(self.table.operator, &format!("{}/ended", SIDES[side]));
        self.writes.put(Column::Meta, ended, until_us.to_string());
    }

    /// Memory the changes take, roughly.
    pub fn bytes(&self) -> usize {
        self.writes.bytes()
    }

    /// The changes, to be committed.
    pub fn stage(mut self, epoch: u64) -> StagedJoin {
        let operator = self.table.operator;
        for (at, name) in SIDES.into_iter().enumerate() {
            let (before, after) = (self.table.sides[at].size, self.sizes[at]);
            if before != after {
                self.writes.put(Column::Meta, meta_key(operator, &format!("{name}/rows")), after.0.to_string());
                self.writes.put(Column::Meta, meta_key(operator, &format!("{name}/bytes")), after.1.to_string());
            }
        }
        if self.next != self.table.next {
            self.writes.put(Column::Meta, meta_key(operator, "next"), self.next.to_string());
        }
        StagedJoin { operator, epoch, writes: self.writes }
    }
}

/// Bytes of a row with its key, and of its time.
fn row_bytes(key: &[u8], id: RowId) -> u64 {
    (2 * (PREFIX + SUFFIX + key.len()) + id.bytes as usize) as u64
}

/// Time and number at the end of a key.
pub(super) fn suffix(key: &[u8]) -> Option<(Option<i64>, u64)> {
    let (rest, number) = key.split_last_chunk()?;
    let (_, time) = rest.split_last_chunk()?;
    let time = u64::from_be_bytes(*time);
    let time = (time != u64::MAX).then_some((time ^ (1 << 63)) as i64);
    Some((time, u64::from_be_bytes(*number)))
}

pub(super) fn checksum(row: &[u8]) -> u32 {
    hash64(row) as u32
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is pinned of a side: its columns and, in metadata, the types of the join keys and whether rows are forgotten.
fn pinned(columns: &Schema, keys: &[DataType], is_timed: bool) -> SchemaRef {
    // Columns that the optimizer made have names of the moment; what they are made of is in the query's fingerprint.
    let name = |field: &Field| match field.name().starts_with("__datafusion_extracted") {
        true => "expression".to_string(),
        false => field.name().clone(),
    };
    let fields = columns.fields().iter().map(|field| Field::new(name(field), field.data_type().clone(), true));
    let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
    let metadata = [
        (super::table::KEYS.to_string(), "0".to_string()),
        (JOIN_KEYS.to_string(), keys.join(", ")),
        ("alluvium.timed".to_string(), is_timed.to_string()),
    ];
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), metadata.into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use arrow::array::Int64Array;

    use super::super::MemoryStore;
    use super::*;

    fn open(store: &Arc<dyn StateStore>) -> Arc<JoinTable> {
        let table = StateTable::open(store.clone(), 7, 0).unwrap();
        let columns = Schema::new(vec![Field::new("v", DataType::Int64, true)]);
        Arc::new(JoinTable::open(&table, [&columns, &columns], &[DataType::Int64], [true, false]).unwrap())
    }

    fn rows(values: &[i64]) -> RecordBatch {
        let schema = Schema::new(vec![Field::new("v", DataType::Int64, true)]);
        RecordBatch::try_new(schema.into(), vec![Arc::new(Int64Array::from(values.to_vec()))]).unwrap()
    }

    /// The bytes of state format 3 on disk: they may only change with another format.
    #[test]
    fn keys_of_format_3() {
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
        let table = open(&store);
        let id = RowId { time: Some(0x0102), number: 3, bytes: 9 };
        let time = [128, 0, 0, 0, 0, 0, 1, 2];
        let number = [0, 0, 0, 0, 0, 0, 0, 3];
        assert_eq!(table.row_key(1, b"key", id), [&[0, 0, 0, 7, 1][..], b"key", &time, &number].concat());
        assert_eq!(table.time_key(0, id), [&[0, 0, 0, 7, 2][..], &time, &number].concat());
        let none = RowId { time: None, ..id };
        assert_eq!(table.row_key(0, b"", none), [&[0, 0, 0, 7, 0][..], &[255; 8], &number].concat());
        assert_eq!(suffix(&table.row_key(0, b"key", id)), Some((Some(0x0102), 3)));
        assert_eq!(suffix(&table.row_key(0, b"key", none)), Some((None, 3)));
        let mut changes = table.changes();
        changes.keep(0, &rows(&[5]), [(0, &b"key"[..], Some(0x0102), true)].into_iter()).unwrap();
        store.write(changes.stage(0).into_writes(), true).unwrap();
        let stored = store.page(Column::Rows, &[], &[255; 9], 10).unwrap();
        let stored: Vec<(Vec<u8>, Vec<u8>)> =
            stored.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        let row = [1, 128, 0, 0, 0, 0, 0, 0, 5];
        let zero = [0; 8];
        assert_eq!(
            stored,
            [
                (
                    [&[0, 0, 0, 7, 0][..], b"key", &time, &zero].concat(),
                    [&checksum(&row).to_be_bytes()[..], &row].concat()
                ),
                ([&[0, 0, 0, 7, 2][..], &time, &zero].concat(), [&[1, 0, 0, 0, 13][..], b"key"].concat()),
            ]
        );
    }

    #[test]
    fn rows_are_found_by_key_and_time_in_pieces_and_go_with_their_time() {
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
        let table = open(&store);
        let mut changes = table.changes();
        let keys: [&[u8]; 3] = [b"a", b"b", b"c"];
        let values: Vec<i64> = (0..30).collect();
        let kept = values.iter().map(|v| (*v as usize, keys[*v as usize % 3], Some(*v), false));
        changes.keep(0, &rows(&values), kept).unwrap();
        store.write(changes.stage(0).into_writes(), true).unwrap();

        let table = open(&store);
        let ranges = vec![table.range_of(0, b"a", Some(6), Some(15)), table.range_of(0, b"c", None, None)];
        let mut ranges = Ranges::of(ranges);
        let mut found = Vec::new();
        while !ranges.is_empty() {
            let page = table.find(0, &mut ranges, 3).unwrap();
            found.extend(page.ids.iter().zip(&page.ranges).map(|(id, range)| (*range, id.time.unwrap())));
        }
        let expected = [6, 9, 12, 15].map(|time| (0, time)).into_iter().chain((0..10).map(|at| (1, 2 + 3 * at)));
        assert_eq!(found, expected.collect::<Vec<_>>());

        let mut changes = table.changes();
        let (mut from, mut ended) = (None, 0);
        loop {
            let page = table.ended(0, 20, from, 4).unwrap();
            let at: Vec<(&[u8], RowId)> = page.keys.iter().map(Vec::as_slice).zip(page.ids.iter().copied()).collect();
            assert_eq!(table.rows_at(0, &at).unwrap().num_rows(), at.len());
            ended += at.len();
            at.iter().for_each(|(key, id)| changes.remove_row(0, key, *id));
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        assert_eq!(ended, 21);
        changes.end(0, 20);
        store.write(changes.stage(1).into_writes(), true).unwrap();
        let size = JoinTable::stored_sizes(store.as_ref(), 7).unwrap()[0];
        assert_eq!((size.rows, store.page(Column::Rows, &[], &[255; 9], 100).unwrap().iter().count()), (9, 18));
        let left = open(&store);
        assert_eq!(left.ended(0, i64::MAX, None, 100).unwrap().ids.len(), 9);
    }
}
