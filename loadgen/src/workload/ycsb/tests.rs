//! Mixes, distributions, and checks: what a store answers passes, what it can not answer does not.

use std::collections::{HashMap, HashSet};

use hippodrome_engine::app::Application;
use hippodrome_engine::app::faulty::Wrong;
use hippodrome_engine::app::kv::Kv;
use proptest::prelude::*;

use super::*;

const CLIENTS: u32 = 8;

fn config(kind: WorkloadKind) -> YcsbConfig {
    YcsbConfig { records: 200, ..YcsbConfig::new(kind, CLIENTS) }
}

fn one(config: &YcsbConfig) -> Ycsb {
    Ycsb::for_threads(config, 1).unwrap().remove(0)
}

fn store(config: &YcsbConfig) -> Box<dyn Application> {
    Box::new(Kv::with_records(config.records, kv::VALUE_BYTES))
}

fn execute(app: &mut dyn Application, operation: &[u8]) -> Vec<u8> {
    let mut result = Vec::new();
    app.execute(operation, &mut result);
    result
}

/// The first `count` operations of client 0.
fn operations(config: &YcsbConfig, count: u64) -> Vec<Vec<u8>> {
    let mut workload = one(config);
    (1..=count)
        .map(|timestamp| {
            let mut operation = Vec::new();
            workload.next(ClientId(0), Timestamp(timestamp), &mut operation);
            operation
        })
        .collect()
}

/// Two load generators of two threads each, four of whose clients have an operation outstanding; these are executed in
/// the order `choices` says. Returns how many results passed and failed.
fn run(kind: WorkloadKind, app: &mut dyn Application, choices: &[u8]) -> (usize, usize) {
    let half = CLIENTS / 2;
    let node = |node: u32| YcsbConfig { node, nodes: 2, clients: node * half..(node + 1) * half, ..config(kind) };
    let mut workloads: Vec<Ycsb> = (0..2).flat_map(|number| Ycsb::for_threads(&node(number), 2).unwrap()).collect();
    let mut timestamps = HashMap::new();
    let mut waiting: Vec<(usize, ClientId, Timestamp, Vec<u8>)> = Vec::new();
    let (mut passed, mut failed) = (0, 0);
    for (step, choice) in choices.iter().enumerate() {
        let thread = step % 4;
        let client = ClientId((thread * 2 + usize::from(*choice) % 2) as u32);
        if waiting.iter().all(|(_, other, ..)| *other != client) {
            let timestamp = timestamps.entry(client).or_insert(Timestamp(0));
            timestamp.0 += 1;
            let mut operation = Vec::new();
            workloads[thread].next(client, *timestamp, &mut operation);
            app.validate(&operation).unwrap();
            waiting.push((thread, client, *timestamp, operation));
        }
        if waiting.len() >= 4 {
            let (thread, client, timestamp, operation) = waiting.swap_remove(usize::from(*choice) % 4);
            let result = execute(app, &operation);
            if workloads[thread].check(client, timestamp, &result) { passed += 1 } else { failed += 1 }
        }
    }
    (passed, failed)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_correct_store_passes_every_check(choices in prop::collection::vec(any::<u8>(), 1500)) {
        for kind in WorkloadKind::ALL {
            let (passed, failed) = run(kind, store(&config(kind)).as_mut(), &choices);
            prop_assert_eq!(failed, 0, "{:?}", kind);
            prop_assert!(passed > 1000);
        }
    }
}

#[test]
fn a_wrong_store_fails_every_check() {
    let choices: Vec<u8> = (0..1500u32).map(|step| (step * 7 / 3) as u8).collect();
    for kind in WorkloadKind::ALL {
        let mut wrong = Wrong::new(store(&config(kind)), 0);
        let (passed, failed) = run(kind, &mut wrong, &choices);
        assert!(passed == 0 && failed > 1000, "{kind:?}: {passed} passed");
    }
}

