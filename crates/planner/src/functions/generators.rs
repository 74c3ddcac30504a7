//! `explode`, `posexplode`, `inline`, `stack` and their `_outer` forms: one row becomes several.
//!
//! Each column a generator gives is an `unnest` of an array; those of one SELECT go side by side. The arrays that are
//! not there as they are (positions, one field of each structure) are made by functions of this file.

use std::sync::Arc;

use alluvium_parser::{Diagnostic, Span};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int32Array, ListArray, UInt32Array};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use sqlparser::ast::{self, Ident, Spanned};

use super::spellings::{arguments, call};
use crate::strict::not_yet;

/// Names of the generators.
const GENERATORS: [&str; 7] =
    ["explode", "explode_outer", "posexplode", "posexplode_outer", "inline", "inline_outer", "stack"];

/// The generator that an expression of a select list is.
pub(crate) fn generator(expr: &ast::Expr) -> Option<&ast::Function> {
    match expr {
        ast::Expr::Function(function) => {
            let name = function.name.to_string();
            GENERATORS.iter().any(|known| known.eq_ignore_ascii_case(&name)).then_some(function)
        }
        _ => None,
    }
}

/// A call of a generator, to be asked of [`generator`] whether it is one.
pub(crate) fn called(name: &str, args: Vec<ast::Expr>) -> ast::Expr {
    call(name, args)
}

/// The columns a generator gives, with their names: those of `names`, or Spark's. `outer` keeps rows that have nothing.
pub(crate) fn columns(
    function: &ast::Function,
    names: &[Ident],
    outer: bool,
) -> Result<Vec<(ast::Expr, Ident)>, Diagnostic> {
    let typed = function.name.to_string().to_lowercase();
    let (name, outer) = match typed.strip_suffix("_outer") {
        Some(name) => (name, true),
        None => (typed.as_str(), outer),
    };
    let at = Span::from(function.name.span());
    let args = arguments(function).unwrap_or_default();
    let wrong = |takes: &str| Diagnostic::new("INVALID_QUERY", format!("{typed} takes {takes}")).at(at);
    if name == "stack" {
        return stacked(&args, names).ok_or_else(|| wrong("a constant number of rows, and their values"));
    }
    let [given] = args.as_slice() else { return Err(wrong("one argument")) };
    let whole = |array: ast::Expr| if outer { call(WITH_NULL, vec![array]) } else { array };
    let positions = || call(if outer { POSITIONS_OUTER } else { POSITIONS }, vec![given_array(given, names, name)]);
    let keys = || whole(call("map_keys", vec![given.clone()]));
    let values = || whole(call("map_values", vec![given.clone()]));
    let (arrays, usual) = match name {
        "explode" if of_map(given, names, 2) => (vec![keys(), values()], vec!["key", "value"]),
        "explode" => (vec![whole(given.clone())], vec!["col"]),
        "posexplode" if of_map(given, names, 3) => (vec![positions(), keys(), values()], vec!["pos", "key", "value"]),
        "posexplode" => (vec![positions(), whole(given.clone())], vec!["pos", "col"]),
        _ if names.is_empty() => {
            return Err(not_yet(&format!("{typed} without names"), at)
                .help("name the columns, all of them: inline(x) AS (a, b), or LATERAL VIEW inline(x) v AS a, b"));
        }
        _ => {
            let field = |place: usize| {
                let place = ast::Expr::Value(ast::Value::Number(place.to_string(), false).with_empty_span());
                whole(call(FIELD_OF_EACH, vec![given.clone(), place]))
            };
            ((0..names.len()).map(field).collect(), vec![""; names.len()])
        }
    };
    if !names.is_empty() && names.len() != arrays.len() {
        let count = arrays.len();
        let help = if name == "explode" && names.len() > 1 { "a map gives two columns" } else { "name all or none" };
        return Err(wrong("as many names as it gives columns").help(format!("it gives {count}; {help}")));
    }
    let named = arrays.into_iter().zip(usual).enumerate().map(|(place, (array, usual))| {
        let name = names.get(place).cloned().unwrap_or_else(|| Ident::with_quote('`', usual));
        (call("unnest", vec![array]), name)
    });
    Ok(named.collect())
}

/// Whether a map is meant: by the number of names, or because it is written out.
fn of_map(given: &ast::Expr, names: &[Ident], columns: usize) -> bool {
    let written = match given {
        ast::Expr::Function(function) => {
            matches!(
                function.name.to_string().to_lowercase().as_str(),
                "map"
                    | "map_concat"
                    | "map_filter"
                    | "map_from_arrays"
                    | "map_from_entries"
                    | "str_to_map"
                    | "transform_keys"
                    | "transform_values"
            )
        }
        _ => false,
    };
    names.len() == columns || written && names.is_empty()
}

fn given_array(given: &ast::Expr, names: &[Ident], name: &str) -> ast::Expr {
    match name == "posexplode" && of_map(given, names, 3) {
        true => call("map_keys", vec![given.clone()]),
        false => given.clone(),
    }
}

/// `stack(rows, a, b, …)`, whose values fill the rows from left to right.
fn stacked(args: &[ast::Expr], names: &[Ident]) -> Option<Vec<(ast::Expr, Ident)>> {
    let (ast::Expr::Value(rows), values) = args.split_first()? else { return None };
    let ast::Value::Number(rows, _) = &rows.value else { return None };
    let rows: usize = rows.parse().ok().filter(|rows| *rows > 0)?;
    let width = values.len().div_ceil(rows);
    if width == 0 || !names.is_empty() && names.len() != width {
        return None;
    }
    let null = || ast::Expr::Value(ast::Value::Null.with_empty_span());
    let column = |place: usize| {
        let of_row = |row: usize| values.get(row * width + place).cloned().unwrap_or_else(null);
        let name = names.get(place).cloned().unwrap_or_else(|| Ident::with_quote('`', format!("col{place}")));
        (call("unnest", vec![call("array", (0..rows).map(of_row).collect())]), name)
    };
    Some((0..width).map(column).collect())
}

