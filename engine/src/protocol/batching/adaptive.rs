//! `adaptive:MAX,IN_FLIGHT`: Castro's window rule (thesis, section 5.1.4). While fewer than a window of batches are
//! between proposal and execution, whatever waits is proposed; otherwise requests gather. So batches grow with the load
//! by themselves, and at low load nothing waits for a timer.

use std::fmt;
use std::time::Duration;

use super::{Decision, Policy, Strategy, Waiting, arguments};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "adaptive",
    usage: "adaptive[:MAX[,IN_FLIGHT]]",
    allowed: "MAX: 1 to 4096 requests [1024]; IN_FLIGHT: 1 to 1024 batches [8]",
    summary: "whatever waits, up to MAX requests, while fewer than IN_FLIGHT batches are under way; else requests gather",
    samples: &["adaptive:1,1", "adaptive:2,1", "adaptive:4,2", "adaptive:16,4", "adaptive"],
    parse,
};

/// A batch closes while fewer than `in_flight` are between proposal and execution.
#[derive(Clone, Debug)]
struct Adaptive {
    requests: usize,
    in_flight: u64,
}

fn parse(arguments: &[&str]) -> Option<Box<dyn Policy>> {
    let (requests, in_flight) = match *arguments {
        [] => (1024, 8),
        [requests] => (arguments::requests(requests)?, 8),
        [requests, in_flight] => (arguments::requests(requests)?, arguments::in_flight(in_flight)?),
        _ => return None,
    };
    Some(Box::new(Adaptive { requests, in_flight }))
}

impl Policy for Adaptive {
    fn decide(&self, waiting: &Waiting) -> Decision {
        if waiting.in_flight() < self.in_flight {
            return Decision::Close { requests_max: self.requests };
        }
        Decision::Wait
    }

    fn requests_max(&self) -> usize {
        self.requests
    }

    fn in_flight_max(&self) -> u64 {
        self.in_flight
    }

    fn hold(&self) -> Duration {
        Duration::ZERO
    }
}

impl fmt::Display for Adaptive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "adaptive:{},{}", self.requests, self.in_flight)
    }
}
