//! The figures that pages about many runs show, and how.

use super::document::Cell;
use crate::summary::{count, time};

/// A figure.
#[derive(Clone, Copy)]
pub(super) struct Shown {
    /// As in `sweep.json`.
    pub(super) name: &'static str,
    /// As people read it.
    pub(super) label: &'static str,
    /// With its unit, for axes.
    pub(super) axis: &'static str,
    /// The function that writes it in a chart.
    pub(super) format: &'static str,
    /// The same in tables.
    pub(super) write: fn(f64) -> String,
    /// Whether more is better; otherwise less is.
    pub(super) more: bool,
}

impl Shown {
    /// A cell of a table.
    pub(super) fn cell(&self, value: impl Into<Option<f64>>) -> Cell {
        Cell::number(value, self.write)
    }
}

/// Operations per second.
pub(super) const THROUGHPUT: Shown = Shown {
    name: "ops_per_s",
    label: "Throughput",
    axis: "operations per second",
    format: "@fn:short",
    write: count,
    more: true,
};
/// Median latency.
pub(super) const P50: Shown =
    Shown { name: "p50_us", label: "Latency, p50", axis: "latency, p50", format: "@fn:time", write: time, more: false };
/// 99th percentile of latency.
pub(super) const P99: Shown =
    Shown { name: "p99_us", label: "Latency, p99", axis: "latency, p99", format: "@fn:time", write: time, more: false };
/// CPU time of all processes for each operation.
pub(super) const CPU: Shown = Shown {
    name: "cpu_us_per_op",
    label: "CPU per operation",
    axis: "CPU time for each operation",
    format: "@fn:micros",
    write: micros,
    more: false,
};

/// What charts can be switched between.
pub(super) const SWITCH: [Shown; 3] = [THROUGHPUT, P99, CPU];

fn micros(us: f64) -> String {
    format!("{us:.2} µs")
}
