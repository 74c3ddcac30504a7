//! Options of object stores and of their notifications: where, as whom, and how new objects are found.
//!
//! Values only: which of them a store understands is decided where the path is known. Secrets are kept in [`Secret`],
//! which nothing prints.

use std::fmt;
use std::time::Duration;

use alluvium_parser::{Diagnostic, OptionEntry, Span};

use crate::options::{OptionDoc, count, doc, flag, invalid};

/// Text that must not be shown: a key, a connection string.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text`.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text, for the one who authenticates with it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// What stands for a secret wherever text is shown.
pub const MASK: &str = "********";

/// How much of a place is listed between full listings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IncrementalListing {
    /// Only names behind the last one seen, for seven listings out of eight, where a listing takes several requests.
    #[default]
    Auto,
    /// Only names behind the last one seen; everything at a start and each `backfillInterval`.
    Always,
    /// Everything, each time.
    Never,
}

/// Where and as whom an object store is reached; and how it tells of new objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreOptions {
    /// AWS region.
    pub region: Option<String>,
    /// Base URL of the service, for stores that speak its protocol.
    pub endpoint: Option<String>,
    /// AWS access key.
    pub access_key: Option<Secret>,
    /// AWS secret key.
    pub secret_key: Option<Secret>,
    /// AWS session token.
    pub session_token: Option<Secret>,
    /// Azure storage connection string.
    pub connection_string: Option<Secret>,
    /// Azure tenant.
    pub tenant_id: Option<String>,
    /// Azure application.
    pub client_id: Option<String>,
    /// Azure application secret.
    pub client_secret: Option<Secret>,
    /// Google service account.
    pub client_email: Option<String>,
    /// Its private key, PEM.
    pub private_key: Option<Secret>,
    /// The id of that key.
    pub private_key_id: Option<String>,
    /// Between full listings.
    pub incremental_listing: IncrementalListing,
    /// Full listings are at most this far apart, whatever finds new objects otherwise.
    pub backfill_interval: Option<Duration>,
    /// Whether a queue tells of new objects.
    pub use_notifications: bool,
    /// The queue.
    pub queue_url: Option<String>,
    /// Requests to the queue at a time.
    pub fetch_parallelism: u64,
    /// Prefixes of `bucket/key` in messages, and the URLs that stand for them.
    pub path_rewrites: Vec<(String, String)>,
    /// The options that were given, and where, so that one that means nothing for a path can be refused.
    pub given: Vec<(&'static str, Span)>,
}

/// The options, in the manual's order.
pub const STORE_OPTIONS: &[OptionDoc] = &[
    doc("awsAccessKey", "", "S3 and SQS: access key; without it the environment's credentials"),
    doc("awsSecretKey", "", "S3 and SQS: its secret"),
    doc("awsSessionToken", "", "S3 and SQS: the token of temporary credentials"),
    doc("clientEmail", "", "Google Cloud Storage: service account"),
    doc("clientId", "", "Azure: application that reads, with clientSecret and tenantId"),
    doc("clientSecret", "", "Azure: its secret"),
    doc("connectionString", "", "Azure: connection string of the storage account"),
    doc("endpoint", "", "S3: base URL of a store that speaks its protocol"),
    doc("fetchParallelism", "1", "notifications: requests to the queue at a time, at most 32"),
    doc("pathRewrites", "", "notifications: JSON object from prefixes of bucket/key to URLs"),
    doc("privateKey", "", "Google Cloud Storage: the service account's key, PEM"),
    doc("privateKeyId", "", "Google Cloud Storage: the id of that key"),
    doc("queueUrl", "", "notifications: the SQS queue that receives the bucket's events"),
    doc("region", "", "S3: region of the bucket; without it the environment's, or us-east-1"),
    doc("tenantId", "", "Azure: tenant of the application"),
    doc("useIncrementalListing", "auto", "object stores: list only behind the last name seen: auto, true, false"),
    doc("useNotifications", "false", "find new objects by the events of a queue instead of listing"),
];

/// Options whose values are masked where statements are shown, in lower case.
pub const SECRET_OPTIONS: &[&str] =
    &["awsaccesskey", "awssecretkey", "awssessiontoken", "clientsecret", "connectionstring", "privatekey"];

const PARALLELISM_MAX: u64 = 32;

impl StoreOptions {
    /// Takes one option, by its name without prefix.
    ///
    /// # Errors
    /// INVALID_OPTION at the value.
    pub(crate) fn set(&mut self, name: &'static str, entry: &OptionEntry) -> Result<(), Diagnostic> {
        let text = || entry.value.value.trim().to_string();
        let secret = || Some(Secret::new(text()));
        self.given.push((name, entry.key.span.to(entry.value.span)));
        match name {
            "region" => self.region = Some(text()),
            "endpoint" => self.endpoint = Some(url(entry)?),
            "awsAccessKey" => self.access_key = secret(),
            "awsSecretKey" => self.secret_key = secret(),
            "awsSessionToken" => self.session_token = secret(),
            "connectionString" => self.connection_string = secret(),
            "tenantId" => self.tenant_id = Some(text()),
            "clientId" => self.client_id = Some(text()),
            "clientSecret" => self.client_secret = secret(),
            "clientEmail" => self.client_email = Some(text()),
            "privateKey" => self.private_key = secret(),
            "privateKeyId" => self.private_key_id = Some(text()),
            "useIncrementalListing" => self.incremental_listing = incremental(entry)?,
            "backfillInterval" => self.backfill_interval = Some(interval(entry)?),
            "useNotifications" => self.use_notifications = flag(entry)?,
            "queueUrl" => self.queue_url = Some(url(entry)?),
            "fetchParallelism" => {
                let number = count(entry)?;
                if number > PARALLELISM_MAX {
                    return Err(invalid(entry, &format!("a whole number from 1 to {PARALLELISM_MAX}")));
                }
                self.fetch_parallelism = number;
            }
            "pathRewrites" => self.path_rewrites = rewrites(entry)?,
            _ => {}
        }
        Ok(())
    }
}

