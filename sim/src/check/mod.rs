//! What must hold in every run, checked while it goes on. The first violation ends it.
//!
//! The checkers know what no replica knows: who is honest, what every honest replica has said and executed in all its
//! lives, what clients really asked for, and when.

use std::collections::BTreeMap;
use std::sync::Arc;

use hippodrome_engine::named_enum;
use hippodrome_engine::protocol::Execution;
use hippodrome_engine::requests::{Batch, result_digest};
use hippodrome_engine::types::{ClientId, Digest, ReplicaId, SequenceNumber, Timestamp, View};

mod oracle;
mod votes;

use oracle::Oracle;
pub(crate) use oracle::{RECORDS, VALUE_BYTES};
use votes::Votes;

named_enum! {
    /// What is checked.
    Checker {
        /// Honest replicas execute the same batch at each sequence number, in all their lives, and come to the same
        /// state.
        Agreement = "agreement",
        /// Correct replicas that prepare a batch in one view at one sequence number prepare the same one.
        Certificates = "certificates",
        /// A correct replica never contradicts what it said, not even after a crash.
        Consistency = "consistency",
        /// A correct replica's view change tells of every batch that it has committed itself to.
        ViewChange = "view-change",
        /// What is executed was asked for by its client, could prove it at a correct replica, and is valid.
        Validity = "validity",
        /// Each operation is executed once.
        ExactlyOnce = "exactly-once",
        /// What honest replicas answer, and what clients take for the result, is what the ledger gives.
        Replies = "replies",
        /// An operation that completed before another began precedes it in the ledger.
        RealTime = "real-time",
        /// What a read gives that was not ordered is what some state gives, one that is no older than what was
        /// complete, or was read, before the read began.
        Linearizability = "linearizability",
        /// What clients were told to be done is kept by a quorum, whatever dies: in a state, or as prepared.
        Durability = "durability",
        /// When the network has healed, correct clients get their answers and correct replicas catch up.
        Liveness = "liveness",
        /// When all of that is done, correct replicas come together: all of them are active in one view.
        Convergence = "convergence",
        /// Correct replicas judge signatures alike.
        Verdicts = "verdicts",
        /// No replica falls over.
        Panic = "panic",
        /// Replicas do not talk without end.
        Storm = "storm",
    }
}

/// What did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Who found it.
    pub checker: Checker,
    /// What was found, for people.
    pub detail: String,
}

/// Where an operation is: its sequence number and its place in the batch.
pub(crate) type Place = (SequenceNumber, usize);

/// Everything that is checked while a run goes on.
pub(crate) struct Checks {
    clients: u32,
    /// What each client asked for, by the request's digest, and where it could prove that.
    asked: BTreeMap<Digest, u64>,
    /// The correct replicas.
    correct: u64,
    /// L, as the replicas round it.
    window: u64,
    ledger: BTreeMap<SequenceNumber, Entry>,
    oracle: Oracle,
    /// What was executed for whom, with its result and place.
    results: BTreeMap<(ClientId, Timestamp), (Vec<u8>, Place)>,
    states: BTreeMap<SequenceNumber, Digest>,
    votes: Votes,
    /// The last place of what is complete.
    completed: Place,
    /// Of operations under way: what was complete when they began.
    began: BTreeMap<ClientId, Place>,
    /// The batches with operations that clients were told to be done.
    acknowledged: BTreeMap<SequenceNumber, Digest>,
    /// Where honest replicas have executed operations tentatively, by view, and in which batches.
    tentative: BTreeMap<(ClientId, Timestamp), BTreeMap<View, (Place, Digest)>>,
    /// What clients take to be done although nobody has confirmed it yet, by its sequence number.
    promises: BTreeMap<SequenceNumber, Vec<Promise>>,
    pub(crate) violation: Option<Violation>,
}

/// What a client takes to be done and to have given `result`.
struct Promise {
    client: ClientId,
    timestamp: Timestamp,
    place: Place,
    batch: Digest,
    result: Vec<u8>,
}

struct Entry {
    batch: Arc<Batch>,
    /// The ledger's digest after it, once somebody has executed it.
    ledger: Option<Digest>,
}

impl Checks {
    /// `correct`: the replicas that are neither Byzantine nor come to forget everything. `window` is L, a multiple of
    /// K.
    pub(crate) fn new(clients: u32, correct: u64, window: u64) -> Self {
        Self {
            clients,
            asked: BTreeMap::new(),
            correct,
            window,
            ledger: BTreeMap::new(),
            oracle: Oracle::new(),
            results: BTreeMap::new(),
            states: BTreeMap::new(),
            votes: Votes::default(),
            completed: (SequenceNumber(0), 0),
            began: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            tentative: BTreeMap::new(),
            promises: BTreeMap::new(),
            violation: None,
        }
    }

