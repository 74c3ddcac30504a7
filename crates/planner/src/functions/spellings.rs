//! Spark's spellings of functions that DataFusion has under another name or as another expression.
//!
//! Works on the syntax tree, so that a column without an alias can still be named after what was typed.

use sqlparser::ast::{self, Ident};

use super::templates;

/// Spark's name, and DataFusion's for the same thing.
const RENAMED: &[(&str, &str)] = &[
    ("array_agg", "collect_list"),
    ("array_remove", "array_remove_all"),
    ("charindex", "locate"),
    ("endswith", "ends_with"),
    ("every", "bool_and"),
    ("explode", "unnest"),
    ("first", "first_value"),
    ("last", "last_value"),
    ("listagg", "string_agg"),
    ("lcase", "lower"),
    ("mean", "avg"),
    ("position", "locate"),
    // Of rows where neither is NULL, as a BIGINT.
    ("regr_count", "count"),
    ("regexp", "regexp_like"),
    ("some", "bool_or"),
    ("startswith", "starts_with"),
    ("try_avg", "avg"),
    ("std", "stddev_samp"),
    ("ucase", "upper"),
    ("variance", "var_samp"),
];

/// Functions that read one part of a date: Spark's name and the part.
const PARTS: &[(&str, &str)] = &[
    ("day", "DAY"),
    ("dayofmonth", "DAY"),
    ("dayofweek", "DAYOFWEEK"),
    ("dayofyear", "DOY"),
    ("month", "MONTH"),
    ("quarter", "QUARTER"),
    ("weekofyear", "WEEK"),
    ("year", "YEAR"),
];

/// The names that are understood here beside those of the registered functions.
pub(crate) fn known() -> impl Iterator<Item = &'static str> {
    let others = ["approx_count_distinct", "array_sort", "count_if", "grouping_id", "sort_array", "struct"];
    RENAMED.iter().chain(PARTS).map(|(name, _)| *name).chain(others)
}

/// The expression `function` stands for, if it is one of Spark's spellings.
pub(crate) fn respelled(function: &ast::Function) -> Option<ast::Expr> {
    let name = function.name.to_string().to_lowercase();
    let aggregate = without_nulls(function, &name).or_else(|| joined(function, &name));
    if let Some(aggregate) = aggregate.or_else(|| collected_once(function, &name)) {
        return Some(ast::Expr::Function(aggregate));
    }
    if let Some(expanded) = templates::expanded(function, &name) {
        return Some(expanded);
    }
    if let Some((_, to)) = RENAMED.iter().find(|(from, _)| *from == name) {
        return Some(ast::Expr::Function(renamed(function, to)));
    }
    let argument = only_argument(function);
    if let Some((_, part)) = PARTS.iter().find(|(from, _)| *from == name) {
        let part = ast::Expr::Value(ast::Value::SingleQuotedString((*part).to_string()).with_empty_span());
        return Some(ast::Expr::Function(called(function, "date_part", vec![part, argument?])));
    }
    match name.as_str() {
        "approx_count_distinct" => {
            let distinct = ast::Expr::Function(renamed(function, "approx_distinct"));
            Some(cast(distinct, ast::DataType::BigInt(None)))
        }
        "count" => count_of_several(function),
        "count_if" => {
            let one = ast::Expr::Value(ast::Value::Number("1".to_string(), false).with_empty_span());
            let case = ast::Expr::Case {
                case_token: ast::helpers::attached_token::AttachedToken::empty(),
                end_token: ast::helpers::attached_token::AttachedToken::empty(),
                operand: None,
                conditions: vec![ast::CaseWhen { condition: argument?, result: one }],
                else_result: None,
            };
            Some(ast::Expr::Function(called(function, "count", vec![case])))
        }
        "array_sort" => Some(sorted(function, argument?, true)),
        "sort_array" => match arguments(function)?.as_slice() {
            [array] => Some(sorted(function, array.clone(), false)),
            [array, ast::Expr::Value(ascending)] => match ascending.value {
                ast::Value::Boolean(true) => Some(sorted(function, array.clone(), false)),
                ast::Value::Boolean(false) => Some(call("array_reverse", vec![sorted(function, array.clone(), false)])),
                _ => None,
            },
            _ => None,
        },
        "struct" => Some(struct_call(&arguments(function)?)),
        "try_divide" => match arguments(function)?.as_slice() {
            [left, right] => {
                let zero = ast::Expr::Value(ast::Value::Number("0".to_string(), false).with_empty_span());
                Some(ast::Expr::Nested(Box::new(ast::Expr::BinaryOp {
                    left: Box::new(ast::Expr::Nested(Box::new(left.clone()))),
                    op: ast::BinaryOperator::Divide,
                    right: Box::new(call("nullif", vec![right.clone(), zero])),
                })))
            }
            _ => None,
        },
        "isnull" => Some(ast::Expr::IsNull(Box::new(argument?))),
        "isnotnull" => Some(ast::Expr::IsNotNull(Box::new(argument?))),
        _ => Some(cast(argument?, cast_target(&name)?)),
    }
}

