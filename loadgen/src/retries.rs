//! When one thread's requests are sent again, and which one is a probe. Pure: time is an argument.
//!
//! A request without a reply quorum is sent again to everybody after the patience of its sending. The first patience
//! adapts to the usual latency; it is worked out when somebody looks, so that it shrinks for all who wait as soon as
//! the cluster is quick again. A patience that adapts has a blind spot: a primary that delays everything evenly is
//! never found wanting by it. So one request at a time, the oldest, is sent to everybody after a fixed time, as a
//! probe: the backups learn that it exists, and can time the primary.
//!
//! Where results come as digests, an operation may have its votes while the replica that was to send the result is
//! down. That is no sign of a busy cluster: it is sent again after a pause of one usual latency, and the replicas'
//! caches answer whole. The pause is that short so that it does not feed itself: with the replicas that may be faulty,
//! fewer than one operation in three has to wait for it, so that the usual latency at most doubles.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use hippodrome_engine::protocol::client::ClientTable;
use hippodrome_engine::types::{Time, nanos};

use crate::options::Retransmission;

/// The shortest pause before a result is asked for whose votes are complete: less than that is a hiccup of the machine.
const RESULT_AFTER_MIN_NS: u64 = 5_000_000;

/// The same for the replies to a whole batch, for want of which many operations are sent again.
const REPLIES_AFTER_MIN_NS: u64 = 20_000_000;

/// An operation that was sent once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sent {
    at: Time,
    client: u32,
    timestamp: u64,
}

/// A retransmission that falls due unless the operation completes before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Retry {
    due: Time,
    /// Whose operation, by its index in the thread.
    pub(crate) client: u32,
    /// Which of its operations.
    pub(crate) timestamp: u64,
    /// Which sending this will be; the first one has number 0.
    pub(crate) attempt: u32,
    /// It is asked for the result, which alone is missing. This is beside the sendings that time brings about.
    for_result: bool,
}

/// What may have to be sent again.
#[derive(Debug)]
pub(crate) struct Retries {
    first_ns: u64,
    longest_ns: u64,
    /// Moving average of the time from sending to the reply quorum.
    usual_ns: u64,
    /// Operations that were sent once, in order of time.
    sent: VecDeque<Sent>,
    /// Operations that were sent again.
    again: BinaryHeap<Reverse<Retry>>,
    /// Operations that lack nothing but the result, since when, in order of time.
    vouched: VecDeque<Sent>,
    /// What was sent until then was sent again because replies were missing, and when all of it was that had been sent
    /// before.
    asked: Option<(Time, Time)>,
    /// The operation that was sent to everybody as a probe and is not complete: its client and timestamp.
    probe: Option<(u32, u64)>,
}

impl Retries {
    /// Nothing was sent yet.
    pub(crate) fn new(retransmission: Retransmission) -> Self {
        let (first_ns, longest_ns) = (nanos(retransmission.first), nanos(retransmission.longest));
        let (sent, again, vouched) = (VecDeque::new(), BinaryHeap::new(), VecDeque::new());
        Self {
            first_ns,
            longest_ns: longest_ns.max(first_ns),
            usual_ns: 0,
            sent,
            again,
            vouched,
            asked: None,
            probe: None,
        }
    }

    /// An operation is sent for the first time. Times do not go backwards.
    pub(crate) fn on_sent(&mut self, at: Time, client: u32, timestamp: u64) {
        self.sent.push_back(Sent { at, client, timestamp });
    }

    /// Enough replicas vouch for the result of an operation, and none has sent it. Times do not go backwards.
    pub(crate) fn on_vouched(&mut self, at: Time, client: u32, timestamp: u64) {
        self.vouched.push_back(Sent { at, client, timestamp });
    }

    /// An operation is complete, so long after it was sent.
    pub(crate) fn on_complete(&mut self, client: u32, timestamp: u64, took_ns: u64) {
        self.usual_ns = self.usual_ns - self.usual_ns / 256 + took_ns / 256;
        if self.probe == Some((client, timestamp)) {
            self.probe = None;
        }
    }

