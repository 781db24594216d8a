//! Sets of replicas, a bit of a word each.

use crate::limits::REPLICAS_MAX;
use crate::types::ReplicaId;

/// The set that holds `replica` alone.
pub(super) const fn set_of(replica: ReplicaId) -> u64 {
    1 << replica.0
}

/// The replicas of `set`, in ascending order.
pub(super) fn members(set: u64) -> impl Iterator<Item = ReplicaId> {
    #[allow(clippy::cast_possible_truncation, reason = "REPLICAS_MAX is 64")]
    (0..REPLICAS_MAX as u16).map(ReplicaId).filter(move |replica| set & set_of(*replica) != 0)
}

/// How many replicas `set` has.
pub(super) const fn size(set: u64) -> usize {
    set.count_ones() as usize
}
