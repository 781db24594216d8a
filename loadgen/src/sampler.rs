//! Merges the threads' seconds as they come in: into the interval log, the rows of the report and live progress.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use hippodrome_engine::pipeline::clock::Clock;
use hippodrome_engine::platform;

use crate::driver::ThreadSecond;
use crate::recorder::{INTERVAL_NS, Interval, IntervalLog, Merger};
use crate::report::SecondSample;
use crate::timetable::Timetable;

/// The interval log on disk.
pub(crate) type Log = IntervalLog<io::BufWriter<std::fs::File>>;

/// How often the process's CPU time is looked at, and so how exactly it fits the measured window.
const TICK: Duration = Duration::from_millis(5);

/// What was sampled over the run.
#[derive(Debug, Default)]
pub(crate) struct Sampled {
    /// Every second.
    pub(crate) seconds: Vec<SecondSample>,
    /// CPU time of the process within the measured window, µs.
    pub(crate) cpu_us: u64,
}

/// Gathers the seconds of all threads.
pub(crate) struct Sampler<'a> {
    clock: Clock,
    timetable: Timetable,
    /// Latencies of the measured window.
    measured: Merger,
    /// All latencies: each thread hands over two parts of a second.
    all: Merger,
    retransmissions: BTreeMap<u64, u64>,
    log: &'a mut Log,
    on_second: &'a mut dyn FnMut(&SecondSample),
    sampled: Sampled,
}

impl<'a> Sampler<'a> {
    /// Samples `threads` threads, writing to `log` and telling `on_second`.
    pub(crate) fn new(
        threads: u32,
        (clock, timetable): (Clock, Timetable),
        log: &'a mut Log,
        on_second: &'a mut dyn FnMut(&SecondSample),
    ) -> Self {
        let threads = threads as usize;
        Self {
            clock,
            timetable,
            measured: Merger::new(threads),
            all: Merger::new(2 * threads),
            retransmissions: BTreeMap::new(),
            log,
            on_second,
            sampled: Sampled::default(),
        }
    }

    /// Samples until all threads have ended.
    ///
    /// # Errors
    /// If the log can not be written.
    pub(crate) fn sample(mut self, seconds: &Receiver<ThreadSecond>) -> io::Result<Sampled> {
        let (mut cpu_from, mut cpu_until) = (None, None);
        loop {
            let part = seconds.recv_timeout(TICK);
            let now = self.clock.now();
            if cpu_from.is_none() && now >= self.timetable.measure_from {
                cpu_from = Some(platform::process_cpu_us());
            }
            if cpu_until.is_none() && now >= self.timetable.measure_until {
                cpu_until = Some(platform::process_cpu_us());
            }
            match part {
                Ok(part) => self.gather(&part)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.sampled.cpu_us = cpu_until.unwrap_or(0).saturating_sub(cpu_from.unwrap_or(0));
        // Threads end in different seconds: what some of them still have belongs to the log, though to no whole second.
        for rest in self.measured.finish() {
            self.log.write(&rest)?;
        }
        Ok(self.sampled)
    }

    fn gather(&mut self, part: &ThreadSecond) -> io::Result<()> {
        *self.retransmissions.entry(part.measured.second).or_default() += part.retransmissions;
        self.measured.add(&part.measured);
        self.all.add(&part.measured);
        self.all.add(&part.unmeasured);
        while let (Some(measured), Some(all)) = (self.measured.take_complete(), self.all.take_complete()) {
            self.log.write(&measured)?;
            let row = self.row(&all);
            (self.on_second)(&row);
            self.sampled.seconds.push(row);
        }
        Ok(())
    }

    fn row(&mut self, all: &Interval) -> SecondSample {
        let start = self.timetable.start.after(all.second * INTERVAL_NS);
        let measured = start >= self.timetable.measure_from && start.after(INTERVAL_NS) <= self.timetable.measure_until;
        all.sample(measured, self.retransmissions.remove(&all.second).unwrap_or(0))
    }
}
