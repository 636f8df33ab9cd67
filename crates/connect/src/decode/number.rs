//! Owns how digits become numbers, exactly: integers, decimals and floats from one scan of the text.

/// A scanned number. `mantissa × 10^exponent`, when `fits`; otherwise only the text tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number<'a> {
    pub text: &'a [u8],
    negative: bool,
    mantissa: u64,
    exponent: i32,
    fits: bool,
}

/// Why a number is not of the type it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NumberFault {
    /// It has a fraction and the type has none.
    Fraction,
    /// It is outside the type's range.
    Range,
}

/// Digits that a `u64` always holds.
const SAFE_DIGITS: usize = 19;

/// Powers of ten that an `f64` holds exactly.
const F64_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];
/// Powers of ten that an `f32` holds exactly.
const F32_POWERS: [f32; 11] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10];

impl<'a> Number<'a> {
    /// Scans a number by JSON's grammar at `start`. `None` when what stands there is not one.
    #[inline]
    pub fn scan(source: &'a [u8], start: usize) -> Option<Number<'a>> {
        let mut pos = start;
        let negative = source.get(pos) == Some(&b'-');
        pos += usize::from(negative);
        let (mut mantissa, mut digits) = (0u64, 0usize);
        let first = pos;
        while let Some(digit) = digit_at(source, pos) {
            mantissa = mantissa.wrapping_mul(10).wrapping_add(digit);
            pos += 1;
        }
        digits += pos - first;
        if digits == 0 || (digits > 1 && source[first] == b'0') {
            return None;
        }
        let mut exponent = 0i32;
        match source.get(pos) {
            Some(b'.') => {
                pos += 1;
                let point = pos;
                while let Some(digit) = digit_at(source, pos) {
                    mantissa = mantissa.wrapping_mul(10).wrapping_add(digit);
                    pos += 1;
                }
                if pos == point {
                    return None;
                }
                digits += pos - point;
                exponent = -i32::try_from(pos - point).unwrap_or(i32::MAX);
                if matches!(source.get(pos), Some(b'e' | b'E')) {
                    exponent = exponent.saturating_add(scan_exponent(source, &mut pos)?);
                }
            }
            Some(b'e' | b'E') => exponent = scan_exponent(source, &mut pos)?,
            _ => {}
        }
        let text = &source[start..pos];
        Some(Number { text, negative, mantissa, exponent, fits: digits <= SAFE_DIGITS })
    }

    /// Reads a number that stands alone, as CSV and JSON strings carry it: blanks around it, a plus sign, leading
    /// zeros and a bare point are taken too. `None` when it is not one.
    pub fn from_text(text: &'a [u8]) -> Option<Number<'a>> {
        let trimmed = text.trim_ascii();
        if let Some(number) = Number::scan(trimmed, 0)
            && number.text.len() == trimmed.len()
        {
            return Some(number);
        }
        let unsigned = trimmed.strip_prefix(b"+").or(trimmed.strip_prefix(b"-")).unwrap_or(trimmed);
        let mut pos = 0;
        let (mut digits, mut points) = (0, 0);
        while let Some(&byte) = unsigned.get(pos) {
            match byte {
                b'0'..=b'9' => digits += 1,
                b'.' => points += 1,
                _ => break,
            }
            pos += 1;
        }
        if digits == 0 || points > 1 {
            return None;
        }
        if pos < unsigned.len() {
            if !matches!(unsigned[pos], b'e' | b'E') {
                return None;
            }
            scan_exponent(unsigned, &mut pos)?;
        }
        let negative = trimmed.starts_with(b"-");
        (pos == unsigned.len()).then_some(Number { text: trimmed, negative, mantissa: 0, exponent: 0, fits: false })
    }

    /// As a 64-bit integer; `1.0` and `1e3` are integers.
    #[inline]
    pub fn to_i64(self) -> Result<i64, NumberFault> {
        if self.fits && self.exponent == 0 {
            if !self.negative {
                return i64::try_from(self.mantissa).map_err(|_| NumberFault::Range);
            }
            if self.mantissa <= i64::MIN.unsigned_abs() {
                return Ok((self.mantissa as i64).wrapping_neg());
            }
            return Err(NumberFault::Range);
        }
        let value = self.to_scaled(0, Rounding::Refuse)?;
        i64::try_from(value).map_err(|_| NumberFault::Range)
    }

    /// As the nearest 64-bit float; numbers beyond its range are refused, not made infinite.
    #[inline]
    pub fn to_f64(self) -> Result<f64, NumberFault> {
        if self.fits && self.mantissa < 1 << 53 && (-22..=22).contains(&self.exponent) {
            let power = F64_POWERS[self.exponent.unsigned_abs() as usize];
            let mantissa = self.mantissa as f64;
            let value = if self.exponent < 0 { mantissa / power } else { mantissa * power };
            return Ok(if self.negative { -value } else { value });
        }
        self.parse_float()
    }

    /// As the nearest 32-bit float; numbers beyond its range are refused, not made infinite.
    #[inline]
    pub fn to_f32(self) -> Result<f32, NumberFault> {
        if self.fits && self.mantissa < 1 << 24 && (-10..=10).contains(&self.exponent) {
            let power = F32_POWERS[self.exponent.unsigned_abs() as usize];
            let mantissa = self.mantissa as f32;
            let value = if self.exponent < 0 { mantissa / power } else { mantissa * power };
            return Ok(if self.negative { -value } else { value });
        }
        self.parse_float()
    }

    /// As a decimal's unscaled value. Digits beyond the scale are rounded, half away from zero, as PostgreSQL does.
    pub fn to_decimal(self, precision: u8, scale: i8) -> Result<i128, NumberFault> {
        let value = self.to_scaled(i64::from(scale), Rounding::HalfAwayFromZero)?;
        let limit = 10i128.checked_pow(u32::from(precision)).unwrap_or(i128::MAX);
        if value.abs() < limit { Ok(value) } else { Err(NumberFault::Range) }
    }

    fn parse_float<F: std::str::FromStr + Float>(self) -> Result<F, NumberFault> {
        let value = std::str::from_utf8(self.text).ok().and_then(|t| t.parse::<F>().ok());
        value.filter(|v| v.finite()).ok_or(NumberFault::Range)
    }

    /// `value × 10^scale` as an integer.
    fn to_scaled(self, scale: i64, rounding: Rounding) -> Result<i128, NumberFault> {
        let shift = i64::from(self.exponent) + scale;
        if self.fits && (0..=18).contains(&shift) {
            let value = i128::from(self.mantissa) * 10i128.pow(shift as u32);
            return Ok(if self.negative { -value } else { value });
        }
        let (digits, exponent) = significant_digits(self.text);
        scaled_from_digits(&digits, exponent.saturating_add(scale), rounding)
            .map(|value| if self.negative { -value } else { value })
    }
}

/// What happens to digits that the target has no place for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rounding {
    Refuse,
    HalfAwayFromZero,
}

trait Float {
    fn finite(&self) -> bool;
}
impl Float for f32 {
    fn finite(&self) -> bool {
        self.is_finite()
    }
}
impl Float for f64 {
    fn finite(&self) -> bool {
        self.is_finite()
    }
}

#[inline]
fn digit_at(source: &[u8], pos: usize) -> Option<u64> {
    let digit = source.get(pos)?.wrapping_sub(b'0');
    (digit < 10).then_some(u64::from(digit))
}

/// Scans `e`, a sign and digits; saturates far beyond what any type holds.
fn scan_exponent(source: &[u8], pos: &mut usize) -> Option<i32> {
    *pos += 1;
    let negative = source.get(*pos) == Some(&b'-');
    if matches!(source.get(*pos), Some(b'-' | b'+')) {
        *pos += 1;
    }
    let first = *pos;
    let mut value = 0i32;
    while let Some(digit) = digit_at(source, *pos) {
        value = value.saturating_mul(10).saturating_add(digit as i32).min(1_000_000_000);
        *pos += 1;
    }
    (*pos > first).then_some(if negative { -value } else { value })
}

/// The digits of a number's text without leading zeros, and the power of ten of the last one.
fn significant_digits(text: &[u8]) -> (Vec<u8>, i64) {
    let mut digits = Vec::with_capacity(text.len());
    let (mut exponent, mut after_point) = (0i64, false);
    let mut pos = 0;
    while pos < text.len() {
        match text[pos] {
            b'.' => after_point = true,
            b'e' | b'E' => {
                exponent = exponent.saturating_add(i64::from(scan_exponent(text, &mut pos).unwrap_or(0)));
                break;
            }
            digit @ b'0'..=b'9' => {
                exponent -= i64::from(after_point);
                if digit != b'0' || !digits.is_empty() {
                    digits.push(digit - b'0');
                }
            }
            _ => {}
        }
        pos += 1;
    }
    (digits, exponent)
}

fn scaled_from_digits(digits: &[u8], shift: i64, rounding: Rounding) -> Result<i128, NumberFault> {
    if digits.is_empty() {
        return Ok(0);
    }
    let places = digits.len() as i64 + shift;
    if places > 38 {
        return Err(NumberFault::Range);
    }
    let kept = places.clamp(0, digits.len() as i64) as usize;
    if rounding == Rounding::Refuse && digits[kept..].iter().any(|&d| d != 0) {
        return Err(NumberFault::Fraction);
    }
    let mut value = digits[..kept].iter().fold(0i128, |v, &d| v * 10 + i128::from(d));
    value *= 10i128.pow(shift.clamp(0, 38) as u32);
    let rounds_up = places >= 0 && digits.get(kept).is_some_and(|&d| d >= 5);
    Ok(value + i128::from(rounds_up))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number<'_> {
        Number::from_text(text.as_bytes()).unwrap_or_else(|| panic!("{text} is a number"))
    }

