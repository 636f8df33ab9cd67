//! Owns how dates, times and intervals are written, over the whole range of their Arrow types.

use arrow::datatypes::IntervalMonthDayNano;

use crate::column::put_display;

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// `2013-01-31`; years before 1 as PostgreSQL writes them, `0044-03-15 BC`.
pub(crate) fn put_date(days: i64, out: &mut Vec<u8>) {
    if put_year_month_day(days, out) {
        out.extend_from_slice(b" BC");
    }
}

/// `05:15:00.25`, from microseconds since midnight.
pub(crate) fn put_time(micros: i64, out: &mut Vec<u8>) {
    let (seconds, fraction) = (micros.div_euclid(MICROS_PER_SECOND), micros.rem_euclid(MICROS_PER_SECOND));
    put_two_digits(seconds / 3600, out);
    out.push(b':');
    put_two_digits(seconds / 60 % 60, out);
    out.push(b':');
    put_two_digits(seconds % 60, out);
    put_fraction(fraction, 6, out);
}

/// `2013-01-31T05:15:00.25Z`, from microseconds since 1970, with what stands between date and time and after it.
pub(crate) fn put_timestamp(micros: i64, separator: u8, zone: &str, out: &mut Vec<u8>) {
    let before_christ = put_year_month_day(micros.div_euclid(MICROS_PER_DAY), out);
    out.push(separator);
    put_time(micros.rem_euclid(MICROS_PER_DAY), out);
    out.extend_from_slice(zone.as_bytes());
    if before_christ {
        out.extend_from_slice(b" BC");
    }
}

/// An ISO 8601 duration, `P1Y2M3DT4H5M6.5S`.
pub(crate) fn put_iso_interval(interval: IntervalMonthDayNano, out: &mut Vec<u8>) {
    let micros = interval.nanoseconds / 1000;
    let start = out.len();
    out.push(b'P');
    for (value, unit) in [(interval.months / 12, b'Y'), (interval.months % 12, b'M'), (interval.days, b'D')] {
        if value != 0 {
            put_display(value, out);
            out.push(unit);
        }
    }
    if micros != 0 {
        out.push(b'T');
        let seconds = micros / MICROS_PER_SECOND;
        for (value, unit) in [(seconds / 3600, b'H'), (seconds / 60 % 60, b'M')] {
            if value != 0 {
                put_display(value, out);
                out.push(unit);
            }
        }
        let rest = micros % (60 * MICROS_PER_SECOND);
        if rest != 0 {
            out.extend_from_slice(if rest < 0 { b"-" } else { b"" });
            put_display((rest / MICROS_PER_SECOND).abs(), out);
            put_fraction((rest % MICROS_PER_SECOND).abs(), 6, out);
            out.push(b'S');
        }
    }
    if out.len() == start + 1 {
        out.extend_from_slice(b"T0S");
    }
}

/// An interval as PostgreSQL writes it by default, `1 year 2 mons -3 days +04:05:06.5`.
pub(crate) fn put_postgres_interval(interval: IntervalMonthDayNano, out: &mut Vec<u8>) {
    let start = out.len();
    let mut negative_before = false;
    for (value, unit) in [(interval.months / 12, " year"), (interval.months % 12, " mon"), (interval.days, " day")] {
        if value == 0 {
            continue;
        }
        if out.len() > start {
            out.push(b' ');
        }
        if negative_before && value > 0 {
            out.push(b'+');
        }
        put_display(value, out);
        out.extend_from_slice(unit.as_bytes());
        if value != 1 {
            out.push(b's');
        }
        negative_before = value < 0;
    }
    let micros = interval.nanoseconds / 1000;
    if micros != 0 || out.len() == start {
        if out.len() > start {
            out.push(b' ');
        }
        if micros < 0 {
            out.push(b'-');
        } else if negative_before {
            out.push(b'+');
        }
        put_time(micros.abs(), out);
    }
}

