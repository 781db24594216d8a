//! That turns are shared fairly, and that what is pushed comes out, in order.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::cost as cost_of;
use super::*;
use crate::auth::Sealer;
use crate::auth::testing::{cluster, keyring, table};
use crate::limits::FRAME_BODY_BYTES_MAX;
use crate::protocol::Message;
use crate::protocol::message::{Body, PrePrepare};
use crate::requests::Batch;
use crate::types::{SequenceNumber, View};
use crate::wire::{FrameReader, encode_message, encode_reads, encode_requests};

/// Node 4 and 5 are client nodes, after four replicas.
const NODES: u16 = 6;
/// Bytes of a signed request without its operation.
const REQUEST_BYTES: usize = 16 + 64;

fn intake() -> Intake {
    Intake::new(&keyring(&cluster("ed25519-batch", 4, &[9, 9]), 0))
}

/// A frame that costs 1 + `requests`. Its number is in its body's length, below the bytes of a request.
fn frame(kind: FrameKind, sender: u16, requests: usize, number: usize) -> Frame {
    let mut body = vec![0; requests * REQUEST_BYTES + number % REQUEST_BYTES];
    let table = if kind == FrameKind::PrePrepare { 16 } else { 0 };
    if let Some(count) = body.get_mut(table..table + 4) {
        count.copy_from_slice(&(requests as u32).to_le_bytes());
    }
    Frame { kind, sender: NodeId(sender), body: Bytes::from(body) }
}

fn cost(frames: &Frames) -> u64 {
    frames.frames.iter().map(|frame| 1 + (frame.body.len() / REQUEST_BYTES) as u64).sum()
}

fn all(_: NodeId) -> bool {
    true
}

fn nobody(_: NodeId) -> bool {
    false
}

/// Where verify stages have threads of their own, about a batch at a time.
#[test]
fn other_threads_get_smaller_pieces() {
    let pieces = |intake: Intake| {
        let mut intake = intake;
        (0..8).for_each(|number| assert!(intake.push(Time(1), frame(FrameKind::PrePrepare, 1, 249, number))));
        std::iter::from_fn(|| intake.pop_peer(|_| true)).map(|piece| piece.frames.len()).collect::<Vec<_>>()
    };
    let tags = || Intake::new(&keyring(&cluster("mac", 4, &[9, 9]), 0));
    assert_eq!(pieces(tags()), [8]);
    assert_eq!(pieces(tags().across_threads()), [2; 4]);
    assert_eq!(
        [pieces(intake()), pieces(intake().across_threads())],
        [[1; 8], [1; 8]],
        "signatures are handed out one by one"
    );
}

/// A frame is charged for all that its decoder does, however few bytes a request takes, and for long operations.
#[test]
fn frames_cost_what_they_say_to_have_or_what_their_bytes_are_worth() {
    let client = NodeId(4);
    let requests: Vec<_> = (0..REQUESTS_MAX as u32).map(|client| (client, 1, vec![])).collect();
    let full = table(&requests);
    let received = |bytes: Bytes| {
        let mut reader = FrameReader::new(FRAME_BODY_BYTES_MAX);
        reader.push(bytes);
        reader.next_frame().unwrap().unwrap()
    };
    let replica = Sealer::new(keyring(&cluster("none", 4, &[9_000]), 0));
    let batch = Batch::new(full.clone());
    let (view, sequence) = (View(0), SequenceNumber(1));
    let said = [
        Message::Body(Body { sequence, batch: Arc::clone(&batch) }),
        Message::PrePrepare(PrePrepare { view, sequence, batch }),
        Message::Forward(Arc::new(full.clone())),
    ];
    let by_replica = said.iter().map(|message| encode_message(message, ReplicaId(1), &replica));
    let by_client = [encode_requests(&full, client), encode_reads(&full, client)];
    for frame in by_replica.chain(by_client).map(received) {
        assert!(frame.body.len() < 4 * REQUESTS_MAX, "{:?}: {} bytes", frame.kind, frame.body.len());
        assert_eq!(cost_of(&frame), 1 + REQUESTS_MAX as u32, "{:?}", frame.kind);
    }
    let long = received(encode_requests(&table(&[(1, 1, vec![0; 1 << 20])]), client));
    assert!(cost_of(&long) > 8000, "{}", cost_of(&long));
    // What claims more than there may be is refused for that alone.
    let claims = Frame { kind: FrameKind::Requests, sender: NodeId(4), body: Bytes::from_static(&[0xff; 8]) };
    assert_eq!(cost_of(&claims), 1 + REQUESTS_MAX as u32);
    let short = Frame { body: Bytes::from_static(&[0xff; 3]), ..claims };
    assert_eq!(cost_of(&short), 1);
}

