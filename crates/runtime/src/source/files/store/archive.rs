//! What becomes of objects once they were read: deleted, or copied elsewhere and deleted.
//!
//! Knows stores; when an object is due is the [cleaner](crate::source::files::clean)'s matter. An object that is not as
//! it was read is left alone. Doing it again after a crash changes nothing: what was deleted is gone, and a copy that is
//! there already, byte for byte, is taken for ours.

use std::sync::Arc;

use alluvium_parser::Diagnostic;
use alluvium_planner::options::CleanSource;
use alluvium_planner::store_options::StoreOptions;
use bytes::{Buf, Bytes};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, WriteMultipart};

use super::address::Address;
use super::failure::store_error;
use super::{Remote, connect, replaced};
use crate::checkpoint::{Archived, LedgerEntry};
use crate::clock::now_ms;
use crate::error::{Error, Result};
use crate::source::files::clean::Outcome;

/// Objects cleaned at a time.
const AT_ONCE: usize = 16;

/// Objects up to this size are copied in one request; a service copies no more than 5 GB in one.
const COPY_MAX: u64 = 4 << 30;

/// Objects up to this size are written in one request.
const PUT_MAX: u64 = 8 << 20;

/// Parts of a larger one that may be on their way.
const PARTS: usize = 4;

/// Deletes or moves the objects of one place.
pub struct Archive {
    remote: Arc<Remote>,
    /// None: objects are deleted.
    to: Option<Destination>,
}

/// Where objects are moved to.
struct Destination {
    store: Arc<dyn ObjectStore>,
    address: Address,
    same_bucket: bool,
}

impl Archive {
    /// As the options say. Nothing is sent yet. Errors: INVALID_PATH, INVALID_OPTION for a destination that is not in
    /// the same service, CONTRADICTORY_OPTIONS for one inside the source, STORE_CONFIGURATION.
    pub fn new(remote: Arc<Remote>, clean: &CleanSource, options: &StoreOptions) -> Result<Archive> {
        let Some(typed) = &clean.move_to else { return Ok(Archive { remote, to: None }) };
        let from = &remote.address;
        let option = "option `cleanSource.moveDestination`";
        let address = Address::parse(typed, true)?.filter(|to| to.service == from.service && to.pattern.is_none());
        let Some(address) = address else {
            let message = format!("{option}: `{typed}` is not a place in the store of `{}`", from.root);
            return Err(Diagnostic::new("INVALID_OPTION", message)
                .help("name a directory of the same store, or copy the files there another way")
                .into());
        };
        if address.lies_in(from) || from.lies_in(&address) {
            let relation = if address.lies_in(from) { "lies inside the source" } else { "contains the source" };
            let message = format!("{option}: `{typed}` {relation}, `{}`", from.url(&from.base));
            return Err(Diagnostic::new("CONTRADICTORY_OPTIONS", message)
                .help("choose a directory beside the source")
                .into());
        }
        let same_bucket = address.root == from.root;
        let store = match same_bucket {
            true => remote.store.clone(),
            false => connect::connect(&address, options)?.store,
        };
        Ok(Archive { remote, to: Some(Destination { store, address, same_bucket }) })
    }

    /// Deletes or moves objects, several at a time; what became of each, in order.
    pub async fn clean(&self, files: &[LedgerEntry]) -> Vec<Result<Outcome>> {
        let cleaned: Vec<_> = files.iter().map(|known| self.clean_one(known)).collect();
        futures::stream::iter(cleaned).buffered(AT_ONCE).collect().await
    }

