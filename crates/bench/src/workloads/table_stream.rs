//! A Delta table read as a stream: ten epochs of one commit each, from a table with 10 commits and from one with
//! 1,000, of which the last ten are read; and all 1,000 in a row.

use super::{Bench, cloud_files};
use crate::Result;
use crate::dataset::{DataSet, Format};
use crate::engine::Engine;
use crate::report::{Bar, Report, Sample};

const LAST: u64 = 10;

/// No baseline: the table with 10 commits is the measure for the one with 1,000.
pub fn run(bench: &Bench) -> Result<Report> {
    let mut report = Report::new("table-stream");
    for _ in 0..bench.repeat {
        for commits in [LAST, bench.files(1_000)] {
            let set = DataSet::new(&format!("events-{commits}-commits"), Format::Json, commits, 100, 1_000);
            let engine = bench.engine()?;
            let filled = fill(bench, &engine, &set)?;
            report.add(&format!("filling {commits} commits, per epoch"), filled, "ms");
            // Version 0 creates the table; the commits of the rows follow it.
            let last = stream(&engine, "tail", &format!("startingVersion = {}", commits + 1 - LAST), LAST * 100)?;
            let name = if commits == LAST { "epoch, 10 commits" } else { "epoch, last of 1,000 commits" };
            report.add(name, last.iter().copied().collect::<Sample>().median(), "ms");
            if commits > LAST {
                report.add_epochs(&stream(&engine, "whole", "", set.rows())?);
            }
        }
    }
    report.ratio(
        "epoch, 1,000 commits / 10 commits",
        "epoch, last of 1,000 commits",
        "epoch, 10 commits",
        Some(Bar::AtMost(1.2)),
    );
    Ok(report)
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
