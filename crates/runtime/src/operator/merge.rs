//! Merging one epoch's partial states with what is stored, and turning state into results.
//!
//! Per batch: the table numbers the keys, stored state of keys seen for the first time goes into the accumulators,
//! then the batch does. So stored state always comes before the epoch's, and each stored row is read once. While state
//! is larger than memory, batches are gathered first: keys sorted over more rows share the blocks that are read.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt32Array, new_empty_array};
use arrow::compute::{cast, concat, concat_batches, filter, not, take};
use arrow::datatypes::SchemaRef;
use datafusion::common::Result as DfResult;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::GroupsAccumulatorAdapter;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

use crate::error::Result;
use crate::state::{Eviction, StagedState, StateTable, Touched, canonical_keys, times_of};

/// The aggregates of one operator and where their state columns are.
#[derive(Debug, Clone)]
pub(super) struct Aggregates {
    functions: Vec<Arc<AggregateFunctionExpr>>,
    /// Columns of each function within key and state columns.
    columns: Vec<Range<usize>>,
    pub(super) keys: usize,
}

impl Aggregates {
    pub(super) fn try_new(functions: Vec<Arc<AggregateFunctionExpr>>, keys: usize) -> DfResult<Aggregates> {
        let mut columns = Vec::with_capacity(functions.len());
        let mut at = keys;
        for function in &functions {
            let width = function.state_fields()?.len();
            columns.push(at..at + width);
            at += width;
        }
        Ok(Aggregates { functions, columns, keys })
    }

    /// One accumulator per function, for any number of groups.
    fn accumulators(&self) -> DfResult<Vec<Box<dyn GroupsAccumulator>>> {
        let accumulator = |function: &Arc<AggregateFunctionExpr>| -> DfResult<Box<dyn GroupsAccumulator>> {
            // Without keys the partial states come from the one-group accumulators; their kind merges them.
            if self.keys > 0 && function.groups_accumulator_supported() {
                return function.create_groups_accumulator();
            }
            let function = function.clone();
            Ok(Box::new(GroupsAccumulatorAdapter::new(move || function.create_accumulator())))
        };
        self.functions.iter().map(accumulator).collect()
    }

    fn merge(
        &self,
        into: &mut [Box<dyn GroupsAccumulator>],
        columns: &[ArrayRef],
        groups: &[usize],
        total: usize,
    ) -> DfResult<()> {
        for (accumulator, range) in into.iter_mut().zip(&self.columns) {
            accumulator.merge_batch(&columns[range.clone()], groups, total)?;
        }
        Ok(())
    }

    /// Partial states of `total` groups from key and state columns, whose rows belong to `groups`.
    pub(super) fn merged_states(
        &self,
        columns: &[ArrayRef],
        groups: &[usize],
        total: usize,
    ) -> DfResult<Vec<ArrayRef>> {
        let mut accumulators = self.accumulators()?;
        self.merge(&mut accumulators, columns, groups, total)?;
        let mut states = Vec::new();
        for accumulator in &mut accumulators {
            states.extend(accumulator.state(EmitTo::All)?);
        }
        Ok(states)
    }

    /// Results of rows of state, one per row: keys, then what each function says.
    pub(super) fn evaluate(&self, rows: &RecordBatch, schema: &SchemaRef) -> DfResult<RecordBatch> {
        let mut accumulators = self.accumulators()?;
        let groups: Vec<usize> = (0..rows.num_rows()).collect();
        self.merge(&mut accumulators, rows.columns(), &groups, groups.len())?;
        let mut columns = rows.columns()[..self.keys].to_vec();
        for accumulator in &mut accumulators {
            columns.push(accumulator.evaluate(EmitTo::All)?);
        }
        let typed =
            columns.iter().zip(schema.fields()).map(|(column, field)| match column.data_type() == field.data_type() {
                true => Ok(column.clone()),
                false => cast(column, field.data_type()),
            });
        Ok(RecordBatch::try_new(schema.clone(), typed.collect::<Result<_, _>>()?)?)
    }
}

/// Rows gathered before the store is asked, while it has rows that are not in memory.
const ROWS_PER_LOOKUP: usize = 262_144;

/// Bytes gathered at most, whatever the rows: they are concatenated, and text columns have 32-bit offsets.
const BYTES_PER_LOOKUP: usize = 64 << 20;

/// The merge of one run of one epoch.
pub(super) struct Merge {
    aggregates: Aggregates,
    table: Arc<StateTable>,
    schema: SchemaRef,
    run: u32,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    /// Slots of the keys met, by the table's number.
    touched: Vec<u32>,
    /// The accumulators' group of each key, by the table's number. Accumulators may take it that every new group of a
    /// call has a row in that call (DataFusion's do, to tell which groups are NULL), so among the keys of a batch those
    /// with stored state get their groups first.
    group_of: Vec<usize>,
    /// Slots by group.
    slots: Vec<u32>,
    /// Key columns by group, in pieces.
    keys: Vec<Vec<ArrayRef>>,
    keys_bytes: usize,
    /// Which of them had state, by group.
    known: Vec<bool>,
    scratch: Touched,
    gathers: bool,
    gathered: Vec<RecordBatch>,
    gathered_rows: usize,
    gathered_bytes: usize,
}

