//! The clauses between a table's name and its query, and column definitions.

use sqlparser::tokenizer::Token;

use crate::cursor::Cursor;
use crate::diagnostic::Diagnostic;
use crate::lexer::{Lexeme, syntax};
use crate::parse;
use crate::query::data_type;
use crate::span::Span;
use crate::statement::{ColumnDef, Name, OptionEntry, OutputMode, Text, TriggerClause};

/// Where each clause begins; the words are what a second one is called in its error.
const CLAUSES: &[(&[&str], Clause)] = &[
    (&["PARTITIONED", "BY"], Clause::PartitionedBy),
    (&["LOCATION"], Clause::Location),
    (&["COMMENT"], Clause::Comment),
    (&["TBLPROPERTIES"], Clause::Properties),
    (&["USING"], Clause::Using),
    (&["OUTPUT", "MODE"], Clause::OutputMode),
    (&["TRIGGER"], Clause::Trigger),
    (&["CHECKPOINT", "LOCATION"], Clause::CheckpointLocation),
    (&["CLUSTER", "BY"], Clause::NotYet),
    (&["OPTIONS"], Clause::NotYet),
    (&["SCHEDULE"], Clause::NotYet),
    (&["WITH", "ROW", "FILTER"], Clause::NotYet),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Clause {
    PartitionedBy,
    Location,
    Comment,
    Properties,
    Using,
    OutputMode,
    Trigger,
    CheckpointLocation,
    NotYet,
}

/// What stood between name and query.
#[derive(Default)]
pub(crate) struct Clauses {
    pub(crate) columns: Vec<ColumnDef>,
    pub(crate) partitioned_by: Vec<Name>,
    pub(crate) location: Option<Text>,
    pub(crate) comment: Option<Text>,
    pub(crate) properties: Vec<OptionEntry>,
    pub(crate) output_mode: Option<(OutputMode, Span)>,
    pub(crate) trigger: Option<TriggerClause>,
    pub(crate) checkpoint_location: Option<Text>,
    /// The first thing that is of the language and not carried out: name, way out, place.
    pub(crate) not_yet: Option<(String, String, Span)>,
    seen: Vec<&'static [&'static str]>,
}

impl Clauses {
    /// Reads clauses until something else stands there.
    pub(crate) fn read(cursor: &mut Cursor<'_>, streaming: bool) -> Result<Self, Diagnostic> {
        let mut clauses = Clauses::default();
        loop {
            if cursor.is_symbol(&Token::LParen) {
                clauses.once(&["("], cursor.span())?;
                clauses.column_list(cursor)?;
                continue;
            }
            let first = cursor.at;
            let Some((words, clause)) = CLAUSES.iter().find(|(words, _)| cursor.take(words)) else {
                return Ok(clauses);
            };
            clauses.once(words, cursor.span_from(first))?;
            clauses.clause(cursor, *clause, first, streaming)?;
        }
    }

