//! The ledger's bytes, and what statements and cleaning change in it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::checkpoint::{Altering, Checkpoint, EpochCommit, Intent};
use crate::metrics::EpochRecord;
use crate::source::EpochInput;
use crate::source::files::{FileEntry, FilesInput};
use crate::state::MemoryStore;

fn entry(path: &str, state: FileState) -> LedgerEntry {
    LedgerEntry {
        source: "0".into(),
        path: path.into(),
        state,
        size: 10,
        modified_ms: 5,
        epoch: Some(3),
        discovered_ms: 6,
        processed_ms: Some(7),
        committed_ms: 8,
        rows: None,
        archived: None,
        reason: None,
    }
}

/// Commits an epoch that reads files of these names, all of the same time.
fn read(checkpoint: &Checkpoint, epoch: u64, names: &[&str], modified_ms: i64, now_ms: i64) {
    let files = names.iter().map(|name| FileEntry { path: name.to_string(), size: 1, modified_ms }).collect();
    let inputs = vec![("0".to_owned(), EpochInput::Files(FilesInput::new(files)))];
    let intent = Intent {
        epoch,
        timestamp_ms: 0,
        inputs: inputs.clone(),
        fingerprint: String::new(),
        statics: BTreeMap::new(),
        watermark: Default::default(),
    };
    assert!(checkpoint.begin(&intent, checkpoint.ledger().alterations()).unwrap());
    let EpochInput::Files(input) = &inputs[0].1 else { panic!() };
    let ledger = input.ledger_entries("0", epoch, 0, now_ms);
    let record = EpochRecord { epoch, ..EpochRecord::default() };
    checkpoint
        .commit(EpochCommit {
            record,
            inputs,
            ledger,
            positions: Vec::new(),
            state: Vec::new(),
            joins: Vec::new(),
            sink: Vec::new(),
        })
        .unwrap();
}

fn paths(entries: impl Iterator<Item = Result<LedgerEntry>>) -> Vec<String> {
    entries.map(|entry| entry.unwrap().path).collect()
}

#[test]
fn entries_come_back_as_they_were_written() {
    for (at, state) in
        [FileState::Ingested, FileState::SkippedExisting, FileState::Skipped, FileState::Corrupt, FileState::Vanished]
            .into_iter()
            .enumerate()
    {
        let mut one = entry("/a/ä.json", state);
        one.epoch = (at % 2 == 0).then_some(9);
        one.processed_ms = (at % 2 == 1).then_some(-9);
        one.rows = (at > 1).then_some(0);
        one.archived = [
            None,
            Some(Archived { at_ms: 4, moved_to: None }),
            Some(Archived { at_ms: 5, moved_to: Some("/b/ä.json".into()) }),
        ]
        .into_iter()
        .nth(at % 3)
        .unwrap();
        one.reason = (at > 2).then(|| "because".into());
        assert_eq!(entry::decode("0", one.path.clone(), &entry::encode(&one)), Some(one));
    }
    let bytes = entry::encode(&entry("a", FileState::Corrupt));
    for length in 0..bytes.len() {
        assert_eq!(entry::decode("0", "a".into(), &bytes[..length]), None, "{length}");
    }
}

#[test]
fn entries_of_version_1_are_read() {
    // Written by the first release: size 10, time 5, epoch 3, discovery 6, commit 8, rows not counted.
    let numbers = |epoch: u64| [10, 5, epoch, 6, 8, u64::MAX].map(u64::to_le_bytes).concat();
    let old = |epoch| entry::decode("0", "a".into(), &[&[1], &numbers(epoch)[..]].concat()).unwrap();
    assert_eq!(old(3), LedgerEntry { processed_ms: None, ..entry("a", FileState::Ingested) });
    let skipped = LedgerEntry { epoch: None, processed_ms: None, ..entry("a", FileState::SkippedExisting) };
    assert_eq!(old(u64::MAX), skipped);
    assert_eq!(entry::decode("0", "a".into(), &[3, 0, 0]), None);
}

