//! Owns how column types are written, and what to use in place of those that are not there.

use datafusion::sql::sqlparser::tokenizer::{Location, Token};
use millstream_catalog::fault::{Code, Fault};
use millstream_catalog::{DataType, RowField};

use super::cursor::Cursor;
use super::split::{Piece, split};
use super::suggest::nearest;
use crate::{Error, Result};

/// How deep arrays and rows may nest.
const MAX_NESTING: usize = 32;
/// The digits a decimal may have.
const MAX_PRECISION: u64 = 38;
/// The fractional digits that times are kept with.
const TIME_DIGITS: u64 = 6;

const NAMES: &[&str] = &[
    "boolean",
    "smallint",
    "int",
    "integer",
    "bigint",
    "real",
    "double precision",
    "double",
    "decimal",
    "numeric",
    "text",
    "varchar",
    "bytea",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "interval",
    "uuid",
    "json",
    "jsonb",
    "array",
    "row",
    "struct",
    "string",
    "float",
];

/// The columns in a text such as `id bigint, "Name" text`.
pub fn parse_columns(text: &str) -> Result<Vec<(String, DataType)>> {
    let pieces = split(text)?;
    let [piece] = <[Piece<'_>; 1]>::try_from(pieces).map_err(|_| {
        Error::rejected(Code::SyntaxError, format!("{text:?} is no list of columns such as 'id bigint, name text'"))
    })?;
    let mut cursor = Cursor::new(piece);
    let mut columns: Vec<(String, DataType)> = Vec::new();
    loop {
        let name = cursor.identifier("a column name")?;
        if columns.iter().any(|(other, _)| *other == name) {
            return Err(Error::rejected(Code::DuplicateColumn, format!("column {name:?} is named twice")));
        }
        columns.push((name, data_type(&mut cursor)?));
        if !cursor.take(&Token::Comma) {
            break;
        }
    }
    cursor.expect_end()?;
    Ok(columns)
}

/// Reads a type.
pub(super) fn data_type(cursor: &mut Cursor<'_>) -> Result<DataType> {
    let found = nested(cursor, 0)?;
    if cursor.open_closers > 0 {
        return Err(cursor.error(Code::SyntaxError, format!("one \">\" too many after type {found}")));
    }
    Ok(found)
}

/// The type that a text names, if it is one.
pub(crate) fn type_named(text: &str) -> Option<DataType> {
    let mut cursor = Cursor::new(split(text).ok()?.pop()?);
    let found = data_type(&mut cursor).ok()?;
    cursor.at_end().then_some(found)
}

fn nested(cursor: &mut Cursor<'_>, depth: usize) -> Result<DataType> {
    if depth > MAX_NESTING {
        let message = format!("the type nests deeper than {MAX_NESTING} levels, use json for it");
        return Err(cursor.error(Code::TooLarge, message));
    }
    let mut found = named(cursor, depth)?;
    let mut levels = depth;
    while array_suffix(cursor)? {
        levels += 1;
        if levels > MAX_NESTING {
            let message = format!("the type nests deeper than {MAX_NESTING} levels, use json for it");
            return Err(cursor.error(Code::TooLarge, message));
        }
        found = DataType::Array(Box::new(found));
    }
    Ok(found)
}

/// `[]`, `[3]`, `ARRAY` and `ARRAY[3]` behind a type; like PostgreSQL's, the size is not kept.
fn array_suffix(cursor: &mut Cursor<'_>) -> Result<bool> {
    if cursor.open_closers > 0 {
        return Ok(false);
    }
    let word = cursor.take_word("array");
    if !cursor.take(&Token::LBracket) {
        return Ok(word);
    }
    if cursor.peek().token != Token::RBracket {
        cursor.whole_number("\"]\"")?;
    }
    cursor.expect(&Token::RBracket, "\"]\"")?;
    Ok(true)
}

