//! Files that arrive: written beside the landing directory and renamed into it at fixed moments.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Result;
use crate::dataset::DataSet;

/// Puts the files of a data set into `landing`, one each `interval`, and gives the moments of the renames. The
/// schedule does not slip: a late file is followed by one that is on time.
pub fn feed(set: &DataSet, landing: &Path, interval: Duration) -> Result<Vec<Instant>> {
    let staging = landing.with_extension("staging");
    fs::create_dir_all(&staging)?;
    fs::create_dir_all(landing)?;
    let started = Instant::now();
    let mut text = String::new();
    let mut renamed = Vec::new();
    for index in 0..set.file_count() {
        set.write_file(index, &mut text);
        let name = set.file_name(index);
        fs::write(staging.join(&name), &text)?;
        let due = started + interval * u32::try_from(index + 1)?;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        fs::rename(staging.join(&name), landing.join(&name))?;
        renamed.push(Instant::now());
    }
    Ok(renamed)
}
