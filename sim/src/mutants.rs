//! Bugs planted on purpose: what shows that a hunt which finds nothing is worth something.

use std::time::{Duration, Instant};

use hippodrome_engine::protocol::planted::Planted;

use crate::check::Violation;
use crate::hunt::{Hunt, hunt};

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

/// Looks for one planted bug in up to `seeds` seeds from `first` on. `progress` as for a [hunt].
pub fn find(
    planted: Planted,
    first: u64,
    seeds: u64,
    jobs: usize,
    progress: &(dyn Fn(u64, usize) -> bool + Sync),
) -> Mutant {
    let began = Instant::now();
    let found = hunt(Hunt { first, seeds, jobs, planted: Some(planted), stop_early: true }, progress);
    Mutant { planted, found: found.violations.into_iter().next(), took: began.elapsed() }
}
