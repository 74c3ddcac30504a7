//! From text to numbers, dates and timestamps, as Spark's casts read them. It knows no file format.

/// A decimal number as it was read: `±mantissa × 10^exponent`, exact while `digits` is at most 19.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Number {
    /// Where its text begins and ends.
    pub start: usize,
    pub end: usize,
    pub negative: bool,
    /// Written without fraction and exponent.
    pub integer: bool,
    pub exponent: i32,
    mantissa: u64,
    /// Significant digits read; those past the nineteenth are not in the mantissa.
    digits: u32,
    /// Whether any digit was read, zeros included.
    any: bool,
}

const EXACT_DIGITS: u32 = 19;

const POWERS_OF_TEN: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

impl Number {
    /// A number about to be read.
    pub fn begin(start: usize, negative: bool) -> Number {
        Number { start, negative, integer: true, ..Number::default() }
    }

    #[inline]
    pub fn push_digit(&mut self, digit: u8) {
        self.any = true;
        if self.digits < EXACT_DIGITS {
            self.mantissa = self.mantissa * 10 + u64::from(digit);
            self.digits += u32::from(self.mantissa != 0);
        } else {
            self.digits += 1;
        }
    }

    /// The value if it is written as an integer and fits.
    #[inline]
    pub fn as_i64(&self) -> Option<i64> {
        if !self.integer || self.digits > EXACT_DIGITS {
            return None;
        }
        if self.negative { 0_i64.checked_sub_unsigned(self.mantissa) } else { i64::try_from(self.mantissa).ok() }
    }

    /// The nearest double; `text` is what the number was read from. Too large values become infinite.
    #[inline]
    pub fn as_f64(&self, text: &[u8]) -> f64 {
        let power = POWERS_OF_TEN.get(self.exponent.unsigned_abs() as usize);
        if let (Some(power), true) = (power, self.digits <= EXACT_DIGITS && self.mantissa <= 1 << 53) {
            // Both operands are exact, so the one rounding of the operation is the right one.
            let mantissa = self.mantissa as f64;
            let value = if self.exponent < 0 { mantissa / power } else { mantissa * power };
            return if self.negative { -value } else { value };
        }
        let digits = text.get(self.start..self.end).unwrap_or_default();
        std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).unwrap_or(f64::NAN)
    }

    /// Reads all of `text` as a number; a sign, `5.` and `.5` are numbers too.
    #[inline]
    pub fn read(text: &[u8]) -> Option<Number> {
        let (negative, mut at) = match text.first()? {
            b'-' => (true, 1),
            b'+' => (false, 1),
            _ => (false, 0),
        };
        let mut number = Number::begin(0, negative);
        while let Some(digit @ b'0'..=b'9') = text.get(at) {
            number.push_digit(digit - b'0');
            at += 1;
        }
        if text.get(at) == Some(&b'.') {
            number.integer = false;
            at += 1;
            let start = at;
            while let Some(digit @ b'0'..=b'9') = text.get(at) {
                number.push_digit(digit - b'0');
                at += 1;
            }
            number.exponent = -i32::try_from(at - start).ok()?;
        }
        if let (Some(b'e' | b'E'), true) = (text.get(at), number.any) {
            number.integer = false;
            let exponent = std::str::from_utf8(text.get(at + 1..)?).ok()?;
            number.exponent = number.exponent.saturating_add(exponent.parse().ok()?);
            at = text.len();
        }
        number.end = at;
        (number.any && at == text.len()).then_some(number)
    }
}

/// The integer that all of `text` is, with an optional sign; leading zeros are allowed.
#[inline]
pub(crate) fn integer(text: &[u8]) -> Option<i64> {
    let number = Number::read(text)?;
    number.as_i64()
}

/// Digits of a decimal number: at most this many are looked at.
const DECIMAL_TEXT_MAX: usize = 4096;

