//! The dialect in which sqlparser reads queries: Databricks' flags plus Spark's. Characters are not asked
//! for, since the lexer is ours.

use std::any::TypeId;
use std::cell::Cell;

use sqlparser::ast::{BinaryOperator, Expr};
use sqlparser::dialect::{DatabricksDialect, Dialect};
use sqlparser::keywords::{Keyword, RESERVED_FOR_IDENTIFIER};
use sqlparser::parser::{Parser, ParserError};

/// What both dialects answer.
macro_rules! rules {
    () => {
        /// sqlparser asks in a few places whether the dialect is Databricks'.
        fn dialect(&self) -> TypeId {
            TypeId::of::<DatabricksDialect>()
        }

        fn is_delimited_identifier_start(&self, letter: char) -> bool {
            letter == '`'
        }

        fn identifier_quote_style(&self, _identifier: &str) -> Option<char> {
            Some('`')
        }

        fn is_identifier_start(&self, letter: char) -> bool {
            crate::lexer::starts_word(letter)
        }

        fn is_identifier_part(&self, letter: char) -> bool {
            crate::lexer::continues_word(letter)
        }

        fn is_reserved_for_identifier(&self, word: Keyword) -> bool {
            is_reserved(word)
        }

        fn parse_infix(&self, parser: &mut Parser, left: &Expr, precedence: u8) -> Option<Result<Expr, ParserError>> {
            division(parser, left, precedence)
        }

        yes! {
            supports_string_literal_backslash_escape,
            supports_numeric_prefix,
            supports_filter_during_aggregation,
            supports_group_by_expr,
            supports_group_by_with_modifier,
            supports_order_by_all,
            supports_table_versioning,
            supports_lambda_functions,
            supports_select_wildcard_except,
            supports_struct_literal,
            supports_parens_around_table_factor,
            supports_values_as_table_factor,
            supports_bang_not_operator,
            supports_cte_without_as,
            supports_select_item_multi_column_alias,
            supports_bitwise_shift_operators,
            supports_window_function_null_treatment_arg,
            supports_long_type_as_bigint,
            supports_map_literal_with_angle_brackets,
            supports_left_associative_joins_without_parens,
            allow_extract_custom,
            allow_extract_single_quotes,
        }
    };
}

/// Flags that are on.
macro_rules! yes {
    ($($flag:ident),* $(,)?) => {
        $(fn $flag(&self) -> bool {
            true
        })*
    };
}

/// Databricks SQL with Spark's `DIV`, angle-bracket types and `INTERVAL '10 minutes'`.
#[derive(Debug, Default, Clone, Copy)]
pub struct AlluviumDialect;

/// The same with a limit on the work: sqlparser goes back and tries another way where something does not fit,
/// and nested mistakes double its work with each level. The limit ends that as its own recursion limit does.
#[derive(Debug)]
pub(crate) struct BoundedDialect {
    /// How many more expressions may begin.
    left: Cell<usize>,
}

impl BoundedDialect {
    /// Generous for a text of so many tokens, in which each begins at most one expression.
    pub(crate) fn new(tokens: usize) -> Self {
        BoundedDialect { left: Cell::new(50_000 + 20 * tokens) }
    }

    fn count(&self) -> Option<Result<Expr, ParserError>> {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        (left == 0).then_some(Err(ParserError::RecursionLimitExceeded))
    }
}

impl Dialect for AlluviumDialect {
    rules! {}
}

impl Dialect for BoundedDialect {
    rules! {}

    fn parse_prefix(&self, _parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        self.count()
    }
}

/// `a DIV b` binds like `a / b`.
fn division(parser: &mut Parser, left: &Expr, precedence: u8) -> Option<Result<Expr, ParserError>> {
    if !parser.parse_keyword(Keyword::DIV) {
        return None;
    }
    Some(parser.parse_subexpr(precedence).map(|right| Expr::BinaryOp {
        left: Box::new(left.clone()),
        op: BinaryOperator::MyIntegerDivide,
        right: Box::new(right),
    }))
}

/// Words that begin an expression and are never a column or function.
fn is_reserved(word: Keyword) -> bool {
    matches!(word, Keyword::NOT | Keyword::CASE | Keyword::CAST | Keyword::TRY_CAST)
        || RESERVED_FOR_IDENTIFIER.contains(&word)
}
