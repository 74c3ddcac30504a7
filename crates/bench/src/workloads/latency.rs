//! From the rename of a file into the landing directory to the commit in `_delta_log` that holds its rows, seen from
//! outside the engine.
//!
//! For an append the rows are counted by the statistics of the added files. A complete aggregate rewrites its table,
//! so there the engine's own SHOW EPOCHS says which version covers how many rows; the moments still come from outside.

use std::time::{Duration, Instant};

use super::{Bench, cloud_files};
use crate::child;
use crate::dataset::{DataSet, Format};
use crate::delta_log::{Commit, Watcher};
use crate::engine::Engine;
use crate::report::{Bar, Report, Sample};
use crate::{Result, feeder};

/// What is done with the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Query {
    /// Nothing.
    Append,
    /// Counted by 1,000 keys in complete mode.
    Complete,
}

const ROWS_PER_FILE: u64 = 100;

/// No baseline: nothing that runs once has a latency.
pub fn run(bench: &Bench, name: &'static str, query: Query) -> Result<Report> {
    let set = DataSet::new("events-latency", Format::Json, bench.files(300), ROWS_PER_FILE, 1_000);
    let mut report = Report::new(name);
    let mut together = Vec::new();
    for _ in 0..bench.repeat {
        let engine = bench.engine()?;
        let waits = measure(&engine, &set, query, &mut report)?;
        let sample: Sample = waits.iter().copied().collect();
        report.add("p50", sample.percentile(0.5), "ms");
        report.add("p99", sample.percentile(0.99), "ms");
        report.add("longest", sample.percentile(1.0), "ms");
        together.extend(waits);
    }
    let together: Sample = together.into_iter().collect();
    report.add("p99 of all runs together", together.percentile(0.99), "ms");
    if query == Query::Append {
        report.bar("p50", Bar::AtMost(25.0));
        report.bar("p99", Bar::AtMost(100.0));
    }
    report.bar("engine peak memory", Bar::AtMost(700.0));
    Ok(report)
}

/// One run; the milliseconds each file waited.
fn measure(engine: &Engine, set: &DataSet, query: Query, report: &mut Report) -> Result<Vec<f64>> {
    let (landing, table) = (engine.directory().join("landing"), engine.table("t"));
    std::fs::create_dir_all(&landing)?;
    let files = cloud_files(&landing, Format::Json, &[]);
    let (mode, select) = match query {
        Query::Append => ("APPEND", format!("SELECT * FROM {files}")),
        Query::Complete => ("COMPLETE", format!("SELECT device, count(*) AS n FROM {files} GROUP BY device")),
    };
    let script = format!(
        "CREATE STREAMING TABLE t LOCATION '{}' OUTPUT MODE {mode} TRIGGER PROCESSING TIME '0 seconds' AS {select};\n",
        table.display(),
    );
    let watcher = Watcher::start(&table);
    let started = Instant::now();
    let mut child = engine.start(&script)?;
    // The table's creation is the first commit: before it nothing listens.
    let listening = wait_until(Duration::from_secs(20), || crate::delta_log::commit_path(&table, 0).exists());
    if !listening || child.try_wait()?.is_some() {
        let _ = child.kill();
        return Err(format!("the stream has not started, running:\n{script}").into());
    }
    std::thread::sleep(Duration::from_millis(500));
    let renamed = feeder::feed(set, &landing, Duration::from_millis(100))?;
    std::thread::sleep(Duration::from_secs(2));
    child::interrupt(&child)?;
    let (_, usage) = child::wait(child, started)?;
    let commits = watcher.stop()?;
    report.add("engine CPU seconds", usage.cpu_s, "s");
    report.add("engine peak memory", usage.peak_bytes as f64 / 1e6, "MB");
    let epochs = engine.epochs("t")?;
    report.add_epochs(&epochs.iter().map(|epoch| epoch.total_ms).collect::<Vec<_>>());
    let rows_by_version: Vec<(u64, u64)> = match query {
        Query::Append => commits.iter().map(|commit| (commit.version, commit.rows_added)).collect(),
        Query::Complete => epochs.iter().filter_map(|e| Some((e.table_version?, e.rows_in))).collect(),
    };
    waits_ms(&renamed, &commits, &rows_by_version)
}

/// File `i` is visible with the first commit that covers the rows of `i + 1` files.
fn waits_ms(renamed: &[Instant], commits: &[Commit], rows_by_version: &[(u64, u64)]) -> Result<Vec<f64>> {
    let mut waits = Vec::with_capacity(renamed.len());
    let mut covered = 0;
    for (version, rows) in rows_by_version {
        let commit = commits.iter().find(|commit| commit.version == *version);
        let seen = commit.ok_or_else(|| format!("version {version} was never seen in the log"))?.seen;
        covered += rows;
        while let Some(moment) = renamed.get(waits.len()) {
            if covered < (waits.len() as u64 + 1) * ROWS_PER_FILE {
                break;
            }
            waits.push(seen.saturating_duration_since(*moment).as_secs_f64() * 1e3);
        }
    }
    if waits.len() != renamed.len() || covered != renamed.len() as u64 * ROWS_PER_FILE {
        return Err(format!("{} of {} files, {covered} rows, were committed", waits.len(), renamed.len()).into());
    }
    Ok(waits)
}

fn wait_until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    while started.elapsed() < limit {
        if done() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_waits_for_the_commit_that_covers_it() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let commit = |version, ms| Commit { version, seen: at(ms), rows_added: 0 };
        let renamed = [at(0), at(100), at(200)];
        let commits = [commit(0, 0), commit(1, 30), commit(2, 240)];
        let waits = waits_ms(&renamed, &commits, &[(1, 100), (2, 200)]).unwrap_or_default();
        assert_eq!(waits, [30.0, 140.0, 40.0]);
        assert!(waits_ms(&renamed, &commits, &[(1, 100), (2, 100)]).is_err(), "a lost file is an error");
    }
}
