//! Where `window(ts, …)` stands in a plan, its windows become a column below.
//!
//! GROUP BY and the select list read the column; a time lies in several sliding windows, so that its row comes once for
//! each; a row without a time is in no window. Knows nothing of streams: the same is done to static queries.

use alluvium_parser::{Diagnostic, Span};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::scalar::ScalarValue;

use crate::functions::time_window::{TimeWindow, all_windows, is_window};

/// How the columns begin that windows are put into; a number follows.
pub(crate) const WINDOW_COLUMN: &str = "__window_";

/// Puts the windows that `plan` groups by or selects into columns. `at`: the place of the first call.
///
/// # Errors
/// INVALID_WINDOW: lengths that make no windows, two kinds of windows side by side, sliding windows elsewhere.
pub(crate) fn expand_windows(plan: LogicalPlan, at: Span) -> Result<LogicalPlan, WindowError> {
    let mut refusal = None;
    let expanded = plan.transform_up_with_subqueries(|node| match expand(&node) {
        Ok(Some(expanded)) => Ok(Transformed::yes(expanded)),
        Ok(None) => Ok(Transformed::no(node)),
        Err(WindowError::Refused(diagnostic)) => {
            refusal.get_or_insert(diagnostic);
            Ok(Transformed::new(node, false, TreeNodeRecursion::Stop))
        }
        Err(WindowError::Failed(error)) => Err(error),
    });
    match refusal {
        Some(refusal) => Err(WindowError::Refused(Box::new(refusal.at(at)))),
        None => Ok(expanded?.data),
    }
}

/// Why windows could not be put in.
pub(crate) enum WindowError {
    /// The user's mistake.
    Refused(Box<Diagnostic>),
    /// Everything else.
    Failed(datafusion::common::DataFusionError),
}

impl From<datafusion::common::DataFusionError> for WindowError {
    fn from(error: datafusion::common::DataFusionError) -> Self {
        WindowError::Failed(error)
    }
}

fn refused(why: &str) -> WindowError {
    let form = "windows are cut by window(ts, '10 minutes' [, '5 minutes' [, '1 minute']])";
    WindowError::Refused(Box::new(Diagnostic::new("INVALID_WINDOW", format!("window(…): {why}")).help(form)))
}

fn expand(node: &LogicalPlan) -> Result<Option<LogicalPlan>, WindowError> {
    let calls = calls(node)?;
    let Some((call, others)) = calls.split_first() else { return Ok(None) };
    let Expr::ScalarFunction(function) = call else { return Ok(None) };
    let Some((time, lengths)) = function.args.split_first() else {
        return Err(refused("a time and a size are missing"));
    };
    let window = TimeWindow::of(&literals(lengths)?).map_err(|why| refused(&why))?;
    if !matches!(node, LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_)) {
        // Here a row cannot become several; the one window of a time is a value like any other.
        return if window.is_tumbling() {
            Ok(None)
        } else {
            Err(refused("sliding windows stand in GROUP BY or SELECT"))
        };
    }
    if !others.is_empty() {
        return Err(refused("one SELECT has one kind of windows; cut the others in a subquery"));
    }
    let inputs = node.inputs();
    let Some(input) = inputs.first() else { return Ok(None) };
    let name = (0..)
        .map(|n| format!("{WINDOW_COLUMN}{n}"))
        .find(|name| !input.schema().has_column_with_unqualified_name(name));
    let name = name.unwrap_or_default();
    let cut = match window.is_tumbling() {
        true => call.clone(),
        false => Expr::ScalarFunction(ScalarFunction::new_udf(all_windows(), function.args.clone())),
    };
    let columns =
        input.schema().iter().map(|(qualifier, field)| Expr::Column(Column::from((qualifier, field.as_ref()))));
    let columns = columns.chain([cut.alias(&name)]).collect::<Vec<_>>();
    let below = LogicalPlanBuilder::from((*input).clone()).filter(time.clone().is_not_null())?.project(columns)?;
    let below = if window.is_tumbling() { below } else { below.unnest_column(Column::from_name(&name))? };
    let column = Expr::Column(Column::from_name(&name));
    let names = NamePreserver::new_for_projection();
    let mut exprs = Vec::new();
    for expr in node.expressions() {
        let saved = names.save(&expr);
        let replaced = expr.transform_up(|expr| match expr == *call {
            true => Ok(Transformed::yes(column.clone())),
            false => Ok(Transformed::no(expr)),
        })?;
        exprs.push(if replaced.transformed { saved.restore(replaced.data) } else { replaced.data });
    }
    Ok(Some(node.with_new_exprs(exprs, vec![below.build()?])?))
}

/// Different calls in a node's expressions.
fn calls(node: &LogicalPlan) -> Result<Vec<Expr>> {
    let mut calls: Vec<Expr> = Vec::new();
    node.apply_expressions(|expr| {
        expr.apply(|expr| {
            if is_window(expr) && !calls.contains(expr) {
                calls.push(expr.clone());
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(calls)
}

fn literals(lengths: &[Expr]) -> Result<Vec<ScalarValue>, WindowError> {
    let literal = |expr: &Expr| match expr {
        Expr::Literal(value, _) => Ok(value.clone()),
        _ => Err(refused("its lengths must be written out, such as '10 minutes'")),
    };
    lengths.iter().map(literal).collect()
}
