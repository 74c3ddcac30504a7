//! JSON decoding against values written by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::json::ArrayWriter;

use crate::options::{Format, FormatOptions};
use crate::{DecodeError, RecordDecoder, decoder, decoder_projected};

fn options(entries: &[(&str, &str)]) -> FormatOptions {
    let entries: Vec<_> = entries.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    FormatOptions::parse(Format::Json, &entries, true, false).unwrap()
}

fn rescuing(more: &[(&str, &str)]) -> FormatOptions {
    options(&[&[("rescuedDataColumn", "_rescued_data")], more].concat())
}

fn schema(fields: &[(&str, DataType)]) -> Arc<Schema> {
    Arc::new(Schema::new(fields.iter().map(|(n, t)| Field::new(*n, t.clone(), true)).collect::<Vec<_>>()))
}

fn utc() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn structs(fields: &[(&str, DataType)]) -> DataType {
    DataType::Struct(fields.iter().map(|(n, t)| Field::new(*n, t.clone(), true)).collect())
}

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("element", item, true)))
}

/// The batch as JSON rows without NULLs.
fn rows(batch: &RecordBatch) -> String {
    if batch.num_columns() == 0 || batch.num_rows() == 0 {
        return format!("{} rows", batch.num_rows());
    }
    let mut writer = ArrayWriter::new(Vec::new());
    writer.write(batch).unwrap();
    writer.finish().unwrap();
    String::from_utf8(writer.into_inner()).unwrap()
}

fn read(options: &FormatOptions, schema: &Arc<Schema>, text: &[u8]) -> Result<String, DecodeError> {
    let mut decoder = decoder(options, schema.clone(), 1000)?;
    decoder.start_file("f");
    assert_eq!(decoder.decode(text, true)?, text.len());
    Ok(rows(&decoder.finish()?))
}

#[track_caller]
fn check(options: &FormatOptions, fields: &[(&str, DataType)], text: &str, expected: &str) {
    let schema = schema(fields);
    assert_eq!(read(options, &schema, text.as_bytes()).unwrap(), expected);
    // In pieces, as they may come, the same.
    for size in [1, 2, 3, 7, 64] {
        let mut decoder = decoder(options, schema.clone(), 1000).unwrap();
        feed(&mut *decoder, text.as_bytes(), size);
        assert_eq!(rows(&decoder.finish().unwrap()), expected, "in pieces of {size}");
    }
}

/// Brings a file in growing windows of `size` further bytes.
fn feed(decoder: &mut dyn RecordDecoder, text: &[u8], size: usize) {
    decoder.start_file("f");
    let (mut start, mut end) = (0, 0);
    loop {
        end = (end + size).min(text.len());
        start += decoder.decode(&text[start..end], end == text.len()).unwrap();
        if end == text.len() && start == end {
            return;
        }
    }
}

