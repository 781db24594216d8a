//! `time:N,DELAY`: batches by size or age, whichever comes first, as most blockchains' batchers do it.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Decision, Policy, Strategy, Waiting, arguments};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "time",
    usage: "time:N,DELAY",
    allowed: "N: 1 to 4096 requests; DELAY: 1us to 10s",
    summary: "up to N requests a batch, which leaves at the latest DELAY after the first came (time:100,2ms)",
    samples: &["time:1,1ms", "time:2,100us", "time:4,1ms", "time:16,5ms"],
    parse,
};

const DELAYS: RangeInclusive<Duration> = Duration::from_micros(1)..=Duration::from_secs(10);

/// A batch closes when it is full, or when its first request has waited for `delay`.
#[derive(Clone, Debug)]
struct Timed {
    requests: usize,
    delay: Duration,
}

fn parse(arguments: &[&str]) -> Option<Box<dyn Policy>> {
    let &[requests, delay] = arguments else { return None };
    Some(Box::new(Timed { requests: arguments::requests(requests)?, delay: arguments::duration(delay, DELAYS)? }))
}

impl Policy for Timed {
    fn decide(&self, waiting: &Waiting) -> Decision {
        let due = waiting.oldest.after_duration(self.delay);
        if waiting.fills(self.requests) || waiting.now >= due {
            return Decision::Close { requests_max: self.requests };
        }
        Decision::At(due)
    }

    fn requests_max(&self) -> usize {
        self.requests
    }

    fn hold(&self) -> Duration {
        self.delay
    }
}

impl fmt::Display for Timed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "time:{},{}", self.requests, humantime::format_duration(self.delay))
    }
}
