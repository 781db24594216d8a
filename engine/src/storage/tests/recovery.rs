//! Data directories over several starts, with real files.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tempfile::TempDir;

use super::super::directory::synced;
use super::{OWN, committed, new_view, one_of_each, pre_prepared, prepared, view_change};
use crate::protocol::Record;
use crate::settings::{Durability, OnCorruptLog};
use crate::storage::segment::HEAD_BYTES;
use crate::storage::{Identity, Memory, Snapshot, Storage, StorageError, StorageOptions, open};
use crate::types::{Digest, ReplicaId, SequenceNumber};

struct Home {
    _root: TempDir,
    options: StorageOptions,
}

impl Home {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let options = StorageOptions {
            path: root.path().join("replica-2"),
            durability: Durability::Wal,
            on_corrupt_log: OnCorruptLog::Refuse,
            snapshot_every_bytes: 256 << 20,
        };
        Self { _root: root, options }
    }

    fn open(&self) -> Result<Storage, StorageError> {
        open(&self.options, OWN, |_| Ok(()))
    }

    fn start(&self) -> Started {
        Started(self.open().unwrap())
    }

    fn refused(&self) -> String {
        let Err(error) = self.open() else { panic!("it was opened") };
        error.to_string()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.options.path.join(name)
    }

    fn segment(&self, number: u64) -> PathBuf {
        self.path(&format!("wal-{number:010}.log"))
    }

    fn files(&self, prefix: &str) -> Vec<String> {
        let files = fs::read_dir(&self.options.path).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name.starts_with(prefix)).collect();
        names.sort();
        names
    }
}

/// A storage in use, as a replica would.
struct Started(Storage);

impl Started {
    fn memory(&mut self) -> &mut Memory {
        self.0.memory.as_mut().unwrap()
    }

    fn records(&mut self) -> Vec<Record> {
        self.memory().records.clone()
    }

    fn write(&mut self, records: &[Record]) -> &mut Self {
        let log = &mut self.memory().log;
        records.iter().for_each(|record| log.append(record));
        log.write(true).unwrap();
        self
    }

    fn snapshot(&mut self, sequence: u64) -> &mut Self {
        let Memory { log, kept, .. } = self.memory();
        let sequence = SequenceNumber(sequence);
        let first_segment = log.first_needed(sequence);
        let snapshot =
            Snapshot { sequence, digest: Digest([7; 32]), first_segment, chunks: vec![Bytes::from_static(b"state")] };
        snapshot.write(log.directory(), &OWN, kept).unwrap();
        self
    }

