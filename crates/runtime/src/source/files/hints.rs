//! `schemaHints`: types that the user knows better than a sample does.
//!
//! A hint names a column, or a part of one: `a.b` a field of a struct, `a.element` what an array holds. It replaces the learnt
//! type, or adds what was not in the sample.

use std::sync::Arc;

use alluvium_parser::Diagnostic;
use alluvium_planner::ddl::parse_ddl;
use arrow::datatypes::{DataType, Field, Schema};

use crate::error::{Error, Result};

/// A learnt schema under hints written as DDL.
pub fn apply(learnt: Schema, ddl: &str) -> Result<Schema> {
    let hints = parse_ddl(ddl).map_err(Error::from)?;
    let mut fields: Vec<Field> = learnt.fields().iter().map(|field| field.as_ref().clone()).collect();
    for hint in hints.fields() {
        let parts: Vec<&str> = hint.name().split('.').collect();
        hint_into(&mut fields, &parts, hint.data_type())
            .map_err(|why| Diagnostic::new("INVALID_OPTION", format!("the schema hint `{}` {why}", hint.name())))?;
    }
    Ok(Schema::new(fields))
}

/// Replaces or adds the field that `path` names: struct fields by name, `element` of arrays, `key` and `value` of maps.
fn hint_into(fields: &mut Vec<Field>, path: &[&str], data_type: &DataType) -> Result<(), String> {
    let Some((name, rest)) = path.split_first() else { return Ok(()) };
    let at = fields.iter().position(|field| field.name().eq_ignore_ascii_case(name));
    match (at, rest.is_empty()) {
        (Some(at), true) => fields[at] = fields[at].clone().with_data_type(data_type.clone()),
        (None, true) => fields.push(Field::new(*name, data_type.clone(), true)),
        (None, false) => {
            let mut inner = Vec::new();
            hint_into(&mut inner, rest, data_type)?;
            fields.push(Field::new(*name, DataType::Struct(inner.into()), true));
        }
        (Some(at), false) => {
            let hinted = hint_type(fields[at].data_type(), rest, data_type)?;
            fields[at] = fields[at].clone().with_data_type(hinted);
        }
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
        // Nothing but text was learnt: what the hint says is all that is known.
        DataType::Utf8 => {
            let mut inner = Vec::new();
            hint_into(&mut inner, path, data_type)?;
            Ok(DataType::Struct(inner.into()))
        }
        other => Err(format!("goes into a column of type {other}, which has no field `{first}`")),
    }
}
