//! Functions that take what Spark takes: a library function behind a wider door.
//!
//! `date_add`, `add_months` and their kin with numbers of any integer type and dates as text, `hour` and its kin of
//! dates and texts; `regexp_replace` replaces every match unless
//! flags say otherwise.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// The functions of this file.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let days = |inner: Arc<ScalarUDF>| Looser::udf(inner, &[DataType::Date32, DataType::Int32], DataType::Date32, &[]);
    let date = DataType::Date32;
    let part = |inner: Arc<ScalarUDF>| Looser::udf(inner, &[crate::ddl::timestamp()], DataType::Int32, &[]);
    vec![
        part(datafusion_spark::function::datetime::hour()),
        part(datafusion_spark::function::datetime::minute()),
        part(datafusion_spark::function::datetime::second()),
        days(datafusion_spark::function::datetime::add_months()),
        Looser::udf(datafusion_spark::function::datetime::last_day(), std::slice::from_ref(&date), date.clone(), &[]),
        Looser::udf(datafusion_spark::function::datetime::next_day(), &[date.clone(), DataType::Utf8], date, &[]),
        Looser::udf(datafusion_spark::function::math::factorial(), &[DataType::Int32], DataType::Int64, &[]),
        days(datafusion_spark::function::datetime::date_add()),
        days(datafusion_spark::function::datetime::date_sub()),
        Looser::udf(
            datafusion::functions::regex::regexp_replace(),
            &[DataType::Utf8, DataType::Utf8, DataType::Utf8],
            DataType::Utf8,
            &["g"],
        ),
    ]
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Looser {
    inner: Arc<ScalarUDF>,
    takes: Vec<DataType>,
    gives: DataType,
    /// Text arguments added behind those given.
    added: Vec<String>,
    aliases: Vec<String>,
    signature: Signature,
}

impl Looser {
    fn udf(inner: Arc<ScalarUDF>, takes: &[DataType], gives: DataType, added: &[&str]) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::from(Looser {
            takes: takes.to_vec(),
            gives,
            added: added.iter().map(|text| (*text).to_string()).collect(),
            aliases: inner.aliases().to_vec(),
            signature: Signature::user_defined(Volatility::Immutable),
            inner,
        }))
    }
}

impl ScalarUDFImpl for Looser {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        if arg_types.len() == self.takes.len() {
            return Ok(self.takes.clone());
        }
        // Flags of one's own are text and take the place of what would be added.
        if !self.added.is_empty() && arg_types.len() == self.takes.len() + 1 {
            return Ok(self.takes.iter().cloned().chain([DataType::Utf8]).collect());
        }
        plan_err!("{} takes {} arguments, not {}", self.name(), self.takes.len(), arg_types.len())
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(self.gives.clone())
    }

    /// Some of the functions are nothing but their simplification.
    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        if self.added.is_empty() { self.inner.simplify(args, info) } else { Ok(ExprSimplifyResult::Original(args)) }
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if args.args.len() == self.takes.len() {
            for text in &self.added {
                args.args.push(ColumnarValue::Scalar(ScalarValue::Utf8(Some(text.clone()))));
                args.arg_fields.push(Arc::new(Field::new("added", DataType::Utf8, false)));
            }
        }
        self.inner.invoke_with_args(args)
    }
}
