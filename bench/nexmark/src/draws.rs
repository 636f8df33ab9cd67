//! Owns the random numbers of an event: a sequence that follows from the seed and the event's number alone.

/// Steps a counter so that it visits every 64-bit number once.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A sequence of random numbers.
#[derive(Debug, Clone)]
pub(crate) struct Draws {
    counter: u64,
}

impl Draws {
    /// The sequence of one event.
    pub(crate) fn of_event(seed: u64, event: u64) -> Self {
        // Mixed before it counts: with the number itself, neighbours' sequences would be each other's, shifted.
        Self { counter: mix(mix(seed) ^ event) }
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(STEP);
        mix(self.counter)
    }

    /// The next number below a limit; 0 if the limit is 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }

    /// One of these.
    pub(crate) fn one_of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }

    /// True in all but one of `ratio` cases.
    pub(crate) fn all_but_one_in(&mut self, ratio: u64) -> bool {
        self.below(ratio) > 0
    }
}

/// Spreads every bit of the input over every bit of the result (the finaliser of SplitMix64).
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(STEP);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_below_a_limit_are_spread_evenly() {
        let mut counts = [0_u32; 10];
        for event in 0..10_000 {
            let mut draws = Draws::of_event(7, event);
            (0..10).for_each(|_| counts[draws.below(10) as usize] += 1);
        }
        assert!(counts.iter().all(|n| (9_500..10_500).contains(n)), "{counts:?}");
    }

    #[test]
    fn neighbouring_events_share_no_numbers() {
        let sequence = |event| {
            let mut draws = Draws::of_event(1, event);
            (0..20).map(|_| draws.next()).collect::<std::collections::HashSet<_>>()
        };
        assert!(sequence(5).is_disjoint(&sequence(6)));
    }

    #[test]
    fn a_ratio_of_one_or_none_is_never_hot() {
        let mut draws = Draws::of_event(1, 1);
        assert!((0..100).all(|_| !draws.all_but_one_in(1) && !draws.all_but_one_in(0)));
    }
}
