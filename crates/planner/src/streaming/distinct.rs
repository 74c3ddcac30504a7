//! `DISTINCT` inside aggregates over a stream: state per value, not one growing list per group.
//!
//! `sum(DISTINCT v)` becomes `sum(v) FILTER (WHERE m)` above a [`StreamMarkNode`] that marks the first row of each group
//! and value; so does every other aggregate, since all of them see each value once. Aggregates with the same arguments
//! and filter share a mark.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Expr, ExprSchemable, Extension, LogicalPlan};

use crate::node::StreamMarkNode;

/// Aggregates that say the same however often a value comes.
const INDIFFERENT: [&str; 8] =
    ["approx_distinct", "bit_and", "bit_or", "bool_and", "bool_or", "collect_set", "max", "min"];

/// What [`marked`] made.
pub(super) struct Marked {
    /// The rows, with their marks.
    pub input: LogicalPlan,
    /// The aggregates, without DISTINCT.
    pub aggregates: Vec<Expr>,
    /// The marks, by operator number.
    pub marks: Vec<StreamMarkNode>,
}

/// Values to be marked: key and arguments, and the filter.
type Values = (Vec<Expr>, Option<Expr>);

/// Puts marks below an aggregate of `input` by `keys` for each DISTINCT in `aggregates`. `time`: position of the key
/// with which a group is forgotten, and the lag by it; `operator`: the number of the first mark.
pub(super) fn marked(
    mut input: LogicalPlan,
    keys: &[Expr],
    aggregates: Vec<Expr>,
    time: (Option<usize>, i64),
    operator: u32,
) -> Result<Marked> {
    let keys: Vec<Expr> = keys.iter().map(|key| key.clone().unalias()).collect();
    let schema = input.schema().clone();
    let mut all: Vec<Values> = Vec::new();
    for aggregate in &aggregates {
        aggregate.apply(|expr| {
            if let Some(values) = values_of(expr, &keys, &schema)
                && !all.contains(&values)
            {
                all.push(values);
            }
            Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
        })?;
    }
    let mut marks = Vec::with_capacity(all.len());
    for (at, (on, condition)) in all.iter().enumerate() {
        let node = StreamMarkNode::try_new(operator + at as u32, input, on.clone(), condition.clone(), time)?;
        input = LogicalPlan::Extension(Extension { node: Arc::new(node.clone()) });
        marks.push(node);
    }
    let mark_of = |values: &Values| all.iter().position(|known| known == values).and_then(|at| marks.get(at));
    let once = |expr: Expr| {
        let mark = values_of(&expr, &keys, &schema).as_ref().and_then(mark_of).map(StreamMarkNode::mark);
        match expr {
            Expr::AggregateFunction(mut function) if function.params.distinct => {
                function.params.distinct = false;
                if let Some(mark) = mark {
                    function.params.filter = Some(Box::new(mark));
                }
                Ok(Transformed::yes(Expr::AggregateFunction(function)))
            }
            other => Ok(Transformed::no(other)),
        }
    };
    let aggregates = aggregates.into_iter().map(|expr| Ok(expr.transform_up(once)?.data)).collect::<Result<_>>()?;
    Ok(Marked { input, aggregates, marks })
}

/// What a call with DISTINCT has to see once; None for any other expression.
fn values_of(expr: &Expr, keys: &[Expr], schema: &DFSchema) -> Option<Values> {
    let Expr::AggregateFunction(AggregateFunction { func, params }) = expr else { return None };
    if !params.distinct || INDIFFERENT.contains(&func.name()) {
        return None;
    }
    let mut on = keys.to_vec();
    for arg in params.args.iter().map(|arg| before_widening(arg, schema)) {
        if !matches!(arg, Expr::Literal(..)) && !on.contains(arg) {
            on.push(arg.clone());
        }
    }
    Some((on, params.filter.as_deref().cloned()))
}

/// A small integer that an aggregate has cast to what it computes with: its values are as different as before.
fn before_widening<'e>(arg: &'e Expr, schema: &DFSchema) -> &'e Expr {
    let Expr::Cast(cast) = arg else { return arg };
    let small = matches!(cast.expr.get_type(schema), Ok(DataType::Int8 | DataType::Int16 | DataType::Int32));
    match cast.field.data_type() {
        DataType::Int64 | DataType::Float64 if small => &cast.expr,
        _ => arg,
    }
}
