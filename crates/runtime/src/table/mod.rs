//! Delta tables on local disks: creating, following, writing, reading, asking about them.
//!
//! The log is read and written here, commit by commit, because that keeps the cost of an epoch independent of the
//! table's age; delta-rs (behind `fence`) opens tables that have checkpoints, reads them for static queries and
//! writes checkpoints. This room knows nothing of streams, catalogs and SQL.

pub mod actions;
mod append;
mod commit;
mod conform;
mod create;
pub(crate) mod deletion;
mod dictionary;
mod durable;
mod features;
mod fence;
mod files;
mod grow;
mod head;
mod history;
mod live;
mod location;
mod log;
mod numbered;
mod partition;
pub mod schema;
mod statistics;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod widen;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use datafusion::catalog::TableProvider;

pub use append::append;
pub(crate) use append::{
    changed_meanwhile, check, checkpoint_log_if_due, commits_per_checkpoint, is_changed_meanwhile, lines,
    publish_until_done,
};
pub use commit::Operation;
pub(crate) use commit::info as commit_info;
pub(crate) use conform::Conform;
pub use create::{NewTable, create, create_as, replace};
pub(crate) use features::{streamable, takes_deletion_vectors, upsertable};
pub(crate) use fence::{load, no_such_version, write_log_checkpoint};
pub(crate) use files::{ColumnPlace, Layout, Staged};
pub(crate) use grow::{Grown, grown};
pub use head::{Head, SeenTransaction};
pub use history::{detail, history, version_at};
pub(crate) use live::{LiveRows, rows_of_file};
pub use location::{absolute, decode as decoded, table_path};
pub(crate) use log::{Log, blocking, create_directories, sync_directory};
pub(crate) use numbered::{NumberedFile, NumberedFiles};
pub(crate) use widen::{narrow, widen};

use crate::error::{Error, Result};

/// The table's rows at its latest version or at `version`, for static reads: delta-rs' own provider, which skips
/// files by statistics and honours deletion vectors.
pub async fn provider(path: &Path, version: Option<u64>) -> Result<Arc<dyn TableProvider>> {
    fence::provider(path, version).await
}

/// Whether a Delta table is here.
pub fn exists(path: &Path) -> bool {
    let log = Log::of(path);
    log.has(0) || log.announced_checkpoint().is_some() || log.versions().is_ok_and(|versions| !versions.is_empty())
}

/// Whether the table's log has the commit of this version: one look. For deciding whether something opened earlier
/// is still the latest.
pub fn has_version(path: &Path, version: u64) -> bool {
    Log::of(path).has(version)
}

/// Which directory a table's log is. Another one at the same place is another table, though versions may coincide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Numbers are used again, so the time belongs to it.
    number: u64,
    created: Option<std::time::SystemTime>,
}

/// The identity of the table at `path`; None where there is none.
pub fn identity(path: &Path) -> Option<Identity> {
    Log::of(path).identity()
}

/// Makes durable what the table's log names: commits that a process linked and did not live to sync.
pub(crate) fn sync(path: &Path) -> Result<()> {
    log::sync_directory(Log::of(path).directory())?;
    log::sync_directory(path)
}

/// The table's latest version. A few looks, however long the log is.
pub async fn latest_version(path: &Path) -> Result<u64> {
    let log = Log::of(path);
    if let Some(latest) = log.last_from(log.announced_checkpoint().unwrap_or(0)) {
        return Ok(latest);
    }
    match (log.versions()?.last(), log.announced_checkpoint()) {
        (Some(last), _) => Ok(*last),
        (None, Some(checkpoint)) => Ok(checkpoint),
        (None, None) => Err(fence::not_a_table(path)),
    }
}

/// Takes away the table at `path`: its log, then the files the log knows. What else lies in the directory stays.
pub async fn remove(path: &Path) -> Result<()> {
    if !exists(path) {
        return Ok(());
    }
    let head = Head::open(path).await?;
    let mut files: HashSet<_> = head.files().map(|file| file.path.clone()).collect();
    let mut vectors = HashSet::new();
    for version in head.log().versions()? {
        let actions = head.log().read(version)?.unwrap_or_default();
        for add in actions.into_iter().filter_map(|action| action.add) {
            let vector = add.deletion_vector.as_ref().and_then(|vector| deletion::Descriptor::of(vector).ok());
            let vector = vector.and_then(|vector| vector.file(path).ok()).flatten();
            vectors.extend(vector.filter(|vector| vector.starts_with(path)));
            files.insert(add.path);
        }
    }
    let directory = head.log().directory();
    std::fs::remove_dir_all(directory).map_err(|error| Error::io("remove", directory, &error))?;
    for vector in vectors {
        let _ = std::fs::remove_file(vector);
    }
    for file in files {
        let file = absolute(path, &file)?;
        // A copy that shares files with another table must not take them away from it.
        if !file.starts_with(path) {
            continue;
        }
        // Cleaned away before, most of them.
        let _ = std::fs::remove_file(&file);
        for parent in file.ancestors().skip(1).take_while(|parent| *parent != path) {
            if std::fs::remove_dir(parent).is_err() {
                break;
            }
        }
    }
    Ok(())
}