impl Merge {
    pub(super) fn begin(aggregates: Aggregates, table: Arc<StateTable>, schema: SchemaRef) -> DfResult<Merge> {
        Ok(Merge {
            run: table.begin_run()?,
            gathers: table.is_partial()?,
            gathered: Vec::new(),
            gathered_rows: 0,
            gathered_bytes: 0,
            accumulators: aggregates.accumulators()?,
            aggregates,
            table,
            schema,
            touched: Vec::new(),
            group_of: Vec::new(),
            slots: Vec::new(),
            keys: Vec::new(),
            keys_bytes: 0,
            known: Vec::new(),
            scratch: Touched::default(),
        })
    }

    /// Takes a batch of key and partial-state columns; a key may come any number of times.
    pub(super) fn push(&mut self, batch: RecordBatch) -> DfResult<()> {
        if !self.gathers {
            return self.merge(&batch);
        }
        self.gathered_rows += batch.num_rows();
        self.gathered_bytes += batch.get_array_memory_size();
        self.gathered.push(batch);
        if self.gathered_rows < ROWS_PER_LOOKUP && self.gathered_bytes < BYTES_PER_LOOKUP {
            return Ok(());
        }
        self.merge_gathered()
    }

    fn merge_gathered(&mut self) -> DfResult<()> {
        let gathered = std::mem::take(&mut self.gathered);
        (self.gathered_rows, self.gathered_bytes) = (0, 0);
        match gathered.first() {
            Some(first) => self.merge(&concat_batches(&first.schema(), &gathered)?),
            None => Ok(()),
        }
    }

    fn merge(&mut self, batch: &RecordBatch) -> DfResult<()> {
        let keys = canonical_keys(&batch.columns()[..self.aggregates.keys]);
        self.meet(&keys, batch.num_rows())?;
        let groups: Vec<usize> = self.scratch.groups.iter().map(|number| self.group_of[*number]).collect();
        self.aggregates.merge(&mut self.accumulators, batch.columns(), &groups, self.touched.len())
    }

    /// Numbers the keys and brings in the stored state of new ones.
    fn meet(&mut self, keys: &[ArrayRef], rows: usize) -> DfResult<()> {
        let before = self.touched.len();
        self.table.touch(self.run, keys, rows, &mut self.touched, &mut self.scratch)?;
        let fresh = self.scratch.fresh.len();
        if fresh == 0 {
            return Ok(());
        }
        let keys: Vec<ArrayRef> = if fresh == rows {
            keys.to_vec()
        } else {
            let fresh = UInt32Array::from(self.scratch.fresh.clone());
            keys.iter().map(|column| take(column, &fresh, None)).collect::<Result<_, _>>()?
        };
        let stored = self.table.stored(&self.touched[before..], &keys)?;
        let known = stored.positions.len();
        let order = self.number(before, &stored.positions);
        if known > 0 {
            let groups: Vec<usize> = (before..before + known).collect();
            // Functions know their columns behind the keys, which stored state comes without.
            let absent = keys.iter().map(|column| new_empty_array(column.data_type()));
            let columns: Vec<ArrayRef> = absent.chain(stored.columns).collect();
            self.aggregates.merge(&mut self.accumulators, &columns, &groups, before + known)?;
        }
        self.known.resize(before + known, true);
        self.known.resize(before + fresh, false);
        let moved = order.iter().enumerate().any(|(at, from)| at != *from as usize);
        self.keys.push(if moved {
            let order = UInt32Array::from(order);
            keys.iter().map(|column| take(column, &order, None)).collect::<Result<_, _>>()?
        } else {
            keys
        });
        Ok(())
    }

    /// Gives the keys behind `before` their groups: those at the positions `known` first. Returns the positions in the
    /// order of their groups.
    fn number(&mut self, before: usize, known: &[u32]) -> Vec<u32> {
        let fresh = self.touched.len() - before;
        let mut is_known = vec![false; fresh];
        known.iter().for_each(|position| is_known[*position as usize] = true);
        let unknown = (0..fresh as u32).filter(|position| !is_known[*position as usize]);
        let order: Vec<u32> = known.iter().copied().chain(unknown).collect();
        self.group_of.resize(before + fresh, 0);
        for (at, position) in order.iter().enumerate() {
            self.group_of[before + *position as usize] = before + at;
            self.slots.push(self.touched[before + *position as usize]);
        }
        order
    }

