//! New objects of a bucket as a stream.
//!
//! Without notifications every look is a listing: of everything, or only of the names behind the last one seen
//! ([`IncrementalListing`]). With them, one listing finds what was there before, and from then on the queue tells. What
//! a message told is kept in the checkpoint before the message is deleted, under `files/<source>/inbox`; that the first
//! listing was read to its end is kept under `files/<source>/listed`. A start after that does not list.
//!
//! Sizes and times are those of the listing or the event; objects are not asked about one by one.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use alluvium_planner::relation::{FilesSpec, SourceKind, SourceSpec};
use alluvium_planner::store_options::IncrementalListing;
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use serde::{Deserialize, Serialize};

use super::connect::queue_required;
use super::inbox::{Delivery, Inbox};
use super::queue::Queue;
use super::waiting::{FoundBy, Waiting};
use super::{POLL, Place, Remote};
use crate::checkpoint::Checkpoint;
use crate::clock::now_ms;
use crate::error::{Error, Result};
use crate::source::files::evolve::UnknownFields;
use crate::source::files::{FILES_MAX_DEFAULT, FileEntry, FilesInput, blocking, drift, lock, provider, unknown_fields};
use crate::source::{Backlog, Drift, EpochInput, ReadCounters, Source};

/// While more waits than an epoch takes, a new listing waits this long.
const RELIST: Duration = Duration::from_secs(10);

/// So many listings out of eight are incremental, where that is the store's choice.
const INCREMENTAL_MAX: u32 = 7;

/// The queue is not emptied into memory: more waiting objects than this stay in it, or twice an epoch's.
const WAITING_MAX: u64 = 2000;

/// Objects that messages told are made durable so many at a time,
const ROUND: usize = 500;

/// or as many as came in this time: well below the one after which messages come again.
const ROUND_TIME: Duration = Duration::from_secs(5);

/// New objects of a bucket, as a stream.
pub struct ObjectsSource {
    id: String,
    spec: Arc<FilesSpec>,
    source_schema: SourceSpec,
    place: Place,
    remote: Arc<Remote>,
    checkpoint: Checkpoint,
    waiting: Waiting,
    /// First start without existing files: what was there, to be remembered with the first epoch.
    skipped: Vec<FileEntry>,
    skipped_paths: HashSet<String>,
    listing: ListingState,
    inbox: Option<Inbox>,
    frozen: bool,
    /// Frozen, and the queue was not found empty since.
    draining: bool,
    /// Some where fields without a column end a run.
    unknown: Option<Arc<UnknownFields>>,
    /// Files of the last `next`: running them is a first run, anything else is a re-run.
    given: Mutex<Vec<FileEntry>>,
}

/// What this run knows of listings.
#[derive(Default)]
struct ListingState {
    /// When the last full one began.
    full_at: Option<Instant>,
    /// When the last one ended.
    ended_at: Option<Instant>,
    /// Requests the last full one took.
    full_requests: u64,
    /// Incremental ones since the last full one.
    incremental: u32,
    /// Greatest key seen.
    last: Option<String>,
    /// A full listing whose objects are not all committed yet, and when it began.
    owed_ms: Option<i64>,
}

/// Kept in the checkpoint: the queue that tells of what came after a full listing, and when that was.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Listed {
    queue: String,
    at_ms: i64,
}

