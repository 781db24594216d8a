//! A load that nobody runs: one thread's clients in a closed loop, over any transport, for whoever takes the steps by
//! hand. The benchmark that counts what an operation costs does, so that what it counts is the code of real loads.

use std::io;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use hippodrome_engine::pipeline::clock::Clock;
use hippodrome_engine::transport::Transport;
use hippodrome_engine::types::Time;

use super::{LoadError, LoadOptions, Setup};
use crate::driver::{Driver, ThreadSecond};
use crate::links::Arrived;
use crate::pacing::Pacing;
use crate::timetable::Timetable;

/// The load has ended, so that clients do not begin anew by themselves: they do when they are told to send. And it will
/// only begin, so that none of its seconds is ever over: what is recorded does not depend on how long the steps take.
const TIMETABLE: Timetable = Timetable {
    start: Time(u64::MAX),
    measure_from: Time(0),
    measure_until: Time(0),
    drain_ns: 0,
    drain_max_ns: 0,
    timeout_ns: u64::MAX,
};

/// The clients and their links.
pub struct ByHand {
    driver: Driver,
    clock: Clock,
    frames: Vec<Arrived>,
    seconds: Receiver<ThreadSecond>,
}

impl ByHand {
    /// The first thread of the load that `options` ask for, whatever its mode, over `transport`. What they say of
    /// times, transports and emulated networks is not looked at.
    ///
    /// # Errors
    /// If the options are not those of a load.
    pub fn new(options: &LoadOptions, transport: Box<dyn Transport>) -> Result<Self, LoadError> {
        let setup = Setup::new(options)?;
        let (seconds_in, seconds) = channel();
        let thread = setup.thread(0, setup.workloads()?.swap_remove(0), seconds_in);
        let links = thread.links(transport, None, channel().1).map_err(super::io("links"))?;
        let driver = thread.driver(links, Pacing::Closed, TIMETABLE);
        Ok(Self { driver, clock: setup.clock, frames: Vec::new(), seconds })
    }

    /// How many replicas it has links to by now.
    #[must_use]
    pub fn replicas_connected(&self) -> usize {
        self.driver.replicas_connected()
    }

    /// Begins the next operation of everybody who has none under way, and sends frames of them, with their
    /// authenticators.
    pub fn send(&mut self) {
        let now = self.clock.now();
        self.driver.begin_all(now);
        self.driver.send(now);
    }

    /// Takes the replies that are there, without waiting, and counts them.
    ///
    /// # Errors
    /// If the transport fails as a whole.
    pub fn receive(&mut self) -> io::Result<()> {
        self.driver.receive(self.clock.now(), Duration::ZERO, &mut self.frames)
    }

    /// Operations that are complete.
    #[must_use]
    pub fn completed(&self) -> u64 {
        self.driver.completed()
    }

    /// Ends the load. Returns how often something went wrong: replies or results that were, what was sent again, what
    /// was dropped.
    #[must_use]
    pub fn finish(self) -> u64 {
        let summary = self.driver.summarise();
        let replies = summary.bad_replies + summary.wrong_results + summary.wrong_replies.iter().sum::<u64>();
        let sent_again = self.seconds.try_iter().map(|second| second.retransmissions).sum::<u64>();
        replies + sent_again + summary.dropped.no_connection + summary.dropped.queue_full
    }
}
