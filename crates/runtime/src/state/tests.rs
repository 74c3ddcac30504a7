//! State against a model: a map of strings that cannot be wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_range_loop)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::display::array_value_to_string;

use super::*;
use crate::error::Error;

/// A directory that goes away.
pub(crate) struct TestDir(pub(crate) PathBuf);

impl TestDir {
    pub(crate) fn new() -> TestDir {
        let dir = std::env::temp_dir().join(format!("alluvium-test-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&dir).unwrap();
        TestDir(dir)
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Small, seeded, good enough to shuffle tests.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % end.max(1) as u64) as usize
    }
}

fn rocks(dir: &TestDir) -> Arc<dyn StateStore> {
    Arc::new(RocksStore::open(&dir.0.join("db"), Box::new(())).unwrap())
}

fn with_each_store(test: impl Fn(Arc<dyn StateStore>)) {
    test(Arc::new(MemoryStore::default()));
    let dir = TestDir::new();
    test(rocks(&dir));
}

fn put(store: &dyn StateStore, column: Column, key: &str, value: &str) {
    let mut batch = Batch::default();
    batch.put(column, key, value);
    store.write(batch, true).unwrap();
}

#[test]
fn stores_keep_the_same_promises() {
    with_each_store(|store| {
        let store = store.as_ref();
        for i in (0..2000).step_by(2) {
            put(store, Column::Ledger, &format!("a\0{i:05}"), &i.to_string());
        }
        put(store, Column::Ledger, "a\u{1}", "another source");
        put(store, Column::Meta, "a\u{0}00001", "another column");
        assert_eq!(store.get(Column::Ledger, b"a\x0000002").unwrap().unwrap(), b"2");
        assert_eq!(store.get(Column::Ledger, b"a\x0000001").unwrap(), None);

        let names: Vec<String> = (0..2100).filter(|i| i % 7 < 4).map(|i| format!("{i:05}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let contains = store.contains_sorted(Column::Ledger, b"a\0", &names).unwrap();
        for (name, contains) in names.iter().zip(contains) {
            let i: usize = name.parse().unwrap();
            assert_eq!(contains, i.is_multiple_of(2) && i < 2000, "{name}");
        }
        assert_eq!(store.contains_sorted(Column::Ledger, b"a\0", &["00500", "01999"]).unwrap(), [true, false]);
        assert_eq!(store.contains_sorted(Column::Ledger, b"b\0", &["00500"]).unwrap(), [false]);

        let end = prefix_end(b"a\0");
        let page = store.page(Column::Ledger, b"a\0", &end, 3).unwrap();
        let keys: Vec<_> = page.iter().map(|(key, _)| String::from_utf8_lossy(&key[2..]).into_owned()).collect();
        assert_eq!(keys, ["00000", "00002", "00004"]);
        let page = store.page(Column::Ledger, &page.next_key().unwrap(), &end, 1).unwrap();
        assert_eq!(page.last_key().unwrap(), b"a\x0000006");
        let page = store.page_back(Column::Ledger, b"a\0", &end, 2).unwrap();
        let values: Vec<_> = page.iter().map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect();
        assert_eq!(values, ["1998", "1996"]);
        assert!(store.page(Column::Ledger, b"x", b"a", 5).unwrap().last_key().is_none());

        let asked: Vec<&[u8]> = vec![b"a\x0000000", b"a\x0000001", b"a\x0000002"];
        let mut found = Vec::new();
        let mut note = |i: usize, value: &[u8]| {
            found.push((i, value.to_vec()));
            Ok(())
        };
        store.multi_get(Column::Ledger, &asked, &mut note).unwrap();
        assert_eq!(found, [(0, b"0".to_vec()), (2, b"2".to_vec())]);

        let mut batch = Batch::default();
        batch.delete(Column::Ledger, *b"a\x0000000");
        batch.put(Column::Ledger, *b"a\x0000001", *b"new");
        store.write(batch, false).unwrap();
        assert_eq!(store.get(Column::Ledger, b"a\x0000000").unwrap(), None);
        assert_eq!(store.get(Column::Ledger, b"a\x0000001").unwrap().unwrap(), b"new");

        let mut fill = |entry: Entry<'_>| {
            entry(b"a\x0000002", None)?;
            entry(b"a\x0000003", Some(b"sorted"))?;
            entry(b"b", Some(b""))
        };
        store.write_sorted(Column::Ledger, &mut fill).unwrap();
        assert_eq!(store.get(Column::Ledger, b"a\x0000002").unwrap(), None);
        assert_eq!(store.get(Column::Ledger, b"a\x0000003").unwrap().unwrap(), b"sorted");
        assert_eq!(store.get(Column::Ledger, b"b").unwrap().unwrap(), b"");
        put(store, Column::Ledger, "b", "later");
        assert_eq!(store.get(Column::Ledger, b"b").unwrap().unwrap(), b"later");
        store.write_sorted(Column::Ledger, &mut |_| Ok(())).unwrap();
        let mut failing = |entry: Entry<'_>| {
            entry(b"c", Some(b"never"))?;
            Err(Error::internal("half-way"))
        };
        store.write_sorted(Column::Ledger, &mut failing).unwrap_err();
        store.write_sorted(Column::Ledger, &mut |entry| entry(b"b", Some(b"last")).and(entry(b"a", None))).unwrap_err();
        assert_eq!(store.get(Column::Ledger, b"c").unwrap(), None);
        assert_eq!(store.get(Column::Ledger, b"b").unwrap().unwrap(), b"later");
    });
}

/// A store whose power fails after some writes: later writes are refused, earlier ones are there.
struct Failing {
    inner: Arc<dyn StateStore>,
    writes_left: AtomicI64,
}

impl StateStore for Failing {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.inner.get(column, key)
    }
    fn multi_get(
        &self,
        column: Column,
        keys: &[&[u8]],
        found: &mut dyn FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<()> {
        self.inner.multi_get(column, keys, found)
    }
    fn contains_sorted(&self, column: Column, prefix: &[u8], suffixes: &[&str]) -> Result<Vec<bool>> {
        self.inner.contains_sorted(column, prefix, suffixes)
    }
    fn page(&self, column: Column, from: &[u8], until: &[u8], rows: usize) -> Result<Page> {
        self.inner.page(column, from, until, rows)
    }
    fn page_back(&self, column: Column, from: &[u8], until: &[u8], rows: usize) -> Result<Page> {
        self.inner.page_back(column, from, until, rows)
    }
    fn scan_ranges(
        &self,
        column: Column,
        ranges: &[(Vec<u8>, Vec<u8>)],
        found: &mut dyn FnMut(usize, &[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        self.inner.scan_ranges(column, ranges, found)
    }
    fn write(&self, batch: Batch, durable: bool) -> Result<()> {
        if self.writes_left.fetch_sub(1, Ordering::SeqCst) <= 0 {
            return Err(Error::environment("IO", "the power is out"));
        }
        self.inner.write(batch, durable)
    }
    fn write_sorted(&self, column: Column, fill: Fill<'_>) -> Result<()> {
        if self.writes_left.fetch_sub(1, Ordering::SeqCst) <= 0 {
            return Err(Error::environment("IO", "the power is out"));
        }
        self.inner.write_sorted(column, fill)
    }
    fn free(&self, column: Column, from: &[u8], until: &[u8]) -> Result<()> {
        self.inner.free(column, from, until)
    }
    fn settle(&self) -> Result<()> {
        self.inner.settle()
    }
    fn bytes_between(&self, column: Column, from: &[u8], until: &[u8]) -> Result<u64> {
        self.inner.bytes_between(column, from, until)
    }
}

type Model = BTreeMap<String, String>;

/// What kinds of keys a table has; each makes columns of numbered keys.
#[derive(Debug, Clone, Copy)]
enum Keys {
    Number,
    TextAndFloat,
    View,
    None,
}

impl Keys {
    fn schema(self) -> (Schema, usize) {
        let keys = match self {
            Keys::Number => vec![Field::new("k", DataType::Int64, false)],
            Keys::TextAndFloat => vec![Field::new("s", DataType::Utf8, true), Field::new("f", DataType::Float64, true)],
            Keys::View => vec![Field::new("v", DataType::Utf8View, true)],
            Keys::None => vec![],
        };
        let count = keys.len();
        let values = [Field::new("sum", DataType::Int64, true), Field::new("max", DataType::Utf8View, true)];
        (Schema::new(keys.into_iter().chain(values).collect::<Vec<_>>()), count)
    }

    fn columns(self, numbers: &[usize]) -> Vec<ArrayRef> {
        let long = |i: &usize| (*i > 0).then(|| format!("a key that does not fit into a view, number {i}"));
        match self {
            Keys::Number => vec![Arc::new(numbers.iter().map(|i| Some(*i as i64)).collect::<Int64Array>())],
            Keys::TextAndFloat => vec![
                Arc::new(numbers.iter().map(|i| (*i > 0).then(|| format!("k{}", i % 50))).collect::<StringArray>()),
                Arc::new(numbers.iter().map(|i| (*i % 3 > 0).then_some(*i as f64 / 4.0)).collect::<Float64Array>()),
            ],
            Keys::View => vec![Arc::new(numbers.iter().map(long).collect::<StringViewArray>())],
            Keys::None => vec![],
        }
    }
}

fn lines(batch: &RecordBatch, keys: usize) -> Vec<(String, String)> {
    let text = |range: std::ops::Range<usize>, row: usize| -> String {
        range.map(|at| array_value_to_string(batch.column(at), row).unwrap() + "|").collect()
    };
    (0..batch.num_rows()).map(|row| (text(0..keys, row), text(keys..batch.num_columns(), row))).collect()
}

fn scan(table: &StateTable, staged: Option<&StagedState>, keys: usize) -> Model {
    let mut model = Model::new();
    for batch in table.scan(staged).unwrap() {
        for (key, value) in lines(&batch.unwrap(), keys) {
            assert!(model.insert(key.clone(), value).is_none(), "{key} was scanned twice");
        }
    }
    model
}

struct Epoch {
    staged: StagedState,
    after: Model,
}

/// One epoch on `numbers`: adds to the stored sums, checks every lookup against the model, removes some keys.
fn run(table: &Arc<StateTable>, kind: Keys, model: &Model, epoch: u64, numbers: &[usize], remove: bool) -> Epoch {
    let (schema, keys) = kind.schema();
    table.bind(&schema, keys).unwrap();
    let run = table.begin_run().unwrap();
    let columns = kind.columns(numbers);
    let (mut touched, mut out) = (Vec::new(), Touched::default());
    table.touch(run, &columns, numbers.len(), &mut touched, &mut out).unwrap();
    let fresh: Vec<usize> = out.fresh.iter().map(|row| numbers[*row as usize]).collect();
    let columns = kind.columns(&fresh);
    let stored = table.stored(&touched, &columns).unwrap();
    let mut sums = vec![None; fresh.len()];
    let mut texts: Vec<Option<String>> = vec![None; fresh.len()];
    for (at, position) in stored.positions.iter().enumerate() {
        sums[*position as usize] = Some(array_value_to_string(&stored.columns[0], at).unwrap().parse::<i64>().unwrap());
        texts[*position as usize] = Some(array_value_to_string(&stored.columns[1], at).unwrap());
    }
    let key_schema: Arc<Schema> = Schema::new(schema.fields()[..keys].to_vec()).into();
    let names = lines(&codec::batch_of(key_schema, columns.clone(), fresh.len()).unwrap(), keys);
    for (i, (name, _)) in names.iter().enumerate() {
        let found = sums[i].map(|sum| format!("{sum}|{}|", texts[i].as_ref().unwrap()));
        assert_eq!(found.as_ref(), model.get(name), "key {name}");
    }
    let mut after = model.clone();
    let (mut set, mut gone) = (Vec::new(), Vec::new());
    for i in 0..fresh.len() {
        let had = sums[i].is_some();
        if remove && had && i % 5 == 0 { gone.push(i) } else { set.push(i) }
    }
    let new = set.iter().filter(|i| sums[**i].is_none()).count() as u64;
    let sum = |i: usize| sums[i].unwrap_or(0) + 1;
    let text = |i: usize| format!("a text that does not fit into a view, of epoch {epoch}, {}", fresh[i]);
    for i in &set {
        after.insert(names[*i].0.clone(), format!("{}|{}|", sum(*i), text(*i)));
    }
    for i in &gone {
        after.remove(&names[*i].0);
    }
    let numbers_of = |at: &[usize]| -> Vec<usize> { at.iter().map(|i| fresh[*i]).collect() };
    let slots_of = |at: &[usize]| -> Vec<u32> { at.iter().map(|i| touched[*i]).collect() };
    let mut rows = kind.columns(&numbers_of(&set));
    rows.push(Arc::new(set.iter().map(|i| Some(sum(*i))).collect::<Int64Array>()));
    rows.push(Arc::new(set.iter().map(|i| Some(text(*i))).collect::<StringViewArray>()));
    let removed = (kind.columns(&numbers_of(&gone)), slots_of(&gone));
    let staged = table.stage(epoch, rows, slots_of(&set), new, Some(removed)).unwrap();
    Epoch { staged, after }
}

fn commit(store: &dyn StateStore, staged: &StagedState) -> Result<()> {
    staged.prepare()?;
    let mut batch = Batch::default();
    let receipt = staged.write_into(&mut batch)?;
    store.write(batch, true)?;
    staged.apply(receipt)
}

fn numbers(random: &mut Random, kind: Keys, keys: usize) -> Vec<usize> {
    let rows = random.below(600);
    // Text and float keys repeat with the number only; no keys means one group whatever the number.
    (0..rows.max(1)).map(|_| if matches!(kind, Keys::None) { 0 } else { random.below(keys) }).collect()
}

/// Random epochs, failures and restarts; the table must equal the model throughout.
fn against_the_model(store: Arc<dyn StateStore>, kind: Keys, budget: usize, log_bytes: usize, seed: u64) {
    println!("{kind:?}, budget {budget}, log {log_bytes}, seed {seed}");
    let mut random = Random::new(seed);
    let (_, keys) = kind.schema();
    let open = || Arc::new(StateTable::open_with(store.clone(), 3, budget, log_bytes).unwrap());
    let mut table = open();
    let mut model = Model::new();
    let mut epoch = 0;
    for _ in 0..60 {
        let touched = numbers(&mut random, kind, 700);
        let remove = random.below(3) == 0;
        let ran = run(&table, kind, &model, epoch, &touched, remove);
        if random.below(4) == 0 {
            assert_eq!(scan(&table, Some(&ran.staged), keys), ran.after, "staged");
            assert_eq!(scan(&table, None, keys), model, "unstaged");
        }
        match random.below(6) {
            // The epoch fails: nothing happened.
            0 => drop(ran),
            _ => {
                commit(store.as_ref(), &ran.staged).unwrap();
                model = ran.after;
                epoch += 1;
            }
        }
        match random.below(12) {
            0 => table.settle_above(0).unwrap(),
            1 => {
                table.settle_above(0).unwrap();
                table = open();
                let left = store.page(Column::Log, &[], &[255; 20], 1).unwrap();
                assert!(log_bytes > 0 || left.last_key().is_none(), "nothing is left to replay");
            }
            2 => table = open(),
            _ => {}
        }
        assert_eq!(table.size().unwrap().rows, model.len() as u64, "rows counted");
    }
    assert_eq!(scan(&table, None, keys), model);
    assert_eq!(scan(&open(), None, keys), model, "after a restart");
    assert_eq!(StateTable::stored_operators(store.as_ref()).unwrap(), [(3, false)]);
}

#[test]
fn equals_the_model_while_everything_fits() {
    for (seed, kind) in [Keys::Number, Keys::TextAndFloat, Keys::View, Keys::None].into_iter().enumerate() {
        with_each_store(|store| against_the_model(store, kind, 64 << 20, LOG, seed as u64 + 1));
        with_each_store(|store| against_the_model(store, kind, 64 << 20, 0, seed as u64 + 11));
    }
}

#[test]
fn equals_the_model_when_state_is_larger_than_memory() {
    for (seed, kind) in [Keys::Number, Keys::TextAndFloat, Keys::View].into_iter().enumerate() {
        for budget in [0, 10_000, 60_000, 120_000] {
            with_each_store(|store| against_the_model(store, kind, budget, 0, seed as u64 + 21));
            with_each_store(|store| against_the_model(store, kind, budget, LOG, seed as u64 + 31));
        }
    }
}

const LOG: usize = 1 << 20;

#[test]
fn survives_a_power_cut_at_every_write() {
    for seed in 0..3 {
        for cut in 0..60 {
            let inner: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
            let mut random = Random::new(seed + 77);
            let budget = [64 << 20, 40_000, 5_000][seed as usize];
            let (_, keys) = Keys::View.schema();
            let mut model = Model::new();
            let failing = Arc::new(Failing { inner: inner.clone(), writes_left: AtomicI64::new(cut + 2) });
            let table = Arc::new(StateTable::open_with(failing.clone(), 0, budget, 0).unwrap());
            let mut epoch = 0;
            loop {
                let touched = numbers(&mut random, Keys::View, 500);
                let ran = run(&table, Keys::View, &model, epoch, &touched, true);
                if commit(failing.as_ref(), &ran.staged).is_err() {
                    break;
                }
                model = ran.after;
                epoch += 1;
            }
            let table = Arc::new(StateTable::open_with(inner.clone(), 0, budget, 0).unwrap());
            assert_eq!(scan(&table, None, keys), model, "seed {seed}, cut {cut}");
            assert_eq!(table.size().unwrap().rows, model.len() as u64, "seed {seed}, cut {cut}");
            for _ in 0..5 {
                let touched = numbers(&mut random, Keys::View, 500);
                let ran = run(&table, Keys::View, &model, epoch, &touched, true);
                commit(inner.as_ref(), &ran.staged).unwrap();
                model = ran.after;
                epoch += 1;
            }
            assert_eq!(scan(&table, None, keys), model, "going on; seed {seed}, cut {cut}");
        }
    }
}

#[test]
fn a_large_change_is_in_blocks_of_bounded_size() {
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
    let table = Arc::new(StateTable::open(store.clone(), 0, 64 << 20).unwrap());
    let schema = Schema::new(vec![Field::new("k", DataType::Utf8View, true), Field::new("n", DataType::Int64, true)]);
    table.bind(&schema, 1).unwrap();
    let keys: ArrayRef = Arc::new(StringViewArray::from_iter_values((0..50_000).map(|i| format!("{i:0200}"))));
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..50_000));
    let (mut touched, mut out) = (Vec::new(), Touched::default());
    table.touch(table.begin_run().unwrap(), &[keys.clone()], 50_000, &mut touched, &mut out).unwrap();
    let staged = table.stage(0, vec![keys, numbers], touched, 50_000, None).unwrap();
    commit(store.as_ref(), &staged).unwrap();
    let blocks = store.page(Column::Log, &[], &[255; 20], 1000).unwrap();
    let sizes: Vec<usize> = blocks.iter().map(|(_, block)| block.len()).collect();
    assert!(!sizes.is_empty() && sizes.iter().all(|size| *size < 3 << 19), "{sizes:?}");
    let again = Arc::new(StateTable::open(store, 0, 64 << 20).unwrap());
    assert_eq!(scan(&again, None, 1), scan(&table, None, 1));
    assert_eq!(again.size().unwrap().rows, 50_000);
}

#[test]
fn a_large_change_to_an_old_log_is_snapshot_and_the_log_stays_short() {
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
    let table = Arc::new(StateTable::open_with(store.clone(), 0, 64 << 20, 0).unwrap());
    let mut model = Model::new();
    let all: Vec<usize> = (0..1000).collect();
    for epoch in 0..40 {
        let ran = run(&table, Keys::View, &model, epoch, &all, false);
        commit(store.as_ref(), &ran.staged).unwrap();
        model = ran.after;
    }
    let blocks = store.page(Column::Log, &[], &[255; 20], 1000).unwrap();
    assert!(blocks.iter().count() < 10, "{} blocks", blocks.iter().count());
    assert!(store.page(Column::Rows, &[], &[255; 20], 1).unwrap().last_key().is_none(), "nothing went cold");
}

fn flip(store: &dyn StateStore, column: Column, at: impl Fn(usize) -> usize) {
    let page = store.page(column, &[], &[255; 20], 1).unwrap();
    let (key, value) = page.iter().next().unwrap();
    let mut value = value.to_vec();
    let at = at(value.len());
    value[at] ^= 4;
    let mut batch = Batch::default();
    batch.put(column, key, value);
    store.write(batch, true).unwrap();
}

#[test]
fn damage_is_named_and_never_a_panic() {
    for at in [0, 1, 9, 100, 300] {
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
        let table = Arc::new(StateTable::open(store.clone(), 5, 64 << 20).unwrap());
        let ran = run(&table, Keys::Number, &Model::new(), 12, &[1, 2, 3], false);
        commit(store.as_ref(), &ran.staged).unwrap();
        flip(store.as_ref(), Column::Log, |_| at);
        let error = StateTable::open(store, 5, 64 << 20).err().unwrap();
        let text = error.to_string();
        assert!(text.contains("STATE_CORRUPT") && text.contains("operator 5") && text.contains("epoch 12"), "{text}");
        assert_eq!(error.exit_code(), 3);
    }
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
    let table = Arc::new(StateTable::open_with(store.clone(), 5, 0, 0).unwrap());
    let ran = run(&table, Keys::Number, &Model::new(), 0, &[7], false);
    commit(store.as_ref(), &ran.staged).unwrap();
    let ran = run(&table, Keys::Number, &ran.after, 1, &[8], false);
    commit(store.as_ref(), &ran.staged).unwrap();
    flip(store.as_ref(), Column::Rows, |length| length - 1);
    let text = table.scan(None).unwrap().find_map(|batch| batch.err()).unwrap().to_string();
    assert!(text.contains("STATE_CORRUPT") && text.contains("operator 5") && text.contains("k = 7"), "{text}");
}

#[test]
fn another_schema_or_format_is_refused_with_what_differs() {
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
    let table = Arc::new(StateTable::open(store.clone(), 0, 64 << 20).unwrap());
    // While nothing is kept, the schema may still change.
    let (schema, keys) = Keys::TextAndFloat.schema();
    table.bind(&schema, keys).unwrap();
    let ran = run(&table, Keys::Number, &Model::new(), 0, &[1], false);
    commit(store.as_ref(), &ran.staged).unwrap();
    let table = StateTable::open(store.clone(), 0, 64 << 20).unwrap();
    let text = table.bind(&schema, keys).err().unwrap().to_string();
    assert!(text.contains("STATE_SCHEMA") && text.contains("key k Int64") && text.contains("key s Utf8"), "{text}");
    let (schema, keys) = Keys::Number.schema();
    table.bind(&schema, keys).unwrap();
    put(store.as_ref(), Column::Meta, "state/0/format", "99");
    let text = StateTable::open(store, 0, 64 << 20).err().unwrap().to_string();
    assert!(text.contains("STATE_FORMAT") && text.contains("99"), "{text}");
}
