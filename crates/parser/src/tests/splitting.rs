//! Statements out of growing text, and variables in them.

use std::collections::HashMap;

use super::*;
use crate::{Piece, Splitter, is_complete, parse_piece, substitute};

const SCRIPT: &str = "-- first; comment\nSELECT ';' ; /* ; */\n\nSELECT \"a;b\", `c;d`, r'\\', 'it''s;', 'x\\';y';;\n  -- only a comment\n;\n SET x = 1 -- no end";

fn pieces(chunks: &[&str]) -> Vec<(String, u64, u64)> {
    let mut splitter = Splitter::new();
    let mut pieces = Vec::new();
    for chunk in chunks {
        splitter.push(chunk);
        pieces.extend(splitter.by_ref());
    }
    pieces.extend(splitter.finish());
    assert!(splitter.is_empty());
    pieces.into_iter().map(|piece| (piece.text, piece.start.line, piece.start.column)).collect()
}

#[test]
fn semicolons_outside_strings_and_comments_cut() {
    let expected = vec![
        ("SELECT ';'".to_owned(), 2, 1),
        ("SELECT \"a;b\", `c;d`, r'\\', 'it''s;', 'x\\';y'".to_owned(), 4, 1),
        ("SET x = 1 -- no end".to_owned(), 7, 2),
    ];
    assert_eq!(pieces(&[SCRIPT]), expected);
    let letters: Vec<String> = SCRIPT.chars().map(String::from).collect();
    let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
    assert_eq!(pieces(&letters), expected, "letter by letter");
}

#[test]
fn completeness() {
    for text in ["SELECT 1;", "SELECT 1; -- c", "a; b ;\n", "SELECT '\\'';"] {
        assert!(is_complete(text), "{text}");
    }
    for text in ["", "-- ;", "SELECT 1", "SELECT ';", "SELECT 1; SELECT", "/* ; */", "SELECT '\\';"] {
        assert!(!is_complete(text), "{text}");
    }
    let mut splitter = Splitter::new();
    assert!(splitter.is_empty() && splitter.finish().is_none());
    splitter.push("  -- nothing\n");
    assert!(splitter.is_empty());
    splitter.push("S");
    assert!(!splitter.is_empty());
}

fn vars(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn variables_are_replaced_and_places_kept() {
    let piece =
        Piece::new("SELECT '${dir}/x', ${n}${empty}, nope nope2 nope3 -- ${comment}", Place { line: 3, column: 1 });
    let known = vars(&[("dir", "/a/long/path"), ("n", "1"), ("empty", "")]);
    let replaced = substitute(&piece, &known).unwrap();
    assert_eq!(replaced.text, "SELECT '/a/long/path/x', 1, nope nope2 nope3 -- ${comment}");
    let error = parse_piece(&replaced).unwrap_err();
    assert_eq!(error.message, "`nope3` is not expected here");
    let column = piece.text.find("nope3").unwrap() as u64 + 1;
    assert_eq!(error.span.start, Place { line: 3, column });
    let bad = substitute(&Piece::new("DROP TABLE ${t} x", START), &vars(&[("t", "IF a\nb")])).unwrap();
    assert_eq!(parse_piece(&bad).unwrap_err().span, span(12, 16));
}

#[test]
fn undefined_variables_are_named() {
    let piece = Piece::new("SELECT 1,\n  '${dri}'", START);
    let error = substitute(&piece, &vars(&[("dir", "x"), ("b", "y")])).unwrap_err();
    assert_eq!((error.code, error.message.as_str()), ("UNDEFINED_VARIABLE", "variable `dri` has no value"));
    assert_eq!(error.span, Span { start: Place { line: 2, column: 4 }, end: Place { line: 2, column: 10 } });
    assert!(error.help.contains(&"did you mean `dir`?".to_owned()));
    assert!(error.help.contains(&"variables with a value: b, dir".to_owned()));
}
