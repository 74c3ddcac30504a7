//! Aggregates and grouping keys that DataFusion would give one name: it leaves casts and brackets out of names, so that
//! `sum(CAST(v AS INT))` and `sum(CAST(v AS FLOAT))` of one SELECT would be two columns `sum(v)`.
//!
//! Each of them is written with a call of [`APART`] around what it takes, which has the text of that in its name and else does
//! nothing; the text is what is shown, and what state is known by. Queries without such a pair stay as they are.

use std::ops::ControlFlow;

use sqlparser::ast::{self, VisitMut, VisitorMut};

use crate::functions::spellings::call;

/// The function that stands around what is to have another name.
pub(crate) const APART: &str = "__apart";

/// Tells apart what of each SELECT in `query`, and of its ORDER BY, would have one name.
pub(crate) fn tell_casts_apart(query: &mut ast::Query, is_aggregate: &dyn Fn(&str) -> bool) {
    let _ = query.visit(&mut Queries { is_aggregate });
}

struct Queries<'a> {
    is_aggregate: &'a dyn Fn(&str) -> bool,
}

impl VisitorMut for Queries<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<()> {
        match query.body.as_mut() {
            ast::SetExpr::Select(select) => of_select(select, query.order_by.as_mut(), self.is_aggregate),
            other => of_branches(other, self.is_aggregate),
        }
        ControlFlow::Continue(())
    }
}

/// The branches of set operations; queries in brackets are visited by themselves.
fn of_branches(body: &mut ast::SetExpr, is_aggregate: &dyn Fn(&str) -> bool) {
    match body {
        ast::SetExpr::Select(select) => of_select(select, None, is_aggregate),
        ast::SetExpr::SetOperation { left, right, .. } => {
            of_branches(left, is_aggregate);
            of_branches(right, is_aggregate);
        }
        _ => {}
    }
}

fn of_select(select: &mut ast::Select, mut order_by: Option<&mut ast::OrderBy>, is_aggregate: &dyn Fn(&str) -> bool) {
    let keys = named_twice(&keys_of(select));
    let mut calls = Vec::new();
    let note = |expr: &mut ast::Expr| {
        if let ast::Expr::Function(call) = expr
            && (call.over.is_some() || is_aggregate(&call.name.to_string().to_lowercase()))
        {
            calls.push(expr.clone());
        }
    };
    each_expression(select, order_by.as_deref_mut(), &mut Outside { before: note, after: |_: &mut _| {}, depth: 0 });
    let calls = named_twice(&calls);
    if keys.is_empty() && calls.is_empty() {
        return;
    }
    let in_call = |expr: &mut ast::Expr| {
        if calls.contains(&expr.to_string())
            && let ast::Expr::Function(call) = expr
            && let ast::FunctionArguments::List(list) = &mut call.args
            && let Some(ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(arg))) = list.args.first_mut()
        {
            *arg = apart(arg.clone());
        }
    };
    let around_key = |expr: &mut ast::Expr| {
        if keys.contains(&expr.to_string()) {
            *expr = apart(expr.clone());
        }
    };
    each_expression(select, order_by, &mut Outside { before: in_call, after: around_key, depth: 0 });
}

/// Visits the expressions of a SELECT without FROM, whose subqueries are queries of their own.
fn each_expression<V: VisitorMut<Break = ()>>(
    select: &mut ast::Select,
    order_by: Option<&mut ast::OrderBy>,
    visitor: &mut V,
) {
    let _ = select.projection.visit(visitor);
    let _ = select.group_by.visit(visitor);
    let _ = select.having.visit(visitor);
    let _ = select.qualify.visit(visitor);
    if let Some(order_by) = order_by {
        let _ = order_by.visit(visitor);
    }
}

/// Grouping keys, those that are called by an alias or a position too.
fn keys_of(select: &ast::Select) -> Vec<ast::Expr> {
    let ast::GroupByExpr::Expressions(exprs, _) = &select.group_by else { return Vec::new() };
    let of_item = |item: &ast::SelectItem| match item {
        ast::SelectItem::ExprWithAlias { expr, .. } | ast::SelectItem::UnnamedExpr(expr) => Some(expr.clone()),
        _ => None,
    };
    let meant = |key: &ast::Expr| match key {
        ast::Expr::Identifier(name) => {
            let called = |item: &&ast::SelectItem| matches!(item, ast::SelectItem::ExprWithAlias { alias, .. } if alias.value == name.value);
            select.projection.iter().find(called).and_then(of_item).unwrap_or_else(|| key.clone())
        }
        ast::Expr::Value(value) => {
            let position = value.value.to_string().parse::<usize>().ok().and_then(|position| position.checked_sub(1));
            position.and_then(|at| select.projection.get(at)).and_then(of_item).unwrap_or_else(|| key.clone())
        }
        key => key.clone(),
    };
    let sets = exprs.iter().flat_map(|expr| match expr {
        ast::Expr::Rollup(of) | ast::Expr::Cube(of) | ast::Expr::GroupingSets(of) => of.iter().flatten().collect(),
        key => vec![key],
    });
    sets.map(meant).collect()
}

/// Visits expressions that are in no subquery: before what is in them, and after.
struct Outside<B, A> {
    before: B,
    after: A,
    depth: usize,
}

impl<B: FnMut(&mut ast::Expr), A: FnMut(&mut ast::Expr)> VisitorMut for Outside<B, A> {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut ast::Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut ast::Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
        if self.depth == 0 {
            (self.before)(expr);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
        if self.depth == 0 {
            (self.after)(expr);
        }
        ControlFlow::Continue(())
    }
}

/// Texts of those of `exprs` that have one name and are not the same.
fn named_twice(exprs: &[ast::Expr]) -> Vec<String> {
    let mut names: Vec<(String, Vec<String>)> = Vec::new();
    for expr in exprs {
        let (name, text) = (name_of(expr), expr.to_string());
        let Some((_, texts)) = names.iter_mut().find(|(known, _)| *known == name) else {
            names.push((name, vec![text]));
            continue;
        };
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    names.into_iter().filter(|(_, texts)| texts.len() > 1).flat_map(|(_, texts)| texts).collect()
}

/// An expression's text without casts and brackets, which are not in its name.
fn name_of(expr: &ast::Expr) -> String {
    struct Bare;
    impl VisitorMut for Bare {
        type Break = ();

        fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
            while let ast::Expr::Cast { expr: inner, .. } | ast::Expr::Nested(inner) = expr {
                let null = ast::Expr::Value(ast::Value::Null.into());
                let inner = std::mem::replace(inner.as_mut(), null);
                *expr = inner;
            }
            ControlFlow::Continue(())
        }
    }
    let mut bare = expr.clone();
    let _ = bare.visit(&mut Bare);
    bare.to_string()
}

fn apart(expr: ast::Expr) -> ast::Expr {
    let text = ast::Value::SingleQuotedString(expr.to_string()).with_empty_span();
    call(APART, vec![expr, ast::Expr::Value(text)])
}
