//! Decoding speed: this crate's decoders with the rescue column on beside arrow-json and arrow-csv, which have none, over
//! the same bytes in memory, in one thread.
//!
//! `make bench BENCH=decode` builds and runs it and holds the figures against their bars. It prints one JSON object a
//! case: the best of several passes of each side, taken in turn. On Linux what is measured is the thread's processor time,
//! so that a busy machine does not disturb the ratio.

mod cases;

use std::error::Error;
use std::io::Cursor;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use alluvium_formats::{Format, FormatOptions, decoder};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use cases::{CASES, Case};

const BATCH_ROWS: usize = 8192;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Arguments: how many passes, then the names of the cases to measure (all without).
fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let passes = arguments.next().map_or(Ok(7), |passes| passes.parse::<u32>())?;
    let chosen: Vec<String> = arguments.collect();
    for case in CASES {
        if chosen.is_empty() || chosen.iter().any(|name| name == case.name) {
            measure(case, passes)?;
        }
    }
    Ok(())
}

/// Dirty data is more than theirs can read, so there they get the same rows without the dirt.
fn measure(case: &Case, passes: u32) -> Result<()> {
    let (text, clean) = ((case.text)(case.dirty), case.dirty.then(|| (case.text)(false)));
    let their_text = clean.as_ref().unwrap_or(&text);
    let (mut ours, mut theirs) = (Duration::MAX, Duration::MAX);
    for _ in 0..passes.max(1) {
        ours = ours.min(timed(case, || read_ours(case, &text))?);
        theirs = theirs.min(timed(case, || read_theirs(case, their_text))?);
    }
    let figures = serde_json::json!({
        "case": case.name,
        "rows": case.rows,
        "bytes": text.len(),
        "ours_s": ours.as_secs_f64(),
        "arrow_s": theirs.as_secs_f64(),
    });
    println!("{figures}");
    Ok(())
}

fn timed(case: &Case, read: impl FnOnce() -> Result<usize>) -> Result<Duration> {
    let start = time();
    let rows = read()?;
    let took = time() - start;
    if rows == case.rows {
        Ok(took)
    } else {
        Err(format!("{}: {rows} rows instead of {}", case.name, case.rows).into())
    }
}

/// Processor time of this thread, or time since the start where that is not to be had.
fn time() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let used = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = used.and_then(|text| text.split(' ').next()?.parse().ok());
    nanos.map_or_else(|| START.elapsed(), Duration::from_nanos)
}

fn read_ours(case: &Case, text: &[u8]) -> Result<usize> {
    let mut options = FormatOptions::new(case.format, true, true);
    if case.doubled_quotes {
        options.csv.escape = options.csv.quote;
    }
    let mut fields = (case.schema)().fields().to_vec();
    fields.push(Arc::new(Field::new("_rescued_data", DataType::Utf8, true)));
    let mut decoder = decoder(&options, Arc::new(Schema::new(fields)), BATCH_ROWS)?;
    decoder.start_file("bench");
    let (mut pos, mut rows) = (0, 0);
    while pos < text.len() {
        pos += decoder.decode(&text[pos..], true)?;
        rows += decoder.finish()?.num_rows();
    }
    Ok(rows)
}

fn read_theirs(case: &Case, text: &[u8]) -> Result<usize> {
    let schema = (case.schema)();
    let input = Cursor::new(text);
    match case.format {
        Format::Csv => {
            let reader = arrow_csv::ReaderBuilder::new(schema).with_header(true).with_batch_size(BATCH_ROWS);
            count(reader.build_buffered(input)?)
        }
        _ => count(arrow_json::ReaderBuilder::new(schema).with_batch_size(BATCH_ROWS).build(input)?),
    }
}

fn count(batches: impl Iterator<Item = std::result::Result<RecordBatch, ArrowError>>) -> Result<usize> {
    let mut rows = 0;
    for batch in batches {
        rows += batch?.num_rows();
    }
    Ok(rows)
}
