//! The topology: every link of a replica, its depth, and the thread at each of its ends.
//!
//! ```text
//!         peers, clients ×k       verified ×k          work                answers
//! network ────────────▶ verify ────────────▶ order ─────────▶ execute ─────────────▶ egress
//!    ▲                                        │  ▲               │                     ▲ │
//!    │                                        │  └── feedback ───┘                     │ │
//!    │                                        └─────────────── outbound ───────────────┘ │
//!    └──────────────────────────────── outgoing ─────────────────────────────────────────┘
//! ```
//!
//! Read-only requests, where the cluster has any, go from each verify stage to execute without being ordered.
//!
//! Where votes are made durable, work and outbound go through one more stage:
//!
//! ```text
//!        departures            work
//! order ────────────▶ persist ─────────▶ execute
//!                        └──── outbound ───────────▶ egress
//! ```

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use crate::app::Validator;
use crate::auth::keyring::Keyring;
use crate::byzantine::Kind;
use crate::emulation::OutgoingLinks;
use crate::execute::Executor;
use crate::limits::REPLIES_UNDER_WAY_BYTES_MAX;
use crate::pipeline::blame::Blame;
use crate::pipeline::board::{Questions, Reached};
use crate::pipeline::cores::Cores;
use crate::pipeline::credit::Credit;
use crate::pipeline::egress::{Egress, EgressLinks};
use crate::pipeline::execute::{Execute, ReadLinks};
use crate::pipeline::link::{Receiver, Sender};
use crate::pipeline::network::{Lanes, LinkChanges, Network, NetworkParts, Routes, link_changes};
use crate::pipeline::order::{Order, OrderLinks};
use crate::pipeline::persist::{Onward, Persist, PersistLinks, PersistParts};
use crate::pipeline::placement::{Plan, Role, Thread, WorkProfile};
use crate::pipeline::stage::Stage;
use crate::pipeline::verify::{Verify, VerifyLinks};
use crate::pipeline::worker::{Common, Sleep, Worker};
use crate::protocol::{Output, Protocol};
use crate::ring::doorbell::Doorbell;
use crate::ring::ring;
use crate::ring::wait::Wait;
use crate::sampling::Sampling;
use crate::settings::{Placement, TransportChoice, WaitChoice};
use crate::transport::{Transport, Waker, probe};
use crate::types::{NodeId, ReplicaId};

/// Depth of each link, in items. An item is a batch: what one step of the stage before produced.
mod depth {
    /// Network to each verify stage, what peers say: about one read of each connection.
    pub(super) const PEER_FRAMES: usize = 64;
    /// Network to each verify stage, work for clients: some of each source that has credit.
    pub(super) const CLIENT_FRAMES: usize = 64;
    /// Each verify stage to order.
    pub(super) const VERIFIED: usize = 64;
    /// Order to persist.
    pub(super) const DEPARTURES: usize = 256;
    /// Each verify stage to execute, tables of read-only requests: no more than a few steps' worth, since what waits
    /// here has been verified before what a client sent to be ordered later.
    pub(super) const READS: usize = 16;
    /// Order (or persist) to execute.
    pub(super) const WORK: usize = 256;
    /// Execute to order.
    pub(super) const FEEDBACK: usize = 256;
    /// Order (or persist) to egress.
    pub(super) const OUTBOUND: usize = 256;
    /// Execute to egress.
    pub(super) const ANSWERS: usize = 256;
    /// Egress to network.
    pub(super) const OUTGOING: usize = 256;
}

/// A stage that can be sent to its thread.
type SendStage = Box<dyn Stage + Send>;

/// What the stages are made of.
pub struct Parts {
    /// This replica.
    pub own: ReplicaId,
    /// Its keys.
    pub keyring: Arc<Keyring>,
    /// The protocol core.
    pub protocol: Box<dyn Protocol>,
    /// Outputs of its construction.
    pub first: Vec<Output>,
    /// The executor.
    pub executor: Executor,
    /// Which operations its application refuses.
    pub validator: Validator,
    /// Whether it answers read-only requests without ordering them.
    pub reads: bool,
    /// How this replica is to misbehave; empty for a correct one.
    pub byzantine: Vec<Kind>,
    /// Where this replica accepts connections.
    pub listener: TcpListener,
    /// The addresses of all replicas, in order of their ids.
    pub addresses: Vec<SocketAddr>,
    /// Each client node and its logical clients.
    pub client_nodes: Vec<(NodeId, Range<u32>)>,
    /// Which transport to open.
    pub transport: TransportChoice,
    /// What makes votes durable, if anything does. The plan has a thread for it then.
    pub persist: Option<PersistParts>,
    /// What the outgoing links do, if they are emulated.
    pub emulation: Option<OutgoingLinks>,
    /// Whether batches may be answered by digest.
    pub batch_digests: bool,
    /// Which operations are followed.
    pub sampling: Sampling,
}

