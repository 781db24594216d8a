//! What leaves is what each kind promises, over a protocol inside that says what the test wants.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::*;
use crate::auth::Sealer;
use crate::auth::testing::{cluster, keyring};
use crate::protocol::message::{
    Authentic, Body, Checkpoint, DigestPrePrepare, FetchState, NewView, PrePrepare, StateChunk, Status, Verdict, Vote,
};
use crate::quorum::Quorums;
use crate::requests::{Batch, Manifest, Proofs, RequestTable};
use crate::types::{ClientId, Digest, Timestamp};
use crate::wire;

const OWN: ReplicaId = ReplicaId(1);
const SEQUENCE: SequenceNumber = SequenceNumber(8);
const VIEW: View = View(5);
/// Enough inputs for every trick to be played.
const MANY: u64 = 400;
/// Between two inputs, ns.
const STEP_NS: u64 = 10_000_000;

/// A protocol that says the same after each input.
struct Script(Vec<Output>);

impl Protocol for Script {
    fn step(&mut self, _now: Time, _input: Input, outputs: &mut Vec<Output>) {
        outputs.extend(self.0.iter().cloned());
    }

    fn position(&self) -> Position {
        Position { view: VIEW, committed: SEQUENCE, stable_checkpoint: SequenceNumber(4), ..Position::default() }
    }
}

/// Requests of (client, timestamp).
pub(super) fn batch(requests: &[(u32, u64)]) -> Arc<Batch> {
    Batch::new(table(requests))
}

pub(super) fn table(requests: &[(u32, u64)]) -> RequestTable {
    let digest =
        |&(client, timestamp): &(u32, u64)| Digest::from(blake3::hash(format!("{client} {timestamp}").as_bytes()));
    RequestTable {
        clients: requests.iter().map(|&(client, _)| ClientId(client)).collect(),
        timestamps: requests.iter().map(|&(_, timestamp)| Timestamp(timestamp)).collect(),
        operation_ends: (1..).take(requests.len()).collect(),
        operations: vec![7; requests.len()].into(),
        digests: requests.iter().map(digest).collect(),
        proofs: Proofs::None,
    }
}

fn vote() -> Vote {
    Vote { view: VIEW, sequence: SEQUENCE, digest: batch(&[(1, 1)]).digest }
}

fn pre_prepare(sequence: u64) -> Message {
    let batch = batch(&[(1, 1), (2, 1), (3, 1)]);
    Message::PrePrepare(PrePrepare { view: VIEW, sequence: SequenceNumber(sequence), batch })
}

fn view_change(replica: ReplicaId) -> ViewChange {
    ViewChange {
        replica,
        view: View(5),
        stable: SequenceNumber(4),
        checkpoints: vec![Checkpoint { sequence: SequenceNumber(4), digest: Digest([4; 32]) }],
        prepared: vec![vote()],
        pre_prepared: vec![vote()],
    }
}

/// The new-view of the view whose primary is [`OWN`] among four, resting on its own view-change and on two others.
fn new_view() -> NewView {
    let origins = [ReplicaId(0), OWN, ReplicaId(2)];
    NewView { view: VIEW, view_changes: origins.map(|origin| (origin, view_change(origin).digest())).to_vec() }
}

fn chunk() -> StateChunk {
    StateChunk { sequence: SequenceNumber(4), index: 0, count: 1, bytes: Bytes::from_static(b"state") }
}

/// One message of each kind that a replica may say.
fn everything() -> Vec<Message> {
    let slots = vec![crate::protocol::message::SlotStatus::default(); 3];
    vec![
        pre_prepare(9),
        Message::Prepare(vote()),
        Message::Commit(vote()),
        Message::Committed(vote()),
        Message::Checkpoint(Checkpoint { sequence: SequenceNumber(4), digest: Digest([4; 32]) }),
        Message::Status(Status { view: VIEW, active: true, stable: SequenceNumber(4), slots, ..Status::default() }),
        Message::Forward(Arc::new(batch(&[(1, 1), (2, 2)]).requests.clone())),
        Message::Body(Body { sequence: SEQUENCE, batch: batch(&[(1, 1)]) }),
        Message::ViewChange(Signed::own(view_change(OWN))),
        Message::ViewChange(Signed { content: view_change(ReplicaId(2)).into(), signature: Some([2; 64]) }),
        Message::NewView(Signed::own(new_view())),
        Message::StateWanted(SEQUENCE),
        Message::FetchState(FetchState { sequence: SequenceNumber(4), index: 0 }),
        Message::StateChunk(chunk()),
    ]
}

