//! What runs behind functions that take functions (`lambda.rs`): over the elements of arrays and the entries of maps.
//!
//! A lambda is evaluated once over the elements of all rows of a batch, `aggregate` once per place in the arrays, a
//! comparison once per row. What a lambda takes from the row around it is repeated for each element.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, ListArray, MapArray, StructArray, UInt32Array, new_null_array,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::{cast, filter, interleave, take, take_arrays};
use datafusion::arrow::datatypes::{DataType, Int32Type};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::LambdaArgument;

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

    /// Offsets of the elements that are kept.
    fn offsets_of(&self, keep: &BooleanArray) -> OffsetBuffer<i32> {
        let kept = |row| self.range(row).filter(|at| keep.is_valid(*at) && keep.value(*at)).count();
        OffsetBuffer::from_lengths((0..self.rows()).map(kept))
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

pub(super) fn transform(array: &ArrayRef, lambda: &LambdaArgument, gives: &DataType) -> Result<ArrayRef> {
    let list = array.as_list::<i32>();
    let (flat, values) = flat(list);
    let DataType::List(element) = gives else { return exec_err!("transform gives an array") };
    let new = each(&flat, lambda, &[values, flat.place_of_each()])?;
    let new = cast(&new, element.data_type())?;
    Ok(Arc::new(ListArray::try_new(element.clone(), flat.offsets, new, flat.nulls)?))
}

pub(super) fn kept(array: &ArrayRef, lambda: &LambdaArgument) -> Result<ArrayRef> {
    let list = array.as_list::<i32>();
    let (flat, values) = flat(list);
    let keep = boolean(&each(&flat, lambda, &[values.clone(), flat.place_of_each()])?)?;
    let offsets = flat.offsets_of(&keep);
    let DataType::List(element) = list.data_type() else { return exec_err!("filter takes an array") };
    Ok(Arc::new(ListArray::try_new(element.clone(), offsets, filter(&values, &keep)?, flat.nulls)?))
}

/// Whether the lambda says `wanted` of any element (`exists`), or of none the contrary (`forall`); unknown in between.
pub(super) fn quantified(array: &ArrayRef, lambda: &LambdaArgument, wanted: bool) -> Result<ArrayRef> {
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
pub(super) fn fold(arrays: &[ArrayRef], lambdas: &[&LambdaArgument], gives: &DataType) -> Result<ArrayRef> {
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

pub(super) fn zip_with(arrays: &[ArrayRef], lambda: &LambdaArgument, gives: &DataType) -> Result<ArrayRef> {
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

/// The entries of all maps.
fn entries(array: &ArrayRef) -> (Flat, ArrayRef, ArrayRef) {
    let map = array.as_map();
    let flat = Flat::of(map.offsets(), map.nulls());
    let (keys, values) = (map.keys().slice(flat.start, flat.len), map.values().slice(flat.start, flat.len));
    (flat, keys, values)
}

/// A map of the type `gives`.
fn map_of(
    gives: &DataType,
    keys: &ArrayRef,
    values: &ArrayRef,
    offsets: OffsetBuffer<i32>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    let DataType::Map(entries, sorted) = gives else { return exec_err!("a map is needed") };
    let DataType::Struct(fields) = entries.data_type() else { return exec_err!("a map has keys and values") };
    let columns = vec![cast(keys, fields[0].data_type())?, cast(values, fields[1].data_type())?];
    let pairs = StructArray::try_new(fields.clone(), columns, None)?;
    Ok(Arc::new(MapArray::try_new(entries.clone(), offsets, pairs, nulls, *sorted)?))
}

pub(super) fn transform_keys(array: &ArrayRef, lambda: &LambdaArgument, gives: &DataType) -> Result<ArrayRef> {
    let (flat, keys, values) = entries(array);
    let keys = each(&flat, lambda, &[keys, values.clone()])?;
    refuse_doubles(&flat, &keys)?;
    map_of(gives, &keys, &values, flat.offsets, flat.nulls)
}

pub(super) fn transform_values(array: &ArrayRef, lambda: &LambdaArgument, gives: &DataType) -> Result<ArrayRef> {
    let (flat, keys, values) = entries(array);
    let values = each(&flat, lambda, &[keys.clone(), values])?;
    map_of(gives, &keys, &values, flat.offsets, flat.nulls)
}

pub(super) fn map_filter(array: &ArrayRef, lambda: &LambdaArgument) -> Result<ArrayRef> {
    let (flat, keys, values) = entries(array);
    let keep = boolean(&each(&flat, lambda, &[keys.clone(), values.clone()])?)?;
    let offsets = flat.offsets_of(&keep);
    map_of(array.data_type(), &filter(&keys, &keep)?, &filter(&values, &keep)?, offsets, flat.nulls)
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
pub(super) fn sort_by(array: &ArrayRef, lambda: &LambdaArgument) -> Result<ArrayRef> {
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
