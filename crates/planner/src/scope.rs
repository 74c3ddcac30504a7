//! The names one query block can use, and their lookup without case.
//!
//! Knows the relations of FROM with their columns and the block around; rewriting the tree is `names.rs`'s work.

use alluvium_parser::{Diagnostic, Span};
use sqlparser::ast::{self, Ident};

use crate::bind::special_index;
use crate::relation::METADATA_COLUMN;

/// A relation of a FROM clause.
#[derive(Debug, Clone)]
pub(crate) struct InScope {
    /// The name its columns can be qualified with; empty for none.
    pub qualifier: Vec<String>,
    /// Its columns, `_metadata` included.
    pub columns: Vec<String>,
    /// Whether it has `_metadata`.
    pub hidden: bool,
    /// Where its columns really are, once a LATERAL VIEW has put all of FROM into a subquery.
    pub moved: Option<Moved>,
}

/// Columns that a subquery has under other names.
#[derive(Debug, Clone)]
pub(crate) struct Moved {
    /// The subquery's name.
    pub into: String,
    /// The columns' names there, in the relation's order.
    pub columns: Vec<String>,
}

impl InScope {
    /// The place of a column among those of the relation.
    fn place(&self, typed: &str) -> Option<usize> {
        let name = spelled(&self.columns, typed)?;
        self.columns.iter().position(|column| column == name)
    }

    /// What to write for a column.
    fn written(&self, place: usize) -> Option<&String> {
        match &self.moved {
            Some(moved) => moved.columns.get(place),
            None => self.columns.get(place),
        }
    }
}

/// A column that JOIN … USING made of one column of each side.
#[derive(Debug, Clone)]
pub(crate) struct Merged {
    /// Its name, as the left side spells it.
    pub name: String,
    /// What it stands for; None where the join itself still has USING.
    pub expr: Option<ast::Expr>,
    /// Which of the scope's relations have it.
    pub members: Vec<usize>,
}

/// Where names of one query block are looked up.
#[derive(Debug, Default)]
pub(crate) struct Scope<'p> {
    /// What FROM names, in order.
    pub relations: Vec<InScope>,
    /// Columns that JOIN … USING made one.
    pub merged: Vec<Merged>,
    /// Expressions of the select list that have a name, in order: later items may use it.
    pub laterals: Vec<(String, ast::Expr)>,
    /// The call of `window` or `session_window` that GROUP BY has, by the function's name.
    pub window: Option<(&'static str, ast::Expr)>,
    /// What GROUPING SETS, ROLLUP or CUBE group by, for `grouping_id()`.
    pub grouping: Vec<ast::Expr>,
    /// Names given in the select list.
    pub outputs: Vec<String>,
    /// ORDER BY looks at the select list first, GROUP BY and HAVING last.
    pub outputs_first: bool,
    /// The block around, for correlated subqueries.
    pub parent: Option<&'p Scope<'p>>,
}

/// Whether two names are one without case.
pub(crate) fn same(left: &str, right: &str) -> bool {
    left.eq_ignore_ascii_case(right) || left.to_lowercase() == right.to_lowercase()
}

/// The name among `names` that was typed: as it stands, else without case.
pub(crate) fn spelled<'n>(names: &'n [String], typed: &str) -> Option<&'n String> {
    names.iter().find(|name| *name == typed).or_else(|| names.iter().find(|name| same(name, typed)))
}

