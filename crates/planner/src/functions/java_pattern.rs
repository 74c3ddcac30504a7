//! Java's date patterns (`yyyy-MM-dd HH:mm:ss`), as far as Spark's functions use them.
//!
//! A pattern is read once into items; formatting and parsing walk the items. Letters without a meaning here are
//! refused with the pattern, never printed as they are.

use chrono::{Datelike, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeZone, Timelike};
use datafusion::arrow::array::timezone::Tz;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// A pattern taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JavaPattern {
    items: Vec<Item>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    /// A letter and how often it stands there.
    Field(char, usize),
    Text(String),
    /// `[…]`: always printed, read if it is there.
    Optional(Vec<Item>),
}

/// What a text says, as far as it says it.
#[derive(Debug, Default, Clone, Copy)]
struct Read {
    year: Option<i32>,
    month: Option<u32>,
    day: Option<u32>,
    day_of_year: Option<u32>,
    hour: Option<u32>,
    half: Option<(u32, bool)>,
    minute: u32,
    second: u32,
    nanos: u32,
    zone: Option<Tz>,
    offset: Option<FixedOffset>,
}

impl JavaPattern {
    /// Reads a pattern.
    pub fn new(pattern: &str) -> Result<JavaPattern, String> {
        let chars: Vec<char> = pattern.chars().collect();
        let mut at = 0;
        let items = items(&chars, &mut at, 0)?;
        Ok(JavaPattern { items })
    }

    /// The text of a time; `zone` is printed by the zone letters.
    pub fn format(&self, at: NaiveDateTime, zone: Option<&Tz>) -> String {
        let mut out = String::new();
        format_items(&self.items, at, zone, &mut out);
        out
    }

    /// The time a text means: local, and its zone where the text names one.
    pub fn parse(&self, text: &str) -> Option<(NaiveDateTime, Option<FixedOffset>)> {
        let mut read = Read::default();
        let rest = parse_items(&self.items, text, &mut read)?;
        if !rest.is_empty() {
            return None;
        }
        let local = read.local()?;
        let offset = match (read.offset, read.zone) {
            (Some(offset), _) => Some(offset),
            (None, Some(zone)) => Some(zone.offset_from_local_datetime(&local).earliest()?.fix()),
            (None, None) => None,
        };
        Some((local, offset))
    }
}

fn items(chars: &[char], at: &mut usize, depth: usize) -> Result<Vec<Item>, String> {
    let mut items = Vec::new();
    while let Some(&c) = chars.get(*at) {
        *at += 1;
        match c {
            ']' if depth > 0 => return Ok(items),
            '[' => items.push(Item::Optional(self::items(chars, at, depth + 1)?)),
            '\'' => {
                let mut text = String::new();
                loop {
                    match chars.get(*at) {
                        Some('\'') if chars.get(*at + 1) == Some(&'\'') => {
                            text.push('\'');
                            *at += 2;
                        }
                        Some('\'') => {
                            *at += 1;
                            break;
                        }
                        Some(other) => {
                            text.push(*other);
                            *at += 1;
                        }
                        None => return Err("a ' is not closed".to_string()),
                    }
                }
                items.push(Item::Text(if text.is_empty() { "'".to_string() } else { text }));
            }
            c if c.is_ascii_alphabetic() => {
                let mut count = 1;
                while chars.get(*at) == Some(&c) {
                    count += 1;
                    *at += 1;
                }
                if !"yuMLdDHhkKmsSaEQXxZz".contains(c) {
                    return Err(format!("the letter `{c}` is not supported"));
                }
                items.push(Item::Field(c, count));
            }
            c => items.push(Item::Text(c.to_string())),
        }
    }
    if depth > 0 { Err("a [ is not closed".to_string()) } else { Ok(items) }
}

fn format_items(items: &[Item], at: NaiveDateTime, zone: Option<&Tz>, out: &mut String) {
    for item in items {
        match item {
            Item::Text(text) => out.push_str(text),
            Item::Optional(inner) => format_items(inner, at, zone, out),
            Item::Field(letter, count) => format_field(*letter, *count, at, zone, out),
        }
    }
}