/// The running threads.
pub struct Running {
    threads: Vec<JoinHandle<io::Result<()>>>,
    bells: Vec<Doorbell>,
    /// How to ask the execute stage.
    pub questions: Questions,
    /// How to change the emulation of links.
    pub links: LinkChanges,
}

/// Wires all links and starts all threads.
///
/// # Errors
/// If a thread can not be started or its transport not be opened.
pub fn start(parts: Parts, plan: &Plan, common: &Common) -> io::Result<Running> {
    let mut sleeps = Sleeps::new(plan);
    let (stages, network, (questions, links)) = wire(parts, plan, common, &sleeps)?;
    let mut stages: HashMap<Role, SendStage> = stages;
    let mut network = Some(network);
    let mut threads = Vec::new();
    let mut openings = Vec::new();
    for (index, thread) in plan.threads.iter().enumerate() {
        let mine: Vec<SendStage> = thread.roles.iter().filter_map(|role| stages.remove(role)).collect();
        let network = if thread.roles.contains(&Role::Network) { network.take() } else { None };
        let (opened, opening) = channel();
        let start = ThreadStart {
            thread: thread.clone(),
            common: common.clone(),
            sleep: sleeps.take(index),
            waker: Arc::clone(&sleeps.network_waker),
            stages: mine,
            network,
            opened,
        };
        let builder = std::thread::Builder::new().name(thread.name.clone());
        // Without this thread the others are of no use.
        let spawned = builder.spawn(move || start.run()).inspect_err(|_| common.stop.store(true, Ordering::Relaxed));
        threads.push(spawned?);
        openings.push(opening);
    }
    let running = Running { threads, bells: sleeps.bells, questions, links };
    for opening in openings {
        if let Ok(Err(error)) = opening.recv() {
            common.stop.store(true, Ordering::Relaxed);
            let _ = running.join();
            return Err(error);
        }
    }
    Ok(running)
}

/// A replica's stages, wired as on one thread, that nobody runs: for whoever takes the steps by hand, as a benchmark
/// that tells stages apart does.
pub struct ByHand {
    /// The sockets, to be stepped first and asked to take what is outgoing last, as a [worker](Worker) does.
    pub network: Network,
    /// The stages, in data-path order.
    pub stages: Vec<Box<dyn Stage + Send>>,
}

/// Wires all links of a replica that is driven by hand, with its sockets over `transport`.
///
/// # Errors
/// If its listener can not be registered.
pub fn by_hand(parts: Parts, transport: Box<dyn Transport>, common: &Common) -> io::Result<ByHand> {
    let plan = Plan::new(&Placement::Fused, WaitChoice::Auto, WorkProfile::Mixed, &Cores::flat(&[]), 1, 0);
    let plan = if parts.persist.is_some() { plan.with_persist() } else { plan };
    let (mut stages, (network, _), _) = wire(parts, &plan, common, &Sleeps::new(&plan))?;
    let roles = plan.threads.iter().flat_map(|thread| &thread.roles);
    let stages = roles.filter_map(|role| stages.remove(role)).collect();
    Ok(ByHand { network: Network::new(network, transport)?, stages })
}

/// The bells and parkers of all threads. A thread with sockets sleeps in its transport, which exists only once the
/// thread runs: its waker is filled in then.
struct Sleeps {
    bells: Vec<Doorbell>,
    sleeps: Vec<Option<Sleep>>,
    network_waker: Arc<OnceLock<Waker>>,
    thread_of: HashMap<Role, usize>,
}

impl Sleeps {
    fn new(plan: &Plan) -> Self {
        let network_waker: Arc<OnceLock<Waker>> = Arc::default();
        let mut bells = Vec::new();
        let mut sleeps = Vec::new();
        let mut thread_of = HashMap::new();
        for (index, thread) in plan.threads.iter().enumerate() {
            let (parker_bell, parker) = Doorbell::parker();
            let bell = if thread.roles.contains(&Role::Network) {
                let waker = Arc::clone(&network_waker);
                Doorbell::new(Waker::new(move || {
                    if let Some(waker) = waker.get() {
                        waker.wake();
                    }
                }))
            } else {
                parker_bell
            };
            bells.push(bell.clone());
            sleeps.push(Some(Sleep { bell, parker }));
            thread_of.extend(thread.roles.iter().map(|role| (*role, index)));
        }
        Self { bells, sleeps, network_waker, thread_of }
    }

