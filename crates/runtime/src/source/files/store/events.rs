//! What a message of a notification queue says: which objects were created.
//!
//! Three envelopes are known: S3's own event, the same inside an SNS notification, and EventBridge's. S3 encodes keys
//! as in HTML forms, EventBridge does not. Nothing here talks to a queue.

use serde_json::Value;

/// An object that appeared.
#[derive(Debug, Clone, PartialEq)]
pub struct Created {
    /// Its bucket.
    pub bucket: String,
    /// Its key, decoded.
    pub key: String,
    /// Bytes, where the event tells.
    pub size: Option<u64>,
    /// When, milliseconds since 1970 UTC, where the event tells.
    pub at_ms: Option<i64>,
}

/// What is in one message; None when it is no envelope that is known. Other events than creations (removals, tests,
/// restores) give nothing.
pub fn parse(body: &str) -> Option<Vec<Created>> {
    events(&serde_json::from_str(body).ok()?, true)
}

fn events(message: &Value, may_be_wrapped: bool) -> Option<Vec<Created>> {
    if let Some(records) = message["Records"].as_array() {
        return records
            .iter()
            .map(record)
            .collect::<Option<Vec<_>>>()
            .map(|found| found.into_iter().flatten().collect());
    }
    if message["Event"] == "s3:TestEvent" {
        return Some(Vec::new());
    }
    if message["source"] == "aws.s3" {
        return bridged(message);
    }
    match &message["Message"] {
        Value::String(inner) if may_be_wrapped => events(&serde_json::from_str(inner).ok()?, false),
        _ => None,
    }
}

/// One of S3's records: a creation, or `Some(None)` for what does not matter.
fn record(record: &Value) -> Option<Option<Created>> {
    let name = record["eventName"].as_str()?;
    if !name.trim_start_matches("s3:").starts_with("ObjectCreated") {
        return Some(None);
    }
    let object = &record["s3"]["object"];
    Some(Some(Created {
        bucket: record["s3"]["bucket"]["name"].as_str()?.to_owned(),
        key: form_decoded(object["key"].as_str()?)?,
        size: object["size"].as_u64(),
        at_ms: time_ms(&record["eventTime"]),
    }))
}

fn bridged(message: &Value) -> Option<Vec<Created>> {
    if message["detail-type"] != "Object Created" {
        return Some(Vec::new());
    }
    let object = &message["detail"]["object"];
    Some(vec![Created {
        bucket: message["detail"]["bucket"]["name"].as_str()?.to_owned(),
        key: object["key"].as_str()?.to_owned(),
        size: object["size"].as_u64(),
        at_ms: time_ms(&message["time"]),
    }])
}

fn time_ms(value: &Value) -> Option<i64> {
    chrono::DateTime::parse_from_rfc3339(value.as_str()?).ok().map(|at| at.timestamp_millis())
}

/// `a+b%2Fc`: a blank, and an encoded byte. None when it is not encoded like that.
fn form_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                (high * 16 + low) as u8
            }
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

/// Replaces the longest of `rewrites`' prefixes that `bucket/key` has; the object's URL.
pub fn url(created: &Created, rewrites: &[(String, String)]) -> String {
    let path = format!("{}/{}", created.bucket, created.key);
    let fits = |from: &str| path.strip_prefix(from).filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let longest = rewrites.iter().filter(|(from, _)| fits(from).is_some()).max_by_key(|(from, _)| from.len());
    match longest.and_then(|(from, to)| fits(from).map(|rest| format!("{to}{rest}"))) {
        Some(rewritten) => match rewritten.strip_prefix("s3a://") {
            Some(rest) => format!("s3://{rest}"),
            None => rewritten,
        },
        None => format!("s3://{path}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    fn s3(name: &str, key: &str) -> Value {
        json!({"Records": [{"eventVersion": "2.1", "eventSource": "aws:s3", "eventTime": "2024-05-01T10:00:00.500Z",
            "eventName": name, "s3": {"bucket": {"name": "b"}, "object": {"key": key, "size": 7}}}]})
    }

    fn created(key: &str) -> Created {
        Created { bucket: "b".into(), key: key.into(), size: Some(7), at_ms: Some(1_714_557_600_500) }
    }

    #[test]
    fn creations_are_found_in_each_envelope() {
        let direct = s3("ObjectCreated:Put", "in/a+b%2B%C3%BC.json");
        assert_eq!(parse(&direct.to_string()).unwrap(), [created("in/a b+ü.json")]);
        let sns = json!({"Type": "Notification", "Message": direct.to_string()});
        assert_eq!(parse(&sns.to_string()).unwrap(), [created("in/a b+ü.json")]);
        let bridge = json!({"source": "aws.s3", "detail-type": "Object Created", "time": "2024-05-01T10:00:00.500Z",
            "detail": {"bucket": {"name": "b"}, "object": {"key": "in/a+b%20.json", "size": 7}}});
        assert_eq!(parse(&bridge.to_string()).unwrap(), [created("in/a+b%20.json")]);
    }

    #[test]
    fn other_events_give_nothing_and_other_texts_are_not_known() {
        assert_eq!(parse(&s3("ObjectRemoved:Delete", "in/a").to_string()).unwrap(), []);
        assert_eq!(parse(r#"{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"b"}"#).unwrap(), []);
        let removed = json!({"source": "aws.s3", "detail-type": "Object Deleted", "detail": {}});
        assert_eq!(parse(&removed.to_string()).unwrap(), []);
        for odd in [
            "",
            "hello",
            "{}",
            r#"{"Records":[{"eventName":"ObjectCreated:Put"}]}"#,
            r#"{"Message":"{\"Message\":\"{}\"}"}"#,
        ] {
            assert_eq!(parse(odd), None, "{odd}");
        }
        assert_eq!(parse(&s3("ObjectCreated:Put", "a%2").to_string()), None);
    }

    #[test]
    fn the_longest_prefix_is_rewritten() {
        let rewrites = [("b".to_owned(), "s3://c".to_owned()), ("b/in".to_owned(), "s3a://d/x".to_owned())];
        assert_eq!(url(&created("in/a"), &rewrites), "s3://d/x/a");
        assert_eq!(url(&created("inn/a"), &rewrites), "s3://c/inn/a");
        assert_eq!(url(&created("in/a"), &[]), "s3://b/in/a");
    }
}
