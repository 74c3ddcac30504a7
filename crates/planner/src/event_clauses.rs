//! WATERMARK and DEDUPLICATE BY, from what was typed to nodes of the plan.

use std::sync::Arc;

use alluvium_parser::{Deduplicate, Diagnostic, Query, Relation};
use datafusion::arrow::datatypes::DataType;
use datafusion::catalog::TableProvider;
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Extension, Filter, LogicalPlan, LogicalPlanBuilder};
use datafusion::scalar::ScalarValue;

use crate::bind::{Resolved, first_stream};
use crate::ddl::sql_type;
use crate::errors::listed;
use crate::near::nearest;
use crate::node::{Forget, StreamDeduplicateNode, WatermarkNode};
use crate::scope::spelled;
use crate::streaming::is_watermark;

/// The relation with its WATERMARK above it; `name` is what the query calls it.
pub(crate) fn watermarked(
    resolved: &Resolved,
    relation: &Relation,
    name: &str,
) -> Result<Arc<dyn TableProvider>, Diagnostic> {
    let Some(watermark) = &relation.watermark else { return Ok(resolved.provider.clone()) };
    let failed = |error| Diagnostic::new("INVALID_QUERY", format!("WATERMARK: {error}")).at(watermark.span);
    let scan = LogicalPlanBuilder::scan(name, provider_as_source(resolved.provider.clone()), None);
    let input = scan.and_then(LogicalPlanBuilder::build).map_err(failed)?;
    if first_stream(&input).is_none() {
        return Err(Diagnostic::new(
            "WATERMARK_ON_STATIC",
            "a watermark says how late rows of a stream may come, and this is read whole",
        )
        .at(relation.span.to(watermark.span))
        .label("no stream")
        .help("write STREAM in front of the table, or leave WATERMARK out"));
    }
    let schema = input.schema().as_arrow();
    let columns: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let typed = watermark.column.parts.last().map_or("", String::as_str);
    let found = spelled(&columns, typed).and_then(|name| columns.iter().position(|column| column == name));
    let Some(at) = found else {
        let names: Vec<&str> = columns.iter().map(String::as_str).collect();
        let refusal = Diagnostic::new("UNRESOLVED_COLUMN", format!("there is no column `{typed}` here"));
        let refusal = match nearest(typed, names.iter().copied()) {
            Some(near) => refusal.help(format!("did you mean `{near}`?")),
            None => refusal,
        };
        return Err(refusal.at(watermark.column.span).help(format!("columns: {}", listed(&names))));
    };
    let data_type = schema.field(at).data_type();
    if !matches!(data_type, DataType::Timestamp(_, _)) {
        let refusal = Diagnostic::new(
            "EVENT_TIME_IS_NOT_ON_TIMESTAMP_TYPE",
            format!("event time is a TIMESTAMP, and `{typed}` is of type {}", sql_type(data_type)),
        );
        return Err(refusal.at(watermark.column.span).help(format!(
            "give the column the type TIMESTAMP where the files are read, or cast it in a view: \
             CREATE TEMP VIEW v AS SELECT *, CAST({typed} AS TIMESTAMP) AS event_time FROM …"
        )));
    }
    let delay_us = i64::try_from(watermark.delay.as_micros()).unwrap_or(i64::MAX);
    let column = Expr::Column(input.schema().qualified_field(at).into());
    let node = WatermarkNode { number: 0, input, column, delay_us, max_future_us: None };
    Ok(Arc::new(ViewTable::new(LogicalPlan::Extension(Extension { node: Arc::new(node) }), None)))
}

/// Takes the calls that stand for DEDUPLICATE BY out of WHERE and puts what they mean in their place: a node with
/// state over a stream, the first row of each key otherwise.
pub(crate) fn deduplicated(plan: LogicalPlan, query: &Query) -> Result<LogicalPlan, Diagnostic> {
    let Some(first) = query.deduplicates.first() else { return Ok(plan) };
    let mut within_static = false;
    let placed = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::Filter(filter) = node else { return Ok(Transformed::no(node)) };
        let Filter { predicate, input, .. } = filter;
        let (calls, conditions): (Vec<Expr>, Vec<Expr>) =
            split_conjunction_owned(predicate.clone()).into_iter().partition(|expr| arguments(expr).is_some());
        let Some((within, on)) = calls.first().and_then(arguments) else {
            return Ok(Transformed::no(LogicalPlan::Filter(Filter::try_new(predicate, input)?)));
        };
        let on = on.to_vec();
        let mut input = Arc::unwrap_or_clone(input);
        if let Some(condition) = conjunction(conditions) {
            input = LogicalPlanBuilder::from(input).filter(condition)?.build()?;
        }
        let stream = first_stream(&input).is_some();
        within_static |= within && !stream;
        let forget = match within {
            true => Forget::After(delay(&input).unwrap_or(0)),
            false => Forget::Never,
        };
        let node = match stream {
            true => {
                let node = StreamDeduplicateNode { operator: 0, input, on, time: None, forget, lag_us: 0 };
                LogicalPlan::Extension(Extension { node: Arc::new(node) })
            }
            false => {
                let all = input.schema().columns().into_iter().map(Expr::Column).collect();
                LogicalPlanBuilder::from(input).distinct_on(on, all, None)?.build()?
            }
        };
        Ok(Transformed::new(node, true, TreeNodeRecursion::Continue))
    });
    if within_static {
        return Err(Diagnostic::new(
            "WITHIN_WATERMARK_WITHOUT_WATERMARK",
            "DEDUPLICATE BY … WITHIN WATERMARK forgets keys as the watermark of a stream passes, and nothing here is a stream",
        )
        .at(first.span)
        .help("leave WITHIN WATERMARK out, or read a stream with WATERMARK"));
    }
    match placed {
        Ok(placed) => Ok(placed.data),
        Err(error) => Err(Diagnostic::new("INVALID_QUERY", format!("DEDUPLICATE BY: {error}")).at(first.span)),
    }
}

/// Whether WITHIN WATERMARK was typed, and the columns, if this is the call that stands for DEDUPLICATE BY.
fn arguments(expr: &Expr) -> Option<(bool, &[Expr])> {
    let Expr::ScalarFunction(call) = expr else { return None };
    if call.func.name() != Deduplicate::CALL {
        return None;
    }
    let (within, on) = call.args.split_first()?;
    Some((matches!(within, Expr::Literal(ScalarValue::Boolean(Some(true)), _)), on))
}

/// The delay of the nearest watermark below.
fn delay(plan: &LogicalPlan) -> Option<i64> {
    match is_watermark(plan) {
        Some(node) => Some(node.delay_us),
        None => plan.inputs().into_iter().find_map(delay),
    }
}
