//! `from_json(text, schema)`: JSON text as a structure, an array or a map; `schema_of_json`, `json_array_length`,
//! `json_object_keys`.
//!
//! As in Spark's PERMISSIVE mode, what does not fit its type is NULL, and so is every field of a text that is no JSON.
//! Fields are found by their exact name.

use std::sync::Arc;

use chrono::NaiveDate;
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{
    ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Float32Array, Float64Array, Int8Array, Int16Array,
    Int32Array, Int64Array, ListArray, ListBuilder, MapArray, StringArray, StringBuilder, StructArray,
    TimestampMicrosecondArray, new_null_array,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::cast;
use datafusion::arrow::compute::kernels::cast_utils::string_to_datetime;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::cast::as_string_array;
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use serde_json::Value;

use super::patterns::text_list;
use super::plain::plain;
use crate::ddl;

/// All of them, for a session time zone.
pub(super) fn functions(timezone: &str) -> Vec<Arc<ScalarUDF>> {
    let signature = Signature::user_defined(Volatility::Immutable);
    vec![
        Arc::new(ScalarUDF::from(FromJson { timezone: timezone.to_owned(), signature })),
        plain("schema_of_json", &[DataType::Utf8], 1, DataType::Utf8, schema_of),
        plain("json_array_length", &[DataType::Utf8], 1, DataType::Int32, array_length),
        plain("json_object_keys", &[DataType::Utf8], 1, text_list(), object_keys),
    ]
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct FromJson {
    timezone: String,
    signature: Signature,
}

/// The type that `text` describes: a type, or columns.
fn described(text: &str) -> Result<DataType> {
    let refusal = |refusal: alluvium_parser::Diagnostic| DataFusionError::Plan(refusal.message);
    // One column of that type: `ARRAY<INT>` is a type, `a INT` is not, and the other way round.
    match ddl::parse_ddl(&format!("value {text}")) {
        Ok(schema) if schema.fields().len() == 1 && ddl::parse_ddl(text).is_err() => {
            Ok(schema.field(0).data_type().clone())
        }
        _ => Ok(DataType::Struct(nullable(ddl::parse_ddl(text).map_err(refusal)?.fields()))),
    }
}

fn nullable(fields: &datafusion::arrow::datatypes::Fields) -> datafusion::arrow::datatypes::Fields {
    fields.iter().map(|field| Arc::new(field.as_ref().clone().with_nullable(true))).collect()
}

impl ScalarUDFImpl for FromJson {
    fn name(&self) -> &str {
        "from_json"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        match arg_types {
            [_, _] => Ok(vec![DataType::Utf8, DataType::Utf8]),
            [_, _, _] => plan_err!("from_json with options is not carried out yet; leave them out"),
            _ => plan_err!("from_json takes a text and a schema, such as 'a INT, b STRING'"),
        }
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        plan_err!("the schema of from_json must be written out, as in 'a INT, b STRING'")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let schema = args.scalar_arguments.get(1).copied().flatten().and_then(|schema| schema.try_as_str()).flatten();
        match schema {
            Some(schema) => Ok(Arc::new(Field::new("from_json", described(schema)?, true))),
            None => plan_err!("the schema of from_json must be written out, as in 'a INT, b STRING'"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(texts) = args.args.first() else { return exec_err!("from_json takes a text") };
        let constant = matches!(texts, ColumnarValue::Scalar(_));
        let texts = texts.to_array(if constant { 1 } else { args.number_rows })?;
        let gives = args.return_field.data_type();
        let wraps = matches!(gives, DataType::List(_));
        let reader = Reader { zone: self.timezone.parse()? };
        let documents: Vec<Option<Value>> = as_string_array(&texts)?
            .iter()
            .map(|text| {
                let read = serde_json::from_str::<Value>(text?).ok();
                Some(match (read, gives) {
                    (Some(Value::Array(items)), DataType::Struct(_)) if items.len() == 1 => {
                        items.into_iter().next().unwrap_or(Value::Null)
                    }
                    (Some(object @ Value::Object(_)), _) if wraps => Value::Array(vec![object]),
                    // A structure of NULLs, as of an empty object.
                    (None, DataType::Struct(_)) => Value::Object(serde_json::Map::new()),
                    (read, _) => read.unwrap_or(Value::Null),
                })
            })
            .collect();
        let read = reader.column(&documents.iter().map(Option::as_ref).collect::<Vec<_>>(), gives)?;
        match constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&read, 0)?)),
            false => Ok(ColumnarValue::Array(read)),
        }
    }
}

struct Reader {
    zone: Tz,
}

