//! The client half of PBFT: what makes a reply quorum, and when and to whom to send again (Castro & Liskov, OSDI'99,
//! section 4.1).
//!
//! Pure, like the replica half: the load generator keeps time and sockets, this keeps one record for each logical
//! client.

use crate::protocol::Reply;
use crate::quorum::Quorums;
use crate::settings::options::Dissemination;
use crate::types::{ClientId, ReplicaId, Timestamp, View};

/// What a reply did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyOutcome {
    /// It was the last one that the operation waited for: [`ClientTable::result`] has the result.
    Completed,
    /// It was counted; more are needed.
    Counted,
    /// It belongs to an older operation, or to one that is complete already.
    Stale,
    /// This replica has answered this operation before. The first answer counts.
    Duplicate,
    /// No such client here, no such replica, or a timestamp that was never issued.
    Unknown,
}

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
    /// Each replica's highest reported view.
    views: Vec<View>,
    view: View,
    /// Each replica's replies that contradict what f + 1 replicas agree on.
    wrong: Vec<u64>,
}

/// A client's current or last operation. Buffers are kept from one operation to the next.
#[derive(Debug, Default)]
struct Operation {
    /// 0 before the first.
    timestamp: Timestamp,
    complete: bool,
    /// Who answered.
    answered: u64,
    /// Who answered with `result`.
    agreed: u64,
    /// The first result, or the agreed one once the operation is complete.
    result: Vec<u8>,
    /// Results that differ from it, with who gave them. Empty unless a replica lies.
    rivals: Vec<Rival>,
}

#[derive(Debug)]
struct Rival {
    voters: u64,
    result: Vec<u8>,
}

impl ClientTable {
    /// The clients `first` to `first + count − 1`, none of which has asked for anything.
    #[must_use]
    pub fn new(quorums: Quorums, first: ClientId, count: u32) -> Self {
        Self {
            quorums,
            first,
            operations: (0..count).map(|_| Operation::default()).collect(),
            views: vec![View(0); quorums.n()],
            view: View(0),
            wrong: vec![0; quorums.n()],
        }
    }

    /// `client` asks for its next operation.
    ///
    /// # Panics If the client is out of range, has an operation outstanding, or `timestamp` does not rise: these are
    /// our own bugs.
    pub fn begin(&mut self, client: ClientId, timestamp: Timestamp) {
        let operation = &mut self.operations[(client.0 - self.first.0) as usize];
        assert!(operation.complete || operation.timestamp.0 == 0, "one outstanding operation a client");
        assert!(timestamp > operation.timestamp, "timestamps rise");
        operation.timestamp = timestamp;
        operation.complete = false;
        operation.answered = 0;
        operation.agreed = 0;
        operation.rivals.clear();
    }

    /// Counts a reply. f + 1 equal results of distinct replicas complete an operation: one of them is correct.
    pub fn on_reply(&mut self, reply: &Reply<'_>) -> ReplyOutcome {
        let index = reply.client.0.wrapping_sub(self.first.0) as usize;
        let replica = usize::from(reply.replica.0);
        let Some(operation) = self.operations.get_mut(index) else { return ReplyOutcome::Unknown };
        if replica >= self.quorums.n() || reply.timestamp.0 == 0 || reply.timestamp > operation.timestamp {
            return ReplyOutcome::Unknown;
        }
        let outcome = operation.count(reply, self.quorums.weak(), &mut self.wrong);
        if reply.view > self.views[replica] {
            self.views[replica] = reply.view;
            self.follow_views();
        }
        outcome
    }

    /// The result of the last operation of `client`, if it is complete.
    #[must_use]
    pub fn result(&self, client: ClientId) -> Option<&[u8]> {
        let operation = self.operations.get(client.0.wrapping_sub(self.first.0) as usize)?;
        (operation.complete).then_some(&operation.result)
    }

    /// Whether `replica` is of the reply quorum of the last operation of `client`, which is complete.
    #[must_use]
    pub fn agreed(&self, client: ClientId, replica: ReplicaId) -> bool {
        let operation = self.operations.get(client.0.wrapping_sub(self.first.0) as usize);
        operation.is_some_and(|operation| operation.complete && operation.agreed >> replica.0 & 1 == 1)
    }