#[test]
fn every_type() {
    let fields = [
        ("b", DataType::Boolean),
        ("i8", DataType::Int8),
        ("i16", DataType::Int16),
        ("i32", DataType::Int32),
        ("i64", DataType::Int64),
        ("f32", DataType::Float32),
        ("f64", DataType::Float64),
        ("dec", DataType::Decimal128(5, 2)),
        ("d", DataType::Date32),
        ("ts", utc()),
        ("ntz", DataType::Timestamp(TimeUnit::Microsecond, None)),
        ("s", DataType::Utf8),
    ];
    check(
        &options(&[]),
        &fields,
        r#"{"b":true,"i8":-128,"i16":32767,"i32":-2147483648,"i64":9223372036854775807,"f32":0.5,"f64":-1.25e2,"dec":1.005,"d":"2020-02-29","ts":"2020-01-01T00:00:00.5+01:00","ntz":"2020-01-01 01:02:03","s":"h\u00e9 \ud83d\ude00\n"}"#,
        "[{\"b\":true,\"i8\":-128,\"i16\":32767,\"i32\":-2147483648,\"i64\":9223372036854775807,\"f32\":0.5,\
         \"f64\":-125.0,\"dec\":1.01,\"d\":\"2020-02-29\",\"ts\":\"2019-12-31T23:00:00.500Z\",\
         \"ntz\":\"2020-01-01T01:02:03\",\"s\":\"hé 😀\\n\"}]",
    );
    // A number in a TIMESTAMP column is seconds.
    check(&options(&[]), &[("ts", utc())], r#"{"ts":1657521575}"#, r#"[{"ts":"2022-07-11T06:39:35Z"}]"#);
}

#[test]
fn nothing_is_converted_between_kinds_except_to_string() {
    let fields = [("i", DataType::Int64), ("f", DataType::Float64), ("b", DataType::Boolean), ("d", DataType::Date32)];
    for text in [
        r#"{"i":"5"}"#,
        r#"{"i":2.7}"#,
        r#"{"i":1.0}"#,
        r#"{"i":9223372036854775808}"#,
        r#"{"i":true}"#,
        r#"{"i":[1]}"#,
        r#"{"i":{"a":1}}"#,
        r#"{"f":"5"}"#,
        r#"{"b":1}"#,
        r#"{"b":"true"}"#,
        r#"{"d":5}"#,
        r#"{"d":"x"}"#,
        r#"{"i":-INF}"#,
    ] {
        let value = &text[5..text.len() - 1];
        let name = &text[2..3];
        let quoted = if value == "-INF" { "\"-INF\"" } else { value };
        let rescued = format!(r#"{{"{name}":{quoted},"_file_path":"f"}}"#).replace('"', "\\\"");
        let mut columns = fields.to_vec();
        columns.push(("_rescued_data", DataType::Utf8));
        check(&rescuing(&[]), &columns, text, &format!(r#"[{{"_rescued_data":"{rescued}"}}]"#));
    }
    check(&options(&[]), &fields, r#"{"f":3,"i":-0}"#, r#"[{"i":0,"f":3.0}]"#);
    let text = r#"{"s":1.50}
{"s":{"a": 1, "b":[]}}
{"s":true}
{"s":null}
{"s":"x"}"#;
    let expected = r#"[{"s":"1.50"},{"s":"{\"a\": 1, \"b\":[]}"},{"s":"true"},{},{"s":"x"}]"#;
    check(&options(&[]), &[("s", DataType::Utf8)], text, expected);
}

#[test]
fn infinite_numbers_and_words() {
    let text = "{\"f\":NaN}\n{\"f\":\"-Infinity\"}\n{\"f\":-INF}\n{\"f\":\"other\"}\n{\"f\":1e999}\n{\"f\":-7}";
    let schema = schema(&[("f", DataType::Float64)]);
    let mut decoder = decoder(&options(&[]), schema, 10).unwrap();
    decoder.start_file("f");
    decoder.decode(text.as_bytes(), true).unwrap();
    let batch = decoder.finish().unwrap();
    let values = batch.column(0).as_any().downcast_ref::<arrow::array::Float64Array>().unwrap();
    let values: Vec<_> = values.iter().collect();
    assert!(values[0].unwrap().is_nan());
    let infinity = f64::INFINITY;
    assert_eq!(values[1..], [Some(-infinity), Some(-infinity), None, Some(infinity), Some(-7.0)]);
    assert_eq!(decoder.counts().corrupt_records, 1);
}

#[test]
fn nested_values() {
    let inner = structs(&[("x", DataType::Int64), ("y", DataType::Utf8)]);
    let map = DataType::Map(
        Arc::new(Field::new(
            "entries",
            DataType::Struct(
                vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Int64, true)].into(),
            ),
            false,
        )),
        false,
    );
    let fields = [("s", inner.clone()), ("l", list(inner)), ("m", map), ("ll", list(list(DataType::Int64)))];
    check(
        &options(&[]),
        &fields,
        "{\"s\":{\"y\":\"a\",\"x\":1},\"l\":[{\"x\":2},null,{}],\"m\":{\"k\":1,\"n\":null},\"ll\":[[1,2],[],null]}\n\
         {\"l\":[],\"m\":{},\"s\":{}}\n{}\n",
        "[{\"s\":{\"x\":1,\"y\":\"a\"},\"l\":[{\"x\":2},null,{}],\"m\":{\"k\":1},\"ll\":[[1,2],[],null]},\
         {\"s\":{},\"l\":[],\"m\":{}},{}]",
    );
}

#[test]
fn rescue_keeps_what_fits_nowhere() {
    let inner = structs(&[("x", DataType::Int64), ("y", DataType::Int64)]);
    let fields = [("id", DataType::Int64), ("s", inner.clone()), ("l", list(inner)), ("_rescued_data", DataType::Utf8)];
    let text = r#"{"id":1,"s":{"x":1},"l":[{"x":1}]}
{"id":2,"new":{"a":[1, 2]},"ID":3,"n":null}
{"id":"x","s":{"x":"q","z":{"w":1},"y":5,"y":2.5}}
{"l":[{"x":1,"k":2},7],"s":9,"e\"\u0041":"v\n"}
{"id":4}"#;
    let expected = r#"[{"id":1,"s":{"x":1},"l":[{"x":1}]},
{"id":2,"_rescued_data":"{\"new\":{\"a\":[1, 2]},\"ID\":3,\"n\":null,\"_file_path\":\"f\"}"},
{"s":{},"_rescued_data":"{\"id\":\"x\",\"s\":{\"x\":\"q\",\"z\":{\"w\":1},\"y\":2.5},\"_file_path\":\"f\"}"},
{"l":[{"x":1},null],"_rescued_data":"{\"l\":[{\"x\":1,\"k\":2},7],\"s\":9,\"e\\\"A\":\"v\\n\",\"_file_path\":\"f\"}"},
{"id":4}]"#;
    check(&rescuing(&[]), &fields, text, &expected.replace('\n', ""));
    let mut decoder = decoder(&rescuing(&[]), schema(&fields), 10).unwrap();
    decoder.start_file("f");
    decoder.decode(text.as_bytes(), true).unwrap();
    assert_eq!(decoder.unmatched_fields(), ["new", "ID", "n", "s.z", "l.element.k", "e\"A"]);
    let counts = decoder.counts();
    assert_eq!((counts.rows, counts.rescued_rows, counts.corrupt_records), (5, 3, 0));
}

#[test]
fn rescued_text_is_json_whatever_the_leniences() {
    let fields = [("i", DataType::Int64), ("_rescued_data", DataType::Utf8)];
    let all = rescuing(&[
        ("allowComments", "true"),
        ("allowUnquotedFieldNames", "true"),
        ("allowNumericLeadingZeros", "true"),
        ("allowUnquotedControlChars", "true"),
        ("allowBackslashEscapingAnyCharacter", "true"),
    ]);
    let schema = schema(&fields);
    let text = "{'i':{a:'b\"c', 'd':[NaN, 007,\"\\x\tz\"] /* no */}, plain_name : true}";
    let expected = r#"[{"_rescued_data":"{\"i\":{\"a\":\"b\\\"c\",\"d\":[\"NaN\",\"007\",\"x\\tz\"]},\"plain_name\":true,\"_file_path\":\"f\"}"}]"#;
    assert_eq!(read(&all, &schema, text.as_bytes()).unwrap(), expected);
}

#[test]
fn case_may_be_ignored() {
    let fields =
        [("Id", DataType::Int64), ("s", structs(&[("X", DataType::Int64)])), ("_rescued_data", DataType::Utf8)];
    let text = r#"{"id":1,"S":{"x":2}}"#;
    check(&rescuing(&[("readerCaseSensitive", "false")]), &fields, text, r#"[{"Id":1,"s":{"X":2}}]"#);
    let rescued = r#"[{"_rescued_data":"{\"id\":1,\"S\":{\"x\":2},\"_file_path\":\"f\"}"}]"#;
    check(&rescuing(&[]), &fields, text, rescued);
}

const BROKEN: &str = "{\"i\":1}\n{\"i\":2,\n{\"i\":3}\n[1]\n{\"i\":4} x\n{\"i\":[\"a\"]}\n{\"i\":5}";

#[test]
fn broken_records_are_alone() {
    let rescued = |raw: &str| format!(r#"{{\"_corrupt_record\":\"{raw}\",\"_file_path\":\"f\"}}"#);
    let expected = format!(
        r#"[{{"i":1}},{{"_rescued_data":"{}"}},{{"i":3}},{{"_rescued_data":"{}"}},{{"_rescued_data":"{}"}},{{"_rescued_data":"{{\"i\":[\"a\"],\"_file_path\":\"f\"}}"}},{{"i":5}}]"#,
        rescued(r#"{\\\"i\\\":2,"#),
        rescued("[1]"),
        rescued(r#"{\\\"i\\\":4} x"#)
    );
    check(&rescuing(&[]), &[("i", DataType::Int64), ("_rescued_data", DataType::Utf8)], BROKEN, &expected);
    check(
        &options(&[]),
        &[("i", DataType::Int64), ("_corrupt_record", DataType::Utf8)],
        BROKEN,
        r#"[{"i":1},{"_corrupt_record":"{\"i\":2,"},{"i":3},{"_corrupt_record":"[1]"},{"_corrupt_record":"{\"i\":4} x"},{"_corrupt_record":"{\"i\":[\"a\"]}"},{"i":5}]"#,
    );
    check(&options(&[]), &[("i", DataType::Int64)], BROKEN, r#"[{"i":1},{},{"i":3},{},{},{},{"i":5}]"#);
    let both = [("i", DataType::Int64), ("_rescued_data", DataType::Utf8), ("_corrupt_record", DataType::Utf8)];
    check(
        &rescuing(&[]),
        &both,
        "{\"i\":\n{\"j\":1}",
        r#"[{"_corrupt_record":"{\"i\":"},{"_rescued_data":"{\"j\":1,\"_file_path\":\"f\"}"}]"#,
    );
}

#[test]
fn modes_drop_and_fail() {
    let drop = [("mode", "DROPMALFORMED")];
    check(&options(&drop), &[("i", DataType::Int64)], BROKEN, r#"[{"i":1},{"i":3},{"i":5}]"#);
    let fields = [("i", DataType::Int64), ("_rescued_data", DataType::Utf8)];
    let kept = r#"[{"i":1},{"i":3},{"_rescued_data":"{\"i\":[\"a\"],\"_file_path\":\"f\"}"},{"i":5}]"#;
    check(&rescuing(&drop), &fields, BROKEN, kept);
    // Which rows there are does not depend on the columns asked for.
    let full = schema(&[("i", DataType::Int64), ("j", DataType::Int64)]);
    let mut decoder = decoder_projected(&options(&drop), full.clone(), &[], 100).unwrap();
    decoder.start_file("f");
    decoder.decode(BROKEN.as_bytes(), true).unwrap();
    assert_eq!(decoder.finish().unwrap().num_rows(), 3);
    let counts = decoder.counts();
    assert_eq!((counts.rows, counts.corrupt_records, counts.dropped_records), (3, 4, 4));

    let error = read(&options(&[("mode", "FAILFAST")]), &full, BROKEN.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("record 2 of `f`"), "{error}");
    let error = read(&options(&[("mode", "FAILFAST")]), &full, b"{}\n\n{\"i\":\"x\"}").unwrap_err().to_string();
    assert!(error.contains("record 2 of `f`") && error.contains("does not fit"), "{error}");
    let fine = read(&rescuing(&[("mode", "FAILFAST")]), &schema(&fields), b"{\"i\":\"x\"}");
    assert!(fine.is_ok());
}

#[test]
fn a_projection_sees_the_whole_schema() {
    let full = schema(&[("a", DataType::Int64), ("b", DataType::Int64), ("_rescued_data", DataType::Utf8)]);
    let text = b"{\"a\":1,\"b\":\"x\",\"c\":3}";
    for (projection, expected) in [
        (vec![2, 0], r#"[{"_rescued_data":"{\"b\":\"x\",\"c\":3,\"_file_path\":\"f\"}","a":1}]"#),
        (vec![0], r#"[{"a":1}]"#),
        (vec![], "1 rows"),
    ] {
        let mut decoder = decoder_projected(&rescuing(&[]), full.clone(), &projection, 10).unwrap();
        decoder.start_file("f");
        decoder.decode(text, true).unwrap();
        assert_eq!(rows(&decoder.finish().unwrap()), expected);
    }
}

#[test]
fn arrays_and_documents() {
    let fields = [("i", DataType::Int64)];
    check(
        &options(&[]),
        &fields,
        "[{\"i\":1}, {\"i\":2}]\n[]\n{\"i\":3}\n[{\"i\":4},{\"i\":]",
        r#"[{"i":1},{"i":2},{"i":3},{}]"#,
    );
    let document = options(&[("multiLine", "true")]);
    let text = "\u{FEFF} [\n {\"i\" : 1, \"s\": \"]\\\"}\"},\r\n {\n \"i\":\n 2}, {\"i\":nope},\n{\"i\":4}\n]\n";
    check(&document, &fields, text, r#"[{"i":1},{"i":2},{},{"i":4}]"#);
    check(&document, &fields, "{\n\"i\":1}\n{\"i\":2}", r#"[{"i":1},{"i":2}]"#);
    check(&document, &fields, "[{\"i\":1},", r#"[{"i":1},{}]"#);
    check(&document, &fields, "[{\"i\":1},{\"i\":2", r#"[{"i":1},{}]"#);
    check(&document, &fields, "[{\"i\":1} 7 {\"i\":2}]", r#"[{"i":1},{}]"#);
    check(&document, &fields, "[ ]", "0 rows");
    check(&document, &fields, "", "0 rows");
    check(&document, &fields, "}{", "[{},{}]");
    let comments = options(&[("multiLine", "true"), ("allowComments", "true")]);
    check(&comments, &fields, "// a ] comment\n[{\"i\":1}/* [ */,{\"i\":2}]", r#"[{"i":1},{"i":2}]"#);
}

#[test]
fn lines_end_in_many_ways() {
    let fields = [("i", DataType::Int64)];
    let text = "\u{FEFF}{\"i\":1}\r\n\r\n \t\n{\"i\":2}\r{\"i\":3}\n\n";
    check(&options(&[]), &fields, text, r#"[{"i":1},{"i":2},{"i":3}]"#);
    check(&options(&[("lineSep", "||")]), &fields, "{\"i\":1}||{\n\"i\":2}||", r#"[{"i":1},{"i":2}]"#);
    check(&options(&[]), &fields, "", "0 rows");
}

#[test]
fn hostile_text_gives_rows() {
    let deep = format!("{{\"x\":{}1{}}}", "[".repeat(900), "]".repeat(900));
    let too_deep = format!("{{\"x\":{}", "[".repeat(100_000));
    let lines: [&[u8]; 14] = [
        b"{\"i\":1,\"i\":2}",
        b"{\"s\":\"\xFF\"}",
        b"{\"s\":\"\xC3\xA9\"}",
        b"{\"s\":\"\\ud800x\\udc00\"}",
        b"{\"s\":\"a\tb\"}",
        b"{\"s\":\"a\\qb\"}",
        b"{\"i\":01}",
        b"{\"i\":1,}",
        b"{,}",
        b"\0",
        b"{\"i\":--1}",
        b"{\"s\":\"\\u12\"}",
        deep.as_bytes(),
        too_deep.as_bytes(),
    ];
    let schema = schema(&[("i", DataType::Int64), ("s", DataType::Utf8)]);
    let text = lines.join(&b'\n');
    let expected = r#"[{"i":2},{},{"s":"é"},{"s":"�x�"},{},{},{},{},{},{},{},{},{},{}]"#;
    assert_eq!(read(&options(&[]), &schema, &text).unwrap(), expected);
}

#[test]
fn batches_stop_and_go_on() {
    let text: String = (0..10).map(|i| format!("{{\"i\":{i}}}\n")).collect();
    let mut decoder = decoder(&options(&[]), schema(&[("i", DataType::Int64)]), 4).unwrap();
    decoder.start_file("f");
    let (mut pos, mut sizes) = (0, Vec::new());
    while pos < text.len() {
        pos += decoder.decode(&text.as_bytes()[pos..], true).unwrap();
        if decoder.is_full() {
            sizes.push(decoder.finish().unwrap().num_rows());
        }
    }
    decoder.start_file("g");
    decoder.decode(b"{\"i\":1}", true).unwrap();
    sizes.push(decoder.finish().unwrap().num_rows());
    assert_eq!(sizes, [4, 4, 3]);
}

#[test]
fn unreadable_column_types_are_named() {
    let Err(error) = decoder(&options(&[]), schema(&[("a", list(DataType::Binary))]), 10) else { panic!() };
    assert!(error.to_string().contains("`a.element`"), "{error}");
}

#[test]
fn mutations_never_panic() {
    let inner = structs(&[("x", DataType::Int64), ("y", DataType::Utf8)]);
    let fields = [
        ("i", DataType::Int64),
        ("s", DataType::Utf8),
        ("l", list(inner.clone())),
        ("o", inner),
        ("t", utc()),
        ("d", DataType::Decimal128(10, 2)),
        ("_rescued_data", DataType::Utf8),
    ];
    let seed = "{\"i\":12,\"s\":\"a\\u00e9\\n\",\"l\":[{\"x\":1,\"y\":\"é\"},{}],\"o\":{\"x\":-1},\"t\":\"2020-01-01T00:00:00Z\",\"d\":1.25}\n\
                [{\"i\":1},{\"z\":'q'}]\n{\"s\":{\"k\":[1,2.5e3,null,true]}}\n";
    let alphabet = b"{}[]\",:\\'0-.eEu/*ntf\n\r \x00\x7F\xC3\xFF";
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for round in 0..8_000 {
        let mut text = seed.as_bytes().to_vec();
        for _ in 0..=random(4) {
            if text.is_empty() {
                break;
            }
            let at = random(text.len());
            match random(4) {
                0 => text[at] = alphabet[random(alphabet.len())],
                1 => text.insert(at, alphabet[random(alphabet.len())]),
                2 => drop(text.remove(at)),
                _ => text.truncate(at.max(1)),
            }
        }
        let more: &[(&str, &str)] = match round % 3 {
            0 => &[],
            1 => &[("multiLine", "true")],
            _ => &[("multiLine", "true"), ("allowComments", "true"), ("allowUnquotedFieldNames", "true")],
        };
        let options = rescuing(more);
        let schema = schema(&fields);
        let whole = read(&options, &schema, &text).unwrap();
        let mut decoder = decoder(&options, schema, 1000).unwrap();
        feed(&mut *decoder, &text, 1 + random(30));
        let batch = decoder.finish().unwrap();
        assert_eq!(rows(&batch), whole, "round {round}: {:?}", String::from_utf8_lossy(&text));
        let rescued = batch.column(6).as_any().downcast_ref::<arrow::array::StringArray>().unwrap();
        for text in rescued.iter().flatten() {
            serde_json::from_str::<serde_json::Value>(text).unwrap_or_else(|e| panic!("round {round}: {text}: {e}"));
        }
        let mut inferrer = crate::Inferrer::new(&options);
        inferrer.start_file("f");
        inferrer.sample(&text, true).unwrap();
        inferrer.finish().unwrap();
    }
}
