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
    /// Of the seeds: those in which a Byzantine replica lied.
    pub lied: u64,
    /// Those in which twins contradicted each other.
    pub contradicted: u64,
    /// Those in which a faulty client did harm.
    pub did_harm: u64,
    /// Those with a view change.
    pub view_changes: u64,
    /// Those in which a new view assigned batches of earlier ones again.
    pub reassigning: u64,
    /// Those in which something prepared went through two view changes in a row.
    pub prepared_twice: u64,
    /// Those in which several requests were proven as one group.
    pub grouped: u64,
    /// Those in which a batch was proposed with a part of such a group.
    pub parted: u64,
    /// Those in which batches were proposed by digests.
    pub by_digests: u64,
    /// Those in which a replica lacked requests of such a batch and was sent them.
    pub supplied: u64,
    /// Those in which a Byzantine replica sent bodies before anybody had asked for them.
    pub early_bodies: u64,
    /// Those in which batches were executed before they were committed.
    pub tentative: u64,
    /// Those in which some were undone.
    pub rolled_back: u64,
    /// Those in which a replica took over a state.
    pub transfers: u64,
    /// Those in which it did so chunk by chunk.
    pub chunked: u64,
    /// Those in which a replica's log went ahead of its state.
    pub ahead: u64,
    /// Those in which a process died.
    pub crashed: u64,
    /// Those in which all honest processes died at once.
    pub power_failed: u64,
    /// Those with a partition.
    pub partitioned: u64,
    /// Those in which a quorum answered reads.
    pub read_only: u64,
    /// Those in which reads fell back to being ordered.
    pub fell_back: u64,
    /// Those in which results came as digests.
    pub digested: u64,
    /// Those in which digests stood for the replies to whole batches.
    pub batch_digested: u64,
    /// Those in which clients asked again for want of such replies.
    pub missed: u64,
    /// Those whose liveness was not judged, ascending: see [`Coverage::unjudged`].
    pub unjudged: Vec<u64>,
    /// How long clusters took to recover once the network had healed.
    pub recoveries: Vec<Recovery>,
    /// The longest of them, in nanoseconds, and its seed.
    pub slowest: Option<(u64, u64)>,
    /// Everything that the runs met, added up.
    pub total: Coverage,
}

/// How long one cluster took from the network's healing until all was well.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recovery {
    /// In nanoseconds of the simulated world.
    pub ns: u64,
    /// In view time-outs of the plan.
    pub view_timeouts: f64,
}

impl Found {
    fn add(&mut self, seed: u64, violation: Option<Violation>, met: &Coverage) {
        self.seeds += 1;
        self.violations.extend(violation.map(|violation| (seed, violation)));
        for (seeds, has) in [
            (&mut self.lied, met.lies > 0),
            (&mut self.contradicted, met.contradictions > 0),
            (&mut self.did_harm, met.hostile_requests > 0),
            (&mut self.view_changes, met.changed_view()),
            (&mut self.reassigning, met.reassigning_views > 0),
            (&mut self.prepared_twice, met.prepared_told_again > 0),
            (&mut self.grouped, met.grouped > 0),
            (&mut self.parted, met.parted > 0),
            (&mut self.by_digests, met.by_digests > 0),
            (&mut self.supplied, met.supplied > 0),
            (&mut self.early_bodies, met.early_bodies > 0),
            (&mut self.tentative, met.tentative > 0),
            (&mut self.rolled_back, met.rolled_back > 0),
            (&mut self.transfers, met.states_installed > 0),
            (&mut self.chunked, met.states_of_chunks > 0),
            (&mut self.ahead, met.went_ahead > 0),
            (&mut self.crashed, met.crashes > 0),
            (&mut self.power_failed, met.power_failures > 0),
            (&mut self.partitioned, met.partitions > 0),
            (&mut self.read_only, met.reads > 0),
            (&mut self.fell_back, met.reads_fallen_back > 0),
            (&mut self.digested, met.digests > 0),
            (&mut self.batch_digested, met.batch_digests > 0),
            (&mut self.missed, met.missing_replies > 0),
        ] {
            *seeds += u64::from(has);
        }
        self.unjudged.extend(met.unjudged.then_some(seed));
        #[allow(clippy::cast_precision_loss, reason = "shown with fewer digits")]
        let recovery = |ns| Recovery { ns, view_timeouts: ns as f64 / met.view_timeout_ns.max(1) as f64 };
        self.recoveries.extend(met.recovery_ns.map(recovery));
        self.slowest = self.slowest.max(met.recovery_ns.map(|ns| (ns, seed)));
        self.add_up(met);
    }

    fn add_up(&mut self, met: &Coverage) {
        let total = &mut self.total;
        for (sum, part) in [
            (&mut total.lies, met.lies),
            (&mut total.contradictions, met.contradictions),
            (&mut total.hostile_requests, met.hostile_requests),
            (&mut total.crashes, met.crashes),
            (&mut total.restarts, met.restarts),
            (&mut total.forgetful, met.forgetful),
            (&mut total.power_failures, met.power_failures),
            (&mut total.unsynced_records_lost, met.unsynced_records_lost),
            (&mut total.partitions, met.partitions),
            (&mut total.pauses, met.pauses),
            (&mut total.views_entered, met.views_entered),
            (&mut total.prepared_told, met.prepared_told),
            (&mut total.prepared_told_again, met.prepared_told_again),
            (&mut total.reassigning_views, met.reassigning_views),
            (&mut total.null_requests, met.null_requests),
            (&mut total.grouped, met.grouped),
            (&mut total.parted, met.parted),
            (&mut total.by_digests, met.by_digests),
            (&mut total.supplied, met.supplied),
            (&mut total.early_bodies, met.early_bodies),
            (&mut total.tentative, met.tentative),
            (&mut total.rolled_back, met.rolled_back),
            (&mut total.promised, met.promised),
            (&mut total.states_installed, met.states_installed),
            (&mut total.states_of_chunks, met.states_of_chunks),
            (&mut total.went_ahead, met.went_ahead),
            (&mut total.reads, met.reads),
            (&mut total.reads_fallen_back, met.reads_fallen_back),
            (&mut total.digests, met.digests),
            (&mut total.batch_digests, met.batch_digests),
            (&mut total.missing_replies, met.missing_replies),
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

    /// How long clusters took to recover at this quantile, in view time-outs and, by itself, in nanoseconds; `None` if
    /// none did.
    #[must_use]
    pub fn recovery(&self, quantile: f64) -> Option<Recovery> {
        let last = self.recoveries.len().checked_sub(1)?;
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index below a length"
        )]
        let index = (last as f64 * quantile.clamp(0.0, 1.0)).round() as usize;
        let mut ns: Vec<u64> = self.recoveries.iter().map(|recovery| recovery.ns).collect();
        let mut view_timeouts: Vec<f64> = self.recoveries.iter().map(|recovery| recovery.view_timeouts).collect();
        ns.sort_unstable();
        view_timeouts.sort_unstable_by(f64::total_cmp);
        Some(Recovery { ns: ns[index], view_timeouts: view_timeouts[index] })
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
    found.unjudged.sort_unstable();
    found
}
