//! What an epoch changes in the index, durable before its commit is published.
//!
//! A crash between the table's commit and the checkpoint's leaves rows in places that only their writer knew. So the
//! change is noted first, under the id that the table's commit carries; a start that finds that commit commits the note,
//! and one that does not find it runs the epoch again. Layout: length of a header (32 bits little endian), header (JSON),
//! then, as long as the header says: numbers of rows that are gone, by file; new places; removed keys (Arrow IPC streams).

use std::collections::BTreeMap;
use std::io::Cursor;

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use super::files::{IndexedFile, to_bytes};
use crate::checkpoint::{Checkpoint, SinkValue};
use crate::error::{Error, Result};

/// Version of the layout.
const VERSION: u32 = 1;
const NAME: &str = "pending";
const PARTS: &str = "pending/";
/// A value is in memory as a whole whenever it is read or compacted.
const PART_BYTES: usize = 2 << 20;

/// A note of an epoch.
pub struct Pending {
    /// Which.
    pub epoch: u64,
    /// `txnId` of its commit.
    pub id: String,
    /// Files that came or changed; None: went.
    pub files: BTreeMap<u32, Option<IndexedFile>>,
    /// Numbers that are gone, of files that were written again.
    pub gone: BTreeMap<u32, RoaringBitmap>,
    /// The number of the next file.
    pub next: u32,
    /// Keys with their new places.
    pub rows: Option<RecordBatch>,
    /// Keys without a place.
    pub removed: Option<RecordBatch>,
    /// Keys up to this instant are done with.
    pub until_us: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    epoch: u64,
    id: String,
    files: BTreeMap<u32, Option<IndexedFile>>,
    /// Number of the file, and bytes.
    gone: Vec<(u32, usize)>,
    next: u32,
    rows: usize,
    removed: usize,
    until_us: Option<i64>,
}

/// The notes in a checkpoint: one, while an epoch is being published, in parts of bounded size.
pub struct Notes {
    checkpoint: Checkpoint,
    /// How many parts there may be.
    parts: usize,
}

impl Notes {
    /// Those of a checkpoint, if any are left.
    pub fn open(checkpoint: Checkpoint) -> Result<Notes> {
        let parts = 1 + checkpoint.sink_values(PARTS)?.len();
        Ok(Notes { checkpoint, parts })
    }

    /// Writes the note of an epoch, durably, in the place of a former one.
    pub fn write(&mut self, pending: &Pending) -> Result<()> {
        let bytes = pending.to_bytes()?;
        let mut values = self.cleared();
        for (part, bytes) in bytes.chunks(PART_BYTES).enumerate() {
            values.push((name(part), Some(bytes.to_vec())));
        }
        self.parts = bytes.len().div_ceil(PART_BYTES).max(self.parts);
        self.checkpoint.put_sink_values(&values)
    }

    /// The note that is there, if it is whole.
    pub fn read(&self) -> Result<Option<Pending>> {
        let mut bytes = Vec::new();
        for part in 0..self.parts {
            bytes.extend(self.checkpoint.sink_value(&name(part))?.unwrap_or_default());
        }
        Ok(Pending::from_bytes(&bytes))
    }

    /// What removes it, to be committed.
    pub fn cleared(&mut self) -> Vec<SinkValue> {
        let parts = std::mem::replace(&mut self.parts, 1);
        (0..parts).map(|part| (name(part), None)).collect()
    }
}

/// The first part has the name that the whole had once.
fn name(part: usize) -> String {
    match part {
        0 => NAME.into(),
        part => format!("{PARTS}{part}"),
    }
}

