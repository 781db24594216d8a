//! Where time goes, told of real processes: what the load generator and the replicas note of the same operations fits
//! together and adds up.

use std::fs;

use hippodrome_analysis::attribution::Part;
use serde_json::Value;

use crate::common::{Finished, Run, hippodrome, outcome, signal, track};

mod common;

/// One operation that was followed: its columns by name.
struct Row<'a> {
    names: &'a [&'a str],
    values: Vec<&'a str>,
}

impl Row<'_> {
    fn get(&self, name: &str) -> &str {
        let at = self.names.iter().position(|known| *known == name);
        self.values[at.unwrap_or_else(|| panic!("no column {name}"))]
    }

    /// A time of µs with three digits behind the point, in whole ns.
    fn ns(&self, name: &str) -> u64 {
        self.get(name).replace('.', "").parse().unwrap()
    }

    fn part(&self, part: Part) -> u64 {
        self.ns(&format!("{}_us", part.name()))
    }
}

/// Calls `check` with every row of a run's file, after having checked that its parts add up. Returns how many there
/// are.
fn each_row(run: &Finished, mut check: impl FnMut(&Row<'_>)) -> u64 {
    let text = fs::read_to_string(run.directory.path().join("out/attribution.csv")).unwrap();
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let names = lines.next().unwrap();
    let mut rows = 0;
    for values in lines {
        let row = Row { names: &names, values };
        let sum: u64 = Part::ALL.into_iter().map(|part| row.part(part)).sum();
        assert_eq!(sum, row.ns("latency_us"), "{:?}", row.values);
        check(&row);
        rows += 1;
    }
    rows
}

/// The report's shares add up to what they are shares of.
fn expect_shares(told: &Value) {
    for (share, whole) in [("p50_share_us", "middle"), ("p99_9_share_us", "tail")] {
        let shares = told["parts"].as_array().unwrap().iter().map(|part| part[share].as_f64().unwrap());
        let (sum, whole) = (shares.sum::<f64>(), told[whole]["mean_us"].as_f64().unwrap());
        assert!((sum - whole).abs() <= 1e-9 * whole, "{share}: {sum} of {whole}");
    }
}

fn names_of_parts(told: &Value) -> Vec<&str> {
    told["parts"].as_array().unwrap().iter().map(|part| part["name"].as_str().unwrap()).collect()
}

#[test]
fn a_delayed_network_shows_in_the_parts_that_cross_it() {
    const DELAY_NS: u64 = 20_000_000;
    let run = Run::start(&["--duration", "2s", "--network", "delay=20ms", "--sample", "1/2"]).finish();
    run.expect_sound("every link with a delay of 20 ms");
    let told = &run.report["attribution"];
    expect_shares(told);
    assert_eq!((&told["shared_clock"], &told["one_in"], &told["incomplete"]), (&true.into(), &2.into(), &0.into()));
    // Lower bounds: the machine may add to them.
    let rows = each_row(&run, |row| {
        assert_eq!((row.get("primary"), row.part(Part::Unattributed)), ("0", 0), "{:?}", row.values);
        assert!(row.part(Part::ClientSend) + row.part(Part::RequestNetwork) >= DELAY_NS, "{:?}", row.values);
        // The pre-prepare to the backups and their prepares; then the commits.
        assert!(row.part(Part::Prepare) >= 2 * DELAY_NS, "{:?}", row.values);
        assert!(row.part(Part::Prepare) + row.part(Part::Commit) >= 3 * DELAY_NS, "{:?}", row.values);
        assert!(row.part(Part::ReplyNetwork) >= DELAY_NS, "{:?}", row.values);
        assert!(row.ns("latency_us") >= 5 * DELAY_NS);
    });
    assert_eq!(told["samples"], rows);
    assert!((1..run.report["throughput"]["operations"].as_u64().unwrap()).contains(&rows), "{rows} rows");
    let largest = told["parts"].as_array().unwrap().iter().max_by(|a, b| {
        let share = |part: &Value| part["p50_share_us"].as_f64().unwrap();
        share(a).total_cmp(&share(b))
    });
    assert_eq!(largest.unwrap()["name"], "prepare");
    let sentence = run.report["bottleneck"]["sentence"].as_str().unwrap();
    assert!(!sentence.is_empty(), "{}", run.report["bottleneck"]);
    // What it takes to put a batch through can not be gone below, nor is it nothing.
    let percent = run.report["efficiency"]["percent"].as_f64().unwrap();
    assert!(percent > 0.0, "{}", run.report["efficiency"]);
}

#[test]
fn a_replica_that_is_stopped_leaves_only_its_own_answers_unattributed() {
    let mut run = Run::start(&["--duration", "3s", "--rate", "300", "--sample", "1/1"]);
    run.wait_for_seconds(2);
    let stopped = run.replica(3).unwrap();
    signal("-STOP", stopped.pid);
    let run = run.finish();
    expect_shares(&run.report["attribution"]);
    let (mut of_stopped, mut of_others) = (0, 0);
    let rows = each_row(&run, |row| {
        if row.get("first_replica") == "3" {
            // Nobody could ask it what it had noted.
            assert!(row.part(Part::Unattributed) > 0 && row.get("sequence").is_empty(), "{:?}", row.values);
            of_stopped += 1;
        } else {
            assert!(!row.get("sequence").is_empty(), "{:?}", row.values);
            of_others += 1;
        }
    });
    let told = &run.report["attribution"];
    assert!(of_others > 0 && told["incomplete"].as_u64().unwrap() >= of_stopped, "{told}");
    assert_eq!(told["samples"], rows);
}

#[test]
fn threads_and_logs_have_their_parts() {
    let arguments =
        ["--duration", "2s", "--clients", "1", "--durability", "wal", "--placement", "pipelined", "--sample", "1/1"];
    let run = Run::start(&arguments).finish();
    run.expect_sound("one client, pipelined, with a log");
    let told = &run.report["attribution"];
    expect_shares(told);
    let names = names_of_parts(told);
    for part in [Part::Verify, Part::OrderWait, Part::Persist, Part::ExecuteWait, Part::ReplyWait, Part::QuorumWait] {
        assert!(names.contains(&part.name()), "{part:?}: {names:?}");
    }
    assert_eq!(told["one_in"], 1);
    each_row(&run, |row| assert!(row.part(Part::Persist) > 0, "{:?}", row.values));
    for replica in run.report["replicas"].as_array().unwrap() {
        let threads = replica["threads"].as_array().unwrap();
        let of_stages: Vec<&Value> =
            replica["stages"].as_array().unwrap().iter().map(|stage| &stage["thread"]).collect();
        assert!(threads.len() > 4 && threads.iter().all(|thread| of_stages.contains(&&thread["name"])), "{replica}");
        let woken: f64 = threads.iter().map(|thread| thread["wakeups_per_s"].as_f64().unwrap()).sum();
        assert!(woken > 0.0, "they park while idle: {replica}");
    }
    assert!(run.report["cpu"]["cores_busy_percent"].as_f64().unwrap() > 0.0, "{}", run.report["cpu"]);
}

#[test]
fn the_floor_is_told_of_settings_and_of_a_run() {
    let run = Run::start(&["--duration", "1s", "--batch", "fixed:8"]).finish();
    run.expect_sound("eight requests a batch");
    let told = |arguments: &[&str]| {
        let output = hippodrome(run.directory.path(), arguments).output().unwrap();
        let (code, stdout, stderr) = outcome(&output);
        assert_eq!(code, Some(0), "{stderr}");
        stdout
    };
    let again: Value = serde_json::from_str(&told(&["roofline", "out", "--json"])).unwrap();
    let first = &run.report["efficiency"];
    let names = |told: &Value| -> Vec<Value> {
        told["components"].as_array().unwrap().iter().map(|component| component["name"].clone()).collect()
    };
    assert_eq!((names(&again), &again["achieved_us_per_op"]), (names(first), &first["achieved_us_per_op"]));
    // How often is arithmetic, what it costs is not.
    let counts = |told: &Value| -> Vec<f64> {
        let components = told["components"].as_array().unwrap().iter();
        components.map(|component| component["count_per_op"].as_f64().unwrap()).collect()
    };
    assert!(counts(&again).iter().zip(counts(first)).all(|(again, first)| (again - first).abs() < 1e-9), "{again}");
    let table = told(&["roofline", "--requests", "10", "--replicas", "7"]);
    assert!(table.contains("7 replicas, --auth mac, 10.0 requests a batch") && table.contains("\nfloor "), "{table}");
    let table = told(&["roofline", "out"]);
    assert!(table.contains("of that is the floor\n"), "{table}");

    let output = hippodrome(run.directory.path(), &["roofline", "out", "--replicas", "7"]).output().unwrap();
    let (code, _, stderr) = outcome(&output);
    assert!(code == Some(2) && stderr.contains("the settings are those of the run"), "{stderr}");
}

#[test]
fn nothing_is_followed_that_is_not_asked_for() {
    let run = Run::start(&["--duration", "1s", "--sample", "off"]).finish();
    run.expect_sound("nothing is followed");
    assert_eq!(run.report["attribution"], Value::Null);
    let out = run.directory.path().join("out");
    assert!(!out.join("attribution.csv").exists() && !out.join("samples.json").exists());
    assert_eq!(run.report["config"]["sample"], "off");

    let _track = track();
    let directory = tempfile::tempdir().unwrap();
    for (sample, part) in [("1/0", "allowed: auto, off, or 1/N"), ("often", "allowed: auto, off, or 1/N")] {
        let output = hippodrome(directory.path(), &["run", "--sample", sample]).output().unwrap();
        let (code, _, stderr) = outcome(&output);
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains(part) && stderr.contains(sample), "{stderr}");
    }
}
