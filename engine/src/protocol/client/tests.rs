use super::*;
use crate::app::Application as _;
use crate::app::kv::{self, Kv};
use crate::requests::result_digest;

fn table(n: usize) -> ClientTable {
    ClientTable::new(Quorums::new(n).unwrap(), ClientId(10), 2)
}

fn reply(replica: u16, timestamp: u64, result: &[u8]) -> Reply<'_> {
    let (replica, timestamp) = (ReplicaId(replica), Timestamp(timestamp));
    Reply { replica, view: View(0), client: ClientId(11), timestamp, result, is_digest: false, tentative: false }
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
fn of_the_reply_quorum_is_who_agreed_until_it_was_complete() {
    let mut table = table(4).with_reads();
    let answer = [&[7; 40][..], &[0; VERSION_BYTES]].concat();
    let digest = result_digest(&answer).0;
    let agreed = |table: &ClientTable| [0, 1, 2, 3].map(|replica| table.agreed(ClientId(11), ReplicaId(replica)));
    table.begin(ClientId(11), Timestamp(1));
    for (replica, result, is_digest) in [(3, &b"lie"[..], false), (0, &digest, true), (1, &answer, false)] {
        table.on_reply(&Reply { is_digest, ..reply(replica, 1, result) });
        assert_eq!(agreed(&table), [false; 4], "it is not complete");
    }
    assert_eq!(table.on_reply(&Reply { is_digest: true, ..reply(2, 1, &digest) }), ReplyOutcome::Completed);
    assert_eq!(agreed(&table), [true, true, true, false]);
    // A read in between is none of that.
    table.begin_read(ClientId(11));
    table.on_read_reply(&reply(3, 1, &answer));
    assert_eq!(agreed(&table), [true, true, true, false]);
    table.begin(ClientId(11), Timestamp(2));
    assert_eq!(agreed(&table), [false; 4]);
    assert_eq!([0, 9, 13].map(|client| table.agreed(ClientId(client), ReplicaId(1))), [false; 3]);
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
    let to = |dissemination| [0, 1, 9].map(|attempt| ClientTable::send_to(dissemination, attempt));
    assert_eq!(to(Dissemination::Inline), [Recipients::Primary, Recipients::All, Recipients::All]);
    assert_eq!(to(Dissemination::Digest), [Recipients::All; 3]);
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

/// More than a digest takes.
const LONG: [u8; 40] = [7; 40];

fn digest(replica: u16, timestamp: u64, digest: &[u8; 32]) -> Reply<'_> {
    Reply { is_digest: true, ..reply(replica, timestamp, digest) }
}

#[test]
fn each_replica_is_designated_in_turn() {
    for n in [4, 5, 7] {
        let of_client = (1..=n as u64).map(|timestamp| designated(ClientId(3), Timestamp(timestamp), n).0);
        let among_clients = (0..n as u32).map(|client| designated(ClientId(client), Timestamp(9), n).0);
        for turns in [of_client.collect::<Vec<_>>(), among_clients.collect()] {
            let mut turns = turns;
            turns.sort_unstable();
            assert_eq!(turns, (0..n as u16).collect::<Vec<_>>());
        }
    }
    assert!(designated(ClientId(u32::MAX), Timestamp(u64::MAX), 4).0 < 4);
}

#[test]
fn digests_vouch_for_a_result_that_one_replica_sends() {
    let agreed = result_digest(&LONG).0;
    for whole_at in 0..3u16 {
        let mut table = table(7); // f + 1 = 3
        table.begin(ClientId(11), Timestamp(1));
        for replica in 0..3 {
            assert_eq!(table.result(ClientId(11)), None);
            let said = if replica == whole_at { reply(replica, 1, &LONG) } else { digest(replica, 1, &agreed) };
            let expected = if replica == 2 { ReplyOutcome::Completed } else { ReplyOutcome::Counted };
            assert_eq!(table.on_reply(&said), expected, "whole from {whole_at}, {replica} speaks");
        }
        assert_eq!(table.result(ClientId(11)), Some(&LONG[..]));
        // Late votes are evidence in either form.
        assert_eq!(table.on_reply(&digest(3, 1, &agreed)), ReplyOutcome::Stale);
        assert_eq!(table.on_reply(&digest(4, 1, &[0; 32])), ReplyOutcome::Stale);
        assert_eq!(table.wrong(), [0, 0, 0, 0, 1, 0, 0]);
    }
}

