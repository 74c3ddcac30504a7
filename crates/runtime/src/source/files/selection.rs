//! Which files a relation selects, asked without a stream: for SHOW FILES, ALTER STREAM, PREVIEW.

use std::collections::{BTreeMap, HashSet};
use std::iter::Peekable;
use std::path::Path;
use std::sync::Arc;

use super::FileEntry;
use super::listing::{self, Lister};
use super::pending::overwritten;
use super::root::local_path;
use super::rules::{Ignored, Times};
use super::store::{self, Remote, replaced, wait};
use super::walk::walk;
use crate::checkpoint::{Ages, Archived, FileState, Ledger, LedgerEntry};
use crate::error::Result;

/// Takes a path, size and time where they were needed, and why the file does not count; whether to go on.
pub(super) type Visit<'v> = dyn FnMut(&str, Option<FileEntry>, Option<Ignored>) -> Result<bool> + 'v;

/// What one file relation selects.
pub struct Selection {
    /// The path as typed.
    pub path: String,
    files: Files,
    times: Times,
    overwrites: bool,
}

/// Where it looks.
enum Files {
    Local(Lister),
    Objects(Arc<Remote>),
}

/// A file and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStatus {
    /// Its path.
    pub path: String,
    /// `ingested`, `waiting`, `hidden`, `filtered`, `corrupt`, `vanished`, `skipped`.
    pub state: &'static str,
    /// Why.
    pub reason: String,
    /// Bytes, when it was read, or now.
    pub size: Option<u64>,
    /// Modification time of the same moment, milliseconds since 1970 UTC.
    pub modified_ms: Option<i64>,
    /// What the ledger knows of it.
    pub known: Option<LedgerEntry>,
}

/// How many files are ignored for one reason, and one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IgnoredFiles {
    /// How many.
    pub files: u64,
    /// The first path.
    pub example: String,
}

/// Takes a status; false ends the listing.
pub type Give<'g> = dyn FnMut(FileStatus) -> Result<bool> + 'g;

impl Selection {
    pub(super) fn new(path: &str, lister: Lister, times: Times, overwrites: bool) -> Selection {
        Selection { path: path.to_owned(), files: Files::Local(lister), times, overwrites }
    }

    pub(super) fn of_objects(path: &str, remote: Arc<Remote>, times: Times, overwrites: bool) -> Selection {
        Selection { path: path.to_owned(), files: Files::Objects(remote), times, overwrites }
    }

    /// Whether looking at its files costs requests to a store.
    pub fn is_remote(&self) -> bool {
        matches!(self.files, Files::Objects(_))
    }

    /// Paths below this selection's base that a typed one may mean, as its listings write them; none for one that lies
    /// elsewhere. A relative path is taken from the working directory, or else from the base.
    pub fn candidates(&self, typed: &str) -> Vec<String> {
        match &self.files {
            Files::Local(lister) => {
                let base = &lister.root().base;
                let mut paths = Vec::new();
                paths.extend(local_path(typed).ok().filter(|path| path.starts_with(base)));
                if Path::new(typed).is_relative() && !typed.contains(':') {
                    paths.push(base.join(typed));
                }
                paths.into_iter().filter_map(|path| path.to_str().map(str::to_owned)).collect()
            }
            Files::Objects(remote) => remote.address().candidates(typed),
        }
    }

    /// The file as it is now; None when it is not there. Blocks.
    pub fn stat(&self, path: &str) -> Result<Option<FileEntry>> {
        match &self.files {
            Files::Local(_) => listing::stat(path),
            Files::Objects(remote) => match remote.address().key(path) {
                Some(key) => wait(remote.look_at(key)),
                None => Ok(None),
            },
        }
    }

    /// Whether a file that is known has other content now.
    fn changed(&self, known: &LedgerEntry, file: &FileEntry) -> bool {
        match self.files {
            Files::Local(_) => overwritten(known, file),
            Files::Objects(_) => replaced(known, file),
        }
    }

