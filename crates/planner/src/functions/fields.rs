//! Expressions whose meaning in Spark differs from DataFusion's: struct fields without case, `/` and DIV of whole
//! numbers, texts and dates in arithmetic, `a[0]`, `element_at`.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::{Column, DFSchema, Result, TableReference, exec_err, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr, RawFieldAccessExpr};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, GetFieldAccess, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility, cast, lit,
};
use datafusion::scalar::ScalarValue;
use sqlparser::ast::BinaryOperator;

use super::decimals;
use crate::ddl::timestamp;
use crate::errors::listed;
use crate::near::nearest;

/// Plans struct fields and divisions as Spark does.
#[derive(Debug)]
pub(crate) struct SparkExpressions;

impl ExprPlanner for SparkExpressions {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let RawBinaryExpr { op, left, right } = expr;
        if op == BinaryOperator::MyIntegerDivide {
            let whole = |expr: &Expr| expr.get_type(schema).is_ok_and(|t| t.is_integer());
            let quotient = match whole(&left) && whole(&right) {
                true => cast(left, DataType::Int64) / cast(right, DataType::Int64),
                false => cast(left / right, DataType::Int64),
            };
            return Ok(PlannerResult::Planned(quotient));
        }
        if op == BinaryOperator::Divide
            && left.get_type(schema).is_ok_and(|t| t.is_integer())
            && right.get_type(schema).is_ok_and(|t| t.is_integer())
        {
            let (left, right) = (cast(left, DataType::Float64), cast(right, DataType::Float64));
            return Ok(PlannerResult::Planned(left / right));
        }
        if let Some(planned) = moved_time(&op, &left, &right, schema) {
            return Ok(PlannerResult::Planned(planned));
        }
        if let Some(planned) = decimals::planned(&op, &left, &right, schema) {
            return Ok(PlannerResult::Planned(planned));
        }
        let (left, right) = match number_for(&op, &left, &right, schema) {
            Some(types) => (in_type(left, types.0), in_type(right, types.1)),
            None => (left, right),
        };
        Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }))
    }

    fn plan_extract(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        let part = super::time_parts::date_part();
        Ok(PlannerResult::Planned(Expr::ScalarFunction(ScalarFunction::new_udf(part, args))))
    }

    fn plan_compound_identifier(
        &self,
        field: &Field,
        qualifier: Option<&TableReference>,
        nested_names: &[String],
    ) -> Result<PlannerResult<Vec<Expr>>> {
        let mut expr = Expr::Column(Column::from((qualifier, field)));
        let mut data_type = field.data_type().clone();
        for name in nested_names {
            let (next, next_type) = field_of(expr, &data_type, name)?;
            expr = next;
            data_type = next_type;
        }
        Ok(PlannerResult::Planned(expr))
    }

    fn plan_field_access(
        &self,
        expr: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        let RawFieldAccessExpr { field_access, expr } = expr;
        if let GetFieldAccess::ListIndex { key } = &field_access
            && expr.get_type(schema).is_ok_and(|t| is_list(&t))
        {
            // Spark counts from 0 in brackets, DataFusion from 1.
            let args = vec![expr, key.as_ref().clone() + lit(1_i64)];
            let element = datafusion::functions_nested::extract::array_element_udf();
            return Ok(PlannerResult::Planned(Expr::ScalarFunction(ScalarFunction::new_udf(element, args))));
        }
        let GetFieldAccess::NamedStructField { name } = &field_access else {
            return Ok(PlannerResult::Original(RawFieldAccessExpr { field_access, expr }));
        };
        let (Ok(data_type), Some(Some(name))) = (expr.get_type(schema), name.try_as_str()) else {
            return Ok(PlannerResult::Original(RawFieldAccessExpr { field_access, expr }));
        };
        Ok(PlannerResult::Planned(field_of(expr, &data_type, name)?.0))
    }
}

/// A time moved by an interval, where DataFusion has another type or none: a DATE moved by hours is a TIMESTAMP, a
/// text is read as one and stays a text.
fn moved_time(op: &BinaryOperator, left: &Expr, right: &Expr, schema: &DFSchema) -> Option<Expr> {
    let forward = match op {
        BinaryOperator::Plus => true,
        BinaryOperator::Minus => false,
        _ => return None,
    };
    let (time, time_type, interval) = match (left.get_type(schema).ok()?, right.get_type(schema).ok()?) {
        (time, DataType::Interval(_)) => (left, time, right),
        (DataType::Interval(_), time) if forward => (right, time, left),
        _ => return None,
    };
    let hours = match interval {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) => interval.nanoseconds != 0,
        _ => false,
    };
    let moved = |time: Expr| if forward { time + interval.clone() } else { time - interval.clone() };
    match time_type {
        DataType::Date32 if hours => Some(moved(cast(time.clone(), timestamp()))),
        DataType::Utf8 => Some(cast(moved(cast(time.clone(), timestamp())), DataType::Utf8)),
        _ => None,
    }
}

