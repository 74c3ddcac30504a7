//! The languages in which names of months and days, and decimals, are read from text (`locale`).
//!
//! A language is a table: the names in lower case, each in full first and then as it is shortened, and the signs of
//! decimals. Names are compared without regard to case, with or without the point behind a shortened one.

use std::borrow::Cow;

/// A language, as a region writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Locale {
    /// `1,234.5`.
    #[default]
    English,
    /// German, `1.234,5`.
    German,
    /// French; a narrow space between groups.
    French,
    /// Spanish of Spain, `1.234,5`.
    Spanish,
    /// Italian, `1.234,5`.
    Italian,
    /// Portuguese of Brazil, `1.234,5`.
    Brazilian,
    /// Portuguese of Portugal; a space between groups.
    Portuguese,
    /// Dutch, `1.234,5`.
    Dutch,
}

/// The tags that are accepted, for messages.
pub(crate) const ACCEPTED: &str =
    "en-US, en-GB, de-DE, fr-FR, es-ES, it-IT, pt-BR, pt-PT, nl-NL, or a language without its region";

/// Names of one language, in lower case.
struct Names {
    months: [&'static [&'static str]; 12],
    days: [&'static [&'static str]; 7],
}

impl Locale {
    /// The language of a tag such as `de-DE`, `de_DE` or `de`, in any case.
    pub fn from_tag(tag: &str) -> Option<Locale> {
        Some(match tag.trim().replace('_', "-").to_ascii_lowercase().as_str() {
            "en-us" | "us" | "en" | "en-gb" | "en-au" | "en-ca" | "en-ie" | "en-nz" => Locale::English,
            "de" | "de-de" | "de-lu" => Locale::German,
            "fr" | "fr-fr" | "fr-be" => Locale::French,
            "es" | "es-es" => Locale::Spanish,
            "it" | "it-it" => Locale::Italian,
            "pt" | "pt-br" => Locale::Brazilian,
            "pt-pt" => Locale::Portuguese,
            "nl" | "nl-nl" | "nl-be" => Locale::Dutch,
            _ => return None,
        })
    }

    fn names(self) -> &'static Names {
        match self {
            Locale::English => &ENGLISH,
            Locale::German => &GERMAN,
            Locale::French => &FRENCH,
            Locale::Spanish => &SPANISH,
            Locale::Italian => &ITALIAN,
            Locale::Brazilian | Locale::Portuguese => &PORTUGUESE,
            Locale::Dutch => &DUTCH,
        }
    }

    /// The month, from 1, whose name `text` begins with, and the length of the name.
    pub(crate) fn month(self, text: &[u8]) -> Option<(i64, usize)> {
        longest(&self.names().months, text).map(|(place, length)| (place as i64 + 1, length))
    }

    /// The length of the name of a day of the week that `text` begins with.
    pub(crate) fn day(self, text: &[u8]) -> Option<usize> {
        longest(&self.names().days, text).map(|(_, length)| length)
    }

    /// A decimal as it would be written in a program: `1.234,5` is `1234.5`. None if signs stand where they mean nothing,
    /// as in `1.5` where the point stands between groups of three digits.
    #[inline]
    pub(crate) fn plain_decimal(self, text: &[u8]) -> Option<Cow<'_, [u8]>> {
        let signs = |byte: u8| byte == b',' || byte >= 0x80 || byte == b'.' && self != Locale::English;
        if !text.iter().any(|&byte| signs(byte)) {
            return Some(Cow::Borrowed(text));
        }
        self.without_groups(text).map(Cow::Owned)
    }

    fn without_groups(self, text: &[u8]) -> Option<Vec<u8>> {
        let text = std::str::from_utf8(text).ok()?;
        let (point, groups): (char, &[char]) = match self {
            Locale::English => ('.', &[',']),
            Locale::French | Locale::Portuguese => (',', &['\u{202f}', '\u{a0}']),
            Locale::German | Locale::Spanish | Locale::Italian | Locale::Brazilian | Locale::Dutch => (',', &['.']),
        };
        let (whole, fraction) = match text.split_once(point) {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (text, None),
        };
        let digits = whole.strip_prefix(['-', '+']).unwrap_or(whole);
        let mut out: Vec<u8> = whole[..whole.len() - digits.len()].into();
        if fraction.is_some_and(|fraction| fraction.contains('.')) {
            return None;
        }
        for (place, group) in digits.split(groups).enumerate() {
            let three = group.len() == 3 && group.bytes().all(|byte| byte.is_ascii_digit());
            if group.contains('.') || place > 0 && !three {
                return None;
            }
            out.extend_from_slice(group.as_bytes());
        }
        if out.len() < whole.len() && !(1..=3).contains(&digits.find(groups).unwrap_or(1)) {
            return None;
        }
        if let Some(fraction) = fraction {
            out.push(b'.');
            out.extend_from_slice(fraction.as_bytes());
        }
        // Only digits, sign and exponent are left; a sign of another language is none of them.
        let known = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
        out.iter().all(known).then_some(out)
    }
}