/// `grouping_id(a, b)`, and without arguments of all the keys of the grouping sets, as `grouping`.
pub(crate) fn grouping_id(function: &ast::Function, keys: &[ast::Expr]) -> ast::Expr {
    let args = arguments(function).filter(|args| !args.is_empty()).unwrap_or_else(|| keys.to_vec());
    cast(ast::Expr::Function(called(function, "grouping", args)), ast::DataType::BigInt(None))
}

/// `first(x, true)` and `any_value(x) IGNORE NULLS` as `first_value(x) IGNORE NULLS`.
fn without_nulls(function: &ast::Function, name: &str) -> Option<ast::Function> {
    let to = match name {
        "first" | "first_value" | "any_value" => "first_value",
        "last" | "last_value" => "last_value",
        _ => return None,
    };
    let (arg, ignored) = match arguments(function)?.as_slice() {
        [arg, ast::Expr::Value(said)] => match said.value {
            ast::Value::Boolean(ignored) => (arg.clone(), ignored),
            _ => return None,
        },
        // As it stands, any_value is cheaper, and first and last are only renamed.
        [arg] if name == "any_value" && function.null_treatment == Some(ast::NullTreatment::IgnoreNulls) => {
            (arg.clone(), true)
        }
        _ => return None,
    };
    let mut function = called(function, to, vec![arg]);
    if ignored {
        function.null_treatment = Some(ast::NullTreatment::IgnoreNulls);
    }
    Some(function)
}

/// `collect_list(DISTINCT x)`, which is `collect_set(x)`.
fn collected_once(function: &ast::Function, name: &str) -> Option<ast::Function> {
    let mut set = renamed(function, "collect_set");
    match &mut set.args {
        ast::FunctionArguments::List(list)
            if matches!(name, "array_agg" | "collect_list")
                && list.duplicate_treatment == Some(ast::DuplicateTreatment::Distinct) =>
        {
            list.duplicate_treatment = None;
            Some(set)
        }
        _ => None,
    }
}

/// `listagg(x)`, whose texts have nothing between them, and `… WITHIN GROUP (ORDER BY …)`.
fn joined(function: &ast::Function, name: &str) -> Option<ast::Function> {
    if !matches!(name, "listagg" | "string_agg") {
        return None;
    }
    let mut args = arguments(function)?;
    if name == "string_agg" && args.len() > 1 && function.within_group.is_empty() {
        return None;
    }
    if args.len() == 1 {
        args.push(ast::Expr::Value(ast::Value::SingleQuotedString(String::new()).with_empty_span()));
    }
    let mut function = called(function, "string_agg", args);
    let order = std::mem::take(&mut function.within_group);
    if let ast::FunctionArguments::List(list) = &mut function.args
        && !order.is_empty()
    {
        list.clauses.push(ast::FunctionArgumentClause::OrderBy(order));
    }
    Some(function)
}

/// An array in ascending order, its NULLs at one end.
fn sorted(function: &ast::Function, array: ast::Expr, nulls_last: bool) -> ast::Expr {
    let text = |text: &str| ast::Expr::Value(ast::Value::SingleQuotedString(text.into()).with_empty_span());
    let nulls = if nulls_last { "NULLS LAST" } else { "NULLS FIRST" };
    ast::Expr::Function(called(function, "array_sort", vec![array, text("ASC"), text(nulls)]))
}

