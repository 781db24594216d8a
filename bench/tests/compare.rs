//! `hippodrome compare`: real runs of two sides, by this build and by another; runs that were made before; what it
//! refuses, and how it ends.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::common::{hippodrome, outcome, strings, track};

mod common;

/// A run of a second on a small cluster.
const SMALL: [&str; 4] = ["--duration", "1s", "--warmup", "0s"];

fn compare(directory: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    outcome(&hippodrome(directory, &[&["compare"], arguments].concat()).output().unwrap())
}

fn comparison(directory: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(directory.join("comparison.json")).unwrap()).unwrap()
}

/// INVALID runs, which all of a debug build are, make it inconclusive; too few runs are no failure by themselves.
const ENDED: Option<i32> = Some(if cfg!(debug_assertions) { 4 } else { 0 });

#[test]
fn two_settings_are_raced_in_rounds_and_compared() {
    let _track = track();
    let directory = tempfile::tempdir().unwrap();
    let race = ["--a", "clients=20", "--b", "clients=40", "--b", "batch=10", "--pairs", "2", "--out", "out"];
    let (code, stdout, stderr) = compare(directory.path(), &[&race[..], &SMALL].concat());
    assert_eq!(code, ENDED, "{stdout}\n{stderr}");
    let out = directory.path().join("out");
    let first = comparison(&out);
    assert_eq!(first["rounds"], 2, "{stderr}");
    let sides = first["sides"].as_array().unwrap();
    let labels: Vec<&str> = sides.iter().map(|side| side["label"].as_str().unwrap()).collect();
    assert_eq!(labels, ["clients=20", "clients=40 batch=fixed:10"]);
    for side in sides {
        assert_eq!(side["runs"].as_array().unwrap().len(), 2);
        assert!(side["values"]["ops_per_s"].as_f64().unwrap() > 0.0, "{side}");
        assert!(side["values"]["p99_9_us"].as_f64().unwrap() > 0.0, "{side}");
    }
    let differ: Vec<&str> = first["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|difference| difference["name"].as_str().unwrap())
        .collect();
    assert_eq!(differ, ["batch", "clients"]);
    let notes = first["notes"].to_string();
    assert!(notes.contains("A and B differ in 2 settings (batch, clients)"), "{notes}");
    let figures = first["versus"][0]["figures"].as_array().unwrap();
    assert!(figures.iter().all(|figure| figure["ratio"].as_f64().unwrap() > 0.0), "{figures:?}");
    let withheld = strings(&first["withheld"]);
    assert_eq!(withheld.len(), if cfg!(debug_assertions) { 4 } else { 0 }, "{withheld:?}");
    for (name, part) in [("comparison.csv", "ops_per_s"), ("comparison.md", "| p-value | conclusion |")] {
        assert!(fs::read_to_string(out.join(name)).unwrap().contains(part), "{name}");
    }

    // Again: everything is done, and the same comes of it. Another comparison is refused there.
    let (code, again, stderr) = compare(directory.path(), &[&race[..], &SMALL].concat());
    assert_eq!((code, again), (ENDED, stdout));
    assert!(stderr.contains("0 runs to make"), "{stderr}");
    assert_eq!(comparison(&out), first);
    let (code, _, stderr) = compare(directory.path(), &[&race[..], &SMALL, &["--app", "kv"]].concat());
    assert_eq!(code, Some(2));
    assert!(stderr.contains("another plan was begun there") && stderr.contains("app"), "{stderr}");

    read_again(directory.path(), &first);
}

/// The same runs, as directories: chosen by their settings, in the rounds in which they were made.
fn read_again(directory: &Path, first: &Value) {
    let sides = ["out:clients=20", "out:clients=40,batch=10"];
    let (code, stdout, stderr) =
        compare(directory, &[&sides[..], &["--include-invalid", "--json", "--out", "again"]].concat());
    assert_eq!(code, Some(0), "{stderr}");
    let second: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(second, comparison(&directory.join("again")));
    assert_eq!(second["rounds"], 2);
    let ratio = |comparison: &Value, figure: usize| comparison["versus"][0]["figures"][figure]["ratio"].clone();
    assert!((0..6).all(|figure| ratio(first, figure) == ratio(&second, figure)), "{first}\n{second}");
    let statement = second["versus"][0]["statement"].as_str().unwrap();
    assert!(
        statement.starts_with("too few runs to tell: ") && statement.ends_with("of 2 rounds; at least 6 rounds"),
        "{statement}"
    );
    // Without an interval nothing shows that a side is slower, nor that it is not.
    let gate = ["--include-invalid", "--fail-if-slower", "5%"];
    let (code, stdout, _) = compare(directory, &[&sides[..], &gate].concat());
    assert_eq!(code, Some(4), "{stdout}");
    assert!(stdout.contains("whether B is slower by more than 5 % can not be told"), "{stdout}");
}

#[test]
fn another_build_makes_the_runs_of_its_side() {
    let _track = track();
    let directory = tempfile::tempdir().unwrap();
    let binary = env!("CARGO_BIN_EXE_hippodrome");
    let race = ["--b-binary", binary, "--pairs", "1", "--clients", "20", "--out", "out"];
    let (code, stdout, stderr) = compare(directory.path(), &[&race[..], &SMALL].concat());
    assert_eq!(code, ENDED, "{stdout}\n{stderr}");
    let comparison = comparison(&directory.path().join("out"));
    assert!(comparison["sides"][1]["label"].as_str().unwrap().starts_with("hippodrome "), "{comparison}");
    assert_eq!(comparison["differences"], Value::Array(Vec::new()), "it is the same build, with the same settings");
    let run = comparison["sides"][1]["runs"][0]["directory"].as_str().unwrap();
    let log = fs::read_to_string(directory.path().join(run).join("launcher.log")).unwrap();
    assert!(log.contains("4 replicas, results in "), "{log}");
}

#[test]
fn a_handicap_is_in_the_settings_and_in_the_summary() {
    let _track = track();
    let directory = tempfile::tempdir().unwrap();
    let run = ["run", "--clients", "20", "--burn-ns", "2000", "--out", "out"];
    let (_, stdout, stderr) = outcome(&hippodrome(directory.path(), &[&run[..], &SMALL].concat()).output().unwrap());
    assert!(
        stdout.contains("Handicap     each replica burns 2000 ns of CPU time for each operation"),
        "{stdout}\n{stderr}"
    );
    let report: Value =
        serde_json::from_str(&fs::read_to_string(directory.path().join("out/report.json")).unwrap()).unwrap();
    assert_eq!(report["config"]["burn_ns"], 2000);
    // No timing: that so much CPU time was taken is what the option is for.
    assert!(report["cpu"]["us_per_op_replicas"].as_f64().unwrap() > 8.0, "{}", report["cpu"]);
}

#[test]
fn what_can_not_be_compared_is_refused_before_anything_is_made() {
    let directory = tempfile::tempdir().unwrap();
    for (arguments, parts) in [
        (&[][..], &["nothing to compare", "two or more RESULTS"][..]),
        (&["one"], &["RESULTS = one: allowed: two or more"]),
        (&["one", "two"], &["one: No such file", "allowed: a run's results directory, which holds report.json"]),
        (&["one", "two", "--b", "auth=none"], &["RESULTS = one two: allowed: only without settings"]),
        (&["--b", "auth"], &["side B", "'auth': allowed: KEY=VALUE"]),
        (&["--b", "wings=2"], &["side B", "unknown key 'wings'"]),
        (&["--c", "clients=0"], &["side C", "a whole number from 1 to 1048576"]),
        (&["--b", "auth=none", "--connections", "8", "--clients", "4"], &["connections = 8", "at most --clients (4)"]),
        (&["--b-binary", "/bin/true"], &["b-binary = /bin/true: allowed: another build of hippodrome"]),
        (&["--b", "auth=none", "--fail-if-slower", "200%"], &["0% to 100%"]),
        (&["--b", "auth=none", "--pairs", "0"], &["a whole number from 1 to 100"]),
    ] {
        let (code, stdout, stderr) = compare(directory.path(), arguments);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments:?}: {stderr}");
        parts.iter().for_each(|part| assert!(stderr.contains(part), "{arguments:?}: '{stderr}' lacks '{part}'"));
    }
    let (code, stdout, _) =
        compare(directory.path(), &["--a", "auth=mac", "--a", "batch=1", "--c", "auth=none", "--dry-run"]);
    assert_eq!(code, Some(0));
    assert!(
        stdout.starts_with("A  auth=mac batch=none\nB  the base\nC  auth=none\n10 rounds, 30 runs, about "),
        "{stdout}"
    );
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}
