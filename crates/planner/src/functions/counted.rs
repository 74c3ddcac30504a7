//! Aggregates that count each value: `percentile`, `percentile_approx` (also `approx_percentile`) and `mode`.
//!
//! State: the distinct values of a key and how often each came, so it grows with the number of distinct values.
//! `percentile_approx` is exact; its third argument is taken and changes nothing, as no answer can be closer.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, Signature, Volatility};

use crate::ddl::sql_type;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// Between two values where need be.
    Percentile,
    /// One of the values.
    PercentileApprox,
    Mode,
}

/// All of them.
pub(super) fn functions() -> Vec<Arc<AggregateUDF>> {
    let all: [(&'static str, Kind, &[&str]); 3] = [
        ("percentile", Kind::Percentile, &[]),
        ("percentile_approx", Kind::PercentileApprox, &["approx_percentile"]),
        ("mode", Kind::Mode, &[]),
    ];
    let udaf = |(name, kind, aliases): (&'static str, Kind, &[&str])| {
        let aliases = aliases.iter().map(|alias| (*alias).to_string()).collect();
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(AggregateUDF::from(Counting { name, kind, aliases, signature }))
    };
    all.into_iter().map(udaf).collect()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Counting {
    name: &'static str,
    kind: Kind,
    aliases: Vec<String>,
    signature: Signature,
}

impl Counting {
    fn number(&self, given: &DataType) -> Result<DataType> {
        match (self.kind, given) {
            (_, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 | DataType::Null) => Ok(DataType::Float64),
            (Kind::Percentile, given) if given.is_numeric() => Ok(DataType::Float64),
            (_, given) if given.is_numeric() => Ok(given.clone()),
            (_, DataType::Date32 | DataType::Timestamp(_, _)) if self.kind == Kind::PercentileApprox => {
                Ok(given.clone())
            }
            _ => plan_err!("{} is of numbers, not of the type {}", self.name, sql_type(given)),
        }
    }
}

impl AggregateUDFImpl for Counting {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let share = |given: &DataType| match given {
            DataType::List(_) | DataType::FixedSizeList(_, _) | DataType::LargeList(_) => {
                DataType::new_list(DataType::Float64, true)
            }
            _ => DataType::Float64,
        };
        match (self.kind, arg_types) {
            (Kind::Mode, [value]) => Ok(vec![value.clone()]),
            (Kind::Mode, _) => plan_err!("mode takes one argument"),
            (_, [value, given]) => Ok(vec![self.number(value)?, share(given)]),
            (_, [value, given, _]) => Ok(vec![self.number(value)?, share(given), DataType::Int64]),
            _ => plan_err!("{} takes a number and a share between 0 and 1, or an array of them", self.name),
        }
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        let Some(value) = arg_types.first() else { return plan_err!("{} takes arguments", self.name) };
        let one = if self.kind == Kind::Percentile { DataType::Float64 } else { value.clone() };
        match arg_types.get(1) {
            Some(DataType::List(_)) => Ok(DataType::List(Arc::new(Field::new_list_field(one, true)))),
            _ => Ok(one),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let Some(value) = args.input_fields.first() else { return plan_err!("{} takes arguments", self.name) };
        let list = |part: &str, of: &DataType| {
            let element = Arc::new(Field::new_list_field(of.clone(), true));
            Arc::new(Field::new(format!("{}[{part}]", args.name), DataType::List(element), true))
        };
        Ok(vec![list("values", value.data_type()), list("counts", &DataType::Int64)])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let Some(value) = args.expr_fields.first() else { return exec_err!("{} takes arguments", self.name) };
        if args.is_distinct {
            return exec_err!("{} of DISTINCT values is not carried out", self.name);
        }
        let shares = match args.exprs.get(1) {
            Some(expr) => shares(expr.evaluate(&RecordBatch::new_empty(Arc::new(args.schema.clone())))?)?,
            None => Vec::new(),
        };
        // As often as the third argument says: that is another function under the same name.
        if self.kind == Kind::Percentile && args.exprs.len() > 2 {
            return exec_err!("percentile with a frequency is not carried out");
        }
        Ok(Box::new(Counts {
            kind: self.kind,
            value_type: value.data_type().clone(),
            gives: args.return_field.data_type().clone(),
            shares,
            counts: HashMap::new(),
            bytes: 0,
        }))
    }
}

/// The constants of the second argument.
fn shares(given: ColumnarValue) -> Result<Vec<f64>> {
    let array = match given {
        ColumnarValue::Scalar(scalar) => scalar.to_array()?,
        ColumnarValue::Array(array) if array.len() == 1 => array,
        ColumnarValue::Array(_) => return exec_err!("the share of a percentile must be a constant"),
    };
    let numbers = match array.data_type() {
        DataType::List(_) => array.as_list::<i32>().value(0),
        _ => array,
    };
    let numbers = datafusion::arrow::compute::cast(&numbers, &DataType::Float64)?;
    let numbers = numbers.as_primitive::<Float64Type>();
    let fits = |share: &Option<f64>| share.is_some_and(|share| (0.0..=1.0).contains(&share));
    if numbers.is_empty() || !numbers.iter().all(|share| fits(&share)) {
        return exec_err!("the share of a percentile lies between 0 and 1");
    }
    Ok(numbers.values().to_vec())
}

/// State: see the module.
#[derive(Debug)]
struct Counts {
    kind: Kind,
    value_type: DataType,
    gives: DataType,
    shares: Vec<f64>,
    counts: HashMap<ScalarValue, i64>,
    /// Of the values.
    bytes: usize,
}

impl Counts {
    fn add(&mut self, value: ScalarValue, count: i64) -> Result<()> {
        if let Some(known) = self.counts.get_mut(&value) {
            *known = known.saturating_add(count);
            return Ok(());
        }
        let value = value.compacted();
        self.bytes += value.size() + size_of::<i64>();
        self.counts.insert(value, count);
        Ok(())
    }

    fn ascending(&self) -> Vec<(&ScalarValue, i64)> {
        let mut all: Vec<(&ScalarValue, i64)> = self.counts.iter().map(|(value, count)| (value, *count)).collect();
        all.sort_by(|left, right| left.0.partial_cmp(right.0).unwrap_or(Ordering::Equal));
        all
    }

    /// The value at a place from 0, with all values in order.
    fn at(all: &[(&ScalarValue, i64)], place: i64) -> ScalarValue {
        let mut before = 0;
        for (value, count) in all {
            before += count;
            if place < before {
                return (*value).clone();
            }
        }
        all.last().map_or(ScalarValue::Null, |(value, _)| (*value).clone())
    }

    fn percentile(&self, all: &[(&ScalarValue, i64)], share: f64) -> Result<ScalarValue> {
        let total: i64 = all.iter().map(|(_, count)| count).sum();
        if self.kind == Kind::PercentileApprox {
            return Ok(Self::at(all, ((share * total as f64).ceil() as i64 - 1).max(0)));
        }
        let place = share * (total - 1) as f64;
        let number = |place: f64| match Self::at(all, place as i64) {
            ScalarValue::Float64(Some(number)) => Ok(number),
            other => exec_err!("{other} is no DOUBLE"),
        };
        let (low, high) = (number(place.floor())?, number(place.ceil())?);
        let between = if place.floor() == place.ceil() {
            low
        } else {
            (place.ceil() - place) * low + (place - place.floor()) * high
        };
        Ok(ScalarValue::Float64(Some(between)))
    }
}

impl Accumulator for Counts {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let Some(values) = values.first() else { return Ok(()) };
        for row in (0..values.len()).filter(|row| values.is_valid(*row)) {
            self.add(ScalarValue::try_from_array(values, row)?, 1)?;
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [values, counts] = states else { return exec_err!("values and counts are needed") };
        let (values, counts) = (values.as_list::<i32>(), counts.as_list::<i32>());
        for row in (0..values.len()).filter(|row| values.is_valid(*row)) {
            let (values, counts) = (values.value(row), counts.value(row));
            let counts = counts.as_primitive::<Int64Type>();
            for at in 0..values.len() {
                self.add(ScalarValue::try_from_array(&values, at)?, counts.value(at))?;
            }
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let all = self.ascending();
        let counts: Int64Array = all.iter().map(|(_, count)| Some(*count)).collect();
        let values: Vec<ScalarValue> = all.into_iter().map(|(value, _)| value.clone()).collect();
        let counts: Vec<ScalarValue> = counts.iter().map(ScalarValue::Int64).collect();
        Ok(vec![
            ScalarValue::List(ScalarValue::new_list_nullable(&values, &self.value_type)),
            ScalarValue::List(ScalarValue::new_list_nullable(&counts, &DataType::Int64)),
        ])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let all = self.ascending();
        if all.is_empty() {
            return ScalarValue::try_from(&self.gives);
        }
        if self.kind == Kind::Mode {
            // Of several, the least: the answer does not depend on the order of the rows.
            let most = all.iter().map(|(_, count)| *count).max().unwrap_or(0);
            let winner = all.iter().find(|(_, count)| *count == most).map(|(value, _)| (*value).clone());
            return Ok(winner.unwrap_or(ScalarValue::Null));
        }
        let found = self.shares.iter().map(|share| self.percentile(&all, *share)).collect::<Result<Vec<_>>>()?;
        match &self.gives {
            DataType::List(element) => {
                Ok(ScalarValue::List(ScalarValue::new_list_nullable(&found, element.data_type())))
            }
            _ => Ok(found.into_iter().next().unwrap_or(ScalarValue::Null)),
        }
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.bytes
    }
}
