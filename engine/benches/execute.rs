//! What execution costs: batches of 1000 requests of 10,000 clients, and checkpoints.
//!
//! Run with `cargo bench -p hippodrome-engine --bench execute`. Throughput is in requests; target: at most 40 ns each
//! for `execute/null`.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hippodrome_engine::app::Application;
use hippodrome_engine::app::kv::{self, Kv, Operation};
use hippodrome_engine::app::null::Null;
use hippodrome_engine::execute::{Executor, ExecutorConfig};
use hippodrome_engine::protocol::{Execution, Stamps};
use hippodrome_engine::requests::{Batch, RequestTable};
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
        Execution { sequence, view: View(0), batch: Batch::new(table), stamps: Stamps::default() }
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
    let config = ExecutorConfig { own: ReplicaId(0), client_nodes, checkpoint_interval: CHECKPOINT_INTERVAL };
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

fn checkpoint(c: &mut Criterion) {
    let mut kv = Kv::with_records(RECORDS, kv::VALUE_BYTES);
    kv.digest();
    let mut group = c.benchmark_group("checkpoint of 1,000,000 records");
    group.sample_size(10);
    let (mut round, mut operation, mut result) = (0, Vec::new(), Vec::new());
    for (name, changed) in
        [("nothing changed", 0), ("1 % changed, next to each other", 100), ("1 % changed", 100), ("all changed", 1)]
    {
        let count = RECORDS.checked_div(changed).unwrap_or(0);
        group.bench_function(name, |b| {
            b.iter_custom(|iterations| {
                let mut spent = std::time::Duration::ZERO;
                for _ in 0..iterations {
                    for number in 0..count {
                        round += 1;
                        let near = name.ends_with("each other") || changed == 1;
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
    group.finish();
}

criterion_group!(benches, execute, checkpoint);
criterion_main!(benches);
