use std::fs::{self, File};
use std::io;
use std::sync::Mutex;

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::protocol::message::{Message, Vote};
use crate::protocol::{Execution, Stamps};
use crate::requests::Batch;
use crate::ring::doorbell::Doorbell;
use crate::ring::ring;
use crate::storage::backend::{Backend, Plain};
use crate::types::{Digest, ReplicaId, View};

const OWN: Identity = Identity { fingerprint: [7; 32], replica: ReplicaId(1) };
const INTERVAL: u64 = 4;
const DEPTH: usize = 8;

/// What the test sees and does where the disk would be.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<DiskState>>);

#[derive(Default)]
struct DiskState {
    /// Whether each write was synced.
    writes: Vec<bool>,
    /// Fail the next one.
    full: bool,
    /// Told of a write before it returns, and waited for.
    gate: Option<(Jobs<()>, Reports<()>)>,
}

impl Backend for Disk {
    fn name(&self) -> &'static str {
        "test"
    }

    fn write(&mut self, file: &File, offset: u64, bytes: &mut Vec<u8>, sync: bool) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.writes.push(sync);
        if let Some((entered, go)) = &state.gate {
            entered.send(()).unwrap();
            go.recv().unwrap();
        }
        if state.full { Err(io::ErrorKind::StorageFull.into()) } else { Plain.write(file, offset, bytes, false) }
    }
}

struct Bench {
    stage: Persist,
    input: Sender<Departure>,
    work: Receiver<Vec<Work>>,
    outbound: Receiver<Vec<Outbound>>,
    disk: Disk,
    failure: Failure,
    stop: Arc<AtomicBool>,
    directory: TempDir,
}

impl Bench {
    fn new() -> Self {
        fn link<T>() -> (Sender<T>, Receiver<T>) {
            let (producer, consumer) = ring(DEPTH);
            (Sender::new(producer, Doorbell::parker().0), Receiver::new(consumer))
        }
        let temporary = tempfile::tempdir().unwrap();
        let directory = Arc::new(Directory::open(temporary.path()).unwrap());
        let (disk, failure, stop) = (Disk::default(), Failure::default(), Arc::<AtomicBool>::default());
        let parts = PersistParts {
            log: Log::create(&directory, OWN, Box::new(disk.clone()), 400).unwrap(),
            kept: Kept::default(),
            directory,
            snapshot_every_bytes: 1000,
            checkpoint_interval: INTERVAL,
            executed: SequenceNumber(0),
            failure: Arc::clone(&failure),
        };
        let ((input, taken), (work_in, work), (outbound_in, outbound)) = (link(), link(), link());
        let links = PersistLinks { input: taken, work: work_in, outbound: outbound_in };
        let stage = Persist::new(parts, Clock::start(), Arc::clone(&stop), links).unwrap();
        Self { stage, input, work, outbound, disk, failure, stop, directory: temporary }
    }

    fn step(&mut self) -> bool {
        self.stage.step(Time(0))
    }

    /// Everything that has passed: sequence numbers of executions and of votes.
    fn passed(&mut self) -> (Vec<u64>, Vec<u64>) {
        let work = std::iter::from_fn(|| self.work.receive()).flatten();
        let executed = work.filter_map(|work| match work {
            Work::Execute(execution) => Some(execution.sequence.0),
            _ => None,
        });
        let executed = executed.collect();
        let outbound = std::iter::from_fn(|| self.outbound.receive()).flatten();
        let sent = outbound.filter_map(|outbound| match outbound {
            Outbound::All(message) => match &*message {
                Message::Commit(vote) => Some(vote.sequence.0),
                _ => None,
            },
            Outbound::To(..) => None,
        });
        (executed, sent.collect())
    }

    fn writes(&self) -> Vec<bool> {
        self.disk.0.lock().unwrap().writes.clone()
    }
}

fn vote(sequence: u64) -> Vote {
    Vote { view: View(0), sequence: SequenceNumber(sequence), digest: Digest([1; 32]) }
}

fn execution(sequence: u64) -> Work {
    let batch = Batch::null();
    Work::Execute(Execution {
        sequence: SequenceNumber(sequence),
        view: View(0),
        tentative: false,
        batch,
        stamps: Stamps::default(),
    })
}

fn commit(sequence: u64) -> Outbound {
    Outbound::All(Arc::new(Message::Commit(vote(sequence))))
}

fn checkpoint(sequence: u64) -> Checkpoint {
    Checkpoint { sequence: SequenceNumber(sequence), digest: Digest([9; 32]) }
}

/// A batch is prepared, its commit leaves, and the batch before it is executed.
fn departure(sequence: u64) -> Departure {
    Departure {
        records: vec![Record::Prepared(vote(sequence))],
        work: vec![execution(sequence)],
        outbound: vec![commit(sequence)],
        ..Departure::default()
    }
}

