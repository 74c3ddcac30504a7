//! `cleanSource`: what becomes of files once they were read.
//!
//! Only files of committed epochs are touched, and only as they were when they were read: one that has changed since is
//! left alone for good. Deleting or moving comes first and is noted after; a crash in between does it again, which
//! changes nothing ([`relocate`](super::relocate)). Errors hold nothing up: they are noted where DESCRIBE STREAM finds
//! them, and tried again later.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alluvium_parser::Diagnostic;
use alluvium_planner::options::CleanSource;

use super::root::{Root, local_path};
use super::store::{Archive, wait};
use super::{FileEntry, listing, relocate};
use crate::checkpoint::{Archived, Ledger, LedgerEntry};
use crate::clock::now_ms;
use crate::error::{Error, Result};

/// So many files are cleaned between two notes in the ledger.
const AT_ONCE: usize = 500;

/// After a failure the next try comes this much later.
const RETRY: Duration = Duration::from_secs(60);

/// Cleans the files of one source.
#[derive(Clone)]
pub struct Cleaner {
    source: String,
    ledger: Ledger,
    files: Files,
    retention_ms: i64,
}

/// How a file was cleaned, or why it is left alone for good.
pub type Outcome = Result<Archived, String>;

#[derive(Clone)]
enum Files {
    Local(LocalFiles),
    Objects(Arc<Archive>),
}

/// Files below a local directory.
#[derive(Clone)]
struct LocalFiles {
    base: PathBuf,
    /// None: files are deleted.
    destination: Option<PathBuf>,
}

impl Cleaner {
    /// A cleaner of what `source` reads below `root`. Errors: those of [`destination`].
    pub fn new(source: &str, ledger: Ledger, root: &Root, options: &CleanSource) -> Result<Cleaner> {
        let files = LocalFiles { base: root.base.clone(), destination: destination(root, options)? };
        Ok(Cleaner::of(source, ledger, Files::Local(files), options))
    }

    /// A cleaner of the objects that `source` reads.
    pub fn of_objects(source: &str, ledger: Ledger, archive: Archive, options: &CleanSource) -> Cleaner {
        Cleaner::of(source, ledger, Files::Objects(Arc::new(archive)), options)
    }

    fn of(source: &str, ledger: Ledger, files: Files, options: &CleanSource) -> Cleaner {
        let retention_ms = i64::try_from(options.retention.as_millis()).unwrap_or(i64::MAX);
        Cleaner { source: source.to_owned(), ledger, files, retention_ms }
    }

    /// Cleans what is due. When the next file will be due, milliseconds since 1970 UTC; None when none waits.
    /// Blocks.
    pub fn run(&self) -> Result<Option<i64>> {
        let until_ms = now_ms().saturating_sub(self.retention_ms);
        let mut after: Option<(i64, String)> = None;
        let mut problem = None;
        loop {
            let due = self.ledger.due(&self.source, until_ms, after.as_ref(), AT_ONCE)?;
            let Some(last) = due.last().cloned() else { break };
            after = Some(last);
            let mut claim = self.ledger.claim(&self.source, due)?;
            // Forgotten, or read again, since: the ledger drops them from the queue and notes nothing.
            let passed = std::mem::take(&mut claim.passed).into_iter();
            let mut done: Vec<_> = passed.map(|passed| (passed, Err(String::new()))).collect();
            let outcomes = self.clean(&claim.files)?;
            for (file, outcome) in claim.files.iter().zip(outcomes) {
                match outcome {
                    Ok(outcome) => done.push(((file.committed_ms, file.path.clone()), outcome)),
                    Err(error) => problem = Some(error.diagnostic().message),
                }
            }
            self.ledger.cleaned(&self.source, done)?;
        }
        self.ledger.note_cleaning_problem(&self.source, problem.as_deref())?;
        if problem.is_some() {
            return Ok(Some(now_ms() + RETRY.as_millis() as i64));
        }
        Ok(self.ledger.first_to_clean(&self.source)?.map(|first| first.saturating_add(self.retention_ms)))
    }

    /// When a file committed now will be due.
    pub fn due_ms(&self) -> i64 {
        now_ms().saturating_add(self.retention_ms)
    }

    /// Deletes or moves files; what became of each, in order.
    fn clean(&self, files: &[LedgerEntry]) -> Result<Vec<Result<Outcome>>> {
        match &self.files {
            Files::Local(local) => Ok(files.iter().map(|known| local.clean(known)).collect()),
            Files::Objects(archive) => wait(async { Ok(archive.clean(files).await) }),
        }
    }
}

impl LocalFiles {
    /// Deletes or moves one file.
    fn clean(&self, known: &LedgerEntry) -> Result<Outcome> {
        let path = Path::new(&known.path);
        // Read when the source's path was another one.
        let Ok(relative) = path.strip_prefix(&self.base) else {
            return Ok(Err("not cleaned: the file is not below the source's directory any more".into()));
        };
        let now = listing::stat(&known.path)?;
        if let Some(FileEntry { size, modified_ms, .. }) = now
            && (size, modified_ms) != (known.size, known.modified_ms)
        {
            return Ok(Err("not cleaned: the file has changed since it was read".into()));
        }
        let moved_to = match &self.destination {
            None => {
                match std::fs::remove_file(path) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("delete", path, &e)),
                    _ => {}
                }
                None
            }
            Some(destination) => {
                let to = destination.join(relative);
                match now {
                    None if to.exists() => Some(to),
                    None => return Ok(Err("not cleaned: the file is gone".into())),
                    Some(_) => Some(relocate::relocate(path, &to, known.modified_ms)?),
                }
            }
        };
        Ok(Ok(Archived { at_ms: now_ms(), moved_to: moved_to.map(|to| to.display().to_string()) }))
    }
}

/// A path without symbolic links, as far as it exists.
fn real(path: &Path) -> PathBuf {
    for there in path.ancestors() {
        if let Ok(real) = std::fs::canonicalize(there) {
            return real.join(path.strip_prefix(there).unwrap_or(Path::new("")));
        }
    }
    path.to_owned()
}

/// Where MOVE moves to. Errors: CONTRADICTORY_OPTIONS when it lies inside the source, or the source inside it.
pub fn destination(root: &Root, options: &CleanSource) -> Result<Option<PathBuf>> {
    let Some(typed) = &options.move_to else { return Ok(None) };
    let path = local_path(typed)?;
    let (to, base) = (real(&path), real(&root.base));
    let inside = path.starts_with(&root.base) || to.starts_with(&base);
    if inside || root.base.starts_with(&path) || base.starts_with(&to) {
        let relation = if inside { "lies inside the source" } else { "contains the source" };
        return Err(Diagnostic::new(
            "CONTRADICTORY_OPTIONS",
            format!("option `cleanSource.moveDestination`: `{typed}` {relation}, `{}`", root.base.display()),
        )
        .help("choose a directory beside the source")
        .into());
    }
    Ok(Some(path))
}
