//! What gets past the verify stage, and under which name the rest is counted.

mod lanes;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::app::{InvalidOperation, kv};
use crate::auth::testing::{cluster, keyring, table};
use crate::auth::{Digester, Sealer};
use crate::limits::FRAME_BODY_BYTES_MAX;
use crate::protocol::message::{DigestPrePrepare, NewView, Signed, ViewChange, Vote};
use crate::requests::{Batch, Manifest, Proofs};
use crate::ring::doorbell::Doorbell;
use crate::ring::{Producer, ring};
use crate::settings::Authentication;
use crate::types::{ClientId, Digest, SequenceNumber, View};
use crate::wire::{FrameReader, encode_message, encode_requests};

/// The node that speaks for the clients 0 to 8, after four replicas.
const CLIENT_NODE: u16 = 4;
const OWN: ReplicaId = ReplicaId(2);

/// The verify stage of replica 2 of four, with both its ends.
struct Harness {
    stage: Verify,
    peers: Producer<Frames>,
    clients: Producer<Frames>,
    verified: Receiver<Verified>,
    reads: Receiver<VerifiedReads>,
    blame: Blame,
    credit: Credit,
    reached: Reached,
}

impl Harness {
    fn new(strategy: &str, validator: Validator) -> Self {
        Self::among(&[9], strategy, validator)
    }

    /// The same with client nodes of so many clients each.
    fn among(clients: &[u32], strategy: &str, validator: Validator) -> Self {
        Self::before((clients, strategy), validator, false)
    }

    /// The same where the order stage has another thread if it is `across` threads.
    fn before((clients, strategy): (&[u32], &str), validator: Validator, across: bool) -> Self {
        let (peers, peers_out) = ring(16);
        let (clients_in, clients_out) = ring(16);
        let (output, verified) = ring(64);
        let (reads_in, reads) = ring(2);
        let keyring = keyring(&cluster(strategy, 4, clients), OWN.0);
        let (blame, credit) = (Blame::new(keyring.nodes()), Credit::new(&keyring, 1));
        let reached = Reached::default();
        let links = VerifyLinks {
            peers: Receiver::new(peers_out),
            clients: Receiver::new(clients_out),
            output: Sender::new(output, Doorbell::parker().0).across_threads(across),
            reads: Some(Sender::new(reads_in, Doorbell::parker().0)),
            blame: blame.clone(),
            credit: credit.clone(),
            reached: reached.clone(),
        };
        let stage = Verify::new(0, keyring, validator, links);
        let (verified, reads) = (Receiver::new(verified), Receiver::new(reads));
        Self { stage, peers, clients: clients_in, verified, reads, blame, credit, reached }
    }

    /// Hands these frames of one source to the stage, as the network does.
    fn push(&mut self, frames: Vec<Frame>) {
        let source = Source::of(&frames[0], 4);
        let clients = matches!(source, Source::Client(_) | Source::Forwards(_));
        let item = Frames { received: Time(1), source, cost: 7, frames };
        let lane = if clients { &mut self.clients } else { &mut self.peers };
        if clients {
            self.credit.take(source.node(), item.cost);
        }
        lane.push(item).map_err(|_| "full").unwrap();
    }

    /// One step; what came out.
    fn step(&mut self) -> Vec<Input> {
        self.step_at(Time(2))
    }

    fn step_at(&mut self, now: Time) -> Vec<Input> {
        self.stage.step(now);
        std::iter::from_fn(|| self.verified.receive()).flat_map(|verified| verified.inputs).collect()
    }

    /// What the stage makes of these frames, read together.
    fn inputs(&mut self, frames: &[Bytes]) -> Vec<Input> {
        self.take(frames.iter().map(read).collect())
    }

    fn take(&mut self, frames: Vec<Frame>) -> Vec<Input> {
        self.push(frames);
        assert!(self.stage.has_work());
        let inputs = self.step();
        assert!(!self.stage.has_work(), "more than a slice");
        inputs
    }

    fn message(&mut self, frame: &Bytes) -> Option<Authentic> {
        match self.inputs(std::slice::from_ref(frame)).pop() {
            Some(Input::Message(message)) => Some(message),
            Some(other) => panic!("{other:?}"),
            None => None,
        }
    }

