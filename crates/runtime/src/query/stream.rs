//! One running stream: a task that owns the pipeline, and a handle to watch and stop it.
//!
//! A stop request takes effect between epochs, so nothing that began is torn. The task never panics the process:
//! whatever ends it is kept as the stream's state.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use alluvium_parser::{Diagnostic, OutputMode, Trigger};
use tokio::sync::{Notify, watch};

use crate::checkpoint::Checkpoint;
use crate::clock::now_ms;
use crate::epoch::Pipeline;
use crate::error::{Error, Result};
use crate::metrics::EpochRecord;
use crate::source::Backlog;

/// Where a stream's run stands.
#[derive(Debug, Clone)]
pub enum StreamState {
    /// Opening sources and state, or waiting for the first file to learn the columns from.
    Starting,
    /// Running epochs.
    Running,
    /// Nothing to read.
    Idle,
    /// Ended by STOP, or because everything available was read.
    Stopped,
    /// Ended by an error.
    Failed(Error),
}

impl StreamState {
    /// The word SHOW STREAMS prints.
    pub fn word(&self) -> &'static str {
        match self {
            StreamState::Starting => "STARTING",
            StreamState::Running => "RUNNING",
            StreamState::Idle => "IDLE",
            StreamState::Stopped => "STOPPED",
            StreamState::Failed(_) => "FAILED",
        }
    }

    /// Whether the run is over.
    pub fn ended(&self) -> bool {
        matches!(self, StreamState::Stopped | StreamState::Failed(_))
    }
}

/// A run's numbers, as of its last epoch.
#[derive(Debug, Clone)]
pub struct StreamStatus {
    /// Where it stands.
    pub state: StreamState,
    /// The last epoch's record of this run.
    pub last: Option<EpochRecord>,
    /// Rows read in this run.
    pub rows_in: u64,
    /// Rows written in this run.
    pub rows_out: u64,
    /// Rows read per second over the last epoch.
    pub rows_per_s: f64,
    /// What waits.
    pub backlog: Backlog,
    /// What the sources tell beside: (name, text).
    pub facts: Vec<(String, String)>,
    /// Looks that found nothing, answered up to this request.
    idle_at: u64,
}

/// A stream that runs or ran in this session.
pub struct StreamHandle {
    name: String,
    trigger: Trigger,
    mode: OutputMode,
    status: watch::Receiver<StreamStatus>,
    shared: Arc<Shared>,
}

/// What the handle and the task share.
pub(super) struct Shared {
    stop: watch::Sender<bool>,
    look: Notify,
    asked: AtomicU64,
    status: watch::Sender<StreamStatus>,
    on_epoch: Option<OnEpoch>,
    /// The run's checkpoint, to be looked into while it runs; let go of before the run is said to have ended, since
    /// holding it holds its lock.
    checkpoint: Mutex<Option<Checkpoint>>,
}

/// Called after each epoch.
pub type OnEpoch = Box<dyn Fn(&EpochRecord, Backlog) + Send + Sync>;

impl StreamHandle {
    /// Spawns the task. `open` makes the pipeline, inside the task, so that waiting for a first file does not hold
    /// up the caller; it may be cancelled at any await by a stop.
    pub fn spawn<F>(name: &str, trigger: Trigger, mode: OutputMode, on_epoch: Option<OnEpoch>, open: F) -> Arc<Self>
    where
        F: Future<Output = Result<(Pipeline, Option<EpochRecord>)>> + Send + 'static,
    {
        let status = StreamStatus {
            state: StreamState::Starting,
            last: None,
            rows_in: 0,
            rows_out: 0,
            rows_per_s: 0.0,
            backlog: Backlog::default(),
            facts: Vec::new(),
            idle_at: 0,
        };
        let (sender, receiver) = watch::channel(status);
        let shared = Arc::new(Shared {
            stop: watch::Sender::new(false),
            look: Notify::new(),
            asked: AtomicU64::new(0),
            status: sender,
            on_epoch,
            checkpoint: Mutex::new(None),
        });
        let handle =
            Arc::new(StreamHandle { name: name.to_string(), trigger, mode, status: receiver, shared: shared.clone() });
        tokio::spawn(async move {
            // A panic in an operator must end this stream with a report, not leave it "running" for ever.
            let body = tokio::spawn(drive(shared.clone(), trigger, open));
            let state = match body.await {
                Ok(Ok(())) => StreamState::Stopped,
                Ok(Err(error)) => StreamState::Failed(error),
                Err(join) => StreamState::Failed(Error::internal(format!("the stream's task ended: {join}"))),
            };
            *shared.checkpoint() = None;
            shared.status.send_modify(|status| status.state = state);
        });
        handle
    }

