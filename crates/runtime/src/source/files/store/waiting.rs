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
    order: BTreeMap<(i64, Arc<str>), Found>,
    modified: HashMap<Arc<str>, i64>,
    bytes: u64,
    listed: usize,
}

/// What is kept of a waiting object beside its place in the order.
#[derive(Debug, Clone, Copy)]
struct Found {
    size: u64,
    by: FoundBy,
    /// When it was first seen.
    at_ms: i64,
}

impl Waiting {
    /// Whether `path` waits.
    pub fn contains(&self, path: &str) -> bool {
        self.modified.contains_key(path)
    }

    /// Whether `file` waits as it is.
    pub fn contains_as_is(&self, file: &FileEntry) -> bool {
        let modified_ms = self.modified.get(file.path.as_str()).copied();
        let found = modified_ms.and_then(|ms| self.order.get(&(ms, Arc::from(file.path.as_str()))));
        modified_ms == Some(file.modified_ms) && found.is_some_and(|found| found.size == file.size)
    }

    /// Adds an object, first seen at `at_ms`. One that waits already has the new size and time, and the old rest.
    pub fn add(&mut self, file: FileEntry, by: FoundBy, at_ms: i64) {
        let before = self.remove(&file.path);
        let found = before.map_or(Found { size: file.size, by, at_ms }, |before| Found { size: file.size, ..before });
        let path: Arc<str> = file.path.into();
        self.bytes += found.size;
        self.listed += usize::from(found.by == FoundBy::Listing);
        self.modified.insert(path.clone(), file.modified_ms);
        self.order.insert((file.modified_ms, path), found);
    }

    /// The oldest, and when they were first seen: at most `files_max`, ending with the one that crosses `bytes_max`.
    pub fn oldest(&self, files_max: u64, bytes_max: Option<u64>) -> (Vec<FileEntry>, Vec<i64>) {
        let mut chosen = Vec::new();
        let mut bytes = 0u64;
        for (key, found) in &self.order {
            if chosen.len() as u64 >= files_max || bytes_max.is_some_and(|max| bytes >= max) {
                break;
            }
            bytes = bytes.saturating_add(found.size);
            chosen.push((entry(key, found.size), found.at_ms));
        }
        chosen.into_iter().unzip()
    }

    /// These wait no longer; with `as_they_are`, unless they have changed meanwhile.
    pub fn forget(&mut self, files: &[FileEntry], as_they_are: bool) {
        for file in files {
            let changed = self.modified.get(file.path.as_str()).is_some_and(|ms| *ms != file.modified_ms);
            if !(as_they_are && changed) {
                self.remove(&file.path);
            }
        }
    }

    /// This one waits no longer.
    pub fn drop_file(&mut self, path: &str) {
        self.remove(path);
    }

    fn remove(&mut self, path: &str) -> Option<Found> {
        let (path, modified_ms) = self.modified.remove_entry(path)?;
        let found = self.order.remove(&(modified_ms, path))?;
        self.bytes -= found.size;
        self.listed -= usize::from(found.by == FoundBy::Listing);
        Some(found)
    }

    /// Those that a message told of, oldest first.
    pub fn of_messages(&self) -> Vec<FileEntry> {
        let told = self.order.iter().filter(|(_, found)| found.by == FoundBy::Message);
        told.map(|(key, found)| entry(key, found.size)).collect()
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
        waiting.add(file("b", 2), FoundBy::Message, 50);
        waiting.add(file("a", 2), FoundBy::Listing, 51);
        waiting.add(file("c", 1), FoundBy::Listing, 52);
        let names = |files: Vec<FileEntry>| files.into_iter().map(|file| file.path).collect::<Vec<_>>();
        assert_eq!(names(waiting.oldest(9, None).0), ["c", "a", "b"]);
        assert_eq!(waiting.oldest(9, None).1, [52, 51, 50]);
        assert_eq!(names(waiting.oldest(2, None).0), ["c", "a"]);
        assert_eq!(names(waiting.oldest(9, Some(11)).0), ["c", "a"]);
        assert_eq!(names(waiting.of_messages()), ["b"]);
        waiting.forget(&[file("c", 1), file("a", 7)], false);
        assert!(!waiting.has_listed() && waiting.contains("b"));
        assert_eq!(waiting.backlog(), Backlog { files: 1, bytes: 10 });
        waiting.drop_file("b");
        assert_eq!(waiting.backlog(), Backlog::default());
    }

    #[test]
    fn an_object_that_changes_while_it_waits_is_read_as_it_is_then() {
        let file = |size, modified_ms| FileEntry { path: "a".into(), size, modified_ms };
        let mut waiting = Waiting::default();
        waiting.add(file(10, 5), FoundBy::Message, 50);
        assert!(waiting.contains_as_is(&file(10, 5)) && !waiting.contains_as_is(&file(11, 5)));
        waiting.add(file(20, 9), FoundBy::Listing, 60);
        assert_eq!(waiting.oldest(9, None), (vec![file(20, 9)], vec![50]));
        assert_eq!((waiting.of_messages(), waiting.has_listed()), (vec![file(20, 9)], false));
        waiting.forget(&[file(10, 5)], true);
        assert!(waiting.contains("a"), "what was read is not what waits");
        waiting.forget(&[file(20, 9)], true);
        assert_eq!(waiting.backlog(), Backlog::default());
    }
}
