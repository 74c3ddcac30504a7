//! Functions: Spark's where DataFusion's differ, and the session state that knows them all.
//!
//! Most come from `datafusion-spark`; what it lacks is here, one file per subject. Nothing here reads the clock:
//! `current_timestamp()` and its kin stay calls until an epoch gives them a value ([`clock`]).

pub(crate) mod arithmetic;
mod best_by;
mod by_type;
mod canonical;
mod casts;
pub mod clock;
mod concat;
mod counted;
mod date_trunc;
mod datetime;
mod decimals;
mod elements;
mod extremes;
mod fields;
mod from_json;
pub(crate) mod generators;
mod grand_totals;
mod java_pattern;
mod json;
mod keys;
mod lambda;
mod lazy;
mod lengths;
mod logarithms;
mod looser;
pub(crate) mod markers;
mod moments;
mod patterns;
mod plain;
mod pushed_filters;
pub(crate) mod session_window;
pub(crate) mod spellings;
mod sum;
mod templates;
mod text_numbers;
mod texts;
mod time_parts;
pub(crate) mod time_window;
mod times;
mod to_json;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::execution::SessionState;
use datafusion::execution::SessionStateDefaults;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF};
use datafusion::prelude::SessionConfig;

pub use canonical::canonical;

use crate::settings::Settings;

/// Functions of `datafusion-spark` that are left out: DataFusion's own does as much, on more types and faster.
const LEFT_OUT: [&str; 1] = ["avg"];

/// DataFusion's functions that are left out: the optimizer would fold them to the time of planning, and they are not
/// among Spark's.
const NOT_SPARK: [&str; 2] = ["current_time", "today"];

/// Names of functions that are understood without being registered under them.
pub fn spellings() -> impl Iterator<Item = &'static str> {
    spellings::known()
}

/// The state everything is planned and run with: functions, time zone, and what streaming needs of the planner.
pub fn session_state(settings: &Settings) -> SessionState {
    SessionStateBuilder::new()
        .with_config(config(settings))
        .with_default_features()
        .with_expr_planners(expr_planners())
        .with_scalar_functions(scalar_functions(&settings.timezone))
        .with_aggregate_functions(aggregate_functions())
        .with_higher_order_functions(higher_order_functions())
        .with_analyzer_rule(Arc::new(casts::SparkMeaning::new(&settings.timezone)))
        .with_analyzer_rule(Arc::new(keys::KeysInOneForm))
        .with_analyzer_rule(Arc::new(grand_totals::NoTotalOfNothing))
        .with_physical_optimizer_rules(pushed_filters::physical_rules())
        .with_physical_optimizer_rule(Arc::new(lazy::LazyConditions))
        .build()
}

fn config(settings: &Settings) -> SessionConfig {
    let mut config = SessionConfig::new().with_batch_size(8192).with_target_partitions(settings.target_partitions);
    let options = config.options_mut();
    options.execution.time_zone = Some(settings.timezone.clone());
    // A partial aggregation that gives up would hand every row to the state.
    options.execution.skip_partial_aggregation_probe_ratio_threshold = 1.1;
    options.execution.parquet.schema_force_view_types = false;
    // Overflow of round, and indexes beyond an array, are errors.
    options.execution.enable_ansi_mode = true;
    // As nanoseconds, Spark's INT96 timestamps would wrap around outside 1677 to 2262.
    options.execution.parquet.coerce_int96 = Some("us".into());
    options.sql_parser.enable_ident_normalization = false;
    options.sql_parser.collect_spans = true;
    options.sql_parser.map_string_types_to_utf8view = false;
    // ORDER BY in a subquery is refused over a stream, not dropped.
    options.sql_parser.enable_subquery_sort_elimination = false;
    config
}

/// Planners are asked in order, so Spark's stand before DataFusion's.
fn expr_planners() -> Vec<Arc<dyn ExprPlanner>> {
    let mut planners: Vec<Arc<dyn ExprPlanner>> =
        vec![Arc::new(fields::SparkExpressions), Arc::new(datafusion_spark::planner::SparkFunctionPlanner)];
    planners.extend(SessionStateDefaults::default_expr_planners());
    planners
}

/// Ours and Spark's, and those of DataFusion's whose names are free.
///
/// No two may share a name, be it an alias: a state that is built from another one registers its functions in no
/// order, and the last one would win.
fn scalar_functions(timezone: &str) -> Vec<Arc<ScalarUDF>> {
    let mut functions: Vec<Arc<ScalarUDF>> = Vec::new();
    let ours = datetime::functions(timezone)
        .into_iter()
        .chain([date_trunc::DateTrunc::udf(), fields::ElementAt::udf(), concat::udf(), time_parts::date_part()])
        .chain(logarithms::functions())
        .chain(clock::functions(timezone))
        .chain(json::functions())
        .chain(time_window::functions())
        .chain([session_window::udf()])
        .chain([markers::deduplicate(), markers::apart()])
        .chain(from_json::functions(timezone))
        .chain([to_json::udf(timezone)])
        .chain(by_type::functions())
        .chain(generators::functions())
        .chain(patterns::functions())
        .chain(texts::functions())
        .chain(times::functions())
        .chain(looser::functions());
    let spark = datafusion_spark::all_default_scalar_functions().into_iter();
    let defaults = SessionStateDefaults::default_scalar_functions().into_iter();
    let defaults = defaults.filter(|function| !NOT_SPARK.contains(&function.name()));
    for function in ours.chain(spark).chain(defaults) {
        let taken = names_of(&function).any(|name| functions.iter().any(|known| goes_by(known, name)));
        if !taken {
            functions.push(with_lost_names(function));
        }
    }
    functions
}

/// Names that a function of DataFusion has besides the one that Spark's took, given to Spark's.
const LOST_NAMES: &[(&str, &[&str])] = &[
    ("array_contains", &["array_has", "list_has", "list_contains"]),
    ("array_repeat", &["list_repeat"]),
    ("date_format", &["to_char"]),
    ("date_trunc", &["datetrunc"]),
];

fn with_lost_names(function: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    match LOST_NAMES.iter().find(|(name, _)| *name == function.name()) {
        Some((_, names)) => Arc::new(function.as_ref().clone().with_aliases(names.iter().copied())),
        None => function,
    }
}

fn names_of(function: &ScalarUDF) -> impl Iterator<Item = &str> {
    std::iter::once(function.name()).chain(function.aliases().iter().map(String::as_str))
}

fn goes_by(function: &ScalarUDF, name: &str) -> bool {
    names_of(function).any(|known| known == name)
}

fn higher_order_functions() -> Vec<Arc<HigherOrderUDF>> {
    let mut functions = lambda::functions();
    functions.extend(SessionStateDefaults::default_higher_order_functions());
    functions
}

fn aggregate_functions() -> Vec<Arc<AggregateUDF>> {
    let mut functions: Vec<Arc<AggregateUDF>> = datafusion_spark::all_default_aggregate_functions();
    functions.retain(|function| !LEFT_OUT.contains(&function.name()));
    functions.extend(extremes::functions());
    functions.push(sum::udaf());
    functions.extend(best_by::functions());
    functions.extend(counted::functions());
    functions.extend(moments::functions());
    for function in SessionStateDefaults::default_aggregate_functions() {
        if !functions.iter().any(|known| known.name() == function.name()) {
            functions.push(function);
        }
    }
    functions.into_iter().map(text_numbers::with_texts).collect()
}
