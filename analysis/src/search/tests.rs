use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};

use super::limit::{Confirmed, LimitSearch, RUNS_MAX, Step};
use super::objective::Tail;
use super::*;
use crate::report::Latency;

/// A queue like M/M/1 on a shared machine: its capacity is another one in each run, and so is the percentile that a run
/// sees.
struct Cluster {
    random: Xoshiro256PlusPlus,
    capacity: f64,
    /// Relative noise of capacity and of latency, standard deviations.
    noise: (f64, f64),
}

impl Cluster {
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.random.random::<f64>()).sum::<f64>() - 6.0
    }

    /// 99th percentile of latency at a rate, s: ln(100) / (capacity − rate).
    fn p99_s(&mut self, rate: f64) -> f64 {
        let capacity = self.capacity * (self.noise.0 * self.normal()).exp();
        let noise = (self.noise.1 * self.normal()).exp();
        if rate < capacity { 100.0_f64.ln() / (capacity - rate) * noise } else { f64::INFINITY }
    }

    /// The rate at which the 99th percentile is this, without noise.
    fn truth(&self, limit_s: f64) -> f64 {
        self.capacity - 100.0_f64.ln() / limit_s
    }
}

/// What is found when runs of a rate say this, and in how many of them.
fn searched(mut search: LimitSearch, mut is_met: impl FnMut(f64) -> bool) -> (Found, usize) {
    let mut made = 0;
    loop {
        match search.next() {
            Step::Done(found) => return (found, made),
            Step::Try(rate, _) => {
                search.on_outcome(is_met(rate));
                made += 1;
            }
        }
    }
}

fn found_by(cluster: &mut Cluster, around: f64, limit_s: f64, lead: u32) -> (Found, usize) {
    searched(LimitSearch::new(around, 0.05, lead), |rate| cluster.p99_s(rate) <= limit_s)
}

/// Objectives that are met up to 95, 90, 80 and 70 % of the capacity, and calibrations that were off by up to 60 %. In
/// almost all trials, at least 99 of 100, what was found lies within 10 % of the truth.
#[test]
fn the_same_rate_is_found_again_despite_noise() {
    for (noise, worst) in [((0.0, 0.0), 0), ((0.01, 0.05), 1), ((0.02, 0.1), 4)] {
        let mut far = 0;
        let mut all = Vec::new();
        for trial in 0..400 {
            let random = Xoshiro256PlusPlus::seed_from_u64(trial);
            let mut cluster = Cluster { random, capacity: 100_000.0, noise };
            let limit_s = 100.0_f64.ln() / (100_000.0 * [0.05, 0.1, 0.2, 0.3][usize::try_from(trial).unwrap() % 4]);
            let base = 100_000.0 * (0.6 + cluster.random.random::<f64>());
            let truth = cluster.truth(limit_s);
            let (found, runs) = found_by(&mut cluster, base, limit_s, 5);
            let [low, high] = [found.confirmed, found.refuted].map(|side| side.unwrap().rate);
            assert!((high / low - 1.05).abs() < 1e-9, "they lie apart by the resolution: {found:?}");
            let middle = (low * high).sqrt();
            far += u32::from((middle / truth - 1.0).abs() > 0.1);
            all.push(runs);
        }
        assert!(far <= worst, "with noise {noise:?}, {far} of 400 lie further than 10 % from the truth");
        all.sort_unstable();
        let (median, most) = (all[200], all[399]);
        assert!(median <= 40 && most < RUNS_MAX, "with noise {noise:?}: median {median} runs, up to {most}");
    }
}

/// A machine whose limit is another one in each run, by up to 10 % either way: three searches in a row, each around
/// what one run of a closed loop completed there, are to give the same answer within 10 %.
#[test]
fn three_searches_on_a_noisy_machine_agree() {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(7);
    let (mut agree, mut runs, mut sure) = (0, Vec::new(), 0);
    for _ in 0..400 {
        let truth = 10.0_f64.powf(2.0 + 4.0 * random.random::<f64>());
        let mut limit_now = || truth * (0.9 + 0.2 * random.random::<f64>());
        let answers = [0.5, 1.2, 1.9].map(|off| {
            let around = off * limit_now();
            let (found, made) = searched(LimitSearch::new(around, 0.05, 5), |rate| rate <= limit_now());
            runs.push(made);
            sure += usize::from(made < RUNS_MAX);
            found.confirmed.unwrap().rate
        });
        let [least, most] = [f64::min, f64::max].map(|of| answers.into_iter().reduce(of).unwrap());
        agree += u32::from(most / least <= 1.1);
    }
    runs.sort_unstable();
    let median = runs[runs.len() / 2];
    assert!(agree >= 380, "{agree} of 400 triples agree");
    assert!(median <= 60 && sure == runs.len(), "median {median} runs, {sure} of {} searches sure", runs.len());
}

