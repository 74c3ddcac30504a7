//! Merging one epoch's sessions with each other and with those that are stored.
//!
//! Rows come with the session that each would make alone. Sessions of one key that overlap or touch become one, and so do
//! their partial states; that may be done in any portions, so what is gathered is merged whenever it has doubled, and an
//! epoch holds its own sessions, not its rows. At the end the bounds of the touched keys say which stored sessions meet
//! new ones; only those are read. A session whose bounds change is another row of state, the former one is removed.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, RecordBatch, StructArray, TimestampMicrosecondArray,
    UInt32Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{concat_batches, filter, filter_record_batch, take, take_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType};
use datafusion::common::{Result as DfResult, internal_err};
use datafusion::physical_plan::aggregates::group_values::new_group_values;
use datafusion::physical_plan::aggregates::order::GroupOrdering;

use super::merge::Aggregates;
use crate::state::{Eviction, StagedState, StateTable, Touched, bytes_of, canonical_keys};

/// What an operator keeps.
#[derive(Clone)]
pub(super) struct SessionTables {
    /// A row for each session.
    pub sessions: Arc<StateTable>,
    /// The bounds of each key's sessions, in order: start, end, start, end, …
    pub keys: Arc<StateTable>,
}

/// Where in a row of partial state its session is.
#[derive(Debug, Clone)]
pub(super) struct Sessions {
    /// Key and state columns.
    pub schema: SchemaRef,
    /// Key columns, the session among them.
    pub keys: usize,
    /// The session's column.
    pub at: usize,
}

/// Start and end in microseconds.
type Bounds = (i64, i64);

impl Sessions {
    /// Key columns without the session.
    fn others(&self, columns: &[ArrayRef]) -> Vec<ArrayRef> {
        let others = columns.iter().take(self.keys).enumerate().filter(|(at, _)| *at != self.at);
        others.map(|(_, column)| column.clone()).collect()
    }

    /// Key columns with sessions among them.
    fn with_sessions(&self, mut others: Vec<ArrayRef>, bounds: &[Bounds]) -> DfResult<Vec<ArrayRef>> {
        let DataType::Struct(fields) = self.schema.field(self.at).data_type() else {
            return internal_err!("a session is a struct");
        };
        let zone = fields.first().map_or(DataType::Null, |field| field.data_type().clone());
        let times = |times: Vec<i64>| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from(times).with_data_type(zone.clone()))
        };
        let starts = times(bounds.iter().map(|(start, _)| *start).collect());
        let ends = times(bounds.iter().map(|(_, end)| *end).collect());
        let session = StructArray::try_new(fields.clone(), vec![starts, ends], None)?;
        others.insert(self.at, Arc::new(session));
        Ok(others)
    }

    /// The session of each row.
    fn bounds(&self, columns: &[ArrayRef]) -> DfResult<Vec<Bounds>> {
        let session = columns.get(self.at).and_then(|column| column.as_struct_opt());
        let times = |at: usize| session?.columns().get(at)?.as_primitive_opt::<TimestampMicrosecondType>();
        let (Some(starts), Some(ends)) = (times(0), times(1)) else { return internal_err!("a session has two bounds") };
        Ok(starts.values().iter().copied().zip(ends.values().iter().copied()).collect())
    }

    /// Numbers rows by their key without the session.
    fn owners(&self, columns: &[ArrayRef], rows: usize) -> DfResult<Vec<usize>> {
        let others = self.others(columns);
        let mut owners = Vec::new();
        if others.is_empty() {
            owners.resize(rows, 0);
            return Ok(owners);
        }
        let fields = self.schema.fields().iter().take(self.keys).enumerate().filter(|(at, _)| *at != self.at);
        let schema = Schema::new(fields.map(|(_, field)| field.clone()).collect::<Vec<_>>());
        new_group_values(Arc::new(schema), &GroupOrdering::None)?.intern(&others, &mut owners)?;
        Ok(owners)
    }
}

/// Gathered rows are merged when there are so many, and again when what was left has doubled.
const ROWS_MIN: usize = 65_536;

/// And when they take so many bytes: they are concatenated, and text columns have 32-bit offsets.
const BYTES_MAX: usize = 64 << 20;

/// The sessions of one run of one epoch.
pub(super) struct SessionMerge {
    aggregates: Aggregates,
    sessions: Sessions,
    gathered: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
    rows_max: usize,
    bytes_max: usize,
}

