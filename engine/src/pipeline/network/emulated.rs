//! The emulated links of a replica, and the way on which the control port changes them.

use std::time::{Duration, Instant};

use crossbeam::channel::{self, Receiver, Sender};

use crate::emulation::alarm::Alarm;
use crate::emulation::{Change, ChangeError, Dropped, Emulator, InForce, OutgoingLinks};
use crate::pipeline::clock::Clock;
use crate::pipeline::egress::{Destination, Outgoing};
use crate::pipeline::stage::{Counts, count_many};
use crate::ring::doorbell::Doorbell;
use crate::transport::Waker;
use crate::types::{NodeId, Time};

/// How long a change waits for its answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// A change, and where its outcome is told.
pub struct ChangeRequest {
    change: Change,
    answer: Sender<Result<InForce, ChangeError>>,
}

/// The asking side of changes.
#[derive(Clone)]
pub struct LinkChanges {
    requests: Sender<ChangeRequest>,
    bell: Doorbell,
}

/// Both sides of changes; `bell` wakes the network's thread.
#[must_use]
pub fn link_changes(bell: Doorbell) -> (LinkChanges, Receiver<ChangeRequest>) {
    let (requests, changes) = channel::unbounded();
    (LinkChanges { requests, bell }, changes)
}

impl LinkChanges {
    /// Makes a change and tells what is in force then, or why it can not be made; `None` if the network does not
    /// answer.
    #[must_use]
    pub fn make(&self, change: Change) -> Option<Result<InForce, ChangeError>> {
        let (answer, answered) = channel::bounded(1);
        self.requests.send(ChangeRequest { change, answer }).ok()?;
        self.bell.ring();
        answered.recv_timeout(ANSWER_WITHIN).ok()
    }
}

/// Links that are emulated, with what wakes their thread when a frame is due.
pub(super) struct Emulated {
    emulator: Emulator<Outgoing>,
    alarm: Alarm,
}

impl Emulated {
    pub(super) fn new(links: OutgoingLinks, waker: Waker) -> std::io::Result<Self> {
        Ok(Self { emulator: Emulator::new(links, 0, 1), alarm: Alarm::start(waker)? })
    }

    pub(super) fn push(&mut self, now: Time, items: Vec<Outgoing>) {
        for item in items {
            let to = match item.to {
                Destination::Replica(replica) => NodeId::of(replica),
                Destination::Client(node, _) => node,
            };
            // Whatever is dropped has been counted.
            let _ = self.emulator.push(now, to, item.bytes.len(), item);
        }
    }

    pub(super) fn pop_due(&mut self, now: Time) -> Option<Outgoing> {
        self.emulator.pop_due(now)
    }

    pub(super) fn next_due(&self) -> Option<Time> {
        self.emulator.next_due()
    }

    /// Makes sure that a wait for the sockets ends when the next frame is due.
    pub(super) fn set_alarm(&self, clock: &Clock) {
        if let Some(due) = self.next_due() {
            self.alarm.set(Instant::now() + clock.until(due));
        }
    }

    pub(super) fn dropped(&self) -> Counts {
        let mut counts = Counts::new();
        for dropped in Dropped::ALL {
            count_many(&mut counts, dropped.name(), self.emulator.dropped(*dropped));
        }
        counts
    }
}

/// Makes a change, which is what begins the emulation where there is none yet.
pub(super) fn change(
    emulated: &mut Option<Emulated>,
    own: NodeId,
    nodes: usize,
    waker: &Waker,
    ChangeRequest { change, answer }: ChangeRequest,
) {
    let outcome = change.check(nodes).and_then(|()| {
        if let Some(emulated) = emulated {
            emulated.emulator.apply(&change)?;
            return Ok(emulated.emulator.in_force());
        }
        let mut emulator = Emulator::clear(own, nodes, rand::random());
        emulator.apply(&change)?;
        let in_force = emulator.in_force();
        if !change.is_nothing() {
            *emulated = Alarm::start(waker.clone()).ok().map(|alarm| Emulated { emulator, alarm });
        }
        Ok(in_force)
    });
    if emulated.is_none() && !change.is_nothing() && outcome.is_ok() {
        // There is no thread for the alarm: nothing is in force, and the request gets no answer.
        return;
    }
    // Who asked may have given up.
    let _ = answer.send(outcome);
}