#[test]
fn mixes_have_their_shares() {
    let decoded = |operation: &[u8]| match Operation::decode(operation).unwrap() {
        Operation::Read { .. } => Action::Read,
        Operation::Insert { .. } => Action::Insert,
        Operation::Update { .. } => Action::Update,
        Operation::ReadModifyWrite { .. } => Action::ReadModifyWrite,
        Operation::Scan { .. } => Action::Scan,
    };
    for kind in WorkloadKind::ALL {
        let (frequent, percent, rare) = kind.mix();
        let actions: Vec<_> = operations(&config(kind), 20_000).iter().map(|bytes| decoded(bytes)).collect();
        let share = actions.iter().filter(|action| **action == frequent).count() as f64 / 20_000.0;
        assert!((share - f64::from(percent) / 100.0).abs() < 0.015, "{kind:?}: {share}");
        assert!(actions.iter().all(|action| [frequent, rare].contains(action)));
    }
}

fn key_of(operation: &[u8]) -> Key {
    match Operation::decode(operation).unwrap() {
        Operation::Scan { start: key, .. }
        | Operation::Read { key }
        | Operation::Insert { key, .. }
        | Operation::Update { key, .. }
        | Operation::ReadModifyWrite { key, .. } => key,
    }
}

#[test]
fn popularity_follows_the_exponent() {
    let top_share = |theta| {
        let config = YcsbConfig { theta, records: 10_000, ..config(WorkloadKind::C) };
        let mut counts = HashMap::new();
        for operation in operations(&config, 100_000) {
            *counts.entry(key_of(&operation)).or_insert(0u64) += 1;
        }
        assert!(counts.keys().all(|key| *key < 10_000));
        counts.into_values().max().unwrap() as f64 / 100_000.0
    };
    // Uniform: about 10 of 100,000 each. Zipf with 0.99 over 10,000: the first has 1 / H = 1 / 10.2.
    assert!(top_share(0.0) < 0.0005);
    assert!((top_share(0.99) - 0.098).abs() < 0.01, "{}", top_share(0.99));
}

#[test]
fn spreading_keys_is_a_permutation_that_parts_neighbours() {
    for records in [1, 2, 3, 6, 100, 9999, 10_000] {
        let keys: Vec<u64> = (1..=records).map(|rank| rank * spread(records) % records).collect();
        assert_eq!(keys.iter().collect::<HashSet<_>>().len() as u64, records);
        assert!(records < 100 || keys.windows(2).all(|pair| pair[0].abs_diff(pair[1]) > records / 10));
    }
}

#[test]
fn a_seed_fixes_the_operations_and_each_thread_has_its_own() {
    let config = config(WorkloadKind::A);
    assert_eq!(operations(&config, 50), operations(&config, 50));
    assert_ne!(operations(&config, 50), operations(&YcsbConfig { seed: 1, ..config.clone() }, 50));
    let mut threads = Ycsb::for_threads(&config, 2).unwrap();
    let mut first = || threads.iter_mut().map(|thread| thread.choose(Timestamp(1)).key).collect::<Vec<_>>();
    let keys: Vec<_> = (0..20).map(|_| first()).collect();
    assert!(keys.iter().any(|pair| pair[0] != pair[1]));
}

#[test]
fn reads_of_the_latest_follow_the_inserts_and_no_key_is_inserted_twice() {
    let config = config(WorkloadKind::D);
    let mut app = store(&config);
    let mut threads = Ycsb::for_threads(&config, 3).unwrap();
    let (mut inserted, mut new_reads, mut reads) = (HashSet::new(), 0, 0);
    for timestamp in 1..=20_000 {
        for (thread, client) in threads.iter_mut().zip(0..) {
            let mut operation = Vec::new();
            thread.next(ClientId(client), Timestamp(timestamp), &mut operation);
            match Operation::decode(&operation).unwrap() {
                Operation::Insert { key, .. } => assert!(key >= config.records && inserted.insert(key)),
                _ => {
                    reads += 1;
                    new_reads += u64::from(key_of(&operation) >= config.records);
                }
            }
            assert!(thread.check(ClientId(client), Timestamp(timestamp), &execute(app.as_mut(), &operation)));
        }
    }
    assert!(new_reads * 2 > reads, "{new_reads} of {reads} reads were of inserted records");
}

