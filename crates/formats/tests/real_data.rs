//! Real files, read with inferred schemas. The expected figures come from other programs.
//!
//! The directory is named by the environment variable `ALLUVIUM_REAL_DATA`; without it the tests say so and pass.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use alluvium_formats::{DecodeCounts, Format, FormatOptions, Inferrer, decoder};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Float64Type, Int32Type, Int64Type, Schema};

fn directory(name: &str) -> Option<PathBuf> {
    let Some(root) = std::env::var_os("ALLUVIUM_REAL_DATA") else {
        println!("skipped: ALLUVIUM_REAL_DATA is not set");
        return None;
    };
    Some(Path::new(&root).join(name))
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn options(format: Format, entries: &[(&str, &str)], types: bool) -> FormatOptions {
    let entries: Vec<_> = entries.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    FormatOptions::parse(format, &entries, types, true).unwrap()
}

/// All files as one batch, by the schema inferred from all of them.
fn read(options: &FormatOptions, files: &[PathBuf]) -> (RecordBatch, DecodeCounts) {
    let mut inferrer = Inferrer::new(options);
    for file in files {
        inferrer.start_file(&file.to_string_lossy());
        inferrer.sample(&std::fs::read(file).unwrap(), true).unwrap();
    }
    let mut fields = inferrer.finish().unwrap().fields().to_vec();
    fields.push(Arc::new(Field::new("_rescued_data", DataType::Utf8, true)));
    let schema = Arc::new(Schema::new(fields));
    let mut decoder = decoder(options, schema.clone(), 1000).unwrap();
    let mut batches = Vec::new();
    for file in files {
        decoder.start_file(&file.to_string_lossy());
        let text = std::fs::read(file).unwrap();
        let mut pos = 0;
        while pos < text.len() {
            pos += decoder.decode(&text[pos..], true).unwrap();
            if decoder.is_full() {
                batches.push(decoder.finish().unwrap());
            }
        }
    }
    batches.push(decoder.finish().unwrap());
    (concat_batches(&schema, &batches).unwrap(), decoder.counts())
}

#[test]
fn retail() {
    let Some(directory) = directory("retail_by_day") else { return };
    let (batch, counts) = read(&options(Format::Csv, &[("escape", "\"")], true), &files(&directory));
    assert_eq!((counts.rows, counts.rescued_rows, counts.corrupt_records), (77_628, 0, 0));
    let quantity = batch.column_by_name("Quantity").unwrap().as_primitive::<Int32Type>();
    let price = batch.column_by_name("UnitPrice").unwrap().as_primitive::<Float64Type>();
    let total: i64 = quantity.values().iter().map(|&q| i64::from(q)).sum();
    let revenue: f64 = quantity.values().iter().zip(price.values()).map(|(&q, &p)| f64::from(q) * p).sum();
    assert_eq!((total, (revenue * 100.0).round()), (651_194, 130_895_728.0));
    let customers = batch.column_by_name("CustomerID").unwrap();
    assert_eq!(customers.len() - customers.null_count(), 48_762);
    assert_eq!(batch.column_by_name("InvoiceNo").unwrap().data_type(), &DataType::Utf8);
    assert!(matches!(batch.column_by_name("InvoiceDate").unwrap().data_type(), DataType::Timestamp(_, Some(_))));
}

#[test]
fn school() {
    let Some(directory) = directory("school_synth") else { return };
    let mut enrollments = files(&directory.join("enrollments-json-raw"));
    enrollments.extend(files(&directory.join("enrollments-json-streaming")));
    let (batch, counts) = read(&options(Format::Json, &[], true), &enrollments);
    assert_eq!((counts.rows, counts.rescued_rows, counts.corrupt_records), (10_000, 0, 0));
    let quantity = batch.column_by_name("quantity").unwrap().as_primitive::<Int64Type>();
    assert_eq!(quantity.values().iter().sum::<i64>(), 16_609);
    let courses = batch.column_by_name("courses").unwrap().data_type().to_string();
    for field in ["course_id", "discount_percent", "subtotal"] {
        assert!(courses.contains(field), "{courses}");
    }
    let students = files(&directory.join("students-json"));
    assert_eq!(read(&options(Format::Json, &[], false), &students).1.rows, 1_200);
    let courses = files(&directory.join("courses-csv"));
    assert_eq!(read(&options(Format::Csv, &[("sep", ";")], true), &courses).1.corrupt_records, 0);
}

#[test]
fn covid_with_columns_that_come_later() {
    let Some(directory) = directory("covid_it_regioni") else { return };
    let options = options(Format::Csv, &[("escape", "\""), ("multiLine", "true")], true);
    let (batch, counts) = read(&options, &files(&directory));
    assert_eq!((counts.rows, counts.rescued_rows, counts.corrupt_records), (1_743, 0, 0));
    assert_eq!(batch.num_columns(), 31);
    assert_eq!(batch.column(0).null_count(), 0);
}

#[test]
fn webhooks() {
    let Some(directory) = directory("github_webhooks") else { return };
    let mut documents = 0;
    for event in files(&directory) {
        let files = files(&event);
        let (batch, counts) = read(&options(Format::Json, &[("multiLine", "true")], true), &files);
        assert_eq!((counts.rows, counts.corrupt_records), (files.len() as u64, 0), "{event:?}");
        let rescued = batch.column_by_name("_rescued_data").unwrap().as_string::<i32>();
        for text in rescued.iter().flatten() {
            // Objects that are empty in every document have no column; all else does.
            assert!(text.contains("{}"), "{event:?}: {text}");
        }
        documents += files.len();
    }
    assert_eq!(documents, 87);
}

#[test]
fn csv_spectrum() {
    let Some(directory) = directory("csv_spectrum") else { return };
    for file in files(&directory.join("csvs")) {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let (batch, _) =
            read(&options(Format::Csv, &[("escape", "\""), ("multiLine", "true")], false), std::slice::from_ref(&file));
        let wanted = std::fs::read_to_string(directory.join("json").join(format!("{name}.json"))).unwrap();
        let wanted: serde_json::Value = serde_json::from_str(&wanted).unwrap();
        // One of the suite's answers belongs to another phone number and is no list.
        let Some(wanted) = wanted.as_array() else { continue };
        assert_eq!(batch.num_rows(), wanted.len(), "{name}");
        for (row, wanted) in wanted.iter().enumerate() {
            for (column, wanted) in wanted.as_object().unwrap() {
                let values = batch.column_by_name(column).unwrap().as_string::<i32>();
                let value = if values.is_null(row) { "" } else { values.value(row) };
                // The suite's files came with CRLF; a copy with LF is as good.
                assert_eq!(value, wanted.as_str().unwrap().replace("\r\n", "\n"), "{name} row {row} {column}");
            }
        }
    }
}
