//! Random queries over random rows with NULLs, cut at random into epochs, with restarts: after each refresh the table is
//! what the same query gives over the files as they are, read once, without stream, state or epochs. At the end VERIFY
//! STREAM must say the same.
//!
//! `ALLUVIUM_TEST_CASES` sets the number of cases, `ALLUVIUM_TEST_SEED` the first one's seed. A case that fails is told
//! as a script.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use alluvium_parser::{Place, parse_statement};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type};
use arrow::util::display::array_value_to_string;

use super::{Outcome, Session, SessionOptions};
use crate::error::{Error, Result};
use crate::state::tests::{Random, TestDir};

const COLUMNS: &str = "k STRING, j INT, v BIGINT, x DOUBLE, b BOOLEAN, d DECIMAL(12,2), ts TIMESTAMP";
/// Seconds since 1970 of the first event.
const BEGIN: i64 = 1_767_225_600;

/// One row of the input.
#[derive(Debug, Clone)]
struct Row {
    k: Option<&'static str>,
    j: Option<i64>,
    v: Option<i64>,
    x: Option<f64>,
    b: Option<bool>,
    d: Option<i64>,
    ts: Option<i64>,
}

impl Row {
    fn any(random: &mut Random, ts: Option<i64>) -> Row {
        fn sometimes<T>(random: &mut Random, value: T) -> Option<T> {
            (random.below(6) > 0).then_some(value)
        }
        let keys = ["a", "b", "c", "A", "", "é", "long key with spaces"];
        let k = keys[random.below(keys.len())];
        let (j, v) = (random.below(4) as i64, random.below(12) as i64 - 4);
        // Quarters: their sums are exact in any order.
        let (x, d) = (random.below(40) as f64 / 4.0 - 3.0, random.below(1000) as i64 - 300);
        let b = random.below(2) == 0;
        Row {
            k: sometimes(random, k),
            j: sometimes(random, j),
            v: sometimes(random, v),
            x: sometimes(random, x),
            b: sometimes(random, b),
            d: sometimes(random, d),
            ts,
        }
    }

    fn json(&self) -> String {
        let time = |ts: i64| {
            let at = chrono::DateTime::from_timestamp(ts, 0).unwrap();
            format!("\"{}\"", at.format("%Y-%m-%d %H:%M:%S"))
        };
        let fields = [
            ("k", self.k.map(|k| format!("\"{k}\""))),
            ("j", self.j.map(|j| j.to_string())),
            ("v", self.v.map(|v| v.to_string())),
            ("x", self.x.map(|x| x.to_string())),
            ("b", self.b.map(|b| b.to_string())),
            ("d", self.d.map(|d| format!("{}{}.{:02}", if d < 0 { "-" } else { "" }, d.abs() / 100, d.abs() % 100))),
            ("ts", self.ts.map(time)),
        ];
        // A missing field is NULL as well.
        let shown = fields.into_iter().filter_map(|(name, value)| Some(format!("\"{name}\":{}", value?)));
        format!("{{{}}}", shown.collect::<Vec<_>>().join(","))
    }
}

/// A query with `STREAM` where its relations are streams.
struct Query {
    sql: String,
    mode: &'static str,
    /// Length of its windows in seconds, and its delay, where the watermark ends groups.
    windows: Option<(i64, i64)>,
}

fn one_of<'a>(random: &mut Random, of: &[&'a str]) -> &'a str {
    of[random.below(of.len())]
}

fn condition(random: &mut Random) -> String {
    let number = random.below(6) as i64 - 2;
    let simple = match random.below(9) {
        0 => format!("v > {number}"),
        1 => "k IS NOT NULL".to_string(),
        2 => format!("j = {number}"),
        3 => "b".to_string(),
        4 => format!("x <= {number}.5"),
        5 => "k IN ('a', 'b', 'é')".to_string(),
        6 => format!("v % 2 = {}", number.rem_euclid(2)),
        7 => "d IS NULL OR d < 2.50".to_string(),
        _ => "k LIKE '%a%' OR v IS NULL".to_string(),
    };
    match random.below(4) {
        0 => format!("({simple}) AND (j IS NULL OR j <> 3)"),
        1 => format!("NOT ({simple})"),
        _ => simple,
    }
}

