//! Streams from object stores: exactly once across kills, with listing and with notifications; and what is told when
//! a store cannot be read.
//!
//! S3 and SQS are moto, see `object_stores/store.rs`; Google's store is moto too, whose XML it understands. `ALLUVIUM_OBJECTS` sets the number of objects of the tests with
//! kills (default 300). `ALLUVIUM_AZURITE` names the `azurite-blob` program; without it Azure's test is skipped.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod engine;
#[path = "object_stores/options.rs"]
mod options;
#[path = "object_stores/store.rs"]
mod store;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use engine::{Ended, Engine, Log};
use serde_json::Value;
use store::Store;

/// Rows of an object.
const ROWS: u64 = 3;

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(300);

/// An engine and a store that it finds by its environment.
struct Bench {
    engine: Engine,
    store: Store,
    objects: u64,
}

impl Bench {
    fn new() -> Option<Bench> {
        let mut store = Store::start()?;
        store.bucket("lake");
        Some(Bench { engine: Engine::new(), store, objects: 0 })
    }

    fn run_with(&self, sql: &str, environment: &[(&str, &str)]) -> Ended {
        let store = self.store.environment();
        let mut all: Vec<(&str, &str)> = store.iter().map(|(name, value)| (*name, value.as_str())).collect();
        all.extend(environment);
        self.engine.run_with(sql, &all)
    }

