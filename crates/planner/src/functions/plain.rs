//! Functions of plain values: a name, the types of the arguments, and what is done with whole arrays of them.
//!
//! The functions themselves are in `patterns.rs`, `texts.rs` and `times.rs`; here is what makes them functions of
//! the library.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

/// What the arguments become; all arrays have the same length.
pub(super) type Run = fn(&[ArrayRef]) -> Result<ArrayRef>;

/// A function; arguments from the `least`-th on may be left out.
#[derive(Debug)]
pub(super) struct Plain {
    name: &'static str,
    takes: Vec<DataType>,
    least: usize,
    gives: DataType,
    run: Run,
    signature: Signature,
}

/// `name(takes…)`, of which all but the first `least` arguments can be left out.
pub(super) fn plain(name: &'static str, takes: &[DataType], least: usize, gives: DataType, run: Run) -> Arc<ScalarUDF> {
    let signature = Signature::user_defined(Volatility::Immutable);
    Arc::new(ScalarUDF::from(Plain { name, takes: takes.to_vec(), least, gives, run, signature }))
}

impl PartialEq for Plain {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Plain {}

impl Hash for Plain {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Plain {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        if !(self.least..=self.takes.len()).contains(&arg_types.len()) {
            let count = match self.least == self.takes.len() {
                true => self.least.to_string(),
                false => format!("{} to {}", self.least, self.takes.len()),
            };
            return plan_err!("{} takes {count} arguments, not {}", self.name, arg_types.len());
        }
        for (given, taken) in arg_types.iter().zip(&self.takes) {
            if given.is_nested() && !taken.is_nested() {
                return plan_err!("{} does not take the type {}", self.name, crate::ddl::sql_type(given));
            }
        }
        Ok(self.takes[..arg_types.len()].to_vec())
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(self.gives.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let arrays = args.args.iter().map(|arg| arg.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let result = (self.run)(&arrays)?;
        match constant {
            true => Ok(ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(&result, 0)?)),
            false => Ok(ColumnarValue::Array(result)),
        }
    }
}
