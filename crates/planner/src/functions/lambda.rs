//! Functions that take functions: `transform`, `filter`, `exists`, `forall`, `aggregate`, `zip_with`, those of maps, and
//! `array_sort` with a comparison.
//!
//! Types and forms are settled here; what runs is in `elements.rs`.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, HigherOrderFunctionArgs, HigherOrderReturnFieldArgs, HigherOrderSignature, HigherOrderUDF,
    HigherOrderUDFImpl, LambdaParametersProgress, ValueOrLambda, Volatility,
};

use super::elements;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Transform,
    Filter,
    Exists,
    Forall,
    Aggregate,
    ZipWith,
    TransformKeys,
    TransformValues,
    MapFilter,
    SortBy,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OfLambda {
    name: &'static str,
    kind: Kind,
    aliases: Vec<String>,
    signature: HigherOrderSignature,
}

/// The comparing form of `array_sort`, which has a name of its own where types are not known yet.
pub(super) const SORT_BY: &str = "array_sort_by";

/// All of them.
pub(super) fn functions() -> Vec<Arc<HigherOrderUDF>> {
    let all: [(&'static str, Kind, &[&str]); 10] = [
        ("transform", Kind::Transform, &[]),
        ("filter", Kind::Filter, &[]),
        ("exists", Kind::Exists, &[]),
        ("forall", Kind::Forall, &[]),
        ("aggregate", Kind::Aggregate, &["reduce"]),
        ("zip_with", Kind::ZipWith, &[]),
        ("transform_keys", Kind::TransformKeys, &[]),
        ("transform_values", Kind::TransformValues, &[]),
        ("map_filter", Kind::MapFilter, &[]),
        (SORT_BY, Kind::SortBy, &[]),
    ];
    let udf = |(name, kind, aliases): (&'static str, Kind, &[&str])| {
        let aliases = aliases.iter().map(|alias| (*alias).to_string()).collect();
        let signature = HigherOrderSignature::user_defined(Volatility::Immutable);
        Arc::new(HigherOrderUDF::new_from_impl(OfLambda { name, kind, aliases, signature }))
    };
    all.into_iter().map(udf).collect()
}

impl Kind {
    fn form(self) -> &'static str {
        match self {
            Kind::Aggregate => "an array, a start value, (acc, x) -> … and perhaps acc -> …",
            Kind::ZipWith => "two arrays and (x, y) -> …",
            Kind::TransformKeys | Kind::TransformValues | Kind::MapFilter => "a map and (key, value) -> …",
            Kind::SortBy => "an array and (x, y) -> a number: negative, 0 or positive",
            _ => "an array and x -> …",
        }
    }

    /// How many values stand in front of how many lambdas.
    fn takes(self, values: usize, lambdas: usize) -> bool {
        match self {
            Kind::Aggregate => values == 2 && (1..=2).contains(&lambdas),
            Kind::ZipWith => values == 2 && lambdas == 1,
            _ => values == 1 && lambdas == 1,
        }
    }

    fn of_maps(self) -> bool {
        matches!(self, Kind::TransformKeys | Kind::TransformValues | Kind::MapFilter)
    }
}

impl OfLambda {
    fn wrong<T>(&self) -> Result<T> {
        plan_err!("{} takes {}", self.name, self.kind.form())
    }

    /// Fields of the values, then of the lambdas.
    fn split<'a, V, L>(&self, args: &'a [ValueOrLambda<V, L>]) -> Result<(Vec<&'a V>, Vec<&'a L>)> {
        let (mut values, mut lambdas) = (Vec::new(), Vec::new());
        for arg in args {
            match arg {
                ValueOrLambda::Value(value) if lambdas.is_empty() => values.push(value),
                ValueOrLambda::Value(_) => return self.wrong(),
                ValueOrLambda::Lambda(lambda) => lambdas.push(lambda),
            }
        }
        if self.kind.takes(values.len(), lambdas.len()) { Ok((values, lambdas)) } else { self.wrong() }
    }

    fn element(&self, list: &DataType) -> Result<FieldRef> {
        match list {
            DataType::List(element) => Ok(element.clone()),
            _ => self.wrong(),
        }
    }

    fn entries(&self, map: &DataType) -> Result<Fields> {
        match map {
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(fields) if fields.len() == 2 => Ok(fields.clone()),
                _ => self.wrong(),
            },
            _ => self.wrong(),
        }
    }
}

fn nullable(data_type: &DataType) -> FieldRef {
    Arc::new(Field::new("", data_type.clone(), true))
}

impl HigherOrderUDFImpl for OfLambda {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &HigherOrderSignature {
        &self.signature
    }