/// A workload of reads with one outstanding, and its key.
fn reading(overwritten: bool) -> (Ycsb, Key) {
    let mut workload = one(&config(WorkloadKind::C));
    let mut operation = Vec::new();
    workload.next(ClientId(1), Timestamp(5), &mut operation);
    let key = key_of(&operation);
    if overwritten {
        workload.shared.set_overwritten(key);
        operation.clear();
        while operation.is_empty() || key_of(&operation) != key {
            operation.clear();
            workload.next(ClientId(1), Timestamp(5), &mut operation);
        }
    }
    workload.next(ClientId(2), Timestamp(9), &mut operation);
    (workload, key)
}

#[test]
fn impossible_reads_are_recognised() {
    let written = |key, client, timestamp, bytes| {
        let mut value = vec![0; bytes];
        Origin { key, client: ClientId(client), timestamp: Timestamp(timestamp) }.write(&mut value);
        value
    };
    let size = kv::VALUE_BYTES;
    for overwritten in [false, true] {
        let (mut workload, key) = reading(overwritten);
        let mut damaged = written(key, 2, 9, size);
        damaged[50] ^= 1;
        for (value, possible, why) in [
            (kv::preloaded_value(key, size), !overwritten, "preloaded, if not overwritten"),
            (kv::preloaded_value(key + 1, size), false, "preloaded under another key"),
            (kv::preloaded_value(key, size + 1), false, "preloaded in another size"),
            (written(key, 2, 9, size), true, "written last by another client"),
            (written(key, 2, 10, size), false, "not issued yet"),
            (written(key, 2, 0, size), false, "no timestamp"),
            (written(key, 1, 4, size), true, "written before by the same client"),
            (written(key, 1, 5, size), false, "written by the read itself"),
            (written(key + 1, 2, 9, size), false, "written to another key"),
            (written(key, CLIENTS, 1, size), false, "written by nobody"),
            (written(key, 2, 9, size - 1), false, "written in another size"),
            (damaged, false, "damaged"),
            (vec![], false, "empty"),
        ] {
            let mut result = Vec::new();
            Outcome::Value(&value).encode(&mut result);
            assert_eq!(workload.check(ClientId(1), Timestamp(5), &result), possible, "{why}");
            assert!(!workload.check(ClientId(1), Timestamp(4), &result), "another operation's");
            assert!(!workload.check(ClientId(CLIENTS), Timestamp(5), &result), "another load generator's");
        }
        for outcome in [Outcome::Done, Outcome::NotFound, Outcome::Invalid] {
            let mut result = Vec::new();
            outcome.encode(&mut result);
            assert!(!workload.check(ClientId(1), Timestamp(5), &result), "{outcome:?}");
        }
    }
}

