//! Messages with any field changed, within what can be put on the wire, and the tricks of some other kinds at random.

use std::sync::Arc;

use bytes::Bytes;

use super::{Byzantine, Kind, Letter, To};
use crate::limits::{CHECKPOINTS_MAX, REPLICAS_MAX, STATE_CHUNK_BYTES_MAX, STATUS_SLOTS_MAX, WINDOW_MAX};
use crate::protocol::Message;
use crate::protocol::message::{
    Body, Checkpoint, DigestPrePrepare, FetchState, NewView, PrePrepare, Signed, SlotStatus, StateChunk, Status,
    ViewChange, Vote,
};
use crate::requests::{Batch, Manifest};
use crate::types::{Digest, ReplicaId, SequenceNumber, View};

/// The kinds whose tricks are borrowed.
const TRICKS: [Kind; 6] =
    [Kind::Equivocate, Kind::WrongDigest, Kind::WithholdBody, Kind::EarlyBody, Kind::LyingCheckpoint, Kind::LyingState];

impl Byzantine {
    /// Lets a message go as it is, swallows it, doubles it, sends it to somebody else, changes it, or does what another
    /// kind would.
    pub(super) fn mutate(&mut self, letter: Letter, out: &mut Vec<Letter>) {
        match self.random.below(12) {
            0 => {}
            1 => out.extend([letter.clone(), letter]),
            2 => out.push(Letter { to: To::One(self.anybody()), ..letter }),
            3 | 4 => {
                let changed = self.changed(&letter.message);
                out.push(letter.with(changed));
            }
            5 => {
                // Something else to everybody, and to some of them the truth as well.
                for receiver in self.receivers(letter.to) {
                    let changed = self.changed(&letter.message);
                    out.push(Letter::to(receiver, changed));
                    if self.random.once_in(2) {
                        out.push(Letter { to: To::One(receiver), ..letter.clone() });
                    }
                }
            }
            6..=8 => {
                let trick = TRICKS[self.random.index(TRICKS.len())];
                self.distort_by(trick, letter, out);
            }
            _ => out.push(letter),
        }
    }

    fn changed(&mut self, message: &Message) -> Message {
        match message {
            Message::PrePrepare(told) => Message::PrePrepare(self.changed_pre_prepare(told)),
            Message::DigestPrePrepare(told) => Message::DigestPrePrepare(self.changed_digests(told)),
            Message::Prepare(vote) => {
                let vote = self.changed_vote(*vote);
                if self.random.once_in(4) { Message::Commit(vote) } else { Message::Prepare(vote) }
            }
            Message::Commit(vote) => {
                let vote = self.changed_vote(*vote);
                if self.random.once_in(4) { Message::Committed(vote) } else { Message::Commit(vote) }
            }
            Message::Committed(vote) => Message::Committed(self.changed_vote(*vote)),
            Message::Checkpoint(told) => Message::Checkpoint(self.changed_checkpoint(*told)),
            Message::Status(told) => Message::Status(self.changed_status(told)),
            Message::Forward(table) => {
                let mut indices: Vec<usize> = (0..table.len()).filter(|_| !self.random.once_in(4)).collect();
                indices.reverse();
                Message::Forward(table.select(&indices).into())
            }
            Message::Body(Body { sequence, batch }) => {
                let sequence = self.twisted(*sequence);
                Message::Body(Body { sequence, batch: batch.clone() })
            }
            Message::ViewChange(told) => Message::ViewChange(self.changed_view_change(told)),
            Message::NewView(told) => Message::NewView(self.changed_new_view(told)),
            Message::StateWanted(sequence) => Message::StateWanted(self.twisted(*sequence)),
            Message::FetchState(FetchState { sequence, index }) => {
                let index = self.twisted_u32(*index);
                Message::FetchState(FetchState { sequence: *sequence, index })
            }
            Message::StateChunk(told) => Message::StateChunk(self.changed_chunk(told)),
        }
    }

    fn twisted(&mut self, sequence: SequenceNumber) -> SequenceNumber {
        SequenceNumber(self.random.twist(sequence.0))
    }

    fn twisted_view(&mut self, view: View) -> View {
        View(self.random.twist(view.0))
    }

    #[allow(clippy::cast_possible_truncation, reason = "any number will do")]
    fn twisted_u32(&mut self, number: u32) -> u32 {
        self.random.twist(u64::from(number)) as u32
    }

    fn twisted_digest(&mut self, mut digest: Digest) -> Digest {
        let at = self.random.index(digest.0.len());
        digest.0[at] ^= 1 << self.random.below(8);
        digest
    }

    fn changed_vote(&mut self, vote: Vote) -> Vote {
        match self.random.below(3) {
            0 => Vote { view: self.twisted_view(vote.view), ..vote },
            1 => Vote { sequence: self.twisted(vote.sequence), ..vote },
            _ => Vote { digest: self.twisted_digest(vote.digest), ..vote },
        }
    }

    fn changed_checkpoint(&mut self, told: Checkpoint) -> Checkpoint {
        if self.random.once_in(2) {
            Checkpoint { sequence: self.twisted(told.sequence), ..told }
        } else {
            Checkpoint { digest: self.twisted_digest(told.digest), ..told }
        }
    }

    fn changed_pre_prepare(&mut self, told: &PrePrepare) -> PrePrepare {
        match self.random.below(5) {
            0 => PrePrepare { view: self.twisted_view(told.view), ..told.clone() },
            1 => PrePrepare { sequence: self.twisted(told.sequence), ..told.clone() },
            2 => PrePrepare { batch: Batch::null(), ..told.clone() },
            3 => {
                let len = told.batch.requests.len();
                let indices: Vec<usize> = (0..len).filter(|_| !self.random.once_in(2)).collect();
                PrePrepare { batch: Batch::new(told.batch.requests.select(&indices)), ..told.clone() }
            }
            _ => PrePrepare { batch: self.memory.batch.clone().unwrap_or_else(Batch::null), ..told.clone() },
        }
    }

