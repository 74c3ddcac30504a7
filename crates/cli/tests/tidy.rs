//! What a reviewer would otherwise repeat: module docs, crate arrows, the fence around RocksDB and delta-rs, documents
//! that name what exists, codes and options that are documented, examples and scripts that are run.
//!
//! Reads the repository as text; knows nothing of what the code does.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The only files that may name `rocksdb::`.
const ROCKSDB_FILES: &[&str] = &["crates/runtime/src/state/rocks.rs"];

/// The only files that may name `deltalake::`.
const DELTALAKE_FILES: &[&str] = &["crates/runtime/src/table/fence.rs"];

/// Which of our crates each crate may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("parser", &[]),
    ("planner", &["parser"]),
    ("formats", &[]),
    ("runtime", &["parser", "planner", "formats"]),
    ("cli", &["parser", "runtime"]),
    ("bench", &[]),
];

/// Crates of others that a crate must never depend on.
const NEVER: &[(&str, &[&str])] = &[
    ("parser", &["arrow", "datafusion", "tokio", "object_store", "rocksdb", "deltalake"]),
    ("planner", &["tokio", "object_store", "rocksdb", "deltalake"]),
    ("formats", &["sqlparser", "datafusion", "tokio", "object_store", "rocksdb", "deltalake"]),
    ("runtime", &["clap", "rustyline", "sqllogictest"]),
    ("cli", &["datafusion", "deltalake", "rocksdb", "object_store"]),
    ("bench", &["deltalake", "rocksdb"]),
];

/// Lists of options and settings, and the file in which they stand; each entry must be on the language page.
const DOCUMENTED_LISTS: &[&str] = &[
    "FILES_OPTIONS",
    "STORE_OPTIONS",
    "TABLE_STREAM_OPTIONS",
    "SETTINGS",
    "JSON_OPTIONS",
    "CSV_OPTIONS",
    "XML_OPTIONS",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// All files of the repository below a directory, relative to the root, sorted.
fn files_below(directory: &str) -> Vec<String> {
    fn walk(root: &Path, directory: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if [".git", "target", "alluvium-warehouse", "__pycache__", ".venv"].contains(&name) {
                continue;
            }
            if path.is_dir() {
                walk(root, &path, found);
            } else {
                found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_string());
            }
        }
    }
    let mut found = Vec::new();
    let root = root();
    if root.join(directory).is_dir() {
        walk(&root, &root.join(directory), &mut found);
    }
    found.sort();
    found
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Rust files below `crates`, with their text.
fn rust_files() -> Vec<(String, String)> {
    let files = files_below("crates").into_iter().filter(|file| file.ends_with(".rs"));
    files.map(|file| (file.clone(), read(&file))).collect()
}

/// Code that users run: no integration tests, and nothing from the first unit-test module on.
fn shipped_code() -> Vec<(String, String)> {
    let of_crates = |file: &str| file.contains("/src/") && !file.ends_with("/tests.rs") && !file.contains("/tests/");
    let code = |text: String| text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_string();
    rust_files().into_iter().filter(|(file, _)| of_crates(file)).map(|(file, text)| (file, code(text))).collect()
}

/// Without comment lines: a comment may name what code may not.
fn without_comments(text: &str) -> String {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn nothing(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    let closed = rust_files().into_iter().filter(|(_, text)| !text.starts_with("//! "));
    nothing(closed.map(|(file, _)| format!("{file} does not open with `//! …`")).collect());
}

/// Names of a manifest's table, such as `[dependencies]`.
fn manifest_names(manifest: &str, table: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut inside = false;
    for line in manifest.lines() {
        if let Some(header) = line.trim().strip_prefix('[') {
            inside = header.trim_end_matches(']') == table;
        } else if let (true, Some((name, _))) = (inside, line.split_once(['=', '.'])) {
            names.insert(name.trim().trim_matches('"').to_string());
        }
    }
    names
}

#[test]
fn crates_depend_one_way() {
    let mut complaints = Vec::new();
    for (name, allowed) in ARROWS {
        let manifest = read(&format!("crates/{name}/Cargo.toml"));
        let dependencies = manifest_names(&manifest, "dependencies");
        for ours in dependencies.iter().filter_map(|dependency| dependency.strip_prefix("alluvium-")) {
            if !allowed.contains(&ours) {
                complaints.push(format!("{name} may not depend on {ours}"));
            }
        }
        let never = NEVER.iter().find(|(crate_name, _)| crate_name == name).unwrap().1;
        for other in never {
            if dependencies.iter().any(|dependency| dependency == other || dependency.starts_with(&format!("{other}-")))
            {
                complaints.push(format!("{name} may not depend on {other}"));
            }
        }
    }
    let known: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    for file in files_below("crates") {
        let name = file.split('/').nth(1).unwrap();
        if !known.contains(name) {
            complaints.push(format!("crates/{name} has no arrows here"));
        }
    }
    nothing(complaints);
}

/// Complaints where `word` is in code outside the listed files, or a listed file does not have it.
fn fenced(word: &str, allowed: &[&str]) -> Vec<String> {
    let naming: BTreeSet<String> = rust_files()
        .into_iter()
        .filter(|(file, text)| !file.ends_with("tests/tidy.rs") && names(&without_comments(text), word))
        .map(|(file, _)| file)
        .collect();
    let outside = naming.iter().filter(|file| !allowed.contains(&file.as_str()));
    let unused = allowed.iter().filter(|file| !naming.contains(**file));
    outside
        .map(|file| format!("{file} names {word} and is not in the list"))
        .chain(unused.map(|file| format!("{file} is in the list and does not name {word}")))
        .collect()
}

/// Whether a path starts with `word` anywhere; `ourrocksdb::` does not count.
fn names(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        !before.is_some_and(|character| character.is_alphanumeric() || character == '_')
    })
}

