//! Listing and reading objects against a store in memory.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::Read;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ListResult, ObjectStore, ObjectStoreExt};

use super::connect::Connection;
use super::{Address, Inputs, Names, Place, Remote};
use crate::source::files::FileEntry;
use crate::source::files::content::ReadError;
use crate::source::files::glob::Glob;

/// A store in memory that lists three objects a page.
#[derive(Debug)]
struct Paged(Arc<InMemory>);

#[async_trait]
impl PaginatedListStore for Paged {
    async fn list_paginated(
        &self,
        prefix: Option<&str>,
        options: PaginatedListOptions,
    ) -> object_store::Result<PaginatedListResult> {
        use futures::TryStreamExt;
        let mut objects: Vec<_> = self.0.list(None).try_collect().await?;
        objects.sort_by(|a, b| a.location.cmp(&b.location));
        let after = options.page_token.or(options.offset).unwrap_or_default();
        objects.retain(|object| object.location.as_ref().starts_with(prefix.unwrap_or_default()));
        objects.retain(|object| object.location.as_ref() > after.as_str());
        let size = options.max_keys.unwrap_or(3);
        let page_token = (objects.len() > size).then(|| objects[size - 1].location.to_string());
        objects.truncate(size);
        Ok(PaginatedListResult { result: ListResult { common_prefixes: vec![], objects }, page_token })
    }
}

pub(super) async fn remote(path: &str, named: Option<&str>, objects: &[(&str, Vec<u8>)]) -> Arc<Remote> {
    let store = Arc::new(InMemory::new());
    for (key, bytes) in objects {
        store.put(&Path::parse(key).unwrap(), bytes.clone().into()).await.unwrap();
    }
    let connection = Connection { store: store.clone(), pages: Arc::new(Paged(store)), aws: None };
    let address = Address::parse(path, true).unwrap().unwrap();
    let filter = named.map(|named| Glob::new(named, true).unwrap());
    Arc::new(Remote::on(connection, address, Names { filter, ..Names::default() }))
}

fn text(content: &str) -> Vec<u8> {
    content.as_bytes().to_vec()
}

fn paths(files: &[FileEntry]) -> Vec<&str> {
    let mut paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    paths.sort_unstable();
    paths
}

#[tokio::test]
async fn a_listing_gives_what_is_meant_page_by_page() {
    let keys = [
        "in/a.json",
        "in/b.csv",
        "in/sub/c.json",
        "in/_x/d.json",
        "in/sub/marker",
        "inn/e.json",
        "in/f.json",
        "in/g.json",
    ];
    let objects: Vec<_> =
        keys.iter().map(|key| (*key, text(if key.ends_with("marker") { "" } else { "{}" }))).collect();
    let all = remote("s3://b/in", None, &objects).await;
    let files = all.files().await.unwrap();
    assert_eq!(
        paths(&files),
        ["s3://b/in/a.json", "s3://b/in/b.csv", "s3://b/in/f.json", "s3://b/in/g.json", "s3://b/in/sub/c.json"]
    );
    assert_eq!(all.listed(), (1, 3));
    let mut behind = all.list(Some("in/f.json".into()));
    let page = behind.next().await.unwrap().unwrap();
    assert_eq!(paths(&page.files), ["s3://b/in/g.json", "s3://b/in/sub/c.json"]);
    assert_eq!(page.last.as_deref(), Some("in/sub/marker"));
    let named = remote("s3://b/in", Some("*.csv"), &objects).await;
    assert_eq!(paths(&named.files().await.unwrap()), ["s3://b/in/b.csv"]);
    let pattern = remote("s3://b/in/?.json", None, &objects).await;
    assert_eq!(paths(&pattern.files().await.unwrap()), ["s3://b/in/a.json", "s3://b/in/f.json", "s3://b/in/g.json"]);
}

#[tokio::test]
async fn a_path_may_name_one_object_or_a_delta_table() {
    let objects = [("in/a.json", text("{}")), ("t/_delta_log/0.json", text("{}"))];
    let one = remote("s3://b/in/a.json", None, &objects).await;
    assert!(one.is_one_object().await.unwrap());
    assert_eq!(paths(&one.files().await.unwrap()), ["s3://b/in/a.json"]);
    let folder = remote("s3://b/in", None, &objects).await;
    assert!(!folder.is_one_object().await.unwrap() && !folder.is_delta_table().await.unwrap());
    assert!(remote("s3://b/t", None, &objects).await.is_delta_table().await.unwrap());
    assert!(remote("s3://b/none", None, &objects).await.files().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_are_read_ahead_in_parts_and_from_within() {
    let large: Vec<u8> = (0..9_000_000u32).map(|i| (i % 251) as u8).collect();
    let mut objects: Vec<(String, Vec<u8>)> =
        (0..40).map(|i| (format!("in/{i:02}"), format!("small {i}").into_bytes())).collect();
    objects.insert(20, ("in/large".into(), large.clone()));
    let listed: Vec<_> = objects.iter().map(|(key, bytes)| (key.as_str(), bytes.clone())).collect();
    let remote = remote("s3://b/in", None, &listed).await;
    let files: Vec<FileEntry> = objects
        .iter()
        .map(|(key, bytes)| FileEntry { path: format!("s3://b/{key}"), size: bytes.len() as u64, modified_ms: 0 })
        .collect();
    let place = Place::Remote(remote);
    tokio::task::spawn_blocking(move || {
        let read = |inputs: &mut Inputs, file: &FileEntry, from: u64| {
            let mut bytes = Vec::new();
            match inputs.open(file, from) {
                Ok(mut input) => input.read_to_end(&mut bytes).unwrap(),
                Err(_) => panic!("{}", file.path),
            };
            bytes
        };
        let mut inputs = Inputs::of(&place, files.iter().map(|file| (file, 0)));
        for (file, (_, bytes)) in files.iter().zip(&objects) {
            assert!(read(&mut inputs, file, 0) == *bytes, "{}", file.path);
        }
        // Not as announced: from within, and another file.
        let mut inputs = Inputs::of(&place, files.iter().map(|file| (file, 0)));
        assert!(read(&mut inputs, &files[20], 5_000_000) == large[5_000_000..]);
        assert_eq!(read(&mut inputs, &files[0], 0), b"small 0");
        let gone = FileEntry { path: "s3://b/in/gone".into(), size: 5, modified_ms: 0 };
        assert!(matches!(inputs.open(&gone, 0), Err(ReadError::Missing)));
    })
    .await
    .unwrap();
}
