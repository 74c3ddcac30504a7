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

impl EpochWatermark {
    /// What an operator goes by whose rows may stay behind the watermark by this many microseconds.
    pub fn behind(self, lag_us: i64) -> EpochWatermark {
        let behind = |time: i64| time.saturating_sub(lag_us);
        EpochWatermark { late_us: self.late_us.map(behind), until_us: self.until_us.map(behind) }
    }
}
