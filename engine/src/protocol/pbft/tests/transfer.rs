//! State transfer, one replica at a time, then in whole clusters with sources that lie.

use bytes::Bytes;

use super::cluster::{Cluster, Lie, Network};
use super::*;
use crate::limits::{HISTORY_BATCHES_MAX, STATE_CHUNK_BYTES_MAX, STATE_CHUNKS_MAX};
use crate::protocol::message::{FetchState, StateChunk, Status};
use crate::protocol::planted::Planted;
use crate::protocol::{Position, StableCheckpoint};

const SECOND: u64 = 1_000_000_000;
/// What the others have reached: far beyond what anybody keeps.
const FAR: u64 = 10 * HISTORY_BATCHES_MAX as u64;
/// The checkpoint that is asked for first.
const TARGET: u64 = FAR + 2 * INTERVAL;

fn wanted(target: u64) -> Message {
    Message::StateWanted(SequenceNumber(target))
}

fn fetch(sequence: u64, index: u32) -> Message {
    Message::FetchState(FetchState { sequence: SequenceNumber(sequence), index })
}

fn state_chunk(sequence: u64, index: u32, count: u32) -> StateChunk {
    StateChunk { sequence: SequenceNumber(sequence), index, count, bytes: bytes(index) }
}

fn chunk(sequence: u64, index: u32, count: u32) -> Message {
    Message::StateChunk(state_chunk(sequence, index, count))
}

fn bytes(index: u32) -> Bytes {
    Bytes::from(index.to_le_bytes().to_vec())
}

fn install(sequence: u64, state: u8, count: u32) -> Output {
    let (sequence, digest) = (SequenceNumber(sequence), Digest([state; 32]));
    Output::InstallState { sequence, digest, chunks: (0..count).map(bytes).collect() }
}

fn installed(sequence: u64, good: bool) -> Input {
    Input::StateInstalled { sequence: SequenceNumber(sequence), good }
}

#[test]
fn a_primary_that_needs_a_state_is_replaced() {
    let mut backup = Replica::new(4, 1);
    let suspects = |outputs: &[Output]| outputs.iter().any(says_to_suspect);
    assert!(!suspects(&backup.hear(2, wanted(WINDOW))), "a backup may lag");
    assert_eq!(backup.hear(0, wanted(WINDOW)), [Output::KeepState(SequenceNumber(WINDOW))]);
    assert!(!suspects(&backup.hear(0, wanted(WINDOW))), "the message came twice");
    backup.now = backup.now.after(4 * STATUS_NS);
    assert!(suspects(&backup.hear(0, wanted(WINDOW))), "it asks again");
}

/// Where another replica says to stand.
fn status(stable: u64, committed: u64) -> Message {
    let (stable, committed) = (SequenceNumber(stable), SequenceNumber(committed));
    Message::Status(Status { view: View(0), active: true, stable, committed, ..Status::default() })
}

/// Nothing else may be outstanding: then nobody else would notice a primary that has left its view alone.
#[test]
fn a_primary_that_does_not_get_on_to_a_checkpoint_that_somebody_waits_for_is_replaced() {
    let mut backup = Replica::new(4, 1);
    let suspects = |outputs: &[Output]| outputs.iter().any(says_to_suspect);
    backup.hear(2, wanted(INTERVAL));
    let mut expire = |until: u64| loop {
        let due = backup.view_timer.take().expect("the view timer is set");
        if due > Time(until) {
            backup.view_timer = Some(due);
            return Vec::new();
        }
        backup.now = due;
        let outputs = backup.step(Input::Timer(Timer::View));
        if suspects(&outputs) {
            return outputs;
        }
    };
    assert_eq!(expire(VIEW_TIMEOUT_NS), []);
    assert!(suspects(&expire(VIEW_TIMEOUT_NS + 2)));
    // With each null request its time begins anew; when the checkpoint is reached, nothing is owed any more.
    let mut backup = Replica::new(4, 1);
    backup.hear(2, wanted(INTERVAL));
    for sequence in 1..=INTERVAL {
        backup.now = backup.now.after(VIEW_TIMEOUT_NS - 1);
        assert!(!suspects(&backup.step(Input::Timer(Timer::View))));
        backup.execute(sequence, &Batch::null());
    }
    backup.now = backup.now.after(10 * VIEW_TIMEOUT_NS);
    assert_eq!(backup.step(Input::Timer(Timer::View)), []);
}

/// What is said to other replicas, but for the status exchange, which goes on all the time.
fn said(outputs: Vec<Output>) -> Vec<Output> {
    let is_status = |message: &Message| matches!(message, Message::Status(_));
    let other = |output: &Output| match output {
        Output::Broadcast(message) => !is_status(message),
        Output::SetTimer(..) | Output::Ignored(Ignored::AboveHighWatermark) => false,
        _ => true,
    };
    outputs.into_iter().filter(other).collect()
}

/// Replica 1 of 4, hopelessly behind: it has just asked for a state.
fn laggard() -> Replica {
    laggard_of(config(4, 1))
}

