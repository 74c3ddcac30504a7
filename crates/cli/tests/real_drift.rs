//! Real files whose headers drift, each set by one statement. The figures are those of Python's csv module over the same
//! files.
//!
//! `ALLUVIUM_REAL_DATA` names the directory; without it each test says that it is skipped.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod engine;

use std::path::{Path, PathBuf};

use engine::Engine;

fn files(set: &str) -> Option<Vec<PathBuf>> {
    let Some(root) = std::env::var_os("ALLUVIUM_REAL_DATA").filter(|root| !root.is_empty()) else {
        eprintln!("skipped: {set} (ALLUVIUM_REAL_DATA names no directory)");
        return None;
    };
    let directory = Path::new(&root).join(set);
    let entries = std::fs::read_dir(&directory).unwrap_or_else(|e| panic!("no {set}: {}: {e}", directory.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    Some(files)
}

fn land(engine: &Engine, files: &[PathBuf]) {
    for file in files {
        engine.land(file.file_name().unwrap().to_str().unwrap(), std::fs::read(file).unwrap());
    }
}

/// Sums and counts of columns, as numbers.
fn sums(engine: &Engine, columns: &[&str]) -> Vec<f64> {
    let parts: Vec<String> = columns
        .iter()
        .map(|column| {
            format!("round(sum(CAST(`{column}` AS DOUBLE)), 4) AS `s_{column}`, count(`{column}`) AS `n_{column}`")
        })
        .collect();
    engine.numbers(&format!("SELECT count(*), {}, count(_rescued_data) AS r FROM t", parts.join(", ")))
}

/// Ingests a set: everything at once, or the first file and then the others, so that the columns come while it runs.
fn ingest(files: &[PathBuf], options: &str, drifting: bool) -> Engine {
    let engine = Engine::new();
    let statement = format!(
        "CREATE OR REFRESH STREAMING TABLE t FROM cloud_files('{}', 'csv', map('header', 'true', 'escape', '\"', {options}))",
        engine.landing().display()
    );
    if drifting {
        land(&engine, &files[..1]);
        engine.ask(&statement);
        land(&engine, &files[1..]);
        engine.ask("REFRESH TABLE t");
    } else {
        land(&engine, files);
        engine.ask(&statement);
    }
    engine
}

/// 24 columns on the first 72 days, 30 on the last 11; notes with commas and quotes.
#[test]
fn italian_regions() {
    let Some(files) = files("covid_it_regioni") else { return };
    assert_eq!(files.len(), 83);
    let options = "'multiLine', 'true', 'cloudFiles.inferColumnTypes', 'true', 'cloudFiles.maxFilesPerTrigger', '7'";
    for drifting in [false, true] {
        let engine = ingest(&files, options, drifting);
        let columns =
            ["totale_casi", "tamponi", "totale_positivi_test_molecolare", "tamponi_test_antigenico_rapido", "deceduti"];
        let expected = [
            1743.0,
            44_240_697.0,
            1743.0,
            511_687_942.0,
            1743.0,
            26_523_863.0,
            231.0,
            6_713_317.0,
            231.0,
            2_079_858.0,
            1743.0,
            0.0,
        ];
        assert_eq!(sums(&engine, &columns), expected, "drifting: {drifting}");
        assert_eq!(engine.numbers("SELECT count(note) FROM t WHERE note <> ''"), [78.0]);
        let new: Vec<String> = engine
            .ask("SHOW EPOCHS FROM t")
            .iter()
            .filter_map(|epoch| Some(epoch["new_columns"].as_str()?.split(", ").count().to_string()))
            .collect();
        assert_eq!(new, if drifting { vec!["6"] } else { vec![] }, "columns that came while it ran");
    }
}

/// 6 columns, then 8; a byte order mark in ten files, none in the others.
#[test]
fn johns_hopkins_days() {
    let Some(files) = files("covid_jhu_daily") else { return };
    assert_eq!(files.len(), 25);
    for drifting in [false, true] {
        let engine = ingest(&files, "'cloudFiles.maxFilesPerTrigger', '3'", drifting);
        let columns = ["Confirmed", "Deaths", "Recovered", "Latitude", "Longitude"];
        let expected =
            [1845.0, 765_675.0, 1826.0, 22_124.0, 1404.0, 230_543.0, 1457.0, 13223.0693, 417.0, 12393.6979, 417.0, 0.0];
        assert_eq!(sums(&engine, &columns), expected, "drifting: {drifting}");
        let names: Vec<String> =
            engine.ask("SHOW COLUMNS IN t").iter().map(|row| row["col_name"].as_str().unwrap().to_string()).collect();
        assert!(names.contains(&"Province/State".to_string()), "a byte order mark in a name: {names:?}");
    }
}
