//! The columns that hold those of several files: the union of the names, each with the widest common type.
//!
//! Integers widen to integers, any number to DOUBLE, dates to timestamps; types that have nothing in common are STRING.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema};

use super::fit::digits;

/// `first` with the columns of `second` it lacks behind, and types that hold the values of both. A name that differs by
/// case only is the same column; the spelling met first is kept.
pub fn widest_schema(first: &Schema, second: &Schema) -> Schema {
    Schema::new(widest_fields(first.fields(), second.fields()))
}

fn widest_fields(first: &Fields, second: &Fields) -> Fields {
    let mut fields: Vec<Arc<Field>> = first.iter().cloned().collect();
    for field in second {
        let exact = fields.iter().position(|known| known.name() == field.name());
        let folded = || fields.iter().position(|known| known.name().to_lowercase() == field.name().to_lowercase());
        match (exact, exact.or_else(folded)) {
            (Some(at), _) => {
                let widest = widest_type(fields[at].data_type(), field.data_type());
                fields[at] = Arc::new(fields[at].as_ref().clone().with_data_type(widest).with_nullable(true));
            }
            // Another spelling of a known column; its values are rescued where case counts.
            (None, Some(_)) => {}
            (None, None) => fields.push(field.clone()),
        }
    }
    fields.into()
}

fn widest_type(a: &DataType, b: &DataType) -> DataType {
    use DataType as T;
    let widened = |field: &Arc<Field>, data_type| Arc::new(field.as_ref().clone().with_data_type(data_type));
    match (a, b) {
        (a, b) if a == b => a.clone(),
        (T::Null, other) | (other, T::Null) => other.clone(),
        (T::Struct(a), T::Struct(b)) => T::Struct(widest_fields(a, b)),
        (T::List(a), T::List(b)) => T::List(widened(a, widest_type(a.data_type(), b.data_type()))),
        (T::Map(a, sorted), T::Map(b, _)) => {
            let entries = match (a.data_type(), b.data_type()) {
                (T::Struct(x), T::Struct(y)) if x.len() == 2 && y.len() == 2 => {
                    let pair = (0..2).map(|at| widened(&x[at], widest_type(x[at].data_type(), y[at].data_type())));
                    T::Struct(pair.collect::<Vec<_>>().into())
                }
                _ => return T::Utf8,
            };
            T::Map(widened(a, entries), *sorted)
        }
        (T::Date32, T::Timestamp(_, _)) => b.clone(),
        (T::Timestamp(_, _), T::Date32) => a.clone(),
        (T::Timestamp(unit, _), T::Timestamp(_, _)) => T::Timestamp(*unit, Some("UTC".into())),
        _ if is_integer(a) && is_integer(b) => {
            if a.primitive_width() > b.primitive_width() {
                a.clone()
            } else {
                b.clone()
            }
        }
        (T::Float32 | T::Float64, other) | (other, T::Float32 | T::Float64)
            if matches!(other, T::Float32 | T::Float64) || digits(other).is_some() =>
        {
            T::Float64
        }
        _ => match (digits(a), digits(b)) {
            (Some(a), Some(b)) => {
                let behind = a.1.max(b.1);
                let before = (i32::from(a.0) - i32::from(a.1)).max(i32::from(b.0) - i32::from(b.1));
                let precision = before + i32::from(behind);
                if precision <= 38 { T::Decimal128(precision as u8, behind) } else { T::Float64 }
            }
            _ => T::Utf8,
        },
    }
}

fn is_integer(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64)
}
