//! Keys of static queries in one form: what Spark calls equal is one group, one different row, one match.
//!
//! DataFusion hashes floating-point numbers by their bits, so that `-0.0` and `0.0`, or two NaNs, would be one group or two by
//! the partitions they fall into; intervals it compares field by field. Keys over streams are brought to one form where they
//! are stored, so plans of theirs, and the texts that state is known by, stay as they are. A query without such keys is not
//! touched. Rewriting twice gives what rewriting once gives.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::expr::{AggregateFunction, GroupingSet, InSubquery, WindowFunction};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Distinct, Expr, ExprSchemable, Filter, Join, LogicalPlan, Operator, Projection, Sort, Window,
};
use datafusion::optimizer::AnalyzerRule;

use super::canonical::{Months, in_one_form, is_in_one_form, several_forms, to_be_compared};
use crate::bind::first_stream;
use crate::streaming::{is_of_streams, joins_streams};

/// The rule.
#[derive(Debug)]
pub(super) struct KeysInOneForm;

impl AnalyzerRule for KeysInOneForm {
    fn name(&self) -> &str {
        "keys_in_one_form"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(rewritten).map(|rewritten| rewritten.data)
    }
}

fn rewritten(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    match node {
        LogicalPlan::Aggregate(aggregate) if first_stream(&aggregate.input).is_none() => grouped(aggregate),
        LogicalPlan::Distinct(Distinct::All(input)) if first_stream(&input).is_none() => {
            let columns: Vec<Column> = input.schema().columns();
            Ok(match with_columns(&input, &columns)? {
                Some(input) => Transformed::yes(LogicalPlan::Distinct(Distinct::All(Arc::new(input)))),
                None => Transformed::no(LogicalPlan::Distinct(Distinct::All(input))),
            })
        }
        LogicalPlan::Join(join) if !is_of_streams(&join) => joined(join),
        LogicalPlan::Filter(filter) => filtered(filter),
        LogicalPlan::Window(window) => windowed(window),
        LogicalPlan::Sort(sort) => sorted(sort),
        other => Ok(Transformed::no(other)),
    }
}

fn needs(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|of| several_forms(&of)) && !is_in_one_form(expr)
}

/// `input` with those of `columns` that need it in one form, under their names. None: no column does.
fn with_columns(input: &Arc<LogicalPlan>, columns: &[Column]) -> Result<Option<LogicalPlan>> {
    let wanted: Vec<usize> = columns.iter().filter_map(|column| input.schema().maybe_index_of_column(column)).collect();
    let needed = |column: &Column| {
        let at = input.schema().maybe_index_of_column(column);
        at.is_some_and(|at| wanted.contains(&at) && !made_so(input, at))
            && needs(&Expr::Column(column.clone()), input.schema())
    };
    let all = input.schema().columns();
    if !all.iter().any(needed) {
        return Ok(None);
    }
    let formed = |column: Column| match needed(&column) {
        true => in_one_form(Expr::Column(column.clone())).alias_qualified(column.relation, column.name),
        false => Expr::Column(column),
    };
    Ok(Some(LogicalPlan::Projection(Projection::try_new(all.into_iter().map(formed).collect(), input.clone())?)))
}

/// Whether the plan below has brought a column to one form.
fn made_so(input: &LogicalPlan, at: usize) -> bool {
    match input {
        LogicalPlan::Projection(projection) => projection.expr.get(at).is_some_and(is_in_one_form),
        _ => false,
    }
}

fn grouped(aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let Aggregate { input, group_expr, aggr_expr, schema, .. } = aggregate;
    let mut columns = Vec::new();
    for key in &group_expr {
        let keys = match key {
            Expr::GroupingSet(set) => set.distinct_expr(),
            key => vec![key],
        };
        columns.extend(keys.into_iter().filter_map(|key| key.try_as_col().cloned()));
    }
    let projected = with_columns(&input, &columns)?;
    let mut changed = projected.is_some();
    let input = projected.map_or(input, Arc::new);
    let below = input.schema();
    let mut key = |key: Expr| match key {
        Expr::Column(_) => key,
        Expr::Alias(mut alias) if needs(&alias.expr, below) => {
            changed = true;
            alias.expr = Box::new(in_one_form(*alias.expr));
            Expr::Alias(alias)
        }
        key if needs(&key, below) => {
            changed = true;
            in_one_form(key)
        }
        key => key,
    };
    let mut keys = |all: Vec<Expr>| all.into_iter().map(&mut key).collect::<Vec<_>>();
    let group_expr: Vec<Expr> = group_expr
        .into_iter()
        .flat_map(|expr| match expr {
            Expr::GroupingSet(GroupingSet::Rollup(all)) => vec![Expr::GroupingSet(GroupingSet::Rollup(keys(all)))],
            Expr::GroupingSet(GroupingSet::Cube(all)) => vec![Expr::GroupingSet(GroupingSet::Cube(keys(all)))],
            Expr::GroupingSet(GroupingSet::GroupingSets(sets)) => {
                let sets = sets.into_iter().map(&mut keys).collect();
                vec![Expr::GroupingSet(GroupingSet::GroupingSets(sets))]
            }
            key => keys(vec![key]),
        })
        .collect();
    let mut values = Vec::with_capacity(aggr_expr.len());
    for value in aggr_expr {
        let value = value.transform_up(|expr| distinct_args(expr, below))?;
        changed |= value.transformed;
        values.push(value.data);
    }
    let node = LogicalPlan::Aggregate(Aggregate::try_new_with_schema(input, group_expr, values, schema)?);
    Ok(if changed { Transformed::yes(node) } else { Transformed::no(node) })
}

