//! AND and OR that look at their right side only for rows the left one leaves open.
//!
//! `b <> 0 AND a / b > 1` must not divide by the zeros it asks about. DataFusion evaluates both sides over all rows
//! unless the left one decides nearly all of them; where the right side can fail, this rule puts a CASE in the place
//! of the operator, whose branches see only their own rows. It works on filters and select lists, after everything
//! else: earlier, a CASE would be taken apart again.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, case, lit, not};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};

/// The rule.
#[derive(Debug)]
pub(super) struct LazyConditions;

impl PhysicalOptimizerRule for LazyConditions {
    fn name(&self) -> &str {
        "lazy_conditions"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            if let Some(filter) = node.downcast_ref::<FilterExec>() {
                let lazy = lazy(filter.predicate(), &filter.input().schema())?;
                if lazy.transformed {
                    let filter = FilterExecBuilder::from(filter).with_predicate(lazy.data).build()?;
                    return Ok(Transformed::yes(Arc::new(filter)));
                }
            }
            if let Some(projection) = node.downcast_ref::<ProjectionExec>() {
                let mut changed = false;
                let mut exprs = Vec::with_capacity(projection.expr().len());
                for item in projection.expr() {
                    let lazy = lazy(&item.expr, &projection.input().schema())?;
                    changed |= lazy.transformed;
                    exprs.push(ProjectionExpr { expr: lazy.data, alias: item.alias.clone() });
                }
                if changed {
                    let projection = ProjectionExec::try_new(exprs, Arc::clone(projection.input()))?;
                    return Ok(Transformed::yes(Arc::new(projection)));
                }
            }
            Ok(Transformed::no(node))
        })
        .map(|transformed| transformed.data)
    }
}

/// Bottom up, so that what is guarded inside stays guarded.
fn lazy(expr: &Arc<dyn PhysicalExpr>, input: &Schema) -> Result<Transformed<Arc<dyn PhysicalExpr>>> {
    Arc::clone(expr).transform_up(|expr| {
        let Some(binary) = expr.downcast_ref::<BinaryExpr>() else { return Ok(Transformed::no(expr)) };
        let (left, right) = (Arc::clone(binary.left()), binary.right());
        let (decided, answer) = match binary.op() {
            Operator::And => (not(left)?, lit(false)),
            Operator::Or => (left, lit(true)),
            _ => return Ok(Transformed::no(expr)),
        };
        if !can_fail(right, input)? {
            return Ok(Transformed::no(expr));
        }
        Ok(Transformed::yes(case(None, vec![(decided, answer)], Some(Arc::clone(&expr)))?))
    })
}

/// Functions whose failures a condition in front is likely to guard against. Sums that overflow are not among them: a
/// CASE costs more than they are worth.
const CAN_FAIL: [&str; 6] = ["divide", "remainder", "timestamp", "to_timestamp", "to_date", "unix_timestamp"];

/// Whether evaluating it may end in an error of the user's data.
fn can_fail(expr: &Arc<dyn PhysicalExpr>, input: &Schema) -> Result<bool> {
    let mut found = false;
    expr.apply(|expr| {
        if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
            found |= matches!(binary.op(), Operator::Divide | Operator::Modulo);
        } else if let Some(function) = expr.downcast_ref::<ScalarFunctionExpr>() {
            found |= CAN_FAIL.contains(&function.name());
        } else if let Some(cast) = expr.downcast_ref::<CastExpr>() {
            found |= cast.expr().data_type(input)? == DataType::Utf8 && *cast.cast_type() != DataType::Utf8;
        }
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}
