//! Sweeps as they are summed up, printed and exported.

use super::*;
use crate::summary::Style;

fn varied(key: &str, values: &[&str]) -> Varied {
    Varied { key: key.into(), values: values.iter().map(|value| (*value).to_owned()).collect() }
}

fn settings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn run(repeat: u32, order: u32, state: State, ops_per_s: f64) -> Run {
    let figures = Figures { ops_per_s, p99_us: 1e9 / ops_per_s, cpu_us_per_op: 1e6 / ops_per_s, ..Figures::default() };
    let reasons = match state {
        State::Valid => Vec::new(),
        State::Invalid => vec!["it was \"slow\", twice".to_owned()],
        State::Failed => vec!["no port\n  was free".to_owned()],
    };
    let figures = (state != State::Failed).then_some(figures);
    Run { repeat, order, directory: format!("runs/{order}"), state, reasons, wall_s: Some(4.5), figures }
}

fn point(pairs: &[(&str, &str)], runs: Vec<Run>) -> Point {
    let summary = Summary::of(&runs);
    Point { settings: settings(pairs), adjusted: BTreeMap::new(), runs, summary }
}

/// Two by two, of which one combination is left out, one run INVALID and one failed.
fn sweep() -> Sweep {
    use State::{Failed, Invalid, Valid};
    let mut points = vec![
        point(&[("auth", "mac"), ("batch", "none")], vec![run(1, 2, Valid, 1e3), run(2, 5, Valid, 3e3)]),
        point(&[("auth", "mac"), ("batch", "time:9,1ms")], vec![run(1, 1, Valid, 2e6), run(2, 4, Invalid, 9e6)]),
        point(&[("auth", "none"), ("batch", "none")], vec![run(1, 3, Failed, 1.0), run(2, 6, Invalid, 5e3)]),
    ];
    points[0].adjusted = settings(&[("clients", "100"), ("duration", "5s")]);
    let excluded =
        Excluded { settings: settings(&[("auth", "none"), ("batch", "time:9,1ms")]), reason: "why not".into() };
    let environment = Environment {
        cpu: "a CPU".into(),
        cores: 2,
        kernel: "6.1".into(),
        version: "0.1.0".into(),
        build_profile: "release".into(),
        git_commit: "abc".into(),
        ..Environment::default()
    };
    Sweep {
        schema: SCHEMA.into(),
        name: "auth-x-batch".into(),
        question: "Which?".into(),
        given: settings(&[("clients", "9"), ("duration", "2s")]),
        varied: vec![varied("auth", &["mac", "none"]), varied("batch", &["none", "time:9,1ms"])],
        excluded: vec![excluded],
        repeats: 2,
        seed: 7,
        environment,
        complete: true,
        runs_planned: 6,
        runs_done: 6,
        points,
        ..Sweep::default()
    }
}

#[test]
fn only_valid_runs_count() {
    let sweep = sweep();
    let summary = |index: usize| &sweep.points[index].summary;
    let spread = summary(0).figures["ops_per_s"];
    assert_eq!((spread.median, spread.lowest, spread.highest, spread.ci95), (2e3, 1e3, 3e3, None));
    assert_eq!((summary(0).valid, summary(0).invalid, summary(0).failed), (2, 0, 0));
    assert_eq!((summary(1).valid, summary(1).invalid), (1, 1));
    assert!((summary(1).figures["ops_per_s"].highest - 2e6).abs() < 1e-9, "not the INVALID one's");
    assert_eq!((summary(2).failed, summary(2).invalid, summary(2).figures.len()), (1, 1, 0));
    assert!(!sweep.is_valid());
    let six: Vec<Run> = (1..=6).map(|n| run(n, n, State::Valid, f64::from(n))).collect();
    assert_eq!(Summary::of(&six).figures["ops_per_s"].ci95, Some([1.0, 6.0]));
    let all: Vec<&str> = Figures::default().named().iter().map(|(name, _)| *name).collect();
    let written = serde_json::to_value(Figures::default()).unwrap();
    assert!(all.iter().all(|name| written.get(name).is_some()) && written.as_object().unwrap().len() == all.len());
}