fn url(entry: &OptionEntry) -> Result<String, Diagnostic> {
    let text = entry.value.value.trim().trim_end_matches('/');
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match host {
        Some(host) if !host.is_empty() && !text.contains(char::is_whitespace) => Ok(text.to_string()),
        _ => Err(invalid(entry, "an http:// or https:// URL")),
    }
}

fn incremental(entry: &OptionEntry) -> Result<IncrementalListing, Diagnostic> {
    if entry.value.value.trim().eq_ignore_ascii_case("auto") {
        return Ok(IncrementalListing::Auto);
    }
    match flag(entry) {
        Ok(true) => Ok(IncrementalListing::Always),
        Ok(false) => Ok(IncrementalListing::Never),
        Err(_) => Err(invalid(entry, "`auto`, `true` or `false`")),
    }
}

/// `1 day`, `6 hours`, `interval 2 weeks`.
fn interval(entry: &OptionEntry) -> Result<Duration, Diagnostic> {
    parse_interval(&entry.value.value)
        .filter(|interval| !interval.is_zero())
        .ok_or_else(|| invalid(entry, "an interval such as `1 day` or `6 hours`"))
}

fn parse_interval(text: &str) -> Option<Duration> {
    let lower = text.trim().to_lowercase();
    let mut words = lower.split_whitespace().skip_while(|word| *word == "interval");
    let mut total = 0u64;
    let mut any = false;
    while let Some(number) = words.next() {
        let seconds = match words.next()?.trim_end_matches('s') {
            "second" => 1,
            "minute" => 60,
            "hour" => 3600,
            "day" => 86_400,
            "week" => 604_800,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(seconds)?)?;
        any = true;
    }
    any.then(|| Duration::from_secs(total))
}

/// A JSON object of texts.
fn rewrites(entry: &OptionEntry) -> Result<Vec<(String, String)>, Diagnostic> {
    let accepted = "a JSON object from prefixes of `bucket/key` to URLs: {\"bucket/a\": \"s3://other/b\"}";
    let parsed: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&entry.value.value).map_err(|_| invalid(entry, accepted))?;
    let pair = |(from, to): (&String, &serde_json::Value)| {
        let to = to.as_str().filter(|to| to.contains("://"))?;
        Some((from.trim_matches('/').to_string(), to.trim_end_matches('/').to_string()))
    };
    parsed.iter().map(pair).collect::<Option<_>>().ok_or_else(|| invalid(entry, accepted))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use alluvium_parser::Text;

    use super::*;

    fn set(name: &'static str, value: &str) -> Result<StoreOptions, Diagnostic> {
        let text = |value: &str| Text { value: value.into(), span: Span::UNKNOWN };
        let mut options = StoreOptions::default();
        options.set(name, &OptionEntry { key: text(name), value: text(value) })?;
        Ok(options)
    }

    #[test]
    fn values_are_checked() {
        assert_eq!(set("backfillInterval", "1 day").unwrap().backfill_interval, Some(Duration::from_secs(86_400)));
        assert_eq!(
            set("backfillInterval", "INTERVAL 2 hours 30 minutes").unwrap().backfill_interval.unwrap().as_secs(),
            9000
        );
        assert_eq!(set("useIncrementalListing", "AUTO").unwrap().incremental_listing, IncrementalListing::Auto);
        assert_eq!(set("useIncrementalListing", "true").unwrap().incremental_listing, IncrementalListing::Always);
        let rewrites = set("pathRewrites", r#"{"b/x/": "s3://c/y/"}"#).unwrap().path_rewrites;
        assert_eq!(rewrites, [("b/x".to_string(), "s3://c/y".to_string())]);
        for (name, value) in [
            ("backfillInterval", "soon"),
            ("backfillInterval", "0 days"),
            ("useIncrementalListing", "maybe"),
            ("fetchParallelism", "33"),
            ("pathRewrites", "[]"),
            ("pathRewrites", r#"{"b": 1}"#),
            ("queueUrl", "my-queue"),
            ("endpoint", "localhost:9000"),
        ] {
            assert_eq!(set(name, value).unwrap_err().code, "INVALID_OPTION", "{name} {value}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let options = set("awsSecretKey", "hunter2").unwrap();
        assert!(!format!("{options:?}").contains("hunter2"));
        assert!(STORE_OPTIONS.iter().any(|option| option.name == "awsSecretKey"));
        for secret in SECRET_OPTIONS {
            assert!(STORE_OPTIONS.iter().any(|option| option.name.eq_ignore_ascii_case(secret)), "{secret}");
        }
    }
}
