//! Writing for people and for pipes.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use anyhow::Context as _;
use hippodrome_analysis::page;
use hippodrome_analysis::report::Report;
use hippodrome_analysis::results::{self, to_json};
use hippodrome_analysis::series::Second;
use hippodrome_analysis::summary::{Style, count, render, time};
use hippodrome_analysis::sweep::{self, Sweep};

use crate::cli::run::RunOptions;
use crate::failure::Failure;

/// Writes to stdout. Whoever reads it may stop reading at any time: that is no error of ours.
pub(crate) fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Says something on stderr, whether or not somebody still listens there.
pub(crate) fn tell(text: &str) {
    hippodrome_engine::platform::log(text);
}

/// Prints a report, as JSON or as a summary.
pub(crate) fn report(report: &Report, place: &str, json: bool) {
    if json {
        print(&to_json(report));
    } else {
        print(&render(report, place, style()));
    }
}

/// Prints a report and fails if its verdict does.
pub(crate) fn verdict(report: &Report, place: &str, json: bool) -> Result<(), Failure> {
    self::report(report, place, json);
    if report.verdict.valid { Ok(()) } else { Err(Failure::Invalid) }
}

/// Writes the page of a directory beside the files that it is made from.
pub(crate) fn write_page(directory: &Path) -> Result<(), Failure> {
    Ok(page::write(directory, &page_context(String::new())).context("page")?)
}

/// What pages are made with. `files_at` is how a page gets to the files that it is made from.
pub(crate) fn page_context(files_at: String) -> page::Context {
    page::Context { defaults: RunOptions::defaults(), files_at }
}

/// Prints a sweep, and fails unless it is complete and all of its runs are VALID.
pub(crate) fn sweep(sweep: &Sweep, directory: &Path, json: bool) -> Result<(), Failure> {
    if json {
        let text = serde_json::to_string_pretty(sweep).context(results::SWEEP)?;
        print(&format!("{text}\n"));
    } else {
        print(&sweep::render(sweep, &directory.display().to_string(), style()));
    }
    if sweep.is_valid() { Ok(()) } else { Err(Failure::Invalid) }
}

/// Colour only where a terminal shows it and nobody said no (<https://no-color.org>).
fn style() -> Style {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if std::io::stdout().is_terminal() && !refused { Style::Colour } else { Style::Plain }
}

/// Progress as a table, a row each second. Which part of the run a second belongs to shows only from the seconds
/// before.
#[derive(Debug, Default)]
pub(crate) struct ProgressTable {
    /// Whether a second of the measured window was shown.
    measured: bool,
}

impl ProgressTable {
    /// The next second's row.
    ///
    /// What completes in the drain is what the load left over: a number of operations, not a rate to compare with those
    /// before.
    #[allow(clippy::cast_precision_loss, reason = "shown with fewer digits")]
    pub(crate) fn row(&mut self, second: &Second) -> String {
        self.measured |= second.measured;
        let (part, unit, remark) = match (second.measured, self.measured) {
            (true, _) => ("measured", "ops/s", ""),
            (false, false) => ("warm-up", "ops/s", ""),
            (false, true) => ("drain", "ops", "  (the load has ended)"),
        };
        let latencies = match second.operations {
            0 => String::new(),
            _ => {
                let (p50, p99, max) = (time(second.p50_us), time(second.p99_us), time(second.max_us));
                format!("  p50 {p50:>8}  p99 {p99:>8}  max {max:>8}")
            }
        };
        let again = match second.retransmissions {
            0 => String::new(),
            n => format!("  sent again {n}"),
        };
        let (at, completed) = (second.second, count(second.operations as f64));
        format!("{at:>4} s  {part:<8}  {completed:>11} {unit:<5}{latencies}{again}{remark}").trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_tell_warm_up_measured_window_and_drain_apart() {
        let second = |second, measured, operations| Second {
            second,
            measured,
            operations,
            p50_us: 1500.0,
            p99_us: 2500.0,
            max_us: 9000.0,
            ..Second::default()
        };
        let mut table = ProgressTable::default();
        let latencies = "p50  1.50 ms  p99  2.50 ms  max  9.00 ms";
        assert_eq!(table.row(&second(1, false, 900)), format!("   1 s  warm-up           900 ops/s  {latencies}"));
        assert_eq!(table.row(&second(2, true, 1000)), format!("   2 s  measured        1,000 ops/s  {latencies}"));
        let stalled = Second { retransmissions: 7, ..second(3, true, 0) };
        assert_eq!(table.row(&stalled), "   3 s  measured            0 ops/s  sent again 7");
        assert_eq!(
            table.row(&second(4, false, 12)),
            format!("   4 s  drain              12 ops    {latencies}  (the load has ended)")
        );
    }
}
