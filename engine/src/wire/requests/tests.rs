use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::auth::strategies::{Reach, Strategy};
use crate::auth::testing::table;
use crate::limits::{FRAME_HEADER_BYTES, TAG_BYTES};
use crate::types::{ClientId, Timestamp};

/// Where requests carry tags.
fn decode(bytes: impl Into<Bytes>) -> Result<RequestTable, DecodeError> {
    decode_as(Some(Strategy::MAC), bytes)
}

fn decode_as(strategy: Option<Strategy>, bytes: impl Into<Bytes>) -> Result<RequestTable, DecodeError> {
    decode_requests(bytes.into(), strategy, &mut Digester::default())
}

fn encode(table: &RequestTable, columns: ProofColumns) -> Vec<u8> {
    let mut out = Vec::new();
    encode_table(&mut out, table, columns);
    assert!(out.len() <= table_bytes_max(table, columns));
    out
}

/// `columns` of tags that tell their place.
fn with_tags(mut table: RequestTable, columns: u16) -> RequestTable {
    let bytes: Vec<u8> = (0..usize::from(columns) * table.len()).flat_map(|at| [at as u8; TAG_BYTES]).collect();
    table.proofs = Proofs::Tags { columns, bytes: bytes.into() };
    table
}

fn two() -> RequestTable {
    table(&[(1, 2, b"abc".to_vec()), (3, 4, vec![])])
}

#[test]
fn a_receiver_gets_its_own_column() {
    let sent = with_tags(two(), 4);
    let Proofs::Tags { bytes, .. } = &sent.proofs else { panic!("tags") };
    for replica in 0..4 {
        let received = decode(encode(&sent, ProofColumns::Of(ReplicaId(replica)))).unwrap();
        let own = bytes.slice(usize::from(replica) * 32..usize::from(replica + 1) * 32);
        assert_eq!(received.proofs, Proofs::Tags { columns: 1, bytes: own });
        // What is left is one replica's copy: nobody else can use its proofs.
        let again = decode(encode(&received, ProofColumns::Of(ReplicaId(2)))).unwrap();
        assert_eq!(again, RequestTable { proofs: Proofs::None, ..sent.clone() });
    }
    assert_eq!(decode(encode(&sent, ProofColumns::None)).unwrap().proofs, Proofs::None);
    assert_eq!(decode(encode(&sent, ProofColumns::All)).unwrap(), sent);
}

#[test]
fn operations_and_proofs_are_slices_of_the_input() {
    let body = Bytes::from(encode(&with_tags(two(), 4), ProofColumns::All));
    let decoded = decode(body.clone()).unwrap();
    let Proofs::Tags { bytes, .. } = &decoded.proofs else { panic!("tags") };
    assert!(body.as_ptr_range().contains(&decoded.operations.as_ptr()));
    assert!(body.as_ptr_range().contains(&bytes.as_ptr()));
}

#[test]
fn each_defect_has_its_own_reason() {
    let good = encode(&with_tags(two(), 4), ProofColumns::All);
    // Columns of two numbers, each with its head.
    let (clients_at, timestamps_at, lengths_at) = (8, 8 + 11, 8 + 22);
    let long = (OPERATION_BYTES_MAX as u64 + 1).to_le_bytes();
    let cases: [(usize, &[u8], DecodeError); 18] = [
        (0, &4097u32.to_le_bytes(), DecodeError::TooManyRequests),
        (0, &u32::MAX.to_le_bytes(), DecodeError::TooManyRequests),
        (4, &[5], DecodeError::UnknownProofs),
        (4, &[0], DecodeError::BadColumns),
        (4, &[2], DecodeError::BadColumns),
        (5, &[1], DecodeError::BadReserved),
        (6, &0u16.to_le_bytes(), DecodeError::BadColumns),
        (6, &65u16.to_le_bytes(), DecodeError::BadColumns),
        (6, &5u16.to_le_bytes(), DecodeError::Truncated),
        (clients_at, &[0], DecodeError::BadNumbers), // they are not equal, nor would they be narrow then
        (clients_at, &[3], DecodeError::BadNumbers),
        (clients_at, &[2], DecodeError::BadNumbers),
        (clients_at + 1, &u64::MAX.to_le_bytes(), DecodeError::BadNumbers),
        (clients_at + 1, &(1u64 << 32).to_le_bytes(), DecodeError::BadNumbers),
        (clients_at + 9, &[1], DecodeError::BadNumbers), // the first is as far from itself
        (timestamps_at, &[9], DecodeError::BadNumbers),
        (timestamps_at + 9, &[255], DecodeError::BadNumbers),
        (lengths_at + 1, &long, DecodeError::OperationTooLong),
    ];
    for (at, bytes, error) in cases {
        let mut bad = good.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        assert_eq!(decode(bad), Err(error), "byte {at}");
    }
    assert_eq!(decode([&good[..], &[0]].concat()), Err(DecodeError::TrailingBytes));
    for len in 0..good.len() {
        assert_eq!(decode(good[..len].to_vec()), Err(DecodeError::Truncated), "{len}");
    }
}