impl ObjectsSource {
    /// Opens the source behind what the checkpoint remembers for source `id`. `first_start`: the stream has never made
    /// an intent, so `includeExistingFiles` counts.
    pub async fn open(id: &str, spec: &SourceSpec, checkpoint: Checkpoint, first_start: bool) -> Result<ObjectsSource> {
        let SourceKind::Files(files) = &spec.kind else {
            return Err(Error::internal(format!("{} is not a file source", spec.title)));
        };
        let place = Place::of(files).map_err(|e| e.at_least(spec.span))?;
        let Some(remote) = place.remote().cloned() else {
            return Err(Error::internal(format!("{} is not in an object store", spec.title)));
        };
        let inbox = inbox(files, &remote).map_err(|e| e.at_least(spec.span))?;
        let mut source = ObjectsSource {
            id: id.to_owned(),
            spec: files.clone(),
            source_schema: spec.clone(),
            place,
            remote,
            checkpoint,
            waiting: Waiting::default(),
            skipped: Vec::new(),
            skipped_paths: HashSet::new(),
            listing: ListingState::default(),
            inbox,
            frozen: false,
            draining: false,
            unknown: unknown_fields(files)?,
            given: Mutex::new(Vec::new()),
        };
        if source.inbox.is_some() {
            source.remember_inbox().await?;
        }
        if first_start && !files.options.include_existing_files {
            source.list(None).await?;
            source.skipped = source.waiting.take_all();
            source.skipped_paths = source.skipped.iter().map(|file| file.path.clone()).collect();
        }
        Ok(source)
    }

    fn files_max(&self) -> u64 {
        self.spec.options.max_files_per_trigger.unwrap_or(FILES_MAX_DEFAULT)
    }

    /// More waiting objects than this stay in the queue.
    fn enough(&self) -> u64 {
        WAITING_MAX.max(self.files_max().saturating_mul(2))
    }

    /// Finds out what is new.
    async fn look(&mut self) -> Result<()> {
        if self.inbox.is_some() {
            if self.listing_due()? {
                self.list(None).await?;
            }
            return self.receive(0, self.enough()).await.map(|_| ());
        }
        let rests = self.listing.ended_at.is_some_and(|at| at.elapsed() < RELIST);
        if rests && self.waiting.backlog().files > self.files_max() {
            return Ok(());
        }
        let after = self.begin_after();
        self.list(after).await
    }

    /// Where the next listing begins; None for a full one.
    fn begin_after(&self) -> Option<String> {
        let state = &self.listing;
        let options = &self.spec.options.store;
        let overdue =
            options.backfill_interval.is_some_and(|every| state.full_at.is_none_or(|at| at.elapsed() >= every));
        let incremental = match options.incremental_listing {
            IncrementalListing::Never => false,
            IncrementalListing::Always => true,
            IncrementalListing::Auto => state.full_requests > 1 && state.incremental < INCREMENTAL_MAX,
        };
        state.last.clone().filter(|_| incremental && !overdue && state.full_at.is_some())
    }

    /// With notifications: whether a listing is called for beside them.
    fn listing_due(&self) -> Result<bool> {
        if self.listing.owed_ms.is_some() {
            return Ok(false);
        }
        let stored = self.checkpoint.meta(&self.key("listed"))?;
        let Some(stored) = stored else { return Ok(true) };
        let listed: Listed = serde_json::from_str(&stored).map_err(|e| self.damaged(&e))?;
        let every = self.spec.options.store.backfill_interval;
        let age = Duration::from_millis(u64::try_from(now_ms().saturating_sub(listed.at_ms)).unwrap_or(0));
        let other_queue = self.inbox.as_ref().is_some_and(|inbox| inbox.url() != listed.queue);
        Ok(other_queue || every.is_some_and(|every| age >= every))
    }

    /// Lists, page by page; full when `after` is None.
    async fn list(&mut self, after: Option<String>) -> Result<()> {
        let (begun, begun_ms, full) = (Instant::now(), now_ms(), after.is_none());
        let remote = self.remote.clone();
        let (_, requests_before) = remote.listed();
        let mut listing = remote.list(after);
        let mut last = None;
        while let Some(page) = listing.next().await.map_err(|e| e.at_least(self.source_schema.span))? {
            last = last.max(page.last);
            self.add(page.files, FoundBy::Listing).await?;
        }
        let state = &mut self.listing;
        state.ended_at = Some(Instant::now());
        state.last = state.last.take().max(last);
        if full {
            state.full_at = Some(begun);
            state.full_requests = remote.listed().1 - requests_before;
            state.incremental = 0;
            state.owed_ms = Some(begun_ms);
            return self.settle();
        }
        state.incremental += 1;
        Ok(())
    }

