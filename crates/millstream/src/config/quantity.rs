//! Owns how sizes and durations are written: `128MiB`, `60s`, `7d`.

use std::time::Duration;

const SIZES: [(&str, u64); 8] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

const TIMES: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("min", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// A size in bytes: a number and a unit, or a bare number of bytes.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let factor = match unit {
        "" => Some(1),
        _ => SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|&(_, f)| f),
    };
    let factor = factor.ok_or_else(|| format!("{text:?} is not a size; write it like \"128MiB\" or \"1GiB\""))?;
    scaled(number, factor).ok_or_else(|| format!("{text:?} is not a size; write it like \"128MiB\" or \"1GiB\""))
}

/// A duration: a number and one of `ms`, `s`, `min`, `h`, `d`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let unit = if unit == "m" { "min" } else { unit };
    let ms = TIMES.iter().find(|(name, _)| *name == unit).and_then(|&(_, factor)| scaled(number, factor));
    ms.map(Duration::from_millis).ok_or_else(|| {
        format!("{text:?} is not a duration; write it like \"500ms\", \"60s\", \"5min\", \"2h\" or \"7d\"")
    })
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

fn scaled(number: &str, factor: u64) -> Option<u64> {
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor);
    }
    let value = number.parse::<f64>().ok()? * factor as f64;
    (value.is_finite() && value >= 0.0 && value < u64::MAX as f64).then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        assert_eq!(parse_bytes("128MiB"), Ok(128 << 20));
        assert_eq!(parse_bytes("1.5 GiB"), Ok(3 << 29));
        assert_eq!(parse_bytes("2gb"), Ok(2_000_000_000));
        assert_eq!(parse_bytes("4096"), Ok(4096));
        assert!(parse_bytes("12 parsecs").is_err());
        assert!(parse_bytes("").is_err());
        assert!(parse_bytes("99999999999999TiB").is_err());
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(parse_duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(parse_duration("1.5h"), Ok(Duration::from_secs(5400)));
        assert!(parse_duration("60").is_err());
        assert!(parse_duration("-1s").is_err());
    }
}
