//! What is handed to the executor before it is committed, and what is taken back.

use super::views::{self, signed};
use super::*;
use crate::protocol::message::Status;

fn tentative(n: usize, own: u16) -> Config {
    Config { execution: ExecutionChoice::Tentative, ..config(n, own) }
}

/// What concerns the executor, in words that fit in a line.
fn work(outputs: &[Output]) -> Vec<String> {
    let name = |output: &Output| match output {
        Output::Execute(execution) => {
            let how = if execution.tentative { "try" } else { "execute" };
            Some(format!("{how} {} in view {}", execution.sequence, execution.view))
        }
        Output::Confirm(sequence, _) => Some(format!("confirm {sequence}")),
        Output::RollBack(to) => Some(format!("roll back to {to}")),
        Output::InstallState { sequence, .. } => Some(format!("install {sequence}")),
        _ => None,
    };
    outputs.iter().filter_map(name).collect()
}

/// A backup of four, driven by hand.
struct Backup(Replica);

impl Backup {
    fn new() -> Self {
        Self(Replica::with(tentative(4, 1)))
    }

    fn pre_prepare(&mut self, sequence: u64, batch: &Arc<Batch>) -> Vec<String> {
        work(&self.0.hear(0, pre_prepare(sequence, batch)))
    }

    fn prepare(&mut self, sequence: u64, batch: &Arc<Batch>) -> Vec<String> {
        work(&self.0.hear(2, prepare(sequence, batch)))
    }

    fn commit(&mut self, sequence: u64, batch: &Arc<Batch>) -> Vec<String> {
        let mut outputs = self.0.hear(0, commit(sequence, batch));
        outputs.extend(self.0.hear(2, commit(sequence, batch)));
        work(&outputs)
    }

    /// Has this batch prepared.
    fn prepared(&mut self, sequence: u64, batch: &Arc<Batch>) -> Vec<String> {
        assert_eq!(self.pre_prepare(sequence, batch), [""; 0]);
        self.prepare(sequence, batch)
    }

    fn executed(&mut self, sequence: u64) -> Vec<String> {
        work(&self.0.step(Input::Executed(SequenceNumber(sequence))))
    }
}

fn batches() -> Vec<Arc<Batch>> {
    (1..=12).map(|timestamp| batch(&[(1, timestamp)])).collect()
}

/// The batch of a sequence number.
fn at(batches: &[Arc<Batch>], sequence: u64) -> &Arc<Batch> {
    &batches[usize::try_from(sequence).unwrap() - 1]
}

#[test]
fn a_prepared_batch_is_handed_out_and_confirmed_when_it_is_committed() {
    for n in SIZES {
        let quorum = u16::try_from(Quorums::new(n).unwrap().quorum()).unwrap();
        let mut replica = Replica::with(tentative(n, 1));
        let batch = batch(&[(1, 1)]);
        replica.now = Time(10);
        assert_eq!(replica.hear(0, pre_prepare(1, &batch)), [broadcast(prepare(1, &batch))], "n = {n}");
        replica.now = Time(20);
        for sender in 2..quorum - 1 {
            assert_eq!(replica.hear(sender, prepare(1, &batch)), [], "n = {n}");
        }
        let outputs = replica.hear(quorum - 1, prepare(1, &batch));
        let [said, Output::Execute(execution)] = &outputs[..] else { panic!("{outputs:?}") };
        assert_eq!(said, &broadcast(commit(1, &batch)), "it votes before anybody is told");
        assert!(execution.tentative && execution.batch == batch && execution.view == View(0), "n = {n}");
        let stamps = execution.stamps;
        assert_eq!((stamps.pre_prepared, stamps.prepared, stamps.committed), (Time(10), Time(20), Time(20)));
        assert_eq!(replica.core.position().committed, SequenceNumber(0));
        // What is not confirmed is not reported as executed either.
        let early = replica.step(Input::Executed(SequenceNumber(1)));
        assert_eq!(early, ignored(Ignored::UnexpectedExecution));
        replica.now = Time(30);
        for sender in (0..quorum - 1).filter(|&sender| sender != 1) {
            assert_eq!(replica.hear(sender, commit(1, &batch)), [], "n = {n}");
        }
        let confirm = Output::Confirm(SequenceNumber(1), Time(30));
        assert_eq!(replica.hear(quorum - 1, commit(1, &batch)), [confirm], "n = {n}");
        assert_eq!(replica.core.position().committed, SequenceNumber(1));
        assert_eq!(replica.step(Input::Executed(SequenceNumber(1))), []);
    }
}

#[test]
fn the_primary_does_the_same() {
    let mut primary = Replica::with(tentative(4, 0));
    let batch = batch(&[(1, 1)]);
    primary.requests(&[(1, 1)]);
    primary.hear(1, prepare(1, &batch));
    assert_eq!(work(&primary.hear(2, prepare(1, &batch))), ["try 1 in view 0"]);
    primary.hear(1, commit(1, &batch));
    assert_eq!(work(&primary.hear(2, commit(1, &batch))), ["confirm 1"]);
}

