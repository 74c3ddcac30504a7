//! Streams of ORC in blocks, each compressed or as it is; and raw Snappy and LZ4 blocks.

use std::io::Read;

use flate2::read::DeflateDecoder;

/// How blocks are compressed, and how large they are decompressed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Codec {
    kind: CodecKind,
    block_size: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CodecKind {
    None,
    Zlib,
    Snappy,
    Lz4,
    Zstd,
}

/// The specification has blocks of at most this size.
const BLOCK_MAX: usize = 1 << 23;

impl Codec {
    pub fn none() -> Codec {
        Codec { kind: CodecKind::None, block_size: 0 }
    }

    /// The codec of that number.
    pub fn new(kind: u64, block_size: u64) -> Result<Codec, String> {
        let kind = match kind {
            0 => CodecKind::None,
            1 => CodecKind::Zlib,
            2 => CodecKind::Snappy,
            3 => return Err("it is compressed with LZO, which is not carried out".to_owned()),
            4 => CodecKind::Lz4,
            5 => CodecKind::Zstd,
            other => return Err(format!("compression {other} is not known")),
        };
        let block_size = usize::try_from(block_size).unwrap_or(usize::MAX).min(BLOCK_MAX);
        Ok(Codec { kind, block_size })
    }

    /// All bytes of a stream.
    pub fn decompress(&self, stream: &[u8]) -> Result<Vec<u8>, String> {
        if self.kind == CodecKind::None {
            return Ok(stream.to_vec());
        }
        let mut out = Vec::new();
        let mut rest = stream;
        while !rest.is_empty() {
            let Some(&[a, b, c]) = rest.first_chunk::<3>() else {
                return Err("a compressed block has no length".to_owned());
            };
            let header = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
            let cut = rest[3..].split_at_checked(header >> 1);
            let (block, behind) = cut.ok_or("a compressed block is longer than its stream")?;
            if header & 1 == 1 {
                out.extend_from_slice(block);
            } else {
                self.block(block, &mut out)?;
            }
            rest = behind;
        }
        Ok(out)
    }

    fn block(&self, block: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        let limit = self.block_size;
        let before = out.len();
        match self.kind {
            CodecKind::None => out.extend_from_slice(block),
            CodecKind::Zlib => {
                let mut reader = DeflateDecoder::new(block).take(limit as u64 + 1);
                reader.read_to_end(out).map_err(|e| e.to_string())?;
            }
            CodecKind::Zstd => {
                let reader = zstd::stream::read::Decoder::with_buffer(block).map_err(|e| e.to_string())?;
                reader.take(limit as u64 + 1).read_to_end(out).map_err(|e| e.to_string())?;
            }
            CodecKind::Snappy => snappy(block, limit, out).ok_or("a block is damaged (snappy)")?,
            CodecKind::Lz4 => lz4(block, limit, out).ok_or("a block is damaged (lz4)")?,
        }
        if out.len() - before > limit { Err("a block is larger than declared".to_owned()) } else { Ok(()) }
    }
}

/// Repeats `length` bytes that begin `back` bytes before the end; they may overlap what is being written.
fn repeat(out: &mut Vec<u8>, base: usize, back: usize, length: usize, limit: usize) -> Option<()> {
    let from = out.len().checked_sub(back).filter(|from| back > 0 && *from >= base)?;
    if out.len() - base + length > limit {
        return None;
    }
    for at in from..from + length {
        let byte = *out.get(at)?;
        out.push(byte);
    }
    Some(())
}

/// A raw Snappy block.
pub(super) fn snappy(block: &[u8], limit: usize, out: &mut Vec<u8>) -> Option<()> {
    let base = out.len();
    let (mut size, mut shift, mut at) = (0_usize, 0, 0);
    loop {
        let byte = *block.get(at)?;
        at += 1;
        size |= usize::from(byte & 0x7F).checked_shl(shift)?;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    if size > limit {
        return None;
    }
    while let Some(&tag) = block.get(at) {
        at += 1;
        let number = |at: usize, width: usize| {
            let bytes = block.get(at..at + width)?;
            Some(bytes.iter().rev().fold(0_usize, |value, byte| value << 8 | usize::from(*byte)))
        };
        match tag & 3 {
            0 => {
                let mut length = usize::from(tag >> 2);
                if length >= 60 {
                    let width = length - 59;
                    length = number(at, width)?;
                    at += width;
                }
                let literal = block.get(at..at.checked_add(length + 1)?)?;
                if out.len() - base + literal.len() > size {
                    return None;
                }
                out.extend_from_slice(literal);
                at += length + 1;
            }
            1 => {
                let back = usize::from(tag >> 5) << 8 | number(at, 1)?;
                repeat(out, base, back, usize::from(tag >> 2 & 7) + 4, size)?;
                at += 1;
            }
            kind => {
                let width = if kind == 2 { 2 } else { 4 };
                let back = number(at, width)?;
                repeat(out, base, back, usize::from(tag >> 2) + 1, size)?;
                at += width;
            }
        }
    }
    (out.len() - base == size).then_some(())
}

/// A raw LZ4 block.
fn lz4(block: &[u8], limit: usize, out: &mut Vec<u8>) -> Option<()> {
    let base = out.len();
    let mut at = 0;
    let long = |at: &mut usize, mut length: usize| {
        if length == 15 {
            loop {
                let byte = *block.get(*at)?;
                *at += 1;
                length += usize::from(byte);
                if byte != 255 {
                    break;
                }
            }
        }
        Some(length)
    };
    while let Some(&token) = block.get(at) {
        at += 1;
        let literals = long(&mut at, usize::from(token >> 4))?;
        let literal = block.get(at..at.checked_add(literals)?)?;
        if out.len() - base + literals > limit {
            return None;
        }
        out.extend_from_slice(literal);
        at += literals;
        if at == block.len() {
            return Some(());
        }
        let back = usize::from(*block.get(at)?) | usize::from(*block.get(at + 1)?) << 8;
        at += 2;
        let length = long(&mut at, usize::from(token & 15))? + 4;
        repeat(out, base, back, length, limit)?;
    }
    None
}
