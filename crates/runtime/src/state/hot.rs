//! The hot rows of one operator: columnar, in memory, addressed by slot.
//!
//! A key has one slot for as long as the table is not rebuilt; DataFusion's own group index gives it. A slot points at
//! a row of a chunk. Chunks are immutable: an epoch's changes become a new chunk, the slots move over, and chunks
//! whose rows were mostly left behind are merged, so that the work is proportional to what changed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Index, IndexMut, Range};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, GenericByteViewArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch, interleave, interleave_record_batch};
use arrow::datatypes::{ByteViewType, DataType, Schema, SchemaRef};
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;

use super::event_time::{time_at, times_of};
use crate::error::{Error, Result};

/// Slots whose key has no hot row: never committed, or only in the store.
const ABSENT: u32 = u32::MAX;
/// Slots whose key was removed, which the store may not know yet.
const REMOVED: u32 = u32::MAX - 1;

/// Chunks are not merged beyond this: offsets of text columns have 32 bits.
const CHUNK_BYTES: usize = 1 << 30;

#[derive(Debug, Clone, Copy)]
struct Slot {
    chunk: u32,
    row: u32,
    /// Epoch of the last change, cut to 32 bits: only its order matters, and only for choosing what to drop.
    touched: u32,
    /// The store's row, if any, is older than this.
    dirty: bool,
    /// The run that last touched it, and its number within that run.
    run: u32,
    local: u32,
}

const EMPTY: Slot = Slot { chunk: ABSENT, row: 0, touched: 0, dirty: false, run: 0, local: 0 };

/// Slots by number, in pieces: growing copies none, and sets aside a piece at most.
#[derive(Default)]
struct Slots {
    pieces: Vec<Vec<Slot>>,
}

/// A power of two.
const SLOTS_PER_PIECE: usize = 1 << 14;

impl Slots {
    fn len(&self) -> usize {
        self.pieces.last().map_or(0, |last| (self.pieces.len() - 1) * SLOTS_PER_PIECE + last.len())
    }

    fn bytes(&self) -> usize {
        self.pieces.iter().map(|piece| piece.capacity() * size_of::<Slot>()).sum()
    }

    /// Empty slots up to `length`.
    fn grow(&mut self, length: usize) {
        while self.len() < length {
            if self.pieces.last().is_none_or(|last| last.len() == SLOTS_PER_PIECE) {
                self.pieces.push(Vec::new());
            }
            let first = (self.pieces.len() - 1) * SLOTS_PER_PIECE;
            if let Some(last) = self.pieces.last_mut() {
                last.resize((length - first).min(SLOTS_PER_PIECE), EMPTY);
            }
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.pieces.iter().flatten()
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.pieces.iter_mut().flatten()
    }
}

impl Index<usize> for Slots {
    type Output = Slot;

