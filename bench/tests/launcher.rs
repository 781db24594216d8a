//! Whole runs of the real binary: verdicts, faults, and that no process is ever left behind.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// The binary in a directory of its own, with its output caught.
fn hippodrome(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hippodrome"));
    command.args(arguments).current_dir(directory).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts a run with `arguments`, its results in `out`.
fn start(directory: &TempDir, arguments: &[&str]) -> Child {
    let base = ["run", "--clients", "40", "--warmup", "1s", "--out", "out"];
    hippodrome(directory.path(), &[&base, arguments].concat()).spawn().unwrap()
}

/// Waits for a run to end; its exit code and report.
fn finish(directory: &TempDir, child: Child) -> (Option<i32>, Value) {
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    let text = fs::read_to_string(directory.path().join("out/report.json"))
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&stderr)));
    (status.code(), serde_json::from_str(&text).unwrap())
}

/// What speaks against a run apart from this being a debug build.
fn reasons(report: &Value) -> Vec<String> {
    let reasons = report["verdict"]["reasons"].as_array().unwrap().iter();
    reasons.map(|reason| reason.as_str().unwrap().to_owned()).filter(|reason| !reason.contains("debug build")).collect()
}

/// Children of a process: id and command line, in the order in which they were started.
fn children(pid: u32) -> Vec<(u32, String)> {
    let ids = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let ids = ids.split_whitespace().map(|id| id.parse().unwrap());
    ids.map(|id: u32| (id, fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default())).collect()
}

/// Waits until a run has `count` children.
fn wait_for_children(pid: u32, count: usize) -> Vec<(u32, String)> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let children = children(pid);
        if children.len() == count {
            return children;
        }
        assert!(Instant::now() < deadline, "{children:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

/// Waits until none of these processes lives (a zombie that waits to be reaped does not).
fn wait_until_gone(processes: &[(u32, String)]) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let lives = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    };
    while let Some((pid, command)) = processes.iter().find(|(pid, _)| lives(*pid)) {
        assert!(Instant::now() < deadline, "{pid} {command} was left behind");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn sound_run_has_nothing_against_it_but_its_build() {
    let directory = tempfile::tempdir().unwrap();
    let child = start(&directory, &["--duration", "3s", "--json"]);
    let output = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(reasons(&report), Vec::<String>::new());
    assert_eq!(output.status.code(), Some(i32::from(cfg!(debug_assertions))));
    assert_eq!(report["throughput"]["per_second"].as_array().unwrap().len(), 3);
    assert_eq!(report["audit"]["replicas_compared"].as_array().unwrap().len(), 4);
    let mut left: Vec<String> = fs::read_dir(directory.path().join("out"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    let files = ["cluster.toml", "config.toml", "latency.hlog", "load.json", "logs", "report.json", "series.csv"];
    assert_eq!(left, files, "no keys are left");
}

#[test]
fn killed_backup_is_a_fault_and_the_run_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let child = start(&directory, &["--duration", "4s"]);
    let children = wait_for_children(child.id(), 5);
    std::thread::sleep(Duration::from_millis(2500));
    signal("-KILL", children[2].0);
    let (_, report) = finish(&directory, child);
    assert_eq!(reasons(&report), Vec::<String>::new());
    let fault = &report["faults"][0];
    assert_eq!((&fault["kind"], &fault["replica"]), (&"process_exit".into(), &2.into()));
    assert_eq!(fault["detail"], "killed by signal 9");
    assert_eq!(report["replicas"][2]["state"], "killed by signal 9");
}

#[test]
fn wrong_replica_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let (code, report) = finish(&directory, start(&directory, &["--duration", "2s", "--wrong-from", "3"]));
    assert_eq!(code, Some(1));
    assert!(reasons(&report).iter().any(|reason| reason.starts_with("replica 1's ledger differs")), "{report}");
}

#[test]
fn dead_load_generator_makes_the_run_invalid() {
    let directory = tempfile::tempdir().unwrap();
    let child = start(&directory, &["--duration", "20s"]);
    let children = wait_for_children(child.id(), 5);
    std::thread::sleep(Duration::from_millis(1500));
    signal("-KILL", children[4].0);
    let (code, report) = finish(&directory, child);
    assert_eq!(code, Some(1));
    assert!(reasons(&report)[0].contains("load generator failed: load ended early (killed by signal 9)"), "{report}");
}

#[test]
fn interrupted_run_leaves_no_process_and_no_key() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = start(&directory, &["--duration", "60s"]);
    let children = wait_for_children(child.id(), 5);
    signal("-INT", child.id());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    wait_until_gone(&children);
    let hidden = fs::read_dir(directory.path().join("out")).unwrap();
    assert!(!hidden.into_iter().any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with('.')));
}

#[test]
fn children_of_a_killed_launcher_end_by_themselves() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = start(&directory, &["--duration", "60s"]);
    let children = wait_for_children(child.id(), 5);
    signal("-KILL", child.id());
    child.wait().unwrap();
    wait_until_gone(&children);
}