    /// Every file in the order of paths, with size and time where the listing told them, and why its name does not
    /// count.
    fn walk(&self, visit: &mut Visit<'_>) -> Result<()> {
        match &self.files {
            Files::Local(lister) => walk(lister, &mut |path, ignored| visit(path, None, ignored)),
            Files::Objects(remote) => store::walk(remote, &mut |file, ignored| {
                let path = file.path.clone();
                visit(&path, Some(file), ignored)
            }),
        }
    }

    /// How many files are ignored, by reason; blocks.
    pub fn ignored(&self, ages: &Ages) -> Result<BTreeMap<String, IgnoredFiles>> {
        let mut counts = BTreeMap::new();
        self.each(ages, &mut |path, _, ignored| {
            if let Some(ignored) = ignored {
                let count =
                    counts.entry(ignored.kind()).or_insert_with(|| IgnoredFiles { files: 0, example: path.to_owned() });
                count.files += 1;
            }
            Ok(true)
        })?;
        Ok(counts)
    }

    /// Every file, its size and time where they were needed, and why it does not count.
    pub(super) fn each(&self, ages: &Ages, visit: &mut Visit<'_>) -> Result<()> {
        self.walk(&mut |path, file, ignored| {
            if ignored.is_some() || self.times == Times::default() && !ages.forgets() {
                return visit(path, file, ignored);
            }
            let file = file.map_or_else(|| self.stat(path), |file| Ok(Some(file)))?;
            let ignored = file.as_ref().and_then(|file| self.times.ignore(path, file.modified_ms, ages));
            visit(path, file, ignored)
        })
    }

    /// Whether a file that is not known is there and does not count for its age alone. Blocks.
    pub fn is_too_old(&self, path: &str, ages: &Ages) -> Result<bool> {
        let file = self.stat(path)?;
        let ignored = file.and_then(|file| self.times.ignore(path, file.modified_ms, ages));
        Ok(ignored.is_some_and(|ignored| ignored.is_age()))
    }

    /// What is to be said of a file that was found and of which `known` is known, if anything.
    fn found(
        &self,
        path: &str,
        file: Option<FileEntry>,
        known: Option<LedgerEntry>,
        ignored: Option<Ignored>,
        ages: &Ages,
        reading: &HashSet<String>,
    ) -> Result<Option<FileStatus>> {
        let again = known.as_ref().is_some_and(|known| known.state.comes_again());
        let known = match known {
            Some(known) if !again && !self.overwrites => return Ok(Some(FileStatus::known(known))),
            known => known,
        };
        let file = file.map_or_else(|| self.stat(path), |file| Ok(Some(file)))?;
        if let Some(known) = &known
            && !again
            && !file.as_ref().is_some_and(|file| self.changed(known, file))
        {
            return Ok(Some(FileStatus::known(known.clone())));
        }
        let Some(file) = file else { return Ok(known.map(FileStatus::known)) };
        let ignored = ignored.or_else(|| self.times.ignore(path, file.modified_ms, ages));
        let (state, reason) = match (&ignored, &known) {
            (Some(ignored), _) => (ignored.word(), ignored.to_string()),
            (None, _) if reading.contains(path) => ("waiting", "the running epoch reads it".to_owned()),
            (None, Some(_)) if again => ("waiting", "it was gone when it was to be read, and came again".to_owned()),
            (None, Some(_)) => ("waiting", "it has changed since it was read".to_owned()),
            (None, None) => ("waiting", "not read yet".to_owned()),
        };
        Ok(Some(FileStatus {
            path: path.to_owned(),
            state,
            reason,
            size: Some(file.size),
            modified_ms: Some(file.modified_ms),
            known,
        }))
    }
}

