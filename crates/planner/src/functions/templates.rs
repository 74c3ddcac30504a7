//! Spark's functions that are expressions of others: written as SQL, with the arguments in the places `arg1`, `arg2`, …
//!
//! No template may call a function that is itself replaced by a template of the same name.

use std::ops::ControlFlow;

use alluvium_parser::AlluviumDialect;
use sqlparser::ast::{self, Ident, VisitMut, VisitorMut};
use sqlparser::parser::Parser;

use super::lambda::SORT_BY;
use super::spellings::{arguments, call};

/// Name, number of arguments, expression.
const TEMPLATES: &[(&str, usize, &str)] = &[
    (
        "array_position",
        2,
        "CASE WHEN arg1 IS NULL OR arg2 IS NULL THEN NULL ELSE coalesce(CAST(list_position(arg1, arg2) AS BIGINT), 0) END",
    ),
    ("array_prepend", 2, "list_push_front(arg2, arg1)"),
    ("array_size", 1, "CAST(cardinality(arg1) AS INT)"),
    ("e", 0, "exp(1)"),
    ("equal_null", 2, "(arg1 <=> arg2)"),
    ("get", 2, "CASE WHEN arg2 < 0 THEN NULL ELSE array_element(arg1, arg2 + 1) END"),
    ("iff", 3, "CASE WHEN arg1 THEN arg2 ELSE arg3 END"),
    (
        "make_timestamp",
        6,
        "CAST(format_string('%04d-%02d-%02d %02d:%02d:%09.6f', CAST(arg1 AS INT), CAST(arg2 AS INT), CAST(arg3 AS INT), \
         CAST(arg4 AS INT), CAST(arg5 AS INT), CAST(arg6 AS DOUBLE)) AS TIMESTAMP)",
    ),
    ("map_contains_key", 2, "array_contains(map_keys(arg1), arg2)"),
    ("nullifzero", 1, "nullif(arg1, 0)"),
    ("positive", 1, "(arg1)"),
    ("replace", 2, "replace(arg1, arg2, '')"),
    ("sign", 1, "signum(arg1)"),
    ("size", 1, "CAST(cardinality(arg1) AS INT)"),
    ("space", 1, "repeat(' ', arg1)"),
    ("try_element_at", 2, "element_at(arg1, arg2)"),
    ("weekday", 1, "(date_part('DAYOFWEEK_ISO', arg1) - 1)"),
    ("zeroifnull", 1, "coalesce(arg1, 0)"),
];

/// What a call of `name` stands for, if it is one of those here.
pub(super) fn expanded(function: &ast::Function, name: &str) -> Option<ast::Expr> {
    if matches!(
        name,
        "array_sort"
            | "dateadd"
            | "date_add"
            | "timestampadd"
            | "datediff"
            | "date_diff"
            | "timestampdiff"
            | "decode"
            | "encode"
            | "map_concat"
    ) {
        return by_form(name, &arguments(function)?);
    }
    if !TEMPLATES.iter().any(|(known, _, _)| *known == name) {
        return None;
    }
    let args = match &function.args {
        ast::FunctionArguments::List(list) if list.args.is_empty() => Vec::new(),
        _ => arguments(function)?,
    };
    let (_, _, template) = TEMPLATES.iter().find(|(known, count, _)| *known == name && *count == args.len())?;
    filled(template, args)
}

fn filled(template: &str, args: Vec<ast::Expr>) -> Option<ast::Expr> {
    let mut expr = Parser::new(&AlluviumDialect).try_with_sql(template).ok()?.parse_expr().ok()?;
    let _ = expr.visit(&mut Fill { args, inside: 0 });
    Some(expr)
}

/// Puts arguments into their places, and does not look into them.
struct Fill {
    args: Vec<ast::Expr>,
    inside: usize,
}

impl Fill {
    fn argument(&self, expr: &ast::Expr) -> Option<&ast::Expr> {
        let ast::Expr::Identifier(ident) = expr else { return None };
        self.args.get(ident.value.strip_prefix("arg")?.parse::<usize>().ok()?.checked_sub(1)?)
    }
}

