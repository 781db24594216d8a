//! `none`: no batching, so that what it is worth can be measured.

use std::fmt;
use std::time::Duration;

use super::{Decision, Policy, Strategy, Waiting};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "none",
    usage: "none",
    allowed: "",
    summary: "each request is a batch by itself",
    samples: &["none"],
    parse: |arguments| if arguments.is_empty() { Some(Box::new(Alone)) } else { None },
};

/// Every request leaves at once, alone.
#[derive(Clone, Debug)]
struct Alone;

impl Policy for Alone {
    fn decide(&self, _: &Waiting) -> Decision {
        Decision::Close { requests_max: 1 }
    }

    fn requests_max(&self) -> usize {
        1
    }

    fn hold(&self) -> Duration {
        Duration::ZERO
    }
}

impl fmt::Display for Alone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("none")
    }
}
