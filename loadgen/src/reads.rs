//! How long one thread waits for read-only requests before it has them ordered. Pure: time is an argument.

use std::collections::VecDeque;

use hippodrome_engine::types::Time;

/// The shortest patience: less than that is a hiccup of the machine.
const PATIENCE_MIN_NS: u64 = 5_000_000;

/// A read-only request that was sent to all replicas.
#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Time,
    client: u32,
    number: u64,
}

/// The read-only requests that wait for a quorum.
#[derive(Debug)]
pub(crate) struct Reads {
    longest_ns: u64,
    /// Moving average of the time from sending to the quorum; 0 before the first.
    usual_ns: u64,
    /// When a request was answered last, or the patience grew last.
    told_at: Time,
    /// In order of time.
    sent: VecDeque<Sent>,
    /// Those that a quorum has answered by digests, without the answer itself, since when, in order of time.
    vouched: VecDeque<Sent>,
}

impl Reads {
    /// Nothing was sent yet; nothing waits longer than `longest_ns`.
    pub(crate) const fn new(longest_ns: u64) -> Self {
        Self { longest_ns, usual_ns: 0, told_at: Time(0), sent: VecDeque::new(), vouched: VecDeque::new() }
    }

    /// A request is sent. Times do not go backwards.
    pub(crate) fn on_sent(&mut self, at: Time, client: u32, number: u64) {
        self.sent.push_back(Sent { at, client, number });
    }

    /// A quorum vouches for the answer to a request, and nobody has sent it. Times do not go backwards.
    pub(crate) fn on_vouched(&mut self, at: Time, client: u32, number: u64) {
        self.vouched.push_back(Sent { at, client, number });
    }

    /// A request was answered by a quorum, so long after it was sent.
    pub(crate) const fn on_complete(&mut self, now: Time, took_ns: u64) {
        self.told_at = now;
        self.usual_ns = if self.usual_ns == 0 { took_ns } else { self.usual_ns - self.usual_ns / 64 + took_ns / 64 };
    }

    /// The clients whose request has waited for long enough. `waits` says whether a client still waits for a request.
    pub(crate) fn take_due(&mut self, now: Time, waits: impl Fn(u32, u64) -> bool) -> Vec<u32> {
        let (patience_ns, answer_after_ns) = (self.patience_ns(), self.answer_after_ns());
        let mut due = Vec::new();
        take_older(&mut self.sent, patience_ns, now, &waits, &mut due);
        let in_vain = due.len();
        if in_vain > 0 && self.told_at.after(patience_ns) <= now {
            // Perhaps all takes longer now, and none would ever be complete in time to show that. While some are, they
            // do show it.
            self.usual_ns = self.usual_ns.saturating_mul(2).min(self.longest_ns);
            self.told_at = now;
        }
        // Whoever was to send the answer does not. That tells nothing of how long it takes usually.
        take_older(&mut self.vouched, answer_after_ns, now, &waits, &mut due);
        if 0 < in_vain && in_vain < due.len() {
            due.sort_unstable();
            due.dedup();
        }
        due
    }

    /// When there will be something to do, unless requests are answered before.
    pub(crate) fn next_due(&self) -> Option<Time> {
        let sent = self.sent.front().map(|sent| sent.at.after(self.patience_ns()));
        let vouched = self.vouched.front().map(|vouched| vouched.at.after(self.answer_after_ns()));
        [sent, vouched].into_iter().flatten().min()
    }

    /// A few usual latencies: what a quorum has not answered by then, replicas that lie or are down keep it from
    /// answering.
    fn patience_ns(&self) -> u64 {
        match self.usual_ns {
            0 => self.longest_ns,
            usual_ns => usual_ns.saturating_mul(4).max(PATIENCE_MIN_NS).min(self.longest_ns),
        }
    }

    /// How long an answer may come after a quorum has vouched for it.
    fn answer_after_ns(&self) -> u64 {
        self.usual_ns.max(PATIENCE_MIN_NS).min(self.longest_ns)
    }
}

