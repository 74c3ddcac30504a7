//! Input that nobody should write: a torture set for JSON, a count of every line of a bad file, and a mutation fuzzer over
//! all decoders. Whatever comes in ends in rows or in a named error; nothing panics, and no line is lost.
//!
//! The fuzzer runs a moment; `ALLUVIUM_FUZZ_SECONDS=600` makes it run for ten minutes, `ALLUVIUM_FUZZ_SEED` repeats a run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use alluvium_formats::typed::{Content, FileFacts, FilePart, file_decoder, file_schema};
use alluvium_formats::{DecodeCounts, DecodeError, Format, FormatOptions, Inferrer, decoder};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};

const RESCUED: &str = "_rescued_data";
const CORRUPT: &str = "_corrupt_record";

fn options(format: Format, entries: &[(&str, &str)]) -> FormatOptions {
    let entries: Vec<_> = entries.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    FormatOptions::parse(format, &entries, true, true).unwrap()
}

fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(fields.iter().map(|(name, t)| Field::new(*name, t.clone(), true)).collect::<Vec<_>>()))
}

/// Decodes bytes that come in pieces of `step`.
fn decode(
    options: &FormatOptions,
    schema: &SchemaRef,
    bytes: &[u8],
    step: usize,
) -> Result<(Vec<RecordBatch>, DecodeCounts), DecodeError> {
    let mut decoder = decoder(options, schema.clone(), 1000)?;
    let mut batches = Vec::new();
    decoder.start_file("f");
    let (mut start, mut end) = (0_usize, 0_usize);
    loop {
        end = end.max(start).saturating_add(step).min(bytes.len());
        let eof = end == bytes.len();
        loop {
            let used = decoder.decode(&bytes[start..end], eof)?;
            start += used;
            if decoder.is_full() {
                batches.push(decoder.finish()?);
            } else if !eof || start == end || used == 0 {
                break;
            }
        }
        if eof {
            assert_eq!(start, end, "at the end everything is used");
            break;
        }
    }
    if decoder.buffered() > 0 {
        batches.push(decoder.finish()?);
    }
    Ok((batches, decoder.counts()))
}

/// The rows of one line of JSON: its `v` as text, what was rescued, what is corrupt.
fn line(text: &[u8]) -> (usize, Option<String>, Option<String>, bool) {
    let schema = schema(&[("v", DataType::Utf8), (RESCUED, DataType::Utf8), (CORRUPT, DataType::Utf8)]);
    let (batches, _) = decode(&options(Format::Json, &[]), &schema, text, text.len().max(1)).unwrap();
    let rows = batches.iter().map(RecordBatch::num_rows).sum();
    let cell = |column: usize| {
        let column = batches.first()?.column(column).as_string::<i32>();
        column.is_valid(0).then(|| column.value(0).to_owned())
    };
    (rows, cell(0), cell(1), cell(2).is_some())
}

