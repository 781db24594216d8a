//! Replicas and clients that misbehave on purpose, in real processes: whatever at most f replicas and any number of
//! clients do, honest clients are served and the run is sound.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::common::{Finished, Run, hippodrome, numbers, outcome};

mod common;

/// Kinds of one faulty backup, tried together where they do not get in each other's way.
const BACKUPS: &[&str] = &[
    "3:silent",
    "3:slow,3:wrong-digest,3:wrong-reply",
    "3:equivocate,3:withhold-body,3:lying-checkpoint,3:lying-state,3:partial-authenticator",
    "3:early-body",
    "3:flood,3:stale-view",
    "3:random",
    "3:corrupt-mac",
];

/// Kinds of the first primary.
const PRIMARIES: &[&str] = &[
    "0:silent",
    "0:equivocate",
    "0:withhold-body,0:lying-checkpoint",
    "0:flood,0:stale-view",
    "0:random",
    "0:partial-authenticator",
];

/// Kinds of hostile clients that are tried together, and what replicas must have refused then.
const CLIENTS: &[(&str, &[&str])] = &[
    ("bad-signatures,replays,growing-identifiers", &["bad_request_proof", "foreign_client"]),
    ("garbage,half-open", &["bad_magic", "wrong_sender"]),
    ("slow-reader,partial-authenticators", &["request_outdated", "bad_request_proof"]),
];

fn run(arguments: &[&str]) -> Finished {
    let base = ["--duration", "1s", "--retransmit-after", "300ms"];
    Run::start(&[&base, arguments].concat()).finish()
}

/// The details of faults of this kind.
fn faults<'a>(report: &'a Value, kind: &str) -> Vec<&'a Value> {
    let faults = report["faults"].as_array().unwrap();
    faults.iter().filter(|fault| fault["kind"] == kind).collect()
}

/// What all replicas together refused, by reason.
fn refused(report: &Value) -> BTreeMap<String, u64> {
    let mut refused = BTreeMap::new();
    for replica in report["replicas"].as_array().unwrap() {
        for (reason, count) in replica["ignored"].as_object().unwrap() {
            *refused.entry(reason.clone()).or_default() += count.as_u64().unwrap();
        }
    }
    refused
}

/// Runs with one faulty replica: sound, with the fault named, and what the liar says left out.
fn survive(byzantine: &str) -> Finished {
    let run = run(&["--view-timeout", "200ms", "--byzantine", byzantine]);
    run.expect_sound(byzantine);
    let (id, _) = byzantine.split_once(':').unwrap();
    let id: u64 = id.parse().unwrap();
    let faults = faults(&run.report, "byzantine");
    assert_eq!(faults.len(), 1, "{byzantine}: {}", run.report["faults"]);
    assert_eq!((&faults[0]["replica"], &faults[0]["at_s"]), (&id.into(), &0.0.into()));
    assert_eq!(faults[0]["detail"], byzantine.replace(&format!("{id}:"), ""));
    assert_eq!(self::faults(&run.report, "process_exit").len(), 0, "{byzantine}");
    let others: Vec<u64> = (0..4).filter(|other| *other != id).collect();
    assert_eq!(numbers(&run.report["audit"]["replicas_compared"]), others, "{byzantine}");
    assert_eq!(run.report["config"]["byzantine"], byzantine);
    let notes = run.report["audit"]["notes"].to_string();
    assert_eq!(
        byzantine.contains("wrong-reply"),
        notes.contains("replies that contradict the agreed result"),
        "{notes}"
    );
    run
}

#[test]
fn runs_survive_every_faulty_backup() {
    BACKUPS.iter().for_each(|byzantine| drop(survive(byzantine)));
}

#[test]
fn runs_survive_every_faulty_primary() {
    for byzantine in PRIMARIES {
        let run = survive(byzantine);
        let view = run.report["replicas"][1]["view"].as_u64().unwrap();
        // These do nothing useful as primary, so they must have been replaced.
        assert!(view > 0 || !["0:silent", "0:equivocate"].contains(byzantine), "{byzantine}: {}", run.report);
    }
}

