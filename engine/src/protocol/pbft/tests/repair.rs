//! The status exchange, one replica at a time. Whole clusters are repaired in [`properties`](super::properties).

use super::*;
use crate::protocol::message::{SlotStatus, Status};

fn status(stable: u64, committed: u64, slots: Vec<SlotStatus>) -> Message {
    let (stable, committed) = (SequenceNumber(stable), SequenceNumber(committed));
    Message::Status(Status { view: View(0), active: true, suspects: false, view_changes: 0, stable, committed, slots })
}

fn requests_at(sequence: u64) -> [(u32, u64); 1] {
    [(1, sequence)]
}

/// A replica that has executed the first `count` sequence numbers.
fn executed(n: usize, own: u16, count: u64) -> Replica {
    let mut replica = Replica::new(n, own);
    for sequence in 1..=count {
        replica.execute(sequence, &batch(&requests_at(sequence)));
    }
    replica
}

/// Lets `from` say the same twice, as a replica does that has not moved for a status interval.
fn say_twice(replica: &mut Replica, from: u16, status: &Message) -> Vec<Output> {
    assert_eq!(replica.hear(from, status.clone()), [], "nothing is sent while it may be on its way");
    replica.now = replica.now.after(STATUS_NS);
    replica.hear(from, status.clone())
}

#[test]
fn a_status_tells_what_is_there_and_what_is_missing() {
    let mut replica = executed(4, 1, 1);
    let waiting = batch(&[(5, 5)]);
    replica.hear(0, pre_prepare(2, &waiting));
    replica.hear(2, commit(3, &waiting));
    let slots = vec![
        SlotStatus { pre_prepared: true, prepares: 0b10, ..SlotStatus::default() },
        SlotStatus { commits: 0b100, ..SlotStatus::default() },
    ];
    assert_eq!(replica.ticks(1)[1], broadcast(status(0, 1, slots)));
}

#[test]
fn an_idle_replica_is_silent_but_for_its_heartbeat() {
    let mut replica = Replica::new(4, 1);
    let sent = |outputs: Vec<Output>| {
        outputs.into_iter().filter(|output| matches!(output, Output::Broadcast(_))).collect::<Vec<_>>()
    };
    assert_eq!(sent(replica.ticks(7)), []);
    assert_eq!(sent(replica.ticks(1)), [broadcast(status(0, 0, vec![]))]);
    assert_eq!(sent(replica.ticks(7)), []);
    // Progress is told once; that a peer is ahead is reason to ask at every interval.
    replica.execute(1, &batch(&[(1, 1)]));
    assert_eq!(sent(replica.ticks(3)).len(), 1);
    replica.hear(2, status(0, 2, vec![]));
    assert_eq!(sent(replica.ticks(3)).len(), 3);
}

#[test]
fn a_laggard_gets_claims_and_each_body_from_one_replica_at_a_time() {
    for n in SIZES {
        let senders = u16::try_from(n).unwrap() - 1;
        let lagging = senders; // the last replica
        let (mut claims, mut bodies) = (0, Vec::new());
        for own in 0..senders {
            let mut replica = executed(n, own, 3);
            for output in say_twice(&mut replica, lagging, &status(0, 0, vec![])) {
                let Output::Send(to, message) = output else { panic!("unexpected {output:?}") };
                assert_eq!(to, ReplicaId(lagging));
                match message.as_ref() {
                    Message::Committed(_) => claims += 1,
                    Message::Body(body) => bodies.push(body.sequence.0),
                    other => panic!("unexpected {other:?}"),
                }
            }
        }
        bodies.sort_unstable();
        assert_eq!((claims, bodies), (3 * senders, vec![1, 2, 3]), "n = {n}");
    }
}

