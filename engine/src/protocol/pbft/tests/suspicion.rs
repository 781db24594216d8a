//! What the primary is waited for, and whom a replica believes.

use super::*;

/// Lets the view timer expire until something comes of it, or it is not set again.
fn expire(replica: &mut Replica) -> Vec<Output> {
    let mut outputs = Vec::new();
    assert!(replica.view_timer.is_some(), "the view timer is set");
    while let Some(due) = replica.view_timer.take().filter(|_| outputs.is_empty()) {
        replica.now = due;
        outputs = replica.step(Input::Timer(Timer::View));
    }
    outputs
}

fn view(replica: &Replica) -> u64 {
    replica.core.position().view.0
}

#[test]
fn a_request_that_the_primary_does_not_order_ends_the_view() {
    let mut replica = Replica::new(4, 1);
    let asked = table(&[(1, 1)]);
    assert_eq!(replica.step(Input::Requests(Arc::clone(&asked))), [Output::Recall(Arc::clone(&asked))]);
    assert_eq!(replica.view_timer, None, "it may have been executed already");
    let outputs = replica.step(Input::NotExecuted(Arc::clone(&asked)));
    assert_eq!(outputs, [send(0, Message::Forward(Arc::clone(&asked)))]);
    assert_eq!(replica.view_timer, Some(replica.now.after(VIEW_TIMEOUT_NS / 4)));
    // That others get served does not help this client, and asking again gives the primary no more time.
    replica.execute(1, &batch(&[(2, 1)]));
    replica.now = Time(VIEW_TIMEOUT_NS / 2);
    replica.step(Input::NotExecuted(asked));
    expire(&mut replica);
    assert_eq!(view(&replica), 1);
}

#[test]
fn an_executed_request_stops_its_timer_by_whatever_path() {
    let mut replica = Replica::new(4, 1);
    replica.step(Input::NotExecuted(table(&[(1, 3), (2, 1)])));
    // Committed by claims, and a later one of the same client stands for the earlier.
    replica.execute(1, &batch(&[(1, 4), (2, 1)]));
    assert_eq!(expire(&mut replica), []);
    assert_eq!((view(&replica), replica.view_timer), (0, None));
}

#[test]
fn a_new_primary_gets_what_is_waited_for() {
    for own in [1, 2] {
        let mut replica = Replica::new(4, own);
        replica.step(Input::NotExecuted(table(&[(1, 3), (2, 1)])));
        expire(&mut replica);
        let change = |replica| ViewChange {
            replica: ReplicaId(replica),
            view: View(1),
            stable: SequenceNumber(0),
            checkpoints: Vec::new(),
            prepared: Vec::new(),
            pre_prepared: Vec::new(),
        };
        let others: Vec<u16> = (0..4).filter(|other| *other != own).collect();
        let signed = |replica| Signed { content: Arc::new(change(replica)), signature: Some([1; 64]) };
        let mut outputs = Vec::new();
        for &other in &others {
            outputs.extend(replica.hear(other, Message::ViewChange(signed(other))));
        }
        let view_changes = others.iter().map(|&other| (ReplicaId(other), change(other).digest())).collect();
        let new_view = Signed { content: Arc::new(NewView { view: View(1), view_changes }), signature: Some([1; 64]) };
        outputs.extend(replica.hear(1, Message::NewView(new_view)));
        let got = outputs.iter().map(|output| match output {
            Output::Send(ReplicaId(1), message) => match &**message {
                Message::Forward(table) => table.len(),
                _ => 0,
            },
            Output::Broadcast(message) => match &**message {
                Message::PrePrepare(message) => message.batch.requests.len(),
                _ => 0,
            },
            _ => 0,
        });
        assert_eq!(got.sum::<usize>(), 2);
    }
}

#[test]
fn a_replica_that_overslept_does_not_blame_the_primary() {
    let mut replica = Replica::new(4, 1);
    replica.hear(0, pre_prepare(1, &batch(&[(1, 1)])));
    replica.now = replica.view_timer.take().unwrap().after(VIEW_TIMEOUT_NS);
    assert_eq!(replica.step(Input::Timer(Timer::View)), []);
    assert_eq!(replica.view_timer, Some(replica.now.after(VIEW_TIMEOUT_NS)));
    expire(&mut replica);
    assert_eq!(view(&replica), 1);
}

#[test]
fn votes_of_f_backups_for_far_positions_start_no_timer() {
    let mut replica = Replica::new(4, 1);
    let batch = batch(&[(1, 1)]);
    for sequence in 1..=WINDOW {
        replica.hear(3, prepare(sequence, &batch));
        replica.hear(3, commit(sequence, &batch));
        replica.hear(3, committed(sequence, &batch));
    }
    assert_eq!(replica.view_timer, None);
}