impl Scope<'_> {
    /// Rewrites a bare name. Errors when two relations have it.
    pub fn bare(&self, ident: &mut Ident) -> Result<bool, Diagnostic> {
        if self.outputs_first && self.rewrite_output(ident) {
            return Ok(true);
        }
        let owners: Vec<&InScope> =
            self.relations.iter().filter(|relation| spelled(&relation.columns, &ident.value).is_some()).collect();
        let merged = self.merged.iter().any(|merged| same(&merged.name, &ident.value));
        if owners.len() > 1 && !merged {
            return Err(self.ambiguous(ident, &owners));
        }
        let written = |owner: &&InScope| owner.written(owner.place(&ident.value)?).cloned();
        if let Some(name) = owners.first().and_then(written) {
            ident.value = name;
            return Ok(true);
        }
        if self.rewrite_output(ident) {
            return Ok(true);
        }
        match self.parent {
            Some(parent) => parent.bare(ident),
            None => Ok(false),
        }
    }

    /// What a bare name stands for when it is a column that JOIN … USING merged.
    pub fn merged(&self, typed: &str) -> Option<&ast::Expr> {
        if self.outputs_first && spelled(&self.outputs, typed).is_some() {
            return None;
        }
        if let Some(merged) = self.merged.iter().find(|merged| same(&merged.name, typed)) {
            return merged.expr.as_ref();
        }
        let known = self.relations.iter().any(|relation| spelled(&relation.columns, typed).is_some());
        let known = known || spelled(&self.outputs, typed).is_some();
        if known { None } else { self.parent.and_then(|parent| parent.merged(typed)) }
    }

    /// What a bare name stands for when it was given earlier in the same select list and FROM does not have it.
    pub fn lateral(&self, typed: &str) -> Option<&ast::Expr> {
        if self.relations.iter().any(|relation| spelled(&relation.columns, typed).is_some()) {
            return None;
        }
        self.laterals.iter().find(|(name, _)| same(name, typed)).map(|(_, expr)| expr)
    }

    /// The grouping window, for its name where nothing else has it.
    pub fn window(&self, typed: &str) -> Option<&ast::Expr> {
        self.window.as_ref().filter(|(name, _)| same(typed, name)).map(|(_, call)| call)
    }

    /// Column `name` of one relation, qualified; None when the relation has no name.
    pub fn column_of(&self, relation: usize, name: &str) -> Option<ast::Expr> {
        let relation = self.relations.get(relation)?;
        let column = relation.written(relation.place(name)?)?;
        if let Some(moved) = &relation.moved {
            return Some(ast::Expr::CompoundIdentifier(vec![Ident::new(&moved.into), Ident::new(column)]));
        }
        if relation.qualifier.is_empty() {
            return None;
        }
        let idents = relation.qualifier.iter().chain([column]).map(Ident::new).collect();
        Some(ast::Expr::CompoundIdentifier(idents))
    }

    fn rewrite_output(&self, ident: &mut Ident) -> bool {
        match spelled(&self.outputs, &ident.value) {
            Some(name) => {
                ident.value = name.clone();
                true
            }
            None => false,
        }
    }

    fn ambiguous(&self, ident: &Ident, owners: &[&InScope]) -> Diagnostic {
        let ways: Vec<String> = owners
            .iter()
            .filter_map(|owner| owner.qualifier.last())
            .map(|qualifier| match special_index(qualifier) {
                Some(_) => "an alias, then `alias.column`".to_string(),
                None => format!("`{qualifier}.{}`", ident.value),
            })
            .collect();
        Diagnostic::new("AMBIGUOUS_REFERENCE", format!("column `{}` is in more than one relation of FROM", ident.value))
            .at(ident.span.into())
            .help(format!("write {}", ways.join(" or ")))
    }

    /// Rewrites `t.c`, `s.t.c`, `c.field` (and deeper fields behind them). True when `t` or `c` was found.
    pub fn compound(&self, idents: &mut Vec<Ident>) -> Result<bool, Diagnostic> {
        if self.qualified(idents, 1) || (idents.len() > 2 && self.qualified(idents, 2)) {
            return Ok(true);
        }
        let Some(first) = idents.first_mut() else { return Ok(false) };
        let here = self.relations.iter().any(|relation| spelled(&relation.columns, &first.value).is_some());
        if here || spelled(&self.outputs, &first.value).is_some() {
            return self.bare(first);
        }
        match self.parent {
            Some(parent) => parent.compound(idents),
            None => Ok(false),
        }
    }

    /// Tries the first `parts` identifiers as a relation and the next one as its column.
    fn qualified(&self, idents: &mut Vec<Ident>, parts: usize) -> bool {
        for relation in &self.relations {
            let Some(skip) = relation.qualifier.len().checked_sub(parts) else { continue };
            let qualifier = &relation.qualifier[skip..];
            let typed = idents[..parts].iter().zip(qualifier).all(|(ident, part)| same(&ident.value, part));
            let Some(column) = idents.get(parts) else { continue };
            let Some(place) = relation.place(&column.value).filter(|_| typed) else { continue };
            let Some(column) = relation.written(place) else { continue };
            if let Some(moved) = &relation.moved {
                idents.drain(1..parts);
                idents[0].value = moved.into.clone();
                idents[1].value = column.clone();
                return true;
            }
            for (ident, part) in idents.iter_mut().zip(qualifier) {
                ident.value = part.clone();
            }
            idents[parts].value = column.clone();
            return true;
        }
        false
    }

    /// `_metadata.file_path` of the one relation that has it.
    pub fn file_path(&self, at: Span) -> Result<ast::Expr, Diagnostic> {
        let with_files: Vec<&InScope> = self.relations.iter().filter(|relation| relation.hidden).collect();
        match (with_files.as_slice(), self.parent) {
            ([InScope { moved: Some(moved), .. }], _) => {
                let column = moved.columns.last().cloned().unwrap_or_default();
                let idents = [moved.into.clone(), column, "file_path".to_owned()];
                Ok(ast::Expr::CompoundIdentifier(idents.into_iter().map(Ident::new).collect()))
            }
            ([relation], _) => {
                let mut idents: Vec<Ident> = relation.qualifier.last().into_iter().map(Ident::new).collect();
                idents.push(Ident::new(METADATA_COLUMN));
                idents.push(Ident::new("file_path"));
                Ok(ast::Expr::CompoundIdentifier(idents))
            }
            ([], Some(parent)) => parent.file_path(at),
            ([], None) => {
                Err(Diagnostic::new("NO_FILE_RELATION", "input_file_name() needs files in the same FROM").at(at).help(
                    "read them with cloud_files(…), read_files(…) or json.`path` here, or pass the name on as a column",
                ))
            }
            _ => Err(Diagnostic::new(
                "AMBIGUOUS_REFERENCE",
                "input_file_name() could mean more than one relation of FROM",
            )
            .at(at)
            .help("give the relations aliases and write `alias._metadata.file_path`")),
        }
    }
}

/// Whether `t.c` is a column of a relation, not a field of a struct.
pub(crate) fn plain_column(idents: &[Ident], scope: &Scope<'_>) -> bool {
    let [qualifier @ .., column] = idents else { return false };
    scope.relations.iter().any(|relation| {
        let skip = relation.qualifier.len().saturating_sub(qualifier.len());
        relation.qualifier.len() >= qualifier.len()
            && relation.qualifier[skip..].iter().zip(qualifier).all(|(known, typed)| known == &typed.value)
            && relation.columns.contains(&column.value)
    })
}
