//! Admission, batching strategies, the high watermark, and requests that come again.

use super::*;
use crate::limits::OPERATIONS_BYTES_MAX;

fn primary(batching: &str) -> Replica {
    Replica::with(Config { batching: batching.parse().unwrap(), window: 16, ..config(4, 0) })
}

/// The clients of each batch proposed, and the sequence number of the first.
fn proposals(outputs: &[Output]) -> Vec<Vec<u32>> {
    let clients = |message: &Message| match message {
        Message::PrePrepare(message) => Some(message.batch.requests.clients.iter().map(|client| client.0).collect()),
        _ => None,
    };
    outputs
        .iter()
        .filter_map(|output| if let Output::Broadcast(message) = output { clients(message) } else { None })
        .collect()
}

fn ms(ms: u64) -> u64 {
    ms * 1_000_000
}

#[test]
fn without_batching_every_request_is_proposed_alone() {
    let outputs = primary("none").requests(&[(1, 1), (2, 1), (3, 7)]);
    assert_eq!(proposals(&outputs), [[1], [2], [3]]);
}

#[test]
fn fixed_batches_wait_to_be_full_and_are_flushed_when_nothing_joins() {
    let mut replica = primary("fixed:3");
    let flush = ms(20);
    replica.now = Time(0);
    assert_eq!(replica.requests(&[(1, 1), (2, 1)]), [Output::SetTimer(Timer::Batch, Time(flush))]);
    assert_eq!(proposals(&replica.requests(&[(3, 1), (4, 1)])), [[1, 2, 3]]);
    // Another request joins: the timer, which is set for the first, moves on when it expires.
    replica.now = Time(ms(5));
    assert_eq!(replica.requests(&[(5, 1)]), []);
    replica.now = Time(flush);
    let timer = Output::SetTimer(Timer::Batch, Time(ms(5) + flush));
    assert_eq!(replica.step(Input::Timer(Timer::Batch)), [timer]);
    replica.now = Time(ms(5) + flush);
    assert_eq!(proposals(&replica.step(Input::Timer(Timer::Batch))), [[4, 5]]);
    // A timer that finds nothing is not set again.
    assert_eq!(replica.step(Input::Timer(Timer::Batch)), []);
}

#[test]
fn timed_batches_leave_when_the_first_request_has_waited() {
    let mut replica = primary("time:3,2ms");
    replica.now = Time(ms(1));
    assert_eq!(replica.requests(&[(1, 1)]), [Output::SetTimer(Timer::Batch, Time(ms(3)))]);
    replica.now = Time(ms(2));
    assert_eq!(replica.requests(&[(2, 1)]), []);
    // Time alone decides, whether the timer has been heard or not.
    replica.now = Time(ms(3));
    assert_eq!(proposals(&replica.step(Input::Timer(Timer::Batch))), [[1, 2]]);
    assert_eq!(proposals(&replica.requests(&[(3, 1), (4, 1), (5, 1), (6, 1)])), [[3, 4, 5]]);
}

#[test]
fn adaptive_batches_gather_while_enough_are_in_flight() {
    let mut replica = primary("adaptive:4,2");
    assert_eq!(proposals(&replica.requests(&[(1, 1)])), [[1]]);
    assert_eq!(proposals(&replica.requests(&[(2, 1)])), [[2]]);
    assert_eq!(replica.requests(&[(3, 1), (4, 1), (5, 1)]), []);
    assert_eq!(replica.requests(&[(6, 1), (7, 1), (8, 1)]), []);
    assert_eq!(replica.core.position().waiting_requests, 6);
    let batch = batch(&[(1, 1)]);
    let messages: [fn(u64, &Batch) -> Message; 2] = [prepare, commit];
    for message in messages {
        replica.hear(1, message(1, &batch));
        replica.hear(2, message(1, &batch));
    }
    assert_eq!(proposals(&replica.step(Input::Executed(SequenceNumber(1)))), [[3, 4, 5, 6]]);
    assert_eq!(replica.core.position().waiting_requests, 2);
}

