//! New files of a directory as a stream, and all of its files as a table.
//!
//! Which files wait is decided by [`listing`] and [`watch`] against the checkpoint's ledger; how they become rows is
//! the [`exec`] module's matter; what a relation's options mean is [`mod@resolve`]'s. Nothing here knows of queries, sinks or
//! epochs' commits.
//!
//! Files are taken for complete and final from the moment they appear. An epoch's intent names its files with the
//! size and time they had, and that version of them is read ([`version`]). If a file was replaced before or while it was
//! read (a torn archive, say), the intent is written again with the file as it is now, and run again; so what the ledger
//! remembers is what was read. One that is written again each time is taken out of the intent, and waits. If one was removed between a failed run and the next, the re-run goes on without the file
//! and leaves it out of the ledger, so that the same name can be delivered again.
//!
//! Files in object stores are [`store`]'s.

mod aging;
mod ahead;
mod bad_records;
mod clean;
mod cleaning;
mod content;
mod evolve;
mod exec;
mod glob;
mod hints;
mod infer;
mod input;
mod listing;
mod metadata;
mod partition_columns;
mod pending;
mod preview;
pub(super) mod provider;
mod read;
mod relocate;
pub mod resolve;
mod root;
mod rules;
pub mod schema_log;
mod selection;
mod store;
#[cfg(test)]
mod tests;
mod version;
mod walk;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use alluvium_planner::relation::{FilesSpec, METADATA_COLUMN, SourceKind, SourceSpec};
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use tokio::task::JoinHandle;

pub use evolve::{added, grows_into};
pub use exec::FilesExec;
pub use infer::Sampling;
pub use input::{FileEntry, FilesInput};
pub(crate) use listing::stat;
pub use preview::{PreviewItem, preview};
pub use resolve::{
    Context, ResolvedFiles, WaitingForFiles, check_schema_location, columns_of, option_names, resolve, selection,
    static_provider, store_schema,
};
pub use selection::{FileStatus, Selection, statuses};
pub use store::{ObjectsSource, forget_place, is_remote};

use crate::checkpoint::{Alteration, Ledger};
use crate::clock::now_ms;
use crate::error::{Error, Result};
use crate::source::{Backlog, Drift, EpochInput, ReadCounters, Source};
use aging::Aging;
use ahead::Ahead;
use clean::Cleaner;
use cleaning::Cleaning;
use evolve::{UnknownFields, Widen};
use listing::Lister;
use pending::Pending;
use root::{Root, Target};
use rules::{Hidden, Times};
use schema_log::{SchemaLog, SchemaVersion};
use watch::{Mail, Watch};

/// Most files in one epoch when nothing is said.
const FILES_MAX_DEFAULT: u64 = 1000;

/// A sleeping source looks again after this even if nothing was heard.
const NET: Duration = Duration::from_secs(1);

/// Time between full listings while a watch runs, at least; a listing that takes long is made rarer.
const RELIST: Duration = Duration::from_secs(2);

/// Share of time a net listing may take: one part in this many.
const RELIST_SHARE: u32 = 20;

/// Looks without a watch are this far apart.
const POLL: Duration = Duration::from_millis(100);

/// A watch that could not be had is tried again after this.
const WATCH_RETRY: Duration = Duration::from_secs(30);

/// A directory that appeared is looked at once more after this: its own watch begins a moment after it does.
const SECOND_LOOK: Duration = Duration::from_millis(100);

/// New files of a directory, as a stream.
pub struct FilesSource {
    spec: Arc<FilesSpec>,
    source_schema: SourceSpec,
    work: Arc<Mutex<Discovery>>,
    id: String,
    ledger: Ledger,
    base: PathBuf,
    hidden: Hidden,
    times: Times,
    cleaning: Option<Cleaning>,
    aging: Aging,
    backlog: Backlog,
    frozen: bool,
    looks: u64,
    watching: Watching,
    listed: Option<(Instant, Duration)>,
    /// When everything was last listed.
    listed_all: Option<Instant>,
    relist: bool,
    second_looks: Vec<(Instant, PathBuf)>,
    /// Some where fields without a column end a run.
    unknown: Option<Arc<UnknownFields>>,
    /// Files of the last `next`: running them is a first run, anything else is a re-run.
    given: Mutex<Arc<[FileEntry]>>,
    /// What is read before an epoch asks for it.
    ahead: Arc<Ahead>,
}

