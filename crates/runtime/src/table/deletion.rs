//! Deletion vectors: which rows of a data file no longer count, as the Delta protocol writes them.
//!
//! A vector is a portable 64-bit Roaring bitmap of row numbers behind a magic number. The vectors of a commit share files of
//! the table, each with its length before it and its CRC-32 behind it; a descriptor in the log says where. Knows
//! nothing of why rows died.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use alluvium_parser::Diagnostic;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::location;
use crate::error::{Error, Result};

/// In front of a bitmap in the portable format.
const MAGIC: u32 = 1_681_511_377;
/// First byte of a file of vectors.
const FILE_VERSION: u8 = 1;
/// Bytes from which on a file takes no more vectors: some readers read the whole file for each of them.
const FILE_BYTES: usize = 128 << 10;
/// Characters of a UUID in base 85.
const UUID_CHARACTERS: usize = 20;

/// Where a vector is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// `u`: a file named by a UUID; `p`: a file by its path; `i`: here.
    pub storage_type: String,
    /// The UUID (behind a directory, if there is one), the path, or the vector itself, in base 85.
    pub path_or_inline_dv: String,
    /// Where in the file its length stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Bytes of magic number and bitmap.
    pub size_in_bytes: u64,
    /// Rows that do not count.
    pub cardinality: u64,
}

impl Descriptor {
    /// The descriptor in an action.
    pub fn of(value: &Value) -> Result<Descriptor> {
        Descriptor::deserialize(value).map_err(|error| unreadable(&format!("its descriptor: {error}")))
    }

    /// As an action has it.
    pub fn to_value(&self) -> Result<Value> {
        serde_json::to_value(self).map_err(|error| Error::internal(error.to_string()))
    }

    /// The file of the vector, for the table at `root`; None where it is in the log itself.
    pub fn file(&self, root: &Path) -> Result<Option<PathBuf>> {
        match self.storage_type.as_str() {
            "i" => Ok(None),
            "p" => location::absolute(root, &self.path_or_inline_dv).map(Some),
            "u" => {
                let split = self.path_or_inline_dv.len().checked_sub(UUID_CHARACTERS);
                let parts = split.and_then(|at| self.path_or_inline_dv.split_at_checked(at));
                let (prefix, encoded) = parts.ok_or_else(|| unreadable("its UUID"))?;
                let bytes = base85::decode(encoded).ok_or_else(|| unreadable("its UUID"))?;
                let uuid = uuid::Uuid::from_slice(&bytes).map_err(|_| unreadable("its UUID"))?;
                let name = format!("deletion_vector_{uuid}.bin");
                Ok(Some(if prefix.is_empty() { root.join(name) } else { root.join(prefix).join(name) }))
            }
            other => Err(unreadable(&format!("storage type `{other}`"))),
        }
    }

    /// The rows that do not count.
    pub fn read(&self, root: &Path) -> Result<RoaringTreemap> {
        let Some(path) = self.file(root)? else {
            let bytes = base85::decode(&self.path_or_inline_dv).ok_or_else(|| unreadable("its text"))?;
            return bitmap(&bytes);
        };
        let failed = |error: std::io::Error| Error::io("read", &path, &error);
        let mut file = File::open(&path).map_err(failed)?;
        file.seek(SeekFrom::Start(self.offset.unwrap_or(1))).map_err(failed)?;
        let mut length = [0; 4];
        file.read_exact(&mut length).map_err(failed)?;
        if u64::from(u32::from_be_bytes(length)) != self.size_in_bytes {
            return Err(unreadable(&format!("its length in `{}`", path.display())));
        }
        let mut bytes = vec![0; self.size_in_bytes as usize + 4];
        file.read_exact(&mut bytes).map_err(failed)?;
        let (bytes, checksum) = bytes.split_at(self.size_in_bytes as usize);
        if checksum != crc(bytes).to_be_bytes() {
            return Err(unreadable(&format!("`{}`: its checksum is wrong", path.display())));
        }
        bitmap(bytes)
    }
}

