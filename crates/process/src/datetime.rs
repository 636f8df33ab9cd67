//! Owns how text becomes dates, times, timestamps and intervals.
//!
//! | type | text |
//! | --- | --- |
//! | date | `2026-01-31`; a timestamp at midnight without zone is taken too |
//! | time | `23:59`, `23:59:59`, `23:59:59.123456` |
//! | timestamp, timestamptz | RFC 3339, or a blank for the `T`; seconds, fraction and zone may be left out |
//! | interval | ISO 8601 (`P1DT2H`) or PostgreSQL's words (`1 day 02:00:00`) |
//!
//! Fractions beyond microseconds are rounded. A timestamp without zone is UTC. What a producer sends keeps a zoned value
//! in a `timestamp` column as its UTC date and time; SQL and files leave its zone out of account, as PostgreSQL does.

use arrow::compute::kernels::cast_utils::{IntervalParseConfig, IntervalUnit, parse_interval_month_day_nano_config};
use arrow::datatypes::IntervalMonthDayNano;

const SECOND_US: i64 = 1_000_000;
const DAY_US: i64 = 86_400 * SECOND_US;
const SECOND_NS: i64 = 1_000_000_000;

/// Epoch numbers in this range are milliseconds (1973 to 5138). Smaller ones look like seconds and larger ones like
/// micro- or nanoseconds; to guess would store wrong times, so they are refused.
const EPOCH_MS: std::ops::Range<i64> = 100_000_000_000..100_000_000_000_000;

/// The last year that is read: the calendar by which times are written ends with the next.
const LAST_YEAR: u32 = 262_141;

/// Why a text is not a date or time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeFault {
    /// It does not have the form.
    Form,
    /// It has the form, and a part such as the month is outside its range.
    Range,
}

/// Microseconds since 1970, UTC.
#[inline]
pub fn timestamp(text: &[u8]) -> Result<i64, TimeFault> {
    let (local_us, offset_us) = clock_and_zone(text)?;
    Ok(local_us - offset_us)
}

/// Microseconds between 1970 and the date and time that stand in front of the zone.
#[inline]
pub fn local_timestamp(text: &[u8]) -> Result<i64, TimeFault> {
    clock_and_zone(text).map(|(local_us, _)| local_us)
}

/// Date and time as they are written, and how far east of UTC, both in microseconds.
#[inline]
fn clock_and_zone(text: &[u8]) -> Result<(i64, i64), TimeFault> {
    let text = text.trim_ascii();
    let (days, rest) = date_prefix(text)?;
    let midnight = i64::from(days) * DAY_US;
    let time = match rest {
        [] => return Ok((midnight, 0)),
        [b'T' | b't' | b' ', time @ ..] => time,
        _ => return Err(TimeFault::Form),
    };
    let (time_us, zone) = time_prefix(time)?;
    Ok((midnight + time_us, zone_offset(zone)?))
}

/// An epoch number as microseconds; `None` when its unit is in doubt.
pub fn timestamp_from_epoch_ms(ms: i64) -> Option<i64> {
    EPOCH_MS.contains(&ms.saturating_abs()).then(|| ms * 1_000)
}

/// Days since 1970.
pub fn date(text: &[u8]) -> Result<i32, TimeFault> {
    let text = text.trim_ascii();
    let (days, rest) = date_prefix(text)?;
    match rest {
        [] => Ok(days),
        [b'T' | b't' | b' ', time @ ..] => match time_prefix(time)? {
            (0, []) => Ok(days),
            _ => Err(TimeFault::Form),
        },
        _ => Err(TimeFault::Form),
    }
}

/// Microseconds since midnight.
pub fn time(text: &[u8]) -> Result<i64, TimeFault> {
    let (time_us, rest) = time_prefix(text.trim_ascii())?;
    match rest {
        [] if time_us < DAY_US => Ok(time_us),
        [] => Err(TimeFault::Range),
        _ => Err(TimeFault::Form),
    }
}

