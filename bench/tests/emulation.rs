//! Emulated networks between real processes: they are as slow, as lossy and as parted as they are told to be, and
//! nothing speaks against the runs.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::by_hand::{Cluster, Replica};
use crate::common::{Guard, Run, hippodrome, numbers, outcome, wait_for};

mod common;

fn p50_ms(report: &Value) -> f64 {
    report["latency_us"]["p50"].as_f64().unwrap() / 1e3
}

#[test]
fn operations_take_five_one_way_delays() {
    let run = Run::start(&["--duration", "2s", "--network", "delay=5ms"]).finish();
    run.expect_sound("every link with a delay of 5 ms");
    // Request, pre-prepare, prepare, commit, reply. A lower bound: the machine may add to it.
    assert!(p50_ms(&run.report) >= 25.0, "{}", run.report["latency_us"]);
    assert_eq!(run.report["config"]["network"], "delay=5ms");
    assert_eq!(run.report["environment"]["network"], "every link delay=5ms");
    let network = fs::read_to_string(run.directory.path().join("out/network.toml")).unwrap();
    assert!(network.contains("link = \"delay=5ms\"") && network.contains("seed = "), "{network}");
}

#[test]
fn wide_area_network_is_as_slow_as_its_slowest_quorum() {
    let run = Run::start(&["--duration", "2s", "--network", "wan-eu", "--load-threads", "2", "--connections", "2"]);
    let run = run.finish();
    run.expect_sound("five regions of Europe");
    // From the load generator in Stockholm to the primary in Ireland, from there at best to London, two rounds at best
    // between London and Paris, and at best from Frankfurt back to Stockholm.
    let least = 17.7 + 5.2 + 2.0 * 3.8 + 9.9;
    assert!(p50_ms(&run.report) >= least, "{}", run.report["latency_us"]);
    let network = run.report["environment"]["network"].as_str().unwrap();
    assert!(network.starts_with("wan-eu; 5 regions 3.9 to 17.8 ms apart"), "{network}");
}

#[test]
fn lossy_network_costs_time_and_nothing_else() {
    let arguments = ["--duration", "3s", "--network", "loss=1%", "--retransmit-after", "100ms"];
    let run = Run::start(&arguments).finish();
    run.expect_sound("one frame in a hundred is lost");
    let lost = |replica: &Value| replica["ignored"]["emulated_loss"].as_u64().unwrap_or(0);
    assert!(run.report["replicas"].as_array().unwrap().iter().all(|replica| lost(replica) > 0), "{}", run.report);
    let dropped = &run.report["generator"]["dropped"];
    assert!(dropped["emulated_loss"].as_u64().is_some_and(|lost| lost > 0), "{dropped}");
}

