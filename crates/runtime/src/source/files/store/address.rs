//! What a URL of an object store names: a service, a bucket, and what in it is meant.
//!
//! Knows URLs and keys as text; connects to nothing. An object's identity is its full URL, spelled one way however the
//! relation's path was typed: `s3a://b/x` and `s3://b/x` are the same object. Keys are taken as they are, without
//! percent-decoding, since a key may hold any character.

use alluvium_parser::Diagnostic;

use crate::error::Result;
use crate::source::files::glob::Glob;
use crate::source::files::root::percent_decoded;
use crate::source::files::rules::{Hidden, Ignored};

/// Who keeps the objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Amazon S3 and what speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Google,
    /// Azure Blob Storage and Data Lake Storage.
    Azure,
}

/// A place in a bucket.
#[derive(Debug, Clone, PartialEq)]
pub struct Address {
    /// Who keeps it.
    pub service: Service,
    /// Bucket or container.
    pub bucket: String,
    /// Azure: the storage account, where the URL names it.
    pub account: Option<String>,
    /// What stands before every key in an object's URL: `s3://bucket/`.
    pub root: String,
    /// The directory part of the path, ending with `/`, or empty for the whole bucket. Patterns and hidden names are
    /// about what follows it.
    pub base: String,
    /// What every key meant begins with; the base, or more of a pattern's fixed part.
    pub prefix: String,
    /// The pattern after the base.
    pub pattern: Option<Glob>,
}

impl Address {
    /// Takes a typed path apart; None when it names no object store. `strict` is about `*`; see [`Glob::new`].
    ///
    /// # Errors
    /// INVALID_PATH for a URL without a bucket, empty or relative parts, or a pattern that is wrong.
    pub fn parse(typed: &str, strict: bool) -> Result<Option<Address>> {
        let Some((scheme, rest)) = typed.split_once("://") else { return Ok(None) };
        let (service, spelled) = match scheme.to_ascii_lowercase().as_str() {
            "s3" | "s3a" => (Service::S3, "s3"),
            "gs" => (Service::Google, "gs"),
            "az" => (Service::Azure, "az"),
            "abfs" | "abfss" => (Service::Azure, "abfss"),
            _ => return Ok(None),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (bucket, account) = match (service, authority.split_once('@')) {
            (Service::Azure, Some((container, host))) => (container, host.split('.').next()),
            _ => (authority, None),
        };
        let odd = |c: char| c.is_whitespace() || c == '@' || c == ':';
        if bucket.is_empty() || bucket.contains(odd) || account.is_some_and(|account| account.is_empty()) {
            let form = if service == Service::Azure {
                "abfss://container@account.dfs.core.windows.net/path"
            } else {
                "s3://bucket/path"
            };
            return Err(Diagnostic::new("INVALID_PATH", format!("`{typed}` names no bucket"))
                .help(format!("the form is {form}"))
                .into());
        }
        let fixed = path.split('/').take_while(|part| !Glob::is_pattern(part));
        let fixed = fixed.map(|part| part.len() + 1).sum::<usize>().min(path.len());
        let (base, pattern) = path.split_at(fixed);
        let base = match base.trim_end_matches('/') {
            "" => String::new(),
            base => format!("{base}/"),
        };
        check_parts(typed, &base)?;
        let pattern = match pattern.trim_end_matches('/') {
            "" => None,
            pattern => Some(
                Glob::new(pattern, strict)
                    .map_err(|why| Diagnostic::new("INVALID_PATH", format!("the path pattern {why}")))?,
            ),
        };
        let literal = pattern.as_ref().map_or("", |glob| literal_start(glob.text()));
        Ok(Some(Address {
            service,
            bucket: bucket.to_owned(),
            account: account.map(str::to_owned),
            root: format!("{spelled}://{authority}/"),
            prefix: format!("{base}{literal}"),
            base,
            pattern,
        }))
    }

    /// An object's URL.
    pub fn url(&self, key: &str) -> String {
        format!("{}{key}", self.root)
    }

    /// The key in an object's URL; None for another bucket's.
    pub fn key<'u>(&self, url: &'u str) -> Option<&'u str> {
        url.strip_prefix(&self.root)
    }

    /// URLs of objects below the base that a typed path may mean: a URL, as it stands or with its percent-encoding
    /// taken back, or a path relative to the base.
    pub fn candidates(&self, typed: &str) -> Vec<String> {
        let url = match typed.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("s3a") => format!("s3://{rest}"),
            Some((scheme, rest)) => format!("{}://{rest}", scheme.to_ascii_lowercase()),
            None => format!("{}{}", self.url(&self.base), typed.trim_start_matches("./")),
        };
        let decoded = percent_decoded(&url).filter(|decoded| *decoded != url);
        let below = |url: &String| self.key(url).is_some_and(|key| self.relative(key).is_some());
        [Some(url), decoded].into_iter().flatten().filter(below).collect()
    }

    /// The key that the path itself names, where it could be an object's.
    pub fn object(&self) -> Option<&str> {
        let key = self.base.strip_suffix('/')?;
        self.pattern.is_none().then_some(key)
    }

    /// What of a key follows the base; None for one that is not below it.
    pub fn relative<'k>(&self, key: &'k str) -> Option<&'k str> {
        key.strip_prefix(&self.base).filter(|relative| !relative.is_empty())
    }

    /// Why an object is not meant, by what follows the base: a hidden part, or it does not fit the pattern.
    pub fn ignore(&self, relative: &str, hidden: &Hidden) -> Option<Ignored> {
        if let Some(part) = hidden.part(relative) {
            return Some(Ignored::Hidden(part.to_owned()));
        }
        let pattern = self.pattern.as_ref().filter(|glob| !glob.matches_or_within(relative));
        pattern.map(|glob| Ignored::Pattern(glob.text().to_owned()))
    }

    /// Whether this place lies inside another one: everything below it is below the other.
    pub fn lies_in(&self, other: &Address) -> bool {
        // An account that is not named may be any.
        let account = self.account.is_none() || other.account.is_none() || self.account == other.account;
        let same = self.service == other.service && self.bucket == other.bucket && account;
        same && self.base.starts_with(&other.base)
    }
}

