//! What the primary is waited for, and whom a replica believes.

use super::*;

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
    assert_eq!(replica.view_timer, Some(replica.now.after(VIEW_TIMEOUT_NS)));
    // That others get served does not help this client, and asking again gives the primary no more time.
    replica.execute(1, &batch(&[(2, 1)]));
    replica.now = Time(VIEW_TIMEOUT_NS / 2);
    replica.step(Input::NotExecuted(asked));
    replica.end_view();
    assert_eq!((view(&replica), replica.now), (1, Time(1 + VIEW_TIMEOUT_NS)));
}

/// A client asks again just before its request commits here. The executor is asked first, but answers later.
#[test]
fn a_request_that_was_executed_before_it_was_waited_for_blames_nobody() {
    let mut replica = Replica::new(4, 1);
    let asked = table(&[(1, 1)]);
    assert_eq!(replica.requests(&[(1, 1)]), [Output::Recall(Arc::clone(&asked))]);
    replica.execute(1, &batch(&[(1, 1)]));
    replica.step(Input::NotExecuted(Arc::clone(&asked)));
    let mut recalled = Vec::new();
    while let Some(due) = replica.view_timer.take() {
        replica.now = due;
        recalled.extend(replica.step(Input::Timer(Timer::View)));
    }
    assert_eq!(recalled, [Output::Recall(asked)], "the executor is asked once more");
    assert!(!replica.core.suspects_view(), "and has nothing to say: nothing is waited for any more");
}

/// Its request proves itself to this replica only, so that no primary orders it.
#[test]
fn a_lone_suspect_goes_on_voting() {
    let mut replica = Replica::new(4, 1);
    replica.step(Input::NotExecuted(table(&[(1, 1)])));
    let outputs = replica.expire();
    assert!(says_to_suspect(&outputs[0]), "{outputs:?}");
    let batch = batch(&[(2, 1)]);
    assert_eq!(replica.hear(0, pre_prepare(1, &batch)), [broadcast(prepare(1, &batch))]);
    replica.hear(2, prepare(1, &batch));
    assert_eq!((view(&replica), replica.core.views.active), (0, true));
    // It says so in each status, in case it was lost.
    let told = replica.ticks(2);
    assert_eq!(told.iter().filter(|output| says_to_suspect(output)).count(), 2, "{told:?}");
}

#[test]
fn f_plus_one_suspects_are_joined_and_a_quorum_of_them_ends_the_view() {
    for n in SIZES {
        let quorums = Quorums::new(n).unwrap();
        let [weak, quorum] = [quorums.weak(), quorums.quorum()].map(|size| u16::try_from(size).unwrap());
        let mut replica = Replica::new(n, 0);
        for other in 1..=weak {
            assert!(!replica.core.suspects_view(), "n = {n}");
            // Saying it twice makes no difference, and to speak of far views none but to oneself.
            for _ in 0..2 {
                replica.hear(other, suspicion(if other == 1 { u64::MAX } else { 0 }));
            }
        }
        // With its own that may be a quorum already.
        assert_eq!(replica.core.suspects_view(), weak + 1 < quorum, "n = {n}");
        for other in weak + 1..quorum {
            assert_eq!(view(&replica), 0, "n = {n}");
            replica.hear(other, suspicion(0));
        }
        assert_eq!((view(&replica), replica.core.views.active), (1, false), "n = {n}");
        assert!(!replica.core.suspects_view(), "the next primary is not to blame");
    }
}

/// More than f that lie can lead a replica anywhere, but it must not go through all views one by one.
#[test]
fn whoever_is_told_to_suspect_the_last_view_gets_there_in_one_step() {
    let mut replica = Replica::new(4, 0);
    for other in 1..4 {
        replica.hear(other, suspicion(u64::MAX - 1));
    }
    assert_eq!((view(&replica), replica.core.views.active), (u64::MAX, false));
    for other in 1..4 {
        replica.hear(other, suspicion(u64::MAX));
    }
    assert_eq!(view(&replica), u64::MAX, "there is no later one");
}

/// It learns that others suspect the next primary while it is still in the view before.
#[test]
fn suspicions_that_were_heard_too_early_count_when_the_view_is_reached() {
    let mut replica = Replica::new(4, 0);
    replica.hear(2, suspicion(1));
    replica.hear(3, suspicion(1));
    // They count for the view before as well, which ends; and their repetition is no news.
    assert_eq!((view(&replica), replica.core.views.active), (2, false));
}

