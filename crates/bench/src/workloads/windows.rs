//! Windows that a watermark ends, in append mode: 50 epochs, each of which gives out what has become final.

use super::{Bench, cloud_files, ingest};
use crate::Result;
use crate::baseline::Work;
use crate::dataset::Format;
use crate::report::{Bar, Report};

/// Of a window.
const SIZE_MS: i64 = 600_000;
/// More than rows are out of order by.
const DELAY_MS: i64 = 120_000;

/// Beside the same GROUP BY, once, by DataFusion.
pub fn run(bench: &Bench) -> Result<Report> {
    let set = ingest::data_set(bench, Format::Json);
    let input = set.make(&bench.data)?;
    let greatest = set.events().map(|event| event.ts_ms).max().unwrap_or(0);
    let end = |ts_ms: i64| ts_ms.div_euclid(SIZE_MS) * SIZE_MS + SIZE_MS;
    let (mut rows, mut cents, mut groups) = (0, 0, std::collections::HashSet::new());
    let mut all_groups = std::collections::HashSet::new();
    for event in set.events() {
        all_groups.insert((end(event.ts_ms), event.site));
        if end(event.ts_ms) <= greatest - DELAY_MS {
            rows += 1;
            cents += event.value_cents;
            groups.insert((end(event.ts_ms), event.site));
        }
    }
    let files_per_epoch = set.files.div_ceil(50).to_string();
    let mut report = Report::new("windows");
    for _ in 0..bench.repeat {
        let engine = bench.engine()?;
        let script = format!(
            "CREATE STREAMING TABLE gold LOCATION '{}' AS\n\
             SELECT window.start AS at, site, count(*) AS n, sum(value) AS total, avg(value) AS mean\n\
             FROM {} WATERMARK ts DELAY OF INTERVAL 2 MINUTES GROUP BY window(ts, '10 minutes'), site;\n",
            engine.table("gold").display(),
            cloud_files(&input, Format::Json, &[("cloudFiles.maxFilesPerTrigger", &files_per_epoch)]),
        );
        report.add_run("engine", set.rows(), engine.run(&script)?);
        let epochs: Vec<f64> = engine.epochs("gold")?.iter().map(|epoch| epoch.total_ms).collect();
        report.add_epochs(&epochs);
        engine.check(
            "SELECT count(*), sum(n), CAST(round(sum(total) * 100) AS BIGINT) FROM gold",
            &[groups.len() as u64, rows, cents],
        )?;
        let once = bench.baseline(Work::Windows, Format::Json, &input, all_groups.len() as u64)?;
        report.add_run("DataFusion", set.rows(), once);
    }
    let bar = Some(Bar::AtMost(2.0));
    report.ratio("seconds, engine in 50 epochs / DataFusion once", "engine seconds", "DataFusion seconds", bar);
    report.bar("engine peak memory", Bar::AtMost(700.0));
    Ok(report)
}
