//! Refuses query syntax that nothing behind the parser carries out.
//!
//! The SQL front end of DataFusion skips some clauses without a word; every field of the syntax tree is therefore
//! taken apart here by name, so that a clause is either known to be carried out or refused. Knows no tables.

use std::ops::ControlFlow;

use alluvium_parser::{Diagnostic, Span};
use sqlparser::ast::{self, Spanned, Visit, Visitor};

use crate::functions::generators;

/// Refuses the first clause of `query` that would be ignored.
pub(crate) fn check(query: &ast::Query, at: Span) -> Result<(), Diagnostic> {
    let mut strict = Strict { at };
    match query.visit(&mut strict) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(refusal) => Err(refusal),
    }
}

/// A refusal by name of something the language may have later.
pub(crate) fn not_yet(what: &str, at: Span) -> Diagnostic {
    let refusal = Diagnostic::new("NOT_SUPPORTED_YET", format!("{what} is not carried out yet")).at(at);
    match WAYS_OUT.iter().find(|(start, _)| what.starts_with(start)) {
        Some((_, way_out)) => refusal.help(*way_out),
        None => refusal,
    }
}

/// What to write instead, by the beginning of what is refused.
const WAYS_OUT: &[(&str, &str)] = &[
    ("LATERAL VIEW", "write SELECT …, explode(col) AS x FROM t"),
    ("LATERAL of", "write LATERAL VIEW explode(col) v AS x"),
    ("DISTINCT ON", "GROUP BY the columns, with first(…), min(…) or max(…) for the others"),
    ("PIVOT", "one column each does the same: sum(v) FILTER (WHERE k = 'a') AS a"),
    ("UNPIVOT", "UNION ALL of one SELECT per column does the same"),
    ("TABLESAMPLE", "WHERE rand() < 0.1 takes about a tenth"),
    ("CLUSTER BY", "ORDER BY sorts the whole result"),
    ("DISTRIBUTE BY", "leave it out: rows are distributed by the engine"),
    ("SORT BY", "ORDER BY sorts the whole result"),
    ("FETCH", "write LIMIT n"),
    ("INTERPOLATE", "leave it out"),
    ("WITH FILL", "leave it out, and join with the rows that are missing"),
    ("event-time windows", "cut windows of one length: window(ts, '10 minutes')"),
    ("time travel in this form", "write t VERSION AS OF n, t TIMESTAMP AS OF 'time' or t@vN"),
    ("CONNECT BY", "write WITH RECURSIVE"),
    ("* ILIKE", "name the columns"),
    ("* RENAME", "name the columns, with AS for the new names"),
    ("AS STRUCT", "write struct(…)"),
    ("APPLY", "write a JOIN"),
    ("ASOF JOIN", "join on an equality, and keep the latest row with a window function"),
    ("ARRAY JOIN", "write SELECT …, explode(col) AS x FROM t"),
    ("MATCH_RECOGNIZE", "compare neighbouring rows with lag(…) OVER (…)"),
    ("EXISTS", "write it in WHERE, or LEFT JOIN and look for NULL"),
    ("GROUP BY ALL WITH", "write GROUP BY ROLLUP(…) or CUBE(…)"),
];

/// The same refusal with a way out, if it has none: NOT_SUPPORTED_YET never stands alone.
pub(crate) fn with_way_out(refusal: Diagnostic) -> Diagnostic {
    if refusal.code == "NOT_SUPPORTED_YET" && refusal.help.is_empty() {
        return refusal.help("leave it out or write it another way; docs/sql.md lists what works");
    }
    refusal
}

struct Strict {
    at: Span,
}

impl Strict {
    fn refuse(&self, present: bool, what: &str, at: Span) -> Result<(), Diagnostic> {
        if present { Err(not_yet(what, if at.is_known() { at } else { self.at })) } else { Ok(()) }
    }

