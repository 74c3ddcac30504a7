//! From a bound query to a streaming plan, or to the sentence that says why it cannot be one.
//!
//! The rules are in `rules.rs`, one function each. Here they are put in order, aggregates over streams and joins of two become
//! nodes with state, and the rest is optimized once, for every epoch to come.

mod distinct;
mod event_time;
mod grouping;
mod held_filters;
mod identity;
mod kept_operators;
mod late;
mod panes;
mod repeat;
mod rules;
mod session;
mod stateful;
mod stream_join;
#[cfg(test)]
mod tests;
mod upsert;

use std::collections::HashMap;
use std::sync::Arc;

use alluvium_parser::{Diagnostic, OutputMode, Query, Span};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;

pub use crate::bind::first_stream;
pub use crate::functions::clock::with_epoch_timestamp;
pub use identity::{StateIdentity, ValueIdentity};
pub use repeat::{Likeness, cut_matters, likeness, likeness_by_operator};

pub(crate) use event_time::is_watermark;
pub(crate) use grouping::sets_of;
pub(crate) use stateful::{defined, is_widened, sql_text};
pub(crate) use stream_join::{is_of_streams, joins_streams, length_us};

use crate::as_typed::as_typed;
use crate::bind::stream_of;
use crate::errors::diagnose;
use crate::places::Places;
use crate::plan::{StreamingPlan, WatermarkInfo};
use crate::relation::{SourceKind, SourceSpec};

/// Plans what a stream does each epoch.
///
/// `mode` is the output mode with its place (any place, when it was not typed).
///
/// # Errors
/// Every shape of query that a stream cannot carry out, with code, place and way out; nothing is refused later.
pub fn plan_stream(
    bound: LogicalPlan,
    query: &Query,
    mode: (OutputMode, Span),
    state: &SessionState,
) -> Result<StreamingPlan, Diagnostic> {
    planned(bound, query, mode, state, None)
}

/// [`plan_stream`] of a stream whose late rows are kept in a table, asked for at `at`.
///
/// # Errors
/// LATE_ROWS_NEVER where no row can be late, and those of [`plan_stream`].
pub fn plan_stream_keeping_late_rows(
    bound: LogicalPlan,
    query: &Query,
    mode: (OutputMode, Span),
    state: &SessionState,
    at: Span,
) -> Result<StreamingPlan, Diagnostic> {
    let plan = planned(bound, query, mode, state, Some(state))?;
    if plan.keeps_late_rows() {
        return Ok(plan);
    }
    Err(Diagnostic::new("LATE_ROWS_NEVER", "no row of this stream can be late, so none can be kept")
        .at(at)
        .at_least(query.span)
        .help("rows are late for groups and keys that a WATERMARK ends: in OUTPUT MODE APPEND or UPDATE"))
}

fn planned(
    bound: LogicalPlan,
    query: &Query,
    mode: (OutputMode, Span),
    state: &SessionState,
    keep_late: Option<&SessionState>,
) -> Result<StreamingPlan, Diagnostic> {
    let places = places(&bound, query, state);
    let refused = |error| diagnose(&error, query);
    let analyzed = state.analyzer().execute_and_check(bound, state.config_options(), |_, _| {}).map_err(refused)?;
    let analyzed = stream_join::with_conditions_moved(analyzed).map_err(refused)?;
    rules::check(&analyzed, mode, &places, query)?;
    let sources = sources(&analyzed).map_err(refused)?;
    let schema = Arc::new(analyzed.schema().as_arrow().clone());
    let stateful = stateful::with_state(analyzed, mode.0, &sources, keep_late).map_err(refused)?;
    let stateful::Stateful { plan, mut operators, watermarks } = stateful;
    for operator in &mut operators {
        let texts = operator.keys.iter_mut().chain(&mut operator.values).chain(&mut operator.unbounded);
        texts.chain([&mut operator.bounded_by]).for_each(|text| *text = as_typed(text));
    }
    require_watermarks(&sources, &watermarks, query)?;
    let limit = stateful::limit_on_top(&plan);
    let mut fingerprint = fingerprint(&plan, &sources).map_err(refused)?;
    let upsert = upsert::upsert(&plan, mode, query.span)?;
    let mut identities = identity::identities(&plan, &operators).map_err(refused)?;
    let plan = held_filters::careful(state.optimizer()).optimize(plan, state, |_, _| {}).map_err(refused)?;
    for (operator, stored) in stateful::stored_columns(&plan).map_err(refused)? {
        fingerprint.push_str("; ");
        fingerprint.push_str(&stored);
        if let Some(known) = identities.iter_mut().find(|known| known.operator == operator) {
            known.rest = format!("{} {stored}", known.rest);
        }
    }
    let mode = mode.0;
    let query = String::new();
    Ok(StreamingPlan {
        plan,
        sources,
        mode,
        operators,
        watermarks,
        schema,
        limit,
        fingerprint,
        upsert,
        identities,
        query,
    })
}

