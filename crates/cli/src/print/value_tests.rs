//! Expectations for values, written by hand.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::*;
use crate::engine::arrow::array::*;
use crate::engine::arrow::buffer::OffsetBuffer;
use crate::engine::arrow::datatypes::{Field, Fields};

fn text(array: &dyn Array) -> Vec<String> {
    (0..array.len())
        .map(|row| {
            let mut out = String::new();
            write_text(&mut out, array, row, Zone::Utc);
            out
        })
        .collect()
}

fn json(array: &dyn Array) -> Vec<String> {
    (0..array.len())
        .map(|row| {
            let mut out = String::new();
            write_json(&mut out, array, row, Zone::Utc);
            out
        })
        .collect()
}

#[test]
fn plain_values() {
    let strings = StringArray::from(vec![Some("a"), None, Some(""), Some("say \"hi\"\n\u{1}")]);
    assert_eq!(text(&strings), ["a", "NULL", "", "say \"hi\"\n\u{1}"]);
    assert_eq!(json(&strings), ["\"a\"", "null", "\"\"", "\"say \\\"hi\\\"\\n\\u0001\""]);
    let booleans = BooleanArray::from(vec![Some(true), Some(false), None]);
    assert_eq!(text(&booleans), ["true", "false", "NULL"]);
    assert_eq!(json(&booleans), ["true", "false", "null"]);
    let numbers = Int64Array::from(vec![i64::MIN, 0, 7]);
    assert_eq!(text(&numbers), ["-9223372036854775808", "0", "7"]);
    assert_eq!(json(&numbers), text(&numbers));
    assert_eq!(text(&NullArray::new(1)), ["NULL"]);
    assert_eq!(json(&NullArray::new(1)), ["null"]);
}

#[test]
fn floats_keep_their_point_and_read_back() {
    let doubles = Float64Array::from(vec![1.0, 0.1, 1.0 / 3.0, 1e10, 1e16, 1e-7, f64::NAN, f64::NEG_INFINITY, -0.0]);
    let shown = ["1.0", "0.1", "0.3333333333333333", "10000000000.0", "1e16", "1e-7", "NaN", "-Infinity", "-0.0"];
    assert_eq!(text(&doubles), shown);
    assert_eq!(json(&doubles)[6..8], ["\"NaN\"", "\"-Infinity\""]);
    assert_eq!(json(&doubles)[2], "0.3333333333333333");
    assert_eq!(text(&Float32Array::from(vec![0.1f32, f32::INFINITY])), ["0.1", "Infinity"]);
}

#[test]
fn decimals_keep_their_scale() {
    let decimals = Decimal128Array::from(vec![Some(123450), Some(-5), None]).with_precision_and_scale(10, 2).unwrap();
    assert_eq!(text(&decimals), ["1234.50", "-0.05", "NULL"]);
    assert_eq!(json(&decimals), ["\"1234.50\"", "\"-0.05\"", "null"]);
}

#[test]
fn dates_and_timestamps() {
    let dates = Date32Array::from(vec![0, 19185, -1, 11016, 47541, 2932897, -719529]);
    let shown = ["1970-01-01", "2022-07-12", "1969-12-31", "2000-02-29", "2100-03-01", "+10000-01-01", "-0001-12-31"];
    assert_eq!(text(&dates), shown);
    let micros = TimestampMicrosecondArray::from(vec![1_657_646_037_500_000, 0, -1, 1_657_646_037_000_010]);
    let shown =
        ["2022-07-12 17:13:57.5", "1970-01-01 00:00:00", "1969-12-31 23:59:59.999999", "2022-07-12 17:13:57.00001"];
    assert_eq!(text(&micros), shown);
    assert_eq!(text(&micros.clone().with_timezone("Asia/Tokyo")), shown, "shown in the session's zone");
    assert_eq!(json(&micros)[0], "\"2022-07-12 17:13:57.5\"");
    let nanos = TimestampNanosecondArray::from(vec![1_657_646_037_123_456_789]);
    assert_eq!(text(&nanos), ["2022-07-12 17:13:57.123456789"]);
}

#[test]
fn instants_follow_the_zone_and_wall_clocks_do_not() {
    let instants = TimestampMicrosecondArray::from(vec![1_657_646_037_500_000]).with_timezone("UTC");
    let zone = Zone::named("America/New_York");
    let mut out = String::new();
    write_text(&mut out, &instants, 0, zone);
    assert_eq!(out, "2022-07-12 13:13:57.5");
    out.clear();
    write_text(&mut out, &TimestampMicrosecondArray::from(vec![1_657_646_037_500_000]), 0, zone);
    assert_eq!(out, "2022-07-12 17:13:57.5");
    assert!(matches!(Zone::named("nowhere"), Zone::Utc));
}

#[test]
fn bytes_in_hex_and_base64() {
    let binary = BinaryArray::from(vec![&b"My"[..], b"", b"abc", b"abcd"]);
    assert_eq!(text(&binary), ["[4D 79]", "[]", "[61 62 63]", "[61 62 63 64]"]);
    assert_eq!(json(&binary), ["\"TXk=\"", "\"\"", "\"YWJj\"", "\"YWJjZA==\""]);
}

#[test]
fn nested_values() {
    let list =
        ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), Some(2), None]), None, Some(vec![])]);
    assert_eq!(text(&list), ["[1, 2, null]", "NULL", "[]"]);
    assert_eq!(json(&list), ["[1,2,null]", "null", "[]"]);

    let fields = Fields::from(vec![Field::new("a", DataType::Int32, true), Field::new("b\"", DataType::Utf8, true)]);
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int32Array::from(vec![Some(1), None])), Arc::new(StringArray::from(vec!["x", "y"]))];
    let object = StructArray::new(fields, columns, None);
    assert_eq!(text(&object), ["{\"a\":1, \"b\\\"\":\"x\"}", "{\"a\":null, \"b\\\"\":\"y\"}"]);
    assert_eq!(json(&object)[0], "{\"a\":1,\"b\\\"\":\"x\"}");

    let entries = StructArray::from(vec![
        (Arc::new(Field::new("keys", DataType::Int32, false)), Arc::new(Int32Array::from(vec![7, 8])) as ArrayRef),
        (Arc::new(Field::new("values", DataType::Utf8, true)), Arc::new(StringArray::from(vec![Some("p"), None]))),
    ]);
    let entry = Arc::new(Field::new("entries", entries.data_type().clone(), false));
    let map = MapArray::new(entry, OffsetBuffer::new(vec![0, 2].into()), entries, None, false);
    assert_eq!(json(&map), ["{\"7\":\"p\",\"8\":null}"]);
    assert_eq!(type_name(map.data_type()), "map<int,string>");
}

#[test]
fn dictionaries_are_looked_up() {
    let dictionary: DictionaryArray<Int32Type> = vec![Some("x"), None, Some("y"), Some("x")].into_iter().collect();
    assert_eq!(text(&dictionary), ["x", "NULL", "y", "x"]);
    assert_eq!(json(&dictionary), ["\"x\"", "null", "\"y\"", "\"x\""]);
    assert_eq!(type_name(dictionary.data_type()), "string");
}