#[test]
fn rocksdb_and_delta_rs_are_named_in_few_files() {
    let mut complaints = fenced("rocksdb::", ROCKSDB_FILES);
    complaints.extend(fenced("deltalake::", DELTALAKE_FILES));
    nothing(complaints);
}

#[test]
fn the_command_line_does_not_reach_behind_the_runtime() {
    let words =
        ["datafusion::", "deltalake::", "rocksdb::", "object_store::", "alluvium_planner::", "alluvium_formats::"];
    let mut complaints = Vec::new();
    for (file, text) in rust_files().into_iter().filter(|(file, _)| file.starts_with("crates/cli/src/")) {
        let code = without_comments(&text);
        complaints.extend(words.iter().filter(|word| names(&code, word)).map(|word| format!("{file} names {word}")));
    }
    nothing(complaints);
}

/// Pages whose claims are checked.
fn pages() -> Vec<(String, String)> {
    let mut pages: Vec<String> = files_below("docs").into_iter().filter(|file| file.ends_with(".md")).collect();
    pages.extend(files_below("examples").into_iter().filter(|file| file.ends_with(".md")));
    pages.extend(["README.md", "CHANGELOG.md"].map(String::from));
    pages.into_iter().map(|file| (file.clone(), read(&file))).collect()
}

#[test]
fn paths_in_documents_exist() {
    let mut complaints = Vec::new();
    let root = root();
    for (page, text) in pages() {
        let beside = root.join(&page).parent().unwrap().to_path_buf();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !beside.join(target).exists() {
                complaints.push(format!("{page} links to {target}, which is not there"));
            }
        }
        for quoted in text.split('`').skip(1).step_by(2) {
            let tops = ["crates/", "docs/", "examples/", "sql-tests/", ".ci/"];
            let plain = |c: char| c.is_alphanumeric() || "/._-".contains(c);
            if tops.iter().any(|top| quoted.starts_with(top))
                && quoted.chars().all(plain)
                && !root.join(quoted).exists()
            {
                complaints.push(format!("{page} names `{quoted}`, which is not there"));
            }
        }
    }
    nothing(complaints);
}

/// `THE_CODE` of a string literal that starts at the beginning of `text`.
fn code_literal(text: &str) -> Option<&str> {
    let (literal, _) = text.trim_start().strip_prefix('"')?.split_once('"')?;
    let upper = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    (literal.len() > 1 && literal.chars().all(upper) && literal.starts_with(|c: char| c.is_ascii_uppercase()))
        .then_some(literal)
}

