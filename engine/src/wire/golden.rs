//! Golden bytes: one frame of every kind, made from fixed keys. If a change of code changes bytes, nodes of two builds
//! no longer understand each other: raise [`WIRE_VERSION`](super::frame::WIRE_VERSION), then rewrite the files by
//! `HIPPODROME_BLESS=1 cargo test -p hippodrome-engine golden`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::frame::{FrameKind, FrameReader, WIRE_VERSION};
use super::{
    Decoder, Handshake, decode_answering, encode_answering, encode_batch_replies, encode_message, encode_read_replies,
    encode_reads, encode_replies, encode_requests, encode_tentative_replies, handshake,
};
use crate::auth::Sealer;
use crate::auth::testing::{cluster, keyring, table};
use crate::limits::FRAME_BODY_BYTES_MAX;
use crate::protocol::message::{
    Body, Checkpoint, DigestPrePrepare, FetchState, Message, NewView, PrePrepare, Signed, SlotStatus, StateChunk,
    Status, ViewChange, Vote,
};
use crate::requests::{Batch, BatchForm, Manifest, ReplyTable, RequestTable, result_digest};
use crate::types::{ClientId, Digest, NodeId, ReplicaId, SequenceNumber, Timestamp, View};

/// Two requests of node 4's clients, sealed.
fn requests(strategy: &str) -> RequestTable {
    let mut table = table(&[(1, 2, b"put k v".to_vec()), (3, 4, vec![])]);
    table.proofs = Sealer::new(keyring(&cluster(strategy, 4, &[9]), 4)).seal_requests(&table);
    table
}

/// The same as read-only requests.
fn reads(strategy: &str) -> RequestTable {
    let mut table = requests(strategy);
    table.proofs = Sealer::new(keyring(&cluster(strategy, 4, &[9]), 4)).seal_reads(&table);
    table
}

/// Every golden frame by name. All are from a cluster of four replicas and one client node with nine clients.
fn frames() -> BTreeMap<String, Bytes> {
    let mut frames = BTreeMap::new();
    let file = cluster("mac", 4, &[9]);
    let (mut initiator, hello) = Handshake::initiate(keyring(&file, 4), NodeId(1), 0, 1, [0xaa; 32]);
    let mut acceptor = Handshake::accept(keyring(&file, 1), [0xbb; 32]);
    let read = |bytes: &Bytes| {
        let mut reader = FrameReader::new(FRAME_BODY_BYTES_MAX);
        reader.push(bytes.clone());
        reader.next_frame().unwrap().unwrap()
    };
    let welcome = acceptor.on_frame(&read(&hello)).unwrap().reply.unwrap();
    let proof = initiator.on_frame(&read(&welcome)).unwrap().reply.unwrap();
    let refusal = handshake::encode_refusal(NodeId(1), "node 9 is not in the cluster file");
    for (name, frame) in [("hello", hello), ("welcome", welcome), ("proof", proof), ("refusal", refusal)] {
        frames.insert(name.to_owned(), frame);
    }
    for strategy in ["none", "mac", "ed25519"] {
        frames.insert(format!("requests-{strategy}"), encode_requests(&requests(strategy), NodeId(4)));
        let sealer = Sealer::new(keyring(&cluster(strategy, 4, &[9]), 1));
        let replies = ReplyTable {
            clients: vec![ClientId(1), ClientId(3)],
            timestamps: vec![Timestamp(2), Timestamp(4)],
            result_ends: vec![2, 2],
            results: Bytes::from_static(b"ok"),
            digested: Vec::new(),
        };
        let sealed = encode_replies(&replies, View(5), NodeId(4), &sealer).remove(0);
        frames.insert(format!("replies-{strategy}"), sealed);
        let sealed = encode_tentative_replies(&replies, View(5), NodeId(4), &sealer).remove(0);
        frames.insert(format!("tentative-replies-{strategy}"), sealed);
        let long = ReplyTable {
            result_ends: vec![2, 302],
            results: [&b"ok"[..], &[7; 300]].concat().into(),
            ..replies.clone()
        };
        let (sequence, form) = (SequenceNumber(77), BatchForm::Digest);
        let sealed = encode_batch_replies(&long, View(5), sequence, form, NodeId(4), &sealer).remove(0);
        frames.insert(format!("batch-digest-{strategy}"), sealed);
        frames.insert(format!("reads-{strategy}"), encode_reads(&reads(strategy), NodeId(4)));
        let results = [b"ok", &result_digest(b"a long result").0[..]].concat().into();
        let replies = ReplyTable { result_ends: vec![2, 34], results, digested: vec![false, true], ..replies };
        let sealed = encode_read_replies(&replies, View(5), NodeId(4), &sealer).remove(0);
        frames.insert(format!("read-replies-{strategy}"), sealed);
        for (name, message) in messages(requests(strategy)) {
            frames.insert(format!("{name}-{strategy}"), encode_message(&message, ReplicaId(2), &sealer));
        }
    }
    frames.insert("answering".to_owned(), encode_answering(BatchForm::Digest, NodeId(4)));
    frames.extend(frames_of_groups());
    frames
}

