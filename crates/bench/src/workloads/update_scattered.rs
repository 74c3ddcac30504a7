//! A thousand scattered rows of ten million change: the stream's epoch beside deltalake's MERGE of the same rows into a
//! copy of the same table, which keeps the last version of each key: a number, its version, a price and a text of 70 bytes.
//!
//! MERGE runs in Python (`ALLUVIUM_BENCH_PYTHON`, with the packages deltalake and pyarrow), timed around the call. The
//! epoch's time is that of the whole process that reads one more file, start and end included. Memory is the peak of either
//! process; and, beside it, what that is more than the process has that does nothing: SELECT 1, and the imports.

use std::process::{Command, Stdio};

use super::Bench;
use super::update::make_parts;
use crate::Result;
use crate::child;
use crate::report::{Bar, Report};

const PARTS: u64 = 20;
/// Version of the rows the table has at first; the change is a later one.
const FIRST: u64 = 1;
const CHANGED: u64 = 1000;

const MERGE: &str = "
import sys, time, deltalake, pyarrow.parquet
rows = pyarrow.parquet.read_table(sys.argv[2])
if len(sys.argv) > 3:
    print(0)
    sys.exit()
table = deltalake.DeltaTable(sys.argv[1])
began = time.perf_counter()
merge = table.merge(rows, 's.k = t.k', source_alias='s', target_alias='t')
merge.when_matched_update_all().when_not_matched_insert_all().execute()
print(time.perf_counter() - began)
";

/// Both in one run, on copies of one table.
pub fn run(bench: &Bench) -> Result<Report> {
    let python = std::env::var("ALLUVIUM_BENCH_PYTHON")
        .map_err(|_| "set ALLUVIUM_BENCH_PYTHON to a Python that has the packages deltalake and pyarrow")?;
    let rows = ((500_000.0 * bench.scale) as u64).max(1000);
    let groups = PARTS * rows;
    let mut report = Report::new("update-scattered");
    for _ in 0..bench.repeat {
        let engine = bench.engine()?;
        let input = engine.directory().join("in");
        let parts: Vec<String> =
            (0..PARTS).map(|part| versions(&format!("i + {}", part * rows), rows, FIRST)).collect();
        make_parts(&engine, &input, &parts)?;
        let script = format!(
            "CREATE OR REFRESH STREAMING TABLE latest LOCATION '{}' OUTPUT MODE UPDATE AS\n\
             SELECT k, max(v) AS v, max_by(price, v) AS price, max_by(note, v) AS note\n\
             FROM cloud_files('{}', 'parquet', map('schema', 'k BIGINT, v BIGINT, price DOUBLE, note STRING',\n\
             'cloudFiles.maxFilesPerTrigger', '1')) GROUP BY k;\n",
            engine.table("latest").display(),
            input.display(),
        );
        // Half a million new keys at once, each with its texts, are more than the default has room for.
        let built = engine.run(&format!("SET memory_limit = '4GB';\n{script}"))?;
        report.add("building the table", built.wall_s, "s");
        report.add("building, peak memory", built.peak_bytes as f64 / 1e6, "MB");

        // The same table without deletion vectors, and the rows that MERGE gets.
        let copy = engine.table("copy");
        let changed = engine.directory().join("changed.parquet");
        let scattered = versions(&format!("i * {}", groups / CHANGED), CHANGED, FIRST + 1);
        engine.run(&format!(
            "CREATE TABLE copy LOCATION '{}' AS SELECT * FROM latest;\n\
             COPY ({scattered}) TO '{}' STORED AS PARQUET;\n",
            copy.display(),
            changed.display(),
        ))?;
        let merge = |more: &[&str]| -> Result<(f64, f64)> {
            let mut command = Command::new(&python);
            command.args(["-c", MERGE]).arg(&copy).arg(&changed).args(more).stdout(Stdio::piped());
            let started = std::time::Instant::now();
            let mut child = command.spawn()?;
            let mut said = String::new();
            if let Some(mut stdout) = child.stdout.take() {
                std::io::Read::read_to_string(&mut stdout, &mut said)?;
            }
            let (status, usage) = child::wait(child, started)?;
            let seconds = said.trim().parse().map_err(|_| format!("MERGE ended with {status}: {said}"))?;
            Ok((seconds, usage.peak_bytes as f64 / 1e6))
        };
        let (_, idle) = merge(&["idle"])?;
        let (merge_s, merge_mb) = merge(&[])?;
        report.add("MERGE seconds", merge_s, "s");
        report.add("MERGE peak memory", merge_mb, "MB");
        report.add("MERGE memory above idle", merge_mb - idle, "MB");

        let path = input.join("part-99999.parquet");
        engine.run(&format!("COPY ({scattered}) TO '{}' STORED AS PARQUET;\n", path.display()))?;
        let idle = engine.run("SELECT 1;\n")?.peak_bytes as f64 / 1e6;
        let usage = engine.run(&script)?;
        let peak = usage.peak_bytes as f64 / 1e6;
        report.add("epoch seconds", usage.wall_s, "s");
        report.add("epoch peak memory", peak, "MB");
        report.add("epoch memory above idle", peak - idle, "MB");
        if let Some(epoch) = engine.epochs("latest")?.last() {
            report.add("epoch alone", epoch.total_ms / 1e3, "s");
        }
        engine.check("SELECT count(*), sum(v) FROM latest", &[groups, groups * FIRST + CHANGED])?;
    }
    report.ratio("seconds, epoch / MERGE", "epoch seconds", "MERGE seconds", Some(Bar::AtMost(0.2)));
    report.ratio("memory, epoch / MERGE", "epoch peak memory", "MERGE peak memory", None);
    let above = ("epoch memory above idle", "MERGE memory above idle");
    report.ratio("memory above idle, epoch / MERGE", above.0, above.1, Some(Bar::AtMost(0.1)));
    Ok(report)
}

/// Versions of `rows` keys, `key` of `i` from 0 on.
fn versions(key: &str, rows: u64, version: u64) -> String {
    format!(
        "SELECT {key} AS k, {version} AS v, CAST((i * 7919 + {version}) % 1000000 AS DOUBLE) / 100 AS price,\n\
         concat('customer ', i * 31 % 99991, ', order ', md5(concat(i, ' {version} ', {key}))) AS note\n\
         FROM (SELECT unnest(generate_series(0, {})) AS i)",
        rows - 1
    )
}
