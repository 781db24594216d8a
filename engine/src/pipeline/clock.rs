//! The one place where the replica reads a clock.

use std::time::{Duration, Instant};

use crate::types::Time;

/// A monotonic clock that starts at 0.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: Instant,
}

impl Clock {
    /// A clock that reads 0 now.
    #[must_use]
    pub fn start() -> Self {
        Self { epoch: Instant::now() }
    }

    /// Nanoseconds since the start.
    #[must_use]
    pub fn now(&self) -> Time {
        #[allow(clippy::cast_possible_truncation, reason = "584 years")]
        Time(self.epoch.elapsed().as_nanos() as u64)
    }

    /// How long it is until `time`, zero if it has passed.
    #[must_use]
    pub fn until(&self, time: Time) -> Duration {
        Duration::from_nanos(time.since(self.now()))
    }
}
