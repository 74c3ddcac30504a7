//! From the types that files have to those that tables have: no unsigned numbers, dictionaries, views or unions.
//!
//! Spark's reading decides: enumerations and UUIDs are STRING, times of day are numbers, a union is a struct with one
//! field per alternative (`member0`, `member1`, …), timestamps have microseconds.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeBinaryArray, Int32Array, ListArray, MapArray, StringArray, StructArray,
    TimestampNanosecondArray, UnionArray, make_array, new_null_array,
};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{CastOptions, cast_with_options, is_not_null, take};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// The type of the column that holds the values of `field`.
pub(super) fn plain_type(field: &Field) -> DataType {
    if field.metadata().get("ARROW:extension:name").is_some_and(|name| name == "arrow.uuid")
        || field.metadata().get("logicalType").is_some_and(|name| name == "uuid")
    {
        return DataType::Utf8;
    }
    of_type(field.data_type())
}

fn of_type(data_type: &DataType) -> DataType {
    let element = |item: &FieldRef| DataType::List(Arc::new(Field::new("element", plain_type(item), true)));
    match data_type {
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 => DataType::Float32,
        DataType::LargeUtf8 | DataType::Utf8View | DataType::Interval(_) => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Date64 => DataType::Date32,
        DataType::Time32(_) => DataType::Int32,
        DataType::Time64(_) | DataType::Duration(_) => DataType::Int64,
        DataType::Timestamp(_, None) => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Timestamp(_, Some(_)) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) => DataType::Decimal128(*p, *s),
        DataType::Decimal256(p, s) if *p <= 38 => DataType::Decimal128(*p, *s),
        DataType::Decimal256(_, _) => DataType::Utf8,
        DataType::Dictionary(_, value) => of_type(value),
        DataType::RunEndEncoded(_, values) => plain_type(values),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => element(item),
        DataType::Struct(fields) => DataType::Struct(plain_fields(fields)),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => {
                let pair = Fields::from(vec![
                    Field::new("key", plain_type(&pair[0]), false),
                    Field::new("value", plain_type(&pair[1]), true),
                ]);
                DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(pair), false)), false)
            }
            _ => data_type.clone(),
        },
        DataType::Union(fields, _) => {
            let members = fields.iter().filter(|(_, field)| field.data_type() != &DataType::Null);
            let types: Vec<DataType> = members.map(|(_, field)| plain_type(field)).collect();
            if let Some(single) = one_type(&types) {
                return single;
            }
            let member = |(place, data_type)| Field::new(format!("member{place}"), data_type, true);
            DataType::Struct(types.into_iter().enumerate().map(member).collect::<Vec<_>>().into())
        }
        other => other.clone(),
    }
}

/// The one type that all alternatives of a union go into without a struct: their only one, or the wider of two numbers.
fn one_type(types: &[DataType]) -> Option<DataType> {
    match types {
        [one] => Some(one.clone()),
        [DataType::Int32, DataType::Int64] | [DataType::Int64, DataType::Int32] => Some(DataType::Int64),
        [DataType::Float32, DataType::Float64] | [DataType::Float64, DataType::Float32] => Some(DataType::Float64),
        _ => None,
    }
}

fn plain_fields(fields: &Fields) -> Fields {
    fields.iter().map(|field| Field::new(field.name(), plain_type(field), true)).collect::<Vec<_>>().into()
}

/// The type with STRING in place of the type of nothing, which no table has.
pub(super) fn without_null(data_type: &DataType) -> DataType {
    let inner = |field: &FieldRef| Arc::new(field.as_ref().clone().with_data_type(without_null(field.data_type())));
    match data_type {
        DataType::Null => DataType::Utf8,
        DataType::List(item) => DataType::List(inner(item)),
        DataType::Map(entries, sorted) => DataType::Map(inner(entries), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner).collect::<Vec<_>>().into()),
        other => other.clone(),
    }
}