#[test]
fn two_faulty_backups_of_seven_are_survived() {
    let run = run(&["--replicas", "7", "--byzantine", "5:equivocate,6:wrong-digest,6:withhold-body"]);
    run.expect_sound("two of seven");
    assert_eq!(faults(&run.report, "byzantine").len(), 2);
    assert_eq!(numbers(&run.report["audit"]["replicas_compared"]), [0, 1, 2, 3, 4]);
}

#[test]
fn runs_survive_every_hostile_client() {
    for (kinds, reasons) in CLIENTS {
        let run = run(&["--hostile", kinds]);
        run.expect_sound(kinds);
        let faults = faults(&run.report, "hostile_client");
        assert_eq!(faults.len(), kinds.split(',').count(), "{}", run.report["faults"]);
        for (fault, kind) in faults.iter().zip(kinds.split(',')) {
            let detail = fault["detail"].as_str().unwrap();
            assert!(detail.starts_with(&format!("{kind}: ")) && !detail.contains(" 0 connections made"), "{detail}");
            assert!(!detail.contains(" 0 frames"), "{detail}");
        }
        let refused = refused(&run.report);
        reasons.iter().for_each(|reason| assert!(refused.contains_key(*reason), "{kinds}: no {reason} in {refused:?}"));
        assert_eq!(numbers(&run.report["audit"]["replicas_compared"]), [0, 1, 2, 3], "{kinds}");
        assert_eq!(run.report["audit"]["clients_checked"], 40, "{kinds}");
    }
}

/// Client nodes that send more signatures than replicas can verify, bad ones or good ones: the honest node is served
/// all the same, and no peer's message is refused. That peers do not wait for them either, the verify stage's own tests
/// say, by what is checked first: here it would be a matter of the machine's speed, so nobody is suspected for that
/// long.
#[test]
fn floods_of_signatures_do_not_keep_honest_clients_from_being_served() {
    for (kinds, reason) in [("bad-signatures", "bad_request_proof"), ("bad-signatures,replays", "request_outdated")] {
        let flood = ["--auth", "ed25519-batch", "--hostile", kinds, "--duration", "3s", "--view-timeout", "60s"];
        let run = run(&flood);
        run.expect_sound(kinds);
        let refused = refused(&run.report);
        assert!(refused.get(reason).is_some_and(|count| *count > 512), "{kinds}: no flood in {refused:?}");
        assert!(!refused.contains_key("bad_message_proof"), "{kinds}: {refused:?}");
        assert_eq!(run.report["audit"]["clients_checked"], 40, "{kinds}");
    }
}

#[test]
fn more_than_f_faulty_replicas_are_refused_unless_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    for (arguments, part) in [
        (&["--byzantine", "2:silent,3:slow"][..], "byzantine = 2:silent,3:slow: allowed: at most f = 1 of 4 replicas"),
        (&["--byzantine", "4:silent"], "byzantine = 4:silent: allowed: replicas 0 to 3 (there is no 4)"),
        (&["--byzantine", "3:evil"], "'evil' is not allowed; allowed: silent, slow"),
        (&["--hostile", "rude"], "'rude' is not allowed; allowed: bad-signatures"),
    ] {
        let output = hippodrome(directory.path(), &[&["run"], arguments].concat()).output().unwrap();
        let (code, _, stderr) = outcome(&output);
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains(part), "{stderr}");
    }
    let run = run(&["--allow-too-many-faults", "--byzantine", "2:lying-checkpoint,3:corrupt-mac"]);
    assert_eq!(run.code, Some(1));
    let expected = "2 of 4 replicas (2, 3) ended, did not answer or misbehaved on purpose, more than f = 1";
    assert!(run.reasons().contains(&expected.to_owned()), "{:?}", run.reasons());
}
