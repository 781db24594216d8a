//! Operations in each tenth of a second: fine enough to see how deep a fault cuts and how soon the cluster is back.

/// Length of a tenth of a second, ns.
pub const TENTH_NS: u64 = 100_000_000;

/// Operations that were completed in each tenth of a second since the load began, those without any included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tenths(Vec<u64>);

impl Tenths {
    /// Counts one operation that was completed `since_start_ns` after the load began.
    #[inline]
    pub fn count(&mut self, since_start_ns: u64) {
        #[allow(clippy::cast_possible_truncation, reason = "ten a second")]
        let index = (since_start_ns / TENTH_NS) as usize;
        if index >= self.0.len() {
            self.0.resize(index + 1, 0);
        }
        self.0[index] += 1;
    }

    /// Adds what another thread counted.
    pub fn add(&mut self, other: &Self) {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        for (total, part) in self.0.iter_mut().zip(&other.0) {
            *total += part;
        }
    }

    /// The counts, from the start of the load to the last operation.
    #[must_use]
    pub fn into_counts(self) -> Vec<u64> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenths_without_operations_are_kept_and_threads_add_up() {
        let mut first = Tenths::default();
        [0, TENTH_NS - 1, TENTH_NS, 4 * TENTH_NS].into_iter().for_each(|at| first.count(at));
        let mut second = Tenths::default();
        [3 * TENTH_NS + 5, 5 * TENTH_NS].into_iter().for_each(|at| second.count(at));
        let mut sum = second.clone();
        sum.add(&first);
        first.add(&second);
        assert_eq!(first, sum);
        assert_eq!(sum.into_counts(), [2, 1, 0, 1, 1, 1]);
    }
}
