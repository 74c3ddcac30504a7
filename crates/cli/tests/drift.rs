//! Schema drift under kills: five waves of new columns, new nested fields and changed types, while the stream is killed.
//! Afterwards its table, and one that streams from it, must be those of one ingestion that knew the final schema from
//! the start.
//!
//! `ALLUVIUM_DRIFT_KILLS` sets the number of random kills, `ALLUVIUM_DRIFT_SEED` replays a run.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod engine;

use std::fmt::Write;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant, SystemTime};

use engine::{Engine, Log};

const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;
const ROWS_PER_FILE: u64 = 50;
const WAVES: u64 = 6;

/// What the files have in the end.
const FINAL_SCHEMA: &str = "id BIGINT, k STRING, amount BIGINT, color STRING, address STRUCT<city: STRING, zip: BIGINT>, \
                            tags ARRAY<STRUCT<t: STRING, w: DOUBLE>>, score DOUBLE";
const COLUMNS: &str = "id, k, amount, color, address, tags, score, _rescued_data";

/// One record, as files of this wave have it. Wave 0 is what the stream begins with.
fn record(id: u64, wave: u64) -> String {
    let mut text = format!("{{\"id\":{id},\"k\":\"k{}\"", id % 7);
    match wave {
        // Type change: every fifth amount is a text from here on; the column stays a number.
        4.. if id.is_multiple_of(5) => write!(text, ",\"amount\":\"about {id}\"").unwrap(),
        _ => write!(text, ",\"amount\":{}", id * 3).unwrap(),
    }
    match wave {
        0 => {}
        // Type change: numbers into a column of texts.
        5.. => write!(text, ",\"color\":{}", id % 10).unwrap(),
        _ => write!(text, ",\"color\":\"c{}\"", id % 3).unwrap(),
    }
    match wave {
        0 | 1 => {}
        2 => write!(text, ",\"address\":{{\"city\":\"t{}\"}}", id % 4).unwrap(),
        // Nested field, in front of the known one.
        _ => write!(text, ",\"address\":{{\"zip\":{},\"city\":\"t{}\"}}", 10_000 + id, id % 4).unwrap(),
    }
    match wave {
        0..=2 => {}
        3 | 4 => write!(text, ",\"tags\":[{{\"t\":\"a\"}},{{\"t\":\"b{}\"}}]", id % 2).unwrap(),
        // Nested field inside a list.
        _ => write!(text, ",\"tags\":[{{\"w\":{}.25,\"t\":\"a\"}}]", id).unwrap(),
    }
    if wave >= 4 {
        write!(text, ",\"score\":{}.5", id % 100).unwrap();
    }
    text.push('}');
    text
}

/// Files that land one after the other.
struct Input {
    files_per_wave: u64,
    files: u64,
}

impl Input {
    fn land(&mut self, engine: &Engine) {
        let wave = (self.files / self.files_per_wave).min(WAVES - 1);
        let first = self.files * ROWS_PER_FILE;
        let lines: Vec<String> = (first..first + ROWS_PER_FILE).map(|id| record(id, wave) + "\n").collect();
        engine.land(&format!("{:06}.json", self.files), lines.concat());
        self.files += 1;
    }

    fn done(&self) -> bool {
        self.files >= self.files_per_wave * WAVES
    }

    /// Both tables against one ingestion with the final schema, and against what the files were made of.
    #[track_caller]
    fn check(&self, engine: &Engine, when: &str) {
        let rows = self.files * ROWS_PER_FILE;
        let known = Engine::new();
        known.ask(&format!(
            "CREATE STREAMING TABLE known FROM cloud_files('{}', 'json', map('schema', '{FINAL_SCHEMA}', \
             'rescuedDataColumn', '_rescued_data'))",
            engine.landing().display()
        ));
        let expected = known.lines(&format!("SELECT {COLUMNS} FROM known"));
        assert_eq!(expected.len() as u64, rows);
        for table in ["drift", "copied"] {
            let numbers = engine.numbers(&format!("SELECT count(*), count(DISTINCT id), sum(id) FROM {table}"));
            let rows = rows as f64;
            assert_eq!(numbers, [rows, rows, rows * (rows - 1.0) / 2.0], "{table} {when}");
            let found = engine.lines(&format!("SELECT {COLUMNS} FROM {table}"));
            let differs = found.iter().zip(&expected).find(|(found, expected)| found != expected);
            assert!(differs.is_none(), "{table} {when}: {differs:?}");
            let log = Log::read(&engine.table(table));
            let mut once = log.transactions.clone();
            once.sort();
            once.dedup();
            assert_eq!(once.len(), log.transactions.len(), "an epoch was published twice in {table} {when}");
        }
        let rescued = (0..rows).filter(|id| id / ROWS_PER_FILE / self.files_per_wave >= 4 && id % 5 == 0).count();
        let numbers = engine.numbers("SELECT count(_rescued_data) FROM drift");
        assert_eq!(numbers, [rescued as f64], "rescued values {when}");
    }
}

