//! What a person sees of an experiment while it runs: a bar with the time left on a terminal, a line a run elsewhere.

use std::cell::{Cell, RefCell};
use std::io::IsTerminal as _;
use std::path::Path;
use std::time::{Duration, Instant};

use hippodrome_analysis::series::Second;
use hippodrome_analysis::summary::{count, time};
use hippodrome_analysis::sweep::State;
use indicatif::{ProgressBar, ProgressStyle};

use super::trial::Trial;
use crate::launch::Audience;
use crate::output::tell;

/// What a run takes beyond its load (starting, connecting, draining, the audit), s, until one was measured.
pub(crate) const OVERHEAD_S: f64 = 1.5;

/// How long runs take beyond their load.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Overhead {
    runs: u32,
    total_s: f64,
}

impl Overhead {
    /// A run of `load_s` of load took `wall_s` in all.
    pub(crate) fn measured(&mut self, load_s: f64, wall_s: f64) {
        self.runs += 1;
        self.total_s += (wall_s - load_s).max(0.0);
    }

    /// The mean, s.
    pub(crate) fn seconds(&self) -> f64 {
        if self.runs == 0 { OVERHEAD_S } else { self.total_s / f64::from(self.runs) }
    }
}

/// The progress of many runs.
pub(crate) struct Progress {
    /// Nothing is shown.
    quiet: bool,
    bar: Option<ProgressBar>,
    overhead: Cell<Overhead>,
    /// Load of the runs that have not begun, s, and how many these are.
    left: Cell<(f64, u32)>,
    under_way: RefCell<UnderWay>,
    /// How many runs there are, and how many of them are done.
    runs: (usize, Cell<usize>),
}

/// The run under way.
struct UnderWay {
    label: String,
    load_s: f64,
    since: Instant,
}

impl Progress {
    /// For runs with so much load each, s; `done` others were done before, which took so long beyond their load.
    pub(crate) fn new(to_play: &[f64], done: usize, overhead: Overhead, quiet: bool) -> Self {
        let total = to_play.len() + done;
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{bar:24} {pos}/{len}  {wide_msg}");
            let bar = ProgressBar::new(total as u64).with_position(done as u64);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        let under_way = UnderWay { label: String::new(), load_s: 0.0, since: Instant::now() };
        let left = (to_play.iter().sum(), u32::try_from(to_play.len()).unwrap_or(u32::MAX));
        Self {
            quiet,
            bar,
            overhead: Cell::new(overhead),
            left: Cell::new(left),
            under_way: RefCell::new(under_way),
            runs: (total, Cell::new(done)),
        }
    }

    /// A run begins.
    pub(crate) fn starts(&self, label: &str, load_s: f64) {
        let (left_s, runs) = self.left.get();
        self.left.set((left_s - load_s, runs.saturating_sub(1)));
        *self.under_way.borrow_mut() = UnderWay { label: label.to_owned(), load_s, since: Instant::now() };
        self.show("");
    }

