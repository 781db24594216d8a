//! Checkpoints, the low watermark, divergence.

use super::*;
use crate::protocol::StableCheckpoint;

/// A replica (own id 1) that has executed the first `count` sequence numbers.
fn executed(n: usize, count: u64) -> Replica {
    let mut replica = Replica::new(n, 1);
    for sequence in 1..=count {
        replica.execute(sequence, &batch(&[(1, sequence)]));
    }
    replica
}

fn taken(sequence: u64, state: u8) -> Input {
    Input::CheckpointTaken(SequenceNumber(sequence), Digest([state; 32]))
}

#[test]
fn a_checkpoint_is_stable_with_q_matching_states_the_own_included() {
    for n in SIZES {
        let quorum = u16::try_from(Quorums::new(n).unwrap().quorum()).unwrap();
        let mut replica = executed(n, INTERVAL);
        assert_eq!(replica.step(taken(INTERVAL, 1)), [broadcast(checkpoint(INTERVAL, 1))]);
        let others: Vec<u16> = (0..quorum).filter(|&other| other != 1).collect();
        let (last, before) = others.split_last().unwrap();
        for &other in before {
            assert_eq!(replica.hear(other, checkpoint(INTERVAL, 1)), [], "n = {n}");
        }
        let stable = StableCheckpoint {
            sequence: SequenceNumber(INTERVAL),
            digest: Digest([1; 32]),
            proof: (0..quorum).map(|replica| (ReplicaId(replica), None)).collect(),
        };
        let outputs = replica.hear(*last, checkpoint(INTERVAL, 1));
        assert_eq!(outputs, [Output::StableCheckpoint(stable)], "n = {n}");
        assert_eq!(replica.core.position().stable_checkpoint, SequenceNumber(INTERVAL));
        assert_eq!(replica.hear(3, checkpoint(INTERVAL, 1)), ignored(Ignored::BelowLowWatermark));
    }
}

/// Those who have helped it to Q votes elsewhere may have none for this replica.
#[test]
fn what_is_stable_at_a_correct_replica_is_stable_here_with_f_plus_one_matching_states() {
    let status = |stable: u64| Message::Status(Status { stable: SequenceNumber(stable), ..Status::default() });
    let is_stable = |outputs: &[Output]| outputs.iter().any(|output| matches!(output, Output::StableCheckpoint(_)));
    for (own, stable_elsewhere, follows) in [(1, INTERVAL, true), (2, INTERVAL, false), (1, INTERVAL - 1, false)] {
        let mut replica = executed(4, INTERVAL);
        replica.step(taken(INTERVAL, own));
        replica.hear(2, checkpoint(INTERVAL, 1));
        assert!(!is_stable(&replica.hear(0, status(INTERVAL))), "one may lie");
        let outputs = replica.hear(3, status(stable_elsewhere));
        assert_eq!(is_stable(&outputs), follows, "{own} {stable_elsewhere}");
    }
}

#[test]
fn the_low_watermark_waits_for_the_own_state() {
    let mut replica = executed(4, INTERVAL - 1);
    for other in [0, 2, 3] {
        assert_eq!(replica.hear(other, checkpoint(INTERVAL, 1)), []);
    }
    assert_eq!(replica.core.position().stable_checkpoint, SequenceNumber(0));
    assert_eq!(replica.step(taken(INTERVAL, 1)), ignored(Ignored::UnexpectedExecution));
    replica.execute(INTERVAL, &batch(&[(1, INTERVAL)]));
    assert_eq!(replica.core.position().stable_checkpoint, SequenceNumber(0));
    let outputs = replica.step(taken(INTERVAL, 1));
    assert_eq!(outputs[0], broadcast(checkpoint(INTERVAL, 1)));
    assert!(matches!(outputs[1], Output::StableCheckpoint(_)));
}

