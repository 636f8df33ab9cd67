//! Owns what a DataFusion error says to a user: its code, and its words without the engine's names and prefixes.

use std::fmt::Write;

use arrow::error::ArrowError;
use datafusion::common::{Column, SchemaError};
use datafusion::error::DataFusionError;
use millstream_catalog::fault::Code;

/// How many columns a message lists.
const COLUMNS_SHOWN: usize = 20;
/// What is said of a subquery that the planner cannot make a join.
const OUT_OF_REACH: &str = "a subquery names columns of the query around it in a way that cannot be run as a join: \
                            write it as a JOIN, or compute what it needs in WITH";

/// The code and the message of an error, by its root.
pub(crate) fn describe(error: &DataFusionError) -> (Code, String) {
    let root = root(error);
    let (code, text) = match root {
        DataFusionError::SchemaError(schema, _) => schema_error(schema),
        DataFusionError::ArrowError(arrow, _) => arrow_error(arrow),
        DataFusionError::SQL(..) => (Code::SyntaxError, root.message().into_owned()),
        DataFusionError::NotImplemented(m) => (Code::Unsupported, m.clone()),
        DataFusionError::Plan(m) => (plan_code(m), m.clone()),
        DataFusionError::Execution(m) if m.to_lowercase().contains("divide by zero") => {
            (Code::DivisionByZero, "division by zero".to_owned())
        }
        DataFusionError::Execution(m) => (Code::InvalidValue, m.clone()),
        DataFusionError::ResourcesExhausted(m) => (Code::OutOfMemory, m.clone()),
        DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) => (Code::IoError, root.message().into_owned()),
        DataFusionError::External(inner) if let Some(e) = inner.downcast_ref() => (window_code(e), e.to_string()),
        DataFusionError::ParquetError(_) => (Code::DataCorrupted, root.message().into_owned()),
        other => (Code::Internal, other.message().into_owned()),
    };
    (out_of_range(code, &text), reworded(&text))
}

fn root(error: &DataFusionError) -> &DataFusionError {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => root(inner),
        DataFusionError::External(inner) => inner.downcast_ref::<DataFusionError>().map_or(error, root),
        DataFusionError::ArrowError(arrow, _) => match arrow.as_ref() {
            ArrowError::ExternalError(inner) => inner.downcast_ref::<DataFusionError>().map_or(error, root),
            _ => error,
        },
        DataFusionError::Shared(inner) => root(inner),
        DataFusionError::Collection(errors) => errors.first().map_or(error, root),
        other => other,
    }
}

fn window_code(error: &millstream_windows::Error) -> Code {
    use millstream_windows::Error;
    match error {
        Error::Arguments { .. } | Error::Interval { .. } => Code::InvalidRequest,
        Error::UndefinedColumn { .. } | Error::UndefinedKey { .. } => Code::UndefinedColumn,
        Error::NotTimestamp { .. } => Code::TypeMismatch,
        Error::DuplicateColumn { .. } => Code::DuplicateColumn,
    }
}

fn schema_error(error: &SchemaError) -> (Code, String) {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } if valid_fields.is_empty() => {
            (Code::UndefinedColumn, format!("column {:?} does not exist", field.name))
        }
        // A subquery within a subquery names a column of the outermost query.
        SchemaError::FieldNotFound { valid_fields, .. } if valid_fields.iter().any(is_of_subquery) => {
            (Code::Unsupported, OUT_OF_REACH.to_owned())
        }
        // The name is there, of another relation.
        SchemaError::FieldNotFound { field, valid_fields } if valid_fields.iter().any(|c| c.name == field.name) => {
            let columns: Vec<_> = valid_fields.iter().take(COLUMNS_SHOWN).map(Column::flat_name).collect();
            let more = if valid_fields.len() > COLUMNS_SHOWN { ", …" } else { "" };
            let (column, columns) = (field.flat_name(), columns.join(", "));
            (Code::UndefinedColumn, format!("there is no column {column} here; the columns are {columns}{more}"))
        }
        SchemaError::FieldNotFound { field, valid_fields } => {
            let shown: Vec<_> = valid_fields.iter().take(COLUMNS_SHOWN).map(|c| c.name.as_str()).collect();
            let more = if valid_fields.len() > COLUMNS_SHOWN { ", …" } else { "" };
            let columns = shown.join(", ");
            (Code::UndefinedColumn, format!("column {:?} does not exist; the columns are {columns}{more}", field.name))
        }
        SchemaError::AmbiguousReference { field } => {
            let message = format!("column {:?} is in more than one table: write table.column", field.name);
            (Code::InvalidDefinition, message)
        }
        other => (Code::DuplicateColumn, other.to_string()),
    }
}

