//! A table's schema with more columns: what a stream's rows have and the table lacks, behind what it has, at every level.
//! Existing columns keep name, place and type.

use std::sync::Arc;

use alluvium_parser::Diagnostic;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};

use super::actions::{Metadata, Protocol};
use super::{commit, create, schema};
use crate::error::{Error, Result};

/// What a commit says of a table that grows with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Grown {
    /// With the new schema.
    pub metadata: Metadata,
    /// Some where the new columns ask for more of readers and writers.
    pub protocol: Option<Protocol>,
}

/// The table with the columns of `wanted` that it lacks; None if it lacks none.
pub fn grown(protocol: &Protocol, metadata: &Metadata, wanted: &Schema) -> Result<Option<Grown>> {
    let known = schema::from_json(&metadata.schema_string)?;
    let fields = merged(known.fields(), schema::storable(wanted)?.fields());
    if fields == *known.fields() {
        return Ok(None);
    }
    for field in &fields[known.fields().len()..] {
        if !field.is_nullable() {
            return Err(Error::statement(
                Diagnostic::new(
                    "NOT_NULL_VIOLATION",
                    format!(
                        "column `{}` is new in the table and cannot be NOT NULL: the rows that are there have no value",
                        field.name()
                    ),
                )
                .help("declare it without NOT NULL"),
            ));
        }
    }
    let schema = Schema::new(fields);
    let metadata = Metadata { schema_string: schema::to_json(&schema)?, ..metadata.clone() };
    let needed = commit::covering(protocol, create::protocol_for(schema::has_timestamp_ntz(&schema), false));
    let protocol = (schema::has_timestamp_ntz(&schema) && needed != *protocol).then_some(needed);
    Ok(Some(Grown { metadata, protocol }))
}

fn merged(known: &Fields, wanted: &Fields) -> Fields {
    let mut fields: Vec<FieldRef> = known.iter().cloned().collect();
    for field in wanted {
        match fields.iter().position(|other| other.name().eq_ignore_ascii_case(field.name())) {
            Some(at) => {
                let data_type = merged_type(fields[at].data_type(), field.data_type());
                if data_type != *fields[at].data_type() {
                    fields[at] = Arc::new(fields[at].as_ref().clone().with_data_type(data_type));
                }
            }
            None => fields.push(field.clone()),
        }
    }
    fields.into()
}

fn merged_type(known: &DataType, wanted: &DataType) -> DataType {
    let inner = |known: &FieldRef, wanted: &DataType| {
        Arc::new(known.as_ref().clone().with_data_type(merged_type(known.data_type(), wanted)))
    };
    match (known, wanted) {
        (DataType::Struct(known), DataType::Struct(wanted)) => {
            // Structures that are there already cannot have had these.
            let nullable = |field: &FieldRef| Arc::new(field.as_ref().clone().with_nullable(true));
            let all = merged(known, wanted);
            let new = all.iter().skip(known.len()).map(nullable);
            DataType::Struct(all.iter().take(known.len()).cloned().chain(new).collect())
        }
        (DataType::List(known), DataType::List(wanted)) => DataType::List(inner(known, wanted.data_type())),
        (DataType::Map(known, sorted), DataType::Map(wanted, _)) => {
            let (DataType::Struct(pair), DataType::Struct(new)) = (known.data_type(), wanted.data_type()) else {
                return DataType::Map(known.clone(), *sorted);
            };
            let ([key, value], [_, new]) = (&pair[..], &new[..]) else {
                return DataType::Map(known.clone(), *sorted);
            };
            let pair = DataType::Struct(vec![key.clone(), inner(value, new.data_type())].into());
            DataType::Map(Arc::new(Field::clone(known).with_data_type(pair)), *sorted)
        }
        _ => known.clone(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use alluvium_planner::ddl::parse_ddl;

    use super::*;

    fn table(ddl: &str) -> Metadata {
        let schema = schema::storable(&parse_ddl(ddl).unwrap()).unwrap();
        Metadata { schema_string: schema::to_json(&schema).unwrap(), ..Metadata::default() }
    }

    #[test]
    fn columns_come_last_and_known_ones_stay() {
        let protocol = create::protocol_for(false, false);
        let (old, wanted) =
            (table("a INT, s STRUCT<x: INT>"), parse_ddl("b DATE, s STRUCT<y: STRING>, A BIGINT").unwrap());
        let new = grown(&protocol, &old, &wanted).unwrap().unwrap();
        assert_eq!(new.metadata.schema_string, table("a INT, s STRUCT<x: INT, y: STRING>, b DATE").schema_string);
        assert_eq!(new.protocol, None);
        assert_eq!(grown(&protocol, &new.metadata, &wanted).unwrap(), None);
    }

    #[test]
    fn a_feature_comes_with_the_column_that_needs_it() {
        let protocol = create::protocol_for(false, true);
        let new = grown(&protocol, &table("a INT"), &parse_ddl("t TIMESTAMP_NTZ").unwrap()).unwrap().unwrap();
        let asked = new.protocol.unwrap();
        assert_eq!(asked.reader_features.as_deref(), Some(&["timestampNtz".to_owned()][..]));
        assert!(asked.writer_features.unwrap().contains(&"changeDataFeed".to_owned()));
    }

    #[test]
    fn rows_that_are_there_have_no_value_for_a_column_that_must_have_one() {
        let wanted = Schema::new(vec![Field::new("b", DataType::Int32, false)]);
        let error = grown(&create::protocol_for(false, false), &table("a INT"), &wanted).unwrap_err();
        assert_eq!(error.diagnostic().code, "NOT_NULL_VIOLATION");
    }
}
