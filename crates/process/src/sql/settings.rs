//! Owns a session's settings: those that PostgreSQL clients set and show, and the one that limits statements.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_catalog::fault::Code;

use crate::{Error, Result};

/// The release of PostgreSQL whose behaviour clients may expect.
const SERVER_VERSION: &str = "16.6";

/// Settings by lower-case name.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    values: BTreeMap<String, String>,
    default_timeout: Duration,
}

impl Settings {
    pub(crate) fn new(default_timeout: Duration) -> Self {
        let mut settings = Self { values: BTreeMap::new(), default_timeout };
        settings.reset_all();
        settings
    }

    fn defaults(&self) -> [(&'static str, String); 15] {
        [
            ("application_name", String::new()),
            ("client_encoding", "UTF8".into()),
            ("client_min_messages", "notice".into()),
            ("datestyle", "ISO, MDY".into()),
            ("default_transaction_isolation", "read committed".into()),
            ("extra_float_digits", "1".into()),
            ("integer_datetimes", "on".into()),
            ("intervalstyle", "postgres".into()),
            ("search_path", "public".into()),
            ("server_encoding", "UTF8".into()),
            ("server_version", SERVER_VERSION.into()),
            ("standard_conforming_strings", "on".into()),
            ("statement_timeout", format!("{}ms", self.default_timeout.as_millis())),
            ("timezone", "UTC".into()),
            ("transaction_isolation", "read committed".into()),
        ]
    }

    pub(crate) fn reset_all(&mut self) {
        self.values = self.defaults().into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    }

    pub(crate) fn reset(&mut self, name: &str) {
        let name = canonical(name);
        match self.defaults().into_iter().find(|(k, _)| *k == name) {
            Some((_, value)) => self.values.insert(name, value),
            None => self.values.remove(&name),
        };
    }

    /// A setting's value, as SHOW prints it.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(&canonical(name)).map(String::as_str)
    }

    /// Every setting, by name.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// Sets a value; those that would change results which Millstream cannot change are refused.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let name = canonical(name);
        let refuse =
            |why: &str| Err(Error::rejected(Code::InvalidRequest, format!("cannot set {name} to {value:?}: {why}")));
        match name.as_str() {
            "statement_timeout" if parse_timeout(value).is_none() => {
                return refuse("write milliseconds or a value such as '30s' or '5min'; 0 is no limit");
            }
            "client_encoding" if !is_utf8(value) => return refuse("text is always UTF8"),
            "timezone" if !is_utc(value) => return refuse("times are always shown in UTC"),
            "server_version" | "server_encoding" | "integer_datetimes" => return refuse("it cannot be changed"),
            _ => {}
        }
        self.values.insert(name, value.to_owned());
        Ok(())
    }

    /// How long a statement may run; `None` is without limit.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.get("statement_timeout").and_then(parse_timeout).filter(|t| !t.is_zero())
    }
}

fn canonical(name: &str) -> String {
    match name.to_ascii_lowercase().as_str() {
        "time zone" | "time.zone" => "timezone".into(),
        "names" => "client_encoding".into(),
        other => other.to_owned(),
    }
}

fn is_utf8(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "utf8" | "utf-8" | "unicode" | "default")
}

fn is_utc(value: &str) -> bool {
    let known = ["utc", "etc/utc", "gmt", "zulu", "universal", "default", "0", "+00", "+00:00"];
    known.contains(&value.to_ascii_lowercase().as_str())
}

/// PostgreSQL's form: a number of milliseconds, or a number with a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let per_unit = match text[digits..].trim() {
        "" | "ms" => 1,
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(per_unit).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_takes_postgres_units() {
        assert_eq!(parse_timeout("250"), Some(Duration::from_millis(250)));
        assert_eq!(parse_timeout("5min"), Some(Duration::from_secs(300)));
        assert_eq!(parse_timeout("5 parsecs"), None);
    }

    #[test]
    fn zero_is_no_limit() {
        let mut settings = Settings::new(Duration::from_secs(1));
        assert_eq!(settings.timeout(), Some(Duration::from_secs(1)));
        settings.set("statement_timeout", "0").unwrap();
        assert_eq!(settings.timeout(), None);
    }

    #[test]
    fn a_setting_that_would_lie_is_refused() {
        let mut settings = Settings::new(Duration::from_secs(1));
        assert!(settings.set("TimeZone", "Europe/Berlin").is_err());
        assert!(settings.set("client_encoding", "LATIN1").is_err());
        settings.set("TimeZone", "UTC").unwrap();
    }
}
