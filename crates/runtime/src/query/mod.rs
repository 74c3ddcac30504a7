//! Streams as they run: recovery at the start, the trigger loop, stopping and waiting.

mod changes;
mod open;
mod stream;
mod verify;

pub use changes::{Changes, changes, stored_identity};
pub use open::{PipelineParts, WATERMARK_POLICY, file_sources, open};
pub use stream::{OnEpoch, StreamHandle, StreamState, StreamStatus, failure};
pub use verify::{Compared, Difference, Verified, unverifiable, verify};

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The streams of one session that run or ran, by lower-case name.
#[derive(Default)]
pub struct Streams {
    handles: Mutex<HashMap<String, Arc<StreamHandle>>>,
}

impl Streams {
    /// The handle of a stream that runs or ran in this session.
    pub fn get(&self, name: &str) -> Option<Arc<StreamHandle>> {
        self.lock().get(&name.to_lowercase()).cloned()
    }

    /// Remembers a started stream in place of its former run.
    pub fn insert(&self, handle: Arc<StreamHandle>) {
        self.lock().insert(handle.name().to_lowercase(), handle);
    }

    /// Forgets a stream.
    pub fn remove(&self, name: &str) {
        self.lock().remove(&name.to_lowercase());
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<StreamHandle>> {
        let mut all: Vec<_> = self.lock().values().cloned().collect();
        all.sort_by_key(|handle| handle.name().to_lowercase());
        all
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<StreamHandle>>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