/// Months, days and nanoseconds.
pub fn interval(text: &[u8]) -> Result<IntervalMonthDayNano, TimeFault> {
    let text = text.trim_ascii();
    if let [b'P' | b'p', period @ ..] = text {
        return iso_interval(period);
    }
    let text = std::str::from_utf8(text).map_err(|_| TimeFault::Form)?;
    if !text.bytes().any(|b| b.is_ascii_digit()) {
        return Err(TimeFault::Form);
    }
    let (words, clock) = match text.rsplit_once(' ') {
        Some((words, last)) if last.contains(':') => (words, Some(last)),
        None if text.contains(':') => ("", Some(text)),
        _ => (text, None),
    };
    let clock_ns = clock.map_or(Ok(0), clock_nanos)?;
    if words.is_empty() {
        return Ok(IntervalMonthDayNano::new(0, 0, clock_ns));
    }
    // A sign that changes nothing, which PostgreSQL writes behind a part below zero.
    let words: Vec<&str> = words.split_whitespace().map(|word| word.strip_prefix('+').unwrap_or(word)).collect();
    let config = IntervalParseConfig::new(IntervalUnit::Second);
    let parsed = parse_interval_month_day_nano_config(&words.join(" "), config).map_err(|_| TimeFault::Form)?;
    let nanos = parsed.nanoseconds.checked_add(clock_ns).ok_or(TimeFault::Range)?;
    Ok(IntervalMonthDayNano::new(parsed.months, parsed.days, nanos))
}

/// The `HH:MM[:SS[.f…]]` of an interval, signed, hours without limit.
fn clock_nanos(text: &str) -> Result<i64, TimeFault> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (hours, rest) = unsigned.split_once(':').ok_or(TimeFault::Form)?;
    if hours.is_empty() || !hours.bytes().all(|b| b.is_ascii_digit()) {
        return Err(TimeFault::Form);
    }
    let hours: i64 = hours.parse().map_err(|_| TimeFault::Range)?;
    let (within_hour_us, rest) = time_prefix_of_hour(rest.as_bytes())?;
    let nanos = hours.checked_mul(3600 * SECOND_NS).and_then(|n| n.checked_add(within_hour_us * 1000));
    let nanos = nanos.filter(|_| rest.is_empty()).ok_or(TimeFault::Range)?;
    Ok(if text.starts_with('-') { -nanos } else { nanos })
}

/// `YYYY-MM-DD` as days since 1970, and what follows it.
#[inline]
fn date_prefix(text: &[u8]) -> Result<(i32, &[u8]), TimeFault> {
    let [y1, y2, y3, y4, b'-', rest @ ..] = text else {
        return long_year_prefix(text);
    };
    month_prefix(two(*y1, *y2)? * 100 + two(*y3, *y4)?, rest)
}

/// The same with a year of five or six digits, which may have a sign.
#[cold]
fn long_year_prefix(text: &[u8]) -> Result<(i32, &[u8]), TimeFault> {
    let text = text.strip_prefix(b"+").unwrap_or(text);
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (5..=6, [b'-', rest @ ..]) = (digits, &text[digits..]) else { return Err(TimeFault::Form) };
    let year = text[..digits].iter().fold(0, |year, digit| year * 10 + u32::from(digit - b'0'));
    if year > LAST_YEAR { Err(TimeFault::Range) } else { month_prefix(year, rest) }
}

/// `MM-DD` of that year.
#[inline]
fn month_prefix(year: u32, text: &[u8]) -> Result<(i32, &[u8]), TimeFault> {
    let [m1, m2, b'-', d1, d2, rest @ ..] = text else {
        return Err(TimeFault::Form);
    };
    let (month, day) = (two(*m1, *m2)?, two(*d1, *d2)?);
    if year == 0 || !(1..=12).contains(&month) || day == 0 || day > days_in_month(year, month) {
        return Err(TimeFault::Range);
    }
    Ok((days_since_1970(year, month, day), rest))
}

/// `HH:MM[:SS[.f…]]` as microseconds, and what follows it.
#[inline]
fn time_prefix(text: &[u8]) -> Result<(i64, &[u8]), TimeFault> {
    let [h1, h2, b':', rest @ ..] = text else {
        return Err(TimeFault::Form);
    };
    let hour = two(*h1, *h2)?;
    let (within_hour_us, rest) = time_prefix_of_hour(rest)?;
    if hour > 23 {
        return Err(TimeFault::Range);
    }
    Ok((i64::from(hour) * 3600 * SECOND_US + within_hour_us, rest))
}

