//! Random queries over random rows with NULLs, cut at random into epochs, with restarts between them and crashes within: after
//! each refresh the table is what the same query gives over the files as they are, read once, without stream, state or epochs.
//! With watermarks, that is of the rows which were not late what is final (`oracle.rs`). VERIFY STREAM must say the same.
//!
//! `ALLUVIUM_TEST_CASES` sets the number of cases, `ALLUVIUM_TEST_SEED` the first one's seed, `ALLUVIUM_TEST_KIND` a kind of
//! queries, `ALLUVIUM_TEST_THREADS` how many run at a time. A case that fails is told as a script.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod event_time;
mod joins;
mod oracle;
mod queries;
mod rows;
mod sessions;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use alluvium_parser::{Place, parse_statement};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type};
use arrow::util::display::array_value_to_string;
use event_time::NAMES;
use oracle::{BySource, Expected, Input, OpenRows};
use queries::Query;
use rows::{COLUMNS, Row, Rows};

use super::{Outcome, Session, SessionOptions};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::state::tests::{Random, TestDir};

/// Where an epoch is interrupted.
const CRASHES: &[&str] = &[
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

/// A warehouse with its landing directories.
struct Warehouse {
    dir: TestDir,
    files: usize,
    script: String,
    /// Statements by their first word: how many, and how long they took.
    took: Took,
}

type Took = BTreeMap<String, (u32, Duration)>;

impl Warehouse {
    fn new() -> Warehouse {
        let place = Warehouse { dir: TestDir::new(), files: 0, script: String::new(), took: Took::new() };
        for name in NAMES {
            std::fs::create_dir_all(place.dir.0.join(name)).unwrap();
            std::fs::create_dir_all(place.dir.0.join("oracle").join(name)).unwrap();
        }
        place
    }

    /// A file of rows; in the order of names as they come, since several may have one modification time.
    fn land(&mut self, name: &str, rows: &[Row]) {
        self.files += 1;
        let text: String = rows.iter().map(|row| row.json(None)).collect();
        let path = self.dir.0.join(name).join(format!("{:04}.json", self.files));
        // Written aside: a watch must not see half of it.
        let aside = self.dir.0.join("aside");
        std::fs::write(&aside, &text).unwrap();
        std::fs::rename(&aside, &path).unwrap();
        writeln!(self.script, "-- {name}/{:04}.json:\n{text}", self.files).unwrap();
    }

    /// What the oracle reads.
    fn show_oracle(&self, rows: &[Vec<String>; 3]) {
        for (name, rows) in NAMES.iter().zip(rows) {
            std::fs::write(self.dir.0.join("oracle").join(name).join("all.json"), rows.concat()).unwrap();
        }
    }

    async fn open(&mut self, partitions: usize, greatest_counts: bool) -> Session {
        writeln!(self.script, "-- a new session, SET target_partitions = {partitions};").unwrap();
        let mut settings = vec![
            ("target_partitions".to_string(), partitions.to_string()),
            // RocksDB sets disk space aside by this.
            ("memory_limit".to_string(), "64mb".to_string()),
        ];
        if greatest_counts {
            let policy = "spark.sql.streaming.multipleWatermarkPolicy";
            writeln!(self.script, "SET {policy} = max;").unwrap();
            settings.push((policy.to_string(), "max".to_string()));
        }
        let warehouse = self.dir.0.join("warehouse");
        Session::open(SessionOptions { warehouse, settings, ..SessionOptions::default() }).await.unwrap()
    }

    async fn run(&mut self, session: &Session, sql: &str) -> Result<Vec<RecordBatch>> {
        writeln!(self.script, "{sql};").unwrap();
        let begun = Instant::now();
        let statement = parse_statement(sql, Place { line: 1, column: 1 }).map_err(Error::from)?;
        let rows = match session.execute(&statement).await? {
            Outcome::Rows(rows) => rows.collect().await,
            _ => Ok(Vec::new()),
        };
        let word = sql.split([' ', '(']).next().unwrap();
        let word = if sql == "SELECT * FROM t" { "SELECT * FROM t" } else { word };
        let took = self.took.entry(word.to_string()).or_default();
        *took = (took.0 + 1, took.1 + begun.elapsed());
        rows
    }

    /// What the oracle's query gives.
    async fn ask(&mut self, session: &Session, query: &Query, until: Option<i64>) -> Result<Vec<String>> {
        let until = until.map_or("CAST(NULL AS BIGINT)".to_string(), |until| until.to_string());
        let mut sql = query.oracle.replace(":until", &until);
        for name in NAMES {
            let files = self.dir.0.join("oracle").join(name);
            sql = sql.replace(&format!("STREAM {name}"), &of_files(&files));
        }
        Ok(lines(&self.run(session, &sql).await?))
    }
}

fn of_files(directory: &Path) -> String {
    let directory = directory.display();
    format!("read_files('{directory}', format => 'json', schema => '{COLUMNS}, arrival BIGINT')")
}

fn of_stream(directory: &Path, most: usize) -> String {
    let directory = directory.display();
    format!("cloud_files('{directory}', 'json', map('schema', '{COLUMNS}', 'cloudFiles.maxFilesPerTrigger', '{most}'))")
}

/// Rows as sorted text; numbers that were added up in another order are the same.
fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let cell = |column: &dyn Array, row: usize| match column.data_type() {
        _ if column.is_null(row) => "NULL".to_string(),
        DataType::Float64 => {
            let number = column.as_primitive::<Float64Type>().value(row);
            // Nothing of note is smaller: -0.0 and what is left of differences.
            if number.abs() < 1e-9 { "0".to_string() } else { format!("{number:.8e}") }
        }
        _ => array_value_to_string(column, row).unwrap(),
    };
    let mut lines: Vec<String> = batches
        .iter()
        .flat_map(|batch| {
            (0..batch.num_rows()).map(|row| {
                batch.columns().iter().map(|column| cell(column.as_ref(), row)).collect::<Vec<_>>().join("|")
            })
        })
        .collect();
    lines.sort();
    lines
}

