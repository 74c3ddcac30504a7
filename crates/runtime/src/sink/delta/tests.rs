//! An epoch is written once, whatever happens in between.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use arrow::array::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;

use super::*;
use crate::table::testing::{batch, keys, rows, table};
use crate::table::{Log, append};

async fn sink(path: &Path, mode: OutputMode) -> DeltaSink {
    DeltaSink::open(path, "query-1", mode).await.unwrap()
}

/// A stream that commits something else before it gives its batch.
fn racing(
    path: &Path,
    batch: RecordBatch,
    other: impl std::future::Future<Output = ()> + Send + 'static,
) -> Vec<SendableRecordBatchStream> {
    let schema = batch.schema();
    let _ = path;
    let stream = futures::stream::once(async move {
        other.await;
        Ok(batch)
    });
    vec![Box::pin(RecordBatchStreamAdapter::new(schema, stream))]
}

#[tokio::test]
async fn twice_is_once() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), &[]).await;
    let mut first = sink(dir.path(), OutputMode::Append).await;
    assert_eq!(first.last_epoch().await.unwrap(), None);
    let written = first.write(0, rows([1, 2]), &|| None).await.unwrap();
    assert_eq!((written.rows, written.version), (2, Some(1)));
    let again = first.write(0, rows([1, 2]), &|| None).await.unwrap();
    assert_eq!((again.rows, again.version), (2, Some(1)));
    let mut restarted = sink(dir.path(), OutputMode::Append).await;
    assert_eq!(restarted.last_epoch().await.unwrap(), Some(0));
    assert_eq!(restarted.write(0, rows([1, 2]), &|| None).await.unwrap().version, Some(1));
    restarted.write(1, rows([3]), &|| None).await.unwrap();
    assert_eq!(keys(dir.path(), None).await, [1, 2, 3]);
    // Another stream has its own epochs.
    let mut other = DeltaSink::open(dir.path(), "query-2", OutputMode::Append).await.unwrap();
    other.write(0, rows([4]), &|| None).await.unwrap();
    assert_eq!(keys(dir.path(), None).await, [1, 2, 3, 4]);
}

#[tokio::test]
async fn complete_replaces_everything_in_one_commit() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), &[]).await;
    let mut sink = sink(dir.path(), OutputMode::Complete).await;
    for epoch in 0..5 {
        sink.write(epoch, rows(0..=epoch as i64), &|| None).await.unwrap();
        assert_eq!(keys(dir.path(), None).await.len(), epoch as usize + 1);
    }
    let info = Log::of(dir.path()).read(5).unwrap().unwrap().remove(0).commit_info.unwrap();
    assert_eq!(info["operation"], "STREAMING UPDATE");
    assert_eq!(
        info["operationParameters"],
        serde_json::json!({ "outputMode": "Complete", "queryId": "query-1", "epochId": "4" })
    );
    assert_eq!((&info["operationMetrics"]["numRemovedFiles"], &info["isBlindAppend"]), (&"1".into(), &false.into()));
    assert_eq!(info["readVersion"], 4);
}

#[tokio::test]
async fn an_append_in_between_is_kept_by_append_and_replaced_by_complete() {
    for (mode, expected) in [(OutputMode::Append, vec![1, 2, 3]), (OutputMode::Complete, vec![3])] {
        let dir = tempfile::tempdir().unwrap();
        table(dir.path(), &[]).await;
        let mut sink = sink(dir.path(), mode).await;
        sink.write(0, rows([1]), &|| None).await.unwrap();
        let path = dir.path().to_owned();
        let other = async move {
            append(&path, rows([2]), Operation::Write).await.unwrap();
        };
        let written = sink.write(1, racing(dir.path(), batch([3]), other), &|| None).await.unwrap();
        assert_eq!(written.version, Some(3));
        assert_eq!(keys(dir.path(), None).await, expected);
    }
}