    fn refused(&self) -> Vec<(&'static str, u64)> {
        self.stage.refused.iter().map(|(reason, count)| (*reason, *count)).collect()
    }
}

fn read(frame: &Bytes) -> Frame {
    let mut reader = FrameReader::new(FRAME_BODY_BYTES_MAX);
    reader.push(frame.clone());
    reader.next_frame().unwrap().unwrap()
}

fn sealer(strategy: &str, node: u16) -> Sealer {
    Sealer::new(keyring(&cluster(strategy, 4, &[9]), node))
}

fn all() -> Validator {
    Validator::accept_all()
}

fn view_change(replica: u16) -> ViewChange {
    let vote = Vote { view: View(4), sequence: SequenceNumber(65), digest: Digest([9; 32]) };
    ViewChange {
        replica: ReplicaId(replica),
        view: View(5),
        stable: SequenceNumber(64),
        checkpoints: Vec::new(),
        prepared: vec![vote],
        pre_prepared: vec![vote],
    }
}

/// Of replica 1, the primary of view 5.
fn new_view() -> NewView {
    NewView { view: View(5), view_changes: [0, 1, 3].map(|id| (ReplicaId(id), Digest([7; 32]))).to_vec() }
}

/// What replica 3 has received of replica 1, in a cluster with this strategy.
fn received(strategy: &str) -> [Message; 2] {
    let own = [Message::ViewChange(Signed::own(view_change(1))), Message::NewView(Signed::own(new_view()))];
    let origin = sealer(strategy, 1);
    own.map(|message| {
        let frame = read(&encode_message(&message, ReplicaId(3), &origin));
        let mut decoder = Decoder::new(&keyring(&cluster(strategy, 4, &[9]), 3));
        decoder.message(frame.kind, ReplicaId(1), frame.body).unwrap().message
    })
}

#[test]
fn what_an_origin_signed_is_believed_from_whoever_passes_it_on() {
    for strategy in Authentication::presets() {
        let mut harness = Harness::new(strategy, all());
        for message in received(strategy) {
            for sender in [1, 3] {
                let passed = harness.message(&encode_message(&message, OWN, &sealer(strategy, sender))).unwrap();
                assert_eq!((&passed.message, passed.sender), (&message, ReplicaId(sender)), "{strategy}");
            }
        }
        assert_eq!(harness.refused(), [], "{strategy}");
    }
}

#[test]
fn what_an_origin_did_not_sign_is_refused_in_every_mode() {
    for strategy in Authentication::presets() {
        let [view_change_of_1, new_view_of_1] = received(strategy);
        let (Message::ViewChange(signed), Message::NewView(start)) = (view_change_of_1, new_view_of_1) else {
            panic!("one of each")
        };
        let changed = ViewChange { prepared: Vec::new(), ..view_change(1) };
        let later = NewView { view: View(9), ..new_view() }; // replica 1 is its primary, too
        let shorter = NewView { view_changes: Vec::new(), ..new_view() };
        let forged = [
            // Another content or another origin under the signature of replica 1.
            Message::ViewChange(Signed { content: changed.into(), ..signed.clone() }),
            Message::ViewChange(Signed { content: view_change(0).into(), ..signed.clone() }),
            Message::NewView(Signed { content: later.into(), ..start.clone() }),
            Message::NewView(Signed { content: shorter.into(), ..start.clone() }),
            // One kind's signature for the other.
            Message::ViewChange(Signed { signature: start.signature, ..signed.clone() }),
            Message::NewView(Signed { signature: signed.signature, ..start }),
            // No signature at all.
            Message::ViewChange(Signed { signature: Some([0; 64]), ..signed.clone() }),
        ];
        let mut harness = Harness::new(strategy, all());
        for message in &forged {
            // Replica 3, which is faulty, proves itself all right.
            assert_eq!(harness.message(&encode_message(message, OWN, &sealer(strategy, 3))), None, "{strategy}");
        }
        assert_eq!(harness.refused(), [("bad_origin_signature", 7)], "{strategy}");

        // The origin's signature replaces no proof of the sender.
        let proven = sealer(strategy, 3).proof_bytes(LinkClass::ReplicaToReplica) > 0;
        let mut frame = read(&encode_message(&Message::ViewChange(signed), OWN, &sealer(strategy, 3)));
        frame.sender = NodeId(0);
        assert_eq!(harness.take(vec![frame]).is_empty(), proven, "{strategy}");
    }
}

