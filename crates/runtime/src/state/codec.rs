//! How keyed state becomes bytes: row keys, row values, blocks of changes, schemas. The layouts are state format 1;
//! `docs/checkpoint-format.md` draws them.
//!
//! A row key is `operator (u32) | hash bucket (u16) | arrow-row of the grouping columns`, big endian, so that one
//! operator and one bucket are ranges. Of state format 2, where an event time is among the grouping columns, it is
//! `operator (u32) | event time (u64) | arrow-row`, so that what a watermark ends is a range. A row value is `checksum (u32) | arrow-row of the state columns`. A block is
//! `kind (u8) | checksum (u64) | Arrow IPC stream` and holds any number of rows.

use std::io::Cursor;
use std::sync::Arc;

use alluvium_parser::Diagnostic;
use alluvium_planner::functions::canonical;
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow::util::display::array_value_to_string;
use arrow_row::{RowConverter, Rows, SortField};

use super::Damage;
use super::event_time::{ordered, time_at, times_of};
use super::hash::hash64;
use super::hot::{bytes_of, compact};
use crate::error::{Error, Result};

/// Version of every layout in this file and of the hash; stored with each operator.
pub(super) const STATE_FORMAT: &str = "1";
/// The same where rows are forgotten by their time: other row keys, and blocks of evictions.
pub(super) const STATE_FORMAT_TIMED: &str = "2";

/// The format of state whose rows are forgotten by the time in column `time`.
pub(super) fn format_of(time: Option<usize>) -> &'static str {
    if time.is_some() { STATE_FORMAT_TIMED } else { STATE_FORMAT }
}

const OPERATOR_BYTES: usize = 4;
/// Operator and hash bucket.
const KEY_PREFIX: usize = 6;
/// Operator and event time.
const TIMED_KEY_PREFIX: usize = 12;
const VALUE_PREFIX: usize = 4;
const BLOCK_PREFIX: usize = 9;

/// What a block of the log says about its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockKind {
    /// Keys and their new state columns.
    Set = 0,
    /// Keys that are no more.
    Removed = 1,
    /// Rows up to an instant are no more.
    Evicted = 2,
}

/// Translates rows of one operator.
pub(super) struct RowCodec {
    operator: u32,
    schema: SchemaRef,
    keys: usize,
    /// The key column that row keys begin with.
    time: Option<usize>,
    key_rows: Option<RowConverter>,
    value_rows: Option<RowConverter>,
}

impl RowCodec {
    /// For rows of `schema`, whose first `keys` columns are the key. `time`: the column that tells a row's time; row
    /// keys begin with it when it is one of the key's.
    pub(super) fn new(operator: u32, schema: SchemaRef, keys: usize, time: Option<usize>) -> Result<RowCodec> {
        let time = time.filter(|time| *time < keys);
        let converter = |fields: &[Arc<Field>]| -> Result<Option<RowConverter>> {
            if fields.is_empty() {
                return Ok(None);
            }
            let fields: Vec<_> = fields.iter().map(|field| SortField::new(field.data_type().clone())).collect();
            Ok(Some(RowConverter::new(fields)?))
        };
        let key_rows = converter(&schema.fields()[..keys])?;
        let value_rows = converter(&schema.fields()[keys..])?;
        Ok(RowCodec { operator, schema, keys, time, key_rows, value_rows })
    }

    /// Row keys of key columns of `rows` rows.
    pub(super) fn keys(&self, columns: &[ArrayRef], rows: usize) -> Result<RowBytes> {
        let encoded = encode(self.key_rows.as_ref(), columns)?;
        let mut keys = RowBytes { bytes: Vec::with_capacity(rows * (KEY_PREFIX + 16)), ends: Vec::with_capacity(rows) };
        let times = match self.time.and_then(|time| columns.get(time)) {
            Some(column) => Some(times_of(column)?),
            None => None,
        };
        for i in 0..rows {
            let row = encoded.as_ref().map_or(&[][..], |rows| rows.row(i).data());
            keys.bytes.extend_from_slice(&self.operator.to_be_bytes());
            match &times {
                Some(times) => keys.bytes.extend_from_slice(&ordered(time_at(times, i))),
                None => keys.bytes.extend_from_slice(&(hash64(row) as u16).to_be_bytes()),
            }
            keys.bytes.extend_from_slice(row);
            keys.ends.push(keys.bytes.len());
        }
        Ok(keys)
    }