fn laggard_of(config: Config) -> Replica {
    let weak = u16::try_from(config.quorums.weak()).unwrap();
    let mut replica = Replica::with(config);
    for sender in (0..).filter(|sender| *sender != 1).take(weak.into()) {
        replica.hear(sender, checkpoint(FAR, sender as u8)); // who has gone on farther has other states to tell
        replica.hear(sender, status(FAR, FAR));
    }
    assert_eq!(said(replica.ticks(2)), [broadcast(wanted(TARGET))]);
    replica
}

/// One that knows what state to look for and has asked replica 2 for the first chunk.
fn gathering() -> Replica {
    let mut replica = laggard();
    assert_eq!(said(replica.hear(3, checkpoint(TARGET, 7))), []);
    assert_eq!(said(replica.hear(2, checkpoint(TARGET, 7))), [send(2, fetch(TARGET, 0))]);
    replica
}

/// One whose executor is at work on the state.
fn installing() -> Replica {
    let mut replica = gathering();
    assert_eq!(replica.hear(2, chunk(TARGET, 0, 1)), [install(TARGET, 7, 1)]);
    replica
}

/// One that goes on behind the target.
fn restored() -> Replica {
    let mut replica = installing();
    replica.step(installed(TARGET, true));
    replica
}

fn position(replica: &Replica) -> (u64, u64, u64) {
    let Position { committed, executed, stable_checkpoint, .. } = replica.core.position();
    (committed.0, executed.0, stable_checkpoint.0)
}

#[test]
fn a_state_is_asked_for_when_a_correct_replica_has_gone_on_and_this_one_stands() {
    let mut replica = Replica::new(4, 1);
    replica.hear(3, checkpoint(u64::MAX / INTERVAL * INTERVAL, 1));
    assert_eq!(said(replica.ticks(30)), [], "one replica may say anything");
    replica.hear(0, checkpoint(WINDOW, 1));
    assert_eq!(said(replica.ticks(7)), []);
    // Progress, so repairs may yet help.
    replica.execute(1, &batch(&[(1, 1)]));
    assert_eq!(said(replica.ticks(8)), []);
    assert_eq!(said(replica.ticks(1)), [broadcast(wanted(WINDOW + 2 * INTERVAL))]);
}

#[test]
fn a_target_that_nobody_vouches_for_is_told_again_and_then_put_off() {
    let mut replica = laggard();
    let (mut reached, mut target) = (FAR, TARGET);
    // Every second one is the checkpoint that the others have reached; the others are ever farther ahead of it.
    for (attempt, wait, margin) in [(1, 16, 0), (2, 16, WINDOW), (3, 64, 0), (4, 64, WINDOW)] {
        let repeated = said(replica.ticks(wait - 1));
        assert!(repeated.iter().all(|output| *output == broadcast(wanted(target))), "{repeated:?}");
        assert_eq!(repeated.len(), wait as usize / 4 - 1, "attempt {attempt}");
        // One voucher, or several that contradict each other, are not enough.
        reached = reached.max(target) + INTERVAL;
        replica.hear(0, checkpoint(target, 1));
        replica.hear(2, checkpoint(target, 2));
        // The others have gone on, to different places.
        replica.hear(0, checkpoint(reached, 8));
        replica.hear(2, checkpoint(reached + 5 * INTERVAL, 9));
        target = reached + margin;
        assert_eq!(said(replica.ticks(1)), [broadcast(wanted(target))], "attempt {attempt}");
        reached += 5 * INTERVAL;
    }
}

/// A faulty replica that vouches for no common state stops the others at their high watermark while this one is away.
#[test]
fn a_cluster_that_stands_at_its_high_watermark_hands_over_the_state_there() {
    let mut replica = Replica::new(4, 1);
    replica.hear(0, checkpoint(WINDOW, 7));
    replica.hear(2, checkpoint(WINDOW, 7));
    assert_eq!(said(replica.ticks(8)), [broadcast(wanted(WINDOW + 2 * INTERVAL))]);
    let mut outputs = said(replica.ticks(16));
    assert_eq!(outputs.split_off(outputs.len() - 2), [broadcast(wanted(WINDOW)), send(2, fetch(WINDOW, 0))]);
    assert_eq!(replica.hear(2, chunk(WINDOW, 0, 1)), [install(WINDOW, 7, 1)]);
    assert_eq!(replica.step(installed(WINDOW, true))[0], broadcast(checkpoint(WINDOW, 7)));

    // And this is how one that stands there takes it.
    let mut other = Replica::new(4, 2);
    for sequence in 1..=WINDOW {
        other.execute(sequence, &batch(&[(1, sequence)]));
    }
    assert_eq!(other.hear(1, wanted(WINDOW)), [Output::KeepState(SequenceNumber(WINDOW))]);
    assert_eq!(other.hear(3, wanted(INTERVAL)), ignored(Ignored::StateRefused), "its state is gone");
}