    fn index(&self, slot: usize) -> &Slot {
        &self.pieces[slot / SLOTS_PER_PIECE][slot % SLOTS_PER_PIECE]
    }
}

impl IndexMut<usize> for Slots {
    fn index_mut(&mut self, slot: usize) -> &mut Slot {
        &mut self.pieces[slot / SLOTS_PER_PIECE][slot % SLOTS_PER_PIECE]
    }
}

/// So many chunks of about one size are merged.
const CHUNKS_PER_SIZE: usize = 4;

/// Which chunks have about as many rows.
fn size_of_rows(rows: usize) -> u32 {
    rows.max(1).ilog(CHUNKS_PER_SIZE)
}

struct Chunk {
    rows: RecordBatch,
    slots: Vec<u32>,
    live: usize,
    bytes: usize,
}

/// See the module.
pub(super) struct Hot {
    schema: SchemaRef,
    keys: usize,
    /// None where there is no GROUP BY: the one slot is 0.
    index: Option<Box<dyn GroupValues>>,
    slots: Slots,
    chunks: Vec<Chunk>,
    live: usize,
    held: usize,
    bytes: usize,
    index_bytes: usize,
    /// Keys of removed rows, while the store may still have them.
    removed: Vec<(RecordBatch, Vec<u32>)>,
    /// The column that tells a row's time, where rows are forgotten by it.
    time: Option<usize>,
    /// Slots of rows by time; rows without one are in no list.
    by_time: BTreeMap<i64, Vec<u32>>,
}

/// What a run touched first in a batch.
#[derive(Debug, Default)]
pub struct Touched {
    /// For each row of the batch: the number of its key within the run.
    pub groups: Vec<usize>,
    /// Rows of the batch that are the first of their key in the run.
    pub fresh: Vec<u32>,
}

impl Hot {
    pub(super) fn new(schema: SchemaRef, keys: usize) -> Result<Hot> {
        let index = match keys {
            0 => None,
            _ => {
                let key_schema = Schema::new(schema.fields()[..keys].to_vec());
                Some(new_group_values(key_schema.into(), &GroupOrdering::None)?)
            }
        };
        Ok(Hot {
            schema,
            keys,
            index,
            slots: Slots::default(),
            chunks: Vec::new(),
            live: 0,
            held: 0,
            bytes: 0,
            index_bytes: 0,
            removed: Vec::new(),
            time: None,
            by_time: BTreeMap::new(),
        })
    }

    /// With rows that are forgotten by the time in this column; it never changes while a row is there.
    pub(super) fn timed(self, time: Option<usize>) -> Hot {
        Hot { time, ..self }
    }

    /// Rows with a value.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// Memory of rows, keys and slots.
    pub(super) fn bytes(&self) -> usize {
        // A list of slots per time, whose bookkeeping is about as large as a few slots.
        let by_time = self.by_time.len() * 64 + if self.time.is_some() { self.live * size_of::<u32>() } else { 0 };
        self.bytes + self.index_bytes + self.slots.bytes() + by_time
    }

    /// Bytes of the rows themselves.
    pub(super) fn row_bytes(&self) -> usize {
        self.bytes
    }

    /// Slots per row of key columns; new keys get new slots without a value.
    pub(super) fn intern(&mut self, keys: &[ArrayRef], rows: usize, slots: &mut Vec<usize>) -> Result<()> {
        match &mut self.index {
            Some(index) => index.intern(keys, slots)?,
            None => {
                slots.clear();
                slots.resize(rows, 0);
            }
        }
        let known = self.index.as_ref().map_or(1, |index| index.len());
        if known >= REMOVED as usize {
            return Err(Error::internal("more than four billion keys in one operator's table"));
        }
        self.slots.grow(known);
        Ok(())
    }

    /// Numbers the keys of a batch within a run: `touched` is the run's slots so far and grows.
    pub(super) fn touch(
        &mut self,
        run: u32,
        keys: &[ArrayRef],
        rows: usize,
        touched: &mut Vec<u32>,
        out: &mut Touched,
    ) -> Result<()> {
        self.intern(keys, rows, &mut out.groups)?;
        out.fresh.clear();
        for (row, group) in out.groups.iter_mut().enumerate() {
            let slot = &mut self.slots[*group];
            if slot.run != run {
                slot.run = run;
                slot.local = touched.len() as u32;
                touched.push(*group as u32);
                out.fresh.push(row as u32);
            }
            *group = slot.local as usize;
        }
        Ok(())
    }