    #[track_caller]
    fn ask(&self, sql: &str) -> Vec<Value> {
        let ended = self.run_with(sql, &[]);
        assert!(ended.status.success(), "{sql}\nended with {}:\n{}", ended.status, ended.stderr);
        ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The code of a failure.
    #[track_caller]
    fn refused(&self, sql: &str) -> (String, Option<i32>) {
        let ended = self.run_with(sql, &[]);
        (ended.codes().pop().unwrap_or(ended.stderr), ended.status.code())
    }

    /// Puts so many more objects below `in/`, with names in an order that is not theirs in time.
    fn land(&mut self, count: u64) {
        let object = |at: u64| {
            let line = |row: u64| format!("{{\"id\":{}}}\n", at * ROWS + row);
            (format!("in/{:03}/{at}.json", at * 7919 % 13), (0..ROWS).map(line).collect::<String>())
        };
        let objects: Vec<_> = (self.objects..self.objects + count).map(object).collect();
        objects.chunks(1000).for_each(|some| self.store.put("lake", some));
        self.objects += count;
    }

    /// Every row of every object is there once, by the engine's reading and by the log on disk.
    #[track_caller]
    fn check(&self, when: &str) {
        let rows = self.objects * ROWS;
        let found = self.ask("SELECT count(*) AS n, count(DISTINCT id) AS d, sum(id) AS s FROM bronze");
        let wanted = serde_json::json!([{"n": rows, "d": rows, "s": rows * (rows - 1) / 2}]);
        assert_eq!(Value::from(found), wanted, "{when}");
        let log = Log::read(&self.engine.table("bronze"));
        assert_eq!(log.rows, rows, "rows of the files in the log {when}");
        let mut once = log.transactions.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), log.transactions.len(), "an epoch was published twice {when}");
    }

    fn bronze(&self, trigger: &str, options: &[(&str, &str)]) -> String {
        let options: String = options.iter().map(|(name, value)| format!(", 'cloudFiles.{name}', '{value}'")).collect();
        format!(
            "CREATE OR REFRESH STREAMING TABLE bronze LOCATION '{}' {trigger} AS \
             SELECT id FROM cloud_files('s3://lake/in', 'json', map('schema', 'id BIGINT'{options}));\n",
            self.engine.table("bronze").display(),
        )
    }

    /// Waits until the table on disk has all rows.
    #[track_caller]
    fn arrived(&self, when: &str) {
        self.has_rows(self.objects * ROWS, when);
    }

    /// Waits until the table on disk has so many rows.
    #[track_caller]
    fn has_rows(&self, rows: u64, when: &str) {
        let begun = Instant::now();
        while Log::read(&self.engine.table("bronze")).rows < rows {
            assert!(begun.elapsed() < PATIENCE, "{when}: {} rows", Log::read(&self.engine.table("bronze")).rows);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A process that is driven by statements.
struct Driven {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Driven {
    fn start(bench: &Bench) -> Driven {
        let mut command = bench.engine.command();
        command.envs(bench.store.environment()).stdin(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Driven { child, input, output }
    }

    fn tell(&mut self, sql: &str) {
        writeln!(self.input, "{sql}").unwrap();
        self.input.flush().unwrap();
    }

    /// What DESCRIBE STREAM says of a property.
    fn property(&mut self, name: &str) -> String {
        self.tell("DESCRIBE STREAM bronze; SELECT 'end' AS property, '' AS value;");
        let mut found = String::new();
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the process ended");
            let row: Value = serde_json::from_str(&line).unwrap();
            match row["property"].as_str() {
                Some("end") => return found,
                Some(property) if property == name => found = row["value"].as_str().unwrap().to_owned(),
                _ => {}
            }
        }
    }

    /// Ends it without a chance to tidy up.
    fn kill(self) {}
}

impl Drop for Driven {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that ends with its test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn objects() -> u64 {
    std::env::var("ALLUVIUM_OBJECTS").ok().and_then(|text| text.parse().ok()).unwrap_or(300)
}

/// Runs a statement that a fail point stops, if it comes to it.
fn crash_at(bench: &Bench, sql: &str, point: &str) {
    let ended = bench.run_with(sql, &[("ALLUVIUM_FAILPOINT", point)]);
    assert_eq!(ended.status.signal(), Some(6), "{point} was not reached: {}\n{}", ended.status, ended.stderr);
}

#[test]
fn listed_objects_are_read_exactly_once_across_kills() {
    let Some(mut bench) = Bench::new() else { return };
    let some = objects();
    bench.land(some);
    let limit = (some / 8).max(1).to_string();
    let options = [("maxFilesPerTrigger", limit.as_str())];
    let create = bench.bronze("", &options);
    for point in ["after_intent:0", "mid_run:1", "after_publish:2", "before_commit:4"] {
        crash_at(&bench, &create, point);
    }
    // A kill from outside, in the middle of whatever it does.
    let forever = bench.bronze("TRIGGER PROCESSING TIME '0 seconds'", &options);
    let mut running = Driven::start(&bench);
    running.tell(&forever);
    let begun = Instant::now();
    while Log::read(&bench.engine.table("bronze")).rows < some * ROWS * 6 / 8 {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    }
    running.kill();
    bench.land(some / 10);
    bench.ask(&create);
    bench.check("after the kills");
    bench.ask(&create);
    bench.check("after a run without news");
    // New names stand everywhere among the old ones.
    for _ in 0..3 {
        bench.land(20);
        bench.ask(&bench.bronze("", &[("useIncrementalListing", "true")]));
        bench.check("after new objects");
    }
}

#[test]
fn with_notifications_nothing_is_listed_in_steady_state() {
    let Some(mut bench) = Bench::new() else { return };
    let some = objects();
    bench.land(some / 3);
    let queue = bench.store.queue("news", "lake");
    let limit = (some / 8).max(1).to_string();
    let options = [
        ("useNotifications", "true"),
        ("queueUrl", queue.as_str()),
        ("fetchParallelism", "4"),
        ("maxFilesPerTrigger", limit.as_str()),
    ];
    let forever = bench.bronze("TRIGGER PROCESSING TIME '0 seconds'", &options);
    let mut running = Driven::start(&bench);
    running.tell(&forever);
    bench.arrived("what was there before");
    assert_eq!(running.property("source 0 listings").split(' ').next(), Some("1"));
    let listed = bench.store.requests("list");
    for round in 0..3 {
        bench.land(some / 9);
        bench.arrived(&format!("round {round}"));
    }
    assert_eq!(running.property("source 0 listings").split(' ').next(), Some("1"));
    bench.land(some / 9);
    running.kill();
    // What the dead process had received and not remembered comes again after a while.
    let mut running = Driven::start(&bench);
    running.tell(&forever);
    bench.arrived("after a kill");
    bench.land(some / 9);
    bench.arrived("news after the restart");
    assert_eq!(running.property("source 0 listings").split(' ').next(), Some("0"));
    // A message that was remembered and not deleted before the kill comes again, and is deleted then.
    let begun = Instant::now();
    while bench.store.depth(&queue) != (0, 0) {
        assert!(begun.elapsed() < PATIENCE, "messages are left in the queue");
        std::thread::sleep(Duration::from_millis(100));
    }
    running.kill();
    assert_eq!(bench.store.requests("list"), listed, "requests that list");
    bench.check("after notifications");
}

#[test]
fn a_run_to_the_end_empties_the_queue_and_survives_crashes() {
    let Some(mut bench) = Bench::new() else { return };
    let queue = bench.store.queue("news", "lake");
    let options = [("useNotifications", "true"), ("queueUrl", queue.as_str()), ("maxFilesPerTrigger", "10")];
    let create = bench.bronze("", &options);
    bench.ask(&create);
    let listed = bench.store.requests("list");
    bench.land(60);
    for point in ["after_intent:0", "before_commit:2"] {
        crash_at(&bench, &create, point);
    }
    bench.store.remove("lake", "in/none.json");
    bench.ask(&create);
    bench.check("after crashes");
    assert_eq!(bench.store.requests("list"), listed, "requests that list");
    assert_eq!(bench.store.depth(&queue), (0, 0), "messages left in the queue");
    // A file told twice is read once; other places, tests and unknown texts do not matter.
    let event = |key: &str| {
        format!(
            r#"{{"Records":[{{"eventName":"ObjectCreated:Put","eventTime":"2024-05-01T10:00:00Z","s3":{{"bucket":{{"name":"lake"}},"object":{{"key":"{key}","size":9}}}}}}]}}"#
        )
    };
    bench.store.send(&queue, &event("in/000/0.json"));
    bench.store.send(&queue, &event("elsewhere/0.json"));
    bench.store.send(&queue, r#"{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"lake"}"#);
    bench.store.send(&queue, "hello");
    bench.ask(&create);
    bench.check("after messages that do not matter");
    assert_eq!(bench.store.depth(&queue), (0, 1), "only the unknown text stays");
}

#[test]
fn files_in_a_bucket_are_files() {
    let Some(mut bench) = Bench::new() else { return };
    let line = |i: u64| format!("{{\"id\":{i},\"text\":\"{}\"}}\n", "x".repeat(90));
    let large: String = (0..120_000).map(line).collect();
    let objects = [
        ("in/a b.json".to_owned(), line(1)),
        ("in/_hidden.json".to_owned(), line(2)),
        ("in/deep/er/c.json".to_owned(), line(3)),
        ("csv/x.csv".to_owned(), "id,name\n1,a\n2,b\n".to_owned()),
        ("large/l.json".to_owned(), large),
    ];
    bench.store.put("lake", &objects);
    let one = |sql: &str| bench.ask(sql).remove(0);
    let files = one(
        "SELECT count(*) AS n, min(_metadata.file_path) AS p, min(_metadata.file_name) AS f FROM json.`s3://lake/in`",
    );
    assert_eq!(files, serde_json::json!({"n": 2, "p": "s3://lake/in/a%20b.json", "f": "a b.json"}));
    assert_eq!(one("SELECT sum(id) AS s FROM json.`s3a://lake/in/deep/er/c.json`")["s"], 3);
    assert_eq!(one("SELECT sum(id) AS s FROM read_files('s3://lake/{csv,none}')")["s"], 3);
    assert_eq!(
        one("SELECT count(*) AS n, sum(id) AS s FROM read_files('s3://lake/large/*.json')")["s"],
        120_000u64 * 119_999 / 2
    );
    // Keys as options: shown masked.
    let endpoint = bench.store.environment().remove(0).1;
    let create = format!(
        "CREATE STREAMING TABLE t AS SELECT * FROM cloud_files('s3://lake/csv', 'csv', map('awsAccessKey', 'AKIA1', \
         'awsSecretKey', 'hunter2', 'endpoint', '{endpoint}', 'region', 'us-east-1'))"
    );
    let rows = bench.ask(&format!(
        "{create}; SHOW CREATE TABLE t; DESCRIBE EXTENDED t; DESCRIBE STREAM t; SELECT count(*) AS n FROM t"
    ));
    assert_eq!(rows.last().unwrap()["n"], 2);
    let shown = Value::from(rows).to_string();
    assert!(shown.contains("awsSecretKey") && !shown.contains("hunter2") && !shown.contains("AKIA1"), "{shown}");
}

#[test]
fn azure_is_read_like_the_others() {
    let Some(azurite) = std::env::var_os("ALLUVIUM_AZURITE") else {
        eprintln!("skipped: ALLUVIUM_AZURITE does not name azurite-blob");
        return;
    };
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let service = Command::new(azurite)
        .args(["--inMemoryPersistence", "--silent", "--disableTelemetry", "--skipApiVersionCheck", "--blobPort"])
        .arg(port.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _service = Ends(service);
    let begun = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begun.elapsed() < PATIENCE, "azurite does not answer");
        std::thread::sleep(Duration::from_millis(50));
    }
    let endpoint = format!("http://127.0.0.1:{port}");
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/object_stores/azure.py");
    let mut put = Command::new("python3").arg(script).args([&endpoint, "lake"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = put.stdin.take().unwrap();
    (0..25).for_each(|i| {
        writeln!(input, "{}", serde_json::json!([format!("in/a {i}.json"), format!("{{\"id\":{i}}}")])).unwrap()
    });
    drop(input);
    assert!(put.wait().unwrap().success());
    // The emulator's well-known key.
    let key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
    let connection = format!("AccountName=devstoreaccount1;AccountKey={key};BlobEndpoint={endpoint}/devstoreaccount1;");
    let engine = Engine::new();
    let create = format!(
        "CREATE OR REFRESH STREAMING TABLE t AS SELECT id, _metadata.file_path AS p FROM \
         cloud_files('az://lake/in', 'json', map('connectionString', '{connection}', 'inferColumnTypes', 'true', \
         'maxFilesPerTrigger', '10'));"
    );
    let rows = engine.ask(&format!("{create} {create} SELECT count(*) AS n, sum(id) AS s, min(p) AS p FROM t"));
    assert_eq!(rows, [serde_json::json!({"n": 25, "s": 300, "p": "az://lake/in/a%200.json"})]);
    // The other spelling of a container, and what is done with objects besides reading them.
    let moves = format!(
        "CREATE STREAMING TABLE u AS SELECT id FROM cloud_files('abfss://lake@devstoreaccount1.dfs.core.windows.net/in', \
         'json', map('connectionString', '{connection}', 'schema', 'id BIGINT', 'cleanSource', 'MOVE', \
         'cleanSource.moveDestination', 'abfss://lake@devstoreaccount1.dfs.core.windows.net/done', \
         'cleanSource.retentionDuration', '0 seconds'));"
    );
    let files = |table: &str| format!("SELECT state, count(*) AS n FROM cloud_files_state('{table}') GROUP BY state;");
    let again = format!(
        "{moves} ALTER STREAM t FORGET FILE 'a 3.json'; ALTER STREAM t SKIP FILE 'az://lake/in/b.json'; {create} {} \
         SELECT count(*) AS n FROM cloud_files_state('u') WHERE move_location LIKE 'abfss://%/done/a %.json'; \
         SELECT count(*) AS n FROM (SELECT * FROM t)",
        files("t")
    );
    let rows = engine.ask(&again);
    // What was moved away is not there to be read again.
    let counted = |state: &str, n: u64| rows.contains(&serde_json::json!({"state": state, "n": n}));
    assert!(counted("ingested", 24) && counted("skipped", 1), "{rows:?}");
    assert_eq!(rows[rows.len() - 2..], [serde_json::json!({"n": 25}), serde_json::json!({"n": 25})]);
}

#[test]
fn what_cannot_be_read_is_told() {
    let Some(mut bench) = Bench::new() else { return };
    bench.store.put(
        "lake",
        &[("in/a.json".to_owned(), "{\"id\":1}".to_owned()), ("t/_delta_log/0.json".to_owned(), "{}".to_owned())],
    );
    let stream = |path: &str, options: &str| {
        format!(
            "CREATE STREAMING TABLE t AS SELECT * FROM cloud_files('{path}', 'json', map('schema', 'id BIGINT'{options}))"
        )
    };
    for (sql, code, exit) in [
        (stream("s3://nowhere/in", ""), "BUCKET_NOT_FOUND", 3),
        ("SELECT * FROM json.`s3://nowhere/in`".to_owned(), "BUCKET_NOT_FOUND", 3),
        (stream("s3://lake/in/a.json", ""), "STREAM_OF_ONE_FILE", 1),
        (stream("s3://lake/t", ""), "PATH_IS_DELTA_TABLE", 1),
        (stream("s3://lake//in", ""), "INVALID_PATH", 1),
        (stream("s3://lake/in", ", 'useNotifications', 'true'"), "QUEUE_REQUIRED", 1),
        (stream("s3://lake/in", ", 'connectionString', 'x'"), "INVALID_OPTION", 1),
        (stream("s3://lake/in", ", 'awsAccessKey', 'x'"), "INVALID_OPTION", 1),
        (stream("/tmp", ", 'region', 'x'"), "INVALID_OPTION", 1),
        (stream("gs://lake/in", ", 'useNotifications', 'true'"), "NOT_SUPPORTED_YET", 1),
        ("SELECT * FROM json.`s3://lake/none`".to_owned(), "UNABLE_TO_INFER_SCHEMA", 1),
    ] {
        assert_eq!(bench.refused(&sql), (code.to_owned(), Some(exit)), "{sql}");
    }
    let queue = bench.store.queue("news", "lake").replace("news", "none");
    let sql = stream("s3://lake/in", &format!(", 'useNotifications', 'true', 'queueUrl', '{queue}'"));
    assert_eq!(bench.refused(&sql), ("QUEUE_NOT_FOUND".to_owned(), Some(3)));
}
