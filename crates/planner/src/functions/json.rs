//! `get_json_object`: one value out of JSON text, by a path such as `$.a.b[0]`.
//!
//! Strings come without quotes, everything else as JSON text, what is not there as NULL; so do broken JSON and
//! broken paths.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, StringArray, StringBuilder};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::cast::as_string_array;
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

/// JSON functions.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let signature = Signature::exact(vec![DataType::Utf8, DataType::Utf8], Volatility::Immutable);
    vec![Arc::new(ScalarUDF::from(GetJsonObject { signature }))]
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct GetJsonObject {
    signature: Signature,
}

impl ScalarUDFImpl for GetJsonObject {
    fn name(&self) -> &str {
        "get_json_object"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [json, path] = arrays.as_slice() else {
            return exec_err!("get_json_object takes JSON text and a path");
        };
        let (json, path) = (as_string_array(json)?, as_string_array(path)?);
        Ok(ColumnarValue::Array(Arc::new(extract(json, path)) as ArrayRef))
    }
}

fn extract(json: &StringArray, paths: &StringArray) -> StringArray {
    let mut builder = StringBuilder::new();
    let mut last: Option<(&str, Option<Vec<Step>>)> = None;
    for (text, path) in json.iter().zip(paths.iter()) {
        let (Some(text), Some(path)) = (text, path) else {
            builder.append_null();
            continue;
        };
        if last.as_ref().is_none_or(|(known, _)| *known != path) {
            last = Some((path, steps(path)));
        }
        let steps = last.as_ref().and_then(|(_, steps)| steps.as_deref());
        builder.append_option(steps.and_then(|steps| value_at(text, steps)));
    }
    builder.finish()
}

#[derive(Debug, PartialEq)]
enum Step {
    Field(String),
    Index(usize),
}

/// `$.a['b'][0]` as steps; None when it is not a path.
fn steps(path: &str) -> Option<Vec<Step>> {
    let mut rest = path.trim().strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(tail) = rest.strip_prefix('.') {
            let end = tail.find(['.', '[']).unwrap_or(tail.len());
            if end == 0 {
                return None;
            }
            steps.push(Step::Field(tail[..end].to_string()));
            rest = &tail[end..];
        } else {
            let (inside, tail) = rest.strip_prefix('[')?.split_once(']')?;
            let quoted = inside.strip_prefix('\'').and_then(|name| name.strip_suffix('\''));
            steps.push(match quoted {
                Some(name) => Step::Field(name.to_string()),
                None => Step::Index(inside.trim().parse().ok()?),
            });
            rest = tail;
        }
    }
    Some(steps)
}

fn value_at(text: &str, steps: &[Step]) -> Option<String> {
    let document: serde_json::Value = serde_json::from_str(text).ok()?;
    let mut value = &document;
    for step in steps {
        value = match step {
            Step::Field(name) => value.get(name)?,
            Step::Index(index) => value.get(index)?,
        };
    }
    match value {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::{steps, value_at};

    #[test]
    fn paths_reach_into_objects_and_arrays() {
        let json = r#"{"a": {"b c": [1, "x", {"d": null}]}, "e": 1.50}"#;
        let at = |path: &str| steps(path).and_then(|steps| value_at(json, &steps));
        assert_eq!(at("$.a['b c'][1]").as_deref(), Some("x"));
        assert_eq!(at("$.a").as_deref(), Some(r#"{"b c":[1,"x",{"d":null}]}"#));
        assert_eq!(at("$.a['b c'][2].d"), None);
        assert_eq!(at("$.missing"), None);
        assert_eq!(at("a"), None);
        assert_eq!(at("$..a"), None);
        assert_eq!(steps("$").and_then(|steps| value_at("broken", &steps)), None);
    }
}
