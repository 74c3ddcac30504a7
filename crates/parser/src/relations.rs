//! Cuts our relations out of a query's tokens, so that sqlparser can read the rest.
//!
//! A relation can only stand where a table can: behind FROM, JOIN, and a comma of a FROM clause. Everywhere
//! else `stream`, `watermark` and the others are ordinary words. Levels of brackets are followed one by one,
//! since EXTRACT(DAY FROM x) has a FROM as well.

use sqlparser::keywords::{RESERVED_FOR_COLUMN_ALIAS, RESERVED_FOR_TABLE_ALIAS};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::cursor::Cursor;
use crate::diagnostic::Diagnostic;
use crate::interval::is_unit;
use crate::lexer::{Lexeme, syntax, with_span};
use crate::query::{select_all, spark_type};
use crate::relation_forms::relation_form;
use crate::span::Span;
use crate::statement::{Deduplicate, Name, Relation, RelationKind, Watermark};

/// What [`cut_relations`] leaves for sqlparser, and what it took.
pub(crate) struct Rewritten {
    pub(crate) tokens: Vec<TokenWithSpan>,
    pub(crate) relations: Vec<Relation>,
    pub(crate) deduplicates: Vec<Deduplicate>,
    pub(crate) not_yet: Vec<(String, Span)>,
}

/// Which part of a SELECT a level of brackets is in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Clause {
    /// Before FROM.
    Select,
    /// Between FROM and the next clause.
    From,
    /// WHERE and later.
    Tail,
}

/// One level of brackets.
#[derive(Clone, Copy)]
struct Level {
    clause: Clause,
    /// SELECT was seen here, so FROM begins a FROM clause.
    query: bool,
    /// A table may stand next.
    table_next: bool,
    /// The brackets are a table themselves: a subquery, a join, a table function.
    is_table: bool,
    /// Rows of VALUES stand here, with commas between them.
    values: bool,
    /// Where WHERE stands among the tokens that are passed on.
    where_at: Option<usize>,
    /// GROUP BY or a later clause was seen.
    behind_where: bool,
}

impl Level {
    /// Brackets that are no table, and the query as a whole.
    const PLAIN: Level = Level {
        clause: Clause::Select,
        query: false,
        table_next: false,
        is_table: false,
        values: false,
        where_at: None,
        behind_where: false,
    };
}

/// Cuts the relations out of the tokens from the cursor to its end.
pub(crate) fn cut_relations(cursor: Cursor<'_>, shorthand: bool) -> Result<Rewritten, Diagnostic> {
    let mut out =
        Rewritten { tokens: Vec::new(), relations: Vec::new(), deduplicates: Vec::new(), not_yet: Vec::new() };
    if shorthand {
        out.tokens.extend(select_all(cursor.span()));
    }
    let top = Level { query: shorthand, ..Level::PLAIN };
    let mut cutter = Cutter { first: cursor.at, cursor, levels: Vec::new(), level: top, out };
    while !cutter.cursor.is_done() {
        if cutter.level.table_next && cutter.table()? {
            continue;
        }
        cutter.token()?;
    }
    Ok(cutter.out)
}

struct Cutter<'a> {
    /// The query's first token.
    first: usize,
    cursor: Cursor<'a>,
    /// The levels around the current one.
    levels: Vec<Level>,
    level: Level,
    out: Rewritten,
}

impl<'a> Cutter<'a> {
    /// Passes one token on, or rewrites a few.
    fn token(&mut self) -> Result<(), Diagnostic> {
        let Some(token) = self.cursor.peek() else { return Ok(()) };
        match &token.token {
            Token::LParen => {
                let table = Level { clause: Clause::From, table_next: true, is_table: true, ..Level::PLAIN };
                self.open(if self.level.table_next { table } else { Level::PLAIN });
            }
            Token::RParen => return self.close(),
            Token::Comma => {
                let row_next = self.cursor.peek_at(1).is_some_and(|next| next.token == Token::LParen);
                self.level.values &= row_next;
                self.level.table_next = self.level.clause == Clause::From && !self.level.values;
            }
            Token::SingleQuotedString(_) => return self.string(),
            Token::Word(word) if word.quote_style.is_none() && !self.after_dot() => return self.word(token),
            _ => self.level.table_next = false,
        }
        self.pass();
        Ok(())
    }

    fn pass(&mut self) {
        if let Some(token) = self.cursor.next() {
            self.out.tokens.push(token.for_sqlparser());
        }
    }

    fn open(&mut self, level: Level) {
        self.level.table_next = false;
        self.levels.push(std::mem::replace(&mut self.level, level));
    }

    fn close(&mut self) -> Result<(), Diagnostic> {
        self.pass();
        let was_table = self.level.is_table;
        if let Some(level) = self.levels.pop() {
            self.level = level;
        }
        if was_table && self.level.clause == Clause::From {
            self.watermark_behind_brackets()?;
        }
        Ok(())
    }

