//! Rows of a query made rows of a table: columns by name, types by a cast that fails rather than loses, NOT NULL
//! kept. Knows nothing of files.

use std::sync::Arc;

use alluvium_parser::Diagnostic;
use arrow::array::{
    Array, ArrayRef, ListArray, MapArray, RecordBatch, RecordBatchOptions, StructArray, new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};

use super::schema;
use crate::error::{Error, Result};

/// How batches of one schema become batches of a table's.
#[derive(Debug, Clone)]
pub struct Conform {
    target: SchemaRef,
    /// For each column of the table, where it comes from; None: NULL.
    from: Vec<Option<usize>>,
}

impl Conform {
    /// Plans it. Columns are matched by name without regard to case; those that the table does not have are refused,
    /// those that the rows do not have become NULL.
    pub fn plan(rows: &Schema, table: &SchemaRef) -> Result<Self> {
        let mut from = vec![None; table.fields().len()];
        for (at, field) in rows.fields().iter().enumerate() {
            let found = table.fields().iter().position(|column| column.name().eq_ignore_ascii_case(field.name()));
            match found {
                Some(column) if from[column].is_none() => {
                    check_kind(field, table.field(column))?;
                    from[column] = Some(at);
                }
                Some(_) => {
                    return Err(Error::statement(Diagnostic::new(
                        "DUPLICATE_COLUMN",
                        format!("column `{}` appears twice in the rows to be written", field.name()),
                    )));
                }
                None => return Err(unknown_column(field.name(), table)),
            }
        }
        for (field, from) in table.fields().iter().zip(&from) {
            if from.is_none() && !field.is_nullable() {
                return Err(not_null(field.name()));
            }
        }
        Ok(Conform { target: table.clone(), from })
    }

    /// A batch of the table's schema.
    pub fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let mut columns = Vec::with_capacity(self.from.len());
        for (field, from) in self.target.fields().iter().zip(&self.from) {
            let column = match from {
                Some(at) => convert(batch.column(*at), field.data_type()).map_err(|error| no_fit(field, &error))?,
                None => new_null_array(field.data_type(), batch.num_rows()),
            };
            if !field.is_nullable() && column.logical_null_count() > 0 {
                return Err(not_null(field.name()));
            }
            columns.push(column);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(self.target.clone(), columns, &options)?)
    }
}

/// No value of a nested type is a value of a plain one, or the other way round.
fn check_kind(rows: &Field, column: &Field) -> Result<()> {
    let (from, to) = (rows.data_type(), column.data_type());
    if from.is_nested() == to.is_nested() || *from == DataType::Null || *to == DataType::Utf8 {
        return Ok(());
    }
    Err(Error::statement(
        Diagnostic::new(
            "INCOMPATIBLE_DATA_FOR_TABLE",
            format!(
                "column `{}` is {}, and the query gives {}",
                column.name(),
                schema::sql_name(to),
                schema::sql_name(from)
            ),
        )
        .help("take a part of it in the query, or give it another name"),
    ))
}

