//! Races in which clients send their requests to all replicas and pre-prepares carry digests (`--dissemination
//! digest`), in real processes: with every kind of proof, when the primary is killed, and among faulty replicas and
//! clients.

use serde_json::Value;

use crate::common::{Finished, Run, numbers, signal};

mod common;

const DIGEST: [&str; 4] = ["--dissemination", "digest", "--retransmit-after", "300ms"];
/// Bytes of an operation where it matters who sends them: a digest is less than a hundredth.
const LARGE: u64 = 8 << 10;

fn start(arguments: &[&str]) -> Run {
    Run::start(&[&DIGEST, arguments].concat())
}

fn race(arguments: &[&str]) -> Finished {
    let run = start(&[&["--duration", "1s"], arguments].concat()).finish();
    assert_eq!(run.report["config"]["dissemination"], "digest");
    run
}

/// Bytes sent by the primary and by the load generator for each byte of the operations that were executed.
fn sent_per_byte(report: &Value) -> (f64, f64) {
    let real = |value: &Value| value.as_f64().unwrap();
    let bytes = real(&report["replicas"][0]["executed_ops"]) * f64::from(u32::try_from(LARGE).unwrap());
    (real(&report["replicas"][0]["bytes_sent"]) / bytes, real(&report["generator"]["bytes_sent"]) / bytes)
}

#[test]
fn every_kind_of_proof_is_raced() {
    for (auth, more) in [
        ("none", "--batch none --transport epoll"),
        ("mac", "--batch adaptive --replicas 7 --connections 3"),
        ("mac", "--batch fixed:10 --app kv --workload a --placement pipelined"),
        ("ed25519-batch", "--batch time:50,2ms"),
        ("hybrid", "--network lan,loss=1%"),
    ] {
        let arguments: Vec<&str> = ["--auth", auth].into_iter().chain(more.split_whitespace()).collect();
        let run = race(&arguments);
        let what = format!("--auth {auth} {more}");
        run.expect_whole(&what);
        for replica in run.report["replicas"].as_array().unwrap() {
            assert!(replica["ignored"].get("unexpected_digests").is_none(), "{what}: {replica}");
        }
    }
}

#[test]
fn bodies_leave_the_load_generator_once_for_each_replica_and_not_the_primary() {
    let large = LARGE.to_string();
    let run = race(&["--request-bytes", &large, "--reply-bytes", "0"]);
    run.expect_sound("large operations");
    let (primary, generator) = sent_per_byte(&run.report);
    // With `inline` it sends each three times. Some batches are fetched whole on a busy machine.
    assert!(primary < 2.0, "the primary sent {primary} bytes for each of an operation");
    assert!(generator >= 4.0, "the load generator sent {generator} bytes for each of an operation");
    let inline = Run::start(&["--duration", "1s", "--request-bytes", &large, "--reply-bytes", "0"]).finish();
    assert_eq!(inline.report["config"]["dissemination"], "inline");
    let (primary, generator) = sent_per_byte(&inline.report);
    assert!(primary >= 3.0 && (1.0..4.0).contains(&generator), "{primary} and {generator} bytes");
}

#[test]
fn a_killed_primary_is_replaced_and_nothing_is_lost() {
    let mut run = start(&["--duration", "6s", "--view-timeout", "500ms"]);
    let processes = run.processes(4);
    run.wait_for_seconds(1);
    signal("-KILL", processes[0].pid);
    let run = run.finish();
    run.expect_another_primary();
    let per_second = run.report["throughput"]["per_second"].as_array().unwrap();
    assert!(per_second.last().unwrap().as_f64().unwrap() > 0.0, "{}", run.report);
}

#[test]
fn faulty_primaries_are_survived() {
    for kinds in ["0:withhold-body", "0:equivocate", "0:random", "0:partial-authenticator"] {
        let run = race(&["--view-timeout", "200ms", "--byzantine", kinds]);
        run.expect_sound(kinds);
        assert_eq!(numbers(&run.report["audit"]["replicas_compared"]), [1, 2, 3], "{kinds}");
    }
}

/// A backup that brings bodies which nobody else has got with a proof, and never vouches for them: neither the proofs'
/// absence nor the clients' part in it may stay hidden, or every view would end like that.
#[test]
fn early_bodies_hide_no_proofs_that_are_missing() {
    let run = race(&["--duration", "3s", "--byzantine", "3:early-body", "--hostile", "partial-authenticators"]);
    run.expect_sound("early bodies");
    assert_eq!(numbers(&run.report["audit"]["replicas_compared"]), [0, 1, 2]);
    // Bodies came, some of no use; replicas that had all of them took what they needed.
    let unwanted = |replica: &Value| replica["ignored"]["unwanted_body"].as_u64().unwrap_or_default();
    let unwanted: Vec<u64> = run.report["replicas"].as_array().unwrap().iter().take(3).map(unwanted).collect();
    assert!(unwanted.iter().all(|count| *count > 0), "{unwanted:?}");
}

#[test]
fn clients_that_prove_themselves_to_some_replicas_and_repeat_themselves_stop_nobody() {
    for auth in ["mac", "hybrid"] {
        let run = race(&["--auth", auth, "--hostile", "partial-authenticators,replays"]);
        run.expect_sound(auth);
        assert_eq!(numbers(&run.report["audit"]["replicas_compared"]), [0, 1, 2, 3], "{auth}");
        assert_eq!(run.report["audit"]["clients_checked"], run.report["config"]["clients"], "{auth}");
    }
}

#[test]
fn votes_are_logged_with_their_bodies() {
    let run = race(&["--durability", "wal"]);
    run.expect_sound("--durability wal");
    assert_eq!(numbers(&run.report["audit"]["replicas_compared"]), [0, 1, 2, 3]);
}
