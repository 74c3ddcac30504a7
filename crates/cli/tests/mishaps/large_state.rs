//! State larger than the memory it may take: right results, and a process that stays within bounds.
//!
//! `ALLUVIUM_TEST_KEYS` sets the number of keys; without it some ten thousand show only that the statements work.

use std::process::Stdio;
use std::time::Duration;

use super::engine::Engine;

/// With `memory_limit = '64mb'`: 64 MB at least for queries, 16 MB for rows of state, 16 MB for the stream's database, and
/// what the program itself, its threads and allocators need.
const RESIDENT_MAX_KB: u64 = 400 << 10;

/// Runs statements; the greatest resident memory that was seen, in KB.
fn peak(engine: &Engine, sql: &str) -> u64 {
    let mut child = engine.command().args(["-c", sql]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut peak = 0;
    let status = loop {
        let about = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = about.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak = peak.max(line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0));
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let output = child.wait_with_output().unwrap();
    assert!(status.success(), "{sql}\n{}", String::from_utf8_lossy(&output.stderr));
    peak
}

#[test]
fn state_larger_than_memory_is_right_and_stays_on_disk() {
    let keys: u64 = std::env::var("ALLUVIUM_TEST_KEYS").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000);
    let engine = Engine::new();
    // The keys of one epoch must fit in memory.
    let epochs = (keys / 75_000).max(10);
    engine.ask("CREATE TABLE src (k BIGINT, name STRING, v BIGINT)");
    let each = keys / epochs;
    for epoch in 0..epochs {
        // Half of the keys are new, half were there in the epoch before.
        let from = (epoch * each).saturating_sub(each / 2);
        let until = (epoch + 1) * each;
        engine.ask(&format!(
            "INSERT INTO src SELECT v AS k, 'the name of key number ' || CAST(v AS STRING) AS name, v % 1000 AS v \
             FROM (SELECT unnest(range({from}, {until})) AS v)"
        ));
    }
    let first = "SET memory_limit = '64mb'; CREATE STREAMING TABLE firsts OUTPUT MODE COMPLETE AS SELECT k % 10 AS d, count(*) AS n \
                 FROM (SELECT * FROM STREAM src WITH (maxFilesPerTrigger = 1) DEDUPLICATE BY (k, name)) GROUP BY k % 10";
    let sums = "SET memory_limit = '64mb'; CREATE STREAMING TABLE sums OUTPUT MODE COMPLETE AS SELECT k, name, count(*) AS n, \
                sum(v) AS total FROM STREAM src WITH (maxFilesPerTrigger = 1) GROUP BY k, name HAVING k % 1000 = 7";
    let peaks = [peak(&engine, first), peak(&engine, sums)];
    let rows = engine.numbers("SELECT sum(n), count(*) FROM firsts");
    assert_eq!(rows, [(each * epochs) as f64, 10.0]);
    let batch = "(SELECT k, name, count(*) AS n, sum(v) AS total FROM src GROUP BY k, name HAVING k % 1000 = 7)";
    let differ = format!("SELECT count(*) FROM (SELECT * FROM sums EXCEPT SELECT * FROM {batch}) AS e");
    assert_eq!(engine.numbers(&differ), [0.0]);
    assert_eq!(engine.numbers(&format!("SELECT count(*) - (SELECT count(*) FROM sums) FROM {batch} AS b")), [0.0]);
    let verified = "SET memory_limit = '64mb'; VERIFY STREAM firsts; VERIFY STREAM sums";
    let peaks = [peaks[0], peaks[1], peak(&engine, verified)];
    println!("{keys} keys, resident KB: {peaks:?}");
    assert!(peaks.iter().all(|peak| *peak < RESIDENT_MAX_KB), "resident KB: {peaks:?}");
}
