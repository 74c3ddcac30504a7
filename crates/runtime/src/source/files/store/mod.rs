//! Files in object stores: S3, Google Cloud Storage, Azure.
//!
//! A [`Remote`] is one relation's place in a bucket: it lists, page by page, and gives objects' bytes. [`source`] makes
//! a stream of it, by listing or by the events of a queue. What bytes mean is the decoders' matter, which files were
//! read before the ledger's. Only [`archive`] writes to a store, where `cleanSource` asks for it.

mod address;
mod archive;
mod connect;
mod events;
mod failure;
mod former_inbox;
mod inbox;
mod listed;
mod profile;
mod queue;
mod reader;
mod source;
#[cfg(test)]
mod tests;
mod waiting;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alluvium_parser::Diagnostic;
use alluvium_planner::options::FilesOptions;
use alluvium_planner::relation::FilesSpec;
use alluvium_planner::store_options::StoreOptions;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

pub use address::{Address, encoded_url, is_remote};
pub use archive::Archive;
pub use failure::object_changed;
pub use former_inbox::forget_place;
pub use reader::{Input, Inputs};
pub use source::ObjectsSource;

use super::FileEntry;
use super::glob::Glob;
use super::resolve;
use super::rules::{Hidden, Ignored};
use crate::checkpoint::{FileState, LedgerEntry};
use crate::error::{Error, Result};
use connect::{Aws, Connection};
use failure::{ObjectError, store_error};

/// Looks at a store without notifications are this far apart, where a trigger does not say.
pub const POLL: Duration = Duration::from_secs(1);

/// Where a relation's files are.
#[derive(Debug, Clone, Default)]
pub enum Place {
    /// In a local file system.
    #[default]
    Local,
    /// In an object store.
    Remote(Arc<Remote>),
}

impl Place {
    /// Where a spec's files are; connects to the store, but sends nothing.
    ///
    /// # Errors
    /// INVALID_PATH, INVALID_OPTION for store options that mean nothing there, STORE_CONFIGURATION.
    pub fn of(spec: &FilesSpec) -> Result<Place> {
        Place::find(&spec.path, spec.strict_globs, &spec.options.store, Names::of(&spec.options)?)
    }

    /// The same before there is a spec.
    pub fn find(path: &str, strict: bool, options: &StoreOptions, names: Names) -> Result<Place> {
        match Address::parse(path, strict)? {
            Some(address) => {
                let connection = connect::connect(&address, options)?;
                Ok(Place::Remote(Arc::new(Remote::on(connection, address, names))))
            }
            None => {
                match options.given.iter().find(|(name, _)| *name != "useNotifications" || options.use_notifications) {
                    Some((name, span)) => Err(connect::not_for(name, "files of the local file system", *span)),
                    None => Ok(Place::Local),
                }
            }
        }
    }

    /// The object store, where it is one.
    pub fn remote(&self) -> Option<&Arc<Remote>> {
        match self {
            Place::Local => None,
            Place::Remote(remote) => Some(remote),
        }
    }
}

/// Which names count.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// What `pathGlobFilter` says of file names.
    pub filter: Option<Glob>,
    /// Which parts of paths are hidden.
    pub hidden: Hidden,
}

impl Names {
    /// Those of the options. Errors: INVALID_OPTION.
    pub fn of(options: &FilesOptions) -> Result<Names> {
        let hidden = Hidden::new(options.discovery.ignored_path_segment_regex.as_deref())?;
        Ok(Names { filter: resolve::name_filter(options)?, hidden })
    }
}

/// One relation's place in a bucket.
pub struct Remote {
    address: Address,
    names: Names,
    store: Arc<dyn ObjectStore>,
    pages: Arc<dyn PaginatedListStore>,
    aws: Option<Aws>,
    listings: AtomicU64,
    requests: AtomicU64,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Remote({}{})", self.address.root, self.address.prefix)
    }
}

/// One page of a listing.
#[derive(Debug, Default)]
pub struct Page {
    /// Files that are meant, sorted by path.
    pub files: Vec<FileEntry>,
    /// The greatest key of all that were listed, meant or not.
    pub last: Option<String>,
}

/// A listing that has begun.
pub struct Listing {
    remote: Arc<Remote>,
    after: Option<String>,
    token: Option<String>,
    done: bool,
}

