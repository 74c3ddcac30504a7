//! DESCRIBE HISTORY, DESCRIBE DETAIL and the version of a moment. Reads commits newest first and no more of them
//! than asked for; a log that has lost its oldest commits simply ends there.

use std::path::Path;
use std::sync::Arc;

use alluvium_parser::Diagnostic;
use arrow::array::{
    ArrayRef, BooleanBuilder, Int32Array, Int64Array, Int64Builder, ListBuilder, MapBuilder, MapFieldNames,
    RecordBatch, StringArray, StringBuilder, TimestampMillisecondArray, TimestampMillisecondBuilder, new_null_array,
};
use arrow::datatypes::{DataType, Field};
use serde_json::Value;

use super::head::Head;
use super::log::Log;
use super::{fence, location};
use crate::error::{Error, Result};

/// One row per commit, newest first, with Spark's columns. Timestamps are UTC.
pub async fn history(path: &Path, limit: Option<u64>) -> Result<RecordBatch> {
    let log = Log::of(path);
    let versions = log.versions()?;
    if versions.is_empty() {
        return Err(fence::not_a_table(path));
    }
    let mut rows = HistoryRows::default();
    let most = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    for version in versions.into_iter().rev().take(most) {
        // Cleaned away since the listing: older ones are gone as well.
        let Some(bytes) = log.bytes(version)? else { break };
        rows.push(version, &commit_info(&bytes));
    }
    rows.finish()
}

/// The `commitInfo` line, without reading the others as anything; null for none.
fn commit_info(bytes: &[u8]) -> Value {
    let lines = bytes.split(|byte| *byte == b'\n');
    let mut found = lines
        .filter(|line| line.starts_with(b"{\"commitInfo\"") || memchr::memmem::find(line, b"\"commitInfo\"").is_some());
    found
        .find_map(|line| serde_json::from_slice::<Value>(line).ok()?.get_mut("commitInfo").map(Value::take))
        .unwrap_or(Value::Null)
}

/// Its moment in milliseconds since 1970 UTC; the file's, where it does not say.
fn commit_ms(log: &Log, version: u64) -> Result<Option<i64>> {
    let Some(bytes) = log.bytes(version)? else { return Ok(None) };
    if let Some(ms) = commit_info(&bytes)["timestamp"].as_i64() {
        return Ok(Some(ms));
    }
    let path = log.commit_path(version);
    let modified = std::fs::metadata(&path)
        .and_then(|about| about.modified())
        .map_err(|error| Error::io("look at", &path, &error))?;
    Ok(modified.duration_since(std::time::UNIX_EPOCH).ok().map(|since| since.as_millis() as i64))
}

/// The last version that was there at a moment (TIMESTAMP AS OF). Reads as many commits as their number has binary
/// digits.
pub async fn version_at(path: &Path, timestamp_ms: i64) -> Result<u64> {
    let log = Log::of(path);
    let versions = log.versions()?;
    let outside = |word: &str, at: i64| {
        Error::statement(
            Diagnostic::new(
                "TIMESTAMP_OUT_OF_RANGE",
                format!("{} is {word} of the table, which is of {}", show(timestamp_ms), show(at)),
            )
            .help("DESCRIBE HISTORY shows the moments there are"),
        )
    };
    let (Some(first), Some(last)) = (versions.first(), versions.last()) else { return Err(fence::not_a_table(path)) };
    let moment = |version: u64| commit_ms(&log, version)?.ok_or_else(|| fence::no_such_version(path, version));
    let (begin, end) = (moment(*first)?, moment(*last)?);
    if timestamp_ms < begin {
        return Err(outside("before the first commit", begin));
    }
    if timestamp_ms > end {
        return Err(outside("after the last commit", end));
    }
    let (mut low, mut high) = (0, versions.len());
    while high - low > 1 {
        let middle = (low + high) / 2;
        if moment(versions[middle])? <= timestamp_ms { low = middle } else { high = middle }
    }
    Ok(versions[low])
}

fn show(ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(ms)
        .map_or_else(|| ms.to_string(), |time| time.format("%Y-%m-%d %H:%M:%S%.3f").to_string())
}

