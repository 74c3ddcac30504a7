//! CSV decoding against values written by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::json::ArrayWriter;

use crate::options::{Format, FormatOptions};
use crate::{DecodeError, decoder, decoder_projected};

fn options(entries: &[(&str, &str)]) -> FormatOptions {
    let entries: Vec<_> = entries.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    FormatOptions::parse(Format::Csv, &entries, true, false).unwrap()
}

fn rescuing(more: &[(&str, &str)]) -> FormatOptions {
    options(&[&[("rescuedDataColumn", "_rescued_data")], more].concat())
}

fn schema(fields: &[(&str, DataType)]) -> Arc<Schema> {
    Arc::new(Schema::new(fields.iter().map(|(n, t)| Field::new(*n, t.clone(), true)).collect::<Vec<_>>()))
}

/// A schema of STRING columns.
fn strings(names: &[&str]) -> Arc<Schema> {
    schema(&names.iter().map(|name| (*name, DataType::Utf8)).collect::<Vec<_>>())
}

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

fn read_in_pieces(options: &FormatOptions, schema: &Arc<Schema>, text: &[u8], size: usize) -> String {
    let mut decoder = decoder(options, schema.clone(), 1000).unwrap();
    decoder.start_file("f");
    let (mut start, mut end) = (0, 0);
    loop {
        end = (end + size).min(text.len());
        start += decoder.decode(&text[start..end], end == text.len()).unwrap();
        if end == text.len() && start == end {
            return rows(&decoder.finish().unwrap());
        }
    }
}

#[track_caller]
fn check(options: &FormatOptions, schema: &Arc<Schema>, text: &str, expected: &str) {
    assert_eq!(read(options, schema, text.as_bytes()).unwrap(), expected);
    for size in [1, 2, 3, 7, 64] {
        assert_eq!(read_in_pieces(options, schema, text.as_bytes(), size), expected, "in pieces of {size}");
    }
}

#[test]
fn every_type() {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let schema = schema(&[
        ("i8", DataType::Int8),
        ("i16", DataType::Int16),
        ("i32", DataType::Int32),
        ("i64", DataType::Int64),
        ("f32", DataType::Float32),
        ("f64", DataType::Float64),
        ("dec", DataType::Decimal128(5, 2)),
        ("b", DataType::Boolean),
        ("d", DataType::Date32),
        ("ts", utc),
        ("ntz", DataType::Timestamp(TimeUnit::Microsecond, None)),
        ("s", DataType::Utf8),
    ]);
    let text = "i8,i16,i32,i64,f32,f64,dec,b,d,ts,ntz,s\n\
                -128,+7,007,-9223372036854775808,.5,17850.0,2.555,TRUE,2011-01-31,2010-12-01 08:26:00,2020-01-01T00:00:01,x y\n\
                ,,,,,,,,,,,\n";
    let expected = "[{\"i8\":-128,\"i16\":7,\"i32\":7,\"i64\":-9223372036854775808,\"f32\":0.5,\"f64\":17850.0,\
                    \"dec\":2.56,\"b\":true,\"d\":\"2011-01-31\",\"ts\":\"2010-12-01T08:26:00Z\",\
                    \"ntz\":\"2020-01-01T00:00:01\",\"s\":\"x y\"},{}]";
    check(&options(&[]), &schema, text, expected);
}

