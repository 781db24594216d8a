//! Replicas that are killed and started again: what they remember, what they must not forget, and what they say.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;

use crate::common::by_hand::Cluster;
use crate::common::{Guard, numbers, outcome, wait_for};

mod common;

const WITH_LOG: [&str; 6] = ["--data", "data-{id}", "--durability", "wal", "--snapshot-every", "1MiB"];

fn executed(cluster: &Cluster, id: usize) -> u64 {
    cluster.replicas[id].status()["executed_sequence"].as_u64().unwrap()
}

/// The files of a replica with this ending, in order.
fn files(cluster: &Cluster, id: usize, ending: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(cluster.directory().join(format!("data-{id}"))).unwrap();
    let files = files.map(|file| file.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|found| found == ending)).collect();
    files.sort();
    files
}

#[test]
fn replica_without_a_log_does_not_vote_again() {
    let options = ["--data", "data-{id}"];
    let mut cluster = Cluster::start(&[], &options, |file| file);
    assert!(cluster.replicas.iter().all(|replica| replica.status()["voting"] == true));
    cluster.expect_load("client-0");
    cluster.restart(3, &options);
    let status = wait_for("the restarted replica", || {
        let status = cluster.replicas[3].status();
        (status["durability"] == "none").then_some(status)
    });
    assert_eq!(status["voting"], false, "{status}");
    let stderr = cluster.replicas[3].stderr.text();
    assert!(stderr.contains("replica 3: ran before and has forgotten its votes"), "{stderr}");
    assert_eq!(cluster.replicas[2].status()["voting"], true);
    cluster.expect_load("client-1");
}

#[test]
fn replica_with_a_log_goes_on_where_it_was() {
    let mut cluster = Cluster::start(&[], &WITH_LOG, |file| file);
    cluster.expect_load("client-0");
    cluster.expect_agreement();
    let before = executed(&cluster, 2);
    cluster.restart(2, &WITH_LOG);
    let status = cluster.replicas[2].status();
    assert_eq!(status["voting"], true, "{status}");
    assert!(status["durability"].as_str().unwrap().starts_with("wal, by "), "{status}");
    wait_for("what it remembers", || (executed(&cluster, 2) >= before).then_some(()));
    let stderr = cluster.replicas[2].stderr.text();
    assert!(stderr.contains("replica 2: recovered the state at "), "{stderr}");
    cluster.expect_load("client-1");
    cluster.expect_agreement();
}

/// Nobody can ask anybody: what was acknowledged is on the disks or lost.
#[test]
fn nothing_acknowledged_is_lost_when_all_replicas_are_killed_under_load() {
    let mut cluster = Cluster::start(&[], &WITH_LOG, |file| file);
    let mut load = cluster.load_command("client-0", "cluster", &["--duration", "6s"]);
    let mut load = Guard(load.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    wait_for("progress and a state on each disk", || {
        (0..4).all(|id| executed(&cluster, id) > 300 && !files(&cluster, id, "bin").is_empty()).then_some(())
    });
    cluster.replicas.iter_mut().for_each(|replica| replica.kill());
    (0..4).for_each(|id| cluster.restart(id, &WITH_LOG));
    assert!(load.wait("the load").success());
    let report = fs::read_to_string(cluster.directory().join("client-0/load.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    for count in ["unanswered", "timeouts", "wrong_results"] {
        assert_eq!(report[count], 0, "{count}: {report}");
    }
    cluster.expect_agreement();
    let answer = cluster.replicas[1].ask("clients");
    let (executed, last) = (numbers(&answer["executed"]), numbers(&answer["last_timestamp"]));
    assert_eq!(executed, last, "each operation was executed exactly once");
    for (client, completed) in numbers(&report["completed"]).into_iter().enumerate() {
        assert!(executed[client] >= completed, "client {client}: {completed} acknowledged, {}", executed[client]);
    }
    assert!(executed.iter().sum::<u64>() > 0);
    for replica in &cluster.replicas {
        let stderr = replica.stderr.text();
        let line = stderr.lines().find_map(|line| line.split_once("recovered the state at "));
        let (_, told) = line.unwrap_or_else(|| panic!("{stderr}"));
        assert!(!told.starts_with("0 "), "from a snapshot: {told}");
    }
    cluster.expect_load("client-1");
}

/// More than the others keep for laggards is done while it is away, and nothing any more when it is back.
#[test]
fn replica_that_was_away_fetches_the_state_of_an_idle_cluster() {
    let mut cluster = Cluster::start(&["--view-timeout", "30s"], &WITH_LOG, |file| file);
    cluster.expect_load("client-0");
    cluster.expect_agreement();
    cluster.replicas[3].kill();
    cluster.expect_load_with("client-1", &["--duration", "8s", "--request-bytes", "64KiB"]);
    cluster.restart(3, &WITH_LOG);
    cluster.expect_agreement();
    let status = cluster.replicas[3].status();
    assert!(status["states_installed"].as_u64() > Some(0), "{status}");
}

#[test]
fn damaged_log_is_refused_and_can_be_given_up() {
    let mut cluster = Cluster::start(&[], &WITH_LOG, |file| file);
    cluster.expect_load("client-0");
    cluster.replicas[1].kill();
    let log = files(&cluster, 1, "log").pop().unwrap();
    let name = log.file_name().unwrap().to_str().unwrap().to_owned();
    let mut bytes = fs::read(&log).unwrap();
    // The very first entry, behind a head of 72 bytes.
    bytes[80] ^= 1;
    fs::write(&log, bytes).unwrap();
    let refused = cluster.command(1, &WITH_LOG).stdin(Stdio::null()).output().unwrap();
    let (code, stdout, stderr) = outcome(&refused);
    assert_eq!((code, &stdout[..]), (Some(3), ""), "it does not say that it is up: {stderr}");
    for part in [format!("{name}: damaged at byte 72"), "start with --on-corrupt-log refetch".to_owned()] {
        assert!(stderr.contains(&part), "'{stderr}' lacks '{part}'");
    }
    cluster.restart(1, &[&WITH_LOG[..], &["--on-corrupt-log", "refetch"]].concat());
    wait_for("the restarted replica", || (cluster.replicas[1].status()["voting"] == false).then_some(()));
    assert!(cluster.directory().join("data-1/damaged-1").join(&name).exists());
    cluster.expect_load("client-1");
}

#[test]
fn directories_that_can_not_be_used_are_named() {
    let cluster = Cluster::start(&[], &["--data", "data-{id}"], |file| file);
    let refused = |id: usize, arguments: &[&str]| {
        let (code, stdout, stderr) = outcome(&cluster.command(id, arguments).output().unwrap());
        assert_eq!(stdout, "", "it does not say that it is up");
        (code, stderr)
    };
    let listen = ["--listen", "127.0.0.1:0"];
    let (code, stderr) = refused(0, &[&["--data", "data-0"], &listen[..]].concat());
    assert_eq!(code, Some(3));
    assert!(stderr.contains("data-0: another process uses this data directory"), "{stderr}");
    let (code, stderr) = refused(0, &["--durability", "wal"]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("--data"), "{stderr}");
    fs::write(cluster.directory().join("file"), b"").unwrap();
    let (code, stderr) = refused(0, &[&["--data", "file"], &listen[..]].concat());
    assert_eq!(code, Some(3));
    assert!(stderr.contains("can not make the data directory file"), "{stderr}");
}
