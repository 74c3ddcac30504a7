//! New tables, and new beginnings of old ones: the commit that says what a table is.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use alluvium_parser::Diagnostic;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;
use serde_json::json;

use super::actions::{self, Action, Metadata, Protocol};
use super::commit::{self, Operation};
use super::files::{Layout, Staged};
use super::head::Head;
use super::log::{Log, Outcome, blocking, create_directories};
use super::{append, features, schema};
use crate::clock::now_ms;
use crate::error::{Error, Result};
use crate::sink::Written;

/// What a table is to be.
#[derive(Debug, Clone)]
pub struct NewTable {
    /// Columns; their Arrow types are mapped to Delta's. A field's metadata `comment` is the column's comment.
    pub schema: SchemaRef,
    /// PARTITIONED BY, in that order.
    pub partition_columns: Vec<String>,
    /// COMMENT.
    pub comment: Option<String>,
    /// TBLPROPERTIES.
    pub properties: Vec<(String, String)>,
    /// Name, for readers that show it.
    pub name: Option<String>,
}

/// Creates an empty table: version 0, durable. Fails with TABLE_EXISTS where there is one.
pub async fn create(path: &Path, new: &NewTable) -> Result<()> {
    first_commit(path, new, Vec::new(), Operation::CreateTable).await.map(|_| ())
}

/// Creates a table with these rows in one commit (CREATE TABLE AS): version 0.
pub async fn create_as(path: &Path, new: &NewTable, partitions: Vec<SendableRecordBatchStream>) -> Result<Written> {
    first_commit(path, new, partitions, Operation::Ctas).await
}

async fn first_commit(
    path: &Path,
    new: &NewTable,
    partitions: Vec<SendableRecordBatchStream>,
    operation: Operation,
) -> Result<Written> {
    let (protocol, metadata) = describe(new)?;
    let log = Arc::new(Log::of(path));
    if !log.versions()?.is_empty() || log.announced_checkpoint().is_some() {
        return Err(exists(path));
    }
    create_directories(log.directory())?;
    let layout = Layout::new(path, &metadata)?;
    let mut staged = Staged::write(Arc::new(layout), partitions).await?;
    let began = std::time::Instant::now();
    let info = commit::info(&operation, &metadata, None, &commit::metrics(&operation, &staged, 0));
    let mut lines = vec![Action::commit_info(info), Action::protocol(protocol), Action::metadata(metadata)];
    lines.extend(staged.adds().map(Action::add));
    let bytes = actions::render(&lines)?;
    staged.sync().await?;
    let preparing = log.clone();
    let prepared = blocking(move || preparing.prepare(&bytes)).await?;
    // From here on a commit may name the files, whatever comes back.
    staged.keep(true);
    if blocking(move || log.publish(prepared, 0)).await? == Outcome::Taken {
        staged.keep(false);
        return Err(exists(path));
    }
    let publish_us = began.elapsed().as_micros() as u64;
    Ok(Written { rows: staged.rows(), version: Some(0), publish_us, existed: false })
}

/// Makes the existing table at `path` a new one, with a new id, these rows and no others, in one commit. Readers of
/// earlier versions are not disturbed; streams that read the table are.
pub async fn replace(
    path: &Path,
    new: &NewTable,
    partitions: Vec<SendableRecordBatchStream>,
    operation: Operation,
) -> Result<Written> {
    let (protocol, metadata) = describe(new)?;
    let mut head = Head::open(path).await?;
    let protocol = commit::covering(head.protocol(), protocol);
    let stored = schema::from_json(&metadata.schema_string)?;
    features::writable(&protocol, &metadata, &stored)?;
    let layout = Arc::new(Layout::new(path, &metadata)?);
    let staged = Staged::write(layout, partitions).await?;
    append::publish_until_done(&mut head, staged, |head, staged| {
        let removes: Vec<_> = head.files().map(|file| Action::remove(file.removed(now_ms()))).collect();
        let metrics = commit::metrics(&operation, staged, removes.len());
        let info = commit::info(&operation, &metadata, Some(head.version()), &metrics);
        let mut lines = vec![Action::commit_info(info), Action::metadata(metadata.clone())];
        if head.protocol() != &protocol {
            lines.push(Action::protocol(protocol.clone()));
        }
        lines.extend(removes);
        lines.extend(staged.adds().map(Action::add));
        Ok(Some(lines))
    })
    .await
}

fn exists(path: &Path) -> Error {
    Error::statement(
        Diagnostic::new("TABLE_EXISTS", format!("there is already a Delta table at `{}`", path.display()))
            .help("use IF NOT EXISTS or OR REPLACE, or another LOCATION"),
    )
}

