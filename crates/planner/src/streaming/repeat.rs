//! What a query gives when it reads the same input again, cut otherwise and in another order: which of its columns are
//! the same then, which nearly, and which may be anything.
//!
//! Knows nothing of what is compared with what. Where a condition rests on a value that may be another one, even the
//! number of rows is open; that is told as the reason why nothing can be compared.

use std::collections::BTreeMap;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{Distinct, Expr, ExprSchemable, LogicalPlan};

use super::stateful::sql_text;
use crate::functions::clock::{is_clock, reads_clock};
use crate::node::{
    ExpandNode, Forget, StreamAggregateNode, StreamDeduplicateNode, StreamLimitNode, StreamMarkNode, StreamSessionNode,
};

/// How a column's values compare to those of another run, from strict to loose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Likeness {
    /// They are the same.
    Same,
    /// They are numbers that were added up in another order.
    Near,
    /// They are lists of the same elements in another order.
    AnyOrder,
    /// They may be others: the first value of several, say.
    Any,
}

/// Aggregates that give the same whatever the order of their input, if it is the same input.
const EXACT: [&str; 28] = [
    "approx_distinct",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "count",
    "grouping",
    "max",
    "median",
    "min",
    "mode",
    "percentile",
    "percentile_approx",
    "percentile_cont",
    "quantile_cont",
    "sum",
    "try_sum",
    "avg",
    "corr",
    "covar_pop",
    "covar_samp",
    "kurtosis",
    "skewness",
    "stddev",
    "stddev_pop",
    "var",
    "var_pop",
];

/// Aggregates that gather their input.
const LISTS: [&str; 3] = ["array_agg", "collect_list", "collect_set"];

/// Functions of lists that do not ask for the order of the elements.
const OF_ANY_ORDER: [&str; 10] = [
    "array_distinct",
    "array_has",
    "array_contains",
    "array_length",
    "array_max",
    "array_min",
    "array_size",
    "array_sort",
    "cardinality",
    "size",
];

/// For each column of `plan`'s result how it compares. The error says why no two runs can be compared.
///
/// # Errors
/// The reason, as a sentence without a beginning: `LIMIT takes any of the rows`.
pub fn likeness(plan: &LogicalPlan) -> Result<Vec<Likeness>, String> {
    match plan {
        LogicalPlan::Projection(projection) => {
            let below = Known::of(&projection.input)?;
            projection.expr.iter().map(|expr| below.of_expr(expr)).collect()
        }
        LogicalPlan::Filter(filter) => {
            let below = Known::of(&filter.input)?;
            below.decides(&filter.predicate)?;
            Ok(below.likeness)
        }
        LogicalPlan::SubqueryAlias(alias) => likeness(&alias.input),
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => likeness(&sort.input),
        LogicalPlan::Limit(_) | LogicalPlan::Sort(_) => Err("LIMIT takes any of the rows".to_string()),
        LogicalPlan::Aggregate(aggregate) => {
            grouped(&aggregate.group_expr, &aggregate.aggr_expr, &aggregate.input, aggregate.schema.fields().len())
        }
        LogicalPlan::Distinct(Distinct::All(input)) => likeness(input),
        LogicalPlan::Distinct(Distinct::On(_)) => Err("DISTINCT ON takes any row of each key".to_string()),
        LogicalPlan::Union(union) => {
            let mut all = vec![Likeness::Same; union.schema.fields().len()];
            for input in &union.inputs {
                all.iter_mut().zip(likeness(input)?).for_each(|(all, one)| *all = (*all).max(one));
            }
            Ok(all)
        }
        LogicalPlan::Unnest(unnest) => {
            let below = likeness(&unnest.input)?;
            let at = |at: &usize| match below.get(*at) {
                Some(Likeness::AnyOrder) => Likeness::Same,
                other => other.copied().unwrap_or(Likeness::Any),
            };
            Ok(unnest.dependency_indices.iter().map(at).collect())
        }
        LogicalPlan::Join(join) => {
            let (left, right) = (Known::of(&join.left)?, Known::of(&join.right)?);
            for (one, other) in &join.on {
                left.decides(one)?;
                right.decides(other)?;
            }
            let both = Known {
                columns: left.columns.into_iter().chain(right.columns).collect(),
                likeness: left.likeness.into_iter().chain(right.likeness).collect(),
            };
            join.filter.as_ref().map_or(Ok(()), |filter| both.decides(filter))?;
            Ok(plan.schema().columns().iter().map(|column| both.of_column(column)).collect())
        }
        LogicalPlan::Extension(extension) => {
            let node = extension.node.as_any();
            if let Some(node) = node.downcast_ref::<StreamAggregateNode>() {
                return grouped(&node.group_expr, &node.aggr_expr, &node.input, node.schema.fields().len());
            }
            if let Some(node) = node.downcast_ref::<StreamDeduplicateNode>() {
                let below = Known::of(&node.input)?;
                for key in &node.on {
                    below.decides(key)?;
                }
                let kept = |column: &Column| node.on.iter().any(|key| *key == Expr::Column(column.clone()));
                let of = |(column, of): (&Column, &Likeness)| if kept(column) { *of } else { Likeness::Any };
                return Ok(below.columns.iter().zip(&below.likeness).map(of).collect());
            }
            if let Some(node) = node.downcast_ref::<StreamMarkNode>() {
                return widened(&node.input, plan, &node.on);
            }
            if let Some(node) = node.downcast_ref::<ExpandNode>() {
                return widened(&node.input, plan, &node.keys);
            }
            if let Some(node) = node.downcast_ref::<StreamSessionNode>() {
                return grouped(&node.group_expr, &node.aggr_expr, &node.input, node.schema.fields().len());
            }
            if node.downcast_ref::<StreamLimitNode>().is_some() {
                return Err("LIMIT takes any of the rows".to_string());
            }
            other(plan)
        }
        LogicalPlan::TableScan(_) | LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => {
            Ok(vec![Likeness::Same; plan.schema().fields().len()])
        }
        other_node => other(other_node),
    }
}

