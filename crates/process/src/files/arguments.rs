//! Owns what stands between the parentheses of `read_csv(…)` and its like.

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, FunctionArg, FunctionArgExpr, TableFactor, Value};
use millstream_catalog::fault::Code;

use super::decode::{Column, Reading};
use super::dialect::{Dialect, Header, one_byte};
use super::format::{Compression, FORMATS, Format, has_tabs};
use crate::ddl;
use crate::{Error, Result};

/// A call that reads files.
#[derive(Debug, Clone)]
pub(super) struct ReadCall {
    /// What the relation is called where it has no alias.
    pub(super) name: String,
    /// Paths, URLs and patterns.
    pub(super) patterns: Vec<String>,
    pub(super) reading: Reading,
    /// The columns, where they are said.
    pub(super) columns: Option<Vec<Column>>,
    /// Whether records that cannot be read are passed over.
    pub(super) ignore_errors: bool,
}

impl ReadCall {
    /// The call that a relation is, if it is one: `read_…('file', …)` or `'file'`.
    pub(super) fn of(relation: &TableFactor) -> Result<Option<Self>> {
        let TableFactor::Table { name, args, .. } = relation else { return Ok(None) };
        let [part] = name.0.as_slice() else { return Ok(None) };
        let Some(ident) = part.as_ident() else { return Ok(None) };
        match args {
            None if ident.quote_style == Some('\'') => of_file(&ident.value).map(Some),
            Some(args) if ident.quote_style.is_none() => of_function(&ident.value.to_lowercase(), &args.args),
            _ => Ok(None),
        }
    }
}

impl ReadCall {
    /// Files of a format, read as that is read when nothing else is said.
    pub(super) fn of_format(format: Format, pattern: &str) -> Self {
        with_defaults(format, vec![pattern.to_owned()])
    }
}

/// `FROM 'file.parquet'`.
fn of_file(path: &str) -> Result<ReadCall> {
    let Some(format) = Format::of_name(path) else {
        let message = format!(
            "the format of file {path:?} is not known by its name: write read_csv('{path}') or another of the formats, which are {FORMATS}"
        );
        return Err(Error::rejected(Code::InvalidRequest, message));
    };
    let file = path.rsplit('/').next().unwrap_or(path);
    let stem = file.split('.').next().filter(|stem| !stem.is_empty()).unwrap_or(file);
    Ok(ReadCall { name: stem.to_owned(), ..with_defaults(format, vec![path.to_owned()]) })
}

fn with_defaults(format: Format, patterns: Vec<String>) -> ReadCall {
    let mut dialect = Dialect::csv();
    if patterns.iter().all(|p| has_tabs(p)) {
        dialect.delimiter = b'\t';
    }
    let name = format!("read_{}", format.name());
    let reading = Reading { format, dialect, compression: None };
    ReadCall { name, patterns, reading, columns: None, ignore_errors: false }
}

fn of_function(name: &str, args: &[FunctionArg]) -> Result<Option<ReadCall>> {
    let format = match name {
        "read_parquet" | "parquet_scan" => Format::Parquet,
        "read_csv" | "read_csv_auto" => Format::Csv,
        "read_json" | "read_ndjson" | "read_json_auto" => Format::Json,
        "read_arrow" | "read_ipc" => Format::Arrow,
        "read_avro" => Format::Avro,
        _ => return Ok(None),
    };
    let mut patterns = None;
    let mut options = Vec::new();
    for arg in args {
        match named(arg) {
            Some((option, value)) => options.push((option, value)),
            None => match (positional(arg), &patterns) {
                (Some(expr), None) => patterns = Some(texts(name, expr)?),
                _ => return Err(usage(name)),
            },
        }
    }
    let patterns = patterns.ok_or_else(|| usage(name))?;
    let mut call = ReadCall { name: name.to_owned(), ..with_defaults(format, patterns) };
    for (option, value) in options {
        call.set(&option, value)?;
    }
    call.reading.dialect.check()?;
    Ok(Some(call))
}

fn usage(name: &str) -> Error {
    let message = format!(
        "{name} takes a file, a pattern or a list of them in quotes, then options: {name}('data/*.csv', header = true)"
    );
    Error::rejected(Code::InvalidRequest, message)
}

