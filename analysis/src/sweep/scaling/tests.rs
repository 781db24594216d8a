//! Curves of sweeps that are counted by hand.

use super::*;
use crate::summary::Style;
use crate::sweep::{Figures, Run, State, Summary, Varied, render, to_csv, to_markdown};

/// A point whose runs have these figures: messages, bytes and CPU time, each with what is expected or the floor.
fn point(settings: &[(&str, &str)], state: State, figures: &[[f64; 6]]) -> Point {
    let run = |figures: &[f64; 6]| {
        let [messages, expected_messages, bytes, expected_bytes, cpu, floor] = *figures;
        let known = |value: f64| Some(value).filter(|value| *value > 0.0);
        let figures = Figures {
            messages_sent_per_op: messages,
            expected_messages_per_op: known(expected_messages),
            bytes_sent_per_op: bytes,
            expected_bytes_per_op: known(expected_bytes),
            cpu_us_per_op: cpu,
            floor_us_per_op: known(floor),
            ..Figures::default()
        };
        Run { state, figures: Some(figures), ..Run::default() }
    };
    let runs: Vec<Run> = figures.iter().map(run).collect();
    let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Point { settings, summary: Summary::of(&runs), runs, ..Point::default() }
}

fn varied(key: &str, values: &[&str]) -> Varied {
    Varied { key: key.into(), values: values.iter().map(|value| (*value).to_owned()).collect() }
}

/// Four, seven and ten replicas, one request a batch, K so large that checkpoints are none: 28, 91 and 190 messages.
fn replicas() -> Sweep {
    let points = vec![
        point(&[("replicas", "10")], State::Valid, &[[209.0, 190.0, 5000.0, 4000.0, 30.0, 8.0]]),
        point(
            &[("replicas", "4")],
            State::Valid,
            &[
                [29.0, 28.0, 600.0, 600.0, 5.0, 2.0],
                [28.0, 28.0, 600.0, 600.0, 4.0, 2.0],
                [28.0, 28.0, 600.0, 600.0, 4.0, 2.0],
            ],
        ),
        point(&[("replicas", "7")], State::Valid, &[[91.0, 91.0, 2000.0, 2000.0, 5.0, 5.0]]),
    ];
    Sweep { varied: vec![varied("replicas", &["4", "7", "10"])], points, ..Sweep::default() }
}

#[test]
fn messages_and_bytes_are_beside_what_was_counted_and_cpu_beside_the_floor() {
    let curves = curves(&replicas());
    let [curve] = &curves[..] else { panic!("{curves:?}") };
    assert_eq!((curve.along.as_str(), curve.settings.len()), ("replicas", 0));
    let values: Vec<&str> = curve.points.iter().map(|point| point.value.as_str()).collect();
    assert_eq!(values, ["4", "7", "10"], "by growing value");
    let of = |figure: &str| -> Vec<(f64, f64)> {
        curve.points.iter().map(|point| (point.figures[figure].measured, point.figures[figure].expected)).collect()
    };
    assert_eq!(of(MESSAGES), [(28.0, 28.0), (91.0, 91.0), (209.0, 190.0)], "medians");
    assert_eq!(of(BYTES), [(600.0, 600.0), (2000.0, 2000.0), (5000.0, 4000.0)]);
    // The floor is 2, 5 and 8; 4 µs at the first point are twice that.
    assert_eq!(of(CPU), [(4.0, 4.0), (5.0, 10.0), (30.0, 16.0)]);
    assert!((curve.points[2].figures[BYTES].ratio - 1.25).abs() < 1e-12);
    let farthest = |figure: &str| (curve.farthest[figure].value.as_str(), curve.farthest[figure].ratio);
    assert_eq!(farthest(MESSAGES), ("10", 1.1));
    assert_eq!(farthest(CPU), ("7", 0.5), "half as much is farther than 1.875 times as much");
    let words = "messages +10.0 % at replicas=10, bytes +25.0 % at replicas=10, CPU time -50.0 % at replicas=7";
    assert_eq!(deviations(&curves), words);
}

/// The first point is on its curve by construction: it is not what CPU time is judged by.
#[test]
fn cpu_time_is_not_judged_by_the_point_that_scales_it() {
    let mut sweep = replicas();
    sweep.points.pop();
    let curves = curves(&sweep);
    assert_eq!(curves[0].farthest[CPU].value, "10");
    assert!((curves[0].points[0].figures[CPU].ratio - 1.0).abs() < 1e-12);
}

