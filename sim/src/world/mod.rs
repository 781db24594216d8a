//! The simulated world: replicas, clients, network, disks and clocks under one virtual time.
//!
//! One thread takes one event after the other from a [queue](event) and hands it to the part of the world that it
//! concerns. What that part does in turn becomes further events. Nothing here depends on anything but the plan.
//!
//! In the order of a request's life: `clients` and `hostile` (who asks), `network`, `proofs` (the verify stage;
//! `torsion` judges odd signatures), `replica` (a process: core, executor and the queues between), `act` (what becomes
//! of the core's outputs: the order, persist and egress stages), `work` (the execute stage; `tentative`, what it may
//! have to undo), `disk`. What goes wrong: `faults` (the timeline), `mutate` and `shadow` (Byzantine replicas, beside
//! the engine's own; `tap` tells whether those lie), `twins`. `durability` checks what outlasts all that.

use std::collections::BTreeSet;
use std::sync::Arc;

use hippodrome_engine::protocol::planted::Planted;
use hippodrome_engine::protocol::{Input, Message, Output, Position, Record};
use hippodrome_engine::quorum::Quorums;
use hippodrome_engine::requests::Proofs;
use hippodrome_engine::settings::Dissemination;
use hippodrome_engine::types::{ReplicaId, SequenceNumber, View};

mod act;
mod batches;
mod clients;
mod disk;
mod durability;
mod event;
mod faults;
mod hostile;
mod mutate;
mod network;
mod proofs;
mod replica;
mod shadow;
mod tap;
mod tentative;
mod torsion;
mod twins;
mod work;

use clients::Clients;
use event::{Event, Queue};
use hostile::HostileClient;
use network::Network;
use proofs::Prover;
use replica::Replica;
use torsion::Torsion;
use twins::Twins;

use crate::check::{Checker, Checks};
use crate::coverage::Coverage;
use crate::plan::Plan;
use crate::trace::{Trace, describe};

/// Events of one run, at most: whoever needs more talks without end.
const EVENTS_MAX: u64 = 4_000_000;

/// One end of a link: a replica's process, or all clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Endpoint(u16);

impl Endpoint {
    const CLIENTS: Self = Self(u16::MAX);

    const fn replica(id: ReplicaId, twin: Option<usize>) -> Self {
        Self(id.0 * 2 + matches!(twin, Some(1)) as u16)
    }

    /// The replica as a set; clients are in no partition.
    const fn mask(self) -> u64 {
        if self.0 == u16::MAX { 0 } else { 1 << (self.0 / 2) }
    }
}

/// The world.
pub(crate) struct World<'a> {
    plan: &'a Plan,
    planted: Option<Planted>,
    quorums: Quorums,
    now: u64,
    queue: Queue,
    network: Network,
    prover: Prover,
    replicas: Vec<Replica>,
    twins: Twins,
    clients: Clients,
    hostile: Vec<HostileClient>,
    healed: bool,
    /// Views that assigned batches of earlier ones again.
    reassigned: BTreeSet<View>,
    /// What honest replicas have to reach, once all clients are done.
    target: Option<SequenceNumber>,
    pub(crate) checks: Checks,
    pub(crate) coverage: Coverage,
    pub(crate) trace: Trace,
}

impl<'a> World<'a> {
    /// A world at time 0 in which everything is still to come.
    pub(crate) fn new(plan: &'a Plan, planted: Option<Planted>, trace: bool) -> Self {
        let quorums = plan.quorums();
        let unreliable = plan.unreliable();
        let correct = (0..).take(plan.replicas).filter(|replica: &u16| !unreliable.contains(replica));
        let clients = replica::client_count(plan);
        let torsion = Torsion::new(plan.seed, plan.replicas, planted);
        let mut replicas = Vec::new();
        for id in (0..).take(plan.replicas).map(ReplicaId) {
            let twins = plan.faulty.iter().any(|faulty| faulty.replica == id.0 && faulty.twins);
            let copies: &[Option<usize>] = if twins { &[Some(0), Some(1)] } else { &[None] };
            replicas.extend(copies.iter().map(|twin| Replica::new(plan, id, *twin)));
        }
        Self {
            plan,
            planted,
            quorums,
            now: 0,
            queue: Queue::default(),
            network: Network::new(plan.network.clone(), plan.seed),
            prover: Prover::new(quorums, clients, plan.auth_granularity, torsion),
            replicas,
            twins: Twins::new(plan),
            clients: Clients::new(plan, quorums, planted),
            hostile: HostileClient::all(plan),
            healed: false,
            reassigned: BTreeSet::new(),
            target: None,
            checks: Checks::new(
                clients,
                correct.fold(0, |set, replica| set | 1 << replica),
                plan.window - plan.window % plan.checkpoint_interval,
            ),
            coverage: Coverage { view_timeout_ns: plan.view_timeout_ns, ..Coverage::default() },
            trace: Trace::new(trace),
        }
    }