/// The values in the type that [`plain_type`] tells for `field`, whose array this is.
pub(super) fn to_plain(field: &Field, array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let target = plain_type(field);
    if array.data_type() == &target {
        return Ok(array.clone());
    }
    match (array.data_type(), &target) {
        (DataType::FixedSizeBinary(16), DataType::Utf8) => Ok(uuids(array.as_fixed_size_binary())),
        (DataType::Union(_, _), _) => union(array.as_union(), &target),
        (DataType::Struct(fields), DataType::Struct(wanted)) => {
            let source = array.as_struct();
            let children = fields.iter().zip(source.columns()).map(|(field, child)| to_plain(field, child));
            let children = children.collect::<Result<Vec<_>, _>>()?;
            let nulls = source.nulls().cloned();
            Ok(Arc::new(StructArray::try_new_with_length(wanted.clone(), children, nulls, source.len())?))
        }
        (DataType::Map(entries, _), DataType::Map(wanted, sorted)) => {
            let source = array.as_map();
            let (DataType::Struct(pair), DataType::Struct(wanted_pair)) = (entries.data_type(), wanted.data_type())
            else {
                return Err(ArrowError::SchemaError("a map's entries are structs".to_owned()));
            };
            let keys = to_plain(&pair[0], source.keys())?;
            let values = to_plain(&pair[1], source.values())?;
            let entries = StructArray::try_new(wanted_pair.clone(), vec![keys, values], None)?;
            let (offsets, nulls) = (source.offsets().clone(), source.nulls().cloned());
            Ok(Arc::new(MapArray::try_new(wanted.clone(), offsets, entries, nulls, *sorted)?))
        }
        (DataType::List(item), DataType::List(wanted)) => {
            let source = array.as_list::<i32>();
            let values = to_plain(item, source.values())?;
            let (offsets, nulls) = (source.offsets().clone(), source.nulls().cloned());
            Ok(Arc::new(ListArray::try_new(wanted.clone(), offsets, values, nulls)?))
        }
        (
            DataType::LargeList(item)
            | DataType::FixedSizeList(item, _)
            | DataType::ListView(item)
            | DataType::LargeListView(item),
            DataType::List(_),
        ) => {
            let list = DataType::List(item.clone());
            let listed = cast(array, &list)?;
            to_plain(&Field::new(field.name(), list, true), &listed)
        }
        (DataType::Timestamp(TimeUnit::Nanosecond, _), DataType::Timestamp(_, zone)) => {
            // Rounded down, as Spark does, also before 1970.
            let source: &TimestampNanosecondArray = array.as_primitive();
            let micros = source.unary::<_, TimestampMicrosecondType>(|nanos| nanos.div_euclid(1000));
            Ok(Arc::new(micros.with_timezone_opt(zone.clone())))
        }
        (DataType::Interval(_), DataType::Utf8) => texts(array),
        (DataType::Time32(_), _) => Ok(make_array(array.to_data().into_builder().data_type(DataType::Int32).build()?)),
        (DataType::Time64(_) | DataType::Duration(_), _) => {
            Ok(make_array(array.to_data().into_builder().data_type(DataType::Int64).build()?))
        }
        (DataType::Dictionary(_, value), _) => {
            let values = cast(array, value)?;
            to_plain(&Field::new(field.name(), value.as_ref().clone(), true), &values)
        }
        (DataType::RunEndEncoded(_, values), _) => {
            let flat = cast(array, values.data_type())?;
            to_plain(values, &flat)
        }
        _ => cast(array, &target),
    }
}

/// A cast between types of which one holds the other's values; what does not fit is an error.
pub(super) fn cast(array: &ArrayRef, target: &DataType) -> Result<ArrayRef, ArrowError> {
    cast_with_options(array, target, &CastOptions { safe: false, ..CastOptions::default() })
}

/// Values as the text that a query would print.
fn texts(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let formats = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(array, &formats)?;
    let text = |row| (!array.is_null(row)).then(|| formatter.value(row).to_string());
    Ok(Arc::new((0..array.len()).map(text).collect::<StringArray>()))
}

fn uuids(array: &FixedSizeBinaryArray) -> ArrayRef {
    let text = |bytes: &[u8]| {
        let mut out = String::with_capacity(36);
        for (at, byte) in bytes.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                out.push('-');
            }
            out.push_str(&format!("{byte:02x}"));
        }
        out
    };
    Arc::new(array.iter().map(|value| value.map(text)).collect::<StringArray>())
}

/// One field per alternative, of which each row has at most one; alternatives that go into one type are put together.
fn union(array: &UnionArray, target: &DataType) -> Result<ArrayRef, ArrowError> {
    let DataType::Union(fields, _) = array.data_type() else {
        return Err(ArrowError::SchemaError("a union has alternatives".to_owned()));
    };
    let mut children = Vec::new();
    let mut null_id = None;
    for (id, field) in fields.iter() {
        if field.data_type() == &DataType::Null {
            null_id = Some(id);
            continue;
        }
        let place = |row: usize| (array.type_id(row) == id).then(|| array.value_offset(row) as i32);
        let places: Int32Array = (0..array.len()).map(place).collect();
        children.push(to_plain(field, &take(array.child(id), &places, None)?)?);
    }
    let members = match target {
        DataType::Struct(members) if children.len() != 1 => members,
        _ => &Fields::empty(),
    };
    if members.is_empty() {
        let mut merged = new_null_array(target, array.len());
        for child in children {
            let child = cast(&child, target)?;
            merged = zip(&is_not_null(&child)?, &child, &merged)?;
        }
        return Ok(merged);
    }
    let nulls = null_id.map(|id| (0..array.len()).map(|row| array.type_id(row) != id).collect::<Vec<bool>>().into());
    Ok(Arc::new(StructArray::try_new_with_length(members.clone(), children, nulls, array.len())?))
}
