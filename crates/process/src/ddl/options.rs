//! Owns the options of `WITH (…)` and `SET (…)`, with their units of time and size.

use datafusion::sql::sqlparser::tokenizer::{Location, Token};
use millstream_catalog::fault::Code;
use millstream_catalog::{Durability, StreamOptions};

use super::cursor::{Cursor, folded};
use super::policy::{self, PolicyChange};
use super::suggest::nearest;
use crate::{Error, Result};

/// The options of streams, beside those of their files in the lake.
const NAMES: &[&str] = &["partitions", "hot", "retention_size", "durability", "rest", "expire"];
/// Other names of options, and what they are called.
const OTHER_NAMES: &[(&str, &str)] = &[("retention", "hot"), ("lake_retention", "expire")];

/// One option and the value it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OptionChange {
    /// `partitions`.
    Partitions(u32),
    /// `hot`, ms.
    Retention(Option<u64>),
    /// `retention_size`, bytes.
    RetentionSize(Option<u64>),
    /// `durability`.
    Durability(Durability),
    /// `rest`.
    Rest(bool),
    /// `expire`, ms.
    LakeRetention(Option<u64>),
    /// An option of the files in the lake.
    Policy(PolicyChange),
}

impl OptionChange {
    /// Makes the change.
    pub fn apply(&self, options: &mut StreamOptions) {
        match self {
            OptionChange::Partitions(n) => options.partitions = *n,
            OptionChange::Retention(ms) => options.retention_ms = *ms,
            OptionChange::RetentionSize(bytes) => options.retention_bytes = *bytes,
            OptionChange::Durability(durability) => options.durability = *durability,
            OptionChange::Rest(rest) => options.rest = *rest,
            OptionChange::LakeRetention(ms) => options.lake_retention_ms = *ms,
            OptionChange::Policy(change) => change.apply(&mut options.policy),
        }
    }
}

/// What an option is called.
pub(super) fn called(name: &str) -> &str {
    OTHER_NAMES.iter().find(|(other, _)| *other == name).map_or(name, |(_, called)| called)
}

/// A value as it is written.
pub(super) struct Value {
    pub text: String,
    at: Location,
}