#[test]
fn without_the_whole_result_digests_complete_nothing_until_somebody_sends_it() {
    let agreed = result_digest(&LONG).0;
    let mut table = table(4);
    table.begin(ClientId(11), Timestamp(1));
    let told = [0, 1, 2].map(|replica| table.on_reply(&digest(replica, 1, &agreed)));
    assert_eq!(told, [ReplyOutcome::Counted, ReplyOutcome::Vouched, ReplyOutcome::Counted], "told once");
    assert_eq!(table.on_reply(&digest(0, 1, &agreed)), ReplyOutcome::Duplicate);
    // Asked again, one replica sends something else than it voted for, another one the result.
    assert_eq!(table.on_reply(&reply(0, 1, b"something else")), ReplyOutcome::Duplicate);
    assert_eq!(table.outstanding(ClientId(11)), Some(Timestamp(1)));
    assert_eq!(table.on_reply(&reply(2, 1, &LONG)), ReplyOutcome::Completed);
    assert_eq!(table.result(ClientId(11)), Some(&LONG[..]));
    assert_eq!(table.wrong(), [0; 4]);
}

#[test]
fn a_designated_replica_that_lies_is_outvoted() {
    let agreed = result_digest(&LONG).0;
    let mut table = table(4);
    table.begin(ClientId(11), Timestamp(1));
    assert_eq!(table.on_reply(&reply(3, 1, b"lie")), ReplyOutcome::Counted);
    assert_eq!(table.on_reply(&digest(0, 1, &agreed)), ReplyOutcome::Counted);
    assert_eq!(table.on_reply(&digest(1, 1, &agreed)), ReplyOutcome::Vouched, "the result is missing");
    assert_eq!(table.on_reply(&reply(3, 1, &LONG)), ReplyOutcome::Completed, "whoever sends it, f + 1 vouch for it");
    assert_eq!(table.result(ClientId(11)), Some(&LONG[..]));
    assert_eq!(table.wrong(), [0, 0, 0, 1], "its vote was for something else");
}

#[test]
fn a_lie_is_no_vote_for_the_digest_that_follows() {
    let (agreed, lie) = (result_digest(&LONG).0, result_digest(&[8; 40]).0);
    let mut table = table(4);
    table.begin(ClientId(11), Timestamp(1));
    assert_eq!(table.on_reply(&digest(3, 1, &lie)), ReplyOutcome::Counted);
    assert_eq!(table.on_reply(&digest(3, 1, &agreed)), ReplyOutcome::Duplicate);
    assert_eq!(table.on_reply(&reply(0, 1, &LONG)), ReplyOutcome::Counted, "one vote, not two");
    assert_eq!(table.on_reply(&digest(1, 1, &agreed)), ReplyOutcome::Completed);
}

/// An answer to a read: what it gives, and the version.
fn answer(result: &[u8], version: u64) -> Vec<u8> {
    [result, &version.to_le_bytes()].concat()
}

#[test]
fn reads_and_what_is_ordered_beside_them_need_a_quorum() {
    for (n, quorum) in [(4, 3), (5, 4), (6, 4), (7, 5), (10, 7)] {
        let mut table = table(n).with_reads();
        table.begin(ClientId(11), Timestamp(1));
        for replica in 0..quorum - 1 {
            assert_eq!(table.on_reply(&reply(replica, 1, b"ok")), ReplyOutcome::Counted, "n = {n}");
        }
        assert_eq!(table.on_reply(&reply(quorum - 1, 1, b"ok")), ReplyOutcome::Completed, "n = {n}");
        let read = answer(b"value", 9);
        table.begin_read(ClientId(11));
        for replica in 0..quorum - 1 {
            assert_eq!(table.on_read_reply(&reply(replica, 1, &read)), ReplyOutcome::Counted, "n = {n}");
            assert_eq!(table.on_read_reply(&reply(replica, 1, &read)), ReplyOutcome::Duplicate, "n = {n}");
        }
        assert_eq!(table.read_result(ClientId(11)), None);
        assert_eq!(table.on_read_reply(&reply(quorum - 1, 1, &read)), ReplyOutcome::Completed, "n = {n}");
        assert_eq!(table.read_result(ClientId(11)), Some(&b"value"[..]));
        assert_eq!(table.result(ClientId(11)), Some(&b"ok"[..]), "the two are apart");
    }
}

