//! Errors by what the reader does about them: change the statement, mend the environment, or report a bug.

use alluvium_parser::{Diagnostic, Span};
use arrow::error::ArrowError;

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, by whose turn it is.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The statement cannot work or failed on its input: the user changes the statement or the data. Exit code 1.
    #[error("{0}")]
    Statement(Box<Diagnostic>),
    /// Stored state or the environment prevents it: corrupt or locked checkpoint, disk full, no permission. Exit code 3.
    #[error("{0}")]
    Environment(Box<Diagnostic>),
    /// A bug of ours. Exit code 1, code INTERNAL.
    #[error("{0}")]
    Internal(Box<Diagnostic>),
    /// Stopped by the user. Exit code 130.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// The user's statement or data is at fault.
    pub fn statement(diagnostic: Diagnostic) -> Self {
        Error::Statement(Box::new(diagnostic))
    }

    /// The environment or stored state is at fault.
    pub fn environment(code: &'static str, message: impl Into<String>) -> Self {
        Error::Environment(Box::new(Diagnostic::new(code, message)))
    }

    /// We are at fault.
    pub fn internal(message: impl Into<String>) -> Self {
        Error::Internal(Box::new(
            Diagnostic::new("INTERNAL", message).help("this is a bug in Alluvium; please report it with the statement"),
        ))
    }

    /// An input or output failure on a path: environment, with the operating system's word.
    pub fn io(doing: &str, path: &std::path::Path, source: &std::io::Error) -> Self {
        let (code, help) = match source.kind() {
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                ("PERMISSION_DENIED", "give this user the right to it, or choose another place")
            }
            std::io::ErrorKind::StorageFull => ("DISK_FULL", "make room; the stream can then be started again"),
            _ => ("IO", "once the cause is gone it can be tried again; nothing was lost"),
        };
        Error::Environment(Box::new(
            Diagnostic::new(code, format!("cannot {doing} `{}`: {source}", path.display())).help(help),
        ))
    }

    /// The diagnostic inside, to be printed.
    pub fn diagnostic(&self) -> Diagnostic {
        match self {
            Error::Statement(d) | Error::Environment(d) | Error::Internal(d) => (**d).clone(),
            Error::Interrupted => Diagnostic::new("INTERRUPTED", "interrupted"),
        }
    }

    /// The same error with a place, where it has none.
    pub fn at_least(self, span: Span) -> Self {
        match self {
            Error::Statement(d) => Error::Statement(Box::new(d.at_least(span))),
            Error::Environment(d) => Error::Environment(Box::new(d.at_least(span))),
            Error::Internal(d) => Error::Internal(Box::new(d.at_least(span))),
            Error::Interrupted => Error::Interrupted,
        }
    }

    /// The same error with one more way out.
    pub fn helped(self, help: impl Into<String>) -> Self {
        match self {
            Error::Statement(d) => Error::Statement(Box::new(d.help(help))),
            Error::Environment(d) => Error::Environment(Box::new(d.help(help))),
            other => other,
        }
    }

    /// The process's exit code when this ends it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Statement(_) | Error::Internal(_) => 1,
            Error::Environment(_) => 3,
            Error::Interrupted => 130,
        }
    }
}

impl From<Diagnostic> for Error {
    fn from(diagnostic: Diagnostic) -> Self {
        Error::statement(diagnostic)
    }
}

