//! Replies to whole batches, of which one replica sends all and the others a digest.
//!
//! A client node stands for many logical clients, and what a batch gives them is the same at every correct replica.
//! Castro's thesis (section 5.1.1) has one replica send the result of an operation and the others its digest; here the
//! same is done with all replies to a batch over one connection, so that results of a few bytes gain by it, too. f + 1
//! equal digests by distinct replicas prove every reply that the digest is of: one of those replicas is correct.
//!
//! Unlike in the thesis it is the client who chooses who sends them: see [`designation`](super::designation). Replies of
//! a batch that never agree, or never come, are of no use; its operations are sent again like others that lack an
//! answer, and what replicas say to that is whole and of no batch.
//!
//! What one replica says takes the place of nothing but what it has said itself, a whole ring of batches ago.

use std::collections::VecDeque;

use super::designation::Designation;
use crate::limits::REPLIES_BYTES_MAX;
use crate::protocol::planted::Planted;
use crate::requests::ReplyTable;
use crate::types::{Digest, ReplicaId, SequenceNumber, Time};

/// Bytes of replies of one replica that wait for others' digests: more than its own window of batches makes, unless
/// results are very long.
const WAITING_BYTES_MAX: usize = 4 * REPLIES_BYTES_MAX;
/// Bytes of a reply's columns in memory.
const COLUMNS_BYTES: usize = 16;

/// How a replica answers a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchForm {
    /// It sends the replies.
    Whole,
    /// It sends their digest, unless they are [hardly longer](crate::limits::BATCH_DIGEST_FROM_BYTES).
    Digest,
}

/// What a replica says of a batch's replies.
#[derive(Debug)]
pub struct BatchReply {
    /// Who says it.
    pub replica: ReplicaId,
    /// Of which batch.
    pub sequence: SequenceNumber,
    /// The digest of the replies.
    pub digest: Digest,
    /// The replies, if it has sent them.
    pub replies: Option<ReplyTable>,
    /// Whether every replica sends them, because they are short.
    pub short: bool,
    /// When it was read, and when it is counted.
    pub heard: Heard,
}

/// When something was read, and when it was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// When the frame was read.
    pub read: Time,
    /// When its proof had been checked.
    pub counted: Time,
}

/// What a batch reply did.
#[derive(Debug, PartialEq, Eq)]
pub enum BatchOutcome {
    /// Enough replicas say the same: these replies are right, and these replicas (a bit each) have said so.
    Agreed {
        /// The replies.
        replies: ReplyTable,
        /// Who says so.
        voters: u64,
    },
    /// It was counted; more are needed, or nobody has sent the replies.
    Counted,
    /// The batch is agreed on already, or the replica has said something of it or of a much later one before.
    Stale,
}

/// What replicas say of the batches with replies over one connection.
#[derive(Debug)]
pub struct Batches {
    needed: usize,
    /// By replica.
    said: Vec<Said>,
    /// What was agreed on, at its sequence number modulo the ring's length.
    agreed: Vec<Agreed>,
    /// Batches that lack nothing but the replies, since when, in order of time.
    vouched: VecDeque<(Time, SequenceNumber)>,
    designation: Designation,
    /// Each replica's replies that contradict what was agreed on.
    wrong: Vec<u64>,
}

/// What one replica has said, in a ring by sequence number.
#[derive(Debug)]
struct Said {
    ring: Vec<Word>,
    /// Bytes of the replies in it.
    waiting_bytes: usize,
}

#[derive(Clone, Debug, Default)]
struct Word {
    sequence: SequenceNumber,
    digest: Digest,
    replies: Option<Box<ReplyTable>>,
    heard: Heard,
}

#[derive(Clone, Copy, Debug, Default)]
struct Agreed {
    sequence: SequenceNumber,
    digest: Digest,
    replies: u64,
}

impl Batches {
    /// Nothing was said yet by any of `n` replicas, of which `needed` make an agreement, and which work on batches at
    /// most `window` apart.
    #[must_use]
    pub fn new(n: usize, needed: usize, window: u64) -> Self {
        // Two of them may be a window apart, and clients hear of one sooner than of the other.
        let length = usize::try_from(2 * window).unwrap_or(usize::MAX).next_power_of_two();
        let said = || Said { ring: vec![Word::default(); length], waiting_bytes: 0 };
        Self {
            needed,
            said: (0..n).map(|_| said()).collect(),
            agreed: vec![Agreed::default(); length],
            vouched: VecDeque::new(),
            designation: Designation::new(n),
            wrong: vec![0; n],
        }
    }

    /// Plants a bug, for the simulator to find. Nothing else does.
    pub fn plant(&mut self, planted: Option<Planted>) {
        if planted == Some(Planted::BatchQuorumWeak) {
            self.needed = 1;
        }
    }

