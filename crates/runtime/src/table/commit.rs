//! What a commit says about itself: operation, parameters, metrics, with the names that Spark's history shows.

use alluvium_parser::OutputMode;
use serde_json::{Map, Value, json};

use super::actions::{Metadata, Protocol};
use super::create;
use super::files::Staged;
use crate::clock::now_ms;

/// Who wrote it.
pub const ENGINE: &str = concat!("Alluvium/", env!("CARGO_PKG_VERSION"));

/// Why a table changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// CREATE TABLE.
    CreateTable,
    /// CREATE OR REPLACE TABLE.
    CreateOrReplaceTable,
    /// CREATE TABLE … AS.
    Ctas,
    /// CREATE OR REPLACE TABLE … AS.
    ReplaceAsSelect,
    /// INSERT INTO.
    Write,
    /// INSERT OVERWRITE.
    Overwrite,
    /// TRUNCATE.
    Truncate,
    /// Columns got wider types, and the files with them.
    ChangeColumns {
        /// As `a BIGINT (was INT)`.
        columns: Vec<String>,
    },
    /// One epoch of a stream.
    StreamingUpdate {
        /// APPEND or COMPLETE.
        mode: OutputMode,
        /// The stream's id.
        query_id: String,
        /// From 0.
        epoch: u64,
    },
}

impl Operation {
    /// The history's word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Operation::CreateTable => "CREATE TABLE",
            Operation::CreateOrReplaceTable => "CREATE OR REPLACE TABLE",
            Operation::Ctas => "CREATE TABLE AS SELECT",
            Operation::ReplaceAsSelect => "CREATE OR REPLACE TABLE AS SELECT",
            Operation::Write | Operation::Overwrite => "WRITE",
            Operation::Truncate => "TRUNCATE",
            Operation::ChangeColumns { .. } => "CHANGE COLUMNS",
            Operation::StreamingUpdate { .. } => "STREAMING UPDATE",
        }
    }

    /// Whether what was in the table goes.
    pub fn replaces_rows(&self) -> bool {
        match self {
            Operation::Overwrite | Operation::Truncate => true,
            Operation::CreateOrReplaceTable | Operation::ReplaceAsSelect => true,
            Operation::StreamingUpdate { mode, .. } => *mode == OutputMode::Complete,
            Operation::CreateTable | Operation::Ctas | Operation::Write | Operation::ChangeColumns { .. } => false,
        }
    }

    fn parameters(&self, metadata: &Metadata) -> Value {
        let partition_by = json!(metadata.partition_columns).to_string();
        match self {
            Operation::Write => json!({ "mode": "Append", "partitionBy": partition_by }),
            Operation::Overwrite => json!({ "mode": "Overwrite", "partitionBy": partition_by }),
            Operation::Truncate => json!({}),
            Operation::ChangeColumns { columns } => json!({ "columns": json!(columns).to_string() }),
            Operation::StreamingUpdate { mode, query_id, epoch } => {
                let mode = match mode {
                    OutputMode::Append => "Append",
                    OutputMode::Complete => "Complete",
                    OutputMode::Update => "Update",
                };
                json!({ "outputMode": mode, "queryId": query_id, "epochId": epoch.to_string() })
            }
            _ => create::parameters(metadata),
        }
    }
}

/// The `operationMetrics` of a commit that adds `staged` and removes `removed` files; texts, as Spark has them.
pub fn metrics(operation: &Operation, staged: &Staged, removed: usize) -> Map<String, Value> {
    let text = |number: u64| Value::String(number.to_string());
    let mut metrics = Map::new();
    match operation {
        Operation::CreateTable | Operation::CreateOrReplaceTable => {}
        Operation::Truncate => {
            metrics.insert("numRemovedFiles".into(), text(removed as u64));
        }
        Operation::StreamingUpdate { .. } | Operation::ChangeColumns { .. } => {
            metrics.insert("numRemovedFiles".into(), text(removed as u64));
            metrics.insert("numOutputRows".into(), text(staged.rows()));
            metrics.insert("numOutputBytes".into(), text(staged.bytes()));
            metrics.insert("numAddedFiles".into(), text(staged.files()));
        }
        _ => {
            metrics.insert("numFiles".into(), text(staged.files()));
            metrics.insert("numOutputRows".into(), text(staged.rows()));
            metrics.insert("numOutputBytes".into(), text(staged.bytes()));
        }
    }
    metrics
}

/// The `commitInfo` of a commit planned on `read_version`.
pub fn info(
    operation: &Operation,
    metadata: &Metadata,
    read_version: Option<u64>,
    metrics: &Map<String, Value>,
) -> Value {
    let blind = matches!(operation, Operation::Write)
        || matches!(operation, Operation::StreamingUpdate { mode: OutputMode::Append, .. });
    let mut info = Map::new();
    info.insert("timestamp".into(), json!(now_ms()));
    info.insert("operation".into(), json!(operation.name()));
    info.insert("operationParameters".into(), operation.parameters(metadata));
    if let Some(version) = read_version {
        info.insert("readVersion".into(), json!(version));
    }
    info.insert("isolationLevel".into(), json!(if blind { "WriteSerializable" } else { "Serializable" }));
    info.insert("isBlindAppend".into(), json!(blind || read_version.is_none()));
    info.insert("operationMetrics".into(), Value::Object(metrics.clone()));
    info.insert("engineInfo".into(), json!(ENGINE));
    info.insert("txnId".into(), json!(uuid::Uuid::new_v4().to_string()));
    Value::Object(info)
}

/// The least protocol that asks for everything either of two asks for.
pub fn covering(old: &Protocol, new: Protocol) -> Protocol {
    if old.min_writer_version < 7 && new.min_writer_version < 7 {
        return Protocol {
            min_reader_version: old.min_reader_version.max(new.min_reader_version),
            min_writer_version: old.min_writer_version.max(new.min_writer_version),
            ..Protocol::default()
        };
    }
    let union = |old: &Option<Vec<String>>, new: &Option<Vec<String>>| {
        let mut all: Vec<String> = old.iter().flatten().chain(new.iter().flatten()).cloned().collect();
        all.sort();
        all.dedup();
        all
    };
    let mut writer = union(&old.writer_features, &new.writer_features);
    let reader = union(&old.reader_features, &new.reader_features);
    for feature in legacy_writer_features(old).into_iter().chain(legacy_writer_features(&new)) {
        if !writer.iter().any(|known| known == feature) {
            writer.push(feature.to_owned());
        }
    }
    Protocol {
        min_reader_version: if reader.is_empty() { 1 } else { 3 },
        min_writer_version: 7,
        reader_features: (!reader.is_empty()).then_some(reader),
        writer_features: Some(writer),
    }
}

/// What a version number below 7 stands for.
fn legacy_writer_features(protocol: &Protocol) -> Vec<&'static str> {
    const SINCE: &[(i32, &str)] = &[
        (2, "appendOnly"),
        (2, "invariants"),
        (3, "checkConstraints"),
        (4, "changeDataFeed"),
        (4, "generatedColumns"),
        (5, "columnMapping"),
        (6, "identityColumns"),
    ];
    if protocol.min_writer_version >= 7 {
        return Vec::new();
    }
    SINCE.iter().filter(|(since, _)| *since <= protocol.min_writer_version).map(|(_, name)| *name).collect()
}
