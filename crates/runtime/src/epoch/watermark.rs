//! How far event time has come, from epoch to epoch.
//!
//! An epoch's watermark is made of what the epochs before it have read: for each WATERMARK of the query the greatest
//! event time less its delay, of these the least (or the greatest, by the stream's policy), and never less than before.
//! One whose sources are all idle is left out of the least. An epoch counts rows as late by the watermark of the epoch
//! before it: what an operator gives when the watermark passes is then not late for the next one. Knows nothing of rows;
//! what is decided is in the epoch's intent, and what it is decided by in the epoch's record.

use std::collections::BTreeMap;

use alluvium_planner::plan::{StreamingPlan, WatermarkInfo};
use alluvium_planner::settings::WatermarkPolicy;

use crate::clock::EpochWatermark;
use crate::metrics::EpochRecord;

/// See the module. Times are microseconds since 1970 UTC.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watermarks {
    policy: WatermarkPolicy,
    /// The last committed epoch's watermark; None while some stream with one has shown no event time.
    current: Option<i64>,
    /// Greatest event times so far, by number.
    greatest: Vec<Option<i64>>,
    /// When each source that may be idle last had input, by its id: milliseconds since 1970 UTC.
    heard_ms: BTreeMap<String, i64>,
    /// When the stream was opened: a source of which nothing is known counts from then.
    opened_ms: i64,
}

/// What the sources have to say to one epoch.
pub(super) struct Heard {
    /// Ids of the plan's sources, in its order.
    pub ids: Vec<String>,
    /// Those with input.
    pub with_input: Vec<String>,
    /// The clock, milliseconds since 1970 UTC.
    pub now_ms: i64,
}

impl Watermarks {
    /// Where they stand behind the last committed epoch, for a stream that is opened at `opened_ms`.
    pub fn after(record: Option<&EpochRecord>, policy: WatermarkPolicy, opened_ms: i64) -> Watermarks {
        let known = record.map(|record| (record.watermark_us, &record.event_times_us, &record.heard_ms));
        let (current, greatest, heard_ms) = match known {
            Some((current, greatest, heard)) => (current, greatest.clone(), heard.clone()),
            None => Default::default(),
        };
        Watermarks { policy, current, greatest, heard_ms, opened_ms }
    }

    /// What the next epoch goes by.
    pub(super) fn next(&self, plan: &StreamingPlan, heard: &Heard) -> EpochWatermark {
        let idle: Vec<bool> = plan.watermarks.iter().map(|watermark| self.is_idle(watermark, plan, heard)).collect();
        let each: Vec<Option<i64>> = (0..plan.watermarks.len()).map(|number| self.of(number, plan)).collect();
        let greatest = || each.iter().copied().flatten().max();
        let reached = match self.policy {
            WatermarkPolicy::Max => greatest(),
            // With all of them idle nothing is waited for.
            WatermarkPolicy::Min if idle.iter().all(|idle| *idle) => greatest(),
            WatermarkPolicy::Min => {
                let active = each.iter().zip(&idle).filter(|(_, idle)| !**idle).map(|(time, _)| *time);
                active.collect::<Option<Vec<i64>>>().and_then(|each| each.into_iter().min())
            }
        };
        EpochWatermark { late_us: self.current, until_us: self.current.max(reached) }
    }

    /// One of the watermarks, by its number.
    fn of(&self, number: usize, plan: &StreamingPlan) -> Option<i64> {
        // Whole milliseconds, as Spark counts.
        let greatest = self.greatest.get(number).copied().flatten()?.div_euclid(1000) * 1000;
        Some(greatest.saturating_sub(plan.watermarks.get(number)?.delay_us))
    }

    /// Whether none of a watermark's sources has had input for its timeout.
    fn is_idle(&self, watermark: &WatermarkInfo, plan: &StreamingPlan, heard: &Heard) -> bool {
        let idle = |at: &usize| {
            let (Some(id), Some(timeout_ms)) = (heard.ids.get(*at), timeout_ms(plan, *at)) else { return false };
            let silent_ms = heard.now_ms.saturating_sub(self.heard(id));
            !heard.with_input.contains(id) && silent_ms >= timeout_ms
        };
        !watermark.sources.is_empty() && watermark.sources.iter().all(idle)
    }

    fn heard(&self, id: &str) -> i64 {
        self.heard_ms.get(id).copied().unwrap_or(self.opened_ms)
    }

    /// Milliseconds until the next source becomes idle; None: none will.
    pub(super) fn idle_in_ms(&self, plan: &StreamingPlan, heard: &Heard) -> Option<i64> {
        let of = |(at, id): (usize, &String)| Some(self.heard(id).saturating_add(timeout_ms(plan, at)?) - heard.now_ms);
        heard.ids.iter().enumerate().filter_map(of).filter(|wait_ms| *wait_ms > 0).min()
    }

    /// Whether an epoch without input would change something.
    pub(super) fn is_due(&self, plan: &StreamingPlan, next: EpochWatermark) -> bool {
        plan.acts_on_watermark() && next.until_us > self.current
    }