/// Arguments of an aggregate of different values.
fn distinct_args(expr: Expr, below: &DFSchema) -> Result<Transformed<Expr>> {
    match expr {
        Expr::AggregateFunction(call) if call.params.distinct && call.params.args.iter().any(|a| needs(a, below)) => {
            let mut params = call.params;
            let form = |arg: Expr| if needs(&arg, below) { in_one_form(arg) } else { arg };
            params.args = params.args.into_iter().map(form).collect();
            Ok(Transformed::yes(Expr::AggregateFunction(AggregateFunction { func: call.func, params })))
        }
        other => Ok(Transformed::no(other)),
    }
}

fn joined(join: Join) -> Result<Transformed<LogicalPlan>> {
    let schema = join.left.schema().join(join.right.schema())?;
    let mut changed = false;
    let mut on = Vec::with_capacity(join.on.len());
    for (left, right) in &join.on {
        let wanted = needs(left, &schema) || needs(right, &schema);
        changed |= wanted;
        on.push(match wanted {
            true => (to_be_compared(left.clone(), Months::Kept), to_be_compared(right.clone(), Months::Kept)),
            false => (left.clone(), right.clone()),
        });
    }
    let filter = match join.filter.clone() {
        Some(filter) => {
            let filter = filter.transform_up(|expr| equal(expr, &schema))?;
            changed |= filter.transformed;
            Some(filter.data)
        }
        None => None,
    };
    Ok(match changed {
        true => Transformed::yes(LogicalPlan::Join(Join { on, filter, ..join })),
        false => Transformed::no(LogicalPlan::Join(join)),
    })
}

/// A condition of WHERE may become the key of a join.
fn filtered(filter: Filter) -> Result<Transformed<LogicalPlan>> {
    if joins_streams(&filter.input) {
        return Ok(Transformed::no(LogicalPlan::Filter(filter)));
    }
    let schema = merge_schema(&[filter.input.as_ref()]);
    let predicate = filter.predicate.clone().transform_up(|expr| equal(expr, &schema))?;
    Ok(match predicate.transformed {
        true => Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate.data, filter.input)?)),
        false => Transformed::no(LogicalPlan::Filter(filter)),
    })
}

/// An equality that may become the key of a join: of floating-point numbers neither of which is written out, or IN a query.
fn equal(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let form = |expr: &Expr| to_be_compared(expr.clone(), Months::Kept);
    match &expr {
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Eq | Operator::IsNotDistinctFrom), right }) => {
            // Intervals are in one form wherever they are compared.
            let floats = |expr: &Expr| needs(expr, schema) && !expr.get_type(schema).is_ok_and(|of| is_interval(&of));
            let columns = |expr: &Expr| !expr.column_refs().is_empty();
            if (floats(left) || floats(right)) && columns(left) && columns(right) {
                return Ok(Transformed::yes(super::arithmetic::binary(form(left), *op, form(right))));
            }
        }
        Expr::InSubquery(within) if needs(&within.expr, schema) => {
            let query = &within.subquery.subquery;
            let found = with_columns(query, &query.schema().columns())?.map_or_else(|| query.clone(), Arc::new);
            let subquery = within.subquery.with_plan(found);
            let within = InSubquery { expr: Box::new(form(&within.expr)), subquery, negated: within.negated };
            return Ok(Transformed::yes(Expr::InSubquery(within)));
        }
        _ => {}
    }
    Ok(Transformed::no(expr))
}

/// PARTITION BY, and ORDER BY of intervals.
fn windowed(window: Window) -> Result<Transformed<LogicalPlan>> {
    let below = window.input.schema().clone();
    let mut changed = false;
    let mut functions = Vec::with_capacity(window.window_expr.len());
    for expr in window.window_expr {
        let expr = expr.transform_up(|expr| match expr {
            Expr::WindowFunction(mut call) => {
                let before = changed;
                changed = false;
                for key in &mut call.params.partition_by {
                    in_place(key, &below, |_| true, &mut changed);
                }
                for key in &mut call.params.order_by {
                    in_place(&mut key.expr, &below, is_interval, &mut changed);
                }
                let expr = Expr::WindowFunction(Box::new(WindowFunction { fun: call.fun, params: call.params }));
                let here = if changed { Transformed::yes(expr) } else { Transformed::no(expr) };
                changed |= before;
                Ok(here)
            }
            other => Ok(Transformed::no(other)),
        })?;
        functions.push(expr.data);
    }
    let node = LogicalPlan::Window(Window { window_expr: functions, ..window });
    Ok(if changed { Transformed::yes(node) } else { Transformed::no(node) })
}

fn sorted(mut sort: Sort) -> Result<Transformed<LogicalPlan>> {
    let below = sort.input.schema().clone();
    let mut changed = false;
    for key in &mut sort.expr {
        if needs(&key.expr, &below) && key.expr.get_type(&below).is_ok_and(|of| is_interval(&of)) {
            key.expr = to_be_compared(std::mem::take(&mut key.expr), Months::Kept);
            changed = true;
        }
    }
    let node = LogicalPlan::Sort(sort);
    Ok(if changed { Transformed::yes(node) } else { Transformed::no(node) })
}

fn is_interval(of: &DataType) -> bool {
    matches!(of, DataType::Interval(_))
}

fn in_place(expr: &mut Expr, schema: &DFSchema, which: impl Fn(&DataType) -> bool, changed: &mut bool) {
    if needs(expr, schema) && expr.get_type(schema).is_ok_and(|of| which(&of)) {
        *expr = in_one_form(std::mem::take(expr));
        *changed = true;
    }
}
