//! The tables of format options in `docs/sql.md` are those of the lists that the code uses, word by word.
//!
//! With `ALLUVIUM_WRITE_DOCS=1` the page is rewritten instead of compared.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fmt::Write;
use std::path::Path;

use alluvium_formats::Format;
use alluvium_formats::OptionDoc;

/// Sections of the page and the formats whose options they have.
const SECTIONS: [(&str, &[Format]); 7] = [
    ("### JSON", &[Format::Json]),
    ("### CSV", &[Format::Csv]),
    ("### Text", &[Format::Text]),
    ("### XML", &[Format::Xml]),
    ("### Parquet", &[Format::Parquet]),
    ("### Avro", &[Format::Avro]),
    ("### ORC", &[Format::Orc]),
];

fn table(options: &[OptionDoc]) -> String {
    let mut out = "| option | default | meaning |\n|---|---|---|\n".to_owned();
    for option in options.iter().filter(|option| option.carried_out) {
        let default = match option.default {
            "" => String::new(),
            said if said.contains(' ') || said.contains('`') || said == "none" => said.to_owned(),
            value => format!("`{value}`"),
        };
        writeln!(out, "| `{}` | {default} | {} |", option.name, option.meaning).unwrap();
    }
    let refused: Vec<&OptionDoc> = options.iter().filter(|option| !option.carried_out).collect();
    if !refused.is_empty() {
        out += "\nKnown, and refused unless they ask for what happens anyway:\n\n";
        for option in refused {
            writeln!(out, "- `{}`: {}", option.name, option.meaning).unwrap();
        }
    }
    out
}

#[test]
fn the_language_page_has_the_options_as_the_code_has_them() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sql.md");
    let mut page = std::fs::read_to_string(&path).unwrap();
    let write = std::env::var_os("ALLUVIUM_WRITE_DOCS").is_some();
    let mut wrong = Vec::new();
    for (heading, formats) in SECTIONS {
        for format in formats {
            let wanted = table(format.options());
            let begin = page.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("the page has no {heading}"));
            let section = page[begin + 1..].find("\n## ").map_or(page.len(), |end| begin + 1 + end);
            let section = page[begin + 1..section].find("\n### ").map_or(section, |end| begin + 1 + end + 1);
            let first = begin + page[begin..section].find("| option |").unwrap_or(section - begin);
            let found = page[first..section].trim_end();
            if found != wanted.trim_end() {
                wrong.push(format!("{heading}, as the code has it:\n{wanted}"));
                if write {
                    page.replace_range(first..section, &format!("{}\n\n", wanted.trim_end()));
                }
            }
        }
    }
    if write {
        std::fs::write(&path, page).unwrap();
    } else {
        assert!(wrong.is_empty(), "run again with ALLUVIUM_WRITE_DOCS=1\n{}", wrong.join("\n"));
    }
}

#[test]
fn every_option_has_a_meaning_and_stands_once_in_its_list() {
    for format in Format::ALL {
        let names: Vec<String> = format.options().iter().map(|option| option.name.to_lowercase()).collect();
        for option in format.options() {
            assert!(option.meaning.len() > 5 && !option.meaning.contains('|'), "{}", option.name);
            assert_eq!(names.iter().filter(|name| **name == option.name.to_lowercase()).count(), 1, "{}", option.name);
        }
    }
}
