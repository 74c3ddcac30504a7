//! What is told and remembered of a join of streams: for EXPLAIN, and to tell whether stored rows fit a query.

use std::time::Duration;

use alluvium_parser::OutputMode;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, JoinType};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};

use super::{Unbounded, unbounded};
use crate::ddl::sql_type;
use crate::errors::without_stand_ins;
use crate::explain::Length;
use crate::node::{JoinSide, StreamJoinNode};
use crate::plan::{INNER_JOIN, OperatorInfo};

/// How columns begin that DataFusion's optimizer takes out of expressions; a number follows that is never the same.
const EXTRACTED_EXPR_PREFIX: &str = "__datafusion_extracted";

/// What EXPLAIN says of a join.
pub(in crate::streaming) fn info(node: &StreamJoinNode, mode: OutputMode) -> OperatorInfo {
    let shown = |expr: &Expr| without_stand_ins(&expr.to_string());
    let bounded_by = |side: usize| {
        let name = ["left", "right"][side];
        let Some(hold_us) = node.sides[side].hold_us else {
            let why = match unbounded(&node.sides, side) {
                _ if mode != OutputMode::Append => "the result has all rows, late ones too".to_string(),
                Some(Unbounded::Watermark) => format!("the {} side has no WATERMARK", ["right", "left"][side]),
                _ => format!("no condition says until when a row of the {} side matches", ["right", "left"][side]),
            };
            return format!("{name} side: nothing: {why}");
        };
        let time = node.sides[side].time.as_ref().map(shown).unwrap_or_default();
        let length = Length(Duration::from_micros(hold_us.unsigned_abs()));
        match hold_us.signum() {
            0 => format!("{name} side: the watermark: {time} is past"),
            1 => format!("{name} side: the watermark: {time} + {length} is past"),
            _ => format!("{name} side: the watermark: {time} - {length} is past"),
        }
    };
    OperatorInfo {
        kind: match node.join_type {
            JoinType::Inner => INNER_JOIN,
            JoinType::Left => "left join",
            JoinType::Right => "right join",
            JoinType::Full => "full join",
            JoinType::LeftSemi | JoinType::LeftMark => "left semi join",
            JoinType::RightSemi | JoinType::RightMark => "right semi join",
            JoinType::LeftAnti => "left anti join",
            JoinType::RightAnti => "right anti join",
        },
        keys: node.on.iter().map(|(left, right)| format!("{} = {}", shown(left), shown(right))).collect(),
        values: vec!["rows of the left side, rows of the right side".to_string()],
        bounded_by: [bounded_by(0), bounded_by(1)].join("; "),
        unbounded: Vec::new(),
    }
}

/// What of a join must stay for its state to fit: kind, keys, conditions, what is forgotten.
pub(in crate::streaming) fn fingerprint(node: &StreamJoinNode) -> String {
    let left = node.left.schema();
    // Sides by position, whatever the query calls them.
    let text = |expr: &Expr| {
        let named = expr.clone().unalias().transform(|expr| match expr {
            Expr::Column(column) => {
                let side = if left.has_column(&column) { "l" } else { "r" };
                Ok(Transformed::yes(Expr::Column(Column::new_unqualified(format!("{side}.{}", column.name)))))
            }
            other => Ok(Transformed::no(other)),
        });
        named.map_or_else(|_| expr.to_string(), |named| named.data.human_display().to_string())
    };
    let on = |(key, other): &(Expr, Expr)| match key.get_type(left) {
        Ok(data_type) => format!("{} = {} {}", text(key), text(other), sql_type(&data_type)),
        Err(_) => format!("{} = {}", text(key), text(other)),
    };
    let keys: Vec<String> = node.on.iter().map(on).collect();
    let filter = node.filter.as_ref().map_or(String::new(), |filter| format!(" where {}", text(filter)));
    let until = |side: &JoinSide| match (&side.time, side.hold_us) {
        (Some(time), Some(hold_us)) => format!("{}+{hold_us}us", text(time)),
        (Some(time), None) => format!("{} for ever", text(time)),
        (None, _) => "for ever".to_string(),
    };
    let [of_left, of_right] = &node.sides;
    format!(
        "join {} keys=[{}]{filter} until=[{}, {}]",
        node.join_type,
        keys.join(", "),
        until(of_left),
        until(of_right)
    )
}

/// The columns of a row that a join stores.
pub(in crate::streaming) fn stored_columns(node: &StreamJoinNode) -> String {
    let list = |plan: &LogicalPlan| {
        let fields = plan.schema().fields().iter();
        let stored = fields.map(|field| format!("{} {}", stored_name(plan, field.name()), sql_type(field.data_type())));
        stored.collect::<Vec<_>>().join(", ")
    };
    format!("rows of join {} left=[{}] right=[{}]", node.operator, list(&node.left), list(&node.right))
}

/// A column's name; of one that the optimizer made, under a name of the moment, what it is made of.
fn stored_name(plan: &LogicalPlan, name: &str) -> String {
    let Some(made) = definition(plan, name) else { return name.to_string() };
    let resolved = made.transform_up(|expr| match &expr {
        Expr::Column(column) => Ok(Transformed::yes(match definition(plan, &column.name) {
            Some(made) => made,
            None => Expr::Column(Column::new_unqualified(column.name.clone())),
        })),
        _ => Ok(Transformed::no(expr)),
    });
    resolved.map_or_else(|_| name.to_string(), |resolved| resolved.data.human_display().to_string())
}

/// What a column is made of that the optimizer took out of an expression.
fn definition(plan: &LogicalPlan, name: &str) -> Option<Expr> {
    if !name.starts_with(EXTRACTED_EXPR_PREFIX) {
        return None;
    }
    let mut found = None;
    let _ = plan.apply(|node| {
        if let LogicalPlan::Projection(projection) = node {
            found = projection.expr.iter().find_map(|expr| match expr {
                Expr::Alias(alias) if alias.name == name => Some(alias.expr.as_ref().clone()),
                _ => None,
            });
        }
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found
}
