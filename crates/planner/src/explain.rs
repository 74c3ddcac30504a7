//! EXPLAIN: a streaming plan as text.
//!
//! The text is for people and stable enough to be compared; nothing parses it.

use std::fmt;
use std::fmt::Write;
use std::time::Duration;

use alluvium_parser::OutputMode;
use datafusion::common::JoinType;
use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::as_typed::{as_typed, shown};
use crate::bind::stream_of;
use crate::errors::without_stand_ins;
use crate::node::{
    ExpandNode, GroupingSet, LateRowsNode, StreamAggregateNode, StreamDeduplicateNode, StreamJoinNode, StreamLimitNode,
    StreamMarkNode, StreamSessionNode, WatermarkNode,
};
use crate::options::StartingVersion;
use crate::plan::{INNER_JOIN, StreamingPlan, WatermarkInfo};
use crate::relation::{SourceKind, SourceSpec};
use crate::streaming::defined;
use crate::windows::WINDOW_COLUMN;

impl fmt::Display for StreamingPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Streaming query")?;
        writeln!(f, "  output mode: {} ({})", word(self.mode), meaning(self.mode))?;
        let outer = |kind: &str| kind.ends_with(" join") && kind != INNER_JOIN;
        let aggregates = self.operators.iter().filter(|operator| ["aggregate", "session"].contains(&operator.kind));
        let complete = aggregates.count() == 1 && !self.operators.iter().any(|operator| outer(operator.kind));
        // Where no aggregate decides on the rows, UPDATE is APPEND.
        let update = self.upsert.is_some() || self.operators.iter().all(|operator| operator.kind == "deduplicate");
        let legal = match (self.mode, complete) {
            (OutputMode::Append, true) => "APPEND, COMPLETE",
            (OutputMode::Append | OutputMode::Update, false) => "APPEND",
            _ => "COMPLETE",
        };
        let legal = if update { format!("{legal}, UPDATE") } else { legal.to_string() };
        writeln!(f, "  legal output modes: {legal}")?;
        let watermarks = self.watermarks.iter().map(|watermark| watermark.to_string()).collect::<Vec<_>>();
        let watermark = if watermarks.is_empty() { "none".to_string() } else { watermarks.join("; ") };
        writeln!(f, "  watermark: {watermark}")?;
        writeln!(f, "Sources")?;
        for (at, source) in self.sources.iter().enumerate() {
            writeln!(f, "  {at}: {}: {}", source.title, described(source))?;
        }
        writeln!(f, "Stateful operators")?;
        if self.operators.is_empty() {
            writeln!(f, "  none: every row is worked on by itself")?;
        }
        for (at, operator) in self.operators.iter().enumerate() {
            writeln!(f, "  {at}: {}", operator.kind)?;
            let keys = if operator.keys.is_empty() { "none".to_string() } else { operator.keys.join(", ") };
            writeln!(f, "     keys: {keys}")?;
            let values = if operator.values.is_empty() { "nothing".to_string() } else { operator.values.join(", ") };
            writeln!(f, "     keeps per key: {values}")?;
            writeln!(f, "     why: results go on across epochs")?;
            writeln!(f, "     bounded by: {}", operator.bounded_by)?;
            if !operator.unbounded.is_empty() {
                writeln!(f, "     grows with the input: {}", operator.unbounded.join(", "))?;
            }
        }
        writeln!(f, "Plan, each epoch")?;
        let mut plan = String::new();
        tree(&self.plan, 1, &mut plan)?;
        f.write_str(&as_typed(&plan))
    }
}

impl fmt::Display for WatermarkInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let delay = Duration::from_micros(self.delay_us.unsigned_abs());
        write!(f, "{} behind the greatest {}", Length(delay), self.column)
    }
}

/// A length of time in the largest unit that divides it.
pub(crate) struct Length(pub Duration);

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        let units = [(86_400_000_000, "day"), (3_600_000_000, "hour"), (60_000_000, "minute"), (1_000_000, "second")];
        let unit = units.into_iter().find(|(unit, _)| micros.is_multiple_of(*unit) && micros > 0);
        let (unit, name) = unit.unwrap_or((1000, "millisecond"));
        if !micros.is_multiple_of(1000) {
            return write!(f, "{micros} microseconds");
        }
        let count = micros / unit;
        write!(f, "{count} {name}{}", if count == 1 { "" } else { "s" })
    }
}

