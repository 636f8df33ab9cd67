//! Owns casts of columns of text to times and intervals, as PostgreSQL reads them: for SQL, files, COPY and parameters.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, IntervalMonthDayNanoArray, StringArray, TimestampMicrosecondArray, TimestampNanosecondArray,
};
use arrow::compute::kernels::cast_utils::string_to_datetime;
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use arrow::error::ArrowError;
use chrono::Utc;

use crate::datetime;

/// Whether texts of this type are read here, and not by Arrow.
pub fn reads(to: &DataType) -> bool {
    matches!(to, DataType::Timestamp(..) | DataType::Interval(IntervalUnit::MonthDayNano))
}

/// The values that texts say; NULL for a text that says none.
pub fn cast_text(texts: &StringArray, to: &DataType) -> Result<ArrayRef, ArrowError> {
    match to {
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            let zoned = zone.is_some();
            let found: TimestampNanosecondArray =
                texts.iter().map(|text| text.and_then(|text| nanoseconds(text, zoned))).collect();
            Ok(Arc::new(found.with_timezone_opt(zone.clone())))
        }
        DataType::Timestamp(_, zone) => {
            let zoned = zone.is_some();
            let found: TimestampMicrosecondArray =
                texts.iter().map(|text| text.and_then(|text| timestamp(text, zoned))).collect();
            cast(&found.with_timezone_opt(zone.clone()), to)
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let interval = |text: &str| datetime::interval(text.as_bytes()).ok();
            let found: IntervalMonthDayNanoArray = texts.iter().map(|text| text.and_then(interval)).collect();
            Ok(Arc::new(found))
        }
        _ => cast_with_options(texts, to, &CastOptions::default()),
    }
}

/// Microseconds since 1970; a type without a time zone takes no notice of the one that is written.
fn timestamp(text: &str, zoned: bool) -> Option<i64> {
    let found = match zoned {
        true => datetime::timestamp(text.as_bytes()),
        false => datetime::local_timestamp(text.as_bytes()),
    };
    // Names of zones.
    found.ok().or_else(|| {
        let text = text.trim();
        let text = if zoned { text } else { without_zone(text) };
        string_to_datetime(&Utc, text).ok().map(|time| time.timestamp_micros())
    })
}

/// [`timestamp`] in nanoseconds, of which no digit is lost.
fn nanoseconds(text: &str, zoned: bool) -> Option<i64> {
    let micros = timestamp(text, zoned)?;
    let digits = text.split_once('.').map_or(0, |(_, rest)| rest.bytes().take_while(u8::is_ascii_digit).count());
    if digits <= 6 {
        return micros.checked_mul(1000);
    }
    let text = if zoned { text.trim() } else { without_zone(text.trim()) };
    string_to_datetime(&Utc, text).ok()?.timestamp_nanos_opt()
}

/// What stands in front of a time's zone.
fn without_zone(text: &str) -> &str {
    let Some((date, time)) = text.split_once([' ', 'T', 't']) else { return text };
    match time.find(|c: char| c == '+' || c == '-' || c.is_ascii_alphabetic()) {
        Some(zone) => text[..date.len() + 1 + zone].trim_end(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Array;
    use arrow::util::display::array_value_to_string;

    use super::*;

    fn say(text: &str, to: &DataType) -> Option<String> {
        let values = cast_text(&StringArray::from(vec![text]), to).unwrap();
        assert_eq!(values.data_type(), to);
        values.is_valid(0).then(|| array_value_to_string(&values, 0).unwrap())
    }

    #[test]
    fn a_timestamp_takes_no_notice_of_a_zone_and_a_timestamptz_is_shifted_by_it() {
        let local = DataType::Timestamp(TimeUnit::Microsecond, None);
        let zoned = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
        for (text, at, shifted) in [
            ("2020-01-01 10:00:00+05", "2020-01-01T10:00:00", "2020-01-01T05:00:00Z"),
            ("2020-01-01 10:00", "2020-01-01T10:00:00", "2020-01-01T10:00:00Z"),
            ("2020-01-01 10:00+00", "2020-01-01T10:00:00", "2020-01-01T10:00:00Z"),
            (" 2020-01-01T10:00:00.5-0130 ", "2020-01-01T10:00:00.500", "2020-01-01T11:30:00.500Z"),
            ("2020-01-01", "2020-01-01T00:00:00", "2020-01-01T00:00:00Z"),
            ("12020-01-01 10:00:00Z", "+12020-01-01T10:00:00", "+12020-01-01T10:00:00Z"),
        ] {
            assert_eq!(say(text, &local).as_deref(), Some(at), "{text}");
            assert_eq!(say(text, &zoned).as_deref(), Some(shifted), "{text}");
        }
        assert_eq!(say("2020-01-01 10:00:00 Mars", &zoned), None);
        assert_eq!(say("no time", &local), None);
    }

    #[test]
    fn intervals_are_read_as_they_are_written() {
        let interval = DataType::Interval(IntervalUnit::MonthDayNano);
        for (text, shown) in [
            ("01:30:00", "1 hours 30 mins"),
            ("1 day 01:30:00", "1 days 1 hours 30 mins"),
            ("P1DT2H", "1 days 2 hours"),
            ("1 year 2 mons -3 days +04:05:06.5", "14 mons -3 days 4 hours 5 mins 6.500000000 secs"),
            ("-1 years -2 mons +3 days -04:05:06.5", "-14 mons 3 days -4 hours -5 mins -6.500000000 secs"),
            ("3 days 00:00:05.5", "3 days 5.500000000 secs"),
            ("5 minutes", "5 mins"),
        ] {
            assert_eq!(say(text, &interval).as_deref(), Some(shown), "{text}");
        }
        assert_eq!(say("soon", &interval), None);
    }
}