impl VisitorMut for Fill {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
        if self.inside == 0
            && let Some(argument) = self.argument(expr).cloned()
        {
            *expr = ast::Expr::Nested(Box::new(argument));
            self.inside = 1;
        } else if self.inside > 0 {
            self.inside += 1;
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, _expr: &mut ast::Expr) -> ControlFlow<()> {
        self.inside = self.inside.saturating_sub(1);
        ControlFlow::Continue(())
    }
}

/// Functions whose form decides what they are.
fn by_form(name: &str, args: &[ast::Expr]) -> Option<ast::Expr> {
    match (name, args) {
        ("array_sort", [array, compare @ ast::Expr::Lambda(_)]) => {
            Some(call(SORT_BY, vec![array.clone(), compare.clone()]))
        }
        ("dateadd", [date, days]) => Some(call("date_add", vec![date.clone(), days.clone()])),
        ("dateadd" | "date_add" | "timestampadd", [unit, count, time]) => {
            let moved = call("timestampadd", vec![unit_name(unit)?, count.clone(), time.clone()]);
            // A call that has its unit as a text already is one of ours.
            (!matches!(unit, ast::Expr::Value(_))).then_some(())?;
            Some(ast::Expr::Cast {
                kind: ast::CastKind::Cast,
                expr: Box::new(moved),
                data_type: ast::DataType::Timestamp(None, ast::TimezoneInfo::None),
                array: false,
                format: None,
            })
        }
        ("datediff" | "date_diff" | "timestampdiff", [unit, start, end]) => {
            (!matches!(unit, ast::Expr::Value(_))).then_some(())?;
            Some(call("timestampdiff", vec![unit_name(unit)?, start.clone(), end.clone()]))
        }
        ("decode", [value, rest @ ..]) if rest.len() > 1 => {
            let conditions = rest.chunks_exact(2).map(|pair| ast::CaseWhen {
                condition: ast::Expr::BinaryOp {
                    left: Box::new(ast::Expr::Nested(Box::new(value.clone()))),
                    op: ast::BinaryOperator::Spaceship,
                    right: Box::new(ast::Expr::Nested(Box::new(pair[0].clone()))),
                },
                result: pair[1].clone(),
            });
            Some(ast::Expr::Case {
                case_token: ast::helpers::attached_token::AttachedToken::empty(),
                end_token: ast::helpers::attached_token::AttachedToken::empty(),
                operand: None,
                conditions: conditions.collect(),
                else_result: (rest.len() % 2 == 1).then(|| rest.last().cloned().map(Box::new)).flatten(),
            })
        }
        ("encode" | "decode", [value, charset @ ast::Expr::Value(given)]) => {
            // In hexadecimal or base64 it is DataFusion's.
            let text = given.value.clone().into_string()?.to_ascii_lowercase();
            let of_bytes = matches!(text.as_str(), "hex" | "base64" | "base64pad");
            (!of_bytes).then(|| call(&format!("{name}_text"), vec![value.clone(), charset.clone()]))
        }
        ("map_concat", [_, _, ..]) => {
            let entries = args.iter().map(|map| call("map_entries", vec![map.clone()])).collect();
            Some(call("map_from_entries", vec![call("concat", entries)]))
        }
        _ => None,
    }
}

/// `DAY` as the text 'DAY'.
fn unit_name(unit: &ast::Expr) -> Option<ast::Expr> {
    let name = match unit {
        ast::Expr::Identifier(Ident { value, quote_style: None, .. }) => value.to_uppercase(),
        _ => return None,
    };
    Some(ast::Expr::Value(ast::Value::SingleQuotedString(name).with_empty_span()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_template_can_be_read() {
        for (name, count, template) in TEMPLATES {
            let args = (0..*count).map(|at| ast::Expr::Identifier(Ident::new(format!("c{at}")))).collect();
            let expr = filled(template, args).unwrap_or_else(|| unreachable!("{name}"));
            assert!(!expr.to_string().contains("arg"), "{expr}");
        }
    }
}
