//! By which columns of the result rows of the target are found again, where an epoch changes rows of it.
//!
//! An aggregate has one row per group, and only that: what stands above it may compute columns and drop groups (HAVING),
//! but not make several rows of one, or one of several. The grouping columns must then be in the result, as they are or
//! in a form that tells them apart. In COMPLETE mode the same lets an epoch write only what changed. Works on the plan with its stateful nodes.

use alluvium_parser::{Diagnostic, OutputMode, Span};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Column;
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, Volatility};
use datafusion::scalar::ScalarValue;

use super::stateful::sql_text;
use crate::node::StreamAggregateNode;
use crate::plan::{KeyPart, Upsert, UpsertKey};
use crate::windows::WINDOW_COLUMN;

/// How the rows of `plan`'s result are found again; None where no aggregate decides on them.
///
/// # Errors
/// UPDATE_NOT_BY_KEY in UPDATE mode, where there is an aggregate and no way to find its rows. In other modes that is None.
pub(super) fn upsert(plan: &LogicalPlan, mode: (OutputMode, Span), query: Span) -> Result<Option<Upsert>, Diagnostic> {
    let refused = |why: String, help: &str| match mode.0 {
        OutputMode::Update => Err(Diagnostic::new("UPDATE_NOT_BY_KEY", why)
            .at(mode.1)
            .at_least(query)
            .help(help)
            .help("or use OUTPUT MODE COMPLETE: the table is replaced by the whole result each epoch")),
        OutputMode::Append | OutputMode::Complete => Ok(None),
    };
    let Some((node, filtered)) = aggregate_below(plan) else {
        let Some(above) = first_above(plan) else { return Ok(None) };
        return refused(
            format!(
                "OUTPUT MODE UPDATE replaces the row of each group that changed, and {above} above the aggregate has other rows than groups"
            ),
            "do it below the aggregate, or in a query over the target table",
        );
    };
    // In COMPLETE mode rows of groups that did not change would keep what an earlier epoch gave them.
    if mode.0 == OutputMode::Complete && !is_fixed(plan) {
        return Ok(None);
    }
    let mut keys = Vec::new();
    for (group, expr) in node.group_expr.iter().enumerate() {
        let columns = (0..plan.schema().fields().len()).filter_map(|column| Some((column, traced(plan, column)?)));
        let mut found: Vec<(usize, KeyPart)> =
            columns.filter(|(_, (at, _))| *at == group).map(|(column, (_, part))| (column, part)).collect();
        // The column itself before a part of it, and the part that says when a window is over before the other.
        found.sort_by_key(|(_, part)| match part {
            KeyPart::Whole => 0,
            KeyPart::End => 1,
            KeyPart::Start => 2,
        });
        match found.first() {
            Some((column, part)) => keys.push(UpsertKey { column: *column, group, part: *part }),
            None if matches!(expr, Expr::Column(column) if column.name == Aggregate::INTERNAL_GROUPING_ID) => {
                return refused(
                    "GROUPING SETS, ROLLUP and CUBE in OUTPUT MODE UPDATE are not carried out yet".to_owned(),
                    "write a streaming table for each of the groupings",
                );
            }
            None => {
                let key = sql_text(&super::stateful::defined(expr, &node.input));
                return refused(
                    format!(
                        "OUTPUT MODE UPDATE finds the rows to replace by the grouping columns, and `{key}` is not in the result"
                    ),
                    &format!("select it as well: SELECT {key}, …"),
                );
            }
        }
    }
    let ends = |key: &UpsertKey| Some(key.group) == node.time && key.part != KeyPart::Start;
    let time = keys.iter().position(ends).filter(|_| mode.0 == OutputMode::Update);
    Ok(Some(Upsert { keys, filtered, time }))
}

/// The aggregate whose groups are the rows of `plan`, and whether some of them are dropped.
fn aggregate_below(plan: &LogicalPlan) -> Option<(&StreamAggregateNode, bool)> {
    match plan {
        LogicalPlan::Projection(projection) => aggregate_below(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => aggregate_below(&alias.input),
        LogicalPlan::Filter(filter) => aggregate_below(&filter.input).map(|(node, _)| (node, true)),
        LogicalPlan::Extension(extension) => {
            extension.node.as_any().downcast_ref::<StreamAggregateNode>().map(|node| (node, false))
        }
        _ => None,
    }
}

/// Whether what stands above the aggregate gives the same for the same group in every epoch.
fn is_fixed(plan: &LogicalPlan) -> bool {
    let immutable = |expr: &Expr| {
        let varies = expr.exists(|expr| {
            Ok(match expr {
                Expr::ScalarFunction(call) => call.func.signature().volatility != Volatility::Immutable,
                Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_) => true,
                _ => false,
            })
        });
        !varies.unwrap_or(true)
    };
    match plan {
        LogicalPlan::Extension(_) => true,
        other => other.expressions().iter().all(immutable) && other.inputs().into_iter().all(is_fixed),
    }
}