/// Nothing is made up where nothing is expected, and nothing comes from runs that may not be used.
#[test]
fn what_is_not_known_or_not_valid_is_left_out() {
    let known = [91.0, 91.0, 0.0, 0.0, 5.0, 0.0];
    let mut sweep = replicas();
    sweep.points[0] = point(&[("replicas", "10")], State::Invalid, &[[209.0, 190.0, 5000.0, 4000.0, 30.0, 8.0]]);
    sweep.points[2] = point(&[("replicas", "7")], State::Valid, &[known]);
    let told = curves(&sweep);
    let names = |place: usize| told[0].points[place].figures.keys().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(told[0].points.len(), 2, "the INVALID one counts for nothing");
    assert_eq!((names(0).len(), names(1)), (3, vec![MESSAGES]));
    assert_eq!(told[0].farthest.get(CPU), None);
    sweep.points[1] = point(&[("replicas", "4")], State::Valid, &[[28.0, 0.0, 600.0, 0.0, 4.0, 0.0]]);
    assert_eq!(curves(&sweep), [], "one point is no curve");
    assert_eq!(deviations(&[]), "");
}

/// Each combination of the other settings has a curve of its own, with a scale of its own for CPU time.
#[test]
fn every_combination_of_the_others_has_its_curve() {
    let mut sweep = replicas();
    sweep.varied.push(varied("auth", &["mac", "none"]));
    let with = |points: &[Point], auth: &str, by: f64| -> Vec<Point> {
        let set = |point: &Point| {
            let mut point = point.clone();
            point.settings.insert("auth".into(), auth.into());
            let cpu = point.summary.figures.get_mut(CPU).unwrap();
            cpu.median *= by;
            point
        };
        points.iter().map(set).collect()
    };
    let points = [with(&sweep.points, "mac", 1.0), with(&sweep.points, "none", 3.0)].concat();
    sweep.points = points;
    let curves = curves(&sweep);
    let settings: Vec<&str> = curves.iter().map(|curve| curve.settings["auth"].as_str()).collect();
    assert_eq!(settings, ["mac", "none"]);
    let scaled = Beside { measured: 12.0, expected: 12.0, ratio: 1.0 };
    assert_eq!(curves[1].points[0].figures[CPU], scaled);
    let four = sweep.point(&["4", "none"]).unwrap();
    assert_eq!((curves[0].at(four, CPU), curves[1].at(four, CPU)), (None, Some(&scaled)));
    assert!(deviations(&curves).starts_with("messages +10.0 % at replicas=10 auth="), "{}", deviations(&curves));
}

/// Texts and tables have measured and expected beside each other; of several lines the summary has the farthest alone.
#[test]
fn texts_and_tables_have_what_is_expected() {
    let mut sweep = replicas();
    let text = render(&sweep, "x", Style::Plain);
    let expected = "
Cost for each operation beside what is expected
  replicas  messages  expected          bytes  expected               CPU  expected
  4             28.0      28.0  +0.0 %    600       600  +0.0 %   4.00 µs   4.00 µs   +0.0 %
  7             91.0      91.0  +0.0 %  2,000     2,000  +0.0 %   5.00 µs  10.00 µs  -50.0 %
  10             209       190 +10.0 %  5,000     4,000  +25.0 %  30.00 µs  16.00 µs  +87.5 %
  farthest along replicas: messages +10.0 % at replicas=10, bytes +25.0 % at replicas=10, CPU time -50.0 % at replicas=7
";
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
    assert!(words(&text).contains(&words(expected)), "{text}");
    let row = "\n| `replicas=10` |  | 209 | 190 | 1.10 | 5,000 | 4,000 | 1.25 | 30.0 | 16.0 | 1.88 |\n";
    assert!(to_markdown(&sweep).contains(row), "{}", to_markdown(&sweep));
    let csv = to_csv(&sweep);
    let columns: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
    let place = columns.iter().position(|name| *name == "expected_messages_per_op").unwrap();
    assert!(csv.lines().skip(1).any(|line| line.split(',').nth(place) == Some("190")), "{csv}");

    sweep.points.iter_mut().for_each(|point| drop(point.settings.insert("auth".into(), "mac".into())));
    sweep.varied.insert(0, varied("auth", &["mac"]));
    sweep.varied.push(varied("clients", &["1", "2"]));
    sweep.points.iter_mut().for_each(|point| drop(point.settings.insert("clients".into(), "1".into())));
    let mut two_clients = sweep.points[1].clone();
    two_clients.settings.insert("clients".into(), "2".into());
    sweep.points.push(two_clients);
    let text = render(&sweep, "x", Style::Plain);
    assert!(text.contains("\n  farthest along clients: messages +0.0 % at clients="), "{text}");
    assert!(
        text.contains("\n  farthest along replicas: messages +10.0 % at replicas=10 auth=mac clients=1, "),
        "{text}"
    );
    assert!(!text.contains("  replicas  messages"), "{text}");
    assert!(!render(&Sweep { points: Vec::new(), ..sweep }, "x", Style::Plain).contains("farthest"));
}

#[test]
fn differences_read_well() {
    assert_eq!([1.0, 1.1, 0.6, 1.999, 2.0].map(difference), ["+0.0 %", "+10.0 %", "-40.0 %", "+99.9 %", "2.0 times"]);
}