#[test]
fn the_body_comes_from_another_replica_in_the_next_round() {
    let sends_body = |own: u16, rounds: u32| {
        let mut replica = executed(4, own, 1);
        let mut outputs = Vec::new();
        for _ in 0..rounds {
            replica.now = replica.now.after(STATUS_NS);
            outputs = replica.hear(3, status(0, 0, vec![]));
        }
        outputs.iter().any(|output| matches!(output, Output::Send(_, m) if matches!(**m, Message::Body(_))))
    };
    let sender = |rounds| (0..3).filter(|&own| sends_body(own, rounds)).collect::<Vec<_>>();
    let senders = [sender(2), sender(3), sender(4)];
    assert!(senders.iter().all(|senders| senders.len() == 1));
    assert!(senders[0] != senders[1] && senders[1] != senders[2] && senders[0] != senders[2]);
}

#[test]
fn what_a_peer_has_or_waits_for_in_order_is_not_sent() {
    let mut replica = executed(4, 2, 3);
    let has_all = SlotStatus { pre_prepared: true, prepared: true, committed: true, ..SlotStatus::default() };
    let has_body = SlotStatus { pre_prepared: true, ..SlotStatus::default() };
    let outputs = say_twice(&mut replica, 3, &status(0, 0, vec![has_body, has_all]));
    let third = batch(&requests_at(3));
    assert_eq!(outputs[..2], [send(3, committed(1, &batch(&requests_at(1)))), send(3, committed(3, &third)),]);
}

#[test]
fn votes_and_pre_prepares_that_were_lost_are_sent_again() {
    let batch = batch(&[(1, 1)]);
    let mut primary = Replica::new(4, 0);
    primary.requests(&[(1, 1)]);
    let outputs = say_twice(&mut primary, 2, &status(0, 0, vec![]));
    assert_eq!(outputs, [send(2, pre_prepare(1, &batch))]);

    let mut backup = Replica::new(4, 1);
    backup.hear(0, pre_prepare(1, &batch));
    backup.hear(3, prepare(1, &batch));
    let lacks = SlotStatus { pre_prepared: true, prepares: 0b100, ..SlotStatus::default() };
    let outputs = say_twice(&mut backup, 2, &status(0, 0, vec![lacks]));
    assert_eq!(outputs, [send(2, prepare(1, &batch)), send(2, commit(1, &batch))]);
    // It has both now, and needs no prepare once it is prepared.
    backup.now = backup.now.after(STATUS_NS);
    let lacks = SlotStatus { prepares: 0b110, commits: 0b10, ..lacks };
    assert_eq!(backup.hear(2, status(0, 0, vec![lacks])), []);
    let lacks = SlotStatus { prepared: true, prepares: 0, commits: 0, ..lacks };
    assert_eq!(backup.hear(2, status(0, 0, vec![lacks])), [send(2, commit(1, &batch))]);
}

#[test]
fn a_peer_is_not_answered_more_often_than_the_interval_allows() {
    let mut replica = executed(4, 1, 2);
    let message = status(0, 0, vec![]);
    assert!(!say_twice(&mut replica, 3, &message).is_empty());
    assert_eq!(replica.hear(3, message.clone()), []);
    replica.now = replica.now.after(STATUS_NS);
    assert!(!replica.hear(3, message).is_empty());
}

