//! Finding the column of a field name: first by the guess that records repeat their order, then by hash.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// The field names of one object and their places.
#[derive(Debug)]
pub(crate) struct FieldTable {
    names: Vec<Box<str>>,
    /// `"name"` as it stands in the text, for names that stand there unescaped.
    quoted: Vec<Option<Box<[u8]>>>,
    /// The place that last followed place `i - 1`; entry 0 is for the first field of an object.
    next: Vec<u32>,
    by_name: HashMap<Box<[u8]>, u32, BuildHasherDefault<NameHasher>>,
    case_sensitive: bool,
}

impl FieldTable {
    /// A table of `names`; the place of a name is its index. Of equal names the first wins.
    pub fn new<'n>(names: impl Iterator<Item = &'n str>, case_sensitive: bool) -> FieldTable {
        let mut table = FieldTable {
            names: Vec::new(),
            quoted: Vec::new(),
            next: Vec::new(),
            by_name: HashMap::default(),
            case_sensitive,
        };
        for (place, name) in names.enumerate() {
            table.names.push(name.into());
            let plain = !name.bytes().any(|b| b == b'"' || b == b'\\' || b < 0x20);
            table.quoted.push(plain.then(|| format!("\"{name}\"").into_bytes().into_boxed_slice()));
            let key = if case_sensitive { name.to_owned() } else { name.to_lowercase() };
            table.by_name.entry(key.into_bytes().into_boxed_slice()).or_insert(place as u32);
        }
        table.next = (0..=table.quoted.len() as u32).collect();
        table
    }

    /// The name at a place; empty if there is none.
    pub fn name(&self, place: usize) -> &str {
        self.names.get(place).map_or("", |name| name)
    }

    /// The place of the quoted name that `text` begins with, if it is the one that usually follows the field
    /// before; with the length of the quoted name. `after` is 0 for the first field, else its predecessor's
    /// place plus one.
    #[inline]
    pub fn guess(&self, after: usize, text: &[u8]) -> Option<(usize, usize)> {
        let place = *self.next.get(after)? as usize;
        let quoted = self.quoted.get(place)?.as_deref()?;
        text.starts_with(quoted).then_some((place, quoted.len()))
    }

    /// The place of `name` (unescaped), remembered as what follows `after`.
    pub fn find(&mut self, after: usize, name: &[u8]) -> Option<usize> {
        let place = if self.case_sensitive {
            self.by_name.get(name).copied()
        } else {
            let lower = String::from_utf8_lossy(name).to_lowercase();
            self.by_name.get(lower.as_bytes()).copied()
        }?;
        if let Some(next) = self.next.get_mut(after) {
            *next = place;
        }
        Some(place as usize)
    }
}

/// A fast hash for short names. The table holds only the schema's names, so nobody can fill it with collisions.
#[derive(Default)]
pub(crate) struct NameHasher(u64);

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some((word, tail)) = rest.split_first_chunk::<8>() {
            self.mix(u64::from_le_bytes(*word));
            rest = tail;
        }
        for &byte in rest {
            self.mix(u64::from(byte));
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl NameHasher {
    #[inline]
    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
        self.0 ^= self.0 >> 29;
    }
}
