//! How far event time has come, from epoch to epoch.
//!
//! An epoch's watermark is made of what the epochs before it have read: for each WATERMARK of the query the greatest
//! event time less its delay, of these the least, and never less than before. An epoch counts rows as late by the
//! watermark of the epoch before it: what an operator gives when the watermark passes is then not late for the next
//! one. Knows nothing of rows; what is stored is in the epoch's record and its intent.

use std::collections::BTreeMap;

use alluvium_planner::plan::StreamingPlan;

use crate::clock::EpochWatermark;
use crate::metrics::EpochRecord;

/// See the module. Times are microseconds since 1970 UTC.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watermarks {
    /// The last committed epoch's watermark; None while some stream with one has shown no event time.
    current: Option<i64>,
    /// Greatest event times so far, by number.
    greatest: Vec<Option<i64>>,
}

impl Watermarks {
    /// Where they stand behind the last committed epoch.
    pub fn after(record: Option<&EpochRecord>) -> Watermarks {
        match record {
            Some(record) => Watermarks { current: record.watermark_us, greatest: record.event_times_us.clone() },
            None => Watermarks::default(),
        }
    }

    /// What the next epoch goes by.
    pub(super) fn next(&self, plan: &StreamingPlan) -> EpochWatermark {
        let each = plan.watermarks.iter().enumerate().map(|(number, watermark)| {
            // Whole milliseconds, as Spark counts.
            let greatest = self.greatest.get(number).copied().flatten()?.div_euclid(1000) * 1000;
            Some(greatest.saturating_sub(watermark.delay_us))
        });
        let least = each.collect::<Option<Vec<i64>>>().and_then(|each| each.into_iter().min());
        EpochWatermark { late_us: self.current, until_us: self.current.max(least) }
    }

    /// Whether an epoch without input would change something.
    pub(super) fn is_due(&self, plan: &StreamingPlan, next: EpochWatermark) -> bool {
        plan.acts_on_watermark() && next.until_us > self.current
    }

    /// Where they stand behind an epoch that went by `watermark` and met these event times.
    pub(super) fn behind(&self, watermark: EpochWatermark, event_times: &BTreeMap<u32, i64>) -> Watermarks {
        let mut greatest = self.greatest.clone();
        for (number, time) in event_times {
            let number = *number as usize;
            greatest.resize(greatest.len().max(number + 1), None);
            greatest[number] = greatest[number].max(Some(*time));
        }
        Watermarks { current: watermark.until_us, greatest }
    }

    /// The watermark of the last committed epoch.
    pub fn current(&self) -> Option<i64> {
        self.current
    }

    /// The greatest event times, by the watermark's number.
    pub fn event_times(&self) -> &[Option<i64>] {
        &self.greatest
    }
}