/// `name => value`, `name := value` or `name = value`.
fn named(arg: &FunctionArg) -> Option<(String, &Expr)> {
    let name = |expr: &Expr| match expr {
        Expr::Identifier(ident) => Some(ident.value.to_lowercase()),
        Expr::Value(value) if value.value == Value::Null => Some("null".to_owned()),
        _ => None,
    };
    match arg {
        FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. } => Some((name.value.to_lowercase(), value)),
        FunctionArg::ExprNamed { name: option, arg: FunctionArgExpr::Expr(value), .. } => Some((name(option)?, value)),
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::BinaryOp {
            left,
            op: BinaryOperator::Eq | BinaryOperator::Assignment,
            right,
        })) => Some((name(left)?, right)),
        _ => None,
    }
}

fn positional(arg: &FunctionArg) -> Option<&Expr> {
    match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}

fn texts(function: &str, expr: &Expr) -> Result<Vec<String>> {
    let quoted = |expr: &Expr| {
        let string = matches!(expr, Expr::Value(v) if !matches!(v.value, Value::Number(..) | Value::Boolean(_)));
        text(expr).filter(|_| string)
    };
    let texts: Option<Vec<String>> = match expr {
        Expr::Array(array) => array.elem.iter().map(quoted).collect(),
        one => quoted(one).map(|text| vec![text]),
    };
    texts.filter(|texts| !texts.is_empty()).ok_or_else(|| usage(function))
}

/// A literal's value as text.
fn text(expr: &Expr) -> Option<String> {
    let Expr::Value(value) = expr else {
        return match expr {
            Expr::Identifier(word) => Some(word.value.to_lowercase()),
            _ => None,
        };
    };
    match &value.value {
        Value::SingleQuotedString(s) | Value::EscapedStringLiteral(s) | Value::UnicodeStringLiteral(s) => {
            Some(s.clone())
        }
        Value::DollarQuotedString(s) => Some(s.value.clone()),
        Value::Number(digits, _) => Some(digits.to_string()),
        Value::Boolean(yes) => Some(yes.to_string()),
        _ => None,
    }
}

const OPTIONS: &[&str] = &[
    "header",
    "delimiter",
    "delim",
    "sep",
    "quote",
    "escape",
    "null",
    "nullstr",
    "compression",
    "columns",
    "ignore_errors",
];

impl ReadCall {
    fn set(&mut self, option: &str, value: &Expr) -> Result<()> {
        let refuse = |message: String| Err(Error::rejected(Code::InvalidRequest, message));
        let Some(text) = text(value) else {
            return refuse(format!("option {option} of {} must be a value, not an expression", self.name));
        };
        let format = self.reading.format;
        let of_text = matches!(format, Format::Csv | Format::Json);
        let dialect = &mut self.reading.dialect;
        match option {
            "compression" if !format.is_compressed_inside() => {
                self.reading.compression = Compression::named(&text, format)?;
            }
            "columns" | "types" if of_text => self.columns = Some(columns(&text)?),
            "ignore_errors" if of_text => self.ignore_errors = yes(option, &text)?,
            "header" if format == Format::Csv => {
                dialect.header = if yes(option, &text)? { Header::Yes } else { Header::No };
            }
            "delimiter" | "delim" | "sep" if format == Format::Csv => dialect.delimiter = one_byte(option, &text)?,
            "quote" if format == Format::Csv => {
                dialect.quote = if text.is_empty() { None } else { Some(one_byte(option, &text)?) };
                dialect.escape = dialect.quote.unwrap_or(dialect.escape);
            }
            "escape" if format == Format::Csv => dialect.escape = one_byte(option, &text)?,
            "null" | "nullstr" if format == Format::Csv => dialect.null = text,
            _ => {
                let known = OPTIONS.contains(&option);
                let advice = match ddl::nearest(option, OPTIONS.iter().copied()) {
                    _ if known => format!("it is no option of {}", self.name),
                    Some(near) => format!("did you mean {near}?"),
                    None => format!("the options are {}", OPTIONS.join(", ")),
                };
                return refuse(format!("{} does not take option {option:?}: {advice}", self.name));
            }
        }
        Ok(())
    }
}

pub(super) fn yes(option: &str, text: &str) -> Result<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" | "1" | "yes" => Ok(true),
        "false" | "off" | "0" | "no" => Ok(false),
        other => {
            Err(Error::rejected(Code::InvalidRequest, format!("option {option} = {other:?} must be true or false")))
        }
    }
}

fn columns(text: &str) -> Result<Vec<Column>> {
    let columns = ddl::parse_columns(text)?;
    Ok(columns.into_iter().map(|(name, data_type)| Column { name, data_type }).collect())
}
