//! Inputs to one replica's core, in an order and with contents that nobody foresaw.
//!
//! The bytes are a list of actions: messages of all kinds by the three others, requests, timers, what the executor
//! answers, restarts from what was recorded. All three others may lie, so nothing is checked that rests on most of
//! them: only what one replica owes whatever it is told. What nobody can forge, its own signed messages, is not made
//! up.
//!
//! `draw` makes messages out of bytes, `checks` holds what was said and recorded.

mod checks;
mod draw;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use checks::Checks;
use draw::{Draw, PALETTE};
use hippodrome_engine::protocol::batching::Batching;
use hippodrome_engine::protocol::message::{Checkpoint, FetchState, NewView, Signed, StateChunk, ViewChange, Vote};
use hippodrome_engine::protocol::pbft::{Config, Pbft, Recovery};
use hippodrome_engine::protocol::{
    Authentic, Execution, Input, Message, Output, Position, Protocol as _, Record, Timer,
};
use hippodrome_engine::quorum::Quorums;
use hippodrome_engine::requests::{Batch, RequestTable};
use hippodrome_engine::settings::{Dissemination, ExecutionChoice};
use hippodrome_engine::types::{Digest, ReplicaId, SequenceNumber, Time, View};

/// Replicas.
const N: u16 = 4;
/// K.
const INTERVAL: u64 = 4;
/// L.
const WINDOW: u64 = 8;
/// Logical clients.
const CLIENTS: u32 = 6;
/// Most actions of one run, so that each is quick.
const ACTIONS_MAX: usize = 400;
const MILLISECOND: u64 = 1_000_000;
/// Most own proposals that are remembered to be voted for.
const PROPOSALS_MAX: usize = 8;

/// A replica executes in order and without a gap, never contradicts itself even when it is started anew, makes each
/// vote durable before it casts it, commits and executes only on quorums, never goes back to an earlier view, and
/// answers each input with a bounded number of outputs.
///
/// # Panics
/// If one of these does not hold.
pub fn protocol(bytes: &[u8]) {
    let mut draw = Draw::new(bytes);
    let mut world = World::new(&mut draw);
    for _ in 0..ACTIONS_MAX {
        if draw.is_empty() {
            break;
        }
        world.act(&mut draw);
    }
}

/// What the executor has to do.
enum Work {
    Execute(Execution),
    Confirm(SequenceNumber),
    Install(SequenceNumber, Digest),
}

struct World {
    config: Config,
    core: Pbft,
    now: Time,
    timers: BTreeMap<Timer, Time>,
    work: VecDeque<Work>,
    /// What was recorded, in all lives.
    records: Vec<Record>,
    /// The last state that was fetched: it is durable at once.
    saved: Checkpoint,
    checks: Checks,
    batches: Vec<Arc<Batch>>,
    /// What this replica proposed, newest last.
    proposals: VecDeque<Vote>,
    /// The newest view-change of each replica.
    changes: BTreeMap<ReplicaId, Signed<ViewChange>>,
    recalled: VecDeque<Arc<RequestTable>>,
    fetches: VecDeque<(ReplicaId, FetchState)>,
    reads: VecDeque<(ReplicaId, FetchState)>,
}

impl World {
    fn new(draw: &mut Draw<'_>) -> Self {
        let batching: Vec<Batching> = Batching::samples().collect();
        let (who, how) = (draw.byte(), draw.byte());
        let config = Config {
            quorums: Quorums::new(usize::from(N)).expect("four replicas"),
            own: ReplicaId(u16::from(who) % N),
            window: WINDOW,
            checkpoint_interval: INTERVAL,
            batching: batching[usize::from(how) % batching.len()].clone(),
            dissemination: if who < 128 { Dissemination::Inline } else { Dissemination::Digest },
            execution: if how < 128 { ExecutionChoice::Committed } else { ExecutionChoice::Tentative },
            clients: CLIENTS,
            principals: Arc::new([0..2, 2..4]),
            status_interval_ns: MILLISECOND,
            view_timeout_ns: 10 * MILLISECOND,
            view_timeout_max_ns: 1000 * MILLISECOND,
            durable: true,
            voting: true,
            planted: None,
        };
        let mut outputs = Vec::new();
        let core = Pbft::new(config.clone(), Time(0), &mut outputs);
        let mut world = Self {
            checks: Checks::new(config.own, core.position()),
            core,
            config,
            now: Time(0),
            timers: BTreeMap::new(),
            work: VecDeque::new(),
            records: Vec::new(),
            saved: Checkpoint { sequence: SequenceNumber(0), digest: Digest::default() },
            batches: draw::batches(),
            proposals: VecDeque::new(),
            changes: BTreeMap::new(),
            recalled: VecDeque::new(),
            fetches: VecDeque::new(),
            reads: VecDeque::new(),
        };
        world.take(outputs);
        world
    }