/// Vectors of one commit, being made.
#[derive(Default)]
pub struct Vectors {
    files: Vec<VectorFile>,
}

struct VectorFile {
    uuid: uuid::Uuid,
    bytes: Vec<u8>,
}

impl Vectors {
    /// Adds a vector; where it will be.
    pub fn push(&mut self, rows: &RoaringTreemap) -> Result<Descriptor> {
        let full = self.files.last().is_none_or(|file| file.bytes.len() >= FILE_BYTES);
        if full {
            self.files.push(VectorFile { uuid: uuid::Uuid::new_v4(), bytes: vec![FILE_VERSION] });
        }
        let Some(file) = self.files.last_mut() else { return Err(Error::internal("no file for a deletion vector")) };
        let mut vector = MAGIC.to_le_bytes().to_vec();
        rows.serialize_into(&mut vector).map_err(|error| Error::internal(format!("a deletion vector: {error}")))?;
        let offset = file.bytes.len() as u64;
        file.bytes.extend_from_slice(&(vector.len() as u32).to_be_bytes());
        file.bytes.extend_from_slice(&vector);
        file.bytes.extend_from_slice(&crc(&vector).to_be_bytes());
        Ok(Descriptor {
            storage_type: "u".into(),
            path_or_inline_dv: base85::encode(file.uuid.as_bytes()),
            offset: Some(offset),
            size_in_bytes: vector.len() as u64,
            cardinality: rows.len(),
        })
    }

    /// Writes one file after the other into the table at `root`, and tells each before it is begun. Not durable yet.
    pub fn write(self, root: &Path, mut begun: impl FnMut(PathBuf)) -> Result<()> {
        for file in self.files {
            let path = root.join(format!("deletion_vector_{}.bin", file.uuid));
            begun(path.clone());
            let written = File::create_new(&path).and_then(|mut open| open.write_all(&file.bytes));
            written.map_err(|error| Error::io("write", &path, &error))?;
        }
        Ok(())
    }
}

/// The rows of a file of `rows` rows that are not in `dead`, as a selection for a Parquet scan.
pub fn alive(dead: &RoaringTreemap, rows: u64) -> RowSelection {
    let mut selectors = Vec::new();
    let (mut at, mut skipping) = (0, 0);
    for row in dead.iter().take_while(|row| *row < rows) {
        if row > at {
            if skipping > 0 {
                selectors.push(RowSelector::skip(std::mem::take(&mut skipping) as usize));
            }
            selectors.push(RowSelector::select((row - at) as usize));
        }
        skipping += 1;
        at = row + 1;
    }
    if skipping > 0 {
        selectors.push(RowSelector::skip(skipping as usize));
    }
    if at < rows {
        selectors.push(RowSelector::select((rows - at) as usize));
    }
    selectors.into()
}