    fn coerce_value_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let coerced = arg_types.iter().enumerate().map(|(at, given)| match given {
            given if self.kind == Kind::Aggregate && at == 1 => Ok(given.clone()),
            DataType::Map(_, _) if self.kind.of_maps() => Ok(given.clone()),
            _ if self.kind.of_maps() => self.wrong(),
            DataType::List(_) => Ok(given.clone()),
            DataType::LargeList(element) | DataType::FixedSizeList(element, _) | DataType::ListView(element) => {
                Ok(DataType::List(element.clone()))
            }
            DataType::Null => Ok(DataType::new_list(DataType::Null, true)),
            _ => self.wrong(),
        });
        coerced.collect()
    }

    fn coerce_values_for_lambdas(&self, fields: &[ValueOrLambda<DataType, DataType>]) -> Result<Option<Vec<DataType>>> {
        if self.kind != Kind::Aggregate {
            return Ok(None);
        }
        let (values, lambdas) = self.split(fields)?;
        Ok(Some(vec![values[0].clone(), lambdas[0].clone()]))
    }

    fn lambda_parameters(
        &self,
        _step: usize,
        fields: &[ValueOrLambda<FieldRef, Option<FieldRef>>],
    ) -> Result<LambdaParametersProgress> {
        let (values, lambdas) = self.split(fields)?;
        let element = |at: usize| self.element(values[at].data_type()).map(|field| nullable(field.data_type()));
        Ok(LambdaParametersProgress::Complete(match self.kind {
            Kind::Transform | Kind::Filter => vec![vec![element(0)?, nullable(&DataType::Int32)]],
            Kind::Exists | Kind::Forall => vec![vec![element(0)?]],
            Kind::SortBy => vec![vec![element(0)?, element(0)?]],
            Kind::ZipWith => vec![vec![element(0)?, element(1)?]],
            Kind::TransformKeys | Kind::TransformValues | Kind::MapFilter => {
                let entries = self.entries(values[0].data_type())?;
                vec![entries.iter().map(|field| nullable(field.data_type())).collect()]
            }
            Kind::Aggregate => {
                let step =
                    |acc: &DataType| Ok::<_, datafusion::error::DataFusionError>(vec![nullable(acc), element(0)?]);
                match lambdas[0] {
                    // The sum of a SMALLINT start and BIGINT elements is a BIGINT, from the start on.
                    Some(merged) => {
                        let finish = lambdas.get(1).map(|_| vec![nullable(merged.data_type())]);
                        std::iter::once(step(merged.data_type())?).chain(finish).collect()
                    }
                    None => {
                        let known = std::iter::once(Some(step(values[1].data_type())?));
                        let progress = known.chain(lambdas.get(1).map(|_| None)).collect();
                        return Ok(LambdaParametersProgress::Partial(progress));
                    }
                }
            }
        }))
    }

    fn return_field_from_args(&self, args: HigherOrderReturnFieldArgs) -> Result<FieldRef> {
        let (values, lambdas) = self.split(args.arg_fields)?;
        let given = lambdas[lambdas.len() - 1].data_type();
        let boolean = matches!(self.kind, Kind::Filter | Kind::Exists | Kind::Forall | Kind::MapFilter);
        if boolean && !matches!(given, DataType::Boolean | DataType::Null) {
            return plan_err!(
                "the function in {} must give a BOOLEAN type, not {}",
                self.name,
                crate::ddl::sql_type(given)
            );
        }
        let list = |element: &DataType| DataType::List(Arc::new(Field::new_list_field(element.clone(), true)));
        let given_type = match self.kind {
            Kind::Transform | Kind::ZipWith => list(given),
            Kind::Filter | Kind::MapFilter | Kind::SortBy => values[0].data_type().clone(),
            Kind::Exists | Kind::Forall => DataType::Boolean,
            Kind::Aggregate => given.clone(),
            Kind::TransformKeys | Kind::TransformValues => {
                let entries = self.entries(values[0].data_type())?;
                let (key, value) = match self.kind {
                    Kind::TransformKeys => (given, entries[1].data_type()),
                    _ => (entries[0].data_type(), given),
                };
                map_type(key, value)
            }
        };
        Ok(nullable(&given_type))
    }

    fn invoke_with_args(&self, args: HigherOrderFunctionArgs) -> Result<ColumnarValue> {
        let (values, lambdas) = self.split(&args.args)?;
        let rows = args.number_rows;
        let arrays = values.iter().map(|value| value.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let lambda = lambdas[0];
        let gives = args.return_field.data_type();
        let first = &arrays[0];
        let result = match self.kind {
            Kind::Transform => elements::transform(first, lambda, gives)?,
            Kind::Filter => elements::kept(first, lambda)?,
            Kind::Exists => elements::quantified(first, lambda, true)?,
            Kind::Forall => elements::quantified(first, lambda, false)?,
            Kind::Aggregate => elements::fold(&arrays, &lambdas, gives)?,
            Kind::ZipWith => elements::zip_with(&arrays, lambda, gives)?,
            Kind::TransformKeys => elements::transform_keys(first, lambda, gives)?,
            Kind::TransformValues => elements::transform_values(first, lambda, gives)?,
            Kind::MapFilter => elements::map_filter(first, lambda)?,
            Kind::SortBy => elements::sort_by(first, lambda)?,
        };
        Ok(ColumnarValue::Array(result))
    }
}

fn map_type(key: &DataType, value: &DataType) -> DataType {
    let entries = Fields::from(vec![Field::new("key", key.clone(), false), Field::new("value", value.clone(), true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}
