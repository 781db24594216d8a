//! Faults in real processes: what a run survives it must say and go on, what it does not must end it, and nothing is
//! ever left behind.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use hippodrome_analysis::latency;
use serde_json::Value;

use crate::common::{
    Finished, Guard, Run, children, hippodrome, numbers, reasons, signal, track, wait_for, wait_until_gone,
};

mod common;

/// Kills a backup in the middle of a run: a fault, not a reason.
fn kill_backup(backup: usize) {
    let mut run = Run::start(&["--duration", "2s"]);
    let processes = run.processes(4);
    run.wait_for_seconds(1);
    signal("-KILL", processes[backup].pid);
    let run = run.finish();
    run.expect_sound("a killed backup");
    let fault = &run.report["faults"][0];
    assert_eq!((&fault["kind"], &fault["replica"]), (&"process_exit".into(), &backup.into()));
    assert_eq!(fault["detail"], "killed by signal 9");
    assert_eq!(run.report["replicas"][backup]["state"], "killed by signal 9");
    let others: Vec<u64> = (0..4).filter(|id| *id != backup as u64).collect();
    assert_eq!(numbers(&run.report["audit"]["replicas_compared"]), others);
    let notes = run.report["audit"]["notes"].to_string();
    assert!(notes.contains(&format!("replica {backup} ended before the load did: killed by signal 9")), "{notes}");
}

#[test]
fn any_killed_backup_is_a_fault_and_the_run_goes_on() {
    (1..4).for_each(kill_backup);
}

#[test]
fn backup_that_stood_still_catches_up() {
    let mut run = Run::start(&["--duration", "4s"]);
    let processes = run.processes(4);
    run.wait_for_seconds(1);
    signal("-STOP", processes[2].pid);
    std::thread::sleep(Duration::from_secs(1));
    signal("-CONT", processes[2].pid);
    let run = run.finish();
    run.expect_sound("a backup that stood still");
    let replicas = run.report["replicas"].as_array().unwrap();
    assert_eq!(replicas[2]["left_behind"], Value::Null, "{}", run.report);
    for name in ["executed_sequence", "executed_ops", "ledger_digest"] {
        assert!(replicas.iter().all(|replica| replica[name] == replicas[0][name]), "{name}: {}", run.report);
    }
    for name in ["replicas_compared", "replicas_up_to_date"] {
        assert_eq!(numbers(&run.report["audit"][name]), [0, 1, 2, 3], "{}", run.report["audit"]);
    }
}

/// The load generator's own calibration: without a quorum for 200 ms, an open loop must show 200 ms.
#[test]
fn pause_of_two_replicas_is_seen_in_the_tail_of_an_open_loop() {
    let mut run = Run::start(&["--duration", "3s", "--clients", "200", "--rate", "500", "--connections", "2"]);
    let processes = run.processes(4);
    run.wait_for_seconds(2);
    for replica in [1, 3] {
        signal("-STOP", processes[replica].pid);
    }
    std::thread::sleep(Duration::from_millis(200));
    for replica in [1, 3] {
        signal("-CONT", processes[replica].pid);
    }
    let run = run.finish();
    let latency = &run.report["latency_us"];
    for percentile in ["p99_9", "max"] {
        let milliseconds = latency[percentile].as_f64().unwrap() / 1e3;
        assert!(milliseconds >= 150.0, "{percentile}: {milliseconds} ms: {}", run.report);
    }
    assert_eq!(run.report["generator"]["offered_operations"], 1500);
    // What was to be sent in the first half of the pause waited for the other half at least: 50 operations.
    let log = fs::read(run.directory.path().join("out/latency.hlog")).unwrap();
    let latencies = latency::merge([log.as_slice()]).unwrap();
    let long = latencies.count_between(100_000_000, u64::MAX);
    assert!(long >= 45, "only {long} of 1500 operations took 100 ms: {}", run.report);
    assert_eq!(numbers(&run.report["audit"]["replicas_compared"]), [0, 1, 2, 3]);
}

#[test]
fn load_generator_that_overslept_the_end_sends_what_was_due() {
    let mut run = Run::start(&["--duration", "1s", "--rate", "50"]);
    let processes = run.processes(4);
    run.wait_for_seconds(1);
    signal("-STOP", processes[4].pid);
    std::thread::sleep(Duration::from_millis(1200));
    signal("-CONT", processes[4].pid);
    let run = run.finish();
    let generator = &run.report["generator"];
    assert_eq!((&generator["offered_operations"], &generator["unsent"]), (&50.into(), &0.into()), "{generator}");
    assert!(run.reasons().iter().any(|reason| reason.contains("sends were late")), "{:?}", run.reasons());
}

