//! What execution costs: batches of 1000 requests of 10,000 clients, checkpoints, snapshots, and looking for operations
//! that are followed.
//!
//! Run with `cargo bench -p hippodrome-engine --bench execute`. Throughput is in requests; target: at most 40 ns each
//! for `execute/null`.

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hippodrome_engine::app::Application;
use hippodrome_engine::app::kv::{self, Kv, Operation};
use hippodrome_engine::app::null::Null;
use hippodrome_engine::execute::{Executor, ExecutorConfig};
use hippodrome_engine::protocol::{Execution, Stamps};
use hippodrome_engine::requests::{Batch, RequestTable};
use hippodrome_engine::sampling::Sampling;
use hippodrome_engine::types::{ClientId, Digest, NodeId, ReplicaId, SequenceNumber, Timestamp, View};

const CLIENTS: u32 = 10_000;
const BATCH_REQUESTS: u32 = 1000;
const CHECKPOINT_INTERVAL: u64 = 128;
/// Records of the store whose checkpoints are measured.
const RECORDS: u64 = 1_000_000;

/// A cheap stand-in for random numbers: the same in every run.
fn scatter(number: u64) -> u64 {
    kv::pattern::word(1, number)
}

/// An endless supply of batches, in which each client of a random order takes its turn.
struct Batches<F> {
    operation: F,
    next: u64,
}

impl<F: FnMut(u64, &mut Vec<u8>)> Batches<F> {
    const fn new(operation: F) -> Self {
        Self { operation, next: 0 }
    }

    fn next(&mut self) -> Execution {
        let mut table = RequestTable::empty();
        let mut operations = Vec::new();
        for _ in 0..BATCH_REQUESTS {
            // 7919 and the number of clients have no common divisor, so every client has its turn once a round.
            let client = self.next * 7919 % u64::from(CLIENTS);
            table.clients.push(ClientId(client as u32));
            table.timestamps.push(Timestamp(1 + self.next / u64::from(CLIENTS)));
            table.digests.push(Digest::default());
            (self.operation)(self.next, &mut operations);
            table.operation_ends.push(operations.len() as u32);
            self.next += 1;
        }
        table.operations = operations.into();
        let sequence = SequenceNumber(self.next / u64::from(BATCH_REQUESTS));
        Execution { sequence, view: View(0), tentative: false, batch: Batch::new(table), stamps: Stamps::default() }
    }
}

/// Half reads, half updates of 100 bytes, uniform over the preloaded records (YCSB's workload A without its skew, which
/// would help the cache).
fn workload_a(number: u64, operations: &mut Vec<u8>) {
    let random = scatter(number);
    let key = (random >> 1) % kv::RECORDS;
    let value = [random as u8; kv::VALUE_BYTES];
    let operation = if random & 1 == 0 { Operation::Read { key } } else { Operation::Update { key, value: &value } };
    operation.encode(operations);
}

