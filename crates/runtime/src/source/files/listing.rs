//! Lists the files of a [`Root`] with as few system calls as the answer needs.
//!
//! Directory entries carry their kind, so no file is asked about (`stat`) just to be listed. A directory whose
//! modification time has not moved since it was last read, and had come to rest by then, holds the same names as
//! before and is not read again. Hidden names are left out at every level. Paths are given some thousands at a time:
//! a listing of a million files holds the names of one directory.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use alluvium_parser::Diagnostic;

use super::FileEntry;
use super::glob::Glob;
use super::root::{Root, Target};
use super::rules::{Hidden, Ignored};
use crate::error::{Error, Result};

/// A directory changed this shortly before it was read may change again within the same tick of its clock.
const REST: Duration = Duration::from_secs(3);

/// So many paths are given at once.
const GIVEN: usize = 4096;

/// Takes some paths, sorted; what it leaves in the vector is forgotten.
pub type Take<'t> = dyn FnMut(&mut Vec<String>) -> Result<()> + 't;

/// Lists one root, again and again.
#[derive(Debug)]
pub struct Lister {
    root: Root,
    name_filter: Option<Glob>,
    hidden: Hidden,
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
        Lister { root, name_filter, hidden: Hidden::default(), directories: HashMap::new() }
    }

    /// The same with another rule for hidden names.
    pub fn hiding(self, hidden: Hidden) -> Lister {
        Lister { hidden, ..self }
    }

    /// Which names it passes over.
    pub fn hidden(&self) -> &Hidden {
        &self.hidden
    }

    /// Where it looks.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Paths of all files, sorted.
    pub fn all(&mut self) -> Result<Vec<String>> {
        let mut paths = Vec::new();
        self.visit(true, &mut |some| {
            paths.append(some);
            Ok(())
        })?;
        paths.sort_unstable();
        Ok(paths)
    }

    /// Gives the paths of all files, or (`all` false) of those in directories that may have changed since the last
    /// listing.
    pub fn visit(&mut self, all: bool, take: &mut Take<'_>) -> Result<()> {
        if self.root.target == Target::File {
            return take(&mut vec![text(&self.root.base)?.to_owned()]);
        }
        if all {
            self.directories.clear();
        }
        let base = self.root.base.clone();
        std::fs::metadata(&base).map_err(|e| base_error(&base, &e))?;
        let mut giver = Giver { paths: Vec::new(), take };
        self.directory(&base, &mut giver)?;
        giver.give()
    }

    /// Gives the paths of all files below one directory; none when it is gone or not part of the root.
    pub fn visit_below(&mut self, directory: &Path, take: &mut Take<'_>) -> Result<()> {
        let counts = self.relative(directory).is_some_and(|relative| {
            relative.is_empty() || self.hidden.part(relative).is_none() && self.root.enters(relative)
        });
        if !counts {
            return Ok(());
        }
        self.directories.retain(|known, _| !known.starts_with(directory));
        let mut giver = Giver { paths: Vec::new(), take };
        self.directory(directory, &mut giver)?;
        giver.give()
    }

    /// Whether a path, seen in an event, is one that a listing would give.
    pub fn takes(&self, path: &Path) -> bool {
        self.relative(path).is_some_and(|relative| self.ignore(relative).is_none())
    }

    /// Why a listing does not give a file, by its path relative to the base.
    pub fn ignore(&self, relative: &str) -> Option<Ignored> {
        if let Some(part) = self.hidden.part(relative) {
            return Some(Ignored::Hidden(part.to_owned()));
        }
        let name = relative.rsplit('/').next().unwrap_or(relative);
        if let Some(filter) = self.name_filter.as_ref().filter(|filter| !filter.matches(name)) {
            return Some(Ignored::Name(filter.text().to_owned()));
        }
        match &self.root.target {
            Target::Pattern(glob) if !self.root.takes_file(relative) => Some(Ignored::Pattern(glob.text().to_owned())),
            _ => None,
        }
    }

    fn takes_name(&self, name: &str) -> bool {
        self.name_filter.as_ref().is_none_or(|glob| glob.matches(name))
    }

    fn relative<'p>(&self, path: &'p Path) -> Option<&'p str> {
        path.strip_prefix(&self.root.base).ok()?.to_str()
    }

    fn directory(&mut self, directory: &Path, giver: &mut Giver<'_, '_>) -> Result<()> {
        let modified = match std::fs::metadata(directory) {
            Ok(metadata) => metadata.modified().map_err(|e| Error::io("list", directory, &e))?,
            Err(e) => return gone_or(directory, &e),
        };
        if let Some(resting) = self.directories.get(directory).filter(|resting| resting.modified == modified) {
            for child in resting.children.clone() {
                self.directory(&child, giver)?;
            }
            return Ok(());
        }
        let at_rest = SystemTime::now().duration_since(modified).is_ok_and(|age| age > REST);
        let children = self.read(directory, giver)?;
        for child in &children {
            self.directory(child, giver)?;
        }
        if at_rest {
            self.directories.insert(directory.to_owned(), Resting { modified, children });
        } else {
            self.directories.remove(directory);
        }
        Ok(())
    }

    /// Gives the files of one directory, in the order of their names, and returns its sub-directories.
    fn read(&self, directory: &Path, giver: &mut Giver<'_, '_>) -> Result<Vec<PathBuf>> {
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
        let within = prefix.get(base_length..).unwrap_or_default().to_owned();
        let mut files = Names::default();
        let mut children = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                if self.hidden.hides(&name.to_string_lossy()) {
                    continue;
                }
                return Err(not_text(&entry.path()));
            };
            if self.hidden.hides(name) {
                continue;
            }
            let kind = entry.file_type().map_err(failed)?;
            let is_directory = kind.is_dir() || kind.is_symlink() && entry.path().is_dir();
            if !is_directory && !self.takes_name(name) {
                continue;
            }
            let relative = format!("{within}{name}");
            if is_directory && self.root.enters(&relative) {
                let path = PathBuf::from(format!("{prefix}{name}"));
                if kind.is_symlink() {
                    refuse_loop(&path, directory)?;
                }
                children.push(path);
            } else if !is_directory && (kind.is_file() || kind.is_symlink()) && self.root.takes_file(&relative) {
                files.push(name);
            }
        }
        files.sort();
        for name in files.iter() {
            giver.push(format!("{prefix}{name}"))?;
        }
        children.sort_unstable();
        Ok(children)
    }
}