#[test]
fn whoever_has_passed_a_checkpoint_vouches_for_it_when_it_is_asked_for() {
    let mut replica = Replica::new(4, 2);
    for sequence in 1..=INTERVAL {
        replica.execute(sequence, &batch(&[(1, sequence)]));
    }
    replica.step(Input::CheckpointTaken(SequenceNumber(INTERVAL), Digest([5; 32])));
    replica.execute(INTERVAL + 1, &batch(&[(2, 1)]));
    let refused = Output::Ignored(Ignored::StateRefused);
    assert_eq!(replica.hear(3, wanted(INTERVAL)), [send(3, checkpoint(INTERVAL, 5)), refused]);
}

/// Replica 1 of 4 has asked for the state at `WINDOW`, for which 0 and 2 vouch. They say that this is stable there.
fn refused(stable: u64) -> (Replica, Vec<Output>) {
    let mut replica = Replica::new(4, 1);
    for other in [0, 2] {
        replica.hear(other, checkpoint(WINDOW, 7));
        replica.hear(other, status(stable, WINDOW + 1));
    }
    replica.ticks(24);
    let mut nothing = |from: u16| replica.hear(from, chunk(WINDOW, 0, 0));
    assert_eq!(nothing(2)[0], send(0, fetch(WINDOW, 0)));
    assert_eq!(nothing(0)[0], send(3, fetch(WINDOW, 0)));
    let outputs = nothing(3);
    assert!(outputs.contains(&broadcast(wanted(2 * WINDOW))), "{outputs:?}");
    (replica, outputs)
}

/// Of f + 1 that vouch for a checkpoint one is correct: it may have got there alone, and the others need votes below.
#[test]
fn nobody_goes_ahead_to_where_a_single_correct_replica_may_be() {
    for stable in [0, INTERVAL] {
        let (replica, _) = refused(stable);
        assert_eq!(position(&replica), (stable, stable, stable));
    }
}

/// The others need this replica's votes to get to another checkpoint, and have not got the state at the last one any
/// more: it votes, and waits with executing.
#[test]
fn a_replica_whose_votes_are_needed_takes_part_before_it_has_a_state() {
    let (mut replica, _) = refused(WINDOW);
    assert_eq!(position(&replica), (WINDOW, WINDOW, WINDOW));
    // It votes behind the checkpoint, and executes nothing.
    let next = batch(&[(1, 1)]);
    let outputs = replica.hear(0, pre_prepare(WINDOW + 1, &next));
    assert_eq!(outputs, [broadcast(prepare(WINDOW + 1, &next))]);
    replica.hear(2, prepare(WINDOW + 1, &next));
    for sender in [0, 2] {
        assert_eq!(executions(&replica.hear(sender, commit(WINDOW + 1, &next))), []);
    }
    // It vouches for no state that it has not got.
    let outputs = [0, 1, 2].map(|_| replica.hear(3, status(0, 0)));
    let vouches = |output: &&Output| matches!(output, Output::Send(_, m) if matches!(**m, Message::Checkpoint(_)));
    assert_eq!(outputs.iter().flatten().find(vouches), None);
    // With a state it goes on behind that.
    replica.hear(0, checkpoint(2 * WINDOW, 9));
    replica.hear(2, checkpoint(2 * WINDOW, 9));
    assert_eq!(replica.hear(2, chunk(2 * WINDOW, 0, 1)), [install(2 * WINDOW, 9, 1)]);
    assert_eq!(replica.step(installed(2 * WINDOW, true))[0], broadcast(checkpoint(2 * WINDOW, 9)));
    assert_eq!(position(&replica), (2 * WINDOW, 2 * WINDOW, 2 * WINDOW));
    let outputs = replica.hear(0, pre_prepare(2 * WINDOW + 1, &next));
    assert_eq!(outputs, [broadcast(prepare(2 * WINDOW + 1, &next))]);
    replica.hear(2, prepare(2 * WINDOW + 1, &next));
    replica.hear(0, commit(2 * WINDOW + 1, &next));
    assert_eq!(executions(&replica.hear(2, commit(2 * WINDOW + 1, &next))), [(2 * WINDOW + 1, next.digest)]);
}

