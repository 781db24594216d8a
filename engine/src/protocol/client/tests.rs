use super::*;

fn table(n: usize) -> ClientTable {
    ClientTable::new(Quorums::new(n).unwrap(), ClientId(10), 2)
}

fn reply(replica: u16, timestamp: u64, result: &[u8]) -> Reply<'_> {
    let (replica, timestamp) = (ReplicaId(replica), Timestamp(timestamp));
    Reply { replica, view: View(0), client: ClientId(11), timestamp, result, is_digest: false }
}

#[test]
fn f_plus_one_equal_results_of_distinct_replicas_complete() {
    for (n, weak) in [(4, 2), (5, 2), (6, 2), (7, 3), (10, 4)] {
        let mut table = table(n);
        table.begin(ClientId(11), Timestamp(1));
        for replica in 0..weak - 1 {
            assert_eq!(table.on_reply(&reply(replica, 1, b"ok")), ReplyOutcome::Counted, "n = {n}");
            assert_eq!(table.on_reply(&reply(replica, 1, b"ok")), ReplyOutcome::Duplicate, "n = {n}");
        }
        assert_eq!(table.result(ClientId(11)), None);
        assert_eq!(table.on_reply(&reply(weak - 1, 1, b"ok")), ReplyOutcome::Completed, "n = {n}");
        assert_eq!(table.result(ClientId(11)), Some(&b"ok"[..]));
        assert_eq!(table.on_reply(&reply(weak, 1, b"ok")), ReplyOutcome::Stale, "n = {n}");
        assert_eq!(table.on_reply(&reply(weak, 1, b"ok")), ReplyOutcome::Duplicate, "n = {n}");
    }
}

#[test]
fn liars_do_not_complete_and_are_counted_even_when_late() {
    let mut table = table(7);
    table.begin(ClientId(11), Timestamp(1));
    assert_eq!(table.on_reply(&reply(6, 1, b"lie")), ReplyOutcome::Counted);
    assert_eq!(table.on_reply(&reply(0, 1, b"ok")), ReplyOutcome::Counted);
    assert_eq!(table.on_reply(&reply(1, 1, b"ok")), ReplyOutcome::Counted);
    assert_eq!(table.on_reply(&reply(6, 1, b"ok")), ReplyOutcome::Duplicate);
    assert_eq!(table.on_reply(&reply(2, 1, b"ok")), ReplyOutcome::Completed);
    assert_eq!(table.result(ClientId(11)), Some(&b"ok"[..]));
    assert_eq!(table.on_reply(&reply(5, 1, b"late lie")), ReplyOutcome::Stale);
    assert_eq!(table.on_reply(&reply(3, 1, b"ok")), ReplyOutcome::Stale);
    assert_eq!(table.wrong(), [0, 0, 0, 0, 0, 1, 1]);

    // The next operation starts clean.
    table.begin(ClientId(11), Timestamp(5));
    assert_eq!(table.on_reply(&reply(0, 1, b"ok")), ReplyOutcome::Stale);
    assert_eq!(table.on_reply(&reply(0, 5, b"")), ReplyOutcome::Counted);
    assert_eq!(table.on_reply(&reply(6, 5, b"")), ReplyOutcome::Counted);
    assert_eq!(table.on_reply(&reply(1, 5, b"")), ReplyOutcome::Completed);
    assert_eq!(table.result(ClientId(11)), Some(&b""[..]));
}

#[test]
fn what_was_never_asked_for_is_unknown() {
    let mut table = table(4);
    assert_eq!(table.on_reply(&reply(0, 0, b"")), ReplyOutcome::Unknown);
    assert_eq!(table.on_reply(&reply(0, 1, b"")), ReplyOutcome::Unknown);
    table.begin(ClientId(11), Timestamp(3));
    assert_eq!(table.on_reply(&reply(0, 4, b"")), ReplyOutcome::Unknown);
    assert_eq!(table.on_reply(&reply(4, 3, b"")), ReplyOutcome::Unknown);
    for client in [0, 9, 12, u32::MAX] {
        let client = ClientId(client);
        assert_eq!(table.on_reply(&Reply { client, ..reply(0, 3, b"") }), ReplyOutcome::Unknown);
        assert_eq!(table.result(client), None);
    }
    assert_eq!(table.on_reply(&reply(0, 2, b"")), ReplyOutcome::Stale);
}

#[test]
fn the_primary_guess_follows_f_plus_one_replicas() {
    let mut table = table(4);
    table.begin(ClientId(11), Timestamp(1));
    let in_view = |replica, view| Reply { view: View(view), ..reply(replica, 1, b"") };
    table.on_reply(&in_view(3, u64::MAX));
    assert_eq!(table.primary(), ReplicaId(0));
    table.on_reply(&in_view(2, 5));
    assert_eq!(table.primary(), ReplicaId(1));
    // An old view moves nobody back.
    table.on_reply(&in_view(1, 2));
    assert_eq!(table.primary(), ReplicaId(1));
    table.begin(ClientId(11), Timestamp(2));
    table.on_reply(&Reply { timestamp: Timestamp(2), ..in_view(1, 6) });
    assert_eq!(table.primary(), ReplicaId(2));
}

#[test]
fn retransmissions_go_to_all_and_back_off() {
    assert_eq!((ClientTable::retransmit_to(0), ClientTable::retransmit_to(1), ClientTable::retransmit_to(9)), {
        (Recipients::Primary, Recipients::All, Recipients::All)
    });
    let waits = |attempt| ClientTable::retransmit_after_ns(attempt, 250, 8000);
    assert_eq!((waits(0), waits(2), waits(5), waits(u32::MAX)), (250, 1000, 8000, 8000));
    assert_eq!(ClientTable::retransmit_after_ns(40, u64::MAX / 2, u64::MAX), u64::MAX);
}

#[test]
#[should_panic(expected = "one outstanding operation")]
fn a_client_has_one_outstanding_operation() {
    let mut table = table(4);
    table.begin(ClientId(11), Timestamp(1));
    table.begin(ClientId(11), Timestamp(2));
}
