//! `fixed:N`: batches of a fixed number of requests, as papers compare them.

use std::fmt;
use std::time::Duration;

use super::{Decision, Policy, Strategy, Waiting, arguments};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "fixed",
    usage: "fixed:N",
    allowed: "N: 1 to 4096 requests",
    summary: "N requests a batch; what is left over leaves when no request has joined it for 20 ms",
    samples: &["fixed:1", "fixed:2", "fixed:4", "fixed:16"],
    parse,
};

/// How long a partial batch waits for another request, so that fewer waiting clients than the batch's size do not hang.
const FLUSH: Duration = Duration::from_millis(20);

/// A batch closes when it is full, or when nobody has joined it for [`FLUSH`].
#[derive(Clone, Debug)]
struct Fixed {
    requests: usize,
}

fn parse(arguments: &[&str]) -> Option<Box<dyn Policy>> {
    let &[requests] = arguments else { return None };
    Some(Box::new(Fixed { requests: arguments::requests(requests)? }))
}

impl Policy for Fixed {
    fn decide(&self, waiting: &Waiting) -> Decision {
        let flush = waiting.newest.after_duration(FLUSH);
        if waiting.fills(self.requests) || waiting.now >= flush {
            return Decision::Close { requests_max: self.requests };
        }
        Decision::At(flush)
    }

    fn requests_max(&self) -> usize {
        self.requests
    }

    /// Every request that joins puts the flush off.
    fn hold(&self) -> Duration {
        FLUSH * u32::try_from(self.requests).unwrap_or(u32::MAX)
    }
}

impl fmt::Display for Fixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fixed:{}", self.requests)
    }
}
