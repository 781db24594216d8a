//! Checkpoints: votes on states, and the low watermark that follows them (Castro & Liskov, OSDI'99, section 4.3).

use std::collections::VecDeque;

use super::votes::Votes;
use super::{Pbft, Turn};
use crate::protocol::message::{Checkpoint, Signature};
use crate::protocol::{Ignored, Message, Output, Record, StableCheckpoint};
use crate::types::{Digest, ReplicaId, SequenceNumber};

/// The votes on checkpoints in (h, h + 2L], and what little is kept of those beyond.
#[derive(Debug)]
pub(super) struct Checkpoints {
    /// K.
    interval: u64,
    /// 2L.
    reach: u64,
    /// The votes on a multiple of K, at index (sequence / K) mod length.
    votes: Vec<Votes>,
    /// Own checkpoints, oldest first: the ones above h, and the older ones that a laggard may still need to be told of.
    own: VecDeque<Checkpoint>,
    /// The highest checkpoint that each replica told of, however far ahead. One word a replica: nobody can fill this.
    newest: Vec<SequenceNumber>,
    /// The highest checkpoint that a new view has rested on.
    settled: Option<Checkpoint>,
    /// h, if it is a fetched state of which Q replicas are not known yet to share it.
    fetched: Option<SequenceNumber>,
}

impl Checkpoints {
    /// No checkpoints of `n` replicas, taken every `interval` sequence numbers, in a window of `window`.
    pub(super) fn new(n: usize, interval: u64, window: u64) -> Self {
        let positions = 2 * window / interval + 1;
        Self {
            interval,
            reach: 2 * window,
            votes: (0..positions).map(|_| Votes::default()).collect(),
            own: VecDeque::new(),
            newest: vec![SequenceNumber(0); n],
            settled: None,
            fetched: None,
        }
    }

    /// Starts at the own stable checkpoint instead of the initial state.
    pub(super) fn start_from(&mut self, stable: Checkpoint) {
        if stable.sequence.0 > 0 {
            self.own.push_back(stable);
        }
    }

    /// The newest own checkpoint.
    pub(super) fn newest_own(&self) -> SequenceNumber {
        self.own.back().map_or(SequenceNumber(0), |own| own.sequence)
    }

    /// The own checkpoints above `sequence`, oldest first.
    pub(super) fn own_above(&self, sequence: SequenceNumber) -> impl DoubleEndedIterator<Item = Checkpoint> + '_ {
        let start = self.own.partition_point(|own| own.sequence <= sequence);
        self.own.range(start..).copied()
    }

    /// The own checkpoints from the stable one at `low` on, oldest first.
    pub(super) fn own_from(&self, low: SequenceNumber) -> impl DoubleEndedIterator<Item = Checkpoint> + '_ {
        let start = self.own.partition_point(|own| own.sequence < low);
        self.own.range(start..).copied()
    }

    /// A new view rests on this checkpoint: a weak quorum of view-changes vouches for it.
    pub(super) fn settle(&mut self, settled: Checkpoint) {
        if self.settled.is_none_or(|known| known.sequence < settled.sequence) {
            self.settled = Some(settled);
        }
    }

    /// The digest at `sequence`, if a new view has rested on it.
    pub(super) fn settled_at(&self, sequence: SequenceNumber) -> Option<Digest> {
        self.settled.filter(|settled| settled.sequence == sequence).map(|settled| settled.digest)
    }

    /// The highest checkpoint that at least `count` replicas told to have reached or passed; 0 if there is none.
    pub(super) fn reached_by(&self, count: usize) -> SequenceNumber {
        let mut newest = self.newest.clone();
        newest.sort_unstable_by(|one, other| other.cmp(one));
        let told = newest.get(count.saturating_sub(1)).copied().unwrap_or_default();
        told.max(self.settled.map_or(SequenceNumber(0), |settled| settled.sequence))
    }

    /// The votes at `sequence`, if it is one that they are counted at while the low watermark is `low`.
    pub(super) fn votes_at(&self, low: SequenceNumber, sequence: SequenceNumber) -> Option<&Votes> {
        let ahead = sequence.0.checked_sub(low.0).filter(|ahead| (1..=self.reach).contains(ahead));
        ahead.map(|_| &self.votes[self.index(sequence)])
    }

    #[allow(clippy::cast_possible_truncation, reason = "the remainder is below the length of a Vec")]
    const fn index(&self, sequence: SequenceNumber) -> usize {
        (sequence.0 / self.interval % self.votes.len() as u64) as usize
    }

    fn votes(&mut self, sequence: SequenceNumber) -> &mut Votes {
        let index = self.index(sequence);
        &mut self.votes[index]
    }

    /// Forgets the votes up to the new low watermark, and own checkpoints that lie before `oldest`.
    fn advance(&mut self, from: SequenceNumber, to: SequenceNumber, oldest: SequenceNumber) {
        self.clear_votes(from, to);
        self.fetched = None;
        // The stable one stays in any case: a view-change begins with it.
        while self.own.front().is_some_and(|own| own.sequence < oldest.min(to)) {
            self.own.pop_front();
        }
    }

    /// Forgets the votes in [from, to]; those at `from`, the low watermark, are there only if it was fetched.
    fn clear_votes(&mut self, from: SequenceNumber, to: SequenceNumber) {
        let last = to.0.min(from.0.saturating_add(self.reach));
        for sequence in (from.0..=last).step_by(usize::try_from(self.interval).unwrap_or(usize::MAX)) {
            self.votes(SequenceNumber(sequence)).clear();
        }
    }

    /// Goes on from `low` behind a fetched state at `to`, for which these votes are known.
    pub(super) fn jump(&mut self, low: SequenceNumber, to: SequenceNumber, votes: Votes) {
        self.clear_votes(low, to);
        *self.votes(to) = votes;
        self.own.clear();
        self.fetched = Some(to);
    }
}

