//! Checkpoints on disk: what is there after a stop between any two calls.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::state::tests::TestDir;

fn intent(epoch: u64) -> Intent {
    Intent {
        epoch,
        timestamp_ms: 1000 + epoch as i64,
        inputs: Vec::new(),
        fingerprint: "f".into(),
        statics: Default::default(),
        watermark: Default::default(),
    }
}

fn file(source: &str, path: &str, epoch: u64) -> LedgerEntry {
    LedgerEntry {
        source: source.into(),
        path: path.into(),
        state: FileState::Ingested,
        size: 10,
        modified_ms: -5,
        epoch: Some(epoch),
        discovered_ms: 7,
        processed_ms: Some(7),
        committed_ms: 8,
        rows: (epoch > 0).then_some(3),
        archived: None,
        reason: None,
    }
}

fn commit(epoch: u64, ledger: Vec<LedgerEntry>) -> EpochCommit {
    EpochCommit {
        record: EpochRecord { epoch, rows_in: 5, table_version: Some(epoch + 1), ..EpochRecord::default() },
        inputs: Vec::new(),
        ledger,
        positions: vec![("1".into(), serde_json::json!({ "version": epoch }))],
        state: Vec::new(),
        joins: Vec::new(),
        sink: Vec::new(),
    }
}

#[test]
fn what_was_committed_is_there_after_a_restart_and_nothing_else() {
    let dir = TestDir::new();
    let at = dir.0.join("a/b/checkpoint");
    assert_eq!(Checkpoint::stored_query_id(&at), None);
    let checkpoint = Checkpoint::open(&at, "s").unwrap();
    let id = checkpoint.query_id().to_string();
    assert_eq!(Checkpoint::stored_query_id(&at).unwrap(), id, "readable while it is open");
    assert!(checkpoint.last_committed().unwrap().is_none() && checkpoint.pending_intent().unwrap().is_none());
    checkpoint.put_meta("schema/0", "x").unwrap();
    checkpoint.write_intent(&intent(0)).unwrap();
    drop(checkpoint);

    // Stopped after the intent: it is pending, and nothing is committed.
    let checkpoint = Checkpoint::open(&at, "s").unwrap();
    assert_eq!(checkpoint.query_id(), id);
    assert_eq!(checkpoint.meta("schema/0").unwrap().unwrap(), "x");
    assert_eq!(checkpoint.pending_intent().unwrap(), Some(intent(0)));
    assert!(checkpoint.last_committed().unwrap().is_none());
    assert!(checkpoint.position("1").unwrap().is_none() && checkpoint.ledger().is_empty("0"));
    checkpoint.write_intent(&intent(0)).unwrap();
    checkpoint.commit(commit(0, vec![file("0", "b", 0), file("0", "a", 0)])).unwrap();
    checkpoint.write_intent(&intent(1)).unwrap();
    checkpoint
        .commit(EpochCommit {
            record: EpochRecord { epoch: 1, ..EpochRecord::default() },
            ..commit(1, vec![file("0", "c", 1), file("00", "a", 1), file("0", "b", 1)])
        })
        .unwrap();
    drop(checkpoint);

    let checkpoint = Checkpoint::open(&at, "s").unwrap();
    assert_eq!(checkpoint.pending_intent().unwrap(), None);
    assert_eq!(checkpoint.last_committed().unwrap().unwrap().epoch, 1);
    assert_eq!(checkpoint.last_published().unwrap(), Some(0), "epoch 1 wrote nothing");
    assert_eq!(checkpoint.position("1").unwrap().unwrap(), serde_json::json!({ "version": 1 }));
    let ledger = checkpoint.ledger();
    assert_eq!((ledger.len("0"), ledger.len("00"), ledger.len("1")), (3, 1, 0));
    let files: Vec<_> = ledger.iter("0").map(|entry| entry.unwrap()).collect();
    assert_eq!(files, [file("0", "a", 0), file("0", "b", 1), file("0", "c", 1)]);
    assert_eq!(ledger.iter_all().count(), 4);
    assert_eq!(ledger.contains_sorted("0", &["", "a", "aa", "c", "d"]).unwrap(), [false, true, false, true, false]);
    let epochs = |limit| checkpoint.epochs(limit).unwrap().iter().map(|record| record.epoch).collect::<Vec<_>>();
    assert_eq!((epochs(None), epochs(Some(1)), epochs(Some(9))), (vec![0, 1], vec![1], vec![1, 0]));
}

#[test]
fn a_commit_must_be_what_was_intended() {
    let checkpoint = Checkpoint::in_memory().unwrap();
    assert!(checkpoint.commit(commit(0, Vec::new())).is_err(), "without an intent");
    assert!(checkpoint.write_intent(&intent(1)).is_err(), "epoch 0 is next");
    checkpoint.write_intent(&intent(0)).unwrap();
    let other = Intent { timestamp_ms: 5, ..intent(0) };
    assert!(checkpoint.write_intent(&other).is_err(), "an intent cannot be replaced");
    assert!(checkpoint.commit(commit(1, Vec::new())).is_err(), "another epoch");
    checkpoint.commit(commit(0, Vec::new())).unwrap();
    assert!(checkpoint.commit(commit(0, Vec::new())).is_err(), "twice");
    assert!(checkpoint.write_intent(&intent(0)).is_err(), "again");
}

fn code(error: &Error) -> &'static str {
    assert_eq!(error.exit_code(), 3);
    error.diagnostic().code
}

#[test]
fn the_second_to_open_is_refused_and_told_who_was_first() {
    let dir = TestDir::new();
    let first = Checkpoint::open(&dir.0, "orders").unwrap();
    let table = first.state(0, 1 << 20).unwrap();
    let error = Checkpoint::open(&dir.0, "other").err().unwrap();
    let text = error.to_string();
    assert_eq!(code(&error), "CHECKPOINT_LOCKED");
    assert!(text.contains("`orders`") && text.contains(&std::process::id().to_string()), "{text}");
    drop(first);
    assert!(Checkpoint::open(&dir.0, "other").is_err(), "its state is still open");
    drop(table);
    Checkpoint::open(&dir.0, "other").unwrap();
}

#[test]
fn unknown_formats_and_damage_are_refused_with_a_way_out() {
    let dir = TestDir::new();
    drop(Checkpoint::open(&dir.0, "s").unwrap());
    std::fs::write(dir.0.join("format"), "alluvium checkpoint 9\n").unwrap();
    let error = Checkpoint::open(&dir.0, "s").err().unwrap();
    assert_eq!(code(&error), "CHECKPOINT_FORMAT");
    assert!(error.to_string().contains("checkpoint 9"), "{error}");
    std::fs::remove_file(dir.0.join("format")).unwrap();
    assert_eq!(code(&Checkpoint::open(&dir.0, "s").err().unwrap()), "CHECKPOINT_FORMAT");

    let dir = TestDir::new();
    drop(Checkpoint::open(&dir.0, "s").unwrap());
    for entry in std::fs::read_dir(dir.0.join("db")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("MANIFEST") {
            std::fs::write(path, "not a manifest").unwrap();
        }
    }
    let error = Checkpoint::open(&dir.0, "s").err().unwrap();
    assert_eq!(code(&error), "CHECKPOINT_CORRUPT", "{error}");
    assert!(!error.diagnostic().help.is_empty());

    let dir = TestDir::new();
    std::fs::write(dir.0.join("file"), "").unwrap();
    assert_eq!(code(&Checkpoint::open(&dir.0.join("file/checkpoint"), "s").err().unwrap()), "IO");
}