/// What stands between the result and an aggregate further below, by name; None where there is no aggregate.
fn first_above(plan: &LogicalPlan) -> Option<&'static str> {
    let has_aggregate = |plan: &LogicalPlan| {
        plan.exists(|node| {
            Ok(matches!(node, LogicalPlan::Extension(extension)
                if extension.node.as_any().is::<StreamAggregateNode>()))
        })
        .unwrap_or(false)
    };
    match plan {
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Filter(_) => {
            plan.inputs().into_iter().find_map(first_above)
        }
        _ if !has_aggregate(plan) => None,
        LogicalPlan::Join(_) => Some("a JOIN"),
        LogicalPlan::Union(_) => Some("UNION ALL"),
        LogicalPlan::Unnest(_) => Some("explode"),
        LogicalPlan::Sort(_) => Some("ORDER BY"),
        LogicalPlan::Limit(_) => Some("LIMIT"),
        _ => Some("what stands"),
    }
}

/// The grouping column that a column of `plan`'s result comes from unchanged.
fn traced(plan: &LogicalPlan, column: usize) -> Option<(usize, KeyPart)> {
    match plan {
        LogicalPlan::Projection(projection) => of_expr(projection.expr.get(column)?, &projection.input),
        LogicalPlan::SubqueryAlias(alias) => traced(&alias.input, column),
        LogicalPlan::Filter(filter) => traced(&filter.input, column),
        LogicalPlan::Extension(extension) => {
            let node = extension.node.as_any().downcast_ref::<StreamAggregateNode>()?;
            (column < node.group_expr.len()).then_some((column, KeyPart::Whole))
        }
        _ => None,
    }
}

fn of_expr(expr: &Expr, input: &LogicalPlan) -> Option<(usize, KeyPart)> {
    match expr {
        Expr::Alias(alias) => of_expr(&alias.expr, input),
        Expr::Column(column) => traced(input, position(column, input)?),
        Expr::Cast(cast) => {
            let from = datafusion::logical_expr::ExprSchemable::get_type(cast.expr.as_ref(), input.schema()).ok()?;
            of_expr(&cast.expr, input).filter(|_| tells_apart(&from, cast.field.data_type()))
        }
        // A window is known by either of its ends.
        Expr::ScalarFunction(call) if call.func.name() == "get_field" => match call.args.as_slice() {
            [Expr::Column(column), Expr::Literal(ScalarValue::Utf8(Some(field)), _)] => {
                let part = match field.as_str() {
                    "start" => KeyPart::Start,
                    "end" => KeyPart::End,
                    _ => return None,
                };
                let at = position(column, input)?;
                traced(input, at)
                    .filter(|(_, whole)| *whole == KeyPart::Whole && is_window(input, at))
                    .map(|(group, _)| (group, part))
            }
            _ => None,
        },
        _ => None,
    }
}

fn position(column: &Column, input: &LogicalPlan) -> Option<usize> {
    input.schema().maybe_index_of_column(column)
}

/// Whether the column is one of windows, all of the same length.
fn is_window(plan: &LogicalPlan, column: usize) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => match projection.expr.get(column).map(|expr| expr.clone().unalias()) {
            Some(Expr::Column(below)) => {
                position(&below, &projection.input).is_some_and(|at| is_window(&projection.input, at))
            }
            _ => false,
        },
        LogicalPlan::SubqueryAlias(alias) => is_window(&alias.input, column),
        LogicalPlan::Filter(filter) => is_window(&filter.input, column),
        LogicalPlan::Extension(extension) => {
            let node = extension.node.as_any().downcast_ref::<StreamAggregateNode>();
            let key = node.and_then(|node| node.group_expr.get(column)).map(|key| key.clone().unalias());
            matches!(key, Some(Expr::Column(key)) if key.name.starts_with(WINDOW_COLUMN))
        }
        _ => false,
    }
}

