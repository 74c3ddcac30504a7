//! What goes wrong outside the engine: one clear error each, the exit code the language page names, and a stream that
//! goes on when the cause is gone.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "mishaps/damage.rs"]
mod damage;
mod engine;
#[path = "mishaps/large_state.rs"]
mod large_state;

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use engine::{Ended, Engine, Log};

/// A stream of JSON files with a given schema into table `t`.
fn stream(engine: &Engine, clauses: &str) -> String {
    let landing = engine.path().join("landing");
    let table = engine.table("t");
    format!(
        "CREATE OR REFRESH STREAMING TABLE t LOCATION '{}' {clauses} AS SELECT * FROM cloud_files('{}', 'json', \
         map('cloudFiles.inferColumnTypes', 'true'));",
        table.display(),
        landing.display(),
    )
}

/// One error with this code, and this exit code.
#[track_caller]
fn refused(ended: &Ended, exit: i32, code: &str) {
    assert_eq!(ended.status.code(), Some(exit), "{}", ended.stderr);
    assert_eq!(ended.codes(), [code], "{}", ended.stderr);
}

#[track_caller]
fn rows(engine: &Engine, expected: u64) {
    assert_eq!(engine.numbers("SELECT count(*) FROM t"), [expected as f64]);
}

/// Interrupts a child as Ctrl-C does, without reaching for a system call.
fn interrupt(child: &Child) {
    let status = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[track_caller]
fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(20), "{what} has not happened within 20 s");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn an_empty_directory_is_waited_for() {
    let engine = Engine::new();
    engine.landing();
    engine.ask(&stream(&engine, ""));
    engine.land("1.json", "{\"a\": 1}\n{\"a\": 2}\n");
    engine.ask(&stream(&engine, ""));
    rows(&engine, 2);
}

#[test]
fn a_running_stream_waits_for_the_first_file() {
    let engine = Engine::new();
    engine.landing();
    let sql = stream(&engine, "TRIGGER PROCESSING TIME '20 milliseconds'");
    let mut child = engine.command().args(["-c", &sql]).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none(), "the process must wait for files");
    engine.land("1.json", "{\"a\": 1}\n{\"a\": 2}\n");
    eventually("the first file's commit", || Log::read(&engine.table("t")).rows == 2);
    engine.land("2.json", "{\"a\": 3}\n");
    eventually("the second file's commit", || Log::read(&engine.table("t")).rows == 3);
    interrupt(&child);
    let status = child.wait().unwrap();
    assert!(matches!(status.code(), Some(0 | 130)), "{status}");
    rows(&engine, 3);
}

#[test]
fn a_missing_directory_is_refused_and_nothing_is_made() {
    let engine = Engine::new();
    refused(&engine.run(&stream(&engine, "")), 1, "PATH_NOT_FOUND");
    assert!(!engine.table("t").exists(), "a refused statement must make nothing");
    engine.land("1.json", "{\"a\": 1}\n");
    engine.ask(&stream(&engine, ""));
    rows(&engine, 1);
}

#[test]
fn a_directory_that_goes_away_can_come_back() {
    let engine = Engine::new();
    engine.land("1.json", "{\"a\": 1}\n");
    engine.ask(&stream(&engine, ""));
    let (landing, away) = (engine.path().join("landing"), engine.path().join("away"));
    std::fs::rename(&landing, &away).unwrap();
    let ended = engine.run("REFRESH STREAMING TABLE t");
    refused(&ended, 1, "PATH_NOT_FOUND");
    std::fs::rename(&away, &landing).unwrap();
    engine.land("2.json", "{\"a\": 2}\n");
    engine.ask("REFRESH STREAMING TABLE t");
    rows(&engine, 2);
}

#[test]
fn a_torn_gzip_stops_the_stream_until_it_is_whole() {
    let engine = Engine::new();
    engine.land("1.json", "{\"a\": 1}\n");
    engine.ask(&stream(&engine, ""));
    let whole = gzip(&(0..500).map(|a| format!("{{\"a\": {a}}}\n")).collect::<String>());
    engine.land("2.json.gz", &whole[..whole.len() / 2]);
    let ended = engine.run("REFRESH STREAMING TABLE t");
    refused(&ended, 1, "FILE_CORRUPT");
    assert!(ended.stderr.contains("2.json.gz"), "the file must be named:\n{}", ended.stderr);
    rows(&engine, 1);
    engine.land("2.json.gz", whole);
    engine.ask("REFRESH STREAMING TABLE t");
    rows(&engine, 501);
    engine.ask("REFRESH STREAMING TABLE t");
    rows(&engine, 501);
}

/// Runs statements up to a fail point.
#[track_caller]
fn crash_at(engine: &Engine, sql: &str, point: &str) {
    use std::os::unix::process::ExitStatusExt;
    let ended = engine.run_with(sql, &[("ALLUVIUM_FAILPOINT", point)]);
    assert_eq!(ended.status.signal(), Some(6), "{point} was not reached: {}\n{}", ended.status, ended.stderr);
}

