//! VERIFY STREAM on streams whose state or table was changed behind their back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;
use std::sync::Arc;

use alluvium_parser::{Diagnostic, Place, parse_statement};
use arrow::array::{ArrayRef, Int64Array, StringArray};

use super::{Session, SessionOptions};
use crate::error::Result;
use crate::state::tests::TestDir;
use crate::state::{Batch, Column, RocksStore, StateStore, StateTable};

struct Warehouse {
    dir: TestDir,
}

impl Warehouse {
    fn new() -> Warehouse {
        Warehouse { dir: TestDir::new() }
    }

    async fn run(&self, sql: &str) -> Result<()> {
        let warehouse = self.dir.0.join("warehouse");
        let session = Session::open(SessionOptions { warehouse, ..SessionOptions::default() }).await?;
        session.execute(&parse_statement(sql, Place { line: 1, column: 1 })?).await.map(|_| ())
    }

    fn land(&self, name: &str, lines: &str) {
        let landing = self.dir.0.join("in");
        std::fs::create_dir_all(&landing).unwrap();
        // Whole at once: a running stream must not see half of it.
        let aside = self.dir.0.join("aside");
        std::fs::write(&aside, lines).unwrap();
        std::fs::rename(aside, landing.join(name)).unwrap();
    }

    fn source(&self) -> String {
        format!(
            "cloud_files('{}', 'json', map('schema', 'k STRING, ts TIMESTAMP, v BIGINT'))",
            self.dir.0.join("in").display()
        )
    }

    /// A stream that has read two files in two epochs.
    async fn streamed(query: &str) -> Warehouse {
        let warehouse = Warehouse::new();
        let line = |k: &str, minute: i64, v: i64| {
            format!("{{\"k\":\"{k}\",\"ts\":\"2026-01-01 00:{minute:02}:00\",\"v\":{v}}}\n")
        };
        warehouse.land("1.json", &[line("a", 1, 1), line("b", 2, 2), line("c", 3, 3)].concat());
        let query = query.replace("STREAM s", &warehouse.source());
        warehouse.run(&format!("CREATE STREAMING TABLE t {query}")).await.unwrap();
        warehouse.land("2.json", &[line("b", 31, 20), line("d", 32, 40)].concat());
        warehouse.run("REFRESH TABLE t").await.unwrap();
        warehouse.run("VERIFY STREAM t").await.unwrap();
        warehouse
    }

    fn store(&self) -> Arc<dyn StateStore> {
        let checkpoint = self.dir.0.join("warehouse").join("t").join("_checkpoint");
        let database: PathBuf = checkpoint.join("db");
        assert!(database.exists(), "{}", database.display());
        Arc::new(RocksStore::open(&database, Box::new(())).unwrap())
    }

    async fn verify(&self) -> Diagnostic {
        self.run("VERIFY STREAM t").await.unwrap_err().diagnostic()
    }
}

const SUM: &str = "OUTPUT MODE COMPLETE AS SELECT k, sum(v) AS total FROM STREAM s GROUP BY k";

/// Gives key `k` of operator 0 another state, as a well-formed change.
fn put_value(store: &Arc<dyn StateStore>, budget: usize, k: &str, total: i64) {
    let table = Arc::new(StateTable::open(store.clone(), 0, budget).unwrap());
    let keys: Vec<ArrayRef> = vec![Arc::new(StringArray::from(vec![k]))];
    let (run, mut touched, mut scratch) = (table.begin_run().unwrap(), Vec::new(), Default::default());
    table.touch(run, &keys, 1, &mut touched, &mut scratch).unwrap();
    assert_eq!(table.stored(&touched, &keys).unwrap().positions.len(), 1, "{k} has state");
    let columns = vec![keys[0].clone(), Arc::new(Int64Array::from(vec![total])) as ArrayRef];
    let staged = table.stage(99, columns, touched, 0, None).unwrap();
    staged.prepare().unwrap();
    let mut batch = Batch::default();
    staged.write_into(&mut batch).unwrap();
    store.write(batch, true).unwrap();
}

