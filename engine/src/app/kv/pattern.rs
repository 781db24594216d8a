//! Bytes that follow from a seed: what a preloaded record holds, and what a checker can tell from any other bytes.

/// Fills `bytes` with the pattern of `seed`.
pub fn fill(seed: u64, bytes: &mut [u8]) {
    let (words, rest) = bytes.as_chunks_mut();
    let mut number = 0;
    for bytes in words {
        number += 1;
        *bytes = word(seed, number).to_le_bytes();
    }
    rest.copy_from_slice(&word(seed, number + 1).to_le_bytes()[..rest.len()]);
}

/// Whether `bytes` are what [`fill`] gives for `seed`.
#[must_use]
pub fn matches(seed: u64, bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks();
    let last = words.len() as u64 + 1;
    words.iter().zip(1..last).all(|(bytes, number)| *bytes == word(seed, number).to_le_bytes())
        && *rest == word(seed, last).to_le_bytes()[..rest.len()]
}

/// Output `number` (from 1) of the `SplitMix64` generator with this seed (Steele, Lea & Flood, OOPSLA'14).
#[must_use]
pub const fn word(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_add(number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_published_generator() {
        // The first outputs of SplitMix64 for the seed 1234567 (as in the public reference implementation).
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([1, 2, 3].map(|number| word(1_234_567, number)), expected);
    }

    #[test]
    fn a_pattern_matches_its_seed_only() {
        for length in [0, 1, 7, 8, 9, 100] {
            let mut bytes = vec![0; length];
            fill(5, &mut bytes);
            assert!(matches(5, &bytes));
            assert_eq!(matches(6, &bytes), length == 0);
            if let Some(last) = bytes.last_mut() {
                *last ^= 1;
                assert!(!matches(5, &bytes));
            }
        }
    }
}
