//! Which columns of a plan the watermark bounds.
//!
//! A column does that WATERMARK names, a window or session of one, its end and its last instant; a projection, join, union or
//! grouping hands it on, any other expression loses it. A later WATERMARK takes the place of an earlier one. A join of two
//! streams gives rows out later than it read them: behind it a column stays behind the watermark by a lag, or loses event
//! time where the join holds rows for ever (`stream_join.rs`).

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::scalar::ScalarValue;

use super::grouping::{all_keys, is_in_every_set};
use super::stream_join::{StreamJoin, is_of_streams, joined_times};
use crate::bind::stream_of;
use crate::functions::session_window::is_session;
use crate::functions::time_window::{is_window, is_window_time};
use crate::node::{
    ExpandNode, LateRowsNode, StreamAggregateNode, StreamDeduplicateNode, StreamJoinNode, StreamLimitNode,
    StreamMarkNode, StreamSessionNode, WatermarkNode,
};
use crate::relation::SourceSpec;

/// What a column tells of event time. Once the watermark is W, no row comes any more that is at or before W less the lag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EventTime {
    /// What its values are.
    pub kind: Kind,
    /// How far rows may stay behind the watermark, in microseconds.
    pub lag_us: i64,
}

/// What the values of a column of event time are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An instant: rows at or before the watermark are late.
    Instant,
    /// A window: it is over when the watermark reaches its end.
    Window,
}

impl EventTime {
    /// An instant that the watermark bounds as it is.
    const NOW: EventTime = EventTime { kind: Kind::Instant, lag_us: 0 };

    /// What rows tell that tell this or `other`.
    fn or(self, other: EventTime) -> Option<EventTime> {
        (self.kind == other.kind).then_some(EventTime { lag_us: self.lag_us.max(other.lag_us), ..self })
    }
}

/// For each column of `plan`'s result what it tells of event time.
pub(super) fn event_times(plan: &LogicalPlan) -> Vec<Option<EventTime>> {
    match plan {
        LogicalPlan::Extension(extension) => {
            let node = extension.node.as_any();
            if let Some(node) = node.downcast_ref::<WatermarkNode>() {
                let columns = node.input.schema().columns();
                return columns
                    .iter()
                    .map(|column| (node.column == Expr::Column(column.clone())).then_some(EventTime::NOW))
                    .collect();
            }
            if let Some(node) = node.downcast_ref::<StreamAggregateNode>() {
                return grouped(&node.group_expr, node.schema.fields().len(), &node.input);
            }
            if let Some(node) = node.downcast_ref::<StreamSessionNode>() {
                return grouped(&node.group_expr, node.schema.fields().len(), &node.input);
            }
            if let Some(node) = node.downcast_ref::<StreamDeduplicateNode>() {
                return event_times(&node.input);
            }
            if let Some(node) = node.downcast_ref::<StreamLimitNode>() {
                return event_times(&node.input);
            }
            if let Some(node) = node.downcast_ref::<StreamJoinNode>() {
                return joined_times(&node.left, &node.right, &node.sides, node.join_type);
            }
            if let Some(node) = node.downcast_ref::<LateRowsNode>() {
                return event_times(&node.input);
            }
            if let Some(node) = node.downcast_ref::<StreamMarkNode>() {
                return [event_times(&node.input), vec![None]].concat();
            }
            if let Some(node) = node.downcast_ref::<ExpandNode>() {
                let below = Known::of(&node.input);
                let kept = |at: usize| node.sets.iter().all(|set| !set.without[at]);
                let keys = node.keys.iter().enumerate().map(|(at, key)| below.event_time(key).filter(|_| kept(at)));
                return below.times.iter().copied().chain(keys).chain([None]).collect();
            }
            vec![None; plan.schema().fields().len()]
        }
        LogicalPlan::Projection(projection) => {
            let below = Known::of(&projection.input);
            projection.expr.iter().map(|expr| below.event_time(expr)).collect()
        }
        LogicalPlan::Aggregate(aggregate) => {
            grouped(&aggregate.group_expr, aggregate.schema.fields().len(), &aggregate.input)
        }
        LogicalPlan::SubqueryAlias(alias) => event_times(&alias.input),
        LogicalPlan::Filter(filter) => event_times(&filter.input),
        LogicalPlan::Distinct(distinct) => match distinct {
            datafusion::logical_expr::Distinct::All(input) => event_times(input),
            datafusion::logical_expr::Distinct::On(on) => {
                let below = Known::of(&on.input);
                on.select_expr.iter().map(|expr| below.event_time(expr)).collect()
            }
        },
        LogicalPlan::Unnest(unnest) => {
            let below = event_times(&unnest.input);
            unnest.dependency_indices.iter().map(|at| below.get(*at).copied().flatten()).collect()
        }
        LogicalPlan::Union(union) => {
            let mut branches = union.inputs.iter().map(|input| event_times(input));
            let Some(mut all) = branches.next() else { return Vec::new() };
            for branch in branches {
                for (known, other) in all.iter_mut().zip(branch) {
                    *known = known.zip(other).and_then(|(known, other)| known.or(other));
                }
            }
            all
        }
        LogicalPlan::Join(join) if is_of_streams(join) => match StreamJoin::of(join) {
            Ok(known) => joined_times(&join.left, &join.right, &known.sides, join.join_type),
            Err(_) => vec![None; plan.schema().fields().len()],
        },
        LogicalPlan::Join(join) => {
            let (left, right) = (Known::of(&join.left), Known::of(&join.right));
            let columns = plan.schema().columns();
            columns.iter().map(|column| left.column(column).or_else(|| right.column(column)).flatten()).collect()
        }
        _ => vec![None; plan.schema().fields().len()],
    }
}

