//! Changed rows into a table, in the place of former ones: new rows are appended, old ones die by deletion vectors.
//!
//! State: the index of `index.rs` and, by number, the files of `files.rs`; both are committed with the epoch's other
//! state. An epoch asks the index where the rows of its keys are, and touches only the files that hold them, so it costs
//! what it changes. Where the table has no deletion vectors those files are written again without their dead rows. Who
//! changed the table besides is noticed by its files, and the index is then made anew from the table's rows.

mod compact;
mod files;
mod index;
mod pending;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use alluvium_parser::Diagnostic;
use alluvium_planner::plan::{KeyPart, Upsert};
use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array, new_empty_array};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use roaring::{RoaringBitmap, RoaringTreemap};

use self::compact::FileSize;
use self::files::{IndexedFile, gone_with, positions};
use self::index::{IndexRun, Places};
use self::pending::{Notes, Pending};
use super::super::{SinkCommit, Touched};
use crate::checkpoint::{Checkpoint, SINK_OPERATOR, SinkValue};
use crate::error::{Error, Result};
use crate::state::{Refilled, StagedState, StateTable, times_of};
use crate::table::actions::{Action, AddFile};
use crate::table::deletion::{Descriptor, Vectors};
use crate::table::{
    self, ColumnPlace, Conform, Head, Layout, LiveRows, NumberedFile, NumberedFiles, Operation, Staged,
};

/// Rows that are looked up, and written, together.
const ROWS_PER_LOOKUP: usize = 131_072;
/// Bytes of them at most.
const BYTES_PER_LOOKUP: usize = 32 << 20;

/// The files by number are those of a table that the index knows whole.
const COMPLETE: &str = "complete";
/// The number of the next file.
const NEXT: &str = "next";
/// The query whose result the table is, in COMPLETE mode.
const RESULT: &str = "result";
const FILE: &str = "file/";
const GONE: &str = "gone/";

/// The rows of a table by their keys.
pub struct Upserts {
    upsert: Upsert,
    /// Names of the key columns, in the order of the keys.
    names: Vec<String>,
    checkpoint: Checkpoint,
    index: Arc<StateTable>,
    files: BTreeMap<u32, IndexedFile>,
    next: u32,
    notes: Notes,
    /// The table's version whose files these are; None: not looked at yet.
    version: Option<u64>,
    /// The query, where it has to be remembered with the next epoch.
    result: Option<String>,
    /// The table is the result of another query: all of it has to be written once.
    whole: bool,
    commit: SinkCommit,
}

/// What an epoch does to the table.
pub struct Changes {
    /// New data files and files of vectors.
    pub staged: Staged,
    /// Rows of the result.
    pub rows: u64,
    removes: Vec<(AddFile, bool)>,
    adds: Vec<AddFile>,
    metrics: Vec<(&'static str, u64)>,
    files: BTreeMap<u32, Option<IndexedFile>>,
    gone: BTreeMap<u32, RoaringBitmap>,
    next: u32,
    index: Option<StagedState>,
    /// Keys up to this instant are done with.
    until_us: Option<i64>,
    /// `txnId` of the commit.
    id: String,
}

impl Changes {
    /// Whether the table stays as it is.
    pub fn is_empty(&self) -> bool {
        self.removes.is_empty() && self.adds.is_empty()
    }

