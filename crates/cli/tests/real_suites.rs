//! Real files and conformance suites, value by value: a checksum over all values of each set against that of other
//! readers (pyarrow 26 for Parquet and ORC, fastavro 1.13 for Avro, Python's csv), and the answers that lie beside the
//! files of a suite. `real_suites/figures.py` prints the checksums.
//!
//! `ALLUVIUM_REAL_DATA` names the directory; without it each test says that it is skipped.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod engine;

use std::path::PathBuf;
use std::process::Command;

use engine::Engine;
use serde_json::Value;

/// A relation over `${D}` and its figure: rows and checksum.
const SETS: &[(&str, &str)] = &[
    ("parquet.`${D}/parquet_testing/data/alltypes_plain.parquet`", "8 f63e80245ffe704c"),
    ("parquet.`${D}/parquet_testing/data/alltypes_plain.snappy.parquet`", "2 8b9d71786ecaa5c3"),
    ("parquet.`${D}/parquet_testing/data/binary.parquet`", "12 00504aa874f9d41c"),
    ("parquet.`${D}/parquet_testing/data/delta_encoding_required_column.parquet`", "100 23ca1f98ee6281d3"),
    ("parquet.`${D}/parquet_testing/data/int32_decimal.parquet`", "24 9dedd87bb0eda9e4"),
    ("parquet.`${D}/parquet_testing/data/list_columns.parquet`", "3 5e6f8595a9e427f6"),
    ("parquet.`${D}/parquet_testing/data/nested_lists.snappy.parquet`", "3 4072a433e41b2084"),
    ("parquet.`${D}/parquet_testing/data/nested_maps.snappy.parquet`", "6 ddfcdbe8eea0c6d7"),
    ("parquet.`${D}/parquet_testing/data/nonnullable.impala.parquet`", "1 ecb5ac906a4d8f93"),
    ("parquet.`${D}/parquet_testing/data/nullable.impala.parquet`", "7 948dcb500475b38e"),
    ("parquet.`${D}/parquet_testing/data/nulls.snappy.parquet`", "8 04ec45f3a3a8f9e0"),
    ("orc.`${D}/orc_examples/TestOrcFile.emptyFile.orc`", "0 0000000000000000"),
    ("orc.`${D}/orc_examples/TestOrcFile.test1.orc`", "2 f021e74a8593bb99"),
    ("orc.`${D}/orc_examples/decimal.orc`", "6000 6568c2efc31c339f"),
    ("orc.`${D}/orc_examples/orc_index_int_string.orc`", "6000 b8f7cddaf613e835"),
    ("avro.`${D}/avro_share/schemas/simple/data.avro`", "3 329f16dac3cd5a72"),
    ("avro.`${D}/avro_share/weather-deflate.avro`", "5 f9422c69478b8755"),
    ("avro.`${D}/avro_share/weather-snappy.avro`", "5 f9422c69478b8755"),
    ("avro.`${D}/avro_share/weather-sorted.avro`", "5 f9422c69478b8755"),
    ("avro.`${D}/avro_share/weather-zstd.avro`", "5 f9422c69478b8755"),
    ("avro.`${D}/avro_share/weather.avro`", "5 f9422c69478b8755"),
    ("STREAM cloud_files('${D}/airline_stats_avro', 'avro')", "2476 a2ca48f43670a92a"),
    ("STREAM cloud_files('${D}/userdata/avro/*.avro', 'avro')", "1000 3891d1968dbf4bd3"),
    ("STREAM cloud_files('${D}/userdata/parquet/*.parquet', 'parquet')", "1000 34aca81539e1d091"),
    ("STREAM cloud_files('${D}/userdata/orc/*_orc', 'orc')", "1000 d5e1a84d501bf943"),
    ("STREAM cloud_files('${D}/flight_summary/parquet', 'parquet')", "255 8aa21e0e7e106080"),
    ("STREAM cloud_files('${D}/flight_summary/orc', 'orc')", "255 8aa21e0e7e106080"),
];

/// Directories of CSV files, and the figure of all rows as text.
const CSV_SETS: &[(&str, &str)] = &[
    ("bike_stations", "70 2863096b961839cc"),
    ("covid_it_regioni", "1743 565da6f2c12a35da"),
    ("covid_jhu_daily", "1845 6579bb504fe05fc7"),
    ("flight_summary/csv", "1502 8a72f7a94d093f83"),
    ("retail_by_day", "77628 941c8236b563ed66"),
];

/// Where the data is, or a word that it is not there.
fn data() -> Option<String> {
    let data = std::env::var("ALLUVIUM_REAL_DATA").ok().filter(|root| !root.is_empty());
    if data.is_none() {
        eprintln!("skipped: conformance suites (ALLUVIUM_REAL_DATA names no directory)");
    }
    data
}

