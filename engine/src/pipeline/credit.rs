//! Credit: how much of each node's a verify stage may have at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::auth::Keyring;
use crate::limits::{QUANTA, QUANTA_SIGNED, QUANTUM_SIGNED};
use crate::pipeline::intake::quantum;
use crate::types::NodeId;

/// What verify stages have of each node and have not finished, in checks of requests. It is bounded, so that a node whose
/// turn comes finds nothing of another one's in front of it but the slice that is under way.
#[derive(Clone, Debug)]
pub struct Credit {
    taken: Arc<[AtomicU32]>,
    most: u32,
}

impl Credit {
    /// Of no node anything is under way at any of `stages` verify stages.
    #[must_use]
    pub fn new(keyring: &Keyring, stages: usize) -> Self {
        let quantum = quantum(keyring);
        let quanta = if quantum == QUANTUM_SIGNED { QUANTA_SIGNED } else { QUANTA };
        let stages = u32::try_from(stages).unwrap_or(u32::MAX);
        let taken = (0..keyring.nodes()).map(|_| AtomicU32::new(0)).collect();
        Self { taken, most: quantum.saturating_mul(quanta).saturating_mul(stages) }
    }

    /// Whether verify stages may get more of this node's.
    #[must_use]
    pub fn is_left(&self, node: NodeId) -> bool {
        self.taken.get(usize::from(node.0)).is_some_and(|taken| taken.load(Ordering::Relaxed) < self.most)
    }

    /// Verify stages get so much more, whatever is left.
    pub fn take(&self, node: NodeId, cost: u32) {
        if let Some(taken) = self.taken.get(usize::from(node.0)) {
            taken.fetch_add(cost, Ordering::Relaxed);
        }
    }

    /// A verify stage has finished so much.
    pub fn give_back(&self, node: NodeId, cost: u32) {
        if let Some(taken) = self.taken.get(usize::from(node.0)) {
            taken.fetch_sub(cost, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
impl Credit {
    /// What verify stages have of this node's.
    pub(crate) fn taken(&self, node: NodeId) -> u32 {
        self.taken[usize::from(node.0)].load(Ordering::Relaxed)
    }
}