/// Whether a column is of what the optimizer makes of a subquery.
fn is_of_subquery(column: &Column) -> bool {
    column.relation.as_ref().is_some_and(|relation| relation.table().starts_with("__correlated_sq"))
}

fn arrow_error(error: &ArrowError) -> (Code, String) {
    match error {
        ArrowError::DivideByZero => (Code::DivisionByZero, "division by zero".to_owned()),
        ArrowError::ArithmeticOverflow(m) => (Code::OutOfRange, m.clone()),
        ArrowError::CastError(m) | ArrowError::ParseError(m) => (Code::InvalidValue, m.clone()),
        ArrowError::ComputeError(m) | ArrowError::InvalidArgumentError(m) => (Code::InvalidValue, m.clone()),
        other => (Code::Internal, other.to_string()),
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
    } else if lower.starts_with("too many columns! the subquery") {
        Code::SyntaxError
    } else if lower.contains("cannot coerce") || lower.contains("cannot infer common argument type") {
        Code::TypeMismatch
    } else {
        Code::InvalidRequest
    }
}

/// A value that does not fit its type is out of range, whatever it came as.
fn out_of_range(code: Code, message: &str) -> Code {
    match code {
        Code::InvalidValue if message.starts_with("Can't cast value") => Code::OutOfRange,
        code => code,
    }
}

/// The message in this project's voice: no prefixes, no backtrace, no full stop, SQL's names for types.
fn reworded(text: &str) -> String {
    let text = text.split(DataFusionError::BACK_TRACE_SEP).next().unwrap_or_default();
    // What follows asks to report a defect of the library for what is a user's mistake.
    let text = text.split("\nThis issue was likely caused by").next().unwrap_or_default();
    let text = text.trim().trim_end_matches('.');
    let text = text.replace("millstream.public.", "").replace("millstream.system.", "system.");
    let text = known(&text).unwrap_or(text);
    lower_first(&with_sql_types(&text))
}

/// The messages users meet most, said as PostgreSQL's users expect.
fn known(text: &str) -> Option<String> {
    if let Some((_, tail)) = text.split_once("Function '")
        && let Some((function, tail)) = tail.split_once("' failed to match any signature")
    {
        let (_, received) = tail.split_once("but received ")?;
        let received = received.split([',', ' ']).next()?;
        return Some(format!("function {function} does not take arguments of type {received}"));
    }
    if let Some(tail) = text.strip_prefix("table '") {
        let name = tail.strip_suffix("' not found")?;
        return Some(format!("stream or table {:?} does not exist", name.trim_start_matches("millstream.")));
    }
    if let Some(tail) = text.strip_prefix("Invalid function '") {
        let name = tail.split('\'').next()?;
        return Some(match millstream_windows::Function::named(name) {
            Some(function) => {
                format!("{function} is a table function: write FROM {}, and group by window_start", function.usage())
            }
            None => format!("function {name:?} does not exist"),
        });
    }
    if let Some(tail) = text.strip_prefix("Cannot cast string '") {
        let (value, tail) = tail.rsplit_once("' to value of ")?;
        return Some(format!("{value:?} is not a valid {}", tail.strip_suffix(" type")?));
    }
    if let Some(tail) = text.strip_prefix("Can't cast value ") {
        let (value, data_type) = tail.rsplit_once(" to type ")?;
        return Some(format!("{value} is out of range for type {data_type}"));
    }
    if text.starts_with("Too many columns! The subquery should only return one column") {
        return Some("a subquery that stands for a value, or behind IN, has one column: this one has more".to_owned());
    }
    let unplanned = ["logical expression", "undecorrelated Subquery"];
    if text.strip_prefix("Physical plan does not support ").is_some_and(|t| unplanned.iter().any(|u| t.starts_with(u)))
    {
        return Some(OUT_OF_REACH.to_owned());
    }
    if text.contains("must appear in the GROUP BY clause") {
        let (_, tail) = text.split_once("column \"")?;
        let column = tail.split('"').next()?;
        return Some(format!("column {column:?} must be in GROUP BY or inside an aggregate"));
    }
    None
}

