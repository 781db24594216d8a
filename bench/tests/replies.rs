//! Results by digest, batches by digest, and reads without order, in real processes: sound with all replicas, with one
//! that answers wrongly, and with one that is gone.

use std::fs;

use hippodrome_analysis::attribution::Part;
use serde_json::Value;

use crate::common::{Finished, Run, hippodrome, outcome, signal};

mod common;

/// Values longer than a digest, reads and writes.
const MIX: &[&str] =
    &["--app", "kv", "--workload", "a", "--records", "200", "--retransmit-after", "300ms", "--sample", "1/1"];

/// Every strategy that is not the usual one, and all together.
const STRATEGIES: [&[&str]; 5] = [
    &["--replies", "full"],
    &["--replies", "digest"],
    &["--reads", "read-only"],
    &["--replies", "digest", "--reads", "read-only"],
    &["--replies", "digest", "--reads", "read-only", "--dissemination", "digest"],
];

fn start(strategy: &[&str], more: &[&str]) -> Run {
    Run::start(&[MIX, strategy, more].concat())
}

fn count(report: &Value, part: &str, name: &str) -> u64 {
    report[part][name].as_u64().unwrap_or_else(|| panic!("{part}.{name}: {report}"))
}

/// What the report says of reads fits what was asked for and what replicas counted.
fn check(run: &Finished, strategy: &[&str]) {
    run.expect_sound(&format!("{strategy:?}"));
    let report = &run.report;
    let (read_only, total) = (count(report, "generator", "read_only"), count(report, "audit", "operations_read_only"));
    assert_eq!(count(report, "generator", "stale_reads"), 0);
    let answered: Vec<u64> =
        report["replicas"].as_array().unwrap().iter().map(|r| r["reads"].as_u64().unwrap()).collect();
    if strategy.contains(&"read-only") {
        assert!(read_only > 0 && read_only <= total, "{report}");
        assert!(answered.iter().filter(|reads| **reads >= total).count() >= 3, "a quorum for each: {answered:?}");
    } else {
        assert_eq!((read_only, total, &answered[..]), (0, 0, &[0; 4][..]), "{report}");
    }
    let measured = count(report, "throughput", "operations");
    assert!(measured <= count(report, "audit", "operations_completed") + total, "{report}");
    assert!(count(report, "audit", "operations_completed") > 0, "writes are ordered");
    assert_eq!(report["audit"]["clients_checked"], 40);
    check_attribution(run);
}

/// Only what was ordered is followed, and its parts add up. What is read in between is no part of that: numbers of
/// reads are no timestamps, though they look like them.
fn check_attribution(run: &Finished) {
    let told = &run.report["attribution"];
    let text = fs::read_to_string(run.directory.path().join("out/attribution.csv")).unwrap();
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let names = lines.next().unwrap();
    let ns = |row: &[&str], part: &str| -> u64 {
        let at = names.iter().position(|name| *name == format!("{part}_us")).unwrap();
        row[at].replace('.', "").parse().unwrap()
    };
    let mut rows = 0;
    for row in lines {
        let sum: u64 = Part::ALL.into_iter().map(|part| ns(&row, part.name())).sum();
        assert_eq!(sum, ns(&row, "latency"), "{row:?}");
        rows += 1;
    }
    assert!(rows > 0 && told["samples"] == rows, "{told}");
    assert!(rows <= count(&run.report, "audit", "operations_completed"), "{told}");
}

#[test]
fn all_replicas_are_correct() {
    for strategy in STRATEGIES {
        check(&start(strategy, &["--duration", "1s"]).finish(), strategy);
    }
}

#[test]
fn one_replica_answers_wrongly() {
    for strategy in STRATEGIES {
        let run = start(strategy, &["--duration", "1s", "--byzantine", "3:wrong-reply"]).finish();
        check(&run, strategy);
        let wrong = run.report["generator"]["wrong_replies"].as_array().unwrap();
        assert!(wrong[3].as_u64().unwrap() > 0, "{strategy:?}: it lied: {wrong:?}");
        assert!(wrong[..3].iter().all(|wrong| wrong == 0), "{strategy:?}: {wrong:?}");
    }
}

#[test]
fn one_replica_is_gone() {
    for strategy in STRATEGIES {
        let mut run = start(strategy, &["--duration", "2s"]);
        let processes = run.processes(4);
        run.wait_for_seconds(1);
        signal("-KILL", processes[2].pid);
        let run = run.finish();
        run.expect_sound(&format!("{strategy:?}"));
        assert_eq!(run.report["replicas"][2]["state"], "killed by signal 9");
        let last = run.report["throughput"]["per_second"].as_array().unwrap().last().unwrap().as_f64().unwrap();
        assert!(last > 0.0, "{strategy:?}: nothing was done without it");
    }
}

/// What it takes for most batches to be answered by digest: many clients whose results are long enough together.
const LARGE_BATCHES: &[&str] = &["--clients", "400", "--retransmit-after", "5s", "--duration", "3s"];

/// Whichever of them sends replies when it is killed, another one takes its place long before anything times out.
#[test]
fn whoever_sends_the_replies_may_go() {
    for victim in 1..4 {
        let mut run = Run::start(LARGE_BATCHES);
        let processes = run.processes(4);
        run.wait_for_seconds(1);
        signal("-KILL", processes[victim].pid);
        let run = run.finish();
        run.expect_sound(&format!("without replica {victim}"));
        // All of the last second is behind the kill.
        let last = run.report["throughput"]["per_second"].as_array().unwrap().last().unwrap().as_f64().unwrap();
        assert!(last > 0.0, "replica {victim}: {}", run.report);
    }
}

/// One replica sends the replies, and the others little more than a digest of them for each batch.
#[test]
fn one_replica_sends_what_all_would() {
    let sent = |replies: &str| {
        let run = Run::start(&[LARGE_BATCHES, &["--replies", replies, "--reply-bytes", "1000"]].concat()).finish();
        run.expect_sound(replies);
        let traffic = &run.report["traffic"];
        let ratio = traffic["bytes_per_op"].as_f64().unwrap() / traffic["expected_bytes_per_op"].as_f64().unwrap();
        assert!((0.8..1.25).contains(&ratio), "{replies}: {traffic}");
        traffic["bytes_per_op"].as_f64().unwrap()
    };
    let (full, digest) = (sent("full"), sent("batch-digest"));
    assert!(full - digest > 2000.0, "three of four results of 1,000 bytes: {full} and {digest}");
}

/// With the null application every operation may be a read: nothing at all is ordered.
#[test]
fn everything_is_read_only() {
    let run = Run::start(&["--reads", "read-only", "--reply-bytes", "100", "--duration", "1s"]).finish();
    run.expect_sound("nothing is ordered");
    let ordered = count(&run.report, "audit", "operations_executed");
    assert_eq!(ordered, count(&run.report, "audit", "operations_begun"), "only what fell back: {}", run.report);
    assert!(count(&run.report, "generator", "read_only") > 0);
}

#[test]
fn strategies_that_there_are_not_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    for (arguments, part) in [
        (["--replies", "half"], "'half' is not allowed; allowed: batch-digest, full, digest"),
        (["--reads", "never"], "'never' is not allowed; allowed: ordered, read-only"),
    ] {
        let output = hippodrome(directory.path(), &[&["run"][..], &arguments].concat()).output().unwrap();
        let (code, _, stderr) = outcome(&output);
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains(part), "{stderr}");
    }
}