    fn bell(&self, role: Role) -> Doorbell {
        self.bells[self.thread_of[&role]].clone()
    }

    fn take(&mut self, index: usize) -> Sleep {
        self.sleeps[index].take().expect("each thread is started once")
    }

    /// A link between the stages with these roles.
    fn link<T>(&self, from: Role, to: Role, depth: usize) -> (Sender<T>, Receiver<T>) {
        let (producer, consumer) = ring(depth);
        let across = self.thread_of[&from] != self.thread_of[&to];
        (Sender::new(producer, self.bell(to)).across_threads(across), Receiver::new(consumer))
    }
}

type NetworkStart = (NetworkParts, TransportChoice);
/// The stages but for the network, what that one needs, and how to ask the running ones.
type Wired = (HashMap<Role, SendStage>, NetworkStart, (Questions, LinkChanges));

fn wire(parts: Parts, plan: &Plan, common: &Common, sleeps: &Sleeps) -> io::Result<Wired> {
    let mut stages: HashMap<Role, SendStage> = HashMap::new();
    let mut lanes = Vec::new();
    let blame = Blame::new(parts.keyring.nodes());
    let credit = Credit::new(&parts.keyring, plan.verify_stages());
    let reached = Reached::default();
    let mut verified = Vec::new();
    let mut reads = ReadLinks { input: Vec::new(), reached: reached.clone() };
    for index in 0..plan.verify_stages() {
        let role = Role::Verify(index);
        let (peers_in, peers) = sleeps.link(Role::Network, role, depth::PEER_FRAMES);
        let (clients_in, clients) = sleeps.link(Role::Network, role, depth::CLIENT_FRAMES);
        let (output, verified_out) = sleeps.link(role, Role::Order, depth::VERIFIED);
        lanes.push(Lanes { peers: peers_in, clients: clients_in });
        verified.push(verified_out);
        let reads = parts.reads.then(|| {
            let (sender, receiver) = sleeps.link(role, Role::Execute, depth::READS);
            reads.input.push(receiver);
            sender
        });
        let (keyring, validator) = (Arc::clone(&parts.keyring), parts.validator.clone());
        let (blame, credit, reached) = (blame.clone(), credit.clone(), reached.clone());
        let links = VerifyLinks { peers, clients, output, reads, blame, credit, reached };
        let verify = Verify::new(index, keyring, validator, links).following(parts.sampling, common.clock);
        stages.insert(role, Box::new(verify));
    }
    let before = if parts.persist.is_some() { Role::Persist } else { Role::Order };
    let (work_in, work_out) = sleeps.link(before, Role::Execute, depth::WORK);
    let (feedback_in, feedback_out) = sleeps.link(Role::Execute, Role::Order, depth::FEEDBACK);
    let (outbound_in, outbound_out) = sleeps.link(before, Role::Egress, depth::OUTBOUND);
    let (answers_in, answers_out) = sleeps.link(Role::Execute, Role::Egress, depth::ANSWERS);
    let (outgoing_in, outgoing_out) = sleeps.link(Role::Egress, Role::Network, depth::OUTGOING);
    // A few bytes of a client can ask for megabytes of cached results.
    let answers_in = answers_in.bounded(REPLIES_UNDER_WAY_BYTES_MAX);
    let outgoing_in = outgoing_in.bounded(REPLIES_UNDER_WAY_BYTES_MAX);
    let onward = match parts.persist {
        None => Onward::Direct { work: work_in, outbound: outbound_in },
        Some(persist) => {
            let (departures_in, departures_out) = sleeps.link(Role::Order, Role::Persist, depth::DEPARTURES);
            let links = PersistLinks { input: departures_out, work: work_in, outbound: outbound_in };
            let persist = Persist::new(persist, common.clock, Arc::clone(&common.stop), links)?;
            stages.insert(Role::Persist, Box::new(persist));
            Onward::Durable(departures_in)
        }
    };
    let links = OrderLinks { verified, feedback: feedback_out, onward, reached };
    stages.insert(Role::Order, Box::new(Order::new(parts.own, parts.protocol, parts.first, links)));
    let (queries_in, queries_out) = channel();
    let execute = Execute::new(parts.executor, common.clock, work_out, feedback_in, answers_in, queries_out);
    stages.insert(Role::Execute, Box::new(execute.following(parts.sampling).reading(reads)));
    let links = EgressLinks { outbound: outbound_out, answers: answers_out, outgoing: outgoing_in };
    let routes = Routes::new(parts.keyring.nodes());
    let egress = Egress::new(parts.own, Arc::clone(&parts.keyring), common.clock, routes.clone(), links);
    stages.insert(Role::Egress, Box::new(egress.tampering(parts.byzantine).following(parts.sampling)));
    let (links, changes) = link_changes(sleeps.bell(Role::Network));
    let network = NetworkParts {
        keyring: parts.keyring,
        listener: parts.listener,
        addresses: parts.addresses,
        client_nodes: parts.client_nodes,
        lanes,
        blame,
        credit,
        outgoing: outgoing_out,
        routes,
        emulation: parts.emulation,
        batch_digests: parts.batch_digests,
        changes,
        bell: sleeps.bell(Role::Network),
    };
    let questions = Questions::new(queries_in, sleeps.bell(Role::Execute));
    Ok((stages, (network, parts.transport), (questions, links)))
}

