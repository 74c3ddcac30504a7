//! The tables of relation options in `docs/sql.md` are those of the lists that the code uses, word by word.
//!
//! With `ALLUVIUM_WRITE_DOCS=1` the page is rewritten instead of compared.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fmt::Write;
use std::path::Path;

use super::{FILES_OPTIONS, OptionDoc, TABLE_STREAM_OPTIONS};
use crate::store_options::STORE_OPTIONS;

const SECTIONS: [(&str, &[OptionDoc]); 3] = [
    ("## Options of cloud_files and read_files", FILES_OPTIONS),
    ("### Object stores", STORE_OPTIONS),
    ("## Options of STREAM t WITH (…)", TABLE_STREAM_OPTIONS),
];

fn table(options: &[OptionDoc]) -> String {
    let mut out = "| option | default | meaning |\n|---|---|---|\n".to_owned();
    for option in options {
        let default = match option.default {
            "" => String::new(),
            said if said.contains('(') => said.to_owned(),
            value => format!("`{value}`"),
        };
        writeln!(out, "| `{}` | {default} | {} |", option.name, option.meaning).unwrap();
    }
    out
}

#[test]
fn the_language_page_has_the_options_as_the_code_has_them() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sql.md");
    let mut page = std::fs::read_to_string(&path).unwrap();
    let write = std::env::var_os("ALLUVIUM_WRITE_DOCS").is_some();
    let mut wrong = Vec::new();
    for (heading, options) in SECTIONS {
        let wanted = table(options);
        let begin = page.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("the page has no {heading}"));
        let first = begin + page[begin..].find("| option |").unwrap_or_else(|| panic!("{heading} has no table"));
        let end = first + page[first..].find("\n\n").map_or(page.len() - first, |end| end + 1);
        if page[first..end] != wanted {
            wrong.push(format!("{heading}, as the code has it:\n{wanted}"));
            if write {
                page.replace_range(first..end, &wanted);
            }
        }
    }
    if write {
        std::fs::write(&path, page).unwrap();
    } else {
        assert!(wrong.is_empty(), "run again with ALLUVIUM_WRITE_DOCS=1\n{}", wrong.join("\n"));
    }
}
