use proptest::prelude::*;

use super::*;
use crate::auth::testing::{cluster, keyring, table};
use crate::auth::{Check, Part, Verifier};
use crate::limits::{FRAME_BODY_BYTES_MAX, FRAME_HEADER_BYTES};
use crate::protocol::message::{NewView, Signed, ViewChange};
use crate::requests::Proofs;
use crate::settings::Authentication;
use crate::wire::FrameReader;

/// A table of requests of client node 4, sealed as `strategy` wants it.
fn requests(strategy: &str) -> RequestTable {
    let mut table = table(&[(1, 2, b"abc".to_vec()), (3, 4, vec![]), (0, 9, vec![7; 100])]);
    table.proofs = Sealer::new(keyring(&cluster(strategy, 4, &[9]), 4)).seal_requests(&table);
    table
}

fn sealer(strategy: &str, node: u16) -> Sealer {
    Sealer::new(keyring(&cluster(strategy, 4, &[9]), node))
}

fn every_message(requests: RequestTable) -> Vec<Message> {
    let batch = Batch::new(requests.clone());
    let vote = Vote { view: View(5), sequence: SequenceNumber(77), digest: Digest([9; 32]) };
    let slots = (0..16)
        .map(|bits| SlotStatus {
            pre_prepared: bits & 1 != 0,
            prepared: bits & 2 != 0,
            committed: bits & 4 != 0,
            announced: bits & 8 != 0,
            prepares: bits << 60,
            commits: bits,
        })
        .collect();
    let (view, sequence) = (View(5), SequenceNumber(77));
    let by_digests = |batch: &Batch| {
        Message::DigestPrePrepare(DigestPrePrepare { view, sequence, manifest: Arc::new(Manifest::of(batch)) })
    };
    let in_two_ways = [by_digests(&batch), by_digests(&Batch::null())];
    let mut messages = vec![
        Message::PrePrepare(PrePrepare { view, sequence, batch: batch.clone() }),
        Message::PrePrepare(PrePrepare { view, sequence, batch: Batch::null() }),
        Message::Prepare(vote),
        Message::Commit(vote),
        Message::Committed(vote),
        Message::Checkpoint(Checkpoint { sequence, digest: Digest([3; 32]) }),
        Message::Status(Status {
            view,
            active: true,
            suspects: false,
            view_changes: 0,
            stable: SequenceNumber(8),
            committed: SequenceNumber(9),
            slots,
        }),
        Message::Status(Status::default()),
        Message::Forward(Arc::new(requests)),
        Message::Body(Body { sequence, batch }),
        Message::ViewChange(Signed { content: Arc::new(view_change()), signature: Some([7; 64]) }),
        Message::NewView(Signed { content: Arc::new(new_view()), signature: Some([8; 64]) }),
        Message::StateWanted(sequence),
        Message::FetchState(FetchState { sequence, index: 3 }),
        Message::StateChunk(StateChunk { sequence, index: 3, count: 4, bytes: Bytes::from_static(b"state") }),
    ];
    messages.extend(in_two_ways);
    messages
}

/// Of replica 1.
fn view_change() -> ViewChange {
    let entry = |view, sequence| Vote {
        view: View(view),
        sequence: SequenceNumber(sequence),
        digest: Digest([u8::try_from(sequence).unwrap(); 32]),
    };
    ViewChange {
        replica: ReplicaId(1),
        view: View(5),
        stable: SequenceNumber(64),
        checkpoints: vec![Checkpoint { sequence: SequenceNumber(64), digest: Digest([1; 32]) }],
        prepared: vec![entry(3, 65), entry(4, 66)],
        pre_prepared: vec![entry(3, 65), entry(4, 66), entry(2, 70)],
    }
}

/// Of replica 1, the primary of view 5 among four.
fn new_view() -> NewView {
    let named = |replica| (ReplicaId(replica), Digest([u8::try_from(replica).unwrap(); 32]));
    NewView { view: View(5), view_changes: [0, 1, 3].map(named).to_vec() }
}

