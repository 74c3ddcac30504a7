//! What `SET` can change. Only keys that are carried out are here.
//!
//! Knows values and their limits; whoever holds a [`Settings`] applies them.

use std::num::NonZeroUsize;

use alluvium_parser::Diagnostic;
use datafusion::arrow::array::timezone::Tz;

use crate::near::nearest;
use crate::options::parse_bytes;

/// A key of `SET` as the manual shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettingDoc {
    /// Its name.
    pub name: &'static str,
    /// What holds without it.
    pub default: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

/// Databricks' names for how much of the files is looked at to learn their columns.
const SAMPLE_BYTES: &str = "spark.databricks.cloudFiles.schemaInference.sampleSize.numBytes";
const SAMPLE_FILES: &str = "spark.databricks.cloudFiles.schemaInference.sampleSize.numFiles";

/// Spark's name for which of several watermarks counts.
const WATERMARK_POLICY: &str = "spark.sql.streaming.multipleWatermarkPolicy";

/// Which of the watermarks of a query is the query's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WatermarkPolicy {
    /// The least: a stream that falls behind holds the others back.
    #[default]
    Min,
    /// The greatest: rows of a stream that falls behind are late.
    Max,
}

impl WatermarkPolicy {
    /// `min` or `max`.
    pub fn name(self) -> &'static str {
        match self {
            WatermarkPolicy::Min => "min",
            WatermarkPolicy::Max => "max",
        }
    }

    /// The policy of this name.
    pub fn of(name: &str) -> Option<WatermarkPolicy> {
        [WatermarkPolicy::Min, WatermarkPolicy::Max].into_iter().find(|policy| policy.name().eq_ignore_ascii_case(name))
    }
}

/// Every key of `SET`.
pub const SETTINGS: &[SettingDoc] = &[
    SettingDoc {
        name: "memory_limit",
        default: "512mb",
        meaning: "what queries and stored state may hold in memory together, at least 64mb",
    },
    SettingDoc {
        name: "on_error",
        default: "stop",
        meaning: "what a script does after a failed statement: stop, or continue with the next",
    },
    SettingDoc {
        name: "spark.databricks.cloudFiles.schemaInference.sampleSize.numBytes",
        default: "32mb",
        meaning: "columns of files are learnt from about so many bytes of the newest ones",
    },
    SettingDoc {
        name: "spark.databricks.cloudFiles.schemaInference.sampleSize.numFiles",
        default: "1000",
        meaning: "columns of files are learnt from at most so many of the newest ones",
    },
    SettingDoc {
        name: "spark.sql.streaming.multipleWatermarkPolicy",
        default: "min",
        meaning: "which of several watermarks of a query counts, min or max; a stream keeps what held at its first start",
    },
    SettingDoc {
        name: "target_partitions",
        default: "number of cores",
        meaning: "how many parts of a query run at the same time",
    },
    SettingDoc {
        name: "timezone",
        default: "UTC",
        meaning: "session time zone: how timestamps are shown, read from text without a zone, and cut to days",
    },
];

/// After a failed statement of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// Nothing more is run.
    Stop,
    /// The next statement is run.
    Continue,
}

/// The values of all settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Bytes.
    pub memory_limit: u64,
    /// What a script does after a failed statement.
    pub on_error: OnError,
    /// Bytes of a sample from which columns are learnt.
    pub sample_bytes: u64,
    /// Files of a sample from which columns are learnt.
    pub sample_files: u64,
    /// Parts of a query that run at the same time.
    pub target_partitions: usize,
    /// IANA name or offset.
    pub timezone: String,
    /// Of streams that are started for the first time.
    pub watermark_policy: WatermarkPolicy,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            memory_limit: 512 << 20,
            on_error: OnError::Stop,
            sample_bytes: 32 << 20,
            sample_files: 1000,
            target_partitions: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            timezone: "UTC".to_string(),
            watermark_policy: WatermarkPolicy::default(),
        }
    }
}

impl Settings {
    /// Whether a script goes on after a failed statement.
    pub fn on_error_continue(&self) -> bool {
        self.on_error == OnError::Continue
    }

