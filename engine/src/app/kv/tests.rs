//! The store against a plain map, its codecs, its incremental digest, and its snapshots.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// An operation that owns its value.
#[derive(Clone, Debug)]
enum Owned {
    Read(Key),
    Insert(Key, Vec<u8>),
    Update(Key, Vec<u8>),
    ReadModifyWrite(Key, Vec<u8>),
    Scan(Key, u16),
}

impl Owned {
    fn borrow(&self) -> Operation<'_> {
        match self {
            Self::Read(key) => Operation::Read { key: *key },
            Self::Insert(key, value) => Operation::Insert { key: *key, value },
            Self::Update(key, value) => Operation::Update { key: *key, value },
            Self::ReadModifyWrite(key, value) => Operation::ReadModifyWrite { key: *key, value },
            Self::Scan(start, count) => Operation::Scan { start: *start, count: *count },
        }
    }

    fn encoded(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.borrow().encode(&mut bytes);
        bytes
    }
}

/// Keys that meet often, at the edges of leaves and groups, and at both ends of the key space.
fn key() -> impl Strategy<Value = Key> {
    prop_oneof![0u64..200, 4090u64..4100, Key::MAX - 70..=Key::MAX]
}

fn operation() -> impl Strategy<Value = Owned> {
    let value = || prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        key().prop_map(Owned::Read),
        (key(), value()).prop_map(|(key, value)| Owned::Insert(key, value)),
        (key(), value()).prop_map(|(key, value)| Owned::Update(key, value)),
        (key(), value()).prop_map(|(key, value)| Owned::ReadModifyWrite(key, value)),
        (key(), 0..20u16).prop_map(|(start, count)| Owned::Scan(start, count)),
    ]
}

fn execute(kv: &mut Kv, operation: &[u8]) -> Vec<u8> {
    let mut result = Vec::new();
    kv.execute(operation, &mut result);
    result
}

fn chunks(kv: &Kv) -> Vec<Vec<u8>> {
    let mut chunks = Vec::new();
    kv.snapshot(&mut |chunk| chunks.push(chunk.to_vec()));
    chunks
}

/// A store with the same records that has never computed a digest.
fn rebuilt(kv: &Kv) -> Kv {
    let mut other = Kv::new();
    for (&key, value) in &kv.records {
        other.put(key, value);
    }
    other
}

/// What the oracle, a plain map, says of an operation.
fn expect(oracle: &mut BTreeMap<Key, Vec<u8>>, operation: &Owned) -> Vec<u8> {
    let mut result = Vec::new();
    match operation {
        Owned::Read(key) => {
            oracle.get(key).map_or(Outcome::NotFound, |value| Outcome::Value(value)).encode(&mut result)
        }
        Owned::Insert(key, value) => {
            oracle.insert(*key, value.clone());
            Outcome::Done.encode(&mut result);
        }
        Owned::Update(key, value) => {
            let outcome = if oracle.contains_key(key) { Outcome::Done } else { Outcome::NotFound };
            oracle.entry(*key).and_modify(|stored| stored.clone_from(value));
            outcome.encode(&mut result);
        }
        Owned::ReadModifyWrite(key, value) => match oracle.get_mut(key) {
            Some(stored) => Outcome::Value(&std::mem::replace(stored, value.clone())).encode(&mut result),
            None => Outcome::NotFound.encode(&mut result),
        },
        Owned::Scan(start, count) => {
            let records = oracle.range(start..).take(usize::from(*count));
            operation::encode_records(records.map(|(&key, value)| (key, &value[..])), usize::MAX / 2, &mut result);
        }
    }
    result
}

proptest! {
    #[test]
    fn the_store_behaves_like_a_map(operations in prop::collection::vec((operation(), any::<bool>()), 1..200)) {
        let (mut kv, mut oracle) = (Kv::new(), BTreeMap::new());
        for (operation, take_digest) in &operations {
            let bytes = operation.encoded();
            prop_assert_eq!(Operation::decode(&bytes), Ok(operation.borrow()));
            let mut queried = Vec::new();
            let read_only = kv.query(&bytes, &mut queried).is_some();
            prop_assert_eq!(read_only, matches!(operation, Owned::Read(_) | Owned::Scan(..)));
            let result = execute(&mut kv, &bytes);
            prop_assert_eq!(&result, &expect(&mut oracle, operation));
            prop_assert!(!read_only || queried == result);
            if *take_digest {
                kv.digest();
            }
        }
        prop_assert_eq!(&kv.records, &oracle);
        prop_assert_eq!(kv.digest(), rebuilt(&kv).digest());
    }

    #[test]
    fn a_restored_store_equals_its_source(
        operations in prop::collection::vec(operation(), 0..200),
        records in 0u64..1000,
    ) {
        let mut kv = Kv::with_records(records, 10);
        for operation in &operations {
            execute(&mut kv, &operation.encoded());
        }
        let mut restored = Kv::with_records(3, 1);
        restored.digest();
        restored.restore(&mut chunks(&kv).into_iter()).unwrap();
        prop_assert_eq!(&restored.records, &kv.records);
        prop_assert_eq!(restored.digest(), kv.digest());
        prop_assert_eq!(chunks(&restored), chunks(&kv));
    }

    #[test]
    fn any_bytes_are_an_operation_or_refused_with_one_result(bytes in prop::collection::vec(any::<u8>(), 0..30)) {
        let mut kv = Kv::with_records(5, 10);
        let before = kv.digest();
        let valid = kv.validate(&bytes).is_ok();
        let result = execute(&mut kv, &bytes);
        prop_assert_eq!(Outcome::decode(&result) == Some(Outcome::Invalid), !valid);
        prop_assert!(valid || kv.digest() == before);
    }

    #[test]
    fn any_bytes_are_an_outcome_or_not_but_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        if let Some(outcome) = Outcome::decode(&bytes) {
            let mut again = Vec::new();
            outcome.encode(&mut again);
            prop_assert_eq!(again, bytes);
        }
    }
}

