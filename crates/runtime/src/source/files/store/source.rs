//! New objects of a bucket as a stream.
//!
//! Without notifications every look is a listing: of everything, or only of the names behind the last one seen
//! ([`IncrementalListing`](alluvium_planner::store_options::IncrementalListing)). With them, one listing finds what was there before, and from then on the queue tells. What
//! a message told is kept in the checkpoint's ledger before the message is deleted; that the first listing was read to its
//! end is kept under `files/<source>/listed`. A start after that does not list. Objects that a statement wants to be read
//! again are asked about by name.
//!
//! Sizes and times are those of the listing or the event; objects are not asked about one by one. Where overwriting is
//! allowed those that messages tell of are, since an event's time is not the time that a listing gives.
//!
//! Of very many waiting objects the oldest are in memory. When those have been read, the others are found again: by a
//! listing of everything, or, where messages told of all of them, in the ledger.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use alluvium_planner::relation::{FilesSpec, SourceKind, SourceSpec};
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use futures::{StreamExt, TryStreamExt};

use super::connect::queue_required;
use super::former_inbox::take_over_inbox;
use super::inbox::{Delivery, Inbox};
use super::listed::{Listed, ListingState, listed_key};
use super::queue::Queue;
use super::waiting::{FoundBy, Waiting};
use super::{Archive, POLL, Place, Remote, replaced};
use crate::checkpoint::{Alteration, Checkpoint, Told};
use crate::clock::now_ms;
use crate::error::{Error, Result};
use crate::source::files::aging::Aging;
use crate::source::files::clean::Cleaner;
use crate::source::files::cleaning::Cleaning;
use crate::source::files::evolve::UnknownFields;
use crate::source::files::rules::Times;
use crate::source::files::{
    FILES_MAX_DEFAULT, FileEntry, FilesInput, blocking, changed, choose_again, drift, input, lock, provider,
    unknown_fields,
};
use crate::source::{Backlog, Drift, EpochInput, ReadCounters, Source};

/// While more waits than an epoch takes, a new listing waits this long.
const RELIST: Duration = Duration::from_secs(10);

/// The queue is not emptied into memory: more waiting objects than this stay in it, or twice an epoch's.
const WAITING_MAX: u64 = 2000;

/// Objects that messages told are made durable so many at a time,
const ROUND: usize = 500;

/// or as many as came in this time: well below the one after which messages come again.
const ROUND_TIME: Duration = Duration::from_secs(5);

/// Objects asked about at a time.
const LOOKS: usize = 16;

/// So many of what messages told an earlier run are taken up at once.
const TOLD: usize = 4096;

