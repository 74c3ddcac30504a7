//! Identifiers without case: rewrites each name in a query to the spelling of the thing it means.
//!
//! DataFusion compares names by their bytes; the language does not. Scopes are followed here only as far as
//! spelling needs it: a name that matches nothing is left alone, for DataFusion to report. Also here, because both
//! need the scope: `_metadata` stays out of `*`, `input_file_name()` becomes `_metadata.file_path`, and a column
//! without an alias gets the name Spark would give it.

use std::collections::HashMap;
use std::ops::ControlFlow;

use alluvium_parser::{Diagnostic, Span};
use sqlparser::ast::{self, Ident, Spanned, VisitMut, VisitorMut};

use crate::bind::{key_of, parts_of};
use crate::functions::{generators, spellings};
use crate::joins::{KeptSide, expand_merged, merge_natural, merge_using};
use crate::lateral;
use crate::relation::METADATA_COLUMN;
use crate::scope::{InScope, Scope, plain_column, same, spelled};
use crate::strict::not_yet;

/// What is known of a relation.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    /// Column names, `_metadata` included.
    pub columns: Vec<String>,
    /// The last column is the hidden `_metadata`.
    pub hidden: bool,
}

/// Rewrites the names of `query`. `known` is keyed by [`key_of`].
pub(crate) fn rewrite_names(query: &mut ast::Query, known: HashMap<String, Known>) -> Result<(), Diagnostic> {
    Names { known, ctes: Vec::new(), unnamed: 0 }.query(query, None).map(|_| ())
}

struct Names {
    known: HashMap<String, Known>,
    /// Visible CTEs, innermost last: their spelling and columns.
    ctes: Vec<(String, Known)>,
    /// How many subqueries were given a name.
    unnamed: usize,
}

/// Relations that the parser cut out have the numbers below.
const FIRST_UNNAMED: usize = 1_000_000;

impl Names {
    /// Rewrites a query and gives the names of its columns.
    fn query(&mut self, query: &mut ast::Query, parent: Option<&Scope<'_>>) -> Result<Vec<String>, Diagnostic> {
        let visible = self.ctes.len();
        if let Some(with) = &mut query.with {
            for cte in &mut with.cte_tables {
                self.cte(cte, with.recursive, parent)?;
            }
        }
        let outputs = match query.body.as_mut() {
            ast::SetExpr::Select(select) => self.select(select, query.order_by.as_mut(), parent)?,
            other => {
                let outputs = self.body(other, parent)?;
                let scope = Scope { outputs: outputs.clone(), outputs_first: true, parent, ..Scope::default() };
                self.visit(&mut query.order_by, &scope)?;
                outputs
            }
        };
        self.ctes.truncate(visible);
        Ok(outputs)
    }

    fn cte(&mut self, cte: &mut ast::Cte, recursive: bool, parent: Option<&Scope<'_>>) -> Result<(), Diagnostic> {
        let name = cte.alias.name.value.clone();
        let given: Vec<String> = cte.alias.columns.iter().map(|column| column.name.value.clone()).collect();
        let depth = self.ctes.len();
        if recursive {
            let columns = if given.is_empty() { first_branch_outputs(&cte.query) } else { given.clone() };
            self.ctes.push((name.clone(), Known { columns, hidden: false }));
        }
        let outputs = self.query(&mut cte.query, parent)?;
        self.ctes.truncate(depth);
        let columns = if given.is_empty() { outputs } else { given };
        self.ctes.push((name, Known { columns, hidden: false }));
        Ok(())
    }

    fn body(&mut self, body: &mut ast::SetExpr, parent: Option<&Scope<'_>>) -> Result<Vec<String>, Diagnostic> {
        match body {
            ast::SetExpr::Select(select) => self.select(select, None, parent),
            ast::SetExpr::Query(query) => self.query(query, parent),
            ast::SetExpr::SetOperation { left, op, right, .. } => {
                if *op == ast::SetOperator::Minus {
                    *op = ast::SetOperator::Except;
                }
                let outputs = self.body(left, parent)?;
                self.body(right, parent)?;
                Ok(outputs)
            }
            ast::SetExpr::Values(values) => {
                let width = values.rows.first().map_or(0, |row| row.len());
                let scope = Scope { parent, ..Scope::default() };
                self.visit(values, &scope)?;
                Ok((1..=width).map(|n| format!("column{n}")).collect())
            }
            _ => Ok(Vec::new()),
        }
    }

