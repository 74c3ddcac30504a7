//! The one door for time.

use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970-01-01 UTC by the wall clock.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_millis() as i64).unwrap_or(0)
}

/// What an epoch goes by; part of its intent, so that it is the same when the epoch is run again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochWatermark {
    /// Rows at or before this are late: the watermark of the epoch before, in microseconds since 1970 UTC.
    pub late_us: Option<i64>,
    /// What is at or before this is final: the watermark of this epoch.
    pub until_us: Option<i64>,
}