    /// Appends the operations that are to be sent again now. `waits` says whether a client still waits for an
    /// operation. What was sent until `missing` may be of batches that lack their replies, which enough replicas vouch
    /// for, and is sent again at once, to everybody.
    pub(crate) fn take_due(
        &mut self,
        now: Time,
        missing: Option<Time>,
        waits: impl Fn(u32, u64) -> bool,
        due: &mut Vec<Retry>,
    ) {
        self.forget_complete(&waits);
        let patience_ns = self.patience_ns(0);
        while let Some(Sent { at, client, timestamp }) = self.sent.front().copied() {
            if waits(client, timestamp) {
                if at.after(patience_ns) > now {
                    break;
                }
                due.push(Retry { due: now, client, timestamp, attempt: 1, for_result: false });
            }
            self.sent.pop_front();
        }
        while let Some(Reverse(retry)) = self.again.peek().copied().filter(|Reverse(retry)| retry.due <= now) {
            self.again.pop();
            if waits(retry.client, retry.timestamp) {
                due.push(retry);
            }
        }
        if let Some(until) = missing {
            self.ask_for_missing(now, until, &waits, due);
        }
        let pause_ns = self.result_after_ns();
        while let Some(Sent { at, client, timestamp }) = self.vouched.front().copied() {
            if waits(client, timestamp) {
                if at.after(pause_ns) > now {
                    break;
                }
                due.push(Retry { due: now, client, timestamp, attempt: 1, for_result: true });
            }
            self.vouched.pop_front();
        }
    }

    /// Appends what was sent until `until` and waits. Once all of that was asked for, only what was sent later is,
    /// until a batch that was vouched for since then lacks its replies: whoever was asked may not have executed it
    /// before.
    fn ask_for_missing(&mut self, now: Time, until: Time, waits: &impl Fn(u32, u64) -> bool, due: &mut Vec<Retry>) {
        let asked = self.asked.filter(|(_, at)| until <= *at);
        let sent = self.sent.iter().filter(|sent| asked.map(|(asked, _)| asked) < Some(sent.at) && sent.at <= until);
        let sent = sent.map(|sent| (sent.client, sent.timestamp));
        let again = self.again.iter().filter(|_| asked.is_none()).map(|Reverse(retry)| (retry.client, retry.timestamp));
        let waiting = sent.chain(again).filter(|(client, timestamp)| waits(*client, *timestamp));
        due.extend(waiting.map(|(client, timestamp)| Retry {
            due: now,
            client,
            timestamp,
            attempt: 1,
            for_result: true,
        }));
        self.asked = Some(asked.map_or((until, now), |(asked, at)| (asked.max(until), at)));
    }

    /// It has been sent again: when it is to be next.
    pub(crate) fn on_sent_again(&mut self, now: Time, retry: Retry) {
        if retry.for_result {
            return;
        }
        let due = now.after(self.patience_ns(retry.attempt));
        self.again.push(Reverse(Retry { due, attempt: retry.attempt.saturating_add(1), ..retry }));
    }

    /// The client whose operation is to be sent to everybody as a probe now.
    pub(crate) fn take_probe(&mut self, now: Time, waits: impl Fn(u32, u64) -> bool) -> Option<u32> {
        self.forget_complete(&waits);
        if self.probe.is_some_and(|(client, timestamp)| waits(client, timestamp)) {
            return None;
        }
        let Sent { at, client, timestamp } = self.sent.front().copied()?;
        if at.after(ClientTable::probe_after_ns(self.first_ns)) > now {
            return None;
        }
        self.probe = Some((client, timestamp));
        Some(client)
    }

    /// When there will be something to do, unless operations complete before.
    pub(crate) fn next_due(&self) -> Option<Time> {
        let oldest = self.sent.front().map(|sent| {
            let probe_ns = ClientTable::probe_after_ns(self.first_ns);
            let patience_ns = self.patience_ns(0);
            sent.at.after(if self.probe.is_none() { probe_ns.min(patience_ns) } else { patience_ns })
        });
        let again = self.again.peek().map(|Reverse(retry)| retry.due);
        let vouched = self.vouched.front().map(|vouched| vouched.at.after(self.result_after_ns()));
        [oldest, again, vouched].into_iter().flatten().min()
    }

