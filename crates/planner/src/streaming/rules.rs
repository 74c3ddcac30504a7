//! What a stream cannot do, one function per rule.
//!
//! The order follows Spark's: subqueries, then the output mode against the aggregates, then the plan from the
//! bottom up. Above an aggregate in COMPLETE mode every epoch has the whole result, so sorting and limiting it
//! mean something there, and only there.

use alluvium_parser::{Diagnostic, OutputMode, Query, Span};
use datafusion::common::JoinType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Distinct, Expr, Join, LogicalPlan};
use sqlparser::ast::SetOperator;

use super::event_time::{bounded_column, bounded_key, has_watermark};
use super::session::has_sessions;
use super::session::is_over_sessions;
use super::stream_join::{StreamJoin, is_of_streams, waiting_sides};
use crate::bind::{first_stream, stream_of};
use crate::node::{Forget, StreamDeduplicateNode};
use crate::places::{Clause, Places};
use crate::strict::not_yet;

/// What a node gives each epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// The same rows whenever it is asked.
    Static,
    /// The epoch's new rows.
    Stream,
    /// The result of an aggregate: the whole of it in COMPLETE mode, the groups that changed in UPDATE mode.
    Result,
}

struct Check<'a> {
    mode: OutputMode,
    mode_span: Span,
    places: &'a Places,
    query: &'a Query,
}

/// Refuses `plan` if a stream in `mode` cannot carry it out.
pub(super) fn check(
    plan: &LogicalPlan,
    mode: (OutputMode, Span),
    places: &Places,
    query: &Query,
) -> Result<(), Diagnostic> {
    let check = Check { mode: mode.0, mode_span: mode.1, places, query };
    check.subqueries(plan)?;
    check.needs_a_stream(plan)?;
    check.sessions_in_update(plan)?;
    check.mode_fits(plan)?;
    check.set_operations()?;
    let flow = check.flow(plan)?;
    check.limits_on_top(plan)?;
    check.complete_throughout(flow)
}