    /// Counts what a replica says, whose proof was checked. `primary` is who leads the view.
    pub fn on_reply(&mut self, reply: BatchReply, primary: ReplicaId) -> BatchOutcome {
        let BatchReply { replica, sequence, digest, replies, short, heard } = reply;
        let now = heard.counted;
        if usize::from(replica.0) >= self.said.len() || sequence.0 == 0 {
            return BatchOutcome::Stale;
        }
        if !short {
            self.designation.on_form(
                now,
                replica,
                if replies.is_some() { BatchForm::Whole } else { BatchForm::Digest },
            );
        }
        self.designation.on_sequence(now, replica, sequence, replies.is_some());
        let at = self.slot(sequence);
        if !self.said[usize::from(replica.0)].hear(at, Word { sequence, digest, replies: None, heard }) {
            return BatchOutcome::Stale;
        }
        let agreed = self.agreed[at];
        if agreed.sequence >= sequence {
            if agreed.sequence == sequence && agreed.digest != digest {
                self.wrong[usize::from(replica.0)] += agreed.replies;
            }
            return BatchOutcome::Stale;
        }
        if let Some(replies) = replies {
            self.said[usize::from(replica.0)].keep(at, replies);
        }
        let voters = self.voters(at, sequence, &digest);
        let votes = voters.count_ones() as usize;
        if votes == 1 && !short {
            self.designation.on_first(replica);
        }
        if votes < self.needed {
            return BatchOutcome::Counted;
        }
        let sender = (0..self.said.len()).find(|&of| voters >> of & 1 == 1 && self.said[of].ring[at].replies.is_some());
        let Some(replies) = sender.and_then(|sender| self.said[sender].take(at)) else {
            if votes == self.needed {
                self.vouched.push_back((now, sequence));
                self.designation.on_late();
            }
            return BatchOutcome::Counted;
        };
        self.agree(at, Agreed { sequence, digest, replies: replies.len() as u64 });
        if !short {
            self.designation.on_agreed(now, voters, primary);
        }
        BatchOutcome::Agreed { replies: *replies, voters }
    }

    /// When `replica` was heard of the batch at `sequence`, if it was not too long ago.
    #[must_use]
    pub fn heard(&self, replica: ReplicaId, sequence: SequenceNumber) -> Option<Heard> {
        let word = &self.said.get(usize::from(replica.0))?.ring[self.slot(sequence)];
        (word.sequence == sequence).then_some(word.heard)
    }

    /// The time until which operations lack an answer, if there is a batch that has had its votes for `pause_ns` and
    /// nobody has sent its replies: whatever was sent by then and waits should be sent again. Somebody else is to send
    /// replies from now on.
    pub fn take_missing(&mut self, now: Time, pause_ns: u64) -> Option<Time> {
        let mut missing = None;
        while let Some((since, sequence)) = self.next_vouched() {
            if since.after(pause_ns) > now {
                break;
            }
            self.vouched.pop_front();
            let at = self.slot(sequence);
            let said = (0..self.said.len()).filter(|&of| self.said[of].ring[at].sequence == sequence);
            let voters = said.fold(0, |voters, of| voters | 1 << of);
            self.designation.on_missing(now, since, voters);
            missing = Some(since);
        }
        missing
    }

    /// When [`take_missing`](Self::take_missing) will find something, unless it comes before.
    pub fn next_due(&mut self, pause_ns: u64) -> Option<Time> {
        self.next_vouched().map(|(since, _)| since.after(pause_ns))
    }

    /// What to tell which replica now: how replies to batches are wanted from it.
    pub fn tell(&mut self, now: Time) -> Option<(ReplicaId, BatchForm)> {
        self.designation.tell(now)
    }

    /// Who sends replies, once somebody was chosen.
    #[must_use]
    pub const fn designated(&self) -> Option<ReplicaId> {
        self.designation.designated()
    }

    /// For each replica, how many of its replies contradict what was agreed on.
    #[must_use]
    pub fn wrong(&self) -> &[u64] {
        &self.wrong
    }

    #[allow(clippy::cast_possible_truncation, reason = "less than the ring's length")]
    const fn slot(&self, sequence: SequenceNumber) -> usize {
        (sequence.0 % self.agreed.len() as u64) as usize
    }

    /// Who says this, a bit each.
    fn voters(&self, at: usize, sequence: SequenceNumber, digest: &Digest) -> u64 {
        let says = |said: &&Said| said.ring[at].sequence == sequence && said.ring[at].digest == *digest;
        (0..).zip(&self.said).filter(|(_, said)| says(said)).fold(0, |voters, (replica, _)| voters | 1 << replica)
    }

    fn agree(&mut self, at: usize, agreed: Agreed) {
        for (said, wrong) in self.said.iter_mut().zip(&mut self.wrong) {
            if said.ring[at].sequence == agreed.sequence {
                said.take(at);
                *wrong += if said.ring[at].digest == agreed.digest { 0 } else { agreed.replies };
            }
        }
        self.agreed[at] = agreed;
    }

    /// The first of those that still lack their replies.
    fn next_vouched(&mut self) -> Option<(Time, SequenceNumber)> {
        while let Some((since, sequence)) = self.vouched.front().copied() {
            if self.agreed[self.slot(sequence)].sequence < sequence {
                return Some((since, sequence));
            }
            self.vouched.pop_front();
        }
        None
    }
}

impl Said {
    /// Notes a word, unless there was one of this batch or of a later one in its place.
    fn hear(&mut self, at: usize, word: Word) -> bool {
        if self.ring[at].sequence >= word.sequence {
            return false;
        }
        self.take(at);
        self.ring[at] = word;
        true
    }

    /// Keeps the replies, unless too many wait: then they count as a digest.
    fn keep(&mut self, at: usize, replies: ReplyTable) {
        let bytes = bytes_of(&replies);
        if self.waiting_bytes + bytes <= WAITING_BYTES_MAX {
            self.waiting_bytes += bytes;
            self.ring[at].replies = Some(Box::new(replies));
        }
    }

    fn take(&mut self, at: usize) -> Option<Box<ReplyTable>> {
        let replies = self.ring[at].replies.take()?;
        self.waiting_bytes -= bytes_of(&replies);
        Some(replies)
    }
}

const fn bytes_of(replies: &ReplyTable) -> usize {
    replies.results.len() + replies.len() * COLUMNS_BYTES
}

#[cfg(test)]
mod tests;
