//! JOIN … USING and NATURAL JOIN as Spark has them: the columns of both sides that are named become one, come first
//! in `*`, and have the value of the side that is kept (of either side in a FULL JOIN).
//!
//! Works on the syntax tree: the condition becomes ON, the merged names become what they stand for.

use alluvium_parser::{Diagnostic, Span};
use sqlparser::ast::{self, Ident};

use crate::relation::METADATA_COLUMN;
use crate::scope::{InScope, Merged, Scope, same, spelled};
use crate::strict::not_yet;

/// Which side's rows a join keeps when nothing matches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum KeptSide {
    Left,
    Right,
    Both,
}

impl KeptSide {
    pub fn of(operator: &ast::JoinOperator) -> KeptSide {
        use ast::JoinOperator as Op;
        match operator {
            Op::Right(_) | Op::RightOuter(_) | Op::RightSemi(_) | Op::RightAnti(_) => KeptSide::Right,
            Op::FullOuter(_) => KeptSide::Both,
            _ => KeptSide::Left,
        }
    }
}

/// The sides of one merged column.
struct Sides {
    left: ast::Expr,
    right: ast::Expr,
    members: Vec<usize>,
}

/// Puts ON in the place of USING, and remembers which columns are one. Relations from `before` on are the right side.
pub(crate) fn merge_using(
    constraint: &mut ast::JoinConstraint,
    scope: &mut Scope<'_>,
    before: usize,
    kept: KeptSide,
    at: Span,
) -> Result<(), Diagnostic> {
    let ast::JoinConstraint::Using(columns) = constraint else { return Ok(()) };
    let mut names = Vec::new();
    for ident in columns.iter_mut().flat_map(|name| &mut name.0).filter_map(|part| match part {
        ast::ObjectNamePart::Identifier(ident) => Some(ident),
        ast::ObjectNamePart::Function(_) => None,
    }) {
        let left = scope.relations[..before].iter().find_map(|relation| spelled(&relation.columns, &ident.value));
        if let Some(name) = left {
            ident.value.clone_from(name);
        }
        names.push(ident.value.clone());
    }
    settle(constraint, names, scope, before, kept, at)
}

/// Puts ON in the place of what stands here, where both sides can be named.
fn settle(
    constraint: &mut ast::JoinConstraint,
    names: Vec<String>,
    scope: &mut Scope<'_>,
    before: usize,
    kept: KeptSide,
    at: Span,
) -> Result<(), Diagnostic> {
    match merge(&names, scope, before, kept) {
        Some(on) => *constraint = ast::JoinConstraint::On(on),
        None => left_as_is(names, scope, kept, at)?,
    }
    Ok(())
}

/// The same for the columns that both sides have.
pub(crate) fn merge_natural(
    constraint: &mut ast::JoinConstraint,
    scope: &mut Scope<'_>,
    before: usize,
    kept: KeptSide,
    at: Span,
) -> Result<(), Diagnostic> {
    let hidden = |relations: &[InScope]| relations.iter().any(|relation| relation.hidden);
    let (left, right) = scope.relations.split_at(before);
    let files = hidden(left) && hidden(right);
    let mut common: Vec<String> = Vec::new();
    for name in left.iter().flat_map(|relation| &relation.columns) {
        let both = right.iter().any(|relation| spelled(&relation.columns, name).is_some());
        if both && name != METADATA_COLUMN && !common.contains(name) {
            common.push(name.clone());
        }
    }
    if files && common.is_empty() {
        return Err(not_yet("NATURAL JOIN of two file relations", at).help("name the columns with USING (…)"));
    }
    settle(constraint, common, scope, before, kept, at)
}

/// The condition, with the merged columns noted; None when a side cannot be named.
fn merge(names: &[String], scope: &mut Scope<'_>, before: usize, kept: KeptSide) -> Option<ast::Expr> {
    let sides = names.iter().map(|name| sides(name, scope, before)).collect::<Option<Vec<Sides>>>()?;
    let mut condition: Option<ast::Expr> = None;
    for (name, Sides { left, right, members }) in names.iter().zip(sides) {
        let equal = binary(left.clone(), ast::BinaryOperator::Eq, right.clone());
        condition = Some(match condition {
            Some(before) => binary(before, ast::BinaryOperator::And, equal),
            None => equal,
        });
        let expr = match kept {
            KeptSide::Left => left,
            KeptSide::Right => right,
            KeptSide::Both => coalesce(left, right),
        };
        scope.merged.retain(|merged| !same(&merged.name, name));
        scope.merged.push(Merged { name: name.clone(), expr: Some(expr), members });
    }
    condition
}

