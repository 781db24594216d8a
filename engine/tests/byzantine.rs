//! Whole clusters in memory with replicas that misbehave on purpose, primaries first: the correct ones agree, execute
//! everything once, and finish. (The simulator is the thorough one; this shows what each kind does to the real core.)

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use hippodrome_engine::auth::Digester;
use hippodrome_engine::byzantine::{Byzantine, Kind};
use hippodrome_engine::protocol::message::{
    Authentic, FetchState, Message, NewView, Signature, Signed, StateChunk, Verdict, ViewChange,
};
use hippodrome_engine::protocol::pbft::{Config, Pbft};
use hippodrome_engine::protocol::{Execution, Input, Output, Position, Protocol, Timer};
use hippodrome_engine::quorum::Quorums;
use hippodrome_engine::requests::RequestTable;
use hippodrome_engine::settings::{Dissemination, ExecutionChoice};
use hippodrome_engine::types::{ClientId, Digest, ReplicaId, SequenceNumber, Time, Timestamp, View};

const MS: u64 = 1_000_000;
const STATUS_NS: u64 = MS;
const VIEW_TIMEOUT_NS: u64 = 20 * MS;
const RETRY_NS: u64 = 10 * MS;
/// How long it takes to execute a batch, and to read or install a state.
const EXECUTION_NS: u64 = 20_000;
const CLIENTS: u32 = 6;
const OPERATIONS: u64 = 10;
/// Everything is done by then, many view changes included.
const DEADLINE: Time = Time(60_000 * MS);

enum Event {
    Input(usize, Box<Input>),
    Timer(usize, Timer),
    Execute(usize, Box<Execution>),
    Install(usize, SequenceNumber, Digest, Vec<Bytes>),
    Request(ClientId, Timestamp),
}

/// Applies each request once, in order.
#[derive(Default)]
struct Executor {
    ledger: Vec<Digest>,
    executed: BTreeMap<ClientId, Timestamp>,
    operations: u64,
    /// The checkpoint whose state is to be kept for others.
    keep: Option<SequenceNumber>,
    kept: Option<(SequenceNumber, Bytes)>,
}

impl Executor {
    /// All that a replica must know to go on from here.
    fn state(&self) -> Bytes {
        let mut state = Vec::new();
        state.extend([self.operations, self.executed.len() as u64].iter().flat_map(|word| word.to_le_bytes()));
        for (client, timestamp) in &self.executed {
            state.extend(client.0.to_le_bytes());
            state.extend(timestamp.0.to_le_bytes());
        }
        state.extend(self.ledger.iter().flat_map(|digest| digest.0));
        state.into()
    }

    /// Takes over a state, if it is the one with this digest.
    fn install(&mut self, state: &[u8], digest: Digest) -> bool {
        if digest != blake3::hash(state).into() {
            return false;
        }
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
        let (head, rest) = state.split_at(16);
        let (executed, ledger) = rest.split_at(12 * usize::try_from(word(&head[8..])).unwrap());
        let entry =
            |entry: &[u8]| (ClientId(u32::from_le_bytes(entry[..4].try_into().unwrap())), Timestamp(word(&entry[4..])));
        self.operations = word(&head[..8]);
        self.executed = executed.chunks(12).map(entry).collect();
        self.ledger = ledger.chunks(32).map(|digest| Digest(digest.try_into().unwrap())).collect();
        true
    }
}

struct World {
    quorums: Quorums,
    replicas: Vec<Box<dyn Protocol>>,
    faulty: Vec<bool>,
    executors: Vec<Executor>,
    timers: BTreeMap<(usize, Timer), Time>,
    events: BTreeMap<(Time, u64), Event>,
    order: u64,
    now: Time,
    seed: u64,
    loss_percent: u64,
    /// Whether a correct replica's state is not that of f + 1 others.
    diverged: bool,
}

/// As unforgeable as a signature, to whoever does not call this: a function of who signs what.
fn sign(origin: ReplicaId, content: Digest) -> Signature {
    let mut signature = [0; 64];
    let mut hasher = blake3::Hasher::new_derive_key("test signature");
    hasher.update(&origin.0.to_le_bytes()).update(&content.0).finalize_xof().fill(&mut signature);
    signature
}

