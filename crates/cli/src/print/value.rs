//! One value as text or as JSON, in Spark's spelling where it has one.
//!
//! Knows Arrow's types and the session's time zone; knows nothing of rows, columns and layout.

use std::fmt::Write as _;
use std::str::FromStr;

use crate::engine::arrow::array::temporal_conversions::as_datetime_with_timezone;
use crate::engine::arrow::array::timezone::Tz;
use crate::engine::arrow::array::types::*;
use crate::engine::arrow::array::{Array, ArrayRef, AsArray};
use crate::engine::arrow::compute::cast;
use crate::engine::arrow::datatypes::{DataType, TimeUnit};
use crate::engine::arrow::util::display::{ArrayFormatter, FormatOptions};

/// The zone in which instants are shown.
#[derive(Clone, Copy, Debug, Default)]
pub enum Zone {
    /// The default of a session.
    #[default]
    Utc,
    /// Any other.
    Named(Tz),
}

impl Zone {
    /// A zone by its name; what nobody knows is shown as UTC.
    pub fn named(name: &str) -> Zone {
        match Tz::from_str(name) {
            Ok(_) if matches!(name.to_ascii_uppercase().as_str(), "UTC" | "Z" | "GMT" | "+00:00") => Zone::Utc,
            Ok(zone) => Zone::Named(zone),
            Err(_) => Zone::Utc,
        }
    }

    /// Seconds of the wall clock at an instant, both counted from 1970.
    fn local_seconds(self, instant: i64) -> i64 {
        match self {
            Zone::Utc => instant,
            Zone::Named(zone) => as_datetime_with_timezone::<TimestampSecondType>(instant, zone)
                .map_or(instant, |at| at.naive_local().and_utc().timestamp()),
        }
    }
}

