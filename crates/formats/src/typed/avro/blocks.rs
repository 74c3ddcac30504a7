//! The blocks of a container: whole, in order, uncompressed, and as many records in each as it says. Those in front of a
//! part are passed over by the lengths they give, which is exact, as looking for the marker between them would not be.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Seek};

use arrow_avro::compression::CompressionCodec;
use flate2::read::DeflateDecoder;

use super::skip::Skipper;
use crate::typed::FilePart;
use crate::typed::compression::snappy;

/// A block may be this large, compressed and uncompressed.
const BLOCK_MAX: usize = 256 << 20;

/// How blocks are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Codec(Option<CompressionCodec>);

impl Codec {
    pub fn new(codec: Option<CompressionCodec>) -> Codec {
        Codec(codec)
    }

    fn decompress(self, block: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        let limit = BLOCK_MAX as u64 + 1;
        match self.0 {
            None => return Ok(block),
            Some(CompressionCodec::Deflate) => {
                DeflateDecoder::new(&block[..]).take(limit).read_to_end(&mut out)?;
            }
            Some(CompressionCodec::ZStandard) => {
                zstd::stream::read::Decoder::with_buffer(&block[..])?.take(limit).read_to_end(&mut out)?;
            }
            Some(CompressionCodec::Bzip2) => {
                bzip2::read::BzDecoder::new(&block[..]).take(limit).read_to_end(&mut out)?;
            }
            Some(CompressionCodec::Xz) => {
                liblzma::read::XzDecoder::new(&block[..]).take(limit).read_to_end(&mut out)?;
            }
            Some(CompressionCodec::Snappy) => {
                // Four bytes of checksum follow.
                let (block, checksum) =
                    block.split_last_chunk::<4>().ok_or_else(|| damaged("a block has no checksum"))?;
                snappy(block, BLOCK_MAX, &mut out).ok_or_else(|| damaged("a block is damaged (snappy)"))?;
                let mut crc = flate2::Crc::new();
                crc.update(&out);
                if crc.sum().to_be_bytes() != *checksum {
                    return Err(damaged("a block does not have its checksum"));
                }
            }
        }
        if out.len() > BLOCK_MAX { Err(damaged("a block is too large")) } else { Ok(out) }
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// An uncompressed container over the blocks of another.
pub(super) struct Blocks<R> {
    input: BufReader<R>,
    /// Place of the next byte of `input`.
    place: u64,
    /// Which blocks are wanted, by where they begin.
    part: FilePart,
    sync: [u8; 16],
    codec: Codec,
    skipper: Skipper,
    out: Vec<u8>,
    at: usize,
}

impl<R: Read + Seek> Blocks<R> {
    /// `input` stands behind the header, at `place`.
    pub fn new(
        input: BufReader<R>,
        place: u64,
        schema: &str,
        sync: [u8; 16],
        codec: Codec,
        skipper: Skipper,
    ) -> Blocks<R> {
        let out = Blocks::<&[u8]>::header(schema, sync);
        Blocks { input, place, part: FilePart::WHOLE, sync, codec, skipper, out, at: 0 }
    }

    /// From now on only blocks that begin in `part` are read.
    pub fn only(&mut self, part: FilePart) {
        self.part = part;
    }

    fn exact(&mut self, out: &mut [u8]) -> io::Result<()> {
        self.input.read_exact(out)?;
        self.place += out.len() as u64;
        Ok(())
    }

    /// A number, if the file does not end where it would begin.
    fn number(&mut self) -> io::Result<Option<i64>> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let mut byte = [0];
            match self.exact(&mut byte) {
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof && shift == 0 => return Ok(None),
                other => other?,
            }
            value |= u64::from(byte[0] & 0x7F).checked_shl(shift).unwrap_or(0);
            if byte[0] & 0x80 == 0 {
                return Ok(Some((value >> 1) as i64 ^ -((value & 1) as i64)));
            }
        }
        Err(damaged("a number has no end"))
    }

