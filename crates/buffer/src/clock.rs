//! Owns the source of time, so that tests of retention, ingest times and timers are repeatable.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// Microseconds since 1970, UTC.
    fn now_us(&self) -> i64;

    /// Waits until it is `at_us` or later.
    fn until(&self, at_us: i64) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

impl std::fmt::Debug for dyn Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Clock({})", self.now_us())
    }
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_us(&self) -> i64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64)
    }

    fn until(&self, at_us: i64) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let clock = *self;
        Box::pin(async move {
            // The machine's clock may be set back meanwhile.
            loop {
                let left = at_us.saturating_sub(clock.now_us());
                if left <= 0 {
                    return;
                }
                tokio::time::sleep(Duration::from_micros(left as u64)).await;
            }
        })
    }
}

/// A clock that stands until it is moved, for tests.
#[derive(Debug, Clone, Default)]
pub struct ManualClock(Arc<watch::Sender<i64>>);

impl ManualClock {
    /// A clock that shows `now_us`.
    pub fn at(now_us: i64) -> Self {
        Self(Arc::new(watch::Sender::new(now_us)))
    }

    /// Moves it on; those who wait for a time that has come go on.
    pub fn advance_ms(&self, ms: i64) {
        self.0.send_modify(|now_us| *now_us += ms * 1000);
    }
}

impl Clock for ManualClock {
    fn now_us(&self) -> i64 {
        *self.0.borrow()
    }

    fn until(&self, at_us: i64) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut times = self.0.subscribe();
        Box::pin(async move {
            if times.wait_for(|now_us| *now_us >= at_us).await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}
