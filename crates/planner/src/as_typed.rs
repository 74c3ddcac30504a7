//! Texts of expressions as one types them: DataFusion shows a literal with its Arrow type (`Utf8("a")`), a field as a call, and
//! names that stand in for windows. For people only: nothing is stored or compared in this form.

use std::time::Duration;

use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::temporal_conversions::timestamp_us_to_datetime;
use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::{BinaryExpr, Expr};

use crate::casts_apart::APART;
use crate::ddl::sql_type;
use crate::errors::without_stand_ins;
use crate::explain::Length;
use crate::functions::arithmetic::plain_arithmetic;
use crate::functions::markers::set_apart;
use crate::streaming::{is_widened, sql_text};
use crate::windows::WINDOW_COLUMN;

/// An expression for readers: as [`sql_text`], with literals as one writes them and brackets where they are needed.
pub(crate) fn shown(expr: &Expr) -> String {
    let text = |text: String| Expr::Column(Column::new_unqualified(text));
    let apart = expr.clone().transform_up(|expr| {
        let written = match &expr {
            Expr::ScalarFunction(call) => set_apart(call).map(|written| text(written.to_string())),
            _ => None,
        };
        Ok(written.map_or_else(|| Transformed::no(expr), Transformed::yes))
    });
    let apart = apart.map_or_else(|_| expr.clone(), |apart| apart.data);
    let written = apart.transform_up(|expr| {
        let expr = plain_arithmetic(&expr).unwrap_or(expr);
        Ok(Transformed::yes(match expr {
            Expr::Literal(_, _) => text(literals(&expr.to_string())),
            Expr::Cast(ref cast) if !is_widened(cast) => {
                text(format!("CAST({} AS {})", sql_text(&cast.expr), sql_type(cast.field.data_type())))
            }
            Expr::TryCast(ref cast) => {
                text(format!("try_cast({} AS {})", sql_text(&cast.expr), sql_type(cast.field.data_type())))
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let bracketed = |side: Box<Expr>, least: u8| match side.as_ref() {
                    Expr::BinaryExpr(inner) if inner.op.precedence() < least => text(format!("({})", sql_text(&side))),
                    _ => *side,
                };
                let (left, right) = (bracketed(left, op.precedence()), bracketed(right, op.precedence() + 1));
                Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
            }
            other => other,
        }))
    });
    as_typed(&written.map_or_else(|_| sql_text(expr), |written| sql_text(&written.data)))
}

/// `text` with literals, types, fields and names as SQL has them.
pub(crate) fn as_typed(text: &str) -> String {
    let mut text = fields(&types(&without_apart(&literals(&without_stand_ins(text)))));
    for (stands_for, shown) in STAND_INS {
        text = text.replace(stands_for, shown);
    }
    for (stands_for, shown) in [(WINDOW_COLUMN, "window"), ("__first_", "first")] {
        while let Some(at) = text.find(stands_for) {
            let end = at + stands_for.len();
            let digits = text[end..].bytes().take_while(u8::is_ascii_digit).count();
            text.replace_range(at..end + digits, shown);
        }
    }
    text
}

/// Names from inside, and what they stand for. The longer ones come first.
const STAND_INS: [(&str, &str); 7] = [
    ("__windows(", "window("),
    ("__pane(", "pane of window("),
    ("__grouping_id", "grouping_id()"),
    ("__datafusion_extracted_", "field_"),
    ("__unnest_placeholder(", "explode("),
    (",depth=1", ""),
    ("|depth=1", ""),
];

/// What stands in the calls that only change a name: the text of what they are called around.
fn without_apart(text: &str) -> String {
    let mut text = text.to_string();
    let call = format!("{APART}(");
    while let Some(at) = text.find(&call) {
        let inner = &text[at + call.len()..];
        let end = closing(inner).unwrap_or(inner.len());
        let written = inner[..end].split_once(",'").or(inner[..end].split_once(", '"));
        let written = written.map_or("", |(_, written)| written.trim_end_matches('\'')).replace("''", "'");
        let behind = (at + call.len() + end + 1).min(text.len());
        text.replace_range(at..behind, &written);
    }
    text
}