/// A file with a modification time of its own, seconds since 1970.
fn land_dated(engine: &Engine, name: &str, text: &str, seconds: u64) {
    engine.land(name, text);
    let file = std::fs::File::options().write(true).open(engine.landing().join(name)).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
}

#[test]
fn a_file_that_is_written_again_is_read_once_in_each_version_that_is_remembered() {
    for (point, versions) in
        [("after_intent:1", "2 3"), ("mid_run:1", "2 3"), ("after_publish:1", "2 2 3"), ("before_commit:1", "2 2 3")]
    {
        let engine = Engine::new();
        let create = format!(
            "CREATE OR REFRESH STREAMING TABLE t LOCATION '{}' AS SELECT * FROM cloud_files('{}', 'json', \
             map('schema', 'a BIGINT', 'allowOverwrites', 'true'));",
            engine.table("t").display(),
            engine.landing().display(),
        );
        let all = |when: &str, wanted: &str| {
            let rows = engine.ask("SELECT a FROM t ORDER BY a");
            let found: Vec<String> = rows.iter().map(|row| row["a"].to_string()).collect();
            assert_eq!(found.join(" "), wanted, "{point}, {when}");
        };
        land_dated(&engine, "1.json", "{\"a\":1}", 1_700_000_000);
        engine.ask(&create);
        land_dated(&engine, "1.json", "{\"a\":2}", 1_700_000_010);
        land_dated(&engine, "2.json", "{\"a\":3}", 1_700_000_010);
        crash_at(&engine, &create, point);
        // Written again after its epoch was begun: read as it is then, or, where the table has the epoch, once more.
        land_dated(&engine, "1.json", "{\"a\": 2}", 1_700_000_020);
        engine.ask(&create);
        all("after a crash", &format!("1 {versions}"));
        engine.ask(&create);
        all("after another run", &format!("1 {versions}"));
    }
}

#[test]
fn an_intent_that_is_written_again_is_run_again() {
    let engine = Engine::new();
    engine.land("1.json", "{\"a\":1}");
    let create = format!(
        "CREATE OR REFRESH STREAMING TABLE t LOCATION '{}' OUTPUT MODE COMPLETE AS SELECT sum(a) AS s, count(*) AS n FROM \
         cloud_files('{}', 'json', map('schema', 'a BIGINT'));",
        engine.table("t").display(),
        engine.landing().display(),
    );
    crash_at(&engine, &create, "after_intent:0");
    engine.land("1.json", "{\"a\":20}\n{\"a\":30}");
    crash_at(&engine, &create, "after_new_intent:0");
    engine.land("1.json", "{\"a\":400}");
    crash_at(&engine, &create, "after_publish:0");
    // The table has the sum of what it holds now: state made of something else would contradict it.
    engine.land("1.json", "{\"a\":5}");
    refused(&engine.run(&create), 3, "FILE_CHANGED");
    engine.land("1.json", "{\"a\":400}");
    engine.land("2.json", "{\"a\":7}");
    engine.ask(&create);
    assert_eq!(engine.numbers("SELECT s, n FROM t"), [407.0, 2.0]);
}

#[test]
fn a_file_that_may_not_be_read_stops_the_stream_until_it_may() {
    use std::os::unix::fs::PermissionsExt;
    let engine = Engine::new();
    engine.land("1.json", "{\"a\": 1}\n");
    engine.ask(&stream(&engine, ""));
    engine.land("2.json", "{\"a\": 2}\n");
    let file = engine.landing().join("2.json");
    let allow = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    allow(0o000);
    if std::fs::File::open(&file).is_ok() {
        eprintln!("skipped: this user may read everything");
        return;
    }
    refused(&engine.run("REFRESH STREAMING TABLE t"), 3, "PERMISSION_DENIED");
    allow(0o644);
    engine.ask("REFRESH STREAMING TABLE t");
    rows(&engine, 2);
}

#[test]
fn misspelt_options_and_formats_are_refused_with_the_nearest_name() {
    let engine = Engine::new();
    engine.land("1.json", "{\"a\": 1}\n");
    let landing = engine.landing();
    let create = |format: &str, option: &str| {
        let files = format!("cloud_files('{}', '{format}', map('{option}', '1'))", landing.display());
        engine.run(&format!("CREATE STREAMING TABLE t AS SELECT * FROM {files}"))
    };
    let ended = create("json", "cloudFiles.maxFilePerTrigger");
    refused(&ended, 1, "UNKNOWN_OPTION");
    assert!(ended.stderr.contains("maxFilesPerTrigger"), "{}", ended.stderr);
    let ended = create("jason", "cloudFiles.maxFilesPerTrigger");
    refused(&ended, 1, "UNKNOWN_FORMAT");
    assert!(ended.stderr.contains("json"), "{}", ended.stderr);
    assert!(engine.ask("SHOW TABLES").is_empty(), "a refused statement must make nothing");
}

