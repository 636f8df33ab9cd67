//! Owns what becomes of a view's task when it fails: tried again after a pause, or left until somebody changes it.

use std::time::Duration;

use datafusion::error::DataFusionError;

use crate::Error;
use crate::background::backoff;

/// After so many failures of the same rows the task is left alone.
const REPEATS: u64 = 3;

/// Without a failure for so long the count begins anew.
const FORGOTTEN_US: i64 = 600_000_000;

/// A task that is outdated again so soon takes a pause.
const OUTDATED_US: i64 = 1_000_000;

/// Why a view's task ended.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It may pass: a disk, a store, memory.
    Passing,
    /// The same rows are likely to give it again: an overflow where partial results meet.
    Repeating,
    /// It stays until the definition changes or the view is resumed.
    Lasting,
    /// What it stands on was made anew: it begins again at once.
    Outdated,
}

/// A result of a view's task.
pub(super) type Outcome<T> = std::result::Result<T, Failure>;

impl Failure {
    /// One that no trying again mends.
    pub(super) fn lasting(error: Error) -> Self {
        Self { error, kind: Kind::Lasting }
    }

    /// One that beginning again mends.
    pub(super) fn outdated(error: Error) -> Self {
        Self { error, kind: Kind::Outdated }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, kind: Kind::Passing }
    }
}

impl From<millstream_views::Error> for Failure {
    fn from(error: millstream_views::Error) -> Self {
        let kind = match &error {
            millstream_views::Error::Engine(error) if passes(error) => Kind::Passing,
            millstream_views::Error::Engine(_) | millstream_views::Error::Arrow(_) => Kind::Repeating,
            _ => Kind::Passing,
        };
        Self { error: error.into(), kind }
    }
}

fn passes(error: &DataFusionError) -> bool {
    matches!(
        error.find_root(),
        DataFusionError::ResourcesExhausted(_) | DataFusionError::IoError(_) | DataFusionError::ObjectStore(_)
    )
}

/// The failures of a task so far.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    failures: u64,
    last_us: i64,
    outdated_us: Option<i64>,
}

impl Attempts {
    /// How long to wait before the next try; `None` when there is none before the view is changed or resumed.
    pub(super) fn pause(&mut self, failure: &Failure, now_us: i64) -> Option<Duration> {
        if failure.kind == Kind::Outdated {
            let before = self.outdated_us.replace(now_us);
            if before.is_none_or(|before| now_us - before > OUTDATED_US) {
                return Some(Duration::ZERO);
            }
        }
        if now_us - self.last_us > FORGOTTEN_US {
            self.failures = 0;
        }
        self.failures += 1;
        self.last_us = now_us;
        match failure.kind {
            Kind::Lasting => None,
            Kind::Repeating if self.failures >= REPEATS => None,
            _ => Some(backoff(self.failures)),
        }
    }
}

#[cfg(test)]
mod tests {
    use millstream_catalog::fault::Code;

    use super::*;

    fn rejected() -> Error {
        Error::rejected(Code::IoError, "x")
    }

    #[test]
    fn what_may_pass_is_tried_again_and_what_stays_is_not() {
        let mut attempts = Attempts::default();
        assert_eq!(attempts.pause(&rejected().into(), 0), Some(backoff(1)));
        assert_eq!(attempts.pause(&rejected().into(), 0), Some(backoff(2)));
        assert_eq!(attempts.pause(&Failure::lasting(rejected()), 0), None);
    }

    #[test]
    fn what_is_outdated_begins_again_at_once_but_not_for_ever() {
        let mut attempts = Attempts::default();
        assert_eq!(attempts.pause(&Failure::outdated(rejected()), 0), Some(Duration::ZERO));
        assert_eq!(attempts.pause(&Failure::outdated(rejected()), 1), Some(backoff(1)));
        let later = attempts.pause(&Failure::outdated(rejected()), OUTDATED_US + 2);
        assert_eq!(later, Some(Duration::ZERO));
    }

    #[test]
    fn what_repeats_is_tried_a_few_times() {
        let repeating = || {
            let error = DataFusionError::Execution("overflow".into());
            Failure::from(millstream_views::Error::Engine(error))
        };
        let mut attempts = Attempts::default();
        assert!(attempts.pause(&repeating(), 0).is_some());
        assert!(attempts.pause(&repeating(), 0).is_some());
        assert!(attempts.pause(&repeating(), 0).is_none());
        assert!(attempts.pause(&repeating(), 2 * FORGOTTEN_US).is_some(), "the count begins anew");
    }
}
