//! State of one operator taken over by another one: fewer columns, or the same in another order.
//!
//! The rows are written anew under a number that nothing uses yet, straight to where folded rows are; the caller then says
//! in one batch which number counts. A crash before that leaves rows that nobody knows, which [`forget_operator`] removes.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};

use super::codec::{self, RowCodec};
use super::table::{StateTable, pinned};
use super::{Batch, Column, StateStore};
use crate::error::{Error, Result};

/// Copies the state stored under `from` to `to`. `columns`: for each new column, keys first, which one of the stored
/// columns it is; the first `keys` of them are the key. The same keys in another order are the same key.
pub fn copy_mapped(store: &Arc<dyn StateStore>, from: u32, to: u32, columns: &[usize], keys: usize) -> Result<()> {
    forget_operator(store.as_ref(), to)?;
    let Some((stored, _, time)) = StateTable::stored_columns(store.as_ref(), from)? else { return Ok(()) };
    let schema = stored.project(columns)?;
    let time =
        match time {
            Some(time) => Some(columns.iter().position(|column| *column == time).ok_or_else(|| {
                Error::internal(format!("the state of operator {from} would lose the time of its rows"))
            })?),
            None => None,
        };
    let schema = pinned(&schema, keys, time);
    let codec = RowCodec::new(to, schema.clone(), keys, time)?;
    let source = StateTable::open_to_look(store.clone(), from, None)?;
    let mut rows = 0;
    for batch in source.scan(None)? {
        let batch = batch?.project(columns)?;
        rows += batch.num_rows();
        let keys_of = codec.keys(&batch.columns()[..keys], batch.num_rows())?;
        let values = codec.values(&batch.columns()[keys..], batch.num_rows())?;
        let mut writes = Batch::default();
        for row in keys_of.sorted() {
            writes.put(Column::Rows, keys_of.get(row as usize), values.get(row as usize));
        }
        store.write(writes, false)?;
    }
    let mut last = Batch::default();
    let meta = |what: &str| super::table::meta_key(to, what);
    last.put(Column::Meta, meta("schema"), codec::encode_schema(&schema)?);
    last.put(Column::Meta, meta("format"), codec::format_of(time));
    last.put(Column::Meta, meta("cold"), "1");
    last.put(Column::Meta, meta("rows"), rows.to_string());
    store.write(last, true)
}

/// Removes everything that is stored under a number.
pub fn forget_operator(store: &dyn StateStore, operator: u32) -> Result<()> {
    let (from, until) = codec::operator_range(operator);
    let mut batch = Batch::default();
    // Of a join as well, whose sides have names of their own.
    let meta = super::table::meta_key(operator, "");
    batch.delete_range(Column::Meta, meta.clone(), super::prefix_end(&meta));
    batch.delete_range(Column::Rows, from.clone(), until.clone());
    batch.delete_range(Column::Log, from, until);
    store.write(batch, true)
}

/// Gives the columns of stored state other names, where there are as many.
pub fn rename_columns(store: &dyn StateStore, operator: u32, names: &[String]) -> Result<()> {
    let Some((schema, _, _)) = StateTable::stored_columns(store, operator)? else { return Ok(()) };
    if schema.fields().len() != names.len()
        || schema.fields().iter().zip(names).all(|(field, name)| field.name() == name)
    {
        return Ok(());
    }
    let fields = schema.fields().iter().zip(names).map(|(field, name)| field.as_ref().clone().with_name(name));
    let renamed: SchemaRef = Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone()));
    let mut batch = Batch::default();
    batch.put(Column::Meta, super::table::meta_key(operator, "schema"), codec::encode_schema(&renamed)?);
    store.write(batch, true)
}
