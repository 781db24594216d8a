//! What becomes of a core's outputs: the order, persist and egress stages.

use std::sync::Arc;

use hippodrome_engine::protocol::planted::Planted;
use hippodrome_engine::protocol::{Message, Output, StableCheckpoint};
use hippodrome_engine::types::{ReplicaId, SequenceNumber};

use super::event::Event;
use super::replica::Work;
use super::{Endpoint, Sent, World};
use crate::check::Checker;
use crate::trace::short;

impl World<'_> {
    /// Takes over what a core says: timers and records at once, everything else when the records before it are durable.
    pub(super) fn emit(&mut self, at: usize, outputs: Vec<Output>) {
        for output in outputs {
            let replica = &mut self.replicas[at];
            let Some(process) = &mut replica.process else { return };
            match output {
                Output::SetTimer(timer, due) => {
                    process.timers.insert(timer, due);
                    let (when, life) = (replica.global(due).max(self.now), replica.life);
                    self.queue.push(when, Event::Timer { at, life, timer, due });
                }
                Output::CancelTimer(timer) => drop(process.timers.remove(&timer)),
                Output::Persist(record) => replica.disk.append(record),
                Output::Ignored(reason) => {
                    *self.coverage.ignored.entry(reason.name()).or_default() += 1;
                    let name = replica.name();
                    self.trace.line(&name, || format!("   ignored: {reason}"));
                }
                output => {
                    let lax = self.planted == Some(Planted::VoteBeforeDurable);
                    let records = if lax { 0 } else { replica.disk.written() };
                    process.gate.push_back((records, output));
                }
            }
        }
        self.sync(at);
        self.pass_gate(at);
    }

    /// Lets pass what waited for records that are durable by now.
    fn pass_gate(&mut self, at: usize) {
        loop {
            let replica = &mut self.replicas[at];
            let durable = replica.disk.durable();
            let Some(process) = &mut replica.process else { return };
            if process.gate.front().is_none_or(|(records, _)| *records > durable) {
                return;
            }
            let Some((_, output)) = process.gate.pop_front() else { return };
            self.act(at, output);
        }
    }

    /// Makes durable what was written, one group after the other.
    fn sync(&mut self, at: usize) {
        let Some(disk) = &self.plan.disk else { return };
        let replica = &mut self.replicas[at];
        if let Some(records) = replica.disk.begin_sync() {
            let usual = replica.random.range(disk.sync_min_ns, disk.sync_max_ns);
            let takes = if replica.slow_disk_until > self.now { usual * 100 } else { usual };
            self.queue.push(self.now + takes, Event::Synced { at, life: replica.life, records });
        }
    }

    /// Records up to this number are durable.
    pub(super) fn synced(&mut self, at: usize, records: usize) {
        self.replicas[at].disk.synced(records);
        self.sync(at);
        self.pass_gate(at);
    }

    fn act(&mut self, at: usize, output: Output) {
        match output {
            Output::Send(to, message) => self.send(at, &[to], &message),
            Output::Broadcast(message) => {
                let own = self.replicas[at].id;
                let all: Vec<ReplicaId> =
                    (0..).take(self.plan.replicas).map(ReplicaId).filter(|to| *to != own).collect();
                self.send(at, &all, &message);
            }
            Output::Execute(execution) => self.work(at, Work::Execute(execution)),
            Output::Recall(table) => {
                let view = self.replicas[at].process.as_ref().map(|process| process.position.view);
                self.work(at, Work::Recall(view.unwrap_or_default(), table));
            }
            Output::KeepState(sequence) => self.work(at, Work::Keep(sequence)),
            Output::ReadState { to, fetch } => self.work(at, Work::Read(to, fetch)),
            Output::InstallState { sequence, digest, chunks } => {
                self.work(at, Work::Install(sequence, digest, chunks));
            }
            Output::StableCheckpoint(checkpoint) => self.on_stable(at, &checkpoint),
            Output::Diverged { sequence, own, quorum } => {
                if self.replicas[at].is_honest() {
                    let name = self.replicas[at].name();
                    self.checks.fail(Checker::Agreement, || {
                        format!("{name} has diverged at {sequence}: {own:?} against {quorum:?}")
                    });
                }
            }
            Output::Confirm(sequence, _) => self.work(at, Work::Confirm(sequence)),
            Output::RollBack(to) => self.work(at, Work::RollBack(to)),
            Output::SetTimer(..) | Output::CancelTimer(_) | Output::Persist(_) | Output::Ignored(_) => {
                unreachable!("taken over at once")
            }
        }
    }

    /// A stable checkpoint: a snapshot there goes to disk, and the next one is asked for.
    fn on_stable(&mut self, at: usize, stable: &StableCheckpoint) {
        let replica = &mut self.replicas[at];
        let name = replica.name();
        self.trace.line(&name, || format!("** checkpoint s{} {} is stable", stable.sequence, short(&stable.digest)));
        let (Some(disk), Some(process)) = (&self.plan.disk, &replica.process) else { return };
        if process.wanted.is_some_and(|wanted| wanted > stable.sequence) || replica.disk.is_writing_snapshot() {
            return;
        }
        if process.wanted == Some(stable.sequence) {
            self.write_snapshot(at, stable.sequence);
        }
        let Some(process) = &mut self.replicas[at].process else { return };
        let interval = self.plan.checkpoint_interval * disk.snapshot_every;
        let next = (process.position.committed.0 / interval + 1) * interval;
        process.wanted = Some(SequenceNumber(next));
        self.work(at, Work::Keep(SequenceNumber(next)));
    }

    /// Writes the snapshot that the executor keeps there to disk, if it does and there is a disk.
    pub(super) fn write_snapshot(&mut self, at: usize, sequence: SequenceNumber) {
        let replica = &mut self.replicas[at];
        let (Some(disk), Some(process)) = (&self.plan.disk, &replica.process) else { return };
        let Some(snapshot) = process.executor.kept(sequence).cloned() else { return };
        replica.disk.write_snapshot(snapshot);
        let takes = 10 * replica.random.range(disk.sync_min_ns, disk.sync_max_ns);
        let when = self.now + if replica.slow_disk_until > self.now { takes * 100 } else { takes };
        self.queue.push(when, Event::SnapshotWritten { at, life: replica.life });
    }

    /// Sends one message to these replicas, as a faulty sender changes it.
    pub(super) fn send(&mut self, at: usize, to: &[ReplicaId], message: &Arc<Message>) {
        let replica = &mut self.replicas[at];
        if replica.is_honest() {
            let (own, quorums) = (replica.id, self.quorums);
            self.check_vote(at, message);
            let replica = &self.replicas[at];
            if replica.blank {
                self.checks.said_blankly(own, message);
            } else {
                self.checks.said(own, message, |view| quorums.primary(view));
            }
            if let Some(message) = self.prover.seal(own, message) {
                let message = Arc::new(message);
                for to in to {
                    self.transmit(at, *to, &message);
                }
            }
            return;
        }
        for to in to {
            for message in self.falsify(at, *to, message) {
                if let Some(mutator) = &mut self.replicas[at].mutator {
                    mutator.remember(&message);
                }
                self.transmit(at, *to, &Arc::new(message));
            }
        }
    }

    /// What a faulty replica says to `to` in place of `message`, sealed. Counts lies.
    fn falsify(&mut self, at: usize, to: ReplicaId, message: &Arc<Message>) -> Vec<Message> {
        let replica = &mut self.replicas[at];
        let own = replica.id;
        let shadow = replica.process.as_ref().and_then(|process| process.shadow.as_ref());
        let falsified = shadow.map_or_else(|| message.as_ref().clone(), |shadow| shadow.falsify((**message).clone()));
        let messages = match &mut replica.mutator {
            Some(mutator) => mutator.change(&falsified, to),
            None => vec![falsified],
        };
        let sealed: Vec<Message> = messages.iter().filter_map(|message| self.prover.seal(own, message)).collect();
        if replica.twin.is_some() {
            let contradictions = sealed.iter().filter(|message| self.twins.contradict(own, message)).count() as u64;
            self.coverage.contradictions += contradictions;
            self.coverage.lies += contradictions;
        }
        // To say the truth twice is no lie.
        let honest = self.prover.seal(own, message);
        let differ = sealed.iter().filter(|message| Some(*message) != honest.as_ref()).count();
        self.coverage.lies += differ.max(usize::from(sealed.is_empty())) as u64;
        sealed
    }

    /// Puts a message on the network.
    fn transmit(&mut self, at: usize, to: ReplicaId, message: &Sent) {
        let (from, twin) = (self.replicas[at].id, self.replicas[at].twin);
        let sender = Endpoint::replica(from, twin);
        let spoilt = self.replicas[at].kinds().iter().any(|kind| kind.corrupts_proof_to(to));
        self.coverage.lies += u64::from(spoilt);
        for index in 0..self.replicas.len() {
            let receiver = &self.replicas[index];
            if receiver.id != to || from == to {
                continue;
            }
            let endpoint = Endpoint::replica(to, receiver.twin);
            if !self.twins.deal(from.0, twin, endpoint) || !self.twins.deal(to.0, receiver.twin, sender) {
                continue;
            }
            for arrival in self.network.arrivals(self.now, sender, endpoint).into_iter().flatten() {
                self.queue.push(arrival, Event::Message { from, to: index, message: Arc::clone(message), spoilt });
            }
        }
    }
}
