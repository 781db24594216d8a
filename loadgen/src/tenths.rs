//! Operations in each tenth of a second: fine enough to see how deep a fault cuts and how soon the cluster is back.

/// Length of a tenth of a second, ns.
pub const TENTH_NS: u64 = 100_000_000;

/// Operations that were completed in each tenth of a second since the load began, those without any included.
#[derive(Clone, Debug, Default)]
pub struct Tenths {
    counts: Vec<u64>,
    /// The one that was counted last.
    last: usize,
    /// When that began, ns after the load did.
    last_began_ns: u64,
}

impl Tenths {
    /// Counts one operation that was completed `since_start_ns` after the load began.
    #[inline]
    pub fn count(&mut self, since_start_ns: u64) {
        match self.counts.get_mut(self.last) {
            Some(count) if since_start_ns.wrapping_sub(self.last_began_ns) < TENTH_NS => *count += 1,
            _ => self.count_elsewhere(since_start_ns),
        }
    }

    #[cold]
    fn count_elsewhere(&mut self, since_start_ns: u64) {
        let tenth = since_start_ns / TENTH_NS;
        #[allow(clippy::cast_possible_truncation, reason = "ten a second")]
        let index = tenth as usize;
        (self.last, self.last_began_ns) = (index, tenth * TENTH_NS);
        if index >= self.counts.len() {
            self.counts.resize(index + 1, 0);
        }
        self.counts[index] += 1;
    }

    /// Adds what another thread counted.
    pub fn add(&mut self, other: &Self) {
        self.counts.resize(self.counts.len().max(other.counts.len()), 0);
        for (total, part) in self.counts.iter_mut().zip(&other.counts) {
            *total += part;
        }
    }

    /// The counts, from the start of the load to the last operation.
    #[must_use]
    pub fn into_counts(self) -> Vec<u64> {
        self.counts
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
        [5 * TENTH_NS, 3 * TENTH_NS + 5].into_iter().for_each(|at| second.count(at));
        let mut sum = second.clone();
        sum.add(&first);
        first.add(&second);
        assert_eq!([first, sum].map(Tenths::into_counts), [[2, 1, 0, 1, 1, 1]; 2]);
    }
}
