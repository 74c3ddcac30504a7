//! The plan of a streaming query.

use std::sync::Arc;

use alluvium_parser::OutputMode;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::logical_expr::LogicalPlan;

use crate::relation::SourceSpec;

/// What one streaming query does each epoch. Its `Display` is EXPLAIN.
#[derive(Debug, Clone)]
pub struct StreamingPlan {
    /// Optimized plan. Streams stand as `StreamRelation`, stateful operators as nodes of [`crate::node`],
    /// `current_timestamp()` and kin as calls that the runtime replaces each epoch.
    pub plan: LogicalPlan,
    /// Sources in order of first appearance; `plan`'s `StreamRelation`s share these `Arc`s (compare by pointer).
    pub sources: Vec<Arc<SourceSpec>>,
    /// What is written each epoch.
    pub mode: OutputMode,
    /// Stateful operators, bottom-up; index = operator number.
    pub operators: Vec<OperatorInfo>,
    /// Columns of the result.
    pub schema: SchemaRef,
    /// Changes when the state of an operator would no longer fit: keys, aggregates and their types, sources.
    pub fingerprint: String,
}

/// A stateful operator, for EXPLAIN and DESCRIBE STREAM.
#[derive(Debug, Clone)]
pub struct OperatorInfo {
    /// `aggregate`.
    pub kind: &'static str,
    /// Its keys as SQL.
    pub keys: Vec<String>,
    /// What is kept per key as SQL.
    pub values: Vec<String>,
    /// What bounds the state: `number of distinct keys`.
    pub bounded_by: String,
    /// Aggregates whose state grows with the input of their key.
    pub unbounded: Vec<String>,
}
