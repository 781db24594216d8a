//! Pacing: which client sends when. Closed loop: a client sends as soon as its last operation is complete. Open loop:
//! at the times of a schedule that was fixed in advance, by whichever client is free.

use hippodrome_engine::types::Time;

use crate::schedule::Schedule;

/// What one thread paces by.
pub(crate) enum Pacing {
    /// Every client has one operation outstanding at all times.
    Closed,
    /// A schedule of intended send times.
    Open(OpenLoop),
}

/// An operation that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// When the schedule wanted it sent; latency counts from here.
    pub(crate) intended: Time,
    /// How much later it is sent by the generator's own fault, ns.
    pub(crate) lag_ns: u64,
    /// Whether it had to wait for a client to become free, the cluster's fault.
    pub(crate) waited: bool,
}

/// The open loop of one thread.
pub(crate) struct OpenLoop {
    times: std::iter::Peekable<Box<dyn Iterator<Item = u64> + Send>>,
    start: Time,
    end: Time,
    free: Vec<u32>,
    /// Since when there has been a free client; before that, being late was not the generator's fault.
    free_since: Time,
}

impl OpenLoop {
    /// Sends at the times of `schedule` from `start` (exclusive of `end`), with the clients `free`.
    pub(crate) fn new(schedule: Schedule, start: Time, end: Time, free: Vec<u32>) -> Self {
        let times: Box<dyn Iterator<Item = u64> + Send> = Box::new(schedule);
        Self { times: times.peekable(), start, end, free, free_since: start }
    }

    /// When the next operation is to be sent, whether or not a client is free.
    pub(crate) fn next_intended(&mut self) -> Option<Time> {
        let time = self.start.after(*self.times.peek()?);
        (time < self.end).then_some(time)
    }

    /// The next operation that is due at `now`, with the client that sends it.
    pub(crate) fn take_due(&mut self, now: Time) -> Option<(u32, Due)> {
        let intended = self.next_intended().filter(|intended| *intended <= now)?;
        let client = self.free.pop()?;
        self.times.next();
        let waited = self.free_since > intended;
        let lag_ns = now.since(intended.max(self.free_since));
        Some((client, Due { intended, lag_ns, waited }))
    }

    /// Whether operations that were due by the end still wait to be sent, once the end has come.
    pub(crate) fn has_backlog(&mut self) -> bool {
        self.next_intended().is_some()
    }

    /// A client's operation is complete.
    pub(crate) fn release(&mut self, now: Time, client: u32) {
        if self.free.is_empty() {
            self.free_since = now;
        }
        self.free.push(client);
    }

    /// Operations that were due by the end and never sent.
    pub(crate) fn unsent(&mut self) -> u64 {
        let mut unsent = 0;
        while self.next_intended().is_some() {
            self.times.next();
            unsent += 1;
        }
        unsent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open_loop(free: Vec<u32>) -> OpenLoop {
        // One operation every millisecond.
        OpenLoop::new(Schedule::constant(1000.0).unwrap(), Time(0), Time(10_000_000), free)
    }

    #[test]
    fn latency_counts_from_the_intended_time_even_when_no_client_is_free() {
        let mut open = open_loop(vec![7]);
        let first = open.next_intended().unwrap();
        let (client, due) = open.take_due(first).unwrap();
        assert_eq!((client, due.lag_ns, due.waited), (7, 0, false));
        let second = open.next_intended().unwrap();
        let late = second.after(3_000_000);
        assert_eq!(open.take_due(late), None, "the only client is busy");
        open.release(late, 7);
        let (_, due) = open.take_due(late).unwrap();
        assert_eq!(due, Due { intended: second, lag_ns: 0, waited: true });
    }

    #[test]
    fn being_late_with_a_free_client_is_the_generators_fault() {
        let mut open = open_loop(vec![0, 1]);
        let first = open.next_intended().unwrap();
        let (_, due) = open.take_due(first.after(2_000_000)).unwrap();
        assert_eq!((due.lag_ns, due.waited), (2_000_000, false));
    }

    #[test]
    fn what_waits_at_the_end_is_still_to_be_sent() {
        let mut open = open_loop(vec![0]);
        let end = Time(10_000_000);
        while let Some((client, _)) = open.take_due(end) {
            assert_eq!(client, 0);
            open.release(end, 0);
            if open.next_intended().is_some() {
                assert!(open.has_backlog(), "the last client is free, and its next operation is overdue");
            }
        }
        assert!(!open.has_backlog());
        assert_eq!(open.unsent(), 0);
    }

    #[test]
    fn what_was_never_sent_is_counted() {
        let mut open = open_loop(Vec::new());
        let scheduled = Schedule::constant(1000.0).unwrap().take_while(|time| *time < 10_000_000).count();
        assert_eq!(open.unsent(), scheduled as u64);
    }
}