proptest! {
    #[test]
    fn two_client_nodes_get_the_same_whatever_the_sizes_of_their_frames(
        sizes in prop::collection::vec((0usize..600, 0usize..600), 40..120),
        forwards: bool,
    ) {
        let mut intake = intake();
        // A peer's forwards are a source like any other.
        let (kind, other) = if forwards { (FrameKind::Forward, 2) } else { (FrameKind::Requests, 5) };
        let mut dearest = u64::from(QUANTUM_SIGNED);
        for (number, (a, b)) in sizes.iter().enumerate() {
            prop_assert!(intake.push(Time(1), frame(FrameKind::Requests, 4, *a, number)));
            // What is over its bytes is refused, and this test is of those who always have something waiting.
            intake.push(Time(1), frame(kind, other, *b, number));
            dearest = dearest.max(1 + *a.max(b) as u64);
        }
        let mut served: HashMap<NodeId, u64> = HashMap::new();
        while intake.clients.active.len() == 2 {
            let frames = intake.pop_client(all, nobody).unwrap();
            prop_assert_eq!(u64::from(frames.cost), cost(&frames));
            prop_assert!(cost(&frames) <= u64::from(QUANTUM_SIGNED) || frames.frames.len() == 1);
            *served.entry(frames.source.node()).or_default() += cost(&frames);
            let (a, b) = (served.get(&NodeId(4)).unwrap_or(&0), served.get(&NodeId(other)).unwrap_or(&0));
            prop_assert!(a.abs_diff(*b) <= dearest, "{a} and {b}");
        }
    }

    #[test]
    fn nothing_is_lost_or_reordered(
        pushes in prop::collection::vec((0..FrameKind::ALL.len(), 0..NODES, 0usize..300, any::<bool>()), 1..200),
    ) {
        let mut intake = intake();
        let (mut pushed, mut popped): (HashMap<Source, Vec<Frame>>, HashMap<Source, Vec<Frame>>) = Default::default();
        let mut note = |frames: Option<Frames>| {
            let Some(Frames { source, frames, received, .. }) = frames else { return false };
            let all = popped.entry(source).or_default();
            assert_eq!(received, Time(all.len() as u64), "when the first of them was read");
            assert!(!frames.is_empty() && frames.iter().all(|frame| Source::of(frame, 4) == source));
            all.extend(frames);
            true
        };
        for (kind, sender, requests, pop) in pushes {
            let frame = frame(FrameKind::ALL[kind], sender, requests, 7);
            let of_source = pushed.entry(Source::of(&frame, 4)).or_default();
            let at = Time(of_source.len() as u64);
            if intake.push(at, frame.clone()) {
                of_source.push(frame);
            }
            if pop {
                note(intake.pop_peer(|_| true));
                note(intake.pop_client(all, |node| node == NodeId(4)));
            }
        }
        while note(intake.pop_peer(|_| true)) || note(intake.pop_client(all, nobody)) {}
        prop_assert!(intake.is_empty());
        pushed.retain(|_, frames| !frames.is_empty());
        prop_assert_eq!(pushed, popped);
        prop_assert!((0..NODES).all(|node| intake.paced_bytes(NodeId(node)) == 0));
    }

    #[test]
    fn what_waits_of_one_node_is_bounded(sizes in prop::collection::vec(0usize..9000, 1..200), sender in 0..NODES) {
        let mut intake = intake();
        for (number, requests) in sizes.into_iter().enumerate() {
            let kind = [FrameKind::PrePrepare, FrameKind::Commit, FrameKind::Requests][number % 3];
            let before = intake.is_over(NodeId(sender));
            // Whoever reads stops there.
            if !before {
                intake.push(Time(1), frame(kind, sender, requests, number));
            }
            let largest = 9001 * REQUEST_BYTES + size_of::<Waiting>();
            prop_assert!(intake.paced_bytes(NodeId(sender)) < INTAKE_BYTES_MAX + largest);
        }
        while intake.pop_peer(|_| true).is_some() || intake.pop_client(all, nobody).is_some() {}
        prop_assert!(intake.is_relieved(NodeId(sender)) && !intake.is_over(NodeId(sender)));
    }
}

