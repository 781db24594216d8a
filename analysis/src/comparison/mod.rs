//! `comparison.json`: whether settings differ in speed, from several independent runs of each.
//!
//! [figure] names what is compared, [differences] says in what the sides differ besides, [rounds] which runs were made
//! side by side. The statistics are in [ranks] (throughput and CPU time: one number a run) and `merged` (percentiles of
//! latency, from histograms), what they amount to in [verdict], as text and tables in [table].

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::report::Report;

pub mod differences;
pub mod figure;
mod merged;
pub mod ranks;
pub mod rounds;
pub mod table;
pub mod verdict;

#[cfg(test)]
mod tests;

use differences::Difference;
use figure::{Figure, Values};
use merged::Merged;
use ranks::{Shift, median, rank_sum, signed_rank};
use verdict::{Conclusion, Gate};

/// The schema of `comparison.json`.
pub const SCHEMA: &str = "hippodrome/comparison/1";
/// Differences smaller than this, percent, matter to nobody unless somebody says so.
pub const MARGIN_PERCENT: f64 = 2.0;
/// Rounds below which nothing can be said with 95 % confidence.
pub const ROUNDS_MIN: usize = 6;
/// Runs of each side below which nothing can be said with 95 % confidence, where they were not made in rounds.
pub const RUNS_MIN: usize = 4;

/// One run, as it is handed in.
#[derive(Clone, Debug)]
pub struct Run {
    /// Where its files lie.
    pub directory: String,
    /// Its report.
    pub report: Report,
    /// All latencies of its measured window, ns; `None` if they can not be read.
    pub latencies: Option<Histogram<u64>>,
    /// The round in which it was made, if that is known.
    pub round: Option<u32>,
}

/// One of those that are compared.
#[derive(Clone, Debug)]
pub struct Side {
    /// What it is, in words: its settings, or where its runs lie.
    pub label: String,
    /// Its runs.
    pub runs: Vec<Run>,
}

/// What is asked of the sides.
#[derive(Clone, Debug)]
pub struct Question {
    /// Differences up to this, percent, do not matter.
    pub margin_percent: f64,
    /// The figure that decides; by itself throughput in a closed loop, p99 in an open one.
    pub headline: Option<Figure>,
    /// Whether INVALID runs count.
    pub include_invalid: bool,
    /// Runs that could not be played, in words: like INVALID ones they stand against a conclusion.
    pub failed: Vec<String>,
    /// By how many percent no side may be slower than the first.
    pub fail_if_slower_percent: Option<f64>,
}

impl Default for Question {
    fn default() -> Self {
        Self {
            margin_percent: MARGIN_PERCENT,
            headline: None,
            include_invalid: false,
            failed: Vec::new(),
            fail_if_slower_percent: None,
        }
    }
}

/// The whole of `comparison.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// Of the intervals, percent.
    pub confidence_percent: f64,
    /// Differences up to this are said not to matter, percent.
    pub margin_percent: f64,
    /// The figure that decides.
    pub headline: Figure,
    /// How many rounds there were, each with one run of every side; `null` if the runs were not made in rounds.
    pub rounds: Option<usize>,
    /// Those that were compared: the first with each of the others.
    pub sides: Vec<Compared>,
    /// Each other side against the first.
    pub versus: Vec<Versus>,
    /// In what the sides differ: settings, then machine, build, and what was left to the machine.
    pub differences: Vec<Difference>,
    /// Why no conclusion may be drawn; empty if one may.
    pub withheld: Vec<String>,
    /// What is worth knowing about the comparison.
    pub notes: Vec<String>,
    /// Whether a side is too slow, if that was asked.
    pub gate: Option<Gate>,
}

/// One side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// `A`, `B`, ..
    pub name: String,
    /// What it is.
    pub label: String,
    /// Medians over its runs; percentiles of latency are of all its latencies together, if those can be read.
    pub values: Values,
    /// Its runs, in order of time.
    pub runs: Vec<ComparedRun>,
}

/// One run of a side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ComparedRun {
    /// Where its files lie.
    pub directory: String,
    /// When it began.
    pub started_at: String,
    /// In which round, from 1; `null` if there are none.
    pub round: Option<usize>,
    /// Whether its numbers may be used.
    pub valid: bool,
    /// What speaks against it.
    pub reasons: Vec<String>,
    /// Its figures.
    pub values: Values,
}

/// One side against the first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Versus {
    /// The first side's name.
    pub base: String,
    /// The other's.
    pub other: String,
    /// The headline figure's statement.
    pub statement: String,
    /// Every figure.
    pub figures: Vec<Ratio>,
}

/// One figure of one side against that of the first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// Which.
    pub figure: Figure,
    /// Other / base; `null` if it was not measured in every run.
    pub ratio: Option<f64>,
    /// 95 % interval of the ratio, lowest and highest; `null` if the runs are too few for one.
    pub interval: Option<[f64; 2]>,
    /// How probable so large a ratio is where nothing differs, two-sided.
    pub p_value: Option<f64>,
    /// How ratio, interval and p-value were found.
    pub method: String,
    /// What it amounts to.
    pub conclusion: Conclusion,
    /// The same in words.
    pub statement: String,
}

