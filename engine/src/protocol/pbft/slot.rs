//! One sequence number inside the window: its batch, the votes on it, and how far it has come.

use std::sync::Arc;

use super::transitions::{Event, Phase, next};
use super::votes::{Votes, size};
use crate::protocol::Stamps;
use crate::protocol::message::SlotStatus;
use crate::quorum::Quorums;
use crate::requests::Batch;
use crate::types::{Digest, Time};

/// What this replica knows of one sequence number in the current view.
///
/// With the pre-prepare's digest and the prepares it holds what a prepared certificate consists of, and the digests
/// that were pre-prepared: what a view change needs.
#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) phase: Phase,
    /// The digest of the pre-prepare that was accepted or is held. Stays when a decision for another digest is learned.
    pub(super) pre_prepared: Option<Digest>,
    /// The body: of the pre-prepare, or of the decision once it is known.
    pub(super) batch: Option<Arc<Batch>>,
    /// Prepares of backups, the own one included.
    pub(super) prepares: Votes,
    /// Commits, the own one included.
    pub(super) commits: Votes,
    /// Others' claims that the batch is committed-local there.
    pub(super) claims: Votes,
    pub(super) stamps: Stamps,
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
            Event::Hold | Event::HandOut | Event::Execute | Event::Collect => {}
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

    /// Whether the body that is here has this digest.
    pub(super) fn has_body(&self, digest: Digest) -> bool {
        self.batch.as_ref().is_some_and(|batch| batch.digest == digest)
    }

    /// What a status message tells of this slot.
    pub(super) fn status(&self) -> SlotStatus {
        SlotStatus {
            pre_prepared: self.batch.is_some(),
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
        self.prepares.clear();
        self.commits.clear();
        self.claims.clear();
        self.stamps = Stamps::default();
        self.batch.take()
    }
}
