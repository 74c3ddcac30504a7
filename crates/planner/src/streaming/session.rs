//! Aggregates over sessions of a stream: which they are, and what is told and remembered of them.

use std::sync::Arc;

use alluvium_parser::OutputMode;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan};

use super::event_time::lag_us;
use super::stateful::{grows, typed};
use crate::as_typed::shown;
use crate::bind::first_stream;
use crate::node::StreamSessionNode;
use crate::plan::OperatorInfo;
use crate::sessions::{session_call, session_keys};

/// Whether a stream's rows are grouped by the sessions they make.
pub(super) fn is_over_sessions(aggregate: &Aggregate) -> bool {
    first_stream(&aggregate.input).is_some() && !session_keys(&aggregate.group_expr, &aggregate.input).is_empty()
}

/// The same somewhere in a plan.
pub(super) fn has_sessions(plan: &LogicalPlan) -> bool {
    let here = matches!(plan, LogicalPlan::Aggregate(aggregate) if is_over_sessions(aggregate));
    here || plan.inputs().into_iter().any(has_sessions)
}

/// The operator that merges the sessions `aggregate` groups by.
pub(super) fn node(operator: u32, aggregate: Aggregate, mode: OutputMode) -> StreamSessionNode {
    let Aggregate { input, group_expr, aggr_expr, schema, .. } = aggregate;
    let session = session_keys(&group_expr, &input).first().copied().unwrap_or(0);
    let lag_us = group_expr.get(session).map_or(0, |key| lag_us(key, &input));
    let input = Arc::unwrap_or_clone(input);
    StreamSessionNode { operator, input, group_expr, aggr_expr, schema, mode, session, lag_us }
}

/// A key as it was typed: a column of sessions stands for the call that makes them.
fn typed_key(key: &Expr, node: &StreamSessionNode) -> Expr {
    session_call(key, &node.input).unwrap_or_else(|| key.clone())
}

pub(super) fn info(node: &StreamSessionNode) -> OperatorInfo {
    OperatorInfo {
        kind: "session",
        keys: node.group_expr.iter().map(|key| shown(&typed_key(key, node))).collect(),
        values: node.aggr_expr.iter().map(shown).collect(),
        bounded_by: match (node.mode, node.group_expr.get(node.session)) {
            (OutputMode::Append, Some(session)) => {
                format!("the watermark: {} is over", shown(&typed_key(session, node)))
            }
            _ => "number of sessions".to_string(),
        },
        unbounded: node.aggr_expr.iter().filter(|expr| grows(expr)).map(shown).collect(),
    }
}

pub(super) fn fingerprint(node: &StreamSessionNode) -> String {
    // Sessions that came out are gone: another mode would miss them.
    let evicts = match node.mode {
        OutputMode::Append => format!(" until={}", node.session),
        _ => String::new(),
    };
    let keys: Vec<Expr> = node.group_expr.iter().map(|key| typed_key(key, node)).collect();
    format!(
        "aggregate of sessions keys=[{}] values=[{}]{evicts}",
        typed(&keys, 0, &node.input, &node.schema),
        typed(&node.aggr_expr, node.group_expr.len(), &node.input, &node.schema)
    )
}