    fn others(&self) -> impl Iterator<Item = ReplicaId> + use<> {
        let own = self.config.own;
        (0..N).map(ReplicaId).filter(move |replica| *replica != own)
    }

    fn primary(&self, view: View) -> ReplicaId {
        self.config.quorums.primary(view)
    }

    fn step(&mut self, input: Input) {
        let mut outputs = Vec::new();
        self.core.step(self.now, input, &mut outputs);
        self.take(outputs);
    }

    fn hear(&mut self, sender: ReplicaId, message: Message, draw: &mut Draw<'_>) {
        self.checks.heard(sender, &message);
        let requests = draw.verdict(&message);
        let signature = Some([u8::try_from(sender.0).unwrap_or(u8::MAX); 64]);
        self.step(Input::Message(Authentic { sender, message, signature, requests }));
    }

    fn act(&mut self, draw: &mut Draw<'_>) {
        match draw.byte() % 16 {
            0 => {
                let table = draw.requests(CLIENTS);
                self.step(Input::Requests(table));
            }
            1 | 2 => self.propose_and_vote(draw),
            3 => self.vote(draw),
            4 => self.execute_next(draw),
            5 => {
                while !self.work.is_empty() {
                    self.execute_next(draw);
                }
            }
            6 => self.fire_timer(),
            7 => self.now = self.now.after(u64::from(draw.byte()) * MILLISECOND / 8),
            8 => self.tell_checkpoint(draw),
            9 => self.change_view(draw),
            10 => self.start_view(draw),
            11 => {
                if let Some(table) = self.recalled.pop_front() {
                    self.step(Input::NotExecuted(table));
                }
            }
            12 => {
                if draw.byte().is_multiple_of(4) {
                    self.restart();
                }
            }
            13 => self.answer_fetches(draw),
            14 => self.odd_answer(draw),
            _ => self.any_message(draw),
        }
    }

    /// A digest that somebody may have voted for.
    fn digest(&self, draw: &mut Draw<'_>) -> Digest {
        let index = usize::from(draw.byte() % 16);
        let proposal = |index: usize| self.proposals.iter().rev().nth(index).map(|vote| vote.digest);
        let batch = |index: usize| self.batches[index % self.batches.len()].digest;
        if index < 8 { proposal(index).unwrap_or_else(|| batch(index)) } else { batch(index) }
    }

    /// The primary proposes, if it is not this replica, and some others prepare and commit.
    fn propose_and_vote(&mut self, draw: &mut Draw<'_>) {
        let Position { view, committed, .. } = self.core.position();
        let who = draw.byte();
        let sequence = draw.sequence(committed.0 + 1);
        let primary = self.primary(view);
        let digest = if primary == self.config.own {
            let Some(proposal) = self.proposals.iter().rev().find(|proposal| proposal.sequence == sequence) else {
                return self.step(Input::Requests(draw.requests(CLIENTS)));
            };
            proposal.digest
        } else {
            let batch = Arc::clone(&self.batches[usize::from(draw.byte()) % self.batches.len()]);
            let digest = batch.digest;
            let by_digests = self.config.dissemination == Dissemination::Digest && who & (1 << 6) != 0;
            let propose = if by_digests { draw::digest_pre_prepare } else { draw::pre_prepare };
            self.hear(primary, propose(view, sequence, batch), draw);
            digest
        };
        let vote = Vote { view, sequence, digest };
        for (bit, other) in self.others().enumerate() {
            if who & (1 << bit) == 0 && other != primary {
                self.hear(other, Message::Prepare(vote), draw);
            }
            if who & (8 << bit) == 0 {
                self.hear(other, Message::Commit(vote), draw);
            }
        }
    }

