//! Relations for tests: streams `s` and `s2`, a static table `b`, files with `_metadata`.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;

use alluvium_parser::{Diagnostic, Place, Query, RelationKind, Span, StatementKind, parse_statement};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::datasource::ViewTable;
use datafusion::datasource::empty::EmptyTable;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;

use crate::bind::{Resolved, Wanted, bind, wanted};
use crate::ddl::parse_ddl;
use crate::functions::session_state;
use crate::options::{FilesOptions, TableStreamOptions};
use crate::relation::{
    FilesSpec, SourceKind, SourceSpec, StaticReference, StaticRelation, StreamRelation, TableSpec, with_metadata_column,
};
use crate::settings::Settings;

pub(crate) fn state() -> SessionState {
    session_state(&Settings { target_partitions: 2, ..Settings::default() })
}

/// The query of a SELECT statement.
pub(crate) fn query(sql: &str) -> Query {
    match parse_statement(sql, Place { line: 1, column: 1 }).map(|statement| statement.kind) {
        Ok(StatementKind::Query { query, .. }) => query,
        Ok(other) => panic!("{sql}: {other:?}"),
        Err(refusal) => panic!("{sql}: {refusal}"),
    }
}

fn schema(ddl: &str) -> SchemaRef {
    Arc::new(parse_ddl(ddl).unwrap())
}

fn columns(name: &str) -> SchemaRef {
    match name {
        "s" | "s3" => schema("ts TIMESTAMP, id BIGINT, k STRING, v INT"),
        "s2" => schema("ts2 TIMESTAMP, id2 BIGINT, k2 STRING, v2 INT"),
        "b" => schema("bk STRING, bv INT"),
        "Invoices" => Arc::new(Schema::new(vec![
            Field::new("InvoiceNo", DataType::Utf8, true),
            Field::new("Quantity", DataType::Int32, true),
            Field::new("Customer", DataType::Struct(vec![Field::new("FullName", DataType::Utf8, true)].into()), true),
        ])),
        other => panic!("no relation {other}"),
    }
}

pub(crate) fn stream(name: &str) -> Resolved {
    let spec = SourceSpec {
        kind: SourceKind::Table(Arc::new(TableSpec {
            name: name.to_string(),
            location: format!("/warehouse/{name}"),
            options: TableStreamOptions::parse(&[]).unwrap(),
        })),
        title: format!("STREAM {name}"),
        span: Span::UNKNOWN,
        schema: columns(name),
    };
    Resolved { provider: Arc::new(StreamRelation { spec: Arc::new(spec) }), has_metadata: false }
}

pub(crate) fn files(path: &str) -> Resolved {
    let data_schema = columns("Invoices");
    let spec = SourceSpec {
        kind: SourceKind::Files(Arc::new(FilesSpec {
            path: path.to_string(),
            format: "json".to_string(),
            options: FilesOptions::parse(&[], false).unwrap().0,
            format_options: Vec::new(),
            data_schema: data_schema.clone(),
            partition_columns: datafusion::arrow::datatypes::Fields::empty(),
            schema_log: None,
            schema_version: None,
            inferred: true,
            strict_globs: false,
            time_zone: "UTC".to_string(),
        })),
        title: format!("cloud_files('{path}')"),
        span: Span::UNKNOWN,
        schema: with_metadata_column(&data_schema),
    };
    Resolved { provider: Arc::new(StreamRelation { spec: Arc::new(spec) }), has_metadata: true }
}

fn fixed(name: &str) -> Resolved {
    let provider: Arc<dyn TableProvider> = Arc::new(EmptyTable::new(columns(name)));
    let relation = StaticRelation { reference: StaticReference::Fixed, provider };
    Resolved { provider: Arc::new(relation), has_metadata: false }
}

fn view(sql: &str, state: &SessionState) -> Resolved {
    let plan = bound(sql, state).unwrap();
    Resolved { provider: Arc::new(ViewTable::new(plan, None)), has_metadata: false }
}

/// Finds the relations of the fixtures. `sv` is a view over `STREAM s`, `av` one that aggregates it.
pub(crate) fn resolve(query: &Query, state: &SessionState) -> Vec<Resolved> {
    wanted(query)
        .into_iter()
        .map(|want| match want {
            Wanted::Named { parts, .. } => match parts.last().unwrap().to_lowercase().as_str() {
                "sv" => view("SELECT * FROM STREAM s", state),
                "sorted" => view("SELECT * FROM STREAM s ORDER BY id", state),
                "invoices" => fixed("Invoices"),
                name => fixed(name),
            },
            Wanted::Special { relation, .. } => match &relation.kind {
                RelationKind::Stream { name, .. } => stream(&name.parts.last().unwrap().to_lowercase()),
                RelationKind::Files { path, .. } => files(&path.value),
                other => panic!("{other:?}"),
            },
        })
        .collect()
}

/// Parses and binds.
pub(crate) fn bound(sql: &str, state: &SessionState) -> Result<LogicalPlan, Diagnostic> {
    let query = query(sql);
    bind(&query, &resolve(&query, state), state)
}
