//! A stripe's columns as Arrow arrays.
//!
//! Streams hold the values that are there; which rows those belong to is told by a stream of bits. So each column is
//! decoded without NULLs first and spread over its rows then.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, ListArray, MapArray, StringArray, StructArray, TimestampMicrosecondArray,
    new_null_array,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use chrono::{Offset, TimeZone};
use chrono_tz::Tz;

use super::proto::{Encoding, Kind, Stream, StripeFooter, Type};
use super::rle::{self, Reader};
use crate::typed::compression::Codec;

/// Seconds from 1970 to 2015, from where timestamps count.
const EPOCH_2015: i64 = 1_420_070_400;

/// The type of the column at `id`.
pub(super) fn data_type(types: &[Type], id: usize) -> Result<DataType, String> {
    let found = types.get(id).ok_or_else(|| format!("there is no column {id}"))?;
    let child = |at: usize| {
        let id = found.children.get(at).ok_or("a nested column has no children")?;
        data_type(types, *id)
    };
    Ok(match found.kind {
        Kind::Boolean => DataType::Boolean,
        Kind::Byte => DataType::Int8,
        Kind::Short => DataType::Int16,
        Kind::Int => DataType::Int32,
        Kind::Long => DataType::Int64,
        Kind::Float => DataType::Float32,
        Kind::Double => DataType::Float64,
        Kind::Text => DataType::Utf8,
        Kind::Binary => DataType::Binary,
        Kind::Timestamp | Kind::Instant => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Kind::Date => DataType::Date32,
        Kind::Decimal => {
            let (precision, scale) = decimal(found)?;
            DataType::Decimal128(precision, scale)
        }
        Kind::List => DataType::List(Arc::new(Field::new("element", child(0)?, true))),
        Kind::Map => {
            let pair = vec![Field::new("key", child(0)?, false), Field::new("value", child(1)?, true)];
            DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(pair.into()), false)), false)
        }
        Kind::Struct => {
            let fields = found.names.iter().enumerate().map(|(at, name)| Ok(Field::new(name, child(at)?, true)));
            DataType::Struct(fields.collect::<Result<Vec<_>, String>>()?.into())
        }
        Kind::Union => {
            let count = found.children.len();
            let fields = (0..count).map(|at| Ok(Field::new(format!("member{at}"), child(at)?, true)));
            DataType::Struct(fields.collect::<Result<Vec<_>, String>>()?.into())
        }
    })
}

/// Precision and scale; files of Hive 0.11 have neither, and up to 18 digits behind the point.
fn decimal(found: &Type) -> Result<(u8, i8), String> {
    match (found.precision, found.scale) {
        (0, 0) => Ok((38, 18)),
        (precision @ 1..=38, scale) if scale <= precision => Ok((precision as u8, scale as i8)),
        (precision, scale) => Err(format!("there is no DECIMAL({precision}, {scale})")),
    }
}

/// Which columns must be read for the `wanted` ones: those, and what is inside them.
pub(super) fn needed(types: &[Type], wanted: &[usize]) -> Vec<bool> {
    let mut needed = vec![false; types.len()];
    let mut open = wanted.to_vec();
    while let Some(id) = open.pop() {
        if let (Some(flag), Some(found)) = (needed.get_mut(id), types.get(id)) {
            *flag = true;
            open.extend(&found.children);
        }
    }
    needed
}

/// The streams of one stripe.
pub(super) struct Stripe<'f> {
    types: &'f [Type],
    encodings: &'f [Encoding],
    codec: &'f Codec,
    zone: Tz,
    streams: HashMap<(usize, u64), Vec<u8>>,
}