/// What blocking calls work on.
struct Discovery {
    lister: Lister,
    pending: Pending,
    /// A listing left out files that were being written: the next one looks everywhere again.
    left_out: bool,
}

/// The part of a listing that is looked at.
enum Part<'p> {
    All,
    Recent,
    Below(&'p Path),
}

impl Discovery {
    /// Lists and takes in what is new, without the files that are known to be unfinished.
    fn list(&mut self, part: Part<'_>, watch: Option<&Watch>) -> Result<()> {
        let Discovery { lister, pending, left_out } = self;
        if matches!(part, Part::All) {
            pending.begin_again();
        }
        let mut take = |paths: &mut Vec<String>| {
            *left_out |= watch.is_some_and(|watch| watch.leave_out_written(paths));
            pending.add(paths)
        };
        match part {
            Part::All => lister.visit(true, &mut take),
            Part::Recent => lister.visit(false, &mut take),
            Part::Below(folder) => lister.visit_below(folder, &mut take),
        }
    }

    /// Remembers every file that is there now as one that is not to be read, some thousands at a time.
    fn pass_over_existing(&mut self, ledger: &Ledger, source: &str) -> Result<()> {
        self.lister.visit(true, &mut |paths| {
            let mut files = Vec::with_capacity(paths.len());
            for path in paths.iter() {
                files.extend(listing::stat(path)?);
            }
            ledger.note_existing(source, input::existing(source, &files))
        })
    }
}

enum Watching {
    Off { retry: Option<Instant> },
    Starting(JoinHandle<notify::Result<Watch>>),
    On(Arc<Watch>),
}

impl FilesSource {
    /// Opens the source behind what `ledger` remembers for `source_id`. `first_start`: the stream has never made an
    /// intent, so `includeExistingFiles` counts. Errors: PATH_NOT_FOUND, PERMISSION_DENIED, STREAM_OF_ONE_FILE.
    pub async fn open(source_id: &str, spec: &SourceSpec, ledger: Ledger, first_start: bool) -> Result<FilesSource> {
        let SourceKind::Files(files) = &spec.kind else {
            return Err(Error::internal(format!("{} is not a file source", spec.title)));
        };
        let lister = resolve::lister(files).map_err(|e| e.at_least(spec.span))?;
        if lister.root().target == Target::File {
            return Err(resolve::one_file(&files.path).at_least(spec.span));
        }
        let pass_over = first_start
            && !files.options.include_existing_files
            && !ledger.existing_are_noted(source_id, &files.path)?;
        let base = lister.root().base.clone();
        let (hidden, times) = (lister.hidden().clone(), Times::of(&files.options.discovery));
        let overwrites = files.options.discovery.allow_overwrites;
        let pending = Pending::new(source_id, ledger.clone(), times, overwrites);
        let clean = files.options.discovery.clean_source.as_ref();
        let cleaner = clean.map(|clean| Cleaner::new(source_id, ledger.clone(), lister.root(), clean)).transpose()?;
        let (at, to, cleans) = (source_id.to_owned(), ledger.clone(), cleaner.is_some());
        blocking(move || to.set_cleaning(&at, cleans)).await?;
        let work = Discovery { lister, pending, left_out: false };
        let mut source = FilesSource {
            spec: files.clone(),
            source_schema: spec.clone(),
            work: Arc::new(Mutex::new(work)),
            id: source_id.to_owned(),
            ledger,
            base,
            hidden,
            times,
            cleaning: cleaner.map(Cleaning::new),
            aging: Aging::default(),
            backlog: Backlog::default(),
            frozen: false,
            looks: 0,
            watching: Watching::Off { retry: None },
            listed: None,
            listed_all: None,
            relist: false,
            second_looks: Vec::new(),
            unknown: unknown_fields(files)?,
            given: Mutex::default(),
            ahead: Arc::default(),
        };
        source.give_up_missing().await?;
        if pass_over {
            let (ledger, id) = (source.ledger.clone(), source.id.clone());
            source.work(move |discovery| discovery.pass_over_existing(&ledger, &id)).await?;
            source.ledger.existing_noted(&source.id, &files.path)?;
        }
        Ok(source)
    }