/// The place of the longest name that `text` begins with, and its length.
fn longest(lists: &[&[&str]], text: &[u8]) -> Option<(usize, usize)> {
    // A name may be cut by bytes behind it that are no text.
    let text = match std::str::from_utf8(text) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(text.get(..error.valid_up_to())?).ok()?,
    };
    let named = lists.iter().enumerate().flat_map(|(place, names)| names.iter().map(move |name| (place, *name)));
    named.filter_map(|(place, name)| Some((place, begins(text, name)?))).max_by_key(|(_, length)| *length)
}

/// The length of `name`, which is in lower case, at the beginning of `text`.
fn begins(text: &str, name: &str) -> Option<usize> {
    let mut letters = text.char_indices();
    for wanted in name.chars() {
        let (_, found) = letters.next()?;
        if found != wanted && !found.to_lowercase().eq(std::iter::once(wanted)) {
            return None;
        }
    }
    Some(letters.next().map_or(text.len(), |(at, _)| at))
}

const ENGLISH: Names = Names {
    months: [
        &["january", "jan"],
        &["february", "feb"],
        &["march", "mar"],
        &["april", "apr"],
        &["may"],
        &["june", "jun"],
        &["july", "jul"],
        &["august", "aug"],
        &["september", "sept", "sep"],
        &["october", "oct"],
        &["november", "nov"],
        &["december", "dec"],
    ],
    days: [
        &["monday", "mon"],
        &["tuesday", "tue"],
        &["wednesday", "wed"],
        &["thursday", "thu"],
        &["friday", "fri"],
        &["saturday", "sat"],
        &["sunday", "sun"],
    ],
};

const GERMAN: Names = Names {
    months: [
        &["januar", "jänner", "jan", "jän"],
        &["februar", "feber", "feb"],
        &["märz", "maerz", "mär", "mrz"],
        &["april", "apr"],
        &["mai"],
        &["juni", "jun"],
        &["juli", "jul"],
        &["august", "aug"],
        &["september", "sept", "sep"],
        &["oktober", "okt"],
        &["november", "nov"],
        &["dezember", "dez"],
    ],
    days: [
        &["montag", "mo"],
        &["dienstag", "di"],
        &["mittwoch", "mi"],
        &["donnerstag", "do"],
        &["freitag", "fr"],
        &["samstag", "sonnabend", "sa"],
        &["sonntag", "so"],
    ],
};

const FRENCH: Names = Names {
    months: [
        &["janvier", "janv", "jan"],
        &["février", "fevrier", "févr", "fév"],
        &["mars"],
        &["avril", "avr"],
        &["mai"],
        &["juin"],
        &["juillet", "juil"],
        &["août", "aout"],
        &["septembre", "sept", "sep"],
        &["octobre", "oct"],
        &["novembre", "nov"],
        &["décembre", "decembre", "déc"],
    ],
    days: [
        &["lundi", "lun"],
        &["mardi", "mar"],
        &["mercredi", "mer"],
        &["jeudi", "jeu"],
        &["vendredi", "ven"],
        &["samedi", "sam"],
        &["dimanche", "dim"],
    ],
};

const SPANISH: Names = Names {
    months: [
        &["enero", "ene"],
        &["febrero", "feb"],
        &["marzo", "mar"],
        &["abril", "abr"],
        &["mayo", "may"],
        &["junio", "jun"],
        &["julio", "jul"],
        &["agosto", "ago"],
        &["septiembre", "setiembre", "sept", "sep"],
        &["octubre", "oct"],
        &["noviembre", "nov"],
        &["diciembre", "dic"],
    ],
    days: [
        &["lunes", "lun"],
        &["martes", "mar"],
        &["miércoles", "miercoles", "mié"],
        &["jueves", "jue"],
        &["viernes", "vie"],
        &["sábado", "sabado", "sáb"],
        &["domingo", "dom"],
    ],
};

const ITALIAN: Names = Names {
    months: [
        &["gennaio", "gen"],
        &["febbraio", "feb"],
        &["marzo", "mar"],
        &["aprile", "apr"],
        &["maggio", "mag"],
        &["giugno", "giu"],
        &["luglio", "lug"],
        &["agosto", "ago"],
        &["settembre", "sett", "set"],
        &["ottobre", "ott"],
        &["novembre", "nov"],
        &["dicembre", "dic"],
    ],
    days: [
        &["lunedì", "lun"],
        &["martedì", "mar"],
        &["mercoledì", "mer"],
        &["giovedì", "gio"],
        &["venerdì", "ven"],
        &["sabato", "sab"],
        &["domenica", "dom"],
    ],
};