    /// The commit, on top of `head`.
    pub fn lines(&self, head: &Head, operation: &Operation, transaction: Action) -> Vec<Action> {
        let now = crate::clock::now_ms();
        let text = |number: u64| serde_json::Value::String(number.to_string());
        let metrics = self.metrics.iter().map(|(name, number)| ((*name).to_owned(), text(*number))).collect();
        let mut info = table::commit_info(operation, head.metadata(), Some(head.version()), &metrics);
        info["txnId"] = self.id.as_str().into();
        let mut lines = vec![Action::commit_info(info), transaction];
        for (add, data_change) in &self.removes {
            let remove = table::actions::RemoveFile { data_change: *data_change, ..add.removed(now) };
            lines.push(Action::remove(remove));
        }
        lines.extend(self.adds.iter().cloned().map(Action::add));
        lines
    }
}

impl Upserts {
    /// For a target whose rows are found by `upsert`, columns of `result`. `budget`: bytes the index may keep in memory.
    pub fn open(upsert: &Upsert, result: &Schema, checkpoint: &Checkpoint, budget: usize) -> Result<Upserts> {
        let mut files = BTreeMap::new();
        for (number, bytes) in checkpoint.sink_values(FILE)? {
            let number = number.parse::<u32>().ok();
            let file = serde_json::from_slice::<IndexedFile>(&bytes).ok();
            let (Some(number), Some(file)) = (number, file) else { return Err(unreadable()) };
            files.insert(number, file);
        }
        let next = match checkpoint.sink_value(NEXT)? {
            Some(text) => String::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or_else(unreadable)?,
            None => 0,
        };
        Ok(Upserts {
            names: upsert.keys.iter().map(|key| result.field(key.column).name().clone()).collect(),
            upsert: upsert.clone(),
            index: checkpoint.state(SINK_OPERATOR, budget)?,
            checkpoint: checkpoint.clone(),
            files,
            next,
            notes: Notes::open(checkpoint.clone())?,
            version: None,
            result: None,
            whole: false,
            commit: SinkCommit::default(),
        })
    }

    /// For COMPLETE: the table is to be the whole result of `query`. Groups that do not change have been written by the
    /// former one, if that was another.
    pub fn of_query(mut self, query: String) -> Result<Upserts> {
        let stored = self.checkpoint.sink_value(RESULT)?;
        if stored.as_deref() != Some(query.as_bytes()) {
            self.whole = self.checkpoint.last_committed()?.is_some();
            self.result = Some(query);
        }
        Ok(self)
    }

    /// Whether the next epoch has to write the whole result.
    pub fn wants_all(&self) -> bool {
        self.whole
    }

    /// What the last epoch leaves to be committed.
    pub fn take_commit(&mut self) -> SinkCommit {
        let mut commit = std::mem::take(&mut self.commit);
        commit.values.extend(self.result.take().map(|query| (RESULT.into(), Some(query.into_bytes()))));
        self.whole = false;
        commit
    }

    /// The key columns among those of the table.
    fn keys(&self, layout: &Layout) -> Result<Vec<usize>> {
        let columns = layout.schema().fields();
        let position = |name: &String| columns.iter().position(|column| column.name().eq_ignore_ascii_case(name));
        let missing = |name: &String| Error::internal(format!("key column `{name}` is not in the table"));
        self.names.iter().map(|name| position(name).ok_or_else(|| missing(name))).collect()
    }

    /// The key column by whose time a watermark ends keys, if the table's column tells it.
    fn time(&self, fields: &[FieldRef]) -> Option<usize> {
        self.upsert
            .time
            .filter(|time| fields.get(*time).is_some_and(|field| times_of(&new_empty_array(field.data_type())).is_ok()))
    }

    /// Columns of the index of a table, and the one that tells a key's time.
    fn bound(&self, layout: &Layout) -> Result<(SchemaRef, Option<usize>)> {
        let keys = self.keys(layout)?;
        let fields: Vec<FieldRef> = keys.iter().map(|at| layout.schema().fields()[*at].clone()).collect();
        Ok((index::schema(&fields), self.time(&fields)))
    }

    /// Makes sure that the index is that of the table as `head` has it.
    pub fn follow(&mut self, head: &Head, layout: &Layout) -> Result<()> {
        if self.version == Some(head.version()) {
            return Ok(());
        }
        let keys = self.keys(layout)?;
        let (schema, time) = self.bound(layout)?;
        let complete = self.checkpoint.sink_value(COMPLETE)?.is_some();
        let same = complete
            && self.files.len() == head.files().len()
            && self.files.values().all(|file| head.holds(&file.add))
            && self.index.bind_timed(&schema, keys.len(), time).is_ok();
        if !same {
            self.rebuild(head, layout, &keys, (&schema, time))?;
        }
        self.version = Some(head.version());
        Ok(())
    }

