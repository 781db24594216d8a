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
    newest: Vec<Option<Checkpoint>>,
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
            newest: vec![None; n],
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
    pub(super) fn vouch(&mut self, settled: Checkpoint) {
        if self.settled.is_none_or(|known| known.sequence < settled.sequence) {
            self.settled = Some(settled);
        }
    }

    /// The highest checkpoint above `sequence` that at least `votes` replicas told of as their newest.
    pub(super) fn vouched_above(&self, sequence: SequenceNumber, votes: usize) -> Option<Checkpoint> {
        let newest = || self.newest.iter().flatten();
        newest()
            .filter(|candidate| candidate.sequence > sequence)
            .filter(|candidate| newest().filter(|other| other == candidate).count() >= votes)
            .copied()
            .chain(self.settled.filter(|settled| settled.sequence > sequence))
            .max_by_key(|candidate| candidate.sequence)
    }

    fn votes(&mut self, sequence: SequenceNumber) -> &mut Votes {
        let positions = self.votes.len() as u64;
        #[allow(clippy::cast_possible_truncation, reason = "the remainder is below the length of a Vec")]
        &mut self.votes[(sequence.0 / self.interval % positions) as usize]
    }

    /// Forgets the votes up to the new low watermark, and own checkpoints that lie before `oldest`.
    fn advance(&mut self, from: SequenceNumber, to: SequenceNumber, oldest: SequenceNumber) {
        let mut sequence = from.0 + self.interval;
        while sequence <= to.0 {
            self.votes(SequenceNumber(sequence)).clear();
            sequence += self.interval;
        }
        while self.own.front().is_some_and(|own| own.sequence < oldest) {
            self.own.pop_front();
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
        let own = Checkpoint { sequence, digest };
        self.checkpoints.own.push_back(own);
        self.checkpoints.votes(sequence).record(self.config.own, digest, None)?;
        turn.broadcast(Message::Checkpoint(own));
        self.check_divergence(sequence, turn);
        self.stabilise(sequence, turn);
        Ok(())
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
        if sequence <= self.log.low() {
            return Err(Ignored::BelowLowWatermark);
        }
        let newest = &mut self.checkpoints.newest[usize::from(sender.0)];
        if newest.is_none_or(|newest| newest.sequence < sequence) {
            *newest = Some(message);
        }
        if sequence.0 - self.log.low().0 > self.checkpoints.reach {
            return Err(Ignored::AboveHighWatermark);
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
        if sequence <= low
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
        self.log.advance(sequence, turn.now);
        self.checkpoints.advance(low, sequence, self.log.oldest_kept());
        self.persist(turn, || Record::Stable(Checkpoint { sequence, digest }));
        turn.outputs.push(Output::StableCheckpoint(StableCheckpoint { sequence, digest, proof }));
        self.assign(turn);
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
