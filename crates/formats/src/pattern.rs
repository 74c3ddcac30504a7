//! `dateFormat`, `timestampFormat` and `timestampNTZFormat`: Java's patterns (`dd/MM/yyyy HH:mm`), as far as data files use them.
//!
//! A pattern is read once; a letter without a meaning here is refused with the pattern. A text must be all of the
//! pattern, save what stands in brackets. Names of months and days are those of the `locale` and may be in any case.

use crate::locale::Locale;

/// A pattern taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatePattern {
    items: Vec<Item>,
    locale: Locale,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    /// A letter and how often it stands there.
    Field(u8, usize),
    Text(Vec<u8>),
    /// `[…]`: read if it is there.
    Optional(Vec<Item>),
}

/// What a text says.
#[derive(Debug, Clone, Copy)]
struct Read {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    afternoon: Option<bool>,
    minute: i64,
    second: i64,
    micros: i64,
    offset_seconds: Option<i64>,
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

const DEPTH_MAX: usize = 10;

impl DatePattern {
    /// Reads a pattern.
    pub fn new(pattern: &str) -> Result<DatePattern, String> {
        let mut at = 0;
        let bytes = pattern.as_bytes();
        let items = items(bytes, &mut at, 0)?;
        if at < bytes.len() {
            return Err("it has a `]` without `[`".to_owned());
        }
        Ok(DatePattern { items, locale: Locale::default() })
    }

    /// The pattern with names of another language.
    pub fn in_locale(self, locale: Locale) -> DatePattern {
        DatePattern { locale, ..self }
    }

    /// Days since 1970-01-01.
    pub(crate) fn date(&self, text: &[u8]) -> Option<i32> {
        let read = self.read(text)?;
        i32::try_from(crate::scalar::days(read.year, read.month, read.day)?).ok()
    }

    /// Microseconds since 1970-01-01 00:00 by the text's own clock, and its offset in seconds, if it names one.
    pub(crate) fn timestamp(&self, text: &[u8]) -> Option<(i64, Option<i64>)> {
        let read = self.read(text)?;
        let hour = match read.afternoon {
            Some(afternoon) => read.hour % 12 + if afternoon { 12 } else { 0 },
            None => read.hour,
        };
        if hour > 23 || read.minute > 59 || read.second > 59 {
            return None;
        }
        let days = crate::scalar::days(read.year, read.month, read.day)?;
        let seconds = days * 86_400 + hour * 3_600 + read.minute * 60 + read.second;
        Some((seconds.checked_mul(1_000_000)?.checked_add(read.micros)?, read.offset_seconds))
    }

    fn read(&self, text: &[u8]) -> Option<Read> {
        let mut read = Read {
            year: 1970,
            month: 1,
            day: 1,
            hour: 0,
            afternoon: None,
            minute: 0,
            second: 0,
            micros: 0,
            offset_seconds: None,
        };
        let rest = read_items(&self.items, self.locale, text.trim_ascii(), &mut read)?;
        rest.is_empty().then_some(read)
    }
}

fn items(pattern: &[u8], at: &mut usize, depth: usize) -> Result<Vec<Item>, String> {
    let mut out = Vec::new();
    while let Some(&byte) = pattern.get(*at) {
        match byte {
            b'[' if depth == DEPTH_MAX => return Err("its brackets are nested too deeply".to_owned()),
            b'[' => {
                *at += 1;
                out.push(Item::Optional(items(pattern, at, depth + 1)?));
                if pattern.get(*at) != Some(&b']') {
                    return Err("it has a `[` without `]`".to_owned());
                }
                *at += 1;
            }
            b']' => return Ok(out),
            b'\'' => {
                let end = pattern[*at + 1..].iter().position(|&b| b == b'\'').ok_or("it has a quote without end")?;
                let text = &pattern[*at + 1..*at + 1 + end];
                out.push(Item::Text(if text.is_empty() { b"'".to_vec() } else { text.to_vec() }));
                *at += end + 2;
            }
            letter if letter.is_ascii_alphabetic() => {
                let count = pattern[*at..].iter().take_while(|&&b| b == letter).count();
                if !b"yuMLdHhmsSaXxZzVE".contains(&letter) {
                    return Err(format!("`{}` has no meaning here", letter as char));
                }
                out.push(Item::Field(letter, count));
                *at += count;
            }
            other => {
                out.push(Item::Text(vec![other]));
                *at += 1;
            }
        }
    }
    Ok(out)
}

fn read_items<'t>(items: &[Item], locale: Locale, mut text: &'t [u8], read: &mut Read) -> Option<&'t [u8]> {
    for (place, item) in items.iter().enumerate() {
        match item {
            Item::Text(expected) => text = text.strip_prefix(expected.as_slice())?,
            Item::Optional(inner) => {
                let mut tried = *read;
                if let Some(rest) = read_items(inner, locale, text, &mut tried) {
                    (*read, text) = (tried, rest);
                }
            }
            Item::Field(letter @ (b'M' | b'L' | b'E'), count)
                if locale != Locale::English && (*letter == b'E' || *count >= 3) =>
            {
                let length = match letter {
                    b'E' => locale.day(text)?,
                    _ => {
                        let (month, length) = locale.month(text)?;
                        read.month = month;
                        length
                    }
                };
                text = text.get(length..)?;
                // The point behind a shortened name, unless the pattern has one there itself.
                let pointed = matches!(items.get(place + 1), Some(Item::Text(next)) if next.starts_with(b"."));
                if let (false, Some(rest)) = (pointed, text.strip_prefix(b".")) {
                    text = rest;
                }
            }
            Item::Field(letter, count) => {
                // Digits of the next field follow at once: then this one has just as many as letters.
                let adjacent = matches!(items.get(place + 1), Some(Item::Field(next, _)) if !b"aXxZzVE".contains(next));
                text = read_field(*letter, *count, adjacent, text, read)?;
            }
        }
    }
    Some(text)
}

