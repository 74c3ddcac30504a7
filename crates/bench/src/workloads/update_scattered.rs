//! A thousand scattered groups of ten million change: the stream's epoch beside deltalake's MERGE of the same rows into a
//! copy of the same table.
//!
//! MERGE runs in Python (`ALLUVIUM_BENCH_PYTHON`, with the packages deltalake and pyarrow), timed around the call; its
//! memory is that of its process. The epoch's time is that of the whole process that reads one more file, start and end
//! included.

use std::process::{Command, Stdio};

use super::Bench;
use super::update::{make_parts, parts_stream, range};
use crate::Result;
use crate::child;
use crate::report::{Bar, Report};

const PARTS: u64 = 20;
const CHANGED: u64 = 1000;

const MERGE: &str = "
import sys, time, deltalake, pyarrow.parquet
rows = pyarrow.parquet.read_table(sys.argv[2])
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
        let parts: Vec<String> = (0..PARTS).map(|part| range(rows, part * rows)).collect();
        make_parts(&engine, &input, &parts)?;
        let script = format!(
            "CREATE OR REFRESH STREAMING TABLE groups LOCATION '{}' OUTPUT MODE UPDATE AS\n\
             SELECT k, sum(v) AS total FROM {} GROUP BY k;\n",
            engine.table("groups").display(),
            parts_stream(&input),
        );
        let built = engine.run(&script)?;
        report.add("building the table", built.wall_s, "s");

        // The same table without deletion vectors, and the rows that MERGE gets.
        let copy = engine.table("copy");
        let changed = engine.directory().join("changed.parquet");
        let step = groups / CHANGED;
        let scattered =
            format!("SELECT i * {step} AS k, i AS v FROM (SELECT unnest(generate_series(0, {})) AS i)", CHANGED - 1);
        engine.run(&format!(
            "CREATE TABLE copy LOCATION '{}' AS SELECT * FROM groups;\n\
             COPY (SELECT k, v + 1 AS total FROM ({scattered})) TO '{}' STORED AS PARQUET;\n",
            copy.display(),
            changed.display(),
        ))?;
        let mut merge = Command::new(&python);
        merge.args(["-c", MERGE]).arg(&copy).arg(&changed).stdout(Stdio::piped());
        let started = std::time::Instant::now();
        let mut child = merge.spawn()?;
        let mut said = String::new();
        if let Some(mut stdout) = child.stdout.take() {
            std::io::Read::read_to_string(&mut stdout, &mut said)?;
        }
        let (status, merged) = child::wait(child, started)?;
        let merge_s: f64 = said.trim().parse().map_err(|_| format!("MERGE ended with {status}: {said}"))?;
        report.add("MERGE seconds", merge_s, "s");
        report.add("MERGE peak memory", merged.peak_bytes as f64 / 1e6, "MB");

        let path = input.join("part-99999.parquet");
        engine.run(&format!("COPY ({scattered}) TO '{}' STORED AS PARQUET;\n", path.display()))?;
        let usage = engine.run(&script)?;
        report.add("epoch seconds", usage.wall_s, "s");
        report.add("epoch peak memory", usage.peak_bytes as f64 / 1e6, "MB");
        if let Some(epoch) = engine.epochs("groups")?.last() {
            report.add("epoch alone", epoch.total_ms / 1e3, "s");
        }
        let total = |add: u64| PARTS * rows / 1000 * 499_500 + add;
        engine.check("SELECT count(*), sum(total) FROM groups", &[groups, total(CHANGED * (CHANGED - 1) / 2)])?;
    }
    let time = Some(Bar::AtMost(0.2));
    report.ratio("seconds, epoch / MERGE", "epoch seconds", "MERGE seconds", time);
    report.ratio("memory, epoch / MERGE", "epoch peak memory", "MERGE peak memory", Some(Bar::AtMost(0.1)));
    Ok(report)
}
