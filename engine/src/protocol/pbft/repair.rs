//! Repair of loss by status exchange (Castro & Liskov, TOCS'02, section 5.2): every replica tells where it stands, and
//! whoever can fill a gap sends exactly what is missing. Nothing here relies on the transport to deliver anything.

use std::collections::VecDeque;
use std::sync::Arc;

use super::log::Place;
use super::{Pbft, Turn};
use crate::limits::{ANSWER_BYTES_MAX, ANSWER_SLOTS_MAX, BODIES_BYTES_MAX, STATUS_SLOTS_MAX};
use crate::protocol::message::{Body, PrePrepare, SlotStatus, Status, Vote};
use crate::protocol::sets::set_of;
use crate::protocol::{Ignored, Message, Output, Timer};
use crate::requests::Batch;
use crate::types::{Digest, ReplicaId, SequenceNumber, Time};

/// A peer this far behind is not just waiting for messages on their way.
const FAR_BEHIND: u64 = STATUS_SLOTS_MAX as u64;
/// With nothing to tell, a status goes out every so many intervals, so that an idle laggard learns that it is one.
const IDLE_INTERVALS: u32 = 8;
/// After repairs, the next status goes out this part of an interval later.
const SOON_FRACTION: u64 = 8;
/// Answers to one peer are at least this part of an interval apart, whatever it sends.
const ANSWER_FRACTION: u64 = 16;
/// From this many successive statuses without progress on, a peer is sent votes along with claims.
const VOTES_AFTER: u32 = 3;

/// What this replica knows of the others' positions, and its own side of the exchange.
#[derive(Debug)]
pub(super) struct Repair {
    peers: Vec<Peer>,
    /// When the status timer expires.
    due: Time,
    /// The stable checkpoint and the committed sequence number that the last status told.
    told: (SequenceNumber, SequenceNumber),
    /// Intervals since then.
    silent: u32,
    /// Bodies whose decision is not known yet, oldest first.
    bodies: VecDeque<(ReplicaId, Body)>,
}

/// Another replica, as its status messages show it.
#[derive(Clone, Debug, Default)]
struct Peer {
    stable: SequenceNumber,
    committed: SequenceNumber,
    /// For how many successive statuses `stable` has been the same.
    stable_for: u32,
    /// For how many successive statuses `committed` has been the same.
    committed_for: u32,
    /// Statuses received: the round of the rotation of body senders.
    round: u64,
    answered: Option<Time>,
}

impl Peer {
    fn note(&mut self, status: &Status) {
        self.committed_for =
            if self.round > 0 && self.committed == status.committed { self.committed_for.saturating_add(1) } else { 0 };
        self.stable_for =
            if self.round > 0 && self.stable == status.stable { self.stable_for.saturating_add(1) } else { 0 };
        self.stable = status.stable;
        self.committed = status.committed;
        self.round += 1;
    }
}

impl Repair {
    /// Nothing known yet of `n` replicas; the first status is due at `due`.
    pub(super) fn new(n: usize, due: Time) -> Self {
        Self {
            peers: vec![Peer::default(); n],
            due,
            told: (SequenceNumber(0), SequenceNumber(0)),
            silent: 0,
            bodies: VecDeque::new(),
        }
    }

