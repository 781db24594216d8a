//! One replica's process: the real core and the real executor, with the queues between them that the pipeline has.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use hippodrome_engine::app::kv::Kv;
use hippodrome_engine::execute::{Executor, ExecutorConfig, Snapshot};
use hippodrome_engine::protocol::message::FetchState;
use hippodrome_engine::protocol::pbft::{Config, Pbft, Recovery};
use hippodrome_engine::protocol::planted::Planted;
use hippodrome_engine::protocol::{Execution, Output, Position, Protocol, Timer};
use hippodrome_engine::requests::{BatchForm, RequestTable};
use hippodrome_engine::settings::options::{ExecutionChoice, Reads, Replies};
use hippodrome_engine::types::{Digest, NodeId, ReplicaId, SequenceNumber, Time, View};

use super::disk::Disk;
use super::mutate::Mutator;
use super::shadow::Shadow;
use super::tap::{Tap, Tapped};
use super::tentative::Tentative;
use crate::check::{RECORDS, VALUE_BYTES};
use crate::plan::{Faulty, Plan};
use crate::random::Random;
use hippodrome_engine::byzantine::{Byzantine, Kind};

/// Messages a second that a Byzantine replica makes up: a few beside the few that there are.
const EXTRA_PER_SECOND: u64 = 400;

/// The place of a process: it may be started several times. Twins have two places and one identity.
pub(super) struct Replica {
    pub(super) id: ReplicaId,
    /// Which of two twins, if it is one.
    pub(super) twin: Option<usize>,
    pub(super) behaviour: Option<Faulty>,
    pub(super) mutator: Option<Mutator>,
    /// How often it was started.
    pub(super) life: u32,
    /// What runs; `None` while it is down.
    pub(super) process: Option<Process>,
    pub(super) disk: Disk,
    /// It lost what it voted for, or a part of it, and does not vote: in this life, or, if it lost all, in any.
    pub(super) forgetful: bool,
    /// It lost all of it.
    pub(super) blank: bool,
    /// The sequence numbers that its last view change told to be prepared.
    pub(super) told_prepared: BTreeSet<SequenceNumber>,
    /// It stands still until then.
    pub(super) paused_until: u64,
    /// Its disk takes a hundred times as long until then.
    pub(super) slow_disk_until: u64,
    /// Parts per million that its clock gains.
    drift_ppm: i64,
    pub(super) random: Random,
}

/// A running process.
pub(super) struct Process {
    started: u64,
    pub(super) core: Box<dyn Protocol>,
    pub(super) executor: Executor,
    pub(super) shadow: Option<Shadow>,
    /// What it has executed and not confirmed.
    pub(super) tentative: Tentative,
    /// What a liar means to say.
    pub(super) tap: Option<Tap>,
    pub(super) timers: BTreeMap<Timer, Time>,
    /// Outputs that wait for the records before them, each with how many must be durable.
    pub(super) gate: VecDeque<(usize, Output)>,
    pub(super) work: VecDeque<Work>,
    /// How it answers batches, where it may be told.
    pub(super) form: BatchForm,
    /// When the executor's last answer arrives.
    pub(super) answered: u64,
    pub(super) position: Position,
    /// The snapshot that was asked for to be written to disk.
    pub(super) wanted: Option<SequenceNumber>,
}

/// What an executor is to do.
pub(super) enum Work {
    Execute(Execution),
    Confirm(SequenceNumber),
    RollBack(SequenceNumber),
    Recall(View, Arc<RequestTable>),
    Keep(SequenceNumber),
    Read(ReplicaId, FetchState),
    Install(SequenceNumber, Digest, Vec<bytes::Bytes>),
    Query(View, Arc<RequestTable>),
}