fn drift(engine: &Engine) -> String {
    format!(
        "CREATE OR REFRESH STREAMING TABLE drift LOCATION '{}' AS SELECT * FROM cloud_files('{}', 'json', \
         map('cloudFiles.inferColumnTypes', 'true', 'cloudFiles.maxFilesPerTrigger', '1'));\n",
        engine.table("drift").display(),
        engine.landing().display(),
    )
}

fn copied(engine: &Engine) -> String {
    format!(
        "CREATE OR REFRESH STREAMING TABLE copied LOCATION '{}' AS \
         SELECT * FROM STREAM drift WITH (maxFilesPerTrigger = 2);\n",
        engine.table("copied").display(),
    )
}

/// Every step of an epoch that brings columns may be the last; the event is told nevertheless.
#[test]
fn a_crash_at_any_step_of_an_evolution_is_mended() {
    let steps = ["after_intent", "after_drift", "before_schema", "after_schema", "before_publish", "after_publish"];
    for step in steps.into_iter().chain(["before_commit"]) {
        let (engine, mut input) = (Engine::new(), Input { files_per_wave: 1, files: 0 });
        while !input.done() {
            input.land(&engine);
        }
        // The first start learns from all files; without the later ones it has something to learn.
        let later: Vec<_> = (1..WAVES).map(|file| engine.landing().join(format!("{file:06}.json"))).collect();
        let aside = engine.path().join("aside");
        std::fs::create_dir_all(&aside).unwrap();
        for file in &later {
            std::fs::rename(file, aside.join(file.file_name().unwrap())).unwrap();
        }
        engine.ask(&(drift(&engine) + &copied(&engine)));
        for file in &later {
            std::fs::rename(aside.join(file.file_name().unwrap()), file).unwrap();
        }
        for (sql, table, epoch) in [(drift(&engine), "drift", 1), (copied(&engine), "copied", 1)] {
            // A table's new columns are planned for before the epoch that needs them is chosen.
            if table == "copied" && ["after_drift", "before_schema", "after_schema"].contains(&step) {
                engine.ask(&sql);
                continue;
            }
            let point = format!("{step}:{epoch}");
            let ended = engine.run_with(&sql, &[("ALLUVIUM_FAILPOINT", &point)]);
            assert_eq!(ended.status.signal(), Some(SIGABRT), "{point} of {table} was not reached:\n{}", ended.stderr);
            engine.ask(&sql);
        }
        input.check(&engine, &format!("after a crash at {step}"));
        let epochs = engine.ask("SHOW EPOCHS FROM drift");
        let told: Vec<(u64, &str)> = epochs
            .iter()
            .filter_map(|epoch| Some((epoch["schema_version"].as_u64()?, epoch["new_columns"].as_str()?)))
            .collect();
        assert_eq!(
            told,
            [
                (1, "color STRING"),
                (2, "address STRUCT<city: STRING>"),
                (3, "address.zip BIGINT, tags ARRAY<STRUCT<t: STRING>>"),
                (4, "score DOUBLE"),
                (5, "tags.w DOUBLE"),
            ],
            "after a crash at {step}"
        );
    }
}