/// Others' messages to it, which it may repeat.
fn heard() -> Vec<Input> {
    let hear =
        |message| Input::Message(Authentic { sender: ReplicaId(2), message, signature: None, requests: Verdict::GOOD });
    let mut inputs: Vec<Input> = vec![Input::Timer(Timer::Status)];
    inputs.push(hear(Message::ViewChange(Signed {
        content: view_change(ReplicaId(3)).into(),
        signature: Some([3; 64]),
    })));
    inputs.push(hear(Message::FetchState(FetchState { sequence: SequenceNumber(4), index: 3 })));
    inputs.push(hear(pre_prepare(9)));
    inputs.push(Input::Requests(Arc::new(batch(&[(4, 4)]).requests.clone())));
    inputs
}

struct Subject {
    replica: Byzantine,
    now: Time,
}

impl Subject {
    fn new(kinds: &[Kind], n: usize, seed: u64, says: Vec<Output>) -> Self {
        let replica = Byzantine::new(Box::new(Script(says)), kinds.to_vec(), n, OWN, seed);
        Self { replica: replica.with_view_timeout(STEP_NS * 4), now: Time(0) }
    }

    fn saying(kind: Kind, message: Message) -> Self {
        Self::new(&[kind], 4, 1, vec![Output::Broadcast(Arc::new(message))])
    }

    fn step(&mut self, input: Input) -> Vec<Output> {
        self.now = self.now.after(STEP_NS);
        let mut outputs = Vec::new();
        self.replica.step(self.now, input, &mut outputs);
        outputs
    }

    fn tick(&mut self) -> Vec<Output> {
        self.step(Input::Timer(Timer::Status))
    }

    /// Everything that leaves after many inputs.
    fn many(&mut self) -> Vec<Output> {
        let heard = heard();
        let inputs = heard.iter().cycle().cloned();
        (0..MANY).zip(inputs).flat_map(|(_, input)| self.step(input)).collect()
    }
}

/// Who gets what, broadcasts spelt out for `n` replicas.
fn letters(outputs: &[Output], n: u16) -> Vec<(u16, Message)> {
    let mut letters = Vec::new();
    for output in outputs {
        match output {
            Output::Send(to, message) => letters.push((to.0, (**message).clone())),
            Output::Broadcast(message) => {
                letters.extend((0..n).filter(|to| *to != OWN.0).map(|to| (to, (**message).clone())));
            }
            _ => {}
        }
    }
    letters
}

fn all(messages: Vec<Message>) -> Vec<Output> {
    messages.into_iter().map(|message| Output::Broadcast(Arc::new(message))).collect()
}

fn messages(outputs: &[Output]) -> Vec<Message> {
    letters(outputs, 4).into_iter().map(|(_, message)| message).collect()
}

#[test]
fn whatever_is_no_message_leaves_as_it_is() {
    let says = vec![
        Output::SetTimer(Timer::View, Time(9)),
        Output::KeepState(SEQUENCE),
        Output::CancelTimer(Timer::Batch),
        Output::Ignored(crate::protocol::Ignored::OldView),
    ];
    for kind in Kind::ALL {
        let mut subject = Subject::new(&[*kind], 4, 1, says.clone());
        let outputs: Vec<Output> = subject.tick().into_iter().filter(|output| says.contains(output)).collect();
        assert_eq!(outputs, says, "{kind}");
    }
}

#[test]
fn what_acts_outside_the_protocol_leaves_messages_as_they_are() {
    for kind in Kind::ALL.iter().filter(|kind| kind.acts_outside_protocol()) {
        assert_eq!(Subject::new(&[*kind], 4, 1, all(everything())).tick(), all(everything()), "{kind}");
    }
}

