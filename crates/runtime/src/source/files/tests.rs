//! The source as its callers see it: files in, rows and ledger entries out.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use alluvium_parser::{OptionEntry, RelationKind, Span, Text};
use alluvium_planner::relation::{SourceKind, SourceSpec};
use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt;

use super::{Context, FilesSource, ResolvedFiles, resolve, static_provider};
use crate::checkpoint::{Checkpoint, EpochCommit, FileState, Forgetting, Intent, LedgerEntry};
use crate::error::{Error, Result};
use crate::metrics::EpochRecord;
use crate::source::{Drift, EpochInput, ReadCounters, Source};

fn text(value: &str) -> Text {
    Text { value: value.to_owned(), span: Span::UNKNOWN }
}

fn relation(path: &Path, format: &str, options: &[(&str, &str)], streaming: bool) -> RelationKind {
    RelationKind::Files {
        path: text(path.to_str().unwrap()),
        format: Some(text(format)),
        options: options.iter().map(|(key, value)| OptionEntry { key: text(key), value: text(value) }).collect(),
        streaming,
        read_files: true,
    }
}

pub(super) async fn spec(path: &Path, format: &str, options: &[(&str, &str)]) -> Result<SourceSpec> {
    match resolve(&relation(path, format, options, true), Span::UNKNOWN, Context::default()).await? {
        ResolvedFiles::Ready(spec) => Ok(spec),
        ResolvedFiles::Waiting(waiting) => panic!("{} waits", waiting.title),
    }
}

pub(super) async fn json(path: &Path, options: &[(&str, &str)]) -> SourceSpec {
    let options: Vec<_> = options.iter().copied().chain([("schema", "a BIGINT, b STRING")]).collect();
    spec(path, "json", &options).await.unwrap()
}

/// A file with a modification time, so that the order is known.
pub(super) fn put(dir: &Path, name: &str, content: &str, seconds: u64) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, content).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)).unwrap();
}

async fn next(source: &mut FilesSource, limited: bool) -> Vec<String> {
    match source.next(limited).await.unwrap() {
        Some(EpochInput::Files(input)) => {
            input.files.iter().map(|file| file.path.rsplit('/').next().unwrap().to_owned()).collect()
        }
        Some(EpochInput::Table(_)) => panic!("a table"),
        None => Vec::new(),
    }
}

async fn commit(source: &mut FilesSource, checkpoint: &Checkpoint, epoch: u64) {
    let Some(input) = source.next(true).await.unwrap() else { panic!("nothing to commit") };
    commit_input(source, checkpoint, epoch, input).await;
}

pub(super) async fn commit_input(source: &mut FilesSource, checkpoint: &Checkpoint, epoch: u64, input: EpochInput) {
    let EpochInput::Files(files) = &input else { panic!("a table") };
    let inputs = vec![("0".to_owned(), input.clone())];
    checkpoint
        .write_intent(&Intent {
            epoch,
            timestamp_ms: 0,
            inputs: inputs.clone(),
            fingerprint: String::new(),
            statics: Default::default(),
            watermark: Default::default(),
        })
        .unwrap();
    let record = EpochRecord { epoch, ..EpochRecord::default() };
    let ledger = files.ledger_entries("0", epoch, 0, 0);
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
    source.committed(&input).await.unwrap();
}

pub(super) async fn rows(provider: Arc<dyn TableProvider>, sql: &str) -> Result<Vec<RecordBatch>> {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    context.register_table("t", provider)?;
    Ok(context.sql(sql).await?.collect().await?)
}

pub(super) async fn number(provider: Arc<dyn TableProvider>, sql: &str) -> i64 {
    let batches = rows(provider, sql).await.unwrap();
    batches[0].column(0).as_primitive::<Int64Type>().value(0)
}

pub(super) async fn bound(source: &FilesSource, input: &EpochInput) -> (Arc<dyn TableProvider>, Arc<ReadCounters>) {
    let counters = Arc::new(ReadCounters::default());
    (source.provider(input, counters.clone()).await.unwrap(), counters)
}

#[tokio::test]
async fn every_file_is_given_once_oldest_first_within_the_limits() {
    let dir = tempfile::tempdir().unwrap();
    for (name, seconds) in [("c.json", 1), ("a.json", 2), ("sub/b.json", 2), ("d.json", 0)] {
        put(dir.path(), name, "{\"a\":1}\n", seconds);
    }
    let checkpoint = Checkpoint::in_memory().unwrap();
    let spec = json(dir.path(), &[("maxFilesPerTrigger", "2")]).await;
    let mut source = FilesSource::open("0", &spec, checkpoint.ledger(), true).await.unwrap();
    assert_eq!(next(&mut source, true).await, ["d.json", "c.json"]);
    assert_eq!(next(&mut source, true).await, ["d.json", "c.json"], "nothing moves before the commit");
    assert_eq!(next(&mut source, false).await.len(), 4);
    assert_eq!(source.backlog().files, 4);
    commit(&mut source, &checkpoint, 0).await;
    put(dir.path(), "e.json", "{}", 9);
    assert_eq!(next(&mut source, true).await, ["a.json", "b.json"]);

    let mut again = FilesSource::open("0", &spec, checkpoint.ledger(), false).await.unwrap();
    commit(&mut again, &checkpoint, 1).await;
    assert_eq!(next(&mut again, true).await, ["e.json"]);
    commit(&mut again, &checkpoint, 2).await;
    put(dir.path(), "e.json", "{\"a\":2}", 10);
    assert!(next(&mut again, true).await.is_empty(), "a file is its path");
}

