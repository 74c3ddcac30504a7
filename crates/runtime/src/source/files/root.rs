//! Where a file relation looks: a directory, a pattern below one, or a single file.
//!
//! Knows paths and URLs as typed; knows nothing of formats, ledgers or streams. A file's identity is its absolute
//! path, so the same directory must always come out the same, whichever way it was typed: relative paths are
//! completed and `.` and `..` resolved; symbolic links stay as they are named.

use std::path::{Component, Path, PathBuf};

use alluvium_parser::Diagnostic;

use super::glob::Glob;
use super::store::is_remote;
use crate::error::{Error, Result};

/// A place to list.
#[derive(Debug, Clone, PartialEq)]
pub struct Root {
    /// Directory where listing starts; for a single file the file itself.
    pub base: PathBuf,
    /// What below it counts.
    pub target: Target,
}

/// What a typed path names.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// Everything below a directory.
    Directory,
    /// What matches below a directory.
    Pattern(Glob),
    /// One file.
    File,
}

impl Root {
    /// Finds out what `path` names. `strict` is about `*` in patterns; see [`Glob::new`].
    /// Errors: NOT_SUPPORTED_YET for other stores, PATH_NOT_FOUND, INVALID_PATH, PERMISSION_DENIED.
    pub fn find(path: &str, strict: bool) -> Result<Root> {
        let local = local_path(path)?;
        match std::fs::metadata(&local) {
            Ok(found) if found.is_dir() => {
                std::fs::read_dir(&local).map_err(|e| Error::io("list", &local, &e))?;
                return Ok(Root { base: local, target: Target::Directory });
            }
            Ok(_) => return Ok(Root { base: local, target: Target::File }),
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => return Err(Error::io("list", &local, &e)),
            Err(_) => {}
        }
        if !Glob::is_pattern(path) {
            return Err(not_found(path, &local));
        }
        let (base, pattern) = split_pattern(&local);
        if !base.is_dir() {
            return Err(not_found(path, &base));
        }
        let glob = Glob::new(&pattern, strict)
            .map_err(|why| Diagnostic::new("INVALID_PATH", format!("the path pattern {why}")))?;
        Ok(Root { base, target: Target::Pattern(glob) })
    }

    /// Whether a file counts, given its path relative to the base.
    pub fn takes_file(&self, relative: &str) -> bool {
        match &self.target {
            Target::Directory | Target::File => true,
            Target::Pattern(glob) => glob.matches_or_within(relative),
        }
    }

    /// Whether anything in a directory could count, given its path relative to the base.
    pub fn enters(&self, relative: &str) -> bool {
        match &self.target {
            Target::Directory => true,
            Target::File => false,
            Target::Pattern(glob) => glob.may_match_below(relative),
        }
    }
}

fn not_found(typed: &str, missing: &Path) -> Error {
    let mut known = missing.parent();
    while let Some(parent) = known.filter(|parent| !parent.exists()) {
        known = parent.parent();
    }
    let diagnostic = Diagnostic::new("PATH_NOT_FOUND", format!("path `{typed}` does not exist"))
        .help("create the directory first; an empty one is enough for a stream to start");
    Error::statement(match known {
        Some(parent) => diagnostic.help(format!("`{}` exists", parent.display())),
        None => diagnostic,
    })
}

/// An absolute file-system path from a path or URL as typed.
pub fn local_path(typed: &str) -> Result<PathBuf> {
    if typed.is_empty() {
        return Err(Diagnostic::new("INVALID_PATH", "the path is empty").into());
    }
    let path = match scheme(typed) {
        None => PathBuf::from(typed),
        Some("file") => file_url(typed)?,
        Some(_) if is_remote(typed) => {
            return Err(Diagnostic::new(
                "NOT_SUPPORTED_YET",
                format!("`{typed}`: this is not supported yet for files in object stores"),
            )
            .help("it is for local paths")
            .into());
        }
        Some(other) => {
            return Err(Diagnostic::new(
                "NOT_SUPPORTED_YET",
                format!("`{typed}`: reading from `{other}:` is not supported yet"),
            )
            .help("paths are local, or begin with file://, s3://, gs://, abfss:// or az://")
            .into());
        }
    };
    absolute(&path).map_err(|e| Error::io("find", &path, &e))
}

