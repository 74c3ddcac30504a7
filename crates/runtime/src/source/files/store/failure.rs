//! Errors of object stores and queues, told by what the user can do about them.
//!
//! Services answer with XML, JSON or a status alone; what is told is their code and sentence, never their headers. By
//! the time an error arrives here, requests have been repeated as often as is sensible.

use alluvium_parser::Diagnostic;

use crate::error::Error;

const RESTART: &str = "the stream can be started again when the cause is gone";

/// Why an object could not be read.
#[derive(Debug)]
pub enum ObjectError {
    /// It is not there.
    Missing,
    /// Anything else.
    Failed(Error),
}

impl ObjectError {
    /// Tells a missing object from other failures.
    pub fn of(url: &str, error: &object_store::Error) -> ObjectError {
        match error {
            object_store::Error::NotFound { .. } if !says(&chain(error), "NoSuchBucket") => ObjectError::Missing,
            object_store::Error::Precondition { .. } => ObjectError::Failed(object_changed(url)),
            other => ObjectError::Failed(store_error("read", url, other)),
        }
    }
}

/// A failed request to an object store.
pub fn store_error(doing: &str, url: &str, error: &object_store::Error) -> Error {
    let text = chain(error);
    let told = told(&text);
    let whole = |code: &'static str, why: &str, help: &[&str]| {
        environment(code, format!("cannot {doing} `{url}`: {why}"), help)
    };
    if let object_store::Error::InvalidPath { .. } = error {
        return whole(
            "OBJECT_NAME",
            &format!("{told}; keys with empty parts, `.` or `..` cannot be read"),
            &["rename the object, or read a path that does not hold it"],
        );
    }
    if says(&text, "NoSuchBucket") || says(&text, "ContainerNotFound") || says(&text, "bucket does not exist") {
        return whole(
            "BUCKET_NOT_FOUND",
            "there is no such bucket",
            &["check the bucket's name", "check region, endpoint and account"],
        );
    }
    if says(&text, "PermanentRedirect")
        || says(&text, "AuthorizationHeaderMalformed")
        || says(&text, "configured region")
    {
        return whole(
            "WRONG_REGION",
            &format!("the bucket is in another region: {told}"),
            &["give the bucket's region: 'cloudFiles.region', 'eu-central-1', or set AWS_REGION"],
        );
    }
    if says(&text, "169.254.169.254") || says(&text, "metadata.google.internal") {
        return whole(
            "CREDENTIALS_MISSING",
            "no credentials were found",
            &[
                "set them in the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_KEY) or as options",
            ],
        );
    }
    match error {
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            whole("PERMISSION_DENIED", &told, &["give these credentials the right to list and read it, or use others"])
        }
        object_store::Error::NotFound { .. } => {
            whole("PATH_NOT_FOUND", &told, &["check the path, region and endpoint"])
        }
        _ if says(&text, "403 Forbidden") || says(&text, "401 Unauthorized") => {
            whole("PERMISSION_DENIED", &told, &["give these credentials the right to list and read it, or use others"])
        }
        _ => whole("STORE_UNREACHABLE", &told, &["check the network and the endpoint", RESTART]),
    }
}

/// A connection that cannot even be tried.
pub fn misconfigured(url: &str, error: &object_store::Error) -> Error {
    environment(
        "STORE_CONFIGURATION",
        format!("`{url}` cannot be reached with these settings: {}", told(&chain(error))),
        &["check the options, and the environment's AWS_, GOOGLE_ or AZURE_ variables"],
    )
}

/// A failed request to a queue: an HTTP status and what the service said.
pub fn queue_error(doing: &str, url: &str, status: u16, body: &str) -> Error {
    let told = told(body);
    let message = format!("cannot {doing} queue `{url}`: {told}");
    if says(body, "NonExistentQueue") || says(body, "QueueDoesNotExist") {
        return environment("QUEUE_NOT_FOUND", message, &["check queueUrl and its region"]);
    }
    match status {
        401 | 403 => environment(
            "PERMISSION_DENIED",
            message,
            &["give these credentials sqs:ReceiveMessage and sqs:DeleteMessage on the queue"],
        ),
        _ if says(body, "AccessDenied")
            || says(body, "InvalidClientTokenId")
            || says(body, "SignatureDoesNotMatch") =>
        {
            environment("PERMISSION_DENIED", message, &["check the credentials and what they may do with the queue"])
        }
        _ => environment("QUEUE_UNREACHABLE", message, &["check the network and queueUrl", RESTART]),
    }
}

/// An object that was replaced while it was being read.
pub fn object_changed(url: &str) -> Error {
    environment(
        "OBJECT_CHANGED",
        format!("object `{url}` was replaced while it was being read"),
        &["write a new object instead of replacing one", RESTART],
    )
}

fn environment(code: &'static str, message: String, help: &[&str]) -> Error {
    let diagnostic = Diagnostic::new(code, message);
    Error::Environment(Box::new(help.iter().fold(diagnostic, |diagnostic, line| diagnostic.help(*line))))
}

/// An error with all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

fn says(text: &str, part: &str) -> bool {
    text.contains(part)
}

/// The service's own code and sentence where there are any, else the text, cut where it gets long.
fn told(text: &str) -> String {
    const LONGEST: usize = 400;
    let between = |open: &str, close: &str| {
        let from = text.find(open)? + open.len();
        let to = text[from..].find(close)? + from;
        Some(text[from..to].trim()).filter(|part| !part.is_empty())
    };
    let code = between("<Code>", "</Code>")
        .or_else(|| between("\"__type\":\"", "\"").or_else(|| between("\"__type\": \"", "\"")));
    let message = between("<Message>", "</Message>")
        .or_else(|| between("essage\":\"", "\"").or_else(|| between("essage\": \"", "\"")));
    match (code, message) {
        (Some(code), Some(message)) => format!("{}: {message}", code.rsplit('#').next().unwrap_or(code)),
        (Some(code), None) => code.rsplit('#').next().unwrap_or(code).to_owned(),
        _ if text.len() > LONGEST => {
            let end = (0..=LONGEST).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            format!("{} …", &text[..end])
        }
        _ if text.is_empty() => "the service gave no reason".to_owned(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: text.to_owned().into() }
    }

    #[test]
    fn failures_are_told_by_what_to_do() {
        let code = |text: &str| store_error("list", "s3://b/x", &generic(text)).diagnostic().code;
        assert_eq!(code("<Error><Code>NoSuchBucket</Code></Error>"), "BUCKET_NOT_FOUND");
        assert_eq!(code("301 <Code>PermanentRedirect</Code>"), "WRONG_REGION");
        assert_eq!(code("error sending request to http://169.254.169.254/latest"), "CREDENTIALS_MISSING");
        assert_eq!(code("connection refused"), "STORE_UNREACHABLE");
        assert_eq!(
            queue_error("read", "u", 400, r#"{"__type":"com.amazonaws.sqs#QueueDoesNotExist"}"#).diagnostic().code,
            "QUEUE_NOT_FOUND"
        );
        assert_eq!(queue_error("read", "u", 403, "").diagnostic().code, "PERMISSION_DENIED");
        assert_eq!(queue_error("read", "u", 500, "").diagnostic().code, "QUEUE_UNREACHABLE");
    }

    #[test]
    fn the_services_sentence_is_told_without_its_wrapping() {
        assert_eq!(told("x <Error><Code>A</Code><Message>no way</Message></Error>"), "A: no way");
        assert_eq!(told(r#"{"__type":"com.amazonaws.sqs#Q","message":"gone"}"#), "Q: gone");
        assert!(told(&"ü".repeat(600)).ends_with('…'));
    }
}