#[test]
fn f_plus_one_vouchers_make_a_target_and_its_chunks_a_state() {
    for n in SIZES {
        let weak = u16::try_from(Quorums::new(n).unwrap().weak()).unwrap();
        let mut replica = laggard_of(config(n, 1));
        let vouchers: Vec<u16> = (0..).filter(|voucher| *voucher != 1).take(weak.into()).collect();
        let (last, before) = vouchers.split_last().unwrap();
        for &voucher in before {
            assert_eq!(replica.hear(voucher, checkpoint(TARGET, 7)), []);
            assert_eq!(replica.hear(voucher, checkpoint(TARGET, 7)), ignored(Ignored::AboveHighWatermark));
        }
        // The first voucher after the own id is asked; with n = 4 there is 0 and 2.
        assert_eq!(replica.hear(*last, checkpoint(TARGET, 7)), [send(2, fetch(TARGET, 0))], "n = {n}");
        assert_eq!(replica.core.position().fetching, Some((SequenceNumber(TARGET), Some(ReplicaId(2)))));
        // The first chunk tells how many there are. Some more are asked for at a time, and may come in any order.
        let more = [1, 2, 3, 4].map(|index| send(2, fetch(TARGET, index)));
        assert_eq!(replica.hear(2, chunk(TARGET, 0, 6)), more);
        assert_eq!(replica.hear(2, chunk(TARGET, 2, 6)), []);
        assert_eq!(replica.hear(2, chunk(TARGET, 2, 6)), ignored(Ignored::UnwantedState), "it is here already");
        assert_eq!(replica.hear(2, chunk(TARGET, 1, 6)), [send(2, fetch(TARGET, 5))]);
        assert_eq!(replica.hear(2, chunk(TARGET, 4, 6)), []);
        assert_eq!(replica.hear(2, chunk(TARGET, 5, 6)), []);
        assert_eq!(replica.hear(2, chunk(TARGET, 3, 6)), [install(TARGET, 7, 6)]);
        assert_eq!(replica.hear(2, chunk(TARGET, 3, 6)), ignored(Ignored::UnwantedState));

        let outputs = replica.step(installed(TARGET, true));
        let soon = replica.now.after(STATUS_NS / 8);
        let mut expected = vec![broadcast(checkpoint(TARGET, 7))];
        if usize::from(weak) + 1 >= Quorums::new(n).unwrap().quorum() {
            expected.push(stable(&[0, 1, 2]));
        }
        expected.push(Output::SetTimer(Timer::Status, soon));
        let is_stable = expected.len() == 3;
        assert_eq!(outputs, expected, "n = {n}");
        let low = if is_stable { TARGET } else { FAR };
        assert_eq!(position(&replica), (low, TARGET, low));
        assert_eq!((replica.core.position().states_installed, replica.core.position().fetching), (1, None));
    }
}

fn stable(voters: &[u16]) -> Output {
    Output::StableCheckpoint(StableCheckpoint {
        sequence: SequenceNumber(TARGET),
        digest: Digest([7; 32]),
        proof: voters.iter().map(|voter| (ReplicaId(*voter), None)).collect(),
    })
}

#[test]
fn a_planted_bug_takes_one_replicas_word() {
    let mut replica = laggard_of(Config { planted: Some(Planted::CheckpointLie), ..config(4, 1) });
    assert_eq!(replica.hear(3, checkpoint(TARGET, 9)), [send(3, fetch(TARGET, 0))]);
}

#[test]
fn a_source_that_sends_what_it_should_not_is_skipped() {
    let large = StateChunk { bytes: vec![0; STATE_CHUNK_BYTES_MAX + 1].into(), ..state_chunk(TARGET, 0, 2) };
    for first in [
        chunk(TARGET, 0, 0),
        chunk(TARGET, 0, STATE_CHUNKS_MAX + 1),
        chunk(TARGET, 1, 2),
        chunk(TARGET, 0, u32::MAX),
        Message::StateChunk(large),
    ] {
        let mut replica = gathering();
        let skipped = [send(3, fetch(TARGET, 0)), Output::Ignored(Ignored::UnwantedState)];
        assert_eq!(replica.hear(2, first), skipped);
        assert_eq!(replica.hear(2, chunk(TARGET, 0, 1)), ignored(Ignored::UnwantedState), "it had its chance");
    }
    // Another count than before, or a chunk beyond it.
    for second in [chunk(TARGET, 1, 3), chunk(TARGET, 2, 2), chunk(TARGET, 7, 2)] {
        let mut replica = gathering();
        assert_eq!(replica.hear(2, chunk(TARGET, 0, 2)), [send(2, fetch(TARGET, 1))]);
        assert_eq!(replica.hear(2, second)[0], send(3, fetch(TARGET, 0)));
    }
    // Somebody else's chunk, or one of another checkpoint, is no fault of the source.
    let mut replica = gathering();
    assert_eq!(replica.hear(3, chunk(TARGET, 0, 0)), ignored(Ignored::UnwantedState));
    assert_eq!(replica.hear(2, chunk(FAR, 0, 0)), ignored(Ignored::UnwantedState));
    assert_eq!(replica.hear(2, chunk(TARGET, 0, 1)), [install(TARGET, 7, 1)]);
}

#[test]
fn a_chunk_that_was_lost_is_asked_for_again_and_a_silent_source_skipped() {
    let mut replica = gathering();
    replica.hear(2, chunk(TARGET, 0, 4));
    replica.hear(2, chunk(TARGET, 2, 4));
    assert_eq!(said(replica.ticks(3)), []);
    let again = [send(2, fetch(TARGET, 1)), send(2, fetch(TARGET, 3))];
    assert_eq!(said(replica.ticks(1)), again);
    assert_eq!(said(replica.ticks(4)), again);
    assert_eq!(
        said(replica.ticks(4)),
        [send(3, fetch(TARGET, 0))],
        "from the start: who knows what the first one sent"
    );
}

