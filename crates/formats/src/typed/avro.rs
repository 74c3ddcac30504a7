//! Avro container files, through the `arrow-avro` crate.
//!
//! That crate trusts a container: a file that stops inside a block is a shorter one to it, and a block whose records do not
//! fill it is read without end. So blocks are taken out of the container here, checked against the schema record by
//! record, and handed on uncompressed.

mod blocks;
mod skip;

use std::io::{BufReader, Cursor, Read, Seek, SeekFrom};

use arrow::datatypes::{Schema, SchemaRef};
use arrow_avro::reader::{ReaderBuilder, read_header_info};

use super::{Batches, Content, FilePart, TypedFile};
use blocks::{Blocks, Codec};
use skip::Skipper;

/// Bytes read at once.
const CHUNK: usize = 256 << 10;

pub(super) fn open(content: Content) -> Result<Box<dyn TypedFile>, String> {
    match content {
        Content::File(file) => opened(file),
        Content::Bytes(bytes) => opened(Cursor::new(bytes)),
    }
}

fn opened<R: Read + Seek + Send + 'static>(mut input: R) -> Result<Box<dyn TypedFile>, String> {
    let header = read_header_info(BufReader::new(&mut input)).map_err(|e| e.to_string())?;
    let text = header.writer_schema().map_err(|e| e.to_string())?.json_string;
    let skipper = Skipper::new(&text)?;
    let codec = Codec::new(header.compression().map_err(|e| e.to_string())?);
    let sync = header.sync();
    let schema =
        ReaderBuilder::new().build(Blocks::header(&text, sync).as_slice()).map_err(|e| e.to_string())?.schema();
    let begin = header.header_len();
    input.seek(SeekFrom::Start(begin)).map_err(|e| e.to_string())?;
    let blocks = Blocks::new(BufReader::with_capacity(CHUNK, input), begin, &text, sync, codec, skipper);
    Ok(Box::new(AvroFile { blocks, schema }))
}

struct AvroFile<R> {
    blocks: Blocks<R>,
    schema: SchemaRef,
}

impl<R: Read + Seek + Send + 'static> TypedFile for AvroFile<R> {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn batches(mut self: Box<Self>, columns: &[usize], batch_rows: usize, part: FilePart) -> Result<Batches, String> {
        self.blocks.only(part);
        let mut builder = ReaderBuilder::new().with_batch_size(batch_rows);
        // The reader cannot give rows without columns; where nothing is asked of them but their number, one is read.
        let counted_only = columns.is_empty();
        if counted_only && !self.schema.fields().is_empty() {
            builder = builder.with_projection(vec![0]);
        } else if columns.len() < self.schema.fields().len() {
            builder = builder.with_projection(columns.to_vec());
        }
        let reader = builder.build(self.blocks).map_err(|e| e.to_string())?;
        Ok(Box::new(reader.map(move |batch| {
            let batch = batch.map_err(|e| e.to_string())?;
            if counted_only { batch.project(&[]).map_err(|e| e.to_string()) } else { Ok(batch) }
        })))
    }
}