    /// Row values of state columns, with their checksums.
    pub(super) fn values(&self, columns: &[ArrayRef], rows: usize) -> Result<RowBytes> {
        let encoded = encode(self.value_rows.as_ref(), columns)?;
        let mut values =
            RowBytes { bytes: Vec::with_capacity(rows * (VALUE_PREFIX + 16)), ends: Vec::with_capacity(rows) };
        for i in 0..rows {
            let row = encoded.as_ref().map_or(&[][..], |rows| rows.row(i).data());
            values.bytes.extend_from_slice(&(hash64(row) as u32).to_le_bytes());
            values.bytes.extend_from_slice(row);
            values.ends.push(values.bytes.len());
        }
        Ok(values)
    }

    /// Key columns of row keys.
    pub(super) fn decode_keys<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        decode(
            self.key_rows.as_ref(),
            keys.map(|key| &key[self.prefix().min(key.len())..]),
            &self.schema.fields()[..self.keys],
        )
    }

    /// Bytes of a row key in front of the key columns.
    fn prefix(&self) -> usize {
        if self.time.is_some() { TIMED_KEY_PREFIX } else { KEY_PREFIX }
    }

    /// State columns of row values; `keys` are their row keys, for messages.
    pub(super) fn decode_values<'a>(&self, rows: &[(&'a [u8], &'a [u8])]) -> Result<Vec<ArrayRef>> {
        if let Some((key, _)) = rows.iter().find(|(_, value)| !is_whole(value)) {
            return Err(corrupt(self.operator, &self.place_of_row(key)));
        }
        let values = rows.iter().map(|(_, value)| &value[VALUE_PREFIX..]);
        decode(self.value_rows.as_ref(), values, &self.schema.fields()[self.keys..])
    }

    /// Leaves out the rows whose value is damaged, and notes them.
    pub(super) fn retain_whole(&self, rows: &mut Vec<(&[u8], &[u8])>, damage: &Damage) {
        rows.retain(|(key, value)| {
            let whole = is_whole(value);
            if !whole {
                damage.note(self.place_of_row(key));
            }
            whole
        });
    }

    /// How messages name a row.
    fn place_of_row(&self, key: &[u8]) -> String {
        format!("the value of key {}", self.describe(key))
    }

    /// A row key as its columns' values, for messages.
    fn describe(&self, key: &[u8]) -> String {
        let hex = || key.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        // A key whose bucket still fits its bytes is safe to decode; one that begins with a time is tried.
        let Some((prefix, row)) = key.split_at_checked(KEY_PREFIX) else { return hex() };
        if self.time.is_none() && prefix[4..] != (hash64(row) as u16).to_be_bytes() {
            return hex();
        }
        let decode = || self.decode_keys(std::iter::once(key));
        let Ok(Ok(columns)) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(decode)) else { return hex() };
        let parts: Vec<String> = (self.schema.fields().iter().zip(&columns))
            .map(|(field, column)| match array_value_to_string(column, 0) {
                Ok(text) if !column.is_null(0) => format!("{} = {text}", field.name()),
                _ => format!("{} = NULL", field.name()),
            })
            .collect();
        format!("({})", parts.join(", "))
    }
}

/// Whether a row value is as it was written.
fn is_whole(value: &[u8]) -> bool {
    let parts = value.split_first_chunk::<VALUE_PREFIX>();
    parts.is_some_and(|(sum, row)| u32::from_le_bytes(*sum) == hash64(row) as u32)
}

fn encode(converter: Option<&RowConverter>, columns: &[ArrayRef]) -> Result<Option<Rows>> {
    Ok(converter.map(|converter| converter.convert_columns(columns)).transpose()?)
}

fn decode<'a>(
    converter: Option<&RowConverter>,
    rows: impl Iterator<Item = &'a [u8]>,
    fields: &[Arc<Field>],
) -> Result<Vec<ArrayRef>> {
    let Some(converter) = converter else { return Ok(Vec::new()) };
    let parser = converter.parser();
    let rows: Vec<&[u8]> = rows.collect();
    let columns = converter.convert_rows(rows.iter().map(|row| parser.parse(row)))?;
    // Dictionaries come back as plain values.
    let typed = columns.into_iter().zip(fields).map(|(column, field)| match column.data_type() == field.data_type() {
        true => Ok(column),
        false => arrow::compute::cast(&column, field.data_type()),
    });
    Ok(typed.collect::<Result<_, _>>()?)
}

