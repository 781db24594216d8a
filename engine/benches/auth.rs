//! What authentication costs under every registered strategy: messages and requests, alone and many at a time, good and
//! spoiled; and digests of requests and of what is long.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hippodrome_engine::auth::{
    AuthBlock, BlockKind, Check, Digester, LinkClass, Part, Sealer, Strategy, Verifier, long,
};
use hippodrome_engine::types::{Digest, NodeId, ReplicaId, SequenceNumber, View};

mod common;

use common::{keyring, table};

const SIZES: [usize; 5] = [1, 8, 64, 256, 1024];

fn blocks(cluster: [u8; 8], count: usize) -> Vec<AuthBlock> {
    let digest = Digest([3; 32]);
    let block = |sequence| {
        AuthBlock::message(BlockKind::Prepare, cluster, ReplicaId(1), View(2), SequenceNumber(sequence), &digest)
    };
    (0..count as u64).map(block).collect()
}

fn digests(c: &mut Criterion) {
    let mut group = c.benchmark_group("digest");
    for (requests, operation_bytes) in [(1, 16), (100, 16), (1000, 16), (1000, 128), (1000, 1000), (100, 4096)] {
        let mut table = table(requests, operation_bytes);
        let mut digester = Digester::default();
        group.throughput(Throughput::Elements(requests as u64));
        group.bench_function(BenchmarkId::new(format!("{operation_bytes}B"), requests), |b| {
            b.iter(|| digester.digest(black_box(&mut table)));
        });
    }
}

/// What is long, as it is hashed here and as it would be without padding.
fn long_digests(c: &mut Criterion) {
    let mut group = c.benchmark_group("long digest");
    for bytes in [1_000, 10_087, 16_154, 16_384] {
        let input = vec![7; bytes];
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::new("padded", bytes), |b| b.iter(|| long::digest(black_box(&input))));
        group.bench_function(BenchmarkId::new("as it is", bytes), |b| b.iter(|| blake3::hash(black_box(&input))));
    }
}

fn seal(c: &mut Criterion) {
    let mut group = c.benchmark_group("seal");
    for strategy in Strategy::all() {
        let sealer = Sealer::new(keyring(strategy.name(), 1));
        let block = blocks(sealer.keyring().cluster(), 1)[0];
        let mut proof = Vec::new();
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("{strategy}/message"), |b| {
            b.iter(|| {
                proof.clear();
                sealer.seal(LinkClass::ReplicaToReplica, NodeId(2), black_box(&block), &mut proof);
            });
        });
        let mut sealer = Sealer::new(keyring(strategy.name(), 4));
        for size in SIZES {
            let table = table(size, 16);
            group.throughput(Throughput::Elements(size as u64));
            group.bench_function(BenchmarkId::new(format!("{strategy}/requests for 4 replicas"), size), |b| {
                b.iter(|| sealer.seal_requests(black_box(&table)));
            });
        }
    }
}

fn verify(c: &mut Criterion) {
    let mut group = c.benchmark_group("verify");
    for (strategy, size) in Strategy::all().flat_map(|strategy| SIZES.map(|size| (strategy, size))) {
        let sealer = Sealer::new(keyring(strategy.name(), 1));
        let mut verifier = Verifier::new(keyring(strategy.name(), 2));
        let blocks = blocks(sealer.keyring().cluster(), size);
        let mut proofs = vec![Vec::new(); size];
        for (block, proof) in blocks.iter().zip(&mut proofs) {
            sealer.seal(LinkClass::ReplicaToReplica, NodeId(2), block, proof);
        }
        let checks: Vec<_> =
            blocks.iter().zip(&proofs).map(|(&block, proof)| Check { signer: NodeId(1), block, proof }).collect();
        let mut good = Vec::new();
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(BenchmarkId::new(format!("{strategy}/messages"), size), |b| {
            b.iter(|| verifier.verify(LinkClass::ReplicaToReplica, black_box(&checks), &mut good));
        });
        assert!(good.iter().all(|good| *good));

        let mut table = table(size, 16);
        table.proofs = Sealer::new(keyring(strategy.name(), 4)).seal_requests(&table);
        group.bench_function(BenchmarkId::new(format!("{strategy}/requests"), size), |b| {
            b.iter(|| verifier.verify_requests(black_box(&[Part::whole(&table, 0)]), &mut good));
        });
        assert!(good.iter().all(|good| *good));
    }
}

/// What a client gains who spoils signatures: the search for the bad ones. Beside a batch with none, which is what the
/// factor is of; `auth::signature` says how large it can get.
fn spoiled(c: &mut Criterion) {
    let mut group = c.benchmark_group("verify spoiled");
    group.sample_size(10);
    for strategy in Strategy::all().filter(|strategy| strategy.is_heavy()) {
        let sealer = Sealer::new(keyring(strategy.name(), 1));
        for bad in [0, 1, 8, 1024] {
            let blocks = blocks(sealer.keyring().cluster(), 1024);
            let mut proofs = vec![Vec::new(); 1024];
            for (index, (block, proof)) in blocks.iter().zip(&mut proofs).enumerate() {
                sealer.seal(LinkClass::ReplicaToReplica, NodeId(2), block, proof);
                // The first of each so many: a bad one on the left of every half is what costs most.
                proof[40] ^= u8::from(bad > 0 && index.is_multiple_of(1024 / bad.max(1)));
            }
            group.throughput(Throughput::Elements(1024));
            group.bench_function(BenchmarkId::new(format!("{strategy} of 1024, bad"), bad), |b| {
                b.iter_batched(
                    || Verifier::new(keyring(strategy.name(), 2)),
                    |mut verifier| {
                        let checks: Vec<_> = blocks
                            .iter()
                            .zip(&proofs)
                            .map(|(&block, proof)| Check { signer: NodeId(1), block, proof })
                            .collect();
                        verifier.verify(LinkClass::ReplicaToReplica, &checks, &mut Vec::new());
                    },
                    BatchSize::SmallInput,
                );
            });
        }
    }
}

criterion_group!(benches, digests, long_digests, seal, verify, spoiled);
criterion_main!(benches);
