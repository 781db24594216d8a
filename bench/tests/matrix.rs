//! Every authentication strategy with every batching strategy, over both transports, with every other option somewhere:
//! nothing may speak against any of these short races.

use std::fs;

use hippodrome_engine::transport::probe;

use crate::common::{Finished, Run, numbers};

mod common;

/// Backends that work here: containers often refuse `io_uring`.
fn backend(wanted: &str) -> &str {
    if wanted == "tokio-uring" && probe::probe().is_err() { "epoll" } else { wanted }
}

/// Races a cluster with each of `races`: `BATCH TRANSPORT [OPTIONS..]`.
fn races(auth: &str, races: [&str; 4]) {
    for race in races {
        let mut words = race.split_whitespace();
        let (batch, transport) = (words.next().unwrap(), backend(words.next().unwrap()));
        let mut arguments = vec!["--auth", auth, "--batch", batch, "--transport", transport];
        arguments.extend(["--warmup", "0s", "--duration", "1s", "--seed", "7"]);
        let rest: Vec<String> = words.map(|word| word.replace("CORES", &cores())).collect();
        arguments.extend(rest.iter().map(String::as_str));
        let run = Run::start(&arguments).finish();
        check(&run, &format!("--auth {auth} --batch {batch} --transport {transport} {}", rest.join(" ")));
        let environment = &run.report["environment"];
        for side in ["transport", "client_transport"] {
            assert_eq!(environment[side], format!("{transport}: chosen"), "{race}");
        }
        let config = &run.report["config"];
        assert_eq!((&config["auth"], &config["seed"]), (&auth.into(), &7.into()), "{race}");
        let recorded = config["batch"].as_str().unwrap();
        assert!(recorded.starts_with(batch), "{race}: recorded as {recorded}");
        let mean = run.report["batches"]["mean_requests"].as_f64().unwrap();
        let most = match batch {
            "none" => 1.0,
            "fixed:10" => 10.0,
            "time:50,2ms" => 50.0,
            _ => 4096.0,
        };
        assert!((1.0..=most).contains(&mean), "{race}: {mean} requests a batch");
        if let Some(asked) = rest.iter().position(|word| word == "--placement").map(|at| &rest[at + 1]) {
            let kind = if asked.contains(',') { "explicit cores" } else { asked };
            let placement = environment["placement"].as_str().unwrap();
            assert!(placement.starts_with(&format!("{kind}: asked for")), "{race}: {placement}");
        }
    }
}

/// What every sound report says, whatever the options.
fn check(run: &Finished, what: &str) {
    run.expect_sound(what);
    let report = &run.report;
    assert_eq!(report["schema"], "hippodrome/run/1");
    let replicas = report["config"]["replicas"].as_u64().unwrap();
    let clients = report["config"]["clients"].as_u64().unwrap();
    let audit = &report["audit"];
    assert_eq!(numbers(&audit["replicas_compared"]), (0..replicas).collect::<Vec<_>>(), "{what}: {audit}");
    assert_eq!(audit["clients_checked"], clients, "{what}");
    assert!(audit["common_sequence"].as_u64().unwrap() > 0, "{what}: {audit}");
    let count = |name: &str| audit[name].as_u64().unwrap();
    let (begun, executed, completed) =
        (count("operations_begun"), count("operations_executed"), count("operations_completed"));
    assert!(begun >= executed && executed >= completed && completed >= clients, "{what}: {audit}");
    let measured = report["throughput"]["operations"].as_u64().unwrap();
    assert!(measured > 0 && measured <= completed, "{what}: {measured} of {completed}");
    assert_eq!(report["latency_us"]["count"], measured, "{what}");
    for replica in report["replicas"].as_array().unwrap() {
        assert_eq!(replica["state"], "up", "{what}");
        for (reason, times) in replica["ignored"].as_object().unwrap() {
            let accuses = ["bad_", "wrong_", "unexpected_", "truncated"].iter().any(|start| reason.starts_with(start));
            assert!(!accuses, "{what}: honest nodes made replica {} refuse: {reason} {times}", replica["id"]);
        }
    }
}

/// A list of cores for `--placement`: network, order, execute, egress and two verify stages on the first and the last
/// that this process may use.
fn cores() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim();
    let mut ends = allowed.split([',', '-']);
    let first = ends.next().unwrap();
    let last = ends.next_back().unwrap_or(first);
    [first, last, last, first, last, first].join(",")
}

#[test]
fn nothing_proven() {
    races(
        "none",
        [
            "none epoll --placement pipelined",
            "fixed:10 tokio-uring --request-bytes 64KiB --reply-bytes 64KiB",
            "time:50,2ms epoll --replicas 10",
            "adaptive tokio-uring --connections 3 --load-threads 2",
        ],
    );
}

#[test]
fn macs() {
    races(
        "mac",
        [
            "none tokio-uring --replicas 5",
            "fixed:10 epoll --placement fused --app kv --workload a",
            "time:50,2ms tokio-uring --placement CORES --app kv --workload b",
            "adaptive epoll --replicas 7 --connections 3",
        ],
    );
}

#[test]
fn signatures_one_by_one() {
    races(
        "ed25519",
        [
            "none epoll --app kv --workload c",
            "fixed:10 tokio-uring --connections 3 --load-threads 2",
            "time:50,2ms epoll --request-bytes 0 --reply-bytes 0",
            "adaptive tokio-uring --placement pipelined --replicas 5",
        ],
    );
}

#[test]
fn signatures_in_batches() {
    races(
        "ed25519-batch",
        [
            "none tokio-uring --app kv --workload d",
            "fixed:10 epoll --app kv --workload e --connections 2 --load-threads 2",
            "time:50,2ms tokio-uring --placement CORES --request-bytes 1KiB --reply-bytes 1KiB",
            "adaptive epoll --replicas 7",
        ],
    );
}

#[test]
fn signed_requests_and_macs() {
    races(
        "hybrid",
        [
            "none tokio-uring --placement fused --request-bytes 64KiB --reply-bytes 0",
            "fixed:10 epoll --app kv --workload f --connections 3 --load-threads 2",
            "time:50,2ms tokio-uring --replicas 5 --request-bytes 0 --reply-bytes 1KiB",
            "adaptive epoll --placement CORES --app kv --workload a",
        ],
    );
}
