//! The catalog: which tables, views and streams a warehouse has, one small file each.
//!
//! An entry is written whole to a new file, synced and renamed into place, so a reader sees the old or the new one.
//! The entry is what makes an object exist: the Delta table and the checkpoint behind it are made from it when missing.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use alluvium_parser::{Diagnostic, Name};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Format of the entries written now.
const FORMAT: u32 = 1;

/// The objects of one warehouse directory.
#[derive(Debug, Clone)]
pub struct Catalog {
    warehouse: PathBuf,
}

/// One object.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    format: u32,
    /// Name as first spelled.
    pub name: String,
    /// When it was made, milliseconds since 1970 UTC.
    pub created_ms: i64,
    /// What it is.
    pub object: Object,
}

/// What an entry describes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Object {
    /// A Delta table without a stream of ours.
    Table(TableEntry),
    /// A Delta table that a stream fills.
    StreamingTable(StreamEntry),
    /// A stored query.
    View(ViewEntry),
}

/// A Delta table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TableEntry {
    /// Directory.
    pub location: PathBuf,
    /// The directory belongs to the warehouse and goes with DROP.
    pub managed: bool,
}

/// A streaming table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StreamEntry {
    /// Directory of the Delta table.
    pub location: PathBuf,
    /// The directory belongs to the warehouse and goes with DROP.
    pub managed: bool,
    /// Directory of the checkpoint.
    pub checkpoint: PathBuf,
    /// The CREATE statement, parsed again at each start.
    pub statement: String,
    /// The session's time zone when it was created, in which its query is meant ever after; None where a former version
    /// did not write it down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// REFRESH … FULL has begun to take rows and checkpoint away: both go before anything else is done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resetting: bool,
}

/// A view.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ViewEntry {
    /// The CREATE statement.
    pub statement: String,
}

impl Entry {
    /// A new entry of this moment.
    pub fn new(name: &str, object: Object) -> Self {
        Entry { format: FORMAT, name: name.to_string(), created_ms: crate::clock::now_ms(), object }
    }

    /// The same object's entry with another content.
    pub fn with(&self, object: Object) -> Self {
        Entry { object, ..self.clone() }
    }

    /// Where its data lies, for tables.
    pub fn location(&self) -> Option<&Path> {
        match &self.object {
            Object::Table(table) => Some(&table.location),
            Object::StreamingTable(stream) => Some(&stream.location),
            Object::View(_) => None,
        }
    }

    /// `TABLE`, `STREAMING TABLE`, `VIEW`.
    pub fn kind(&self) -> &'static str {
        match self.object {
            Object::Table(_) => "TABLE",
            Object::StreamingTable(_) => "STREAMING TABLE",
            Object::View(_) => "VIEW",
        }
    }
}

impl Catalog {
    /// Opens the catalog of a warehouse directory; nothing is made before the first entry is.
    pub fn open(warehouse: &Path) -> Result<Catalog> {
        let warehouse = std::path::absolute(warehouse).map_err(|e| Error::io("find", warehouse, &e))?;
        Ok(Catalog { warehouse })
    }

    /// The warehouse directory.
    pub fn warehouse(&self) -> &Path {
        &self.warehouse
    }

    /// Where a managed table of this name lies.
    pub fn managed_location(&self, name: &str) -> PathBuf {
        self.warehouse.join(file_stem(name))
    }

    /// The entry of a name, compared without case.
    pub fn get(&self, name: &str) -> Result<Option<Entry>> {
        let path = self.path(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(decode(&path, &bytes)?)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("read the catalog entry", &path, &e)),
        }
    }

    /// Makes or replaces an entry, durably.
    pub fn put(&self, entry: &Entry) -> Result<()> {
        let path = self.path(&entry.name);
        let dir = self.dir();
        fs::create_dir_all(&dir).map_err(|e| Error::io("make the warehouse directory", &dir, &e))?;
        let bytes = serde_json::to_vec_pretty(entry).map_err(|e| Error::internal(format!("catalog entry: {e}")))?;
        let temporary = path.with_extension(format!("tmp{}", std::process::id()));
        let write = || -> std::io::Result<()> {
            let mut file = fs::File::create(&temporary)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            fs::File::open(&dir)?.sync_all()
        };
        write().map_err(|e| Error::io("write the catalog entry", &path, &e))
    }

    /// Forgets an entry, durably. Nothing else is removed.
    pub fn remove(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(Error::io("remove the catalog entry", &path, &e)),
        }
        let dir = self.dir();
        fs::File::open(&dir).and_then(|d| d.sync_all()).map_err(|e| Error::io("sync", &dir, &e))
    }

    /// Every entry, by name.
    pub fn list(&self) -> Result<Vec<Entry>> {
        let dir = self.dir();
        let listing = match fs::read_dir(&dir) {
            Ok(listing) => listing,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io("list the catalog", &dir, &e)),
        };
        let mut entries = Vec::new();
        for item in listing {
            let path = item.map_err(|e| Error::io("list the catalog", &dir, &e))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let bytes = fs::read(&path).map_err(|e| Error::io("read the catalog entry", &path, &e))?;
                entries.push(decode(&path, &bytes)?);
            }
        }
        entries.sort_by_key(|entry: &Entry| entry.name.to_lowercase());
        Ok(entries)
    }

    fn dir(&self) -> PathBuf {
        self.warehouse.join("_alluvium").join("catalog")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir().join(format!("{}.json", file_stem(name)))
    }
}

/// The one table name of a possibly qualified one; only the schema `default` exists.
pub fn table_name(name: &Name) -> Result<String> {
    qualified(&name.parts).map_err(|e| e.at_least(name.span))
}

/// The same for parts without a place.
pub fn qualified(parts: &[String]) -> Result<String> {
    match parts {
        [table] => Ok(table.clone()),
        [schema, table] if schema.eq_ignore_ascii_case("default") => Ok(table.clone()),
        other => Err(Diagnostic::new(
            "SCHEMA_NOT_FOUND",
            format!("there is no schema `{}`", other[..other.len().saturating_sub(1)].join(".")),
        )
        .help("this release has the one schema `default`; leave the schema out")
        .into()),
    }
}

/// A file name for any object name: lower case, with everything unusual as `~XX`, which URLs leave alone.
fn file_stem(name: &str) -> String {
    let mut stem = String::new();
    for byte in name.to_lowercase().bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' => stem.push(byte as char),
            b'_' if !stem.is_empty() => stem.push('_'),
            other => stem.push_str(&format!("~{other:02x}")),
        }
    }
    stem
}

fn decode(path: &Path, bytes: &[u8]) -> Result<Entry> {
    let entry: Entry = serde_json::from_slice(bytes).map_err(|e| {
        Error::environment("CATALOG_CORRUPT", format!("the catalog entry `{}` cannot be read: {e}", path.display()))
    })?;
    if entry.format != FORMAT {
        return Err(Error::environment(
            "CATALOG_FORMAT",
            format!("`{}` has catalog format {}, and this release reads {FORMAT}", path.display(), entry.format),
        ));
    }
    Ok(entry)
}