#[test]
fn batches_are_bounded_in_bytes() {
    let mut replica = primary("fixed:100");
    let requests: Vec<(u32, u64)> = (0..7).map(|client| (client, 1)).collect();
    let third = OPERATIONS_BYTES_MAX / 3;
    let mut outputs = Vec::new();
    for request in &requests {
        outputs.extend(replica.step(Input::Requests(sized_table(&[*request], third))));
    }
    assert_eq!(proposals(&outputs), [[0, 1, 2], [3, 4, 5]]);
}

#[test]
fn proposing_stops_at_the_high_watermark_and_resumes() {
    let mut replica = Replica::new(4, 0);
    let requests: Vec<(u32, u64)> = (0..12).map(|client| (client, 1)).collect();
    assert_eq!(proposals(&replica.requests(&requests)).len(), 8);
    assert_eq!(replica.core.position().waiting_requests, 4);
    let messages: [fn(u64, &Batch) -> Message; 2] = [prepare, commit];
    for sequence in 1..=INTERVAL {
        let batch = batch(&[(u32::try_from(sequence).unwrap() - 1, 1)]);
        for message in messages {
            replica.hear(1, message(sequence, &batch));
            replica.hear(2, message(sequence, &batch));
        }
        assert_eq!(replica.step(Input::Executed(SequenceNumber(sequence))), []);
    }
    replica.step(Input::CheckpointTaken(SequenceNumber(INTERVAL), Digest([1; 32])));
    assert_eq!(replica.hear(1, checkpoint(INTERVAL, 1)), []);
    let outputs = replica.hear(2, checkpoint(INTERVAL, 1));
    assert_eq!(proposals(&outputs), [[8], [9], [10], [11]]);
}

#[test]
fn partial_batches_blocked_by_the_watermark_set_no_timer() {
    let mut replica = Replica::with(Config { batching: "time:1,2ms".parse().unwrap(), ..config(4, 0) });
    let requests: Vec<(u32, u64)> = (0..10).map(|client| (client, 1)).collect();
    let outputs = replica.requests(&requests);
    assert_eq!((proposals(&outputs).len(), outputs.len()), (8, 8));
    replica.now = Time(ms(5));
    assert_eq!(replica.step(Input::Timer(Timer::Batch)), []);
}

#[test]
fn requests_that_come_again_are_recalled_and_never_ordered_twice() {
    let mut replica = primary("none");
    assert_eq!(proposals(&replica.requests(&[(1, 5), (2, 5), (1, 5)])), [[1], [2]]);
    // All of them again; one of them again and one older, beside a new one.
    let again = table(&[(1, 5), (2, 5)]);
    assert_eq!(replica.step(Input::Requests(Arc::clone(&again))), [Output::Recall(again)]);
    let outputs = replica.requests(&[(1, 5), (3, 1), (2, 4)]);
    assert_eq!(outputs[0], Output::Recall(table(&[(1, 5), (2, 4)])));
    assert_eq!(proposals(&outputs), [[3]]);
    // Not executed yet: they are under way.
    let outputs = replica.step(Input::NotExecuted(table(&[(1, 5)])));
    assert_eq!(outputs, ignored(Ignored::RequestInProgress));
}

#[test]
fn a_client_has_one_request_waiting() {
    let mut replica = primary("fixed:3");
    replica.requests(&[(1, 1)]);
    assert_eq!(replica.requests(&[(1, 2), (1, 3)]), ignored(Ignored::RequestInProgress));
    assert_eq!(replica.core.position().waiting_requests, 1);
    assert_eq!(proposals(&replica.requests(&[(2, 1), (3, 1)])), [[1, 2, 3]]);
    // The earlier one has left, so the next one may wait.
    assert_eq!(replica.requests(&[(1, 2)]), []);
    assert_eq!(replica.core.position().waiting_requests, 1);
}

#[test]
fn the_queue_is_bounded_in_bytes() {
    let mut replica = primary("adaptive:1,1");
    let bytes = (1 << 20) - 64; // and what the columns take
    for client in 0..65 {
        let outputs = replica.step(Input::Requests(sized_table(&[(client, 1)], bytes)));
        assert_eq!(outputs.len(), usize::from(client == 0), "client {client}");
    }
    let table = sized_table(&[(70, 1)], bytes);
    assert_eq!(replica.step(Input::Requests(Arc::clone(&table))), ignored(Ignored::RequestQueueFull));
    assert_eq!(replica.core.position().waiting_requests, 64);
}