#[test]
fn without_noise_the_truth_lies_in_the_interval() {
    for capacity in [3.0, 70.0, 1234.5, 1e6] {
        let mut cluster = Cluster { random: Xoshiro256PlusPlus::seed_from_u64(1), capacity, noise: (0.0, 0.0) };
        let limit_s = 100.0_f64.ln() / (capacity * 0.2);
        let truth = cluster.truth(limit_s);
        let (found, runs) = found_by(&mut cluster, capacity * 0.9, limit_s, 5);
        let (low, high) = (found.confirmed.unwrap(), found.refuted.unwrap());
        assert!(low.rate <= truth && truth < high.rate, "{low:?} {truth} {high:?}");
        assert_eq!([(low.runs, low.met), (high.runs, high.met)], [(5, 5), (5, 0)]);
        assert!(runs <= 20, "{runs} runs");
    }
}

#[test]
fn objectives_that_nothing_or_everything_meets_end_the_search() {
    let outcome = |met: bool| {
        let mut search = LimitSearch::new(1000.0, 0.05, 3);
        let mut runs = 0;
        while let Step::Try(..) = search.next() {
            search.on_outcome(met);
            runs += 1;
        }
        let Step::Done(found) = search.next() else { unreachable!() };
        (found, runs)
    };
    let (found, runs) = outcome(false);
    assert!(
        found.confirmed.is_none() && found.refuted.is_some_and(|high| high.rate < 1.0 && high.runs == 3),
        "{found:?}"
    );
    assert!(runs < 20);
    let (found, runs) = outcome(true);
    assert!(
        found.refuted.is_none() && found.confirmed.is_some_and(|low| low.rate > 7000.0 && low.met == 3),
        "{found:?}"
    );
    assert!(runs < 20);
}

#[test]
fn a_machine_that_never_says_the_same_twice_ends_the_search_too() {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(3);
    for _ in 0..100 {
        let mut search = LimitSearch::new(1000.0, 0.01, 5);
        let mut runs = 0;
        while let Step::Try(rate, _) = search.next() {
            assert!(rate > 0.0 && search.runs_left() > 0);
            assert_eq!(search.next(), search.next(), "asked again, it says the same");
            search.on_outcome(random.random());
            runs += 1;
        }
        assert!(runs <= RUNS_MAX);
        assert_eq!(search.runs_left(), 0);
    }
}

/// What one lucky run said of a rate is corrected by those that are to be sure of it.
#[test]
fn confirmation_moves_on_from_where_luck_led() {
    let truth = 500.0;
    let mut search = LimitSearch::new(1000.0, 0.05, 3);
    let mut phases = Vec::new();
    while let Step::Try(rate, phase) = search.next() {
        // On the way there everything up to 900 is met.
        search.on_outcome(rate < if phase == Phase::Confirmation { truth } else { 900.0 });
        phases.push(phase);
    }
    let Step::Done(Found { confirmed: Some(low), refuted: Some(high) }) = search.next() else { panic!("{search:?}") };
    assert!(low.rate < truth && truth <= high.rate && high.rate / low.rate < 1.0501, "{low:?} {high:?}");
    assert_eq!([(low.runs, low.met), (high.runs, high.met)], [(3, 3), (3, 0)]);
    let confirmations = phases.iter().filter(|phase| **phase == Phase::Confirmation).count();
    assert!(confirmations < 40, "strides grow: {confirmations}");
}

#[test]
fn runs_to_be_sure_are_interleaved() {
    let mut search = LimitSearch::new(1000.0, 0.05, 4);
    let mut order = Vec::new();
    while let Step::Try(rate, phase) = search.next() {
        if phase == Phase::Confirmation {
            order.push(rate < 400.0);
        }
        search.on_outcome(rate < 400.0);
    }
    assert_eq!(order, [true, false, false, true, true, false, false, true]);
}

