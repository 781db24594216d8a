//! The figures that texts and pages about many runs show, and how.

use crate::page::document::Cell;
use crate::summary::{count, digits, time};
use crate::sweep::{Point, Spread, scaling};

/// A figure.
#[derive(Clone, Copy)]
pub(crate) struct Shown {
    /// As in `sweep.json`.
    pub(crate) name: &'static str,
    /// As people read it.
    pub(crate) label: &'static str,
    /// Over a table of it, with the unit that is not written behind each number.
    pub(crate) heading: &'static str,
    /// With its unit, for axes.
    pub(crate) axis: &'static str,
    /// The function that writes it in a chart.
    pub(crate) format: &'static str,
    /// The same in tables.
    pub(crate) write: fn(f64) -> String,
    /// Whether more is better; otherwise less is.
    pub(crate) more: bool,
}

impl Shown {
    /// A cell of a page's table.
    pub(crate) fn cell(&self, value: impl Into<Option<f64>>) -> Cell {
        Cell::number(value, self.write)
    }

    /// Over the VALID runs of a point, if it has any.
    pub(crate) fn of<'a>(&self, point: &'a Point) -> Option<&'a Spread> {
        point.summary.figures.get(self.name)
    }

    /// `median (lowest to highest)`.
    pub(crate) fn range(&self, spread: &Spread) -> String {
        let [median, lowest, highest] = [spread.median, spread.lowest, spread.highest].map(self.write);
        format!("{median} ({lowest} to {highest})")
    }
}

/// Operations per second.
pub(crate) const THROUGHPUT: Shown = Shown {
    name: "ops_per_s",
    label: "Throughput",
    heading: "Throughput, ops/s",
    axis: "operations per second",
    format: "@fn:short",
    write: count,
    more: true,
};
/// Median latency.
pub(crate) const P50: Shown = latency("p50_us", "Latency, p50", "latency, p50");
/// 99th percentile of latency.
pub(crate) const P99: Shown = latency("p99_us", "Latency, p99", "latency, p99");
/// 99.9th percentile of latency.
pub(crate) const P99_9: Shown = latency("p99_9_us", "Latency, p99.9", "latency, p99.9");
/// CPU time of all processes for each operation.
pub(crate) const CPU: Shown = Shown {
    name: "cpu_us_per_op",
    label: "CPU per operation",
    heading: "CPU time of all processes for each operation",
    axis: "CPU time for each operation",
    format: "@fn:micros",
    write: micros,
    more: false,
};

/// Frames that replicas sent for each operation.
pub(crate) const MESSAGES: Shown = Shown {
    name: scaling::MESSAGES,
    label: "Messages per operation",
    heading: "Messages that replicas send for each operation",
    axis: "messages sent for each operation",
    format: "@fn:short",
    write: digits,
    more: false,
};
/// Bytes that replicas sent for each operation.
pub(crate) const BYTES: Shown = Shown {
    name: scaling::BYTES,
    label: "Bytes per operation",
    heading: "Bytes that replicas send for each operation",
    axis: "bytes sent for each operation",
    format: "@fn:short",
    write: digits,
    more: false,
};

/// What is shown beside what is expected, in the order of [`scaling::FIGURES`].
pub(crate) const BESIDE: [Shown; 3] = [MESSAGES, BYTES, CPU];

/// What charts can be switched between, and what the best points are named by.
pub(crate) const SWITCH: [Shown; 3] = [THROUGHPUT, P99, CPU];

const fn latency(name: &'static str, label: &'static str, axis: &'static str) -> Shown {
    Shown { name, label, heading: label, axis, format: "@fn:time", write: time, more: false }
}

fn micros(us: f64) -> String {
    format!("{us:.2} µs")
}
