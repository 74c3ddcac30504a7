//! Options about which files of a place count, how long they are remembered, and what becomes of them afterwards.
//!
//! Their values, and which of them contradict each other. Whether a path exists, or lies inside another, is not
//! known here.

use std::time::Duration;

use alluvium_parser::{Diagnostic, OptionEntry, parse_interval};
use chrono::{NaiveDate, NaiveDateTime};

use super::{bare_name, flag, invalid, one_of};

/// The shortest memory of files: less would forget what a late listing still shows.
pub const MAX_FILE_AGE_MIN: Duration = Duration::from_secs(14 * 86_400);

/// How long a file that was read is kept before it is cleaned when nothing is said.
pub const RETENTION_DEFAULT: Duration = Duration::from_secs(30 * 86_400);

/// Files are deleted only when they are kept for more than this.
pub const DELETE_RETENTION_MIN: Duration = Duration::from_secs(7 * 86_400);

/// Which files of a place count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiscoveryOptions {
    /// A path with a newer modification time is read again.
    pub allow_overwrites: bool,
    /// Files older than the newest one read by more than this are not read, and not remembered.
    pub max_file_age: Option<Duration>,
    /// Only files modified after this, microseconds since 1970 UTC.
    pub modified_after_us: Option<i64>,
    /// Only files modified before this.
    pub modified_before_us: Option<i64>,
    /// Directories named `key=value` are directories like others.
    pub recursive_file_lookup: bool,
    /// What makes a part of a path hidden; None: a leading `.` or `_`.
    pub ignored_path_segment_regex: Option<String>,
    /// A file that has gone before it could be read is passed over.
    pub ignore_missing_files: bool,
    /// A damaged file is passed over.
    pub ignore_corrupt_files: bool,
    /// Everything is listed again this often.
    pub backfill_interval: Option<Duration>,
    /// What becomes of files that were read; None: nothing.
    pub clean_source: Option<CleanSource>,
}

/// `cleanSource`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CleanSource {
    /// Where files are moved to, as typed; None: they are deleted.
    pub move_to: Option<String>,
    /// How long after the commit of their epoch.
    pub retention: Duration,
}

impl DiscoveryOptions {
    /// Takes one option, whose name is known to be an option of files. Others than those of discovery are left alone.
    pub(super) fn set(&mut self, name: &str, entry: &OptionEntry) -> Result<(), Diagnostic> {
        let text = || entry.value.value.trim().to_string();
        match name.to_lowercase().as_str() {
            "allowoverwrites" => self.allow_overwrites = flag(entry)?,
            "maxfileage" => self.max_file_age = Some(max_file_age(entry)?),
            "modifiedafter" => self.modified_after_us = Some(timestamp(entry)?),
            "modifiedbefore" => self.modified_before_us = Some(timestamp(entry)?),
            "recursivefilelookup" => self.recursive_file_lookup = flag(entry)?,
            "ignoredpathsegmentregex" => self.ignored_path_segment_regex = Some(text()),
            "ignoremissingfiles" => self.ignore_missing_files = flag(entry)?,
            "ignorecorruptfiles" => self.ignore_corrupt_files = flag(entry)?,
            "backfillinterval" => self.backfill_interval = Some(backfill_interval(entry)?),
            _ => {}
        }
        Ok(())
    }

    /// Options that mean something only together.
    pub(super) fn finish(&mut self, entries: &[OptionEntry]) -> Result<(), Diagnostic> {
        let find = |name: &str| entries.iter().find(|entry| bare_name(&entry.key.value).0.eq_ignore_ascii_case(name));
        if let (Some(after), Some(before), Some(entry)) =
            (self.modified_after_us, self.modified_before_us, find("modifiedBefore"))
            && before <= after
        {
            return Err(contradiction(entry, "no file can be modified after `modifiedAfter` and before this"));
        }
        if let (Some(one), Some(other)) = (find("pathGlobFilter"), find("fileNamePattern"))
            && one.value.value != other.value.value
        {
            return Err(contradiction(other, "`pathGlobFilter` means the same, and says something else"));
        }
        self.clean_source = clean_source(&find)?;
        Ok(())
    }

    /// The option, by its name, that means something only to a stream.
    pub fn only_of_streams(&self) -> Option<&'static str> {
        [
            (self.allow_overwrites, "allowOverwrites"),
            (self.max_file_age.is_some(), "maxFileAge"),
            (self.backfill_interval.is_some(), "backfillInterval"),
            (self.clean_source.is_some(), "cleanSource"),
        ]
        .into_iter()
        .find_map(|(given, name)| given.then_some(name))
    }
}