/// Whether different values stay different.
fn tells_apart(from: &DataType, to: &DataType) -> bool {
    use DataType::{
        Boolean, Date32, Decimal128, Float32, Float64, Int8, Int16, Int32, Int64, LargeUtf8, Timestamp, UInt8, UInt16,
        UInt32, Utf8, Utf8View,
    };
    let bits = |data_type: &DataType| match data_type {
        Int8 => Some(8),
        UInt8 => Some(9),
        Int16 => Some(16),
        UInt16 => Some(17),
        Int32 => Some(32),
        UInt32 => Some(33),
        Int64 => Some(64),
        _ => None,
    };
    let text = |data_type: &DataType| matches!(data_type, Utf8 | LargeUtf8 | Utf8View);
    match (from, to) {
        _ if from == to => true,
        (from, to) if text(from) && text(to) => true,
        (from, to) if text(to) => bits(from).is_some() || matches!(from, Boolean | Date32),
        (from, to) if bits(from).is_some() && bits(to).is_some() => {
            bits(from) < bits(to) && matches!(to, Int16 | Int32 | Int64)
        }
        (Float32, Float64) | (Date32, Timestamp(..)) => true,
        (Decimal128(digits, scale), Decimal128(more, finer)) => {
            finer >= scale && i16::from(*more) - i16::from(*finer) >= i16::from(*digits) - i16::from(*scale)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::fixtures::{bound, query, state};
    use crate::plan::StreamingPlan;
    use crate::streaming::plan_stream;

    fn plan(sql: &str, mode: OutputMode) -> Result<StreamingPlan, Diagnostic> {
        let state = state();
        plan_stream(bound(sql, &state)?, &query(sql), (mode, Span::UNKNOWN), &state)
    }

    const NOT_BY_KEY: &str = "UPDATE_NOT_BY_KEY";

    /// What Spark accepts in UPDATE mode, less what cannot be told apart by key in a table.
    const UPDATE: &[(&str, &str)] = &[
        ("SELECT * FROM STREAM s WHERE v > 1", "ok"),
        ("SELECT * FROM STREAM s ORDER BY id", "STREAMING_SORT"),
        ("SELECT k, count(*) c FROM STREAM s GROUP BY k", "ok"),
        ("SELECT k, count(*) c FROM STREAM s GROUP BY k ORDER BY c", "STREAMING_SORT"),
        ("SELECT k, count(*) c FROM STREAM s GROUP BY k LIMIT 2", "STREAMING_LIMIT"),
        ("SELECT * FROM STREAM s LIMIT 5", "STREAMING_LIMIT"),
        ("SELECT * FROM STREAM s OFFSET 2", "STREAMING_OFFSET"),
        ("SELECT DISTINCT k FROM STREAM s", "ok"),
        ("SELECT DISTINCT ts, k FROM STREAM s WATERMARK ts DELAY OF INTERVAL 1 MINUTE", "ok"),
        ("SELECT k, approx_count_distinct(v) FROM STREAM s GROUP BY k", "ok"),
        ("SELECT window(ts, '1 minute') w, count(*) FROM STREAM s GROUP BY 1", "ok"),
        ("SELECT window.start, k, count(*) FROM STREAM s GROUP BY window(ts, '1 minute'), k", "ok"),
        ("SELECT window.end, count(*) FROM STREAM s GROUP BY window(ts, '1 hour', '30 minutes')", "ok"),
        ("SELECT count(*) FROM STREAM s", "ok"),
        ("SELECT * FROM STREAM s JOIN b ON k = bk", "ok"),
        ("SELECT k, count(*) FROM STREAM s JOIN b ON k = bk GROUP BY k", "ok"),
        ("SELECT k FROM STREAM s UNION ALL SELECT k2 FROM STREAM s2", "ok"),
        ("SELECT k FROM STREAM s UNION SELECT k2 FROM STREAM s2", "ok"),
        ("SELECT k, count(*) FROM STREAM s DEDUPLICATE BY (id) GROUP BY k", "ok"),
        ("SELECT * FROM STREAM s DEDUPLICATE BY (k)", "ok"),
        ("SELECT k, count(*) FROM STREAM s GROUP BY k HAVING count(*) > 1", "ok"),
        ("SELECT x.k AS key, c + 1 FROM (SELECT k, count(*) c FROM STREAM s GROUP BY k) x WHERE c > 2", "ok"),
        ("SELECT CAST(id AS STRING) AS id, count(*) FROM STREAM s GROUP BY s.id", "ok"),
        ("SELECT count(*) FROM STREAM s GROUP BY k", NOT_BY_KEY),
        ("SELECT upper(k) AS k, count(*) FROM STREAM s GROUP BY s.k", NOT_BY_KEY),
        ("SELECT CAST(id AS INT) AS id, count(*) FROM STREAM s GROUP BY s.id", NOT_BY_KEY),
        ("SELECT k, count(*) FROM STREAM s GROUP BY k, id", NOT_BY_KEY),
        ("SELECT a.k, b.bv FROM (SELECT k, count(*) c FROM STREAM s GROUP BY k) a JOIN b ON a.k = b.bk", NOT_BY_KEY),
        ("SELECT k, explode(collect_list(v)) FROM STREAM s GROUP BY k", NOT_BY_KEY),
        (
            "SELECT k, count(*) c FROM STREAM s GROUP BY k UNION ALL SELECT k2, count(*) FROM STREAM s2 GROUP BY k2",
            NOT_BY_KEY,
        ),
        ("SELECT k, count(*) c FROM STREAM s GROUP BY k UNION ALL SELECT k2, id2 FROM STREAM s2", NOT_BY_KEY),
        (
            "SELECT k, sum(c) FROM (SELECT k, v, count(*) c FROM STREAM s GROUP BY k, v) GROUP BY k",
            "STREAMING_CHAINED_AGGREGATES",
        ),
        ("SELECT *, row_number() OVER (PARTITION BY k ORDER BY ts) rn FROM STREAM s", "STREAMING_WINDOW_FUNCTION"),
    ];

    #[test]
    fn outcomes_in_update_mode() {
        let mut wrong = Vec::new();
        for (sql, expected) in UPDATE {
            let planned = plan(sql, OutputMode::Update);
            let found = planned.as_ref().map_or_else(|refusal| refusal.code, |_| "ok");
            if found != *expected {
                wrong.push(format!(
                    "{sql}: expected {expected}, found {found} {:?}",
                    planned.err().map(|e| e.to_string())
                ));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn keys_are_followed_to_the_result() {
        let sql = "SELECT c * 2 AS twice, window.start AS at, K AS key FROM (SELECT window, k, count(*) AS c FROM STREAM s \
                   GROUP BY window(ts, '1 minute'), k) WHERE c > 1";
        let Upsert { keys, filtered, time } = plan(sql, OutputMode::Update)
            .map_or(None, |plan| plan.upsert)
            .unwrap_or(Upsert { keys: Vec::new(), filtered: false, time: None });
        let found: Vec<_> = keys.iter().map(|key| (key.column, key.group, key.part)).collect();
        assert!(filtered && time.is_none());
        assert_eq!(found, [(1, 0, KeyPart::Start), (2, 1, KeyPart::Whole)]);
        let sql = "SELECT k, window.start, window.end, count(*) FROM STREAM s WATERMARK ts DELAY OF INTERVAL 1 MINUTE \
                   GROUP BY k, window(ts, '1 minute')";
        let upsert = plan(sql, OutputMode::Update).unwrap().upsert.unwrap();
        assert_eq!((upsert.keys[1].part, upsert.time), (KeyPart::End, Some(1)));
        let without_end = plan(&sql.replace(" window.end,", ""), OutputMode::Update).unwrap().upsert.unwrap();
        assert_eq!((without_end.keys[1].part, without_end.time), (KeyPart::Start, None));
    }

    #[test]
    fn complete_results_that_vary_are_written_whole() {
        let keyed = |sql: &str| plan(sql, OutputMode::Complete).unwrap().upsert.is_some();
        assert!(keyed("SELECT k, sum(v) + 1 AS s FROM STREAM s GROUP BY k HAVING count(*) > 1"));
        assert!(!keyed("SELECT k, sum(v) AS s FROM STREAM s GROUP BY k ORDER BY s LIMIT 3"));
        assert!(!keyed("SELECT k, sum(v) AS s, current_timestamp() AS now FROM STREAM s GROUP BY k"));
        assert!(!keyed("SELECT sum(v) AS s FROM STREAM s GROUP BY k"));
    }
}