/// The two actions that make a table, checked.
fn describe(new: &NewTable) -> Result<(Protocol, Metadata)> {
    let stored = schema::storable(&new.schema)?;
    check_columns(&stored, &new.partition_columns)?;
    let configuration: BTreeMap<String, String> = new.properties.iter().cloned().collect();
    for (key, value) in &configuration {
        let harmless = !matches!(
            key.as_str(),
            "delta.columnMapping.mode"
                | "delta.enableRowTracking"
                | "delta.enableInCommitTimestamps"
                | "delta.enableTypeWidening"
                | "delta.feature.catalogManaged"
        );
        if !harmless && value != "false" && value != "none" {
            return Err(Error::statement(
                Diagnostic::new("TABLE_FEATURE", format!("table property `{key}` = `{value}` is not supported yet"))
                    .help("leave the property out"),
            ));
        }
    }
    let metadata = Metadata {
        id: uuid::Uuid::new_v4().to_string(),
        name: new.name.clone(),
        description: new.comment.clone(),
        schema_string: schema::to_json(&stored)?,
        partition_columns: partition_names(&stored, &new.partition_columns),
        configuration,
        created_time: Some(now_ms()),
        ..Metadata::default()
    };
    let is_true =
        |property: &str| metadata.configuration.get(property).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let protocol = protocol_for(schema::has_timestamp_ntz(&stored), is_true("delta.enableChangeDataFeed"));
    let vectors = is_true("delta.enableDeletionVectors");
    Ok((if vectors { with_deletion_vectors(&protocol) } else { protocol }, metadata))
}

pub(super) fn protocol_for(timestamp_ntz: bool, change_data_feed: bool) -> Protocol {
    if !timestamp_ntz {
        let min_writer_version = if change_data_feed { 4 } else { 2 };
        return Protocol { min_reader_version: 1, min_writer_version, ..Protocol::default() };
    }
    let mut writer = vec!["timestampNtz".to_owned(), "appendOnly".to_owned(), "invariants".to_owned()];
    if change_data_feed {
        writer.push("changeDataFeed".to_owned());
    }
    Protocol {
        min_reader_version: 3,
        min_writer_version: 7,
        reader_features: Some(vec!["timestampNtz".to_owned()]),
        writer_features: Some(writer),
    }
}

/// The protocol of a table like that whose rows may die by deletion vectors.
fn with_deletion_vectors(protocol: &Protocol) -> Protocol {
    let feature = Some(vec!["deletionVectors".to_owned()]);
    let vectors = Protocol {
        min_reader_version: 3,
        min_writer_version: 7,
        reader_features: feature.clone(),
        writer_features: feature,
    };
    commit::covering(protocol, vectors)
}

fn check_columns(schema: &Schema, partition_columns: &[String]) -> Result<()> {
    let mut seen = HashSet::new();
    for field in schema.fields() {
        if !seen.insert(field.name().to_lowercase()) {
            return Err(Error::statement(
                Diagnostic::new("DUPLICATE_COLUMN", format!("column `{}` appears twice", field.name()))
                    .help("give one of them another name with AS"),
            ));
        }
    }
    let by_name: HashMap<String, &DataType> =
        schema.fields().iter().map(|field| (field.name().to_lowercase(), field.data_type())).collect();
    for column in partition_columns {
        match by_name.get(&column.to_lowercase()) {
            None => {
                let names: Vec<_> = schema.fields().iter().map(|field| format!("`{}`", field.name())).collect();
                return Err(Error::statement(Diagnostic::new(
                    "UNRESOLVED_COLUMN",
                    format!("partition column `{column}` is not a column of the table (it has {})", names.join(", ")),
                )));
            }
            Some(data_type) if data_type.is_nested() || matches!(data_type, DataType::Binary) => {
                return Err(Error::statement(Diagnostic::new(
                    "INVALID_PARTITION_COLUMN",
                    format!("the table cannot be partitioned by `{column}` of type {}", schema::sql_name(data_type)),
                )));
            }
            Some(_) => {}
        }
    }
    if !schema.fields().is_empty() && partition_columns.len() == schema.fields().len() {
        return Err(Error::statement(
            Diagnostic::new("INVALID_PARTITION_COLUMN", "a table cannot be partitioned by all of its columns")
                .help("leave at least one column out of PARTITIONED BY"),
        ));
    }
    Ok(())
}

/// The partition columns as the schema spells them.
fn partition_names(schema: &Schema, partition_columns: &[String]) -> Vec<String> {
    let spelled = |name: &String| schema.fields().iter().find(|field| field.name().eq_ignore_ascii_case(name));
    partition_columns
        .iter()
        .map(|name| spelled(name).map_or_else(|| name.clone(), |field| field.name().clone()))
        .collect()
}

/// What CREATE's history row says about the table.
pub(super) fn parameters(metadata: &Metadata) -> serde_json::Value {
    json!({
        "isManaged": "false",
        "description": metadata.description,
        "partitionBy": json!(metadata.partition_columns).to_string(),
        "clusterBy": "[]",
        "properties": json!(metadata.configuration).to_string(),
    })
}
