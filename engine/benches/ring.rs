//! What a hand-over from thread to thread costs.

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hippodrome_engine::ring::doorbell::Doorbell;
use hippodrome_engine::ring::ring;
use hippodrome_engine::ring::wait::Wait;

/// As large as a few pointers and numbers: what a batch is handed over by.
type Item = [u64; 4];

fn one_thread(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring");
    group.throughput(Throughput::Elements(1));
    group.bench_function("push and pop on one thread", |b| {
        let (mut producer, mut consumer) = ring::<Item>(1024);
        b.iter(|| {
            let _ = producer.push(black_box([7; 4]));
            black_box(consumer.pop())
        });
    });
    group.bench_function("push and doorbell, consumer awake", |b| {
        let (mut producer, mut consumer) = ring::<Item>(1024);
        let (doorbell, _parker) = Doorbell::parker();
        b.iter(|| {
            let _ = producer.push(black_box([7; 4]));
            doorbell.ring();
            black_box(consumer.pop())
        });
    });
    group.finish();
}

fn two_threads(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring between threads");
    group.throughput(Throughput::Elements(1));
    for wait in [Wait::Spin, Wait::Yield, Wait::Park] {
        group.bench_function(format!("{wait:?}").to_lowercase(), |b| b.iter_custom(|items| hand_over(items, wait)));
    }
    group.finish();
}

/// Sends so many items to another thread, which waits by `wait` when it has none.
fn hand_over(items: u64, wait: Wait) -> Duration {
    let (mut producer, mut consumer) = ring::<Item>(1024);
    let (doorbell, parker) = Doorbell::parker();
    let bell = doorbell.clone();
    let started = Instant::now();
    let pushing = thread::spawn(move || {
        for number in 0..items {
            while producer.push([number; 4]).is_err() {
                // Never spins on a core that the consumer may need.
                thread::yield_now();
            }
            bell.ring();
        }
    });
    let mut taken = 0;
    while taken < items {
        match consumer.pop() {
            Some(item) => {
                black_box(item);
                taken += 1;
            }
            None => wait.idle(&doorbell, &parker, Duration::from_millis(100), || !consumer.is_empty()),
        }
    }
    pushing.join().expect("the producer does not panic");
    started.elapsed()
}

criterion_group!(benches, one_thread, two_threads);
criterion_main!(benches);