    /// It has ended.
    pub(crate) fn ended(&self, trial: &Trial) {
        let done = self.runs.1.get() + 1;
        self.runs.1.set(done);
        let label = {
            let under_way = self.under_way.borrow();
            if trial.state != State::Failed {
                let mut overhead = self.overhead.get();
                overhead.measured(under_way.load_s, under_way.since.elapsed().as_secs_f64());
                self.overhead.set(overhead);
            }
            under_way.label.clone()
        };
        *self.under_way.borrow_mut() = UnderWay { label: String::new(), load_s: 0.0, since: Instant::now() };
        let total = self.runs.0;
        let width = total.to_string().len();
        self.line(&format!("{done:>width$}/{total}  {label}  {}", outcome(trial)));
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
        }
        self.show("");
    }

    /// Nothing more is to come.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// How long it will take from now on.
    pub(crate) fn left(&self) -> Duration {
        let (left_s, runs) = self.left.get();
        let overhead_s = self.overhead.get().seconds();
        let under_way = self.under_way.borrow();
        let this_s = if under_way.label.is_empty() { 0.0 } else { under_way.load_s + overhead_s };
        let this_s = (this_s - under_way.since.elapsed().as_secs_f64()).max(0.0);
        Duration::from_secs_f64((left_s + f64::from(runs) * overhead_s + this_s).max(0.0))
    }

    fn show(&self, what: &str) {
        let Some(bar) = &self.bar else { return };
        let left = humantime::format_duration(Duration::from_secs(self.left().as_secs()));
        bar.set_message(format!("{left} left  {}  {what}", self.under_way.borrow().label));
    }

    /// Says something, unless nothing is to be shown.
    pub(crate) fn line(&self, line: &str) {
        match &self.bar {
            _ if self.quiet => {}
            Some(bar) => bar.suspend(|| tell(line)),
            None => tell(line),
        }
    }
}

impl Audience for Progress {
    fn begins(&self, _replicas: u16, _directory: &Path) {}

    fn second(&self, second: &Second) {
        // What is left over when the load has ended is no rate.
        #[allow(clippy::cast_precision_loss, reason = "seconds of one run")]
        let ended = second.second as f64 > self.under_way.borrow().load_s;
        if ended {
            return self.show("");
        }
        #[allow(clippy::cast_precision_loss, reason = "shown with fewer digits")]
        let operations = count(second.operations as f64);
        self.show(&format!("{} s  {operations} ops/s", second.second));
    }

    fn happened(&self, line: &str) {
        self.line(line);
    }
}

/// What came of a run, in a line.
pub(crate) fn outcome(trial: &Trial) -> String {
    let figures = trial.report.as_ref().map_or_else(String::new, |report| {
        let (rate, p50, p99) = (report.throughput.ops_per_s, report.latency_us.p50, report.latency_us.p99);
        let cpu = report.cpu.us_per_op_total;
        format!("{} ops/s  p50 {}  p99 {}  {cpu:.2} µs/op", count(rate), time(p50), time(p99))
    });
    let first = trial.reasons.first().map_or("", |reason| reason.lines().next().unwrap_or(""));
    match trial.state {
        State::Valid => figures,
        State::Invalid => format!("{figures}  INVALID: {first}"),
        State::Failed => format!("FAILED: {first}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_goes_by_what_runs_took() {
        let mut overhead = Overhead::default();
        assert!((overhead.seconds() - OVERHEAD_S).abs() < 1e-9);
        overhead.measured(3.0, 5.0);
        overhead.measured(3.0, 4.0);
        assert!((overhead.seconds() - 1.5).abs() < 1e-9);
        overhead.measured(5.0, 8.0);
        assert!((overhead.seconds() - 2.0).abs() < 1e-9);
        let progress = Progress::new(&[10.0, 20.0], 1, overhead, true);
        assert_eq!(progress.left().as_secs(), 34);
        progress.starts("a", 10.0);
        assert_eq!(progress.left().as_millis() / 1000, 33, "the run under way counts until it should have ended");
    }

    #[test]
    fn outcomes_tell_the_first_reason() {
        let trial = |state, reasons: &[&str]| Trial {
            state,
            reasons: reasons.iter().map(|reason| (*reason).to_owned()).collect(),
            report: None,
            wall_s: None,
        };
        let failed = trial(State::Failed, &["replica-0 did not come up; the end of its log:\n  no", "x"]);
        assert_eq!(outcome(&failed), "FAILED: replica-0 did not come up; the end of its log:");
        let report = Some(hippodrome_analysis::report::Report::default());
        let invalid = Trial { report, ..trial(State::Invalid, &["debug build"]) };
        assert!(outcome(&invalid).ends_with("0.00 µs/op  INVALID: debug build"), "{}", outcome(&invalid));
    }
}
