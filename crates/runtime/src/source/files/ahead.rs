//! Reading ahead: the next epoch's files are decoded while this one's rows are merged, written and committed.
//!
//! A guess and no part of any epoch. The source says which files are likely to be next; when a share of this epoch
//! has been read, its thread is free for one of theirs. The next epoch takes those rows only if it is to read just these files, in the same
//! versions and in the same way, and if reading them met nothing that an epoch has to hear of; else they are
//! forgotten, and the files are read as if nothing had been. So its intent is durable before any row counts.
//!
//! What waits in memory is texts of at most [`BYTES_MAX`] of files and [`ROWS_BYTES_MAX`] of rows beside, taken from the
//! memory of the query; where much of that is in use, nothing is read ahead. Where reading leaves traces
//! (`badRecordsPath`), or its bytes are paid for (object stores), neither. Knows nothing of epochs.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::FieldRef;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryReservation};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinHandle;

use super::FileEntry;
use super::exec;
use super::read::{self, Job, Unit};
use crate::error::Result;
use crate::source::ReadCounters;

/// Files that are larger together, in bytes to be decoded, are not read ahead: next to reading them, what comes between
/// two epochs is little.
const BYTES_MAX: u64 = 32 << 20;

/// Bytes that the rows which wait take, but for their texts. A share that has more goes on when they are taken.
const ROWS_BYTES_MAX: usize = 8 << 20;

/// Batches of a share that wait at most.
const QUEUE_MAX: usize = 64;

/// Part of the query's memory that a guess may take, and that may be in use then: it must not be what an epoch fails for.
const MEMORY_SHARE: usize = 8;
const MEMORY_USED_SHARE: usize = 2;

/// What a source has read ahead, shared with the scans it gives.
#[derive(Debug, Default)]
pub struct Ahead(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// What is likely to be read next.
    following: Arc<[FileEntry]>,
    begun: Option<Begun>,
    /// Rows were larger than files of that size may make them: the next ones would be, too.
    outgrown: Arc<AtomicBool>,
}

/// Files that are being decoded, or have been.
#[derive(Debug)]
struct Begun {
    job: Arc<Job>,
    batch_rows: usize,
    shares: Vec<Arc<[Unit]>>,
    /// Shares that no thread has begun with. Threads take the first of them when they are done with one.
    waiting: Arc<Mutex<VecDeque<(Arc<[Unit]>, Sender<Result<RecordBatch, DataFusionError>>)>>>,
    /// Rows by share.
    rows: Vec<Receiver<Result<RecordBatch, DataFusionError>>>,
    threads: Vec<JoinHandle<Result<()>>>,
    threads_max: usize,
    memory: MemoryReservation,
    outgrown: Arc<AtomicBool>,
}

impl Ahead {
    /// These files are likely to be next.
    pub fn expect(&self, files: Vec<FileEntry>) {
        let fits = files.iter().map(exec::bytes_decoded).sum::<u64>() <= BYTES_MAX;
        self.lock().following = if fits { files.into() } else { Arc::default() };
    }

    /// Nothing is likely to be next, and what was read is of no use.
    pub fn forget(&self) {
        let mut state = self.lock();
        (state.following, state.begun) = (Arc::default(), None);
    }

    /// A share of `job` is read: another thread may go on with what follows. Half of the threads do, since the epoch's rows
    /// are still on their way.
    pub fn begin(&self, job: &Job, context: &TaskContext) {
        let mut state = self.lock();
        if state.begun.is_none() && !state.outgrown.load(Ordering::Relaxed) {
            state.begun = Begun::plan(job, state.following.clone(), context, state.outgrown.clone());
        }
        if let Some(begun) = &mut state.begun {
            begun.read_on(begun.threads_max);
        }
    }