    fn notes(&self) -> String {
        self.0.notes.join("\n")
    }
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

#[test]
fn what_was_written_is_read_at_every_later_start() {
    let home = Home::new();
    let mut expected = Vec::new();
    for sequence in 1..4 {
        let mut started = home.start();
        assert!(started.0.voting);
        assert_eq!(started.records(), expected);
        let group = vec![pre_prepared(sequence, b"operation"), prepared(sequence), committed(sequence)];
        started.write(&group[..2]).write(&group[2..]);
        expected.extend(group);
    }
    assert_eq!(home.start().records(), expected);
    assert_eq!(home.files("wal-").len(), 4);
}

/// What a start reads may be in the kernel's memory alone: the process before it was killed while it waited for the
/// disk, or was told that the disk has failed. It is written anew, into pages that have everything still before them.
#[test]
fn what_was_read_is_made_durable_before_anything_is_added() {
    let home = Home::new();
    home.start().write(&[prepared(1)]).write(&[prepared(2)]);
    let (whole, inode) = (fs::read(home.segment(1)).unwrap(), fs::metadata(home.segment(1)).unwrap().ino());
    let kept_open = fs::File::open(home.segment(1)).unwrap(); // so that its inode is not used again
    synced::take();
    let mut started = home.start();
    assert_eq!(started.records(), [prepared(1), prepared(2)]);
    let directory = &home.options.path;
    let first = home.path("wal-0000000001.log.tmp");
    assert_eq!(synced::take()[..4], [first, directory.clone(), home.segment(2), directory.clone()]);
    assert_eq!(fs::read(home.segment(1)).unwrap(), whole);
    assert_ne!(fs::metadata(home.segment(1)).unwrap().ino(), inode);
    drop(kept_open);
}

#[test]
fn directories_that_a_new_one_lies_in_are_made_durable() {
    let mut home = Home::new();
    let root = home.options.path.parent().unwrap().to_owned();
    home.options.path = root.join("some/where/replica-2");
    synced::take();
    drop(home.start());
    assert_eq!(synced::take()[..3], [root.clone(), root.join("some"), root.join("some/where")]);
    drop(home.start());
    assert!(!synced::take().contains(&root), "it was there");
}

#[test]
fn torn_log_is_cut_once_and_used_again() {
    let (first, second) = (vec![prepared(1), prepared(2)], vec![pre_prepared(3, b"x"), prepared(3)]);
    let home = Home::new();
    home.start().write(&first).write(&second);
    let whole = fs::read(home.segment(1)).unwrap();
    // Every single length is checked without files; each of these costs several waits for the disk.
    for len in (HEAD_BYTES..whole.len()).step_by(23) {
        let home = Home::new();
        drop(home.start());
        fs::write(home.segment(1), &whole[..len]).unwrap();
        let mut started = home.start();
        let records = started.records();
        assert_eq!(records, [first.clone(), second.clone()].concat()[..records.len()]);
        let kept = fs::metadata(home.segment(1)).unwrap().len();
        assert_eq!(started.notes().contains("cut at byte"), kept < len as u64, "{len}: {}", started.notes());
        started.write(&[prepared(9)]);
        drop(started);
        let mut again = home.start();
        assert_eq!(again.records(), [records, vec![prepared(9)]].concat());
        assert!(!again.notes().contains("cut"), "{}", again.notes());
    }
}

#[test]
fn damaged_middle_is_refused_and_nothing_is_touched() {
    let home = Home::new();
    home.start().write(&[prepared(1)]).write(&[prepared(2)]);
    flip(&home.segment(1), HEAD_BYTES + 30);
    let before = fs::read(home.segment(1)).unwrap();
    let error = home.refused();
    let parts = ["wal-0000000001.log: damaged at byte 72", "--on-corrupt-log refetch", "without a vote"];
    parts.iter().for_each(|part| assert!(error.contains(part), "'{error}' lacks '{part}'"));
    assert_eq!(fs::read(home.segment(1)).unwrap(), before);
    assert_eq!(home.files("wal-").len(), 1);
    // The same bytes at the end of the log are torn; behind a later segment they are damage.
    let home = Home::new();
    home.start().write(&[prepared(1)]);
    drop(home.start());
    flip(&home.segment(1), HEAD_BYTES + 30);
    assert!(home.refused().contains("a later segment says that these bytes were durable"));
}

#[test]
fn damaged_log_is_set_aside_on_demand_and_the_vote_is_gone_for_good() {
    let mut home = Home::new();
    home.start().write(&one_of_each()).snapshot(128).write(&[prepared(200)]).write(&[prepared(201)]);
    flip(&home.segment(1), HEAD_BYTES + 30);
    home.options.on_corrupt_log = OnCorruptLog::Refetch;
    let mut started = home.start();
    assert!(!started.0.voting);
    assert_eq!((started.records(), started.memory().saved.sequence), (vec![], SequenceNumber(0)));
    assert!(started.notes().contains("damaged-1") && started.notes().contains("never votes"), "{}", started.notes());
    started.write(&[prepared(300)]);
    drop(started);
    let aside = fs::read_dir(home.path("damaged-1")).unwrap().count();
    assert_eq!((aside, home.files("wal-").len(), home.files("snapshot-").len()), (2, 1, 0));
    home.options.on_corrupt_log = OnCorruptLog::Refuse;
    let mut again = home.start();
    assert!(!again.0.voting);
    assert_eq!(again.records(), [prepared(300)]);
}

#[test]
fn missing_and_misplaced_segments_are_refused() {
    let home = || {
        let home = Home::new();
        for sequence in 1..4 {
            home.start().write(&[prepared(sequence)]);
        }
        home
    };
    for missing in 1..3 {
        let home = home();
        fs::remove_file(home.segment(missing)).unwrap();
        let error = home.refused();
        let expected = format!("wal-{missing:010}.log: missing, the log has segments 1 to 3");
        assert!(error.contains(&expected), "{error}");
    }
    let none = home();
    (1..4).for_each(|number| fs::remove_file(none.segment(number)).unwrap());
    assert!(none.refused().contains("wal-0000000001.log: missing"), "{}", none.refused());
    for (from, to) in [(1, 2), (3, 4), (2, 1)] {
        let home = home();
        fs::copy(home.segment(from), home.segment(to)).unwrap();
        assert!(home.refused().contains(&format!("wal-{to:010}.log: is segment {from}")), "{}", home.refused());
    }
    let headless = home();
    fs::write(headless.segment(3), b"").unwrap();
    assert!(headless.refused().contains("wal-0000000003.log: damaged at byte 0"), "{}", headless.refused());
}

#[test]
fn directories_of_others_are_refused_whatever_is_asked_for() {
    let mut home = Home::new();
    drop(home.start());
    home.options.on_corrupt_log = OnCorruptLog::Refetch;
    for durability in [Durability::Wal, Durability::None] {
        home.options.durability = durability;
        let error = |identity| open(&home.options, identity, |_| Ok(())).err().unwrap().to_string();
        let other = error(Identity { fingerprint: [1; 32], ..OWN });
        assert!(other.contains("replica.toml: of the cluster f1f1f1f1f1f1f1f1.."), "{other}");
        let other = error(Identity { replica: ReplicaId(0), ..OWN });
        assert!(other.contains("of replica 2, this is replica 0"), "{other}");
    }
    assert_eq!(home.files("damaged").len(), 0);
    assert!(home.refused().contains("was used with durability = wal: allowed: wal"), "{}", home.refused());
}

#[test]
fn one_process_at_a_time() {
    let home = Home::new();
    let first = home.start();
    assert!(home.refused().contains("another process uses this data directory"));
    drop(first);
    drop(home.start());
}

#[test]
fn replica_without_a_log_votes_at_its_first_start_only() {
    let mut home = Home::new();
    home.options.durability = Durability::None;
    assert!(home.start().0.voting);
    for _ in 0..2 {
        let started = home.start();
        assert!(!started.0.voting);
        assert!(started.notes().contains("has forgotten its votes"), "{}", started.notes());
        assert!(started.0.memory.is_none());
    }
    // A log from now on does not bring back what was forgotten.
    home.options.durability = Durability::Wal;
    for _ in 0..2 {
        assert!(!home.start().0.voting);
    }
}

#[test]
fn unreadable_marker_is_no_first_start() {
    let home = Home::new();
    drop(home.start());
    fs::write(home.path("replica.toml"), "cluster = 1").unwrap();
    assert!(home.refused().contains("replica.toml: "), "{}", home.refused());
}

#[test]
fn views_outlive_the_segments_that_they_were_written_to() {
    let mut home = Home::new();
    home.options.snapshot_every_bytes = 4 * 500;
    let mut started = home.start();
    let (suspected, change) = (Record::Suspected(crate::types::View(3)), Record::ViewChange(view_change(4)));
    started.write(&[prepared(1), suspected.clone(), change.clone()]).write(&[new_view(4)]);
    for sequence in 2..40 {
        started.write(&[prepared(sequence), committed(sequence)]);
    }
    let segments = home.files("wal-").len();
    assert!(segments > 8, "{segments}");
    started.snapshot(20).snapshot(30);
    assert!(home.files("wal-").len() < segments);
    assert!(!home.segment(1).exists());
    drop(started);
    let mut again = home.start();
    let expected: Vec<Record> = (31..40).flat_map(|sequence| [prepared(sequence), committed(sequence)]).collect();
    assert_eq!(again.memory().saved.sequence, SequenceNumber(30));
    assert_eq!(again.records(), [vec![suspected.clone(), change, new_view(4)], expected].concat());
    // What was restored goes on being carried.
    let change = Record::ViewChange(view_change(5));
    again.write(std::slice::from_ref(&change));
    for sequence in 40..60 {
        again.write(&[prepared(sequence), committed(sequence)]);
    }
    again.snapshot(50).snapshot(59);
    drop(again);
    assert_eq!(home.start().records(), [suspected, new_view(4), change]);
}

#[test]
fn older_snapshot_takes_the_place_of_a_damaged_one() {
    let mut home = Home::new();
    home.options.snapshot_every_bytes = 4 * 500;
    let mut started = home.start();
    for sequence in 1..40 {
        started.write(&[prepared(sequence)]);
        if sequence % 10 == 0 {
            started.snapshot(sequence);
        }
    }
    drop(started);
    let names = home.files("snapshot-");
    assert_eq!(names, ["snapshot-00000000000000000020.bin", "snapshot-00000000000000000030.bin"]);
    let mut again = home.start();
    assert_eq!(again.memory().saved.sequence, SequenceNumber(30));
    assert_eq!(again.records(), (31..40).map(prepared).collect::<Vec<_>>());
    drop(again);
    // Damaged on disk, or refused by who restores it: all the same.
    let mut offered = Vec::new();
    let refusing = open(&home.options, OWN, |snapshot| {
        offered.push(snapshot.sequence.0);
        if snapshot.sequence.0 < 30 { Ok(()) } else { Err("refused".to_owned()) }
    });
    let mut refusing = Started(refusing.unwrap());
    assert_eq!(offered, [30, 20]);
    assert_eq!(refusing.records(), (21..40).map(prepared).collect::<Vec<_>>());
    drop(refusing);
    flip(&home.path(&names[1]), 110);
    let mut again = home.start();
    assert_eq!(again.memory().saved.sequence, SequenceNumber(20));
    assert_eq!(again.records(), (21..40).map(prepared).collect::<Vec<_>>());
    assert!(again.notes().contains("snapshot-00000000000000000030.bin: chunk 0 is damaged"), "{}", again.notes());
    drop(again);
    flip(&home.path(&names[0]), 110);
    let error = home.refused();
    for part in ["none of the snapshots can be used", "020.bin", "030.bin", "--on-corrupt-log refetch"] {
        assert!(error.contains(part), "'{error}' lacks '{part}'");
    }
    home.options.on_corrupt_log = OnCorruptLog::Refetch;
    assert!(!home.start().0.voting);
}

#[test]
fn what_was_left_unfinished_is_cleared_away() {
    let home = Home::new();
    drop(home.start());
    fs::write(home.path("snapshot-00000000000000000128.bin.tmp"), b"half").unwrap();
    drop(home.start());
    assert_eq!(home.files("snapshot-").len(), 0);
}
