//! Objects that wait to be read, with the size and time that found them.
//!
//! Only waiting objects are in memory; those read before are the ledger's to know.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::source::Backlog;
use crate::source::files::FileEntry;

/// Who told of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundBy {
    /// A listing, which can be made again.
    Listing,
    /// A message, which comes once.
    Message,
}

/// Waiting objects, oldest first, those of one millisecond by path.
#[derive(Default)]
pub struct Waiting {
    order: BTreeMap<(i64, Arc<str>), (u64, FoundBy)>,
    modified: HashMap<Arc<str>, i64>,
    bytes: u64,
    listed: usize,
}

impl Waiting {
    /// Whether `path` waits.
    pub fn contains(&self, path: &str) -> bool {
        self.modified.contains_key(path)
    }

    /// Adds an object, unless it waits already.
    pub fn add(&mut self, file: FileEntry, found_by: FoundBy) {
        if self.contains(&file.path) {
            return;
        }
        let path: Arc<str> = file.path.into();
        self.bytes += file.size;
        self.listed += usize::from(found_by == FoundBy::Listing);
        self.modified.insert(path.clone(), file.modified_ms);
        self.order.insert((file.modified_ms, path), (file.size, found_by));
    }

    /// The oldest: at most `files_max`, ending with the one that crosses `bytes_max`.
    pub fn oldest(&self, files_max: u64, bytes_max: Option<u64>) -> Vec<FileEntry> {
        let mut chosen = Vec::new();
        let mut bytes = 0u64;
        for (key, (size, _)) in &self.order {
            if chosen.len() as u64 >= files_max || bytes_max.is_some_and(|max| bytes >= max) {
                break;
            }
            bytes = bytes.saturating_add(*size);
            chosen.push(entry(key, *size));
        }
        chosen
    }

    /// These wait no longer.
    pub fn forget(&mut self, files: &[FileEntry]) {
        for file in files {
            if let Some((path, modified_ms)) = self.modified.remove_entry(file.path.as_str())
                && let Some((size, found_by)) = self.order.remove(&(modified_ms, path))
            {
                self.bytes -= size;
                self.listed -= usize::from(found_by == FoundBy::Listing);
            }
        }
    }

    /// Takes all out.
    pub fn take_all(&mut self) -> Vec<FileEntry> {
        let taken = std::mem::take(self);
        taken.order.iter().map(|(key, (size, _))| entry(key, *size)).collect()
    }

    /// Those that a message told of, oldest first.
    pub fn of_messages(&self) -> Vec<FileEntry> {
        let told = self.order.iter().filter(|(_, (_, found_by))| *found_by == FoundBy::Message);
        told.map(|(key, (size, _))| entry(key, *size)).collect()
    }

    /// Whether any that a listing found still waits.
    pub fn has_listed(&self) -> bool {
        self.listed > 0
    }

    /// How much waits.
    pub fn backlog(&self) -> Backlog {
        Backlog { files: self.order.len() as u64, bytes: self.bytes }
    }
}

fn entry((modified_ms, path): &(i64, Arc<str>), size: u64) -> FileEntry {
    FileEntry { path: path.to_string(), size, modified_ms: *modified_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_wait_in_the_order_of_their_age_and_once() {
        let file = |path: &str, modified_ms| FileEntry { path: path.into(), size: 10, modified_ms };
        let mut waiting = Waiting::default();
        waiting.add(file("b", 2), FoundBy::Message);
        waiting.add(file("a", 2), FoundBy::Listing);
        waiting.add(file("c", 1), FoundBy::Listing);
        waiting.add(file("b", 9), FoundBy::Listing);
        let names = |files: Vec<FileEntry>| files.into_iter().map(|file| file.path).collect::<Vec<_>>();
        assert_eq!(names(waiting.oldest(9, None)), ["c", "a", "b"]);
        assert_eq!(names(waiting.oldest(2, None)), ["c", "a"]);
        assert_eq!(names(waiting.oldest(9, Some(11))), ["c", "a"]);
        assert_eq!(names(waiting.of_messages()), ["b"]);
        waiting.forget(&[file("c", 1), file("a", 7)]);
        assert!(!waiting.has_listed() && waiting.contains("b"));
        assert_eq!(waiting.backlog(), Backlog { files: 1, bytes: 10 });
        assert_eq!(names(waiting.take_all()), ["b"]);
        assert_eq!(waiting.backlog(), Backlog::default());
    }
}