#[test]
fn a_source_that_always_has_one_more_chunk_is_skipped_in_the_end() {
    let mut replica = gathering();
    let (mut index, mut outputs) = (0, Vec::new());
    while index < 2000 && outputs.is_empty() {
        replica.hear(2, chunk(TARGET, index, STATE_CHUNKS_MAX));
        index += 1;
        outputs = if index % 2 == 0 { said(replica.ticks(1)) } else { Vec::new() };
    }
    assert_eq!(outputs, [send(3, fetch(TARGET, 0))]);
}

#[test]
fn a_state_that_is_not_the_vouched_one_leads_to_the_next_source_and_then_to_another_target() {
    let mut replica = installing();
    for source in [3, 0] {
        assert_eq!(replica.step(installed(TARGET, false)), [send(source, fetch(TARGET, 0))]);
        assert_eq!(replica.hear(source, chunk(TARGET, 0, 1)), [install(TARGET, 7, 1)]);
    }
    // Nobody is left to ask. Do the others stand where they were?
    assert_eq!(replica.step(installed(TARGET, false)), [broadcast(wanted(TARGET)), send(2, fetch(TARGET, 0))]);
    assert_eq!(replica.core.position().states_installed, 0);
    assert_eq!(position(&replica), (0, 0, 0));
}

#[test]
fn who_failed_before_is_the_last_to_be_asked_for_the_next_target() {
    let mut replica = gathering();
    replica.hear(2, chunk(TARGET, 0, 0)); // it has none; now 3 is silent, and then 0
    assert_eq!(said(replica.ticks(11)).pop(), Some(send(3, fetch(TARGET, 0))));
    assert_eq!(said(replica.ticks(1)), [send(0, fetch(TARGET, 0))]);
    replica.hear(0, chunk(TARGET, 0, 1));
    replica.step(installed(TARGET, true));
    // Behind again.
    let target = TARGET + FAR + 2 * INTERVAL;
    replica.hear(0, checkpoint(TARGET + FAR, 3));
    replica.hear(2, checkpoint(TARGET + FAR, 3));
    assert_eq!(said(replica.ticks(3)), [broadcast(wanted(target))]);
    replica.hear(2, checkpoint(target, 5));
    assert_eq!(replica.hear(3, checkpoint(target, 5)), [send(0, fetch(target, 0))], "neither 2 nor 3, which vouch");
}

#[test]
fn unexpected_answers_of_the_executor_change_nothing() {
    for replica in [&mut Replica::new(4, 1), &mut laggard(), &mut gathering(), &mut restored()] {
        let before = replica.core.position();
        assert_eq!(replica.step(installed(TARGET, true)), ignored(Ignored::UnexpectedExecution));
        assert_eq!(replica.core.position(), before);
    }
    let mut replica = installing();
    assert_eq!(replica.step(installed(FAR, true)), ignored(Ignored::UnexpectedExecution));
}

#[test]
fn nothing_is_executed_while_the_state_is_replaced() {
    let mut replica = installing();
    let batch = batch(&[(1, 1)]);
    replica.hear(0, committed(1, &batch));
    replica.hear(2, committed(1, &batch));
    assert_eq!(executions(&replica.hear(0, body(1, &batch))), []);
    // The state was a lie: what is decided is executed then, and the next source is asked.
    let outputs = replica.step(installed(TARGET, false));
    assert_eq!(outputs[0], send(3, fetch(TARGET, 0)));
    assert_eq!(executions(&outputs), [(1, batch.digest)]);
}

#[test]
fn what_is_passed_by_the_own_executions_is_dropped() {
    // A small gap, in the reach of repairs after all.
    let mut replica = Replica::new(4, 1);
    replica.hear(0, checkpoint(INTERVAL, 1));
    replica.hear(2, checkpoint(INTERVAL, 1));
    let target = 3 * INTERVAL;
    assert_eq!(said(replica.ticks(9)), [broadcast(wanted(target))]);
    replica.hear(0, checkpoint(target, 7));
    assert_eq!(replica.hear(2, checkpoint(target, 7)), [send(2, fetch(target, 0))]);
    for sequence in 1..=target {
        replica.execute(sequence, &batch(&[(1, sequence)]));
        if sequence == INTERVAL {
            let outputs = replica.step(Input::CheckpointTaken(SequenceNumber(sequence), Digest([1; 32])));
            assert!(matches!(outputs[1], Output::StableCheckpoint(_)));
        }
    }
    assert_eq!(replica.hear(2, chunk(target, 0, 1)), []);
    assert_eq!(replica.core.position().fetching, None);
    assert_eq!(replica.hear(2, chunk(target, 0, 1)), ignored(Ignored::UnwantedState));
    assert_eq!(position(&replica), (target, target, INTERVAL));
}