    /// State columns of those `slots` that have a hot row, with their positions in `slots`; and the positions of
    /// those about which only the store may know.
    pub(super) fn gather(&self, slots: &[u32]) -> Result<(Vec<u32>, Vec<ArrayRef>, Vec<u32>)> {
        let (mut found, mut places, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        for (i, slot) in slots.iter().enumerate() {
            let slot = self.slots[*slot as usize];
            match slot.chunk {
                ABSENT => unknown.push(i as u32),
                REMOVED => {}
                chunk => {
                    found.push(i as u32);
                    places.push((chunk as usize, slot.row as usize));
                }
            }
        }
        if found.is_empty() {
            return Ok((found, Vec::new(), unknown));
        }
        let columns = self.columns_at(self.keys..self.schema.fields().len(), &places)?;
        Ok((found, columns, unknown))
    }

    /// Makes `rows` the committed values of `slots` as of `epoch`. `dirty`: the store's rows do not have them.
    pub(super) fn set(&mut self, rows: RecordBatch, slots: Vec<u32>, epoch: u64, dirty: bool) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        self.note_times(&rows, &slots)?;
        let chunk = self.chunks.len() as u32;
        for (row, slot) in slots.iter().enumerate() {
            self.leave(*slot);
            let slot = &mut self.slots[*slot as usize];
            (slot.chunk, slot.row, slot.touched, slot.dirty) = (chunk, row as u32, epoch as u32, dirty);
        }
        let (live, bytes) = (slots.len(), bytes_of(&rows));
        self.live += live;
        self.held += live;
        self.bytes += bytes;
        self.chunks.push(Chunk { rows, slots, live, bytes });
        self.index_bytes = self.index.as_ref().map_or(0, |index| index.size());
        Ok(())
    }

    /// Forgets the values of `slots`; with `remember`, keeps their keys until the store was told.
    pub(super) fn remove(&mut self, keys: &RecordBatch, slots: Vec<u32>, epoch: u64, remember: bool) -> Result<()> {
        for slot in &slots {
            self.leave(*slot);
            let slot = &mut self.slots[*slot as usize];
            (slot.chunk, slot.touched) = (if remember { REMOVED } else { ABSENT }, epoch as u32);
            slot.dirty = remember;
        }
        if remember {
            self.bytes += bytes_of(keys);
            self.removed.push((keys.clone(), slots));
        }
        self.forget_times(keys)
    }

    /// Takes rows that were removed out of the lists of their times. Only rows whose time is part of their key are.
    fn forget_times(&mut self, keys: &RecordBatch) -> Result<()> {
        let Some(time) = self.time.filter(|time| *time < self.keys) else { return Ok(()) };
        let times: BTreeSet<i64> = times_of(keys.column(time))?.iter().flatten().collect();
        for time in times {
            let Some(slots) = self.by_time.get_mut(&time) else { continue };
            slots.retain(|slot| self.slots[*slot as usize].chunk < REMOVED);
            if slots.is_empty() {
                self.by_time.remove(&time);
            }
        }
        Ok(())
    }

    /// Enters rows that come into the table with the list of their time.
    fn note_times(&mut self, rows: &RecordBatch, slots: &[u32]) -> Result<()> {
        let Some(time) = self.time else { return Ok(()) };
        let times = times_of(rows.column(time))?;
        for (row, slot) in slots.iter().enumerate() {
            if self.slots[*slot as usize].chunk >= REMOVED
                && let Some(time) = time_at(&times, row)
            {
                self.by_time.entry(time).or_default().push(*slot);
            }
        }
        Ok(())
    }

    /// Slots of rows whose time is at or before `until_us` and which `run` has not touched.
    pub(super) fn expired(&self, until_us: i64, run: Option<u32>) -> Vec<u32> {
        let due = self.by_time.range(..=until_us).flat_map(|(_, slots)| slots);
        let untouched = |slot: &&u32| run.is_none_or(|run| self.slots[**slot as usize].run != run);
        due.filter(untouched).copied().collect()
    }

    /// The least time behind `after` that a row has.
    pub(super) fn next_time(&self, after: Option<i64>) -> Option<i64> {
        let from = match after {
            Some(after) => std::ops::Bound::Excluded(after),
            None => std::ops::Bound::Unbounded,
        };
        self.by_time.range((from, std::ops::Bound::Unbounded)).next().map(|(time, _)| *time)
    }

    /// Slots of rows with this time which `run` has not touched.
    pub(super) fn untouched_at(&self, time: i64, run: u32) -> Vec<u32> {
        let slots = self.by_time.get(&time).into_iter().flatten();
        slots.filter(|slot| self.slots[**slot as usize].run != run).copied().collect()
    }

