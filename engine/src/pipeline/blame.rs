//! Blame: who has sent bad proofs lately, and what that costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::types::NodeId;

/// A suspect gets this part of what another one gets: of the turns at the [intake](crate::pipeline::intake), and of the
/// checks in a verify stage's slice.
pub const SUSPECT_FRACTION: u16 = 8;
/// So many good requests make up for a bad one.
const FORGIVEN_AFTER: u32 = 4096;

/// Who has sent bad proofs, shared by the network and all verify stages: it is checked apart from the others, and less.
#[derive(Clone, Debug)]
pub struct Blame(Arc<[AtomicU32]>);

impl Blame {
    /// Nobody of `nodes` is to blame.
    #[must_use]
    pub fn new(nodes: usize) -> Self {
        Self((0..nodes).map(|_| AtomicU32::new(0)).collect())
    }

    /// Whether this node has sent bad proofs lately.
    #[must_use]
    pub fn is_suspect(&self, node: NodeId) -> bool {
        self.0.get(usize::from(node.0)).is_some_and(|left| left.load(Ordering::Relaxed) > 0)
    }

    /// Notes what became of requests that this node has sent.
    pub fn note(&self, node: NodeId, good: usize, bad: usize) {
        let Some(left) = self.0.get(usize::from(node.0)) else { return };
        if bad > 0 {
            left.store(FORGIVEN_AFTER, Ordering::Relaxed);
            return;
        }
        if left.load(Ordering::Relaxed) > 0 {
            let good = u32::try_from(good).unwrap_or(u32::MAX);
            let forgive = |left: u32| Some(left.saturating_sub(good));
            let _ = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, forgive);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blame_is_forgiven_for_good_requests_and_not_for_less() {
        let blame = Blame::new(6);
        blame.note(NodeId(4), 5, 1);
        blame.note(NodeId(5), 5, 0);
        assert!(blame.is_suspect(NodeId(4)) && !blame.is_suspect(NodeId(5)));
        blame.note(NodeId(4), FORGIVEN_AFTER as usize - 1, 0);
        assert!(blame.is_suspect(NodeId(4)));
        blame.note(NodeId(4), 0, 0);
        assert!(blame.is_suspect(NodeId(4)));
        blame.note(NodeId(4), 1, 0);
        assert!(!blame.is_suspect(NodeId(4)));
        blame.note(NodeId(99), 0, 1);
        assert!(!blame.is_suspect(NodeId(99)));
    }
}