    /// Lets everything happen until all is well, something is wrong, or it has taken too long.
    pub(crate) fn run(&mut self) {
        self.begin();
        self.go_on();
        self.coverage.operations = self.clients.completed();
        self.coverage.null_requests = self.checks.null_requests();
        self.coverage.virtual_ns = self.now;
    }

    fn go_on(&mut self) {
        let end = self.plan.heal_ns.saturating_add(patience_ns(self.plan));
        while self.checks.violation.is_none() && !self.is_done() {
            // Timers alone keep correct replicas busy, so a world in which nothing is to come has come to a standstill.
            let Some((at, event)) = self.queue.pop().filter(|(at, _)| *at <= end) else {
                return self.give_up();
            };
            if self.coverage.events == EVENTS_MAX {
                let ms = self.now / 1_000_000;
                return self.checks.fail(Checker::Storm, || format!("{EVENTS_MAX} events in {ms} ms"));
            }
            self.now = at;
            self.coverage.events += 1;
            self.trace.at(at);
            self.handle(event);
        }
    }

    fn begin(&mut self) {
        for at in 0..self.replicas.len() {
            self.start(at);
        }
        for (index, fault) in self.plan.timeline.iter().enumerate() {
            self.queue.push(fault.at_ns, Event::Fault { index });
        }
        self.queue.push(self.plan.heal_ns, Event::Heal);
        self.begin_clients();
        if self.twins.any() {
            self.queue.push(0, Event::TurnTwins);
        }
    }

    fn handle(&mut self, event: Event) {
        if let Some((at, until)) = self.paused(&event) {
            self.trace.count(at as u64);
            return self.queue.push(until, event);
        }
        match event {
            Event::Message { from, to, message, spoilt } => self.on_message(from, to, &message, spoilt),
            Event::Requests { to, table } => self.on_requests(to, &table),
            Event::Reads { to, table } => self.on_reads(to, &table),
            Event::Reply(reply) => self.on_reply(&reply),
            Event::BatchReply(reply) => self.on_batch_reply(reply),
            Event::Answering { to, form } => self.on_answering(to, form),
            Event::Missing => self.ask_for_missing(),
            Event::Timer { at, life, timer, due } => {
                let replica = &mut self.replicas[at];
                if let Some(process) = replica.process.as_mut().filter(|_| replica.life == life)
                    && process.timers.get(&timer) == Some(&due)
                {
                    process.timers.remove(&timer);
                    self.step(at, Input::Timer(timer));
                }
            }
            Event::Worked { at, life } if self.lives(at, life) => self.worked(at),
            Event::Feedback { at, life, input } if self.lives(at, life) => self.step(at, *input),
            Event::Synced { at, life, records } if self.lives(at, life) => self.synced(at, records),
            Event::SnapshotWritten { at, life } if self.lives(at, life) => self.replicas[at].disk.snapshot_written(),
            Event::Worked { .. } | Event::Feedback { .. } | Event::Synced { .. } | Event::SnapshotWritten { .. } => {}
            Event::Begin { client } => self.begin_operation(client),
            Event::Retry { client, timestamp, attempt } => self.send_request(client, timestamp, attempt),
            Event::GiveUpRead { client, number } => self.give_up_read(client, number),
            Event::Hostile { index } => self.act_hostile(index),
            Event::TurnTwins => {
                self.twins.turn();
                self.queue.push(self.now + self.plan.view_timeout_ns, Event::TurnTwins);
            }
            Event::Fault { index } => self.begin_fault(index),
            Event::Repair { index } => self.end_fault(index),
            Event::Heal => self.heal(),
        }
    }

    /// Whether the process that an event was meant for still runs.
    fn lives(&self, at: usize, life: u32) -> bool {
        self.replicas[at].life == life && self.replicas[at].process.is_some()
    }

    /// Whether the process that this concerns stands still, and until when.
    fn paused(&self, event: &Event) -> Option<(usize, u64)> {
        let at = match *event {
            Event::Message { to, .. }
            | Event::Requests { to, .. }
            | Event::Reads { to, .. }
            | Event::Answering { to, .. } => to,
            Event::Timer { at, .. } | Event::Worked { at, .. } | Event::Feedback { at, .. } => at,
            _ => return None,
        };
        let until = self.replicas[at].paused_until;
        (until > self.now).then_some((at, until))
    }