impl Remote {
    fn on(connection: Connection, address: Address, names: Names) -> Remote {
        let Connection { store, pages, aws } = connection;
        Remote { address, names, store, pages, aws, listings: AtomicU64::new(0), requests: AtomicU64::new(0) }
    }

    /// The place.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Listings begun, and requests they took.
    pub fn listed(&self) -> (u64, u64) {
        (self.listings.load(Ordering::Relaxed), self.requests.load(Ordering::Relaxed))
    }

    /// Begins to list what is there; only keys behind `after`, where it is given.
    pub fn list(self: &Arc<Self>, after: Option<String>) -> Listing {
        self.listings.fetch_add(1, Ordering::Relaxed);
        Listing { remote: self.clone(), after, token: None, done: false }
    }

    /// Whether an object counts, by its key.
    pub fn takes(&self, key: &str) -> bool {
        self.address.relative(key).is_some_and(|relative| self.ignore(relative).is_none())
    }

    /// Why an object does not count, by what of its key follows the base.
    pub fn ignore(&self, relative: &str) -> Option<Ignored> {
        if let Some(ignored) = self.address.ignore(relative, &self.names.hidden) {
            return Some(ignored);
        }
        let name = relative.rsplit('/').next().unwrap_or_default();
        let filter = self.names.filter.as_ref().filter(|filter| !filter.matches(name));
        filter.map(|filter| Ignored::Name(filter.text().to_owned()))
    }

    /// Size and time of one object; None when it is not there.
    pub async fn look_at(&self, key: &str) -> Result<Option<FileEntry>> {
        Ok(self.meta(key).await?.map(|meta| self.entry(key, &meta)))
    }

    /// What the store says of one object; None when it is not there.
    async fn meta(&self, key: &str) -> Result<Option<ObjectMeta>> {
        let url = self.address.url(key);
        let path = Path::parse(key).map_err(|e| store_error("look at", &url, &e.into()))?;
        match self.store.head(&path).await {
            Ok(meta) => Ok(Some(meta)),
            Err(error) => match ObjectError::of(&url, &error) {
                ObjectError::Missing => Ok(None),
                ObjectError::Failed(error) => Err(error),
            },
        }
    }

    /// All files there are now, oldest first. The one that the path names, where it names an object.
    pub async fn files(self: &Arc<Self>) -> Result<Vec<FileEntry>> {
        let mut files = Vec::new();
        let mut listing = self.list(None);
        while let Some(page) = listing.next().await? {
            files.extend(page.files);
        }
        if files.is_empty()
            && let Some(key) = self.address.object()
        {
            files.extend(self.look_at(key).await?);
        }
        files.sort_by(|a: &FileEntry, b| (a.modified_ms, &a.path).cmp(&(b.modified_ms, &b.path)));
        Ok(files)
    }

    /// Whether there is a Delta log below the path.
    pub async fn is_delta_table(&self) -> Result<bool> {
        if self.address.pattern.is_some() {
            return Ok(false);
        }
        let options = PaginatedListOptions { max_keys: Some(1), ..Default::default() };
        let prefix = format!("{}_delta_log/", self.address.base);
        let page = self.pages.list_paginated(Some(&prefix), options).await;
        let page = page.map_err(|e| store_error("list", &self.address.url(&self.address.base), &e))?;
        Ok(!page.result.objects.is_empty())
    }

    /// Whether the path names one object and nothing below it.
    pub async fn is_one_object(&self) -> Result<bool> {
        let Some(key) = self.address.object() else { return Ok(false) };
        let options = PaginatedListOptions { max_keys: Some(1), ..Default::default() };
        let page = self.pages.list_paginated(Some(&self.address.base), options).await;
        let page = page.map_err(|e| store_error("list", &self.address.url(&self.address.base), &e))?;
        Ok(page.result.objects.is_empty() && self.look_at(key).await?.is_some())
    }

    fn entry(&self, key: &str, meta: &ObjectMeta) -> FileEntry {
        FileEntry { path: self.address.url(key), size: meta.size, modified_ms: meta.last_modified.timestamp_millis() }
    }
}

