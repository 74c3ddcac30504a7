//! Avro container files, through the `arrow-avro` crate.
//!
//! That crate trusts a container: a file that stops inside a block is a shorter one to it, and a block whose records do not
//! fill it is read without end. So blocks are taken out of the container here, checked against the schema record by
//! record, and handed on uncompressed. With a schema to read with (`avroSchema`) the crate resolves the file's own against
//! it.

mod blocks;
mod skip;

use std::collections::HashMap;
use std::io::{BufReader, Cursor, Read, Seek, SeekFrom};

use arrow::datatypes::{Schema, SchemaRef};
use arrow_avro::reader::{ReaderBuilder, read_header_info};
use arrow_avro::schema::AvroSchema;

use super::rebase::Calendars;
use super::{Batches, Content, FilePart, TypedFile, guarded};
use blocks::{Blocks, Codec};
use skip::Skipper;

/// Bytes read at once.
const CHUNK: usize = 256 << 10;

/// Opens a container; `wanted` is the schema to read it with, if not its own.
pub(super) fn open(content: Content, wanted: Option<&str>) -> Result<Box<dyn TypedFile>, String> {
    match content {
        Content::File(file) => opened(file, wanted),
        Content::Bytes(bytes) => opened(Cursor::new(bytes), wanted),
    }
}

/// What is wrong with a schema to read with, if anything is.
pub fn check(schema: &str) -> Result<(), String> {
    let read: serde_json::Value = serde_json::from_str(schema).map_err(|e| e.to_string())?;
    if read.get("type").and_then(serde_json::Value::as_str) != Some("record") {
        return Err("it is not of type record".to_owned());
    }
    Skipper::new(schema)?;
    columns_of(schema).map(drop)
}

/// The columns of a schema to read with.
pub(super) fn columns_of(schema: &str) -> Result<Schema, String> {
    guarded(|| {
        let header = Blocks::header(schema, [0; 16]);
        let reader = ReaderBuilder::new().build(header.as_slice()).map_err(|e| e.to_string())?;
        Ok(reader.schema().as_ref().clone())
    })
}

fn opened<R: Read + Seek + Send + 'static>(mut input: R, wanted: Option<&str>) -> Result<Box<dyn TypedFile>, String> {
    let header = read_header_info(BufReader::new(&mut input)).map_err(|e| e.to_string())?;
    let text = header.writer_schema().map_err(|e| e.to_string())?.json_string;
    let skipper = Skipper::new(&text)?;
    let codec = Codec::new(header.compression().map_err(|e| e.to_string())?);
    let sync = header.sync();
    let wanted = wanted.map(|schema| AvroSchema::new(schema.to_owned()));
    let builder = resolving(ReaderBuilder::new(), &wanted);
    let schema = builder.build(Blocks::header(&text, sync).as_slice()).map_err(|e| e.to_string())?.schema();
    let begin = header.header_len();
    input.seek(SeekFrom::Start(0)).map_err(|e| e.to_string())?;
    let mut head = Vec::new();
    input.by_ref().take(begin).read_to_end(&mut head).map_err(|e| e.to_string())?;
    let said = blocks::metadata(&head);
    input.seek(SeekFrom::Start(begin)).map_err(|e| e.to_string())?;
    let blocks = Blocks::new(BufReader::with_capacity(CHUNK, input), begin, &text, sync, codec, skipper);
    Ok(Box::new(AvroFile { blocks, schema, wanted, said }))
}

fn resolving(builder: ReaderBuilder, wanted: &Option<AvroSchema>) -> ReaderBuilder {
    match wanted {
        Some(schema) => builder.with_reader_schema(schema.clone()),
        None => builder,
    }
}

struct AvroFile<R> {
    blocks: Blocks<R>,
    schema: SchemaRef,
    /// The schema to read with, if not the file's own.
    wanted: Option<AvroSchema>,
    /// What its writer put into the header, by key.
    said: HashMap<String, String>,
}

impl<R: Read + Seek + Send + 'static> TypedFile for AvroFile<R> {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn calendars(&self) -> Option<Calendars> {
        Some(Calendars { said: self.said.clone(), int96: Vec::new() })
    }

    fn batches(mut self: Box<Self>, columns: &[usize], batch_rows: usize, part: FilePart) -> Result<Batches, String> {
        self.blocks.only(part);
        let mut builder = resolving(ReaderBuilder::new(), &self.wanted).with_batch_size(batch_rows);
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