fn sides(name: &str, scope: &Scope<'_>, before: usize) -> Option<Sides> {
    let having = |from: usize, to: usize| {
        (from..to).filter(|at| spelled(&scope.relations[*at].columns, name).is_some()).collect::<Vec<usize>>()
    };
    let merged = scope.merged.iter().find(|merged| same(&merged.name, name));
    let (left, mut members) = match merged {
        Some(merged) => (merged.expr.clone()?, merged.members.clone()),
        None => match having(0, before).as_slice() {
            [only] => (scope.column_of(*only, name)?, vec![*only]),
            _ => return None,
        },
    };
    let right = match having(before, scope.relations.len()).as_slice() {
        [only] => {
            members.push(*only);
            scope.column_of(*only, name)?
        }
        _ => return None,
    };
    Some(Sides { left, right, members })
}

/// DataFusion's own USING gives the left side's value, which is right unless rows of the right side are kept.
fn left_as_is(names: Vec<String>, scope: &mut Scope<'_>, kept: KeptSide, at: Span) -> Result<(), Diagnostic> {
    if kept != KeptSide::Left && names.iter().all(|name| scope.relations.iter().any(|r| r.columns.contains(name))) {
        return Err(not_yet("this RIGHT or FULL JOIN with USING, of a relation without a name,", at)
            .help("give both sides an alias: (SELECT …) AS a RIGHT JOIN (SELECT …) AS b USING (k)"));
    }
    scope.merged.extend(names.into_iter().map(|name| Merged { name, expr: None, members: Vec::new() }));
    Ok(())
}

/// `*` over a join with USING: the merged columns, then the others, relation by relation. What `options` leave out is
/// left out; names in them are spelled already.
pub(crate) fn expand_merged(options: &ast::WildcardAdditionalOptions, scope: &Scope<'_>) -> Vec<ast::SelectItem> {
    let mut out = Vec::new();
    let mut push = |name: &String, expr: ast::Expr| {
        if left_out(options, name) {
            return;
        }
        let replaced = options.opt_replace.iter().flat_map(|replace| &replace.items);
        let expr = match replaced.into_iter().find(|element| same(&element.column_name.value, name)) {
            Some(element) => element.expr.clone(),
            None => expr,
        };
        let plain = match &expr {
            ast::Expr::Identifier(ident) => ident.value == *name,
            ast::Expr::CompoundIdentifier(idents) => idents.last().is_some_and(|ident| ident.value == *name),
            _ => false,
        };
        out.push(match plain {
            true => ast::SelectItem::UnnamedExpr(expr),
            false => ast::SelectItem::ExprWithAlias { expr, alias: quoted(name) },
        });
    };
    for merged in &scope.merged {
        if let Some(expr) = &merged.expr {
            push(&merged.name, expr.clone());
        }
    }
    for (at, relation) in scope.relations.iter().enumerate() {
        let shown = relation.columns.len() - usize::from(relation.hidden);
        for name in &relation.columns[..shown] {
            let gone = |merged: &Merged| merged.members.contains(&at) && same(&merged.name, name);
            if !scope.merged.iter().any(gone) {
                push(name, scope.column_of(at, name).unwrap_or_else(|| ast::Expr::Identifier(quoted(name))));
            }
        }
    }
    out
}

pub(crate) fn left_out(options: &ast::WildcardAdditionalOptions, name: &str) -> bool {
    let except = options.opt_except.iter().flat_map(|except| {
        std::iter::once(&except.first_element).chain(&except.additional_elements).map(|ident| ident.value.as_str())
    });
    let exclude = options.opt_exclude.iter().flat_map(|exclude| match exclude {
        ast::ExcludeSelectItem::Single(name) => vec![name],
        ast::ExcludeSelectItem::Multiple(names) => names.iter().collect(),
    });
    let exclude = exclude.filter_map(|name| name.0.last().and_then(|part| part.as_ident())).map(|i| i.value.as_str());
    except.chain(exclude).any(|other| other == name)
}

fn quoted(name: &str) -> Ident {
    Ident::with_quote('`', name)
}

fn binary(left: ast::Expr, op: ast::BinaryOperator, right: ast::Expr) -> ast::Expr {
    ast::Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

fn coalesce(left: ast::Expr, right: ast::Expr) -> ast::Expr {
    crate::functions::spellings::call("coalesce", vec![left, right])
}
