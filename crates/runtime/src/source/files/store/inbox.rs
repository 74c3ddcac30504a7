//! New objects by the messages of a queue.
//!
//! A message is deleted once the objects it names are remembered durably (which is the caller's to do, between
//! [`Inbox::take`] and [`Inbox::done`]) or do not matter here: other events, other prefixes. A message that is not
//! understood is left alone, for the queue's own dead-letter rules, and counted.

use std::sync::Arc;

use futures::future::{select_all, try_join_all};
use futures::{StreamExt, TryStreamExt};
use tokio::task::JoinHandle;

use super::events::{self, Created};
use super::queue::{BATCH, Message, Queue};
use super::{Remote, is_unnamed_folder};
use crate::clock::now_ms;
use crate::error::{Error, Result};
use crate::source::files::FileEntry;

/// How long a sleeping stream waits for a message, seconds: the service's maximum.
const LONG_POLL_S: u32 = 20;

/// Requests that delete messages, at a time.
const DELETIONS: usize = 8;

/// One queue, read for one place.
pub struct Inbox {
    remote: Arc<Remote>,
    queue: Queue,
    parallelism: usize,
    rewrites: Vec<(String, String)>,
    /// Requests that wait for messages while the stream sleeps.
    polls: Vec<JoinHandle<Result<Vec<Message>>>>,
    /// What they brought.
    arrived: Vec<Result<Vec<Message>>>,
    counts: Counts,
}

/// What came of messages so far in this run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Received.
    pub received: u64,
    /// Deleted.
    pub deleted: u64,
    /// Objects outside the place, or not meant by it.
    pub elsewhere: u64,
    /// Received and left in the queue because nothing is known of their form.
    pub not_understood: u64,
}

/// What one look into the queue brought.
#[derive(Debug, Default)]
pub struct Delivery {
    /// Objects that appeared; some may be known.
    pub files: Vec<FileEntry>,
    /// Messages to be deleted when the files are remembered.
    receipts: Vec<String>,
}

impl Delivery {
    /// Takes in what another look brought.
    pub fn absorb(&mut self, other: Delivery) {
        self.files.extend(other.files);
        self.receipts.extend(other.receipts);
    }
}

impl Inbox {
    /// Reads `queue` for `remote` with `parallelism` requests at a time.
    pub fn new(remote: Arc<Remote>, queue: Queue, parallelism: u64, rewrites: &[(String, String)]) -> Inbox {
        Inbox {
            remote,
            queue,
            parallelism: usize::try_from(parallelism).unwrap_or(1).max(1),
            rewrites: rewrites.to_vec(),
            polls: Vec::new(),
            arrived: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// The queue's URL.
    pub fn url(&self) -> &str {
        self.queue.url()
    }

    /// What came of messages so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What is in the queue, a few messages at a time; None when it is empty. Waits `wait_s` seconds for the first.
    pub async fn take(&mut self, wait_s: u32) -> Result<Option<Delivery>> {
        let mut messages = Vec::new();
        for arrived in std::mem::take(&mut self.arrived) {
            messages.extend(arrived?);
        }
        if messages.is_empty() {
            let requests = (0..self.parallelism).map(|_| self.queue.receive(wait_s));
            messages = try_join_all(requests).await?.into_iter().flatten().collect();
        }
        if messages.is_empty() {
            return Ok(None);
        }
        let mut delivery = Delivery::default();
        for message in messages {
            self.counts.received += 1;
            match events::parse(&message.body) {
                None => self.counts.not_understood += 1,
                Some(created) => {
                    for created in created {
                        match self.file(&created).await? {
                            Some(file) => delivery.files.push(file),
                            None => self.counts.elsewhere += 1,
                        }
                    }
                    delivery.receipts.push(message.receipt);
                }
            }
        }
        Ok(Some(delivery))
    }

    /// The files of a delivery are remembered: its messages are deleted.
    pub async fn done(&mut self, delivery: Delivery) -> Result<()> {
        self.counts.deleted += delivery.receipts.len() as u64;
        let deletions: Vec<_> = delivery
            .receipts
            .chunks(BATCH)
            .map(|some| {
                let (queue, some) = (self.queue.clone(), some.to_vec());
                async move { queue.delete(&some).await }
            })
            .collect();
        futures::stream::iter(deletions).buffer_unordered(DELETIONS).try_collect::<Vec<()>>().await?;
        Ok(())
    }

    /// Returns when a message has come, or none for a while. Cancel-safe: what came meanwhile is in the next take.
    pub async fn rung(&mut self) {
        if !self.arrived.is_empty() {
            return;
        }
        while self.polls.len() < self.parallelism {
            let queue = self.queue.clone();
            self.polls.push(tokio::spawn(async move { queue.receive(LONG_POLL_S).await }));
        }
        let (ended, at, _) = select_all(self.polls.iter_mut()).await;
        self.polls.remove(at);
        self.arrived.push(ended.unwrap_or_else(|e| Err(Error::internal(format!("waiting for messages ended: {e}")))));
    }

    /// The object of an event, where it is meant here.
    async fn file(&self, created: &Created) -> Result<Option<FileEntry>> {
        let url = events::url(created, &self.rewrites);
        let Some(key) = self.remote.address().key(&url).filter(|key| self.remote.takes(key)) else { return Ok(None) };
        if is_unnamed_folder(key, created.size) {
            return Ok(None);
        }
        match (created.size, created.at_ms) {
            (Some(size), at_ms) => Ok(Some(FileEntry { size, modified_ms: at_ms.unwrap_or_else(now_ms), path: url })),
            (None, _) => self.remote.look_at(key).await,
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        for poll in &self.polls {
            poll.abort();
        }
    }
}
