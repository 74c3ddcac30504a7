//! Which version of a file is read: the one an epoch's intent names, and only one.
//!
//! A file is told from what it was by its size and modification time, a local one also by its inode, an object by its
//! entity tag. What a reader may open is a matter of who reads ([`Held`]); what becomes of a file that is another one is the
//! epoch's.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use alluvium_parser::Diagnostic;
use object_store::ObjectMeta;

use super::FileEntry;
use super::listing::modified_ms;
use super::store::{encoded_url, object_changed};
use crate::error::Error;

/// One version of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    size: u64,
    modified_ms: i64,
    mark: Mark,
}

/// What else tells versions apart.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mark {
    Local { device: u64, inode: u64, modified_s: i64, modified_ns: i64 },
    Object { tag: Option<String> },
}

/// Which versions of its files a reader takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Held {
    /// Any, as a statement does that reads files once. Parts of a file are of one version.
    #[default]
    No,
    /// The one that was chosen.
    Chosen,
    /// The one whose rows are in the table. A file that was put back has another time, so that its size decides.
    Published,
}

impl Version {
    /// Of an open local file.
    pub fn of_file(metadata: &Metadata) -> std::io::Result<Version> {
        let mark = Mark::Local {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified_s: metadata.mtime(),
            modified_ns: metadata.mtime_nsec(),
        };
        Ok(Version { size: metadata.len(), modified_ms: modified_ms(metadata)?, mark })
    }

    /// Of an object, as the store tells it with its bytes.
    pub fn of_object(meta: &ObjectMeta) -> Version {
        let mark = Mark::Object { tag: meta.e_tag.clone() };
        Version { size: meta.size, modified_ms: meta.last_modified.timestamp_millis(), mark }
    }

    /// Whether a reader that is `held` takes this version of `file`.
    pub fn is_taken(&self, file: &FileEntry, held: Held) -> bool {
        match (held, &self.mark) {
            (Held::No, _) => true,
            (Held::Published, _) => self.size == file.size,
            (Held::Chosen, Mark::Local { .. }) => (self.size, self.modified_ms) == (file.size, file.modified_ms),
            // An event's time is a moment behind the object's, and services tell times to the second in some places.
            (Held::Chosen, Mark::Object { .. }) => {
                let seconds = |ms: i64| ms.div_euclid(1000);
                self.size == file.size && seconds(self.modified_ms) <= seconds(file.modified_ms)
            }
        }
    }
}

/// A file that is not what it was when it was chosen, or when reading it began.
pub fn changed(path: &str) -> Error {
    if encoded_url(path).is_some() {
        return object_changed(path);
    }
    let message = format!("file `{path}` was written again while it was being read");
    let diagnostic = Diagnostic::new("FILE_CHANGED", message)
        .help("write files elsewhere on the same file system and rename them into place")
        .help("start the stream, or the statement, again: it reads the file as it is then");
    Error::Environment(Box::new(diagnostic))
}

/// A file that is not what the epoch read whose rows are in the table.
pub fn not_as_published(path: &str) -> Error {
    let code = if encoded_url(path).is_some() { "OBJECT_CHANGED" } else { "FILE_CHANGED" };
    let message = format!(
        "`{path}` is not what it was when its rows came into the table, and the state cannot be made without them"
    );
    let diagnostic =
        Diagnostic::new(code, message).help("put its former content back; or start over with REFRESH TABLE … FULL");
    Error::Environment(Box::new(diagnostic))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn local(size: u64, modified_ms: i64, inode: u64) -> Version {
        let mark = Mark::Local { device: 1, inode, modified_s: modified_ms / 1000, modified_ns: 0 };
        Version { size, modified_ms, mark }
    }

    #[test]
    fn what_is_chosen_is_told_by_size_and_time_and_what_is_published_by_size() {
        let file = FileEntry { path: "/a".into(), size: 5, modified_ms: 7000 };
        for (version, held, taken) in [
            (local(5, 7000, 1), Held::Chosen, true),
            (local(5, 7001, 1), Held::Chosen, false),
            (local(4, 7000, 1), Held::Chosen, false),
            (local(5, 9999, 1), Held::Published, true),
            (local(4, 7000, 1), Held::Published, false),
            (local(4, 1, 1), Held::No, true),
        ] {
            assert_eq!(version.is_taken(&file, held), taken, "{version:?} {held:?}");
        }
        assert_ne!(local(5, 7000, 1), local(5, 7000, 2), "another file of the same size and time");
    }

    #[test]
    fn an_object_may_be_older_than_the_event_that_told_of_it() {
        let file = FileEntry { path: "s3://b/a".into(), size: 5, modified_ms: 7400 };
        let object = |size, modified_ms| Version { size, modified_ms, mark: Mark::Object { tag: None } };
        let taken = |version: Version| version.is_taken(&file, Held::Chosen);
        assert!(taken(object(5, 6000)) && taken(object(5, 7900)));
        assert!(!taken(object(5, 8000)) && !taken(object(4, 7000)));
    }
}