fn aggregate(random: &mut Random) -> String {
    let functions = [
        "count(*)",
        "count(v)",
        "count(k, j)",
        "sum(v)",
        "sum(j)",
        "sum(d)",
        "sum(x)",
        "avg(v)",
        "avg(x)",
        "avg(d)",
        "min(v)",
        "max(v)",
        "min(k)",
        "max(k)",
        "max(ts)",
        "min(d)",
        "max(x)",
        "bool_and(b)",
        "bool_or(b)",
        "count(DISTINCT j)",
        "count(DISTINCT k)",
        "sum(DISTINCT v)",
        "count_if(v > 2)",
        "stddev(x)",
        "var_pop(v)",
        "percentile(v, 0.5)",
        "approx_count_distinct(v)",
        "size(collect_set(j))",
        "sort_array(collect_list(j))",
        "sort_array(collect_set(k))",
        "sum(v * 2 + j)",
        "sum(CASE WHEN b THEN 1 ELSE 0 END)",
        "max(upper(k))",
        "max(named_struct('j', j, 'k', k))",
        "bit_xor(v)",
        "corr(x, v)",
    ];
    let function = one_of(random, &functions).to_string();
    let plain = ["count", "sum", "min", "max", "avg"].iter().any(|name| function.starts_with(name));
    match random.below(5) {
        0 if plain && !function.starts_with("count_if") => format!("{function} FILTER (WHERE {})", condition(random)),
        1 if function.starts_with("sum(") => format!("coalesce({function}, 0) + 1"),
        _ => function,
    }
}

/// What is read, with the columns of the input.
fn relation(random: &mut Random) -> String {
    match random.below(8) {
        0 => format!(
            "(SELECT * FROM STREAM one WHERE {} UNION ALL SELECT * FROM STREAM two) AS u",
            condition(random)
        ),
        1 => format!("(SELECT * FROM STREAM one WHERE {}) AS f", condition(random)),
        2 => "(SELECT s.k, s.j, s.v + dim.w AS v, s.x, s.b, s.d, s.ts FROM STREAM one AS s JOIN dim ON s.k = dim.name) AS m"
            .to_string(),
        3 => "(SELECT dim.name AS k, s.j, s.v, s.x, s.b, s.d, s.ts FROM STREAM one AS s LEFT JOIN dim ON s.k = dim.name) AS m"
            .to_string(),
        _ => "STREAM one AS s".to_string(),
    }
}

impl Query {
    fn any(random: &mut Random) -> Query {
        let filter = if random.below(2) == 0 { format!(" WHERE {}", condition(random)) } else { String::new() };
        match random.below(12) {
            0 | 1 => Query::stateless(random, &filter),
            2 | 3 => Query::distinct(random, &filter),
            4 | 5 => Query::windowed(random, &filter),
            _ => Query::grouped(random, &filter),
        }
    }

    fn stateless(random: &mut Random, filter: &str) -> Query {
        let more =
            one_of(random, &["upper(k)", "coalesce(v, j)", "x * 2", "CAST(d AS STRING)", "date_trunc('hour', ts)"]);
        let sql = format!("SELECT k, j, v, b, {more} AS e FROM {}{filter}", relation(random));
        Query { sql, mode: "APPEND", windows: None }
    }

    fn distinct(random: &mut Random, filter: &str) -> Query {
        let columns = one_of(random, &["k", "k, j", "v % 3 AS m", "b, j", "x", "d, k"]);
        let sql = match random.below(3) {
            0 if columns.chars().all(|c| c != ' ') => {
                format!("SELECT {columns} FROM {}{filter} DEDUPLICATE BY ({columns})", relation(random))
            }
            _ => format!("SELECT DISTINCT {columns} FROM {}{filter}", relation(random)),
        };
        let mode = if sql.contains("DEDUPLICATE") { "APPEND" } else { "COMPLETE" };
        Query { sql, mode, windows: None }
    }

    fn windowed(random: &mut Random, filter: &str) -> Query {
        let (size, delay) = ([10, 60, 600][random.below(3)], [0, 5, 60, 600][random.below(4)]);
        let (key, by) = if random.below(2) == 0 { ("k, ", ", k") } else { ("", "") };
        let sql = format!(
            "SELECT window.end AS until, {key}count(*) AS n, {} AS a, {} AS c FROM STREAM one WATERMARK ts DELAY OF INTERVAL \
             {delay} SECONDS AS s{filter} GROUP BY window(ts, '{size} seconds'){by}",
            aggregate(random),
            aggregate(random)
        );
        Query { sql, mode: "APPEND", windows: Some((size, delay)) }
    }