/// What `message` is after the trip to replica `to`.
fn as_received(message: &Message, to: ReplicaId) -> Message {
    let with = |table: &RequestTable, columns| {
        let selected = requests::selected(table, columns);
        let (columns, bytes) = (selected.columns, Bytes::copy_from_slice(selected.bytes));
        let proofs = match &table.proofs {
            _ if bytes.is_empty() => Proofs::None,
            Proofs::Signatures(_) => Proofs::Signatures(bytes),
            Proofs::Groups(groups) => Proofs::Groups(groups.clone().with_proofs(columns, bytes)),
            _ => Proofs::Tags { columns, bytes },
        };
        Batch::new(RequestTable { proofs, ..table.clone() })
    };
    match message {
        Message::PrePrepare(m) => {
            let batch = with(&m.batch.requests, ProofColumns::Of(to));
            Message::PrePrepare(PrePrepare { batch, ..m.clone() })
        }
        Message::Body(m) => {
            let batch = with(&m.batch.requests, ProofColumns::None);
            Message::Body(Body { batch, ..m.clone() })
        }
        other => other.clone(),
    }
}

fn decode(frame: &Bytes, sender: u16, sealer: &Sealer) -> Result<Decoded, DecodeError> {
    let mut reader = FrameReader::new(FRAME_BODY_BYTES_MAX);
    reader.push(frame.clone());
    let frame = reader.next_frame().unwrap().unwrap();
    assert_eq!(frame.sender, NodeId(sender));
    decode_body_of(frame.kind, sender, frame.body, sealer)
}

fn decode_body_of(kind: FrameKind, sender: u16, body: Bytes, sealer: &Sealer) -> Result<Decoded, DecodeError> {
    let proof_bytes = sealer.proof_bytes(LinkClass::ReplicaToReplica);
    let requests = sealer.keyring().strategy(LinkClass::ClientToReplica);
    let context = Context { cluster: sealer.keyring().cluster(), replicas: 4, requests, proof_bytes };
    decode_message(kind, ReplicaId(sender), body, context, &mut Digester::default())
}

#[test]
fn every_message_arrives_authentic_at_every_receiver() {
    let in_groups = Authentication::presets().map(|preset| format!("{preset}/frame"));
    for strategy in Authentication::presets().map(str::to_owned).chain(in_groups) {
        let strategy = strategy.as_str();
        let sealer = sealer(strategy, 1);
        let mut verifiers: Vec<_> =
            (0..4).map(|node| Verifier::new(keyring(&cluster(strategy, 4, &[9]), node))).collect();
        for message in every_message(requests(strategy)) {
            let mut outgoing = Outgoing::new(&message, &sealer);
            let mut frames = Vec::new();
            for to in [0, 2, 3] {
                let frame = outgoing.for_receiver(ReplicaId(to));
                // Strategies may make another proof each time.
                let proven = FRAME_HEADER_BYTES..frame.len() - sealer.proof_bytes(LinkClass::ReplicaToReplica);
                assert_eq!(frame[proven.clone()], encode_message(&message, ReplicaId(to), &sealer)[proven]);
                let decoded = decode(&frame, 1, &sealer).unwrap();
                assert_eq!(decoded.message, as_received(&message, ReplicaId(to)), "{strategy}");
                let check = Check { signer: NodeId(1), block: decoded.block, proof: &decoded.proof };
                let mut good = Vec::new();
                let verifier = &mut verifiers[usize::from(to)];
                verifier.verify(LinkClass::ReplicaToReplica, &[check], &mut good);
                assert_eq!(good, [true], "{strategy} {message:?}");
                if let Message::PrePrepare(PrePrepare { batch, .. }) = &decoded.message {
                    let mut good = Vec::new();
                    verifier.verify_requests(&[Part::whole(&batch.requests, 0)], &mut good);
                    assert_eq!(good, vec![true; batch.requests.len()], "{strategy}");
                }
                frames.push(frame);
            }
            assert_eq!(outgoing.same_for_all(), frames[0] == frames[1], "{strategy} {message:?}");
        }
    }
}

