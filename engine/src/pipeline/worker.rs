//! One thread of a replica: the run loop that drives its stages.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::sync::Parker;

use crate::pipeline::board::SharedBoard;
use crate::pipeline::clock::Clock;
use crate::pipeline::network::Network;
use crate::pipeline::stage::{Meter, STALL_RETRY, Stage};
use crate::platform::recycler;
use crate::ring::doorbell::Doorbell;
use crate::ring::wait::Wait;
use crate::types::{Time, nanos};

/// How often a thread posts its counters, and so the longest that it sleeps.
const POST_INTERVAL: Duration = Duration::from_millis(100);
/// Rounds over the stages before a thread looks at its sockets again.
const ROUNDS_MAX: usize = 8;
/// The same as a time: a slice of signatures takes as long, and what peers say must not wait for eight of them.
const ROUNDS_NS_MAX: u64 = 1_000_000;

/// How a thread waits when it has no sockets.
pub struct Sleep {
    /// Its bell, which its producers ring.
    pub bell: Doorbell,
    /// What it sleeps on.
    pub parker: Parker,
}

/// A thread and its stages, in data-path order.
pub struct Worker {
    name: String,
    core: Option<usize>,
    clock: Clock,
    wait: Wait,
    network: Option<Network>,
    bell: Doorbell,
    parker: Option<Parker>,
    stages: Vec<(Box<dyn Stage>, Meter)>,
    network_meter: Meter,
    board: SharedBoard,
    stop: Arc<AtomicBool>,
    posted: Time,
}

/// What every worker of one replica shares.
#[derive(Clone)]
pub struct Common {
    /// The replica's clock.
    pub clock: Clock,
    /// What to do when idle.
    pub wait: Wait,
    /// Where counters go.
    pub board: SharedBoard,
    /// Set to end all threads.
    pub stop: Arc<AtomicBool>,
}

impl Worker {
    /// A thread called `name`, pinned to `core` by whoever starts it. It waits in the network's poll if it has one,
    /// else on its parker.
    #[must_use]
    pub fn new(
        name: String,
        core: Option<usize>,
        common: &Common,
        network: Option<Network>,
        sleep: Sleep,
        stages: Vec<Box<dyn Stage>>,
    ) -> Self {
        Self {
            name,
            core,
            clock: common.clock,
            wait: common.wait,
            parker: network.is_none().then_some(sleep.parker),
            network,
            bell: sleep.bell,
            stages: stages.into_iter().map(|stage| (stage, Meter::default())).collect(),
            network_meter: Meter::default(),
            board: common.board.clone(),
            stop: Arc::clone(&common.stop),
            posted: Time(0),
        }
    }

    /// Runs until told to stop.
    ///
    /// # Errors
    /// If the transport fails as a whole.
    pub fn run(mut self) -> std::io::Result<()> {
        recycler::keep_blocks();
        let mut wait = Duration::ZERO;
        while !self.stop.load(Ordering::Relaxed) {
            self.poll_network(wait)?;
            let busy = self.step_stages();
            if let Some(network) = &mut self.network {
                network.take_outgoing(&self.clock);
            }
            self.post_if_due();
            wait = if busy { Duration::ZERO } else { self.idle() };
        }
        self.post();
        Ok(())
    }

    fn poll_network(&mut self, wait: Duration) -> std::io::Result<()> {
        let Some(network) = &mut self.network else { return Ok(()) };
        // Says that this thread is awake as soon as it is.
        let worked_ns = network.step(wait, &self.clock)?;
        if worked_ns > 0 {
            self.network_meter.note(worked_ns, network.queue_len());
        }
        Ok(())
    }

    /// Steps the stages until none has anything to do, at most [`ROUNDS_MAX`] times and, on a thread with sockets,
    /// until [`ROUNDS_NS_MAX`] have passed. True if the last round did something.
    fn step_stages(&mut self) -> bool {
        let mut now = self.clock.now();
        let end = now.after(if self.network.is_some() { ROUNDS_NS_MAX } else { u64::MAX });
        for _ in 0..ROUNDS_MAX {
            let mut any = false;
            for (stage, meter) in &mut self.stages {
                let queue = stage.queue_len();
                if stage.step(now) {
                    any = true;
                    let end = self.clock.now();
                    meter.note(end.since(now), queue);
                    now = end;
                }
            }
            if !any {
                return false;
            }
            if now >= end {
                break;
            }
        }
        true
    }

    /// Nothing to do: waits by the chosen strategy, or, on a thread with sockets, says how long the next poll may wait.
    fn idle(&self) -> Duration {
        let longest = self.longest_sleep();
        if let Some(parker) = &self.parker {
            self.wait.idle(&self.bell, parker, longest, || self.has_work());
            return Duration::ZERO;
        }
        match self.wait {
            Wait::Spin => std::hint::spin_loop(),
            Wait::Yield => std::thread::yield_now(),
            Wait::Park => {
                self.bell.prepare_sleep();
                if !self.has_work() {
                    return longest;
                }
                self.bell.awake();
            }
        }
        Duration::ZERO
    }

    /// Whether there is anything to do now. What a stalled stage has to do it can not do yet.
    fn has_work(&self) -> bool {
        self.network.as_ref().is_some_and(Network::has_work)
            || self.stages.iter().any(|(stage, _)| !stage.is_stalled() && stage.has_work())
    }

    fn longest_sleep(&self) -> Duration {
        let now = self.clock.now();
        let stages = self.stages.iter().map(|(stage, _)| (stage.is_stalled(), stage.deadline()));
        let network = self.network.iter().map(|network| (network.is_stalled(), network.deadline()));
        stages.chain(network).fold(POST_INTERVAL, |longest, (stalled, deadline)| {
            let longest = if stalled { longest.min(STALL_RETRY) } else { longest };
            deadline.map_or(longest, |deadline| longest.min(Duration::from_nanos(deadline.since(now))))
        })
    }

    fn post_if_due(&mut self) {
        if self.clock.now().since(self.posted) >= nanos(POST_INTERVAL) {
            self.post();
        }
    }

    fn post(&mut self) {
        let now = self.clock.now();
        self.posted = now;
        let mut board = self.board.lock();
        let mut reports = Vec::new();
        if let Some(network) = &mut self.network {
            network.post(&mut board);
            reports.push(self.network_meter.report("ingress", &self.name, self.core, now.0));
        }
        for (stage, meter) in &mut self.stages {
            stage.post(&mut board);
            reports.push(meter.report(stage.name(), &self.name, self.core, now.0));
        }
        for report in reports {
            match board.report.stages.iter_mut().find(|stage| stage.name == report.name) {
                Some(stage) => *stage = report,
                None => board.report.stages.push(report),
            }
        }
    }
}