#[test]
fn nothing_passes_before_its_record_is_durable() {
    let mut bench = Bench::new();
    let ((entered, seen), (go, gate)) = (channel(), channel());
    bench.disk.0.lock().unwrap().gate = Some((entered, gate));
    bench.input.send(departure(1));
    let Bench { mut stage, work, outbound, .. } = bench;
    std::thread::scope(|scope| {
        scope.spawn(|| stage.step(Time(0)));
        seen.recv().unwrap();
        assert!(work.is_empty() && outbound.is_empty());
        go.send(()).unwrap();
    });
    assert_eq!((work.len(), outbound.len()), (1, 1));
}

#[test]
fn all_that_waits_is_one_group() {
    let mut bench = Bench::new();
    (1..=6).for_each(|sequence| bench.input.send(departure(sequence)));
    assert!(bench.step());
    assert_eq!(bench.writes(), [true]);
    assert_eq!(bench.passed(), ((1..=6).collect(), (1..=6).collect()));
    assert!(!bench.step(), "nothing waits");
    assert_eq!(bench.writes(), [true]);
}

#[test]
fn nobody_waits_for_what_can_be_learnt_again() {
    let mut bench = Bench::new();
    bench.input.send(Departure { work: vec![execution(1)], outbound: vec![commit(1)], ..Departure::default() });
    assert!(bench.step());
    assert!(bench.writes().is_empty(), "there was no record");
    let records = vec![Record::Committed(SequenceNumber(1), Digest([1; 32])), Record::Stable(checkpoint(4))];
    bench.input.send(Departure { records, ..Departure::default() });
    assert!(bench.step());
    assert_eq!(bench.writes(), [false]);
    bench.input.send(departure(2));
    assert!(bench.step());
    assert_eq!(bench.writes(), [false, true]);
}

#[test]
fn replica_that_can_not_write_stops_and_says_nothing() {
    let mut bench = Bench::new();
    bench.disk.0.lock().unwrap().full = true;
    bench.input.send(departure(1));
    assert!(bench.step());
    bench.disk.0.lock().unwrap().full = false;
    bench.input.send(departure(2));
    assert!(!bench.step(), "it does not try again");
    assert_eq!(bench.passed(), (vec![], vec![]));
    assert!(bench.stop.load(Ordering::Relaxed));
    let error = bench.failure.get().unwrap().to_string();
    assert!(error.contains("can not write") && error.contains("wal-0000000001.log"), "{error}");
}

#[test]
fn full_link_stops_the_stage_and_loses_nothing() {
    let mut bench = Bench::new();
    for sequence in 1..=DEPTH as u64 + 1 {
        bench.input.send(departure(sequence));
        assert!(bench.step());
    }
    assert!(bench.stage.is_stalled());
    bench.input.send(departure(DEPTH as u64 + 2));
    assert!(!bench.step());
    let mut executed = bench.passed().0;
    assert!(bench.step());
    executed.extend(bench.passed().0);
    assert_eq!(executed, (1..=DEPTH as u64 + 2).collect::<Vec<_>>());
}

/// Sends executions up to `sequence`, with their records, and the news that `stable` is stable. Keeps and saves that
/// were asked for.
fn advance(bench: &mut Bench, sequences: std::ops::RangeInclusive<u64>, stable: u64) -> (Vec<u64>, Vec<SaveRequest>) {
    bench.input.send(Departure {
        records: sequences.clone().map(|sequence| Record::Prepared(vote(sequence))).collect(),
        work: sequences.map(execution).collect(),
        stable: vec![checkpoint(stable)],
        ..Departure::default()
    });
    assert!(bench.step());
    let (mut keeps, mut saves) = (Vec::new(), Vec::new());
    for work in std::iter::from_fn(|| bench.work.receive()).flatten() {
        match work {
            Work::Keep(sequence) => keeps.push(sequence.0),
            Work::Save(request) => saves.push(request),
            _ => {}
        }
    }
    (keeps, saves)
}

fn files(bench: &Bench, prefix: &str) -> Vec<String> {
    let files = fs::read_dir(bench.directory.path()).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with(prefix) && !name.ends_with(".tmp")).collect();
    names.sort();
    names
}

fn snapshot(sequence: u64) -> execute::Snapshot {
    let chunks = vec![Bytes::from_static(b"state")];
    execute::Snapshot { sequence: SequenceNumber(sequence), digest: checkpoint(sequence).digest, chunks }
}

/// Waits for the thread that writes snapshots, as the stage does not.
fn take_report(bench: &mut Bench) {
    let truncation = &mut bench.stage.truncation;
    assert!(truncation.writing);
    assert_eq!(truncation.reports.recv().unwrap(), Outcome::Written);
    truncation.writing = false;
}

