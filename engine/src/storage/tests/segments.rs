//! Segments that are torn, damaged, or made up.

use bytes::Bytes;
use proptest::prelude::*;

use super::{OWN, committed, one_of_each, pre_prepared, prepared};
use crate::auth::Digester;
use crate::protocol::Record;
use crate::storage::Identity;
use crate::storage::log::replay;
use crate::storage::segment::{Builder, ENTRY_HEAD_BYTES, End, Entry, HEAD_BYTES, Head, scan};
use crate::types::{ReplicaId, SequenceNumber};

const HEAD: Head = Head { identity: OWN, number: 1, salt: 0x1234_5678_9abc_def0 };

/// A segment of these groups, each made durable before the next was written, and where each entry begins; at the end
/// where the segment ends.
fn segment(groups: &[Vec<Record>]) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = HEAD.encode().to_vec();
    let mut starts = Vec::new();
    let mut builder = Builder::new(&HEAD);
    for group in groups {
        for record in group {
            starts.push(builder.len() as usize);
            builder.append(record, false);
        }
        let (offset, pending) = builder.pending();
        assert_eq!(offset as usize, bytes.len());
        bytes.extend_from_slice(pending);
        let len = pending.len();
        builder.written(len, true);
    }
    starts.push(bytes.len());
    (bytes, starts)
}

fn groups() -> Vec<Vec<Record>> {
    vec![
        one_of_each(),
        vec![prepared(140), committed(140)],
        vec![pre_prepared(141, b"op"), prepared(141), committed(141)],
    ]
}

fn read(bytes: &[u8]) -> (Vec<Record>, End) {
    let (entries, end) = scan(&HEAD, &Bytes::copy_from_slice(bytes), &mut Digester::default());
    (entries.into_iter().map(|Entry { record, .. }| record).collect(), end)
}

/// How many entries end at or before `len`.
fn whole_entries(starts: &[usize], len: usize) -> usize {
    starts.iter().skip(1).filter(|end| **end <= len).count()
}

#[test]
fn whole_segment_is_read_whole() {
    let (bytes, _) = segment(&groups());
    assert_eq!(Head::decode(&bytes), Ok(HEAD));
    assert_eq!(read(&bytes), (groups().concat(), End::Clean));
    assert_eq!(read(&bytes[..HEAD_BYTES]), (Vec::new(), End::Clean));
}

#[test]
fn segment_that_ends_anywhere_is_torn_and_keeps_what_is_whole() {
    let (bytes, starts) = segment(&groups());
    let records = groups().concat();
    for len in HEAD_BYTES..bytes.len() {
        let (read, end) = read(&bytes[..len]);
        let whole = whole_entries(&starts, len);
        assert_eq!(read, records[..whole], "{len} bytes");
        match end {
            End::Clean => assert_eq!(len, starts[whole]),
            End::Torn { offset, why } => {
                assert_eq!(offset as usize, starts[whole], "{len} bytes");
                assert!(why.contains("cut off"), "{why}");
            }
            End::Damaged { .. } => panic!("{len} bytes: {end:?}"),
        }
    }
    for len in 0..HEAD_BYTES {
        assert!(Head::decode(&bytes[..len]).is_err());
    }
}

#[test]
fn every_flipped_byte_is_seen_and_told_apart() {
    let (bytes, starts) = segment(&groups());
    let records = groups().concat();
    let last_group = starts[groups()[..2].concat().len()];
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            if at < HEAD_BYTES {
                assert!(Head::decode(&damaged).is_err(), "byte {at}");
                continue;
            }
            let (read, end) = read(&damaged);
            let whole = whole_entries(&starts, at);
            assert_eq!(read, records[..whole], "byte {at}");
            match end {
                // Of the last group nothing says that it was durable.
                End::Torn { offset, .. } => assert!(at >= last_group && offset as usize == starts[whole], "byte {at}"),
                End::Damaged { offset, why } => {
                    assert!(at < last_group && offset as usize == starts[whole], "byte {at}: {why}");
                    assert!(why.contains("says that these bytes were durable"), "{why}");
                }
                End::Clean => panic!("byte {at} flipped by {flip:#x} is not seen"),
            }
        }
    }
}

#[test]
fn zeros_behind_the_end_are_torn_off() {
    let (mut bytes, starts) = segment(&groups());
    for zeros in [1, ENTRY_HEAD_BYTES, 5000] {
        bytes.truncate(*starts.last().unwrap());
        bytes.resize(bytes.len() + zeros, 0);
        let (records, end) = read(&bytes);
        assert_eq!(records, groups().concat());
        assert!(matches!(end, End::Torn { offset, .. } if offset as usize == *starts.last().unwrap()), "{end:?}");
    }
}

