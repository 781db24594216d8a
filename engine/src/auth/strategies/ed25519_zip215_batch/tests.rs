//! ZIP 215's own vectors, where its rule and that of `ed25519-batch` differ, and where they must not.

use curve25519_dalek::constants::EIGHT_TORSION;
use ed25519_dalek::Signer as _;
use proptest::prelude::*;

use super::*;
use crate::auth::signature::tests::{Entry, batch, honest, sign_with, signer, singles, with_torsion};
use crate::auth::signature::{PrimeOrder, SignatureBatch};
use crate::auth::testing::{cluster, key};
use crate::auth::{KeyError, Keyring, Strategy};
use crate::types::NodeId;

/// Every encoding of a point of small order: the canonical ones, and six more, which have no reduced y or a sign bit
/// where x is 0.
fn small_order_encodings() -> Vec<[u8; 32]> {
    let with = |low: u8, rest: u8, high: u8| {
        let mut bytes = [rest; 32];
        (bytes[0], bytes[31]) = (low, high);
        bytes
    };
    let other = [
        with(0x01, 0, 0x80),    // y = 1, sign
        with(0xec, 0xff, 0xff), // y = p - 1, sign
        with(0xed, 0xff, 0x7f), // y = p
        with(0xed, 0xff, 0xff), // y = p, sign
        with(0xee, 0xff, 0x7f), // y = p + 1
        with(0xee, 0xff, 0xff), // y = p + 1, sign
    ];
    EIGHT_TORSION.iter().map(|point| point.compress().0).chain(other).collect()
}

/// The 196 vectors of the ZIP: every such A with every such R, s = 0.
fn vectors() -> Vec<Entry> {
    let encodings = small_order_encodings();
    let pairs = encodings.iter().flat_map(|a| encodings.iter().map(move |r| (a, r)));
    let entry = |(a, r): (&[u8; 32], &[u8; 32])| {
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(r);
        (VerifyingKey::from_bytes(a).expect("a point"), b"Zcash".to_vec(), signature)
    };
    pairs.map(entry).collect()
}

fn both<R: Rule>(entries: &[Entry]) -> Vec<bool> {
    let (alone, together) = (singles::<R>(entries), batch::<R>(entries));
    assert_eq!(alone, together);
    alone
}

#[test]
fn the_vectors_of_the_zip_are_all_good_alone_and_in_batches() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 196);
    assert_eq!(both::<Zip215>(&vectors), [true; 196]);
    let mixed: Vec<Entry> = vectors.iter().cloned().flat_map(|vector| [vector, honest(3)]).collect();
    assert_eq!(both::<Zip215>(&mixed), [true; 392]);
}

/// The rules part here: `ed25519` and `ed25519-batch` refuse the keys. So does every cluster, so that no replica ever
/// judges by one.
#[test]
fn no_cluster_has_a_key_that_the_rules_disagree_about() {
    let torsion = key(3).signing().verifying_key().to_edwards() + EIGHT_TORSION[1];
    let keys = small_order_encodings().into_iter().chain([torsion.compress().0]);
    for (key_bytes, strategy) in keys.flat_map(|bytes| Strategy::all().map(move |strategy| (bytes, strategy))) {
        assert!(VerifyingKey::from_bytes(&key_bytes).is_ok(), "ZIP 215 takes it");
        let mut file = cluster(strategy.name(), 4, &[1]);
        file.nodes[3].public_key = hex::encode(key_bytes);
        let error = Keyring::new(&file, NodeId(0), &key(0)).unwrap_err();
        assert!(matches!(error, KeyError::BadPublicKey { node: NodeId(3), .. }), "{strategy}: {error}");
    }
}