#[test]
fn silent_says_nothing_whatever_else_it_is() {
    let mut subject = Subject::new(&[Kind::Flood, Kind::Silent, Kind::Random], 4, 1, all(everything()));
    assert_eq!(subject.many(), []);
}

#[test]
fn slow_says_everything_late_and_in_order() {
    let first = Message::Prepare(vote());
    let mut subject = Subject::new(&[Kind::Slow], 4, 1, all(vec![first.clone(), pre_prepare(9)]));
    let delay = STEP_NS * 3;
    assert_eq!(subject.tick(), [Output::SetTimer(Timer::Adversary, Time(STEP_NS + delay))]);
    assert_eq!(subject.tick(), []);
    let mut outputs = Vec::new();
    subject.replica.step(Time(STEP_NS + delay), Input::Timer(Timer::Adversary), &mut outputs);
    let mut expected = all(vec![first, pre_prepare(9)]);
    expected.push(Output::SetTimer(Timer::Adversary, Time(2 * STEP_NS + delay)));
    assert_eq!(outputs, expected);
    let mut outputs = Vec::new();
    subject.replica.step(Time(2 * STEP_NS + delay), Input::Timer(Timer::Adversary), &mut outputs);
    assert_eq!(outputs.len(), 2);
}

#[test]
fn equivocating_primary_shows_two_batches_and_commits_to_each() {
    for sequence in 1..20 {
        let mut subject = Subject::saying(Kind::Equivocate, pre_prepare(sequence));
        let outputs = letters(&subject.tick(), 4);
        let digests: BTreeSet<Digest> = outputs
            .iter()
            .filter_map(|(_, message)| match message {
                Message::PrePrepare(shown) => Some(shown.batch.digest),
                _ => None,
            })
            .collect();
        assert_eq!(digests.len(), 2, "{sequence}");
        for pair in outputs.chunks(2) {
            let [(to, Message::PrePrepare(shown)), (same, Message::Commit(vote))] = pair else { panic!("{pair:?}") };
            assert_eq!((to, shown.batch.digest), (same, vote.digest));
        }
        // Whoever asks again is told the same again.
        assert_eq!(letters(&subject.tick(), 4), outputs);
    }
}

#[test]
fn equivocating_backup_votes_for_what_each_half_was_shown() {
    let sequence = 10; // which of the two batches a half is shown can be told from the other, for this one
    let Message::PrePrepare(proposal) = pre_prepare(sequence) else { panic!() };
    let primary =
        Byzantine::new(Box::new(Script(all(vec![pre_prepare(sequence)]))), vec![Kind::Equivocate], 4, ReplicaId(0), 9);
    let mut primary = Subject { replica: primary, now: Time(0) };
    let outputs = primary.tick();
    let shown = |to: u16| {
        let shown = outputs.iter().find_map(|output| match output {
            Output::Send(receiver, message) if receiver.0 == to => Some(message),
            _ => None,
        });
        match &**shown.unwrap() {
            Message::PrePrepare(shown) => shown.clone(),
            other => panic!("{other:?}"),
        }
    };
    let own = shown(OWN.0);
    let vote = Vote { view: VIEW, sequence: proposal.sequence, digest: own.batch.digest };
    let mut backup = Subject::saying(Kind::Equivocate, Message::Prepare(vote));
    let message = Message::PrePrepare(own);
    let heard = Authentic { sender: ReplicaId(0), message, signature: None, requests: Verdict::GOOD };
    let votes = letters(&backup.step(Input::Message(heard)), 4);
    for to in [2, 3] {
        let vote = Vote { digest: shown(to).batch.digest, ..vote };
        assert!(votes.contains(&(to, Message::Prepare(vote))), "to {to}: {votes:?}");
    }
}

#[test]
fn equivocator_tells_two_histories_and_rests_two_new_views_on_them() {
    let says = all(vec![Message::ViewChange(Signed::own(view_change(OWN))), Message::NewView(Signed::own(new_view()))]);
    let outputs = letters(&Subject::new(&[Kind::Equivocate], 4, 1, says).tick(), 4);
    let mut histories = BTreeSet::new();
    for (to, message) in &outputs {
        let Message::ViewChange(told) = message else { continue };
        assert_eq!((told.content.replica, told.signature), (OWN, None));
        histories.insert(told.content.digest());
        let rests_on_it = outputs.iter().any(|(receiver, message)| match message {
            Message::NewView(new_view) => {
                receiver == to && new_view.content.view_changes.contains(&(OWN, told.content.digest()))
            }
            _ => false,
        });
        assert!(rests_on_it, "replica {to}");
    }
    assert_eq!(histories.len(), 2);
}

