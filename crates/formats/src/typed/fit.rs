//! Fitting a file's column to a wanted type: what goes in, and what is left over.
//!
//! A value fits where no part of it can be lost: a number in a wider number, a date in a timestamp, anything in a STRING (by
//! its text, nested values as JSON). Structs fit field by field; what has no place is left over under its own path.
//! Inside arrays and maps a left-over part leaves the whole array over, since its place could not be told.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StringArray, StructArray, new_null_array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use arrow::error::ArrowError;

use super::json_text;
use super::plain::cast;

/// How a column goes into a wanted type.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fit {
    /// As it is.
    Keep,
    /// There is nothing in it.
    Null,
    /// By a cast that loses nothing.
    Cast,
    /// As JSON text.
    Text,
    /// Field by field.
    Struct(StructFit),
    /// Element by element.
    List(Box<Fit>),
    /// Key by key and value by value.
    Map(Box<(Fit, Fit)>),
}

/// How the fields of a struct, or the columns of a file, go into wanted ones.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct StructFit {
    /// For each wanted field: the place of the one that fills it.
    pub from: Vec<Option<(usize, Fit)>>,
    /// Places of fields that are left over.
    pub left: Vec<usize>,
}

/// How `source` goes into `target`; None if it does not.
pub(super) fn fit(source: &DataType, target: &DataType, case_sensitive: bool) -> Option<Fit> {
    use DataType as T;
    let cast = |fits: bool| fits.then_some(Fit::Cast);
    match (source, target) {
        (source, target) if source == target => Some(Fit::Keep),
        (T::Null, _) => Some(Fit::Null),
        (T::Struct(have), T::Struct(want)) => Some(Fit::Struct(fit_fields(have, want, case_sensitive))),
        (T::List(have), T::List(want)) => {
            fit(have.data_type(), want.data_type(), case_sensitive).map(|item| Fit::List(Box::new(item)))
        }
        (T::Map(have, _), T::Map(want, _)) => {
            let (T::Struct(have), T::Struct(want)) = (have.data_type(), want.data_type()) else { return None };
            let key = fit(have.first()?.data_type(), want.first()?.data_type(), case_sensitive)?;
            let value = fit(have.get(1)?.data_type(), want.get(1)?.data_type(), case_sensitive)?;
            Some(Fit::Map(Box::new((key, value))))
        }
        (T::Struct(_) | T::List(_) | T::Map(_, _) | T::Binary, T::Utf8) => Some(Fit::Text),
        (T::Timestamp(_, _), T::Utf8) => Some(Fit::Text),
        (_, T::Utf8) => Some(Fit::Cast),
        (T::Int8 | T::Int16 | T::Int32 | T::Int64, T::Int8 | T::Int16 | T::Int32 | T::Int64) => {
            cast(source.primitive_width() < target.primitive_width())
        }
        (T::Int8 | T::Int16, T::Float32) | (T::Float32, T::Float64) => Some(Fit::Cast),
        // The widest common type of these is DOUBLE, which keeps 15 digits of them.
        (T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::Decimal128(_, _), T::Float64) => Some(Fit::Cast),
        (_, T::Decimal128(precision, scale)) => {
            let (digits, behind) = digits(source)?;
            let before = i32::from(digits) - i32::from(behind);
            let room = i32::from(*precision) - i32::from(*scale);
            // A BIGINT has at most 19 digits, and DECIMAL(20, 0) is what Spark widens it to.
            let before = if source == &T::Int64 { 19 } else { before };
            cast(before <= room && behind <= *scale)
        }
        // The session's zone is UTC, so that the local clock and UTC are the same.
        (T::Date32 | T::Timestamp(_, _), T::Timestamp(TimeUnit::Microsecond, _)) => Some(Fit::Cast),
        _ => None,
    }
}

/// Digits of the largest value, and those behind the point.
pub(crate) fn digits(data_type: &DataType) -> Option<(u8, i8)> {
    Some(match data_type {
        DataType::Int8 => (3, 0),
        DataType::Int16 => (5, 0),
        DataType::Int32 => (10, 0),
        DataType::Int64 => (20, 0),
        DataType::Decimal128(precision, scale) => (*precision, *scale),
        _ => return None,
    })
}

