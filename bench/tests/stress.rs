//! Scenarios played by real processes.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{Finished, Run, hippodrome, numbers, outcome, strings, track, wait_for};

mod common;

/// Runs the binary to its end; exit code, stdout, stderr.
fn finished(directory: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    outcome(&hippodrome(directory, arguments).output().unwrap())
}

/// Nothing speaks against the scenario, but for the verdict of a debug build.
fn expect_green(run: &Finished) {
    run.expect_sound("a scenario");
    let card = &run.report["scorecard"];
    let failed = strings(&card["failed"]);
    let build: &[&str] = if cfg!(debug_assertions) { &["the verdict is INVALID, expected: VALID"] } else { &[] };
    assert_eq!(failed, build, "{card}\n{}", run.stderr);
    assert_eq!((&card["green"], &card["safe"]), (&Value::Bool(failed.is_empty()), &Value::Bool(true)));
}

#[test]
fn backups_are_stopped_resumed_and_killed_beside_the_load() {
    let run = Run::stress(
        r#"
        duration = "7s"
        view_timeout = "20s" # debug builds are slow, and this is not about views
        [[at]]
        s = 3.5
        kill = "backup"
        [[at]]
        s = 1.5
        stop = 2
        [[at]]
        s = 2
        resume = "stopped"
        [expect]
        progress_within_s = 3
        view_changes_at_most = 0
        "#,
    )
    .finish();
    expect_green(&run);
    let faults = run.report["faults"].as_array().unwrap();
    let told: Vec<(&str, u64)> =
        faults.iter().map(|f| (f["kind"].as_str().unwrap(), f["replica"].as_u64().unwrap())).collect();
    assert_eq!(told, [("stop", 2), ("resume", 2), ("kill", 3)]);
    for (fault, earliest_s) in faults.iter().zip([2.5, 3.0, 4.5]) {
        // On the load's clock, warm-up included. Never before its time, but for what clocks differ.
        assert!(fault["at_s"].as_f64().unwrap() > earliest_s - 0.1, "{fault}");
    }
    assert_eq!(faults[2]["detail"], "SIGKILL, the backup");
    let scores = run.report["scorecard"]["faults"].as_array().unwrap();
    assert_eq!((scores.len(), &scores[0]["kind"], &scores[1]["kind"]), (2, &"stop".into(), &"kill".into()));
    for (score, fault) in scores.iter().zip([&faults[0], &faults[2]]) {
        assert!(score["baseline_ops_per_s"].as_f64().unwrap() > 0.0, "{score}");
        assert_eq!(score["recovered_after_ms"], fault["recovered_after_ms"]);
        assert_eq!(score["at_s"], fault["at_s"]);
    }
    assert_eq!(numbers(&run.report["audit"]["replicas_compared"]), [0, 1, 2]);
    assert_eq!(run.report["replicas"][3]["state"], "killed by the scenario");

    let out = run.directory.path().join("out");
    let read = |name: &str| fs::read_to_string(out.join(name)).unwrap();
    assert!(read("scenario.toml").contains("kill = \"backup\""));
    let timeline: Value = serde_json::from_str(&read("timeline.json")).unwrap();
    let load: Value = serde_json::from_str(&read("load.json")).unwrap();
    assert_eq!(timeline["per_100ms"], load["per_100ms"]);
    assert_eq!((&timeline["measured_s"], &timeline["f"]), (&json!([1, 8]), &json!(1)));
    let injected: Vec<&Value> = timeline["faults"].as_array().unwrap().iter().map(|fault| &fault["kind"]).collect();
    assert_eq!(injected, ["stop", "kill"]);
    let views = timeline["views"].as_array().unwrap();
    for replica in 0..4 {
        assert!(views.iter().any(|view| view["replica"] == replica), "replica {replica} never told its view");
    }
    assert!(!fs::read_dir(&out).unwrap().any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with('.')));
}

