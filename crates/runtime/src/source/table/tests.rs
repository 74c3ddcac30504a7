//! A table followed: every row once, in order, whatever restarts; and what a stream does not pass.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use alluvium_parser::Span;
use alluvium_planner::options::{EventTimeOptions, TableStreamOptions};
use alluvium_planner::relation::TableSpec;
use arrow::datatypes::{DataType, Field, Schema};

use super::*;
use crate::table::actions::{self, Action};
use crate::table::testing::{batch, keys_of, new_table, rows, stream, table};
use crate::table::{Log, Operation, append, create};

fn options() -> TableStreamOptions {
    TableStreamOptions {
        max_files_per_trigger: None,
        max_bytes_per_trigger: None,
        starting_version: None,
        skip_change_commits: false,
        ignore_deletes: false,
        event_time: EventTimeOptions::default(),
    }
}

async fn spec(path: &Path, options: TableStreamOptions) -> SourceSpec {
    let table = TableSpec { name: "t".into(), location: path.to_string_lossy().into_owned(), options };
    SourceSpec {
        kind: SourceKind::Table(Arc::new(table)),
        title: "STREAM t".into(),
        span: Span::UNKNOWN,
        schema: Head::open(path).await.unwrap().schema(),
    }
}

async fn open(path: &Path, options: TableStreamOptions) -> TableSource {
    TableSource::open(&spec(path, options).await, None).await.unwrap()
}

/// One epoch: what it read.
async fn epoch(source: &mut TableSource) -> Option<Vec<i64>> {
    let input = source.next(true).await.unwrap()?;
    let counters = Arc::new(ReadCounters::default());
    let keys = keys_of(source.provider(&input, counters.clone()).await.unwrap()).await;
    assert_eq!(counters.rows.load(std::sync::atomic::Ordering::Relaxed), keys.len() as u64);
    source.committed(&input).await.unwrap();
    Some(keys)
}

async fn write(path: &Path, key: i64) {
    append(path, rows([key]), Operation::Write).await.unwrap();
}

#[tokio::test]
async fn the_table_then_its_changes_each_row_once() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), &[]).await;
    for key in 0..3 {
        write(dir.path(), key).await;
    }
    let mut source = open(dir.path(), TableStreamOptions { max_files_per_trigger: Some(2), ..options() }).await;
    // Files of one millisecond come in the order of their names, which are random.
    let mut keys = epoch(&mut source).await.unwrap();
    assert_eq!(keys.len(), 2);
    assert_eq!(source.backlog().files, 1);
    write(dir.path(), 3).await;
    write(dir.path(), 4).await;
    let next = epoch(&mut source).await.unwrap();
    assert_eq!((next.len(), next.contains(&3)), (2, true));
    keys.extend(next);
    keys.sort_unstable();
    assert_eq!(keys, [0, 1, 2, 3]);
    assert_eq!(epoch(&mut source).await.unwrap(), [4]);
    assert_eq!(epoch(&mut source).await, None);
}

#[tokio::test]
async fn it_goes_on_where_it_stood_wherever_that_was() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), &[]).await;
    let two = vec![stream(batch(0..40_000)), stream(batch(40_000..80_000))];
    append(dir.path(), two, Operation::Write).await.unwrap();
    let one = TableStreamOptions { max_files_per_trigger: Some(1), ..options() };
    let spec = spec(dir.path(), one).await;
    let mut position = None;
    let mut seen = Vec::new();
    for round in 0..6 {
        if round == 1 {
            // Two files in one commit: a position lies between them.
            let two = vec![stream(batch(80_000..120_000)), stream(batch(120_000..160_000))];
            append(dir.path(), two, Operation::Write).await.unwrap();
        }
        let mut source = TableSource::open(&spec, position.clone()).await.unwrap();
        let Some(input) = source.next(true).await.unwrap() else { continue };
        let EpochInput::Table(read) = &input else { unreachable!() };
        assert_eq!(read.files.len(), 1);
        position = Some(read.position());
        let text = serde_json::to_string(&input).unwrap();
        let again: EpochInput = serde_json::from_str(&text).unwrap();
        assert_eq!(again, input);
        seen.extend(keys_of(source.provider(&again, Arc::default()).await.unwrap()).await);
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..160_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_input_of_an_earlier_life_is_read_again_and_not_twice() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), &[]).await;
    write(dir.path(), 0).await;
    let spec = spec(dir.path(), options()).await;
    let mut first = TableSource::open(&spec, None).await.unwrap();
    let intent = first.next(true).await.unwrap().unwrap();
    drop(first);
    write(dir.path(), 1).await;
    // Nothing was committed, so the position is not known; what the table is now includes the second row.
    let mut second = TableSource::open(&spec, None).await.unwrap();
    assert_eq!(keys_of(second.provider(&intent, Arc::default()).await.unwrap()).await, [0]);
    second.committed(&intent).await.unwrap();
    assert_eq!(epoch(&mut second).await.unwrap(), [1]);
    assert_eq!(epoch(&mut second).await, None);
}