#[test]
fn a_sweep_is_valid_if_it_is_complete_and_all_runs_are() {
    let mut sweep = sweep();
    sweep.points.truncate(1);
    assert!(sweep.is_valid());
    sweep.complete = false;
    assert!(!sweep.is_valid());
}

#[test]
fn two_options_make_a_matrix_of_each_figure() {
    let text = render(&sweep(), "results/x", Style::Plain);
    let expected = "\
auth-x-batch: 3 of 6 runs are VALID
Question     Which?
Options      clients=9 duration=2s
Plan         3 points, 2 runs of each, interleaved in random order (seed 7)
Machine      a CPU, 2 cores, Linux 6.1
Build        0.1.0 release, commit abc

Throughput, ops/s
  auth \\ batch     none  time:9,1ms
  mac             2,000  2,000,000*
  none          INVALID    left out

Latency, p99
  auth \\ batch     none  time:9,1ms
  mac            667 ms     500 µs*
  none          INVALID    left out

CPU time of all processes for each operation
  auth \\ batch       none  time:9,1ms
  mac           666.67 µs    0.50 µs*
  none            INVALID    left out

Best
  Throughput auth=mac batch=time:9,1ms: 2,000,000 (2,000,000 to 2,000,000)
  p99        auth=mac batch=time:9,1ms: 500 µs (500 µs to 500 µs)
  CPU        auth=mac batch=time:9,1ms: 0.50 µs (0.50 µs to 0.50 µs)

* not all runs were VALID: the figures are of those that were
with clients=100 duration=5s: auth=mac batch=none
left out: auth=none batch=time:9,1ms: why not

Not VALID: do not use these
  auth=mac batch=time:9,1ms, run 2: INVALID: it was \"slow\", twice
    runs/4
  auth=none batch=none, run 1: FAILED: no port was free
    runs/3
  auth=none batch=none, run 2: INVALID: it was \"slow\", twice
    runs/6

Results      results/x
";
    assert_eq!(text, expected, "{text}");
    let coloured = render(&sweep(), "results/x", Style::Colour);
    assert!(coloured.contains("\x1b[1;31mINVALID\x1b[0m") && coloured.contains("\x1b[1mBest\x1b[0m"));
}

#[test]
fn one_option_makes_a_list_and_three_make_a_matrix_for_each_value_of_the_first() {
    let mut one = sweep();
    one.varied.pop();
    one.points.remove(1);
    one.excluded.clear();
    one.points.iter_mut().for_each(|point| drop(point.settings.remove("batch")));
    let text = render(&one, "x", Style::Plain);
    assert!(text.contains("\n  mac   2,000 (1,000 to 3,000)"), "{text}");
    assert!(text.contains("\n  none                 INVALID"), "{text}");
    let mut three = sweep();
    three.varied.insert(0, varied("replicas", &["4", "7"]));
    let mut more = three.points.clone();
    let set = |points: &mut Vec<Point>, n: &str| {
        points.iter_mut().for_each(|point| drop(point.settings.insert("replicas".into(), n.into())));
    };
    set(&mut three.points, "4");
    set(&mut more, "7");
    three.points.extend(more);
    let text = render(&three, "x", Style::Plain);
    for part in
        ["\nreplicas=4: Throughput, ops/s\n", "\nreplicas=7: Throughput, ops/s\n", "\nreplicas=7: Latency, p99\n"]
    {
        assert!(text.contains(part), "'{text}' lacks '{part}'");
    }
    assert!(text.contains("; its runs overlap with those of replicas=7 auth=mac batch=time:9,1ms"), "{text}");
}

#[test]
fn auto_is_judged_in_text_and_markdown() {
    let mut sweep = sweep();
    assert!(!render(&sweep, "x", Style::Plain).contains("\n  auto "));
    for point in &mut sweep.points {
        let auth = if point.settings["auth"] == "none" { "mac" } else { "auto" };
        point.settings.insert("auth".into(), auth.into());
    }
    sweep.points[2].runs = vec![run(1, 3, State::Valid, 4e3)];
    sweep.points[2].summary = Summary::of(&sweep.points[2].runs);
    let text = render(&sweep, "x", Style::Plain);
    assert!(text.contains("\n  auto       batch=none: auto is within 50.0 % of the best, auth=mac\n"), "{text}");
    let text = to_markdown(&sweep);
    assert!(text.contains("\nBy throughput, batch=none: auto is within 50.0 % of the best, auth=mac.\n"), "{text}");
}

