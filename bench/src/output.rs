//! Writing for people and for pipes.

use std::io::{IsTerminal as _, Write as _};

use hippodrome_analysis::report::Report;
use hippodrome_analysis::results::to_json;
use hippodrome_analysis::series::Second;
use hippodrome_analysis::summary::{Style, count, render, time};

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

/// Prints a report, as JSON or as a summary, and fails if its verdict does.
pub(crate) fn verdict(report: &Report, place: &str, json: bool) -> Result<(), Failure> {
    if json {
        print(&to_json(report));
    } else {
        print(&render(report, place, style()));
    }
    if report.verdict.valid { Ok(()) } else { Err(Failure::Invalid) }
}

/// Colour only where a terminal shows it and nobody said no (<https://no-color.org>).
fn style() -> Style {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if std::io::stdout().is_terminal() && !refused { Style::Colour } else { Style::Plain }
}

/// One second of progress as a row of a table.
#[allow(clippy::cast_precision_loss, reason = "shown with fewer digits")]
pub(crate) fn progress_row(second: &Second) -> String {
    let window = if second.measured { "measured    " } else { "not measured" };
    let (p50, p99, max) = (time(second.p50_us), time(second.p99_us), time(second.max_us));
    let again = match second.retransmissions {
        0 => String::new(),
        n => format!("  sent again {n}"),
    };
    let (at, rate) = (second.second, count(second.operations as f64));
    format!("{at:>4} s  {window}  {rate:>11} ops/s  p50 {p50:>8}  p99 {p99:>8}  max {max:>8}{again}")
}