    fn on_message(&mut self, from: ReplicaId, to: usize, message: &Message, spoilt: bool) {
        let replica = &mut self.replicas[to];
        if replica.process.is_none() || spoilt {
            return;
        }
        if let Some(mutator) = &mut replica.mutator {
            mutator.remember(message);
        }
        let name = replica.name();
        let doubtful = !self.plan.is_honest(from.0);
        let Some(authentic) = self.prover.authenticate(from, replica.id, message, doubtful) else { return };
        self.coverage.messages += 1;
        self.trace.count((to as u64) << 32 | u64::from(from.0));
        if !matches!(message, Message::Status(_)) {
            let verdict = &authentic.requests;
            self.trace.line(&name, || {
                let unproven = if verdict.is_proven() { "" } else { " (not all proven here)" };
                let invalid = if verdict.invalid { " (invalid)" } else { "" };
                format!("<- r{from}: {}{unproven}{invalid}", describe(message))
            });
        }
        self.step(to, Input::Message(authentic));
    }

    /// One step of a core, and what follows from it.
    fn step(&mut self, at: usize, input: Input) {
        let mut outputs = Vec::new();
        let n = self.plan.replicas;
        let replica = &mut self.replicas[at];
        let (local, own) = (replica.local(self.now), replica.id);
        let Some(process) = &mut replica.process else { return };
        process.core.step(local, input, &mut outputs);
        self.coverage.lies += process.tap.as_ref().map_or(0, |tap| tap.lies(&outputs, own, n));
        let (before, after) = (process.position, process.core.position());
        process.position = after;
        if (before.view, before.active) != (after.view, after.active) {
            self.trace.count(after.view.0);
            let name = self.replicas[at].name();
            let what = if after.active { "enters view" } else { "leaves for view" };
            self.trace.line(&name, || format!("** {what} {}", after.view));
        }
        if self.replicas[at].is_honest() {
            self.cover(at, before, after, &outputs);
        } else {
            // Whoever is asked for one sends it to who has asked.
            let to_all = |output: &&Output| match output {
                Output::Broadcast(message) => matches!(**message, Message::Body(_)),
                _ => false,
            };
            self.coverage.early_bodies += outputs.iter().filter(to_all).count() as u64;
        }
        self.coverage.states_installed += after.states_installed.saturating_sub(before.states_installed);
        self.emit(at, outputs);
    }

    /// Counts what an honest replica has come to in one step.
    fn cover(&mut self, at: usize, before: Position, after: Position, outputs: &[Output]) {
        let replica = &mut self.replicas[at];
        if after.active && (after.view > before.view || !before.active) {
            self.coverage.views_entered += 1;
            self.coverage.highest_view = self.coverage.highest_view.max(after.view.0.min(1 << 32));
            // It votes at once: for what the new view has assigned.
            let votes = |output: &Output| match output {
                Output::Broadcast(message) => match &**message {
                    Message::Prepare(vote) | Message::Commit(vote) => vote.view == after.view,
                    _ => false,
                },
                _ => false,
            };
            if outputs.iter().any(votes) && self.reassigned.insert(after.view) {
                self.coverage.reassigning_views += 1;
            }
        }
        if after.view_changes > before.view_changes {
            let told = outputs.iter().find_map(|output| match output {
                Output::Broadcast(message) => match &**message {
                    Message::ViewChange(signed) if signed.content.replica == replica.id => Some(signed),
                    _ => None,
                },
                _ => None,
            });
            let told: BTreeSet<SequenceNumber> =
                told.into_iter().flat_map(|signed| &signed.content.prepared).map(|vote| vote.sequence).collect();
            self.coverage.prepared_told += u64::from(!told.is_empty());
            self.coverage.prepared_told_again += u64::from(!told.is_disjoint(&replica.told_prepared));
            replica.told_prepared = told;
        }
        for output in outputs {
            match output {
                Output::Persist(Record::Committed(sequence, _)) => self.checks.decided(replica.id, *sequence),
                Output::Broadcast(message) | Output::Send(_, message) => match &**message {
                    Message::Commit(vote) => self.checks.is_going_to_commit(replica.id, vote),
                    Message::DigestPrePrepare(_) => self.coverage.by_digests += 1,
                    Message::PrePrepare(message) if !message.batch.is_null() => {
                        let whole = self.plan.dissemination == Dissemination::Digest;
                        self.coverage.supplied += u64::from(whole);
                        let parted = match &message.batch.requests.proofs {
                            Proofs::Groups(groups) => !groups.holes().is_empty(),
                            Proofs::None | Proofs::Tags { .. } | Proofs::Signatures(_) => false,
                        };
                        self.coverage.parted += u64::from(parted);
                    }
                    _ => {}
                },
                _ => {}
            }
        }
        let executed = replica.process.as_ref().map_or(SequenceNumber(0), |process| process.executor.confirmed());
        let ahead = before.stable_checkpoint <= executed && executed < after.stable_checkpoint;
        self.coverage.went_ahead += u64::from(ahead);
    }

