//! 200 epochs into state that does not grow: an epoch must cost what its input and the complete rewrite cost, however
//! many came before it.
//!
//! A first file names all 100,000 keys, so that the rewrite has as many rows in the first epoch as in the last. Its sums
//! compress less and less, so the time of an epoch is taken for each megabyte of the table that it writes.

use super::{Bench, cloud_files};
use crate::Result;
use crate::dataset::{DataSet, Format};
use crate::delta_log::{bytes_added, commit_path};
use crate::report::{Bar, Report, first_and_last_tenth};

const GROWTH: &str = "epoch per MB written, last tenth / first tenth";

/// No baseline: the first tenth of the epochs is the measure for the last.
pub fn run(bench: &Bench) -> Result<Report> {
    let mut set = DataSet::new("events-long-state", Format::Json, bench.files(200), 5_000, 100_000);
    set.all_devices_first = true;
    let input = set.make(&bench.data)?;
    let expected = set.expected();
    let mut report = Report::new("long-state");
    for _ in 0..bench.repeat {
        let engine = bench.engine()?;
        let script = format!(
            "CREATE STREAMING TABLE gold LOCATION '{}' OUTPUT MODE COMPLETE AS\n\
             SELECT device, count(*) AS n, sum(value) AS total FROM {} GROUP BY device;\n",
            engine.table("gold").display(),
            cloud_files(&input, Format::Json, &[("cloudFiles.maxFilesPerTrigger", "1")]),
        );
        report.add_run("engine", set.rows(), engine.run(&script)?);
        let epochs: Vec<f64> = engine.epochs("gold")?.iter().map(|epoch| epoch.total_ms).collect();
        // The first epoch alone reads 100,000 rows.
        report.add_epochs(epochs.get(1..).unwrap_or_default());
        // Version 0 creates the table, and each epoch is a version.
        let per_megabyte = epochs.iter().enumerate().skip(1).map(|(epoch, ms)| {
            let bytes = bytes_added(&commit_path(&engine.table("gold"), epoch as u64 + 1))?;
            Ok(ms / (bytes as f64 / 1e6))
        });
        let (first, last) = first_and_last_tenth(&per_megabyte.collect::<Result<Vec<f64>>>()?);
        report.add("epoch per MB written, first tenth", first, "ms");
        report.add("epoch per MB written, last tenth", last, "ms");
        report.add(GROWTH, last / first, "×");
        engine.check("SELECT count(*), sum(n) FROM gold", &[expected.devices, expected.rows])?;
    }
    report.bar(GROWTH, Bar::AtMost(1.2));
    report.bar("engine peak memory", Bar::AtMost(700.0));
    Ok(report)
}
