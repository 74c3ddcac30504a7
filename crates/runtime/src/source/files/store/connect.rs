//! Connections to object stores: from the environment, the options of a relation and its URL.
//!
//! Options win over the environment. Credentials of S3 are, in this order: options, `AWS_ACCESS_KEY_ID` and
//! `AWS_SECRET_ACCESS_KEY`, the token file or container or instance role of the machine's environment, and a
//! profile of the shared credentials file, which is looked at before the instance is asked.

use std::sync::Arc;
use std::time::Duration;

use alluvium_parser::{Diagnostic, Span};
use alluvium_planner::store_options::{Secret, StoreOptions};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential, AwsCredentialProvider};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::list::PaginatedListStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig, StaticCredentialProvider};

use super::address::{Address, Service};
use super::failure::misconfigured;
use crate::error::{Error, Result};

/// How long one request is repeated before its failure is told.
const RETRY: Duration = Duration::from_secs(30);

/// How often at most; the time ends it before.
const RETRIES: usize = 60;

/// A bucket that requests can be sent to.
pub struct Connection {
    /// Reads objects.
    pub store: Arc<dyn ObjectStore>,
    /// Lists them, page by page.
    pub pages: Arc<dyn PaginatedListStore>,
    /// S3: as whom, and in which region; the bucket's queue is reached with the same.
    pub aws: Option<Aws>,
}

/// What signs requests to Amazon's services.
#[derive(Clone)]
pub struct Aws {
    /// As whom.
    pub credentials: AwsCredentialProvider,
    /// Where.
    pub region: String,
}

/// Connects; nothing is sent yet.
///
/// # Errors
/// INVALID_OPTION for an option that means nothing for this store, STORE_CONFIGURATION.
pub fn connect(address: &Address, options: &StoreOptions) -> Result<Connection> {
    check(address.service, options)?;
    match address.service {
        Service::S3 => s3(address, options),
        Service::Google => google(address, options),
        Service::Azure => azure(address, options),
    }
}

/// Options of one store mean nothing for another.
fn check(service: Service, options: &StoreOptions) -> Result<()> {
    let (title, own): (_, &[&str]) = match service {
        Service::S3 => (
            "S3",
            &[
                "region",
                "endpoint",
                "awsAccessKey",
                "awsSecretKey",
                "awsSessionToken",
                "useNotifications",
                "queueUrl",
                "fetchParallelism",
                "pathRewrites",
            ],
        ),
        Service::Google => ("Google Cloud Storage", &["clientEmail", "privateKey", "privateKeyId"]),
        Service::Azure => ("Azure", &["connectionString", "tenantId", "clientId", "clientSecret"]),
    };
    if service == Service::S3 && options.use_notifications && options.queue_url.is_none() {
        return Err(queue_required(options));
    }
    for (name, span) in &options.given {
        if *name == "useNotifications" && service != Service::S3 {
            if !options.use_notifications {
                continue;
            }
            return Err(Diagnostic::new(
                "NOT_SUPPORTED_YET",
                format!("notifications of {title} are not supported yet"),
            )
            .at(*span)
            .help("leave useNotifications out: new objects are found by listing")
            .into());
        }
        if !own.contains(name) && !["useIncrementalListing", "backfillInterval"].contains(name) {
            return Err(not_for(name, title, *span));
        }
    }
    Ok(())
}

/// Notifications without a queue.
pub fn queue_required(options: &StoreOptions) -> Error {
    let place =
        options.given.iter().find(|(name, _)| *name == "useNotifications").map_or(Span::UNKNOWN, |(_, span)| *span);
    Diagnostic::new("QUEUE_REQUIRED", "useNotifications needs a queue, and none is created here")
        .at(place)
        .help("make an SQS queue, let the bucket send its ObjectCreated events to it, and give its URL: queueUrl")
        .help("or leave useNotifications out: new objects are found by listing")
        .into()
}

/// An option that does not belong to the place read.
pub fn not_for(name: &str, title: &str, span: Span) -> Error {
    Diagnostic::new("INVALID_OPTION", format!("option `{name}` means nothing for {title}"))
        .at(span)
        .help("leave it out")
        .into()
}

fn retry() -> RetryConfig {
    let backoff = BackoffConfig { max_backoff: Duration::from_secs(5), ..BackoffConfig::default() };
    RetryConfig { backoff, max_retries: RETRIES, retry_timeout: RETRY }
}

fn reveal(secret: &Option<Secret>) -> Option<&str> {
    secret.as_ref().map(Secret::reveal)
}

fn s3(address: &Address, options: &StoreOptions) -> Result<Connection> {
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(&address.bucket).with_retry(retry());
    let mut set = |key: AmazonS3ConfigKey, value: Option<&str>| {
        if let Some(value) = value {
            builder = std::mem::take(&mut builder).with_config(key, value);
        }
    };
    set(AmazonS3ConfigKey::Region, options.region.as_deref());
    set(AmazonS3ConfigKey::S3Endpoint, options.endpoint.as_deref());
    if let Some(credential) = given_keys(options)? {
        builder = builder.with_credentials(Arc::new(StaticCredentialProvider::new(credential)));
    }
    let value = |builder: &AmazonS3Builder, key| builder.get_config_value(&key).filter(|value| !value.is_empty());
    let endpoint = value(&builder, AmazonS3ConfigKey::S3Endpoint).or(value(&builder, AmazonS3ConfigKey::Endpoint));
    if endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")) {
        // Whoever writes http:// means it.
        builder = builder.with_allow_http(true);
    }
    if options.access_key.is_none()
        && asks_the_instance(&builder)
        && let Some(profile) = super::profile::read()?
    {
        builder = builder.with_access_key_id(profile.key).with_secret_access_key(profile.secret);
        if let Some(token) = profile.token {
            builder = builder.with_token(token);
        }
    }
    let region = value(&builder, AmazonS3ConfigKey::Region).unwrap_or_else(|| "us-east-1".to_owned());
    let store = builder.build().map_err(|e| misconfigured(&address.root, &e))?;
    let aws = Aws { credentials: store.credentials().clone(), region };
    let store = Arc::new(store);
    Ok(Connection { store: store.clone(), pages: store, aws: Some(aws) })
}