    fn grouped(random: &mut Random, filter: &str) -> Query {
        let keys = ["k", "j", "k, j", "v % 3", "upper(k)", "b", "k IS NULL", "x", "d, b", "date_trunc('minute', ts)"];
        let keys = one_of(random, &keys);
        let several = keys == "k, j" && random.below(2) == 0;
        let group = match random.below(8) {
            0 => String::new(),
            1 if several => "GROUP BY ROLLUP (k, j)".to_string(),
            2 if several => "GROUP BY CUBE (k, j)".to_string(),
            3 if several => "GROUP BY GROUPING SETS ((k), (j), ())".to_string(),
            4 => "GROUP BY ALL".to_string(),
            _ => format!("GROUP BY {keys}"),
        };
        let named = keys.split(", ").enumerate().map(|(at, key)| format!("{key} AS g{at}"));
        let shown = if group.is_empty() { String::new() } else { named.collect::<Vec<_>>().join(", ") + ", " };
        let mut values = String::new();
        for at in 0..1 + random.below(4) {
            write!(values, "{}{} AS a{at}", if at > 0 { ", " } else { "" }, aggregate(random)).unwrap();
        }
        let having = match random.below(5) {
            0 if !group.is_empty() => {
                format!(" HAVING {}", one_of(random, &["count(*) > 1", "sum(v) > 3", "max(j) IS NOT NULL"]))
            }
            _ => String::new(),
        };
        let sql = format!("SELECT {shown}{values} FROM {}{filter} {group}{having}", relation(random));
        let mode = if random.below(3) == 0 { "UPDATE" } else { "COMPLETE" };
        Query { sql, mode, windows: None }
    }
}

/// A warehouse with its landing directories.
struct Warehouse {
    dir: TestDir,
    files: usize,
    script: String,
}

impl Warehouse {
    fn landing(&self, name: &str) -> PathBuf {
        self.dir.0.join(name)
    }

    /// A file of rows, and in `timely/…` the same without those that `keep` leaves out.
    fn land(&mut self, name: &str, rows: &[Row], keep: impl Fn(&Row) -> bool) {
        self.files += 1;
        let lines = |rows: &mut dyn Iterator<Item = &Row>| rows.map(|row| row.json() + "\n").collect::<String>();
        for (directory, text) in [
            (name.to_string(), lines(&mut rows.iter())),
            (format!("timely/{name}"), lines(&mut rows.iter().filter(|row| keep(row)))),
        ] {
            let path = self.landing(&directory).join(format!("{}.json", self.files));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            // Written aside: a watch must not see half of it.
            let aside = self.dir.0.join("aside");
            std::fs::write(&aside, &text).unwrap();
            std::fs::rename(&aside, &path).unwrap();
        }
        writeln!(self.script, "-- {name}/{}.json:\n{}", self.files, lines(&mut rows.iter())).unwrap();
    }

    async fn open(&mut self, partitions: usize) -> Session {
        writeln!(self.script, "-- a new session, SET target_partitions = {partitions};").unwrap();
        let settings = vec![("target_partitions".to_string(), partitions.to_string())];
        let warehouse = self.dir.0.join("warehouse");
        Session::open(SessionOptions { warehouse, settings, ..SessionOptions::default() }).await.unwrap()
    }