#[test]
fn killed_backup_is_started_anew_at_its_old_address() {
    let run = Run::stress(
        r#"
        duration = "6s"
        [[at]]
        s = 1
        kill = 2
        [[at]]
        s = 1.5
        restart = "killed"
        "#,
    )
    .finish();
    // What it has forgotten and how it catches up is another matter.
    let kinds: Vec<&str> =
        run.report["faults"].as_array().unwrap().iter().map(|fault| fault["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["kill", "restart"], "{}", run.stderr);
    assert_eq!(run.report["replicas"][2]["state"], "up", "{}", run.stderr);
    let log = fs::read_to_string(run.directory.path().join("out/logs/replica-2.log")).unwrap();
    assert_eq!(log.matches("replica 2: placement").count(), 2, "both lives in one log: {log}");
}

/// What a replica says of its links, by the link's destination; `None` if it can not be asked (yet).
fn links(run: &Run, id: u16) -> Option<Vec<(u64, String)>> {
    let process = run.replica(id)?;
    // It listens at two ports: peers hang up at a question.
    let answer = process.listens_at().into_iter().find_map(|port| {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        (&stream).write_all(b"{\"ask\":\"network\"}\n").ok()?;
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).ok()?;
        serde_json::from_str::<Value>(&line).ok()
    })?;
    let links = answer["links"].as_array()?.iter();
    Some(links.map(|link| (link["to"].as_u64().unwrap(), link["link"].as_str().unwrap().to_owned())).collect())
}

/// A link to another replica is changed while its owner stands still, or before its owner is started anew. Each
/// question has seconds before the answer may be another one, and all faults are one replica's: the others do not need
/// it, however far it is behind.
#[test]
fn links_are_as_they_are_to_be_after_a_stop_and_a_restart() {
    let mut run = Run::stress(
        r#"
        duration = "16s"
        view_timeout = "60s"
        [[at]]
        s = 0.5
        partition = [[3]]
        [[at]]
        s = 6
        stop = 3
        [[at]]
        s = 6.5
        heal = true
        [[at]]
        s = 7
        resume = 3
        [[at]]
        s = 7.5
        network = "delay=2ms"
        [[at]]
        s = 8
        kill = 3
        [[at]]
        s = 8.5
        restart = 3
        "#,
    );
    run.wait_for_words(" partition 3: ");
    let cut = |links: &[(u64, String)]| links.iter().filter(|(_, link)| link.contains("blocked=on")).count();
    assert_eq!(links(&run, 3).as_deref().map(cut), Some(3));
    run.wait_for_words(" resume 3: ");
    assert_eq!(links(&run, 3).as_deref().map(cut), Some(0));
    run.wait_for_words(" restart 3: ");
    wait_for("links of a replica that was started anew", || {
        links(&run, 3)?.iter().all(|(to, link)| (link == "delay=2ms") == (*to < 4)).then_some(())
    });
    let run = run.finish();
    assert_eq!(run.reasons(), Vec::<String>::new(), "{}", run.stderr);
    assert!(run.stderr.contains(": heal: no link is cut any more"), "{}", run.stderr);
}

#[test]
fn what_can_not_happen_is_a_reason() {
    let run = Run::stress(
        r#"
        duration = "2s"
        [[at]]
        s = 0.5
        kill = 2
        [[at]]
        s = 1
        kill = 2
        "#,
    )
    .finish();
    assert_eq!(run.code, Some(1));
    let expected = "the scenario was not played to its end: kill at 1 s did not happen: replica 2 is not up";
    assert!(run.reasons().contains(&expected.to_owned()), "{:?}", run.reasons());
    assert_eq!(run.report["scorecard"]["green"], false);
    assert!(strings(&run.report["scorecard"]["failed"]).contains(&expected.to_owned()), "{}", run.report["scorecard"]);
}

/// More replicas misbehave from the beginning than may: the run is INVALID for the reason that the scenario names.
#[test]
fn a_scenario_beyond_f_is_green_for_the_reason_that_it_expects() {
    let run = Run::stress_beyond_f(
        r#"
        duration = "1s"
        timeout = "500ms"
        byzantine = "3:silent"
        [[at]]
        s = 0
        byzantine = { replica = 2, kind = "silent" }
        [expect]
        verdict = "invalid"
        reason = "misbehaved on purpose, more than f = 1"
        "#,
    )
    .finish();
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let card = &run.report["scorecard"];
    assert_eq!((&card["green"], &card["safe"]), (&Value::Bool(true), &Value::Bool(true)), "{card}");
    assert_eq!(card["from_the_beginning"], true);
}

#[test]
fn scenarios_are_listed_and_refused_by_name() {
    let _track = track();
    let directory = tempfile::tempdir().unwrap();
    let (code, stdout, _) = finished(directory.path(), &["stress", "--list"]);
    assert_eq!(code, Some(0));
    assert!(stdout.contains("kill-primary") && stdout.contains("nobody should notice"), "{stdout}");
    fs::write(directory.path().join("two.toml"), "name = \"two\"\ndescription = \"\"\n[[at]]\ns = 1\nkill = [1, 2]\n")
        .unwrap();
    for (arguments, part) in [
        (&["stress", "kill-everyone"][..], "no scenario 'kill-everyone'; allowed: a file"),
        (&["stress", "none.toml"], "none.toml: No such file"),
        (&["stress", "two.toml"], "two.toml: at[0]: kill at 1 s: 2 replicas would be faulty at one time"),
        (&["stress"], "<SCENARIO|--all|--list>"),
        (&["stress", "two.toml", "--all"], "cannot be used with"),
    ] {
        let (code, stdout, stderr) = finished(directory.path(), arguments);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains(part), "'{stderr}' lacks '{part}'");
    }
}
