//! Functions that take functions: `transform`, `filter`, `exists`, `forall`, `aggregate`, `zip_with`, those of maps, and
//! `array_sort` with a comparison.
//!
//! A lambda is evaluated once over the elements of all rows of a batch, `aggregate` once per place in the arrays. What
//! a lambda takes from the row around it is repeated for each element.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, ListArray, MapArray, StructArray, UInt32Array, new_null_array,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::{cast, filter, interleave, take, take_arrays};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Int32Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, HigherOrderFunctionArgs, HigherOrderReturnFieldArgs, HigherOrderSignature, HigherOrderUDF,
    HigherOrderUDFImpl, LambdaArgument, LambdaParametersProgress, ValueOrLambda, Volatility,
};

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
        let result = match self.kind {
            Kind::Transform => transform(&arrays[0], lambda, gives)?,
            Kind::Filter => kept(&arrays[0], lambda)?,
            Kind::Exists => quantified(&arrays[0], lambda, true)?,
            Kind::Forall => quantified(&arrays[0], lambda, false)?,
            Kind::Aggregate => fold(&arrays, &lambdas, gives)?,
            Kind::ZipWith => zip_with(&arrays, lambda, gives)?,
            Kind::TransformKeys | Kind::TransformValues | Kind::MapFilter => {
                of_map(self.kind, &arrays[0], lambda, gives)?
            }
            Kind::SortBy => sort_by(&arrays[0], lambda)?,
        };
        Ok(ColumnarValue::Array(result))
    }
}

