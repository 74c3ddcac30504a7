//! ORC: footers, stripes and columns, read by this crate itself.
//!
//! A reader of its own because the ones to be had bring a protobuf compiler's runtime and other features of the shared
//! Arrow crates with them. It reads what the specification (versions 0 and 1) calls for, save LZO compression and
//! encryption, which are refused by name. One stripe is held decoded at a time.
//!
//! Nothing here trusts a length: streams are cut at their ends, numbers of values are held against what was declared.

mod columns;
mod proto;
mod rle;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use bytes::Bytes;

use super::compression::Codec;
use super::{Batches, Content, FilePart, TypedFile};
use columns::{Stripe, column, data_type};
use proto::{Footer, PostScript, StripeInfo, Type};

/// The end of a file is read in one piece of this size, which usually holds all of the footer.
const TAIL: u64 = 16 << 10;

pub(super) fn open(content: Content) -> Result<Box<dyn TypedFile>, String> {
    let mut input = match content {
        Content::File(file) => Input::File(file),
        Content::Bytes(bytes) => Input::Bytes(bytes),
    };
    let size = input.size()?;
    // A file that was created and never written to; some writers leave those behind.
    if size == 0 {
        return Ok(Box::new(OrcFile::empty(input)));
    }
    let tail = input.range(size.saturating_sub(TAIL), size.min(TAIL))?;
    let Some((&length, rest)) = tail.split_last() else { return Err("the file is empty".to_owned()) };
    let from = rest.len().checked_sub(usize::from(length)).ok_or("the file is too short for its postscript")?;
    let postscript = PostScript::read(&rest[from..])?;
    if postscript.magic != b"ORC" {
        return Err("it does not end as an ORC file does".to_owned());
    }
    let behind = u64::from(length) + 1;
    let end = size.checked_sub(behind).ok_or("the file is too short")?;
    let start = end.checked_sub(postscript.footer_length).ok_or("the footer is longer than the file")?;
    let codec = Codec::new(postscript.compression, postscript.block_size)?;
    let footer = Footer::read(&codec.decompress(&input.range(start, postscript.footer_length)?)?)?;
    if footer.encrypted {
        return Err("it is encrypted, which is not carried out".to_owned());
    }
    proto::check_types(&footer.types)?;
    let root = footer.types.first();
    let schema = match root {
        Some(root) if root.kind == proto::Kind::Struct => {
            let field =
                |(name, &child): (&String, &usize)| Ok(Field::new(name, data_type(&footer.types, child)?, true));
            let fields = root.names.iter().zip(&root.children).map(field);
            Schema::new(fields.collect::<Result<Vec<_>, String>>()?)
        }
        Some(_) => Schema::new(vec![Field::new("_1", data_type(&footer.types, 0)?, true)]),
        None => Schema::empty(),
    };
    Ok(Box::new(OrcFile {
        input,
        size,
        codec,
        types: Arc::from(footer.types),
        stripes: footer.stripes.into(),
        schema: Arc::new(schema),
    }))
}

/// The bytes of a file by their places.
enum Input {
    File(File),
    Bytes(Bytes),
}

impl Input {
    fn size(&self) -> Result<u64, String> {
        match self {
            Input::File(file) => file.metadata().map(|m| m.len()).map_err(|e| e.to_string()),
            Input::Bytes(bytes) => Ok(bytes.len() as u64),
        }
    }

    fn range(&mut self, from: u64, length: u64) -> Result<Vec<u8>, String> {
        let outside = || format!("bytes {from} to {} are outside of the file", from.saturating_add(length));
        match self {
            Input::Bytes(bytes) => {
                let range = usize::try_from(from).ok().zip(usize::try_from(from.saturating_add(length)).ok());
                range.and_then(|(from, to)| bytes.get(from..to)).map(<[u8]>::to_vec).ok_or_else(outside)
            }
            Input::File(file) => {
                file.seek(SeekFrom::Start(from)).map_err(|e| e.to_string())?;
                let mut out = Vec::new();
                file.by_ref().take(length).read_to_end(&mut out).map_err(|e| e.to_string())?;
                if out.len() as u64 == length { Ok(out) } else { Err(outside()) }
            }
        }
    }
}

struct OrcFile {
    input: Input,
    size: u64,
    codec: Codec,
    types: Arc<[Type]>,
    stripes: VecDeque<StripeInfo>,
    schema: SchemaRef,
}

impl OrcFile {
    fn empty(input: Input) -> OrcFile {
        let schema = Arc::new(Schema::empty());
        OrcFile { input, size: 0, codec: Codec::none(), types: Arc::from([]), stripes: VecDeque::new(), schema }
    }

    /// The rows of one stripe.
    fn stripe(&mut self, info: &StripeInfo, wanted: &[usize], schema: &SchemaRef) -> Result<RecordBatch, String> {
        let data = info.offset.saturating_add(info.index_length).saturating_add(info.data_length);
        if data.saturating_add(info.footer_length) > self.size {
            return Err("a stripe is outside of the file".to_owned());
        }
        let rows = usize::try_from(info.rows).ok().filter(|rows| *rows < i32::MAX as usize);
        let rows = rows.ok_or("a stripe has more rows than can be read")?;
        let footer = self.codec.decompress(&self.input.range(data, info.footer_length)?)?;
        let footer = proto::StripeFooter::read(&footer)?;
        let needed = columns::needed(&self.types, wanted);
        let mut stripe = Stripe::new(&self.types, &footer, &self.codec)?;
        let mut at = info.offset;
        for stream in &footer.streams {
            if needed.get(stream.column).copied().unwrap_or(false) && stream.is_data() {
                if at.saturating_add(stream.length) > data {
                    return Err("a stream is outside of its stripe".to_owned());
                }
                stripe.put(stream, self.input.range(at, stream.length)?);
            }
            at = at.saturating_add(stream.length);
        }
        let arrays = wanted.iter().map(|&id| column(&mut stripe, id, rows)).collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(schema.clone(), arrays, &options).map_err(|e| e.to_string())
    }
}

impl TypedFile for OrcFile {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn batches(mut self: Box<Self>, columns: &[usize], batch_rows: usize, part: FilePart) -> Result<Batches, String> {
        self.stripes.retain(|stripe| part.has(stripe.offset));
        let ids: Vec<usize> = match self.types.first() {
            Some(root) if root.kind == proto::Kind::Struct => {
                columns.iter().filter_map(|&at| root.children.get(at).copied()).collect()
            }
            _ => columns.to_vec(),
        };
        let schema = Arc::new(self.schema.project(columns).map_err(|e| e.to_string())?);
        let mut decoded: Option<(RecordBatch, usize)> = None;
        Ok(Box::new(std::iter::from_fn(move || {
            loop {
                if let Some((batch, at)) = &mut decoded {
                    let rows = batch_rows.min(batch.num_rows() - *at);
                    if rows > 0 {
                        let slice = batch.slice(*at, rows);
                        *at += rows;
                        return Some(Ok(slice));
                    }
                }
                decoded = None;
                let info = self.stripes.pop_front()?;
                match self.stripe(&info, &ids, &schema) {
                    Ok(batch) => decoded = Some((batch, 0)),
                    Err(reason) => {
                        self.stripes.clear();
                        return Some(Err(reason));
                    }
                }
            }
        })))
    }
}
