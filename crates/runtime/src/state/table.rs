//! Keyed state of one stateful operator: a write-back table of hot rows above the store.
//!
//! State: key = the grouping columns, value = the operator's state columns. Written when an epoch commits, as one
//! dense block of the changed rows in `Log`; forgotten when removed. The log is kept short by [`super::fold`]: by
//! writing a snapshot while every row is hot, and by moving rows to `Rows`, one per key, once they no longer fit the
//! budget. A row is, in this order: what the running epoch staged, the hot row, the row in `Rows`.
//!
//! What an epoch stages is invisible until [`StateTable::apply`], which the checkpoint calls after its batch is on
//! disk. A failed epoch drops its [`StagedState`] and nothing happened.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alluvium_parser::Diagnostic;
use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{filter, take};
use arrow::datatypes::{Field, Schema, SchemaRef};

use super::codec::{self, BlockKind, RowCodec, STATE_FORMAT, STATE_FORMAT_TIMED, block_key, parse_block_key};
use super::event_time::times_of;
use super::evict::Eviction;
use super::fold::LOG_BYTES_MIN;
use super::hot::{Hot, Touched, compact};
use super::{Batch, Column, Damage, StateScan, StateStore};
use crate::error::{Error, Result};

/// See the module.
pub struct StateTable {
    /// The number it is stored under.
    pub(super) operator: u32,
    /// The operator's number in the query.
    number: u32,
    pub(super) store: Arc<dyn StateStore>,
    /// Bytes its hot rows may take.
    pub(super) budget: usize,
    /// Bytes the log may always grow to.
    pub(super) log_bytes_min: usize,
    /// Where damage is noted; None: it is an error.
    pub(super) damage: Option<Arc<Damage>>,
    inner: Mutex<Inner>,
}

pub(super) struct Inner {
    /// None until the operator's schema is known.
    pub(super) bound: Option<Bound>,
    /// Keys with a value, hot and cold.
    pub(super) rows: u64,
    /// `Rows` may have keys of this operator.
    pub(super) cold: bool,
    /// Some rows may be in `Rows` only. Without it whatever the hot table does not know is not there.
    pub(super) partial: bool,
    /// Keys of the blocks in `Log`, ascending.
    pub(super) log: Vec<Vec<u8>>,
    /// Their bytes since the last snapshot.
    pub(super) log_bytes: usize,
    run: u32,
    /// Counts rebuilds of the hot table: slots of another generation mean nothing.
    pub(super) generation: u64,
    /// Rows whose time is at or before this were evicted; the store may still have them.
    pub(super) floor: Option<i64>,
    /// No row of the store is older than this, unless it was evicted; None: unknown.
    pub(super) cold_oldest: Option<i64>,
}

pub(super) struct Bound {
    pub(super) schema: SchemaRef,
    pub(super) keys: usize,
    /// The column that tells a row's time, where rows are forgotten by it.
    pub(super) time: Option<usize>,
    pub(super) codec: RowCodec,
    pub(super) hot: Hot,
}

impl Bound {
    /// Whether a row's time is part of its key.
    pub(super) fn time_in_key(&self) -> bool {
        self.time.is_some_and(|time| time < self.keys)
    }
}

/// How much an operator keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StateSize {
    /// The operator.
    pub operator: u32,
    /// Which part of its state: the side of a join; None: all of it.
    pub part: Option<&'static str>,
    /// Keys, or rows of the side.
    pub rows: u64,
    /// Bytes of rows in memory and on disk, roughly.
    pub bytes: u64,
    /// Keys whose row is in memory.
    pub hot_rows: u64,
    /// Memory they take.
    pub hot_bytes: u64,
}

/// Stored rows of the keys that were asked for.
#[derive(Debug, Default)]
pub struct Stored {
    /// Positions among the keys asked for, in no particular order.
    pub positions: Vec<u32>,
    /// Their state columns; none when there are no positions.
    pub columns: Vec<ArrayRef>,
}

/// Changes of one operator by one epoch: to be committed or dropped.
#[derive(Clone)]
pub struct StagedState {
    table: Arc<StateTable>,
    epoch: u64,
    /// Keys and new state columns, one row per key.
    rows: RecordBatch,
    slots: Vec<u32>,
    /// Keys that are removed.
    removed: Option<(RecordBatch, Vec<u32>)>,
    /// What the watermark ended.
    evicted: Option<Eviction>,
    generation: u64,
    /// How many keys more there are now.
    grown: i64,
    /// Its blocks of the log, once they are made.
    blocks: Arc<Mutex<Blocks>>,
}