impl World {
    fn new(n: usize, faulty: &BTreeMap<usize, Vec<Kind>>, dissemination: Dissemination, seed: u64) -> Self {
        let quorums = Quorums::new(n).unwrap();
        let mut world = Self {
            quorums,
            replicas: Vec::new(),
            faulty: (0..n).map(|id| faulty.contains_key(&id)).collect(),
            executors: (0..n).map(|_| Executor::default()).collect(),
            timers: BTreeMap::new(),
            events: BTreeMap::new(),
            order: 0,
            now: Time(0),
            seed,
            loss_percent: 0,
            diverged: false,
        };
        for id in 0..n {
            let own = ReplicaId(u16::try_from(id).unwrap());
            let mut outputs = Vec::new();
            let mut replica: Box<dyn Protocol> =
                Box::new(Pbft::new(config(quorums, own, dissemination), Time(0), &mut outputs));
            if let Some(kinds) = faulty.get(&id) {
                let liar = Byzantine::new(replica, kinds.clone(), n, own, seed);
                replica = Box::new(liar.with_view_timeout(VIEW_TIMEOUT_NS));
            }
            world.replicas.push(replica);
            world.act(id, outputs);
        }
        for client in 0..CLIENTS {
            world.at(Time(MS), Event::Request(ClientId(client), Timestamp(1)));
        }
        world
    }

    fn correct(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.replicas.len()).filter(|&id| !self.faulty[id])
    }

    /// Runs until every correct replica has executed everything, or until the deadline.
    fn run(&mut self) -> bool {
        let all = u64::from(CLIENTS) * OPERATIONS;
        while self.run_one(DEADLINE) {
            if self.correct().all(|id| self.executors[id].operations == all) {
                return true;
            }
        }
        false
    }

    fn run_until(&mut self, deadline: Time) {
        while self.run_one(deadline) {}
    }

    fn run_one(&mut self, deadline: Time) -> bool {
        let Some(((now, _), event)) = self.events.pop_first().filter(|((now, _), _)| *now <= deadline) else {
            return false;
        };
        self.now = now;
        self.handle(event);
        true
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Input(to, input) => self.step(to, *input),
            Event::Timer(id, timer) => {
                if self.timers.get(&(id, timer)) == Some(&self.now) {
                    self.timers.remove(&(id, timer));
                    self.step(id, Input::Timer(timer));
                }
            }
            Event::Execute(id, execution) => self.execute(id, &execution),
            Event::Install(id, sequence, digest, chunks) => {
                let good = self.executors[id].install(&chunks.concat(), digest);
                self.step(id, Input::StateInstalled { sequence, good });
            }
            Event::Request(client, timestamp) => self.request(client, timestamp),
        }
    }

    /// A client sends to all until f + 1 correct replicas have executed, then goes on.
    fn request(&mut self, client: ClientId, timestamp: Timestamp) {
        let has = |id: &usize| self.executors[*id].executed.get(&client).is_some_and(|last| *last >= timestamp);
        if self.correct().filter(has).count() >= self.quorums.weak() {
            if timestamp.0 < OPERATIONS {
                self.request(client, Timestamp(timestamp.0 + 1));
            }
            return;
        }
        let mut table = RequestTable {
            clients: vec![client],
            timestamps: vec![timestamp],
            operation_ends: vec![4],
            operations: vec![7; 4].into(),
            ..RequestTable::empty()
        };
        Digester::default().digest(&mut table);
        let table = Arc::new(table);
        for to in 0..self.replicas.len() {
            let delay = 1 + self.random(MS);
            self.at(self.now.after(delay), Event::Input(to, Box::new(Input::Requests(Arc::clone(&table)))));
        }
        self.at(self.now.after(RETRY_NS), Event::Request(client, timestamp));
    }

    fn step(&mut self, id: usize, input: Input) {
        let mut outputs = Vec::new();
        self.replicas[id].step(self.now, input, &mut outputs);
        self.act(id, outputs);
    }

    fn act(&mut self, id: usize, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send(to, message) => self.send(id, usize::from(to.0), &message),
                Output::Broadcast(message) => {
                    (0..self.replicas.len()).filter(|to| *to != id).for_each(|to| self.send(id, to, &message));
                }
                Output::Execute(execution) => {
                    self.at(self.now.after(EXECUTION_NS), Event::Execute(id, Box::new(execution)));
                }
                Output::Recall(table) => {
                    let executed = &self.executors[id].executed;
                    let is_new = |index: &usize| {
                        executed.get(&table.clients[*index]).is_none_or(|last| *last < table.timestamps[*index])
                    };
                    let indices: Vec<usize> = (0..table.len()).filter(is_new).collect();
                    if !indices.is_empty() {
                        self.step(id, Input::NotExecuted(Arc::new(table.select(&indices))));
                    }
                }
                Output::SetTimer(timer, due) => {
                    self.timers.insert((id, timer), due);
                    self.at(due, Event::Timer(id, timer));
                }
                Output::CancelTimer(timer) => drop(self.timers.remove(&(id, timer))),
                Output::Diverged { .. } => self.diverged |= !self.faulty[id],
                Output::KeepState(sequence) => self.executors[id].keep = Some(sequence),
                Output::ReadState { to, fetch: FetchState { sequence, index } } => {
                    let kept = self.executors[id].kept.iter().find(|(at, _)| *at == sequence && index == 0);
                    let bytes = kept.map(|(_, state)| state.clone());
                    let count = u32::from(bytes.is_some());
                    let chunk = StateChunk { sequence, index, count, bytes: bytes.unwrap_or_default() };
                    self.at(self.now.after(EXECUTION_NS), Event::Input(id, Box::new(Input::StateRead(to, chunk))));
                }
                // After all that is being executed.
                Output::InstallState { sequence, digest, chunks } => {
                    self.at(self.now.after(EXECUTION_NS), Event::Install(id, sequence, digest, chunks));
                }
                Output::Confirm(..) | Output::RollBack(_) => panic!("nothing here is tentative: {output:?}"),
                Output::StableCheckpoint(_) | Output::Persist(_) | Output::Ignored(_) => {}
            }
        }
    }

    fn execute(&mut self, id: usize, execution: &Execution) {
        let executor = &mut self.executors[id];
        let requests = &execution.batch.requests;
        for (client, timestamp) in requests.clients.iter().zip(&requests.timestamps) {
            if executor.executed.get(client).is_none_or(|last| last < timestamp) {
                executor.executed.insert(*client, *timestamp);
                executor.operations += 1;
            }
        }
        let last = executor.ledger.last().copied().unwrap_or_default();
        let digest: Digest = blake3::hash(&[last.0, execution.batch.digest.0].concat()).into();
        executor.ledger.push(digest);
        assert_eq!(executor.ledger.len() as u64, execution.sequence.0, "executed in order");
        let state = execution.sequence.0.is_multiple_of(4).then(|| executor.state());
        if let Some(state) = state.as_ref().filter(|_| executor.keep == Some(execution.sequence)) {
            executor.kept = Some((execution.sequence, state.clone()));
        }
        self.step(id, Input::Executed(execution.sequence));
        if let Some(state) = state {
            self.step(id, Input::CheckpointTaken(execution.sequence, blake3::hash(&state).into()));
        }
    }

    /// Signs what is the sender's own, delivers what is proven, refuses the rest.
    fn send(&mut self, from: usize, to: usize, message: &Message) {
        assert!(to != from && to < self.replicas.len(), "{from} sends to {to}");
        let sender = ReplicaId(u16::try_from(from).unwrap());
        let Some(message) = proven(sender, message.clone(), self.replicas.len()) else {
            assert!(self.faulty[from], "correct replica {from} sent what is not proven");
            return;
        };
        if self.random(100) < self.loss_percent {
            return;
        }
        let authentic = Authentic { sender, message, signature: None, requests: Verdict::GOOD };
        let delay = 1 + self.random(MS / 4);
        self.at(self.now.after(delay), Event::Input(to, Box::new(Input::Message(authentic))));
    }

    fn at(&mut self, time: Time, event: Event) {
        self.order += 1;
        self.events.insert((time, self.order), event);
    }

    fn random(&mut self, bound: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % bound
    }

    /// Agreement of all correct replicas.
    fn check(&self, what: &str) {
        let longest = self.correct().max_by_key(|id| self.executors[*id].ledger.len()).unwrap();
        for id in self.correct() {
            let ledger = &self.executors[id].ledger;
            assert_eq!(ledger[..], self.executors[longest].ledger[..ledger.len()], "{what}: {id} and {longest} differ");
            assert!(self.executors[id].operations <= u64::from(CLIENTS) * OPERATIONS, "{what}: executed twice");
        }
    }

    fn positions(&self) -> Vec<Position> {
        self.replicas.iter().map(|replica| replica.position()).collect()
    }
}

