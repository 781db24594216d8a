//! Every authentication strategy with every batching strategy, over all transports, with every other option somewhere:
//! nothing may speak against any of these short races.

use std::fs;

use hippodrome_engine::settings::{Authentication, TransportChoice};
use hippodrome_engine::transport::probe;

use crate::common::{Finished, Run, numbers};

mod common;

/// Backends that work here: containers often refuse `io_uring`.
fn backend(wanted: &str) -> &str {
    let works = match wanted.parse() {
        Ok(TransportChoice::TokioUring) => probe::probe().is_ok(),
        Ok(TransportChoice::IoUring(options)) => probe::probe_ring(options).is_ok(),
        _ => true,
    };
    if works { wanted } else { "epoll" }
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
            let kind = match asked.as_str() {
                list if list.contains("verify") => "groups",
                list if list.contains(',') => "explicit cores",
                name => name,
            };
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

/// Declares a test for each preset of strategies, and lists them.
macro_rules! races {
    ($($test:ident: $auth:literal $races:tt,)*) => {
        const RACED: &[&str] = &[$($auth),*];

        $(#[test]
        fn $test() {
            races($auth, $races);
        })*
    };
}

races! {
    nothing_proven: "none" [
        "none epoll --placement pipelined",
        "fixed:10 tokio-uring --request-bytes 64KiB --reply-bytes 64KiB",
        "time:50,2ms epoll --replicas 10",
        "adaptive tokio-uring --connections 3 --load-threads 2",
    ],
    macs: "mac" [
        "none tokio-uring --replicas 5",
        "fixed:10 epoll --placement fused --app kv --workload a",
        "time:50,2ms tokio-uring --placement CORES --app kv --workload b",
        "adaptive io-uring --replicas 7 --connections 3",
    ],
    macs_by_hmac: "mac-hmac-sha256" [
        "none tokio-uring --placement fused --app kv --workload a",
        "fixed:10 io-uring --connections 3 --load-threads 2",
        "time:50,2ms epoll --replicas 5 --request-bytes 0 --reply-bytes 1KiB",
        "adaptive tokio-uring --placement pipelined",
    ],
    macs_by_gmac: "mac-gmac" [
        "none epoll --placement pipelined --connections 3 --load-threads 2",
        "fixed:10 tokio-uring --replicas 5",
        "time:50,2ms io-uring:sqpoll --app kv --workload b",
        "adaptive tokio-uring --placement CORES --request-bytes 1KiB --reply-bytes 1KiB",
    ],
    signatures_one_by_one: "ed25519" [
        "none epoll --app kv --workload c",
        "fixed:10 tokio-uring --connections 3 --load-threads 2",
        "time:50,2ms io-uring:napi=20us --request-bytes 0 --reply-bytes 0",
        "adaptive tokio-uring --placement pipelined --replicas 5",
    ],
    signatures_in_batches: "ed25519-batch" [
        "none tokio-uring --app kv --workload d",
        "fixed:10 epoll --app kv --workload e --connections 2 --load-threads 2",
        "time:50,2ms tokio-uring --placement CORES --request-bytes 1KiB --reply-bytes 1KiB",
        "adaptive epoll --replicas 7",
    ],
    signatures_by_zip215: "ed25519-zip215-batch" [
        "none epoll --placement fused",
        "fixed:10 tokio-uring --app kv --workload c --connections 2 --load-threads 2",
        "time:50,2ms tokio-uring --replicas 7",
        "adaptive io-uring --placement pipelined --request-bytes 64KiB --reply-bytes 0",
    ],
    signatures_on_hash_trees: "ed25519-merkle" [
        "none tokio-uring --connections 3 --load-threads 2",
        "fixed:10 epoll --placement pipelined --app kv --workload a",
        "time:50,2ms tokio-uring --replicas 5 --request-bytes 1KiB --reply-bytes 0",
        "adaptive epoll --placement CORES",
    ],
    signed_requests_and_macs: "hybrid" [
        "none tokio-uring --placement fused --request-bytes 64KiB --reply-bytes 0",
        "fixed:10 epoll --app kv --workload f --connections 3 --load-threads 2",
        "time:50,2ms tokio-uring --replicas 5 --request-bytes 0 --reply-bytes 1KiB",
        "adaptive io-uring --placement network+egress,verify,verify+order+execute --app kv --workload a",
    ],
}

#[test]
fn every_preset_of_strategies_is_raced() {
    assert_eq!(RACED, Authentication::presets().collect::<Vec<_>>());
}