/// The keys among the options.
fn given_keys(options: &StoreOptions) -> Result<Option<AwsCredential>> {
    let (key, secret) = match (&options.access_key, &options.secret_key) {
        (Some(key), Some(secret)) => (key.reveal(), secret.reveal()),
        (None, None) if options.session_token.is_none() => return Ok(None),
        _ => return Err(keys_option(options, "awsAccessKey and awsSecretKey are given together or not at all")),
    };
    let token = reveal(&options.session_token).map(str::to_owned);
    // They become parts of HTTP headers.
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if ![Some(key), Some(secret), token.as_deref()].into_iter().flatten().all(plain) {
        return Err(keys_option(options, "the AWS keys among the options hold characters that keys do not have"));
    }
    Ok(Some(AwsCredential { key_id: key.to_owned(), secret_key: secret.to_owned(), token }))
}

fn keys_option(options: &StoreOptions, message: &str) -> Error {
    let place = options.given.iter().find(|(name, _)| name.starts_with("aws")).map_or(Span::UNKNOWN, |(_, span)| *span);
    Diagnostic::new("INVALID_OPTION", message).at(place).into()
}

/// Whether nothing but the machine's own role would give credentials.
fn asks_the_instance(builder: &AmazonS3Builder) -> bool {
    [
        AmazonS3ConfigKey::AccessKeyId,
        AmazonS3ConfigKey::SecretAccessKey,
        AmazonS3ConfigKey::WebIdentityTokenFile,
        AmazonS3ConfigKey::ContainerCredentialsRelativeUri,
        AmazonS3ConfigKey::ContainerCredentialsFullUri,
    ]
    .iter()
    .all(|key| builder.get_config_value(key).is_none())
        && builder.get_config_value(&AmazonS3ConfigKey::SkipSignature).as_deref() != Some("true")
}

fn google(address: &Address, options: &StoreOptions) -> Result<Connection> {
    let mut builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(&address.bucket).with_retry(retry());
    if let (Some(email), Some(key)) = (&options.client_email, &options.private_key) {
        // Keys pasted from a key file have their line ends as two characters.
        let key = key.reveal().replace("\\n", "\n");
        let account = serde_json::json!({
            "type": "service_account",
            "client_email": email,
            "private_key": key,
            "private_key_id": options.private_key_id.clone().unwrap_or_default(),
            "token_uri": "https://oauth2.googleapis.com/token",
        });
        builder = builder.with_service_account_key(account.to_string());
    } else if let Some((name, span)) =
        options.given.iter().find(|(name, _)| ["clientEmail", "privateKey"].contains(name))
    {
        return Err(Diagnostic::new(
            "INVALID_OPTION",
            format!("option `{name}` needs clientEmail and privateKey beside it"),
        )
        .at(*span)
        .into());
    }
    let store = Arc::new(builder.build().map_err(|e| misconfigured(&address.root, &e))?);
    Ok(Connection { store: store.clone(), pages: store, aws: None })
}

fn azure(address: &Address, options: &StoreOptions) -> Result<Connection> {
    let mut builder = MicrosoftAzureBuilder::from_env().with_container_name(&address.bucket).with_retry(retry());
    if let Some(account) = &address.account {
        builder = builder.with_account(account);
    }
    for (key, value) in [
        (AzureConfigKey::AuthorityId, options.tenant_id.as_deref()),
        (AzureConfigKey::ClientId, options.client_id.as_deref()),
        (AzureConfigKey::ClientSecret, reveal(&options.client_secret)),
    ] {
        if let Some(value) = value {
            builder = builder.with_config(key, value);
        }
    }
    if let Some(text) = reveal(&options.connection_string) {
        builder = by_connection_string(builder, text);
    }
    let store = Arc::new(builder.build().map_err(|e| misconfigured(&address.root, &e))?);
    Ok(Connection { store: store.clone(), pages: store, aws: None })
}

/// `DefaultEndpointsProtocol=https;AccountName=a;AccountKey=k;…`. Parts that are not about blobs do not matter.
fn by_connection_string(mut builder: MicrosoftAzureBuilder, text: &str) -> MicrosoftAzureBuilder {
    for (key, value) in text.split(';').filter_map(|part| part.split_once('=')) {
        builder = match key.trim() {
            "AccountName" => builder.with_account(value),
            "AccountKey" => builder.with_access_key(value),
            "SharedAccessSignature" => builder.with_config(AzureConfigKey::SasKey, value),
            "BlobEndpoint" => {
                let value = value.trim_end_matches('/');
                builder.with_allow_http(value.starts_with("http://")).with_endpoint(value.to_owned())
            }
            _ => builder,
        };
    }
    builder
}

/// A client for requests of our own.
pub fn client_options(allow_http: bool, timeout: Duration) -> ClientOptions {
    ClientOptions::new().with_allow_http(allow_http).with_timeout(timeout).with_connect_timeout(Duration::from_secs(5))
}