    /// Key and state columns of rows that are here.
    pub(super) fn rows_of(&self, slots: &[u32]) -> Result<RecordBatch> {
        let parts: Vec<&RecordBatch> = self.chunks.iter().map(|chunk| &chunk.rows).collect();
        let places: Vec<(usize, usize)> = (slots.iter().map(|slot| self.slots[*slot as usize]))
            .map(|slot| (slot.chunk as usize, slot.row as usize))
            .collect();
        Ok(interleave_record_batch(&parts, &places)?)
    }

    /// Whether nothing is known of a slot but what the store has, and `run` has not touched it.
    pub(super) fn only_stored(&self, slot: u32, run: Option<u32>) -> bool {
        let slot = self.slots[slot as usize];
        slot.chunk == ABSENT && run.is_none_or(|run| slot.run != run)
    }

    /// Forgets every row whose time is at or before `until_us`.
    pub(super) fn evict(&mut self, until_us: i64) -> Result<()> {
        let later = match until_us.checked_add(1) {
            Some(later) => self.by_time.split_off(&later),
            None => BTreeMap::new(),
        };
        for slot in std::mem::replace(&mut self.by_time, later).into_values().flatten() {
            self.leave(slot);
            self.slots[slot as usize].chunk = ABSENT;
            self.slots[slot as usize].dirty = false;
        }
        if self.live == 0 {
            self.bytes -= self.chunks.iter().map(|chunk| chunk.bytes).sum::<usize>();
            self.held = 0;
            self.chunks.clear();
            return Ok(());
        }
        self.merge_chunks()
    }

    fn leave(&mut self, slot: u32) {
        if let Some(chunk) = self.chunks.get_mut(self.slots[slot as usize].chunk as usize) {
            chunk.live -= 1;
            self.live -= 1;
        }
    }

    /// Merges the newest chunks where enough of them are of about one size, and all of them when most rows are left behind:
    /// both copy a row a bounded number of times per change.
    pub(super) fn merge_chunks(&mut self) -> Result<()> {
        let mut from = self.chunks.len();
        loop {
            let size = match self.chunks.get(from..) {
                Some([]) | None => self.chunks.last().map_or(0, |chunk| size_of_rows(chunk.live)),
                Some(merged) => size_of_rows(merged.iter().map(|chunk| chunk.live).sum()),
            };
            let alike = self.chunks[..from].iter().rev().take_while(|chunk| size_of_rows(chunk.live) <= size).count();
            let merged: usize = self.chunks[from - alike..].iter().map(|chunk| chunk.bytes).sum();
            if alike + usize::from(from < self.chunks.len()) < CHUNKS_PER_SIZE || merged > CHUNK_BYTES {
                break;
            }
            from -= alike;
        }
        let sparse = self.held > 2 * self.live + 8192;
        if sparse {
            from = 0;
        }
        if from == self.chunks.len() {
            return Ok(());
        }
        let mut merged: Vec<(RecordBatch, Vec<u32>)> = Vec::new();
        let (mut parts, mut slots, mut bytes) = (Vec::new(), Vec::new(), 0);
        for at in from..self.chunks.len() {
            let (part, part_slots) = self.select(at, |_| true)?;
            let part_bytes = bytes_of(&part);
            if bytes + part_bytes > CHUNK_BYTES && !parts.is_empty() {
                merged.push((concat_batches(&self.schema, &parts)?, std::mem::take(&mut slots)));
                parts.clear();
                bytes = 0;
            }
            bytes += part_bytes;
            parts.push(part);
            slots.extend(part_slots);
        }
        merged.push((concat_batches(&self.schema, &parts)?, slots));
        for chunk in self.chunks.drain(from..) {
            self.bytes -= chunk.bytes;
            self.held -= chunk.slots.len();
        }
        for (rows, slots) in merged {
            let chunk = self.chunks.len() as u32;
            for (row, slot) in slots.iter().enumerate() {
                let slot = &mut self.slots[*slot as usize];
                (slot.chunk, slot.row) = (chunk, row as u32);
            }
            let bytes = bytes_of(&rows);
            self.bytes += bytes;
            self.held += slots.len();
            self.chunks.push(Chunk { live: slots.len(), rows, slots, bytes });
        }
        Ok(())
    }