impl Replica {
    pub(super) fn new(plan: &Plan, id: ReplicaId, twin: Option<usize>) -> Self {
        let place = u64::from(id.0) * 2 + twin.unwrap_or(0) as u64;
        let mut random = Random::new(plan.seed, "replica", place);
        let behaviour = plan.faulty.iter().find(|faulty| faulty.replica == id.0).cloned();
        let permille = behaviour.as_ref().map_or(0, |faulty| faulty.mutate_permille);
        let drift = i64::try_from(plan.network.drift_ppm).unwrap_or(0);
        Self {
            id,
            twin,
            mutator: (permille > 0).then(|| Mutator::new(plan, id, permille, place)),
            behaviour,
            life: 0,
            process: None,
            disk: Disk::new(),
            forgetful: false,
            blank: false,
            told_prepared: BTreeSet::new(),
            paused_until: 0,
            slow_disk_until: 0,
            drift_ppm: i64::try_from(random.below(plan.network.drift_ppm * 2 + 1)).unwrap_or(0) - drift,
            random,
        }
    }

    /// Whether it tells clients what is wrong.
    pub(super) fn corrupts_replies(&self) -> bool {
        self.kinds().iter().any(|kind| kind.corrupts_replies())
            || self.behaviour.as_ref().is_some_and(|faulty| faulty.false_state)
    }

    /// Whether it follows the protocol, as far as it remembers.
    pub(super) const fn is_honest(&self) -> bool {
        self.behaviour.is_none()
    }

    /// Whether it follows the protocol and remembers everything.
    pub(super) const fn is_correct(&self) -> bool {
        self.is_honest() && !self.forgetful
    }

    pub(super) fn kinds(&self) -> &[Kind] {
        self.behaviour.as_ref().map_or(&[], |faulty| &faulty.kinds)
    }

    pub(super) fn name(&self) -> String {
        match self.twin {
            Some(twin) => format!("r{}{}", self.id, ["a", "b"][twin]),
            None => format!("r{}", self.id),
        }
    }

    /// The process's own clock.
    pub(super) fn local(&self, now: u64) -> Time {
        let started = self.process.as_ref().map_or(now, |process| process.started);
        let rate = u128::from(1_000_000u64.saturating_add_signed(self.drift_ppm));
        Time(u64::try_from(u128::from(now - started) * rate / 1_000_000).unwrap_or(u64::MAX))
    }

    /// When the process's own clock shows `local`.
    pub(super) fn global(&self, local: Time) -> u64 {
        let started = self.process.as_ref().map_or(0, |process| process.started);
        let rate = u128::from(1_000_000u64.saturating_add_signed(self.drift_ppm));
        let passed = u64::try_from((u128::from(local.0) * 1_000_000).div_ceil(rate)).unwrap_or(u64::MAX);
        started.saturating_add(passed)
    }

    /// Starts the process, on its disk if it has one. Returns what the core says at once.
    pub(super) fn start(&mut self, plan: &Plan, planted: Option<Planted>, now: u64) -> Vec<Output> {
        let mut outputs = Vec::new();
        let again = self.life > 0;
        self.life += 1;
        let durable = plan.disk.is_some();
        self.blank |= again && !durable;
        self.forgetful = self.blank;
        let config = config(plan, planted, self.id, !self.forgetful);
        let mut executor = executor(plan, planted, self.id);
        if again {
            executor.refuse_reads();
        }
        let mut core = if again && durable && !self.blank {
            let (saved, records, snapshot) = self.disk.recover(planted == Some(Planted::RecoveredUnsynced));
            if let Some(Snapshot { sequence, digest, chunks }) = snapshot {
                executor.restore(*sequence, *digest, chunks).expect("a snapshot of its own fits");
            }
            let (executions, recovery) = Recovery::plan(saved, records);
            self.forgetful = !recovery.is_whole(plan.window);
            for execution in executions {
                executor.execute(&execution, &mut Vec::new());
            }
            Pbft::recover(config, recovery, Time(0), &mut outputs)
        } else {
            Pbft::new(config, Time(0), &mut outputs)
        };
        core.limit_history(plan.history_batches);
        let mut tap = None;
        let core: Box<dyn Protocol> = match &self.behaviour {
            Some(faulty) if !faulty.kinds.is_empty() => {
                let seed = self.random.next();
                let core = Tapped::new(core, tap.insert(Tap::default()).clone());
                let byzantine = Byzantine::new(Box::new(core), faulty.kinds.clone(), plan.replicas, self.id, seed);
                Box::new(byzantine.with_view_timeout(plan.view_timeout_ns).with_extra_per_second(EXTRA_PER_SECOND))
            }
            _ => Box::new(core),
        };
        let false_state = self.behaviour.as_ref().is_some_and(|faulty| faulty.false_state);
        self.process = Some(Process {
            started: now,
            position: core.position(),
            core,
            executor,
            tentative: Tentative::default(),
            shadow: false_state.then(|| Shadow::new(executor_config(plan, self.id), store(plan), plan.chunk_bytes)),
            tap,
            timers: BTreeMap::new(),
            gate: VecDeque::new(),
            work: VecDeque::new(),
            form: BatchForm::Whole,
            answered: 0,
            wanted: None,
        });
        outputs
    }