#[test]
fn search_is_told_in_words_and_reads_back() {
    let report = |rate: f64| {
        let mut report = Report::default();
        report.throughput.ops_per_s = rate;
        report.latency_us = Latency { mean: 1e6 / (1000.0 - rate), p99: 4.6e6 / (1000.0 - rate), ..Latency::default() };
        report
    };
    let run = |order: u32, rate: f64| {
        let met = rate < 700.0;
        let reasons = if met { vec![] } else { vec!["p99 is too long".to_owned()] };
        let asked = Some((rate, Phase::Curve));
        Run { met: Some(met), reasons, ..Run::new(order, format!("runs/{order}"), asked, &report(rate)) }
    };
    let mut search = Search {
        schema: SCHEMA.into(),
        objectives: vec![Objective { figure: Tail::P99, limit_us: 15_000.0 }],
        calibration_ops_per_s: Some(990.0),
        runs: (1..10).map(|i| run(i, f64::from(i) * 100.0)).collect(),
        ..Search::default()
    };
    search.conclude(Found::default());
    assert_eq!(search.statement, "p99 of at most 15.0 ms: nothing is known yet");
    let confirmed = Some(Confirmed { rate: 680.0, runs: 7, met: 6 });
    search.conclude(Found { confirmed, refuted: Some(Confirmed { rate: 714.0, runs: 7, met: 1 }) });
    let expected = "p99 of at most 15.0 ms: the highest rate lies between 680 ops/s (met by 6 of 7 runs) and 714 ops/s (met by 1 of 7 runs)";
    assert_eq!(search.statement, expected);
    (search.complete, search.confirmations, search.resolution_percent) = (true, 5, 5.0);
    assert_eq!(search.answer(), Answer::Found);
    for change in [
        |search: &mut Search| search.complete = false,
        |search: &mut Search| search.confirmations = 6,
        |search: &mut Search| search.resolution_percent = 4.0,
    ] {
        let mut unsure = search.clone();
        change(&mut unsure);
        assert_eq!(unsure.answer(), Answer::Inconclusive, "{unsure:?}");
    }
    assert!((search.knee.unwrap().ops_per_s - 500.0).abs() < 1e-9);
    let text = text(&search);
    for part in [
        expected,
        "missed: p99 is too long",
        "Knee         500 ops/s with a mean latency of 2.00 ms",
        "Closed loop  990 ops/s",
    ] {
        assert!(text.contains(part), "'{text}' lacks '{part}'");
    }
    let read: Search = serde_json::from_str(&serde_json::to_string(&search).unwrap()).unwrap();
    assert_eq!(read, search);
}

/// Ten rates, all missed, in so many of them only because the load generator failed.
fn all_missed(failed: usize) -> Search {
    let run = |order: u32| Run {
        order,
        rate: Some(f64::from(11 - order)),
        phase: Some(Phase::Confirmation),
        met: Some(false),
        generator_failed: order as usize <= failed,
        reasons: vec!["failed, or slow".into()],
        ..Run::default()
    };
    let mut search =
        Search { complete: true, confirmations: 1, runs: (1..=10).map(run).collect(), ..Search::default() };
    search.conclude(Found { confirmed: None, refuted: Some(Confirmed { rate: 1.0, runs: 5, met: 0 }) });
    search
}

#[test]
fn a_load_generator_that_failed_says_nothing_against_the_system() {
    let slow = all_missed(5);
    assert_eq!(slow.answer(), Answer::NoRate, "{}", slow.statement);
    assert!(slow.statement.contains("no rate meets that: not even 1 ops/s"), "{}", slow.statement);
    let failed = all_missed(6);
    assert_eq!(failed.answer(), Answer::Inconclusive);
    let expected = "6 of 10 runs missed it only because the load generator failed";
    assert!(failed.statement.contains("inconclusive") && failed.statement.contains(expected), "{}", failed.statement);
    // What lies above a rate that was found is told apart in the same way.
    let mut found = all_missed(0);
    found.runs[0].generator_failed = true;
    let [confirmed, refuted] = [(9.5, 5), (10.0, 0)].map(|(rate, met)| Some(Confirmed { rate, runs: 5, met }));
    found.resolution_percent = 6.0;
    found.conclude(Found { confirmed, refuted });
    assert_eq!(found.answer(), Answer::Found);
    assert!(found.statement.contains("there the load generator fails"), "{}", found.statement);
    found.runs[0].generator_failed = false;
    found.conclude(found.found);
    assert!(!found.statement.contains("generator"), "{}", found.statement);
}