/// A value as `real_suites/figures.py` writes it: members in order of their names, nothing escaped.
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Number(number) if number.is_f64() => out.push_str(&format!("{:?}", number.as_f64().unwrap())),
        Value::String(text) => {
            out.push('"');
            out.push_str(text);
            out.push('"');
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                out.push(if at == 0 { '[' } else { ',' });
                canonical(item, out);
            }
            out.push_str(if items.is_empty() { "[]" } else { "]" });
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            for (at, (name, member)) in members.iter().enumerate() {
                out.push_str(if at == 0 { "{\"" } else { ",\"" });
                out.push_str(name);
                out.push_str("\":");
                canonical(member, out);
            }
            out.push_str(if members.is_empty() { "{}" } else { "}" });
        }
        plain => out.push_str(&plain.to_string()),
    }
}

/// The number of rows, and the sum of their hashes (FNV-1a), whatever their order.
fn figure(rows: &[Value]) -> String {
    let mut sum = 0_u64;
    for row in rows {
        let mut text = String::new();
        canonical(row, &mut text);
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        sum = sum.wrapping_add(text.bytes().fold(0xcbf2_9ce4_8422_2325, step));
    }
    format!("{} {sum:016x}", rows.len())
}

#[test]
fn every_value_of_every_set() {
    let Some(data) = data() else { return };
    let mut wrong = Vec::new();
    for (relation, expected) in SETS {
        let engine = Engine::new();
        let relation = relation.replace("${D}", &data);
        let sql = match relation.strip_prefix("STREAM ") {
            Some(stream) => {
                format!("CREATE STREAMING TABLE t AS SELECT * FROM {stream}; SELECT * EXCEPT (_rescued_data) FROM t")
            }
            None => format!("SELECT * FROM {relation}"),
        };
        let ended = engine.run(&sql);
        let rows: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let found = figure(&rows);
        if found != *expected || !ended.status.success() {
            let first = rows.first().map(Value::to_string).unwrap_or_default();
            wrong.push(format!("{relation}: {found}, not {expected}\n{first}\n{}", ended.stderr));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Rows of CSV files as text, all of them landed at once.
#[test]
fn every_value_of_every_csv_file() {
    let Some(data) = data() else { return };
    let mut wrong = Vec::new();
    for (set, expected) in CSV_SETS {
        let sql = format!(
            "CREATE STREAMING TABLE t FROM cloud_files('{data}/{set}', 'csv', map('escape', '\"', 'multiLine', 'true')); \
             SELECT * EXCEPT (_rescued_data) FROM t; SELECT count(_rescued_data) AS rescued FROM t"
        );
        let mut rows = Engine::new().ask(&sql);
        let rescued = rows.pop().unwrap();
        let found = figure(&rows);
        if found != *expected || rescued["rescued"] != 0 {
            wrong.push(format!("{set}: {found}, not {expected}; {rescued}; {}", rows[0]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The expected rows beside the ORC examples, line by line.
#[test]
fn orc_examples_as_their_authors_expect_them() {
    let Some(data) = data() else { return };
    for name in ["TestOrcFile.test1", "decimal", "orc_index_int_string"] {
        let directory = PathBuf::from(&data).join("orc_examples");
        let packed = directory.join(format!("expected/{name}.jsn.gz"));
        let unpacked = Command::new("gzip").arg("-dc").arg(packed).output().unwrap();
        assert!(unpacked.status.success());
        let text = String::from_utf8(unpacked.stdout).unwrap();
        let rows = Engine::new().ask(&format!("SELECT * FROM orc.`{}/{name}.orc`", directory.display()));
        assert_eq!(rows.len(), text.lines().count(), "{name}");
        for (row, line) in rows.iter().zip(text.lines()) {
            let expected: Value = serde_json::from_str(line).unwrap();
            assert!(same(row, &expected), "{name}: {row} is not {expected}");
        }
    }
}

/// Whether a value is the expected one: there numbers of any type are numbers, bytes are arrays, and maps are arrays of
/// pairs.
fn same(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            found.len() == expected.len()
                && expected.iter().all(|(name, value)| found.get(name).is_some_and(|found| same(found, value)))
        }
        (Value::Object(found), Value::Array(pairs)) => {
            found.len() == pairs.len()
                && pairs.iter().all(|pair| {
                    let key = pair["key"].as_str().unwrap_or_default();
                    found.get(key).is_some_and(|found| same(found, &pair["value"]))
                })
        }
        (Value::Array(found), Value::Array(expected)) => {
            found.len() == expected.len() && found.iter().zip(expected).all(|(found, expected)| same(found, expected))
        }
        (Value::String(found), Value::Array(bytes)) => {
            let bytes: Vec<u8> = bytes.iter().filter_map(|byte| byte.as_u64()).map(|byte| byte as u8).collect();
            base64(&bytes) == *found
        }
        (Value::String(found), Value::Number(number)) => found.parse::<f64>().ok() == number.as_f64(),
        (Value::Number(found), Value::Number(expected)) => {
            found == expected || (found.is_f64() || expected.is_f64()) && found.as_f64() == expected.as_f64()
        }
        (found, expected) => found == expected,
    }
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().chain([0; 2].iter()).take(3).fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place) & 63) as usize] as char;
            out.push(if place > chunk.len() { '=' } else { letter });
        }
    }
    out
}

/// A file whose rows are no structures, one without any byte, and one that is cut off.
#[test]
fn orc_examples_that_are_out_of_the_ordinary() {
    let Some(data) = data() else { return };
    let directory = format!("{data}/orc_examples");
    let times = Engine::new().ask(&format!(
        "SELECT count(`_1`) AS n, CAST(max(`_1`) AS STRING) AS last FROM orc.`{directory}/TestOrcFile.testTimestamp.orc`"
    ));
    assert_eq!((&times[0]["n"], &times[0]["last"]), (&Value::from(12), &Value::from("2037-01-01 00:00:00.000999")));
    let ended = Engine::new().run(&format!("SELECT * FROM orc.`{directory}/zero.orc`"));
    assert_eq!((ended.status.code(), ended.codes()), (Some(1), vec!["UNABLE_TO_INFER_SCHEMA".to_owned()]));

    let engine = Engine::new();
    let whole = std::fs::read(format!("{directory}/decimal.orc")).unwrap();
    engine.land("whole.orc", &whole);
    engine.land("zero.orc", "");
    engine.land("torn.orc", &whole[..whole.len() / 2]);
    let stream = |options: &str| {
        format!(
            "CREATE OR REFRESH STREAMING TABLE t FROM cloud_files('{}', 'orc', map('schema', '`_col0` DECIMAL(10,5)' {options}))",
            engine.landing().display()
        )
    };
    let ended = engine.run(&stream(""));
    assert_eq!(ended.codes(), ["FILE_CORRUPT"], "{}", ended.stderr);
    assert!(ended.stderr.contains("torn.orc"), "{}", ended.stderr);
    engine.ask(&stream(", 'ignoreCorruptFiles', 'true'"));
    assert_eq!(engine.numbers("SELECT count(*), sum(`_col0`) FROM t"), [6_000.0, 1_998_301.099]);
    let corrupt = engine.ask("SHOW FILES FROM t WHERE state = 'corrupt'");
    let names: Vec<&str> = corrupt.iter().filter_map(|row| row["path"].as_str()?.rsplit('/').next()).collect();
    assert_eq!(names, ["torn.orc"]);
}

/// Parquet with the encodings of deltas, against the CSV that lies beside it.
#[test]
fn parquet_deltas_as_their_authors_expect_them() {
    let Some(data) = data() else { return };
    let suite = format!("{data}/parquet_testing/data/delta_encoding_required_column");
    // The names differ (there is a colon behind those in the file), so rows are compared without them.
    let rows = |sql: &str| -> Vec<String> {
        let output = Engine::new().command().args(["--format", "csv", "-c", sql]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut rows: Vec<String> = text.lines().skip(1).map(str::to_owned).collect();
        rows.sort();
        rows
    };
    let found = rows(&format!("SELECT * FROM parquet.`{suite}.parquet`"));
    let expected = rows(&format!(
        "SELECT * EXCEPT (_rescued_data) FROM read_files('{suite}_expect.csv', format => 'csv', escape => '\"', \
         inferColumnTypes => 'false')"
    ));
    assert_eq!(found.len(), 100);
    assert_eq!(found, expected);
}

/// 96-bit timestamps of Spark, beyond the years that nanoseconds reach.
#[test]
fn parquet_timestamps_of_spark() {
    let Some(data) = data() else { return };
    let rows =
        Engine::new().ask(&format!("SELECT a FROM parquet.`{data}/parquet_testing/data/int96_from_spark.parquet`"));
    let found: Vec<String> = rows.iter().map(|row| row["a"].as_str().unwrap_or("NULL").to_owned()).collect();
    let expected = [
        "2024-01-01 20:34:56.123456",
        "2024-01-01 01:00:00",
        "9999-12-31 03:00:00",
        "2024-12-30 23:00:00",
        "NULL",
        "+290000-12-30 23:00:00",
    ];
    assert_eq!(found, expected);
}
