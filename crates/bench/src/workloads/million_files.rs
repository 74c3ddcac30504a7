//! A directory of a million files that were read, and a hundred new ones: what it costs to find them.
//!
//! The files have one row each, a thousand to a directory. One run of the engine reads them all; another one, started
//! again over the million, sees a hundred files renamed into a hundred directories, several times.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Bench;
use crate::delta_log::commit_path;
use crate::engine::Engine;
use crate::report::{Bar, Report};
use crate::{Result, child};

const FILES_PER_DIRECTORY: u64 = 1_000;
const NEW_FILES: u64 = 100;
const POLLS: u64 = 10;

/// No baseline: the figures stand for themselves.
pub fn run(bench: &Bench) -> Result<Report> {
    let files = bench.files(1_000_000);
    let mut report = Report::new("million-files");
    for _ in 0..bench.repeat {
        let engine = bench.engine()?;
        let input = make(engine.directory(), files)?;
        let create = format!(
            "CREATE STREAMING TABLE t LOCATION '{}' AS SELECT * FROM cloud_files('{}', 'json', map('schema', 'id BIGINT', \
             'maxFilesPerTrigger', '20000'));\n",
            engine.table("t").display(),
            input.display()
        );
        let usage = engine.run(&create)?;
        report.add("files/s, first reading", files as f64 / usage.wall_s, "");
        report.add("peak memory, first reading", usage.peak_bytes as f64 / 1e6, "MB");
        let usage = engine.run("REFRESH TABLE t;\n")?;
        report.add("seconds, nothing new, from start to end", usage.wall_s, "s");
        report.add("peak memory, nothing new", usage.peak_bytes as f64 / 1e6, "MB");
        polls(&engine, &input, files, &mut report)?;
        engine.check("SELECT count(*) FROM t", &[files + POLLS * NEW_FILES])?;
    }
    report.bar("longest poll", Bar::AtMost(1000.0));
    report.bar("peak memory while watching", Bar::AtMost(200.0));
    Ok(report)
}

/// Starts the stream over what it has read and gives it new files again and again.
fn polls(engine: &Engine, input: &Path, files: u64, report: &mut Report) -> Result<()> {
    let table = engine.table("t");
    let mut version = last_version(&table);
    let mut child = engine.start("START STREAM t TRIGGER PROCESSING TIME '0 seconds';\n")?;
    let staging = input.with_extension("staging");
    fs::create_dir_all(&staging)?;
    // The first poll lists everything and is not what is measured.
    let mut waits = Vec::new();
    for poll in 0..=POLLS {
        let number = if poll == 0 { 0 } else { NEW_FILES };
        for new in 0..number {
            fs::write(staging.join(new.to_string()), format!("{{\"id\":{new}}}\n"))?;
        }
        if poll == 0 {
            // The watch of a thousand directories stands when a file in one of them is seen.
            std::thread::sleep(Duration::from_secs(10));
            continue;
        }
        let started = Instant::now();
        for new in 0..number {
            let directory = new * 7 % files.div_ceil(FILES_PER_DIRECTORY);
            let name = format!("new-{poll:02}-{new:03}.json");
            fs::rename(staging.join(new.to_string()), input.join(format!("{directory:04}")).join(name))?;
        }
        let mut rows = 0;
        while rows < number {
            if started.elapsed() > Duration::from_secs(60) || child.try_wait()?.is_some() {
                let _ = child.kill();
                return Err(format!("{rows} of {number} new files were found within a minute").into());
            }
            match fs::read_to_string(commit_path(&table, version + 1)) {
                Ok(text) if text.ends_with('\n') => {
                    rows += rows_of(&text);
                    version += 1;
                }
                _ => std::thread::sleep(Duration::from_micros(500)),
            }
        }
        waits.push(started.elapsed().as_secs_f64() * 1e3);
        std::thread::sleep(Duration::from_millis(500));
    }
    child::interrupt(&child)?;
    let (_, usage) = child::wait(child, Instant::now())?;
    waits.sort_by(f64::total_cmp);
    report.add("median poll", waits.get(waits.len() / 2).copied().unwrap_or(0.0), "ms");
    report.add("longest poll", waits.last().copied().unwrap_or(0.0), "ms");
    report.add("peak memory while watching", usage.peak_bytes as f64 / 1e6, "MB");
    report.add("CPU seconds while watching", usage.cpu_s, "s");
    Ok(())
}

fn last_version(table: &Path) -> u64 {
    (0..).take_while(|version| commit_path(table, *version).exists()).last().unwrap_or(0)
}

/// Rows that the added files of a commit have.
fn rows_of(commit: &str) -> u64 {
    let rows = |line: &str| {
        let action: serde_json::Value = serde_json::from_str(line).ok()?;
        let statistics: serde_json::Value = serde_json::from_str(action["add"]["stats"].as_str()?).ok()?;
        statistics["numRecords"].as_u64()
    };
    commit.lines().filter_map(rows).sum()
}

/// Files of one row, a thousand to a directory.
fn make(directory: &Path, files: u64) -> Result<PathBuf> {
    let input = directory.join("in");
    eprintln!("making {} ({files} files)", input.display());
    for file in 0..files {
        let parent = input.join(format!("{:04}", file / FILES_PER_DIRECTORY));
        if file % FILES_PER_DIRECTORY == 0 {
            fs::create_dir_all(&parent)?;
        }
        fs::write(parent.join(format!("{file:07}.json")), format!("{{\"id\":{file}}}\n"))?;
    }
    Ok(input)
}