/// Blocks of the log on their way.
#[derive(Default)]
enum Blocks {
    #[default]
    ToBeMade,
    Made(Result<Vec<Vec<u8>>>),
    Taken,
}

/// Everything an epoch says of an operator's state, as blocks of the log.
fn blocks_of(rows: &RecordBatch, removed: Option<&RecordBatch>, evicted: Option<Eviction>) -> Result<Vec<Vec<u8>>> {
    let mut pieces: Vec<_> = codec::pieces_of(rows).map(|rows| (BlockKind::Set, rows)).collect();
    if let Some(keys) = removed {
        pieces.extend(codec::pieces_of(keys).map(|keys| (BlockKind::Removed, keys)));
    }
    if let Some(eviction) = evicted {
        pieces.push((BlockKind::Evicted, codec::instant(eviction.until_us)?));
    }
    pieces.iter().map(|(kind, rows)| codec::encode_block(*kind, rows)).collect()
}

impl StateTable {
    /// Opens the state of an operator and loads its hot rows. `budget`: bytes they may take.
    pub fn open(store: Arc<dyn StateStore>, operator: u32, budget: usize) -> Result<StateTable> {
        StateTable::open_with(store, operator, budget, LOG_BYTES_MIN)
    }

    /// The same state for the operator that has the number `number` in the query, which may be another than the one it is
    /// stored under.
    pub fn known_as(self, number: u32) -> StateTable {
        StateTable { number, ..self }
    }

    /// Opens the state of an operator without ever writing to its store. With `damage`, what cannot be read is noted
    /// there and left out.
    pub fn open_to_look(store: Arc<dyn StateStore>, operator: u32, damage: Option<Arc<Damage>>) -> Result<StateTable> {
        StateTable::opened(store, operator, (usize::MAX, usize::MAX), damage)
    }

    /// [`Self::open`] with another limit for the log, for tests that cannot fill it.
    pub(crate) fn open_with(
        store: Arc<dyn StateStore>,
        operator: u32,
        budget: usize,
        log_bytes_min: usize,
    ) -> Result<StateTable> {
        StateTable::opened(store, operator, (budget, log_bytes_min), None)
    }

    fn opened(
        store: Arc<dyn StateStore>,
        operator: u32,
        (budget, log_bytes_min): (usize, usize),
        damage: Option<Arc<Damage>>,
    ) -> Result<StateTable> {
        let inner = Inner {
            bound: None,
            rows: 0,
            cold: false,
            partial: false,
            log: Vec::new(),
            log_bytes: 0,
            run: 0,
            generation: 0,
            floor: None,
            cold_oldest: None,
        };
        let table =
            StateTable { operator, number: operator, store, budget, log_bytes_min, damage, inner: Mutex::new(inner) };
        if let Some(pinned) = table.store.get(Column::Meta, &table.meta_key("schema"))? {
            table.check_format()?;
            table.load(codec::decode_schema(operator, &pinned)?)?;
        }
        Ok(table)
    }

    /// The operator whose state this is.
    pub fn operator(&self) -> u32 {
        self.number
    }

    /// Says what is kept: `schema`'s first `keys` columns are the key. The first call pins it in the checkpoint; a
    /// later one that differs is refused, unless nothing is kept yet.
    pub fn bind(&self, schema: &Schema, keys: usize) -> Result<()> {
        self.bind_timed(schema, keys, None)
    }

    /// [`Self::bind`] for rows that are forgotten by the time in column `time`, a key or a state column. A row's time
    /// never changes while it is kept.
    pub fn bind_timed(&self, schema: &Schema, keys: usize, time: Option<usize>) -> Result<()> {
        let wanted = pinned(schema, keys, time);
        {
            let inner = self.lock()?;
            if let Some(bound) = &inner.bound {
                if bound.schema.as_ref() == wanted.as_ref() {
                    return Ok(());
                }
                if inner.rows > 0 || inner.cold || !inner.log.is_empty() {
                    return Err(differs(self.operator, &bound.schema, &wanted));
                }
            }
        }
        let mut batch = Batch::default();
        batch.put(Column::Meta, self.meta_key("schema"), codec::encode_schema(&wanted)?);
        batch.put(Column::Meta, self.meta_key("format"), codec::format_of(time));
        self.store.write(batch, true)?;
        self.load(wanted)
    }