/// One row about the table as it is now, with Spark's columns.
pub async fn detail(path: &Path) -> Result<RecordBatch> {
    let head = Head::open(path).await?;
    let (metadata, protocol) = (head.metadata(), head.protocol());
    let text = |value: Option<&str>| Arc::new(StringArray::from(vec![value])) as ArrayRef;
    let number = |value: u64| Arc::new(Int64Array::from(vec![value as i64])) as ArrayRef;
    let moment = |ms: Option<i64>| Arc::new(TimestampMillisecondArray::from(vec![ms]).with_timezone("UTC")) as ArrayRef;
    let names = |names: &mut dyn Iterator<Item = &String>| {
        let mut list = ListBuilder::new(StringBuilder::new());
        names.for_each(|name| list.values().append_value(name));
        list.append(true);
        Arc::new(list.finish()) as ArrayRef
    };
    let mut properties = text_map();
    for (key, value) in &metadata.configuration {
        properties.keys().append_value(key);
        properties.values().append_value(value);
    }
    properties.append(true)?;
    let mut features: Vec<&String> =
        protocol.reader_features.iter().chain(&protocol.writer_features).flatten().collect();
    features.sort();
    features.dedup();
    let location = url::Url::from_directory_path(location::table_path(&path.to_string_lossy())?).map(String::from).ok();
    Ok(RecordBatch::try_from_iter_with_nullable([
        ("format", text(Some("delta")), true),
        ("id", text(Some(&metadata.id)), true),
        ("name", text(metadata.name.as_deref()), true),
        ("description", text(metadata.description.as_deref()), true),
        ("location", text(location.as_deref().map(|url| url.trim_end_matches('/'))), true),
        ("createdAt", moment(metadata.created_time), true),
        ("lastModified", moment(commit_ms(head.log(), head.version())?), true),
        ("partitionColumns", names(&mut metadata.partition_columns.iter()), true),
        ("clusteringColumns", names(&mut std::iter::empty()), true),
        ("numFiles", number(head.files().len() as u64), true),
        ("sizeInBytes", number(head.files().map(|file| file.size).sum()), true),
        ("properties", Arc::new(properties.finish()), true),
        ("minReaderVersion", Arc::new(Int32Array::from(vec![protocol.min_reader_version])), true),
        ("minWriterVersion", Arc::new(Int32Array::from(vec![protocol.min_writer_version])), true),
        ("tableFeatures", names(&mut features.into_iter()), true),
    ])?)
}

fn text_map() -> MapBuilder<StringBuilder, StringBuilder> {
    let names = MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
    MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new())
}

struct HistoryRows {
    version: Int64Builder,
    timestamp: TimestampMillisecondBuilder,
    texts: [StringBuilder; TEXTS.len()],
    parameters: MapBuilder<StringBuilder, StringBuilder>,
    metrics: MapBuilder<StringBuilder, StringBuilder>,
    read_version: Int64Builder,
    blind: BooleanBuilder,
    rows: usize,
}

/// Text columns, as the log names them.
const TEXTS: [&str; 7] =
    ["userId", "userName", "operation", "clusterId", "isolationLevel", "userMetadata", "engineInfo"];

impl Default for HistoryRows {
    fn default() -> Self {
        HistoryRows {
            version: Int64Builder::new(),
            timestamp: TimestampMillisecondBuilder::new(),
            texts: Default::default(),
            parameters: text_map(),
            metrics: text_map(),
            read_version: Int64Builder::new(),
            blind: BooleanBuilder::new(),
            rows: 0,
        }
    }
}

impl HistoryRows {
    fn push(&mut self, version: u64, info: &Value) {
        self.rows += 1;
        self.version.append_value(version as i64);
        self.timestamp.append_option(info["timestamp"].as_i64());
        for (builder, name) in self.texts.iter_mut().zip(TEXTS) {
            builder.append_option(info[name].as_str());
        }
        append_map(&mut self.parameters, &info["operationParameters"]);
        append_map(&mut self.metrics, &info["operationMetrics"]);
        self.read_version.append_option(info["readVersion"].as_i64());
        self.blind.append_option(info["isBlindAppend"].as_bool());
    }

    fn finish(mut self) -> Result<RecordBatch> {
        let [user_id, user_name, operation, cluster, isolation, user_metadata, engine] =
            self.texts.map(|mut texts| Arc::new(texts.finish()) as ArrayRef);
        let nothing = |fields: &[&str]| {
            let fields: Vec<_> = fields.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect();
            new_null_array(&DataType::Struct(fields.into()), self.rows)
        };
        Ok(RecordBatch::try_from_iter_with_nullable([
            ("version", Arc::new(self.version.finish()) as ArrayRef, true),
            ("timestamp", Arc::new(self.timestamp.finish().with_timezone("UTC")), true),
            ("userId", user_id, true),
            ("userName", user_name, true),
            ("operation", operation, true),
            ("operationParameters", Arc::new(self.parameters.finish()), true),
            ("job", nothing(&["jobId", "jobName", "jobRunId", "runId", "jobOwnerId", "triggerType"]), true),
            ("notebook", nothing(&["notebookId"]), true),
            ("clusterId", cluster, true),
            ("readVersion", Arc::new(self.read_version.finish()), true),
            ("isolationLevel", isolation, true),
            ("isBlindAppend", Arc::new(self.blind.finish()), true),
            ("operationMetrics", Arc::new(self.metrics.finish()), true),
            ("userMetadata", user_metadata, true),
            ("engineInfo", engine, true),
        ])?)
    }
}

/// Texts as they are, other values as JSON.
fn append_map(builder: &mut MapBuilder<StringBuilder, StringBuilder>, value: &Value) {
    let Some(entries) = value.as_object() else {
        // Keys and values are in step, so this cannot fail.
        let _ = builder.append(false);
        return;
    };
    for (key, value) in entries {
        builder.keys().append_value(key);
        match value {
            Value::Null => builder.values().append_null(),
            Value::String(text) => builder.values().append_value(text),
            other => builder.values().append_value(other.to_string()),
        }
    }
    let _ = builder.append(true);
}
