//! `latency-target:TARGET`: a controller that looks for the largest batches that keep the 99th percentile of the time
//! which requests spend at the primary, from arrival to execution, under a target.
//!
//! It builds on Castro's window (thesis, section 5.1.4): whatever waits is proposed while fewer than a window of
//! batches are under way, so no timer ever holds a request back. What is controlled is the most requests that a batch
//! may have. A large one costs less for each request, but every stage of every replica works at it as a whole before
//! the next one sees any of it, so that a burst which leaves as one batch is slower than the same burst in several.
//!
//! The controller is AIMD, as Clipper's for its batches is (Crankshaw et al., NSDI'17, section 4.3.1): the limit grows
//! by a constant while the target is met and batches are as large as it lets them be, and shrinks by a factor when it
//! is not. As TCP does (RFC 5681, RFC 7661) it doubles until the first trouble, and never grows for want of use.
//! Clipper times the work on a batch; here the time in the queue counts too, and that is where shrinking turns against
//! itself: under overload smaller batches mean less throughput, so a longer queue and even later answers. Therefore:
//!
//! - It shrinks only while requests spend more time under way than waiting for a batch. What waits longer than it is
//!   worked at waits for capacity (the queueing delay as the sign of overload: `DAGOR`, Zhou et al., SoCC'18), which
//!   only larger batches give.
//! - A smaller limit is a trial: if it does not make requests faster by [`GAIN`], it is taken back, and the next trial
//!   must wait, twice as long each time.
//!
//! So where even the smallest batch can not meet the target (overload, a network that is slower than it) the policy
//! goes for throughput, as `adaptive` does, instead of for batches of one.
//!
//! To be stable, a change is judged by batches that were proposed after it alone, and by a full window of them before
//! the limit shrinks again. Each batch counts with the time of its oldest request for all of its requests, which errs
//! on the safe side.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Decision, Executed, Policy, Strategy, Waiting, arguments};
use crate::types::{Time, nanos};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "latency-target",
    usage: "latency-target:TARGET[,MAX[,IN_FLIGHT]]",
    allowed: "TARGET: 10us to 10s; MAX: 1 to 4096 requests [1024]; IN_FLIGHT: 1 to 1024 batches [8]",
    summary: "as adaptive, with batches as large as keep the p99 of the time from arrival to execution at the primary \
              under TARGET (latency-target:5ms); where none does, as large as throughput wants them",
    samples: &[
        "latency-target:100us,1,1",
        "latency-target:1ms,4,2",
        "latency-target:2ms,16,4",
        "latency-target:20ms",
        "latency-target:5ms",
    ],
    parse,
};

const TARGETS: RangeInclusive<Duration> = Duration::from_micros(10)..=Duration::from_secs(10);

/// Batches in the sliding window: enough for a 99th percentile, since each counts with all its requests.
const WINDOW: usize = 128;
/// Executed batches from one decision to the next.
const EPOCH: usize = 32;
/// A limit that was reached by one batch in so many is in the way of larger ones.
const BINDING_SHARE: usize = 4;
/// A smaller limit is so much of the one before, in eighths.
const SHRINK_EIGHTHS: usize = 6;
/// A larger one is larger by one part in so many of the largest there may be ..
const STEPS: usize = 64;
/// .. though by no more than one part in so many of itself: a step must not lead past where the limit rests.
const STEP_SHARE: usize = 8;
/// Above so much of the target, in percent, the limit does not grow: between there and the target is where it rests.
const REST_PERCENT: u64 = 80;
/// What a smaller limit must gain in the mean time of a request, in percent.
const GAIN: u64 = 5;
/// Shortest and longest pause after trials that gained nothing, in epochs.
const PAUSE_MIN: u32 = 2;
const PAUSE_MAX: u32 = 64;

#[derive(Clone, Debug)]
struct LatencyTarget {
    target: Duration,
    requests_max: usize,
    in_flight: u64,
    control: Control,
}

fn parse(arguments: &[&str]) -> Option<Box<dyn Policy>> {
    let (&target, rest) = arguments.split_first()?;
    let (requests, in_flight) = match *rest {
        [] => (1024, 8),
        [requests] => (arguments::requests(requests)?, 8),
        [requests, in_flight] => (arguments::requests(requests)?, arguments::in_flight(in_flight)?),
        _ => return None,
    };
    let target = arguments::duration(target, TARGETS)?;
    let control = Control::new(nanos(target), requests);
    Some(Box::new(LatencyTarget { target, requests_max: requests, in_flight, control }))
}

impl Policy for LatencyTarget {
    fn decide(&self, waiting: &Waiting) -> Decision {
        if waiting.in_flight() < self.in_flight {
            return Decision::Close { requests_max: self.control.limit };
        }
        Decision::Wait
    }

    fn requests_max(&self) -> usize {
        self.requests_max
    }

    fn in_flight_max(&self) -> u64 {
        self.in_flight
    }

    fn hold(&self) -> Duration {
        Duration::ZERO
    }

    fn on_executed(&mut self, executed: &Executed) {
        self.control.on_executed(executed);
    }
}

impl fmt::Display for LatencyTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = humantime::format_duration(self.target);
        write!(f, "latency-target:{target},{},{}", self.requests_max, self.in_flight)
    }
}

/// Finds the limit.
#[derive(Clone, Debug)]
struct Control {
    target_ns: u64,
    requests_max: usize,
    /// Most requests of a batch for now.
    limit: usize,
    /// Whether it never shrank: then it doubles.
    starting: bool,
    /// When it changed. Batches that were proposed before say nothing of it.
    changed: Time,
    window: Window,
    /// Batches since the last decision, and how many of them were as large as the limit let them be.
    batches: usize,
    at_limit: usize,
    /// A smaller limit is being tried.
    trial: Option<Trial>,
    /// Epochs until the next trial may begin.
    pause: u32,
    /// How long the pause is after the next trial that gains nothing.
    next_pause: u32,
}

