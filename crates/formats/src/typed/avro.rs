//! Avro container files, through the `arrow-avro` crate, which leaves one thing to do: it takes a file that stops in the
//! middle of a block for a shorter one.

use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom};

use arrow::datatypes::{Schema, SchemaRef};
use arrow_avro::reader::{ReaderBuilder, read_header_info};

use super::{Batches, Content, TypedFile};

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
    input.seek(SeekFrom::Start(0)).map_err(|e| e.to_string())?;
    let mut buffered = BufReader::with_capacity(CHUNK, input);
    let schema = ReaderBuilder::new().build(&mut buffered).map_err(|e| e.to_string())?.schema();
    buffered.seek(SeekFrom::Start(0)).map_err(|e| e.to_string())?;
    let input = WholeBlocks { input: buffered, place: Place::Header(header.header_len()) };
    Ok(Box::new(AvroFile { input, schema }))
}

struct AvroFile<R: Read> {
    input: WholeBlocks<BufReader<R>>,
    schema: SchemaRef,
}

impl<R: Read + Send + 'static> TypedFile for AvroFile<R> {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn batches(self: Box<Self>, columns: &[usize], batch_rows: usize) -> Result<Batches, String> {
        let mut builder = ReaderBuilder::new().with_batch_size(batch_rows);
        // The reader cannot give rows without columns; of a file nothing is asked of but their number, one is read.
        let counted_only = columns.is_empty();
        if counted_only && !self.schema.fields().is_empty() {
            builder = builder.with_projection(vec![0]);
        } else if columns.len() < self.schema.fields().len() {
            builder = builder.with_projection(columns.to_vec());
        }
        let reader = builder.build(self.input).map_err(|e| e.to_string())?;
        Ok(Box::new(reader.map(move |batch| {
            let batch = batch.map_err(|e| e.to_string())?;
            if counted_only { batch.project(&[]).map_err(|e| e.to_string()) } else { Ok(batch) }
        })))
    }
}

/// A container's bytes, of which the end must be the end of a block.
struct WholeBlocks<R> {
    input: R,
    place: Place,
}

/// Where in the container the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// So many bytes before the end of the header.
    Header(u64),
    /// At the beginning of a block, or of the end of the file.
    Boundary,
    /// In the number of records.
    Count,
    /// In the number of bytes: bits read so far, and how many.
    Size(u64, u32),
    /// So many bytes before the end of a block.
    Body(u64),
}

/// Bytes of the marker behind each block.
const SYNC: u64 = 16;

impl<R: BufRead> WholeBlocks<R> {
    /// Follows bytes that go by.
    fn follow(place: &mut Place, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            match *place {
                Place::Header(left) | Place::Body(left) if left > 0 => {
                    let passed = left.min(bytes.len() as u64);
                    bytes = &bytes[passed as usize..];
                    *place = match (*place, left - passed) {
                        (_, 0) => Place::Boundary,
                        (Place::Header(_), left) => Place::Header(left),
                        (_, left) => Place::Body(left),
                    };
                    continue;
                }
                Place::Header(_) | Place::Body(_) => {
                    *place = Place::Boundary;
                    continue;
                }
                Place::Boundary | Place::Count => {
                    *place = if byte & 0x80 == 0 { Place::Size(0, 0) } else { Place::Count };
                }
                Place::Size(bits, shift) => {
                    let bits = bits | u64::from(byte & 0x7F).checked_shl(shift).unwrap_or(0);
                    *place = match byte & 0x80 {
                        // Zigzag; a negative size is refused by the reader.
                        0 => Place::Body((bits >> 1).saturating_add(SYNC)),
                        _ => Place::Size(bits, shift + 7),
                    };
                }
            }
            bytes = rest;
        }
    }
}

impl<R: BufRead> Read for WholeBlocks<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let filled = self.fill_buf()?;
        let count = filled.len().min(out.len());
        out[..count].copy_from_slice(&filled[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for WholeBlocks<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let place = self.place;
        let filled = self.input.fill_buf()?;
        if filled.is_empty() && !matches!(place, Place::Boundary | Place::Header(0)) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends inside a block"));
        }
        Ok(filled)
    }

    fn consume(&mut self, count: usize) {
        // Both calls see the same buffer: nothing is read in between.
        if let Ok(filled) = self.input.fill_buf() {
            Self::follow(&mut self.place, filled.get(..count).unwrap_or(filled));
        }
        self.input.consume(count);
    }
}