#[test]
fn wrong_digests_are_those_of_nobody() {
    for message in [Message::Prepare(vote()), Message::Commit(vote()), Message::Committed(vote())] {
        let outputs = Subject::saying(Kind::WrongDigest, message.clone()).tick();
        let [Output::Broadcast(said)] = &outputs[..] else { panic!("{outputs:?}") };
        let (Message::Prepare(vote) | Message::Commit(vote) | Message::Committed(vote)) = &**said else { panic!() };
        assert_ne!(vote.digest, self::vote().digest);
        assert_eq!(std::mem::discriminant(&**said), std::mem::discriminant(&message));
    }
    let same = Subject::saying(Kind::WrongDigest, pre_prepare(9)).tick();
    assert_eq!(same, all(vec![pre_prepare(9)]));
}

#[test]
fn withheld_batches_reach_just_enough_or_one_too_few() {
    for n in [4, 5, 6, 7, 10] {
        let mut left_out: BTreeSet<u16> = (0..n).filter(|id| *id != OWN.0).collect();
        let needed = Quorums::new(usize::from(n)).unwrap().quorum() - 1;
        for sequence in 0..40 {
            let says =
                all(vec![pre_prepare(sequence), Message::Body(Body { sequence: SEQUENCE, batch: Batch::null() })]);
            let mut subject = Subject::new(&[Kind::WithholdBody], usize::from(n), 1, says);
            let outputs = letters(&subject.tick(), n);
            assert!(outputs.iter().all(|(_, message)| matches!(message, Message::PrePrepare(_))));
            let receivers: BTreeSet<u16> = outputs.iter().map(|(to, _)| *to).collect();
            let too_few = usize::from(sequence % 8 == 7);
            assert_eq!(receivers.len(), needed - too_few, "n = {n}, {sequence}");
            left_out.retain(|id| receivers.contains(id));
        }
        assert!(left_out.is_empty(), "n = {n}: {left_out:?} are always shown everything");
    }
}

/// A proposal by digests of the primary of [`VIEW`] among seven, or of another replica.
fn announced(sender: u16, sequence: u64, batch: &Batch) -> Input {
    let (view, sequence, manifest) = (VIEW, SequenceNumber(sequence), Arc::new(Manifest::of(batch)));
    let message = Message::DigestPrePrepare(DigestPrePrepare { view, sequence, manifest });
    Input::Message(Authentic { sender: ReplicaId(sender), message, signature: None, requests: Verdict::GOOD })
}

#[test]
fn early_bodies_come_with_the_proposal_and_nobody_vouches_for_them() {
    let requests = [(1, 1), (2, 1), (3, 1)];
    let batch = batch(&requests);
    for sequence in 9..9 + 4 {
        let vote = Vote { sequence: SequenceNumber(sequence), digest: batch.digest, ..vote() };
        let says = all(vec![Message::Prepare(vote), Message::Commit(vote)]);
        let mut subject = Subject::new(&[Kind::EarlyBody], 7, 1, says);
        assert_eq!(subject.step(Input::Requests(Arc::new(table(&requests)))), all(vec![Message::Commit(vote)]));
        assert_eq!(subject.step(announced(2, sequence, &batch)).len(), 1, "of no primary");
        let outputs = subject.step(announced(5, sequence, &batch));
        let right = Message::Body(Body { sequence: SequenceNumber(sequence), batch: Arc::clone(&batch) });
        assert_eq!(outputs.last(), all(vec![right]).first(), "to all, last of all");
        let others = outputs.iter().filter(|output| match output {
            Output::Broadcast(said) => match &**said {
                Message::Body(body) => body.batch.digest != batch.digest || body.sequence.0 != sequence,
                Message::Committed(claim) => claim.sequence.0 >= sequence,
                _ => false,
            },
            _ => false,
        });
        assert_eq!(others.count(), [0, 1, 1, 2][usize::try_from(sequence % 4).unwrap()], "{outputs:?}");
        assert_eq!(subject.tick(), all(vec![Message::Commit(vote)]), "once for each proposal");
    }
    // What it does not know it can not bring.
    let mut subject = Subject::new(&[Kind::EarlyBody], 7, 1, Vec::new());
    assert_eq!(subject.step(announced(5, 8, &batch)), []);
}