#[test]
fn a_read_is_given_up_once_no_answer_can_get_a_quorum() {
    let (old, new) = (answer(b"old", 1), answer(b"new", 2));
    let mut table = table(4).with_reads();
    table.begin_read(ClientId(11));
    assert_eq!(table.on_read_reply(&reply(0, 1, &old)), ReplyOutcome::Counted);
    assert_eq!(table.on_read_reply(&reply(1, 1, &new)), ReplyOutcome::Counted, "the others may agree with one");
    assert_eq!(table.on_read_reply(&reply(2, 1, &new)), ReplyOutcome::Counted);
    assert_eq!(table.on_read_reply(&reply(3, 1, &old)), ReplyOutcome::Hopeless);
    assert_eq!(table.wrong(), [0; 4], "to be behind is no lie");
    table.give_up_read(ClientId(11));
    assert_eq!(table.outstanding_read(ClientId(11)), None);
    assert_eq!(table.on_read_reply(&reply(2, 1, &new)), ReplyOutcome::Duplicate);

    // Replicas that have no answer count as having spoken.
    table.begin_read(ClientId(11));
    assert_eq!(table.on_read_reply(&reply(0, 2, &[])), ReplyOutcome::Counted);
    assert_eq!(table.on_read_reply(&reply(1, 2, &[])), ReplyOutcome::Hopeless);
    table.give_up_read(ClientId(11));
    assert_eq!(table.on_read_reply(&reply(2, 1, &new)), ReplyOutcome::Stale);
    assert_eq!(table.read_result(ClientId(11)), None);
}

#[test]
fn equal_values_of_different_versions_are_no_quorum() {
    let (before, after) = (answer(b"same", 1), answer(b"same", 3));
    let mut table = table(4).with_reads();
    table.begin_read(ClientId(11));
    assert_eq!(table.on_read_reply(&reply(0, 1, &before)), ReplyOutcome::Counted);
    assert_eq!(table.on_read_reply(&reply(1, 1, &before)), ReplyOutcome::Counted);
    assert_eq!(table.on_read_reply(&reply(2, 1, &after)), ReplyOutcome::Counted, "all values are equal");
    assert_eq!(table.on_read_reply(&reply(3, 1, &before)), ReplyOutcome::Completed);
    assert_eq!(table.read_result(ClientId(11)), Some(&b"same"[..]));
}

#[test]
fn reads_by_digest_are_given_up_if_nobody_sends_the_answer() {
    let agreed = result_digest(&LONG).0;
    let mut table = table(4).with_reads();
    table.begin_read(ClientId(11));
    let told = [0, 1, 2].map(|replica| table.on_read_reply(&digest(replica, 1, &agreed)));
    assert_eq!(told, [ReplyOutcome::Counted, ReplyOutcome::Counted, ReplyOutcome::Vouched], "a fourth may send it");
    assert_eq!(table.on_read_reply(&reply(3, 1, &answer(b"lie", 0))), ReplyOutcome::Hopeless);
}

#[test]
fn a_table_without_reads_knows_none() {
    let mut table = table(4);
    assert_eq!(table.on_read_reply(&reply(0, 1, &LONG)), ReplyOutcome::Unknown);
    assert_eq!(table.outstanding_read(ClientId(11)), None);
    assert_eq!(table.read_result(ClientId(11)), None);
}

