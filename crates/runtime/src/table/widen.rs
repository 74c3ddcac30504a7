//! A table's columns made wider: one commit that changes their types and replaces every file by one that has them.
//!
//! Delta's feature `typeWidening` would do without the rewriting, but most readers refuse tables that have it, this
//! engine's own among them. The commit says that it changes no data, so streams of the table pass it. Knows nothing of
//! streams and epochs.

use std::path::Path;
use std::sync::Arc;

use alluvium_formats::wider_type;
use alluvium_parser::Diagnostic;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use datafusion::prelude::SessionContext;

use super::actions::{Action, AddFile, Metadata, RemoveFile};
use super::commit::{self, Operation};
use super::files::{Layout, Staged};
use super::head::Head;
use super::{append, create, fence, schema};
use crate::clock::now_ms;
use crate::error::{Error, Result};

/// Times that another writer may be faster with a commit before this one gives up.
const TRIES_MAX: usize = 10;

/// Columns of `metadata` for which `wanted` has a wider type, as `a.b BIGINT (was INT)`; empty: none.
pub fn narrow(metadata: &Metadata, wanted: &Schema) -> Result<Vec<String>> {
    Ok(widened(metadata, wanted)?.1)
}

/// Gives the table at `path` the wider types that `wanted` has for its columns. Nothing is done where it has them already.
pub async fn widen(path: &Path, wanted: &Schema) -> Result<()> {
    for _ in 0..TRIES_MAX {
        let mut head = Head::open(path).await?;
        append::check(&head, false)?;
        let (metadata, columns) = widened(head.metadata(), wanted)?;
        if columns.is_empty() || rewrite(&mut head, metadata, columns).await? {
            return Ok(());
        }
    }
    Err(Error::Environment(Box::new(
        Diagnostic::new(
            "TABLE_CHANGED",
            format!(
                "the table at `{}` is written to by others all the time: its columns could not be given wider types",
                path.display()
            ),
        )
        .help("start the stream again when the other writers pause"),
    )))
}

/// One try, on top of the version that `head` has; false: another writer was faster.
async fn rewrite(head: &mut Head, metadata: Metadata, columns: Vec<String>) -> Result<bool> {
    let read = head.version();
    let provider = fence::provider(head.path(), Some(read)).await?;
    let rows = SessionContext::new().read_table(provider)?.execute_stream_partitioned().await?;
    let staged = Staged::write(Arc::new(Layout::new(head.path(), &metadata)?), rows).await?;
    let schema = schema::from_json(&metadata.schema_string)?;
    let asks = schema::has_timestamp_ntz(&schema).then(|| create::protocol_for(true, false));
    let operation = Operation::ChangeColumns { columns };
    let written = append::publish_until_done(head, staged, |head, staged| {
        if head.version() != read {
            return Ok(None);
        }
        let now = now_ms();
        let removes: Vec<RemoveFile> =
            head.files().map(|file| RemoveFile { data_change: false, ..file.removed(now) }).collect();
        let metrics = commit::metrics(&operation, staged, removes.len());
        let info = commit::info(&operation, &metadata, Some(read), &metrics);
        let mut lines = vec![Action::commit_info(info), Action::metadata(metadata.clone())];
        let protocol = asks.clone().map(|asks| commit::covering(head.protocol(), asks));
        lines.extend(protocol.filter(|protocol| protocol != head.protocol()).map(Action::protocol));
        lines.extend(removes.into_iter().map(Action::remove));
        lines.extend(staged.adds().map(|add| Action::add(AddFile { data_change: false, ..add })));
        Ok(Some(lines))
    })
    .await?;
    Ok(written.version.is_some())
}

/// The metadata with the wider types, and which columns got one.
fn widened(metadata: &Metadata, wanted: &Schema) -> Result<(Metadata, Vec<String>)> {
    let known = schema::from_json(&metadata.schema_string)?;
    let mut columns = Vec::new();
    let fields = fields(known.fields(), schema::storable(wanted)?.fields(), "", &mut columns);
    let schema_string = schema::to_json(&Schema::new(fields))?;
    Ok((Metadata { schema_string, ..metadata.clone() }, columns))
}

fn fields(known: &Fields, wanted: &Fields, prefix: &str, columns: &mut Vec<String>) -> Fields {
    let one = |field: &FieldRef| match wanted.iter().find(|other| other.name().eq_ignore_ascii_case(field.name())) {
        Some(other) => inner(field, other.data_type(), &format!("{prefix}{}", field.name()), columns),
        None => field.clone(),
    };
    known.iter().map(one).collect()
}

fn inner(known: &FieldRef, wanted: &DataType, path: &str, columns: &mut Vec<String>) -> FieldRef {
    Arc::new(Field::clone(known).with_data_type(data_type(known.data_type(), wanted, path, columns)))
}

fn data_type(known: &DataType, wanted: &DataType, path: &str, columns: &mut Vec<String>) -> DataType {
    match (known, wanted) {
        (DataType::Struct(known), DataType::Struct(wanted)) => {
            DataType::Struct(fields(known, wanted, &format!("{path}."), columns))
        }
        (DataType::List(known), DataType::List(wanted)) => {
            DataType::List(inner(known, wanted.data_type(), path, columns))
        }
        (DataType::Map(entries, sorted), DataType::Map(wanted, _)) => {
            let (DataType::Struct(pair), DataType::Struct(new)) = (entries.data_type(), wanted.data_type()) else {
                return known.clone();
            };
            let ([key, value], [_, new]) = (&pair[..], &new[..]) else { return known.clone() };
            let pair = DataType::Struct(vec![key.clone(), inner(value, new.data_type(), path, columns)].into());
            DataType::Map(Arc::new(Field::clone(entries).with_data_type(pair)), *sorted)
        }
        // Only what is wanted itself: a column is not made wider than its rows are.
        (known, wanted) if wider_type(known, wanted).as_ref() == Some(wanted) => {
            columns.push(format!("{path} {} (was {})", schema::sql_name(wanted), schema::sql_name(known)));
            wanted.clone()
        }
        _ => known.clone(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use alluvium_planner::ddl::parse_ddl;

    use super::*;

    #[test]
    fn only_types_that_hold_what_is_there_are_taken() {
        let table = |ddl: &str| {
            let schema = schema::storable(&parse_ddl(ddl).unwrap()).unwrap();
            Metadata { schema_string: schema::to_json(&schema).unwrap(), ..Metadata::default() }
        };
        let known = table("a INT, b BIGINT, s STRUCT<x: INT, y: STRING>, l ARRAY<INT>, m MAP<STRING, FLOAT>, t STRING");
        let wanted = parse_ddl(
            "A BIGINT, b INT, s STRUCT<x: DECIMAL(12,2), y: INT>, l ARRAY<DOUBLE>, m MAP<STRING, DOUBLE>, t INT, n INT",
        )
        .unwrap();
        let (wide, columns) = widened(&known, &wanted).unwrap();
        let expected = "a BIGINT, b BIGINT, s STRUCT<x: DECIMAL(12,2), y: STRING>, l ARRAY<DOUBLE>, m MAP<STRING, DOUBLE>, t STRING";
        assert_eq!(wide.schema_string, table(expected).schema_string);
        assert_eq!(columns[0], "a BIGINT (was INT)");
        assert_eq!(columns.len(), 4);
        assert!(narrow(&wide, &wanted).unwrap().is_empty());
    }
}
