//! Parquet, through the `parquet` crate: only the columns that are asked for are read.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::basic::{LogicalType, Type as Physical};
use parquet::file::reader::ChunkReader;

use super::{Batches, Content, TypedFile};

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

    fn batches(self: Box<Self>, columns: &[usize], batch_rows: usize) -> Result<Batches, String> {
        let described = self.metadata.metadata().file_metadata().schema_descr();
        let mask = ProjectionMask::roots(described, columns.iter().copied());
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(self.input, self.metadata);
        let reader = builder.with_projection(mask).with_batch_size(batch_rows).build().map_err(|e| e.to_string())?;
        let batches = reader.map(|batch: Result<RecordBatch, _>| batch.map_err(|e| e.to_string()));
        Ok(Box::new(batches))
    }
}