fn format_field(letter: char, count: usize, at: NaiveDateTime, zone: Option<&Tz>, out: &mut String) {
    let mut number = |value: u32| out.push_str(&format!("{value:0count$}"));
    match letter {
        'y' | 'u' if count == 2 => number(at.year().rem_euclid(100) as u32),
        'y' | 'u' => out.push_str(&format!("{:0count$}", at.year())),
        'M' | 'L' if count >= 3 => out.push_str(named(&MONTHS, at.month0() as usize, count)),
        'M' | 'L' => number(at.month()),
        'd' => number(at.day()),
        'D' => number(at.ordinal()),
        'Q' => number(at.month0() / 3 + 1),
        'H' => number(at.hour()),
        'k' => number(if at.hour() == 0 { 24 } else { at.hour() }),
        'h' => number(at.hour12().1),
        'K' => number(at.hour() % 12),
        'm' => number(at.minute()),
        's' => number(at.second()),
        'S' => {
            let nanos = format!("{:09}", at.nanosecond() % 1_000_000_000);
            out.push_str(&nanos[..count.min(9)]);
        }
        'a' => out.push_str(if at.hour() < 12 { "AM" } else { "PM" }),
        'E' => out.push_str(named(&DAYS, at.weekday().num_days_from_monday() as usize, count)),
        _ => format_zone(letter, count, at, zone, out),
    }
}

fn named<'n>(names: &[&'n str], index: usize, count: usize) -> &'n str {
    let name = names.get(index).copied().unwrap_or_default();
    if count >= 4 { name } else { name.get(..3).unwrap_or(name) }
}

fn format_zone(letter: char, count: usize, at: NaiveDateTime, zone: Option<&Tz>, out: &mut String) {
    let Some(zone) = zone else { return };
    let offset = zone.offset_from_local_datetime(&at).earliest().map_or(0, |offset| offset.fix().local_minus_utc());
    let (sign, hours, minutes) = (if offset < 0 { '-' } else { '+' }, offset.abs() / 3600, offset.abs() / 60 % 60);
    match (letter, count) {
        ('z', _) => out.push_str(&zone.offset_from_utc_datetime(&at).to_string()),
        ('X', _) if offset == 0 => out.push('Z'),
        ('X' | 'x', 1) if minutes == 0 => out.push_str(&format!("{sign}{hours:02}")),
        ('X' | 'x', 1 | 2) | ('Z', 1..=3) => out.push_str(&format!("{sign}{hours:02}{minutes:02}")),
        _ => out.push_str(&format!("{sign}{hours:02}:{minutes:02}")),
    }
}

fn parse_items<'t>(items: &[Item], text: &'t str, read: &mut Read) -> Option<&'t str> {
    let mut rest = text;
    for (index, item) in items.iter().enumerate() {
        rest = match item {
            Item::Text(expected) => rest.strip_prefix(expected.as_str())?,
            Item::Optional(inner) => {
                let before = *read;
                match parse_items(inner, rest, read) {
                    Some(after) => after,
                    None => {
                        *read = before;
                        rest
                    }
                }
            }
            Item::Field(letter, count) => {
                // Digits that run into the next field are cut to this one's width.
                let adjacent = matches!(items.get(index + 1), Some(Item::Field(next, _)) if next.is_ascii_alphabetic());
                parse_field(*letter, *count, adjacent, rest, read)?
            }
        };
    }
    Some(rest)
}

fn parse_field<'t>(letter: char, count: usize, adjacent: bool, text: &'t str, read: &mut Read) -> Option<&'t str> {
    match letter {
        'M' | 'L' if count >= 3 => {
            let (index, rest) = name_at(&MONTHS, text, count)?;
            read.month = Some(index as u32 + 1);
            return Some(rest);
        }
        'E' => return name_at(&DAYS, text, count).map(|(_, rest)| rest),
        'a' => {
            let head = text.get(..2)?;
            let afternoon = head.eq_ignore_ascii_case("PM");
            if !afternoon && !head.eq_ignore_ascii_case("AM") {
                return None;
            }
            let hour = read.half.map_or(0, |(hour, _)| hour);
            read.half = Some((hour, afternoon));
            return Some(&text[2..]);
        }
        'X' | 'x' | 'Z' | 'z' => return parse_zone(text, read),
        _ => {}
    }
    let widest = match letter {
        'y' | 'u' if count == 2 => 2,
        'y' | 'u' if adjacent => count,
        'y' | 'u' => 9,
        'S' => 9,
        _ if adjacent => count,
        'D' => 3,
        _ => 2,
    };
    let digits = text.bytes().take(widest).take_while(u8::is_ascii_digit).count();
    if digits == 0 || digits < count.min(widest) {
        return None;
    }
    let number: u32 = text[..digits].parse().ok()?;
    match letter {
        'y' | 'u' if count == 2 => read.year = Some(2000 + number as i32),
        'y' | 'u' => read.year = Some(i32::try_from(number).ok()?),
        'M' | 'L' => read.month = Some(number),
        'd' => read.day = Some(number),
        'D' => read.day_of_year = Some(number),
        'H' => read.hour = Some(number),
        'k' => read.hour = Some(number % 24),
        'h' | 'K' => read.half = Some((number % 12, read.half.is_some_and(|(_, afternoon)| afternoon))),
        'm' => read.minute = number,
        's' => read.second = number,
        'S' => read.nanos = number * 10_u32.pow(9 - digits as u32),
        _ => return None,
    }
    Some(&text[digits..])
}