impl Reader {
    /// One value each, NULL for what does not fit.
    fn column(&self, values: &[Option<&Value>], wanted: &DataType) -> Result<ArrayRef> {
        let whole = |value: &&Value| value.as_i64();
        let number = |value: &&Value| match value {
            Value::String(text) => match text.as_str() {
                "NaN" => Some(f64::NAN),
                "Infinity" | "+Infinity" => Some(f64::INFINITY),
                "-Infinity" => Some(f64::NEG_INFINITY),
                _ => None,
            },
            value => value.as_f64(),
        };
        macro_rules! integers {
            ($array:ty, $number:ty) => {
                Arc::new(
                    each(values, |value| whole(&value).and_then(|n| <$number>::try_from(n).ok())).collect::<$array>(),
                )
            };
        }
        Ok(match wanted {
            DataType::Boolean => Arc::new(each(values, |value| value.as_bool()).collect::<BooleanArray>()),
            DataType::Int8 => integers!(Int8Array, i8),
            DataType::Int16 => integers!(Int16Array, i16),
            DataType::Int32 => integers!(Int32Array, i32),
            DataType::Int64 => integers!(Int64Array, i64),
            DataType::Float32 => {
                Arc::new(each(values, |value| number(&value).map(|n| n as f32)).collect::<Float32Array>())
            }
            DataType::Float64 => Arc::new(each(values, |value| number(&value)).collect::<Float64Array>()),
            DataType::Decimal128(_, _) => {
                let texts: StringArray = each(values, |value| match value {
                    Value::Number(number) => Some(number.to_string()),
                    Value::String(text) => Some(text.clone()),
                    _ => None,
                })
                .collect();
                cast(&texts, wanted)?
            }
            DataType::Utf8 => Arc::new(each(values, text_of).collect::<StringArray>()),
            DataType::Binary => {
                let texts: StringArray = each(values, |value| value.as_str().map(str::to_owned)).collect();
                let bytes = texts.iter().map(|text| text.and_then(from_base64));
                Arc::new(bytes.collect::<BinaryArray>())
            }
            DataType::Date32 => {
                let date = |value: &Value| {
                    let date: NaiveDate = value.as_str()?.get(..10)?.parse().ok()?;
                    i32::try_from(date.signed_duration_since(NaiveDate::default()).num_days()).ok()
                };
                Arc::new(each(values, date).collect::<Date32Array>())
            }
            DataType::Timestamp(_, zone) => {
                let instant = |value: &Value| {
                    let at = string_to_datetime(&self.zone, value.as_str()?).ok()?;
                    Some(if zone.is_some() {
                        at.timestamp_micros()
                    } else {
                        at.naive_local().and_utc().timestamp_micros()
                    })
                };
                let instants: TimestampMicrosecondArray = each(values, instant).collect();
                cast(&instants.with_timezone_opt(zone.clone()), wanted)?
            }
            DataType::Struct(fields) => {
                let objects: Vec<Option<&Value>> =
                    values.iter().map(|value| value.filter(|value| value.is_object())).collect();
                let of = |field: &FieldRef| {
                    let inner: Vec<Option<&Value>> =
                        objects.iter().map(|object| object.and_then(|object| object.get(field.name()))).collect();
                    self.column(&inner, field.data_type())
                };
                let columns = fields.iter().map(of).collect::<Result<Vec<_>>>()?;
                let nulls: NullBuffer = objects.iter().map(Option::is_some).collect();
                Arc::new(StructArray::try_new_with_length(nullable(fields), columns, Some(nulls), values.len())?)
            }
            DataType::List(element) => {
                let lists: Vec<Option<&Vec<Value>>> =
                    values.iter().map(|value| value.and_then(|value| value.as_array())).collect();
                let inner: Vec<Option<&Value>> =
                    lists.iter().flatten().flat_map(|list| list.iter().map(Some)).collect();
                let offsets = OffsetBuffer::from_lengths(lists.iter().map(|list| list.map_or(0, Vec::len)));
                let nulls: NullBuffer = lists.iter().map(Option::is_some).collect();
                let items = self.column(&inner, element.data_type())?;
                Arc::new(ListArray::try_new(element.clone(), offsets, items, Some(nulls))?)
            }
            DataType::Map(entries, sorted) => {
                let DataType::Struct(fields) = entries.data_type() else { return exec_err!("a map has entries") };
                if fields.first().is_none_or(|key| key.data_type() != &DataType::Utf8) {
                    return exec_err!("from_json makes maps whose keys are STRING");
                }
                let maps: Vec<_> = values.iter().map(|value| value.and_then(|value| value.as_object())).collect();
                let keys: StringArray = maps.iter().flatten().flat_map(|map| map.keys().map(Some)).collect();
                let inner: Vec<Option<&Value>> = maps.iter().flatten().flat_map(|map| map.values().map(Some)).collect();
                let offsets = OffsetBuffer::from_lengths(maps.iter().map(|map| map.map_or(0, serde_json::Map::len)));
                let nulls: NullBuffer = maps.iter().map(Option::is_some).collect();
                let items = self.column(&inner, fields[1].data_type())?;
                let pairs = StructArray::try_new(fields.clone(), vec![Arc::new(keys), items], None)?;
                Arc::new(MapArray::try_new(entries.clone(), offsets, pairs, Some(nulls), *sorted)?)
            }
            DataType::Null => new_null_array(&DataType::Null, values.len()),
            other => return exec_err!("from_json does not make values of the type {}", ddl::sql_type(other)),
        })
    }
}

