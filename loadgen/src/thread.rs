//! One thread of the load generator, from its start to its summary: connects, waits for the others, then drives.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use hippodrome_engine::app::Validator;
use hippodrome_engine::auth::Keyring;
use hippodrome_engine::emulation::{Change, Emulator, OutgoingLinks};
use hippodrome_engine::pipeline::clock::Clock;
use hippodrome_engine::platform::recycler;
use hippodrome_engine::protocol::client::ClientTable;
use hippodrome_engine::sampling::Sampling;
use hippodrome_engine::settings::{Dissemination, TransportChoice};
use hippodrome_engine::transport::{Transport, Waker, probe};
use hippodrome_engine::types::ClientId;

use crate::driver::{Driver, DriverParts, ThreadSecond, ThreadSummary};
use crate::links::Links;
use crate::options::{CONNECT_WITHIN, Mode, Retransmission};
use crate::pacing::{OpenLoop, Pacing};
use crate::schedule::{RateError, Schedule};
use crate::timetable::Timetable;
use crate::workload::Workload;

/// How long a thread waits for the last replica once all but f are reached.
const CONNECT_ALL_WITHIN: Duration = Duration::from_secs(2);
/// How often an open loop looks for sends that have fallen due. Coarser than a send interval at high rates, far finer
/// than what counts as late.
const TICK: Duration = Duration::from_micros(100);

/// What a thread tells once it has tried to connect: how many replicas it reached, what it was refused, its transport.
pub(crate) type Ready = std::io::Result<(usize, String, String)>;

/// What one thread is started with.
pub(crate) struct LoadThread {
    pub(crate) index: u32,
    pub(crate) count: u32,
    pub(crate) owned: Range<u32>,
    pub(crate) clients: Range<u32>,
    pub(crate) node_clients: Range<u32>,
    pub(crate) connections: u32,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) replicas: Vec<SocketAddr>,
    pub(crate) mode: Mode,
    pub(crate) workload: Box<dyn Workload>,
    pub(crate) reads: Option<Validator>,
    pub(crate) seed: u64,
    pub(crate) retransmission: Retransmission,
    pub(crate) sampling: Sampling,
    pub(crate) dissemination: Dissemination,
    pub(crate) batch_digests: bool,
    pub(crate) window: u64,
    pub(crate) clock: Clock,
    pub(crate) seconds: Sender<ThreadSecond>,
    pub(crate) stop: Arc<AtomicBool>,
}

/// What it needs besides until it drives.
pub(crate) struct Start {
    pub(crate) transport: TransportChoice,
    pub(crate) emulation: Option<OutgoingLinks>,
    pub(crate) changes: Receiver<Change>,
    pub(crate) ready: Sender<Ready>,
    pub(crate) starts: Receiver<Timetable>,
}

impl LoadThread {
    /// Connects, waits for the start and drives the load.
    pub(crate) fn run(self, start: Start) -> std::io::Result<ThreadSummary> {
        recycler::keep_blocks();
        let Start { transport, emulation, changes, ready, starts } = start;
        let (transport, opened) = match probe::open(transport) {
            Ok(opened) => opened,
            Err(error) => {
                let copy = std::io::Error::new(error.kind(), error.to_string());
                let _ = ready.send(Err(error));
                return Err(copy);
            }
        };
        let waker = transport.waker();
        let mut links = self.links(transport, emulation, changes)?;
        let needed = self.keyring.quorums().n() - self.keyring.quorums().f();
        let connected = connect(&mut links, self.clock, self.replicas.len(), needed)?;
        let _ = ready.send(Ok((connected, links.refused(), opened.why)));
        drop(ready);
        // Whoever gave the start is gone when too few replicas could be reached.
        let Ok(timetable) = starts.recv() else { return Ok(ThreadSummary::default()) };
        let pacing = pacing(self.mode, self.seed, (self.index, self.count), &timetable, self.clients.len());
        let _ticker = matches!(pacing, Pacing::Open(_)).then(|| Ticker::start(waker));
        self.driver(links, pacing, timetable).run()
    }

    /// Its links to the replicas, none of which stands yet.
    pub(crate) fn links(
        &self,
        transport: Box<dyn Transport>,
        emulation: Option<OutgoingLinks>,
        changes: Receiver<Change>,
    ) -> std::io::Result<Links> {
        let numbers = (self.owned.clone(), self.connections);
        let emulator = emulation.map(|links| Emulator::new(links, self.index, self.count));
        let keyring = Arc::clone(&self.keyring);
        Links::new(transport, self.clock, keyring, &self.replicas, numbers, (emulator, changes))
    }

    /// What drives its load.
    pub(crate) fn driver(self, links: Links, pacing: Pacing, timetable: Timetable) -> Driver {
        #[allow(clippy::cast_possible_truncation, reason = "at most CLIENTS_MAX")]
        let table = ClientTable::new(self.keyring.quorums(), ClientId(self.clients.start), self.clients.len() as u32);
        let table = if self.reads.is_some() { table.with_reads() } else { table };
        Driver::new(DriverParts {
            keyring: self.keyring,
            clock: self.clock,
            links,
            table,
            node_clients: self.node_clients,
            connections: self.connections,
            clients: self.clients,
            owned: self.owned,
            workload: self.workload,
            reads: self.reads,
            pacing,
            timetable,
            retransmission: self.retransmission,
            sampling: self.sampling,
            dissemination: self.dissemination,
            batch_digests: self.batch_digests,
            window: self.window,
            seconds: self.seconds,
            stop: self.stop,
        })
    }
}

/// The whole schedule of an open loop.
pub(crate) fn schedule(mode: Mode, seed: u64) -> Result<Option<Schedule>, RateError> {
    match mode {
        Mode::Closed => Ok(None),
        Mode::Constant(rate) => Schedule::constant(rate).map(Some),
        Mode::Poisson(rate) => Schedule::poisson(rate, seed).map(Some),
    }
}

fn pacing(mode: Mode, seed: u64, (index, count): (u32, u32), timetable: &Timetable, clients: usize) -> Pacing {
    let Ok(Some(schedule)) = schedule(mode, seed) else { return Pacing::Closed };
    #[allow(clippy::cast_possible_truncation, reason = "at most CLIENTS_MAX")]
    let free = (0..clients as u32).rev().collect();
    let part = schedule.part(index as usize, count as usize);
    Pacing::Open(OpenLoop::new(part, timetable.start, timetable.measure_until, free))
}

/// Tries to reach all replicas; gives up on the last ones once enough have been reached. Returns how many were.
fn connect(links: &mut Links, clock: Clock, n: usize, needed: usize) -> std::io::Result<usize> {
    let began = clock.now();
    let mut frames = Vec::new();
    loop {
        let connected = links.replicas_connected();
        let waited = Duration::from_nanos(clock.now().since(began));
        if connected == n || waited > CONNECT_WITHIN || (connected >= needed && waited > CONNECT_ALL_WITHIN) {
            return Ok(connected);
        }
        links.poll(clock.now(), Duration::from_millis(10), &mut frames)?;
    }
}

/// Wakes a transport every [`TICK`], since waiting on sockets is too coarse to send on time.
struct Ticker(Arc<AtomicBool>);

impl Ticker {
    fn start(waker: Waker) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(TICK);
                waker.wake();
            }
        });
        Self(stop)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
