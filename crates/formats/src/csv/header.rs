//! The beginning of a CSV file: byte order mark, skipped lines, and the line that names the columns.

use crate::csv::tokenizer::{Dialect, Row};
use crate::decode::DecodeError;
use crate::options::{CsvOptions, FormatOptions};

/// How many bytes stand before a file's first row: byte order mark, skipped lines, header. None if `input`, its beginning,
/// holds too little to tell.
pub fn beginning(options: &FormatOptions, input: &[u8], eof: bool) -> Option<usize> {
    let mut beginning = Beginning::new(&options.csv);
    match beginning.read(&Dialect::new(options), input, eof, &mut Row::default(), options.case_sensitive) {
        Begin::Columns(_, next) => Some(next),
        Begin::More(_) => eof.then_some(input.len()),
    }
}

/// What must be read before the first row.
#[derive(Debug)]
pub(crate) struct Beginning {
    header: bool,
    skip_rows: u64,
    max_columns: usize,
    over: bool,
}

/// How far the beginning has come.
pub(crate) enum Begin {
    /// The columns' names, None without a header, and the position of the first row.
    Columns(Option<Vec<String>>, usize),
    /// The input holds too little; nothing before the position is needed again.
    More(usize),
}

impl Beginning {
    pub fn new(options: &CsvOptions) -> Beginning {
        Beginning {
            header: options.header,
            skip_rows: options.skip_rows,
            max_columns: options.max_columns,
            over: false,
        }
    }

    pub fn start_file(&mut self) {
        self.over = false;
    }

    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Reads the beginning, all of which must be in `input`.
    pub fn read(&mut self, dialect: &Dialect, input: &[u8], eof: bool, row: &mut Row, case_sensitive: bool) -> Begin {
        const MARK: &[u8] = b"\xEF\xBB\xBF";
        if input.len() < MARK.len() && MARK.starts_with(input) && !eof {
            return Begin::More(0);
        }
        let mut pos = if input.starts_with(MARK) { MARK.len() } else { 0 };
        for _ in 0..self.skip_rows {
            match dialect.line_end(input, pos, eof) {
                Some(next) => pos = next,
                None => return Begin::More(0),
            }
        }
        if !self.header {
            self.over = true;
            return Begin::Columns(None, pos);
        }
        match dialect.read(input, pos, eof, row) {
            Ok((_, next)) => {
                self.over = true;
                Begin::Columns(Some(names(input, row, case_sensitive)), next)
            }
            Err(used) => Begin::More(if eof { used } else { 0 }),
        }
    }

    /// Refuses a header with too many columns.
    pub fn check_width(&self, header: Option<&[String]>, path: &str) -> Result<(), DecodeError> {
        let columns = header.map_or(0, <[String]>::len);
        if columns > self.max_columns {
            return Err(DecodeError::TooManyColumns { path: path.to_owned(), columns, limit: self.max_columns });
        }
        Ok(())
    }
}

/// The names in a header row, made fit for columns: empty ones become `_c` and their place, and of names that
/// stand there twice each gets its place appended.
fn names(input: &[u8], row: &Row, case_sensitive: bool) -> Vec<String> {
    let given: Vec<String> =
        row.values.iter().map(|&value| String::from_utf8_lossy(row.text(value, input)).into_owned()).collect();
    let key = |name: &str| if case_sensitive { name.to_owned() } else { name.to_lowercase() };
    let mut times = std::collections::HashMap::new();
    for name in &given {
        *times.entry(key(name)).or_insert(0) += 1;
    }
    let safe = |(place, name): (usize, String)| {
        if name.is_empty() {
            format!("_c{place}")
        } else if times.get(&key(&name)).is_some_and(|&times| times > 1) {
            format!("{name}{place}")
        } else {
            name
        }
    };
    given.into_iter().enumerate().map(safe).collect()
}
