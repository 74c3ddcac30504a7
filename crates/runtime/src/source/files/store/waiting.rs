//! Objects that wait to be read, with the size and time that found them.
//!
//! Only waiting objects are in memory, and of very many only the oldest: the others are counted, and found again when
//! those have been read. Objects read before are the ledger's to know.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::source::Backlog;
use crate::source::files::FileEntry;
use crate::source::files::pending::KEPT;

/// Who told of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundBy {
    /// A listing, which can be made again.
    Listing,
    /// A message, which comes once, and whose objects the checkpoint keeps.
    Message,
}

/// Waiting objects, oldest first, those of one millisecond by path.
pub struct Waiting {
    order: BTreeMap<Slot, Found>,
    modified: HashMap<Arc<str>, i64>,
    bytes: u64,
    listed: usize,
    /// Most that are kept.
    kept_max: usize,
    /// Those that are not kept, as counted since everything was last found: all of them are behind `horizon`.
    beyond: Backlog,
    horizon: Option<Slot>,
    /// Objects that a listing finds and that were modified later do not count for now.
    until_ms: Option<i64>,
}

/// An object's place in the order: modification time and path.
type Slot = (i64, Arc<str>);

/// What is kept of a waiting object beside its place in the order.
#[derive(Debug, Clone, Copy)]
struct Found {
    size: u64,
    by: FoundBy,
    /// When it was first seen.
    at_ms: i64,
}

impl Default for Waiting {
    fn default() -> Waiting {
        Waiting {
            order: BTreeMap::new(),
            modified: HashMap::new(),
            bytes: 0,
            listed: 0,
            kept_max: KEPT,
            beyond: Backlog::default(),
            horizon: None,
            until_ms: None,
        }
    }
}

impl Waiting {
    /// Nothing, and at most so many are kept.
    #[cfg(test)]
    pub(super) fn keeping(kept_max: usize) -> Waiting {
        Waiting { kept_max, ..Waiting::default() }
    }

    /// Whether `path` waits and is kept.
    pub fn contains(&self, path: &str) -> bool {
        self.modified.contains_key(path)
    }

    /// Whether `file` waits as it is, and is kept.
    pub fn contains_as_is(&self, file: &FileEntry) -> bool {
        let modified_ms = self.modified.get(file.path.as_str()).copied();
        let found = modified_ms.and_then(|ms| self.order.get(&(ms, Arc::from(file.path.as_str()))));
        modified_ms == Some(file.modified_ms) && found.is_some_and(|found| found.size == file.size)
    }

    /// Adds an object, first seen at `at_ms`. One that waits already has the new size and time, and the old rest.
    pub fn add(&mut self, file: FileEntry, by: FoundBy, at_ms: i64) {
        let before = self.remove(&file.path);
        let later = by == FoundBy::Listing && self.until_ms.is_some_and(|until_ms| file.modified_ms > until_ms);
        if before.is_none() && later {
            return;
        }
        let found = before.map_or(Found { size: file.size, by, at_ms }, |before| Found { size: file.size, ..before });
        let place: Slot = (file.modified_ms, file.path.into());
        // Read before those that are not kept, it could make them too old to count.
        if self.horizon.as_ref().is_some_and(|horizon| *horizon <= place) {
            self.count_beyond(found.size);
            return;
        }
        self.bytes += found.size;
        self.listed += usize::from(found.by == FoundBy::Listing);
        self.modified.insert(place.1.clone(), file.modified_ms);
        self.order.insert(place, found);
        if self.order.len() > self.kept_max
            && let Some((newest, found)) = self.order.pop_last()
        {
            self.modified.remove(&newest.1);
            self.uncount(found);
            self.count_beyond(found.size);
            self.horizon = Some(newest);
        }
    }

    /// From now on objects that were modified later than that do not count when a listing finds them.
    pub fn until(&mut self, until_ms: Option<i64>) {
        self.until_ms = until_ms;
    }

    /// Keeps so many at least, and twice as many where that is not everything.
    pub fn keep_at_least(&mut self, files: u64) {
        self.kept_max = self.kept_max.max(usize::try_from(files.saturating_mul(2)).unwrap_or(usize::MAX));
    }

    /// Everything is going to be added again: those that were not kept are counted anew.
    pub fn begin_again(&mut self) {
        self.beyond = Backlog::default();
        self.horizon = None;
    }

    /// Whether there are waiting objects that are not kept.
    pub fn is_cut(&self) -> bool {
        self.horizon.is_some()
    }

    /// Whether fewer than `files` are kept although more wait.
    pub fn lacks(&self, files: u64) -> bool {
        self.is_cut() && (self.order.len() as u64) < files
    }

