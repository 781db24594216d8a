//! `half:MAX`: a batch closes when half as many requests wait as the one before had; after 1 ms at the latest.

use std::fmt;
use std::time::Duration;

use super::{Decision, Executed, Policy, Strategy, Waiting, arguments};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "half",
    usage: "half:MAX",
    allowed: "MAX: 1 to 4096 requests",
    summary: "half as many requests as the batch before had, up to MAX; what waits leaves after 1 ms at the latest",
    samples: &["half:1", "half:16"],
    parse,
};

const DELAY: Duration = Duration::from_millis(1);

#[derive(Clone, Debug)]
struct Half {
    requests_max: usize,
    /// Requests of the newest batch that was executed.
    before: usize,
}

fn parse(arguments: &[&str]) -> Option<Box<dyn Policy>> {
    let &[requests_max] = arguments else { return None };
    Some(Box::new(Half { requests_max: arguments::requests(requests_max)?, before: 0 }))
}

impl Policy for Half {
    fn decide(&self, waiting: &Waiting) -> Decision {
        let due = waiting.oldest.after_duration(DELAY);
        if waiting.fills(self.before / 2) || waiting.now >= due {
            return Decision::Close { requests_max: self.requests_max };
        }
        Decision::At(due)
    }

    fn requests_max(&self) -> usize {
        self.requests_max
    }

    fn hold(&self) -> Duration {
        DELAY
    }

    fn on_executed(&mut self, executed: &Executed) {
        self.before = executed.requests;
    }
}

impl fmt::Display for Half {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "half:{}", self.requests_max)
    }
}