#[tokio::test]
async fn a_second_process_with_the_same_epoch_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), &[]).await;
    let mut slow = sink(dir.path(), OutputMode::Append).await;
    let mut fast = sink(dir.path(), OutputMode::Append).await;
    let other = async move {
        fast.write(0, rows([1]), &|| None).await.unwrap();
    };
    let written = slow.write(0, racing(dir.path(), batch([1]), other), &|| None).await.unwrap();
    assert_eq!((written.rows, written.version), (1, Some(1)));
    assert_eq!(keys(dir.path(), None).await, [1]);
    let files = std::fs::read_dir(dir.path()).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_file()).count();
    assert_eq!(files, 1);
    // One that is further ahead fences.
    let mut ahead = sink(dir.path(), OutputMode::Append).await;
    let other = async move {
        ahead.write(1, rows([2]), &|| None).await.unwrap();
        ahead.write(2, rows([3]), &|| None).await.unwrap();
    };
    let error = slow.write(1, racing(dir.path(), batch([2]), other), &|| None).await.unwrap_err().diagnostic();
    assert_eq!(error.code, "STREAM_FENCED");
    assert_eq!(keys(dir.path(), None).await, [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_writers_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), &[]).await;
    let mut tasks = Vec::new();
    for writer in 0..4 {
        let path = dir.path().to_owned();
        tasks.push(tokio::spawn(async move {
            let mut sink = DeltaSink::open(&path, &format!("query-{writer}"), OutputMode::Append).await.unwrap();
            for epoch in 0..10 {
                sink.write(epoch, rows([writer * 10 + epoch as i64]), &|| None).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(keys(dir.path(), None).await, (0..40).collect::<Vec<_>>());
    let head = Head::open(dir.path()).await.unwrap();
    assert_eq!(head.version(), 40);
}

#[tokio::test]
async fn files_without_a_commit_are_nobodys() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), &[]).await;
    let sink_before = sink(dir.path(), OutputMode::Append).await;
    // As a process leaves it that is killed behind its data files, and one killed behind its prepared commit.
    let staged = Staged::write(sink_before.layout.clone(), rows([7])).await.unwrap();
    std::fs::write(Log::of(dir.path()).directory().join("_commit_dead.json.tmp"), b"{}").unwrap();
    assert_eq!(staged.files(), 1);
    drop(sink_before);
    let mut after = sink(dir.path(), OutputMode::Append).await;
    assert_eq!(after.last_epoch().await.unwrap(), None);
    after.write(0, rows([7]), &|| None).await.unwrap();
    assert_eq!(keys(dir.path(), None).await, [7]);
}

#[tokio::test]
async fn an_empty_epoch_leaves_the_table_alone_unless_it_empties_it() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), &[]).await;
    let mut appending = sink(dir.path(), OutputMode::Append).await;
    let written = appending.write(0, rows([]), &|| None).await.unwrap();
    assert_eq!((written.rows, written.version), (0, None));
    assert_eq!(appending.last_epoch().await.unwrap(), None);
    assert_eq!(appending.write(1, rows([7]), &|| None).await.unwrap().version, Some(1));
    let mut replacing = DeltaSink::open(dir.path(), "query-2", OutputMode::Complete).await.unwrap();
    assert_eq!(replacing.write(0, rows([]), &|| None).await.unwrap().version, Some(2));
    assert_eq!(replacing.last_epoch().await.unwrap(), Some(0));
    assert!(keys(dir.path(), None).await.is_empty());
}

#[tokio::test]
async fn an_epoch_that_is_there_is_not_written_again_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), &[]).await;
    let mut first = sink(dir.path(), OutputMode::Append).await;
    let mut second = sink(dir.path(), OutputMode::Append).await;
    assert!(!first.write(0, rows([1]), &|| None).await.unwrap().existed);
    assert!(second.write(0, rows([1]), &|| None).await.unwrap().existed);
    first.write(1, rows([2]), &|| None).await.unwrap();
    first.write(2, rows([3]), &|| None).await.unwrap();
    let error = second.write(1, rows([2]), &|| None).await.unwrap_err().diagnostic();
    assert_eq!(error.code, "STREAM_FENCED");
    assert_eq!(keys(dir.path(), None).await, [1, 2, 3]);
}