#[test]
fn malformed_operations_are_named() {
    let scan = |count: u16| Owned::Scan(0, count).encoded();
    let write = |bytes| Owned::Insert(0, vec![0; bytes]).encoded();
    let kv = Kv::new();
    for (bytes, what) in [
        (vec![], "empty"),
        (vec![1, 2, 3], "ends within the key"),
        ([Owned::Read(1).encoded(), vec![0]].concat(), "a read has nothing after the key"),
        (scan(1)[..10].to_vec(), "a scan has two bytes of count after the key"),
        (scan(SCAN_RECORDS_MAX + 1), "scan of 1001 records: at most 1000"),
        (write(VALUE_BYTES_MAX + 1), "value of 16385 bytes: at most 16384"),
        (vec![9; 9], "unknown operation 9"),
    ] {
        assert_eq!(kv.validate(&bytes), Err(InvalidOperation(what.into())));
    }
    assert_eq!(kv.validate(&scan(SCAN_RECORDS_MAX)), Ok(()));
    assert_eq!(kv.validate(&write(VALUE_BYTES_MAX)), Ok(()));
}

#[test]
fn preloaded_records_are_found_under_their_keys() {
    let mut kv = open_kv();
    for key in [0, 1, RECORDS - 1] {
        let result = execute(&mut kv, &Owned::Read(key).encoded());
        assert_eq!(Outcome::decode(&result), Some(Outcome::Value(&preloaded_value(key, VALUE_BYTES))));
    }
    let result = execute(&mut kv, &Owned::Read(RECORDS).encoded());
    assert_eq!(Outcome::decode(&result), Some(Outcome::NotFound));
    assert_ne!(preloaded_value(1, 20), preloaded_value(2, 20));
    assert_eq!(preloaded_value(1, 20)[..13], preloaded_value(1, 13));
    assert_eq!(kv.digest(), open_kv().digest());
}

fn open_kv() -> Kv {
    Kv::with_records(RECORDS, VALUE_BYTES)
}

#[test]
fn a_scan_ends_where_its_result_would_become_too_long() {
    let mut kv = Kv::with_records(100, VALUE_BYTES_MAX);
    let result = execute(&mut kv, &Owned::Scan(10, 50).encoded());
    assert!(result.len() <= SCAN_BYTES_MAX && result.len() + RECORD_HEADER_BYTES + VALUE_BYTES_MAX > SCAN_BYTES_MAX);
    let Some(Outcome::Records(records)) = Outcome::decode(&result) else { panic!("not records") };
    assert!(records.iter().map(|(key, _)| key).eq(10..10 + records.iter().count() as u64));
}

#[test]
fn snapshots_that_are_not_whole_are_refused_and_change_nothing() {
    let whole = chunks(&Kv::with_records(600, 300));
    assert_eq!(whole.len(), 1 + 3);
    let mut kv = Kv::with_records(2, 10);
    let before = kv.digest();
    let mut cut = whole.clone();
    cut[1].pop();
    let mut swapped = whole.clone();
    swapped.swap(1, 2);
    for wrong in [vec![], whole[1..].to_vec(), whole[..3].to_vec(), cut, swapped] {
        assert!(kv.restore(&mut wrong.into_iter()).is_err());
        assert_eq!(kv.digest(), before);
    }
}

#[test]
fn noted_changes_stay_bounded_without_digests() {
    let mut kv = open_kv();
    for round in 0..100_000u64 {
        kv.put(round % RECORDS, b"again");
    }
    assert_eq!(kv.digest(), rebuilt(&kv).digest());
}