    /// The words that may follow what was read.
    pub(crate) fn words(&self, streaming: bool) -> &'static [&'static str] {
        if streaming {
            &[
                "AS",
                "FROM",
                "PARTITIONED BY",
                "LOCATION",
                "COMMENT",
                "TBLPROPERTIES",
                "OUTPUT MODE",
                "TRIGGER",
                "CHECKPOINT LOCATION",
            ]
        } else {
            &["AS", "USING", "PARTITIONED BY", "LOCATION", "COMMENT", "TBLPROPERTIES"]
        }
    }

    fn once(&mut self, words: &'static [&'static str], span: Span) -> Result<(), Diagnostic> {
        if self.seen.contains(&words) {
            let what = if words == ["("] { "the column list".to_owned() } else { words.join(" ") };
            return Err(syntax(format!("{what} is given twice"), span).help("each clause stands at most once"));
        }
        self.seen.push(words);
        Ok(())
    }

    fn clause(
        &mut self,
        cursor: &mut Cursor<'_>,
        clause: Clause,
        first: usize,
        streaming: bool,
    ) -> Result<(), Diagnostic> {
        let needs_stream = matches!(clause, Clause::OutputMode | Clause::Trigger | Clause::CheckpointLocation);
        if needs_stream && !streaming {
            let words = cursor.typed(first..cursor.at).to_uppercase();
            return Err(syntax(format!("{words} belongs to a stream"), cursor.span_from(first))
                .help("CREATE STREAMING TABLE makes a table that a stream keeps up to date"));
        }
        match clause {
            Clause::PartitionedBy => self.partitioned_by = cursor.name_list("a column name")?,
            Clause::Location => self.location = Some(cursor.string("the location, a string")?),
            Clause::Comment => self.comment = Some(cursor.string("the comment, a string")?),
            Clause::Properties => self.properties = cursor.option_list()?,
            Clause::Using => self.using(cursor, first)?,
            Clause::OutputMode => self.output_mode = Some(output_mode(cursor, first)?),
            Clause::Trigger => {
                cursor.at = first;
                self.trigger = parse::trigger(cursor)?;
            }
            Clause::CheckpointLocation => self.checkpoint_location = Some(cursor.string("the location, a string")?),
            Clause::NotYet => {
                let what = cursor.typed(first..cursor.at).to_uppercase();
                self.refuse(&what, "leave the clause out", cursor.span_from(first));
                while !(cursor.is_done() || cursor.is(&["AS"]) || cursor.is(&["FROM"])) {
                    cursor.at += 1;
                }
            }
        }
        Ok(())
    }

    fn refuse(&mut self, what: &str, help: &str, span: Span) {
        self.not_yet.get_or_insert_with(|| (what.to_owned(), help.to_owned(), span));
    }

    fn using(&mut self, cursor: &mut Cursor<'_>, first: usize) -> Result<(), Diagnostic> {
        let format = cursor.simple_name("a table format")?.parts.concat();
        if !format.eq_ignore_ascii_case("delta") {
            let what = format!("USING {}", format.to_uppercase());
            self.refuse(
                &what,
                "tables are Delta tables; COPY (query) TO 'path' STORED AS … writes other formats",
                cursor.span_from(first),
            );
        }
        Ok(())
    }

    /// `(column type …, CONSTRAINT …, …)`
    fn column_list(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Diagnostic> {
        cursor.expect_symbol(&Token::LParen)?;
        loop {
            if !self.constraint(cursor)? {
                let column = self.column(cursor)?;
                self.columns.push(column);
            }
            if !cursor.take_symbol(&Token::Comma) {
                break;
            }
        }
        if !cursor.take_symbol(&Token::RParen) {
            return Err(cursor.expected("`,` or `)`"));
        }
        Ok(())
    }

    /// A constraint in place of a column, which is refused for now.
    fn constraint(&mut self, cursor: &mut Cursor<'_>) -> Result<bool, Diagnostic> {
        let first = cursor.at;
        if cursor.take(&["CONSTRAINT"]) {
            cursor.simple_name("the constraint's name")?;
        }
        let expectation = cursor.is(&["EXPECT"]);
        let named = cursor.at > first;
        let check = cursor.is(&["CHECK"]) && cursor.peek_at(1).is_some_and(|next| next.token == Token::LParen);
        if !named && !check && !cursor.is(&["PRIMARY", "KEY"]) && !cursor.is(&["FOREIGN", "KEY"]) {
            return Ok(false);
        }
        if expectation {
            self.expectation(cursor, first)?;
            return Ok(true);
        }
        let what = ["CHECK", "PRIMARY KEY", "FOREIGN KEY", "UNIQUE"].into_iter().find(|words| {
            let words: Vec<&str> = words.split(' ').collect();
            cursor.is(&words)
        });
        let Some(what) = what else {
            return Err(cursor.expected_word(&["EXPECT", "CHECK", "PRIMARY KEY", "FOREIGN KEY"]));
        };
        skip_item(cursor)?;
        self.refuse(what, "leave the constraint out, and filter with WHERE", cursor.span_from(first));
        Ok(true)
    }

    /// `EXPECT (expr) [ON VIOLATION {DROP ROW | FAIL UPDATE}]`
    fn expectation(&mut self, cursor: &mut Cursor<'_>, first: usize) -> Result<(), Diagnostic> {
        cursor.at += 1;
        cursor.skip_parens()?;
        if cursor.take(&["ON"]) {
            cursor.expect("VIOLATION")?;
            if !cursor.take(&["DROP", "ROW"]) && !cursor.take(&["FAIL", "UPDATE"]) {
                return Err(cursor.expected_word(&["DROP ROW", "FAIL UPDATE"]));
            }
        }
        self.refuse("CONSTRAINT … EXPECT", "filter in the query with WHERE instead", cursor.span_from(first));
        Ok(())
    }

    /// `name type [NOT NULL] [COMMENT 's']`
    fn column(&mut self, cursor: &mut Cursor<'_>) -> Result<ColumnDef, Diagnostic> {
        let name = cursor.column_name()?;
        let end = type_end(cursor);
        if end == cursor.at {
            return Err(cursor.expected(&format!("the type of column `{}`", name.parts.concat())));
        }
        let data_type = data_type(&Cursor { end, ..cursor.clone() })?;
        cursor.at = end;
        let (mut not_null, mut comment) = (false, None);
        loop {
            let first = cursor.at;
            if cursor.take(&["NOT", "NULL"]) {
                not_null = true;
            } else if cursor.take(&["NULL"]) {
            } else if cursor.take(&["COMMENT"]) {
                comment = Some(cursor.string("the comment, a string")?);
            } else if cursor.is(&["GENERATED"])
                || cursor.is(&["DEFAULT"])
                || cursor.is(&["PRIMARY"])
                || cursor.is(&["CONSTRAINT"])
            {
                let what = cursor.typed(first..first + 1).to_uppercase();
                skip_item(cursor)?;
                self.refuse(&format!("{what} on a column"), "compute the column in the query", cursor.span_from(first));
            } else {
                break;
            }
        }
        if !cursor.is_symbol(&Token::Comma) && !cursor.is_symbol(&Token::RParen) {
            return Err(cursor.expected_word(&["NOT NULL", "COMMENT", "`,`", "`)`"]));
        }
        Ok(ColumnDef { name, data_type, not_null, comment })
    }
}

