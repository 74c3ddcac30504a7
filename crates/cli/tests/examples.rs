//! Everything a reader may copy runs and gives what the page says: scripts in `examples/` against the `.expected` file
//! beside each, and in README.md and docs/*.md every block marked ```` ```sql runnable ```` against the ```` ```text ````
//! block that follows it.
//!
//! `ALLUVIUM_BLESS=1` writes the `.expected` files anew; read the difference before keeping it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long an example may take on the build that `make demo` runs.
const LIMIT: Duration = Duration::from_secs(10);

/// The debug build beside other tests is slower than the one that is promised.
const PATIENCE: u32 = 6;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Files with this extension below a directory, sorted.
fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The program in the top directory, fed with `input`; gives what it printed.
fn run(warehouse: &Path, arguments: &[&str], input: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_alluvium"));
    command.current_dir(root()).arg("--warehouse").arg(warehouse).args(["--quiet", "--no-progress"]).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{arguments:?}: {}\n{}", ended.status, String::from_utf8_lossy(&ended.stderr));
    String::from_utf8(ended.stdout).unwrap()
}

fn run_script(warehouse: &Path, script: &Path) -> String {
    comparable(&run(warehouse, &["--format", "ndjson", "run", script.to_str().unwrap()], ""))
}

/// Rows of DESCRIBE HISTORY hold moments, ids and sizes: of these, version and operation are left.
fn comparable(output: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in output.lines() {
        match serde_json::from_str::<serde_json::Value>(line) {
            Ok(row) if row.get("operationMetrics").is_some() => {
                lines.push(format!("version {} {}", row["version"], row["operation"].as_str().unwrap_or("?")));
            }
            _ => lines.push(line.to_string()),
        }
    }
    lines.join("\n") + "\n"
}

#[test]
fn examples_give_what_is_expected() {
    let scripts = files(&root().join("examples"), "sql");
    assert!(scripts.len() >= 2, "examples went missing: {scripts:?}");
    for script in scripts {
        let warehouse = tempfile::tempdir().unwrap();
        let began = Instant::now();
        let output = run_script(warehouse.path(), &script);
        let took = began.elapsed();
        assert!(took < LIMIT * PATIENCE, "{} took {took:?}", script.display());
        let expected = script.with_extension("expected");
        if std::env::var_os("ALLUVIUM_BLESS").is_some() {
            fs::write(&expected, &output).unwrap();
        }
        let wanted = fs::read_to_string(&expected).unwrap_or_else(|e| panic!("{}: {e}", expected.display()));
        assert_eq!(output, wanted, "{} gives something else than {}", script.display(), expected.display());
    }
}

#[test]
fn examples_can_be_run_again_in_the_same_warehouse() {
    let warehouse = tempfile::tempdir().unwrap();
    for script in files(&root().join("examples"), "sql") {
        let wanted = fs::read_to_string(script.with_extension("expected")).unwrap();
        run_script(warehouse.path(), &script);
        assert_eq!(
            run_script(warehouse.path(), &script),
            wanted,
            "{} gives something else the second time",
            script.display()
        );
    }
}

/// A block of SQL that a page says can be run, and what the page says comes out.
struct Block {
    line: usize,
    sql: String,
    output: Option<String>,
}

/// The runnable blocks of a page; a text block that follows one before the next heading or block is its output.
fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut lines = page.lines().enumerate();
    let mut fresh = false;
    while let Some((number, line)) = lines.next() {
        let Some(kind) = line.trim().strip_prefix("```").map(str::trim) else { continue };
        let body: Vec<&str> = lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```").collect();
        let body = body.join("\n") + "\n";
        match kind {
            "sql runnable" => blocks.push(Block { line: number + 1, sql: body, output: None }),
            "text" if fresh => blocks.last_mut().unwrap().output = Some(body),
            _ => {}
        }
        fresh = kind == "sql runnable";
    }
    blocks
}

#[test]
fn runnable_blocks_of_the_pages_give_what_the_pages_say() {
    let mut pages = files(&root().join("docs"), "md");
    pages.push(root().join("README.md"));
    let mut ran = 0;
    for page in pages {
        for block in blocks(&fs::read_to_string(&page).unwrap()) {
            let warehouse = tempfile::tempdir().unwrap();
            let output = run(warehouse.path(), &[], &block.sql);
            if let Some(wanted) = block.output {
                assert_eq!(output, wanted, "{}:{}", page.display(), block.line);
            }
            ran += 1;
        }
    }
    assert!(ran >= 1, "no page has a runnable block");
}

#[test]
fn blocks_are_found() {
    let page = "a\n```sql runnable\nSELECT 1;\n```\nthen\n```text\n1\n```\n```text\nno\n```\n```sql\nSELECT 2\n```\n";
    let found = blocks(page);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].line, found[0].sql.as_str(), found[0].output.as_deref()), (2, "SELECT 1;\n", Some("1\n")));
}
