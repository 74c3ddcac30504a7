//! The bytes of objects for threads that block: fetched ahead by tasks, handed over piece by piece.
//!
//! A reader says which files it will want, in order. The next few are asked for while the current one is decoded, so
//! that many small objects cost their bytes and not their round trips; a large one comes in ranges, each a request of
//! its own that fails if the object was replaced meanwhile. What waits in memory is bounded by [`AHEAD`],
//! [`AHEAD_BYTES`] and [`QUEUE`], per reading thread.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures::StreamExt;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::failure::{ObjectError, store_error};
use super::{Place, Remote};
use crate::error::Error;
use crate::source::files::FileEntry;
use crate::source::files::content::ReadError;
use crate::source::files::version::Version;

/// Most objects asked for ahead of the one that is read.
const AHEAD: usize = 16;

/// Most bytes of them.
const AHEAD_BYTES: u64 = 16 << 20;

/// Larger objects come in ranges of this size.
const RANGE: u64 = 4 << 20;

/// Pieces that may wait for the reader, per object.
const QUEUE: usize = 2;

/// Where a reader gets its files from.
#[derive(Default)]
pub enum Inputs {
    /// The local file system.
    #[default]
    Local,
    /// An object store.
    Remote(Fetches),
}

/// An open file.
pub enum Input {
    /// A local one.
    File(Arc<File>),
    /// An object.
    Object(ObjectReader),
}

impl Inputs {
    /// Files of `place`, of which `wanted` (each with the byte where reading begins) will be opened in this order.
    /// Must be called in the runtime's context.
    pub fn of<'f>(place: &Place, wanted: impl Iterator<Item = (&'f FileEntry, u64)>) -> Inputs {
        match place {
            Place::Local => Inputs::Local,
            Place::Remote(remote) => {
                let wanted = wanted.map(|(file, from)| Wanted { path: file.path.clone(), from, size: file.size });
                Inputs::Remote(Fetches {
                    remote: remote.clone(),
                    runtime: Handle::current(),
                    wanted: wanted.collect(),
                    begun: VecDeque::new(),
                })
            }
        }
    }

    /// Opens a file so that the next byte read is the one at `from`. Blocks.
    pub fn open(&mut self, file: &FileEntry, from: u64) -> Result<Input, ReadError> {
        match self {
            Inputs::Local => {
                let path = std::path::Path::new(&file.path);
                let failed = |e: std::io::Error| match e.kind() {
                    std::io::ErrorKind::NotFound => ReadError::Missing,
                    _ => ReadError::Failed(Error::io("read", path, &e)),
                };
                let mut open = File::open(path).map_err(failed)?;
                if from > 0 {
                    open.seek(SeekFrom::Start(from)).map_err(failed)?;
                }
                Ok(Input::File(Arc::new(open)))
            }
            Inputs::Remote(fetches) => fetches.open(file, from).map(Input::Object),
        }
    }
}

impl Input {
    /// Which version of the file this is; None where nothing of it is read.
    pub fn version(&self) -> std::io::Result<Option<Version>> {
        match self {
            Input::File(file) => Version::of_file(&file.metadata()?).map(Some),
            Input::Object(object) => Ok(object.version.clone()),
        }
    }

    /// Whether there is nothing to read at all.
    pub fn is_empty(&self) -> bool {
        match self {
            Input::File(file) => file.metadata().is_ok_and(|now| now.len() == 0),
            Input::Object(object) => object.current.is_empty() && object.ended,
        }
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Input::File(file) => file.as_ref().read(buffer),
            Input::Object(object) => object.read(buffer),
        }
    }
}

/// Objects on their way.
pub struct Fetches {
    remote: Arc<Remote>,
    runtime: Handle,
    wanted: VecDeque<Wanted>,
    begun: VecDeque<(Wanted, Fetch)>,
}

#[derive(Debug, Clone, PartialEq)]
struct Wanted {
    path: String,
    from: u64,
    size: u64,
}

/// What comes of an object.
enum Piece {
    /// Its version, first.
    Opened(Version),
    /// Bytes of it.
    Bytes(Bytes),
}

