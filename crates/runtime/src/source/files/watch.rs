//! Tells at once when a file appears below a directory.
//!
//! A file counts when it is complete: closed by its writer, renamed into place, or linked. A file that is created
//! and still written is only remembered as such, so that a listing can leave it alone for a while. Events are
//! hints: the mailbox may ask for a full listing instead (too many events, an unwatched corner), and a periodic
//! listing finds what no event told.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RemoveKind, RenameMode};
use notify::{Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use super::rules::Hidden;

/// More events than this between two looks are cheaper to list.
const EVENTS_MAX: usize = 50_000;

/// How long a file that is being written, with no event since, is left alone by listings.
const WRITING_MAX: Duration = Duration::from_secs(5);

/// An event of our own that is not heard within this tells that the watch does not work.
const ECHO_MAX: Duration = Duration::from_secs(1);

/// A running watch; dropped, it ends.
pub struct Watch {
    base: PathBuf,
    watcher: Mutex<RecommendedWatcher>,
    mailbox: Arc<Mailbox>,
}

/// What has happened since the last look.
#[derive(Debug, Default)]
pub struct Mail {
    /// Complete files, sorted.
    pub files: BTreeSet<PathBuf>,
    /// Directories that appeared.
    pub folders: BTreeSet<PathBuf>,
    /// Events were lost or are not precise: list everything.
    pub relist: bool,
    /// The watch has ended; another one is needed.
    pub ended: bool,
}

#[derive(Debug, Default)]
struct Mailbox {
    inside: Mutex<Inside>,
    bell: Notify,
    /// Rings when the base directory was opened.
    heard: Condvar,
}

#[derive(Debug, Default)]
struct Inside {
    mail: Mail,
    /// Files that are being written, and when that was last seen.
    writing: HashMap<PathBuf, Instant>,
    /// How often the base directory was opened by anybody.
    opened: u64,
}

impl Watch {
    /// Watches `base` and everything below it but for hidden names. Walks the tree: call it where blocking is allowed.
    pub fn start(base: &Path, hidden: Hidden) -> notify::Result<Watch> {
        let mailbox = Arc::new(Mailbox::default());
        let (post, root) = (mailbox.clone(), base.to_owned());
        let mut watcher = RecommendedWatcher::new(move |event| post.receive(&root, &hidden, event), Config::default())?;
        watcher.watch(base, RecursiveMode::Recursive)?;
        Ok(Watch { base: base.to_owned(), watcher: Mutex::new(watcher), mailbox })
    }

    /// Returns when there is mail. Cancel-safe; may return once without.
    pub async fn rung(&self) {
        self.mailbox.bell.notified().await;
    }

    /// Takes the mail.
    pub fn take(&self) -> Mail {
        std::mem::take(&mut self.mailbox.lock().mail)
    }

    /// Returns when the mail holds everything that happened before this call. Blocks for some 0.1 ms.
    pub fn barrier(&self) {
        if cfg!(not(target_os = "linux")) || !self.echo() {
            self.mailbox.lock().mail.relist = true;
        }
    }

    /// Causes an event and waits for it. The kernel's queue is in order, and the watcher's thread empties it before it
    /// does anything else, such as answering the request that comes last. Another process may cause the same event;
    /// then too the queue is emptied after this call has begun.
    fn echo(&self) -> bool {
        let opened = self.mailbox.lock().opened;
        if std::fs::File::open(&self.base).is_err() {
            return false;
        }
        let unheard = |inside: &mut Inside| inside.opened == opened && !inside.mail.ended;
        let heard = self.mailbox.heard.wait_timeout_while(self.mailbox.lock(), ECHO_MAX, unheard);
        let (inside, waited) = heard.unwrap_or_else(PoisonError::into_inner);
        drop(inside);
        let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        !waited.timed_out() && watcher.configure(Config::default()).is_ok()
    }

    /// Leaves out files that are being written: created, not closed, and changed a moment ago. True if there were any.
    pub fn leave_out_written(&self, paths: &mut Vec<String>) -> bool {
        let writing = &self.mailbox.lock().writing;
        if writing.is_empty() {
            return false;
        }
        let before = paths.len();
        let written = |path: &String| writing.get(Path::new(path)).is_some_and(|last| last.elapsed() < WRITING_MAX);
        paths.retain(|path| !written(path));
        paths.len() < before
    }
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// On the watcher's thread.
    fn receive(&self, root: &Path, hidden: &Hidden, event: notify::Result<Event>) {
        let rings = match event {
            Ok(event) => self.sort(root, hidden, &event),
            Err(_) => {
                let mut inside = self.lock();
                inside.mail.relist = true;
                inside.mail.ended = true;
                true
            }
        };
        if rings {
            self.bell.notify_one();
        }
    }

    /// Files the event away; true when somebody should look.
    fn sort(&self, root: &Path, hidden: &Hidden, event: &Event) -> bool {
        if event.need_rescan() {
            self.lock().mail.relist = true;
            return true;
        }
        let Some(path) = event.paths.last() else { return false };
        if path == root {
            if matches!(event.kind, EventKind::Access(AccessKind::Open(_))) {
                self.lock().opened += 1;
                self.heard.notify_all();
                return false;
            }
            let gone = matches!(event.kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)));
            if gone {
                let mut inside = self.lock();
                inside.mail.ended = true;
                inside.mail.relist = true;
            }
            return gone;
        }
        let below = path.strip_prefix(root).ok().and_then(Path::to_str);
        let is_hidden = below.is_some_and(|below| hidden.part(below).is_some());
        !is_hidden && self.sort_below(path, event.kind)
    }

    fn sort_below(&self, path: &Path, kind: EventKind) -> bool {
        if cfg!(not(target_os = "linux")) {
            let tells = matches!(kind, EventKind::Create(_) | EventKind::Modify(_) | EventKind::Any);
            self.lock().mail.relist |= tells;
            return tells;
        }
        match kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => self.complete(path),
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) if path.is_dir() => self.folder(path),
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) => self.complete(path),
            EventKind::Create(CreateKind::Folder) => self.folder(path),
            EventKind::Create(_) if is_link(path) => self.complete(path),
            EventKind::Create(_) | EventKind::Modify(ModifyKind::Data(_)) => {
                let writing = &mut self.lock().writing;
                if writing.len() >= EVENTS_MAX {
                    writing.retain(|_, last| last.elapsed() < WRITING_MAX);
                }
                writing.insert(path.to_owned(), Instant::now());
                false
            }
            EventKind::Modify(ModifyKind::Name(RenameMode::From)) | EventKind::Remove(RemoveKind::File) => {
                self.lock().writing.remove(path);
                false
            }
            _ => false,
        }
    }

    fn complete(&self, path: &Path) -> bool {
        let mut inside = self.lock();
        let Inside { mail, writing, .. } = &mut *inside;
        writing.remove(path);
        if mail.files.len() < EVENTS_MAX {
            mail.files.insert(path.to_owned());
        } else {
            mail.relist = true;
            mail.files.clear();
        }
        true
    }

    fn folder(&self, path: &Path) -> bool {
        let mut inside = self.lock();
        if inside.mail.folders.len() < EVENTS_MAX {
            inside.mail.folders.insert(path.to_owned());
        } else {
            inside.mail.relist = true;
        }
        true
    }
}

/// A hard or symbolic link appears complete and is never closed.
fn is_link(path: &Path) -> bool {
    #[cfg(unix)]
    let links = |metadata: &std::fs::Metadata| std::os::unix::fs::MetadataExt::nlink(metadata);
    #[cfg(not(unix))]
    let links = |_: &std::fs::Metadata| 1u64;
    std::fs::symlink_metadata(path)
        .is_ok_and(|metadata| metadata.is_symlink() || metadata.is_file() && links(&metadata) > 1)
}