/// A record was v, is overwritten by u, which is complete, and then by v again, which one replica has executed so far.
/// Replicas: 0 has executed nothing of that, 1 the first write, 2 both, and 3 says what suits it.
#[test]
fn without_versions_time_runs_backwards_although_every_quorum_is_one() {
    let write = |kv: &mut Kv, value: &[u8]| {
        let mut operation = Vec::new();
        kv::Operation::Insert { key: 1, value }.encode(&mut operation);
        kv.execute(&operation, &mut Vec::new());
    };
    let mut stores = [0, 1, 2].map(|_| Kv::new().versioned());
    for (store, writes) in stores.iter_mut().zip([&[b"v"][..], &[b"v", b"u"], &[b"v", b"u", b"v"]]) {
        writes.iter().for_each(|value| write(store, *value));
    }
    let mut read = Vec::new();
    kv::Operation::Read { key: 1 }.encode(&mut read);
    let answer_of = |store: &Kv, versions: bool| {
        let mut result = Vec::new();
        let version = store.query(&read, &mut result).unwrap();
        answer(&result, if versions { version } else { 0 })
    };
    for versions in [false, true] {
        let [behind, first, both] = stores.each_ref().map(|store| answer_of(store, versions));
        let mut table = table(4).with_reads();
        table.begin_read(ClientId(11));
        assert_eq!(table.on_read_reply(&reply(0, 1, &behind)), ReplyOutcome::Counted);
        assert_eq!(table.on_read_reply(&reply(3, 1, &behind)), ReplyOutcome::Counted);
        let outcome = table.on_read_reply(&reply(2, 1, &both));
        // The first read shows v, which after the complete write of u can only be the second one ..
        assert_eq!(outcome, if versions { ReplyOutcome::Counted } else { ReplyOutcome::Completed });
        if versions {
            assert_eq!(table.on_read_reply(&reply(1, 1, &first)), ReplyOutcome::Hopeless);
            table.give_up_read(ClientId(11));
        }
        // .. and one that begins after it, when replica 0 has come as far as replica 1, shows u.
        table.begin_read(ClientId(11));
        for replica in [0, 1, 3] {
            table.on_read_reply(&reply(replica, 2, &first));
        }
        assert_eq!(table.read_result(ClientId(11)), Some(&[3, b'u'][..]));
    }
}

/// A reply to something that `replica` has only prepared, in `view`.
fn tentative(replica: u16, view: u64, result: &[u8]) -> Reply<'_> {
    Reply { view: View(view), tentative: true, ..reply(replica, 1, result) }
}

#[test]
fn a_quorum_of_tentative_replies_completes_and_f_plus_one_do_not() {
    for (n, quorum) in [(4, 3), (5, 4), (6, 4), (7, 5), (10, 7)] {
        let mut table = table(n);
        table.begin(ClientId(11), Timestamp(1));
        for replica in 0..quorum - 1 {
            assert_eq!(table.on_reply(&tentative(replica, 0, b"ok")), ReplyOutcome::Counted, "n = {n}");
            assert_eq!(table.on_reply(&tentative(replica, 0, b"ok")), ReplyOutcome::Duplicate, "n = {n}");
        }
        assert_eq!(table.on_reply(&tentative(quorum - 1, 0, b"ok")), ReplyOutcome::Completed, "n = {n}");
        assert_eq!(table.result(ClientId(11)), Some(&b"ok"[..]));
        assert_eq!(table.agreed_in(ClientId(11)), Some(View(0)));
        assert!(table.agreed(ClientId(11), ReplicaId(0)) && !table.agreed(ClientId(11), ReplicaId(quorum)));
    }
}

#[test]
fn replies_for_good_complete_by_themselves_and_help_tentative_ones() {
    let mut table = table(7); // f + 1 = 3, Q = 5
    table.begin(ClientId(11), Timestamp(1));
    for replica in 0..3 {
        assert_eq!(table.on_reply(&tentative(replica, 0, b"ok")), ReplyOutcome::Counted);
    }
    // The same replicas have committed it by now: their word counts anew, and three are enough.
    for (replica, outcome) in (0..).zip([ReplyOutcome::Counted, ReplyOutcome::Counted, ReplyOutcome::Completed]) {
        assert_eq!(table.on_reply(&reply(replica, 1, b"ok")), outcome);
    }
    assert_eq!(table.agreed_in(ClientId(11)), None);
    table.begin(ClientId(11), Timestamp(2));
    let of_second = |reply: Reply<'static>| Reply { timestamp: Timestamp(2), ..reply };
    for replica in 0..3 {
        assert_eq!(table.on_reply(&of_second(tentative(replica, 4, b"ok"))), ReplyOutcome::Counted);
    }
    // Of whatever view: what is committed stays.
    assert_eq!(table.on_reply(&of_second(reply(5, 2, b"ok"))), ReplyOutcome::Counted);
    assert_eq!(table.on_reply(&of_second(reply(6, 2, b"ok"))), ReplyOutcome::Completed);
    assert_eq!(table.agreed_in(ClientId(11)), Some(View(4)));
    assert_eq!(table.wrong(), [0; 7]);
}