#[test]
fn the_log_goes_on_behind_the_fetched_state() {
    let mut replica = laggard();
    for voucher in [2, 3] {
        replica.hear(voucher, checkpoint(TARGET, 7));
    }
    replica.hear(2, chunk(TARGET, 0, 1));
    let outputs = replica.step(installed(TARGET, true));
    assert_eq!(outputs[0], broadcast(checkpoint(TARGET, 7)));
    // The own state makes Q with those that vouched.
    assert_eq!(outputs[1], stable(&[1, 2, 3]));
    assert_eq!(replica.hear(0, checkpoint(TARGET, 7)), ignored(Ignored::BelowLowWatermark));

    assert_eq!(replica.step(Input::Executed(SequenceNumber(1))), ignored(Ignored::UnexpectedExecution));
    let late = Input::CheckpointTaken(SequenceNumber(TARGET), Digest([7; 32]));
    assert_eq!(replica.step(late), ignored(Ignored::UnexpectedExecution));
    assert_eq!(replica.hear(0, pre_prepare(TARGET, &batch(&[]))), ignored(Ignored::BelowLowWatermark));
    for sequence in TARGET + 1..=TARGET + 3 * WINDOW {
        replica.execute(sequence, &batch(&[(1, sequence)]));
        if sequence.is_multiple_of(INTERVAL) {
            replica.hear(0, checkpoint(sequence, 2));
            replica.hear(2, checkpoint(sequence, 2));
            let outputs = replica.step(Input::CheckpointTaken(SequenceNumber(sequence), Digest([2; 32])));
            assert!(matches!(outputs[1], Output::StableCheckpoint(_)), "{sequence}: {outputs:?}");
        }
    }
    assert_eq!(position(&replica).2, TARGET + 3 * WINDOW);
}

/// With n = 7, f + 1 vouchers and the own state are no quorum yet.
#[test]
fn a_fetched_checkpoint_becomes_stable_by_the_usual_rule() {
    let mut replica = laggard_of(config(7, 1));
    for voucher in [2, 3, 4] {
        replica.hear(voucher, checkpoint(TARGET, 7));
    }
    replica.hear(2, chunk(TARGET, 0, 1));
    let outputs = replica.step(installed(TARGET, true));
    assert_eq!(said(outputs), [broadcast(checkpoint(TARGET, 7))]);
    // Up to there others may need its votes, but not where they are known to have got.
    assert_eq!(position(&replica), (FAR, TARGET, FAR));
    assert_eq!(replica.hear(5, checkpoint(TARGET, 9)), [], "another state counts for nothing");
    assert_eq!(replica.hear(2, checkpoint(TARGET, 7)), ignored(Ignored::DuplicateVote));
    let Output::StableCheckpoint(proven) = &replica.hear(6, checkpoint(TARGET, 7))[0] else { panic!("not stable") };
    assert_eq!(proven.proof.iter().map(|(voter, _)| voter.0).collect::<Vec<_>>(), [1, 2, 3, 4, 6]);
    assert_eq!(replica.hear(0, checkpoint(TARGET, 7)), ignored(Ignored::BelowLowWatermark));
}

/// It votes on what lies below its state as if it had none, and executes nothing of that.
#[test]
fn what_lies_below_a_fetched_state_is_agreed_on_and_not_executed() {
    let mut replica = Replica::new(7, 1);
    for other in [0, 2, 3] {
        replica.hear(other, checkpoint(WINDOW, 7));
    }
    replica.ticks(24);
    assert_eq!(replica.hear(2, chunk(WINDOW, 0, 1)), [install(WINDOW, 7, 1)]);
    let outputs = replica.step(installed(WINDOW, true));
    assert_eq!(said(outputs), [broadcast(checkpoint(WINDOW, 7))]);
    assert_eq!(position(&replica), (0, WINDOW, 0));
    // What it tells if the view ends: the checkpoint it has, and what it has voted for.
    let batches: Vec<_> = (1..=WINDOW).map(|sequence| batch(&[(1, sequence)])).collect();
    for (sequence, next) in (1..).zip(&batches) {
        let outputs = replica.hear(0, pre_prepare(sequence, next));
        assert_eq!(outputs, [broadcast(prepare(sequence, next))]);
    }
    let told = replica.core.own_view_change();
    assert_eq!((told.stable, told.checkpoints.len()), (SequenceNumber(0), 1));
    // Decided, in part: then it is done with here, and told to whoever asks.
    for (sequence, next) in (1..=INTERVAL).zip(&batches) {
        for other in [2, 3, 4] {
            assert_eq!(executions(&replica.hear(other, committed(sequence, next))), []);
        }
    }
    assert_eq!(position(&replica), (INTERVAL, WINDOW, 0));
    replica.ticks(1);
    let outputs = [0, 1].map(|_| replica.hear(5, status(0, 0)));
    assert!(outputs.concat().contains(&send(5, committed(1, &batches[0]))));
    // A quorum shares the state: nothing below is needed any more.
    replica.hear(4, checkpoint(WINDOW, 7));
    assert_eq!(position(&replica), (WINDOW, WINDOW, WINDOW));
    let next = batch(&[(2, 1)]);
    for other in [2, 3, 4] {
        replica.hear(other, committed(WINDOW + 1, &next));
    }
    assert_eq!(executions(&replica.hear(2, body(WINDOW + 1, &next))), [(WINDOW + 1, next.digest)]);
}