#[tokio::test]
async fn an_epoch_ends_with_the_file_that_crosses_the_byte_limit() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..5 {
        put(dir.path(), &format!("{i}.json"), &" ".repeat(100), i);
    }
    let spec = json(dir.path(), &[("maxBytesPerTrigger", "150")]).await;
    let mut source = FilesSource::open("0", &spec, Checkpoint::in_memory().unwrap().ledger(), true).await.unwrap();
    assert_eq!(next(&mut source, true).await, ["0.json", "1.json"]);
}

#[tokio::test]
async fn files_of_before_the_first_start_can_be_left_out_exactly_once() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "old.json", "{}", 0);
    let checkpoint = Checkpoint::in_memory().unwrap();
    let spec = json(dir.path(), &[("includeExistingFiles", "false")]).await;
    let mut source = FilesSource::open("0", &spec, checkpoint.ledger(), true).await.unwrap();
    assert!(source.next(true).await.unwrap().is_none(), "no epoch is needed to remember them");
    let old = dir.path().join("old.json").to_str().unwrap().to_owned();
    let noted = checkpoint.ledger().entry("0", &old).unwrap().unwrap();
    assert_eq!(
        (noted.state, noted.epoch, checkpoint.ledger().newest_ms("0")),
        (FileState::SkippedExisting, None, None)
    );
    put(dir.path(), "new.json", "{}", 1);
    // Started again before the first epoch: what came meanwhile is new.
    let mut again = FilesSource::open("0", &spec, checkpoint.ledger(), true).await.unwrap();
    assert_eq!(next(&mut again, true).await, ["new.json"]);
    commit(&mut again, &checkpoint, 0).await;
    assert!(again.next(true).await.unwrap().is_none());
    let mut again = FilesSource::open("0", &spec, checkpoint.ledger(), false).await.unwrap();
    assert!(again.next(true).await.unwrap().is_none());
}

#[tokio::test]
async fn intents_of_former_versions_name_files_that_are_not_to_be_read() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "old.json", "{}", 0);
    let path = dir.path().join("old.json").to_str().unwrap().to_owned();
    let stored = serde_json::json!({"files": {"files": [], "skipped": [{"path": path, "size": 2, "modified_ms": 5}]}});
    let input: EpochInput = serde_json::from_value(stored.clone()).unwrap();
    assert_eq!(serde_json::to_value(&input).unwrap(), stored);
    let checkpoint = Checkpoint::in_memory().unwrap();
    let spec = json(dir.path(), &[]).await;
    let mut source = FilesSource::open("0", &spec, checkpoint.ledger(), false).await.unwrap();
    commit_input(&mut source, &checkpoint, 0, input).await;
    assert!(source.next(true).await.unwrap().is_none());
}

#[tokio::test]
async fn frozen_sources_see_nothing_new() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "a.json", "{}", 0);
    let checkpoint = Checkpoint::in_memory().unwrap();
    let mut source = FilesSource::open("0", &json(dir.path(), &[]).await, checkpoint.ledger(), true).await.unwrap();
    source.freeze().await.unwrap();
    put(dir.path(), "b.json", "{}", 0);
    assert_eq!(next(&mut source, true).await, ["a.json"]);
    commit(&mut source, &checkpoint, 0).await;
    assert!(next(&mut source, true).await.is_empty());
    source.unfreeze();
    assert_eq!(next(&mut source, true).await, ["b.json"]);
}

/// A source whose watch runs and which has seen everything.
async fn watching(dir: &Path, checkpoint: &Checkpoint) -> FilesSource {
    let mut source = FilesSource::open("0", &json(dir, &[]).await, checkpoint.ledger(), true).await.unwrap();
    while source.watch().is_none() || source.relist {
        assert!(source.next(true).await.unwrap().is_none());
        source.changed().await;
    }
    source
}

