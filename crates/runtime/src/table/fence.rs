//! The one door to delta-rs: opening tables that have checkpoints, its table provider, writing checkpoints.
//! Nothing outside names its types.

use std::path::Path;
use std::sync::Arc;

use alluvium_parser::Diagnostic;
use arrow::array::AsArray;
use datafusion::catalog::TableProvider;
use deltalake::table::config::TablePropertiesExt;
use deltalake::table::state::DeltaTableState;
use deltalake::{DeltaTable, DeltaTableBuilder, DeltaTableError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::actions::{AddFile, Metadata, Protocol};
use super::durable::DurableLocal;
use super::location;
use crate::error::{Error, Result};

/// A table's state at one version.
pub struct Loaded {
    /// Which.
    pub version: u64,
    /// Required abilities.
    pub protocol: Protocol,
    /// Schema, properties.
    pub metadata: Metadata,
    /// The files that make it up, in no order. Paths are as their writers encoded them.
    pub files: Vec<AddFile>,
}

/// Loads a table at a version, the latest for None.
pub async fn load(path: &Path, version: Option<u64>) -> Result<Loaded> {
    let table = open(path, version).await?;
    let state = table.snapshot().map_err(|error| foreign(path, error))?;
    let mut paths = paths_in_log(path, state)?.into_iter();
    let mut files = Vec::with_capacity(state.log_data().num_files());
    for view in state.log_data().iter() {
        let decoded = view.path();
        // Readers take a remove for that of an add whose path has the same bytes, so what was written is kept.
        let written = paths.next().filter(|written| location::decode(written) == decoded);
        files.push(AddFile {
            path: written.unwrap_or_else(|| location::encode(&decoded)),
            partition_values: view.partition_values_map().into_iter().collect(),
            size: view.size().max(0) as u64,
            modification_time: view.modification_time(),
            data_change: true,
            stats: None,
            deletion_vector: view.deletion_vector_descriptor().as_ref().map(again).transpose()?,
        });
    }
    Ok(Loaded {
        version: state.version(),
        protocol: again(state.protocol())?,
        metadata: again(state.metadata())?,
        files,
    })
}

/// The files' paths as they stand in the log, in the order in which the state has the files.
fn paths_in_log(path: &Path, state: &DeltaTableState) -> Result<Vec<String>> {
    let batches = state.add_actions_batches(false).map_err(|error| foreign(path, error))?;
    let mut paths = Vec::new();
    for batch in &batches {
        let Some(column) = batch.column_by_name("path").and_then(|column| column.as_string_opt::<i32>()) else {
            return Err(Error::internal("delta-rs gave adds without paths"));
        };
        paths.extend(column.iter().map(|text| text.unwrap_or_default().to_owned()));
    }
    Ok(paths)
}

/// The application's last transaction at the table's latest version.
pub async fn transaction(path: &Path, app_id: &str) -> Result<Option<u64>> {
    let table = open(path, None).await?;
    let state = table.snapshot().map_err(|error| foreign(path, error))?;
    let found = state.transaction_version(table.log_store().as_ref(), app_id).await;
    Ok(found.map_err(|error| foreign(path, error))?.and_then(|version| u64::try_from(version).ok()))
}

/// The table's rows at a version, the latest for None, for static reads.
pub async fn provider(path: &Path, version: Option<u64>) -> Result<Arc<dyn TableProvider>> {
    let table = open(path, version).await?;
    Ok(table.table_provider().await?)
}

/// Writes a checkpoint of the log at `version`, through a store that makes it durable before it is announced.
pub async fn write_log_checkpoint(path: &Path, version: u64) -> Result<()> {
    let url = directory_url(path)?;
    let store = Arc::new(DurableLocal::new());
    let mut table = DeltaTableBuilder::from_url(url.clone())
        .and_then(|builder| builder.with_storage_backend(store, url).build())
        .map_err(|error| foreign(path, error))?;
    table.load_version(version).await.map_err(|error| foreign(path, error))?;
    deltalake::checkpoints::create_checkpoint(&table, None).await.map_err(|error| foreign(path, error))?;
    // Commits older than `delta.logRetentionDuration` that the checkpoint covers go, unless the table says otherwise.
    let state = table.snapshot().map_err(|error| foreign(path, error))?;
    if state.table_config().enable_expired_log_cleanup() {
        deltalake::checkpoints::cleanup_metadata(&table, None).await.map_err(|error| foreign(path, error))?;
    }
    super::Log::of(path).sweep();
    Ok(())
}

async fn open(path: &Path, version: Option<u64>) -> Result<DeltaTable> {
    let builder = DeltaTableBuilder::from_url(directory_url(path)?).map_err(|error| foreign(path, error))?;
    let builder = match version {
        Some(version) => builder.with_version(version),
        None => builder,
    };
    builder.load().await.map_err(|error| foreign(path, error))
}

fn directory_url(path: &Path) -> Result<url::Url> {
    url::Url::from_directory_path(path)
        .map_err(|()| Error::internal(format!("`{}` is not an absolute path", path.display())))
}

/// Through JSON, whose names the format fixes on both sides.
fn again<T: DeserializeOwned>(value: &impl Serialize) -> Result<T> {
    serde_json::to_value(value)
        .and_then(serde_json::from_value)
        .map_err(|error| Error::internal(format!("delta-rs gave an action that cannot be read: {error}")))
}

fn foreign(path: &Path, error: DeltaTableError) -> Error {
    match error {
        DeltaTableError::NotATable(_) => not_a_table(path),
        DeltaTableError::InvalidVersion(version) => no_such_version(path, version),
        other => {
            Error::environment("DELTA", format!("the Delta table at `{}` cannot be read: {other}", path.display()))
        }
    }
}

/// There is no log here.
pub fn not_a_table(path: &Path) -> Error {
    Error::statement(
        Diagnostic::new("TABLE_NOT_FOUND", format!("there is no Delta table at `{}`", path.display()))
            .help("check the path; a Delta table is a directory with `_delta_log` in it"),
    )
}

/// The version never was, or its log is gone.
pub fn no_such_version(path: &Path, version: impl std::fmt::Display) -> Error {
    Error::statement(
        Diagnostic::new("VERSION_NOT_FOUND", format!("the table at `{}` has no version {version}", path.display()))
            .help("DESCRIBE HISTORY shows the versions there are"),
    )
}