#[test]
fn files_are_forgotten_and_kept_out() {
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
    let open = || Checkpoint::on(store.clone(), "q".into(), "here").unwrap();
    let checkpoint = open();
    read(&checkpoint, 0, &["a", "b"], 5, 8);
    let ledger = checkpoint.ledger();
    assert!(matches!(checkpoint.forget_file("0", "c", false), Ok(Forgetting::Unknown)));
    assert!(matches!(checkpoint.forget_file("0", "a", false), Ok(Forgetting::Done(None))));
    assert!(matches!(checkpoint.skip_file(&[entry("b", FileState::Skipped)]), Err(Altering::Read(0))));
    let unseen = LedgerEntry { epoch: None, ..entry("c", FileState::Skipped) };
    assert!(checkpoint.skip_file(std::slice::from_ref(&unseen)).is_ok());
    assert_eq!(ledger.take_alterations("0"), [Alteration::Forgotten("a".into()), Alteration::Skipped("c".into())]);
    assert_eq!((ledger.alterations(), ledger.take_alterations("0")), (2, Vec::new()));
    let again = open();
    assert_eq!((paths(again.ledger().iter("0")), again.ledger().len("0")), (vec!["b".to_owned(), "c".into()], 2));
    assert_eq!(again.ledger().entry("0", "c").unwrap(), Some(unseen));
}

#[test]
fn a_file_that_an_epoch_reads_is_not_altered_and_an_altered_choice_is_made_again() {
    let checkpoint = Checkpoint::in_memory().unwrap();
    let files = vec![FileEntry { path: "a".into(), size: 1, modified_ms: 1 }];
    let inputs = vec![("0".to_owned(), EpochInput::Files(FilesInput::new(files)))];
    let intent = Intent {
        epoch: 0,
        timestamp_ms: 0,
        inputs,
        fingerprint: String::new(),
        statics: BTreeMap::new(),
        watermark: Default::default(),
    };
    let before = checkpoint.ledger().alterations();
    assert!(checkpoint.skip_file(&[entry("x", FileState::Skipped)]).is_ok());
    assert!(!checkpoint.begin(&intent, before).unwrap(), "something was altered since the choice");
    assert!(checkpoint.begin(&intent, checkpoint.ledger().alterations()).unwrap());
    assert!(matches!(checkpoint.skip_file(&[entry("a", FileState::Skipped)]), Err(Altering::Running(0))));
    assert!(matches!(checkpoint.forget_file("0", "a", false), Err(Altering::Running(0))));
}

#[test]
fn vanished_files_are_remarks_until_they_are_read() {
    let checkpoint = Checkpoint::in_memory().unwrap();
    let ledger = checkpoint.ledger();
    let mut batch = Batch::default();
    let counted = ledger.write_into(&[entry("a", FileState::Vanished), entry("b", FileState::Ingested)], &mut batch);
    ledger.store.write(batch, true).unwrap();
    ledger.apply(counted.unwrap());
    assert_eq!((paths(ledger.iter("0")), paths(ledger.remarks("0"))), (vec!["b".to_owned()], vec!["a".to_owned()]));
    assert_eq!(ledger.contains_sorted("0", &["a", "b"]).unwrap(), [false, true]);
    read(&checkpoint, 0, &["a"], 5, 8);
    assert_eq!((ledger.len("0"), ledger.remarks("0").count()), (2, 0));
}

#[test]
fn the_time_of_the_newest_file_is_kept_and_older_files_are_forgotten() {
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
    let checkpoint = Checkpoint::on(store.clone(), "q".into(), "here").unwrap();
    read(&checkpoint, 0, &["a", "b"], 100, 0);
    read(&checkpoint, 1, &["c"], 50, 0);
    assert!(checkpoint.skip_file(&[LedgerEntry { modified_ms: 1, ..entry("s", FileState::Skipped) }]).is_ok());
    let ledger = Checkpoint::on(store, "q".into(), "here").unwrap().ledger();
    assert_eq!(ledger.newest_ms("0"), Some(100));
    assert_eq!(ledger.forget_older("0", "", 60).unwrap(), 1);
    assert_eq!((paths(ledger.iter("0")), ledger.len("0")), (vec!["a".to_owned(), "b".into(), "s".into()], 3));
}