    /// Which rows of a chunk are current and wanted; None for all of them.
    fn mask(&self, at: usize, mut wanted: impl FnMut(u32) -> bool) -> Option<BooleanArray> {
        let chunk = &self.chunks[at];
        let mut all = true;
        let mask: Vec<bool> = (chunk.slots.iter().enumerate())
            .map(|(row, slot)| {
                let place = self.slots[*slot as usize];
                let keep = place.chunk as usize == at && place.row as usize == row && wanted(*slot);
                all &= keep;
                keep
            })
            .collect();
        (!all).then(|| BooleanArray::from(mask))
    }

    /// Current and wanted rows of a chunk with their slots.
    fn select(&self, at: usize, wanted: impl FnMut(u32) -> bool) -> Result<(RecordBatch, Vec<u32>)> {
        let chunk = &self.chunks[at];
        Ok(match self.mask(at, wanted) {
            None => (chunk.rows.clone(), chunk.slots.clone()),
            Some(mask) => {
                let slots = chunk.slots.iter().zip(mask.values()).filter(|(_, keep)| *keep).map(|(slot, _)| *slot);
                (filter_record_batch(&chunk.rows, &mask)?, slots.collect())
            }
        })
    }

    /// Every chunk with a mask of its current rows whose slot is not in `without`; None for all rows.
    pub(super) fn pieces(&self, without: &[u32]) -> Vec<(RecordBatch, Option<BooleanArray>)> {
        let mut hidden = vec![false; if without.is_empty() { 0 } else { self.slots.len() }];
        for slot in without {
            hidden[*slot as usize] = true;
        }
        let shown = |slot: u32| hidden.is_empty() || !hidden[slot as usize];
        (0..self.chunks.len()).map(|at| (self.chunks[at].rows.clone(), self.mask(at, shown))).collect()
    }

    /// Places of the rows the store does not have: chunk, and row in it.
    pub(super) fn dirty(&self) -> Vec<(u32, u32)> {
        let mut places = Vec::new();
        for (at, chunk) in self.chunks.iter().enumerate() {
            for (row, slot) in chunk.slots.iter().enumerate() {
                let slot = &self.slots[*slot as usize];
                if slot.dirty && slot.chunk as usize == at && slot.row as usize == row {
                    places.push((slot.chunk, slot.row));
                }
            }
        }
        places
    }

    /// These columns of the rows at `places`.
    pub(super) fn columns_at(&self, columns: Range<usize>, places: &[(usize, usize)]) -> Result<Vec<ArrayRef>> {
        let column = |column: usize| -> Result<ArrayRef> {
            let parts: Vec<&dyn Array> = self.chunks.iter().map(|chunk| chunk.rows.column(column).as_ref()).collect();
            Ok(interleave(&parts, places)?)
        };
        columns.map(column).collect()
    }

    /// Keys the store may have and should not.
    pub(super) fn removed_keys(&self) -> impl Iterator<Item = Result<RecordBatch>> {
        self.removed.iter().map(|(keys, slots)| {
            let gone: BooleanArray =
                slots.iter().map(|slot| Some(self.slots[*slot as usize].chunk == REMOVED)).collect();
            Ok(filter_record_batch(keys, &gone)?)
        })
    }

    /// The store has everything now.
    pub(super) fn clean(&mut self) {
        for slot in self.slots.iter_mut() {
            slot.dirty = false;
            if slot.chunk == REMOVED {
                slot.chunk = ABSENT;
            }
        }
        for (keys, _) in self.removed.drain(..) {
            self.bytes -= bytes_of(&keys);
        }
    }

