//! Segments of a write-ahead log.
//!
//! The first byte says what the rest is: a segment's bytes as they are, or records from which a segment is written that
//! is then damaged at one place. Only the second gets past the sums.

use arbitrary::Unstructured;
use bytes::Bytes;
use hippodrome_engine::auth::Digester;
use hippodrome_engine::protocol::Record;
use hippodrome_engine::storage::Identity;
use hippodrome_engine::storage::log::replay;
use hippodrome_engine::storage::record::{self, Kind};
use hippodrome_engine::storage::segment::{Builder, ENTRY_HEAD_BYTES, End, HEAD_BYTES, Head, scan};
use hippodrome_engine::types::{ReplicaId, SequenceNumber};

/// Whose log the seeds are of.
const OWN: Identity = Identity { fingerprint: [0xf1; 32], replica: ReplicaId(2) };
const HEAD: Head = Head { identity: OWN, number: 1, salt: 0x1234_5678_9abc_def0 };

/// What is read was written; a torn end is cut off, a damaged middle is refused, and neither passes for the other.
///
/// # Panics
/// If one of these does not hold.
pub fn log(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    if kind % 2 == 0 { raw(rest) } else { written(rest) }
}

/// Bytes as the first and as a later segment, and as what follows a good head.
fn raw(bytes: &[u8]) {
    match Head::decode(bytes) {
        Ok(head) => {
            assert_eq!(head.encode(), bytes[..HEAD_BYTES], "a head is written as it was read");
            check_scan(&head, bytes);
        }
        Err(why) => assert!(!why.is_empty()),
    }
    let behind_head = [&HEAD.encode(), bytes].concat();
    check_scan(&HEAD, &behind_head);
    for bytes in [bytes, &behind_head] {
        let segment = Bytes::copy_from_slice(bytes);
        let second = Bytes::copy_from_slice(&Head { number: 2, ..HEAD }.encode());
        let alone = replay(OWN, SequenceNumber(0), &[(1, segment.clone())]);
        let followed = replay(OWN, SequenceNumber(0), &[(1, segment), (2, second)]);
        match (alone, followed) {
            (Ok((alone, None)), followed) => {
                let (followed, cut) = followed.expect("a clean segment may be followed by another");
                assert!(alone == followed && cut.is_none());
            }
            (Ok((_, Some(cut))), followed) => {
                assert_eq!(cut.keep + cut.lost, bytes.len() as u64);
                assert!(followed.is_err(), "only the last segment may be torn");
            }
            (Err(error), followed) => {
                assert!(!error.to_string().is_empty());
                assert!(followed.is_err(), "what is refused alone is refused with another behind it");
            }
        }
    }
}