    /// Columns kept, keys first; None before the first [`Self::bind`].
    pub fn schema(&self) -> Result<Option<(SchemaRef, usize)>> {
        Ok(self.lock()?.bound.as_ref().map(|bound| (bound.schema.clone(), bound.keys)))
    }

    /// True when some rows may be in the store only: lookups then cost reads.
    pub fn is_partial(&self) -> Result<bool> {
        Ok(self.lock()?.partial)
    }

    /// Begins a run of an epoch; its number goes with every [`Self::touch`].
    pub fn begin_run(&self) -> Result<u32> {
        let mut inner = self.lock()?;
        inner.run = inner.run.wrapping_add(1).max(1);
        // Now, while the epoch's rows are on their way, not while everything waits for the last one's commit.
        if let Some(bound) = &mut inner.bound {
            bound.hot.merge_chunks()?;
        }
        Ok(inner.run)
    }

    /// Numbers the keys of a batch within a run, from 0 in order of first appearance. `touched` is what earlier
    /// batches of the run gave; `keys` are canonical ([`codec::canonical_keys`]).
    pub fn touch(
        &self,
        run: u32,
        keys: &[ArrayRef],
        rows: usize,
        touched: &mut Vec<u32>,
        out: &mut Touched,
    ) -> Result<()> {
        self.lock()?.bound_mut()?.hot.touch(run, keys, rows, touched, out)
    }

    /// Committed state of `slots`, whose key columns are `keys`.
    pub fn stored(&self, slots: &[u32], keys: &[ArrayRef]) -> Result<Stored> {
        let inner = self.lock()?;
        let bound = inner.bound()?;
        let (positions, columns, unknown) = bound.hot.gather(slots)?;
        if !inner.partial || unknown.is_empty() {
            return Ok(Stored { positions, columns });
        }
        let hot = Stored { positions, columns };
        let cold = self.stored_cold(bound, keys, unknown)?;
        both(hot, alive(bound, inner.floor, cold)?)
    }

