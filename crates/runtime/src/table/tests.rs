//! Tables written here and read by delta-rs; histories; what is refused.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit};
use datafusion::prelude::SessionContext;

use super::testing::{batch, keys, new_table, rows, stream, table};
use super::*;

#[tokio::test]
async fn rows_come_back_at_every_version() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), &[]).await;
    assert_eq!(append(dir.path(), rows([1, 2]), Operation::Write).await.unwrap().version, Some(1));
    let two = vec![stream(batch([3])), stream(batch([4]))];
    assert_eq!(append(dir.path(), two, Operation::Write).await.unwrap().rows, 2);
    append(dir.path(), rows([9]), Operation::Overwrite).await.unwrap();
    assert_eq!(keys(dir.path(), None).await, [9]);
    assert_eq!(keys(dir.path(), Some(2)).await, [1, 2, 3, 4]);
    assert_eq!(latest_version(dir.path()).await.unwrap(), 3);
    let head = Head::open(dir.path()).await.unwrap();
    assert_eq!((head.version(), head.files().len()), (3, 1));
    // Little data of several streams is one file.
    assert_eq!(head.log().read(2).unwrap().unwrap().iter().filter(|action| action.add.is_some()).count(), 1);
    append(dir.path(), Vec::new(), Operation::Truncate).await.unwrap();
    assert!(keys(dir.path(), None).await.is_empty());
}

#[tokio::test]
async fn history_has_sparks_columns_and_reads_what_limit_needs() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), &[]).await;
    append(dir.path(), rows([1, 2]), Operation::Write).await.unwrap();
    let all = history(dir.path(), None).await.unwrap();
    let names: Vec<_> = all.schema().fields().iter().map(|field| field.name().clone()).collect();
    let expected = "version timestamp userId userName operation operationParameters job notebook clusterId readVersion \
                    isolationLevel isBlindAppend operationMetrics userMetadata engineInfo";
    assert_eq!(names, expected.split_whitespace().collect::<Vec<_>>());
    assert_eq!(all.column(0).as_primitive::<Int64Type>().values(), &[1, 0]);
    let operations: Vec<_> = all.column(4).as_string::<i32>().iter().flatten().collect();
    assert_eq!(operations, ["WRITE", "CREATE TABLE"]);
    let shown = arrow::util::pretty::pretty_format_columns("metrics", &[all.column(12).clone()]).unwrap().to_string();
    assert!(shown.contains("numOutputRows: 2"), "{shown}");
    assert_eq!(history(dir.path(), Some(1)).await.unwrap().num_rows(), 1);
    let detail = detail(dir.path()).await.unwrap();
    assert_eq!(detail.column_by_name("numFiles").unwrap().as_primitive::<Int64Type>().value(0), 1);
}

#[tokio::test]
async fn a_moment_has_its_version() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), &[]).await;
    let log = Log::of(dir.path());
    for version in 0..10 {
        let line = format!("{{\"commitInfo\":{{\"timestamp\":{}}}}}\n", 1000 + version * 10);
        std::fs::write(log.commit_path(version), line).unwrap();
    }
    for (at, version) in [(1000, 0), (1009, 0), (1010, 1), (1055, 5), (1090, 9)] {
        assert_eq!(version_at(dir.path(), at).await.unwrap(), version);
    }
    for outside in [999, 1091] {
        assert_eq!(version_at(dir.path(), outside).await.unwrap_err().diagnostic().code, "TIMESTAMP_OUT_OF_RANGE");
    }
}

fn mixed() -> RecordBatch {
    let stamps = TimestampMicrosecondArray::from(vec![Some(1_700_000_000_123_456), None, Some(0)]);
    RecordBatch::try_from_iter_with_nullable([
        ("Day", Arc::new(Date32Array::from(vec![Some(19_000), None, Some(19_000)])) as ArrayRef, true),
        ("at", Arc::new(stamps.clone().with_timezone("UTC")), true),
        ("local", Arc::new(stamps), true),
        ("x", Arc::new(Float64Array::from(vec![1.5, f64::NAN, -2.0])), true),
        ("ok", Arc::new(BooleanArray::from(vec![true, false, true])), true),
        ("k", Arc::new(Int64Array::from(vec![1, 2, 3])), true),
    ])
    .unwrap()
}

