//! Credit: how much of each node's the verify stages may have at a time, and of its read-only requests the execute
//! stage behind them too.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::auth::Keyring;
use crate::limits::{QUANTA, QUANTA_SIGNED};
use crate::pipeline::intake::{is_signed, quantum};
use crate::types::NodeId;

/// What verify stages have of each node and have not finished, in checks of requests. It is bounded, so that a node
/// whose turn comes finds nothing of another one's in front of it but the slice that is under way. Read-only requests
/// count until they are answered: nothing else bounds what one node has in front of others there.
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
        let quanta = if is_signed(keyring) { QUANTA_SIGNED } else { QUANTA };
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

    /// So much of what was taken, given back when it is dropped.
    #[must_use]
    pub fn lend(&self, node: NodeId, cost: u32) -> Loan {
        Loan { credit: self.clone(), node, cost }
    }

    /// A verify stage has finished so much.
    pub fn give_back(&self, node: NodeId, cost: u32) {
        if let Some(taken) = self.taken.get(usize::from(node.0)) {
            taken.fetch_sub(cost, Ordering::Relaxed);
        }
    }
}

/// Credit that goes with work past the verify stage, and comes back where that is done, or given up.
#[derive(Debug)]
pub struct Loan {
    credit: Credit,
    node: NodeId,
    cost: u32,
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.credit.give_back(self.node, self.cost);
    }
}

#[cfg(test)]
impl Credit {
    /// What verify stages have of this node's.
    pub(crate) fn taken(&self, node: NodeId) -> u32 {
        self.taken[usize::from(node.0)].load(Ordering::Relaxed)
    }
}
