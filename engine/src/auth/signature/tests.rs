//! Torsion vectors and random corruptions: single and batch verification always give the same verdict, the rule's.

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use ed25519_dalek::{Signer as _, SigningKey};
use proptest::prelude::*;

use super::*;

mod cost;

pub(in crate::auth) type Entry = (VerifyingKey, Vec<u8>, [u8; 64]);

/// ℓ, the order of the base point, little endian.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, //
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

pub(in crate::auth) fn signer(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(in crate::auth) fn honest(seed: u8) -> Entry {
    let (key, message) = (signer(seed), vec![seed; 64]);
    let signature = key.sign(&message).to_bytes();
    (key.verifying_key(), message, signature)
}

/// A signature by the key's owner whose R is r·B + T, in the encoding `encode` gives it.
pub(in crate::auth) fn with_torsion(seed: u8, torsion: EdwardsPoint) -> Entry {
    let (key, message) = (signer(seed), vec![seed; 64]);
    let r = Scalar::from(u64::from(seed) + 12345);
    sign_with(&key, message, r, (ED25519_BASEPOINT_POINT * r + torsion).compress().0)
}

pub(in crate::auth) fn sign_with(key: &SigningKey, message: Vec<u8>, r: Scalar, r_bytes: [u8; 32]) -> Entry {
    let hash = Sha512::new().chain_update(r_bytes).chain_update(key.verifying_key().as_bytes()).chain_update(&message);
    let k = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&r_bytes);
    signature[32..].copy_from_slice((r + k * key.to_scalar()).as_bytes());
    (key.verifying_key(), message, signature)
}

/// The verdicts of one rule about a batch.
pub(in crate::auth) fn batch<R: Rule>(entries: &[Entry]) -> Vec<bool> {
    batch_in_parts::<R>(entries, entries.len().max(1))
}

/// The same in parts of `size`.
fn batch_in_parts<R: Rule>(entries: &[Entry], size: usize) -> Vec<bool> {
    let mut batch = SignatureBatch::<R>::with_capacity(entries.len());
    for part in entries.chunks(size) {
        part.iter().for_each(|(key, message, signature)| batch.push(key, message, signature));
        batch.end_part();
        batch.end_part(); // An empty part is none.
    }
    batch.verify()
}

pub(in crate::auth) fn singles<R: Rule>(entries: &[Entry]) -> Vec<bool> {
    entries.iter().map(|(key, message, signature)| R::verify(key, message, signature)).collect()
}

#[test]
fn a_nonce_with_a_torsion_part_is_good_alone_and_in_every_batch() {
    for torsion in EIGHT_TORSION {
        let entry = with_torsion(1, torsion);
        assert!(verify(&entry.0, &entry.1, &entry.2));
        for size in [1, 2, 3, 4, 9, 17] {
            for at in 0..size {
                let mut entries: Vec<_> = (0..size).map(|seed| honest(seed as u8 + 10)).collect();
                entries[at] = entry.clone();
                assert_eq!(batch::<PrimeOrder>(&entries), vec![true; size], "at {at} of {size}");
            }
        }
    }
}

#[test]
fn ed25519_dalek_alone_would_disagree_with_itself() {
    // Torsion parts of order 2 cancel out in a combined check whenever both random factors are odd or both even.
    let mut verdicts = [0, 0];
    for seed in 0..32 {
        let entries = [with_torsion(seed, EIGHT_TORSION[4]), with_torsion(seed + 100, EIGHT_TORSION[4])];
        assert!(entries[0].0.verify(&entries[0].1, &Signature::from_bytes(&entries[0].2)).is_err());
        let messages = [&entries[0].1[..], &entries[1].1[..]];
        let signatures = [Signature::from_bytes(&entries[0].2), Signature::from_bytes(&entries[1].2)];
        let combined = ed25519_dalek::verify_batch(&messages, &signatures, &[entries[0].0, entries[1].0]);
        verdicts[usize::from(combined.is_ok())] += 1;
        assert_eq!((batch::<PrimeOrder>(&entries), singles::<PrimeOrder>(&entries)), (vec![true; 2], vec![true; 2]));
    }
    assert!(verdicts[0] > 0 && verdicts[1] > 0, "{verdicts:?}");
}

#[test]
fn many_torsion_parts_among_bad_signatures_keep_their_verdicts() {
    let mut entries: Vec<_> = (0..60u8).map(|seed| with_torsion(seed, EIGHT_TORSION[usize::from(seed) % 8])).collect();
    for index in [0, 7, 31, 32, 59] {
        entries[index].2[40] ^= 1;
    }
    let verdicts = batch::<PrimeOrder>(&entries);
    assert_eq!(verdicts, singles::<PrimeOrder>(&entries));
    assert_eq!(verdicts.iter().filter(|good| !**good).count(), 5);
}

