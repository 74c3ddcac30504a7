//! Rows into an existing table, and the loop that gets a commit its version among other writers.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use alluvium_parser::Diagnostic;
use datafusion::execution::SendableRecordBatchStream;

use super::actions::{self, Action};
use super::commit::{self, Operation};
use super::files::{Layout, Staged};
use super::head::Head;
use super::log::{Log, Outcome, blocking};
use super::{features, fence};
use crate::clock::now_ms;
use crate::error::{Error, Result};
use crate::sink::Written;

/// Where the table does not say.
const COMMITS_PER_LOG_CHECKPOINT: u64 = 100;

const CHANGED_MEANWHILE: &str = "the table was changed by another writer while rows were being written to it";

/// INSERT INTO, INSERT OVERWRITE, TRUNCATE and the rows of CREATE TABLE AS: one commit.
pub async fn append(path: &Path, partitions: Vec<SendableRecordBatchStream>, operation: Operation) -> Result<Written> {
    let mut head = Head::open(path).await?;
    check(&head, operation.replaces_rows())?;
    let generation = head.generation();
    let layout = Arc::new(Layout::new(path, head.metadata())?);
    let staged = Staged::write(layout, partitions).await?;
    let written = publish_until_done(&mut head, staged, |head, staged| {
        if head.generation() != generation {
            return Err(changed_meanwhile());
        }
        Ok(Some(lines(head, staged, &operation)))
    })
    .await?;
    if let Some(version) = written.version {
        checkpoint_log_if_due(&head, version).await;
    }
    Ok(written)
}

/// Commits between two checkpoints of the table's log.
pub fn commits_per_checkpoint(head: &Head) -> u64 {
    head.number_property("delta.checkpointInterval").ok().flatten().unwrap_or(COMMITS_PER_LOG_CHECKPOINT).max(1)
}

/// Writes a checkpoint of the log at `version` when the last one is far enough behind. It only makes opening faster,
/// so its failure is nobody's failure.
pub async fn checkpoint_log_if_due(head: &Head, version: u64) {
    let last = head.log().announced_checkpoint().unwrap_or(0);
    if version.saturating_sub(last) >= commits_per_checkpoint(head) {
        let _ = fence::write_log_checkpoint(head.path(), version).await;
    }
}

/// Whether this engine may write to the table at all.
pub fn check(head: &Head, removes: bool) -> Result<()> {
    features::writable(head.protocol(), head.metadata(), &head.schema())?;
    if removes { features::removable(head.metadata()) } else { Ok(()) }
}

/// A commit of `staged` on top of `head`.
pub fn lines(head: &Head, staged: &Staged, operation: &Operation) -> Vec<Action> {
    let now = now_ms();
    let removes: Vec<_> = match operation.replaces_rows() {
        true => head.files().map(|file| Action::remove(file.removed(now))).collect(),
        false => Vec::new(),
    };
    let metrics = commit::metrics(operation, staged, removes.len());
    let mut lines = vec![Action::commit_info(commit::info(operation, head.metadata(), Some(head.version()), &metrics))];
    if let Operation::StreamingUpdate { query_id, epoch, .. } = operation {
        let txn = actions::Transaction { app_id: query_id.clone(), version: *epoch as i64, last_updated: Some(now) };
        lines.push(Action::txn(txn));
    }
    lines.extend(removes);
    lines.extend(staged.adds().map(Action::add));
    lines
}

/// Publishes on top of the newest version, planning anew after each lost race; takes the files away when `plan`
/// fails or finds that nothing is to be done (None). The data files and the commit's bytes are made durable at the same time.
pub async fn publish_until_done(
    head: &mut Head,
    mut staged: Staged,
    mut plan: impl FnMut(&Head, &Staged) -> Result<Option<Vec<Action>>>,
) -> Result<Written> {
    let began = Instant::now();
    let mut synced = false;
    loop {
        head.update().await?;
        let actions = match plan(head, &staged) {
            Ok(Some(actions)) => actions,
            Ok(None) => return Ok(Written::default()),
            Err(error) => return Err(error),
        };
        let version = head.version() + 1;
        let log = Arc::new(Log::of(head.path()));
        let bytes = actions::render(&actions)?;
        let preparing = log.clone();
        let prepare = blocking(move || preparing.prepare(&bytes));
        let prepared = if synced { prepare.await? } else { tokio::try_join!(prepare, staged.sync())?.0 };
        synced = true;
        // From here on a commit may name the files, whatever comes back.
        staged.keep(true);
        if blocking(move || log.publish(prepared, version)).await? == Outcome::Published {
            let publish_us = began.elapsed().as_micros() as u64;
            return Ok(Written { rows: staged.rows(), version: Some(version), publish_us, existed: false });
        }
        staged.keep(false);
    }
}

/// The table changed while rows for it were being written: its schema, properties or features, or files that they were
/// to take the place of.
pub fn changed_meanwhile() -> Error {
    Error::Environment(Box::new(
        Diagnostic::new("TABLE_CHANGED", CHANGED_MEANWHILE).help("run the statement, or start the stream, again"),
    ))
}

/// Whether this is that error: what was to be written may be written anew, on top of the change.
pub fn is_changed_meanwhile(error: &Error) -> bool {
    matches!(error, Error::Environment(diagnostic) if diagnostic.message == CHANGED_MEANWHILE)
}