#[tokio::test]
async fn partitions_and_statistics_are_understood_by_delta_rs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a table with spaces %");
    let batch = mixed();
    create(&path, &new_table(batch.schema().as_ref().clone(), &["day", "at"], &[])).await.unwrap();
    append(&path, vec![stream(batch.clone())], Operation::Write).await.unwrap();
    let head = Head::open(&path).await.unwrap();
    assert_eq!(head.partition_columns(), ["Day", "at"]);
    assert_eq!(head.files().len(), 3);
    let context = SessionContext::new();
    context.register_table("t", provider(&path, None).await.unwrap()).unwrap();
    let count = async |filter: &str| {
        let found = context.sql(&format!("SELECT k FROM t WHERE {filter}")).await.unwrap().collect().await.unwrap();
        found.iter().map(RecordBatch::num_rows).sum::<usize>()
    };
    assert_eq!(count("\"Day\" = DATE '2022-01-08'").await, 2);
    assert_eq!(count("\"Day\" IS NULL AND at IS NULL").await, 1);
    assert_eq!(count("at = TIMESTAMP '2023-11-14T22:13:20.123456Z'").await, 1);
    assert_eq!(count("local >= TIMESTAMP '2023-11-14 22:13:20.123456'").await, 1);
    assert_eq!(count("local < TIMESTAMP '2023-11-14 22:13:20.123456'").await, 1);
    // NaN is greater than everything and is not in the file's maximum.
    assert_eq!(count("x > 100").await, 1);
    assert_eq!(count("ok").await, 2);
}

#[tokio::test]
async fn statistics_say_what_is_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let inner = Field::new("d", DataType::Decimal128(10, 2), true);
    let schema = Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("s", DataType::Struct(vec![inner.clone()].into()), true),
        Field::new("t", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
    ]);
    create(dir.path(), &new_table(schema.clone(), &[], &[])).await.unwrap();
    let decimals =
        arrow::array::Decimal128Array::from(vec![Some(1234), Some(-50), None]).with_precision_and_scale(10, 2).unwrap();
    let rows = RecordBatch::try_new(
        Arc::new(schema),
        vec![
            Arc::new(Int64Array::from(vec![Some(5), None, Some(7)])),
            Arc::new(arrow::array::StructArray::from(vec![(Arc::new(inner), Arc::new(decimals) as ArrayRef)])),
            Arc::new(TimestampMicrosecondArray::from(vec![0, 1, 2]).with_timezone("UTC")),
        ],
    )
    .unwrap();
    append(dir.path(), vec![stream(rows)], Operation::Write).await.unwrap();
    let actions = Log::of(dir.path()).read(1).unwrap().unwrap();
    let stats = actions.iter().find_map(|action| action.add.as_ref()?.stats.clone()).unwrap();
    let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
    assert_eq!(
        stats,
        serde_json::json!({
            "numRecords": 3,
            "minValues": { "k": 5, "s": { "d": -0.5 }, "t": "1970-01-01T00:00:00.000000Z" },
            "maxValues": { "k": 7, "s": { "d": 12.34 }, "t": "1970-01-01T00:00:00.000002Z" },
            "nullCount": { "k": 1, "s": { "d": 1 }, "t": 0 },
        })
    );
}

#[tokio::test]
async fn much_data_is_written_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), &[]).await;
    let streams = (0..3).map(|part| stream(batch(part * 40_000..(part + 1) * 40_000))).collect();
    assert_eq!(append(dir.path(), streams, Operation::Write).await.unwrap().rows, 120_000);
    assert_eq!(Head::open(dir.path()).await.unwrap().files().len(), 3);
    assert_eq!(keys(dir.path(), None).await.len(), 120_000);
}

#[tokio::test]
async fn creating_twice_and_bad_tables_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), &[]).await;
    let plain = Schema::new(vec![Field::new("k", DataType::Int64, true), Field::new("K", DataType::Int64, true)]);
    let code = async |path: &Path, new: &NewTable| create(path, new).await.unwrap_err().diagnostic().code;
    let one = Schema::new(vec![Field::new("k", DataType::Int64, true)]);
    assert_eq!(code(dir.path(), &new_table(one.clone(), &[], &[])).await, "TABLE_EXISTS");
    let other = dir.path().join("other");
    assert_eq!(code(&other, &new_table(plain, &[], &[])).await, "DUPLICATE_COLUMN");
    assert_eq!(code(&other, &new_table(one.clone(), &["x"], &[])).await, "UNRESOLVED_COLUMN");
    assert_eq!(code(&other, &new_table(one.clone(), &["k"], &[])).await, "INVALID_PARTITION_COLUMN");
    assert_eq!(code(&other, &new_table(one, &[], &[("delta.columnMapping.mode", "name")])).await, "TABLE_FEATURE");
    assert!(!exists(&other) && exists(dir.path()));
    let error = Head::open(&other).await.unwrap_err().diagnostic();
    assert_eq!(error.code, "TABLE_NOT_FOUND");
}