/// Client nodes have keys and sign with them, but no replica is one.
#[test]
fn a_client_node_is_no_origin() {
    for strategy in ["none", "mac", "ed25519"] {
        // A sealer signs as nobody but itself, so the bytes are put together here: those that replica 1 would send,
        // with origin and signature of the client node.
        let Message::ViewChange(signed) = &received(strategy)[0] else { panic!("a view-change") };
        let content = view_change(CLIENT_NODE);
        let client = sealer(strategy, CLIENT_NODE);
        let block = crate::auth::AuthBlock::message(
            crate::auth::BlockKind::ViewChange,
            client.keyring().cluster(),
            content.replica,
            content.view,
            SequenceNumber(0),
            &content.digest(),
        );
        let signature = Some(client.sign_as_origin(content.replica, &block));
        let forged = Message::ViewChange(Signed { content: content.into(), signature });
        let mut harness = Harness::new(strategy, all());
        assert_eq!(harness.message(&encode_message(&forged, OWN, &sealer(strategy, 3))), None);
        assert_eq!(harness.refused(), [("bad_origin_signature", 1)], "{strategy}");
        let good = Message::ViewChange(signed.clone());
        assert!(harness.message(&encode_message(&good, OWN, &sealer(strategy, 3))).is_some());
    }
}

#[test]
fn no_flipped_byte_of_what_is_passed_on_gets_past() {
    // Without any proof of the sender the origin's signature is all there is.
    for strategy in ["none", "mac"] {
        for message in received(strategy) {
            let mut harness = Harness::new(strategy, all());
            let good = read(&encode_message(&message, OWN, &sealer(strategy, 3)));
            for at in 0..good.body.len() {
                let mut body = good.body.to_vec();
                body[at] ^= 1;
                let frame = Frame { body: body.into(), ..good.clone() };
                assert!(harness.take(vec![frame]).is_empty(), "{strategy}: byte {at}");
            }
            let refused: u64 = harness.refused().iter().map(|(_, count)| count).sum();
            assert_eq!(refused, good.body.len() as u64);
        }
    }
}

fn even_ones(operation: &[u8]) -> Result<(), InvalidOperation> {
    match operation {
        [byte] if byte % 2 == 0 => Ok(()),
        _ => Err(InvalidOperation("no even byte".into())),
    }
}

/// Requests of as many clients as there are operations, proven by their node.
fn requests(strategy: &str, operations: &[u8]) -> RequestTable {
    let requests: Vec<_> = (0..).zip(operations).map(|(client, byte)| (client, 1, vec![*byte])).collect();
    let mut table = table(&requests);
    table.proofs = sealer(strategy, CLIENT_NODE).seal_requests(&table);
    table
}

fn clients(table: &RequestTable) -> Vec<u32> {
    table.clients.iter().map(|client| client.0).collect()
}

#[test]
fn requests_that_the_application_refuses_are_dropped_and_counted() {
    for strategy in Authentication::presets() {
        let mut harness = Harness::new(strategy, Validator::new(even_ones));
        let mixed = requests(strategy, &[0, 1, 2, 3, 4]);
        let bad = requests(strategy, &[1, 3]);
        let frames = [encode_requests(&mixed, NodeId(CLIENT_NODE)), encode_requests(&bad, NodeId(CLIENT_NODE))];
        let inputs = harness.inputs(&frames);
        let [Input::Requests(kept)] = &inputs[..] else { panic!("{inputs:?}") };
        assert_eq!(**kept, mixed.select(&[0, 2, 4]), "{strategy}: with digests and proofs");
        assert_eq!(harness.refused(), [("invalid_operation", 4)], "{strategy}");
    }
}

