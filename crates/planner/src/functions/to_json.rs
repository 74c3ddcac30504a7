//! `to_json` of structures, arrays and maps. Fields that are NULL are left out, elements are not.

use std::sync::Arc;

use chrono::{SecondsFormat, TimeZone, Utc};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float32Type, Float64Type, TimeUnit, TimestampMicrosecondType};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

/// The function, for a session time zone.
pub(super) fn udf(timezone: &str) -> Arc<ScalarUDF> {
    let signature = Signature::any(1, Volatility::Immutable);
    Arc::new(ScalarUDF::from(ToJson { timezone: timezone.to_owned(), signature }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ToJson {
    timezone: String,
    signature: Signature,
}

impl ScalarUDFImpl for ToJson {
    fn name(&self) -> &str {
        "to_json"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types {
            [DataType::Struct(_) | DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _)]
            | [DataType::Map(_, _) | DataType::Null] => Ok(DataType::Utf8),
            [other] => plan_err!(
                "to_json takes a STRUCT, an ARRAY or a MAP as its type, not {}; write struct(…)",
                crate::ddl::sql_type(other)
            ),
            _ => plan_err!("to_json takes one argument"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(value) = args.args.first() else { return exec_err!("to_json takes a value") };
        let constant = matches!(value, ColumnarValue::Scalar(_));
        let array = value.to_array(if constant { 1 } else { args.number_rows })?;
        let writer = Writer { zone: self.timezone.parse()? };
        let mut out = StringBuilder::new();
        let (mut text, column) = (String::new(), writer.column(&array)?);
        for row in 0..array.len() {
            if array.is_null(row) {
                out.append_null();
                continue;
            }
            text.clear();
            column(row, &mut text)?;
            out.append_value(&text);
        }
        match constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&out.finish(), 0)?)),
            false => Ok(ColumnarValue::Array(Arc::new(out.finish()))),
        }
    }
}

/// Writes the value of a row that is not NULL.
type Write<'a> = Box<dyn Fn(usize, &mut String) -> Result<()> + 'a>;

struct Writer {
    zone: Tz,
}

