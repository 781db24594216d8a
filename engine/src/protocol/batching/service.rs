//! A model of what executes batches, to see what a policy makes of it: known capacity, virtual time, no randomness but
//! the seed's.
//!
//! A batch passes three stages, one after the other, each of which works at one batch at a time for a fixed time and a
//! time for each request, and is on the network in between for a time that costs nobody anything. So large batches cost
//! less for each request, and small ones overlap better.

use std::collections::VecDeque;
use std::ops::Range;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::{Decision, Executed, Policy, Waiting};
use crate::types::{SequenceNumber, Time};

pub(super) const MICROSECOND: u64 = 1000;
pub(super) const MILLISECOND: u64 = 1_000_000;

/// Whoever sends requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Load {
    /// So many at once, every so often.
    Bursts { requests: usize, every_ns: u64 },
    /// Each by itself, at random, so many a second.
    Poisson { per_s: f64 },
    /// Clients that send the next request when the last one is executed.
    Closed { clients: usize },
}

/// The stages and what they are at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Service {
    /// What each stage takes for a batch, and for each request of it.
    pub(super) batch_ns: u64,
    pub(super) request_ns: u64,
    /// On the network, in all.
    pub(super) network_ns: u64,
    /// Of so many batches one stops the first stage for that long; of none if 0.
    pub(super) hiccup: (u64, u64),
    free: [u64; 3],
    batches: u64,
}

impl Service {
    pub(super) const fn new(batch_ns: u64, request_ns: u64, network_ns: u64) -> Self {
        Self { batch_ns, request_ns, network_ns, hiccup: (0, 0), free: [0; 3], batches: 0 }
    }

    /// When a batch that is proposed now will have been executed. In order.
    fn execute(&mut self, now: u64, requests: usize) -> u64 {
        let work = self.batch_ns + self.request_ns * requests as u64;
        let mut at = now + self.network_ns;
        self.batches += 1;
        let (every, stop_ns) = self.hiccup;
        if every > 0 && self.batches.is_multiple_of(every) {
            self.free[0] = self.free[0].max(at) + stop_ns;
        }
        for free in &mut self.free {
            at = at.max(*free) + work;
            *free = at;
        }
        at
    }
}

/// The primary, its queue and the service behind it.
pub(super) struct Model {
    pub(super) policy: Box<dyn Policy>,
    pub(super) service: Service,
    random: SmallRng,
    now: u64,
    /// When each waiting request arrived.
    waiting: VecDeque<u64>,
    /// Sequence number, arrivals, proposal and execution of each batch in flight.
    in_flight: VecDeque<(u64, Vec<u64>, u64, u64)>,
    next: u64,
    /// When each request was executed, and how long it was here.
    executed: Vec<(u64, u64)>,
    /// When each batch was executed, and how many requests it had.
    sizes: Vec<(u64, usize)>,
}

impl Model {
    pub(super) fn new(policy: Box<dyn Policy>, service: Service) -> Self {
        Self {
            policy,
            service,
            random: SmallRng::seed_from_u64(1),
            now: 0,
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            next: 1,
            executed: Vec::new(),
            sizes: Vec::new(),
        }
    }

    /// Goes on for `for_ns` under `load`; tells when that was.
    pub(super) fn run(&mut self, load: Load, for_ns: u64) -> Range<u64> {
        let (start, end) = (self.now, self.now + for_ns);
        let mut arrival = start;
        if let Load::Closed { clients } = load {
            let here = self.waiting.len() + self.in_flight.iter().map(|batch| batch.1.len()).sum::<usize>();
            self.waiting.extend((here..clients).map(|_| start));
            arrival = u64::MAX;
        }
        loop {
            let due = self.propose();
            let executed = self.in_flight.front().map_or(u64::MAX, |batch| batch.3);
            let at = arrival.min(executed).min(due);
            if at >= end {
                self.now = end;
                return start..end;
            }
            self.now = at;
            if executed == at {
                let requests = self.execute();
                if matches!(load, Load::Closed { .. }) {
                    self.waiting.extend((0..requests).map(|_| at));
                }
            } else if arrival == at {
                arrival += self.arrive(load);
            }
        }
    }

    /// Requests arrive; in how long the next ones do.
    fn arrive(&mut self, load: Load) -> u64 {
        match load {
            Load::Bursts { requests, every_ns } => {
                self.waiting.extend((0..requests).map(|_| self.now));
                every_ns
            }
            Load::Poisson { per_s } => {
                self.waiting.push_back(self.now);
                let uniform: f64 = self.random.random();
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a short time")]
                let gap = (-(1.0 - uniform).ln() / per_s * 1e9) as u64;
                gap
            }
            Load::Closed { .. } => unreachable!("clients send when they are answered"),
        }
    }

    /// Does what the policy wants; when it wants to be asked again.
    fn propose(&mut self) -> u64 {
        while let Some(&oldest) = self.waiting.front() {
            let executed = self.in_flight.front().map_or(self.next, |batch| batch.0) - 1;
            let decision = self.policy.decide(&Waiting {
                now: Time(self.now),
                requests: self.waiting.len(),
                operation_bytes: 16 * self.waiting.len(),
                oldest: Time(oldest),
                newest: Time(self.waiting[self.waiting.len() - 1]),
                next: SequenceNumber(self.next),
                executed: SequenceNumber(executed),
            });
            match decision {
                Decision::Close { requests_max } => {
                    let requests: Vec<u64> = self.waiting.drain(..requests_max.min(self.waiting.len())).collect();
                    let at = self.service.execute(self.now, requests.len());
                    self.in_flight.push_back((self.next, requests, self.now, at));
                    self.next += 1;
                }
                Decision::At(due) => return due.0,
                Decision::Wait => break,
            }
        }
        u64::MAX
    }

    fn execute(&mut self) -> usize {
        let (sequence, requests, proposed, at) = self.in_flight.pop_front().expect("a batch is in flight");
        self.policy.on_executed(&Executed {
            now: Time(at),
            sequence: SequenceNumber(sequence),
            requests: requests.len(),
            arrived: Time(requests[0]),
            proposed: Time(proposed),
        });
        self.sizes.push((at, requests.len()));
        self.executed.extend(requests.iter().map(|arrived| (at, at - arrived)));
        requests.len()
    }

    /// The 99th percentile of the time that requests spent here that were executed in `period`, ns.
    pub(super) fn p99_ns(&self, period: &Range<u64>) -> u64 {
        let mut times: Vec<u64> =
            self.executed.iter().filter(|(at, _)| period.contains(at)).map(|&(_, time)| time).collect();
        times.sort_unstable();
        times[times.len() * 99 / 100]
    }

    /// Requests executed in `period`.
    pub(super) fn completed(&self, period: &Range<u64>) -> usize {
        self.executed.iter().filter(|(at, _)| period.contains(at)).count()
    }

    /// The largest batch of each part of `period` that is so long.
    pub(super) fn largest(&self, period: &Range<u64>, part_ns: u64) -> Vec<usize> {
        let parts = (period.start..period.end).step_by(usize::try_from(part_ns).expect("a short time"));
        let within = |part: u64| self.sizes.iter().filter(move |(at, _)| (part..part + part_ns).contains(at));
        parts.map(|part| within(part).map(|&(_, size)| size).max().unwrap_or(0)).collect()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}
