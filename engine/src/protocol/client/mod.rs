//! The client half of PBFT: what makes a reply quorum, and when and to whom to send again (Castro & Liskov, OSDI'99,
//! section 4.1).
//!
//! Pure, like the replica half: the load generator keeps time and sockets, this keeps one record for each logical
//! client; `matching` counts the replies to one operation, and hands over to `tally` where they are not all alike.
//!
//! Replicas may answer before a batch is committed ([tentatively](crate::settings::options::ExecutionChoice)). Then Q
//! equal replies of one view complete an operation, or f + 1 that are for good (Castro & Liskov, TOCS'02, section
//! 5.1.2): Q - f correct replicas have prepared it in that view, so no later view decides otherwise. Tentative replies
//! of several views prove nothing of the kind: what was prepared in one may be undone in another, and prepared there by
//! too few.
//!
//! Results may come as digests, from all replicas but the [designated] one (Castro's thesis, section 5.1.1), or all
//! replies to a batch as one digest ([`batches`]). Operations
//! that change nothing may be answered [without ordering](ClientTable::with_reads) (section 5.1.3). Two things in that
//! are not as in the thesis:
//!
//! - Operations that are ordered need Q equal replies then, not f + 1. Else the operation may be complete while but one
//!   correct replica has executed it, and a quorum of others answers a later read from an older state (Berger, Reiser
//!   and Bessani, SRDS'21). That takes a correct replica's reply away from an operation which a faulty primary hides
//!   from f of them; they learn of it by the status exchange, and answer when the client asks again.
//! - What is matched is not only a result but also the version of what was read
//!   ([`Application::query`](crate::app::Application::query)). Q replicas may give one result in states between which
//!   it was another: a value that was overwritten and written again. Then one read tells of the second write, and a
//!   later one, by a quorum that has not got there, of what was in between.

use crate::platform::prefetch::prefetch;
use crate::protocol::Reply;
use crate::protocol::planted::Planted;
use crate::quorum::Quorums;
use crate::settings::options::Dissemination;
use crate::types::{ClientId, ReplicaId, Timestamp, View};

pub mod batches;
mod matching;
mod replier;
mod tally;
#[cfg(test)]
mod tests;

use matching::MatchingReplies;
use tally::Needed;

/// What a reply did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyOutcome {
    /// It was the last one that the operation waited for: [`ClientTable::result`] has the result.
    Completed,
    /// It was counted; more are needed.
    Counted,
    /// It was counted, and enough replicas vouch for one result now, but by its digest: nobody has sent the result.
    /// Told once of an operation.
    Vouched,
    /// It belongs to an older operation, or to one that is complete already.
    Stale,
    /// This replica has answered this operation before. The first answer counts.
    Duplicate,
    /// No such client here, no such replica, or a timestamp that was never issued.
    Unknown,
    /// Of a read-only request: replicas answer so differently that no result can get a quorum any more.
    Hopeless,
}

/// The replica that sends the whole result of this operation where the others send digests. Each has its turn, with
/// each client and among them.
#[must_use]
pub const fn designated(client: ClientId, timestamp: Timestamp, n: usize) -> ReplicaId {
    #[allow(clippy::cast_possible_truncation, reason = "less than n, which is at most REPLICAS_MAX")]
    ReplicaId((timestamp.0.wrapping_add(client.0 as u64) % n as u64) as u16)
}

/// Bytes of the version that ends every answer to a read-only request: a number, little endian.
pub const VERSION_BYTES: usize = 8;

/// To whom a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipients {
    /// To the replica that [`ClientTable::primary`] names.
    Primary,
    /// To every replica: the backups forward it, and answer from their caches if it was executed.
    All,
}

