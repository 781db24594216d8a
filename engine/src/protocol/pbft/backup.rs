//! The three phases as every replica sees them, the primary included (Castro & Liskov, OSDI'99, section 4.2).

use std::sync::Arc;

use super::distrust::principal_of;
use super::log::Place;
use super::slot::Slot;
use super::transitions::{Event, Phase};
use super::votes::Votes;
use super::{Pbft, Turn};
use crate::protocol::message::{PrePrepare, Signature, Verdict, Vote};
use crate::protocol::planted::Planted;
use crate::protocol::{Authentic, Execution, Ignored, Message, Output, Record};
use crate::requests::Batch;
use crate::types::{ReplicaId, SequenceNumber};

impl Pbft {
    /// A message of one of the three phases: the guards that they share, then the handler.
    pub(super) fn on_phase_message(&mut self, authentic: Authentic, turn: &mut Turn<'_>) -> Result<(), Ignored> {
        let Authentic { sender, message, signature, requests } = &authentic;
        let (view, sequence) = match message {
            Message::PrePrepare(message) => (message.view, message.sequence),
            Message::DigestPrePrepare(message) => (message.view, message.sequence),
            Message::Prepare(vote) | Message::Commit(vote) => (vote.view, vote.sequence),
            _ => unreachable!("step passes on pre-prepares, prepares and commits only"),
        };
        if view < self.view {
            return Err(Ignored::OldView);
        }
        let from_primary = *sender == self.config.quorums.primary(view);
        match message {
            Message::PrePrepare(_) | Message::DigestPrePrepare(_) if !from_primary => {
                return Err(Ignored::NotFromPrimary);
            }
            Message::Prepare(_) if from_primary && !self.config.has(Planted::PrimaryPrepares) => {
                return Err(Ignored::PrepareFromPrimary);
            }
            _ => {}
        }
        // What a view that has not started here yet says is as early as what lies above the high watermark.
        let started = view == self.view && self.views.active;
        match self.log.place(sequence) {
            Place::Window if started && sequence > self.views.floor => {}
            Place::Below => return Err(Ignored::BelowLowWatermark),
            Place::Window if started => return Err(Ignored::BelowLowWatermark),
            Place::Early | Place::Above if started && self.config.has(Planted::WatermarkUnchecked) => {}
            Place::Above => return Err(Ignored::AboveHighWatermark),
            Place::Window | Place::Early => {
                let gone = self.early.keep(sequence, authentic)?;
                turn.outputs.extend((0..gone).map(|_| Output::Ignored(Ignored::AboveHighWatermark)));
                return Ok(());
            }
        }
        match message {
            Message::PrePrepare(message) => self.on_pre_prepare(message, requests, turn),
            Message::DigestPrePrepare(message) => self.on_digest_pre_prepare(message, turn),
            Message::Prepare(vote) => self.on_vote(|slot| &mut slot.prepares, *sender, *vote, *signature, turn),
            Message::Commit(vote) => self.on_vote(|slot| &mut slot.commits, *sender, *vote, *signature, turn),
            _ => Ok(()),
        }
    }

    fn on_pre_prepare(&mut self, message: &PrePrepare, verdict: &Verdict, turn: &mut Turn<'_>) -> Result<(), Ignored> {
        let PrePrepare { sequence, ref batch, .. } = *message;
        let authentic = verdict.is_proven();
        if verdict.invalid {
            // Every correct replica sees that, so it is never prepared: whoever proposes it is faulty.
            self.suspect(turn);
            return Err(Ignored::InvalidOperation);
        }
        let slot = self.log.slot_mut(sequence);
        if let Some(digest) = slot.pre_prepared {
            if digest != batch.digest {
                // Two batches for one sequence number, or another one than the new view assigns.
                self.suspect(turn);
                return Err(Ignored::ConflictingPrePrepare);
            }
            if slot.reproposed && slot.phase == Phase::Idle {
                self.take_assigned_body(sequence, Arc::clone(batch), turn);
                self.progress(sequence, turn);
                return Ok(());
            }
            if slot.is_announced() {
                self.take_shown(sequence, batch, verdict, turn);
                self.progress(sequence, turn);
                return Ok(());
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
                slot.hold(batch, verdict, turn.now);
            }
            self.suspicion.note_proposed(sequence, self.log.committed, turn.now);
            if !authentic {
                self.pair_unproven(sequence, batch, turn);
            }
        }
        if authentic {
            self.accept(sequence, turn);
        }
        self.progress(sequence, turn);
        self.arm_view_timer(turn);
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
        let votes = votes(self.log.slot_mut(vote.sequence));
        if self.config.has(Planted::VoteCountedTwice) && votes.of(sender) == Some(vote.digest) {
            votes.count_again(vote.digest);
        }
        votes.record(sender, vote.digest, signature)?;
        self.progress(vote.sequence, turn);
        Ok(())
    }