/// The first of `keys` over `input` that the watermark bounds.
pub(super) fn bounded_key(keys: &[Expr], input: &LogicalPlan) -> Option<usize> {
    key_times(keys, input).iter().position(Option::is_some)
}

/// How far rows may stay behind the watermark by `key`, in microseconds.
pub(super) fn lag_us(key: &Expr, input: &LogicalPlan) -> i64 {
    Known::of(input).event_time(key).map_or(0, |time| time.lag_us)
}

/// The first column of `plan`'s result that the watermark bounds.
pub(super) fn bounded_column(plan: &LogicalPlan) -> Option<Column> {
    let at = event_times(plan).iter().position(Option::is_some)?;
    plan.schema().columns().into_iter().nth(at)
}

/// Whether `plan` reads a stream with a watermark.
pub(super) fn has_watermark(plan: &LogicalPlan) -> bool {
    is_watermark(plan).is_some() || plan.inputs().into_iter().any(has_watermark)
}

/// Which of `sources` a plan reads, by their positions.
pub(super) fn sources_below(plan: &LogicalPlan, sources: &[Arc<SourceSpec>]) -> Result<Vec<usize>> {
    let mut found = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let Some(spec) = stream_of(node)
            && let Some(at) = sources.iter().position(|known| Arc::ptr_eq(known, &spec))
            && !found.contains(&at)
        {
            found.push(at);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// The watermark this very node is.
pub(crate) fn is_watermark(plan: &LogicalPlan) -> Option<&WatermarkNode> {
    match plan {
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref::<WatermarkNode>(),
        _ => None,
    }
}

fn grouped(keys: &[Expr], columns: usize, input: &LogicalPlan) -> Vec<Option<EventTime>> {
    let mut times = key_times(keys, input);
    times.resize(columns, None);
    times
}

/// What each grouping key tells. One that some grouping set leaves out is NULL there, and tells nothing.
fn key_times(group_expr: &[Expr], input: &LogicalPlan) -> Vec<Option<EventTime>> {
    let below = Known::of(input);
    let keys = all_keys(group_expr).unwrap_or_default();
    keys.into_iter().map(|key| below.event_time(key).filter(|_| is_in_every_set(key, group_expr))).collect()
}

/// Columns below, with what they tell.
pub(super) struct Known {
    columns: Vec<Column>,
    times: Vec<Option<EventTime>>,
}

impl Known {
    /// The columns of `plan`'s result.
    pub fn of(plan: &LogicalPlan) -> Known {
        Known { columns: plan.schema().columns(), times: event_times(plan) }
    }

    /// None where there is no such column here.
    fn column(&self, column: &Column) -> Option<Option<EventTime>> {
        let at = self.columns.iter().position(|known| known == column)?;
        self.times.get(at).copied()
    }

    /// What an expression over these columns tells.
    pub fn event_time(&self, expr: &Expr) -> Option<EventTime> {
        match expr {
            Expr::Alias(alias) => self.event_time(&alias.expr),
            Expr::Column(column) => {
                let unqualified = || {
                    let mut of_name = self.columns.iter().filter(|known| known.name == column.name);
                    let found = of_name.next()?;
                    if of_name.next().is_some() || column.relation.is_some() { None } else { self.column(found) }
                };
                self.column(column).or_else(unqualified).flatten()
            }
            Expr::Cast(cast) if matches!(cast.field.data_type(), DataType::Timestamp(_, _)) => {
                self.event_time(&cast.expr).filter(|time| time.kind == Kind::Instant)
            }
            Expr::ScalarFunction(call) => {
                let time = self.event_time(call.args.first()?)?;
                if is_window(expr) || is_session(expr) {
                    return Some(EventTime { kind: Kind::Window, ..time });
                }
                let end = call.func.name() == "get_field"
                    && matches!(call.args.get(1), Some(Expr::Literal(ScalarValue::Utf8(Some(name)), _)) if name == "end");
                let instant = (is_window_time(expr) || end) && time.kind == Kind::Window;
                instant.then_some(EventTime { kind: Kind::Instant, ..time })
            }
            _ => None,
        }
    }
}
