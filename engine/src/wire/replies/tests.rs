use proptest::prelude::*;

use super::*;
use crate::auth::testing::{cluster, keyring};
use crate::auth::{Check, Verifier};
use crate::limits::FRAME_HEADER_BYTES;
use crate::settings::Authentication;
use crate::types::{ClientId, Timestamp};
use crate::wire::FrameReader;

fn replies(entries: &[(u32, u64, Vec<u8>)]) -> ReplyTable {
    let mut table = ReplyTable::default();
    let mut results = Vec::new();
    for (client, timestamp, result) in entries {
        table.clients.push(ClientId(*client));
        table.timestamps.push(Timestamp(*timestamp));
        results.extend_from_slice(result);
        table.result_ends.push(u32::try_from(results.len()).unwrap());
    }
    table.results = results.into();
    table
}

fn sealer(strategy: &str) -> Sealer {
    Sealer::new(keyring(&cluster(strategy, 4, &[9]), 1))
}

fn decode(body: Bytes, sealer: &Sealer) -> Result<DecodedReplies, DecodeError> {
    let proof_bytes = sealer.proof_bytes(LinkClass::ReplicaToClient);
    decode_replies(ReplicaId(1), body, sealer.keyring().cluster(), proof_bytes)
}

#[test]
fn replies_are_authentic_at_their_client_node() {
    for strategy in Authentication::presets() {
        let sealer = sealer(strategy);
        let sent = replies(&[(0, 7, b"yes".to_vec()), (3, 1, vec![])]);
        let frames = encode_replies(&sent, View(2), NodeId(4), &sealer);
        assert_eq!(frames.len(), 1);
        let mut reader = FrameReader::new(1000);
        reader.push(frames[0].clone());
        let frame = reader.next_frame().unwrap().unwrap();
        assert_eq!((frame.kind, frame.sender), (FrameKind::Replies, NodeId(1)));
        let decoded = decode(frame.body, &sealer).unwrap();
        assert_eq!((&decoded.replies, decoded.view), (&sent, View(2)));
        let mut verifier = Verifier::new(keyring(&cluster(strategy, 4, &[9]), 4));
        let mut good = Vec::new();
        let check = Check { signer: NodeId(1), block: decoded.block, proof: &decoded.proof };
        verifier.verify(LinkClass::ReplicaToClient, &[check], &mut good);
        assert_eq!(good, [true], "{strategy}");
    }
}

#[test]
fn a_proof_covers_every_byte_of_the_body() {
    let sealer = sealer("mac");
    let frame = &encode_replies(&replies(&[(0, 7, b"yes".to_vec())]), View(2), NodeId(4), &sealer)[0];
    let body = frame.slice(FRAME_HEADER_BYTES..);
    let good = decode(body.clone(), &sealer).unwrap();
    for at in 0..body.len() - TAG {
        let mut bad = body.to_vec();
        bad[at] ^= 1;
        if let Ok(bad) = decode(bad.into(), &sealer) {
            assert_ne!(bad.block, good.block, "byte {at}");
        }
    }
}
const TAG: usize = crate::limits::TAG_BYTES;

#[test]
fn replies_that_do_not_fit_in_one_frame_take_several() {
    let sealer = sealer("ed25519");
    let entries: Vec<_> = (0..40).map(|client| (client, 1, vec![client as u8; RESULT_BYTES_MAX])).collect();
    let sent = replies(&entries);
    let frames = encode_replies(&sent, View(0), NodeId(4), &sealer);
    assert_eq!(frames.len(), 3, "15 results of 1 MiB fit in 16 MiB");
    let mut clients = Vec::new();
    for frame in frames {
        let decoded = decode(frame.slice(FRAME_HEADER_BYTES..), &sealer).unwrap().replies;
        for (index, client) in decoded.clients.iter().enumerate() {
            assert_eq!(decoded.result(index), vec![client.0 as u8; RESULT_BYTES_MAX]);
        }
        clients.extend(decoded.clients);
    }
    assert_eq!(clients, sent.clients);
    assert!(encode_replies(&ReplyTable::default(), View(0), NodeId(4), &sealer).is_empty());
}

/// Three replies, of which the second and third are digests.
fn with_digests() -> ReplyTable {
    let mut table = replies(&[(0, 7, b"yes".to_vec()), (3, 1, vec![9; 32]), (4, 1, vec![8; 32])]);
    table.digested = vec![false, true, true];
    table
}

#[test]
fn digests_keep_their_places() {
    let sealer = sealer("mac");
    let sent = with_digests();
    let frames = encode_replies(&sent, View(2), NodeId(4), &sealer);
    assert_eq!(decode(frames[0].slice(FRAME_HEADER_BYTES..), &sealer).unwrap().replies, sent);
    // Where they take several frames, too.
    let entries: Vec<_> = (0..40).map(|client| (client, 1, vec![client as u8; RESULT_BYTES_MAX])).collect();
    let mut sent = replies(&entries);
    sent.digested = vec![false; 40];
    let frames = encode_replies(&sent, View(0), NodeId(4), &sealer);
    for frame in frames {
        let decoded = decode(frame.slice(FRAME_HEADER_BYTES..), &sealer).unwrap().replies;
        assert_eq!(decoded.digested, vec![false; decoded.len()]);
    }
}