/// The same two requests as one group, and a pre-prepare with the second of them alone.
fn frames_of_groups() -> Vec<(String, Bytes)> {
    let mut frames = Vec::new();
    for strategy in ["mac", "ed25519"] {
        let authentication = format!("{strategy}/frame");
        let both = requests(&authentication);
        frames.push((format!("requests-group-{strategy}"), encode_requests(&both, NodeId(4))));
        let sealer = Sealer::new(keyring(&cluster(&authentication, 4, &[9]), 1));
        let batch = Batch::new(both.select(&[1]));
        let message = Message::PrePrepare(PrePrepare { view: View(5), sequence: SequenceNumber(77), batch });
        frames.push((format!("pre-prepare-group-{strategy}"), encode_message(&message, ReplicaId(2), &sealer)));
    }
    frames
}

fn messages(requests: RequestTable) -> [(&'static str, Message); 14] {
    let (view, sequence) = (View(5), SequenceNumber(77));
    let batch = Batch::new(requests.clone());
    let vote = Vote { view, sequence, digest: batch.digest };
    let slot = SlotStatus {
        pre_prepared: true,
        prepared: true,
        committed: false,
        announced: false,
        prepares: 0b1101,
        commits: 0b0010,
    };
    let status = Status {
        view,
        active: true,
        suspects: true,
        view_changes: 0b0110,
        stable: SequenceNumber(64),
        committed: SequenceNumber(76),
        slots: vec![slot],
    };
    let stable = Checkpoint { sequence: SequenceNumber(64), digest: Digest([0xdd; 32]) };
    let before = Vote { view: View(4), ..vote };
    let view_change = ViewChange {
        replica: ReplicaId(1),
        view,
        stable: stable.sequence,
        checkpoints: vec![stable],
        prepared: vec![before],
        pre_prepared: vec![before],
    };
    let named = [0, 1, 3].map(|replica| (ReplicaId(replica), Digest([0xee; 32])));
    let new_view = NewView { view, view_changes: named.to_vec() };
    let bytes = Bytes::from_static(b"state");
    let chunk = StateChunk { sequence: SequenceNumber(256), index: 3, count: 4, bytes };
    let manifest = Arc::new(Manifest::of(&batch));
    [
        ("digest-pre-prepare", Message::DigestPrePrepare(DigestPrePrepare { view, sequence, manifest })),
        ("pre-prepare", Message::PrePrepare(PrePrepare { view, sequence, batch: batch.clone() })),
        ("prepare", Message::Prepare(vote)),
        ("commit", Message::Commit(vote)),
        ("checkpoint", Message::Checkpoint(Checkpoint { sequence: SequenceNumber(128), digest: Digest([0xcc; 32]) })),
        ("status", Message::Status(status)),
        ("forward", Message::Forward(Arc::new(requests))),
        ("committed", Message::Committed(vote)),
        ("body", Message::Body(Body { sequence, batch })),
        ("view-change", Message::ViewChange(Signed::own(view_change))),
        ("new-view", Message::NewView(Signed::own(new_view))),
        ("state-wanted", Message::StateWanted(SequenceNumber(256))),
        ("fetch-state", Message::FetchState(FetchState { sequence: SequenceNumber(256), index: 3 })),
        ("state-chunk", Message::StateChunk(chunk)),
    ]
}

/// Hex, 32 bytes a line.
fn to_text(frame: &[u8]) -> String {
    frame.chunks(32).map(|line| hex::encode(line) + "\n").collect()
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/wire").join(format!("{name}.hex"))
}

#[test]
fn golden_bytes_have_not_changed() {
    let frames = frames();
    for (name, frame) in &frames {
        let (path, text) = (path(name), to_text(frame));
        if std::env::var_os("HIPPODROME_BLESS").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let golden = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(golden, text, "{}: layout changed, see the top of this file", path.display());
    }
    let files = fs::read_dir(path("x").parent().unwrap()).unwrap().count();
    assert_eq!(files, frames.len(), "files that no frame belongs to");
}

#[test]
fn golden_bytes_decode() {
    for (name, frame) in frames() {
        let mut reader = FrameReader::new(FRAME_BODY_BYTES_MAX);
        reader.push(frame);
        let frame = reader.next_frame().unwrap().unwrap();
        let strategy = name.rsplit('-').next().unwrap_or_default();
        let granularity = if name.contains("-group-") { "/frame" } else { "" };
        let strategy = &format!("{}{granularity}", strategy_or_mac(strategy));
        let mut decoder = Decoder::new(&keyring(&cluster(strategy, 4, &[9]), 2));
        let sender = ReplicaId(frame.sender.0);
        match frame.kind {
            FrameKind::Hello | FrameKind::Welcome | FrameKind::Proof | FrameKind::Refusal => {}
            FrameKind::Requests => assert_eq!(decoder.requests(frame.body).unwrap(), requests(strategy)),
            FrameKind::Reads => assert_eq!(decoder.requests(frame.body).unwrap(), reads(strategy)),
            FrameKind::ReadReplies => {
                let replies = decoder.read_replies(sender, frame.body).unwrap().replies;
                assert_eq!((replies.len(), replies.is_digest(0), replies.is_digest(1)), (2, false, true));
            }
            FrameKind::Replies => {
                let decoded = decoder.replies(sender, frame.body).unwrap();
                assert_eq!((decoded.replies.len(), decoded.tentative), (2, name.starts_with("tentative")));
            }
            FrameKind::BatchDigest => {
                assert_eq!(decoder.batch_digest(sender, frame.body).unwrap().sequence, SequenceNumber(77));
            }
            FrameKind::Answering => assert_eq!(decode_answering(frame.body), Ok(BatchForm::Digest)),
            kind => drop(decoder.message(kind, sender, frame.body).unwrap()),
        }
    }
}

fn strategy_or_mac(text: &str) -> &str {
    if ["none", "mac", "ed25519"].contains(&text) { text } else { "mac" }
}

#[test]
fn the_layout_document_shows_the_golden_bytes_and_names_every_kind() {
    let document = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/wire.md")).unwrap();
    for name in [
        "requests-mac",
        "requests-group-mac",
        "pre-prepare-group-mac",
        "pre-prepare-mac",
        "digest-pre-prepare-mac",
        "prepare-mac",
        "status-none",
        "replies-mac",
        "tentative-replies-none",
        "batch-digest-mac",
        "answering",
        "reads-mac",
        "read-replies-mac",
        "refusal",
        "view-change-none",
        "new-view-none",
    ] {
        let golden = fs::read_to_string(path(name)).unwrap();
        assert!(document.contains(&golden), "docs/wire.md does not show {name}.hex as it is");
    }
    for kind in FrameKind::ALL {
        assert!(document.contains(&format!("| {} | {kind:?} |", *kind as u8)), "docs/wire.md: {kind:?}");
    }
    for error in super::FrameError::ALL.iter().map(|e| e.name()).chain(super::DecodeError::ALL.iter().map(|e| e.name()))
    {
        assert!(document.contains(&format!("`{error}`")), "docs/wire.md: {error}");
    }
    assert!(document.contains(&format!("version {WIRE_VERSION}")));
}
