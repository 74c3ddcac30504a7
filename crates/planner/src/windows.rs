//! Where `window(ts, …)` stands in a plan, its windows become a column below; `session_window` likewise.
//!
//! GROUP BY and the select list read the column; a time lies in several sliding windows, so that its row comes once for
//! each; a row without a time is in no window. Knows nothing of streams: the same is done to static queries.

use alluvium_parser::{Diagnostic, Span};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DataFusionError, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::scalar::ScalarValue;

use crate::functions::session_window::{check_gap, is_session};
use crate::functions::time_window::{TimeWindow, all_windows, is_window};
use crate::sessions;

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
    Failed(DataFusionError),
}

impl From<DataFusionError> for WindowError {
    fn from(error: DataFusionError) -> Self {
        WindowError::Failed(error)
    }
}

fn refused(why: &str) -> WindowError {
    let form = "windows are cut by window(ts, '10 minutes' [, '5 minutes' [, '1 minute']])";
    WindowError::Refused(Box::new(Diagnostic::new("INVALID_WINDOW", format!("window(…): {why}")).help(form)))
}

fn refused_session(why: &str) -> WindowError {
    let form = "sessions are made by session_window(ts, '10 minutes'), beside other columns in GROUP BY";
    WindowError::Refused(Box::new(Diagnostic::new("INVALID_WINDOW", format!("session_window(…): {why}")).help(form)))
}

fn expand(node: &LogicalPlan) -> Result<Option<LogicalPlan>, WindowError> {
    let sessions = calls(node, is_session)?;
    if !sessions.is_empty() && !calls(node, is_window)?.is_empty() {
        return Err(refused_session("window(…) stands beside it; group by one of them in a subquery"));
    }
    let with_column = match sessions.split_first() {
        Some((call, others)) => expand_session(node, call, others)?,
        None => expand_window(node)?,
    };
    let node = with_column.as_ref().unwrap_or(node);
    if let LogicalPlan::Aggregate(aggregate) = node {
        let in_sets = aggregate.group_expr.iter().filter_map(|key| match key {
            Expr::GroupingSet(sets) => Some(sets.distinct_expr().into_iter().cloned().collect::<Vec<Expr>>()),
            _ => None,
        });
        if !sessions::session_keys(&in_sets.flatten().collect::<Vec<_>>(), &aggregate.input).is_empty() {
            return Err(refused_session("it does not stand in ROLLUP, CUBE or GROUPING SETS"));
        }
    }
    Ok(sessions::merged(node)?.or(with_column))
}

/// Puts the session of each row into a column.
fn expand_session(node: &LogicalPlan, call: &Expr, others: &[Expr]) -> Result<Option<LogicalPlan>, WindowError> {
    let Expr::ScalarFunction(function) = call else { return Ok(None) };
    let [_, gap] = function.args.as_slice() else { return Err(refused_session("it takes a time and a gap")) };
    if let Expr::Literal(gap, _) = gap {
        check_gap(gap).map_err(|why| refused_session(&why))?;
    }
    if !matches!(node, LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_)) {
        return Ok(None);
    }
    if !others.is_empty() {
        return Err(refused_session("one SELECT has one kind of sessions; make the others in a subquery"));
    }
    let inputs = node.inputs();
    let Some(input) = inputs.first() else { return Ok(None) };
    let (name, below) = with_column(input, call)?;
    let made = Expr::Column(Column::from_name(&name)).is_not_null();
    let below = LogicalPlanBuilder::from(below).filter(made)?.build()?;
    Ok(Some(with_column_for(node, call, &name, below)?))
}

fn expand_window(node: &LogicalPlan) -> Result<Option<LogicalPlan>, WindowError> {
    let calls = calls(node, is_window)?;
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
    let cut = match window.is_tumbling() {
        true => call.clone(),
        false => Expr::ScalarFunction(ScalarFunction::new_udf(all_windows(), function.args.clone())),
    };
    let in_time = LogicalPlanBuilder::from((*input).clone()).filter(time.clone().is_not_null())?.build()?;
    let (name, below) = with_column(&in_time, &cut)?;
    let below = match window.is_tumbling() {
        true => below,
        false => LogicalPlanBuilder::from(below).unnest_column(Column::from_name(&name))?.build()?,
    };
    Ok(Some(with_column_for(node, call, &name, below)?))
}

/// `input` with a column more, and the column's name.
fn with_column(input: &LogicalPlan, expr: &Expr) -> Result<(String, LogicalPlan)> {
    let name = (0..)
        .map(|n| format!("{WINDOW_COLUMN}{n}"))
        .find(|name| !input.schema().has_column_with_unqualified_name(name))
        .unwrap_or_default();
    let columns =
        input.schema().iter().map(|(qualifier, field)| Expr::Column(Column::from((qualifier, field.as_ref()))));
    let columns = columns.chain([expr.clone().alias(&name)]).collect::<Vec<_>>();
    let below = LogicalPlanBuilder::from(input.clone()).project(columns)?.build()?;
    Ok((name, below))
}

/// `node` over `below`, whose column `name` takes the place of `call`.
fn with_column_for(node: &LogicalPlan, call: &Expr, name: &str, below: LogicalPlan) -> Result<LogicalPlan> {
    let column = Expr::Column(Column::from_name(name));
    let names = NamePreserver::new_for_projection();
    let replace = |expr: Expr| -> Result<Transformed<Expr>> {
        let saved = names.save(&expr);
        let replaced = expr.transform_up(|expr| match expr == *call {
            true => Ok(Transformed::yes(column.clone())),
            false => Ok(Transformed::no(expr)),
        })?;
        Ok(if replaced.transformed { replaced.update_data(|expr| saved.restore(expr)) } else { replaced })
    };
    let mut exprs = Vec::new();
    for expr in node.expressions() {
        let replaced = match expr {
            // Its keys have names, the whole has none.
            Expr::GroupingSet(_) => expr.map_children(replace)?,
            expr => replace(expr)?,
        };
        exprs.push(replaced.data);
    }
    node.with_new_exprs(exprs, vec![below])
}

/// Different calls in a node's expressions.
fn calls(node: &LogicalPlan, wanted: fn(&Expr) -> bool) -> Result<Vec<Expr>> {
    let mut calls: Vec<Expr> = Vec::new();
    node.apply_expressions(|expr| {
        expr.apply(|expr| {
            if wanted(expr) && !calls.contains(expr) {
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
