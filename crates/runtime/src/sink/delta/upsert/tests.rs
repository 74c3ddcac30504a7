//! A table that is changed by key has, after every epoch, the row that each key got last; whatever is merged, rewritten,
//! crashed or done by others in between.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use alluvium_parser::OutputMode;
use alluvium_planner::plan::UpsertKey;
use arrow::array::{Int64Array, StringArray};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::SessionContext;

use super::super::DeltaSink;
use super::*;
use crate::checkpoint::{EpochCommit, Intent};
use crate::clock::EpochWatermark;
use crate::metrics::EpochRecord;
use crate::sink::{Sink, Written};
use crate::state::MemoryStore;
use crate::state::tests::Random;
use crate::table::testing::{new_table, stream};

/// Rows by key: (p, k) → v.
type Model = BTreeMap<(String, i64), i64>;

fn result_schema() -> Schema {
    Schema::new(vec![
        Field::new("v", DataType::Int64, true),
        Field::new("p", DataType::Utf8, true),
        Field::new("k", DataType::Int64, true),
    ])
}

fn group(k: i64) -> String {
    format!("p{}", k % 3)
}

fn rows_of(model: &Model, keys: &[i64]) -> RecordBatch {
    let rows: Vec<_> = keys.iter().filter_map(|k| Some((model.get(&(group(*k), *k))?, group(*k), *k))).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| *row.0))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1.as_str()))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.2))),
    ];
    RecordBatch::try_new(Arc::new(result_schema()), columns).unwrap()
}

/// Key columns as the aggregate has them: (k, p).
fn touched_of(keys: &[i64]) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([
        ("k", Arc::new(Int64Array::from(keys.to_vec())) as ArrayRef, true),
        ("p", Arc::new(StringArray::from_iter_values(keys.iter().map(|k| group(*k)))) as ArrayRef, true),
    ])
    .unwrap()
}

struct Target {
    dir: tempfile::TempDir,
    store: Arc<MemoryStore>,
    checkpoint: Checkpoint,
    sink: DeltaSink,
    epoch: u64,
}

impl Target {
    async fn new(partitioned: bool, vectors: bool) -> Target {
        let dir = tempfile::tempdir().unwrap();
        let vectors = if vectors { "true" } else { "false" };
        let properties = &[("delta.enableDeletionVectors", vectors), ("delta.checkpointInterval", "7")];
        let partition_columns: &[&str] = if partitioned { &["p"] } else { &[] };
        table::create(dir.path(), &new_table(result_schema(), partition_columns, properties)).await.unwrap();
        let store = Arc::new(MemoryStore::default());
        let (checkpoint, sink) = Target::open(&store, dir.path()).await;
        Target { dir, store, checkpoint, sink, epoch: 0 }
    }

    async fn open(store: &Arc<MemoryStore>, path: &Path) -> (Checkpoint, DeltaSink) {
        let checkpoint = Checkpoint::on(store.clone(), "query".into(), "test").unwrap();
        let upsert = Upsert {
            keys: vec![
                UpsertKey { column: 2, group: 0, part: KeyPart::Whole },
                UpsertKey { column: 1, group: 1, part: KeyPart::Whole },
            ],
            filtered: true,
            time: None,
        };
        let mut sink = DeltaSink::open(path, "query", OutputMode::Update).await.unwrap();
        sink.upserts = Some(Upserts::open(&upsert, &result_schema(), &checkpoint, 1 << 14).unwrap());
        (checkpoint, sink)
    }

    async fn restart(&mut self) {
        (self.checkpoint, self.sink) = Target::open(&self.store, self.dir.path()).await;
    }

    async fn write(&mut self, model: &Model, keys: &[i64]) -> Result<Written> {
        let batch = rows_of(model, keys);
        // Two streams, each of several batches.
        let half = batch.num_rows() / 2;
        let streams = [batch.slice(0, half), batch.slice(half, batch.num_rows() - half)].map(|part| {
            let parts: Vec<_> =
                (0..part.num_rows()).step_by(7).map(|at| Ok(part.slice(at, 7.min(part.num_rows() - at)))).collect();
            Box::pin(RecordBatchStreamAdapter::new(part.schema(), futures::stream::iter(parts)))
                as SendableRecordBatchStream
        });
        let touched = touched_of(keys);
        self.sink.write(self.epoch, streams.into(), &|| Some((touched.clone(), None))).await
    }