/// Flips one bit of every entry of a column family whose bytes have `needle`.
fn flip(store: &dyn StateStore, column: Column, needle: &[u8], at: impl Fn(usize) -> usize) {
    let page = store.page(column, &[], &[u8::MAX; 16], usize::MAX).unwrap();
    let mut batch = Batch::default();
    let mut flipped = 0;
    for (key, value) in page.iter() {
        let Some(found) = value.windows(needle.len()).position(|window| window == needle) else { continue };
        let mut value = value.to_vec();
        value[at(found)] ^= 0x10;
        batch.put(column, key, value);
        flipped += 1;
    }
    assert!(flipped > 0, "nothing has {needle:?}");
    store.write(batch, true).unwrap();
}

#[tokio::test]
async fn another_number_in_the_state_is_named_by_its_key() {
    for budget in [1 << 20, 0] {
        let warehouse = Warehouse::streamed(SUM).await;
        put_value(&warehouse.store(), budget, "b", 23);
        let differs = warehouse.verify().await;
        assert_eq!(differs.code, "STREAM_DIFFERS", "{differs}");
        let told = differs.help.join("\n");
        assert!(told.contains("missing: k = b, sum(v) = 22") && told.contains("extra: k = b, sum(v) = 23"), "{told}");
        assert!(!told.contains("k = a") && !told.contains("table `t`"), "{told}");
    }
}

#[tokio::test]
async fn a_flipped_bit_is_named_by_its_key() {
    // In the log: the sum 22 of b, as Arrow has it.
    let warehouse = Warehouse::streamed(SUM).await;
    flip(warehouse.store().as_ref(), Column::Log, &22_i64.to_le_bytes(), |found| found);
    let differs = warehouse.verify().await;
    let told = differs.help.join("\n");
    assert_eq!(differs.code, "STREAM_DIFFERS", "{differs}");
    assert!(told.contains("block 0 of epoch 1 is damaged") && told.contains("k = b, sum(v) = 22"), "{told}");
    assert_eq!(warehouse.run("REFRESH TABLE t").await.unwrap_err().exit_code(), 3, "a stream does not go on with it");

    // In the rows, where each has a checksum of its own.
    let warehouse = Warehouse::streamed(SUM).await;
    put_value(&warehouse.store(), 0, "b", 22);
    let store = warehouse.store();
    // Opening without a budget folds the log, so that rows are in the store.
    drop(StateTable::open(store.clone(), 0, 0).unwrap());
    let as_row = [&[1_u8][..], &((22_i64 as u64) ^ (1 << 63)).to_be_bytes()].concat();
    flip(store.as_ref(), Column::Rows, &as_row, |found| found + 8);
    drop(store);
    let differs = warehouse.verify().await;
    let told = differs.help.join("\n");
    assert!(told.contains("the value of key (k = b) is damaged") && told.contains("missing: k = b"), "{told}");
    assert!(!told.contains("k = c"), "{told}");
}

#[tokio::test]
async fn state_that_has_not_come_out_yet_is_compared() {
    let warehouse = Warehouse::streamed(
        "AS SELECT window.end AS until, k, sum(v) AS total FROM STREAM s WATERMARK ts DELAY OF INTERVAL 1 MINUTE \
         GROUP BY window(ts, '10 minutes'), k",
    )
    .await;
    // Of d, in the window that is open.
    flip(warehouse.store().as_ref(), Column::Log, &40_i64.to_le_bytes(), |found| found);
    let told = warehouse.verify().await.help.join("\n");
    assert!(told.contains("k = d, sum(v) = 40") && !told.contains("k = a"), "{told}");
}

#[tokio::test]
async fn a_stream_that_goes_on_is_looked_at_behind_an_epoch() {
    let warehouse = Warehouse::streamed(SUM).await;
    let session =
        Session::open(SessionOptions { warehouse: warehouse.dir.0.join("warehouse"), ..SessionOptions::default() })
            .await
            .unwrap();
    let run = async |sql: &str| session.execute(&parse_statement(sql, Place { line: 1, column: 1 }).unwrap()).await;
    run("START STREAM t TRIGGER PROCESSING TIME '1 millisecond'").await.unwrap();
    for file in 3..40 {
        warehouse.land(&format!("{file}.json"), &format!("{{\"k\":\"k{}\",\"v\":{file}}}\n", file % 7));
        if file % 6 == 0 {
            if let Err(error) = run("VERIFY STREAM t").await {
                panic!("{error} {:?}", error.diagnostic().help);
            }
        }
    }
    run("STOP STREAM t").await.unwrap();
}
