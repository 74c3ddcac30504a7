//! The time zone in which timestamps are meant that name none.

use std::str::FromStr;

use chrono::offset::LocalResult;
use chrono::{DateTime, Duration, NaiveDateTime, Offset, TimeZone};
use chrono_tz::{OffsetComponents, Tz};

/// A zone: an offset, or a region whose offset depends on the date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// Seconds east of Greenwich.
    Offset(i64),
    /// `Europe/Berlin`.
    Region(Tz),
}

const MICROS: i64 = 1_000_000;

impl Zone {
    /// Coordinated Universal Time.
    pub const UTC: Zone = Zone::Offset(0);

    /// `UTC`, `GMT`, `Z`, `+02:00`, `UTC+2`, `Europe/Berlin`; None if it is none of these.
    pub fn from_name(name: &str) -> Option<Zone> {
        let name = name.trim();
        let upper = name.to_ascii_uppercase();
        let behind = ["UTC", "GMT", "UT"].iter().find_map(|prefix| upper.strip_prefix(prefix));
        match behind.unwrap_or(&upper) {
            "" if !name.is_empty() => Some(Zone::UTC),
            "Z" if behind.is_none() => Some(Zone::UTC),
            offset => match seconds(offset) {
                Some(seconds) => Some(Zone::Offset(seconds)),
                None => Tz::from_str(name).ok().map(Zone::Region),
            },
        }
    }

    /// Seconds east of Greenwich by the zone's standard time of today, which no summer time moves.
    pub(crate) fn standard_offset(&self) -> i64 {
        match self {
            Zone::Offset(seconds) => *seconds,
            Zone::Region(region) => {
                let today = DateTime::UNIX_EPOCH.naive_utc() + Duration::days(20_000);
                region.offset_from_utc_datetime(&today).base_utc_offset().num_seconds()
            }
        }
    }

    /// The instant at which clocks of the zone show `local`, both in microseconds since 1970. Of two such instants the
    /// earlier one; a time that clocks skip is as far behind the skip as it is inside, as in Java.
    #[inline]
    pub fn instant(&self, local: i64) -> Option<i64> {
        match self {
            Zone::Offset(seconds) => local.checked_sub(seconds * MICROS),
            Zone::Region(region) => local.checked_sub(offset_of(*region, local)? * MICROS),
        }
    }
}

/// Seconds east of Greenwich when clocks of the region show `local`.
fn offset_of(region: Tz, local: i64) -> Option<i64> {
    let clock: NaiveDateTime = DateTime::from_timestamp(local.div_euclid(MICROS), 0)?.naive_utc();
    let offset = match region.offset_from_local_datetime(&clock) {
        LocalResult::Single(offset) | LocalResult::Ambiguous(offset, _) => offset,
        LocalResult::None => region.offset_from_utc_datetime(&clock.checked_sub_signed(Duration::days(1))?),
    };
    Some(i64::from(offset.fix().local_minus_utc()))
}

/// `±h[h][[:]mm]`.
fn seconds(offset: &str) -> Option<i64> {
    let (sign, rest) = match offset.as_bytes().first()? {
        b'+' => (1, &offset[1..]),
        b'-' => (-1, &offset[1..]),
        _ => return None,
    };
    let (hours, minutes) = match rest.split_once(':') {
        Some(parts) => parts,
        None if rest.len() == 4 && rest.is_ascii() => rest.split_at(2),
        None => (rest, "00"),
    };
    let number = |text: &str, most: usize| match text.len() {
        1.. if text.len() <= most && text.bytes().all(|b| b.is_ascii_digit()) => text.parse::<i64>().ok(),
        _ => None,
    };
    let (hours, minutes) = (number(hours, 2)?, number(minutes, 2)?);
    (hours <= 18 && minutes <= 59).then_some(sign * (hours * 3_600 + minutes * 60))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::scalar::local_timestamp;

    fn in_zone(zone: &str, text: &str) -> i64 {
        Zone::from_name(zone).unwrap().instant(local_timestamp(text.as_bytes()).unwrap().0).unwrap()
    }

    fn utc(text: &str) -> i64 {
        in_zone("UTC", text)
    }

    #[test]
    fn names() {
        for (name, zone) in [
            ("UTC", Some(Zone::UTC)),
            ("gmt", Some(Zone::UTC)),
            ("Z", Some(Zone::UTC)),
            ("+02:00", Some(Zone::Offset(7_200))),
            ("-0130", Some(Zone::Offset(-5_400))),
            ("UTC+2", Some(Zone::Offset(7_200))),
            ("Asia/Tokyo", Some(Zone::Region(Tz::Asia__Tokyo))),
            ("", None),
            ("Mars/Olympus", None),
            ("+19", None),
            ("+1:6x", None),
        ] {
            assert_eq!(Zone::from_name(name), zone, "{name}");
        }
    }

    /// 2024: clocks of Berlin skip 02:00 to 03:00 on 31 March and show it twice on 27 October.
    #[test]
    fn clocks_that_skip_and_repeat() {
        assert_eq!(in_zone("Europe/Berlin", "2024-01-15 12:00:00"), utc("2024-01-15 11:00:00"));
        assert_eq!(in_zone("Europe/Berlin", "2024-07-15 12:00:00.5"), utc("2024-07-15 10:00:00.5"));
        assert_eq!(in_zone("Europe/Berlin", "2024-03-31 02:30:00"), utc("2024-03-31 01:30:00"));
        assert_eq!(in_zone("Europe/Berlin", "2024-10-27 02:30:00"), utc("2024-10-27 00:30:00"));
        assert_eq!(in_zone("Pacific/Apia", "2011-12-30 12:00:00"), utc("2011-12-30 22:00:00"));
        assert_eq!(in_zone("+05:30", "1969-12-31 23:59:59.999999"), utc("1969-12-31 18:29:59.999999"));
    }
}