    /// Memory of the accumulators and keys so far.
    pub(super) fn bytes(&self) -> usize {
        let accumulators: usize = self.accumulators.iter().map(|accumulator| accumulator.size()).sum();
        accumulators + self.gathered_bytes + self.keys_bytes + self.touched.len() * size_of::<u32>()
    }

    /// The new state of every key met. Without GROUP BY there is one, even if nothing came.
    pub(super) fn finish(mut self, epoch: u64) -> DfResult<StagedState> {
        let columns = self.columns()?;
        let new = self.known.iter().filter(|known| !**known).count() as u64;
        Ok(self.table.stage(epoch, columns, self.slots, new, None)?)
    }

    /// [`Self::finish`], without the keys whose time, in key column `time`, the watermark has reached: they and stored
    /// rows like them are forgotten, and given as rows of state.
    pub(super) fn finish_until(
        mut self,
        epoch: u64,
        time: usize,
        until_us: i64,
    ) -> DfResult<(StagedState, Vec<RecordBatch>)> {
        let columns = self.columns()?;
        let (over, stays) = over(&columns[time], until_us)?;
        let expired = self.table.expired(until_us, Some(self.run), true)?;
        let mut done = expired.batches;
        if over.true_count() > 0 {
            done.push(RecordBatch::try_new(self.schema.clone(), filtered(&columns, &over)?)?);
        }
        Ok((self.stage_until(epoch, until_us, (&columns, &stays), expired.rows)?, done))
    }

    /// [`Self::finish_until`], where what is over comes out otherwise: every row of a key met, and the number of the run.
    pub(super) fn finish_keeping(
        mut self,
        epoch: u64,
        time: usize,
        until_us: i64,
    ) -> DfResult<(StagedState, RecordBatch, u32)> {
        let columns = self.columns()?;
        let (_, stays) = over(&columns[time], until_us)?;
        let expired = self.table.expired(until_us, Some(self.run), false)?;
        let staged = self.stage_until(epoch, until_us, (&columns, &stays), expired.rows)?;
        Ok((staged, RecordBatch::try_new(self.schema.clone(), columns)?, self.run))
    }

    /// Stages the rows that stay; the others, and `expired` stored ones, are forgotten.
    fn stage_until(
        &self,
        epoch: u64,
        until_us: i64,
        (columns, stays): (&[ArrayRef], &BooleanArray),
        expired: u64,
    ) -> DfResult<StagedState> {
        let (mut rows, mut new) = (expired, 0);
        let mut slots = Vec::with_capacity(stays.true_count());
        for (group, stays) in stays.values().iter().enumerate() {
            let known = self.known.get(group).copied().unwrap_or(false);
            rows += u64::from(known && !stays);
            new += u64::from(!known && stays);
            if stays {
                slots.extend(self.slots.get(group));
            }
        }
        let staged = self.table.stage(epoch, filtered(columns, stays)?, slots, new, None)?;
        Ok(staged.evicting(Eviction { until_us, rows }))
    }

    /// Key and state columns of every key met, by group.
    fn columns(&mut self) -> DfResult<Vec<ArrayRef>> {
        self.merge_gathered()?;
        if self.aggregates.keys == 0 && self.touched.is_empty() {
            self.meet(&[], 1)?;
            let empty: Vec<ArrayRef> =
                self.schema.fields().iter().map(|field| new_empty_array(field.data_type())).collect();
            self.aggregates.merge(&mut self.accumulators, &empty, &[], 1)?;
        }
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for at in 0..self.aggregates.keys {
            let parts: Vec<&dyn Array> = self.keys.iter().map(|keys| keys[at].as_ref()).collect();
            columns.push(if parts.is_empty() {
                new_empty_array(self.schema.field(at).data_type())
            } else {
                concat(&parts)?
            });
        }
        for (accumulator, range) in self.accumulators.iter_mut().zip(&self.aggregates.columns) {
            if self.touched.is_empty() {
                columns.extend(range.clone().map(|at| new_empty_array(self.schema.field(at).data_type())));
            } else {
                columns.extend(accumulator.state(EmitTo::All)?);
            }
        }
        Ok(columns)
    }
}

/// Which times the watermark has reached, and which not.
fn over(times: &ArrayRef, until_us: i64) -> DfResult<(BooleanArray, BooleanArray)> {
    let times = times_of(times)?;
    let over: BooleanArray = times.iter().map(|time| Some(time.is_some_and(|time| time <= until_us))).collect();
    let stays = not(&over)?;
    Ok((over, stays))
}

fn filtered(columns: &[ArrayRef], mask: &BooleanArray) -> DfResult<Vec<ArrayRef>> {
    Ok(columns.iter().map(|column| filter(column, mask)).collect::<Result<_, _>>()?)
}