/// Matches fields by name. A name that differs by case only is another name, unless case does not count.
pub(super) fn fit_fields(have: &Fields, want: &Fields, case_sensitive: bool) -> StructFit {
    let mut used = vec![false; have.len()];
    let mut from = Vec::with_capacity(want.len());
    for wanted in want {
        let same = |place: &usize, exact: bool| {
            let name = have[*place].name();
            !used[*place] && (name == wanted.name() || !exact && name.to_lowercase() == wanted.name().to_lowercase())
        };
        let exact = (0..have.len()).find(|place| same(place, true));
        let found = exact.or_else(|| (0..have.len()).find(|place| !case_sensitive && same(place, false)));
        let found = found.and_then(|place| {
            let fits = fit(have[place].data_type(), wanted.data_type(), case_sensitive)?;
            used[place] = true;
            Some((place, fits))
        });
        from.push(found);
    }
    let left = (0..have.len()).filter(|place| !used[*place]).collect();
    StructFit { from, left }
}

impl Fit {
    /// Whether nothing is left over anywhere inside.
    pub fn is_whole(&self) -> bool {
        match self {
            Fit::Keep | Fit::Null | Fit::Cast | Fit::Text => true,
            Fit::Struct(fields) => {
                fields.left.is_empty() && fields.from.iter().flatten().all(|(_, fit)| fit.is_whole())
            }
            Fit::List(item) => item.is_whole(),
            Fit::Map(pair) => pair.0.is_whole() && pair.1.is_whole(),
        }
    }

    /// The values in the wanted type.
    pub fn apply(&self, array: &ArrayRef, target: &DataType) -> Result<ArrayRef, ArrowError> {
        let wrong = || ArrowError::SchemaError(format!("{} does not fit {target}", array.data_type()));
        match (self, target) {
            (Fit::Keep, _) => Ok(array.clone()),
            (Fit::Null, _) => Ok(new_null_array(target, array.len())),
            (Fit::Cast, _) => cast(array, target),
            (Fit::Text, _) => texts(array),
            (Fit::Struct(fields), DataType::Struct(want)) => {
                let source = array.as_struct();
                let children = fields.apply(source.columns(), want, source.len())?;
                let nulls = source.nulls().cloned();
                Ok(Arc::new(StructArray::try_new_with_length(want.clone(), children, nulls, source.len())?))
            }
            (Fit::List(item), DataType::List(want)) => {
                let source = array.as_list::<i32>();
                let values = item.apply(source.values(), want.data_type())?;
                let (offsets, nulls) = (source.offsets().clone(), source.nulls().cloned());
                Ok(Arc::new(ListArray::try_new(want.clone(), offsets, values, nulls)?))
            }
            (Fit::Map(pair), DataType::Map(want, sorted)) => {
                let DataType::Struct(fields) = want.data_type() else { return Err(wrong()) };
                let (Some(key), Some(value)) = (fields.first(), fields.get(1)) else { return Err(wrong()) };
                let source = array.as_map();
                let keys = pair.0.apply(source.keys(), key.data_type())?;
                let values = pair.1.apply(source.values(), value.data_type())?;
                let entries = StructArray::try_new(fields.clone(), vec![keys, values], None)?;
                let (offsets, nulls) = (source.offsets().clone(), source.nulls().cloned());
                Ok(Arc::new(MapArray::try_new(want.clone(), offsets, entries, nulls, *sorted)?))
            }
            _ => Err(wrong()),
        }
    }
}

impl StructFit {
    /// The wanted columns of `rows` rows; those without a source are NULL.
    pub fn apply(&self, columns: &[ArrayRef], want: &Fields, rows: usize) -> Result<Vec<ArrayRef>, ArrowError> {
        let fill = |(wanted, from): (&Arc<Field>, &Option<(usize, Fit)>)| match from {
            Some((place, fit)) => match columns.get(*place) {
                Some(column) => fit.apply(column, wanted.data_type()),
                None => Err(ArrowError::SchemaError(format!("there is no column {place}"))),
            },
            None => Ok(new_null_array(wanted.data_type(), rows)),
        };
        want.iter().zip(&self.from).map(fill).collect()
    }
}

/// Values that have no place, under the path of names that leads to them.
#[derive(Debug)]
pub(super) struct Leftover {
    pub path: Vec<String>,
    pub values: ArrayRef,
}

impl StructFit {
    /// What is left over of columns with these names, in their order.
    pub fn leftovers(&self, names: &Fields, columns: &[ArrayRef]) -> Vec<Leftover> {
        let mut out = Vec::new();
        self.collect(names, columns, None, &mut Vec::new(), &mut out);
        out
    }

