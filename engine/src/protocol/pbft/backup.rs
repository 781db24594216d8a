//! The three phases as every replica sees them, the primary included (Castro & Liskov, OSDI'99, section 4.2).

use std::sync::Arc;

use super::log::Place;
use super::slot::Slot;
use super::transitions::{Event, Phase};
use super::votes::Votes;
use super::{Pbft, Turn};
use crate::protocol::message::{PrePrepare, Signature, Vote};
use crate::protocol::{Authentic, Execution, Ignored, Message, Output};
use crate::types::{ReplicaId, SequenceNumber, View};

impl Pbft {
    /// A message of one of the three phases: the guards that they share, then the handler.
    pub(super) fn on_phase_message(&mut self, authentic: Authentic, turn: &mut Turn<'_>) -> Result<(), Ignored> {
        let Authentic { sender, message, signature, requests } = &authentic;
        let (view, sequence) = match message {
            Message::PrePrepare(message) => (message.view, message.sequence),
            Message::Prepare(vote) | Message::Commit(vote) => (vote.view, vote.sequence),
            _ => unreachable!("step passes on pre-prepares, prepares and commits only"),
        };
        self.check_view(view)?;
        let from_primary = *sender == self.primary();
        match message {
            Message::PrePrepare(_) if !from_primary => return Err(Ignored::NotFromPrimary),
            Message::Prepare(_) if from_primary => return Err(Ignored::PrepareFromPrimary),
            _ => {}
        }
        match self.log.place(sequence) {
            Place::Window => {}
            Place::Below => return Err(Ignored::BelowLowWatermark),
            Place::Above => return Err(Ignored::AboveHighWatermark),
            Place::Early => return self.early.keep(sequence, authentic),
        }
        match message {
            Message::PrePrepare(message) => self.on_pre_prepare(message, requests.is_proven(), turn),
            Message::Prepare(vote) => self.on_vote(|slot| &mut slot.prepares, *sender, *vote, *signature, turn),
            Message::Commit(vote) => self.on_vote(|slot| &mut slot.commits, *sender, *vote, *signature, turn),
            _ => Ok(()),
        }
    }

    fn on_pre_prepare(&mut self, message: &PrePrepare, authentic: bool, turn: &mut Turn<'_>) -> Result<(), Ignored> {
        let PrePrepare { sequence, ref batch, .. } = *message;
        let slot = self.log.slot_mut(sequence);
        if let Some(digest) = slot.pre_prepared {
            if digest != batch.digest {
                return Err(Ignored::ConflictingPrePrepare);
            }
            if slot.phase != Phase::Held || !authentic {
                return Err(Ignored::DuplicatePrePrepare);
            }
        } else if slot.phase >= Phase::CommittedLocal {
            return Err(Ignored::AlreadyCommitted);
        } else {
            slot.pre_prepared = Some(batch.digest);
            slot.batch = Some(Arc::clone(batch));
            slot.stamps.received = turn.now;
            if !authentic {
                slot.enter(Event::Hold, turn.now);
            }
        }
        if authentic {
            self.accept(sequence, turn);
        }
        self.progress(sequence, turn);
        Ok(())
    }