#[test]
fn adjusted_points_are_named_by_what_only_they_have_in_common() {
    let mut sweep = sweep();
    let with = |sweep: &Sweep| {
        let text = render(sweep, "x", Style::Plain);
        text.lines().filter(|line| line.starts_with("with ")).map(str::to_owned).collect::<Vec<_>>()
    };
    let clients = settings(&[("clients", "9")]);
    sweep.points.iter_mut().for_each(|point| point.adjusted.clear());
    assert_eq!(with(&sweep), [""; 0]);
    sweep.points[0].adjusted = clients.clone();
    sweep.points[2].adjusted = clients.clone();
    assert_eq!(with(&sweep), ["with clients=9: batch=none"]);
    sweep.points[1].adjusted = clients.clone();
    assert_eq!(with(&sweep), ["with clients=9: all points"]);
    sweep.points[0].adjusted.clear();
    assert_eq!(with(&sweep), ["with clients=9: auth=mac batch=time:9,1ms, auth=none batch=none"]);
}

#[test]
fn what_is_not_complete_says_so() {
    let mut sweep = sweep();
    (sweep.complete, sweep.runs_done) = (false, 4);
    sweep.points[2].runs.clear();
    sweep.points[2].summary = Summary::default();
    let text = render(&sweep, "x", Style::Plain);
    assert!(text.starts_with("auth-x-batch: not complete: 4 of 6 runs, 3 VALID\n"), "{text}");
    assert!(text.contains("\n  none          not run    left out"), "{text}");
    assert!(to_markdown(&sweep).contains("**Not complete: 4 of 6 runs.**"));
    let nothing = Sweep { name: "x".into(), ..Sweep::default() };
    assert!(render(&nothing, "x", Style::Plain).contains("not complete: 0 of 0 runs"));
}

#[test]
fn rows_of_the_csv_are_runs_in_their_order() {
    let csv = to_csv(&sweep());
    let lines: Vec<&str> = csv.lines().collect();
    assert!(lines[0].starts_with("order,repeat,auth,batch,adjusted,state,ops_per_s,p50_us,"), "{}", lines[0]);
    assert!(lines[0].ends_with(",steal_percent,wall_s,directory,reasons"), "{}", lines[0]);
    assert!(lines[1].starts_with("1,1,mac,\"time:9,1ms\",,valid,2000000,0,500,"), "{}", lines[1]);
    assert!(lines[2].starts_with("2,1,mac,none,clients=100 duration=5s,valid,1000,"), "{}", lines[2]);
    // A line break within quotes is no new record.
    assert_eq!(lines[3], "3,1,none,none,,failed,,,,,,,,,,,,,,,,4.500,runs/3,\"no port");
    assert!(lines[5].ends_with(",4.500,runs/4,\"it was \"\"slow\"\", twice\""), "{}", lines[5]);
    assert_eq!(lines.len(), 1 + 6 + 1);
}

#[test]
fn the_markdown_is_a_table_of_points() {
    let text = to_markdown(&sweep());
    for part in [
        "# auth-x-batch\n\nWhich?\n\n6 runs, 2 of each point, interleaved in random order (seed 7). a CPU, 2 cores",
        "\n\nAll points: `clients=9 duration=2s`, other options as by default.\n\n",
        "| auth | batch | adjusted | ops/s | p50, ms |",
        "\n|---|---|---|---|---|---|---|---|---|\n",
        "\n| `mac` | `none` | clients=100 duration=5s | 2,000 (1,000 to 3,000) |",
        "\n| `none` | `none` |  |  |  |  |  |  | 0 of 2 |\n",
        "\nLeft out: auth=none batch=time:9,1ms: why not\n",
        "\n- auth=none batch=none, run 1: FAILED: no port was free\n",
    ] {
        assert!(text.contains(part), "'{text}' lacks '{part}'");
    }
}
