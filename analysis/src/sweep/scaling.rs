//! How cost grows along a numeric setting, beside what is expected of the protocol.
//!
//! Messages and bytes are expected as message complexity says for the batches that were made
//! ([`crate::traffic::expected`]), run by run. CPU time has no such law: what a message costs is the implementation's.
//! It is expected to grow as the floor of the machine does ([`crate::roofline`]), which counts authenticated messages,
//! proofs and bytes at what they cost there: the floor's curve, scaled so that it passes through the first point that
//! was measured. The expectation is of the shape alone, then, and the first point says nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Point, Sweep, lines_along, numeric};
use crate::summary::signed_percent;

/// One curve: points that differ in one setting alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// The setting that grows along it, as the flag is spelt.
    pub along: String,
    /// The values of the other varied settings, which are the same along it.
    pub settings: BTreeMap<String, String>,
    /// Its points by growing value: those with VALID runs of which anything is expected.
    pub points: Vec<CurvePoint>,
    /// Of each figure, by its name, the point that is farthest from what is expected. Of CPU time the first point does
    /// not count, which is as expected by construction.
    pub farthest: BTreeMap<String, Farthest>,
}

/// One point of a curve.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Its value of the setting, as it is typed.
    pub value: String,
    /// Each figure of [`FIGURES`] of which something is expected, by its name.
    pub figures: BTreeMap<String, Beside>,
}

/// A figure beside what is expected of it, medians over the VALID runs of a point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Beside {
    /// What was measured.
    pub measured: f64,
    /// What is expected.
    pub expected: f64,
    /// What was measured by what is expected.
    pub ratio: f64,
}

/// The point of a curve that is farthest from what is expected.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Farthest {
    /// Its value of the setting.
    pub value: String,
    /// What was measured there by what is expected.
    pub ratio: f64,
}

/// Frames that replicas sent for each operation, as in the figures of a run.
pub const MESSAGES: &str = "messages_sent_per_op";
/// Bytes, the same.
pub const BYTES: &str = "bytes_sent_per_op";
/// CPU time of all processes for each operation.
pub const CPU: &str = "cpu_us_per_op";

/// The figures that curves have.
pub const FIGURES: [&str; 3] = [MESSAGES, BYTES, CPU];

impl Curve {
    /// A figure at a point of the sweep, if that is on this curve and anything is expected of it.
    #[must_use]
    pub fn at(&self, point: &Point, figure: &str) -> Option<&Beside> {
        let is_on = self.settings.iter().all(|(key, value)| point.settings.get(key) == Some(value));
        let value = point.settings.get(&self.along).filter(|_| is_on)?;
        self.points.iter().find(|point| point.value == *value)?.figures.get(figure)
    }
}

/// The curves of a sweep along each of its numeric settings, where anything is expected of two points at least.
#[must_use]
pub fn curves(sweep: &Sweep) -> Vec<Curve> {
    let mut curves = Vec::new();
    for varied in numeric(sweep) {
        for line in lines_along(sweep, varied) {
            let points: Vec<(&str, &Point)> =
                line.points.iter().map(|(place, point)| (varied.values[*place].as_str(), *point)).collect();
            curves.extend(curve(&varied.key, line.settings, &points));
        }
    }
    curves
}

fn curve(along: &str, settings: BTreeMap<String, String>, line: &[(&str, &Point)]) -> Option<Curve> {
    let median = |point: &Point, figure: &str| point.summary.figures.get(figure).map(|spread| spread.median);
    // What the floor is to be multiplied by to be what was measured at the first point of which both are known.
    let scale = line.iter().find_map(|&(_, point)| {
        let floor = median(point, "floor_us_per_op").filter(|floor| *floor > 0.0)?;
        Some(median(point, CPU)? / floor)
    });
    let expected = |point: &Point, figure: &str| match figure {
        MESSAGES => median(point, "expected_messages_per_op"),
        BYTES => median(point, "expected_bytes_per_op"),
        _ => Some(median(point, "floor_us_per_op")? * scale?),
    };
    let points = line.iter().map(|&(value, point)| {
        let beside = |figure: &str| {
            let (measured, expected) = (median(point, figure)?, expected(point, figure).filter(|value| *value > 0.0)?);
            Some((figure.to_owned(), Beside { measured, expected, ratio: measured / expected }))
        };
        CurvePoint { value: value.to_owned(), figures: FIGURES.into_iter().filter_map(beside).collect() }
    });
    let points: Vec<CurvePoint> = points.filter(|point| !point.figures.is_empty()).collect();
    (points.len() > 1).then(|| Curve { along: along.to_owned(), settings, farthest: farthest(&points), points })
}

/// Of each figure the point whose ratio is farthest from 1, going by factors: half as much is as far as twice as much.
fn farthest(points: &[CurvePoint]) -> BTreeMap<String, Farthest> {
    let mut farthest: BTreeMap<String, Farthest> = BTreeMap::new();
    for figure in FIGURES {
        let mut known = points.iter().filter_map(|point| Some((point, point.figures.get(figure)?.ratio)));
        if figure == CPU {
            // The floor was scaled to pass through it.
            known.next();
        }
        let most = known.max_by(|(_, a), (_, b)| distance(*a).total_cmp(&distance(*b)));
        farthest.extend(most.map(|(point, ratio)| (figure.to_owned(), Farthest { value: point.value.clone(), ratio })));
    }
    farthest
}

/// How far a ratio is from 1.
fn distance(ratio: f64) -> f64 {
    ratio.max(1e-9).ln().abs()
}

/// Which curves of a sweep are farthest from what is expected, in words: `messages +1.2 % at replicas=31`; empty of
/// none.
#[must_use]
pub fn deviations(curves: &[Curve]) -> String {
    let words =
        [(MESSAGES, "messages"), (BYTES, "bytes"), (CPU, "CPU time")].into_iter().filter_map(|(figure, name)| {
            let known = curves.iter().filter_map(|curve| Some((curve, curve.farthest.get(figure)?)));
            let (curve, most) = known.max_by(|(_, a), (_, b)| distance(a.ratio).total_cmp(&distance(b.ratio)))?;
            let others = curve.settings.iter().map(|(key, value)| format!(" {key}={value}")).collect::<String>();
            Some(format!("{name} {} at {}={}{others}", difference(most.ratio), curve.along, most.value))
        });
    words.collect::<Vec<_>>().join(", ")
}

/// By how much a ratio differs from 1: `+1.2 %`, `-40.0 %`, and `2.5 times` where that reads better.
#[must_use]
pub fn difference(ratio: f64) -> String {
    if ratio >= 2.0 { format!("{ratio:.1} times") } else { signed_percent(100.0 * (ratio - 1.0)) }
}

#[cfg(test)]
mod tests;
