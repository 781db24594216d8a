//! Makes a plan that fails smaller, as long as it fails in the same way.

use hippodrome_engine::protocol::planted::Planted;
use hippodrome_engine::settings::options::{Dissemination, ExecutionChoice, Granularity, Reads, Replies};

use crate::check::Checker;
use crate::plan::Plan;
use crate::run::run;

/// Runs that shrinking may take, at most.
pub const RUNS_MAX: usize = 400;

/// A smaller plan that `checker` refuses as well; `plan` itself if there is none. `progress` is told after each run how
/// many there were.
pub fn shrink(plan: &Plan, planted: Option<Planted>, checker: Checker, progress: &mut dyn FnMut(usize)) -> Plan {
    let mut best = plan.clone();
    let mut runs = 0;
    loop {
        let smaller = candidates(&best).into_iter().find(|candidate| {
            if runs == RUNS_MAX || candidate.check().is_err() {
                return false;
            }
            runs += 1;
            progress(runs);
            let violation = run(candidate, planted, false).violation;
            violation.is_some_and(|violation| violation.checker == checker)
        });
        match smaller {
            Some(smaller) => best = smaller,
            None => return best,
        }
    }
}

/// Plans that are a little smaller, the boldest first.
fn candidates(plan: &Plan) -> Vec<Plan> {
    let mut all = Vec::new();
    let mut with = |change: &dyn Fn(&mut Plan)| {
        let mut candidate = plan.clone();
        change(&mut candidate);
        if candidate != *plan {
            all.push(candidate);
        }
    };
    with(&|plan| plan.timeline.clear());
    with(&|plan| plan.faulty.clear());
    with(&|plan| plan.hostile.clear());
    for index in 0..plan.timeline.len() {
        with(&|plan| drop(plan.timeline.remove(index)));
    }
    for index in 0..plan.faulty.len() {
        with(&|plan| drop(plan.faulty.remove(index)));
        with(&|plan| plan.faulty[index].twins = false);
        with(&|plan| plan.faulty[index].false_state = false);
        with(&|plan| plan.faulty[index].stale_reads = false);
        with(&|plan| plan.faulty[index].mutate_permille = 0);
        for kind in 0..plan.faulty[index].kinds.len() {
            with(&|plan| {
                plan.faulty[index].kinds.remove(kind);
            });
        }
    }
    for index in 0..plan.hostile.len() {
        with(&|plan| {
            plan.hostile.remove(index);
        });
    }
    with(&|plan| plan.clients.count = 1);
    with(&|plan| plan.clients.count = plan.clients.count.saturating_sub(1).max(1));
    with(&|plan| plan.clients.operations /= 2);
    with(&|plan| plan.clients.operations = plan.clients.operations.saturating_sub(1));
    with(&|plan| plan.disk = None);
    with(&|plan| plan.network.loss_permille = 0);
    with(&|plan| plan.network.repeat_permille = 0);
    with(&|plan| plan.network.stray_permille = 0);
    with(&|plan| plan.network.drift_ppm = 0);
    with(&|plan| plan.network.ordered = true);
    with(&|plan| plan.network.delay_max_ns = plan.network.delay_min_ns);
    with(&|plan| plan.batching = "none".parse().expect("a strategy"));
    with(&|plan| plan.auth_granularity = Granularity::Request);
    with(&|plan| plan.dissemination = Dissemination::Inline);
    with(&|plan| plan.execution = ExecutionChoice::Committed);
    with(&|plan| plan.signed_requests = false);
    with(&|plan| plan.replies = Replies::Full);
    with(&|plan| plan.reads = Reads::Ordered);
    with(&|plan| plan.history_batches = 4096);
    with(&|plan| plan.chunk_bytes = 1 << 20);
    with(&|plan| shorten(plan));
    for index in 0..plan.timeline.len() {
        with(&|plan| plan.timeline[index].for_ns /= 2);
    }
    all
}

/// The network heals earlier: just after the last fault, or halfway if there is none.
fn shorten(plan: &mut Plan) {
    let last = plan.timeline.iter().map(|fault| fault.at_ns + fault.for_ns).max();
    plan.heal_ns = plan.heal_ns.min(last.map_or(plan.heal_ns / 2, |last| last + 1_000_000)).max(1_000_000);
}
