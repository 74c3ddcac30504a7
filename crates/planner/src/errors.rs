//! DataFusion's planning errors as diagnostics with code, place and way out.
//!
//! Knows how DataFusion words its errors and nothing about streams. What it does not recognise keeps
//! DataFusion's sentence under a general code.

use alluvium_parser::{Diagnostic, Place, Query, Span};
use datafusion::common::{Column, DataFusionError, SchemaError, Spans};

use crate::near::nearest as near;
use crate::strict::not_yet;

/// `error` as the user of `query` should read it.
pub(crate) fn diagnose(error: &DataFusionError, query: &Query) -> Diagnostic {
    let place = error.diagnostic().and_then(|d| d.span.as_ref()).map(span_of).unwrap_or(Span::UNKNOWN);
    root(error, query).at_least(place).at_least(query.span)
}

fn root(error: &DataFusionError, query: &Query) -> Diagnostic {
    match error {
        DataFusionError::Diagnostic(_, inner) | DataFusionError::Context(_, inner) => root(inner, query),
        DataFusionError::Shared(inner) => root(inner, query),
        DataFusionError::Collection(all) => match all.first() {
            Some(first) => diagnose(first, query),
            None => Diagnostic::new("INVALID_QUERY", "the query cannot be planned"),
        },
        DataFusionError::SchemaError(schema_error, _) => schema(schema_error),
        DataFusionError::Plan(message) => plan(message),
        DataFusionError::NotImplemented(message) => not_yet(&form(message), Span::UNKNOWN),
        other => Diagnostic::new("INVALID_QUERY", readable(&other.strip_backtrace())),
    }
}

/// What DataFusion does not have, without the dump of its syntax tree.
fn form(message: &str) -> String {
    let text = readable(message);
    match text.split_once("nsupported ast node").map(|(_, dump)| dump.trim_start_matches(" in sqltorel")) {
        Some(dump) => {
            let word: String =
                dump.chars().skip_while(|c| !c.is_alphanumeric()).take_while(|c| c.is_alphanumeric()).collect();
            format!("this form of expression ({word})")
        }
        None => text,
    }
}

fn schema(error: &SchemaError) -> Diagnostic {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => unresolved(field, valid_fields),
        SchemaError::AmbiguousReference { field } => Diagnostic::new(
            "AMBIGUOUS_REFERENCE",
            format!("column `{}` is in more than one relation of FROM", field.name()),
        )
        .at(first(field.spans()))
        .help(format!("name the relation: `t.{}`", field.name())),
        SchemaError::DuplicateQualifiedField { qualifier, name } => Diagnostic::new(
            "COLUMN_ALREADY_EXISTS",
            format!("`{}` has two columns `{name}`", readable(&qualifier.to_string())),
        )
        .help("give one of them another name with AS"),
        SchemaError::DuplicateUnqualifiedField { name } => {
            Diagnostic::new("COLUMN_ALREADY_EXISTS", format!("two columns of the result are called `{name}`"))
                .help("give one of them another name with AS")
        }
    }
}

fn unresolved(field: &Column, valid: &[Column]) -> Diagnostic {
    let names: Vec<&str> = valid.iter().map(|column| column.name.as_str()).collect();
    let typed = match &field.relation {
        Some(relation) => readable(&format!("{}.{}", relation.table(), field.name)),
        None => field.name.clone(),
    };
    let mut diagnostic = Diagnostic::new("UNRESOLVED_COLUMN", format!("there is no column `{typed}` here"));
    if let Some(name) = near(&field.name, names.iter().copied()) {
        diagnostic = diagnostic.help(format!("did you mean `{name}`?"));
    }
    if !names.is_empty() {
        diagnostic = diagnostic.help(format!("columns: {}", listed(&names)));
    }
    diagnostic.at(first(field.spans()))
}

/// At most a dozen names, back-ticked.
pub(crate) fn listed(names: &[&str]) -> String {
    let mut text = names.iter().take(12).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > 12 {
        text.push_str(&format!(" and {} more", names.len() - 12));
    }
    text
}

fn plan(message: &str) -> Diagnostic {
    let text = readable(message);
    let lower = text.to_lowercase();
    if let Some(name) = between(message, "Invalid function '", "'") {
        let mut diagnostic = Diagnostic::new("UNRESOLVED_ROUTINE", format!("there is no function `{name}`"));
        if let Some(other) = between(message, "Did you mean '", "'")
            && near(&name, [other.as_str()]).is_some()
        {
            diagnostic = diagnostic.help(format!("did you mean `{other}`?"));
        }
        return diagnostic;
    }
    if lower.contains("table function") && lower.contains("not found") {
        return Diagnostic::new("UNRESOLVED_ROUTINE", text);
    }
    if lower.starts_with("table ") && lower.contains("not found") {
        return Diagnostic::new("TABLE_NOT_FOUND", text);
    }
    if lower.contains("must appear in the group by") || lower.contains("must be in group by") {
        return Diagnostic::new("MISSING_AGGREGATION", text)
            .help("add the expression to GROUP BY, or wrap it in an aggregate such as any_value(…)");
    }
    let of_types = ["coerc", "cast", "type", "cannot infer", "candidate functions", "no function matches", "signature"];
    if of_types.iter().any(|word| lower.contains(word)) {
        return Diagnostic::new("DATATYPE_MISMATCH", text);
    }
    Diagnostic::new("INVALID_QUERY", text)
}

/// DataFusion's sentence without its prefixes, and without the names that stand for relations without one.
pub(crate) fn readable(message: &str) -> String {
    let mut text = message;
    for prefix in ["Error during planning: ", "Schema error: ", "type_coercion\ncaused by\n", "Internal error: "] {
        text = text.strip_prefix(prefix).unwrap_or(text);
    }
    let text = text.split("\n\nbacktrace").next().unwrap_or(text);
    // DataFusion asks for reports to its own project, which is not the one to ask.
    let text = text.split("\nThis issue was likely caused").next().unwrap_or(text).trim_end_matches('.');
    let text = match text.split_once("user-defined coercion failed with: ") {
        Some((_, inner)) => inner.strip_prefix("Error during planning: ").unwrap_or(inner),
        None => text,
    };
    let text = text.split(" No function matches").next().unwrap_or(text);
    let text = text.split(" You might need to add explicit").next().unwrap_or(text);
    without_stand_ins(text.trim_end_matches('.'))
}

/// Removes `__relation_N.`, by which columns of unnamed relations are qualified.
pub(crate) fn without_stand_ins(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("__relation_") {
        out.push_str(&rest[..at]);
        let tail = &rest[at + "__relation_".len()..];
        let digits = tail.bytes().take_while(u8::is_ascii_digit).count();
        match tail[digits..].strip_prefix('.') {
            Some(after) if digits > 0 => rest = after,
            _ => {
                out.push_str("__relation_");
                rest = tail;
            }
        }
    }
    out.push_str(rest);
    out
}

fn between(text: &str, start: &str, end: &str) -> Option<String> {
    let tail = &text[text.find(start)? + start.len()..];
    Some(tail[..tail.find(end)?].to_string())
}

fn first(spans: &Spans) -> Span {
    spans.first().as_ref().map(span_of).unwrap_or(Span::UNKNOWN)
}

/// DataFusion's span as ours.
pub(crate) fn span_of(span: &datafusion::common::Span) -> Span {
    Span {
        start: Place { line: span.start.line, column: span.start.column },
        end: Place { line: span.end.line, column: span.end.column },
    }
}
