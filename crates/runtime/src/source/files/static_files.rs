//! Parquet files read once: DataFusion's reader over a listing of ours.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use alluvium_parser::Diagnostic;
use alluvium_planner::relation::{METADATA_COLUMN, metadata_fields};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};

use super::glob::Glob;
use super::listing::Lister;
use super::metadata::metadata_array;
use super::root::Root;
use super::{FileEntry, blocking, infer, resolve};
use crate::error::{Error, Result};

/// So many footers are read to learn the columns.
const FOOTERS_MAX: usize = 1000;

/// All rows of the Parquet files at a path, as of each scan.
pub async fn parquet(path: String, strict: bool) -> Result<Arc<dyn TableProvider>> {
    blocking(move || {
        let root = Root::find(&path, strict)?;
        let files = files(&root)?;
        let schema = merged_schema(&files)?.ok_or_else(|| infer::nothing_to_learn(&format!("parquet.`{path}`")))?;
        let metadata = Arc::new(Field::new(METADATA_COLUMN, DataType::Struct(metadata_fields()), false));
        let table = TableSchema::builder(Arc::new(schema)).with_table_partition_cols(vec![metadata]).build();
        Ok(Arc::new(ParquetTable { root, table }) as Arc<dyn TableProvider>)
    })
    .await
}

fn files(root: &Root) -> Result<Vec<FileEntry>> {
    let of_parquet = match root.target {
        super::root::Target::Directory => Glob::new("*.parquet", true).ok(),
        _ => None,
    };
    resolve::entries(&mut Lister::new(root.clone(), of_parquet))
}

/// The columns of all files, by name; the newest footers decide.
fn merged_schema(files: &[FileEntry]) -> Result<Option<Schema>> {
    let mut schemas = Vec::new();
    for file in files.iter().rev().take(FOOTERS_MAX).rev() {
        let path = Path::new(&file.path);
        let open = File::open(path).map_err(|e| Error::io("read", path, &e))?;
        let footer = ArrowReaderMetadata::load(&open, ArrowReaderOptions::new()).map_err(|e| {
            Error::from(Diagnostic::new("FILE_CORRUPT", format!("`{}` cannot be read as Parquet: {e}", file.path)))
        })?;
        // A column that one file has and another lacks is NULL there, whatever the first one says.
        let nullable = |field: &Arc<Field>| Arc::new(field.as_ref().clone().with_nullable(true));
        schemas.push(Schema::new(footer.schema().fields().iter().map(nullable).collect::<Vec<_>>()));
    }
    if schemas.is_empty() {
        return Ok(None);
    }
    Schema::try_merge(schemas).map(Some).map_err(|e| {
        Diagnostic::new("CONFLICTING_SCHEMAS", format!("the Parquet files have columns that do not go together: {e}"))
            .into()
    })
}

/// Parquet files as a table.
#[derive(Debug)]
struct ParquetTable {
    root: Root,
    table: TableSchema,
}

#[async_trait]
impl TableProvider for ParquetTable {
    fn schema(&self) -> SchemaRef {
        self.table.table_schema().clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let root = self.root.clone();
        let files = blocking(move || files(&root)).await?;
        let mut groups = vec![Vec::new(); state.config().target_partitions().clamp(1, files.len().max(1))];
        let count = groups.len();
        for (at, file) in files.iter().enumerate() {
            groups[at * count / files.len().max(1)].push(partitioned(file)?);
        }
        let source = Arc::new(ParquetSource::new(self.table.clone()));
        let config = FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), source)
            .with_file_groups(groups.into_iter().map(FileGroup::new).collect())
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

/// A file with its `_metadata` as a constant.
fn partitioned(file: &FileEntry) -> PlanResult<PartitionedFile> {
    let location =
        object_store::path::Path::from_absolute_path(&file.path).map_err(|e| DataFusionError::External(Box::new(e)))?;
    let meta = object_store::ObjectMeta {
        location,
        last_modified: chrono::DateTime::from_timestamp_millis(file.modified_ms).unwrap_or_default(),
        size: file.size,
        e_tag: None,
        version: None,
    };
    let metadata = ScalarValue::try_from_array(&metadata_array(std::slice::from_ref(file), &[(0, 1)]), 0)?;
    Ok(PartitionedFile::new_from_meta(meta).with_partition_values(vec![metadata]))
}