/// What a literal of a type is in SQL, from what stands in the brackets behind the type's name.
type Shown = fn(&str) -> Option<String>;

const LITERALS: [(&str, Shown); 19] = [
    ("LargeUtf8(", quoted),
    ("Utf8View(", quoted),
    ("Utf8(", quoted),
    ("UInt8(", plain),
    ("UInt16(", plain),
    ("UInt32(", plain),
    ("UInt64(", plain),
    ("Int8(", plain),
    ("Int16(", plain),
    ("Int32(", plain),
    ("Int64(", plain),
    ("Float32(", plain),
    ("Float64(", plain),
    ("Boolean(", |value| Some(value.to_uppercase())),
    ("Date32(", |value| Some(format!("DATE {}", quoted(value)?))),
    ("Decimal128(", decimal),
    ("TimestampMicrosecond(", timestamp),
    ("IntervalMonthDayNano(", interval),
    ("DurationMicrosecond(", |value| length(value.trim_matches('"').parse().ok()?)),
];

fn literals(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let known = LITERALS.iter().find(|(name, _)| rest.starts_with(name) && !ends_in_word(&out));
        let shown = known.and_then(|(name, shown)| {
            let inner = &rest[name.len()..];
            let end = match inner.starts_with('"') {
                true => 1 + inner[1..].find("\")")? + 1,
                false => closing(inner)?,
            };
            Some((shown(&inner[..end])?, name.len() + end + 1))
        });
        match shown {
            Some((shown, length)) => {
                out.push_str(&shown);
                rest = &rest[length..];
            }
            None => {
                let next = rest.chars().next().map_or(1, char::len_utf8);
                out.push_str(&rest[..next]);
                rest = &rest[next..];
            }
        }
    }
    out
}

fn ends_in_word(text: &str) -> bool {
    text.ends_with(|last: char| last.is_alphanumeric() || last == '_')
}

/// Characters outside of brackets and of texts in quotes, and where they stand; a bracket that closes one before `text` is
/// among them.
fn outside(text: &str) -> impl Iterator<Item = (usize, char)> {
    let (mut depth, mut in_text) = (0_usize, false);
    text.char_indices().filter(move |(_, c)| match c {
        '\'' => {
            in_text = !in_text;
            false
        }
        _ if in_text => false,
        '(' => {
            depth += 1;
            false
        }
        ')' if depth > 0 => {
            depth -= 1;
            false
        }
        _ => depth == 0,
    })
}

/// Where the bracket closes that was open before `text`.
fn closing(text: &str) -> Option<usize> {
    outside(text).find_map(|(at, c)| (c == ')').then_some(at))
}

fn plain(value: &str) -> Option<String> {
    Some(value.to_string())
}

fn quoted(value: &str) -> Option<String> {
    match value {
        "NULL" => plain(value),
        _ => Some(format!("'{}'", value.strip_prefix('"')?.strip_suffix('"')?.replace('\'', "''"))),
    }
}

/// `1.50,10,2`; `10, 2` is the type of a cast.
fn decimal(value: &str) -> Option<String> {
    let (digits, width) = value.split_once(',')?;
    width.contains(',').then(|| digits.to_string())
}

/// `1767225600000000, Some("UTC")`
fn timestamp(value: &str) -> Option<String> {
    let (micros, _) = value.split_once(',')?;
    match micros {
        "NULL" => plain(micros),
        micros => Some(format!("TIMESTAMP '{}'", timestamp_us_to_datetime(micros.parse().ok()?)?)),
    }
}

/// `"IntervalMonthDayNano { months: 0, days: 1, nanoseconds: 0 }"`
fn interval(value: &str) -> Option<String> {
    if value == "NULL" {
        return plain(value);
    }
    let number = |name: &str| -> Option<i64> {
        let rest = &value[value.find(&format!("{name}: "))? + name.len() + 2..];
        rest[..rest.find([',', ' ', '}'])?].parse().ok()
    };
    let (months, days, nanoseconds) = (number("months")?, number("days")?, number("nanoseconds")?);
    match (months, days, nanoseconds) {
        (0, days, nanoseconds) => length(days.checked_mul(86_400_000_000)?.checked_add(nanoseconds / 1000)?),
        (months, 0, 0) => Some(format!("INTERVAL {months} MONTHS")),
        _ => None,
    }
}