    /// Where they stand behind an epoch that went by `watermark`, met these event times, and heard this.
    pub(super) fn behind(
        &self,
        plan: &StreamingPlan,
        watermark: EpochWatermark,
        event_times: &BTreeMap<u32, i64>,
        heard: &Heard,
    ) -> Watermarks {
        let mut next = Watermarks { current: watermark.until_us, ..self.clone() };
        for (number, time) in event_times {
            let number = *number as usize;
            next.greatest.resize(next.greatest.len().max(number + 1), None);
            next.greatest[number] = next.greatest[number].max(Some(*time));
        }
        for (at, id) in heard.ids.iter().enumerate() {
            if timeout_ms(plan, at).is_some() {
                let at_ms = if heard.with_input.contains(id) { heard.now_ms } else { self.heard(id) };
                next.heard_ms.insert(id.clone(), at_ms);
            }
        }
        next
    }

    /// The watermark of the last committed epoch.
    pub fn current(&self) -> Option<i64> {
        self.current
    }

    /// The greatest event times, by the watermark's number.
    pub fn event_times(&self) -> &[Option<i64>] {
        &self.greatest
    }

    /// When sources that may be idle last had input.
    pub fn heard_ms(&self) -> &BTreeMap<String, i64> {
        &self.heard_ms
    }
}

fn timeout_ms(plan: &StreamingPlan, source: usize) -> Option<i64> {
    let timeout = plan.sources.get(source)?.event_time().idle_timeout?;
    Some(i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::epoch::tests::planned;

    const MINUTE_MS: i64 = 60_000;

    /// Two streams, of which the second may be idle after five minutes; the first has shown 10:00, the second 09:00.
    fn two(policy: WatermarkPolicy) -> (StreamingPlan, Watermarks) {
        let plan = planned(
            "SELECT window(t, '1 minute') w, count(*) FROM (SELECT ts AS t FROM STREAM a WATERMARK ts DELAY OF INTERVAL 0 SECONDS \
             UNION ALL SELECT ts FROM STREAM b WITH (idleTimeout = '5 minutes') WATERMARK ts DELAY OF INTERVAL 0 SECONDS) GROUP BY 1",
        );
        let record = EpochRecord {
            event_times_us: vec![Some(36_000_000_000), Some(32_400_000_000)],
            heard_ms: BTreeMap::from([("1".to_string(), 0)]),
            ..EpochRecord::default()
        };
        (plan, Watermarks::after(Some(&record), policy, 0))
    }

    fn heard(with_input: &[&str], now_ms: i64) -> Heard {
        let with_input = with_input.iter().map(ToString::to_string).collect();
        Heard { ids: vec!["0".into(), "1".into()], with_input, now_ms }
    }

    #[test]
    fn an_idle_source_no_longer_holds_the_least_back() {
        let (plan, watermarks) = two(WatermarkPolicy::Min);
        let at =
            |with_input: &[&str], minutes| watermarks.next(&plan, &heard(with_input, minutes * MINUTE_MS)).until_us;
        assert_eq!(at(&[], 4), Some(32_400_000_000));
        assert_eq!(at(&[], 5), Some(36_000_000_000));
        assert_eq!(at(&["0"], 5), Some(36_000_000_000));
        assert_eq!(at(&["1"], 5), Some(32_400_000_000), "it has something to say");
        assert_eq!(watermarks.idle_in_ms(&plan, &heard(&[], MINUTE_MS)), Some(4 * MINUTE_MS));
        assert_eq!(watermarks.idle_in_ms(&plan, &heard(&[], 5 * MINUTE_MS)), None);
    }

    #[test]
    fn the_watermark_stays_when_an_idle_source_comes_back() {
        let (plan, watermarks) = two(WatermarkPolicy::Min);
        let now = heard(&["0"], 5 * MINUTE_MS);
        let next = watermarks.next(&plan, &now);
        let behind = watermarks.behind(&plan, next, &BTreeMap::new(), &now);
        assert_eq!(behind.heard_ms(), &BTreeMap::from([("1".to_string(), 0)]));
        let back = heard(&["1"], 6 * MINUTE_MS);
        let next = behind.next(&plan, &back);
        assert_eq!((next.late_us, next.until_us), (Some(36_000_000_000), Some(36_000_000_000)));
        let behind = behind.behind(&plan, next, &BTreeMap::from([(1, 33_000_000_000)]), &back);
        assert_eq!(behind.heard_ms(), &BTreeMap::from([("1".to_string(), 6 * MINUTE_MS)]));
    }

    #[test]
    fn the_greatest_counts_where_that_is_the_policy() {
        let (plan, watermarks) = two(WatermarkPolicy::Max);
        assert_eq!(watermarks.next(&plan, &heard(&["0", "1"], 0)).until_us, Some(36_000_000_000));
        let one = EpochRecord { event_times_us: vec![None, Some(5_000)], ..EpochRecord::default() };
        let of = |policy| Watermarks::after(Some(&one), policy, 0).next(&plan, &heard(&["0", "1"], 0)).until_us;
        assert_eq!((of(WatermarkPolicy::Min), of(WatermarkPolicy::Max)), (None, Some(5_000)));
    }
}