    async fn clean_one(&self, known: &LedgerEntry) -> Result<Outcome> {
        let address = &self.remote.address;
        let Some((key, relative)) = address.key(&known.path).and_then(|key| Some((key, address.relative(key)?))) else {
            return Ok(Err("not cleaned: the object is not below the source's path any more".into()));
        };
        let now = self.remote.meta(key).await?;
        if let Some(meta) = &now {
            let file = self.remote.entry(key, meta);
            if file.size != known.size || replaced(known, &file) {
                return Ok(Err("not cleaned: the file has changed since it was read".into()));
            }
        }
        let moved_to = match (&self.to, now) {
            (None, None) => None,
            (None, Some(_)) => {
                self.delete(key).await?;
                None
            }
            (Some(to), None) => {
                let target = format!("{}{relative}", to.address.base);
                if to.meta(&target).await?.is_none() {
                    return Ok(Err("not cleaned: the file is gone".into()));
                }
                Some(to.address.url(&target))
            }
            (Some(to), Some(meta)) => {
                let target = self.copy(&meta, to, relative, known.modified_ms).await?;
                let there = to.meta(&target).await?;
                if there.is_none_or(|there| there.size != meta.size) {
                    return Err(incomplete(&to.address.url(&target)));
                }
                // Copying takes its time.
                let tag = self.remote.meta(key).await?.and_then(|now| now.e_tag);
                if tag != meta.e_tag {
                    return Ok(Err("not cleaned: the file has changed since it was read".into()));
                }
                self.delete(key).await?;
                Some(to.address.url(&target))
            }
        };
        Ok(Ok(Archived { at_ms: now_ms(), moved_to }))
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let url = self.remote.address.url(key);
        let path = path_of(&url, key)?;
        match self.remote.store.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(store_error("delete", &url, &error)),
        }
    }

    /// Copies an object; the key of the copy. Another object that is there keeps its place, and the copy gets its time
    /// into its name.
    async fn copy(&self, from: &ObjectMeta, to: &Destination, relative: &str, modified_ms: i64) -> Result<String> {
        let plain = format!("{}{relative}", to.address.base);
        let target = match to.meta(&plain).await? {
            None => plain,
            Some(there) if self.is_copy(from, to, &there).await? => return Ok(plain),
            Some(_) => format!("{plain}.{modified_ms}"),
        };
        let url = to.address.url(&target);
        let path = path_of(&url, &target)?;
        let failed = |error: object_store::Error| store_error("move to", &url, &error);
        if to.same_bucket && from.size <= COPY_MAX {
            to.store.copy(&from.location, &path).await.map_err(failed)?;
            return Ok(target);
        }
        if from.size <= PUT_MAX {
            let bytes: Vec<Bytes> = self.bytes(from).await?.try_collect().await.map_err(failed)?;
            to.store.put(&path, bytes.into_iter().collect()).await.map_err(failed)?;
            return Ok(target);
        }
        let mut bytes = self.bytes(from).await?;
        let mut upload = WriteMultipart::new(to.store.put_multipart(&path).await.map_err(failed)?);
        loop {
            match bytes.next().await {
                Some(Ok(piece)) => {
                    upload.wait_for_capacity(PARTS).await.map_err(failed)?;
                    upload.put(piece);
                }
                Some(Err(error)) => {
                    // The failure that matters is the one that is told.
                    let _ = upload.abort().await;
                    return Err(failed(error));
                }
                None => break,
            }
        }
        upload.finish().await.map_err(failed)?;
        Ok(target)
    }

    /// Whether what is there already holds the same bytes.
    async fn is_copy(&self, from: &ObjectMeta, to: &Destination, there: &ObjectMeta) -> Result<bool> {
        if from.size != there.size {
            return Ok(false);
        }
        let url = to.address.url(there.location.as_ref());
        let failed = |error: object_store::Error| store_error("read", &url, &error);
        let mut ours = self.bytes(from).await?;
        let mut theirs = to.store.get(&there.location).await.map_err(failed)?.into_stream();
        let (mut a, mut b) = (Bytes::new(), Bytes::new());
        loop {
            if a.is_empty() {
                a = ours.next().await.transpose().map_err(failed)?.unwrap_or_default();
            }
            if b.is_empty() {
                b = theirs.next().await.transpose().map_err(failed)?.unwrap_or_default();
            }
            let both = a.len().min(b.len());
            if both == 0 {
                return Ok(a.is_empty() && b.is_empty());
            }
            if a[..both] != b[..both] {
                return Ok(false);
            }
            a.advance(both);
            b.advance(both);
        }
    }

    /// The bytes of an object as it was looked at.
    async fn bytes(&self, from: &ObjectMeta) -> Result<BoxStream<'static, object_store::Result<Bytes>>> {
        let options = GetOptions::new().with_if_match(from.e_tag.clone());
        let opened = self.remote.store.get_opts(&from.location, options).await;
        let url = self.remote.address.url(from.location.as_ref());
        Ok(opened.map_err(|error| store_error("read", &url, &error))?.into_stream())
    }
}

