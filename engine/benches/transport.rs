//! What each backend makes of loopback: bytes a second in one direction, and round trips. Both ends are transports of
//! the same kind, each on a thread.
//!
//! Besides the times that criterion measures, each case prints the CPU time of the whole process for each message,
//! which says more on a busy machine.
#![allow(clippy::print_stdout, reason = "a benchmark's output")]

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hippodrome_engine::settings::{RingOptions, TransportChoice};
use hippodrome_engine::transport::{ConnectionId, Event, Transport, probe};

const CHOICES: [TransportChoice; 3] = [
    TransportChoice::Epoll,
    TransportChoice::TokioUring,
    TransportChoice::IoUring(RingOptions { sqpoll: false, napi_us: None }),
];
/// Bytes queued before the sender waits for the kernel.
const QUEUE_BYTES: usize = 1 << 20;
/// Messages sent for each poll, when the queue has room.
const BURST: usize = 256;

fn throughput(c: &mut Criterion) {
    for bytes in [64, 16 << 10] {
        let mut group = c.benchmark_group(format!("transport {bytes} B one way"));
        group.throughput(Throughput::Bytes(bytes as u64));
        for choice in CHOICES {
            let mut cpu = Cpu::default();
            group.bench_function(choice.name(), |b| {
                b.iter_custom(|messages| cpu.measure(messages, 20_000, |n| one_way(choice, bytes, n)));
            });
            println!("{choice}, {bytes} B one way: {cpu}");
        }
        group.finish();
    }
}

/// What it costs to look whether something happened.
fn idle_poll(c: &mut Criterion) {
    let mut group = c.benchmark_group("transport poll, nothing to do");
    for choice in CHOICES {
        let (mut transport, _) = probe::open(choice).expect("the backend opens");
        let mut events = Vec::new();
        group.bench_function(choice.name(), |b| {
            b.iter(|| transport.poll(Some(Duration::ZERO), &mut events).expect("polling works"));
        });
    }
    group.finish();
}

fn round_trip(c: &mut Criterion) {
    for (name, wait) in [("waiting", None), ("polling", Some(Duration::ZERO))] {
        let mut group = c.benchmark_group(format!("transport 64 B round trip, {name}"));
        for choice in CHOICES {
            let mut cpu = Cpu::default();
            group.bench_function(choice.name(), |b| {
                b.iter_custom(|messages| cpu.measure(messages, 2_000, |n| there_and_back(choice, wait, n)));
            });
            println!("{choice}, 64 B round trip, {name}: {cpu}");
        }
        group.finish();
    }
}

/// Time from the first message to the arrival of the last.
fn one_way(choice: TransportChoice, bytes: usize, messages: u64) -> (Duration, Duration) {
    let message = Bytes::from(vec![7; bytes]);
    let total = messages * bytes as u64;
    with_server(choice, Role::Swallow { total }, None, |transport, connection| {
        let spent = Spent::start();
        let mut left = messages;
        let mut events = Vec::new();
        // The server closes when it has everything.
        loop {
            let mut burst = BURST;
            while left > 0 && burst > 0 && transport.queued_bytes(connection) < QUEUE_BYTES {
                transport.send(connection, message.clone());
                (left, burst) = (left - 1, burst - 1);
            }
            // What was just queued may find room at once; only if there was none is it worth waiting for.
            let wait = if burst < BURST { Duration::ZERO } else { Duration::from_millis(1) };
            transport.poll(Some(wait), &mut events).expect("polling works");
            if events.drain(..).any(|event| matches!(event, Event::Closed { .. })) {
                return spent.end();
            }
        }
    })
}

