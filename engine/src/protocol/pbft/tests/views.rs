//! View changes, message by message.

use super::*;
use crate::protocol::message::Status;

/// A view-change to `view` of a replica at the initial state, which pre-prepared whatever it prepared.
pub(super) fn change(replica: u16, view: u64, prepared: &[Vote]) -> ViewChange {
    ViewChange {
        replica: ReplicaId(replica),
        view: View(view),
        stable: SequenceNumber(0),
        checkpoints: Vec::new(),
        prepared: prepared.to_vec(),
        pre_prepared: prepared.to_vec(),
    }
}

pub(super) fn signed<T>(content: T) -> Signed<T> {
    Signed { content: Arc::new(content), signature: Some([1; 64]) }
}

fn view_change(change: &ViewChange) -> Message {
    Message::ViewChange(signed(change.clone()))
}

fn new_view(view: u64, changes: &[ViewChange]) -> Message {
    let view_changes = changes.iter().map(|change| (change.replica, change.digest())).collect();
    Message::NewView(signed(NewView { view: View(view), view_changes }))
}

/// The view-change that these outputs begin with.
fn own_change(outputs: &[Output]) -> ViewChange {
    match outputs.first() {
        Some(Output::Broadcast(message)) => match &**message {
            Message::ViewChange(Signed { content, signature: None }) => content.as_ref().clone(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn position(replica: &Replica) -> (u64, bool) {
    let position = replica.core.position();
    (position.view.0, position.active)
}

fn in_view(view: u64, sequence: u64, batch: &Batch) -> Vote {
    Vote { view: View(view), ..vote(sequence, batch) }
}

#[test]
fn a_batch_that_does_not_commit_in_time_ends_the_view() {
    let mut replica = Replica::new(4, 1);
    let (first, second) = (batch(&[(1, 1)]), batch(&[(2, 1)]));
    replica.hear(0, pre_prepare(1, &first));
    replica.hear(0, pre_prepare(2, &second));
    replica.hear(2, prepare(1, &first));
    let change = own_change(&replica.end_view());
    assert_eq!((change.replica, change.view, change.stable), (ReplicaId(1), View(1), SequenceNumber(0)));
    assert_eq!(change.prepared, [vote(1, &first)]);
    assert_eq!(change.pre_prepared, [vote(1, &first), vote(2, &second)]);
    assert_eq!(position(&replica), (1, false));
    // Nothing of the old view counts any more; the new one has not begun.
    assert_eq!(replica.hear(3, commit(1, &first)), ignored(Ignored::OldView));
    assert_eq!(replica.hear(3, Message::Commit(in_view(1, 1, &first))), []);
}

#[test]
fn a_primary_gives_up_when_its_own_batch_does_not_commit() {
    let mut primary = Replica::new(4, 0);
    primary.requests(&[(1, 1)]);
    let lost = batch(&[(1, 1)]);
    let change = own_change(&primary.end_view());
    assert_eq!((change.view, change.prepared, change.pre_prepared), (View(1), vec![], vec![vote(1, &lost)]));
    // A client that asks again is not its own to wait for.
    let mut idle = Replica::new(4, 0);
    idle.step(Input::NotExecuted(table(&[(1, 1)])));
    assert_eq!(idle.view_timer, None);
}

#[test]
fn the_timer_runs_anew_with_each_commit_and_stops_with_the_last() {
    let mut replica = Replica::new(4, 1);
    let batches = [batch(&[(1, 1)]), batch(&[(2, 1)])];
    replica.hear(0, pre_prepare(1, &batches[0]));
    replica.hear(0, pre_prepare(2, &batches[1]));
    let due = replica.view_timer.unwrap();
    replica.now = Time(due.0 - 1);
    for (sequence, batch) in (1..).zip(&batches) {
        for sender in [2, 3] {
            replica.hear(sender, prepare(sequence, batch));
        }
        if sequence == 1 {
            for sender in [0, 2] {
                replica.hear(sender, commit(sequence, batch));
            }
        }
    }
    replica.now = replica.view_timer.take().unwrap();
    assert_eq!(replica.step(Input::Timer(Timer::View)), [], "one batch has just committed");
    for sender in [0, 2] {
        replica.hear(sender, commit(2, &batches[1]));
    }
    assert_eq!(replica.expire(), []);
    assert_eq!(replica.view_timer, None, "nothing is waited for");
    assert_eq!(position(&replica), (0, true));
}

#[test]
fn f_plus_one_make_a_replica_join_and_one_huge_view_moves_nobody() {
    for n in SIZES {
        let weak = u16::try_from(Quorums::new(n).unwrap().weak()).unwrap();
        let mut replica = Replica::new(n, 0);
        assert_eq!(replica.hear(1, view_change(&change(1, u64::MAX, &[]))), [], "n = {n}");
        for other in 2..=weak {
            assert_eq!(position(&replica), (0, true), "n = {n}");
            let outputs = replica.hear(other, view_change(&change(other, 3, &[])));
            assert_eq!(outputs.is_empty(), other < weak, "n = {n}");
        }
        assert_eq!(position(&replica), (3, false), "n = {n}");
        // The same again and older ones change nothing.
        let again = change(weak, 3, &[]);
        assert_eq!(replica.hear(weak, view_change(&again)), ignored(Ignored::StaleViewChange));
        assert_eq!(replica.hear(weak, view_change(&change(weak, 2, &[]))), ignored(Ignored::StaleViewChange));
    }
}

#[test]
fn the_next_primary_starts_its_view_on_a_quorum_and_proposes_what_was_prepared() {
    for n in SIZES {
        let quorum = u16::try_from(Quorums::new(n).unwrap().quorum()).unwrap();
        let kept = batch(&[(1, 1)]);
        let mut replica = Replica::new(n, 1);
        replica.hear(0, pre_prepare(2, &kept));
        let own = own_change(&replica.end_view());
        let mut changes = vec![own];
        let mut outputs = Vec::new();
        for other in 2..=quorum {
            assert_eq!(outputs, [], "n = {n}");
            changes.push(change(other, 1, &[vote(2, &kept)]));
            outputs = replica.hear(other, view_change(changes.last().unwrap()));
        }
        let Some(Output::Broadcast(message)) = outputs.first() else { panic!("{outputs:?}") };
        let Message::NewView(Signed { content, signature: None }) = &**message else { panic!("{message:?}") };
        assert_eq!(content.view, View(1));
        assert_eq!(content.view_changes.len(), usize::from(quorum), "n = {n}");
        assert_eq!(position(&replica), (1, true));
        // It does not prepare what it proposes. New requests come after the last assignment; the gap is null.
        let table = table(&[(9, 1)]);
        let outputs = replica.step(Input::Requests(Arc::clone(&table)));
        let batch = Batch::new(table.as_ref().clone());
        let message = PrePrepare { view: View(1), sequence: SequenceNumber(3), batch };
        assert_eq!(outputs, [broadcast(Message::PrePrepare(message))], "n = {n}");
    }
}

#[test]
fn a_primary_waits_for_more_than_a_checkpoint_that_it_has_not_reached() {
    let mut primary = Replica::new(4, 1);
    let passed = Checkpoint { sequence: SequenceNumber(4), digest: Digest([1; 32]) };
    primary.hear(0, view_change(&ViewChange { checkpoints: vec![passed], ..change(0, 1, &[]) }));
    let lie = ViewChange { stable: passed.sequence, checkpoints: vec![passed], ..change(2, 1, &[]) };
    primary.hear(2, view_change(&lie));
    // With its own that is a quorum, which leads to 4.
    assert_eq!(position(&primary), (1, false));
    primary.hear(3, view_change(&change(3, 1, &[])));
    assert_eq!(position(&primary), (1, true));
    assert_eq!(primary.core.views.floor, SequenceNumber(0));
}

/// Its new-view stands for pre-prepares that it could not remember to have made.
#[test]
fn a_primary_that_is_too_far_behind_does_not_start_its_view() {
    let mut primary = Replica::new(4, 1);
    for sequence in 1..=INTERVAL {
        primary.execute(sequence, &batch(&[(2, sequence)]));
    }
    let state = Checkpoint { sequence: SequenceNumber(INTERVAL), digest: Digest([7; 32]) };
    for (replica, view) in [(0, 5), (2, 5), (3, 5)] {
        let beyond = vote(WINDOW + 1, &batch(&[(1, 1)]));
        let content =
            ViewChange { stable: state.sequence, checkpoints: vec![state], ..change(replica, view, &[beyond]) };
        primary.hear(replica, view_change(&content));
    }
    assert_eq!(position(&primary), (5, false));
}

#[test]
fn a_backup_enters_a_justified_view_and_votes_again() {
    let kept = batch(&[(1, 1)]);
    let mut replica = Replica::new(4, 2);
    replica.hear(0, pre_prepare(2, &kept));
    let own = own_change(&replica.end_view());
    let changes = [change(1, 1, &[vote(2, &kept)]), own, change(3, 1, &[])];
    // The new-view may come before what it names.
    assert_eq!(replica.hear(1, new_view(1, &changes)), []);
    assert_eq!(replica.hear(3, view_change(&changes[2])), []);
    let outputs = replica.hear(1, view_change(&changes[0]));
    let null = Batch::null();
    let votes = [broadcast(Message::Prepare(in_view(1, 1, &null))), broadcast(Message::Prepare(in_view(1, 2, &kept)))];
    assert_eq!(outputs[..2], votes, "{outputs:?}");
    assert_eq!(position(&replica), (1, true));
    assert_eq!(replica.hear(1, new_view(1, &changes)), ignored(Ignored::StaleNewView));
    // It goes on as in any view; what was early is heard now.
    assert_eq!(
        replica.hear(3, Message::Prepare(in_view(1, 1, &null))),
        [broadcast(Message::Commit(in_view(1, 1, &null)))]
    );
    let other = PrePrepare { view: View(1), sequence: SequenceNumber(2), batch: batch(&[(5, 5)]) };
    let outputs = replica.hear(1, Message::PrePrepare(other));
    assert!(outputs.iter().any(says_to_suspect), "another batch than the one assigned gives the primary away");
}

/// The primary names a view-change that nobody but itself has; the others have entered on another new-view of its.
#[test]
fn a_new_view_that_can_not_be_completed_keeps_nobody_out() {
    let mut replica = Replica::new(4, 2);
    let told = change(1, 1, &[vote(1, &batch(&[(8, 8)]))]);
    let changes = [change(0, 1, &[]), change(1, 1, &[]), change(3, 1, &[])];
    for message in [view_change(&changes[0]), view_change(&told), view_change(&changes[2])] {
        replica.hear(1, message);
    }
    let unknown = change(1, 1, &[vote(2, &batch(&[(9, 9)]))]);
    let bad = new_view(1, &[changes[0].clone(), unknown, changes[2].clone()]);
    assert_eq!(replica.hear(1, bad), []);
    // Another replica helps: what the new-view names, then the new-view. The first time it is not known to be wanted.
    let of_use = |replica: &mut Replica| replica.hear(3, view_change(&changes[1])).is_empty();
    assert!(!of_use(&mut replica));
    replica.hear(3, new_view(1, &changes));
    assert_eq!(position(&replica), (1, false));
    assert_eq!(replica.core.views.known(View(1)), 0b1101, "its own, and both that are named and here");
    of_use(&mut replica);
    assert_eq!(position(&replica), (1, true));
}

#[test]
fn an_assigned_batch_that_is_missing_is_taken_from_anybody() {
    let kept = batch(&[(1, 1)]);
    for by_primary in [true, false] {
        let mut replica = Replica::new(4, 2);
        let changes = [change(0, 1, &[vote(1, &kept)]), change(1, 1, &[vote(1, &kept)]), change(3, 1, &[])];
        for other in &changes {
            replica.hear(other.replica.0, view_change(other));
        }
        replica.hear(1, new_view(1, &changes));
        assert_eq!(position(&replica), (1, true));
        let message = PrePrepare { view: View(1), sequence: SequenceNumber(1), batch: Arc::clone(&kept) };
        let message = if by_primary { Message::PrePrepare(message) } else { body(1, &kept) };
        // Whether its requests prove themselves does not matter: a correct replica has seen that they do.
        let outputs = replica.hear_as(if by_primary { 1 } else { 3 }, message, false);
        assert_eq!(outputs, [broadcast(Message::Prepare(in_view(1, 1, &kept)))]);
    }
}

#[test]
fn a_new_view_must_be_justified() {
    let mut replica = Replica::new(4, 2);
    let kept = batch(&[(1, 1)]);
    let changes = [change(0, 1, &[vote(1, &kept)]), change(1, 1, &[]), change(3, 1, &[])];
    for other in &changes {
        replica.hear(other.replica.0, view_change(other));
    }
    let unjustified = ignored(Ignored::UnjustifiedNewView);
    assert_eq!(replica.hear(1, new_view(1, &changes[..2])), unjustified, "too few");
    let twice = [changes[0].clone(), changes[0].clone(), changes[1].clone()];
    assert_eq!(replica.hear(1, new_view(1, &twice)), unjustified, "one replica twice");
    assert_eq!(replica.hear(1, new_view(1, &changes)), unjustified, "they leave open what was decided at 1");
    assert_eq!(position(&replica), (1, false));
}

#[test]
fn view_changes_follow_each_other_with_longer_and_longer_time_outs() {
    let mut replica = Replica::new(4, 3);
    replica.hear(0, pre_prepare(1, &batch(&[(1, 1)])));
    let mut waits = Vec::new();
    for view in 1..=8u64 {
        let start = replica.now;
        let outputs = replica.end_view();
        let own = own_change(&outputs);
        assert_eq!(own.view, View(view));
        waits.push(replica.now.since(start));
        assert_eq!(own.pre_prepared.len(), 1, "prepared state is never dropped");
        assert_eq!(replica.view_timer, None, "time runs once a quorum has asked for the view");
        for other in [0, 1] {
            replica.hear(other, view_change(&change(other, view, &[])));
        }
        if replica.core.is_primary() {
            // It has started its own view by now; it must not be the one that it waits for.
            assert_eq!(position(&replica), (view, true));
            for other in [0, 1] {
                replica.hear(other, view_change(&change(other, view + 1, &[])));
            }
            return assert_eq!(waits[1..], [VIEW_TIMEOUT_NS, 2 * VIEW_TIMEOUT_NS], "{waits:?}");
        }
    }
}

#[test]
fn whoever_waits_for_a_view_is_sent_what_it_lacks() {
    let changes = [change(0, 1, &[]), change(2, 1, &[]), change(3, 1, &[])];
    let mut replica = Replica::new(4, 2);
    for other in [&changes[0], &changes[2]] {
        replica.hear(other.replica.0, view_change(other));
    }
    let status = |view, active, view_changes| {
        Message::Status(Status { view: View(view), active, view_changes, ..Default::default() })
    };
    let sent = |outputs: Vec<Output>| {
        let of = |output: &Output| match output {
            Output::Send(ReplicaId(3), message) => match &**message {
                Message::ViewChange(signed) => Some(signed.content.replica.0),
                Message::NewView(_) => Some(99),
                _ => None,
            },
            _ => None,
        };
        outputs.iter().filter_map(of).collect::<Vec<_>>()
    };
    // While it waits itself, it has its own to give, to those who lack it or are behind.
    let later = |replica: &mut Replica| replica.now = replica.now.after(STATUS_NS);
    assert_eq!(sent(replica.hear(3, status(1, false, 0b1000))), [2]);
    later(&mut replica);
    assert_eq!(sent(replica.hear(3, status(1, false, 0b1100))), [0; 0]);
    later(&mut replica);
    assert_eq!(sent(replica.hear(3, status(0, true, 0))), [2]);
    // In the view, it can pass on all of it.
    let own = change(2, 1, &[]);
    replica.hear(1, new_view(1, &[changes[0].clone(), own, changes[2].clone()]));
    assert_eq!(position(&replica), (1, true));
    later(&mut replica);
    assert_eq!(sent(replica.hear(3, status(1, false, 0b1000))), [0, 2, 99]);
    later(&mut replica);
    assert_eq!(sent(replica.hear(3, status(0, true, 0))), [0, 2, 3, 99]);
    later(&mut replica);
    assert_eq!(sent(replica.hear(3, status(1, true, 0))), [0; 0]);
}

#[test]
fn an_invalid_operation_gives_the_primary_away() {
    let mut replica = Replica::new(4, 1);
    let message = pre_prepare(1, &batch(&[(1, 1)]));
    let requests = Verdict { unproven: Vec::new(), invalid: true };
    let outputs = replica.step(Input::Message(Authentic { sender: ReplicaId(0), message, signature: None, requests }));
    assert!(says_to_suspect(&outputs[0]), "{outputs:?}");
    assert_eq!(outputs[1..], ignored(Ignored::InvalidOperation));
    let change = own_change(&replica.agree());
    assert_eq!((change.view, change.pre_prepared), (View(1), Vec::new()));
}

#[test]
fn a_replica_without_a_vote_follows_and_says_nothing() {
    let mut replica = Replica::with(Config { voting: false, ..config(4, 2) });
    let (first, second) = (batch(&[(1, 1)]), batch(&[(2, 1)]));
    assert_eq!(replica.hear(0, pre_prepare(1, &first)), []);
    for sender in [1, 3] {
        assert_eq!(replica.hear(sender, prepare(1, &first)), []);
    }
    for sender in [0, 1] {
        replica.hear(sender, commit(1, &first));
    }
    assert_eq!(executions(&replica.hear(3, commit(1, &first))), [(1, first.digest)]);
    let changes = [change(0, 1, &[]), change(1, 1, &[]), change(3, 1, &[])];
    for other in &changes {
        assert_eq!(replica.hear(other.replica.0, view_change(other)), []);
    }
    assert_eq!(position(&replica), (0, true));
    replica.hear(1, new_view(1, &changes));
    assert_eq!(position(&replica), (1, true));
    let message = PrePrepare { view: View(1), sequence: SequenceNumber(2), batch: second };
    assert_eq!(replica.hear(1, Message::PrePrepare(message)), []);
    assert_eq!(replica.view_timer, None);
}

/// What it said before it lost its memory comes back to it, and may be what it lacks to follow.
#[test]
fn a_replica_without_its_memory_takes_its_own_old_messages() {
    for own in [1, 2] {
        let mut replica = Replica::with(Config { voting: false, ..config(4, own) });
        let kept = batch(&[(1, 1)]);
        let prepared = [vote(1, &kept)];
        let changes = [change(0, 1, &prepared), change(1, 1, &prepared), change(2, 1, &[])];
        for other in changes.iter().filter(|other| other.replica.0 != own) {
            replica.hear(3, view_change(other));
        }
        let forgotten = &changes[usize::from(own)];
        assert_eq!(replica.hear(3, view_change(forgotten)), ignored(Ignored::UnknownSender), "nothing needs it");
        assert_eq!(replica.hear(3, new_view(1, &changes)), []);
        assert_eq!(position(&replica), (0, true));
        let outputs = replica.hear(3, view_change(forgotten));
        assert_eq!(position(&replica), (1, true));
        assert!(!outputs.iter().any(|output| matches!(output, Output::Broadcast(_))), "{outputs:?}");
        // Nor does it lead a view that was once its own, not even by repairs.
        assert_eq!(replica.hear(3, body(1, &kept)), []);
        let behind = Message::Status(Status { view: View(1), active: true, ..Status::default() });
        replica.hear(3, behind.clone());
        let outputs = replica.hear(3, behind);
        let leads = |output: &Output| matches!(output, Output::Send(_, m) if matches!(**m, Message::PrePrepare(_)));
        assert!(!outputs.iter().any(leads), "{outputs:?}");
    }
    // Whoever remembers starts no view but by itself.
    let mut primary = Replica::new(4, 1);
    let changes = [change(0, 1, &[]), change(2, 1, &[]), change(3, 1, &[])];
    assert_eq!(primary.hear(3, new_view(1, &changes)), ignored(Ignored::StaleNewView));
}

#[test]
fn what_is_settled_when_a_view_starts_is_not_voted_on_again() {
    let mut replica = Replica::new(4, 2);
    let stable = Checkpoint { sequence: SequenceNumber(4), digest: Digest([1; 32]) };
    let settled =
        |replica| ViewChange { stable: stable.sequence, checkpoints: vec![stable], ..change(replica, 1, &[]) };
    let changes = [settled(0), settled(1), settled(3)];
    for other in &changes {
        replica.hear(other.replica.0, view_change(other));
    }
    replica.hear(1, new_view(1, &changes));
    let batch = batch(&[(1, 1)]);
    for sequence in 1..=4 {
        let message = PrePrepare { view: View(1), sequence: SequenceNumber(sequence), batch: Arc::clone(&batch) };
        assert_eq!(replica.hear(1, Message::PrePrepare(message)), ignored(Ignored::BelowLowWatermark));
    }
}
