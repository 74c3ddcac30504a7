//! Whole results in every format, expectations written by hand.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::*;
use crate::engine::arrow::array::{ArrayRef, Int64Array, StringArray};

fn people() -> RecordBatch {
    let names: ArrayRef = Arc::new(StringArray::from(vec![Some("Ada"), None, Some(""), Some("a|b, \"c\"\nd")]));
    let ages: ArrayRef = Arc::new(Int64Array::from(vec![Some(36), Some(7), None, Some(100)]));
    RecordBatch::try_from_iter_with_nullable([("name", names, true), ("age", ages, true)]).unwrap()
}

fn numbers(count: i64) -> RecordBatch {
    let values: ArrayRef = Arc::new(Int64Array::from_iter_values(0..count));
    RecordBatch::try_from_iter([("n", values)]).unwrap()
}

/// Everything, without regard to a terminal.
fn plain_style(format: Format) -> Style {
    Style { format, width: None, rows_max: None, types: false, zone: Zone::Utc }
}

fn print(style: &Style, batches: &[RecordBatch]) -> (String, Summary) {
    let mut writer = writer(style, &batches[0].schema());
    let mut out = Vec::new();
    for batch in batches {
        writer.batch(&mut out, batch).unwrap();
    }
    let summary = writer.finish(&mut out).unwrap();
    (String::from_utf8(out).unwrap(), summary)
}

fn plain(format: Format, batches: &[RecordBatch]) -> String {
    print(&plain_style(format), batches).0
}

#[test]
fn table() {
    let expected = "\
┌──────────┬──────┐
│ name     │  age │
├──────────┼──────┤
│ Ada      │   36 │
│ NULL     │    7 │
│          │ NULL │
│ a|b, \"c\" │  100 │
│ d        │      │
└──────────┴──────┘
";
    assert_eq!(plain(Format::Table, &[people()]), expected);
}

#[test]
fn table_with_types_and_a_gap() {
    let style = Style { rows_max: Some(4), types: true, ..plain_style(Format::Table) };
    let expected = "\
┌────────┐
│      n │
│ bigint │
├────────┤
│      0 │
│      1 │
│      · │
│      8 │
│      9 │
└────────┘
";
    let (text, summary) = print(&style, &[numbers(10)]);
    assert_eq!(text, expected);
    assert_eq!((summary.rows, summary.rows_shown), (10, 4));
    let one_by_one: Vec<RecordBatch> = (0..10).map(|row| numbers(10).slice(row, 1)).collect();
    assert_eq!(print(&style, &one_by_one).0, expected, "however the result is cut into batches");
    let (text, summary) = print(&style, &[numbers(4)]);
    assert!(!text.contains('·'), "{text}");
    assert_eq!(summary.rows_shown, 4);
}

#[test]
fn narrow_terminals_shorten_the_widest_and_then_leave_out_the_middle() {
    let text = |value: &str| Arc::new(StringArray::from(vec![value])) as ArrayRef;
    let batch = RecordBatch::try_from_iter([("a", text("short")), ("b", text("a rather long value"))]).unwrap();
    let style = Style { width: Some(26), ..plain_style(Format::Table) };
    let expected = "\
┌───────┬────────────────┐
│ a     │ b              │
├───────┼────────────────┤
│ short │ a rather long… │
└───────┴────────────────┘
";
    assert_eq!(print(&style, &[batch]).0, expected);

    let wide = (0..9).map(|index| (format!("column{index}"), text("x")));
    let wide = RecordBatch::try_from_iter(wide).unwrap();
    let style = Style { width: Some(40), ..plain_style(Format::Table) };
    let expected = "\
┌─────────┬─────────┬───┬─────────┐
│ column0 │ column1 │ … │ column8 │
├─────────┼─────────┼───┼─────────┤
│ x       │ x       │ … │ x       │
└─────────┴─────────┴───┴─────────┘
";
    let (drawn, summary) = print(&style, &[wide]);
    assert_eq!(drawn, expected);
    assert_eq!((summary.columns, summary.columns_shown), (9, 3));
}

#[test]
fn wide_letters_and_control_characters_keep_the_box_straight() {
    let values: ArrayRef = Arc::new(StringArray::from(vec!["日本", "a\tb\u{1b}[0m"]));
    let batch = RecordBatch::try_from_iter([("v", values)]).unwrap();
    let expected = "\
┌───────────────┐
│ v             │
├───────────────┤
│ 日本          │
│ a\\tb\\u{1b}[0m │
└───────────────┘
";
    assert_eq!(plain(Format::Table, &[batch]), expected);
}

#[test]
fn a_single_text_of_several_lines_has_no_box() {
    let plan: ArrayRef = Arc::new(StringArray::from(vec!["Sink\n  Scan\n"]));
    let batch = RecordBatch::try_from_iter([("plan", plan)]).unwrap();
    assert_eq!(plain(Format::Table, &[batch]), "Sink\n  Scan\n");
}

#[test]
fn csv() {
    let expected = "name,age\nAda,36\n,7\n\"\",\n\"a|b, \"\"c\"\"\nd\",100\n";
    assert_eq!(plain(Format::Csv, &[people()]), expected);
    assert_eq!(plain(Format::Csv, &[people().slice(0, 0)]), "name,age\n");
}

#[test]
fn json_and_ndjson() {
    let lines = "\
{\"name\":\"Ada\",\"age\":36}
{\"name\":null,\"age\":7}
{\"name\":\"\",\"age\":null}
{\"name\":\"a|b, \\\"c\\\"\\nd\",\"age\":100}
";
    assert_eq!(plain(Format::Ndjson, &[people().slice(0, 1), people().slice(1, 3)]), lines);
    assert_eq!(plain(Format::Ndjson, &[people().slice(0, 0)]), "");
    let array = plain(Format::Json, &[people().slice(0, 2)]);
    assert_eq!(array, "[{\"name\":\"Ada\",\"age\":36},\n {\"name\":null,\"age\":7}]\n");
    assert_eq!(plain(Format::Json, &[people().slice(0, 0)]), "[]\n");
}

#[test]
fn markdown() {
    let expected = "\
| name           |  age |
|----------------|-----:|
| Ada            |   36 |
| NULL           |    7 |
|                | NULL |
| a\\|b, \"c\"<br>d |  100 |
";
    assert_eq!(plain(Format::Markdown, &[people()]), expected);
}

#[test]
fn vertical() {
    let expected = "-[ row 1 ]-\nname | Ada\nage  | 36\n-[ row 2 ]-\nname | NULL\nage  | 7\n";
    assert_eq!(plain(Format::Vertical, &[people().slice(0, 2)]), expected);
}

#[test]
fn counts() {
    assert_eq!(counted(1, "row"), "1 row");
    assert_eq!(counted(0, "row"), "0 rows");
    assert_eq!(counted(1_234_567, "row"), "1,234,567 rows");
    assert_eq!(thousands(999), "999");
}