#[tokio::test(flavor = "multi_thread")]
async fn an_arrival_wakes_at_once_and_is_found_without_listing() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::in_memory().unwrap();
    let mut source = watching(dir.path(), &checkpoint).await;
    for (epoch, name) in ["a.json", "b.json", "c.json"].iter().enumerate() {
        let base = dir.path().to_owned();
        let listed = source.listed.unwrap().0;
        let renamer = std::thread::spawn(move || {
            std::fs::write(base.join(".part"), "{}").unwrap();
            let at = Instant::now();
            std::fs::rename(base.join(".part"), base.join(name)).unwrap();
            at
        });
        let mut found = next(&mut source, true).await;
        while found.is_empty() {
            source.changed().await;
            found = next(&mut source, true).await;
        }
        let waited = renamer.join().unwrap().elapsed();
        assert_eq!(found, [*name]);
        assert!(waited < Duration::from_millis(500), "{waited:?}");
        assert_eq!(source.listed.unwrap().0, listed, "no listing was needed");
        commit(&mut source, &checkpoint, epoch as u64).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_begins_after_an_arrival_finds_it() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::in_memory().unwrap();
    let mut source = watching(dir.path(), &checkpoint).await;
    for epoch in 0..200 {
        let name = format!("{epoch}.json");
        std::fs::write(dir.path().join(&name), "{}").unwrap();
        assert_eq!(next(&mut source, true).await, [name]);
        commit(&mut source, &checkpoint, epoch).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_directories_are_watched_and_unfinished_files_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::in_memory().unwrap();
    let mut source = watching(dir.path(), &checkpoint).await;
    let mut open = std::fs::File::create(dir.path().join("open.json")).unwrap();
    open.write_all(b"{\"a\":").unwrap();
    std::fs::create_dir_all(dir.path().join("x/y")).unwrap();
    std::fs::write(dir.path().join("x/y/deep.json"), "{}").unwrap();
    std::fs::write(dir.path().join("x/_hidden.json"), "{}").unwrap();
    let mut found = next(&mut source, true).await;
    while found.is_empty() {
        source.changed().await;
        found = next(&mut source, true).await;
    }
    assert_eq!(found, ["deep.json"]);
    source.list(true).await.unwrap();
    assert_eq!(next(&mut source, true).await, ["deep.json"], "listings leave it alone too");
    open.write_all(b"1}\n").unwrap();
    drop(open);
    until_found(&mut source, 2).await;
    std::fs::hard_link(dir.path().join("open.json"), dir.path().join("linked.json")).unwrap();
    until_found(&mut source, 3).await;
}

/// Looks again at each sign of change until so many files wait; a sign may come after the first look.
async fn until_found(source: &mut FilesSource, files: usize) {
    while next(source, true).await.len() < files {
        source.changed().await;
    }
    assert_eq!(next(source, true).await.len(), files);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_goes_is_an_error_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("in");
    std::fs::create_dir(&inner).unwrap();
    let checkpoint = Checkpoint::in_memory().unwrap();
    let mut source = watching(&inner, &checkpoint).await;
    std::fs::remove_dir(&inner).unwrap();
    let error = source.next(true).await.unwrap_err().diagnostic();
    assert_eq!(error.code, "PATH_NOT_FOUND");
    assert!(error.message.contains("in`"), "{error}");
    let reopened = FilesSource::open("0", &json_of(&source), checkpoint.ledger(), false).await;
    assert_eq!(reopened.err().unwrap().diagnostic().code, "PATH_NOT_FOUND");
}

fn json_of(source: &FilesSource) -> SourceSpec {
    source.source_schema.clone()
}

#[tokio::test]
async fn rows_of_many_files_come_with_their_origin_and_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..300 {
        let lines: String = (0..10).map(|row| format!("{{\"a\":{row},\"b\":\"f{i}\",\"more\":{i}}}\n")).collect();
        put(dir.path(), &format!("{i:03}.json"), &lines, i);
    }
    let spec = spec(dir.path(), "json", &[("schema", "a BIGINT, b STRING"), ("rescuedDataColumn", "_rescued_data")])
        .await
        .unwrap();
    assert_eq!(
        spec.schema.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>(),
        ["a", "b", "_rescued_data", "_metadata"]
    );
    let mut source = FilesSource::open("0", &spec, Checkpoint::in_memory().unwrap().ledger(), true).await.unwrap();
    let input = source.next(true).await.unwrap().unwrap();
    assert_eq!(input.size().files, 300);
    for (sql, wanted) in [
        ("SELECT count(*) FROM t", 3000),
        ("SELECT sum(a) FROM t", 45 * 300),
        ("SELECT count(distinct b) FROM t", 300),
        ("SELECT count(*) FROM t WHERE _metadata['file_name'] = substr(b, 2) || '.json' OR length(b) < 4", 3000),
        ("SELECT count(distinct _metadata['file_path']) FROM t", 300),
        ("SELECT count(*) FROM t WHERE _rescued_data LIKE '%more%'", 3000),
        ("SELECT sum(_metadata['file_size'] - _metadata['file_block_length']) FROM t", 0),
    ] {
        let (provider, counters) = bound(&source, &input).await;
        assert_eq!(number(provider, sql).await, wanted, "{sql}");
        assert_eq!(counters.rows.load(Ordering::Relaxed), 3000, "{sql}");
    }
    let (provider, counters) = bound(&source, &input).await;
    number(provider, "SELECT count(_rescued_data) FROM t").await;
    assert_eq!(counters.rescued.load(Ordering::Relaxed), 3000);
}

#[tokio::test]
async fn a_limit_stops_reading() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..50 {
        put(dir.path(), &format!("{i:03}.json"), &"{\"a\":1}\n".repeat(1000), i);
    }
    let spec = json(dir.path(), &[]).await;
    let mut source = FilesSource::open("0", &spec, Checkpoint::in_memory().unwrap().ledger(), true).await.unwrap();
    let input = source.next(true).await.unwrap().unwrap();
    let (provider, counters) = bound(&source, &input).await;
    let batches = rows(provider, "SELECT a FROM t LIMIT 5").await.unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 5);
    assert!(counters.rows.load(Ordering::Relaxed) < 50_000);
}

#[tokio::test]
async fn large_files_are_cut_between_lines() {
    let dir = tempfile::tempdir().unwrap();
    let mut json_text = String::new();
    let mut csv_text = String::from("\n\na,b\n");
    for row in 0..200_000 {
        let filler = "x".repeat(row % 37);
        json_text.push_str(&format!("{{\"a\":{row},\"b\":\"{filler}\"}}\n"));
        csv_text.push_str(&format!("{row},{filler}\r\n"));
    }
    put(dir.path(), "in/a.json", json_text.trim_end(), 0);
    put(dir.path(), "in2/a.csv", csv_text.trim_end(), 0);
    for (sub, format) in [("in", "json"), ("in2", "csv")] {
        let spec = spec(&dir.path().join(sub), format, &[("schema", "a BIGINT, b STRING")]).await.unwrap();
        let mut source = FilesSource::open("0", &spec, Checkpoint::in_memory().unwrap().ledger(), true).await.unwrap();
        let input = source.next(true).await.unwrap().unwrap();
        for sql in ["SELECT count(distinct a) FROM t WHERE length(b) = a % 37 OR a % 37 = 0", "SELECT count(*) FROM t"]
        {
            let (provider, _) = bound(&source, &input).await;
            assert_eq!(number(provider, sql).await, 200_000, "{format}: {sql}");
        }
        let (provider, _) = bound(&source, &input).await;
        let plan = rows(provider, "EXPLAIN SELECT a FROM t").await.unwrap();
        let plan = arrow::util::pretty::pretty_format_batches(&plan).unwrap().to_string();
        assert!(
            plan.contains(&format!("FilesExec: format={format}, files=1,")) && plan.contains("partitions=2"),
            "{plan}"
        );
    }
}