/// `( option = value, … )`, each once; `read` knows what they are.
pub(super) fn options<T>(
    cursor: &mut Cursor<'_>,
    mut read: impl FnMut(&Cursor<'_>, &str, &Value, Location) -> Result<T>,
) -> Result<Vec<T>> {
    let mut names: Vec<String> = Vec::new();
    cursor.list("the options", |c| {
        let at = c.location();
        let name = c.identifier("an option name")?;
        if names.iter().any(|given| called(given) == called(&name)) {
            return Err(c.error_at(Code::InvalidRequest, format!("option {name:?} is given twice"), at));
        }
        c.expect(&Token::Eq, &format!("\"=\" after option {name}"))?;
        let value = value(c)?;
        let change = read(c, &name, &value, at)?;
        names.push(name);
        Ok(change)
    })
}

/// A stream's options as written. What is no option of a stream is handed to `other`, which says whether it took it;
/// `more` are the names it takes.
pub(super) fn with_clause(
    cursor: &mut Cursor<'_>,
    more: &[&'static str],
    mut other: impl FnMut(&str, &str) -> Option<Result<(), String>>,
) -> Result<Vec<OptionChange>> {
    let changes = options(cursor, |c, name, value, at| match other(name, &value.text) {
        Some(taken) => taken.map(|()| None).map_err(|m| c.error_at(Code::InvalidRequest, m, value.at)),
        None => match change(c, name, value)? {
            Some(change) => Ok(Some(change)),
            None => Err(unknown(c, name, &names_with(more), at)),
        },
    })?;
    Ok(changes.into_iter().flatten().collect())
}

/// `RESET (option, …)`: each gets its default.
pub(super) fn reset_clause(cursor: &mut Cursor<'_>) -> Result<Vec<OptionChange>> {
    cursor.list("the options", |c| {
        let at = c.location();
        let name = c.identifier("an option name")?;
        default_of(&name).ok_or_else(|| unknown(c, &name, &names_with(&[]), at))
    })
}

/// The change that gives an option its default.
pub(super) fn default_of(name: &str) -> Option<OptionChange> {
    let defaults = StreamOptions::default();
    Some(match called(name) {
        "partitions" => OptionChange::Partitions(defaults.partitions),
        "hot" => OptionChange::Retention(defaults.retention_ms),
        "retention_size" => OptionChange::RetentionSize(defaults.retention_bytes),
        "durability" => OptionChange::Durability(defaults.durability),
        "rest" => OptionChange::Rest(defaults.rest),
        "expire" => OptionChange::LakeRetention(defaults.lake_retention_ms),
        name => OptionChange::Policy(PolicyChange::default_of(name)?),
    })
}

/// The names of a stream's options, and more.
fn names_with(more: &[&'static str]) -> Vec<&'static str> {
    [NAMES, policy::NAMES, more].concat()
}

fn value(cursor: &mut Cursor<'_>) -> Result<Value> {
    let at = cursor.location();
    let text = match &cursor.peek().token {
        Token::Number(digits, _) => digits.clone(),
        Token::Word(word) => folded(word),
        _ => return Ok(Value { text: cursor.string("a value")?, at }),
    };
    cursor.advance();
    Ok(Value { text, at })
}

/// The change that a name and a value say; `None` when no option has that name.
pub(super) fn change(cursor: &Cursor<'_>, name: &str, value: &Value) -> Result<Option<OptionChange>> {
    let text = value.text.trim();
    let parsed = match called(name) {
        "partitions" => text
            .parse::<u32>()
            .ok()
            .filter(|n| (1..=1024).contains(n))
            .map(OptionChange::Partitions)
            .ok_or("a whole number from 1 to 1024"),
        "hot" => duration(text).map(OptionChange::Retention).ok_or(DURATION),
        "retention_size" => size(text).map(OptionChange::RetentionSize).ok_or(SIZE),
        "expire" => duration(text).map(OptionChange::LakeRetention).ok_or(DURATION),
        "durability" => match text.to_ascii_lowercase().as_str() {
            "fsync" => Ok(OptionChange::Durability(Durability::Fsync)),
            "os" => Ok(OptionChange::Durability(Durability::Os)),
            _ => Err("'fsync' or 'os'"),
        },
        "rest" => boolean(text).map(OptionChange::Rest).ok_or("true or false"),
        other => match PolicyChange::read(other, text) {
            Some(read) => read.map(OptionChange::Policy),
            None => return Ok(None),
        },
    };
    parsed.map(Some).map_err(|what| value.refusal(cursor, name, what))
}

/// What is said of a value that an option does not take.
pub(super) fn refused(name: &str, text: &str, what: &str) -> String {
    format!("option {name} = {text:?} must be {what}")
}

/// What is said of a name that is none of these options.
pub(super) fn unknown(cursor: &Cursor<'_>, name: &str, names: &[&str], at: Location) -> Error {
    let others = OTHER_NAMES.iter().filter(|(_, called)| names.contains(called)).map(|(other, _)| *other);
    let guess = nearest(name, names.iter().copied().chain(others));
    let guess = guess
        .map_or_else(String::new, |n| format!(", did you mean {}?", if names.contains(&n) { n } else { called(n) }));
    let message = format!("unknown option {name:?}{guess}");
    let mut error = cursor.error_at(Code::InvalidRequest, message, at);
    if let Error::Rejected { hint, .. } = &mut error {
        *hint = Some(format!("the options are {}", names.join(", ")));
    }
    error
}

impl Value {
    /// The error about this value.
    pub(super) fn refusal(&self, cursor: &Cursor<'_>, name: &str, what: &str) -> Error {
        cursor.error_at(Code::InvalidRequest, refused(name, &self.text, what), self.at)
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "1" => Some(true),
        "false" | "off" | "no" | "0" => Some(false),
        _ => None,
    }
}

pub(super) const DURATION: &str = "a time such as '7 days', '36 hours' or '1 day 12 hours', or 'none'";
pub(super) const SIZE: &str = "a size such as '10 GB' or '512 MB' (1 kB is 1024 bytes), or 'none'";

const SECOND: u64 = 1_000;
/// Units of time by their names, the first of each being the one that is written.
const TIME_UNITS: &[(&[&str], u64)] = &[
    (&["days", "day", "d"], 86_400 * SECOND),
    (&["hours", "hour", "h", "hr", "hrs"], 3_600 * SECOND),
    (&["minutes", "minute", "m", "min", "mins"], 60 * SECOND),
    (&["seconds", "second", "s", "sec", "secs"], SECOND),
    (&["ms", "millisecond", "milliseconds"], 1),
    (&["weeks", "week", "w"], 7 * 86_400 * SECOND),
    (&["years", "year", "y"], 365 * 86_400 * SECOND),
];
/// Units of size, likewise.
const SIZE_UNITS: &[(&[&str], u64)] = &[
    (&["TB", "TiB", "T"], 1 << 40),
    (&["GB", "GiB", "G"], 1 << 30),
    (&["MB", "MiB", "M"], 1 << 20),
    (&["kB", "KiB", "k"], 1 << 10),
    (&["B", "bytes", "byte"], 1),
];

/// `None` for a text that is no time, `Some(None)` for 'none'.
pub(super) fn duration(text: &str) -> Option<Option<u64>> {
    amount(text, TIME_UNITS)
}

/// Likewise for sizes.
pub(super) fn size(text: &str) -> Option<Option<u64>> {
    match text.parse() {
        Ok(bytes) => Some(Some(bytes)),
        Err(_) => amount(text, SIZE_UNITS),
    }
}

/// Adds up numbers with units, `1 day 12 hours` or `1d12h`. Every number needs its unit.
fn amount(text: &str, units: &[(&[&str], u64)]) -> Option<Option<u64>> {
    if ["none", "forever", "unlimited", "infinite"].iter().any(|n| text.eq_ignore_ascii_case(n)) {
        return Some(None);
    }
    let mut rest = text.trim();
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let (_, factor) =
            units.iter().find(|(names, _)| names.iter().any(|n| n.eq_ignore_ascii_case(&rest[..letters])))?;
        total = total.checked_add(number.checked_mul(*factor)?)?;
        rest = rest[letters..].trim_start();
    }
    // The catalog and SQL carry them as signed numbers.
    (total > 0 && total <= i64::MAX as u64).then_some(Some(total))
}

/// A time in the largest unit that divides it, `7 days`.
pub fn render_duration(ms: u64) -> String {
    let units = &TIME_UNITS[..5];
    let (names, factor) = units.iter().find(|(_, f)| ms.is_multiple_of(*f)).unwrap_or(&units[4]);
    let number = ms / factor;
    let name = if number == 1 && names[0] != "ms" { names[1] } else { names[0] };
    format!("{number} {name}")
}

/// A size in the largest unit that divides it, `10 GB`.
pub fn render_bytes(bytes: u64) -> String {
    let (names, factor) = SIZE_UNITS.iter().find(|(_, f)| bytes.is_multiple_of(*f)).unwrap_or(&SIZE_UNITS[4]);
    format!("{} {}", bytes / factor, names[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_read_in_the_usual_spellings() {
        assert_eq!(duration("7 days"), Some(Some(604_800_000)));
        assert_eq!(duration("1 day 12 hours"), duration("36h"));
        assert_eq!(duration("1d12h"), duration("36 HOURS"));
        assert_eq!(duration("forever"), Some(None));
        assert_eq!(size("10 GB"), Some(Some(10 << 30)));
        assert_eq!(size("512MiB"), Some(Some(512 << 20)));
        assert_eq!(size("4096"), Some(Some(4096)));
        for bad in ["", "7", "days", "7 fortnights", "-1 day", "0 s", "99999999999999999999 d", "7 days x", "1.5 h"] {
            assert_eq!(duration(bad), None, "{bad:?} was taken");
        }
    }

    #[test]
    fn what_is_rendered_is_read_back() {
        for ms in [1, 999, 1_000, 60_000, 86_400_000, 604_800_000, 90_000, 3_600_001] {
            assert_eq!(duration(&render_duration(ms)), Some(Some(ms)), "{}", render_duration(ms));
        }
        for bytes in [1, 1023, 1024, 1 << 30, (1 << 40) + 1, 5 << 20] {
            assert_eq!(size(&render_bytes(bytes)), Some(Some(bytes)), "{}", render_bytes(bytes));
        }
    }
}