/// Collects paths until there are enough to be given.
struct Giver<'g, 't> {
    paths: Vec<String>,
    take: &'g mut Take<'t>,
}

impl Giver<'_, '_> {
    fn push(&mut self, path: String) -> Result<()> {
        self.paths.push(path);
        if self.paths.len() >= GIVEN { self.give() } else { Ok(()) }
    }

    fn give(&mut self) -> Result<()> {
        // Neighbouring directories come one behind the other, and a file may lie between them.
        self.paths.sort_unstable();
        let given = (self.take)(&mut self.paths);
        self.paths.clear();
        given
    }
}

/// Names of one directory, in one piece of memory: there may be a million.
#[derive(Debug, Default)]
pub(super) struct Names {
    text: String,
    spans: Vec<(u32, u32)>,
}

impl Names {
    pub(super) fn push(&mut self, name: &str) {
        let from = self.text.len();
        self.text.push_str(name);
        // More than 4 GB of names in one directory is beyond any file system.
        if let (Ok(from), Ok(to)) = (u32::try_from(from), u32::try_from(self.text.len())) {
            self.spans.push((from, to));
        }
    }

    pub(super) fn sort(&mut self) {
        let Names { text, spans } = self;
        spans.sort_unstable_by(|a, b| slice(text, *a).cmp(slice(text, *b)));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.spans.iter().map(|span| slice(&self.text, *span))
    }
}

fn slice(text: &str, (from, to): (u32, u32)) -> &str {
    text.get(from as usize..to as usize).unwrap_or_default()
}

/// Size and modification time of a file; None when it is gone or not a file.
pub fn stat(path: &str) -> Result<Option<FileEntry>> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {
            let modified_ms = modified_ms(&metadata).map_err(|e| Error::io("look at", Path::new(path), &e))?;
            Ok(Some(FileEntry { path: path.to_owned(), size: metadata.len(), modified_ms }))
        }
        Ok(_) => Ok(None),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("look at", Path::new(path), &e)),
    }
}

/// A file's modification time, milliseconds since 1970 UTC.
pub(super) fn modified_ms(metadata: &std::fs::Metadata) -> std::io::Result<i64> {
    Ok(match metadata.modified()?.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => since.as_millis() as i64,
        Err(before) => -(before.duration().as_millis() as i64),
    })
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
pub(super) fn refuse_loop(link: &Path, directory: &Path) -> Result<()> {
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
        let mut recent = || {
            let mut paths = Vec::new();
            let mut keep = |some: &mut Vec<String>| {
                paths.append(some);
                Ok(())
            };
            lister.visit(false, &mut keep).unwrap();
            names(dir.path(), paths)
        };
        assert!(recent().is_empty());
        touch(dir.path().join("old/b.json"));
        assert_eq!(recent(), ["old/a.json", "old/b.json"]);
        assert_eq!(lister.all().unwrap().len(), 2);
    }

    #[test]
    fn many_files_are_given_some_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..GIVEN + 10 {
            touch(dir.path().join(format!("{}/{i:05}", i % 3)));
        }
        let (mut sizes, mut all) = (Vec::new(), Vec::new());
        lister(dir.path(), "")
            .visit(true, &mut |some| {
                assert!(some.is_sorted());
                sizes.push(some.len());
                all.append(some);
                Ok(())
            })
            .unwrap();
        assert_eq!((sizes, all.is_sorted(), all.len()), (vec![GIVEN, 10], true, GIVEN + 10));
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
        assert_eq!(lister.all().unwrap_err().diagnostic().code, "PATH_NOT_FOUND");
    }
}
