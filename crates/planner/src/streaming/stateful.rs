//! Operators with state take the place of DataFusion's over streams.
//!
//! Done after the analyzer, so that types are settled, and before the optimizer, so that nothing splits them.

use std::sync::Arc;

use alluvium_parser::OutputMode;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Aggregate, Expr, Extension, LogicalPlan};

use crate::bind::first_stream;
use crate::ddl::sql_type;
use crate::errors::without_stand_ins;
use crate::functions::arithmetic::plain_arithmetic;
use crate::node::StreamAggregateNode;
use crate::plan::OperatorInfo;

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

/// Puts stateful nodes in the place of aggregates over streams; gives what they keep, by operator number.
pub(super) fn with_state(plan: LogicalPlan, mode: OutputMode) -> Result<(LogicalPlan, Vec<OperatorInfo>)> {
    let mut operators = Vec::new();
    let plan = plan.transform_up(|node| match node {
        LogicalPlan::Aggregate(aggregate) if first_stream(&aggregate.input).is_some() => {
            let Aggregate { input, group_expr, aggr_expr, schema, .. } = aggregate;
            let node = StreamAggregateNode {
                operator: operators.len() as u32,
                input: Arc::unwrap_or_clone(input),
                group_expr,
                aggr_expr,
                schema,
                mode,
            };
            operators.push(info(&node));
            Ok(Transformed::yes(LogicalPlan::Extension(Extension { node: Arc::new(node) })))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok((plan.data, operators))
}

/// Calls `f` with every stateful node, bottom-up.
pub(super) fn apply(plan: &LogicalPlan, mut f: impl FnMut(&StreamAggregateNode)) -> Result<()> {
    let mut nodes = Vec::new();
    plan.apply(|node| {
        if let LogicalPlan::Extension(extension) = node
            && let Some(node) = extension.node.as_any().downcast_ref::<StreamAggregateNode>()
        {
            nodes.push(node);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    nodes.sort_by_key(|node| node.operator);
    nodes.into_iter().for_each(&mut f);
    Ok(())
}

fn info(node: &StreamAggregateNode) -> OperatorInfo {
    OperatorInfo {
        kind: "aggregate",
        keys: node.group_expr.iter().map(sql_text).collect(),
        values: node.aggr_expr.iter().map(sql_text).collect(),
        bounded_by: if node.group_expr.is_empty() {
            "one row".to_string()
        } else {
            "number of distinct keys".to_string()
        },
        unbounded: node.aggr_expr.iter().filter(|expr| grows(expr)).map(sql_text).collect(),
    }
}

fn grows(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => grows(&alias.expr),
        Expr::AggregateFunction(function) => function.params.distinct || UNBOUNDED.contains(&function.func.name()),
        _ => false,
    }
}

pub(super) fn fingerprint(node: &StreamAggregateNode) -> String {
    let typed = |exprs: &[Expr], from: usize| {
        exprs
            .iter()
            .enumerate()
            .map(|(at, expr)| format!("{} {}", exact_text(expr), sql_type(node.schema.field(from + at).data_type())))
            .collect::<Vec<_>>()
            .join(", ")
    };
    format!(
        "aggregate keys=[{}] values=[{}]",
        typed(&node.group_expr, 0),
        typed(&node.aggr_expr, node.group_expr.len())
    )
}

/// An expression as a reader would write it: no qualifiers, no alias around it, no casts that only widen a column.
pub(crate) fn sql_text(expr: &Expr) -> String {
    text_of(expr, |expr| match expr {
        Expr::Cast(cast) if matches!(*cast.expr, Expr::Column(_)) && widens(cast.field.data_type()) => *cast.expr,
        other => other,
    })
}

fn widens(to: &DataType) -> bool {
    matches!(to, DataType::Int64 | DataType::UInt64 | DataType::Float64)
}

/// The same with every cast: two texts are equal only if they compute the same.
fn exact_text(expr: &Expr) -> String {
    text_of(expr, |expr| expr)
}

fn text_of(expr: &Expr, shorten: impl Fn(Expr) -> Expr) -> String {
    let bare = expr.clone().unalias().transform(|expr| match shorten(expr) {
        Expr::Column(mut column) => {
            column.relation = None;
            Ok(Transformed::yes(Expr::Column(column)))
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