#[test]
fn f_plus_one_claims_and_the_body_decide() {
    for n in SIZES {
        let f = u16::try_from(Quorums::new(n).unwrap().f()).unwrap();
        let (batch, other) = (batch(&[(1, 1)]), batch(&[(2, 1)]));
        let mut replica = Replica::new(n, 1);
        assert_eq!(replica.hear(2, body(1, &batch)), ignored(Ignored::UnwantedBody), "nobody vouches");
        assert_eq!(replica.hear(f + 2, committed(1, &other)), []);
        for sender in 2..f + 2 {
            assert_eq!(replica.hear(sender, committed(1, &batch)), [], "n = {n}");
        }
        assert_eq!(replica.hear(2, body(1, &other)), ignored(Ignored::UnwantedBody), "its sender claims another");
        assert_eq!(replica.hear(2, body(1, &batch)), [], "f claims decide nothing, n = {n}");
        assert_eq!(replica.hear(2, body(1, &batch)), ignored(Ignored::UnwantedBody), "it is kept already");
        let outputs = replica.hear(0, committed(1, &batch));
        assert_eq!(executions(&outputs), [(1, batch.digest)], "n = {n}");
        // It asks for more soon, and votes for nothing.
        assert!(matches!(outputs[0], Output::SetTimer(Timer::Status, due) if due < Time(STATUS_NS)));
        assert_eq!(outputs.len(), 2);
        assert_eq!(replica.hear(0, body(1, &batch)), ignored(Ignored::AlreadyCommitted));
        assert_eq!(replica.hear(0, pre_prepare(1, &batch)), ignored(Ignored::AlreadyCommitted));
    }
}

#[test]
fn claims_count_as_commits() {
    let mut replica = Replica::new(7, 1);
    let batch = batch(&[(1, 1)]);
    replica.hear(0, pre_prepare(1, &batch));
    for sender in [0, 2, 3] {
        assert_eq!(replica.hear(sender, commit(1, &batch)), []);
    }
    // The same replica's commit and claim are one voice.
    assert_eq!(replica.hear(3, committed(1, &batch)), []);
    assert_eq!(replica.hear(4, commit(1, &batch)), []);
    let outputs = replica.hear(5, committed(1, &batch));
    assert_eq!(executions(&outputs), [(1, batch.digest)]);
}

#[test]
fn a_replica_that_was_told_another_batch_executes_the_decided_one() {
    let mut replica = Replica::new(4, 1);
    let (told, decided) = (batch(&[(1, 1)]), batch(&[(2, 1)]));
    replica.hear(0, pre_prepare(1, &told));
    replica.hear(2, committed(1, &decided));
    replica.hear(3, committed(1, &decided));
    assert_eq!(executions(&replica.hear(3, body(1, &decided))), [(1, decided.digest)]);
    // Its own prepare stays what it was.
    let slot = replica.core.log.slot(SequenceNumber(1));
    assert_eq!(slot.prepares.of(ReplicaId(1)), Some(told.digest));
    assert_eq!(slot.pre_prepared, Some(told.digest));
}

#[test]
fn kept_bodies_are_bounded_for_each_sender() {
    let mut replica = Replica::with(Config { window: 64, ..config(4, 1) });
    let large = Batch::new(sized_table(&[(1, 1), (2, 1), (3, 1)], 1 << 20).as_ref().clone());
    let kept = |replica: &mut Replica, sender, from: u64| {
        (from..from + 10)
            .filter(|&sequence| {
                replica.hear(sender, committed(sequence, &large));
                replica.hear(sender, body(sequence, &large)).is_empty()
            })
            .count()
    };
    assert_eq!(kept(&mut replica, 2, 1), 2);
    assert_eq!(kept(&mut replica, 2, 20), 0);
    assert_eq!(kept(&mut replica, 3, 40), 2);
}

#[test]
fn checkpoints_that_were_lost_are_sent_again() {
    let mut replica = executed(4, 1, INTERVAL);
    replica.step(Input::CheckpointTaken(SequenceNumber(INTERVAL), Digest([1; 32])));
    let outputs = say_twice(&mut replica, 2, &status(0, INTERVAL, vec![]));
    assert_eq!(outputs, [send(2, checkpoint(INTERVAL, 1))]);
}