/// Row keys, or values, in one allocation.
#[derive(Default)]
pub(super) struct RowBytes {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl RowBytes {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn get(&self, i: usize) -> &[u8] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.bytes[start..self.ends[i]]
    }

    /// The first bytes of an entry behind its operator, as a number of the same order.
    pub(super) fn beginning(&self, i: usize) -> u64 {
        let key = self.get(i).get(OPERATOR_BYTES..).unwrap_or_default();
        let mut first = [0; 8];
        let length = key.len().min(first.len());
        first[..length].copy_from_slice(&key[..length]);
        u64::from_be_bytes(first)
    }

    /// Positions in key order.
    pub(super) fn sorted(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.len() as u32).collect();
        order.sort_unstable_by(|a, b| self.get(*a as usize).cmp(self.get(*b as usize)));
        order
    }

    pub(super) fn append(&mut self, other: &RowBytes) {
        let base = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.ends.extend(other.ends.iter().map(|end| base + end));
    }
}

/// All row keys of an operator: first, and first behind.
pub(super) fn operator_range(operator: u32) -> (Vec<u8>, Vec<u8>) {
    let first = operator.to_be_bytes().to_vec();
    let end = super::prefix_end(&first);
    (first, end)
}

/// The key of a block of the log.
pub(super) fn block_key(operator: u32, epoch: u64, sequence: u32) -> Vec<u8> {
    [&operator.to_be_bytes()[..], &epoch.to_be_bytes(), &sequence.to_be_bytes()].concat()
}

/// Epoch and sequence of a block.
pub(super) fn parse_block_key(key: &[u8]) -> Option<(u64, u32)> {
    let (epoch, rest) = key.get(4..)?.split_first_chunk()?;
    Some((u64::from_be_bytes(*epoch), u32::from_be_bytes(*rest.first_chunk()?)))
}

/// Bytes of rows in a block, about: one that is read, copied or compacted is in memory as a whole.
const BLOCK_BYTES: usize = 1 << 20;

/// Rows in pieces, each for a block of its own.
pub(super) fn pieces_of(rows: &RecordBatch) -> impl Iterator<Item = RecordBatch> {
    let (all, bytes) = (rows.num_rows(), bytes_of(rows));
    // A slice of these has the texts of all rows.
    let whole =
        bytes <= BLOCK_BYTES || rows.schema_ref().fields().iter().any(|field| has_views(field.data_type(), false));
    let rows_of_piece = if whole { all } else { (all as u128 * BLOCK_BYTES as u128 / bytes as u128) as usize };
    let step = rows_of_piece.max(1);
    (0..all).step_by(step).map(move |at| match step >= all {
        true => rows.clone(),
        false => compact(&rows.slice(at, step.min(all - at))),
    })
}

/// Whether a type has views in its parts.
fn has_views(of: &DataType, inside: bool) -> bool {
    let part = |field: &Arc<Field>| has_views(field.data_type(), true);
    match of {
        DataType::Utf8View | DataType::BinaryView => inside,
        DataType::Struct(fields) => fields.iter().any(part),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => part(item),
        DataType::ListView(_) | DataType::LargeListView(_) | DataType::Union(..) | DataType::RunEndEncoded(..) => true,
        DataType::Dictionary(_, values) => has_views(values, true),
        _ => false,
    }
}

/// Bytes of a block.
pub(super) fn encode_block(kind: BlockKind, rows: &RecordBatch) -> Result<Vec<u8>> {
    let mut block = Vec::with_capacity(bytes_of(rows) + 1024);
    block.push(kind as u8);
    block.extend_from_slice(&[0; BLOCK_PREFIX - 1]);
    let mut writer = StreamWriter::try_new(block, rows.schema_ref())?;
    writer.write(rows)?;
    let mut block = writer.into_inner()?;
    let checksum = hash64(&block[BLOCK_PREFIX..]);
    block[1..BLOCK_PREFIX].copy_from_slice(&checksum.to_le_bytes());
    Ok(block)
}

