//! What the line editor asks while a line is typed: is it complete, what could come next.
//!
//! Completion goes by the word before the cursor and by whether it stands in a string; it knows no grammar.

use std::borrow::Cow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use alluvium_parser::{KEYWORDS, is_complete};
use rustyline::Context;
use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::{Hint, Hinter};
use rustyline::validate::{ValidationContext, ValidationResult, Validator};

use super::meta;
use crate::engine::Completions;

/// More candidates than this help nobody.
const CANDIDATES_MAX: usize = 200;

/// The editor's helper.
pub struct Helper {
    completions: Arc<Mutex<Completions>>,
    line_is_empty: Arc<AtomicBool>,
}

impl Helper {
    /// A helper that completes from `completions` and keeps `line_is_empty` true to what is typed.
    pub fn new(completions: Arc<Mutex<Completions>>, line_is_empty: Arc<AtomicBool>) -> Helper {
        Helper { completions, line_is_empty }
    }
}

impl rustyline::Helper for Helper {}

impl Validator for Helper {
    fn validate(&self, context: &mut ValidationContext) -> rustyline::Result<ValidationResult> {
        Ok(match is_whole(context.input()) {
            true => ValidationResult::Valid(None),
            false => ValidationResult::Incomplete,
        })
    }
}

/// Whether Enter ends the input: nothing, a backslash command, or whole statements.
fn is_whole(input: &str) -> bool {
    // A semicolon alone is an empty statement, not the beginning of one.
    input.trim_matches(|c: char| c.is_whitespace() || c == ';').is_empty()
        || meta::parse(input).is_some()
        || is_complete(input)
}

/// A remark behind the cursor that cannot be accepted as text.
pub struct Remark(&'static str);

impl Hint for Remark {
    fn display(&self) -> &str {
        self.0
    }

    fn completion(&self) -> Option<&str> {
        None
    }
}

impl Hinter for Helper {
    type Hint = Remark;

    /// On an empty continuation line, tells what is waited for.
    fn hint(&self, line: &str, pos: usize, _context: &Context<'_>) -> Option<Remark> {
        self.line_is_empty.store(line.is_empty(), Ordering::Relaxed);
        let waits = pos == line.len() && line.ends_with('\n') && !is_whole(line);
        waits.then_some(Remark("      ...  ; ends the statement"))
    }
}

impl Highlighter for Helper {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(format!("\x1b[2m{hint}\x1b[0m"))
    }
}

impl Completer for Helper {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _context: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let names = self.completions.lock().unwrap_or_else(PoisonError::into_inner);
        let before = line.get(..pos).unwrap_or(line);
        let (start, candidates) = complete(before, &names);
        let pair = |text: String| Pair { display: text.clone(), replacement: text };
        Ok((start, candidates.into_iter().map(pair).collect()))
    }
}

/// Where the word before the cursor begins, and what it could become.
fn complete(before: &str, names: &Completions) -> (usize, Vec<String>) {
    if let Some(start) = open_string(before) {
        let options = complete_option(&before[..start], &before[start..], names);
        return if options.is_empty() { complete_path(before, start) } else { (start, options) };
    }
    let command = before.trim_start();
    if command.starts_with('\\') && !command.contains(' ') {
        let start = before.len() - command.len();
        let fitting = meta::COMMANDS.iter().map(|(name, _)| name.split(' ').next().unwrap_or(name));
        let mut fitting: Vec<String> = fitting.filter(|name| name.starts_with(command)).map(str::to_owned).collect();
        fitting.dedup();
        return (start, fitting);
    }
    let start = before
        .rfind(|c: char| !c.is_alphanumeric() && c != '_')
        .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
    let word = &before[start..];
    if word.is_empty() {
        return (start, names.tables.iter().take(CANDIDATES_MAX).cloned().collect());
    }
    let fits = |name: &&str| name.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word));
    let lower = word.chars().all(|c| !c.is_uppercase());
    let keyword = |name: &str| if lower { name.to_lowercase() } else { name.to_owned() };
    let mut candidates = complete_option(&before[..start], word, names);
    for list in [&names.tables, &names.columns] {
        candidates.extend(list.iter().map(String::as_str).filter(fits).map(str::to_owned));
    }
    let keywords = KEYWORDS.iter().copied().filter(fits).map(keyword);
    let functions = names.functions.iter().map(String::as_str).filter(fits).map(str::to_owned);
    match value_follows(&before[..start]) {
        true => candidates.extend(functions.chain(keywords)),
        false => candidates.extend(keywords.chain(functions)),
    }
    let mut seen = std::collections::HashSet::new();
    candidates.retain(|name| seen.insert(name.to_lowercase()));
    candidates.truncate(CANDIDATES_MAX);
    (start, candidates)
}

/// Options of files that begin with `typed`, where they may stand: between the brackets of a relation of files.
fn complete_option(before: &str, typed: &str, names: &Completions) -> Vec<String> {
    let lower = before.to_ascii_lowercase();
    let opened = ["cloud_files(", "read_files("].iter().filter_map(|name| Some(lower.rfind(name)? + name.len())).max();
    let inside = opened.is_some_and(|at| {
        let count = |bracket: char| lower[at..].chars().filter(|&c| c == bracket).count();
        count('(') >= count(')')
    });
    if !inside || typed.is_empty() {
        return Vec::new();
    }
    let prefix = "cloudfiles.".len();
    let (kept, word) = match typed.get(..prefix) {
        Some(start) if start.eq_ignore_ascii_case("cloudfiles.") => typed.split_at(prefix),
        _ => ("", typed),
    };
    let fits = |name: &&String| name.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word));
    names.options.iter().filter(fits).take(CANDIDATES_MAX).map(|name| format!("{kept}{name}")).collect()
}