    /// Makes the index anew from the rows of the table.
    fn rebuild(
        &mut self,
        head: &Head,
        layout: &Layout,
        keys: &[usize],
        (schema, time): (&SchemaRef, Option<usize>),
    ) -> Result<()> {
        let mut forgotten = self.notes.cleared();
        forgotten.push((COMPLETE.into(), None));
        for prefix in [FILE, GONE] {
            let names = self.checkpoint.sink_values(prefix)?.into_iter();
            forgotten.extend(names.map(|(name, _)| (format!("{prefix}{name}"), None)));
        }
        self.checkpoint.put_sink_values(&forgotten)?;
        let former: BTreeMap<String, Option<String>> =
            std::mem::take(&mut self.files).into_values().map(|file| (file.add.path, file.add.stats)).collect();
        self.next = 0;
        let mut sources = Vec::new();
        for add in head.files() {
            let path = table::absolute(layout.root(), &add.path)?;
            let dead = dead_rows(layout, add)?;
            let rows = table::rows_of_file(&path)?;
            let stats = former.get(&add.path).cloned().flatten();
            let stats = stats.or_else(|| Some(serde_json::json!({ "numRecords": rows }).to_string()));
            let add = AddFile { stats, ..add.clone() };
            let file = IndexedFile { add, rows, dead: dead.len(), gone: false };
            sources.push((self.next, path, layout.values(&file.add), dead));
            self.files.insert(self.next, file);
            self.next += 1;
        }
        let columns = KeyColumns::new(layout, keys)?;
        let rows = sources.into_iter().flat_map(|(number, path, values, dead)| {
            let placed = columns.of_file(path, dead, values, layout).map(|rows| {
                rows.map(move |rows| {
                    let (keys, places) = rows?;
                    let files: ArrayRef = Arc::new(UInt32Array::from(vec![number; places.len()]));
                    let columns = keys.into_iter().chain([files, Arc::new(UInt32Array::from(places))]);
                    Ok(RecordBatch::try_new(schema.clone(), columns.collect())?)
                })
            });
            match placed {
                Ok(rows) => Box::new(rows) as Box<dyn Iterator<Item = Result<RecordBatch>>>,
                Err(error) => Box::new(std::iter::once(Err(error))),
            }
        });
        if let Refilled::Twice(key) = self.index.refill(schema, keys.len(), time, rows)? {
            return Err(twice(head, &key));
        }
        let all = self.files.iter().map(|(number, file)| (*number, Some(file.clone())));
        let mut values = values_of(&all.collect())?;
        values.push((NEXT.into(), Some(self.next.to_string().into_bytes())));
        values.push((COMPLETE.into(), Some(b"1".to_vec())));
        self.checkpoint.put_sink_values(&values)
    }