    /// Neighbouring string literals are one, as in Spark.
    fn string(&mut self) -> Result<(), Diagnostic> {
        self.level.table_next = false;
        let text = self.cursor.string("a string")?;
        self.out.tokens.push(with_span(Token::SingleQuotedString(text.value), text.span));
        Ok(())
    }

    fn previous(&self, back: usize) -> Option<&'a Lexeme> {
        let index = self.cursor.at.checked_sub(back).filter(|index| *index >= self.first)?;
        self.cursor.tokens.get(index)
    }

    fn after_dot(&self) -> bool {
        self.previous(1).is_some_and(|previous| previous.token == Token::Period)
    }

    fn word(&mut self, token: &'a Lexeme) -> Result<(), Diagnostic> {
        let word = token.bare_word().unwrap_or("").to_ascii_uppercase();
        let by_next = self.cursor.peek_at(1).is_some_and(|next| next.is("BY"));
        let call = self.cursor.peek_at(1).is_some_and(|next| next.token == Token::LParen);
        let mut table_next = false;
        self.level.values = word == "VALUES";
        match word.as_str() {
            "SELECT" => {
                (self.level.query, self.level.clause) = (true, Clause::Select);
                (self.level.where_at, self.level.behind_where) = (None, false);
            }
            "WITH" if self.level.table_next => self.level.clause = Clause::Select,
            "FROM" if self.begins_from_clause() => {
                self.level.clause = Clause::From;
                table_next = true;
            }
            "JOIN" if self.level.query || self.level.clause == Clause::From => {
                self.level.clause = Clause::From;
                table_next = true;
            }
            "LATERAL" if self.level.table_next => table_next = true,
            "UNION" | "INTERSECT" | "EXCEPT" | "MINUS" if self.level.clause != Clause::Select => {
                self.level.clause = Clause::Select;
            }
            "WHERE" => {
                self.leave_from(true);
                self.level.where_at = Some(self.out.tokens.len());
            }
            "HAVING" | "LIMIT" | "OFFSET" | "QUALIFY" | "FETCH" => self.leave_where(true),
            "GROUP" | "ORDER" | "SORT" | "CLUSTER" | "DISTRIBUTE" => self.leave_where(by_next),
            "WINDOW" => self.leave_where(!call),
            "DEDUPLICATE" if by_next && self.level.clause != Clause::Select => return self.deduplicate(),
            "INTERVAL" if self.interval() => return Ok(()),
            "INTERVAL" if !self.begins_interval() => {
                self.level.table_next = false;
                self.cursor.next();
                let column = token.bare_word().unwrap_or("");
                self.out.tokens.push(with_span(Token::make_word(column, Some('`')), token.span));
                return Ok(());
            }
            _ => {
                if let Some(data_type) = spark_type(&word).filter(|_| self.is_cast_type()) {
                    self.cursor.next();
                    self.out.tokens.push(with_span(Token::make_word(data_type, None), token.span));
                    return Ok(());
                }
            }
        }
        self.level.table_next = table_next;
        self.pass();
        Ok(())
    }

    fn leave_from(&mut self, really: bool) {
        if really && self.level.clause == Clause::From {
            self.level.clause = Clause::Tail;
        }
    }

    fn leave_where(&mut self, really: bool) {
        self.leave_from(really);
        self.level.behind_where |= really && self.level.clause == Clause::Tail;
    }

    /// FROM of a query, as opposed to `TRIM(a FROM b)` and `IS DISTINCT FROM`.
    fn begins_from_clause(&self) -> bool {
        let comparison = self.previous(1).is_some_and(|previous| previous.is("DISTINCT"))
            && self.previous(2).is_some_and(|before| before.is("IS") || before.is("NOT"));
        self.level.query && self.level.clause == Clause::Select && !comparison
    }

    fn is_cast_type(&self) -> bool {
        let closes = self.cursor.peek_at(1).is_some_and(|next| next.token == Token::RParen);
        self.previous(1).is_some_and(|previous| {
            previous.token == Token::DoubleColon || (previous.is("AS") && closes && !self.levels.is_empty())
        })
    }

    /// Whether a literal can stand behind the word INTERVAL here; otherwise it is a column's name.
    fn begins_interval(&self) -> bool {
        match self.cursor.peek_at(1) {
            Some(Lexeme {
                token: Token::SingleQuotedString(_) | Token::Number(..) | Token::Minus | Token::LParen,
                ..
            }) => true,
            Some(next) => next.bare_word().is_some_and(|word| {
                !RESERVED_FOR_COLUMN_ALIAS.iter().any(|reserved| reserved.to_string().eq_ignore_ascii_case(word))
                    && !next.is("AS")
            }),
            None => false,
        }
    }

    /// `INTERVAL 10 MINUTES`, `INTERVAL 1 HOUR 30 MINUTES`: the literal becomes a string, which sqlparser and
    /// DataFusion both read. False when what follows is something else.
    fn interval(&mut self) -> bool {
        let mut look = self.cursor.clone();
        look.next();
        let (first, mut text) = (look.at, String::new());
        loop {
            let sign = if look.take_symbol(&Token::Minus) { "-" } else { "" };
            let number = match look.peek().map(|token| &token.token) {
                Some(Token::Number(number, _)) => number.clone(),
                Some(Token::SingleQuotedString(number)) if number.trim().parse::<f64>().is_ok() => {
                    number.trim().to_owned()
                }
                _ => break,
            };
            let unit = look.peek_at(1).and_then(Lexeme::bare_word).filter(|unit| is_unit(unit));
            let Some(unit) = unit else { break };
            if look.peek_at(2).is_some_and(|next| next.is("TO")) {
                return false;
            }
            text = format!("{text} {sign}{number} {unit}");
            look.at += 2;
        }
        if text.is_empty() {
            return false;
        }
        self.level.table_next = false;
        self.pass();
        let span = look.span_from(first);
        self.cursor.at = look.at;
        self.out.tokens.push(with_span(Token::SingleQuotedString(text.trim().to_owned()), span));
        true
    }

    /// `DEDUPLICATE BY (col, …) [WITHIN WATERMARK]`: the columns become a call among the conditions of WHERE, where
    /// they are looked up like any other; the binder takes it out again.
    fn deduplicate(&mut self) -> Result<(), Diagnostic> {
        let first = self.cursor.at;
        self.cursor.at += 2;
        let columns = self.cursor.name_list("a column name")?;
        let within = self.cursor.take(&["WITHIN", "WATERMARK"]);
        let span = self.cursor.span_from(first);
        if self.level.behind_where {
            return Err(syntax("DEDUPLICATE BY stands behind WHERE and before GROUP BY", span)
                .help("to compare rows of a result, write SELECT … FROM (SELECT …) DEDUPLICATE BY (…)"));
        }
        let token = |token| with_span(token, span);
        match self.level.where_at {
            Some(at) => {
                self.out.tokens.insert(at + 1, token(Token::LParen));
                self.out.tokens.extend([Token::RParen, Token::make_word("AND", None)].map(token));
            }
            None => self.out.tokens.push(token(Token::make_word("WHERE", None))),
        }
        let within_word = if within { "true" } else { "false" };
        let head = [Token::make_word(Deduplicate::CALL, None), Token::LParen, Token::make_word(within_word, None)];
        self.out.tokens.extend(head.map(token));
        for column in &columns {
            self.out.tokens.push(token(Token::Comma));
            let name = column.parts.last().map_or("", String::as_str);
            self.out.tokens.push(with_span(Token::make_word(name, Some('`')), column.span));
        }
        self.out.tokens.push(token(Token::RParen));
        self.out.deduplicates.push(Deduplicate { span });
        self.leave_from(true);
        self.level.behind_where = true;
        Ok(())
    }

    /// At a place for a table. True when a relation was cut out, or a plain name passed on.
    fn table(&mut self) -> Result<bool, Diagnostic> {
        let first = self.cursor.at;
        let lateral = self.cursor.is(&["LATERAL"]);
        let begins_query = self.cursor.is(&["SELECT"]) || self.cursor.is(&["WITH"]) || self.cursor.is(&["VALUES"]);
        let is_word = matches!(self.cursor.peek().map(|token| &token.token), Some(Token::Word(_)));
        if lateral || begins_query || !is_word {
            return Ok(false);
        }
        let mut look = self.cursor.clone();
        if let Some((kind, alias)) = relation_form(&mut look)? {
            self.cursor = look;
            self.relation(kind, alias, first)?;
            return Ok(true);
        }
        self.plain_table(first)?;
        Ok(true)
    }

    /// A named table or a table function that is sqlparser's to read; one with a watermark is cut out.
    fn plain_table(&mut self, first: usize) -> Result<(), Diagnostic> {
        let mut look = self.cursor.clone();
        look.next();
        while look.is_symbol(&Token::Period) && matches!(look.peek_at(1), Some(Lexeme { token: Token::Word(_), .. })) {
            look.at += 2;
        }
        let behind_name = look.at;
        if look.is_symbol(&Token::LParen) {
            while self.cursor.at < behind_name {
                self.pass();
            }
            self.pass();
            self.open(Level { is_table: true, ..Level::PLAIN });
            return Ok(());
        }
        let _ = take_alias(&mut look);
        if at_watermark(&look) {
            let name = self.cursor.name("a table name")?;
            let alias = self.previous(1).map(|token| token.token.clone());
            return self.relation(RelationKind::Named { name }, alias, first);
        }
        self.level.table_next = false;
        while self.cursor.at < behind_name {
            self.pass();
        }
        Ok(())
    }

    /// Puts `__relation_N` in the place of a relation that ends before the cursor, with its alias.
    fn relation(&mut self, kind: RelationKind, default_alias: Option<Token>, first: usize) -> Result<(), Diagnostic> {
        self.level.table_next = false;
        let span = self.cursor.span_from(first);
        let mut alias = take_alias(&mut self.cursor);
        let watermark = if at_watermark(&self.cursor) { Some(self.watermark()?) } else { None };
        if alias.is_none() {
            alias = take_alias(&mut self.cursor);
        }
        let alias = alias.map(Lexeme::for_sqlparser).or(default_alias.map(|alias| with_span(alias, span)));
        let name = format!("__relation_{}", self.out.relations.len());
        self.out.tokens.push(with_span(Token::make_word(&name, None), span));
        if let Some(alias) = alias {
            self.out.tokens.push(with_span(Token::make_word("AS", None), span));
            self.out.tokens.push(alias);
        }
        self.out.relations.push(Relation { kind, watermark, span });
        Ok(())
    }

    /// `WATERMARK column DELAY OF INTERVAL …`
    fn watermark(&mut self) -> Result<Watermark, Diagnostic> {
        let first = self.cursor.at;
        self.cursor.expect("WATERMARK")?;
        let column = self.watermark_column()?;
        self.cursor.expect("DELAY")?;
        self.cursor.expect("OF")?;
        let (delay, _) = self.cursor.interval()?;
        Ok(Watermark { column, delay, span: self.cursor.span_from(first) })
    }

    fn watermark_column(&mut self) -> Result<Name, Diagnostic> {
        self.cursor.name("the event-time column")
    }

    /// A watermark on a subquery, join or table function has no relation to hang on.
    fn watermark_behind_brackets(&mut self) -> Result<(), Diagnostic> {
        let mut look = self.cursor.clone();
        let alias = take_alias(&mut look);
        if !at_watermark(&look) {
            return Ok(());
        }
        while self.cursor.at < look.at {
            self.pass();
        }
        let watermark = self.watermark()?;
        self.out.not_yet.push(("WATERMARK on a subquery or table function".to_owned(), watermark.span));
        if let (None, Some(alias)) = (alias, take_alias(&mut self.cursor)) {
            self.out.tokens.push(with_span(Token::make_word("AS", None), alias.span));
            self.out.tokens.push(alias.for_sqlparser());
        }
        Ok(())
    }
}