/// Codes that shipped code gives to errors, with a file that does.
fn codes_in_code() -> BTreeMap<String, String> {
    let makers = [
        "Diagnostic::new(",
        "Error::environment(",
        "Self::environment(",
        "code: ",
        "let code = ",
        "const CODE: &str = ",
    ];
    let mut codes = BTreeMap::new();
    for (file, text) in shipped_code() {
        for maker in makers {
            for (at, _) in text.match_indices(maker) {
                if let Some(code) = code_literal(&text[at + maker.len()..]) {
                    codes.entry(code.to_string()).or_insert_with(|| file.clone());
                }
            }
        }
        // Functions that make refusals take the code first too: `refuse("STREAMING_SORT", …)`.
        for (at, _) in text.match_indices('(') {
            let called = text[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_');
            let is_code = |code: &&str| {
                called && code.contains('_') && !["ALLUVIUM_", "AWS_"].iter().any(|own| code.starts_with(own))
            };
            if let Some(code) = code_literal(&text[at + 1..]).filter(is_code).filter(|code| !NOT_CODES.contains(code)) {
                codes.entry(code.to_string()).or_insert_with(|| file.clone());
            }
        }
    }
    codes
}

/// Upper-case words with an underscore that stand first in a call and are no error codes.
const NOT_CODES: &[&str] = &["TIMESTAMP_NTZ", "SYSTEM_VERSION", "SYSTEM_TIME", "TEST_DIR"];

/// Codes with a heading of their own in `docs/errors.md`.
fn codes_in_documents() -> BTreeSet<String> {
    let code = |line: &str| {
        let heading = line.strip_prefix("## ").or(line.strip_prefix("### "))?;
        let word = heading.trim().trim_matches('`');
        code_literal(&format!("\"{word}\"")).map(String::from)
    };
    read("docs/errors.md").lines().filter_map(code).collect()
}

#[test]
fn every_error_code_is_documented_and_every_documented_one_exists() {
    let (code, documented) = (codes_in_code(), codes_in_documents());
    assert!(code.len() > 10 && documented.len() > 10, "{} codes in code, {} documented", code.len(), documented.len());
    let everything: String = shipped_code().into_iter().map(|(_, text)| text).collect();
    let missing = code.iter().filter(|(name, _)| !documented.contains(*name));
    let mut complaints: Vec<String> =
        missing.map(|(name, file)| format!("{name} ({file}) has no section in docs/errors.md")).collect();
    let gone = documented.iter().filter(|name| !everything.contains(&format!("\"{name}\"")));
    complaints.extend(gone.map(|name| format!("docs/errors.md has {name}, which no code gives")));
    nothing(complaints);
}

/// Names in a list such as `pub const SETTINGS: &[SettingDoc] = &[…];`: the first string of each entry, be it written
/// `Doc { name: "…" }`, `doc("…")`, `doc!("…")`, `("…")`, or as the name of another constant.
fn listed(text: &str, list: &str) -> Option<Vec<String>> {
    let (_, rest) = text.split_once(&format!("const {list}: "))?;
    let (_, rest) = rest.split_once("= &[").or_else(|| rest.split_once("= ["))?;
    let (entries, _) = rest.split_once("\n];")?;
    let mut names = Vec::new();
    for entry in top_level_entries(entries) {
        match entry.split_once('"') {
            Some((_, rest)) => names.push(rest.split('"').next()?.to_string()),
            None => {
                let (_, definition) = text.split_once(&format!("const {}: ", entry.trim()))?;
                names.push(definition.split('"').nth(1)?.to_string());
            }
        }
    }
    Some(names)
}

/// Splits at commas outside brackets and strings.
fn top_level_entries(text: &str) -> Vec<String> {
    let (mut entries, mut entry, mut depth, mut quoted, mut escaped) = (Vec::new(), String::new(), 0, false, false);
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    for character in lines.flat_map(|line| line.chars().chain(['\n'])) {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '(' | '[' | '{' if !quoted => depth += 1,
            ')' | ']' | '}' if !quoted => depth -= 1,
            _ => {}
        }
        if character == ',' && depth == 0 && !quoted {
            entries.push(std::mem::take(&mut entry));
        } else {
            entry.push(character);
        }
    }
    entries.push(entry);
    entries.retain(|entry| !entry.trim().is_empty());
    entries
}

#[test]
fn every_option_and_setting_is_on_the_language_page() {
    let page = read("docs/sql.md");
    let mut found = BTreeSet::new();
    let mut complaints = Vec::new();
    for (file, text) in shipped_code() {
        for list in DOCUMENTED_LISTS {
            let Some(names) = listed(&text, list) else { continue };
            found.insert(*list);
            assert!(!names.is_empty(), "{list} in {file} has entries that this test cannot read");
            for name in names {
                let bare = name.strip_prefix("cloudFiles.").unwrap_or(&name);
                if !page.contains(&format!("`{name}`")) && !page.contains(&format!("`{bare}`")) {
                    complaints.push(format!("{name} ({list} in {file}) is not in docs/sql.md"));
                }
            }
        }
    }
    for list in DOCUMENTED_LISTS {
        assert!(found.contains(list), "{list} is nowhere in the code, or is written in a form this test cannot read");
    }
    nothing(complaints);
}

