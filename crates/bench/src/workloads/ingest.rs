//! Files into a Delta table, as they are: decoding, encoding, one commit per epoch.

use super::{Bench, cloud_files};
use crate::Result;
use crate::baseline::Work;
use crate::dataset::{DataSet, Format};
use crate::report::{Bar, Report};

/// 500 files of 10,000 rows, also used by the aggregate.
pub fn data_set(bench: &Bench, format: Format) -> DataSet {
    DataSet::new(&format!("events-{}", format.name()), format, bench.files(500), 10_000, 100_000)
}

/// Beside one COPY to Parquet by DataFusion.
pub fn run(bench: &Bench, name: &'static str, format: Format) -> Result<Report> {
    let set = data_set(bench, format);
    let input = set.make(&bench.data)?;
    let expected = set.expected();
    let mut report = Report::new(name);
    for _ in 0..bench.repeat {
        let engine = bench.engine()?;
        let table = engine.table("bronze");
        let script = format!(
            "CREATE STREAMING TABLE bronze LOCATION '{}' AS SELECT * FROM {};\n",
            table.display(),
            cloud_files(&input, format, &[("cloudFiles.maxFilesPerTrigger", "100")]),
        );
        report.add_run("engine", set.rows(), engine.run(&script)?);
        let epochs: Vec<f64> = engine.epochs("bronze")?.iter().map(|epoch| epoch.total_ms).collect();
        report.add_epochs(&epochs);
        engine.check("SELECT count(*), sum(status) FROM bronze", &[expected.rows, expected.status_sum])?;
        report.add_run("DataFusion", set.rows(), bench.baseline(Work::Copy, format, &input, expected.rows)?);
    }
    let bar = (format == Format::Json).then_some(Bar::AtLeast(0.9));
    report.ratio("rows per second, engine / DataFusion", "engine rows per second", "DataFusion rows per second", bar);
    report.bar("engine peak memory", Bar::AtMost(700.0));
    Ok(report)
}