/// Signed in every mode, so that whoever gets it from others can tell who said it.
#[test]
fn what_is_passed_on_is_proven_by_its_origin_in_every_mode() {
    for strategy in Authentication::presets() {
        let verifier = Verifier::new(keyring(&cluster(strategy, 4, &[9]), 2));
        let (origin, relay) = (sealer(strategy, 1), sealer(strategy, 3));
        for message in [Message::ViewChange(Signed::own(view_change())), Message::NewView(Signed::own(new_view()))] {
            let first = decode(&encode_message(&message, ReplicaId(3), &origin), 1, &origin).unwrap();
            let again = decode(&encode_message(&first.message, ReplicaId(2), &relay), 3, &relay).unwrap();
            assert_eq!(first.message, again.message, "{strategy}");
            let proven = again.origin.unwrap();
            assert_eq!(proven.signer, NodeId(1));
            assert!(verifier.is_origin(&proven), "{strategy}");
            // Of another, or with a bit flipped, it is not.
            assert!(!verifier.is_origin(&Origin { signer: NodeId(3), ..proven.clone() }), "{strategy}");
            let mut signature = proven.signature;
            signature[7] ^= 1;
            assert!(!verifier.is_origin(&Origin { signature, ..proven }), "{strategy}");
        }
    }
}

