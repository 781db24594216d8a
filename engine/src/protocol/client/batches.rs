//! Replies to whole batches, of which one replica sends all and the others a digest.
//!
//! A client node stands for many logical clients, and what a batch gives them is the same at every correct replica.
//! Castro's thesis (section 5.1.1) has one replica send the result of an operation and the others its digest; here the
//! same is done with all replies to a batch over one connection, so that results of a few bytes gain by it, too. f + 1
//! equal digests by distinct replicas prove every reply that the digest is of: one of those replicas is correct.
//!
//! Unlike in the thesis it is the client node that designates the replier, and another one if that one fails
//! (`replier`). Replies of a batch that never agree, or never come, are of no use; its operations are sent again like
//! others that lack an answer, and what replicas say to that is whole and of no batch.
//!
//! What one replica says takes the place of nothing but what it has said itself, a whole ring of batches ago.

use std::collections::VecDeque;

use super::replier::{AgreedOn, Missing, Replier};
use crate::limits::{READ_CHUNK_BYTES, REPLIES_BYTES_MAX};
use crate::protocol::planted::Planted;
use crate::protocol::sets::{members, set_of, size};
use crate::requests::{BatchForm, ReplyTable};
use crate::types::{Digest, ReplicaId, SequenceNumber, Time};

/// Most bytes of replies of one replica that wait for others' digests, but for the last ones.
const WAITING_BYTES_MAX: usize = 4 * REPLIES_BYTES_MAX;
/// Bytes of a reply's columns in memory.
const COLUMNS_BYTES: usize = 16;

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
    /// Batches that lack nothing but the replies, in order of time.
    vouched: VecDeque<Vouched>,
    replier: Replier,
    /// Each replica's replies that contradict what was agreed on.
    wrong: Vec<u64>,
    /// How many batches' replies were missing.
    missing: u64,
}

/// What one replica has said, in a ring by sequence number.
#[derive(Debug)]
struct Said {
    ring: Vec<Word>,
    /// Of which batches it has sent replies, in order; not all of them still wait.
    waiting: VecDeque<SequenceNumber>,
    /// Bytes of memory of the replies in the ring.
    waiting_bytes: usize,
}

#[derive(Clone, Debug, Default)]
struct Word {
    sequence: SequenceNumber,
    digest: Digest,
    replies: Option<Box<ReplyTable>>,
    /// Whether replies were sent, and not kept for as long as it would have taken.
    dropped: bool,
    heard: Heard,
}

/// A batch that has its votes, since when and by whom (a bit each), and lacks its replies.
#[derive(Clone, Copy, Debug)]
struct Vouched {
    since: Time,
    sequence: SequenceNumber,
    voters: u64,
    /// Whether one of them has sent the replies, which were not kept.
    dropped: bool,
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
        let said = || Said { ring: vec![Word::default(); length], waiting: VecDeque::new(), waiting_bytes: 0 };
        Self {
            needed,
            said: (0..n).map(|_| said()).collect(),
            agreed: vec![Agreed::default(); length],
            vouched: VecDeque::new(),
            replier: Replier::new(n),
            wrong: vec![0; n],
            missing: 0,
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
        self.replier.on_sequence(now, replica, sequence, replies.is_some() && !short);
        let at = self.slot(sequence);
        if !self.said[usize::from(replica.0)].hear(at, Word { sequence, digest, replies: None, dropped: false, heard })
        {
            return BatchOutcome::Stale;
        }
        let agreed = self.agreed[at];
        if agreed.sequence >= sequence {
            if agreed.sequence == sequence && agreed.digest != digest {
                self.wrong[usize::from(replica.0)] += agreed.replies;
                self.replier.on_fault(now, replica);
            }
            return BatchOutcome::Stale;
        }
        if let Some(replies) = replies {
            self.said[usize::from(replica.0)].keep(sequence, replies);
        }
        let voters = self.voters(at, sequence, &digest);
        let votes = size(voters);
        if votes < self.needed {
            return BatchOutcome::Counted;
        }
        let sender = members(voters).find(|sender| self.word(*sender, at).replies.is_some());
        let Some(replies) = sender.and_then(|sender| self.said[usize::from(sender.0)].take(at)) else {
            if votes == self.needed {
                let dropped = members(voters).any(|voter| self.word(voter, at).dropped);
                self.vouched.push_back(Vouched { since: now, sequence, voters, dropped });
            }
            return BatchOutcome::Counted;
        };
        self.agree(now, at, Agreed { sequence, digest, replies: replies.len() as u64 });
        if !short && let Some(first) = members(voters).min_by_key(|voter| self.word(*voter, at).heard.counted) {
            self.replier.on_agreed(now, AgreedOn { voters, first, late: votes > self.needed }, primary);
        }
        BatchOutcome::Agreed { replies: *replies, voters }
    }

    /// When those of `voters`, a bit each, were heard that have said something of the batch at `sequence`, in the order
    /// in which that was counted.
    #[must_use]
    pub fn heard(&self, voters: u64, sequence: SequenceNumber) -> Vec<(ReplicaId, Heard)> {
        let words = members(voters).map(|voter| (voter, self.word(voter, self.slot(sequence))));
        let mut heard: Vec<_> =
            words.filter(|(_, word)| word.sequence == sequence).map(|(voter, word)| (voter, word.heard)).collect();
        heard.sort_by_key(|(_, heard)| heard.counted);
        heard
    }