    fn query(&self, query: &ast::Query) -> Result<(), Diagnostic> {
        let ast::Query {
            with,
            body,
            order_by,
            limit_clause,
            fetch,
            locks,
            for_clause,
            settings,
            format_clause,
            pipe_operators,
        } = query;
        let span = Span::from(query.span());
        for cte in with.iter().flat_map(|with| &with.cte_tables) {
            let ast::Cte { alias, query: _, from, materialized, closing_paren_token: _ } = cte;
            self.alias(Some(alias))?;
            self.refuse(from.is_some(), "FROM behind a CTE", alias.name.span.into())?;
            self.refuse(materialized.is_some(), "MATERIALIZED", alias.name.span.into())?;
        }
        self.body(body, span)?;
        if let Some(order_by) = order_by {
            let ast::OrderBy { kind, interpolate } = order_by;
            self.refuse(interpolate.is_some(), "INTERPOLATE", span)?;
            if let ast::OrderByKind::Expressions(exprs) = kind {
                for expr in exprs {
                    self.refuse(expr.with_fill.is_some(), "WITH FILL", expr.span().into())?;
                }
            }
        }
        if let Some(ast::LimitClause::LimitOffset { limit_by, .. }) = limit_clause {
            self.refuse(!limit_by.is_empty(), "LIMIT BY", span)?;
        }
        self.refuse(fetch.is_some(), "FETCH", span)?;
        self.refuse(!locks.is_empty(), "FOR UPDATE", span)?;
        self.refuse(for_clause.is_some(), "FOR", span)?;
        self.refuse(settings.is_some(), "SETTINGS", span)?;
        self.refuse(format_clause.is_some(), "FORMAT", span)?;
        self.refuse(!pipe_operators.is_empty(), "pipe syntax (|>)", span)
    }

    fn body(&self, body: &ast::SetExpr, span: Span) -> Result<(), Diagnostic> {
        match body {
            ast::SetExpr::Select(_) | ast::SetExpr::Query(_) | ast::SetExpr::Values(_) => Ok(()),
            ast::SetExpr::SetOperation { left, op: _, set_quantifier, right } => {
                use ast::SetQuantifier::{All, AllByName, ByName, Distinct, DistinctByName, None};
                match set_quantifier {
                    All | Distinct | None | ByName | AllByName | DistinctByName => {}
                }
                self.body(left, span)?;
                self.body(right, span)
            }
            ast::SetExpr::Table(_) => self.refuse(true, "TABLE t as a query (write SELECT * FROM t)", span),
            ast::SetExpr::Insert(_) | ast::SetExpr::Update(_) | ast::SetExpr::Delete(_) | ast::SetExpr::Merge(_) => {
                self.refuse(true, "a statement that changes data inside a query", span)
            }
        }
    }

    fn select(&self, select: &ast::Select) -> Result<(), Diagnostic> {
        let ast::Select {
            select_token: _,
            optimizer_hints: _,
            distinct,
            select_modifiers,
            top,
            top_before_distinct: _,
            projection,
            exclude,
            into,
            from,
            lateral_views,
            prewhere,
            selection: _,
            connect_by,
            group_by,
            cluster_by,
            distribute_by,
            sort_by,
            having: _,
            named_window: _,
            qualify: _,
            window_before_qualify: _,
            value_table_mode,
            flavor: _,
        } = select;
        let span = Span::from(select.span());
        self.refuse(matches!(distinct, Some(ast::Distinct::On(_))), "DISTINCT ON", span)?;
        self.refuse(select_modifiers.is_some(), "a modifier behind SELECT", span)?;
        self.refuse(top.is_some(), "TOP (write LIMIT)", span)?;
        self.refuse(exclude.is_some(), "EXCLUDE behind the select list", span)?;
        self.refuse(into.is_some(), "SELECT INTO (write CREATE TABLE … AS)", span)?;
        if let Some(view) = lateral_views.iter().find(|view| generators::generator(&view.lateral_view).is_none()) {
            let at = Span::from(view.lateral_view.span());
            self.refuse(true, "LATERAL VIEW of a function other than explode, posexplode, inline and stack", at)?;
        }
        self.refuse(prewhere.is_some(), "PREWHERE", span)?;
        self.refuse(!connect_by.is_empty(), "CONNECT BY", span)?;
        self.refuse(!cluster_by.is_empty(), "CLUSTER BY", span)?;
        self.refuse(!distribute_by.is_empty(), "DISTRIBUTE BY", span)?;
        self.refuse(!sort_by.is_empty(), "SORT BY", span)?;
        self.refuse(value_table_mode.is_some(), "AS STRUCT / AS VALUE", span)?;
        if let ast::GroupByExpr::All(modifiers) = group_by {
            self.refuse(!modifiers.is_empty(), "GROUP BY ALL WITH …", span)?;
        }
        if let ast::GroupByExpr::Expressions(_, modifiers) = group_by {
            let known = [ast::GroupByWithModifier::Rollup, ast::GroupByWithModifier::Cube];
            let other = modifiers.len() > 1 || modifiers.iter().any(|modifier| !known.contains(modifier));
            self.refuse(other, "GROUP BY … WITH TOTALS", span)?;
        }
        for item in projection {
            self.select_item(item)?;
            if let ControlFlow::Break(at) = item.visit(&mut Existence { depth: 0 }) {
                self.refuse(true, "EXISTS in the select list", at)?;
            }
        }
        for join in from.iter().flat_map(|from| &from.joins) {
            let ast::Join { relation: _, global, join_operator } = join;
            let at = Span::from(join.relation.span());
            self.refuse(*global, "GLOBAL JOIN", at)?;
            self.join(join_operator, at)?;
        }
        Ok(())
    }