/// Rows of a block in the operator's own schema.
pub(super) fn decode_block(
    operator: u32,
    key: &[u8],
    block: &[u8],
    schema: &SchemaRef,
) -> Result<(BlockKind, RecordBatch)> {
    let damaged = || corrupt(operator, &place_of_block(key));
    let (head, payload) = block.split_at_checked(BLOCK_PREFIX).ok_or_else(damaged)?;
    if head[1..] != hash64(payload).to_le_bytes() {
        return Err(damaged());
    }
    rows_of_block(operator, key, head, payload, schema)
}

/// How messages name a block.
pub(super) fn place_of_block(key: &[u8]) -> String {
    match parse_block_key(key) {
        Some((epoch, sequence)) => format!("block {sequence} of epoch {epoch}"),
        None => "a block".to_string(),
    }
}

/// What a block says whose checksum does not hold, as far as it can be read; to be compared, never to be gone on with.
pub(super) fn salvage_block(
    operator: u32,
    key: &[u8],
    block: &[u8],
    schema: &SchemaRef,
) -> Option<(BlockKind, RecordBatch)> {
    let (head, payload) = block.split_at_checked(BLOCK_PREFIX)?;
    // Arrow checks what it reads; that it never panics on bytes that were changed, it does not promise.
    let read = || rows_of_block(operator, key, head, payload, schema);
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)).ok()?.ok()
}

fn rows_of_block(
    operator: u32,
    key: &[u8],
    head: &[u8],
    payload: &[u8],
    schema: &SchemaRef,
) -> Result<(BlockKind, RecordBatch)> {
    let damaged = || corrupt(operator, &place_of_block(key));
    let kind = match head[0] {
        0 => BlockKind::Set,
        1 => BlockKind::Removed,
        2 => BlockKind::Evicted,
        _ => return Err(damaged()),
    };
    let mut reader = StreamReader::try_new(Cursor::new(payload), None).map_err(|_| damaged())?;
    let batch = reader.next().ok_or_else(damaged)?.map_err(|_| damaged())?;
    let schema = match kind {
        BlockKind::Set => schema.clone(),
        BlockKind::Evicted => instant_schema(),
        BlockKind::Removed => {
            Arc::new(Schema::new(schema.fields()[..batch.num_columns().min(schema.fields().len())].to_vec()))
        }
    };
    Ok((kind, batch_of(schema, batch.columns().to_vec(), batch.num_rows()).map_err(|_| damaged())?))
}

fn instant_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("until_us", DataType::Int64, false)]))
}

/// The rows of a block of an eviction: its instant.
pub(super) fn instant(until_us: i64) -> Result<RecordBatch> {
    batch_of(instant_schema(), vec![Arc::new(Int64Array::from(vec![until_us]))], 1)
}

/// The instant of a block of an eviction.
pub(super) fn instant_of(operator: u32, rows: &RecordBatch) -> Result<i64> {
    let times = rows.columns().first().and_then(|column| column.as_primitive_opt::<Int64Type>());
    let time = times.filter(|times| times.len() == 1 && times.is_valid(0)).map(|times| times.value(0));
    time.ok_or_else(|| corrupt(operator, "the instant of an eviction"))
}

/// A batch, also of no columns.
pub fn batch_of(schema: SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}

/// What is pinned in the checkpoint for an operator's schema.
pub(super) fn encode_schema(schema: &Schema) -> Result<Vec<u8>> {
    Ok(StreamWriter::try_new(Vec::new(), schema)?.into_inner()?)
}

/// The schema that was pinned.
pub(super) fn decode_schema(operator: u32, bytes: &[u8]) -> Result<SchemaRef> {
    let reader = StreamReader::try_new(Cursor::new(bytes), None).map_err(|_| corrupt(operator, "its schema"))?;
    Ok(reader.schema())
}

/// State that cannot be read back.
pub(crate) fn corrupt(operator: u32, what: &str) -> Error {
    Error::Environment(Box::new(
        Diagnostic::new("STATE_CORRUPT", format!("the state of operator {operator} is damaged: {what} cannot be read"))
            .help("restore checkpoint and table from a backup, or start over: REFRESH TABLE … FULL"),
    ))
}

/// Key columns with one representation per value that GROUP BY calls equal ([`alluvium_planner::functions::canonical`]).
pub fn canonical_keys(columns: &[ArrayRef]) -> Vec<ArrayRef> {
    columns.iter().map(canonical).collect()
}