/// Runs one partition of a scan to its end: its rows.
async fn partition(plan: &Arc<dyn ExecutionPlan>, at: usize, context: &SessionContext) -> Result<usize> {
    let mut stream = plan.execute(at, context.task_ctx())?;
    let mut rows = 0;
    while let Some(batch) = stream.next().await {
        rows += batch?.num_rows();
    }
    Ok(rows)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_of_a_file_that_is_replaced_between_them_do_not_mix() {
    let dir = tempfile::tempdir().unwrap();
    let text = |number: u64| format!("{{\"a\":{number},\"b\":\"{}\"}}\n", "x".repeat(80)).repeat(60_000);
    let relation = relation(dir.path(), "json", &[("schema", "a BIGINT, b STRING")], false);
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    for streamed in [true, false] {
        put(dir.path(), "a.json", &text(1), 0);
        let provider = match streamed {
            true => {
                let spec = json(dir.path(), &[]).await;
                let ledger = Checkpoint::in_memory().unwrap().ledger();
                let mut source = FilesSource::open("0", &spec, ledger, true).await.unwrap();
                let input = source.next(true).await.unwrap().unwrap();
                bound(&source, &input).await.0
            }
            false => static_provider(&relation, Span::UNKNOWN, Context::default()).await.unwrap(),
        };
        let plan = provider.scan(&context.state(), None, &[], None).await.unwrap();
        assert_eq!(plan.properties().output_partitioning().partition_count(), 2);
        assert!(partition(&plan, 0, &context).await.unwrap() > 10_000);
        // Of the same size and time: only the file itself is another one.
        put(dir.path(), "_b", &text(2), 0);
        std::fs::rename(dir.path().join("_b"), dir.path().join("a.json")).unwrap();
        let error = partition(&plan, 1, &context).await.unwrap_err().diagnostic();
        assert_eq!(error.code, "FILE_CHANGED", "{error}");
    }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    // One stored block: enough of gzip for a test without a compressor.
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    let length = content.len() as u16;
    out.extend(length.to_le_bytes());
    out.extend((!length).to_le_bytes());
    out.extend(content);
    let mut crc = !0u32;
    for byte in content {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    out.extend((!crc).to_le_bytes());
    out.extend(u32::from(length).to_le_bytes());
    out
}

/// A run of `input` ends because a file is not what it was; the input as it is now.
async fn chosen_again(source: &mut FilesSource, input: &EpochInput) -> EpochInput {
    let (provider, _) = bound(source, input).await;
    let error = rows(provider, "SELECT sum(a) FROM t").await.unwrap_err().diagnostic();
    assert_eq!(error.code, "FILE_CHANGED");
    match source.drift(input).await.unwrap() {
        Drift::Changed(now) => now,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_read_is_what_is_remembered_and_new_content_is_read_once() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "a.json", "{\"a\":1}", 1);
    put(dir.path(), "b.json", "{\"a\":10}", 1);
    let checkpoint = Checkpoint::in_memory().unwrap();
    let spec = json(dir.path(), &[("allowOverwrites", "true")]).await;
    let mut source = FilesSource::open("0", &spec, checkpoint.ledger(), true).await.unwrap();
    let Some(chosen) = source.next(true).await.unwrap() else { panic!() };
    put(dir.path(), "a.json", "{\"a\":200}", 5);
    let input = chosen_again(&mut source, &chosen).await;
    assert!(chosen.covers(&input) && chosen != input);
    let (provider, _) = bound(&source, &input).await;
    assert_eq!(number(provider, "SELECT sum(a) FROM t").await, 210);
    // A file that goes in a first run is an error still.
    std::fs::rename(dir.path().join("b.json"), dir.path().join("_b")).unwrap();
    let (provider, _) = bound(&source, &input).await;
    assert_eq!(rows(provider, "SELECT sum(a) FROM t").await.unwrap_err().diagnostic().code, "FILE_VANISHED");
    std::fs::rename(dir.path().join("_b"), dir.path().join("b.json")).unwrap();
    commit_input(&mut source, &checkpoint, 0, input).await;
    let path = dir.path().join("a.json").to_str().unwrap().to_owned();
    let known = checkpoint.ledger().entry("0", &path).unwrap().unwrap();
    assert_eq!((known.size, known.modified_ms), (9, 1_700_000_005_000));
    assert!(next(&mut source, true).await.is_empty(), "it was read");
    put(dir.path(), "a.json", "{\"a\":3}", 6);
    assert_eq!(next(&mut source, true).await, ["a.json"]);
}

#[tokio::test]
async fn a_file_that_is_written_again_each_time_waits_for_another_epoch() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "a.json", "{\"a\":1}", 1);
    put(dir.path(), "b.json", "{\"a\":10}", 1);
    let checkpoint = Checkpoint::in_memory().unwrap();
    let spec = json(dir.path(), &[]).await;
    let mut source = FilesSource::open("0", &spec, checkpoint.ledger(), true).await.unwrap();
    source.freeze().await.unwrap();
    let Some(chosen) = source.next(true).await.unwrap() else { panic!() };
    let mut input = chosen.clone();
    for second in 2..6 {
        assert_eq!(input.size().files, 2);
        put(dir.path(), "a.json", "{\"a\":2}", second);
        input = chosen_again(&mut source, &input).await;
    }
    assert!(chosen.covers(&input) && !input.covers(&chosen) && input.size().files == 1);
    let (provider, _) = bound(&source, &input).await;
    assert_eq!(number(provider, "SELECT sum(a) FROM t").await, 10);
    commit_input(&mut source, &checkpoint, 0, input).await;
    assert!(next(&mut source, true).await.is_empty(), "not in this run");
    source.unfreeze();
    assert_eq!(next(&mut source, true).await, ["a.json"]);
}

