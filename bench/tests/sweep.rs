//! Sweeps of real runs: what is told before, what is kept when one is killed, what is done with runs that are not
//! VALID.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use serde_json::Value;

use common::{
    Captured, Guard, children, hippodrome, outcome, reasons, signal, strings, track, wait_for, wait_until_gone,
};

mod common;

/// Two points, twice, as small as runs get.
const SMALL: [&str; 11] = [
    "sweep",
    "--vary",
    "batch=1,10",
    "--clients=40",
    "--warmup=1s",
    "--duration=1s",
    "--repeats=2",
    "--order-seed=3",
    "--out",
    "out",
    "--view-timeout=5s",
];

fn finished(directory: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    outcome(&hippodrome(directory, arguments).output().unwrap())
}

fn sweep_json(directory: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(directory.join("out/sweep.json")).unwrap()).unwrap()
}

/// Each run that is done: the ledger digest that it ended with, and when its report was written.
fn done(directory: &Path) -> BTreeMap<PathBuf, (String, SystemTime)> {
    let runs = fs::read_dir(directory.join("out/runs")).into_iter().flatten().flatten();
    let reports = runs.filter_map(|run| {
        let path = run.path().join("report.json");
        let report: Value = serde_json::from_str(&fs::read_to_string(&path).ok()?).unwrap();
        let digest = report["audit"]["ledger_digest"].as_str().unwrap().to_owned();
        let written = fs::metadata(&path).unwrap().modified().unwrap();
        Some((path, (digest, written)))
    });
    reports.collect()
}

/// What speaks against the runs of a sweep, apart from this being a debug build.
fn complaints(sweep: &Value) -> Vec<String> {
    let points = sweep["points"].as_array().unwrap();
    let runs = points.iter().flat_map(|point| point["runs"].as_array().unwrap());
    let all = runs.flat_map(|run| strings(&run["reasons"]));
    all.filter(|reason| !reason.contains("debug build")).collect()
}

#[test]
fn a_sweep_runs_every_point_as_often_as_it_should_and_reads_back() {
    let _track = track();
    let directory = tempfile::tempdir().unwrap();
    let (code, stdout, stderr) = finished(directory.path(), &SMALL);
    assert_eq!(code, Some(i32::from(cfg!(debug_assertions))), "{stderr}");
    let sweep = sweep_json(directory.path());
    assert_eq!(complaints(&sweep), Vec::<String>::new());
    assert_eq!((&sweep["complete"], &sweep["runs_done"], &sweep["seed"]), (&Value::Bool(true), &4.into(), &3.into()));
    assert_eq!((&sweep["given"]["clients"], &sweep["given"]["batch"]), (&"40".into(), &Value::Null));
    assert_eq!(sweep["varied"], serde_json::json!([{ "key": "batch", "values": ["none", "fixed:10"] }]));
    let points = sweep["points"].as_array().unwrap();
    let mut orders = Vec::new();
    let mut seeds: BTreeMap<u64, Vec<Value>> = BTreeMap::new();
    for (point, batch) in points.iter().zip(["none", "fixed:10"]) {
        assert_eq!(point["settings"]["batch"], batch);
        let runs = point["runs"].as_array().unwrap();
        assert_eq!(runs.len(), 2);
        for run in runs {
            orders.push(run["order"].as_u64().unwrap());
            for figure in ["ops_per_s", "expected_messages_per_op", "expected_bytes_per_op", "floor_us_per_op"] {
                assert!(run["figures"][figure].as_f64().unwrap() > 0.0, "{figure}: {run}");
            }
            let place = directory.path().join("out").join(run["directory"].as_str().unwrap());
            let report: Value = serde_json::from_str(&fs::read_to_string(place.join("report.json")).unwrap()).unwrap();
            assert_eq!((&report["config"]["batch"], &report["config"]["clients"]), (&batch.into(), &40.into()));
            assert_eq!(reasons(&report), Vec::<String>::new());
            seeds.entry(run["repeat"].as_u64().unwrap()).or_default().push(report["config"]["seed"].clone());
        }
    }
    orders.sort_unstable();
    assert_eq!(orders, [1, 2, 3, 4]);
    assert!(seeds[&1][0] == seeds[&1][1] && seeds[&1][0] != seeds[&2][0], "a round has one load: {seeds:?}");
    let rows = fs::read_to_string(directory.path().join("out/sweep.csv")).unwrap();
    assert_eq!(rows.lines().count(), 5, "{rows}");
    assert!(fs::read_to_string(directory.path().join("out/sweep.md")).unwrap().contains("| `fixed:10` |"));
    // A line a run, and nothing of single seconds.
    assert!(stderr.contains("\n4/4  batch=") && !stderr.contains("measured"), "{stderr}");
    assert!(stdout.contains("2 points, 2 runs of each, interleaved in random order (seed 3)"), "{stdout}");
    let before = done(directory.path());
    let again = finished(directory.path(), &["report", "out"]);
    assert_eq!((again.0, again.1.as_str()), (code, stdout.as_str()), "{}", again.2);
    let json = finished(directory.path(), &["report", "out", "--json"]).1;
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), sweep);
    // Nothing is left to do: the same command only prints.
    let (code_again, stdout_again, _) = finished(directory.path(), &SMALL);
    assert_eq!((code_again, stdout_again), (code, stdout));
    assert_eq!(done(directory.path()), before);
}