    #[test]
    fn integers_are_exact_to_both_ends_of_their_range() {
        assert_eq!(number("9223372036854775807").to_i64(), Ok(i64::MAX));
        assert_eq!(number("-9223372036854775808").to_i64(), Ok(i64::MIN));
        assert_eq!(number("9223372036854775808").to_i64(), Err(NumberFault::Range));
        assert_eq!(number("-9223372036854775809").to_i64(), Err(NumberFault::Range));
        assert_eq!(number("99999999999999999999999").to_i64(), Err(NumberFault::Range));
        assert_eq!(number("-0").to_i64(), Ok(0));
    }

    #[test]
    fn integral_values_are_integers_however_they_are_written() {
        for (text, value) in [("1.0", 1), ("1e3", 1000), ("-2.50e1", -25), ("+7", 7), ("007", 7), ("5.", 5), ("0e9", 0)]
        {
            assert_eq!(number(text).to_i64(), Ok(value), "{text}");
        }
        for text in ["1.5", "1e-1", ".5", "0.1e-400"] {
            assert_eq!(number(text).to_i64(), Err(NumberFault::Fraction), "{text}");
        }
        assert_eq!(number("1e999999999999").to_i64(), Err(NumberFault::Range));
    }

    #[test]
    fn what_is_not_a_number_is_refused() {
        for text in ["", "-", "+", ".", "1e", "1e+", "0x10", "1 2", "1..2", "--1", "NaN", "Infinity", "1_000", "é"] {
            assert_eq!(Number::from_text(text.as_bytes()), None, "{text}");
        }
        for text in ["01", ".5", "+1", "-", "x", ""] {
            assert_eq!(Number::scan(text.as_bytes(), 0), None, "{text}");
        }
        assert_eq!(Number::scan(b"5.", 0), None);
    }

