//! Crashes: the process is stopped at each step of the epoch protocol, and killed at random moments; afterwards the
//! tables must be those of a run that nothing disturbed, and those computed here from the input.
//!
//! `ALLUVIUM_CRASH_KILLS` sets the number of random kills, `ALLUVIUM_CRASH_SEED` replays a run.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod engine;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant, SystemTime};

use engine::{Engine, Log};

/// In the order of the protocol.
const STEPS: [&str; 8] = [
    "after_choose",
    "after_intent",
    "mid_run",
    "after_data_files",
    "before_publish",
    "after_publish",
    "before_commit",
    "after_commit",
];
/// Those of a stream that writes by key: it notes where its rows are before it publishes them.
const STEPS_BY_KEY: [&str; 9] = [
    "after_choose",
    "after_intent",
    "mid_run",
    "after_data_files",
    "after_note",
    "before_publish",
    "after_publish",
    "before_commit",
    "after_commit",
];
const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;

/// Rows of the input, made from their numbers; what the gold table must hold is computed while they are made.
struct Input {
    rows_per_file: u64,
    files: u64,
    groups: BTreeMap<u64, (u64, u64, u64)>,
}

impl Input {
    fn new(rows_per_file: u64) -> Input {
        Input { rows_per_file, files: 0, groups: BTreeMap::new() }
    }

    fn rows(&self) -> u64 {
        self.files * self.rows_per_file
    }

    /// Makes the next file and lands it.
    fn land(&mut self, engine: &Engine) {
        let mut text = String::new();
        for id in self.rows()..self.rows() + self.rows_per_file {
            let (key, amount) = (scatter(id) % 97, amount(id));
            let ts = format!("2026-01-{:02} {:02}:{:02}:{:02}", 1 + id / 86_400, id / 3600 % 24, id / 60 % 60, id % 60);
            writeln!(text, "{{\"id\":{id},\"ts\":\"{ts}\",\"key\":\"k{key:02}\",\"amount\":{amount}}}").unwrap();
            let group = self.groups.entry(key).or_default();
            *group = (group.0 + 1, group.1 + amount, group.2.max(amount));
        }
        engine.land(&format!("{:06}.json", self.files), text);
        self.files += 1;
    }

    /// The gold table as the engine prints it, one line a row, sorted.
    fn gold(&self) -> Vec<String> {
        let line = |(key, (n, total, most)): (&u64, &(u64, u64, u64))| {
            format!("{{\"key\":\"k{key:02}\",\"n\":{n},\"total\":{total},\"most\":{most}}}")
        };
        self.groups.iter().map(line).collect()
    }

    /// The minutes that the watermark has passed when everything is read, as the engine prints them: a row comes each
    /// second, and the watermark is a second behind the last one.
    fn minutes(&self) -> Vec<String> {
        let over = self.rows().saturating_sub(2) / 60;
        let line = |minute: u64| {
            let total: u64 = (minute * 60..minute * 60 + 60).map(amount).sum();
            format!("{{\"minute\":{minute},\"n\":60,\"total\":{total}}}")
        };
        let mut lines: Vec<String> = (0..over).map(line).collect();
        lines.sort();
        lines
    }

    /// What the join of each row with the one half a minute later gives when everything is read, as the engine prints it. Of
    /// these only those with an even amount match; a row without a match comes when the watermark has passed the time of
    /// the other.
    fn pairs(&self) -> Vec<String> {
        let line = |id: u64| {
            let other = id + 30;
            match (amount(other) % 2 == 0, other < self.rows(), other + 2 <= self.rows()) {
                (true, true, _) => Some(format!("{{\"id\":{id},\"other\":{other}}}")),
                (false, _, true) => Some(format!("{{\"id\":{id},\"other\":null}}")),
                _ => None,
            }
        };
        let mut lines: Vec<String> = (0..self.rows()).filter_map(line).collect();
        lines.sort();
        lines
    }

    /// Compares the table of the join with the input.
    #[track_caller]
    fn check_pairs(&self, engine: &Engine, when: &str) {
        assert_eq!(engine.lines("SELECT id, other FROM pairs"), self.pairs(), "pairs {when}");
        let log = Log::read(&engine.table("pairs"));
        assert_eq!(log.rows, self.pairs().len() as u64, "rows of the files in the log of pairs {when}");
    }