/// Two groups of node 9: the first has both its requests here, the second its last one of two.
fn in_groups(columns: u16) -> RequestTable {
    let mut table = table(&[(1, 2, b"abc".to_vec()), (3, 4, vec![]), (5, 6, b"d".to_vec())]);
    let groups = [Group::whole(NodeId(9), 2), Group { node: NodeId(9), size: 2, present: 0b10 }];
    let proof_bytes = if columns == 0 { 64 } else { usize::from(columns) * TAG_BYTES };
    let proofs: Vec<u8> = (0..2 * proof_bytes).map(|at| at as u8).collect();
    let groups = Groups::new(groups.to_vec(), vec![Digest([8; 32])], columns, proofs.into()).unwrap();
    table.proofs = Proofs::Groups(groups);
    table
}

#[test]
fn groups_survive_the_wire_and_a_receiver_gets_its_own_column() {
    let signed = in_groups(0);
    let by_signatures = Some("ed25519".parse().unwrap());
    for columns in [ProofColumns::All, ProofColumns::Of(ReplicaId(3))] {
        assert_eq!(decode_as(by_signatures, encode(&signed, columns)).unwrap(), signed);
    }
    let sent = in_groups(4);
    assert_eq!(decode(encode(&sent, ProofColumns::All)).unwrap(), sent);
    let Proofs::Groups(groups) = &sent.proofs else { panic!("groups") };
    for replica in 0..4 {
        let received = decode(encode(&sent, ProofColumns::Of(ReplicaId(replica)))).unwrap();
        let own = groups.proofs().slice(usize::from(replica) * 32..usize::from(replica + 1) * 32);
        let expected = Proofs::Groups(groups.clone().with_proofs(1, own));
        assert_eq!(received.proofs, expected);
        let unproven = RequestTable { proofs: Proofs::None, ..sent.clone() };
        assert_eq!(decode(encode(&received, ProofColumns::Of(ReplicaId(2)))).unwrap(), unproven);
        assert_eq!(decode_as(None, encode(&sent, ProofColumns::None)).unwrap(), unproven);
    }
    assert_eq!(decode_as(by_signatures, encode(&sent, ProofColumns::All)), Err(DecodeError::WrongProofs));
    assert_eq!(decode_as(None, encode(&sent, ProofColumns::All)), Err(DecodeError::UnexpectedProofs));
}

#[test]
fn each_defect_of_groups_has_its_own_reason() {
    let good = encode(&in_groups(4), ProofColumns::All);
    let at = 8 + 3 * (9 + 3) + 4;
    let many = u32::try_from(GROUPS_MAX + 1).unwrap().to_le_bytes();
    let (present, sizes, nodes) = (at + 4, at + 4 + 16, at + 4 + 16 + 2);
    let cases: [(usize, &[u8], DecodeError); 10] = [
        (at, &many, DecodeError::TooManyGroups),
        (at, &u32::MAX.to_le_bytes(), DecodeError::TooManyGroups),
        (present, &[0], DecodeError::BadGroup),
        (present, &[0b1], DecodeError::BadGroup),
        (present, &[0b101], DecodeError::BadGroup),
        (present + 7, &[0x80], DecodeError::BadGroup),
        (present + 8, &[0b11], DecodeError::BadGroup),
        (sizes, &[1], DecodeError::BadGroup),
        (sizes + 1, &[65], DecodeError::BadGroup),
        (sizes + 1, &[64], DecodeError::Truncated),
    ];
    for (at, bytes, error) in cases {
        let mut bad = good.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        assert_eq!(decode(bad), Err(error), "byte {at}");
    }
    assert!(good[nodes..].starts_with(&[9, 0, 9, 0]));
    assert_eq!(decode([&good[..], &[0]].concat()), Err(DecodeError::TrailingBytes));
    for len in 0..good.len() {
        assert_eq!(decode(good[..len].to_vec()), Err(DecodeError::Truncated), "{len}");
    }
}