#[test]
fn every_example_and_script_is_run() {
    let mut complaints = Vec::new();
    let (all, runner, examples) = (files_below("."), read(".ci/test"), read("crates/cli/tests/examples.rs"));
    assert!(runner.contains("test --replay all sql-tests"), ".ci/test must run the scripts of sql-tests");
    assert!(examples.contains("examples"), "crates/cli/tests/examples.rs must run what is in examples");
    let (mut scripts, mut sql) = (0, 0);
    for file in all.iter().map(|file| file.trim_start_matches("./")) {
        if file.ends_with(".slt") {
            scripts += 1;
            if !file.starts_with("sql-tests/") {
                complaints.push(format!("{file} is outside sql-tests and not run"));
            }
        }
        if file.ends_with(".sql") {
            sql += 1;
            if !file.starts_with("examples/") {
                complaints.push(format!("{file} is outside examples and not run"));
            }
        }
    }
    assert!(scripts >= 60 && sql >= 2, "{scripts} scripts in sql-tests, {sql} examples");
    nothing(complaints);
}

#[test]
fn nothing_names_one_machine_or_one_tracker() {
    // In pieces, so that this file does not hold what it looks for.
    let machine = ["/ro", "/wo", "/Use", "/ho"].iter().zip(["ot/", "rk/", "rs/", "me/"]);
    let machine: Vec<String> = machine.map(|(start, end)| format!("{start}{end}")).collect();
    let beside = concat!("../", "shared");
    let mut complaints = Vec::new();
    for file in files_below(".") {
        let file = file.trim_start_matches("./");
        let texts =
            [".rs", ".md", ".toml", ".sql", ".slt", ".py", ".sh", "Makefile", ".ci/run", ".ci/test", ".ci/prepare"];
        if !texts.iter().any(|end| file.ends_with(end)) || file == "LICENSE" {
            continue;
        }
        for (number, line) in read(file).lines().enumerate() {
            let place = format!("{file}:{}", number + 1);
            // Such a name may be part of a longer path or of an address, which is no place on a disk.
            for path in machine.iter().filter(|path| starts_a_path(line, path)) {
                complaints.push(format!("{place} names {path}"));
            }
            if line.contains(beside) && file != ".ci/run" {
                complaints.push(format!("{place} names {beside}"));
            }
            if names_an_issue(line) {
                complaints.push(format!("{place} names an issue by number: {}", line.trim()));
            }
        }
    }
    nothing(complaints);
}

fn starts_a_path(line: &str, path: &str) -> bool {
    let free = |c: char| !(c.is_alphanumeric() || "._-/$}".contains(c));
    line.match_indices(path).any(|(at, _)| line[..at].chars().next_back().is_none_or(free))
}

/// The word with a number, or a number sign that stands before one. Headings and raw strings are something else.
fn names_an_issue(line: &str) -> bool {
    let number_after = |word: &str| {
        line.match_indices(word).any(|(at, _)| line[at + word.len()..].starts_with(|c: char| c.is_ascii_digit()))
    };
    number_after("issue ") || number_after("issue #") || number_after("(#") || number_after(" #")
}

#[test]
fn the_checks_can_fail() {
    assert!(names("use rocksdb::DB;", "rocksdb::") && !names("use our_rocksdb::DB;", "rocksdb::"));
    assert!(
        names_an_issue(concat!("see issue", " 12"))
            && names_an_issue(concat!("(", "#7)"))
            && !names_an_issue("# 7 things")
    );
    assert_eq!(code_literal("\n  \"NOT_NULL\", x"), Some("NOT_NULL"));
    assert_eq!((code_literal("\"Not\""), code_literal("name")), (None, None));
    assert!(
        starts_a_path(concat!("in /ro", "ot/x"), concat!("/ro", "ot/"))
            && !starts_a_path(concat!("a/ro", "ot/x"), concat!("/ro", "ot/"))
    );
    let manifest = "[dependencies]\narrow = 1\nalluvium-parser.workspace = true\n[dev-dependencies]\ntokio = 1\n";
    assert_eq!(manifest_names(manifest, "dependencies").into_iter().collect::<Vec<_>>(), ["alluvium-parser", "arrow"]);
    let list = "pub const SETTINGS: &[Doc] = &[\n    Doc { name: \"a.b\", default: \"x\" },\n    Doc { name: \"c\", default: \"\" },\n];";
    assert_eq!(listed(list, "SETTINGS").unwrap(), ["a.b", "c"]);
    let calls = "const SETTINGS: &[Doc] = &[\n  doc!(\"a\", \"x, y\"),\n  B,\n  // no\n  (\"c\", 1),\n];\nconst B: Doc = doc(\"b\");";
    assert_eq!(listed(calls, "SETTINGS").unwrap(), ["a", "b", "c"]);
}