fn output_mode(cursor: &mut Cursor<'_>, first: usize) -> Result<(OutputMode, Span), Diagnostic> {
    let mode = if cursor.take(&["APPEND"]) {
        OutputMode::Append
    } else if cursor.take(&["COMPLETE"]) {
        OutputMode::Complete
    } else if cursor.take(&["UPDATE"]) {
        OutputMode::Update
    } else {
        return Err(cursor.expected_word(&["APPEND", "COMPLETE", "UPDATE"]));
    };
    Ok((mode, cursor.span_from(first)))
}

/// The token behind the type that begins here: a comma or bracket outside the type's own, or a word that
/// follows types.
fn type_end(cursor: &Cursor<'_>) -> usize {
    let mut depth = 0_i64;
    let mut at = cursor.at;
    while let Some(token) = cursor.tokens.get(at).filter(|_| at < cursor.end) {
        match &token.token {
            Token::Comma | Token::RParen if depth <= 0 => break,
            Token::LParen | Token::Lt => depth += 1,
            Token::RParen | Token::Gt => depth -= 1,
            Token::ShiftRight => depth -= 2,
            Token::Word(_) if depth <= 0 && at > cursor.at && ends_type(token) => break,
            _ => {}
        }
        at += 1;
    }
    at
}

fn ends_type(token: &Lexeme) -> bool {
    const WORDS: &[&str] = &["NOT", "NULL", "COMMENT", "GENERATED", "DEFAULT", "PRIMARY", "CONSTRAINT"];
    WORDS.iter().any(|word| token.is(word))
}

/// Moves to the comma or bracket that ends an item of a list.
fn skip_item(cursor: &mut Cursor<'_>) -> Result<(), Diagnostic> {
    while !(cursor.is_done() || cursor.is_symbol(&Token::Comma) || cursor.is_symbol(&Token::RParen)) {
        if cursor.is_symbol(&Token::LParen) {
            cursor.skip_parens()?;
        } else {
            cursor.at += 1;
        }
    }
    Ok(())
}