impl Writer {
    fn column<'a>(&self, array: &'a ArrayRef) -> Result<Write<'a>> {
        Ok(match array.data_type() {
            DataType::Null => Box::new(|_, out| {
                out.push_str("null");
                Ok(())
            }),
            DataType::Boolean => {
                let values = array.as_boolean();
                Box::new(|row, out| {
                    out.push_str(if values.value(row) { "true" } else { "false" });
                    Ok(())
                })
            }
            DataType::Float64 => {
                let values = array.as_primitive::<Float64Type>();
                Box::new(|row, out| {
                    double(values.value(row), out);
                    Ok(())
                })
            }
            DataType::Float32 => {
                let values = array.as_primitive::<Float32Type>();
                Box::new(|row, out| {
                    // Through its text, so that 0.1 stays 0.1.
                    double(values.value(row).to_string().parse().unwrap_or(f64::NAN), out);
                    Ok(())
                })
            }
            DataType::Timestamp(_, zone) => {
                let zone = if zone.is_some() { Some(self.zone) } else { None };
                let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
                let values = cast(array, &micros)?.as_primitive::<TimestampMicrosecondType>().clone();
                Box::new(move |row, out| {
                    let Some(at) = Utc.timestamp_micros(values.value(row)).single() else {
                        return exec_err!("a timestamp is too far away to be written");
                    };
                    let text = match zone {
                        Some(zone) => at.with_timezone(&zone).to_rfc3339_opts(SecondsFormat::Millis, true),
                        None => at.naive_utc().format("%Y-%m-%dT%H:%M:%S%.3f").to_string(),
                    };
                    quoted(&text, out);
                    Ok(())
                })
            }
            DataType::Struct(fields) => {
                let columns = array.as_struct().columns();
                let mut writers = Vec::with_capacity(columns.len());
                for (field, column) in fields.iter().zip(columns) {
                    let mut name = String::new();
                    quoted(field.name(), &mut name);
                    writers.push((name, column, self.column(column)?));
                }
                Box::new(move |row, out| {
                    out.push('{');
                    let start = out.len();
                    for (name, column, write) in &writers {
                        if column.is_null(row) {
                            continue;
                        }
                        if out.len() > start {
                            out.push(',');
                        }
                        out.push_str(name);
                        out.push(':');
                        write(row, out)?;
                    }
                    out.push('}');
                    Ok(())
                })
            }
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                let (offsets, values) = (list.value_offsets(), list.values());
                let write = self.column(values)?;
                Box::new(move |row, out| {
                    out.push('[');
                    for at in offsets[row]..offsets[row + 1] {
                        if at > offsets[row] {
                            out.push(',');
                        }
                        or_null(values, at as usize, &write, out)?;
                    }
                    out.push(']');
                    Ok(())
                })
            }
            DataType::Map(_, _) => {
                let map = array.as_map();
                let (offsets, keys, values) = (map.value_offsets(), map.keys(), map.values());
                let write = self.column(values)?;
                let names = ArrayFormatter::try_new(keys, &FormatOptions::default())?;
                Box::new(move |row, out| {
                    out.push('{');
                    for at in offsets[row]..offsets[row + 1] {
                        if at > offsets[row] {
                            out.push(',');
                        }
                        quoted(&names.value(at as usize).to_string(), out);
                        out.push(':');
                        or_null(values, at as usize, &write, out)?;
                    }
                    out.push('}');
                    Ok(())
                })
            }
            number if number.is_integer() || number.is_decimal() => {
                let formatter = ArrayFormatter::try_new(array, &FormatOptions::default())?;
                Box::new(move |row, out| {
                    out.push_str(&formatter.value(row).to_string());
                    Ok(())
                })
            }
            DataType::Utf8 => {
                let values = array.as_string::<i32>();
                Box::new(|row, out| {
                    quoted(values.value(row), out);
                    Ok(())
                })
            }
            DataType::Binary => {
                let values = array.as_binary::<i32>();
                Box::new(|row, out| {
                    quoted(&base64(values.value(row)), out);
                    Ok(())
                })
            }
            DataType::Date32 => {
                let formatter = ArrayFormatter::try_new(array, &FormatOptions::default())?;
                Box::new(move |row, out| {
                    quoted(&formatter.value(row).to_string(), out);
                    Ok(())
                })
            }
            other => return exec_err!("to_json does not write values of the type {}", crate::ddl::sql_type(other)),
        })
    }
}

fn or_null(values: &ArrayRef, at: usize, write: &Write<'_>, out: &mut String) -> Result<()> {
    if values.is_null(at) {
        out.push_str("null");
        return Ok(());
    }
    write(at, out)
}

fn quoted(text: &str, out: &mut String) {
    // Strings cannot fail to be written.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

/// As Java writes a double: `1.5`, `1.0E10`; what is no number as a text.
fn double(value: f64, out: &mut String) {
    if value.is_nan() {
        out.push_str("\"NaN\"");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "\"Infinity\"" } else { "\"-Infinity\"" });
    } else if value == 0.0 || (1e-3..1e7).contains(&value.abs()) {
        out.push_str(&format!("{value:?}"));
    } else {
        let text = format!("{value:e}");
        match text.split_once('e') {
            Some((digits, exponent)) if digits.contains('.') => out.push_str(&format!("{digits}E{exponent}")),
            Some((digits, exponent)) => out.push_str(&format!("{digits}.0E{exponent}")),
            None => out.push_str(&text),
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let part = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = (part(0) << 16) | (part(1) << 8) | part(2);
        for place in 0..4 {
            let digit = DIGITS[((bits >> (18 - 6 * place)) & 63) as usize];
            out.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{base64, double};

    #[test]
    fn doubles_are_javas() {
        let text = |value| {
            let mut out = String::new();
            double(value, &mut out);
            out
        };
        assert_eq!(
            (text(1.5), text(1e10), text(1.25e-7), text(3.0)),
            ("1.5".into(), "1.0E10".into(), "1.25E-7".into(), "3.0".into())
        );
        assert_eq!((base64(b"abc"), base64(b"a")), ("YWJj".to_owned(), "YQ==".to_owned()));
    }
}
