//! Conditions are moved to where a join of streams can use them, before it is looked at.
//!
//! The optimizer does the same for other joins, but later: what is stored for a join, and whether it has keys and bounds, is
//! decided here.

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{JoinType, Result};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{Expr, Filter, Join, LogicalPlan};

use super::{Sides, is_of_streams, joint};

/// Moves conditions of WHERE into the inner joins of streams below, and conditions on one side below the join, where that
/// changes no row: a join may get its keys and bounds from WHERE, and keeps only rows that can come out.
pub(in crate::streaming) fn with_conditions_moved(plan: LogicalPlan) -> Result<LogicalPlan> {
    let moved = plan.transform_down_with_subqueries(|node| match node {
        LogicalPlan::Filter(filter) => match filter.input.as_ref() {
            LogicalPlan::Join(join) if join.join_type == JoinType::Inner && is_of_streams(join) => {
                let (into, above): (Vec<Expr>, Vec<Expr>) =
                    split_conjunction(&filter.predicate).into_iter().cloned().partition(may_move);
                let filter = conjunction(join.filter.iter().cloned().chain(into));
                let node = below(Join { filter, ..join.clone() })?;
                Ok(Transformed::yes(filtered(node, above)?))
            }
            _ => Ok(Transformed::no(LogicalPlan::Filter(filter))),
        },
        LogicalPlan::Join(join) if join.filter.is_some() && is_of_streams(&join) => Ok(Transformed::yes(below(join)?)),
        other => Ok(Transformed::no(other)),
    })?;
    Ok(moved.data)
}

/// A join whose conditions on one side filter that side, unless rows of it come out that do not match.
fn below(join: Join) -> Result<LogicalPlan> {
    let (mut stay, mut of_side) = (Vec::new(), [Vec::new(), Vec::new()]);
    let may_filter = match join.join_type {
        JoinType::Inner | JoinType::LeftSemi | JoinType::RightSemi => [true, true],
        JoinType::Left | JoinType::LeftAnti => [false, true],
        JoinType::Right | JoinType::RightAnti => [true, false],
        JoinType::Full | JoinType::LeftMark | JoinType::RightMark => [false, false],
    };
    let sides = Sides { left: join.left.schema(), right: join.right.schema(), both: joint(&join)? };
    for condition in join.filter.iter().flat_map(|filter| split_conjunction(filter)) {
        match sides.side_of(condition) {
            Some(side) if may_filter[side] && may_move(condition) => of_side[side].push(condition.clone()),
            _ => stay.push(condition.clone()),
        }
    }
    let [of_left, of_right] = of_side;
    Ok(LogicalPlan::Join(Join {
        left: filtered(join.left.as_ref().clone(), of_left)?.into(),
        right: filtered(join.right.as_ref().clone(), of_right)?.into(),
        filter: conjunction(stay),
        ..join
    }))
}

fn filtered(plan: LogicalPlan, conditions: Vec<Expr>) -> Result<LogicalPlan> {
    match conjunction(conditions) {
        Some(condition) => Ok(LogicalPlan::Filter(Filter::try_new(condition, plan.into())?)),
        None => Ok(plan),
    }
}

fn may_move(condition: &Expr) -> bool {
    let fixed = |expr: &Expr| {
        Ok(matches!(
            expr,
            Expr::ScalarSubquery(_)
                | Expr::InSubquery(_)
                | Expr::Exists(_)
                | Expr::SetComparison(_)
                | Expr::OuterReferenceColumn(_, _)
        ))
    };
    !condition.is_volatile() && !condition.exists(fixed).unwrap_or(true)
}
