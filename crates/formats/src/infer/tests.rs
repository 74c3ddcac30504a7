//! Inferred schemas against schemas written by hand.
#![allow(clippy::unwrap_used, clippy::panic)]

use crate::options::{Format, FormatOptions};
use crate::{DecodeError, Inferrer};

fn infer(format: Format, more: &[(&str, &str)], types: bool, files: &[&str]) -> Result<String, DecodeError> {
    let entries: Vec<_> = more.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let options = FormatOptions::parse(format, &entries, types, true).unwrap();
    let mut inferrer = Inferrer::new(&options);
    for (n, file) in files.iter().enumerate() {
        inferrer.start_file(&format!("f{n}"));
        // In two pieces, the second of which repeats what the first left.
        let half = file.len() / 2;
        let used = inferrer.sample(&file.as_bytes()[..half], false)?;
        assert_eq!(inferrer.sample(&file.as_bytes()[used..], true)?, file.len() - used);
    }
    let schema = inferrer.finish()?;
    let fields: Vec<_> = schema.fields().iter().map(|f| format!("{} {}", f.name(), short(f.data_type()))).collect();
    Ok(fields.join(", "))
}

fn short(data_type: &arrow::datatypes::DataType) -> String {
    use arrow::datatypes::DataType;
    match data_type {
        DataType::List(item) => format!("[{}]", short(item.data_type())),
        DataType::Struct(fields) => {
            let fields: Vec<_> = fields.iter().map(|f| format!("{} {}", f.name(), short(f.data_type()))).collect();
            format!("{{{}}}", fields.join(", "))
        }
        DataType::Timestamp(_, Some(_)) => "Timestamp".to_owned(),
        other => other.to_string(),
    }
}

#[track_caller]
fn json(text: &str, expected: &str) {
    assert_eq!(infer(Format::Json, &[], true, &[text]).unwrap(), expected);
}

#[track_caller]
fn csv(text: &str, expected: &str) {
    assert_eq!(infer(Format::Csv, &[], true, &[text]).unwrap(), expected);
}