    /// Files that a statement wants to be read again and that are not there are files like any other when they come.
    async fn give_up_missing(&self) -> Result<()> {
        let wanted = self.ledger.wanted(&self.id);
        if wanted.is_empty() {
            return Ok(());
        }
        let (ledger, id) = (self.ledger.clone(), self.id.clone());
        blocking(move || {
            let mut missing = Vec::new();
            for path in wanted.iter() {
                if listing::stat(path)?.is_none() {
                    missing.push(path.clone());
                }
            }
            ledger.give_up(&id, &missing)
        })
        .await
    }

    /// Finds out what is new, as cheaply as the watch allows, and completely.
    async fn look(&mut self) -> Result<()> {
        self.looks += 1;
        self.tend_watch().await;
        self.aging.tend(self.times, &self.ledger, &self.id, &below(&self.base)).await?;
        if lock(&self.work).pending.is_cut() {
            // The listing that is made when those at hand have been read finds everything else.
            return Ok(());
        }
        if self.backfill_due() {
            return self.list(true).await;
        }
        let Watching::On(watch) = &self.watching else {
            let enough =
                self.backlog.files > self.files_max() && self.listed.is_some_and(|(at, _)| at.elapsed() < RELIST);
            return if enough { Ok(()) } else { self.list(false).await };
        };
        let watch = watch.clone();
        let due = self.listed.is_none_or(|(at, took)| at.elapsed() > RELIST.max(took * RELIST_SHARE));
        let listed = self.read_mail(watch.take(), due).await?;
        if !listed && self.backlog.files == 0 {
            let waiting = watch.clone();
            blocking(move || {
                waiting.barrier();
                Ok(())
            })
            .await?;
            self.read_mail(watch.take(), false).await?;
        }
        Ok(())
    }

    /// Looks at what the mail names, or lists where that is called for; whether it has listed.
    async fn read_mail(&mut self, mail: Mail, due: bool) -> Result<bool> {
        if mail.ended {
            self.watching = Watching::Off { retry: Some(Instant::now() + NET) };
        }
        let list = due || mail.relist || mail.ended || self.relist;
        let now = Instant::now();
        self.second_looks.extend(mail.folders.iter().map(|folder| (now + SECOND_LOOK, folder.clone())));
        let mut folders = mail.folders;
        folders.extend(self.second_looks.extract_if(.., |(at, _)| *at <= now).map(|(_, folder)| folder));
        if list {
            self.list(false).await?;
        }
        if mail.files.is_empty() && folders.is_empty() {
            return Ok(list);
        }
        let watch = self.watch();
        self.work(move |discovery| {
            let takes = |path: &PathBuf| discovery.lister.takes(path);
            let files: Vec<String> = mail
                .files
                .iter()
                .filter(|path| takes(path))
                .filter_map(|path| path.to_str().map(str::to_owned))
                .collect();
            discovery.pending.refresh(&files)?;
            discovery.pending.add(&files)?;
            for folder in &folders {
                discovery.list(Part::Below(folder), watch.as_deref())?;
            }
            Ok(list)
        })
        .await
    }

    /// A listing: of everything, or of what may have changed since the last one.
    async fn list(&mut self, all: bool) -> Result<()> {
        let begun = Instant::now();
        // A directory does not tell that a file in it was overwritten.
        let all = all || self.listed.is_none() || self.spec.options.discovery.allow_overwrites;
        let watch = self.watch();
        self.work(move |discovery| {
            let left_out = std::mem::take(&mut discovery.left_out);
            let part = if all || left_out { Part::All } else { Part::Recent };
            discovery.list(part, watch.as_deref())
        })
        .await?;
        self.listed = Some((Instant::now(), begun.elapsed()));
        self.relist = false;
        if all {
            self.listed_all = Some(begun);
        }
        Ok(())
    }

    /// Lists everything again where fewer than `files_max` files are at hand because not all that wait are kept.
    async fn list_more(&mut self, files_max: u64) -> Result<()> {
        if !lock(&self.work).pending.lacks(files_max) {
            return Ok(());
        }
        lock(&self.work).pending.keep_at_least(files_max);
        self.list(true).await
    }

    fn backfill_due(&self) -> bool {
        let interval = self.spec.options.discovery.backfill_interval;
        interval.zip(self.listed_all).is_some_and(|(interval, at)| at.elapsed() >= interval)
    }