/// The outstanding operations of a contiguous range of logical clients, one for each.
#[derive(Debug)]
pub struct ClientTable {
    quorums: Quorums,
    first: ClientId,
    operations: Vec<Operation>,
    /// Read-only requests, if any are sent.
    reads: Vec<Operation>,
    /// How many equal replies complete an operation that is ordered, and a read-only request.
    needed: [Needed; 2],
    /// Each replica's highest reported view.
    views: Vec<View>,
    view: View,
    /// Each replica's replies that contradict what a reply quorum agrees on.
    wrong: Vec<u64>,
}

/// A client's current or last operation, in one line of the cache: every reply goes to that of another client.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Operation {
    /// 0 before the first. The number of a read-only request.
    timestamp: Timestamp,
    replies: MatchingReplies,
}

const _: () = assert!(size_of::<Operation>() == 64);

impl ClientTable {
    /// The clients `first` to `first + count − 1`, none of which has asked for anything.
    #[must_use]
    pub fn new(quorums: Quorums, first: ClientId, count: u32) -> Self {
        Self {
            quorums,
            first,
            operations: (0..count).map(|_| Operation::default()).collect(),
            reads: Vec::new(),
            needed: [quorums.weak(), quorums.quorum()]
                .map(|committed| Needed { committed, tentative: quorums.quorum() }),
            views: vec![View(0); quorums.n()],
            view: View(0),
            wrong: vec![0; quorums.n()],
        }
    }

    /// The same clients, which also send read-only requests. What is ordered needs Q equal replies then, as those do.
    #[must_use]
    pub fn with_reads(self) -> Self {
        let quorum = self.quorums.quorum();
        let reads = self.operations.iter().map(|_| Operation::default()).collect();
        Self { reads, needed: [Needed { committed: quorum, tentative: quorum }; 2], ..self }
    }

    /// Plants a bug, for the simulator to find. Nothing else does.
    pub fn plant(&mut self, planted: Option<Planted>) {
        match planted {
            Some(Planted::WriteQuorumWeak) => self.needed[0].committed = self.quorums.weak(),
            Some(Planted::ReadQuorumWeak) => self.needed[1].committed = self.quorums.weak(),
            Some(Planted::TentativeQuorumWeak) => self.needed[0].tentative = self.quorums.weak(),
            _ => {}
        }
    }

    /// `client` asks for its next operation.
    ///
    /// # Panics
    /// If the client is out of range, has an operation outstanding, or `timestamp` does not rise: these are our own
    /// bugs.
    #[inline]
    pub fn begin(&mut self, client: ClientId, timestamp: Timestamp) {
        self.operations[(client.0 - self.first.0) as usize].begin(timestamp);
    }

    /// `client` asks for something read-only. Returns the request's number; such numbers are apart from timestamps,
    /// which replicas remember.
    ///
    /// # Panics
    /// If the client is out of range or has such a request outstanding.
    pub fn begin_read(&mut self, client: ClientId) -> Timestamp {
        let read = &mut self.reads[(client.0 - self.first.0) as usize];
        read.begin(Timestamp(read.timestamp.0 + 1));
        read.timestamp
    }

    /// `client` waits no longer for its read-only request: it has the operation ordered instead.
    pub fn give_up_read(&mut self, client: ClientId) {
        if let Some(read) = self.reads.get_mut(client.0.wrapping_sub(self.first.0) as usize) {
            read.replies.give_up();
        }
    }

    /// Counts a reply. f + 1 equal results of distinct replicas complete an operation: one of them is correct. Q do
    /// [where there are read-only requests](Self::with_reads), and where some of them are tentative, of one view.
    pub fn on_reply(&mut self, reply: &Reply<'_>) -> ReplyOutcome {
        let Some(operation) = operation_of(&mut self.operations, self.first, &self.quorums, reply) else {
            return ReplyOutcome::Unknown;
        };
        let outcome = operation.count(reply, self.needed[0], Some(&mut self.wrong));
        self.note_view(reply.replica, reply.view);
        outcome
    }

    /// Prefetches what is kept of a client, which is about to be asked for.
    #[inline]
    pub fn prefetch(&self, client: ClientId) {
        if let Some(operation) = self.operations.get(client.0.wrapping_sub(self.first.0) as usize) {
            prefetch(operation);
        }
    }