#[tokio::test]
async fn a_failed_write_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let schema = Schema::new(vec![Field::new("k", DataType::Int64, false)]);
    create(dir.path(), &new_table(schema, &[], &[])).await.unwrap();
    let bad = RecordBatch::try_from_iter_with_nullable([(
        "k",
        Arc::new(Int64Array::from(vec![Some(1), None])) as ArrayRef,
        true,
    )])
    .unwrap();
    let good: Vec<_> = (0..40_000).collect();
    let good = RecordBatch::try_from_iter([("k", Arc::new(Int64Array::from(good)) as ArrayRef)]).unwrap();
    let error = append(dir.path(), vec![stream(good), stream(bad)], Operation::Write).await.unwrap_err().diagnostic();
    assert!(error.code == "NOT_NULL_VIOLATION" && error.message.contains("`k`"));
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["_delta_log"]);
    assert_eq!(latest_version(dir.path()).await.unwrap(), 0);
}

#[tokio::test]
async fn replacing_and_removing_a_table() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), &[]).await;
    append(dir.path(), rows([1]), Operation::Write).await.unwrap();
    let before = Head::open(dir.path()).await.unwrap().table_id().to_owned();
    let schema = Schema::new(vec![Field::new("k", DataType::Timestamp(TimeUnit::Microsecond, None), true)]);
    replace(dir.path(), &new_table(schema, &[], &[]), Vec::new(), Operation::CreateOrReplaceTable).await.unwrap();
    let head = Head::open(dir.path()).await.unwrap();
    assert_ne!(head.table_id(), before);
    assert_eq!((head.files().len(), head.protocol().min_writer_version), (0, 7));
    assert_eq!(provider(dir.path(), None).await.unwrap().schema().fields().len(), 1);
    std::fs::write(dir.path().join("mine.txt"), b"x").unwrap();
    remove(dir.path()).await.unwrap();
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["mine.txt"]);
}

#[tokio::test]
async fn the_head_agrees_with_delta_rs_from_a_checkpoint_on() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), &[]).await;
    for key in 0..5 {
        append(dir.path(), rows([key]), if key == 2 { Operation::Overwrite } else { Operation::Write }).await.unwrap();
    }
    let replayed = Head::open(dir.path()).await.unwrap();
    write_log_checkpoint(dir.path(), 3).await.unwrap();
    assert_eq!(replayed.log().announced_checkpoint(), Some(3));
    for version in 0..3 {
        std::fs::remove_file(replayed.log().commit_path(version)).unwrap();
    }
    let loaded = Head::open(dir.path()).await.unwrap();
    assert_eq!(loaded.version(), replayed.version());
    assert_eq!((loaded.metadata(), loaded.protocol()), (replayed.metadata(), replayed.protocol()));
    let files = |head: &Head| {
        head.files()
            .map(|file| (file.path.clone(), file.size, file.modification_time))
            .collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(files(&loaded), files(&replayed));
    assert_eq!(keys(dir.path(), None).await, [2, 3, 4]);
    let left: Vec<_> = std::fs::read_dir(loaded.log().directory()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().ends_with(".tmp")), "{left:?}");
}

/// Adds as other writers encode their paths: less than this engine does, more than it does, and escaped by Hive before.
#[tokio::test]
async fn files_of_other_writers_go_when_they_are_replaced() {
    let paths = [
        ("a%20b%25c.parquet", "a b%c.parquet"),
        ("ü'é.parquet", "ü'é.parquet"),
        ("%61+b%26c.parquet", "a+b&c.parquet"),
        ("p=x%253Ay/f.parquet", "p=x%3Ay/f.parquet"),
    ];
    for with_checkpoint in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        table(dir.path(), &[]).await;
        append(dir.path(), rows([1]), Operation::Write).await.unwrap();
        let head = Head::open(dir.path()).await.unwrap();
        let own = head.files().next().unwrap().clone();
        let mut lines = String::new();
        for (written, on_disk) in paths {
            let to = dir.path().join(on_disk);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(dir.path().join(&own.path), to).unwrap();
            let add = actions::AddFile { path: written.to_owned(), ..own.clone() };
            lines.push_str(&serde_json::json!({ "add": add }).to_string());
            lines.push('\n');
        }
        std::fs::write(head.log().commit_path(2), lines).unwrap();
        if with_checkpoint {
            fence::write_log_checkpoint(dir.path(), 2).await.unwrap();
        }
        assert_eq!(keys(dir.path(), None).await, [1; 5]);
        let mut head = Head::open(dir.path()).await.unwrap();
        let mut found: Vec<_> = head.files().map(|add| add.path.clone()).collect();
        let mut expected: Vec<_> = paths.iter().map(|(written, _)| (*written).to_owned()).collect();
        expected.push(own.path.clone());
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "checkpoint: {with_checkpoint}");
        append(dir.path(), rows([9]), Operation::Overwrite).await.unwrap();
        // delta-rs holds a remove against the very bytes of an add's path.
        assert_eq!(keys(dir.path(), None).await, [9]);
        head.update().await.unwrap();
        assert_eq!(head.files().len(), 1);
    }
}
