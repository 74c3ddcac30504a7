//! 5,000,000 groups, then 50 epochs that each change 200,000 of them by key: the last ten must cost what the first ten did,
//! within a memory limit that the state does not fit into.

use std::path::{Path, PathBuf};

use super::Bench;
use crate::Result;
use crate::engine::Engine;
use crate::report::{Bar, Report, Sample};

const ROWS_PER_EPOCH: u64 = 200_000;
const EPOCHS: u64 = 50;
const GROWTH: &str = "epoch, last ten / first ten";

/// No baseline: the first ten epochs are the measure for the last ten.
pub fn run(bench: &Bench) -> Result<Report> {
    let rows = ((ROWS_PER_EPOCH as f64 * bench.scale) as u64).max(1000);
    let groups = rows * 25;
    let mut report = Report::new("update");
    for _ in 0..bench.repeat {
        let engine = bench.engine()?;
        let input = engine.directory().join("in");
        let mut parts: Vec<String> = (0..25).map(|part| range(rows, part * rows)).collect();
        // A step that has no factor in common with the number of groups meets each of them once in a while.
        parts.extend((0..EPOCHS).map(|epoch| {
            format!(
                "SELECT (i * 2654435761 + {}) % {groups} AS k, i AS v FROM ({})",
                epoch * 7919,
                range_of_numbers(rows)
            )
        }));
        make_parts(&engine, &input, &parts)?;
        let script = format!(
            "SET memory_limit = '512MB';\nCREATE STREAMING TABLE groups LOCATION '{}' OUTPUT MODE UPDATE AS\n\
             SELECT k, count(*) AS n, sum(v) AS total, max(v) AS most FROM {} GROUP BY k;\n",
            engine.table("groups").display(),
            parts_stream(&input),
        );
        report.add_run("engine", (25 + EPOCHS) * rows, engine.run(&script)?);
        let epochs: Vec<f64> = engine.epochs("groups")?.iter().skip(25).map(|epoch| epoch.total_ms).collect();
        let ten = |part: &[f64]| part.iter().copied().collect::<Sample>().median();
        let (first, last) = (ten(&epochs[..10]), ten(&epochs[epochs.len() - 10..]));
        report.add("50 epochs", epochs.iter().sum::<f64>() / 1e3, "s");
        report.add("slowest epoch", epochs.iter().copied().fold(0.0, f64::max), "ms");
        report.add("epoch, first ten", first, "ms");
        report.add("epoch, last ten", last, "ms");
        report.add(GROWTH, last / first, "×");
        engine.check("SELECT count(*), sum(n) FROM groups", &[groups, (25 + EPOCHS) * rows])?;
    }
    report.bar(GROWTH, Bar::AtMost(1.3));
    report.bar("engine peak memory", Bar::AtMost(537.0));
    Ok(report)
}

/// `rows` groups from `first` on, each with a value.
fn range(rows: u64, first: u64) -> String {
    format!("SELECT i + {first} AS k, i % 1000 AS v FROM ({})", range_of_numbers(rows))
}

fn range_of_numbers(rows: u64) -> String {
    format!("SELECT unnest(generate_series(0, {})) AS i", rows - 1)
}

/// One Parquet file per query, to be read in this order.
pub fn make_parts(engine: &Engine, directory: &Path, queries: &[String]) -> Result<()> {
    make_parts_as(engine, directory, "parquet", queries)
}

/// One file of a format per query, to be read in this order.
pub fn make_parts_as(engine: &Engine, directory: &Path, format: &str, queries: &[String]) -> Result<()> {
    let copies = queries.iter().enumerate().map(|(number, query)| {
        let path: PathBuf = directory.join(format!("part-{number:05}.{format}"));
        format!("COPY ({query}) TO '{}' STORED AS {};\n", path.display(), format.to_uppercase())
    });
    engine.run(&copies.collect::<String>()).map(|_| ())
}

/// They as a stream, one file an epoch.
fn parts_stream(directory: &Path) -> String {
    format!(
        "cloud_files('{}', 'parquet', map('schema', 'k BIGINT, v BIGINT', 'cloudFiles.maxFilesPerTrigger', '1'))",
        directory.display()
    )
}
