//! Owns the engine's errors, and what a DataFusion error is to a client.

use datafusion::error::DataFusionError;
use millstream_catalog::fault::{Code, Fault};

/// The engine's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the engine refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// From the catalog.
    #[error(transparent)]
    Catalog(#[from] millstream_catalog::Error),
    /// From a log.
    #[error(transparent)]
    Log(#[from] millstream_buffer::Error),
    /// From the lake.
    #[error(transparent)]
    Lake(#[from] millstream_store::Error),
    /// A failure with its own code; what most of the engine's own checks give.
    #[error("{message}")]
    Rejected {
        /// What it is to a client.
        code: Code,
        /// The object, the cause and the fix.
        message: String,
        /// What to do about it.
        hint: Option<String>,
        /// A 1-based character position in the SQL text.
        position: Option<usize>,
    },
    /// From planning or running a query.
    #[error("{message}")]
    Query {
        /// What it is to a client.
        code: Code,
        /// The message, without DataFusion's prefixes.
        message: String,
        /// A 1-based character position in the SQL text.
        position: Option<usize>,
        /// The cause.
        #[source]
        source: Box<DataFusionError>,
    },
}

impl Error {
    /// A failure with a code and a message.
    pub fn rejected(code: Code, message: impl Into<String>) -> Self {
        Error::Rejected { code, message: message.into(), hint: None, position: None }
    }
}

impl Fault for Error {
    fn code(&self) -> Code {
        match self {
            Error::Catalog(e) => e.code(),
            Error::Log(e) => e.code(),
            Error::Lake(e) => e.code(),
            Error::Rejected { code, .. } | Error::Query { code, .. } => *code,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::Rejected { hint, .. } => hint.clone(),
            _ => None,
        }
    }

    fn position(&self) -> Option<usize> {
        match self {
            Error::Rejected { position, .. } | Error::Query { position, .. } => *position,
            _ => None,
        }
    }
}

/// The message with the messages of its causes, for logs and `system.jobs`.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // A transparent wrapper repeats its cause's words.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        DataFusionError::External(Box::new(error))
    }
}

impl Error {
    /// What a DataFusion error is to a client. An error of the engine's own that passed through a plan comes out as
    /// itself; `sql` is the statement's text, for the position.
    pub(crate) fn from_datafusion(error: DataFusionError, sql: &str) -> Self {
        match own(error) {
            Ok(own) => own,
            Err(error) => {
                let position = span_start(&error).and_then(|(line, column)| char_position(sql, line, column));
                let root = root(&error);
                let code = code_of(root);
                let message = plain_message(root);
                Error::Query { code, message, position, source: Box::new(error) }
            }
        }
    }
}

/// The engine's own error inside, if there is one.
fn own(error: DataFusionError) -> Result<Error, DataFusionError> {
    match error {
        DataFusionError::External(inner) => match inner.downcast::<Error>() {
            Ok(own) => Ok(*own),
            Err(inner) => match inner.downcast::<DataFusionError>() {
                Ok(nested) => self::own(*nested),
                Err(inner) => match inner.downcast::<millstream_store::Error>() {
                    Ok(lake) => Ok(Error::Lake(*lake)),
                    Err(inner) => Err(DataFusionError::External(inner)),
                },
            },
        },
        DataFusionError::Context(context, inner) => {
            self::own(*inner).map_err(|e| DataFusionError::Context(context, Box::new(e)))
        }
        DataFusionError::ArrowError(arrow, backtrace) => match *arrow {
            arrow::error::ArrowError::ExternalError(inner) => self::own(DataFusionError::External(inner)),
            other => Err(DataFusionError::ArrowError(Box::new(other), backtrace)),
        },
        other => Err(other),
    }
}

fn root(error: &DataFusionError) -> &DataFusionError {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => root(inner),
        DataFusionError::External(inner) => inner.downcast_ref::<DataFusionError>().map_or(error, root),
        DataFusionError::Shared(inner) => root(inner),
        DataFusionError::Collection(errors) => errors.first().map_or(error, root),
        other => other,
    }
}

fn code_of(error: &DataFusionError) -> Code {
    use arrow::error::ArrowError;
    use datafusion::common::SchemaError;
    match error {
        DataFusionError::SQL(..) => Code::SyntaxError,
        DataFusionError::NotImplemented(_) => Code::Unsupported,
        DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
            SchemaError::FieldNotFound { .. } => Code::UndefinedColumn,
            SchemaError::AmbiguousReference { .. } => Code::InvalidDefinition,
            _ => Code::DuplicateColumn,
        },
        DataFusionError::Plan(message) => plan_code(message),
        DataFusionError::ResourcesExhausted(_) => Code::OutOfMemory,
        DataFusionError::ArrowError(arrow, _) => match arrow.as_ref() {
            ArrowError::DivideByZero => Code::DivisionByZero,
            ArrowError::ArithmeticOverflow(_) => Code::OutOfRange,
            ArrowError::CastError(_) | ArrowError::ParseError(_) => Code::InvalidValue,
            _ => Code::Internal,
        },
        DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) => Code::IoError,
        DataFusionError::ParquetError(_) => Code::DataCorrupted,
        DataFusionError::Execution(message) if message.to_lowercase().contains("divide by zero") => {
            Code::DivisionByZero
        }
        DataFusionError::Execution(_) => Code::InvalidValue,
        _ => Code::Internal,
    }
}

/// DataFusion's planning errors carry their kind in their words only.
fn plan_code(message: &str) -> Code {
    let lower = message.to_lowercase();
    if lower.contains("table") && lower.contains("not found") {
        Code::UndefinedObject
    } else if lower.contains("invalid function") || lower.contains("no function matches") {
        Code::UndefinedFunction
    } else if lower.contains("no field named") {
        Code::UndefinedColumn
    } else if lower.contains("failed to resolve schema") {
        Code::UndefinedSchema
    } else if lower.contains("cannot coerce") || lower.contains("cannot infer common argument type") {
        Code::TypeMismatch
    } else {
        Code::InvalidRequest
    }
}

/// The message in this project's voice: no prefixes, no backtrace, no full stop, the database's name left out.
fn plain_message(error: &DataFusionError) -> String {
    let text = error.message();
    let text = text.split("\n\nbacktrace:").next().unwrap_or_default().trim();
    let text = text.trim_end_matches('.').replace("millstream.public.", "").replace("millstream.system.", "system.");
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        // "Error …" becomes "error …"; an acronym or an identifier stays.
        (Some(first), Some(second)) if first.is_ascii_uppercase() && second.is_ascii_lowercase() => {
            format!("{}{}", first.to_ascii_lowercase(), &text[1..])
        }
        _ => text,
    }
}

fn span_start(error: &DataFusionError) -> Option<(u64, u64)> {
    match error {
        DataFusionError::Diagnostic(diagnostic, inner) => match diagnostic.span {
            Some(span) => Some((span.start.line, span.start.column)),
            None => span_start(inner),
        },
        DataFusionError::Context(_, inner) => span_start(inner),
        DataFusionError::Collection(errors) => errors.iter().find_map(span_start),
        _ => None,
    }
}

/// A 1-based character position from a 1-based line and column.
fn char_position(sql: &str, line: u64, column: u64) -> Option<usize> {
    let before = sql.split_inclusive('\n').take(line.checked_sub(1)? as usize);
    let offset: usize = before.map(|l| l.chars().count()).sum();
    (column > 0).then(|| offset + column as usize)
}