const WITH_NULL: &str = "elements_or_null";
const POSITIONS: &str = "element_positions";
const POSITIONS_OUTER: &str = "element_positions_or_null";
const FIELD_OF_EACH: &str = "field_of_each";

/// What the generators are made of.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let udf = |name| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::from(OfElements { name, signature }))
    };
    [WITH_NULL, POSITIONS, POSITIONS_OUTER, FIELD_OF_EACH].into_iter().map(udf).collect()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OfElements {
    name: &'static str,
    signature: Signature,
}

impl OfElements {
    fn gives(&self, given: &DataType, place: Option<usize>) -> Result<DataType> {
        let DataType::List(element) = given else {
            return plan_err!("explode takes an ARRAY or a MAP as its type, not {}", crate::ddl::sql_type(given));
        };
        let list = |element: DataType| DataType::List(Arc::new(Field::new_list_field(element, true)));
        Ok(match (self.name, element.data_type()) {
            (WITH_NULL, element) => list(element.clone()),
            (FIELD_OF_EACH, DataType::Struct(fields)) => match place.and_then(|place| fields.get(place)) {
                Some(field) => list(field.data_type().clone()),
                None => return plan_err!("inline gives {} columns; name them all", fields.len()),
            },
            (FIELD_OF_EACH, other) => {
                return plan_err!("inline takes an array of a STRUCT type, not of {}", crate::ddl::sql_type(other));
            }
            _ => list(DataType::Int32),
        })
    }
}

impl ScalarUDFImpl for OfElements {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let lists = arg_types.iter().map(|given| match given {
            DataType::LargeList(element) | DataType::FixedSizeList(element, _) => DataType::List(element.clone()),
            DataType::Null => DataType::new_list(DataType::Null, true),
            other => other.clone(),
        });
        Ok(lists.collect())
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types {
            [given] => self.gives(given, None),
            _ => plan_err!("{} needs its place", self.name),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let place = match args.scalar_arguments.get(1).copied().flatten() {
            Some(ScalarValue::Int64(Some(place))) => usize::try_from(*place).ok(),
            _ => None,
        };
        let Some(given) = args.arg_fields.first() else { return plan_err!("{} takes an array", self.name) };
        Ok(Arc::new(Field::new(self.name, self.gives(given.data_type(), place)?, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(array) = args.args.first() else { return exec_err!("{} takes an array", self.name) };
        let array = array.to_array(args.number_rows)?;
        let list = array.as_list::<i32>();
        let DataType::List(element) = args.return_field.data_type() else {
            return exec_err!("{} gives an array", self.name);
        };
        let made = match self.name {
            WITH_NULL => with_null(list, element)?,
            POSITIONS => positions(list, element, false)?,
            POSITIONS_OUTER => positions(list, element, true)?,
            _ => {
                let Some(ColumnarValue::Scalar(ScalarValue::Int64(Some(place)))) = args.args.get(1) else {
                    return exec_err!("{} needs its place", self.name);
                };
                let structs = list.values().as_struct();
                let Some(column) = structs.columns().get(*place as usize) else {
                    return exec_err!("there is no field {place}");
                };
                // Fields of a structure that is NULL are NULL.
                let there: UInt32Array =
                    (0..structs.len()).map(|at| structs.is_valid(at).then_some(at as u32)).collect();
                let column = take(column, &there, None)?;
                Arc::new(ListArray::try_new(element.clone(), list.offsets().clone(), column, list.nulls().cloned())?)
            }
        };
        Ok(ColumnarValue::Array(made))
    }
}

/// The range of a row; None where it has no elements.
fn elements(list: &ListArray, row: usize) -> Option<std::ops::Range<u32>> {
    let offsets = list.value_offsets();
    let range = offsets[row] as u32..offsets[row + 1] as u32;
    (list.is_valid(row) && !range.is_empty()).then_some(range)
}

fn with_null(list: &ListArray, element: &FieldRef) -> Result<ArrayRef> {
    let places = (0..list.len()).flat_map(|row| match elements(list, row) {
        Some(range) => range.map(Some).collect::<Vec<_>>(),
        None => vec![None],
    });
    let values = take(list.values(), &places.collect::<UInt32Array>(), None)?;
    let lengths = (0..list.len()).map(|row| elements(list, row).map_or(1, |range| range.len()));
    Ok(Arc::new(ListArray::try_new(element.clone(), OffsetBuffer::from_lengths(lengths), values, None)?))
}

fn positions(list: &ListArray, element: &FieldRef, outer: bool) -> Result<ArrayRef> {
    let places = (0..list.len()).flat_map(|row| match elements(list, row) {
        Some(range) => (0..range.len() as i32).map(Some).collect::<Vec<_>>(),
        None if outer => vec![None],
        None => Vec::new(),
    });
    let places: ArrayRef = Arc::new(places.collect::<Int32Array>());
    let lengths = (0..list.len()).map(|row| elements(list, row).map_or(usize::from(outer), |range| range.len()));
    let nulls: Option<NullBuffer> = list.nulls().filter(|_| !outer).cloned();
    Ok(Arc::new(ListArray::try_new(element.clone(), OffsetBuffer::from_lengths(lengths), places, nulls)?))
}