/// Whether a typed path names an object store.
pub fn is_remote(typed: &str) -> bool {
    let scheme = typed.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    matches!(scheme.as_deref(), Some("s3" | "s3a" | "gs" | "az" | "abfs" | "abfss"))
}

/// The object's URL with what URLs cannot hold percent-encoded, as `_metadata.file_path` has it; None for other paths.
pub fn encoded_url(path: &str) -> Option<String> {
    if !is_remote(path) {
        return None;
    }
    let (scheme, rest) = path.split_once("://")?;
    let mut out = format!("{scheme}://");
    for byte in rest.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    Some(out)
}

fn check_parts(typed: &str, base: &str) -> Result<()> {
    let odd = base.trim_end_matches('/').split('/').any(|part| part.is_empty() || part == "." || part == "..");
    if odd && !base.is_empty() {
        return Err(Diagnostic::new("INVALID_PATH", format!("`{typed}` has an empty part, or `.` or `..`"))
            .help("keys of objects are plain text: write the path as the keys have it")
            .into());
    }
    Ok(())
}

/// What a pattern begins with, up to its first special character.
fn literal_start(pattern: &str) -> &str {
    let end = pattern.find(['*', '?', '[', '{', '\\']).unwrap_or(pattern.len());
    &pattern[..end]
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn address(typed: &str) -> Address {
        Address::parse(typed, true).unwrap().unwrap()
    }

    fn takes(address: &Address, key: &str) -> bool {
        address.relative(key).is_some_and(|relative| address.ignore(relative, &Hidden::Usual).is_none())
    }

    #[test]
    fn urls_are_taken_apart() {
        let plain = address("s3a://bucket/in/2024");
        assert_eq!(
            (plain.root.as_str(), plain.base.as_str(), plain.prefix.as_str()),
            ("s3://bucket/", "in/2024/", "in/2024/")
        );
        assert_eq!(plain.object(), Some("in/2024"));
        assert_eq!(address("s3://bucket").prefix, "");
        assert_eq!(address("s3://bucket/").object(), None);
        assert_eq!(address("gs://bucket/in//").base, "in/");
        let azure = address("abfss://files@store.dfs.core.windows.net/in/");
        assert_eq!((azure.bucket.as_str(), azure.account.as_deref()), ("files", Some("store")));
        assert_eq!(azure.url("in/a"), "abfss://files@store.dfs.core.windows.net/in/a");
        assert_eq!(address("az://files/in").account, None);
        assert!(Address::parse("/local/path", true).unwrap().is_none());
        assert!(Address::parse("file:///local", true).unwrap().is_none());
        for odd in ["s3:///in", "s3://", "s3://b/a//b", "s3://b/../x", "s3://b/x/[", "abfss://c@/x"] {
            assert_eq!(Address::parse(odd, true).unwrap_err().diagnostic().code, "INVALID_PATH", "{odd}");
        }
    }

    #[test]
    fn listing_starts_at_the_longest_fixed_prefix() {
        let glob = address("s3://bucket/logs/2024-*/app/x?.json");
        assert_eq!((glob.base.as_str(), glob.prefix.as_str()), ("logs/", "logs/2024-"));
        assert!(takes(&glob, "logs/2024-01/app/x1.json"));
        assert!(!takes(&glob, "logs/2023-01/app/x1.json") && !takes(&glob, "logs/2024-01/app/y1.json"));
        assert_eq!(glob.object(), None);
    }

    #[test]
    fn hidden_names_and_neighbours_are_not_meant() {
        let plain = address("s3://bucket/in");
        assert!(takes(&plain, "in/a.json") && takes(&plain, "in/k=1/_k=2/a.json"));
        for other in ["in", "in/", "inn/a.json", "in/_tmp/a.json", "in/.a.json", "other/a.json"] {
            assert!(!takes(&plain, other), "{other}");
        }
    }

    #[test]
    fn statements_may_spell_an_object_in_several_ways() {
        let place = address("s3://b/in");
        for typed in ["s3://b/in/x/a%20b.json", "s3a://b/in/x/a b.json", "x/a b.json", "./x/a%20b.json"] {
            assert!(place.candidates(typed).contains(&"s3://b/in/x/a b.json".to_owned()), "{typed}");
        }
        assert!(place.candidates("s3://b/other/a").is_empty() && place.candidates("gs://b/in/a").is_empty());
    }

    #[test]
    fn a_place_lies_in_those_above_it() {
        let (inner, outer) = (address("s3://b/in/done"), address("s3a://b/in"));
        assert!(inner.lies_in(&outer) && !outer.lies_in(&inner) && outer.lies_in(&outer));
        assert!(inner.lies_in(&address("s3://b")) && !inner.lies_in(&address("s3://b/i")));
        assert!(!inner.lies_in(&address("s3://c/in")) && !inner.lies_in(&address("gs://b/in")));
    }

    #[test]
    fn metadata_has_encoded_urls() {
        assert_eq!(encoded_url("s3://b/a b/ü.json").unwrap(), "s3://b/a%20b/%C3%BC.json");
        assert_eq!(encoded_url("/a b"), None);
    }
}
