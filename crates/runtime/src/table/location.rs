//! Where a table lies, and how paths are written in its log. Touches no file.

use std::path::{Component, Path, PathBuf};

use alluvium_parser::Diagnostic;

use crate::error::{Error, Result};

/// The directory of a table given as a path or a `file://` URL. Relative paths are relative to the working directory.
pub fn table_path(uri: &str) -> Result<PathBuf> {
    let Some((scheme, _)) = uri.split_once("://") else {
        let path = uri.strip_prefix("file:").unwrap_or(uri);
        return match std::path::absolute(path) {
            Ok(path) => Ok(without_dots(&path)),
            Err(error) => Err(Error::io("resolve", Path::new(path), &error)),
        };
    };
    if scheme.eq_ignore_ascii_case("file") {
        return url::Url::parse(uri)
            .ok()
            .and_then(|url| url.to_file_path().ok())
            .map(|path| without_dots(&path))
            .ok_or_else(|| {
                Error::statement(
                    Diagnostic::new("INVALID_PATH", format!("`{uri}` is not a local file URL"))
                        .help("write it as `file:///absolute/path`"),
                )
            });
    }
    Err(Error::statement(
        Diagnostic::new(
            "NOT_SUPPORTED_YET",
            format!("Delta tables at {scheme}:// locations (`{uri}`) are not supported yet"),
        )
        .help("use a local path or a `file://` URL"),
    ))
}

/// Without `..`, which object paths do not have, so that one place has one name.
fn without_dots(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

/// A path as the log writes it: `/` stays, what a URI cannot hold is percent-encoded.
pub fn encode(path: &str) -> String {
    percent(path, |byte| byte <= 0x20 || byte >= 0x7f || b"\\{}^%`[]\"<>#|*?".contains(&byte))
}

/// The path that [`encode`] was given; also that of other writers' encodings.
pub fn decode(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| path.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| path.to_owned())
}

/// A partition column's directory, `column=value`, escaped as Hive does it.
pub fn partition_directory(column: &str, value: Option<&str>) -> String {
    let escape = |text: &str| percent(text, |byte| byte < 0x20 || byte == 0x7f || b"\"#%'*/:=?\\{[]^".contains(&byte));
    let value = match value {
        None | Some("") => "__HIVE_DEFAULT_PARTITION__".to_owned(),
        Some(value) => escape(value),
    };
    format!("{}={value}", escape(column))
}

/// The file that an add's path means.
pub fn absolute(table: &Path, path_in_log: &str) -> Result<PathBuf> {
    // Hadoop's spelling of a local URL, one slash: a URL all the same, so its escapes count.
    if let Some(local) =
        path_in_log.strip_prefix("file:").filter(|local| local.starts_with('/') && !local.starts_with("//"))
    {
        return Ok(PathBuf::from(decode(local)));
    }
    if path_in_log.contains("://") {
        return table_path(path_in_log);
    }
    Ok(table.join(decode(path_in_log)))
}

fn percent(text: &str, encoded: impl Fn(u8) -> bool) -> String {
    let mut out = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        if encoded(byte) {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        } else {
            out.push(byte);
        }
    }
    // Whole characters are either kept or fully encoded: bytes from 0x80 on are treated alike.
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn paths_survive_the_log() {
        for path in ["a/b=1/part.parquet", "day=2020-01-01 10%3A00/ü %.parquet", "x=%25/y#?"] {
            assert_eq!(decode(&encode(path)), path);
        }
        assert_eq!(encode("a b/c%3A"), "a%20b/c%253A");
    }

    #[test]
    fn partition_directories_are_hives() {
        assert_eq!(partition_directory("day", Some("10:00/x")), "day=10%3A00%2Fx");
        assert_eq!(partition_directory("day", None), "day=__HIVE_DEFAULT_PARTITION__");
    }

    #[test]
    fn remote_places_are_refused_by_name() {
        for uri in ["s3://b/t", "gs://b/t", "abfss://c@a/t", "az://c/t", "memory://t"] {
            let error = table_path(uri).unwrap_err().diagnostic();
            assert_eq!(error.code, "NOT_SUPPORTED_YET");
            assert!(error.message.contains(uri));
        }
        assert_eq!(table_path("file:///tmp/a%20b").unwrap(), PathBuf::from("/tmp/a b"));
        assert_eq!(table_path("/tmp/x/../y/./z").unwrap(), PathBuf::from("/tmp/y/z"));
    }

    #[test]
    fn paths_in_a_log_may_be_urls() {
        let of = |path: &str| absolute(Path::new("/t"), path).unwrap();
        assert_eq!(of("a%20b/c.parquet"), PathBuf::from("/t/a b/c.parquet"));
        assert_eq!(of("file:/data/a%20b"), PathBuf::from("/data/a b"));
        assert_eq!(of("file:///data/a%20b"), PathBuf::from("/data/a b"));
    }
}