#[tokio::test]
async fn freezing_holds_the_end() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), &[]).await;
    let mut source = open(dir.path(), options()).await;
    write(dir.path(), 0).await;
    write(dir.path(), 1).await;
    source.freeze().await.unwrap();
    write(dir.path(), 2).await;
    assert_eq!(epoch(&mut source).await.unwrap(), [0, 1]);
    assert_eq!(epoch(&mut source).await, None);
    source.unfreeze();
    assert_eq!(epoch(&mut source).await.unwrap(), [2]);
}

#[tokio::test]
async fn starting_versions() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), &[]).await;
    for key in 1..4 {
        write(dir.path(), key).await;
    }
    let starting = |at| TableStreamOptions { starting_version: Some(at), ..options() };
    assert_eq!(epoch(&mut open(dir.path(), starting(StartingVersion::At(2))).await).await.unwrap(), [2, 3]);
    let mut latest = open(dir.path(), starting(StartingVersion::Latest)).await;
    assert_eq!(epoch(&mut latest).await, None);
    write(dir.path(), 4).await;
    assert_eq!(epoch(&mut latest).await.unwrap(), [4]);
    let spec = spec(dir.path(), starting(StartingVersion::At(9))).await;
    assert_eq!(TableSource::open(&spec, None).await.err().unwrap().diagnostic().code, "VERSION_NOT_FOUND");
}

#[tokio::test]
async fn bytes_end_an_epoch_with_the_file_that_crosses() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), &[]).await;
    for key in 0..4 {
        write(dir.path(), key).await;
    }
    let size = Head::open(dir.path()).await.unwrap().files().next().unwrap().size;
    let mut source = open(dir.path(), TableStreamOptions { max_bytes_per_trigger: Some(size + 1), ..options() }).await;
    assert_eq!(epoch(&mut source).await.unwrap().len(), 2);
    let all = source.next(false).await.unwrap().unwrap();
    assert_eq!(all.size().files, 2);
}

#[tokio::test]
async fn commits_that_take_rows_away_stop_the_stream_behind_what_came_before() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), &[]).await;
    let mut source = open(dir.path(), options()).await;
    let mut skipping = open(dir.path(), TableStreamOptions { skip_change_commits: true, ..options() }).await;
    let mut tolerant = open(dir.path(), TableStreamOptions { ignore_deletes: true, ..options() }).await;
    write(dir.path(), 1).await;
    append(dir.path(), rows([2]), Operation::Overwrite).await.unwrap();
    write(dir.path(), 3).await;
    assert_eq!(epoch(&mut source).await.unwrap(), [1]);
    let error = source.next(true).await.unwrap_err().diagnostic();
    assert_eq!(error.code, "DELTA_SOURCE_TABLE_IGNORE_CHANGES");
    assert!(
        error.message.contains("version 2") && error.message.contains("WRITE (mode: Overwrite"),
        "{}",
        error.message
    );
    assert!(error.help[0].contains("skipChangeCommits"));
    assert_eq!(epoch(&mut skipping).await.unwrap(), [1, 3]);
    assert_eq!(epoch(&mut tolerant).await.unwrap(), [1]);
    assert!(tolerant.next(true).await.is_err());

    append(dir.path(), Vec::new(), Operation::Truncate).await.unwrap();
    let starting = TableStreamOptions { starting_version: Some(StartingVersion::At(4)), ..options() };
    let mut source = open(dir.path(), starting.clone()).await;
    assert_eq!(source.next(true).await.unwrap_err().diagnostic().code, "DELTA_SOURCE_IGNORE_DELETE");
    let mut tolerant = open(dir.path(), TableStreamOptions { ignore_deletes: true, ..starting }).await;
    write(dir.path(), 5).await;
    assert_eq!(epoch(&mut tolerant).await.unwrap(), [5]);
}

#[tokio::test]
async fn rearranged_files_are_not_new_rows() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), &[]).await;
    write(dir.path(), 1).await;
    let mut source = open(dir.path(), options()).await;
    assert_eq!(epoch(&mut source).await.unwrap(), [1]);
    let head = Head::open(dir.path()).await.unwrap();
    let file = head.files().next().unwrap().clone();
    let mut remove = file.removed(0);
    remove.data_change = false;
    let moved = [Action::remove(remove), Action::add(AddFile { data_change: false, ..file })];
    let log = Log::of(dir.path());
    log.publish(log.prepare(&actions::render(&moved).unwrap()).unwrap(), 2).unwrap();
    assert_eq!(epoch(&mut source).await, None);
    write(dir.path(), 2).await;
    assert_eq!(epoch(&mut source).await.unwrap(), [2]);
}

