//! Operators with state take the place of DataFusion's over streams.
//!
//! Done after the analyzer, so that types are settled, and before the optimizer, so that nothing splits them.

use std::sync::Arc;

use alluvium_parser::OutputMode;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{
    Aggregate, Cast, Distinct, Expr, ExprSchemable, Extension, FetchType, Join, LogicalPlan, LogicalPlanBuilder,
    UserDefinedLogicalNode,
};

use super::distinct::{Marked, marked};
use super::event_time::{bounded_column, bounded_key, lag_us};
use super::grouping::{Grouped, all_keys, grouped};
use super::late::kept;
use super::stream_join::{self, StreamJoin, is_of_streams};
use super::{panes, session};
use crate::as_typed::shown;
use crate::bind::first_stream;
use crate::ddl::sql_type;
use crate::errors::without_stand_ins;
use crate::functions::arithmetic::plain_arithmetic;
use crate::functions::markers::set_apart;
use crate::functions::time_window::windows_of_pane;
use crate::node::{
    ExpandNode, Forget, JoinSide, LateRowsNode, StreamAggregateNode, StreamDeduplicateNode, StreamJoinNode,
    StreamLimitNode, StreamMarkNode, StreamSessionNode, WatermarkNode,
};
use crate::plan::{OperatorInfo, RowLimit, WatermarkInfo};
use crate::relation::SourceSpec;
use crate::windows::WINDOW_COLUMN;

/// Aggregates whose state holds every value of a key.
const UNBOUNDED: [&str; 11] = [
    "array_agg",
    "collect_list",
    "collect_set",
    "median",
    "mode",
    "nth_value",
    "percentile",
    "percentile_approx",
    "percentile_cont",
    "quantile_cont",
    "string_agg",
];

/// What [`with_state`] found.
pub(super) struct Stateful {
    /// The plan with stateful nodes.
    pub plan: LogicalPlan,
    /// What they keep, by operator number.
    pub operators: Vec<OperatorInfo>,
    /// The watermarks, by number.
    pub watermarks: Vec<WatermarkInfo>,
}