/// Replica 0 has prepared it in view 0, and replica 1 in view 1, of which replica 0 has not heard: a third view by
/// replicas 0, 2 and 3 may make something else of it. The word of replica 3, which is faulty, must not make a quorum.
#[test]
fn tentative_replies_of_different_views_do_not_make_a_quorum() {
    let mut table = table(4);
    table.begin(ClientId(11), Timestamp(1));
    assert_eq!(table.on_reply(&tentative(0, 0, b"ok")), ReplyOutcome::Counted);
    assert_eq!(table.on_reply(&tentative(1, 1, b"ok")), ReplyOutcome::Counted);
    assert_eq!(table.on_reply(&tentative(3, 1, b"ok")), ReplyOutcome::Counted);
    assert_eq!(table.on_reply(&tentative(3, 0, b"ok")), ReplyOutcome::Duplicate, "a view that it has left");
    assert_eq!(table.result(ClientId(11)), None);
    // Replica 0 follows, and with it there is one.
    assert_eq!(table.on_reply(&tentative(0, 1, b"ok")), ReplyOutcome::Completed);
    assert_eq!(table.agreed_in(ClientId(11)), Some(View(1)));
    assert_eq!(table.on_reply(&tentative(2, 1, b"ok")), ReplyOutcome::Stale);
    assert_eq!(table.wrong(), [0; 4]);
}

#[test]
fn one_replica_in_a_view_of_its_own_does_not_keep_the_others_from_agreeing() {
    let mut table = table(4);
    table.begin(ClientId(11), Timestamp(1));
    for view in [u64::MAX, 5, 7] {
        table.on_reply(&tentative(3, view, b"ok"));
    }
    assert_eq!(table.on_reply(&tentative(0, 0, b"ok")), ReplyOutcome::Counted);
    assert_eq!(table.on_reply(&tentative(1, 0, b"ok")), ReplyOutcome::Counted);
    assert_eq!(table.on_reply(&tentative(2, 0, b"ok")), ReplyOutcome::Completed);
}

/// A replica has one vote that may pass and one that does not, whatever it says: nobody's memory is filled.
#[test]
fn a_replica_that_goes_on_and_on_fills_nothing() {
    let mut table = table(4);
    table.begin(ClientId(11), Timestamp(1));
    table.on_reply(&tentative(0, 0, b"ok"));
    for view in 1..1000 {
        let result = view.to_string().into_bytes();
        assert_eq!(table.on_reply(&tentative(3, view, &result)), ReplyOutcome::Counted);
        assert!(table.operations[1].replies.rivals() <= 1);
    }
    assert_eq!(table.on_reply(&tentative(1, 0, b"ok")), ReplyOutcome::Counted);
    assert_eq!(table.on_reply(&tentative(2, 0, b"ok")), ReplyOutcome::Completed);
}

/// Nor is it over time, by another client's operation at each time.
#[test]
fn long_results_are_forgotten_with_their_operation() {
    let mut table = table(4);
    for (timestamp, first) in [(1, 3), (2, 0)] {
        table.begin(ClientId(11), Timestamp(timestamp));
        let lie = vec![7; 1 << 20];
        let says = |replica| if replica == 3 { &lie[..] } else { b"ok" };
        for replica in [first, 3 - first, 1] {
            table.on_reply(&reply(replica, timestamp, says(replica)));
        }
        assert_eq!(table.result(ClientId(11)), Some(&b"ok"[..]));
        assert!(table.operations[1].replies.result_bytes() >= 1 << 20);
    }
    table.begin(ClientId(11), Timestamp(3));
    assert!(table.operations[1].replies.result_bytes() <= 4 << 10);
    assert_eq!(table.wrong(), [0, 0, 0, 2]);
}

