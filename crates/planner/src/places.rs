//! Where the clauses of a query stand, as far as they work on a stream.
//!
//! A logical plan no longer knows where its ORDER BY was typed. This walk over the syntax tree keeps, for each
//! clause that a stream may be refused for, its place and the stream it works on. It decides nothing.

use std::collections::HashMap;
use std::ops::ControlFlow;

use alluvium_parser::{AlluviumDialect, Place, Query, Span};
use sqlparser::ast::{self, Spanned, Visit, Visitor};
use sqlparser::tokenizer::{Token, Tokenizer};

use crate::bind::{key_of, parts_of};

/// A clause over a stream.
#[derive(Debug, Clone)]
pub(crate) struct Clause {
    /// Where it stands.
    pub span: Span,
    /// The stream it works on, as messages name it.
    pub stream: String,
    /// An aggregate lies between the stream and the clause.
    pub aggregated: bool,
}

/// UNION, INTERSECT or EXCEPT with a stream on at least one side.
#[derive(Debug, Clone)]
pub(crate) struct SetOperation {
    pub span: Span,
    pub operator: ast::SetOperator,
    pub all: bool,
    /// The streams of the two sides.
    pub sides: [Option<String>; 2],
    /// The first relation of the two sides, stream or not.
    pub first: [Option<String>; 2],
}

/// A join with a stream on at least one side.
#[derive(Debug, Clone)]
pub(crate) struct JoinPlace {
    pub span: Span,
    /// The streams of the two sides.
    pub sides: [Option<String>; 2],
}

/// Everything a refusal may point at, in the order of the text.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// Streams: title and place.
    pub streams: Vec<(String, Span)>,
    /// Static relations: name and place.
    pub statics: Vec<(String, Span)>,
    pub sorts: Vec<Clause>,
    pub limits: Vec<Clause>,
    pub offsets: Vec<Clause>,
    pub distincts: Vec<Clause>,
    pub groupings: Vec<Clause>,
    pub distinct_aggregates: Vec<Clause>,
    pub window_functions: Vec<Clause>,
    /// Subqueries in expressions that read a stream.
    pub subqueries: Vec<Clause>,
    pub recursive_ctes: Vec<Clause>,
    pub set_operations: Vec<SetOperation>,
    pub joins: Vec<JoinPlace>,
}

/// What a query block works on.
#[derive(Debug, Clone, Default)]
struct Block {
    stream: Option<String>,
    first: Option<String>,
    aggregated: bool,
}

impl Places {
    /// Walks `query`. `streams` are titles of streams (and of views over streams) by [`key_of`];
    /// `is_aggregate` knows the names of aggregate functions.
    pub fn find(query: &Query, streams: HashMap<String, String>, is_aggregate: &dyn Fn(&str) -> bool) -> Places {
        let mut finder =
            Finder { streams, is_aggregate, words: words(query), ctes: Vec::new(), places: Places::default() };
        finder.query(&query.ast);
        finder.places
    }
}

struct Finder<'a> {
    streams: HashMap<String, String>,
    is_aggregate: &'a dyn Fn(&str) -> bool,
    words: Vec<(String, Span)>,
    ctes: Vec<(String, Block)>,
    places: Places,
}

/// The words of the query's text, upper-case, with their places.
fn words(query: &Query) -> Vec<(String, Span)> {
    let Ok(tokens) = Tokenizer::new(&AlluviumDialect, &query.text).tokenize_with_location() else {
        return Vec::new();
    };
    let start = query.span.start;
    let shift = |at: Place| match at.line {
        1 => Place { line: start.line, column: start.column + at.column.saturating_sub(1) },
        line => Place { line: start.line + line - 1, column: at.column },
    };
    tokens
        .into_iter()
        .filter_map(|token| match token.token {
            Token::Word(word) if word.quote_style.is_none() => {
                let span = Span::from(token.span);
                Some((word.value.to_uppercase(), Span { start: shift(span.start), end: shift(span.end) }))
            }
            _ => None,
        })
        .collect()
}