impl Check<'_> {
    fn flow(&self, plan: &LogicalPlan) -> Result<Flow, Diagnostic> {
        if stream_of(plan).is_some() {
            return Ok(Flow::Stream);
        }
        let inputs = plan.inputs().into_iter().map(|input| self.flow(input)).collect::<Result<Vec<_>, _>>()?;
        let flow = inputs.first().copied().unwrap_or(Flow::Static);
        match plan {
            LogicalPlan::Aggregate(aggregate) if flow != Flow::Static => {
                if self.mode != OutputMode::Append {
                    self.chained(flow)?;
                }
                if is_over_sessions(aggregate) {
                    self.grouping_sets(&aggregate.group_expr)?;
                    self.distinct_aggregates(&aggregate.aggr_expr)?;
                }
                Ok(if self.mode == OutputMode::Append { Flow::Stream } else { Flow::Result })
            }
            LogicalPlan::Distinct(distinct) if flow == Flow::Stream => match self.mode {
                OutputMode::Append if bounded_column(plan).is_none() => Err(self.distinct(distinct)),
                OutputMode::Append => Ok(Flow::Stream),
                _ => Ok(Flow::Result),
            },
            LogicalPlan::Distinct(distinct) if flow == Flow::Result => Err(self.distinct_result(distinct)),
            LogicalPlan::Extension(extension) if flow != Flow::Static => {
                match extension.node.as_any().downcast_ref::<StreamDeduplicateNode>() {
                    Some(node) => self.deduplicate(node, flow),
                    None => Ok(flow),
                }
            }
            LogicalPlan::Sort(_) => self.sort(flow),
            LogicalPlan::Limit(limit) => self.limit(flow, limit.skip.is_some(), limit.fetch.is_some()),
            LogicalPlan::Window(_) if flow != Flow::Static => Err(self.window_function()),
            LogicalPlan::Join(join) => self.join(join, flow, inputs.get(1).copied().unwrap_or(Flow::Static)),
            LogicalPlan::Union(_) => self.union(&inputs),
            LogicalPlan::RecursiveQuery(_) if inputs.iter().any(|input| *input != Flow::Static) => {
                Err(self.recursive())
            }
            _ => Ok(flow),
        }
    }

    /// A stream inside a subquery expression would be read anew for each question asked of it.
    fn subqueries(&self, plan: &LogicalPlan) -> Result<(), Diagnostic> {
        let mut found = false;
        let _ = plan.apply(|node| {
            node.apply_expressions(|expr| {
                expr.apply(|expr| {
                    let subquery = match expr {
                        Expr::ScalarSubquery(subquery) => Some(subquery),
                        Expr::InSubquery(within) => Some(&within.subquery),
                        Expr::Exists(exists) => Some(&exists.subquery),
                        Expr::SetComparison(comparison) => Some(&comparison.subquery),
                        _ => None,
                    };
                    found |= subquery.is_some_and(|subquery| first_stream(&subquery.subquery).is_some());
                    Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
                })
            })?;
            Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        });
        if !found {
            return Ok(());
        }
        let place = self.places.subqueries.first();
        Err(self
            .refuse(
                "STREAMING_SUBQUERY",
                "a subquery in an expression needs a finished result, and a stream never finishes",
                place,
                "asking",
            )
            .help("join the stream instead, or write the stream to a table of its own and ask that table"))
    }

    fn needs_a_stream(&self, plan: &LogicalPlan) -> Result<(), Diagnostic> {
        if first_stream(plan).is_some() {
            return Ok(());
        }
        let first = self.places.statics.first();
        let span = first.map_or(self.query.span, |(_, span)| *span);
        let refusal = Diagnostic::new(
            "STATIC_WHERE_STREAM_NEEDED",
            "a streaming table needs a stream to read, and this query has none",
        )
        .at(span);
        let special = |name: &str| crate::bind::special_index(name).is_some();
        Err(match first {
            Some((name, _)) if !special(name) => refusal
                .label(format!("`{name}` is read once, as it is now"))
                .help(format!("write STREAM {name} to read what is added to it"))
                .help("or write CREATE TABLE … AS to run the query once"),
            Some(_) => refusal
                .label("this is read once, as it is now")
                .help("write STREAM before it, or cloud_files(…) for files, to read what is added")
                .help("or write CREATE TABLE … AS to run the query once"),
            None => refusal.help("read from STREAM t or cloud_files(…), or write CREATE TABLE … AS"),
        })
    }

    /// A session that grows or meets another one has other bounds than before: it is another row, not a newer one.
    fn sessions_in_update(&self, plan: &LogicalPlan) -> Result<(), Diagnostic> {
        if self.mode != OutputMode::Update || !has_sessions(plan) {
            return Ok(());
        }
        Err(Diagnostic::new(
            "SESSION_IN_UPDATE_MODE",
            "OUTPUT MODE UPDATE replaces rows by their keys, and a session that grows becomes another key",
        )
        .at(self.mode_span)
        .at_least(self.query.span)
        .help("leave the mode out (APPEND): a session is written once, when the watermark reaches its end")
        .help("or use OUTPUT MODE COMPLETE: the table is replaced by all sessions each epoch"))
    }

    /// COMPLETE needs an aggregate; APPEND cannot have one whose rows are never final.
    fn mode_fits(&self, plan: &LogicalPlan) -> Result<(), Diagnostic> {
        let (mut keeps_result, mut unbounded) = (false, None);
        let _ = plan.apply(|node| {
            match node {
                LogicalPlan::Aggregate(aggregate) if first_stream(&aggregate.input).is_some() => {
                    keeps_result = true;
                    if bounded_key(&aggregate.group_expr, &aggregate.input).is_none() {
                        unbounded = Some(has_watermark(&aggregate.input));
                    }
                }
                LogicalPlan::Distinct(distinct) if first_stream(distinct.input()).is_some() => keeps_result = true,
                _ => {}
            }
            Ok(TreeNodeRecursion::Continue)
        });
        match (self.mode, unbounded) {
            (OutputMode::Complete, _) if !keeps_result => Err(self.complete_without_aggregate()),
            (OutputMode::Append, Some(has_watermark)) => Err(self.never_final(has_watermark)),
            _ => Ok(()),
        }
    }

    /// An aggregate in APPEND whose groups no watermark closes.
    fn never_final(&self, has_watermark: bool) -> Diagnostic {
        let why = match has_watermark {
            true => {
                "OUTPUT MODE APPEND writes rows that never change, and a group that does not end with the watermark can always change"
            }
            false => {
                "OUTPUT MODE APPEND writes rows that never change, and without a watermark a group can always change"
            }
        };
        let refusal = self.refuse("APPEND_AGGREGATE_WITHOUT_WATERMARK", why, self.places.groupings.first(), "grouping");
        let refusal = match has_watermark {
            true => refusal.help("group by the watermark's column or a window of it: window(ts, '10 minutes')"),
            false => refusal.help(
                "write WATERMARK ts DELAY OF INTERVAL 10 MINUTES behind the stream, and group by window(ts, '10 minutes')",
            ),
        };
        refusal.help("or use OUTPUT MODE COMPLETE: the table is replaced by the whole result each epoch")
    }

    /// Keys that are forgotten with the watermark need one; in COMPLETE only below an aggregate.
    fn deduplicate(&self, node: &StreamDeduplicateNode, flow: Flow) -> Result<Flow, Diagnostic> {
        let place = self.query.deduplicates.first().map_or(self.somewhere(), |place| place.span);
        if flow == Flow::Result {
            return Err(not_yet("DEDUPLICATE BY above an aggregate in OUTPUT MODE COMPLETE", place)
                .help("group by the columns instead"));
        }
        if matches!(node.forget, Forget::After(_)) && bounded_column(&node.input).is_none() {
            return Err(Diagnostic::new(
                "WITHIN_WATERMARK_WITHOUT_WATERMARK",
                "DEDUPLICATE BY … WITHIN WATERMARK forgets keys as the watermark passes, and the stream has none",
            )
            .at(place)
            .help("write WATERMARK ts DELAY OF INTERVAL 10 MINUTES behind the stream")
            .help("or leave WITHIN WATERMARK out: every key is kept for ever"));
        }
        Ok(flow)
    }

    fn complete_without_aggregate(&self) -> Diagnostic {
        Diagnostic::new(
            "COMPLETE_WITHOUT_AGGREGATE",
            "OUTPUT MODE COMPLETE writes the whole result each epoch, and only an aggregate keeps it",
        )
        .at(self.mode_span)
        .at_least(self.query.span)
        .help("leave the mode out (APPEND): each new row is written once")
        .help("or aggregate the rows with GROUP BY")
    }

    /// In COMPLETE mode nothing may bypass the aggregate, or its rows would vanish with the next epoch.
    fn complete_throughout(&self, flow: Flow) -> Result<(), Diagnostic> {
        match (self.mode, flow) {
            (OutputMode::Complete, Flow::Stream) => Err(self.complete_without_aggregate()),
            _ => Ok(()),
        }
    }

    fn sort(&self, flow: Flow) -> Result<Flow, Diagnostic> {
        match flow {
            Flow::Static => Ok(flow),
            Flow::Result if self.mode == OutputMode::Complete => Ok(flow),
            Flow::Stream | Flow::Result => Err(self
                .refuse(
                    "STREAMING_SORT",
                    "ORDER BY needs a finished result, and a stream never finishes",
                    first_open(&self.places.sorts),
                    "sorting",
                )
                .help("aggregate first and use OUTPUT MODE COMPLETE, or sort when you query the target table")),
        }
    }

    fn limit(&self, flow: Flow, offset: bool, limit: bool) -> Result<Flow, Diagnostic> {
        match flow {
            Flow::Static => Ok(flow),
            Flow::Result if self.mode == OutputMode::Complete => Ok(flow),
            Flow::Stream if limit && !offset && self.mode == OutputMode::Append => Ok(flow),
            Flow::Stream | Flow::Result if limit && !offset => Err(self
                .refuse(
                    "STREAMING_LIMIT",
                    "LIMIT over a stream lets its first rows through, which go into the table once: in OUTPUT MODE APPEND",
                    first_open(&self.places.limits),
                    "limiting",
                )
                .help("leave the mode out (APPEND), or limit when you query the target table")),
            Flow::Stream | Flow::Result => Err(self
                .refuse(
                    "STREAMING_OFFSET",
                    "OFFSET needs an order of rows, and a stream has none",
                    first_open(&self.places.offsets),
                    "skipping rows of",
                )
                .help("leave it out, or use it when you query the target table")),
        }
    }

    /// Which rows of an epoch a LIMIT lets through is decided anew when the epoch is run again, and state must not depend on
    /// that.
    fn limits_on_top(&self, plan: &LogicalPlan) -> Result<(), Diagnostic> {
        let of_stream = |plan: &LogicalPlan| {
            matches!(plan, LogicalPlan::Limit(_)) && self.mode == OutputMode::Append && first_stream(plan).is_some()
        };
        let keeps_state = |plan: &LogicalPlan| match plan {
            LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_) | LogicalPlan::Limit(_) => true,
            LogicalPlan::Join(join) => is_of_streams(join),
            LogicalPlan::Extension(extension) => {
                extension.node.as_any().downcast_ref::<StreamDeduplicateNode>().is_some()
            }
            _ => false,
        };
        let mut below = false;
        let _ = plan.apply(|node| {
            if keeps_state(node) && first_stream(node).is_some() {
                let inputs = node.inputs();
                below |= inputs.into_iter().any(|input| input.exists(|node| Ok(of_stream(node))).unwrap_or(false));
            }
            Ok(TreeNodeRecursion::Continue)
        });
        match below {
            false => Ok(()),
            true => Err(self
                .refuse(
                    "STREAMING_LIMIT",
                    "LIMIT below a join of two streams, an aggregate, DISTINCT or another LIMIT would choose other rows when an epoch is run again",
                    first_open(&self.places.limits),
                    "limiting",
                )
                .help("put LIMIT at the end of the query, or write the limited rows to a streaming table and read that")),
        }
    }

    fn distinct(&self, distinct: &Distinct) -> Diagnostic {
        let union = matches!(distinct, Distinct::All(input) if matches!(input.as_ref(), LogicalPlan::Union(_)));
        let place = self.places.distincts.first();
        if union && place.is_none() {
            return self.union_distinct();
        }
        self.refuse(
            "STREAMING_DISTINCT",
            "SELECT DISTINCT over a stream has to remember every row, and no watermark says when one can be forgotten",
            place,
            "comparing rows of",
        )
        .help("select the column of a WATERMARK as well: rows are forgotten as it passes")
        .help("or write DEDUPLICATE BY (col, …), which keeps every key, or use OUTPUT MODE COMPLETE")
    }

    fn distinct_result(&self, distinct: &Distinct) -> Diagnostic {
        let mut refusal = self.distinct(distinct);
        refusal.message = "SELECT DISTINCT of an aggregate over a stream is not carried out yet".into();
        refusal.help = vec!["write the aggregate to a streaming table and query that table".into()];
        refusal
    }

    fn union_distinct(&self) -> Diagnostic {
        let place = self.places.set_operations.iter().find(|operation| !operation.all);
        let refusal = Diagnostic::new(
            "STREAMING_DISTINCT",
            "UNION drops duplicate rows: it has to remember every row of a stream, and no watermark says when one can be forgotten",
        );
        match place {
            Some(place) => refusal.at(place.span),
            None => refusal.at(self.somewhere()),
        }
        .help("write UNION ALL to keep all rows")
    }

    fn distinct_aggregates(&self, aggregates: &[Expr]) -> Result<(), Diagnostic> {
        let distinct = aggregates.iter().any(|expr| {
            expr.exists(|expr| Ok(matches!(expr, Expr::AggregateFunction(function) if function.params.distinct)))
                .unwrap_or(false)
        });
        if !distinct {
            return Ok(());
        }
        Err(self
            .refuse(
                "STREAMING_DISTINCT_AGGREGATE",
                "a DISTINCT aggregate of sessions is not carried out yet",
                self.places.distinct_aggregates.first(),
                "counting in",
            )
            .help("use approx_count_distinct(…), or collect_set(…) where the values are few"))
    }

    fn grouping_sets(&self, keys: &[Expr]) -> Result<(), Diagnostic> {
        if keys.iter().any(|key| matches!(key, Expr::GroupingSet(_))) {
            let place = self.places.groupings.first();
            return Err(not_yet("GROUPING SETS, ROLLUP and CUBE of sessions", Span::UNKNOWN)
                .at(place.map_or(self.somewhere(), |place| place.span))
                .help("write one GROUP BY for each grouping, each into a table of its own"));
        }
        Ok(())
    }

    fn chained(&self, flow: Flow) -> Result<(), Diagnostic> {
        if flow == Flow::Stream {
            return Ok(());
        }
        let place = self.places.groupings.iter().find(|place| place.aggregated).or(self.places.groupings.last());
        Err(self
            .refuse(
                "STREAMING_CHAINED_AGGREGATES",
                "an aggregate of an aggregate over a stream is not carried out yet",
                place,
                "aggregating again",
            )
            .help("write the first aggregate to a streaming table and query that table"))
    }

    fn window_function(&self) -> Diagnostic {
        self.refuse(
            "STREAMING_WINDOW_FUNCTION",
            "a function with OVER compares rows with rows that come later, and a stream never finishes",
            self.places.window_functions.first(),
            "ranking",
        )
        .help("group by time or key instead, or use the function when you query the target table")
    }

    fn recursive(&self) -> Diagnostic {
        self.refuse(
            "STREAMING_RECURSIVE_CTE",
            "a recursive query needs a finished input, and a stream never finishes",
            self.places.recursive_ctes.first(),
            "recursing over",
        )
        .help("write the stream to a table and query that table")
    }

    /// A stream may be joined where each of its rows decides alone what comes out.
    fn join(&self, join: &Join, left: Flow, right: Flow) -> Result<Flow, Diagnostic> {
        match (left, right) {
            (Flow::Static, Flow::Static) => Ok(Flow::Static),
            (Flow::Result, Flow::Static) => Ok(Flow::Result),
            (Flow::Static, Flow::Result) => Ok(Flow::Result),
            (Flow::Stream, Flow::Stream) => self.stream_stream_join(join),
            (Flow::Stream | Flow::Result, Flow::Stream | Flow::Result) => Err(self
                .of_two_streams(
                    "STREAM_STREAM_JOIN",
                    "the result of an aggregate in OUTPUT MODE COMPLETE is replaced each epoch, and a join of two streams keeps what it has read",
                )
                .help("write the aggregate to a streaming table and join the table without STREAM: its current rows are read each epoch")),
            (Flow::Stream, Flow::Static) => match join.join_type {
                JoinType::Inner | JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => {
                    Ok(Flow::Stream)
                }
                JoinType::Right | JoinType::Full | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => {
                    Err(self.join_side(join.join_type, "left"))
                }
            },
            (Flow::Static, Flow::Stream) => match join.join_type {
                JoinType::Inner | JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => {
                    Ok(Flow::Stream)
                }
                JoinType::Left | JoinType::Full | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => {
                    Err(self.join_side(join.join_type, "right"))
                }
            },
        }
    }

    /// Rows of two streams are matched by keys; those that wait for a match must be done with waiting at some time.
    fn stream_stream_join(&self, join: &Join) -> Result<Flow, Diagnostic> {
        let word = join_word(join.join_type);
        match (self.mode, join.join_type) {
            (OutputMode::Append, _) | (OutputMode::Complete, JoinType::Inner) => {}
            (OutputMode::Update, _) => {
                return Err(self
                    .of_two_streams(
                        "STREAM_STREAM_JOIN",
                        "a join of two streams gives each row once, and OUTPUT MODE UPDATE replaces rows",
                    )
                    .help("leave the mode out (APPEND)"));
            }
            (OutputMode::Complete, _) => {
                return Err(self
                    .of_two_streams(
                        "STREAM_STREAM_JOIN",
                        &format!(
                            "{word} JOIN of two streams gives rows as the watermark passes, and OUTPUT MODE COMPLETE leaves none out as late"
                        ),
                    )
                    .help("leave the mode out (APPEND), and group by a window that the watermark closes")
                    .help("or write the join to a streaming table and aggregate that"));
            }
        }
        let failed = |error| crate::errors::diagnose(&error, self.query);
        let known = StreamJoin::of(join).map_err(failed)?;
        if known.on.is_empty() {
            return Err(self
                .of_two_streams(
                    "STREAM_STREAM_JOIN_KEYS",
                    "rows of two streams find each other by a key, and no condition says that a value of one equals a value of the other",
                )
                .help("add a condition such as l.id = r.id to ON"));
        }
        for side in waiting_sides(join.join_type) {
            // Both need one: the other side is what a row waits for, and its own says which rows of it come too late.
            let without_watermark = [1 - *side, *side].into_iter().find(|at| known.sides[*at].late.is_none());
            match (without_watermark, known.unbounded(*side)) {
                (None, None) => {}
                (without_watermark, _) => return Err(self.never_done(join, &known, *side, without_watermark)),
            }
        }
        Ok(Flow::Stream)
    }

    /// An outer, semi or anti join whose rows of `side` would wait for ever.
    fn never_done(&self, join: &Join, known: &StreamJoin, side: usize, without_watermark: Option<usize>) -> Diagnostic {
        let word = join_word(join.join_type);
        let sides = ["left", "right"];
        let waits = match join.join_type {
            JoinType::LeftSemi | JoinType::RightSemi => "keeps a row until it matches or can match no more",
            JoinType::LeftAnti | JoinType::RightAnti => "gives a row when it can match no more",
            _ => "gives a row without a match when none can come any more",
        };
        if let Some(at) = without_watermark {
            return self
                .of_two_streams(
                    "STREAM_STREAM_JOIN_BOUND",
                    &format!("{word} JOIN of two streams {waits}, and its {} side has no watermark", sides[at]),
                )
                .help(format!(
                    "write WATERMARK ts DELAY OF INTERVAL 10 MINUTES behind the stream on the {} side",
                    sides[at]
                ))
                .help("and bound the times of both sides in ON: r.ts BETWEEN l.ts - INTERVAL 1 HOUR AND l.ts + INTERVAL 1 HOUR");
        }
        let name = |side: usize| match &known.sides[side].late {
            Some(time) => crate::errors::without_stand_ins(&time.to_string()),
            None => "ts".to_string(),
        };
        let (this, other) = (name(side), name(1 - side));
        self.of_two_streams(
            "STREAM_STREAM_JOIN_BOUND",
            &format!(
                "{word} JOIN of two streams {waits}, and no condition says how much later than {this} a matching {other} may be"
            ),
        )
        .help(format!("add to ON: {other} <= {this} + INTERVAL 1 HOUR, with a length of days or less"))
        .help("or make event times, or windows of them, equal on both sides")
    }

    /// A refusal at the first join of two streams.
    fn of_two_streams(&self, code: &'static str, message: &str) -> Diagnostic {
        let place = self.places.joins.iter().find(|join| join.sides.iter().all(Option::is_some));
        let refusal = Diagnostic::new(code, message.to_string());
        match place {
            Some(place) => {
                let names: Vec<String> = place.sides.iter().flatten().map(|name| format!("`{name}`")).collect();
                refusal.at(place.span).label(format!("{} are both streams", names.join(" and ")))
            }
            None => refusal.at(self.somewhere()),
        }
    }

    fn join_side(&self, join_type: JoinType, side: &str) -> Diagnostic {
        let index = usize::from(side == "right");
        let place =
            self.places.joins.iter().find(|join| join.sides[index].is_some() && join.sides[1 - index].is_none());
        let refusal = Diagnostic::new(
            "STREAMING_JOIN_SIDE",
            format!(
                "{} JOIN with a stream on its {side} side needs to know that no row will ever match, and a stream never finishes",
                join_word(join_type)
            ),
        );
        let refusal = match place {
            Some(place) => {
                let stream = place.sides[index].clone().unwrap_or_default();
                refusal.at(place.span).label(format!("`{stream}` is a stream"))
            }
            None => refusal.at(self.somewhere()),
        };
        match join_type {
            JoinType::Full => refusal.help("keep the rows of the stream only: stream LEFT JOIN table"),
            _ => refusal
                .help("put the stream on the side whose rows are kept: stream LEFT JOIN table, or use an inner JOIN"),
        }
    }

    fn union(&self, inputs: &[Flow]) -> Result<Flow, Diagnostic> {
        let first = inputs.first().copied().unwrap_or(Flow::Static);
        if inputs.iter().all(|input| *input == first) {
            return Ok(first);
        }
        if inputs.contains(&Flow::Stream) && inputs.contains(&Flow::Result) {
            // Refused where the keys of the rows are looked for.
            if self.mode == OutputMode::Update {
                return Ok(Flow::Stream);
            }
            return Err(self.complete_without_aggregate());
        }
        Err(self.union_of_kinds())
    }

    fn union_of_kinds(&self) -> Diagnostic {
        let mixed = self.places.set_operations.iter().find(|operation| operation.sides.iter().flatten().count() == 1);
        let refusal = Diagnostic::new(
            "STREAMING_UNION",
            "UNION ALL of a stream and a static relation: its rows would come again each epoch",
        );
        match mixed {
            Some(operation) => {
                let index = usize::from(operation.sides[0].is_some());
                let named = operation.first[index].clone().filter(|name| crate::bind::special_index(name).is_none());
                let refusal = refusal.at(operation.span);
                match named {
                    Some(name) => refusal
                        .label(format!("`{name}` is static"))
                        .help(format!("write STREAM {name}, or INSERT its rows into the target once")),
                    None => refusal.help("read both sides as streams, or INSERT the static rows into the target once"),
                }
            }
            None => refusal.at(self.somewhere()).help("read both sides as streams"),
        }
    }

    /// INTERSECT and EXCEPT compare whole results; UNION without ALL remembers every row.
    fn set_operations(&self) -> Result<(), Diagnostic> {
        for operation in &self.places.set_operations {
            match operation.operator {
                SetOperator::Union if operation.all => {
                    if operation.sides.iter().flatten().count() == 1 {
                        return Err(self.union_of_kinds());
                    }
                }
                // What it drops is looked at with SELECT DISTINCT.
                SetOperator::Union => {}
                SetOperator::Intersect | SetOperator::Except | SetOperator::Minus => {
                    let name = operation.operator.to_string();
                    return Err(Diagnostic::new(
                        "STREAMING_SET_OPERATION",
                        format!("{name} compares finished results, and a stream never finishes"),
                    )
                    .at(operation.span)
                    .help(match operation.operator {
                        SetOperator::Intersect => "use LEFT SEMI JOIN with the static side",
                        _ => "use LEFT ANTI JOIN with the static side",
                    }));
                }
            }
        }
        Ok(())
    }

    /// A refusal at `place`; of something inside a view, at the relation that brings it in.
    fn refuse(&self, code: &'static str, message: &str, place: Option<&Clause>, doing: &str) -> Diagnostic {
        let refusal = Diagnostic::new(code, message);
        match place {
            Some(place) => {
                refusal.at(place.span).at_least(self.query.span).label(format!("{doing} `{}`, a stream", place.stream))
            }
            None => {
                let refusal = refusal.at(self.somewhere());
                match self.places.streams.first() {
                    Some((stream, _)) => refusal.label(format!("inside `{stream}`")),
                    None => refusal,
                }
            }
        }
    }

    fn somewhere(&self) -> Span {
        self.places.streams.first().map_or(self.query.span, |(_, span)| *span)
    }
}

/// The first clause with no aggregate below it.
fn first_open(clauses: &[Clause]) -> Option<&Clause> {
    clauses.iter().find(|clause| !clause.aggregated).or(clauses.first())
}

fn join_word(join_type: JoinType) -> &'static str {
    match join_type {
        JoinType::Inner => "INNER",
        JoinType::Left => "LEFT",
        JoinType::Right => "RIGHT",
        JoinType::Full => "FULL",
        JoinType::LeftSemi | JoinType::LeftMark => "LEFT SEMI",
        JoinType::RightSemi | JoinType::RightMark => "RIGHT SEMI",
        JoinType::LeftAnti => "LEFT ANTI",
        JoinType::RightAnti => "RIGHT ANTI",
    }
}