fn config(quorums: Quorums, own: ReplicaId, dissemination: Dissemination) -> Config {
    Config {
        quorums,
        own,
        window: 8,
        checkpoint_interval: 4,
        batching: "adaptive:4,3".parse().unwrap(),
        dissemination,
        execution: ExecutionChoice::Committed,
        clients: CLIENTS,
        principals: Arc::default(),
        status_interval_ns: STATUS_NS,
        view_timeout_ns: VIEW_TIMEOUT_NS,
        view_timeout_max_ns: 16 * VIEW_TIMEOUT_NS,
        durable: false,
        voting: true,
        planted: None,
    }
}

/// What the verify stage would hand on, if anything.
fn proven(sender: ReplicaId, message: Message, n: usize) -> Option<Message> {
    let holds = |origin: ReplicaId, digest: Digest, signature: Option<Signature>| match signature {
        None => {
            assert_eq!(origin, sender, "nobody can sign for another");
            Some(sign(origin, digest))
        }
        Some(signature) => (signature == sign(origin, digest)).then_some(signature),
    };
    Some(match message {
        Message::ViewChange(Signed { content, signature }) => {
            let content: Arc<ViewChange> = content;
            let signature = Some(holds(content.replica, content.digest(), signature)?);
            Message::ViewChange(Signed { content, signature })
        }
        Message::NewView(Signed { content, signature }) => {
            let content: Arc<NewView> = content;
            let signature = Some(holds(content.view.primary(n), content.digest(), signature)?);
            Message::NewView(Signed { content, signature })
        }
        other => other,
    })
}