    /// Heeds statements about single files. Those to be read again are looked for unless nothing new is to be seen.
    async fn heed_alterations(&mut self) -> Result<()> {
        let alterations = self.ledger.take_alterations(&self.id);
        if alterations.is_empty() {
            return Ok(());
        }
        let frozen = self.frozen;
        self.work(move |discovery| {
            for alteration in alterations {
                match alteration {
                    Alteration::Skipped(path) => discovery.pending.drop_file(&path),
                    Alteration::Forgotten(path) if !frozen && discovery.lister.takes(Path::new(&path)) => {
                        discovery.pending.add(&[path])?;
                    }
                    Alteration::Forgotten(_) => {}
                }
            }
            Ok(())
        })
        .await
    }

    /// Takes over what cleaning in the background has come to, and begins it where it is due.
    async fn tend_cleaning(&mut self, wait: bool) -> Result<()> {
        match &mut self.cleaning {
            Some(cleaning) => cleaning.tend(wait).await,
            None => Ok(()),
        }
    }

    /// Starts the watch when looks repeat, and takes it over when it stands. What happened before it stood is found
    /// by one more listing.
    async fn tend_watch(&mut self) {
        match &mut self.watching {
            Watching::Off { retry } if self.looks > 1 && retry.is_none_or(|at| at <= Instant::now()) => {
                let (base, hidden) = (self.base.clone(), self.hidden.clone());
                self.watching = Watching::Starting(tokio::task::spawn_blocking(move || Watch::start(&base, hidden)));
            }
            Watching::Starting(start) if start.is_finished() => {
                let started = start.await;
                self.watch_started(started);
            }
            _ => {}
        }
    }

    fn watch_started(&mut self, started: Result<notify::Result<Watch>, tokio::task::JoinError>) {
        self.watching = match started {
            Ok(Ok(watch)) => {
                self.relist = true;
                Watching::On(Arc::new(watch))
            }
            // No watch to be had (limits, file system): polling does it.
            Ok(Err(_)) | Err(_) => Watching::Off { retry: Some(Instant::now() + WATCH_RETRY) },
        };
    }

    fn watch(&self) -> Option<Arc<Watch>> {
        match &self.watching {
            Watching::On(watch) => Some(watch.clone()),
            _ => None,
        }
    }

    fn files_max(&self) -> u64 {
        self.spec.options.max_files_per_trigger.unwrap_or(FILES_MAX_DEFAULT)
    }

    /// Runs something on the discovery where blocking is allowed.
    async fn work<R: Send + 'static>(
        &mut self,
        job: impl FnOnce(&mut Discovery) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let work = self.work.clone();
        let (result, backlog) = blocking(move || {
            let mut discovery = lock(&work);
            let result = job(&mut discovery)?;
            Ok((result, discovery.pending.backlog()))
        })
        .await
        .map_err(|e| e.at_least(self.source_schema.span))?;
        self.backlog = backlog;
        Ok(result)
    }
}

#[async_trait]
impl Source for FilesSource {
    async fn next(&mut self, limited: bool) -> Result<Option<EpochInput>> {
        if !self.frozen {
            self.look().await?;
        }
        self.heed_alterations().await?;
        self.tend_cleaning(false).await?;
        let (files_max, bytes_max) = match limited {
            true => (self.files_max(), self.spec.options.max_bytes_per_trigger),
            false => (u64::MAX, None),
        };
        if self.backlog.files == 0 {
            self.ahead.forget();
            return Ok(None);
        }
        self.list_more(files_max).await?;
        let (input, following) = self
            .work(move |discovery| {
                let (files, discovered_ms) = discovery.pending.oldest(files_max, bytes_max)?;
                let following = discovery.pending.following(&files, files_max, bytes_max);
                Ok((FilesInput::new(files).with_discovered(discovered_ms), following))
            })
            .await?;
        *lock(&self.given) = input.files.clone();
        self.ahead.expect(following);
        Ok((!input.is_empty()).then_some(EpochInput::Files(input)))
    }

    async fn freeze(&mut self) -> Result<()> {
        self.list(true).await?;
        self.frozen = true;
        lock(&self.work).pending.until(Some(now_ms()));
        Ok(())
    }

    fn unfreeze(&mut self) {
        lock(&self.work).pending.until(None);
        self.frozen = false;
        self.relist = true;
    }