#[test]
fn a_scan_may_not_leave_out_or_add_records() {
    let config = config(WorkloadKind::E);
    let mut workload = one(&config);
    let (mut operation, mut timestamp) = (Vec::new(), Timestamp(0));
    let (start, count) = loop {
        operation.clear();
        timestamp.0 += 1;
        workload.next(ClientId(0), timestamp, &mut operation);
        match Operation::decode(&operation).unwrap() {
            Operation::Scan { start, count } if count > 3 && start + u64::from(count) < config.records => {
                break (start, u64::from(count));
            }
            _ => {}
        }
    };
    let mut check = |keys: &mut dyn Iterator<Item = Key>| {
        let mut result = vec![4];
        for key in keys {
            result.extend_from_slice(&key.to_le_bytes());
            result.extend_from_slice(&(kv::VALUE_BYTES as u32).to_le_bytes());
            result.extend(kv::preloaded_value(key, kv::VALUE_BYTES));
        }
        workload.check(ClientId(0), timestamp, &result)
    };
    let end = start + count;
    assert!(check(&mut (start..end)));
    assert!(!check(&mut (start..end - 1)), "too few");
    assert!(!check(&mut (start..=end)), "too many");
    assert!(!check(&mut (start + 1..=end)), "the first left out");
    assert!(!check(&mut (start..=end).filter(|key| *key != start + 1)), "one left out");
    assert!(!check(&mut (start..end).rev()), "out of order");
    assert!(!check(&mut std::iter::empty()), "none");
}

#[test]
fn options_that_can_not_be_are_named() {
    let valid = config(WorkloadKind::A);
    for (config, message) in [
        (YcsbConfig { records: 0, ..valid.clone() }, "records = 0: allowed: 1 to 4294967295"),
        (
            YcsbConfig { value_bytes: 19, ..valid.clone() },
            "value_bytes = 19: allowed: 20 (a value names its writer) to 16384",
        ),
        (YcsbConfig { theta: -0.1, ..valid.clone() }, "zipf = -0.1: allowed: 0 (uniform) or more"),
        (YcsbConfig { clients: 0..9, ..valid.clone() }, "clients = 0..9: allowed: up to 8"),
        (YcsbConfig { node: 1, ..valid.clone() }, "node = 1: allowed: less than 1"),
    ] {
        let Err(error) = Ycsb::for_threads(&config, 1) else { panic!("{message}") };
        assert_eq!(error.to_string(), message);
    }
}

/// A store that answers reads from a state which is some writes behind, as a client would be told that took too few
/// replicas' word.
#[test]
fn reads_that_are_behind_are_counted() {
    for (behind, expected) in [(0, false), (40, true)] {
        let config = YcsbConfig { timed: true, records: 20, ..config(WorkloadKind::A) };
        let (mut app, mut late) = (store(&config), store(&config));
        let mut writes = std::collections::VecDeque::new();
        let mut workload = one(&config);
        for timestamp in 1..=2000 {
            for client in 0..CLIENTS {
                let mut operation = Vec::new();
                workload.next(ClientId(client), Timestamp(timestamp), &mut operation);
                let result = if kv::is_read(&operation) {
                    execute(late.as_mut(), &operation)
                } else {
                    writes.push_back(operation.clone());
                    execute(app.as_mut(), &operation)
                };
                while writes.len() > behind
                    && let Some(write) = writes.pop_front()
                {
                    execute(late.as_mut(), &write);
                }
                // A preloaded value that was overwritten is known to be impossible.
                let possible = workload.check(ClientId(client), Timestamp(timestamp), &result);
                assert!(possible || expected);
            }
        }
        assert_eq!(workload.stale_reads() > 0, expected, "{behind} writes behind: {}", workload.stale_reads());
    }
}

/// In order, so nothing is ever stale, scans and all that the mixes have.
#[test]
fn what_is_up_to_date_is_never_taken_for_stale() {
    for kind in WorkloadKind::ALL {
        let config = YcsbConfig { timed: true, ..config(kind) };
        let mut app = store(&config);
        let mut threads = Ycsb::for_threads(&config, 2).unwrap();
        for timestamp in 1..=500 {
            for (thread, client) in threads.iter_mut().zip(0..) {
                let mut operation = Vec::new();
                thread.next(ClientId(client), Timestamp(timestamp), &mut operation);
                assert!(thread.check(ClientId(client), Timestamp(timestamp), &execute(app.as_mut(), &operation)));
            }
        }
        assert!(threads.iter().all(|thread| thread.stale_reads() == 0), "{kind:?}");
    }
}