/// Compares the first side with each of the others.
///
/// # Panics
/// If there are fewer than two sides, or one without runs.
#[must_use]
pub fn compare(sides: &[Side], question: &Question) -> Comparison {
    assert!(sides.len() > 1 && sides.iter().all(|side| !side.runs.is_empty()), "nothing to compare");
    let arranged = rounds::arrange(sides);
    let sides = &arranged.sides;
    let headline = question.headline.unwrap_or_else(|| figure::headline(sides));
    let mut withheld = verdict::withheld(sides, question.include_invalid);
    let mut notes = differences::notes(&arranged, question.include_invalid);
    // Rounds without them are no longer those that the order was drawn for.
    if question.include_invalid { &mut notes } else { &mut withheld }.extend(question.failed.iter().cloned());
    let may_conclude = withheld.is_empty();
    let others =
        (1..sides.len()).map(|other| versus(&arranged, other, headline, question.margin_percent, may_conclude));
    let versus: Vec<Versus> = others.collect();
    let gate = question.fail_if_slower_percent.map(|limit| verdict::gate(&versus, headline, limit));
    Comparison {
        schema: SCHEMA.into(),
        confidence_percent: 100.0 * ranks::CONFIDENCE,
        margin_percent: question.margin_percent,
        headline,
        rounds: arranged.rounds,
        sides: sides.iter().enumerate().map(|(index, side)| compared(index, side, arranged.rounds)).collect(),
        versus,
        differences: differences::between(sides),
        notes,
        withheld,
        gate,
    }
}

/// `A` for the first side, and so on.
#[must_use]
pub fn side_name(index: usize) -> String {
    let letter = u8::try_from(index).ok().filter(|index| *index < 26).map(|index| char::from(b'A' + index));
    letter.map_or_else(|| format!("#{}", index + 1), String::from)
}

fn compared(index: usize, side: &Side, rounds: Option<usize>) -> Compared {
    let one = |(place, run): (usize, &Run)| ComparedRun {
        directory: run.directory.clone(),
        started_at: run.report.environment.started_at.clone(),
        round: rounds.map(|_| place + 1),
        valid: run.report.verdict.valid,
        reasons: run.report.verdict.reasons.clone(),
        values: Values::of(&run.report),
    };
    let runs: Vec<ComparedRun> = side.runs.iter().enumerate().map(one).collect();
    let mut values = Values::default();
    for figure in Figure::ALL {
        let of_runs: Vec<f64> = runs.iter().map(|run| run.values.get(figure)).collect();
        values.set(figure, median(&of_runs));
    }
    if let Some(all) = histograms(side) {
        let mut merged = Histogram::<u64>::new(3).expect("three digits are allowed");
        merged.auto(true);
        // What does not fit can not happen: it resizes itself.
        if all.iter().all(|histogram| merged.add(*histogram).is_ok()) {
            values.set_latencies(&crate::latency::percentiles(&merged));
        }
    }
    Compared { name: side_name(index), label: side.label.clone(), values, runs }
}

/// The latencies of each run, if all have them.
fn histograms(side: &Side) -> Option<Vec<&Histogram<u64>>> {
    side.runs.iter().map(|run| run.latencies.as_ref().filter(|latencies| !latencies.is_empty())).collect()
}

fn versus(
    arranged: &rounds::Arranged,
    other: usize,
    headline: Figure,
    margin_percent: f64,
    may_conclude: bool,
) -> Versus {
    let (a, b) = (&arranged.sides[0], &arranged.sides[other]);
    let name = side_name(other);
    let paired = arranged.rounds.is_some();
    let latencies = histograms(a).zip(histograms(b)).map(|(a, b)| Merged::new(&a, &b, paired));
    let quantiles: Vec<f64> = Figure::ALL.iter().filter_map(|figure| figure.quantile()).collect();
    let mut of_latency = latencies.map(|latencies| latencies.shifts(&quantiles)).into_iter().flatten();
    let figures = Figure::ALL.map(|figure| {
        let shift = if figure.quantile().is_some() { of_latency.next() } else { shift_of(a, b, figure, paired) };
        let shift = shift.filter(|shift| shift.estimate.is_finite());
        let method = method(figure, paired);
        let sizes = (a.runs.len(), b.runs.len());
        let (conclusion, statement) = verdict::conclude(&verdict::Found {
            figure,
            other: &name,
            shift,
            margin_percent,
            may_conclude,
            paired,
            sizes,
        });
        Ratio {
            figure,
            ratio: shift.map(|shift| shift.estimate.exp()),
            interval: shift.and_then(|shift| shift.interval).map(|interval| interval.map(f64::exp)),
            p_value: shift.map(|shift| shift.p_value),
            method: method.into(),
            conclusion,
            statement,
        }
    });
    let statement = figures.iter().find(|ratio| ratio.figure == headline).map(|ratio| ratio.statement.clone());
    Versus { base: side_name(0), other: name, statement: statement.unwrap_or_default(), figures: figures.into() }
}

/// By how much the logarithm of a figure that is one number a run is shifted; `None` if it was not measured everywhere.
fn shift_of(a: &Side, b: &Side, figure: Figure, paired: bool) -> Option<Shift> {
    let logarithms = |side: &Side| -> Option<Vec<f64>> {
        let values = side.runs.iter().map(|run| Values::of(&run.report).get(figure));
        values.map(|value| (value > 0.0 && value.is_finite()).then(|| value.ln())).collect()
    };
    let (a, b) = (logarithms(a)?, logarithms(b)?);
    if !paired {
        return Some(rank_sum(&a, &b));
    }
    Some(signed_rank(&a.iter().zip(&b).map(|(a, b)| b - a).collect::<Vec<_>>()))
}

fn method(figure: Figure, paired: bool) -> &'static str {
    match (figure.quantile().is_some(), paired) {
        (false, true) => "Hodges-Lehmann estimate over rounds; exact interval and p-value by Wilcoxon's signed ranks",
        (false, false) => "Hodges-Lehmann estimate; exact interval and p-value by Mann and Whitney's rank sums",
        (true, true) => {
            "merged histograms; expanded percentile bootstrap over rounds; p-value by exchanging sides in rounds"
        }
        (true, false) => "merged histograms; expanded percentile bootstrap over runs; p-value by exchanging runs",
    }
}
