//! Which tables this engine may write to or stream from. Every refusal names the feature.

use alluvium_parser::Diagnostic;
use arrow::datatypes::{DataType, Field, Schema};

use super::actions::{Metadata, Protocol};
use crate::error::{Error, Result};

/// Writer features that need nothing of a writer that adds files and removes whole files.
const HARMLESS_TO_WRITERS: &[&str] = &[
    "appendOnly",
    "invariants",
    "checkConstraints",
    "generatedColumns",
    "changeDataFeed",
    "columnMapping",
    "identityColumns",
    "timestampNtz",
    "deletionVectors",
    "v2Checkpoint",
    "vacuumProtocolCheck",
];

/// Refuses tables whose rules a plain writer would break. Where the feature is only allowed but not used (a writer
/// version that includes CHECK constraints, none declared), the table is fine.
pub fn writable(protocol: &Protocol, metadata: &Metadata, schema: &Schema) -> Result<()> {
    if protocol.min_writer_version > 7 {
        return Err(refused(&format!("writer version {}", protocol.min_writer_version), "written to"));
    }
    let unknown = protocol.writer_features.iter().flatten().find(|name| !HARMLESS_TO_WRITERS.contains(&name.as_str()));
    if let Some(feature) = unknown {
        return Err(refused(feature, "written to"));
    }
    if metadata.configuration.keys().any(|key| key.starts_with("delta.constraints.")) {
        return Err(refused("checkConstraints", "written to"));
    }
    if column_mapping(metadata) {
        return Err(refused("columnMapping", "written to"));
    }
    match schema.fields().iter().find_map(|field| rule(field)) {
        Some(feature) => Err(refused(feature, "written to")),
        None => Ok(()),
    }
}

/// The feature behind a rule that a column, or a field within it, has for its values.
fn rule(field: &Field) -> Option<&'static str> {
    let own = field.metadata().keys().find_map(|key| match key.as_str() {
        "delta.invariants" => Some("invariants"),
        "delta.generationExpression" => Some("generatedColumns"),
        key if key.starts_with("delta.identity.") => Some("identityColumns"),
        _ => None,
    });
    own.or_else(|| match field.data_type() {
        DataType::Struct(fields) => fields.iter().find_map(|field| rule(field)),
        DataType::List(item) | DataType::Map(item, _) => rule(item),
        _ => None,
    })
}

/// Refuses changing rows of a table whose readers are told of each change: the files of changes are not written.
pub fn upsertable(metadata: &Metadata) -> Result<()> {
    removable(metadata)?;
    if is_true(metadata, "delta.enableChangeDataFeed") {
        return Err(Error::statement(
            Diagnostic::new(
                "TABLE_FEATURE",
                "the table has a change data feed (`delta.enableChangeDataFeed` is true), which is not written with changed rows yet",
            )
            .help("leave the property out, or use OUTPUT MODE COMPLETE without deletion vectors"),
        ));
    }
    Ok(())
}

/// Whether rows of the table's files may die by deletion vectors.
pub fn takes_deletion_vectors(protocol: &Protocol, metadata: &Metadata) -> bool {
    let names = protocol.writer_features.iter().flatten().any(|name| name == "deletionVectors");
    names && is_true(metadata, "delta.enableDeletionVectors")
}

/// Refuses removing rows from a table that only grows.
pub fn removable(metadata: &Metadata) -> Result<()> {
    if is_true(metadata, "delta.appendOnly") {
        return Err(Error::statement(
            Diagnostic::new(
                "TABLE_FEATURE",
                "the table is append-only (`delta.appendOnly` is true): its rows cannot be replaced",
            )
            .help("use OUTPUT MODE APPEND, or set the property to false"),
        ));
    }
    Ok(())
}

/// Refuses tables whose files cannot be read by themselves.
pub fn streamable(protocol: &Protocol, metadata: &Metadata) -> Result<()> {
    if protocol.min_reader_version > 3 {
        return Err(refused(&format!("reader version {}", protocol.min_reader_version), "read as a stream"));
    }
    if column_mapping(metadata) {
        return Err(refused("columnMapping", "read as a stream"));
    }
    const UNDERSTOOD: &[&str] =
        &["timestampNtz", "deletionVectors", "columnMapping", "v2Checkpoint", "vacuumProtocolCheck"];
    match protocol.reader_features.iter().flatten().find(|name| !UNDERSTOOD.contains(&name.as_str())) {
        Some(feature) => Err(refused(feature, "read as a stream")),
        None => Ok(()),
    }
}

/// `refused("deletionVectors", "read as a stream")`.
pub fn refused(feature: &str, doing: &str) -> Error {
    Error::statement(
        Diagnostic::new(
            "TABLE_FEATURE",
            format!("the table uses the Delta feature `{feature}` and cannot be {doing} yet"),
        )
        .help("read it once instead (without STREAM), or copy it: CREATE TABLE … AS SELECT * FROM …"),
    )
}

fn column_mapping(metadata: &Metadata) -> bool {
    metadata.configuration.get("delta.columnMapping.mode").is_some_and(|mode| mode != "none")
}

fn is_true(metadata: &Metadata, property: &str) -> bool {
    metadata.configuration.get(property).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn features_are_refused_by_name() {
        let schema = Schema::empty();
        let protocol = |features: &[&str]| Protocol {
            min_reader_version: 3,
            min_writer_version: 7,
            reader_features: None,
            writer_features: Some(features.iter().map(|name| (*name).to_owned()).collect()),
        };
        let plain = Metadata::default();
        writable(&protocol(&["appendOnly", "timestampNtz", "checkConstraints"]), &plain, &schema).unwrap();
        let error = writable(&protocol(&["rowTracking"]), &plain, &schema).unwrap_err().diagnostic();
        assert!(error.code == "TABLE_FEATURE" && error.message.contains("`rowTracking`"));
        let mut constrained = Metadata::default();
        constrained.configuration.insert("delta.constraints.positive".into(), "x > 0".into());
        let error = writable(&protocol(&["checkConstraints"]), &constrained, &schema).unwrap_err();
        assert!(error.to_string().contains("checkConstraints"));
    }
}