    /// Compares the table of windows with the input.
    #[track_caller]
    fn check_minutes(&self, engine: &Engine, when: &str) {
        assert_eq!(engine.lines("SELECT minute, n, total FROM minutes"), self.minutes(), "minutes {when}");
        let log = Log::read(&engine.table("minutes"));
        assert_eq!(log.rows, self.minutes().len() as u64, "rows of the files in the log of minutes {when}");
    }

    /// Compares a table that is written by key with the input.
    #[track_caller]
    fn check_totals(&self, engine: &Engine, when: &str) {
        assert_eq!(engine.lines("SELECT key, n, total, most FROM totals"), self.gold(), "totals {when}");
        let log = Log::read(&engine.table("totals"));
        assert_eq!(log.rows, self.groups.len() as u64, "rows of the files in the log of totals {when}");
    }

    /// Compares both tables with the input, by the engine's own reading and by the log on disk.
    #[track_caller]
    fn check(&self, engine: &Engine, when: &str) {
        let bronze = engine.numbers("SELECT count(*), count(DISTINCT id), min(id), max(id), sum(id) FROM bronze");
        let rows = self.rows() as f64;
        assert_eq!(bronze, [rows, rows, 0.0, rows - 1.0, rows * (rows - 1.0) / 2.0], "bronze {when}");
        assert_eq!(engine.lines("SELECT key, n, total, most FROM gold"), self.gold(), "gold {when}");
        for (table, rows) in [("bronze", self.rows()), ("gold", self.groups.len() as u64)] {
            let log = Log::read(&engine.table(table));
            assert_eq!(log.rows, rows, "rows of the files in the log of {table} {when}");
            let mut once = log.transactions.clone();
            once.sort();
            once.dedup();
            assert_eq!(once.len(), log.transactions.len(), "an epoch was published twice in {table} {when}");
        }
    }
}

fn amount(id: u64) -> u64 {
    scatter(id ^ 0xA5A5) % 1_000
}