/// New objects of a bucket, as a stream.
pub struct ObjectsSource {
    id: String,
    spec: Arc<FilesSpec>,
    source_schema: SourceSpec,
    place: Place,
    remote: Arc<Remote>,
    checkpoint: Checkpoint,
    waiting: Waiting,
    times: Times,
    overwrites: bool,
    cleaning: Option<Cleaning>,
    aging: Aging,
    listing: ListingState,
    inbox: Option<Inbox>,
    frozen: bool,
    /// Frozen, and the queue was not found empty since.
    draining: bool,
    /// Some where fields without a column end a run.
    unknown: Option<Arc<UnknownFields>>,
    /// Files of the last `next`: running them is a first run, anything else is a re-run.
    given: Mutex<Arc<[FileEntry]>>,
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
        let ledger = checkpoint.ledger();
        let pass_over =
            first_start && !files.options.include_existing_files && !ledger.existing_are_noted(id, &files.path)?;
        let cleaning = cleaning(id, files, &remote, &checkpoint).map_err(|e| e.at_least(spec.span))?;
        let (at, cleans) = (id.to_owned(), cleaning.is_some());
        blocking(move || ledger.set_cleaning(&at, cleans)).await?;
        let mut source = ObjectsSource {
            id: id.to_owned(),
            spec: files.clone(),
            source_schema: spec.clone(),
            place,
            remote,
            checkpoint,
            waiting: Waiting::default(),
            times: Times::of(&files.options.discovery),
            overwrites: files.options.discovery.allow_overwrites,
            cleaning,
            aging: Aging::default(),
            listing: ListingState::default(),
            inbox,
            frozen: false,
            draining: false,
            unknown: unknown_fields(files)?,
            given: Mutex::default(),
        };
        if source.inbox.is_some() {
            source.checkpoint.ledger().listen(id);
            take_over_inbox(&source.checkpoint, id).map_err(|e| e.at_least(spec.span))?;
            source.remember_inbox().await?;
        }
        let wanted = source.checkpoint.ledger().wanted(id);
        source.look_for(wanted.iter().cloned().collect()).await?;
        if pass_over {
            source.pass_over_existing().await?;
        }
        Ok(source)
    }

    /// Remembers every object that is there now as one that is not to be read, page by page.
    async fn pass_over_existing(&mut self) -> Result<()> {
        let begun_ms = now_ms();
        let mut listing = self.remote.list(None);
        while let Some(page) = listing.next().await.map_err(|e| e.at_least(self.source_schema.span))? {
            let (ledger, id) = (self.checkpoint.ledger(), self.id.clone());
            blocking(move || ledger.note_existing(&id, input::existing(&id, &page.files))).await?;
        }
        self.checkpoint.ledger().existing_noted(&self.id, &self.spec.path)?;
        self.listing.owed_ms = Some(begun_ms);
        self.settle()
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
        self.aging.tend(self.times, &self.checkpoint.ledger(), &self.id, &self.below()).await?;
        if self.waiting.is_cut() {
            // What is looked for when those at hand have been read finds everything else.
            return Ok(());
        }
        if self.inbox.is_some() {
            if self.listing_due()? {
                self.list(None).await?;
            }
            if self.waiting.is_cut() {
                return Ok(());
            }
            return self.receive(0, self.enough()).await.map(|_| ());
        }
        let rests = self.listing.ended_at.is_some_and(|at| at.elapsed() < RELIST);
        if rests && self.waiting.backlog().files > self.files_max() {
            return Ok(());
        }
        let after = self.listing.begin_after(&self.spec.options.store, self.overwrites);
        self.list(after).await.map(|_| ())
    }

    /// With notifications: whether a listing is called for beside them.
    fn listing_due(&self) -> Result<bool> {
        if self.listing.owed_ms.is_some() {
            return Ok(false);
        }
        let stored = self.checkpoint.meta(&listed_key(&self.id))?;
        let Some(stored) = stored else { return Ok(true) };
        let listed: Listed = serde_json::from_str(&stored).map_err(|e| self.damaged(&e))?;
        let every = self.spec.options.store.backfill_interval;
        let age = Duration::from_millis(u64::try_from(now_ms().saturating_sub(listed.at_ms)).unwrap_or(0));
        let other_queue = self.inbox.as_ref().is_some_and(|inbox| inbox.url() != listed.queue);
        Ok(other_queue || every.is_some_and(|every| age >= every))
    }

    /// What the URLs of all objects at the place begin with.
    fn below(&self) -> String {
        let address = self.remote.address();
        address.url(&address.base)
    }

    /// Finds everything again where fewer than `files_max` objects are at hand because not all that wait are kept.
    async fn look_for_more(&mut self, files_max: u64) -> Result<()> {
        if !self.waiting.lacks(files_max) {
            return Ok(());
        }
        self.waiting.keep_at_least(files_max);
        if self.inbox.is_some() && self.listing.owed_ms.is_none() {
            self.waiting.begin_again();
            return self.remember_inbox().await;
        }
        self.list(None).await.map(|_| ())
    }

    /// Lists, page by page; full when `after` is None. When the newest object that was found was modified.
    async fn list(&mut self, after: Option<String>) -> Result<Option<i64>> {
        let (begun, begun_ms, full) = (Instant::now(), now_ms(), after.is_none());
        let remote = self.remote.clone();
        let (_, requests_before) = remote.listed();
        let mut listing = remote.list(after);
        let (mut last, mut newest_ms) = (None, None);
        if full {
            self.waiting.begin_again();
        }
        while let Some(page) = listing.next().await.map_err(|e| e.at_least(self.source_schema.span))? {
            last = last.max(page.last);
            newest_ms = newest_ms.max(page.files.iter().map(|file| file.modified_ms).max());
            self.add(page.files, FoundBy::Listing).await?;
        }
        self.listing.ended(last, full.then(|| (begun, remote.listed().1 - requests_before)));
        if full {
            self.listing.owed_ms = Some(begun_ms);
            self.settle()?;
        }
        Ok(newest_ms)
    }

    /// Adds those that are new; `files` are sorted by path, or few.
    async fn add(&mut self, files: Vec<FileEntry>, found_by: FoundBy) -> Result<()> {
        let at_ms = now_ms();
        let new = self.unread(files, found_by).await?;
        new.into_iter().for_each(|file| self.waiting.add(file, found_by, at_ms));
        Ok(())
    }

    /// Those of `files` that do not wait and are to be read.
    async fn unread(&self, mut files: Vec<FileEntry>, found_by: FoundBy) -> Result<Vec<FileEntry>> {
        let overwrites = self.overwrites;
        if overwrites && found_by == FoundBy::Message {
            files = self.as_they_are(&files).await?.into_iter().flatten().collect();
        }
        files.retain(|file| match overwrites {
            true => !self.waiting.contains_as_is(file),
            false => !self.waiting.contains(&file.path),
        });
        if files.is_empty() {
            return Ok(files);
        }
        let (ledger, id, times) = (self.checkpoint.ledger(), self.id.clone(), self.times);
        blocking(move || {
            let ages = ledger.ages(&id);
            files.retain(|file| times.ignore(&file.path, file.modified_ms, &ages).is_none());
            files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
            files.dedup_by(|a, b| a.path == b.path);
            let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
            let known: Vec<bool> = match overwrites {
                false => ledger.contains_sorted(&id, &paths)?,
                true => {
                    let entries = ledger.entries_sorted(&id, &paths)?;
                    let read = |(entry, file): (&Option<_>, _)| entry.as_ref().is_some_and(|e| !replaced(e, file));
                    entries.iter().zip(&files).map(read).collect()
                }
            };
            let mut known = known.into_iter();
            files.retain(|_| !known.next().unwrap_or(false));
            Ok(files)
        })
        .await
    }

    /// Objects with the sizes and times that the store gives them, in order; None for those that are gone.
    async fn as_they_are(&self, files: &[FileEntry]) -> Result<Vec<Option<FileEntry>>> {
        let look = |file: &FileEntry| {
            let (remote, path) = (self.remote.clone(), file.path.clone());
            async move {
                match remote.address().key(&path) {
                    Some(key) => remote.look_at(key).await,
                    None => Ok(None),
                }
            }
        };
        let looks: Vec<_> = files.iter().map(look).collect();
        futures::stream::iter(looks).buffered(LOOKS).try_collect().await
    }

    /// Looks for objects that a statement wants to be read again. Those that are not there are like any other when they
    /// come.
    async fn look_for(&mut self, paths: Vec<String>) -> Result<()> {
        let meant = |path: &String| self.remote.address().key(path).is_some_and(|key| self.remote.takes(key));
        let paths: Vec<String> = paths.into_iter().filter(meant).collect();
        if paths.is_empty() {
            return Ok(());
        }
        let asked: Vec<FileEntry> =
            paths.iter().map(|path| FileEntry { path: path.clone(), size: 0, modified_ms: 0 }).collect();
        let found = self.as_they_are(&asked).await.map_err(|e| e.at_least(self.source_schema.span))?;
        let gone = paths.iter().zip(&found).filter(|(_, found)| found.is_none());
        let gone: Vec<String> = gone.map(|(path, _)| path.clone()).collect();
        self.add(found.into_iter().flatten().collect(), FoundBy::Listing).await?;
        let (ledger, id) = (self.checkpoint.ledger(), self.id.clone());
        blocking(move || ledger.give_up(&id, &gone)).await
    }

    /// Heeds statements about single files. Those to be read again are looked for unless nothing new is to be seen: then by
    /// the next start, since the ledger keeps that they are wanted.
    async fn heed_alterations(&mut self) -> Result<()> {
        let mut wanted = Vec::new();
        for alteration in self.checkpoint.ledger().take_alterations(&self.id) {
            match alteration {
                Alteration::Skipped(path) => self.waiting.drop_file(&path),
                Alteration::Forgotten(_) if self.frozen => {}
                Alteration::Forgotten(path) => wanted.push(path),
            }
        }
        self.look_for(wanted).await
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
            self.take_told(std::mem::take(&mut round.files)).await?;
            if let Some(inbox) = &mut self.inbox {
                inbox.done(round).await.map_err(|e| e.at_least(self.source_schema.span))?;
            }
            if emptied {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes durable what messages told of objects that are to be read, and adds them.
    async fn take_told(&mut self, files: Vec<FileEntry>) -> Result<()> {
        let at_ms = now_ms();
        let new = self.unread(files, FoundBy::Message).await?;
        let (ledger, id) = (self.checkpoint.ledger(), self.id.clone());
        let told: Vec<Told> = new.iter().map(|file| Told { file: file.clone(), at_ms }).collect();
        if !told.is_empty() {
            blocking(move || ledger.keep_told(&id, &told)).await?;
        }
        new.into_iter().for_each(|file| self.waiting.add(file, FoundBy::Message, at_ms));
        Ok(())
    }

    /// Takes up what messages told and no epoch has read, some thousands at a time.
    async fn remember_inbox(&mut self) -> Result<()> {
        let mut after: Option<String> = None;
        loop {
            let (ledger, id, from) = (self.checkpoint.ledger(), self.id.clone(), after.clone());
            let told = blocking(move || ledger.told(&id, from.as_deref(), TOLD)).await?;
            let Some(last) = told.last() else { return Ok(()) };
            after = Some(last.file.path.clone());
            let files = told.iter().map(|told| told.file.clone()).collect();
            let new = self.unread(files, FoundBy::Message).await?;
            let at: HashMap<&str, i64> = told.iter().map(|told| (told.file.path.as_str(), told.at_ms)).collect();
            let unread: HashSet<&str> = new.iter().map(|file| file.path.as_str()).collect();
            let read = |path: &&str| !unread.contains(path) && !self.waiting.contains(path);
            let read: Vec<String> = at.keys().copied().filter(read).map(str::to_owned).collect();
            for file in &new {
                let at_ms = at.get(file.path.as_str()).copied().unwrap_or_else(now_ms);
                self.waiting.add(file.clone(), FoundBy::Message, at_ms);
            }
            let (ledger, id) = (self.checkpoint.ledger(), self.id.clone());
            blocking(move || ledger.drop_told(&id, &read)).await?;
        }
    }

    /// Notes a full listing as done once everything it found is committed.
    fn settle(&mut self) -> Result<()> {
        let (Some(inbox), Some(at_ms)) = (&self.inbox, self.listing.owed_ms) else { return Ok(()) };
        if self.waiting.has_listed() || self.waiting.is_cut() {
            return Ok(());
        }
        let listed = Listed { queue: inbox.url().to_owned(), at_ms };
        let text = serde_json::to_string(&listed).map_err(|e| Error::internal(e.to_string()))?;
        self.checkpoint.put_meta(&listed_key(&self.id), &text)?;
        self.listing.owed_ms = None;
        Ok(())
    }

    /// Takes over what cleaning in the background has come to, and begins it where it is due.
    async fn tend_cleaning(&mut self, wait: bool) -> Result<()> {
        match &mut self.cleaning {
            Some(cleaning) => cleaning.tend(wait).await,
            None => Ok(()),
        }
    }

    fn damaged(&self, error: &serde_json::Error) -> Error {
        Error::environment(
            "CHECKPOINT_CORRUPT",
            format!("what {} found cannot be read: {error}", self.source_schema.title),
        )
    }
}

/// Cleaning of a spec that asks for it.
fn cleaning(id: &str, spec: &FilesSpec, remote: &Arc<Remote>, checkpoint: &Checkpoint) -> Result<Option<Cleaning>> {
    let Some(options) = &spec.options.discovery.clean_source else { return Ok(None) };
    let archive = Archive::new(remote.clone(), options, &spec.options.store)?;
    Ok(Some(Cleaning::new(Cleaner::of_objects(id, checkpoint.ledger(), archive, options))))
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
        self.heed_alterations().await?;
        self.tend_cleaning(false).await?;
        let (files_max, bytes_max) = match limited {
            true => (self.files_max(), self.spec.options.max_bytes_per_trigger),
            false => (u64::MAX, None),
        };
        self.look_for_more(files_max).await?;
        let (files, discovered_ms) = self.waiting.oldest(files_max, bytes_max);
        let input = FilesInput::new(files).with_discovered(discovered_ms);
        *lock(&self.given) = input.files.clone();
        Ok((!input.is_empty()).then_some(EpochInput::Files(input)))
    }

    async fn freeze(&mut self) -> Result<()> {
        self.draining = self.inbox.is_some();
        if self.inbox.is_none() || self.listing_due()? {
            // By the store's clock: what comes later is for another run, however often this one has to list.
            let newest_ms = self.list(None).await?;
            self.waiting.until(newest_ms);
        }
        self.frozen = true;
        Ok(())
    }

    fn unfreeze(&mut self) {
        self.waiting.until(None);
        // What came meanwhile may stand before the last name that was seen.
        self.listing.begin_again();
        self.frozen = false;
    }

    async fn provider(&self, input: &EpochInput, counters: Arc<ReadCounters>) -> Result<Arc<dyn TableProvider>> {
        let EpochInput::Files(input) = input else {
            return Err(Error::internal(format!("{} was given another source's input", self.source_schema.title)));
        };
        let first_run = !input.files.is_empty() && *lock(&self.given) == input.files;
        input.begin_run();
        let (place, unknown) = (self.place.clone(), self.unknown.clone());
        let files = provider::bound(&self.source_schema, &self.spec, input, !first_run, counters, place, unknown)?;
        Ok(Arc::new(files))
    }

    async fn committed(&mut self, input: &EpochInput) -> Result<()> {
        let EpochInput::Files(input) = input else { return Ok(()) };
        *lock(&self.given) = Arc::default();
        if let Some(unknown) = &self.unknown {
            unknown.pass(false);
        }
        self.waiting.forget(&input.files, self.overwrites);
        if let Some(cleaning) = &mut self.cleaning {
            cleaning.committed();
        }
        self.settle()?;
        self.tend_cleaning(false).await
    }

    async fn tidy(&mut self) -> Result<()> {
        self.aging.finish(self.times, &self.checkpoint.ledger(), &self.id, &self.below()).await?;
        self.tend_cleaning(true).await
    }

    async fn changed(&mut self) {
        let ledger = self.checkpoint.ledger();
        let found = async {
            match &mut self.inbox {
                Some(inbox) => inbox.rung().await,
                None => tokio::time::sleep(POLL).await,
            }
        };
        tokio::select! {
            () = found => {}
            () = ledger.altered() => {}
        }
    }

    fn backlog(&self) -> Backlog {
        self.waiting.backlog()
    }

    async fn drift(&mut self, input: &EpochInput) -> Result<Drift> {
        if let Some(files) = changed(input, self.unknown.as_deref()) {
            // Nobody writes to an object for long: it is replaced whole.
            if files.choose_again() {
                return Ok(Drift::None);
            }
            let now = self.as_they_are(&files.files).await?.into_iter().zip(files.files.iter());
            let now = now.map(|(now, chosen)| Some(now.unwrap_or_else(|| chosen.clone()))).collect();
            return Ok(Drift::Changed(choose_again(&self.given, files, now)));
        }
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use object_store::ObjectStoreExt;
    use object_store::path::Path;

    use super::*;
    use crate::checkpoint::{EpochCommit, Intent};
    use crate::metrics::EpochRecord;
    use crate::source::files::{store, tests};

    /// A source of the objects of a store in memory that keeps few of those that wait.
    async fn source(remote: Arc<Remote>, checkpoint: Checkpoint, kept_max: usize) -> ObjectsSource {
        let local = tempfile::tempdir().unwrap();
        let source_schema = tests::json(local.path(), &[("maxFilesPerTrigger", "4")]).await;
        let SourceKind::Files(spec) = &source_schema.kind else { panic!() };
        ObjectsSource {
            id: "0".into(),
            spec: spec.clone(),
            source_schema: source_schema.clone(),
            place: Place::Remote(remote.clone()),
            remote,
            checkpoint,
            waiting: Waiting::keeping(kept_max),
            times: Times::default(),
            overwrites: false,
            cleaning: None,
            aging: Aging::default(),
            listing: ListingState::default(),
            inbox: None,
            frozen: false,
            draining: false,
            unknown: None,
            given: Mutex::default(),
        }
    }

    async fn commit(source: &mut ObjectsSource, epoch: u64, input: EpochInput) -> Vec<String> {
        let EpochInput::Files(files) = &input else { panic!() };
        let inputs = vec![("0".to_owned(), input.clone())];
        let intent = Intent {
            epoch,
            timestamp_ms: 0,
            inputs: inputs.clone(),
            fingerprint: String::new(),
            statics: Default::default(),
            watermark: Default::default(),
        };
        source.checkpoint.write_intent(&intent).unwrap();
        let ledger = files.ledger_entries("0", epoch, 0, 0);
        let record = EpochRecord { epoch, ..EpochRecord::default() };
        let commit = EpochCommit {
            record,
            inputs,
            ledger,
            positions: Vec::new(),
            state: Vec::new(),
            joins: Vec::new(),
            sink: Vec::new(),
        };
        source.checkpoint.commit(commit).unwrap();
        source.committed(&input).await.unwrap();
        files.files.iter().map(|file| file.path.clone()).collect()
    }

    #[tokio::test]
    async fn a_run_to_the_end_lists_again_where_not_all_that_waits_is_kept() {
        let keys: Vec<String> = (0..20).map(|at| format!("in/{:02}.json", at * 7 % 20)).collect();
        let objects: Vec<_> = keys.iter().map(|key| (key.as_str(), b"{}".to_vec())).collect();
        let remote = store::tests::remote("s3://b/in", None, &objects).await;
        let mut source = source(remote.clone(), Checkpoint::in_memory().unwrap(), 6).await;
        source.freeze().await.unwrap();
        assert_eq!(source.backlog().files, 20);
        // One that comes later, by the store's clock, is for another run.
        let begun_ms = now_ms();
        while now_ms() <= begun_ms {
            std::thread::yield_now();
        }
        remote.store.put(&Path::from("in/new.json"), b"{}".to_vec().into()).await.unwrap();
        let (mut read, mut epoch) = (Vec::new(), 0);
        while let Some(input) = source.next(true).await.unwrap() {
            assert!(input.size().files <= 4);
            read.extend(commit(&mut source, epoch, input).await);
            epoch += 1;
        }
        assert!(remote.listed().0 > 2, "it had to list again");
        read.sort();
        assert_eq!(read, (0..20).map(|at| format!("s3://b/in/{at:02}.json")).collect::<Vec<_>>());
        source.unfreeze();
        let input = source.next(true).await.unwrap().unwrap();
        assert_eq!(commit(&mut source, epoch, input).await, ["s3://b/in/new.json"]);
    }

    #[tokio::test]
    async fn what_messages_told_is_found_in_the_ledger_where_not_all_of_it_is_kept() {
        let keys: Vec<String> = (0..20).map(|at| format!("in/{at:02}.json")).collect();
        let objects: Vec<_> = keys.iter().map(|key| (key.as_str(), b"{}".to_vec())).collect();
        let remote = store::tests::remote("s3://b/in", None, &objects).await;
        let checkpoint = Checkpoint::in_memory().unwrap();
        let told = |at: u64| FileEntry { path: format!("s3://b/in/{at:02}.json"), size: 2, modified_ms: at as i64 };
        let mut before = source(remote.clone(), checkpoint.clone(), 6).await;
        checkpoint.ledger().listen("0");
        before.take_told((0..20).map(told).collect()).await.unwrap();
        assert_eq!(before.backlog().files, 20);
        // As a process that is started again finds it.
        let mut source = source(remote.clone(), checkpoint.clone(), 6).await;
        source.remember_inbox().await.unwrap();
        source.frozen = true;
        let (mut read, mut epoch) = (Vec::new(), 0);
        loop {
            if source.waiting.lacks(4) {
                source.waiting.begin_again();
                source.remember_inbox().await.unwrap();
            }
            let Some(input) = source.next(true).await.unwrap() else { break };
            read.extend(commit(&mut source, epoch, input).await);
            epoch += 1;
        }
        assert_eq!(read, (0..20).map(|at| told(at).path).collect::<Vec<_>>(), "oldest first");
        assert!(checkpoint.ledger().told("0", None, 9).unwrap().is_empty());
        assert_eq!(remote.listed().0, 0);
    }
}
