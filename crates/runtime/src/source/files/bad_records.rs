//! `badRecordsPath`: malformed records as lines of JSON, one file of them for each file (or part of one) that has any.
//!
//! They lie in `<badRecordsPath>/<time of the run>/bad_records/`. Time and name come from the epoch's intent and from the
//! file, so an epoch that runs again writes the same files again and doubles nothing.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use alluvium_formats::BadRecord;

use super::read::Unit;
use crate::error::{Error, Result};

/// Which run the records belong to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Run {
    /// The epoch; 0 for a statement.
    pub epoch: u64,
    /// When it began, milliseconds since 1970 UTC.
    pub started_ms: i64,
}

/// Writes the bad records of one unit after the other.
#[derive(Debug)]
pub struct BadRecords {
    directory: PathBuf,
    epoch: u64,
    unit: String,
    file: Option<(PathBuf, BufWriter<File>)>,
}

impl BadRecords {
    /// A writer below `path`. Nothing is made before there is a record.
    pub fn new(path: &str, run: Run) -> BadRecords {
        let started = chrono::DateTime::from_timestamp_millis(run.started_ms).unwrap_or_default();
        let time = started.format("%Y%m%dT%H%M%S%3f").to_string();
        let directory = Path::new(path).join(time).join("bad_records");
        BadRecords { directory, epoch: run.epoch, unit: String::new(), file: None }
    }

    /// The records that follow are of this file, or of this part of it.
    pub fn start(&mut self, path: &str, unit: &Unit) -> Result<()> {
        self.end()?;
        let from = unit.part.map_or(0, |(from, _)| from);
        self.unit = format!("part-{:05}-{:016x}-{from}.json", self.epoch, fnv(path.as_bytes()));
        Ok(())
    }

    /// Writes records.
    pub fn write(&mut self, records: &[BadRecord]) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        if self.file.is_none() {
            std::fs::create_dir_all(&self.directory).map_err(|e| Error::io("create", &self.directory, &e))?;
            let path = self.directory.join(&self.unit);
            let file = File::create(&path).map_err(|e| Error::io("create", &path, &e))?;
            self.file = Some((path, BufWriter::new(file)));
        }
        let Some((path, file)) = &mut self.file else { return Ok(()) };
        for bad in records {
            let line = serde_json::json!({ "path": bad.path, "record": bad.record, "reason": bad.reason });
            writeln!(file, "{line}").map_err(|e| Error::io("write", path, &e))?;
        }
        Ok(())
    }

    /// Brings what was written to the disk, so that it is there when the epoch is.
    pub fn end(&mut self) -> Result<()> {
        let Some((path, file)) = self.file.take() else { return Ok(()) };
        let file = file.into_inner().map_err(|e| Error::io("write", &path, e.error()))?;
        file.sync_all().map_err(|e| Error::io("write", &path, &e))
    }
}

/// A hash that is the same in every version of this program (FNV-1a).
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}