/// What a run leaves.
pub(super) struct Merged {
    /// Changes of the sessions.
    pub sessions: StagedState,
    /// Changes of the keys' bounds.
    pub keys: StagedState,
    /// Sessions that are over, as rows of state.
    pub done: Vec<RecordBatch>,
}

impl SessionMerge {
    pub(super) fn new(aggregates: Aggregates, sessions: Sessions) -> SessionMerge {
        SessionMerge {
            aggregates,
            sessions,
            gathered: Vec::new(),
            rows: 0,
            bytes: 0,
            rows_max: ROWS_MIN,
            bytes_max: BYTES_MAX,
        }
    }

    /// Takes rows of partial state.
    pub(super) fn push(&mut self, batch: &RecordBatch) -> DfResult<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let mut columns = canonical_keys(&batch.columns()[..self.sessions.keys]);
        columns.extend_from_slice(&batch.columns()[self.sessions.keys..]);
        let batch = RecordBatch::try_new(self.sessions.schema.clone(), columns)?;
        self.rows += batch.num_rows();
        self.bytes += bytes_of(&batch);
        self.gathered.push(batch);
        if self.rows >= self.rows_max || self.bytes >= self.bytes_max {
            self.merge_gathered()?;
        }
        Ok(())
    }

    /// Memory of what is gathered, and of merging it.
    pub(super) fn bytes(&self) -> usize {
        2 * self.bytes
    }

    /// The sessions so far, apart from each other, in the order of their keys' numbers and time.
    fn merge_gathered(&mut self) -> DfResult<(RecordBatch, Vec<usize>)> {
        let rows = concat_batches(&self.sessions.schema, &self.gathered)?;
        let owners = self.sessions.owners(rows.columns(), rows.num_rows())?;
        let (rows, owners) = self.merge(&rows, &owners)?;
        self.rows = rows.num_rows();
        self.bytes = bytes_of(&rows);
        self.rows_max = ROWS_MIN.max(2 * self.rows);
        self.bytes_max = BYTES_MAX.max(2 * self.bytes);
        self.gathered = vec![rows.clone()];
        Ok((rows, owners))
    }

    /// Makes one row of rows with the same owner whose sessions touch, in the order of owner and time.
    fn merge(&self, rows: &RecordBatch, owners: &[usize]) -> DfResult<(RecordBatch, Vec<usize>)> {
        let bounds = self.sessions.bounds(rows.columns())?;
        let sessions = owners.iter().zip(bounds).zip(0_u32..);
        let mut order: Vec<(usize, Bounds, u32)> =
            sessions.map(|((owner, bounds), row)| (*owner, bounds, row)).collect();
        order.sort_unstable();
        let mut groups = Vec::with_capacity(order.len());
        let (mut firsts, mut merged, mut merged_owners) = (Vec::new(), Vec::<Bounds>::new(), Vec::<usize>::new());
        for (position, (owner, (start, end), _)) in order.iter().copied().enumerate() {
            match merged.last_mut() {
                Some(open) if merged_owners.last() == Some(&owner) && start <= open.1 => open.1 = open.1.max(end),
                _ => {
                    firsts.push(position as u32);
                    merged.push((start, end));
                    merged_owners.push(owner);
                }
            }
            groups.push(merged.len() - 1);
        }
        let order = UInt32Array::from_iter_values(order.into_iter().map(|(.., row)| row));
        let sorted = take_record_batch(rows, &order)?;
        if merged.len() == sorted.num_rows() {
            return Ok((sorted, merged_owners));
        }
        let firsts = UInt32Array::from(firsts);
        let others = self.sessions.others(sorted.columns());
        let others = others.iter().map(|column| take(column, &firsts, None)).collect::<Result<Vec<_>, _>>()?;
        let mut columns = self.sessions.with_sessions(others, &merged)?;
        columns.extend(self.aggregates.merged_states(sorted.columns(), &groups, merged.len())?);
        Ok((RecordBatch::try_new(self.sessions.schema.clone(), columns)?, merged_owners))
    }

    /// Brings stored sessions in and stages what there is then, without what is over at `until_us`.
    pub(super) fn finish(mut self, tables: &SessionTables, epoch: u64, until_us: Option<i64>) -> DfResult<Merged> {
        let (new, owners) = self.merge_gathered()?;
        let mut keys = TouchedKeys::begin(tables)?;
        keys.touch(&self.sessions, &new, &owners)?;
        let (met, met_owners) = keys.meet(&self.sessions.bounds(new.columns())?, &owners);

        let (run, mut touched, mut scratch) = (tables.sessions.begin_run()?, Vec::new(), Touched::default());
        let stored = self.stored(tables, &keys, &met, &met_owners, (run, &mut touched, &mut scratch))?;
        let all = concat_batches(&self.sessions.schema, [&stored, &new])?;
        let all_owners: Vec<usize> = met_owners.iter().chain(&owners).copied().collect();
        let (rows, owners) = self.merge(&all, &all_owners)?;
        drop((new, all));

        let bounds = self.sessions.bounds(rows.columns())?;
        let row_keys = &rows.columns()[..self.sessions.keys];
        tables.sessions.touch(run, row_keys, rows.num_rows(), &mut touched, &mut scratch)?;
        let stays: BooleanArray =
            bounds.iter().map(|(_, end)| Some(until_us.is_none_or(|until| *end > until))).collect();
        let (mut slots, mut added) = (Vec::new(), 0);
        let mut gone = vec![true; met.len()];
        for (row, group) in scratch.groups.iter().enumerate().filter(|(row, _)| stays.value(*row)) {
            slots.push(touched[*group]);
            keys.add(owners[row], bounds[row]);
            match gone.get_mut(*group) {
                Some(gone) => *gone = false,
                None => added += 1,
            }
        }
        let mut done = Vec::new();
        let mut eviction = None;
        if let Some(until_us) = until_us {
            let expired = tables.sessions.expired(until_us, Some(run), true)?;
            for rows in &expired.batches {
                let owners = self.sessions.owners(rows.columns(), rows.num_rows())?;
                keys.touch(&self.sessions, rows, &owners)?;
            }
            keys.forget(until_us);
            eviction = Some(Eviction { until_us, rows: expired.rows });
            done = expired.batches;
            if stays.true_count() < stays.len() {
                done.push(filter_record_batch(&rows, &arrow::compute::not(&stays)?)?);
            }
        }
        let kept = filter_record_batch(&rows, &stays)?.columns().to_vec();
        let removed = removed(&stored.columns()[..self.sessions.keys], &touched, gone)?;
        let staged = tables.sessions.stage(epoch, kept, slots, added, removed)?;
        let staged = match eviction {
            Some(eviction) => staged.evicting(eviction),
            None => staged,
        };
        Ok(Merged { sessions: staged, keys: keys.stage(epoch)?, done })
    }

    /// Stored rows of the sessions `met`, in their order. They are the first that `run` touches.
    fn stored(
        &self,
        tables: &SessionTables,
        keys: &TouchedKeys<'_>,
        met: &[Bounds],
        owners: &[usize],
        (run, touched, scratch): (u32, &mut Vec<u32>, &mut Touched),
    ) -> DfResult<RecordBatch> {
        if met.is_empty() {
            return Ok(RecordBatch::new_empty(self.sessions.schema.clone()));
        }
        let mut columns = self.sessions.with_sessions(keys.columns_of(owners)?, met)?;
        tables.sessions.touch(run, &columns, met.len(), touched, scratch)?;
        let stored = tables.sessions.stored(touched, &columns)?;
        let mut places = vec![None; met.len()];
        for (place, position) in stored.positions.iter().enumerate() {
            places[*position as usize] = Some(place as u32);
        }
        if touched.len() != met.len() || places.contains(&None) {
            return Err(crate::state::corrupt(tables.sessions.operator(), "a session that one of its keys has").into());
        }
        let places = UInt32Array::from(places);
        for column in &stored.columns {
            columns.push(take(column, &places, None)?);
        }
        Ok(RecordBatch::try_new(self.sessions.schema.clone(), columns)?)
    }
}