fn named(cursor: &mut Cursor<'_>, depth: usize) -> Result<DataType> {
    let at = cursor.location();
    let name = cursor.identifier("a type")?;
    let simple = match name.as_str() {
        "boolean" | "bool" => DataType::Boolean,
        "smallint" | "int2" => DataType::SmallInt,
        "int" | "integer" | "int4" => DataType::Int,
        "bigint" | "int8" => DataType::BigInt,
        "real" | "float4" => DataType::Real,
        "float8" => DataType::Double,
        "double" => {
            cursor.take_word("precision");
            DataType::Double
        }
        "text" | "string" => DataType::Text,
        "bytea" => DataType::Bytea,
        "date" => DataType::Date,
        "interval" => DataType::Interval,
        "uuid" => DataType::Uuid,
        "json" | "jsonb" => DataType::Json,
        "float" => return float(cursor, at),
        "decimal" | "numeric" | "dec" => return decimal(cursor, at),
        "varchar" => return varying(cursor, "varchar", at),
        "character" | "char" if cursor.take_word("varying") => return varying(cursor, "character varying", at),
        "time" | "timestamp" | "timestamptz" => return temporal(cursor, &name, at),
        "array" => return array(cursor, depth),
        "row" | "struct" => return row(cursor, depth),
        _ => return Err(unsupported(cursor, &name, advice(&name), at)),
    };
    if cursor.is_words(&["unsigned"]) {
        return Err(unsupported(cursor, &format!("{name} unsigned"), "use bigint with CHECK (column >= 0)".into(), at));
    }
    if cursor.peek().token == Token::LParen {
        return Err(cursor.error(Code::SyntaxError, format!("type {name} takes no length or precision")));
    }
    Ok(simple)
}

fn float(cursor: &mut Cursor<'_>, at: Location) -> Result<DataType> {
    match precision(cursor)? {
        None | Some(25..=53) => Ok(DataType::Double),
        Some(1..=24) => Ok(DataType::Real),
        Some(bits) => Err(unsupported(cursor, &format!("float({bits})"), "float takes 1 to 53 bits".into(), at)),
    }
}

fn decimal(cursor: &mut Cursor<'_>, at: Location) -> Result<DataType> {
    if !cursor.take(&Token::LParen) {
        let reason = "its digits must be said: write decimal(18,4), up to 38 digits".to_owned();
        return Err(unsupported(cursor, "decimal without precision", reason, at));
    }
    let precision = cursor.whole_number("the number of digits")?;
    let scale = if cursor.take(&Token::Comma) { cursor.whole_number("the digits after the point")? } else { 0 };
    cursor.expect(&Token::RParen, "\")\"")?;
    if !(1..=MAX_PRECISION).contains(&precision) || scale > precision {
        let reason = "decimal takes 1 to 38 digits, and no more after the point than there are in all".to_owned();
        return Err(unsupported(cursor, &format!("decimal({precision},{scale})"), reason, at));
    }
    Ok(DataType::Decimal { precision: precision as u8, scale: scale as i8 })
}

fn varying(cursor: &mut Cursor<'_>, name: &str, at: Location) -> Result<DataType> {
    match precision(cursor)? {
        None => Ok(DataType::Text),
        Some(n) => {
            let reason = format!("text has no length limit of its own: write text CHECK (length(column) <= {n})");
            Err(unsupported(cursor, &format!("{name}({n})"), reason, at))
        }
    }
}

fn temporal(cursor: &mut Cursor<'_>, name: &str, at: Location) -> Result<DataType> {
    if let Some(digits) = precision(cursor)?.filter(|d| *d != TIME_DIGITS) {
        let reason = format!("times are kept with 6 fractional digits: write {name}");
        return Err(unsupported(cursor, &format!("{name}({digits})"), reason, at));
    }
    let zoned = name != "timestamptz" && cursor.take_words(&["with", "time", "zone"]);
    if name != "timestamptz" && !zoned {
        cursor.take_words(&["without", "time", "zone"]);
    }
    match (name, zoned) {
        ("time", true) => Err(unsupported(cursor, "time with time zone", advice("timetz"), at)),
        ("time", false) => Ok(DataType::Time),
        ("timestamp", false) => Ok(DataType::Timestamp),
        _ => Ok(DataType::TimestampTz),
    }
}

fn array(cursor: &mut Cursor<'_>, depth: usize) -> Result<DataType> {
    if !cursor.take(&Token::Lt) {
        return Err(cursor.expected("\"<\" after ARRAY, as in ARRAY<text>; text[] is the same"));
    }
    let item = nested(cursor, depth + 1)?;
    close_angle(cursor)?;
    Ok(DataType::Array(Box::new(item)))
}

