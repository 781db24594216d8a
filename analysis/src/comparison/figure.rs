//! What is compared of two runs.

use serde::{Deserialize, Serialize};

use super::Side;
use crate::report::{Latency, Report};

/// A figure of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// Operations a second in the measured window.
    #[default]
    OpsPerS,
    /// CPU time of all processes for each operation, µs.
    CpuUsPerOp,
    /// Median latency, µs.
    P50Us,
    /// 90th percentile, µs.
    P90Us,
    /// 99th percentile, µs.
    P99Us,
    /// 99.9th percentile, µs.
    #[serde(rename = "p99_9_us")]
    P999Us,
}

/// All figures of a run, or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Values {
    /// Operations a second in the measured window.
    pub ops_per_s: f64,
    /// CPU time of all processes for each operation, µs.
    pub cpu_us_per_op: f64,
    /// Median latency, µs.
    pub p50_us: f64,
    /// 90th percentile, µs.
    pub p90_us: f64,
    /// 99th percentile, µs.
    pub p99_us: f64,
    /// 99.9th percentile, µs.
    pub p99_9_us: f64,
}

impl Figure {
    /// In the order in which they are shown.
    pub const ALL: [Self; 6] = [Self::OpsPerS, Self::CpuUsPerOp, Self::P50Us, Self::P90Us, Self::P99Us, Self::P999Us];

    /// As files and options have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpsPerS => "ops_per_s",
            Self::CpuUsPerOp => "cpu_us_per_op",
            Self::P50Us => "p50_us",
            Self::P90Us => "p90_us",
            Self::P99Us => "p99_us",
            Self::P999Us => "p99_9_us",
        }
    }

    /// For people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::OpsPerS => "throughput",
            Self::CpuUsPerOp => "CPU per operation",
            Self::P50Us => "p50",
            Self::P90Us => "p90",
            Self::P99Us => "p99",
            Self::P999Us => "p99.9",
        }
    }

    /// Which quantile of the latencies it is, if it is one.
    #[must_use]
    pub const fn quantile(self) -> Option<f64> {
        match self {
            Self::OpsPerS | Self::CpuUsPerOp => None,
            Self::P50Us => Some(0.5),
            Self::P90Us => Some(0.9),
            Self::P99Us => Some(0.99),
            Self::P999Us => Some(0.999),
        }
    }

    /// Whether more of it is better.
    #[must_use]
    pub const fn more_is_better(self) -> bool {
        matches!(self, Self::OpsPerS)
    }
}

impl Values {
    /// Those of one run.
    #[must_use]
    pub fn of(report: &Report) -> Self {
        let mut values = Self { ops_per_s: report.throughput.ops_per_s, ..Self::default() };
        values.cpu_us_per_op = report.cpu.us_per_op_total;
        values.set_latencies(&report.latency_us);
        values
    }

    /// One of them.
    #[must_use]
    pub const fn get(&self, figure: Figure) -> f64 {
        match figure {
            Figure::OpsPerS => self.ops_per_s,
            Figure::CpuUsPerOp => self.cpu_us_per_op,
            Figure::P50Us => self.p50_us,
            Figure::P90Us => self.p90_us,
            Figure::P99Us => self.p99_us,
            Figure::P999Us => self.p99_9_us,
        }
    }

    pub(super) const fn set(&mut self, figure: Figure, value: f64) {
        match figure {
            Figure::OpsPerS => self.ops_per_s = value,
            Figure::CpuUsPerOp => self.cpu_us_per_op = value,
            Figure::P50Us => self.p50_us = value,
            Figure::P90Us => self.p90_us = value,
            Figure::P99Us => self.p99_us = value,
            Figure::P999Us => self.p99_9_us = value,
        }
    }

    pub(super) const fn set_latencies(&mut self, latency: &Latency) {
        self.p50_us = latency.p50;
        self.p90_us = latency.p90;
        self.p99_us = latency.p99;
        self.p99_9_us = latency.p99_9;
    }
}

/// What decides unless somebody says otherwise: throughput, but p99 where every run was driven by a schedule, so that
/// throughput is what was asked for.
pub(super) fn headline(sides: &[Side]) -> Figure {
    let mut modes = sides.iter().flat_map(|side| &side.runs).map(|run| run.report.generator.mode.as_str());
    if modes.all(|mode| mode == "constant" || mode == "poisson") { Figure::P99Us } else { Figure::OpsPerS }
}