impl Pending {
    /// As it is kept.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut blobs = Vec::new();
        let mut gone = Vec::new();
        for (number, numbers) in &self.gone {
            let bytes = to_bytes(numbers)?;
            gone.push((*number, bytes.len()));
            blobs.extend(bytes);
        }
        let (rows, removed) = (stream(self.rows.as_ref())?, stream(self.removed.as_ref())?);
        let header = Header {
            version: VERSION,
            epoch: self.epoch,
            id: self.id.clone(),
            files: self.files.clone(),
            gone,
            next: self.next,
            rows: rows.len(),
            removed: removed.len(),
            until_us: self.until_us,
        };
        let header = serde_json::to_vec(&header).map_err(|error| Error::internal(error.to_string()))?;
        Ok([&(header.len() as u32).to_le_bytes()[..], &header, &blobs, &rows, &removed].concat())
    }

    /// None: it was written by another version, or it is damaged. The table itself then says where its rows are.
    pub fn from_bytes(bytes: &[u8]) -> Option<Pending> {
        let (length, rest) = bytes.split_first_chunk()?;
        let (header, mut rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let header: Header = serde_json::from_slice(header).ok().filter(|header: &Header| header.version == VERSION)?;
        let mut take = |length: usize| {
            let (part, behind) = rest.split_at_checked(length)?;
            rest = behind;
            Some(part)
        };
        let mut gone = BTreeMap::new();
        for (number, length) in header.gone {
            gone.insert(number, RoaringBitmap::deserialize_from(take(length)?).ok()?);
        }
        let (rows, removed) = (take(header.rows)?, take(header.removed)?);
        Some(Pending {
            epoch: header.epoch,
            id: header.id,
            files: header.files,
            gone,
            next: header.next,
            rows: batch(rows)?,
            removed: batch(removed)?,
            until_us: header.until_us,
        })
    }
}

fn stream(rows: Option<&RecordBatch>) -> Result<Vec<u8>> {
    let Some(rows) = rows else { return Ok(Vec::new()) };
    let mut writer = StreamWriter::try_new(Vec::new(), rows.schema_ref())?;
    writer.write(rows)?;
    Ok(writer.into_inner()?)
}

/// Some(None): there were none.
fn batch(bytes: &[u8]) -> Option<Option<RecordBatch>> {
    if bytes.is_empty() {
        return Some(None);
    }
    StreamReader::try_new(Cursor::new(bytes), None).ok()?.next()?.ok().map(Some)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};

    use super::*;
    use crate::state::tests::TestDir;
    use crate::table::actions::AddFile;

    #[test]
    fn a_long_note_is_in_parts_and_a_short_one_leaves_nothing_of_it() {
        let dir = TestDir::new();
        let checkpoint = Checkpoint::open(&dir.0, "s").unwrap();
        let note = |epoch: u64, rows: i64| Pending {
            epoch,
            id: "id".into(),
            files: BTreeMap::new(),
            gone: BTreeMap::new(),
            next: 1,
            rows: RecordBatch::try_from_iter([("k", Arc::new(Int64Array::from_iter_values(0..rows)) as ArrayRef)]).ok(),
            removed: None,
            until_us: None,
        };
        let mut notes = Notes::open(checkpoint.clone()).unwrap();
        assert!(notes.read().unwrap().is_none());
        notes.write(&note(1, 1_000_000)).unwrap();
        assert!(checkpoint.sink_values("pending").unwrap().iter().all(|(_, part)| part.len() <= PART_BYTES));
        let mut again = Notes::open(checkpoint.clone()).unwrap();
        assert_eq!(again.read().unwrap().unwrap().rows, note(1, 1_000_000).rows);
        again.write(&note(2, 10)).unwrap();
        let read = Notes::open(checkpoint.clone()).unwrap().read().unwrap().unwrap();
        assert_eq!((read.epoch, read.rows), (2, note(2, 10).rows));
        checkpoint.put_sink_values(&again.cleared()).unwrap();
        assert!(checkpoint.sink_values("pending").unwrap().is_empty());
    }

    #[test]
    fn what_is_noted_is_read_and_a_part_of_it_is_not() {
        let rows = RecordBatch::try_from_iter([("k", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef)]).unwrap();
        let file =
            IndexedFile { add: AddFile { path: "a".into(), ..AddFile::default() }, rows: 5, dead: 2, gone: true };
        let pending = Pending {
            epoch: 7,
            id: "id".into(),
            files: [(3, Some(file.clone())), (4, None)].into(),
            gone: [(3, [1, 9].into_iter().collect())].into(),
            next: 5,
            rows: Some(rows.clone()),
            removed: None,
            until_us: Some(-5),
        };
        let bytes = pending.to_bytes().unwrap();
        let read = Pending::from_bytes(&bytes).unwrap();
        assert_eq!((read.epoch, read.id.as_str(), read.next), (7, "id", 5));
        assert_eq!((read.files, read.gone), (pending.files, pending.gone));
        assert_eq!((read.rows, read.removed, read.until_us), (Some(rows), None, Some(-5)));
        assert!((0..bytes.len()).all(|length| Pending::from_bytes(&bytes[..length]).is_none()));
    }
}