    pub(crate) fn fail(&mut self, checker: Checker, detail: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { checker, detail: detail() });
        }
    }

    /// A client asks for something, with an authenticator that holds at the replicas of `holds`.
    pub(crate) fn asked(&mut self, digest: Digest, holds: u64) {
        *self.asked.entry(digest).or_default() |= holds;
    }

    /// The last sequence number that anybody executed for good, or must.
    pub(crate) fn end(&self) -> SequenceNumber {
        let promised = self.promises.last_key_value().map_or(SequenceNumber(0), |(sequence, _)| *sequence);
        self.ledger_end().max(promised)
    }

    /// The last sequence number that anybody executed for good.
    fn ledger_end(&self) -> SequenceNumber {
        self.ledger.last_key_value().map_or(SequenceNumber(0), |(sequence, _)| *sequence)
    }

    /// Null requests that were executed.
    pub(crate) fn null_requests(&self) -> u64 {
        self.ledger.values().filter(|entry| entry.batch.is_null()).count() as u64
    }

    /// The batches with operations that clients were told to be done.
    pub(crate) fn acknowledged(&self) -> Vec<(SequenceNumber, Digest)> {
        self.acknowledged.iter().map(|(sequence, digest)| (*sequence, *digest)).collect()
    }

    /// The correct replicas, as a set.
    pub(crate) const fn correct(&self) -> u64 {
        self.correct
    }

    /// An honest replica executes a batch that is only prepared.
    pub(crate) fn executing_tentatively(&mut self, execution: &Execution) {
        let Execution { sequence, view, batch, .. } = execution;
        for (index, client) in batch.requests.clients.iter().enumerate() {
            let operation = (*client, batch.requests.timestamps[index]);
            // One that comes twice in a view is executed where it comes first.
            let places = self.tentative.entry(operation).or_default();
            places.entry(*view).or_insert(((*sequence, index), batch.digest));
        }
    }

    /// An honest replica is about to execute a batch for good, or has done so. `valid` tells whether the application
    /// takes an operation.
    pub(crate) fn executing(&mut self, who: ReplicaId, execution: &Execution, valid: impl Fn(usize) -> bool) {
        let sequence = execution.sequence;
        if let Some(entry) = self.ledger.get(&sequence) {
            let (other, own) = (entry.batch.digest, execution.batch.digest);
            if other != own {
                self.fail(Checker::Agreement, || {
                    format!("at {sequence} r{who} executes {own:?}, others executed {other:?}")
                });
            }
            return;
        }
        let batch = Arc::clone(&execution.batch);
        for applied in self.oracle.apply(sequence, &batch.requests, self.clients) {
            let index = applied.index;
            let (client, timestamp) = (batch.requests.clients[index], batch.requests.timestamps[index]);
            let holds = self.asked.get(&batch.requests.digests[index]).copied();
            if holds.is_none_or(|holds| holds & self.correct == 0) {
                let why =
                    if holds.is_none() { "its client never asked for" } else { "proves itself to no correct replica" };
                self.fail(Checker::Validity, || {
                    format!("at {sequence} r{who} executes c{client} t{timestamp}, which {why}")
                });
            }
            if !valid(index) {
                self.fail(Checker::Validity, || {
                    format!("at {sequence} r{who} executes an invalid operation of c{client}")
                });
            }
            self.results.insert((client, timestamp), (applied.result, (sequence, index)));
        }
        let digest = batch.digest;
        self.ledger.insert(sequence, Entry { batch, ledger: None });
        for promise in self.promises.remove(&sequence).unwrap_or_default() {
            self.keep(&promise, digest);
        }
    }

    /// Checks that what a client was told comes true in a batch with this digest.
    fn keep(&mut self, promise: &Promise, digest: Digest) {
        let Promise { client, timestamp, place, batch, result } = promise;
        if *batch != digest {
            return self.fail(Checker::Durability, || {
                format!("c{client} was told that its t{timestamp} is done at {place:?}; {digest:?} is executed there")
            });
        }
        let given = self.results.get(&(*client, *timestamp)).cloned();
        if given.as_ref() != Some(&(result.clone(), *place)) {
            self.fail(Checker::Replies, || {
                format!("c{client} t{timestamp} was told {result:?} at {place:?}; the ledger gives {given:?}")
            });
        }
    }

    /// An honest replica has executed a batch; its ledger has this digest now.
    pub(crate) fn executed(&mut self, who: ReplicaId, sequence: SequenceNumber, ledger: Digest) {
        let Some(entry) = self.ledger.get_mut(&sequence) else { return };
        let known = *entry.ledger.get_or_insert(ledger);
        if known != ledger {
            self.fail(Checker::Agreement, || {
                format!("after {sequence} the ledger of r{who} is {ledger:?}, others' {known:?}")
            });
        }
    }

    /// An honest replica's client table after `sequence`: executed operations and last timestamps. It is looked at
    /// where the ledger ends.
    pub(crate) fn client_table(
        &mut self,
        who: ReplicaId,
        sequence: SequenceNumber,
        columns: impl FnOnce() -> (Vec<u64>, Vec<u64>),
    ) {
        if sequence != self.ledger_end() {
            return;
        }
        let (executed, last) = columns();
        for (client, (&executed, &last)) in (0..).map(ClientId).zip(executed.iter().zip(&last)) {
            let expected = self.oracle.client(client);
            if (executed, last) != (expected.executed, expected.last.0) {
                self.fail(Checker::ExactlyOnce, || {
                    let expected = (expected.executed, expected.last.0);
                    format!(
                        "r{who} executed {executed} operations of c{client} up to t{last}; the ledger has {expected:?}"
                    )
                });
            }
        }
    }

    /// An honest replica's state at a checkpoint, taken or taken over.
    pub(crate) fn state(&mut self, who: ReplicaId, sequence: SequenceNumber, digest: Digest) {
        let known = *self.states.entry(sequence).or_insert(digest);
        if known != digest {
            self.fail(Checker::Agreement, || {
                format!("the state of r{who} at {sequence} is {digest:?}, others' {known:?}")
            });
        }
    }

    /// An honest replica answers.
    pub(crate) fn replied(
        &mut self,
        who: ReplicaId,
        client: ClientId,
        timestamp: Timestamp,
        result: &[u8],
        is_digest: bool,
    ) {
        let expected = self
            .results
            .get(&(client, timestamp))
            .map(|(result, _)| if is_digest { result_digest(result).0.to_vec() } else { result.clone() });
        if expected.as_deref() != Some(result) {
            self.fail(Checker::Replies, || {
                format!("r{who} answers c{client} t{timestamp} with {result:?}; the ledger gives {expected:?}")
            });
        }
    }

    /// An honest replica that has executed everything up to there answers a read-only request.
    pub(crate) fn answered_read(&mut self, who: ReplicaId, executed: SequenceNumber, operation: &[u8], result: &[u8]) {
        let expected = self.oracle.read_at(executed, operation);
        if expected != result {
            self.fail(Checker::Replies, || {
                format!("r{who} answers a read at {executed} with {result:?}; the ledger gives {expected:?}")
            });
        }
    }

    /// A correct client takes `result` for what a read gives that was not ordered. The read is given its place after
    /// the first batch that fits: places of later operations are bounded by it, so the earliest is best.
    pub(crate) fn read(&mut self, client: ClientId, operation: &[u8], result: &[u8]) {
        let before = self.began.remove(&client).unwrap_or_default();
        let end = self.ledger_end();
        let fits = (before.0.0..=end.0).map(SequenceNumber).find(|at| self.oracle.read_at(*at, operation) == result);
        let Some(place) = fits else {
            return self.fail(Checker::Linearizability, || {
                format!("c{client} reads {result:?}, which no state from {} on to {end} gives", before.0)
            });
        };
        self.completed = self.completed.max((place, usize::MAX));
    }

    /// A correct client begins an operation.
    pub(crate) fn began(&mut self, client: ClientId) {
        self.began.insert(client, self.completed);
    }

    /// A correct client takes its operation to be done, with this result: because of what was prepared in a view, if
    /// there is one. Returns the batch that it is in.
    pub(crate) fn completed(
        &mut self,
        client: ClientId,
        timestamp: Timestamp,
        result: &[u8],
        agreed_in: Option<View>,
    ) -> Option<(SequenceNumber, Digest)> {
        let (place, batch) = match self.results.get(&(client, timestamp)) {
            Some((expected, place)) => {
                let place = *place;
                if expected != result {
                    let expected = expected.clone();
                    self.fail(Checker::Replies, || {
                        format!("c{client} t{timestamp} was told {result:?}; the ledger gives {expected:?}")
                    });
                }
                (place, self.ledger.get(&place.0)?.batch.digest)
            }
            None => self.promised(client, timestamp, result, agreed_in)?,
        };
        if let Some(before) = self.began.remove(&client).filter(|before| *before > place) {
            self.fail(Checker::RealTime, || {
                format!("c{client} t{timestamp} is at {place:?}, but {before:?} was complete before it began")
            });
        }
        self.completed = self.completed.max(place);
        self.acknowledged.insert(place.0, batch);
        Some((place.0, batch))
    }

    /// A correct client takes its operation to be done that nobody has confirmed. It has its place all the same: where
    /// honest replicas have executed it tentatively in that view.
    fn promised(
        &mut self,
        client: ClientId,
        timestamp: Timestamp,
        result: &[u8],
        agreed_in: Option<View>,
    ) -> Option<(Place, Digest)> {
        let executed = self.tentative.get(&(client, timestamp));
        let Some(&(place, batch)) = executed.zip(agreed_in).and_then(|(places, view)| places.get(&view)) else {
            self.fail(Checker::Replies, || format!("c{client} t{timestamp} is done, but nobody executed it"));
            return None;
        };
        let promise = Promise { client, timestamp, place, batch, result: result.to_vec() };
        match self.ledger.get(&place.0).map(|entry| entry.batch.digest) {
            Some(digest) => self.keep(&promise, digest),
            None => self.promises.entry(place.0).or_default().push(promise),
        }
        Some((place, batch))
    }
}
