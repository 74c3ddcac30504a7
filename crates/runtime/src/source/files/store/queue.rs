//! An SQS queue: receiving messages and deleting them, over its JSON protocol.
//!
//! Two kinds of requests, signed as the bucket's are, do not need an SDK. A request that fails for reasons that pass
//! (network, throttling, the service's own trouble) is sent again a few times. Knows nothing of what messages say.

use std::time::Duration;

use alluvium_parser::{Diagnostic, Span};
use object_store::HeaderValue;
use object_store::aws::AwsAuthorizer;
use object_store::client::{HttpClient, HttpConnector, HttpRequest, ReqwestConnector};
use serde_json::{Value, json};

use super::connect::{Aws, client_options};
use super::failure::{misconfigured, queue_error};
use crate::error::{Error, Result};

/// Messages of one request, at most: the service's limit.
pub const BATCH: usize = 10;

/// How long a message that was received stays away from others. Within that time it is remembered durably and
/// deleted; if the process dies before, it comes again after it.
const VISIBILITY_S: u32 = 30;

/// Longer than the longest wait for messages.
const TIMEOUT: Duration = Duration::from_secs(40);

/// Waits between attempts, ms.
const BACKOFF_MS: [u64; 5] = [100, 400, 1600, 5000, 10_000];

/// A queue that can be asked. Clones share the client.
#[derive(Clone)]
pub struct Queue {
    url: String,
    endpoint: String,
    region: String,
    aws: Aws,
    client: HttpClient,
}

/// A message, as received.
#[derive(Debug, Clone)]
pub struct Message {
    /// What it says.
    pub body: String,
    /// With which it is deleted.
    pub receipt: String,
}

impl Queue {
    /// The queue at `url`. Nothing is sent yet. Errors: INVALID_OPTION, STORE_CONFIGURATION.
    pub fn new(url: &str, aws: Aws) -> Result<Queue> {
        let Some((scheme, rest)) = url.split_once("://") else { return Err(odd(url)) };
        let host = rest.split('/').next().unwrap_or_default();
        if host.is_empty() || rest.len() <= host.len() + 1 || url::Url::parse(url).is_err() {
            return Err(odd(url));
        }
        let region = region_of(host).map_or_else(|| aws.region.clone(), str::to_owned);
        let connector = ReqwestConnector::default();
        let client =
            connector.connect(&client_options(scheme == "http", TIMEOUT)).map_err(|e| misconfigured(url, &e))?;
        Ok(Queue { url: url.to_owned(), endpoint: format!("{scheme}://{host}/"), region, aws, client })
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Up to [`BATCH`] messages; waits up to `wait_s` seconds (at most 20) for the first.
    pub async fn receive(&self, wait_s: u32) -> Result<Vec<Message>> {
        let request = json!({
            "QueueUrl": self.url,
            "MaxNumberOfMessages": BATCH,
            "WaitTimeSeconds": wait_s,
            "VisibilityTimeout": VISIBILITY_S,
        });
        let answer = self.call("ReceiveMessage", &request).await?;
        let messages = answer["Messages"].as_array().map(Vec::as_slice).unwrap_or_default();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Ok(messages
            .iter()
            .filter_map(|m| Some(Message { body: text(&m["Body"])?, receipt: text(&m["ReceiptHandle"])? }))
            .collect())
    }

    /// Deletes messages, at most [`BATCH`]. One that could not be deleted comes again, and is known then.
    pub async fn delete(&self, receipts: &[String]) -> Result<()> {
        let entry = |(id, receipt): (usize, &String)| json!({"Id": id.to_string(), "ReceiptHandle": receipt});
        let entries: Vec<Value> = receipts.iter().enumerate().map(entry).collect();
        self.call("DeleteMessageBatch", &json!({"QueueUrl": self.url, "Entries": entries})).await.map(|_| ())
    }

    async fn call(&self, action: &str, request: &Value) -> Result<Value> {
        let mut waits = BACKOFF_MS.iter();
        loop {
            let (status, body) = match self.send(action, request).await? {
                Ok((status, body)) if (200..300).contains(&status) => {
                    let empty = body.trim().is_empty();
                    let parsed = if empty { Ok(Value::Null) } else { serde_json::from_str(&body) };
                    return parsed.map_err(|_| queue_error("read", &self.url, status, &body));
                }
                Ok(answer) => answer,
                Err(network) => (0, network),
            };
            let passes = status == 0 || status == 429 || status >= 500 || body.contains("Throttl");
            match waits.next().filter(|_| passes) {
                Some(wait) => tokio::time::sleep(Duration::from_millis(*wait)).await,
                None => return Err(queue_error("read", &self.url, status, &body)),
            }
        }
    }

    /// One attempt: status and body, or what the network said.
    async fn send(&self, action: &str, request: &Value) -> Result<std::result::Result<(u16, String), String>> {
        let credential = self.aws.credentials.get_credential().await;
        let credential = credential.map_err(|e| super::failure::store_error("read", &self.url, &e))?;
        let bad = |what: &str| Error::internal(format!("a request to `{}` has a bad {what}", self.url));
        let mut http = HttpRequest::new(request.to_string().into());
        *http.method_mut() = "POST".parse().map_err(|_| bad("method"))?;
        *http.uri_mut() = self.endpoint.parse().map_err(|_| odd(&self.url))?;
        let target = HeaderValue::from_str(&format!("AmazonSQS.{action}")).map_err(|_| bad("target"))?;
        http.headers_mut().insert("x-amz-target", target);
        http.headers_mut().insert("content-type", HeaderValue::from_static("application/x-amz-json-1.0"));
        AwsAuthorizer::new(&credential, "sqs", &self.region).authorize(&mut http, None);
        let answer = match self.client.execute(http).await {
            Ok(answer) => answer,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let status = answer.status().as_u16();
        match answer.into_body().bytes().await {
            Ok(bytes) => Ok(Ok((status, String::from_utf8_lossy(&bytes).into_owned()))),
            Err(error) => Ok(Err(error.to_string())),
        }
    }
}

/// `eu-central-1` of `sqs.eu-central-1.amazonaws.com`.
fn region_of(host: &str) -> Option<&str> {
    let rest = host.strip_prefix("sqs.")?;
    let (region, domain) = rest.split_once('.')?;
    domain.starts_with("amazonaws.com").then_some(region)
}

fn odd(url: &str) -> Error {
    Diagnostic::new("INVALID_OPTION", format!("queueUrl `{url}` is not the URL of a queue"))
        .at(Span::UNKNOWN)
        .help("it has the form https://sqs.eu-central-1.amazonaws.com/123456789012/my-queue")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_is_in_the_queues_url() {
        assert_eq!(region_of("sqs.eu-central-1.amazonaws.com"), Some("eu-central-1"));
        assert_eq!(region_of("sqs.cn-north-1.amazonaws.com.cn"), Some("cn-north-1"));
        assert_eq!(region_of("127.0.0.1:5000"), None);
    }
}