#[tokio::test]
async fn state_is_not_made_of_other_content_than_the_table_has() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "a.json", "{\"a\":1}", 1);
    let checkpoint = Checkpoint::in_memory().unwrap();
    let spec = json(dir.path(), &[]).await;
    let mut source = FilesSource::open("0", &spec, checkpoint.ledger(), true).await.unwrap();
    let Some(input) = source.next(true).await.unwrap() else { panic!() };
    let EpochInput::Files(files) = &input else { panic!() };
    files.require_all();
    put(dir.path(), "a.json", "{\"a\":200}", 5);
    let (provider, _) = bound(&source, &input).await;
    let error = rows(provider, "SELECT sum(a) FROM t").await.unwrap_err().diagnostic();
    assert!(error.code == "FILE_CHANGED" && error.message.contains("not what it was"), "{error}");
    assert!(matches!(source.drift(&input).await.unwrap(), Drift::None));
    put(dir.path(), "a.json", "{\"a\":1}", 9);
    let (provider, _) = bound(&source, &input).await;
    assert_eq!(number(provider, "SELECT sum(a) FROM t").await, 1, "it was put back");
}

#[tokio::test]
async fn a_torn_archive_stops_the_run_and_can_be_replaced_or_removed() {
    let dir = tempfile::tempdir().unwrap();
    let whole = gzip(b"{\"a\":1}\n{\"a\":2}\n");
    put(dir.path(), "good.json", "{\"a\":40}\n", 0);
    put(dir.path(), "torn.json.gz", "", 1);
    std::fs::write(dir.path().join("torn.json.gz"), &whole[..whole.len() - 12]).unwrap();
    let checkpoint = Checkpoint::in_memory().unwrap();
    let spec = json(dir.path(), &[]).await;
    let mut source = FilesSource::open("0", &spec, checkpoint.ledger(), true).await.unwrap();
    let input = source.next(true).await.unwrap().unwrap();
    let (provider, _) = bound(&source, &input).await;
    let error = rows(provider, "SELECT sum(a) FROM t").await.unwrap_err().diagnostic();
    assert_eq!(error.code, "FILE_CORRUPT");
    assert!(error.message.contains("torn.json.gz"), "{error}");

    std::fs::write(dir.path().join("torn.json.gz"), &whole).unwrap();
    let mut rerun = FilesSource::open("0", &spec, checkpoint.ledger(), false).await.unwrap();
    let input = chosen_again(&mut rerun, &input).await;
    let (provider, _) = bound(&rerun, &input).await;
    assert_eq!(number(provider, "SELECT sum(a) FROM t").await, 43);

    std::fs::remove_file(dir.path().join("torn.json.gz")).unwrap();
    *super::lock(&source.given) = match &input {
        EpochInput::Files(files) => files.files.clone(),
        EpochInput::Table(_) => panic!("a table"),
    };
    let (provider, _) = bound(&source, &input).await;
    let error = rows(provider, "SELECT sum(a) FROM t").await.unwrap_err().diagnostic();
    assert_eq!(error.code, "FILE_VANISHED");
    let (provider, _) = bound(&rerun, &input).await;
    assert_eq!(number(provider, "SELECT sum(a) FROM t").await, 40);
    let EpochInput::Files(files) = &input else { panic!() };
    let kept = files.ledger_entries("0", 0, 0, 0).into_iter().filter(|entry| !entry.state.comes_again());
    assert_eq!(kept.count(), 1, "its name may come again");
    files.require_all();
    let (provider, _) = bound(&rerun, &input).await;
    assert_eq!(rows(provider, "SELECT sum(a) FROM t").await.unwrap_err().diagnostic().code, "FILE_VANISHED");
}

async fn refusal(path: &Path, format: &str, options: &[(&str, &str)]) -> String {
    let refused: Result<SourceSpec, Error> = spec(path, format, options).await;
    refused.unwrap_err().diagnostic().code.to_owned()
}

#[tokio::test]
async fn what_cannot_work_is_refused_when_planned() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "a.json", "{\"a\":1}\n", 0);
    put(dir.path(), "delta/_delta_log/0.json", "{}", 0);
    let here = dir.path();
    for (path, format, options, code) in [
        (here.join("none"), "json", vec![], "PATH_NOT_FOUND"),
        (here.join("a.json"), "json", vec![], "STREAM_OF_ONE_FILE"),
        (here.join("delta"), "json", vec![], "PATH_IS_DELTA_TABLE"),
        (here.to_owned(), "jsno", vec![], "UNKNOWN_FORMAT"),
        (here.to_owned(), "avro", vec![], "FILE_CORRUPT"),
        (here.to_owned(), "parquet", vec![], "FILE_CORRUPT"),
        (here.to_owned(), "xml", vec![], "INVALID_OPTION"),
        (here.to_owned(), "json", vec![("multiLin", "true")], "UNKNOWN_OPTION"),
        (here.to_owned(), "json", vec![("multiLine", "maybe")], "INVALID_OPTION"),
        (here.to_owned(), "json", vec![("badRecordsPath", "/x"), ("mode", "PERMISSIVE")], "CONTRADICTORY_OPTIONS"),
        (
            here.to_owned(),
            "json",
            vec![("schema", "a INT"), ("schemaEvolutionMode", "addNewColumns")],
            "CF_ADD_NEW_NOT_SUPPORTED",
        ),
        (here.to_owned(), "json", vec![("format", "csv")], "INVALID_OPTION"),
        (here.to_owned(), "json", vec![("pathGlobFilter", "[")], "INVALID_OPTION"),
        (here.join("[z-a]"), "json", vec![], "INVALID_PATH"),
        ("ftp://bucket/x".into(), "json", vec![], "NOT_SUPPORTED_YET"),
    ] {
        assert_eq!(refusal(&path, format, &options).await, code, "{} {format} {options:?}", path.display());
    }
    let error = spec(here, "jsno", &[]).await.unwrap_err().diagnostic();
    assert!(error.help[0].contains("`json`"), "{error:?}");
}