    async fn provider(&self, input: &EpochInput, counters: Arc<ReadCounters>) -> Result<Arc<dyn TableProvider>> {
        let EpochInput::Files(input) = input else {
            return Err(Error::internal(format!("{} was given another source's input", self.source_schema.title)));
        };
        let first_run = !input.files.is_empty() && *lock(&self.given) == input.files;
        input.begin_run();
        let (place, unknown) = (store::Place::Local, self.unknown.clone());
        let files = provider::bound(&self.source_schema, &self.spec, input, !first_run, counters, place, unknown)?;
        Ok(Arc::new(files.reading_ahead(self.ahead.clone())))
    }

    async fn committed(&mut self, input: &EpochInput) -> Result<()> {
        let EpochInput::Files(input) = input else { return Ok(()) };
        let input = input.clone();
        if let Some(unknown) = &self.unknown {
            unknown.pass(false);
        }
        *lock(&self.given) = Arc::default();
        self.work(move |discovery| {
            discovery.pending.forget(&input.files);
            Ok(())
        })
        .await?;
        if let Some(cleaning) = &mut self.cleaning {
            cleaning.committed();
        }
        self.tend_cleaning(false).await
    }

    async fn tidy(&mut self) -> Result<()> {
        self.aging.finish(self.times, &self.ledger, &self.id, &below(&self.base)).await?;
        self.tend_cleaning(true).await
    }

    async fn changed(&mut self) {
        self.looks += 1;
        self.tend_watch().await;
        let now = Instant::now();
        let second_look = self.second_looks.iter().map(|(at, _)| at.saturating_duration_since(now)).min();
        match &mut self.watching {
            // The listing that a new watch needs has not been made.
            Watching::On(_) if self.relist => {}
            Watching::On(watch) => {
                let net = second_look.map_or(NET, |wait| wait.min(NET));
                tokio::select! {
                    () = watch.rung() => {}
                    () = self.ledger.altered() => {}
                    () = tokio::time::sleep(net) => {}
                }
            }
            Watching::Starting(start) => {
                tokio::select! {
                    started = start => self.watch_started(started),
                    () = tokio::time::sleep(POLL) => {}
                }
            }
            Watching::Off { .. } => tokio::time::sleep(POLL).await,
        }
    }

    fn backlog(&self) -> Backlog {
        self.backlog
    }

    async fn drift(&mut self, input: &EpochInput) -> Result<Drift> {
        if let Some(files) = changed(input, self.unknown.as_deref()) {
            let (chosen, met, unsteady) = (files.files.clone(), files.changed(), files.choose_again());
            let now = self.work(move |discovery| {
                let mut now = Vec::with_capacity(chosen.len());
                for file in chosen.iter() {
                    let found = listing::stat(&file.path)?.unwrap_or_else(|| file.clone());
                    let leaves = unsteady && (found != *file || met.as_ref() == Some(&file.path));
                    if leaves {
                        // Another listing finds it; there is none in a run to the end of what was there.
                        discovery.pending.drop_file(&file.path);
                        discovery.left_out = true;
                    }
                    now.push((!leaves).then_some(found));
                }
                Ok(now)
            });
            let now = now.await?;
            return Ok(Drift::Changed(choose_again(&self.given, files, now)));
        }
        drift(&self.source_schema, &self.spec, &store::Place::Local, input, self.unknown.as_deref()).await
    }

    async fn rebase(&mut self, spec: &Arc<SourceSpec>) -> Result<()> {
        let SourceKind::Files(files) = &spec.kind else {
            return Err(Error::internal(format!("{} is not a file source any more", spec.title)));
        };
        self.ahead.forget();
        self.unknown = unknown_fields(files)?;
        self.source_schema = spec.as_ref().clone();
        self.spec = files.clone();
        Ok(())
    }
}

/// The files of an input that could not be run because some are not what they were. What was met in them says nothing.
fn changed<'i>(input: &'i EpochInput, unknown: Option<&UnknownFields>) -> Option<&'i FilesInput> {
    let EpochInput::Files(files) = input else { return None };
    files.changed()?;
    if let Some(unknown) = unknown {
        unknown.take();
    }
    Some(files)
}

/// The same files as they are now, without those that are None. A first run stays one.
fn choose_again(given: &Mutex<Arc<[FileEntry]>>, input: &FilesInput, now: Vec<Option<FileEntry>>) -> EpochInput {
    let now = input.with_versions(now);
    let mut given = lock(given);
    if *given == input.files {
        *given = now.files.clone();
    }
    EpochInput::Files(now)
}