/// Casts, nested fields by name.
fn convert(array: &ArrayRef, to: &DataType) -> std::result::Result<ArrayRef, arrow::error::ArrowError> {
    match (array.data_type(), to) {
        (from, to) if from == to => Ok(array.clone()),
        (DataType::Struct(have), DataType::Struct(want)) => {
            let rows: &StructArray = array.as_any().downcast_ref().ok_or_else(|| wrong_array(array))?;
            if let Some(extra) =
                have.iter().find(|field| !want.iter().any(|w| w.name().eq_ignore_ascii_case(field.name())))
            {
                return Err(arrow::error::ArrowError::CastError(format!(
                    "field `{}` is not in the table's struct",
                    extra.name()
                )));
            }
            let mut columns = Vec::with_capacity(want.len());
            for field in want {
                match have.iter().position(|h| h.name().eq_ignore_ascii_case(field.name())) {
                    Some(at) => columns.push(convert(rows.column(at), field.data_type())?),
                    None => columns.push(new_null_array(field.data_type(), rows.len())),
                }
            }
            Ok(Arc::new(StructArray::try_new_with_length(want.clone(), columns, rows.nulls().cloned(), rows.len())?))
        }
        (DataType::List(item), DataType::List(want)) if item.data_type().is_nested() => {
            let lists: &ListArray = array.as_any().downcast_ref().ok_or_else(|| wrong_array(array))?;
            let values = convert(lists.values(), want.data_type())?;
            Ok(Arc::new(ListArray::try_new(want.clone(), lists.offsets().clone(), values, lists.nulls().cloned())?))
        }
        (DataType::Map(..), DataType::Map(entries, sorted)) => {
            let maps: &MapArray = array.as_any().downcast_ref().ok_or_else(|| wrong_array(array))?;
            let DataType::Struct(pair) = entries.data_type() else { return Err(wrong_array(array)) };
            let keys = convert(maps.keys(), pair[0].data_type())?;
            let values = convert(maps.values(), pair[1].data_type())?;
            let rows = StructArray::try_new(pair.clone(), vec![keys, values], None)?;
            Ok(Arc::new(MapArray::try_new(
                entries.clone(),
                maps.offsets().clone(),
                rows,
                maps.nulls().cloned(),
                *sorted,
            )?))
        }
        (_, to) => cast_with_options(array, to, &CastOptions { safe: false, ..CastOptions::default() }),
    }
}

fn wrong_array(array: &ArrayRef) -> arrow::error::ArrowError {
    arrow::error::ArrowError::CastError(format!("unexpected array of {}", array.data_type()))
}

fn unknown_column(name: &str, table: &Schema) -> Error {
    let names: Vec<_> = table.fields().iter().map(|field| format!("`{}`", field.name())).collect();
    Error::statement(
        Diagnostic::new(
            "COLUMN_NOT_IN_TABLE",
            format!("column `{name}` is not in the table (it has {})", names.join(", ")),
        )
        .help("leave the column out, or add it to the table first"),
    )
}

fn not_null(column: &str) -> Error {
    Error::statement(
        Diagnostic::new("NOT_NULL_VIOLATION", format!("a NULL for column `{column}`, which is NOT NULL"))
            .help(format!("filter such rows out (WHERE {column} IS NOT NULL) or give a value with coalesce")),
    )
}

fn no_fit(field: &FieldRef, error: &arrow::error::ArrowError) -> Error {
    let why = error.to_string();
    let why = why.trim_start_matches("Cast error: ");
    Error::statement(
        Diagnostic::new(
            "CAST_FAILED",
            format!(
                "a value does not fit column `{}` of type {}: {why}",
                field.name(),
                schema::sql_name(field.data_type())
            ),
        )
        .help("use try_cast to get NULL instead, or give the column a wider type"),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow::array::{Int32Array, Int64Array, StringArray};
    use arrow::datatypes::Field;

    use super::*;

    fn table() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("Id", DataType::Int32, false), Field::new("name", DataType::Utf8, true)]))
    }

    #[test]
    fn columns_go_by_name_and_absent_ones_are_null() {
        let batch = RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef)]).unwrap();
        let out = Conform::plan(&batch.schema(), &table()).unwrap().apply(&batch).unwrap();
        assert_eq!(out.column(0).as_ref(), &Int32Array::from(vec![1, 2]) as &dyn Array);
        assert_eq!(out.column(1).null_count(), 2);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let code = |batch: &RecordBatch| {
            let error = Conform::plan(&batch.schema(), &table()).and_then(|conform| conform.apply(batch)).unwrap_err();
            error.diagnostic().code
        };
        let one =
            |name: &str, column: ArrayRef| RecordBatch::try_from_iter_with_nullable([(name, column, true)]).unwrap();
        assert_eq!(code(&one("id", Arc::new(Int64Array::from(vec![i64::MAX])))), "CAST_FAILED");
        assert_eq!(code(&one("id", Arc::new(Int32Array::from(vec![None, Some(1)])))), "NOT_NULL_VIOLATION");
        assert_eq!(code(&one("name", Arc::new(StringArray::from(vec!["x"])))), "NOT_NULL_VIOLATION");
        assert_eq!(code(&one("other", Arc::new(StringArray::from(vec!["x"])))), "COLUMN_NOT_IN_TABLE");
    }
}
