//! Files as a table: the rows of one epoch's input, or of everything there is at the moment of the scan.

use std::path::PathBuf;
use std::sync::Arc;

use alluvium_formats::FormatOptions;
use alluvium_planner::relation::{FilesSpec, SourceSpec};
use arrow::datatypes::{Fields, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::evolve::UnknownFields;
use super::exec::FilesExec;
use super::input::FilesInput;
use super::partition_columns::PathColumns;
use super::read::Job;
use super::{FileEntry, resolve};
use crate::error::Error;
use crate::source::ReadCounters;

/// A table over files that this engine decodes itself.
#[derive(Debug)]
pub struct FilesTable {
    schema: SchemaRef,
    data_schema: SchemaRef,
    options: FormatOptions,
    files: Files,
    partition_columns: Fields,
    base: PathBuf,
    counters: Arc<ReadCounters>,
    rerun: Option<FilesInput>,
    unknown: Option<Arc<UnknownFields>>,
}

/// Which files a scan reads.
#[derive(Debug)]
pub enum Files {
    /// These.
    Fixed(Arc<[FileEntry]>),
    /// Those that are there when it begins.
    Listed(Arc<FilesSpec>),
}

/// The rows of `input`. In a `rerun` missing files are passed over. Fields without a column are shown to `unknown`.
pub fn bound(
    source: &SourceSpec,
    spec: &FilesSpec,
    input: &FilesInput,
    rerun: bool,
    counters: Arc<ReadCounters>,
    unknown: Option<Arc<UnknownFields>>,
) -> Result<Arc<dyn TableProvider>, Error> {
    Ok(Arc::new(FilesTable {
        schema: source.schema.clone(),
        data_schema: spec.data_schema.clone(),
        options: resolve::format_options(spec).map_err(|e| e.at_least(source.span))?,
        files: Files::Fixed(input.files.clone().into()),
        partition_columns: spec.partition_columns.clone(),
        base: base_of(spec)?,
        counters,
        rerun: rerun.then(|| input.clone()),
        unknown,
    }))
}

/// All rows below a spec's path, as of each scan.
pub fn listed(source: &SourceSpec, spec: &Arc<FilesSpec>) -> Result<Arc<dyn TableProvider>, Error> {
    Ok(Arc::new(FilesTable {
        schema: source.schema.clone(),
        data_schema: spec.data_schema.clone(),
        options: resolve::format_options(spec).map_err(|e| e.at_least(source.span))?,
        files: Files::Listed(spec.clone()),
        partition_columns: spec.partition_columns.clone(),
        base: base_of(spec)?,
        counters: Arc::default(),
        rerun: None,
        unknown: None,
    }))
}

/// Where the columns of the path begin; not looked for where there are none.
fn base_of(spec: &FilesSpec) -> Result<PathBuf, Error> {
    match spec.partition_columns.is_empty() {
        true => Ok(PathBuf::new()),
        false => resolve::partition_base(spec, &super::root_of(spec)?),
    }
}

impl FilesTable {
    async fn job(&self, projection: Option<&Vec<usize>>) -> Result<Job, Error> {
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        let wanted = projection.unwrap_or(&all);
        let output: SchemaRef = Arc::new(self.schema.project(wanted)?);
        let (mut columns, mut partitions, mut metadata_at) = (Vec::new(), Vec::new(), None);
        for (at, field) in output.fields().iter().enumerate() {
            let lower = field.name().to_lowercase();
            if self.partition_columns.iter().any(|partition| partition.name().to_lowercase() == lower) {
                partitions.push((at, field.clone()));
            } else if let Ok(column) = self.data_schema.index_of(field.name()) {
                columns.push(column);
            } else {
                metadata_at = Some(at);
            }
        }
        let files = match &self.files {
            Files::Fixed(files) => files.clone(),
            Files::Listed(spec) => {
                let spec = spec.clone();
                super::blocking(move || resolve::files_of(&spec)).await?.into()
            }
        };
        Ok(Job {
            files,
            options: self.options.clone(),
            data_schema: self.data_schema.clone(),
            columns,
            metadata_at,
            partitions: PathColumns { base: self.base.clone(), columns: partitions },
            output,
            counters: self.counters.clone(),
            rerun: self.rerun.clone(),
            unknown: self.unknown.clone(),
        })
    }
}

#[async_trait]
impl TableProvider for FilesTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
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
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let job = self.job(projection).await?;
        Ok(Arc::new(FilesExec::new(job, state.config().target_partitions(), limit)))
    }
}
