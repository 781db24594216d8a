//! The three phases: quorums, who may vote, orders of arrival, watermarks.

use super::*;
use crate::limits::EARLY_MESSAGES_MAX;
use crate::protocol::{Execution, Stamps};

#[test]
fn a_backup_prepares_commits_and_executes_at_quorums() {
    for n in SIZES {
        let quorum = u16::try_from(Quorums::new(n).unwrap().quorum()).unwrap();
        let mut replica = Replica::new(n, 1);
        let batch = batch(&[(1, 1)]);
        replica.now = Time(10);
        assert_eq!(replica.hear(0, pre_prepare(1, &batch)), [broadcast(prepare(1, &batch))], "n = {n}");
        // Q − 1 prepares, the own one included: Q − 2 others.
        replica.now = Time(20);
        for sender in 2..quorum - 1 {
            assert_eq!(replica.hear(sender, prepare(1, &batch)), [], "n = {n}, prepare of {sender}");
        }
        assert_eq!(replica.hear(quorum - 1, prepare(1, &batch)), [broadcast(commit(1, &batch))], "n = {n}");
        // Q commits, the own one included: Q − 1 others, the primary among them.
        replica.now = Time(30);
        for sender in (0..quorum - 1).filter(|&sender| sender != 1) {
            assert_eq!(replica.hear(sender, commit(1, &batch)), [], "n = {n}, commit of {sender}");
        }
        let (received, pre_prepared, prepared, committed) = (Time(10), Time(10), Time(20), Time(30));
        let stamps = Stamps { received, pre_prepared, prepared, committed, durable: Time(0) };
        let execution = Execution {
            sequence: SequenceNumber(1),
            view: View(0),
            tentative: false,
            batch: Arc::clone(&batch),
            stamps,
        };
        assert_eq!(replica.hear(quorum - 1, commit(1, &batch)), [Output::Execute(execution)], "n = {n}");
    }
}

#[test]
fn the_primary_needs_q_minus_one_backups() {
    for n in SIZES {
        let quorum = u16::try_from(Quorums::new(n).unwrap().quorum()).unwrap();
        let mut replica = Replica::new(n, 0);
        let batch = batch(&[(1, 1)]);
        assert_eq!(replica.requests(&[(1, 1)]), [broadcast(pre_prepare(1, &batch))]);
        for sender in 1..quorum - 1 {
            assert_eq!(replica.hear(sender, prepare(1, &batch)), [], "n = {n}, prepare of {sender}");
        }
        assert_eq!(replica.hear(quorum - 1, prepare(1, &batch)), [broadcast(commit(1, &batch))], "n = {n}");
        for sender in 1..quorum - 1 {
            assert_eq!(replica.hear(sender, commit(1, &batch)), [], "n = {n}, commit of {sender}");
        }
        assert_eq!(executions(&replica.hear(quorum - 1, commit(1, &batch))), [(1, batch.digest)], "n = {n}");
    }
}

#[test]
fn one_vote_counts_for_each_sender_and_phase() {
    let mut replica = Replica::new(7, 1);
    let (batch, other) = (batch(&[(1, 1)]), batch(&[(2, 1)]));
    for message in [prepare, commit, committed] {
        assert_eq!(replica.hear(2, message(1, &batch)), []);
        assert_eq!(replica.hear(2, message(1, &batch)), ignored(Ignored::DuplicateVote));
        assert_eq!(replica.hear(2, message(1, &other)), ignored(Ignored::ConflictingVote));
        assert_eq!(replica.hear(3, message(1, &other)), []);
    }
}

#[test]
fn votes_for_another_digest_prepare_nothing() {
    let mut replica = Replica::new(4, 1);
    let (batch, other) = (batch(&[(1, 1)]), batch(&[(2, 1)]));
    replica.hear(0, pre_prepare(1, &batch));
    assert_eq!(replica.hear(2, prepare(1, &other)), []);
    assert_eq!(replica.hear(2, commit(1, &other)), []);
    assert_eq!(replica.hear(3, commit(1, &batch)), []);
    assert_eq!(replica.hear(0, commit(1, &batch)), []);
    assert_eq!(executions(&replica.hear(3, prepare(1, &batch))), [(1, batch.digest)]);
}