    /// The timestamp of the operation that `client` waits for, if it waits for one.
    #[must_use]
    pub fn outstanding(&self, client: ClientId) -> Option<Timestamp> {
        let operation = self.operations.get(client.0.wrapping_sub(self.first.0) as usize)?;
        (!operation.complete && operation.timestamp.0 > 0).then_some(operation.timestamp)
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

    /// For each replica, how many of its replies contradict what f + 1 replicas agree on.
    #[must_use]
    pub fn wrong(&self) -> &[u64] {
        &self.wrong
    }

    /// The view guess is the highest view that f + 1 replicas report to have reached.
    fn follow_views(&mut self) {
        let reached = |view: View| self.views.iter().filter(|reported| **reported >= view).count();
        let weak = self.quorums.weak();
        if let Some(view) = self.views.iter().copied().filter(|&view| reached(view) >= weak).max() {
            self.view = view;
        }
    }
}

impl Operation {
    fn count(&mut self, reply: &Reply<'_>, weak: usize, wrong: &mut [u64]) -> ReplyOutcome {
        let voter = 1 << reply.replica.0;
        if reply.timestamp < self.timestamp {
            return ReplyOutcome::Stale;
        }
        if self.answered & voter != 0 {
            return ReplyOutcome::Duplicate;
        }
        self.answered |= voter;
        if self.complete {
            // Late, but still evidence.
            wrong[usize::from(reply.replica.0)] += u64::from(self.result != reply.result);
            return ReplyOutcome::Stale;
        }
        if self.agreed == 0 {
            self.result.clear();
            self.result.extend_from_slice(reply.result);
        }
        let agree = if self.agreed == 0 || self.result == reply.result {
            self.agreed |= voter;
            self.agreed
        } else {
            self.count_rival(reply.result, voter)
        };
        if (agree.count_ones() as usize) < weak {
            return ReplyOutcome::Counted;
        }
        self.complete(agree, wrong);
        ReplyOutcome::Completed
    }

    /// Counts a result that differs from the first one. Cold: some replica lies.
    #[cold]
    fn count_rival(&mut self, result: &[u8], voter: u64) -> u64 {
        if let Some(rival) = self.rivals.iter_mut().find(|rival| rival.result == result) {
            rival.voters |= voter;
            return rival.voters;
        }
        self.rivals.push(Rival { voters: voter, result: result.to_vec() });
        voter
    }