fn length(micros: i64) -> Option<String> {
    let sign = if micros < 0 { "-" } else { "" };
    let length = Length(Duration::from_micros(micros.unsigned_abs()));
    Some(format!("{sign}INTERVAL {length}"))
}

/// `CAST(v AS Int64)` with the language's names of types.
fn types(text: &str) -> String {
    const AS: &str = " AS ";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(AS) {
        let (before, behind) = rest.split_at(at + AS.len());
        out.push_str(before);
        rest = behind;
        if let Some(end) = closing(behind)
            && let Ok(data_type) = behind[..end].parse::<DataType>()
        {
            out.push_str(&sql_type(&data_type));
            rest = &behind[end..];
        }
    }
    out.push_str(rest);
    out
}

/// The arguments of a call, which commas outside of brackets and texts divide.
fn arguments(text: &str) -> Vec<&str> {
    let (mut parts, mut begun) = (Vec::new(), 0);
    for (at, _) in outside(text).filter(|(_, c)| *c == ',') {
        parts.push(&text[begun..at]);
        begun = at + 1;
    }
    parts.push(&text[begun..]);
    parts
}

/// `get_field(window, 'start')` as `window.start`.
fn fields(text: &str) -> String {
    const CALL: &str = "get_field(";
    let mut text = text.to_string();
    let mut before = text.len();
    while let Some(at) = text[..before].rfind(CALL) {
        before = at;
        let inner = &text[at + CALL.len()..];
        let Some(end) = closing(inner) else { continue };
        let parts = arguments(&inner[..end]);
        let Some((value, names)) = parts.split_first() else { continue };
        let names: Option<Vec<&str>> =
            names.iter().map(|name| name.trim().strip_prefix('\'')?.strip_suffix('\'')).collect();
        let Some(names) = names else { continue };
        let field = format!("{value}.{}", names.join("."));
        text.replace_range(at..at + CALL.len() + end + 1, &field);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::as_typed;

    #[test]
    fn texts_read_as_sql() {
        let cases = [
            (r#"window(__relation_0.ts,Utf8("10 minutes"))"#, "window(ts,'10 minutes')"),
            (
                r#"get_field(window(ts, Utf8("5 minutes")), Utf8("start")) AS start"#,
                "window(ts, '5 minutes').start AS start",
            ),
            (r#"get_field(get_field(a, Utf8("b")), Utf8("c"))"#, "a.b.c"),
            (r#"get_field(f(a, b), Utf8("b"), Utf8("c")) AS x"#, "f(a, b).b.c AS x"),
            ("count(Int64(1)) > Int64(-2)", "count(1) > -2"),
            (
                "CAST(CAST(v AS Int32) AS Decimal128(10, 2)) = Decimal128(-0.05,10,2)",
                "CAST(CAST(v AS INT) AS DECIMAL(10,2)) = -0.05",
            ),
            ("v = Boolean(true) AND s = Utf8(NULL)", "v = TRUE AND s = NULL"),
            (r#"s = Utf8("it's (a)")"#, "s = 'it''s (a)'"),
            (r#"ts >= TimestampMicrosecond(1767225600000000, Some("UTC"))"#, "ts >= TIMESTAMP '2026-01-01 00:00:00'"),
            (
                r#"IntervalMonthDayNano("IntervalMonthDayNano { months: 0, days: 1, nanoseconds: 0 }")"#,
                "INTERVAL 1 day",
            ),
            (r#"window(ts, Utf8("1 minute")) AS __window_0"#, "window(ts, '1 minute') AS window"),
            (r#"sum(__apart(v,Utf8("CAST(v AS INT)"))) AS a"#, "sum(CAST(v AS INT)) AS a"),
            ("myInt64(x) AS Int64", "myInt64(x) AS Int64"),
        ];
        for (text, expected) in cases {
            assert_eq!(as_typed(text), expected);
        }
    }
}