    /// The streaming table's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The trigger of this run.
    pub fn trigger(&self) -> Trigger {
        self.trigger
    }

    /// The query's output mode.
    pub fn mode(&self) -> OutputMode {
        self.mode
    }

    /// A snapshot of state and numbers.
    pub fn status(&self) -> StreamStatus {
        self.status.borrow().clone()
    }

    /// The checkpoint of a run that has opened it and goes on.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.shared.checkpoint().clone()
    }

    /// Asks the run to end after the running epoch; does not wait.
    pub fn request_stop(&self) {
        self.shared.stop.send_replace(true);
    }

    /// Ends the run after the running epoch and waits for it.
    pub async fn stop(&self) {
        self.request_stop();
        self.ended_state().await;
    }

    /// Waits until the run has ended; its error if it failed.
    pub async fn ended(&self) -> Result<StreamStatus> {
        self.until(|status| status.state.ended()).await
    }

    /// Waits until a look that begins after this call finds nothing to read, or the run ends. `at_once` does not
    /// wait for the trigger.
    pub async fn idle(&self, at_once: bool) -> Result<StreamStatus> {
        let request = self.shared.asked.fetch_add(1, Ordering::SeqCst) + 1;
        if at_once {
            self.shared.look.notify_one();
        }
        self.until(move |status| status.state.ended() || status.idle_at >= request).await
    }

    /// Waits until an epoch is committed and counted, or the run ends.
    pub async fn counted(&self, epoch: u64) -> Result<StreamStatus> {
        self.until(|status| status.state.ended() || status.last.as_ref().is_some_and(|last| last.epoch >= epoch)).await
    }

    /// Waits until the run has ended and gives its last state.
    pub async fn ended_state(&self) -> StreamState {
        let mut status = self.status.clone();
        match status.wait_for(|status| status.state.ended()).await {
            Ok(status) => status.state.clone(),
            Err(_) => StreamState::Stopped,
        }
    }

    async fn until(&self, done: impl FnMut(&StreamStatus) -> bool) -> Result<StreamStatus> {
        let mut status = self.status.clone();
        let reached = status.wait_for(done).await.map(|status| status.clone());
        match reached {
            Ok(StreamStatus { state: StreamState::Failed(error), .. }) => Err(error),
            Ok(status) => Ok(status),
            Err(_) => Err(Error::internal(format!("stream `{}` ended without a state", self.name))),
        }
    }
}

/// The task: open, then epochs as the trigger says, until stopped, done or failed.
async fn drive<F>(shared: Arc<Shared>, trigger: Trigger, open: F) -> Result<()>
where
    F: Future<Output = Result<(Pipeline, Option<EpochRecord>)>> + Send + 'static,
{
    let mut stop = shared.stop.subscribe();
    // Two arms that may both be ready: a pipeline that stands is used, a stop is then seen by the loop.
    let (mut pipeline, rerun) = tokio::select! {
        biased;
        opened = open => opened?,
        _ = stop.wait_for(|stop| *stop) => return Ok(()),
    };
    *shared.checkpoint() = Some(pipeline.checkpoint.clone());
    if let Some(record) = rerun {
        shared.report(&mut pipeline, &record, Duration::from_secs_f64(record.run_ms / 1e3));
    }
    match trigger {
        Trigger::AvailableNow => read_available(&shared, &mut pipeline, true).await,
        Trigger::Once => read_available(&shared, &mut pipeline, false).await,
        Trigger::ProcessingTime(interval) => read_for_ever(&shared, &mut pipeline, interval).await,
    }
}

async fn read_available(shared: &Shared, pipeline: &mut Pipeline, limited: bool) -> Result<()> {
    for (_, source) in &mut pipeline.sources {
        source.freeze().await?;
    }
    while !*shared.stop.borrow() {
        let begun = Instant::now();
        match pipeline.step(limited).await? {
            Some(record) => shared.report(pipeline, &record, begun.elapsed()),
            None => break,
        }
        if !limited {
            break;
        }
    }
    tidy(pipeline).await?;
    shared.status.send_modify(|status| status.facts = facts(pipeline));
    Ok(())
}

