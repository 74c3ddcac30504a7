//! `schemaHints`: types that the user knows better than a sample does.
//!
//! A hint names a column, or a part of one: `a.b` a field of a struct, `a.element` what an array holds, `a.key` and `a.value`
//! what a map holds. It replaces the learnt type, or adds what was not in the sample.

use std::sync::Arc;

use alluvium_parser::Diagnostic;
use alluvium_planner::ddl::{parse_ddl, sql_type};
use arrow::datatypes::{DataType, Field, Schema};

use crate::error::{Error, Result};

/// A learnt schema under hints written as DDL.
pub fn apply(learnt: Schema, ddl: &str) -> Result<Schema> {
    let hints = parse_ddl(ddl).map_err(Error::from)?;
    let mut fields: Vec<Field> = learnt.fields().iter().map(|field| field.as_ref().clone()).collect();
    maps_among(&mut fields, &hints);
    for hint in hints.fields() {
        let parts: Vec<&str> = hint.name().split('.').collect();
        hint_into(&mut fields, &parts, hint.data_type())
            .map_err(|why| Diagnostic::new("INVALID_OPTION", format!("the schema hint `{}` {why}", hint.name())))?;
    }
    let settled = fields.into_iter().map(|field| {
        let data_type = settled(field.data_type());
        field.with_data_type(data_type)
    });
    Ok(Schema::new(settled.collect::<Vec<_>>()))
}

/// Replaces or adds the field that `path` names: struct fields by name, `element` of arrays, `key` and `value` of maps.
fn hint_into(fields: &mut Vec<Field>, path: &[&str], data_type: &DataType) -> Result<(), String> {
    let Some((name, rest)) = path.split_first() else { return Ok(()) };
    let at = fields.iter().position(|field| field.name().eq_ignore_ascii_case(name));
    let field = match at {
        Some(at) => fields[at].clone(),
        None => Field::new(*name, DataType::Null, true),
    };
    let hinted = hint_type(field.data_type(), rest, data_type)?;
    let field = field.with_data_type(hinted);
    match at {
        Some(at) => fields[at] = field,
        None => fields.push(field),
    }
    Ok(())
}

fn hint_type(within: &DataType, path: &[&str], data_type: &DataType) -> Result<DataType, String> {
    let Some((first, rest)) = path.split_first() else { return Ok(data_type.clone()) };
    match within {
        DataType::Struct(fields) => {
            let mut inner: Vec<Field> = fields.iter().map(|field| field.as_ref().clone()).collect();
            hint_into(&mut inner, path, data_type)?;
            Ok(DataType::Struct(inner.into()))
        }
        DataType::List(element) if first.eq_ignore_ascii_case("element") => {
            let hinted = hint_type(element.data_type(), rest, data_type)?;
            Ok(DataType::List(Arc::new(element.as_ref().clone().with_data_type(hinted))))
        }
        DataType::Map(entries, sorted) => hint_map(entries, *sorted, first, rest, data_type),
        // Nothing, or nothing but text, was learnt: what the hint says is all that is known.
        DataType::Utf8 | DataType::Null => match first.to_lowercase().as_str() {
            "element" => {
                let element = hint_type(&DataType::Null, rest, data_type)?;
                Ok(DataType::List(Arc::new(Field::new("element", element, true))))
            }
            "key" | "value" => {
                let text = || Field::new("key", DataType::Utf8, false);
                let pair = DataType::Struct(vec![text(), Field::new("value", DataType::Null, true)].into());
                hint_map(&Field::new("key_value", pair, false), false, first, rest, data_type)
            }
            _ => {
                let mut inner = Vec::new();
                hint_into(&mut inner, path, data_type)?;
                Ok(DataType::Struct(inner.into()))
            }
        },
        other => Err(format!("goes into a column of type {}, which has no field `{first}`", sql_type(other))),
    }
}

