//! Messages for sequence numbers one window ahead, kept until the low watermark catches up.
//!
//! A replica that is a checkpoint behind its peers hears votes and pre-prepares above its high watermark. Dropping them
//! would make it wait for a status exchange at every checkpoint. The buffer is bounded over all senders and in messages
//! for each of them. Room for bodies goes to the nearest views: only its primary can fill that of a view, so whoever
//! is to lead a later one can not take it. What does not fit is refused, counted and repaired by the status exchange.

use crate::limits::{EARLY_BYTES_MAX, EARLY_MESSAGES_MAX};
use crate::protocol::{Authentic, Ignored, Message};
use crate::types::{SequenceNumber, View};

/// The bounded buffer.
#[derive(Debug)]
pub(super) struct Early {
    messages: Vec<(SequenceNumber, Authentic)>,
    /// How many messages each replica has in here.
    counts: Vec<usize>,
    bytes: usize,
}

impl Early {
    /// An empty buffer for messages of `n` replicas.
    pub(super) fn new(n: usize) -> Self {
        Self { messages: Vec::new(), counts: vec![0; n], bytes: 0 }
    }

    /// Whether nothing is kept.
    pub(super) const fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Keeps a message that would be welcome were it not early. Says how many pre-prepares of later views went for it.
    ///
    /// # Errors
    /// [`Ignored::AboveHighWatermark`] if the sender's share or the room for bodies is used up.
    pub(super) fn keep(&mut self, sequence: SequenceNumber, authentic: Authentic) -> Result<usize, Ignored> {
        let share = EARLY_MESSAGES_MAX / self.counts.len();
        if self.counts[usize::from(authentic.sender.0)] >= share {
            return Err(Ignored::AboveHighWatermark);
        }
        let gone = self.make_room(&authentic)?;
        self.counts[usize::from(authentic.sender.0)] += 1;
        self.bytes += body_bytes(&authentic);
        self.messages.push((sequence, authentic));
        Ok(gone)
    }

    /// Drops bodies of later views, the last first, until the body of this message fits.
    fn make_room(&mut self, authentic: &Authentic) -> Result<usize, Ignored> {
        let (view, bytes) = body(authentic);
        if self.bytes + bytes <= EARLY_BYTES_MAX {
            return Ok(0);
        }
        let later = |(at, (_, kept)): (usize, &(SequenceNumber, Authentic))| {
            let (of, kept_bytes) = body(kept);
            (kept_bytes > 0 && of > view).then_some((of, at, kept_bytes))
        };
        let to_spare: usize = self.messages.iter().enumerate().filter_map(later).map(|(_, _, bytes)| bytes).sum();
        if self.bytes - to_spare + bytes > EARLY_BYTES_MAX {
            return Err(Ignored::AboveHighWatermark);
        }
        let mut gone = 0;
        while self.bytes + bytes > EARLY_BYTES_MAX {
            let Some((_, at, _)) = self.messages.iter().enumerate().filter_map(later).max() else { break };
            let (_, dropped) = self.messages.remove(at);
            self.release(dropped);
            gone += 1;
        }
        Ok(gone)
    }

    /// Takes out what is for sequence numbers up to `high`, in the order of arrival.
    pub(super) fn take(&mut self, high: SequenceNumber) -> Vec<Authentic> {
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.messages).into_iter().partition(|(sequence, _)| *sequence <= high);
        self.messages = later;
        due.into_iter().map(|(_, authentic)| self.release(authentic)).collect()
    }

    fn release(&mut self, authentic: Authentic) -> Authentic {
        self.counts[usize::from(authentic.sender.0)] -= 1;
        self.bytes -= body_bytes(&authentic);
        authentic
    }
}

fn body_bytes(authentic: &Authentic) -> usize {
    body(authentic).1
}

/// The view of a pre-prepare and the bytes of its batch; nothing of other messages takes room.
fn body(authentic: &Authentic) -> (View, usize) {
    match &authentic.message {
        Message::PrePrepare(message) => (message.view, message.batch.bytes()),
        Message::DigestPrePrepare(message) => (message.view, message.manifest.bytes()),
        _ => (View(0), 0),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::protocol::message::{PrePrepare, Verdict};
    use crate::requests::{Batch, Proofs, RequestTable};
    use crate::types::{ClientId, Digest, ReplicaId, Timestamp};

    fn pre_prepare(sender: u16, view: u64, bytes: usize) -> Authentic {
        let batch = Batch::new(RequestTable {
            clients: vec![ClientId(1)],
            timestamps: vec![Timestamp(1)],
            operation_ends: vec![u32::try_from(bytes).unwrap()],
            operations: vec![7; bytes].into(),
            digests: vec![Digest::default()],
            proofs: Proofs::None,
        });
        let message = PrePrepare { view: View(view), sequence: SequenceNumber(1), batch: Arc::clone(&batch) };
        Authentic {
            sender: ReplicaId(sender),
            message: Message::PrePrepare(message),
            signature: None,
            requests: Verdict::GOOD,
        }
    }

    #[test]
    fn the_primary_of_a_later_view_can_not_take_the_room_of_an_earlier_one() {
        let mut early = Early::new(4);
        let large = EARLY_BYTES_MAX / 4 - 1024;
        let mut keep = |sender, view, bytes| early.keep(SequenceNumber(view), pre_prepare(sender, view, bytes));
        for (view, times) in [(7, 3), (3, 1)] {
            for _ in 0..times {
                assert_eq!(keep(3, view, large), Ok(0));
            }
        }
        assert_eq!(keep(3, 7, large), Err(Ignored::AboveHighWatermark), "no room, and none of it is less needed");
        assert_eq!(keep(3, 8, large), Err(Ignored::AboveHighWatermark));
        assert_eq!(keep(0, 0, 2 * large), Ok(2), "the last view's go");
        assert_eq!(keep(0, 0, 2 * large), Ok(2));
        assert_eq!(keep(0, 0, large), Err(Ignored::AboveHighWatermark), "it has taken everything itself");
        assert_eq!(early.take(SequenceNumber(9)).len(), 2);
        assert_eq!((early.bytes, early.counts), (0, vec![0; 4]));
    }
}
