//! Moves a file to another place, also on another device, as often as it takes.
//!
//! A crash may come between any two steps, and the move is made again: a file with the same bytes at the new place is
//! taken for the one that was moved there. The original goes only when the copy is on disk, its name too.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::table::{create_directories, sync_directory};

/// Bytes compared at once.
const PIECE: usize = 1 << 16;

/// Names tried for a file whose own name is taken, with its time alone and then numbered.
const NAMES: u32 = 1000;

/// Moves `from` to `to`; where it is then. Another file that is there keeps its place, and this one gets its time
/// (`modified_ms`) behind its name. What lies above `to` is made.
pub fn relocate(from: &Path, to: &Path, modified_ms: i64) -> Result<PathBuf> {
    if let Some(parent) = to.parent() {
        create_directories(parent)?;
    }
    for to in names(to, modified_ms) {
        if !to.exists() {
            return move_to(from, to);
        }
        if same_content(from, &to)? {
            return moved_before(from, to);
        }
    }
    let taken = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
    Err(Error::io("move to", to, &taken))
}

/// The names under which a file may come to lie.
fn names(to: &Path, modified_ms: i64) -> impl Iterator<Item = PathBuf> {
    let name = to.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let dated = to.with_file_name(format!("{name}.{modified_ms}"));
    let numbered = (1..NAMES).map({
        let to = to.to_owned();
        move |at| to.with_file_name(format!("{name}.{modified_ms}.{at}"))
    });
    [to.to_owned(), dated].into_iter().chain(numbered)
}

fn move_to(from: &Path, to: PathBuf) -> Result<PathBuf> {
    match std::fs::rename(from, &to) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::CrossesDevices => {
            copy(from, &to).map_err(|e| Error::io("move", from, &e))?;
            return moved_before(from, to);
        }
        Err(e) => return Err(Error::io("move", from, &e)),
    }
    sync_parent(&to)?;
    Ok(to)
}

/// The copy at `to` is whole: once that is on disk, the original goes.
fn moved_before(from: &Path, to: PathBuf) -> Result<PathBuf> {
    File::open(&to).and_then(|copy| copy.sync_all()).map_err(|e| Error::io("sync", &to, &e))?;
    sync_parent(&to)?;
    match std::fs::remove_file(from) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("delete", from, &e)),
        _ => Ok(to),
    }
}

/// Copies a file to another device, with its modification time, under its name only when it is whole.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    // Left by a crash, it is written over.
    let part = to.with_file_name(format!(".{name}.part"));
    std::fs::copy(from, &part)?;
    let copy = File::options().write(true).open(&part)?;
    // Where the time cannot be set, the copy has its own.
    let _ = std::fs::metadata(from).and_then(|metadata| copy.set_modified(metadata.modified()?));
    copy.sync_all()?;
    std::fs::rename(&part, to)
}

/// Whether two files hold the same bytes.
fn same_content(one: &Path, other: &Path) -> Result<bool> {
    let open = |path: &Path| {
        let file = File::open(path).map_err(|e| Error::io("read", path, &e))?;
        let metadata = file.metadata().map_err(|e| Error::io("look at", path, &e))?;
        Ok::<_, Error>((BufReader::with_capacity(PIECE, file), metadata))
    };
    let ((mut a, of_a), (mut b, of_b)) = (open(one)?, open(other)?);
    if !of_b.is_file() || of_a.len() != of_b.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; PIECE], vec![0; PIECE]);
    loop {
        let from_a = read_full(&mut a, &mut left).map_err(|e| Error::io("read", one, &e))?;
        let from_b = read_full(&mut b, &mut right).map_err(|e| Error::io("read", other, &e))?;
        if left[..from_a] != right[..from_b] {
            return Ok(false);
        }
        if from_a == 0 {
            return Ok(true);
        }
    }
}

/// Fills the buffer as far as there are bytes.
fn read_full(file: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

fn sync_parent(path: &Path) -> Result<()> {
    path.parent().map_or(Ok(()), sync_directory)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn put(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// What is below a directory: paths and texts.
    fn all(directory: &Path) -> Vec<(String, String)> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let text = std::fs::read_to_string(entry.path()).unwrap();
            files.push((entry.file_name().into_string().unwrap(), text));
        }
        files.sort();
        files
    }

    fn files(files: &[(&str, &str)]) -> Vec<(String, String)> {
        files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn a_move_that_was_cut_short_is_finished_and_makes_no_second_copy() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("in/a"), dir.path().join("x/done/a"));
        // The copy stands, and then the process ended; before, it ended within the copy.
        put(&from, "text");
        put(&to, "text");
        put(&to.with_file_name(".a.part"), "te");
        assert_eq!(relocate(&from, &to, 7).unwrap(), to);
        assert!(!from.exists());
        std::fs::remove_file(to.with_file_name(".a.part")).unwrap();
        assert_eq!(all(to.parent().unwrap()), files(&[("a", "text")]));
        // Others of that name, the same each time.
        for (text, name) in [("other", "a.7"), ("third", "a.7.1"), ("other", "a.7"), ("text", "a")] {
            put(&from, text);
            assert_eq!(relocate(&from, &to, 7).unwrap(), to.with_file_name(name), "{text}");
            assert!(!from.exists());
        }
        let wanted = files(&[("a", "text"), ("a.7", "other"), ("a.7.1", "third")]);
        assert_eq!(all(to.parent().unwrap()), wanted);
    }

    #[test]
    fn files_of_one_size_are_compared_to_their_end() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        let mut bytes = vec![7; 3 * PIECE + 5];
        std::fs::write(&one, &bytes).unwrap();
        std::fs::write(&other, &bytes).unwrap();
        assert!(same_content(&one, &other).unwrap());
        *bytes.last_mut().unwrap() = 8;
        std::fs::write(&other, &bytes).unwrap();
        assert!(!same_content(&one, &other).unwrap());
    }

    #[test]
    fn a_copy_to_another_device_has_the_content_and_the_time() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("a");
        put(&from, "text");
        let modified = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        File::options().write(true).open(&from).unwrap().set_modified(modified).unwrap();
        let to = dir.path().join("b");
        copy(&from, &to).unwrap();
        assert_eq!(std::fs::metadata(&to).unwrap().modified().unwrap(), modified);
        assert_eq!(all(dir.path()), files(&[("a", "text"), ("b", "text")]));
        // A real one, where there is another device.
        let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else { return };
        let to = elsewhere.path().join("sub/a");
        assert_eq!(relocate(&from, &to, 7).unwrap(), to);
        assert!(!from.exists());
        assert_eq!(all(to.parent().unwrap()), files(&[("a", "text")]));
    }
}
