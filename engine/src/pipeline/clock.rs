//! The one place where the replica reads a clock.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::types::{Time, nanos};

/// A monotonic clock that starts at 0.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: Instant,
    epoch_ns: u64,
}

/// How often the kernel's clock is looked at to find out where the own one begins: a look may be interrupted.
const LOOKS: usize = 5;

impl Clock {
    /// A clock that reads 0 now.
    #[must_use]
    pub fn start() -> Self {
        let epoch = Instant::now();
        let look = || {
            let before = Instant::now();
            let now = clock_gettime(ClockId::Monotonic);
            let took = before.elapsed();
            let since_boot = Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0));
            (took, since_boot.saturating_sub(before.duration_since(epoch) + took / 2))
        };
        let best = (0..LOOKS).map(|_| look()).min().unwrap_or_default();
        Self { epoch, epoch_ns: nanos(best.1) }
    }

    /// Where it begins on the kernel's monotonic clock, ns: the clocks of all processes that run under one boot of a
    /// machine ([`platform::boot`](crate::platform::boot)) are comparable by it.
    #[must_use]
    pub const fn epoch_ns(&self) -> u64 {
        self.epoch_ns
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_comparable_by_where_they_begin() {
        let first = Clock::start();
        std::thread::sleep(Duration::from_millis(2));
        let second = Clock::start();
        // The same instant on both, but for what passes between the two looks.
        let (early, middle, late) = (first.now(), second.now(), first.now());
        let on_boot = |clock: &Clock, time: Time| clock.epoch_ns() + time.0;
        assert!(second.epoch_ns() - first.epoch_ns() >= 2_000_000);
        // Each beginning was found to the half of the quickest of several looks.
        let slack = 100_000;
        let middle = on_boot(&second, middle);
        assert!(on_boot(&first, early) <= middle + slack && middle <= on_boot(&first, late) + slack);
    }
}