/// Key columns and slots of the rows that are `gone`, which are the first of `touched`.
fn removed(keys: &[ArrayRef], touched: &[u32], gone: Vec<bool>) -> DfResult<Option<(Vec<ArrayRef>, Vec<u32>)>> {
    let slots: Vec<u32> = touched.iter().zip(&gone).filter(|(_, gone)| **gone).map(|(slot, _)| *slot).collect();
    if slots.is_empty() {
        return Ok(None);
    }
    let gone = BooleanArray::from(gone);
    let keys = keys.iter().map(|column| filter(column, &gone)).collect::<Result<Vec<_>, _>>()?;
    Ok(Some((keys, slots)))
}

/// Keys whose sessions change in a run, with the bounds of all their sessions.
struct TouchedKeys<'a> {
    table: &'a Arc<StateTable>,
    run: u32,
    touched: Vec<u32>,
    scratch: Touched,
    /// Key columns, in pieces.
    columns: Vec<Vec<ArrayRef>>,
    /// By the keys' numbers; in order of time until a session is added.
    bounds: Vec<Vec<Bounds>>,
    /// Which of them have a row.
    known: Vec<bool>,
}

impl<'a> TouchedKeys<'a> {
    fn begin(tables: &'a SessionTables) -> DfResult<TouchedKeys<'a>> {
        Ok(TouchedKeys {
            table: &tables.keys,
            run: tables.keys.begin_run()?,
            touched: Vec::new(),
            scratch: Touched::default(),
            columns: Vec::new(),
            bounds: Vec::new(),
            known: Vec::new(),
        })
    }

    /// Takes up the keys of rows, which `owners` number. The first keys that are touched get those very numbers, if rows
    /// come in their order.
    fn touch(&mut self, sessions: &Sessions, rows: &RecordBatch, owners: &[usize]) -> DfResult<()> {
        let mut firsts = Vec::new();
        let mut seen = vec![false; owners.iter().max().map_or(0, |owner| owner + 1)];
        for (row, owner) in owners.iter().enumerate() {
            if !std::mem::replace(&mut seen[*owner], true) {
                firsts.push(row as u32);
            }
        }
        if firsts.is_empty() {
            return Ok(());
        }
        let firsts = UInt32Array::from(firsts);
        let keys = sessions.others(rows.columns());
        let keys = keys.iter().map(|column| take(column, &firsts, None)).collect::<Result<Vec<_>, _>>()?;
        let before = self.touched.len();
        self.table.touch(self.run, &keys, firsts.len(), &mut self.touched, &mut self.scratch)?;
        let fresh = UInt32Array::from(self.scratch.fresh.clone());
        let keys = keys.iter().map(|column| take(column, &fresh, None)).collect::<Result<Vec<_>, _>>()?;
        let stored = self.table.stored(&self.touched[before..], &keys)?;
        self.columns.push(keys);
        self.bounds.resize(self.touched.len(), Vec::new());
        self.known.resize(self.touched.len(), false);
        let Some(lists) = stored.columns.first().and_then(|column| column.as_list_opt::<i32>()) else { return Ok(()) };
        for (place, position) in stored.positions.iter().enumerate() {
            let list = lists.value(place);
            let Some(times) = list.as_primitive_opt::<Int64Type>() else { return internal_err!("bounds are numbers") };
            let (pairs, _) = times.values().as_chunks::<2>();
            self.bounds[before + *position as usize] = pairs.iter().map(|[start, end]| (*start, *end)).collect();
            self.known[before + *position as usize] = true;
        }
        Ok(())
    }

    /// Takes the stored sessions out that become one with `new` ones, which come by owner and in order of time.
    fn meet(&mut self, new: &[Bounds], owners: &[usize]) -> (Vec<Bounds>, Vec<usize>) {
        let (mut met, mut met_owners) = (Vec::new(), Vec::new());
        let mut from = 0;
        while from < new.len() {
            let owner = owners[from];
            let length = owners[from..].iter().take_while(|other| **other == owner).count();
            let stays = apart(&self.bounds[owner], &new[from..from + length]);
            for (session, stays) in self.bounds[owner].iter().zip(&stays) {
                if !stays {
                    met.push(*session);
                    met_owners.push(owner);
                }
            }
            let mut stays = stays.into_iter();
            self.bounds[owner].retain(|_| stays.next().unwrap_or(true));
            from += length;
        }
        (met, met_owners)
    }

    fn add(&mut self, owner: usize, session: Bounds) {
        self.bounds[owner].push(session);
    }

    /// Leaves out what is over.
    fn forget(&mut self, until_us: i64) {
        self.bounds.iter_mut().for_each(|bounds| bounds.retain(|(_, end)| *end > until_us));
    }

    /// Key columns of keys by their numbers.
    fn columns_of(&self, owners: &[usize]) -> DfResult<Vec<ArrayRef>> {
        let owners = UInt32Array::from_iter_values(owners.iter().map(|owner| *owner as u32));
        self.all_columns()?.iter().map(|column| Ok(take(column, &owners, None)?)).collect()
    }

    fn all_columns(&self) -> DfResult<Vec<ArrayRef>> {
        let Some(width) = self.columns.first().map(Vec::len) else { return Ok(Vec::new()) };
        let whole = |at: usize| {
            let parts: Vec<&dyn Array> = self.columns.iter().map(|columns| columns[at].as_ref()).collect();
            Ok(arrow::compute::concat(&parts)?)
        };
        (0..width).map(whole).collect()
    }

    fn stage(mut self, epoch: u64) -> DfResult<StagedState> {
        let columns = match self.columns.is_empty() {
            true => self.table.schema()?.map_or(Vec::new(), |(schema, keys)| {
                schema
                    .fields()
                    .iter()
                    .take(keys)
                    .map(|field| arrow::array::new_empty_array(field.data_type()))
                    .collect()
            }),
            false => self.all_columns()?,
        };
        self.bounds.iter_mut().for_each(|bounds| bounds.sort_unstable());
        let has: BooleanArray = self.bounds.iter().map(|bounds| Some(!bounds.is_empty())).collect();
        let gone: BooleanArray =
            self.bounds.iter().zip(&self.known).map(|(bounds, known)| Some(bounds.is_empty() && *known)).collect();
        let of = |mask: &BooleanArray| -> DfResult<(Vec<ArrayRef>, Vec<u32>)> {
            let columns = columns.iter().map(|column| filter(column, mask)).collect::<Result<Vec<_>, _>>()?;
            let slots = self.touched.iter().zip(mask.values()).filter(|(_, wanted)| *wanted);
            Ok((columns, slots.map(|(slot, _)| *slot).collect()))
        };
        let (mut rows, slots) = of(&has)?;
        rows.push(lists(self.bounds.iter().filter(|bounds| !bounds.is_empty()))?);
        let new = has.values().iter().zip(&self.known).filter(|(has, known)| *has && !**known).count() as u64;
        Ok(self.table.stage(epoch, rows, slots, new, Some(of(&gone)?))?)
    }
}

fn lists<'a>(bounds: impl Iterator<Item = &'a Vec<Bounds>> + Clone) -> DfResult<ArrayRef> {
    let lengths = OffsetBuffer::from_lengths(bounds.clone().map(|bounds| 2 * bounds.len()));
    let values = Int64Array::from_iter_values(bounds.flatten().flat_map(|(start, end)| [*start, *end]));
    let item = Arc::new(Field::new_list_field(DataType::Int64, true));
    Ok(Arc::new(ListArray::try_new(item, lengths, Arc::new(values), None)?))
}

