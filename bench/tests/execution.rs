//! Races in which batches are executed once they are prepared (`--execution tentative`), in real processes: with every
//! other strategy, with faulty replicas, with a log, and when the primary is killed.

use std::fs;

use hippodrome_analysis::attribution::Part;
use serde_json::Value;

use crate::common::{Finished, Run, hippodrome, numbers, outcome, signal};

mod common;

fn race(arguments: &[&str]) -> Finished {
    let base = ["--execution", "tentative", "--retransmit-after", "300ms", "--duration", "1s"];
    let run = Run::start(&[&base, arguments].concat()).finish();
    assert_eq!(run.report["config"]["execution"], "tentative");
    run
}

/// Of how many of the operations that were followed some time went into this part, and how many there were.
fn spent(run: &Finished, part: Part) -> (usize, usize) {
    let text = fs::read_to_string(run.directory.path().join("out/attribution.csv")).unwrap();
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let names = lines.next().unwrap();
    let column = names.iter().position(|name| *name == format!("{}_us", part.name())).unwrap();
    let rows: Vec<_> = lines.collect();
    assert!(!rows.is_empty(), "operations were followed");
    (rows.iter().filter(|row| row[column].parse::<f64>().unwrap() > 0.0).count(), rows.len())
}

#[test]
fn it_goes_together_with_every_other_strategy() {
    for more in [
        "--auth none --batch none --transport epoll",
        "--auth mac --batch adaptive --replicas 7 --connections 3",
        "--auth ed25519-batch --batch fixed:10 --replies digest --reply-bytes 100",
        "--auth hybrid --network lan,loss=1%",
        "--app kv --workload a --records 200 --reads read-only --placement pipelined",
        "--app kv --workload a --records 200 --reads read-only --replies digest --dissemination digest",
        "--checkpoint-interval 16 --window 64 --batch fixed:10",
    ] {
        let run = race(&more.split_whitespace().collect::<Vec<_>>());
        run.expect_whole(more);
        if more.contains("read-only") {
            assert!(run.report["generator"]["read_only"].as_u64().unwrap() > 0, "{more}");
        }
    }
}

#[test]
fn time_goes_into_the_log_and_not_into_the_commit_phase() {
    let run = race(&["--durability", "wal"]);
    run.expect_whole("--durability wal");
    // Into the commit phase only where that came first: a reply that is for good has waited for it.
    let (committed, all) = spent(&run, Part::Commit);
    assert!(committed < all, "all of {all}");
    assert!(spent(&run, Part::Persist).0 > 0);
    for phase in ["prepared", "committed", "executed"] {
        assert!(run.report["phases_us"][phase]["p50"].as_f64().unwrap() > 0.0, "{phase}");
    }
}

#[test]
fn faulty_replicas_are_survived() {
    for kinds in ["3:wrong-reply", "0:equivocate", "0:random", "3:corrupt-mac"] {
        let run = race(&["--view-timeout", "300ms", "--byzantine", kinds]);
        run.expect_sound(kinds);
        let wrong = numbers(&run.report["generator"]["wrong_replies"]);
        let liar = kinds.ends_with("wrong-reply");
        assert_eq!((wrong[3] > 0, wrong[..3].iter().sum::<u64>()), (liar, 0), "{kinds}");
    }
}

#[test]
fn one_replica_is_gone() {
    let mut run = Run::start(&["--execution", "tentative", "--retransmit-after", "300ms", "--duration", "2s"]);
    let processes = run.processes(4);
    run.wait_for_seconds(1);
    signal("-KILL", processes[2].pid);
    let run = run.finish();
    run.expect_sound("a backup is killed");
    let last = run.report["throughput"]["per_second"].as_array().unwrap().last().unwrap().as_f64().unwrap();
    assert!(last > 0.0, "the other three are a quorum");
}

#[test]
fn a_killed_primary_is_replaced_and_nothing_that_was_told_is_lost() {
    for more in ["", "reads = \"read-only\"\napp = \"kv\"\nworkload = \"a\"\n"] {
        let scenario = format!(
            r#"
            duration = "7s"
            view_timeout = "500ms"
            retransmit_after = "300ms"
            execution = "tentative"
            {more}
            [[at]]
            s = 2
            kill = "primary"
            [expect]
            progress_within_s = 4
            "#
        );
        let run = Run::stress(&scenario).finish();
        run.expect_sound(&scenario);
        assert_eq!(run.report["generator"]["unanswered"], 0);
        assert_eq!(numbers(&run.report["audit"]["replicas_compared"]), [1, 2, 3]);
        for replica in &run.report["replicas"].as_array().unwrap()[1..] {
            assert!(replica["view"].as_u64().unwrap() >= 1, "{replica}");
            assert!(replica["rolled_back"].is_u64(), "{replica}");
        }
    }
}

#[test]
fn a_way_that_there_is_not_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let output = hippodrome(directory.path(), &["run", "--execution", "sometimes"]).output().unwrap();
    let (code, _, stderr) = outcome(&output);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("'sometimes' is not allowed; allowed: committed, tentative"), "{stderr}");
}

#[test]
fn by_default_nothing_is_tentative() {
    let run = Run::start(&["--duration", "1s"]).finish();
    run.expect_sound("the default");
    assert_eq!(run.report["config"]["execution"], "committed");
    let undone = |replica: &Value| replica["rolled_back"].as_u64().unwrap();
    assert_eq!(run.report["replicas"].as_array().unwrap().iter().map(undone).sum::<u64>(), 0);
    assert!(spent(&run, Part::Commit).0 > 0, "replies wait for the commit phase");
}
