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
mod durable;
mod features;
mod fence;
mod files;
mod head;
mod history;
mod location;
mod log;
mod partition;
pub mod schema;
mod statistics;

use std::path::Path;
use std::sync::Arc;

use datafusion::catalog::TableProvider;

pub use append::append;
pub use commit::Operation;
pub use create::{NewTable, create, create_as, replace};
pub use head::Head;
pub use history::{detail, history, version_at};
pub use location::{absolute, table_path};
pub(crate) use append::{changed_meanwhile, check, lines, publish_until_done};
pub(crate) use conform::Conform;
pub(crate) use features::{refused, streamable};
pub(crate) use fence::{load, no_such_version, write_log_checkpoint};
pub(crate) use files::{Layout, Staged};
pub(crate) use log::Log;

use crate::error::Result;

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

/// The table's latest version, looked for from a known one on; None when `known` is not there any more. Costs a few
/// looks, however long the log is: for deciding whether a provider is still the latest.
pub fn latest_version(path: &Path, known: u64) -> Option<u64> {
    Log::of(path).last_from(known)
}