fn word(mode: OutputMode) -> &'static str {
    match mode {
        OutputMode::Append => "APPEND",
        OutputMode::Complete => "COMPLETE",
        OutputMode::Update => "UPDATE",
    }
}

fn meaning(mode: OutputMode) -> &'static str {
    match mode {
        OutputMode::Append => "each epoch adds rows",
        OutputMode::Complete => "each epoch replaces the table by the whole result",
        OutputMode::Update => "each epoch replaces the rows that changed",
    }
}

fn described(source: &SourceSpec) -> String {
    let (mut text, files, bytes) = match &source.kind {
        SourceKind::Files(files) => {
            let schema = if files.inferred { "schema inferred" } else { "schema given" };
            let options = &files.options;
            let mut text = format!("new {} files, {schema}", files.format.to_lowercase());
            if let Some(glob) = &options.path_glob_filter {
                text.push_str(&format!(", named {glob}"));
            }
            if !options.include_existing_files {
                text.push_str(", without those there at the first start");
            }
            (text, options.max_files_per_trigger, options.max_bytes_per_trigger)
        }
        SourceKind::Table(table) => {
            let options = &table.options;
            let mut text = match options.starting_version {
                None => "the table's rows, then what is added".to_string(),
                Some(StartingVersion::Latest) => "what is added from now on".to_string(),
                Some(StartingVersion::At(version)) => format!("what is added from version {version} on"),
            };
            if options.skip_change_commits {
                text.push_str(", commits that change rows skipped");
            }
            (text, options.max_files_per_trigger, options.max_bytes_per_trigger)
        }
    };
    match (files, bytes) {
        (None, None) => text.push_str(", at most 1000 files an epoch"),
        (Some(u64::MAX), None) => text.push_str(", any number of files an epoch"),
        (Some(files), None) => text.push_str(&format!(", at most {files} files an epoch")),
        (None, Some(bytes)) => text.push_str(&format!(", about {bytes} bytes an epoch")),
        (Some(files), Some(bytes)) => {
            text.push_str(&format!(", at most {files} files or about {bytes} bytes an epoch"));
        }
    }
    text
}

fn tree(plan: &LogicalPlan, depth: usize, f: &mut String) -> fmt::Result {
    // An alias names, and does nothing.
    if let LogicalPlan::SubqueryAlias(alias) = plan {
        return tree(&alias.input, depth, f);
    }
    writeln!(f, "{:indent$}{}", "", line(plan), indent = depth * 2)?;
    plan.inputs().into_iter().try_for_each(|input| tree(input, depth + 1, f))
}

fn list(exprs: &[Expr]) -> String {
    exprs.iter().map(named).collect::<Vec<_>>().join(", ")
}

/// Keys as they were typed, whatever columns stand for them.
fn keys_of(keys: &[Expr], input: &LogicalPlan) -> String {
    keys.iter().map(|key| shown(&defined(key, input))).collect::<Vec<_>>().join(", ")
}

fn named(expr: &Expr) -> String {
    let text = shown(expr);
    match expr {
        Expr::Alias(alias) if alias.name.starts_with(WINDOW_COLUMN) => text,
        Expr::Alias(alias) if as_typed(&alias.name) != text => format!("{text} AS {}", alias.name),
        _ => text,
    }
}

fn joined(what: &str, kind: JoinType, on: &[(Expr, Expr)], filter: Option<&Expr>) -> String {
    let mut on: Vec<String> = on.iter().map(|(left, right)| format!("{left} = {right}")).collect();
    on.extend(filter.map(|filter| filter.clone().unalias().to_string()));
    let on = if on.is_empty() { String::new() } else { format!(" ON {}", on.join(" AND ")) };
    without_stand_ins(&format!("{what} {kind}{on}"))
}