#[test]
fn killed_primary_is_replaced_and_nothing_is_lost() {
    let patience = ["--duration", "6s", "--view-timeout", "500ms", "--retransmit-after", "200ms"];
    let mut run = Run::start(&patience);
    let processes = run.processes(4);
    run.wait_for_seconds(1);
    signal("-KILL", processes[0].pid);
    let Finished { report, stderr, .. } = run.finish();
    // Seconds without an operation speak against the numbers; nothing may speak against the cluster.
    let reasons = report["verdict"]["reasons"].to_string();
    for part in ["ledger", "never got a reply quorum", "wrong", "contradict"] {
        assert!(!reasons.contains(part), "{reasons}: {report}");
    }
    assert!(stderr.contains("replica 0 ended: killed by signal 9; the run goes on"), "{stderr}");
    assert_eq!(report["faults"][0]["replica"], 0);
    assert_eq!(report["generator"]["unanswered"], 0);
    for replica in &report["replicas"].as_array().unwrap()[1..] {
        assert!(replica["view"].as_u64().unwrap() >= 1, "{report}");
    }
    let per_second = report["throughput"]["per_second"].as_array().unwrap();
    assert!(per_second.last().unwrap().as_f64().unwrap() > 0.0, "{report}");
    wait_until_gone(&processes);
}

/// Nobody had planned it, so the seconds without an operation speak against the numbers; the reason says what they come
/// from. No other primary comes within the run, so that every second after the one in which it ended is such a second.
#[test]
fn a_standstill_is_put_down_to_the_primary_that_was_killed_before_it() {
    let patience = ["--duration", "6s", "--view-timeout", "60s", "--retransmit-after", "200ms"];
    let mut run = Run::start(&patience);
    let processes = run.processes(4);
    run.wait_for_seconds(2);
    signal("-KILL", processes[0].pid);
    let run = run.finish();
    let reasons = run.reasons();
    let named = |reason: &String| {
        reason.starts_with("no operation completed in second")
            && reason.ends_with(", after replica 0 ended (killed by signal 9)")
    };
    assert_eq!(run.code, Some(1));
    assert!(reasons.iter().any(named), "{reasons:?}");
    assert!(!reasons.iter().any(|reason| reason.contains("without a single operation")), "{reasons:?}");
}

#[test]
fn more_killed_replicas_than_f_end_the_run_invalid() {
    let mut run = Run::start(&["--duration", "2s", "--timeout", "1s"]);
    let processes = run.processes(4);
    run.wait_for_seconds(1);
    signal("-KILL", processes[1].pid);
    signal("-KILL", processes[2].pid);
    let run = run.finish();
    assert_eq!(run.code, Some(1));
    let expected = "2 of 4 replicas (1, 2) ended or did not answer, more than f = 1";
    assert!(run.reasons().contains(&expected.to_owned()), "{:?}", run.reasons());
    wait_until_gone(&processes);
}

#[test]
fn wrong_replica_is_named() {
    let run = Run::start(&["--duration", "1s", "--wrong-from", "3"]).finish();
    assert_eq!(run.code, Some(1));
    // Its state may have been replaced by the others' in the meantime; what it said stays said.
    assert!(run.reasons().iter().any(|reason| reason.starts_with("replica 1")), "{}", run.report);
}

#[test]
fn dead_load_generator_makes_the_run_invalid() {
    let mut run = Run::start(&["--duration", "20s"]);
    let processes = run.processes(4);
    run.wait_for_seconds(1);
    signal("-KILL", processes[4].pid);
    let run = run.finish();
    assert_eq!(run.code, Some(1));
    let reasons = run.reasons();
    assert!(reasons[0].contains("load generator failed: load ended early (killed by signal 9)"), "{reasons:?}");
}

#[test]
fn interrupted_run_leaves_no_process_and_no_key() {
    let mut run = Run::start(&["--duration", "60s"]);
    let processes = run.processes(4);
    signal("-INT", run.pid());
    assert_eq!(run.wait().code(), Some(130));
    wait_until_gone(&processes);
    let hidden = fs::read_dir(run.results()).unwrap();
    assert!(!hidden.into_iter().any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with('.')));
}

#[test]
fn children_of_a_killed_launcher_end_by_themselves() {
    let mut run = Run::start(&["--duration", "60s"]);
    let processes = run.processes(4);
    signal("-KILL", run.pid());
    run.wait();
    wait_until_gone(&processes);
}

/// Whoever reads the launcher's progress may hang up at any time.
#[test]
fn launcher_that_can_not_speak_finishes_its_run() {
    let _track = track();
    let directory = tempfile::tempdir().unwrap();
    let run = ["run", "--clients", "40", "--warmup", "1s", "--duration", "1s", "--out", "out"];
    let mut command = hippodrome(directory.path(), &run);
    let mut launcher = Guard(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let processes = wait_for("all processes of a run", || {
        let found = children(launcher.pid());
        (found.len() == 5).then_some(found)
    });
    drop(launcher.0.stderr.take());
    let status = launcher.wait("a launcher that can not speak");
    assert_eq!(status.code(), Some(i32::from(cfg!(debug_assertions))));
    let report = fs::read_to_string(directory.path().join("out/report.json")).unwrap();
    assert_eq!(reasons(&serde_json::from_str(&report).unwrap()), Vec::<String>::new());
    wait_until_gone(&processes);
}