#[test]
fn senders_are_checked() {
    let mut replica = Replica::new(4, 1);
    let batch = batch(&[(1, 1)]);
    assert_eq!(replica.hear(0, prepare(1, &batch)), ignored(Ignored::PrepareFromPrimary));
    assert_eq!(replica.hear(2, pre_prepare(1, &batch)), ignored(Ignored::NotFromPrimary));
    for sender in [1, 4, 64, u16::MAX] {
        for message in [pre_prepare(1, &batch), commit(1, &batch), committed(1, &batch), checkpoint(4, 1)] {
            assert_eq!(replica.hear(sender, message), ignored(Ignored::UnknownSender));
        }
    }
    // The checks come before the buffer for early messages.
    assert_eq!(replica.hear(0, prepare(WINDOW + 1, &batch)), ignored(Ignored::PrepareFromPrimary));
    assert_eq!(replica.hear(2, pre_prepare(WINDOW + 1, &batch)), ignored(Ignored::NotFromPrimary));
}

#[test]
fn later_views_are_kept_within_bounds_and_count_for_nothing() {
    let mut replica = Replica::new(4, 1);
    let batch = batch(&[(1, 1)]);
    let vote = Vote { view: View(u64::MAX), ..vote(1, &batch) };
    let message = PrePrepare { view: View(2), sequence: SequenceNumber(1), batch: Arc::clone(&batch) };
    for message in [Message::PrePrepare(message), Message::Prepare(vote), Message::Commit(vote)] {
        assert_eq!(replica.hear(2, message), []);
    }
    let other = PrePrepare { view: View(1), sequence: SequenceNumber(1), batch };
    assert_eq!(replica.hear(2, Message::PrePrepare(other)), ignored(Ignored::NotFromPrimary));
    let mut refused = 0;
    for _ in 0..2 * EARLY_MESSAGES_MAX {
        refused += replica.hear(2, Message::Commit(vote)).len();
    }
    assert!(refused > EARLY_MESSAGES_MAX, "{refused}");
    assert_eq!(replica.core.position().committed, SequenceNumber(0));
}

#[test]
fn a_second_pre_prepare_gives_the_primary_away() {
    let mut replica = Replica::new(4, 1);
    let (batch, other) = (batch(&[(1, 1)]), batch(&[(2, 1)]));
    replica.hear(0, pre_prepare(1, &batch));
    assert_eq!(replica.hear(0, pre_prepare(1, &batch)), ignored(Ignored::DuplicatePrePrepare));
    replica.hear(2, prepare(1, &batch));
    let outputs = replica.hear(0, pre_prepare(1, &other));
    assert!(says_to_suspect(&outputs[0]), "{outputs:?}");
    assert_eq!(outputs[1..], ignored(Ignored::ConflictingPrePrepare));
    let outputs = replica.agree();
    let Some(Output::Broadcast(message)) = outputs.first() else { panic!("{outputs:?}") };
    let Message::ViewChange(Signed { content, signature: None }) = &**message else { panic!("{message:?}") };
    assert_eq!((content.view, &content.prepared), (View(1), &vec![vote(1, &batch)]));
}

#[test]
fn every_order_of_arrival_executes_once() {
    let batch = batch(&[(1, 1)]);
    let messages = [
        (0, pre_prepare(1, &batch)),
        (2, prepare(1, &batch)),
        (3, prepare(1, &batch)),
        (0, commit(1, &batch)),
        (2, commit(1, &batch)),
        (3, commit(1, &batch)),
    ];
    let mut orders = 0;
    permute(&mut [0, 1, 2, 3, 4, 5], 0, &mut |order| {
        let mut replica = Replica::new(4, 1);
        let outputs: Vec<Output> =
            order.iter().flat_map(|&at| replica.hear(messages[at].0, messages[at].1.clone())).collect();
        assert_eq!(executions(&outputs), [(1, batch.digest)], "{order:?}");
        orders += 1;
    });
    assert_eq!(orders, 720);
}

fn permute(order: &mut [usize], from: usize, visit: &mut impl FnMut(&[usize])) {
    if from == order.len() {
        return visit(order);
    }
    for at in from..order.len() {
        order.swap(from, at);
        permute(order, from + 1, visit);
        order.swap(from, at);
    }
}