#[test]
fn a_checkpoint_may_be_reported_before_its_execution() {
    let mut replica = executed(4, INTERVAL - 1);
    let batch = batch(&[(1, INTERVAL)]);
    replica.hear(0, committed(INTERVAL, &batch));
    replica.hear(2, committed(INTERVAL, &batch));
    replica.hear(0, body(INTERVAL, &batch));
    replica.hear(0, checkpoint(INTERVAL, 1));
    replica.hear(2, checkpoint(INTERVAL, 1));
    assert_eq!(replica.step(taken(INTERVAL, 1)), [broadcast(checkpoint(INTERVAL, 1))]);
    let outputs = replica.step(Input::Executed(SequenceNumber(INTERVAL)));
    assert!(matches!(outputs[..], [Output::StableCheckpoint(_)]));
}

#[test]
fn checkpoints_are_multiples_of_the_interval_and_counted_once() {
    let mut replica = executed(4, INTERVAL);
    for misaligned in [1, INTERVAL + 1, u64::MAX] {
        assert_eq!(replica.hear(2, checkpoint(misaligned, 1)), ignored(Ignored::MisalignedCheckpoint));
        assert_eq!(replica.step(taken(misaligned, 1)), ignored(Ignored::MisalignedCheckpoint));
    }
    assert_eq!(replica.hear(2, checkpoint(INTERVAL, 1)), []);
    assert_eq!(replica.hear(2, checkpoint(INTERVAL, 1)), ignored(Ignored::DuplicateVote));
    assert_eq!(replica.hear(2, checkpoint(INTERVAL, 2)), ignored(Ignored::ConflictingVote));
    assert_eq!(replica.step(taken(INTERVAL, 1)).len(), 1);
    assert_eq!(replica.step(taken(INTERVAL, 1)), ignored(Ignored::UnexpectedExecution));
    // Beyond two windows nothing is counted.
    let beyond = 2 * WINDOW + INTERVAL;
    assert_eq!(replica.hear(2, checkpoint(beyond, 1)), ignored(Ignored::AboveHighWatermark));
}

#[test]
fn divergence_is_reported_once_at_f_plus_one() {
    for n in SIZES {
        let weak = u16::try_from(Quorums::new(n).unwrap().weak()).unwrap();
        let mut replica = executed(n, WINDOW);
        replica.step(taken(INTERVAL, 1));
        let others: Vec<u16> = (0..=weak).filter(|&other| other != 1).collect();
        let (last, before) = others.split_last().unwrap();
        for &other in before {
            assert_eq!(replica.hear(other, checkpoint(INTERVAL, 2)), [], "n = {n}");
        }
        let diverged =
            Output::Diverged { sequence: SequenceNumber(INTERVAL), own: Digest([1; 32]), quorum: Digest([2; 32]) };
        assert_eq!(replica.hear(*last, checkpoint(INTERVAL, 2)), [diverged], "n = {n}");
        // Once, and the low watermark stays for good.
        for other in (0..).filter(|&other| other != 1).take(n - 1) {
            assert_eq!(replica.hear(other, checkpoint(WINDOW, 2)), []);
        }
        assert_eq!(replica.step(taken(WINDOW, 1)), [broadcast(checkpoint(WINDOW, 1))]);
        assert_eq!(replica.core.position().stable_checkpoint, SequenceNumber(0));
    }
}

#[test]
fn divergence_is_noticed_when_the_own_state_comes_last() {
    let mut replica = executed(4, INTERVAL);
    replica.hear(0, checkpoint(INTERVAL, 2));
    replica.hear(2, checkpoint(INTERVAL, 2));
    assert!(matches!(replica.step(taken(INTERVAL, 1))[1], Output::Diverged { .. }));
}

#[test]
fn one_wrong_state_hinders_nobody() {
    let mut replica = executed(4, INTERVAL);
    replica.step(taken(INTERVAL, 1));
    assert_eq!(replica.hear(3, checkpoint(INTERVAL, 9)), []);
    assert_eq!(replica.hear(0, checkpoint(INTERVAL, 1)), []);
    assert!(matches!(replica.hear(2, checkpoint(INTERVAL, 1))[..], [Output::StableCheckpoint(_)]));
}