    /// Takes a reply that enough replicas, `voters` (a bit each), have vouched for [together](batches). Whether it
    /// completes the client's operation.
    #[inline]
    pub fn on_agreed(&mut self, client: ClientId, timestamp: Timestamp, result: &[u8], voters: u64) -> bool {
        let operation = self.operations.get_mut(client.0.wrapping_sub(self.first.0) as usize);
        operation
            .filter(|operation| operation.timestamp == timestamp && timestamp.0 > 0)
            .is_some_and(|operation| operation.replies.agree(voters, result))
    }

    /// How many equal replies complete an operation that is ordered, if all are for good.
    #[must_use]
    pub const fn needed(&self) -> usize {
        self.needed[0].committed
    }

    /// Counts a reply to a read-only request. Q equal ones of distinct replicas complete it: at least one of them is
    /// from a correct replica which has executed whatever was complete before the request was sent, be it that a
    /// quorum has executed it or that a quorum has shown it. Replicas that differ are no liars: they may have come
    /// differently far.
    pub fn on_read_reply(&mut self, reply: &Reply<'_>) -> ReplyOutcome {
        let Some(read) = operation_of(&mut self.reads, self.first, &self.quorums, reply) else {
            return ReplyOutcome::Unknown;
        };
        // Shorter than any answer: this replica gives none.
        let mut outcome = if !reply.is_digest && reply.result.len() < VERSION_BYTES {
            read.abstain(reply)
        } else {
            read.count(reply, self.needed[1], None)
        };
        let open = matches!(outcome, ReplyOutcome::Counted | ReplyOutcome::Vouched);
        if open && read.replies.is_hopeless(self.quorums.n(), self.needed[1].committed) {
            outcome = ReplyOutcome::Hopeless;
        }
        self.note_view(reply.replica, reply.view);
        outcome
    }

    /// A replica tells its view. One that does not exist is ignored.
    #[inline]
    pub fn note_view(&mut self, replica: ReplicaId, view: View) {
        if let Some(highest) = self.views.get_mut(usize::from(replica.0)).filter(|highest| view > **highest) {
            *highest = view;
            self.follow_views();
        }
    }

    /// The result of the last operation of `client`, if it is complete.
    #[must_use]
    pub fn result(&self, client: ClientId) -> Option<&[u8]> {
        self.operations.get(client.0.wrapping_sub(self.first.0) as usize)?.replies.result()
    }

    /// Whether `replica` is of the reply quorum of the last operation of `client`, which is complete.
    #[must_use]
    pub fn agreed(&self, client: ClientId, replica: ReplicaId) -> bool {
        let operation = self.operations.get(client.0.wrapping_sub(self.first.0) as usize);
        operation.is_some_and(|operation| operation.replies.agreed(replica))
    }

    /// The view in which the last operation of `client` is prepared, if it is complete because of that: it may not be
    /// committed yet.
    #[must_use]
    pub fn agreed_in(&self, client: ClientId) -> Option<View> {
        self.operations.get(client.0.wrapping_sub(self.first.0) as usize)?.replies.agreed_in()
    }

    /// What the last read-only request of `client` gave, if it is complete.
    #[must_use]
    pub fn read_result(&self, client: ClientId) -> Option<&[u8]> {
        let answer = self.reads.get(client.0.wrapping_sub(self.first.0) as usize)?.replies.result()?;
        Some(answer.split_at_checked(answer.len().wrapping_sub(VERSION_BYTES)).map_or(&[], |(result, _)| result))
    }

    /// The timestamp of the operation that `client` waits for, if it waits for one.
    #[must_use]
    pub fn outstanding(&self, client: ClientId) -> Option<Timestamp> {
        outstanding(&self.operations, self.first, client)
    }