    /// Agrees to the assignment of `sequence`, whose body is here: a backup with a prepare. The primary's pre-prepare,
    /// or its new view, has said so already.
    pub(super) fn accept(&mut self, sequence: SequenceNumber, turn: &mut Turn<'_>) {
        let (view, own) = (self.view, self.config.own);
        let (is_primary, votes, durable) = (self.is_primary(), self.config.voting, self.config.durable);
        let slot = self.log.slot_mut(sequence);
        let digest = slot.pre_prepared.expect("accept is called with a pre-prepare");
        slot.unproven.clear();
        slot.enter(Event::Accept, turn.now);
        self.announced.settle(sequence);
        if !votes {
            return;
        }
        let slot = self.log.slot_mut(sequence);
        if durable {
            let batch = Arc::clone(slot.batch.as_ref().expect("accept is called with a body"));
            turn.outputs.push(Output::Persist(Record::PrePrepared(PrePrepare { view, sequence, batch })));
        }
        if is_primary {
            return;
        }
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
        let (votes, durable) = (self.config.voting, self.config.durable);
        let needed = if self.config.has(Planted::CommitUnprepared) { 0 } else { quorums.quorum() - 1 };
        let slot = self.log.slot_mut(sequence);
        if let (Phase::PrePrepared, Some(digest)) = (slot.phase, slot.pre_prepared)
            // The pre-prepare stands for the primary: with it, Q replicas agree. The own prepare is among them at a
            // backup.
            && slot.prepares.count(digest) >= needed
        {
            slot.enter(Event::Prepare, turn.now);
            // Only this replica itself commits in its name, and only here or after the decision. If it did so after a
            // decision whose body did not outlive a restart, that vote stands.
            if votes && slot.commits.record(own, digest, None).is_ok() {
                let vote = Vote { view, sequence, digest };
                if durable {
                    turn.outputs.push(Output::Persist(Record::Prepared(vote)));
                }
                turn.broadcast(Message::Commit(vote));
            }
        }
        self.decide(sequence, turn);
        self.hand_out_prepared(turn);
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
            let kept = || self.log.slot(sequence).past.body(digest).cloned();
            let null = || Some(Batch::null()).filter(|null| null.digest == digest);
            let Some(body) = self.repair.take_body(sequence, digest).or_else(kept).or_else(null) else { return };
            // What others have decided in a later view; what was prepared here, in its place, is not to be.
            self.roll_back(SequenceNumber(sequence.0 - 1), turn);
            self.log.slot_mut(sequence).batch = Some(body);
        }
        let (own, view) = (self.config.own, self.view);
        let votes_silently = self.config.voting && self.views.active && sequence > self.views.floor;
        let backup = !self.is_primary();
        let slot = self.log.slot_mut(sequence);
        let by_claims = slot.claims.count(digest) > 0;
        slot.enter(Event::Decide, turn.now);
        self.announced.settle(sequence);
        let slot = self.log.slot_mut(sequence);
        // Votes that were not cast on the way are cast now, silently: only a replica that stays behind is ever sent
        // them (see `repair`). They bind nothing new, since the decision stands: Q − f correct replicas have prepared
        // it. A vote that was cast stays as it is, whatever it was for.
        let mut records = Vec::new();
        if votes_silently {
            let vote = Vote { view, sequence, digest };
            if backup && slot.prepares.record(own, digest, None).is_ok() {
                let batch = Arc::clone(slot.batch.as_ref().expect("a decided slot has its batch"));
                records.push(Record::PrePrepared(PrePrepare { view, sequence, batch }));
            }
            if slot.commits.record(own, digest, None).is_ok() {
                records.push(Record::Prepared(vote));
            }
        }
        if self.config.durable {
            records.push(Record::Committed(sequence, digest));
            turn.outputs.extend(records.into_iter().map(Output::Persist));
        }
        if by_claims {
            self.expect_more_repairs(turn);
        }
        self.hand_out(turn);
    }

    /// Hands committed batches to the executor, in order and without a gap; but for those that are in its state
    /// already, which was fetched. Those that it has tentatively are confirmed.
    pub(super) fn hand_out(&mut self, turn: &mut Turn<'_>) {
        // The executor is given nothing while it replaces its state, or has none to go on from.
        while self.log.committed < self.log.high() && !self.transfer.is_installing() && !self.log.lacks_state() {
            let sequence = self.log.committed.next();
            let slot = self.log.slot(sequence);
            if slot.phase != Phase::CommittedLocal {
                break;
            }
            let batch = Arc::clone(slot.batch.as_ref().expect("a committed slot has its batch"));
            let stamps = slot.stamps;
            let is_in_state = sequence <= self.log.executed;
            let slot = self.log.slot_mut(sequence);
            slot.enter(Event::HandOut, turn.now);
            if is_in_state {
                slot.enter(Event::Execute, turn.now);
            }
            self.log.committed = sequence;
            let principals = &self.config.principals;
            self.suspicion.note_committed(sequence, &batch, |client| principal_of(principals, client), turn.now);
            if self.sends_digests() {
                for (client, timestamp) in batch.requests.clients.iter().zip(&batch.requests.timestamps) {
                    self.bodies.note_executed(*client, *timestamp);
                }
            }
            if sequence <= self.log.tentative {
                turn.outputs.push(Output::Confirm(sequence, stamps.committed));
            } else if !is_in_state {
                let view = self.views.entered;
                turn.outputs.push(Output::Execute(Execution { sequence, view, tentative: false, batch, stamps }));
            }
            if self.suspicion.finds_too_slow() {
                self.arm_view_timer(turn);
            }
        }
        self.hand_out_prepared(turn);
    }

    /// The executor is done with the batch at `sequence`, for good.
    pub(super) fn on_executed(&mut self, sequence: SequenceNumber, turn: &mut Turn<'_>) -> Result<(), Ignored> {
        if sequence != self.log.executed.next() || sequence > self.log.committed {
            return Err(Ignored::UnexpectedExecution);
        }
        // The low watermark may have gone ahead of what was on its way to the executor.
        if self.log.holds(sequence) {
            self.log.slot_mut(sequence).enter(Event::Execute, turn.now);
        }
        self.log.executed = sequence;
        self.queue.on_executed(sequence, turn.now);
        self.stabilise(sequence, turn);
        self.propose(turn);
        Ok(())
    }
}