#[test]
fn forms_that_there_are_not_are_refused() {
    let sealer = sealer("none");
    let body = encode_replies(&with_digests(), View(2), NodeId(4), &sealer)[0].slice(FRAME_HEADER_BYTES..);
    let forms = 8 + 8 + 4 + 3 * (9 + 3);
    assert_eq!(body[forms..forms + 4], [1, 0, 1, 1]);
    for (at, value) in [(0, 4), (0, 5), (1, 1), (2, 2)] {
        let mut bad = body.to_vec();
        bad[forms + at] = value;
        assert_eq!(decode(bad.into(), &sealer), Err(DecodeError::BadForm), "byte {at}");
    }
}

#[test]
fn what_is_tentative_says_so_and_no_answer_to_a_read_is() {
    let sealer = sealer("mac");
    let body = |frames: Vec<Bytes>| frames[0].slice(FRAME_HEADER_BYTES..);
    for sent in [with_digests(), replies(&[(0, 7, b"yes".to_vec())])] {
        let tentative = decode(body(encode_tentative_replies(&sent, View(2), NodeId(4), &sealer)), &sealer).unwrap();
        let committed = decode(body(encode_replies(&sent, View(2), NodeId(4), &sealer)), &sealer).unwrap();
        assert_eq!((tentative.tentative, committed.tentative), (true, false));
        assert_eq!((&tentative.replies, &committed.replies, tentative.view), (&sent, &sent, View(2)));
        assert_ne!(tentative.block, committed.block, "the proof covers it");
        let mut read = body(encode_read_replies(&sent, View(2), NodeId(4), &sealer)).to_vec();
        let cluster = sealer.keyring().cluster();
        assert!(decode_read_replies(ReplicaId(1), read.clone().into(), cluster, TAG).is_ok());
        // Of one result the length takes no bytes of its own.
        let lengths = if sent.len() == 1 { 0 } else { sent.len() };
        read[8 + 8 + 4 + 3 * 9 + 2 * sent.len() + lengths] |= 2;
        assert_eq!(decode_read_replies(ReplicaId(1), read.into(), cluster, TAG), Err(DecodeError::BadForm));
    }
}

#[test]
fn an_answer_to_a_read_proves_no_reply_to_what_was_ordered() {
    let sealer = sealer("mac");
    let frame = &encode_read_replies(&replies(&[(0, 7, b"yes".to_vec())]), View(2), NodeId(4), &sealer)[0];
    let mut verifier = Verifier::new(keyring(&cluster("mac", 4, &[9]), 4));
    let body = frame.slice(FRAME_HEADER_BYTES..);
    let bytes = sealer.keyring().cluster();
    for (decode, holds) in [(decode_read_replies as fn(_, _, _, _) -> _, true), (decode_replies, false)] {
        let decoded: DecodedReplies = decode(ReplicaId(1), body.clone(), bytes, TAG).unwrap();
        let mut good = Vec::new();
        let check = Check { signer: NodeId(1), block: decoded.block, proof: &decoded.proof };
        verifier.verify(LinkClass::ReplicaToClient, &[check], &mut good);
        assert_eq!(good, [holds]);
    }
}

/// All that a batch gives, at any replica, in any view.
#[test]
fn the_digest_of_a_batch_stands_for_its_replies() {
    let sealer = sealer("mac");
    let sent = replies(&(0..40).map(|client| (client, 7, vec![client as u8; 9])).collect::<Vec<_>>());
    let encode = |form, view| {
        let frames = encode_batch_replies(&sent, View(view), SequenceNumber(77), form, NodeId(4), &sealer);
        assert_eq!(frames.len(), 1);
        frames[0].slice(FRAME_HEADER_BYTES..)
    };
    let whole = decode(encode(BatchForm::Whole, 2), &sealer).unwrap();
    assert_eq!((&whole.replies, whole.view, whole.sequence, whole.short), (&sent, View(2), SequenceNumber(77), false));
    assert_eq!(Some(whole.digest), batch_digest(&sent));
    let body = encode(BatchForm::Digest, 3);
    assert_eq!(body.len(), 8 + 8 + 32 + TAG);
    let cluster = sealer.keyring().cluster();
    let decode_digest = |body: Bytes| decode_batch_digest(ReplicaId(1), body, cluster, TAG);
    let digest = decode_digest(body.clone()).unwrap();
    assert_eq!((digest.digest, digest.view, digest.sequence), (whole.digest, View(3), SequenceNumber(77)));
    let same_view = decode_digest(encode(BatchForm::Digest, 2)).unwrap();
    assert_eq!((same_view.block, &same_view.proof), (whole.block, &whole.proof), "it proves what the replies prove");
    for at in 0..body.len() - TAG {
        let mut bad = body.to_vec();
        bad[at] ^= 1;
        assert_ne!(decode_digest(bad.into()).unwrap().block, digest.block, "byte {at}");
    }
    for len in 0..body.len() {
        assert_eq!(decode_digest(body.slice(..len)), Err(DecodeError::Truncated), "{len}");
    }
    assert_eq!(decode_digest([&body[..], &[0]].concat().into()), Err(DecodeError::TrailingBytes));
    let of_none = [&body[..8], &[0; 8], &body[16..]].concat();
    assert_eq!(decode_digest(of_none.into()), Err(DecodeError::BadSequence));
}