/// What there was before a smaller limit was tried.
#[derive(Clone, Copy, Debug)]
struct Trial {
    limit: usize,
    mean_ns: u64,
}

impl Control {
    fn new(target_ns: u64, requests_max: usize) -> Self {
        Self {
            target_ns,
            requests_max,
            limit: (requests_max / 16).max(1),
            starting: true,
            changed: Time(0),
            window: Window::default(),
            batches: 0,
            at_limit: 0,
            trial: None,
            pause: 0,
            next_pause: PAUSE_MIN,
        }
    }

    fn on_executed(&mut self, executed: &Executed) {
        if executed.proposed < self.changed {
            return;
        }
        self.window.push(executed);
        self.batches += 1;
        self.at_limit += usize::from(executed.requests >= self.limit);
        if self.batches >= EPOCH {
            self.decide(executed.now);
            self.batches = 0;
            self.at_limit = 0;
        }
    }

    fn decide(&mut self, now: Time) {
        let measured = self.window.measure();
        if measured.p99_ns <= self.target_ns {
            if self.trial.take().is_some() {
                self.next_pause = PAUSE_MIN;
            }
            self.pause = self.pause.saturating_sub(1);
            if measured.p99_ns <= self.target_ns * REST_PERCENT / 100 {
                self.grow(now);
            }
        } else if self.window.is_full() {
            self.miss(measured, now);
        } else if self.trial.is_none() && measured.waits_for_capacity() {
            self.grow(now);
        }
    }

    /// The target is missed, as a full window shows.
    fn miss(&mut self, measured: Measured, now: Time) {
        if let Some(before) = self.trial.take() {
            if measured.mean_ns > before.mean_ns / 100 * (100 - GAIN) {
                self.set(before.limit, now);
                self.window.clear();
                self.pause = self.next_pause;
                self.next_pause = (2 * self.next_pause).min(PAUSE_MAX);
                return;
            }
            self.next_pause = PAUSE_MIN;
        }
        self.pause = self.pause.saturating_sub(1);
        if self.pause > 0 || self.limit == 1 || measured.waits_for_capacity() {
            self.grow(now);
            return;
        }
        self.trial = Some(Trial { limit: self.limit, mean_ns: measured.mean_ns });
        self.starting = false;
        // Below what batches have, so that it makes a difference.
        let largest = self.limit.min(measured.requests_max);
        self.set((largest * SHRINK_EIGHTHS / 8).max(1), now);
        self.window.clear();
    }

    /// Larger batches, if the limit is in the way of any.
    fn grow(&mut self, now: Time) {
        if self.at_limit * BINDING_SHARE < self.batches {
            return;
        }
        let step = (self.requests_max / STEPS).min(self.limit / STEP_SHARE).max(1);
        let step = if self.starting { self.limit } else { step };
        self.set((self.limit + step).min(self.requests_max), now);
    }

    const fn set(&mut self, limit: usize, now: Time) {
        if limit != self.limit {
            self.limit = limit;
            self.changed = now;
        }
    }
}

/// The newest executed batches, and what they say. Memory is reserved once.
#[derive(Clone, Debug)]
struct Window {
    batches: [Sample; WINDOW],
    /// How many there are, and where the next one goes.
    len: usize,
    next: usize,
}

/// One executed batch.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    total_ns: u64,
    waited_ns: u64,
    requests: usize,
}

/// What a window says of its requests.
#[derive(Clone, Copy, Debug)]
struct Measured {
    p99_ns: u64,
    mean_ns: u64,
    mean_waited_ns: u64,
    /// Of the largest batch.
    requests_max: usize,
}

impl Measured {
    /// Whether requests wait for longer than they are worked at.
    const fn waits_for_capacity(&self) -> bool {
        self.mean_waited_ns > self.mean_ns - self.mean_waited_ns
    }
}

impl Default for Window {
    fn default() -> Self {
        Self { batches: [Sample::default(); WINDOW], len: 0, next: 0 }
    }
}

impl Window {
    const fn push(&mut self, executed: &Executed) {
        self.batches[self.next] =
            Sample { total_ns: executed.total_ns(), waited_ns: executed.waited_ns(), requests: executed.requests };
        self.next = (self.next + 1) % WINDOW;
        if self.len < WINDOW {
            self.len += 1;
        }
    }

    const fn clear(&mut self) {
        self.len = 0;
        self.next = 0;
    }

    const fn is_full(&self) -> bool {
        self.len == WINDOW
    }

    fn measure(&self) -> Measured {
        let mut batches = self.batches;
        let batches = &mut batches[..self.len];
        batches.sort_unstable_by_key(|batch| batch.total_ns);
        let requests = batches.iter().map(|batch| batch.requests as u64).sum::<u64>().max(1);
        let mut above = requests / 100;
        let p99 = batches.iter().rev().find(|batch| {
            let is_within = batch.requests as u64 > above;
            above = above.saturating_sub(batch.requests as u64);
            is_within
        });
        let mean = |of: fn(&Sample) -> u64| {
            let sum: u128 = batches.iter().map(|batch| u128::from(of(batch)) * batch.requests as u128).sum();
            u64::try_from(sum / u128::from(requests)).unwrap_or(u64::MAX)
        };
        Measured {
            p99_ns: p99.map_or(0, |batch| batch.total_ns),
            mean_ns: mean(|batch| batch.total_ns),
            mean_waited_ns: mean(|batch| batch.waited_ns),
            requests_max: batches.iter().map(|batch| batch.requests).max().unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests;
