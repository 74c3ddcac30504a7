//! `skewness` and `kurtosis`, as Spark computes them: of the population, without correction; NULL where all values
//! are equal.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

/// Both functions.
pub(super) fn functions() -> [Arc<AggregateUDF>; 2] {
    ["skewness", "kurtosis"].map(|name| {
        let signature = Signature::exact(vec![DataType::Float64], Volatility::Immutable);
        Arc::new(AggregateUDF::from(Moment { name, signature }))
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Moment {
    name: &'static str,
    signature: Signature,
}

impl AggregateUDFImpl for Moment {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |part| Arc::new(Field::new(format!("{}[{part}]", args.name), DataType::Float64, true));
        Ok(["count", "mean", "m2", "m3", "m4"].map(field).to_vec())
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return exec_err!("{} of DISTINCT values is not carried out", self.name);
        }
        Ok(Box::new(Moments { fourth: self.name == "kurtosis", ..Moments::default() }))
    }
}

/// State: how many, their mean, and the sums of the second to fourth powers of what each is away from it.
#[derive(Debug, Default, Clone, Copy)]
struct Moments {
    fourth: bool,
    count: f64,
    mean: f64,
    m2: f64,
    m3: f64,
    m4: f64,
}

impl Moments {
    /// Both together, by the formulas of Pébay for parallel moments.
    fn merge(&mut self, other: Moments) {
        let (a, b) = (self.count, other.count);
        let n = a + b;
        if n == 0.0 {
            return;
        }
        let delta = other.mean - self.mean;
        let d = delta / n;
        let m4 = self.m4
            + other.m4
            + delta * d * d * d * a * b * (a * a - a * b + b * b)
            + 6.0 * d * d * (a * a * other.m2 + b * b * self.m2)
            + 4.0 * d * (a * other.m3 - b * self.m3);
        let m3 = self.m3 + other.m3 + delta * d * d * a * b * (a - b) + 3.0 * d * (a * other.m2 - b * self.m2);
        let m2 = self.m2 + other.m2 + delta * d * a * b;
        *self = Moments { fourth: self.fourth, count: n, mean: self.mean + d * b, m2, m3, m4 };
    }
}

impl Accumulator for Moments {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let Some(values) = values.first() else { return Ok(()) };
        for value in values.as_primitive::<Float64Type>().iter().flatten() {
            self.merge(Moments { count: 1.0, mean: value, ..Moments::default() });
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [count, mean, m2, m3, m4] = states else { return exec_err!("five numbers are needed") };
        let [count, mean, m2, m3, m4] = [count, mean, m2, m3, m4].map(|part| part.as_primitive::<Float64Type>());
        for row in (0..count.len()).filter(|row| count.is_valid(*row)) {
            self.merge(Moments {
                fourth: self.fourth,
                count: count.value(row),
                mean: mean.value(row),
                m2: m2.value(row),
                m3: m3.value(row),
                m4: m4.value(row),
            });
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok([self.count, self.mean, self.m2, self.m3, self.m4].map(|part| ScalarValue::Float64(Some(part))).to_vec())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        if self.count == 0.0 || self.m2 == 0.0 {
            return Ok(ScalarValue::Float64(None));
        }
        let moment = match self.fourth {
            true => self.count * self.m4 / (self.m2 * self.m2) - 3.0,
            false => self.count.sqrt() * self.m3 / (self.m2 * self.m2 * self.m2).sqrt(),
        };
        Ok(ScalarValue::Float64(Some(moment)))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}
