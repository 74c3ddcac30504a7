//! Arrow values as JSON text, for rescued data and for nested values in STRING columns.
//!
//! Numbers and booleans are themselves; dates, timestamps and text are strings; bytes are base64; NULL fields of
//! structs are left out, as Spark's `to_json` does.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::rescue::write_string;

/// Appends a value as JSON.
pub(super) fn json_text(array: &dyn Array, row: usize, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    if array.is_null(row) || array.data_type() == &DataType::Null {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    match array.data_type() {
        DataType::Struct(fields) => {
            let source = array.as_struct();
            let before = out.len();
            out.push(b'{');
            for (field, child) in fields.iter().zip(source.columns()) {
                if child.is_null(row) {
                    continue;
                }
                if out.len() > before + 1 {
                    out.push(b',');
                }
                write_string(field.name().as_bytes(), out);
                out.push(b':');
                json_text(child, row, out)?;
            }
            out.push(b'}');
        }
        DataType::List(_) => {
            let source = array.as_list::<i32>();
            let (start, end) = (source.value_offsets()[row] as usize, source.value_offsets()[row + 1] as usize);
            out.push(b'[');
            for at in start..end {
                if at > start {
                    out.push(b',');
                }
                json_text(source.values(), at, out)?;
            }
            out.push(b']');
        }
        DataType::Map(_, _) => {
            let source = array.as_map();
            let (start, end) = (source.value_offsets()[row] as usize, source.value_offsets()[row + 1] as usize);
            let mut key = Vec::new();
            out.push(b'{');
            for at in start..end {
                if at > start {
                    out.push(b',');
                }
                key.clear();
                plain_text(source.keys(), at, &mut key)?;
                write_string(&key, out);
                out.push(b':');
                json_text(source.values(), at, out)?;
            }
            out.push(b'}');
        }
        DataType::Float32 | DataType::Float64 => {
            let text = formatted(array, row)?;
            // JSON has no NaN and no infinity.
            let number = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E'));
            if number { out.extend_from_slice(text.as_bytes()) } else { write_string(text.as_bytes(), out) }
        }
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Decimal128(_, _) => out.extend_from_slice(formatted(array, row)?.as_bytes()),
        _ => {
            let mut text = Vec::new();
            plain_text(array, row, &mut text)?;
            write_string(&text, out);
        }
    }
    Ok(())
}

/// Appends a value as a STRING column holds it: text without quotes, nested values as JSON.
pub(super) fn plain_text(array: &dyn Array, row: usize, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    match array.data_type() {
        DataType::Struct(_) | DataType::List(_) | DataType::Map(_, _) => json_text(array, row, out)?,
        DataType::Binary => base64(array.as_binary::<i32>().value(row), out),
        DataType::Utf8 => out.extend_from_slice(array.as_string::<i32>().value(row).as_bytes()),
        DataType::Timestamp(_, _) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            out.extend_from_slice(timestamp(micros).as_bytes());
        }
        _ => out.extend_from_slice(formatted(array, row)?.as_bytes()),
    }
    Ok(())
}

fn formatted(array: &dyn Array, row: usize) -> Result<String, ArrowError> {
    let formats = FormatOptions::default();
    Ok(ArrayFormatter::try_new(array, &formats)?.value(row).to_string())
}

/// `yyyy-MM-dd HH:mm:ss[.f…]`, as Spark's cast writes it in UTC.
fn timestamp(micros: i64) -> String {
    let (days, of_day) = (micros.div_euclid(86_400_000_000), micros.rem_euclid(86_400_000_000));
    let (year, month, day) = crate::scalar::civil(days);
    let seconds = of_day / 1_000_000;
    let mut text =
        format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = of_day % 1_000_000;
    if fraction > 0 {
        text.push('.');
        text.push_str(format!("{fraction:06}").trim_end_matches('0'));
    }
    text
}

fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = LETTERS[bits >> (18 - 6 * place) & 63];
            out.push(if place <= chunk.len() { letter } else { b'=' });
        }
    }
}

/// Whether any row has a value.
pub(super) fn any(array: &ArrayRef) -> bool {
    array.data_type() != &DataType::Null && array.null_count() < array.len()
}
