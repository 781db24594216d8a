//! A replica that missed more than anybody keeps takes over the others' state: real protocol cores, real executors with
//! the key-value store, and a network in memory that delivers everything at once.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use hippodrome_engine::app::kv::{Kv, Operation};
use hippodrome_engine::execute::{Done, Executor, ExecutorConfig};
use hippodrome_engine::limits::HISTORY_BATCHES_MAX;
use hippodrome_engine::protocol::message::{Authentic, FetchState, Verdict};
use hippodrome_engine::protocol::pbft::{Config, Pbft};
use hippodrome_engine::protocol::{Input, Message, Output, Protocol as _, Timer};
use hippodrome_engine::quorum::Quorums;
use hippodrome_engine::requests::{Proofs, RequestTable};
use hippodrome_engine::settings::{Dissemination, ExecutionChoice};
use hippodrome_engine::types::{ClientId, Digest, NodeId, ReplicaId, SequenceNumber, Time, Timestamp, View};

const N: u16 = 4;
const LAGGARD: usize = 3;
const CLIENTS: u32 = 10;
const INTERVAL: u64 = 16;
const STATUS_NS: u64 = 1_000_000;

/// Replicas with their executors. What one says, the others hear at once, but for the laggard while it is cut off.
struct Cluster {
    cores: Vec<Pbft>,
    executors: Vec<Executor>,
    inputs: VecDeque<(usize, Input)>,
    /// Results, by replica, of what was executed last.
    replies: Vec<Vec<(ClientId, Timestamp, Vec<u8>)>>,
    cut_off: bool,
    /// Replica 0 sends chunks with an error in the middle.
    lies: bool,
    now: Time,
}

/// What replicas with equal states have in common, down to their answers to what is asked again.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    executed: SequenceNumber,
    ledger: Digest,
    state: Digest,
    clients: (Vec<u64>, Vec<u64>),
    operations: u64,
    answers: Vec<Done>,
}

impl Cluster {
    fn new() -> Self {
        let mut cluster = Self {
            cores: Vec::new(),
            executors: (0..N).map(|own| executor(ReplicaId(own))).collect(),
            inputs: VecDeque::new(),
            replies: vec![Vec::new(); usize::from(N)],
            cut_off: false,
            lies: false,
            now: Time(1),
        };
        for own in 0..N {
            let config = Config {
                quorums: Quorums::new(usize::from(N)).unwrap(),
                own: ReplicaId(own),
                window: 4 * INTERVAL,
                checkpoint_interval: INTERVAL,
                batching: "none".parse().unwrap(),
                dissemination: Dissemination::Inline,
                execution: ExecutionChoice::Committed,
                clients: CLIENTS,
                principals: Arc::default(),
                status_interval_ns: STATUS_NS,
                view_timeout_ns: 1 << 50,
                view_timeout_max_ns: 1 << 50,
                durable: false,
                voting: true,
                planted: None,
            };
            cluster.cores.push(Pbft::new(config, Time(0), &mut Vec::new()));
        }
        cluster
    }

    fn request(&mut self, client: u32, timestamp: u64) {
        self.inputs.push_back((0, Input::Requests(Arc::new(table(client, timestamp)))));
        self.run();
    }

    fn run(&mut self) {
        while let Some((to, input)) = self.inputs.pop_front() {
            let mut outputs = Vec::new();
            self.cores[to].step(self.now, input, &mut outputs);
            for output in outputs {
                self.act(to, output);
            }
        }
    }