/// So that the primary can take the word of f + 1 backups for them.
#[test]
fn forwarded_requests_whose_tags_do_not_hold_here_are_handed_on_and_marked() {
    let mut harness = Harness::new("mac", all());
    let mut table = requests("mac", &[1, 2, 3]);
    let Proofs::Tags { columns, bytes } = &table.proofs else { panic!("tags") };
    let mut bytes = bytes.to_vec();
    bytes[(usize::from(OWN.0) * 3 + 1) * crate::limits::TAG_BYTES] ^= 1;
    table.proofs = Proofs::Tags { columns: *columns, bytes: bytes.into() };
    let forward = encode_message(&Message::Forward(Arc::new(table)), OWN, &sealer("mac", 1));
    let Some(Authentic { message: Message::Forward(table), requests, .. }) = harness.message(&forward) else {
        panic!("a forward")
    };
    assert_eq!((table.len(), &requests.unproven[..]), (3, &[table.clients[1]][..]));
    assert_eq!(harness.refused(), []);
}

/// A tag that does not hold here may be of a group: then all of what is here of it is unproven, and nothing else.
#[test]
fn forwarded_groups_whose_tags_do_not_hold_here_are_handed_on_and_marked() {
    let mut harness = Harness::among(&[100], "mac/frame", all());
    let mut table = table(&(0..70).map(|client| (client, 1, vec![2])).collect::<Vec<_>>());
    table.proofs = Sealer::new(keyring(&cluster("mac/frame", 4, &[100]), 4)).seal_requests(&table);
    let Proofs::Groups(groups) = &table.proofs else { panic!("groups") };
    let mut tags = groups.proofs().to_vec();
    tags[usize::from(OWN.0) * 2 * crate::limits::TAG_BYTES] ^= 1;
    table.proofs = Proofs::Groups(groups.clone().with_proofs(4, tags.into()));
    let passed_on = table.select(&[3, 5, 66, 67]);
    let sealer = Sealer::new(keyring(&cluster("mac/frame", 4, &[100]), 1));
    let forward = encode_message(&Message::Forward(Arc::new(passed_on.clone())), OWN, &sealer);
    let Some(Authentic { message: Message::Forward(kept), requests, .. }) = harness.message(&forward) else {
        panic!("a forward")
    };
    assert_eq!((&*kept, &requests.unproven[..]), (&passed_on, &passed_on.clients[..2]));
    // From its client itself what can not be proven is refused.
    let inputs = harness.inputs(&[encode_requests(&table, NodeId(4))]);
    let [Input::Requests(kept)] = &inputs[..] else { panic!("{inputs:?}") };
    assert_eq!(**kept, table.select(&[64, 65, 66, 67, 68, 69]));
    assert_eq!(harness.refused(), [("bad_request_proof", 64)]);
}

#[test]
fn forwarded_requests_that_the_application_refuses_are_dropped_and_counted() {
    for strategy in Authentication::presets() {
        let mut harness = Harness::new(strategy, Validator::new(even_ones));
        let forward =
            |table: RequestTable| encode_message(&Message::Forward(Arc::new(table)), OWN, &sealer(strategy, 1));
        let Some(Authentic { message: Message::Forward(kept), .. }) =
            harness.message(&forward(requests(strategy, &[1, 2, 3, 6])))
        else {
            panic!("a forward")
        };
        assert_eq!(clients(&kept), [1, 3], "{strategy}");
        assert_eq!(harness.message(&forward(requests(strategy, &[5]))), None, "{strategy}");
        assert_eq!(harness.refused(), [("invalid_operation", 3)], "{strategy}");
    }
}

#[test]
fn what_is_not_proven_is_not_called_invalid() {
    let mut harness = Harness::new("mac", Validator::new(even_ones));
    let mut unproven = requests("mac", &[1, 2, 4]);
    // The first request's timestamp and the second's are not what was proven.
    unproven.timestamps[0].0 = 7;
    unproven.timestamps[1].0 = 7;
    Digester::default().digest(&mut unproven);
    let inputs = harness.inputs(&[encode_requests(&unproven, NodeId(CLIENT_NODE))]);
    let [Input::Requests(kept)] = &inputs[..] else { panic!("{inputs:?}") };
    assert_eq!(clients(kept), [2]);
    assert_eq!(harness.refused(), [("bad_request_proof", 2)]);
}