/// `MM[:SS[.f…]]` as microseconds, and what follows it.
#[inline]
fn time_prefix_of_hour(text: &[u8]) -> Result<(i64, &[u8]), TimeFault> {
    let [m1, m2, rest @ ..] = text else {
        return Err(TimeFault::Form);
    };
    let minute = two(*m1, *m2)?;
    let (second, rest) = match rest {
        [b':', s1, s2, rest @ ..] => (two(*s1, *s2)?, rest),
        _ => (0, rest),
    };
    // A leap second is the first instant of the next minute, as in PostgreSQL.
    if minute > 59 || second > 60 {
        return Err(TimeFault::Range);
    }
    let seconds = i64::from(minute * 60 + second);
    let (fraction_us, rest) = match rest {
        [b'.', digits @ ..] => fraction(digits)?,
        _ => (0, rest),
    };
    Ok((seconds * SECOND_US + fraction_us, rest))
}

/// The digits after a point as microseconds, rounded, and what follows them.
fn fraction(text: &[u8]) -> Result<(i64, &[u8]), TimeFault> {
    let count = text.iter().take_while(|b| b.is_ascii_digit()).count();
    if count == 0 {
        return Err(TimeFault::Form);
    }
    let digit = |i: usize| if i < count { i64::from(text[i] - b'0') } else { 0 };
    let micros = (0..6).fold(0, |value, i| value * 10 + digit(i));
    Ok((micros + i64::from(digit(6) >= 5), &text[count..]))
}

/// `Z`, `±HH`, `±HHMM` or `±HH:MM`, a blank before it allowed, as microseconds east of UTC.
#[inline]
fn zone_offset(text: &[u8]) -> Result<i64, TimeFault> {
    let zone = text.strip_prefix(b" ").unwrap_or(text);
    let (sign, hour, minute) = match zone {
        [] if text.is_empty() => return Ok(0),
        [b'Z' | b'z'] => return Ok(0),
        [sign @ (b'+' | b'-'), h1, h2] => (sign, two(*h1, *h2)?, 0),
        [sign @ (b'+' | b'-'), h1, h2, m1, m2] => (sign, two(*h1, *h2)?, two(*m1, *m2)?),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => (sign, two(*h1, *h2)?, two(*m1, *m2)?),
        _ => return Err(TimeFault::Form),
    };
    if hour > 15 || minute > 59 {
        return Err(TimeFault::Range);
    }
    let offset = i64::from(hour * 60 + minute) * 60 * SECOND_US;
    Ok(if *sign == b'-' { -offset } else { offset })
}

#[inline]
fn two(tens: u8, ones: u8) -> Result<u32, TimeFault> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    if tens > 9 || ones > 9 { Err(TimeFault::Form) } else { Ok(u32::from(tens) * 10 + u32::from(ones)) }
}

#[inline]
fn days_in_month(year: u32, month: u32) -> u32 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar. Years are counted from March, so that a leap day ends
/// its year and the months' lengths follow one line: 153 days in five months.
#[inline]
fn days_since_1970(year: u32, month: u32, day: u32) -> i32 {
    const MARCH_1_OF_YEAR_0: i32 = -719_468;
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + day_of_year;
    MARCH_1_OF_YEAR_0 + days as i32
}

/// The part of an ISO 8601 duration behind the `P`; each number may have a sign, seconds may have a fraction.
fn iso_interval(text: &[u8]) -> Result<IntervalMonthDayNano, TimeFault> {
    let (mut months, mut days, mut nanos) = (0i64, 0i64, 0i64);
    let (mut in_time, mut parts, mut rest) = (false, 0, text);
    while let [first, tail @ ..] = rest {
        if matches!(first, b'T' | b't') && !in_time {
            (in_time, rest) = (true, tail);
            continue;
        }
        let (number, fraction_ns, unit, tail) = iso_part(rest)?;
        let (total, scale) = match (unit.to_ascii_uppercase(), in_time) {
            (b'Y', false) => (&mut months, 12),
            (b'M', false) => (&mut months, 1),
            (b'W', false) => (&mut days, 7),
            (b'D', false) => (&mut days, 1),
            (b'H', true) => (&mut nanos, 3600 * SECOND_NS),
            (b'M', true) => (&mut nanos, 60 * SECOND_NS),
            (b'S', true) => (&mut nanos, SECOND_NS),
            _ => return Err(TimeFault::Form),
        };
        if fraction_ns != 0 && scale != SECOND_NS {
            return Err(TimeFault::Form);
        }
        let added = number.checked_mul(scale).and_then(|n| n.checked_add(fraction_ns));
        *total = added.and_then(|n| total.checked_add(n)).ok_or(TimeFault::Range)?;
        (parts, rest) = (parts + 1, tail);
    }
    if parts == 0 {
        return Err(TimeFault::Form);
    }
    let months = i32::try_from(months).map_err(|_| TimeFault::Range)?;
    let days = i32::try_from(days).map_err(|_| TimeFault::Range)?;
    Ok(IntervalMonthDayNano::new(months, days, nanos))
}

