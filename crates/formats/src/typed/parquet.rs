//! Parquet, through the `parquet` crate: only the columns that are asked for are read.
//!
//! A part of a file has the row groups that begin in it. A row group too large for that is shared out by its rows, as far as
//! it reaches into the part; pages in front of them are passed over without being uncompressed.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::basic::{LogicalType, Type as Physical};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::ChunkReader;

use super::rebase::Calendars;
use super::{Batches, Content, FilePart, TypedFile};

/// A row group up to this size belongs to one part as a whole.
const GROUP_WHOLE_MAX: u64 = 16 << 20;

pub(super) fn open(content: Content) -> Result<Box<dyn TypedFile>, String> {
    match content {
        Content::File(file) => opened(file),
        Content::Bytes(bytes) => opened(bytes),
    }
}

fn opened<C: ChunkReader + 'static>(input: C) -> Result<Box<dyn TypedFile>, String> {
    let load = |options| ArrowReaderMetadata::load(&input, options).map_err(|e| e.to_string());
    // The Arrow schema that some writers embed would bring types of theirs; the Parquet types say all that is needed.
    let found = load(ArrowReaderOptions::new().with_skip_arrow_metadata(true))?;
    let metadata = match without_int96(&found) {
        Some(schema) => {
            let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true).with_schema(schema);
            ArrowReaderMetadata::try_new(found.metadata().clone(), options).map_err(|e| e.to_string())?
        }
        None => found,
    };
    Ok(Box::new(ParquetFile { input, metadata }))
}

/// The schema with microseconds in UTC for the old 96-bit timestamps, whose nanoseconds reach from 1677 to 2262 only.
fn without_int96(metadata: &ArrowReaderMetadata) -> Option<SchemaRef> {
    let described = metadata.metadata().file_metadata().schema_descr();
    if !described.columns().iter().any(|column| column.physical_type() == Physical::INT96) {
        return None;
    }
    // Nothing but 96-bit timestamps has nanoseconds without saying so in its logical type.
    let annotated = described.columns().iter().any(|column| match column.logical_type_ref() {
        Some(LogicalType::Timestamp(time)) => time.unit == parquet::basic::TimeUnit::NANOS,
        _ => false,
    });
    let fields = metadata.schema().fields().iter().map(|field| micros(field, annotated));
    Some(std::sync::Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}

fn micros(field: &Field, annotated: bool) -> Field {
    let inner = |field: &std::sync::Arc<Field>| std::sync::Arc::new(micros(field, annotated));
    let data_type = match field.data_type() {
        DataType::Timestamp(TimeUnit::Nanosecond, None) if !annotated => {
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
        }
        DataType::List(item) => DataType::List(inner(item)),
        DataType::Map(entries, sorted) => DataType::Map(inner(entries), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner).collect::<Vec<_>>().into()),
        other => other.clone(),
    };
    field.clone().with_data_type(data_type)
}

struct ParquetFile<C> {
    input: C,
    metadata: ArrowReaderMetadata,
}

impl<C: ChunkReader + 'static> TypedFile for ParquetFile<C> {
    fn schema(&self) -> &Schema {
        self.metadata.schema()
    }

    fn calendars(&self) -> Option<Calendars> {
        let file = self.metadata.metadata().file_metadata();
        let said = file.key_value_metadata().into_iter().flatten();
        let described = file.schema_descr();
        let mut int96 = Vec::new();
        if described.columns().iter().any(|column| column.physical_type() == Physical::INT96) {
            int96.resize(self.metadata.schema().fields().len(), Vec::new());
            for (leaf, column) in described.columns().iter().enumerate() {
                let leaves = int96.get_mut(described.get_column_root_idx(leaf));
                leaves.into_iter().for_each(|leaves| leaves.push(column.physical_type() == Physical::INT96));
            }
        }
        let said = said.map(|entry| (entry.key.clone(), entry.value.clone().unwrap_or_default())).collect();
        Some(Calendars { said, int96 })
    }

    fn batches(self: Box<Self>, columns: &[usize], batch_rows: usize, part: FilePart) -> Result<Batches, String> {
        let described = self.metadata.metadata().file_metadata().schema_descr();
        let mask = ProjectionMask::roots(described, columns.iter().copied());
        let (groups, rows) = rows_in(part, self.metadata.metadata().row_groups(), GROUP_WHOLE_MAX);
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(self.input, self.metadata);
        let mut builder = builder.with_projection(mask).with_batch_size(batch_rows).with_row_groups(groups);
        if let Some(rows) = rows {
            builder = builder.with_row_selection(rows);
        }
        let reader = builder.build().map_err(|e| e.to_string())?;
        let batches = reader.map(|batch: Result<RecordBatch, _>| batch.map_err(|e| e.to_string()));
        Ok(Box::new(batches))
    }
}

