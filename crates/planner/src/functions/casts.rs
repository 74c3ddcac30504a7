//! Casts, parts of times and arithmetic whose result in Spark differs from Arrow's, rewritten after types are coerced,
//! so that the casts coercion puts in mean the same as typed ones.
//!
//! Arrow takes a number for microseconds where Spark takes it for seconds, writes `T` and `Z` into the text of a
//! timestamp, and reads and cuts times in UTC where Spark does it in the session's time zone. Rewriting twice gives
//! what rewriting once gives: plans are analyzed more than once.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, ScalarUDF, cast, lit};
use datafusion::optimizer::AnalyzerRule;

use super::{arithmetic, datetime, lengths};
use crate::bind::first_stream;
use crate::ddl::timestamp;

/// The rule, for a session time zone.
#[derive(Debug)]
pub(super) struct SparkMeaning {
    zone: String,
}

impl SparkMeaning {
    pub fn new(timezone: &str) -> Self {
        SparkMeaning { zone: timezone.to_string() }
    }
}

impl AnalyzerRule for SparkMeaning {
    fn name(&self) -> &str {
        "spark_meaning"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| self.node(node)).map(|rewritten| rewritten.data)
    }
}

impl SparkMeaning {
    fn node(&self, node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        let mut schema = merge_schema(&node.inputs());
        if let LogicalPlan::TableScan(scan) = &node {
            schema.merge(&DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?);
        }
        let names = NamePreserver::new(&node);
        let stored = first_stream(&node).is_some();
        let rewritten = node.map_expressions(|expr| {
            let saved = names.save(&expr);
            let rewritten = expr.transform_up(|expr| self.expr(expr, &schema, stored))?;
            Ok(if rewritten.transformed { rewritten.update_data(|expr| saved.restore(expr)) } else { rewritten })
        })?;
        rewritten.map_data(LogicalPlan::recompute_schema)
    }

    /// `stored`: the expression may be one by whose text the state of a stream is known.
    fn expr(&self, expr: Expr, schema: &DFSchema, stored: bool) -> Result<Transformed<Expr>> {
        if let Some(compared) = lengths::compared(&expr, schema, stored)? {
            return Ok(Transformed::yes(compared));
        }
        let replaced = match &expr {
            Expr::Cast(inner) => match inner.expr.get_type(schema) {
                Ok(from) => self.cast(&inner.expr, &from, inner.field.data_type(), false),
                Err(_) => None,
            },
            Expr::TryCast(inner) => match inner.expr.get_type(schema) {
                Ok(from) => self.cast(&inner.expr, &from, inner.field.data_type(), true),
                Err(_) => None,
            },
            Expr::BinaryExpr(binary) => match (binary.left.get_type(schema), binary.right.get_type(schema)) {
                (Ok(left), Ok(right)) => self.binary(binary, &left, &right),
                _ => None,
            },
            Expr::ScalarFunction(function) => self.function(function, schema)?,
            _ => None,
        };
        Ok(match replaced {
            Some(replaced) => Transformed::yes(replaced),
            None => Transformed::no(expr),
        })
    }

    fn utc(&self) -> bool {
        self.zone == "UTC"
    }

    /// What a cast stands for where Arrow's own is not it.
    fn cast(&self, inner: &Expr, from: &DataType, to: &DataType, lenient: bool) -> Option<Expr> {
        use DataType::{Date32, LargeUtf8, Timestamp, Utf8, Utf8View};
        let zone = self.zone.as_str();
        let value = || inner.clone();
        Some(match (from, to) {
            (Timestamp(_, _), Utf8 | LargeUtf8 | Utf8View) => {
                in_type(call(datetime::timestamp_text(zone), in_micros(value(), from)), &Utf8, to)
            }
            (Utf8 | LargeUtf8 | Utf8View, Timestamp(_, Some(to_zone))) if &**to_zone == "UTC" => {
                let text = in_type(value(), from, &Utf8);
                in_type(call(datetime::timestamp_of(zone, lenient), text), &timestamp(), to)
            }
            (from, Timestamp(_, Some(_))) if from.is_integer() => {
                in_type(call(datetime::timestamp_seconds(), in_type(value(), from, &DataType::Int64)), &timestamp(), to)
            }
            (from, Timestamp(_, Some(_))) if from.is_floating() => {
                let seconds = in_type(value(), from, &DataType::Float64);
                in_type(call(datetime::timestamp_seconds(), seconds), &timestamp(), to)
            }
            (DataType::Decimal128(_, _), Timestamp(_, Some(_))) => {
                in_type(call(datetime::timestamp_seconds(), value()), &timestamp(), to)
            }
            (Timestamp(_, _), to) if to.is_integer() => {
                in_type(call(datetime::unix_timestamp(zone), in_micros(value(), from)), &DataType::Int64, to)
            }
            (Timestamp(_, Some(_)), to) if to.is_floating() || to.is_decimal() => {
                let utc = in_type(in_micros(value(), from), from, &timestamp());
                let micros = call(datafusion_spark::function::datetime::unix_micros(), utc);
                in_type(cast(micros, DataType::Float64) / lit(1e6), &DataType::Float64, to)
            }
            (Date32, Timestamp(_, Some(to_zone))) if !self.utc() && &**to_zone == "UTC" => {
                let local = cast(value(), Timestamp(TimeUnit::Microsecond, None));
                in_type(call(datetime::timestamp_of(zone, lenient), local), &timestamp(), to)
            }
            (Timestamp(_, None), Timestamp(_, Some(to_zone))) if !self.utc() && &**to_zone == "UTC" => {
                in_type(call(datetime::timestamp_of(zone, lenient), in_micros(value(), from)), &timestamp(), to)
            }
            (Timestamp(_, Some(from_zone)), Timestamp(_, None)) if !self.utc() && &**from_zone == "UTC" => {
                let local = Timestamp(TimeUnit::Microsecond, None);
                in_type(call(datetime::local_timestamp(zone), in_micros(value(), from)), &local, to)
            }
            (Timestamp(_, Some(from_zone)), Date32) if !self.utc() && &**from_zone == "UTC" => {
                call(datetime::to_date(zone), in_micros(value(), from))
            }
            _ => return None,
        })
    }

