//! Path patterns: `*`, `?`, `[a-z]`, `[^a]`, `{ab,cd}`, `\x`.
//!
//! A pattern is matched against a path relative to some directory, parts separated by `/`. Matching walks a set of
//! positions, so its time is the product of both lengths and never explodes; the same walk answers whether anything
//! below a directory could match, which is what keeps a listing out of directories it need not see.

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    text: String,
    alternatives: Vec<Vec<Token>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Char(char),
    /// `?`: one character, not `/`.
    One,
    /// `*`: any characters; `/` among them when `true`.
    Many(bool),
    /// `[…]`: one character of these ranges, or none of them; never `/`.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// More alternatives than this after expanding `{…}` are refused.
const ALTERNATIVES_MAX: usize = 1024;

impl Glob {
    /// Compiles `text`. With `strict`, `*` stays within one name; `**` crosses in any case.
    /// The error says what is wrong with the pattern.
    pub fn new(text: &str, strict: bool) -> Result<Glob, String> {
        let alternatives = expand(text)?.iter().map(|one| tokens(one, strict)).collect::<Result<Vec<_>, _>>()?;
        Ok(Glob { text: text.to_owned(), alternatives })
    }

    /// Whether `text` holds a character that means something in a pattern.
    pub fn is_pattern(text: &str) -> bool {
        text.contains(['*', '?', '[', '{'])
    }

    /// The pattern as typed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the whole of `path` matches.
    pub fn matches(&self, path: &str) -> bool {
        self.alternatives.iter().any(|tokens| {
            let end = walk(tokens, path);
            end.get(tokens.len()).copied().unwrap_or(false)
        })
    }

    /// Whether `path` or a directory above it matches: a pattern that names a directory names what is in it.
    pub fn matches_or_within(&self, path: &str) -> bool {
        self.matches(path) || path.char_indices().any(|(at, c)| c == '/' && self.matches(&path[..at]))
    }

    /// Whether some path inside directory `dir` could match.
    pub fn may_match_below(&self, dir: &str) -> bool {
        if self.matches_or_within(dir) {
            return true;
        }
        let prefix = format!("{dir}/");
        self.alternatives.iter().any(|tokens| walk(tokens, &prefix).contains(&true))
    }
}

/// The positions in `tokens` that can be reached by consuming `text`.
fn walk(tokens: &[Token], text: &str) -> Vec<bool> {
    let mut at = vec![false; tokens.len() + 1];
    at[0] = true;
    pass_empty(tokens, &mut at);
    for c in text.chars() {
        let mut next = vec![false; tokens.len() + 1];
        for (position, token) in tokens.iter().enumerate().filter(|(position, _)| at[*position]) {
            match token {
                Token::Char(wanted) => next[position + 1] |= c == *wanted,
                Token::One => next[position + 1] |= c != '/',
                Token::Many(crosses) => next[position] |= *crosses || c != '/',
                Token::Class { negated, ranges } => {
                    let inside = ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
                    next[position + 1] |= c != '/' && inside != *negated;
                }
            }
        }
        pass_empty(tokens, &mut next);
        at = next;
        if !at.contains(&true) {
            break;
        }
    }
    at
}

/// `*` also stands for nothing.
fn pass_empty(tokens: &[Token], at: &mut [bool]) {
    for (position, token) in tokens.iter().enumerate() {
        if at[position] && matches!(token, Token::Many(_)) {
            at[position + 1] = true;
        }
    }
}

/// Replaces the first `{a,b}` by each of its alternatives, and so on.
fn expand(text: &str) -> Result<Vec<String>, String> {
    let mut done = Vec::new();
    let mut open = vec![text.to_owned()];
    while let Some(one) = open.pop() {
        if done.len() + open.len() > ALTERNATIVES_MAX {
            return Err(format!("`{text}` has more than {ALTERNATIVES_MAX} alternatives"));
        }
        let Some((start, end, parts)) = first_braces(&one)? else {
            done.push(one);
            continue;
        };
        for part in parts.iter().rev() {
            open.push(format!("{}{part}{}", &one[..start], &one[end..]));
        }
    }
    Ok(done)
}