    fn select_item(&self, item: &ast::SelectItem) -> Result<(), Diagnostic> {
        let span = Span::from(item.span());
        match item {
            ast::SelectItem::UnnamedExpr(_) | ast::SelectItem::ExprWithAlias { .. } => Ok(()),
            ast::SelectItem::ExprWithAliases { expr, .. } if generators::generator(expr).is_some() => Ok(()),
            ast::SelectItem::ExprWithAliases { .. } => self.refuse(true, "several aliases for one expression", span),
            ast::SelectItem::QualifiedWildcard(kind, options) => {
                let expr = matches!(kind, ast::SelectItemQualifiedWildcardKind::Expr(_));
                self.refuse(expr, "expr.* (name the fields)", span)?;
                self.wildcard(options, span)
            }
            ast::SelectItem::Wildcard(options) => self.wildcard(options, span),
        }
    }

    fn wildcard(&self, options: &ast::WildcardAdditionalOptions, span: Span) -> Result<(), Diagnostic> {
        let ast::WildcardAdditionalOptions {
            wildcard_token: _,
            opt_ilike,
            opt_exclude: _,
            opt_except: _,
            opt_replace: _,
            opt_rename,
            opt_alias,
        } = options;
        self.refuse(opt_ilike.is_some(), "* ILIKE", span)?;
        self.refuse(opt_rename.is_some(), "* RENAME", span)?;
        self.refuse(opt_alias.is_some(), "an alias behind *", span)
    }

    fn join(&self, operator: &ast::JoinOperator, at: Span) -> Result<(), Diagnostic> {
        use ast::JoinOperator as Op;
        match operator {
            Op::Join(_)
            | Op::Inner(_)
            | Op::Left(_)
            | Op::LeftOuter(_)
            | Op::Right(_)
            | Op::RightOuter(_)
            | Op::FullOuter(_)
            | Op::CrossJoin(_)
            | Op::Semi(_)
            | Op::LeftSemi(_)
            | Op::RightSemi(_)
            | Op::Anti(_)
            | Op::LeftAnti(_)
            | Op::RightAnti(_) => Ok(()),
            Op::CrossApply | Op::OuterApply => self.refuse(true, "APPLY", at),
            Op::AsOf { .. } => self.refuse(true, "ASOF JOIN", at),
            Op::StraightJoin(_) => self.refuse(true, "STRAIGHT_JOIN", at),
            Op::ArrayJoin | Op::LeftArrayJoin | Op::InnerArrayJoin => self.refuse(true, "ARRAY JOIN", at),
        }
    }

    fn alias(&self, alias: Option<&ast::TableAlias>) -> Result<(), Diagnostic> {
        let Some(ast::TableAlias { explicit: _, name, columns, at }) = alias else { return Ok(()) };
        self.refuse(at.is_some(), "AT behind an alias", name.span.into())?;
        self.refuse(columns.iter().any(|c| c.data_type.is_some()), "types in a column alias list", name.span.into())
    }