/// Arithmetic between a text and a number takes the text for a number, as wide as the other side is.
fn number_for(
    op: &BinaryOperator,
    left: &Expr,
    right: &Expr,
    schema: &DFSchema,
) -> Option<(Option<DataType>, Option<DataType>)> {
    use BinaryOperator::{Divide, Minus, Modulo, Multiply, Plus};
    if !matches!(op, Plus | Minus | Multiply | Divide | Modulo) {
        return None;
    }
    let wide = |other: &DataType| match other {
        other if other.is_integer() && *op != Divide => Some(DataType::Int64),
        other if other.is_numeric() || *other == DataType::Utf8 => Some(DataType::Float64),
        _ => None,
    };
    let (left, right) = (left.get_type(schema).ok()?, right.get_type(schema).ok()?);
    match (&left, &right) {
        (DataType::Utf8, DataType::Utf8) => Some((wide(&right), wide(&left))),
        (DataType::Utf8, other) => Some((Some(wide(other)?), (*op == Divide).then_some(DataType::Float64))),
        (other, DataType::Utf8) => Some(((*op == Divide).then_some(DataType::Float64), Some(wide(other)?))),
        _ => None,
    }
}

fn in_type(expr: Expr, wanted: Option<DataType>) -> Expr {
    match wanted {
        Some(wanted) => cast(expr, wanted),
        None => expr,
    }
}

pub(super) fn is_list(data_type: &DataType) -> bool {
    matches!(data_type, DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _))
}

/// `element_at(array, n)`, counted from 1, and `element_at(map, key)`: replaced by the one it means.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ElementAt {
    signature: Signature,
}

impl ElementAt {
    pub fn udf() -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::from(ElementAt { signature: Signature::any(2, Volatility::Immutable) }))
    }
}

impl ScalarUDFImpl for ElementAt {
    fn name(&self) -> &str {
        "element_at"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types.first() {
            Some(DataType::List(element) | DataType::LargeList(element) | DataType::FixedSizeList(element, _)) => {
                Ok(element.data_type().clone())
            }
            Some(DataType::Map(entries, _)) => match entries.data_type() {
                DataType::Struct(fields) if fields.len() == 2 => Ok(fields[1].data_type().clone()),
                other => plan_err!("element_at does not take a map of {other}"),
            },
            other => {
                let given = other.map(crate::ddl::sql_type).unwrap_or_default();
                plan_err!("element_at takes an ARRAY or a MAP as its type, not {given}")
            }
        }
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let list = match args.first() {
            Some(first) => is_list(&first.get_type(info.schema())?),
            None => false,
        };
        let udf = if list {
            datafusion::functions_nested::extract::array_element_udf()
        } else {
            datafusion::functions::core::get_field()
        };
        Ok(ExprSimplifyResult::Simplified(Expr::ScalarFunction(ScalarFunction::new_udf(udf, args))))
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("element_at was run without having been optimized")
    }
}

/// `expr.name`, with the field's own spelling; of a list of structs, Spark would give a list, which is refused.
fn field_of(expr: Expr, data_type: &DataType, name: &str) -> Result<(Expr, DataType)> {
    let (spelling, field_type) = match data_type {
        DataType::Struct(fields) => {
            let exact = fields.iter().find(|field| field.name() == name);
            let field = exact.or_else(|| fields.iter().find(|field| field.name().eq_ignore_ascii_case(name)));
            let Some(field) = field else {
                let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
                return match nearest(name, names.iter().copied()) {
                    Some(other) => plan_err!("there is no field `{name}` in {expr}; did you mean `{other}`?"),
                    None => plan_err!("there is no field `{name}` in {expr}; it has {}", listed(&names)),
                };
            };
            (field.name().clone(), field.data_type().clone())
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => (name.to_string(), fields[1].data_type().clone()),
            _ => (name.to_string(), DataType::Null),
        },
        other => {
            return plan_err!("{expr} has no field `{name}`: its type is {}", crate::ddl::sql_type(other));
        }
    };
    let get_field = datafusion::functions::core::get_field();
    let args = vec![expr, lit(ScalarValue::Utf8(Some(spelling)))];
    Ok((Expr::ScalarFunction(ScalarFunction::new_udf(get_field, args)), field_type))
}