fn map_type(key: &DataType, value: &DataType) -> DataType {
    let entries = Fields::from(vec![Field::new("key", key.clone(), false), Field::new("value", value.clone(), true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}

/// The elements of all rows, one after the other.
struct Flat {
    offsets: OffsetBuffer<i32>,
    nulls: Option<NullBuffer>,
    start: usize,
    len: usize,
}

impl Flat {
    fn of(offsets: &OffsetBuffer<i32>, nulls: Option<&NullBuffer>) -> Flat {
        let start = offsets.first().copied().unwrap_or(0);
        let lengths = offsets.windows(2).map(|pair| (pair[1] - pair[0]).max(0) as usize);
        let moved = OffsetBuffer::from_lengths(lengths);
        let len = moved.last().copied().unwrap_or(0) as usize;
        Flat { offsets: moved, nulls: nulls.cloned(), start: start.max(0) as usize, len }
    }

    fn rows(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    fn range(&self, row: usize) -> std::ops::Range<usize> {
        self.offsets[row] as usize..self.offsets[row + 1] as usize
    }

    fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Of each element, which row it belongs to.
    fn row_of_each(&self) -> UInt32Array {
        (0..self.rows()).flat_map(|row| self.range(row).map(move |_| row as u32)).collect::<Vec<u32>>().into()
    }

    /// Of each element, which place it has in its array, from 0.
    fn place_of_each(&self) -> ArrayRef {
        let places = (0..self.rows()).flat_map(|row| 0..self.range(row).len() as i32);
        Arc::new(Int32Array::from(places.collect::<Vec<i32>>()))
    }
}

fn flat(list: &ListArray) -> (Flat, ArrayRef) {
    let flat = Flat::of(list.offsets(), list.nulls());
    let values = list.values().slice(flat.start, flat.len);
    (flat, values)
}

/// The lambda's value for each element.
fn each(flat: &Flat, lambda: &LambdaArgument, arguments: &[ArrayRef]) -> Result<ArrayRef> {
    let given: Vec<_> = arguments.iter().map(|array| move || Ok(array.clone())).collect();
    let given: Vec<&dyn Fn() -> Result<ArrayRef>> = given.iter().map(|f| f as &dyn Fn() -> Result<ArrayRef>).collect();
    let value = lambda.evaluate(&given, |captured| Ok(take_arrays(captured, &flat.row_of_each(), None)?))?;
    value.into_array(flat.len)
}

fn boolean(array: &ArrayRef) -> Result<BooleanArray> {
    Ok(cast(array, &DataType::Boolean)?.as_boolean().clone())
}

fn transform(array: &ArrayRef, lambda: &LambdaArgument, gives: &DataType) -> Result<ArrayRef> {
    let list = array.as_list::<i32>();
    let (flat, values) = flat(list);
    let DataType::List(element) = gives else { return exec_err!("transform gives an array") };
    let new = each(&flat, lambda, &[values, flat.place_of_each()])?;
    let new = cast(&new, element.data_type())?;
    Ok(Arc::new(ListArray::try_new(element.clone(), flat.offsets, new, flat.nulls)?))
}

fn kept(array: &ArrayRef, lambda: &LambdaArgument) -> Result<ArrayRef> {
    let list = array.as_list::<i32>();
    let (flat, values) = flat(list);
    let keep = boolean(&each(&flat, lambda, &[values.clone(), flat.place_of_each()])?)?;
    let lengths =
        (0..flat.rows()).map(|row| flat.range(row).filter(|at| keep.is_valid(*at) && keep.value(*at)).count());
    let offsets = OffsetBuffer::from_lengths(lengths);
    let DataType::List(element) = list.data_type() else { return exec_err!("filter takes an array") };
    Ok(Arc::new(ListArray::try_new(element.clone(), offsets, filter(&values, &keep)?, flat.nulls)?))
}

/// Whether the lambda says `wanted` of any element (`exists`), or of none the contrary (`forall`); unknown in between.
fn quantified(array: &ArrayRef, lambda: &LambdaArgument, wanted: bool) -> Result<ArrayRef> {
    let (flat, values) = flat(array.as_list::<i32>());
    let said = boolean(&each(&flat, lambda, &[values])?)?;
    let answers: BooleanArray = (0..flat.rows())
        .map(|row| {
            if flat.is_null(row) {
                return None;
            }
            if flat.range(row).any(|at| said.is_valid(at) && said.value(at) == wanted) {
                return Some(wanted);
            }
            (!flat.range(row).any(|at| said.is_null(at))).then_some(!wanted)
        })
        .collect();
    Ok(Arc::new(answers))
}

/// `aggregate`: place by place, for all rows whose array is that long.
fn fold(arrays: &[ArrayRef], lambdas: &[&LambdaArgument], gives: &DataType) -> Result<ArrayRef> {
    let (flat, values) = flat(arrays[0].as_list::<i32>());
    let rows = flat.rows();
    let mut acc = arrays[1].clone();
    let longest = (0..rows).map(|row| flat.range(row).len()).max().unwrap_or(0);
    for place in 0..longest {
        let long: Vec<u32> = (0..rows).filter(|row| flat.range(*row).len() > place).map(|row| row as u32).collect();
        let at: Vec<u32> = long.iter().map(|row| flat.offsets[*row as usize] as u32 + place as u32).collect();
        let long = UInt32Array::from(long);
        let before = take(&acc, &long, None)?;
        let element = take(&values, &UInt32Array::from(at), None)?;
        let arguments: [&dyn Fn() -> Result<ArrayRef>; 2] = [&|| Ok(before.clone()), &|| Ok(element.clone())];
        let after = lambdas[0].evaluate(&arguments, |captured| Ok(take_arrays(captured, &long, None)?))?;
        let after = cast(&after.into_array(long.len())?, acc.data_type())?;
        if long.len() == rows {
            acc = after;
            continue;
        }
        let mut indices: Vec<(usize, usize)> = (0..rows).map(|row| (0, row)).collect();
        for (new, row) in long.values().iter().enumerate() {
            indices[*row as usize] = (1, new);
        }
        acc = interleave(&[&acc, &after], &indices)?;
    }
    if let Some(finish) = lambdas.get(1) {
        let arguments: [&dyn Fn() -> Result<ArrayRef>; 1] = [&|| Ok(acc.clone())];
        acc = finish.evaluate(&arguments, |captured| Ok(captured.to_vec()))?.into_array(rows)?;
    }
    let acc = cast(&acc, gives)?;
    if flat.nulls.is_none() {
        return Ok(acc);
    }
    // An array that is NULL has no sum.
    let there: UInt32Array = (0..rows).map(|row| (!flat.is_null(row)).then_some(row as u32)).collect();
    Ok(take(&acc, &there, None)?)
}

fn zip_with(arrays: &[ArrayRef], lambda: &LambdaArgument, gives: &DataType) -> Result<ArrayRef> {
    let (left, left_values) = flat(arrays[0].as_list::<i32>());
    let (right, right_values) = flat(arrays[1].as_list::<i32>());
    let rows = left.rows();
    let null = |row: usize| left.is_null(row) || right.is_null(row);
    let length = |row: usize| if null(row) { 0 } else { left.range(row).len().max(right.range(row).len()) };
    let places = |side: &Flat| -> UInt32Array {
        let of_row = |row: usize| {
            let range = side.range(row);
            (0..length(row)).map(move |place| (place < range.len()).then_some((range.start + place) as u32))
        };
        (0..rows).flat_map(of_row).collect()
    };
    let left_values = take(&left_values, &places(&left), None)?;
    let right_values = take(&right_values, &places(&right), None)?;
    let offsets = OffsetBuffer::from_lengths((0..rows).map(length));
    let nulls: NullBuffer = (0..rows).map(|row| !null(row)).collect();
    let whole = Flat { len: left_values.len(), offsets, nulls: Some(nulls), start: 0 };
    let DataType::List(element) = gives else { return exec_err!("zip_with gives an array") };
    let new = cast(&each(&whole, lambda, &[left_values, right_values])?, element.data_type())?;
    Ok(Arc::new(ListArray::try_new(element.clone(), whole.offsets, new, whole.nulls)?))
}

fn of_map(kind: Kind, array: &ArrayRef, lambda: &LambdaArgument, gives: &DataType) -> Result<ArrayRef> {
    let map = array.as_map();
    let flat = Flat::of(map.offsets(), map.nulls());
    let keys = map.keys().slice(flat.start, flat.len);
    let values = map.values().slice(flat.start, flat.len);
    let new = each(&flat, lambda, &[keys.clone(), values.clone()])?;
    let DataType::Map(entries, sorted) = gives else { return exec_err!("{kind:?} gives a map") };
    let DataType::Struct(fields) = entries.data_type() else { return exec_err!("a map has keys and values") };
    let (keys, values, offsets) = match kind {
        Kind::TransformKeys => {
            let new = cast(&new, fields[0].data_type())?;
            refuse_doubles(&flat, &new)?;
            (new, values, flat.offsets)
        }
        Kind::TransformValues => (keys, cast(&new, fields[1].data_type())?, flat.offsets),
        _ => {
            let keep = boolean(&new)?;
            let kept = |row| flat.range(row).filter(|at| keep.is_valid(*at) && keep.value(*at)).count();
            let offsets = OffsetBuffer::from_lengths((0..flat.rows()).map(kept));
            (filter(&keys, &keep)?, filter(&values, &keep)?, offsets)
        }
    };
    let pairs = StructArray::try_new(fields.clone(), vec![keys, values], None)?;
    Ok(Arc::new(MapArray::try_new(entries.clone(), offsets, pairs, flat.nulls, *sorted)?))
}

/// Keys of a map are there, and each is there once.
fn refuse_doubles(flat: &Flat, keys: &ArrayRef) -> Result<()> {
    if keys.null_count() > 0 {
        return exec_err!("a key of a map cannot be NULL");
    }
    for row in 0..flat.rows() {
        let mut seen = HashSet::new();
        for at in flat.range(row) {
            let key = ScalarValue::try_from_array(keys, at)?;
            if seen.contains(&key) {
                return exec_err!("the key {key} would be in the map twice");
            }
            seen.insert(key);
        }
    }
    Ok(())
}

/// Each array in the order the comparison gives. All pairs of an array are compared at once.
fn sort_by(array: &ArrayRef, lambda: &LambdaArgument) -> Result<ArrayRef> {
    let list = array.as_list::<i32>();
    let (flat, values) = flat(list);
    let mut order: Vec<u32> = Vec::with_capacity(flat.len);
    for row in 0..flat.rows() {
        let range = flat.range(row);
        let many = range.len();
        let pairs = || (0..many).flat_map(move |left| (left + 1..many).map(move |right| (left, right)));
        let side = |pick: fn((usize, usize)) -> usize| -> Result<ArrayRef> {
            let places: UInt32Array = pairs().map(|pair| Some((range.start + pick(pair)) as u32)).collect();
            Ok(take(&values, &places, None)?)
        };
        let (left, right) = (side(|pair| pair.0)?, side(|pair| pair.1)?);
        let arguments: [&dyn Fn() -> Result<ArrayRef>; 2] = [&|| Ok(left.clone()), &|| Ok(right.clone())];
        let here = UInt32Array::from(vec![row as u32; left.len()]);
        let said = lambda.evaluate(&arguments, |captured| Ok(take_arrays(captured, &here, None)?))?;
        let said = cast(&said.into_array(left.len())?, &DataType::Int32)?;
        let said = said.as_primitive::<Int32Type>();
        if said.null_count() > 0 {
            return exec_err!("the comparison in array_sort must not give NULL");
        }
        let compare = |left: usize, right: usize| -> Ordering {
            let (first, second) = (left.min(right), left.max(right));
            // Where the row of `first` begins among the pairs.
            let at = first * (2 * many - first - 1) / 2 + (second - first - 1);
            let order = said.value(at).cmp(&0);
            if left < right { order } else { order.reverse() }
        };
        // By insertion: a comparison that contradicts itself gives some order, and nothing worse.
        let mut sorted: Vec<usize> = Vec::with_capacity(many);
        for place in 0..many {
            let at = sorted.partition_point(|earlier| compare(*earlier, place) != Ordering::Greater);
            sorted.insert(at, place);
        }
        order.extend(sorted.into_iter().map(|place| (range.start + place) as u32));
    }
    let DataType::List(element) = list.data_type() else { return exec_err!("array_sort takes an array") };
    let sorted = if order.is_empty() {
        new_null_array(element.data_type(), 0)
    } else {
        take(&values, &UInt32Array::from(order), None)?
    };
    Ok(Arc::new(ListArray::try_new(element.clone(), flat.offsets, sorted, flat.nulls)?))
}