#[test]
fn a_warehouse_that_cannot_be_written_is_the_environments_fault() {
    let engine = Engine::new();
    let file = engine.path().join("file");
    std::fs::write(&file, "not a directory").unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_alluvium"))
        .arg("--warehouse")
        .arg(Path::new(&file).join("warehouse"))
        .args(["-c", "CREATE TABLE t (a INT)"])
        .output()
        .unwrap();
    let ended = Ended {
        status: output.status,
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    };
    assert_eq!(ended.status.code(), Some(3), "{}", ended.stderr);
    assert_eq!(ended.codes().len(), 1, "{}", ended.stderr);
}

#[test]
fn a_second_process_on_a_stream_is_refused_and_the_first_goes_on() {
    let engine = Engine::new();
    engine.land("1.json", "{\"a\": 1}\n");
    let sql = stream(&engine, "TRIGGER PROCESSING TIME '20 milliseconds'");
    let mut first = engine.command().args(["-c", &sql]).stderr(Stdio::null()).spawn().unwrap();
    eventually("the first commit", || Log::read(&engine.table("t")).rows == 1);
    let second = engine.run("REFRESH STREAMING TABLE t");
    refused(&second, 3, "CHECKPOINT_LOCKED");
    assert!(second.stderr.contains(&first.id().to_string()), "the owner must be named:\n{}", second.stderr);
    refused(&engine.run("ALTER STREAM t SKIP FILE '9.json'"), 3, "CHECKPOINT_LOCKED");
    refused(&engine.run("ALTER STREAM t FORGET FILE '1.json'"), 3, "CHECKPOINT_LOCKED");
    engine.land("2.json", "{\"a\": 2}\n");
    eventually("the next commit", || Log::read(&engine.table("t")).rows == 2);
    interrupt(&first);
    first.wait().unwrap();
    engine.ask("REFRESH STREAMING TABLE t");
    rows(&engine, 2);
}

#[test]
fn a_stream_of_another_process_can_be_looked_at_while_it_runs() {
    let engine = Engine::new();
    engine.land("0.json", "{\"a\": 0}\n");
    let sql = stream(&engine, "TRIGGER PROCESSING TIME '0 seconds'");
    let mut first = engine.command().args(["-c", &sql]).stderr(Stdio::null()).spawn().unwrap();
    eventually("the first commit", || Log::read(&engine.table("t")).rows == 1);
    // Arrivals, commits and looks of several processes all the time.
    for at in 1..=12 {
        engine.land(&format!("{at}.json"), format!("{{\"a\": {at}}}\n"));
        let looks: Vec<_> = ["SHOW EPOCHS FROM t", "SHOW FILES FROM t", "DESCRIBE STREAM t", "SHOW STREAMS"]
            .into_iter()
            .map(|look| engine.start(look))
            .collect();
        for look in looks {
            let output = look.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        eventually("the next commit", || Log::read(&engine.table("t")).rows == at + 1);
    }
    eventually("the ledger", || {
        engine.ask("SELECT count(*) AS n FROM cloud_files_state('t') WHERE state = 'ingested'")[0]["n"] == 13
    });
    let epochs = engine.ask("SHOW EPOCHS FROM t");
    let files: u64 = epochs.iter().map(|epoch| epoch["files"].as_u64().unwrap()).sum();
    assert_eq!(files, 13, "{epochs:?}");
    let streams = engine.ask("SHOW STREAMS");
    assert_eq!(streams[0]["state"], "RUNNING ELSEWHERE");
    assert_eq!(streams[0]["last_epoch"].as_u64(), Some(epochs.len() as u64 - 1));
    let described = engine.ask("DESCRIBE STREAM t");
    assert!(described.iter().any(|row| row["property"] == "last epoch"), "{described:?}");
    let shown = engine.ask("SHOW FILES FROM t WHERE state = 'ingested'");
    assert_eq!(shown.len(), 13);
    assert!(first.try_wait().unwrap().is_none(), "the stream was disturbed");
    interrupt(&first);
    first.wait().unwrap();
    rows(&engine, 13);
    assert_eq!(engine.ask("SHOW STREAMS")[0]["state"], "STOPPED");
}

#[test]
fn usage_errors_end_with_2() {
    let engine = Engine::new();
    for arguments in [vec!["--no-such-option"], vec!["--format", "yaml", "-c", "SELECT 1"], vec!["run"]] {
        let status = std::process::Command::new(env!("CARGO_BIN_EXE_alluvium"))
            .args(&arguments)
            .current_dir(engine.path())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(2), "{arguments:?}");
    }
}

/// A gzip of one stored block, so that no compressor is needed to make a valid or a torn one.
fn gzip(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap();
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    bytes.extend(length.to_le_bytes());
    bytes.extend((!length).to_le_bytes());
    bytes.extend(text.as_bytes());
    let checksum = !text.bytes().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ (0xEDB8_8320 * (sum & 1)))
    });
    bytes.extend(checksum.to_le_bytes());
    bytes.extend(u32::from(length).to_le_bytes());
    bytes
}
