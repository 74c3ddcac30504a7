//! ORC's run-length encodings: bytes, bits, and both kinds for integers.

/// Bytes of a stream, read from the front.
#[derive(Debug)]
pub(super) struct Reader<'s> {
    rest: &'s [u8],
}

const ENDED: &str = "a stream ends before its values";

impl<'s> Reader<'s> {
    pub fn new(stream: &'s [u8]) -> Reader<'s> {
        Reader { rest: stream }
    }

    fn byte(&mut self) -> Result<u8, String> {
        let (&byte, rest) = self.rest.split_first().ok_or(ENDED)?;
        self.rest = rest;
        Ok(byte)
    }

    /// The next `length` bytes.
    pub fn bytes(&mut self, length: usize) -> Result<&'s [u8], String> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(ENDED)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn unsigned(&mut self) -> Result<u64, String> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number has no end".to_owned())
    }

    fn varint(&mut self, signed: bool) -> Result<i64, String> {
        let value = self.unsigned()?;
        Ok(if signed { zigzag(value) } else { value as i64 })
    }

    /// A number of any length up to 128 bits, with sign.
    pub fn wide(&mut self) -> Result<i128, String> {
        let mut value = 0_u128;
        for shift in (0..133).step_by(7) {
            let byte = self.byte()?;
            value |= u128::from(byte & 0x7F).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok((value >> 1) as i128 ^ -((value & 1) as i128));
            }
        }
        Err("a decimal has no end".to_owned())
    }

    /// `count` values of `width` bits each, most significant bit first; the last byte is padded.
    fn packed(&mut self, count: usize, width: u32) -> Result<Vec<u64>, String> {
        let bits = count * width as usize;
        let bytes = self.bytes(bits.div_ceil(8))?;
        let mut values = Vec::with_capacity(count);
        let (mut held, mut have, mut at) = (0_u128, 0_u32, 0);
        for _ in 0..count {
            while have < width {
                held = held << 8 | u128::from(bytes.get(at).copied().unwrap_or(0));
                have += 8;
                at += 1;
            }
            have -= width;
            let mask = if width == 64 { u64::MAX } else { (1_u64 << width) - 1 };
            values.push((held >> have) as u64 & mask);
            held &= (1_u128 << have) - 1;
        }
        Ok(values)
    }
}

fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// `count` bytes.
pub(super) fn bytes(stream: &[u8], count: usize) -> Result<Vec<u8>, String> {
    let mut reader = Reader::new(stream);
    let mut out = Vec::new();
    while out.len() < count {
        let header = reader.byte()?;
        if header < 0x80 {
            let length = (usize::from(header) + 3).min(count - out.len());
            let byte = reader.byte()?;
            out.extend(std::iter::repeat_n(byte, length));
        } else {
            let length = (256 - usize::from(header)).min(count - out.len());
            out.extend_from_slice(reader.bytes(length)?);
        }
    }
    Ok(out)
}

/// `count` bits.
pub(super) fn bits(stream: &[u8], count: usize) -> Result<Vec<bool>, String> {
    let bytes = bytes(stream, count.div_ceil(8))?;
    Ok((0..count).map(|at| bytes.get(at / 8).is_some_and(|byte| byte >> (7 - at % 8) & 1 == 1)).collect())
}

/// `count` integers; `second` says in which encoding.
pub(super) fn integers(stream: &[u8], count: usize, signed: bool, second: bool) -> Result<Vec<i64>, String> {
    let mut reader = Reader::new(stream);
    let mut out = Vec::new();
    while out.len() < count {
        if second { run(&mut reader, signed, &mut out)? } else { first_run(&mut reader, signed, &mut out)? }
    }
    out.truncate(count);
    Ok(out)
}

fn first_run(reader: &mut Reader<'_>, signed: bool, out: &mut Vec<i64>) -> Result<(), String> {
    let header = reader.byte()?;
    if header < 0x80 {
        let delta = i64::from(reader.byte()? as i8);
        let mut value = reader.varint(signed)?;
        for _ in 0..usize::from(header) + 3 {
            out.push(value);
            value = value.wrapping_add(delta);
        }
    } else {
        for _ in 0..256 - usize::from(header) {
            out.push(reader.varint(signed)?);
        }
    }
    Ok(())
}

/// The width in bits that a code of five bits stands for.
fn width(code: u8) -> u32 {
    match code {
        0..=23 => u32::from(code) + 1,
        24 => 26,
        25 => 28,
        26 => 30,
        27 => 32,
        28 => 40,
        29 => 48,
        30 => 56,
        _ => 64,
    }
}

/// The smallest width there is a code for.
fn closest_width(bits: u32) -> u32 {
    (0..32).map(width).find(|width| *width >= bits).unwrap_or(64)
}