/// A column of INT that values outgrow: the schema's version, the table's rewriting and the epoch come one after the other,
/// and each may be the last. A table that streams from it follows.
#[test]
fn a_crash_at_any_step_of_a_widening_is_mended() {
    let drifting = ["after_drift", "before_schema", "after_schema"];
    let steps = ["before_widening", "after_widening", "before_publish", "after_publish", "before_commit"];
    for step in drifting.into_iter().chain(steps) {
        let engine = Engine::new();
        let (landing, table, copy) = (engine.landing(), engine.table("wide"), engine.table("copied"));
        let wide = format!(
            "CREATE OR REFRESH STREAMING TABLE wide LOCATION '{}' AS SELECT * FROM cloud_files('{}', 'json', \
             map('cloudFiles.schemaHints', 'id INT, v INT', 'cloudFiles.inferColumnTypes', 'true', \
             'cloudFiles.schemaEvolutionMode', 'addNewColumnsWithTypeWidening'));\n",
            table.display(),
            landing.display()
        );
        let copied = format!(
            "CREATE OR REFRESH STREAMING TABLE copied LOCATION '{}' AS SELECT * FROM STREAM wide;\n",
            copy.display()
        );
        engine.land("1.json", "{\"id\":1,\"v\":10}\n{\"id\":2,\"v\":20}\n");
        engine.ask(&(wide.clone() + &copied));
        engine.land("2.json", "{\"id\":3,\"v\":3000000000,\"w\":true}\n{\"id\":4,\"v\":2.5}\n");
        for (sql, name) in [(&wide, "wide"), (&copied, "copied")] {
            // A table's new columns are planned for before the epoch that needs them is chosen.
            if name == "wide" || !drifting.contains(&step) {
                let point = format!("{step}:1");
                let ended = engine.run_with(sql, &[("ALLUVIUM_FAILPOINT", &point)]);
                assert_eq!(
                    ended.status.signal(),
                    Some(SIGABRT),
                    "{point} of {name} was not reached:\n{}",
                    ended.stderr
                );
            }
            engine.ask(sql);
            let rows = engine.lines(&format!("SELECT id, v, w, _rescued_data FROM {name} ORDER BY id"));
            let known = engine.lines(
                "SELECT id, CAST(v AS DECIMAL(21,1)) AS v, w, _rescued_data FROM (VALUES (1, 10.0, NULL, NULL), (2, 20.0, NULL, NULL), (3, 3000000000.0, true, NULL), \
                 (4, 2.5, NULL, NULL)) AS t(id, v, w, _rescued_data) ORDER BY id",
            );
            assert_eq!(rows, known, "{name} after a crash at {step}");
            let mut once = Log::read(&engine.table(name)).transactions;
            let all = once.len();
            once.sort();
            once.dedup();
            assert_eq!(once.len(), all, "an epoch was published twice in {name} after a crash at {step}");
        }
        let widened = engine.ask("DESCRIBE HISTORY wide");
        let widened = widened.iter().filter(|commit| commit["operation"] == "CHANGE COLUMNS").count();
        assert_eq!(widened, 1, "rewritten once, whatever happened at {step}");
        let told: Vec<String> = engine
            .ask("SHOW EPOCHS FROM wide")
            .iter()
            .filter_map(|epoch| epoch["new_columns"].as_str().map(str::to_owned))
            .collect();
        assert_eq!(told, ["v DECIMAL(21,1) (was INT), w BOOLEAN"], "after a crash at {step}");
    }
}

/// Delays that look random and can be had again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit.max(1)
    }
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number: {text}")))
}

#[test]
fn five_waves_of_drift_under_random_kills() {
    let kills = from_environment("ALLUVIUM_DRIFT_KILLS").unwrap_or(10);
    let seed = from_environment("ALLUVIUM_DRIFT_SEED")
        .unwrap_or_else(|| SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_nanos().into());
    println!("{kills} kills; to replay: ALLUVIUM_DRIFT_SEED={seed} ALLUVIUM_DRIFT_KILLS={kills}");
    let mut dice = Dice(seed);
    let (engine, mut input) = (Engine::new(), Input { files_per_wave: kills.max(4), files: 0 });
    input.land(&engine);
    let script = drift(&engine) + &copied(&engine);
    let background = "START STREAM drift TRIGGER PROCESSING TIME '5 milliseconds';\n\
                      START STREAM copied TRIGGER PROCESSING TIME '5 milliseconds';\n";
    engine.ask(&script);
    let (mut killed, mut rounds, mut moved) = (0, 0, 0);
    while killed < kills || !input.done() {
        rounds += 1;
        assert!(rounds <= kills * 20 + 100, "only {killed} of {rounds} rounds lasted until their kill");
        (0..2 + dice.below(4)).for_each(|_| input.land(&engine));
        let before = Log::read(&engine.table("drift")).version;
        let in_background = dice.below(2) == 1;
        // So long after its start, or after so many more commits.
        let (delay, commits) = (Duration::from_micros(dice.below(60_000)), dice.below(4));
        let awaited = (dice.below(4) > 0).then(|| {
            let version = before.map_or(0, |version| version + 1 + commits);
            engine.table("drift").join("_delta_log").join(format!("{version:020}.json"))
        });
        let mut child = engine.start(if in_background { background } else { &script });
        let (started, mut reached) = (Instant::now(), None);
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if reached.is_none() && awaited.as_ref().is_none_or(|path| path.exists()) {
                reached = Some(Instant::now());
            }
            // More files than the awaited commits need land while it runs.
            if reached.is_none() && dice.below(200) == 0 && !input.done() {
                input.land(&engine);
            }
            let late = started.elapsed() > Duration::from_secs(20);
            if late || reached.is_some_and(|at: Instant| at.elapsed() >= delay) {
                let _ = child.kill();
                break child.wait().unwrap();
            }
            std::thread::sleep(Duration::from_micros(200));
        };
        if status.signal() == Some(SIGKILL) {
            killed += 1;
            moved += u64::from(Log::read(&engine.table("drift")).version != before);
        } else {
            let mut said = String::new();
            std::io::Read::read_to_string(child.stderr.as_mut().unwrap(), &mut said).unwrap();
            assert!(status.success(), "a restart after {killed} kills ended with {status}:\n{said}");
        }
    }
    assert!(moved * 3 >= kills, "only {moved} of {kills} killed rounds had committed anything");
    engine.ask(&script);
    input.check(&engine, &format!("after {killed} kills, seed {seed}"));
    println!("{killed} kills in {rounds} rounds, {moved} of them between commits; {} files", input.files);
}