fn columns(schema: &Schema) -> Vec<String> {
    schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect()
}

#[tokio::test]
async fn columns_are_learnt_hinted_or_remembered() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "1.json", "{\"id\":1,\"name\":\"x\",\"in\":{\"k\":1}}\n", 0);
    put(dir.path(), "2.json", "{\"id\":2.5,\"late\":true}\n", 1);
    let learnt = spec(dir.path(), "json", &[("schemaHints", "name BIGINT, extra INT, in.k DOUBLE")]).await.unwrap();
    let SourceKind::Files(files) = &learnt.kind else { panic!() };
    let wanted =
        ["id Float64", "name Int64", "in Struct(\"k\": Float64)", "late Boolean", "extra Int32", "_rescued_data Utf8"];
    assert_eq!(columns(&files.data_schema), wanted);
    let none = spec(dir.path(), "json", &[("schemaEvolutionMode", "none")]).await.unwrap();
    assert!(!columns(&none.schema).iter().any(|column| column.starts_with("_rescued")));

    put(dir.path(), "3.json", "{\"other\":1}\n", 2);
    let relation = relation(dir.path(), "json", &[], true);
    let context = Context { former: Some(files.data_schema.as_ref().clone()), ..Context::default() };
    let stored = resolve(&relation, Span::UNKNOWN, context).await.unwrap();
    let ResolvedFiles::Ready(stored) = stored else { panic!() };
    assert_eq!(columns(&stored.schema), columns(&learnt.schema));
}

#[tokio::test]
async fn without_files_and_columns_a_stream_waits() {
    let dir = tempfile::tempdir().unwrap();
    let relation = relation(dir.path(), "json", &[], true);
    let ResolvedFiles::Waiting(waiting) = resolve(&relation, Span::UNKNOWN, Context::default()).await.unwrap() else {
        panic!()
    };
    put(dir.path(), "a.json", "{\"a\":1}\n", 0);
    waiting.changed().await.unwrap();
    assert!(matches!(resolve(&relation, Span::UNKNOWN, Context::default()).await.unwrap(), ResolvedFiles::Ready(_)));
}

#[tokio::test]
async fn static_reads_list_anew_each_time() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "a.json", "{\"a\":1}\n", 0);
    let provider =
        static_provider(&relation(dir.path(), "json", &[], false), Span::UNKNOWN, Context::default()).await.unwrap();
    assert_eq!(number(provider.clone(), "SELECT sum(a) FROM t").await, 1);
    put(dir.path(), "b.json", "{\"a\":2}\n", 0);
    assert_eq!(number(provider, "SELECT sum(a) FROM t").await, 3);
    let one = RelationKind::Path { format: text("json"), path: text(dir.path().join("b.json").to_str().unwrap()) };
    assert_eq!(
        number(static_provider(&one, Span::UNKNOWN, Context::default()).await.unwrap(), "SELECT sum(a) FROM t").await,
        2
    );
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    let empty =
        static_provider(&relation(&dir.path().join("empty"), "json", &[], false), Span::UNKNOWN, Context::default())
            .await;
    assert_eq!(empty.unwrap_err().diagnostic().code, "UNABLE_TO_INFER_SCHEMA");
}

#[tokio::test]
async fn parquet_is_read_once_with_metadata() {
    let dir = tempfile::tempdir().unwrap();
    let context = SessionContext::new();
    for (name, sql) in [("a", "SELECT 1::BIGINT AS x"), ("b", "SELECT 2::BIGINT AS x, 'late' AS y")] {
        let frame = context.sql(sql).await.unwrap();
        let path = dir.path().join(format!("{name}.parquet"));
        frame.write_parquet(path.to_str().unwrap(), Default::default(), None).await.unwrap();
    }
    let relation = RelationKind::Path { format: text("parquet"), path: text(dir.path().to_str().unwrap()) };
    let provider = static_provider(&relation, Span::UNKNOWN, Context::default()).await.unwrap();
    assert_eq!(columns(&provider.schema())[..1], ["x Int64"]);
    assert_eq!(provider.schema().fields().last().unwrap().name(), "_metadata");
    assert_eq!(number(provider.clone(), "SELECT sum(x) FROM t").await, 3);
    assert_eq!(
        number(provider.clone(), "SELECT count(*) FROM t WHERE y IS NULL AND _metadata['file_name'] = 'a.parquet'")
            .await,
        1
    );
}

/// Prints how long many small files take; run with `--ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn small_files_measured() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..20_000 {
        let lines: String =
            (0..10).map(|row| format!("{{\"a\":{row},\"b\":\"file {i}\",\"c\":1.5,\"d\":\"2024-01-01\"}}\n")).collect();
        std::fs::write(dir.path().join(format!("{i:05}.json")), lines).unwrap();
    }
    let begun = Instant::now();
    let spec = spec(dir.path(), "json", &[]).await.unwrap();
    println!("resolve {:?}", begun.elapsed());
    let begun = Instant::now();
    let checkpoint = Checkpoint::in_memory().unwrap();
    let mut source = FilesSource::open("0", &spec, checkpoint.ledger(), true).await.unwrap();
    source.freeze().await.unwrap();
    println!("list {:?}", begun.elapsed());
    let begun = Instant::now();
    let input = source.next(false).await.unwrap().unwrap();
    println!("choose {:?}", begun.elapsed());
    let begun = Instant::now();
    let (provider, _) = bound(&source, &input).await;
    assert_eq!(number(provider, "SELECT count(b) FROM t").await, 200_000);
    println!("read {:?}", begun.elapsed());
    commit_input(&mut source, &checkpoint, 0, input).await;
    source.unfreeze();
    let begun = Instant::now();
    assert!(source.next(true).await.unwrap().is_none());
    println!("poll over known files {:?}", begun.elapsed());
}

