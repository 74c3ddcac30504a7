//! Texts and numbers as texts: `locate`, `initcap`, `conv`, `mask`, `format_number`, `bround`, encodings.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, Float64Array, Int32Array, StringArray, StringBuilder,
};
use datafusion::arrow::datatypes::{DataType, Float64Type, Int32Type};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::ScalarUDF;

use super::plain::plain;

/// All of them.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    use DataType::{Binary, Float64, Int32, Utf8};
    vec![
        plain("locate", &[Utf8, Utf8, Int32], 2, Int32, locate),
        plain("initcap", &[Utf8], 1, Utf8, |args| each_text(args, initcap)),
        plain("conv", &[Utf8, Int32, Int32], 3, Utf8, conv),
        plain("mask", &[Utf8, Utf8, Utf8, Utf8, Utf8], 1, Utf8, mask),
        plain("format_number", &[Float64, Int32], 2, Utf8, format_number),
        plain("bround", &[Float64, Int32], 1, Float64, bround),
        plain("encode_text", &[Utf8, Utf8], 2, Binary, encode),
        plain("decode_text", &[Binary, Utf8], 2, Utf8, decode),
    ]
}

fn each_text(args: &[ArrayRef], of: fn(&str) -> String) -> Result<ArrayRef> {
    let [texts, ..] = args else { return exec_err!("a text is needed") };
    let new: StringArray = texts.as_string::<i32>().iter().map(|text| text.map(of)).collect();
    Ok(Arc::new(new))
}

/// Words begin behind blanks, and nowhere else.
fn initcap(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut begins = true;
    for letter in text.chars() {
        match begins {
            true => out.extend(letter.to_uppercase()),
            false => out.extend(letter.to_lowercase()),
        }
        begins = letter == ' ';
    }
    out
}

/// Where a text begins in another one, counted in characters from 1; 0 when it is not there.
fn locate(args: &[ArrayRef]) -> Result<ArrayRef> {
    let [wanted, text, ..] = args else { return exec_err!("locate takes two texts") };
    let (wanted, text) = (wanted.as_string::<i32>(), text.as_string::<i32>());
    let from = args.get(2).map(|from| from.as_primitive::<Int32Type>());
    let places: Int32Array = (0..text.len())
        .map(|row| {
            if wanted.is_null(row) || text.is_null(row) {
                return None;
            }
            // As in Spark: from nowhere, nothing is found.
            let from = from.map_or(1, |from| if from.is_valid(row) { from.value(row) } else { 0 });
            let Some(before) = usize::try_from(from).ok().and_then(|from| from.checked_sub(1)) else { return Some(0) };
            let text = text.value(row);
            let start = match text.char_indices().nth(before) {
                Some((start, _)) => start,
                None if before == text.chars().count() => text.len(),
                None => return Some(0),
            };
            let found = text[start..].find(wanted.value(row));
            Some(found.map_or(0, |at| (text[..start + at].chars().count() + 1) as i32))
        })
        .collect();
    Ok(Arc::new(places))
}

/// A number in another base. What follows the last digit is ignored; a negative target base keeps the sign.
fn conv(args: &[ArrayRef]) -> Result<ArrayRef> {
    let [texts, from, to] = args else { return exec_err!("conv takes a text and two bases") };
    let (from, to) = (from.as_primitive::<Int32Type>(), to.as_primitive::<Int32Type>());
    let converted = texts.as_string::<i32>().iter().zip(from.iter().zip(to.iter())).map(|(text, bases)| {
        let (Some(text), (Some(from), Some(to))) = (text, bases) else { return None };
        in_base(text.trim(), from, to)
    });
    Ok(Arc::new(converted.collect::<StringArray>()))
}