/// Options about event time mean nothing to a source that no watermark sees.
fn require_watermarks(sources: &[Arc<SourceSpec>], marks: &[WatermarkInfo], query: &Query) -> Result<(), Diagnostic> {
    for (at, source) in sources.iter().enumerate() {
        let Some(option) = source.event_time().given() else { continue };
        if !marks.iter().any(|mark| mark.sources.contains(&at)) {
            let why = format!("option `{option}` of {}: the source has no watermark", source.title);
            return Err(Diagnostic::new("INVALID_OPTION", why)
                .at(source.span)
                .at_least(query.span)
                .help("write WATERMARK ts DELAY OF INTERVAL 10 MINUTES behind the stream, or leave the option out"));
        }
    }
    Ok(())
}

/// Refuses a static query that reads a stream. `what` names the statement: `INSERT`, `CREATE TABLE … AS`.
///
/// # Errors
/// STREAM_IN_STATIC_QUERY, at the stream.
pub fn require_static(bound: &LogicalPlan, query: &Query, what: &str) -> Result<(), Diagnostic> {
    let Some(spec) = first_stream(bound) else { return Ok(()) };
    let places = Places::find(query, stream_names(bound), &|_| false);
    let first = places.streams.first().cloned();
    let first = first.or_else(|| places.subqueries.first().map(|place| (place.stream.clone(), place.span)));
    let (stream, span) = first.unwrap_or((spec.title.clone(), query.span));
    Err(Diagnostic::new("STREAM_IN_STATIC_QUERY", format!("{what} runs once, and a stream never ends"))
        .at(span)
        .label(format!("`{stream}` is a stream"))
        .help("CREATE STREAMING TABLE … AS SELECT … keeps a table up to date with a stream")
        .help(match &spec.kind {
            SourceKind::Files(_) => "read_files(…) without STREAM reads the files that are there now, once",
            SourceKind::Table(_) => "without STREAM the table's current rows are read, once",
        }))
}

fn places(plan: &LogicalPlan, query: &Query, state: &SessionState) -> Places {
    let spark = ["count_if", "approx_count_distinct", "first", "last", "every", "some", "mean", "std", "variance"];
    Places::find(query, stream_names(plan), &|name| {
        state.aggregate_functions().contains_key(name) || spark.contains(&name)
    })
}

/// Titles of streams, by the lower-case names under which the query knows them.
fn stream_names(plan: &LogicalPlan) -> HashMap<String, String> {
    let mut names = HashMap::new();
    let _ = plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::TableScan(scan) => {
                if let Some(spec) = stream_of(node) {
                    names.insert(scan.table_name.to_string().to_lowercase(), spec.title.clone());
                }
            }
            // A view stands under its name; its own relations are not of this query's text.
            LogicalPlan::SubqueryAlias(alias) if first_stream(&alias.input).is_some() => {
                let name = alias.alias.to_string();
                names.entry(name.to_lowercase()).or_insert(name);
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    });
    names
}

/// The streams of a plan, each once, in order of appearance.
fn sources(plan: &LogicalPlan) -> datafusion::common::Result<Vec<Arc<SourceSpec>>> {
    let mut sources: Vec<Arc<SourceSpec>> = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let Some(spec) = stream_of(node)
            && !sources.iter().any(|known| Arc::ptr_eq(known, &spec))
        {
            sources.push(spec);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(sources)
}

/// What must stay the same for stored state to fit: sources by kind and title, operators by keys, values and types.
fn fingerprint(plan: &LogicalPlan, sources: &[Arc<SourceSpec>]) -> datafusion::common::Result<String> {
    let mut parts: Vec<String> = sources.iter().map(|source| source_text(source)).collect();
    parts.extend(stateful::fingerprints(plan)?.into_iter().map(|(_, text)| text));
    Ok(parts.join("; "))
}

/// A source as fingerprints name it.
pub fn source_text(source: &SourceSpec) -> String {
    match &source.kind {
        SourceKind::Files(files) => format!("files {} {}", files.format.to_lowercase(), source.title),
        SourceKind::Table(_) => format!("table {}", source.title),
    }
}