/// Reads a segment and checks that its entries, encoded again, are the very bytes up to where it says that they end.
fn check_scan(head: &Head, bytes: &[u8]) -> (Vec<Record>, End) {
    let (entries, end) = scan(head, &Bytes::copy_from_slice(bytes), &mut Digester::default());
    let mut at = HEAD_BYTES;
    for entry in &entries {
        let mut body = Vec::new();
        record::encode(&entry.record, &mut body);
        assert_eq!(usize::try_from(u32_at(bytes, at)), Ok(body.len()), "the length that the entry says");
        assert_eq!(bytes[at + 4], Kind::of(&entry.record).byte());
        assert_eq!(entry.carried, bytes[at + 5] == 1);
        at += ENTRY_HEAD_BYTES;
        assert_eq!(bytes[at..at + body.len()], body, "a record is written as it was read");
        at += body.len();
    }
    match &end {
        End::Clean => assert_eq!(at, bytes.len(), "a clean segment ends with its entries"),
        End::Torn { offset, why } | End::Damaged { offset, why } => {
            assert!(*offset == at as u64 && at < bytes.len() && !why.is_empty(), "{end:?}");
        }
    }
    (entries.into_iter().map(|entry| entry.record).collect(), end)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// A segment as a replica writes it, whole and damaged at one place.
fn written(bytes: &[u8]) {
    let mut source = Unstructured::new(bytes);
    let damage = (source.arbitrary::<u16>().unwrap_or(0), source.arbitrary::<u8>().unwrap_or(0));
    let segment = Segment::write(groups(&mut source));
    let (records, end) = check_scan(&HEAD, &segment.bytes);
    assert_eq!((&records, end), (&segment.records, End::Clean), "what was written is read");
    if segment.records.is_empty() {
        return;
    }
    let entries_bytes = segment.bytes.len() - HEAD_BYTES;
    let at = HEAD_BYTES + usize::from(damage.0) % entries_bytes;
    let mut damaged = segment.bytes.clone();
    if damage.1 == 0 {
        damaged.truncate(at)
    } else {
        damaged[at] ^= damage.1
    }
    let (records, end) = check_scan(&HEAD, &damaged);
    let whole = segment.ends.iter().filter(|end| **end <= at).count();
    assert_eq!(records, segment.records[..whole], "what lies before the damage is read, and nothing else is");
    match end {
        End::Clean => assert!(damage.1 == 0 && (at == HEAD_BYTES || segment.ends.contains(&at)), "byte {at}"),
        End::Torn { .. } => assert!(damage.1 == 0 || at >= segment.last_group, "byte {at} was durable"),
        End::Damaged { .. } => {
            assert!(damage.1 != 0 && at < segment.last_group, "nothing says that byte {at} was durable")
        }
    }
    if damage.1 != 0 {
        let segments = [(1, Bytes::from(damaged)), (2, Bytes::copy_from_slice(&Head { number: 2, ..HEAD }.encode()))];
        assert!(replay(OWN, SequenceNumber(0), &segments).is_err(), "damage before the last segment is refused");
        let alone = replay(OWN, SequenceNumber(0), &segments[..1]);
        assert_eq!(alone.is_ok(), at >= segment.last_group, "only what may not have been durable is cut off");
    }
}

/// Groups of records out of bytes. What is no record is left out, once it was seen to be refused with a reason.
fn groups(source: &mut Unstructured<'_>) -> Vec<Vec<Record>> {
    let mut groups = vec![Vec::new()];
    while !source.is_empty() {
        let head: [u8; 3] = source.arbitrary().unwrap_or_default();
        let kind = Kind::ALL[usize::from(head[0] & 0x7f) % Kind::ALL.len()];
        let len = usize::from(u16::from_le_bytes([head[1], head[2]])).min(source.len());
        let body = source.bytes(len).unwrap_or_default();
        match record::decode(kind, Bytes::copy_from_slice(body), &mut Digester::default()) {
            Ok(record) => {
                let mut again = Vec::new();
                record::encode(&record, &mut again);
                assert_eq!(again, body, "a record is written as it was read");
                groups.last_mut().expect("never empty").push(record);
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        if head[0] & 0x80 != 0 {
            groups.push(Vec::new());
        }
    }
    groups.retain(|group| !group.is_empty());
    groups
}

/// A written segment.
struct Segment {
    bytes: Vec<u8>,
    records: Vec<Record>,
    /// Where each entry ends.
    ends: Vec<usize>,
    /// Where the last group begins: what nothing says to have been durable.
    last_group: usize,
}

impl Segment {
    /// Each group is durable before the next is written.
    fn write(groups: Vec<Vec<Record>>) -> Self {
        let mut bytes = HEAD.encode().to_vec();
        let mut builder = Builder::new(&HEAD);
        let (mut ends, mut last_group) = (Vec::new(), bytes.len());
        for group in &groups {
            last_group = bytes.len();
            for record in group {
                builder.append(record, false);
                ends.push(usize::try_from(builder.len()).expect("a segment fits in memory"));
            }
            let (offset, pending) = builder.pending();
            assert_eq!(offset, bytes.len() as u64);
            bytes.extend_from_slice(pending);
            let len = pending.len();
            builder.written(len, true);
        }
        Self { bytes, records: groups.concat(), ends, last_group }
    }
}