    /// Rows of keys from the store.
    fn stored_cold(&self, bound: &Bound, keys: &[ArrayRef], asked: Vec<u32>) -> Result<Stored> {
        let asked = UInt32Array::from(asked);
        let keys: Vec<ArrayRef> = keys.iter().map(|column| take(column, &asked, None)).collect::<Result<_, _>>()?;
        let row_keys = bound.codec.keys(&keys, asked.len())?;
        let order = row_keys.sorted();
        let sorted: Vec<&[u8]> = order.iter().map(|at| row_keys.get(*at as usize)).collect();
        let (mut positions, mut values, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        let mut found_keys = Vec::new();
        self.store.multi_get(Column::Rows, &sorted, &mut |i, value| {
            positions.push(asked.value(order[i] as usize));
            found_keys.push(sorted[i]);
            values.extend_from_slice(value);
            ends.push(values.len());
            Ok(())
        })?;
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let rows: Vec<(&[u8], &[u8])> =
            starts.zip(&ends).zip(&found_keys).map(|((start, end), key)| (*key, &values[start..*end])).collect();
        let columns = if rows.is_empty() { Vec::new() } else { bound.codec.decode_values(&rows)? };
        Ok(Stored { positions, columns })
    }

    /// Holds an epoch's changes until they are committed. `rows`: one row per key, in the bound schema's order, for
    /// `slots` in the same order; `new` of these keys had no state before. `removed`: key columns and slots of keys
    /// that had state and have none now.
    pub fn stage(
        self: &Arc<Self>,
        epoch: u64,
        columns: Vec<ArrayRef>,
        slots: Vec<u32>,
        new: u64,
        removed: Option<(Vec<ArrayRef>, Vec<u32>)>,
    ) -> Result<StagedState> {
        let inner = self.lock()?;
        let bound = inner.bound()?;
        let rows = compact(&codec::batch_of(bound.schema.clone(), columns, slots.len())?);
        let removed = match removed {
            Some((keys, slots)) if !slots.is_empty() => {
                let schema = Schema::new(bound.schema.fields()[..bound.keys].to_vec());
                Some((compact(&codec::batch_of(schema.into(), keys, slots.len())?), slots))
            }
            _ => None,
        };
        let grown = new as i64 - removed.as_ref().map_or(0, |(_, slots)| slots.len() as i64);
        let generation = inner.generation;
        Ok(StagedState {
            table: self.clone(),
            epoch,
            rows,
            slots,
            removed,
            evicted: None,
            generation,
            grown,
            blocks: Arc::default(),
        })
    }

    /// Every row, as batches of key and state columns: those of `staged`, then what is committed otherwise. Nothing
    /// may be applied while it is read.
    pub fn scan(&self, staged: Option<&StagedState>) -> Result<StateScan> {
        let inner = self.lock()?;
        StateScan::new(self, &inner, staged)
    }

    /// Rows and bytes kept.
    pub fn size(&self) -> Result<StateSize> {
        let inner = self.lock()?;
        let (from, until) = codec::operator_range(self.operator);
        let on_disk = if inner.cold { self.store.bytes_between(Column::Rows, &from, &until)? } else { 0 };
        let (hot_rows, hot_bytes, row_bytes) = match &inner.bound {
            Some(bound) => (bound.hot.live() as u64, bound.hot.bytes() as u64, bound.hot.row_bytes() as u64),
            None => (0, 0, 0),
        };
        let bytes = if inner.cold { on_disk.max(row_bytes) } else { row_bytes };
        Ok(StateSize { operator: self.number, part: None, rows: inner.rows, bytes, hot_rows, hot_bytes })
    }

    /// Operators that have state in `store`; whether each is a join.
    pub fn stored_operators(store: &dyn StateStore) -> Result<Vec<(u32, bool)>> {
        let mut from = META_PREFIX.as_bytes().to_vec();
        let until = super::prefix_end(&from);
        let mut operators = Vec::new();
        loop {
            let page = store.page(Column::Meta, &from, &until, 1024)?;
            let Some(next) = page.next_key() else { break };
            for (key, _) in page.iter() {
                let key = String::from_utf8_lossy(&key[META_PREFIX.len()..]).into_owned();
                let operator = key.strip_suffix("/left/schema").map(|operator| (operator, true));
                let operator = operator.or_else(|| Some((key.strip_suffix("/schema")?, false)));
                operators.extend(operator.and_then(|(operator, join)| Some((operator.parse::<u32>().ok()?, join))));
            }
            from = next;
        }
        operators.sort_unstable();
        Ok(operators)
    }

    /// Key and state columns of an operator in `store`, the number of keys, and the column that tells a row's time; None
    /// where it has no state.
    pub fn stored_columns(store: &dyn StateStore, operator: u32) -> Result<Option<(SchemaRef, usize, Option<usize>)>> {
        let Some(pinned) = store.get(Column::Meta, &meta_key(operator, "schema"))? else { return Ok(None) };
        let schema = codec::decode_schema(operator, &pinned)?;
        let (keys, time) = (key_count(operator, &schema)?, time_column(operator, &schema)?);
        Ok(Some((schema, keys, time)))
    }

    /// Rows and bytes an operator has in `store`, without loading them.
    pub fn stored_size(store: &dyn StateStore, operator: u32) -> Result<StateSize> {
        let rows = store
            .get(Column::Meta, &meta_key(operator, "rows"))?
            .map_or(Ok(0), |count| parse_count(operator, count))?;
        let (from, until) = codec::operator_range(operator);
        let bytes =
            store.bytes_between(Column::Rows, &from, &until)? + store.bytes_between(Column::Log, &from, &until)?;
        Ok(StateSize { operator, rows, bytes, ..StateSize::default() })
    }

    pub(super) fn lock(&self) -> Result<MutexGuard<'_, Inner>> {
        let torn =
            |_| Error::internal(format!("the state of operator {} was left half changed by a panic", self.operator));
        self.inner.lock().map_err(torn)
    }

    pub(super) fn meta_key(&self, what: &str) -> Vec<u8> {
        meta_key(self.operator, what)
    }

    fn check_format(&self) -> Result<()> {
        let format = self.store.get(Column::Meta, &self.meta_key("format"))?;
        if [STATE_FORMAT, STATE_FORMAT_TIMED].iter().any(|known| format.as_deref() == Some(known.as_bytes())) {
            return Ok(());
        }
        Err(unknown_format(self.operator, format.as_deref().unwrap_or(b"(none)")))
    }