/// A map under a hint for its `key` or its `value`.
fn hint_map(
    entries: &Field,
    sorted: bool,
    part: &str,
    rest: &[&str],
    data_type: &DataType,
) -> Result<DataType, String> {
    let DataType::Struct(pair) = entries.data_type() else { return Err("goes into a map without entries".into()) };
    let [key, value] = &pair[..] else { return Err("goes into a map without entries".into()) };
    let (mut key, mut value) = (key.as_ref().clone(), value.as_ref().clone());
    match part.to_lowercase().as_str() {
        "key" if rest.is_empty() => key = key.with_data_type(data_type.clone()),
        "value" => {
            let hinted = hint_type(value.data_type(), rest, data_type)?;
            value = value.with_data_type(hinted);
        }
        other => return Err(format!("goes into a map, which has `key` and `value` and no `{other}`")),
    }
    let pair = DataType::Struct(vec![key, value].into());
    Ok(DataType::Map(Arc::new(entries.clone().with_data_type(pair)), sorted))
}

/// Objects that are only hinted at as maps: a struct was learnt, and the hints speak of its `key` and `value`, which it
/// has no fields for.
fn maps_among(learnt: &mut [Field], hints: &Schema) {
    for field in learnt {
        let DataType::Struct(fields) = field.data_type() else { continue };
        let hinted = |part: &str| {
            let prefix = format!("{}.{part}", field.name()).to_lowercase();
            hints.fields().iter().any(|hint| {
                let name = hint.name().to_lowercase();
                name == prefix || name.starts_with(&format!("{prefix}."))
            })
        };
        let has = |part: &str| fields.iter().any(|inner| inner.name().eq_ignore_ascii_case(part));
        if hinted("key") && hinted("value") && !has("key") && !has("value") {
            *field = field.clone().with_data_type(DataType::Null);
        }
    }
}

/// A part of which no hint gave a type.
fn settled(data_type: &DataType) -> DataType {
    let inner = |field: &Arc<Field>| Arc::new(field.as_ref().clone().with_data_type(settled(field.data_type())));
    match data_type {
        DataType::Null => DataType::Utf8,
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner).collect()),
        DataType::List(element) => DataType::List(inner(element)),
        DataType::Map(entries, sorted) => DataType::Map(inner(entries), *sorted),
        other => other.clone(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn hinted(learnt: &str, hints: &str) -> Result<Schema> {
        apply(parse_ddl(learnt).unwrap(), hints)
    }

    #[test]
    fn hints_reach_every_level_and_what_was_not_seen() {
        let schema = hinted(
            "id STRING, a STRUCT<b: BIGINT>, arr ARRAY<STRUCT<c: STRING>>, m MAP<STRING, STRUCT<x: STRING>>, o STRUCT<k1: BIGINT>",
            "id INT, a.b STRING, a.n DATE, arr.element.c DATE, m.key STRING, m.value.x DOUBLE, \
             o.key STRING, o.value DOUBLE, new TIMESTAMP, deep.er INT, list.element.z INT, map.value.v DOUBLE",
        )
        .unwrap();
        let wanted = parse_ddl(
            "id INT, a STRUCT<b: STRING, n: DATE>, arr ARRAY<STRUCT<c: DATE>>, m MAP<STRING, STRUCT<x: DOUBLE>>, \
             o MAP<STRING, DOUBLE>, new TIMESTAMP, deep STRUCT<er: INT>, list ARRAY<STRUCT<z: INT>>, \
             map MAP<STRING, STRUCT<v: DOUBLE>>",
        )
        .unwrap();
        let types = |schema: &Schema| {
            schema.fields().iter().map(|f| format!("{} {}", f.name(), sql_type(f.data_type()))).collect::<Vec<_>>()
        };
        assert_eq!(types(&schema), types(&wanted));
    }

    #[test]
    fn hints_that_lead_nowhere_are_refused() {
        for (learnt, hint) in
            [("a BIGINT", "a.b INT"), ("m MAP<STRING, INT>", "m.other INT"), ("l ARRAY<INT>", "l.x INT")]
        {
            let error = hinted(learnt, hint).unwrap_err().diagnostic();
            assert_eq!(error.code, "INVALID_OPTION", "{hint}: {error:?}");
        }
    }
}
