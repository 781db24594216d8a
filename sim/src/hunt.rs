//! Many seeds, on several threads, and what they met in all.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use hippodrome_engine::protocol::planted::Planted;

use crate::check::Violation;
use crate::coverage::Coverage;
use crate::plan::Plan;
use crate::run::run;

/// What to hunt through.
#[derive(Clone, Copy, Debug)]
pub struct Hunt {
    /// The first seed.
    pub first: u64,
    /// How many.
    pub seeds: u64,
    /// On how many threads.
    pub jobs: usize,
    /// A bug in every replica.
    pub planted: Option<Planted>,
    /// Whether to end at the first find.
    pub stop_early: bool,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Seeds that were run.
    pub seeds: u64,
    /// What was found, by ascending seed.
    pub violations: Vec<(u64, Violation)>,
    /// Of the seeds: those with a Byzantine replica.
    pub byzantine: u64,
    /// Those with twins.
    pub twins: u64,
    /// Those with faulty clients.
    pub hostile: u64,
    /// Those with a view change.
    pub view_changes: u64,
    /// Those in which a replica took over a state.
    pub transfers: u64,
    /// Those in which a process died.
    pub crashed: u64,
    /// Those with a partition.
    pub partitioned: u64,
    /// Everything that the runs met, added up.
    pub total: Coverage,
}

impl Found {
    fn add(&mut self, seed: u64, violation: Option<Violation>, met: &Coverage) {
        self.seeds += 1;
        self.violations.extend(violation.map(|violation| (seed, violation)));
        self.byzantine += u64::from(met.byzantine);
        self.twins += u64::from(met.twins);
        self.hostile += u64::from(met.hostile);
        self.view_changes += u64::from(met.changed_view());
        self.transfers += u64::from(met.states_installed > 0);
        self.crashed += u64::from(met.crashes > 0);
        self.partitioned += u64::from(met.partitions > 0);
        let total = &mut self.total;
        for (sum, part) in [
            (&mut total.crashes, met.crashes),
            (&mut total.restarts, met.restarts),
            (&mut total.forgetful, met.forgetful),
            (&mut total.power_failures, met.power_failures),
            (&mut total.partitions, met.partitions),
            (&mut total.pauses, met.pauses),
            (&mut total.views_entered, met.views_entered),
            (&mut total.states_installed, met.states_installed),
            (&mut total.operations, met.operations),
            (&mut total.messages, met.messages),
            (&mut total.events, met.events),
            (&mut total.virtual_ns, met.virtual_ns),
        ] {
            *sum += part;
        }
        total.highest_view = total.highest_view.max(met.highest_view);
        for (reason, many) in &met.ignored {
            *total.ignored.entry(reason).or_default() += many;
        }
    }
}

/// Runs the seeds. `progress` is told after each how many are done and how many failed; `false` ends the hunt.
pub fn hunt(hunt: Hunt, progress: &(dyn Fn(u64, usize) -> bool + Sync)) -> Found {
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let found = Mutex::new(Found::default());
    std::thread::scope(|scope| {
        for _ in 0..hunt.jobs.max(1) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= hunt.seeds {
                        return;
                    }
                    let seed = hunt.first.wrapping_add(index);
                    let outcome = run(&Plan::draw(seed), hunt.planted, false);
                    let failed = outcome.violation.is_some();
                    let (done, failures) = {
                        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                        found.add(seed, outcome.violation, &outcome.coverage);
                        (found.seeds, found.violations.len())
                    };
                    if !progress(done, failures) || (failed && hunt.stop_early) {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.violations.sort_by_key(|(seed, _)| *seed);
    found
}