/// A key with a torsion part signs for itself under ZIP 215, and the cofactorless equation of plain verifiers depends
/// on the message.
#[test]
fn a_key_with_a_torsion_part_is_good_whatever_the_message() {
    use ed25519_dalek::Verifier as _;

    let secret = signer(1);
    let mut plain = [0, 0];
    for message in 0..16u8 {
        let a = (secret.verifying_key().to_edwards() + EIGHT_TORSION[1]).compress();
        let key = VerifyingKey::from_bytes(a.as_bytes()).unwrap();
        let r = Scalar::from(77u64);
        let r_bytes = EdwardsPoint::mul_base(&r).compress().0;
        let k = signature::challenge(&r_bytes, &key, &[message; 64]);
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&r_bytes);
        bytes[32..].copy_from_slice((r + k * secret.to_scalar()).as_bytes());
        let entry = (key, vec![message; 64], bytes);
        let is_good = key.verify(&entry.1, &ed25519_dalek::Signature::from_bytes(&bytes)).is_ok();
        plain[usize::from(is_good)] += 1;
        assert_eq!(both::<Zip215>(&[honest(1), entry.clone(), honest(2), entry]), [true; 4]);
    }
    assert!(plain[0] > 0 && plain[1] > 0, "{plain:?}");
}

#[test]
fn torsion_parts_and_odd_spellings_of_nonces_are_judged_alike_by_both_rules() {
    let mut entries: Vec<Entry> =
        (0..8).map(|torsion| with_torsion(torsion, EIGHT_TORSION[usize::from(torsion)])).collect();
    for r_bytes in small_order_encodings() {
        entries.push(sign_with(&signer(9), vec![9; 64], Scalar::ZERO, r_bytes));
    }
    assert_eq!(both::<Zip215>(&entries), vec![true; entries.len()]);
    assert_eq!(both::<PrimeOrder>(&entries), vec![true; entries.len()]);
}

#[test]
fn a_batch_is_refused_for_what_is_bad_and_for_nothing_else() {
    // What makes dalek's combined check fail is no reason to search here.
    let entries: Vec<Entry> = (0..40).map(|seed| with_torsion(seed, EIGHT_TORSION[usize::from(seed) % 8])).collect();
    let mut batch = SignatureBatch::<Zip215>::with_capacity(entries.len());
    entries.iter().for_each(|(key, message, signature)| batch.push(key, message, signature));
    assert_eq!(batch.verify(), vec![true; 40]);
    assert_eq!((batch.effort().combined, batch.effort().single), (1, 0));
}

/// Terms of equal keys are added up. Two errors that would cancel out if their factors were the same do not.
#[test]
fn errors_under_one_key_do_not_cancel_out() {
    let key = signer(5);
    let mut entries: Vec<Entry> =
        (0..6u8).map(|message| (key.verifying_key(), vec![message; 64], key.sign(&[message; 64]).to_bytes())).collect();
    for (at, change) in [(1, Scalar::ONE), (4, -Scalar::ONE)] {
        let s = Scalar::from_canonical_bytes(signature::halves(&entries[at].2).1).unwrap() + change;
        entries[at].2[32..].copy_from_slice(s.as_bytes());
    }
    assert_eq!(both::<Zip215>(&entries), [true, false, true, true, false, true]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Of keys that a cluster may have.
    #[test]
    fn both_rules_agree_on_random_corruptions(
        size in 1usize..24,
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0usize..160, any::<u8>(), 0usize..14), 0..10),
    ) {
        let encodings = small_order_encodings();
        // Few signers, so that keys are equal.
        let mut entries: Vec<Entry> = (0..size).map(|seed| honest(seed as u8 % 5)).collect();
        for (index, at, mask, torsion) in changes {
            let index = index.index(size);
            match at {
                0..64 => entries[index].2[at] ^= mask,
                64..96 => entries[index].1[at - 64] ^= mask,
                96..128 => entries[index] = with_torsion(index as u8, EIGHT_TORSION[torsion % 8]),
                _ => entries[index] = sign_with(&signer(3), vec![mask; 64], Scalar::ZERO, encodings[torsion]),
            }
        }
        prop_assert_eq!(both::<Zip215>(&entries), both::<PrimeOrder>(&entries));
    }
}