/// What came of a case.
enum Ran {
    Refused(String),
    Rows(usize),
}

/// One query from its creation to its last refresh.
struct Case {
    random: Random,
    place: Warehouse,
    query: Query,
    input: Input,
    rows: Rows,
    /// Lines of what the oracle reads.
    shown: [Vec<String>; 3],
    open: OpenRows,
    /// Rows of the table.
    found: usize,
}

impl Case {
    async fn run(&mut self) -> std::result::Result<Ran, String> {
        let greatest_counts = self.input.greatest_counts;
        let mut session = self.place.open(1 + self.random.below(4), greatest_counts).await;
        let dim =
            "CREATE TABLE dim AS SELECT * FROM (VALUES ('a', 10), ('b', 20), ('A', 30), ('zz', 40)) AS v (name, more)";
        self.place.run(&session, dim).await.unwrap();
        let reads: Vec<usize> =
            (0..3).filter(|at| self.query.stream.contains(&format!("STREAM {}", NAMES[*at]))).collect();
        for source in &reads {
            self.land(*source);
        }
        let mut sql = self.query.stream.clone();
        for name in NAMES {
            sql = sql.replace(&format!("STREAM {name}"), &of_stream(&self.place.dir.0.join(name), self.input.most));
        }
        let Query { mode, properties, .. } = &self.query;
        let table = format!("STREAMING TABLE t {properties}OUTPUT MODE {mode} AS {sql}");
        if let Err(error) = self.place.run(&session, &format!("CREATE {table}")).await {
            return Ok(Ran::Refused(format!("{error}: {}", self.query.stream)));
        }
        self.check(&session).await?;
        for _ in 0..1 + self.random.below(5) {
            for _ in 0..self.random.below(4) {
                let source = reads[self.random.below(reads.len())];
                self.land(source);
            }
            if self.random.below(3) == 0 {
                drop(session);
                session = self.place.open(1 + self.random.below(4), false).await;
            }
            if self.random.below(3) == 0 {
                let (step, times) = (CRASHES[self.random.below(CRASHES.len())], self.random.below(3));
                writeln!(self.place.script, "-- a crash at {step}, the {times}th time").unwrap();
                failpoint::crash_here(step, times);
                let ran = self.place.run(&session, "REFRESH TABLE t").await;
                match (ran, failpoint::crashed()) {
                    (Ok(_), true) => return Err("a refresh that crashed reported success".to_string()),
                    (Err(error), false) => return Err(error.to_string()),
                    (Err(_), true) => self.place.took.entry(format!("crash {step}")).or_default().0 += 1,
                    (Ok(_), false) => {}
                }
                drop(session);
                session = self.place.open(1 + self.random.below(4), false).await;
            }
            let refresh = match self.random.below(6) {
                0 => format!("CREATE OR REFRESH {table}"),
                _ => "REFRESH TABLE t".to_string(),
            };
            self.place.run(&session, &refresh).await.map_err(|error| error.to_string())?;
            self.check(&session).await?;
        }
        if self.random.below(3) == 0
            && let Err(error) = self.place.run(&session, "VERIFY STREAM t").await
        {
            return Err(format!("{error}\n{}", error.diagnostic().help.join("\n")));
        }
        Ok(Ran::Rows(self.found))
    }

