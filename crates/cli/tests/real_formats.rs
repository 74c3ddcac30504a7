//! Real files of every format, one statement each, against figures of other readers: pyarrow 22 (Parquet, ORC), fastavro
//! 1.12 (Avro), Python's csv and json, and the expected rows that lie beside the ORC examples.
//!
//! `ALLUVIUM_REAL_DATA` names the directory; without it the test says that it is skipped.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod engine;

use engine::Engine;

/// A relation over `${D}`, what is asked of it, and the answer.
type Case = (&'static str, &'static str, &'static str, &'static str);

const CASES: &[Case] = &[
    (
        "userdata as Parquet",
        "STREAM read_files('${D}/userdata/parquet', format => 'parquet', pathGlobFilter => '*.parquet')",
        "count(*), sum(id), count(salary), round(sum(salary), 2), min(registration_dttm), max(registration_dttm)",
        "1000,500500,932,138872992.4,2016-02-03 00:01:00,2016-02-03 23:59:55",
    ),
    (
        "userdata as ORC",
        "STREAM read_files('${D}/userdata/orc', format => 'orc', pathGlobFilter => '*_orc')",
        "count(*), sum(_col1), round(sum(_col10), 2), min(_col0), max(_col0)",
        "1000,500500,138872992.4,2016-02-03 00:01:00,2016-02-03 23:59:55",
    ),
    (
        "userdata as Avro",
        "STREAM read_files('${D}/userdata/avro', format => 'avro', pathGlobFilter => '*.avro')",
        "count(*), sum(id), round(sum(salary), 2), min(registration_dttm), max(registration_dttm)",
        "1000,500500,138934863.77,2016-02-03T00:01:14Z,2016-02-03T23:59:55Z",
    ),
    (
        "userdata as CSV",
        "STREAM read_files('${D}/userdata/csv', format => 'csv', pathGlobFilter => '*.csv', escape => '\"', \
         multiLine => 'true', inferColumnTypes => 'false')",
        "count(*), count(DISTINCT email), sum(length(comments)) > 0",
        "1000,984,true",
    ),
    (
        "airline statistics in nested directories",
        "cloud_files('${D}/airline_stats_avro', 'avro')",
        "count(*), sum(ArrDelay), sum(Distance), count(DISTINCT Carrier), sum(array_length(DivAirports))",
        "2476,52154,2109938,14,613",
    ),
    (
        "Avro in all compressions",
        "STREAM read_files('${D}/avro_share', format => 'avro', pathGlobFilter => 'weather*.avro')",
        "count(*), sum(temp), sum(time)",
        "25,1000,-15847776000000",
    ),
    (
        "ORC decimals",
        "read_files('${D}/orc_examples/decimal.orc', format => 'orc')",
        "count(*), count(_col0), sum(_col0), min(_col0)",
        "6000,4000,1998301.09900,-1000.50000",
    ),
    (
        "ORC runs and dictionaries",
        "read_files('${D}/orc_examples/orc_index_int_string.orc', format => 'orc')",
        "count(*), sum(_col0), min(_col1), max(_col1)",
        "6000,18003000,1000,9a",
    ),
    (
        "ORC of all types",
        "orc.`${D}/orc_examples/TestOrcFile.test1.orc`",
        "count(*), sum(short1), sum(double1), min(string1), max(string1), max(list[1].string1), \
         sum(array_length(middle.list))",
        "2,3072,-20.0,bye,hi,in,4",
    ),
    ("ORC without rows", "orc.`${D}/orc_examples/TestOrcFile.emptyFile.orc`", "count(*)", "0"),
    (
        "Parquet of old writers",
        "parquet.`${D}/parquet_testing/data/alltypes_plain.parquet`",
        "count(*), sum(id), sum(bigint_col), min(timestamp_col), max(timestamp_col)",
        "8,28,40,2009-01-01 00:00:00,2009-04-01 00:01:00",
    ),
    (
        "Parquet deltas",
        "parquet.`${D}/parquet_testing/data/delta_encoding_required_column.parquet`",
        "count(*), sum(`c_customer_sk:`)",
        "100,5408",
    ),
    (
        "Parquet nested",
        "parquet.`${D}/parquet_testing/data/nested_lists.snappy.parquet`",
        "count(*), sum(array_length(a))",
        "3,6",
    ),
    (
        "Parquet decimals",
        "parquet.`${D}/parquet_testing/data/int32_decimal.parquet`",
        "count(*), sum(value)",
        "24,300.00",
    ),
    (
        "flights as JSON",
        "STREAM read_files('${D}/flight_summary/json', format => 'json')",
        "count(*), sum(count)",
        "1502,2580915",
    ),
    (
        "flights as CSV",
        "STREAM read_files('${D}/flight_summary/csv', format => 'csv')",
        "count(*), sum(count)",
        "1502,2580915",
    ),
    (
        "flights as Parquet",
        "STREAM read_files('${D}/flight_summary/parquet', format => 'parquet')",
        "count(*), sum(CASE WHEN DEST_COUNTRY_NAME = 'United States' THEN count END)",
        "255,384932",
    ),
    (
        "flights as ORC",
        "STREAM read_files('${D}/flight_summary/orc', format => 'orc')",
        "count(*), sum(CASE WHEN DEST_COUNTRY_NAME = 'United States' THEN count END)",
        "255,384932",
    ),
    (
        "bike stations",
        "STREAM read_files('${D}/bike_stations', format => 'csv')",
        "count(*), sum(dockcount), count(DISTINCT landmark)",
        "70,1236,5",
    ),
    (
        "webhook documents",
        "cloud_files('${D}/github_webhooks', 'json', map('multiLine', 'true', 'cloudFiles.inferColumnTypes', 'true'))",
        "count(*), count(repository.id), sum(repository.id), sum(sender.id)",
        "87,87,16086631223,1864246493",
    ),
    (
        "earthquakes by day",
        "STREAM read_files('${D}/usgs_earthquakes/by_day', format => 'json')",
        "count(*), count(properties.mag), round(sum(properties.mag), 6)",
        "1707,1707,2616.39",
    ),
    (
        "earthquakes in one document",
        "STREAM read_files('${D}/usgs_earthquakes', format => 'json', multiLine => 'true', pathGlobFilter => '*.geojson')",
        "count(*), sum(array_length(features))",
        "1,1707",
    ),
    ("log lines", "cloud_files('${D}/apache_access_log', 'text')", "count(*), sum(length(value))", "4525,1044839"),
    (
        "log files whole",
        "cloud_files('${D}/apache_access_log', 'binaryFile')",
        "count(*), sum(length), sum(length(content))",
        "38,1049364,1049364",
    ),
];