    /// How long after sending number `attempt` a request is sent again. Never less than a few usual latencies: a
    /// cluster that is merely busy must not be asked everything again by everybody, which would keep it busy for ever.
    /// Yet never more than what was asked for as the longest pause, however slow an outage has made all latencies.
    fn patience_ns(&self, attempt: u32) -> u64 {
        let first_ns = self.first_ns.max(self.usual_ns.saturating_mul(4)).min(self.longest_ns);
        ClientTable::retransmit_after_ns(attempt, first_ns, self.longest_ns)
    }

    /// How long after its votes are complete an operation is sent again for its result.
    fn result_after_ns(&self) -> u64 {
        self.usual_ns.max(RESULT_AFTER_MIN_NS).min(self.patience_ns(0))
    }

    /// How long after its votes are complete the replies to a batch are missing.
    pub(crate) fn missing_after_ns(&self) -> u64 {
        self.usual_ns.max(REPLIES_AFTER_MIN_NS).min(self.patience_ns(0))
    }

    /// What is complete must not stand before those who wait.
    fn forget_complete(&mut self, waits: &impl Fn(u32, u64) -> bool) {
        while self.sent.front().is_some_and(|sent| !waits(sent.client, sent.timestamp)) {
            self.sent.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;

    const MS: u64 = 1_000_000;
    const NOBODY: [u32; 0] = [];

    fn at_ms(ms: u64) -> Time {
        Time(ms * MS)
    }

    /// 500 ms, doubling up to 8 s, after so long a usual latency.
    fn retries(usual_ms: u64) -> Retries {
        let (first, longest) = (Duration::from_millis(500), Duration::from_secs(8));
        Retries { usual_ns: usual_ms * MS, ..Retries::new(Retransmission { first, longest }) }
    }

    /// Whose first operation is sent again at this time; these clients wait for theirs.
    fn due(retries: &mut Retries, ms: u64, waiting: &[u32]) -> Vec<u32> {
        due_without(retries, ms, None, waiting)
    }

    /// The same where replies to what was sent by then are missing.
    fn due_without(retries: &mut Retries, ms: u64, missing_ms: Option<u64>, waiting: &[u32]) -> Vec<u32> {
        let mut due = Vec::new();
        retries.take_due(at_ms(ms), missing_ms.map(at_ms), |client, _| waiting.contains(&client), &mut due);
        due.iter().for_each(|retry| retries.on_sent_again(at_ms(ms), *retry));
        due.iter().map(|retry| retry.client).collect()
    }

    fn probe(retries: &mut Retries, ms: u64, waiting: &[u32]) -> Option<u32> {
        retries.take_probe(at_ms(ms), |client, _| waiting.contains(&client))
    }

    /// An outage of 20 s has just ended: four of its latencies are 80 s.
    #[test]
    fn a_long_outage_makes_nobody_wait_longer_than_the_longest_pause() {
        let mut retries = retries(20_000);
        retries.on_sent(at_ms(0), 0, 1);
        assert_eq!(due(&mut retries, 7999, &[0]), NOBODY);
        assert_eq!(retries.next_due(), Some(at_ms(125)), "the probe");
        assert_eq!(due(&mut retries, 8000, &[0]), [0]);
        assert_eq!(due(&mut retries, 15_999, &[0]), NOBODY);
        assert_eq!(due(&mut retries, 16_000, &[0]), [0]);
    }

    #[test]
    fn patience_that_shrinks_helps_those_who_wait_already() {
        let mut retries = retries(20_000);
        retries.on_sent(at_ms(0), 0, 1); // is lost
        (1..3000).for_each(|client| {
            retries.on_sent(at_ms(10), client, 1);
            retries.on_complete(client, 1, MS); // the cluster is quick again
        });
        retries.on_sent(at_ms(20), 3000, 1); // is lost too
        assert_eq!(due(&mut retries, 499, &[0, 3000]), NOBODY);
        assert_eq!(due(&mut retries, 500, &[0, 3000]), [0]);
        assert_eq!(due(&mut retries, 520, &[0, 3000]), [3000]);
        assert_eq!(due(&mut retries, 1500, &[0, 3000]), [0], "the pause doubles");
    }

    #[test]
    fn what_is_complete_holds_nobody_back() {
        let mut retries = retries(0);
        for client in 0..4 {
            retries.on_sent(at_ms(u64::from(client)), client, 1);
        }
        retries.usual_ns = 1000 * MS;
        assert_eq!(due(&mut retries, 600, &[1, 3]), NOBODY);
        assert_eq!(retries.sent.front().map(|sent| sent.client), Some(1), "the first one is complete");
        retries.usual_ns = 0;
        assert_eq!(due(&mut retries, 600, &[3]), [3]);
        assert!(retries.sent.is_empty());
    }

    #[test]
    fn one_request_at_a_time_is_a_probe() {
        let mut retries = retries(20_000);
        for client in 0..3 {
            retries.on_sent(at_ms(0), client, 1);
        }
        // However long operations take usually.
        assert_eq!(probe(&mut retries, 124, &[0, 1, 2]), None);
        assert_eq!(probe(&mut retries, 125, &[0, 1, 2]), Some(0));
        assert_eq!((125..8000).find_map(|ms| probe(&mut retries, ms, &[0, 1, 2])), None, "without a reply no other");
        assert_eq!(retries.next_due(), Some(at_ms(8000)));
        retries.on_complete(0, 1, 130 * MS);
        assert_eq!(probe(&mut retries, 130, &[1, 2]), Some(1));
        // Nor does another one follow when it has been sent again to everybody.
        assert_eq!(due(&mut retries, 8000, &[1, 2]), [1, 2]);
        retries.on_sent(at_ms(8000), 3, 1);
        assert_eq!(probe(&mut retries, 9000, &[1, 2, 3]), None);
        assert_eq!(probe(&mut retries, 9000, &[2, 3]), Some(3));
    }

    #[test]
    fn quick_replies_need_no_probe() {
        let mut retries = retries(0);
        let mut waiting = BTreeSet::new();
        for ms in 0..2000 {
            let client = u32::try_from(ms).unwrap();
            retries.on_sent(at_ms(ms), client, 1);
            waiting.insert(client);
            if let Some(answered) = client.checked_sub(100) {
                waiting.remove(&answered);
                retries.on_complete(answered, 1, 100 * MS);
            }
            assert_eq!(retries.take_probe(at_ms(ms), |client, _| waiting.contains(&client)), None);
        }
    }

    /// The usual latency in the end, in ms, of a closed loop at n replicas of which `down` are. Votes are there after
    /// 200 ms, and the result as well unless it was up to one that is down; asked again, all send it within 10 ms.
    fn usual_ms_with_replicas_down(n: u32, down: u32) -> u64 {
        let mut retries = retries(0);
        // Of each client: its timestamp, when it was sent, and when the result comes that it was asked for again.
        let mut clients: Vec<(u64, u64, Option<u64>)> = (0..40).map(|client| (1, client * 5, None)).collect();
        for (client, &(timestamp, sent, _)) in (0..).zip(&clients) {
            retries.on_sent(at_ms(sent), client, timestamp);
        }
        for ms in 200..60_000 {
            for (client, state) in (0..).zip(&mut clients) {
                let (timestamp, sent, comes) = *state;
                let lacks_result = (timestamp + u64::from(client)) % u64::from(n) < u64::from(down);
                if lacks_result && ms == sent + 200 {
                    retries.on_vouched(at_ms(ms), client, timestamp);
                }
                if comes == Some(ms) || (!lacks_result && ms == sent + 200) {
                    retries.on_complete(client, timestamp, (ms - sent) * MS);
                    *state = (timestamp + 1, ms, None);
                    retries.on_sent(at_ms(ms), client, timestamp + 1);
                }
            }
            let mut due = Vec::new();
            retries.take_due(at_ms(ms), None, |client, timestamp| clients[client as usize].0 == timestamp, &mut due);
            for retry in due {
                retries.on_sent_again(at_ms(ms), retry);
                clients[retry.client as usize].2.get_or_insert(ms + 10);
            }
        }
        retries.usual_ns / MS
    }

    #[test]
    fn results_that_are_missing_do_not_stretch_the_patience_that_brings_them() {
        for (n, down) in [(4, 1), (7, 2), (10, 3)] {
            let usual_ms = usual_ms_with_replicas_down(n, down);
            assert!((150..400).contains(&usual_ms), "n = {n}: {usual_ms} ms");
        }
    }

    #[test]
    fn when_replies_to_a_batch_are_missing_all_that_was_sent_by_then_is_sent_again_once() {
        let mut retries = retries(10);
        for client in 0..4 {
            retries.on_sent(at_ms(10 * u64::from(client)), client, 1);
        }
        assert_eq!(retries.missing_after_ns(), REPLIES_AFTER_MIN_NS);
        let mut missing = |ms, until, waiting: &[u32]| due_without(&mut retries, ms, Some(until), waiting);
        assert_eq!(missing(45, 20, &[0, 2, 3]), [0, 2], "1 is complete, 3 was sent later");
        assert_eq!(missing(46, 20, &[0, 2, 3]), NOBODY, "it is under way");
        assert_eq!(missing(46, 15, &[0, 2, 3]), NOBODY);
        assert_eq!(missing(47, 30, &[0, 2, 3]), [3]);
        assert_eq!(missing(70, 48, &[0, 2, 3]), [0, 2, 3], "they were executed after they were asked for");
        assert_eq!(due(&mut retries, 500, &[0, 2, 3]), [0], "beside what time brings");
        // What was sent again is not forgotten, nor asked for with every batch that lacks its replies.
        let mut missing = |ms, until| due_without(&mut retries, ms, Some(until), &[0, 3]);
        assert_eq!(missing(511, 510), [3, 0]);
        assert_eq!(missing(512, 511), NOBODY);
    }

    /// One operation a millisecond; the first one is executed late, in a batch that lacks its replies like all others.
    #[test]
    fn what_is_executed_after_it_was_asked_for_is_asked_for_again_within_a_pause() {
        let mut retries = retries(10);
        let mut asked = Vec::new();
        for ms in 0..60 {
            retries.on_sent(at_ms(ms), u32::try_from(ms).unwrap(), 1);
            if let Some(vouched) = ms.checked_sub(20) {
                let again = due_without(&mut retries, ms, Some(vouched), &[0, 30]);
                asked.extend(again.into_iter().map(|client| (ms, client)));
            }
        }
        assert_eq!(asked, [(20, 0), (41, 0), (50, 30)], "once for each pause");
    }

    #[test]
    fn a_result_that_is_missing_is_asked_for_once_and_beside_what_time_brings() {
        let mut retries = retries(20);
        retries.on_sent(at_ms(0), 0, 1);
        retries.on_sent(at_ms(0), 1, 1);
        retries.on_vouched(at_ms(30), 0, 1);
        retries.on_vouched(at_ms(40), 1, 1);
        assert_eq!(retries.next_due(), Some(at_ms(50)));
        assert_eq!(due(&mut retries, 49, &[0, 1]), NOBODY);
        assert_eq!(due(&mut retries, 50, &[0, 1]), [0]);
        assert_eq!(due(&mut retries, 60, &[0]), NOBODY, "1 has its result");
        assert_eq!(retries.next_due(), Some(at_ms(125)), "the probe");
        assert_eq!(due(&mut retries, 500, &[0]), [0]);
        assert_eq!(due(&mut retries, 1500, &[0]), [0]);
    }
}
