//! The network: who hears what, and when.

use std::collections::BTreeMap;

use super::Endpoint;
use crate::plan;
use crate::random::Random;

/// Delays, losses and partitions between all endpoints.
pub(super) struct Network {
    plan: plan::Network,
    random: Random,
    seed: u64,
    /// The usual delay of each link and when it last delivers something, drawn when it is first used.
    links: BTreeMap<(Endpoint, Endpoint), Link>,
    /// Partitions that are in force, by the number of the fault: nothing gets from the first set to the second.
    cuts: BTreeMap<usize, Vec<(u64, u64)>>,
    /// Faults that lose more messages, by number.
    drops: BTreeMap<usize, u64>,
    /// Faults that lengthen delays, by number.
    slowness: BTreeMap<usize, u64>,
    healed: bool,
}

#[derive(Default)]
struct Link {
    usual_ns: u64,
    last: u64,
}

impl Network {
    pub(super) fn new(plan: plan::Network, seed: u64) -> Self {
        Self {
            plan,
            random: Random::new(seed, "network", 0),
            seed,
            links: BTreeMap::new(),
            cuts: BTreeMap::new(),
            drops: BTreeMap::new(),
            slowness: BTreeMap::new(),
            healed: false,
        }
    }

    pub(super) fn cut(&mut self, fault: usize, sets: Vec<(u64, u64)>) {
        self.cuts.insert(fault, sets);
    }

    pub(super) fn drop_more(&mut self, fault: usize, permille: u64) {
        self.drops.insert(fault, permille);
    }

    pub(super) fn slow_down(&mut self, fault: usize, factor: u64) {
        self.slowness.insert(fault, factor);
    }

    /// The fault with this number is over.
    pub(super) fn repair(&mut self, fault: usize) {
        self.cuts.remove(&fault);
        self.drops.remove(&fault);
        self.slowness.remove(&fault);
    }

    /// From now on everything arrives, once and in good time.
    pub(super) fn heal(&mut self) {
        self.cuts.clear();
        self.drops.clear();
        self.slowness.clear();
        self.healed = true;
    }

    /// When a message that is sent now arrives: never, once or twice.
    pub(super) fn arrivals(&mut self, now: u64, from: Endpoint, to: Endpoint) -> [Option<u64>; 2] {
        let loses = if self.healed { 0 } else { self.plan.loss_permille + self.drops.values().sum::<u64>() };
        // Drawn in any case, so that a lost message changes nothing for the others.
        let lost = self.random.chance(loses);
        let repeated = self.random.chance(self.plan.repeat_permille);
        let first = self.arrival(now, from, to);
        if lost || self.is_cut(from, to) {
            return [None, None];
        }
        [Some(first), repeated.then(|| self.arrival(now, from, to))]
    }

    fn arrival(&mut self, now: u64, from: Endpoint, to: Endpoint) -> u64 {
        let plan = &self.plan;
        let seed = self.seed;
        let link = self.links.entry((from, to)).or_insert_with(|| {
            let mut random = Random::new(seed, "link", u64::from(from.0) << 16 | u64::from(to.0));
            Link { usual_ns: random.range(plan.delay_min_ns, plan.delay_max_ns), last: 0 }
        });
        let jitter = self.random.below(link.usual_ns / 2 + 1);
        let mut delay = link.usual_ns / 2 + jitter;
        if self.random.chance(plan.stray_permille) && !self.healed {
            delay *= 10;
        }
        delay *= self.slowness.values().product::<u64>().min(100);
        let mut at = now + delay.max(1);
        if plan.ordered {
            at = at.max(link.last + 1);
            link.last = at;
        }
        at
    }

    fn is_cut(&self, from: Endpoint, to: Endpoint) -> bool {
        let (from, to) = (from.mask(), to.mask());
        self.cuts.values().flatten().any(|(senders, receivers)| senders & from != 0 && receivers & to != 0)
    }
}
