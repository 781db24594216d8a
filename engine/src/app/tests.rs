//! What holds for every application.

use super::burning::Burning;
use super::faulty::Wrong;
use super::kv::{Kv, Operation};
use super::null::Null;
use super::*;
use crate::limits::RESULT_BYTES_MAX;
use crate::requests::RequestTable;

/// Operations in the columns of a table.
fn table(operations: &[Vec<u8>]) -> RequestTable {
    let mut end = 0;
    let ends = operations.iter().map(|operation| {
        end += u32::try_from(operation.len()).unwrap();
        end
    });
    RequestTable { operation_ends: ends.collect(), operations: operations.concat().into(), ..RequestTable::empty() }
}

type Twins = [Box<dyn Application>; 2];

/// Two of the same kind, and operations for them.
fn twins() -> Vec<(&'static str, Twins, Vec<Vec<u8>>)> {
    let null = |bytes: usize| -> Twins { [0, 1].map(|_| Box::new(Null::new(bytes)) as Box<_>) };
    let keyed = |at: u8| {
        let (key, mut bytes) = (u64::from(at % 3), Vec::new());
        let operation =
            if at.is_multiple_of(2) { Operation::Insert { key, value: &[at; 20] } } else { Operation::Read { key } };
        operation.encode(&mut bytes);
        bytes
    };
    let wraps: fn(Box<dyn Application>) -> Box<dyn Application> = |inner| Box::new(Wrong::new(inner, 3));
    let burns: fn(Box<dyn Application>) -> Box<dyn Application> = |inner| Box::new(Burning::new(inner, 1));
    let small: Vec<_> = (0..9).map(|at| vec![at; usize::from(at % 4)]).collect();
    vec![
        ("null, 0 bytes", null(0), small.clone()),
        ("null, 1 byte", null(1), small.clone()),
        ("null, 16 bytes", null(16), small.clone()),
        ("null, the longest result", null(RESULT_BYTES_MAX), small[..3].to_vec()),
        ("kv", [0, 1].map(|_| Box::new(Kv::new()) as Box<_>), (0..9).map(keyed).collect()),
        ("wrong", null(16).map(wraps), small.clone()),
        ("burning", null(16).map(burns), small),
    ]
}

#[test]
fn a_run_is_executed_as_its_operations_one_by_one() {
    for (name, [mut whole, mut single], operations) in twins() {
        let table = table(&operations);
        let result_bytes = {
            let mut result = Vec::new();
            single.fresh().execute(&operations[0], &mut result);
            result.len()
        };
        let boundaries =
            [0, 1, 2 * result_bytes, (2 * result_bytes).saturating_sub(1), 2 * result_bytes + 1, usize::MAX];
        for enough_bytes in boundaries {
            for range in [0..operations.len(), 0..0, 2..operations.len()] {
                for before in [&b""[..], b"before"] {
                    let (mut results, mut expected) = (before.to_vec(), before.to_vec());
                    let (mut lengths, mut expected_lengths) = (vec![7], vec![7]);
                    whole.execute_run(table.operations(range.clone()), enough_bytes, &mut results, &mut lengths);
                    for operation in &operations[range.clone()] {
                        let start = expected.len();
                        single.execute(operation, &mut expected);
                        expected_lengths.push(u32::try_from(expected.len() - start).unwrap());
                        if expected.len() >= enough_bytes {
                            break;
                        }
                    }
                    assert_eq!(lengths, expected_lengths, "{name}: {range:?}, {enough_bytes}");
                    assert!(results == expected, "{name}: {range:?}, {enough_bytes}");
                    assert_eq!(whole.digest(), single.digest(), "{name}: {range:?}, {enough_bytes}");
                }
            }
        }
    }
}

#[test]
fn operations_follow_each_other_as_in_the_table() {
    let all: Vec<Vec<u8>> = vec![vec![1; 3], vec![], vec![2; 70], vec![3]];
    let table = table(&all);
    for range in [0..0, 0..4, 1..3, 2..4, 4..4] {
        let mut operations = table.operations(range.clone());
        for at in range.clone() {
            assert_eq!(operations.len(), range.end - at);
            assert_eq!(operations.next(), Some(&all[at][..]), "{range:?}");
        }
        assert_eq!(operations.next(), None, "{range:?}");
    }
}
