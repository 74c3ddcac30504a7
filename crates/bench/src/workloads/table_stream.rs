//! A Delta table read as a stream: ten epochs of one commit each, from a table with 10 commits and from one with
//! 1,000, of which the last ten are read, in turns; and all 1,000 in a row.

use super::{Bench, cloud_files};
use crate::Result;
use crate::dataset::{DataSet, Format};
use crate::engine::Engine;
use crate::report::{Bar, Report, Sample};

const LAST: u64 = 10;
/// So often either table is read, in turns: an epoch of a few milliseconds is mostly the disk's.
const TURNS: usize = 9;

/// No baseline: the table with 10 commits is the measure for the one with 1,000.
pub fn run(bench: &Bench) -> Result<Report> {
    let mut report = Report::new("table-stream");
    for _ in 0..bench.repeat {
        let tables = [filled(bench, &mut report, LAST)?, filled(bench, &mut report, bench.files(1_000))?];
        settle()?;
        for turn in 0..TURNS {
            for (place, (engine, set)) in tables.iter().enumerate() {
                // Version 0 creates the table; the commits of the rows follow it.
                let from = format!("startingVersion = {}", set.files + 1 - LAST);
                let epochs = stream(engine, &format!("tail_{turn}"), &from, LAST * 100)?;
                report.add(EPOCH[place], epochs.into_iter().collect::<Sample>().median(), "ms");
            }
        }
        let [_, (engine, set)] = &tables;
        report.add_epochs(&stream(engine, "whole", "", set.rows())?);
    }
    report.ratio("epoch, 1,000 commits / 10 commits", EPOCH[1], EPOCH[0], Some(Bar::AtMost(1.2)));
    Ok(report)
}

const EPOCH: [&str; 2] = ["epoch, 10 commits", "epoch, last of 1,000 commits"];

/// A warehouse whose table `bronze` has that many commits, and the files they came from.
fn filled(bench: &Bench, report: &mut Report, commits: u64) -> Result<(Engine, DataSet)> {
    let set = DataSet::new(&format!("events-{commits}-commits"), Format::Json, commits, 100, 1_000);
    let engine = bench.engine()?;
    report.add(&format!("filling {commits} commits, per epoch"), fill(bench, &engine, &set)?, "ms");
    Ok((engine, set))
}

/// Waits until the disk has what was written so far: an fsync of the next minute would wait for it as well.
fn settle() -> Result<()> {
    std::process::Command::new("sync").status()?;
    Ok(())
}

/// One commit per file; the median milliseconds of an epoch.
fn fill(bench: &Bench, engine: &Engine, set: &DataSet) -> Result<f64> {
    let input = set.make(&bench.data)?;
    engine.run(&format!(
        "CREATE STREAMING TABLE bronze LOCATION '{}' AS SELECT * FROM {};\n",
        engine.table("bronze").display(),
        cloud_files(&input, Format::Json, &[("cloudFiles.maxFilesPerTrigger", "1")]),
    ))?;
    Ok(engine.epochs("bronze")?.iter().map(|epoch| epoch.total_ms).collect::<Sample>().median())
}

/// One epoch per commit of `bronze`; their milliseconds.
fn stream(engine: &Engine, name: &str, option: &str, rows: u64) -> Result<Vec<f64>> {
    let options = ["maxFilesPerTrigger = 1", option].iter().filter(|o| !o.is_empty()).copied().collect::<Vec<_>>();
    engine.run(&format!(
        "CREATE STREAMING TABLE {name} LOCATION '{}' AS SELECT * FROM STREAM bronze WITH ({});\n",
        engine.table(name).display(),
        options.join(", "),
    ))?;
    engine.check(&format!("SELECT count(*) FROM {name}"), &[rows])?;
    Ok(engine.epochs(name)?.iter().map(|epoch| epoch.total_ms).collect())
}