#[tokio::test]
async fn a_table_put_in_the_place_of_ours_is_not_written_to() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), &[]).await;
    let mut sink = sink(dir.path(), OutputMode::Append).await;
    sink.write(0, rows([1]), &|| None).await.unwrap();
    table::remove(dir.path()).await.unwrap();
    table(dir.path(), &[]).await;
    let error = sink.write(1, rows([2]), &|| None).await.unwrap_err().diagnostic();
    assert_eq!(error.code, "DIFFERENT_DELTA_TABLE");
    assert!(keys(dir.path(), None).await.is_empty());
}

#[tokio::test]
async fn an_epochs_cost_does_not_grow_with_the_log() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), &[("delta.checkpointInterval", "50")]).await;
    let mut sink = sink(dir.path(), OutputMode::Append).await;
    let mut most = 0;
    for epoch in 0..120 {
        let before = sink.head.log().lookups();
        sink.write(epoch, rows([epoch as i64]), &|| None).await.unwrap();
        most = most.max(sink.head.log().lookups() - before);
    }
    // Its own commit of the last epoch, then the missing next one, before writing and before publishing.
    assert!(most <= 3, "{most}");
    sink.settled().await;
    assert!(sink.head.log().announced_checkpoint().is_some());
    assert_eq!(keys(dir.path(), None).await.len(), 120);
    let mut reopened = DeltaSink::open(dir.path(), "query-1", OutputMode::Append).await.unwrap();
    assert_eq!(reopened.last_epoch().await.unwrap(), Some(119));
    assert_eq!(reopened.write(119, rows([119]), &|| None).await.unwrap().version, Some(120));
}

#[tokio::test]
async fn tables_with_rules_of_their_own_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), &[("delta.appendOnly", "true")]).await;
    sink(dir.path(), OutputMode::Append).await.write(0, rows([1]), &|| None).await.unwrap();
    let refused = |result: Result<DeltaSink>| result.err().unwrap().diagnostic();
    let error = refused(DeltaSink::open(dir.path(), "q", OutputMode::Complete).await);
    assert!(error.code == "TABLE_FEATURE" && error.message.contains("delta.appendOnly"));
    let checked = tempfile::tempdir().unwrap();
    table(checked.path(), &[("delta.constraints.c", "k > 0")]).await;
    let error = refused(DeltaSink::open(checked.path(), "q", OutputMode::Append).await);
    assert!(error.message.contains("checkConstraints"));
}

#[tokio::test]
async fn a_schema_change_in_between_fails_the_epoch_and_the_next_try_works() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), &[]).await;
    let mut sink = sink(dir.path(), OutputMode::Append).await;
    let mut metadata = sink.head.metadata().clone();
    let wider = arrow::datatypes::Schema::new(
        sink.schema()
            .fields()
            .iter()
            .cloned()
            .chain([std::sync::Arc::new(arrow::datatypes::Field::new("w", arrow::datatypes::DataType::Int32, true))])
            .collect::<Vec<_>>(),
    );
    metadata.schema_string = table::schema::to_json(&wider).unwrap();
    let path = dir.path().to_owned();
    let other = async move {
        let log = Log::of(&path);
        let bytes = table::actions::render(&[table::actions::Action::metadata(metadata)]).unwrap();
        log.publish(log.prepare(&bytes).unwrap(), 1).unwrap();
    };
    let error = sink.write(0, racing(dir.path(), batch([1]), other), &|| None).await.unwrap_err().diagnostic();
    assert_eq!(error.code, "TABLE_CHANGED");
    sink.write(0, rows([1]), &|| None).await.unwrap();
    assert_eq!(sink.schema().fields().len(), 3);
    assert_eq!(keys(dir.path(), None).await, [1]);
}

#[tokio::test]
async fn streams_that_live_for_one_epoch_get_checkpoints_of_the_log_too() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), &[("delta.checkpointInterval", "3")]).await;
    for epoch in 0..4 {
        sink(dir.path(), OutputMode::Append).await.write(epoch, rows([epoch as i64]), &|| None).await.unwrap();
    }
    let reopened = sink(dir.path(), OutputMode::Append).await;
    assert!(reopened.head.log().announced_checkpoint().is_some_and(|version| version >= 3));
    assert_eq!(keys(dir.path(), None).await, [0, 1, 2, 3]);
}