fn bench_batches(
    c: &mut Criterion,
    name: &str,
    app: Box<dyn Application>,
    operation: impl FnMut(u64, &mut Vec<u8>),
    nodes: u32,
) {
    let share = CLIENTS / nodes;
    let client_nodes = (0..nodes).map(|node| (NodeId(4 + node as u16), node * share..(node + 1) * share)).collect();
    let config = ExecutorConfig {
        own: ReplicaId(0),
        client_nodes,
        checkpoint_interval: CHECKPOINT_INTERVAL,
        designates: None,
        tentative: false,
    };
    let mut executor = Executor::new(config, app);
    let mut batches = Batches::new(operation);
    let mut group = c.benchmark_group("execute");
    group.throughput(Throughput::Elements(u64::from(BATCH_REQUESTS)));
    group.bench_function(BenchmarkId::new(name, BATCH_REQUESTS), |b| {
        // Checkpoints are part of it: one in 128 batches takes one. What is done is handed on, so it is dropped
        // outside.
        b.iter_batched(
            || (batches.next(), Vec::with_capacity(8)),
            |(execution, mut out)| {
                executor.execute(&execution, &mut out);
                (execution, out)
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn execute(c: &mut Criterion) {
    let fixed = |number: u64, operations: &mut Vec<u8>| {
        operations.extend_from_slice(&number.to_le_bytes());
        operations.extend_from_slice(&[0; 8]);
    };
    bench_batches(c, "null", Box::new(Null::new(0)), fixed, 1);
    bench_batches(c, "null, 16-byte replies", Box::new(Null::new(16)), fixed, 1);
    bench_batches(c, "null, 16-byte replies, 4 client nodes", Box::new(Null::new(16)), fixed, 4);
    bench_batches(c, "null, 100-byte replies", Box::new(Null::new(100)), fixed, 1);
    bench_batches(c, "kv, workload a", Box::new(Kv::with_records(kv::RECORDS, kv::VALUE_BYTES)), workload_a, 1);
}

/// A store of [`RECORDS`] records whose digest is up to date.
fn store() -> Kv {
    let mut kv = Kv::with_records(RECORDS, kv::VALUE_BYTES);
    kv.digest();
    kv
}

/// What a checkpoint costs by what changed since the last one, and what it would cost to compute it anew.
fn checkpoint(c: &mut Criterion) {
    let mut kv = store();
    let mut group = c.benchmark_group("checkpoint of 1,000,000 records");
    group.sample_size(10);
    let (mut round, mut operation, mut result) = (0, Vec::new(), Vec::new());
    for (changed, near) in [
        (0, true),
        (1000, false),
        (1000, true),
        (10_000, false),
        (10_000, true),
        (100_000, false),
        (100_000, true),
        (RECORDS, true),
    ] {
        let name = if near { "changed side by side" } else { "changed at random" };
        group.bench_function(BenchmarkId::new(name, changed), |b| {
            b.iter_custom(|iterations| {
                let mut spent = std::time::Duration::ZERO;
                for _ in 0..iterations {
                    for number in 0..changed {
                        round += 1;
                        let key = if near { number } else { scatter(round) % RECORDS };
                        operation.clear();
                        Operation::Update { key, value: &[round as u8; kv::VALUE_BYTES] }.encode(&mut operation);
                        kv.execute(&operation, &mut result);
                        result.clear();
                    }
                    let start = std::time::Instant::now();
                    black_box(kv.digest());
                    spent += start.elapsed();
                }
                spent
            });
        });
    }
    group.bench_function("recomputed", |b| {
        b.iter_batched_ref(
            || Kv::with_records(RECORDS, kv::VALUE_BYTES),
            |kv| black_box(kv.digest()),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// What it costs to keep a snapshot for a replica that fell behind, beside a plain copy of the same records, and to
/// take it over.
fn snapshot(c: &mut Criterion) {
    let config = || ExecutorConfig {
        own: ReplicaId(0),
        client_nodes: vec![(NodeId(4), 0..CLIENTS)],
        checkpoint_interval: CHECKPOINT_INTERVAL,
        designates: None,
        tentative: false,
    };
    let mut executor = Executor::new(config(), Box::new(store()));
    let mut batches = Batches::new(workload_a);
    executor.execute(&batches.next(), &mut Vec::new());
    let mut group = c.benchmark_group("snapshot of 1,000,000 records");
    group.sample_size(10);
    group.bench_function("taken", |b| b.iter_with_large_drop(|| executor.snapshot_now()));
    let records: BTreeMap<u64, Vec<u8>> =
        (0..RECORDS).map(|key| (key, kv::preloaded_value(key, kv::VALUE_BYTES))).collect();
    group.bench_function("a copy of the records", |b| b.iter_with_large_drop(|| records.clone()));
    drop(records);
    let taken = executor.snapshot_now();
    group.bench_function("restored", |b| {
        b.iter_batched_ref(
            || Executor::new(config(), Box::new(Kv::new())),
            |executor| executor.restore(taken.sequence, taken.digest, &taken.chunks).expect("it is whole"),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// What it costs a batch that operations are looked for that are followed, of which there are next to none.
fn look(c: &mut Criterion) {
    let execution = Batches::new(workload_a).next();
    let requests = &execution.batch.requests;
    let mut group = c.benchmark_group("look for followed operations");
    group.throughput(Throughput::Elements(u64::from(BATCH_REQUESTS)));
    for (name, sampling) in [("off", Sampling::OFF), ("one in 1000", Sampling::one_in(1000))] {
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut found = 0;
                sampling.find(black_box(&requests.clients), &requests.timestamps, |_| found += 1);
                found
            });
        });
    }
    group.finish();
}

criterion_group!(benches, execute, checkpoint, snapshot, look);
criterion_main!(benches);
