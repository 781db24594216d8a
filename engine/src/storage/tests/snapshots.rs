//! Snapshots that are whole, damaged, or superseded.

use std::fs;

use bytes::Bytes;

use super::OWN;
use crate::storage::snapshot::{Kept, Snapshot};
use crate::storage::{Identity, StorageError};
use crate::types::{Digest, ReplicaId, SequenceNumber};

fn snapshot(sequence: u64, first_segment: u64) -> Snapshot {
    let chunks = vec![Bytes::from_static(b"first"), Bytes::new(), Bytes::from_static(b"third")];
    Snapshot { sequence: SequenceNumber(sequence), digest: Digest([3; 32]), first_segment, chunks }
}

#[test]
fn snapshot_is_read_as_it_was_written() {
    let directory = tempfile::tempdir().unwrap();
    snapshot(128, 4).write(directory.path(), &OWN, &mut Kept::default()).unwrap();
    let path = directory.path().join("snapshot-00000000000000000128.bin");
    assert_eq!(Snapshot::read(&path, &OWN).unwrap(), snapshot(128, 4));
    let other = Identity { replica: ReplicaId(9), ..OWN };
    assert!(matches!(Snapshot::read(&path, &other), Err(StorageError::OtherReplica { .. })));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing but the snapshot");
}

#[test]
fn every_lost_and_every_flipped_byte_of_a_snapshot_is_seen() {
    let directory = tempfile::tempdir().unwrap();
    snapshot(128, 4).write(directory.path(), &OWN, &mut Kept::default()).unwrap();
    let bytes = fs::read(directory.path().join("snapshot-00000000000000000128.bin")).unwrap();
    assert!(Snapshot::decode(&bytes.clone().into()).is_ok());
    for len in 0..bytes.len() {
        assert!(Snapshot::decode(&Bytes::copy_from_slice(&bytes[..len])).is_err(), "{len} bytes");
    }
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x40;
        assert!(Snapshot::decode(&damaged.into()).is_err(), "byte {at}");
    }
    assert!(Snapshot::decode(&[&bytes[..], &[0]].concat().into()).is_err());
}

#[test]
fn two_snapshots_stay_with_the_log_that_the_older_one_needs() {
    let directory = tempfile::tempdir().unwrap();
    for number in 1..=9 {
        fs::write(directory.path().join(format!("wal-{number:010}.log")), b"").unwrap();
    }
    fs::write(directory.path().join("unrelated.log"), b"").unwrap();
    let mut kept = Kept::default();
    let names = || {
        let files = fs::read_dir(directory.path()).unwrap();
        let mut names: Vec<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    snapshot(128, 3).write(directory.path(), &OWN, &mut kept).unwrap();
    assert_eq!(names().len(), 1 + 1 + 9, "the only snapshot may turn out to be damaged");
    snapshot(256, 5).write(directory.path(), &OWN, &mut kept).unwrap();
    assert_eq!(names()[2..4], ["unrelated.log", "wal-0000000003.log"]);
    snapshot(384, 8).write(directory.path(), &OWN, &mut kept).unwrap();
    let snapshots = ["snapshot-00000000000000000256.bin", "snapshot-00000000000000000384.bin"];
    assert_eq!(names()[..2], snapshots);
    assert_eq!(names()[2..4], ["unrelated.log", "wal-0000000005.log"]);
}

/// A fetched state is written at once, and the very same is when its checkpoint becomes stable.
#[test]
fn snapshot_that_is_written_twice_does_not_push_out_the_one_before() {
    let directory = tempfile::tempdir().unwrap();
    let mut kept = Kept::default();
    for (sequence, first_segment) in [(128, 1), (256, 2), (256, 3)] {
        snapshot(sequence, first_segment).write(directory.path(), &OWN, &mut kept).unwrap();
    }
    let path = |sequence: u64| directory.path().join(format!("snapshot-{sequence:020}.bin"));
    assert_eq!(Snapshot::read(&path(128), &OWN).unwrap(), snapshot(128, 1));
    assert_eq!(Snapshot::read(&path(256), &OWN).unwrap(), snapshot(256, 3));
}

#[test]
fn snapshot_that_can_not_be_written_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let name = "snapshot-00000000000000000128.bin";
    // A directory that is not empty stands where the file is to go.
    fs::create_dir_all(directory.path().join(name).join("full")).unwrap();
    let mut kept = Kept::default();
    let error = snapshot(128, 4).write(directory.path(), &OWN, &mut kept).unwrap_err().to_string();
    assert!(error.contains(name), "{error}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing but that directory");
}

#[test]
fn snapshot_of_another_version_is_named() {
    let mut head = snapshot(128, 4).encode_head(&OWN);
    head[7] = 2;
    let sum = crc32fast::hash(&head[..96]);
    head[96..100].copy_from_slice(&sum.to_le_bytes());
    assert_eq!(Snapshot::decode(&head.into()).unwrap_err(), "version 2: allowed: 1");
}