    /// A table of the rows changed last, at most `keep`. Only clean rows may be dropped; slots change.
    pub(super) fn newest(&self, keep: usize) -> Result<Hot> {
        let current = |slot: &&Slot| (slot.chunk as usize) < self.chunks.len();
        let mut ages: Vec<u32> = self.slots.iter().filter(current).map(|slot| slot.touched).collect();
        let mut kept = Hot::new(self.schema.clone(), self.keys)?.timed(self.time);
        if keep == 0 {
            return Ok(kept);
        }
        let oldest = match ages.len().checked_sub(keep) {
            None | Some(0) => 0,
            Some(dropped) => *ages.select_nth_unstable(dropped).1,
        };
        let mut room = keep;
        let mut slots = Vec::new();
        // Newest chunks last in `chunks`: they go first while there is room.
        for at in (0..self.chunks.len()).rev() {
            let (rows, old) = self.select(at, |slot| {
                let fits = room > 0 && self.slots[slot as usize].touched >= oldest;
                room -= usize::from(fits);
                fits
            })?;
            kept.intern(&rows.columns()[..self.keys], rows.num_rows(), &mut slots)?;
            for (new, old) in slots.iter().zip(&old) {
                kept.slots[*new].touched = self.slots[*old as usize].touched;
            }
            let places = slots.iter().map(|slot| *slot as u32).collect();
            kept.adopt(compact(&rows), places, |slot| self.slots[old[slot] as usize])?;
        }
        Ok(kept)
    }

    /// Appends a chunk with the age and cleanness its rows had.
    fn adopt(&mut self, rows: RecordBatch, slots: Vec<u32>, was: impl Fn(usize) -> Slot) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        self.note_times(&rows, &slots)?;
        let chunk = self.chunks.len() as u32;
        for (row, slot) in slots.iter().enumerate() {
            let before = was(row);
            let slot = &mut self.slots[*slot as usize];
            (slot.chunk, slot.row, slot.touched, slot.dirty) = (chunk, row as u32, before.touched, before.dirty);
        }
        let (live, bytes) = (slots.len(), bytes_of(&rows));
        self.live += live;
        self.held += live;
        self.bytes += bytes;
        self.chunks.push(Chunk { rows, slots, live, bytes });
        self.index_bytes = self.index.as_ref().map_or(0, |index| index.size());
        Ok(())
    }

    /// True when most slots have no row: keys of failed epochs, or removed.
    pub(super) fn is_sparse(&self) -> bool {
        self.slots.len() > 2 * self.live + 65_536
    }

    /// True when removed keys wait to be told to the store.
    pub(super) fn has_removed(&self) -> bool {
        !self.removed.is_empty()
    }
}

/// Bytes of the rows, not of buffers they share with others.
pub(crate) fn bytes_of(rows: &RecordBatch) -> usize {
    let bytes = |column: &ArrayRef| match column.data_type() {
        DataType::Utf8View => views_of(column.as_string_view()),
        DataType::BinaryView => views_of(column.as_binary_view()),
        _ => column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size()),
    };
    rows.columns().iter().map(bytes).sum()
}

/// Views, and the bytes they show: those of a slice count all buffers otherwise, or none.
fn views_of<T: ByteViewType>(column: &GenericByteViewArray<T>) -> usize {
    column.len() * size_of::<u128>() + column.total_buffer_bytes_used()
}

/// The same rows without buffers shared with anything larger.
pub(super) fn compact(rows: &RecordBatch) -> RecordBatch {
    let columns = rows.columns().iter().map(|column| match column.data_type() {
        DataType::Utf8View => std::sync::Arc::new(column.as_string_view().gc()) as ArrayRef,
        DataType::BinaryView => std::sync::Arc::new(column.as_binary_view().gc()) as ArrayRef,
        _ => column.clone(),
    });
    let columns: Vec<ArrayRef> = columns.collect();
    super::codec::batch_of(rows.schema(), columns, rows.num_rows()).unwrap_or_else(|_| rows.clone())
}