#[test]
fn a_version_tells_a_record_that_came_back_from_one_that_never_changed() {
    let mut kv = Kv::new().versioned().preloaded(3, 20);
    let version = |kv: &Kv, operation: &Owned| kv.query(&operation.encoded(), &mut Vec::new()).unwrap();
    let read = Owned::Read(1);
    let first = version(&kv, &read);
    execute(&mut kv, &Owned::Update(2, b"other".to_vec()).encoded());
    assert_eq!(version(&kv, &read), first, "another record");
    let scan = Owned::Scan(0, 3);
    let scanned = version(&kv, &scan);
    let (mut before, mut after) = (Vec::new(), Vec::new());
    kv.query(&read.encoded(), &mut before);
    execute(&mut kv, &Owned::Insert(1, b"u".to_vec()).encoded());
    execute(&mut kv, &Owned::ReadModifyWrite(1, preloaded_value(1, 20)).encoded());
    kv.query(&read.encoded(), &mut after);
    assert_eq!(before, after);
    assert!(version(&kv, &read) > first && version(&kv, &scan) > scanned);
    assert_eq!(version(&kv, &Owned::Read(99)), 0, "not there");
}

proptest! {
    /// Versions are part of the state: a restored store goes on counting where its source does.
    #[test]
    fn versions_survive_a_snapshot(operations in prop::collection::vec(operation(), 1..100), value_bytes in 0usize..40) {
        let mut kv = Kv::new().versioned().preloaded(5, value_bytes);
        let mut plain = Kv::with_records(5, value_bytes);
        for operation in &operations {
            prop_assert_eq!(execute(&mut kv, &operation.encoded()), execute(&mut plain, &operation.encoded()));
        }
        let mut restored = kv.fresh();
        restored.restore(&mut chunks(&kv).into_iter()).unwrap();
        prop_assert_eq!(restored.digest(), kv.digest());
        let write = Owned::Insert(3, b"next".to_vec()).encoded();
        restored.execute(&write, &mut Vec::new());
        execute(&mut kv, &write);
        prop_assert_eq!(restored.digest(), kv.digest());
        let (mut one, mut other) = (Vec::new(), Vec::new());
        let scan = Owned::Scan(0, 9).encoded();
        prop_assert_eq!(restored.query(&scan, &mut one), kv.query(&scan, &mut other));
        prop_assert_eq!(one, other);
    }
}

#[test]
fn the_largest_values_have_versions_too() {
    let kv = Kv::new().versioned().preloaded(2, VALUE_BYTES_MAX);
    let mut restored = kv.fresh();
    restored.restore(&mut chunks(&kv).into_iter()).unwrap();
    let short = Kv::with_records(2, 3); // has none, and too few bytes for any
    assert!(restored.restore(&mut chunks(&short).into_iter()).is_err());
}

proptest! {
    /// Whatever was executed undoably, and whenever digests were taken: taken back, the store is what it was, and goes
    /// on as one that never executed it.
    #[test]
    fn what_is_undone_never_was(
        before in prop::collection::vec(operation(), 0..30),
        undone in prop::collection::vec((operation(), any::<bool>()), 1..40),
        after in prop::collection::vec(operation(), 1..10),
        versions: bool,
    ) {
        let open = || if versions { Kv::new().versioned() } else { Kv::new() }.preloaded(70, 10);
        let (mut kv, mut plain) = (open(), open());
        for operation in before.iter().map(Owned::encoded) {
            prop_assert_eq!(execute(&mut kv, &operation), execute(&mut plain, &operation));
        }
        let mut notes = Vec::new();
        for (operation, takes_digest) in &undone {
            let digest = takes_digest.then(|| kv.digest());
            let (mut result, mut note) = (Vec::new(), Vec::new());
            kv.execute_undoably(&operation.encoded(), &mut result, &mut note);
            notes.push((digest, note));
        }
        for (digest, note) in notes.iter().rev() {
            kv.undo(note);
            if let Some(digest) = digest {
                prop_assert_eq!(kv.digest(), *digest);
            }
        }
        prop_assert_eq!(kv.digest(), plain.digest());
        for operation in after.iter().map(Owned::encoded) {
            prop_assert_eq!(execute(&mut kv, &operation), execute(&mut plain, &operation));
        }
        prop_assert_eq!(kv.digest(), plain.digest());
        prop_assert_eq!(kv.digest(), rebuilt(&kv).digest());
    }
}

#[test]
fn undoable_execution_gives_the_same_results_and_notes_only_what_changes() {
    let (mut kv, mut plain) = (open_kv(), open_kv());
    let value = || b"value".to_vec();
    for (operation, changes) in [
        (Owned::Read(1), false),
        (Owned::Scan(0, 5), false),
        (Owned::Update(Key::MAX, value()), false),
        (Owned::ReadModifyWrite(Key::MAX, value()), false),
        (Owned::Insert(Key::MAX, value()), true),
        (Owned::Update(1, value()), true),
        (Owned::ReadModifyWrite(1, Vec::new()), true),
    ] {
        let (mut result, mut note) = (Vec::new(), Vec::new());
        kv.execute_undoably(&operation.encoded(), &mut result, &mut note);
        assert_eq!(result, execute(&mut plain, &operation.encoded()), "{operation:?}");
        assert_eq!(!note.is_empty(), changes, "{operation:?}");
    }
    assert_eq!(kv.digest(), plain.digest());
}
