//! The two pipelines of the examples over real data, with figures that do not come from the engine.
//!
//! `ALLUVIUM_REAL_DATA` names the directory; without it each test says that it is skipped. Nothing is copied into the
//! repository.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod engine;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use engine::{Engine, Log, number};

/// The directory of a data set, or a word that it is not there. A directory that was named and lacks the set is an
/// error, so that a wrong path cannot pass for success.
fn data_set(name: &str) -> Option<PathBuf> {
    let Some(root) = std::env::var_os("ALLUVIUM_REAL_DATA").filter(|root| !root.is_empty()) else {
        eprintln!("skipped: {name} (ALLUVIUM_REAL_DATA names no directory)");
        return None;
    };
    let directory = Path::new(&root).join(name);
    assert!(directory.is_dir(), "ALLUVIUM_REAL_DATA has no {name}: {}", directory.display());
    Some(directory)
}

/// Files of a directory, sorted by name.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn land(engine: &Engine, file: &Path) {
    engine.land(file.file_name().unwrap().to_str().unwrap(), std::fs::read(file).unwrap());
}

/// Records of a CSV text with quotes doubled inside quotes, header included. Written here so that the figures do not
/// depend on the engine's reader.
fn csv_records(text: &str) -> Vec<Vec<String>> {
    let (mut records, mut record, mut cell, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, quoted) {
            ('"', true) if characters.peek() == Some(&'"') => {
                characters.next();
                cell.push('"');
            }
            ('"', _) => quoted = !quoted,
            (',', false) => record.push(std::mem::take(&mut cell)),
            ('\r', false) => {}
            ('\n', false) => {
                record.push(std::mem::take(&mut cell));
                records.push(std::mem::take(&mut record));
            }
            (other, _) => cell.push(other),
        }
    }
    if !cell.is_empty() || !record.is_empty() {
        record.push(cell);
        records.push(record);
    }
    records
}

/// An amount of money in millionths, exactly.
fn millionths(text: &str) -> i128 {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction: i128 = format!("{fraction:0<6}").parse().unwrap();
    sign * (whole.parse::<i128>().unwrap() * 1_000_000 + fraction)
}

/// What retail must give, computed here.
#[derive(Default)]
struct Retail {
    rows: u64,
    quantity: i64,
    /// Millionths by country.
    revenue: BTreeMap<String, i128>,
}

impl Retail {
    fn add(&mut self, csv: &str) {
        let records = csv_records(csv);
        let column = |name: &str| records[0].iter().position(|header| header == name).unwrap();
        let (quantity, price, country) = (column("Quantity"), column("UnitPrice"), column("Country"));
        for record in &records[1..] {
            let pieces: i64 = record[quantity].parse().unwrap();
            self.rows += 1;
            self.quantity += pieces;
            *self.revenue.entry(record[country].clone()).or_default() +=
                i128::from(pieces) * millionths(&record[price]);
        }
    }

    #[track_caller]
    fn check(&self, engine: &Engine, when: &str) {
        let totals = engine.numbers("SELECT count(*), sum(Quantity), round(sum(Quantity * UnitPrice), 2) FROM sales");
        assert_eq!((totals[0], totals[1]), (self.rows as f64, self.quantity as f64), "rows and quantity {when}");
        assert_same_cent(totals[2], self.revenue.values().sum(), "revenue", when);
        let rows = engine.ask("SELECT Country, revenue FROM revenue");
        let found: BTreeMap<&str, f64> =
            rows.iter().map(|row| (row["Country"].as_str().unwrap(), number(&row["revenue"]))).collect();
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), self.revenue.keys().collect::<Vec<_>>(), "{when}");
        for (country, exact) in &self.revenue {
            assert_same_cent(found[country.as_str()], *exact, country, when);
        }
    }
}

/// Half a cent, and what sums of doubles in any order may add to it.
#[track_caller]
fn assert_same_cent(found: f64, millionths: i128, what: &str, when: &str) {
    let exact = millionths as f64 / 1e6;
    assert!((found - exact).abs() <= 0.005 + 1e-6, "{what} {when}: {found} and not {exact}");
}

fn retail_pipeline(engine: &Engine, files_per_epoch: u32) -> String {
    format!(
        "CREATE OR REFRESH STREAMING TABLE sales LOCATION '{}' AS SELECT * FROM cloud_files('{}', 'csv', map(
           'header', 'true', 'escape', '\"', 'cloudFiles.inferColumnTypes', 'true',
           'cloudFiles.maxFilesPerTrigger', '{files_per_epoch}'));
         CREATE OR REFRESH STREAMING TABLE revenue LOCATION '{}' OUTPUT MODE COMPLETE AS
           SELECT Country, sum(Quantity * UnitPrice) AS revenue, count(*) AS n
           FROM STREAM sales WITH (maxFilesPerTrigger = {files_per_epoch}) GROUP BY Country;\n",
        engine.table("sales").display(),
        engine.landing().display(),
        engine.table("revenue").display(),
    )
}

