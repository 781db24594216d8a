//! Claims sorted by who is said to have made them.

use crate::auth::Check;
use crate::types::NodeId;

/// An order of claims in which those of the same signer are next to each other. Keeps its memory from call to call.
#[derive(Debug, Default)]
pub struct BySigner {
    order: Vec<u32>,
    /// Where in `order` each signer's claims start.
    starts: Vec<usize>,
}

impl BySigner {
    /// Sorts those of `checks` whose signer is one of `nodes` and whose proof takes `proof_bytes` (a counting sort).
    ///
    /// # Panics
    /// If there are 2³² claims, which do not fit in memory.
    pub fn sort(&mut self, checks: &[Check<'_>], nodes: usize, proof_bytes: usize) {
        let signer = |check: &Check<'_>| {
            Some(usize::from(check.signer.0)).filter(|&signer| signer < nodes && check.proof.len() == proof_bytes)
        };
        self.starts.clear();
        self.starts.resize(nodes + 2, 0);
        self.order.clear();
        // The usual case: what a client node said of its requests.
        if let Some(only) = checks.first().and_then(signer)
            && checks.iter().all(|check| signer(check) == Some(only))
        {
            self.starts[only + 1..].fill(checks.len());
            self.order.extend(0..u32::try_from(checks.len()).expect("fewer than 2^32 checks fit in memory"));
            return;
        }
        // Counted two places up, so that the starts come out one place up, and placing the indices moves them down.
        for signer in checks.iter().filter_map(signer) {
            self.starts[signer + 2] += 1;
        }
        for node in 1..self.starts.len() {
            self.starts[node] += self.starts[node - 1];
        }
        self.order.resize(self.starts[nodes + 1], 0);
        for (index, check) in checks.iter().enumerate() {
            let Some(signer) = signer(check) else { continue };
            let at = &mut self.starts[signer + 1];
            self.order[*at] = u32::try_from(index).expect("fewer than 2^32 checks fit in memory");
            *at += 1;
        }
    }

    /// Each signer with the indices of its claims, in order.
    #[allow(clippy::cast_possible_truncation, reason = "nodes are numbered by u16")]
    pub fn signers(&self) -> impl Iterator<Item = (NodeId, &[u32])> {
        let bounds = self.starts.windows(2).take(self.starts.len().saturating_sub(2));
        bounds.enumerate().map(|(signer, bounds)| (NodeId(signer as u16), &self.order[bounds[0]..bounds[1]]))
    }
}
