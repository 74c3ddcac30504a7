//! What is known of the listings of a place, and where the next one begins.

use std::time::Instant;

use alluvium_planner::store_options::{IncrementalListing, StoreOptions};
use serde::{Deserialize, Serialize};

/// So many listings out of eight are incremental, where that is the store's choice.
const INCREMENTAL_MAX: u32 = 7;

/// What this run knows of listings.
#[derive(Default)]
pub struct ListingState {
    /// When the last full one began.
    full_at: Option<Instant>,
    /// When the last one ended.
    pub ended_at: Option<Instant>,
    /// Requests the last full one took.
    full_requests: u64,
    /// Incremental ones since the last full one.
    incremental: u32,
    /// Greatest key seen.
    last: Option<String>,
    /// A full listing whose objects are not all committed yet, and when it began.
    pub owed_ms: Option<i64>,
}

/// Kept in the checkpoint: the queue that tells of what came after a full listing, and when that was.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    /// The queue's URL.
    pub queue: String,
    /// When the listing began, milliseconds since 1970 UTC.
    pub at_ms: i64,
}

/// Under which name the checkpoint keeps [`Listed`] of source `id`; taken away, a source with notifications lists again.
pub fn listed_key(id: &str) -> String {
    format!("files/{id}/listed")
}

impl ListingState {
    /// Behind which key the next listing begins; None for a full one.
    pub fn begin_after(&self, options: &StoreOptions, overwrites: bool) -> Option<String> {
        let overdue =
            options.backfill_interval.is_some_and(|every| self.full_at.is_none_or(|at| at.elapsed() >= every));
        let incremental = match options.incremental_listing {
            IncrementalListing::Never => false,
            IncrementalListing::Always => true,
            // An object that is written again keeps its name.
            IncrementalListing::Auto if overwrites => false,
            IncrementalListing::Auto => self.full_requests > 1 && self.incremental < INCREMENTAL_MAX,
        };
        self.last.clone().filter(|_| incremental && !overdue && self.full_at.is_some())
    }

    /// The next listing is one of everything.
    pub fn begin_again(&mut self) {
        self.full_at = None;
    }

    /// A listing has ended whose greatest key was `last`; `full`: when it began and how many requests it took, where it was
    /// one of everything.
    pub fn ended(&mut self, last: Option<String>, full: Option<(Instant, u64)>) {
        self.ended_at = Some(Instant::now());
        self.last = self.last.take().max(last);
        match full {
            Some((begun, requests)) => {
                self.full_at = Some(begun);
                self.full_requests = requests;
                self.incremental = 0;
            }
            None => self.incremental += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seven_listings_of_eight_are_incremental_where_one_request_is_not_enough() {
        let options = StoreOptions::default();
        let key = || Some("k".to_owned());
        let mut state = ListingState::default();
        assert_eq!(state.begin_after(&options, false), None, "the first is full");
        state.ended(key(), Some((Instant::now(), 1)));
        assert_eq!(state.begin_after(&options, false), None, "one request shows it all");
        state.ended(None, Some((Instant::now(), 2)));
        for _ in 0..INCREMENTAL_MAX {
            assert_eq!(state.begin_after(&options, false), key());
            assert_eq!(state.begin_after(&options, true), None, "an object may have been written again");
            state.ended(None, None);
        }
        assert_eq!(state.begin_after(&options, false), None);
        let always = StoreOptions { incremental_listing: IncrementalListing::Always, ..StoreOptions::default() };
        assert_eq!(state.begin_after(&always, true), key(), "as it was said");
    }
}
