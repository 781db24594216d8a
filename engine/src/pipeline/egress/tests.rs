use super::*;
use crate::app::Validator;
use crate::auth::testing::{cluster, keyring};
use crate::auth::{Check, Verifier};
use crate::limits::FRAME_BODY_BYTES_MAX;
use crate::pipeline::blame::Blame;
use crate::pipeline::board::Reached;
use crate::pipeline::credit::Credit;
use crate::pipeline::intake::{Frames, Source};
use crate::pipeline::verify::{Verified, Verify, VerifyLinks};
use crate::protocol::message::{Message, Signed, ViewChange, Vote};
use crate::requests::BatchForm;
use crate::ring::doorbell::Doorbell;
use crate::ring::ring;
use crate::types::{Digest, SequenceNumber, Timestamp, View};
use crate::wire::{Decoder, Frame, FrameKind, FrameReader};

#[test]
fn every_client_has_one_connection_and_shares_are_contiguous() {
    for (count, connections) in [(10, 3), (4, 4), (1000, 7), (3, 5)] {
        let range = 100..100 + count;
        let of: Vec<u32> = range.clone().map(|id| connection_of(ClientId(id), &range, connections)).collect();
        assert!(of.is_sorted());
        assert!(of.iter().all(|connection| *connection < connections));
    }
}

#[test]
fn splitting_keeps_every_reply_with_its_result() {
    let replies = ReplyTable {
        clients: vec![ClientId(9), ClientId(0), ClientId(5)],
        timestamps: vec![Timestamp(1), Timestamp(2), Timestamp(3)],
        result_ends: vec![1, 3, 3],
        results: Bytes::from_static(b"abb"),
        digested: Vec::new(),
    };
    let parts = split_by_connection(&replies, &(0..10), 2);
    let [(0, first), (1, second)] = &parts[..] else { panic!("{parts:?}") };
    assert_eq!((first.clients[0], first.result(0)), (ClientId(0), &b"bb"[..]));
    assert_eq!(second.clients, [ClientId(9), ClientId(5)]);
    assert_eq!((second.result(0), second.result(1)), (&b"a"[..], &b""[..]));
    let parts = split_by_connection(&replies, &(0..10), 10);
    assert_eq!(parts.iter().map(|(connection, _)| *connection).collect::<Vec<_>>(), [0, 5, 9]);
}

const CLIENT_NODE: NodeId = NodeId(4);

fn link<T>() -> (Sender<T>, Receiver<T>) {
    let (producer, consumer) = ring(4);
    (Sender::new(producer, Doorbell::parker().0), Receiver::new(consumer))
}

/// What replica 0 of four sends, with this strategy and tampering so.
fn sent(strategy: &str, byzantine: &[Kind], outbound: Vec<Outbound>, answers: Vec<Answers>) -> Vec<Outgoing> {
    sent_as(BatchForm::Whole, strategy, byzantine, outbound, answers)
}

/// The same where the client node wants batches answered in this form.
fn sent_as(
    form: BatchForm,
    strategy: &str,
    byzantine: &[Kind],
    outbound: Vec<Outbound>,
    answers: Vec<Answers>,
) -> Vec<Outgoing> {
    let keyring = keyring(&cluster(strategy, 4, &[9]), 0);
    let (mut outbound_in, outbound_out) = link();
    let (mut answers_in, answers_out) = link();
    let (outgoing_in, mut outgoing_out) = link();
    let links = EgressLinks { outbound: outbound_out, answers: answers_out, outgoing: outgoing_in };
    let routes = crate::pipeline::network::Routes::new(keyring.nodes());
    routes.set_form(CLIENT_NODE, 0, form);
    let mut egress = Egress::new(ReplicaId(0), keyring, Clock::start(), routes, links).tampering(byzantine.to_vec());
    outbound_in.send(outbound);
    answers_in.send(answers);
    assert!(egress.step(Time(1)));
    outgoing_out.receive().unwrap_or_default()
}

fn read(bytes: &Bytes) -> Frame {
    let mut reader = FrameReader::new(FRAME_BODY_BYTES_MAX);
    reader.push(bytes.clone());
    reader.next_frame().expect("what is spoiled is still a frame").unwrap()
}