fn each<'v, T>(
    values: &'v [Option<&'v Value>],
    of: impl Fn(&'v Value) -> Option<T> + 'v,
) -> impl Iterator<Item = Option<T>> + 'v {
    values.iter().map(move |value| value.and_then(&of))
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// Bytes of base64 text, padded or not.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let (mut out, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(digit);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(((bits >> held) & 0xff) as u8);
        }
    }
    Some(out)
}

fn documents(args: &[ArrayRef]) -> Result<Vec<Option<Value>>> {
    let Some(texts) = args.first() else { return exec_err!("a text is needed") };
    Ok(texts.as_string::<i32>().iter().map(|text| serde_json::from_str(text?).ok()).collect())
}

fn array_length(args: &[ArrayRef]) -> Result<ArrayRef> {
    let lengths = documents(args)?.into_iter().map(|document| i32::try_from(document?.as_array()?.len()).ok());
    Ok(Arc::new(lengths.collect::<Int32Array>()))
}

fn object_keys(args: &[ArrayRef]) -> Result<ArrayRef> {
    let mut out = ListBuilder::new(StringBuilder::new()).with_field(Field::new_list_field(DataType::Utf8, true));
    for document in documents(args)? {
        match document.as_ref().and_then(Value::as_object) {
            Some(object) => {
                object.keys().for_each(|key| out.values().append_value(key));
                out.append(true);
            }
            None => out.append_null(),
        }
    }
    Ok(Arc::new(out.finish()))
}

fn schema_of(args: &[ArrayRef]) -> Result<ArrayRef> {
    let Some(texts) = args.first() else { return exec_err!("a text is needed") };
    let schema = |text: &str| match serde_json::from_str::<Value>(text) {
        Ok(document) => Ok(type_of(&document)),
        Err(error) => exec_err!("schema_of_json: this is not JSON: {error}"),
    };
    let schemas = texts.as_string::<i32>().iter().map(|text| text.map(schema).transpose());
    Ok(Arc::new(schemas.collect::<Result<StringArray>>()?))
}

/// As `schema_of_json` names it.
fn type_of(value: &Value) -> String {
    match value {
        Value::Null | Value::String(_) => "STRING".to_owned(),
        Value::Bool(_) => "BOOLEAN".to_owned(),
        Value::Number(number) if number.is_f64() => "DOUBLE".to_owned(),
        Value::Number(_) => "BIGINT".to_owned(),
        Value::Array(items) => {
            let merged = items.iter().fold(Value::Null, merge);
            format!("ARRAY<{}>", type_of(&merged))
        }
        Value::Object(fields) => {
            // Spark sorts the names.
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| name.as_str());
            let fields: Vec<String> =
                fields.iter().map(|(name, value)| format!("{name}: {}", type_of(value))).collect();
            format!("STRUCT<{}>", fields.join(", "))
        }
    }
}

/// A value whose type is wide enough for both.
fn merge(all: Value, item: &Value) -> Value {
    match (all, item) {
        (Value::Null, item) => item.clone(),
        (all, Value::Null) => all,
        (Value::Number(all), Value::Number(item)) => Value::Number(if all.is_f64() { all } else { item.clone() }),
        (Value::Bool(all), Value::Bool(_)) => Value::Bool(all),
        (Value::Array(mut all), Value::Array(items)) => {
            all.extend(items.iter().cloned());
            Value::Array(all)
        }
        (Value::Object(mut all), Value::Object(items)) => {
            for (name, item) in items {
                let known = all.remove(name).unwrap_or(Value::Null);
                all.insert(name.clone(), merge(known, item));
            }
            Value::Object(all)
        }
        _ => Value::String(String::new()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn schemas_are_types_or_columns() {
        let of = |text: &str| ddl::sql_type(&described(text).unwrap());
        assert_eq!(of("a INT, b STRING"), "STRUCT<a: INT, b: STRING>");
        assert_eq!(of("ARRAY<INT>"), "ARRAY<INT>");
        assert_eq!(of("STRUCT<a: INT>"), "STRUCT<a: INT>");
        assert_eq!(of("MAP<STRING, DOUBLE>"), "MAP<STRING, DOUBLE>");
        assert!(described("a").is_err());
    }

    #[test]
    fn schemas_of_documents() {
        let of = |text: &str| type_of(&serde_json::from_str(text).unwrap());
        assert_eq!(of(r#"[{"col": 0}, {"col": 1.5, "b": null}]"#), "ARRAY<STRUCT<b: STRING, col: DOUBLE>>");
        assert_eq!(of(r#"{"a": true, "b": []}"#), "STRUCT<a: BOOLEAN, b: ARRAY<STRING>>");
    }

    #[test]
    fn base64_is_read() {
        assert_eq!(from_base64("YWJj").unwrap(), b"abc");
        assert_eq!(from_base64("YQ==").unwrap(), b"a");
        assert!(from_base64("a b").is_none());
    }
}