    /// The process dies.
    pub(super) fn crash(&mut self) {
        self.process = None;
        self.disk.crash(&mut self.random);
    }

    /// The process dies, and its disk is lost with it.
    pub(super) fn lose_disk(&mut self) {
        self.process = None;
        self.disk = Disk::new();
        (self.forgetful, self.blank) = (true, true);
    }

    /// The power fails under the process, or under what one has left. Returns what [`Disk::lose_power`] does.
    pub(super) fn lose_power(&mut self) -> u64 {
        self.process = None;
        self.disk.lose_power(&mut self.random)
    }
}

fn config(plan: &Plan, planted: Option<Planted>, own: ReplicaId, voting: bool) -> Config {
    let correct = plan.clients.count;
    let hostile = (0..).take(plan.hostile.len()).map(|index: u32| correct + index..correct + index + 1);
    let quorums = plan.quorums();
    Config {
        quorums,
        own,
        window: plan.window,
        checkpoint_interval: plan.checkpoint_interval,
        batching: plan.batching.clone(),
        dissemination: plan.dissemination,
        execution: plan.execution,
        clients: client_count(plan),
        principals: std::iter::once(0..correct).chain(hostile).collect(),
        status_interval_ns: plan.status_interval_ns,
        view_timeout_ns: plan.view_timeout_ns,
        view_timeout_max_ns: plan.view_timeout_max_ns.max(plan.view_timeout_ns),
        durable: plan.disk.is_some(),
        voting,
        planted,
    }
}

/// Correct and faulty clients.
pub(super) fn client_count(plan: &Plan) -> u32 {
    plan.clients.count + u32::try_from(plan.hostile.len()).unwrap_or(0)
}

fn executor_config(plan: &Plan, own: ReplicaId) -> ExecutorConfig {
    let n = u16::try_from(plan.replicas).unwrap_or(0);
    let correct = plan.clients.count;
    let hostile = (0..).take(plan.hostile.len()).map(|index: u16| {
        let first = correct + u32::from(index);
        (NodeId(n + 1 + index), first..first + 1)
    });
    ExecutorConfig {
        own,
        client_nodes: std::iter::once((NodeId(n), 0..correct)).chain(hostile).collect(),
        checkpoint_interval: plan.checkpoint_interval,
        designates: (plan.replies == Replies::Digest).then_some(plan.replicas),
        tentative: plan.execution == ExecutionChoice::Tentative,
    }
}

/// The store that all replicas begin with.
fn store(plan: &Plan) -> Kv {
    let kv = if plan.reads == Reads::ReadOnly { Kv::new().versioned() } else { Kv::new() };
    kv.preloaded(RECORDS, VALUE_BYTES)
}

fn executor(plan: &Plan, planted: Option<Planted>, own: ReplicaId) -> Executor {
    let mut executor = Executor::new(executor_config(plan, own), Box::new(store(plan)));
    executor.plant(planted);
    executor.cut_snapshots(plan.chunk_bytes);
    executor
}