    /// Reads the rows of an epoch, writes them, and finds out what they replace. `vectors`: the table takes deletion
    /// vectors. Nothing is published.
    pub async fn run(
        &mut self,
        epoch: u64,
        layout: &Arc<Layout>,
        partitions: Vec<SendableRecordBatchStream>,
        touched: Touched<'_>,
        vectors: bool,
    ) -> Result<Changes> {
        self.commit = SinkCommit::default();
        let keys = self.keys(layout)?;
        let fields: Vec<FieldRef> = keys.iter().map(|at| layout.schema().fields()[*at].clone()).collect();
        let (schema, time) = self.bound(layout)?;
        let mut run = IndexRun::begin(self.index.clone(), schema, time)?;
        let mut left = Places::new();
        let mut written = NumberedFiles::new(layout.clone(), self.next);
        let result = partitions.first().map(|stream| stream.schema());
        let conform = result.as_ref().map(|schema| Conform::plan(schema, layout.schema())).transpose()?;
        let mut batches = futures::stream::select_all(partitions);
        let mut gathered: Vec<RecordBatch> = Vec::new();
        let mut bytes = 0;
        while let (Some(conform), Some(batch)) = (&conform, batches.next().await) {
            let batch = conform.apply(&batch?)?;
            bytes += batch.get_array_memory_size();
            gathered.push(batch);
            let rows: usize = gathered.iter().map(RecordBatch::num_rows).sum();
            if rows >= ROWS_PER_LOOKUP || bytes >= BYTES_PER_LOOKUP {
                replace_rows(std::mem::take(&mut gathered), layout, &keys, &mut run, &mut left, &mut written)?;
                bytes = 0;
            }
        }
        replace_rows(gathered, layout, &keys, &mut run, &mut left, &mut written)?;
        let rows = run.len() as u64;
        let mut deleted = 0;
        let touched = touched();
        let until_us = touched.as_ref().and_then(|(_, until_us)| *until_us).filter(|_| time.is_some());
        if self.upsert.filtered
            && let (Some(result), Some((touched, _))) = (&result, touched)
        {
            let touched = self.touched_keys(&touched, result, &fields)?;
            deleted = run.forget_others(touched.columns(), touched.num_rows(), &mut left)?;
        }
        let replaced: u64 = left.values().map(RoaringBitmap::len).sum::<u64>() - deleted;
        let mut changing = Changing {
            upserts: self,
            layout,
            keys: KeyColumns::new(layout, &keys)?,
            next: written.next(),
            staged: Staged::default(),
            removes: Vec::new(),
            adds: Vec::new(),
            files: BTreeMap::new(),
            gone: BTreeMap::new(),
            copied: 0,
        };
        let (new, staged) = written.close()?;
        changing.staged.append(staged);
        changing.add(new, true);
        changing.bury(left, rows + deleted, vectors, &mut run)?;
        let Changing { staged, removes, adds, files, gone, next, copied, .. } = changing;
        let metrics = vec![
            ("numRemovedFiles", removes.len() as u64),
            ("numOutputRows", rows),
            ("numOutputBytes", staged.bytes()),
            ("numAddedFiles", adds.len() as u64),
            ("numInsertedRows", rows - replaced),
            ("numUpdatedRows", replaced),
            ("numDeletedRows", deleted),
            ("numCopiedRows", copied),
        ];
        let index = run.stage(epoch, until_us)?;
        let id = uuid::Uuid::new_v4().to_string();
        Ok(Changes { staged, rows, removes, adds, metrics, files, gone, next, index, until_us, id })
    }

    /// The key columns of the groups that were touched, as the table has them.
    fn touched_keys(&self, touched: &RecordBatch, result: &Schema, fields: &[FieldRef]) -> Result<RecordBatch> {
        let mut columns = Vec::new();
        let mut named = Vec::new();
        for key in &self.upsert.keys {
            let field = result.field(key.column);
            let group = touched.column(key.group);
            let part = match key.part {
                KeyPart::Whole => Some(group.clone()),
                KeyPart::Start => group.as_struct_opt().and_then(|window| window.column_by_name("start").cloned()),
                KeyPart::End => group.as_struct_opt().and_then(|window| window.column_by_name("end").cloned()),
            };
            let part = part.ok_or_else(|| Error::internal("a window without its ends"))?;
            columns.push(cast(&part, field.data_type())?);
            named.push(Field::new(field.name(), field.data_type().clone(), true));
        }
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(touched.num_rows()));
        let rows = RecordBatch::try_new_with_options(Arc::new(Schema::new(named)), columns, &options)?;
        let schema = Arc::new(Schema::new(fields.to_vec()));
        Conform::plan(&rows.schema(), &schema)?.apply(&rows)
    }