#[test]
fn good_signatures_that_make_combined_checks_fail_are_told() {
    fn told<R: Rule>(entries: &[Entry]) -> (Vec<bool>, Vec<usize>) {
        let mut batch = SignatureBatch::<R>::with_capacity(entries.len());
        entries.iter().for_each(|(key, message, signature)| batch.push(key, message, signature));
        (batch.verify(), batch.odd().to_vec())
    }
    let mut entries: Vec<_> = (0..20).map(honest).collect();
    let good = vec![true; 20];
    assert_eq!(told::<PrimeOrder>(&entries), (good.clone(), vec![]));
    for at in [3, 17] {
        // Of order 2, so that each combined check with it succeeds with a chance of a half.
        entries[at] = (0..50)
            .map(|seed| with_torsion(seed, EIGHT_TORSION[4]))
            .find(|entry| {
                let alone = [honest(1), honest(2), entry.clone(), honest(3)];
                told::<PrimeOrder>(&alone).1 == [2]
            })
            .unwrap();
    }
    let (verdicts, odd) = told::<PrimeOrder>(&entries);
    assert!(verdicts == good && odd.iter().all(|at| [0, 3, 17].contains(at)), "{odd:?}");
    assert_eq!(told::<PrimeOrder>(&entries[3..4]), (vec![true], vec![0]));
    entries[9].2[40] ^= 1;
    let (verdicts, odd) = told::<PrimeOrder>(&entries);
    assert!(verdicts.iter().enumerate().all(|(at, good)| *good == (at != 9)) && !odd.contains(&9), "{odd:?}");
}

/// One that is odd makes a check fail and each half of it succeed half of the time, so that the search for it ends
/// nowhere; the part that it is of is told in any case.
#[test]
fn a_part_whose_check_fails_is_told_though_its_halves_do_not() {
    let mut failed = 0;
    for seed in 0..40 {
        let mut entries: Vec<_> = (100..164).map(honest).collect();
        entries[0] = with_torsion(seed, EIGHT_TORSION[4]);
        let mut batch = SignatureBatch::<PrimeOrder>::with_capacity(64);
        entries.iter().for_each(|(key, message, signature)| batch.push(key, message, signature));
        assert!(batch.verify().iter().all(|good| *good));
        let checks = batch.effort().combined;
        assert_eq!(batch.odd().len(), usize::from(checks > 1), "{checks} checks");
        failed += u32::from(checks > 1);
    }
    assert!((5..=35).contains(&failed), "{failed} of 40 failed");
}

#[test]
fn a_non_canonical_s_is_bad() {
    let (key, message, mut signature) = honest(5);
    let mut carry = 0;
    for (byte, order) in signature[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    let entry = (key, message, signature);
    assert!(!verify(&entry.0, &entry.1, &entry.2));
    let entries = [honest(1), honest(2), entry, honest(3)];
    assert_eq!(batch::<PrimeOrder>(&entries), [true, true, false, true]);
}

#[test]
fn an_encoding_of_r_that_is_no_point_is_bad() {
    let (key, message, mut signature) = honest(5);
    signature[..32].fill(2); // y = 0x0202..02 is on no point of the curve
    assert!(CompressedEdwardsY([2; 32]).decompress().is_none());
    let entries = [honest(1), (key, message, signature), honest(2)];
    assert_eq!(
        (batch::<PrimeOrder>(&entries), singles::<PrimeOrder>(&entries)),
        (vec![true, false, true], vec![true, false, true])
    );
}

#[test]
fn a_non_canonical_encoding_of_r_gets_one_verdict() {
    // Second spellings of points of small order: y = p + 1 for y = 1, y = p for y = 0, with both signs of x.
    for (low, sign) in [(0xee, 0), (0xee, 0x80), (0xed, 0), (0xed, 0x80)] {
        let mut r_bytes = [0xff; 32];
        (r_bytes[0], r_bytes[31]) = (low, 0x7f | sign);
        let entry = sign_with(&signer(9), vec![9; 64], Scalar::ZERO, r_bytes);
        let single = verify(&entry.0, &entry.1, &entry.2);
        assert_eq!(single, CompressedEdwardsY(r_bytes).decompress().is_some());
        for size in [2, 3, 5, 16] {
            let mut entries: Vec<_> = (0..size).map(honest).collect();
            entries[1] = entry.clone();
            let expected: Vec<_> = (0..size).map(|index| index != 1 || single).collect();
            assert_eq!(batch::<PrimeOrder>(&entries), expected);
        }
    }
}

#[test]
fn a_flood_of_bad_signatures_is_settled() {
    let entries: Vec<_> = (0..=255u8)
        .map(|seed| {
            let mut entry = honest(seed);
            entry.2[0] ^= u8::from(seed % 3 != 0);
            entry
        })
        .collect();
    assert_eq!(batch::<PrimeOrder>(&entries), (0..256).map(|seed| seed % 3 == 0).collect::<Vec<_>>());
    assert_eq!(batch::<PrimeOrder>(&[]), Vec::<bool>::new());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn batch_and_single_agree_on_random_corruptions(
        size in 1usize..40,
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0usize..128, any::<u8>(), 0usize..8), 0..12),
    ) {
        let mut entries: Vec<_> = (0..size).map(|seed| honest(seed as u8)).collect();
        for (index, at, mask, torsion) in changes {
            let index = index.index(size);
            match at {
                0..64 => entries[index].2[at] ^= mask,
                64..96 => entries[index].1[at - 64] ^= mask,
                _ => entries[index] = with_torsion(index as u8, EIGHT_TORSION[torsion]),
            }
        }
        let expected: Vec<_> = entries.iter().map(|(key, message, signature)| satisfies_equation(key, message, signature)).collect();
        prop_assert_eq!(&singles::<PrimeOrder>(&entries), &expected);
        prop_assert_eq!(&batch::<PrimeOrder>(&entries), &expected);
        for size in [1, 2, 7] {
            prop_assert_eq!(&batch_in_parts::<PrimeOrder>(&entries, size), &expected);
        }
    }
}