#[test]
fn what_is_as_old_as_what_was_forgotten_counts_as_read() {
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
    let open = || Checkpoint::on(store.clone(), "q".into(), "here").unwrap();
    let checkpoint = open();
    read(&checkpoint, 0, &["/in/a", "/other/a"], 50, 0);
    read(&checkpoint, 1, &["/in/b"], 100, 0);
    assert!(!checkpoint.ledger().ages("0").forgets(), "nothing was forgotten");
    assert_eq!(checkpoint.ledger().forget_older("0", "/in/", 60).unwrap(), 1);
    assert_eq!(checkpoint.ledger().forget_older("0", "/in/", 40).unwrap(), 0);
    let ledger = open().ledger();
    let ages = ledger.ages("0");
    assert_eq!((ages.newest_ms, ledger.aged_ms("0")), (Some(100), Some(40)));
    let forgotten = |path: &str, ms| ages.is_forgotten(path, ms);
    assert!(forgotten("/in/a", 50) && forgotten("/in/late", 59) && !forgotten("/in/a", 60), "the line stays");
    assert!(!forgotten("/other/late", 50), "nothing was forgotten there");
    assert!(ledger.entry("0", "/other/a").unwrap().is_some());
    // A statement can have it read all the same.
    assert!(matches!(open().forget_file("0", "/in/late", true), Ok(Forgetting::Done(None))));
    let checkpoint = open();
    assert!(checkpoint.ledger().ages("0").is_wanted("/in/late") && !ages.is_wanted("/in/late"));
    read(&checkpoint, 2, &["/in/late"], 50, 0);
    assert!(checkpoint.ledger().wanted("0").is_empty() && open().ledger().wanted("0").is_empty());
}

#[test]
fn a_file_that_is_to_be_read_again_is_wanted_until_it_is_read_or_gone() {
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
    let open = || Checkpoint::on(store.clone(), "q".into(), "here").unwrap();
    let checkpoint = open();
    read(&checkpoint, 0, &["a", "b", "c"], 5, 8);
    for path in ["a", "b", "c"] {
        assert!(matches!(checkpoint.forget_file("0", path, false), Ok(Forgetting::Done(None))));
    }
    let wanted = |checkpoint: &Checkpoint| checkpoint.ledger().wanted("0").iter().cloned().collect::<Vec<_>>();
    assert_eq!((wanted(&checkpoint), wanted(&open())), (vec!["a".into(), "b".into(), "c".into()], wanted(&checkpoint)));
    read(&checkpoint, 1, &["b"], 5, 9);
    checkpoint.ledger().give_up("0", &["c".to_owned(), "x".to_owned()]).unwrap();
    assert_eq!((wanted(&checkpoint), wanted(&open())), (vec!["a".to_owned()], vec!["a".to_owned()]));
}

#[test]
fn a_file_that_is_being_cleaned_is_forgotten_afterwards() {
    let checkpoint = Checkpoint::in_memory().unwrap();
    let ledger = checkpoint.ledger();
    ledger.set_cleaning("0", true).unwrap();
    read(&checkpoint, 0, &["a", "b"], 1, 1000);
    assert!(matches!(checkpoint.forget_file("0", "b", false), Ok(Forgetting::Done(None))));
    let due = ledger.due("0", 2000, None, 10).unwrap();
    let claim = ledger.claim("0", due).unwrap();
    let claimed: Vec<&str> = claim.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(
        (claimed, &claim.passed),
        (vec!["a"], &vec![(1000, "b".to_owned())]),
        "what was forgotten is left alone"
    );
    let (told, heard) = std::sync::mpsc::channel();
    let statement = std::thread::spawn({
        let checkpoint = checkpoint.clone();
        move || {
            told.send(()).unwrap();
            checkpoint.forget_file("0", "a", false)
        }
    });
    heard.recv().unwrap();
    // The statement may not have got further than this; it must not be done whenever it is looked at.
    for _ in 0..1000 {
        std::thread::yield_now();
        assert!(!statement.is_finished(), "the file is being deleted");
    }
    let archived = Archived { at_ms: 3000, moved_to: None };
    ledger.cleaned("0", vec![((1000, "a".into()), Ok(archived.clone()))]).unwrap();
    drop(claim);
    assert!(matches!(statement.join().unwrap(), Ok(Forgetting::Done(Some(how))) if how == archived));
    assert!(ledger.entry("0", "a").unwrap().is_none());
}