fn bitmap(bytes: &[u8]) -> Result<RoaringTreemap> {
    let (magic, rest) = bytes.split_first_chunk().ok_or_else(|| unreadable("its first bytes"))?;
    if u32::from_le_bytes(*magic) != MAGIC {
        return Err(unreadable(&format!("format {}", u32::from_le_bytes(*magic))));
    }
    RoaringTreemap::deserialize_from(rest).map_err(|error| unreadable(&format!("its bitmap: {error}")))
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

fn unreadable(what: &str) -> Error {
    Error::Environment(Box::new(
        Diagnostic::new("DELTA_LOG_CORRUPT", format!("a deletion vector of the table cannot be read: {what}"))
            .help("read an earlier version of the table, or restore the table from a backup"),
    ))
}

/// ZeroMQ's base 85, which the protocol names: four bytes are five characters.
mod base85 {
    const ALPHABET: &[u8; 85] =
        b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

    /// What is no multiple of four bytes is filled with zeros.
    pub fn encode(bytes: &[u8]) -> String {
        let mut text = String::with_capacity(bytes.len().div_ceil(4) * 5);
        for chunk in bytes.chunks(4) {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            let word = u32::from_be_bytes(word);
            for power in [85 * 85 * 85 * 85, 85 * 85 * 85, 85 * 85, 85, 1] {
                text.push(ALPHABET[(word / power % 85) as usize] as char);
            }
        }
        text
    }

    pub fn decode(text: &str) -> Option<Vec<u8>> {
        let (words, []) = text.as_bytes().as_chunks::<5>() else { return None };
        let mut bytes = Vec::with_capacity(words.len() * 4);
        for word in words {
            let mut value: u32 = 0;
            for character in word {
                let digit = ALPHABET.iter().position(|known| known == character)?;
                value = value.checked_mul(85)?.checked_add(digit as u32)?;
            }
            bytes.extend_from_slice(&value.to_be_bytes());
        }
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The example of the protocol's text.
    #[test]
    fn uuids_are_named_as_the_protocol_says() {
        let descriptor = Descriptor {
            storage_type: "u".into(),
            path_or_inline_dv: "ab^-aqEH.-t@S}K{vb[*k^".into(),
            offset: Some(4),
            size_in_bytes: 40,
            cardinality: 6,
        };
        let path = descriptor.file(Path::new("/t")).unwrap().unwrap();
        assert_eq!(path, Path::new("/t/ab/deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin"));
    }

    /// The inline example of the protocol's text: rows 3, 4, 7, 11, 18 and 29.
    #[test]
    fn inline_vectors_are_read() {
        let text = "^Bg9^0rr910000000000iXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L";
        let descriptor = Descriptor {
            storage_type: "i".into(),
            path_or_inline_dv: text.into(),
            offset: None,
            size_in_bytes: 44,
            cardinality: 6,
        };
        let rows: Vec<u64> = descriptor.read(Path::new("/t")).unwrap().iter().collect();
        assert_eq!(rows, [3, 4, 7, 11, 18, 29]);
        let bytes = base85::decode(text).unwrap();
        assert_eq!(base85::encode(&bytes), text);
    }

    #[test]
    fn what_is_written_is_read_and_damage_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let (few, many): (RoaringTreemap, RoaringTreemap) = ((0..3).collect(), (0..2_000_000).step_by(3).collect());
        let mut vectors = Vectors::default();
        let descriptors = [&few, &many, &few].map(|rows| vectors.push(rows).unwrap());
        let mut paths = Vec::new();
        vectors.write(dir.path(), |path| paths.push(path)).unwrap();
        assert_eq!(paths.len(), 2, "the second is large: no further one goes into its file");
        assert_eq!(descriptors[0].read(dir.path()).unwrap(), few);
        assert_eq!(descriptors[2].read(dir.path()).unwrap(), few);
        let again = Descriptor::of(&descriptors[1].to_value().unwrap()).unwrap();
        assert_eq!(again.read(dir.path()).unwrap(), many);
        assert_eq!(again.cardinality, many.len());
        let mut bytes = std::fs::read(&paths[0]).unwrap();
        bytes[20] ^= 1;
        std::fs::write(&paths[0], bytes).unwrap();
        assert_eq!(descriptors[0].read(dir.path()).unwrap_err().diagnostic().code, "DELTA_LOG_CORRUPT");
    }

    #[test]
    fn selections_leave_out_the_dead() {
        let select = |dead: &[u64]| -> Vec<(bool, usize)> {
            let selection = alive(&dead.iter().copied().collect(), 6);
            selection.iter().map(|selector| (!selector.skip, selector.row_count)).collect()
        };
        assert_eq!(select(&[]), [(true, 6)]);
        assert_eq!(select(&[0, 1, 3, 5]), [(false, 2), (true, 1), (false, 1), (true, 1), (false, 1)]);
        assert_eq!(select(&[0, 1, 2, 3, 4, 5]), [(false, 6)]);
    }
}