#[test]
fn batches_execute_in_order_without_gaps() {
    let mut replica = Replica::new(4, 1);
    let batches: Vec<_> = (1..=3).map(|client| batch(&[(client, 1)])).collect();
    let decide = |replica: &mut Replica, sequence: u64| {
        let batch = &batches[usize::try_from(sequence).unwrap() - 1];
        let mut outputs = replica.hear(0, pre_prepare(sequence, batch));
        for (sender, message) in [(2, prepare), (2, commit), (3, commit)] as [(u16, fn(u64, &Batch) -> Message); 3] {
            outputs.extend(replica.hear(sender, message(sequence, batch)));
        }
        executions(&outputs)
    };
    assert_eq!(decide(&mut replica, 3), []);
    assert_eq!(decide(&mut replica, 2), []);
    let digests: Vec<_> = (1..).zip(&batches).map(|(sequence, batch)| (sequence, batch.digest)).collect();
    assert_eq!(decide(&mut replica, 1), digests);
    // The executor's reports are contiguous too.
    assert_eq!(replica.step(Input::Executed(SequenceNumber(2))), ignored(Ignored::UnexpectedExecution));
    for sequence in 1..=3 {
        assert_eq!(replica.step(Input::Executed(SequenceNumber(sequence))), []);
    }
    assert_eq!(replica.step(Input::Executed(SequenceNumber(4))), ignored(Ignored::UnexpectedExecution));
}

#[test]
fn q_commits_decide_without_prepares_and_cast_no_vote() {
    let mut replica = Replica::new(4, 1);
    let batch = batch(&[(1, 1)]);
    for sender in [0, 2, 3] {
        assert_eq!(replica.hear(sender, commit(1, &batch)), []);
    }
    // The body alone is missing, and the pre-prepare brings it.
    let outputs = replica.hear(0, pre_prepare(1, &batch));
    assert_eq!(outputs[0], broadcast(prepare(1, &batch)));
    assert_eq!(executions(&outputs), [(1, batch.digest)]);
    assert_eq!(outputs.len(), 2, "no commit without a prepared certificate");
}

#[test]
fn the_null_request_is_ordered_executed_and_checkpointed() {
    let mut replica = Replica::new(4, 1);
    let null = Batch::null();
    for sequence in 1..=INTERVAL {
        assert_eq!(replica.hear(0, pre_prepare(sequence, &null)), [broadcast(prepare(sequence, &null))]);
        replica.hear(2, prepare(sequence, &null));
        replica.hear(2, commit(sequence, &null));
        assert_eq!(executions(&replica.hear(3, commit(sequence, &null))), [(sequence, null.digest)]);
        assert_eq!(replica.step(Input::Executed(SequenceNumber(sequence))), []);
    }
    replica.step(Input::CheckpointTaken(SequenceNumber(INTERVAL), Digest([1; 32])));
    replica.hear(0, checkpoint(INTERVAL, 1));
    replica.hear(2, checkpoint(INTERVAL, 1));
    assert_eq!(replica.core.position().stable_checkpoint, SequenceNumber(INTERVAL));
}

type MessageAt = fn(u64) -> Message;

#[test]
fn watermarks_hold_for_every_message() {
    let mut replica = Replica::new(4, 1);
    let batch = batch(&[(1, 1)]);
    let messages: [(u16, MessageAt); 5] = [
        (0, |at| pre_prepare(at, &self::batch(&[(1, 1)]))),
        (2, |at| prepare(at, &self::batch(&[(1, 1)]))),
        (2, |at| commit(at, &self::batch(&[(1, 1)]))),
        (2, |at| committed(at, &self::batch(&[(1, 1)]))),
        (2, |at| body(at, &self::batch(&[(1, 1)]))),
    ];
    for (sender, message) in messages {
        assert_eq!(replica.hear(sender, message(0)), ignored(Ignored::BelowLowWatermark));
        for at in [2 * WINDOW + 1, u64::MAX] {
            assert_eq!(replica.hear(sender, message(at)), ignored(Ignored::AboveHighWatermark));
        }
    }
    assert_eq!(replica.hear(2, checkpoint(0, 1)), ignored(Ignored::BelowLowWatermark));
    // Votes and pre-prepares one window ahead are kept; claims and bodies answer a status and are never early.
    for (sender, message) in &messages[..3] {
        assert_eq!(replica.hear(*sender, message(2 * WINDOW)), []);
    }
    for (sender, message) in &messages[3..] {
        assert_eq!(replica.hear(*sender, message(WINDOW + 1)), ignored(Ignored::AboveHighWatermark));
    }
    // The highest sequence number in the window is in it.
    assert_eq!(replica.hear(0, pre_prepare(WINDOW, &batch)), [broadcast(prepare(WINDOW, &batch))]);
}

