//! The lines of a Delta commit, as far as this engine reads and writes them. Knows the format's names and nothing
//! about where the lines are kept or what follows from them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};

/// Partition values as the log has them: text, or null.
pub type PartitionValues = BTreeMap<String, Option<String>>;

/// One data file of a table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddFile {
    /// Relative to the table, percent-encoded; or an absolute URL.
    pub path: String,
    /// Value of each partition column.
    #[serde(default)]
    pub partition_values: PartitionValues,
    /// Bytes.
    #[serde(default)]
    pub size: u64,
    /// Milliseconds since 1970 UTC.
    #[serde(default)]
    pub modification_time: i64,
    /// False for files that only rearrange rows that were there before.
    #[serde(default = "yes")]
    pub data_change: bool,
    /// `numRecords`, `minValues`, `maxValues`, `nullCount` as JSON text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<String>,
    /// Rows of the file that do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_vector: Option<Value>,
}

/// A file that no longer belongs to the table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoveFile {
    /// As in the add.
    pub path: String,
    /// Milliseconds since 1970 UTC.
    #[serde(default)]
    pub deletion_timestamp: Option<i64>,
    /// False where the rows live on in other files.
    #[serde(default = "yes")]
    pub data_change: bool,
    /// Whether the three fields below are set.
    #[serde(default)]
    pub extended_file_metadata: Option<bool>,
    /// As in the add.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_values: Option<PartitionValues>,
    /// As in the add.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// As in the add.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_vector: Option<Value>,
}

/// How the data files are written; always Parquet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Format {
    /// `parquet`.
    pub provider: String,
    /// Empty.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

impl Default for Format {
    fn default() -> Self {
        Format { provider: "parquet".into(), options: BTreeMap::new() }
    }
}

/// What a table is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Minted when the table is created.
    pub id: String,
    /// Name, where it was given one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// COMMENT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Parquet.
    #[serde(default)]
    pub format: Format,
    /// The schema in Delta's JSON.
    pub schema_string: String,
    /// PARTITIONED BY.
    #[serde(default)]
    pub partition_columns: Vec<String>,
    /// TBLPROPERTIES.
    #[serde(default)]
    pub configuration: BTreeMap<String, String>,
    /// Milliseconds since 1970 UTC.
    #[serde(default)]
    pub created_time: Option<i64>,
}

/// What readers and writers must understand.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Protocol {
    /// Below it a reader must refuse.
    pub min_reader_version: i32,
    /// Below it a writer must refuse.
    pub min_writer_version: i32,
    /// With reader version 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reader_features: Option<Vec<String>>,
    /// With writer version 7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer_features: Option<Vec<String>>,
}

/// An application's own counter, kept with the commit it belongs to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Transaction {
    /// For a stream: its id.
    pub app_id: String,
    /// For a stream: the epoch.
    pub version: i64,
    /// Milliseconds since 1970 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<i64>,
}

/// One line of a commit. Kinds that do not matter here are read as none of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Action {
    /// Who, what, how much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit_info: Option<Value>,
    /// Required abilities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Schema, properties.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta_data: Option<Metadata>,
    /// A stream's epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub txn: Option<Transaction>,
    /// A file comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add: Option<AddFile>,
    /// A file goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remove: Option<RemoveFile>,
}

impl Action {
    /// `commitInfo`.
    pub fn commit_info(info: Value) -> Self {
        Action { commit_info: Some(info), ..Action::default() }
    }

    /// `protocol`.
    pub fn protocol(protocol: Protocol) -> Self {
        Action { protocol: Some(protocol), ..Action::default() }
    }

    /// `metaData`.
    pub fn metadata(metadata: Metadata) -> Self {
        Action { meta_data: Some(metadata), ..Action::default() }
    }

    /// `txn`.
    pub fn txn(txn: Transaction) -> Self {
        Action { txn: Some(txn), ..Action::default() }
    }

    /// `add`.
    pub fn add(add: AddFile) -> Self {
        Action { add: Some(add), ..Action::default() }
    }

    /// `remove`.
    pub fn remove(remove: RemoveFile) -> Self {
        Action { remove: Some(remove), ..Action::default() }
    }
}

impl AddFile {
    /// The action that takes this file away at `now_ms`.
    pub fn removed(&self, now_ms: i64) -> RemoveFile {
        RemoveFile {
            path: self.path.clone(),
            deletion_timestamp: Some(now_ms),
            data_change: true,
            extended_file_metadata: Some(true),
            partition_values: Some(self.partition_values.clone()),
            size: Some(self.size),
            deletion_vector: self.deletion_vector.clone(),
        }
    }
}

/// The actions of one commit, in the order of its file.
pub fn parse(version: u64, bytes: &[u8]) -> Result<Vec<Action>> {
    bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.iter().all(u8::is_ascii_whitespace))
        .map(|line| {
            serde_json::from_slice(line).map_err(|error| {
                Error::environment(
                    "DELTA_LOG_CORRUPT",
                    format!("version {version} of the table's log cannot be read: {error}"),
                )
            })
        })
        .collect()
}

/// The bytes of a commit file.
pub fn render(actions: &[Action]) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(256 * actions.len());
    for action in actions {
        serde_json::to_writer(&mut bytes, action).map_err(|error| Error::internal(error.to_string()))?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

fn yes() -> bool {
    true
}
