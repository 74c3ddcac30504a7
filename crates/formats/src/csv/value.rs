//! One CSV value: whether it is NULL, and how its text becomes a number, a date, a timestamp.

use crate::column::{Column, Data};
use crate::decode::DecodeError;
use crate::options::FormatOptions;
use crate::scalar;
use crate::times::Times;

/// The texts that stand for something else than themselves.
#[derive(Debug)]
pub(crate) struct Values {
    null: Vec<u8>,
    empty: Vec<u8>,
    nan: Vec<u8>,
    positive_inf: Vec<u8>,
    negative_inf: Vec<u8>,
    times: Times,
}

impl Values {
    pub fn new(format: &FormatOptions) -> Values {
        let options = &format.csv;
        Values {
            times: Times::new(format),
            null: options.null_value.clone().into_bytes(),
            empty: options.empty_value.clone().into_bytes(),
            nan: options.nan_value.clone().into_bytes(),
            positive_inf: options.positive_inf.clone().into_bytes(),
            negative_inf: options.negative_inf.clone().into_bytes(),
        }
    }

    /// The text that a value stands for; None for NULL.
    #[inline]
    pub fn text<'t>(&'t self, text: &'t [u8], quoted: bool) -> Option<&'t [u8]> {
        let text = match (text.is_empty(), quoted) {
            (false, _) => text,
            (true, true) => &self.empty,
            (true, false) => return None,
        };
        (text != self.null).then_some(text)
    }

    /// A DOUBLE; white space around it is no part of it.
    #[inline]
    pub fn double(&self, text: &[u8]) -> Option<f64> {
        let text = text.trim_ascii();
        if let Some(number) = scalar::Number::read(text) {
            return Some(number.as_f64(text));
        }
        match text {
            b"NaN" => Some(f64::NAN),
            b"Infinity" | b"+Infinity" => Some(f64::INFINITY),
            b"-Infinity" => Some(f64::NEG_INFINITY),
            _ if text == self.nan => Some(f64::NAN),
            _ if text == self.positive_inf => Some(f64::INFINITY),
            _ if text == self.negative_inf => Some(f64::NEG_INFINITY),
            _ => None,
        }
    }

    /// How many digits the text has if inference takes it for a whole number.
    pub fn whole_digits(&self, text: &[u8]) -> Option<usize> {
        let plain = self.times.whole_number(text)?;
        let digits = plain.strip_prefix(b"-").unwrap_or(&plain);
        (!digits.is_empty() && digits.iter().all(u8::is_ascii_digit)).then_some(digits.len())
    }

    /// Whether inference takes the text for a date.
    pub fn is_date(&self, text: &[u8]) -> bool {
        self.times.is_date(text)
    }

    /// Whether inference takes the text for a timestamp.
    pub fn is_timestamp(&self, text: &[u8]) -> bool {
        self.times.is_timestamp(text)
    }

    /// Appends `text` to the column if it fits. `ascii` says that it is; otherwise its UTF-8 is checked.
    #[inline]
    pub fn push(&self, column: &mut Column, text: &[u8], ascii: bool) -> bool {
        match &mut column.data {
            Data::Utf8(texts) => {
                if ascii {
                    texts.push_ascii(text);
                }
                ascii || texts.push_bytes(text)
            }
            Data::I64(values) => append(values, scalar::integer(text)),
            Data::I32(values) => append(values, scalar::integer(text).and_then(|v| v.try_into().ok())),
            Data::F64(values) => append(values, self.double(text)),
            Data::Date(values) => append(values, self.times.date(text)),
            Data::Timestamp { values, zone: Some(_) } => append(values, self.times.timestamp(text)),
            Data::Timestamp { values, zone: None } => append(values, self.times.timestamp_ntz(text)),
            Data::Bool(values) => append(values, scalar::boolean(text)),
            Data::Decimal { values, precision, scale } => {
                let (precision, scale) = (*precision, *scale);
                append(values, self.times.decimal(text, precision, scale))
            }
            Data::I16(values) => append(values, scalar::integer(text).and_then(|v| v.try_into().ok())),
            Data::I8(values) => append(values, scalar::integer(text).and_then(|v| v.try_into().ok())),
            Data::F32(values) => append(values, self.double(text).map(|v| v as f32)),
            Data::Null(_) | Data::Struct { .. } | Data::List { .. } | Data::Map { .. } => false,
        }
    }
}

#[inline]
fn append<T>(values: &mut Vec<T>, value: Option<T>) -> bool {
    let fits = value.is_some();
    values.extend(value);
    fits
}

/// Refuses columns that no CSV value can fill.
pub(crate) fn check(column: &Column, name: &str) -> Result<(), DecodeError> {
    let data_type = match &column.data {
        Data::Struct { .. } => "STRUCT",
        Data::List { .. } => "ARRAY",
        Data::Map { .. } => "MAP",
        _ => return Ok(()),
    };
    Err(DecodeError::ColumnType {
        column: name.to_owned(),
        data_type: data_type.to_owned(),
        format: "csv",
        reason: "its values are not nested; read STRING and use from_json",
    })
}
