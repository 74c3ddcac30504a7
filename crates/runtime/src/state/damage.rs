//! What of stored state cannot be read, noted where reading goes on without it.
//!
//! An epoch never goes on without a part of its state; who only compares state with what it should be does, to find
//! everything that is wrong and not only the first of it.

use std::sync::{Mutex, PoisonError};

/// See the module. One per reading.
#[derive(Debug, Default)]
pub struct Damage(Mutex<Vec<String>>);

impl Damage {
    /// Takes note of what cannot be read: `the value of key (k = 1)`.
    pub(super) fn note(&self, what: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    /// Everything noted so far.
    pub fn found(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
