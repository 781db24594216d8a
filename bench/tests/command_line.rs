//! The real binary: files that it writes, exit codes, and what it says when it refuses.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// Runs the binary in `directory`.
fn hippodrome(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hippodrome")).args(arguments).current_dir(directory).output().unwrap()
}

/// Exit code, stdout, stderr.
fn outcome(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Expects a usage error whose message holds every part.
fn refused(directory: &Path, arguments: &[&str], parts: &[&str]) {
    let (code, stdout, stderr) = outcome(&hippodrome(directory, arguments));
    assert_eq!(code, Some(2), "{arguments:?}: {stderr}");
    assert_eq!(stdout, "");
    for part in parts {
        assert!(stderr.contains(part), "'{stderr}' lacks '{part}'");
    }
}

/// A directory with a cluster of four replicas and two client nodes in `race`.
fn race() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let arguments = ["keygen", "--listen", "127.0.0.1:7000", "--clients", "9", "--client-nodes", "2", "--out", "race"];
    let (code, _, stderr) = outcome(&hippodrome(directory.path(), &arguments));
    assert_eq!(code, Some(0), "{stderr}");
    directory
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../analysis/testdata").join(name)
}

#[test]
fn keygen_writes_private_keys_and_never_overwrites() {
    let directory = race();
    let race = directory.path().join("race");
    let mut names: Vec<String> =
        fs::read_dir(&race).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let keys = ["client-0.key", "client-1.key"].into_iter().chain(["cluster.toml"]);
    let keys: Vec<&str> = keys.chain(["replica-0.key", "replica-1.key", "replica-2.key", "replica-3.key"]).collect();
    assert_eq!(names, keys);
    for name in names.iter().filter(|name| name.ends_with(".key")) {
        let mode = fs::metadata(race.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let before = fs::read(race.join("cluster.toml")).unwrap();
    refused(directory.path(), &["keygen", "--listen", "127.0.0.1:7000", "--out", "race"], &["cluster.toml exists"]);
    assert_eq!(fs::read(race.join("cluster.toml")).unwrap(), before);
    fs::remove_file(race.join("cluster.toml")).unwrap();
    refused(directory.path(), &["keygen", "--listen", "127.0.0.1:7000", "--out", "race"], &["replica-0.key exists"]);
    assert!(!race.join("cluster.toml").exists(), "all or nothing");
}

#[test]
fn keygen_refuses_settings_that_do_not_fit() {
    let directory = tempfile::tempdir().unwrap();
    let keygen = |extra: &[&str], parts: &[&str]| {
        let mut arguments = vec!["keygen", "--listen", "127.0.0.1:7000", "--out", "race"];
        arguments.extend(extra);
        refused(directory.path(), &arguments, parts);
    };
    keygen(&["--window", "100"], &["settings.window = 100", "256 (twice the checkpoint interval)"]);
    keygen(&["--clients", "1", "--client-nodes", "2"], &["clients = 1", "at least one for each of the 2 client nodes"]);
    assert!(!directory.path().join("race").exists());
}

#[test]
fn replica_names_what_it_can_not_use() {
    let directory = race();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let replica = |cluster: &str, key: &str, extra: &[&str], parts: &[&str]| {
        let mut arguments = vec!["replica", "--cluster", cluster, "--key", key];
        arguments.extend(extra);
        refused(directory.path(), &arguments, parts);
    };
    let (cluster, key) = ("race/cluster.toml", "race/replica-1.key");
    replica("none.toml", key, &[], &["none.toml", "No such file"]);
    replica(cluster, "race/none.key", &[], &["race/none.key"]);
    replica(cluster, "race/client-0.key", &[], &["race/client-0.key", "Client; allowed: a Voter"]);
    replica(cluster, key, &["--id", "2"], &["id = 2", "1, whose key race/replica-1.key is"]);
    replica(cluster, key, &["--listen", &address], &[&format!("listen = {address}"), "in use"]);
    replica(cluster, key, &["--listen", "127.0.0.1:0", "--control", &address], &[&format!("control = {address}")]);
    fs::write(directory.path().join("bad.toml"), "[settings]\nprotocol = \"raft\"\nspeed = 1\n").unwrap();
    replica("bad.toml", key, &[], &["bad.toml", "speed"]);
}

#[test]
fn load_never_overwrites_results() {
    let directory = race();
    fs::create_dir(directory.path().join("out")).unwrap();
    fs::write(directory.path().join("out/load.json"), "{}").unwrap();
    let load = ["load", "--cluster", "race/cluster.toml", "--key", "race/client-1.key", "--out", "out"];
    refused(directory.path(), &load, &["out/load.json exists and is not overwritten"]);
}

#[test]
fn run_refuses_bad_options_before_it_makes_anything() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("old")).unwrap();
    fs::write(directory.path().join("old/report.json"), "{}").unwrap();
    fs::write(directory.path().join("race.toml"), "clents = 5\n").unwrap();
    for (arguments, parts) in [
        (&["--out", "old"][..], &["old is not empty", "report.json"][..]),
        (
            &["--out", "new", "--config", "race.toml"],
            &["race.toml", "unknown key 'clents'", "allowed: replicas, clients"],
        ),
        (&["--out", "new", "--config", "none.toml"], &["none.toml", "No such file"]),
        (&["--out", "new", "--window", "100"], &["settings.window = 100"]),
        (&["--out", "new", "--arrivals", "poisson"], &["arrivals = poisson", "--rate"]),
        (
            &["--out", "new", "--load-threads", "2", "--connections", "1"],
            &["load_threads = 2", "at most --connections (1)"],
        ),
        (&["--out", "new", "--load-threads", "3", "--clients", "2"], &["load_threads = 3", "at most --clients (2)"]),
        (&["--out", "new", "--clients", "2", "--connections", "3"], &["connections = 3", "at most --clients (2)"]),
        (&["--out", "race.toml"], &["race.toml"]),
        (&["--out", "new", "--clients", "many"], &["--clients", "many"]),
    ] {
        let arguments: Vec<&str> = std::iter::once("run").chain(arguments.iter().copied()).collect();
        refused(directory.path(), &arguments, parts);
    }
    assert!(!directory.path().join("new").exists());
}

#[test]
fn report_prints_again_and_exits_by_its_verdict() {
    let directory = tempfile::tempdir().unwrap();
    for (name, expected) in [("valid", 0), ("invalid", 1)] {
        let golden = golden(name);
        let path = golden.to_str().unwrap();
        let (code, stdout, stderr) = outcome(&hippodrome(directory.path(), &["report", path]));
        let summary = fs::read_to_string(golden.join("summary.txt")).unwrap().replace("results/golden", path);
        assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(expected), summary.as_str(), ""), "{name}");

        let (code, stdout, _) = outcome(&hippodrome(directory.path(), &["report", path, "--json"]));
        let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!((code, &json["schema"]), (Some(expected), &"hippodrome/run/1".into()));
    }
    let allowed = "allowed: a results directory, which holds report.json";
    refused(directory.path(), &["report", "nowhere"], &["nowhere: No such file", allowed]);
    refused(directory.path(), &["report", "."], &[".: there are no results in it", allowed]);
    refused(directory.path(), &["roofline", "."], &[".: there are no results in it", allowed]);
}

#[test]
fn version_tells_build_and_commit() {
    let (code, stdout, _) = outcome(&hippodrome(Path::new("/"), &["--version"]));
    assert_eq!(code, Some(0));
    assert!(stdout.starts_with("hippodrome ") && stdout.contains("commit "), "{stdout}");
}