    fn binary(&self, binary: &BinaryExpr, left: &DataType, right: &DataType) -> Option<Expr> {
        let BinaryExpr { left: l, op, right: r } = binary;
        let moves = matches!(op, Operator::Plus | Operator::Minus);
        match (left, right) {
            (DataType::Timestamp(_, Some(zone)), DataType::Interval(_)) if moves && self.elsewhere(zone) => {
                Some(cast(arithmetic::binary(self.here(l.as_ref().clone()), *op, r.as_ref().clone()), left.clone()))
            }
            (DataType::Interval(_), DataType::Timestamp(_, Some(zone))) if moves && self.elsewhere(zone) => {
                Some(cast(arithmetic::binary(l.as_ref().clone(), *op, self.here(r.as_ref().clone())), right.clone()))
            }
            _ => arithmetic::checked(binary, left, right),
        }
    }

    /// Whether a timestamp of that zone has to be brought to the session's before it is taken apart.
    fn elsewhere(&self, zone: &str) -> bool {
        !self.utc() && zone == "UTC"
    }

    fn here(&self, expr: Expr) -> Expr {
        cast(expr, DataType::Timestamp(TimeUnit::Microsecond, Some(self.zone.as_str().into())))
    }

    /// Functions that take times apart do it in the session's zone.
    fn function(&self, function: &ScalarFunction, schema: &DFSchema) -> Result<Option<Expr>> {
        let name = function.func.name();
        let at = match name {
            "date_part" | "date_trunc" => 1,
            "hour" | "minute" | "second" => 0,
            _ => return Ok(None),
        };
        let mut args = function.args.clone();
        let mut changed = false;
        if name == "date_part"
            && let Some(part) = args.first_mut()
        {
            changed |= canonical_part(part)?;
        }
        let Some(time) = args.get_mut(at) else { return Ok(None) };
        let Ok(mut given) = time.get_type(schema) else { return Ok(None) };
        if name == "date_trunc" && !matches!(given, DataType::Timestamp(_, _)) {
            // A date is its midnight in the session's zone.
            let value = std::mem::take(time);
            *time = match self.cast(&value, &given, &timestamp(), false) {
                Some(instant) => instant,
                None => cast(value, timestamp()),
            };
            given = timestamp();
            changed = true;
        }
        let zoned = matches!(&given, DataType::Timestamp(_, Some(zone)) if self.elsewhere(zone));
        if zoned {
            *time = self.here(std::mem::take(time));
        }
        if !zoned && !changed {
            return Ok(None);
        }
        let called = Expr::ScalarFunction(ScalarFunction::new_udf(function.func.clone(), args));
        Ok(Some(if zoned && name == "date_trunc" { cast(called, given) } else { called }))
    }
}

/// Spark's names of the parts of a time, and DataFusion's.
const PARTS: &[(&str, &[&str])] = &[
    ("year", &["y", "years", "yr", "yrs"]),
    ("yearofweek", &["year_iso", "isoyear"]),
    ("quarter", &["qtr"]),
    ("month", &["mon", "mons", "months"]),
    ("week", &["w", "weeks"]),
    ("day", &["d", "days"]),
    ("dayofweek", &["dow"]),
    ("dayofweek_iso", &["dow_iso", "isodow"]),
    ("doy", &[]),
    ("hour", &["h", "hours", "hr", "hrs"]),
    ("minute", &["m", "min", "mins", "minutes"]),
    ("second", &["s", "sec", "seconds", "secs"]),
];

/// Brings the part's name to the one the function knows; true when it changed.
fn canonical_part(part: &mut Expr) -> Result<bool> {
    let Expr::Literal(ScalarValue::Utf8(Some(text)), _) = &*part else { return Ok(false) };
    let lower = text.to_lowercase();
    let known = PARTS.iter().find(|(name, others)| *name == lower || others.contains(&lower.as_str()));
    let Some((name, _)) = known else {
        let way_out = match lower.as_str() {
            "epoch" => "; unix_timestamp(…) gives the seconds since 1970",
            "millisecond" | "milliseconds" | "microsecond" | "microseconds" => "; date_format(…, 'SSSSSS') gives them",
            _ => "",
        };
        let names: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
        return plan_err!("a time has no part `{text}`; it has {}{way_out}", names.join(", "));
    };
    if *name == text {
        return Ok(false);
    }
    *part = lit(*name);
    Ok(true)
}

fn call(udf: Arc<ScalarUDF>, arg: Expr) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(udf, vec![arg]))
}

/// `expr`, which has the type `from`, in the type `to`.
fn in_type(expr: Expr, from: &DataType, to: &DataType) -> Expr {
    if from == to { expr } else { cast(expr, to.clone()) }
}

/// A timestamp of any unit in microseconds.
fn in_micros(expr: Expr, from: &DataType) -> Expr {
    match from {
        DataType::Timestamp(unit, zone) if *unit != TimeUnit::Microsecond => {
            cast(expr, DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))
        }
        _ => expr,
    }
}
