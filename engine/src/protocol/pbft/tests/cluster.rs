//! A small cluster in memory: replicas, executors, closed-loop clients and a network that delays, reorders, repeats and
//! loses, all from one seed. (The simulator is the thorough one; this keeps the core honest on its own.)

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use super::{Config, INTERVAL, Pbft, STATUS_NS, WINDOW, batch, config, table};
use super::{body, checkpoint, committed, unproven, vote};
use crate::limits::STATE_CHUNKS_MAX;
use crate::protocol::batching::Batching;
use crate::protocol::client::{ClientTable, Recipients, ReplyOutcome};
use crate::protocol::message::{
    Authentic, Checkpoint, FetchState, Message, NewView, PrePrepare, Signed, SlotStatus, StateChunk, Status, Verdict,
    ViewChange, Vote,
};
use crate::protocol::{Execution, Input, Output, Protocol, Reply, Timer};
use crate::quorum::Quorums;
use crate::requests::{Batch, RequestTable};
use crate::settings::options::Dissemination;
use crate::types::{ClientId, Digest, ReplicaId, SequenceNumber, Time, Timestamp, View};

/// How long a client waits before it sends again. Short: a lost request should not make the tests wait.
const RETRY_NS: u64 = 4 * STATUS_NS;

/// The timestamp of a request that a client has in hand: above all others.
const PROMISED: Timestamp = Timestamp(1 << 32);

/// How a replica lies about snapshots. In all else it is correct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lie {
    /// It sends chunks of another state.
    WrongChunks,
    /// It says that it keeps none.
    NoSnapshot,
    /// It has always one chunk more to send.
    Endless,
    /// It does not answer.
    Silence,
    /// It vouches for a state that it makes up, and sends that.
    WrongState,
}

impl Lie {
    pub(super) const ALL: [Self; 5] =
        [Self::WrongChunks, Self::NoSnapshot, Self::Endless, Self::Silence, Self::WrongState];
}

/// What the network does to a message.
#[derive(Clone, Copy)]
pub(super) struct Network {
    pub(super) loss_percent: u64,
    pub(super) repeat_percent: u64,
    pub(super) delay_max_ns: u64,
    /// Whether status messages, and wishes for a state, get through.
    pub(super) statuses: bool,
}

impl Network {
    pub(super) const CALM: Self = Self { loss_percent: 0, repeat_percent: 0, delay_max_ns: 50_000, statuses: true };
}

/// Chunks of a snapshot here.
const CHUNKS: u32 = 7;
/// The digest that a replica which lies vouches for.
const WRONG_STATE: Digest = Digest([0xba; 32]);

/// A snapshot that stands for the state with this digest.
fn chunks(sequence: SequenceNumber, state: Digest) -> Vec<Bytes> {
    (0..CHUNKS).map(|index| format!("{index} of {state} at {sequence}").into()).collect()
}

enum Event {
    Input(usize, Box<Input>),
    Timer(usize, Timer),
    /// The executor of a replica finishes a batch.
    Finish(usize, Box<Execution>),
    /// It gets to something else that it was asked to do, in order with the batches.
    Serve(usize, Output),
    Reply(usize, ClientId, Timestamp, Vec<u8>),
    Retry(ClientId, Timestamp, u32),
}

/// A fake executor: applies each request once, in order, to a hash chain. Its state as a whole is its snapshot.
#[derive(Clone, Default)]
struct Executor {
    ledger: Vec<Digest>,
    state: Digest,
    newest: HashMap<ClientId, (Timestamp, Vec<u8>)>,
    operations: u64,
}

pub(super) struct Cluster {
    quorums: Quorums,
    dissemination: Dissemination,
    pub(super) network: Network,
    /// Replicas that neither hear nor speak: crashed, or cut off for a while.
    pub(super) silent: Vec<bool>,
    /// Replicas for which the authenticators of client 0 do not hold.
    pub(super) distrust: Vec<bool>,
    replicas: Vec<Pbft>,
    executors: Vec<Executor>,
    timers: HashMap<(usize, Timer), Time>,
    clients: ClientTable,
    /// How many operations each client still has to ask for.
    pub(super) to_do: u64,
    pub(super) completed: u64,
    begun: u64,
    events: BTreeMap<(Time, u64), Event>,
    order: u64,
    pub(super) now: Time,
    seed: u64,
    /// How often state was asked for.
    pub(super) fetches: usize,
    /// How each replica lies about snapshots, if it does.
    pub(super) lies: Vec<Option<Lie>>,
    /// Replicas keep no batches below their low watermarks.
    pub(super) forgetful: bool,
    wishes: Vec<BTreeSet<SequenceNumber>>,
    /// The states that each replica keeps.
    kept: Vec<BTreeMap<SequenceNumber, Executor>>,
    /// Messages between replicas.
    pub(super) messages: u64,
    /// View-changes that were sent: what a new-view can name.
    overheard: Vec<Signed<ViewChange>>,
}