#[test]
fn what_messages_told_is_kept_until_it_is_read() {
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
    let open = || Checkpoint::on(store.clone(), "q".into(), "here").unwrap();
    let checkpoint = open();
    let told =
        |path: &str, modified_ms, at_ms| Told { file: FileEntry { path: path.into(), size: 1, modified_ms }, at_ms };
    let ledger = checkpoint.ledger();
    ledger.listen("0");
    let all: Vec<Told> = ["a", "b", "c", "d"].map(|path| told(path, 5, 7)).into();
    ledger.keep_told("0", &all[..2]).unwrap();
    ledger.keep_told("0", &all[2..]).unwrap();
    assert_eq!(open().ledger().told("0", None, 9).unwrap(), all);
    assert_eq!(ledger.told("0", Some("b"), 1).unwrap(), [all[2].clone()]);
    // A newer version of `b` is told of while the former one is read.
    ledger.keep_told("0", &[told("b", 6, 8)]).unwrap();
    read(&checkpoint, 0, &["a", "b"], 5, 8);
    assert!(checkpoint.skip_file(&[LedgerEntry { modified_ms: 0, ..entry("c", FileState::Skipped) }]).is_ok());
    assert_eq!(open().ledger().told("0", None, 9).unwrap(), [told("b", 6, 8), told("d", 5, 7)]);
    ledger.drop_told("0", &["b".to_owned()]).unwrap();
    assert_eq!(ledger.told("0", None, 9).unwrap().len(), 1);
    ledger.drop_all_told("0").unwrap();
    assert_eq!((ledger.told("0", None, 9).unwrap(), ledger.len("0")), (Vec::new(), 3), "the files stay known");
}

#[test]
fn files_wait_to_be_cleaned_in_the_order_of_their_commits() {
    let checkpoint = Checkpoint::in_memory().unwrap();
    let ledger = checkpoint.ledger();
    read(&checkpoint, 0, &["b"], 1, 1000);
    ledger.set_cleaning("0", true).unwrap();
    read(&checkpoint, 1, &["a", "c"], 1, 2000);
    let due = |until| ledger.due("0", until, None, 10).unwrap().into_iter().map(|(_, path)| path).collect::<Vec<_>>();
    assert_eq!(
        (due(999).len(), due(1000), due(2000)),
        (0, vec!["b".to_owned()], vec!["b".into(), "a".into(), "c".into()])
    );
    assert_eq!(ledger.due("0", 2000, Some(&(2000, "a".into())), 10).unwrap(), [(2000, "c".to_owned())]);
    let archived = Archived { at_ms: 3000, moved_to: Some("/x".into()) };
    let left = Err("changed".to_owned());
    ledger.cleaned("0", vec![((1000, "b".into()), Ok(archived.clone())), ((2000, "a".into()), left)]).unwrap();
    assert_eq!(ledger.entry("0", "b").unwrap().unwrap().archived, Some(archived));
    assert_eq!(ledger.entry("0", "a").unwrap().unwrap().reason.as_deref(), Some("changed"));
    assert_eq!((due(2000), ledger.first_to_clean("0").unwrap()), (vec!["c".to_owned()], Some(2000)));
    ledger.set_cleaning("0", false).unwrap();
    assert_eq!(ledger.first_to_clean("0").unwrap(), None);
    ledger.set_cleaning("0", true).unwrap();
    assert_eq!(due(2000), ["a", "c"], "what was not cleaned waits again");
}