    /// Adds those that are new; `files` are sorted by path, or few. Whether there were any.
    async fn add(&mut self, mut files: Vec<FileEntry>, found_by: FoundBy) -> Result<bool> {
        files.retain(|file| !self.waiting.contains(&file.path) && !self.skipped_paths.contains(&file.path));
        if files.is_empty() {
            return Ok(false);
        }
        let (ledger, id) = (self.checkpoint.ledger(), self.id.clone());
        let new = blocking(move || {
            files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
            files.dedup_by(|a, b| a.path == b.path);
            let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
            let known = ledger.contains_sorted(&id, &paths)?;
            let mut known = known.into_iter();
            files.retain(|_| !known.next().unwrap_or(false));
            Ok(files)
        })
        .await?;
        let any = !new.is_empty();
        new.into_iter().for_each(|file| self.waiting.add(file, found_by));
        Ok(any)
    }

    /// Takes messages until the queue is empty or enough waits; true when it is empty. What they told is durable before
    /// they are deleted.
    async fn receive(&mut self, wait_s: u32, enough: u64) -> Result<bool> {
        while self.waiting.backlog().files < enough {
            let Some(inbox) = &mut self.inbox else { break };
            let begun = Instant::now();
            let (mut round, mut emptied) = (Delivery::default(), false);
            while !emptied && round.files.len() < ROUND && begun.elapsed() < ROUND_TIME {
                match inbox.take(wait_s).await.map_err(|e| e.at_least(self.source_schema.span))? {
                    Some(delivery) => round.absorb(delivery),
                    None => emptied = true,
                }
            }
            let files = std::mem::take(&mut round.files);
            if self.add(files, FoundBy::Message).await? {
                self.keep_inbox().await?;
            }
            if let Some(inbox) = &mut self.inbox {
                inbox.done(round).await.map_err(|e| e.at_least(self.source_schema.span))?;
            }
            if emptied {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes what messages told and no epoch has read durable.
    async fn keep_inbox(&self) -> Result<()> {
        let (checkpoint, key, files) = (self.checkpoint.clone(), self.key("inbox"), self.waiting.of_messages());
        blocking(move || {
            let text = serde_json::to_string(&files).map_err(|e| Error::internal(e.to_string()))?;
            checkpoint.put_meta(&key, &text)
        })
        .await
    }

    /// Takes up what messages told an earlier run, as far as no epoch has read it.
    async fn remember_inbox(&mut self) -> Result<()> {
        let Some(text) = self.checkpoint.meta(&self.key("inbox"))? else { return Ok(()) };
        let files: Vec<FileEntry> = serde_json::from_str(&text).map_err(|e| self.damaged(&e))?;
        self.add(files, FoundBy::Message).await.map(|_| ())
    }

    /// Notes a full listing as done once everything it found is committed.
    fn settle(&mut self) -> Result<()> {
        let (Some(inbox), Some(at_ms)) = (&self.inbox, self.listing.owed_ms) else { return Ok(()) };
        if self.waiting.has_listed() || !self.skipped.is_empty() {
            return Ok(());
        }
        let listed = Listed { queue: inbox.url().to_owned(), at_ms };
        let text = serde_json::to_string(&listed).map_err(|e| Error::internal(e.to_string()))?;
        self.checkpoint.put_meta(&self.key("listed"), &text)?;
        self.listing.owed_ms = None;
        Ok(())
    }

    fn key(&self, what: &str) -> String {
        format!("files/{}/{what}", self.id)
    }

    fn damaged(&self, error: &serde_json::Error) -> Error {
        Error::environment(
            "CHECKPOINT_CORRUPT",
            format!("what {} found cannot be read: {error}", self.source_schema.title),
        )
    }
}

/// The queue of a spec that asks for notifications.
fn inbox(spec: &FilesSpec, remote: &Arc<Remote>) -> Result<Option<Inbox>> {
    let options = &spec.options.store;
    if !options.use_notifications {
        return Ok(None);
    }
    let Some(url) = &options.queue_url else { return Err(queue_required(options)) };
    let Some(aws) = remote.aws.clone() else {
        return Err(Error::internal("a store without queues was asked for one"));
    };
    let queue = Queue::new(url, aws)?;
    Ok(Some(Inbox::new(remote.clone(), queue, options.fetch_parallelism, &options.path_rewrites)))
}

#[async_trait]
impl Source for ObjectsSource {
    async fn next(&mut self, limited: bool) -> Result<Option<EpochInput>> {
        if !self.frozen {
            self.look().await?;
        } else if self.draining && (!limited || self.waiting.backlog().files < self.files_max()) {
            // A wait, however short, makes the service look everywhere.
            let enough = if limited { self.enough() } else { u64::MAX };
            self.draining = !self.receive(1, enough).await?;
        }
        let (files_max, bytes_max) = match limited {
            true => (self.files_max(), self.spec.options.max_bytes_per_trigger),
            false => (u64::MAX, None),
        };
        let files = self.waiting.oldest(files_max, bytes_max);
        let input = FilesInput::new(files).with_skipped(self.skipped.clone());
        *lock(&self.given) = input.files.clone();
        Ok((!input.is_empty()).then_some(EpochInput::Files(input)))
    }

    async fn freeze(&mut self) -> Result<()> {
        if self.inbox.is_some() {
            if self.listing_due()? {
                self.list(None).await?;
            }
            self.draining = true;
        } else {
            self.list(None).await?;
        }
        self.frozen = true;
        Ok(())
    }

    fn unfreeze(&mut self) {
        self.frozen = false;
    }

    async fn provider(&self, input: &EpochInput, counters: Arc<ReadCounters>) -> Result<Arc<dyn TableProvider>> {
        let EpochInput::Files(input) = input else {
            return Err(Error::internal(format!("{} was given another source's input", self.source_schema.title)));
        };
        let first_run = !input.files.is_empty() && *lock(&self.given) == input.files;
        let (place, unknown) = (self.place.clone(), self.unknown.clone());
        provider::bound(&self.source_schema, &self.spec, input, !first_run, counters, place, unknown)
    }

    async fn committed(&mut self, input: &EpochInput) -> Result<()> {
        let EpochInput::Files(input) = input else { return Ok(()) };
        lock(&self.given).clear();
        if let Some(unknown) = &self.unknown {
            unknown.pass(false);
        }
        self.waiting.forget(&input.files);
        if !input.skipped.is_empty() {
            self.skipped.clear();
            self.skipped_paths.clear();
        }
        self.settle()
    }

    async fn changed(&mut self) {
        match &mut self.inbox {
            Some(inbox) => inbox.rung().await,
            None => tokio::time::sleep(POLL).await,
        }
    }

    fn backlog(&self) -> Backlog {
        self.waiting.backlog()
    }

    async fn drift(&mut self, input: &EpochInput) -> Result<Drift> {
        drift(&self.source_schema, &self.spec, &self.place, input, self.unknown.as_deref()).await
    }

    async fn rebase(&mut self, spec: &Arc<SourceSpec>) -> Result<()> {
        let SourceKind::Files(files) = &spec.kind else {
            return Err(Error::internal(format!("{} is not a file source any more", spec.title)));
        };
        self.unknown = unknown_fields(files)?;
        self.source_schema = spec.as_ref().clone();
        self.spec = files.clone();
        Ok(())
    }

    fn facts(&self) -> Vec<(String, String)> {
        let (listings, requests) = self.remote.listed();
        let mut facts = vec![("listings".to_owned(), format!("{listings} in this run, {requests} requests"))];
        if let Some(inbox) = &self.inbox {
            let counts = inbox.counts();
            facts.push((
                "queue".to_owned(),
                format!(
                    "{} messages received, {} deleted, {} objects outside the path, {} messages not understood",
                    counts.received, counts.deleted, counts.elsewhere, counts.not_understood
                ),
            ));
        }
        facts
    }
}