#[test]
fn early_bodies_of_a_primary_come_before_its_proposal() {
    let batch = batch(&[(1, 1), (2, 1)]);
    let (view, sequence, digest) = (VIEW, SequenceNumber(9), batch.digest);
    let proposal =
        Message::DigestPrePrepare(DigestPrePrepare { view, sequence, manifest: Manifest::of(&batch).into() });
    let mut subject = Subject::saying(Kind::EarlyBody, proposal.clone());
    let outputs = subject.step(Input::Requests(Arc::new(batch.requests.clone())));
    let claim = Message::Committed(Vote { view, sequence, digest });
    assert_eq!(outputs, all(vec![claim, Message::Body(Body { sequence, batch }), proposal]));
}

#[test]
fn stale_view_repeats_and_speaks_of_every_time() {
    let outputs = Subject::new(&[Kind::StaleView], 4, 1, all(vec![Message::Prepare(vote())])).many();
    let said = messages(&outputs);
    let views: BTreeSet<View> = said
        .iter()
        .filter_map(|message| match message {
            Message::Prepare(vote) => Some(vote.view),
            Message::ViewChange(told) => Some(told.content.view),
            Message::Status(status) => Some(status.view),
            _ => None,
        })
        .collect();
    for view in [View(0), View(4), VIEW, View(6), View(u64::MAX)] {
        assert!(views.contains(&view), "{view}");
    }
    // It repeats what another has signed with the signature that it came with.
    let theirs = Signed { content: Arc::new(view_change(ReplicaId(3))), signature: Some([3; 64]) };
    assert!(said.contains(&Message::ViewChange(theirs)));
    for message in &said {
        if let Message::NewView(told) = message {
            assert_eq!(told.content.view.primary(4), OWN, "{told:?}");
        }
    }
}

