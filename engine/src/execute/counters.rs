//! What an executor has done, in numbers.

use super::Admission;

/// What an executor has done since its start, or since its state was replaced by another replica's, with what that one
/// had done by then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Operations executed; null requests and duplicates do not count.
    pub operations: u64,
    /// Batches executed, null requests not counted: `operations / batches` is the mean batch size.
    pub batches: u64,
    /// Requests answered from the cache, in batches and recalls.
    pub resent: u64,
    /// Requests dropped because the same table answers them already.
    pub repeated: u64,
    /// Requests that could have been answered from the cache, but not within
    /// [`REPLIES_BYTES_MAX`](crate::limits::REPLIES_BYTES_MAX) a table. Clients ask again.
    pub withheld: u64,
    /// Requests dropped because their client has moved on.
    pub outdated: u64,
    /// Requests dropped because nobody owns their client.
    pub unknown: u64,
    /// Read-only requests answered.
    pub reads: u64,
    /// Read-only requests that could not be: this replica does not answer any, the application wants the operation
    /// ordered, or its result is too long.
    pub reads_refused: u64,
    /// Batches that were executed tentatively and undone.
    pub rolled_back: u64,
}

impl Counters {
    /// Counts a request that was answered from the cache, or could have been.
    pub(super) const fn recalled(&mut self, answered: bool) {
        if answered { self.resent += 1 } else { self.withheld += 1 }
    }

    /// Counts a request that is not answered.
    pub(super) const fn passed_over(&mut self, admission: Admission) {
        match admission {
            Admission::New | Admission::Repeated => {}
            Admission::Answered => self.repeated += 1,
            Admission::Outdated => self.outdated += 1,
            Admission::Unknown => self.unknown += 1,
        }
    }
}