impl Listing {
    /// The next page; None after the last one.
    pub async fn next(&mut self) -> Result<Option<Page>> {
        let Some(objects) = self.objects().await? else { return Ok(None) };
        let last = objects.iter().map(|object| object.location.as_ref()).max().map(str::to_owned);
        let remote = &self.remote;
        let mut files: Vec<FileEntry> = objects
            .iter()
            .filter(|object| remote.takes(object.location.as_ref()) && !is_folder(object))
            .map(|object| remote.entry(object.location.as_ref(), object))
            .collect();
        files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(Some(Page { files, last }))
    }

    /// The next page of everything below the base, sorted by path, with why an object does not count.
    pub async fn everything(&mut self) -> Result<Option<Vec<(FileEntry, Option<Ignored>)>>> {
        let Some(objects) = self.objects().await? else { return Ok(None) };
        let remote = &self.remote;
        let file = |object: &ObjectMeta| {
            let key = object.location.as_ref();
            let relative = remote.address.relative(key)?;
            Some((remote.entry(key, object), remote.ignore(relative)))
        };
        let mut files: Vec<_> = objects.iter().filter(|object| !is_folder(object)).filter_map(file).collect();
        files.sort_unstable_by(|(a, _), (b, _)| a.path.cmp(&b.path));
        Ok(Some(files))
    }

    /// The objects of the next page, as the store gives them.
    async fn objects(&mut self) -> Result<Option<Vec<ObjectMeta>>> {
        if self.done {
            return Ok(None);
        }
        let remote = &self.remote;
        let options = PaginatedListOptions {
            offset: self.after.clone(),
            page_token: self.token.take(),
            ..PaginatedListOptions::default()
        };
        let prefix = Some(remote.address.prefix.as_str()).filter(|prefix| !prefix.is_empty());
        remote.requests.fetch_add(1, Ordering::Relaxed);
        let listed = remote.pages.list_paginated(prefix, options).await;
        let listed = listed.map_err(|e| store_error("list", &remote.address.url(&remote.address.prefix), &e))?;
        self.token = listed.page_token.filter(|token| !token.is_empty());
        self.done = self.token.is_none();
        Ok(Some(listed.result.objects))
    }
}

/// Gives every object below the base, in the order of paths, with why it does not count; false ends it. Blocks.
pub fn walk(remote: &Arc<Remote>, visit: &mut dyn FnMut(FileEntry, Option<Ignored>) -> Result<bool>) -> Result<()> {
    let mut listing = remote.list(None);
    while let Some(page) = wait(listing.everything())? {
        for (file, ignored) in page {
            if !visit(file, ignored)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Whether an object that is known has other content now, as far as its time and size tell. Some services tell times to
/// the second in one place and more exactly in another, so that only whole seconds are compared.
pub fn replaced(known: &LedgerEntry, file: &FileEntry) -> bool {
    let seconds = |ms: i64| ms.div_euclid(1000);
    let (then, now) = (seconds(known.modified_ms), seconds(file.modified_ms));
    known.state != FileState::Skipped && (now > then || now == then && file.size != known.size)
}

fn is_folder(object: &ObjectMeta) -> bool {
    is_unnamed_folder(object.location.as_ref(), Some(object.size))
}

/// An empty object without an ending in its name: some tools make one for each folder.
fn is_unnamed_folder(key: &str, size: Option<u64>) -> bool {
    let name = key.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    size == Some(0) && (key.ends_with('/') || !name.contains('.'))
}

/// Waits for requests where blocking is allowed.
pub fn wait<R>(request: impl Future<Output = Result<R>>) -> Result<R> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => runtime.block_on(request),
        Err(e) => Err(Error::internal(format!("an object store was asked outside the runtime: {e}"))),
    }
}

/// Refuses a place that is something else than objects to be read. Blocks.
pub fn check_relation(remote: &Remote, typed: &str, streaming: bool) -> Result<()> {
    if streaming && wait(remote.is_one_object())? {
        return Err(resolve::one_file(typed));
    }
    if wait(remote.is_delta_table())? {
        return Err(Diagnostic::new(
            "PATH_IS_DELTA_TABLE",
            format!("`{typed}` is a Delta table, not a directory of files"),
        )
        .help("Delta tables in object stores cannot be read yet; copy it to a local directory")
        .into());
    }
    Ok(())
}