    fn intend(&self) {
        let intent = Intent {
            epoch: self.epoch,
            timestamp_ms: 0,
            inputs: Vec::new(),
            fingerprint: String::new(),
            statics: Default::default(),
            watermark: EpochWatermark::default(),
        };
        self.checkpoint.write_intent(&intent).unwrap();
    }

    fn commit(&mut self) {
        let SinkCommit { state, values } = self.sink.take_commit();
        let record = EpochRecord { epoch: self.epoch, ..EpochRecord::default() };
        let state = state.into_iter().collect();
        let (inputs, ledger, positions, joins) = Default::default();
        self.checkpoint.commit(EpochCommit { record, inputs, ledger, positions, state, joins, sink: values }).unwrap();
        self.epoch += 1;
    }

    async fn run(&mut self, model: &Model, keys: &[i64]) -> Written {
        self.intend();
        let written = self.write(model, keys).await.unwrap();
        self.commit();
        written
    }

    /// The rows that readers see, and how many data files and dead rows they come from.
    async fn read(&self) -> Model {
        let context = SessionContext::new();
        context.register_table("t", table::provider(self.dir.path(), None).await.unwrap()).unwrap();
        let batches = context.sql("SELECT p, k, v FROM t").await.unwrap().collect().await.unwrap();
        let mut model = Model::new();
        for batch in batches {
            let p = cast(batch.column(0), &DataType::Utf8).unwrap();
            let (k, v) = (batch.column(1).as_primitive::<Int64Type>(), batch.column(2).as_primitive::<Int64Type>());
            for row in 0..batch.num_rows() {
                let key = (p.as_string::<i32>().value(row).to_owned(), k.value(row));
                assert!(model.insert(key.clone(), v.value(row)).is_none(), "{key:?} is there twice");
            }
        }
        model
    }

    fn files(&self) -> Vec<IndexedFile> {
        self.sink.upserts.as_ref().unwrap().files.values().cloned().collect()
    }

    /// Index and table agree: no row of the table is without an entry, and no entry without a row.
    fn check_index(&self, model: &Model, place: &str) {
        let upserts = self.sink.upserts.as_ref().unwrap();
        assert_eq!(upserts.index.size().unwrap().rows, model.len() as u64, "{place}");
        let live: u64 = upserts.files.values().map(IndexedFile::live).sum();
        assert_eq!(live, model.len() as u64, "{place}");
    }
}

fn random_keys(random: &mut Random, keys: i64) -> Vec<i64> {
    let limit = if random.below(4) == 0 { 60 } else { 12 };
    let most = 1 + random.below(limit);
    let mut chosen: Vec<i64> = (0..most).map(|_| random.below(keys as usize) as i64).collect();
    chosen.sort();
    chosen.dedup();
    chosen
}

/// New values for most of the keys, none for some.
fn change(random: &mut Random, model: &mut Model, keys: &[i64]) {
    for k in keys {
        match random.below(6) {
            0 => drop(model.remove(&(group(*k), *k))),
            _ => drop(model.insert((group(*k), *k), random.below(1_000_000) as i64)),
        }
    }
}

#[tokio::test]
async fn every_epoch_leaves_the_last_row_of_each_key() {
    for (seed, (partitioned, vectors)) in (1..).zip([(false, true), (true, true), (false, false), (true, false)]) {
        let mut random = Random::new(seed);
        let mut target = Target::new(partitioned, vectors).await;
        let mut model = Model::new();
        for epoch in 0..60 {
            let place = format!("seed {seed}, epoch {epoch}");
            let keys = random_keys(&mut random, 150);
            change(&mut random, &mut model, &keys);
            match random.below(5) {
                // Crash behind the publication: the epoch is finished from its note.
                0 => {
                    target.intend();
                    target.write(&model, &keys).await.unwrap();
                    target.restart().await;
                    assert!(target.sink.last_epoch().await.unwrap() <= Some(target.epoch));
                    target.sink.write(target.epoch, Vec::new(), &|| None).await.unwrap();
                    target.commit();
                }
                // Crash before it, behind the note: the epoch is run again.
                1 => {
                    target.intend();
                    let upserts = target.sink.upserts.as_mut().unwrap();
                    target.sink.head.update().await.unwrap();
                    upserts.follow(&target.sink.head, &target.sink.layout).unwrap();
                    let batch = rows_of(&model, &keys);
                    let layout = target.sink.layout.clone();
                    let touched = touched_of(&keys);
                    let touched = || Some((touched.clone(), None));
                    let run = upserts.run(target.epoch, &layout, vec![stream(batch)], &touched, vectors);
                    let changes = run.await.unwrap();
                    upserts.note(target.epoch, &changes).unwrap();
                    drop(changes);
                    target.restart().await;
                    target.write(&model, &keys).await.unwrap();
                    target.commit();
                }
                2 => {
                    target.restart().await;
                    target.run(&model, &keys).await;
                }
                _ => drop(target.run(&model, &keys).await),
            }
            assert_eq!(target.read().await, model, "{place}");
            target.check_index(&model, &place);
        }
        let files = target.files();
        assert!(files.len() < 60, "{} files after 60 epochs", files.len());
        assert_eq!(files.iter().any(|file| file.add.deletion_vector.is_some()), vectors, "seed {seed}");
    }
}