/// Statements of one process each, so that a failure names its case.
#[test]
fn every_set_is_read_by_one_statement() {
    let Some(data) = std::env::var_os("ALLUVIUM_REAL_DATA").filter(|root| !root.is_empty()) else {
        eprintln!("skipped: real files of every format (ALLUVIUM_REAL_DATA names no directory)");
        return;
    };
    let data = data.to_str().unwrap();
    let mut wrong = Vec::new();
    for (title, relation, asked, expected) in CASES {
        let engine = Engine::new();
        let relation = relation.replace("${D}", data);
        let sql = match relation.contains("STREAM ") || relation.contains("cloud_files") {
            true => format!("CREATE STREAMING TABLE t AS SELECT * FROM {relation}; SELECT {asked} FROM t"),
            false => format!("SELECT {asked} FROM {relation}"),
        };
        let output = engine.command().args(["--format", "csv", "-c", &sql]).output().unwrap();
        let out = String::from_utf8_lossy(&output.stdout);
        let answer = out.lines().last().unwrap_or_default();
        if !output.status.success() || answer != *expected {
            let said = String::from_utf8_lossy(&output.stderr);
            wrong.push(format!("{title}: `{answer}` instead of `{expected}`\n{sql}\n{said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The twelve files of csv-spectrum against the JSON beside them, value by value.
#[test]
fn csv_spectrum_value_by_value() {
    let Some(data) = std::env::var_os("ALLUVIUM_REAL_DATA").filter(|root| !root.is_empty()) else {
        eprintln!("skipped: csv-spectrum (ALLUVIUM_REAL_DATA names no directory)");
        return;
    };
    let directory = std::path::Path::new(&data).join("csv_spectrum");
    let mut files = 0;
    for entry in std::fs::read_dir(directory.join("csvs")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let wanted =
            String::from_utf8_lossy(&std::fs::read(directory.join(format!("json/{name}.json"))).unwrap()).into_owned();
        // This answer is no list, and has another phone number than its CSV.
        let wanted = match name.as_str() {
            "location_coordinates" => format!("[{}]", wanted.replace("1234567890", "2095257564")),
            _ => wanted,
        };
        // The file of this name has plain line feeds, as it was fetched.
        let wanted = if name == "newlines_crlf" { wanted.replace("\\r\\n", "\\n") } else { wanted };
        let wanted: serde_json::Value = serde_json::from_str(&wanted).unwrap();
        let sql = format!(
            "SELECT * EXCEPT (_rescued_data) FROM read_files('{}', format => 'csv', multiLine => 'true', \
             escape => '\"', inferColumnTypes => 'false', nullValue => 'no such text', emptyValue => '')",
            path.display()
        );
        let rows = Engine::new().ask(&sql);
        assert_eq!(serde_json::Value::Array(rows), wanted, "{name}");
        files += 1;
    }
    assert_eq!(files, 12);
}
