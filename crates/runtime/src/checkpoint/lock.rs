//! The lock of a checkpoint: a locked file, with a record of its owner for whom it refuses.
//!
//! The operating system releases the lock when the process ends, however it ends. The record is only read when the
//! lock is taken, so one left behind by a crash misleads nobody.

use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::time::Duration;

use alluvium_parser::Diagnostic;
use serde::{Deserialize, Serialize};

use crate::clock::now_ms;
use crate::error::{Error, Result};

const LOCK_FILE: &str = "lock";
const OWNER_FILE: &str = "owner.json";

/// Whoever only looks whether the lock is held has it for a moment; to be taken it is tried so often,
const TRIES: u32 = 5;

/// and so long apart.
const PAUSE: Duration = Duration::from_millis(10);

/// Held until dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

#[derive(Debug, Serialize, Deserialize)]
struct Owner {
    pid: u32,
    host: String,
    stream: String,
    since_ms: i64,
}

impl Lock {
    /// Locks the checkpoint in `dir` for `stream`, or says who has it. Two opens within one process conflict, too.
    pub(super) fn take(dir: &Path, stream: &str) -> Result<Lock> {
        let path = dir.join(LOCK_FILE);
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|e| Error::io("open", &path, &e))?;
        let mut tries = 1;
        while let Err(refusal) = file.try_lock() {
            match refusal {
                TryLockError::WouldBlock if tries < TRIES => std::thread::sleep(PAUSE),
                TryLockError::WouldBlock => return Err(locked(dir)),
                TryLockError::Error(e) => return Err(Error::io("lock", &path, &e)),
            }
            tries += 1;
        }
        let owner = Owner { pid: std::process::id(), host: host(), stream: stream.to_string(), since_ms: now_ms() };
        let record = serde_json::to_vec(&owner).map_err(|e| Error::internal(e.to_string()))?;
        let owner_path = dir.join(OWNER_FILE);
        fs::write(&owner_path, record).map_err(|e| Error::io("write", &owner_path, &e))?;
        Ok(Lock { _file: file })
    }

    /// Whether anybody, of this process or another, holds the lock of the checkpoint in `dir`.
    pub(super) fn is_held(dir: &Path) -> bool {
        let Ok(file) = File::open(dir.join(LOCK_FILE)) else { return false };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }
}

fn locked(dir: &Path) -> Error {
    let owner = fs::read(dir.join(OWNER_FILE)).ok().and_then(|bytes| serde_json::from_slice::<Owner>(&bytes).ok());
    let who = match &owner {
        Some(owner) => {
            let since = chrono::DateTime::from_timestamp_millis(owner.since_ms);
            let since = since.map_or_else(|| "?".to_string(), |time| time.format("%Y-%m-%d %H:%M:%S UTC").to_string());
            format!("stream `{}` of process {} on {}, since {since}", owner.stream, owner.pid, owner.host)
        }
        None => "another process".to_string(),
    };
    let here = owner.is_some_and(|owner| owner.pid == std::process::id());
    let help = match here {
        true => "two streams cannot share a checkpoint: give each its own location",
        false => "stop that process, or wait until it ends; two streams cannot share a checkpoint",
    };
    Error::Environment(Box::new(
        Diagnostic::new("CHECKPOINT_LOCKED", format!("the checkpoint at `{}` is in use by {who}", dir.display()))
            .help(help),
    ))
}

fn host() -> String {
    let named = fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| fs::read_to_string("/etc/hostname"));
    let named = named.ok().or_else(|| std::env::var("HOSTNAME").ok());
    named.map(|name| name.trim().to_string()).filter(|name| !name.is_empty()).unwrap_or_else(|| "this host".to_string())
}
