use super::*;
use crate::protocol::pbft::tests::{sized_table, table};

const PRINCIPAL: u32 = 0;
const STALE_NS: u64 = 1000;

fn new(clients: u32) -> Bodies {
    Bodies::new(clients, STALE_NS)
}

fn manifest(requests: &[(u32, u64)]) -> Manifest {
    Manifest::of(&Batch::new(table(requests).as_ref().clone()))
}

/// Those of a manifest, looked for from the start.
fn pair(bodies: &Bodies, requests: &[(u32, u64)]) -> Pairing {
    bodies.pair(&manifest(requests), &mut 0, false)
}

/// Which come again, and whether any is kept.
fn keep(bodies: &mut Bodies, requests: &[(u32, u64)]) -> (Vec<usize>, bool) {
    let Kept { again, any, late } = bodies.keep(&table(requests), PRINCIPAL, Time(0));
    assert!(!late);
    (again, any)
}

#[test]
fn a_batch_is_gathered_from_the_tables_that_clients_sent() {
    let mut bodies = new(10);
    assert_eq!(keep(&mut bodies, &[(1, 1), (2, 1), (3, 1)]), (vec![], true));
    assert_eq!(keep(&mut bodies, &[(4, 1)]), (vec![], true));
    let whole = [(1, 1), (2, 1), (3, 1)];
    for requests in [&whole[..], &[(3, 1), (1, 1)], &[(4, 1), (2, 1), (1, 1)], &[(1, 1), (1, 1)], &[]] {
        let batch = Batch::new(table(requests).as_ref().clone());
        assert_eq!(pair(&bodies, requests), Pairing::Complete(batch), "{requests:?}");
    }
    assert_eq!(pair(&bodies, &[(1, 1), (5, 1)]), Pairing::Missing);
    assert_eq!(pair(&bodies, &[(1, 2)]), Pairing::Missing);
    assert_eq!(pair(&bodies, &[(99, 1)]), Pairing::Missing, "a client that there is not");
}

#[test]
fn the_digest_decides_whatever_client_and_timestamp_are() {
    let mut bodies = new(10);
    keep(&mut bodies, &[(1, 1)]);
    let told =
        |client, timestamp| Manifest::new(vec![ClientId(client)], vec![Timestamp(timestamp)], vec![Digest([9; 32])]);
    assert_eq!(bodies.pair(&told(1, 1), &mut 0, false), Pairing::Missing);
    let digests = manifest(&[(1, 1)]).digests().to_vec();
    let misled = Manifest::new(vec![ClientId(2)], vec![Timestamp(1)], digests);
    assert_eq!(bodies.pair(&misled, &mut 0, false), Pairing::Missing);
}

#[test]
fn the_search_goes_on_where_it_stopped_and_back_to_what_has_gone_meanwhile() {
    let mut bodies = new(10);
    let manifest = manifest(&[(1, 1), (2, 1), (3, 1)]);
    let mut found = 0;
    keep(&mut bodies, &[(1, 1), (3, 1)]);
    assert_eq!((bodies.pair(&manifest, &mut found, false), found), (Pairing::Missing, 1));
    keep(&mut bodies, &[(1, 2)]);
    keep(&mut bodies, &[(1, 3)]);
    keep(&mut bodies, &[(2, 1)]);
    assert_eq!((bodies.pair(&manifest, &mut found, false), found), (Pairing::Missing, 0), "client 1 went on");
}

#[test]
fn two_requests_of_a_client_are_kept_until_they_are_executed() {
    let mut bodies = new(10);
    for timestamp in 1..=3 {
        assert_eq!(keep(&mut bodies, &[(1, timestamp)]), (vec![], true));
    }
    assert_eq!(pair(&bodies, &[(1, 1)]), Pairing::Missing);
    assert!(matches!(pair(&bodies, &[(1, 2), (1, 3)]), Pairing::Complete(_)));
    bodies.note_executed(ClientId(1), Timestamp(2));
    assert_eq!(pair(&bodies, &[(1, 2)]), Pairing::Missing);
    assert!(matches!(pair(&bodies, &[(1, 3)]), Pairing::Complete(_)));
    bodies.note_executed(ClientId(1), Timestamp(5));
    assert_eq!((bodies.bytes, bodies.by_age.len(), bodies.by_principal.len()), (0, 0, 0));
    assert!(bodies.tables.iter().all(Option::is_none) && bodies.free.len() == bodies.tables.len());
    let table = table(&[(1, 3), (1, 5), (1, 4), (1, 6)]);
    let kept = Kept { again: vec![0, 2], any: true, late: true };
    assert_eq!(bodies.keep(&table, PRINCIPAL, Time(0)), kept, "what was executed is late the first time");
}

