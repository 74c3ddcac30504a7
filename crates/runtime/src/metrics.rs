//! What one epoch did, in numbers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One row of SHOW EPOCHS, stored with the epoch's commit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Number, from 0.
    pub epoch: u64,
    /// When it began, milliseconds since 1970 UTC: also its `current_timestamp()`.
    pub started_ms: i64,
    /// Choosing input and writing the intent.
    pub plan_ms: f64,
    /// Reading, operators, data files.
    pub run_ms: f64,
    /// Delta commit.
    pub publish_ms: f64,
    /// Rows read from the sources.
    pub rows_in: u64,
    /// Rows written to the sink.
    pub rows_out: u64,
    /// Rows with something in the rescued-data column.
    pub rows_rescued: u64,
    /// Records that could not be parsed.
    pub records_corrupt: u64,
    /// Files that could not be read, or not to their end, and were left out from there on.
    #[serde(default)]
    pub files_corrupt: u64,
    /// Rows that came too late for an operator with state; of sliding windows, one for each window that was over.
    #[serde(default)]
    pub rows_late: u64,
    /// Rows whose event time was too far ahead of the clock to move the watermark.
    #[serde(default)]
    pub rows_future: u64,
    /// The watermark it went by: what is at or before it is final. Microseconds since 1970 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark_us: Option<i64>,
    /// Greatest event times so far, by the number of the query's watermark. Microseconds since 1970 UTC.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub event_times_us: Vec<Option<i64>>,
    /// When each source with an `idleTimeout` last had input, by its id. Milliseconds since 1970 UTC.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub heard_ms: BTreeMap<String, i64>,
    /// Files read.
    pub files: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Table version of its commit; None when nothing was written.
    pub table_version: Option<u64>,
    /// Version of the schema of its files; None where none is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_version: Option<u64>,
    /// A hash of the query that made it; None for epochs of former versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// Columns that came with it, as `a.b BIGINT`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub new_columns: Vec<String>,
    /// What it read of tables, in the form of their positions; files are in the ledger.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<TableRange>,
    /// Versions of the tables it joined, by location.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub statics: BTreeMap<String, u64>,
}

/// The part of a table that an epoch read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableRange {
    /// The source's id.
    pub source: String,
    /// Where it began.
    pub from: serde_json::Value,
    /// Where it ended: what is stored as the source's position.
    pub to: serde_json::Value,
}