/// Whether a value or a relation may stand behind this text, so that a function is likelier than a keyword.
fn value_follows(text: &str) -> bool {
    const BEFORE: [&str; 14] = [
        "select", "where", "by", "having", "on", "and", "or", "not", "when", "then", "else", "between", "from",
        "distinct",
    ];
    let text = text.trim_end();
    if text.ends_with(|c: char| "(,=<>+-*/%|".contains(c)) {
        return true;
    }
    let word = text.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
    BEFORE.iter().any(|before| before.eq_ignore_ascii_case(word))
}

/// Where the text of a string that is open at the end begins.
fn open_string(text: &str) -> Option<usize> {
    let mut open: Option<(char, usize)> = None;
    for (at, letter) in text.char_indices() {
        match open {
            Some((quote, _)) if letter == quote => open = None,
            None if matches!(letter, '\'' | '"' | '`') => open = Some((letter, at + 1)),
            _ => {}
        }
    }
    open.map(|(_, start)| start)
}

/// Local files whose path begins with what stands in the string; directories end with a slash.
fn complete_path(before: &str, start: usize) -> (usize, Vec<String>) {
    let typed = &before[start..];
    let (directory, prefix) = match typed.rfind('/') {
        Some(at) => (&typed[..=at], &typed[at + 1..]),
        None => ("", typed),
    };
    let place = if directory.is_empty() { Path::new(".") } else { Path::new(directory) };
    let mut found: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !name.starts_with(prefix) || (prefix.is_empty() && name.starts_with('.')) {
            continue;
        }
        let slash = if entry.path().is_dir() { "/" } else { "" };
        found.push(format!("{name}{slash}"));
    }
    found.sort();
    found.truncate(CANDIDATES_MAX);
    (start + directory.len(), found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names() -> Completions {
        let strings = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Completions {
            tables: strings(&["orders", "Courses"]),
            columns: strings(&["order_id"]),
            functions: strings(&["count"]),
            options: strings(&["multiLine", "maxFilesPerTrigger"]),
        }
    }

    #[test]
    fn tables_and_columns_come_before_keywords() {
        let (start, found) = complete("SELECT * FROM or", &names());
        assert_eq!(start, 14);
        assert_eq!(found[..2], ["orders", "order_id"]);
        assert_eq!(complete("select co", &names()).1[..2], ["Courses", "count"]);
        assert_eq!(complete("x OUTPUT MODE co", &names()).1[0], "Courses");
        assert_eq!(complete("x OUTPUT MODE cou", &names()).1, ["Courses", "count"]);
        assert!(complete("sel", &names()).1.contains(&"select".to_owned()));
        assert!(complete("SEL", &names()).1.contains(&"SELECT".to_owned()));
        assert_eq!(complete("SELECT * FROM ", &names()).1, ["orders", "Courses"]);
    }

    #[test]
    fn options_complete_inside_a_relation_of_files() {
        let typed = "SELECT * FROM cloud_files('/in', 'json', map('mul";
        assert_eq!(complete(typed, &names()), (typed.len() - 3, vec!["multiLine".to_owned()]));
        let typed = "SELECT * FROM cloud_files('/in', 'json', map('cloudFiles.max";
        assert_eq!(complete(typed, &names()).1, ["cloudFiles.maxFilesPerTrigger"]);
        assert_eq!(complete("FROM STREAM read_files('/in', mul", &names()).1[0], "multiLine");
        assert!(!complete("FROM read_files('/in') WHERE mul", &names()).1.contains(&"multiLine".to_owned()));
    }

    #[test]
    fn strings_complete_to_paths() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("landing")).unwrap();
        std::fs::write(directory.path().join("last.json"), "").unwrap();
        std::fs::write(directory.path().join(".hidden"), "").unwrap();
        let typed = format!("SELECT * FROM cloud_files('{}/la", directory.path().display());
        let (start, found) = complete(&typed, &names());
        assert_eq!(found, ["landing/", "last.json"]);
        assert_eq!(&typed[start..], "la");
        let typed = format!("'closed' || '{}/", directory.path().display());
        assert_eq!(complete(&typed, &names()).1, ["landing/", "last.json"]);
    }

    #[test]
    fn backslash_commands_complete() {
        assert_eq!(complete("\\ti", &names()), (0, vec!["\\timing".to_owned()]));
        assert_eq!(complete("\\d", &names()), (0, vec!["\\d".to_owned()]));
    }

    #[test]
    fn enter_ends_what_is_whole() {
        for whole in ["", "  ", ";", " ; ;", "\\d", "exit", "quit;", "SELECT 1;", "SELECT 1; -- done"] {
            assert!(is_whole(whole), "{whole}");
        }
        for open in ["SELECT 1", "SELECT ';", "SELECT 1; SELECT 2", "exit_code"] {
            assert!(!is_whole(open), "{open}");
        }
    }
}
