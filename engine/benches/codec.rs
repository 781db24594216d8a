//! What encoding and decoding cost: pre-prepares, requests and replies of 1, 100 and 1000 requests of 16 bytes, with
//! MACs. And what it costs to ask the application whether the operations of such a table may be ordered.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hippodrome_engine::app::{self, kv};
use hippodrome_engine::auth::Sealer;
use hippodrome_engine::limits::FRAME_BODY_BYTES_MAX;
use hippodrome_engine::protocol::Message;
use hippodrome_engine::protocol::message::PrePrepare;
use hippodrome_engine::requests::{Batch, ReplyTable, RequestTable};
use hippodrome_engine::settings::ClusterSettings;
use hippodrome_engine::types::{ClientId, NodeId, ReplicaId, SequenceNumber, Timestamp, View};
use hippodrome_engine::wire::{Decoder, Frame, FrameReader, Outgoing, encode_message, encode_replies, encode_requests};

mod common;

use common::{keyring, table};

const SIZES: [usize; 3] = [1, 100, 1000];
const OPERATION_BYTES: usize = 16;

fn sealed(requests: usize) -> RequestTable {
    let mut table = table(requests, OPERATION_BYTES);
    table.proofs = Sealer::new(keyring("mac", 4)).seal_requests(&table);
    table
}

fn read(bytes: &Bytes) -> Frame {
    let mut reader = FrameReader::new(FRAME_BODY_BYTES_MAX);
    reader.push(bytes.clone());
    reader.next_frame().unwrap().unwrap()
}

fn requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("requests");
    for size in SIZES {
        let table = sealed(size);
        let bytes = encode_requests(&table, NodeId(4));
        let mut decoder = Decoder::new(&keyring("mac", 0));
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(BenchmarkId::new("encode", size), |b| {
            b.iter(|| encode_requests(black_box(&table), NodeId(4)));
        });
        group.bench_function(BenchmarkId::new("frame and decode", size), |b| {
            b.iter(|| decoder.requests(read(black_box(&bytes)).body).unwrap());
        });
    }
}

fn pre_prepares(c: &mut Criterion) {
    let mut group = c.benchmark_group("pre-prepare");
    for size in SIZES {
        let batch = Batch::new(sealed(size));
        let message = Message::PrePrepare(PrePrepare { view: View(0), sequence: SequenceNumber(1), batch });
        let sealer = Sealer::new(keyring("mac", 0));
        let bytes = encode_message(&message, ReplicaId(1), &sealer);
        let mut decoder = Decoder::new(&keyring("mac", 1));
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(BenchmarkId::new("encode for 3 receivers", size), |b| {
            b.iter(|| {
                let mut outgoing = Outgoing::new(black_box(&message), &sealer);
                [1, 2, 3].map(|to| outgoing.for_receiver(ReplicaId(to)))
            });
        });
        group.bench_function(BenchmarkId::new("frame and decode", size), |b| {
            b.iter(|| {
                let frame = read(black_box(&bytes));
                decoder.message(frame.kind, ReplicaId(0), frame.body).unwrap()
            });
        });
    }
}

fn replies(c: &mut Criterion) {
    let mut group = c.benchmark_group("replies");
    for size in SIZES {
        let table = ReplyTable {
            clients: (0..size as u32).map(ClientId).collect(),
            timestamps: vec![Timestamp(1); size],
            result_ends: vec![0; size],
            results: Bytes::new(),
            digested: Vec::new(),
        };
        let sealer = Sealer::new(keyring("mac", 0));
        let bytes = encode_replies(&table, View(0), NodeId(4), &sealer).remove(0);
        let decoder = Decoder::new(&keyring("mac", 4));
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(BenchmarkId::new("encode", size), |b| {
            b.iter(|| encode_replies(black_box(&table), View(0), NodeId(4), &sealer));
        });
        group.bench_function(BenchmarkId::new("frame and decode", size), |b| {
            b.iter(|| decoder.replies(ReplicaId(0), read(black_box(&bytes)).body).unwrap());
        });
    }
}

fn validation(c: &mut Criterion) {
    let mut group = c.benchmark_group("validate");
    let mut operation = Vec::new();
    kv::Operation::Update { key: 7, value: &[7; OPERATION_BYTES] }.encode(&mut operation);
    for size in SIZES {
        let mut updates = table(size, operation.len());
        updates.operations = operation.repeat(size).into();
        group.throughput(Throughput::Elements(size as u64));
        for name in ["null", "kv"] {
            let settings = ClusterSettings { application: name.into(), ..ClusterSettings::default() };
            let validator = app::validator(&settings).unwrap();
            group.bench_function(BenchmarkId::new(name, size), |b| {
                b.iter(|| assert!(!validator.refuses_any(black_box(&updates))));
            });
        }
    }
}

criterion_group!(benches, requests, pre_prepares, replies, validation);
criterion_main!(benches);