#[test]
fn replies_that_are_tentative_or_to_reads_or_digests_are_those_of_no_batch() {
    let sealer = sealer("mac");
    let sent = replies(&[(0, 7, b"yes".to_vec())]);
    let of_a_batch = |frames: Vec<Bytes>| {
        let mut body = frames[0].slice(FRAME_HEADER_BYTES..).to_vec();
        body[8] = 1;
        Bytes::from(body)
    };
    let tentative = of_a_batch(encode_tentative_replies(&sent, View(2), NodeId(4), &sealer));
    assert_eq!(decode(tentative, &sealer), Err(DecodeError::BadSequence));
    let read = of_a_batch(encode_read_replies(&sent, View(2), NodeId(4), &sealer));
    let decoded = decode_read_replies(ReplicaId(1), read, sealer.keyring().cluster(), TAG);
    assert_eq!(decoded, Err(DecodeError::BadSequence));
    let digests = of_a_batch(encode_replies(&with_digests(), View(2), NodeId(4), &sealer));
    assert_eq!(decode(digests, &sealer), Err(DecodeError::BadSequence), "which are digests differs");
    assert!(decode(of_a_batch(encode_replies(&sent, View(2), NodeId(4), &sealer)), &sealer).is_ok());
}

#[test]
fn replies_to_a_batch_that_take_several_frames_are_whole_and_of_none() {
    let sealer = sealer("none");
    let entries: Vec<_> = (0..20).map(|client| (client, 1, vec![client as u8; RESULT_BYTES_MAX])).collect();
    let sent = replies(&entries);
    for form in [BatchForm::Whole, BatchForm::Digest] {
        let frames = encode_batch_replies(&sent, View(0), SequenceNumber(5), form, NodeId(4), &sealer);
        assert_eq!(frames.len(), 2);
        for frame in frames {
            assert_eq!(decode(frame.slice(FRAME_HEADER_BYTES..), &sealer).unwrap().sequence, SequenceNumber(0));
        }
        let none = ReplyTable::default();
        assert!(encode_batch_replies(&none, View(0), SequenceNumber(5), form, NodeId(4), &sealer).is_empty());
    }
    assert_eq!((batch_digest(&sent), batch_digest(&ReplyTable::default())), (None, None));
}

#[test]
fn each_defect_has_its_own_reason() {
    let sealer = sealer("mac");
    let frame = &encode_replies(&replies(&[(0, 7, b"yes".to_vec())]), View(2), NodeId(4), &sealer)[0];
    let good = frame.slice(FRAME_HEADER_BYTES..);
    for len in 0..good.len() {
        assert_eq!(decode(good.slice(..len), &sealer), Err(DecodeError::Truncated), "{len}");
    }
    assert_eq!(decode([&good[..], &[0]].concat().into(), &sealer), Err(DecodeError::TrailingBytes));
    let long = u32::try_from(RESULT_BYTES_MAX + 1).unwrap();
    for (at, value, error) in [(16, 4097, DecodeError::TooManyReplies), (41, long, DecodeError::ResultTooLong)] {
        let mut bad = good.to_vec();
        bad[at..at + 4].copy_from_slice(&value.to_le_bytes());
        assert_eq!(decode(bad.into(), &sealer), Err(error));
    }
}

proptest! {
    #[test]
    fn replies_survive_the_wire(
        entries in prop::collection::vec((any::<u32>(), any::<u64>(), prop::collection::vec(any::<u8>(), 0..50)), 1..40),
        view in any::<u64>(),
    ) {
        let sealer = sealer("mac");
        let sent = replies(&entries);
        let frames = encode_replies(&sent, View(view), NodeId(4), &sealer);
        let decoded = decode(frames[0].slice(FRAME_HEADER_BYTES..), &sealer).unwrap();
        prop_assert_eq!((decoded.view, decoded.replies), (View(view), sent));
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), count in 0u8..6) {
        let sealer = sealer("mac");
        let _ = decode(bytes.clone().into(), &sealer);
        let _ = decode([&[0; 16][..], &[count, 0, 0, 0], &bytes].concat().into(), &sealer);
    }
}
