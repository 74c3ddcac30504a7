//! XML decoding against values written by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::pretty::pretty_format_batches;

use crate::{Format, FormatOptions, Inferrer, decoder};

fn options(entries: &[(&str, &str)]) -> FormatOptions {
    let mut all = vec![("rowTag".to_owned(), "r".to_owned())];
    all.extend(entries.iter().map(|(k, v)| (k.to_string(), v.to_string())));
    FormatOptions::parse(Format::Xml, &all, true, true).unwrap()
}

/// The table that `text` gives when it comes in pieces of `step` bytes.
fn decode(text: &str, entries: &[(&str, &str)], step: usize) -> String {
    let options = options(entries);
    let mut inferrer = Inferrer::new(&options);
    inferrer.start_file("f");
    inferrer.sample(text.as_bytes(), true).unwrap();
    let mut fields: Vec<Field> = inferrer.finish().unwrap().fields().iter().map(|f| f.as_ref().clone()).collect();
    fields.push(Field::new("_rescued_data", DataType::Utf8, true));
    let mut decoder = decoder(&options, Arc::new(Schema::new(fields)), 1024).unwrap();
    decoder.start_file("f");
    let (mut start, mut end) = (0, 0);
    loop {
        end = (end + step).min(text.len());
        let used = decoder.decode(&text.as_bytes()[start..end], end == text.len()).unwrap();
        start += used;
        if end == text.len() {
            assert_eq!(start, end, "everything is used at the end");
            break;
        }
    }
    pretty_format_batches(&[decoder.finish().unwrap()]).unwrap().to_string()
}

const BOOKS: &str = r#"<?xml version="1.0"?><!DOCTYPE rs><rs><!-- <r/> --><r a="1>2" b='x"y'><n>1</n><n>2.5</n>
<o><p>t</p><p>u</p></o></r><r><![CDATA[<r>]]></r>
<r a="q"><o/></r><r a="torn"><n>1</n>"#;

#[test]
fn pieces_of_any_size_give_the_same_table() {
    let whole = decode(BOOKS, &[], BOOKS.len());
    for step in 1..40 {
        assert_eq!(decode(BOOKS, &[], step), whole, "pieces of {step} bytes");
    }
    assert!(whole.contains("1>2") && whole.contains(r#"x"y"#) && whole.contains("[1.0, 2.5]"), "{whole}");
    assert!(whole.contains("_corrupt_record"), "the torn record is kept:\n{whole}");
}

#[test]
fn depth_is_bounded() {
    let deep = format!("<r>{}{}</r>", "<a>".repeat(100_000), "</a>".repeat(100_000));
    let table = decode(&deep, &[], deep.len());
    assert!(table.contains("_corrupt_record"), "{}", &table[..300]);
}

#[test]
fn unknown_entities_are_malformed_and_known_ones_are_replaced() {
    let table = decode("<rs><r><a>&lt;&#65;&#x42;</a></r><r><a>&nbsp;</a></r></rs>", &[], 1000);
    assert!(table.contains("<AB"), "{table}");
    assert!(table.contains("&nbsp;"), "{table}");
}
