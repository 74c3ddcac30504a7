//! LATERAL VIEW: `FROM t LATERAL VIEW explode(t.xs) v AS x`.
//!
//! Everything of FROM becomes a subquery that has the generator's columns as well; the names of the relations go on
//! meaning what they meant ([`crate::scope::Moved`]). `FROM t, LATERAL explode(t.xs) AS v(x)` is the same.

use alluvium_parser::{Diagnostic, Span};
use sqlparser::ast::{self, Ident, Spanned};

use crate::functions::generators;
use crate::joins::left_out;
use crate::names::REPEATED;
use crate::scope::{InScope, Moved, Scope};
use crate::strict::not_yet;

/// Generators behind a comma or JOIN LATERAL at the end of FROM as LATERAL VIEWs.
pub(crate) fn as_views(select: &mut ast::Select) {
    let mut views = Vec::new();
    while select.from.len() > 1
        && let Some(view) =
            select.from.last().filter(|from| from.joins.is_empty()).and_then(|from| view(&from.relation))
    {
        views.push(view);
        select.from.pop();
    }
    if let [from] = select.from.as_mut_slice() {
        while let Some(join) = from.joins.last()
            && matches!(
                &join.join_operator,
                ast::JoinOperator::CrossJoin(ast::JoinConstraint::None)
                    | ast::JoinOperator::Join(ast::JoinConstraint::None)
                    | ast::JoinOperator::Inner(ast::JoinConstraint::None)
            )
            && let Some(view) = view(&join.relation)
        {
            views.push(view);
            from.joins.pop();
        }
    }
    views.reverse();
    views.append(&mut select.lateral_views);
    select.lateral_views = views;
}

/// `LATERAL explode(xs) AS v(x)`.
fn view(factor: &ast::TableFactor) -> Option<ast::LateralView> {
    let ast::TableFactor::Function { lateral: true, name, args, with_ordinality: false, alias } = factor else {
        return None;
    };
    let exprs = args.iter().map(|arg| match arg {
        ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    });
    let function = name.0.last()?.as_ident()?.clone();
    let mut call = generators::called(&function.value, exprs.collect::<Option<Vec<_>>>()?);
    if let ast::Expr::Function(called) = &mut call {
        called.name = ast::ObjectName::from(vec![function]);
    }
    generators::generator(&call)?;
    let columns = alias.iter().flat_map(|alias| &alias.columns).map(|column| column.name.clone()).collect();
    let view_name = alias.as_ref().map(|alias| alias.name.clone()).into_iter().collect::<Vec<_>>();
    Some(ast::LateralView {
        lateral_view: call,
        lateral_view_name: ast::ObjectName::from(view_name),
        lateral_col_alias: columns,
        outer: false,
    })
}

/// The view's columns, not yet looked up.
pub(crate) fn generated(view: &ast::LateralView) -> Result<Vec<(ast::Expr, Ident)>, Diagnostic> {
    match generators::generator(&view.lateral_view) {
        Some(function) => generators::columns(function, &view.lateral_col_alias, view.outer),
        None => Err(not_yet("LATERAL VIEW of this function", view.lateral_view.span().into())),
    }
}

/// Puts FROM into the subquery `name`, with `generated` behind its columns.
pub(crate) fn moved(
    select: &mut ast::Select,
    view: &ast::LateralView,
    generated: Vec<(ast::Expr, Ident)>,
    name: String,
    scope: &mut Scope<'_>,
) -> Result<(), Diagnostic> {
    if scope.merged.iter().any(|merged| merged.expr.is_none()) {
        let at = Span::from(view.lateral_view.span());
        return Err(not_yet("LATERAL VIEW behind this JOIN with USING", at).help("give both sides an alias"));
    }
    let mut items = Vec::new();
    let mut into = |expr: ast::Expr, shown: &str| -> String {
        let column = format!("{shown}{REPEATED}{}", items.len());
        items.push(ast::SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('`', &column) });
        column
    };
    let mut relations = Vec::new();
    for (at, relation) in scope.relations.iter().enumerate() {
        let column = |name: &String| {
            scope.column_of(at, name).unwrap_or_else(|| ast::Expr::Identifier(Ident::with_quote('`', name)))
        };
        let columns = relation.columns.iter().map(|name| into(column(name), name)).collect();
        relations.push(InScope { moved: Some(Moved { into: name.clone(), columns }), ..relation.clone() });
    }
    let mut merged = scope.merged.clone();
    for merged in &mut merged {
        if let Some(expr) = merged.expr.take() {
            let idents = [name.clone(), into(expr, &merged.name)];
            merged.expr = Some(ast::Expr::CompoundIdentifier(idents.map(Ident::new).to_vec()));
        }
    }
    let names: Vec<String> = generated.iter().map(|(_, name)| name.value.clone()).collect();
    let columns = generated.into_iter().map(|(expr, name)| into(expr, &name.value)).collect();
    let qualifier = crate::bind::parts_of(&view.lateral_view_name);
    let moved = Some(Moved { into: name.clone(), columns });
    relations.push(InScope { qualifier, columns: names, hidden: false, moved });
    // Relations with a file's `_metadata` keep it: it is among the columns that moved.
    (scope.relations, scope.merged) = (relations, merged);
    let inner = ast::Select {
        projection: items,
        from: std::mem::take(&mut select.from),
        distinct: None,
        selection: None,
        group_by: ast::GroupByExpr::Expressions(Vec::new(), Vec::new()),
        having: None,
        qualify: None,
        named_window: Vec::new(),
        lateral_views: Vec::new(),
        ..select.clone()
    };
    let relation = ast::TableFactor::Derived {
        lateral: false,
        subquery: Box::new(query_of(inner)),
        alias: Some(table_alias(name)),
        sample: None,
    };
    select.from = vec![ast::TableWithJoins { relation, joins: Vec::new() }];
    Ok(())
}

fn query_of(select: ast::Select) -> ast::Query {
    ast::Query {
        with: None,
        body: Box::new(ast::SetExpr::Select(Box::new(select))),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    }
}

/// `AS name`.
pub(crate) fn table_alias(name: String) -> ast::TableAlias {
    ast::TableAlias { explicit: true, name: Ident::new(name), columns: Vec::new(), at: None }
}

/// A name in the list behind an alias.
pub(crate) fn column_alias(name: &str) -> ast::TableAliasColumnDef {
    ast::TableAliasColumnDef { name: Ident::new(name), data_type: None }
}

/// `t.*` of a relation whose columns have moved.
pub(crate) fn expand(options: &ast::WildcardAdditionalOptions, relation: &InScope) -> Vec<ast::SelectItem> {
    let Some(moved) = &relation.moved else { return Vec::new() };
    let shown = relation.columns.len() - usize::from(relation.hidden);
    let columns = relation.columns.iter().zip(&moved.columns).take(shown);
    columns
        .filter(|(name, _)| !left_out(options, name))
        .map(|(name, column)| {
            let idents = vec![Ident::new(&moved.into), Ident::new(column)];
            let expr = ast::Expr::CompoundIdentifier(idents);
            ast::SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('`', name) }
        })
        .collect()
}