/// Nobody fills the notes with requests that are not proven.
#[test]
fn requests_that_are_followed_are_noted_once_they_are_proven() {
    let harness = Harness::new("mac", Validator::accept_all());
    let mut harness = Harness { stage: harness.stage.following(Sampling::one_in(1), Clock::start()), ..harness };
    let mut table = requests("mac", &[1, 2, 4]);
    table.timestamps[0].0 = 7;
    Digester::default().digest(&mut table);
    harness.inputs(&[encode_requests(&table, NodeId(CLIENT_NODE))]);
    let notes = harness.stage.notes.as_slice();
    let told: Vec<_> = notes.iter().map(|note| (note.client.0, note.received, note.started)).collect();
    assert_eq!(told, [(1, Time(1), Time(2)), (2, Time(1), Time(2))]);
}

#[test]
fn a_pre_prepare_is_marked_and_keeps_all_its_requests() {
    for strategy in Authentication::presets() {
        for (operations, invalid) in [(&[0, 2, 4][..], false), (&[0, 2, 5], true), (&[], false)] {
            let mut harness = Harness::new(strategy, Validator::new(even_ones));
            let batch = Batch::new(requests(strategy, operations));
            let pre_prepare = PrePrepare { view: View(0), sequence: SequenceNumber(1), batch: Arc::clone(&batch) };
            let frame = encode_message(&Message::PrePrepare(pre_prepare), OWN, &sealer(strategy, 0));
            let Authentic { message, requests, .. } = harness.message(&frame).unwrap();
            let Message::PrePrepare(received) = message else { panic!("a pre-prepare") };
            assert_eq!(received.batch.digest, batch.digest, "{strategy}");
            assert_eq!(requests, Verdict { invalid, ..Verdict::GOOD }, "{strategy} {operations:?}");
            assert_eq!(harness.refused(), [], "{strategy}");
        }
    }
}

/// On one thread all that came is checked first; signatures share a batch on any.
#[test]
fn another_thread_gets_each_batch_as_soon_as_it_is_checked() {
    for (strategy, across, sent) in [("mac", true, 3), ("mac", false, 1), ("ed25519-batch", true, 1)] {
        let mut harness = Harness::before((&[9], strategy), all(), across);
        for sequence in 1..=3 {
            let batch = Batch::new(requests(strategy, &[2, 4]));
            let message = Message::PrePrepare(PrePrepare { view: View(0), sequence: SequenceNumber(sequence), batch });
            let frame = read(&encode_message(&message, OWN, &sealer(strategy, 0)));
            let source = Source::of(&frame, 4);
            let item = Frames { received: Time(sequence), source, cost: 300, frames: vec![frame] };
            harness.peers.push(item).map_err(|_| "full").unwrap();
        }
        harness.stage.step(Time(2));
        let handed_on: Vec<_> = std::iter::from_fn(|| harness.verified.receive()).collect();
        let received: Vec<Time> = handed_on.iter().map(|verified| verified.received).collect();
        assert_eq!(received, (1..=sent).map(Time).collect::<Vec<_>>(), "{strategy}: each with its own time");
        assert_eq!(handed_on.iter().map(|verified| verified.inputs.len()).sum::<usize>(), 3, "{strategy}");
        assert_eq!(harness.refused(), [], "{strategy}");
    }
}

#[test]
fn one_batch_can_be_both_unproven_and_invalid() {
    let mut harness = Harness::new("mac", Validator::new(even_ones));
    let mut table = requests("mac", &[2, 3]);
    table.timestamps[0].0 = 7;
    Digester::default().digest(&mut table);
    let message = PrePrepare { view: View(0), sequence: SequenceNumber(1), batch: Batch::new(table) };
    let frame = encode_message(&Message::PrePrepare(message), OWN, &sealer("mac", 0));
    let verdict = harness.message(&frame).unwrap().requests;
    assert_eq!(verdict, Verdict { unproven: vec![ClientId(0)], invalid: true });
}

