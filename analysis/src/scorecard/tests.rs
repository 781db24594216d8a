//! Synthetic series whose scores are worked out by hand.

use super::*;

/// Ten measured seconds after two of warm-up, 1,000 operations in each window.
fn even() -> Vec<u64> {
    vec![1000; 120]
}

fn kill(at_s: f64) -> Injected {
    Injected { at_s, kind: "kill".into(), replicas: vec![0] }
}

fn observed<'a>(per_100ms: &'a [u64], faults: &'a [Injected], views: &'a [ViewSample]) -> Observed<'a> {
    Observed { per_100ms, measured_s: (2, 12), faults, from_the_beginning: false, views, f: 1, latencies: &[] }
}

fn sample(at_s: f64, replica: u16, view: u64) -> ViewSample {
    ViewSample { at_s, replica, view }
}

#[track_caller]
fn close(value: Option<f64>, expected: f64) {
    let value = value.unwrap_or(f64::NAN);
    assert!((value - expected).abs() < 1e-6, "{value} instead of {expected}");
}

/// Killed at 5.05 s: 40 % in the window of the fault, three windows of nothing, half a window, and all is well again.
#[test]
fn scores_are_as_worked_out_by_hand() {
    let mut series = even();
    series[50..55].copy_from_slice(&[400, 0, 0, 0, 500]);
    let start = (0..4).map(|replica| sample(4.9, replica, 0));
    let views: Vec<ViewSample> =
        start.chain([sample(5.3, 1, 1), sample(5.4, 2, 1), sample(5.5, 3, 1), sample(8.2, 1, 2)]).collect();
    let mut latencies = Vec::new();
    for (second, value) in [(4.0, 1_000_000), (5.0, 5_000_000), (6.0, 6_000_000), (7.0, 70_000_000)] {
        let mut histogram = Histogram::new(3).unwrap();
        histogram.record_n(value, 100).unwrap();
        latencies.push(Interval { start_s: second, length_s: 1.0, latencies: histogram });
    }
    let faults = [kill(5.05), Injected { kind: "stop".into(), replicas: vec![3], ..kill(8.0) }];
    let observed = Observed { latencies: &latencies, ..observed(&series, &faults, &views) };
    let card = Scorecard::draw("test", &observed);

    let first = &card.faults[0];
    assert_eq!((first.kind.as_str(), &first.replicas), ("kill", &vec![0]));
    close(first.baseline_ops_per_s, 10_000.0);
    close(first.detected_after_ms, 150.0); // the empty window from 5.1 s has passed at 5.2 s
    close(first.view_changed_after_ms, 350.0); // replica 2 is the second one in view 1
    close(first.progress_after_ms, 350.0); // operations complete from 5.4 s
    close(first.settled_after_ms, 350.0); // the second from 5.4 s has 95 % in the mean, and half at its beginning
    close(first.recovered_after_ms, 450.0); // the window from 5.5 s is the first full one
    close(first.lowest_percent, 0.0);
    close(first.operations_lost, 600.0 + 3.0 * 1000.0 + 500.0);
    close(first.lost_percent_seconds, 41.0);
    assert!((first.p99_us.unwrap() - 6000.0).abs() < 10.0, "seconds 5 and 6, but not 7: {first:?}");
    assert_eq!(first.view_changes, 1);

    let second = &card.faults[1];
    close(second.baseline_ops_per_s, 10_000.0);
    close(second.recovered_after_ms, 0.0);
    close(second.progress_after_ms, 0.0);
    close(second.operations_lost, 0.0);
    close(second.lowest_percent, 100.0);
    assert_eq!((second.detected_after_ms, second.view_changes), (None, 0), "one replica alone is no view change");

    assert_eq!(card.seconds_not_judged, [4], "the second from 5 s to 6 s");
    assert_eq!(card.view_changes, 1);
    close(card.final_percent, 100.0);
}

#[test]
fn a_fault_that_the_cluster_never_gets_over_excuses_nothing() {
    let mut series = even();
    series[70..].fill(0);
    let faults = [kill(7.0)];
    let card = Scorecard::draw("test", &observed(&series, &faults, &[]));
    let score = &card.faults[0];
    assert_eq!((score.progress_after_ms, score.settled_after_ms, score.recovered_after_ms), (None, None, None));
    close(score.detected_after_ms, 100.0);
    close(score.operations_lost, 50_000.0);
    close(score.lost_percent_seconds, 500.0);
    assert!(card.seconds_not_judged.is_empty());
    close(card.final_percent, 0.0);
}