    async fn run(&mut self, session: &Session, sql: &str) -> Result<Vec<RecordBatch>> {
        writeln!(self.script, "{sql};").unwrap();
        let statement = parse_statement(sql, Place { line: 1, column: 1 }).map_err(Error::from)?;
        match session.execute(&statement).await? {
            Outcome::Rows(rows) => rows.collect().await,
            _ => Ok(Vec::new()),
        }
    }
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

fn relation_of(landing: &Path, stream: bool, most: usize) -> String {
    let landing = landing.display();
    match stream {
        true => format!(
            "cloud_files('{landing}', 'json', map('schema', '{COLUMNS}', 'cloudFiles.maxFilesPerTrigger', '{most}'))"
        ),
        false => format!("read_files('{landing}', format => 'json', schema => '{COLUMNS}')"),
    }
}

/// What came of a case.
enum Ran {
    Refused(String),
    Rows(usize),
}

async fn one_case(seed: u64) -> Ran {
    let mut random = Random::new(seed);
    let mut place = Warehouse { dir: TestDir::new(), files: 0, script: String::new() };
    let query = Query::any(&mut random);
    // The watermark moves with each epoch, so with windows a refresh is one epoch of data.
    let most = if query.windows.is_some() { 1000 } else { 1 + random.below(3) };
    let stands_for = |sql: &str, place: &Warehouse, stream: bool| {
        let mut sql = sql.to_string();
        for name in ["one", "two"] {
            let landing = if stream { place.landing(name) } else { place.landing("timely").join(name) };
            sql = sql.replace(&format!("STREAM {name}"), &relation_of(&landing, stream, most));
        }
        sql
    };
    let mut session = place.open(1 + random.below(4)).await;
    place.land("one", &[], |_| true);
    place.land("two", &[], |_| true);
    let dim = "CREATE TABLE dim AS SELECT * FROM (VALUES ('a', 10), ('b', 20), ('A', 30), ('zz', 40)) AS v (name, w)";
    place.run(&session, dim).await.unwrap();
    let create =
        format!("CREATE STREAMING TABLE t OUTPUT MODE {} AS {}", query.mode, stands_for(&query.sql, &place, true));
    match place.run(&session, &create).await {
        Ok(_) => {}
        Err(error) => return Ran::Refused(format!("{}: {error}", query.sql)),
    }
    let mut batch = stands_for(&query.sql, &place, false);
    if let Some((_, delay)) = query.windows {
        batch = batch.replace(&format!(" WATERMARK ts DELAY OF INTERVAL {delay} SECONDS"), "");
    }
    let (mut now, mut greatest, mut watermark) = (BEGIN, None::<i64>, None::<i64>);
    let mut rows_seen = 0;
    for _ in 0..2 + random.below(4) {
        for _ in 0..random.below(4) {
            let landing = if random.below(4) == 0 { "two" } else { "one" };
            let mut rows = Vec::new();
            for _ in 0..random.below(9) {
                now += random.below(40) as i64;
                let back = if random.below(4) == 0 { random.below(900) as i64 } else { 0 };
                let ts = (random.below(10) > 0).then_some(now - back);
                rows.push(Row::any(&mut random, ts));
            }
            if landing == "one" {
                greatest = rows.iter().filter_map(|row| row.ts).chain(greatest).max();
            }
            let timely = |row: &Row| match (query.windows, row.ts, watermark) {
                (Some((size, _)), Some(ts), Some(watermark)) => ts.div_euclid(size) * size + size > watermark,
                _ => true,
            };
            place.land(landing, &rows, timely);
        }
        if random.below(3) == 0 {
            drop(session);
            session = place.open(1 + random.below(4)).await;
        }
        let told = |place: &Warehouse, what: &str| format!("seed {seed}: {what}\n{}\n{}", query.sql, place.script);
        if let Err(error) = place.run(&session, "REFRESH TABLE t").await {
            panic!("{}", told(&place, &error.to_string()));
        }
        watermark = query.windows.and_then(|(_, delay)| Some(greatest? - delay));
        let expected = match (query.windows, watermark) {
            (Some(_), None) => format!("SELECT * FROM ({batch}) AS w WHERE false"),
            (Some(_), Some(watermark)) => {
                format!("SELECT * FROM ({batch}) AS w WHERE unix_timestamp(until) <= {watermark}")
            }
            _ => batch.clone(),
        };
        let found = place.run(&session, "SELECT * FROM t").await.unwrap();
        let expected = match place.run(&session, &expected).await {
            Ok(expected) => expected,
            Err(error) => panic!("{}", told(&place, &format!("the batch failed: {error}"))),
        };
        let (found, expected) = (lines(&found), lines(&expected));
        assert_eq!(found, expected, "{}", told(&place, "the table is not what the query gives"));
        rows_seen = found.len();
    }
    if let Err(error) = place.run(&session, "VERIFY STREAM t").await {
        let help = error.diagnostic().help.join("\n");
        panic!("seed {seed}: {error}\n{help}\n{}\n{}", query.sql, place.script);
    }
    Ran::Rows(rows_seen)
}

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[tokio::test]
async fn tables_are_what_their_queries_give() {
    let (seed, cases) = (from_environment("ALLUVIUM_TEST_SEED", 1), from_environment("ALLUVIUM_TEST_CASES", 60));
    println!("ALLUVIUM_TEST_SEED={seed} ALLUVIUM_TEST_CASES={cases}");
    let (mut refused, mut rows, mut empty) = (Vec::new(), 0, 0);
    for case in 0..cases {
        match one_case(seed + case).await {
            Ran::Refused(why) => refused.push(why),
            Ran::Rows(0) => empty += 1,
            Ran::Rows(some) => rows += some,
        }
    }
    println!("{rows} rows at the end, {empty} tables without any, {} queries refused", refused.len());
    refused.sort();
    refused.dedup_by_key(|why| why.rsplit_once("error[").map(|(_, why)| why.to_string()));
    refused.iter().for_each(|why| println!("  {why}"));
    let (refused, empty) = (refused.len() as u64, empty as u64);
    assert!(cases < 20 || refused < cases / 4 && empty < cases / 3, "{refused} refused and {empty} empty prove little");
}
