//! Owns what a text value in a sample looks like.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime};
use millstream_catalog::DataType;
use uuid::Uuid;

/// What all the texts of a column have looked like so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextKind {
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Uuid,
    Plain,
}

impl TextKind {
    /// What one text looks like. Only the ISO 8601 forms are taken for dates and times.
    pub(super) fn of(text: &str) -> Self {
        let bytes = text.as_bytes();
        let dated =
            bytes.len() >= 10 && bytes[..4].iter().all(u8::is_ascii_digit) && bytes[4] == b'-' && bytes[7] == b'-';
        if dated {
            return Self::of_dated(text);
        }
        if bytes.len() == 36 && Uuid::try_parse(text).is_ok() {
            return Self::Uuid;
        }
        let timed = bytes.len() >= 8 && bytes[0].is_ascii_digit() && bytes[2] == b':' && bytes[5] == b':';
        if timed && NaiveTime::parse_from_str(text, "%H:%M:%S%.f").is_ok() { Self::Time } else { Self::Plain }
    }

    fn of_dated(text: &str) -> Self {
        if NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok() {
            return Self::Date;
        }
        let local = |format| NaiveDateTime::parse_from_str(text, format).is_ok();
        let zoned = |format| DateTime::parse_from_str(text, format).is_ok();
        if local("%Y-%m-%dT%H:%M:%S%.f") || local("%Y-%m-%d %H:%M:%S%.f") {
            Self::Timestamp
        } else if DateTime::parse_from_rfc3339(text).is_ok() || zoned("%Y-%m-%d %H:%M:%S%.f%#z") {
            Self::TimestampTz
        } else {
            Self::Plain
        }
    }

    pub(super) fn united(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (Self::Date, Self::Timestamp) | (Self::Timestamp, Self::Date) => Self::Timestamp,
            _ => Self::Plain,
        }
    }

    pub(super) fn data_type(self) -> DataType {
        match self {
            Self::Date => DataType::Date,
            Self::Time => DataType::Time,
            Self::Timestamp => DataType::Timestamp,
            Self::TimestampTz => DataType::TimestampTz,
            Self::Uuid => DataType::Uuid,
            Self::Plain => DataType::Text,
        }
    }
}