/// Whoever has asked for a later view is lost to this one.
#[test]
fn a_view_change_counts_as_a_suspicion_of_the_views_before() {
    let mut replica = Replica::new(4, 0);
    let content = ViewChange {
        replica: ReplicaId(3),
        view: View(7),
        stable: SequenceNumber(0),
        checkpoints: Vec::new(),
        prepared: Vec::new(),
        pre_prepared: Vec::new(),
    };
    let signed = Signed { content: Arc::new(content), signature: Some([1; 64]) };
    replica.hear(3, Message::ViewChange(signed));
    assert!(!replica.core.suspects_view());
    replica.hear(2, suspicion(0));
    assert_eq!((view(&replica), replica.core.views.active), (1, false));
}

#[test]
fn a_request_is_passed_on_once_in_a_while_however_often_its_client_asks() {
    let mut replica = Replica::new(4, 1);
    let asked = table(&[(1, 1), (2, 1)]);
    let mut forwarded = Vec::new();
    for _ in 0..100 {
        forwarded.extend(replica.step(Input::NotExecuted(Arc::clone(&asked))));
    }
    assert_eq!(forwarded, [send(0, Message::Forward(Arc::clone(&asked)))]);
    replica.now = replica.now.after(VIEW_TIMEOUT_NS / 2);
    // What is new among them goes on its way at once.
    let outputs = replica.step(Input::NotExecuted(table(&[(3, 1)])));
    assert_eq!(outputs, [send(0, Message::Forward(table(&[(3, 1)])))]);
    let outputs = replica.step(Input::NotExecuted(table(&[(1, 1), (2, 1), (3, 1)])));
    assert_eq!(outputs, [send(0, Message::Forward(asked))]);
}

#[test]
fn a_primary_admits_what_f_plus_one_backups_pass_on_though_it_can_not_prove_it() {
    for n in SIZES {
        let weak = u16::try_from(Quorums::new(n).unwrap().weak()).unwrap();
        let mut primary = Replica::new(n, 0);
        let asked = table(&[(0, 1)]);
        for other in 1..weak {
            for _ in 0..2 {
                let outputs = primary.hear_as(other, Message::Forward(Arc::clone(&asked)), false);
                assert_eq!(outputs, ignored(Ignored::UnprovenRequests), "n = {n}");
            }
        }
        // Another request of that client is another matter; who proves itself need not wait.
        let outputs = primary.hear_as(weak, Message::Forward(table(&[(0, 2), (5, 1)])), false);
        assert_eq!(outputs, [broadcast(pre_prepare(1, &batch(&[(5, 1)])))], "n = {n}");
        let outputs = primary.hear_as(weak, Message::Forward(Arc::clone(&asked)), false);
        assert_eq!(outputs, [broadcast(pre_prepare(2, &batch(&[(0, 1)])))], "n = {n}");
    }
}

#[test]
fn an_executed_request_stops_its_timer_by_whatever_path() {
    let mut replica = Replica::new(4, 1);
    replica.step(Input::NotExecuted(table(&[(1, 3), (2, 1)])));
    // Committed by claims, and a later one of the same client stands for the earlier.
    replica.execute(1, &batch(&[(1, 4), (2, 1)]));
    assert_eq!(replica.expire(), []);
    assert_eq!((view(&replica), replica.view_timer), (0, None));
}

#[test]
fn a_new_primary_gets_what_is_waited_for() {
    for own in [1, 2] {
        let mut replica = Replica::new(4, own);
        replica.step(Input::NotExecuted(table(&[(1, 3), (2, 1)])));
        replica.end_view();
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
    replica.expire();
    assert!(replica.core.suspects_view());
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
            replica.end_view();
        }
        assert!(replica.core.is_distrusted(ClientId(5)) && !replica.core.is_distrusted(ClientId(10)), "n = {n}");
        // As primary it admits nothing of it, and as backup it waits for nothing.
        replica.core.view = View(u64::from(own));
        replica.core.views.active = true;
        assert_eq!(replica.requests(&[(5, 1)]), ignored(Ignored::DistrustedClient));
        assert!(matches!(replica.requests(&[(5, 1), (10, 1)])[..], [Output::Ignored(_), Output::Broadcast(_)]));
    }
}

/// Lets `replica` wait for `requests`, of which the first view's end tells that no primary orders them, while a batch
/// of another principal commits. Returns after how many time-outs the view ends; then the next one begins.
fn wait_in_vain(replica: &mut Replica, requests: &[(u32, u64)]) -> u64 {
    replica.step(Input::NotExecuted(table(requests)));
    let asked = replica.now;
    let others = batch(&[(50, replica.now.0)]);
    replica.core.suspicion.note_committed(SequenceNumber(1), &others, |client| client.0, asked);
    replica.end_view();
    let waited = replica.now.since(asked) / VIEW_TIMEOUT_NS;
    replica.core.views.active = true;
    replica.core.suspicion.note_committed(SequenceNumber(1), &others, |client| client.0, replica.now);
    replica.core.suspicion.enter_view(replica.now, SequenceNumber(0), SequenceNumber(0), |_| 0);
    waited
}

