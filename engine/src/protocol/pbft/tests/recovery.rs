//! Going on from records.

use super::*;
use crate::protocol::pbft::Recovery;
use crate::protocol::{Execution, Record, Stamps};

/// A replica that makes everything durable, and its records.
struct Durable {
    replica: Replica,
    records: Vec<Record>,
}

impl Durable {
    fn new(own: u16) -> Self {
        Self { replica: Replica::with(Config { durable: true, ..config(4, own) }), records: Vec::new() }
    }

    fn hear(&mut self, sender: u16, message: Message) -> Vec<Output> {
        let outputs = self.replica.hear(sender, message);
        self.keep(outputs)
    }

    /// Takes the records out and checks that each comes before what depends on it.
    fn keep(&mut self, outputs: Vec<Output>) -> Vec<Output> {
        let mut rest = Vec::new();
        for output in outputs {
            match output {
                Output::Persist(record) => self.records.push(record),
                Output::Broadcast(message) => {
                    let durable = |wanted: &dyn Fn(&Record) -> bool| self.records.iter().any(wanted);
                    match &*message {
                        Message::Prepare(vote) => assert!(durable(&|record| match record {
                            Record::PrePrepared(m) => (m.view, m.sequence) == (vote.view, vote.sequence),
                            _ => false,
                        })),
                        Message::PrePrepare(m) => assert!(durable(&|record| *record == Record::PrePrepared(m.clone()))),
                        Message::Commit(vote) => assert!(durable(&|record| *record == Record::Prepared(*vote))),
                        Message::ViewChange(signed) => {
                            assert!(durable(&|record| *record == Record::ViewChange(Arc::clone(&signed.content))));
                        }
                        _ => {}
                    }
                    rest.push(Output::Broadcast(message));
                }
                output => rest.push(output),
            }
        }
        rest
    }

    /// A crash, and a new start from the records.
    fn restart(self) -> (Self, Vec<Output>) {
        let config = self.replica.core.config.clone();
        let stable = Checkpoint { sequence: SequenceNumber(0), digest: Digest::default() };
        let (executions, recovery) = Recovery::plan(stable, self.records.clone());
        assert_eq!(executions, []);
        let mut outputs = Vec::new();
        let core = Pbft::recover(config, recovery, self.replica.now, &mut outputs);
        let replica = Replica { core, now: self.replica.now, view_timer: None };
        (Self { replica, records: self.records }, outputs)
    }
}

fn votes_told(durable: &mut Durable) -> (u64, u64) {
    let outputs = durable.replica.ticks(1);
    let status = outputs.iter().find_map(|output| match output {
        Output::Broadcast(message) => match &**message {
            Message::Status(status) => Some(status.clone()),
            _ => None,
        },
        _ => None,
    });
    let slot = status.and_then(|status| status.slots.first().copied()).unwrap_or_default();
    (slot.prepares, slot.commits)
}

#[test]
fn votes_are_kept_and_what_was_decided_is_handed_out_again() {
    let (first, second) = (batch(&[(1, 1)]), batch(&[(2, 1)]));
    let mut durable = Durable::new(1);
    for (sequence, batch) in [(1, &first), (2, &second)] {
        durable.hear(0, pre_prepare(sequence, batch));
        durable.hear(2, prepare(sequence, batch));
    }
    for sender in [0, 2] {
        durable.hear(sender, commit(1, &first));
    }
    let (mut durable, outputs) = durable.restart();
    assert_eq!(executions(&outputs), [(1, first.digest)]);
    assert_eq!(votes_told(&mut durable), (0b10, 0b10), "its own votes on the second batch");
    // It contradicts nothing that it said before.
    let conflict = durable.replica.hear(0, pre_prepare(2, &first));
    assert!(conflict.contains(&Output::Ignored(Ignored::ConflictingPrePrepare)), "{conflict:?}");
}

#[test]
fn a_primary_gives_no_sequence_number_twice() {
    let mut durable = Durable::new(0);
    let outputs = durable.replica.requests(&[(1, 1)]);
    durable.keep(outputs);
    let (mut durable, _) = durable.restart();
    let outputs = durable.replica.requests(&[(2, 1)]);
    let outputs = durable.keep(outputs);
    let Some(Output::Broadcast(message)) = outputs.first() else { panic!("{outputs:?}") };
    assert!(matches!(&**message, Message::PrePrepare(m) if m.sequence == SequenceNumber(2)), "{message:?}");
}