#[test]
fn a_slower_cluster_has_settled_but_not_recovered() {
    let mut series = even();
    series[70..80].fill(0);
    series[80..].fill(700);
    let faults = [kill(7.0)];
    let card = Scorecard::draw("test", &observed(&series, &faults, &[]));
    close(card.faults[0].settled_after_ms, 1000.0);
    assert_eq!(card.faults[0].recovered_after_ms, None);
    close(card.faults[0].operations_lost, 10_000.0 + 40.0 * 300.0);
    assert_eq!(card.seconds_not_judged, [6]);
    close(card.final_percent, 70.0);
}

#[test]
fn spans_end_with_the_next_fault_and_baselines_leave_them_out() {
    let mut series = even();
    series[40..45].fill(0);
    series[60..65].fill(100);
    let faults = [kill(4.0), kill(6.0)];
    let card = Scorecard::draw("test", &observed(&series, &faults, &[]));
    close(card.faults[0].recovered_after_ms, 500.0);
    close(card.faults[1].baseline_ops_per_s, 10_000.0);
    close(card.faults[1].recovered_after_ms, 500.0);
    close(card.faults[1].lowest_percent, 10.0);
    close(card.faults[1].progress_after_ms, 0.0);
    assert_eq!(card.seconds_not_judged, [3, 5]);
}

#[test]
fn without_a_baseline_there_is_nothing_to_compare_with() {
    let card = Scorecard::draw("test", &observed(&even(), &[kill(2.0)], &[]));
    let score = &card.faults[0];
    assert_eq!((score.baseline_ops_per_s, score.recovered_after_ms, score.lowest_percent), (None, None, None));
    close(score.progress_after_ms, 0.0);
    assert_eq!(card.final_percent, None);
    // Nor is there anything in a run that ended at once.
    let nothing = Observed { measured_s: (0, 0), ..observed(&[], &[], &[]) };
    assert_eq!(Scorecard::draw("test", &nothing).final_percent, None);
}

#[test]
fn noise_is_no_fault() {
    // Down to 80 % now and then, and also just when the fault happens.
    let series: Vec<u64> = (0..120).map(|window| if window % 10 == 1 { 800 } else { 1000 }).collect();
    let card = Scorecard::draw("test", &observed(&series, &[kill(7.1)], &[]));
    close(card.faults[0].recovered_after_ms, 0.0);
    assert_eq!(card.faults[0].detected_after_ms, None);
    close(card.faults[0].lowest_percent, 80.0);
}

#[test]
fn latencies_in_the_end_are_those_of_the_last_seconds() {
    let latencies: Vec<Interval> = (0..12u32)
        .map(|second| {
            let mut histogram = Histogram::new(3).unwrap();
            histogram.record_n(if second < 9 { 400_000_000 } else { 2_000_000 }, 100).unwrap();
            Interval { start_s: f64::from(second), length_s: 1.0, latencies: histogram }
        })
        .collect();
    let series = even();
    let card = Scorecard::draw("test", &Observed { latencies: &latencies, ..observed(&series, &[], &[]) });
    assert!((card.final_p50_us.unwrap() - 2000.0).abs() < 10.0, "{:?}", card.final_p50_us);
    assert_eq!(Scorecard::draw("test", &observed(&series, &[], &[])).final_p50_us, None);
}

/// Two in one window, and one in the next: no whole window lies between them.
#[test]
fn faults_without_a_window_between_them_share_a_span() {
    let mut series = even();
    series[51..55].fill(0);
    let faults = [kill(5.01), kill(5.05), kill(5.12), kill(9.0)];
    let card = Scorecard::draw("test", &observed(&series, &faults, &[]));
    for (score, observed_s) in card.faults.iter().zip([3.9, 3.9, 3.8, 3.0]) {
        close(Some(score.observed_s), observed_s);
        close(score.baseline_ops_per_s, 10_000.0);
    }
    let progress: Vec<Option<f64>> = card.faults.iter().map(|score| score.progress_after_ms).collect();
    assert_eq!(progress, [Some(490.0), Some(450.0), Some(380.0), Some(0.0)]);
}