    /// Some others say the same about one sequence number.
    fn vote(&mut self, draw: &mut Draw<'_>) {
        let Position { view, committed, .. } = self.core.position();
        let (kind, who) = (draw.byte(), draw.byte());
        let vote = Vote { view: draw.view(view), sequence: draw.sequence(committed.0 + 1), digest: self.digest(draw) };
        for (bit, other) in self.others().enumerate() {
            if who & (1 << bit) == 0 {
                let message = match kind % 3 {
                    0 => Message::Prepare(vote),
                    1 => Message::Commit(vote),
                    _ => Message::Committed(vote),
                };
                self.hear(other, message, draw);
            }
            if who & (8 << bit) != 0
                && let Some(batch) = self.batches.iter().find(|batch| batch.digest == vote.digest)
            {
                let message = draw::body(vote.sequence, Arc::clone(batch));
                self.hear(other, message, draw);
            }
        }
    }

    fn execute_next(&mut self, draw: &mut Draw<'_>) {
        match self.work.pop_front() {
            Some(Work::Execute(execution)) if execution.tentative => {} // its confirmation follows, or it is undone
            Some(Work::Execute(Execution { sequence, .. }) | Work::Confirm(sequence)) => {
                self.step(Input::Executed(sequence));
                if sequence.0.is_multiple_of(INTERVAL) {
                    self.step(Input::CheckpointTaken(sequence, draw.state()));
                }
            }
            Some(Work::Install(sequence, digest)) => {
                let good = !draw.byte().is_multiple_of(4);
                self.checks.installed(sequence, good);
                if good {
                    self.saved = Checkpoint { sequence, digest };
                }
                self.step(Input::StateInstalled { sequence, good });
            }
            None => {}
        }
    }

    fn fire_timer(&mut self) {
        let Some((timer, at)) = self.timers.iter().min_by_key(|(_, at)| **at).map(|(timer, at)| (*timer, *at)) else {
            return;
        };
        self.timers.remove(&timer);
        self.now = self.now.max(at);
        self.step(Input::Timer(timer));
    }

    fn tell_checkpoint(&mut self, draw: &mut Draw<'_>) {
        let Position { stable_checkpoint, .. } = self.core.position();
        let (who, ahead) = (draw.byte(), draw.byte());
        let sequence = match ahead % 8 {
            7 => draw.sequence(0),
            ahead => SequenceNumber(stable_checkpoint.0.saturating_add(INTERVAL * u64::from(ahead))),
        };
        let digest = draw.state();
        for (bit, other) in self.others().enumerate() {
            if who & (1 << bit) == 0 {
                self.hear(other, Message::Checkpoint(Checkpoint { sequence, digest }), draw);
            }
        }
    }

    /// Some others leave for one view.
    fn change_view(&mut self, draw: &mut Draw<'_>) {
        let position = self.core.position();
        let (who, view) = (draw.byte(), draw.view(View(position.view.0.saturating_add(1))));
        for (bit, other) in self.others().enumerate() {
            if who & (1 << bit) == 0 {
                let change = draw.view_change(other, view, &position, |draw| self.digest(draw));
                self.relay_change(other, change, draw);
            }
        }
    }

    fn relay_change(&mut self, sender: ReplicaId, change: ViewChange, draw: &mut Draw<'_>) {
        let signed = Signed { content: Arc::new(change), signature: Some([9; 64]) };
        self.changes.insert(signed.content.replica, signed.clone());
        self.hear(sender, Message::ViewChange(signed), draw);
    }

    /// Another replica starts a view, on the view-changes that were said. Nobody can do so in this replica's name.
    fn start_view(&mut self, draw: &mut Draw<'_>) {
        let view = draw.view(self.core.position().view);
        let (primary, leave_out) = (self.primary(view), draw.byte());
        if primary == self.config.own {
            return;
        }
        let named = self.changes.iter().filter(|(replica, _)| u16::from(leave_out) != replica.0 + 1);
        let view_changes = named.map(|(replica, signed)| (*replica, signed.content.digest())).collect();
        let new_view = Signed { content: Arc::new(NewView { view, view_changes }), signature: Some([9; 64]) };
        self.hear(primary, Message::NewView(new_view), draw);
    }

    /// The process dies and goes on from what was recorded.
    fn restart(&mut self) {
        let (executions, recovery) = Recovery::plan(self.saved, self.records.clone());
        let mut next = self.saved.sequence;
        for execution in &executions {
            next = next.next();
            assert_eq!(execution.sequence, next, "what is executed again has no gap");
        }
        let stable = recovery.stable.sequence;
        assert_eq!(stable, next, "the protocol goes on where the executor stands");
        self.timers.clear();
        self.work.clear();
        self.recalled.clear();
        self.reads.clear();
        self.fetches.clear();
        let mut outputs = Vec::new();
        self.core = Pbft::recover(self.config.clone(), recovery, self.now, &mut outputs);
        self.checks.restarted(stable);
        self.take(outputs);
    }