fn read_field<'t>(letter: u8, count: usize, adjacent: bool, text: &'t [u8], read: &mut Read) -> Option<&'t [u8]> {
    let number = |most: usize| {
        let most = if adjacent { count } else { most.max(count) };
        let digits = text.iter().take(most).take_while(|b| b.is_ascii_digit()).count();
        let least = if adjacent { count } else { count.min(most) };
        if digits < least {
            return None;
        }
        let value = text[..digits].iter().fold(0_i64, |value, digit| value * 10 + i64::from(digit - b'0'));
        Some((value, &text[digits..]))
    };
    let rest;
    match letter {
        b'y' | b'u' if count == 2 => {
            let (year, behind) = number(2)?;
            (read.year, rest) = (2000 + year, behind);
        }
        b'y' | b'u' => (read.year, rest) = number(if count < 4 { 7 } else { count.max(4) })?,
        b'M' | b'L' if count >= 3 => {
            let name = |month: &str| {
                let wanted = if count == 3 { &month.as_bytes()[..3] } else { month.as_bytes() };
                text.get(..wanted.len()).is_some_and(|start| start.eq_ignore_ascii_case(wanted)).then_some(wanted.len())
            };
            let (place, length) = MONTHS.iter().enumerate().find_map(|(place, month)| Some((place, name(month)?)))?;
            read.month = place as i64 + 1;
            rest = &text[length..];
        }
        b'M' | b'L' => (read.month, rest) = number(2)?,
        b'd' => (read.day, rest) = number(2)?,
        b'H' | b'h' => (read.hour, rest) = number(2)?,
        b'm' => (read.minute, rest) = number(2)?,
        b's' => (read.second, rest) = number(2)?,
        b'S' => {
            let digits = text.iter().take(count.max(1)).take_while(|b| b.is_ascii_digit()).count();
            if digits == 0 {
                return None;
            }
            let micros = text[..digits].iter().chain([b'0'; 6].iter()).take(6);
            read.micros = micros.fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
            rest = &text[digits..];
        }
        b'a' => {
            let half = text.get(..2)?;
            read.afternoon = Some(half.eq_ignore_ascii_case(b"PM"));
            if !half.eq_ignore_ascii_case(b"AM") && !half.eq_ignore_ascii_case(b"PM") {
                return None;
            }
            rest = &text[2..];
        }
        // The day of the week says nothing that the date does not.
        b'E' => {
            let letters = text.iter().take_while(|b| b.is_ascii_alphabetic()).count();
            if letters < 3 {
                return None;
            }
            rest = &text[letters..];
        }
        _ => {
            let (offset, behind) = offset(text)?;
            read.offset_seconds = Some(offset);
            rest = behind;
        }
    }
    Some(rest)
}

