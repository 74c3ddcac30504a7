//! A checkpoint whose files were damaged: what is wrong is told with a code and a way out, nothing panics, and nothing goes
//! on with state that is not what was written.

use std::path::{Path, PathBuf};

use super::engine::Engine;

/// Codes that damage may be told with: of a file, of a row or block in it, or, where the newest commits are what is
/// missing, that checkpoint and table no longer belong together.
const CODES: [&str; 3] = ["CHECKPOINT_CORRUPT", "STATE_CORRUPT", "CHECKPOINT_MISMATCH"];

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// A stream with state whose database has files of every kind; the directory of its warehouse, and its refresh.
fn stream(engine: &Engine) -> (PathBuf, String) {
    let landing = engine.landing();
    let create = format!(
        "CREATE OR REFRESH STREAMING TABLE t OUTPUT MODE COMPLETE AS SELECT k, sum(v) AS total FROM cloud_files('{}', 'json', \
         map('schema', 'k BIGINT, v BIGINT')) GROUP BY k;",
        landing.display()
    );
    for file in 0..4 {
        // A start flushes what the last run has left in the write-ahead log.
        let lines: String = (0..300).map(|k| format!("{{\"k\":{},\"v\":{file}}}\n", k + file * 100)).collect();
        engine.land(&format!("{file}.json"), lines);
        engine.ask(&create);
    }
    (engine.path().join("warehouse"), create)
}

#[test]
fn a_damaged_database_is_told_with_what_to_do() {
    let engine = Engine::new();
    let (warehouse, create) = stream(&engine);
    let whole = engine.path().join("whole");
    copy(&warehouse, &whole);
    let expected = engine.lines("SELECT * FROM t");
    let database = PathBuf::from("t/_checkpoint/db");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(whole.join(&database)).unwrap().map(|f| f.unwrap().path()).collect();
    let kinds = ["sst", "log"];
    files.retain(|file| file.extension().is_some_and(|kind| kinds.iter().any(|known| kind == *known)));
    files.sort();
    assert!(files.iter().any(|file| file.extension().unwrap() == "sst"), "{files:?}");
    let mut told = 0;
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        if bytes.is_empty() {
            continue;
        }
        let flipped = |at: usize| {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x40;
            bytes
        };
        let damages =
            [bytes[..bytes.len() / 2].to_vec(), flipped(bytes.len() / 3), flipped(bytes.len() * 9 / 10), Vec::new()];
        for (number, damaged) in damages.into_iter().enumerate() {
            std::fs::remove_dir_all(&warehouse).unwrap();
            copy(&whole, &warehouse);
            std::fs::write(warehouse.join(&database).join(file.file_name().unwrap()), damaged).unwrap();
            let place = format!("damage {number} of {}", file.display());
            for sql in ["VERIFY STREAM t;", create.as_str()] {
                let ended = engine.run(sql);
                let code = ended.status.code();
                assert!(!ended.stderr.contains("panicked"), "{place}: {}", ended.stderr);
                match code {
                    // Of what was damaged, nothing was read.
                    Some(0) => {}
                    Some(1) if sql.starts_with("VERIFY") => {
                        assert_eq!(ended.codes(), ["STREAM_DIFFERS"], "{place}: {}", ended.stderr);
                        told += 1;
                    }
                    _ => {
                        assert_eq!(code, Some(3), "{place}: {}", ended.stderr);
                        assert!(CODES.contains(&ended.codes()[0].as_str()), "{place}: {}", ended.stderr);
                        assert!(
                            ended.stderr.contains("= help:") || ended.stderr.contains("\"help\""),
                            "{}",
                            ended.stderr
                        );
                        told += 1;
                    }
                }
            }
            assert_eq!(engine.lines("SELECT * FROM t"), expected, "{place}");
        }
    }
    assert!(told > 4, "only {told} damages were told");
    // A new beginning mends it, also where it cannot be opened; and so does a backup.
    let manifest = std::fs::read_to_string(warehouse.join(&database).join("CURRENT")).unwrap();
    std::fs::write(warehouse.join(&database).join(manifest.trim()), "no manifest").unwrap();
    assert_eq!(engine.run("VERIFY STREAM t;").status.code(), Some(3));
    engine.ask("REFRESH TABLE t FULL;");
    engine.ask("VERIFY STREAM t;");
    assert_eq!(engine.lines("SELECT * FROM t"), expected);
    std::fs::remove_dir_all(&warehouse).unwrap();
    copy(&whole, &warehouse);
    engine.ask("VERIFY STREAM t;");
}
