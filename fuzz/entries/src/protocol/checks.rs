//! What one replica owes whatever it is told.

use std::collections::{BTreeMap, BTreeSet};

use hippodrome_engine::limits::{ANSWER_SLOTS_MAX, STATUS_SLOTS_MAX};
use hippodrome_engine::protocol::message::{PrePrepare, Vote};
use hippodrome_engine::protocol::{Execution, Message, Output, Position, Record};
use hippodrome_engine::types::{Digest, ReplicaId, SequenceNumber, View};

use super::{INTERVAL, N, WINDOW};

/// Most outputs of one input: an answer to a status message sends up to four messages for each of its sequence numbers,
/// and a window may move at once, each slot with its records, votes and execution.
const OUTPUTS_MAX: u64 = 4 * ANSWER_SLOTS_MAX + 2 * STATUS_SLOTS_MAX as u64 + 16 * WINDOW + 64;

/// Q and f + 1 of four replicas.
const QUORUM: usize = 3;
const WEAK: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Said {
    PrePrepare,
    Prepare,
    Commit,
    ViewChange,
    NewView,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Heard {
    Prepare,
    Commit,
    Claim,
}

/// What the replica said and recorded, in all its lives, and where it stands in this one.
pub(super) struct Checks {
    own: ReplicaId,
    said: BTreeMap<(Said, View, SequenceNumber), Digest>,
    recorded: BTreeSet<(Said, View, SequenceNumber, Digest)>,
    /// What is decided. To vote for that again, in a later view, binds nothing new and needs no record of its own.
    decided: BTreeSet<(SequenceNumber, Digest)>,
    /// Which others, as bits, voted for what: prepares and commits by view, claims under view 0.
    heard: BTreeMap<(Heard, View, SequenceNumber, Digest), u8>,
    /// The view that all earlier ones were left for.
    left_for: View,
    /// The last sequence number handed to the executor for good.
    handed_out: SequenceNumber,
    /// What was handed to it after that, tentatively.
    tentative: BTreeMap<SequenceNumber, Digest>,
    installing: bool,
    position: Position,
}

impl Checks {
    pub(super) fn new(own: ReplicaId, position: Position) -> Self {
        Self {
            own,
            said: BTreeMap::new(),
            recorded: BTreeSet::new(),
            decided: BTreeSet::new(),
            heard: BTreeMap::new(),
            left_for: View(0),
            handed_out: SequenceNumber(0),
            tentative: BTreeMap::new(),
            installing: false,
            position,
        }
    }

    /// Another replica says something.
    pub(super) fn heard(&mut self, sender: ReplicaId, message: &Message) {
        if sender == self.own || sender.0 >= N {
            return;
        }
        let (heard, view, vote) = match message {
            // The primary's pre-prepare is its only vote of this phase.
            Message::Prepare(vote) if sender != vote.view.primary(usize::from(N)) => (Heard::Prepare, vote.view, vote),
            Message::Commit(vote) => (Heard::Commit, vote.view, vote),
            Message::Committed(vote) => (Heard::Claim, View(0), vote),
            _ => return,
        };
        *self.heard.entry((heard, view, vote.sequence, vote.digest)).or_default() |= 1 << sender.0;
    }

    /// A commit rests on the prepares of Q replicas, this one and the primary included.
    fn is_prepared(&self, vote: &Vote) -> bool {
        let others = self.heard.get(&(Heard::Prepare, vote.view, vote.sequence, vote.digest));
        let others = others.map_or(0, |senders| senders.count_ones() as usize);
        let own = usize::from(vote.view.primary(usize::from(N)) != self.own);
        1 + own + others >= QUORUM
    }

    /// An execution rests on the commits of Q replicas in one view, this one included, where a claim counts as a commit
    /// of its sender, or on the claims of f + 1.
    fn is_decided(&self, sequence: SequenceNumber, digest: Digest) -> bool {
        let claims = self.heard.get(&(Heard::Claim, View(0), sequence, digest)).copied().unwrap_or_default();
        let commits = |((heard, _, at, what), senders): (&(Heard, View, SequenceNumber, Digest), &u8)| {
            let voters = (senders | claims).count_ones() as usize + 1;
            *heard == Heard::Commit && (*at, *what) == (sequence, digest) && voters >= QUORUM
        };
        claims.count_ones() as usize >= WEAK || self.heard.iter().any(commits)
    }

    /// The executor answers for a fetched state.
    pub(super) fn installed(&mut self, sequence: SequenceNumber, good: bool) {
        assert!(self.installing, "the executor was asked to");
        self.installing = false;
        if good {
            assert!(sequence > self.handed_out, "a fetched state leads on");
            self.handed_out = sequence;
        }
    }

    /// The replica was started anew behind this checkpoint. Views and votes are remembered.
    pub(super) fn restarted(&mut self, stable: SequenceNumber) {
        self.handed_out = stable;
        self.tentative.clear();
        self.installing = false;
        self.position.committed = stable;
        self.position.executed = stable;
        self.position.stable_checkpoint = stable;
    }

    /// What is executed tentatively is prepared in the view, on record, and lies beyond no checkpoint that is not
    /// decided; or it is decided, behind something that is not.
    fn tentative(&mut self, execution: &Execution) {
        let Execution { sequence, view, batch, .. } = execution;
        let last = self.tentative.last_key_value().map_or(self.handed_out, |(last, _)| *last);
        assert!(!self.installing, "nothing is executed while the state is replaced");
        assert_eq!(*sequence, last.next(), "in order, without a gap, once");
        assert!(last.0 - last.0 % INTERVAL <= self.handed_out.0, "{sequence} lies beyond a checkpoint");
        assert!(*view >= self.left_for, "in a view that was not left");
        let prepared = self.recorded.contains(&(Said::Commit, *view, *sequence, batch.digest));
        assert!(prepared || self.is_decided(*sequence, batch.digest), "{sequence} is executed without being prepared");
        self.tentative.insert(*sequence, batch.digest);
    }

    /// Checks the outputs of one step, and where the replica stands after it.
    pub(super) fn outputs(&mut self, outputs: &[Output], position: Position) {
        assert!(outputs.len() as u64 <= OUTPUTS_MAX, "{} outputs of one input", outputs.len());
        for output in outputs {
            match output {
                Output::Persist(record) => self.record(record),
                Output::Send(to, message) => {
                    assert!(*to != self.own && to.0 < N, "sent to {to}");
                    self.message(message);
                }
                Output::Broadcast(message) => self.message(message),
                Output::Execute(execution) if execution.tentative => self.tentative(execution),
                Output::Confirm(sequence, _) => {
                    assert_eq!(*sequence, self.handed_out.next(), "confirmed in order, without a gap, once");
                    let digest = self.tentative.remove(sequence).expect("it was handed out");
                    assert!(self.is_decided(*sequence, digest), "{sequence} is confirmed without a decision");
                    self.handed_out = *sequence;
                }
                Output::RollBack(to) => {
                    assert!(*to >= self.handed_out, "nothing confirmed is undone");
                    assert!(!self.tentative.split_off(&to.next()).is_empty(), "there is something to undo");
                }
                Output::Execute(execution) => {
                    assert!(self.tentative.is_empty(), "what is tentative is confirmed or undone first");
                    assert!(!self.installing, "nothing is executed while the state is replaced");
                    assert_eq!(execution.sequence, self.handed_out.next(), "in order, without a gap, once");
                    let decided = self.is_decided(execution.sequence, execution.batch.digest);
                    assert!(decided, "{} is executed without a decision", execution.sequence);
                    self.handed_out = execution.sequence;
                }
                Output::InstallState { sequence, .. } => {
                    assert!(!self.installing && *sequence > self.handed_out, "a state that is of use, one at a time");
                    assert!(self.tentative.is_empty(), "a state takes the place of what is decided");
                    self.installing = true;
                }
                Output::Recall(table) => assert!(!table.is_empty(), "there is something to recall"),
                _ => {}
            }
        }
        let before = self.position;
        assert!(position.view >= before.view, "from view {} to {}", before.view, position.view);
        assert!(position.committed >= before.committed && position.executed >= before.executed, "{position:?}");
        assert!(position.stable_checkpoint >= before.stable_checkpoint, "{position:?}");
        // A replica may take part before it has a state: then it knows of more that is decided than it can execute. And
        // a fetched state may be ahead of what it knows to be decided.
        assert!(position.stable_checkpoint <= position.committed, "{position:?}");
        let reached = self.handed_out.max(position.stable_checkpoint);
        assert!(position.executed <= reached, "{position:?}, handed out up to {}", self.handed_out);
        self.position = position;
    }

    fn record(&mut self, record: &Record) {
        let zero = SequenceNumber(0);
        let recorded = match record {
            // The pre-prepare of a primary and the prepare of a backup rest on the same record.
            Record::PrePrepared(PrePrepare { view, sequence, batch }) => {
                (Said::PrePrepare, *view, *sequence, batch.digest)
            }
            Record::Prepared(vote) => (Said::Commit, vote.view, vote.sequence, vote.digest),
            Record::ViewChange(change) => {
                assert_eq!(change.replica, self.own);
                (Said::ViewChange, change.view, zero, change.digest())
            }
            Record::NewView(signed, changes) => {
                assert_eq!(signed.content.view_changes.len(), changes.len(), "what is named is recorded with it");
                (Said::NewView, signed.content.view, zero, signed.content.digest())
            }
            Record::Committed(sequence, digest) => {
                self.decided.insert((*sequence, *digest));
                return;
            }
            Record::Stable(_) | Record::Suspected(_) => return,
        };
        self.recorded.insert(recorded);
    }

    fn message(&mut self, message: &Message) {
        let (own, zero) = (self.own, SequenceNumber(0));
        match message {
            Message::PrePrepare(said) => {
                assert_eq!(said.view.primary(usize::from(N)), own, "only the primary proposes");
                let vote = Vote { view: said.view, sequence: said.sequence, digest: said.batch.digest };
                self.vote(Said::PrePrepare, Said::PrePrepare, vote);
            }
            Message::DigestPrePrepare(said) => {
                assert_eq!(said.view.primary(usize::from(N)), own, "only the primary proposes");
                let vote = Vote { view: said.view, sequence: said.sequence, digest: said.manifest.digest() };
                self.vote(Said::PrePrepare, Said::PrePrepare, vote);
            }
            Message::Prepare(vote) => {
                assert_ne!(vote.view.primary(usize::from(N)), own, "the primary does not prepare");
                self.vote(Said::Prepare, Said::PrePrepare, *vote);
            }
            Message::Commit(vote) => {
                let decided = self.decided.contains(&(vote.sequence, vote.digest));
                assert!(decided || self.is_prepared(vote), "a commit of what is not prepared: {vote:?}");
                self.vote(Said::Commit, Said::Commit, *vote);
            }
            Message::ViewChange(signed) if signed.content.replica == own => {
                let (view, digest) = (signed.content.view, signed.content.digest());
                self.same(Said::ViewChange, Said::ViewChange, view, zero, digest);
                self.left_for = self.left_for.max(view);
            }
            Message::NewView(signed) if signed.content.view.primary(usize::from(N)) == own => {
                let (view, digest) = (signed.content.view, signed.content.digest());
                self.same(Said::NewView, Said::NewView, view, zero, digest);
            }
            Message::Status(status) => assert!(status.slots.len() <= STATUS_SLOTS_MAX),
            _ => {}
        }
    }

    fn vote(&mut self, said: Said, rests_on: Said, vote: Vote) {
        assert!(vote.view >= self.left_for, "{said:?} of view {}, which was left for {}", vote.view, self.left_for);
        self.same(said, rests_on, vote.view, vote.sequence, vote.digest);
    }

    /// Says one thing at one place, after it was recorded.
    fn same(&mut self, said: Said, rests_on: Said, view: View, sequence: SequenceNumber, digest: Digest) {
        let recorded =
            self.recorded.contains(&(rests_on, view, sequence, digest)) || self.decided.contains(&(sequence, digest));
        assert!(recorded, "{said:?} in view {view} at {sequence} without a record");
        let before = *self.said.entry((said, view, sequence)).or_insert(digest);
        assert_eq!(before, digest, "two {said:?}s in view {view} at {sequence}");
    }
}