fn scatter(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn bronze(engine: &Engine, files_per_epoch: u32) -> String {
    format!(
        "CREATE OR REFRESH STREAMING TABLE bronze LOCATION '{}' AS SELECT id, key, amount FROM cloud_files('{}', 'json', \
         map('schema', 'id BIGINT, key STRING, amount BIGINT', 'cloudFiles.maxFilesPerTrigger', '{files_per_epoch}'));\n",
        engine.table("bronze").display(),
        engine.landing().display(),
    )
}

fn gold(engine: &Engine, files_per_epoch: u32) -> String {
    format!(
        "CREATE OR REFRESH STREAMING TABLE gold LOCATION '{}' OUTPUT MODE COMPLETE AS \
         SELECT key, count(*) AS n, sum(amount) AS total, max(amount) AS most \
         FROM STREAM bronze WITH (maxFilesPerTrigger = {files_per_epoch}) GROUP BY key;\n",
        engine.table("gold").display(),
    )
}

fn minutes(engine: &Engine) -> String {
    format!(
        "CREATE OR REFRESH STREAMING TABLE minutes LOCATION '{}' AS \
         SELECT (unix_timestamp(window.start) - unix_timestamp(TIMESTAMP '2026-01-01')) DIV 60 AS minute, count(*) AS n, \
         sum(amount) AS total FROM cloud_files('{}', 'json', map('schema', 'ts TIMESTAMP, amount BIGINT', \
         'cloudFiles.maxFilesPerTrigger', '1')) WATERMARK ts DELAY OF INTERVAL 1 SECOND GROUP BY window(ts, '1 minute');\n",
        engine.table("minutes").display(),
        engine.landing().display(),
    )
}

fn pairs(engine: &Engine) -> String {
    let files = format!(
        "cloud_files('{}', 'json', map('schema', 'id BIGINT, ts TIMESTAMP, amount BIGINT', \
         'cloudFiles.maxFilesPerTrigger', '1')) WATERMARK ts DELAY OF INTERVAL 1 SECOND",
        engine.landing().display()
    );
    format!(
        "CREATE OR REFRESH STREAMING TABLE pairs LOCATION '{}' AS SELECT l.id, r.id AS other FROM {files} AS l \
         LEFT JOIN {files} AS r ON l.id + 30 = r.id AND r.amount % 2 = 0 \
         AND r.ts BETWEEN l.ts AND l.ts + INTERVAL 30 SECONDS;\n",
        engine.table("pairs").display(),
    )
}

/// The same groups as in gold, by key. With `vectors` former rows die by deletion vectors, else by rewriting files.
fn totals(engine: &Engine, files_per_epoch: u32, vectors: bool) -> String {
    format!(
        "CREATE OR REFRESH STREAMING TABLE totals LOCATION '{}' TBLPROPERTIES ('delta.enableDeletionVectors' = '{vectors}') \
         OUTPUT MODE UPDATE AS SELECT key, count(*) AS n, sum(amount) AS total, max(amount) AS most \
         FROM cloud_files('{}', 'json', map('schema', 'key STRING, amount BIGINT', \
         'cloudFiles.maxFilesPerTrigger', '{files_per_epoch}')) GROUP BY key HAVING sum(amount) >= 0;\n",
        engine.table("totals").display(),
        engine.landing().display(),
    )
}

/// Runs a statement that must be stopped by the fail point.
#[track_caller]
fn crash_at(engine: &Engine, sql: &str, point: &str) {
    let ended = engine.run_with(sql, &[("ALLUVIUM_FAILPOINT", point)]);
    assert_eq!(ended.status.signal(), Some(SIGABRT), "{point} was not reached: {}\n{}", ended.status, ended.stderr);
}

#[test]
fn each_step_of_an_epoch_may_be_the_last() {
    for step in STEPS {
        for epoch in [0, 2] {
            let (engine, mut input) = (Engine::new(), Input::new(40));
            (0..4).for_each(|_| input.land(&engine));
            let (bronze, gold) = (bronze(&engine, 1), gold(&engine, 1));
            let point = format!("{step}:{epoch}");
            crash_at(&engine, &bronze, &point);
            engine.ask(&bronze);
            crash_at(&engine, &gold, &point);
            engine.ask(&gold);
            input.check(&engine, &format!("after a crash at {point}"));
            // And it goes on as if nothing had been.
            input.land(&engine);
            engine.ask(&(bronze + &gold));
            input.check(&engine, &format!("one file after a crash at {point}"));
        }
    }
}

/// Epoch 2 gives the first minute, epoch 4 the second: no file is left for it, only the watermark makes it due.
#[test]
fn windows_come_out_once_whatever_step_is_the_last() {
    for step in STEPS {
        for epoch in [2, 4] {
            let (engine, mut input) = (Engine::new(), Input::new(40));
            (0..4).for_each(|_| input.land(&engine));
            let (minutes, point) = (minutes(&engine), format!("{step}:{epoch}"));
            crash_at(&engine, &minutes, &point);
            engine.ask(&minutes);
            input.check_minutes(&engine, &format!("after a crash at {point}"));
            input.land(&engine);
            engine.ask(&minutes);
            input.check_minutes(&engine, &format!("one file after a crash at {point}"));
        }
    }
}

/// Windows that are replaced while they are open, and forgotten once they are over; their rows stay.
#[test]
fn windows_by_key_leave_the_index_when_they_are_over() {
    for step in ["after_note", "after_publish", "before_commit"] {
        for epoch in [2, 4] {
            let (engine, mut input) = (Engine::new(), Input::new(40));
            (0..4).for_each(|_| input.land(&engine));
            let sql = format!(
                "CREATE OR REFRESH STREAMING TABLE open LOCATION '{}' OUTPUT MODE UPDATE AS \
                 SELECT window.start, window.end, count(*) AS n, sum(amount) AS total FROM cloud_files('{}', 'json', \
                 map('schema', 'ts TIMESTAMP, amount BIGINT', 'cloudFiles.maxFilesPerTrigger', '1')) \
                 WATERMARK ts DELAY OF INTERVAL 1 SECOND GROUP BY window(ts, '1 minute');\n",
                engine.table("open").display(),
                engine.landing().display(),
            );
            // The fourth epoch writes nothing: only the watermark is due.
            let point = format!("{}:{epoch}", if epoch == 4 { "before_commit" } else { step });
            crash_at(&engine, &sql, &point);
            engine.ask(&sql);
            for when in ["after a crash", "two files after a crash"] {
                let amounts: u64 = (0..input.rows()).map(amount).sum();
                let found = engine.numbers("SELECT count(*), sum(n), sum(total) FROM open");
                assert_eq!(
                    found,
                    [input.rows().div_ceil(60) as f64, input.rows() as f64, amounts as f64],
                    "{when} at {point}"
                );
                let described = engine.ask("DESCRIBE STREAM open");
                let value = |name: &str| {
                    let row = described.iter().find(|row| row["property"] == name);
                    row.and_then(|row| row["value"].as_str()).unwrap_or_default().to_string()
                };
                assert!(value("operator 0").starts_with("1 row"), "{when} at {point}: {described:?}");
                assert!(value("index").starts_with("1 row"), "{when} at {point}: {described:?}");
                (0..2).for_each(|_| input.land(&engine));
                engine.ask(&sql);
            }
        }
    }
}

/// Epoch 1 brings the first pairs and the first rows without a match; epoch 4 has no file, only the watermark.
#[test]
fn pairs_come_out_once_whatever_step_is_the_last() {
    for step in STEPS {
        for epoch in [1, 4] {
            let (engine, mut input) = (Engine::new(), Input::new(40));
            (0..4).for_each(|_| input.land(&engine));
            let (pairs, point) = (pairs(&engine), format!("{step}:{epoch}"));
            crash_at(&engine, &pairs, &point);
            engine.ask(&pairs);
            input.check_pairs(&engine, &format!("after a crash at {point}"));
            input.land(&engine);
            engine.ask(&pairs);
            input.check_pairs(&engine, &format!("one file after a crash at {point}"));
            // The watermark is a second behind the last row, and a left row is kept for half a minute more.
            let described = engine.ask("DESCRIBE STREAM pairs");
            let left =
                described.iter().find(|row| row["property"] == "operator 0 left side").map(|row| row["value"].clone());
            let left = left.unwrap_or_default();
            assert!(left.as_str().is_some_and(|left| left.starts_with("31 rows, ")), "{described:?}");
        }
    }
}

/// How many rows a LIMIT has let through is right whatever step is the last; which they are is not said.
#[test]
fn a_limit_is_kept_whatever_step_is_the_last() {
    for step in STEPS {
        let (engine, mut input) = (Engine::new(), Input::new(40));
        (0..4).for_each(|_| input.land(&engine));
        let limited = format!(
            "CREATE OR REFRESH STREAMING TABLE limited LOCATION '{}' AS SELECT id FROM cloud_files('{}', 'json', \
             map('schema', 'id BIGINT', 'cloudFiles.maxFilesPerTrigger', '1')) LIMIT 100;\n",
            engine.table("limited").display(),
            engine.landing().display()
        );
        // Epoch 2 comes to the limit.
        let point = format!("{step}:2");
        crash_at(&engine, &limited, &point);
        engine.ask(&limited);
        engine.ask(&limited);
        let found = engine.numbers("SELECT count(*), count(DISTINCT id) FROM limited");
        assert_eq!(found, [100.0, 100.0], "after a crash at {point}");
    }
}

/// A file with a row that is late: it goes into a table of its own, once.
#[test]
fn late_rows_are_kept_once_whatever_step_is_the_last() {
    // The epoch gives no rows of its own: none is on its way in the midst of it, and it is the late ones that are published.
    let steps = STEPS.iter().filter(|step| **step != "mid_run");
    for step in steps.chain(&["before_late_rows", "after_late_rows"]) {
        let (engine, mut input) = (Engine::new(), Input::new(40));
        (0..4).for_each(|_| input.land(&engine));
        let minutes = minutes(&engine).replace(" AS SELECT", " TBLPROPERTIES ('alluvium.lateRows' = 'late') AS SELECT");
        engine.ask(&minutes);
        // Four files and the watermark alone: the next epoch is the fifth.
        engine.land("late.json", "{\"ts\":\"2026-01-01 00:00:05\",\"amount\":7}\n");
        crash_at(&engine, &minutes, &format!("{step}:5"));
        engine.ask(&minutes);
        input.check_minutes(&engine, &format!("after a late row and a crash at {step}"));
        assert_eq!(engine.numbers("SELECT count(*), min(epoch) FROM late"), [1.0, 5.0], "late rows after {step}");
        engine.ask(&minutes);
        assert_eq!(engine.numbers("SELECT count(*), min(epoch) FROM late"), [1.0, 5.0], "late rows, later");
    }
}

#[test]
fn rows_by_key_are_replaced_once_whatever_step_is_the_last() {
    for (number, step) in STEPS_BY_KEY.into_iter().enumerate() {
        for epoch in [0, 3] {
            let (engine, mut input) = (Engine::new(), Input::new(40));
            (0..5).for_each(|_| input.land(&engine));
            let (totals, point) = (totals(&engine, 1, number % 3 != 0), format!("{step}:{epoch}"));
            crash_at(&engine, &totals, &point);
            // The epoch that is run again may end there too.
            if !["after_choose", "after_commit"].contains(&step) {
                crash_at(&engine, &totals, &format!("before_commit:{epoch}"));
            }
            engine.ask(&totals);
            input.check_totals(&engine, &format!("after a crash at {point}"));
            (0..9).for_each(|_| input.land(&engine));
            engine.ask(&totals);
            input.check_totals(&engine, &format!("nine files after a crash at {point}"));
        }
    }
}

/// Late rows are counted where they are missing: in the epoch's row of SHOW EPOCHS.
#[test]
fn late_rows_are_counted_and_state_is_that_of_open_windows() {
    let (engine, mut input) = (Engine::new(), Input::new(40));
    (0..4).for_each(|_| input.land(&engine));
    let minutes = minutes(&engine);
    engine.ask(&minutes);
    let late = "{\"ts\":\"2026-01-01 00:00:30\",\"amount\":5}\n{\"ts\":\"2026-01-01 00:02:35\",\"amount\":7}\n";
    engine.land("late.json", late);
    engine.ask(&minutes);
    input.check_minutes(&engine, "with a late row");
    let epochs = engine.ask("SHOW EPOCHS FROM minutes");
    let rows_late: Vec<u64> = epochs.iter().map(|epoch| epoch["rows_late"].as_u64().unwrap()).collect();
    // Four files, one epoch for the watermark, and the file with the late row, which moves nothing.
    assert_eq!(rows_late, [0, 0, 0, 0, 0, 1]);
    let watermarks: Vec<&str> = epochs.iter().filter_map(|epoch| epoch["watermark"].as_str()).collect();
    assert_eq!(watermarks.len(), 5, "{epochs:?}");
    assert!(watermarks[4].starts_with("2026-01-01 00:02:38"), "{watermarks:?}");
    let described: BTreeMap<String, String> = (engine.ask("DESCRIBE STREAM minutes").iter())
        .map(|row| (row["property"].as_str().unwrap().to_string(), row["value"].as_str().unwrap().to_string()))
        .collect();
    assert!(described["watermark"].starts_with("2026-01-01 00:02:38"), "{described:?}");
    assert!(described["operator 0"].starts_with("1 row, "), "{described:?}");
    assert!(described["last epoch"].ends_with("1 came too late"), "{described:?}");
}

#[test]
fn a_restart_may_crash_as_well() {
    for first in STEPS {
        // A step that the repeated epoch comes to again, whatever was done before the first crash.
        let (engine, mut input) = (Engine::new(), Input::new(40));
        (0..3).for_each(|_| input.land(&engine));
        let (bronze, gold) = (bronze(&engine, 1), gold(&engine, 1));
        for statement in [&bronze, &gold] {
            crash_at(&engine, statement, &format!("{first}:1"));
            let again = if first == "after_commit" { "before_commit:2" } else { "before_commit:1" };
            crash_at(&engine, statement, again);
            crash_at(&engine, statement, again);
            engine.ask(statement);
        }
        input.check(&engine, &format!("after crashes at {first} and twice before the commit"));
    }
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number: {text}")))
}

/// Delays that look random and can be had again.
struct Dice {
    seed: u64,
    thrown: u64,
}

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.thrown += 1;
        scatter(self.seed ^ scatter(self.thrown)) % limit.max(1)
    }
}

