//! Frames, bodies and handshakes.
//!
//! The first byte says which preset of strategies the cluster uses, for requests or for groups, and whether what
//! follows the second is a stream as it is, or frames without their heads (kind, sender, length, body), which get sums
//! that fit. The second byte says in how large chunks the stream arrives.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use arbitrary::Unstructured;
use bytes::Bytes;
use hippodrome_engine::auth::{Keyring, LinkClass, NodeKey, Sealer};
use hippodrome_engine::limits::{
    DIGEST_BYTES, FRAME_BODY_BYTES_MAX, FRAME_HEADER_BYTES, GROUP_BYTES, HELLO_BODY_BYTES_MAX,
    REQUEST_COLUMNS_BYTES_MIN, STATUS_SLOTS_MAX,
};
use hippodrome_engine::protocol::Message;
use hippodrome_engine::requests::{BatchForm, Proofs, ReplyTable};
use hippodrome_engine::settings::{Authentication, ClusterFile, ClusterSettings, Granularity};
use hippodrome_engine::types::{NodeId, ReplicaId, View};
use hippodrome_engine::wire::frame::encode_frame;
use hippodrome_engine::wire::handshake::decode_refusal;
use hippodrome_engine::wire::requests::{ProofColumns, encode_table};
use hippodrome_engine::wire::{
    DecodeError, DecodedBatchDigest, DecodedReplies, Decoder, Frame, FrameError, FrameKind, FrameReader, Handshake,
    decode_answering, encode_answering, encode_batch_replies, encode_message, encode_read_replies, encode_reads,
    encode_replies, encode_requests, encode_tentative_replies,
};

/// Bytes that a reader may hold beside those that have arrived.
const CARRY_SLACK_BYTES: usize = 64;

/// Frames are those of the stream however it is cut; what decodes encodes to the same bytes; memory is bounded by what
/// arrived; only who holds the key is let in.
///
/// # Panics
/// If one of these does not hold.
pub fn wire(bytes: &[u8]) {
    let [options, chunk, rest @ ..] = bytes else { return };
    let cluster = &CLUSTERS[usize::from(options & 0x0f) % CLUSTERS.len()];
    let stream = if options & 0x10 == 0 { Bytes::copy_from_slice(rest) } else { frames_around(rest) };
    let (frames, error) = read_frames(&stream, stream.len());
    assert_eq!(read_frames(&stream, usize::from(*chunk) + 1), (frames.clone(), error), "chunks make no difference");
    let mut decoder = Decoder::new(&cluster[0]);
    for frame in &frames {
        check_body(cluster, &mut decoder, frame);
    }
    check_acceptor(cluster, &frames);
    check_initiator(cluster, &frames);
}

/// Presets of clusters in which groups of requests are proven, behind those in which each request is.
pub const IN_GROUPS: [&str; 2] = ["mac", "ed25519"];

/// The keyrings of clusters of four replicas and one client node with nine clients, one for each strategy, then one for
/// each of [`IN_GROUPS`]: of each replica, then of the client node. Keys are those of the golden frames.
static CLUSTERS: LazyLock<Vec<Vec<Arc<Keyring>>>> = LazyLock::new(|| {
    let key = |node: u16| {
        let mut seed = [0x51; 32];
        seed[..2].copy_from_slice(&node.to_le_bytes());
        NodeKey::from_seed(seed)
    };
    let single = Authentication::presets().map(|preset| (preset, Granularity::Request));
    let all = single.chain(IN_GROUPS.map(|preset| (preset, Granularity::Frame)));
    let clusters = all.map(|(preset, auth_granularity)| {
        let authentication = preset.parse().expect("a preset");
        let settings = ClusterSettings { authentication, auth_granularity, ..ClusterSettings::default() };
        let addresses: Vec<SocketAddr> = (0..4u16).map(|id| ([127, 0, 0, 1], 7000 + id).into()).collect();
        let file = ClusterFile::new(settings, &addresses, &[9], |id| key(id.0).public_hex()).expect("a good cluster");
        (0..5).map(|node| Keyring::new(&file, NodeId(node), &key(node)).expect("its own key")).collect()
    });
    let clusters: Vec<_> = clusters.collect();
    assert!(clusters.len() <= 16, "four bits choose");
    clusters
});

/// Frames with these kinds, senders and bodies.
fn frames_around(bytes: &[u8]) -> Bytes {
    let mut source = Unstructured::new(bytes);
    let mut stream = Vec::new();
    while !source.is_empty() {
        let [kind, sender, low, high] = source.arbitrary().unwrap_or_default();
        let kind = FrameKind::ALL[usize::from(kind) % FrameKind::ALL.len()];
        let len = usize::from(u16::from_le_bytes([low, high])).min(source.len());
        let body = source.bytes(len).unwrap_or_default();
        stream.extend_from_slice(&encode_frame(kind, NodeId(sender.into()), len, |out| out.extend_from_slice(body)));
    }
    stream.into()
}