#[test]
fn lying_checkpoints_are_wrong_far_and_misaligned() {
    let truth = Checkpoint { sequence: SequenceNumber(4), digest: Digest([4; 32]) };
    let outputs = Subject::saying(Kind::LyingCheckpoint, Message::Checkpoint(truth)).many();
    let said = messages(&outputs);
    let lies: Vec<Checkpoint> = said
        .iter()
        .map(|message| match message {
            Message::Checkpoint(lie) => *lie,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(!lies.contains(&truth));
    assert!(lies.iter().any(|lie| lie.sequence == truth.sequence && lie.digest != truth.digest));
    assert!(lies.iter().any(|lie| lie.sequence.0 > 1_000 && lie.sequence.0.is_multiple_of(4)));
    assert!(lies.iter().any(|lie| !lie.sequence.0.is_multiple_of(4)));
    assert!(lies.iter().any(|lie| lie.sequence.0 == u64::MAX));
}

#[test]
fn lying_state_changes_chunks_and_answers_before_it_knows() {
    let says = vec![Output::Send(ReplicaId(2), Arc::new(Message::StateChunk(chunk())))];
    let outputs = letters(&Subject::new(&[Kind::LyingState], 4, 1, says).many(), 4);
    let chunks = |test: &dyn Fn(u16, &StateChunk) -> bool| {
        outputs.iter().any(|(to, message)| matches!(message, Message::StateChunk(chunk) if test(*to, chunk)))
    };
    assert!(!outputs.contains(&(2, Message::StateChunk(chunk()))), "the truth");
    assert!(chunks(&|_, lie| lie.bytes.len() == chunk().bytes.len() && lie.bytes != chunk().bytes));
    assert!(chunks(&|_, lie| lie.count == 2 && lie.bytes == chunk().bytes));
    assert!(chunks(&|to, lie| to != 2 && *lie == chunk()), "somebody else's answer");
    assert!(chunks(&|to, lie| to == 2 && lie.index == 3), "an answer before the state was read");
}

#[test]
fn flood_is_many_and_bounded() {
    let mut subject = Subject::new(&[Kind::Flood], 4, 1, Vec::new());
    let mut most = 0;
    let mut kinds = BTreeSet::new();
    for input in heard().into_iter().cycle().take(200) {
        let outputs = subject.step(input);
        most = most.max(outputs.len());
        kinds.extend(messages(&outputs).iter().map(|message| format!("{message:?}")[..6].to_owned()));
    }
    assert_eq!(most, EXTRA_MAX);
    assert!(kinds.len() >= 12, "{kinds:?}");
    // Without time, nothing more: two who provoke each other do not go on for ever.
    let mut outputs = Vec::new();
    for _ in 0..10 {
        subject.replica.step(subject.now, Input::Timer(Timer::Status), &mut outputs);
    }
    assert_eq!(outputs, []);
}

/// Nobody is given another's signature, and whatever is said can be sealed and put on the wire.
#[test]
fn nothing_is_forged_and_everything_fits() {
    let sealer = Sealer::new(keyring(&cluster("mac", 4, &[8]), OWN.0));
    for kinds in Kind::ALL.iter().map(|kind| vec![*kind]).chain([Kind::ALL.to_vec()]) {
        let kinds: Vec<Kind> = kinds.into_iter().filter(|kind| *kind != Kind::Silent && *kind != Kind::Slow).collect();
        for seed in 0..2 {
            let outputs = Subject::new(&kinds, 4, seed, all(everything())).many();
            for (to, message) in letters(&outputs, 4) {
                assert!(to < 4 && to != OWN.0, "{message:?} to {to}");
                match &message {
                    Message::ViewChange(Signed { content, signature: None }) => assert_eq!(content.replica, OWN),
                    Message::NewView(Signed { content, signature: None }) => assert_eq!(content.view.primary(4), OWN),
                    _ => {}
                }
                assert!(!wire::encode_message(&message, ReplicaId(to), &sealer).is_empty());
            }
        }
    }
}

#[test]
fn outputs_of_one_input_are_bounded() {
    let says = everything().len();
    for n in [4, 7, 10] {
        for kind in Kind::ALL {
            let mut subject = Subject::new(&[*kind], n, 3, all(everything()));
            for input in heard().into_iter().cycle().take(100) {
                let count = subject.step(input).len();
                assert!(count <= says * 2 * (n - 1) + EXTRA_MAX + 1, "{kind}, n = {n}: {count}");
            }
        }
    }
}

#[test]
fn what_it_does_follows_from_its_seed() {
    for kind in Kind::ALL {
        let run = |seed| Subject::new(&[*kind], 7, seed, all(everything())).many();
        assert_eq!(run(1), run(1), "{kind}");
    }
    let run = |seed| Subject::new(&[Kind::Random], 7, seed, all(everything())).many();
    assert_ne!(run(1), run(2));
}

#[test]
fn random_does_some_of_everything_and_often_tells_the_truth() {
    let outputs = Subject::new(&[Kind::Random], 4, 5, all(everything())).many();
    let said = messages(&outputs);
    for truth in everything() {
        assert!(said.contains(&truth), "never: {truth:?}");
        let same_kind = |message: &&Message| std::mem::discriminant(*message) == std::mem::discriminant(&truth);
        assert!(said.iter().filter(same_kind).any(|message| *message != truth), "never changed: {truth:?}");
    }
}

#[test]
fn it_behaves_until_it_is_told_to_start() {
    let says = all(vec![Message::Prepare(vote())]);
    let subject = || Byzantine::new(Box::new(Script(says.clone())), vec![Kind::Silent], 4, OWN, 1);
    let step = |mut replica: Byzantine, now| {
        let mut outputs = Vec::new();
        replica.step(now, Input::Timer(Timer::Status), &mut outputs);
        outputs
    };
    assert_eq!(step(subject().starting_at(SequenceNumber(9), Time(0)), Time(5)), says);
    assert_eq!(step(subject().starting_at(SEQUENCE, Time(6)), Time(5)), says);
    assert_eq!(step(subject().starting_at(SEQUENCE, Time(5)), Time(5)), []);
}
