//! Bugs planted on purpose: what shows that a hunt which finds nothing is worth something.

use std::time::{Duration, Instant};

use hippodrome_engine::protocol::planted::Planted;

use crate::check::{Checker, Violation};
use crate::hunt::{Hunt, hunt};
use crate::plan::Plan;
use crate::run::run;

/// How one planted bug fared.
#[derive(Clone, Debug)]
pub struct Mutant {
    /// The bug.
    pub planted: Planted,
    /// The first seed that shows it, and how.
    pub found: Option<(u64, Violation)>,
    /// How long that took.
    pub took: Duration,
}

/// What must be refused because of this bug. Another checker may come first in some seed, by a consequence far away
/// from the bug; that shows nothing about the checkers that are there for it.
#[must_use]
pub const fn expected(planted: Planted) -> &'static [Checker] {
    match planted {
        Planted::QuorumOffByOne => &[Checker::Agreement, Checker::Certificates, Checker::Durability],
        // A debug build asserts that a position lies in the window, and so falls over first.
        Planted::WatermarkUnchecked if cfg!(debug_assertions) => &[Checker::Agreement, Checker::Panic],
        Planted::WatermarkUnchecked => &[Checker::Agreement],
        Planted::PreparedStateDropped => &[Checker::ViewChange],
        Planted::DuplicateExecution => &[Checker::ExactlyOnce, Checker::Replies],
        Planted::CommitUnprepared => &[Checker::Certificates, Checker::Agreement],
        Planted::VoteCountedTwice | Planted::PrimaryPrepares => {
            &[Checker::Certificates, Checker::Agreement, Checker::Durability]
        }
        // Stale votes make wrong certificates, and stand in the way of right ones for good.
        Planted::StaleCertificate => &[Checker::Certificates, Checker::Agreement, Checker::Liveness],
        // Replicas execute different operations under one digest.
        Planted::BodyByTimestamp => &[Checker::Agreement],
        Planted::CheckpointLie => &[Checker::Agreement],
        Planted::SignatureRules => &[Checker::Verdicts],
        Planted::VoteBeforeDurable | Planted::RecoveredUnsynced => {
            &[Checker::Consistency, Checker::ViewChange, Checker::Durability]
        }
        Planted::ReadQuorumWeak | Planted::WriteQuorumWeak => &[Checker::Linearizability],
        // Somebody is told of what comes to nothing.
        Planted::TentativeQuorumWeak => &[Checker::Durability, Checker::RealTime, Checker::Linearizability],
        // A liar is believed.
        Planted::BatchQuorumWeak => &[Checker::Replies],
        // States come to differ, and so does what they give.
        Planted::RollBackForgotten => &[Checker::Agreement, Checker::Replies],
        Planted::TimerForgotten => &[Checker::Liveness],
    }
}

/// Looks for one planted bug in up to `seeds` seeds from `first` on, until one of the [expected] checkers finds it. A
/// seed that fails without the bug as well shows nothing. `progress` as for a [hunt].
pub fn find(
    planted: Planted,
    first: u64,
    seeds: u64,
    jobs: usize,
    progress: &(dyn Fn(u64, usize) -> bool + Sync),
) -> Mutant {
    let began = Instant::now();
    let mut next = first;
    let last = first.saturating_add(seeds);
    let found = loop {
        let rest = Hunt { first: next, seeds: last - next, jobs, planted: Some(planted), stop_early: true };
        let shown = hunt(rest, &|done, failures| progress(next - first + done, failures)).violations.into_iter().next();
        match shown {
            Some((seed, violation)) => {
                let counts = expected(planted).contains(&violation.checker)
                    && run(&Plan::draw(seed), None, false).violation.is_none();
                if counts {
                    break Some((seed, violation));
                }
                next = seed + 1;
            }
            None => break None,
        }
    };
    Mutant { planted, found, took: began.elapsed() }
}
