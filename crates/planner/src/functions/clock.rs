//! `current_timestamp()`, `now()`, `current_date()`, `unix_timestamp()`: the time of the epoch, not of the call.
//!
//! They are volatile to the optimizer, so that it leaves them as calls; [`with_epoch_timestamp`] puts the epoch's
//! time (or a static statement's) in their place. Run without it, they fail: nothing here knows the time.

use std::sync::Arc;

use chrono::{TimeZone, Utc};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, exec_err, internal_err};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::scalar::ScalarValue;

use crate::ddl::timestamp;

/// One of the clock's readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Reading {
    Timestamp,
    Date,
}

/// A call that an epoch replaces.
#[derive(Debug, PartialEq, Eq, Hash)]
struct EpochClock {
    name: &'static str,
    aliases: Vec<String>,
    reading: Reading,
    timezone: String,
    signature: Signature,
}

impl EpochClock {
    fn udf(name: &'static str, aliases: &[&str], reading: Reading, timezone: &str) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::from(EpochClock {
            name,
            aliases: aliases.iter().map(ToString::to_string).collect(),
            reading,
            timezone: timezone.to_string(),
            signature: Signature::nullary(Volatility::Volatile),
        }))
    }

    fn at(&self, timestamp_ms: i64) -> Result<ScalarValue> {
        let Some(micros) = timestamp_ms.checked_mul(1000) else {
            return internal_err!("epoch timestamp {timestamp_ms} ms is out of range");
        };
        match self.reading {
            Reading::Timestamp => Ok(ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into()))),
            Reading::Date => {
                let (Ok(zone), Some(at)) =
                    (self.timezone.parse::<Tz>(), Utc.timestamp_millis_opt(timestamp_ms).single())
                else {
                    return internal_err!("no date for {timestamp_ms} ms in {}", self.timezone);
                };
                let day = at.with_timezone(&zone).date_naive();
                Ok(ScalarValue::Date32(Some(day.signed_duration_since(chrono::NaiveDate::default()).num_days() as i32)))
            }
        }
    }
}

impl ScalarUDFImpl for EpochClock {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(match self.reading {
            Reading::Timestamp => timestamp(),
            Reading::Date => DataType::Date32,
        })
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name, self.return_type(&[])?, false)))
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("{}() was run outside an epoch", self.name)
    }
}

/// The clock functions, for a session time zone.
pub(super) fn functions(timezone: &str) -> Vec<Arc<ScalarUDF>> {
    vec![
        EpochClock::udf("current_timestamp", &["now", "localtimestamp"], Reading::Timestamp, timezone),
        EpochClock::udf("current_date", &["curdate"], Reading::Date, timezone),
    ]
}

/// `plan` with literals in place of the clock functions. Names and types of columns stay as they are.
///
/// # Errors
/// When the timestamp cannot be represented.
pub fn with_epoch_timestamp(plan: LogicalPlan, timestamp_ms: i64) -> Result<LogicalPlan> {
    if !reads_clock(&plan)? {
        return Ok(plan);
    }
    plan.transform_up_with_subqueries(|node| {
        let names = NamePreserver::new(&node);
        node.map_expressions(|expr| {
            let saved = names.save(&expr);
            let replaced = expr.transform_up(|expr| match epoch_clock(&expr) {
                Some(clock) => Ok(Transformed::yes(Expr::Literal(clock.at(timestamp_ms)?, None))),
                None => Ok(Transformed::no(expr)),
            })?;
            Ok(if replaced.transformed { replaced.update_data(|expr| saved.restore(expr)) } else { replaced })
        })
    })
    .map(|transformed| transformed.data)
}

/// Whether a plan asks for the epoch's time.
pub(crate) fn reads_clock(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                found |= epoch_clock(expr).is_some();
                Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })
        })?;
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// Whether an expression is a reading of the clock.
pub(crate) fn is_clock(expr: &Expr) -> bool {
    epoch_clock(expr).is_some()
}

fn epoch_clock(expr: &Expr) -> Option<&EpochClock> {
    match expr {
        Expr::ScalarFunction(function) => function.func.inner().downcast_ref::<EpochClock>(),
        _ => None,
    }
}