#[test]
fn batches_are_handed_out_in_order_behind_what_is_prepared() {
    let (mut backup, batches) = (Backup::new(), batches());
    assert_eq!(backup.prepared(2, at(&batches, 2)), [""; 0], "the first is missing");
    backup.pre_prepare(3, at(&batches, 3));
    assert_eq!(backup.commit(3, at(&batches, 3)), [""; 0], "three of four are no proof without this one");
    assert_eq!(work(&backup.0.hear(3, commit(3, at(&batches, 3)))), [""; 0], "decided, and behind a gap");
    let tried = ["try 1 in view 0", "try 2 in view 0", "try 3 in view 0"];
    assert_eq!(backup.prepared(1, at(&batches, 1)), tried, "what is decided is no worse than prepared");
    assert_eq!(backup.commit(2, at(&batches, 2)), [""; 0]);
    assert_eq!(backup.commit(1, at(&batches, 1)), ["confirm 1", "confirm 2", "confirm 3"]);
    assert_eq!(backup.commit(1, at(&batches, 1)), [""; 0]);
    assert_eq!([1, 2, 3].map(|sequence| backup.executed(sequence).len()), [0; 3]);
}

#[test]
fn what_is_decided_before_it_is_prepared_is_executed_for_good() {
    let (mut backup, batches) = (Backup::new(), batches());
    backup.pre_prepare(1, at(&batches, 1));
    backup.commit(1, at(&batches, 1));
    assert_eq!(work(&backup.0.hear(3, commit(1, at(&batches, 1)))), ["execute 1 in view 0"]);
    assert_eq!(backup.prepared(2, at(&batches, 2)), ["try 2 in view 0"]);
}

#[test]
fn nothing_is_handed_out_beyond_a_checkpoint_that_is_not_committed() {
    let (mut backup, batches) = (Backup::new(), batches());
    for sequence in 1..=INTERVAL {
        assert_eq!(backup.prepared(sequence, at(&batches, sequence)), [format!("try {sequence} in view 0")]);
    }
    for sequence in INTERVAL + 1..=INTERVAL + 2 {
        assert_eq!(backup.prepared(sequence, at(&batches, sequence)), [""; 0]);
    }
    for sequence in 1..INTERVAL {
        assert_eq!(backup.commit(sequence, at(&batches, sequence)), [format!("confirm {sequence}")]);
    }
    assert_eq!(
        backup.commit(INTERVAL, at(&batches, INTERVAL)),
        ["confirm 4", "try 5 in view 0", "try 6 in view 0"],
        "its state is taken before anything follows"
    );
}

#[test]
fn nothing_is_handed_out_above_the_high_watermark() {
    let (mut backup, batches) = (Backup::new(), batches());
    for sequence in 1..=WINDOW {
        backup.prepared(sequence, at(&batches, sequence));
        backup.commit(sequence, at(&batches, sequence));
        backup.executed(sequence);
    }
    // No checkpoint is stable, so there is no room for it: it comes early, and waits.
    assert_eq!(backup.prepared(WINDOW + 1, at(&batches, WINDOW + 1)), [""; 0]);
    for sequence in [INTERVAL, WINDOW] {
        let state = Digest([u8::try_from(sequence).unwrap(); 32]);
        backup.0.step(Input::CheckpointTaken(SequenceNumber(sequence), state));
        backup.0.hear(0, checkpoint(sequence, state.0[0]));
        let outputs = work(&backup.0.hear(2, checkpoint(sequence, state.0[0])));
        let expected: &[&str] = if sequence == INTERVAL { &["try 9 in view 0"] } else { &[] };
        assert_eq!(outputs, expected);
    }
}

#[test]
fn who_leaves_a_view_takes_back_what_is_not_committed() {
    let (mut backup, batches) = (Backup::new(), batches());
    for sequence in 1..=3 {
        backup.prepared(sequence, at(&batches, sequence));
    }
    backup.commit(1, at(&batches, 1));
    let outputs = backup.0.end_view();
    assert_eq!(work(&outputs), ["roll back to 1"]);
    let told = |output: &Output| match output {
        Output::Broadcast(message) => match &**message {
            Message::ViewChange(signed) => Some(signed.content.prepared.iter().map(|vote| vote.sequence.0).collect()),
            _ => None,
        },
        _ => None,
    };
    let told: Vec<Vec<u64>> = outputs.iter().filter_map(told).collect();
    assert_eq!(told, [[1, 2, 3]], "others hear of all that it has told clients of");
    // Until the next view begins there is nothing to try, and commits that come late are of the old view.
    assert_eq!(work(&backup.0.hear(2, commit(2, at(&batches, 2)))), [""; 0]);
}

/// The new view of replica 1, with these batches, which replicas 2 and 3 have prepared or not.
fn change(replica: u16, view: u64, prepared: &[Vote]) -> Message {
    Message::ViewChange(signed(views::change(replica, view, prepared)))
}