fn there_and_back(choice: TransportChoice, wait: Option<Duration>, messages: u64) -> (Duration, Duration) {
    const BYTES: usize = 64;
    let message = Bytes::from(vec![7; BYTES]);
    with_server(choice, Role::Echo, wait, |transport, connection| {
        let spent = Spent::start();
        let mut events = Vec::new();
        for _ in 0..messages {
            transport.send(connection, message.clone());
            let mut received = 0;
            while received < BYTES {
                transport.poll(wait, &mut events).expect("polling works");
                for event in events.drain(..) {
                    match event {
                        Event::Received { bytes, .. } => received += bytes.len(),
                        other => panic!("unexpected {other:?}"),
                    }
                }
                give_way(wait);
            }
        }
        spent.end()
    })
}

/// What the other end does with bytes.
#[derive(Clone, Copy)]
enum Role {
    Echo,
    /// Closes the connection after so many.
    Swallow {
        total: u64,
    },
}

/// Runs `client` with a connection to a server on another thread.
fn with_server(
    choice: TransportChoice,
    role: Role,
    wait: Option<Duration>,
    client: impl FnOnce(&mut dyn Transport, ConnectionId) -> (Duration, Duration),
) -> (Duration, Duration) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| serve(choice, role, wait, listener, &stop));
        let (mut transport, _) = probe::open(choice).expect("the backend opens");
        let connection = transport.connect(address).expect("there is a socket");
        let mut events = Vec::new();
        while events.is_empty() {
            transport.poll(None, &mut events).expect("polling works");
        }
        let spent = client(&mut *transport, connection);
        stop.store(true, Ordering::Relaxed);
        spent
    })
}

fn serve(choice: TransportChoice, role: Role, wait: Option<Duration>, listener: TcpListener, stop: &AtomicBool) {
    let (mut transport, _) = probe::open(choice).expect("the backend opens");
    transport.listen(listener).expect("the listener is fresh");
    let mut events = Vec::new();
    let mut received = 0;
    while !stop.load(Ordering::Relaxed) {
        // The client's end of the connection wakes it at the end.
        transport.poll(wait.or(Some(Duration::from_millis(100))), &mut events).expect("polling works");
        for event in events.drain(..) {
            let Event::Received { connection, bytes } = event else { continue };
            received += bytes.len() as u64;
            match role {
                Role::Echo => transport.send(connection, bytes),
                Role::Swallow { total } if received == total => transport.close(connection),
                Role::Swallow { .. } => {}
            }
        }
        give_way(wait);
    }
}

/// A thread that polls without a wait must not keep the core from the one that it waits for.
fn give_way(wait: Option<Duration>) {
    if wait == Some(Duration::ZERO) {
        thread::yield_now();
    }
}

/// Time and CPU time (of this process, all threads) since a moment.
struct Spent {
    started: Instant,
    cpu: Duration,
}

impl Spent {
    fn start() -> Self {
        Self { started: Instant::now(), cpu: cpu_time() }
    }

    fn end(self) -> (Duration, Duration) {
        (self.started.elapsed(), cpu_time() - self.cpu)
    }
}

/// CPU time over all messages of a case.
#[derive(Default)]
struct Cpu {
    time: Duration,
    messages: u64,
}

impl Cpu {
    /// Runs `run` with `asked` messages, or `least` because too few would measure how it begins, and scales its time to
    /// those that were asked for.
    fn measure(&mut self, asked: u64, least: u64, run: impl FnOnce(u64) -> (Duration, Duration)) -> Duration {
        let messages = asked.max(least);
        let (elapsed, cpu) = run(messages);
        self.time += cpu;
        self.messages += messages;
        elapsed.mul_f64(asked as f64 / messages as f64)
    }
}

impl std::fmt::Display for Cpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let each_us = self.time.as_secs_f64() * 1e6 / self.messages.max(1) as f64;
        write!(f, "{each_us:.3} us of CPU for each message, both ends")
    }
}

#[allow(unsafe_code, reason = "a system call")]
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes to `time`, which is there.
    let outcome = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    assert_eq!(outcome, 0, "every process has this clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

criterion_group!(benches, idle_poll, throughput, round_trip);
criterion_main!(benches);
