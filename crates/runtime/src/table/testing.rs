//! What tests of tables share: a table of (k BIGINT, v STRING), rows for it, and its rows read back.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::SessionContext;

use super::{NewTable, create};

/// An empty table (k, v), with properties.
pub async fn table(path: &Path, properties: &[(&str, &str)]) {
    let schema = Schema::new(vec![Field::new("k", DataType::Int64, true), Field::new("v", DataType::Utf8, true)]);
    create(path, &new_table(schema, &[], properties)).await.unwrap();
}

/// Its description.
pub fn new_table(schema: Schema, partition_columns: &[&str], properties: &[(&str, &str)]) -> NewTable {
    NewTable {
        schema: Arc::new(schema),
        partition_columns: partition_columns.iter().map(|name| (*name).to_owned()).collect(),
        comment: None,
        properties: properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        name: None,
    }
}

/// Rows (k, 'v<k>').
pub fn batch(keys: impl IntoIterator<Item = i64>) -> RecordBatch {
    let keys: Vec<i64> = keys.into_iter().collect();
    let texts: StringArray = keys.iter().map(|key| Some(format!("v{key}"))).collect();
    RecordBatch::try_from_iter_with_nullable([
        ("k", Arc::new(Int64Array::from(keys)) as ArrayRef, true),
        ("v", Arc::new(texts) as ArrayRef, true),
    ])
    .unwrap()
}

/// A stream of one batch.
pub fn stream(batch: RecordBatch) -> SendableRecordBatchStream {
    let schema = batch.schema();
    Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter([Ok(batch)])))
}

/// Streams of rows (k, 'v<k>'), one each.
pub fn rows(keys: impl IntoIterator<Item = i64>) -> Vec<SendableRecordBatchStream> {
    vec![stream(batch(keys))]
}

/// All `k` of the table at a version, sorted, through delta-rs.
pub async fn keys(path: &Path, version: Option<u64>) -> Vec<i64> {
    keys_of(super::provider(path, version).await.unwrap()).await
}

/// All `k` a provider gives, sorted.
pub async fn keys_of(provider: Arc<dyn datafusion::catalog::TableProvider>) -> Vec<i64> {
    let context = SessionContext::new();
    context.register_table("t", provider).unwrap();
    let batches = context.sql("SELECT k FROM t ORDER BY k").await.unwrap().collect().await.unwrap();
    let values = batches.iter().map(|batch| cast(batch.column(0), &DataType::Int64).unwrap());
    values.flat_map(|column| column.as_primitive::<Int64Type>().values().to_vec()).collect()
}