/// Appends the value as a reader wants it: strings bare, NULL as `NULL`, nested values as JSON with spaces.
pub fn write_text(out: &mut String, array: &dyn Array, row: usize, zone: Zone) {
    if array.is_null(row) || array.data_type() == &DataType::Null {
        out.push_str("NULL");
        return;
    }
    match array.data_type() {
        DataType::Utf8 => out.push_str(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => out.push_str(array.as_string::<i64>().value(row)),
        DataType::Utf8View => out.push_str(array.as_string_view().value(row)),
        DataType::Dictionary(_, _) | DataType::RunEndEncoded(_, _) => match decoded(array, row) {
            Some(value) => write_text(out, &value, 0, zone),
            None => fallback(out, array, row),
        },
        data_type if data_type.is_nested() => Json { spaced: true, zone }.write(out, array, row),
        _ => match bytes(array, row) {
            Some(bytes) => write_bytes(out, bytes),
            None => write_scalar(out, array, row, zone),
        },
    }
}

/// Appends the value as JSON without spaces.
pub fn write_json(out: &mut String, array: &dyn Array, row: usize, zone: Zone) {
    Json { spaced: false, zone }.write(out, array, row);
}

/// Appends `text` as a JSON string.
pub fn write_json_string(out: &mut String, text: &str) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// How nested values are written.
#[derive(Clone, Copy)]
struct Json {
    /// `", "` between elements instead of `","`.
    spaced: bool,
    zone: Zone,
}

impl Json {
    fn write(self, out: &mut String, array: &dyn Array, row: usize) {
        if array.is_null(row) || array.data_type() == &DataType::Null {
            out.push_str("null");
            return;
        }
        match array.data_type() {
            DataType::Boolean => out.push_str(if array.as_boolean().value(row) { "true" } else { "false" }),
            data_type if data_type.is_integer() => write_scalar(out, array, row, self.zone),
            data_type if data_type.is_floating() => {
                let start = out.len();
                write_scalar(out, array, row, self.zone);
                if out.ends_with(['N', 'y']) {
                    out.insert(start, '"');
                    out.push('"');
                }
            }
            DataType::Utf8 => write_json_string(out, array.as_string::<i32>().value(row)),
            DataType::LargeUtf8 => write_json_string(out, array.as_string::<i64>().value(row)),
            DataType::Utf8View => write_json_string(out, array.as_string_view().value(row)),
            DataType::List(_) => self.list(out, &array.as_list::<i32>().value(row)),
            DataType::LargeList(_) => self.list(out, &array.as_list::<i64>().value(row)),
            DataType::FixedSizeList(_, _) => self.list(out, &array.as_fixed_size_list().value(row)),
            DataType::ListView(_) => self.list(out, &array.as_list_view::<i32>().value(row)),
            DataType::LargeListView(_) => self.list(out, &array.as_list_view::<i64>().value(row)),
            DataType::Struct(_) => self.object(out, array, row),
            DataType::Map(_, _) => self.map(out, array, row),
            DataType::Dictionary(_, _) | DataType::RunEndEncoded(_, _) => match decoded(array, row) {
                Some(value) => self.write(out, &value, 0),
                None => self.quoted(out, array, row),
            },
            _ => match bytes(array, row) {
                Some(bytes) => write_base64(out, bytes),
                None => self.quoted(out, array, row),
            },
        }
    }

    fn quoted(self, out: &mut String, array: &dyn Array, row: usize) {
        let mut text = String::new();
        write_scalar(&mut text, array, row, self.zone);
        write_json_string(out, &text);
    }

    fn separator(self, out: &mut String, index: usize) {
        if index > 0 {
            out.push_str(if self.spaced { ", " } else { "," });
        }
    }

    fn list(self, out: &mut String, values: &ArrayRef) {
        out.push('[');
        for index in 0..values.len() {
            self.separator(out, index);
            self.write(out, values, index);
        }
        out.push(']');
    }

    fn object(self, out: &mut String, array: &dyn Array, row: usize) {
        let array = array.as_struct();
        out.push('{');
        for (index, (name, column)) in array.column_names().iter().zip(array.columns()).enumerate() {
            self.separator(out, index);
            write_json_string(out, name);
            out.push(':');
            self.write(out, column, row);
        }
        out.push('}');
    }

    /// Keys become strings, as in Spark's `to_json`.
    fn map(self, out: &mut String, array: &dyn Array, row: usize) {
        let entries = array.as_map().value(row);
        let (keys, values) = (entries.column(0), entries.column(1));
        out.push('{');
        for index in 0..entries.len() {
            self.separator(out, index);
            let mut key = String::new();
            write_text(&mut key, keys, index, self.zone);
            write_json_string(out, &key);
            out.push(':');
            self.write(out, values, index);
        }
        out.push('}');
    }
}

/// Appends a value that is neither NULL, string, bytes nor nested.
fn write_scalar(out: &mut String, array: &dyn Array, row: usize, zone: Zone) {
    macro_rules! display {
        ($type:ty) => {{
            let _ = write!(out, "{}", array.as_primitive::<$type>().value(row));
        }};
    }
    match array.data_type() {
        DataType::Boolean => out.push_str(if array.as_boolean().value(row) { "true" } else { "false" }),
        DataType::Int8 => display!(Int8Type),
        DataType::Int16 => display!(Int16Type),
        DataType::Int32 => display!(Int32Type),
        DataType::Int64 => display!(Int64Type),
        DataType::UInt8 => display!(UInt8Type),
        DataType::UInt16 => display!(UInt16Type),
        DataType::UInt32 => display!(UInt32Type),
        DataType::UInt64 => display!(UInt64Type),
        DataType::Float16 => write_f32(out, array.as_primitive::<Float16Type>().value(row).to_f32()),
        DataType::Float32 => write_f32(out, array.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => write_f64(out, array.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(_, _) => out.push_str(&array.as_primitive::<Decimal128Type>().value_as_string(row)),
        DataType::Decimal256(_, _) => out.push_str(&array.as_primitive::<Decimal256Type>().value_as_string(row)),
        DataType::Date32 => write_date(out, i64::from(array.as_primitive::<Date32Type>().value(row))),
        DataType::Date64 => {
            write_date(out, array.as_primitive::<Date64Type>().value(row).div_euclid(86_400_000));
        }
        DataType::Timestamp(unit, instant) => {
            let value = match unit {
                TimeUnit::Second => array.as_primitive::<TimestampSecondType>().value(row),
                TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().value(row),
                TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().value(row),
                TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().value(row),
            };
            write_timestamp(out, value, *unit, instant.is_some().then_some(zone));
        }
        _ => fallback(out, array, row),
    }
}

/// Shortest digits that read back the same, with `.0` kept; Spark's words for what is no number.
pub fn write_f64(out: &mut String, value: f64) {
    if value.is_infinite() {
        out.push_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
    } else {
        let _ = write!(out, "{value:?}");
    }
}

fn write_f32(out: &mut String, value: f32) {
    if value.is_infinite() {
        write_f64(out, f64::from(value));
    } else {
        let _ = write!(out, "{value:?}");
    }
}

/// `2022-07-12`, from days since 1970.
fn write_date(out: &mut String, days: i64) {
    let (year, month, day) = civil(days);
    let _ = match year {
        0..=9999 => write!(out, "{year:04}-{month:02}-{day:02}"),
        _ => write!(out, "{year:+05}-{month:02}-{day:02}"),
    };
}

/// `2022-07-12 17:13:57.5`: the fraction without its trailing zeros, and none when it is zero.
fn write_timestamp(out: &mut String, value: i64, unit: TimeUnit, zone: Option<Zone>) {
    let (per_second, nanos_each) = match unit {
        TimeUnit::Second => (1, 1_000_000_000),
        TimeUnit::Millisecond => (1_000, 1_000_000),
        TimeUnit::Microsecond => (1_000_000, 1_000),
        TimeUnit::Nanosecond => (1_000_000_000, 1),
    };
    let instant = value.div_euclid(per_second);
    let seconds = zone.map_or(instant, |zone| zone.local_seconds(instant));
    write_date(out, seconds.div_euclid(86_400));
    let of_day = seconds.rem_euclid(86_400);
    let _ = write!(out, " {:02}:{:02}:{:02}", of_day / 3600, of_day / 60 % 60, of_day % 60);
    let nanos = value.rem_euclid(per_second) * nanos_each;
    if nanos > 0 {
        let digits = format!("{nanos:09}");
        let _ = write!(out, ".{}", digits.trim_end_matches('0'));
    }
}

/// Year, month and day of the proleptic Gregorian calendar, from days since 1970. Years begin in March inside,
/// so that the leap day is a year's last.
fn civil(days: i64) -> (i64, i64, i64) {
    let from_0000_03_01 = days + 719_468;
    let era = from_0000_03_01.div_euclid(146_097);
    let of_era = from_0000_03_01.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// The bytes of a binary value.
fn bytes(array: &dyn Array, row: usize) -> Option<&[u8]> {
    match array.data_type() {
        DataType::Binary => Some(array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => Some(array.as_binary::<i64>().value(row)),
        DataType::BinaryView => Some(array.as_binary_view().value(row)),
        DataType::FixedSizeBinary(_) => Some(array.as_fixed_size_binary().value(row)),
        _ => None,
    }
}

/// `[4D 79]`, as Spark shows bytes.
fn write_bytes(out: &mut String, bytes: &[u8]) {
    out.push('[');
    for (index, byte) in bytes.iter().enumerate() {
        let _ = write!(out, "{}{byte:02X}", if index > 0 { " " } else { "" });
    }
    out.push(']');
}

/// A JSON string of base 64, as in Spark's `to_json`.
fn write_base64(out: &mut String, bytes: &[u8]) {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.push('"');
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| chunk.get(index).copied().map_or(0, u32::from);
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for position in 0..4 {
            if position > chunk.len() {
                out.push('=');
            } else {
                out.push(char::from(LETTERS[(bits >> (18 - 6 * position) & 63) as usize]));
            }
        }
    }
    out.push('"');
}

/// One value of a dictionary or run-encoded array, plain.
fn decoded(array: &dyn Array, row: usize) -> Option<ArrayRef> {
    let plain = match array.data_type() {
        DataType::Dictionary(_, value) => value.as_ref(),
        DataType::RunEndEncoded(_, value) => value.data_type(),
        _ => return None,
    };
    cast(&array.slice(row, 1), plain).ok()
}

/// Arrow's own spelling, for types Spark has none for (times of day, intervals, unions).
fn fallback(out: &mut String, array: &dyn Array, row: usize) {
    match ArrayFormatter::try_new(array, &FormatOptions::default()) {
        Ok(formatter) => {
            let _ = write!(out, "{}", formatter.value(row));
        }
        Err(error) => {
            let _ = write!(out, "<{error}>");
        }
    }
}

/// The type's name in Databricks SQL.
pub fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Null => "void".to_owned(),
        DataType::Boolean => "boolean".to_owned(),
        DataType::Int8 => "tinyint".to_owned(),
        DataType::Int16 | DataType::UInt8 => "smallint".to_owned(),
        DataType::Int32 | DataType::UInt16 => "int".to_owned(),
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => "bigint".to_owned(),
        DataType::Float16 | DataType::Float32 => "float".to_owned(),
        DataType::Float64 => "double".to_owned(),
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            format!("decimal({precision},{scale})")
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string".to_owned(),
        DataType::Date32 | DataType::Date64 => "date".to_owned(),
        DataType::Timestamp(_, Some(_)) => "timestamp".to_owned(),
        DataType::Timestamp(_, None) => "timestamp_ntz".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "binary".to_owned()
        }
        DataType::Interval(_) | DataType::Duration(_) => "interval".to_owned(),
        DataType::Time32(_) | DataType::Time64(_) => "time".to_owned(),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => format!("array<{}>", type_name(item.data_type())),
        DataType::Struct(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|field| format!("{}:{}", field.name(), type_name(field.data_type()))).collect();
            format!("struct<{}>", fields.join(","))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                format!("map<{},{}>", type_name(fields[0].data_type()), type_name(fields[1].data_type()))
            }
            _ => "map".to_owned(),
        },
        DataType::Dictionary(_, value) => type_name(value),
        DataType::RunEndEncoded(_, value) => type_name(value.data_type()),
        other => other.to_string().to_lowercase(),
    }
}

#[cfg(test)]
#[path = "value_tests.rs"]
mod tests;
