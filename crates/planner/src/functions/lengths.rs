//! Comparisons of intervals: of lengths, where Arrow compares months, then days, then nanoseconds.
//!
//! In Spark an interval of days, hours and less is one length, a day being 24 hours, and so is what one timestamp is later than
//! another. What is written out or is a difference of times is compared in microseconds; of other intervals the days are
//! made as many as possible first. Months have no length: they are compared with months only.

use datafusion::arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use datafusion::common::{DFSchema, Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr::{AggregateFunction, Between, Case, InList, ScalarFunction, WindowFunction};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator, cast};

use super::arithmetic::binary;
use super::canonical::{Months, in_one_form, is_in_one_form, to_be_compared};
use crate::streaming::length_us;

/// Functions that give back the one of their arguments that a comparison says.
const CHOOSING: [&str; 3] = ["greatest", "least", "nullif"];

/// `expr` if it compares intervals, so that it compares lengths. Types are coerced already. `stored`: the text of the
/// expression may be what a stream's state is known by, so one that Arrow understands as well stays as it is.
pub(super) fn compared(expr: &Expr, schema: &DFSchema, stored: bool) -> Result<Option<Expr>> {
    let lengths = |all: &[&Expr]| lengths(all, schema, stored);
    Ok(match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(*op) => {
            lengths(&[left, right])?.and_then(two).map(|[left, right]| binary(left, *op, right))
        }
        Expr::Between(Between { expr, negated, low, high }) => match lengths(&[expr, low, high])?.map(three) {
            Some(Some([expr, low, high])) => Some(Expr::Between(Between {
                expr: Box::new(expr),
                negated: *negated,
                low: Box::new(low),
                high: Box::new(high),
            })),
            _ => None,
        },
        Expr::InList(InList { expr, list, negated }) => {
            let all: Vec<&Expr> = std::iter::once(expr.as_ref()).chain(list).collect();
            lengths(&all)?.and_then(|all| {
                let mut all = all.into_iter();
                let expr = Box::new(all.next()?);
                Some(Expr::InList(InList { expr, list: all.collect(), negated: *negated }))
            })
        }
        Expr::Case(Case { expr: Some(value), when_then_expr, else_expr }) => {
            let all: Vec<&Expr> =
                std::iter::once(value.as_ref()).chain(when_then_expr.iter().map(|(when, _)| when.as_ref())).collect();
            lengths(&all)?.and_then(|all| {
                let mut all = all.into_iter();
                let expr = Some(Box::new(all.next()?));
                let then = when_then_expr.iter().map(|(_, then)| then.clone());
                let when_then_expr = all.map(Box::new).zip(then).collect();
                Some(Expr::Case(Case { expr, when_then_expr, else_expr: else_expr.clone() }))
            })
        }
        Expr::ScalarFunction(call) if CHOOSING.contains(&call.func.name()) => of_args(&call.args, schema)
            .map(|args| Expr::ScalarFunction(ScalarFunction::new_udf(call.func.clone(), args))),
        Expr::AggregateFunction(call) => of_args(&call.params.args, schema).map(|args| {
            let mut params = call.params.clone();
            params.args = args;
            Expr::AggregateFunction(AggregateFunction { func: call.func.clone(), params })
        }),
        Expr::WindowFunction(call) => of_args(&call.params.args, schema).map(|args| {
            let mut params = call.params.clone();
            params.args = args;
            Expr::WindowFunction(Box::new(WindowFunction { fun: call.fun.clone(), params }))
        }),
        _ => None,
    })
}

fn compares(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

pub(super) fn is_interval(expr: &Expr, schema: &DFSchema) -> bool {
    matches!(expr.get_type(schema), Ok(DataType::Interval(IntervalUnit::MonthDayNano)))
}

/// Arguments of which some are intervals that are not in one form yet.
fn of_args(args: &[Expr], schema: &DFSchema) -> Option<Vec<Expr>> {
    let needed = |arg: &Expr| is_interval(arg, schema) && !is_in_one_form(arg);
    let form = |arg: &Expr| if needed(arg) { in_one_form(arg.clone()) } else { arg.clone() };
    args.iter().any(needed).then(|| args.iter().map(form).collect())
}

/// What is compared instead of `all`, which are compared with each other; None: themselves.
fn lengths(all: &[&Expr], schema: &DFSchema, stored: bool) -> Result<Option<Vec<Expr>>> {
    if !all.iter().any(|expr| is_interval(expr, schema)) {
        return Ok(None);
    }
    if all.iter().any(|expr| has_months(expr)) {
        return match all.iter().all(|expr| has_months(expr) || is_null(expr)) {
            true => Ok(None),
            false => plan_err!(
                "an interval with months cannot be compared with one of another type: a month has no length in days"
            ),
        };
    }
    let measured: Option<Vec<Length>> = all.iter().map(|expr| Length::of(expr, schema)).collect();
    Ok(match measured {
        Some(lengths) if stored && !lengths.iter().any(|length| length.has_days) => None,
        Some(lengths) => Some(lengths.into_iter().map(|length| length.micros).collect()),
        None => {
            let formed = all.iter().all(|expr| is_in_one_form(expr));
            (!formed).then(|| all.iter().map(|expr| to_be_compared((*expr).clone(), Months::Refused)).collect())
        }
    })
}

fn has_months(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) if interval.months != 0)
}

fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value, _) if value.is_null())
}

/// A length in microseconds.
struct Length {
    micros: Expr,
    /// Whether days are written in it, which Arrow would not compare with hours.
    has_days: bool,
}

impl Length {
    /// The length that an interval surely has; None: it may have months.
    fn of(expr: &Expr, schema: &DFSchema) -> Option<Length> {
        let duration = DataType::Duration(TimeUnit::Microsecond);
        match expr {
            Expr::Literal(ScalarValue::IntervalMonthDayNano(None), _) => {
                Some(Length { micros: Expr::Literal(ScalarValue::DurationMicrosecond(None), None), has_days: false })
            }
            Expr::Literal(value, _) => {
                let micros = Expr::Literal(ScalarValue::DurationMicrosecond(Some(length_us(value)?)), None);
                let has_days = matches!(value, ScalarValue::IntervalMonthDayNano(Some(interval)) if interval.days != 0);
                Some(Length { micros, has_days })
            }
            Expr::Cast(inner) => match inner.expr.get_type(schema).ok()? {
                DataType::Duration(TimeUnit::Microsecond) => {
                    Some(Length { micros: inner.expr.as_ref().clone(), has_days: false })
                }
                DataType::Duration(_) => {
                    Some(Length { micros: cast(inner.expr.as_ref().clone(), duration), has_days: false })
                }
                _ => None,
            },
            Expr::Negative(inner) => {
                let Length { micros, has_days } = Length::of(inner, schema)?;
                Some(Length { micros: Expr::Negative(Box::new(micros)), has_days })
            }
            Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Plus | Operator::Minus), right }) => {
                let (left, right) = (Length::of(left, schema)?, Length::of(right, schema)?);
                let has_days = left.has_days || right.has_days;
                Some(Length { micros: binary(left.micros, *op, right.micros), has_days })
            }
            _ => None,
        }
    }
}

fn two(all: Vec<Expr>) -> Option<[Expr; 2]> {
    all.try_into().ok()
}

fn three(all: Vec<Expr>) -> Option<[Expr; 3]> {
    all.try_into().ok()
}
