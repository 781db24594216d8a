//! What one operation costs the load generator before and after the network: intended time, bytes, check, record. It
//! must stay small beside what the replicas spend, or the generator is what gets measured.
//!
//! Run with `cargo bench -p hippodrome-loadgen --bench generate`.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hippodrome_engine::app::Application;
use hippodrome_engine::app::kv::{self, Kv};
use hippodrome_engine::app::null::Null;
use hippodrome_engine::types::{ClientId, Timestamp};
use hippodrome_loadgen::recorder::Recorder;
use hippodrome_loadgen::schedule::Schedule;
use hippodrome_loadgen::workload::Workload;
use hippodrome_loadgen::workload::fixed::Fixed;
use hippodrome_loadgen::workload::ycsb::{WorkloadKind, Ycsb, YcsbConfig};

const CLIENTS: u32 = 10_000;

fn schedule(c: &mut Criterion) {
    let mut group = c.benchmark_group("schedule");
    group.throughput(Throughput::Elements(1));
    let mut constant = Schedule::constant(1e6).expect("a rate");
    group.bench_function("constant", |b| b.iter(|| constant.next()));
    let mut poisson = Schedule::poisson(1e6, 1).expect("a rate");
    group.bench_function("poisson", |b| b.iter(|| poisson.next()));
    group.finish();
}

fn recorder(c: &mut Criterion) {
    let mut recorder = Recorder::new();
    let mut now = 0;
    c.bench_function("recorder/record", |b| {
        b.iter(|| {
            now += 1000;
            recorder.record(now, 1_000_000 + now % 65_536 * 100);
            if now.is_multiple_of(1_000_000_000) {
                recorder.take_finished();
            }
        });
    });
}

/// Time of `next` and `check` together; the operation is executed in between, off the clock.
fn workload(c: &mut Criterion, name: &str, workload: &mut dyn Workload, app: &mut dyn Application) {
    let mut turn = 0u64;
    let mut operation = Vec::new();
    c.bench_function(&format!("workload/{name}"), |b| {
        b.iter_custom(|iterations| {
            let mut results = vec![Vec::new(); CLIENTS as usize];
            let mut spent = std::time::Duration::ZERO;
            let mut left = iterations;
            while left > 0 {
                let round = left.min(u64::from(CLIENTS)) as u32;
                turn += 1;
                let mut ends = Vec::with_capacity(round as usize);
                operation.clear();
                let start = std::time::Instant::now();
                for client in 0..round {
                    workload.next(ClientId(client), Timestamp(turn), &mut operation);
                    ends.push(operation.len());
                }
                spent += start.elapsed();
                let mut from = 0;
                for (end, result) in ends.into_iter().zip(&mut results) {
                    result.clear();
                    app.execute(&operation[from..end], result);
                    from = end;
                }
                let start = std::time::Instant::now();
                for (client, result) in (0..round).zip(&results) {
                    assert!(workload.check(ClientId(client), Timestamp(turn), result));
                }
                spent += start.elapsed();
                left -= u64::from(round);
            }
            spent
        });
    });
}

fn workloads(c: &mut Criterion) {
    workload(c, "fixed 16/16", &mut Fixed::new(16, 16), &mut Null::new(16));
    for kind in [WorkloadKind::A, WorkloadKind::D, WorkloadKind::E] {
        let mut thread = Ycsb::for_threads(&YcsbConfig::new(kind, CLIENTS), 1).expect("default options").remove(0);
        workload(
            c,
            &format!("ycsb-{kind:?}").to_lowercase(),
            &mut thread,
            &mut Kv::with_records(kv::RECORDS, kv::VALUE_BYTES),
        );
    }
}

criterion_group!(benches, schedule, recorder, workloads);
criterion_main!(benches);