/// `Z`, `UTC`, `GMT`, `±hh[[:]mm]`.
fn offset(text: &[u8]) -> Option<(i64, &[u8])> {
    for name in [&b"UTC"[..], b"GMT", b"Z"] {
        if let Some(rest) = text.strip_prefix(name) {
            return Some((0, rest));
        }
    }
    let (sign, rest) = match text.split_first()? {
        (b'+', rest) => (1, rest),
        (b'-', rest) => (-1, rest),
        _ => return None,
    };
    let two = |text: &[u8]| {
        let digits = text.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
        Some(i64::from(digits[0] - b'0') * 10 + i64::from(digits[1] - b'0'))
    };
    let hours = two(rest)?;
    let rest = &rest[2..];
    let minutes_at = if rest.first() == Some(&b':') { 1 } else { 0 };
    let (minutes, rest) = match rest.get(minutes_at..).and_then(two) {
        Some(minutes) => (minutes, &rest[minutes_at + 2..]),
        None => (0, rest),
    };
    (hours <= 18 && minutes <= 59).then_some((sign * (hours * 3_600 + minutes * 60), rest))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::scalar;

    fn date(pattern: &str, text: &str) -> Option<i32> {
        DatePattern::new(pattern).unwrap().date(text.as_bytes())
    }

    fn timestamp(pattern: &str, text: &str) -> Option<i64> {
        let (local, offset) = DatePattern::new(pattern).unwrap().timestamp(text.as_bytes())?;
        Some(local - offset.unwrap_or(0) * 1_000_000)
    }

    #[test]
    fn dates() {
        let wanted = scalar::date(b"2024-02-29");
        for (pattern, text) in [
            ("dd/MM/yyyy", "29/02/2024"),
            ("d.M.yy", "29.2.24"),
            ("yyyyMMdd", "20240229"),
            ("MMM d, yyyy", "Feb 29, 2024"),
            ("EEEE, d MMMM yyyy", "Thursday, 29 february 2024"),
            ("yyyy-MM-dd[ HH:mm]", "2024-02-29"),
            ("yyyy-MM-dd[ HH:mm]", "2024-02-29 10:00"),
        ] {
            assert_eq!(date(pattern, text), wanted, "{pattern} {text}");
        }
        for (pattern, text) in [
            ("dd/MM/yyyy", "29-02-2024"),
            ("dd/MM/yyyy", "30/02/2024"),
            ("dd/MM/yyyy", "29/02/2024x"),
            ("yyyyMMdd", "2024229"),
        ] {
            assert_eq!(date(pattern, text), None, "{pattern} {text}");
        }
    }

    #[test]
    fn timestamps() {
        let wanted = scalar::local_timestamp(b"2024-02-29T15:04:05.6Z").map(|(local, _)| local);
        for (pattern, text) in [
            ("dd/MM/yyyy HH:mm:ss.S", "29/02/2024 15:04:05.6"),
            ("MM/dd/yyyy hh:mm:ss.SSS a", "02/29/2024 03:04:05.600 PM"),
            ("yyyy-MM-dd'T'HH:mm:ss.SSSXXX", "2024-02-29T16:34:05.600+01:30"),
            ("yyyyMMddHHmmss.SSSSSS[X]", "20240229150405.600000"),
            ("yyyyMMddHHmmss.SSSSSS[X]", "20240229150405.600000Z"),
        ] {
            assert_eq!(timestamp(pattern, text), wanted, "{pattern} {text}");
        }
        assert_eq!(timestamp("HH:mm", "24:00"), None);
        assert_eq!(timestamp("hh a", "12 AM"), Some(0));
    }

    #[test]
    fn names_of_other_languages() {
        let wanted = scalar::date(b"2024-03-05");
        for (tag, pattern, text) in [
            ("de-DE", "d. MMMM yyyy", "5. März 2024"),
            ("de", "EEEE, d. MMM yyyy", "Dienstag, 5. MÄR. 2024"),
            ("fr-FR", "d MMMM yyyy", "5 mars 2024"),
            ("es", "d 'de' MMMM 'de' yyyy", "5 de marzo de 2024"),
            ("it-IT", "EEE d MMM yyyy", "mar 5 mar 2024"),
            ("pt_BR", "d MMM. yyyy", "5 mar. 2024"),
            ("nl", "d MMM yyyy", "5 mrt. 2024"),
        ] {
            let pattern = DatePattern::new(pattern).unwrap().in_locale(Locale::from_tag(tag).unwrap());
            assert_eq!(pattern.date(text.as_bytes()), wanted, "{tag} {text}");
        }
        let german = DatePattern::new("d. MMMM yyyy").unwrap().in_locale(Locale::German);
        assert_eq!(german.date(b"5. March 2024"), None);
    }

    #[test]
    fn refusals() {
        for pattern in ["yyyy-MM-dd QQ", "[yyyy", "yyyy]", "'open"] {
            assert!(DatePattern::new(pattern).is_err(), "{pattern}");
        }
    }
}
