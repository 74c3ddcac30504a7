//! Every row of a side of a join as it is stored, for who only looks: with its time, whether it has matched, and the join key
//! where that is asked for.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow_row::{RowConverter, SortField};

use super::codec;
use super::event_time::ordered;
use super::joined::{CHECKSUM, JOIN_KEYS, PREFIX, SIDES, SUFFIX, checksum, hex, suffix};
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
    /// Types of the join key's columns as the checkpoint has them.
    key_types: String,
    /// Gives the join key's columns, in front of the others; None: they are not asked for.
    keys: Option<RowConverter>,
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
                key_types: stored.metadata().get(JOIN_KEYS).cloned().unwrap_or_default(),
                keys: None,
                until: prefix_end(&from),
                from,
                damage: damage.clone(),
            });
        }
        Ok(sides)
    }

    /// With the columns of the join key in front of the others: `key_1`, `key_2` and so on.
    pub fn with_keys(mut self) -> Result<JoinRows> {
        let types = types_of(&self.key_types).ok_or_else(|| codec::corrupt(self.operator, "the types of its keys"))?;
        if types.is_empty() {
            return Ok(self);
        }
        let keys = types.iter().enumerate().map(|(at, of)| Field::new(format!("key_{}", at + 1), of.clone(), true));
        let fields = keys.chain(self.schema.fields().iter().map(|field| field.as_ref().clone()));
        self.schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        self.keys = Some(RowConverter::new(types.into_iter().map(SortField::new).collect())?);
        Ok(self)
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
            let (mut rows, mut times, mut marks, mut keys) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            for (key, value) in page.iter() {
                let whole = value.split_first_chunk::<CHECKSUM>();
                let whole = whole
                    .filter(|(sum, row)| u32::from_be_bytes(**sum) == checksum(row) && key.len() >= PREFIX + SUFFIX);
                match (whole, suffix(key)) {
                    (Some((_, row)), Some((time, number))) => {
                        rows.push(row);
                        keys.push(key.get(PREFIX..key.len() - SUFFIX).unwrap_or_default());
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
                return self.batch(&rows, &keys, times, &marks).map(Some);
            }
        }
    }

    fn batch(&self, rows: &[&[u8]], keys: &[&[u8]], times: Vec<Option<i64>>, marks: &[Vec<u8>]) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = Vec::new();
        if let Some(converter) = &self.keys {
            columns.extend(self.decoded(converter, keys, 0)?);
        }
        if let Some(converter) = &self.converter {
            columns.extend(self.decoded(converter, rows, columns.len())?);
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

    /// Columns from the row format, of which the first is column `first` of the schema.
    fn decoded(&self, converter: &RowConverter, rows: &[&[u8]], first: usize) -> Result<Vec<ArrayRef>> {
        let parser = converter.parser();
        let decoded = converter.convert_rows(rows.iter().map(|row| parser.parse(row)))?;
        let typed = |(column, field): (ArrayRef, &Arc<Field>)| match column.data_type() == field.data_type() {
            true => Ok(column),
            false => Ok(cast(&column, field.data_type())?),
        };
        decoded.into_iter().zip(&self.schema.fields()[first..]).map(typed).collect()
    }
}

/// The types in a list of them: a comma may be within one.
fn types_of(list: &str) -> Option<Vec<DataType>> {
    let (mut types, mut text) = (Vec::new(), String::new());
    for part in list.split(", ").filter(|part| !part.is_empty()) {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(part);
        if let Ok(data_type) = text.parse() {
            types.push(data_type);
            text.clear();
        }
    }
    text.is_empty().then_some(types)
}

impl Iterator for JoinRows {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_batch().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_with_commas_are_told_apart() {
        let types = [
            DataType::Utf8,
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            DataType::Decimal128(10, 2),
            DataType::Int64,
        ];
        let list = types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        assert_eq!(types_of(&list).as_deref(), Some(&types[..]));
        assert_eq!(types_of(""), Some(Vec::new()));
        assert_eq!(types_of("Int64, Nonsense"), None);
    }
}