/// The row groups that have rows in a part, and which rows of them if not all. Up to `whole_max` bytes a row group is not
/// shared out.
fn rows_in(part: FilePart, groups: &[RowGroupMetaData], whole_max: u64) -> (Vec<usize>, Option<RowSelection>) {
    let (mut chosen, mut selectors, mut all) = (Vec::new(), Vec::new(), true);
    for (at, group) in groups.iter().enumerate() {
        let rows = u64::try_from(group.num_rows()).unwrap_or(0);
        let (begin, length) = extent(group);
        // The row that stands at a byte, if rows stood evenly.
        let row_at = |byte: u64| match byte.saturating_sub(begin) {
            _ if byte == u64::MAX => rows,
            0 => 0,
            within if within >= length || length <= whole_max => rows,
            within => (u128::from(rows) * u128::from(within) / u128::from(length)) as u64,
        };
        let (first, end) = (row_at(part.from), row_at(part.to));
        if first < end {
            chosen.push(at);
            all &= first == 0 && end == rows;
            let count = |rows: u64| usize::try_from(rows).unwrap_or(usize::MAX);
            selectors.push(RowSelector::skip(count(first)));
            selectors.push(RowSelector::select(count(end - first)));
            selectors.push(RowSelector::skip(count(rows - end)));
        }
    }
    (chosen, (!all).then(|| RowSelection::from(selectors)))
}

/// Where a row group begins in the file, and how far its columns reach from there.
fn extent(group: &RowGroupMetaData) -> (u64, u64) {
    let place = |offset: i64| u64::try_from(offset).unwrap_or(0);
    let (mut begin, mut end) = (u64::MAX, 0);
    for column in group.columns() {
        let from = place(column.dictionary_page_offset().unwrap_or(i64::MAX).min(column.data_page_offset()));
        begin = begin.min(from);
        end = end.max(from.saturating_add(place(column.compressed_size())));
    }
    let begin = if begin == u64::MAX { 0 } else { begin };
    (begin, end.saturating_sub(begin))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, Int64Array, ListArray, StringArray};
    use arrow::datatypes::Int64Type;
    use bytes::Bytes;
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::WriterProperties;

    use super::*;

    /// Three row groups of numbers, texts and lists, in small pages.
    fn file() -> Bytes {
        let ids = Int64Array::from_iter_values(0..1000);
        let texts = StringArray::from_iter_values((0..1000).map(|i| format!("text {}", i % 37)));
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(
            (0..1000_i64).map(|i| (i % 7 != 0).then(|| (0..i % 5).map(Some).collect::<Vec<_>>())),
        );
        let columns: Vec<(&str, ArrayRef)> =
            vec![("id", Arc::new(ids)), ("text", Arc::new(texts)), ("list", Arc::new(lists))];
        let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(400))
            .set_data_page_row_count_limit(50)
            .set_write_batch_size(10)
            .build();
        let mut out = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut out, batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        out.into()
    }

    fn read(bytes: &Bytes, part: FilePart, whole_max: u64) -> Vec<RecordBatch> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).unwrap();
        let (groups, rows) = rows_in(part, builder.metadata().row_groups(), whole_max);
        let mut builder = builder.with_row_groups(groups);
        if let Some(rows) = rows {
            builder = builder.with_row_selection(rows);
        }
        builder.build().unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn parts_hold_each_row_once_wherever_the_file_is_cut() {
        let bytes = file();
        let whole = read(&bytes, FilePart::WHOLE, 0);
        let whole = arrow::compute::concat_batches(&whole[0].schema(), &whole).unwrap();
        assert_eq!(whole.num_rows(), 1000);
        let mut uneven = 0;
        for cut in (0..bytes.len() as u64 + 100).step_by(131) {
            for whole_max in [0, 1 << 20] {
                let mut parts = read(&bytes, FilePart { from: 0, to: cut }, whole_max);
                let first: usize = parts.iter().map(RecordBatch::num_rows).sum();
                uneven += usize::from(!first.is_multiple_of(400) && first != 1000);
                parts.extend(read(&bytes, FilePart { from: cut, to: u64::MAX }, whole_max));
                assert_eq!(arrow::compute::concat_batches(&whole.schema(), &parts).unwrap(), whole, "cut at {cut}");
            }
        }
        assert!(uneven > 10, "row groups were cut");
        let middle = bytes.len() as u64 / 2;
        let half: usize = read(&bytes, FilePart { from: 0, to: middle }, 0).iter().map(RecordBatch::num_rows).sum();
        assert!((300..700).contains(&half), "{half}");
    }

    #[test]
    fn rows_without_columns_are_shared_out_too() {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file()).unwrap();
        let part = FilePart { from: 2000, to: u64::MAX };
        let (groups, rows) = rows_in(part, builder.metadata().row_groups(), 0);
        let count = rows.as_ref().unwrap().row_count();
        let mask = ProjectionMask::roots(builder.parquet_schema(), []);
        let reader = builder.with_projection(mask).with_row_groups(groups).with_row_selection(rows.unwrap());
        let read: usize = reader.build().unwrap().map(|batch| batch.unwrap().num_rows()).sum();
        assert_eq!(read, count);
        assert!(read > 0 && read < 1000);
        let ids = read_ids(&file(), part);
        assert_eq!((ids.len(), *ids.last().unwrap()), (count, 999));
    }

    fn read_ids(bytes: &Bytes, part: FilePart) -> Vec<i64> {
        let batches = read(bytes, part, 0);
        batches.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
    }
}