#[test]
fn lists_and_chunks_are_bounded_before_anything_is_made() {
    let sealer = sealer("none", 1);
    for (index, at) in [(10, 18), (10, 22), (10, 26), (11, 8)] {
        let frame = encode_message(&every_message(requests("none"))[index], ReplicaId(0), &sealer);
        let mut body = frame[FRAME_HEADER_BYTES..].to_vec();
        body[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        let kind = FrameKind::from_u8(frame[7]).unwrap();
        assert_eq!(decode_body_of(kind, 1, body.into(), &sealer), Err(DecodeError::TooManyEntries));
    }
    let mut body = [0; 20].to_vec();
    body[16..].copy_from_slice(&u32::MAX.to_le_bytes());
    let decode = |kind| decode_body_of(kind, 1, body.clone().into(), &sealer);
    assert_eq!(decode(FrameKind::StateChunk), Err(DecodeError::ChunkTooLong));
    assert_eq!(decode(FrameKind::DigestPrePrepare), Err(DecodeError::TooManyRequests));
}

#[test]
fn blocks_of_different_kinds_senders_and_positions_differ() {
    let sealers = [sealer("mac", 1), sealer("mac", 2)];
    let mut blocks = Vec::new();
    for sealer in &sealers {
        for message in every_message(requests("mac")) {
            let own = sealer.keyring().own().0;
            blocks.push(decode(&encode_message(&message, ReplicaId(0), sealer), own, sealer).unwrap().block.0);
        }
    }
    let len = blocks.len();
    blocks.sort_unstable();
    blocks.dedup();
    assert_eq!(blocks.len(), len);
}

#[test]
fn a_backups_copy_of_a_batch_is_sent_on_without_proofs() {
    let sealer = sealer("mac", 1);
    let message = &every_message(requests("mac"))[0];
    let received = decode(&encode_message(message, ReplicaId(2), &sealer), 1, &sealer).unwrap().message;
    let again = decode(&encode_message(&received, ReplicaId(3), &sealer), 1, &sealer).unwrap().message;
    let Message::PrePrepare(PrePrepare { batch, .. }) = again else { panic!("a pre-prepare") };
    assert_eq!(batch.requests.proofs, Proofs::None);
}

/// What is kept of a batch does not keep what it came in.
#[test]
fn a_received_batch_shares_no_memory_with_its_frame() {
    let sealer = sealer("mac", 1);
    let mut batches = 0;
    for message in every_message(requests("mac")) {
        let bytes = encode_message(&message, ReplicaId(0), &sealer);
        let decoded = decode(&bytes, 1, &sealer).unwrap();
        let batch = match &decoded.message {
            Message::PrePrepare(pre_prepare) if !pre_prepare.batch.is_null() => &pre_prepare.batch,
            Message::Body(body) => &body.batch,
            _ => continue,
        };
        let own = batch.requests.operations.as_ptr_range();
        let frame = bytes.as_ptr_range();
        assert!(own.start < own.end && !frame.contains(&own.start), "{message:?}");
        batches += 1;
    }
    assert_eq!(batches, 2);
}

#[test]
fn other_frames_are_no_messages_and_bodies_carry_no_proofs() {
    let sealer = sealer("mac", 1);
    let kinds = [FrameKind::Hello, FrameKind::Welcome, FrameKind::Proof, FrameKind::Refusal, FrameKind::Requests];
    for kind in kinds.into_iter().chain([FrameKind::Replies]) {
        let result = decode_body_of(kind, 1, vec![0; 64].into(), &sealer);
        assert_eq!(result.unwrap_err(), DecodeError::NotAMessage);
    }
    let mut body = 7u64.to_le_bytes().to_vec();
    requests::encode_table(&mut body, &requests("mac"), ProofColumns::All);
    body.extend([0; 16]);
    assert_eq!(decode_body_of(FrameKind::Body, 1, body.into(), &sealer), Err(DecodeError::UnexpectedProofs));
}

#[test]
fn status_messages_are_bounded_and_have_no_unknown_flags() {
    let sealer = sealer("none", 1);
    let frame = encode_message(&every_message(requests("none"))[6], ReplicaId(0), &sealer);
    let good = frame.slice(FRAME_HEADER_BYTES..);
    for (at, value, error) in [
        (8, 4, DecodeError::UnknownFlags),
        (33, 65, DecodeError::TooManySlots),
        (37 + 16, 16, DecodeError::UnknownFlags),
    ] {
        let mut bad = good.to_vec();
        bad[at] = value;
        assert_eq!(decode_body_of(FrameKind::Status, 1, bad.into(), &sealer), Err(error));
    }
}

#[test]
fn truncated_and_extended_bodies_are_refused() {
    for strategy in ["none", "mac"] {
        let sealer = sealer(strategy, 1);
        for message in every_message(requests(strategy)) {
            let frame = encode_message(&message, ReplicaId(0), &sealer);
            let kind = FrameKind::from_u8(frame[7]).unwrap();
            let body = frame.slice(FRAME_HEADER_BYTES..);
            for len in 0..body.len() {
                let result = decode_body_of(kind, 1, body.slice(..len), &sealer);
                assert_eq!(result.unwrap_err(), DecodeError::Truncated, "{kind:?} {len}");
            }
            let longer = [&body[..], &[0]].concat().into();
            assert_eq!(decode_body_of(kind, 1, longer, &sealer).unwrap_err(), DecodeError::TrailingBytes);
        }
    }
}

proptest! {
    #[test]
    fn garbage_never_panics(kind in 0..FrameKind::ALL.len(), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode_body_of(FrameKind::ALL[kind], 1, bytes.into(), &sealer("mac", 1));
    }

    #[test]
    fn a_flipped_bit_is_refused_or_changes_what_is_proven_or_hits_a_proof(
        which in 0usize..17,
        at in any::<prop::sample::Index>(),
        bit in 0..8,
    ) {
        let sealer = sealer("mac", 1);
        let frame = encode_message(&every_message(requests("mac"))[which], ReplicaId(0), &sealer);
        let kind = FrameKind::from_u8(frame[7]).unwrap();
        let good = decode(&frame, 1, &sealer).unwrap();
        let mut bytes = frame[FRAME_HEADER_BYTES..].to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1u8 << bit;
        if let Ok(bad) = decode_body_of(kind, 1, bytes.into(), &sealer) {
            let proofs = |message: &Message| match message {
                Message::PrePrepare(m) => Some(m.batch.requests.proofs.clone()),
                Message::Forward(table) => Some(table.proofs.clone()),
                _ => None,
            };
            prop_assert!(
                bad.block != good.block
                    || bad.proof != good.proof
                    || bad.origin != good.origin
                    || proofs(&bad.message) != proofs(&good.message)
            );
        }
    }
}