/// A group is one write, whose pages reach the disk in any order: that later ones are there and earlier ones are not
/// says nothing about what was durable.
#[test]
fn group_that_lost_its_beginning_is_torn() {
    let (mut bytes, starts) = segment(&groups());
    let first_of_last_group = groups()[..2].concat().len();
    bytes[starts[first_of_last_group]..starts[first_of_last_group + 1]].fill(0);
    let (records, end) = read(&bytes);
    assert_eq!(records, groups()[..2].concat());
    assert!(matches!(end, End::Torn { .. }), "{end:?}");
}

/// A client may put anything into an operation, even a copy of an entry that was durable once.
#[test]
fn entry_inside_an_operation_is_no_witness() {
    let (bytes, starts) = segment(&groups());
    let last = groups()[..2].concat().len();
    let copied = &bytes[starts[last]..];
    let (mut bytes, starts) = segment(&[vec![prepared(1)], vec![pre_prepared(2, copied)]]);
    bytes[starts[1]] ^= 1;
    assert!(matches!(read(&bytes).1, End::Torn { .. }));
    assert!(matches!(read(&bytes[..bytes.len() - 1]).1, End::Torn { .. }));
}

#[test]
fn only_the_last_segment_may_be_torn() {
    let (bytes, starts) = segment(&[vec![prepared(1)], vec![prepared(2)]]);
    let second = Head { number: 2, ..HEAD }.encode().to_vec();
    let whole = [(1, Bytes::from(bytes.clone())), (2, Bytes::from(second.clone()))];
    assert_eq!(replay(OWN, SequenceNumber(0), &whole).unwrap(), (vec![prepared(1), prepared(2)], None));
    let torn = [(1, Bytes::from(bytes[..bytes.len() - 1].to_vec())), (2, Bytes::from(second))];
    let error = replay(OWN, SequenceNumber(0), &torn).unwrap_err().to_string();
    assert!(error.starts_with(&format!("wal-0000000001.log: damaged at byte {}", starts[1])), "{error}");
    let (records, cut) = replay(OWN, SequenceNumber(0), &torn[..1]).unwrap();
    assert_eq!(records, [prepared(1)]);
    assert_eq!(cut.unwrap().keep as usize, starts[1]);
}

#[test]
fn segments_of_others_are_named() {
    let bytes = Bytes::copy_from_slice(&HEAD.encode());
    let error = |identity, number| replay(identity, SequenceNumber(0), &[(number, bytes.clone())]).unwrap_err();
    let other = error(Identity { fingerprint: [1; 32], ..OWN }, 1).to_string();
    assert!(other.contains("of the cluster f1f1f1f1f1f1f1f1.., this one is 0101010101010101.."), "{other}");
    let other = error(Identity { replica: ReplicaId(3), ..OWN }, 1).to_string();
    assert!(other.contains("of replica 2, this is replica 3"), "{other}");
    assert_eq!(error(OWN, 9).to_string(), "wal-0000000009.log: is segment 1");
    let mut next = HEAD.encode();
    next[7] = 3;
    let sum = crc32fast::hash(&next[..64]);
    next[64..68].copy_from_slice(&sum.to_le_bytes());
    assert_eq!(Head::decode(&next).unwrap_err(), "version 3: allowed: 2");
}

#[test]
fn records_up_to_the_stable_checkpoint_are_left_out() {
    let (bytes, _) = segment(&[vec![prepared(1), committed(1), prepared(2), super::new_view(1), prepared(3)]]);
    let (records, _) = replay(OWN, SequenceNumber(2), &[(1, bytes.into())]).unwrap();
    assert_eq!(records, [super::new_view(1), prepared(3)]);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = Head::decode(&bytes);
        let segment = [&HEAD.encode()[..], &bytes].concat();
        let _ = read(&segment);
        let _ = replay(OWN, SequenceNumber(0), &[(1, segment.into())]);
    }

    #[test]
    fn any_overwritten_stretch_loses_nothing_before_it(at in 0usize..600, bytes in prop::collection::vec(any::<u8>(), 1..64)) {
        let (mut damaged, starts) = segment(&groups());
        let at = HEAD_BYTES + at % (damaged.len() - HEAD_BYTES);
        let end = damaged.len().min(at + bytes.len());
        damaged[at..end].copy_from_slice(&bytes[..end - at]);
        let (records, _) = read(&damaged);
        let whole = whole_entries(&starts, at);
        prop_assert_eq!(&records[..whole], &groups().concat()[..whole]);
    }
}