    /// The result of the replicas in `agree` is the operation's. Whoever said otherwise was wrong.
    fn complete(&mut self, agree: u64, wrong: &mut [u64]) {
        self.complete = true;
        self.agreed = agree;
        let contradict = self.answered & !agree;
        if contradict == 0 {
            return;
        }
        for (replica, wrong) in wrong.iter_mut().enumerate() {
            *wrong += contradict >> replica & 1;
        }
        if let Some(rival) = self.rivals.iter_mut().find(|rival| rival.voters == agree) {
            std::mem::swap(&mut self.result, &mut rival.result);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(n: usize) -> ClientTable {
        ClientTable::new(Quorums::new(n).unwrap(), ClientId(10), 2)
    }

    fn reply(replica: u16, timestamp: u64, result: &[u8]) -> Reply<'_> {
        let (replica, timestamp) = (ReplicaId(replica), Timestamp(timestamp));
        Reply { replica, view: View(0), client: ClientId(11), timestamp, result }
    }

    #[test]
    fn f_plus_one_equal_results_of_distinct_replicas_complete() {
        for (n, weak) in [(4, 2), (5, 2), (6, 2), (7, 3), (10, 4)] {
            let mut table = table(n);
            table.begin(ClientId(11), Timestamp(1));
            for replica in 0..weak - 1 {
                assert_eq!(table.on_reply(&reply(replica, 1, b"ok")), ReplyOutcome::Counted, "n = {n}");
                assert_eq!(table.on_reply(&reply(replica, 1, b"ok")), ReplyOutcome::Duplicate, "n = {n}");
            }
            assert_eq!(table.result(ClientId(11)), None);
            assert_eq!(table.on_reply(&reply(weak - 1, 1, b"ok")), ReplyOutcome::Completed, "n = {n}");
            assert_eq!(table.result(ClientId(11)), Some(&b"ok"[..]));
            assert_eq!(table.on_reply(&reply(weak, 1, b"ok")), ReplyOutcome::Stale, "n = {n}");
            assert_eq!(table.on_reply(&reply(weak, 1, b"ok")), ReplyOutcome::Duplicate, "n = {n}");
        }
    }

    #[test]
    fn liars_do_not_complete_and_are_counted_even_when_late() {
        let mut table = table(7);
        table.begin(ClientId(11), Timestamp(1));
        assert_eq!(table.on_reply(&reply(6, 1, b"lie")), ReplyOutcome::Counted);
        assert_eq!(table.on_reply(&reply(0, 1, b"ok")), ReplyOutcome::Counted);
        assert_eq!(table.on_reply(&reply(1, 1, b"ok")), ReplyOutcome::Counted);
        assert_eq!(table.on_reply(&reply(6, 1, b"ok")), ReplyOutcome::Duplicate);
        assert_eq!(table.on_reply(&reply(2, 1, b"ok")), ReplyOutcome::Completed);
        assert_eq!(table.result(ClientId(11)), Some(&b"ok"[..]));
        assert_eq!(table.on_reply(&reply(5, 1, b"late lie")), ReplyOutcome::Stale);
        assert_eq!(table.on_reply(&reply(3, 1, b"ok")), ReplyOutcome::Stale);
        assert_eq!(table.wrong(), [0, 0, 0, 0, 0, 1, 1]);

        // The next operation starts clean.
        table.begin(ClientId(11), Timestamp(5));
        assert_eq!(table.on_reply(&reply(0, 1, b"ok")), ReplyOutcome::Stale);
        assert_eq!(table.on_reply(&reply(0, 5, b"")), ReplyOutcome::Counted);
        assert_eq!(table.on_reply(&reply(6, 5, b"")), ReplyOutcome::Counted);
        assert_eq!(table.on_reply(&reply(1, 5, b"")), ReplyOutcome::Completed);
        assert_eq!(table.result(ClientId(11)), Some(&b""[..]));
    }

    #[test]
    fn what_was_never_asked_for_is_unknown() {
        let mut table = table(4);
        assert_eq!(table.on_reply(&reply(0, 0, b"")), ReplyOutcome::Unknown);
        assert_eq!(table.on_reply(&reply(0, 1, b"")), ReplyOutcome::Unknown);
        table.begin(ClientId(11), Timestamp(3));
        assert_eq!(table.on_reply(&reply(0, 4, b"")), ReplyOutcome::Unknown);
        assert_eq!(table.on_reply(&reply(4, 3, b"")), ReplyOutcome::Unknown);
        for client in [0, 9, 12, u32::MAX] {
            let client = ClientId(client);
            assert_eq!(table.on_reply(&Reply { client, ..reply(0, 3, b"") }), ReplyOutcome::Unknown);
            assert_eq!(table.result(client), None);
        }
        assert_eq!(table.on_reply(&reply(0, 2, b"")), ReplyOutcome::Stale);
    }

    #[test]
    fn the_primary_guess_follows_f_plus_one_replicas() {
        let mut table = table(4);
        table.begin(ClientId(11), Timestamp(1));
        let in_view = |replica, view| Reply { view: View(view), ..reply(replica, 1, b"") };
        table.on_reply(&in_view(3, u64::MAX));
        assert_eq!(table.primary(), ReplicaId(0));
        table.on_reply(&in_view(2, 5));
        assert_eq!(table.primary(), ReplicaId(1));
        // An old view moves nobody back.
        table.on_reply(&in_view(1, 2));
        assert_eq!(table.primary(), ReplicaId(1));
        table.begin(ClientId(11), Timestamp(2));
        table.on_reply(&Reply { timestamp: Timestamp(2), ..in_view(1, 6) });
        assert_eq!(table.primary(), ReplicaId(2));
    }

    #[test]
    fn retransmissions_go_to_all_and_back_off() {
        let to = |dissemination| [0, 1, 9].map(|attempt| ClientTable::send_to(dissemination, attempt));
        assert_eq!(to(Dissemination::Inline), [Recipients::Primary, Recipients::All, Recipients::All]);
        assert_eq!(to(Dissemination::Digest), [Recipients::All; 3]);
        let waits = |attempt| ClientTable::retransmit_after_ns(attempt, 250, 8000);
        assert_eq!((waits(0), waits(2), waits(5), waits(u32::MAX)), (250, 1000, 8000, 8000));
        assert_eq!(ClientTable::retransmit_after_ns(40, u64::MAX / 2, u64::MAX), u64::MAX);
    }

    #[test]
    #[should_panic(expected = "one outstanding operation")]
    fn a_client_has_one_outstanding_operation() {
        let mut table = table(4);
        table.begin(ClientId(11), Timestamp(1));
        table.begin(ClientId(11), Timestamp(2));
    }
}
