//! Replies to whole batches: one replica sends them, the others their digest, and clients say who.

use hippodrome_engine::app::faulty::falsified;
use hippodrome_engine::protocol::client::batches::{BatchOutcome, BatchReply, Heard};
use hippodrome_engine::requests::{BatchForm, ReplyTable};
use hippodrome_engine::types::{ClientId, ReplicaId, SequenceNumber, Time, View};
use hippodrome_engine::wire::batch_digest;

use super::event::{BatchWord, Event};
use super::{Endpoint, World};

/// How long after they have their votes the replies to a batch are missing, in parts of the pause between attempts.
const MISSING_PART: u64 = 4;

impl World<'_> {
    /// A replica answers a batch, as its clients have told it to.
    pub(super) fn reply_to_batch(&mut self, at: usize, view: View, sequence: SequenceNumber, mut replies: ReplyTable) {
        let replica = &self.replicas[at];
        let (from, honest, twin) = (replica.id, replica.is_honest(), replica.twin);
        let corrupts = replica.corrupts_replies();
        if honest {
            for index in 0..replies.len() {
                let (client, timestamp) = (replies.clients[index], replies.timestamps[index]);
                self.checks.replied(from, client, timestamp, replies.result(index), false);
            }
        }
        // A liar lies, or vouches for what is right and withholds it.
        let withholds = corrupts && self.replicas[at].random.chance(300);
        if corrupts {
            self.coverage.lies += 1;
        }
        if corrupts && !withholds {
            replies = falsified(&replies);
        }
        let Some(digest) = batch_digest(&replies) else { return };
        let form = self.replicas[at].process.as_ref().map_or(BatchForm::Whole, |process| process.form);
        let whole = form == BatchForm::Whole || is_short(sequence);
        let replies = (whole && !withholds).then_some(replies);
        if !self.twins.deal(from.0, twin, Endpoint::CLIENTS) {
            return;
        }
        let sender = Endpoint::replica(from, twin);
        for arrival in self.network.arrivals(self.now, sender, Endpoint::CLIENTS).into_iter().flatten() {
            let word = BatchWord { from, view, sequence, digest, replies: replies.clone() };
            self.queue.push(arrival, Event::BatchReply(word));
        }
    }

    /// What a replica says of a batch arrives.
    pub(super) fn on_batch_reply(&mut self, word: BatchWord) {
        let BatchWord { from: replica, view, sequence, digest, replies } = word;
        self.coverage.batch_digests += u64::from(replies.is_none());
        self.clients.table.note_view(replica, view);
        let heard = Heard { read: Time(self.now), counted: Time(self.now) };
        let short = is_short(sequence);
        let reply = BatchReply { replica, sequence, digest, replies, short, heard };
        let primary = self.clients.table.primary();
        let outcome = self.clients.batches.on_reply(reply, primary);
        self.tell_how_to_answer();
        match outcome {
            BatchOutcome::Agreed { replies, voters } => {
                for index in 0..replies.len() {
                    let (client, timestamp) = (replies.clients[index], replies.timestamps[index]);
                    if self.clients.table.on_agreed(client, timestamp, replies.result(index), voters) {
                        self.complete(client, timestamp);
                    }
                }
            }
            BatchOutcome::Counted => {
                if let Some(due) = self.clients.batches.next_due(self.missing_after_ns()) {
                    self.queue.push(due.0.max(self.now), Event::Missing);
                }
            }
            BatchOutcome::Stale => {}
        }
    }

    /// Everybody who waits asks again, if a batch has its votes and not its replies for too long.
    pub(super) fn ask_for_missing(&mut self) {
        let (pause_ns, primary) = (self.missing_after_ns(), self.clients.table.primary());
        let missing = self.clients.batches.take_missing(Time(self.now), pause_ns, primary);
        if let Some(due) = self.clients.batches.next_due(pause_ns) {
            self.queue.push(due.0, Event::Missing);
        }
        if missing.is_none() {
            return;
        }
        self.coverage.missing_replies += 1;
        self.tell_how_to_answer();
        for client in (0..self.plan.clients.count).map(ClientId) {
            if self.clients.table.outstanding(client).is_some()
                && let Some(request) = self.clients.request(client).cloned()
            {
                (0..).take(self.plan.replicas).map(ReplicaId).for_each(|to| self.ask(to, &request));
            }
        }
    }

    /// A replica is told how to answer batches.
    pub(super) fn on_answering(&mut self, to: usize, form: BatchForm) {
        if let Some(process) = &mut self.replicas[to].process {
            process.form = form;
        }
    }

    fn tell_how_to_answer(&mut self) {
        while let Some((to, form)) = self.clients.batches.tell(Time(self.now)) {
            self.ask_by(to, |to| Event::Answering { to, form });
        }
    }

    const fn missing_after_ns(&self) -> u64 {
        self.plan.clients.retry_ns / MISSING_PART
    }
}

/// Whether every replica sends the replies to this batch. In so small a world none are long; so some are said to be.
const fn is_short(sequence: SequenceNumber) -> bool {
    sequence.0.is_multiple_of(4)
}