    /// The highest sequence number that at least `count` replicas told to have committed; 0 if there is none.
    pub(super) fn committed_by(&self, count: usize) -> SequenceNumber {
        let mut told: Vec<SequenceNumber> = self.peers.iter().map(|peer| peer.committed).collect();
        told.sort_unstable_by(|one, other| other.cmp(one));
        told.get(count.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// The highest sequence number that at least `count` replicas told to be covered by their stable checkpoints; 0 if
    /// there is none.
    pub(super) fn stable_by(&self, count: usize) -> SequenceNumber {
        let mut told: Vec<SequenceNumber> = self.peers.iter().map(|peer| peer.stable).collect();
        told.sort_unstable_by(|one, other| other.cmp(one));
        told.get(count.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// Takes the body with `digest` for `sequence` if one was kept; the others for it are of no use.
    pub(super) fn take_body(&mut self, sequence: SequenceNumber, digest: Digest) -> Option<Arc<Batch>> {
        let found = self.bodies.iter().find(|(_, body)| body.sequence == sequence && body.batch.digest == digest);
        let batch = Arc::clone(&found?.1.batch);
        self.bodies.retain(|(_, body)| body.sequence != sequence);
        Some(batch)
    }

    /// Keeps a body until its decision is known: one for each sender and sequence number, bounded in bytes for each
    /// sender.
    fn keep_body(&mut self, sender: ReplicaId, body: &Body, committed: SequenceNumber) -> Result<(), Ignored> {
        self.bodies.retain(|(_, kept)| kept.sequence > committed);
        let of_sender = || self.bodies.iter().filter(|(from, _)| *from == sender).map(|(_, kept)| kept);
        let bytes: usize = of_sender().map(|kept| kept.batch.bytes()).sum();
        let twice = of_sender().any(|kept| kept.sequence == body.sequence);
        if twice || bytes + body.batch.bytes() > BODIES_BYTES_MAX || of_sender().count() as u64 >= ANSWER_SLOTS_MAX {
            return Err(Ignored::UnwantedBody);
        }
        self.bodies.push_back((sender, body.clone()));
        Ok(())
    }
}

/// What an answer may still carry.
struct Answer {
    to: ReplicaId,
    body_bytes: usize,
}

impl Answer {
    /// Whether a batch fits. The first one always does.
    fn take(&mut self, batch: &Batch) -> bool {
        let fits = self.body_bytes == 0 || self.body_bytes + batch.bytes() <= ANSWER_BYTES_MAX;
        if fits {
            self.body_bytes += batch.bytes().max(1);
        }
        fits
    }
}

impl Pbft {
    /// Tells where this replica stands, if that can be of use to anyone.
    pub(super) fn on_status_timer(&mut self, turn: &mut Turn<'_>) {
        let interval = self.config.status_interval_ns;
        self.repair.due = turn.now.after(interval);
        turn.outputs.push(Output::SetTimer(Timer::Status, self.repair.due));
        self.check_reach(turn);

        let position = (self.log.low(), self.log.committed);
        self.repair.silent += 1;
        if self.is_waiting() || position != self.repair.told || self.repair.silent >= IDLE_INTERVALS {
            self.repair.told = position;
            self.repair.silent = 0;
            turn.broadcast(Message::Status(self.status()));
        }
    }

    /// Whether this replica waits for anything of the others.
    fn is_waiting(&self) -> bool {
        let outstanding = self.log.highest() > self.log.committed || !self.early.is_empty();
        let unstable = self.checkpoints.newest_own() > self.log.low();
        let behind = self.repair.peers.iter().any(|peer| peer.committed > self.log.committed);
        outstanding || unstable || behind || !self.views.active || self.suspects_view()
    }

    /// Where this replica stands.
    pub(super) fn status(&self) -> Status {
        let (low, committed) = (self.log.low(), self.log.committed);
        let last = self.log.highest().0.min(committed.0.saturating_add(STATUS_SLOTS_MAX as u64));
        let slots = (committed.0 + 1..=last).map(|sequence| self.log.slot(SequenceNumber(sequence)).status()).collect();
        Status {
            view: self.view,
            active: self.views.active,
            suspects: self.suspects_view(),
            view_changes: if self.views.active { 0 } else { self.views.known(self.view) },
            stable: low,
            committed,
            slots,
        }
    }

    /// Repairs have arrived: the rest of the gap is asked for soon, so that a laggard gains on its peers.
    pub(super) fn expect_more_repairs(&mut self, turn: &mut Turn<'_>) {
        let soon = turn.now.after(self.config.status_interval_ns / SOON_FRACTION);
        if soon < self.repair.due {
            self.repair.due = soon;
            turn.outputs.push(Output::SetTimer(Timer::Status, soon));
        }
    }

    /// Sends a peer what it lacks, unless that is probably on its way: only one that has not moved between two
    /// statuses, or is far behind, gets anything.
    pub(super) fn on_status(&mut self, sender: ReplicaId, status: &Status, turn: &mut Turn<'_>) -> Result<(), Ignored> {
        if status.suspects {
            self.on_suspicion(sender, status.view, turn);
        }
        let pause = self.config.status_interval_ns / ANSWER_FRACTION;
        self.repair.peers[usize::from(sender.0)].note(status);
        self.leave_gap(turn);
        self.follow_settled(turn);
        let mut answer = Answer { to: sender, body_bytes: 0 };
        self.send_announced(status, &mut answer, turn);
        let far = self.is_far_behind(status);
        let peer = &self.repair.peers[usize::from(sender.0)];
        let lacks_batches = far || peer.committed_for > 0;
        let lacks_checkpoints = far || peer.stable_for > 0;
        let asks_too_often = peer.answered.is_some_and(|answered| turn.now.since(answered) < pause);
        if asks_too_often {
            return Ok(());
        }
        let sent = turn.outputs.len();
        self.send_views(sender, status, turn);
        if lacks_checkpoints {
            self.send_checkpoints(sender, status, turn);
        }
        if lacks_batches || (status.view == self.view && self.lacks_assigned(status)) {
            self.send_batches(status, &mut answer, turn);
        }
        if turn.outputs.len() > sent {
            self.repair.peers[usize::from(sender.0)].answered = Some(turn.now);
        }
        Ok(())
    }

    /// A replica of an earlier view, or one that waits for this view to start, gets what lets it follow.
    fn send_views(&self, to: ReplicaId, status: &Status, turn: &mut Turn<'_>) {
        let behind = status.view < self.view;
        if behind || (status.view == self.view && !status.active) {
            let has = if behind { 0 } else { status.view_changes };
            for message in self.views.help(self.config.own, has) {
                turn.send(to, message);
            }
        }
    }

    /// The primary's pre-prepares as a whole, where the peer lacks bodies of what it has by digests: each once, so that
    /// no peer gets more than if pre-prepares always carried them.
    fn send_announced(&mut self, status: &Status, answer: &mut Answer, turn: &mut Turn<'_>) {
        if !self.sends_digests() || !self.leads() || status.view != self.view {
            return;
        }
        let to = answer.to;
        for (ahead, _) in (1..).zip(&status.slots).filter(|(_, lacks)| lacks.announced && !lacks.pre_prepared) {
            let sequence = SequenceNumber(status.committed.0.saturating_add(ahead));
            if !self.log.holds(sequence) {
                continue;
            }
            let slot = self.log.slot(sequence);
            let assigned = slot.batch.as_ref().filter(|batch| slot.pre_prepared == Some(batch.digest));
            let Some(batch) = assigned.filter(|_| slot.supplied & set_of(to) == 0) else { continue };
            if !answer.take(batch) {
                break;
            }
            let batch = Arc::clone(batch);
            let slot = self.log.slot_mut(sequence);
            slot.supplied |= set_of(to);
            slot.supplied_at = turn.now;
            turn.send(to, Message::PrePrepare(PrePrepare { view: self.view, sequence, batch }));
        }
    }

    /// Whether a peer was sent this batch as a whole so lately, because it asked for it, that it has hardly got lost.
    fn is_on_its_way(&self, sequence: SequenceNumber, to: ReplicaId, now: Time) -> bool {
        self.log.holds(sequence) && {
            let slot = self.log.slot(sequence);
            slot.supplied & set_of(to) != 0 && now.since(slot.supplied_at) < self.config.status_interval_ns
        }
    }

    /// Whether the peer waits for the body of something that the new view assigned: it has no other way to get it.
    fn lacks_assigned(&self, status: &Status) -> bool {
        (1..).zip(&status.slots).any(|(ahead, lacks)| {
            let sequence = SequenceNumber(status.committed.0.saturating_add(ahead));
            let here = self.log.place(sequence) == Place::Window && self.log.slot(sequence).reproposed;
            here && !lacks.pre_prepared && !lacks.committed
        })
    }

    fn is_far_behind(&self, status: &Status) -> bool {
        status.committed.0.saturating_add(FAR_BEHIND.min(self.log.window() / 2)) < self.log.committed.0
    }

    /// Own checkpoints above the peer's stable one: those that it can reach, and in any case the newest stable one and
    /// the one that it waits for to fetch its state.
    fn send_checkpoints(&self, to: ReplicaId, status: &Status, turn: &mut Turn<'_>) {
        let low = self.log.low();
        let reach = status.stable.0.saturating_add(self.log.window());
        let lacking = self.checkpoints.own_above(status.stable).take(STATUS_SLOTS_MAX);
        for own in lacking.filter(|own| own.sequence.0 <= reach) {
            turn.send(to, Message::Checkpoint(own));
        }
        let wished = self.transfer.wishes.of(to);
        let beyond = self.checkpoints.own_above(SequenceNumber(reach));
        for own in beyond.filter(|own| own.sequence == low || own.sequence == wished) {
            turn.send(to, Message::Checkpoint(own));
        }
    }

    fn send_batches(&self, status: &Status, answer: &mut Answer, turn: &mut Turn<'_>) {
        let first = status.committed.0.saturating_add(1);
        // Whoever is far behind gets more at a time than it can describe, or its peers would outrun it.
        let most = if self.is_far_behind(status) { ANSWER_SLOTS_MAX } else { STATUS_SLOTS_MAX as u64 };
        let last = self
            .log
            .highest()
            .0
            .min(status.committed.0.saturating_add(most))
            .min(status.stable.0.saturating_add(self.log.window()));
        let votes = status.view == self.view && self.views.active;
        for (sequence, index) in (first..=last).zip(0..) {
            let lacks = status.slots.get(index).copied().unwrap_or_default();
            if lacks.committed {
                continue; // it waits for a gap before this one
            }
            let sequence = SequenceNumber(sequence);
            if sequence <= self.log.committed {
                self.send_decided(sequence, lacks, votes, answer, turn);
            } else if votes && self.log.place(sequence) == Place::Window {
                self.send_undecided(sequence, lacks, answer, turn);
            }
        }
    }

    /// For a batch that is committed here: the claim, and the body if it is this replica's turn. `votes`: whether those
    /// of this view are of use to the peer.
    fn send_decided(
        &self,
        sequence: SequenceNumber,
        lacks: SlotStatus,
        votes: bool,
        answer: &mut Answer,
        turn: &mut Turn<'_>,
    ) {
        let Some(batch) = self.log.decided_batch(sequence) else { return };
        let (view, digest) = (self.view, batch.digest);
        turn.send(answer.to, Message::Committed(Vote { view, sequence, digest }));
        // A peer that has a body in spite of its status keeps one; it may be another than the decided one, so the body
        // is sent again after a while.
        let stuck = self.repair.peers[usize::from(answer.to.0)].committed_for >= VOTES_AFTER;
        let lacks_body = (!lacks.pre_prepared || stuck) && !self.is_on_its_way(sequence, answer.to, turn.now);
        if lacks_body && self.sends_body(answer.to, sequence) && answer.take(batch) {
            turn.send(answer.to, Message::Body(Body { sequence, batch: Arc::clone(batch) }));
        }
        // Where fewer than f + 1 correct replicas have committed, claims alone do not help.
        if stuck && votes && self.log.place(sequence) == Place::Window {
            self.send_votes(sequence, lacks, answer.to, turn);
        }
    }

    /// For a batch that is not committed here either: what this replica itself has said of it.
    fn send_undecided(&self, sequence: SequenceNumber, lacks: SlotStatus, answer: &mut Answer, turn: &mut Turn<'_>) {
        let slot = self.log.slot(sequence);
        let assigned = slot.batch.as_ref().filter(|batch| slot.pre_prepared == Some(batch.digest));
        let is_lacking = !lacks.pre_prepared && !self.is_on_its_way(sequence, answer.to, turn.now);
        if let Some(batch) = assigned.filter(|_| is_lacking) {
            let leads = self.leads();
            let brings = (slot.reproposed || lacks.announced) && self.sends_body(answer.to, sequence);
            if (leads || brings) && answer.take(batch) {
                let batch = Arc::clone(batch);
                let assignment = |batch| Message::PrePrepare(PrePrepare { view: self.view, sequence, batch });
                turn.send(answer.to, if leads { assignment(batch) } else { Message::Body(Body { sequence, batch }) });
            }
        }
        self.send_votes(sequence, lacks, answer.to, turn);
    }

    /// The own votes that the peer has not got.
    fn send_votes(&self, sequence: SequenceNumber, lacks: SlotStatus, to: ReplicaId, turn: &mut Turn<'_>) {
        let (view, own) = (self.view, self.config.own);
        let slot = self.log.slot(sequence);
        if let Some(digest) = slot.prepares.of(own)
            && !lacks.prepared
            && lacks.prepares & set_of(own) == 0
        {
            turn.send(to, Message::Prepare(Vote { view, sequence, digest }));
        }
        if let Some(digest) = slot.commits.of(own)
            && lacks.commits & set_of(own) == 0
        {
            turn.send(to, Message::Commit(Vote { view, sequence, digest }));
        }
    }

    /// Whether the body of `sequence` is this replica's to send in this round: one replica at a time, another one in
    /// the next round.
    fn sends_body(&self, to: ReplicaId, sequence: SequenceNumber) -> bool {
        let n = self.config.quorums.n() as u64;
        let round = self.repair.peers[usize::from(to.0)].round;
        let turn = sequence.0.wrapping_add(round) % (n - 1);
        (u64::from(to.0) + 1 + turn) % n == u64::from(self.config.own.0)
    }

    /// A claim that a batch is committed-local at the sender, in whatever view.
    pub(super) fn on_committed(&mut self, sender: ReplicaId, vote: Vote, turn: &mut Turn<'_>) -> Result<(), Ignored> {
        self.check_missing(vote.sequence)?;
        self.log.slot_mut(vote.sequence).claims.record(sender, vote.digest, None)?;
        self.progress(vote.sequence, turn);
        Ok(())
    }

    /// A body that this replica may miss. Its digest was recomputed; it counts only if that is the decided one.
    pub(super) fn on_body(&mut self, sender: ReplicaId, body: &Body, turn: &mut Turn<'_>) -> Result<(), Ignored> {
        self.check_missing(body.sequence)?;
        let (sequence, digest) = (body.sequence, body.batch.digest);
        let slot = self.log.slot(sequence);
        if slot.reproposed && slot.pre_prepared == Some(digest) && slot.phase == super::transitions::Phase::Idle {
            self.take_assigned_body(sequence, Arc::clone(&body.batch), turn);
            self.progress(sequence, turn);
            return Ok(());
        }
        if self.lacks_announced(sequence, digest) {
            self.take_brought(sequence, &body.batch, turn);
            self.progress(sequence, turn);
            return Ok(());
        }
        // Whoever sends a body claims it to be the decided one, and its claim comes first.
        let vouched = slot.claims.of(sender) == Some(digest) || slot.decided(self.config.quorums) == Some(digest);
        if !vouched || slot.has_body(digest) {
            return Err(Ignored::UnwantedBody);
        }
        self.repair.keep_body(sender, body, self.log.committed)?;
        self.progress(sequence, turn);
        Ok(())
    }

    /// Refuses what concerns a sequence number outside the window or one that is committed already.
    fn check_missing(&self, sequence: SequenceNumber) -> Result<(), Ignored> {
        match self.log.place(sequence) {
            Place::Below => Err(Ignored::BelowLowWatermark),
            Place::Early | Place::Above => Err(Ignored::AboveHighWatermark),
            Place::Window if self.log.slot(sequence).phase >= super::transitions::Phase::CommittedLocal => {
                Err(Ignored::AlreadyCommitted)
            }
            Place::Window => Ok(()),
        }
    }
}
