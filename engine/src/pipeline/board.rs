//! Where stages post their counters, a few times a second, for the control port to read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::control::{ClientsAnswer, ReplicaReport};
use crate::pipeline::stage::Counts;
use crate::ring::doorbell::Doorbell;
use crate::sampling::ReplicaNotes;
use crate::types::{Digest, SequenceNumber, View};

/// What all stages have posted.
#[derive(Debug, Default)]
pub struct Board {
    /// The report but for `ignored`, which is gathered from `ignored_by_stage`.
    pub report: ReplicaReport,
    /// What each stage refused or ignored so far.
    pub ignored_by_stage: BTreeMap<String, Counts>,
    /// What was noted of operations that are followed.
    pub notes: ReplicaNotes,
}

impl Board {
    /// Replaces what `stage` has ignored so far.
    pub fn post_ignored(&mut self, stage: &str, counts: &Counts) {
        if let Some(posted) = self.ignored_by_stage.get_mut(stage) {
            posted.clone_from(counts);
        } else {
            self.ignored_by_stage.insert(stage.to_owned(), counts.clone());
        }
    }

    /// The whole report.
    #[must_use]
    pub fn report(&self) -> ReplicaReport {
        let mut report = self.report.clone();
        for counts in self.ignored_by_stage.values() {
            for (reason, count) in counts {
                *report.ignored.entry((*reason).to_owned()).or_default() += count;
            }
        }
        report
    }
}

/// A board shared by all threads of a replica.
#[derive(Clone, Debug, Default)]
pub struct SharedBoard(Arc<Mutex<Board>>);

impl SharedBoard {
    /// The board. A thread that panicked while it posted leaves numbers that are at worst stale.
    pub fn lock(&self) -> MutexGuard<'_, Board> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far the order stage has got, for verify stages to refuse what it has left behind before they check a signature
/// of it. Both numbers only grow, so a look that comes too early refuses too little and never too much.
#[derive(Clone, Debug, Default)]
pub struct Reached(Arc<[AtomicU64; 2]>);

impl Reached {
    /// Tells the current view and the low watermark.
    pub fn publish(&self, view: View, low: SequenceNumber) {
        for (published, number) in self.0.iter().zip([view.0, low.0]) {
            // Written only where it changes, so that its readers keep the cache line.
            if published.load(Ordering::Relaxed) != number {
                published.store(number, Ordering::Relaxed);
            }
        }
    }

    /// The current view, or an earlier one.
    #[must_use]
    pub fn view(&self) -> View {
        View(self.0[0].load(Ordering::Relaxed))
    }

    /// The low watermark, or an earlier one.
    #[must_use]
    pub fn low(&self) -> SequenceNumber {
        SequenceNumber(self.0[1].load(Ordering::Relaxed))
    }
}

/// A question that only the execute stage can answer.
#[derive(Debug)]
pub enum Query {
    /// Ledger digests at these sequence numbers.
    Ledger(Vec<SequenceNumber>, Sender<Vec<Option<Digest>>>),
    /// What was executed for each client.
    Clients(Sender<ClientsAnswer>),
}

/// The asking side of [`Query`].
#[derive(Clone, Debug)]
pub struct Questions {
    queries: Sender<Query>,
    bell: Doorbell,
}

/// How long a question waits for its answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

impl Questions {
    /// Asks over `queries`, waking the execute stage's thread by `bell`.
    #[must_use]
    pub const fn new(queries: Sender<Query>, bell: Doorbell) -> Self {
        Self { queries, bell }
    }

    /// Ledger digests at `sequences`, or `None` if the stage does not answer.
    #[must_use]
    pub fn ledger(&self, sequences: Vec<SequenceNumber>) -> Option<Vec<Option<Digest>>> {
        self.ask(|answer| Query::Ledger(sequences, answer))
    }

    /// What was executed for each client, or `None` if the stage does not answer.
    #[must_use]
    pub fn clients(&self) -> Option<ClientsAnswer> {
        self.ask(Query::Clients)
    }

    fn ask<T>(&self, query: impl FnOnce(Sender<T>) -> Query) -> Option<T> {
        let (sender, receiver) = channel();
        self.queries.send(query(sender)).ok()?;
        self.bell.ring();
        receiver.recv_timeout(ANSWER_WITHIN).ok()
    }
}
