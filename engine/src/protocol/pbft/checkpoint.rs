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
        self.counts(low, sequence).then(|| &self.votes[self.index(sequence)])
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
        let last = to.0.min(from.0.saturating_add(self.reach));
        for sequence in (from.0..=last).step_by(usize::try_from(self.interval).unwrap_or(usize::MAX)) {
            self.votes(SequenceNumber(sequence)).clear();
        }
        // The stable one stays in any case: a view-change begins with it.
        while self.own.front().is_some_and(|own| own.sequence < oldest.min(to)) {
            self.own.pop_front();
        }
    }

    /// Whether votes at `sequence` are counted while the low watermark is `low`.
    fn counts(&self, low: SequenceNumber, sequence: SequenceNumber) -> bool {
        sequence > low && sequence.0 - low.0 <= self.reach
    }

    /// Takes over votes that were counted elsewhere, for want of a place here.
    pub(super) fn add_votes(&mut self, low: SequenceNumber, sequence: SequenceNumber, votes: &Votes) {
        if self.counts(low, sequence) {
            for (replica, digest, signature) in votes.iter() {
                let _ = self.votes(sequence).record(replica, digest, signature); // it may be here already
            }
        }
    }

    /// Counts the own votes for which there was no place before the low watermark rose to `low`.
    fn count_own(&mut self, low: SequenceNumber, replica: ReplicaId) {
        let fetched: Vec<_> = self.own_above(low).filter(|own| self.counts(low, own.sequence)).collect();
        for own in fetched {
            let _ = self.votes(own.sequence).record(replica, own.digest, None); // most are here already
        }
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

    /// Records an own checkpoint and tells the others of it. A fetched one may lie too far above the low watermark to
    /// be counted yet.
    pub(super) fn vouch(&mut self, own: Checkpoint, turn: &mut Turn<'_>) {
        self.checkpoints.own.push_back(own);
        if self.checkpoints.counts(self.log.low(), own.sequence) {
            let recorded = self.checkpoints.votes(own.sequence).record(self.config.own, own.digest, None);
            recorded.expect("a replica takes each checkpoint once");
        }
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
        if sequence <= self.log.low() {
            return Err(Ignored::BelowLowWatermark);
        }
        let awaited = self.on_voucher(sender, message, signature, turn);
        if !self.checkpoints.counts(self.log.low(), sequence) {
            return if awaited { Ok(()) } else { Err(Ignored::AboveHighWatermark) };
        }
        self.checkpoints.votes(sequence).record(sender, digest, signature)?;
        self.check_divergence(sequence, turn);
        self.stabilise(sequence, turn);
        Ok(())
    }

    /// Makes the checkpoint at `sequence` stable if Q replicas share this replica's own state there. Without an own
    /// matching state the low watermark stays, whatever the others vouch for.
    ///
    /// With one, f + 1 are enough where it is known to be stable at a correct replica: those that have helped it to Q
    /// votes may have none for this one, and as a primary it could not start a view that reaches beyond its window.
    pub(super) fn stabilise(&mut self, sequence: SequenceNumber, turn: &mut Turn<'_>) {
        if !self.checkpoints.counts(self.log.low(), sequence)
            || sequence > self.log.executed
            || !sequence.0.is_multiple_of(self.config.checkpoint_interval)
        {
            return;
        }
        let quorums = self.config.quorums;
        let enough = if sequence <= self.settled() { quorums.weak() } else { quorums.quorum() };
        let votes = self.checkpoints.votes(sequence);
        let Some(digest) = votes.of(self.config.own) else { return };
        if votes.count(digest) < enough {
            return;
        }
        let proof = votes.proof(digest);
        self.raise_low(sequence, turn);
        self.persist(turn, || Record::Stable(Checkpoint { sequence, digest }));
        turn.outputs.push(Output::StableCheckpoint(StableCheckpoint { sequence, digest, proof }));
        self.go_on_in_window(turn);
    }

    /// Raises the low watermark to a checkpoint up to which nothing is needed any more.
    pub(super) fn raise_low(&mut self, to: SequenceNumber, turn: &mut Turn<'_>) {
        let (low, committed) = (self.log.low(), self.log.committed);
        if to > committed {
            self.roll_back(committed, turn); // what lies behind it comes with a state
        }
        let now = turn.now;
        self.log.advance(to, now);
        self.checkpoints.advance(low, to, self.log.oldest_kept());
        self.checkpoints.count_own(to, self.config.own);
        if self.log.committed > committed {
            self.time_anew(now); // what was waited for may be done by now
        }
    }

    /// What comes up when the low watermark has risen.
    pub(super) fn go_on_in_window(&mut self, turn: &mut Turn<'_>) {
        self.take_assignments(turn);
        for authentic in self.early.take(self.log.high()) {
            self.on_message(authentic, turn);
        }
        self.hand_out(turn);
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
        let other =
            votes.candidates().find(|&(digest, voters)| digest != own && crate::protocol::sets::size(voters) >= weak);
        if let (Some((quorum, _)), false) = (other, self.diverged) {
            self.diverged = true;
            turn.outputs.push(Output::Diverged { sequence, own, quorum });
        }
    }
}