    /// The oldest, and when they were first seen: at most `files_max`, ending with the one that crosses `bytes_max`.
    pub fn oldest(&self, files_max: u64, bytes_max: Option<u64>) -> (Vec<FileEntry>, Vec<i64>) {
        let mut chosen = Vec::new();
        let mut bytes = 0u64;
        for (place, found) in &self.order {
            if chosen.len() as u64 >= files_max || bytes_max.is_some_and(|max| bytes >= max) {
                break;
            }
            bytes = bytes.saturating_add(found.size);
            chosen.push((entry(place, found.size), found.at_ms));
        }
        chosen.into_iter().unzip()
    }

    /// These wait no longer; where overwriting is allowed, unless a newer one does.
    pub fn forget(&mut self, files: &[FileEntry], overwrites: bool) {
        for file in files {
            let newer = self.modified.get(file.path.as_str()).is_some_and(|ms| *ms > file.modified_ms);
            if !(overwrites && newer) {
                self.remove(&file.path);
            }
        }
    }

    /// This one waits no longer.
    pub fn drop_file(&mut self, path: &str) {
        self.remove(path);
    }

    /// Whether any that a listing found still waits.
    pub fn has_listed(&self) -> bool {
        self.listed > 0
    }

    /// How much waits.
    pub fn backlog(&self) -> Backlog {
        Backlog { files: self.order.len() as u64 + self.beyond.files, bytes: self.bytes + self.beyond.bytes }
    }

    fn remove(&mut self, path: &str) -> Option<Found> {
        let (path, modified_ms) = self.modified.remove_entry(path)?;
        let found = self.order.remove(&(modified_ms, path))?;
        self.uncount(found);
        Some(found)
    }

    fn uncount(&mut self, found: Found) {
        self.bytes -= found.size;
        self.listed -= usize::from(found.by == FoundBy::Listing);
    }

    fn count_beyond(&mut self, size: u64) {
        self.beyond.files += 1;
        self.beyond.bytes += size;
    }
}

fn entry((modified_ms, path): &Slot, size: u64) -> FileEntry {
    FileEntry { path: path.to_string(), size, modified_ms: *modified_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(files: Vec<FileEntry>) -> Vec<String> {
        files.into_iter().map(|file| file.path).collect()
    }

    #[test]
    fn objects_wait_in_the_order_of_their_age_and_once() {
        let file = |path: &str, modified_ms| FileEntry { path: path.into(), size: 10, modified_ms };
        let mut waiting = Waiting::default();
        waiting.add(file("b", 2), FoundBy::Message, 50);
        waiting.add(file("a", 2), FoundBy::Listing, 51);
        waiting.add(file("c", 1), FoundBy::Listing, 52);
        assert_eq!(names(waiting.oldest(9, None).0), ["c", "a", "b"]);
        assert_eq!(waiting.oldest(9, None).1, [52, 51, 50]);
        assert_eq!(names(waiting.oldest(2, None).0), ["c", "a"]);
        assert_eq!(names(waiting.oldest(9, Some(11)).0), ["c", "a"]);
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
        assert!(!waiting.has_listed());
        waiting.forget(&[file(10, 5)], true);
        assert!(waiting.contains("a"), "what was read is not what waits");
        waiting.forget(&[file(30, 10)], true);
        assert_eq!(waiting.backlog(), Backlog::default(), "what was read is newer than what was found");
    }

    #[test]
    fn of_many_objects_the_oldest_are_kept_and_the_others_counted() {
        let file = |at: u64| FileEntry { path: format!("{:02}", at * 7 % 20), size: 2, modified_ms: at as i64 };
        let mut waiting = Waiting::keeping(6);
        let (mut read, mut known): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        while read.len() < 20 {
            assert!(waiting.lacks(4) || read.is_empty(), "{read:?}");
            waiting.begin_again();
            // As a listing gives them: by name, and what was read the ledger knows.
            let mut found: Vec<FileEntry> = (0..20).map(file).filter(|file| !known.contains(&file.path)).collect();
            found.sort_by(|a, b| a.path.cmp(&b.path));
            found.into_iter().for_each(|file| waiting.add(file, FoundBy::Listing, 0));
            let left = 20 - read.len() as u64;
            assert_eq!(waiting.backlog(), Backlog { files: left, bytes: 2 * left });
            while !waiting.lacks(4) && waiting.backlog().files > 0 {
                let (files, _) = waiting.oldest(4, None);
                waiting.forget(&files, false);
                known.extend(names(files.clone()));
                read.extend(names(files));
            }
        }
        assert_eq!(read, (0..20).map(|at| file(at).path).collect::<Vec<_>>(), "oldest first");
        assert!(!waiting.is_cut() && !waiting.has_listed() && waiting.backlog() == Backlog::default());
        waiting.until(Some(5));
        waiting.add(file(6), FoundBy::Listing, 0);
        waiting.add(file(7), FoundBy::Message, 0);
        assert_eq!(names(waiting.oldest(9, None).0), [file(7).path], "a message told of it");
    }
}