#[test]
fn columns_are_matched_by_name() {
    let three = schema(&[("a", DataType::Int64), ("b", DataType::Utf8), ("_rescued_data", DataType::Utf8)]);
    let text = "b,new,a\nx,1,2\ny,,3\n";
    let expected = r#"[{"a":2,"b":"x","_rescued_data":"{\"new\":\"1\",\"_file_path\":\"f\"}"},{"a":3,"b":"y"}]"#;
    check(&rescuing(&[]), &three, text, expected);
    check(&rescuing(&[]), &three, "a\n1\n", r#"[{"a":1}]"#);
    let by_case = r#"[{"b":"x","_rescued_data":"{\"A\":\"1\",\"_file_path\":\"f\"}"}]"#;
    check(&rescuing(&[]), &three, "A,b\n1,x\n", by_case);
    check(&rescuing(&[("readerCaseSensitive", "false")]), &three, "A,b\n1,x\n", r#"[{"a":1,"b":"x"}]"#);
    let mut decoder = decoder(&rescuing(&[]), three, 10).unwrap();
    decoder.start_file("f");
    decoder.decode(text.as_bytes(), true).unwrap();
    decoder.start_file("g");
    decoder.decode(b"a,b\n4,z", true).unwrap();
    assert_eq!((decoder.buffered(), decoder.unmatched_fields()), (3, vec!["new".to_owned()]));
}

#[test]
fn without_header_places_decide() {
    let two = schema(&[("x", DataType::Int32), ("y", DataType::Utf8)]);
    check(&options(&[("header", "false")]), &two, "1,a\n2,b", r#"[{"x":1,"y":"a"},{"x":2,"y":"b"}]"#);
    let mut decoder = decoder_projected(&options(&[("header", "false")]), two, &[1], 10).unwrap();
    decoder.start_file("f");
    decoder.decode(b"1,a\n2,b", true).unwrap();
    assert_eq!(rows(&decoder.finish().unwrap()), r#"[{"y":"a"},{"y":"b"}]"#);
}

#[test]
fn misfits_and_ragged_rows() {
    let text = "i,s\nx,a\n1\n2,b,c,d\n3,e\n99999999999,f\n";
    let fields = [("i", DataType::Int32), ("s", DataType::Utf8), ("_rescued_data", DataType::Utf8)];
    let expected = [
        r#"{"s":"a","_rescued_data":"{\"i\":\"x\",\"_file_path\":\"f\"}"}"#,
        r#"{"i":1,"_rescued_data":"{\"_corrupt_record\":\"1\",\"_file_path\":\"f\"}"}"#,
        r#"{"i":2,"s":"b","_rescued_data":"{\"_c2\":\"c\",\"_c3\":\"d\",\"_file_path\":\"f\"}"}"#,
        r#"{"i":3,"s":"e"}"#,
        r#"{"s":"f","_rescued_data":"{\"i\":\"99999999999\",\"_file_path\":\"f\"}"}"#,
    ];
    check(&rescuing(&[]), &schema(&fields), text, &format!("[{}]", expected.join(",")));
    let fields = [("i", DataType::Int32), ("s", DataType::Utf8), ("_corrupt_record", DataType::Utf8)];
    check(
        &options(&[]),
        &schema(&fields),
        text,
        r#"[{"s":"a","_corrupt_record":"x,a"},{"i":1,"_corrupt_record":"1"},{"i":2,"s":"b","_corrupt_record":"2,b,c,d"},{"i":3,"s":"e"},{"s":"f","_corrupt_record":"99999999999,f"}]"#,
    );
    check(&options(&[("mode", "DROPMALFORMED")]), &schema(&fields[..2]), text, r#"[{"i":3,"s":"e"}]"#);
    let error = read(&options(&[("mode", "FAILFAST")]), &schema(&fields[1..2]), text.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("record 2 of `f`"), "{error}");
}

#[test]
fn quotes() {
    let s = strings(&["a", "b"]);
    // Doubled quotes need escape = quote; with the default they stay, as does what follows them.
    let text = "a,b\n\"x, \"\"y\"\"\",2\n";
    check(&options(&[("escape", "\"")]), &s, text, r#"[{"a":"x, \"y\"","b":"2"}]"#);
    check(&options(&[]), &s, text, r#"[{"a":"\"x, \"\"y\"\"\"","b":"2"}]"#);
    check(&options(&[]), &s, "a,b\n\"x \\\"y\\\" \\\\ C:\\temp\",\"\"\n", r#"[{"a":"x \"y\" \\ C:\\temp"}]"#);
    check(&options(&[]), &s, "a,b\nx \"y\", \"z\"\n", r#"[{"a":"x \"y\"","b":" \"z\""}]"#);
    check(&options(&[]), &s, "a,b\n\"x\" ,\"y\"\t\r\n", r#"[{"a":"x","b":"y"}]"#);
    check(&options(&[("quote", "")]), &s, "a,b\n\"x,y\"\n", r#"[{"a":"\"x","b":"y\""}]"#);
    check(&options(&[("quote", "'")]), &s, "a,b\n'x,y',\"z\"\n", r#"[{"a":"x,y","b":"\"z\""}]"#);
    let lines = "a,b\n\"x\ny\",2\nz,3\n";
    check(&options(&[("multiLine", "true")]), &s, lines, "[{\"a\":\"x\\ny\",\"b\":\"2\"},{\"a\":\"z\",\"b\":\"3\"}]");
    let alone = strings(&["a", "b", "_corrupt_record"]);
    let expected = r#"[{"_corrupt_record":"\"x"},{"a":"y\"","b":"2"},{"a":"z","b":"3"}]"#;
    check(&options(&[]), &alone, lines, expected);
    check(
        &options(&[("multiLine", "true")]),
        &alone,
        "a,b\n1,2\n\"x",
        r#"[{"a":"1","b":"2"},{"_corrupt_record":"\"x"}]"#,
    );
}

#[test]
fn nulls_and_empty_values() {
    let s = strings(&["a", "b"]);
    check(&options(&[]), &s, "a,b\n,\"\"\n", "[{}]");
    let na = options(&[("nullValue", "NA")]);
    check(&na, &s, "a,b\nNA,\"NA\"\n\"\",\n", r#"[{},{"a":""}]"#);
    check(&options(&[("emptyValue", "-")]), &s, "a,b\n\"\",\n", r#"[{"a":"-"}]"#);
    let spaces = [("ignoreLeadingWhiteSpace", "true"), ("ignoreTrailingWhiteSpace", "true")];
    check(&options(&spaces), &s, "a,b\n x , \"y \" \n", r#"[{"a":"x","b":"y "}]"#);
    check(&options(&[]), &s, "a,b\n x , y\n", r#"[{"a":" x ","b":" y"}]"#);
}

#[test]
fn separators_lines_and_comments() {
    let s = strings(&["a", "b"]);
    let one = r#"[{"a":"1","b":"2"}]"#;
    check(&options(&[("sep", ";")]), &s, "\u{FEFF}a;b\r\n\r\n1;2\r\n", one);
    check(&options(&[("sep", "||")]), &s, "a||b\n1||2|\n", r#"[{"a":"1","b":"2|"}]"#);
    check(&options(&[("sep", "\t")]), &s, "a\tb\n\t\n1\t2", r#"[{},{"a":"1","b":"2"}]"#);
    check(&options(&[("comment", "#")]), &s, "#x\na,b\n#1,\"2\n1,2\n", one);
    check(&options(&[("skipRows", "2")]), &s, "junk\n\na,b\n1,2\n", one);
    check(&options(&[("lineSep", "\n")]), &s, "a,b\n1,2\r\n", "[{\"a\":\"1\",\"b\":\"2\\r\"}]");
    check(&options(&[]), &s, "a,b\r1,2\r", one);
    check(&options(&[]), &s, "a,b\n  \n1,2\n", one);
    check(&options(&[]), &s, "", "0 rows");
    check(&options(&[]), &s, "a,b", "0 rows");
    check(&options(&[]), &strings(&["_c0", "x1", "x2"]), ",x,x\n1,2,3\n", r#"[{"_c0":"1","x1":"2","x2":"3"}]"#);
}

#[test]
fn invalid_utf8_is_a_misfit() {
    let schema = strings(&["a", "b", "_rescued_data"]);
    let expected = "[{\"b\":\"é\",\"_rescued_data\":\"{\\\"a\\\":\\\"\u{FFFD}x\\\",\\\"_file_path\\\":\\\"f\\\"}\"}]";
    assert_eq!(read(&rescuing(&[]), &schema, b"a,b\n\xE9x,\xC3\xA9\n").unwrap(), expected);
}

#[test]
fn nested_columns_and_wide_headers_are_refused() {
    let nested = schema(&[("l", DataType::List(Arc::new(Field::new("element", DataType::Utf8, true))))]);
    let Err(error) = decoder(&options(&[]), nested, 10) else { panic!() };
    assert!(error.to_string().contains("`l`"), "{error}");
    let error = read(&options(&[("maxColumns", "1")]), &strings(&["a"]), b"a,b\n1,2").unwrap_err();
    assert!(error.to_string().contains("maxColumns = 1"), "{error}");
}

#[test]
fn mutations_never_panic() {
    let schema = schema(&[
        ("i", DataType::Int32),
        ("f", DataType::Float64),
        ("d", DataType::Date32),
        ("s", DataType::Utf8),
        ("_rescued_data", DataType::Utf8),
    ]);
    let seed = "i,f,d,s\n1,2.5,2020-01-01,\"a \"\"b\"\", c\"\r\n-7,1e3,2020-1-1,'é\\\" x\n\"3\",,,\n";
    let alphabet = b",\"\\'\n\r #;|0-.eE\x00\x7F\xC3\xFF";
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let variants: [&[(&str, &str)]; 4] = [
        &[],
        &[("escape", "\""), ("multiLine", "true")],
        &[("sep", "||"), ("comment", "#"), ("ignoreLeadingWhiteSpace", "true")],
        &[("header", "false"), ("skipRows", "1"), ("mode", "DROPMALFORMED")],
    ];
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
        let options = rescuing(variants[round % variants.len()]);
        let whole = read(&options, &schema, &text).unwrap();
        let pieces = read_in_pieces(&options, &schema, &text, 1 + random(30));
        assert_eq!(pieces, whole, "round {round}: {:?}", String::from_utf8_lossy(&text));
        let mut inferrer = crate::Inferrer::new(&options);
        inferrer.start_file("f");
        inferrer.sample(&text, true).unwrap();
        inferrer.finish().unwrap();
    }
}