/// What a thread needs to begin.
struct ThreadStart {
    thread: Thread,
    common: Common,
    sleep: Sleep,
    waker: Arc<OnceLock<Waker>>,
    stages: Vec<SendStage>,
    network: Option<NetworkStart>,
    opened: std::sync::mpsc::Sender<io::Result<()>>,
}

impl ThreadStart {
    fn run(self) -> io::Result<()> {
        let Thread { name, core, roles } = self.thread;
        let mut common = self.common;
        if roles == [Role::Persist] {
            // It has no core of its own to spin on.
            common.wait = Wait::Park;
        }
        // A core that can not be had (outside the process's set) is a fact for the report, not an error.
        let core = core.filter(|id| core_affinity::set_for_current(core_affinity::CoreId { id: *id }));
        let network = match self.network.map(|network| open(network, &self.waker, &common)).transpose() {
            Ok(network) => network,
            Err(error) => {
                let _ = self.opened.send(Err(io::Error::new(error.kind(), error.to_string())));
                return Err(error);
            }
        };
        let _ = self.opened.send(Ok(()));
        let stages = self.stages.into_iter().map(|stage| stage as Box<dyn Stage>).collect();
        Worker::new(name, core, &common, network, self.sleep, stages).run()
    }
}

fn open((parts, choice): NetworkStart, waker: &OnceLock<Waker>, common: &Common) -> io::Result<Network> {
    let (transport, opened): (Box<dyn Transport>, probe::Opened) = probe::open(choice)?;
    let _ = waker.set(transport.waker());
    common.board.lock().report.transport = opened.why;
    Network::new(parts, transport)
}

impl Running {
    /// Whether a thread has ended, which none does unless told to or by an error.
    #[must_use]
    pub fn any_ended(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Wakes all threads, so that they see that they are to stop, and waits for them.
    ///
    /// # Errors
    /// The first error that a thread ended with, or that it panicked.
    pub fn join(self) -> io::Result<()> {
        let mut result = Ok(());
        for bell in &self.bells {
            bell.ring();
        }
        for thread in self.threads {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            let ended = thread.join().unwrap_or_else(|_| Err(io::Error::other(format!("thread {name} panicked"))));
            if result.is_ok() {
                result = ended;
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_know_whether_they_lead_to_another_thread() {
        let placement: Placement = "network+egress,verify,order+execute".parse().unwrap();
        let plan = Plan::new(&placement, WaitChoice::Park, WorkProfile::Mixed, &Cores::flat(&[]), 1, 0).with_persist();
        let sleeps = Sleeps::new(&plan);
        let across = |from, to| sleeps.link::<()>(from, to, 2).0.is_across_threads();
        assert!(across(Role::Network, Role::Verify(0)) && across(Role::Verify(0), Role::Order));
        assert!(across(Role::Execute, Role::Egress) && across(Role::Persist, Role::Execute));
        assert!(!across(Role::Order, Role::Execute) && !across(Role::Egress, Role::Network));
    }

    #[test]
    fn a_thread_that_panics_is_noticed_and_named() {
        let thread = std::thread::Builder::new().name("order".into());
        let thread = thread.spawn(|| -> io::Result<()> { panic!("on purpose") }).unwrap();
        let (queries, _asked) = channel();
        let (bell, _parker) = Doorbell::parker();
        let running = Running {
            threads: vec![thread],
            bells: vec![bell.clone()],
            questions: Questions::new(queries, bell.clone()),
            links: link_changes(bell).0,
        };
        while !running.any_ended() {
            std::thread::yield_now();
        }
        assert_eq!(running.join().unwrap_err().to_string(), "thread order panicked");
    }
}