impl Pbft {
    /// The executor has taken a checkpoint: tell the others.
    pub(super) fn on_checkpoint_taken(
        &mut self,
        sequence: SequenceNumber,
        digest: Digest,
        turn: &mut Turn<'_>,
    ) -> Result<(), Ignored> {
        if !sequence.0.is_multiple_of(self.config.checkpoint_interval) {
            return Err(Ignored::MisalignedCheckpoint);
        }
        if sequence <= self.checkpoints.newest_own() || sequence <= self.log.low() || sequence > self.log.committed {
            return Err(Ignored::UnexpectedExecution);
        }
        self.vouch(Checkpoint { sequence, digest }, turn);
        self.check_divergence(sequence, turn);
        self.stabilise(sequence, turn);
        Ok(())
    }

    /// Records an own checkpoint and tells the others of it.
    pub(super) fn vouch(&mut self, own: Checkpoint, turn: &mut Turn<'_>) {
        self.checkpoints.own.push_back(own);
        let recorded = self.checkpoints.votes(own.sequence).record(self.config.own, own.digest, None);
        recorded.expect("a replica takes each checkpoint once");
        turn.broadcast(Message::Checkpoint(own));
    }

    /// Another replica tells its state.
    pub(super) fn on_checkpoint(
        &mut self,
        sender: ReplicaId,
        message: Checkpoint,
        signature: Option<Signature>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Ignored> {
        let Checkpoint { sequence, digest } = message;
        if !sequence.0.is_multiple_of(self.config.checkpoint_interval) {
            return Err(Ignored::MisalignedCheckpoint);
        }
        let newest = &mut self.checkpoints.newest[usize::from(sender.0)];
        *newest = sequence.max(*newest);
        if sequence <= self.log.low() && self.checkpoints.fetched != Some(sequence) {
            return Err(Ignored::BelowLowWatermark);
        }
        let awaited = self.on_voucher(sender, message, signature, turn);
        if sequence.0 - self.log.low().0 > self.checkpoints.reach {
            return if awaited { Ok(()) } else { Err(Ignored::AboveHighWatermark) };
        }
        self.checkpoints.votes(sequence).record(sender, digest, signature)?;
        self.check_divergence(sequence, turn);
        self.stabilise(sequence, turn);
        Ok(())
    }

    /// Makes the checkpoint at `sequence` stable if Q replicas share this replica's own state there. Without an own
    /// matching state the low watermark stays, whatever the others vouch for.
    pub(super) fn stabilise(&mut self, sequence: SequenceNumber, turn: &mut Turn<'_>) {
        let low = self.log.low();
        let fetched = self.checkpoints.fetched == Some(sequence);
        if (sequence <= low && !fetched)
            || sequence > self.log.executed
            || !sequence.0.is_multiple_of(self.config.checkpoint_interval)
        {
            return;
        }
        let votes = self.checkpoints.votes(sequence);
        let Some(digest) = votes.of(self.config.own) else { return };
        if votes.count(digest) < self.config.quorums.quorum() {
            return;
        }
        let proof = votes.proof(digest);
        if fetched {
            self.checkpoints.fetched = None; // the low watermark is there already
        } else {
            self.log.advance(sequence, turn.now);
            self.checkpoints.advance(low, sequence, self.log.oldest_kept());
        }
        self.persist(turn, || Record::Stable(Checkpoint { sequence, digest }));
        turn.outputs.push(Output::StableCheckpoint(StableCheckpoint { sequence, digest, proof }));
        self.take_assignments(turn);
        for authentic in self.early.take(self.log.high()) {
            self.on_message(authentic, turn);
        }
        self.propose(turn);
    }

    /// Reports, once, that the own state is not what f + 1 others have.
    ///
    /// f + 1 and not Q: one of them is correct, so either this replica or the application's determinism is broken, and
    /// both must be known. Waiting for Q would hide a state that differs between two halves of the correct replicas: no
    /// checkpoint would ever become stable and the cluster would stop at its high watermark without a word.
    fn check_divergence(&mut self, sequence: SequenceNumber, turn: &mut Turn<'_>) {
        let (own, weak) = (self.config.own, self.config.quorums.weak());
        let votes = self.checkpoints.votes(sequence);
        let Some(own) = votes.of(own) else { return };
        let other = votes.candidates().find(|&(digest, voters)| digest != own && super::votes::size(voters) >= weak);
        if let (Some((quorum, _)), false) = (other, self.diverged) {
            self.diverged = true;
            turn.outputs.push(Output::Diverged { sequence, own, quorum });
        }
    }
}