impl Cluster {
    /// `n` replicas and `clients` clients, each of which asks for `operations` operations, one after the other.
    pub(super) fn new(n: usize, clients: u32, operations: u64, batching: Batching, seed: u64) -> Self {
        Self::disseminating(Dissemination::Inline, n, clients, operations, batching, seed)
    }

    /// The same, with requests that get to the replicas in this way.
    pub(super) fn disseminating(
        dissemination: Dissemination,
        n: usize,
        clients: u32,
        operations: u64,
        batching: Batching,
        seed: u64,
    ) -> Self {
        let quorums = Quorums::new(n).unwrap();
        let mut cluster = Self {
            quorums,
            dissemination,
            network: Network::CALM,
            silent: vec![false; n],
            distrust: vec![false; n],
            replicas: Vec::new(),
            executors: (0..n).map(|_| Executor::default()).collect(),
            timers: HashMap::new(),
            clients: ClientTable::new(quorums, ClientId(0), clients),
            to_do: u64::from(clients) * (operations - 1),
            completed: 0,
            begun: u64::from(clients),
            events: BTreeMap::new(),
            order: 0,
            now: Time(0),
            seed,
            fetches: 0,
            lies: vec![None; n],
            forgetful: false,
            wishes: vec![BTreeSet::new(); n],
            kept: vec![BTreeMap::new(); n],
            messages: 0,
            overheard: Vec::new(),
        };
        for own in 0..n {
            let mut outputs = Vec::new();
            let config =
                Config { clients, batching: batching.clone(), dissemination, ..config(n, u16::try_from(own).unwrap()) };
            assert!(config.window == WINDOW && config.checkpoint_interval == INTERVAL);
            cluster.replicas.push(Pbft::new(config, Time(0), &mut outputs));
            cluster.act(own, outputs);
        }
        for client in 0..clients {
            cluster.begin(ClientId(client), Timestamp(1));
        }
        cluster
    }

    /// Runs until nothing is left to be done by clients and all that are not silent stand at the same place, or until
    /// `deadline`. Says whether it got there.
    pub(super) fn settle(&mut self, deadline: Time) -> bool {
        loop {
            if self.completed == self.begun && self.to_do == 0 && self.is_level() {
                return true;
            }
            if !self.run_one(deadline) {
                return false;
            }
        }
    }

    /// Runs up to `deadline`.
    pub(super) fn run(&mut self, deadline: Time) {
        while self.run_one(deadline) {}
        self.now = deadline;
    }

    fn run_one(&mut self, deadline: Time) -> bool {
        let Some(entry) = self.events.first_entry() else { return false };
        if entry.key().0 > deadline {
            return false;
        }
        let ((now, _), event) = entry.remove_entry();
        self.now = now;
        self.handle(event);
        true
    }

    /// Whether all replicas that can speak have executed the same and made the same checkpoint stable.
    fn is_level(&self) -> bool {
        let mut positions = (0..self.replicas.len()).filter(|&at| !self.silent[at]).map(|at| {
            let position = self.replicas[at].position();
            (position.executed, position.stable_checkpoint)
        });
        let first = positions.next();
        positions.all(|position| Some(position) == first)
    }

    pub(super) fn executed(&self, replica: usize) -> u64 {
        self.replicas[replica].position().executed.0
    }

    /// The highest view that a replica which can speak takes part in.
    pub(super) fn highest_view(&self) -> View {
        let positions = (0..self.replicas.len()).filter(|&at| !self.silent[at]).map(|at| self.replicas[at].position());
        positions.filter(|position| position.active).map(|position| position.view).max().unwrap_or_default()
    }

    /// Where everybody stands, for messages.
    pub(super) fn positions(&self) -> Vec<crate::protocol::Position> {
        self.replicas.iter().map(Protocol::position).collect()
    }