/// Arrow's names of types, where they stand as words of their own, become SQL's.
fn with_sql_types(text: &str) -> String {
    const NAMES: [(&str, &str); 14] = [
        ("Utf8View", "text"),
        ("LargeUtf8", "text"),
        ("Utf8", "text"),
        ("String", "text"),
        ("Int16", "smallint"),
        ("Int32", "int"),
        ("Int64", "bigint"),
        ("Float32", "real"),
        ("Float64", "double precision"),
        ("Date32", "date"),
        ("Boolean", "boolean"),
        ("Timestamp(µs, \"UTC\")", "timestamptz"),
        ("Timestamp(µs)", "timestamp"),
        ("Time64(µs)", "time"),
    ];
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut inside_word = false;
    while let Some(c) = rest.chars().next() {
        let name = if inside_word { None } else { NAMES.iter().find(|(arrow, _)| starts_with_word(rest, arrow)) };
        let decimal = if inside_word { None } else { decimal(rest) };
        match name {
            _ if let Some((digits, tail)) = decimal => {
                let _ = write!(out, "decimal({digits})");
                rest = tail;
            }
            Some((arrow, sql)) => {
                out.push_str(sql);
                rest = &rest[arrow.len()..];
                inside_word = false;
            }
            None => {
                out.push(c);
                rest = &rest[c.len_utf8()..];
                inside_word = c.is_alphanumeric() || c == '_';
            }
        }
    }
    out
}

/// The digits of Arrow's name of a decimal type that a text begins with, as SQL has them, and what follows it.
fn decimal(text: &str) -> Option<(String, &str)> {
    let tail = ["Decimal128(", "Decimal256("].iter().find_map(|name| text.strip_prefix(name))?;
    let (digits, tail) = tail.split_once(')')?;
    Some((digits.replace(", ", ","), tail))
}

fn starts_with_word(text: &str, word: &str) -> bool {
    text.strip_prefix(word).is_some_and(|tail| !tail.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
}

/// "Error …" becomes "error …"; an acronym or an identifier stays.
fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if first.is_uppercase() && (second.is_lowercase() || second == ' ') => {
            first.to_lowercase().chain(text.chars().skip(1)).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_called_by_their_sql_names_where_they_are_words() {
        assert_eq!(with_sql_types("Cannot add Int32 and MyInt32, Utf8View"), "Cannot add int and MyInt32, text");
        assert_eq!(with_sql_types("Decimal128(38, 10) or MyDecimal128(1, 2)"), "decimal(38,10) or MyDecimal128(1, 2)");
    }

    #[test]
    fn a_request_to_report_a_defect_never_reaches_a_user() {
        let text = "Internal error: Function 'sum' failed to match any signature, errors: Error during planning: \
                    Function 'sum' requires Int64, but received String (DataType: Utf8View).,x..\nThis issue was likely \
                    caused by a bug in DataFusion's code. Please help us. No function matches the given name and \
                    argument types 'sum(Utf8View)'.\n\tCandidate functions:\n\tsum(Int64)";
        let (code, message) = describe(&DataFusionError::Plan(text.to_owned()));
        assert_eq!(code, Code::UndefinedFunction);
        assert_eq!(message, "function sum does not take arguments of type text");
    }
}
