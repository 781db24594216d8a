//! Bugs planted on purpose: what shows that a hunt which finds nothing is worth something.

use std::time::{Duration, Instant};

use hippodrome_engine::protocol::planted::Planted;

use crate::check::Violation;
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

/// Looks for one planted bug in up to `seeds` seeds from `first` on. A seed that fails without the bug as well shows
/// nothing. `progress` as for a [hunt].
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
            Some((seed, _)) if run(&Plan::draw(seed), None, false).violation.is_some() => next = seed + 1,
            shown => break shown,
        }
    };
    Mutant { planted, found, took: began.elapsed() }
}
