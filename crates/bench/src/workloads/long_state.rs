//! 200 epochs into state that does not grow: an epoch must cost what its input and the complete rewrite cost, however
//! many came before it.
//!
//! A first file names all 100,000 keys, so that the rewrite is the same size in the first epoch as in the last.

use super::{Bench, cloud_files};
use crate::Result;
use crate::dataset::{DataSet, Format};
use crate::report::{Bar, Report};

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
        engine.check("SELECT count(*), sum(n) FROM gold", &[expected.devices, expected.rows])?;
    }
    report.bar("epoch, last tenth / first tenth", Bar::AtMost(1.2));
    report.bar("engine peak memory", Bar::AtMost(700.0));
    Ok(report)
}