fn in_base(text: &str, from: i32, to: i32) -> Option<String> {
    let fits = |base: i32| (2..=36).contains(&base);
    if text.is_empty() || !fits(from) || !fits(to.abs()) {
        return None;
    }
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let mut value: u64 = 0;
    for digit in digits.chars().map_while(|letter| letter.to_digit(from as u32)) {
        value = value.checked_mul(from as u64).and_then(|v| v.checked_add(u64::from(digit))).unwrap_or(u64::MAX);
    }
    let (sign, mut rest) = match (negative, to < 0) {
        (true, true) => ("-", value),
        (true, false) => ("", value.wrapping_neg()),
        (false, true) if value > i64::MAX as u64 => ("-", value.wrapping_neg()),
        (false, _) => ("", value),
    };
    let base = u64::from(to.unsigned_abs());
    let mut letters = Vec::new();
    while rest > 0 || letters.is_empty() {
        letters.extend(char::from_digit((rest % base) as u32, to.unsigned_abs()).map(|c| c.to_ascii_uppercase()));
        rest /= base;
    }
    Some(sign.chars().chain(letters.into_iter().rev()).collect())
}

/// Letters become X and x, digits n; other characters stay unless a fifth argument says what they become.
fn mask(args: &[ArrayRef]) -> Result<ArrayRef> {
    let Some(texts) = args.first().map(|texts| texts.as_string::<i32>()) else { return exec_err!("a text is needed") };
    // NULL keeps what it stands for.
    let of = |at: usize, row: usize, default: Option<char>| match args.get(at).map(|arg| arg.as_string::<i32>()) {
        Some(given) if given.is_valid(row) => given.value(row).chars().next(),
        Some(_) => None,
        None => default,
    };
    let masked = (0..texts.len()).map(|row| {
        let (upper, lower) = (of(1, row, Some('X')), of(2, row, Some('x')));
        let (digit, other) = (of(3, row, Some('n')), of(4, row, None));
        let replaced = |letter: char| match letter {
            letter if letter.is_uppercase() => upper.unwrap_or(letter),
            letter if letter.is_lowercase() => lower.unwrap_or(letter),
            letter if letter.is_numeric() => digit.unwrap_or(letter),
            letter => other.unwrap_or(letter),
        };
        texts.is_valid(row).then(|| texts.value(row).chars().map(replaced).collect::<String>())
    });
    Ok(Arc::new(masked.collect::<StringArray>()))
}

