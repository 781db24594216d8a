//! One sequence number inside the window: its batch, the votes on it, and how far it has come.

use std::sync::Arc;

use super::past::Past;
use super::transitions::{Event, Phase, next};
use super::votes::Votes;
use crate::protocol::Stamps;
use crate::protocol::message::{SlotStatus, Verdict};
use crate::protocol::sets::size;
use crate::quorum::Quorums;
use crate::requests::{Batch, Proofs};
use crate::types::{ClientId, Digest, ReplicaId, Time, View};

/// What this replica knows of one sequence number: its votes in the current view, and what a view change needs of those
/// before.
#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) phase: Phase,
    /// The digest that the primary assigned in this view, by a pre-prepare (accepted or held) or by the new view. Stays
    /// when a decision for another digest is learned.
    pub(super) pre_prepared: Option<Digest>,
    /// Whether the new view assigned it. Then nobody needs to vouch for the requests: a correct replica has before.
    pub(super) reproposed: bool,
    /// Of a held pre-prepare: the clients whose requests do not prove themselves.
    pub(super) unproven: Vec<ClientId>,
    /// Of what is held: its body is another replica's word. What proofs its requests have the primary may still show.
    pub(super) brought: bool,
    /// What was pre-prepared and prepared here in earlier views.
    pub(super) past: Past,
    /// The body: of the pre-prepare, or of the decision once it is known.
    pub(super) batch: Option<Arc<Batch>>,
    /// Prepares of backups, the own one included.
    pub(super) prepares: Votes,
    /// Commits, the own one included.
    pub(super) commits: Votes,
    /// Others' claims that the batch is committed-local there.
    pub(super) claims: Votes,
    pub(super) stamps: Stamps,
    /// To whom this view's primary, this replica, has sent the batch as a whole because bodies were missing there.
    pub(super) supplied: u64,
    /// When it did so last.
    pub(super) supplied_at: Time,
}

impl Slot {
    /// Moves to the next phase.
    ///
    /// # Panics
    /// If the table of transitions has none: guards must have refused the message before, so that is our own bug.
    pub(super) fn enter(&mut self, event: Event, now: Time) {
        let Some(next) = next(self.phase, event) else { panic!("no transition from {:?} by {event:?}", self.phase) };
        self.stamp(event, now);
        self.phase = next;
    }

    /// The primary has shown `batch`, of which some requests do not prove themselves here.
    pub(super) fn hold(&mut self, batch: &Batch, verdict: &Verdict, now: Time) {
        // A primary that was started anew has its batches without proofs: that says nothing of the clients.
        if batch.requests.proofs != Proofs::None {
            self.unproven.clone_from(&verdict.unproven);
        }
        if self.phase == Phase::Idle {
            self.enter(Event::Hold, now);
        }
    }

    /// Writes down when a phase was reached; a phase that was skipped holds the time of the next.
    const fn stamp(&mut self, event: Event, now: Time) {
        let stamps = &mut self.stamps;
        match event {
            Event::Accept => stamps.pre_prepared = now,
            Event::Prepare => stamps.prepared = now,
            Event::Decide => {
                stamps.committed = now;
                if !matches!(self.phase, Phase::Prepared) {
                    stamps.prepared = now;
                }
                if matches!(self.phase, Phase::Idle | Phase::Held) {
                    stamps.pre_prepared = now;
                }
                if matches!(self.phase, Phase::Idle) {
                    stamps.received = now;
                }
            }
            Event::Hold | Event::HandOut | Event::Execute | Event::Collect | Event::LeaveView => {}
        }
    }

    /// The digest that is decided here, as far as this replica can tell. Two sources prove a decision:
    ///
    /// - *Q matching commits*, even where the own prepares were lost. At least Q − f ≥ f + 1 of the voters are correct
    ///   and had prepared the batch, which is the paper's `committed(m, v, n)` (OSDI'99, section 4.2): every quorum of
    ///   a later view change meets one of them, so no other batch can take this position. A claim counts as a commit of
    ///   its sender: a correct replica makes it only where the decision stands already.
    /// - *f + 1 matching claims.* One of the claimants is correct, and for a correct replica committed-local means
    ///   decided.
    ///
    /// So a decision never rests on the word of faulty replicas alone. With at most f of them, two digests can not be
    /// decided.
    pub(super) fn decided(&self, quorums: Quorums) -> Option<Digest> {
        let by_commits = self
            .commits
            .candidates()
            .find(|&(digest, voters)| size(voters | self.claims.voters(digest)) >= quorums.quorum());
        let by_claims = || self.claims.candidates().find(|&(_, voters)| size(voters) >= quorums.weak());
        by_commits.or_else(by_claims).map(|(digest, _)| digest)
    }

    /// Ends `view` here: what replica `own` voted for becomes past, the votes are forgotten. A decision stays, and
    /// so do others' claims of it, which belong to no view.
    pub(super) fn leave_view(&mut self, view: View, own: ReplicaId, was_primary: bool, now: Time) {
        let by_pre_prepare = self.pre_prepared.filter(|_| was_primary);
        if let Some(digest) = self.prepares.of(own).or(by_pre_prepare) {
            self.past.note_pre_prepared(digest, view, self.batch.as_ref());
        }
        if let Some(digest) = self.commits.of(own) {
            self.past.note_prepared(digest, view, self.batch.as_ref());
        }
        self.prepares.clear();
        self.commits.clear();
        self.pre_prepared = None;
        self.reproposed = false;
        self.unproven.clear();
        self.brought = false;
        self.supplied = 0;
        if self.phase < Phase::CommittedLocal {
            if let Some(batch) = self.batch.take() {
                self.past.keep_body(&batch);
            }
            self.enter(Event::LeaveView, now);
            self.stamps = Stamps::default();
        }
    }

    /// Whether the body that is here has this digest.
    pub(super) fn has_body(&self, digest: Digest) -> bool {
        self.batch.as_ref().is_some_and(|batch| batch.digest == digest)
    }

    /// Whether the primary has shown the assignment by digests alone, and bodies are missing, or proofs of those that
    /// another replica has brought. A faulty one can bring a body before anybody else, and never vouch for it: that
    /// must not keep the primary from showing the proofs.
    pub(super) fn is_announced(&self) -> bool {
        let unshown = self.phase == Phase::Idle || (self.phase == Phase::Held && self.brought);
        unshown && self.pre_prepared.is_some() && !self.reproposed
    }

    /// What a status message tells of this slot.
    pub(super) fn status(&self) -> SlotStatus {
        SlotStatus {
            pre_prepared: self.batch.is_some() && !self.is_announced(),
            announced: self.is_announced(),
            prepared: self.phase >= Phase::Prepared,
            committed: self.phase >= Phase::CommittedLocal,
            prepares: self.prepares.all(),
            commits: self.commits.all(),
        }
    }

    /// Forgets everything, for the next sequence number that falls on this slot. Keeps the votes' memory.
    pub(super) fn clear(&mut self) -> Option<Arc<Batch>> {
        self.phase = Phase::Idle;
        self.pre_prepared = None;
        self.reproposed = false;
        self.unproven.clear();
        self.brought = false;
        self.past.clear();
        self.prepares.clear();
        self.commits.clear();
        self.claims.clear();
        self.stamps = Stamps::default();
        self.supplied = 0;
        self.batch.take()
    }
}