#[test]
fn state_is_written_at_a_checkpoint_that_became_stable_and_the_log_truncated_behind_it() {
    let mut bench = Bench::new();
    let (keeps, saves) = advance(&mut bench, 1..=6, 4);
    assert_eq!((keeps, saves.len()), (vec![8], 0), "the first that the executor has not reached");
    assert!(advance(&mut bench, 7..=9, 4).0.is_empty());
    let (keeps, mut saves) = advance(&mut bench, 10..=10, 8);
    assert_eq!((keeps, saves.len(), saves[0].sequence()), (vec![], 1, SequenceNumber(8)));
    assert_eq!(files(&bench, "snapshot").len(), 0);
    saves.remove(0).answer(Some(&snapshot(8)));
    take_report(&mut bench);
    assert_eq!(files(&bench, "snapshot"), ["snapshot-00000000000000000008.bin"]);
    // The next one is due after 1000 bytes more, 84 a record.
    assert!(advance(&mut bench, 11..=13, 12).0.is_empty());
    let mut last = 13;
    let keeps = loop {
        let (keeps, _) = advance(&mut bench, last + 1..=last + 4, last - 1);
        last += 4;
        if !keeps.is_empty() {
            break keeps;
        }
        assert!(last < 10_000);
    };
    assert_eq!(keeps, [(last / INTERVAL + 1) * INTERVAL]);
    assert_eq!(files(&bench, "wal")[0], "wal-0000000001.log");
    let mut saves = advance(&mut bench, last + 1..=last + 4, keeps[0]).1;
    saves.remove(0).answer(Some(&snapshot(keeps[0])));
    take_report(&mut bench);
    assert_eq!(files(&bench, "snapshot").len(), 2);
    assert_ne!(files(&bench, "wal")[0], "wal-0000000001.log");
}

#[test]
fn snapshot_that_was_missed_is_asked_for_again() {
    let mut bench = Bench::new();
    assert_eq!(advance(&mut bench, 1..=4, 4).0, [8]);
    // The checkpoint at 8 is never seen to be stable, that at 12 is.
    assert_eq!(advance(&mut bench, 5..=13, 12).0, [16]);
    // The executor has dropped what it kept, or kept another state.
    advance(&mut bench, 14..=17, 16).1.remove(0).answer(None);
    let mut last = 17;
    let asked = loop {
        let (keeps, saves) = advance(&mut bench, last + 1..=last + 4, last - 1);
        assert!(saves.is_empty());
        last += 4;
        if !keeps.is_empty() {
            break keeps[0];
        }
        assert!(last < 10_000);
    };
    let other = execute::Snapshot { digest: Digest([0; 32]), ..snapshot(asked) };
    advance(&mut bench, last + 1..=asked + 1, asked).1.remove(0).answer(Some(&other));
    assert_eq!(files(&bench, "snapshot").len(), 0);
}

#[test]
fn state_that_was_fetched_is_written_at_once() {
    let mut bench = Bench::new();
    assert_eq!(advance(&mut bench, 1..=4, 4).0, [8]);
    let Checkpoint { sequence, digest } = checkpoint(100);
    bench.input.send(Departure { work: vec![Work::Install(sequence, digest, Vec::new())], ..Departure::default() });
    assert!(bench.step());
    let mut work = bench.work.receive().unwrap();
    let Some(Work::Save(request)) = work.pop() else { panic!("{work:?}") };
    assert!(matches!(work[..], [Work::Install(..)]), "{work:?}");
    assert_eq!(request.sequence(), sequence);
    request.answer(Some(&snapshot(100)));
    take_report(&mut bench);
    assert_eq!(files(&bench, "snapshot"), ["snapshot-00000000000000000100.bin"]);
    // The wish for 8 is past, the next is beyond what was fetched.
    assert_eq!(advance(&mut bench, 101..=102, 100).0, [104]);
}

/// A disk that is full for a while: the log must not keep on growing after that, and what failed leaves it the room.
#[test]
fn snapshot_that_could_not_be_written_is_counted_and_tried_again() {
    let mut bench = Bench::new();
    assert_eq!(advance(&mut bench, 1..=4, 4).0, [8]);
    // A directory that is not empty stands in the file's place.
    let place = bench.directory.path().join("snapshot-00000000000000000008.bin");
    fs::create_dir_all(place.join("full")).unwrap();
    advance(&mut bench, 5..=9, 8).1.remove(0).answer(Some(&snapshot(8)));
    let mut last = 9;
    let asked = loop {
        let (keeps, _) = advance(&mut bench, last + 1..=last + 1, last);
        last += 1;
        if let Some(asked) = keeps.first() {
            break *asked;
        }
        std::thread::sleep(std::time::Duration::from_millis(1)); // the other thread writes meanwhile
        assert!(last < 10_000);
    };
    assert_eq!(bench.stage.truncation.failed, 1);
    assert_eq!(
        fs::read_dir(bench.directory.path())
            .unwrap()
            .filter(|file| { file.as_ref().unwrap().file_name().to_string_lossy().starts_with("snapshot") })
            .count(),
        1
    );
    advance(&mut bench, last + 1..=asked + 1, asked).1.remove(0).answer(Some(&snapshot(asked)));
    take_report(&mut bench);
    let mut board = Board::default();
    bench.stage.post(&mut board);
    assert_eq!(board.report().ignored["snapshot_not_written"], 1);
}
