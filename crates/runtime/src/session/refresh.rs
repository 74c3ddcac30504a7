//! What CREATE OR REFRESH STREAMING TABLE may not change: where the table and its checkpoint are, and what the table
//! says about itself. Refused by name, so that nothing in the statement is passed over.

use alluvium_parser::{CreateStreamingTable, Diagnostic, Span, Text};

use crate::catalog::StreamEntry;
use crate::error::{Error, Result};
use crate::session::table_properties;
use crate::table::{self, Head};

/// Another LOCATION or CHECKPOINT LOCATION than the stream has.
pub(super) fn refuse_moved(create: &CreateStreamingTable, stream: &StreamEntry, name: &str) -> Result<()> {
    let places = [
        ("LOCATION", &create.location, &stream.location),
        ("CHECKPOINT LOCATION", &create.checkpoint_location, &stream.checkpoint),
    ];
    for (clause, given, known) in places {
        let Some(Text { value, span, .. }) = given else { continue };
        let path = table::table_path(value).map_err(|e| e.at_least(*span))?;
        let path = std::path::absolute(&path).map_err(|e| Error::io("find", &path, &e))?;
        if path != *known {
            return Err(refusal(format!("`{name}` has its {clause} at `{}`", known.display()), *span));
        }
    }
    Ok(())
}

/// Another COMMENT or PARTITIONED BY, or TBLPROPERTIES that the table does not have.
pub(super) fn refuse_changed_table(create: &CreateStreamingTable, head: &Head) -> Result<()> {
    if let Some(comment) = &create.comment
        && head.comment() != Some(comment.value.as_str())
    {
        return Err(refusal("OR REFRESH keeps the table's COMMENT".to_owned(), comment.span));
    }
    let (wanted, known) = (&create.partitioned_by, head.partition_columns());
    let same = wanted.len() == known.len()
        && wanted.iter().zip(known).all(|(name, known)| name.parts.join(".").eq_ignore_ascii_case(known));
    if let (Some(first), false) = (wanted.first(), same) {
        let told = format!("OR REFRESH keeps the table's PARTITIONED BY ({})", known.join(", "));
        return Err(refusal(told, first.span));
    }
    for property in &create.properties {
        if head.property(&table_properties::spelled(&property.key.value)) != Some(property.value.value.as_str()) {
            let told = format!("OR REFRESH keeps the table's properties, and `{}` is another", property.key.value);
            return Err(refusal(told, property.key.span));
        }
    }
    Ok(())
}

/// The statement with the partitioning and the table properties that it leaves out and the one that is `stored` has.
pub(super) fn with_kept_table(create: &CreateStreamingTable, stored: CreateStreamingTable) -> CreateStreamingTable {
    let mut create = create.clone();
    if create.partitioned_by.is_empty() {
        create.partitioned_by = stored.partitioned_by;
        create.partitioned_by.iter_mut().for_each(|name| name.span = Span::UNKNOWN);
    }
    for mut property in stored.properties {
        if !create.properties.iter().any(|entry| entry.key.value.eq_ignore_ascii_case(&property.key.value)) {
            (property.key.span, property.value.span) = (Span::UNKNOWN, Span::UNKNOWN);
            create.properties.push(property);
        }
    }
    create
}

fn refusal(message: String, span: Span) -> Error {
    Diagnostic::new("REFRESH_CHANGES_TABLE", message)
        .at(span)
        .help("leave the clause out, or write CREATE OR REPLACE STREAMING TABLE, which starts over")
        .into()
}
