//! Lists the files of a [`Root`] with as few system calls as the answer needs.
//!
//! Directory entries carry their kind, so no file is asked about (`stat`) just to be listed. A directory whose
//! modification time has not moved since it was last read, and had come to rest by then, holds the same names as
//! before and is not read again. Hidden names (`_x`, `.x`, `x._COPYING_`; not `_k=v`) are left out at every level.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use alluvium_parser::Diagnostic;

use super::FileEntry;
use super::glob::Glob;
use super::root::{Root, Target};
use crate::error::{Error, Result};

/// A directory changed this shortly before it was read may change again within the same tick of its clock.
const REST: Duration = Duration::from_secs(3);

/// Lists one root, again and again.
#[derive(Debug)]
pub struct Lister {
    root: Root,
    name_filter: Option<Glob>,
    directories: HashMap<PathBuf, Resting>,
}

/// A directory as last read, when nothing moved in it any more.
#[derive(Debug)]
struct Resting {
    modified: SystemTime,
    children: Vec<PathBuf>,
}

impl Lister {
    /// `name_filter` is matched against file names only.
    pub fn new(root: Root, name_filter: Option<Glob>) -> Lister {
        Lister { root, name_filter, directories: HashMap::new() }
    }

    /// Where it looks.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Paths of all files, sorted.
    pub fn all(&mut self) -> Result<Vec<String>> {
        self.directories.clear();
        self.recent()
    }

    /// Paths of all files in directories that may have changed since the last listing, sorted.
    pub fn recent(&mut self) -> Result<Vec<String>> {
        if self.root.target == Target::File {
            return Ok(vec![text(&self.root.base)?.to_owned()]);
        }
        let base = self.root.base.clone();
        std::fs::metadata(&base).map_err(|e| base_error(&base, &e))?;
        let mut paths = Vec::new();
        self.directory(&base, &mut paths)?;
        paths.sort();
        Ok(paths)
    }

    /// Paths of all files below one directory, sorted; empty when it is gone or not part of the root.
    pub fn below(&mut self, directory: &Path) -> Result<Vec<String>> {
        let mut paths = Vec::new();
        if self
            .relative(directory)
            .is_some_and(|relative| relative.is_empty() || !is_hidden_path(relative) && self.root.enters(relative))
        {
            self.directories.retain(|known, _| !known.starts_with(directory));
            self.directory(directory, &mut paths)?;
        }
        paths.sort();
        Ok(paths)
    }

    /// Whether a path, seen in an event, is one that a listing would give.
    pub fn takes(&self, path: &Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str());
        match (self.relative(path), name) {
            (Some(relative), Some(name)) => {
                !is_hidden_path(relative) && self.takes_name(name) && self.root.takes_file(relative)
            }
            _ => false,
        }
    }

    fn takes_name(&self, name: &str) -> bool {
        self.name_filter.as_ref().is_none_or(|glob| glob.matches(name))
    }

    fn relative<'p>(&self, path: &'p Path) -> Option<&'p str> {
        path.strip_prefix(&self.root.base).ok()?.to_str()
    }

    fn directory(&mut self, directory: &Path, paths: &mut Vec<String>) -> Result<()> {
        let modified = match std::fs::metadata(directory) {
            Ok(metadata) => metadata.modified().map_err(|e| Error::io("list", directory, &e))?,
            Err(e) => return gone_or(directory, &e),
        };
        if let Some(resting) = self.directories.get(directory).filter(|resting| resting.modified == modified) {
            for child in resting.children.clone() {
                self.directory(&child, paths)?;
            }
            return Ok(());
        }
        let at_rest = SystemTime::now().duration_since(modified).is_ok_and(|age| age > REST);
        let children = self.read(directory, paths)?;
        for child in &children {
            self.directory(child, paths)?;
        }
        if at_rest {
            self.directories.insert(directory.to_owned(), Resting { modified, children });
        } else {
            self.directories.remove(directory);
        }
        Ok(())
    }

    /// Adds the files of one directory, in the order of their names, and gives its sub-directories.
    fn read(&self, directory: &Path, paths: &mut Vec<String>) -> Result<Vec<PathBuf>> {
        let failed = |e: std::io::Error| Error::io("list", directory, &e);
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(e) => return gone_or(directory, &e).map(|()| Vec::new()),
        };
        let mut prefix = text(directory)?.to_owned();
        if !prefix.ends_with('/') {
            prefix.push('/');
        }
        let base_length = text(&self.root.base)?.trim_end_matches('/').len() + 1;
        let first = paths.len();
        let mut children = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if name.as_encoded_bytes().first().is_some_and(|first| b"._".contains(first))
                && is_hidden(&name.to_string_lossy())
            {
                continue;
            }
            let kind = entry.file_type().map_err(failed)?;
            let is_directory = kind.is_dir() || kind.is_symlink() && entry.path().is_dir();
            let Some(name) = name.to_str() else {
                return Err(not_text(&entry.path()));
            };
            if is_hidden(name) || !is_directory && !self.takes_name(name) {
                continue;
            }
            let path = format!("{prefix}{name}");
            let relative = path.get(base_length..).unwrap_or_default();
            if is_directory && self.root.enters(relative) {
                if kind.is_symlink() {
                    refuse_loop(Path::new(&path), directory)?;
                }
                children.push(PathBuf::from(path));
            } else if !is_directory && (kind.is_file() || kind.is_symlink()) && self.root.takes_file(relative) {
                paths.push(path);
            }
        }
        paths[first..].sort_unstable();
        Ok(children)
    }
}

