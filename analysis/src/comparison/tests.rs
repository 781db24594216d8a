use hdrhistogram::Histogram;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

use super::table::{csv, markdown, text};
use super::verdict::Outcome;
use super::*;
use crate::report::Verdict;

/// A machine as shared ones are: its speed wanders slowly by ±15 %, each run is off by a few percent besides, and now
/// and then one is much slower.
struct Machine {
    random: Xoshiro256PlusPlus,
    /// Logarithm of its speed, pulled back to 0: runs close in time are alike.
    drift: f64,
    second: u64,
}

impl Machine {
    fn new(seed: u64) -> Self {
        Self { random: Xoshiro256PlusPlus::seed_from_u64(seed), drift: 0.0, second: 0 }
    }

    /// Roughly normal, of standard deviation 1.
    fn noise(&mut self) -> f64 {
        (0..12).map(|_| self.random.random::<f64>()).sum::<f64>() - 6.0
    }

    /// One run: `slowdown` 0.05 takes 5 % of the throughput away.
    fn run(&mut self, slowdown: f64) -> Run {
        self.drift = (0.97 * self.drift + 0.02 * self.noise()).clamp(-0.15, 0.15);
        let stall = if self.random.random_bool(0.04) { 0.1 * self.random.random::<f64>() } else { 0.0 };
        let speed = (self.drift + 0.015 * self.noise() - stall).exp() * (1.0 - slowdown);
        self.second += 13;
        let mut run = run(1e6 * speed, self.second);
        run.report.cpu.us_per_op_total = 1.0 / speed;
        run
    }

    /// A run with latencies whose percentiles go with its speed, their tail with the luck of the run besides.
    fn run_with_latencies(&mut self, slowdown: f64) -> Run {
        let mut run = self.run(slowdown);
        let mean_us = 1e9 / run.report.throughput.ops_per_s;
        let tail = 1.0 + 0.5 * self.random.random::<f64>();
        let mut histogram = Histogram::<u64>::new(2).unwrap();
        for _ in 0..2000 {
            let exponential = -self.random.random::<f64>().max(1e-9).ln();
            let longer = if exponential > 4.0 { tail } else { 1.0 };
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            histogram.record((mean_us * 1e3 * exponential * longer) as u64 + 1).unwrap();
        }
        run.latencies = Some(histogram);
        run
    }

    /// Rounds with one run of each side, in random order.
    fn rounds(&mut self, rounds: usize, slowdown: f64, make: fn(&mut Self, f64) -> Run) -> [Side; 2] {
        let mut sides = [side("a", vec![]), side("b", vec![])];
        for _ in 0..rounds {
            let first = usize::from(self.random.random::<bool>());
            for index in [first, 1 - first] {
                let run = make(self, if index == 0 { 0.0 } else { slowdown });
                sides[index].runs.push(run);
            }
        }
        sides
    }
}