/// Kinds that act within the protocol.
fn kinds() -> impl Iterator<Item = Kind> {
    Kind::ALL.iter().copied().filter(|kind| !kind.acts_outside_protocol())
}

/// Runs a cluster whose first primaries, or last backups, are faulty, with each way of sending requests; the lowest of
/// the highest views that were reached.
fn survive(n: usize, faulty: &BTreeMap<usize, Vec<Kind>>, seed: u64, loss_percent: u64) -> View {
    let views = Dissemination::ALL.iter().map(|how| survive_with(n, faulty, *how, seed, loss_percent));
    views.min().unwrap()
}

fn survive_with(
    n: usize,
    faulty: &BTreeMap<usize, Vec<Kind>>,
    dissemination: Dissemination,
    seed: u64,
    loss_percent: u64,
) -> View {
    let mut world = World::new(n, faulty, dissemination, seed);
    world.loss_percent = loss_percent;
    let what = format!("n = {n}, {faulty:?}, {dissemination}, seed {seed}, loss {loss_percent} %");
    let finished = world.run();
    world.check(&what);
    assert!(!world.diverged, "{what}: a correct replica diverged");
    let done: Vec<u64> = world.executors.iter().map(|executor| executor.operations).collect();
    assert!(finished, "{what}: executed {done:?}: {:#?}", world.positions());
    world.correct().map(|id| world.replicas[id].position().view).max().unwrap()
}

#[test]
fn faulty_primaries_of_every_kind_are_survived() {
    let mut replaced = BTreeSet::new();
    for kind in kinds() {
        for (n, f) in [(4, 1), (7, 2)] {
            for seed in 0..6 {
                let faulty = (0..f).map(|id| (id, vec![kind])).collect();
                if survive(n, &faulty, seed, seed % 3 * 3) > View(0) {
                    replaced.insert(kind);
                }
            }
        }
    }
    for kind in [Kind::Silent, Kind::Equivocate, Kind::WithholdBody] {
        assert!(replaced.contains(&kind), "{kind} was never replaced");
    }
}

#[test]
fn faulty_backups_of_every_kind_are_survived() {
    for kind in kinds() {
        for (n, f) in [(4, 1), (7, 2)] {
            for seed in 0..4 {
                let faulty = (n - f..n).map(|id| (id, vec![kind])).collect();
                survive(n, &faulty, seed, seed % 2 * 5);
            }
        }
    }
}

#[test]
fn faulty_replicas_of_several_kinds_are_survived() {
    let kinds: Vec<Kind> = kinds().filter(|kind| *kind != Kind::Silent).collect();
    for seed in 0..60usize {
        let (n, f) = [(4, 1), (7, 2), (10, 3)][seed % 3];
        let pick = |step: usize| kinds[(seed * 7 + step * 5) % kinds.len()];
        let faulty = (0..f).map(|id| ((id * 2 + seed) % n, vec![pick(id), pick(id + 3)])).collect();
        // With the higher loss somebody falls so far behind that it takes over a state.
        [2, 15].into_iter().for_each(|loss_percent| _ = survive(n, &faulty, seed as u64, loss_percent));
    }
}

/// The canary: with one more equivocator than f, working together, the correct replicas decide differently. Were they
/// not able to, the tests here would prove little.
#[test]
fn one_equivocator_too_many_splits_the_others() {
    for dissemination in Dissemination::ALL {
        assert!((0..10).any(|seed| is_split(*dissemination, seed)), "{dissemination}");
    }
}

fn is_split(dissemination: Dissemination, seed: u64) -> bool {
    let faulty = [(0, vec![Kind::Equivocate]), (1, vec![Kind::Equivocate])].into();
    let mut world = World::new(4, &faulty, dissemination, seed);
    world.run_until(Time(100 * MS));
    let [one, other] = [2, 3].map(|id| &world.executors[id].ledger);
    let common = one.len().min(other.len());
    one[..common] != other[..common]
}

/// Not a rule of the protocol but of this test: where nobody is faulty, the first primary stays.
#[test]
fn without_faults_the_first_primary_stays() {
    for n in [4, 7] {
        assert_eq!(survive(n, &BTreeMap::new(), 1, 0), View(0));
    }
}
