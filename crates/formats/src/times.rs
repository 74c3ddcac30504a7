//! How text becomes dates, timestamps and decimals: by the options' patterns, or as Spark casts text; what names no zone
//! is meant in the options' zone, and decimals are written as the options' language does.

use crate::locale::Locale;
use crate::options::FormatOptions;
use crate::pattern::DatePattern;
use crate::scalar;
use crate::zone::Zone;

/// Reads dates, timestamps and decimals.
#[derive(Debug)]
pub(crate) struct Times {
    date: Option<DatePattern>,
    timestamp: Option<DatePattern>,
    timestamp_ntz: Option<DatePattern>,
    zone: Zone,
    locale: Locale,
}

impl Times {
    /// As the options say.
    pub fn new(options: &FormatOptions) -> Times {
        Times {
            date: options.date_format.clone(),
            timestamp: options.timestamp_format.clone(),
            timestamp_ntz: options.timestamp_ntz_format.clone(),
            zone: options.time_zone.unwrap_or(Zone::UTC),
            locale: options.locale,
        }
    }

    /// A DATE: days since 1970-01-01.
    #[inline]
    pub fn date(&self, text: &[u8]) -> Option<i32> {
        match &self.date {
            Some(pattern) => pattern.date(text),
            None => scalar::date(text),
        }
    }

    /// A TIMESTAMP: microseconds since 1970-01-01 00:00 UTC.
    #[inline]
    pub fn timestamp(&self, text: &[u8]) -> Option<i64> {
        let (local, offset) = match &self.timestamp {
            Some(pattern) => pattern.timestamp(text)?,
            None => scalar::local_timestamp(text)?,
        };
        match offset {
            Some(seconds) => local.checked_sub(seconds * 1_000_000),
            None => self.zone.instant(local),
        }
    }

    /// A TIMESTAMP_NTZ: microseconds on the clock it names; a text with a zone is none.
    #[inline]
    pub fn timestamp_ntz(&self, text: &[u8]) -> Option<i64> {
        let read = match &self.timestamp_ntz {
            Some(pattern) => pattern.timestamp(text)?,
            None => scalar::local_timestamp(text)?,
        };
        match read {
            (local, None) => Some(local),
            _ => None,
        }
    }

    /// The unscaled value of a DECIMAL; digits may stand in groups of three.
    #[inline]
    pub fn decimal(&self, text: &[u8], precision: u8, scale: i8) -> Option<i128> {
        scalar::decimal(&self.locale.plain_decimal(text)?, precision, scale)
    }

    /// The digits of a whole number for which inference takes the text, beyond what every language writes alike.
    pub fn whole_number<'t>(&self, text: &'t [u8]) -> Option<std::borrow::Cow<'t, [u8]>> {
        match self.locale {
            // As in Spark, inference takes groups for a number in other languages only.
            Locale::English => Some(std::borrow::Cow::Borrowed(text)),
            other => other.plain_decimal(text),
        }
    }

    /// Whether inference takes the text for a date.
    pub fn is_date(&self, text: &[u8]) -> bool {
        match &self.date {
            Some(pattern) => pattern.date(text).is_some(),
            None => scalar::is_full_date(text),
        }
    }

    /// Whether inference takes the text for a timestamp.
    pub fn is_timestamp(&self, text: &[u8]) -> bool {
        match &self.timestamp {
            Some(pattern) => pattern.timestamp(text).is_some(),
            None => scalar::is_full_timestamp(text) || scalar::is_full_date(text),
        }
    }
}