/// The unscaled value of `text` as DECIMAL(precision, scale), rounded half away from zero; None if `text` is no
/// number or has too many digits before the point.
pub(crate) fn decimal(text: &[u8], precision: u8, scale: i8) -> Option<i128> {
    let number = Number::read(text)?;
    if text.len() > DECIMAL_TEXT_MAX {
        return None;
    }
    let mantissa_end = text.iter().position(|b| matches!(b, b'e' | b'E')).unwrap_or(text.len());
    let digits: Vec<u8> =
        text[..mantissa_end].iter().filter(|b| b.is_ascii_digit()).map(|b| b - b'0').skip_while(|&d| d == 0).collect();
    if digits.is_empty() {
        return Some(0);
    }
    let shift = i64::from(number.exponent) + i64::from(scale);
    let kept = digits.len() as i64 + shift.min(0);
    let mut unscaled = 0_i128;
    for &digit in digits.iter().take(kept.max(0) as usize) {
        unscaled = unscaled.checked_mul(10)?.checked_add(i128::from(digit))?;
    }
    if shift < 0 && kept >= 0 && digits[kept as usize] >= 5 {
        unscaled += 1;
    }
    if shift > 0 {
        unscaled = unscaled.checked_mul(10_i128.checked_pow(u32::try_from(shift).ok()?)?)?;
    }
    if unscaled >= 10_i128.checked_pow(u32::from(precision))? {
        return None;
    }
    Some(if number.negative { -unscaled } else { unscaled })
}

/// TRUE or FALSE in any case.
pub(crate) fn boolean(text: &[u8]) -> Option<bool> {
    match text.len() {
        4 if text.eq_ignore_ascii_case(b"true") => Some(true),
        5 if text.eq_ignore_ascii_case(b"false") => Some(false),
        _ => None,
    }
}

/// The number that digits at fixed places make, most significant first.
#[inline(always)]
fn fixed<const N: usize>(text: &[u8], places: [usize; N]) -> Option<i64> {
    let (mut value, mut worst) = (0, 0);
    for place in places {
        let digit = text.get(place)?.wrapping_sub(b'0');
        worst = worst.max(digit);
        value = value * 10 + i64::from(digit);
    }
    (worst <= 9).then_some(value)
}

/// A reader of digits and separators.
struct Fields<'t> {
    text: &'t [u8],
    at: usize,
}

impl Fields<'_> {
    /// An unsigned number of `least` to `most` digits.
    #[inline]
    fn number(&mut self, least: usize, most: usize) -> Option<i64> {
        let start = self.at;
        let mut value = 0;
        while let Some(digit @ b'0'..=b'9') = self.text.get(self.at) {
            if self.at - start == most {
                return None;
            }
            value = value * 10 + i64::from(digit - b'0');
            self.at += 1;
        }
        (self.at - start >= least).then_some(value)
    }

    #[inline]
    fn eat(&mut self, byte: u8) -> bool {
        let there = self.text.get(self.at) == Some(&byte);
        self.at += usize::from(there);
        there
    }

    fn done(&self) -> bool {
        self.at == self.text.len()
    }

    /// `[±]yyyy[-M[M][-d[d]]]` as days since 1970-01-01.
    #[inline]
    fn date(&mut self) -> Option<i64> {
        if let [_, _, _, _, b'-', _, _, b'-', _, _, ..] = self.text
            && let Some(year) = fixed(self.text, [0, 1, 2, 3])
            && let Some(month) = fixed(self.text, [5, 6])
            && let Some(day) = fixed(self.text, [8, 9])
            && !self.text.get(10).is_some_and(u8::is_ascii_digit)
        {
            self.at = 10;
            return days(year, month, day);
        }
        let negative = self.eat(b'-');
        if !negative {
            self.eat(b'+');
        }
        let year = self.number(4, 7)?;
        let (mut month, mut day) = (1, 1);
        if self.eat(b'-') {
            month = self.number(1, 2)?;
            if self.eat(b'-') {
                day = self.number(1, 2)?;
            }
        }
        days(if negative { -year } else { year }, month, day)
    }

    /// `h[h]:m[m][:s[s][.f…]]` as microseconds; digits past the sixth of the fraction are cut off.
    #[inline]
    fn time(&mut self) -> Option<i64> {
        let (hour, minute, second) = match self.text.get(self.at..) {
            Some(rest @ [_, _, b':', _, _, b':', _, _, ..]) if !rest.get(8).is_some_and(u8::is_ascii_digit) => {
                self.at += 8;
                (fixed(rest, [0, 1])?, fixed(rest, [3, 4])?, fixed(rest, [6, 7])?)
            }
            _ => {
                let hour = self.number(1, 2)?;
                if !self.eat(b':') {
                    return None;
                }
                let minute = self.number(1, 2)?;
                if !self.eat(b':') {
                    return (hour <= 23 && minute <= 59).then_some((hour * 60 + minute) * 60_000_000);
                }
                (hour, minute, self.number(1, 2)?)
            }
        };
        let mut micros = 0;
        if self.eat(b'.') {
            let start = self.at;
            while let Some(digit @ b'0'..=b'9') = self.text.get(self.at) {
                if self.at - start < 6 {
                    micros = micros * 10 + i64::from(digit - b'0');
                }
                self.at += 1;
            }
            for _ in (self.at - start).min(6)..6 {
                micros *= 10;
            }
        }
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        Some(((hour * 60 + minute) * 60 + second) * 1_000_000 + micros)
    }

    /// The zone's offset in seconds: nothing, `Z`, `UTC`, `GMT`, `±h[h][[:]m[m]]`; None if it is anything else,
    /// such as a region's name, whose offset depends on the date.
    fn zone(&mut self) -> Option<Option<i64>> {
        if self.done() {
            return Some(None);
        }
        self.eat(b' ');
        let rest = &self.text[self.at..];
        if rest == b"Z" || rest == b"z" {
            return Some(Some(0));
        }
        if rest.starts_with(b"UTC") || rest.starts_with(b"GMT") {
            self.at += 3;
            if self.done() {
                return Some(Some(0));
            }
        }
        let negative = self.eat(b'-');
        if !negative && !self.eat(b'+') {
            return None;
        }
        let start = self.at;
        let mut hours = self.number(1, 4)?;
        let mut minutes = 0;
        match self.at - start {
            3 => return None,
            4 => (hours, minutes) = (hours / 100, hours % 100),
            _ if self.eat(b':') => minutes = self.number(1, 2)?,
            _ => {}
        }
        if !self.done() || hours > 18 || minutes > 59 {
            return None;
        }
        let seconds = (hours * 60 + minutes) * 60;
        Some(Some(if negative { -seconds } else { seconds }))
    }
}

