//! A log begins new segments while the process has no file descriptor left: whoever connects may take them all. And a
//! low limit is raised as far as it may be. The limit holds for the whole process, so this is the only test here.

use std::fs::File;

use hippodrome_engine::protocol::Record;
use hippodrome_engine::storage::backend::Plain;
use hippodrome_engine::storage::{Directory, Identity, Log};
use hippodrome_engine::transport::raise_descriptor_limit;
use hippodrome_engine::types::{Digest, ReplicaId, SequenceNumber};

use crate::common::leave_no_descriptor;

mod common;

const SEGMENT_BYTES: u64 = 500;
const SEGMENTS: u64 = 5;

#[test]
fn segments_are_begun_without_a_free_descriptor() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::open(root.path()).unwrap();
    let own = Identity { fingerprint: [7; 32], replica: ReplicaId(1) };
    let mut log = Log::create(&directory, own, Box::new(Plain), SEGMENT_BYTES).unwrap();

    let before = leave_no_descriptor();
    assert!(File::open("/dev/null").is_err(), "there is none left");
    let mut outcome = Ok(());
    let mut sequence = 0;
    while outcome.is_ok() && log.appended_bytes() < SEGMENTS * SEGMENT_BYTES {
        sequence += 1;
        log.append(&Record::Committed(SequenceNumber(sequence), Digest([1; 32])));
        outcome = log.write(true);
    }
    // What a replica does at its start.
    let allowed = raise_descriptor_limit().unwrap();
    assert!(allowed >= before && File::open("/dev/null").is_ok());
    outcome.unwrap();
    let names = std::fs::read_dir(root.path()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    assert!(names.filter(|name| name.starts_with("wal-")).count() as u64 >= SEGMENTS);
}
