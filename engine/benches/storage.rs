//! What a group commit costs: prepared votes and the batches that they are about (100 requests of 16 bytes), 1 to 64 of
//! them in one group, by both backends. The file system is that of the temporary directory (`TMPDIR`).

use std::path::Path;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hippodrome_engine::limits::LOG_SEGMENT_BYTES_MAX;
use hippodrome_engine::protocol::Record;
use hippodrome_engine::protocol::message::{PrePrepare, Vote};
use hippodrome_engine::requests::Batch;
use hippodrome_engine::storage::backend::{Backend, Plain, probe};
use hippodrome_engine::storage::{Directory, Identity, Log};
use hippodrome_engine::types::{ReplicaId, SequenceNumber, View};

mod common;

const OWN: Identity = Identity { fingerprint: [1; 32], replica: ReplicaId(0) };
const GROUPS: [u64; 4] = [1, 4, 16, 64];
const REQUESTS: usize = 100;

fn records(count: u64) -> Vec<Record> {
    let batch = Batch::new(common::table(REQUESTS, 16));
    (1..=count)
        .flat_map(|sequence| {
            let (view, sequence, digest) = (View(0), SequenceNumber(sequence), batch.digest);
            let assignment = PrePrepare { view, sequence, batch: batch.clone() };
            [Record::PrePrepared(assignment), Record::Prepared(Vote { view, sequence, digest })]
        })
        .collect()
}

fn backends(path: &Path) -> Vec<Box<dyn Backend>> {
    let mut backends: Vec<Box<dyn Backend>> = vec![Box::new(Plain)];
    match probe(path) {
        Ok(uring) => backends.push(Box::new(uring)),
        Err(error) => eprintln!("io_uring is refused here: {error}"),
    }
    backends
}

fn group_commit(c: &mut Criterion) {
    let mut group = c.benchmark_group("group commit");
    for count in GROUPS {
        let records = records(count);
        group.throughput(Throughput::Elements(count * REQUESTS as u64));
        let home = tempfile::tempdir().unwrap();
        for backend in backends(home.path()) {
            let name = backend.name();
            let home = tempfile::tempdir().unwrap();
            let directory = Directory::open(home.path()).unwrap();
            let mut log = Log::create(&directory, OWN, backend, LOG_SEGMENT_BYTES_MAX).unwrap();
            group.bench_function(BenchmarkId::new(name, count), |b| {
                b.iter(|| {
                    records.iter().for_each(|record| log.append(record));
                    log.write(true).unwrap();
                });
            });
        }
    }
}

criterion_group!(benches, group_commit);
criterion_main!(benches);