/// Days from 1970-01-01 to a day of the proleptic Gregorian calendar; None if there is no such day.
pub(crate) fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    if !(1..=last).contains(&day) {
        return None;
    }
    // Years begin in March here, so that the leap day is the last of its year.
    let (shifted_year, shifted_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let leap_days = shifted_year.div_euclid(4) - shifted_year.div_euclid(100) + shifted_year.div_euclid(400);
    Some(shifted_year * 365 + leap_days + day_of_year - 719_468)
}

/// Year, month and day of a number of days since 1970-01-01, in the proleptic Gregorian calendar.
pub(crate) fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// DATE: `yyyy[-M[-d]]`, and whatever follows after a space or `T`, as Spark's cast has it.
pub(crate) fn date(text: &[u8]) -> Option<i32> {
    let text = text.trim_ascii();
    let mut fields = Fields { text, at: 0 };
    let days = fields.date()?;
    if !fields.done() && !fields.eat(b' ') && !fields.eat(b'T') {
        return None;
    }
    i32::try_from(days).ok()
}

/// Whether `text` is a date in full, `yyyy-MM-dd`, and nothing else.
pub(crate) fn is_full_date(text: &[u8]) -> bool {
    text.len() == 10 && text[4] == b'-' && text[7] == b'-' && date(text).is_some()
}

/// A timestamp's microseconds since 1970-01-01 00:00 by its own clock, and its zone's offset in seconds, if given.
pub(crate) fn local_timestamp(text: &[u8]) -> Option<(i64, Option<i64>)> {
    let text = text.trim_ascii();
    let mut fields = Fields { text, at: 0 };
    let midnight = fields.date()?.checked_mul(86_400_000_000)?;
    if fields.done() {
        return Some((midnight, None));
    }
    if !fields.eat(b' ') && !fields.eat(b'T') {
        return None;
    }
    let time = fields.time()?;
    let zone = fields.zone()?;
    Some((midnight.checked_add(time)?, zone))
}

