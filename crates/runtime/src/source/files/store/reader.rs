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
    File(File),
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
                Ok(Input::File(open))
            }
            Inputs::Remote(fetches) => fetches.open(file, from).map(Input::Object),
        }
    }
}

impl Input {
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
            Input::File(file) => file.read(buffer),
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

/// One object on its way; dropped, it is given up.
struct Fetch {
    pieces: mpsc::Receiver<Result<Bytes, ObjectError>>,
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
        let mut reader = ObjectReader { fetch, current: Bytes::new(), ended: false };
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

/// Sends an object's bytes, until done or until nobody listens.
async fn fetch(
    remote: &Remote,
    wanted: &Wanted,
    out: &mpsc::Sender<Result<Bytes, ObjectError>>,
) -> Result<(), ObjectError> {
    let url = wanted.path.as_str();
    let key = remote.address.key(url).unwrap_or(url);
    let location = Path::parse(key).map_err(|e| ObjectError::Failed(store_error("read", url, &e.into())))?;
    let failed = |error: object_store::Error| ObjectError::of(url, &error);
    if wanted.from == 0 && wanted.size <= RANGE {
        let mut stream = remote.store.get(&location).await.map_err(failed)?.into_stream();
        while let Some(piece) = stream.next().await {
            if out.send(Ok(piece.map_err(failed)?)).await.is_err() {
                break;
            }
        }
        return Ok(());
    }
    let (mut at, mut end, mut tag) = (wanted.from, wanted.size, None);
    while at < end {
        let options = GetOptions::new().with_range(Some(at..at.saturating_add(RANGE))).with_if_match(tag.take());
        let result = remote.store.get_opts(&location, options).await.map_err(failed)?;
        end = result.meta.size;
        tag = result.meta.e_tag.clone();
        let piece = result.bytes().await.map_err(failed)?;
        at += piece.len() as u64;
        if piece.is_empty() || out.send(Ok(piece)).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// The bytes of one object.
pub struct ObjectReader {
    fetch: Fetch,
    current: Bytes,
    ended: bool,
}

impl ObjectReader {
    /// Waits for bytes when there are none left.
    fn advance(&mut self) -> Result<(), ObjectError> {
        while self.current.is_empty() && !self.ended {
            match self.fetch.pieces.blocking_recv() {
                Some(Ok(piece)) => self.current = piece,
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