/// Asks a control port.
fn ask(replica: &Replica, question: &Value) -> Value {
    let stream = TcpStream::connect_timeout(&replica.control, Duration::from_secs(10)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    (&stream).write_all(format!("{question}\n").as_bytes()).unwrap();
    let mut answer = String::new();
    BufReader::new(&stream).read_line(&mut answer).unwrap();
    serde_json::from_str(&answer).unwrap()
}

#[test]
fn parted_backup_misses_everything_and_catches_up_when_healed() {
    let mut cluster = Cluster::start(&[], &[], |text| text);
    let executed: u64 = numbers(&cluster.expect_load("client-0")["completed"]).iter().sum();
    cluster.expect_agreement();
    for (id, replica) in cluster.replicas.iter().enumerate() {
        let to: &[u16] = if id == 3 { &[0, 1, 2, 4, 5] } else { &[3] };
        let told = ask(replica, &json!({"ask": "network", "to": to, "block": true}));
        let links = told["links"].as_array().unwrap();
        let blocked = links.iter().filter(|link| link["link"] == "blocked=on").count();
        assert_eq!((blocked, links.len()), (to.len(), 5), "{told}");
    }
    let more: u64 = numbers(&cluster.expect_load("client-1")["completed"]).iter().sum();
    let parted = cluster.replicas[3].status();
    assert_eq!(parted["executed_ops"], executed, "nothing reaches the parted backup");
    assert_eq!(numbers(&parted["connected"])[..3], [0, 1, 2], "connections stay");
    let stopped = cluster.replicas[0].status()["ignored"]["emulated_block"].as_u64().unwrap();
    assert!(stopped > 0);
    for replica in &cluster.replicas {
        ask(replica, &json!({"ask": "network", "reset": true}));
    }
    wait_for("a healed backup that catches up", || {
        (cluster.replicas[3].status()["executed_ops"] == executed + more).then_some(())
    });
    cluster.expect_agreement();
}

#[test]
fn changes_that_can_not_be_made_are_refused() {
    let cluster = Cluster::start(&[], &["--network", "lan"], |text| text);
    for (question, part) in [
        (json!({"ask": "network", "to": [6], "block": true}), "to = 6: allowed: nodes 0 to 5"),
        (json!({"ask": "network", "link": "delay=soon"}), "'delay=soon' is not allowed; allowed: delay=TIME"),
        (json!({"ask": "network", "blocked": true}), "unknown field `blocked`"),
    ] {
        let error = ask(&cluster.replicas[0], &question)["error"].as_str().unwrap().to_owned();
        assert!(error.contains(part), "'{error}' lacks '{part}'");
    }
    let told = ask(&cluster.replicas[1], &json!({"ask": "network"}));
    let text = "delay=100us,jitter=20us,bandwidth=10Gbit";
    assert!(told["links"].as_array().unwrap().iter().all(|link| link["link"] == text), "{told}");
}

/// The load generator's links, changed over its standard input: cut off from all replicas, then healed.
#[test]
fn load_generator_is_cut_off_and_healed() {
    let cluster = Cluster::start(&[], &[], |text| text);
    let key = cluster.file("client-0.key");
    let directory = key.parent().unwrap().parent().unwrap();
    let base =
        ["load", "--cluster", "race/cluster.toml", "--key", "race/client-0.key", "--out", "cut", "--warmup", "0s"];
    let more = ["--duration", "6s", "--retransmit-after", "100ms", "--progress", "json", "--network-stdin"];
    let mut command = hippodrome(directory, &[&base[..], &more[..]].concat());
    let mut load = Guard(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let mut changes = load.0.stdin.take().unwrap();
    let mut seconds = BufReader::new(load.0.stdout.take().unwrap()).lines().map(|line| {
        let second: Value = serde_json::from_str(&line.unwrap()).unwrap();
        second["operations"].as_u64().unwrap()
    });
    assert!(seconds.next().unwrap() > 0);
    changes.write_all(b"{\"to\":[77],\"block\":true}\nnonsense\n{\"block\":true}\n").unwrap();
    assert!(seconds.any(|operations| operations == 0), "nothing leaves a load generator that is cut off");
    changes.write_all(b"{\"reset\":true}\n").unwrap();
    let rest: Vec<u64> = seconds.collect();
    assert!(rest.iter().sum::<u64>() > 0, "{rest:?}");
    assert!(load.wait("a load").success());
    let mut stderr = String::new();
    std::io::Read::read_to_string(&mut load.0.stderr.take().unwrap(), &mut stderr).unwrap();
    for part in ["to = 77: allowed: nodes 0 to 5", "network: 'nonsense': "] {
        assert!(stderr.contains(part), "'{stderr}' lacks '{part}'");
    }
    let load: Value = serde_json::from_str(&fs::read_to_string(directory.join("cut/load.json")).unwrap()).unwrap();
    assert_eq!(load["unanswered"], 0, "{load}");
}

#[test]
fn networks_that_can_not_be_are_refused_before_anything_starts() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("net.toml"), "[[override]]\nto = [5]\nlink = \"loss=1%\"\n").unwrap();
    for (network, part) in [
        ("wan-mars", "allowed: none, lan, lossy-lan, wan-aws-5, wan-eu, wan-us, a TOML file"),
        ("delay=1", "'delay=1' is not allowed; allowed: delay=TIME"),
        ("net.toml", "override = node 5: allowed: nodes 0 to 4"),
    ] {
        let run = ["run", "--network", network, "--out", "out"];
        let (code, _, stderr) = outcome(&hippodrome(directory.path(), &run).output().unwrap());
        assert_eq!(code, Some(2), "{network}: {stderr}");
        assert!(stderr.contains(part), "{network}: '{stderr}' lacks '{part}'");
    }
    assert!(!directory.path().join("out").exists());
}