/// Whether `text` has a full date and a time of day, which is what inference asks of a timestamp.
pub(crate) fn is_full_timestamp(text: &[u8]) -> bool {
    text.len() > 12
        && text[..10].iter().filter(|&&b| b == b'-').count() == 2
        && local_timestamp(text).is_some()
        && text.contains(&b':')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000_000;

    fn timestamp(text: &[u8]) -> Option<i64> {
        let (local, zone) = local_timestamp(text)?;
        local.checked_sub(zone.unwrap_or(0) * 1_000_000)
    }

    #[test]
    fn integers() {
        assert_eq!(integer(b"9223372036854775807"), Some(i64::MAX));
        assert_eq!(integer(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(integer(b"9223372036854775808"), None);
        assert_eq!(integer(b"-9223372036854775809"), None);
        assert_eq!(integer(b"+0000000000000000000000000000007"), Some(7));
        assert_eq!(integer(b"99999999999999999999"), None);
        for text in ["", "-", "+", "1.0", "1e3", " 1", "1 ", "0x1", "--1"] {
            assert_eq!(integer(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn doubles_agree_with_the_standard_library() {
        let texts = [
            "0",
            "-0",
            "1.5",
            "0.1",
            "-2.55",
            "123456789.123456789",
            "1e22",
            "1e23",
            "9007199254740993",
            "5e-324",
            "1.7976931348623157e308",
            "1e400",
            "-1e400",
            "1e-400",
            "0.30000000000000004",
            "17850.0",
            "31415926535897932384626433832795028841971",
            "1e-22",
            "123e-23",
            "4.35",
            "72057594037927945",
            "0.000001",
        ];
        for text in texts {
            let expected: f64 = text.parse().unwrap();
            let got = Number::read(text.as_bytes()).unwrap().as_f64(text.as_bytes());
            assert_eq!(got.to_bits(), expected.to_bits(), "{text}");
        }
    }

    #[test]
    fn decimals_round_half_up_and_refuse_what_does_not_fit() {
        assert_eq!(decimal(b"12.345", 5, 2), Some(1235));
        assert_eq!(decimal(b"-12.345", 5, 2), Some(-1235));
        assert_eq!(decimal(b"12.3449999", 5, 2), Some(1234));
        assert_eq!(decimal(b"999.99", 5, 2), Some(99999));
        assert_eq!(decimal(b"999.995", 5, 2), None);
        assert_eq!(decimal(b"1000", 5, 2), None);
        assert_eq!(decimal(b"1e2", 5, 2), Some(10000));
        assert_eq!(decimal(b"0.0000000000000000000000000000000000000000009e42", 5, 2), Some(90));
        assert_eq!(decimal(b"1e1000000000", 38, 0), None);
        assert_eq!(decimal(b"1e-1000000000", 38, 0), Some(0));
        assert_eq!(decimal(b"0e1000000000", 38, 0), Some(0));
        assert_eq!(decimal(b"0.05", 2, 0), Some(0));
        assert_eq!(decimal(b"0.5", 2, 0), Some(1));
        assert_eq!(decimal("9".repeat(38).as_bytes(), 38, 0), Some(10_i128.pow(38) - 1));
        assert_eq!(decimal("9".repeat(39).as_bytes(), 38, 0), None);
        assert_eq!(decimal(b"x", 5, 2), None);
    }

    #[test]
    fn dates() {
        assert_eq!(date(b"1970-01-01"), Some(0));
        assert_eq!(date(b"1969-12-31"), Some(-1));
        assert_eq!(date(b"2000-02-29"), Some(11016));
        assert_eq!(date(b"2020-3-1"), Some(18322));
        assert_eq!(date(b"2020"), Some(18262));
        assert_eq!(date(b"2010-12-01 08:26:00"), Some(14944));
        for text in ["2001-02-29", "2020-13-01", "2020-00-01", "20-01-01", "2020/01/01", "x", "", "2020-01-01x"] {
            assert_eq!(date(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn timestamps() {
        assert_eq!(timestamp(b"1970-01-02"), Some(DAY));
        assert_eq!(timestamp(b"1970-01-01T00:00:01Z"), Some(1_000_000));
        assert_eq!(timestamp(b"1970-01-01 01:00:00.5 +01:00"), Some(500_000));
        assert_eq!(timestamp(b"1970-01-01 00:00:00-0130"), Some(5_400_000_000));
        assert_eq!(timestamp(b"1970-01-01 1:2:3.1234567"), Some(3_723_123_456));
        assert_eq!(timestamp(b"1969-12-31T23:59:59.999999UTC"), Some(-1));
        assert_eq!(timestamp(b"2010-12-01 08:26"), Some(14944 * DAY + 30_360_000_000));
        assert_eq!(local_timestamp(b"1970-01-01T00:00:01"), Some((1_000_000, None)));
        assert_eq!(local_timestamp(b"1970-01-01T00:00:01Z"), Some((1_000_000, Some(0))));
        for text in [
            "12:30",
            "1970-01-01T24:00:00",
            "1970-01-01T24:00",
            "1970-01-01T10:00.5",
            "1970-01-01T10:00:000",
            "1970-01-01 10",
            "1970-01-01T00:00:00 Mars",
            "9999999-01-01 x",
        ] {
            assert_eq!(timestamp(text.as_bytes()), None, "{text:?}");
        }
        assert!(is_full_timestamp(b"2010-12-01 08:26:00") && !is_full_timestamp(b"2010-12-01"));
        assert!(is_full_date(b"2010-12-01") && !is_full_date(b"2010-12-01 08:26:00") && !is_full_date(b"2010-12"));
    }
}
