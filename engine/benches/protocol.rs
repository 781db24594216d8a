//! What the protocol core costs: a whole round of four replicas for one batch, and one reply at a client.
//!
//! No wire, no authentication, no threads: the pure state machines alone. A round is everything from the requests at
//! the primary to the execution of the batch at all four replicas, checkpoints included, so a replica's share of it is
//! a quarter.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use hippodrome_engine::protocol::client::ClientTable;
use hippodrome_engine::protocol::message::Verdict;
use hippodrome_engine::protocol::pbft::{Config, Pbft};
use hippodrome_engine::protocol::{Authentic, Input, Output, Protocol, Reply};
use hippodrome_engine::quorum::Quorums;
use hippodrome_engine::requests::{Proofs, RequestTable};
use hippodrome_engine::settings::options::{Dissemination, ExecutionChoice};
use hippodrome_engine::types::{ClientId, Digest, ReplicaId, Time, Timestamp, View};

const N: u16 = 4;
const INTERVAL: u64 = 128;

/// Four replicas that hear each other at once.
struct Round {
    replicas: Vec<Pbft>,
    inputs: VecDeque<(usize, Input)>,
    outputs: Vec<Output>,
    executed: u64,
}

impl Round {
    fn new(requests: usize) -> Self {
        let mut outputs = Vec::new();
        let replica = |own| {
            let config = Config {
                quorums: Quorums::new(usize::from(N)).expect("four replicas are allowed"),
                own: ReplicaId(own),
                window: 2 * INTERVAL,
                checkpoint_interval: INTERVAL,
                batching: format!("adaptive:{requests},8").parse().expect("a strategy"),
                dissemination: Dissemination::Inline,
                execution: ExecutionChoice::Committed,
                clients: 1024,
                principals: Arc::default(),
                status_interval_ns: 50_000_000,
                view_timeout_ns: 1_000_000_000,
                view_timeout_max_ns: 60_000_000_000,
                durable: false,
                voting: true,
                planted: None,
            };
            Pbft::new(config, Time(0), &mut outputs)
        };
        let replicas = (0..N).map(replica).collect();
        outputs.clear();
        Self { replicas, inputs: VecDeque::new(), outputs, executed: 0 }
    }

    /// From requests at the primary until nobody has anything more to say.
    fn run(&mut self, table: Arc<RequestTable>) {
        self.inputs.push_back((0, Input::Requests(table)));
        while let Some((at, input)) = self.inputs.pop_front() {
            self.replicas[at].step(Time(1), input, &mut self.outputs);
            for output in self.outputs.drain(..) {
                match output {
                    Output::Broadcast(message) => {
                        for to in (0..usize::from(N)).filter(|&to| to != at) {
                            #[allow(clippy::cast_possible_truncation, reason = "four replicas")]
                            let sender = ReplicaId(at as u16);
                            let message = message.as_ref().clone();
                            let authentic = Authentic { sender, message, signature: None, requests: Verdict::GOOD };
                            self.inputs.push_back((to, Input::Message(authentic)));
                        }
                    }
                    Output::Execute(execution) => {
                        self.executed += 1;
                        self.inputs.push_back((at, Input::Executed(execution.sequence)));
                        if execution.sequence.0.is_multiple_of(INTERVAL) {
                            let state = Digest([1; 32]);
                            self.inputs.push_back((at, Input::CheckpointTaken(execution.sequence, state)));
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

/// The next request of each of `requests` clients, 16 bytes each. Digests are made up: they cost the verify stage, not
/// the core.
fn table(requests: usize, timestamp: u64) -> Arc<RequestTable> {
    let count = u32::try_from(requests).expect("small");
    Arc::new(RequestTable {
        clients: (0..count).map(ClientId).collect(),
        timestamps: vec![Timestamp(timestamp); requests],
        operation_ends: (1..=count).map(|end| end * 16).collect(),
        operations: vec![0; requests * 16].into(),
        digests: vec![Digest([7; 32]); requests],
        proofs: Proofs::None,
    })
}

fn rounds(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("protocol/round");
    for requests in [1, 100, 1000] {
        let (mut round, mut timestamp) = (Round::new(requests), 0);
        group.throughput(Throughput::Elements(requests as u64));
        group.bench_function(requests.to_string(), |bencher| {
            let setup = || {
                timestamp += 1;
                table(requests, timestamp)
            };
            bencher.iter_batched(setup, |table| round.run(table), BatchSize::SmallInput);
        });
        assert!(
            round.executed > 0 && round.executed.is_multiple_of(u64::from(N)),
            "every replica executes every batch"
        );
    }
    group.finish();
}

fn replies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("protocol/replies");
    let clients = 1024;
    let quorums = Quorums::new(usize::from(N)).expect("four replicas are allowed");
    let (mut table, mut timestamp) = (ClientTable::new(quorums, ClientId(0), clients), 0);
    group.throughput(Throughput::Elements(u64::from(clients) * u64::from(N)));
    group.bench_function("four_for_each_of_1024_clients", |bencher| {
        bencher.iter(|| {
            timestamp += 1;
            for client in (0..clients).map(ClientId) {
                table.begin(client, Timestamp(timestamp));
            }
            for replica in (0..N).map(ReplicaId) {
                for client in (0..clients).map(ClientId) {
                    let timestamp = Timestamp(timestamp);
                    let reply = Reply {
                        replica,
                        view: View(0),
                        client,
                        timestamp,
                        result: &[7; 16],
                        is_digest: false,
                        tentative: false,
                    };
                    black_box(table.on_reply(&reply));
                }
            }
        });
    });
    group.finish();
}

criterion_group!(benches, rounds, replies);
criterion_main!(benches);
