//! The versions of a source's schema, one file each: `_schemas/0`, `1`, … below a directory. The highest number counts.
//!
//! A file's first line is `v1`; then comes JSON with the data schema and the schema of the path's columns, each in Delta's
//! JSON as a text. A version appears whole, durably, or not at all, and is never written over. Knows nothing of where
//! schemas come from; a person may add versions by hand.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use alluvium_parser::Diagnostic;
use arrow::datatypes::Schema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::table::{create_directories, schema, sync_directory};

const FORMAT: &str = "v1";
const DIRECTORY: &str = "_schemas";
/// Names the table whose stream writes here. Hidden, so that it is no version.
const OWNER: &str = ".stream";

/// Columns of a source at one version.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaVersion {
    /// From 0.
    pub version: u64,
    /// Columns of the files, without the rescue column.
    pub data: Schema,
    /// Columns of the path.
    pub partitions: Schema,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    data_schema_json: String,
    partition_schema_json: String,
}

/// Where versions are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SchemaLog {
    directory: PathBuf,
}

impl SchemaLog {
    /// Versions below `location`, which need not exist.
    pub fn below(location: &Path) -> SchemaLog {
        SchemaLog { directory: location.join(DIRECTORY) }
    }

    /// The log in a directory that [`Self::directory`] gave.
    pub fn at(directory: &str) -> SchemaLog {
        SchemaLog { directory: PathBuf::from(directory) }
    }

    /// Where a stream with this checkpoint keeps the schema of its `ordinal`th source of this path, when no
    /// location was given.
    pub fn of_source(checkpoint: &Path, path: &str, ordinal: usize) -> SchemaLog {
        let name: String = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().chars().take(40).collect();
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '_' };
        let name: String = name.trim_start_matches(['.', '_']).chars().map(plain).collect();
        let mut key = format!("{name}-{:016x}", fnv1a(path.as_bytes()));
        if ordinal > 0 {
            key.push_str(&format!("-{ordinal}"));
        }
        SchemaLog::below(&checkpoint.join("sources").join(key))
    }

    /// The directory of the version files, as text.
    pub fn directory(&self) -> String {
        self.directory.to_string_lossy().into_owned()
    }

    /// The version that counts; None where there is none.
    pub fn latest(&self) -> Result<Option<SchemaVersion>> {
        let entries = match std::fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("list", &self.directory, &e)),
        };
        let mut newest = None;
        for entry in entries {
            let entry = entry.map_err(|e| Error::io("list", &self.directory, &e))?;
            newest = newest.max(entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
        }
        match newest {
            Some(version) => self.version(version),
            None => Ok(None),
        }
    }

    /// One version; None if it is not there.
    pub fn version(&self, version: u64) -> Result<Option<SchemaVersion>> {
        let path = self.directory.join(version.to_string());
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) if e.kind() == ErrorKind::InvalidData => return Err(unreadable(&path, "it is not UTF-8")),
            Err(e) => return Err(Error::io("read", &path, &e)),
        };
        let (format, json) = text.split_once('\n').unwrap_or((&text, ""));
        if format.trim_end() != FORMAT {
            return Err(unreadable(&path, &format!("its first line is `{}` and not `{FORMAT}`", format.trim_end())));
        }
        let stored: Stored = serde_json::from_str(json).map_err(|e| unreadable(&path, &e.to_string()))?;
        let parsed = |text: &str| {
            let schema = schema::from_json(text).map_err(|e| unreadable(&path, &e.diagnostic().message))?;
            Ok::<Schema, Error>(schema.as_ref().clone())
        };
        let (data, partitions) = (parsed(&stored.data_schema_json)?, parsed(&stored.partition_schema_json)?);
        Ok(Some(SchemaVersion { version, data, partitions }))
    }

    /// Stores a version durably. Fine if it is there already and says the same.
    pub fn write(&self, version: &SchemaVersion) -> Result<()> {
        let path = self.directory.join(version.version.to_string());
        create_directories(&self.directory)?;
        let temporary = self.directory.join(format!(".{}.{}.tmp", version.version, uuid::Uuid::new_v4()));
        let stored = Stored {
            data_schema_json: schema::to_json(&version.data)?,
            partition_schema_json: schema::to_json(&version.partitions)?,
        };
        let json = serde_json::to_string(&stored).map_err(|e| Error::internal(e.to_string()))?;
        let linked =
            write_new(&temporary, &format!("{FORMAT}\n{json}\n")).and_then(|()| std::fs::hard_link(&temporary, &path));
        // It has its name, or nobody needs it.
        let _ = std::fs::remove_file(&temporary);
        match linked {
            Ok(()) => sync_directory(&self.directory),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => match self.version(version.version)? {
                Some(there) if there == *version => sync_directory(&self.directory),
                _ => Err(taken(&path)),
            },
            Err(e) => Err(Error::io("write", &path, &e)),
        }
    }

    /// Refuses when another table's stream uses this log. `table`: where the stream's own table is.
    pub fn check_owner(&self, table: &Path) -> Result<()> {
        let path = self.directory.join(OWNER);
        match std::fs::read_to_string(&path) {
            Ok(owner) => {
                let owner = Path::new(owner.trim_end());
                // A table that is gone needs no schema any more.
                if owner == table || !owner.exists() { Ok(()) } else { Err(self.shared(owner)) }
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Error::io("read", &path, &e)),
        }
    }

    /// Takes the log for the stream of `table`, durably; refused like [`Self::check_owner`].
    pub fn claim(&self, table: &Path) -> Result<()> {
        self.check_owner(table)?;
        let path = self.directory.join(OWNER);
        let name = table.to_string_lossy();
        if std::fs::read_to_string(&path).is_ok_and(|owner| owner.trim_end() == name) {
            return Ok(());
        }
        // A table that is not there has no claim.
        create_directories(table)?;
        create_directories(&self.directory)?;
        // What is there is our own half-written name or that of a table that is gone.
        match std::fs::remove_file(&path) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io("remove", &path, &e)),
        }
        match write_new(&path, &format!("{name}\n")) {
            Ok(()) => sync_directory(&self.directory),
            // Another stream was faster.
            Err(e) if e.kind() == ErrorKind::AlreadyExists => self.check_owner(table),
            Err(e) => Err(Error::io("write", &path, &e)),
        }
    }

    fn shared(&self, owner: &Path) -> Error {
        let location = self.directory.parent().unwrap_or(&self.directory);
        Diagnostic::new(
            "SCHEMA_LOCATION_SHARED",
            format!(
                "the schema location `{}` is used by the stream of the table at `{}`",
                location.display(),
                owner.display()
            ),
        )
        .help("every source needs a schemaLocation of its own, or none: then its schema is kept in the checkpoint")
        .into()
    }
}

fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn unreadable(path: &Path, why: &str) -> Error {
    Error::Environment(Box::new(
        Diagnostic::new(
            "SCHEMA_VERSION_CORRUPT",
            format!("the schema version `{}` cannot be read: {why}", path.display()),
        )
        .help("mend the file, or remove it: the version before it counts then"),
    ))
}

fn taken(path: &Path) -> Error {
    Error::Environment(Box::new(
        Diagnostic::new(
            "SCHEMA_LOCATION_SHARED",
            format!("the schema version `{}` was written by somebody else meanwhile", path.display()),
        )
        .help("start the stream again to go on with it; two streams must not share a schema location"),
    ))
}

/// FNV-1a, 64 bits: the same on every machine and in every release.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use arrow::datatypes::{DataType, Field};

    use super::*;

    fn version(version: u64, names: &[&str]) -> SchemaVersion {
        let fields: Vec<_> = names.iter().map(|name| Field::new(*name, DataType::Int64, true)).collect();
        let year = Field::new("year", DataType::Int32, true);
        SchemaVersion { version, data: Schema::new(fields), partitions: Schema::new(vec![year]) }
    }

    #[test]
    fn the_highest_version_counts_and_none_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let log = SchemaLog::below(dir.path());
        assert_eq!(log.latest().unwrap(), None);
        for n in 0..11 {
            log.write(&version(n, &["a", "b"][..1 + (n as usize % 2)])).unwrap();
        }
        assert_eq!(log.latest().unwrap(), Some(version(10, &["a"])));
        log.write(&version(10, &["a"])).unwrap();
        assert_eq!(log.write(&version(10, &["c"])).unwrap_err().diagnostic().code, "SCHEMA_LOCATION_SHARED");
        assert_eq!(log.version(3).unwrap(), Some(version(3, &["a", "b"])));
        assert_eq!(log.version(30).unwrap(), None);
    }

    /// As a person, or the other engine, writes it.
    #[test]
    fn a_version_made_by_hand_is_read_and_a_broken_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let log = SchemaLog::below(dir.path());
        log.write(&version(0, &["a"])).unwrap();
        let by_hand = r#"{"dataSchemaJson":"{\"type\":\"struct\",\"fields\":[{\"name\":\"x\",\"type\":\"string\",\"nullable\":true,\"metadata\":{}}]}","partitionSchemaJson":"{\"type\":\"struct\",\"fields\":[]}"}"#;
        std::fs::write(dir.path().join("_schemas/7"), format!("v1\n{by_hand}")).unwrap();
        let latest = log.latest().unwrap().unwrap();
        assert_eq!((latest.version, latest.data.field(0).name().as_str()), (7, "x"));
        std::fs::write(dir.path().join("_schemas/8"), "v2\n{}").unwrap();
        let error = log.latest().unwrap_err().diagnostic();
        assert_eq!(error.code, "SCHEMA_VERSION_CORRUPT");
        assert!(error.message.contains("_schemas/8"), "{error:?}");
    }

    #[test]
    fn a_location_belongs_to_one_table_until_that_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        std::fs::create_dir_all(&one).unwrap();
        let log = SchemaLog::below(&dir.path().join("schemas"));
        log.claim(&one).unwrap();
        log.claim(&one).unwrap();
        assert_eq!(log.claim(&two).unwrap_err().diagnostic().code, "SCHEMA_LOCATION_SHARED");
        std::fs::remove_dir(&one).unwrap();
        log.claim(&two).unwrap();
        assert_eq!(log.latest().unwrap(), None);
    }

    #[test]
    fn sources_of_a_checkpoint_do_not_meet() {
        let at = |path: &str, ordinal| SchemaLog::of_source(Path::new("/ck"), path, ordinal).directory();
        assert_eq!(at("/data/in/", 0), at("/data/in/", 0));
        assert!(at("/data/in", 0).starts_with("/ck/sources/in-"));
        assert_ne!(at("/data/in", 0), at("/other/in", 0));
        assert_ne!(at("/data/in", 0), at("/data/in", 1));
    }
}
