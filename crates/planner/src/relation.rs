//! Relations a plan scans, as values: what is read, not how.
//!
//! A stream stands in a plan as a [`StreamRelation`]; the runtime swaps it, each epoch, for that epoch's input.
//! A table that is read whole stands as a [`StaticRelation`]; the runtime swaps it for the latest version.

use std::sync::Arc;

use alluvium_parser::{OptionEntry, Span};
use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result, plan_err};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::options::EventTimeOptions;

/// The hidden column of every file read.
pub const METADATA_COLUMN: &str = "_metadata";

/// The fields of `_metadata`, with Spark's names and types.
pub fn metadata_fields() -> Fields {
    Fields::from(vec![
        Field::new("file_path", DataType::Utf8, false),
        Field::new("file_name", DataType::Utf8, false),
        Field::new("file_size", DataType::Int64, false),
        Field::new("file_block_start", DataType::Int64, false),
        Field::new("file_block_length", DataType::Int64, false),
        Field::new("file_modification_time", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
    ])
}

/// `schema` with `_metadata` behind its columns.
pub fn with_metadata_column(schema: &Schema) -> SchemaRef {
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(METADATA_COLUMN, DataType::Struct(metadata_fields()), false)));
    Arc::new(Schema::new(fields))
}

/// One streaming source of a query.
#[derive(Debug, Clone)]
pub struct SourceSpec {
    /// What it reads.
    pub kind: SourceKind,
    /// How messages name it: `cloud_files('data/in')`, `STREAM bronze`.
    pub title: String,
    /// Where it stands in the statement.
    pub span: Span,
    /// Columns it gives, with `_metadata` last where it has one.
    pub schema: SchemaRef,
}

impl SourceSpec {
    /// What its event times do to the watermark.
    pub fn event_time(&self) -> EventTimeOptions {
        match &self.kind {
            SourceKind::Files(files) => files.options.event_time,
            SourceKind::Table(table) => table.options.event_time,
        }
    }
}

/// The kinds of streaming sources.
#[derive(Debug, Clone)]
pub enum SourceKind {
    /// New files of a directory.
    Files(Arc<FilesSpec>),
    /// New rows of a Delta table.
    Table(Arc<TableSpec>),
}

/// New files of a directory, as a stream; or all of them, once.
#[derive(Debug, Clone)]
pub struct FilesSpec {
    /// Path or URL as typed.
    pub path: String,
    /// `json`, `csv`.
    pub format: String,
    /// Discovery and schema options.
    pub options: crate::options::FilesOptions,
    /// What is left for the format, in typed order.
    pub format_options: Vec<OptionEntry>,
    /// Columns that the files themselves may have, the rescue column included, `_metadata` excluded. One that has
    /// the name of a partition column is not read.
    pub data_schema: SchemaRef,
    /// Columns whose values stand in the path, as `key=value` directories.
    pub partition_columns: Fields,
    /// Where the versions of the schema are stored; None: nowhere.
    pub schema_log: Option<String>,
    /// The version these columns have, or will have once it is stored; None where nothing is stored.
    pub schema_version: Option<u64>,
    /// No schema was given: it was inferred (and may evolve).
    pub inferred: bool,
    /// `*` in the path stays within one directory name.
    pub strict_globs: bool,
    /// The session's zone when the relation was resolved, in which timestamps in text are meant that name none, unless
    /// an option says otherwise.
    pub time_zone: String,
}

/// New rows of a Delta table, as a stream.
#[derive(Debug, Clone)]
pub struct TableSpec {
    /// Name as typed, or the path.
    pub name: String,
    /// Directory or URL of the table.
    pub location: String,
    /// `WITH (…)`.
    pub options: crate::options::TableStreamOptions,
}

/// A stream as DataFusion sees it: a table of unknown size that cannot be scanned before an epoch is bound.
#[derive(Debug)]
pub struct StreamRelation {
    /// Position among the query's sources, in order of appearance.
    pub spec: Arc<SourceSpec>,
}

/// A table read whole, kept with what is needed to open it again at its latest version.
#[derive(Debug)]
pub struct StaticRelation {
    /// How to find it again.
    pub reference: StaticReference,
    /// The version planned against; gives the schema.
    pub provider: Arc<dyn TableProvider>,
}

/// How a static relation is found again each epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StaticReference {
    /// A Delta table, always at its latest version.
    Delta {
        /// Directory or URL of the table.
        location: String,
    },
    /// A Delta table at one version.
    DeltaVersion {
        /// Directory or URL of the table.
        location: String,
        /// The version.
        version: u64,
    },
    /// Files, listed anew each time.
    Files {
        /// Path or URL as typed.
        path: String,
    },
    /// Something that does not change (VALUES, system tables).
    Fixed,
}

#[async_trait]
impl TableProvider for StreamRelation {
    fn schema(&self) -> SchemaRef {
        self.spec.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        _projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan_err!("{} is a stream and no epoch is bound to it", self.spec.title)
    }
}

#[async_trait]
impl TableProvider for StaticRelation {
    fn schema(&self) -> SchemaRef {
        self.provider.schema()
    }

    fn table_type(&self) -> TableType {
        self.provider.table_type()
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.provider.scan(state, projection, filters, limit).await
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>, DataFusionError> {
        self.provider.supports_filters_pushdown(filters)
    }
}
