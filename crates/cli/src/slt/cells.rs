//! Values as test files spell them, and the letters of their types.

use sqllogictest::ColumnType;

use crate::engine::arrow::array::types::{Float16Type, Float32Type, Float64Type};
use crate::engine::arrow::array::{Array, AsArray, RecordBatch};
use crate::engine::arrow::datatypes::{DataType, Schema};
use crate::print::Zone;
use crate::print::value::{write_f64, write_text};

/// Digits of a float that count: the last few depend on the order of additions.
const FLOAT_DIGITS: usize = 12;

/// The type of a column, by its letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// B
    Boolean,
    /// I
    Integer,
    /// P, a point in time
    Timestamp,
    /// R, with a fraction: floats and decimals
    Real,
    /// T
    Text,
    /// D
    Date,
    /// ?, all others: nested values, bytes
    Other,
}

impl ColumnType for Kind {
    fn from_char(letter: char) -> Option<Self> {
        Some(match letter {
            'B' => Kind::Boolean,
            'I' => Kind::Integer,
            'P' => Kind::Timestamp,
            'R' => Kind::Real,
            'T' => Kind::Text,
            'D' => Kind::Date,
            '?' => Kind::Other,
            _ => return None,
        })
    }

    fn to_char(&self) -> char {
        match self {
            Kind::Boolean => 'B',
            Kind::Integer => 'I',
            Kind::Timestamp => 'P',
            Kind::Real => 'R',
            Kind::Text => 'T',
            Kind::Date => 'D',
            Kind::Other => '?',
        }
    }
}

/// The kinds of a result's columns.
pub fn kinds(schema: &Schema) -> Vec<Kind> {
    schema.fields().iter().map(|field| kind(field.data_type())).collect()
}

fn kind(data_type: &DataType) -> Kind {
    match data_type {
        DataType::Boolean => Kind::Boolean,
        DataType::Timestamp(_, _) => Kind::Timestamp,
        DataType::Date32 | DataType::Date64 => Kind::Date,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Kind::Text,
        DataType::Dictionary(_, value) => kind(value),
        data_type if data_type.is_integer() => Kind::Integer,
        data_type if data_type.is_numeric() => Kind::Real,
        _ => Kind::Other,
    }
}

/// The rows of a batch as texts. A text of several lines in the only column becomes several rows, with `-` for
/// each leading space, since files keep neither empty lines nor indentation.
pub fn rows(batch: &RecordBatch, zone: Zone) -> Vec<Vec<String>> {
    let mut rows = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        let cells: Vec<String> = batch.columns().iter().map(|column| cell(column, row, zone)).collect();
        match cells.as_slice() {
            [only] if only.contains('\n') => rows.extend(only.trim_end().split('\n').map(|line| vec![indented(line)])),
            _ => rows.push(cells.into_iter().map(|cell| cell.replace('\n', "\\n")).collect()),
        }
    }
    rows
}

fn indented(line: &str) -> String {
    let text = line.trim_start_matches(' ');
    let dashes = "-".repeat(line.len() - text.len());
    if line.is_empty() { "-".to_owned() } else { format!("{dashes}{text}") }
}

fn cell(column: &dyn Array, row: usize, zone: Zone) -> String {
    let mut out = String::new();
    let float = match column.data_type() {
        _ if column.is_null(row) => None,
        DataType::Float16 => Some(f64::from(column.as_primitive::<Float16Type>().value(row).to_f32())),
        DataType::Float32 => Some(f64::from(column.as_primitive::<Float32Type>().value(row))),
        DataType::Float64 => Some(column.as_primitive::<Float64Type>().value(row)),
        _ => None,
    };
    match float {
        Some(value) => write_float(&mut out, value),
        None => write_text(&mut out, column, row, zone),
    }
    if out.is_empty() { "(empty)".to_owned() } else { out }
}

/// Rounded to twelve digits; whole numbers without a point, so that `2` stands for 2.0.
fn write_float(out: &mut String, value: f64) {
    if !value.is_finite() {
        return write_f64(out, value);
    }
    let rounded = format!("{value:.*e}", FLOAT_DIGITS - 1).parse().unwrap_or(value);
    // No negative zero: its sign is an accident of subtraction.
    write_f64(out, if rounded == 0.0 { 0.0 } else { rounded });
    if out.ends_with(".0") {
        out.truncate(out.len() - 2);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::*;
    use crate::engine::arrow::array::{ArrayRef, Float64Array, StringArray};

    fn shown(column: ArrayRef) -> Vec<String> {
        let batch = RecordBatch::try_from_iter_with_nullable([("c", column, true)]).unwrap();
        rows(&batch, Zone::Utc).into_iter().map(|row| row.join(" ")).collect()
    }

    #[test]
    fn floats_are_compared_by_twelve_digits() {
        let values = vec![0.1 + 0.2, 2.0, 1.0 / 3.0, -0.0, 1308957.28, f64::NAN, 123456789012345.0, 1e-9];
        let expected = ["0.3", "2", "0.333333333333", "0", "1308957.28", "NaN", "123456789012000", "1e-9"];
        assert_eq!(shown(Arc::new(Float64Array::from(values))), expected);
    }

    #[test]
    fn nothing_is_invisible() {
        let texts = StringArray::from(vec![Some("a"), None, Some(""), Some("Sink\n  Scan\n\nend\n")]);
        assert_eq!(shown(Arc::new(texts)), ["a", "NULL", "(empty)", "Sink", "--Scan", "-", "end"]);
    }

    #[test]
    fn letters_come_back() {
        for letter in "BIPRTD?".chars() {
            assert_eq!(Kind::from_char(letter).map(|kind| kind.to_char()), Some(letter));
        }
        assert_eq!(Kind::from_char('x'), None);
    }
}