    /// The rows of `job`, if they were read ahead and nothing else was. Whatever else was read ahead is forgotten.
    pub fn take(&self, job: &Job, shares: &[Arc<[Unit]>], batch_rows: usize) -> Option<Arc<Taken>> {
        let mut begun = self.lock().begun.take()?;
        if begun.batch_rows != batch_rows || begun.shares != shares || !begun.job.reads_like(job) {
            return None;
        }
        // Nothing else is to be done now.
        while begun.read_on(shares.len()) {}
        Some(Arc::new(Taken(tokio::sync::Mutex::new(Rows::Coming(begun)))))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Begun {
    /// None where nothing is to be read ahead.
    fn plan(job: &Job, files: Arc<[FileEntry]>, context: &TaskContext, outgrown: Arc<AtomicBool>) -> Option<Begun> {
        if files.is_empty() {
            return None;
        }
        let bytes = usize::try_from(files.iter().map(exec::bytes_decoded).sum::<u64>()).ok()? + ROWS_BYTES_MAX;
        let job = job.followed_by(files)?;
        let pool = context.memory_pool();
        if let MemoryLimit::Finite(limit) = pool.memory_limit()
            && (bytes > limit / MEMORY_SHARE || pool.reserved() + bytes > limit / MEMORY_USED_SHARE)
        {
            return None;
        }
        let memory = MemoryConsumer::new("ReadAhead").register(pool);
        memory.try_grow(bytes).ok()?;
        let (batch_rows, partitions) =
            (context.session_config().batch_size(), context.session_config().target_partitions());
        let shares = exec::shares_of(&job, partitions);
        let queue = ROWS_BYTES_MAX / (shares.len() * batch_rows * row_bytes(&job)).max(1);
        let (senders, rows): (Vec<_>, Vec<_>) = shares.iter().map(|_| mpsc::channel(queue.clamp(1, QUEUE_MAX))).unzip();
        let waiting = Arc::new(Mutex::new(shares.iter().cloned().zip(senders).collect()));
        let (threads, threads_max) = (Vec::new(), partitions.div_ceil(2));
        Some(Begun { job: Arc::new(job), batch_rows, shares, waiting, rows, threads, threads_max, memory, outgrown })
    }

    /// One thread more, unless there are `max`; whether one was started.
    fn read_on(&mut self, max: usize) -> bool {
        if self.threads.len() >= max {
            return false;
        }
        let (job, waiting, batch_rows) = (self.job.clone(), self.waiting.clone(), self.batch_rows);
        let next = move || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        self.threads.push(Handle::current().spawn_blocking(move || {
            while let Some((share, out)) = next() {
                read::run(&job, &share, batch_rows, None, &out)?;
            }
            Ok(())
        }));
        true
    }

    /// All rows, by share, and what they were counted in and take. None where something was met on the way that the epoch
    /// must meet itself.
    async fn all(self) -> Option<(Vec<Vec<RecordBatch>>, Arc<Job>, MemoryReservation)> {
        // Shares that no thread comes to, because all have failed, end with the last thread.
        drop(self.waiting);
        let mut shares = Vec::with_capacity(self.rows.len());
        let mut bytes = 0;
        for mut coming in self.rows {
            let mut rows = Vec::new();
            while let Some(batch) = coming.recv().await {
                let batch = batch.ok()?;
                bytes += batch.get_array_memory_size();
                if bytes > self.memory.size() {
                    self.outgrown.store(true, Ordering::Relaxed);
                    return None;
                }
                rows.push(batch);
            }
            shares.push(rows);
        }
        for thread in self.threads {
            thread.await.ok()?.ok()?;
        }
        self.job.met_nothing().then_some((shares, self.job, self.memory))
    }
}

/// Roughly what a row takes in memory beside the text it has in its file.
fn row_bytes(job: &Job) -> usize {
    let width = |field: &FieldRef| match field.data_type() {
        // Of a struct or a list, and of `_metadata`, which has the file's name.
        nested if nested.is_nested() => 128,
        other => other.primitive_width().unwrap_or(24),
    };
    job.output.fields().iter().map(width).sum()
}

/// Rows that were read ahead and have been asked for.
#[derive(Debug)]
pub struct Taken(tokio::sync::Mutex<Rows>);

#[derive(Debug)]
enum Rows {
    /// Not known to be there yet.
    Coming(Begun),
    /// By share; what was given out is empty. The memory of those that were not.
    There(Vec<Option<Vec<RecordBatch>>>, MemoryReservation),
    /// They are of no use.
    Lost,
}

impl Taken {
    /// The rows of one share, counted in `counters`; None if it must be read after all. The same for all shares.
    pub async fn share(&self, at: usize, counters: &ReadCounters) -> Option<Vec<RecordBatch>> {
        let mut rows = self.0.lock().await;
        if matches!(*rows, Rows::Coming(_)) {
            *rows = match std::mem::replace(&mut *rows, Rows::Lost) {
                Rows::Coming(begun) => match begun.all().await {
                    Some((shares, job, memory)) => {
                        count(&job.counters, counters);
                        Rows::There(shares.into_iter().map(Some).collect(), memory)
                    }
                    None => Rows::Lost,
                },
                other => other,
            };
        }
        let Rows::There(shares, memory) = &mut *rows else { return None };
        let share = shares.get_mut(at)?.take();
        if shares.iter().all(Option::is_none) {
            memory.free();
        }
        share
    }
}

/// What was counted ahead counts now.
fn count(ahead: &ReadCounters, now: &ReadCounters) {
    for (from, to) in [(&ahead.rows, &now.rows), (&ahead.rescued, &now.rescued), (&ahead.corrupt, &now.corrupt)] {
        to.fetch_add(from.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::super::FilesSource;
    use super::super::tests::{bound, commit_input, number, put, rows, spec};
    use super::*;
    use crate::checkpoint::{Checkpoint, FileState};
    use crate::source::{EpochInput, Source};

    impl Ahead {
        /// Waits until what was begun is read; whether anything was.
        async fn settled(&self) -> bool {
            let ended = |begun: &Begun| begun.threads.iter().all(JoinHandle::is_finished);
            while self.lock().begun.as_ref().is_some_and(|begun| !ended(begun)) {
                tokio::task::yield_now().await;
            }
            self.lock().begun.is_some()
        }
    }

    /// A stream of one file an epoch, whose columns are `a` and, where it is read, `_rescued_data`.
    async fn ahead_of(dir: &std::path::Path, options: &[(&str, &str)]) -> (FilesSource, Checkpoint) {
        let checkpoint = Checkpoint::in_memory().unwrap();
        let columns = (!options.iter().any(|(name, _)| *name == "schema")).then_some(("schema", "a BIGINT"));
        let options: Vec<_> =
            [("maxFilesPerTrigger", "1")].into_iter().chain(columns).chain(options.iter().copied()).collect();
        let spec = spec(dir, "json", &options).await.unwrap();
        (FilesSource::open("0", &spec, checkpoint.ledger(), true).await.unwrap(), checkpoint)
    }

    async fn sum(source: &FilesSource, input: &EpochInput) -> (i64, u64) {
        let (provider, counters) = bound(source, input).await;
        let sum = number(provider, "SELECT sum(a) FROM t").await;
        (sum, counters.rows.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn the_next_epoch_takes_what_was_read_ahead() {
        let dir = tempfile::tempdir().unwrap();
        for (at, name) in ["a.json", "b.json", "c.json"].iter().enumerate() {
            put(dir.path(), name, &format!("{{\"a\":{}}}\n", 10_i64.pow(at as u32)).repeat(2), at as u64);
        }
        let (mut source, checkpoint) = ahead_of(dir.path(), &[]).await;
        for (epoch, name) in ["a.json", "b.json", "c.json"].iter().enumerate() {
            let input = source.next(true).await.unwrap().unwrap();
            if epoch > 0 {
                // It has gone meanwhile: a first run that reads it fails.
                std::fs::remove_file(dir.path().join(name)).unwrap();
            }
            assert_eq!(sum(&source, &input).await, (2 * 10_i64.pow(epoch as u32), 2));
            assert_eq!(source.ahead.settled().await, epoch < 2);
            commit_input(&mut source, &checkpoint, epoch as u64, input).await;
        }
        assert!(source.next(true).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn files_that_are_others_by_then_are_read_again() {
        let dir = tempfile::tempdir().unwrap();
        for (name, seconds) in [("a.json", 1), ("b.json", 2), ("c.json", 3), ("d.json", 4)] {
            put(dir.path(), name, "{\"a\":1}\n", seconds);
        }
        let (mut source, checkpoint) = ahead_of(dir.path(), &[]).await;
        for (epoch, wanted) in [1, 20, 1].into_iter().enumerate() {
            let input = source.next(true).await.unwrap().unwrap();
            assert_eq!(sum(&source, &input).await, (wanted, 1));
            assert!(source.ahead.settled().await || epoch == 2);
            commit_input(&mut source, &checkpoint, epoch as u64, input).await;
            match epoch {
                0 => put(dir.path(), "b.json", "{\"a\":20}\n", 2),
                // Another file is next.
                _ => std::fs::remove_file(dir.path().join("c.json")).unwrap_or_default(),
            }
        }
    }

    #[tokio::test]
    async fn what_an_epoch_must_hear_of_it_meets_itself() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "a.json", "{\"a\":1}\n", 1);
        put(dir.path(), "b.json.gz", "no gzip", 2);
        put(dir.path(), "c.json", "{\"a\":1,\"b\":2}\n", 3);
        let options = [("ignoreCorruptFiles", "true"), ("schemaEvolutionMode", "failOnNewColumns")];
        let (mut source, checkpoint) = ahead_of(dir.path(), &options).await;
        let first = source.next(true).await.unwrap().unwrap();
        assert_eq!(sum(&source, &first).await, (1, 1));
        assert!(source.ahead.settled().await);
        commit_input(&mut source, &checkpoint, 0, first).await;

        let damaged = source.next(true).await.unwrap().unwrap();
        let (provider, counters) = bound(&source, &damaged).await;
        rows(provider, "SELECT sum(a) FROM t").await.unwrap();
        assert_eq!(counters.corrupt_files.load(Ordering::Relaxed), 1);
        assert!(source.ahead.settled().await);
        commit_input(&mut source, &checkpoint, 1, damaged).await;
        let path = dir.path().join("b.json.gz");
        let entry = checkpoint.ledger().entry("0", path.to_str().unwrap()).unwrap().unwrap();
        assert_eq!(entry.state, FileState::Corrupt);

        let wider = source.next(true).await.unwrap().unwrap();
        let (provider, _) = bound(&source, &wider).await;
        let error = rows(provider, "SELECT sum(a) FROM t").await.unwrap_err().diagnostic();
        assert_eq!(error.code, "UNKNOWN_FIELD_EXCEPTION");
    }

    #[tokio::test]
    async fn rows_that_outgrow_their_files_are_read_as_they_are_wanted() {
        let dir = tempfile::tempdir().unwrap();
        for (at, name) in ["a.json", "b.json", "c.json"].iter().enumerate() {
            put(dir.path(), name, &"{}\n".repeat(20_000), at as u64);
        }
        let columns: Vec<String> = (0..100).map(|at| format!("c{at} BIGINT")).collect();
        let (mut source, checkpoint) =
            ahead_of(dir.path(), &[("schema", &format!("a BIGINT, {}", columns.join(", ")))]).await;
        for epoch in 0..3 {
            let input = source.next(true).await.unwrap().unwrap();
            let (provider, counters) = bound(&source, &input).await;
            let all = rows(provider, "SELECT * FROM t").await.unwrap();
            assert_eq!(all.iter().map(RecordBatch::num_rows).sum::<usize>(), 20_000);
            assert_eq!(counters.rows.load(Ordering::Relaxed), 20_000);
            assert_eq!(source.ahead.lock().outgrown.load(Ordering::Relaxed), epoch > 0);
            // No thread may wait for somebody to listen for ever.
            assert_eq!(source.ahead.lock().begun.is_some(), epoch == 0);
            commit_input(&mut source, &checkpoint, epoch, input).await;
        }
    }

    #[tokio::test]
    async fn nothing_is_read_ahead_that_leaves_traces_or_is_large() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "in/a.json", "{\"a\":1}\n", 1);
        put(dir.path(), "in/b.json", "{\"a\":1}\n", 2);
        let bad = dir.path().join("bad");
        let (mut source, _) = ahead_of(&dir.path().join("in"), &[("badRecordsPath", bad.to_str().unwrap())]).await;
        let input = source.next(true).await.unwrap().unwrap();
        assert_eq!(sum(&source, &input).await, (1, 1));
        assert!(!source.ahead.settled().await);

        // Little memory: an eighth of it is less than rows may take.
        let (mut source, _) = ahead_of(&dir.path().join("in"), &[]).await;
        let input = source.next(true).await.unwrap().unwrap();
        let (provider, _) = bound(&source, &input).await;
        for (limit, begun) in [(32 << 20, false), (128 << 20, true)] {
            let environment = RuntimeEnvBuilder::new().with_memory_limit(limit, 1.0).build_arc().unwrap();
            let context = SessionContext::new_with_config_rt(SessionConfig::new(), environment);
            context.read_table(provider.clone()).unwrap().collect().await.unwrap();
            assert_eq!(source.ahead.settled().await, begun);
        }

        let ahead = Ahead::default();
        let file = |size| FileEntry { path: "/a.json".into(), size, modified_ms: 0 };
        ahead.expect(vec![file(BYTES_MAX)]);
        assert_eq!(ahead.lock().following.len(), 1);
        ahead.expect(vec![file(BYTES_MAX), file(1)]);
        assert!(ahead.lock().following.is_empty());
    }
}