#[tokio::test]
async fn overwritten_files_are_new_work_where_that_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "a.json", "{}", 1);
    put(dir.path(), "b.json", "{}", 1);
    let checkpoint = Checkpoint::in_memory().unwrap();
    let spec = json(dir.path(), &[("allowOverwrites", "true")]).await;
    let mut source = FilesSource::open("0", &spec, checkpoint.ledger(), true).await.unwrap();
    commit(&mut source, &checkpoint, 0).await;
    assert!(next(&mut source, true).await.is_empty());
    put(dir.path(), "a.json", "{\"a\":1}", 2);
    put(dir.path(), "b.json", "{\"a\":1}", 0);
    assert_eq!(next(&mut source, true).await, ["a.json"], "an older file is not new");

    // Overwritten again between the choice and the commit: its new content still waits.
    let Some(input) = source.next(true).await.unwrap() else { panic!() };
    put(dir.path(), "a.json", "{\"a\":2}", 3);
    source.freeze().await.unwrap();
    source.unfreeze();
    commit_input(&mut source, &checkpoint, 1, input).await;
    commit(&mut source, &checkpoint, 2).await;
    assert!(next(&mut source, true).await.is_empty());
    assert_eq!(checkpoint.ledger().len("0"), 2, "a path is counted once");
}

#[tokio::test]
async fn times_of_files_rule_them_out() {
    let dir = tempfile::tempdir().unwrap();
    for (name, seconds) in [("a.json", 0), ("b.json", 10), ("c.json", 20)] {
        put(dir.path(), name, "{}", seconds);
    }
    let checkpoint = Checkpoint::in_memory().unwrap();
    // 1_700_000_000 is 2023-11-14 22:13:20 UTC.
    let bounds = [("modifiedAfter", "2023-11-14 22:13:20"), ("modifiedBefore", "2023-11-14T23:13:40+01:00")];
    let mut source = FilesSource::open("0", &json(dir.path(), &bounds).await, checkpoint.ledger(), true).await.unwrap();
    assert_eq!(next(&mut source, true).await, ["b.json"]);

    let aged = json(dir.path(), &[("maxFileAge", "14 days"), ("maxFilesPerTrigger", "1")]).await;
    put(dir.path(), "new.json", "{}", 40 * 86_400);
    let mut source = FilesSource::open("1", &aged, checkpoint.ledger(), true).await.unwrap();
    assert_eq!(next(&mut source, false).await.len(), 4, "nothing was read: everything counts");
    assert_eq!(next(&mut source, true).await, ["a.json"], "oldest first, so that nothing is lost");
}

#[tokio::test]
async fn statements_about_files_reach_a_source_that_runs() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "a.json", "{}", 0);
    let checkpoint = Checkpoint::in_memory().unwrap();
    let mut source = FilesSource::open("0", &json(dir.path(), &[]).await, checkpoint.ledger(), true).await.unwrap();
    commit(&mut source, &checkpoint, 0).await;
    put(dir.path(), "b.json", "{}", 0);
    assert_eq!(next(&mut source, true).await, ["b.json"]);
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let skipped = LedgerEntry {
        path: path("b.json"),
        state: FileState::Skipped,
        ..checkpoint.ledger().entry("0", &path("a.json")).unwrap().unwrap()
    };
    assert!(checkpoint.skip_file(&[skipped]).is_ok());
    assert!(next(&mut source, true).await.is_empty());
    assert!(matches!(checkpoint.forget_file("0", &path("a.json"), false), Ok(Forgetting::Done(None))));
    tokio::time::timeout(Duration::from_secs(20), source.changed()).await.unwrap();
    assert_eq!(next(&mut source, true).await, ["a.json"]);
}

#[tokio::test]
async fn files_that_were_read_are_moved_once_and_changed_ones_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("in"), dir.path().join("done"));
    put(&from, "x/a.json", "{}", 0);
    put(&from, "b.json", "{}", 1);
    let options = [
        ("cleanSource", "MOVE"),
        ("cleanSource.moveDestination", to.to_str().unwrap()),
        ("cleanSource.retentionDuration", "0 seconds"),
    ];
    let checkpoint = Checkpoint::in_memory().unwrap();
    let spec = json(&from, &options).await;
    let mut source = FilesSource::open("0", &spec, checkpoint.ledger(), true).await.unwrap();
    let Some(input) = source.next(true).await.unwrap() else { panic!() };
    source.tidy().await.unwrap();
    assert!(from.join("x/a.json").exists(), "nothing is committed");
    put(&from, "b.json", "{\"a\":1}", 5);
    commit_input(&mut source, &checkpoint, 0, input).await;
    source.tidy().await.unwrap();
    assert!(!from.join("x/a.json").exists() && to.join("x/a.json").exists());
    assert!(from.join("b.json").exists(), "nobody has read what it holds now");
    let entry = |name: &str| checkpoint.ledger().entry("0", from.join(name).to_str().unwrap()).unwrap().unwrap();
    let moved_to = entry("x/a.json").archived.unwrap().moved_to.unwrap();
    assert_eq!(Path::new(&moved_to), to.join("x/a.json"));
    assert!(entry("b.json").reason.unwrap().contains("changed"));
    assert_eq!(checkpoint.ledger().first_to_clean("0").unwrap(), None);
}

