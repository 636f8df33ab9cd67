//! Owns prices: 100 to 100,000,000 cents, every power of ten as likely as the next.

use crate::draws::Draws;

/// Steps of a power of ten; 2 to the tenth, so that a step's factor is ten square roots of ten.
const STEPS: u64 = 1 << 10;
const POWERS: u64 = 6;

/// The prices at each step. Multiplication and square root are exact to the last bit on every machine, which a
/// library's power function is not.
#[derive(Debug)]
pub(crate) struct Prices {
    at: Vec<f64>,
}

impl Prices {
    pub(crate) fn new() -> Self {
        let factor = (0..STEPS.trailing_zeros()).fold(10.0_f64, |root, _| root.sqrt());
        let at = std::iter::successors(Some(100.0), |price| Some(price * factor));
        Self { at: at.take((POWERS * STEPS + 1) as usize).collect() }
    }

    /// One price; between two steps it is taken from the line between them.
    pub(crate) fn draw(&self, draws: &mut Draws) -> i64 {
        let place = (draws.next() >> 32) * POWERS * STEPS;
        let (step, part) = ((place >> 32) as usize, f64::from(place as u32) / f64::from(u32::MAX));
        (self.at[step] + (self.at[step + 1] - self.at[step]) * part).round() as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_powers_of_ten_are_where_they_belong() {
        let prices = Prices::new();
        for power in 0..=POWERS {
            let price = prices.at[(power * STEPS) as usize];
            assert!((price / 10_f64.powi(2 + power as i32) - 1.0).abs() < 1e-11, "{price}");
        }
    }

    #[test]
    fn every_power_of_ten_is_as_likely_as_the_next() {
        let prices = Prices::new();
        let mut counts = [0_u32; POWERS as usize];
        for event in 0..60_000 {
            let price = prices.draw(&mut Draws::of_event(3, event));
            assert!((100..=100_000_000).contains(&price), "{price}");
            counts[(price.ilog10() as usize - 2).min(5)] += 1;
        }
        assert!(counts.iter().all(|n| (9_600..10_400).contains(n)), "{counts:?}");
    }
}