#[test]
fn a_client_whom_f_plus_one_primaries_can_not_prove_is_refused() {
    for n in SIZES {
        let weak = u64::try_from(Quorums::new(n).unwrap().weak()).unwrap();
        // One principal speaks for the clients 0 to 9.
        let own = u16::try_from(n - 1).unwrap();
        let mut replica = Replica::with(Config { principals: [0..10, 10..100].into(), ..config(n, own) });
        for primary in 0..weak {
            assert!(!replica.core.is_distrusted(ClientId(5)), "n = {n}");
            replica.core.view = View(primary);
            replica.core.views.active = true;
            // Without proofs nobody is accused: a primary that was started anew has none.
            let mut requests = batch(&[(0, 1)]).requests.clone();
            requests.proofs = Proofs::Signatures(vec![0; 64].into());
            let batch = Batch::new(requests);
            let message = PrePrepare { view: View(primary), sequence: SequenceNumber(1), batch };
            replica.hear_as(u16::try_from(primary).unwrap(), Message::PrePrepare(message), false);
            expire(&mut replica);
        }
        assert!(replica.core.is_distrusted(ClientId(5)) && !replica.core.is_distrusted(ClientId(10)), "n = {n}");
        // As primary it admits nothing of it, and as backup it waits for nothing.
        replica.core.view = View(u64::from(own));
        replica.core.views.active = true;
        assert_eq!(replica.requests(&[(5, 1)]), ignored(Ignored::DistrustedClient));
        assert!(matches!(replica.requests(&[(5, 1), (10, 1)])[..], [Output::Ignored(_), Output::Broadcast(_)]));
    }
}

#[test]
fn whoever_makes_requests_that_no_primary_can_order_wears_out_fewer_and_fewer() {
    let mut replica = Replica::with(Config { principals: Arc::new([0..10, 10..100]), ..config(7, 6) });
    let mut waits = Vec::new();
    for timestamp in 1..6 {
        replica.step(Input::NotExecuted(table(&[(u32::try_from(timestamp).unwrap(), timestamp)])));
        let asked = replica.now;
        expire(&mut replica);
        waits.push(replica.now.since(asked) / VIEW_TIMEOUT_NS);
        // The view starts, and commits other things: the time-out is what it was.
        replica.core.views.active = true;
        replica.core.suspicion.note_committed(&batch(&[(50, timestamp)]), |client| client.0, replica.now);
        replica.core.suspicion.enter_view(replica.now, SequenceNumber(0), |_| 0);
        replica.view_timer = None;
    }
    assert!(waits.windows(2).all(|pair| pair[1] >= pair[0]) && waits[4] >= 8, "{waits:?}");
}

#[test]
fn whoever_is_behind_blames_itself_first_but_not_for_ever() {
    let mut replica = Replica::new(4, 1);
    replica.hear(0, pre_prepare(1, &batch(&[(1, 1)])));
    for sender in [2, 3] {
        replica.hear(sender, checkpoint(INTERVAL, 1));
    }
    expire(&mut replica);
    assert_eq!((view(&replica), replica.now.since(Time(1)) / VIEW_TIMEOUT_NS), (1, 9));
}

#[test]
fn a_primary_that_is_always_late_is_replaced_although_it_misses_no_deadline() {
    for late in [true, false] {
        let mut replica = Replica::new(4, 1);
        let pause = VIEW_TIMEOUT_NS / 10 * if late { 4 } else { 2 };
        for timestamp in 1..20 {
            // Two clients take turns to ask; each is served just before its time is up, when the other has asked.
            let client = u32::try_from(timestamp % 2).unwrap();
            replica.step(Input::NotExecuted(table(&[(client, timestamp)])));
            let until = replica.now.after(pause);
            while let Some(due) = replica.view_timer.filter(|due| *due < until) {
                replica.view_timer = None;
                replica.now = due;
                replica.step(Input::Timer(Timer::View));
            }
            replica.now = until;
            if view(&replica) > 0 {
                break;
            }
            let served = if late { timestamp - 1 } else { timestamp };
            replica.execute(timestamp, &batch(&[(u32::try_from(served % 2).unwrap(), served)]));
            let sequence = timestamp;
            if sequence.is_multiple_of(INTERVAL) {
                replica.step(Input::CheckpointTaken(SequenceNumber(sequence), Digest([1; 32])));
                for sender in [0, 2, 3] {
                    replica.hear(sender, checkpoint(sequence, 1));
                }
            }
        }
        assert_eq!(view(&replica) > 0, late);
    }
}