/// How many messages get past the verify stage of `to`.
fn verified(strategy: &str, to: ReplicaId, frames: &[&Bytes]) -> usize {
    let (mut peers_in, peers) = link();
    let (_clients_in, clients) = link();
    let (output, mut verified_out) = link();
    let keyring = keyring(&cluster(strategy, 4, &[9]), to.0);
    let (blame, credit) = (Blame::new(keyring.nodes()), Credit::new(&keyring, 1));
    let links = VerifyLinks { peers, clients, output, reads: None, blame, credit, reached: Reached::default() };
    let mut verify = Verify::new(0, keyring, Validator::accept_all(), links);
    let frames = frames.iter().copied().map(read).collect();
    peers_in.send(Frames { received: Time(1), source: Source::Peer(ReplicaId(0)), cost: 1, frames });
    verify.step(Time(1));
    verified_out.receive().map_or(0, |Verified { inputs, .. }| inputs.len())
}

fn messages() -> Vec<Outbound> {
    let vote = Vote { view: View(0), sequence: SequenceNumber(3), digest: Digest([9; 32]) };
    let change = ViewChange {
        replica: ReplicaId(0),
        view: View(1),
        stable: SequenceNumber(0),
        checkpoints: Vec::new(),
        prepared: Vec::new(),
        pre_prepared: Vec::new(),
    };
    let to_one = (1..4).map(|to| Outbound::To(ReplicaId(to), Arc::new(Message::Commit(vote))));
    let view_change = Message::ViewChange(Signed::own(change));
    to_one.chain([Outbound::All(Arc::new(Message::Commit(vote))), Outbound::All(Arc::new(view_change))]).collect()
}

#[test]
fn proofs_are_spoiled_for_those_that_the_kind_says_and_for_nobody_else() {
    let all = |good: usize| [good; 3];
    for strategy in ["none", "mac", "ed25519"] {
        let (nobody, even) = if strategy == "none" { (all(3), all(3)) } else { (all(0), [0, 3, 0]) };
        for (kinds, good) in [
            (&[][..], all(3)),
            (&[Kind::WrongReply], all(3)),
            (&[Kind::CorruptMac], nobody),
            (&[Kind::PartialAuthenticator], even),
            (&[Kind::WrongReply, Kind::PartialAuthenticator], even),
            (&[Kind::PartialAuthenticator, Kind::CorruptMac], nobody), // spoiled once, not back again
        ] {
            let outgoing = sent(strategy, kinds, messages(), Vec::new());
            assert_eq!(outgoing.len(), 9);
            let past = [1, 2, 3].map(|to| {
                let to = ReplicaId(to);
                let own = outgoing.iter().filter(|sent| sent.to == Destination::Replica(to));
                verified(strategy, to, &own.map(|sent| &sent.bytes).collect::<Vec<_>>())
            });
            assert_eq!(past, good, "{strategy} {kinds:?}");
        }
    }
}

#[test]
fn what_is_sent_without_tampering_is_what_is_sealed() {
    for strategy in ["none", "mac", "ed25519"] {
        let sealer = Sealer::new(keyring(&cluster(strategy, 4, &[9]), 0));
        let outgoing = sent(strategy, &[], messages(), Vec::new());
        let Some(Outbound::All(message)) = messages().pop() else { panic!("a view-change") };
        for (to, sent) in (1..4).map(ReplicaId).zip(&outgoing[6..]) {
            assert_eq!(sent.to, Destination::Replica(to));
            assert_eq!(sent.bytes, wire::encode_message(&message, to, &sealer), "{strategy}");
        }
    }
}