fn name_at<'t>(names: &[&str], text: &'t str, count: usize) -> Option<(usize, &'t str)> {
    names.iter().enumerate().find_map(|(index, name)| {
        let name = if count >= 4 { name } else { name.get(..3)? };
        let head = text.get(..name.len())?;
        head.eq_ignore_ascii_case(name).then(|| (index, &text[name.len()..]))
    })
}

fn parse_zone<'t>(text: &'t str, read: &mut Read) -> Option<&'t str> {
    if let Some(rest) = text.strip_prefix('Z') {
        read.offset = FixedOffset::east_opt(0);
        return Some(rest);
    }
    let sign = match text.chars().next()? {
        '+' => 1,
        '-' => -1,
        _ => {
            let end = text.find(|c: char| !(c.is_alphanumeric() || "/_+-:".contains(c))).unwrap_or(text.len());
            read.zone = Some(text[..end].parse().ok()?);
            return Some(&text[end..]);
        }
    };
    let mut digits = String::new();
    let mut used = 1;
    for c in text[1..].chars() {
        match c {
            c if c.is_ascii_digit() && digits.len() < 4 => digits.push(c),
            ':' if digits.len() == 2 => {}
            _ => break,
        }
        used += 1;
    }
    let hours: i32 = digits.get(..2)?.parse().ok()?;
    let minutes: i32 = if digits.len() > 2 { digits.get(2..4)?.parse().ok()? } else { 0 };
    read.offset = FixedOffset::east_opt(sign * (hours * 3600 + minutes * 60));
    read.offset.map(|_| &text[used..])
}

impl Read {
    fn local(&self) -> Option<NaiveDateTime> {
        let year = self.year.unwrap_or(1970);
        let date = match self.day_of_year {
            Some(ordinal) => NaiveDate::from_yo_opt(year, ordinal)?,
            None => NaiveDate::from_ymd_opt(year, self.month.unwrap_or(1), self.day.unwrap_or(1))?,
        };
        let hour = match (self.hour, self.half) {
            (Some(hour), _) => hour,
            (None, Some((hour, afternoon))) => hour + if afternoon { 12 } else { 0 },
            (None, None) => 0,
        };
        Some(date.and_time(NaiveTime::from_hms_nano_opt(hour, self.minute, self.second, self.nanos)?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::JavaPattern;

    fn round(pattern: &str, text: &str) -> String {
        let pattern = JavaPattern::new(pattern).unwrap();
        let (local, _) = pattern.parse(text).unwrap();
        pattern.format(local, Some(&"UTC".parse().unwrap()))
    }

    #[test]
    fn what_is_read_is_written_again() {
        for (pattern, text) in [
            ("yyyy-MM-dd HH:mm:ss", "2022-07-12 17:13:57"),
            ("yyyyMMddHHmmss", "20220712171357"),
            ("d/M/yyyy H:m", "2/1/2010 8:26"),
            ("dd MMM yyyy hh:mm a", "12 Jul 2022 05:13 PM"),
            ("EEEE, MMMM d, yyyy", "Tuesday, July 12, 2022"),
            ("yyyy-MM-dd'T'HH:mm:ss.SSS'x'", "2022-07-12T17:13:57.250x"),
            ("yy-D", "22-193"),
            ("yyyy-MM-dd HH:mm:ssX", "2022-07-12 17:13:57Z"),
        ] {
            assert_eq!(round(pattern, text), text, "{pattern}");
        }
    }

    #[test]
    fn offsets_optional_parts_and_refusals() {
        let pattern = JavaPattern::new("yyyy-MM-dd[ HH:mm[:ss]][XXX]").unwrap();
        let read = |text: &str| pattern.parse(text).map(|(at, offset)| (at.to_string(), offset.map(|o| o.to_string())));
        assert_eq!(read("2022-07-12"), Some(("2022-07-12 00:00:00".into(), None)));
        assert_eq!(read("2022-07-12 17:13"), Some(("2022-07-12 17:13:00".into(), None)));
        assert_eq!(read("2022-07-12 17:13+02:00"), Some(("2022-07-12 17:13:00".into(), Some("+02:00".into()))));
        assert_eq!(read("2022-7-12"), None);
        assert_eq!(read("2022-02-30"), None);
        assert_eq!(read("2022-07-12 x"), None);
        assert!(JavaPattern::new("yyyy-ww").is_err());
        assert!(JavaPattern::new("yyyy'").is_err());
    }
}
