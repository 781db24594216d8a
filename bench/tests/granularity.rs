//! Races in which load generators prove their requests in groups (`--auth-granularity frame`), in real processes: with
//! every kind of proof, batches that take groups apart, bodies to everybody, reads without order, and faults.

use serde_json::Value;

use crate::common::{Finished, Run, numbers, signal};

mod common;

const FRAME: [&str; 4] = ["--auth-granularity", "frame", "--retransmit-after", "300ms"];

fn start(arguments: &[&str]) -> Run {
    Run::start(&[&FRAME, arguments].concat())
}

fn race(arguments: &[&str]) -> Finished {
    let run = start(&[&["--warmup", "0s", "--duration", "1s"], arguments].concat()).finish();
    assert_eq!(run.report["config"]["auth_granularity"], "frame");
    run
}

/// Sound, all replicas agree, and nobody refused anything of honest nodes.
fn check(run: &Finished, what: &str) {
    run.expect_whole(what);
    for replica in run.report["replicas"].as_array().unwrap() {
        for (reason, times) in replica["ignored"].as_object().unwrap() {
            let accuses = ["bad_", "wrong_", "unexpected_", "partial_", "too_many_groups"];
            assert!(!accuses.iter().any(|start| reason.starts_with(start)), "{what}: {reason} {times}");
        }
    }
}

/// `--auth` with other options. Batches of one and of ten take every group apart.
#[test]
fn every_kind_of_proof_is_raced() {
    for (auth, more) in [
        ("none", "--batch fixed:10"),
        ("mac", "--batch adaptive --replicas 7 --connections 3"),
        ("mac", "--batch none --transport epoll"),
        ("mac-gmac", "--batch fixed:10 --app kv --workload a --placement pipelined"),
        ("ed25519-batch", "--batch adaptive --load-threads 2 --connections 2"),
        ("ed25519-batch", "--batch fixed:10"),
        ("ed25519", "--batch time:50,2ms"),
        ("ed25519-merkle", "--batch fixed:10"),
        ("hybrid", "--network lan,loss=1%"),
    ] {
        let arguments: Vec<&str> = ["--auth", auth].into_iter().chain(more.split_whitespace()).collect();
        check(&race(&arguments), &format!("--auth {auth} {more}"));
    }
}

#[test]
fn requests_by_digests_and_reads_without_order_are_raced() {
    for auth in ["mac", "ed25519-batch"] {
        let run = race(&["--auth", auth, "--dissemination", "digest", "--batch", "fixed:10"]);
        check(&run, &format!("{auth} --dissemination digest"));
        let reads = race(&["--auth", auth, "--app", "kv", "--workload", "b", "--reads", "read-only"]);
        check(&reads, &format!("{auth} --reads read-only"));
        assert!(reads.report["generator"]["read_only"].as_u64().unwrap() > 0, "{auth}: {}", reads.report);
    }
}

/// Fewer bytes from the load generator, which is what most of a small request is.
#[test]
fn a_frame_is_proven_by_fewer_bytes() {
    let sent = |run: &Finished| {
        let real = |value: &Value| value.as_f64().unwrap();
        real(&run.report["generator"]["bytes_sent"]) / real(&run.report["replicas"][0]["executed_ops"])
    };
    let arguments = ["--auth", "mac", "--replicas", "7", "--request-bytes", "16", "--clients", "400"];
    let grouped = sent(&race(&arguments));
    let single = Run::start(&[&["--warmup", "0s", "--duration", "1s"], &arguments[..]].concat()).finish();
    assert_eq!(single.report["config"]["auth_granularity"], "request");
    // 2 bytes of columns at least and 16 of operation, and 7 tags of 16 for each, or for up to 64 of them.
    let single = sent(&single);
    assert!(single >= 2.0 + 16.0 + 112.0 && grouped < single * 0.75, "{grouped} and {single} bytes for each operation");
}

#[test]
fn hostile_clients_stop_nobody_and_are_counted() {
    for auth in ["mac", "hybrid"] {
        let run = race(&["--auth", auth, "--hostile", "bad-signatures,partial-authenticators,replays"]);
        run.expect_whole(auth);
        let refused = run.report["replicas"].as_array().unwrap().iter();
        let refused: u64 = refused.filter_map(|replica| replica["ignored"]["bad_request_proof"].as_u64()).sum();
        assert!(refused > 0, "{auth}: {}", run.report);
    }
}

#[test]
fn faulty_primaries_are_survived() {
    for kinds in ["0:equivocate", "0:random", "0:partial-authenticator"] {
        let run = race(&["--view-timeout", "200ms", "--byzantine", kinds]);
        run.expect_sound(kinds);
        assert_eq!(numbers(&run.report["audit"]["replicas_compared"]), [1, 2, 3], "{kinds}");
    }
}

#[test]
fn a_killed_primary_is_replaced_and_nothing_is_lost() {
    let mut run = start(&["--auth", "ed25519-batch", "--duration", "5s", "--view-timeout", "500ms"]);
    let processes = run.processes(4);
    run.wait_for_seconds(1);
    signal("-KILL", processes[0].pid);
    run.finish().expect_another_primary();
}
