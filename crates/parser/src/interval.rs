//! Fixed lengths of time: `10 seconds`, `1 hour 30 minutes`, `500ms`. Months and years have no fixed length
//! and are refused.

use std::time::Duration;

use crate::diagnostic::Diagnostic;
use crate::span::Span;

/// Unit spellings and their length in microseconds.
const UNITS: &[(&[&str], f64)] = &[
    (&["microsecond", "microseconds", "us"], 1.0),
    (&["millisecond", "milliseconds", "ms"], 1e3),
    (&["second", "seconds", "sec", "secs", "s"], 1e6),
    (&["minute", "minutes", "min", "mins", "m"], 60e6),
    (&["hour", "hours", "h"], 3600e6),
    (&["day", "days", "d"], 86_400e6),
    (&["week", "weeks", "w"], 7.0 * 86_400e6),
];

/// Longest interval: a hundred years, far from where arithmetic on timestamps ends.
const MICROSECONDS_MAX: f64 = 36_525.0 * 86_400e6;

/// Whether a word is a unit of time, also one without a fixed length.
pub(crate) fn is_unit(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    let calendar = ["month", "months", "quarter", "quarters", "year", "years"];
    calendar.contains(&word.as_str()) || UNITS.iter().any(|(names, _)| names.contains(&word.as_str()))
}

/// Reads an interval such as `10 seconds`; the word `interval` may stand in front. `span` is where the text
/// stands, for the error.
///
/// # Errors
/// `INVALID_INTERVAL` when it is not a sum of numbers with units, or negative, or has months or years.
pub fn parse_interval(text: &str, span: Span) -> Result<Duration, Diagnostic> {
    let refuse = |why: &str| {
        Err(Diagnostic::new("INVALID_INTERVAL", format!("`{text}` is not an interval: {why}"))
            .at(span)
            .help("write a number and a unit, such as '500 milliseconds', '10 seconds', '1 minute', '2 hours'"))
    };
    let lower = text.trim().to_lowercase();
    let mut rest = lower.strip_prefix("interval").unwrap_or(&lower).trim_start();
    if rest.is_empty() {
        return refuse("it is empty");
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        if tail.starts_with('-') || rest.starts_with('-') {
            return refuse("it is negative");
        }
        let Ok(number) = number.parse::<f64>() else { return refuse("a number is missing") };
        let tail = tail.trim_start();
        let letters = tail.find(|letter: char| !letter.is_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let Some((_, length)) = UNITS.iter().find(|(names, _)| names.contains(&unit)) else {
            return refuse(&unknown_unit(unit));
        };
        total += number * length;
        rest = tail.trim_start();
    }
    if total > MICROSECONDS_MAX {
        return refuse("it is longer than a hundred years");
    }
    Ok(Duration::from_micros(total.round() as u64))
}

fn unknown_unit(unit: &str) -> String {
    if unit.is_empty() {
        "the unit is missing".to_owned()
    } else if is_unit(unit) {
        format!("a {} has no fixed length", unit.trim_end_matches('s'))
    } else {
        format!("`{unit}` is not a unit of time")
    }
}