/// What is to be learnt from the fields of `input` that `unknown` met.
async fn drift(
    source: &SourceSpec,
    spec: &Arc<FilesSpec>,
    place: &store::Place,
    input: &EpochInput,
    unknown: Option<&UnknownFields>,
) -> Result<Drift> {
    let (EpochInput::Files(input), Some(unknown)) = (input, unknown) else { return Ok(Drift::None) };
    let met = unknown.take();
    let Some(first) = met.first() else { return Ok(Drift::None) };
    let mode = spec.options.evolution();
    if !mode.adds_columns() {
        return Ok(Drift::None);
    }
    let Some(log) = spec.schema_log.as_deref().map(SchemaLog::at) else { return Ok(Drift::None) };
    let (files, mut options, place) = (input.files.clone(), resolve::format_options(spec)?, place.clone());
    // What a sample of records passes over would be rescued for good.
    options.sampling_ratio = 1.0;
    let passes = provider::passes(spec, None);
    let learnt = blocking(move || infer::infer(&files, &options, &place, &passes, Sampling::ALL)).await?;
    let known = resolve::columns_of(spec)?;
    let learnt = match learnt {
        Some(learnt) => crate::table::schema::storable(&without_reserved(&learnt, spec)?)?,
        None => Arc::new(known.clone()),
    };
    let outgrown = met.iter().flat_map(|met| &met.outgrown).map(|name| name.to_lowercase()).collect();
    let widen = if mode.widens() { Widen::Outgrown(&outgrown) } else { Widen::Never };
    let (data, added) = evolve::merge(&known, &learnt, widen);
    if added.is_empty() {
        unknown.pass(true);
        return Ok(Drift::Passed);
    }
    let version = SchemaVersion {
        version: spec.schema_version.map_or(0, |version| version + 1),
        data,
        partitions: arrow::datatypes::Schema::new(spec.partition_columns.clone()),
    };
    let (title, restart) = (source.title.clone(), spec.options.schema_evolution_restart);
    Ok(Drift::Columns(Box::new(NewColumns { title, log, version, added, restart, cause: first.error() })))
}

/// Columns that a source's files have and its schema has not.
#[derive(Debug)]
pub struct NewColumns {
    /// How messages name the source.
    pub title: String,
    /// Where its schema's versions are.
    pub log: SchemaLog,
    /// The version with them, not stored yet.
    pub version: SchemaVersion,
    /// They, as `a.b BIGINT`.
    pub added: Vec<String>,
    /// The stream is to end once the version is stored, rather than go on with it.
    pub restart: bool,
    /// What was met, as an error.
    pub cause: Error,
}

/// Watches for fields that the columns of `spec` lack, if it is to.
fn unknown_fields(spec: &FilesSpec) -> Result<Option<Arc<UnknownFields>>> {
    if !resolve::watches_fields(spec) {
        return Ok(None);
    }
    let others = reserved(spec)?;
    Ok(Some(Arc::new(UnknownFields::new(&spec.data_schema, others.iter().map(String::as_str)))))
}

/// Names that no field of a file becomes a column under.
fn reserved(spec: &FilesSpec) -> Result<Vec<String>> {
    let mut names = vec![METADATA_COLUMN.to_owned()];
    names.extend(resolve::format_options(spec)?.rescued_data_column);
    names.extend(spec.partition_columns.iter().map(|field| field.name().clone()));
    Ok(names)
}

fn without_reserved(learnt: &arrow::datatypes::Schema, spec: &FilesSpec) -> Result<arrow::datatypes::Schema> {
    let reserved: Vec<String> = reserved(spec)?.iter().map(|name| name.to_lowercase()).collect();
    let fields = learnt.fields().iter().filter(|field| !reserved.contains(&field.name().to_lowercase()));
    Ok(arrow::datatypes::Schema::new(fields.cloned().collect::<Vec<_>>()))
}

/// Runs `job` on a thread that may block.
async fn blocking<R: Send + 'static>(job: impl FnOnce() -> Result<R> + Send + 'static) -> Result<R> {
    tokio::task::spawn_blocking(job).await.map_err(|e| Error::internal(format!("a listing ended early: {e}")))?
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the paths of all files below a directory begin with.
fn below(base: &Path) -> String {
    let base = base.to_string_lossy();
    if base.ends_with('/') { base.into_owned() } else { format!("{base}/") }
}

/// The place a spec's path names.
fn root_of(spec: &FilesSpec) -> Result<Root> {
    Root::find(&spec.path, resolve::strict_globs(spec))
}