#[test]
fn what_others_have_collected_is_served_from_history_with_its_checkpoints() {
    let mut replica = Replica::new(4, 1);
    for sequence in 1..=2 * WINDOW {
        replica.execute(sequence, &batch(&requests_at(sequence)));
        if sequence.is_multiple_of(INTERVAL) {
            replica.step(Input::CheckpointTaken(SequenceNumber(sequence), Digest([9; 32])));
            replica.hear(0, checkpoint(sequence, 9));
            replica.hear(2, checkpoint(sequence, 9));
        }
    }
    assert_eq!(replica.core.position().stable_checkpoint, SequenceNumber(2 * WINDOW));
    // More than half a window behind: it is served at once.
    let outputs = replica.hear(3, status(0, 0, vec![]));
    let sent = |wanted: &Message| outputs.iter().filter(|o| **o == send(3, wanted.clone())).count();
    for sequence in 1..=WINDOW {
        assert_eq!(sent(&committed(sequence, &batch(&requests_at(sequence)))), 1);
    }
    assert_eq!(sent(&committed(WINDOW + 1, &batch(&requests_at(WINDOW + 1)))), 0, "out of its window");
    for sequence in [INTERVAL, 2 * INTERVAL, 2 * WINDOW] {
        assert_eq!(sent(&checkpoint(sequence, 9)), 1);
    }
}

#[test]
fn state_is_fetched_once_when_f_plus_one_vouch_and_repairs_do_not_help() {
    for n in SIZES {
        let weak = u16::try_from(Quorums::new(n).unwrap().weak()).unwrap();
        let far = 100 * INTERVAL;
        let mut replica = Replica::new(n, 1);
        let fetched = |outputs: Vec<Output>| {
            outputs.into_iter().filter(|output| matches!(output, Output::Broadcast(message) if matches!(**message, Message::StateWanted(_)))).collect::<Vec<_>>()
        };
        for sender in 2..=weak {
            assert_eq!(replica.hear(sender, checkpoint(far, 1)), ignored(Ignored::AboveHighWatermark));
        }
        assert_eq!(fetched(replica.ticks(20)), [], "n = {n}: f vouchers, one of them possibly faulty");
        replica.hear(0, checkpoint(far, 1));
        let fetch = broadcast(Message::StateWanted(SequenceNumber(far + 2 * INTERVAL)));
        assert_eq!(fetched(replica.ticks(10)), [fetch], "n = {n}");
    }
}

#[test]
fn absurd_positions_of_a_peer_are_harmless() {
    let mut replica = executed(4, 1, 3);
    for (stable, committed) in [(u64::MAX, u64::MAX), (u64::MAX, 0), (0, u64::MAX), (1, 0)] {
        for _ in 0..3 {
            replica.now = replica.now.after(STATUS_NS);
            replica.hear(2, status(stable, committed, vec![SlotStatus::default(); 64]));
        }
        replica.ticks(1);
    }
    let future = Status { view: View(u64::MAX), ..Status::default() };
    replica.hear(2, Message::Status(future));
    assert_eq!(replica.core.position().view, View(0));
}

#[test]
fn a_peer_far_behind_gets_more_at_a_time_than_its_status_describes() {
    let mut replica = Replica::with(Config { window: 512, checkpoint_interval: 128, ..config(4, 1) });
    let batch = batch(&[(1, 1)]);
    for sequence in 1..=400 {
        replica.execute(sequence, &batch);
    }
    let status = |committed| {
        let committed = SequenceNumber(committed);
        Message::Status(Status {
            view: View(0),
            active: true,
            suspects: false,
            view_changes: 0,
            stable: SequenceNumber(0),
            committed,
            slots: Vec::new(),
        })
    };
    let claims = |outputs: &[Output]| {
        let claim =
            |output: &&Output| matches!(output, Output::Send(_, message) if matches!(**message, Message::Committed(_)));
        outputs.iter().filter(claim).count()
    };
    assert_eq!(claims(&replica.hear(3, status(0))), 256);
    replica.now = replica.now.after(STATUS_NS);
    // Close to its peers it is sent what it has not got, as far as it tells.
    assert_eq!(claims(&replica.hear(2, status(350))), 0);
    replica.now = replica.now.after(STATUS_NS);
    assert_eq!(claims(&replica.hear(2, status(350))), 50);
}