/// Which of the `stored` sessions stay what they are when `new` ones come. Both are in order of time and apart.
fn apart(stored: &[Bounds], new: &[Bounds]) -> Vec<bool> {
    let mut stays = vec![true; stored.len()];
    let (mut at, mut next) = (0, 0);
    while at < stored.len() && next < new.len() {
        // What the next session, and whatever it meets, becomes.
        let (mut end, mut has_new) = (i64::MIN, false);
        let mut members: Range<usize> = at..at;
        loop {
            let stored_start = stored.get(at).map(|(start, _)| *start);
            let new_start = new.get(next).map(|(start, _)| *start);
            let is_stored = match (stored_start, new_start) {
                (Some(stored), Some(new)) => stored <= new,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => break,
            };
            let Some((start, until)) = (if is_stored { stored.get(at) } else { new.get(next) }).copied() else { break };
            if start > end && (has_new || !members.is_empty()) {
                break;
            }
            end = end.max(until);
            match is_stored {
                true => {
                    at += 1;
                    members.end = at;
                }
                false => {
                    next += 1;
                    has_new = true;
                }
            }
        }
        if has_new {
            stays[members].fill(false);
        }
    }
    stays
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::apart;

    #[test]
    fn sessions_meet_where_they_touch_and_through_each_other() {
        let stored = [(0, 10), (20, 30), (40, 50)];
        assert_eq!(apart(&stored, &[(11, 19)]), [true, true, true]);
        assert_eq!(apart(&stored, &[(10, 19)]), [false, true, true]);
        assert_eq!(apart(&stored, &[(10, 20)]), [false, false, true]);
        assert_eq!(apart(&stored, &[(35, 36), (50, 51)]), [true, true, false]);
        assert_eq!(apart(&stored, &[(-5, 60)]), [false, false, false]);
        assert_eq!(apart(&stored, &[(22, 23)]), [true, false, true]);
        // The first new one reaches the second by way of a stored one.
        assert_eq!(apart(&[(5, 30)], &[(0, 6), (30, 31)]), [false]);
        assert_eq!(apart(&stored, &[]), [true, true, true]);
        assert!(apart(&[], &[(0, 1)]).is_empty());
        assert_eq!(apart(&[(0, 10), (20, 30)], &[(-9, -1), (100, 101)]), [true, true]);
    }
}