#[test]
fn lengths_are_bounded_together_too() {
    // Whether each length is written or all are equal.
    for lengths in [
        &[OPERATION_BYTES_MAX; 5][..],
        &[OPERATION_BYTES_MAX - 1, OPERATION_BYTES_MAX, OPERATION_BYTES_MAX, OPERATION_BYTES_MAX, OPERATION_BYTES_MAX],
    ] {
        let mut bytes = 5u32.to_le_bytes().to_vec();
        bytes.extend([0; 4]);
        put_clients_and_timestamps(&mut bytes, &[ClientId(0); 5], &[Timestamp(0); 5]);
        let mut end = 0;
        let ends: Vec<u32> = lengths.iter().map(|length| (end += length, end as u32).1).collect();
        put_lengths(&mut bytes, 0, &ends);
        assert_eq!(decode(bytes), Err(DecodeError::OperationsTooLong));
    }
}

proptest! {
    #[test]
    fn tables_survive_the_wire(
        requests in prop::collection::vec((any::<u32>(), any::<u64>(), prop::collection::vec(any::<u8>(), 0..100)), 0..40),
        strategy in prop::sample::select(Strategy::all().collect::<Vec<_>>()),
        columns in 1u16..8,
        is_proven: bool,
    ) {
        let mut sent = table(&requests);
        let bytes = |proofs: usize| vec![5; proofs * sent.len() * strategy.proof_bytes()].into();
        sent.proofs = match strategy.about().reach {
            Reach::Receiver if is_proven => Proofs::Tags { columns, bytes: bytes(columns.into()) },
            Reach::Everybody if is_proven => Proofs::Signatures(bytes(1)),
            _ => Proofs::None,
        };
        let frame = encode_requests(&sent, NodeId(9));
        let body = frame.slice(FRAME_HEADER_BYTES..);
        prop_assert_eq!(decode_as(Some(strategy), body.clone()).unwrap(), sent.clone());
        // Where another kind of proofs belongs, or none, the same bytes are refused.
        for other in Strategy::all().filter(|other| other.about().reach != strategy.about().reach) {
            let allowed = sent.proofs == Proofs::None;
            let expected = if allowed { Ok(sent.clone()) } else { Err(DecodeError::WrongProofs) };
            prop_assert_eq!(decode_as(Some(other), body.clone()), expected);
            let expected = if allowed { Ok(sent.clone()) } else { Err(DecodeError::UnexpectedProofs) };
            prop_assert_eq!(decode_as(None, body.clone()), expected);
        }
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), count in 0u8..6, kind in 0u8..6) {
        let _ = decode(bytes.clone());
        // With a head that gets further.
        let _ = decode([&[count, 0, 0, 0, kind, 0, kind % 2, 0], &bytes[..]].concat());
    }

    #[test]
    fn what_decodes_encodes_to_the_same_bytes(at in any::<prop::sample::Index>(), mask in any::<u8>()) {
        let mut bytes = encode(&with_tags(two(), 4), ProofColumns::All);
        let at = at.index(bytes.len());
        bytes[at] ^= mask;
        if let Ok(table) = decode(bytes.clone()) {
            prop_assert_eq!(encode(&table, ProofColumns::All), bytes);
        }
    }

    #[test]
    fn what_decodes_of_groups_encodes_to_the_same_bytes(at in any::<prop::sample::Index>(), mask in any::<u8>()) {
        let mut bytes = encode(&in_groups(4), ProofColumns::All);
        let at = at.index(bytes.len());
        bytes[at] ^= mask;
        if let Ok(table) = decode(bytes.clone()) {
            prop_assert_eq!(encode(&table, ProofColumns::All), bytes);
        }
    }
}