    /// Brings the next wanted block that has records into `out`; nothing behind the last of them.
    fn next(&mut self) -> io::Result<()> {
        self.out.clear();
        self.at = 0;
        loop {
            let begin = self.place;
            // Nothing behind the part is looked at: another reader has it.
            if begin >= self.part.from && !self.part.has(begin) {
                return Ok(());
            }
            let Some(count) = self.number()? else { return Ok(()) };
            let size = self.number()?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
            let size = usize::try_from(size).ok().filter(|size| *size <= BLOCK_MAX);
            let size = size.ok_or_else(|| damaged("a block is too large"))?;
            if !self.part.has(begin) {
                self.pass(size)?;
                continue;
            }
            let block = self.block(size)?;
            if count == 0 && block.is_empty() {
                continue;
            }
            if block.is_empty() || !self.skipper.fills(&block, count) {
                return Err(damaged("a block does not hold as many records as it says"));
            }
            put_number(count, &mut self.out);
            put_number(block.len() as i64, &mut self.out);
            self.out.extend_from_slice(&block);
            self.out.extend_from_slice(&self.sync);
            return Ok(());
        }
    }

    /// The records of a block of `size` bytes.
    fn block(&mut self, size: usize) -> io::Result<Vec<u8>> {
        let mut block = Vec::new();
        self.input.by_ref().take(size as u64).read_to_end(&mut block)?;
        self.place += block.len() as u64;
        self.marker()?;
        if block.len() < size {
            return Err(damaged("a block does not end as it should"));
        }
        self.codec.decompress(block)
    }

    /// Passes over the `size` bytes of a block.
    fn pass(&mut self, size: usize) -> io::Result<()> {
        self.input.seek_relative(size as i64)?;
        self.place += size as u64;
        self.marker()
    }

    /// Reads what stands between blocks.
    fn marker(&mut self) -> io::Result<()> {
        let mut sync = [0; 16];
        self.exact(&mut sync)?;
        if sync == self.sync { Ok(()) } else { Err(damaged("a block does not end as it should")) }
    }
}

impl Blocks<&[u8]> {
    /// The header of an uncompressed container.
    pub fn header(schema: &str, sync: [u8; 16]) -> Vec<u8> {
        let mut out = b"Obj\x01".to_vec();
        put_number(2, &mut out);
        for (key, value) in [("avro.schema", schema), ("avro.codec", "null")] {
            for text in [key, value] {
                put_number(text.len() as i64, &mut out);
                out.extend_from_slice(text.as_bytes());
            }
        }
        out.push(0);
        out.extend_from_slice(&sync);
        out
    }
}

/// The texts in a container's header, by key; those that can be read.
pub(super) fn metadata(header: &[u8]) -> HashMap<String, String> {
    let mut found = HashMap::new();
    let mut rest = header.get(4..).unwrap_or_default();
    while let Some(count @ (..=-1 | 1..)) = take_number(&mut rest) {
        // A count below zero is followed by the block's size.
        if count < 0 {
            take_number(&mut rest);
        }
        for _ in 0..count.unsigned_abs() {
            let (Some(key), Some(value)) = (take_bytes(&mut rest), take_bytes(&mut rest)) else { return found };
            if let (Ok(key), Ok(value)) = (std::str::from_utf8(key), std::str::from_utf8(value)) {
                found.insert(key.to_owned(), value.to_owned());
            }
        }
    }
    found
}

fn take_bytes<'h>(rest: &mut &'h [u8]) -> Option<&'h [u8]> {
    let length = usize::try_from(take_number(rest)?).ok()?;
    let (taken, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(taken)
}

fn take_number(rest: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let (&byte, behind) = rest.split_first()?;
        *rest = behind;
        value |= u64::from(byte & 0x7F).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

fn put_number(number: i64, out: &mut Vec<u8>) {
    let mut rest = (number << 1 ^ number >> 63) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

impl<R: Read + Seek> Read for Blocks<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let filled = self.fill_buf()?;
        let count = filled.len().min(out.len());
        out[..count].copy_from_slice(&filled[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl<R: Read + Seek> BufRead for Blocks<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.out.len() {
            self.next()?;
        }
        Ok(&self.out[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at = (self.at + count).min(self.out.len());
    }
}
