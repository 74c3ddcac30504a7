//! The grammar's tables of examples.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod errors;
mod mutation;
mod queries;
mod splitting;
mod statements;

use crate::{Diagnostic, Place, Query, Span, Statement, StatementKind, parse_statement};

const START: Place = Place { line: 1, column: 1 };

fn parse(text: &str) -> Statement {
    parse_statement(text, START)
        .unwrap_or_else(|error| panic!("{text}\n{error} at {}\n{:?}", error.span.start, error.help))
}

fn kind(text: &str) -> StatementKind {
    parse(text).kind
}

fn refused(text: &str) -> Diagnostic {
    match parse_statement(text, START) {
        Ok(statement) => panic!("{text}\nis taken for {statement:?}"),
        Err(error) => error,
    }
}

fn query(text: &str) -> Query {
    match kind(text) {
        StatementKind::Query { query, .. } => query,
        other => panic!("{text} is not a query: {other:?}"),
    }
}

/// A span on line 1.
fn span(from: u64, to: u64) -> Span {
    Span { start: Place { line: 1, column: from }, end: Place { line: 1, column: to } }
}
