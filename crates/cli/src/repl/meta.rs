//! Backslash commands: what they are called, what they mean, and the help they print.

use std::fmt::Write as _;

use alluvium_parser::STATEMENTS;
use clap::ValueEnum;

use crate::print::Format;

/// The commands and what they do, for `\h` and completion.
pub const COMMANDS: &[(&str, &str)] = &[
    ("\\h", "this list; `\\h CREATE STREAMING TABLE` shows the syntax of a statement"),
    ("\\d", "tables"),
    ("\\d NAME", "columns of a table"),
    ("\\format FORMAT", "table, csv, json, ndjson, markdown or vertical"),
    ("\\timing", "the time behind a row count, on or off"),
    ("\\q", "leave (also exit, quit, Ctrl-D); background streams stop cleanly"),
];

/// A command, understood.
#[derive(Debug, PartialEq, Eq)]
pub enum Meta {
    /// Leave.
    Quit,
    /// Help on everything, or on a statement.
    Help(Option<String>),
    /// Short for a statement.
    Statement(String),
    /// Turn the time behind row counts on or off.
    Timing,
    /// Print results like this.
    Format(Format),
    /// Not a command, or not with this argument.
    Refused(String),
}

/// The command in `input`; `None` when it is SQL.
pub fn parse(input: &str) -> Option<Meta> {
    let text = input.trim().trim_end_matches(';').trim_end();
    match text.to_ascii_lowercase().as_str() {
        "exit" | "quit" => return Some(Meta::Quit),
        "help" => return Some(Meta::Help(None)),
        _ => {}
    }
    let command = text.strip_prefix('\\')?;
    let (name, argument) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    let argument = argument.trim();
    let given = (!argument.is_empty()).then(|| argument.to_owned());
    Some(match (name, given) {
        ("q" | "quit", None) => Meta::Quit,
        ("h" | "help" | "?", topic) => Meta::Help(topic),
        ("d" | "dt", None) => Meta::Statement("SHOW TABLES".to_owned()),
        ("d", Some(table)) => Meta::Statement(format!("DESCRIBE {table}")),
        ("timing", None) => Meta::Timing,
        ("format", Some(format)) => match Format::from_str(&format, true) {
            Ok(format) => Meta::Format(format),
            Err(_) => Meta::Refused(format!("`{format}` is not a format; there are {}", formats())),
        },
        ("format", None) => Meta::Refused(format!("which format? there are {}", formats())),
        (name, Some(_)) if ["q", "quit", "dt", "timing"].contains(&name) => {
            Meta::Refused(format!("\\{name} takes no argument"))
        }
        (name, _) => Meta::Refused(format!("there is no command \\{name}; \\h lists them")),
    })
}

fn formats() -> String {
    let names: Vec<String> = Format::value_variants()
        .iter()
        .filter_map(ValueEnum::to_possible_value)
        .map(|v| v.get_name().to_owned())
        .collect();
    names.join(", ")
}

/// Everything that can be typed.
pub fn help() -> String {
    let mut out = String::from("Statements (end with ;):\n");
    for (syntax, meaning) in STATEMENTS {
        let head = head(syntax);
        if head.chars().count() <= 36 {
            let _ = writeln!(out, "  {head:<36}  {meaning}");
        } else {
            let _ = writeln!(out, "  {head}\n  {:<36}  {meaning}", "");
        }
    }
    out.push_str("\nCommands:\n");
    for (name, meaning) in COMMANDS {
        let _ = writeln!(out, "  {name:<36}  {meaning}");
    }
    out.push_str("\nCtrl-C stops a running statement and loses nothing.");
    out
}

/// The first line of a syntax, marked when there is more.
fn head(syntax: &str) -> String {
    match syntax.split_once('\n') {
        Some((first, _)) => format!("{} …", first.trim_end()),
        None => syntax.to_owned(),
    }
}