    fn factor(&self, factor: &ast::TableFactor) -> Result<(), Diagnostic> {
        let span = Span::from(factor.span());
        match factor {
            ast::TableFactor::Table {
                name: _,
                alias,
                args,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
            } => {
                self.alias(alias.as_ref())?;
                self.refuse(args.as_ref().is_some_and(|args| args.settings.is_some()), "SETTINGS", span)?;
                self.refuse(!with_hints.is_empty(), "WITH (…) behind a table that is not a STREAM", span)?;
                self.refuse(version.is_some(), "time travel in this form", span)?;
                self.refuse(*with_ordinality, "WITH ORDINALITY", span)?;
                self.refuse(!partitions.is_empty(), "PARTITION (…)", span)?;
                self.refuse(json_path.is_some(), "a path behind a table name", span)?;
                self.refuse(sample.is_some(), "TABLESAMPLE", span)?;
                self.refuse(!index_hints.is_empty(), "an index hint", span)
            }
            ast::TableFactor::Derived { lateral: _, subquery: _, alias, sample } => {
                self.alias(alias.as_ref())?;
                self.refuse(sample.is_some(), "TABLESAMPLE", span)
            }
            ast::TableFactor::NestedJoin { table_with_joins: _, alias }
            | ast::TableFactor::UNNEST {
                alias,
                array_exprs: _,
                with_offset: _,
                with_offset_alias: _,
                with_ordinality: _,
            } => self.alias(alias.as_ref()),
            ast::TableFactor::Function { lateral: _, name: _, args: _, with_ordinality, alias } => {
                self.alias(alias.as_ref())?;
                self.refuse(*with_ordinality, "WITH ORDINALITY", span)
            }
            ast::TableFactor::Pivot { .. } => self.refuse(true, "PIVOT", span),
            ast::TableFactor::Unpivot { .. } => self.refuse(true, "UNPIVOT", span),
            ast::TableFactor::MatchRecognize { .. } => self.refuse(true, "MATCH_RECOGNIZE", span),
            ast::TableFactor::TableFunction { .. }
            | ast::TableFactor::JsonTable { .. }
            | ast::TableFactor::OpenJsonTable { .. }
            | ast::TableFactor::XmlTable { .. }
            | ast::TableFactor::SemanticView { .. } => self.refuse(true, "this kind of table function", span),
        }
    }

    fn function(&self, function: &ast::Function) -> Result<(), Diagnostic> {
        let ast::Function {
            name,
            uses_odbc_syntax: _,
            parameters,
            args: _,
            within_group: _,
            filter: _,
            null_treatment: _,
            over: _,
        } = function;
        let span = Span::from(name.span());
        self.refuse(!matches!(parameters, ast::FunctionArguments::None), "a second list of parameters", span)?;
        let name = name.to_string().to_lowercase();
        match name.as_str() {
            "monotonically_increasing_id" => Err(Diagnostic::new(
                "STREAMING_EXPRESSION",
                format!("{name}() has no meaning over data that is read in parts: its numbers would start again"),
            )
            .at(span)
            .help("use a column of the data, or uuid(), to tell rows apart")),
            _ => Ok(()),
        }
    }
}

/// Looks for EXISTS, but not inside subqueries, whose WHERE may have it.
struct Existence {
    depth: usize,
}

impl Visitor for Existence {
    type Break = Span;

    fn pre_visit_query(&mut self, _query: &ast::Query) -> ControlFlow<Span> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &ast::Query) -> ControlFlow<Span> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<Span> {
        match expr {
            ast::Expr::Exists { .. } if self.depth == 0 => ControlFlow::Break(expr.span().into()),
            _ => ControlFlow::Continue(()),
        }
    }
}

/// Turns a check's answer into the visitor's.
fn flow(answer: Result<(), Diagnostic>) -> ControlFlow<Diagnostic> {
    match answer {
        Ok(()) => ControlFlow::Continue(()),
        Err(refusal) => ControlFlow::Break(refusal),
    }
}

impl Visitor for Strict {
    type Break = Diagnostic;

    fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<Diagnostic> {
        flow(self.query(query))
    }

    fn pre_visit_select(&mut self, select: &ast::Select) -> ControlFlow<Diagnostic> {
        flow(self.select(select))
    }

    fn pre_visit_table_factor(&mut self, factor: &ast::TableFactor) -> ControlFlow<Diagnostic> {
        flow(self.factor(factor))
    }

    fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<Diagnostic> {
        match expr {
            ast::Expr::Function(function) => flow(self.function(function)),
            _ => ControlFlow::Continue(()),
        }
    }
}