/// Nothing is known of the others' stable checkpoints yet.
#[test]
fn a_state_beyond_everything_that_is_known_is_taken_and_counts_later() {
    let mut replica = Replica::new(4, 1);
    for other in [0, 2] {
        replica.hear(other, checkpoint(FAR, 3));
    }
    replica.ticks(2);
    for other in [0, 2] {
        replica.hear(other, checkpoint(TARGET, 7));
    }
    replica.hear(2, chunk(TARGET, 0, 1));
    replica.step(installed(TARGET, true));
    assert_eq!(position(&replica), (0, TARGET, 0));
    assert_eq!(replica.core.own_view_change().checkpoints, []);
    assert_eq!(said(replica.ticks(20)), [], "there is nothing else to ask for");
    replica.hear(0, status(FAR + 1, TARGET));
    assert_eq!(position(&replica), (0, TARGET, 0), "one replica may say anything");
    replica.hear(2, status(TARGET, TARGET));
    assert_eq!(position(&replica), (FAR, TARGET, FAR));
    replica.hear(0, checkpoint(TARGET, 7));
    let Output::StableCheckpoint(proven) = &replica.hear(2, checkpoint(TARGET, 7))[0] else { panic!("not stable") };
    assert_eq!(proven.sequence, SequenceNumber(TARGET));
    assert_eq!(position(&replica), (TARGET, TARGET, TARGET));
}

#[test]
fn what_came_early_counts_after_the_jump() {
    // The target is near enough for messages behind it to be kept.
    let mut replica = Replica::new(4, 1);
    replica.hear(0, checkpoint(INTERVAL, 1));
    replica.hear(2, checkpoint(INTERVAL, 1));
    let target = 3 * INTERVAL;
    assert_eq!(said(replica.ticks(9)), [broadcast(wanted(target))]);
    let batch = batch(&[(1, 1)]);
    replica.hear(0, pre_prepare(target + 1, &batch));
    for other in [0, 2, 3] {
        replica.hear(other, commit(target + 1, &batch));
    }
    replica.hear(0, checkpoint(target, 7));
    replica.hear(2, checkpoint(target, 7));
    replica.hear(2, chunk(target, 0, 1));
    let outputs = replica.step(installed(target, true));
    assert_eq!(executions(&outputs), [(target + 1, batch.digest)]);
    assert_eq!(position(&replica), (target + 1, target, target));
}

#[test]
fn a_wish_is_granted_for_a_checkpoint_ahead_and_not_too_often() {
    let mut replica = Replica::new(4, 1);
    replica.execute(1, &batch(&[(1, 1)]));
    let refused = ignored(Ignored::StateRefused);
    for target in [0, 1, INTERVAL + 1, 2 * WINDOW + INTERVAL, u64::MAX, u64::MAX / INTERVAL * INTERVAL] {
        assert_eq!(replica.hear(3, wanted(target)), refused, "{target}");
    }
    let keep = |target| vec![Output::KeepState(SequenceNumber(target))];
    assert_eq!(replica.hear(3, wanted(INTERVAL)), keep(INTERVAL));
    assert_eq!(replica.hear(3, wanted(INTERVAL)), [], "told again");
    assert_eq!(replica.hear(3, wanted(WINDOW)), refused);
    assert_eq!(replica.hear(2, wanted(2 * WINDOW)), keep(2 * WINDOW), "each replica for itself");
    // The pause doubles with each wish.
    let mut target = INTERVAL;
    for pause in [8, 16, 32] {
        target += INTERVAL;
        replica.now = replica.now.after((pause - 1) * STATUS_NS);
        assert_eq!(replica.hear(3, wanted(target)), refused);
        replica.now = replica.now.after(STATUS_NS);
        assert_eq!(replica.hear(3, wanted(target)), keep(target));
    }
    // A long silence, and it is short again.
    replica.now = replica.now.after(4 * 64 * STATUS_NS);
    assert_eq!(replica.hear(3, wanted(INTERVAL)), keep(INTERVAL));
    replica.now = replica.now.after(8 * STATUS_NS);
    assert_eq!(replica.hear(3, wanted(WINDOW)), keep(WINDOW));
}

#[test]
fn chunks_are_read_for_whoever_asks_but_not_without_bound() {
    let mut replica = Replica::new(4, 1);
    let read = |to, index| {
        let fetch = FetchState { sequence: SequenceNumber(4), index };
        vec![Output::ReadState { to: ReplicaId(to), fetch }]
    };
    for index in 0..64 {
        assert_eq!(replica.hear(3, fetch(4, index)), read(3, index));
    }
    assert_eq!(replica.hear(3, fetch(4, 64)), ignored(Ignored::StateRefused));
    assert_eq!(replica.hear(2, fetch(4, 0)), read(2, 0));
    replica.now = replica.now.after(STATUS_NS);
    assert_eq!(replica.hear(3, fetch(4, 64)), read(3, 64));
    let outputs = replica.step(Input::StateRead(ReplicaId(3), state_chunk(4, 5, 9)));
    assert_eq!(outputs, [send(3, chunk(4, 5, 9))]);
}