#[test]
fn clients_get_wrong_results_or_wrong_proofs() {
    let replies = ReplyTable {
        clients: vec![ClientId(1), ClientId(3), ClientId(5)],
        timestamps: vec![Timestamp(2), Timestamp(4), Timestamp(1)],
        result_ends: vec![2, 2, 3],
        results: Bytes::from_static(b"okx"),
        digested: Vec::new(),
    };
    for strategy in ["none", "mac", "ed25519"] {
        for kinds in [
            &[][..],
            &[Kind::CorruptMac],
            &[Kind::PartialAuthenticator],
            &[Kind::WrongReply],
            &[Kind::CorruptMac, Kind::WrongReply],
        ] {
            let answers = Answers {
                node: CLIENT_NODE,
                view: View(0),
                sequence: SequenceNumber(0),
                executed: Time(0),
                reads: false,
                tentative: false,
                replies: replies.clone(),
                followed: Vec::new(),
            };
            let outgoing = sent(strategy, kinds, Vec::new(), vec![answers]);
            let [Outgoing { to: Destination::Client(CLIENT_NODE, ClientId(1)), bytes }] = &outgoing[..] else {
                panic!("{outgoing:?}")
            };
            let keyring = keyring(&cluster(strategy, 4, &[9]), CLIENT_NODE.0);
            let received = Decoder::new(&keyring).replies(ReplicaId(0), read(bytes).body).unwrap();
            let check = Check { signer: NodeId(0), block: received.block, proof: &received.proof };
            let mut good = Vec::new();
            Verifier::new(keyring).verify(LinkClass::ReplicaToClient, &[check], &mut good);
            let spoiled = kinds.contains(&Kind::CorruptMac) && strategy != "none";
            assert_eq!(good, [!spoiled], "{strategy} {kinds:?}");

            let wrong = kinds.contains(&Kind::WrongReply);
            assert_eq!(received.replies.clients, replies.clients);
            assert_eq!(received.replies.timestamps, replies.timestamps);
            for index in 0..replies.len() {
                let same = received.replies.result(index) == replies.result(index);
                assert_eq!(same, !wrong, "{strategy} {kinds:?}: reply {index}");
            }
        }
    }
}

/// Replies of so many requests to the batch at sequence number 9.
fn batch_answers(count: u32) -> Answers {
    let results = vec![7; count as usize * 16];
    let replies = ReplyTable {
        clients: vec![ClientId(1); count as usize],
        timestamps: (1..=u64::from(count)).map(Timestamp).collect(),
        result_ends: (1..=count).map(|end| end * 16).collect(),
        results: results.into(),
        digested: Vec::new(),
    };
    Answers {
        node: CLIENT_NODE,
        view: View(3),
        sequence: SequenceNumber(9),
        executed: Time(0),
        reads: false,
        tentative: false,
        replies,
        followed: Vec::new(),
    }
}

#[test]
fn a_batch_is_answered_as_its_client_node_wants_unless_it_is_short() {
    for (strategy, kinds) in [("none", &[][..]), ("mac", &[]), ("ed25519", &[]), ("mac", &[Kind::WrongReply])] {
        let keyring = keyring(&cluster(strategy, 4, &[9]), CLIENT_NODE.0);
        let decoder = Decoder::new(&keyring);
        let frame = |form, count| {
            let outgoing = sent_as(form, strategy, kinds, Vec::new(), vec![batch_answers(count)]);
            let [Outgoing { bytes, .. }] = &outgoing[..] else { panic!("{outgoing:?}") };
            read(bytes)
        };
        let whole = decoder.replies(ReplicaId(0), frame(BatchForm::Whole, 40).body).unwrap();
        assert_eq!((whole.sequence, whole.view, whole.replies.len()), (SequenceNumber(9), View(3), 40));
        let digest = frame(BatchForm::Digest, 40);
        assert_eq!(digest.kind, FrameKind::BatchDigest);
        let digest = decoder.batch_digest(ReplicaId(0), digest.body).unwrap();
        assert_eq!((digest.sequence, digest.view), (SequenceNumber(9), View(3)));
        // Liars are true to themselves.
        assert_eq!((digest.digest, digest.block), (whole.digest, whole.block), "{strategy} {kinds:?}");
        let check = Check { signer: NodeId(0), block: digest.block, proof: &digest.proof };
        let mut good = Vec::new();
        Verifier::new(Arc::clone(&keyring)).verify(LinkClass::ReplicaToClient, &[check], &mut good);
        assert_eq!(good, [true], "{strategy}");
        assert_eq!(frame(BatchForm::Digest, 10).kind, FrameKind::Replies, "no shorter than 256 bytes only");
    }
}