    /// Notes the changes of an epoch that is about to be published, durably.
    pub fn note(&mut self, epoch: u64, changes: &Changes) -> Result<()> {
        let pending = Pending {
            epoch,
            id: changes.id.clone(),
            files: changes.files.clone(),
            gone: changes.gone.clone(),
            next: changes.next,
            rows: changes.index.as_ref().map(|staged| staged.rows().clone()),
            removed: changes.index.as_ref().and_then(|staged| staged.removed().cloned()),
            until_us: changes.until_us,
        };
        self.notes.write(&pending)
    }

    /// Whether the table still has the files that changes were planned on.
    pub fn fits(&self, head: &Head) -> bool {
        self.version == Some(head.version())
            || self.files.len() == head.files().len() && self.files.values().all(|file| head.holds(&file.add))
    }

    /// The table stays as it is; what is known of it may change all the same.
    pub fn unpublished(&mut self, changes: Changes) {
        self.commit = SinkCommit { state: changes.index, values: Vec::new() };
    }

    /// The changes are in the table, as `version`.
    pub fn published(&mut self, changes: Changes, version: u64) -> Result<()> {
        let Changes { files, gone, next, index, .. } = changes;
        self.take(files, gone, next, index, version)
    }

    fn take(
        &mut self,
        files: BTreeMap<u32, Option<IndexedFile>>,
        gone: BTreeMap<u32, RoaringBitmap>,
        next: u32,
        index: Option<StagedState>,
        version: u64,
    ) -> Result<()> {
        let mut values = values_of(&files)?;
        for (number, numbers) in &gone {
            values.push((format!("{GONE}{number}"), Some(files::to_bytes(numbers)?)));
        }
        let former = |number: &u32| self.files.get(number).is_some_and(|file| file.gone);
        let ended = files.iter().filter(|(number, file)| file.is_none() && former(number));
        values.extend(ended.map(|(number, _)| (format!("{GONE}{number}"), None)));
        values.push((NEXT.into(), Some(next.to_string().into_bytes())));
        values.extend(self.notes.cleared());
        for (number, file) in files {
            match file {
                Some(file) => self.files.insert(number, file),
                None => self.files.remove(&number),
            };
        }
        self.next = next;
        self.version = Some(version);
        self.commit = SinkCommit { state: index, values };
        Ok(())
    }

    /// The table has `epoch` and the checkpoint does not: takes the note of it, if it is that of the commit `id`.
    /// Otherwise the index is made from the table when it is needed next.
    pub fn recover(&mut self, epoch: u64, id: Option<&str>, version: Option<u64>, layout: &Layout) -> Result<()> {
        self.commit = SinkCommit::default();
        self.version = None;
        let pending = self.notes.read()?.filter(|pending| pending.epoch == epoch && Some(pending.id.as_str()) == id);
        let (Some(pending), Some(version)) = (pending, version) else { return Ok(()) };
        let (schema, time) = self.bound(layout)?;
        if self.index.bind_timed(&schema, self.names.len(), time).is_err() {
            return Ok(());
        }
        let run = IndexRun::begin(self.index.clone(), schema, time)?;
        let index = run.again(epoch, pending.rows.as_ref(), pending.removed.as_ref(), pending.until_us)?;
        self.take(pending.files, pending.gone, pending.next, index, version)
    }

    fn gone(&self, number: u32) -> Result<RoaringBitmap> {
        if !self.files.get(&number).is_some_and(|file| file.gone) {
            return Ok(RoaringBitmap::new());
        }
        let bytes = self.checkpoint.sink_value(&format!("{GONE}{number}"))?.ok_or_else(unreadable)?;
        RoaringBitmap::deserialize_from(bytes.as_slice()).map_err(|_| unreadable())
    }
}

/// The files as they are kept.
fn values_of(files: &BTreeMap<u32, Option<IndexedFile>>) -> Result<Vec<SinkValue>> {
    let value = |(number, file): (&u32, &Option<IndexedFile>)| -> Result<SinkValue> {
        let bytes = file.as_ref().map(serde_json::to_vec).transpose();
        Ok((format!("{FILE}{number}"), bytes.map_err(|error| Error::internal(error.to_string()))?))
    };
    files.iter().map(value).collect()
}