/// The syntax of the statements that begin with `topic`, else of those that contain it.
pub fn help_for(topic: &str) -> String {
    let topic = words(topic);
    let fitting = |fits: fn(&str, &str) -> bool| -> Vec<String> {
        STATEMENTS
            .iter()
            .filter(|(syntax, _)| fits(&words(syntax), &topic))
            .map(|(syntax, meaning)| format!("{meaning}:\n{}", folded(syntax)))
            .collect()
    };
    let mut found = fitting(|syntax, topic| syntax.starts_with(topic));
    if found.is_empty() {
        found = fitting(|syntax, topic| syntax.contains(topic));
    }
    if found.is_empty() {
        return format!("no statement is called `{}`; \\h lists them all", topic.trim());
    }
    found.join("\n\n")
}

/// A syntax in lines of readable length, broken between clauses and never inside brackets.
fn folded(syntax: &str) -> String {
    let mut out = String::new();
    for line in syntax.lines() {
        let mut length = 0;
        for clause in clauses(line) {
            if length > 0 && length + clause.chars().count() > 76 {
                out.push_str("\n     ");
                length = 5;
            }
            out.push_str(if length == 0 { "  " } else { " " });
            out.push_str(clause);
            length += clause.chars().count() + 1;
        }
        out.push('\n');
    }
    out.trim_end().to_owned()
}

/// The parts of a line between spaces outside brackets.
fn clauses(line: &str) -> Vec<&str> {
    let (mut depth, mut from) = (0i32, 0);
    let mut parts = Vec::new();
    for (at, letter) in line.char_indices() {
        match letter {
            '[' | '{' | '(' => depth += 1,
            ']' | '}' | ')' => depth -= 1,
            ' ' if depth <= 0 => {
                parts.push(&line[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&line[from..]);
    parts.retain(|part| !part.is_empty());
    parts
}

/// The required words of a syntax before its first argument, in upper case, one space between: what stands in
/// brackets may be left out when asking for help.
fn words(syntax: &str) -> String {
    let mut depth = 0u32;
    let mut out = String::new();
    for letter in syntax.chars() {
        match letter {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ if depth > 0 => {}
            letter if letter.is_whitespace() => {
                if !out.is_empty() && !out.ends_with(' ') {
                    out.push(' ');
                }
            }
            letter => out.extend(letter.to_uppercase()),
        }
    }
    out.trim_end_matches([';', ' ']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        assert_eq!(parse("\\q"), Some(Meta::Quit));
        assert_eq!(parse(" exit; "), Some(Meta::Quit));
        assert_eq!(parse("QUIT"), Some(Meta::Quit));
        assert_eq!(parse("\\d"), Some(Meta::Statement("SHOW TABLES".to_owned())));
        assert_eq!(parse("\\d  orders ;"), Some(Meta::Statement("DESCRIBE orders".to_owned())));
        assert_eq!(parse("\\format NDJSON"), Some(Meta::Format(Format::Ndjson)));
        assert_eq!(parse("\\h"), Some(Meta::Help(None)));
        assert_eq!(parse("\\h create table"), Some(Meta::Help(Some("create table".to_owned()))));
        for refused in ["\\format xml", "\\format", "\\x", "\\timing on"] {
            assert!(matches!(parse(refused), Some(Meta::Refused(_))), "{refused}");
        }
        assert_eq!(parse("SELECT '\\d';"), None);
        assert_eq!(parse("exit_code"), None);
    }

    #[test]
    fn optional_words_need_not_be_named() {
        assert_eq!(
            words("CREATE [OR REFRESH | OR REPLACE] STREAMING TABLE [IF NOT EXISTS] name\n  …"),
            "CREATE STREAMING TABLE NAME …"
        );
        assert!(help_for("create streaming table").to_uppercase().contains("STREAMING TABLE"));
        assert!(help_for("brew coffee").contains("no statement"));
    }

    #[test]
    fn long_syntax_is_folded_between_clauses() {
        let clause = "[TBLPROPERTIES ('k' = 'v', …)]";
        let folded = folded(&format!("CREATE TABLE name {clause} {clause} {clause}"));
        let expected = format!("  CREATE TABLE name {clause}\n      {clause} {clause}");
        assert_eq!(folded, expected);
    }

    #[test]
    fn help_names_every_statement_and_command() {
        let help = help();
        for (syntax, _) in STATEMENTS {
            assert!(help.contains(&head(syntax)), "{syntax}");
        }
        for (name, _) in COMMANDS {
            assert!(help.contains(name), "{name}");
        }
    }
}
