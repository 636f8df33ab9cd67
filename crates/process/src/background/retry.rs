//! Owns how long a failed background task waits before its next try.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);

/// The pause after `failures` failed tries in a row: doubling from a quarter of a second to half a minute.
pub(crate) fn backoff(failures: u64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16) as u32;
    FIRST.saturating_mul(1 << doublings).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_its_limit() {
        assert_eq!(backoff(1), FIRST);
        assert_eq!(backoff(2), FIRST * 2);
        assert_eq!(backoff(1000), LONGEST);
    }
}