impl<'f> Stripe<'f> {
    pub fn new(types: &'f [Type], footer: &'f StripeFooter, codec: &'f Codec) -> Result<Stripe<'f>, String> {
        let zone = match footer.zone.as_str() {
            "" => Tz::UTC,
            name => name.parse().map_err(|_| format!("its writer's time zone `{name}` is not known"))?,
        };
        Ok(Stripe { types, encodings: &footer.encodings, codec, zone, streams: HashMap::new() })
    }

    /// Adds a stream as it is in the file.
    pub fn put(&mut self, stream: &Stream, bytes: Vec<u8>) {
        self.streams.insert((stream.column, stream.kind), bytes);
    }

    /// A stream's bytes, decompressed; none if the stripe does not have it.
    fn stream(&mut self, id: usize, kind: u64) -> Result<Option<Vec<u8>>, String> {
        match self.streams.remove(&(id, kind)) {
            Some(bytes) => self.codec.decompress(&bytes).map(Some),
            None => Ok(None),
        }
    }

    /// A stream that may be left out only where it has no values.
    fn needed(&mut self, id: usize, kind: u64) -> Result<Vec<u8>, String> {
        Ok(self.stream(id, kind)?.unwrap_or_default())
    }

    fn encoding(&self, id: usize) -> Encoding {
        self.encodings.get(id).copied().unwrap_or_default()
    }

    fn integers(&mut self, id: usize, kind: u64, count: usize, signed: bool) -> Result<Vec<i64>, String> {
        let second = self.encoding(id).second;
        rle::integers(&self.needed(id, kind)?, count, signed, second)
    }
}

/// The column at `id` over `rows` rows.
pub(super) fn column(stripe: &mut Stripe<'_>, id: usize, rows: usize) -> Result<ArrayRef, String> {
    let present = match stripe.stream(id, Stream::PRESENT)? {
        Some(stream) => Some(rle::bits(&stream, rows)?),
        None => None,
    };
    let count = present.as_ref().map_or(rows, |bits| bits.iter().filter(|bit| **bit).count());
    if count == 0 && rows > 0 {
        return Ok(new_null_array(&data_type(stripe.types, id)?, rows));
    }
    let values = values(stripe, id, count)?;
    match present {
        Some(bits) if count < rows => spread(&values, &bits),
        _ => Ok(values),
    }
}

/// Values put into the rows that have one.
fn spread(values: &ArrayRef, present: &[bool]) -> Result<ArrayRef, String> {
    let mut next = 0;
    let mut place = |bit: &bool| {
        let place = next;
        next += i32::from(*bit);
        bit.then_some(place)
    };
    let places: Int32Array = present.iter().map(&mut place).collect();
    take(values, &places, None).map_err(|e| e.to_string())
}

/// The `count` values of a column, none of them NULL.
fn values(stripe: &mut Stripe<'_>, id: usize, count: usize) -> Result<ArrayRef, String> {
    let types = stripe.types;
    let found = types.get(id).ok_or_else(|| format!("there is no column {id}"))?;
    Ok(match found.kind {
        Kind::Boolean => Arc::new(BooleanArray::from(rle::bits(&stripe.needed(id, Stream::DATA)?, count)?)),
        Kind::Byte => {
            let bytes = rle::bytes(&stripe.needed(id, Stream::DATA)?, count)?;
            Arc::new(Int8Array::from_iter_values(bytes.into_iter().map(|byte| byte as i8)))
        }
        Kind::Short => Arc::new(Int16Array::from(narrow::<i16>(stripe, id, count)?)),
        Kind::Int => Arc::new(Int32Array::from(narrow::<i32>(stripe, id, count)?)),
        Kind::Date => Arc::new(Date32Array::from(narrow::<i32>(stripe, id, count)?)),
        Kind::Long => Arc::new(Int64Array::from(stripe.integers(id, Stream::DATA, count, true)?)),
        Kind::Float => {
            let stream = stripe.needed(id, Stream::DATA)?;
            let bytes = Reader::new(&stream).bytes(count.saturating_mul(4))?;
            let value = |b: &[u8]| b.try_into().map_or(0.0, f32::from_le_bytes);
            Arc::new(Float32Array::from_iter_values(bytes.chunks_exact(4).map(value)))
        }
        Kind::Double => {
            let stream = stripe.needed(id, Stream::DATA)?;
            let bytes = Reader::new(&stream).bytes(count.saturating_mul(8))?;
            let value = |b: &[u8]| b.try_into().map_or(0.0, f64::from_le_bytes);
            Arc::new(Float64Array::from_iter_values(bytes.chunks_exact(8).map(value)))
        }
        Kind::Text => {
            let (offsets, bytes) = texts(stripe, id, count)?;
            Arc::new(StringArray::try_new(offsets, bytes, None).map_err(|e| e.to_string())?)
        }
        Kind::Binary => {
            let (offsets, bytes) = texts(stripe, id, count)?;
            Arc::new(BinaryArray::try_new(offsets, bytes, None).map_err(|e| e.to_string())?)
        }
        Kind::Decimal => decimals(stripe, id, count, found)?,
        Kind::Timestamp | Kind::Instant => timestamps(stripe, id, count, found.kind == Kind::Instant)?,
        Kind::List => {
            let DataType::List(item) = data_type(types, id)? else { return Err("a list has elements".to_owned()) };
            let (offsets, total) = lengths(stripe, id, count)?;
            let child = column(stripe, child(found, 0)?, total)?;
            Arc::new(ListArray::try_new(item, offsets, child, None).map_err(|e| e.to_string())?)
        }
        Kind::Map => {
            let DataType::Map(entries, sorted) = data_type(types, id)? else {
                return Err("a map has entries".to_owned());
            };
            let (offsets, total) = lengths(stripe, id, count)?;
            let keys = column(stripe, child(found, 0)?, total)?;
            let values = column(stripe, child(found, 1)?, total)?;
            let DataType::Struct(pair) = entries.data_type() else { return Err("a map has entries".to_owned()) };
            let pairs = StructArray::try_new(pair.clone(), vec![keys, values], None).map_err(|e| e.to_string())?;
            Arc::new(MapArray::try_new(entries.clone(), offsets, pairs, None, sorted).map_err(|e| e.to_string())?)
        }
        Kind::Struct => {
            let children = found.children.iter().map(|&child| column(stripe, child, count));
            let children = children.collect::<Result<Vec<_>, _>>()?;
            structs(types, id, children, count)?
        }
        Kind::Union => {
            let tags = rle::bytes(&stripe.needed(id, Stream::DATA)?, count)?;
            let mut children = Vec::new();
            for (tag, &child) in found.children.iter().enumerate() {
                let mine: Vec<bool> = tags.iter().map(|&t| usize::from(t) == tag).collect();
                let total = mine.iter().filter(|mine| **mine).count();
                children.push(spread(&column(stripe, child, total)?, &mine)?);
            }
            structs(types, id, children, count)?
        }
    })
}

fn child(found: &Type, at: usize) -> Result<usize, String> {
    found.children.get(at).copied().ok_or_else(|| "a nested column has no children".to_owned())
}

fn structs(types: &[Type], id: usize, children: Vec<ArrayRef>, count: usize) -> Result<ArrayRef, String> {
    let fields: Fields = match data_type(types, id)? {
        DataType::Struct(fields) => fields,
        _ => return Err("a struct has fields".to_owned()),
    };
    let made = StructArray::try_new_with_length(fields, children, None::<NullBuffer>, count);
    Ok(Arc::new(made.map_err(|e| e.to_string())?))
}

fn narrow<N: TryFrom<i64>>(stripe: &mut Stripe<'_>, id: usize, count: usize) -> Result<Vec<N>, String> {
    let wide = stripe.integers(id, Stream::DATA, count, true)?;
    let narrow = wide.into_iter().map(N::try_from).collect::<Result<Vec<_>, _>>();
    narrow.map_err(|_| "an integer is too large for its type".to_owned())
}

/// Offsets from a stream of lengths, and their end.
fn lengths(stripe: &mut Stripe<'_>, id: usize, count: usize) -> Result<(OffsetBuffer<i32>, usize), String> {
    offsets(&stripe.integers(id, Stream::LENGTH, count, false)?)
}

fn offsets(lengths: &[i64]) -> Result<(OffsetBuffer<i32>, usize), String> {
    let mut offsets = Vec::with_capacity(lengths.len() + 1);
    let mut end = 0_i32;
    offsets.push(end);
    for &length in lengths {
        let next = i32::try_from(length).ok().filter(|length| *length >= 0).and_then(|length| end.checked_add(length));
        end = next.ok_or("values are longer than a batch can hold")?;
        offsets.push(end);
    }
    Ok((OffsetBuffer::new(ScalarBuffer::from(offsets)), end as usize))
}

/// Text or bytes, one after the other or by a dictionary.
fn texts(stripe: &mut Stripe<'_>, id: usize, count: usize) -> Result<(OffsetBuffer<i32>, Buffer), String> {
    let encoding = stripe.encoding(id);
    if !encoding.dictionary {
        let (offsets, end) = lengths(stripe, id, count)?;
        let mut bytes = stripe.needed(id, Stream::DATA)?;
        if bytes.len() < end {
            return Err("a stream ends before its values".to_owned());
        }
        bytes.truncate(end);
        return Ok((offsets, Buffer::from_vec(bytes)));
    }
    let size = usize::try_from(encoding.dictionary_size).unwrap_or(usize::MAX);
    let places = stripe.integers(id, Stream::DATA, count, false)?;
    let words = if size == 0 { Vec::new() } else { stripe.integers(id, Stream::LENGTH, size, false)? };
    let (words, end) = offsets(&words)?;
    let dictionary = stripe.needed(id, Stream::DICTIONARY)?;
    if dictionary.len() < end {
        return Err("a dictionary ends before its words".to_owned());
    }
    let mut bytes = Vec::new();
    let mut lengths = Vec::with_capacity(places.len());
    for place in places {
        let word = usize::try_from(place).ok().and_then(|at| Some((*words.get(at)?, *words.get(at.checked_add(1)?)?)));
        let (from, to) = word.ok_or("a value is not in the dictionary")?;
        let text = dictionary.get(from as usize..to as usize).ok_or("a word is outside of its dictionary")?;
        bytes.extend_from_slice(text);
        lengths.push(text.len() as i64);
        if bytes.len() > i32::MAX as usize {
            return Err("values are longer than a batch can hold".to_owned());
        }
    }
    Ok((offsets(&lengths)?.0, Buffer::from_vec(bytes)))
}

/// Decimals come with a scale each, and get that of the column.
fn decimals(stripe: &mut Stripe<'_>, id: usize, count: usize, found: &Type) -> Result<ArrayRef, String> {
    let (precision, scale) = decimal(found)?;
    let stream = stripe.needed(id, Stream::DATA)?;
    let scales = stripe.integers(id, Stream::SECONDARY, count, true)?;
    let mut reader = Reader::new(&stream);
    let mut values = Vec::with_capacity(scales.len());
    for has in scales {
        let value = reader.wide()?;
        let power = |digits: u64| u32::try_from(digits).ok().and_then(|digits| 10_i128.checked_pow(digits));
        let shift = i64::from(scale).saturating_sub(has);
        let scaled = match shift {
            0 => Some(value),
            1.. => power(shift.unsigned_abs()).and_then(|power| value.checked_mul(power)),
            _ => power(shift.unsigned_abs()).map(|power| value / power),
        };
        values.push(scaled.ok_or("a decimal is too large for its type")?);
    }
    let array = Decimal128Array::from(values).with_precision_and_scale(precision, scale).map_err(|e| e.to_string())?;
    array.validate_decimal_precision(precision).map_err(|e| e.to_string())?;
    Ok(Arc::new(array))
}

/// Seconds since 2015 in one stream, nanoseconds without their trailing zeros in the other.
fn timestamps(stripe: &mut Stripe<'_>, id: usize, count: usize, instant: bool) -> Result<ArrayRef, String> {
    let seconds = stripe.integers(id, Stream::DATA, count, true)?;
    let fractions = stripe.integers(id, Stream::SECONDARY, count, false)?;
    let zone = if instant { Tz::UTC } else { stripe.zone };
    let of_zone = |at: i64| match zone {
        Tz::UTC => Some(0),
        zone => {
            let utc = chrono::DateTime::from_timestamp(at, 0)?.naive_utc();
            Some(i64::from(zone.offset_from_utc_datetime(&utc).fix().local_minus_utc()))
        }
    };
    // 2015 began when the writer's clock said so.
    let begin = EPOCH_2015 - of_zone(EPOCH_2015).unwrap_or(0);
    let too_large = || "a timestamp is too large".to_owned();
    let mut micros = Vec::with_capacity(count);
    for (second, fraction) in seconds.into_iter().zip(fractions) {
        let zeros = fraction & 7;
        let mut nanos = fraction >> 3;
        if zeros > 0 {
            nanos = nanos.checked_mul(10_i64.pow(zeros as u32 + 1)).ok_or_else(too_large)?;
        }
        let mut at = second.checked_add(begin).ok_or_else(too_large)?;
        // Seconds of times before 1970 were rounded up by the writers.
        if at < 0 && nanos > 999_999 {
            at -= 1;
        }
        // The column shows what the writer's clock did.
        at += of_zone(at).ok_or_else(too_large)?;
        let of_second = at.checked_mul(1_000_000).ok_or_else(too_large)?;
        micros.push(of_second.checked_add(nanos.div_euclid(1000)).ok_or_else(too_large)?);
    }
    Ok(Arc::new(TimestampMicrosecondArray::from(micros).with_timezone("UTC")))
}