/// One run of the second encoding.
fn run(reader: &mut Reader<'_>, signed: bool, out: &mut Vec<i64>) -> Result<(), String> {
    let first = reader.byte()?;
    if first >> 6 == 0 {
        let bytes = reader.bytes(usize::from(first >> 3 & 7) + 1)?;
        let value = bytes.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        let value = if signed { zigzag(value) } else { value as i64 };
        out.extend(std::iter::repeat_n(value, usize::from(first & 7) + 3));
        return Ok(());
    }
    let code = first >> 1 & 31;
    let count = (usize::from(first & 1) << 8 | usize::from(reader.byte()?)) + 1;
    match first >> 6 {
        1 => {
            let values = reader.packed(count, width(code))?;
            out.extend(values.into_iter().map(|value| if signed { zigzag(value) } else { value as i64 }));
            Ok(())
        }
        2 => patched(reader, width(code), count, out),
        _ => {
            let base = reader.varint(signed)?;
            let step = zigzag(reader.unsigned()?);
            out.push(base);
            if count == 1 {
                return Ok(());
            }
            let mut value = base.wrapping_add(step);
            out.push(value);
            if code == 0 {
                for _ in 2..count {
                    value = value.wrapping_add(step);
                    out.push(value);
                }
                return Ok(());
            }
            for delta in reader.packed(count - 2, width(code))? {
                value = if step < 0 { value.wrapping_sub(delta as i64) } else { value.wrapping_add(delta as i64) };
                out.push(value);
            }
            Ok(())
        }
    }
}

/// Values above a base, of which a few have further bits in a list behind.
fn patched(reader: &mut Reader<'_>, width_bits: u32, count: usize, out: &mut Vec<i64>) -> Result<(), String> {
    let (third, fourth) = (reader.byte()?, reader.byte()?);
    let base_bytes = usize::from(third >> 5) + 1;
    let patch_width = width(third & 31);
    let gap_width = u32::from(fourth >> 5) + 1;
    let patches = usize::from(fourth & 31);
    let base = reader.bytes(base_bytes)?.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    // The highest bit is the sign.
    let sign = 1_u64 << (base_bytes * 8 - 1);
    let base = if base & sign != 0 { (base & !sign).wrapping_neg() as i64 } else { base as i64 };
    let mut values = reader.packed(count, width_bits)?;
    if patch_width + gap_width > 64 {
        return Err("a patch is too wide".to_owned());
    }
    let mut at = 0_usize;
    for entry in reader.packed(patches, closest_width(patch_width + gap_width))? {
        at += usize::try_from(entry >> patch_width & ((1 << gap_width) - 1)).unwrap_or(usize::MAX);
        let patch = entry & (1_u64 << patch_width).wrapping_sub(1);
        let value = values.get_mut(at).ok_or("a patch is outside of its run")?;
        *value |= patch.checked_shl(width_bits).unwrap_or(0);
    }
    out.extend(values.into_iter().map(|value| base.wrapping_add(value as i64)));
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The examples of the ORC specification.
    #[test]
    fn examples_of_the_specification() {
        assert_eq!(bytes(&[0x61, 0x00], 100).unwrap(), [0; 100]);
        assert_eq!(bytes(&[0xfe, 0x44, 0x45], 2).unwrap(), [0x44, 0x45]);
        assert_eq!(bits(&[0xff, 0x80], 8).unwrap(), [true, false, false, false, false, false, false, false]);
        assert_eq!(integers(&[0x61, 0x00, 0x07], 100, false, false).unwrap(), [7; 100]);
        let falling: Vec<i64> = (1..=100).rev().collect();
        assert_eq!(integers(&[0x61, 0xff, 0x64], 100, false, false).unwrap(), falling);
        assert_eq!(integers(&[0xfb, 2, 3, 4, 7, 0xb], 5, false, false).unwrap(), [2, 3, 4, 7, 11]);
        assert_eq!(integers(&[0x0a, 0x27, 0x10], 5, false, true).unwrap(), [10000; 5]);
        let direct = [0x5e, 0x03, 0x5c, 0xa1, 0xab, 0x1e, 0xde, 0xad, 0xbe, 0xef];
        assert_eq!(integers(&direct, 4, false, true).unwrap(), [23713, 43806, 57005, 48879]);
        let delta = [0xc6, 0x09, 0x02, 0x02, 0x22, 0x42, 0x42, 0x46];
        assert_eq!(integers(&delta, 10, false, true).unwrap(), [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
        let patched = [
            0x8e, 0x13, 0x2b, 0x21, 0x07, 0xd0, 0x1e, 0x00, 0x14, 0x70, 0x28, 0x32, 0x3c, 0x46, 0x50, 0x5a, 0x64, 0x6e,
            0x78, 0x82, 0x8c, 0x96, 0xa0, 0xaa, 0xb4, 0xbe, 0xfc, 0xe8,
        ];
        let expected = [
            2030, 2000, 2020, 1000000, 2040, 2050, 2060, 2070, 2080, 2090, 2100, 2110, 2120, 2130, 2140, 2150, 2160,
            2170, 2180, 2190,
        ];
        assert_eq!(integers(&patched, 20, false, true).unwrap(), expected);
    }

    #[test]
    fn streams_that_end_early_are_errors() {
        assert!(bytes(&[0x61], 100).is_err());
        assert!(integers(&[0x5e, 0x03, 0x5c], 4, false, true).is_err());
        assert!(integers(&[], 1, true, true).is_err());
    }
}
