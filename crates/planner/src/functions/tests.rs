//! Values of functions on constants, as Spark gives them.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::HashSet;

use datafusion::logical_expr::{Expr, LogicalPlan};

use super::scalar_functions;
use crate::fixtures::{bound, state};
use crate::functions::session_state;
use crate::settings::Settings;

/// The value of an expression, folded by the optimizer.
fn value_in(timezone: &str, expr: &str) -> String {
    let state = session_state(&Settings { timezone: timezone.to_string(), ..Settings::default() });
    let plan = bound(&format!("SELECT {expr} AS x"), &state).unwrap_or_else(|e| panic!("{expr}: {e}"));
    let plan = state.optimize(&plan).unwrap_or_else(|e| panic!("{expr}: {e}"));
    let LogicalPlan::Projection(projection) = &plan else { panic!("{expr}: {plan}") };
    match projection.expr[0].clone().unalias() {
        Expr::Literal(scalar, _) => scalar.to_string(),
        _ => panic!("{expr} is not folded: {plan}"),
    }
}

fn value(expr: &str) -> String {
    value_in("UTC", expr)
}

#[test]
fn no_two_functions_share_a_name() {
    let mut seen = HashSet::new();
    for function in scalar_functions("UTC") {
        for name in std::iter::once(function.name()).chain(function.aliases().iter().map(String::as_str)) {
            assert!(seen.insert(name.to_string()), "{name} is there twice");
        }
    }
}

#[test]
fn no_name_of_datafusion_is_lost() {
    let state = state();
    // DataFusion's `element_at` is `map_extract`, which gives a list; Spark's, which has the name here, gives the value.
    let given_up = ["map_extract"];
    let lost: Vec<String> = datafusion::execution::SessionStateDefaults::default_scalar_functions()
        .iter()
        .flat_map(|function| super::names_of(function).map(str::to_string).collect::<Vec<_>>())
        .filter(|name| !given_up.contains(&name.as_str()))
        .filter(|name| !super::NOT_SPARK.contains(&name.as_str()) && !state.scalar_functions().contains_key(name))
        .collect();
    assert!(lost.is_empty(), "{lost:?}");
}

#[test]
fn times_and_patterns() {
    for (expr, expected) in [
        ("from_unixtime(1657646037)", "2022-07-12 17:13:57"),
        ("from_unixtime('1657646037', 'yyyy/MM/dd')", "2022/07/12"),
        ("from_unixtime(-1)", "1969-12-31 23:59:59"),
        ("unix_timestamp('2022-07-12 17:13:57')", "1657646037"),
        ("unix_timestamp('12.07.2022', 'dd.MM.yyyy')", "1657584000"),
        ("CAST(to_timestamp('2022-07-12T17:13:57.5Z') AS STRING)", "2022-07-12 17:13:57.5"),
        ("CAST(to_timestamp('12/7/2022 5:13 PM', 'd/M/yyyy h:mm a') AS STRING)", "2022-07-12 17:13:00"),
        ("CAST(try_to_timestamp('x', 'yyyy') AS STRING)", "NULL"),
        ("date_format('2022-07-12 17:13:57', 'EEE d MMM, HH:mm')", "Tue 12 Jul, 17:13"),
        ("date_format(DATE '2022-07-12', 'yyyyMMdd')", "20220712"),
        ("CAST(to_date('2022-07-12 17:13:57') AS STRING)", "2022-07-12"),
        ("CAST(to_date('2/1/2010', 'd/M/yyyy') AS STRING)", "2010-01-02"),
        ("CAST(CAST(1657646037 AS TIMESTAMP) AS STRING)", "2022-07-12 17:13:57"),
        ("CAST(CAST('2022-07-12 17:13:57' AS TIMESTAMP) AS BIGINT)", "1657646037"),
        ("CAST(date_trunc('DD', TIMESTAMP '2022-07-12 17:13:57') AS STRING)", "2022-07-12 00:00:00"),
        ("CAST(date_trunc('MON', '2022-07-12 17:13:57') AS STRING)", "2022-07-01 00:00:00"),
        ("CAST(date_trunc('week', DATE '2022-07-12') AS STRING)", "2022-07-11 00:00:00"),
        ("year(DATE '2022-07-12')", "2022"),
        ("dayofweek(DATE '2022-07-12')", "3"),
        ("extract(hour FROM TIMESTAMP '2022-07-12 17:13:57')", "17"),
    ] {
        assert_eq!(value(expr), expected, "{expr}");
    }
    assert_eq!(value_in("Europe/Berlin", "from_unixtime(1657646037)"), "2022-07-12 19:13:57");
    assert_eq!(value_in("Europe/Berlin", "unix_timestamp('2022-07-12 19:13:57')"), "1657646037");
}

#[test]
fn the_rest() {
    for (expr, expected) in [
        ("5 / 2", "2.5"),
        ("concat('a', NULL)", "NULL"),
        ("size(array(1, 2, 3))", "3"),
        ("get_json_object('{\"a\": [1, {\"b\": \"x\"}]}', '$.a[1].b')", "x"),
        ("named_struct('a', 1, 'b', 'x').B", "x"),
        ("length('abc')", "3"),
        ("isnull(NULL)", "true"),
        ("startswith('abc', 'ab')", "true"),
        ("int('7') + 1", "8"),
        ("array(7, 8)[0]", "7"),
        ("element_at(array(7, 8), 1)", "7"),
        ("map('k', 'v')['k']", "v"),
        ("nvl(NULL, 'x')", "x"),
        ("try_cast('x' AS INT)", "NULL"),
        ("substring('abcdef', 2, 3)", "bcd"),
        ("if(1 > 2, 'a', 'b')", "b"),
    ] {
        assert_eq!(value(expr), expected, "{expr}");
    }
}

#[test]
fn unaliased_state_keeps_functions() {
    let state = state();
    for name in
        ["collect_list", "collect_set", "any_value", "approx_distinct", "avg", "stddev", "median", "first_value"]
    {
        assert!(state.aggregate_functions().contains_key(name), "{name}");
    }
    for name in ["current_timestamp", "now", "datetrunc", "char_length", "date_format"] {
        assert!(state.scalar_functions().contains_key(name), "{name}");
    }
    assert!(!state.scalar_functions().contains_key("today"));
}
