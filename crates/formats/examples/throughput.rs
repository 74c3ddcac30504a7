//! Decoding speed, ours next to arrow-json's and arrow-csv's on the same bytes in one thread.
//!
//! Run with optimisation: `cargo run --release -p alluvium-formats --example throughput`. Each figure is the best of
//! several passes over the same rows in memory; ours has the rescue column on, theirs cannot have one. Of dirty data one
//! record in a hundred is broken and five have drifted, which must not cost more than 1.3 times the time. On Linux the
//! thread's processor time is measured, so that a busy machine does not disturb the ratio.

use std::error::Error;
use std::fmt::Write;
use std::io::Cursor;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use alluvium_formats::{Format, FormatOptions, decoder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

const ROWS: usize = 200_000;
const BATCH_ROWS: usize = 8192;
const PASSES: usize = 7;

fn main() -> Result<(), Box<dyn Error>> {
    // An argument chooses the measurements whose name it begins.
    let chosen = std::env::args().nth(1).unwrap_or_default();
    let schema = flat_schema();
    if "json flat".starts_with(&chosen) {
        let text = flat_json(false);
        report("json flat", text.len(), ours(Format::Json, &text, &schema)?, theirs_json(&text, &schema)?);
    }
    if "json dirty".starts_with(&chosen) {
        let text = flat_json(true);
        report("json dirty", text.len(), ours(Format::Json, &text, &schema)?, None);
    }
    if "json nested".starts_with(&chosen) {
        let (text, schema) = nested_json();
        report("json nested", text.len(), ours(Format::Json, &text, &schema)?, theirs_json(&text, &schema)?);
    }
    if "csv".starts_with(&chosen) {
        let text = flat_csv(false);
        report("csv", text.len(), ours(Format::Csv, &text, &schema)?, theirs_csv(&text, &schema)?);
    }
    if "csv dirty".starts_with(&chosen) {
        let text = flat_csv(true);
        report("csv dirty", text.len(), ours(Format::Csv, &text, &schema)?, None);
    }
    Ok(())
}

fn report(name: &str, bytes: usize, ours: Duration, theirs: Option<Duration>) {
    let speed = |time: Duration| {
        let seconds = time.as_secs_f64();
        format!("{:6.0} MB/s {:6.2} M rows/s", bytes as f64 / 1e6 / seconds, ROWS as f64 / 1e6 / seconds)
    };
    let theirs = match theirs {
        Some(theirs) => format!("   arrow {}   ratio {:.2}", speed(theirs), theirs.as_secs_f64() / ours.as_secs_f64()),
        None => String::new(),
    };
    println!("{name:16} ours {}{theirs}", speed(ours));
}

/// Processor time of this thread, or time since the start where that is not to be had.
fn time() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let used = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = used.and_then(|text| text.split(' ').next()?.parse().ok());
    nanos.map_or_else(|| START.elapsed(), Duration::from_nanos)
}

fn best(mut pass: impl FnMut() -> Result<usize, Box<dyn Error>>) -> Result<Duration, Box<dyn Error>> {
    let mut best = Duration::MAX;
    for _ in 0..PASSES {
        let start = time();
        let rows = pass()?;
        best = best.min(time() - start);
        if rows != ROWS {
            return Err(format!("{rows} rows instead of {ROWS}").into());
        }
    }
    Ok(best)
}

fn ours(format: Format, text: &[u8], schema: &SchemaRef) -> Result<Duration, Box<dyn Error>> {
    let options = FormatOptions::new(format, true, true);
    let mut fields = schema.fields().to_vec();
    fields.push(Arc::new(Field::new("_rescued_data", DataType::Utf8, true)));
    let mut decoder = decoder(&options, Arc::new(Schema::new(fields)), BATCH_ROWS)?;
    best(|| {
        decoder.start_file("bench");
        let (mut pos, mut rows) = (0, 0);
        while pos < text.len() {
            pos += decoder.decode(&text[pos..], true)?;
            rows += decoder.finish()?.num_rows();
        }
        Ok(rows)
    })
}

fn theirs_json(text: &[u8], schema: &SchemaRef) -> Result<Option<Duration>, Box<dyn Error>> {
    let pass = || {
        let reader = arrow_json::ReaderBuilder::new(schema.clone()).with_batch_size(BATCH_ROWS);
        count(reader.build(Cursor::new(text))?)
    };
    best(pass).map(Some)
}

fn theirs_csv(text: &[u8], schema: &SchemaRef) -> Result<Option<Duration>, Box<dyn Error>> {
    let pass = || {
        let reader = arrow_csv::ReaderBuilder::new(schema.clone()).with_header(true).with_batch_size(BATCH_ROWS);
        count(reader.build(Cursor::new(text))?)
    };
    best(pass).map(Some)
}

