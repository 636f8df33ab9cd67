//! Owns how many rows came in lately.

/// Seconds that are looked back on, besides the one that goes on.
const SECONDS: i64 = 10;

/// Rows by the second in which they came.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    /// A second since 1970, and the rows that came in it; each has its place by its number.
    seconds: [(i64, u64); SECONDS as usize + 1],
}

impl Rate {
    /// Rows came.
    pub(crate) fn add(&mut self, now_us: i64, rows: u64) {
        let second = now_us.div_euclid(1_000_000);
        let place = &mut self.seconds[second.rem_euclid(SECONDS + 1) as usize];
        if place.0 != second {
            *place = (second, 0);
        }
        place.1 += rows;
    }

    /// Rows a second, over the last ten seconds.
    pub(crate) fn per_second(&self, now_us: i64) -> f64 {
        let second = now_us.div_euclid(1_000_000);
        let recent = self.seconds.iter().filter(|(at, _)| (second - SECONDS..=second).contains(at));
        let rows: u64 = recent.map(|(_, rows)| rows).sum();
        rows as f64 / (SECONDS as f64 + now_us.rem_euclid(1_000_000) as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_ten_seconds() {
        let mut rate = Rate::default();
        assert_eq!(rate.per_second(0), 0.0);
        for second in 100..130_i64 {
            rate.add(second * 1_000_000 + 7, 50);
        }
        assert_eq!(rate.per_second(130_000_000), 50.0);
        assert_eq!(rate.per_second(135_000_000), 25.0);
        assert_eq!(rate.per_second(141_000_000), 0.0);
        rate.add(141_500_000, 42);
        assert_eq!(rate.per_second(141_500_000), 4.0);
    }
}