/// Writes rows, notes the places their keys leave, and gives them their new ones.
fn replace_rows(
    gathered: Vec<RecordBatch>,
    layout: &Layout,
    keys: &[usize],
    run: &mut IndexRun,
    left: &mut Places,
    written: &mut NumberedFiles,
) -> Result<()> {
    let batch = concat_batches(layout.schema(), &gathered)?;
    if batch.num_rows() == 0 {
        return Ok(());
    }
    let columns: Vec<ArrayRef> = keys.iter().map(|at| batch.column(*at).clone()).collect();
    if let Some((at, _)) = keys.iter().zip(&columns).find(|(at, column)| is_lost(layout, **at, column)) {
        return Err(empty_text(layout.schema().field(*at).name()));
    }
    let rows = batch.num_rows();
    run.leave(&columns, rows, left)?;
    let (mut files, mut numbers) = (vec![0; rows], vec![0; rows]);
    for part in layout.split(batch)? {
        let (file, first) = written.write(&part.values, &part.batch)?;
        for at in 0..part.batch.num_rows() {
            let row = part.rows.as_ref().map_or(at, |rows| rows[at] as usize);
            (files[row], numbers[row]) = (file, first as u32 + at as u32);
        }
    }
    run.place(&columns, &files, &numbers);
    Ok(())
}

/// What becomes of the files, while it is being found out.
struct Changing<'a> {
    upserts: &'a Upserts,
    layout: &'a Arc<Layout>,
    keys: KeyColumns,
    next: u32,
    staged: Staged,
    removes: Vec<(AddFile, bool)>,
    adds: Vec<AddFile>,
    files: BTreeMap<u32, Option<IndexedFile>>,
    gone: BTreeMap<u32, RoaringBitmap>,
    copied: u64,
}

/// A file with the positions of all its dead rows.
struct Grave {
    dead: RoaringTreemap,
    touched: bool,
}

