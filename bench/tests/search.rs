//! `hippodrome search`: real runs at rates of its choice, gone on with where it was; what it refuses.

use std::fs;

use serde_json::Value;

use crate::common::{hippodrome, outcome, track};

mod common;

/// Everything is met that is sustained, in steps so large that few runs are needed.
const SMALL: [&str; 16] = [
    "search",
    "--slo",
    "max=9s",
    "--resolution",
    "50%",
    "--confirmations",
    "1",
    "--curve",
    "2",
    "--clients",
    "20",
    "--duration",
    "1s",
    "--warmup",
    "0s",
    "--out=out",
];

#[test]
fn the_limit_is_searched_for_and_a_search_goes_on_where_it_was() {
    let _track = track();
    let directory = tempfile::tempdir().unwrap();
    // In a debug build every run is INVALID.
    let search = [&SMALL[..], &["--include-invalid"]].concat();
    let (code, stdout, stderr) = outcome(&hippodrome(directory.path(), &search).output().unwrap());
    assert_eq!(code, Some(0), "{stdout}\n{stderr}");
    let path = directory.path().join("out/search.json");
    let read = || -> Value { serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap() };
    let first = read();
    assert_eq!((&first["schema"], &first["complete"]), (&"hippodrome/search/1".into(), &true.into()));
    let (low, high) = (&first["found"]["confirmed"], &first["found"]["refuted"]);
    assert_eq!((&low["runs"], &low["met"]), (&1.into(), &1.into()), "{first}");
    if !high.is_null() {
        assert_eq!((&high["runs"], &high["met"]), (&1.into(), &0.into()), "{first}");
        let ratio = high["rate"].as_f64().unwrap() / low["rate"].as_f64().unwrap();
        assert!((ratio - 1.5).abs() < 1e-6, "{ratio}");
    }
    let runs = first["runs"].as_array().unwrap();
    assert!(runs[0]["rate"].is_null() && runs[0]["phase"].is_null(), "the closed loop comes first: {first}");
    assert_eq!(first["calibration_ops_per_s"], runs[0]["values"]["ops_per_s"]);
    assert_eq!(runs[1]["phase"], "growth", "{first}");
    // On a busy machine the load generator fails at times: then a rate has more than one run.
    let mut curve: Vec<String> =
        runs.iter().filter(|run| run["phase"] == "curve").map(|run| run["rate"].to_string()).collect();
    curve.dedup();
    assert_eq!(curve.len(), 2, "{first}");
    for run in &runs[1..] {
        // One that is not met says why, and so does one that was made again.
        assert_eq!(run["met"] == true, run["reasons"].as_array().unwrap().is_empty(), "{run}");
        assert!(directory.path().join("out").join(run["directory"].as_str().unwrap()).join("report.json").exists());
    }
    assert!(stdout.contains("the highest rate lies between") || stdout.contains("are met"), "{stdout}");

    // What is missing is made again, and only that.
    let last = runs.last().unwrap()["directory"].as_str().unwrap();
    fs::remove_dir_all(directory.path().join("out").join(last)).unwrap();
    let quietly = [&search[..], &["--quiet"]].concat();
    let (code, _, stderr) = outcome(&hippodrome(directory.path(), &quietly).output().unwrap());
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let again = read();
    let all = again["runs"].as_array().unwrap();
    assert_eq!(all[..runs.len() - 1], runs[..runs.len() - 1]);
    assert_eq!(all[runs.len() - 1]["rate"], runs[runs.len() - 1]["rate"]);
    let (code, stdout, _) = outcome(&hippodrome(directory.path(), &["report", "out"]).output().unwrap());
    assert_eq!(code, Some(0));
    assert!(stdout.contains(first["statement"].as_str().unwrap()), "{stdout}");
}

/// A run that is INVALID for another reason than its rate, as all of a debug build are, ends a search: it says nothing.
#[test]
#[cfg(debug_assertions)]
fn runs_that_say_nothing_of_their_rate_end_a_search() {
    let _track = track();
    let directory = tempfile::tempdir().unwrap();
    let (code, stdout, stderr) = outcome(&hippodrome(directory.path(), &SMALL).output().unwrap());
    assert_eq!((code, stdout.as_str()), (Some(3), ""));
    assert!(stderr.contains("says nothing of its rate") && stderr.contains("debug build"), "{stderr}");
}

/// No rate was met: by whose fault decides how it ends.
#[test]
fn a_load_generator_that_failed_makes_a_search_inconclusive() {
    let results = concat!(env!("CARGO_MANIFEST_DIR"), "/../analysis/testdata/pages/search/search.json");
    let mut search: Value = serde_json::from_str(&fs::read_to_string(results).unwrap()).unwrap();
    search["found"]["confirmed"] = Value::Null;
    for (failed, expected) in [(false, 1), (true, 4)] {
        for run in search["runs"].as_array_mut().unwrap() {
            (run["met"], run["generator_failed"]) = (false.into(), failed.into());
        }
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("search.json"), search.to_string()).unwrap();
        let (code, _, stderr) = outcome(&hippodrome(directory.path(), &["report", "."]).output().unwrap());
        assert_eq!(code, Some(expected), "failed: {failed}: {stderr}");
    }
}

#[test]
fn what_can_not_be_searched_for_is_refused_before_anything_is_made() {
    let directory = tempfile::tempdir().unwrap();
    for (arguments, parts) in [
        (&[][..], &["--slo"][..]),
        (&["--slo", "p95=1ms"], &["'p95': allowed: p50, p90, p99, p99.9"]),
        (&["--slo", "p99=5"], &["--slo", "for example 5ms"]),
        (&["--slo", "p99=5ms", "--rate", "100"], &["rate = 100: allowed: none"]),
        (&["--slo", "p99=5ms", "--resolution", "0.1%"], &["1% to 50%"]),
        (&["--slo", "p99=5ms", "--connections", "8", "--clients", "4"], &["connections = 8"]),
    ] {
        let arguments = [&["search"], arguments].concat();
        let (code, stdout, stderr) = outcome(&hippodrome(directory.path(), &arguments).output().unwrap());
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments:?}: {stderr}");
        parts.iter().for_each(|part| assert!(stderr.contains(part), "{arguments:?}: '{stderr}' lacks '{part}'"));
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}