#[test]
fn unknown_clients_are_refused_and_the_others_served() {
    let outputs = primary("none").requests(&[(1, 1), (100, 1), (u32::MAX, 1), (2, 1)]);
    assert_eq!(outputs[0], Output::Ignored(Ignored::UnknownClient));
    assert_eq!(proposals(&outputs), [[1], [2]]);
}

#[test]
fn a_backup_recalls_first_and_forwards_what_was_not_executed() {
    let mut backup = Replica::new(4, 2);
    let requests = table(&[(1, 1), (2, 1)]);
    assert_eq!(backup.step(Input::Requests(Arc::clone(&requests))), [Output::Recall(Arc::clone(&requests))]);
    let outputs = backup.step(Input::NotExecuted(Arc::clone(&requests)));
    assert_eq!(outputs, [send(0, Message::Forward(Arc::clone(&requests)))]);

    let mut primary = primary("none");
    let outputs = primary.hear_as(2, Message::Forward(table(&[(0, 1)])), false);
    assert_eq!(outputs, ignored(Ignored::UnprovenRequests));
    let outputs = primary.hear(2, Message::Forward(Arc::clone(&requests)));
    assert_eq!(proposals(&outputs), [[1], [2]]);
    assert_eq!(backup.hear(3, Message::Forward(requests)), ignored(Ignored::NotPrimary));
}

#[test]
fn stamps_tell_when_the_oldest_request_came() {
    let mut replica = primary("time:9,2ms");
    replica.now = Time(ms(1));
    replica.requests(&[(1, 1)]);
    replica.now = Time(ms(2));
    replica.requests(&[(2, 1)]);
    replica.now = Time(ms(3));
    replica.step(Input::Timer(Timer::Batch));
    let slot = replica.core.log.slot(SequenceNumber(1));
    assert_eq!((slot.stamps.received, slot.stamps.pre_prepared), (Time(ms(1)), Time(ms(3))));
}

/// A primary that was started anew does not know what it proposed before; the others tell it.
#[test]
fn a_primary_proposes_nothing_where_a_decision_is_known() {
    let mut replica = primary("none");
    let batches = [batch(&[(1, 1)]), batch(&[(2, 1)]), batch(&[(3, 1)])];
    for (sequence, batch) in [(1, &batches[0]), (2, &batches[1]), (4, &batches[2])] {
        for other in [1, 2] {
            replica.hear(other, committed(sequence, batch));
        }
        replica.hear(1, body(sequence, batch));
    }
    let places = |outputs: &[Output]| -> Vec<u64> {
        let place = |output: &Output| match output {
            Output::Broadcast(message) => match &**message {
                Message::PrePrepare(message) => Some(message.sequence.0),
                _ => None,
            },
            _ => None,
        };
        outputs.iter().filter_map(place).collect()
    };
    assert_eq!(replica.core.position().committed, SequenceNumber(2));
    assert_eq!(places(&replica.requests(&[(5, 1), (6, 1)])), [3, 5]);
}

/// A client node may send few new requests among many old ones, and requests without operations: what waits is bounded
/// by what its tables really keep in memory.
#[test]
fn waiting_tables_are_bounded_by_all_that_they_keep() {
    let mut replica = Replica::with(Config { batching: batching("fixed:4096"), clients: 5000, ..config(4, 0) });
    let old: Vec<(u32, u64)> = (0..4000).map(|_| (0, 1)).collect();
    replica.requests(&[(0, 1)]);
    let mut full = 0;
    for client in 1..1000 {
        let mut requests = old.clone();
        requests.push((client, 1));
        let outputs = replica.step(Input::Requests(sized_table(&requests, 0)));
        full += usize::from(outputs.contains(&Output::Ignored(Ignored::RequestQueueFull)));
    }
    let waiting = replica.core.position().waiting_requests;
    assert_eq!(waiting + full, 1000);
    assert!(waiting * 4001 * 64 <= 16 * OPERATIONS_BYTES_MAX + (1 << 20), "{waiting} tables wait");
}