impl Finder<'_> {
    /// `span` from the last of the words `phrase` before it.
    fn beginning_at(&self, phrase: &str, span: Span) -> Span {
        let before = self.words.iter().rev().find(|(word, at)| at.start < span.start && word == phrase);
        match before {
            Some((_, at)) if span.is_known() => at.to(span),
            _ => span,
        }
    }

    /// The first `word` behind `after`.
    fn word_after(&self, word: &str, after: Span) -> Span {
        let found = self.words.iter().find(|(known, at)| at.start > after.start && known == word);
        found.map_or(after, |(_, at)| *at)
    }

    fn clause(&self, span: Span, block: &Block) -> Option<Clause> {
        let stream = block.stream.clone()?;
        Some(Clause { span, stream, aggregated: block.aggregated })
    }

    fn query(&mut self, query: &ast::Query) -> Block {
        let visible = self.ctes.len();
        if let Some(with) = &query.with {
            for cte in &with.cte_tables {
                let before = self.places.set_operations.len();
                let block = self.query(&cte.query);
                if with.recursive && reads(&cte.query, &cte.alias.name.value) {
                    // Its UNION is what makes it recursive, not a union of two relations.
                    self.places.set_operations.truncate(before);
                    let clause = self.clause(cte.alias.name.span.into(), &block);
                    self.places.recursive_ctes.extend(clause);
                }
                self.ctes.push((cte.alias.name.value.to_lowercase(), block));
            }
        }
        let block = self.body(&query.body);
        if let Some(order_by) = &query.order_by {
            let span = self.beginning_at("ORDER", order_by.span().into());
            self.places.sorts.extend(self.clause(span, &block));
            self.expressions(order_by, &block);
        }
        let (limit, offset) = match &query.limit_clause {
            Some(ast::LimitClause::LimitOffset { limit, offset, .. }) => {
                (limit.as_ref().map(Spanned::span), offset.as_ref().map(Spanned::span))
            }
            Some(ast::LimitClause::OffsetCommaLimit { offset, limit }) => (Some(limit.span()), Some(offset.span())),
            None => (None, None),
        };
        if let Some(span) = limit {
            let span = self.beginning_at("LIMIT", span.into());
            self.places.limits.extend(self.clause(span, &block));
        }
        if let Some(span) = offset {
            let span = self.beginning_at("OFFSET", span.into());
            self.places.offsets.extend(self.clause(span, &block));
        }
        self.ctes.truncate(visible);
        block
    }

    fn body(&mut self, body: &ast::SetExpr) -> Block {
        match body {
            ast::SetExpr::Select(select) => self.select(select),
            ast::SetExpr::Query(query) => self.query(query),
            ast::SetExpr::SetOperation { left, op, set_quantifier, right } => {
                let (left_block, right_block) = (self.body(left), self.body(right));
                let right_span = Span::from(right.span());
                let operation = SetOperation {
                    span: self.beginning_at(&op.to_string(), right_span),
                    operator: *op,
                    all: matches!(set_quantifier, ast::SetQuantifier::All | ast::SetQuantifier::AllByName),
                    sides: [left_block.stream.clone(), right_block.stream.clone()],
                    first: [left_block.first.clone(), right_block.first.clone()],
                };
                if operation.sides.iter().any(Option::is_some) {
                    self.places.set_operations.push(operation);
                }
                Block {
                    stream: left_block.stream.or(right_block.stream),
                    first: left_block.first.or(right_block.first),
                    aggregated: left_block.aggregated && right_block.aggregated,
                }
            }
            _ => Block::default(),
        }
    }

    fn select(&mut self, select: &ast::Select) -> Block {
        let mut block = Block::default();
        for from in &select.from {
            let next = self.from(from);
            if block.first.is_some() && (block.stream.is_some() || next.stream.is_some()) {
                let sides = [block.stream.clone(), next.stream.clone()];
                self.places.joins.push(JoinPlace { span: from.relation.span().into(), sides });
            }
            block = merged(block, next);
        }
        let inner = block.clone();
        let mut seen = Expressions { finder: self, block: &inner, depth: 0, aggregates: 0 };
        let _ = select.projection.visit(&mut seen);
        let _ = select.selection.visit(&mut seen);
        let _ = select.having.visit(&mut seen);
        let _ = select.qualify.visit(&mut seen);
        let _ = select.group_by.visit(&mut seen);
        let aggregates = seen.aggregates;
        let grouped = match &select.group_by {
            ast::GroupByExpr::All(_) => true,
            ast::GroupByExpr::Expressions(exprs, _) => !exprs.is_empty(),
        };
        if grouped || aggregates > 0 {
            let keys = Span::from(select.group_by.span());
            let span = if grouped && keys.is_known() {
                self.beginning_at("GROUP", keys)
            } else {
                let items = select.projection.iter().map(|item| Span::from(item.span()));
                items.fold(Span::UNKNOWN, Span::to)
            };
            self.places.groupings.extend(self.clause(span, &block));
            block.aggregated = true;
        }
        if matches!(select.distinct, Some(ast::Distinct::Distinct)) {
            let span = self.word_after("DISTINCT", select.select_token.0.span.into());
            self.places.distincts.extend(self.clause(span, &block));
        }
        block
    }

    fn from(&mut self, from: &ast::TableWithJoins) -> Block {
        let mut block = self.relation(&from.relation);
        for join in &from.joins {
            let right = self.relation(&join.relation);
            if block.stream.is_some() || right.stream.is_some() {
                let span = self.join_span(join);
                self.places.joins.push(JoinPlace { span, sides: [block.stream.clone(), right.stream.clone()] });
            }
            block = merged(block, right);
        }
        block
    }

    /// From the first word of `LEFT OUTER JOIN t` to the relation's end.
    fn join_span(&self, join: &ast::Join) -> Span {
        let span = Span::from(join.relation.span());
        let Some(mut at) = self.words.iter().rposition(|(word, at)| at.start < span.start && word == "JOIN") else {
            return span;
        };
        let kinds = ["INNER", "LEFT", "RIGHT", "FULL", "OUTER", "SEMI", "ANTI", "CROSS", "NATURAL"];
        while at > 0 && kinds.contains(&self.words[at - 1].0.as_str()) {
            at -= 1;
        }
        self.words[at].1.to(span)
    }

    fn relation(&mut self, factor: &ast::TableFactor) -> Block {
        match factor {
            ast::TableFactor::Table { name, args: None, .. } => {
                let parts = parts_of(name);
                let key = key_of(&parts);
                if let Some((_, block)) = self.ctes.iter().rev().find(|(cte, _)| *cte == key) {
                    return block.clone();
                }
                let span = Span::from(factor.span());
                match self.streams.get(&key) {
                    Some(title) => {
                        self.places.streams.push((title.clone(), span));
                        Block { stream: Some(title.clone()), first: Some(title.clone()), aggregated: false }
                    }
                    None => {
                        let name = parts.join(".");
                        self.places.statics.push((name.clone(), span));
                        Block { stream: None, first: Some(name), aggregated: false }
                    }
                }
            }
            ast::TableFactor::Derived { subquery, .. } => self.query(subquery),
            ast::TableFactor::NestedJoin { table_with_joins, .. } => self.from(table_with_joins),
            _ => Block::default(),
        }
    }

    fn expressions(&mut self, node: &impl Visit, block: &Block) {
        let mut seen = Expressions { finder: self, block, depth: 0, aggregates: 0 };
        let _ = node.visit(&mut seen);
    }
}