    fn is_done(&mut self) -> bool {
        if !self.healed || !self.clients.all_finished() {
            return false;
        }
        let end = self.checks.end();
        let target = *self.target.get_or_insert(end);
        if self.honest().any(|(_, executed)| executed < Some(target)) {
            return false;
        }
        self.coverage.recovery_ns.get_or_insert(self.now - self.plan.heal_ns);
        self.has_converged()
    }

    /// Whether all correct replicas are active in one view. Those that are cut off from it do not vote, and count
    /// towards f, until the next view starts.
    fn has_converged(&self) -> bool {
        let mut positions = self.replicas.iter().filter(|replica| replica.is_correct()).map(|replica| {
            replica.process.as_ref().filter(|process| process.position.active).map(|process| process.position.view)
        });
        let first = positions.next();
        positions.all(|view| view.is_some() && Some(view) == first)
    }

    /// The honest replicas, those that do not vote among them, with what each has executed; `None` while it is down.
    fn honest(&self) -> impl Iterator<Item = (&Replica, Option<SequenceNumber>)> {
        let executed = |replica: &Replica| replica.process.as_ref().map(|process| process.executor.confirmed());
        self.replicas.iter().filter(|replica| replica.is_honest()).map(move |replica| (replica, executed(replica)))
    }

    /// It has taken too long, or nothing happens any more.
    fn give_up(&mut self) {
        let unreliable =
            self.replicas.iter().filter(|replica| replica.twin != Some(1) && !replica.is_correct()).count();
        if unreliable > self.quorums.f() {
            self.coverage.unjudged = true;
            return;
        }
        let waiting = self.clients.waiting();
        let target = self.target.unwrap_or_else(|| self.checks.end());
        let behind = |(replica, executed): (&Replica, Option<SequenceNumber>)| {
            let position = replica.process.as_ref().map(|process| process.position);
            let position = position.map_or_else(String::new, |position| {
                let waits = if position.active { "" } else { ", waits for a new view" };
                format!(" (view {}{waits}, stable {})", position.view, position.stable_checkpoint)
            });
            let follows = if replica.forgetful { ", without a vote," } else { "" };
            format!("{}{follows} at {}{position}", replica.name(), executed.unwrap_or_default())
        };
        let replicas: Vec<String> = self.honest().map(behind).collect();
        let after_ms = self.now.saturating_sub(self.plan.heal_ns) / 1_000_000;
        let checker = if self.coverage.recovery_ns.is_some() { Checker::Convergence } else { Checker::Liveness };
        self.checks.fail(checker, || {
            let clients =
                if waiting.is_empty() { "no client waits".to_owned() } else { format!("{} wait", waiting.join(", ")) };
            format!(
                "{after_ms} ms after the network has healed {clients}; the ledger's end is {target}; {}",
                replicas.join(", ")
            )
        });
    }
}

/// How long after the network has healed everything must be done. Twins, and faulty primaries one after the other, cost
/// a view time-out each, and time-outs grow. Of 60,000 seeds the slowest takes 126 of the plan's view time-outs and 26
/// s, one in a hundred more than 6 (`hippodrome sim --seeds 60000 --first 3300` tells): this is half as much again.
const fn patience_ns(plan: &Plan) -> u64 {
    plan.view_timeout_ns.saturating_mul(200).saturating_add(2_000_000_000)
}

/// A message on its way, shared by its receivers.
type Sent = Arc<Message>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_world_in_which_nothing_is_to_come_is_no_success() {
        let plan = Plan::draw(0);
        let mut world = World::new(&plan, None, false);
        world.go_on();
        assert_eq!(world.checks.violation.map(|violation| violation.checker), Some(Checker::Liveness));
        assert_eq!(world.coverage.recovery_ns, None);
    }

    #[test]
    fn who_waits_alone_for_another_view_has_not_come_together_with_the_others() {
        let plan = Plan { faulty: Vec::new(), timeline: Vec::new(), ..Plan::draw(0) };
        let mut world = World::new(&plan, None, false);
        world.run();
        assert!(world.is_done());
        for at in [0, 1] {
            let position = &mut world.replicas[at].process.as_mut().expect("all run").position;
            let together = *position;
            position.active = false;
            assert!(!world.is_done());
            let position = &mut world.replicas[at].process.as_mut().expect("all run").position;
            *position = Position { view: View(together.view.0 + 1), ..together };
            assert!(!world.is_done());
            world.replicas[at].process.as_mut().expect("all run").position = together;
        }
        assert!(world.is_done());
    }

    #[test]
    fn who_only_follows_must_catch_up_too() {
        let plan = Plan { faulty: Vec::new(), timeline: Vec::new(), ..Plan::draw(0) };
        let mut world = World::new(&plan, None, false);
        world.run();
        assert!(world.checks.violation.is_none() && world.is_done());
        let last = world.replicas.len() - 1;
        world.replicas[last].forgetful = true;
        world.start(last); // anew, so it has executed nothing
        assert!(!world.is_done());
    }
}