const PORTUGUESE: Names = Names {
    months: [
        &["janeiro", "jan"],
        &["fevereiro", "fev"],
        &["março", "marco", "mar"],
        &["abril", "abr"],
        &["maio", "mai"],
        &["junho", "jun"],
        &["julho", "jul"],
        &["agosto", "ago"],
        &["setembro", "set"],
        &["outubro", "out"],
        &["novembro", "nov"],
        &["dezembro", "dez"],
    ],
    days: [
        &["segunda-feira", "segunda", "seg"],
        &["terça-feira", "terça", "ter"],
        &["quarta-feira", "quarta", "qua"],
        &["quinta-feira", "quinta", "qui"],
        &["sexta-feira", "sexta", "sex"],
        &["sábado", "sabado", "sáb"],
        &["domingo", "dom"],
    ],
};

const DUTCH: Names = Names {
    months: [
        &["januari", "jan"],
        &["februari", "feb"],
        &["maart", "mrt"],
        &["april", "apr"],
        &["mei"],
        &["juni", "jun"],
        &["juli", "jul"],
        &["augustus", "aug"],
        &["september", "sept", "sep"],
        &["oktober", "okt"],
        &["november", "nov"],
        &["december", "dec"],
    ],
    days: [
        &["maandag", "ma"],
        &["dinsdag", "di"],
        &["woensdag", "wo"],
        &["donderdag", "do"],
        &["vrijdag", "vr"],
        &["zaterdag", "za"],
        &["zondag", "zo"],
    ],
};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn decimals() {
        let plain = |locale: Locale, text: &str| {
            locale.plain_decimal(text.as_bytes()).map(|plain| String::from_utf8(plain.into_owned()).unwrap())
        };
        for (locale, text, wanted) in [
            (Locale::English, "1234.5", Some("1234.5")),
            (Locale::English, "-1,234,567.5", Some("-1234567.5")),
            (Locale::English, "1,5", None),
            (Locale::English, "1234,567", None),
            (Locale::English, ",123", None),
            (Locale::German, "1234", Some("1234")),
            (Locale::German, "1.234,50", Some("1234.50")),
            (Locale::German, "-0,5e3", Some("-0.5e3")),
            (Locale::German, "1.5", None),
            (Locale::German, "1,2.345", None),
            (Locale::German, "1,2,3", None),
            (Locale::French, "1\u{202f}234,5", Some("1234.5")),
            (Locale::French, "1.5", None),
            (Locale::Portuguese, "12\u{a0}345", Some("12345")),
            (Locale::Brazilian, "12.345,6", Some("12345.6")),
            (Locale::Dutch, "", Some("")),
            (Locale::Italian, "9,5 €", None),
        ] {
            assert_eq!(plain(locale, text).as_deref(), wanted, "{locale:?} {text}");
        }
    }

    #[test]
    fn names_are_found_without_case_and_the_longest_counts() {
        assert_eq!(Locale::German.month("MÄRZ 2024".as_bytes()), Some((3, 5)));
        assert_eq!(Locale::German.month(b"Sept. 2024"), Some((9, 4)));
        assert_eq!(Locale::French.month("Août".as_bytes()), Some((8, 5)));
        assert_eq!(Locale::French.month(b"juillet"), Some((7, 7)));
        assert_eq!(Locale::Portuguese.day("terça-feira, 5".as_bytes()), Some(12));
        assert_eq!(Locale::Dutch.month(b"mrt\xff"), Some((3, 3)));
        assert_eq!(Locale::Italian.month(b"march"), Some((3, 3)));
        assert_eq!(Locale::Spanish.month(b"xyz"), None);
    }

    #[test]
    fn tags() {
        assert_eq!(Locale::from_tag("de_DE"), Some(Locale::German));
        assert_eq!(Locale::from_tag("EN-us"), Some(Locale::English));
        assert_eq!(Locale::from_tag("pt-PT"), Some(Locale::Portuguese));
        for tag in ["de-CH", "es-MX", "ja", ""] {
            assert_eq!(Locale::from_tag(tag), None, "{tag}");
        }
    }

    #[test]
    fn no_name_of_a_month_means_two_and_all_are_in_lower_case() {
        for locale in [
            Locale::English,
            Locale::German,
            Locale::French,
            Locale::Spanish,
            Locale::Italian,
            Locale::Portuguese,
            Locale::Dutch,
        ] {
            let names = locale.names();
            for (place, list) in names.months.iter().enumerate() {
                for name in *list {
                    assert_eq!(
                        locale.month(name.as_bytes()),
                        Some((place as i64 + 1, name.len())),
                        "{locale:?} {name}"
                    );
                    assert_eq!(name.to_lowercase(), **name);
                }
            }
            for name in names.days.iter().copied().flatten() {
                assert_eq!(locale.day(name.to_uppercase().as_bytes()), Some(name.len()), "{locale:?} {name}");
            }
        }
    }
}
