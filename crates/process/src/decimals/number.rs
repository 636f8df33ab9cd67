//! Owns a number as it is written: all of its digits and its scale.

use std::fmt;

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, i256};
use datafusion::common::ScalarValue;

/// A number without a sign that a decimal can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number {
    digits: i256,
    precision: u8,
    scale: i8,
}

impl Number {
    /// Reads `12.50`, `.5`, `5.` or `1.5e2`; none where even the widest decimal is too narrow.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let exponent: i64 = exponent.parse().ok()?;
        let mut scale = i64::try_from(fraction.len()).ok()? - exponent;
        let mut digits = format!("{whole}{fraction}").trim_start_matches('0').to_owned();
        let widest = i64::from(DECIMAL256_MAX_PRECISION);
        if !(-widest..=4 * widest).contains(&scale) {
            return None;
        }
        while scale < 0 {
            digits.push('0');
            scale += 1;
        }
        let needed = |digits: &str, scale: i64| scale.max(digits.len() as i64).max(1);
        while needed(&digits, scale) > i64::from(DECIMAL128_MAX_PRECISION) && scale > 0 && digits.ends_with('0') {
            digits.pop();
            scale -= 1;
        }
        let precision = needed(&digits, scale);
        if precision > widest {
            return None;
        }
        let digits = if digits.is_empty() { i256::ZERO } else { i256::from_string(&digits)? };
        Some(Self { digits, precision: u8::try_from(precision).ok()?, scale: i8::try_from(scale).ok()? })
    }

    /// Digits in all.
    pub(super) fn precision(&self) -> u8 {
        self.precision
    }

    /// Digits behind the point.
    pub(super) fn scale(&self) -> i8 {
        self.scale
    }

    /// Its value alone: the zeros that end its fraction are left out.
    pub(super) fn trimmed(&self) -> (i256, i8) {
        let (mut digits, mut scale) = (self.digits, self.scale);
        let ten = i256::from_i128(10);
        while scale > 0 && digits.wrapping_rem(ten) == i256::ZERO {
            digits = digits.wrapping_div(ten);
            scale -= 1;
        }
        (digits, scale)
    }

    /// It as a literal; `wide` where it will meet decimals that 38 digits do not hold together with it.
    pub(super) fn literal(&self, negative: bool, wide: bool) -> ScalarValue {
        let digits = if negative { self.digits.wrapping_neg() } else { self.digits };
        match digits.to_i128() {
            Some(digits) if !wide && self.precision <= DECIMAL128_MAX_PRECISION => {
                ScalarValue::Decimal128(Some(digits), self.precision, self.scale)
            }
            _ => ScalarValue::Decimal256(Some(digits), self.precision, self.scale),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.digits.to_string();
        let scale = usize::try_from(self.scale).unwrap_or(0);
        if scale == 0 {
            return f.write_str(&digits);
        }
        let digits = format!("{digits:0>width$}", width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        write!(f, "{whole}.{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (String, u8, i8) {
        let number = Number::read(text).unwrap();
        (number.to_string(), number.precision, number.scale)
    }

    #[test]
    fn every_spelling_keeps_its_digits() {
        assert_eq!(read("9999999.99"), ("9999999.99".into(), 9, 2));
        assert_eq!(read(".5"), ("0.5".into(), 1, 1));
        assert_eq!(read("5."), ("5".into(), 1, 0));
        assert_eq!(read("0.00"), ("0.00".into(), 2, 2));
        assert_eq!(read("007.10"), ("7.10".into(), 3, 2));
        assert_eq!(read("1.5e3"), ("1500".into(), 4, 0));
        assert_eq!(read("25e-3"), ("0.025".into(), 3, 3));
    }

    #[test]
    fn a_number_beyond_every_decimal_is_none() {
        assert!(Number::read("1e300").is_none());
        assert!(Number::read("1e-300").is_none());
        assert!(Number::read(&format!("{}.5", "9".repeat(80))).is_none());
        let wide = Number::read(&format!("{}.5", "9".repeat(40))).unwrap();
        assert!(matches!(wide.literal(true, false), ScalarValue::Decimal256(Some(_), 41, 1)));
        assert_eq!(Number::read(&format!("1.{}", "0".repeat(60))).unwrap().precision(), 38);
    }
}
