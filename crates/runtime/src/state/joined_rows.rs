//! Every row of a side of a join as it is stored, for who only looks: with its time, and whether it has matched.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow_row::{RowConverter, SortField};

use super::codec;
use super::event_time::ordered;
use super::joined::{CHECKSUM, PREFIX, SIDES, SUFFIX, checksum, hex, suffix};
use super::table::meta_key;
use super::{Column, Damage, StateStore, prefix_end};
use crate::error::Result;

/// Rows per batch.
const BATCH_ROWS: usize = 4096;

/// See the module.
pub struct JoinRows {
    store: Arc<dyn StateStore>,
    operator: u32,
    side: usize,
    /// Its columns, then `time` and `matched`.
    schema: SchemaRef,
    converter: Option<RowConverter>,
    from: Vec<u8>,
    until: Vec<u8>,
    damage: Option<Arc<Damage>>,
}

impl JoinRows {
    /// Both sides of the join that is stored under `operator`; none where there is none. What cannot be read is noted in
    /// `damage`; without it, it is an error.
    pub fn stored(store: &Arc<dyn StateStore>, operator: u32, damage: Option<Arc<Damage>>) -> Result<Vec<JoinRows>> {
        let mut sides = Vec::new();
        for (side, name) in SIDES.into_iter().enumerate() {
            let Some(bytes) = store.get(Column::Meta, &meta_key(operator, &format!("{name}/schema")))? else {
                continue;
            };
            let stored = codec::decode_schema(operator, &bytes)?;
            let sorted: Vec<_> =
                stored.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
            let mut fields: Vec<Field> = stored.fields().iter().map(|field| field.as_ref().clone()).collect();
            fields.push(Field::new("time", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true));
            fields.push(Field::new("matched", DataType::Boolean, true));
            let from = [&operator.to_be_bytes()[..], &[side as u8]].concat();
            sides.push(JoinRows {
                store: store.clone(),
                operator,
                side,
                schema: Arc::new(Schema::new(fields)),
                converter: if sorted.is_empty() { None } else { Some(RowConverter::new(sorted)?) },
                until: prefix_end(&from),
                from,
                damage: damage.clone(),
            });
        }
        Ok(sides)
    }

    /// `left` or `right`.
    pub fn side(&self) -> &'static str {
        SIDES[self.side]
    }

    /// Columns of the rows.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let page = self.store.page(Column::Rows, &self.from, &self.until, BATCH_ROWS)?;
            let Some(next) = page.next_key() else { return Ok(None) };
            self.from = next;
            let (mut rows, mut times, mut marks) = (Vec::new(), Vec::new(), Vec::new());
            for (key, value) in page.iter() {
                let whole = value.split_first_chunk::<CHECKSUM>();
                let whole = whole
                    .filter(|(sum, row)| u32::from_be_bytes(**sum) == checksum(row) && key.len() >= PREFIX + SUFFIX);
                match (whole, suffix(key)) {
                    (Some((_, row)), Some((time, number))) => {
                        rows.push(row);
                        times.push(time);
                        let part = [self.side as u8 + 2];
                        let prefix = self.operator.to_be_bytes();
                        marks.push([&prefix[..], &part, &ordered(time), &number.to_be_bytes()].concat());
                    }
                    _ => {
                        let what = format!("a row of the {} side ({})", self.side(), hex(key));
                        match &self.damage {
                            Some(damage) => damage.note(what),
                            None => return Err(codec::corrupt(self.operator, &what)),
                        }
                    }
                }
            }
            if !rows.is_empty() {
                return self.batch(&rows, times, &marks).map(Some);
            }
        }
    }

    fn batch(&self, rows: &[&[u8]], times: Vec<Option<i64>>, marks: &[Vec<u8>]) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = Vec::new();
        if let Some(converter) = &self.converter {
            let parser = converter.parser();
            let decoded = converter.convert_rows(rows.iter().map(|row| parser.parse(row)))?;
            for (column, field) in decoded.into_iter().zip(self.schema.fields()) {
                columns.push(if column.data_type() == field.data_type() {
                    column
                } else {
                    cast(&column, field.data_type())?
                });
            }
        }
        let mut order: Vec<usize> = (0..marks.len()).collect();
        order.sort_unstable_by(|a, b| marks[*a].cmp(&marks[*b]));
        let sorted: Vec<&[u8]> = order.iter().map(|at| marks[*at].as_slice()).collect();
        let mut matched: Vec<Option<bool>> = vec![None; marks.len()];
        self.store.multi_get(Column::Rows, &sorted, &mut |at, value| {
            matched[order[at]] = value.first().map(|flag| *flag == 1);
            Ok(())
        })?;
        columns.push(Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")));
        columns.push(Arc::new(BooleanArray::from(matched)));
        codec::batch_of(self.schema.clone(), columns, rows.len())
    }
}

impl Iterator for JoinRows {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_batch().transpose()
    }
}
