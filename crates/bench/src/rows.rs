//! The made-up events: every value is a function of the row's number, so that any file can be made alone and again.
//!
//! Knows nothing of files; [`crate::dataset`] cuts rows into them.

use std::fmt::Write;

/// Column list of the events, as DDL that both the engine and DataFusion understand once types are spelt for each.
pub const COLUMNS: [(&str, &str, &str); 8] = [
    ("event_id", "BIGINT", "BIGINT"),
    ("ts", "TIMESTAMP", "TIMESTAMP"),
    ("device", "STRING", "VARCHAR"),
    ("site", "STRING", "VARCHAR"),
    ("event_type", "STRING", "VARCHAR"),
    ("value", "DOUBLE", "DOUBLE"),
    ("status", "INT", "INT"),
    ("url", "STRING", "VARCHAR"),
];

/// The columns as a schema in the engine's SQL.
pub fn engine_schema() -> String {
    COLUMNS.map(|(name, engine, _)| format!("{name} {engine}")).join(", ")
}

/// The columns as a schema in DataFusion's SQL.
pub fn datafusion_schema() -> String {
    COLUMNS.map(|(name, _, datafusion)| format!("{name} {datafusion}")).join(", ")
}

const EVENT_TYPES: [&str; 8] = ["view", "click", "search", "cart", "purchase", "refund", "login", "error"];
const STATUS: [u32; 8] = [200, 200, 200, 200, 200, 301, 404, 500];

/// 2026-01-01T00:00:00Z.
const FIRST_EVENT_MS: i64 = 1_767_225_600_000;

/// A number that looks random and depends on `row` and `purpose` alone (the splitmix64 finalizer).
pub fn scatter(row: u64, purpose: u64) -> u64 {
    let mut z = row.wrapping_add(purpose.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// How a data set's events are spread.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    /// Milliseconds of event time from one row to the next, before ±30 s of disorder.
    pub step_ms: f64,
    /// Number of distinct devices.
    pub devices: u64,
}

/// One event, before it is written as text.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The row's number.
    pub event_id: u64,
    /// Event time, milliseconds since 1970 UTC.
    pub ts_ms: i64,
    /// Device number; the key of the aggregates.
    pub device: u64,
    /// Site number, below 50.
    pub site: u64,
    /// One of eight words.
    pub event_type: &'static str,
    /// Hundredths, below 100,000.
    pub value_cents: u64,
    /// HTTP-like status.
    pub status: u32,
    /// Category, product and referrer numbers of the address.
    pub url: (u64, u64, u64),
}

impl Event {
    /// The event with this number.
    pub fn at(row: u64, spread: Spread) -> Event {
        let disorder_ms = (scatter(row, 1) % 60_001) as i64 - 30_000;
        let kind = scatter(row, 3);
        let amount = scatter(row, 4);
        Event {
            event_id: row,
            ts_ms: FIRST_EVENT_MS + (row as f64 * spread.step_ms) as i64 + disorder_ms,
            device: scatter(row, 2) % spread.devices,
            site: scatter(row, 5) % 50,
            event_type: EVENT_TYPES[(kind % 8) as usize],
            value_cents: amount % 100_000,
            status: STATUS[((kind >> 8) % 8) as usize],
            url: ((amount >> 20) % 40, (amount >> 30) % 100_000, (amount >> 50) % 4096),
        }
    }

    /// Appends the event as one JSON line.
    pub fn write_json(&self, out: &mut String) {
        let (category, product, referrer) = self.url;
        let _ = write!(out, "{{\"event_id\":{},\"ts\":\"", self.event_id);
        write_timestamp(self.ts_ms, out);
        let _ = writeln!(
            out,
            "\",\"device\":\"d{:06}\",\"site\":\"s{:02}\",\"event_type\":\"{}\",\"value\":{}.{:02},\"status\":{},\
             \"url\":\"/shop/c{category}/p{product}?ref={referrer}\"}}",
            self.device,
            self.site,
            self.event_type,
            self.value_cents / 100,
            self.value_cents % 100,
            self.status,
        );
    }

    /// Appends the event as one CSV line.
    pub fn write_csv(&self, out: &mut String) {
        let (category, product, referrer) = self.url;
        let _ = write!(out, "{},", self.event_id);
        write_timestamp(self.ts_ms, out);
        let _ = writeln!(
            out,
            ",d{:06},s{:02},{},{}.{:02},{},/shop/c{category}/p{product}?ref={referrer}",
            self.device,
            self.site,
            self.event_type,
            self.value_cents / 100,
            self.value_cents % 100,
            self.status,
        );
    }
}

/// The first line of a CSV file.
pub fn csv_header() -> String {
    COLUMNS.map(|(name, _, _)| name).join(",") + "\n"
}

/// `2026-01-01T00:00:00.000Z`, by the civil-from-days rule of the proleptic Gregorian calendar.
fn write_timestamp(ms: i64, out: &mut String) {
    let (days, of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (second, milli) = (of_day / 1_000 % 60, of_day % 1_000);
    let _ = write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z");
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPREAD: Spread = Spread { step_ms: 172.8, devices: 100_000 };

    #[test]
    fn timestamps_cross_months_and_leap_days() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (FIRST_EVENT_MS - 1, "2025-12-31T23:59:59.999Z"),
            (FIRST_EVENT_MS + 59 * 86_400_000 + 45_296_007, "2026-03-01T12:34:56.007Z"),
        ];
        for (ms, expected) in cases {
            let mut text = String::new();
            write_timestamp(ms, &mut text);
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn an_event_is_the_same_each_time_and_both_formats_agree() {
        let event = Event::at(4_711, SPREAD);
        assert_eq!(event, Event::at(4_711, SPREAD));
        let (mut json, mut csv) = (String::new(), String::new());
        event.write_json(&mut json);
        event.write_csv(&mut csv);
        let parsed: serde_json::Value = serde_json::from_str(&json).unwrap_or_default();
        let cells: Vec<&str> = csv.trim_end().split(',').collect();
        assert_eq!(cells.len(), COLUMNS.len());
        for ((name, _, _), cell) in COLUMNS.iter().zip(cells) {
            let value = &parsed[*name];
            match value.as_f64() {
                Some(number) => assert_eq!(cell.parse::<f64>().ok(), Some(number), "{name}"),
                None => assert_eq!(value.as_str(), Some(cell), "{name}"),
            }
        }
    }

    #[test]
    fn keys_cover_their_range() {
        let mut seen = vec![false; 1000];
        for row in 0..20_000 {
            seen[Event::at(row, Spread { step_ms: 1.0, devices: 1000 }).device as usize] = true;
        }
        assert!(seen.iter().all(|hit| *hit));
    }
}