async fn tidy(pipeline: &mut Pipeline) -> Result<()> {
    for (_, source) in &mut pipeline.sources {
        source.tidy().await?;
    }
    let checkpoint = pipeline.checkpoint.clone();
    let settled = tokio::task::spawn_blocking(move || checkpoint.settle()).await;
    settled.map_err(|join| Error::internal(format!("the state could not be settled: {join}")))?
}

async fn read_for_ever(shared: &Shared, pipeline: &mut Pipeline, interval: Duration) -> Result<()> {
    let mut stop = shared.stop.subscribe();
    // Asked not to wait for the interval until nothing is left.
    let mut hurry = false;
    while !*shared.stop.borrow() {
        let asked = shared.asked.load(Ordering::SeqCst);
        let begun = Instant::now();
        let ran = pipeline.step(true).await?;
        if let Some(record) = &ran {
            shared.report(pipeline, record, begun.elapsed());
            if interval.is_zero() {
                continue;
            }
        } else {
            shared.idle(pipeline, asked);
        }
        // An epoch that overran its interval is followed at once; otherwise the next one starts on the grid.
        if ran.is_some() && (hurry || begun.elapsed() > interval) {
            continue;
        }
        hurry = false;
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            () = shared.look.notified() => hurry = true,
            () = next_look(pipeline, interval) => {}
        }
    }
    tidy(pipeline).await
}

/// The next multiple of the interval since 1970; without an interval, the next sign of something new.
async fn next_look(pipeline: &mut Pipeline, interval: Duration) {
    if interval.is_zero() {
        let idle_in = pipeline.idle_in();
        let signs = pipeline.sources.iter_mut().map(|(_, source)| source.changed());
        let changed = futures::future::select_all(signs);
        match idle_in {
            Some(wait) => drop(tokio::time::timeout(wait, changed).await),
            None => drop(changed.await),
        }
        return;
    }
    let interval_ms = (interval.as_millis() as i64).max(1);
    let wait = interval_ms - now_ms().rem_euclid(interval_ms);
    tokio::time::sleep(Duration::from_millis(wait as u64)).await;
}

impl Shared {
    fn checkpoint(&self) -> MutexGuard<'_, Option<Checkpoint>> {
        self.checkpoint.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, pipeline: &mut Pipeline, record: &EpochRecord, took: Duration) {
        let (backlog, facts) = (backlog(pipeline), facts(pipeline));
        self.status.send_modify(|status| {
            status.facts = facts;
            status.state = StreamState::Running;
            status.rows_in += record.rows_in;
            status.rows_out += record.rows_out;
            status.rows_per_s = record.rows_in as f64 / took.as_secs_f64().max(1e-6);
            status.backlog = backlog;
            status.last = Some(record.clone());
        });
        if let Some(on_epoch) = &self.on_epoch {
            on_epoch(record, backlog);
        }
    }

    fn idle(&self, pipeline: &Pipeline, asked: u64) {
        let (backlog, facts) = (backlog(pipeline), facts(pipeline));
        self.status.send_modify(|status| {
            status.facts = facts;
            status.state = StreamState::Idle;
            status.backlog = backlog;
            status.idle_at = asked;
        });
    }
}

fn facts(pipeline: &Pipeline) -> Vec<(String, String)> {
    let limit = pipeline.let_through().ok().flatten().map(|(rows, limit)| match rows >= limit {
        true => format!("complete: all {limit} rows have come out, and nothing more is read"),
        false => format!("{rows} of {limit} rows have come out"),
    });
    let limit = limit.map(|text| ("limit".to_string(), text));
    let facts = pipeline.sources.iter().map(|(id, source)| (id, source.facts()));
    facts
        .flat_map(|(id, facts)| facts.into_iter().map(move |(name, text)| (format!("source {id} {name}"), text)))
        .chain(limit)
        .collect()
}

fn backlog(pipeline: &Pipeline) -> Backlog {
    pipeline
        .sources
        .iter()
        .map(|(_, source)| source.backlog())
        .fold(Backlog::default(), |sum, one| Backlog { files: sum.files + one.files, bytes: sum.bytes + one.bytes })
}

/// A stream's failure, told with the stream's name.
pub fn failure(name: &str, error: &Error) -> Diagnostic {
    let mut diagnostic = error.diagnostic();
    diagnostic.help.push(format!("stream `{name}` can be started again when the cause is gone: START STREAM {name}"));
    diagnostic
}