#[test]
fn what_was_undone_was_no_lie_and_what_contradicts_in_the_same_view_was() {
    let mut table = table(7);
    table.begin(ClientId(11), Timestamp(1));
    assert_eq!(table.on_reply(&tentative(0, 0, b"undone")), ReplyOutcome::Counted);
    assert_eq!(table.on_reply(&tentative(6, 1, b"lie")), ReplyOutcome::Counted);
    for replica in 1..5 {
        assert_eq!(table.on_reply(&tentative(replica, 1, b"ok")), ReplyOutcome::Counted);
    }
    assert_eq!(table.on_reply(&tentative(0, 1, b"ok")), ReplyOutcome::Completed);
    assert_eq!(table.on_reply(&tentative(5, 0, b"undone")), ReplyOutcome::Stale);
    assert_eq!(table.wrong(), [0, 0, 0, 0, 0, 0, 1]);
    // For good there is no such excuse, however late.
    assert_eq!(table.on_reply(&reply(5, 1, b"undone")), ReplyOutcome::Stale);
    assert_eq!(table.wrong(), [0, 0, 0, 0, 0, 1, 1]);
    assert_eq!(table.on_reply(&reply(6, 1, b"ok")), ReplyOutcome::Stale);
    assert_eq!(table.wrong(), [0, 0, 0, 0, 0, 1, 1]);
}

#[test]
fn tentative_digests_need_the_result_and_take_it_from_anybody() {
    let agreed = result_digest(&LONG).0;
    let by_digest = |replica, view| Reply { is_digest: true, ..tentative(replica, view, &agreed) };
    let mut table = table(4);
    table.begin(ClientId(11), Timestamp(1));
    assert_eq!(table.on_reply(&by_digest(0, 0)), ReplyOutcome::Counted);
    assert_eq!(table.on_reply(&by_digest(1, 0)), ReplyOutcome::Counted);
    assert_eq!(table.on_reply(&by_digest(2, 0)), ReplyOutcome::Vouched);
    // Whoever sends it, and of whatever view: its digest proves it.
    assert_eq!(table.on_reply(&tentative(3, 1, &LONG)), ReplyOutcome::Completed);
    assert_eq!(table.result(ClientId(11)), Some(&LONG[..]));
    assert_eq!(table.agreed_in(ClientId(11)), Some(View(0)));

    table.begin(ClientId(11), Timestamp(2));
    let of_second = |reply: Reply<'static>| Reply { timestamp: Timestamp(2), ..reply };
    let long: &'static [u8] = &LONG;
    let agreed: &'static [u8] = Box::leak(Box::new(agreed));
    let by_digest = |replica, view| of_second(Reply { is_digest: true, ..tentative(replica, view, agreed) });
    assert_eq!(table.on_reply(&by_digest(0, 0)), ReplyOutcome::Counted);
    assert_eq!(table.on_reply(&by_digest(1, 1)), ReplyOutcome::Counted);
    assert_eq!(table.on_reply(&by_digest(2, 1)), ReplyOutcome::Counted);
    // One that is for good counts with either view.
    let good = of_second(Reply { is_digest: true, ..reply(3, 2, agreed) });
    assert_eq!(table.on_reply(&good), ReplyOutcome::Vouched);
    assert_eq!(table.on_reply(&of_second(tentative(2, 1, long))), ReplyOutcome::Completed, "asked for again");
}

#[test]
fn beside_reads_f_plus_one_are_not_enough_even_for_good() {
    let mut table = table(4).with_reads();
    table.begin(ClientId(11), Timestamp(1));
    assert_eq!(table.on_reply(&reply(0, 1, b"ok")), ReplyOutcome::Counted);
    assert_eq!(table.on_reply(&reply(1, 1, b"ok")), ReplyOutcome::Counted);
    assert_eq!(table.on_reply(&tentative(2, 0, b"ok")), ReplyOutcome::Completed);
}