impl Destination {
    async fn meta(&self, key: &str) -> Result<Option<ObjectMeta>> {
        let url = self.address.url(key);
        match self.store.head(&path_of(&url, key)?).await {
            Ok(meta) => Ok(Some(meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(store_error("look at", &url, &error)),
        }
    }
}

fn incomplete(url: &str) -> Error {
    Error::environment("STORE_UNREACHABLE", format!("the copy at `{url}` is not complete, and the original stays"))
}

fn path_of(url: &str, key: &str) -> Result<Path> {
    Path::parse(key).map_err(|e| store_error("look at", url, &e.into()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use object_store::memory::InMemory;

    use super::super::tests::remote;
    use super::*;
    use crate::checkpoint::FileState;

    fn delete() -> CleanSource {
        CleanSource { move_to: None, retention: Duration::from_secs(8 * 86_400) }
    }

    /// What the ledger knows of an object as it is now.
    async fn known(remote: &Remote, key: &str) -> LedgerEntry {
        let file = remote.look_at(key).await.unwrap().unwrap();
        LedgerEntry {
            source: "0".into(),
            path: file.path,
            state: FileState::Ingested,
            size: file.size,
            modified_ms: file.modified_ms,
            epoch: Some(0),
            discovered_ms: 0,
            processed_ms: None,
            committed_ms: 0,
            rows: None,
            archived: None,
            reason: None,
        }
    }

    async fn there(store: &Arc<dyn ObjectStore>, key: &str) -> Option<Bytes> {
        let object = store.get(&Path::parse(key).unwrap()).await.ok()?;
        Some(object.bytes().await.unwrap())
    }

    #[tokio::test]
    async fn objects_are_deleted_as_they_were_read_and_only_once() {
        let remote = remote("s3://b/in", None, &[("in/a", b"1".to_vec()), ("in/b", b"2".to_vec())]).await;
        let archive = Archive::new(remote.clone(), &delete(), &StoreOptions::default()).unwrap();
        let (a, b) = (known(&remote, "in/a").await, known(&remote, "in/b").await);
        remote.store.put(&Path::from("in/b"), b"other".to_vec().into()).await.unwrap();
        let elsewhere = LedgerEntry { path: "s3://c/in/a".into(), ..a.clone() };
        let cleaned = archive.clean(&[a.clone(), b, elsewhere]).await;
        let outcomes: Vec<_> = cleaned.into_iter().map(|outcome| outcome.unwrap()).collect();
        assert_eq!(outcomes[0].as_ref().unwrap().moved_to, None);
        assert!(outcomes[1].as_ref().unwrap_err().contains("has changed"));
        assert!(outcomes[2].as_ref().unwrap_err().contains("not below"));
        assert_eq!((there(&remote.store, "in/a").await, there(&remote.store, "in/b").await.is_some()), (None, true));
        assert!(archive.clean_one(&a).await.unwrap().is_ok(), "done again after a crash");
    }

    #[tokio::test]
    async fn objects_are_copied_to_other_buckets_whatever_their_size() {
        let large: Vec<u8> = (0..20_000_000u32).map(|i| (i % 253) as u8).collect();
        let objects =
            [("in/empty.json", Vec::new()), ("in/small.json", b"1".to_vec()), ("in/large.json", large.clone())];
        let remote = remote("s3://b/in", None, &objects).await;
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let address = Address::parse("s3://c/done", true).unwrap().unwrap();
        let to = Some(Destination { store: store.clone(), address, same_bucket: false });
        let archive = Archive { remote: remote.clone(), to };
        for (key, bytes) in &objects {
            let entry = known(&remote, key).await;
            let target = key.replace("in/", "done/");
            let moved = archive.clean_one(&entry).await.unwrap().unwrap();
            assert_eq!(moved.moved_to, Some(format!("s3://c/{target}")));
            assert!(there(&store, &target).await.unwrap() == *bytes && there(&remote.store, key).await.is_none());
            assert_eq!(archive.clean_one(&entry).await.unwrap().unwrap().moved_to, moved.moved_to, "done again");
        }
        // The copy was made, and then the process ended; the second byte from the end tells another object from it.
        let mut other = large.clone();
        other[19_999_998] ^= 1;
        for (key, bytes, target) in [("in/large.json", large, "done/large.json"), ("in/large.json", other, "")] {
            remote.store.put(&Path::from(key), bytes.into()).await.unwrap();
            let entry = known(&remote, key).await;
            let moved = archive.clean_one(&entry).await.unwrap().unwrap().moved_to.unwrap();
            let renamed = format!("done/large.json.{}", entry.modified_ms);
            assert_eq!(moved, format!("s3://c/{}", if target.is_empty() { &renamed } else { target }));
        }
    }
}