/// Operators that DataFusion has as functions or not at all: `a RLIKE b`, `~a`, `!a`, `a LIKE ANY (b, c)`.
pub(crate) fn operator(expr: &ast::Expr) -> Option<ast::Expr> {
    match expr {
        ast::Expr::RLike { negated, expr, pattern, regexp: _ } => {
            let matches = call("regexp_like", vec![expr.as_ref().clone(), pattern.as_ref().clone()]);
            Some(negated_if(*negated, matches))
        }
        ast::Expr::UnaryOp { op: ast::UnaryOperator::BangNot, expr } => Some(negated_if(true, expr.as_ref().clone())),
        ast::Expr::UnaryOp { op: ast::UnaryOperator::BitwiseNot, expr } => {
            Some(call("bitwise_not", vec![expr.as_ref().clone()]))
        }
        ast::Expr::Like { .. } | ast::Expr::ILike { .. } => several_patterns(expr),
        _ => None,
    }
}

/// `a LIKE ANY (b, c)`, `a LIKE ALL (b, c)`, and both of ILIKE.
fn several_patterns(expr: &ast::Expr) -> Option<ast::Expr> {
    let (negated, any, value, pattern) = match expr {
        ast::Expr::Like { negated, any, expr, pattern, .. } | ast::Expr::ILike { negated, any, expr, pattern, .. } => {
            (*negated, *any, expr, pattern.as_ref())
        }
        _ => return None,
    };
    let patterns = match pattern {
        ast::Expr::Tuple(patterns) if any => patterns.clone(),
        ast::Expr::Nested(one) if any => vec![one.as_ref().clone()],
        one if any => vec![one.clone()],
        ast::Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case("all") => arguments(function)?,
        _ => return None,
    };
    let one = |pattern: ast::Expr| {
        let mut one = expr.clone();
        if let ast::Expr::Like { negated, any, expr, pattern: place, .. }
        | ast::Expr::ILike { negated, any, expr, pattern: place, .. } = &mut one
        {
            (*negated, *any) = (false, false);
            *expr = value.clone();
            **place = pattern;
        }
        one
    };
    let op = if any { ast::BinaryOperator::Or } else { ast::BinaryOperator::And };
    let all = patterns.into_iter().map(one).reduce(|left, right| ast::Expr::BinaryOp {
        left: Box::new(left),
        op: op.clone(),
        right: Box::new(right),
    })?;
    Some(negated_if(negated, ast::Expr::Nested(Box::new(all))))
}

fn negated_if(negated: bool, expr: ast::Expr) -> ast::Expr {
    match negated {
        true => ast::Expr::Nested(Box::new(ast::Expr::UnaryOp { op: ast::UnaryOperator::Not, expr: Box::new(expr) })),
        false => expr,
    }
}

/// `count(DISTINCT a, b)`: of the rows where none is NULL, as one value.
fn count_of_several(function: &ast::Function) -> Option<ast::Expr> {
    let ast::FunctionArguments::List(list) = &function.args else { return None };
    let distinct = list.duplicate_treatment == Some(ast::DuplicateTreatment::Distinct);
    let args = arguments(function)?;
    if !distinct || args.len() < 2 {
        return None;
    }
    let there = args.iter().map(|arg| ast::Expr::IsNotNull(Box::new(ast::Expr::Nested(Box::new(arg.clone())))));
    let there = there.reduce(|left, right| ast::Expr::BinaryOp {
        left: Box::new(left),
        op: ast::BinaryOperator::And,
        right: Box::new(right),
    })?;
    let case = ast::Expr::Case {
        case_token: ast::helpers::attached_token::AttachedToken::empty(),
        end_token: ast::helpers::attached_token::AttachedToken::empty(),
        operand: None,
        conditions: vec![ast::CaseWhen { condition: there, result: struct_of_places(&args) }],
        else_result: None,
    };
    Some(ast::Expr::Function(called(function, "count", vec![case])))
}

/// A struct of values with names that cannot clash.
fn struct_of_places(values: &[ast::Expr]) -> ast::Expr {
    let named = values
        .iter()
        .enumerate()
        .map(|(at, value)| ast::Expr::Named { expr: Box::new(value.clone()), name: Ident::new(format!("v{at}")) });
    struct_call(&named.collect::<Vec<_>>())
}

