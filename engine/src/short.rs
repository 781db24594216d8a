//! Copying and comparing pieces of a few bytes.
//!
//! Most operations and results have some dozen bytes of a length that is not known before. The standard library copies
//! and compares those by calls of `memcpy` and `memcmp`, which cost more than the work; here the first and the last
//! bytes are taken in two loads, which overlap where there are fewer in between. Up to 16 bytes these are words, since
//! pieces are written in words: a load that is wider than the stores before it is not forwarded from them, and stalls.

/// Copies all of `from` to `to`.
///
/// # Panics
/// If they differ in length.
#[inline]
pub fn copy(from: &[u8], to: &mut [u8]) {
    assert_eq!(from.len(), to.len(), "as many bytes");
    match from.len() {
        17..=32 => copy_ends::<16>(from, to),
        8..=16 => copy_ends::<8>(from, to),
        _ => to.copy_from_slice(from),
    }
}

/// Appends all of `from` to `to`; 16 bytes, the usual length of operations here, as two words.
#[inline]
pub fn append(from: &[u8], to: &mut Vec<u8>) {
    if let Ok(from) = <&[u8; 16]>::try_from(from) {
        let (words, _) = from.as_chunks::<8>();
        words.iter().for_each(|word| to.extend_from_slice(word));
    } else {
        to.extend_from_slice(from);
    }
}

/// Whether both have the same bytes.
#[inline]
#[must_use]
pub fn equal(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len()
        && match one.len() {
            17..=32 => equal_ends::<16>(one, other),
            8..=16 => equal_ends::<8>(one, other),
            _ => one == other,
        }
}

#[inline]
fn copy_ends<const N: usize>(from: &[u8], to: &mut [u8]) {
    if let (Some(first), Some(place)) = (from.first_chunk::<N>(), to.first_chunk_mut::<N>()) {
        *place = *first;
    }
    if let (Some(last), Some(place)) = (from.last_chunk::<N>(), to.last_chunk_mut::<N>()) {
        *place = *last;
    }
}

#[inline]
fn equal_ends<const N: usize>(one: &[u8], other: &[u8]) -> bool {
    one.first_chunk::<N>() == other.first_chunk::<N>() && one.last_chunk::<N>() == other.last_chunk::<N>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_copied_and_every_byte_counts() {
        for length in 0..70_u8 {
            let from: Vec<u8> = (1..=length).collect();
            let mut to = vec![0; from.len()];
            copy(&from, &mut to);
            assert_eq!(to, from);
            assert!(equal(&to, &from));
            for at in 0..from.len() {
                to[at] ^= 0x80;
                assert!(!equal(&to, &from), "byte {at} of {length}");
                to[at] ^= 0x80;
            }
            to.push(0);
            assert!(!equal(&to, &from));
            append(&from, &mut to);
            assert_eq!(to, [&from[..], &[0], &from].concat());
        }
    }

    #[test]
    #[should_panic(expected = "as many bytes")]
    fn what_does_not_fit_is_our_own_error() {
        copy(&[1; 20], &mut [0; 21]);
    }
}