#[tokio::test]
async fn who_else_changes_the_table_is_noticed() {
    let mut random = Random::new(9);
    let mut target = Target::new(false, true).await;
    let mut model = Model::new();
    for _ in 0..5 {
        let keys = random_keys(&mut random, 100);
        change(&mut random, &mut model, &keys);
        target.run(&model, &keys).await;
    }
    // Another writer puts the same rows into other files, but for one that it deletes.
    let ((p, k), _) = model.pop_first().unwrap();
    let keys: Vec<i64> = model.keys().map(|(_, k)| *k).collect();
    let rows = vec![stream(rows_of(&model, &keys))];
    table::append(target.dir.path(), rows, Operation::Overwrite).await.unwrap();
    for round in 0..3 {
        let keys = random_keys(&mut random, 100);
        change(&mut random, &mut model, &keys);
        target.run(&model, &keys).await;
        assert_eq!(target.read().await, model, "round {round} after {p} {k} was deleted");
        target.check_index(&model, "after another writer");
    }
    // A second row of a key cannot be told from the first.
    let key = model.keys().next().unwrap().1;
    table::append(target.dir.path(), vec![stream(rows_of(&model, &[key]))], Operation::Write).await.unwrap();
    target.intend();
    let error = target.write(&model, &[key]).await.unwrap_err().diagnostic();
    assert_eq!(error.code, "UPSERT_KEY_TWICE");
    assert!(error.message.contains(&format!("k = {key}")), "{}", error.message);
}

#[tokio::test]
async fn without_its_note_an_epoch_is_made_out_from_the_table() {
    let mut target = Target::new(true, true).await;
    let mut model = Model::new();
    let mut random = Random::new(4);
    for _ in 0..4 {
        let keys = random_keys(&mut random, 50);
        change(&mut random, &mut model, &keys);
        target.run(&model, &keys).await;
    }
    let keys = random_keys(&mut random, 50);
    change(&mut random, &mut model, &keys);
    target.intend();
    target.write(&model, &keys).await.unwrap();
    target.checkpoint.put_sink_values(&[("pending".into(), Some(b"damaged".to_vec()))]).unwrap();
    target.restart().await;
    target.sink.write(target.epoch, Vec::new(), &|| None).await.unwrap();
    target.commit();
    let keys = random_keys(&mut random, 50);
    change(&mut random, &mut model, &keys);
    target.run(&model, &keys).await;
    assert_eq!(target.read().await, model);
    target.check_index(&model, "without a note");
}

/// The bytes that an epoch writes follow the keys that change, not the files that hold them.
#[tokio::test]
async fn an_epoch_costs_what_it_changes() {
    let mut target = Target::new(false, true).await;
    let mut model = Model::new();
    let all: Vec<i64> = (0..60_000).collect();
    model.extend(all.iter().map(|k| ((group(*k), *k), *k)));
    target.run(&model, &all).await;
    let few: Vec<i64> = (0..60_000).step_by(3000).collect();
    let bytes = |target: &Target, version: u64| -> u64 {
        let actions = target.sink.head.log().read(version).unwrap().unwrap();
        actions
            .into_iter()
            .filter_map(|action| action.add)
            .filter(|add| add.deletion_vector.is_none())
            .map(|add| add.size)
            .sum()
    };
    for round in 0..4 {
        model.extend(few.iter().map(|k| ((group(*k), *k), -round)));
        let version = target.run(&model, &few).await.version.unwrap();
        assert!(bytes(&target, version) * 20 < bytes(&target, 1), "round {round}");
    }
    assert_eq!(target.read().await, model);
    assert_eq!(target.files()[0].dead, 20);
}