impl Changing<'_> {
    fn add(&mut self, new: Vec<NumberedFile>, data_change: bool) {
        for file in new {
            let add = AddFile { data_change, ..file.add };
            self.adds.push(add.clone());
            let kept = IndexedFile { add, rows: file.rows, dead: 0, gone: false };
            self.files.insert(file.number, Some(kept));
        }
    }

    fn remove(&mut self, number: u32, file: &IndexedFile, data_change: bool) {
        self.removes.push((file.add.clone(), data_change));
        self.files.insert(number, None);
    }

    /// Lets the rows at these places die, and writes again what is to be written again. `changed`: rows of the epoch.
    fn bury(&mut self, left: Places, changed: u64, vectors: bool, run: &mut IndexRun) -> Result<()> {
        let upserts = self.upserts;
        let mut graves: BTreeMap<u32, Grave> = BTreeMap::new();
        for (number, numbers) in left {
            let file = upserts.files.get(&number).ok_or_else(unreadable)?;
            let mut dead = dead_rows(self.layout, &file.add)?;
            dead |= positions(&numbers, &upserts.gone(number)?);
            graves.insert(number, Grave { dead, touched: true });
        }
        let size = |(number, file): (&u32, &IndexedFile)| {
            let grave = graves.get(number);
            FileSize {
                number: *number,
                partition: self.layout.values(&file.add),
                rows: file.rows,
                dead: grave.map_or(file.dead, |grave| grave.dead.len()),
                touched: grave.is_some(),
            }
        };
        let sizes: Vec<FileSize> = upserts.files.iter().map(size).collect();
        let compaction = compact::plan(&sizes, changed, vectors);
        for number in compaction.merged.iter().chain(&compaction.rewritten) {
            if let (false, Some(file)) = (graves.contains_key(number), upserts.files.get(number)) {
                graves.insert(*number, Grave { dead: dead_rows(self.layout, &file.add)?, touched: false });
            }
        }
        self.merge(&compaction.merged, &graves, run)?;
        let merged: BTreeSet<u32> = compaction.merged.into_iter().collect();
        let rewritten: BTreeSet<u32> = compaction.rewritten.into_iter().collect();
        let mut made = Vectors::default();
        for (number, grave) in &graves {
            let Some(file) = upserts.files.get(number) else { continue };
            if merged.contains(number) {
                continue;
            }
            if grave.dead.len() >= file.rows {
                self.remove(*number, file, true);
            } else if rewritten.contains(number) {
                self.rewrite(*number, file, grave)?;
            } else {
                let file_now = file.with_dead(&made.push(&grave.dead)?)?;
                let file_now = IndexedFile { add: AddFile { data_change: true, ..file_now.add }, ..file_now };
                self.removes.push((file.add.clone(), true));
                self.adds.push(file_now.add.clone());
                self.files.insert(*number, Some(file_now));
            }
        }
        made.write(self.layout.root(), |path| self.staged.push_beside(path))
    }

    /// Writes a file again without its dead rows. The others keep their numbers.
    fn rewrite(&mut self, number: u32, file: &IndexedFile, grave: &Grave) -> Result<()> {
        let mut written = NumberedFiles::single(self.layout.clone(), number);
        let values = self.layout.values(&file.add);
        let mut rows = self.live(file, grave)?;
        while let Some((_, batch)) = rows.next_batch()? {
            written.write(&values, &batch)?;
        }
        let (new, staged) = written.close()?;
        self.copied += staged.rows();
        self.staged.append(staged);
        self.remove(number, file, grave.touched);
        self.add(new, grave.touched);
        let gone = gone_with(&grave.dead, &self.upserts.gone(number)?);
        if let Some(Some(file)) = self.files.get_mut(&number) {
            file.gone = true;
        }
        self.gone.insert(number, gone);
        Ok(())
    }

    /// Writes small files into one for each of their partitions. Their rows get new places.
    fn merge(&mut self, merged: &[u32], graves: &BTreeMap<u32, Grave>, run: &mut IndexRun) -> Result<()> {
        let mut written = NumberedFiles::new(self.layout.clone(), self.next);
        let touched = merged.iter().any(|number| graves.get(number).is_some_and(|grave| grave.touched));
        for number in merged {
            let (Some(file), Some(grave)) = (self.upserts.files.get(number), graves.get(number)) else { continue };
            let values = self.layout.values(&file.add);
            let mut rows = self.live(file, grave)?;
            while let Some((_, batch)) = rows.next_batch()? {
                let keys = self.keys.of_batch(&batch, &values)?;
                let (to, first) = written.write(&values, &batch)?;
                let rows = batch.num_rows() as u32;
                let numbers: Vec<u32> = (first as u32..first as u32 + rows).collect();
                run.move_to(&keys, &vec![to; rows as usize], &numbers)?;
            }
            self.remove(*number, file, touched);
        }
        self.next = written.next();
        let (new, staged) = written.close()?;
        self.copied += staged.rows();
        self.staged.append(staged);
        self.add(new, touched);
        Ok(())
    }

    fn live(&self, file: &IndexedFile, grave: &Grave) -> Result<LiveRows> {
        let path = table::absolute(self.layout.root(), &file.add.path)?;
        LiveRows::open(&path, grave.dead.clone(), self.layout.file_schema())
    }
}

/// Where the key columns are found when rows are read back from files.
struct KeyColumns {
    /// Of the columns of the table.
    fields: Vec<FieldRef>,
    places: Vec<ColumnPlace>,
}

impl KeyColumns {
    fn new(layout: &Layout, keys: &[usize]) -> Result<KeyColumns> {
        Ok(KeyColumns {
            fields: keys.iter().map(|at| layout.schema().fields()[*at].clone()).collect(),
            places: keys.iter().map(|at| layout.place(*at)).collect(),
        })
    }