impl From<datafusion::error::DataFusionError> for Error {
    fn from(error: datafusion::error::DataFusionError) -> Self {
        from_datafusion(error)
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Self {
        from_datafusion(error.into())
    }
}

/// Our own errors travel through DataFusion as `External`; they come out as they went in.
fn from_datafusion(error: datafusion::error::DataFusionError) -> Error {
    known(&error).unwrap_or_else(|| Error::statement(Diagnostic::new("EXECUTION", error.strip_backtrace())))
}

/// The errors behind which there is more than a failed computation. They come wrapped: with context, shared among
/// partitions, through Arrow and Parquet.
fn known(error: &datafusion::error::DataFusionError) -> Option<Error> {
    use datafusion::error::DataFusionError as D;
    Some(match error {
        D::External(inner) => return ours(inner.as_ref()),
        D::Context(_, inner) => return known(inner),
        D::Shared(inner) => return known(inner),
        D::ArrowError(inner, _) => return of_arrow(inner),
        D::ParquetError(inner) => match inner.as_ref() {
            parquet::errors::ParquetError::External(inner) => return ours(inner.as_ref()),
            _ => return None,
        },
        D::Internal(message) => Error::internal(message),
        D::ResourcesExhausted(message) => {
            Error::statement(Diagnostic::new("OUT_OF_MEMORY", message).help("raise it with `SET memory_limit = '2GB'`"))
        }
        D::IoError(error) => Error::environment("IO", format!("the operating system refused: {error}")),
        D::ObjectStore(error) if matches!(error.as_ref(), object_store::Error::NotFound { .. }) => Error::environment(
            "FILE_VANISHED",
            format!("{error}; it was a data file of a table, perhaps taken by VACUUM while it was being read"),
        ),
        _ => return None,
    })
}

fn of_arrow(error: &ArrowError) -> Option<Error> {
    match error {
        ArrowError::ArithmeticOverflow(what) => Some(Error::statement(
            Diagnostic::new("ARITHMETIC_OVERFLOW", what)
                .help("use a wider type, such as CAST(… AS DECIMAL(38, 0)), or try_sum, which gives NULL"),
        )),
        ArrowError::DivideByZero => Some(Error::statement(
            Diagnostic::new("DIVIDE_BY_ZERO", "division by zero")
                .help("try_divide(a, b) gives NULL instead, and so does a / nullif(b, 0)"),
        )),
        ArrowError::CastError(what) | ArrowError::ParseError(what) => Some(cast_failed(what)),
        ArrowError::ExternalError(inner) => ours(inner.as_ref()),
        _ => None,
    }
}

/// A cast of a value that its type does not have, in the language's words instead of Arrow's.
fn cast_failed(what: &str) -> Error {
    let mut text = what.to_owned();
    for (arrows, ours) in ARROW_TYPES {
        for form in [format!("value of {arrows} type"), format!("{arrows} type"), format!("type {arrows}")] {
            text = text.replace(&form, ours);
        }
    }
    text = text.replace("Cannot cast string ", "cannot cast ").replace("Can't cast value ", "cannot cast ");
    text = text.replace("Cannot cast ", "cannot cast ").replace("Error parsing ", "no ");
    Error::statement(
        Diagnostic::new("CAST_INVALID_INPUT", text)
            .help("try_cast(value AS type) gives NULL for what does not fit; a wider type takes larger numbers"),
    )
}

/// Arrow's names of types in its messages, and the language's.
const ARROW_TYPES: [(&str, &str); 11] = [
    ("Int8", "TINYINT"),
    ("Int16", "SMALLINT"),
    ("Int32", "INT"),
    ("Int64", "BIGINT"),
    ("Float32", "FLOAT"),
    ("Float64", "DOUBLE"),
    ("Boolean", "BOOLEAN"),
    ("Date32", "DATE"),
    ("Timestamp(Microsecond, Some(\"UTC\"))", "TIMESTAMP"),
    ("Timestamp(Microsecond, None)", "TIMESTAMP_NTZ"),
    ("Utf8", "STRING"),
];

/// An error of ours, or one that DataFusion knows, inside another library's.
fn ours(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Option<Error> {
    if let Some(error) = error.downcast_ref::<Error>() {
        return Some(error.clone());
    }
    if let Some(error) = error.downcast_ref::<ArrowError>() {
        return of_arrow(error);
    }
    if let Some(diagnostic) = error.downcast_ref::<Diagnostic>() {
        return Some(Error::statement(diagnostic.clone()));
    }
    error.downcast_ref::<datafusion::error::DataFusionError>().and_then(known)
}

/// Ours, on its way through DataFusion.
impl From<Error> for datafusion::error::DataFusionError {
    fn from(error: Error) -> Self {
        datafusion::error::DataFusionError::External(Box::new(error))
    }
}