/// Byte range of the first `{…}` and its parts.
fn first_braces(text: &str) -> Result<Option<(usize, usize, Vec<String>)>, String> {
    let mut escaped = false;
    let mut start = None;
    let mut depth = 0usize;
    let mut parts = vec![String::new()];
    for (at, c) in text.char_indices() {
        let was_escaped = escaped;
        escaped = c == '\\' && !was_escaped;
        match (c, start) {
            ('{', None) if !was_escaped => start = Some(at),
            (_, None) => continue,
            ('}', Some(from)) if !was_escaped && depth == 0 => return Ok(Some((from, at + 1, parts))),
            (',', Some(_)) if !was_escaped && depth == 0 => parts.push(String::new()),
            (_, Some(_)) => {
                match c {
                    '{' if !was_escaped => depth += 1,
                    '}' if !was_escaped => depth = depth.saturating_sub(1),
                    _ => {}
                }
                if let Some(last) = parts.last_mut() {
                    last.push(c);
                }
            }
        }
    }
    match start {
        Some(_) => Err(format!("`{text}` opens `{{` and does not close it")),
        None => Ok(None),
    }
}

fn tokens(text: &str, strict: bool) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '?' => Token::One,
            '*' => {
                let mut crosses = !strict;
                while chars.next_if_eq(&'*').is_some() {
                    crosses = true;
                }
                Token::Many(crosses)
            }
            '[' => class(text, &mut chars)?,
            '\\' => Token::Char(chars.next().unwrap_or('\\')),
            other => Token::Char(other),
        });
    }
    Ok(tokens)
}

fn class(text: &str, chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Token, String> {
    let unclosed = || format!("`{text}` opens `[` and does not close it");
    let negated = chars.next_if(|c| *c == '^' || *c == '!').is_some();
    let mut ranges = Vec::new();
    loop {
        let mut low = chars.next().ok_or_else(unclosed)?;
        if low == ']' && !ranges.is_empty() {
            return Ok(Token::Class { negated, ranges });
        }
        if low == '\\' {
            low = chars.next().ok_or_else(unclosed)?;
        }
        let mut ahead = chars.clone();
        let high = match (ahead.next(), ahead.next()) {
            (Some('-'), Some(high)) if high != ']' => {
                *chars = ahead;
                high
            }
            _ => low,
        };
        if high < low {
            return Err(format!("`{text}` has the empty range `{low}-{high}`"));
        }
        ranges.push((low, high));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::Glob;

    #[test]
    fn patterns_match_as_documented() {
        // pattern, strict, path, matches
        let table = [
            ("*.json", true, "a.json", true),
            ("*.json", true, "d/a.json", false),
            ("*.json", false, "d/a.json", true),
            ("**.json", true, "d/a.json", true),
            ("?.json", false, "ab.json", false),
            ("?.json", true, "a.json", true),
            ("[a-c]x", true, "bx", true),
            ("[^a-c]x", true, "bx", false),
            ("[^a-c]x", true, "dx", true),
            ("[]]x", true, "]x", true),
            ("{2024,2025}-*/*.csv", true, "2025-01/a.csv", true),
            ("{2024,2025}-*/*.csv", true, "2026-01/a.csv", false),
            ("a{b{c,d},e}f", true, "abdf", true),
            ("a{b{c,d},e}f", true, "aef", true),
            (r"a\*b", true, "a*b", true),
            (r"a\*b", true, "axb", false),
            ("", true, "", true),
            ("é*", true, "éa", true),
        ];
        for (pattern, strict, path, wanted) in table {
            assert_eq!(Glob::new(pattern, strict).unwrap().matches(path), wanted, "{pattern} on {path}");
        }
    }

    #[test]
    fn a_pattern_that_names_a_directory_names_its_content() {
        let glob = Glob::new("2024-*", true).unwrap();
        assert!(glob.matches_or_within("2024-01/a/b.json"));
        assert!(!glob.matches_or_within("2023-01/a/b.json"));
    }

    #[test]
    fn directories_that_cannot_match_are_left_out() {
        let glob = Glob::new("in/*/x.json", true).unwrap();
        assert!(glob.may_match_below("in"));
        assert!(glob.may_match_below("in/a"));
        assert!(!glob.may_match_below("in/a/b"));
        assert!(!glob.may_match_below("out"));
        assert!(Glob::new("*.json", false).unwrap().may_match_below("any/where"));
    }

    #[test]
    fn bad_patterns_say_why() {
        assert!(Glob::new("a[b", true).unwrap_err().contains("`[`"));
        assert!(Glob::new("a{b", true).unwrap_err().contains("`{`"));
        assert!(Glob::new("[z-a]", true).unwrap_err().contains("z-a"));
    }

    #[test]
    fn many_stars_stay_cheap() {
        let glob = Glob::new(&"*a".repeat(40), true).unwrap();
        assert!(!glob.matches(&"a".repeat(39)));
        assert!(glob.matches(&"a".repeat(400)));
    }
}