    /// A file for a source.
    fn land(&mut self, source: usize) {
        let rows = self.rows.some(&mut self.random);
        self.place.land(NAMES[source], &rows);
        self.input.waiting[source].push_back(rows);
    }

    /// Compares the table, after everything that landed was read, with the oracle.
    async fn check(&mut self, session: &Session) -> std::result::Result<(), String> {
        let failed = |error: Error| format!("the batch failed: {error}");
        let epochs = self.input.epochs();
        for epoch in &epochs {
            match &mut self.query.expected {
                Expected::Same | Expected::Limit(_) => show(&mut self.shown, &epoch.rows, epoch.late_by),
                Expected::Within(within) => within.epoch(epoch, self.input.marks.0[0].1),
                Expected::Sessions(sessions) => {
                    let sessions = sessions.clone();
                    self.open.take(&sessions, epoch);
                    // Nothing more is over than before, unless the watermark has moved.
                    if let Some(until) = epoch.until.filter(|until| epoch.late_by != Some(*until)) {
                        let mut shown = Default::default();
                        show(&mut shown, &self.open.rows, None);
                        self.place.show_oracle(&shown);
                        let all = self.place.ask(session, &self.query, Some(until)).await.map_err(failed)?;
                        self.open.end(&sessions, all, until);
                    }
                }
            }
        }
        let found = lines(&self.place.run(session, "SELECT * FROM t").await.map_err(|error| error.to_string())?);
        let watermark = self.input.watermark;
        let expected = match &self.query.expected {
            Expected::Within(within) => within.table(),
            Expected::Sessions(sessions) => self.open.table(sessions, watermark),
            Expected::Same | Expected::Limit(_) => {
                self.place.show_oracle(&self.shown);
                self.place.ask(session, &self.query, watermark).await.map_err(failed)?
            }
        };
        self.found = found.len();
        match self.query.expected {
            Expected::Limit(rows) => {
                let mut left = expected.clone();
                let known = found.iter().all(|line| {
                    let at = left.iter().position(|other| other == line);
                    at.map(|at| left.swap_remove(at)).is_some()
                });
                if !known || found.len() != rows.min(expected.len()) {
                    return Err(differs(&found, &expected, watermark));
                }
            }
            _ if !alike(&found, &expected) => return Err(differs(&found, &expected, watermark)),
            _ => {}
        }
        Ok(())
    }
}

/// What an epoch reads, for the oracle to read.
fn show(shown: &mut [Vec<String>; 3], rows: &BySource, arrival: Option<i64>) {
    for (shown, rows) in shown.iter_mut().zip(rows) {
        shown.extend(rows.iter().map(|row| row.json(arrival)));
    }
}

/// Whether lines are the same, but for the last digit that is shown of an approximate number: sums that were added in another
/// order may be rounded to either side of it.
fn alike(found: &[String], expected: &[String]) -> bool {
    let same = |found: &str, expected: &str| match (found.parse::<f64>(), expected.parse::<f64>()) {
        _ if found == expected => true,
        (Ok(a), Ok(b)) => found.contains('e') && (a - b).abs() <= 2e-8 * a.abs().max(b.abs()),
        _ => false,
    };
    let cells = |(found, expected): (&String, &String)| {
        let (found, expected): (Vec<&str>, Vec<&str>) = (found.split('|').collect(), expected.split('|').collect());
        found.len() == expected.len() && found.iter().zip(expected).all(|(found, expected)| same(found, expected))
    };
    found.len() == expected.len() && found.iter().zip(expected).all(cells)
}

fn differs(found: &[String], expected: &[String], watermark: Option<i64>) -> String {
    let without = |some: &[String], others: &[String]| {
        let mut others = others.to_vec();
        let left = some.iter().filter(|line| match others.iter().position(|other| other == *line) {
            Some(at) => {
                others.swap_remove(at);
                false
            }
            None => true,
        });
        left.map(|line| format!("\n  {line}")).collect::<String>()
    };
    let time = |at| chrono::DateTime::from_timestamp(at, 0).unwrap();
    format!(
        "the table is not what the query gives; the watermark is {watermark:?} ({:?})\nmissing:{}\nnot expected:{}",
        watermark.map(time),
        without(expected, found),
        without(found, expected)
    )
}