#[test]
fn early_messages_take_effect_when_the_window_moves() {
    let mut replica = Replica::new(4, 1);
    let early = batch(&[(9, 9)]);
    let sequence = WINDOW + 1;
    assert_eq!(replica.hear(2, commit(sequence, &early)), []);
    assert_eq!(replica.hear(2, prepare(sequence, &early)), []);
    assert_eq!(replica.hear(0, pre_prepare(sequence, &early)), []);
    assert_eq!(replica.hear(0, pre_prepare(WINDOW + INTERVAL + 1, &early)), []);
    for sequence in 1..=INTERVAL {
        replica.execute(sequence, &batch(&[(1, sequence)]));
    }
    replica.step(Input::CheckpointTaken(SequenceNumber(INTERVAL), Digest([1; 32])));
    replica.hear(0, checkpoint(INTERVAL, 1));
    let outputs = replica.hear(2, checkpoint(INTERVAL, 1));
    assert!(matches!(outputs[0], Output::StableCheckpoint(_)));
    assert_eq!(outputs[1..], [broadcast(prepare(sequence, &early)), broadcast(commit(sequence, &early))]);
}

#[test]
fn one_sender_can_not_fill_the_early_buffer() {
    let mut replica = Replica::new(4, 1);
    let share = EARLY_MESSAGES_MAX / 4;
    let flood = |replica: &mut Replica, sender, count| {
        let batch = batch(&[(1, 1)]);
        (0..count).flat_map(|_| replica.hear(sender, commit(WINDOW + 1, &batch))).collect::<Vec<_>>()
    };
    assert_eq!(flood(&mut replica, 2, share), []);
    assert_eq!(flood(&mut replica, 2, 1), ignored(Ignored::AboveHighWatermark));
    assert_eq!(flood(&mut replica, 3, 1), [], "another sender has its own share");
    // Bodies are bounded in bytes: batches of 4 MB, then no more, but votes still fit.
    let large = Batch::new(sized_table(&[(1, 1), (2, 1), (3, 1), (4, 1)], 1 << 20).as_ref().clone());
    let refused = (0..share).map(|_| replica.hear(0, pre_prepare(WINDOW + 1, &large))).filter(|o| !o.is_empty());
    assert_eq!(refused.count(), share - 3);
    assert_eq!(flood(&mut replica, 0, 1), []);
}

#[test]
fn a_batch_that_does_not_prove_itself_waits_for_f_plus_one_vouchers() {
    for n in SIZES {
        let f = u16::try_from(Quorums::new(n).unwrap().f()).unwrap();
        let mut replica = Replica::new(n, 1);
        let (batch, other) = (batch(&[(1, 1)]), batch(&[(2, 1)]));
        assert_eq!(replica.hear_as(0, pre_prepare(1, &batch), false), [], "n = {n}: held");
        assert_eq!(replica.hear_as(0, pre_prepare(1, &batch), false), ignored(Ignored::DuplicatePrePrepare), "n = {n}");
        // The primary vouches, and f backups have to. Prepares for something else vouch for nothing.
        replica.hear(f + 2, prepare(1, &other));
        for sender in 2..=f {
            assert_eq!(replica.hear(sender, prepare(1, &batch)), [], "n = {n}, prepare of {sender}");
        }
        let outputs = replica.hear(f + 1, prepare(1, &batch));
        assert_eq!(outputs[0], broadcast(prepare(1, &batch)), "n = {n}");
    }
}

#[test]
fn a_held_batch_is_accepted_when_vouchers_came_first_or_it_proves_itself_later() {
    let batch = batch(&[(1, 1)]);
    let mut replica = Replica::new(4, 1);
    replica.hear(2, prepare(1, &batch));
    let outputs = replica.hear_as(0, pre_prepare(1, &batch), false);
    assert_eq!(outputs, [broadcast(prepare(1, &batch)), broadcast(commit(1, &batch))]);

    let mut replica = Replica::new(4, 1);
    assert_eq!(replica.hear_as(0, pre_prepare(1, &batch), false), []);
    assert_eq!(replica.hear(0, pre_prepare(1, &batch)), [broadcast(prepare(1, &batch))]);
}

#[test]
fn a_held_batch_that_others_commit_is_executed() {
    let mut replica = Replica::new(4, 1);
    let batch = batch(&[(1, 1)]);
    assert_eq!(replica.hear_as(0, pre_prepare(1, &batch), false), []);
    replica.hear(0, commit(1, &batch));
    replica.hear(2, commit(1, &batch));
    assert_eq!(executions(&replica.hear(3, commit(1, &batch))), [(1, batch.digest)]);
}
