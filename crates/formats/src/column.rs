//! Growable columns that can be cut back to an earlier row.
//!
//! Arrow's own builders only grow; isolating one bad record among good ones needs builders that forget. NULLs
//! are kept as a list of positions, so that a column without any pays nothing for them. This module knows no
//! format: decoders push parsed values into the vectors of [`Data`].

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array, Int16Array,
    Int32Array, Int64Array, ListArray, MapArray, NullArray, StringArray, StringBuilder, StructArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};
use arrow::error::ArrowError;

use crate::decode::DecodeError;
use crate::json::fields::FieldTable;

/// A column being built. Its length is that of its values; a NULL occupies a place there too.
#[derive(Debug)]
pub(crate) struct Column {
    pub data: Data,
    nulls: Vec<u32>,
}

/// The values, by type.
#[derive(Debug)]
pub(crate) enum Data {
    Null(usize),
    Bool(Vec<bool>),
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Decimal {
        values: Vec<i128>,
        precision: u8,
        scale: i8,
    },
    /// Days since 1970-01-01.
    Date(Vec<i32>),
    /// Microseconds since 1970-01-01 00:00, in UTC (`zone` set) or on the local clock.
    Timestamp {
        values: Vec<i64>,
        zone: Option<Arc<str>>,
    },
    Utf8(Texts),
    Struct {
        fields: Fields,
        table: FieldTable,
        children: Vec<Column>,
        len: usize,
    },
    List {
        item: FieldRef,
        child: Box<Column>,
        ends: Vec<i32>,
    },
    Map {
        entries: FieldRef,
        sorted: bool,
        keys: Texts,
        values: Box<Column>,
        ends: Vec<i32>,
    },
}

/// Strings end to end. As long as they are ASCII they are bytes, which Arrow checks fast when the batch is made; from the
/// first other one on they are a `String`, so that their UTF-8 is checked once, where they are pushed.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    ascii: Vec<u8>,
    /// All of them, if any is not ASCII.
    mixed: Option<String>,
    /// What `mixed` was in an earlier batch, for its memory.
    spare: String,
    ends: Vec<i32>,
}

impl Texts {
    /// Appends a string that is known to be ASCII; were it not, the batch would be refused.
    #[inline]
    pub fn push_ascii(&mut self, text: &[u8]) {
        match &mut self.mixed {
            None => self.ascii.extend_from_slice(text),
            Some(all) => all.push_str(&String::from_utf8_lossy(text)),
        }
        self.close();
    }

    /// Appends a string.
    pub fn push(&mut self, text: &str) {
        if self.mixed.is_none() && text.is_ascii() {
            self.ascii.extend_from_slice(text.as_bytes());
        } else {
            self.mixed().push_str(text);
        }
        self.close();
    }

    /// Appends a string whose UTF-8 is not checked yet; false, and nothing appended, if it is none.
    pub fn push_bytes(&mut self, text: &[u8]) -> bool {
        if self.mixed.is_none() && text.is_ascii() {
            self.push_ascii(text);
            return true;
        }
        let text = std::str::from_utf8(text);
        text.iter().for_each(|text| self.push(text));
        text.is_ok()
    }

    fn mixed(&mut self) -> &mut String {
        let (ascii, spare) = (&mut self.ascii, &mut self.spare);
        self.mixed.get_or_insert_with(|| {
            let mut all = std::mem::take(spare);
            all.push_str(&String::from_utf8_lossy(ascii));
            ascii.clear();
            all
        })
    }

    /// Ends a string. Batches are taken long before a column has 2³¹ bytes (`row::BATCH_BYTES_MAX`); were it otherwise,
    /// the offsets would fail Arrow's check.
    #[inline]
    fn close(&mut self) {
        self.ends.push(self.mixed.as_ref().map_or(self.ascii.len(), String::len) as i32);
    }

    /// Appends an empty string.
    pub fn push_empty(&mut self) {
        self.close();
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn truncate(&mut self, len: usize) {
        self.ends.truncate(len);
        let end = self.ends.last().map_or(0, |&end| end as usize);
        match &mut self.mixed {
            None => self.ascii.truncate(end),
            Some(all) => all.truncate(end),
        }
    }

    pub fn array(&mut self, nulls: Option<NullBuffer>) -> Result<StringArray, ArrowError> {
        let ends = take(&mut self.ends);
        let Some(mut all) = self.mixed.take() else {
            return StringArray::try_new(offsets(ends), Buffer::from_vec(take(&mut self.ascii)), nulls);
        };
        // The only way to an array that does not check all of it once more.
        let mut array = StringBuilder::with_capacity(ends.len(), all.len());
        let mut start = 0;
        for (row, end) in ends.into_iter().map(|end| end as usize).enumerate() {
            match all.get(start..end) {
                Some(text) if nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)) => array.append_value(text),
                _ => array.append_null(),
            }
            start = end;
        }
        all.clear();
        self.spare = all;
        Ok(array.finish())
    }
}

