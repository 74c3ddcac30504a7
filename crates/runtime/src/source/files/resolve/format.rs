//! Which format the files of a relation have: as said, or as their names tell.

use alluvium_formats::Format;
use alluvium_parser::{Diagnostic, OptionEntry, Text};

use super::super::root::Root;
use super::super::store;
use super::{Typed, is_key};
use crate::error::Result;

impl Typed {
    /// The format given, or the one that the files' names tell.
    pub(super) fn format(&self) -> Result<Format> {
        let given = match &self.format {
            Some(given) => given.clone(),
            None => Text { value: self.guess_format()?, span: self.path.span },
        };
        let Some(format) = Format::from_name(&given.value) else {
            let nearest = nearest_format(&given.value);
            return Err(Diagnostic::new("UNKNOWN_FORMAT", format!("`{}` is not a file format", given.value))
                .at(given.span)
                .help(nearest)
                .into());
        };
        Ok(format)
    }

    /// From the first file whose name tells.
    fn guess_format(&self) -> Result<String> {
        let paths: Vec<String> = match self.place()?.remote() {
            Some(remote) => store::wait(remote.files())?.into_iter().map(|file| file.path).collect(),
            None => {
                let root = Root::find(&self.path.value, self.strict).map_err(|e| e.at_least(self.path.span))?;
                self.lister(root)?.all()?
            }
        };
        let of_name = |path: &String| {
            let name = path.rsplit('/').next()?.to_ascii_lowercase();
            let name = [".gz", ".zst", ".bz2", ".xz"]
                .iter()
                .find_map(|end| name.strip_suffix(end))
                .unwrap_or(&name)
                .to_owned();
            Some(match name.rsplit_once('.')?.1 {
                "json" | "jsonl" | "ndjson" => "json",
                "csv" | "tsv" => "csv",
                "txt" | "text" | "log" => "text",
                "parquet" => "parquet",
                "avro" => "avro",
                "orc" => "orc",
                "xml" => "xml",
                _ => return None,
            })
        };
        paths.iter().find_map(of_name).map(str::to_owned).ok_or_else(|| {
            Diagnostic::new(
                "UNKNOWN_FORMAT",
                format!("the format of {} is not given and no file's name tells it", self.title),
            )
            .at(self.path.span)
            .help("give it: format => 'json'")
            .into()
        })
    }
}

/// `format` may stand among the options.
pub(super) fn take_format(mut entries: Vec<OptionEntry>) -> (Vec<OptionEntry>, Option<Text>) {
    let at = entries.iter().position(|entry| is_key(entry, "format"));
    let format = at.map(|at| entries.remove(at).value);
    (entries, format)
}

/// A format may be given twice, but not in two ways.
pub(super) fn agreed_format(argument: Option<Text>, option: Option<Text>) -> Result<Option<Text>> {
    match (argument, option) {
        (Some(argument), Some(option)) if !argument.value.eq_ignore_ascii_case(&option.value) => {
            let message = format!("option `format` is `{}`, and the argument says `{}`", option.value, argument.value);
            Err(Diagnostic::new("INVALID_OPTION", message).at(option.span).help("leave the option out").into())
        }
        (argument, option) => Ok(argument.or(option)),
    }
}

fn nearest_format(typed: &str) -> String {
    let typed = typed.to_ascii_lowercase();
    let near = Format::ALL.into_iter().find(|format| {
        let name = format.name().to_ascii_lowercase();
        typed.contains(&name) || name.contains(&typed) && typed.len() > 1 || one_edit_apart(&typed, &name)
    });
    match near {
        Some(format) => format!("did you mean `{}`?", format.name()),
        None => format!("formats are {}", Format::ALL.map(Format::name).join(", ")),
    }
}

/// Whether one character is added, left out, replaced, or swapped with its neighbour.
fn one_edit_apart(a: &str, b: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let (short, long) = if a.len() <= b.len() { (&a, &b) } else { (&b, &a) };
    let same = short.iter().zip(long).take_while(|(x, y)| x == y).count();
    let (rest, other) = (&short[same..], &long[same..]);
    match other.len() - rest.len() {
        0 => {
            rest.get(1..) == other.get(1..)
                || rest.len() > 1 && rest[0] == other[1] && rest[1] == other[0] && rest[2..] == other[2..]
        }
        1 => rest == &other[1..],
        _ => false,
    }
}