    /// Replays the log into an empty hot table.
    pub(super) fn load(&self, schema: SchemaRef) -> Result<()> {
        let keys = key_count(self.operator, &schema)?;
        let time = time_column(self.operator, &schema)?;
        let mut inner = self.lock()?;
        (inner.floor, inner.cold_oldest) = (None, None);
        inner.cold = self.store.get(Column::Meta, &self.meta_key("cold"))?.is_some();
        inner.partial = inner.cold;
        inner.log.clear();
        inner.log_bytes = 0;
        inner.generation += 1;
        inner.bound = Some(Bound {
            codec: RowCodec::new(self.operator, schema.clone(), keys, time)?,
            hot: Hot::new(schema.clone(), keys)?.timed(time),
            schema,
            keys,
            time,
        });
        let (mut from, until) = codec::operator_range(self.operator);
        loop {
            let page = self.store.page(Column::Log, &from, &until, 16)?;
            let Some(next) = page.next_key() else { break };
            for (key, block) in page.iter() {
                self.replay(&mut inner, key, block)?;
            }
            from = next;
            // Only this: a snapshot would be written behind `from` and read again.
            self.keep_to_budget(&mut inner, 0)?;
        }
        inner.rows = match inner.cold {
            false => inner.bound()?.hot.live() as u64,
            true => self.stored_count()?,
        };
        Ok(())
    }

    fn replay(&self, inner: &mut Inner, key: &[u8], block: &[u8]) -> Result<()> {
        let cold = inner.cold;
        let epoch = parse_block_key(key).map_or(0, |(epoch, _)| epoch);
        let bound = inner.bound_mut()?;
        let decoded = codec::decode_block(self.operator, key, block, &bound.schema);
        let (kind, rows) = match (decoded, &self.damage) {
            (Ok(decoded), _) => decoded,
            (Err(error), None) => return Err(error),
            (Err(_), Some(damage)) => {
                damage.note(codec::place_of_block(key));
                match codec::salvage_block(self.operator, key, block, &bound.schema) {
                    Some(salvaged) => salvaged,
                    None => return Ok(()),
                }
            }
        };
        if kind == BlockKind::Evicted {
            inner.evict(codec::instant_of(self.operator, &rows)?)?;
            inner.log.push(key.to_vec());
            inner.log_bytes += block.len();
            return Ok(());
        }
        let mut slots = Vec::new();
        bound.hot.intern(&rows.columns()[..bound.keys], rows.num_rows(), &mut slots)?;
        let slots = slots.into_iter().map(|slot| slot as u32).collect();
        match kind {
            BlockKind::Set => {
                bound.hot.set(rows, slots, epoch, true)?;
                bound.hot.merge_chunks()?;
            }
            BlockKind::Removed => bound.hot.remove(&rows, slots, epoch, cold)?,
            BlockKind::Evicted => {}
        }
        inner.log.push(key.to_vec());
        inner.log_bytes += block.len();
        Ok(())
    }

    fn stored_count(&self) -> Result<u64> {
        let count = self.store.get(Column::Meta, &self.meta_key("rows"))?;
        count.map_or(Ok(0), |count| parse_count(self.operator, count))
    }

    /// The changes are on disk: they become the committed state.
    fn apply(&self, staged: &StagedState, blocks: Vec<(Vec<u8>, usize)>) -> Result<()> {
        let mut inner = self.lock()?;
        let current = staged.generation == inner.generation;
        let cold = inner.cold;
        let bound = inner.bound_mut()?;
        let mut slots_of = |rows: &RecordBatch, slots: &[u32]| -> Result<Vec<u32>> {
            if current {
                return Ok(slots.to_vec());
            }
            let mut found = Vec::new();
            bound.hot.intern(&rows.columns()[..bound.keys], rows.num_rows(), &mut found)?;
            Ok(found.into_iter().map(|slot| slot as u32).collect())
        };
        let slots = slots_of(&staged.rows, &staged.slots)?;
        let removed = match &staged.removed {
            Some((keys, slots)) => Some((keys, slots_of(keys, slots)?)),
            None => None,
        };
        bound.hot.set(staged.rows.clone(), slots, staged.epoch, true)?;
        if let Some((keys, slots)) = removed {
            bound.hot.remove(keys, slots, staged.epoch, cold)?;
        }
        if let Some(eviction) = staged.evicted {
            inner.evict(eviction.until_us)?;
        }
        inner.rows = inner.rows.saturating_add_signed(staged.grown);
        for (key, bytes) in blocks {
            inner.log.push(key);
            inner.log_bytes += bytes;
        }
        Ok(())
    }
}