    fn collect(
        &self,
        names: &Fields,
        columns: &[ArrayRef],
        nulls: Option<&NullBuffer>,
        path: &mut Vec<String>,
        out: &mut Vec<Leftover>,
    ) {
        for (place, (field, column)) in names.iter().zip(columns).enumerate() {
            path.push(field.name().clone());
            let fit = self.from.iter().flatten().find(|(from, _)| *from == place).map(|(_, fit)| fit);
            match fit {
                None if self.left.contains(&place) => {
                    out.push(Leftover { path: path.clone(), values: masked(column, nulls) });
                }
                Some(Fit::Struct(inner)) => {
                    let source = column.as_struct();
                    let nulls = NullBuffer::union(nulls, source.nulls());
                    inner.collect(source.fields(), source.columns(), nulls.as_ref(), path, out);
                }
                Some(fit) if !fit.is_whole() => {
                    out.push(Leftover { path: path.clone(), values: masked(column, nulls) });
                }
                _ => {}
            }
            path.pop();
        }
    }

    /// The dotted paths of what is left over because no wanted field has its name.
    pub fn unmatched(&self, have: &Fields, want: &Fields, prefix: &str, out: &mut Vec<String>) {
        for &place in &self.left {
            let Some(field) = have.get(place) else { continue };
            if !want.iter().any(|wanted| wanted.name() == field.name()) {
                out.push(format!("{prefix}{}", field.name()));
            }
        }
        for (wanted, from) in want.iter().zip(&self.from) {
            let Some((place, fit)) = from else { continue };
            let Some(field) = have.get(*place) else { continue };
            unmatched_inside(fit, field.data_type(), wanted.data_type(), &format!("{prefix}{}.", field.name()), out);
        }
    }
}

/// The dotted paths of wanted columns whose type is outgrown by that of the file's column: it does not go in, and a wider
/// one would take it. Arrays and maps add no step of their own.
pub(super) fn outgrown(have: &Fields, want: &Fields, prefix: &str, out: &mut Vec<String>) {
    for wanted in want {
        let Some(field) = have.iter().find(|field| field.name() == wanted.name()) else { continue };
        outgrown_type(field.data_type(), wanted.data_type(), &format!("{prefix}{}", wanted.name()), out);
    }
}

fn outgrown_type(have: &DataType, want: &DataType, path: &str, out: &mut Vec<String>) {
    match (have, want) {
        (DataType::Struct(have), DataType::Struct(want)) => outgrown(have, want, &format!("{path}."), out),
        (DataType::List(have), DataType::List(want)) => outgrown_type(have.data_type(), want.data_type(), path, out),
        (DataType::Map(have, _), DataType::Map(want, _)) => {
            if let (DataType::Struct(have), DataType::Struct(want)) = (have.data_type(), want.data_type())
                && let (Some(have), Some(want)) = (have.get(1), want.get(1))
            {
                outgrown_type(have.data_type(), want.data_type(), path, out);
            }
        }
        _ if fit(have, want, true).is_none() && crate::wider_type(want, have).is_some() => out.push(path.to_owned()),
        _ => {}
    }
}

fn unmatched_inside(fit: &Fit, have: &DataType, want: &DataType, prefix: &str, out: &mut Vec<String>) {
    match (fit, have, want) {
        (Fit::Struct(fields), DataType::Struct(have), DataType::Struct(want)) => {
            fields.unmatched(have, want, prefix, out);
        }
        (Fit::List(item), DataType::List(have), DataType::List(want)) => {
            unmatched_inside(item, have.data_type(), want.data_type(), &format!("{prefix}element."), out);
        }
        (Fit::Map(pair), DataType::Map(have, _), DataType::Map(want, _)) => {
            if let (DataType::Struct(have), DataType::Struct(want)) = (have.data_type(), want.data_type())
                && let (Some(have), Some(want)) = (have.get(1), want.get(1))
            {
                unmatched_inside(&pair.1, have.data_type(), want.data_type(), &format!("{prefix}value."), out);
            }
        }
        _ => {}
    }
}

/// The values, NULL also where the struct that they are in is.
fn masked(array: &ArrayRef, nulls: Option<&NullBuffer>) -> ArrayRef {
    let Some(nulls) = nulls.filter(|_| array.data_type() != &DataType::Null) else { return array.clone() };
    let both = NullBuffer::union(Some(nulls), array.nulls());
    match array.to_data().into_builder().nulls(both).build() {
        Ok(data) => arrow::array::make_array(data),
        Err(_) => array.clone(),
    }
}

fn texts(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let mut buffer = Vec::new();
    let mut text = |row: usize| {
        if array.is_null(row) {
            return Ok(None);
        }
        buffer.clear();
        json_text::plain_text(array, row, &mut buffer)?;
        Ok(Some(String::from_utf8_lossy(&buffer).into_owned()))
    };
    let texts = (0..array.len()).map(&mut text).collect::<Result<Vec<_>, ArrowError>>()?;
    Ok(Arc::new(StringArray::from(texts)))
}