/// Whether `WATERMARK column DELAY` stands here, and not a table alias.
fn at_watermark(cursor: &Cursor<'_>) -> bool {
    if !cursor.is(&["WATERMARK"]) {
        return false;
    }
    let mut ahead = 1;
    while matches!(cursor.peek_at(ahead), Some(Lexeme { token: Token::Word(_) | Token::Period, .. })) {
        if ahead > 1 && cursor.peek_at(ahead).is_some_and(|token| token.is("DELAY")) {
            return true;
        }
        ahead += 1;
    }
    false
}

/// Takes `[AS] alias`; what begins a clause is no alias.
fn take_alias<'a>(cursor: &mut Cursor<'a>) -> Option<&'a Lexeme> {
    let explicit = cursor.is(&["AS"]);
    let token = cursor.peek_at(usize::from(explicit))?;
    let Token::Word(word) = &token.token else { return None };
    let clause = at_watermark(cursor)
        || cursor.is(&["DEDUPLICATE", "BY"])
        || (word.quote_style.is_none() && RESERVED_FOR_TABLE_ALIAS.contains(&word.keyword));
    if !explicit && clause {
        return None;
    }
    cursor.at += 1 + usize::from(explicit);
    Some(token)
}

/// Whether the token here can only continue a FROM clause, or ends the query: what stands before it is whole.
pub(crate) fn ends_table(cursor: &Cursor<'_>) -> bool {
    match cursor.peek() {
        None => true,
        Some(Lexeme { token: Token::Word(word), .. }) if word.quote_style.is_none() => {
            cursor.is(&["AS"]) || RESERVED_FOR_TABLE_ALIAS.contains(&word.keyword)
        }
        Some(Lexeme { token: Token::Word(_), .. }) => false,
        Some(Lexeme { token: Token::LParen, .. }) => false,
        Some(_) => true,
    }
}

/// An error for a relation that is begun right and goes on wrong.
pub(crate) fn malformed(cursor: &Cursor<'_>, what: &str, form: &str) -> Diagnostic {
    syntax(format!("expected {what}, found {}", cursor.found()), cursor.span()).help(format!("the form is {form}"))
}