impl FileStatus {
    /// What the ledger says of a file.
    pub fn known(known: LedgerEntry) -> FileStatus {
        let epoch = known.epoch.map_or_else(|| "an epoch".to_owned(), |epoch| format!("epoch {epoch}"));
        let mut reason = match (known.state, &known.reason) {
            (FileState::Ingested, _) => format!("ingested in {epoch}"),
            (FileState::SkippedExisting, _) => "there before the first start, includeExistingFiles is false".into(),
            (FileState::Skipped, _) => "kept out by ALTER STREAM … SKIP FILE".into(),
            (FileState::Corrupt, Some(why)) => format!("passed over in {epoch}: {why}"),
            (FileState::Corrupt, None) => format!("passed over in {epoch}"),
            (FileState::Vanished, _) => format!("gone before {epoch} could read it"),
        };
        match (&known.archived, &known.reason) {
            (Some(Archived { moved_to: Some(to), .. }), _) => reason.push_str(&format!("; moved to {to}")),
            (Some(Archived { moved_to: None, .. }), _) => reason.push_str("; deleted by cleanSource"),
            (None, Some(why)) if known.state == FileState::Ingested => reason.push_str(&format!("; {why}")),
            _ => {}
        }
        let seen = known.modified_ms != i64::MIN;
        FileStatus {
            path: known.path.clone(),
            state: known.state.word(),
            reason,
            size: seen.then_some(known.size),
            modified_ms: seen.then_some(known.modified_ms),
            known: Some(known),
        }
    }
}

/// Gives the status of every file that `source` knows and, with a selection, of every file that is there, by path.
/// `reading`: the files of a running epoch. Blocks.
pub fn statuses(
    source: &str,
    ledger: Option<&Ledger>,
    selection: Option<&Selection>,
    reading: &HashSet<String>,
    give: &mut Give<'_>,
) -> Result<()> {
    let ages = ledger.map(|ledger| ledger.ages(source)).unwrap_or_default();
    let mut known = Known {
        files: ledger.map(|ledger| boxed(ledger.iter(source))).unwrap_or_else(|| boxed(std::iter::empty())).peekable(),
        remarks: ledger
            .map(|ledger| boxed(ledger.remarks(source)))
            .unwrap_or_else(|| boxed(std::iter::empty()))
            .peekable(),
    };
    let mut goes_on = true;
    if let Some(selection) = selection {
        selection.walk(&mut |path, file, ignored| {
            while let Some(before) = known.next_if(|next| next < path)? {
                goes_on = give(FileStatus::known(before))?;
                if !goes_on {
                    return Ok(false);
                }
            }
            let entry = known.next_if(|next| next == path)?;
            if let Some(status) = selection.found(path, file, entry, ignored, &ages, reading)? {
                goes_on = give(status)?;
            }
            Ok(goes_on)
        })?;
    }
    while goes_on && let Some(rest) = known.next_if(|_| true)? {
        goes_on = give(FileStatus::known(rest))?;
    }
    Ok(())
}

type Entries = Box<dyn Iterator<Item = Result<LedgerEntry>> + Send>;

fn boxed(entries: impl Iterator<Item = Result<LedgerEntry>> + Send + 'static) -> Entries {
    Box::new(entries)
}

/// Files and remarks of a source together, by path; a file hides a remark about its path.
struct Known {
    files: Peekable<Entries>,
    remarks: Peekable<Entries>,
}

impl Known {
    fn next_if(&mut self, wanted: impl Fn(&str) -> bool) -> Result<Option<LedgerEntry>> {
        let path = |entries: &mut Peekable<Entries>| match entries.peek() {
            Some(Ok(entry)) => Ok(Some(entry.path.clone())),
            Some(Err(error)) => Err(error.clone()),
            None => Ok(None),
        };
        let (file, remark) = (path(&mut self.files)?, path(&mut self.remarks)?);
        let from_files = match (&file, &remark) {
            (Some(file), Some(remark)) => file <= remark,
            (file, _) => file.is_some(),
        };
        let next = if from_files { &file } else { &remark };
        if !next.as_deref().is_some_and(wanted) {
            return Ok(None);
        }
        if from_files && file == remark {
            self.remarks.next();
        }
        if from_files { self.files.next().transpose() } else { self.remarks.next().transpose() }
    }
}
