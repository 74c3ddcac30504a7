//! Arrow schemas and Delta's JSON schemas, both ways. Decides which Arrow types a table can hold.

use std::collections::HashMap;
use std::sync::Arc;

use alluvium_parser::Diagnostic;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

/// The table schema that rows of `schema` are stored in: Delta's types only. Refuses what Delta cannot hold.
pub fn storable(schema: &Schema) -> Result<SchemaRef> {
    let fields = schema.fields().iter().map(|field| storable_field(field, field.name())).collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(Schema::new(fields)))
}

fn storable_field(field: &Field, column: &str) -> Result<Field> {
    let data_type = storable_type(field.data_type(), column)?;
    // What else a source table says of a column (generated from, identity, mapped id) is not true of the new one.
    let comment = field.metadata().iter().filter(|(key, _)| *key == "comment");
    let comment = comment.map(|(key, text)| (key.clone(), text.clone())).collect();
    Ok(Field::new(field.name(), data_type, field.is_nullable()).with_metadata(comment))
}

fn storable_type(data_type: &DataType, column: &str) -> Result<DataType> {
    use DataType as T;
    Ok(match data_type {
        T::Boolean | T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::Float32 | T::Float64 | T::Date32 => {
            data_type.clone()
        }
        T::Utf8 | T::LargeUtf8 | T::Utf8View => T::Utf8,
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => T::Binary,
        T::Date64 => T::Date32,
        T::Float16 => T::Float32,
        T::Timestamp(_, Some(_)) => timestamp(true),
        T::Timestamp(_, None) => timestamp(false),
        T::Decimal32(p, s) | T::Decimal64(p, s) | T::Decimal128(p, s) if *s >= 0 => T::Decimal128(*p, *s),
        T::Decimal256(p, s) if *p <= 38 && *s >= 0 => T::Decimal128(*p, *s),
        T::Dictionary(_, values) => storable_type(values, column)?,
        T::RunEndEncoded(_, values) => storable_type(values.data_type(), column)?,
        T::List(item) | T::LargeList(item) | T::ListView(item) | T::LargeListView(item) | T::FixedSizeList(item, _) => {
            list(storable_type(item.data_type(), column)?, item.is_nullable())
        }
        T::Struct(fields) => {
            T::Struct(fields.iter().map(|field| storable_field(field, column).map(Arc::new)).collect::<Result<_>>()?)
        }
        T::Map(entries, _) => match entries.data_type() {
            T::Struct(pair) if pair.len() == 2 => map(
                storable_type(pair[0].data_type(), column)?,
                storable_type(pair[1].data_type(), column)?,
                pair[1].is_nullable(),
            ),
            _ => return Err(unstorable(column, data_type, "")),
        },
        T::Null => {
            return Err(Error::statement(
                Diagnostic::new(
                    "VOID_COLUMN",
                    format!("column `{column}` has type VOID: all its values are NULL and nothing gives it a type"),
                )
                .help(format!("give it one: CAST(… AS STRING) AS {column}")),
            ));
        }
        T::UInt8 => return Err(unstorable(column, data_type, "SMALLINT")),
        T::UInt16 => return Err(unstorable(column, data_type, "INT")),
        T::UInt32 => return Err(unstorable(column, data_type, "BIGINT")),
        T::UInt64 => return Err(unstorable(column, data_type, "BIGINT")),
        T::Time32(_) | T::Time64(_) | T::Interval(_) | T::Duration(_) => {
            return Err(unstorable(column, data_type, "STRING"));
        }
        T::Decimal256(..) | T::Decimal32(..) | T::Decimal64(..) | T::Decimal128(..) => {
            return Err(unstorable(column, data_type, "DECIMAL(38, 18)"));
        }
        _ => return Err(unstorable(column, data_type, "")),
    })
}

fn unstorable(column: &str, data_type: &DataType, instead: &str) -> Error {
    let diagnostic = Diagnostic::new(
        "UNSUPPORTED_COLUMN_TYPE",
        format!("column `{column}` has type {data_type}, which a Delta table cannot hold"),
    );
    Error::statement(match instead {
        "" => diagnostic.help("leave the column out or turn it into another type"),
        _ => diagnostic.help(format!("cast it: CAST(… AS {instead}) AS {column}")),
    })
}

fn timestamp(zoned: bool) -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, zoned.then(|| "UTC".into()))
}

fn list(item: DataType, nullable: bool) -> DataType {
    DataType::List(Arc::new(Field::new("element", item, nullable)))
}

