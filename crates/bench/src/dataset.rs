//! Directories of event files, made once and kept: a marker beside the files says what they hold.
//!
//! Knows which rows go into which file; nothing of what is measured with them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::Result;
use crate::rows::{Event, Spread, csv_header, scatter};

/// Changed whenever the same parameters would give other bytes.
const GENERATION: u32 = 1;

/// Text format of a data set's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JSON lines.
    Json,
    /// CSV with a header line.
    Csv,
}

impl Format {
    /// File name extension, and the name of the format in both SQL dialects.
    pub fn name(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Csv => "csv",
        }
    }
}

/// A directory of files of events.
#[derive(Debug, Clone)]
pub struct DataSet {
    /// Directory below the data directory.
    pub name: String,
    /// Text format.
    pub format: Format,
    /// Number of files.
    pub files: u64,
    /// Rows in each file.
    pub rows_per_file: u64,
    /// Distinct devices.
    pub devices: u64,
    /// Whether a first extra file names each device once, so that later files only touch known keys.
    pub all_devices_first: bool,
}

impl DataSet {
    /// A data set without the extra first file.
    pub fn new(name: &str, format: Format, files: u64, rows_per_file: u64, devices: u64) -> DataSet {
        DataSet { name: name.into(), format, files, rows_per_file, devices, all_devices_first: false }
    }

    /// Rows of all files.
    pub fn rows(&self) -> u64 {
        self.files * self.rows_per_file + if self.all_devices_first { self.devices } else { 0 }
    }

    /// Ten days of event time over the whole set.
    fn spread(&self) -> Spread {
        Spread { step_ms: 10.0 * 86_400_000.0 / self.rows() as f64, devices: self.devices }
    }

    /// What the marker says when the directory holds exactly this set.
    fn description(&self) -> String {
        format!("generation {GENERATION}: {self:?}\n")
    }

    /// The text of one file, appended to an empty `text`.
    pub fn write_file(&self, index: u64, text: &mut String) {
        text.clear();
        if self.format == Format::Csv {
            text.push_str(&csv_header());
        }
        let spread = self.spread();
        let extra = u64::from(self.all_devices_first);
        let rows = if index < extra {
            0..self.devices
        } else {
            let first = extra * self.devices + (index - extra) * self.rows_per_file;
            first..first + self.rows_per_file
        };
        for row in rows {
            let mut event = Event::at(row, spread);
            if index < extra {
                event.device = row;
            }
            match self.format {
                Format::Json => event.write_json(text),
                Format::Csv => event.write_csv(text),
            }
        }
    }

    /// Number of files including the extra first one.
    pub fn file_count(&self) -> u64 {
        self.files + u64::from(self.all_devices_first)
    }

    /// Name of one file; names sort in arrival order.
    pub fn file_name(&self, index: u64) -> String {
        format!("part-{index:05}.{}", self.format.name())
    }

    /// The directory with the files, made now unless it is there already. Modification times rise by a second from
    /// file to file, so that every engine sees one arrival order.
    pub fn make(&self, data: &Path) -> Result<PathBuf> {
        let directory = data.join(&self.name);
        let marker = data.join(format!("{}.made", self.name));
        if fs::read_to_string(&marker).is_ok_and(|made| made == self.description()) {
            return Ok(directory);
        }
        eprintln!("making {} ({} files, {} rows)", directory.display(), self.file_count(), self.rows());
        let _ = fs::remove_file(&marker);
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory)?;
        let mut text = String::new();
        for index in 0..self.file_count() {
            self.write_file(index, &mut text);
            let path = directory.join(self.file_name(index));
            fs::write(&path, &text)?;
            let arrived = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600 + index);
            fs::File::options().append(true).open(&path)?.set_modified(arrived)?;
        }
        fs::write(&marker, self.description())?;
        Ok(directory)
    }

    /// Every event, in the order of the files; without an extra first one.
    pub fn events(&self) -> impl Iterator<Item = Event> {
        let spread = self.spread();
        (0..self.rows()).map(move |row| Event::at(row, spread))
    }

    /// count(*), sum(status) and the number of distinct devices, computed from the row numbers alone.
    pub fn expected(&self) -> Expected {
        let spread = self.spread();
        let extra = if self.all_devices_first { self.devices } else { 0 };
        let mut seen = vec![false; self.devices as usize];
        let (mut status_sum, mut value_cents) = (0, 0);
        for row in 0..self.rows() {
            let event = Event::at(row, spread);
            let device = if row < extra { row } else { event.device };
            seen[device as usize] = true;
            status_sum += u64::from(event.status);
            value_cents += event.value_cents;
        }
        Expected { rows: self.rows(), status_sum, value_cents, devices: seen.iter().filter(|hit| **hit).count() as u64 }
    }
}

/// What a table made from a whole data set must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// count(*).
    pub rows: u64,
    /// sum(status).
    pub status_sum: u64,
    /// sum(value) in hundredths.
    pub value_cents: u64,
    /// count(DISTINCT device).
    pub devices: u64,
}

/// A small seeded generator for choices that are not data: delays, orders.
#[derive(Debug, Clone)]
pub struct Dice {
    seed: u64,
    thrown: u64,
}

impl Dice {
    /// The same seed gives the same throws.
    pub fn new(seed: u64) -> Dice {
        Dice { seed, thrown: 0 }
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.thrown += 1;
        scatter(self.seed ^ self.thrown.rotate_left(32), self.thrown) % limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_cut_from_one_sequence_of_rows() -> Result<()> {
        let data = tempfile::tempdir()?;
        let mut set = DataSet::new("tiny", Format::Json, 3, 5, 4);
        set.all_devices_first = true;
        let directory = set.make(data.path())?;
        let mut ids = Vec::new();
        for index in 0..set.file_count() {
            for line in fs::read_to_string(directory.join(set.file_name(index)))?.lines() {
                ids.push(serde_json::from_str::<serde_json::Value>(line)?["event_id"].as_u64());
            }
        }
        assert_eq!(ids, (0..19).map(Some).collect::<Vec<_>>());
        assert_eq!(set.expected().rows, 19);
        assert_eq!(set.expected().devices, 4);
        Ok(())
    }

    #[test]
    fn a_made_set_is_not_made_again_and_a_changed_one_is() -> Result<()> {
        let data = tempfile::tempdir()?;
        let set = DataSet::new("tiny", Format::Csv, 1, 2, 4);
        let file = set.make(data.path())?.join(set.file_name(0));
        fs::write(&file, "touched")?;
        set.make(data.path())?;
        assert_eq!(fs::read_to_string(&file)?, "touched");
        DataSet { rows_per_file: 3, ..set }.make(data.path())?;
        assert_eq!(fs::read_to_string(&file)?.lines().count(), 4);
        Ok(())
    }
}