    /// The number of the read-only request that `client` waits for, if it waits for one.
    #[must_use]
    pub fn outstanding_read(&self, client: ClientId) -> Option<Timestamp> {
        outstanding(&self.reads, self.first, client)
    }

    /// The replica that is probably the primary. Follows the views that f + 1 replicas have reached, so that no single
    /// one can lead the clients astray.
    #[must_use]
    pub const fn primary(&self) -> ReplicaId {
        self.quorums.primary(self.view)
    }

    /// To whom the request goes when it is sent for the time number `attempt`, counted from 0.
    #[must_use]
    pub const fn send_to(dissemination: Dissemination, attempt: u32) -> Recipients {
        match (dissemination, attempt) {
            (Dissemination::Inline, 0) => Recipients::Primary,
            (Dissemination::Inline | Dissemination::Digest, _) => Recipients::All,
        }
    }

    /// How long after sending number `attempt`, counted from 0, the request is sent again: `first_ns`, doubling up to
    /// `longest_ns`.
    #[must_use]
    pub const fn retransmit_after_ns(attempt: u32, first_ns: u64, longest_ns: u64) -> u64 {
        let factor = 1 << if attempt < 32 { attempt } else { 32 };
        let wait = first_ns.saturating_mul(factor);
        if wait < longest_ns { wait } else { longest_ns }
    }

    /// How long after its first sending a request without a reply quorum may be sent to every replica as a probe, of
    /// which a client has one under way: a quarter of the first pause. It does not adapt to how slow the cluster is, so
    /// that backups hear of some request in time to notice a primary that delays all of them alike.
    #[must_use]
    pub const fn probe_after_ns(first_ns: u64) -> u64 {
        first_ns / 4
    }

    /// For each replica, how many of its replies contradict what a reply quorum agrees on.
    #[must_use]
    pub fn wrong(&self) -> &[u64] {
        &self.wrong
    }

    /// The view guess is the highest view that f + 1 replicas report to have reached.
    #[cold]
    fn follow_views(&mut self) {
        let reached = |view: View| self.views.iter().filter(|reported| **reported >= view).count();
        let weak = self.quorums.weak();
        if let Some(view) = self.views.iter().copied().filter(|&view| reached(view) >= weak).max() {
            self.view = view;
        }
    }
}

/// The operation that a reply may be about.
#[inline]
fn operation_of<'a>(
    operations: &'a mut [Operation],
    first: ClientId,
    quorums: &Quorums,
    reply: &Reply<'_>,
) -> Option<&'a mut Operation> {
    let operation = operations.get_mut(reply.client.0.wrapping_sub(first.0) as usize)?;
    let known = usize::from(reply.replica.0) < quorums.n();
    (known && reply.timestamp.0 > 0 && reply.timestamp <= operation.timestamp).then_some(operation)
}

fn outstanding(operations: &[Operation], first: ClientId, client: ClientId) -> Option<Timestamp> {
    let operation = operations.get(client.0.wrapping_sub(first.0) as usize)?;
    (!operation.replies.is_over() && operation.timestamp.0 > 0).then_some(operation.timestamp)
}

impl Operation {
    #[inline]
    fn begin(&mut self, timestamp: Timestamp) {
        assert!(self.replies.is_over() || self.timestamp.0 == 0, "one outstanding operation a client");
        assert!(timestamp > self.timestamp, "timestamps rise");
        self.timestamp = timestamp;
        self.replies.begin();
    }

    fn abstain(&mut self, reply: &Reply<'_>) -> ReplyOutcome {
        if reply.timestamp < self.timestamp {
            return ReplyOutcome::Stale;
        }
        self.replies.abstain(reply)
    }

    #[inline]
    fn count(&mut self, reply: &Reply<'_>, needed: Needed, wrong: Option<&mut [u64]>) -> ReplyOutcome {
        if reply.timestamp < self.timestamp {
            return ReplyOutcome::Stale;
        }
        self.replies.count(reply, needed, wrong)
    }
}
