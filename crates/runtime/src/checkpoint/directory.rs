//! The checkpoint's directory: made durably, held by one process, refused when its format is unknown.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use alluvium_parser::Diagnostic;

use super::lock::Lock;
use crate::error::{Error, Result};

const FORMAT_FILE: &str = "format";
const FORMAT: &str = "alluvium checkpoint 1";
const DATABASE: &str = "db";
const QUERY_FILE: &str = "query_id";

/// A directory that is ours to use.
pub(super) struct Prepared {
    /// Where the database is or will be.
    pub(super) database: PathBuf,
    pub(super) query_id: String,
    pub(super) lock: Lock,
}

/// Creates what is missing, takes the lock, checks the format.
pub(super) fn prepare(dir: &Path, stream: &str) -> Result<Prepared> {
    create_durably(dir)?;
    let lock = Lock::take(dir, stream)?;
    let database = dir.join(DATABASE);
    let format = dir.join(FORMAT_FILE);
    match fs::read_to_string(&format) {
        Ok(found) if found.trim_end() == FORMAT => {}
        // Cut off while it was being written, before there was anything else.
        Ok(found) if !database.exists() && FORMAT.starts_with(found.trim_end()) => begin(dir)?,
        Ok(found) => return Err(unknown_format(dir, found.trim_end())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !database.exists() => begin(dir)?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(unknown_format(dir, "(none)")),
        Err(e) => return Err(Error::io("read", &format, &e)),
    }
    let query_id = query_id(dir).ok_or_else(|| super::unreadable(&dir.display().to_string(), "its query id"))?;
    Ok(Prepared { database, query_id, lock })
}

/// The database of the checkpoint in `dir` and its query's id, to be looked at while another process may hold it. None
/// where nothing was made yet.
pub(super) fn existing(dir: &Path) -> Result<Option<(PathBuf, String)>> {
    let database = dir.join(DATABASE);
    // RocksDB writes this file last.
    if !database.join("CURRENT").exists() {
        return Ok(None);
    }
    let format = dir.join(FORMAT_FILE);
    let found = fs::read_to_string(&format).map_err(|e| Error::io("read", &format, &e))?;
    if found.trim_end() != FORMAT {
        return Err(unknown_format(dir, found.trim_end()));
    }
    let query_id = query_id(dir).ok_or_else(|| super::unreadable(&dir.display().to_string(), "its query id"))?;
    Ok(Some((database, query_id)))
}

/// Id and format are written before the database exists, the format last.
fn begin(dir: &Path) -> Result<()> {
    write_durably(&dir.join(QUERY_FILE), &uuid::Uuid::new_v4().to_string())?;
    write_durably(&dir.join(FORMAT_FILE), FORMAT)?;
    sync_directory(dir)
}

/// The id of the query whose checkpoint `dir` is, also while another process holds it.
pub(super) fn query_id(dir: &Path) -> Option<String> {
    let text = fs::read_to_string(dir.join(QUERY_FILE)).ok()?;
    uuid::Uuid::parse_str(text.trim()).ok().map(|id| id.to_string())
}

/// After the database was opened: its directory is durable too.
pub(super) fn finish(dir: &Path) -> Result<()> {
    sync_directory(dir)
}

fn create_durably(dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(dir).map_err(|e| Error::io("create", dir, &e))?;
    // Every directory that may have just been made is an entry in the one above.
    for above in dir.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
        match File::open(above).and_then(|directory| directory.sync_all()) {
            Ok(()) => {}
            // Directories above ours that we may not even open were there before.
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => break,
            Err(e) => return Err(Error::io("sync", above, &e)),
        }
    }
    Ok(())
}

fn write_durably(path: &Path, text: &str) -> Result<()> {
    let write = || {
        let mut file = File::create(path)?;
        writeln!(file, "{text}")?;
        file.sync_all()
    };
    write().map_err(|e| Error::io("write", path, &e))
}

fn sync_directory(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|directory| directory.sync_all()).map_err(|e| Error::io("sync", dir, &e))
}

fn unknown_format(dir: &Path, found: &str) -> Error {
    Error::Environment(Box::new(
        Diagnostic::new(
            "CHECKPOINT_FORMAT",
            format!("the checkpoint at `{}` has format `{found}`; this version reads `{FORMAT}`", dir.display()),
        )
        .help("run the version that wrote it, or choose another checkpoint location to start over"),
    ))
}