fn map(key: DataType, value: DataType, value_nullable: bool) -> DataType {
    let pair = vec![Field::new("key", key, false), Field::new("value", value, value_nullable)];
    DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(pair.into()), false)), false)
}

/// The JSON text of a schema of storable types.
pub fn to_json(schema: &Schema) -> Result<String> {
    Ok(struct_json(schema.fields())?.to_string())
}

fn struct_json(fields: &[FieldRef]) -> Result<Value> {
    let fields = fields
        .iter()
        .map(|field| {
            let metadata: Map<String, Value> =
                field.metadata().iter().map(|(key, value)| (key.clone(), Value::String(value.clone()))).collect();
            Ok(json!({
                "name": field.name(),
                "type": type_json(field.data_type())?,
                "nullable": field.is_nullable(),
                "metadata": metadata,
            }))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(json!({ "type": "struct", "fields": fields }))
}

fn type_json(data_type: &DataType) -> Result<Value> {
    use DataType as T;
    Ok(match data_type {
        T::Struct(fields) => struct_json(fields)?,
        T::List(item) => {
            json!({ "type": "array", "elementType": type_json(item.data_type())?, "containsNull": item.is_nullable() })
        }
        T::Map(entries, _) => match entries.data_type() {
            T::Struct(pair) if pair.len() == 2 => json!({
                "type": "map",
                "keyType": type_json(pair[0].data_type())?,
                "valueType": type_json(pair[1].data_type())?,
                "valueContainsNull": pair[1].is_nullable(),
            }),
            _ => return Err(Error::internal(format!("a map without pairs: {data_type}"))),
        },
        primitive => Value::String(primitive_name(primitive)?),
    })
}

fn primitive_name(data_type: &DataType) -> Result<String> {
    use DataType as T;
    Ok(match data_type {
        T::Boolean => "boolean",
        T::Int8 => "byte",
        T::Int16 => "short",
        T::Int32 => "integer",
        T::Int64 => "long",
        T::Float32 => "float",
        T::Float64 => "double",
        T::Utf8 => "string",
        T::Binary => "binary",
        T::Date32 => "date",
        T::Timestamp(_, Some(_)) => "timestamp",
        T::Timestamp(_, None) => "timestamp_ntz",
        T::Decimal128(precision, scale) => return Ok(format!("decimal({precision},{scale})")),
        other => return Err(Error::internal(format!("{other} is not a Delta type"))),
    }
    .to_owned())
}

/// The Arrow schema of a table, from its JSON text. Field metadata is kept, values that are not text as JSON text.
pub fn from_json(text: &str) -> Result<SchemaRef> {
    let json: Value = serde_json::from_str(text).map_err(|error| unreadable(&error.to_string()))?;
    match type_from(&json)? {
        DataType::Struct(fields) => Ok(Arc::new(Schema::new(fields))),
        other => Err(unreadable(&format!("it is a {other}"))),
    }
}

fn unreadable(why: &str) -> Error {
    Error::environment("DELTA_LOG_CORRUPT", format!("the table's schema cannot be read: {why}"))
}

fn type_from(json: &Value) -> Result<DataType> {
    if let Some(name) = json.as_str() {
        return primitive_from(name);
    }
    let flag = |name: &str| json.get(name).and_then(Value::as_bool).unwrap_or(true);
    let part =
        |name: &str| json.get(name).ok_or_else(|| unreadable(&format!("`{name}` is missing"))).and_then(type_from);
    match json.get("type").and_then(Value::as_str) {
        Some("struct") => {
            let fields =
                json.get("fields").and_then(Value::as_array).ok_or_else(|| unreadable("`fields` is missing"))?;
            Ok(DataType::Struct(fields.iter().map(field_from).collect::<Result<_>>()?))
        }
        Some("array") => Ok(list(part("elementType")?, flag("containsNull"))),
        Some("map") => Ok(map(part("keyType")?, part("valueType")?, flag("valueContainsNull"))),
        other => Err(unreadable(&format!("unknown type {other:?}"))),
    }
}

fn field_from(json: &Value) -> Result<FieldRef> {
    let name = json.get("name").and_then(Value::as_str).ok_or_else(|| unreadable("a column has no name"))?;
    let data_type = type_from(json.get("type").ok_or_else(|| unreadable("a column has no type"))?)?;
    let nullable = json.get("nullable").and_then(Value::as_bool).unwrap_or(true);
    let mut metadata = HashMap::new();
    if let Some(entries) = json.get("metadata").and_then(Value::as_object) {
        for (key, value) in entries {
            metadata.insert(key.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
    }
    Ok(Arc::new(Field::new(name, data_type, nullable).with_metadata(metadata)))
}

fn primitive_from(name: &str) -> Result<DataType> {
    Ok(match name {
        "boolean" => DataType::Boolean,
        "byte" => DataType::Int8,
        "short" => DataType::Int16,
        "integer" => DataType::Int32,
        "long" => DataType::Int64,
        "float" => DataType::Float32,
        "double" => DataType::Float64,
        "string" => DataType::Utf8,
        "binary" => DataType::Binary,
        "date" => DataType::Date32,
        "timestamp" => timestamp(true),
        "timestamp_ntz" => timestamp(false),
        decimal if decimal.starts_with("decimal") => {
            let inside = decimal.trim_start_matches("decimal").trim_matches(['(', ')', ' ']);
            let (precision, scale) = match inside.split_once(',') {
                Some((precision, scale)) => (precision.trim().parse(), scale.trim().parse()),
                None => (Ok(10), Ok(0)),
            };
            match (precision, scale) {
                (Ok(precision), Ok(scale)) => DataType::Decimal128(precision, scale),
                _ => return Err(unreadable(&format!("unknown type `{decimal}`"))),
            }
        }
        other => {
            return Err(Error::statement(Diagnostic::new(
                "TABLE_FEATURE",
                format!("the table has a column of type `{other}`, which is not supported yet"),
            )));
        }
    })
}

/// Whether the schema holds a timestamp without time zone anywhere, which is a table feature of its own.
pub fn has_timestamp_ntz(schema: &Schema) -> bool {
    fn inside(data_type: &DataType) -> bool {
        match data_type {
            DataType::Timestamp(_, None) => true,
            DataType::List(item) | DataType::Map(item, _) => inside(item.data_type()),
            DataType::Struct(fields) => fields.iter().any(|field| inside(field.data_type())),
            _ => false,
        }
    }
    schema.fields().iter().any(|field| inside(field.data_type()))
}

/// A type as users write it.
pub fn sql_name(data_type: &DataType) -> String {
    use DataType as T;
    match data_type {
        T::Int8 => "TINYINT".into(),
        T::Int16 => "SMALLINT".into(),
        T::Int32 => "INT".into(),
        T::Int64 => "BIGINT".into(),
        T::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        T::List(item) => format!("ARRAY<{}>", sql_name(item.data_type())),
        T::Map(entries, _) => match entries.data_type() {
            T::Struct(pair) if pair.len() == 2 => {
                format!("MAP<{}, {}>", sql_name(pair[0].data_type()), sql_name(pair[1].data_type()))
            }
            other => format!("MAP<{other}>"),
        },
        T::Struct(fields) => {
            let fields: Vec<_> =
                fields.iter().map(|field| format!("{}: {}", field.name(), sql_name(field.data_type()))).collect();
            format!("STRUCT<{}>", fields.join(", "))
        }
        other => primitive_name(other).map_or_else(|_| other.to_string(), |name| name.to_uppercase()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_storable_type_survives_the_json() {
        let nested = Field::new("inner", DataType::Decimal128(12, 2), true);
        let schema = Schema::new(vec![
            Field::new("i", DataType::Int64, false),
            Field::new("s", DataType::Utf8View, true).with_metadata([("comment".into(), "text".into())].into()),
            Field::new("t", DataType::Timestamp(TimeUnit::Nanosecond, Some("Europe/Berlin".into())), true),
            Field::new("n", DataType::Timestamp(TimeUnit::Millisecond, None), true),
            Field::new(
                "l",
                DataType::LargeList(Arc::new(Field::new("item", DataType::Struct(vec![nested].into()), true))),
                true,
            ),
            Field::new("m", map(DataType::Utf8, DataType::Date32, true), true),
        ]);
        let stored = storable(&schema).unwrap();
        assert_eq!(from_json(&to_json(&stored).unwrap()).unwrap(), stored);
        assert!(has_timestamp_ntz(&stored));
        assert_eq!(sql_name(stored.field(4).data_type()), "ARRAY<STRUCT<inner: DECIMAL(12, 2)>>");
    }

    #[test]
    fn refusals_name_column_and_way_out() {
        let refused =
            |data_type| storable(&Schema::new(vec![Field::new("x", data_type, true)])).unwrap_err().diagnostic();
        assert!(refused(DataType::Null).message.contains("column `x` has type VOID"));
        assert!(refused(DataType::UInt64).help[0].contains("AS BIGINT"));
    }
}
