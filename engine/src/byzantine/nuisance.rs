//! Messages of no use to anybody: repeated ones, ones of other views, and floods of anything.

use std::sync::Arc;

use super::{Byzantine, Letter, To};
use crate::limits::STATUS_SLOTS_MAX;
use crate::protocol::Message;
use crate::protocol::message::{
    Body, Checkpoint, DigestPrePrepare, FetchState, NewView, PrePrepare, Signed, SlotStatus, StateChunk, Status,
    ViewChange, Vote,
};
use crate::requests::{Batch, Manifest};
use crate::types::{ReplicaId, SequenceNumber, View};

/// Most messages of other views, and repeated ones, in answer to one input.
pub(super) const STALE_MAX: usize = 4;
/// Messages that cost a signature at either end are one in so many of a flood.
const SIGNED_ONE_IN: u64 = 16;
/// Bytes of a chunk in a flood.
const CHUNK_BYTES: usize = 64;

impl Byzantine {
    /// Repeats what was said, and speaks of views that are past or never come.
    pub(super) fn speak_of_other_views(&mut self, count: usize, out: &mut Vec<Letter>) {
        for _ in 0..count {
            let view = self.other_view();
            let message = match self.random.below(8) {
                0 | 1 => self.repeated(),
                2 => self.own_view_change(view),
                3 => Message::NewView(Signed::own(self.hollow_new_view(view))),
                4 => {
                    let (active, suspects) = (self.random.once_in(2), self.random.once_in(2));
                    Message::Status(Status { view, active, suspects, ..Status::default() })
                }
                _ => self.said_in(view),
            };
            let to = if self.random.once_in(2) { To::All } else { To::One(self.anybody()) };
            out.push(Letter { to, message: Arc::new(message) });
        }
    }

    /// Something that was said before, by itself or signed by somebody.
    fn repeated(&mut self) -> Message {
        let said = if self.random.once_in(3) { &self.memory.signed } else { &self.memory.said };
        if said.is_empty() {
            return Message::Status(Status::default());
        }
        (*said[self.random.index(said.len())]).clone()
    }

    /// A vote as it was cast, but in another view.
    fn said_in(&mut self, view: View) -> Message {
        let digest = self.random.digest();
        match self.repeated() {
            Message::Prepare(vote) => Message::Prepare(Vote { view, ..vote }),
            Message::Commit(vote) => Message::Commit(Vote { view, ..vote }),
            Message::Committed(vote) => Message::Committed(Vote { view, ..vote }),
            other => {
                let sequence = self.inner.position().committed.next();
                if self.random.once_in(2) { Message::Prepare(Vote { view, sequence, digest }) } else { other }
            }
        }
    }

    fn other_view(&mut self) -> View {
        let (view, n) = (self.view().0, self.n as u64);
        View(match self.random.below(8) {
            0 => 0,
            1 => view.saturating_sub(1),
            2 => view.saturating_sub(n),
            3 => view.saturating_add(1),
            4 => view.saturating_add(n),
            5 => view.saturating_add(self.random.below(1 << 20)),
            6 => u64::MAX,
            _ => self.random.next(),
        })
    }

    /// An own view-change to any view: the last one said, or one without any history.
    fn own_view_change(&mut self, view: View) -> Message {
        let stable = self.inner.position().stable_checkpoint;
        let last = self.memory.view_change.as_deref().filter(|_| self.random.once_in(2));
        let content = last.map_or_else(
            || ViewChange {
                replica: self.own,
                view,
                stable,
                checkpoints: Vec::new(),
                prepared: Vec::new(),
                pre_prepared: Vec::new(),
            },
            |last| ViewChange { view, ..last.clone() },
        );
        Message::ViewChange(Signed::own(content))
    }