fn retail(files_per_epoch: u32) {
    let Some(data) = data_set("retail_by_day") else { return };
    let (engine, mut expected) = (Engine::new(), Retail::default());
    let days = files(&data);
    for day in &days {
        land(&engine, day);
        expected.add(&std::fs::read_to_string(day).unwrap());
    }
    // What others found in the same files, against a slip in the computation above.
    assert_eq!((days.len(), expected.rows, expected.quantity), (44, 77_628, 651_194));
    assert_same_cent(1_308_957.28, expected.revenue.values().sum(), "revenue", "as computed here");

    engine.ask(&retail_pipeline(&engine, files_per_epoch));
    expected.check(&engine, &format!("with {files_per_epoch} files per epoch"));
    let epochs = engine.ask("SHOW EPOCHS FROM sales LIMIT 1000").len();
    assert_eq!(epochs, 44_usize.div_ceil(files_per_epoch as usize), "epochs of sales");

    let versions = |engine: &Engine| ["sales", "revenue"].map(|table| Log::read(&engine.table(table)).version);
    let before = versions(&engine);
    engine.ask("REFRESH STREAMING TABLE sales; REFRESH STREAMING TABLE revenue");
    assert_eq!(versions(&engine), before, "a refresh without new files must write nothing");
    assert_eq!(engine.ask("SHOW EPOCHS FROM sales LIMIT 1000").len(), epochs, "and run no epoch");

    let one_more: String =
        std::fs::read_to_string(&days[7]).unwrap().split_inclusive('\n').take(124).collect::<Vec<_>>().concat();
    engine.land("one-more.csv", &one_more);
    expected.add(&one_more);
    engine.ask("REFRESH STREAMING TABLE sales; REFRESH STREAMING TABLE revenue");
    expected.check(&engine, "after one more file");
}

#[test]
fn retail_one_file_per_epoch() {
    retail(1);
}

#[test]
fn retail_seven_files_per_epoch() {
    retail(7);
}

#[test]
fn retail_all_files_in_one_epoch() {
    retail(1_000);
}

#[test]
fn csv_is_read_as_the_figures_need_it() {
    assert_eq!(csv_records("a,b\n\"x,\"\"y\"\"\",2\r\n3,\n"), [["a", "b"], ["x,\"y\"", "2"], ["3", ""]]);
    assert_eq!((millionths("-2.55"), millionths("17"), millionths("0.001")), (-2_550_000, 17_000_000, 1_000));
}

#[test]
fn school_medallion() {
    let Some(data) = data_set("school_synth") else { return };
    let engine = Engine::new();
    let mut arriving = files(&data.join("enrollments-json-raw"));
    arriving.extend(files(&data.join("enrollments-json-streaming")));
    let pipeline = format!(
        "CREATE OR REFRESH STREAMING TABLE bronze LOCATION '{}' AS
           SELECT *, current_timestamp() AS arrival_time, input_file_name() AS source_file
           FROM cloud_files('{}', 'json', map('cloudFiles.inferColumnTypes', 'true'));
         CREATE OR REPLACE TEMP VIEW students AS SELECT * FROM json.`{}`;
         CREATE OR REFRESH STREAMING TABLE silver LOCATION '{}' AS
           SELECT enroll_id, quantity, e.student_id, s.email,
                  CAST(from_unixtime(enroll_timestamp, 'yyyy-MM-dd HH:mm:ss') AS TIMESTAMP) AS formatted_timestamp, courses
           FROM STREAM bronze e INNER JOIN students s ON e.student_id = s.student_id
           WHERE quantity > 0;
         CREATE OR REFRESH STREAMING TABLE gold LOCATION '{}' OUTPUT MODE COMPLETE AS
           SELECT student_id, email, date_trunc('DD', formatted_timestamp) AS day, sum(quantity) AS courses_counts
           FROM STREAM silver GROUP BY student_id, email, date_trunc('DD', formatted_timestamp);\n",
        engine.table("bronze").display(),
        engine.landing().display(),
        data.join("students-json").display(),
        engine.table("silver").display(),
        engine.table("gold").display(),
    );
    let figures = [
        (1, 1000, 863, 1648),
        (3, 3000, 2454, 4977),
        (4, 4000, 3270, 6627),
        (5, 5000, 4072, 8290),
        (6, 6000, 4877, 9952),
        (10, 10_000, 8079, 16_609),
    ];
    let mut landed = 0;
    for (count, rows, groups, quantity) in figures {
        for file in &arriving[landed..count] {
            land(&engine, file);
        }
        landed = count;
        engine.ask(&pipeline);
        let found = engine.numbers(
            "SELECT (SELECT count(*) FROM bronze) AS b, (SELECT count(*) FROM silver) AS s, \
             (SELECT count(*) FROM gold) AS g, (SELECT sum(courses_counts) FROM gold) AS q, \
             (SELECT sum(quantity) FROM silver) AS p, (SELECT count(DISTINCT source_file) FROM bronze) AS f",
        );
        let expected = [rows, rows, groups, quantity, quantity, count as u64].map(|figure| figure as f64);
        assert_eq!(found, expected, "after {count} files");
    }
}

#[test]
fn flights_are_the_same_from_csv_and_from_json() {
    let Some(data) = data_set("flight_summary") else { return };
    let engine = Engine::new();
    for (format, options) in [("csv", "'header', 'true', "), ("json", "")] {
        engine.ask(&format!(
            "CREATE STREAMING TABLE {format}_flights AS SELECT * FROM cloud_files('{}', '{format}', \
             map({options}'cloudFiles.inferColumnTypes', 'true', 'cloudFiles.maxFilesPerTrigger', '2'));",
            data.join(format).display(),
        ));
        let found = engine.numbers(&format!("SELECT count(*), sum(count) FROM {format}_flights"));
        assert_eq!(found, [1_502.0, 2_580_915.0], "{format}");
    }
}
