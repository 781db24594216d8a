//! Chance, all of it from one seed.
//!
//! Every part of a simulated world draws from a stream of its own, so that a plan which lacks one fault still meets the
//! others as they were: shrinking depends on that.

/// A stream of numbers: splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The stream number `index` of those called `name` under `seed`.
    pub(crate) fn new(seed: u64, name: &str, index: u64) -> Self {
        let mut mixed = Self(seed ^ 0x5851_f42d_4c95_7f2d);
        for byte in name.bytes() {
            mixed.0 = mixed.next() ^ u64::from(byte);
        }
        mixed.0 = mixed.next() ^ index;
        Self(mixed.next())
    }

    /// The next number.
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 if that is 0.
    pub(crate) const fn below(&mut self, bound: u64) -> u64 {
        let next = self.next();
        if bound == 0 { 0 } else { next % bound }
    }

    /// A number from `least` to `most`, both included.
    pub(crate) const fn range(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most.saturating_sub(least) + 1)
    }

    /// Whether something happens that does so `permille` times in a thousand.
    pub(crate) const fn chance(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    /// An index of something with `len` elements.
    #[allow(clippy::cast_possible_truncation, reason = "below a length")]
    pub(crate) const fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// One of `elements`.
    ///
    /// # Panics
    /// If there are none.
    pub(crate) fn pick<T: Copy>(&mut self, elements: &[T]) -> T {
        elements[self.index(elements.len())]
    }

    /// Brings `elements` into any order.
    pub(crate) fn shuffle<T>(&mut self, elements: &mut [T]) {
        for last in (1..elements.len()).rev() {
            elements.swap(last, self.index(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_and_come_again() {
        let first = |seed, name, index| Random::new(seed, name, index).next();
        let mut firsts =
            vec![first(1, "a", 0), first(1, "a", 1), first(1, "b", 0), first(2, "a", 0), first(1, "ab", 0)];
        assert_eq!(firsts[0], first(1, "a", 0));
        firsts.sort_unstable();
        firsts.dedup();
        assert_eq!(firsts.len(), 5);
    }

    #[test]
    fn bounds_hold() {
        let mut random = Random::new(7, "bounds", 0);
        for bound in 1..50 {
            assert!(random.below(bound) < bound);
            assert!((bound..=bound + 3).contains(&random.range(bound, bound + 3)));
        }
        assert_eq!(random.below(0), 0);
        assert!(!random.chance(0) && random.chance(1000));
    }
}