    fn select(
        &mut self,
        select: &mut ast::Select,
        order_by: Option<&mut ast::OrderBy>,
        parent: Option<&Scope<'_>>,
    ) -> Result<Vec<String>, Diagnostic> {
        let mut scope = Scope { parent, ..Scope::default() };
        lateral::as_views(select);
        for from in &mut select.from {
            self.from(from, &mut scope)?;
        }
        for view in std::mem::take(&mut select.lateral_views) {
            self.lateral_view(select, view, &mut scope)?;
        }
        if let Some((name, mut call)) = grouped_window(&select.group_by) {
            self.visit(&mut call, &scope)?;
            scope.window = Some((name, call));
        }
        scope.grouping = keys_of_sets(&select.group_by);
        let mut outputs = Vec::new();
        for item in std::mem::take(&mut select.projection) {
            let named = matches!(item, ast::SelectItem::ExprWithAlias { .. });
            self.item(item, &scope, &mut outputs, &mut select.projection)?;
            if named && let Some(ast::SelectItem::ExprWithAlias { expr, alias }) = select.projection.last() {
                scope.laterals.push((alias.value.clone(), expr.clone()));
            }
        }
        tell_apart(&mut select.projection, &outputs);
        scope.laterals.clear();
        let outputs: Vec<String> = outputs.into_iter().map(|output| output.name).collect();
        self.visit(&mut select.selection, &scope)?;
        scope.outputs = outputs.clone();
        self.visit(&mut select.group_by, &scope)?;
        with_modifier(&mut select.group_by);
        self.visit(&mut select.having, &scope)?;
        self.visit(&mut select.qualify, &scope)?;
        self.visit(&mut select.named_window, &scope)?;
        if let Some(order_by) = order_by {
            scope.outputs_first = true;
            self.visit(order_by, &scope)?;
        }
        Ok(outputs)
    }

    /// Puts FROM into a subquery that has the view's columns as well.
    fn lateral_view(
        &mut self,
        select: &mut ast::Select,
        view: ast::LateralView,
        scope: &mut Scope<'_>,
    ) -> Result<(), Diagnostic> {
        let mut columns = lateral::generated(&view)?;
        for (expr, _) in &mut columns {
            self.visit(expr, scope)?;
        }
        let name = self.unnamed();
        lateral::moved(select, &view, columns, name, scope)
    }

