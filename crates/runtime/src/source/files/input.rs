//! What one epoch reads: whole files, named by its intent.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::bad_records::Run;
use crate::checkpoint::{FileState, LedgerEntry};
use crate::clock::now_ms;
use crate::source::Backlog;

/// So often the files of an epoch are chosen again because some were written again. Then those wait for another epoch.
const CHOICES_MAX: u32 = 3;

/// One file, as it was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Absolute, as a file-system path.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Modification time, milliseconds since 1970 UTC.
    pub modified_ms: i64,
}

/// Files of one epoch, in reading order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FilesInput {
    /// Read, in this order. Shared by all who hold the input: there may be many.
    pub files: Arc<[FileEntry]>,
    /// Not read but remembered as if they had been: there before the first start of a stream that leaves those out.
    /// Intents of former versions have them; now they are remembered at the first start itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<FileEntry>,
    /// When each of `files` was first seen, milliseconds since 1970 UTC; empty where that is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub discovered_ms: Vec<i64>,
    #[serde(skip)]
    notes: Notes,
}

/// What reading found out; shared by all clones of an input, not part of its value.
#[derive(Debug, Clone, Default)]
struct Notes(Arc<NotesInner>);

#[derive(Debug, Default)]
struct NotesInner {
    vanished: Mutex<HashSet<String>>,
    /// Damaged files that were passed over, and what is wrong with them.
    corrupt: Mutex<HashMap<String, String>>,
    /// A file that was not what the input says, or became another while it was read.
    changed: Mutex<Option<String>>,
    /// How often the files were chosen again for that.
    choices: AtomicU32,
    /// Files are read as the input names them, or not at all.
    tied: AtomicBool,
    all_required: AtomicBool,
    run: Mutex<Run>,
}

impl PartialEq for Notes {
    fn eq(&self, _: &Notes) -> bool {
        true
    }
}

/// What the ledger is to remember of files that were there before the first start of a stream that leaves those out.
pub fn existing(source: &str, files: &[FileEntry]) -> Vec<LedgerEntry> {
    let now_ms = now_ms();
    let entry = |file: &FileEntry| LedgerEntry {
        source: source.to_owned(),
        path: file.path.clone(),
        state: FileState::SkippedExisting,
        size: file.size,
        modified_ms: file.modified_ms,
        epoch: None,
        discovered_ms: now_ms,
        processed_ms: None,
        committed_ms: now_ms,
        rows: None,
        archived: None,
        reason: None,
    };
    files.iter().map(entry).collect()
}

impl FilesInput {
    /// These files, in this order.
    pub fn new(files: Vec<FileEntry>) -> FilesInput {
        FilesInput { files: files.into(), ..FilesInput::default() }
    }