fn contradiction(entry: &OptionEntry, why: &str) -> Diagnostic {
    Diagnostic::new("CONTRADICTORY_OPTIONS", format!("option `{}`: {why}", entry.key.value)).at(entry.value.span)
}

fn interval(entry: &OptionEntry) -> Result<Duration, Diagnostic> {
    parse_interval(&entry.value.value, entry.value.span)
}

fn max_file_age(entry: &OptionEntry) -> Result<Duration, Diagnostic> {
    let age = interval(entry)?;
    if age < MAX_FILE_AGE_MIN {
        return Err(invalid(entry, "14 days or more")
            .help("a short memory reads files twice or not at all; 90 days are a good value where one is needed"));
    }
    Ok(age)
}

fn backfill_interval(entry: &OptionEntry) -> Result<Duration, Diagnostic> {
    match interval(entry)? {
        Duration::ZERO => Err(invalid(entry, "a time such as `1 day` or `6 hours`")),
        interval => Ok(interval),
    }
}

fn clean_source<'e>(find: &impl Fn(&str) -> Option<&'e OptionEntry>) -> Result<Option<CleanSource>, Diagnostic> {
    let (destination, retention) = (find("cleanSource.moveDestination"), find("cleanSource.retentionDuration"));
    let mode = match find("cleanSource") {
        Some(entry) => Some((entry, one_of(entry, &["OFF", "DELETE", "MOVE"])?)),
        None => None,
    };
    let (entry, mode) = match mode {
        None | Some((_, "OFF")) => {
            return match destination.or(retention) {
                Some(alone) => Err(contradiction(alone, "it belongs to `cleanSource`, which is OFF")
                    .help("add cleanSource = 'MOVE' or 'DELETE', or leave this out")),
                None => Ok(None),
            };
        }
        Some(mode) => mode,
    };
    let kept = retention.map(interval).transpose()?.unwrap_or(RETENTION_DEFAULT);
    let move_to = match (mode, destination) {
        ("MOVE", None) => {
            return Err(contradiction(entry, "MOVE needs `cleanSource.moveDestination`"));
        }
        ("MOVE", Some(to)) if to.value.value.trim().is_empty() => return Err(invalid(to, "a directory")),
        ("MOVE", Some(to)) => Some(to.value.value.trim().to_owned()),
        (_, Some(to)) => return Err(contradiction(to, "it belongs to MOVE, and `cleanSource` is DELETE")),
        (_, None) => None,
    };
    if move_to.is_none() && kept <= DELETE_RETENTION_MIN {
        let at = retention.unwrap_or(entry);
        return Err(contradiction(at, "files are deleted only after more than 7 days")
            .help("give a longer `cleanSource.retentionDuration`, or MOVE them, which has no minimum"));
    }
    Ok(Some(CleanSource { move_to, retention: kept }))
}

fn timestamp(entry: &OptionEntry) -> Result<i64, Diagnostic> {
    parse_timestamp_us(&entry.value.value).ok_or_else(|| {
        invalid(entry, "a timestamp")
            .help("write '2026-01-31', '2026-01-31 12:00:00' or '2026-01-31T12:00:00+01:00'; without a zone it is UTC")
    })
}

/// Microseconds since 1970 of a date, or a date and a time, with `T` or a space between them and, if need be, a
/// fraction and a zone behind (`Z`, `UTC`, `UTC+1`, `+01:00`).
fn parse_timestamp_us(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Some(date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_micros());
    }
    let (date, time) = text.split_once(['T', ' '])?;
    let zone_at = time.find(|c: char| !c.is_ascii_digit() && c != ':' && c != '.').unwrap_or(time.len());
    let (time, zone) = time.split_at(zone_at);
    let time = if time.matches(':').count() == 1 { format!("{time}:00") } else { time.to_owned() };
    let at = NaiveDateTime::parse_from_str(&format!("{date} {time}"), "%Y-%m-%d %H:%M:%S%.f").ok()?;
    Some(at.and_utc().timestamp_micros() - offset_us(zone.trim())?)
}

