//! Reading arguments that several strategies have.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::limits::{IN_FLIGHT_MAX, REQUESTS_MAX};

/// Requests of a batch, 1 to [`REQUESTS_MAX`].
pub(super) fn requests(text: &str) -> Option<usize> {
    text.parse().ok().filter(|requests| (1..=REQUESTS_MAX).contains(requests))
}

/// Batches between proposal and execution, 1 to [`IN_FLIGHT_MAX`].
pub(super) fn in_flight(text: &str) -> Option<u64> {
    text.parse().ok().filter(|in_flight| (1..=IN_FLIGHT_MAX).contains(in_flight))
}

/// A length of time within `allowed`, written as people do (`2ms`).
pub(super) fn duration(text: &str, allowed: RangeInclusive<Duration>) -> Option<Duration> {
    humantime::parse_duration(text).ok().filter(|duration| allowed.contains(duration))
}