#[test]
fn the_new_view_assigns_again_what_was_prepared_and_it_is_tried_anew() {
    let (mut backup, batches) = (Backup::new(), batches());
    for sequence in 1..=2 {
        backup.prepared(sequence, at(&batches, sequence));
    }
    assert_eq!(work(&backup.0.end_view()), ["roll back to 0"]);
    let votes: Vec<Vote> = (1..=2).map(|sequence| vote(sequence, at(&batches, sequence))).collect();
    backup.0.hear(2, change(2, 1, &votes));
    let outputs = backup.0.hear(3, change(3, 1, &votes));
    assert!(backup.0.core.views.active, "it is the primary of this view: {outputs:?}");
    assert_eq!(work(&outputs), [""; 0]);
    let in_view = |sequence: u64| Vote { view: View(1), ..vote(sequence, at(&batches, sequence)) };
    for sequence in [1, 2] {
        backup.0.hear(2, Message::Prepare(in_view(sequence)));
        let outputs = backup.0.hear(3, Message::Prepare(in_view(sequence)));
        assert_eq!(work(&outputs), [format!("try {sequence} in view 1")]);
    }
    backup.0.hear(2, Message::Commit(in_view(1)));
    assert_eq!(work(&backup.0.hear(3, Message::Commit(in_view(1)))), ["confirm 1"]);
}

/// Others have decided something else, in a view that this replica has not heard of.
#[test]
fn what_others_decide_takes_the_place_of_what_was_tried() {
    let (mut backup, batches) = (Backup::new(), batches());
    for sequence in 1..=3 {
        backup.prepared(sequence, at(&batches, sequence));
    }
    let other = batch(&[(9, 9)]);
    assert_eq!(work(&backup.0.hear(2, committed(2, &other))), [""; 0]);
    assert_eq!(work(&backup.0.hear(3, committed(2, &other))), [""; 0], "its body is not here yet");
    let outputs = backup.0.hear(2, body(2, &other));
    assert_eq!(work(&outputs), ["roll back to 1", "try 2 in view 0", "try 3 in view 0"]);
    assert_eq!(executions(&outputs)[0], (2, other.digest));
    assert_eq!(backup.commit(1, at(&batches, 1)), ["confirm 1", "confirm 2"]);
}

#[test]
fn a_state_takes_the_place_of_what_is_committed_alone() {
    let (mut backup, batches) = (Backup::new(), batches());
    assert_eq!(backup.prepared(1, at(&batches, 1)), ["try 1 in view 0"]);
    // The others have gone far ahead: their checkpoints, and no commits.
    let target = 1000 * INTERVAL;
    for other in [0, 2, 3] {
        backup.0.hear(other, checkpoint(target, 5));
        let (stable, committed) = (SequenceNumber(target), SequenceNumber(target));
        let status = Status { view: View(0), active: true, stable, committed, ..Status::default() };
        backup.0.hear(other, Message::Status(status));
    }
    let wanted = backup.0.ticks(20).iter().find_map(|output| match output {
        Output::Broadcast(message) => match &**message {
            Message::StateWanted(target) => Some(*target),
            _ => None,
        },
        _ => None,
    });
    let sequence = wanted.expect("it asks for a state");
    for other in [0, 2] {
        backup.0.hear(other, checkpoint(sequence.0, 6));
    }
    let source = backup.0.core.transfer.fetching().and_then(|(_, source)| source).expect("it has a source");
    let chunk =
        crate::protocol::message::StateChunk { sequence, index: 0, count: 1, bytes: bytes::Bytes::from_static(b"x") };
    let outputs = backup.0.hear(source.0, Message::StateChunk(chunk));
    assert_eq!(work(&outputs), ["roll back to 0".to_owned(), format!("install {sequence}")]);
    assert_eq!(work(&backup.0.hear(3, prepare(1, at(&batches, 1)))), [""; 0], "not while it is replaced");
    let outputs = backup.0.step(Input::StateInstalled { sequence, good: false });
    assert_eq!(work(&outputs), ["try 1 in view 0"], "the state was none");
}

#[test]
fn who_does_not_vote_tries_nothing() {
    let mut replica = Replica::with(Config { voting: false, ..tentative(4, 1) });
    let batch = batch(&[(1, 1)]);
    replica.hear(0, pre_prepare(1, &batch));
    for sender in [2, 3] {
        assert_eq!(work(&replica.hear(sender, prepare(1, &batch))), [""; 0]);
    }
    for sender in [0, 2] {
        assert_eq!(work(&replica.hear(sender, commit(1, &batch))), [""; 0]);
    }
    assert_eq!(work(&replica.hear(3, commit(1, &batch))), ["execute 1 in view 0"]);
}

#[test]
fn a_vote_is_on_record_before_its_batch_is_tried() {
    let mut replica = Replica::with(Config { durable: true, ..tentative(4, 1) });
    let batch = batch(&[(1, 1)]);
    replica.hear(0, pre_prepare(1, &batch));
    let outputs = replica.hear(2, prepare(1, &batch));
    let recorded = |output: &Output| matches!(output, Output::Persist(crate::protocol::Record::Prepared(_)));
    let tried = |output: &Output| matches!(output, Output::Execute(execution) if execution.tentative);
    let position = |what: &dyn Fn(&Output) -> bool| outputs.iter().position(what).expect("it is there");
    assert!(position(&recorded) < position(&tried), "{outputs:?}");
}