/// Year, month and day; true when the year is before 1.
fn put_year_month_day(days: i64, out: &mut Vec<u8>) -> bool {
    let (year, month, day) = civil_from_days(days);
    let before_christ = year <= 0;
    let shown = if before_christ { 1 - year } else { year };
    if shown < 1000 {
        out.push(b'0');
    }
    if shown < 100 {
        out.push(b'0');
    }
    if shown < 10 {
        out.push(b'0');
    }
    put_display(shown, out);
    out.push(b'-');
    put_two_digits(month, out);
    out.push(b'-');
    put_two_digits(day, out);
    before_christ
}

/// The proleptic Gregorian date of a day counted from 1970-01-01: eras of 400 years that begin in March, so that the
/// leap day is the last of its year.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    const DAYS_PER_ERA: i64 = 146_097;
    const DAYS_FROM_YEAR_0_MARCH: i64 = 719_468;
    let days = days + DAYS_FROM_YEAR_0_MARCH;
    let era = days.div_euclid(DAYS_PER_ERA);
    let day_of_era = days.rem_euclid(DAYS_PER_ERA);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

fn put_two_digits(value: i64, out: &mut Vec<u8>) {
    if (0..100).contains(&value) {
        let digit = |value: i64| b'0' + u8::try_from(value).unwrap_or(0);
        out.extend_from_slice(&[digit(value / 10), digit(value % 10)]);
    } else {
        put_display(value, out);
    }
}

/// `.25` for 250,000 of six digits; nothing for 0.
fn put_fraction(value: i64, digits: usize, out: &mut Vec<u8>) {
    if value == 0 {
        return;
    }
    let text = format!("{value:0digits$}");
    out.push(b'.');
    out.extend_from_slice(text.trim_end_matches('0').as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(put: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        put(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn dates_are_right_across_leap_years_and_eras() {
        let date = |days| text(|out| put_date(days, out));
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(-1), "1969-12-31");
        assert_eq!(date(11_016), "2000-02-29");
        assert_eq!(date(15_706), "2013-01-01");
        assert_eq!(date(-719_162), "0001-01-01");
        assert_eq!(date(-719_163), "0001-12-31 BC");
    }

    #[test]
    fn every_day_of_eight_centuries_follows_the_one_before() {
        let mut before = civil_from_days(-200_000);
        for days in -199_999..100_000 {
            let now = civil_from_days(days);
            let next_day = now.2 == before.2 + 1 && now.1 == before.1 && now.0 == before.0;
            let next_month = now.2 == 1 && now.1 == before.1 + 1 && now.0 == before.0 && before.2 >= 28;
            let next_year = now.2 == 1 && now.1 == 1 && before.1 == 12 && before.2 == 31 && now.0 == before.0 + 1;
            assert!(next_day || next_month || next_year, "{before:?} then {now:?}");
            before = now;
        }
    }

    #[test]
    fn timestamps_show_only_the_fraction_they_have() {
        let timestamp = |micros| text(|out| put_timestamp(micros, b'T', "Z", out));
        assert_eq!(timestamp(1_357_016_400_000_000), "2013-01-01T05:00:00Z");
        assert_eq!(timestamp(-1), "1969-12-31T23:59:59.999999Z");
        assert_eq!(timestamp(250_000), "1970-01-01T00:00:00.25Z");
    }

    #[test]
    fn intervals_are_written_in_both_styles() {
        let interval = IntervalMonthDayNano::new(14, -3, 14_706_500_000_000);
        assert_eq!(text(|out| put_iso_interval(interval, out)), "P1Y2M-3DT4H5M6.5S");
        assert_eq!(text(|out| put_postgres_interval(interval, out)), "1 year 2 mons -3 days +04:05:06.5");
        let none = IntervalMonthDayNano::new(0, 0, 0);
        assert_eq!(text(|out| put_iso_interval(none, out)), "PT0S");
        assert_eq!(text(|out| put_postgres_interval(none, out)), "00:00:00");
        let back = IntervalMonthDayNano::new(0, -1, -500_000_000);
        assert_eq!(text(|out| put_iso_interval(back, out)), "P-1DT-0.5S");
        assert_eq!(text(|out| put_postgres_interval(back, out)), "-1 days -00:00:00.5");
    }
}
