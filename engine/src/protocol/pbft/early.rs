//! Messages for sequence numbers one window ahead, kept until the low watermark catches up.
//!
//! A replica that is a checkpoint behind its peers hears votes and pre-prepares above its high watermark. Dropping them
//! would make it wait for a status exchange at every checkpoint. The buffer is bounded over all senders and for each of
//! them, so that one faulty replica can not take the others' room; what does not fit is refused, counted and repaired
//! by the status exchange.

use crate::limits::{EARLY_BYTES_MAX, EARLY_MESSAGES_MAX};
use crate::protocol::{Authentic, Ignored, Message};
use crate::types::SequenceNumber;

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

    /// Keeps a message that would be welcome were it not early.
    ///
    /// # Errors
    /// [`Ignored::AboveHighWatermark`] if the sender's share or the room for bodies is used up.
    pub(super) fn keep(&mut self, sequence: SequenceNumber, authentic: Authentic) -> Result<(), Ignored> {
        let share = EARLY_MESSAGES_MAX / self.counts.len();
        let bytes = body_bytes(&authentic);
        let count = &mut self.counts[usize::from(authentic.sender.0)];
        if *count >= share || self.bytes + bytes > EARLY_BYTES_MAX {
            return Err(Ignored::AboveHighWatermark);
        }
        *count += 1;
        self.bytes += bytes;
        self.messages.push((sequence, authentic));
        Ok(())
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
    if let Message::PrePrepare(message) = &authentic.message { message.batch.bytes() } else { 0 }
}