/// None: it is of another kind than those that are wanted.
async fn one_case(seed: u64, kind: &str, took: &mut Took) -> Option<(&'static str, std::result::Result<Ran, String>)> {
    let mut random = Random::new(seed);
    let query = Query::any(&mut random);
    if !query.kind.contains(kind) {
        return None;
    }
    let begun = Instant::now();
    let (most, greatest_counts) = ([1, 2, 3, 1000, 1000, 1000][random.below(6)], random.below(8) == 0);
    let (marks, acts) = (query.marks.clone(), query.acts && !query.marks.0.is_empty());
    let input = Input { marks, acts, most, greatest_counts, ..Input::default() };
    let joined = query.stream.contains(" AS l");
    let (rows, place, open) = (Rows::any(&mut random, joined), Warehouse::new(), OpenRows::default());
    let mut case = Case { random, place, query, input, rows, shown: Default::default(), open, found: 0 };
    let ran = case.run().await.map_err(|what| {
        format!(
            "seed {seed}, {}: {what}\n{}\n{}\n{}",
            case.query.kind, case.query.stream, case.query.oracle, case.place.script
        )
    });
    case.place.took.insert("in all".to_string(), (1, begun.elapsed()));
    *took = std::mem::take(&mut case.place.took);
    Some((case.query.kind, ran))
}

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Of the cases of a kind: how many, how many refused, how many with an empty table, rows in the end.
type Counts = (u64, u64, u64, usize);

/// What came of all cases.
#[derive(Default)]
struct Tally {
    ran: u64,
    counts: BTreeMap<&'static str, Counts>,
    took: Took,
    refused: Vec<String>,
    failed: Vec<u64>,
}

impl Tally {
    fn note(&mut self, seed: u64, kind: &'static str, what: std::result::Result<Ran, String>) {
        self.ran += 1;
        let count = self.counts.entry(kind).or_default();
        count.0 += 1;
        match what {
            Ok(Ran::Refused(why)) => {
                count.1 += 1;
                self.refused.push(format!("seed {seed}, {kind}: {why}"));
            }
            Ok(Ran::Rows(rows)) => {
                count.2 += u64::from(rows == 0);
                count.3 += rows;
            }
            Err(why) => {
                println!("{why}");
                self.failed.push(seed);
            }
        }
        if self.ran.is_multiple_of(500) {
            println!("{} cases, {} failed", self.ran, self.failed.len());
        }
    }

    fn print(&self) {
        println!("{:>40} {:>6} {:>8} {:>6} {:>7}", "kind", "cases", "refused", "empty", "rows");
        for (kind, (cases, refused, empty, rows)) in &self.counts {
            println!("{kind:>40} {cases:>6} {refused:>8} {empty:>6} {rows:>7}");
        }
        for (what, (times, duration)) in &self.took {
            println!("{what:>40} {times:>6} times, {:.1} s", duration.as_secs_f64());
        }
        self.refused.iter().take(20).for_each(|why| println!("  {why}"));
        println!("{} cases, {} refused, {} failed", self.ran, self.refused.len(), self.failed.len());
    }
}

#[test]
fn tables_are_what_their_queries_give() {
    let (seed, cases) = (from_environment("ALLUVIUM_TEST_SEED", 1), from_environment("ALLUVIUM_TEST_CASES", 60));
    let threads = from_environment("ALLUVIUM_TEST_THREADS", 1);
    let wanted = std::env::var("ALLUVIUM_TEST_KIND").unwrap_or_default();
    println!("ALLUVIUM_TEST_SEED={seed} ALLUVIUM_TEST_CASES={cases} ALLUVIUM_TEST_KIND='{wanted}'");
    let (next, tally) = (AtomicU64::new(seed), Mutex::new(Tally::default()));
    let work = || {
        // A case stays in its thread, and so do its crashes.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let enough = match wanted.is_empty() {
                true => at >= seed + cases,
                false => tally.lock().unwrap().ran >= cases,
            };
            if enough || tally.lock().unwrap().failed.len() >= 20 {
                break;
            }
            let mut took = Took::new();
            if let Some((kind, what)) = runtime.block_on(one_case(at, &wanted, &mut took)) {
                let mut tally = tally.lock().unwrap();
                tally.note(at, kind, what);
                for (what, (times, duration)) in took {
                    let known = tally.took.entry(what).or_default();
                    *known = (known.0 + times, known.1 + duration);
                }
            }
        }
    };
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let tally = tally.into_inner().unwrap();
    tally.print();
    let Tally { ran, failed, .. } = &tally;
    assert!(failed.is_empty(), "seeds {failed:?} failed");
    let (refused, empty) = (tally.refused.len() as u64, tally.counts.values().map(|count| count.2).sum::<u64>());
    assert!(*ran < 20 || refused < ran / 20 && empty < ran / 2, "{refused} refused and {empty} empty prove little");
}
