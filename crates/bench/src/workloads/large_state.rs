//! 5,000,000 keys by and by: 50 JSON files with 100,000 new keys and 20,000 old ones each, counted and summed by key in update
//! mode, one file an epoch.
//!
//! Spark 4.3 takes 97 s for rows like these on two cores of the machine that the figures in `docs/performance.md` are of, with
//! its state in RocksDB and a heap of 8 GB; the bar is a fifth of that, within 4 GB.

use super::Bench;
use super::update::make_parts_as;
use crate::Result;
use crate::report::{Bar, Report, Sample};

const EPOCHS: u64 = 50;
const NEW: u64 = 100_000;
const OLD: u64 = 20_000;

/// No baseline in this run.
pub fn run(bench: &Bench) -> Result<Report> {
    let new = ((NEW as f64 * bench.scale) as u64).max(1000);
    let old = new * OLD / NEW;
    let mut report = Report::new("large-state");
    for _ in 0..bench.repeat {
        let engine = bench.engine()?;
        let input = engine.directory().join("in");
        let parts: Vec<String> = (0..EPOCHS)
            .map(|epoch| {
                let before = (epoch * new).max(1);
                format!(
                    "SELECT concat('u', (i * 2654435761) % 4294967296, '-', i) AS key, i % 1000 AS v FROM (\n\
                     SELECT unnest(generate_series({}, {})) AS i UNION ALL\n\
                     SELECT (j * 7919 + {epoch}) % {before} AS i FROM (SELECT unnest(generate_series(1, {old})) AS j))",
                    epoch * new,
                    (epoch + 1) * new - 1,
                )
            })
            .collect();
        make_parts_as(&engine, &input, "json", &parts)?;
        let script = format!(
            "SET memory_limit = '4GB';\nCREATE STREAMING TABLE groups LOCATION '{}' OUTPUT MODE UPDATE AS\n\
             SELECT key, count(*) AS n, sum(v) AS total FROM cloud_files('{}', 'json', map('schema',\n\
             'key STRING, v BIGINT', 'cloudFiles.maxFilesPerTrigger', '1')) GROUP BY key;\n",
            engine.table("groups").display(),
            input.display(),
        );
        let usage = engine.run(&script)?;
        report.add_run("engine", EPOCHS * (new + old), usage);
        report.add("seconds", usage.wall_s, "s");
        let epochs: Vec<f64> = engine.epochs("groups")?.iter().map(|epoch| epoch.total_ms).collect();
        let ten = |part: &[f64]| part.iter().copied().collect::<Sample>().median();
        report.add("epoch, first ten", ten(&epochs[..10]), "ms");
        report.add("epoch, last ten", ten(&epochs[epochs.len() - 10..]), "ms");
        engine.check("SELECT count(*), sum(n) FROM groups", &[EPOCHS * new, EPOCHS * (new + old)])?;
    }
    report.bar("seconds", Bar::AtMost(19.4));
    Ok(report)
}