#[test]
fn the_shipped_store_gets_its_own_operations_and_no_others() {
    let settings = crate::settings::ClusterSettings { application: "kv".into(), ..Default::default() };
    let mut harness = Harness::new("mac", crate::app::validator(&settings).unwrap());
    let mut read = Vec::new();
    kv::Operation::Read { key: 3 }.encode(&mut read);
    let mut table = table(&[(0, 1, read.clone()), (1, 1, b"nonsense".to_vec()), (2, 1, read)]);
    table.proofs = sealer("mac", CLIENT_NODE).seal_requests(&table);
    let inputs = harness.inputs(&[encode_requests(&table, NodeId(CLIENT_NODE))]);
    let [Input::Requests(kept)] = &inputs[..] else { panic!("{inputs:?}") };
    assert_eq!(clients(kept), [0, 2]);
    assert_eq!(harness.refused(), [("invalid_operation", 1)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_never_panics_and_proves_nothing(
        kind in 0..FrameKind::ALL.len(),
        sender in 0u16..7,
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut harness = Harness::new("mac", Validator::new(even_ones));
        let frame = Frame { kind: FrameKind::ALL[kind], sender: NodeId(sender), body: bytes.into() };
        prop_assert!(harness.take(vec![frame]).is_empty());
    }
}

#[test]
fn a_pre_prepare_by_digests_is_proven_as_a_whole_and_refused_early_like_any_other() {
    for strategy in Authentication::presets() {
        let mut harness = Harness::new(strategy, all());
        harness.reached.publish(View(4), SequenceNumber(64));
        let manifest = Arc::new(Manifest::of(&Batch::new(requests(strategy, &[0, 2]))));
        let frame = |sender, view, sequence| {
            let (view, sequence, manifest) = (View(view), SequenceNumber(sequence), Arc::clone(&manifest));
            let message = Message::DigestPrePrepare(DigestPrePrepare { view, sequence, manifest });
            (encode_message(&message, OWN, &sealer(strategy, sender)), message)
        };
        let (good, said) = frame(0, 4, 65);
        assert_eq!(harness.message(&good).map(|heard| heard.message), Some(said), "{strategy}");
        for (sender, view, sequence) in [(1, 4, 65), (3, 3, 65), (0, 4, 64)] {
            assert_eq!(harness.message(&frame(sender, view, sequence).0), None, "{strategy}");
        }
        let mut expected = vec![("below_low_watermark", 1), ("not_from_primary", 1), ("old_view", 1)];
        assert_eq!(harness.refused(), expected, "{strategy}");
        if strategy != "none" {
            // Where to look for a request is proven, too: clients come first behind their count and their width.
            let mut changed = read(&good);
            let mut body = changed.body.to_vec();
            body[21] ^= 1;
            changed.body = body.into();
            assert!(harness.take(vec![changed]).is_empty());
            expected.insert(0, ("bad_message_proof", 1));
            assert_eq!(harness.refused(), expected, "{strategy}");
        }
    }
}

/// Read-only requests of as many clients as there are operations, proven by their node.
fn reads(strategy: &str, operations: &[u8]) -> RequestTable {
    let mut table = requests(strategy, operations);
    table.proofs = sealer(strategy, CLIENT_NODE).seal_reads(&table);
    table
}

fn small(operation: &[u8]) -> bool {
    operation[0] < 4
}

#[test]
fn reads_go_past_the_order_stage_and_what_is_no_read_is_refused_and_counted() {
    for strategy in Authentication::presets() {
        let mut harness = Harness::new(strategy, Validator::new(even_ones).with_reads(small));
        let mixed = reads(strategy, &[0, 1, 2, 3, 4]);
        let inputs = harness.inputs(&[crate::wire::encode_reads(&mixed, NodeId(CLIENT_NODE))]);
        assert!(inputs.is_empty(), "{strategy}: {inputs:?}");
        assert_eq!(*harness.reads.receive().unwrap().table, mixed.select(&[0, 2]), "{strategy}");
        assert_eq!(harness.refused(), [("invalid_operation", 2), ("not_a_read", 1)], "{strategy}");
        // Of what is refused as a whole nothing gets on, and nobody owes anything.
        let refused = crate::wire::encode_reads(&reads(strategy, &[1, 4]), NodeId(CLIENT_NODE));
        assert!(harness.inputs(&[refused]).is_empty() && harness.reads.is_empty(), "{strategy}");
        assert_eq!(harness.credit.taken(NodeId(CLIENT_NODE)), 0, "{strategy}");
    }
}

/// Who saw a read-only request can not have it ordered, and nobody is answered for what was to be ordered.
#[test]
fn a_proof_of_a_read_proves_no_request_and_no_request_a_read() {
    for strategy in ["mac", "ed25519", "ed25519-batch"] {
        let mut harness = Harness::new(strategy, all());
        // Proven once each as what they are, so that nothing is remembered as something else.
        let (read_only, ordered) = (reads(strategy, &[1, 2]), requests(strategy, &[1, 2]));
        assert_eq!(harness.inputs(&[crate::wire::encode_reads(&read_only, NodeId(CLIENT_NODE))]).len(), 0);
        assert_eq!(harness.inputs(&[encode_requests(&ordered, NodeId(CLIENT_NODE))]).len(), 1);
        assert!(harness.reads.receive().is_some());
        let frames = [
            encode_requests(&read_only, NodeId(CLIENT_NODE)),
            crate::wire::encode_reads(&ordered, NodeId(CLIENT_NODE)),
        ];
        for frame in frames {
            assert_eq!(harness.inputs(&[frame]).len(), 0, "{strategy}");
        }
        assert!(harness.reads.receive().is_none(), "{strategy}");
        assert_eq!(harness.refused(), [("bad_request_proof", 4)], "{strategy}");
    }
}

#[test]
fn reads_keep_their_credit_until_they_are_answered_and_hold_up_nobody_else() {
    let mut harness = Harness::new("mac", all());
    let node = NodeId(CLIENT_NODE);
    let frame = crate::wire::encode_reads(&reads("mac", &[1]), node);
    for _ in 0..4 {
        harness.push(vec![read(&frame)]);
        harness.step();
    }
    assert_eq!((harness.reads.len(), harness.credit.taken(node)), (2, 4 * 7), "two have found room, none is answered");
    assert!(harness.stage.is_stalled());
    let vote = Vote { view: View(0), sequence: SequenceNumber(1), digest: Digest([1; 32]) };
    let prepare = encode_message(&Message::Prepare(vote), OWN, &sealer("mac", 1));
    harness.push(vec![read(&prepare)]);
    harness.push(vec![read(&encode_requests(&requests("mac", &[1, 2]), node))]);
    assert_eq!(harness.step().len(), 2, "peers and requests pass");
    for left in [3, 2, 1, 0] {
        let reads = harness.reads.receive().unwrap();
        harness.step();
        assert_eq!(harness.credit.taken(node), (left + 1) * 7, "what is received is not answered yet");
        drop(reads);
        assert_eq!((harness.credit.taken(node), harness.stage.is_stalled()), (left * 7, left == 3));
    }
}

/// A node's frames come together whatever they are: requests that are done at once must not give back what reads owe.
#[test]
fn reads_keep_their_credit_whatever_comes_with_them() {
    let node = NodeId(CLIENT_NODE);
    let of_reads = read(&crate::wire::encode_reads(&reads("mac", &[1]), node));
    let of_requests = read(&encode_requests(&requests("mac", &[1, 2]), node));
    for frames in [vec![of_reads.clone(), of_requests.clone()], vec![of_requests, of_reads]] {
        let mut harness = Harness::new("mac", all());
        harness.push(frames);
        assert_eq!(harness.step().len(), 1);
        assert_eq!(harness.credit.taken(node), 7, "the reads wait");
        drop(harness.reads.receive().unwrap());
        assert_eq!(harness.credit.taken(node), 0);
    }
}

#[test]
fn where_reads_are_ordered_nothing_is_read_only() {
    let mut harness = Harness::new("mac", all());
    harness.stage.links.reads = None;
    assert!(harness.inputs(&[crate::wire::encode_reads(&reads("mac", &[1]), NodeId(CLIENT_NODE))]).is_empty());
    assert_eq!(harness.refused(), [("reads_are_ordered", 1)]);
}
