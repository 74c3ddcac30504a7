//! Many small files: what one file costs beyond its rows.

use super::{Bench, cloud_files};
use crate::Result;
use crate::baseline::Work;
use crate::dataset::{DataSet, Format};
use crate::report::{Bar, Report};

/// Beside DataFusion reading every column of the same files, once, without writing.
pub fn run(bench: &Bench) -> Result<Report> {
    let set = DataSet::new("events-small", Format::Json, bench.files(20_000), 10, 100_000);
    let input = set.make(&bench.data)?;
    let expected = set.expected();
    let mut report = Report::new("small-files");
    for _ in 0..bench.repeat {
        let engine = bench.engine()?;
        let script = format!(
            "CREATE STREAMING TABLE bronze LOCATION '{}' AS SELECT * FROM {};\n",
            engine.table("bronze").display(),
            cloud_files(&input, Format::Json, &[]),
        );
        let usage = engine.run(&script)?;
        report.add_run("engine", set.rows(), usage);
        report.add("engine, per file", usage.wall_s * 1e6 / set.files as f64, "µs");
        let epochs: Vec<f64> = engine.epochs("bronze")?.iter().map(|epoch| epoch.total_ms).collect();
        report.add_epochs(&epochs);
        engine.check("SELECT count(*), sum(status) FROM bronze", &[expected.rows, expected.status_sum])?;
        report.add_run("DataFusion", set.rows(), bench.baseline(Work::Read, Format::Json, &input, expected.rows)?);
    }
    let bar = Some(Bar::AtMost(1.5));
    report.ratio("seconds, engine / DataFusion reading once", "engine seconds", "DataFusion seconds", bar);
    report.bar("engine peak memory", Bar::AtMost(700.0));
    Ok(report)
}
