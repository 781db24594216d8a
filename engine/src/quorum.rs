//! Quorum sizes, computed from n and f and never written as 2f+1.

use crate::limits::{REPLICAS_MAX, REPLICAS_MIN};
use crate::types::{ReplicaId, View};

/// The sizes that decide what a set of votes proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorums {
    n: usize,
    f: usize,
    q: usize,
}

impl Quorums {
    /// Quorums of `n` replicas, of which `f = floor((n − 1) / 3)` may be faulty. `None` if n is outside
    /// [`REPLICAS_MIN`]..=[`REPLICAS_MAX`].
    #[must_use]
    pub const fn new(n: usize) -> Option<Self> {
        if n < REPLICAS_MIN || n > REPLICAS_MAX {
            return None;
        }
        let f = (n - 1) / 3;
        Some(Self { n, f, q: (n + f + 1).div_ceil(2) })
    }

    /// The mistake of [`Planted::QuorumOffByOne`](crate::protocol::planted::Planted): Q is one smaller than it is.
    pub(crate) const fn off_by_one(self) -> Self {
        Self { q: self.q - 1, ..self }
    }

    /// The number of replicas.
    #[must_use]
    pub const fn n(self) -> usize {
        self.n
    }

    /// How many replicas may be faulty.
    #[must_use]
    pub const fn f(self) -> usize {
        self.f
    }

    /// Q = ceil((n + f + 1) / 2): any two quorums share a correct replica.
    #[must_use]
    pub const fn quorum(self) -> usize {
        self.q
    }

    /// f + 1: at least one of them is correct. A reply quorum, and what vouches for a digest.
    #[must_use]
    pub const fn weak(self) -> usize {
        self.f + 1
    }

    /// The primary of `view`.
    #[must_use]
    pub const fn primary(self, view: View) -> ReplicaId {
        view.primary(self.n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quorums_follow_from_n_and_f() {
        // n, f, Q, weak
        for (n, f, q, weak) in [(4, 1, 3, 2), (5, 1, 4, 2), (6, 1, 4, 2), (7, 2, 5, 3), (10, 3, 7, 4), (64, 21, 43, 22)]
        {
            let quorums = Quorums::new(n).unwrap();
            assert_eq!((quorums.f(), quorums.quorum(), quorums.weak()), (f, q, weak), "n = {n}");
        }
    }

    #[test]
    fn two_quorums_share_a_correct_replica_and_one_exists_without_the_faulty() {
        for n in REPLICAS_MIN..=REPLICAS_MAX {
            let q = Quorums::new(n).unwrap();
            assert!(2 * q.quorum() - n > q.f(), "n = {n}: intersection");
            assert!(q.quorum() <= n - q.f(), "n = {n}: availability");
        }
        assert_eq!(Quorums::new(REPLICAS_MIN - 1), None);
        assert_eq!(Quorums::new(REPLICAS_MAX + 1), None);
    }
}
