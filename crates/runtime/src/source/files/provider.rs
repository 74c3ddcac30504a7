//! Files as a table: the rows of one epoch's input, or of everything there is at the moment of the scan.

use std::sync::Arc;

use alluvium_formats::FormatOptions;
use alluvium_planner::relation::{FilesSpec, METADATA_COLUMN, SourceSpec};
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::bad_records::Run;
use super::exec::FilesExec;
use super::input::FilesInput;
use super::read::{Job, Passes};
use super::store::Place;
use super::{FileEntry, resolve};
use crate::clock::now_ms;
use crate::error::Error;
use crate::source::ReadCounters;

/// A table over files that this engine decodes itself.
#[derive(Debug)]
pub struct FilesTable {
    schema: SchemaRef,
    data_schema: SchemaRef,
    options: FormatOptions,
    place: Place,
    files: Files,
    counters: Arc<ReadCounters>,
    rerun: Option<FilesInput>,
    /// Some in an epoch; a statement is a run of its own.
    run: Option<Run>,
    passes: Passes,
}

/// Which files a scan reads.
#[derive(Debug)]
pub enum Files {
    /// These.
    Fixed(Arc<[FileEntry]>),
    /// Those that are there when it begins.
    Listed(Arc<FilesSpec>),
}

/// The rows of `input`, whose files are in `place`. In a `rerun` missing files are passed over.
pub fn bound(
    source: &SourceSpec,
    spec: &FilesSpec,
    input: &FilesInput,
    rerun: bool,
    counters: Arc<ReadCounters>,
    place: Place,
) -> Result<Arc<dyn TableProvider>, Error> {
    Ok(Arc::new(FilesTable {
        schema: source.schema.clone(),
        data_schema: spec.data_schema.clone(),
        options: resolve::format_options(spec).map_err(|e| e.at_least(source.span))?,
        place,
        files: Files::Fixed(input.files.clone().into()),
        counters,
        rerun: rerun.then(|| input.clone()),
        run: Some(input.run()),
        passes: passes(spec, Some(input.clone())),
    }))
}

/// All rows below a spec's path, as of each scan.
pub fn listed(source: &SourceSpec, spec: &Arc<FilesSpec>) -> Result<Arc<dyn TableProvider>, Error> {
    Ok(Arc::new(FilesTable {
        schema: source.schema.clone(),
        data_schema: spec.data_schema.clone(),
        options: resolve::format_options(spec).map_err(|e| e.at_least(source.span))?,
        place: Place::of(spec).map_err(|e| e.at_least(source.span))?,
        files: Files::Listed(spec.clone()),
        counters: Arc::default(),
        rerun: None,
        run: None,
        passes: passes(spec, None),
    }))
}

/// Which files of a spec's reads are passed over.
pub fn passes(spec: &FilesSpec, notes: Option<FilesInput>) -> Passes {
    let options = &spec.options.discovery;
    Passes { missing: options.ignore_missing_files, corrupt: options.ignore_corrupt_files, notes }
}

impl FilesTable {
    async fn job(&self, projection: Option<&Vec<usize>>) -> Result<Job, Error> {
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        let wanted = projection.unwrap_or(&all);
        let output: SchemaRef = Arc::new(self.schema.project(wanted)?);
        let data_columns = self.data_schema.fields().len();
        let files = match &self.files {
            Files::Fixed(files) => files.clone(),
            Files::Listed(spec) => {
                let (spec, place) = (spec.clone(), self.place.clone());
                super::blocking(move || resolve::files_of(&spec, &place)).await?.into()
            }
        };
        Ok(Job {
            files,
            place: self.place.clone(),
            options: self.options.clone(),
            data_schema: self.data_schema.clone(),
            columns: wanted.iter().copied().filter(|column| *column < data_columns).collect(),
            metadata_at: wanted.iter().position(|column| *column >= data_columns),
            output,
            counters: self.counters.clone(),
            rerun: self.rerun.clone(),
            run: self.run.unwrap_or_else(|| Run { epoch: 0, started_ms: now_ms() }),
            passes: self.passes.clone(),
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

/// `schema` without `_metadata`, where that is its last column.
pub fn without_metadata(schema: &Schema) -> Schema {
    let fields = schema.fields().iter();
    match schema.fields().last() {
        Some(last) if last.name() == METADATA_COLUMN => {
            Schema::new(fields.take(schema.fields().len() - 1).cloned().collect::<Vec<_>>())
        }
        _ => schema.clone(),
    }
}
