//! Files as a table: the rows of one epoch's input, or of everything there is at the moment of the scan.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use alluvium_formats::FormatOptions;
use alluvium_planner::relation::{FilesSpec, SourceSpec};
use arrow::datatypes::{Fields, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::ahead::Ahead;
use super::bad_records::Run;
use super::evolve::UnknownFields;
use super::exec::FilesExec;
use super::input::FilesInput;
use super::partition_columns::PathColumns;
use super::read::{Job, Parts, Passes};
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
    partition_columns: Fields,
    base: PathBuf,
    counters: Arc<ReadCounters>,
    rerun: Option<FilesInput>,
    /// Some in an epoch; a statement is a run of its own.
    run: Option<Run>,
    passes: Passes,
    unknown: Option<Arc<UnknownFields>>,
    ahead: Option<Arc<Ahead>>,
}

/// Which files a scan reads.
#[derive(Debug)]
pub enum Files {
    /// These.
    Fixed(Arc<[FileEntry]>),
    /// Those that are there when it begins.
    Listed(Arc<FilesSpec>),
}

/// The rows of `input`, whose files are in `place`. In a `rerun` missing files are passed over. Fields without a column
/// are shown to `unknown`.
pub fn bound(
    source: &SourceSpec,
    spec: &FilesSpec,
    input: &FilesInput,
    rerun: bool,
    counters: Arc<ReadCounters>,
    place: Place,
    unknown: Option<Arc<UnknownFields>>,
) -> Result<FilesTable, Error> {
    Ok(FilesTable {
        schema: source.schema.clone(),
        data_schema: spec.data_schema.clone(),
        options: resolve::format_options(spec).map_err(|e| e.at_least(source.span))?,
        place,
        files: Files::Fixed(input.files.clone()),
        partition_columns: spec.partition_columns.clone(),
        base: base_of(spec)?,
        counters,
        rerun: rerun.then(|| input.clone()),
        run: Some(input.run()),
        passes: passes(spec, Some(input.clone())),
        unknown,
        ahead: None,
    })
}

/// The rows of `input` as an epoch of the past gave them. Nothing is written where the source's options say, but below
/// `scratch`; a missing file is an error.
pub fn again(
    source: &SourceSpec,
    spec: &FilesSpec,
    input: &FilesInput,
    counters: Arc<ReadCounters>,
    scratch: &Path,
) -> Result<Arc<dyn TableProvider>, Error> {
    let mut options = resolve::format_options(spec).map_err(|e| e.at_least(source.span))?;
    let scratch = scratch.to_string_lossy();
    options.bad_records_path = options.bad_records_path.map(|_| scratch.into_owned());
    Ok(Arc::new(FilesTable {
        schema: source.schema.clone(),
        data_schema: spec.data_schema.clone(),
        options,
        place: Place::of(spec).map_err(|e| e.at_least(source.span))?,
        files: Files::Fixed(input.files.clone().into()),
        partition_columns: spec.partition_columns.clone(),
        base: base_of(spec)?,
        counters,
        rerun: None,
        run: Some(input.run()),
        passes: Passes { missing: false, ..passes(spec, None) },
        unknown: None,
        ahead: None,
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
        partition_columns: spec.partition_columns.clone(),
        base: base_of(spec)?,
        counters: Arc::default(),
        rerun: None,
        run: None,
        passes: passes(spec, None),
        unknown: None,
        ahead: None,
    }))
}

/// Which files of a spec's reads are passed over.
pub fn passes(spec: &FilesSpec, notes: Option<FilesInput>) -> Passes {
    let options = &spec.options.discovery;
    Passes { missing: options.ignore_missing_files, corrupt: options.ignore_corrupt_files, notes }
}

/// Where the columns of the path begin; not looked for where there are none.
fn base_of(spec: &FilesSpec) -> Result<PathBuf, Error> {
    match spec.partition_columns.is_empty() {
        true => Ok(PathBuf::new()),
        false => resolve::partition_base(spec, &Place::of(spec)?),
    }
}

impl FilesTable {
    /// The same rows, some of which may be in `ahead`, where those that follow come to be.
    pub(super) fn reading_ahead(self, ahead: Arc<Ahead>) -> FilesTable {
        FilesTable { ahead: Some(ahead), ..self }
    }

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
                let (spec, place) = (spec.clone(), self.place.clone());
                super::blocking(move || resolve::files_of(&spec, &place)).await?.into()
            }
        };
        Ok(Job {
            files,
            place: self.place.clone(),
            options: self.options.clone(),
            data_schema: self.data_schema.clone(),
            columns,
            metadata_at,
            partitions: PathColumns { base: self.base.clone(), columns: partitions },
            output,
            counters: self.counters.clone(),
            rerun: self.rerun.clone(),
            run: self.run.unwrap_or_else(|| Run { epoch: 0, started_ms: now_ms() }),
            passes: self.passes.clone(),
            unknown: self.unknown.clone(),
            parts: Parts::default(),
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
        let config = state.config();
        let exec = FilesExec::new(job, config.target_partitions(), limit);
        Ok(Arc::new(match &self.ahead {
            Some(ahead) if limit.is_none() => exec.reading_ahead(ahead.clone(), config.batch_size()),
            _ => exec,
        }))
    }
}