fn line(plan: &LogicalPlan) -> String {
    match plan {
        LogicalPlan::Projection(projection) => format!("Project {}", list(&projection.expr)),
        LogicalPlan::Filter(filter) => format!("Filter {}", shown(&filter.predicate)),
        LogicalPlan::TableScan(scan) => {
            let columns: Vec<&str> = scan.projected_schema.fields().iter().map(|field| field.name().as_str()).collect();
            let mut text = match stream_of(plan) {
                Some(spec) => format!("Stream {} [{}]", spec.title, columns.join(", ")),
                None => {
                    let name = scan.table_name.to_string();
                    let name = if name.starts_with("__relation_") { "(relation)".to_string() } else { name };
                    format!("Static {name} [{}], read anew each epoch", columns.join(", "))
                }
            };
            if !scan.filters.is_empty() {
                let _ = write!(text, ", where {}", scan.filters.iter().map(shown).collect::<Vec<_>>().join(" AND "));
            }
            text
        }
        LogicalPlan::Join(join) => joined("Join", join.join_type, &join.on, join.filter.as_ref()),
        LogicalPlan::Aggregate(aggregate) => {
            format!("Aggregate keys [{}], values [{}]", list(&aggregate.group_expr), list(&aggregate.aggr_expr))
        }
        LogicalPlan::Extension(extension) => {
            let node = extension.node.as_any();
            if let Some(node) = node.downcast_ref::<StreamAggregateNode>() {
                let panes = if node.panes.is_some() { " by panes" } else { "" };
                return format!(
                    "Stateful aggregate {}{panes} keys [{}], values [{}]",
                    node.operator,
                    keys_of(&node.group_expr, &node.input),
                    list(&node.aggr_expr)
                );
            }
            if let Some(node) = node.downcast_ref::<StreamSessionNode>() {
                let (keys, values) = (keys_of(&node.group_expr, &node.input), list(&node.aggr_expr));
                return format!("Stateful session {} keys [{keys}], values [{values}]", node.operator);
            }
            if let Some(node) = node.downcast_ref::<StreamDeduplicateNode>() {
                return format!("Stateful deduplicate {} keys [{}]", node.operator, list(&node.on));
            }
            if let Some(node) = node.downcast_ref::<StreamJoinNode>() {
                let what = format!("Stateful join {}", node.operator);
                return joined(&what, node.join_type, &node.on, node.filter.as_ref());
            }
            if let Some(node) = node.downcast_ref::<StreamLimitNode>() {
                return format!("Stateful limit {}: {} rows", node.operator, node.rows);
            }
            if let Some(node) = node.downcast_ref::<StreamMarkNode>() {
                let condition =
                    node.condition.as_ref().map_or(String::new(), |expr| format!(", where {}", shown(expr)));
                return format!(
                    "Stateful distinct values {} keys [{}]{condition}",
                    node.operator,
                    keys_of(&node.on, &node.input)
                );
            }
            if let Some(node) = node.downcast_ref::<LateRowsNode>() {
                return format!("Late rows by {} kept", shown(&node.time));
            }
            if let Some(node) = node.downcast_ref::<ExpandNode>() {
                let set = |set: &GroupingSet| {
                    let kept = node.keys.iter().zip(&set.without).filter(|(_, out)| !**out);
                    format!(
                        "({})",
                        kept.map(|(key, _)| shown(&defined(key, &node.input))).collect::<Vec<_>>().join(", ")
                    )
                };
                return format!("Grouping sets {}", node.sets.iter().map(set).collect::<Vec<_>>().join(", "));
            }
            if let Some(node) = node.downcast_ref::<WatermarkNode>() {
                return format!("Watermark {}", shown(&node.column));
            }
            without_stand_ins(&plan.display().to_string())
        }
        LogicalPlan::Sort(sort) => {
            let keys: Vec<String> = sort
                .expr
                .iter()
                .map(|key| format!("{}{}", shown(&key.expr), if key.asc { "" } else { " DESC" }))
                .collect();
            format!("Sort {}", keys.join(", "))
        }
        LogicalPlan::Union(_) => "Union all".to_string(),
        other => without_stand_ins(&other.display().to_string()),
    }
}