#[test]
fn a_killed_sweep_goes_on_without_running_again_what_is_done() {
    let _track = track();
    let directory = tempfile::tempdir().unwrap();
    let mut command = hippodrome(directory.path(), &SMALL);
    let mut sweep = Guard(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let stderr = Captured::of(sweep.0.stderr.take().unwrap());
    // The second run is under way when it is killed.
    let processes = wait_for("the second run", || {
        assert!(sweep.is_alive(), "{}", stderr.text());
        let processes = children(sweep.pid());
        (stderr.text().contains("1/4  ") && processes.len() == 5).then_some(processes)
    });
    let locked = finished(directory.path(), &SMALL);
    assert_eq!(locked.0, Some(2), "{}", locked.2);
    assert!(locked.2.contains("another process is writing it"), "{}", locked.2);
    let before = done(directory.path());
    assert_eq!(before.len(), 1);
    signal("-KILL", sweep.pid());
    sweep.wait("a killed sweep");
    wait_until_gone(&processes);
    let half = sweep_json(directory.path());
    assert_eq!((&half["complete"], &half["runs_done"]), (&Value::Bool(false), &1.into()));
    let (code, stdout, _) = finished(directory.path(), &["report", "out"]);
    assert_eq!(code, Some(1));
    assert!(stdout.contains("not complete: 1 of 4 runs"), "{stdout}");
    let (code, stdout, _) = finished(directory.path(), &[&SMALL[..], &["--dry-run"]].concat());
    assert_eq!(code, Some(0));
    assert!(stdout.contains("4 runs, about") && stdout.contains("; 3 to run, about"), "{stdout}");
    assert_eq!(stdout.matches("  done, ").count(), 1, "{stdout}");
    assert_eq!(sweep_json(directory.path()), half, "a dry run changes nothing");

    let other = [&SMALL[..], &["--clients=41", "--repeats=3"]].concat();
    let (code, _, refusal) = finished(directory.path(), &other);
    assert_eq!(code, Some(2), "{refusal}");
    for part in ["out: another plan was begun there", "base.clients: 40 there, 41 now", "repeats: 2 there, 3 now"] {
        assert!(refusal.contains(part), "'{refusal}' lacks '{part}'");
    }

    // The seed of the order is the sweep's own: it need not be said again.
    let without_seed: Vec<&str> = SMALL.into_iter().filter(|argument| !argument.starts_with("--order-seed")).collect();
    let (code, _, stderr) = finished(directory.path(), &without_seed);
    assert_eq!(code, Some(i32::from(cfg!(debug_assertions))), "{stderr}");
    assert!(stderr.contains("4 runs, 1 of them done before"), "{stderr}");
    let after = done(directory.path());
    assert_eq!(after.len(), 4);
    before.iter().for_each(|(path, run)| assert_eq!(after.get(path), Some(run), "{} was run again", path.display()));
    let sweep = sweep_json(directory.path());
    assert_eq!((&sweep["complete"], complaints(&sweep)), (&Value::Bool(true), Vec::new()));
    let aside: Vec<_> = fs::read_dir(directory.path().join("out/aside")).unwrap().collect();
    assert_eq!(aside.len(), 1, "what was half done is kept aside: {aside:?}");
}

#[test]
fn ctrl_c_ends_a_sweep_and_says_how_to_go_on() {
    let _track = track();
    let directory = tempfile::tempdir().unwrap();
    let mut command = hippodrome(directory.path(), &SMALL);
    let mut sweep = Guard(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let stderr = Captured::of(sweep.0.stderr.take().unwrap());
    let processes = wait_for("a run", || Some(children(sweep.pid())).filter(|processes| processes.len() == 5));
    signal("-INT", sweep.pid());
    assert_eq!(sweep.wait("an interrupted sweep").code(), Some(130));
    wait_until_gone(&processes);
    wait_for("its last words", || stderr.text().contains("by the same command with --out out").then_some(()));
    assert_eq!(sweep_json(directory.path())["runs_done"], 0);
}

/// Whoever builds anew while a sweep is under way changes nothing about its runs, and its results are not mixed with
/// those of another binary later.
#[test]
fn a_sweep_is_of_one_binary() {
    let _track = track();
    let directory = tempfile::tempdir().unwrap();
    let binary = directory.path().join("hippodrome");
    let original = fs::read(env!("CARGO_BIN_EXE_hippodrome")).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_hippodrome"), &binary).unwrap();
    let mut command = Command::new(&binary);
    command.args(SMALL).arg("--repeats=1").current_dir(directory.path()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut sweep = Guard(command.spawn().unwrap());
    let stderr = Captured::of(sweep.0.stderr.take().unwrap());
    wait_for("the first run", || {
        assert!(sweep.is_alive(), "{}", stderr.text());
        stderr.text().contains("1/2  ").then_some(())
    });
    fs::remove_file(&binary).unwrap();
    let code = sweep.wait("a sweep without its file").code();
    assert_eq!(code, Some(i32::from(cfg!(debug_assertions))), "{}", stderr.text());
    assert_eq!(complaints(&sweep_json(directory.path())), Vec::<String>::new());
    // Bytes behind its end change nothing about what a binary does.
    fs::copy(env!("CARGO_BIN_EXE_hippodrome"), &binary).unwrap();
    fs::write(&binary, [&original[..], b"anew"].concat()).unwrap();
    let again = Command::new(&binary).args(SMALL).arg("--repeats=1").current_dir(directory.path()).output().unwrap();
    let (code, _, refusal) = outcome(&again);
    assert_eq!(code, Some(2), "{refusal}");
    assert!(refusal.contains("build.binary: ") && refusal.lines().count() == 2, "{refusal}");
}

/// Sixty-four replicas have no room among the descriptors that a process may have here: that is told, and the other
/// point runs.
#[test]
fn a_run_that_fails_or_is_invalid_is_told_with_its_reason() {
    let _track = track();
    let directory = tempfile::tempdir().unwrap();
    let binary = env!("CARGO_BIN_EXE_hippodrome");
    let sweep = "--vary replicas=4,64 --clients=40 --warmup=1s --duration=1s --repeats=1 --out out --wrong-from 50";
    let script = format!("ulimit -n 64; exec {binary} sweep {sweep}");
    let limited = Command::new("sh").args(["-c", &script]).current_dir(directory.path()).output().unwrap();
    let (code, stdout, stderr) = outcome(&limited);
    assert_eq!(code, Some(1), "{stderr}");
    let sweep = sweep_json(directory.path());
    let run = |point: usize| &sweep["points"][point]["runs"][0];
    assert_eq!(run(0)["state"], "invalid", "{sweep}");
    assert!(complaints(&sweep).iter().any(|reason| reason.contains("contradict the agreed result")), "{sweep}");
    assert_eq!((&run(1)["state"], &run(1)["figures"]), (&"failed".into(), &Value::Null));
    assert!(strings(&run(1)["reasons"])[0].contains("Too many open files"), "{}", run(1));
    assert_eq!((&sweep["complete"], &sweep["points"][1]["summary"]["failed"]), (&Value::Bool(true), &1.into()));
    for part in ["0 of 2 runs are VALID", "replicas=64, run 1: FAILED: no free port", "replicas=4, run 1: INVALID: "] {
        assert!(stdout.contains(part), "'{stdout}' lacks '{part}'");
    }
    assert!(stderr.contains("replicas=64 r1  FAILED: no free port"), "{stderr}");
}

#[test]
fn what_can_not_be_swept_is_refused_before_anything_runs() {
    let _track = track();
    let directory = tempfile::tempdir().unwrap();
    fs::write(
        directory.path().join("bad.toml"),
        "name = \"bad\"\ndescription = \"\"\nquestion = \"\"\n[vary]\nauths = [1]",
    )
    .unwrap();
    fs::write(directory.path().join("race.toml"), "replicas = 3").unwrap();
    fs::create_dir(directory.path().join("full")).unwrap();
    fs::write(directory.path().join("full/thesis.tex"), "").unwrap();
    for (arguments, part) in [
        (&["sweep"][..], "<EXPERIMENT|--vary KEY=VALUE,..|--list>"),
        (&["sweep", "everything"], "no experiment 'everything'; allowed: a file"),
        (&["sweep", "none.toml"], "none.toml: No such file"),
        (&["sweep", "bad.toml"], "bad.toml: vary: unknown key 'auths'; allowed: replicas"),
        (&["sweep", "--vary", "auth=rsa"], "--vary auth=rsa: invalid value 'rsa' for '--auth <PRESET>'"),
        (
            &["sweep", "--vary", "clients=1,2", "--connections=2"],
            "clients=1: connections = 2: allowed: at most --clients",
        ),
        (&["sweep", "--vary", "clients=1,2", "--clients=2"], "--clients 2: clients is varied"),
        (&["sweep", "--vary", "clients=1,2", "--replicas=3"], "a whole number from 4 to 64"),
        (&["sweep", "--vary", "clients=1,2", "--config", "race.toml"], "race.toml: invalid value '3' for '--replicas"),
        (&["sweep", "--vary", "clients=1,2", "--repeats=0"], "a whole number from 1 to 1000"),
        (&["sweep", "--vary", "clients=1,2", "--out", "full"], "full is not empty (it holds 'thesis.tex')"),
        (&["sweep", "auth-x-batch", "--list"], "cannot be used with"),
    ] {
        let (code, stdout, stderr) = finished(directory.path(), arguments);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains(part), "'{stderr}' lacks '{part}'");
    }
    assert!(!directory.path().join("results").exists());
    let (code, stdout, _) = finished(directory.path(), &["sweep", "--list"]);
    assert_eq!(code, Some(0));
    assert!(stdout.contains("auth-x-batch") && stdout.contains("ycsb"), "{stdout}");
}