    /// Whoever was asked for a chunk sends one, right or wrong; the executor hands out chunks for others.
    fn answer_fetches(&mut self, draw: &mut Draw<'_>) {
        if let Some((to, FetchState { sequence, index })) = self.reads.pop_front() {
            self.step(Input::StateRead(to, StateChunk { sequence, index, count: 1, bytes: Bytes::new() }));
        }
        let Some((source, FetchState { sequence, index })) = self.fetches.pop_front() else { return };
        let odd = draw.byte();
        let chunk = StateChunk {
            sequence,
            index: index.wrapping_add(u32::from(odd >= 250)),
            count: if odd >= 240 { u32::from(draw.byte()) << 24 } else { u32::from(odd % 4) },
            bytes: draw.bytes(),
        };
        self.hear(source, Message::StateChunk(chunk), draw);
    }

    /// What an executor says although nobody asked.
    fn odd_answer(&mut self, draw: &mut Draw<'_>) {
        let sequence = draw.sequence(self.core.position().executed.0);
        // Only what its rings can carry: an executor answers for what it was given, and once.
        if sequence > self.core.position().committed {
            self.step(Input::Executed(sequence));
            self.step(Input::CheckpointTaken(sequence, draw.state()));
        }
        let table = draw.requests(CLIENTS);
        self.step(Input::NotExecuted(table));
    }

    fn any_message(&mut self, draw: &mut Draw<'_>) {
        let position = self.core.position();
        let sender = ReplicaId(u16::from(draw.byte()) % (N + 2));
        let own = self.config.own;
        let digest = self.digest(draw);
        match draw.message(&position, digest, &self.batches) {
            Some(message) => self.hear(sender, message, draw),
            None => {
                // Whoever relays it, it is signed by its origin: a replica, or a client node that says to be one.
                let origin = ReplicaId(u16::from(draw.byte()) % (N + 2));
                if origin != own {
                    let view = draw.view(position.view);
                    let change = draw.view_change(origin, view, &position, |draw| self.digest(draw));
                    self.relay_change(sender, change, draw);
                } else if let Some(signed) = self.changes.get(&own).cloned() {
                    self.hear(sender, Message::ViewChange(signed), draw);
                }
            }
        }
    }

    /// Checks what came out of a step, and does it.
    fn take(&mut self, outputs: Vec<Output>) {
        self.checks.outputs(&outputs, self.core.position());
        for output in outputs {
            match output {
                Output::Persist(record) => self.records.push(record),
                Output::Execute(execution) => self.work.push_back(Work::Execute(execution)),
                Output::Confirm(sequence, _) => self.work.push_back(Work::Confirm(sequence)),
                Output::InstallState { sequence, digest, .. } => self.work.push_back(Work::Install(sequence, digest)),
                Output::SetTimer(timer, at) => drop(self.timers.insert(timer, at)),
                Output::CancelTimer(timer) => drop(self.timers.remove(&timer)),
                Output::Recall(table) => self.recalled.push_back(table),
                Output::ReadState { to, fetch } => self.reads.push_back((to, fetch)),
                Output::Send(to, message) => self.said(Some(to), &message),
                Output::Broadcast(message) => self.said(None, &message),
                _ => {}
            }
        }
    }

    fn said(&mut self, to: Option<ReplicaId>, message: &Message) {
        match (message, to) {
            (Message::FetchState(fetch), Some(to)) => self.fetches.push_back((to, *fetch)),
            (Message::PrePrepare(said), _) => {
                self.proposed(Vote { view: said.view, sequence: said.sequence, digest: said.batch.digest });
            }
            (Message::DigestPrePrepare(said), _) => {
                self.proposed(Vote { view: said.view, sequence: said.sequence, digest: said.manifest.digest() });
            }
            (Message::ViewChange(signed), _) if signed.content.replica == self.config.own => {
                let signed = Signed { signature: Some([9; 64]), ..signed.clone() };
                self.changes.insert(self.config.own, signed);
            }
            _ => {}
        }
    }

    fn proposed(&mut self, vote: Vote) {
        self.proposals.push_back(vote);
        while self.proposals.len() > PROPOSALS_MAX {
            self.proposals.pop_front();
        }
    }
}

/// The digest of a state by its number in the palette.
fn state(number: u8) -> Digest {
    Digest([number % PALETTE; 32])
}