    /// The time until which operations lack an answer, if there is a batch that has had its votes for `pause_ns` and
    /// nobody has sent its replies: whatever was sent by then and waits should be sent again. Another replica is to
    /// send replies from now on.
    pub fn take_missing(&mut self, now: Time, pause_ns: u64, primary: ReplicaId) -> Option<Time> {
        let mut missing = None;
        while let Some(Vouched { since, sequence, voters, dropped }) =
            self.next_vouched().filter(|vouched| vouched.since.after(pause_ns) <= now)
        {
            self.vouched.pop_front();
            if !dropped {
                self.replier.on_missing(now, Missing { since, sequence, voters, pause_ns }, primary);
            }
            self.missing += 1;
            missing = Some(since);
        }
        missing
    }

    /// When [`take_missing`](Self::take_missing) will find something, unless it comes before.
    pub fn next_due(&mut self, pause_ns: u64) -> Option<Time> {
        self.next_vouched().map(|vouched| vouched.since.after(pause_ns))
    }

    /// What to tell which replica now: how replies to batches are wanted from it.
    pub fn tell(&mut self, now: Time) -> Option<(ReplicaId, BatchForm)> {
        self.replier.tell(now)
    }

    /// How many batches had their votes, and lacked their replies for so long that they were asked for again.
    #[must_use]
    pub const fn missing(&self) -> u64 {
        self.missing
    }

    /// How often another replica was designated to send replies, after the first one.
    #[must_use]
    pub const fn replier_changes(&self) -> u64 {
        self.replier.changes()
    }

    /// For each replica, how many of its replies contradict what was agreed on.
    #[must_use]
    pub fn wrong(&self) -> &[u64] {
        &self.wrong
    }

    const fn slot(&self, sequence: SequenceNumber) -> usize {
        place(sequence, self.agreed.len())
    }

    fn word(&self, replica: ReplicaId, at: usize) -> &Word {
        &self.said[usize::from(replica.0)].ring[at]
    }

    /// Who says this, a bit each.
    fn voters(&self, at: usize, sequence: SequenceNumber, digest: &Digest) -> u64 {
        let says = |said: &Said| said.ring[at].sequence == sequence && said.ring[at].digest == *digest;
        let said = (0..).map(ReplicaId).zip(&self.said).filter(|(_, said)| says(said));
        said.fold(0, |voters, (replica, _)| voters | set_of(replica))
    }

    fn agree(&mut self, now: Time, at: usize, agreed: Agreed) {
        for (replica, said) in (0..).map(ReplicaId).zip(&mut self.said) {
            if said.ring[at].sequence == agreed.sequence {
                said.take(at);
                if said.ring[at].digest != agreed.digest {
                    self.wrong[usize::from(replica.0)] += agreed.replies;
                    self.replier.on_fault(now, replica);
                }
            }
        }
        self.agreed[at] = agreed;
    }

    /// The first of those that still lack their replies.
    fn next_vouched(&mut self) -> Option<Vouched> {
        while let Some(vouched) = self.vouched.front().copied() {
            if self.agreed[self.slot(vouched.sequence)].sequence < vouched.sequence {
                return Some(vouched);
            }
            self.vouched.pop_front();
        }
        None
    }
}

/// Where the batch at `sequence` has its place in a ring of this length.
#[allow(clippy::cast_possible_truncation, reason = "less than the ring's length")]
const fn place(sequence: SequenceNumber, length: usize) -> usize {
    (sequence.0 % length as u64) as usize
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

    /// Keeps the replies of the batch at `sequence`. Those that have waited longest count as a digest from then on, if
    /// there are too many.
    fn keep(&mut self, sequence: SequenceNumber, replies: ReplyTable) {
        let at = self.slot(sequence);
        self.waiting_bytes += bytes_of(&replies);
        self.ring[at].replies = Some(Box::new(replies));
        self.waiting.push_back(sequence);
        while self.waiting.len() > 1 && (self.waiting_bytes > WAITING_BYTES_MAX || self.waiting.len() > self.ring.len())
        {
            let Some(oldest) = self.waiting.pop_front() else { return };
            let at = self.slot(oldest);
            if self.ring[at].sequence == oldest && self.take(at).is_some() {
                self.ring[at].dropped = true;
            }
        }
    }

    const fn slot(&self, sequence: SequenceNumber) -> usize {
        place(sequence, self.ring.len())
    }

    fn take(&mut self, at: usize) -> Option<Box<ReplyTable>> {
        let replies = self.ring[at].replies.take()?;
        self.waiting_bytes -= bytes_of(&replies);
        Some(replies)
    }
}

/// Bytes of memory that replies keep: results are slices of what was read.
const fn bytes_of(replies: &ReplyTable) -> usize {
    READ_CHUNK_BYTES + replies.results.len() + replies.len() * COLUMNS_BYTES
}

#[cfg(test)]
mod tests;
