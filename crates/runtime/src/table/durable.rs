//! A local object store that has what it was given on disk before it says so: contents first, then the name, then
//! the directory. For foreign code that writes into `_delta_log`; reads and listings go through unchanged.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::path::{Path as FilePath, PathBuf};

use async_trait::async_trait;
use futures::FutureExt;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

/// The local file system from its root on.
#[derive(Debug)]
pub struct DurableLocal {
    local: LocalFileSystem,
}

impl DurableLocal {
    /// Paths are absolute ones without the leading `/`.
    pub fn new() -> Self {
        DurableLocal { local: LocalFileSystem::new() }
    }
}

impl Default for DurableLocal {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for DurableLocal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DurableLocal")
    }
}

/// A file without its name yet.
#[derive(Debug)]
struct Draft {
    file: File,
    temporary: PathBuf,
    target: PathBuf,
}

impl Draft {
    fn begin(target: PathBuf) -> std::io::Result<Self> {
        // The directory is not created: where it is gone, the table was dropped meanwhile.
        let mut name = std::ffi::OsString::from(".");
        name.push(target.file_name().unwrap_or_default());
        name.push(format!(".{}.tmp", uuid::Uuid::new_v4()));
        let temporary = target.with_file_name(name);
        Ok(Draft { file: File::create_new(&temporary)?, temporary, target })
    }

    fn append(&mut self, payload: &PutPayload) -> std::io::Result<()> {
        payload.iter().try_for_each(|bytes| self.file.write_all(bytes))
    }

    /// Gives it its name. With `only_if_absent`, an existing file is an error.
    fn finish(&self, only_if_absent: bool) -> std::io::Result<()> {
        self.file.sync_all()?;
        if only_if_absent {
            std::fs::hard_link(&self.temporary, &self.target)?;
        } else {
            std::fs::rename(&self.temporary, &self.target)?;
        }
        self.target.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.temporary);
    }
}

fn failed(path: &FilePath, source: std::io::Error) -> object_store::Error {
    let path = path.display().to_string();
    match source.kind() {
        std::io::ErrorKind::AlreadyExists => object_store::Error::AlreadyExists { path, source: Box::new(source) },
        std::io::ErrorKind::PermissionDenied => {
            object_store::Error::PermissionDenied { path, source: Box::new(source) }
        }
        _ => object_store::Error::Generic { store: "DurableLocal", source: Box::new(source) },
    }
}

#[async_trait]
impl ObjectStore for DurableLocal {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let target = self.local.path_to_filesystem(location)?;
        let only_if_absent = match opts.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => {
                return Err(object_store::Error::NotSupported { source: "conditional update of a local file".into() });
            }
        };
        let write = || {
            let mut draft = Draft::begin(target.clone())?;
            draft.append(&payload)?;
            draft.finish(only_if_absent)
        };
        write().map_err(|error| failed(&target, error))?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let target = self.local.path_to_filesystem(location)?;
        let draft = Draft::begin(target.clone()).map_err(|error| failed(&target, error))?;
        Ok(Box::new(DurableUpload { draft }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.local.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.local.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.local.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.local.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.local.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct DurableUpload {
    draft: Draft,
}

#[async_trait]
impl MultipartUpload for DurableUpload {
    /// Parts arrive in order, so each is written at once.
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let written = self.draft.append(&data).map_err(|error| failed(&self.draft.target, error));
        async move { written }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.draft.finish(false).map_err(|error| failed(&self.draft.target, error))?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn abort(&mut self) -> Result<()> {
        Ok(())
    }
}