#[test]
fn an_idle_node_saves_nothing_up_and_a_busy_one_owes_nothing() {
    let mut intake = intake();
    for number in 0..100 {
        intake.push(Time(1), frame(FrameKind::Requests, 4, 100, number));
    }
    for _ in 0..50 {
        assert_eq!(intake.pop_client(all, nobody).unwrap().source, Source::Client(NodeId(4)));
    }
    for number in 0..50 {
        intake.push(Time(1), frame(FrameKind::Requests, 5, 100, number));
    }
    let turns: Vec<u16> = (0..10).map(|_| intake.pop_client(all, nobody).unwrap().source.node().0).collect();
    for pair in turns.chunks(2) {
        assert!(pair.contains(&4) && pair.contains(&5), "{turns:?}");
    }
}

#[test]
fn a_suspect_gets_an_eighth_of_what_others_get_and_everything_if_nobody_else_asks() {
    let mut intake = intake();
    for number in 0..200 {
        for sender in [4, 5] {
            intake.push(Time(1), frame(FrameKind::Requests, sender, 50, number));
        }
    }
    let suspect = |node| node == NodeId(4);
    let turns: Vec<u16> = (0..90).map(|_| intake.pop_client(all, suspect).unwrap().source.node().0).collect();
    assert_eq!(turns.iter().filter(|node| **node == 4).count(), 10, "{turns:?}");
    while intake.pop_client(all, suspect).is_some() {}
}

#[test]
fn a_peer_whose_stage_is_busy_does_not_hold_up_another() {
    let mut intake = intake();
    for sender in [1, 2] {
        intake.push(Time(1), frame(FrameKind::Commit, sender, 0, 7));
        intake.push(Time(1), frame(FrameKind::PrePrepare, sender, 10, 7));
    }
    let free = |source: Source| source != Source::Peer(ReplicaId(1));
    let mut sources = Vec::new();
    while let Some(frames) = intake.pop_peer(free) {
        sources.push(frames.source);
    }
    assert_eq!(sources.len(), 3);
    assert!(!sources.contains(&Source::Peer(ReplicaId(1))));
    assert!(!intake.has_peer(free) && intake.has_peer(|_| true) && !intake.has_client(all));
}

#[test]
fn too_many_forwards_are_refused_and_do_not_pause_their_sender() {
    let mut intake = intake();
    let forward = || frame(FrameKind::Forward, 1, 1000, 0);
    let taken = (0..100).filter(|_| intake.push(Time(1), forward())).count();
    assert_eq!(taken, INTAKE_BYTES_MAX.div_ceil(1000 * REQUEST_BYTES + size_of::<Waiting>()));
    assert!(!intake.is_over(NodeId(1)));
    assert!(intake.push(Time(1), frame(FrameKind::Commit, 1, 0, 7)));
    assert!(intake.push(Time(1), frame(FrameKind::Forward, 2, 1000, 0)), "another's are another's");
    intake.pop_client(all, nobody).unwrap();
    intake.pop_client(all, nobody).unwrap();
    assert!(intake.push(Time(1), forward()));
}