#[test]
fn each_client_node_has_its_share_and_the_largest_makes_room_for_others() {
    let mut bodies = new(100);
    let bytes = sized_table(&[(0, 1)], 1000).bytes();
    (bodies.node_bytes_max, bodies.bytes_max) = (3 * bytes, 5 * bytes);
    let keep = |bodies: &mut Bodies, client: u32, principal, now| {
        let Kept { again, any, late } = bodies.keep(&sized_table(&[(client, 1)], 1000), principal, Time(now));
        assert!(again.is_empty() && !late);
        assert!(bodies.bytes <= bodies.bytes_max && bodies.by_principal.values().all(|held| *held <= 3 * bytes));
        any
    };
    let held = |bodies: &Bodies| {
        (0..100u32).filter(|client| pair(bodies, &[(*client, 1)]) != Pairing::Missing).collect::<Vec<_>>()
    };
    assert_eq!([0, 1, 2, 3].map(|client| keep(&mut bodies, client, 0, 0)), [true, true, true, false]);
    assert_eq!(held(&bodies), [0, 1, 2], "what came first is proposed first");
    assert_eq!([50, 51, 60].map(|client| keep(&mut bodies, client, client / 10 * 10, 0)), [true; 3]);
    assert_eq!(held(&bodies), [1, 2, 50, 51, 60], "whoever has most makes room");
    assert!(!keep(&mut bodies, 52, 50, STALE_NS - 1), "but not for somebody who would have more then");
    assert!(keep(&mut bodies, 53, 50, STALE_NS));
    assert_eq!(held(&bodies), [1, 2, 51, 53, 60], "what has waited for long makes room");
    // What had to make room, and what found none, is welcome when it comes again, and counts as such.
    bodies.note_executed(ClientId(1), Timestamp(1));
    let table = sized_table(&[(0, 1), (2, 1), (3, 1)], 100);
    assert_eq!(bodies.keep(&table, 0, Time(STALE_NS)), Kept { again: vec![0, 1, 2], any: true, late: false });
    assert_eq!(held(&bodies), [0, 2, 3, 51, 53, 60]);
}

#[test]
fn a_request_that_is_twice_in_a_table_is_kept_once() {
    let mut bodies = new(10);
    assert_eq!(keep(&mut bodies, &[(1, 1), (1, 1), (1, 2)]), (vec![1], true));
    for timestamp in [1, 2] {
        assert!(bodies.bytes > 0 && matches!(pair(&bodies, &[(1, timestamp)]), Pairing::Complete(_)));
        bodies.note_executed(ClientId(1), Timestamp(timestamp));
    }
    assert_eq!(bodies.bytes, 0);
}

#[test]
fn more_operations_than_a_batch_may_have_are_no_batch() {
    let mut bodies = new(10);
    let half = OPERATIONS_BYTES_MAX / 2;
    for client in 0..3 {
        bodies.keep(&sized_table(&[(client, 1)], half), PRINCIPAL, Time(0));
    }
    assert!(matches!(pair(&bodies, &[(0, 1), (1, 1)]), Pairing::Complete(_)));
    assert_eq!(pair(&bodies, &[(0, 1), (1, 1), (2, 1)]), Pairing::TooLong);
}

#[test]
fn the_newest_request_of_each_client_is_told_oldest_first() {
    let mut bodies = new(10);
    keep(&mut bodies, &[(1, 1), (2, 1)]);
    bodies.keep(&table(&[(7, 1)]), 7, Time(0));
    keep(&mut bodies, &[(1, 2), (3, 1)]);
    bodies.note_executed(ClientId(3), Timestamp(1));
    let told = |bodies: &Bodies| {
        let of = |table: &RequestTable| table.clients.iter().zip(&table.timestamps).map(|(c, t)| (c.0, t.0)).collect();
        bodies.newest().iter().map(of).collect::<Vec<Vec<(u32, u64)>>>()
    };
    assert_eq!(told(&bodies), [vec![(2, 1)], vec![(7, 1)], vec![(1, 2)]]);
}
