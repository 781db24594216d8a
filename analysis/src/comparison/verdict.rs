//! What ratios amount to, in words.

use serde::{Deserialize, Serialize};

use super::figure::Figure;
use super::ranks::{CONFIDENCE, Shift};
use super::{ROUNDS_MIN, RUNS_MIN, Side, Versus, side_name};

/// What a ratio amounts to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conclusion {
    /// There are INVALID runs, or the figure was not measured everywhere.
    #[default]
    Withheld,
    /// No interval of so few runs can be that sure.
    TooFewRuns,
    /// The interval holds 1, or the p-value is 5 % or more; differences that would matter are not ruled out.
    NoDifferenceFound,
    /// The interval lies within the margin: whatever differs does not matter.
    Equivalent,
    /// There is a difference, smaller than the margin.
    BelowMargin,
    /// The other side is better than the first.
    Better,
    /// The other side is worse than the first.
    Worse,
}

impl Conclusion {
    /// Whether there is a difference, however small.
    #[must_use]
    pub const fn differs(self) -> bool {
        matches!(self, Self::BelowMargin | Self::Better | Self::Worse)
    }

    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Withheld,
        Self::TooFewRuns,
        Self::NoDifferenceFound,
        Self::Equivalent,
        Self::BelowMargin,
        Self::Better,
        Self::Worse,
    ];
}

/// Whether a side is slower than the first by more than a limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// By how much a side may be slower, percent.
    pub limit_percent: f64,
    /// In which figure.
    pub figure: Figure,
    /// What came of it, over all sides.
    pub outcome: Outcome,
    /// The same in words.
    pub statement: String,
}

/// What came of the question whether a side is too slow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// No side is: the worse end of every interval is within the limit.
    Passed,
    /// It can not be told: an interval holds the limit, or there is none.
    #[default]
    Inconclusive,
    /// A side is: there is a difference, and even the better end of its interval is beyond the limit.
    Slower,
}

/// A ratio, and what it was found from.
pub(super) struct Found<'a> {
    pub(super) figure: Figure,
    /// The other side's name.
    pub(super) other: &'a str,
    /// `None` if the figure was not measured in every run.
    pub(super) shift: Option<Shift>,
    pub(super) margin_percent: f64,
    pub(super) may_conclude: bool,
    pub(super) paired: bool,
    /// Runs of both sides.
    pub(super) sizes: (usize, usize),
}

/// Why no conclusion may be drawn.
pub(super) fn withheld(sides: &[Side], include_invalid: bool) -> Vec<String> {
    let mut reasons = Vec::new();
    for (index, side) in sides.iter().enumerate() {
        let name = side_name(index);
        for run in side.runs.iter().filter(|run| !run.report.verdict.valid) {
            let why = run.report.verdict.reasons.first().map_or("no reason is given", String::as_str);
            let unsafe_run = run.report.audit.violations > 0;
            if unsafe_run {
                reasons.push(format!("{} (a run of {name}) violated safety: {why}", run.directory));
            } else if !include_invalid {
                reasons.push(format!("{} (a run of {name}) is INVALID: {why}", run.directory));
            }
        }
    }
    reasons
}

/// The conclusion, and its statement.
///
/// There is a difference if both say so: the interval, which does not hold 1, and the test, with a p-value below 5 %.
/// It is called one of speed only if it is estimated to be above the margin.
pub(super) fn conclude(found: &Found<'_>) -> (Conclusion, String) {
    let Some(shift) = found.shift else {
        return (Conclusion::Withheld, "not measured in every run".into());
    };
    let ratio = shift.estimate.exp();
    if !found.may_conclude {
        return (Conclusion::Withheld, format!("no conclusion is drawn (ratio {ratio:.3})"));
    }
    let Some(interval) = shift.interval else {
        let (a, b) = found.sizes;
        let (had, least) = match found.paired {
            true => (format!("{a} rounds"), format!("{ROUNDS_MIN} rounds")),
            false => (format!("{a} and {b} runs"), format!("{RUNS_MIN} runs of each")),
        };
        return (Conclusion::TooFewRuns, format!("too few runs to tell: ratio {ratio:.3} of {had}; at least {least}"));
    };
    let [low, high] = interval.map(f64::exp);
    let margin = found.margin_percent / 100.0;
    let is_within = |ratio: f64| (ratio - 1.0).abs() <= margin;
    let seen = format!("ratio {ratio:.3}, 95 % interval {low:.3} to {high:.3}, p {:.3}", shift.p_value);
    let differs = (low > 1.0 || high < 1.0) && shift.p_value < 1.0 - CONFIDENCE;
    if !differs && is_within(low) && is_within(high) {
        let margin = percent(margin);
        return (Conclusion::Equivalent, format!("no difference beyond {margin} % ({seen})"));
    }
    if !differs {
        return (Conclusion::NoDifferenceFound, format!("no difference found ({seen})"));
    }
    let statement = difference(found, ratio, [low, high]);
    if is_within(ratio) {
        let margin = percent(margin);
        return (Conclusion::BelowMargin, format!("{statement}, which does not exceed the margin of {margin} %"));
    }
    let is_better = (ratio > 1.0) == found.figure.more_is_better();
    (if is_better { Conclusion::Better } else { Conclusion::Worse }, statement)
}