#[test]
fn kills_at_random_moments_lose_nothing_and_double_nothing() {
    let kills = from_environment("ALLUVIUM_CRASH_KILLS").unwrap_or(8);
    let seed = from_environment("ALLUVIUM_CRASH_SEED")
        .unwrap_or_else(|| SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_nanos().into());
    println!("{kills} kills; to replay: ALLUVIUM_CRASH_SEED={seed} ALLUVIUM_CRASH_KILLS={kills}");
    let mut dice = Dice { seed, thrown: 0 };
    let (engine, mut input) = (Engine::new(), Input::new(200));
    let script = bronze(&engine, 1)
        + &gold(&engine, 1)
        + &minutes(&engine)
        + &pairs(&engine)
        + &totals(&engine, 1, seed % 2 == 0);
    // Both streams at once, in the background, for every other round.
    let background = "START STREAM bronze TRIGGER PROCESSING TIME '5 milliseconds';\n\
                      START STREAM gold TRIGGER PROCESSING TIME '5 milliseconds';\n\
                      START STREAM minutes TRIGGER PROCESSING TIME '5 milliseconds';\n\
                      START STREAM pairs TRIGGER PROCESSING TIME '5 milliseconds';\n\
                      START STREAM totals TRIGGER PROCESSING TIME '5 milliseconds';\n";

    let (mut killed, mut rounds, mut moved) = (0, 0, 0);
    while killed < kills {
        rounds += 1;
        assert!(rounds <= kills * 4 + 20, "only {killed} of {rounds} rounds lasted until their kill");
        (0..4 + dice.below(5)).for_each(|_| input.land(&engine));
        let before = versions(&engine);
        let moment = Moment::choose(&mut dice, before);
        // Streams can be started in the background once the script has made them.
        let made = before.1.is_some() && engine.table("totals").join("_delta_log").exists();
        let in_background = dice.below(2) == 1 && made;
        let mut child = engine.start(if in_background { background } else { &script });
        let ended = moment.kill(&engine, &mut child);
        let after = versions(&engine);
        if ended.signal() == Some(SIGKILL) {
            killed += 1;
            moved += u64::from(after != before);
            println!("kill {killed} {moment}: versions of bronze and gold {before:?} -> {after:?}");
        } else {
            let mut said = String::new();
            std::io::Read::read_to_string(child.stderr.as_mut().unwrap(), &mut said).unwrap();
            assert!(ended.success(), "a restart after {killed} kills ended with {ended}:\n{said}");
        }
    }
    // Kills that only ever hit the start of the process would prove nothing.
    assert!(moved * 2 >= kills, "only {moved} of {kills} killed rounds had committed anything");
    engine.ask(&script);
    input.check(&engine, &format!("after {kills} kills, seed {seed}"));
    input.check_minutes(&engine, &format!("after {kills} kills, seed {seed}"));
    input.check_pairs(&engine, &format!("after {kills} kills, seed {seed}"));
    input.check_totals(&engine, &format!("after {kills} kills, seed {seed}"));

    let undisturbed = Engine::new();
    let mut same = Input::new(200);
    (0..input.files).for_each(|_| same.land(&undisturbed));
    undisturbed.ask(&(bronze(&undisturbed, 1_000) + &gold(&undisturbed, 1_000)));
    for table in ["bronze", "gold"] {
        let sql = format!("SELECT * FROM {table}");
        assert!(engine.lines(&sql) == undisturbed.lines(&sql), "{table} differs from an undisturbed run, seed {seed}");
    }
    println!(
        "{kills} kills in {rounds} rounds, {moved} of them between commits; {} rows, all there once",
        input.rows()
    );
}