/// The frames of a stream that arrives in chunks of so many bytes, and what ended it.
fn read_frames(stream: &Bytes, chunk: usize) -> (Vec<Frame>, Option<FrameError>) {
    let mut reader = FrameReader::new(FRAME_BODY_BYTES_MAX);
    let (mut frames, mut at, mut arrived) = (Vec::new(), 0, 0);
    for chunk in stream.chunks(chunk.max(1)) {
        arrived += chunk.len();
        reader.push(stream.slice_ref(chunk));
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => {
                    let again = encode_frame(frame.kind, frame.sender, frame.body.len(), |out| {
                        out.extend_from_slice(&frame.body);
                    });
                    assert_eq!(again, stream[at..at + again.len()], "a frame is written as it was read");
                    at += again.len();
                    frames.push(frame);
                }
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(reader.next_frame(), Err(error), "an error is the end");
                    assert_eq!(reader.carried_bytes(), 0, "nothing is kept behind an error");
                    return (frames, Some(error));
                }
            }
        }
        // A vector that grows doubles.
        let carried = reader.carried_bytes();
        assert!(carried <= 2 * (arrived - at) + CARRY_SLACK_BYTES, "{carried} bytes for {}", arrived - at);
    }
    (frames, None)
}

/// Encodes replies again.
fn check_replies(
    decoded: Result<DecodedReplies, DecodeError>,
    body: &Bytes,
    sealer: &Sealer,
    encode: fn(&ReplyTable, View, NodeId, &Sealer) -> Vec<Bytes>,
) {
    match decoded {
        Ok(DecodedReplies { view, sequence, tentative, replies, .. }) => {
            assert!(replies.len() * REQUEST_COLUMNS_BYTES_MIN <= body.len());
            assert!(replies.digested.is_empty() || replies.digested.len() == replies.len());
            let encode = if tentative { encode_tentative_replies } else { encode };
            let again = if sequence.0 > 0 && !replies.is_empty() {
                encode_batch_replies(&replies, view, sequence, BatchForm::Whole, NodeId(4), sealer)
            } else {
                encode(&replies, view, NodeId(4), sealer)
            };
            assert_eq!(again.len(), usize::from(!replies.is_empty()));
            let same = body.len() - sealer.proof_bytes(LinkClass::ReplicaToClient);
            if let Some(again) = again.first() {
                assert_eq!(again[FRAME_HEADER_BYTES..][..same], body[..same], "replies are written as read");
            }
        }
        Err(error) => assert!(!error.name().is_empty()),
    }
}

/// Decodes a body, and encodes it again.
fn check_body(cluster: &[Arc<Keyring>], decoder: &mut Decoder, frame: &Frame) {
    let Frame { kind, sender, body } = frame;
    let replica = ReplicaId(sender.0);
    // What is written again is written by a replica that there is.
    let sealer = || Sealer::new(Arc::clone(&cluster[usize::from(sender.0) % 4]));
    let unproven = |class| body.len() - cluster[0].strategy(class).proof_bytes();
    match kind {
        FrameKind::Hello | FrameKind::Welcome | FrameKind::Proof => {}
        FrameKind::Refusal => {
            let text = decode_refusal(body);
            assert!(!text.contains(char::is_control), "a refusal can be printed");
            assert!(text.len() <= 3 * body.len());
        }
        FrameKind::Requests | FrameKind::Reads => match decoder.requests(body.clone()) {
            Ok(table) => {
                assert!(table.digests.len() == table.len() && table.len() * REQUEST_COLUMNS_BYTES_MIN <= body.len());
                let encode = if *kind == FrameKind::Reads { encode_reads } else { encode_requests };
                assert_eq!(encode(&table, *sender)[FRAME_HEADER_BYTES..], *body, "requests are written as read");
            }
            Err(error) => assert!(!error.name().is_empty()),
        },
        FrameKind::Replies => check_replies(decoder.replies(replica, body.clone()), body, &sealer(), encode_replies),
        FrameKind::ReadReplies => {
            check_replies(decoder.read_replies(replica, body.clone()), body, &sealer(), encode_read_replies);
        }
        FrameKind::BatchDigest => match decoder.batch_digest(replica, body.clone()) {
            Ok(DecodedBatchDigest { view, sequence, digest, proof, .. }) => {
                let parts: [&[u8]; 4] = [&view.0.to_le_bytes(), &sequence.0.to_le_bytes(), &digest.0, &proof];
                assert_eq!(parts.concat(), *body, "a digest is all that there is");
                assert!(sequence.0 > 0);
            }
            Err(error) => assert!(!error.name().is_empty()),
        },
        FrameKind::Answering => match decode_answering(body.clone()) {
            Ok(form) => assert_eq!(encode_answering(form, *sender)[FRAME_HEADER_BYTES..], *body),
            Err(error) => assert!(!error.name().is_empty()),
        },
        kind => match decoder.message(*kind, replica, body.clone()) {
            Ok(decoded) => {
                let same = unproven(LinkClass::ReplicaToReplica);
                assert_eq!(decoded.proof, body[same..], "the proof is at the end");
                let again = content(&decoded.message, &sealer());
                assert_eq!(again[..same.min(again.len())], body[..same], "{kind:?}: a message is written as read");
                bounded(&decoded.message, body.len());
            }
            Err(error) => assert!(!error.name().is_empty()),
        },
    }
}

