//! Lies about what was voted for, about states, and by leaving things out.

use bytes::Bytes;

use super::{Byzantine, Letter, To};
use crate::limits::STATE_CHUNK_BYTES_MAX;
use crate::protocol::Message;
use crate::protocol::message::{
    Checkpoint, DigestPrePrepare, FetchState, PrePrepare, Signed, StateChunk, Status, ViewChange, Vote,
};
use crate::quorum::Quorums;
use crate::types::{ReplicaId, SequenceNumber};

/// Once in so many sequence numbers a batch is shown to one backup too few.
const ONE_TOO_FEW: u64 = 8;
/// Bytes of an invented chunk.
const INVENTED_BYTES: usize = 256;

impl Byzantine {
    /// Votes for digests that nobody proposed.
    pub(super) fn vote_wrongly(&mut self, letter: Letter, out: &mut Vec<Letter>) {
        let digest = self.random.digest();
        let wrong = |vote: &Vote| Vote { digest, ..*vote };
        let message = match &*letter.message {
            Message::Prepare(vote) => Message::Prepare(wrong(vote)),
            Message::Commit(vote) => Message::Commit(wrong(vote)),
            Message::Committed(vote) => Message::Committed(wrong(vote)),
            Message::ViewChange(signed) if self.is_own(signed) => {
                let told = &signed.content;
                let lies = |votes: &[Vote]| votes.iter().map(wrong).collect();
                let (prepared, pre_prepared) = (lies(&told.prepared), lies(&told.pre_prepared));
                Message::ViewChange(Signed::own(ViewChange { prepared, pre_prepared, ..(**told).clone() }))
            }
            _ => return out.push(letter),
        };
        out.push(letter.with(message));
    }

    /// Shows a batch to those only whose votes are needed, and now and then to one less; sends no body.
    pub(super) fn withhold(&mut self, letter: Letter, out: &mut Vec<Letter>) {
        match &*letter.message {
            Message::PrePrepare(PrePrepare { sequence, .. })
            | Message::DigestPrePrepare(DigestPrePrepare { sequence, .. }) => {
                let sequence = *sequence;
                out.extend(
                    self.receivers(letter.to)
                        .into_iter()
                        .filter(|receiver| self.is_shown(sequence, *receiver))
                        .map(|receiver| Letter { to: To::One(receiver), ..letter.clone() }),
                );
            }
            Message::Body(_) => {}
            _ => out.push(letter),
        }
    }

    /// Whether a backup is shown the batch at a sequence number. Who is not changes from one to the next.
    fn is_shown(&self, sequence: SequenceNumber, receiver: ReplicaId) -> bool {
        let Some(quorums) = Quorums::new(self.n) else { return true };
        let others = self.n as u64 - 1;
        let needed = quorums.quorum() as u64 - 1 - u64::from(sequence.0 % ONE_TOO_FEW == ONE_TOO_FEW - 1);
        let index = u64::from(receiver.0) - u64::from(receiver > self.own);
        (index + sequence.0 % others) % others < needed
    }

    /// Vouches for states that do not exist.
    pub(super) fn lie_about_checkpoints(&mut self, letter: Letter, out: &mut Vec<Letter>) {
        match &*letter.message {
            Message::Checkpoint(told) => {
                let digest = self.random.digest();
                out.push(letter.with(Message::Checkpoint(Checkpoint { digest, ..*told })));
                let sequence = self.somewhere_else(told.sequence);
                out.push(letter.with(Message::Checkpoint(Checkpoint { sequence, digest })));
            }
            Message::Status(told) => {
                let (stable, committed) = (self.somewhere_else(told.stable), self.somewhere_else(told.committed));
                let message =
                    if self.random.once_in(2) { Status { stable, committed, ..told.clone() } } else { told.clone() };
                out.push(letter.with(Message::Status(message)));
            }
            Message::StateWanted(told) => {
                let sequence = self.somewhere_else(*told);
                out.push(letter.with(Message::StateWanted(sequence)));
            }
            Message::ViewChange(signed) if self.is_own(signed) => {
                let lie = self.other_checkpoints(&signed.content);
                out.push(letter.with(Message::ViewChange(Signed::own(lie))));
            }
            _ => out.push(letter),
        }
    }

    fn other_checkpoints(&mut self, told: &ViewChange) -> ViewChange {
        let mut lie = told.clone();
        match self.random.below(3) {
            0 => lie.checkpoints.iter_mut().for_each(|checkpoint| checkpoint.digest = self.random.digest()),
            1 => lie.stable = self.somewhere_else(told.stable),
            _ => {
                // A stable checkpoint far ahead, with everything in order but that nobody else has it.
                lie.stable = self.somewhere_else(told.stable);
                lie.checkpoints = vec![Checkpoint { sequence: lie.stable, digest: self.random.digest() }];
                (lie.prepared, lie.pre_prepared) = (Vec::new(), Vec::new());
            }
        }
        lie
    }

    /// Another place of a checkpoint: far ahead, where one may be (a multiple of this one) or not, or at the end of all
    /// numbers.
    fn somewhere_else(&mut self, sequence: SequenceNumber) -> SequenceNumber {
        let sequence = sequence.0.max(1);
        SequenceNumber(match self.random.below(5) {
            0 => sequence.saturating_mul(2),
            1 => sequence.saturating_mul(2 + self.random.below(1 << 20)),
            2 => sequence.saturating_add(1),
            3 => u64::MAX,
            _ => u64::MAX / sequence * sequence,
        })
    }

    /// Changes the chunks that are sent, or sends them to somebody else.
    pub(super) fn lie_about_state(&mut self, letter: Letter, out: &mut Vec<Letter>) {
        let Message::StateChunk(told) = &*letter.message else { return out.push(letter) };
        let mut lie = told.clone();
        let mut letter = letter.clone();
        match self.random.below(6) {
            0 | 1 => lie.bytes = self.flipped(&told.bytes),
            2 => lie.count = told.count.wrapping_add(1),
            3 => lie.index = told.index.wrapping_add(1),
            4 => lie.bytes = told.bytes.slice(..told.bytes.len() / 2),
            _ => {
                // To somebody who did not ask.
                let asker = letter.to;
                let others = self.receivers(To::All).into_iter().filter(|other| To::One(*other) != asker);
                let others: Vec<ReplicaId> = others.collect();
                letter.to = To::One(others[self.random.index(others.len())]);
            }
        }
        out.push(letter.with(Message::StateChunk(lie)));
    }

    fn flipped(&mut self, bytes: &[u8]) -> Bytes {
        let mut bytes = bytes.to_vec();
        bytes.truncate(STATE_CHUNK_BYTES_MAX);
        if bytes.is_empty() {
            bytes.push(0);
        }
        let at = self.random.index(bytes.len());
        bytes[at] ^= 1 << self.random.below(8);
        bytes.into()
    }

    /// Answers whoever asks for a chunk at once, before the state is even read; sometimes somebody who did not ask.
    pub(super) fn invent_state(&mut self, out: &mut Vec<Letter>) {
        let Some((asker, FetchState { sequence, index })) = self.memory.asked else { return };
        let count = match self.random.below(4) {
            0 => 0,
            1 => index.saturating_add(1),
            2 => u32::MAX,
            _ => 1,
        };
        let receiver = if self.random.once_in(4) { self.anybody() } else { asker };
        let bytes = self.random.bytes(INVENTED_BYTES).into();
        out.push(Letter::to(receiver, Message::StateChunk(StateChunk { sequence, index, count, bytes })));
    }
}