fn merged(left: Block, right: Block) -> Block {
    let aggregated = match (&left.stream, &right.stream) {
        (Some(_), Some(_)) => left.aggregated && right.aggregated,
        (Some(_), None) => left.aggregated,
        (None, _) => right.aggregated,
    };
    Block { stream: left.stream.or(right.stream), first: left.first.or(right.first), aggregated }
}

/// Whether a query names `relation` in a FROM clause.
fn reads(query: &ast::Query, relation: &str) -> bool {
    let found = ast::visit_relations(query, |name| match parts_of(name).as_slice() {
        [part] if part.eq_ignore_ascii_case(relation) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

/// Walks the expressions of one block.
struct Expressions<'f, 'a, 'b> {
    finder: &'f mut Finder<'a>,
    block: &'b Block,
    depth: usize,
    aggregates: usize,
}

impl Visitor for Expressions<'_, '_, '_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<()> {
        if self.depth == 0 {
            // What a subquery does inside is not what refuses the statement; that it reads a stream is.
            let before = std::mem::take(&mut self.finder.places);
            let block = self.finder.query(query);
            let inner = std::mem::replace(&mut self.finder.places, before);
            self.finder.places.statics.extend(inner.statics);
            if let Some((stream, span)) = inner.streams.first().cloned().or(block.stream.map(|s| (s, Span::UNKNOWN))) {
                let span = if span.is_known() { span } else { query.span().into() };
                self.finder.places.subqueries.push(Clause { span, stream, aggregated: false });
            }
            self.finder.places.subqueries.extend(inner.subqueries);
        }
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &ast::Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<()> {
        let ast::Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        if self.depth > 0 {
            return ControlFlow::Continue(());
        }
        let span = Span::from(expr.span());
        if function.over.is_some() {
            let clause = self.finder.clause(span, self.block);
            self.finder.places.window_functions.extend(clause);
        } else if (self.finder.is_aggregate)(&function.name.to_string().to_lowercase()) {
            self.aggregates += 1;
            if let ast::FunctionArguments::List(list) = &function.args
                && list.duplicate_treatment == Some(ast::DuplicateTreatment::Distinct)
            {
                // A call's span ends with its last argument; the bracket behind it is usually the next character.
                let mut span = span;
                span.end.column += u64::from(span.is_known());
                let clause = self.finder.clause(span, self.block);
                self.finder.places.distinct_aggregates.extend(clause);
            }
        }
        ControlFlow::Continue(())
    }
}
