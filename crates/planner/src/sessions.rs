//! Where `session_window(ts, gap)` stands in a plan: the session of each row becomes a column below, and in a GROUP BY
//! those of one key that touch become one.
//!
//! In a static query the sessions of a key are found with window functions over its rows in order of time, so that any
//! aggregate may stand above. Over a stream the rows' own sessions are left as they are: the operator with state, which
//! [`crate::streaming`] puts in, merges them. Rows that make no session are left out in both.

use datafusion::common::{Column, Result, ScalarValue};
use datafusion::functions::core::expr_fn::{get_field, named_struct};
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Aggregate, Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, WindowFrame, WindowFrameBound, WindowFrameUnits,
    WindowFunctionDefinition, lit, when,
};

use crate::bind::first_stream;
use crate::functions::session_window::is_session;

/// Names of columns that are made on the way; nobody else's begin like this.
const BEFORE: &str = "__session_before";
const BEGINS: &str = "__session_begins";
const NUMBER: &str = "__session_number";
const START: &str = "__session_start";
const END: &str = "__session_end";

/// Which of an aggregate's keys are sessions of rows: columns that `session_window` made, also in a subquery below.
pub(crate) fn session_keys(keys: &[Expr], input: &LogicalPlan) -> Vec<usize> {
    let is_of_session = |key: &Expr| session_call(key, input).is_some();
    keys.iter().enumerate().filter(|(_, key)| is_of_session(key)).map(|(at, _)| at).collect()
}

/// The call of `session_window` that a key over `plan` is, renamed perhaps. Sessions that an aggregate made are values.
pub(crate) fn session_call(key: &Expr, plan: &LogicalPlan) -> Option<Expr> {
    let key = key.clone().unalias();
    let Expr::Column(column) = &key else { return is_session(&key).then_some(key) };
    match plan {
        LogicalPlan::Projection(projection) => {
            let at = projection.schema.maybe_index_of_column(column)?;
            session_call(projection.expr.get(at)?, &projection.input)
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let at = alias.schema.maybe_index_of_column(column)?;
            session_call(&Expr::Column(alias.input.schema().columns().get(at)?.clone()), &alias.input)
        }
        LogicalPlan::Filter(filter) => session_call(&key, &filter.input),
        _ => None,
    }
}

/// An aggregate that groups by sessions of rows, over merged sessions; None where there is nothing to merge, or a stream
/// does it.
pub(crate) fn merged(node: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    let LogicalPlan::Aggregate(Aggregate { input, group_expr, .. }) = node else { return Ok(None) };
    let sessions = session_keys(group_expr, input);
    let Some(session) = sessions.first().and_then(|at| group_expr.get(*at)) else { return Ok(None) };
    if first_stream(input).is_some() {
        return Ok(None);
    }
    let others: Vec<Expr> = group_expr
        .iter()
        .enumerate()
        .filter(|(at, _)| !sessions.contains(at))
        .map(|(_, key)| key.clone().unalias())
        .collect();
    let name = (0..)
        .map(|n| format!("__session_{n}"))
        .find(|name| !input.schema().has_column_with_unqualified_name(name))
        .unwrap_or_default();
    let below = merge(input.as_ref().clone(), others, session.clone().unalias(), &name)?;
    let names = NamePreserver::new_for_projection();
    let mut exprs = Vec::new();
    for (at, expr) in node.expressions().into_iter().enumerate() {
        exprs.push(match sessions.contains(&at) {
            true => names.save(&expr).restore(Expr::Column(Column::from_name(&name))),
            false => expr,
        });
    }
    Ok(Some(node.with_new_exprs(exprs, vec![below])?))
}

/// `input` with a column `name`: of all rows with the same `keys` whose `session`s touch, the session around them.
///
/// In order of time a session begins with the row whose start lies behind every end before it. Rows with the same start
/// are peers: at most one of them begins a session, and all get its number.
fn merge(input: LogicalPlan, keys: Vec<Expr>, session: Expr, name: &str) -> Result<LogicalPlan> {
    let columns = input.schema().columns();
    let all = || columns.iter().cloned().map(Expr::Column);
    let (start, end) = (get_field(session.clone(), "start"), get_field(session, "end"));
    let over = |function, argument: Expr| {
        let call = WindowFunction::new(WindowFunctionDefinition::AggregateUDF(function), vec![argument]);
        Expr::WindowFunction(Box::new(call)).partition_by(keys.clone())
    };
    let before_this_row = WindowFrame::new_bounds(
        WindowFrameUnits::Rows,
        WindowFrameBound::Preceding(ScalarValue::UInt64(None)),
        WindowFrameBound::Preceding(ScalarValue::UInt64(Some(1))),
    );
    let in_order = || vec![start.clone().sort(true, false)];
    let before =
        over(max_udaf(), end.clone()).order_by(in_order()).window_frame(before_this_row).build()?.alias(BEFORE);
    let begins =
        when(Expr::Column(Column::from_name(BEFORE)).gt_eq(start.clone()), lit(0_i64)).otherwise(lit(1_i64))?;
    let number = over(sum_udaf(), Expr::Column(Column::from_name(BEGINS)))
        .order_by(in_order())
        .window_frame(WindowFrame::new(Some(false)))
        .build()?
        .alias(NUMBER);
    let plan = LogicalPlanBuilder::from(input)
        .window([before])?
        .project(all().chain([begins.alias(BEGINS)]))?
        .window([number])?
        .build()?;
    let mut within = keys.clone();
    within.push(Expr::Column(Column::from_name(NUMBER)));
    let whole = |function, argument: Expr, name: &str| {
        let call = WindowFunction::new(WindowFunctionDefinition::AggregateUDF(function), vec![argument]);
        let call = Expr::WindowFunction(Box::new(call)).partition_by(within.clone());
        Ok::<Expr, datafusion::common::DataFusionError>(call.window_frame(WindowFrame::new(None)).build()?.alias(name))
    };
    let bounds = [whole(min_udaf(), start.clone(), START)?, whole(max_udaf(), end.clone(), END)?];
    let column = |name: &str| Expr::Column(Column::from_name(name));
    let around = named_struct(vec![lit("start"), column(START), lit("end"), column(END)]).alias(name);
    LogicalPlanBuilder::from(plan).window(bounds)?.project(all().chain([around]))?.build()
}
