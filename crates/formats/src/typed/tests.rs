//! The fixtures were written by fastavro 1.12 and pyarrow 22; expected values are what those read back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema};

use super::*;

const TYPES_AVRO: &[u8] = include_bytes!("../../fixtures/types.avro");
const ORC: [&[u8]; 5] = [
    include_bytes!("../../fixtures/uncompressed.orc"),
    include_bytes!("../../fixtures/zlib.orc"),
    include_bytes!("../../fixtures/snappy.orc"),
    include_bytes!("../../fixtures/lz4.orc"),
    include_bytes!("../../fixtures/zstd.orc"),
];
const AVRO: [&[u8]; 3] = [
    include_bytes!("../../fixtures/plain.avro"),
    include_bytes!("../../fixtures/bzip2.avro"),
    include_bytes!("../../fixtures/xz.avro"),
];
const STRIPES_ORC: &[u8] = include_bytes!("../../fixtures/stripes.orc");
const BLOCKS_AVRO: &[u8] = include_bytes!("../../fixtures/blocks.avro");
const RUNS_ORC: &[u8] = include_bytes!("../../fixtures/runs.orc");

fn facts(path: &str) -> FileFacts<'_> {
    FileFacts { path, url: path, size: 0, modified_us: 0 }
}

fn content(bytes: &[u8]) -> Content {
    Content::Bytes(Bytes::copy_from_slice(bytes))
}

/// All rows of a file in the columns it has itself.
fn read(format: Format, bytes: &[u8]) -> Result<RecordBatch, DecodeError> {
    let options = FormatOptions::new(format, true, true);
    let schema = Arc::new(file_schema(&options, facts("f"), content(bytes))?);
    read_as(format, bytes, schema)
}

fn read_as(format: Format, bytes: &[u8], schema: SchemaRef) -> Result<RecordBatch, DecodeError> {
    read_parts(format, bytes, schema, &[FilePart::WHOLE])
}

fn read_parts(format: Format, bytes: &[u8], schema: SchemaRef, parts: &[FilePart]) -> Result<RecordBatch, DecodeError> {
    let options = FormatOptions::new(format, true, true);
    let all: Vec<usize> = (0..schema.fields().len()).collect();
    let mut decoder = file_decoder(&options, schema, &all, 1024)?;
    for part in parts {
        decoder.start_file(facts("f"), content(bytes), *part)?;
        while decoder.advance()? {}
    }
    decoder.finish()
}

#[test]
fn parts_of_a_file_hold_each_row_once_wherever_it_is_cut() {
    for (format, bytes) in [(Format::Orc, STRIPES_ORC), (Format::Avro, BLOCKS_AVRO)] {
        let options = FormatOptions::new(format, true, true);
        let schema = Arc::new(file_schema(&options, facts("f"), content(bytes)).unwrap());
        let whole = read(format, bytes).unwrap();
        let mut firsts = std::collections::BTreeSet::new();
        for cut in (0..bytes.len() as u64 + 2).step_by(bytes.len() / 40) {
            let (first, second) = (FilePart { from: 0, to: cut }, FilePart { from: cut, to: u64::MAX });
            assert_eq!(read_parts(format, bytes, schema.clone(), &[first, second]).unwrap(), whole, "cut at {cut}");
            firsts.insert(read_parts(format, bytes, schema.clone(), &[first]).unwrap().num_rows());
        }
        assert!(firsts.len() > 2, "{} is cut between its pieces: {firsts:?}", format.name());
    }
}

#[test]
fn all_compressions_of_orc_give_the_same_rows() {
    let first = read(Format::Orc, ORC[0]).unwrap();
    assert_eq!((first.num_rows(), first.num_columns()), (3, 11));
    for bytes in ORC {
        assert_eq!(read(Format::Orc, bytes).unwrap(), first);
    }
}

#[test]
fn all_compressions_of_avro_give_the_same_rows() {
    let first = read(Format::Avro, AVRO[0]).unwrap();
    assert_eq!(first.column_by_name("color").unwrap().as_string::<i32>().value(0), "red");
    for bytes in AVRO {
        assert_eq!(read(Format::Avro, bytes).unwrap(), first);
    }
}

#[test]
fn runs_dictionaries_and_several_stripes_of_orc() {
    let batch = read(Format::Orc, RUNS_ORC).unwrap();
    assert_eq!(batch.num_rows(), 5000);
    let sum = |column: &str| {
        let values = batch.column_by_name(column).unwrap().as_primitive::<Int64Type>();
        values.iter().flatten().sum::<i64>()
    };
    assert_eq!((sum("id"), sum("x")), (12_497_500, 49_999_999_992_584));
    let doubles = batch.column_by_name("d").unwrap().as_primitive::<Float64Type>();
    assert_eq!(doubles.iter().flatten().sum::<f64>(), 5_355_357.5);
    let texts = batch.column_by_name("s").unwrap().as_string::<i32>();
    assert_eq!(texts.iter().flatten().map(str::len).sum::<usize>(), 13_645);
}

#[test]
fn no_prefix_of_a_file_passes_for_a_whole_one() {
    for end in 1..TYPES_AVRO.len() {
        // A container may end behind its header: it has no rows then.
        match read(Format::Avro, &TYPES_AVRO[..end]) {
            Err(_) => {}
            Ok(batch) => assert_eq!(batch.num_rows(), 0, "cut at {end}"),
        }
    }
    for end in 1..ORC[1].len() {
        assert!(read(Format::Orc, &ORC[1][..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn what_does_not_fit_is_rescued_with_its_path() {
    let schema = Schema::new(vec![
        Field::new("id", DataType::Utf8, true),
        Field::new("name", DataType::Int64, true),
        Field::new("place", DataType::Struct(vec![Field::new("x", DataType::Float64, true)].into()), true),
        Field::new("_rescued_data", DataType::Utf8, true),
    ]);
    let batch = read_as(Format::Orc, ORC[0], Arc::new(schema)).unwrap();
    let ids: Vec<_> = batch.column(0).as_string::<i32>().iter().collect();
    assert_eq!(ids, [Some("1"), Some("2"), None]);
    assert_eq!(batch.column(1).null_count(), 3);
    let rescued: serde_json::Value = serde_json::from_str(batch.column(3).as_string::<i32>().value(0)).unwrap();
    assert_eq!(rescued["name"], "ann");
    assert_eq!(rescued["place"], serde_json::json!({"y": "q"}));
    assert_eq!(rescued["price"].to_string(), "1.5");
    assert_eq!(rescued["tags"], serde_json::json!(["x", "y"]));
    assert_eq!(rescued["raw"], "Af8=");
    assert_eq!(rescued["_file_path"], "f");
}

#[test]
fn types_of_several_files_widen() {
    let schema = |fields: &[(&str, DataType)]| {
        Schema::new(fields.iter().map(|(name, t)| Field::new(*name, t.clone(), true)).collect::<Vec<_>>())
    };
    use DataType as T;
    let a =
        schema(&[("a", T::Int32), ("b", T::Date32), ("c", T::Float32), ("d", T::Decimal128(5, 2)), ("e", T::Boolean)]);
    let b =
        schema(&[("a", T::Int64), ("c", T::Int64), ("d", T::Int32), ("e", T::Int8), ("A", T::Int8), ("z", T::Binary)]);
    let widest = widest_schema(&a, &b);
    let wanted = schema(&[
        ("a", T::Int64),
        ("b", T::Date32),
        ("c", T::Float64),
        ("d", T::Decimal128(12, 2)),
        ("e", T::Utf8),
        ("z", T::Binary),
    ]);
    assert_eq!(widest, wanted);
}