fn offsets(ends: Vec<i32>) -> OffsetBuffer<i32> {
    let mut offsets = Vec::with_capacity(ends.len() + 1);
    offsets.push(0);
    offsets.extend_from_slice(&ends);
    OffsetBuffer::new(ScalarBuffer::from(offsets))
}

impl Column {
    /// An empty column of the field's type. `path` is the dotted name for errors.
    pub fn new(field: &Field, path: &str, case_sensitive: bool, format: &'static str) -> Result<Column, DecodeError> {
        let refuse = |reason| {
            Err(DecodeError::ColumnType {
                column: path.to_owned(),
                data_type: field.data_type().to_string(),
                format,
                reason,
            })
        };
        let child = |field: &Field, name: &str| Column::new(field, &format!("{path}.{name}"), case_sensitive, format);
        let data = match field.data_type() {
            DataType::Null => Data::Null(0),
            DataType::Boolean => Data::Bool(Vec::new()),
            DataType::Int8 => Data::I8(Vec::new()),
            DataType::Int16 => Data::I16(Vec::new()),
            DataType::Int32 => Data::I32(Vec::new()),
            DataType::Int64 => Data::I64(Vec::new()),
            DataType::Float32 => Data::F32(Vec::new()),
            DataType::Float64 => Data::F64(Vec::new()),
            DataType::Decimal128(precision, scale) => {
                Data::Decimal { values: Vec::new(), precision: *precision, scale: *scale }
            }
            DataType::Date32 => Data::Date(Vec::new()),
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                Data::Timestamp { values: Vec::new(), zone: zone.clone() }
            }
            DataType::Utf8 => Data::Utf8(Texts::default()),
            DataType::Struct(fields) => Data::Struct {
                fields: fields.clone(),
                table: FieldTable::new(fields.iter().map(|f| f.name().as_str()), case_sensitive),
                children: fields.iter().map(|f| child(f, f.name())).collect::<Result<_, _>>()?,
                len: 0,
            },
            DataType::List(item) => {
                Data::List { item: item.clone(), child: Box::new(child(item, "element")?), ends: Vec::new() }
            }
            DataType::Map(entries, sorted) => {
                let DataType::Struct(pair) = entries.data_type() else { return refuse("a map has entries") };
                let [key, value] = pair.as_ref() else { return refuse("a map has keys and values") };
                if key.data_type() != &DataType::Utf8 {
                    return refuse("keys of a map must be STRING");
                }
                Data::Map {
                    entries: entries.clone(),
                    sorted: *sorted,
                    keys: Texts::default(),
                    values: Box::new(child(value, "value")?),
                    ends: Vec::new(),
                }
            }
            DataType::Timestamp(_, _) => return refuse("timestamps have microseconds"),
            DataType::Binary => return refuse("binary values have no text form here; read STRING and decode it"),
            _ => return refuse("no reader for this type"),
        };
        Ok(Column { data, nulls: Vec::new() })
    }

    /// Values so far, NULLs included.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.data {
            Data::Null(len) | Data::Struct { len, .. } => *len,
            Data::Bool(values) => values.len(),
            Data::I8(values) => values.len(),
            Data::I16(values) => values.len(),
            Data::I32(values) | Data::Date(values) => values.len(),
            Data::I64(values) | Data::Timestamp { values, .. } => values.len(),
            Data::F32(values) => values.len(),
            Data::F64(values) => values.len(),
            Data::Decimal { values, .. } => values.len(),
            Data::Utf8(texts) => texts.len(),
            Data::List { ends, .. } | Data::Map { ends, .. } => ends.len(),
        }
    }

    /// Appends a NULL if the column has no value at place `row`, which is its last or the next.
    #[inline]
    pub fn fill_to(&mut self, row: usize) {
        if self.len() == row {
            self.push_null();
        }
    }

    /// Appends a NULL.
    pub fn push_null(&mut self) {
        fn next<T: Default>(values: &mut Vec<T>) -> usize {
            values.push(T::default());
            values.len()
        }
        let len = match &mut self.data {
            Data::Null(len) => {
                *len += 1;
                *len
            }
            Data::Bool(values) => next(values),
            Data::I8(values) => next(values),
            Data::I16(values) => next(values),
            Data::I32(values) | Data::Date(values) => next(values),
            Data::I64(values) | Data::Timestamp { values, .. } => next(values),
            Data::F32(values) => next(values),
            Data::F64(values) => next(values),
            Data::Decimal { values, .. } => next(values),
            Data::Utf8(texts) => {
                texts.push_empty();
                texts.len()
            }
            Data::Struct { children, len, .. } => {
                children.iter_mut().for_each(Column::push_null);
                *len += 1;
                *len
            }
            Data::List { child, ends, .. } => {
                ends.push(child.len() as i32);
                ends.len()
            }
            Data::Map { keys, ends, .. } => {
                ends.push(keys.len() as i32);
                ends.len()
            }
        };
        self.nulls.push((len - 1) as u32);
    }

    /// Ends an array or a map: what was appended to its child since the last one is in it.
    pub fn close_list(&mut self) {
        match &mut self.data {
            Data::List { child, ends, .. } => ends.push(child.len() as i32),
            Data::Map { keys, ends, .. } => ends.push(keys.len() as i32),
            _ => {}
        }
    }

    /// Forgets everything from place `len` on, half-built nested values included.
    pub fn truncate(&mut self, len: usize) {
        while self.nulls.last().is_some_and(|&row| row as usize >= len) {
            self.nulls.pop();
        }
        match &mut self.data {
            Data::Null(rows) => *rows = len.min(*rows),
            Data::Bool(values) => values.truncate(len),
            Data::I8(values) => values.truncate(len),
            Data::I16(values) => values.truncate(len),
            Data::I32(values) | Data::Date(values) => values.truncate(len),
            Data::I64(values) | Data::Timestamp { values, .. } => values.truncate(len),
            Data::F32(values) => values.truncate(len),
            Data::F64(values) => values.truncate(len),
            Data::Decimal { values, .. } => values.truncate(len),
            Data::Utf8(texts) => texts.truncate(len),
            Data::Struct { children, len: rows, .. } => {
                children.iter_mut().for_each(|child| child.truncate(len));
                *rows = len.min(*rows);
            }
            Data::List { child, ends, .. } => {
                ends.truncate(len);
                child.truncate(ends.last().map_or(0, |&end| end as usize));
            }
            Data::Map { keys, values, ends, .. } => {
                ends.truncate(len);
                let pairs = ends.last().map_or(0, |&end| end as usize);
                keys.truncate(pairs);
                values.truncate(pairs);
            }
        }
    }

    /// Takes the values as an array; the column is empty afterwards and keeps about its capacity.
    pub fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let len = self.len();
        let nulls = self.take_nulls(len);
        Ok(match &mut self.data {
            Data::Null(len) => Arc::new(NullArray::new(std::mem::take(len))),
            Data::Bool(values) => Arc::new(BooleanArray::new(BooleanBuffer::from(take(values)), nulls)),
            Data::I8(values) => Arc::new(Int8Array::try_new(take(values).into(), nulls)?),
            Data::I16(values) => Arc::new(Int16Array::try_new(take(values).into(), nulls)?),
            Data::I32(values) => Arc::new(Int32Array::try_new(take(values).into(), nulls)?),
            Data::I64(values) => Arc::new(Int64Array::try_new(take(values).into(), nulls)?),
            Data::F32(values) => Arc::new(Float32Array::try_new(take(values).into(), nulls)?),
            Data::F64(values) => Arc::new(Float64Array::try_new(take(values).into(), nulls)?),
            Data::Decimal { values, precision, scale } => Arc::new(
                Decimal128Array::try_new(take(values).into(), nulls)?.with_precision_and_scale(*precision, *scale)?,
            ),
            Data::Date(values) => Arc::new(Date32Array::try_new(take(values).into(), nulls)?),
            Data::Timestamp { values, zone } => Arc::new(
                TimestampMicrosecondArray::try_new(take(values).into(), nulls)?.with_timezone_opt(zone.clone()),
            ),
            Data::Utf8(texts) => Arc::new(texts.array(nulls)?),
            Data::Struct { fields, children, len: rows, .. } => {
                let arrays = children.iter_mut().map(Column::finish).collect::<Result<Vec<_>, _>>()?;
                *rows = 0;
                Arc::new(StructArray::try_new_with_length(fields.clone(), arrays, nulls, len)?)
            }
            Data::List { item, child, ends } => {
                Arc::new(ListArray::try_new(item.clone(), offsets(take(ends)), child.finish()?, nulls)?)
            }
            Data::Map { entries, sorted, keys, values, ends } => {
                let DataType::Struct(pair) = entries.data_type() else {
                    return Err(ArrowError::SchemaError("a map's entries are structs".to_owned()));
                };
                let keys: ArrayRef = Arc::new(keys.array(None)?);
                let pairs = StructArray::try_new(pair.clone(), vec![keys, values.finish()?], None)?;
                Arc::new(MapArray::try_new(entries.clone(), offsets(take(ends)), pairs, nulls, *sorted)?)
            }
        })
    }

    fn take_nulls(&mut self, len: usize) -> Option<NullBuffer> {
        if self.nulls.is_empty() || matches!(self.data, Data::Null(_)) {
            self.nulls.clear();
            return None;
        }
        let mut bits = vec![0xFF_u8; len.div_ceil(8)];
        for row in self.nulls.drain(..) {
            bits[row as usize / 8] &= !(1 << (row % 8));
        }
        Some(NullBuffer::new(BooleanBuffer::new(Buffer::from_vec(bits), 0, len)))
    }
}

/// The vector's content; in its place an empty one of the same length's capacity, since batches are alike.
fn take<T>(values: &mut Vec<T>) -> Vec<T> {
    let capacity = values.len();
    std::mem::replace(values, Vec::with_capacity(capacity))
}