#[test]
fn a_view_that_was_left_stays_left_and_prepared_state_is_told_again() {
    let kept = batch(&[(1, 1)]);
    let mut durable = Durable::new(1);
    durable.hear(0, pre_prepare(1, &kept));
    durable.hear(2, prepare(1, &kept));
    let outputs = durable.replica.end_view();
    durable.keep(outputs);
    let (mut durable, outputs) = durable.restart();
    assert_eq!(executions(&outputs), []);
    let position = durable.replica.core.position();
    assert_eq!((position.view, position.active), (View(1), false));
    assert_eq!(durable.hear(3, commit(1, &kept)), ignored(Ignored::OldView));
    // Moved on by the others, it still tells what it prepared.
    let change = |replica| ViewChange {
        replica: ReplicaId(replica),
        view: View(5),
        stable: SequenceNumber(0),
        checkpoints: Vec::new(),
        prepared: Vec::new(),
        pre_prepared: Vec::new(),
    };
    let mut outputs = Vec::new();
    for other in [2, 3] {
        let signed = Signed { content: Arc::new(change(other)), signature: Some([1; 64]) };
        outputs = durable.hear(other, Message::ViewChange(signed));
    }
    let Some(Output::Broadcast(message)) = outputs.first() else { panic!("{outputs:?}") };
    assert!(matches!(&**message, Message::ViewChange(own) if own.content.prepared == [vote(1, &kept)]), "{message:?}");
}

/// Somebody may have left the view on its word.
#[test]
fn a_suspicion_is_remembered() {
    let mut durable = Durable::new(1);
    durable.hear(0, pre_prepare(1, &batch(&[(1, 1)])));
    let outputs = durable.replica.expire();
    assert!(matches!(outputs[..], [Output::Persist(Record::Suspected(View(0))), Output::Broadcast(_)]), "{outputs:?}");
    durable.keep(outputs);
    let (durable, _) = durable.restart();
    assert!(durable.replica.core.suspects_view());
    assert_eq!(durable.replica.core.position().view, View(0));
}

#[test]
fn more_than_a_window_behind_the_saved_state_is_executed_first() {
    let batches: Vec<_> = (1..=40).map(|sequence| (sequence, batch(&[(1, sequence)]))).collect();
    let mut records = Vec::new();
    for (sequence, batch) in &batches {
        let sequence = SequenceNumber(*sequence);
        records.push(Record::PrePrepared(PrePrepare { view: View(0), sequence, batch: Arc::clone(batch) }));
        records.push(Record::Committed(sequence, batch.digest));
        if sequence.0.is_multiple_of(INTERVAL) {
            records.push(Record::Stable(Checkpoint { sequence, digest: Digest([7; 32]) }));
        }
    }
    records.truncate(records.len() - 3); // nothing is known of 40
    let saved = Checkpoint { sequence: SequenceNumber(4), digest: Digest([7; 32]) };
    let (executed, recovery) = Recovery::plan(saved, records);
    let expected: Vec<_> = batches[4..36]
        .iter()
        .map(|(sequence, batch)| Execution {
            sequence: SequenceNumber(*sequence),
            view: View(0),
            tentative: false,
            batch: Arc::clone(batch),
            stamps: Stamps::default(),
        })
        .collect();
    assert_eq!(executed, expected);
    assert_eq!(recovery.stable.sequence, SequenceNumber(36));
    let mut outputs = Vec::new();
    let core = Pbft::recover(config(4, 1), recovery, Time(0), &mut outputs);
    assert_eq!(executions(&outputs).iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(), [37, 38, 39]);
    assert_eq!(core.position().stable_checkpoint, SequenceNumber(36));
}