#[test]
fn json_torture_ends_in_rows() {
    let value = |text: &str| {
        let (rows, value, _, corrupt) = line(text.as_bytes());
        assert_eq!((rows, corrupt), (1, false), "{text}");
        value
    };
    let broken = |text: &[u8]| {
        let (rows, value, _, corrupt) = line(text);
        assert_eq!((rows, value, corrupt), (1, None, true), "{}", String::from_utf8_lossy(&text[..text.len().min(80)]));
    };
    // Numbers keep their text in a STRING column, however large.
    let digits = "9".repeat(10_000);
    for number in ["0", "-0", "1e400", "-1E-400", "0.1e+1", digits.as_str()] {
        assert_eq!(value(&format!("{{\"v\":{number}}}")).as_deref(), Some(number));
    }
    for number in ["01", "1.", ".5", "+1", "0x1", "1e", "--1", "1_000"] {
        broken(format!("{{\"v\":{number}}}").as_bytes());
    }
    // Escapes, surrogates in pairs and alone.
    assert_eq!(value(r#"{"v":"\"\\\/\b\f\n\r\t\u0041"}"#).as_deref(), Some("\"\\/\u{8}\u{c}\n\r\tA"));
    assert_eq!(value(r#"{"v":"\uD83D\uDE00"}"#).as_deref(), Some("😀"));
    for lone in [r#"{"v":"\uD83D"}"#, r#"{"v":"\uDE00x"}"#, r#"{"v":"\uD83D\u0041"}"#] {
        assert!(value(lone).unwrap().contains('\u{FFFD}'), "{lone}");
    }
    assert_eq!(value(r#"{"v":"\u0000"}"#).as_deref(), Some("\0"));
    for escape in [r#"{"v":"\x"}"#, r#"{"v":"\u12"}"#, r#"{"v":"\"#, "{\"v\":\"\u{1}\"}"] {
        broken(escape.as_bytes());
    }
    // Byte order mark, line ends, white space.
    assert_eq!(value("\u{feff}{\"v\":1}\r\n").as_deref(), Some("1"));
    assert_eq!(value(" \t{ \"v\" :\t1 } \r").as_deref(), Some("1"));
    // Duplicate keys: one row, the last value.
    let (rows, _, _, corrupt) = line(br#"{"v":1,"v":2}"#);
    assert_eq!((rows, corrupt), (1, false));
    // Bytes that are not UTF-8.
    for bytes in
        [&b"{\"v\":\"\xff\"}"[..], b"{\"v\":\"\xc3\"}", b"{\"v\":\"\xed\xa0\x80\"}", b"\xff\xfe{\0", b"{\"\xf8\":1}"]
    {
        let (rows, _, _, _) = line(bytes);
        assert_eq!(rows, 1);
    }
    // Depth.
    assert!(value(&format!("{{\"v\":{}1{}}}", "[".repeat(900), "]".repeat(900))).is_some());
    for depth in [1_001, 1_000_000] {
        broken(format!("{{\"v\":{}1{}}}", "[".repeat(depth), "]".repeat(depth)).as_bytes());
        broken(format!("{{\"x\":{}1{}}}", "{\"a\":".repeat(depth), "}".repeat(depth)).as_bytes());
        broken("[".repeat(depth).as_bytes());
    }
    // What is no record.
    for text in ["1", "null", "\"x\"", "true", "{", "}", "{\"v\"", "{\"v\":1}}", "{\"v\":1} x", "nul", "{\"v\":tru}"] {
        broken(text.as_bytes());
    }
}

#[test]
fn a_line_of_fifty_megabytes_is_a_row() {
    let schema = schema(&[("v", DataType::Utf8), ("n", DataType::Int64), (RESCUED, DataType::Utf8)]);
    let mut text = b"{\"n\":1}\n{\"v\":\"".to_vec();
    text.resize(text.len() + (50 << 20), b'x');
    text.extend_from_slice(b"\",\"n\":2}\n{\"n\":3}\n");
    let (batches, counts) = decode(&options(Format::Json, &[]), &schema, &text, 8 << 20).unwrap();
    assert_eq!((counts.rows, counts.corrupt_records), (3, 0));
    let sum: i64 = batches.iter().flat_map(|b| b.column(1).as_primitive::<Int64Type>().iter().flatten()).sum();
    assert_eq!(sum, 6);
    let longest = batches.iter().flat_map(|b| b.column(0).as_string::<i32>().iter().flatten().map(str::len)).max();
    assert_eq!(longest, Some(50 << 20));
}

/// Every twentieth line of ten thousand is broken or has drifted: table + rescued + corrupt = lines.
#[test]
fn every_line_of_a_bad_file_is_accounted_for() {
    let schema = schema(&[
        ("id", DataType::Int64),
        ("v", DataType::Float64),
        (RESCUED, DataType::Utf8),
        (CORRUPT, DataType::Utf8),
    ]);
    let (mut json, mut csv, mut broken, mut drifted) = (String::new(), String::from("id,v\n"), 0, 0);
    for id in 0..10_000_u64 {
        match id % 20 {
            7 if id % 40 == 7 => {
                broken += 1;
                json.push_str(["{\"id\":", "}", "{\"id\":1,}", "[1]", "not json"][(id / 40 % 5) as usize]);
                csv.push_str(["1,2,3", "1", "\"open", "1,2,3,4", "1"][(id / 40 % 5) as usize]);
            }
            7 => {
                drifted += 1;
                json.push_str(
                    &[
                        format!("{{\"id\":\"{id}\",\"v\":1}}"),
                        format!("{{\"id\":{id},\"v\":\"cheap\"}}"),
                        format!("{{\"id\":{id},\"w\":[1,2]}}"),
                        format!("{{\"ID\":{id}}}"),
                    ][(id / 40 % 4) as usize],
                );
                csv.push_str([format!("x{id},1"), format!("{id},cheap")][(id / 40 % 2) as usize].as_str());
            }
            _ => {
                json.push_str(&format!("{{\"id\":{id},\"v\":{id}.5}}"));
                csv.push_str(&format!("{id},{id}.5"));
            }
        }
        json.push('\n');
        csv.push('\n');
    }
    assert_eq!((broken, drifted), (250, 250));
    for (format, text) in [(Format::Json, &json), (Format::Csv, &csv)] {
        for step in [97, 4096, text.len()] {
            let (batches, counts) = decode(&options(format, &[]), &schema, text.as_bytes(), step).unwrap();
            let cells =
                |column: usize| batches.iter().map(|b| b.num_rows() - b.column(column).null_count()).sum::<usize>();
            assert_eq!(counts.corrupt_records, 250, "{format:?}");
            assert_eq!(cells(3), 250, "{format:?}: corrupt records keep their text");
            let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
            assert_eq!(rows, 10_000, "{format:?}");
            let clean = batches
                .iter()
                .flat_map(|b| (0..b.num_rows()).filter(|&row| b.column(2).is_null(row) && b.column(3).is_null(row)))
                .count();
            assert_eq!(clean, 9_500, "{format:?}");
        }
        let mut dropping = options(format, &[("mode", "DROPMALFORMED")]);
        dropping.rescued_data_column = Some(RESCUED.to_owned());
        let (_, counts) = decode(&dropping, &schema, text.as_bytes(), 4096).unwrap();
        assert_eq!((counts.rows, counts.dropped_records), (9_750, 250), "{format:?}");
    }
}

/// A small generator of numbers, the same for the same seed everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % below.max(1)
    }
}

const TYPES_AVRO: &[u8] = include_bytes!("../fixtures/types.avro");
const ZLIB_ORC: &[u8] = include_bytes!("../fixtures/zlib.orc");
const PLAIN_ORC: &[u8] = include_bytes!("../fixtures/uncompressed.orc");
const SNAPPY_ORC: &[u8] = include_bytes!("../fixtures/snappy.orc");
const LZ4_ORC: &[u8] = include_bytes!("../fixtures/lz4.orc");

const JSON: &str = r#"{"a":1,"b":"x\u00e9\n","c":[1,2,{"d":null}],"e":{"f":-1.5e3,"g":true},"t":"2024-01-02T03:04:05Z"}
{"a":12345678901234567890,"b":"😀\ud83d\ude00","c":[],"e":{}}
{'a':NaN,"z":[[[]]]} 
[{"a":1},{"a":2}]
"#;
const CSV: &str = "a,b,c,d\n1,\"x, \"\"y\"\"\",2024-01-01,1.5\n2,\"line\nbreak\",,\n#no\n3,\\\"é\\\",x,y,z\n";
const XML: &str = r#"<?xml version="1.0"?><rs><!-- <r> --><r a="1"><b>x &amp; &#65;</b><c><d>1</d><d>2.5</d></c></r>
<r><![CDATA[<r>]]></r><r a='2'/><r><b>2024-01-01</b></r></rs>"#;

/// Some bytes changed, taken out, doubled, or brought in from elsewhere.
fn mutated(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.next(6) {
        if bytes.is_empty() {
            break;
        }
        let at = random.next(bytes.len());
        let length = (random.next(12) + 1).min(bytes.len() - at);
        match random.next(7) {
            0 => bytes[at] ^= 1 << random.next(8),
            1 => bytes[at] = [0, 0xFF, 0x7F, 0x80, b'"', b'\\', b'<', b'{', b'\n', b','][random.next(10)],
            2 => drop(bytes.drain(at..at + length)),
            3 => {
                let piece = bytes[at..at + length].to_vec();
                let to = random.next(bytes.len());
                bytes.splice(to..to, piece);
            }
            4 => bytes.truncate(at),
            5 => {
                let token: &[u8] =
                    [&b"\xed\xa0\x80"[..], b"\\u", b"]]>", b"\"\"", b"1e999", b"null", b"&", b"\xff\xff\xff\xff"]
                        [random.next(8)];
                bytes.splice(at..at, token.iter().copied());
            }
            _ => {
                let to = random.next(bytes.len());
                bytes.swap(at, to);
            }
        }
    }
    bytes
}

fn record_schema() -> SchemaRef {
    let list = |item| DataType::List(Arc::new(Field::new("element", item, true)));
    schema(&[
        ("a", DataType::Int64),
        ("b", DataType::Utf8),
        ("c", list(DataType::Struct(vec![Field::new("d", DataType::Float64, true)].into()))),
        ("e", DataType::Struct(vec![Field::new("f", DataType::Decimal128(10, 2), true)].into())),
        ("t", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        ("_a", DataType::Int32),
        (RESCUED, DataType::Utf8),
        (CORRUPT, DataType::Utf8),
    ])
}

fn flat_schema() -> SchemaRef {
    schema(&[
        ("a", DataType::Int64),
        ("b", DataType::Utf8),
        ("c", DataType::Date32),
        ("d", DataType::Float64),
        (RESCUED, DataType::Utf8),
        (CORRUPT, DataType::Utf8),
    ])
}

/// Decodes mutated records: in one piece and in small ones they must give the same rows.
fn fuzz_records(format: Format, seed: &str, entries: &[(&str, &str)], schema: &SchemaRef, random: &mut Random) {
    let bytes = mutated(seed.as_bytes(), random);
    let options = options(format, entries);
    let whole = decode(&options, schema, &bytes, bytes.len().max(1));
    let pieces = decode(&options, schema, &bytes, random.next(9) + 1);
    match (whole, pieces) {
        (Ok((whole, counts)), Ok((pieces, other))) => {
            assert_eq!(counts, other, "{format:?} {:?}", String::from_utf8_lossy(&bytes));
            let joined = |batches: &[RecordBatch]| arrow::compute::concat_batches(schema, batches).unwrap();
            // NaN is not equal to itself; as text it is.
            assert_eq!(format!("{:?}", joined(&whole)), format!("{:?}", joined(&pieces)));
        }
        (Err(_), Err(_)) => {}
        (a, b) => panic!("{format:?} {:?}: {:?} or {:?}", String::from_utf8_lossy(&bytes), a.err(), b.err()),
    }
    let mut inferrer = Inferrer::new(&options);
    inferrer.start_file("f");
    let _ = inferrer.sample(&bytes, true);
    let _ = inferrer.finish();
}

/// A schema to read the Avro file with: other names, wider types, a default.
const READER: &str = r#"{"type": "record", "name": "r", "fields": [
    {"name": "day", "type": {"type": "int", "logicalType": "date"}}, {"name": "id", "type": "double"},
    {"name": "label", "aliases": ["name"], "type": ["null", "string"], "default": null},
    {"name": "tags", "type": {"type": "array", "items": "string"}}, {"name": "new", "type": "long", "default": 7}]}"#;

/// Reads a mutated file of a typed format, whole and in two parts, which must have the same number of rows.
fn fuzz_typed(format: Format, seed: &[u8], entries: &[(&str, &str)], random: &mut Random) {
    let options = options(format, entries);
    let bytes = bytes::Bytes::from(mutated(seed, random));
    let facts = FileFacts { path: "f", url: "f", size: bytes.len() as u64, modified_us: 0 };
    let read = |parts: &[FilePart]| -> Result<usize, DecodeError> {
        let schema = file_schema(&options, facts, Content::Bytes(bytes.clone()))?;
        let all: Vec<usize> = (0..schema.fields().len()).collect();
        let mut decoder = file_decoder(&options, Arc::new(schema), &all, 100)?;
        for part in parts {
            decoder.start_file(facts, Content::Bytes(bytes.clone()), *part)?;
            while decoder.advance()? {}
        }
        decoder.finish().map(|batch| batch.num_rows())
    };
    let cut = random.next(bytes.len() + 2) as u64;
    let parts = read(&[FilePart { from: 0, to: cut }, FilePart { from: cut, to: u64::MAX }]);
    match read(&[FilePart::WHOLE]) {
        Ok(rows) => {
            assert!(rows < 1_000_000);
            assert_eq!(parts.ok(), Some(rows), "{format:?} cut at {cut}: {bytes:?}");
        }
        // The panics of libraries are caught; our own reader must have none.
        Err(DecodeError::Corrupt { reason, .. }) => {
            assert!(format != Format::Orc || !reason.contains("gave up"), "{reason}: {bytes:?}");
        }
        Err(other) => panic!("{format:?}: {other}"),
    }
}

/// A Parquet file of a few types.
fn parquet_seed() -> Vec<u8> {
    let text: arrow::array::ArrayRef = Arc::new(arrow::array::StringArray::from(vec![Some("x"), None, Some("yy")]));
    let number: arrow::array::ArrayRef = Arc::new(arrow::array::Int64Array::from(vec![Some(1), Some(2), None]));
    let batch = RecordBatch::try_from_iter(vec![("s", text), ("n", number)]).unwrap();
    let mut out = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut out, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    out
}

#[test]
fn an_avro_block_with_fewer_records_than_it_holds_is_damaged() {
    // The number of records stands in front of the only block, two bytes before its size; it is made one.
    let block = TYPES_AVRO.windows(16).position(|bytes| bytes == b"0123456789abcdef").unwrap() + 16;
    assert_eq!(TYPES_AVRO[block], 4, "two records, zigzag");
    for count in [0, 2, 6] {
        let mut bytes = TYPES_AVRO.to_vec();
        bytes[block] = count;
        let facts = FileFacts { path: "f", url: "f", size: 0, modified_us: 0 };
        let content = || Content::Bytes(bytes::Bytes::from(bytes.clone()));
        let options = FormatOptions::new(Format::Avro, true, true);
        let schema = Arc::new(file_schema(&options, facts, content()).unwrap());
        let mut decoder = file_decoder(&options, schema, &[0], 100).unwrap();
        let read = decoder.start_file(facts, content(), FilePart::WHOLE).and_then(|()| decoder.advance());
        assert!(matches!(read, Err(DecodeError::Corrupt { .. })), "{count}");
    }
}

#[test]
fn mutated_input_never_panics() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = number("ALLUVIUM_FUZZ_SECONDS");
    let seed = number("ALLUVIUM_FUZZ_SEED").unwrap_or(if seconds.is_some() { std::process::id().into() } else { 1 });
    eprintln!("seed {seed}");
    let mut random = Random(seed);
    let (records, flat, parquet) = (record_schema(), flat_schema(), parquet_seed());
    let text = schema(&[("value", DataType::Utf8)]);
    let legacy = [("datetimeRebaseMode", "LEGACY")];
    // What the libraries print when they panic would bury everything else.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let ours = info.location().is_some_and(|place| place.file().contains("crates/"));
        if ours {
            hook(info);
        }
    }));
    let begun = Instant::now();
    let mut rounds = 0_u64;
    while seconds.map_or(rounds < 200, |seconds| begun.elapsed() < Duration::from_secs(seconds)) {
        fuzz_records(Format::Json, JSON, &[], &records, &mut random);
        fuzz_records(Format::Json, JSON, &[("multiLine", "true")], &records, &mut random);
        fuzz_records(
            Format::Json,
            JSON,
            &[("allowComments", "true"), ("allowUnquotedFieldNames", "true")],
            &records,
            &mut random,
        );
        fuzz_records(Format::Csv, CSV, &[("escape", "\"")], &flat, &mut random);
        fuzz_records(Format::Csv, CSV, &[("multiLine", "true"), ("comment", "#")], &flat, &mut random);
        fuzz_records(Format::Csv, CSV, &[("sep", ",\\\""), ("ignoreLeadingWhiteSpace", "true")], &flat, &mut random);
        fuzz_records(Format::Text, CSV, &[], &text, &mut random);
        fuzz_records(Format::Xml, XML, &[("rowTag", "r")], &records, &mut random);
        fuzz_records(Format::Xml, XML, &[("rowTag", "r"), ("wildcardColName", "b")], &records, &mut random);
        let german = [("locale", "de"), ("dateFormat", "d. MMM yyyy"), ("maxCharsPerColumn", "9")];
        fuzz_records(Format::Csv, CSV, &german, &flat, &mut random);
        fuzz_typed(Format::Avro, TYPES_AVRO, &[], &mut random);
        fuzz_typed(Format::Avro, TYPES_AVRO, &legacy, &mut random);
        fuzz_typed(Format::Avro, TYPES_AVRO, &[("avroSchema", READER)], &mut random);
        fuzz_typed(Format::Parquet, &parquet, &legacy, &mut random);
        for orc in [ZLIB_ORC, PLAIN_ORC, SNAPPY_ORC, LZ4_ORC] {
            fuzz_typed(Format::Orc, orc, &[], &mut random);
        }
        rounds += 1;
    }
    eprintln!("{rounds} rounds");
}