#[test]
fn an_idle_primary_pads_up_to_the_checkpoint_and_requests_go_first() {
    let mut primary = Replica::with(Config { window: 32, checkpoint_interval: 16, ..config(4, 0) });
    let null = Batch::null();
    let mut outputs = primary.hear(3, wanted(32));
    assert_eq!(outputs.remove(0), Output::KeepState(SequenceNumber(32)));
    let pads: Vec<Output> = (1..=16).map(|sequence| broadcast(pre_prepare(sequence, &null))).collect();
    assert_eq!(outputs, pads, "no more than 16 are under way");
    assert_eq!(primary.requests(&[(5, 1)]), [broadcast(pre_prepare(17, &batch(&[(5, 1)])))]);
    for sequence in 1..=16 {
        for other in 1..=3 {
            primary.hear(other, committed(sequence, &null));
        }
        let outputs = primary.step(Input::Executed(SequenceNumber(sequence)));
        let next = broadcast(pre_prepare(16 + sequence, &null));
        assert_eq!(outputs, if sequence == 1 { vec![] } else { vec![next] });
    }
}

#[test]
fn a_target_that_was_asked_for_here_is_told_again_with_the_status_exchange() {
    let mut replica = Replica::new(4, 1);
    replica.hear(3, wanted(WINDOW + INTERVAL));
    for sequence in 1..=2 * WINDOW {
        replica.execute(sequence, &batch(&[(1, sequence)]));
        if sequence.is_multiple_of(INTERVAL) {
            replica.hear(0, checkpoint(sequence, 9));
            replica.hear(2, checkpoint(sequence, 9));
            replica.step(Input::CheckpointTaken(SequenceNumber(sequence), Digest([9; 32])));
        }
    }
    let outputs = replica.hear(3, Message::Status(Status { active: true, ..Status::default() }));
    for sequence in [WINDOW, WINDOW + INTERVAL, 2 * WINDOW] {
        assert!(outputs.contains(&send(3, checkpoint(sequence, 9))), "{sequence}");
    }
}

/// A replica misses many windows, of which nobody keeps anything when it is back.
fn cut_off(cluster: &mut Cluster, laggard: usize, idle: bool) {
    cluster.silent[laggard] = true;
    while cluster.executed((laggard + 1) % 4) < 10 * WINDOW {
        cluster.run(cluster.now.after(STATUS_NS));
    }
    if idle {
        assert!(cluster.settle(cluster.now.after(10 * SECOND)));
        cluster.run(cluster.now.after(SECOND / 10));
    }
    assert_eq!(cluster.executed(laggard), 0);
    cluster.forgetful = true;
    cluster.silent[laggard] = false;
}

/// Waits for the laggard to take over a state. From then on batches are kept again, as they are in a real replica.
fn transferred(cluster: &mut Cluster, laggard: usize, within_ns: u64) -> bool {
    let deadline = cluster.now.after(within_ns);
    while cluster.states_installed(laggard) == 0 && cluster.now < deadline {
        // Of what follows a wish, enough is kept.
        cluster.forgetful = cluster.fetches == 0;
        cluster.run(cluster.now.after(STATUS_NS / 10));
    }
    cluster.forgetful = false;
    cluster.states_installed(laggard) > 0
}

#[test]
fn a_replica_beyond_repair_catches_up_under_load_and_when_idle_whoever_lies() {
    for seed in 0..10 {
        for (n, idle) in [(4, false), (4, true), (7, false), (7, true)] {
            let operations = if idle { 200 } else { 1000 };
            let mut cluster = Cluster::new(n, 8, operations, any_batching(seed), seed);
            let laggard = 1 + usize::try_from(seed).unwrap() % (n - 1);
            cut_off(&mut cluster, laggard, idle);
            for liar in 1..=cluster.f() {
                let lie = Lie::ALL[(usize::try_from(seed).unwrap() + liar) % Lie::ALL.len()];
                cluster.lies[(laggard + liar) % n] = Some(lie);
            }
            cluster.network.loss_percent = if seed % 3 == 0 { 5 } else { 0 };
            let context = format!("seed {seed}, n = {n}, idle {idle}, {:?}", cluster.lies);
            assert!(transferred(&mut cluster, laggard, 2 * SECOND), "{context}");
            cluster.network = Network::CALM;
            let settled = cluster.settle(cluster.now.after(10 * SECOND));
            assert!(settled, "{context}: at {} of {}", cluster.executed(laggard), cluster.executed(0));
            cluster.check();
        }
    }
}
