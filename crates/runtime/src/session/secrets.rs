//! Statements as they are shown: values of secret options masked.
//!
//! The catalog keeps a statement as it was typed, since the stream is started from it again; SHOW CREATE and DESCRIBE
//! show it through here. Works on the text alone, so that it also serves statements that no longer parse.

use alluvium_planner::store_options::{MASK, SECRET_OPTIONS};

/// `text` with the string behind each secret option's name replaced.
pub(super) fn masked(text: &str) -> String {
    replaced(text, |_| MASK.to_owned())
}

/// The same with every character in its place, for pictures of errors.
pub fn veiled(text: &str) -> String {
    replaced(text, |inner| inner.chars().map(|c| if c == '\n' { c } else { '*' }).collect())
}

fn replaced(text: &str, by: impl Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut secret_follows = false;
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '\'' | '"' | '`' => literal_end(rest, first),
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest[2..].find("*/").map_or(rest.len(), |end| end + 4),
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        let (token, behind) = rest.split_at(end);
        rest = behind;
        match first {
            '\'' | '"' if secret_follows => {
                let inner = token.strip_prefix(first).unwrap_or(token);
                let (inner, end) = match inner.strip_suffix(first) {
                    Some(inner) => (inner, first.to_string()),
                    None => (inner, String::new()),
                };
                out.push_str(&format!("{first}{}{end}", by(inner)));
                secret_follows = false;
                continue;
            }
            '\'' | '"' | '`' => secret_follows = is_secret(token.trim_matches(first)),
            // A raw string's mark.
            'r' | 'R' if token.len() == 1 && rest.starts_with(['\'', '"']) => {}
            c if is_word(c) => secret_follows = is_secret(token),
            ',' | '=' | '>' | '-' | '/' => {}
            c if c.is_whitespace() => {}
            _ => secret_follows = false,
        }
        out.push_str(token);
    }
    out
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '.'
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let name = name.strip_prefix("cloudfiles.").unwrap_or(&name);
    SECRET_OPTIONS.contains(&name)
}

/// Behind the closing quote; a quote is part of the text when doubled or behind a backslash.
fn literal_end(text: &str, quote: char) -> usize {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' && quote != '`' {
            chars.next();
        } else if c == quote {
            match chars.peek() {
                Some((_, next)) if *next == quote => {
                    chars.next();
                }
                _ => return at + quote.len_utf8(),
            }
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_values_of_secrets_are_masked() {
        for (text, shown) in [
            (
                "map('cloudFiles.awsSecretKey', 'hunter2', 'x', 'y')",
                "map('cloudFiles.awsSecretKey', '********', 'x', 'y')",
            ),
            ("awsAccessKey => \"AK''IA\", format => 'json'", "awsAccessKey => \"********\", format => 'json'"),
            ("`cloudFiles.privateKey` => r'a\nb'", "`cloudFiles.privateKey` => r'********'"),
            ("('privateKeyId', 'id') -- awsSecretKey\n 'x'", "('privateKeyId', 'id') -- awsSecretKey\n 'x'"),
            ("'awsSecretKey' /* the key */ , 'a''b' , 'c'", "'awsSecretKey' /* the key */ , '********' , 'c'"),
            (
                "SELECT 'it\\'s', awssecretkey FROM t WHERE x = 'y'",
                "SELECT 'it\\'s', awssecretkey FROM t WHERE x = 'y'",
            ),
            ("'connectionString', 'open", "'connectionString', '********"),
        ] {
            assert_eq!(masked(text), shown);
            assert_eq!(veiled(text).chars().count(), text.chars().count());
        }
        assert_eq!(veiled("'privateKey', 'ab\ncd' x"), "'privateKey', '**\n**' x");
    }
}