/// `s3` of `s3://bucket/x`, `dbfs` of `dbfs:/x`. A one-letter scheme is a drive.
fn scheme(typed: &str) -> Option<&str> {
    let (scheme, rest) = typed.split_once(':')?;
    let looks_right = scheme.len() > 1
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    (looks_right && rest.starts_with('/')).then_some(scheme)
}

/// `file:/x` and `file:///x`. Pattern characters survive, percent-encoded ones become ordinary.
fn file_url(typed: &str) -> Result<PathBuf> {
    let invalid = || Error::from(Diagnostic::new("INVALID_PATH", format!("`{typed}` is not a local file URL")));
    let rest = typed.strip_prefix("file:").ok_or_else(invalid)?;
    let path = match rest.strip_prefix("//") {
        None => rest,
        Some(after) if after.starts_with('/') => after,
        Some(after) => after.strip_prefix("localhost").filter(|path| path.starts_with('/')).ok_or_else(invalid)?,
    };
    percent_decoded(path).map(PathBuf::from).ok_or_else(invalid)
}

pub(super) fn percent_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            out.push((high * 16 + low) as u8);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

/// Completes a relative path and resolves `.` and `..`. What stands before a `..` may be a link, so that part is
/// resolved by the file system.
fn absolute(path: &Path) -> std::io::Result<PathBuf> {
    let whole = std::path::absolute(path)?;
    let Some(last_up) =
        whole.components().enumerate().filter(|(_, c)| *c == Component::ParentDir).map(|(i, _)| i).last()
    else {
        return Ok(whole.components().collect());
    };
    let above: PathBuf = whole.components().take(last_up + 1).collect();
    let below: PathBuf = whole.components().skip(last_up + 1).collect();
    let above = std::fs::canonicalize(&above).unwrap_or_else(|_| lexically(&above));
    Ok(above.join(below))
}

fn lexically(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

/// The longest leading part without pattern characters, and the rest.
fn split_pattern(path: &Path) -> (PathBuf, String) {
    let fixed = path.components().take_while(|c| !Glob::is_pattern(&c.as_os_str().to_string_lossy())).count();
    let base: PathBuf = path.components().take(fixed).collect();
    let rest: PathBuf = path.components().skip(fixed).collect();
    (base, rest.to_string_lossy().into_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn typed_paths_become_absolute() {
        assert_eq!(local_path("/a//b/./c/").unwrap(), PathBuf::from("/a/b/c"));
        assert_eq!(local_path("/nowhere/b/../c").unwrap(), PathBuf::from("/nowhere/c"));
        assert_eq!(local_path("file:///a/b%20c").unwrap(), PathBuf::from("/a/b c"));
        assert_eq!(local_path("file:/a").unwrap(), PathBuf::from("/a"));
        assert!(local_path("x/y").unwrap().is_absolute());
        assert_eq!(local_path("/a/x:y").unwrap(), PathBuf::from("/a/x:y"));
    }

    #[test]
    fn other_stores_are_refused_by_name() {
        for typed in ["s3://b/x", "abfss://c@a/x", "dbfs:/x", "memory:///x"] {
            assert_eq!(local_path(typed).unwrap_err().diagnostic().code, "NOT_SUPPORTED_YET", "{typed}");
        }
    }

    #[test]
    fn a_path_is_a_directory_a_file_or_a_pattern() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().to_str().unwrap();
        std::fs::write(dir.path().join("a[1].json"), "{}").unwrap();
        assert_eq!(Root::find(base, false).unwrap().target, Target::Directory);
        assert_eq!(Root::find(&format!("{base}/a[1].json"), false).unwrap().target, Target::File);
        let pattern = Root::find(&format!("{base}/x/*.json"), false);
        assert_eq!(pattern.unwrap_err().diagnostic().code, "PATH_NOT_FOUND");
        let pattern = Root::find(&format!("{base}/*/y?.json"), false).unwrap();
        assert_eq!(pattern.base, dir.path());
        assert!(pattern.takes_file("x/y1.json") && !pattern.takes_file("x/z.json"));
        let missing = Root::find(&format!("{base}/none"), false).unwrap_err().diagnostic();
        assert_eq!(missing.code, "PATH_NOT_FOUND");
        assert!(missing.help.iter().any(|h| h.contains("exists")));
    }
}