/// How far a zone is ahead of UTC.
fn offset_us(zone: &str) -> Option<i64> {
    let rest = ["UTC", "GMT", "Z"].iter().find_map(|name| zone.strip_prefix(name)).unwrap_or(zone);
    let (sign, digits) = match rest.split_at_checked(1) {
        None | Some(("", _)) => return Some(0),
        Some(("+", digits)) => (1, digits),
        Some(("-", digits)) => (-1, digits),
        Some(_) => return None,
    };
    let (hours, minutes) = match digits.split_once(':') {
        Some(parts) => parts,
        None if digits.len() == 4 => digits.split_at(2),
        None => (digits, "0"),
    };
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours <= 18 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60_000_000)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use alluvium_parser::{Span, Text};

    use super::super::FilesOptions;
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<DiscoveryOptions, Diagnostic> {
        let text = |value: &str| Text { value: value.into(), span: Span::UNKNOWN };
        let entries: Vec<_> =
            pairs.iter().map(|(key, value)| OptionEntry { key: text(key), value: text(value) }).collect();
        FilesOptions::parse(&entries, false).map(|(options, _)| options.discovery)
    }

    #[test]
    fn timestamps_in_the_forms_that_are_written() {
        // From `date -u -d … +%s`.
        let table = [
            ("2021-01-01", 1_609_459_200_000_000),
            ("2021-01-01 00:00:00.000000 UTC+0", 1_609_459_200_000_000),
            ("2021-01-01T00:00:00", 1_609_459_200_000_000),
            ("2021-01-01T01:00:00+01:00", 1_609_459_200_000_000),
            ("2020-12-31 19:30 -0430", 1_609_459_200_000_000),
            ("2021-01-01 00:00:00.25Z", 1_609_459_200_250_000),
            ("1969-12-31 23:59:59", -1_000_000),
        ];
        for (text, us) in table {
            assert_eq!(parse_timestamp_us(text), Some(us), "{text}");
        }
        for text in ["", "yesterday", "2021-13-01", "2021-01-01 25:00:00", "2021-01-01 00:00:00 XYZ", "2021-01-01 0"] {
            assert_eq!(parse_timestamp_us(text), None, "{text}");
        }
    }

    #[test]
    fn cleaning_needs_all_its_parts() {
        let code = |pairs: &[(&str, &str)]| parse(pairs).map(|_| "").unwrap_or_else(|error| error.code);
        assert_eq!(code(&[("cleanSource", "MOVE")]), "CONTRADICTORY_OPTIONS");
        assert_eq!(code(&[("cleanSource.moveDestination", "/x")]), "CONTRADICTORY_OPTIONS");
        assert_eq!(
            code(&[("cleanSource", "OFF"), ("cleanSource.retentionDuration", "9 days")]),
            "CONTRADICTORY_OPTIONS"
        );
        assert_eq!(
            code(&[("cleanSource", "DELETE"), ("cleanSource.retentionDuration", "7 days")]),
            "CONTRADICTORY_OPTIONS"
        );
        assert_eq!(code(&[("cleanSource", "DELETE"), ("cleanSource.moveDestination", "/x")]), "CONTRADICTORY_OPTIONS");
        assert_eq!(code(&[("cleanSource", "BURN")]), "INVALID_OPTION");
        let moved = parse(&[
            ("cloudFiles.cleanSource", "move"),
            ("cloudFiles.cleanSource.moveDestination", "/x"),
            ("cloudFiles.cleanSource.retentionDuration", "0 seconds"),
        ]);
        assert_eq!(
            moved.unwrap().clean_source,
            Some(CleanSource { move_to: Some("/x".into()), retention: Duration::ZERO })
        );
        let deleted = parse(&[("cleanSource", "DELETE")]).unwrap().clean_source.unwrap();
        assert_eq!((deleted.move_to, deleted.retention), (None, RETENTION_DEFAULT));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let code = |pairs: &[(&str, &str)]| parse(pairs).map(|_| "").unwrap_or_else(|error| error.code);
        assert_eq!(code(&[("maxFileAge", "7 days")]), "INVALID_OPTION");
        assert_eq!(code(&[("maxFileAge", "90 days")]), "");
        assert_eq!(code(&[("maxFileAge", "2 parrots")]), "INVALID_INTERVAL");
        assert_eq!(code(&[("backfillInterval", "0 days")]), "INVALID_OPTION");
        assert_eq!(code(&[("modifiedAfter", "soon")]), "INVALID_OPTION");
        let never = [("modifiedAfter", "2021-01-02"), ("modifiedBefore", "2021-01-01")];
        assert_eq!(code(&never), "CONTRADICTORY_OPTIONS");
        assert_eq!(code(&[("pathGlobFilter", "a*"), ("fileNamePattern", "b*")]), "CONTRADICTORY_OPTIONS");
        assert_eq!(parse(&[("allowOverwrites", "true")]).unwrap().only_of_streams(), Some("allowOverwrites"));
    }
}