#[test]
fn a_log_that_does_not_lead_to_all_votes_ends_voting() {
    let stable = |sequence| Checkpoint { sequence: SequenceNumber(sequence), digest: Digest([7; 32]) };
    for (sequence, votes) in [(4 + WINDOW, true), (5 + WINDOW, false)] {
        let message = PrePrepare { view: View(0), sequence: SequenceNumber(sequence), batch: batch(&[(1, 1)]) };
        let recovery = Recovery { stable: stable(4), records: vec![Record::PrePrepared(message)] };
        assert_eq!(recovery.is_whole(WINDOW), votes);
        let core = Pbft::recover(config(4, 1), recovery, Time(0), &mut Vec::new());
        assert_eq!(core.config.voting, votes);
    }
}

#[test]
fn what_a_view_assigned_is_forgotten_with_the_view() {
    let kept = batch(&[(1, 1)]);
    let change = |replica: u16, view: u64| {
        let prepared = vec![vote(WINDOW, &kept)];
        let (stable, pre_prepared) = (SequenceNumber(0), prepared.clone());
        let (replica, view) = (ReplicaId(replica), View(view));
        let content = ViewChange { replica, view, stable, checkpoints: Vec::new(), prepared, pre_prepared };
        Signed { content: Arc::new(content), signature: Some([1; 64]) }
    };
    let changes: Vec<_> = [0, 1, 3].map(|replica| change(replica, 1)).into();
    let named = changes.iter().map(|change| (change.content.replica, change.content.digest())).collect();
    let new_view =
        Signed { content: Arc::new(NewView { view: View(1), view_changes: named }), signature: Some([1; 64]) };
    let left = Record::ViewChange(change(2, 2).content);
    let stable = Checkpoint { sequence: SequenceNumber(0), digest: Digest::default() };
    let recovery = Recovery { stable, records: vec![Record::NewView(new_view, changes), left] };
    let mut core = Pbft::recover(config(4, 2), recovery, Time(0), &mut Vec::new());
    assert_eq!((core.view, core.views.active), (View(2), false));
    assert!(core.views.take_assigned(SequenceNumber(u64::MAX)).is_empty());
}

#[test]
fn what_was_decided_before_is_there_for_laggards() {
    let batches: Vec<_> = (1..=INTERVAL).map(|number| batch(&[(1, number)])).collect();
    let mut records = Vec::new();
    for (sequence, batch) in (1..).zip(&batches) {
        let Message::PrePrepare(message) = pre_prepare(sequence, batch) else { unreachable!() };
        records.push(Record::PrePrepared(message));
        records.push(Record::Committed(SequenceNumber(sequence), batch.digest));
    }
    records.push(Record::Stable(Checkpoint { sequence: SequenceNumber(INTERVAL), digest: Digest([7; 32]) }));
    let initial = Checkpoint { sequence: SequenceNumber(0), digest: Digest::default() };
    let (_, recovery) = Recovery::plan(initial, records);
    assert_eq!(recovery.stable.sequence, SequenceNumber(INTERVAL));
    let core = Pbft::recover(config(4, 1), recovery, Time(0), &mut Vec::new());
    for (sequence, batch) in (1..).zip(&batches) {
        let kept = core.log.decided_batch(SequenceNumber(sequence)).map(|batch| batch.digest);
        assert_eq!(kept, Some(batch.digest), "{sequence}");
    }
}

/// The primary lied: others decided another batch than it proposed here. The own commit followed the decision, whose
/// body was not recorded, so that after a restart the proposal is all that is here.
#[test]
fn a_commit_that_followed_a_decision_stands() {
    let (proposed, decided) = (batch(&[(1, 1)]), batch(&[(2, 1)]));
    let mut durable = Durable::new(1);
    durable.hear(0, pre_prepare(1, &proposed));
    for sender in [2, 3] {
        durable.hear(sender, committed(1, &decided));
    }
    let outputs = durable.hear(2, body(1, &decided));
    assert_eq!(executions(&outputs), [(1, decided.digest)]);
    let (mut durable, outputs) = durable.restart();
    assert_eq!(executions(&outputs), []);
    for sender in [2, 3] {
        let outputs = durable.hear(sender, prepare(1, &proposed));
        assert!(!outputs.iter().any(|output| matches!(output, Output::Broadcast(_))), "{outputs:?}");
    }
}