    fn changed_digests(&mut self, told: &DigestPrePrepare) -> DigestPrePrepare {
        let (mut clients, mut timestamps, mut digests) =
            (told.manifest.clients().to_vec(), told.manifest.timestamps().to_vec(), told.manifest.digests().to_vec());
        let at = self.random.index(clients.len().max(1));
        match self.random.below(5) {
            0 => return DigestPrePrepare { view: self.twisted_view(told.view), ..told.clone() },
            1 => return DigestPrePrepare { sequence: self.twisted(told.sequence), ..told.clone() },
            2 => (clients, timestamps, digests) = (Vec::new(), Vec::new(), Vec::new()),
            3 => {
                // Where to look is wrong, what is meant is not.
                if let Some(timestamp) = timestamps.get_mut(at) {
                    timestamp.0 = self.random.twist(timestamp.0);
                }
            }
            _ => {
                if let Some(digest) = digests.get(at).copied() {
                    digests[at] = self.twisted_digest(digest);
                }
            }
        }
        DigestPrePrepare { manifest: Arc::new(Manifest::new(clients, timestamps, digests)), ..told.clone() }
    }

    fn changed_status(&mut self, told: &Status) -> Status {
        let mut lie = told.clone();
        match self.random.below(7) {
            0 => lie.view = self.twisted_view(told.view),
            1 => lie.active = !told.active,
            2 => lie.view_changes = self.random.next(),
            3 => lie.stable = self.twisted(told.stable),
            4 => lie.committed = self.twisted(told.committed),
            5 => lie.slots.truncate(told.slots.len() / 2),
            _ => {
                let slots = self.random.below(STATUS_SLOTS_MAX as u64 + 1);
                lie.slots = (0..slots).map(|_| self.any_slot()).collect();
            }
        }
        lie
    }

    fn any_slot(&mut self) -> SlotStatus {
        let bits = self.random.next();
        SlotStatus {
            pre_prepared: bits & 1 != 0,
            prepared: bits & 2 != 0,
            committed: bits & 4 != 0,
            announced: bits & 8 != 0,
            prepares: self.random.next(),
            commits: self.random.next(),
        }
    }

    fn changed_chunk(&mut self, told: &StateChunk) -> StateChunk {
        match self.random.below(4) {
            0 => StateChunk { sequence: self.twisted(told.sequence), ..told.clone() },
            1 => StateChunk { index: self.twisted_u32(told.index), ..told.clone() },
            2 => StateChunk { count: self.twisted_u32(told.count), ..told.clone() },
            _ => {
                let len = self.random.index(told.bytes.len().min(STATE_CHUNK_BYTES_MAX) + 1);
                StateChunk { bytes: Bytes::from(self.random.bytes(len)), ..told.clone() }
            }
        }
    }

    /// An own view-change with any of its parts changed. Of another's, whose signature does not fit any more, or one in
    /// another's name.
    fn changed_view_change(&mut self, told: &Signed<ViewChange>) -> Signed<ViewChange> {
        let mut lie = (*told.content).clone();
        match self.random.below(8) {
            0 => lie.view = self.twisted_view(lie.view),
            1 => lie.stable = self.twisted(lie.stable),
            2 => lie.prepared.reverse(),
            3 => lie.pre_prepared.clear(),
            4 => drop(lie.prepared.pop()),
            5 => {
                let mut votes = std::mem::take(&mut lie.prepared);
                for vote in &mut votes {
                    *vote = self.changed_vote(*vote);
                }
                lie.prepared = votes;
            }
            6 => {
                let sequence = self.twisted(lie.stable);
                lie.checkpoints.push(Checkpoint { sequence, digest: self.random.digest() });
                lie.checkpoints.truncate(CHECKPOINTS_MAX);
            }
            _ => {
                let vote = Vote { view: lie.view, sequence: lie.stable.next(), digest: self.random.digest() };
                let vote = self.changed_vote(vote);
                lie.prepared.insert(0, vote);
                lie.prepared.truncate(usize::try_from(WINDOW_MAX).unwrap_or(usize::MAX));
            }
        }
        if self.is_own(told) {
            if self.random.once_in(8) {
                lie.replica = self.anybody();
                return Signed { content: lie.into(), signature: Some([0x5a; 64]) };
            }
            return Signed::own(lie);
        }
        Signed { content: lie.into(), signature: told.signature }
    }

    fn changed_new_view(&mut self, told: &Signed<NewView>) -> Signed<NewView> {
        let mut lie = (*told.content).clone();
        match self.random.below(5) {
            0 => lie.view_changes.reverse(),
            1 => drop(lie.view_changes.pop()),
            2 => {
                if let Some((origin, digest)) = lie.view_changes.first().copied() {
                    lie.view_changes[0] = (origin, self.twisted_digest(digest));
                }
            }
            3 => {
                let origin = ReplicaId(u16::try_from(self.random.below(REPLICAS_MAX as u64)).unwrap_or(0));
                lie.view_changes.push((origin, self.random.digest()));
                lie.view_changes.truncate(REPLICAS_MAX);
            }
            _ => {
                let view = self.twisted_view(lie.view);
                // Only of a view of its own can it sign a new-view.
                lie.view = if told.signature.is_none() { self.own_view_near(view) } else { view };
            }
        }
        Signed { content: lie.into(), signature: told.signature }
    }
}