    /// Agreement, and exactly-once execution.
    pub(super) fn check(&self) {
        for (replica, executor) in self.executors.iter().enumerate() {
            for (other, reference) in self.executors.iter().enumerate() {
                let common = executor.ledger.len().min(reference.ledger.len());
                assert_eq!(executor.ledger[..common], reference.ledger[..common], "{replica} and {other} differ");
            }
        }
        assert_eq!(self.clients.wrong().iter().sum::<u64>(), 0);
        let longest = self.executors.iter().map(|executor| executor.operations).max();
        assert!(longest <= Some(self.begun), "an operation was executed twice");
        assert!(longest >= Some(self.completed), "an operation completed that nobody executed");
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Input(to, input) => self.step(to, *input),
            Event::Timer(replica, timer) => {
                if self.timers.get(&(replica, timer)) == Some(&self.now) {
                    self.timers.remove(&(replica, timer));
                    self.step(replica, Input::Timer(timer));
                }
            }
            Event::Finish(replica, execution) => self.execute(replica, &execution),
            Event::Serve(replica, output) => self.serve(replica, output),
            Event::Reply(from, client, timestamp, result) => self.on_reply(from, client, timestamp, &result),
            Event::Retry(client, timestamp, attempt) => self.request(client, timestamp, attempt),
        }
    }

    fn step(&mut self, replica: usize, input: Input) {
        let mut outputs = Vec::new();
        if self.forgetful {
            self.replicas[replica].log.forget_history();
        }
        self.replicas[replica].step(self.now, input, &mut outputs);
        self.act(replica, outputs);
    }

    fn act(&mut self, replica: usize, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send(to, message) => self.send(replica, usize::from(to.0), &message),
                Output::Broadcast(message) => {
                    self.fetches += usize::from(matches!(*message, Message::StateWanted(_)));
                    for to in (0..self.executors.len()).filter(|&to| to != replica) {
                        self.send(replica, to, &message);
                    }
                }
                Output::Execute(execution) => {
                    // Everything finishes in order: the same delay for all.
                    self.at(self.now.after(20_000), Event::Finish(replica, Box::new(execution)));
                }
                Output::KeepState(_) | Output::ReadState { .. } | Output::InstallState { .. } => {
                    self.at(self.now.after(20_000), Event::Serve(replica, output));
                }
                Output::Recall(table) => self.recall(replica, &table),
                Output::SetTimer(timer, due) => {
                    self.timers.insert((replica, timer), due);
                    self.at(due, Event::Timer(replica, timer));
                }
                Output::CancelTimer(timer) => drop(self.timers.remove(&(replica, timer))),
                Output::StableCheckpoint(_) | Output::Ignored(_) => {}
                Output::Confirm(..) | Output::RollBack(_) | Output::Diverged { .. } | Output::Persist(_) => {
                    panic!("unexpected {output:?}")
                }
            }
        }
    }

    fn execute(&mut self, replica: usize, execution: &Execution) {
        let executor = &mut self.executors[replica];
        let requests = &execution.batch.requests;
        let mut replies = Vec::new();
        for index in 0..requests.len() {
            let (client, timestamp) = (requests.clients[index], requests.timestamps[index]);
            if executor.newest.get(&client).is_some_and(|(newest, _)| *newest >= timestamp) {
                continue;
            }
            let result = timestamp.0.to_le_bytes().to_vec();
            executor.newest.insert(client, (timestamp, result.clone()));
            executor.operations += 1;
            replies.push((client, timestamp, result));
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&executor.state.0).update(&execution.batch.digest.0);
        executor.state = hasher.finalize().into();
        executor.ledger.push(executor.state);
        assert_eq!(executor.ledger.len() as u64, execution.sequence.0, "executed in order");

        let state = executor.state;
        if self.wishes[replica].remove(&execution.sequence) {
            self.kept[replica].insert(execution.sequence, executor.clone());
        }
        for (client, timestamp, result) in replies {
            self.reply(replica, client, timestamp, result);
        }
        self.step(replica, Input::Executed(execution.sequence));
        if execution.sequence.0.is_multiple_of(INTERVAL) {
            self.step(replica, Input::CheckpointTaken(execution.sequence, state));
        }
    }

    fn serve(&mut self, replica: usize, output: Output) {
        match output {
            Output::KeepState(sequence) => {
                let executor = &self.executors[replica];
                if sequence.0 == executor.ledger.len() as u64 {
                    self.kept[replica].insert(sequence, executor.clone());
                }
                self.wishes[replica].insert(sequence);
            }
            Output::ReadState { to, fetch: FetchState { sequence, index } } => {
                let state = self.kept[replica].get(&sequence).map(|kept| kept.state);
                let chunk = state.and_then(|state| chunks(sequence, state).get(index as usize).cloned());
                let count = if chunk.is_some() { CHUNKS } else { 0 };
                let chunk = StateChunk { sequence, index, count, bytes: chunk.unwrap_or_default() };
                self.step(replica, Input::StateRead(to, chunk));
            }
            Output::InstallState { sequence, digest, chunks: given } => {
                let installed = &self.executors[replica];
                assert!(sequence.0 > installed.ledger.len() as u64, "never backwards");
                let good = given == chunks(sequence, digest);
                if good {
                    let kept = self.kept.iter().flat_map(BTreeMap::values).find(|kept| kept.state == digest);
                    let state = kept.expect("no replica has this state").clone();
                    self.kept[replica].insert(sequence, state.clone());
                    self.executors[replica] = state;
                }
                self.step(replica, Input::StateInstalled { sequence, good });
            }
            _ => panic!("unexpected {output:?}"),
        }
    }

    /// What a replica that lies about snapshots makes of its message.
    fn distort(&self, from: usize, message: &mut Message) -> bool {
        match (self.lies[from], message) {
            (Some(Lie::Silence), Message::StateChunk(_)) => return false,
            (Some(Lie::NoSnapshot), Message::StateChunk(chunk)) => (chunk.count, chunk.bytes) = (0, Bytes::new()),
            (Some(Lie::WrongChunks), Message::StateChunk(chunk)) => chunk.bytes = Bytes::from_static(b"made up"),
            (Some(Lie::Endless), Message::StateChunk(chunk)) => {
                (chunk.count, chunk.bytes) = (STATE_CHUNKS_MAX, Bytes::from_static(b"more"));
            }
            (Some(Lie::WrongState), Message::StateChunk(chunk)) => {
                chunk.count = CHUNKS;
                chunk.bytes = chunks(chunk.sequence, WRONG_STATE)[chunk.index as usize % CHUNKS as usize].clone();
            }
            (Some(Lie::WrongState), Message::Checkpoint(checkpoint)) => checkpoint.digest = WRONG_STATE,
            _ => {}
        }
        true
    }

    fn recall(&mut self, replica: usize, table: &RequestTable) {
        let mut missing = Vec::new();
        for index in 0..table.len() {
            let client = table.clients[index];
            match self.executors[replica].newest.get(&client) {
                Some((newest, result)) if *newest >= table.timestamps[index] => {
                    let (timestamp, result) = (*newest, result.clone());
                    self.reply(replica, client, timestamp, result);
                }
                _ => missing.push(index),
            }
        }
        if !missing.is_empty() {
            self.step(replica, Input::NotExecuted(Arc::new(table.select(&missing))));
        }
    }

    fn begin(&mut self, client: ClientId, timestamp: Timestamp) {
        self.clients.begin(client, timestamp);
        self.request(client, timestamp, 0);
    }

    fn request(&mut self, client: ClientId, timestamp: Timestamp, attempt: u32) {
        if self.clients.outstanding(client) != Some(timestamp) {
            return; // it was answered in the meantime
        }
        let requests = table(&[(client.0, timestamp.0)]);
        let to = match ClientTable::send_to(self.dissemination, attempt) {
            Recipients::Primary => usize::from(self.clients.primary().0)..usize::from(self.clients.primary().0) + 1,
            Recipients::All => 0..self.executors.len(),
        };
        for to in to {
            if client == ClientId(0) && self.distrust[to] {
                continue; // refused before it gets to the protocol
            }
            self.transmit(None, to, Event::Input(to, Box::new(Input::Requests(Arc::clone(&requests)))));
        }
        self.at(self.now.after(RETRY_NS), Event::Retry(client, timestamp, attempt + 1));
    }

    fn reply(&mut self, from: usize, client: ClientId, timestamp: Timestamp, result: Vec<u8>) {
        self.transmit(Some(from), usize::MAX, Event::Reply(from, client, timestamp, result));
    }

    fn on_reply(&mut self, from: usize, client: ClientId, timestamp: Timestamp, result: &[u8]) {
        let replica = ReplicaId(u16::try_from(from).unwrap());
        let outcome = self.clients.on_reply(&Reply {
            replica,
            view: self.replicas[from].position().view,
            client,
            timestamp,
            result,
            is_digest: false,
            tentative: false,
        });
        assert_ne!(outcome, ReplyOutcome::Unknown);
        if outcome == ReplyOutcome::Completed {
            assert_eq!(self.clients.result(client), Some(&timestamp.0.to_le_bytes()[..]));
            self.completed += 1;
            if self.to_do > 0 {
                self.to_do -= 1;
                self.begun += 1;
                self.begin(client, Timestamp(timestamp.0 + 1));
            }
        }
    }

    fn send(&mut self, from: usize, to: usize, message: &Arc<Message>) {
        self.messages += 1;
        let sender = ReplicaId(u16::try_from(from).unwrap());
        let mut message = message.as_ref().clone();
        match &mut message {
            Message::ViewChange(signed) => {
                signed.signature = Some([0; 64]);
                self.overheard.push(signed.clone());
            }
            Message::NewView(signed) => signed.signature = Some([0; 64]),
            _ => {}
        }
        if !self.distort(from, &mut message) {
            return;
        }
        let proven = match &message {
            Message::PrePrepare(message) => {
                !(self.distrust[to] && message.batch.requests.clients.contains(&ClientId(0)))
            }
            Message::Status(_) | Message::StateWanted(_) if !self.network.statuses => return,
            _ => true,
        };
        let authentic =
            Authentic { sender, message, signature: None, requests: if proven { Verdict::GOOD } else { unproven() } };
        self.transmit(Some(from), to, Event::Input(to, Box::new(Input::Message(authentic))));
    }

    /// A faulty replica, itself silent, says something to another.
    pub(super) fn say(&mut self, from: u16, to: usize, message: Message) {
        let authentic = Authentic { sender: ReplicaId(from), message, signature: None, requests: Verdict::GOOD };
        self.step(to, Input::Message(authentic));
    }

    /// A client that has had all its answers has one more request, which it does not send yet.
    pub(super) fn promise(&mut self, client: u32) -> Arc<RequestTable> {
        let (client, timestamp) = (ClientId(client), PROMISED);
        self.clients.begin(client, timestamp);
        self.begun += 1;
        table(&[(client.0, timestamp.0)])
    }

    /// Now it sends it to everybody.
    pub(super) fn press(&mut self, client: u32) {
        self.request(ClientId(client), PROMISED, 1);
    }

    /// The state of a replica where it has executed `sequence`.
    pub(super) fn state(&self, replica: usize, sequence: u64) -> Digest {
        self.executors[replica].ledger[usize::try_from(sequence).unwrap() - 1]
    }

    /// One of the `liars`, whose own replicas are silent, says something to one replica: well-formed, authentic and
    /// made up.
    pub(super) fn lie(&mut self, liars: &[u16]) {
        let liar = liars[self.pick(liars.len())];
        let to = self.pick(self.executors.len());
        // Few batches, near positions, and mostly one story for each: so that lies meet each other and are believed by
        // some.
        let made_up = [Batch::null(), batch(&[(0, 1)]), batch(&[(1, 1), (2, 1)])];
        let about = self.executed(to).saturating_sub(2) + self.random(2 * WINDOW + 4);
        let story = usize::try_from(about).unwrap() + usize::from(self.random(5) == 0);
        let chosen = &made_up[story % made_up.len()];
        let view = View(self.positions()[to].view.0 + self.random(2));
        let vote = Vote { view, ..vote(about, chosen) };
        let message = match self.random(12) {
            0 | 1 => Message::PrePrepare(PrePrepare { view, sequence: vote.sequence, batch: Arc::clone(chosen) }),
            2 => Message::Prepare(vote),
            3 => Message::Commit(vote),
            9 | 10 => Message::ViewChange(self.lie_about_views(liar, view, chosen)),
            11 => Message::NewView(self.lie_about_new_view(view)),
            4 => committed(about, chosen),
            5 => body(about, chosen),
            6 => checkpoint(about / INTERVAL * INTERVAL, 1),
            7 => checkpoint(about, 2),
            _ => Message::Status(Status {
                view: View(0),
                active: true,
                suspects: false,
                view_changes: 0,
                stable: SequenceNumber(self.random(about + 1)),
                committed: SequenceNumber(about),
                slots: vec![SlotStatus::default(); self.pick(5)],
            }),
        };
        let requests = if self.random(4) > 0 { Verdict::GOOD } else { unproven() };
        let authentic = Authentic { sender: ReplicaId(liar), message, signature: None, requests };
        if !self.silent[to] {
            self.step(to, Input::Message(authentic));
        }
    }

    /// A view-change of a liar: well-formed, and made up.
    fn lie_about_views(&mut self, liar: u16, view: View, chosen: &Batch) -> Signed<ViewChange> {
        let correct = self.pick_correct();
        let stable = self.stable(correct).0;
        let view = View(if self.random(20) == 0 { u64::MAX } else { view.0 + 1 });
        let entry = Vote { view: View(view.0 - 1), ..vote(stable + 1 + self.random(WINDOW), chosen) };
        let prepared = if self.random(2) == 0 { vec![entry] } else { Vec::new() };
        let listed = (stable > 0).then(|| {
            let digest = Digest([u8::try_from(self.random(2)).unwrap(); 32]);
            Checkpoint { sequence: SequenceNumber(stable), digest }
        });
        let content = Arc::new(ViewChange {
            replica: ReplicaId(liar),
            view,
            stable: SequenceNumber(stable),
            checkpoints: listed.into_iter().collect(),
            pre_prepared: prepared.clone(),
            prepared,
        });
        let signed = Signed { content, signature: Some([0; 64]) };
        self.overheard.push(signed.clone());
        signed
    }

    /// A new-view on view-changes that were really sent, some of them by liars. Only the view's primary can sign one.
    fn lie_about_new_view(&mut self, view: View) -> Signed<NewView> {
        let mut view_changes = Vec::new();
        for replica in (0..).take(self.executors.len()).map(ReplicaId) {
            let of_view =
                |signed: &&Signed<ViewChange>| signed.content.view == view && signed.content.replica == replica;
            view_changes.extend(self.overheard.iter().rev().find(of_view).map(|s| (replica, s.content.digest())));
        }
        let primary = usize::from(view.primary(self.executors.len()).0);
        // In place of a signature that can not be made: one that nobody accepts.
        let view = if self.silent[primary] { view } else { View(0) };
        Signed { content: Arc::new(NewView { view, view_changes }), signature: Some([0; 64]) }
    }

    fn pick_correct(&mut self) -> usize {
        let correct: Vec<usize> = (0..self.executors.len()).filter(|&at| !self.silent[at]).collect();
        correct[self.pick(correct.len())]
    }

    fn pick(&mut self, among: usize) -> usize {
        usize::try_from(self.random(among as u64)).unwrap()
    }

    /// Puts a message on the network, which may lose it, repeat it and overtake it.
    fn transmit(&mut self, from: Option<usize>, to: usize, event: Event) {
        let silent = |at: usize| self.silent.get(at).copied().unwrap_or(false);
        if from.is_some_and(silent) || silent(to) || self.random(100) < self.network.loss_percent {
            return;
        }
        let repeat = match &event {
            Event::Input(to, input) => Some(Event::Input(*to, input.clone())),
            _ => None,
        };
        if let Some(repeat) = repeat.filter(|_| self.random(100) < self.network.repeat_percent) {
            let later = self.now.after(1 + self.random(self.network.delay_max_ns));
            self.at(later, repeat);
        }
        let later = self.now.after(1 + self.random(self.network.delay_max_ns));
        self.at(later, event);
    }

    fn at(&mut self, time: Time, event: Event) {
        self.order += 1;
        self.events.insert((time, self.order), event);
    }

    /// splitmix64, below `bound`.
    pub(super) fn random(&mut self, bound: u64) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// How often a replica took over a state.
    pub(super) fn states_installed(&self, replica: usize) -> u64 {
        self.replicas[replica].position().states_installed
    }

    /// The stable checkpoint of a replica.
    pub(super) fn stable(&self, replica: usize) -> SequenceNumber {
        self.replicas[replica].position().stable_checkpoint
    }

    /// How many replicas may be faulty.
    pub(super) const fn f(&self) -> usize {
        self.quorums.f()
    }
}