impl Inner {
    pub(super) fn bound(&self) -> Result<&Bound> {
        self.bound.as_ref().ok_or_else(unbound)
    }

    pub(super) fn bound_mut(&mut self) -> Result<&mut Bound> {
        self.bound.as_mut().ok_or_else(unbound)
    }
}

const META_PREFIX: &str = "state/";

pub(super) fn meta_key(operator: u32, what: &str) -> Vec<u8> {
    format!("{META_PREFIX}{operator}/{what}").into_bytes()
}

pub(super) fn parse_count(operator: u32, count: Vec<u8>) -> Result<u64> {
    let count = String::from_utf8(count).ok().and_then(|text| text.parse().ok());
    count.ok_or_else(|| codec::corrupt(operator, "its number of rows"))
}

pub(super) fn unknown_format(operator: u32, found: &[u8]) -> Error {
    let found = String::from_utf8_lossy(found);
    Error::Environment(Box::new(
        Diagnostic::new(
            "STATE_FORMAT",
            format!("the state of operator {operator} has format {found}, which this version does not read here"),
        )
        .help("run the version that wrote it, or drop the table and create it again to start over"),
    ))
}

fn unbound() -> Error {
    Error::internal("state was used before its columns were known")
}

impl StagedState {
    /// The operator that changed.
    pub fn operator(&self) -> u32 {
        self.table.number
    }

    /// The same changes, and rows that are forgotten with them. None of the rows set is among those.
    pub fn evicting(mut self, eviction: Eviction) -> StagedState {
        if eviction.rows > 0 {
            self.grown -= eviction.rows as i64;
            self.evicted = Some(eviction);
        }
        self
    }

    /// The epoch that changed it.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Keys with their new state columns.
    pub fn rows(&self) -> &RecordBatch {
        &self.rows
    }

    /// Slots of everything it changes, when they still mean anything.
    pub(super) fn changed_slots(&self, generation: u64) -> Result<Vec<u32>> {
        if self.generation != generation {
            return Err(Error::internal("state was scanned with changes staged on an older table"));
        }
        Ok(self.slots.iter().chain(self.removed.iter().flat_map(|(_, slots)| slots)).copied().collect())
    }

    /// Keys that are removed.
    pub fn removed(&self) -> Option<&RecordBatch> {
        self.removed.as_ref().map(|(keys, _)| keys)
    }

    /// Bytes it will add to the table.
    pub fn bytes(&self) -> usize {
        super::hot::bytes_of(&self.rows)
    }

    /// Makes the blocks of its commit beside what else the epoch does. Only once nothing more is added to it.
    pub fn encode_beside(&self) {
        let (rows, removed, evicted) = (self.rows.clone(), self.removed().cloned(), self.evicted);
        let blocks = self.blocks.clone();
        tokio::task::spawn_blocking(move || {
            // Who comes to commit meanwhile waits for the lock.
            let mut blocks = blocks.lock().unwrap_or_else(PoisonError::into_inner);
            if let Blocks::ToBeMade = *blocks {
                *blocks = Blocks::Made(blocks_of(&rows, removed.as_ref(), evicted));
            }
        });
    }

    /// First step of committing: makes room in the table, in writes of committed state only. May be repeated.
    pub fn prepare(&self) -> Result<()> {
        let mut inner = self.table.lock()?;
        let bytes = self.bytes();
        self.table.make_room(&mut inner, bytes)
    }

    /// Second step: adds the changes to the commit's batch. The receipt is for [`Self::apply`].
    pub fn write_into(&self, batch: &mut Batch) -> Result<Receipt> {
        let made = std::mem::replace(&mut *self.blocks.lock().unwrap_or_else(PoisonError::into_inner), Blocks::Taken);
        let made = match made {
            Blocks::Made(made) => made?,
            Blocks::ToBeMade | Blocks::Taken => blocks_of(&self.rows, self.removed(), self.evicted)?,
        };
        let mut blocks = Vec::new();
        for (sequence, block) in made.into_iter().enumerate() {
            let key = block_key(self.table.operator, self.epoch, sequence as u32);
            blocks.push((key.clone(), block.len()));
            batch.put(Column::Log, key, block);
        }
        if !blocks.is_empty() {
            let rows = self.table.lock()?.rows.saturating_add_signed(self.grown);
            batch.put(Column::Meta, self.table.meta_key("rows"), rows.to_string());
        }
        Ok(Receipt { blocks })
    }