fn run(ops_per_s: f64, second: u64) -> Run {
    let mut report = Report { verdict: Verdict { valid: true, reasons: vec![] }, ..Report::default() };
    report.throughput.ops_per_s = ops_per_s;
    report.cpu.us_per_op_total = 1e6 / ops_per_s;
    report.latency_us.p50 = 1e9 / ops_per_s;
    report.generator.mode = "closed".into();
    report.config = json!({ "auth": "mac", "batch": "none", "seed": second });
    report.environment.transport = "epoll".into();
    report.environment.started_at =
        format!("2026-01-02T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60);
    Run { directory: format!("results/{second}"), report, latencies: None, round: None }
}

fn side(label: &str, runs: Vec<Run>) -> Side {
    Side { label: label.into(), runs }
}

/// As many runs of each side as there are rates, in turn.
fn interleaved(a: &[f64], b: &[f64]) -> [Side; 2] {
    let runs = |rates: &[f64], offset: u64| (0..).zip(rates).map(|(i, rate)| run(*rate, 20 * i + offset)).collect();
    [side("auth=mac", runs(a, 0)), side("auth=none", runs(b, 10))]
}

fn conclusion(sides: &[Side], question: &Question) -> (Conclusion, String) {
    let comparison = compare(sides, question);
    let headline = comparison.versus[0].figures.iter().find(|ratio| ratio.figure == comparison.headline).unwrap();
    (headline.conclusion, headline.statement.clone())
}

fn is_difference(conclusion: Conclusion) -> bool {
    matches!(conclusion, Conclusion::Better | Conclusion::Worse)
}

/// How many of `trials` comparisons of throughput and of CPU time see a difference, however small if there is no
/// margin.
fn seen(trials: u64, rounds: usize, slowdown: f64, margin_percent: f64) -> [usize; 2] {
    let mut seen = [0; 2];
    for trial in 0..trials {
        let sides = Machine::new(trial).rounds(rounds, slowdown, Machine::run);
        let comparison = compare(&sides, &Question { margin_percent, ..Question::default() });
        assert_eq!(comparison.rounds, Some(rounds));
        for (count, ratio) in seen.iter_mut().zip(&comparison.versus[0].figures) {
            let found = is_difference(ratio.conclusion);
            assert!(!found || slowdown == 0.0 || ratio.conclusion == Conclusion::Worse, "{ratio:?}");
            *count += usize::from(found);
        }
    }
    seen
}

/// The control question: what does not differ must not seem to. At most 20 of 400.
#[test]
fn a_against_a_shows_no_difference() {
    for rounds in [6, 10, 20] {
        let found = seen(400, rounds, 0.0, MARGIN_PERCENT);
        assert!(found.iter().all(|found| *found <= 20), "{rounds} rounds: {found:?} of 400");
        // Without a margin one in twenty is what 95 % means; more than 32 of 400 would be by chance once in 250 times.
        let found = seen(400, rounds, 0.0, 0.0);
        assert!(found.iter().all(|found| *found <= 32), "{rounds} rounds, without a margin: {found:?} of 400");
    }
}

/// The power of the default number of rounds on such a machine.
#[test]
fn a_planted_slowdown_of_5_percent_is_found() {
    let found = seen(400, 10, 0.05, MARGIN_PERCENT);
    assert!(found.iter().all(|found| *found >= 380), "{found:?} of 400");
}

/// Percentiles of latency keep what their intervals promise, the far tail of few operations included.
#[test]
fn latencies_of_a_against_a_show_no_difference_and_a_longer_tail_is_found() {
    let figures = [Figure::P50Us, Figure::P99Us, Figure::P999Us];
    let seen = |slowdown: f64| {
        let mut seen = [0; 3];
        let question = Question { margin_percent: 0.0, ..Question::default() };
        for trial in 0..40 {
            let sides = Machine::new(trial).rounds(8, slowdown, Machine::run_with_latencies);
            let versus = &compare(&sides, &question).versus[0];
            for (count, figure) in seen.iter_mut().zip(figures) {
                let ratio = versus.figures.iter().find(|ratio| ratio.figure == figure).unwrap();
                *count += usize::from(is_difference(ratio.conclusion));
            }
        }
        seen
    };
    let none = seen(0.0);
    assert!(none.iter().all(|seen| *seen <= 5), "{none:?} of 40");
    let slower = seen(0.3);
    assert!(slower.iter().all(|seen| *seen >= 36), "{slower:?} of 40");
}

#[test]
fn runs_that_were_not_made_in_rounds_are_compared_as_independent_ones() {
    let a: Vec<f64> = (0..8).map(|i| 100.0 + f64::from(i)).collect();
    let runs = |rates: &[f64], start: u64| (0..).zip(rates).map(|(i, rate)| run(*rate, 20 * i + start)).collect();
    let apart = [side("a", runs(&a, 0)), side("b", runs(&[90.0, 91.0, 92.0, 93.0, 94.0], 1000))];
    let comparison = compare(&apart, &Question::default());
    assert_eq!(comparison.rounds, None);
    assert!(comparison.versus[0].figures[0].method.contains("Mann and Whitney"));
    assert!(comparison.versus[0].statement.starts_with("B is slower by 11 % ("), "{}", comparison.versus[0].statement);
    assert!(comparison.notes.iter().any(|note| note.contains("did not run interleaved")), "{:?}", comparison.notes);
    let beside = [side("a", runs(&a, 0)), side("b", runs(&[90.0, 91.0, 92.0, 93.0, 94.0], 13))];
    let notes = compare(&beside, &Question::default()).notes;
    assert!(notes.iter().any(|note| note.contains("were not made in rounds")), "{notes:?}");
}

#[test]
fn rounds_that_are_known_count_even_if_runs_of_others_are_missing() {
    let mut sides = interleaved(&[100.0; 8], &[101.0; 8]);
    for side in &mut sides {
        (0..).zip(&mut side.runs).for_each(|(round, run)| run.round = Some(round));
    }
    sides[1].runs.remove(3);
    let comparison = compare(&sides, &Question::default());
    assert_eq!(comparison.rounds, Some(7));
    assert_eq!(comparison.sides[0].runs.len(), 7);
    assert!(comparison.sides[0].runs.iter().all(|run| run.directory != "results/60"));
    assert!(
        comparison.notes.iter().any(|note| note.contains("runs of A without a counterpart")),
        "{:?}",
        comparison.notes
    );
}

#[test]
fn statements_say_what_was_found() {
    let rates: Vec<f64> = (0..10).map(|i| 1e6 + f64::from(i * i) * 1e3).collect();
    let times = |factor: f64| rates.iter().map(|rate| rate * factor).collect::<Vec<f64>>();
    let found = |b: &[f64]| conclusion(&interleaved(&rates, b), &Question::default());
    assert_eq!(found(&times(1.12)), (Conclusion::Better, "B is faster by 12 % (12 to 12 %)".into()));
    assert_eq!(found(&times(0.9)), (Conclusion::Worse, "B is slower by 10 % (10 to 10 %)".into()));
    let below = "B is faster by 1 % (1 to 1 %), which does not exceed the margin of 2 %";
    assert_eq!(found(&times(1.01)), (Conclusion::BelowMargin, below.into()));
    let same = "no difference beyond 2 % (ratio 1.000, 95 % interval 1.000 to 1.000, p 1.000)";
    assert_eq!(found(&times(1.0)), (Conclusion::Equivalent, same.into()));
    let wild: Vec<f64> = (0..10).map(|i| rates[i] * if i % 2 == 0 { 1.2 } else { 0.84 }).collect();
    let (kind, words) = found(&wild);
    assert_eq!(kind, Conclusion::NoDifferenceFound);
    assert!(words.starts_with("no difference found (ratio 1.0"), "{words}");
    let few = conclusion(&interleaved(&rates[..5], &times(1.12)[..5]), &Question::default());
    assert_eq!(
        few,
        (Conclusion::TooFewRuns, "too few runs to tell: ratio 1.120 of 5 rounds; at least 6 rounds".into())
    );
}

#[test]
fn invalid_runs_are_never_dropped_in_silence() {
    let mut sides = interleaved(&[100.0; 8], &[200.0; 8]);
    sides[1].runs[2].report.verdict = Verdict { valid: false, reasons: vec!["it was a debug build".into()] };
    let comparison = compare(&sides, &Question { fail_if_slower_percent: Some(5.0), ..Question::default() });
    assert_eq!(comparison.withheld, ["results/50 (a run of B) is INVALID: it was a debug build"]);
    assert!(comparison.versus[0].figures.iter().all(|ratio| ratio.conclusion == Conclusion::Withheld));
    assert_eq!(comparison.gate.unwrap().outcome, Outcome::Inconclusive);
    assert_eq!(comparison.sides[1].runs.len(), 8);
    let included = Question { include_invalid: true, ..Question::default() };
    let comparison = compare(&sides, &included);
    assert!(comparison.withheld.is_empty());
    assert!(comparison.versus[0].statement.starts_with("B is faster by 100 %"));
    assert!(comparison.notes.contains(&"of the 8 runs of B 1 are INVALID and count all the same".to_owned()));
    sides[1].runs[2].report.audit.violations = 1;
    let comparison = compare(&sides, &included);
    assert_eq!(comparison.withheld, ["results/50 (a run of B) violated safety: it was a debug build"]);
}

#[test]
fn runs_that_could_not_be_played_stand_against_a_conclusion() {
    let sides = interleaved(&[100.0; 8], &[120.0; 8]);
    let failed = vec!["x/003-b-r1 (a run of B) could not be played: no port".to_owned()];
    let question = Question { failed: failed.clone(), ..Question::default() };
    let comparison = compare(&sides, &question);
    assert_eq!((&comparison.withheld, conclusion(&sides, &question).0), (&failed, Conclusion::Withheld));
    let comparison = compare(&sides, &Question { include_invalid: true, ..question });
    assert!(comparison.withheld.is_empty() && comparison.notes.contains(&failed[0]), "{comparison:?}");
}

#[test]
fn what_differs_besides_is_said() {
    let mut sides = interleaved(&[100.0; 8], &[100.0; 8]);
    assert!(compare(&sides, &Question::default()).differences.is_empty(), "seeds do not count");
    for run in &mut sides[1].runs {
        run.report.config = json!({ "auth": "none", "batch": "none", "burn_ns": 20 });
        run.report.environment.transport = "tokio-uring: it works here".into();
        (run.report.generator.threads, run.report.generator.connections) = (4, 4);
    }
    sides[0].runs[0].report.environment.kernel = "7.0".into();
    let comparison = compare(&sides, &Question::default());
    let names: Vec<&str> = comparison.differences.iter().map(|difference| difference.name.as_str()).collect();
    assert_eq!(names, ["auth", "burn_ns", "kernel", "transport", "load_generator"]);
    assert_eq!(comparison.differences[1].values, ["not set", "20"]);
    for part in [
        "A and B differ in 2 settings (auth, burn_ns)",
        "A and B differ in transport: epoll; tokio-uring: it works here",
        "the runs of A differ in environment kernel",
    ] {
        assert!(comparison.notes.iter().any(|note| note.contains(part)), "{:?}", comparison.notes);
    }
}

#[test]
fn settings_that_one_of_two_builds_does_not_have_are_told_apart() {
    let mut sides = interleaved(&[100.0; 8], &[100.0; 8]);
    for run in &mut sides[1].runs {
        run.report.config = json!({ "auth": "mac", "batch": "none", "new": "on", "newer": 1 });
        run.report.environment.git_commit = "abc".into();
    }
    let notes = compare(&sides, &Question::default()).notes;
    assert!(
        notes.contains(&"only one of the builds of A and B has these settings: new, newer".to_owned()),
        "{notes:?}"
    );
    assert!(!notes.iter().any(|note| note.contains("can not be put down to one")), "{notes:?}");
}

#[test]
fn gate_is_decided_by_the_whole_interval() {
    let base = [100.0; 8];
    let gate = |b: [f64; 8]| {
        let question = Question { fail_if_slower_percent: Some(5.0), ..Question::default() };
        compare(&interleaved(&base, &b), &question).gate.unwrap()
    };
    let passed = gate([97.0; 8]);
    assert_eq!(
        (passed.outcome, passed.statement.as_str()),
        (Outcome::Passed, "B is not slower by more than 5 %: by at most 3.0 % (throughput)")
    );
    assert_eq!(gate([120.0; 8]).outcome, Outcome::Passed);
    let slower = gate([90.0, 91.0, 92.0, 93.0, 92.5, 91.5, 90.5, 93.5]);
    assert_eq!(slower.outcome, Outcome::Slower);
    assert!(slower.statement.starts_with("B is slower by more than 5 %: by at least "), "{}", slower.statement);
    // Slower in truth, perhaps, yet the interval holds the limit.
    let unknown = gate([90.0, 99.0, 92.0, 97.0, 98.0, 91.5, 90.5, 96.0]);
    assert_eq!(unknown.outcome, Outcome::Inconclusive, "{}", unknown.statement);
    let few = Question { fail_if_slower_percent: Some(5.0), ..Question::default() };
    let few = compare(&interleaved(&base[..3], &[50.0; 3]), &few).gate.unwrap();
    assert_eq!(few.outcome, Outcome::Inconclusive);
}

#[test]
fn a_time_is_slower_by_what_it_is_more_of() {
    let mut sides = interleaved(&[100.0; 8], &[100.0; 8]);
    sides[1].runs.iter_mut().for_each(|run| run.report.cpu.us_per_op_total *= 1.08);
    let question = |limit| Question {
        headline: Some(Figure::CpuUsPerOp),
        fail_if_slower_percent: Some(limit),
        ..Question::default()
    };
    assert_eq!(compare(&sides, &question(5.0)).gate.unwrap().outcome, Outcome::Slower);
    assert_eq!(compare(&sides, &question(9.0)).gate.unwrap().outcome, Outcome::Passed);
    let (kind, words) = conclusion(&sides, &question(5.0));
    assert_eq!(
        (kind, words.as_str()),
        (Conclusion::Worse, "B takes more CPU time for each operation by 8 % (8 to 8 %)")
    );
}

#[test]
fn open_loops_are_compared_by_their_tail() {
    let mut sides = interleaved(&[100.0; 8], &[100.0; 8]);
    sides.iter_mut().flat_map(|side| &mut side.runs).for_each(|run| run.report.generator.mode = "poisson".into());
    assert_eq!(compare(&sides, &Question::default()).headline, Figure::P99Us);
    sides[0].runs[0].report.generator.mode = "closed".into();
    assert_eq!(compare(&sides, &Question::default()).headline, Figure::OpsPerS);
}

#[test]
fn more_than_two_sides_are_each_compared_with_the_first() {
    let [a, b] = interleaved(&[100.0; 8], &[120.0; 8]);
    let c = side("c", (0..8).map(|i| run(80.0, 20 * i + 15)).collect());
    let comparison = compare(&[a, b, c], &Question { fail_if_slower_percent: Some(5.0), ..Question::default() });
    assert_eq!(comparison.rounds, Some(8));
    let statements: Vec<&str> = comparison.versus.iter().map(|versus| versus.statement.as_str()).collect();
    assert_eq!(statements, ["B is faster by 20 % (20 to 20 %)", "C is slower by 20 % (20 to 20 %)"]);
    assert_eq!(comparison.gate.unwrap().outcome, Outcome::Slower);
    assert!(comparison.notes.iter().any(|note| note.contains("2 sides are compared with A")), "{:?}", comparison.notes);
}

#[test]
fn tables_hold_every_figure_and_read_back() {
    let comparison = compare(&Machine::new(1).rounds(6, 0.1, Machine::run_with_latencies), &Question::default());
    let (text, markdown, csv) = (text(&comparison), markdown(&comparison), csv(&comparison));
    for figure in Figure::ALL {
        assert!(
            text.contains(figure.title()) && markdown.contains(&format!("| {} | ", figure.title())),
            "{text}\n{markdown}"
        );
        assert!(csv.contains(&format!("A,B,{},", figure.name())), "{csv}");
    }
    assert!(text.contains("=> throughput: B is slower by"), "{text}");
    let columns = table::COLUMNS.matches(',').count();
    assert!(csv.lines().all(|line| line.matches(',').count() == columns), "{csv}");
    let read: Comparison = serde_json::from_str(&serde_json::to_string(&comparison).unwrap()).unwrap();
    assert_eq!(read.schema, SCHEMA);
    assert_eq!(read.versus.len(), comparison.versus.len());
}
