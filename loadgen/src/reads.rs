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
    /// In order of time.
    sent: VecDeque<Sent>,
}

impl Reads {
    /// Nothing was sent yet; nothing waits longer than `longest_ns`.
    pub(crate) const fn new(longest_ns: u64) -> Self {
        Self { longest_ns, usual_ns: 0, sent: VecDeque::new() }
    }

    /// A request is sent. Times do not go backwards.
    pub(crate) fn on_sent(&mut self, at: Time, client: u32, number: u64) {
        self.sent.push_back(Sent { at, client, number });
    }

    /// A request was answered by a quorum, so long after it was sent.
    pub(crate) const fn on_complete(&mut self, took_ns: u64) {
        self.usual_ns = if self.usual_ns == 0 { took_ns } else { self.usual_ns - self.usual_ns / 64 + took_ns / 64 };
    }

    /// The clients whose request has waited for long enough. `waits` says whether a client still waits for a request.
    pub(crate) fn take_due(&mut self, now: Time, waits: impl Fn(u32, u64) -> bool) -> Vec<u32> {
        let patience_ns = self.patience_ns();
        let mut due = Vec::new();
        while let Some(Sent { at, client, number }) = self.sent.front().copied() {
            if waits(client, number) {
                if at.after(patience_ns) > now {
                    break;
                }
                due.push(client);
            }
            self.sent.pop_front();
        }
        if !due.is_empty() {
            // Perhaps all takes longer now, and none would ever be complete in time to show that.
            self.usual_ns = self.usual_ns.saturating_mul(2).min(self.longest_ns);
        }
        due
    }

    /// When there will be something to do, unless requests are answered before.
    pub(crate) fn next_due(&self) -> Option<Time> {
        self.sent.front().map(|sent| sent.at.after(self.patience_ns()))
    }

    /// A few usual latencies: what a quorum has not answered by then, replicas that lie or are down keep it from
    /// answering.
    fn patience_ns(&self) -> u64 {
        match self.usual_ns {
            0 => self.longest_ns,
            usual_ns => usual_ns.saturating_mul(4).max(PATIENCE_MIN_NS).min(self.longest_ns),
        }
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
        reads.on_complete(20 * MS);
        reads.on_sent(Time(1000 * MS), 1, 1);
        reads.on_sent(Time(1001 * MS), 2, 1);
        assert_eq!(due(&mut reads, 1079, &[1, 2]), [0; 0]);
        assert_eq!(due(&mut reads, 1080, &[2]), [0; 0], "1 has its answer");
        assert_eq!(due(&mut reads, 1081, &[2]), [2]);
        (0..1000).for_each(|_| reads.on_complete(1000));
        reads.on_sent(Time(2000 * MS), 3, 1);
        assert_eq!(due(&mut reads, 2004, &[3]), [0; 0]);
        assert_eq!(due(&mut reads, 2005, &[3]), [3]);
    }

    #[test]
    fn patience_grows_where_nothing_is_complete_in_time() {
        let mut reads = Reads::new(500 * MS);
        reads.on_complete(2 * MS);
        let mut ms = 0;
        for patience in [8, 16, 32, 64, 128, 256, 500, 500] {
            reads.on_sent(Time(ms * MS), 0, 1);
            assert_eq!(due(&mut reads, ms + patience - 1, &[0]), [0; 0], "{patience}");
            assert_eq!(due(&mut reads, ms + patience, &[0]), [0], "{patience}");
            ms += 1000;
        }
    }
}