/// One number and its unit: the whole part, the fraction in nanoseconds, the unit, what follows.
fn iso_part(text: &[u8]) -> Result<(i64, i64, u8, &[u8]), TimeFault> {
    let negative = text.first() == Some(&b'-');
    let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    let count = digits.iter().take_while(|b| b.is_ascii_digit()).count();
    let whole = std::str::from_utf8(&digits[..count]).ok().filter(|d| !d.is_empty()).ok_or(TimeFault::Form)?;
    let mut whole: i64 = whole.parse().map_err(|_| TimeFault::Range)?;
    let mut rest = &digits[count..];
    let mut fraction_ns = 0;
    if let [b'.' | b',', tail @ ..] = rest {
        let places = tail.iter().take_while(|b| b.is_ascii_digit()).count();
        let digit = |i: usize| if i < places { i64::from(tail[i] - b'0') } else { 0 };
        fraction_ns = (0..9).fold(0, |value, i| value * 10 + digit(i));
        rest = &tail[places..];
    }
    if negative {
        (whole, fraction_ns) = (-whole, -fraction_ns);
    }
    let [unit, tail @ ..] = rest else { return Err(TimeFault::Form) };
    Ok((whole, fraction_ns, *unit, tail))
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, NaiveDate};

    use super::*;

    fn us(rfc3339: &str) -> i64 {
        DateTime::parse_from_rfc3339(rfc3339).expect("valid").timestamp_micros()
    }

    #[test]
    fn every_day_of_ten_thousand_years_counts_as_chrono_counts_it() {
        let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).expect("valid");
        let mut day = NaiveDate::from_ymd_opt(1, 1, 1).expect("valid");
        let last = NaiveDate::from_ymd_opt(9999, 12, 31).expect("valid");
        while day <= last {
            let expected = (day - epoch).num_days();
            assert_eq!(date(day.format("%Y-%m-%d").to_string().as_bytes()), Ok(expected as i32), "{day}");
            day += chrono::TimeDelta::days(13);
        }
        assert_eq!(date(b"9999-12-31"), Ok((last - epoch).num_days() as i32));
    }

    #[test]
    fn timestamps_are_read_in_all_their_forms() {
        let instant = us("2026-01-31T22:59:58.123456Z");
        for text in [
            "2026-01-31T22:59:58.123456Z",
            "2026-01-31t22:59:58.123456z",
            "2026-01-31 22:59:58.123456",
            "2026-01-31 22:59:58.123456+00",
            "2026-02-01T00:59:58.123456+02:00",
            "2026-01-31 17:29:58.123456 -0530",
            " 2026-01-31T22:59:58.1234564Z ",
        ] {
            assert_eq!(timestamp(text.as_bytes()), Ok(instant), "{text}");
        }
        assert_eq!(timestamp(b"2026-01-31"), Ok(us("2026-01-31T00:00:00Z")));
        assert_eq!(timestamp(b"2026-01-31 10:20"), Ok(us("2026-01-31T10:20:00Z")));
        assert_eq!(timestamp(b"2026-01-31T23:59:59.9999996Z"), Ok(us("2026-02-01T00:00:00Z")));
        assert_eq!(timestamp(b"2016-12-31T23:59:60Z"), Ok(us("2017-01-01T00:00:00Z")));
        assert_eq!(timestamp(b"0001-01-01T00:00:00Z"), Ok(us("0001-01-01T00:00:00Z")));
        for (year, month) in [(10_000, 1), (12_020, 2), (262_141, 12)] {
            let midnight = NaiveDate::from_ymd_opt(year, month, 1).and_then(|day| day.and_hms_opt(0, 0, 0));
            let expected = midnight.map(|at| at.and_utc().timestamp_micros());
            for sign in ["", "+"] {
                assert_eq!(timestamp(format!("{sign}{year}-{month:02}-01").as_bytes()).ok(), expected, "{year}");
            }
        }
    }

    #[test]
    fn impossible_dates_are_out_of_range_and_other_texts_are_not_timestamps() {
        for text in [
            "2026-02-29",
            "2025-13-01",
            "2026-00-10",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "0000-01-01",
            "262142-01-01",
            "12025-02-29",
            "2026-01-01T00:00:00+25:00",
        ] {
            assert_eq!(timestamp(text.as_bytes()), Err(TimeFault::Range), "{text}");
        }
        for text in [
            "",
            "now",
            "2026-1-1",
            "2026/01/01",
            "2026-01-01X00:00:00",
            "2026-01-01T00:00:00 ",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00 Europe/Paris",
            "2026-01-01T0:00:00Z",
            "20260101",
            "1234567-01-01",
            "+-01-01",
            "012026",
        ] {
            let result = timestamp(text.as_bytes());
            assert!(matches!(result, Err(TimeFault::Form)) || text.ends_with(' '), "{text}: {result:?}");
        }
        assert_eq!(timestamp(b"2024-02-29"), Ok(us("2024-02-29T00:00:00Z")));
    }

    #[test]
    fn an_epoch_number_is_milliseconds_unless_its_unit_is_in_doubt() {
        assert_eq!(timestamp_from_epoch_ms(1_767_225_600_123), Some(1_767_225_600_123_000));
        assert_eq!(timestamp_from_epoch_ms(1_767_225_600), None);
        assert_eq!(timestamp_from_epoch_ms(1_767_225_600_123_456), None);
        assert_eq!(timestamp_from_epoch_ms(i64::MIN), None);
    }

    #[test]
    fn a_date_takes_a_timestamp_only_at_midnight() {
        assert_eq!(date(b"1970-01-02T00:00:00"), Ok(1));
        assert_eq!(date(b"1970-01-02 00:00"), Ok(1));
        assert_eq!(date(b"1970-01-02T00:00:01"), Err(TimeFault::Form));
        assert_eq!(date(b"1970-01-02T00:00:00Z"), Err(TimeFault::Form));
    }

    #[test]
    fn times_are_within_a_day() {
        assert_eq!(time(b"23:59:59.999999"), Ok(DAY_US - 1));
        assert_eq!(time(b"08:30"), Ok((8 * 60 + 30) * 60 * SECOND_US));
        assert_eq!(time(b"23:59:60"), Err(TimeFault::Range));
        assert_eq!(time(b"24:00:00"), Err(TimeFault::Range));
        assert_eq!(time(b"10:00:00Z"), Err(TimeFault::Form));
    }

    #[test]
    fn intervals_are_read_in_iso_and_postgres_style() {
        let expected = IntervalMonthDayNano::new(14, 10, 3 * 3600 * SECOND_NS + 500_000_000);
        assert_eq!(interval(b"P1Y2M1W3DT3H0.5S"), Ok(expected));
        assert_eq!(interval(b"1 year 2 months 10 days 3 hours 0.5 seconds"), Ok(expected));
        assert_eq!(interval(b"-P1D"), Err(TimeFault::Form));
        assert_eq!(interval(b"P-1D"), Ok(IntervalMonthDayNano::new(0, -1, 0)));
        assert_eq!(interval(b"PT1.25S"), Ok(IntervalMonthDayNano::new(0, 0, 1_250_000_000)));
        assert_eq!(interval(b"02:30:00"), Ok(IntervalMonthDayNano::new(0, 0, 9000 * SECOND_NS)));
        assert_eq!(interval(b"-100:00"), Ok(IntervalMonthDayNano::new(0, 0, -360_000 * SECOND_NS)));
        assert_eq!(interval(b"1 day 02:00:00.5"), Ok(IntervalMonthDayNano::new(0, 1, 7200 * SECOND_NS + 500_000_000)));
        assert_eq!(interval(b"5"), Ok(IntervalMonthDayNano::new(0, 0, 5 * SECOND_NS)));
        for text in ["", "P", "PT", "P1", "P1H", "PT1D", "soon", "P0.5D"] {
            assert_eq!(interval(text.as_bytes()), Err(TimeFault::Form), "{text}");
        }
        assert_eq!(interval(b"P999999999999Y"), Err(TimeFault::Range));
    }
}