    /// A new view near `view` that this replica would be the primary of, justified by nothing.
    pub(super) fn hollow_new_view(&mut self, view: View) -> NewView {
        let count = self.random.below(self.n as u64);
        let view_changes = (0u16..).take(usize::try_from(count).unwrap_or(0));
        let view_changes = view_changes.map(|origin| (ReplicaId(origin), self.random.digest())).collect();
        NewView { view: self.own_view_near(view), view_changes }
    }

    /// The highest view up to `view` that this replica is the primary of, or its first one.
    pub(super) fn own_view_near(&self, view: View) -> View {
        let (n, own) = (self.n as u64, u64::from(self.own.0));
        let back = (view.0 % n + n - own) % n;
        View(view.0.checked_sub(back).unwrap_or(own))
    }

    /// Well-formed messages to anybody about anything.
    pub(super) fn flood(&mut self, count: usize, out: &mut Vec<Letter>) {
        for _ in 0..count {
            let message = self.useless();
            let receiver = self.anybody();
            out.push(Letter::to(receiver, message));
        }
    }

    fn useless(&mut self) -> Message {
        let (view, sequence) = (self.nearby_view(), self.anywhere());
        if self.random.once_in(SIGNED_ONE_IN) {
            let view = self.other_view();
            return if self.random.once_in(2) {
                self.own_view_change(view)
            } else {
                Message::NewView(Signed::own(self.hollow_new_view(view)))
            };
        }
        let vote = Vote { view, sequence, digest: self.random.digest() };
        match self.random.below(12) {
            0 => Message::Prepare(vote),
            1 => Message::Commit(vote),
            2 => Message::Committed(vote),
            3 => Message::Checkpoint(Checkpoint { sequence, digest: vote.digest }),
            4 => Message::Status(self.busy_status(view)),
            5 => Message::StateWanted(sequence),
            6 => Message::FetchState(FetchState { sequence, index: self.small() }),
            7 => {
                let bytes = self.random.bytes(CHUNK_BYTES).into();
                Message::StateChunk(StateChunk { sequence, index: self.small(), count: self.small(), bytes })
            }
            8 => match &self.memory.requests {
                Some(requests) => Message::Forward(Arc::clone(requests)),
                None => Message::StateWanted(sequence),
            },
            10 => {
                let manifest = Arc::new(Manifest::of(&self.some_batch()));
                Message::DigestPrePrepare(DigestPrePrepare { view, sequence, manifest })
            }
            9 => Message::PrePrepare(PrePrepare { view, sequence, batch: self.some_batch() }),
            _ => Message::Body(Body { sequence, batch: self.some_batch() }),
        }
    }

    fn some_batch(&self) -> Arc<Batch> {
        self.memory.batch.as_ref().map_or_else(Batch::null, Arc::clone)
    }

    /// Mostly the current view, so that what is said of it is looked at.
    fn nearby_view(&mut self) -> View {
        if self.random.once_in(4) { self.other_view() } else { self.view() }
    }

    /// A sequence number anywhere: in the window, above it, far ahead, in the past.
    fn anywhere(&mut self) -> SequenceNumber {
        let committed = self.inner.position().committed.0;
        SequenceNumber(match self.random.below(6) {
            0 | 1 => committed.saturating_add(1 + self.random.below(64)),
            2 => committed.saturating_add(1 + self.random.below(1024)),
            3 => committed.saturating_sub(self.random.below(1024)),
            4 => u64::MAX - self.random.below(2),
            _ => self.random.next(),
        })
    }

    /// Asks for as much as one status can.
    fn busy_status(&mut self, view: View) -> Status {
        let position = self.inner.position();
        let slots = vec![SlotStatus::default(); STATUS_SLOTS_MAX];
        let committed = SequenceNumber(position.committed.0.saturating_sub(self.random.below(256)));
        Status {
            view,
            active: true,
            suspects: false,
            view_changes: 0,
            stable: position.stable_checkpoint.min(committed),
            committed,
            slots,
        }
    }

    fn small(&mut self) -> u32 {
        u32::try_from(self.random.below(8)).unwrap_or(0)
    }
}