    /// A prepare or a commit, recorded in the votes of its phase.
    fn on_vote(
        &mut self,
        votes: fn(&mut Slot) -> &mut Votes,
        sender: ReplicaId,
        vote: Vote,
        signature: Option<Signature>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Ignored> {
        votes(self.log.slot_mut(vote.sequence)).record(sender, vote.digest, signature)?;
        self.progress(vote.sequence, turn);
        Ok(())
    }

    /// Agrees to the pre-prepare of `sequence` with a prepare.
    fn accept(&mut self, sequence: SequenceNumber, turn: &mut Turn<'_>) {
        let (view, own) = (self.view, self.config.own);
        let slot = self.log.slot_mut(sequence);
        let digest = slot.pre_prepared.expect("accept is called with a pre-prepare");
        slot.enter(Event::Accept, turn.now);
        slot.prepares.record(own, digest, None).expect("a replica prepares a slot once");
        turn.broadcast(Message::Prepare(Vote { view, sequence, digest }));
    }

    /// Takes every step that the votes on `sequence` allow by now. Called after anything was recorded there, so the
    /// order in which messages arrive does not matter.
    pub(super) fn progress(&mut self, sequence: SequenceNumber, turn: &mut Turn<'_>) {
        let quorums = self.config.quorums;
        if self.log.slot(sequence).phase >= Phase::CommittedLocal {
            return;
        }
        if self.is_vouched(self.log.slot(sequence)) {
            self.accept(sequence, turn);
        }
        let (view, own) = (self.view, self.config.own);
        let slot = self.log.slot_mut(sequence);
        if let (Phase::PrePrepared, Some(digest)) = (slot.phase, slot.pre_prepared)
            // The pre-prepare stands for the primary: with it, Q replicas agree. The own prepare is among them at a
            // backup.
            && slot.prepares.count(digest) >= quorums.quorum() - 1
        {
            slot.enter(Event::Prepare, turn.now);
            // Only this replica itself commits in its name, and only here or after the decision.
            slot.commits.record(own, digest, None).expect("a replica commits a slot once");
            turn.broadcast(Message::Commit(Vote { view, sequence, digest }));
        }
        self.decide(sequence, turn);
    }

    /// Whether a held pre-prepare may be accepted although some requests do not prove themselves here.
    ///
    /// f + 1 replicas must vouch for the digest: the primary by its pre-prepare, and f backups by their prepares. One
    /// of these is correct. The first correct one among all who vouch can not have relied on f + 1 others, so it has
    /// verified every client's authenticator itself (a correct primary admits nothing else): no request is made up. A
    /// faulty client can therefore not split the correct replicas by authenticators that hold for some of them only
    /// (the "big MAC" attack, Aardvark, NSDI'09).
    ///
    /// Authenticators that hold at the primary and at fewer than f correct backups still stop the slot until a view
    /// change: whoever must withstand that has clients sign their requests.
    fn is_vouched(&self, slot: &Slot) -> bool {
        let vouchers = |digest| 1 + slot.prepares.count(digest);
        slot.phase == Phase::Held
            && slot.pre_prepared.is_some_and(|digest| vouchers(digest) >= self.config.quorums.weak())
    }

    /// Commits `sequence` if its decision and the decided body are known.
    fn decide(&mut self, sequence: SequenceNumber, turn: &mut Turn<'_>) {
        let Some(digest) = self.log.slot(sequence).decided(self.config.quorums) else { return };
        if !self.log.slot(sequence).has_body(digest) {
            let Some(body) = self.repair.take_body(sequence, digest) else { return };
            self.log.slot_mut(sequence).batch = Some(body);
        }
        let own = self.config.own;
        let backup = !self.is_primary();
        let slot = self.log.slot_mut(sequence);
        let by_claims = slot.claims.count(digest) > 0;
        slot.enter(Event::Decide, turn.now);
        // Votes that were not cast on the way are cast now, silently: only a replica that stays behind is ever sent
        // them (see `repair`). They bind nothing new, since the decision stands: Q − f correct replicas have prepared
        // it. A vote that was cast stays as it is, whatever it was for.
        if backup {
            let _ = slot.prepares.record(own, digest, None);
        }
        let _ = slot.commits.record(own, digest, None);
        if by_claims {
            self.expect_more_repairs(turn);
        }
        self.hand_out(turn);
    }

    /// Hands committed batches to the executor, in order and without a gap.
    pub(super) fn hand_out(&mut self, turn: &mut Turn<'_>) {
        // The executor is given nothing while it replaces its state.
        while self.log.committed < self.log.high() && !self.transfer.is_installing() {
            let sequence = self.log.committed.next();
            if self.log.slot(sequence).phase != Phase::CommittedLocal {
                return;
            }
            let slot = self.log.slot_mut(sequence);
            slot.enter(Event::HandOut, turn.now);
            let batch = Arc::clone(slot.batch.as_ref().expect("a committed slot has its batch"));
            let stamps = slot.stamps;
            self.log.committed = sequence;
            turn.outputs.push(Output::Execute(Execution { sequence, view: self.view, batch, stamps }));
        }
    }

    /// The executor is done with the batch at `sequence`.
    pub(super) fn on_executed(&mut self, sequence: SequenceNumber, turn: &mut Turn<'_>) -> Result<(), Ignored> {
        if sequence != self.log.executed.next() || sequence > self.log.committed {
            return Err(Ignored::UnexpectedExecution);
        }
        self.log.slot_mut(sequence).enter(Event::Execute, turn.now);
        self.log.executed = sequence;
        self.stabilise(sequence, turn);
        self.propose(turn);
        Ok(())
    }

    /// Refuses messages of other views.
    pub(super) fn check_view(&self, view: View) -> Result<(), Ignored> {
        match view.cmp(&self.view) {
            std::cmp::Ordering::Less => Err(Ignored::OldView),
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(Ignored::FutureView),
        }
    }
}