    /// Whether there is nothing to read and nothing to remember.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.skipped.is_empty()
    }

    /// Files and bytes to read.
    pub fn size(&self) -> Backlog {
        Backlog { files: self.files.len() as u64, bytes: self.files.iter().map(|file| file.size).sum() }
    }

    /// When `files` were first seen.
    pub fn with_discovered(self, discovered_ms: Vec<i64>) -> FilesInput {
        FilesInput { discovered_ms, ..self }
    }

    /// What the ledger is to remember once the epoch, which began at `begun_ms`, is durable. Files that were not found
    /// any more are only noticed, so that their names may come again.
    pub fn ledger_entries(&self, source: &str, epoch: u64, begun_ms: i64, now_ms: i64) -> Vec<LedgerEntry> {
        let vanished = self.notes.0.vanished.lock().unwrap_or_else(PoisonError::into_inner);
        let corrupt = self.notes.0.corrupt.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = |file: &FileEntry, state: FileState| LedgerEntry {
            source: source.to_owned(),
            path: file.path.clone(),
            state,
            size: file.size,
            modified_ms: file.modified_ms,
            epoch: None,
            discovered_ms: begun_ms,
            processed_ms: None,
            committed_ms: now_ms,
            rows: None,
            archived: None,
            reason: None,
        };
        let read = self.files.iter().enumerate().map(|(at, file)| {
            let (state, reason) = match corrupt.get(&file.path) {
                _ if vanished.contains(&file.path) => (FileState::Vanished, None),
                Some(reason) => (FileState::Corrupt, Some(reason.clone())),
                None => (FileState::Ingested, None),
            };
            let discovered_ms = self.discovered_ms.get(at).copied().unwrap_or(begun_ms);
            let (epoch, processed_ms) = (Some(epoch), Some(begun_ms));
            LedgerEntry { epoch, discovered_ms, processed_ms, reason, ..entry(file, state) }
        });
        read.chain(self.skipped.iter().map(|file| entry(file, FileState::SkippedExisting))).collect()
    }

    /// The same files, chosen at the same time, as they are now; without those that are None.
    pub fn with_versions(&self, files: Vec<Option<FileEntry>>) -> FilesInput {
        let mut discovered_ms = self.discovered_ms.clone();
        let mut stays = files.iter().map(Option::is_some);
        discovered_ms.retain(|_| stays.next().unwrap_or(true));
        FilesInput { files: files.into_iter().flatten().collect(), discovered_ms, ..self.clone() }
    }

    /// Whether `other` reads the same files, in whatever versions, or some of them.
    pub fn covers(&self, other: &FilesInput) -> bool {
        let mut ours = self.chosen();
        self.skipped == other.skipped && other.chosen().all(|file| ours.any(|known| known == file))
    }

    /// Paths of the files, and when they were first seen.
    fn chosen(&self) -> impl Iterator<Item = (&str, Option<i64>)> {
        self.files.iter().enumerate().map(|(at, file)| (file.path.as_str(), self.discovered_ms.get(at).copied()))
    }

    /// A run begins that reads the files in the versions named here: what an earlier run found out counts no more.
    pub fn begin_run(&self) {
        let notes = &self.notes.0;
        notes.vanished.lock().unwrap_or_else(PoisonError::into_inner).clear();
        notes.corrupt.lock().unwrap_or_else(PoisonError::into_inner).clear();
        *notes.changed.lock().unwrap_or_else(PoisonError::into_inner) = None;
        notes.tied.store(true, Ordering::Relaxed);
    }

    /// Whether the run so far found every file there, whole and as it is named here.
    pub(super) fn met_nothing(&self) -> bool {
        let notes = &self.notes.0;
        notes.vanished.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
            && notes.corrupt.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
            && notes.changed.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Whether only the versions named here are to be read.
    pub(super) fn is_tied(&self) -> bool {
        self.notes.0.tied.load(Ordering::Relaxed)
    }

    /// This file is another one than it was.
    pub(super) fn note_changed(&self, path: &str) {
        *self.notes.0.changed.lock().unwrap_or_else(PoisonError::into_inner) = Some(path.to_owned());
    }

    /// The file for which the last run ended, because it was another one than it was.
    pub(super) fn changed(&self) -> Option<String> {
        self.notes.0.changed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes that files are chosen again; whether that was done too often to take those that keep changing.
    pub(super) fn choose_again(&self) -> bool {
        self.notes.0.choices.fetch_add(1, Ordering::Relaxed) >= CHOICES_MAX
    }

    /// From now on a missing file is an error in re-runs too. For a re-run whose rows are in the table already and
    /// only pass through again to rebuild state: it must see what the first run saw.
    pub fn require_all(&self) {
        self.notes.0.all_required.store(true, Ordering::Relaxed);
    }

    /// Says which epoch reads it, and when that began: for what is written beside the table.
    pub fn note_run(&self, epoch: u64, started_ms: i64) {
        *self.notes.0.run.lock().unwrap_or_else(PoisonError::into_inner) = Run { epoch, started_ms };
    }

    /// What [`Self::note_run`] said.
    pub(super) fn run(&self) -> Run {
        *self.notes.0.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether [`Self::require_all`] was called.
    pub(super) fn all_required(&self) -> bool {
        self.notes.0.all_required.load(Ordering::Relaxed)
    }

    /// This file is damaged and was passed over.
    pub(super) fn note_corrupt(&self, path: &str, reason: String) {
        self.notes.0.corrupt.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), reason);
    }

    /// This file was not found, and is passed over.
    pub(super) fn note_vanished(&self, path: &str) {
        self.notes.0.vanished.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
    }
}