/// `col:path.to[0].field` as `get_json_object(col, '$.path.to[0].field')`; None for a path that is computed.
pub(crate) fn json_access(value: &ast::Expr, path: &ast::JsonPath) -> Option<ast::Expr> {
    let mut text = String::from("$");
    for element in &path.path {
        let key = match element {
            ast::JsonPathElem::Dot { key, quoted: _ } => {
                text.push_str(&format!("['{key}']"));
                continue;
            }
            ast::JsonPathElem::Bracket { key } | ast::JsonPathElem::ColonBracket { key } => key,
        };
        let ast::Expr::Value(key) = key else { return None };
        match &key.value {
            ast::Value::Number(index, _) => text.push_str(&format!("[{index}]")),
            ast::Value::SingleQuotedString(key) | ast::Value::DoubleQuotedString(key) => {
                text.push_str(&format!("['{key}']"));
            }
            _ => return None,
        }
    }
    let path = ast::Expr::Value(ast::Value::SingleQuotedString(text).with_empty_span());
    Some(call("get_json_object", vec![value.clone(), path]))
}

/// `struct(a, b AS c, 1)` as `named_struct('a', a, 'c', b, 'col3', 1)`.
pub(crate) fn struct_call(values: &[ast::Expr]) -> ast::Expr {
    let mut args = Vec::new();
    for (at, value) in values.iter().enumerate() {
        let (name, value) = match value {
            ast::Expr::Named { expr, name } => (name.value.clone(), expr.as_ref()),
            ast::Expr::Identifier(ident) => (ident.value.clone(), value),
            ast::Expr::CompoundIdentifier(idents) => {
                (idents.last().map(|ident| ident.value.clone()).unwrap_or_default(), value)
            }
            _ => (format!("col{}", at + 1), value),
        };
        args.push(ast::Expr::Value(ast::Value::SingleQuotedString(name).with_empty_span()));
        args.push(value.clone());
    }
    call("named_struct", args)
}

/// A call that nobody typed.
pub(crate) fn call(name: &str, args: Vec<ast::Expr>) -> ast::Expr {
    ast::Expr::Function(ast::Function {
        name: ast::ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: ast::FunctionArguments::None,
        args: ast::FunctionArguments::List(ast::FunctionArgumentList {
            duplicate_treatment: None,
            args: args.into_iter().map(|arg| ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(arg))).collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// `bigint(x)` and its like.
fn cast_target(name: &str) -> Option<ast::DataType> {
    use ast::DataType as Sql;
    Some(match name {
        "bigint" => Sql::BigInt(None),
        "binary" => Sql::Binary(None),
        "boolean" => Sql::Boolean,
        "date" => Sql::Date,
        "decimal" => Sql::Decimal(ast::ExactNumberInfo::None),
        "double" => Sql::DoublePrecision,
        "float" => Sql::Float(ast::ExactNumberInfo::None),
        "int" => Sql::Int(None),
        "smallint" => Sql::SmallInt(None),
        "string" => Sql::String(None),
        "timestamp" => Sql::Timestamp(None, ast::TimezoneInfo::None),
        "tinyint" => Sql::TinyInt(None),
        _ => return None,
    })
}

fn cast(expr: ast::Expr, data_type: ast::DataType) -> ast::Expr {
    ast::Expr::Cast { kind: ast::CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

fn renamed(function: &ast::Function, to: &str) -> ast::Function {
    let span = function.name.0.first().and_then(|part| part.as_ident()).map(|ident| ident.span);
    let mut ident = Ident::new(to);
    ident.span = span.unwrap_or(ident.span);
    ast::Function { name: ast::ObjectName::from(vec![ident]), ..function.clone() }
}

fn called(function: &ast::Function, to: &str, args: Vec<ast::Expr>) -> ast::Function {
    let mut function = renamed(function, to);
    if let ast::FunctionArguments::List(list) = &mut function.args {
        list.args = args.into_iter().map(|arg| ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(arg))).collect();
    }
    function
}

fn only_argument(function: &ast::Function) -> Option<ast::Expr> {
    match arguments(function)?.as_slice() {
        [one] => Some(one.clone()),
        _ => None,
    }
}

/// The arguments, if all are plain expressions.
pub(super) fn arguments(function: &ast::Function) -> Option<Vec<ast::Expr>> {
    let ast::FunctionArguments::List(list) = &function.args else { return None };
    let plain = list.args.iter().map(|arg| match arg {
        ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    });
    plain.collect()
}