    fn act(&mut self, own: usize, output: Output) {
        match output {
            Output::Send(to, message) => self.deliver(own, usize::from(to.0), &message),
            Output::Broadcast(message) => {
                (0..self.cores.len()).filter(|to| *to != own).for_each(|to| self.deliver(own, to, &message));
            }
            Output::Execute(execution) => {
                let mut done = Vec::new();
                self.executors[own].execute(&execution, &mut done);
                self.take(own, done);
            }
            Output::Recall(table) => {
                let mut done = Vec::new();
                self.executors[own].recall(View(0), &table, &mut done);
                self.take(own, done);
            }
            Output::KeepState(sequence) => self.executors[own].keep(sequence),
            Output::ReadState { to, fetch: FetchState { sequence, index } } => {
                let chunk = self.executors[own].read(sequence, index);
                self.inputs.push_back((own, Input::StateRead(to, chunk)));
            }
            Output::InstallState { sequence, digest, chunks } => {
                let good = self.executors[own].install(sequence, digest, chunks);
                self.inputs.push_back((own, Input::StateInstalled { sequence, good }));
            }
            Output::SetTimer(..) | Output::CancelTimer(_) | Output::StableCheckpoint(_) | Output::Ignored(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    }

    fn take(&mut self, own: usize, done: Vec<Done>) {
        for done in done {
            match done {
                Done::Replies { replies, .. } => {
                    let rows = (0..replies.len())
                        .map(|row| (replies.clients[row], replies.timestamps[row], replies.result(row).to_vec()));
                    self.replies[own].extend(rows);
                }
                Done::Executed(sequence) => self.inputs.push_back((own, Input::Executed(sequence))),
                Done::Checkpoint(sequence, digest) => {
                    self.inputs.push_back((own, Input::CheckpointTaken(sequence, digest)));
                }
                Done::NotExecuted(table) => self.inputs.push_back((own, Input::NotExecuted(table))),
            }
        }
    }

    fn deliver(&mut self, from: usize, to: usize, message: &Arc<Message>) {
        if self.cut_off && (from == LAGGARD || to == LAGGARD) {
            return;
        }
        let mut message = message.as_ref().clone();
        if let (Message::StateChunk(chunk), true) = (&mut message, self.lies && from == 0) {
            let mut bytes = chunk.bytes.to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            chunk.bytes = Bytes::from(bytes);
        }
        let sender = ReplicaId(u16::try_from(from).unwrap());
        let authentic = Authentic { sender, message, signature: None, requests: Verdict::GOOD };
        self.inputs.push_back((to, Input::Message(authentic)));
    }

    fn tick(&mut self) {
        self.now = self.now.after(STATUS_NS);
        for replica in 0..self.cores.len() {
            self.inputs.push_back((replica, Input::Timer(Timer::Status)));
        }
        self.run();
    }

    fn executed(&self, replica: usize) -> SequenceNumber {
        self.executors[replica].executed()
    }

    /// Everything that a replica has to show for itself.
    fn shown(&mut self, replica: usize) -> Shown {
        let executor = &mut self.executors[replica];
        let mut answers = Vec::new();
        let (_, last) = executor.clients();
        for (client, last) in (0..).zip(last) {
            executor.recall(View(0), &table(client, last), &mut answers);
        }
        let (ledger, operations) = (executor.ledger(), executor.counters().operations);
        let (executed, state) = (executor.executed(), executor.state_digest());
        Shown { executed, ledger, state, clients: executor.clients(), operations, answers }
    }
}

fn executor(own: ReplicaId) -> Executor {
    let client_nodes = vec![(NodeId(N), 0..CLIENTS)];
    let config =
        ExecutorConfig { own, client_nodes, checkpoint_interval: INTERVAL, designates: None, tentative: false };
    Executor::new(config, Box::new(Kv::with_records(30_000, 100)))
}

/// One request, which reads and writes a record.
fn table(client: u32, timestamp: u64) -> RequestTable {
    let mut operations = Vec::new();
    let key = (timestamp * 31 + u64::from(client)) % 40_000;
    let value = [timestamp.to_le_bytes(), u64::from(client).to_le_bytes()].concat();
    match timestamp % 3 {
        0 => Operation::Insert { key, value: &value },
        1 => Operation::ReadModifyWrite { key, value: &value },
        _ => Operation::Read { key },
    }
    .encode(&mut operations);
    RequestTable {
        clients: vec![ClientId(client)],
        timestamps: vec![Timestamp(timestamp)],
        operation_ends: vec![u32::try_from(operations.len()).unwrap()],
        digests: vec![blake3::hash(format!("{client} {timestamp}").as_bytes()).into()],
        operations: operations.into(),
        proofs: Proofs::None,
    }
}

#[test]
fn a_replica_beyond_repair_takes_over_the_state_and_goes_on_equally() {
    let mut cluster = Cluster::new();
    for number in 0..100 {
        cluster.request(number % CLIENTS, u64::from(number / CLIENTS) + 1);
    }
    assert_eq!(cluster.shown(0), cluster.shown(LAGGARD));

    // More than anybody keeps happens without it, and then nothing more.
    cluster.cut_off = true;
    let missed = HISTORY_BATCHES_MAX as u32 + 1000;
    for number in 100..100 + missed {
        cluster.request(number % CLIENTS, u64::from(number / CLIENTS) + 1);
    }
    assert_eq!((cluster.executed(0).0, cluster.executed(LAGGARD).0), (u64::from(100 + missed), 100));
    (cluster.cut_off, cluster.lies) = (false, true);
    let mut ticks = 0;
    while cluster.executed(LAGGARD) != cluster.executed(0) {
        assert!(ticks < 100, "it stands at {} of {}", cluster.executed(LAGGARD), cluster.executed(0));
        cluster.tick();
        ticks += 1;
    }
    assert_eq!(cluster.cores[LAGGARD].position().states_installed, 1);
    assert!(cluster.executed(0).0 > u64::from(100 + missed), "null requests led to the checkpoint");
    assert_eq!(cluster.shown(0), cluster.shown(LAGGARD));
    assert!(cluster.executors[0].counters().operations == u64::from(100 + missed), "each was executed once");

    // And on it goes, old requests and new ones.
    cluster.replies.iter_mut().for_each(Vec::clear);
    for number in 100 + missed - 50..100 + missed + 200 {
        cluster.request(number % CLIENTS, u64::from(number / CLIENTS) + 1);
        if number % 20 == 0 {
            cluster.tick();
        }
    }
    assert_eq!(cluster.shown(0), cluster.shown(LAGGARD));
    let new: Vec<_> = cluster.replies[LAGGARD].clone();
    assert_eq!(new.len(), 200);
    assert!(new.iter().all(|reply| cluster.replies[1].contains(reply)));
    let stable = |replica: usize| cluster.cores[replica].position().stable_checkpoint;
    assert_eq!(stable(LAGGARD), stable(0));
    assert!(stable(0).0 >= cluster.executed(0).0 - INTERVAL);
}