    fn from(&mut self, from: &mut ast::TableWithJoins, scope: &mut Scope<'_>) -> Result<(), Diagnostic> {
        if !from.joins.is_empty() {
            // Sides that can be named: their columns may have to be told apart.
            let sides = std::iter::once(&mut from.relation).chain(from.joins.iter_mut().map(|join| &mut join.relation));
            sides.for_each(|side| self.name_subquery(side));
        }
        self.relation(&mut from.relation, scope)?;
        for join in &mut from.joins {
            let before = scope.relations.len();
            let at = Span::from(join.relation.span());
            self.relation(&mut join.relation, scope)?;
            let kind = KeptSide::of(&join.join_operator);
            match constraint_of(&mut join.join_operator) {
                Some(ast::JoinConstraint::On(on)) => self.visit(on, scope)?,
                Some(constraint @ ast::JoinConstraint::Using(_)) => merge_using(constraint, scope, before, kind, at)?,
                Some(constraint @ ast::JoinConstraint::Natural) => {
                    merge_natural(constraint, scope, before, kind, at)?;
                }
                Some(ast::JoinConstraint::None) | None => {}
            }
            use ast::JoinOperator as Op;
            match &join.join_operator {
                Op::Semi(_) | Op::LeftSemi(_) | Op::Anti(_) | Op::LeftAnti(_) => scope.relations.truncate(before),
                Op::RightSemi(_) | Op::RightAnti(_) => {
                    scope.relations.drain(..before);
                    scope.merged.clear();
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn relation(&mut self, factor: &mut ast::TableFactor, scope: &mut Scope<'_>) -> Result<(), Diagnostic> {
        let (known, name, alias) = match factor {
            ast::TableFactor::Table { name, alias, args: None, .. } => {
                (self.table(name), parts_of(name), alias.as_ref())
            }
            ast::TableFactor::Derived { subquery, alias, lateral, .. } => {
                if let ast::SetExpr::Values(values) = subquery.body.as_ref()
                    && alias.as_ref().is_none_or(|alias| alias.columns.is_empty())
                {
                    let width = values.rows.first().map_or(0, |row| row.len());
                    let mut named = alias.take().unwrap_or_else(|| lateral::table_alias(self.unnamed()));
                    named.columns = (1..=width).map(|n| lateral::column_alias(&format!("col{n}"))).collect();
                    *alias = Some(named);
                }
                let outer = if *lateral { Some(&*scope) } else { scope.parent };
                let columns = self.query(subquery, outer)?;
                (Known { columns, hidden: false }, Vec::new(), alias.as_ref())
            }
            ast::TableFactor::NestedJoin { table_with_joins, alias: None } => {
                return self.from(table_with_joins, scope);
            }
            ast::TableFactor::NestedJoin { table_with_joins, alias } => {
                let mut inner = Scope { parent: scope.parent, ..Scope::default() };
                self.from(table_with_joins, &mut inner)?;
                let columns = inner.relations.into_iter().flat_map(|relation| relation.columns).collect();
                (Known { columns, hidden: false }, Vec::new(), alias.as_ref())
            }
            ast::TableFactor::Table { alias, .. }
            | ast::TableFactor::Function { alias, .. }
            | ast::TableFactor::UNNEST { alias, .. } => {
                (Known { columns: Vec::new(), hidden: false }, Vec::new(), alias.as_ref())
            }
            _ => return Ok(()),
        };
        let (mut columns, hidden) = (known.columns, known.hidden);
        let mut qualifier = name;
        if let Some(alias) = alias {
            qualifier = vec![alias.name.value.clone()];
            if !alias.columns.is_empty() {
                columns = alias.columns.iter().map(|column| column.name.value.clone()).collect();
            }
        }
        scope.relations.push(InScope { qualifier, columns, hidden, moved: None });
        Ok(())
    }

    /// A name that nobody can have typed, and that no message shows.
    fn unnamed(&mut self) -> String {
        self.unnamed += 1;
        format!("__relation_{}", FIRST_UNNAMED + self.unnamed)
    }

    /// Gives a subquery without an alias a name.
    fn name_subquery(&mut self, factor: &mut ast::TableFactor) {
        if let ast::TableFactor::Derived { alias: alias @ None, .. } = factor {
            let name = Ident::new(self.unnamed());
            *alias = Some(ast::TableAlias { explicit: true, name, columns: Vec::new(), at: None });
        }
    }

    /// Spells a table's name as its CTE does, if it is one, and gives what is known of it.
    fn table(&self, name: &mut ast::ObjectName) -> Known {
        let parts = parts_of(name);
        if let [part] = parts.as_slice()
            && let Some((spelling, known)) = self.ctes.iter().rev().find(|(cte, _)| same(cte, part))
        {
            if let Some(ast::ObjectNamePart::Identifier(ident)) = name.0.first_mut() {
                ident.value.clone_from(spelling);
            }
            return known.clone();
        }
        self.known.get(&key_of(&parts)).cloned().unwrap_or(Known { columns: Vec::new(), hidden: false })
    }

    /// Rewrites one item of a select list, notes the names it gives, and puts it (or what it stands for) into `out`.
    fn item(
        &mut self,
        mut item: ast::SelectItem,
        scope: &Scope<'_>,
        outputs: &mut Vec<Output>,
        out: &mut Vec<ast::SelectItem>,
    ) -> Result<(), Diagnostic> {
        if let Some(columns) = generated(&item)? {
            for (expr, alias) in columns {
                self.item(ast::SelectItem::ExprWithAlias { expr, alias }, scope, outputs, out)?;
            }
            return Ok(());
        }
        match &mut item {
            ast::SelectItem::UnnamedExpr(expr) => {
                let name = spark_name(expr);
                let is_column = matches!(expr, ast::Expr::Identifier(_));
                self.visit(expr, scope)?;
                let name = match (expr as &ast::Expr, is_column) {
                    (ast::Expr::Identifier(ident), true) if !ident.value.contains(REPEATED) => ident.value.clone(),
                    (ast::Expr::CompoundIdentifier(idents), _)
                        if plain_column(idents, scope) && idents.last().is_some_and(|i| same(&i.value, &name)) =>
                    {
                        idents.last().map(|ident| ident.value.clone()).unwrap_or(name)
                    }
                    _ => {
                        let span = expr.span();
                        let alias = Ident { value: name.clone(), quote_style: Some('`'), span };
                        item = ast::SelectItem::ExprWithAlias { expr: expr.clone(), alias };
                        name
                    }
                };
                outputs.push(Output { name, item: Some(out.len()) });
            }
            ast::SelectItem::ExprWithAlias { expr, alias } => {
                self.visit(expr, scope)?;
                outputs.push(Output { name: alias.value.clone(), item: Some(out.len()) });
            }
            ast::SelectItem::QualifiedWildcard(ast::SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                let Some(relation) = self.wildcard_relation(name, scope) else {
                    out.push(item);
                    return Ok(());
                };
                let relation = relation.clone();
                self.wildcard(options, std::slice::from_ref(&relation), scope, outputs)?;
                if relation.moved.is_some() {
                    for expanded in lateral::expand(options, &relation) {
                        if let ast::SelectItem::ExprWithAlias { alias, .. } = &expanded {
                            // Told of above, without the item that gives it.
                            if let Some(told) = outputs.iter_mut().find(|o| o.item.is_none() && o.name == alias.value) {
                                told.item = Some(out.len());
                            }
                        }
                        out.push(expanded);
                    }
                    return Ok(());
                }
            }
            ast::SelectItem::Wildcard(options) => {
                let whole = scope.merged.iter().all(|merged| merged.expr.is_some());
                let moved = scope.relations.iter().any(|relation| relation.moved.is_some());
                if whole && (moved || !scope.merged.is_empty()) {
                    let relations = scope.relations.clone();
                    self.wildcard(options, &relations, scope, &mut Vec::new())?;
                    for expanded in expand_merged(options, scope) {
                        let name = match &expanded {
                            ast::SelectItem::ExprWithAlias { alias, .. } => alias.value.clone(),
                            ast::SelectItem::UnnamedExpr(expr) => spark_name(expr),
                            _ => String::new(),
                        };
                        outputs.push(Output { name, item: Some(out.len()) });
                        out.push(expanded);
                    }
                    return Ok(());
                }
                let hidden = scope.relations.iter().filter(|relation| relation.hidden).count();
                if hidden > 1 {
                    return self.split_wildcard(options, scope, outputs, out);
                }
                let relations = scope.relations.clone();
                self.wildcard(options, &relations, scope, outputs)?;
            }
            _ => {}
        }
        out.push(item);
        Ok(())
    }

    /// The relation of `t.*`, with `t` rewritten to its spelling.
    fn wildcard_relation<'s>(&self, name: &mut ast::ObjectName, scope: &'s Scope<'_>) -> Option<&'s InScope> {
        let parts = parts_of(name);
        let relation = scope.relations.iter().find(|relation| {
            let skip = relation.qualifier.len().saturating_sub(parts.len());
            relation.qualifier.len() >= parts.len()
                && relation.qualifier[skip..].iter().zip(&parts).all(|(known, typed)| same(known, typed))
        })?;
        let skip = relation.qualifier.len() - parts.len();
        for (part, spelling) in name.0.iter_mut().zip(&relation.qualifier[skip..]) {
            if let ast::ObjectNamePart::Identifier(ident) = part {
                ident.value.clone_from(spelling);
            }
        }
        Some(relation)
    }

    /// `*` over several file relations: one `t.*` for each, since EXCEPT cannot say which `_metadata` it means.
    fn split_wildcard(
        &mut self,
        options: &ast::WildcardAdditionalOptions,
        scope: &Scope<'_>,
        outputs: &mut Vec<Output>,
        out: &mut Vec<ast::SelectItem>,
    ) -> Result<(), Diagnostic> {
        let at = Span::from(options.span());
        let plain = options.opt_except.is_none() && options.opt_exclude.is_none() && options.opt_replace.is_none();
        if !plain || !scope.merged.is_empty() {
            return Err(not_yet("this form of * over several file relations", at).help("name the columns"));
        }
        for relation in scope.relations.clone() {
            let mut options = options.clone();
            self.wildcard(&mut options, std::slice::from_ref(&relation), scope, outputs)?;
            let name = ast::ObjectName::from(relation.qualifier.iter().map(Ident::new).collect::<Vec<_>>());
            let kind = ast::SelectItemQualifiedWildcardKind::ObjectName(name);
            out.push(ast::SelectItem::QualifiedWildcard(kind, options));
        }
        Ok(())
    }

    /// Spells the columns a wildcard leaves out, leaves `_metadata` out as well, and notes what remains.
    fn wildcard(
        &mut self,
        options: &mut ast::WildcardAdditionalOptions,
        relations: &[InScope],
        scope: &Scope<'_>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), Diagnostic> {
        let spell = |ident: &mut Ident| {
            if let Some(name) = relations.iter().find_map(|relation| spelled(&relation.columns, &ident.value)) {
                ident.value.clone_from(name);
            }
        };
        let mut without: Vec<String> = Vec::new();
        if let Some(ast::ExcludeSelectItem::Single(name)) = &options.opt_exclude {
            options.opt_exclude = Some(ast::ExcludeSelectItem::Multiple(vec![name.clone()]));
        }
        if let Some(ast::ExcludeSelectItem::Multiple(names)) = &mut options.opt_exclude {
            for part in names.iter_mut().flat_map(|name| &mut name.0) {
                if let ast::ObjectNamePart::Identifier(ident) = part {
                    spell(ident);
                    without.push(ident.value.clone());
                }
            }
        }
        if let Some(except) = &mut options.opt_except {
            for ident in std::iter::once(&mut except.first_element).chain(&mut except.additional_elements) {
                spell(ident);
                without.push(ident.value.clone());
            }
        }
        if let Some(replace) = &mut options.opt_replace {
            for element in &mut replace.items {
                spell(&mut element.column_name);
                self.visit(&mut element.expr, scope)?;
            }
        }
        if relations.iter().any(|relation| relation.hidden) && !without.iter().any(|name| name == METADATA_COLUMN) {
            let metadata = Ident::new(METADATA_COLUMN);
            match &mut options.opt_except {
                Some(except) => except.additional_elements.push(metadata),
                None => {
                    options.opt_except =
                        Some(ast::ExceptSelectItem { first_element: metadata, additional_elements: Vec::new() });
                }
            }
        }
        for relation in relations {
            let shown = relation.columns.len() - usize::from(relation.hidden);
            let names = relation.columns[..shown].iter().filter(|name| !without.contains(name));
            outputs.extend(names.map(|name| Output { name: name.clone(), item: None }));
        }
        Ok(())
    }

    /// Rewrites every identifier of `node`, and every query inside it, against `scope`.
    fn visit(&mut self, node: &mut impl VisitMut, scope: &Scope<'_>) -> Result<(), Diagnostic> {
        let mut rewriter = Rewriter { names: self, scope, depth: 0, parameters: Vec::new() };
        match node.visit(&mut rewriter) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(refusal) => Err(refusal),
        }
    }
}

/// `GROUP BY a, b WITH ROLLUP` as `GROUP BY ROLLUP (a, b)`; the same for CUBE.
fn with_modifier(group_by: &mut ast::GroupByExpr) {
    let ast::GroupByExpr::Expressions(exprs, modifiers) = group_by else { return };
    let sets = || exprs.iter().map(|expr| vec![expr.clone()]).collect();
    let all = match modifiers.as_slice() {
        [ast::GroupByWithModifier::Rollup] => ast::Expr::Rollup(sets()),
        [ast::GroupByWithModifier::Cube] => ast::Expr::Cube(sets()),
        _ => return,
    };
    (*exprs, *modifiers) = (vec![all], Vec::new());
}

/// The columns of a generator such as `explode(x) AS y`; None for everything else.
fn generated(item: &ast::SelectItem) -> Result<Option<Vec<(ast::Expr, Ident)>>, Diagnostic> {
    let (expr, names) = match item {
        ast::SelectItem::UnnamedExpr(expr) => (expr, Vec::new()),
        ast::SelectItem::ExprWithAlias { expr, alias } => (expr, vec![alias.clone()]),
        ast::SelectItem::ExprWithAliases { expr, aliases } => (expr, aliases.clone()),
        _ => return Ok(None),
    };
    generators::generator(expr).map(|function| generators::columns(function, &names, false)).transpose()
}

/// A column of a select list.
struct Output {
    name: String,
    /// The item that gives it; None for `*`, which gives several.
    item: Option<usize>,
}

/// What stands between a name and the number that tells it from the same name before it.
pub(crate) const REPEATED: char = '\u{0}';

/// A column's name as it is shown: a repeated one without what tells it apart.
pub fn shown_name(name: &str) -> &str {
    name.split(REPEATED).next().unwrap_or(name)
}

/// `SELECT a, a` is fine in Spark and two columns of one name to DataFusion: each but one gets a name of its own.
fn tell_apart(items: &mut [ast::SelectItem], outputs: &[Output]) {
    for (at, output) in outputs.iter().enumerate() {
        let Some(item) = output.item.and_then(|item| items.get_mut(item)) else { continue };
        let earlier = outputs[..at].iter().any(|other| other.name == output.name);
        let in_star = outputs[at..].iter().any(|other| other.item.is_none() && other.name == output.name);
        if !earlier && !in_star {
            continue;
        }
        let distinct = format!("{}{REPEATED}{at}", output.name);
        match item {
            ast::SelectItem::ExprWithAlias { alias, .. } => alias.value = distinct,
            ast::SelectItem::UnnamedExpr(expr) => {
                let alias = Ident { value: distinct, quote_style: Some('`'), span: expr.span() };
                *item = ast::SelectItem::ExprWithAlias { expr: expr.clone(), alias };
            }
            _ => {}
        }
    }
}

/// Column names of the first branch of a recursive CTE, as far as they can be read off.
fn first_branch_outputs(query: &ast::Query) -> Vec<String> {
    let mut body = query.body.as_ref();
    while let ast::SetExpr::SetOperation { left, .. } = body {
        body = left;
    }
    let ast::SetExpr::Select(select) = body else { return Vec::new() };
    select
        .projection
        .iter()
        .filter_map(|item| match item {
            ast::SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
            ast::SelectItem::UnnamedExpr(expr) => Some(spark_name(expr)),
            _ => None,
        })
        .collect()
}

fn constraint_of(operator: &mut ast::JoinOperator) -> Option<&mut ast::JoinConstraint> {
    use ast::JoinOperator as Op;
    match operator {
        Op::Join(c)
        | Op::Inner(c)
        | Op::Left(c)
        | Op::LeftOuter(c)
        | Op::Right(c)
        | Op::RightOuter(c)
        | Op::FullOuter(c)
        | Op::CrossJoin(c)
        | Op::Semi(c)
        | Op::LeftSemi(c)
        | Op::RightSemi(c)
        | Op::Anti(c)
        | Op::LeftAnti(c)
        | Op::RightAnti(c)
        | Op::StraightJoin(c) => Some(c),
        Op::AsOf { constraint, .. } => Some(constraint),
        Op::CrossApply | Op::OuterApply | Op::ArrayJoin | Op::LeftArrayJoin | Op::InnerArrayJoin => None,
    }
}

/// The call of `window` or `session_window` in a GROUP BY, and its name: `window` and `window.start` mean it and its
/// fields.
fn grouped_window(group_by: &ast::GroupByExpr) -> Option<(&'static str, ast::Expr)> {
    let ast::GroupByExpr::Expressions(keys, _) = group_by else { return None };
    keys.iter().find_map(|key| Some((window_call(key)?, key.clone())))
}

/// The keys of GROUPING SETS, ROLLUP and CUBE, each once.
fn keys_of_sets(group_by: &ast::GroupByExpr) -> Vec<ast::Expr> {
    let ast::GroupByExpr::Expressions(exprs, modifiers) = group_by else { return Vec::new() };
    let mut keys: Vec<ast::Expr> = Vec::new();
    let mut sets = !modifiers.is_empty();
    for expr in exprs {
        let of = match expr {
            ast::Expr::Rollup(of) | ast::Expr::Cube(of) | ast::Expr::GroupingSets(of) => {
                sets = true;
                of.iter().flatten().cloned().collect()
            }
            key => vec![key.clone()],
        };
        keys.extend(of.into_iter().filter(|key| !keys.contains(key)).collect::<Vec<_>>());
    }
    if sets { keys } else { Vec::new() }
}

fn window_call(expr: &ast::Expr) -> Option<&'static str> {
    match expr {
        ast::Expr::Function(call) => window_name(call),
        _ => None,
    }
}

/// Which function that cuts event time is called, and what Spark names the column.
pub(crate) fn window_name(call: &ast::Function) -> Option<&'static str> {
    let name = call.name.to_string();
    let known = ["window", "session_window"].into_iter().find(|known| name.eq_ignore_ascii_case(known));
    known.filter(|_| call.over.is_none())
}

/// The name Spark gives a column that has none.
fn spark_name(expr: &ast::Expr) -> String {
    if let Some(name) = window_call(expr) {
        return name.to_string();
    }
    match expr {
        ast::Expr::Identifier(ident) => ident.value.clone(),
        ast::Expr::CompoundIdentifier(idents) => idents.last().map(|ident| ident.value.clone()).unwrap_or_default(),
        ast::Expr::Value(value) => match &value.value {
            ast::Value::SingleQuotedString(text) | ast::Value::DoubleQuotedString(text) => text.clone(),
            other => other.to_string(),
        },
        ast::Expr::Nested(inner) => spark_name(inner),
        ast::Expr::JsonAccess { path, .. } => match path.path.last() {
            Some(ast::JsonPathElem::Dot { key, .. }) => key.clone(),
            _ => expr.to_string(),
        },
        other => other.to_string().replace("(*)", "(1)"),
    }
}

/// Brings `t.c[0].f` to one form: names in front are one compound name, fields behind are text, not names to look up.
fn plain_fields(root: &mut Box<ast::Expr>, chain: &mut Vec<ast::AccessExpr>) {
    if let ast::Expr::Identifier(first) = root.as_ref() {
        let names = chain.iter().map_while(|access| match access {
            ast::AccessExpr::Dot(ast::Expr::Identifier(ident)) => Some(ident.clone()),
            _ => None,
        });
        let idents: Vec<Ident> = std::iter::once(first.clone()).chain(names).collect();
        if idents.len() > 1 {
            chain.drain(..idents.len() - 1);
            **root = ast::Expr::CompoundIdentifier(idents);
        }
    }
    for access in chain {
        if let ast::AccessExpr::Dot(field) = access
            && let ast::Expr::Identifier(ident) = field
        {
            let span = ident.span;
            *field = ast::Expr::Value(ast::Value::SingleQuotedString(ident.value.clone()).with_span(span));
        }
    }
}

struct Rewriter<'a, 's, 'p> {
    names: &'a mut Names,
    scope: &'s Scope<'p>,
    /// Subqueries entered; their names were rewritten on entering.
    depth: usize,
    /// Parameters of the lambdas around.
    parameters: Vec<String>,
}