    /// Third step, after the batch is on disk: the changes become visible.
    pub fn apply(&self, receipt: Receipt) -> Result<()> {
        self.table.apply(self, receipt.blocks)
    }
}

/// What [`StagedState::write_into`] wrote.
pub struct Receipt {
    blocks: Vec<(Vec<u8>, usize)>,
}

/// Hot and cold rows together. Columns of either may be missing when it found nothing.
fn both(mut hot: Stored, cold: Stored) -> Result<Stored> {
    if cold.positions.is_empty() {
        return Ok(hot);
    }
    if hot.positions.is_empty() {
        return Ok(cold);
    }
    hot.positions.extend(cold.positions);
    let joined = hot.columns.iter().zip(&cold.columns).map(|(a, b)| arrow::compute::concat(&[a.as_ref(), b.as_ref()]));
    Ok(Stored { columns: joined.collect::<Result<_, _>>()?, positions: hot.positions })
}

/// Rows of the store without those that were evicted.
fn alive(bound: &Bound, floor: Option<i64>, stored: Stored) -> Result<Stored> {
    let time = bound.time.and_then(|time| time.checked_sub(bound.keys));
    let (Some(floor), Some(column)) = (floor, time.and_then(|time| stored.columns.get(time))) else {
        return Ok(stored);
    };
    let times = times_of(column)?;
    let alive: BooleanArray = times.iter().map(|time| Some(time.is_none_or(|time| time > floor))).collect();
    let positions =
        stored.positions.iter().zip(alive.values()).filter(|(_, alive)| *alive).map(|(at, _)| *at).collect();
    let columns = stored.columns.iter().map(|column| filter(column, &alive)).collect::<Result<Vec<_>, _>>()?;
    Ok(Stored { positions, columns })
}

pub(super) const KEYS: &str = "alluvium.keys";
const TIME: &str = "alluvium.time";

/// The schema as pinned: nullability and metadata of the query do not matter to what is kept.
pub(super) fn pinned(schema: &Schema, keys: usize, time: Option<usize>) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| Field::new(field.name(), field.data_type().clone(), true));
    let mut metadata = HashMap::from([(KEYS.to_string(), keys.to_string())]);
    metadata.extend(time.map(|time| (TIME.to_string(), time.to_string())));
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), metadata))
}

fn time_column(operator: u32, schema: &Schema) -> Result<Option<usize>> {
    let Some(text) = schema.metadata().get(TIME) else { return Ok(None) };
    let time = text.parse().ok().filter(|time| *time < schema.fields().len());
    time.map(Some).ok_or_else(|| codec::corrupt(operator, "its schema"))
}

fn key_count(operator: u32, schema: &Schema) -> Result<usize> {
    let keys = schema.metadata().get(KEYS).and_then(|text| text.parse().ok());
    keys.filter(|keys| *keys <= schema.fields().len()).ok_or_else(|| codec::corrupt(operator, "its schema"))
}

pub(super) fn differs(operator: u32, stored: &Schema, wanted: &Schema) -> Error {
    let list = |schema: &Schema| -> Vec<String> {
        let keys = key_count(operator, schema).unwrap_or(0);
        let name = |(at, field): (usize, &Arc<Field>)| {
            format!("{} {} {}", if at < keys { "key" } else { "value" }, field.name(), field.data_type())
        };
        schema.fields().iter().enumerate().map(name).collect()
    };
    let (stored, wanted) = (list(stored), list(wanted));
    let missing = |from: &[String], other: &[String]| {
        let missing: Vec<&str> = from.iter().filter(|field| !other.contains(field)).map(String::as_str).collect();
        if missing.is_empty() { "the same columns in another order".to_string() } else { missing.join(", ") }
    };
    Error::Environment(Box::new(
        Diagnostic::new(
            "STATE_SCHEMA",
            format!(
                "the state of operator {operator} does not fit the query: it keeps {}; the query needs {}",
                missing(&stored, &wanted),
                missing(&wanted, &stored)
            ),
        )
        .help("keep the grouping columns and aggregates as they were, or use CREATE OR REPLACE to start over"),
    ))
}
