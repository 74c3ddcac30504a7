//! SQL text to statements.
//!
//! This crate knows the grammar and where things stand in the text. It knows nothing about tables, types,
//! files or time: names are not looked up, options are not checked, and no statement is refused for what it means.
//!
//! A script goes through [`Splitter`] (pieces), [`substitute`] (variables) and [`parse_piece`] (statements); an
//! error is a [`Diagnostic`] that [`Diagnostic::render`] shows in its [`SourceText`].

mod clauses;
mod create;
mod cursor;
mod depth;
mod diagnostic;
mod dialect;
mod files;
mod interval;
mod lexer;
mod not_yet;
mod parse;
mod query;
mod relation_forms;
mod relations;
mod render;
mod settings;
mod show;
mod span;
mod splitter;
mod statement;
mod streams;
#[cfg(test)]
mod tests;
mod variables;
mod words;

pub use diagnostic::Diagnostic;
pub use dialect::AlluviumDialect;
pub use files::{with_kept_clauses, with_trigger};
pub use interval::parse_interval;
pub use lexer::without_layout;
pub use parse::{parse_piece, parse_statement};
pub use render::SourceText;
pub use span::{Place, Span};
pub use splitter::{Piece, Splitter, is_complete};
pub use sqlparser;
pub use statement::*;
pub use variables::substitute;
pub use words::{KEYWORDS, STATEMENTS, near};
