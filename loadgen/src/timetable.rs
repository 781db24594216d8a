//! When a load begins, is measured and ends, and what an operation counts for.

use hippodrome_engine::types::Time;

/// When things happen, on the clock that all threads share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timetable {
    /// The load begins.
    pub(crate) start: Time,
    /// The measured window begins.
    pub(crate) measure_from: Time,
    /// The measured window ends, and with it the load.
    pub(crate) measure_until: Time,
    /// After the window, outstanding operations are waited for until none has completed for this long ..
    pub(crate) drain_ns: u64,
    /// .. and no longer than this after the window.
    pub(crate) drain_max_ns: u64,
    /// An operation that takes longer is counted as timed out.
    pub(crate) timeout_ns: u64,
}

/// What an operation that is complete counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    /// It is one of the window's operations: throughput.
    pub(crate) operation: bool,
    /// Its latency is one of the window's.
    pub(crate) latency: bool,
}

impl Timetable {
    /// Whether this moment lies in the measured window.
    pub(crate) fn measures(&self, time: Time) -> bool {
        self.measure_from <= time && time < self.measure_until
    }

    /// What an operation of an open or a closed loop counts for.
    ///
    /// Throughput is what is complete within the window: were it what was intended within, a cluster that falls behind
    /// and catches up in the drain would seem to keep up. A closed loop has the latencies of these same operations. An
    /// open loop has those of what was intended within the window, however late it completes: what the window's end
    /// cuts off would be the slowest. So at its edges an open loop may count some more, or fewer, of one than of the
    /// other.
    pub(crate) fn counts(&self, is_open: bool, intended: Time, completed: Time) -> Counts {
        let operation = self.measures(completed);
        Counts { operation, latency: if is_open { self.measures(intended) } else { operation } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The window is from 1000 to 3000.
    const TABLE: Timetable = Timetable {
        start: Time(0),
        measure_from: Time(1000),
        measure_until: Time(3000),
        drain_ns: 0,
        drain_max_ns: 0,
        timeout_ns: 0,
    };

    #[test]
    fn the_edges_of_the_window_decide_by_completion_and_an_open_loops_latencies_by_intention() {
        for (intended, completed, operation, intended_within) in [
            (0, 999, false, false),
            (999, 1000, true, false),
            (1000, 1001, true, true),
            (2998, 2999, true, true),
            (2999, 3000, false, true),
            (3000, 3001, false, false),
        ] {
            let counts = |is_open| TABLE.counts(is_open, Time(intended), Time(completed));
            assert_eq!(counts(true), Counts { operation, latency: intended_within }, "open: {intended}, {completed}");
            assert_eq!(counts(false), Counts { operation, latency: operation }, "closed: {intended}, {completed}");
        }
    }
}