/// `12,332.1235`.
fn format_number(args: &[ArrayRef]) -> Result<ArrayRef> {
    let [numbers, places] = args else { return exec_err!("format_number takes a number and a count of places") };
    let numbers = numbers.as_primitive::<Float64Type>().iter().zip(places.as_primitive::<Int32Type>().iter());
    let texts = numbers.map(|(number, places)| {
        let places = usize::try_from(places?).ok()?;
        let text = format!("{:.places$}", half_even(number?, places as i32));
        let (sign, digits) = match text.strip_prefix('-') {
            Some(digits) => ("-", digits),
            None => ("", text.as_str()),
        };
        let (whole, rest) = digits.split_at(digits.find('.').unwrap_or(digits.len()));
        let mut grouped = String::from(sign);
        for (at, digit) in whole.chars().enumerate() {
            if at > 0 && (whole.len() - at) % 3 == 0 && whole.bytes().all(|byte| byte.is_ascii_digit()) {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        Some(grouped + rest)
    });
    Ok(Arc::new(texts.collect::<StringArray>()))
}

fn bround(args: &[ArrayRef]) -> Result<ArrayRef> {
    let Some(numbers) = args.first().map(|numbers| numbers.as_primitive::<Float64Type>()) else {
        return exec_err!("bround takes a number");
    };
    let places = args.get(1).map(|places| places.as_primitive::<Int32Type>());
    let rounded: Float64Array = (0..numbers.len())
        .map(|row| {
            let places = places.map_or(Some(0), |places| places.is_valid(row).then(|| places.value(row)))?;
            numbers.is_valid(row).then(|| half_even(numbers.value(row), places))
        })
        .collect();
    Ok(Arc::new(rounded))
}

/// Halves go to the even neighbour.
fn half_even(number: f64, places: i32) -> f64 {
    let scale = 10_f64.powi(places);
    let scaled = (number * scale).round_ties_even() / scale;
    if scaled.is_finite() { scaled } else { number }
}

fn encode(args: &[ArrayRef]) -> Result<ArrayRef> {
    let [texts, charsets] = args else { return exec_err!("encode takes a text and a character set") };
    let mut out = BinaryBuilder::new();
    for (text, charset) in texts.as_string::<i32>().iter().zip(charsets.as_string::<i32>().iter()) {
        let (Some(text), Some(charset)) = (text, charset) else {
            out.append_null();
            continue;
        };
        let narrow = |most: u32| -> Vec<u8> {
            text.chars()
                .map(|letter| u8::try_from(u32::from(letter)).ok().filter(|b| u32::from(*b) <= most))
                .map(|byte| byte.unwrap_or(b'?'))
                .collect()
        };
        let wide = |bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
        match charset.to_ascii_uppercase().as_str() {
            "UTF-8" | "UTF8" => out.append_value(text),
            "US-ASCII" => out.append_value(narrow(0x7f)),
            "ISO-8859-1" => out.append_value(narrow(0xff)),
            "UTF-16BE" => out.append_value(wide(u16::to_be_bytes)),
            "UTF-16LE" => out.append_value(wide(u16::to_le_bytes)),
            "UTF-16" => out.append_value([vec![0xfe, 0xff], wide(u16::to_be_bytes)].concat()),
            _ => return unknown_charset(charset),
        }
    }
    Ok(Arc::new(out.finish()))
}

fn decode(args: &[ArrayRef]) -> Result<ArrayRef> {
    let [bytes, charsets] = args else { return exec_err!("decode takes bytes and a character set") };
    let bytes: &BinaryArray = bytes.as_binary();
    let mut out = StringBuilder::new();
    for (bytes, charset) in bytes.iter().zip(charsets.as_string::<i32>().iter()) {
        let (Some(bytes), Some(charset)) = (bytes, charset) else {
            out.append_null();
            continue;
        };
        let wide = |bytes: &[u8], number: fn([u8; 2]) -> u16| {
            let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| number([pair[0], pair[1]])).collect();
            String::from_utf16_lossy(&units)
        };
        match charset.to_ascii_uppercase().as_str() {
            "UTF-8" | "UTF8" | "US-ASCII" => out.append_value(String::from_utf8_lossy(bytes)),
            "ISO-8859-1" => out.append_value(bytes.iter().map(|byte| char::from(*byte)).collect::<String>()),
            "UTF-16BE" => out.append_value(wide(bytes, u16::from_be_bytes)),
            "UTF-16LE" => out.append_value(wide(bytes, u16::from_le_bytes)),
            "UTF-16" => match bytes {
                [0xff, 0xfe, rest @ ..] => out.append_value(wide(rest, u16::from_le_bytes)),
                [0xfe, 0xff, rest @ ..] => out.append_value(wide(rest, u16::from_be_bytes)),
                rest => out.append_value(wide(rest, u16::from_be_bytes)),
            },
            _ => return unknown_charset(charset),
        }
    }
    Ok(Arc::new(out.finish()))
}

fn unknown_charset<T>(charset: &str) -> Result<T> {
    exec_err!(
        "there is no character set `{charset}`; there are UTF-8, US-ASCII, ISO-8859-1, UTF-16, UTF-16BE, UTF-16LE"
    )
}

#[cfg(test)]
mod tests {
    use super::{half_even, in_base, initcap};

    #[test]
    fn numbers_change_their_base() {
        assert_eq!(in_base("100", 2, 10).as_deref(), Some("4"));
        assert_eq!(in_base("-10", 16, -10).as_deref(), Some("-16"));
        assert_eq!(in_base("ff", 16, 2).as_deref(), Some("11111111"));
        assert_eq!(in_base("12x", 10, 10).as_deref(), Some("12"));
        assert_eq!(in_base("1", 1, 10), None);
    }

    #[test]
    fn words_and_halves() {
        assert_eq!(initcap("o'neil-SMITH sQL"), "O'neil-smith Sql");
        assert_eq!((half_even(2.5, 0), half_even(3.5, 0), half_even(25.0, -1)), (2.0, 4.0, 20.0));
    }
}