    #[test]
    fn floats_are_the_nearest_ones() {
        for text in ["19.99", "0.1", "-0.0", "1e22", "1e23", "123456789012345678", "2.2250738585072014e-308", "5e-324"]
        {
            assert_eq!(
                number(text).to_f64().map(f64::to_bits),
                Ok(text.parse::<f64>().expect("valid").to_bits()),
                "{text}"
            );
        }
        for text in ["0.1", "16777217", "3.4028235e38", "1e-45", "-0.0"] {
            assert_eq!(
                number(text).to_f32().map(f32::to_bits),
                Ok(text.parse::<f32>().expect("valid").to_bits()),
                "{text}"
            );
        }
        assert_eq!(number("1e400").to_f64(), Err(NumberFault::Range));
        assert_eq!(number("1e39").to_f32(), Err(NumberFault::Range));
    }

    #[test]
    fn decimals_are_exact_and_round_half_away_from_zero() {
        assert_eq!(number("19.99").to_decimal(10, 2), Ok(1999));
        assert_eq!(number("0.005").to_decimal(10, 2), Ok(1));
        assert_eq!(number("-0.005").to_decimal(10, 2), Ok(-1));
        assert_eq!(number("0.00499999999999999999999999999").to_decimal(10, 2), Ok(0));
        assert_eq!(number("1e2").to_decimal(5, 2), Ok(10_000));
        assert_eq!(number("0.0004").to_decimal(5, 2), Ok(0));
        assert_eq!(number("1e-500").to_decimal(5, 2), Ok(0));
        assert_eq!(number("99999999999999999999999999999999999999").to_decimal(38, 0), Ok(10i128.pow(38) - 1));
        assert_eq!(number("999.995").to_decimal(5, 2), Err(NumberFault::Range));
        assert_eq!(number("1000").to_decimal(5, 2), Err(NumberFault::Range));
        assert_eq!(number("1e38").to_decimal(38, 0), Err(NumberFault::Range));
    }
}
