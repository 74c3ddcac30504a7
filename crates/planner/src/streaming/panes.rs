//! Sliding windows by panes: instead of a row for each window it is in, an aggregate gets the row once, with its pane.
//!
//! Done where the window is nothing but a key of the aggregate right above it. Elsewhere (an aggregate of an expression over
//! the window, a key that is the window's end) rows are repeated.

use datafusion::common::tree_node::TreeNode;
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, Projection};

use crate::functions::time_window::pane_of;
use crate::node::{Panes, StreamAggregateNode};

/// The same aggregate over the panes of its rows, where it can be had.
pub(super) fn over_panes(node: StreamAggregateNode) -> Result<StreamAggregateNode> {
    let LogicalPlan::Unnest(unnest) = &node.input else { return Ok(node) };
    let LogicalPlan::Projection(projection) = unnest.input.as_ref() else { return Ok(node) };
    let columns = projection.schema.columns();
    let ([at], [column]) =
        (&unnest.list_type_columns.iter().map(|(at, _)| *at).collect::<Vec<_>>()[..], &unnest.exec_columns[..])
    else {
        return Ok(node);
    };
    let cut = projection.expr.get(*at).map(|expr| expr.clone().unalias());
    let Some((pane, windows)) = cut.as_ref().and_then(pane_of) else { return Ok(node) };
    let Some(key) = only_key(&node, column)?.filter(|_| columns.get(*at) == Some(column)) else { return Ok(node) };
    let mut exprs = projection.expr.clone();
    exprs[*at] = pane.alias(&column.name);
    let input = LogicalPlan::Projection(Projection::try_new(exprs, projection.input.clone())?);
    Ok(StreamAggregateNode { input, panes: Some(Panes { key, windows }), ..node })
}

/// Which key `column` is, if it bounds the aggregate and nothing else reads it.
fn only_key(node: &StreamAggregateNode, column: &Column) -> Result<Option<usize>> {
    let is_column = |key: &Expr| matches!(key.clone().unalias(), Expr::Column(key) if key == *column);
    let Some(key) = node.group_expr.iter().position(is_column) else { return Ok(None) };
    for (at, expr) in node.group_expr.iter().chain(&node.aggr_expr).enumerate() {
        if at != key && expr.exists(|expr| Ok(matches!(expr, Expr::Column(read) if read == column)))? {
            return Ok(None);
        }
    }
    Ok(Some(key).filter(|key| node.time.is_none_or(|time| time == *key)))
}