/// The same for what each aggregate with state gives, by operator number.
///
/// # Errors
/// None but those of walking the plan.
pub fn likeness_by_operator(plan: &LogicalPlan) -> Result<BTreeMap<u32, Result<Vec<Likeness>, String>>> {
    let mut found = BTreeMap::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Extension(extension) = node
            && let Some(aggregate) = extension.node.as_any().downcast_ref::<StreamAggregateNode>()
        {
            found.insert(aggregate.operator, likeness(node));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// The columns of `input`, and others made of `keys`.
fn widened(input: &LogicalPlan, plan: &LogicalPlan, keys: &[Expr]) -> Result<Vec<Likeness>, String> {
    let below = Known::of(input)?;
    keys.iter().try_for_each(|key| below.decides(key))?;
    let mut columns = below.likeness;
    columns.resize(plan.schema().fields().len(), Likeness::Same);
    Ok(columns)
}

/// A node of which nothing is known: what it gives of exact input is taken for exact, but for numbers and lists, which
/// it may have made.
fn other(plan: &LogicalPlan) -> Result<Vec<Likeness>, String> {
    let mut worst = Likeness::Same;
    for input in plan.inputs() {
        worst = likeness(input)?.into_iter().fold(worst, Likeness::max);
    }
    let passes = plan.inputs().iter().any(|input| input.schema() == plan.schema());
    let of = |data_type: &DataType| match data_type {
        _ if passes || worst > Likeness::Near => worst,
        data_type if data_type.is_floating() => Likeness::Near,
        DataType::List(_) | DataType::LargeList(_) => Likeness::AnyOrder,
        _ => worst,
    };
    Ok(plan.schema().fields().iter().map(|field| of(field.data_type())).collect())
}

fn grouped(keys: &[Expr], values: &[Expr], input: &LogicalPlan, columns: usize) -> Result<Vec<Likeness>, String> {
    let below = Known::of(input)?;
    let mut found = Vec::with_capacity(columns);
    for key in keys {
        below.decides(key)?;
    }
    // GROUPING SETS have one expression and several columns, and a number of their own.
    found.resize(columns.saturating_sub(values.len()), Likeness::Same);
    for value in values {
        found.push(below.of_aggregate(value, input)?);
    }
    Ok(found)
}

/// Columns below, and how they compare.
struct Known {
    columns: Vec<Column>,
    likeness: Vec<Likeness>,
}

impl Known {
    fn of(plan: &LogicalPlan) -> Result<Known, String> {
        Ok(Known { columns: plan.schema().columns(), likeness: likeness(plan)? })
    }

    fn of_column(&self, column: &Column) -> Likeness {
        let exact = self.columns.iter().position(|known| known == column);
        let named = || self.columns.iter().position(|known| known.name == column.name);
        let at = exact.or_else(named).and_then(|at| self.likeness.get(at));
        at.copied().unwrap_or(Likeness::Any)
    }

    /// Rows come and go by this expression.
    fn decides(&self, expr: &Expr) -> Result<(), String> {
        match self.of_expr(expr)? {
            Likeness::Same | Likeness::Near => Ok(()),
            Likeness::AnyOrder | Likeness::Any => {
                Err(format!("which rows there are rests on {}, which may be another value", sql_text(expr)))
            }
        }
    }

    fn of_expr(&self, expr: &Expr) -> Result<Likeness, String> {
        match expr {
            Expr::Column(column) => return Ok(self.of_column(column)),
            Expr::Alias(alias) => return self.of_expr(&alias.expr),
            _ if expr.is_volatile_node() && !is_clock(expr) => {
                return Err(format!("{} gives another value each time", sql_text(expr)));
            }
            _ => {}
        }
        let mut worst = Likeness::Same;
        let mut volatile = None;
        // A walk that cannot fail.
        let _ = expr.apply(|part| {
            match part {
                Expr::Column(column) => worst = worst.max(self.of_column(column)),
                part if part.is_volatile_node() && !is_clock(part) => volatile = Some(sql_text(part)),
                _ => {}
            }
            Ok(TreeNodeRecursion::Continue)
        });
        if let Some(volatile) = volatile {
            return Err(format!("{volatile} gives another value each time"));
        }
        Ok(match (worst, expr) {
            (Likeness::Near, Expr::Cast(cast)) if cast.field.data_type().is_floating() => Likeness::Near,
            (Likeness::Near, Expr::BinaryExpr(_) | Expr::Negative(_) | Expr::Case(_)) => Likeness::Near,
            (Likeness::Near, Expr::IsNull(_) | Expr::IsNotNull(_)) => Likeness::Same,
            (Likeness::Near, Expr::ScalarFunction(call)) if is_smooth(call.func.name()) => Likeness::Near,
            (Likeness::AnyOrder, Expr::ScalarFunction(call)) if OF_ANY_ORDER.contains(&call.func.name()) => {
                Likeness::Same
            }
            (Likeness::Same, _) => Likeness::Same,
            _ => Likeness::Any,
        })
    }

    fn of_aggregate(&self, expr: &Expr, input: &LogicalPlan) -> Result<Likeness, String> {
        let function = match expr {
            Expr::Alias(alias) => return self.of_aggregate(&alias.expr, input),
            Expr::AggregateFunction(function) => function,
            other => return self.of_expr(other),
        };
        let mut worst = Likeness::Same;
        for arg in &function.params.args {
            worst = worst.max(self.of_expr(arg)?);
        }
        if let Some(filter) = &function.params.filter
            && self.of_expr(filter)? > Likeness::Near
        {
            return Ok(Likeness::Any);
        }
        let name = function.func.name();
        let floating = expr.get_type(input.schema()).map_or(true, |data_type| data_type.is_floating());
        Ok(match worst {
            Likeness::Same | Likeness::Near if LISTS.contains(&name) && worst == Likeness::Same => Likeness::AnyOrder,
            Likeness::Same if matches!(name, "min" | "max" | "mode") => Likeness::Same,
            Likeness::Same | Likeness::Near if floating && (EXACT.contains(&name) || name.starts_with("regr_")) => {
                Likeness::Near
            }
            Likeness::Same if EXACT.contains(&name) => Likeness::Same,
            _ => Likeness::Any,
        })
    }
}

/// Functions of numbers whose result is near when their arguments are.
fn is_smooth(name: &str) -> bool {
    let known = ["abs", "sqrt", "ln", "log", "log2", "log10", "exp", "power", "pow", "coalesce", "nullif", "degrees"];
    known.contains(&name) || ["add", "subtract", "multiply", "divide"].contains(&name)
}

/// Whether the result depends on where one epoch ends and the next begins, beyond what the watermark makes late: the
/// epoch's time is read, or a key is forgotten some time after the epoch that brought it.
///
/// # Errors
/// None but those of walking the plan.
pub fn cut_matters(plan: &LogicalPlan) -> Result<bool> {
    let mut matters = reads_clock(plan)?;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Extension(extension) = node
            && let Some(node) = extension.node.as_any().downcast_ref::<StreamDeduplicateNode>()
        {
            matters |= matches!(node.forget, Forget::After(_));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(matters)
}