#[tokio::test]
async fn another_table_a_gap_and_new_columns_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), &[]).await;
    write(dir.path(), 1).await;
    let spec = spec(dir.path(), options()).await;
    let mut source = TableSource::open(&spec, None).await.unwrap();
    let input = source.next(true).await.unwrap().unwrap();
    let EpochInput::Table(read) = &input else { unreachable!() };
    let position = read.position();
    source.committed(&input).await.unwrap();
    for key in 2..5 {
        write(dir.path(), key).await;
    }

    let mut metadata = Head::open(dir.path()).await.unwrap().metadata().clone();
    let wider = Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("v", DataType::Utf8, true),
        Field::new("w", DataType::Int32, true),
    ]);
    metadata.schema_string = table::schema::to_json(&wider).unwrap();
    let log = Log::of(dir.path());
    log.publish(log.prepare(&actions::render(&[Action::metadata(metadata)]).unwrap()).unwrap(), 5).unwrap();
    assert_eq!(epoch(&mut source).await.unwrap(), [2, 3, 4]);
    let error = source.next(true).await.unwrap_err().diagnostic();
    assert!(
        error.code == "DELTA_SCHEMA_CHANGED" && error.message.contains("column `w` was added"),
        "{}",
        error.message
    );
    // Opened again it knows the column and passes the same commit.
    let newer = SourceSpec { schema: Arc::new(wider), ..spec.clone() };
    let mut again = TableSource::open(&newer, Some(position.clone())).await.unwrap();
    assert_eq!(epoch(&mut again).await.unwrap(), [2, 3, 4]);
    assert_eq!(epoch(&mut again).await, None);

    table::write_log_checkpoint(dir.path(), 5).await.unwrap();
    for version in 0..4 {
        std::fs::remove_file(log.commit_path(version)).unwrap();
    }
    let error = TableSource::open(&newer, Some(position.clone())).await.err().unwrap().diagnostic();
    assert_eq!(error.code, "DELTA_LOG_FILE_NOT_FOUND_FOR_STREAMING_SOURCE");

    table::remove(dir.path()).await.unwrap();
    table(dir.path(), &[]).await;
    let error = TableSource::open(&newer, Some(position)).await.err().unwrap().diagnostic();
    assert_eq!(error.code, "DIFFERENT_DELTA_TABLE_READ_BY_STREAMING_SOURCE");
}

#[tokio::test]
async fn partition_columns_stand_where_the_table_has_them() {
    let dir = tempfile::tempdir().unwrap();
    let rows = batch([1, 2, 2]);
    create(dir.path(), &new_table(rows.schema().as_ref().clone(), &["k"], &[])).await.unwrap();
    append(dir.path(), vec![stream(rows)], Operation::Write).await.unwrap();
    let mut source = open(dir.path(), options()).await;
    let input = source.next(true).await.unwrap().unwrap();
    let provider = source.provider(&input, Arc::default()).await.unwrap();
    let context = datafusion::prelude::SessionContext::new();
    context.register_table("t", provider).unwrap();
    let batches =
        context.sql("SELECT *, k AS again FROM t WHERE k = 2 AND v = 'v2'").await.unwrap().collect().await.unwrap();
    let shown = arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string();
    assert_eq!(shown.matches("| 2 | v2 | 2     |").count(), 2, "{shown}");
}

#[tokio::test]
async fn a_thousand_commits_cost_as_much_per_epoch_as_ten() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), &[]).await;
    write(dir.path(), 0).await;
    let log = Log::of(dir.path());
    let commit = log.bytes(1).unwrap().unwrap();
    let mut costs = Vec::new();
    for total in [10, 1000] {
        let first = log.last_from(0).unwrap() + 1;
        for version in first..=total {
            std::fs::write(log.commit_path(version), &commit).unwrap();
        }
        let one = TableStreamOptions {
            max_files_per_trigger: Some(1),
            starting_version: Some(StartingVersion::Latest),
            ..options()
        };
        let mut source = open(dir.path(), one).await;
        let before = source.tail.log().lookups();
        for _ in 0..3 {
            assert!(source.next(true).await.unwrap().is_none());
        }
        let version = total + 1;
        std::fs::write(log.commit_path(version), &commit).unwrap();
        let input = source.next(true).await.unwrap().unwrap();
        source.committed(&input).await.unwrap();
        assert!(source.next(true).await.unwrap().is_none());
        costs.push(source.tail.log().lookups() - before);
    }
    assert_eq!(costs[0], costs[1]);
    assert!(costs[0] <= 8, "{costs:?}");
}

#[tokio::test]
async fn an_arrival_wakes_the_stream() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), &[]).await;
    let mut source = open(dir.path(), options()).await;
    source.changed().await;
    assert!(source.next(true).await.unwrap().is_none());
    let path = dir.path().to_owned();
    let writer = tokio::spawn(async move { write(&path, 1).await });
    // Far less than the polls it may take where there are no events.
    tokio::time::timeout(Duration::from_secs(20), async {
        while source.next(true).await.unwrap().is_none() {
            source.changed().await;
        }
    })
    .await
    .unwrap();
    writer.await.unwrap();
    assert_eq!(epoch(&mut source).await.unwrap(), [1]);
}