/// Takes from the front what is complete, and what is so old that it is due.
fn take_older(
    queue: &mut VecDeque<Sent>,
    after_ns: u64,
    now: Time,
    waits: &impl Fn(u32, u64) -> bool,
    due: &mut Vec<u32>,
) {
    while let Some(Sent { at, client, number }) = queue.front().copied() {
        if waits(client, number) {
            if at.after(after_ns) > now {
                break;
            }
            due.push(client);
        }
        queue.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn due(reads: &mut Reads, ms: u64, waiting: &[u32]) -> Vec<u32> {
        reads.take_due(Time(ms * MS), |client, _| waiting.contains(&client))
    }

    #[test]
    fn patience_follows_the_usual_latency_within_its_bounds() {
        let mut reads = Reads::new(500 * MS);
        reads.on_sent(Time(0), 0, 1);
        assert_eq!(due(&mut reads, 499, &[0]), [0; 0], "nothing is known yet");
        assert_eq!(reads.next_due(), Some(Time(500 * MS)));
        assert_eq!(due(&mut reads, 500, &[0]), [0]);
        reads.on_complete(Time(900 * MS), 20 * MS);
        reads.on_sent(Time(1000 * MS), 1, 1);
        reads.on_sent(Time(1001 * MS), 2, 1);
        assert_eq!(due(&mut reads, 1079, &[1, 2]), [0; 0]);
        assert_eq!(due(&mut reads, 1080, &[2]), [0; 0], "1 has its answer");
        assert_eq!(due(&mut reads, 1081, &[2]), [2]);
        (0..1000).for_each(|_| reads.on_complete(Time(1999 * MS), 1000));
        reads.on_sent(Time(2000 * MS), 3, 1);
        assert_eq!(due(&mut reads, 2004, &[3]), [0; 0]);
        assert_eq!(due(&mut reads, 2005, &[3]), [3]);
    }

    #[test]
    fn patience_grows_where_nothing_is_complete_in_time() {
        let mut reads = Reads::new(500 * MS);
        reads.on_complete(Time(0), 2 * MS);
        let mut ms = 0;
        for patience in [8, 16, 32, 64, 128, 256, 500, 500] {
            reads.on_sent(Time(ms * MS), 0, 1);
            assert_eq!(due(&mut reads, ms + patience - 1, &[0]), [0; 0], "{patience}");
            assert_eq!(due(&mut reads, ms + patience, &[0]), [0], "{patience}");
            ms += 1000;
        }
    }

    /// Every fourth read is in vain, one millisecond after the other; the others take 2 ms.
    #[test]
    fn patience_does_not_grow_while_reads_are_answered() {
        let mut reads = Reads::new(500 * MS);
        let lost = |number: u64| number.is_multiple_of(4);
        for ms in 1..5000 {
            reads.on_sent(Time(ms * MS), u32::try_from(ms).unwrap(), ms);
            if ms > 2 && !lost(ms - 2) {
                reads.on_complete(Time(ms * MS), 2 * MS);
            }
            reads.take_due(Time(ms * MS), |_, number| lost(number) || number + 2 > ms);
            assert!(reads.patience_ns() <= 16 * MS || ms < 10, "{ms}: {} ms", reads.patience_ns() / MS);
        }
    }

    #[test]
    fn an_answer_that_alone_is_missing_is_waited_for_one_usual_latency_and_teaches_nothing() {
        let mut reads = Reads::new(500 * MS);
        reads.on_complete(Time(0), 20 * MS);
        for client in [0, 1] {
            reads.on_sent(Time(1000 * MS), client, 1);
            reads.on_vouched(Time(1010 * MS), client, 1);
        }
        assert_eq!(reads.next_due(), Some(Time(1030 * MS)));
        assert_eq!(due(&mut reads, 1029, &[0, 1]), [0; 0]);
        assert_eq!(due(&mut reads, 1030, &[0]), [0], "1 has its answer");
        assert_eq!(reads.patience_ns(), 80 * MS);
        // One that is due either way is so once.
        reads.on_sent(Time(2000 * MS), 0, 2);
        reads.on_vouched(Time(2010 * MS), 0, 2);
        assert_eq!(due(&mut reads, 3000, &[0]), [0]);
    }
}