#[tokio::test]
async fn an_age_that_becomes_greater_reads_nothing_again() {
    let dir = tempfile::tempdir().unwrap();
    let day = |days: u64| days * 86_400;
    for (name, days) in [("a.json", 0), ("b.json", 10), ("c.json", 40)] {
        put(dir.path(), name, "{}", day(days));
    }
    let checkpoint = Checkpoint::in_memory().unwrap();
    let aged = json(dir.path(), &[("maxFileAge", "14 days")]).await;
    let mut source = FilesSource::open("0", &aged, checkpoint.ledger(), true).await.unwrap();
    commit(&mut source, &checkpoint, 0).await;
    source.tidy().await.unwrap();
    assert_eq!(checkpoint.ledger().len("0"), 1, "two are forgotten");
    // One that comes late, and one that comes late and is younger than what was forgotten.
    put(dir.path(), "late.json", "{}", day(11));
    put(dir.path(), "young.json", "{}", day(27));
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    for options in [vec![("maxFileAge", "400 days")], vec![]] {
        let spec = json(dir.path(), &options).await;
        let mut source = FilesSource::open("0", &spec, checkpoint.ledger(), false).await.unwrap();
        assert_eq!(next(&mut source, true).await, ["young.json"], "{options:?}");
        let selection = super::selection(&relation(dir.path(), "json", &options, true), Span::UNKNOWN).unwrap();
        let mut reasons = Vec::new();
        super::statuses("0", Some(&checkpoint.ledger()), Some(&selection), &Default::default(), &mut |status| {
            reasons.push((status.path.rsplit('/').next().unwrap().to_owned(), status.state, status.reason));
            Ok(true)
        })
        .unwrap();
        let old = "as old as files that maxFileAge has forgotten, so it counts as read";
        for name in ["a.json", "b.json", "late.json"] {
            assert!(reasons.contains(&(name.to_owned(), "filtered", old.to_owned())), "{reasons:?}");
        }
    }
    // What a statement wants is read, however old it is.
    let mut source = FilesSource::open("0", &aged, checkpoint.ledger(), false).await.unwrap();
    assert!(matches!(checkpoint.forget_file("0", &path("late.json"), true), Ok(Forgetting::Done(None))));
    assert_eq!(next(&mut source, true).await, ["late.json", "young.json"]);
    commit(&mut source, &checkpoint, 1).await;
    source.tidy().await.unwrap();
    assert!(next(&mut source, true).await.is_empty());
}

#[tokio::test]
async fn a_move_that_a_crash_cut_short_leaves_one_copy() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("in"), dir.path().join("done"));
    put(&from, "a.json", "{}", 0);
    // The copy was made on the other device, and then the process ended.
    put(&to, "a.json", "{}", 3);
    let options = [
        ("cleanSource", "MOVE"),
        ("cleanSource.moveDestination", to.to_str().unwrap()),
        ("cleanSource.retentionDuration", "0 seconds"),
    ];
    let checkpoint = Checkpoint::in_memory().unwrap();
    let spec = json(&from, &options).await;
    let mut source = FilesSource::open("0", &spec, checkpoint.ledger(), true).await.unwrap();
    commit(&mut source, &checkpoint, 0).await;
    source.tidy().await.unwrap();
    assert_eq!(std::fs::read_dir(&to).unwrap().count(), 1);
    assert!(!from.join("a.json").exists());
    let entry = checkpoint.ledger().entry("0", from.join("a.json").to_str().unwrap()).unwrap().unwrap();
    assert_eq!(entry.archived.unwrap().moved_to.as_deref(), to.join("a.json").to_str());
}

#[tokio::test]
async fn what_could_not_be_read_is_passed_over_and_remembered_where_that_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["gone.json", "a.json"] {
        put(dir.path(), name, "{\"a\":1}\n", 0);
    }
    put(dir.path(), "torn.json.gz", "no gzip", 0);
    let checkpoint = Checkpoint::in_memory().unwrap();
    let spec = json(dir.path(), &[("ignoreMissingFiles", "true"), ("ignoreCorruptFiles", "true")]).await;
    let mut source = FilesSource::open("0", &spec, checkpoint.ledger(), true).await.unwrap();
    let Some(input) = source.next(true).await.unwrap() else { panic!() };
    std::fs::remove_file(dir.path().join("gone.json")).unwrap();
    let (table, _) = bound(&source, &input).await;
    assert_eq!(number(table, "SELECT count(*) FROM t").await, 1);
    commit_input(&mut source, &checkpoint, 0, input).await;
    let selection = super::selection(&relation(dir.path(), "json", &[], true), Span::UNKNOWN).unwrap();
    let states = || {
        let mut states = Vec::new();
        super::statuses("0", Some(&checkpoint.ledger()), Some(&selection), &Default::default(), &mut |status| {
            states.push((status.path.rsplit('/').next().unwrap().to_owned(), status.state));
            Ok(true)
        })
        .unwrap();
        states
    };
    let state = |name: &str, state| (name.to_owned(), state);
    let (a, torn) = (state("a.json", "ingested"), state("torn.json.gz", "corrupt"));
    assert_eq!(states(), [a.clone(), state("gone.json", "vanished"), torn.clone()]);
    put(dir.path(), "gone.json", "{}", 9);
    put(dir.path(), "_b.json", "{}", 9);
    assert_eq!(states(), [state("_b.json", "hidden"), a, state("gone.json", "waiting"), torn]);
    assert_eq!(next(&mut source, true).await, ["gone.json"]);
}