/// One object on its way; dropped, it is given up.
struct Fetch {
    pieces: mpsc::Receiver<Result<Piece, ObjectError>>,
    task: JoinHandle<()>,
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fetches {
    fn open(&mut self, file: &FileEntry, from: u64) -> Result<ObjectReader, ReadError> {
        let wanted = Wanted { path: file.path.clone(), from, size: file.size };
        let expected = self.begun.front().is_some_and(|(first, _)| *first == wanted);
        let fetch = expected.then(|| self.begun.pop_front()).flatten().map(|(_, fetch)| fetch);
        if fetch.is_none() && self.begun.is_empty() && self.wanted.front() == Some(&wanted) {
            self.wanted.pop_front();
        }
        let fetch = fetch.unwrap_or_else(|| self.begin(&wanted));
        self.begin_ahead();
        let mut reader = ObjectReader { fetch, version: None, current: Bytes::new(), ended: false };
        match reader.advance() {
            Ok(()) => Ok(reader),
            Err(ObjectError::Missing) => Err(ReadError::Missing),
            Err(ObjectError::Failed(error)) => Err(ReadError::Failed(error)),
        }
    }

    fn begin_ahead(&mut self) {
        let cost = |wanted: &Wanted| wanted.size.min(RANGE * QUEUE as u64);
        let mut bytes: u64 = self.begun.iter().map(|(wanted, _)| cost(wanted)).sum();
        while self.begun.len() < AHEAD && bytes < AHEAD_BYTES {
            let Some(next) = self.wanted.pop_front() else { break };
            bytes += cost(&next);
            let fetch = self.begin(&next);
            self.begun.push_back((next, fetch));
        }
    }

    fn begin(&self, wanted: &Wanted) -> Fetch {
        let (sender, pieces) = mpsc::channel(QUEUE);
        let (remote, wanted) = (self.remote.clone(), wanted.clone());
        let task = self.runtime.spawn(async move {
            if let Err(error) = fetch(&remote, &wanted, &sender).await {
                // Nobody listening is as good as told.
                let _ = sender.send(Err(error)).await;
            }
        });
        Fetch { pieces, task }
    }
}

/// Sends an object's version and bytes, until done or until nobody listens.
async fn fetch(
    remote: &Remote,
    wanted: &Wanted,
    out: &mpsc::Sender<Result<Piece, ObjectError>>,
) -> Result<(), ObjectError> {
    let url = wanted.path.as_str();
    let key = remote.address.key(url).unwrap_or(url);
    let location = Path::parse(key).map_err(|e| ObjectError::Failed(store_error("read", url, &e.into())))?;
    let failed = |error: object_store::Error| ObjectError::of(url, &error);
    if wanted.from == 0 && wanted.size <= RANGE {
        let object = remote.store.get(&location).await.map_err(failed)?;
        if out.send(Ok(Piece::Opened(Version::of_object(&object.meta)))).await.is_err() {
            return Ok(());
        }
        let mut stream = object.into_stream();
        while let Some(piece) = stream.next().await {
            if out.send(Ok(Piece::Bytes(piece.map_err(failed)?))).await.is_err() {
                break;
            }
        }
        return Ok(());
    }
    let (mut at, mut end, mut tag) = (wanted.from, wanted.size, None);
    let mut opened = false;
    while at < end {
        let options = GetOptions::new().with_range(Some(at..at.saturating_add(RANGE))).with_if_match(tag.take());
        let result = match remote.store.get_opts(&location, options).await {
            Ok(result) => result,
            Err(error) if !opened => return ended_before(remote, key, at, out).await.unwrap_or(Err(failed(error))),
            Err(error) => return Err(failed(error)),
        };
        if !std::mem::replace(&mut opened, true)
            && out.send(Ok(Piece::Opened(Version::of_object(&result.meta)))).await.is_err()
        {
            break;
        }
        end = result.meta.size;
        tag = result.meta.e_tag.clone();
        let piece = result.bytes().await.map_err(failed)?;
        at += piece.len() as u64;
        if piece.is_empty() || out.send(Ok(Piece::Bytes(piece))).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Services refuse a range behind the end of an object. Where that is why a request failed, the object has become shorter
/// since it was found: it has no bytes there. None: it failed for another reason.
async fn ended_before(
    remote: &Remote,
    key: &str,
    at: u64,
    out: &mpsc::Sender<Result<Piece, ObjectError>>,
) -> Option<Result<(), ObjectError>> {
    let meta = remote.meta(key).await.ok().flatten().filter(|meta| meta.size <= at)?;
    // Nobody listening is as good as told.
    let _ = out.send(Ok(Piece::Opened(Version::of_object(&meta)))).await;
    Some(Ok(()))
}

/// The bytes of one object.
pub struct ObjectReader {
    fetch: Fetch,
    version: Option<Version>,
    current: Bytes,
    ended: bool,
}

impl ObjectReader {
    /// Waits for bytes when there are none left.
    fn advance(&mut self) -> Result<(), ObjectError> {
        while self.current.is_empty() && !self.ended {
            match self.fetch.pieces.blocking_recv() {
                Some(Ok(Piece::Opened(version))) => self.version = Some(version),
                Some(Ok(Piece::Bytes(piece))) => self.current = piece,
                Some(Err(error)) => return Err(error),
                None => self.ended = true,
            }
        }
        Ok(())
    }
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.advance().map_err(|error| match error {
            ObjectError::Missing => std::io::Error::from(std::io::ErrorKind::NotFound),
            ObjectError::Failed(error) => std::io::Error::other(error),
        })?;
        let count = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