#[test]
fn a_fault_in_the_last_moment_shows_nothing() {
    let series = even();
    let mut card = Scorecard::draw("test", &observed(&series, &[kill(5.0), kill(12.0)], &[]));
    let last = &card.faults[1];
    assert_eq!((last.observed_s, last.progress_after_ms, last.recovered_after_ms), (0.0, None, None));
    card.expect(&Expectations { progress_within_s: Some(1.0), ..Expectations::default() }, &sound());
    assert_eq!(card.failed, ["after kill at 10.0 s: nothing was observed after it"]);
}

/// A run that nothing speaks against.
fn sound() -> Judged<'static> {
    Judged { reasons: &[], safe: true, problems: &[] }
}

#[test]
fn expectations_name_what_was_not_met() {
    let mut series = even();
    series[50..70].fill(0);
    series[70..].fill(600);
    let views = [sample(6.0, 1, 3), sample(6.0, 2, 3)];
    let faults = [kill(5.0)];
    let mut card = Scorecard::draw("test", &observed(&series, &faults, &views));
    card.final_p50_us = Some(70_000.0);
    let met = Expectations {
        progress_within_s: Some(2.0),
        min_fraction_of_baseline: Some(0.6),
        final_p50_ms_at_most: Some(70.0),
        view_changes_at_most: Some(3),
        ..Expectations::default()
    };
    card.expect(&met, &sound());
    assert!(card.green && card.safe && card.failed.is_empty(), "{:?}", card.failed);

    let strict = Expectations {
        valid: false,
        progress_within_s: Some(1.9),
        min_fraction_of_baseline: Some(0.61),
        final_p50_ms_at_most: Some(69.0),
        view_changes_at_most: Some(2),
        ..Expectations::default()
    };
    card.expect(&strict, &sound());
    assert!(!card.green);
    assert_eq!(
        card.failed,
        [
            "the verdict is VALID, expected: INVALID",
            "after kill at 3.0 s: progress after 2.0 s, expected: within 1.9 s",
            "in the end throughput is 60 % of what it was before the first fault, expected: at least 61 %",
            "in the end the median latency is 70.0 ms, expected: at most 69 ms",
            "3 view changes, expected: at most 2",
        ]
    );
}

/// What the card says of a run, given what its scenario expects.
fn failed(expected: &Expectations, judged: &Judged<'_>) -> Vec<String> {
    let mut card = Scorecard::draw("test", &observed(&even(), &[], &[]));
    card.expect(expected, judged);
    assert_eq!((card.green, card.safe), (card.failed.is_empty(), judged.safe));
    card.failed
}

#[test]
fn an_invalid_run_is_green_for_the_expected_reason_only() {
    let reasons = |texts: &[&str]| -> Vec<String> { texts.iter().map(|text| (*text).to_owned()).collect() };
    let invalid = |part: &str| Expectations { valid: false, reason: Some(part.into()), ..Expectations::default() };
    let (debug, ended) = (reasons(&["this is a debug build"]), reasons(&["a debug build", "2 of 4 replicas ended"]));
    let because = |reasons| Judged { reasons, ..sound() };
    assert_eq!(failed(&invalid("replicas ended"), &because(&ended)), Vec::<String>::new());
    let other = ["the verdict is INVALID, but not because of 'replicas ended'"];
    assert_eq!(failed(&invalid("replicas ended"), &because(&debug)), other);
    assert_eq!(failed(&invalid("replicas ended"), &sound()), ["the verdict is VALID, expected: INVALID"]);
    assert_eq!(failed(&Expectations::default(), &because(&debug)), ["the verdict is INVALID, expected: VALID"]);
}

#[test]
fn a_run_that_was_not_played_or_not_safe_is_never_green_by_chance() {
    let reasons = ["ledgers differ".to_owned()];
    let invalid = Expectations { valid: false, reason: Some("ledgers".into()), ..Expectations::default() };
    let problems = ["the load generator failed: exit status: 101".to_owned(), "the scenario was not played".to_owned()];
    let crashed = Judged { reasons: &reasons, safe: true, problems: &problems };
    assert_eq!(failed(&invalid, &crashed), problems);
    let unsafe_run = Judged { reasons: &reasons, safe: false, problems: &[] };
    assert_eq!(failed(&invalid, &unsafe_run), ["safety was violated"]);
    let violation = Expectations { safe: false, ..invalid };
    assert_eq!(failed(&violation, &unsafe_run), Vec::<String>::new());
    assert_eq!(failed(&violation, &Judged { safe: true, ..unsafe_run }), ["safety held, expected: a violation"]);
}