/// Puts stateful nodes in the place of aggregates over streams and joins of two, and numbers them and the watermarks.
/// `sources`: those of the query; `keep_late`: rows that come too late are kept.
pub(super) fn with_state(
    plan: LogicalPlan,
    mode: OutputMode,
    sources: &[Arc<SourceSpec>],
    keep_late: Option<&SessionState>,
) -> Result<Stateful> {
    let (mut operators, mut watermarks) = (Vec::new(), Vec::new());
    let plan = plan.transform_up(|node| match node {
        LogicalPlan::Aggregate(aggregate) if session::is_over_sessions(&aggregate) => {
            let aggregate = keeping_late(aggregate, mode, keep_late)?;
            let node = session::node(operators.len() as u32, aggregate, mode);
            operators.push(session::info(&node));
            Ok(Transformed::yes(extension(node)))
        }
        LogicalPlan::Aggregate(aggregate) if first_stream(&aggregate.input).is_some() => {
            let schema = aggregate.schema.clone();
            let aggregate = keeping_late(aggregate, mode, keep_late)?;
            let Grouped { input, keys: group_expr, aggregates } = grouped(aggregate)?;
            let time = bounded_key(&group_expr, &input);
            let lag_us = time.map_or(0, |key| lag_us(&group_expr[key], &input));
            let values = aggregates.iter().map(shown).collect();
            let forgotten = time.filter(|_| mode != OutputMode::Complete);
            let marked = marked(input, &group_expr, aggregates, (forgotten, lag_us), operators.len() as u32)?;
            operators.extend(marked.marks.iter().map(info_of_mark));
            let Marked { input, aggregates: aggr_expr, .. } = marked;
            let operator = operators.len() as u32;
            let node =
                StreamAggregateNode { operator, input, group_expr, aggr_expr, schema, mode, time, lag_us, panes: None };
            let node = panes::over_panes(node)?;
            operators.push(OperatorInfo { values, ..info(&node) });
            Ok(Transformed::yes(extension(node)))
        }
        LogicalPlan::Distinct(Distinct::All(input)) if first_stream(&input).is_some() => {
            let operator = operators.len() as u32;
            let node = match mode {
                OutputMode::Append => {
                    let on = input.schema().columns().into_iter().map(Expr::Column).collect();
                    let node = deduplicate(operator, Arc::unwrap_or_clone(input), on, None);
                    let node = deduplicate_keeping_late(node, keep_late)?;
                    operators.push(info_of_deduplicate(&node, "distinct"));
                    extension(node)
                }
                _ => {
                    let node = distinct(operator, Arc::unwrap_or_clone(input), mode)?;
                    operators.push(info(&node));
                    extension(node)
                }
            };
            Ok(Transformed::yes(node))
        }
        LogicalPlan::Join(join) if is_of_streams(&join) => {
            let StreamJoin { on, filter, mut sides } = StreamJoin::of(&join)?;
            if mode != OutputMode::Append {
                // The aggregate above has all rows in its result, late ones too, so no row is ever left out or forgotten.
                for side in &mut sides {
                    (side.hold_us, side.late) = (None, None);
                }
            }
            let Join { left, right, join_type, schema, .. } = join;
            let side_of = |input: Arc<LogicalPlan>, side: &JoinSide| {
                let input = Arc::unwrap_or_clone(input);
                let Some(time) = side.late.as_ref().filter(|_| keep_late.is_some()) else { return Ok(input) };
                // So that what the join stores of a row is what it needs, whatever is kept of late ones.
                let all: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
                LogicalPlanBuilder::from(kept(input, time, side.lag_us, keep_late)?).project(all)?.build()
            };
            let (left, right) = (side_of(left, &sides[0])?, side_of(right, &sides[1])?);
            let operator = operators.len() as u32;
            let node = StreamJoinNode { operator, left, right, join_type, on, filter, sides, schema };
            operators.push(stream_join::info(&node, mode));
            Ok(Transformed::yes(extension(node)))
        }
        LogicalPlan::Limit(ref limit) if mode == OutputMode::Append && first_stream(&limit.input).is_some() => {
            let FetchType::Literal(Some(rows)) = limit.get_fetch_type()? else { return Ok(Transformed::no(node)) };
            let input = limit.input.as_ref().clone();
            let node = StreamLimitNode { operator: operators.len() as u32, input, rows: rows as u64 };
            operators.push(info_of_limit(&node));
            Ok(Transformed::yes(extension(node)))
        }
        LogicalPlan::Extension(ref known) => {
            if let Some(node) = known.node.as_any().downcast_ref::<WatermarkNode>() {
                let number = watermarks.len() as u32;
                let seen = super::event_time::sources_below(&node.input, sources)?;
                let skews = seen.iter().filter_map(|at| sources[*at].event_time().max_future_skew);
                let max_future_us = skews.min().map(|skew| i64::try_from(skew.as_micros()).unwrap_or(i64::MAX));
                let column = sql_text(&node.column);
                watermarks.push(WatermarkInfo { column, delay_us: node.delay_us, sources: seen });
                return Ok(Transformed::yes(extension(WatermarkNode { number, max_future_us, ..node.clone() })));
            }
            if let Some(node) = known.node.as_any().downcast_ref::<StreamDeduplicateNode>() {
                let within = match node.forget {
                    Forget::After(delay) => Some(delay),
                    Forget::Never | Forget::Passed(_) => None,
                };
                let node = deduplicate(operators.len() as u32, node.input.clone(), node.on.clone(), within);
                let node = deduplicate_keeping_late(node, keep_late)?;
                operators.push(info_of_deduplicate(&node, "deduplicate"));
                return Ok(Transformed::yes(extension(node)));
            }
            Ok(Transformed::no(node))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(Stateful { plan: plan.data, operators, watermarks })
}

/// An aggregate whose late rows are kept, before they are repeated for each of its grouping sets.
fn keeping_late(aggregate: Aggregate, mode: OutputMode, wanted: Option<&SessionState>) -> Result<Aggregate> {
    let time = bounded_key(&aggregate.group_expr, &aggregate.input).filter(|_| mode != OutputMode::Complete);
    let time = match time {
        Some(at) => all_keys(&aggregate.group_expr)?.get(at).map(|key| (*key).clone()),
        None => None,
    };
    let Some(time) = time else { return Ok(aggregate) };
    let Aggregate { input, group_expr, aggr_expr, schema, .. } = aggregate;
    let lag_us = lag_us(&time, &input);
    let input = kept(Arc::unwrap_or_clone(input), &time, lag_us, wanted)?;
    Aggregate::try_new_with_schema(Arc::new(input), group_expr, aggr_expr, schema)
}

fn deduplicate_keeping_late(
    node: StreamDeduplicateNode,
    wanted: Option<&SessionState>,
) -> Result<StreamDeduplicateNode> {
    match node.time.clone() {
        Some(time) => Ok(StreamDeduplicateNode { input: kept(node.input, &time, node.lag_us, wanted)?, ..node }),
        None => Ok(node),
    }
}

fn extension(node: impl UserDefinedLogicalNode + 'static) -> LogicalPlan {
    LogicalPlan::Extension(Extension { node: Arc::new(node) })
}

/// The first row of each of `on`; `within`: the delay of WITHIN WATERMARK.
fn deduplicate(operator: u32, input: LogicalPlan, on: Vec<Expr>, within: Option<i64>) -> StreamDeduplicateNode {
    let forget = match (within, bounded_key(&on, &input)) {
        (Some(delay), _) => Forget::After(delay),
        (None, Some(key)) => Forget::Passed(key),
        (None, None) => Forget::Never,
    };
    let time = match forget {
        Forget::Passed(key) => on.get(key).cloned(),
        _ => bounded_column(&input).map(Expr::Column),
    };
    let lag_us = time.as_ref().map_or(0, |time| lag_us(time, &input));
    StreamDeduplicateNode { operator, input, on, time, forget, lag_us }
}

/// Different rows, as groups without aggregates.
fn distinct(operator: u32, input: LogicalPlan, mode: OutputMode) -> Result<StreamAggregateNode> {
    let group_expr: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
    let time = bounded_key(&group_expr, &input);
    let lag_us = time.map_or(0, |key| lag_us(&group_expr[key], &input));
    let schema = input.schema().clone();
    let aggr_expr = Vec::new();
    Ok(StreamAggregateNode { operator, input, group_expr, aggr_expr, schema, mode, time, lag_us, panes: None })
}

/// Fingerprints of the stateful nodes, by operator number.
pub(super) fn fingerprints(plan: &LogicalPlan) -> Result<Vec<(u32, String)>> {
    let mut found = Vec::new();
    plan.apply(|node| {
        if let LogicalPlan::Extension(extension) = node {
            let node = extension.node.as_any();
            if let Some(node) = node.downcast_ref::<StreamAggregateNode>() {
                found.push((node.operator, fingerprint(node)));
            }
            if let Some(node) = node.downcast_ref::<StreamDeduplicateNode>() {
                found.push((node.operator, fingerprint_of_deduplicate(node)));
            }
            if let Some(node) = node.downcast_ref::<StreamMarkNode>() {
                found.push((node.operator, fingerprint_of_mark(node)));
            }
            if let Some(node) = node.downcast_ref::<StreamSessionNode>() {
                found.push((node.operator, session::fingerprint(node)));
            }
            if let Some(node) = node.downcast_ref::<StreamJoinNode>() {
                found.push((node.operator, stream_join::fingerprint(node)));
            }
            if let Some(node) = node.downcast_ref::<StreamLimitNode>() {
                // Another number goes on from what was let through.
                found.push((node.operator, "limit".to_string()));
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    found.sort();
    Ok(found)
}

/// The LIMIT that everything passes, with nothing above it that gives more or fewer rows than it lets through.
pub(super) fn limit_on_top(plan: &LogicalPlan) -> Option<RowLimit> {
    match plan {
        LogicalPlan::Projection(projection) => limit_on_top(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => limit_on_top(&alias.input),
        LogicalPlan::Filter(filter) => limit_on_top(&filter.input),
        LogicalPlan::Extension(extension) => {
            let node = extension.node.as_any().downcast_ref::<StreamLimitNode>()?;
            Some(RowLimit { operator: node.operator, rows: node.rows })
        }
        _ => None,
    }
}

/// What the joins of an optimized plan store of a row, by operator number: columns that nothing needs are not kept.
pub(super) fn stored_columns(plan: &LogicalPlan) -> Result<Vec<(u32, String)>> {
    let mut found = Vec::new();
    plan.apply(|node| {
        if let LogicalPlan::Extension(extension) = node
            && let Some(node) = extension.node.as_any().downcast_ref::<StreamJoinNode>()
        {
            found.push((node.operator, stream_join::stored_columns(node)));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    found.sort();
    Ok(found)
}

fn info(node: &StreamAggregateNode) -> OperatorInfo {
    OperatorInfo {
        kind: "aggregate",
        keys: node.group_expr.iter().enumerate().map(|(at, key)| key_of(node, at, key)).collect(),
        values: node.aggr_expr.iter().map(shown).collect(),
        bounded_by: match (node.group_expr.is_empty(), node.time.and_then(|key| node.group_expr.get(key)), node.mode) {
            (true, ..) => "one row".to_string(),
            (false, Some(key), OutputMode::Append | OutputMode::Update) => {
                format!("the watermark: {} is over", shown(&defined(key, &node.input)))
            }
            _ => "number of distinct keys".to_string(),
        },
        unbounded: node.aggr_expr.iter().filter(|expr| grows(expr)).map(shown).collect(),
    }
}

/// A key as SQL; a sliding window's are kept by pane.
fn key_of(node: &StreamAggregateNode, at: usize, key: &Expr) -> String {
    let text = shown(&defined(key, &node.input));
    match node.panes {
        Some(panes) if panes.key == at => format!("panes of {text}"),
        _ => text,
    }
}

fn info_of_limit(node: &StreamLimitNode) -> OperatorInfo {
    OperatorInfo {
        kind: "limit",
        keys: Vec::new(),
        values: vec![format!("how many of {} rows came out", node.rows)],
        bounded_by: "one number".to_string(),
        unbounded: Vec::new(),
    }
}

fn info_of_deduplicate(node: &StreamDeduplicateNode, kind: &'static str) -> OperatorInfo {
    OperatorInfo {
        kind,
        keys: node.on.iter().map(shown).collect(),
        values: match node.forget {
            Forget::After(_) => vec!["until when".to_string()],
            Forget::Never | Forget::Passed(_) => vec!["nothing".to_string()],
        },
        bounded_by: match node.forget {
            Forget::Never => "number of distinct keys".to_string(),
            Forget::Passed(key) => match node.on.get(key) {
                Some(key) => format!("the watermark: {} is past", shown(key)),
                None => "the watermark".to_string(),
            },
            Forget::After(_) => "the watermark: the delay after a key's first row is past".to_string(),
        },
        unbounded: Vec::new(),
    }
}

fn info_of_mark(node: &StreamMarkNode) -> OperatorInfo {
    OperatorInfo {
        kind: "distinct values",
        keys: node.on.iter().map(|key| shown(&defined(key, &node.input))).collect(),
        values: vec!["nothing".to_string()],
        bounded_by: match node.time.and_then(|key| node.on.get(key)) {
            Some(key) => format!("the watermark: {} is over", shown(&defined(key, &node.input))),
            None => "number of distinct keys".to_string(),
        },
        unbounded: Vec::new(),
    }
}

pub(super) fn grows(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => grows(&alias.expr),
        Expr::AggregateFunction(function) => UNBOUNDED.contains(&function.func.name()),
        _ => false,
    }
}

/// Grouping columns and aggregates with their types, of which `exprs` are those from `from` on.
pub(super) fn typed(exprs: &[Expr], from: usize, input: &LogicalPlan, schema: &DFSchema) -> String {
    exprs
        .iter()
        .enumerate()
        .map(|(at, expr)| (exact_text(&defined(expr, input)), schema.field(from + at).data_type()))
        .map(|(text, data_type)| format!("{text} {}", sql_type(data_type)))
        .collect::<Vec<_>>()
        .join(", ")
}

fn fingerprint(node: &StreamAggregateNode) -> String {
    let typed = |exprs: &[Expr], from: usize| typed(exprs, from, &node.input, &node.schema);
    format!(
        "aggregate keys=[{}] values=[{}]{}",
        typed(&node.group_expr, 0),
        typed(&node.aggr_expr, node.group_expr.len()),
        evicts(node)
    )
}

/// Groups that came out are gone: another mode would miss them.
pub(super) fn evicts(node: &StreamAggregateNode) -> String {
    match (node.mode, node.time, node.panes) {
        (OutputMode::Append, Some(key), None) => format!(" until={key}"),
        (OutputMode::Append, Some(key), Some(_)) => format!(" until={key} by panes"),
        (OutputMode::Update, Some(key), None) => format!(" updated until={key}"),
        (OutputMode::Update, Some(key), Some(_)) => format!(" updated until={key} by panes"),
        _ => String::new(),
    }
}

fn fingerprint_of_deduplicate(node: &StreamDeduplicateNode) -> String {
    let schema = node.input.schema();
    let key = |expr: &Expr| match expr.get_type(schema) {
        Ok(data_type) => format!("{} {}", exact_text(expr), sql_type(&data_type)),
        Err(_) => exact_text(expr),
    };
    let until = match node.forget {
        Forget::Never => String::new(),
        Forget::Passed(key) => format!(" until={key}"),
        Forget::After(_) => " within the watermark".to_string(),
    };
    format!("aggregate of first rows keys=[{}]{until}", node.on.iter().map(key).collect::<Vec<_>>().join(", "))
}

fn fingerprint_of_mark(node: &StreamMarkNode) -> String {
    let schema = node.input.schema();
    let key = |expr: &Expr| {
        let text = exact_text(&defined(expr, &node.input));
        match expr.get_type(schema) {
            Ok(data_type) => format!("{text} {}", sql_type(&data_type)),
            Err(_) => text,
        }
    };
    let condition = node.condition.as_ref().map_or(String::new(), |expr| format!(" where {}", exact_text(expr)));
    let until = node.time.map_or(String::new(), |key| format!(" until={key}"));
    format!("distinct values keys=[{}]{condition}{until}", node.on.iter().map(key).collect::<Vec<_>>().join(", "))
}

/// A key as it was typed: a column of windows stands for the call that cuts them.
pub(crate) fn defined(key: &Expr, input: &LogicalPlan) -> Expr {
    let projection = match input {
        LogicalPlan::Extension(extension) => {
            let node = extension.node.as_any();
            if let Some(node) = node.downcast_ref::<StreamMarkNode>() {
                return defined(key, &node.input);
            }
            if let Some(node) = node.downcast_ref::<LateRowsNode>() {
                return defined(key, &node.input);
            }
            return match (node.downcast_ref::<ExpandNode>(), key) {
                (Some(node), Expr::Column(column)) => {
                    node.key_of(column).map_or_else(|| key.clone(), |key| defined(key, &node.input))
                }
                _ => key.clone(),
            };
        }
        LogicalPlan::Projection(projection) => projection,
        LogicalPlan::Unnest(unnest) => return defined(key, &unnest.input),
        _ => return key.clone(),
    };
    let definition = |column: &Column| {
        let named = |expr: &&Expr| matches!(expr, Expr::Alias(alias) if alias.name == column.name);
        let windows = column.relation.is_none() && column.name.starts_with(WINDOW_COLUMN);
        projection.expr.iter().find(named).filter(|_| windows).map(|expr| windows_of_pane(expr.clone().unalias()))
    };
    let shown = key.clone().unalias().transform_up(|expr| match &expr {
        Expr::Column(column) => match definition(column) {
            Some(definition) => Ok(Transformed::yes(definition)),
            None => Ok(Transformed::no(expr)),
        },
        _ => Ok(Transformed::no(expr)),
    });
    shown.map_or_else(|_| key.clone(), |shown| shown.data)
}

/// An expression as a reader would write it: no qualifiers, no alias around it, no casts that only widen a column.
pub(crate) fn sql_text(expr: &Expr) -> String {
    text_of(expr, |expr| match expr {
        Expr::Cast(cast) if is_widened(&cast) => *cast.expr,
        other => other,
    })
}

/// A column in a wider type, which is as good for readers.
pub(crate) fn is_widened(cast: &Cast) -> bool {
    let wide = matches!(cast.field.data_type(), DataType::Int64 | DataType::UInt64 | DataType::Float64);
    wide && matches!(*cast.expr, Expr::Column(_))
}

/// The same with every cast: two texts are equal only if they compute the same.
pub(super) fn exact_text(expr: &Expr) -> String {
    text_of(expr, |expr| expr)
}

fn text_of(expr: &Expr, shorten: impl Fn(Expr) -> Expr) -> String {
    let bare = expr.clone().unalias().transform(|expr| match shorten(expr) {
        Expr::Column(mut column) => {
            column.relation = None;
            Ok(Transformed::yes(Expr::Column(column)))
        }
        Expr::ScalarFunction(ref call) if set_apart(call).is_some() => {
            Ok(Transformed::yes(Expr::Column(Column::new_unqualified(set_apart(call).unwrap_or_default()))))
        }
        // Checked arithmetic reads, and is remembered in checkpoints, as the operators that were typed.
        other => Ok(match plain_arithmetic(&other) {
            Some(operation) => Transformed::yes(operation),
            None => Transformed::no(other),
        }),
    });
    let text = match bare {
        Ok(bare) => bare.data.human_display().to_string(),
        Err(_) => expr.to_string(),
    };
    without_stand_ins(&text)
}
