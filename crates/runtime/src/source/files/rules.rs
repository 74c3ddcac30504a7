//! Which files of a place count, and why others do not.
//!
//! Rules about names need a path and nothing else; rules about times need a file's modification time. Where files are
//! and what was read before is not known here.

use std::fmt;
use std::sync::Arc;

use alluvium_parser::Diagnostic;
use alluvium_planner::options::DiscoveryOptions;

use crate::checkpoint::Ages;
use crate::error::Result;

/// Why a file does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ignored {
    /// A part of its path is hidden: this one.
    Hidden(String),
    /// Its name does not match pathGlobFilter.
    Name(String),
    /// Its path does not match the pattern that is the source's path.
    Pattern(String),
    /// It was not modified after modifiedAfter.
    NotAfter,
    /// It was not modified before modifiedBefore.
    NotBefore,
    /// It is older than the newest file read by more than maxFileAge.
    TooOld,
    /// It is not known, and as old as files that maxFileAge has made the stream forget.
    Forgotten,
}

impl Ignored {
    /// The state SHOW FILES prints.
    pub fn word(&self) -> &'static str {
        match self {
            Ignored::Hidden(_) => "hidden",
            _ => "filtered",
        }
    }

    /// Whether it is the file's age: a statement can have it read all the same.
    pub fn is_age(&self) -> bool {
        matches!(self, Ignored::TooOld | Ignored::Forgotten)
    }

    /// The reason for a count of files, without what is the file's own.
    pub fn kind(&self) -> String {
        match self {
            Ignored::Hidden(_) => "their names are hidden".into(),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ignored::Hidden(part) => write!(f, "the name `{part}` is hidden"),
            Ignored::Name(pattern) => write!(f, "the name does not match pathGlobFilter `{pattern}`"),
            Ignored::Pattern(pattern) => write!(f, "the path does not match the pattern `{pattern}`"),
            Ignored::NotAfter => f.write_str("not modified after modifiedAfter"),
            Ignored::NotBefore => f.write_str("not modified before modifiedBefore"),
            Ignored::TooOld => f.write_str("older than the newest file read by more than maxFileAge"),
            Ignored::Forgotten => f.write_str("as old as files that maxFileAge has forgotten, so it counts as read"),
        }
    }
}

/// Which parts of a path are hidden, and with them everything below.
#[derive(Clone, Default)]
pub enum Hidden {
    /// `_x`, `.x`, `x._COPYING_`; not `_k=v`.
    #[default]
    Usual,
    /// What `ignoredPathSegmentRegex` says.
    Said(Arc<dyn Fn(&str) -> bool + Send + Sync>),
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hidden::Usual => "Usual",
            Hidden::Said(_) => "Said",
        })
    }
}

impl Hidden {
    /// As `ignoredPathSegmentRegex` says; nothing is hidden by an empty one. Errors: INVALID_OPTION.
    pub fn new(regex: Option<&str>) -> Result<Hidden> {
        let Some(regex) = regex else { return Ok(Hidden::Usual) };
        if regex.is_empty() {
            return Ok(Hidden::Said(Arc::new(|_| false)));
        }
        let compiled = datafusion::functions::regex::compile_regex(regex, None).map_err(|_| {
            Diagnostic::new(
                "INVALID_OPTION",
                format!("option `ignoredPathSegmentRegex`: `{regex}` is not a regular expression"),
            )
            .help("'^[._]' hides names that begin with a dot or an underscore")
        })?;
        Ok(Hidden::Said(Arc::new(move |part| compiled.is_match(part))))
    }

    /// Whether a name is hidden.
    pub fn hides(&self, name: &str) -> bool {
        match self {
            Hidden::Usual => usually_hidden(name),
            Hidden::Said(said) => said(name),
        }
    }

    /// The first hidden part of a relative path.
    pub fn part<'p>(&self, relative: &'p str) -> Option<&'p str> {
        relative.split('/').find(|part| self.hides(part))
    }
}

fn usually_hidden(name: &str) -> bool {
    name.starts_with('.') || name.starts_with('_') && !name.contains('=') || name.ends_with("._COPYING_")
}

/// Rules about modification times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    after_us: Option<i64>,
    before_us: Option<i64>,
    age_ms: Option<i64>,
}

impl Times {
    /// Those of the options.
    pub fn of(options: &DiscoveryOptions) -> Times {
        Times {
            after_us: options.modified_after_us,
            before_us: options.modified_before_us,
            age_ms: options.max_file_age.map(|age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX)),
        }
    }

    /// Why a file that is not known does not count, modified then, where the source has such a past.
    pub fn ignore(&self, path: &str, modified_ms: i64, ages: &Ages) -> Option<Ignored> {
        let modified_us = modified_ms.saturating_mul(1000);
        if self.after_us.is_some_and(|after| modified_us <= after) {
            return Some(Ignored::NotAfter);
        }
        if self.before_us.is_some_and(|before| modified_us >= before) {
            return Some(Ignored::NotBefore);
        }
        if ages.is_wanted(path) {
            return None;
        }
        if self.oldest_ms(ages.newest_ms).is_some_and(|oldest| modified_ms < oldest) {
            return Some(Ignored::TooOld);
        }
        ages.is_forgotten(path, modified_ms).then_some(Ignored::Forgotten)
    }

    /// Files modified before this are neither read nor remembered.
    pub fn oldest_ms(&self, newest_ms: Option<i64>) -> Option<i64> {
        Some(newest_ms?.saturating_sub(self.age_ms?))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_usual_hidden_names_and_said_ones() {
        let usual = Hidden::new(None).unwrap();
        let hidden: Vec<_> = ["a", "_a", ".a", "_k=v", "a._COPYING_", "a_b"].map(|name| usual.hides(name)).into();
        assert_eq!(hidden, [false, true, true, false, true, false]);
        assert_eq!(usual.part("a/_tmp/b"), Some("_tmp"));
        let said = Hidden::new(Some("^tmp|[.]bak$")).unwrap();
        assert_eq!(
            (said.part("a/tmp1/b"), said.part("_a/x.bak"), said.part("_a/b")),
            (Some("tmp1"), Some("x.bak"), None)
        );
        assert!(!Hidden::new(Some("")).unwrap().hides("_a"));
        assert_eq!(Hidden::new(Some("(")).unwrap_err().diagnostic().code, "INVALID_OPTION");
    }

    #[test]
    fn times_are_strict_and_age_counts_from_the_newest_file_read() {
        let times = Times { after_us: Some(1_000_000), before_us: Some(5_000_000), age_ms: Some(1000) };
        let of = |ms| times.ignore("a", ms, &Ages::default());
        assert_eq!((of(1000), of(1001), of(4999)), (Some(Ignored::NotAfter), None, None));
        assert_eq!(of(5000), Some(Ignored::NotBefore));
        let ages = Ages::since(4000);
        assert_eq!(times.ignore("a", 2999, &ages), Some(Ignored::TooOld));
        assert_eq!(times.ignore("a", 3000, &ages), None);
    }
}