/// When a process is killed: so long after it has published a version of a table, or after its start.
struct Moment {
    commit: Option<(&'static str, u64)>,
    delay: Duration,
}

impl Moment {
    /// One in four while the process starts, the others in the midst of its work.
    fn choose(dice: &mut Dice, before: (Option<u64>, Option<u64>)) -> Moment {
        if dice.below(4) == 0 {
            return Moment { commit: None, delay: Duration::from_micros(dice.below(150_000)) };
        }
        let (table, newest) = if dice.below(2) == 0 { ("bronze", before.0) } else { ("gold", before.1) };
        let version = newest.map_or(0, |version| version + 1) + dice.below(4);
        Moment { commit: Some((table, version)), delay: Duration::from_micros(dice.below(20_000)) }
    }

    /// Kills the child at this moment, or gives how it ended before.
    fn kill(&self, engine: &Engine, child: &mut Child) -> ExitStatus {
        let commit = self
            .commit
            .map(|(table, version)| engine.table(table).join("_delta_log").join(format!("{version:020}.json")));
        let started = Instant::now();
        let mut reached = commit.is_none().then_some(started);
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if reached.is_none() && commit.as_ref().is_some_and(|path| path.exists()) {
                reached = Some(Instant::now());
            }
            // A background stream that has nothing left to do would never get there.
            if reached.is_some_and(|at| at.elapsed() >= self.delay) || started.elapsed() > Duration::from_secs(10) {
                let _ = child.kill();
                return child.wait().unwrap();
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.commit {
            Some((table, version)) => write!(f, "{:?} after version {version} of {table}", self.delay),
            None => write!(f, "{:?} after the start", self.delay),
        }
    }
}

fn versions(engine: &Engine) -> (Option<u64>, Option<u64>) {
    let newest = |table: &str| {
        let names = std::fs::read_dir(engine.table(table).join("_delta_log")).ok()?;
        let version = |name: std::fs::DirEntry| name.file_name().to_str()?.strip_suffix(".json")?.parse::<u64>().ok();
        names.flatten().filter_map(version).max()
    };
    (newest("bronze"), newest("gold"))
}