    /// `SET key = value`; keys count without case.
    ///
    /// # Errors
    /// UNKNOWN_SETTING, INVALID_SETTING; the place is the caller's to add.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), Diagnostic> {
        let value = value.trim();
        match known(key)? {
            "memory_limit" => {
                self.memory_limit = parse_bytes(value)
                    .filter(|bytes| *bytes >= 64 << 20)
                    .ok_or_else(|| invalid(key, value, "a size from 64mb, such as 512mb or 2g"))?;
            }
            "on_error" => {
                self.on_error = match value.to_lowercase().as_str() {
                    "stop" => OnError::Stop,
                    "continue" => OnError::Continue,
                    _ => return Err(invalid(key, value, "stop or continue")),
                };
            }
            SAMPLE_BYTES => {
                self.sample_bytes = parse_bytes(value)
                    .filter(|bytes| *bytes > 0)
                    .ok_or_else(|| invalid(key, value, "a size such as 1048576, 32mb or 10g"))?;
            }
            SAMPLE_FILES => {
                self.sample_files = value
                    .parse()
                    .ok()
                    .filter(|count| *count > 0)
                    .ok_or_else(|| invalid(key, value, "a whole number from 1"))?;
            }
            WATERMARK_POLICY => {
                self.watermark_policy = WatermarkPolicy::of(value).ok_or_else(|| invalid(key, value, "min or max"))?;
            }
            "target_partitions" => {
                self.target_partitions = value
                    .parse()
                    .ok()
                    .filter(|count| (1..=1024).contains(count))
                    .ok_or_else(|| invalid(key, value, "a whole number from 1 to 1024"))?;
            }
            _ => {
                value
                    .parse::<Tz>()
                    .map_err(|_| invalid(key, value, "a time zone such as UTC, Europe/Berlin or +02:00"))?;
                self.timezone = value.to_string();
            }
        }
        Ok(())
    }

    /// `RESET key`.
    ///
    /// # Errors
    /// UNKNOWN_SETTING.
    pub fn reset(&mut self, key: &str) -> Result<(), Diagnostic> {
        let default = Settings::default();
        match known(key)? {
            "memory_limit" => self.memory_limit = default.memory_limit,
            "on_error" => self.on_error = default.on_error,
            SAMPLE_BYTES => self.sample_bytes = default.sample_bytes,
            SAMPLE_FILES => self.sample_files = default.sample_files,
            WATERMARK_POLICY => self.watermark_policy = default.watermark_policy,
            "target_partitions" => self.target_partitions = default.target_partitions,
            _ => self.timezone = default.timezone,
        }
        Ok(())
    }

    /// Every key with its value and meaning, by name.
    pub fn rows(&self) -> Vec<(String, String, String)> {
        SETTINGS
            .iter()
            .map(|setting| (setting.name.to_string(), self.value(setting.name), setting.meaning.to_string()))
            .collect()
    }

    fn value(&self, name: &str) -> String {
        match name {
            "memory_limit" if self.memory_limit.is_multiple_of(1 << 20) => format!("{}mb", self.memory_limit >> 20),
            "memory_limit" => self.memory_limit.to_string(),
            "on_error" if self.on_error_continue() => "continue".to_string(),
            "on_error" => "stop".to_string(),
            SAMPLE_BYTES if self.sample_bytes.is_multiple_of(1 << 20) => format!("{}mb", self.sample_bytes >> 20),
            SAMPLE_BYTES => self.sample_bytes.to_string(),
            SAMPLE_FILES => self.sample_files.to_string(),
            WATERMARK_POLICY => self.watermark_policy.name().to_string(),
            "target_partitions" => self.target_partitions.to_string(),
            _ => self.timezone.clone(),
        }
    }
}

fn known(key: &str) -> Result<&'static str, Diagnostic> {
    if let Some(setting) = SETTINGS.iter().find(|setting| setting.name.eq_ignore_ascii_case(key)) {
        return Ok(setting.name);
    }
    if key.eq_ignore_ascii_case("spark.sql.session.timeZone") {
        return Ok("timezone");
    }
    let diagnostic = Diagnostic::new("UNKNOWN_SETTING", format!("there is no setting `{key}`"));
    Err(match nearest(key, SETTINGS.iter().map(|setting| setting.name)) {
        Some(other) => diagnostic.help(format!("did you mean `{other}`?")),
        None => diagnostic.help("SET alone lists them all"),
    })
}

fn invalid(key: &str, value: &str, accepted: &str) -> Diagnostic {
    Diagnostic::new("INVALID_SETTING", format!("`{key}`: `{value}` is not {accepted}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_listed_key_can_be_set_shown_and_reset() {
        let mut settings = Settings::default();
        for (key, value) in [
            ("memory_limit", "128mb"),
            ("ON_ERROR", "continue"),
            (SAMPLE_BYTES, "10mb"),
            (SAMPLE_FILES, "5"),
            (WATERMARK_POLICY, "max"),
            ("target_partitions", "3"),
            ("timezone", "Europe/Berlin"),
        ] {
            settings.set(key, value).unwrap();
            let rows = settings.rows();
            let row = rows.iter().find(|(name, _, _)| name.eq_ignore_ascii_case(key)).unwrap();
            assert_eq!(row.1, value);
            settings.reset(key).unwrap();
        }
        assert_eq!(settings, Settings::default());
        assert_eq!(settings.rows().len(), SETTINGS.len());
        assert_eq!(settings.set("timezone", "Mars").unwrap_err().code, "INVALID_SETTING");
        assert_eq!(settings.set(WATERMARK_POLICY, "mean").unwrap_err().code, "INVALID_SETTING");
        assert_eq!(settings.set("memory_limit", "1mb").unwrap_err().code, "INVALID_SETTING");
        assert_eq!(settings.set("memory_limits", "1g").unwrap_err().help, ["did you mean `memory_limit`?"]);
    }
}
