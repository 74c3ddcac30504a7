//! Options of a source about its event time, for queries with WATERMARK.

use std::time::Duration;

use alluvium_parser::{Diagnostic, OptionEntry, parse_interval};

/// See the module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventTimeOptions {
    /// Without input for this long, the source no longer holds the query's watermark back.
    pub idle_timeout: Option<Duration>,
    /// Event times further ahead of the epoch's time than this do not move the watermark.
    pub max_future_skew: Option<Duration>,
}

impl EventTimeOptions {
    /// Takes the option `name`, in lower case, if it is one of these.
    pub(super) fn set(&mut self, name: &str, entry: &OptionEntry) -> Result<bool, Diagnostic> {
        let interval = || parse_interval(&entry.value.value, entry.value.span);
        match name {
            "idletimeout" => self.idle_timeout = Some(interval()?),
            "maxfutureskew" => self.max_future_skew = Some(interval()?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The first option that was given.
    pub fn given(&self) -> Option<&'static str> {
        let given = [(self.idle_timeout, "idleTimeout"), (self.max_future_skew, "maxFutureSkew")];
        given.into_iter().find_map(|(value, name)| value.map(|_| name))
    }
}