fn count(
    batches: impl Iterator<Item = Result<arrow::array::RecordBatch, arrow::error::ArrowError>>,
) -> Result<usize, Box<dyn Error>> {
    let mut rows = 0;
    for batch in batches {
        rows += batch?.num_rows();
    }
    Ok(rows)
}

fn flat_schema() -> SchemaRef {
    let timestamp = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("user_id", DataType::Utf8, true),
        Field::new("country", DataType::Utf8, true),
        Field::new("quantity", DataType::Int64, true),
        Field::new("price", DataType::Float64, true),
        Field::new("active", DataType::Boolean, true),
        Field::new("created", timestamp, true),
        Field::new("note", DataType::Utf8, true),
    ]))
}

/// How a row of dirty data is: one in a hundred is broken, five have drifted.
#[derive(PartialEq)]
enum Row {
    Clean,
    Broken,
    Misfit,
    NewField,
}

fn kind(row: usize, dirty: bool) -> Row {
    match row % 100 {
        7 if dirty => Row::Broken,
        11 | 31 | 51 if dirty => Row::Misfit,
        71 | 91 if dirty => Row::NewField,
        _ => Row::Clean,
    }
}

fn flat_json(dirty: bool) -> Vec<u8> {
    let mut text = String::new();
    for row in 0..ROWS {
        let (user, country, cents) = (row * 7919 % 100_000, ["IT", "DE", "FR", "US"][row % 4], row * 31 % 100_000);
        let id = match kind(row, dirty) {
            Row::Clean => row.to_string(),
            Row::Broken => "oops".to_owned(),
            Row::Misfit => "\"oops\"".to_owned(),
            Row::NewField => format!("{row},\"extra\":{{\"n\":{row}}}"),
        };
        let _ = writeln!(
            text,
            "{{\"id\":{id},\"user_id\":\"U{user:06}\",\"country\":\"{country}\",\"quantity\":{},\"price\":{}.{:02},\
             \"active\":{},\"created\":\"2024-01-{:02}T10:{:02}:{:02}.123Z\",\"note\":\"a short note about row {row}\"}}",
            row % 9 + 1,
            cents / 100,
            cents % 100,
            row % 3 == 0,
            row % 28 + 1,
            row % 60,
            row / 60 % 60,
        );
    }
    text.into_bytes()
}

fn flat_csv(dirty: bool) -> Vec<u8> {
    let mut text = String::from("id,user_id,country,quantity,price,active,created,note\n");
    for row in 0..ROWS {
        let (user, country, cents) = (row * 7919 % 100_000, ["IT", "DE", "FR", "US"][row % 4], row * 31 % 100_000);
        let id = match kind(row, dirty) {
            Row::Clean => row.to_string(),
            Row::Broken => format!("{row},one,more"),
            Row::Misfit | Row::NewField => "oops".to_owned(),
        };
        let _ = writeln!(
            text,
            "{id},U{user:06},{country},{},{}.{:02},{},2024-01-{:02}T10:{:02}:{:02}.123Z,\"a short note, row {row}\"",
            row % 9 + 1,
            cents / 100,
            cents % 100,
            row % 3 == 0,
            row % 28 + 1,
            row % 60,
            row / 60 % 60,
        );
    }
    text.into_bytes()
}

fn nested_json() -> (Vec<u8>, SchemaRef) {
    let course = DataType::Struct(
        vec![
            Field::new("course_id", DataType::Utf8, true),
            Field::new("discount_percent", DataType::Int64, true),
            Field::new("subtotal", DataType::Float64, true),
        ]
        .into(),
    );
    let courses = DataType::List(Arc::new(Field::new("element", course, true)));
    let schema = Schema::new(vec![
        Field::new("courses", courses, true),
        Field::new("enroll_id", DataType::Utf8, true),
        Field::new("enroll_timestamp", DataType::Int64, true),
        Field::new("total", DataType::Float64, true),
    ]);
    let mut text = String::new();
    for row in 0..ROWS {
        let courses: Vec<_> = (0..row % 3 + 1)
            .map(|n| format!("{{\"course_id\":\"C{n:02}\",\"discount_percent\":{},\"subtotal\":{n}.25}}", row % 90))
            .collect();
        let _ = writeln!(
            text,
            "{{\"courses\":[{}],\"enroll_id\":\"{row:016}\",\"enroll_timestamp\":{},\"total\":{}.5}}",
            courses.join(","),
            1_657_521_575 + row,
            row % 100,
        );
    }
    (text.into_bytes(), Arc::new(schema))
}