fn row(cursor: &mut Cursor<'_>, depth: usize) -> Result<DataType> {
    let angled = cursor.take(&Token::Lt);
    if !angled {
        cursor.expect(&Token::LParen, "\"(\" after ROW, as in ROW(a int, b text)")?;
    }
    let mut fields: Vec<RowField> = Vec::new();
    loop {
        let at = cursor.location();
        let name = cursor.identifier("a field name")?;
        if name.is_empty() {
            return Err(cursor.error_at(Code::InvalidName, "a field name must not be empty", at));
        }
        if fields.iter().any(|f| f.name.eq_ignore_ascii_case(&name)) {
            return Err(cursor.error_at(Code::DuplicateColumn, format!("field {name:?} is named twice"), at));
        }
        cursor.take(&Token::Colon);
        let data_type = nested(cursor, depth + 1)?;
        fields.push(RowField { name, data_type });
        if cursor.open_closers > 0 || !cursor.take(&Token::Comma) {
            break;
        }
    }
    if angled {
        close_angle(cursor)?
    } else {
        cursor.expect(&Token::RParen, "\",\" or \")\"")?
    }
    Ok(DataType::Row(fields))
}

/// Takes one `>`; the tokenizer gives `>>` as one token.
fn close_angle(cursor: &mut Cursor<'_>) -> Result<()> {
    if cursor.open_closers > 0 {
        cursor.open_closers -= 1;
        return Ok(());
    }
    let closers = match &cursor.peek().token {
        Token::Gt => 1,
        Token::ShiftRight => 2,
        Token::CustomBinaryOperator(op) if op.chars().all(|c| c == '>') => op.len(),
        _ => return Err(cursor.expected("\",\" or \">\"")),
    };
    cursor.advance();
    cursor.open_closers = closers - 1;
    Ok(())
}

/// `(n)`, if it is there.
fn precision(cursor: &mut Cursor<'_>) -> Result<Option<u64>> {
    if !cursor.take(&Token::LParen) {
        return Ok(None);
    }
    let number = cursor.whole_number("a number")?;
    cursor.expect(&Token::RParen, "\")\"")?;
    Ok(Some(number))
}

fn unsupported(cursor: &Cursor<'_>, data_type: &str, reason: String, at: Location) -> Error {
    let error = millstream_catalog::Error::UnsupportedType { data_type: data_type.to_owned(), reason };
    cursor.error_at(error.code(), error.to_string(), at)
}

fn advice(name: &str) -> String {
    let use_instead = match name {
        "serial" | "bigserial" | "smallserial" | "serial4" | "serial8" => {
            "rows are numbered by _partition and _offset already: use bigint for a number of your own"
        }
        "timetz" => "a time of day has no date to tell its zone's offset: use time or timestamptz",
        "tinyint" | "int1" | "byte" => "use smallint",
        "uint64" | "ubigint" | "hugeint" | "int128" => "use decimal(38,0)",
        "int16" => "use smallint",
        "int32" | "uint8" | "uint16" | "mediumint" => "use int",
        "int64" | "uint32" | "long" => "use bigint",
        "float32" => "use real",
        "float64" | "number" => "use double precision, or decimal(18,4) for exact numbers",
        "char" | "character" | "bpchar" | "nchar" | "nvarchar" | "clob" | "citext" | "name" | "enum" | "utf8" => {
            "use text, with a CHECK where its values are limited"
        }
        "blob" | "binary" | "varbinary" | "bytes" | "bit" | "varbit" => "use bytea",
        "datetime" | "timestamp_ntz" | "smalldatetime" => "use timestamp, or timestamptz for an instant",
        "timestamp_ltz" | "instant" => "use timestamptz",
        "money" => "use decimal(18,2)",
        "map" | "hstore" | "object" | "variant" | "any" | "super" => "use json",
        "inet" | "cidr" | "macaddr" | "xml" => "use text",
        "vector" => "use real[]",
        "point" | "geometry" | "geography" => "use ROW(lon double precision, lat double precision)",
        "list" => "use text[], or ARRAY<text>",
        other => {
            return match nearest(other, NAMES.iter().copied()) {
                Some(name) => format!("did you mean {name}?"),
                None => "the types are boolean, smallint, int, bigint, real, double precision, decimal(p,s), text, \
                         bytea, date, time, timestamp, timestamptz, interval, uuid, json, T[] and ROW(…)"
                    .to_owned(),
            };
        }
    };
    use_instead.to_owned()
}