#[test]
fn whoever_makes_requests_that_no_primary_can_order_wears_out_fewer_and_fewer() {
    let mut replica = Replica::with(Config { principals: Arc::new([0..10, 10..100]), ..config(7, 6) });
    let waits: Vec<u64> =
        (1..6).map(|timestamp| wait_in_vain(&mut replica, &[(u32::try_from(timestamp).unwrap(), timestamp)])).collect();
    assert_eq!(waits, [1, 2, 4, 8, 16]);
}

#[test]
fn many_requests_in_vain_at_a_time_count_once_for_their_principal() {
    let mut replica = Replica::with(Config { principals: Arc::new([0..10, 10..100]), ..config(7, 6) });
    let all: Vec<(u32, u64)> = (0..9).map(|client| (client, 1)).collect();
    assert_eq!([wait_in_vain(&mut replica, &all), wait_in_vain(&mut replica, &[(9, 1)])], [1, 2]);
}

/// A primary that gets nothing done says nothing of whose requests it does not order.
#[test]
fn requests_that_a_dead_primary_does_not_order_are_not_in_vain() {
    let mut replica = Replica::with(Config { principals: Arc::new([0..10, 10..100]), ..config(7, 6) });
    for timestamp in 1..4 {
        replica.step(Input::NotExecuted(table(&[(1, timestamp)])));
        let asked = replica.now;
        replica.end_view();
        replica.core.views.active = true;
        replica.core.suspicion.enter_view(replica.now, SequenceNumber(0), SequenceNumber(0), |_| 0);
        assert_eq!(replica.core.suspicion.awaited.in_vain_times(1), 0, "only time-outs back off");
        assert!(replica.now > asked);
    }
}

#[test]
fn whoever_is_behind_blames_itself_first_but_not_for_ever() {
    let mut replica = Replica::new(4, 1);
    replica.hear(0, pre_prepare(1, &batch(&[(1, 1)])));
    for sender in [2, 3] {
        replica.hear(sender, checkpoint(INTERVAL, 1));
    }
    replica.expire();
    assert!(replica.core.suspects_view());
    assert_eq!(replica.now.since(Time(1)) / VIEW_TIMEOUT_NS, 9);
}

/// Serves one client, whose requests come one after the other, for so many rounds: each is waited for during `wait`,
/// and assigned either at once or when all but `busy` of that time has passed. After how many rounds is the primary
/// suspected?
fn serve(rounds: u64, wait: u64, busy: u64) -> Option<u64> {
    let mut replica = Replica::new(4, 1);
    (1..=rounds).find(|&round| {
        let batch = batch(&[(1, round)]);
        replica.step(Input::NotExecuted(table(&[(1, round)])));
        replica.now = replica.now.after(wait - busy);
        replica.hear(0, pre_prepare(round, &batch));
        replica.now = replica.now.after(busy);
        replica.execute(round, &batch);
        if round.is_multiple_of(INTERVAL) {
            replica.step(Input::CheckpointTaken(SequenceNumber(round), Digest([1; 32])));
            for sender in [0, 2, 3] {
                replica.hear(sender, checkpoint(round, 1));
            }
        }
        if replica.view_timer.is_some_and(|due| due <= replica.now) {
            replica.view_timer = None;
            replica.step(Input::Timer(Timer::View));
        }
        // Its client takes a while until it asks everybody again: nothing is waited for meanwhile.
        replica.now = replica.now.after(VIEW_TIMEOUT_NS / 4);
        replica.core.suspects_view()
    })
}

#[test]
fn a_primary_that_lets_requests_lie_is_replaced_although_it_misses_no_deadline() {
    assert_eq!(serve(20, VIEW_TIMEOUT_NS / 10 * 9, 0), Some(4));
    assert_eq!(serve(20, VIEW_TIMEOUT_NS / 2, 0), Some(4));
}

#[test]
fn a_primary_that_is_prompt_or_has_much_to_do_stays() {
    assert_eq!(serve(20, VIEW_TIMEOUT_NS / 4, 0), None);
    assert_eq!(serve(20, VIEW_TIMEOUT_NS / 10 * 9, VIEW_TIMEOUT_NS / 10 * 8), None);
}
