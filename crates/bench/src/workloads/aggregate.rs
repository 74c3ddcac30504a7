//! A keyed aggregate in complete mode: 50 epochs, each of which rewrites the whole result.

use super::{Bench, cloud_files, ingest};
use crate::Result;
use crate::baseline::Work;
use crate::dataset::Format;
use crate::report::{Bar, Report};

/// Beside the same GROUP BY, once, by DataFusion.
pub fn run(bench: &Bench) -> Result<Report> {
    let set = ingest::data_set(bench, Format::Json);
    let input = set.make(&bench.data)?;
    let expected = set.expected();
    let files_per_epoch = set.files.div_ceil(50).to_string();
    let mut report = Report::new("aggregate");
    for _ in 0..bench.repeat {
        let engine = bench.engine()?;
        let script = format!(
            "CREATE STREAMING TABLE gold LOCATION '{}' OUTPUT MODE COMPLETE AS\n\
             SELECT device, count(*) AS n, sum(value) AS total, avg(value) AS mean FROM {} GROUP BY device;\n",
            engine.table("gold").display(),
            cloud_files(&input, Format::Json, &[("cloudFiles.maxFilesPerTrigger", &files_per_epoch)]),
        );
        report.add_run("engine", set.rows(), engine.run(&script)?);
        let epochs: Vec<f64> = engine.epochs("gold")?.iter().map(|epoch| epoch.total_ms).collect();
        report.add_epochs(&epochs);
        engine.check(
            "SELECT count(*), sum(n), CAST(round(sum(total) * 100) AS BIGINT) FROM gold",
            &[expected.devices, expected.rows, expected.value_cents],
        )?;
        let once = bench.baseline(Work::Aggregate, Format::Json, &input, expected.devices)?;
        report.add_run("DataFusion", set.rows(), once);
    }
    let bar = Some(Bar::AtMost(2.0));
    report.ratio("seconds, engine in 50 epochs / DataFusion once", "engine seconds", "DataFusion seconds", bar);
    report.bar("engine peak memory", Bar::AtMost(700.0));
    Ok(report)
}