#[test]
fn json_types() {
    json(
        r#"{"b":true,"a":1,"f":1.5,"s":"x","n":null,"t":"2020-01-01"}"#,
        "b Boolean, a Int64, f Float64, s Utf8, n Utf8, t Utf8",
    );
    json(
        r#"{"big":9223372036854775808,"e":1e3,"l":[],"o":{},"lo":[{}],"m":[1,null]}"#,
        "big Decimal128(20, 0), e Float64, l [Utf8], m [Int64]",
    );
    json(r#"{"o":{"x":1,"y":{"z":[{"w":"v"}]}}}"#, "o {x Int64, y {z [{w Utf8}]}}");
}

#[test]
fn json_conflicts() {
    json("{\"a\":1}\n{\"a\":2.5}", "a Float64");
    json("{\"a\":1}\n{\"a\":\"x\"}", "a Utf8");
    json("{\"a\":true}\n{\"a\":1}", "a Utf8");
    json("{\"a\":{\"b\":1}}\n{\"a\":[1]}", "a Utf8");
    json("{\"a\":[1,\"x\"]}", "a [Utf8]");
    json("{\"a\":[{\"b\":1},{\"c\":2.5}]}\n{\"a\":[{\"b\":null}]}", "a [{b Int64, c Float64}]");
    json("{\"a\":{\"b\":1}}\n{\"a\":{\"c\":\"x\"}}", "a {b Int64, c Utf8}");
    json("{\"a\":9223372036854775808}\n{\"a\":1}", "a Decimal128(20, 0)");
    json("{\"a\":null}\n{\"a\":[1]}\n[{\"a\":null},{\"z\":1}]", "a [Int64], z Int64");
    json("{\"Id\":1}\n{\"id\":\"x\",\"b\":1}", "Id Int64, b Int64");
}

#[test]
fn json_options_and_broken_records() {
    let of = |more: &[(&str, &str)], types, text: &str| infer(Format::Json, more, types, &[text]);
    let text = r#"{"a":1,"o":{"x":[1]},"e":{}}"#;
    assert_eq!(of(&[], false, text).unwrap(), "a Utf8, o Utf8, e Utf8");
    assert_eq!(of(&[("primitivesAsString", "true")], true, text).unwrap(), "a Utf8, o {x [Utf8]}");
    assert_eq!(of(&[("prefersDecimal", "true")], true, "{\"a\":1.25}\n{\"a\":10.5}").unwrap(), "a Decimal128(4, 2)");
    assert_eq!(of(&[("dropFieldIfAllNull", "true")], true, r#"{"a":null,"b":[],"c":1}"#).unwrap(), "c Int64");
    assert_eq!(of(&[("inferTimestamp", "true")], true, r#"{"t":"2020-01-01T00:00:00Z"}"#).unwrap(), "t Timestamp");
    assert_eq!(of(&[("readerCaseSensitive", "false")], true, "{\"A\":1}\n{\"a\":1.5}").unwrap(), "A Float64");
    let broken = "{\"a\":1,\"zz\":}\n{\"a\":2}";
    assert_eq!(of(&[], true, broken).unwrap(), "a Int64");
    assert_eq!(of(&[("rescuedDataColumn", "")], true, broken).unwrap(), "a Int64, _corrupt_record Utf8");
    let error = of(&[("mode", "FAILFAST")], true, broken).unwrap_err().to_string();
    assert!(error.contains("record 1 of `f0`"), "{error}");
    assert_eq!(of(&[("multiLine", "true")], true, "[{\n\"a\":1},\n{\"b\":2}]").unwrap(), "a Int64, b Int64");
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(500), "]".repeat(500));
    assert!(of(&[], true, &deep).is_ok());
}

#[test]
fn csv_types() {
    csv(
        "i,l,d,f,dt,ts,b,s,e\n007,3000000000,99999999999999999999,1.5,2020-01-01,2020-01-01 10:00:00,true,x,\n",
        "i Int32, l Int64, d Decimal128(20, 0), f Float64, dt Date32, ts Timestamp, b Boolean, s Utf8, e Utf8",
    );
    csv(
        "a,b,c,d,e,f\n1,1,2020-01-01,true,1,1.5\n3000000000,1.5,2020-01-01 10:00,1,x,2020-01-01\n",
        "a Int64, b Float64, c Timestamp, d Utf8, e Utf8, f Utf8",
    );
    csv("a\n536365\nC536379\n", "a Utf8");
    csv("a,b\n,\n1,\n", "a Int32, b Utf8");
    // Half a date is no date: part numbers look like that.
    csv("a,b\n8512-12,2020\n", "a Utf8, b Int32");
}

#[test]
fn csv_files_are_merged_by_name() {
    let files = ["a,b\n1,x\n", "c,a\n1.5,2\n", "a,B\n3,y\n"];
    assert_eq!(infer(Format::Csv, &[], true, &files).unwrap(), "a Int32, b Utf8, c Float64");
    assert_eq!(infer(Format::Csv, &[], false, &files[..1]).unwrap(), "a Utf8, b Utf8");
    let headless = [("header", "false")];
    assert_eq!(infer(Format::Csv, &headless, true, &["1,x\n2,y\n"]).unwrap(), "_c0 Int32, _c1 Utf8");
    assert_eq!(infer(Format::Csv, &[("inferSchema", "true")], false, &["a\n1\n"]).unwrap(), "a Int32");
    let corrupt = [("rescuedDataColumn", "")];
    assert_eq!(infer(Format::Csv, &corrupt, true, &["a,b\n1\n"]).unwrap(), "a Int32, b Utf8, _corrupt_record Utf8");
}

#[test]
fn text_has_one_column() {
    assert_eq!(infer(Format::Text, &[], true, &["x\ny"]).unwrap(), "value Utf8");
    assert!(infer(Format::Avro, &[], true, &["x"]).is_err());
}