/// `B is faster by 12 % (8 to 16 %)`.
fn difference(found: &Found<'_>, ratio: f64, interval: [f64; 2]) -> String {
    let other = found.other;
    let more = ratio > 1.0;
    let mut ends = interval.map(|end| (end - 1.0).abs());
    ends.sort_by(f64::total_cmp);
    let by = format!("{} % ({} to {} %)", percent((ratio - 1.0).abs()), percent(ends[0]), percent(ends[1]));
    match (found.figure, more) {
        (Figure::OpsPerS, true) => format!("{other} is faster by {by}"),
        (Figure::OpsPerS, false) => format!("{other} is slower by {by}"),
        (Figure::CpuUsPerOp, true) => format!("{other} takes more CPU time for each operation by {by}"),
        (Figure::CpuUsPerOp, false) => format!("{other} takes less CPU time for each operation by {by}"),
        (latency, true) => format!("{} of {other} is longer by {by}", latency.title()),
        (latency, false) => format!("{} of {other} is shorter by {by}", latency.title()),
    }
}

/// A share as percent, with as many digits as it is worth.
fn percent(share: f64) -> String {
    let value = share * 100.0;
    let digits = if value < 9.95 { format!("{value:.1}") } else { format!("{value:.0}") };
    digits.strip_suffix(".0").map_or(digits.clone(), str::to_owned)
}

/// Is a side slower than the first by more than `limit_percent`? A rate is slower by what it is less of, a time by what
/// it is more of. The end of the interval that is better for the side decides that it is, if there is a difference at
/// all; the worse end that it is not.
pub(super) fn gate(versus: &[Versus], figure: Figure, limit_percent: f64) -> Gate {
    let judged: Vec<(Outcome, String)> = versus.iter().map(|versus| judge(versus, figure, limit_percent)).collect();
    let outcome = judged.iter().map(|(outcome, _)| *outcome).max().unwrap_or_default();
    let statement = judged.into_iter().map(|(_, words)| words).collect::<Vec<_>>().join("; ");
    Gate { limit_percent, figure, outcome, statement }
}

fn judge(versus: &Versus, figure: Figure, limit: f64) -> (Outcome, String) {
    let other = &versus.other;
    let found = versus.figures.iter().find(|ratio| ratio.figure == figure);
    let interval = found.filter(|ratio| ratio.conclusion != Conclusion::Withheld).and_then(|ratio| ratio.interval);
    let Some([low, high]) = interval else {
        return (
            Outcome::Inconclusive,
            format!("whether {other} is slower by more than {limit} % can not be told: there is no interval"),
        );
    };
    let [least, most] = if figure.more_is_better() { [1.0 - high, 1.0 - low] } else { [low - 1.0, high - 1.0] };
    let [least, most] = [least * 100.0, most * 100.0];
    let title = figure.title();
    let differs = found.is_some_and(|ratio| ratio.conclusion.differs());
    let (outcome, words) = if least > limit && differs {
        (Outcome::Slower, format!("{other} is slower by more than {limit} %: by at least {least:.1} %"))
    } else if most <= limit {
        (Outcome::Passed, format!("{other} is not slower by more than {limit} %: by at most {:.1} %", most.max(0.0)))
    } else {
        (
            Outcome::Inconclusive,
            format!("whether {other} is slower by more than {limit} % can not be told: by {least:.1} to {most:.1} %"),
        )
    };
    (outcome, format!("{words} ({title})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::Ratio;

    /// An interval of a bootstrap and a test by permutation may disagree: then nothing is concluded from either.
    #[test]
    fn a_gate_says_slower_only_where_there_is_a_difference() {
        let gate = |conclusion| {
            let interval = Some([1.10, 1.30]);
            let ratio = Ratio { figure: Figure::P99Us, conclusion, interval, ..Ratio::default() };
            let versus = Versus { other: "B".into(), figures: vec![ratio], ..Versus::default() };
            gate(&[versus], Figure::P99Us, 5.0).outcome
        };
        assert_eq!(gate(Conclusion::Worse), Outcome::Slower);
        assert_eq!(gate(Conclusion::NoDifferenceFound), Outcome::Inconclusive);
        assert_eq!(gate(Conclusion::Withheld), Outcome::Inconclusive);
    }
}