/// Size and modification time of a file; None when it is gone or not a file.
pub fn stat(path: &str) -> Result<Option<FileEntry>> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {
            let modified = metadata.modified().map_err(|e| Error::io("look at", Path::new(path), &e))?;
            let modified_ms = match modified.duration_since(SystemTime::UNIX_EPOCH) {
                Ok(since) => since.as_millis() as i64,
                Err(before) => -(before.duration().as_millis() as i64),
            };
            Ok(Some(FileEntry { path: path.to_owned(), size: metadata.len(), modified_ms }))
        }
        Ok(_) => Ok(None),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("look at", Path::new(path), &e)),
    }
}

/// Whether names like this are never read.
pub fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || name.starts_with('_') && !name.contains('=') || name.ends_with("._COPYING_")
}

/// Whether a relative path has a hidden part.
pub fn is_hidden_path(relative: &str) -> bool {
    relative.split('/').any(is_hidden)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| not_text(path))
}

fn not_text(path: &Path) -> Error {
    Diagnostic::new(
        "FILE_NAME_NOT_UTF8",
        format!("the name of `{}` is not UTF-8 and cannot be written in SQL", path.display()),
    )
    .help("rename it, or hide it by a name that starts with `_` or `.`")
    .into()
}

/// A link to a directory above itself would give every file under endless names.
fn refuse_loop(link: &Path, directory: &Path) -> Result<()> {
    match (std::fs::canonicalize(link), std::fs::canonicalize(directory)) {
        (Ok(to), Ok(from)) if from.starts_with(&to) => {
            Err(Diagnostic::new("PATH_LOOP", format!("`{}` is a link to a directory above itself", link.display()))
                .help("remove the link, or hide it by a name that starts with `_` or `.`")
                .into())
        }
        _ => Ok(()),
    }
}

/// A directory may go while we list; the one the user named may not.
fn gone_or(directory: &Path, error: &std::io::Error) -> Result<()> {
    match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => Ok(()),
        _ => Err(Error::io("list", directory, error)),
    }
}

fn base_error(base: &Path, error: &std::io::Error) -> Error {
    if error.kind() != std::io::ErrorKind::NotFound {
        return Error::io("list", base, error);
    }
    Diagnostic::new(
        "PATH_NOT_FOUND",
        format!("directory `{}`, which a stream reads, is not there any more", base.display()),
    )
    .help("put it back, then start the stream again; it goes on where it stopped")
    .into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    fn lister(dir: &Path, below: &str) -> Lister {
        let path = format!("{}{below}", dir.to_str().unwrap());
        Lister::new(Root::find(&path, true).unwrap(), None)
    }

    fn names(dir: &Path, paths: Vec<String>) -> Vec<String> {
        paths.iter().map(|p| p.strip_prefix(&format!("{}/", dir.display())).unwrap().to_owned()).collect()
    }

    fn touch(path: PathBuf) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "{}").unwrap();
    }

    #[test]
    fn hidden_names_are_left_out_at_every_level() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.json", "b/c.json", "_k=1/d.json", "b/_e.json", "_f/g.json", ".h/i.json", "j._COPYING_", "b/.k"]
        {
            touch(dir.path().join(name));
        }
        let found = lister(dir.path(), "").all().unwrap();
        assert_eq!(names(dir.path(), found), ["_k=1/d.json", "a.json", "b/c.json"]);
    }

    #[test]
    fn patterns_prune_and_the_name_filter_looks_at_names_only() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["x/1/a.json", "x/2/a.csv", "y/1/a.json", "x/a.json"] {
            touch(dir.path().join(name));
        }
        let mut by_pattern = lister(dir.path(), "/x/*/a.json");
        assert_eq!(names(dir.path(), by_pattern.all().unwrap()), ["x/1/a.json"]);
        let mut filtered = Lister::new(
            Root::find(dir.path().to_str().unwrap(), true).unwrap(),
            Some(Glob::new("*.csv", true).unwrap()),
        );
        assert_eq!(names(dir.path(), filtered.all().unwrap()), ["x/2/a.csv"]);
        assert!(by_pattern.takes(&dir.path().join("x/3/a.json")));
        assert!(!by_pattern.takes(&dir.path().join("x/_3/a.json")));
    }

    #[test]
    fn a_directory_at_rest_is_not_read_again() {
        let dir = tempfile::tempdir().unwrap();
        touch(dir.path().join("old/a.json"));
        let long_ago = SystemTime::now() - Duration::from_secs(60);
        std::fs::File::open(dir.path().join("old")).unwrap().set_modified(long_ago).unwrap();
        let mut lister = lister(dir.path(), "");
        assert_eq!(names(dir.path(), lister.all().unwrap()), ["old/a.json"]);
        assert!(lister.recent().unwrap().is_empty());
        touch(dir.path().join("old/b.json"));
        assert_eq!(names(dir.path(), lister.recent().unwrap()), ["old/a.json", "old/b.json"]);
        assert_eq!(lister.all().unwrap().len(), 2);
    }

    #[test]
    fn a_link_to_a_directory_above_is_an_error_not_a_loop() {
        let dir = tempfile::tempdir().unwrap();
        touch(dir.path().join("a/b.json"));
        std::os::unix::fs::symlink(dir.path(), dir.path().join("a/up")).unwrap();
        let error = lister(dir.path(), "").all().unwrap_err().diagnostic();
        assert_eq!(error.code, "PATH_LOOP");
    }

    #[test]
    fn a_missing_base_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("in");
        touch(inner.join("a.json"));
        let mut lister = lister(&inner, "");
        std::fs::remove_dir_all(&inner).unwrap();
        assert_eq!(lister.recent().unwrap_err().diagnostic().code, "PATH_NOT_FOUND");
    }
}