/// The body of a message, perhaps with another proof at its end.
fn content(message: &Message, sealer: &Sealer) -> Bytes {
    // The requests' proofs are for whoever decoded them: nobody else is sent those.
    if let Message::PrePrepare(message) = message {
        let mut out = [message.view.0.to_le_bytes(), message.sequence.0.to_le_bytes()].concat();
        encode_table(&mut out, &message.batch.requests, ProofColumns::All);
        return out.into();
    }
    encode_message(message, ReplicaId((sealer.keyring().own().0 + 1) % 4), sealer).slice(FRAME_HEADER_BYTES..)
}

/// Lists are as long as the bytes that hold them.
fn bounded(message: &Message, body_bytes: usize) {
    match message {
        Message::Status(status) => assert!(status.slots.capacity() <= STATUS_SLOTS_MAX),
        Message::ViewChange(signed) => {
            let change = &*signed.content;
            let entries = change.prepared.capacity() + change.pre_prepared.capacity();
            assert!(48 * entries + 40 * change.checkpoints.capacity() <= body_bytes + 48);
        }
        Message::NewView(signed) => assert!(34 * signed.content.view_changes.capacity() <= body_bytes + 34),
        Message::PrePrepare(message) => {
            assert!(REQUEST_COLUMNS_BYTES_MIN * message.batch.requests.clients.capacity() <= body_bytes + 16);
            if let Proofs::Groups(groups) = &message.batch.requests.proofs {
                let bytes = GROUP_BYTES * groups.len() + DIGEST_BYTES * groups.holes().len();
                assert!(bytes <= body_bytes && groups.requests() == message.batch.requests.len());
            }
        }
        Message::DigestPrePrepare(message) => {
            assert!(message.manifest.len() * (REQUEST_COLUMNS_BYTES_MIN + DIGEST_BYTES) <= body_bytes)
        }
        _ => {}
    }
}

const INITIATOR: u16 = 4;
const ACCEPTOR: u16 = 1;
const INITIATOR_NONCE: [u8; 32] = [0xaa; 32];
const ACCEPTOR_NONCE: [u8; 32] = [0xbb; 32];

/// What both sides of an honest handshake send, in order.
fn honest(cluster: &[Arc<Keyring>]) -> [Frame; 3] {
    let read = |bytes: Bytes| read_frames(&bytes, bytes.len()).0.remove(0);
    let (mut initiator, hello) = initiate(cluster);
    let mut acceptor = accept(cluster);
    let hello = read(hello);
    let welcome = read(acceptor.on_frame(&hello).expect("honest").reply.expect("a welcome"));
    let proof = read(initiator.on_frame(&welcome).expect("honest").reply.expect("a proof"));
    [hello, welcome, proof]
}

fn initiate(cluster: &[Arc<Keyring>]) -> (Handshake, Bytes) {
    let keyring = Arc::clone(&cluster[usize::from(INITIATOR)]);
    Handshake::initiate(keyring, NodeId(ACCEPTOR), 0, 1, INITIATOR_NONCE)
}

fn accept(cluster: &[Arc<Keyring>]) -> Handshake {
    Handshake::accept(Arc::clone(&cluster[usize::from(ACCEPTOR)]), ACCEPTOR_NONCE)
}

fn check_acceptor(cluster: &[Arc<Keyring>], frames: &[Frame]) {
    let mut acceptor = accept(cluster);
    if let Some(index) = established(&mut acceptor, frames, NodeId(ACCEPTOR)) {
        let [hello, _, proof] = honest(cluster);
        assert!(frames[..=index] == [hello, proof], "somebody was let in without the key");
    }
}

fn check_initiator(cluster: &[Arc<Keyring>], frames: &[Frame]) {
    let (mut initiator, _) = initiate(cluster);
    if let Some(index) = established(&mut initiator, frames, NodeId(INITIATOR)) {
        assert_eq!(index, 0);
        let signature = |frame: &Frame| frame.body.slice(frame.body.len().saturating_sub(64)..);
        let [_, welcome, _] = honest(cluster);
        assert_eq!(signature(&frames[0]), signature(&welcome), "somebody without the key was believed");
    }
}

/// Feeds the frames to one side. Which of them let the peer in.
fn established(side: &mut Handshake, frames: &[Frame], own: NodeId) -> Option<usize> {
    let mut failed = false;
    for (index, frame) in frames.iter().enumerate() {
        match side.on_frame(frame) {
            Ok(step) => {
                assert!(!failed, "nothing is taken behind an error");
                if step.established.is_some() {
                    assert!(side.on_frame(frame).is_err(), "nothing belongs behind a handshake");
                    return Some(index);
                }
            }
            Err(error) => {
                failed = true;
                assert!(!error.name().is_empty());
                let Some(refusal) = error.refusal(own) else { continue };
                let (frames, error) = read_frames(&refusal, refusal.len());
                assert!(error.is_none() && frames.len() == 1 && frames[0].kind == FrameKind::Refusal);
                assert!(frames[0].body.len() <= HELLO_BODY_BYTES_MAX);
            }
        }
    }
    None
}