impl Rewriter<'_, '_, '_> {
    fn expr(&mut self, expr: &mut ast::Expr) -> Result<(), Diagnostic> {
        match expr {
            ast::Expr::Identifier(ident) if !self.parameters.contains(&ident.value) => {
                match self.scope.merged(&ident.value) {
                    Some(merged) => *expr = merged.clone(),
                    None => {
                        if !self.scope.bare(ident)?
                            && let Some(window) = self.scope.window(&ident.value)
                        {
                            *expr = window.clone();
                        }
                    }
                }
            }
            ast::Expr::CompoundIdentifier(idents)
                if idents.first().is_none_or(|first| !self.parameters.contains(&first.value)) =>
            {
                if !self.scope.compound(idents)?
                    && let Some((first, fields)) = idents.split_first()
                    && let Some(window) = self.scope.window(&first.value)
                {
                    let mut access_chain: Vec<ast::AccessExpr> = fields
                        .iter()
                        .cloned()
                        .map(|field| ast::AccessExpr::Dot(ast::Expr::Identifier(field)))
                        .collect();
                    let mut root = Box::new(window.clone());
                    plain_fields(&mut root, &mut access_chain);
                    *expr = ast::Expr::CompoundFieldAccess { root, access_chain };
                }
            }
            ast::Expr::Lambda(lambda) => match &lambda.params {
                ast::OneOrManyWithParens::One(one) => self.parameters.push(one.name.value.clone()),
                ast::OneOrManyWithParens::Many(many) => {
                    self.parameters.extend(many.iter().map(|parameter| parameter.name.value.clone()));
                }
            },
            ast::Expr::RLike { .. } | ast::Expr::UnaryOp { .. } | ast::Expr::Like { .. } | ast::Expr::ILike { .. } => {
                if let Some(call) = spellings::operator(expr) {
                    *expr = call;
                }
            }
            ast::Expr::Struct { values, fields } if fields.is_empty() => *expr = spellings::struct_call(values),
            ast::Expr::CompoundFieldAccess { root, access_chain } => plain_fields(root, access_chain),
            ast::Expr::JsonAccess { value, path } => {
                if let Some(call) = spellings::json_access(value, path) {
                    *expr = call;
                }
            }
            ast::Expr::Function(function) => {
                let at = Span::from(function.name.span());
                if function.name.to_string().eq_ignore_ascii_case("input_file_name") {
                    *expr = self.scope.file_path(at)?;
                } else if function.name.to_string().eq_ignore_ascii_case("grouping_id") {
                    *expr = spellings::grouping_id(function, &self.scope.grouping);
                } else if let Some(respelled) = spellings::respelled(function) {
                    *expr = respelled;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl VisitorMut for Rewriter<'_, '_, '_> {
    type Break = Diagnostic;

    fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<Diagnostic> {
        if self.depth == 0
            && let Err(refusal) = self.names.query(query, Some(self.scope))
        {
            return ControlFlow::Break(refusal);
        }
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut ast::Query) -> ControlFlow<Diagnostic> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<Diagnostic> {
        if self.depth > 0 {
            return ControlFlow::Continue(());
        }
        match self.expr(expr) {
            Ok(()) => ControlFlow::Continue(()),
            Err(refusal) => ControlFlow::Break(refusal),
        }
    }

    fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<Diagnostic> {
        // On the way out, so that what the name stands for is not rewritten a second time.
        if self.depth == 0
            && let ast::Expr::Identifier(ident) = expr
            && !self.parameters.contains(&ident.value)
            && let Some(lateral) = self.scope.lateral(&ident.value)
        {
            *expr = ast::Expr::Nested(Box::new(lateral.clone()));
            return ControlFlow::Continue(());
        }
        if self.depth == 0
            && let ast::Expr::Lambda(lambda) = expr
        {
            let count = match &lambda.params {
                ast::OneOrManyWithParens::One(_) => 1,
                ast::OneOrManyWithParens::Many(many) => many.len(),
            };
            self.parameters.truncate(self.parameters.len().saturating_sub(count));
        }
        ControlFlow::Continue(())
    }
}
