//! Texts by regular expressions: `split`, `regexp_extract`, `regexp_extract_all`, `regexp_substr`.
//!
//! Patterns are Rust's: what Java has and they do not (looking around, references back) is an error that says so.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListBuilder, StringArray, StringBuilder};
use datafusion::arrow::datatypes::{DataType, Field, Int32Type};
use datafusion::common::{Result, exec_datafusion_err, exec_err};
use datafusion::logical_expr::ScalarUDF;
use regex::Regex;

use super::plain::plain;

pub(super) fn text_list() -> DataType {
    DataType::List(Arc::new(element()))
}

fn element() -> Field {
    Field::new_list_field(DataType::Utf8, true)
}

/// All of them.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let (text, number) = (DataType::Utf8, DataType::Int32);
    let three = [text.clone(), text.clone(), number];
    vec![
        plain("split", &three, 2, text_list(), split),
        plain("regexp_extract", &three, 2, text.clone(), extract),
        plain("regexp_extract_all", &three, 2, text_list(), extract_all),
        plain("regexp_substr", &three[..2], 2, text, substr),
    ]
}

/// The last pattern, compiled: most often there is but one.
#[derive(Default)]
struct Patterns {
    last: Option<(String, Regex)>,
}

impl Patterns {
    fn of(&mut self, pattern: &str) -> Result<&Regex> {
        if self.last.as_ref().is_none_or(|(known, _)| known != pattern) {
            let compiled = Regex::new(pattern).map_err(|error| {
                let why = error.to_string();
                let why = why.lines().rfind(|line| line.starts_with("error")).unwrap_or("it is too large");
                exec_datafusion_err!("`{pattern}` is not a regular expression here: {why}")
            })?;
            self.last = Some((pattern.to_owned(), compiled));
        }
        match &self.last {
            Some((_, compiled)) => Ok(compiled),
            None => exec_err!("there is no pattern"),
        }
    }
}

fn texts(arrays: &[ArrayRef]) -> Result<(&StringArray, &StringArray)> {
    match arrays {
        [text, pattern, ..] => Ok((text.as_string(), pattern.as_string())),
        _ => exec_err!("a text and a pattern are needed"),
    }
}

/// The third argument of a row; None for NULL.
fn number(arrays: &[ArrayRef], row: usize, default: i32) -> Option<i32> {
    let Some(numbers) = arrays.get(2) else { return Some(default) };
    numbers.is_valid(row).then(|| numbers.as_primitive::<Int32Type>().value(row))
}

fn split(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let (text, pattern) = texts(arrays)?;
    let mut patterns = Patterns::default();
    let mut out = ListBuilder::new(StringBuilder::new()).with_field(element());
    for row in 0..text.len() {
        let limit = number(arrays, row, -1);
        let (Some(limit), true, true) = (limit, text.is_valid(row), pattern.is_valid(row)) else {
            out.append_null();
            continue;
        };
        for part in parts(text.value(row), patterns.of(pattern.value(row))?, limit) {
            out.values().append_value(part);
        }
        out.append(true);
    }
    Ok(Arc::new(out.finish()))
}

/// At most `limit` parts if it is positive. As in Java, an empty match at the beginning cuts nothing off.
fn parts<'t>(text: &'t str, pattern: &Regex, limit: i32) -> Vec<&'t str> {
    let most = usize::try_from(limit).ok().filter(|most| *most > 0).unwrap_or(usize::MAX);
    let mut parts = Vec::new();
    let mut from = 0;
    for found in pattern.find_iter(text) {
        if parts.len() + 1 >= most {
            break;
        }
        if found.is_empty() && (found.start() == 0 || found.start() == text.len()) {
            continue;
        }
        parts.push(&text[from..found.start()]);
        from = found.end();
    }
    parts.push(&text[from..]);
    parts
}

fn group(pattern: &Regex, index: i32) -> Result<usize> {
    match usize::try_from(index) {
        Ok(index) if index < pattern.captures_len() => Ok(index),
        _ => exec_err!("the pattern has {} groups, and group {index} was asked for", pattern.captures_len() - 1),
    }
}

fn extract(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let (text, pattern) = texts(arrays)?;
    let mut patterns = Patterns::default();
    let mut out = StringBuilder::new();
    for row in 0..text.len() {
        let index = number(arrays, row, 1);
        let (Some(index), true, true) = (index, text.is_valid(row), pattern.is_valid(row)) else {
            out.append_null();
            continue;
        };
        let pattern = patterns.of(pattern.value(row))?;
        let index = group(pattern, index)?;
        let found = pattern.captures(text.value(row)).and_then(|captures| captures.get(index));
        out.append_value(found.map_or("", |found| found.as_str()));
    }
    Ok(Arc::new(out.finish()))
}

fn extract_all(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let (text, pattern) = texts(arrays)?;
    let mut patterns = Patterns::default();
    let mut out = ListBuilder::new(StringBuilder::new()).with_field(element());
    for row in 0..text.len() {
        let index = number(arrays, row, 1);
        let (Some(index), true, true) = (index, text.is_valid(row), pattern.is_valid(row)) else {
            out.append_null();
            continue;
        };
        let pattern = patterns.of(pattern.value(row))?;
        let index = group(pattern, index)?;
        for captures in pattern.captures_iter(text.value(row)) {
            out.values().append_value(captures.get(index).map_or("", |found| found.as_str()));
        }
        out.append(true);
    }
    Ok(Arc::new(out.finish()))
}

fn substr(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let (text, pattern) = texts(arrays)?;
    let mut patterns = Patterns::default();
    let mut out = StringBuilder::new();
    for (text, pattern) in text.iter().zip(pattern.iter()) {
        let (Some(text), Some(pattern)) = (text, pattern) else {
            out.append_null();
            continue;
        };
        out.append_option(patterns.of(pattern)?.find(text).map(|found| found.as_str()));
    }
    Ok(Arc::new(out.finish()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn texts_are_cut_as_in_java() {
        let cut =
            |text: &'static str, pattern: &str, limit| parts(text, &Regex::new(pattern).unwrap(), limit).join("_");
        assert_eq!(cut("oneAtwoBthreeC", "[ABC]", -1), "one_two_three_");
        assert_eq!(cut("oneAtwoBthreeC", "[ABC]", 2), "one_twoBthreeC");
        assert_eq!(cut("abc", "", -1), "a_b_c");
        assert_eq!(cut("", ",", -1), "");
        assert_eq!(cut("a,b", ",", 1), "a,b");
    }
}