    /// Of a batch in the columns of files.
    fn of_batch(&self, batch: &RecordBatch, values: &[Option<String>]) -> Result<Vec<ArrayRef>> {
        let column = |(field, place): (&FieldRef, &ColumnPlace)| match place {
            ColumnPlace::File(at) => Ok(batch.column(*at).clone()),
            ColumnPlace::Partition(at) => constant(field, values.get(*at).cloned().flatten(), batch.num_rows()),
        };
        self.fields.iter().zip(&self.places).map(column).collect()
    }

    /// Of all live rows of a file, a batch at a time, with their positions. Only these columns are read.
    fn of_file(
        &self,
        path: PathBuf,
        dead: RoaringTreemap,
        values: Vec<Option<String>>,
        layout: &Layout,
    ) -> Result<impl Iterator<Item = Result<(Vec<ArrayRef>, Vec<u32>)>>> {
        let in_file = |place: &&ColumnPlace| matches!(place, ColumnPlace::File(_));
        let read: Vec<usize> = (self.places.iter().filter(in_file))
            .map(|place| match place {
                ColumnPlace::File(at) | ColumnPlace::Partition(at) => *at,
            })
            .collect();
        let schema = Arc::new(layout.file_schema().project(&read)?);
        let mut rows = LiveRows::open(&path, dead, &schema)?;
        let mut next = 0;
        let places = self.places.iter().map(|place| match place {
            ColumnPlace::File(_) => {
                next += 1;
                ColumnPlace::File(next - 1)
            }
            partition => *partition,
        });
        let columns = KeyColumns { fields: self.fields.clone(), places: places.collect() };
        Ok(std::iter::from_fn(move || {
            let next = rows.next_batch().transpose()?;
            Some(next.and_then(|(positions, batch)| Ok((columns.of_batch(&batch, &values)?, positions))))
        }))
    }
}

fn constant(field: &FieldRef, text: Option<String>, rows: usize) -> Result<ArrayRef> {
    let value = match text.filter(|text| !text.is_empty()) {
        Some(text) => ScalarValue::try_from_string(text, field.data_type())?,
        None => ScalarValue::try_from(field.data_type())?,
    };
    Ok(value.to_array_of_size(rows)?)
}

/// Whether a key column has values that its table does not tell from NULL: the format has no empty partition values.
fn is_lost(layout: &Layout, at: usize, column: &ArrayRef) -> bool {
    let texts = column.as_string_opt::<i32>().filter(|_| matches!(layout.place(at), ColumnPlace::Partition(_)));
    texts.is_some_and(|texts| texts.iter().flatten().any(str::is_empty))
}

fn empty_text(column: &str) -> Error {
    Error::statement(
        Diagnostic::new(
            "UPDATE_NOT_BY_KEY",
            format!(
                "a group has the empty text as `{column}`, by which its row is found again and the table is partitioned: a Delta table keeps it as NULL"
            ),
        )
        .help(format!("group by nullif({column}, '') AS {column}, or leave `{column}` out of PARTITIONED BY")),
    )
}

/// The rows of a file that no longer count.
fn dead_rows(layout: &Layout, add: &AddFile) -> Result<RoaringTreemap> {
    match &add.deletion_vector {
        Some(vector) => Descriptor::of(vector)?.read(layout.root()),
        None => Ok(RoaringTreemap::new()),
    }
}

fn unreadable() -> Error {
    Error::Environment(Box::new(
        Diagnostic::new("CHECKPOINT_CORRUPT", "what the stream's checkpoint keeps of its table's files cannot be read")
            .help("restore it from a backup, or REFRESH TABLE … FULL to start over"),
    ))
}

fn twice(head: &Head, key: &str) -> Error {
    Error::Environment(Box::new(
        Diagnostic::new(
            "UPSERT_KEY_TWICE",
            format!(
                "another writer changed the table at `{}`: it has two rows for {key}, and its stream keeps one for each key",
                head.path().display()
            ),
        )
        .help("delete one of them, or REFRESH TABLE … FULL to start over; a streaming table is best written by its stream only"),
    ))
}
