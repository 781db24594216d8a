//! Each point of the verdict, with a sound run as the base and one thing wrong at a time.

use super::*;

/// Four replicas, two clients, everything in order.
fn sound() -> Evidence {
    let state = ReplicaState {
        executed_sequence: 10,
        executed_ops: 1000,
        ledger: [(10, "aa".to_owned())].into(),
        executed: vec![600, 400],
        last_timestamp: vec![600, 400],
        ..ReplicaState::default()
    };
    Evidence {
        release_build: true,
        f: 1,
        quorum: 3,
        replicas: vec![ReplicaEvidence::Up(state); 4],
        load: LoadOutcome::Finished(LoadEvidence {
            measured_s: 8.0,
            operations: 800,
            latencies: 800,
            busiest_thread_percent: 50.0,
            completed: vec![600, 399],
            begun: vec![600, 401],
            wrong_replies: vec![0; 4],
            ..LoadEvidence::default()
        }),
        per_second: vec![100.0; 8],
        failures: Vec::new(),
        disturbed: None,
        latencies: 800,
        steal_percent: 0.5,
        ..Evidence::default()
    }
}

fn state(evidence: &mut Evidence, index: usize) -> &mut ReplicaState {
    match &mut evidence.replicas[index] {
        ReplicaEvidence::Up(state) => state,
        other => panic!("replica {index}: {other:?}"),
    }
}

fn load(evidence: &mut Evidence) -> &mut LoadEvidence {
    match &mut evidence.load {
        LoadOutcome::Finished(load) => load,
        LoadOutcome::Failed(why) => panic!("{why}"),
    }
}

/// The reasons after one change to a sound run.
fn reasons(change: impl FnOnce(&mut Evidence)) -> Vec<String> {
    let mut evidence = sound();
    change(&mut evidence);
    let (verdict, _) = judge(&evidence);
    assert_eq!(verdict.valid, verdict.reasons.is_empty());
    verdict.reasons
}

/// Exactly one reason, which holds all of `parts`.
fn only(reasons: &[String], parts: &[&str]) {
    assert_eq!(reasons.len(), 1, "{reasons:#?}");
    for part in parts {
        assert!(reasons[0].contains(part), "'{}' lacks '{part}'", reasons[0]);
    }
}

#[test]
fn sound_run_is_valid_and_says_what_was_compared() {
    let (verdict, audit) = judge(&sound());
    assert_eq!(verdict, Verdict { valid: true, reasons: vec![] });
    assert_eq!((audit.common_sequence, audit.ledger_digest.as_deref()), (Some(10), Some("aa")));
    assert_eq!((audit.replicas_compared, audit.replicas_up_to_date), (vec![0, 1, 2, 3], vec![0, 1, 2, 3]));
    assert_eq!((audit.clients_checked, audit.operations_executed), (2, 1000));
    assert!(audit.notes.is_empty());
}

#[test]
fn what_a_replica_that_misbehaves_on_purpose_says_does_not_count() {
    let mut evidence = sound();
    evidence.replicas[3] = ReplicaEvidence::Byzantine("wrong-reply,flood".into());
    load(&mut evidence).wrong_replies[3] = 7;
    let (verdict, audit) = judge(&evidence);
    assert_eq!(verdict.reasons, Vec::<String>::new());
    assert_eq!((audit.replicas_compared, audit.replicas_up_to_date), (vec![0, 1, 2], vec![0, 1, 2]));
    assert!(audit.notes[0].contains("replica 3 misbehaved on purpose (wrong-reply,flood)"), "{:?}", audit.notes);
    assert!(audit.notes[1].contains("replica 3 sent 7 replies"), "{:?}", audit.notes);
    // The others must still agree, all of them, and more than f are too many.
    only(
        &reasons(|evidence| {
            evidence.replicas[3] = ReplicaEvidence::Byzantine("random".into());
            state(evidence, 1).ledger = [(10, "bb".to_owned())].into();
            evidence.quorum = 2;
        }),
        &["replica 1's ledger differs"],
    );
    let many = reasons(|evidence| {
        evidence.replicas[2] = ReplicaEvidence::Ended("exit status 3".into());
        evidence.replicas[3] = ReplicaEvidence::Byzantine("silent".into());
    });
    let expected = "2 of 4 replicas (2, 3) ended, did not answer or misbehaved on purpose, more than f = 1";
    assert!(many.contains(&expected.to_owned()), "{many:?}");
}

#[test]
fn hostile_clients_are_known_to_replicas_and_not_counted() {
    let hostile = |evidence: &mut Evidence| {
        evidence.hostile_clients = 1;
        for index in 0..4 {
            let state = state(evidence, index);
            state.executed_ops += 5;
            state.executed.push(5);
            state.last_timestamp.push(u64::MAX);
        }
    };
    let mut evidence = sound();
    hostile(&mut evidence);
    let (verdict, audit) = judge(&evidence);
    assert_eq!(verdict.reasons, Vec::<String>::new());
    assert_eq!((audit.clients_checked, audit.operations_executed), (2, 1000));
    assert_eq!(audit.notes, ["5 operations of hostile clients were executed besides"]);
    only(
        &reasons(|evidence| {
            hostile(evidence);
            state(evidence, 0).executed[0] += 1;
            state(evidence, 0).executed_ops += 1;
            state(evidence, 0).last_timestamp[0] += 1;
        }),
        &["replica 0: client 0: 601 operations executed, but only 600 begun"],
    );
    only(&reasons(|evidence| evidence.failures.push("an attacker died".into())), &["an attacker died"]);
}

#[test]
fn a_dead_or_silent_backup_is_a_note_more_than_f_are_a_reason() {
    let mut evidence = sound();
    evidence.replicas[2] = ReplicaEvidence::Ended("killed by signal 9".into());
    let (verdict, audit) = judge(&evidence);
    assert!(verdict.valid, "{:?}", verdict.reasons);
    assert_eq!(audit.notes, ["replica 2 ended before the load did: killed by signal 9"]);

    evidence.replicas[3] = ReplicaEvidence::Silent("timed out".into());
    let (verdict, _) = judge(&evidence);
    assert!(verdict.reasons[0].contains("2 of 4 replicas (2, 3) ended or did not answer, more than f = 1"));
}

#[test]
fn a_different_ledger_names_replica_and_sequence_number_once() {
    let reasons = reasons(|evidence| {
        state(evidence, 1).ledger = [(8, "bb".into()), (10, "cc".into())].into();
        for index in [0, 2, 3] {
            state(evidence, index).ledger.insert(8, "xx".into());
        }
    });
    only(
        &reasons,
        &["replica 1's ledger differs from the majority's at sequence number 8: bb instead of xx (replicas 0, 2, 3)"],
    );
}

#[test]
fn two_sides_of_equal_size_are_both_named() {
    let reasons = reasons(|evidence| {
        for index in [1, 3] {
            state(evidence, index).ledger.insert(10, "bb".into());
        }
    });
    assert!(reasons[0].contains("replicas 0, 2: aa; replicas 1, 3: bb"), "{reasons:?}");
    assert!(reasons[1].contains("quorum (3)"), "{reasons:?}");
}

#[test]
fn a_laggard_is_compared_where_it_stands_and_only_noted() {
    let mut evidence = sound();
    *state(&mut evidence, 3) = ReplicaState {
        executed_sequence: 7,
        executed_ops: 700,
        ledger: [(7, "77".into())].into(),
        left_behind: Some("at 7".into()),
        ..ReplicaState::default()
    };
    let (verdict, audit) = judge(&evidence);
    assert!(verdict.valid, "{:?}", verdict.reasons);
    assert_eq!((audit.replicas_compared, audit.replicas_up_to_date), (vec![0, 1, 2], vec![0, 1, 2]));
    assert!(audit.notes.iter().any(|note| note.contains("no other replica keeps a digest")), "{:?}", audit.notes);

    state(&mut evidence, 0).ledger.insert(7, "other".into());
    assert!(!judge(&evidence).0.valid, "the laggard's ledger contradicts replica 0's");
}

#[test]
fn a_confessed_divergence_is_a_reason() {
    let reasons = reasons(|evidence| state(evidence, 2).diverged = Some("checkpoint 128".into()));
    only(&reasons, &["replica 2", "checkpoint 128"]);
}

#[test]
fn exactly_once_is_checked_client_by_client() {
    only(
        &reasons(|e| state(e, 0).last_timestamp[1] = 401),
        &["replica 0: client 1: 400 operations executed", "timestamp is 401"],
    );
    let lost = reasons(|e| load(e).completed[1] = 401);
    assert_eq!(lost.len(), 4, "one for each replica: {lost:?}");
    assert!(lost[0].contains("client 1: 401 operations completed, but only 400 executed"));
    let invented = reasons(|e| load(e).begun[0] = 599);
    assert!(invented[0].contains("client 0: 600 operations executed, but only 599 begun"), "{invented:?}");
    only(&reasons(|e| state(e, 3).executed_ops = 999), &["replica 3 executed 999 operations, but 1000"]);
    only(&reasons(|e| state(e, 3).executed.truncate(1)), &["replica 3 knows 1 logical clients, the load generator 2"]);
}

#[test]
fn many_violations_are_summed_up() {
    let reasons = reasons(|evidence| {
        *evidence = sound();
        for replica in 0..4 {
            let state = state(evidence, replica);
            (state.executed, state.last_timestamp, state.executed_ops) = (vec![1; 10], vec![1; 10], 10);
        }
        state(evidence, 1).last_timestamp = vec![2; 10];
        (load(evidence).completed, load(evidence).begun) = (vec![1; 10], vec![1; 10]);
    });
    assert_eq!(reasons.len(), 4);
    assert_eq!(reasons[3], ".. and so for 7 more clients");
}

#[test]
fn replies_must_be_correct_and_complete() {
    only(&reasons(|e| load(e).wrong_replies[2] = 5), &["replica 2 sent 5 replies that contradict"]);
    only(&reasons(|e| load(e).wrong_results = 1), &["impossible"]);
    only(&reasons(|e| load(e).stale_reads = 3), &["3 reads gave a value that had been replaced before they began"]);
    let many = reasons(|e| (load(e).unanswered, load(e).read_only) = (1, 1_000_000));
    assert!(many.is_empty(), "what was answered without order counts, too: {many:?}");
    only(&reasons(|e| load(e).unanswered = 2), &["2 operations (0.20 %) never got a reply quorum"]);
    let few = reasons(|e| {
        load(e).unanswered = 1;
    });
    assert!(few.is_empty(), "0.1 % is allowed: {few:?}");
    let dead = reasons(|e| (load(e).begun, load(e).unanswered) = (vec![1_000_000; 2], 2));
    only(&dead, &["2 operations (0.00 %) never got a reply quorum", "stopped answering most of its 2 clients"]);
    let none = reasons(|e| (load(e).operations, load(e).latencies, e.latencies) = (0, 0, 0));
    only(&none, &["no operation was completed"]);
}

#[test]
fn generator_must_be_honest() {
    only(&reasons(|e| load(e).busiest_thread_percent = 95.0), &["busy 95 %", "--load-threads"]);
    only(&reasons(|e| load(e).unsent = 3), &["3 scheduled operations were never sent"]);
    only(&reasons(|e| e.latencies = 799), &["800 latencies were measured, but the interval log holds 799"]);
    let open = |change: fn(&mut LoadEvidence)| {
        reasons(|e| {
            let load = load(e);
            (load.offered_ops_per_s, load.offered_operations) = (Some(100.0), 800);
            change(load);
        })
    };
    assert!(open(|_| {}).is_empty());
    only(&open(|load| load.late_sends = 8), &["1.00 % of the sends were late"]);
    assert!(open(|load| load.late_sends = 7).is_empty());
    // What was intended in the window's last moment is complete after it.
    let slow = reasons(|e| {
        let load = load(e);
        (load.measured_s, load.offered_ops_per_s, load.offered_operations) = (2.0, Some(7.0), 14);
        (load.operations, load.latencies, e.latencies) = (13, 14, 14);
        e.per_second = vec![7.0, 6.0];
    });
    assert!(slow.is_empty(), "{slow:?}");
    only(&open(|load| load.offered_operations = 780), &["held 780 operations", "ask for 800"]);
    assert!(open(|load| (load.offered_operations, load.random_arrivals) = (780, true)).is_empty());
    let overload = reasons(|e| {
        let load = load(e);
        (load.offered_ops_per_s, load.offered_operations) = (Some(100.0), 800);
        load.operations = 700;
    });
    only(&overload, &["overload: 700 operations were completed of 800 offered (87.5 %"]);
}

/// Always busy or ready to run: with too few cores for everybody that is a note, with enough of them a reason.
#[test]
fn a_generator_that_waits_for_a_core_says_so() {
    let crowded = |cores| {
        let mut evidence = sound();
        (evidence.cores, evidence.threads) = (cores, 5);
        let load = load(&mut evidence);
        (load.busiest_thread_percent, load.wait_percent, load.busy_or_waiting_percent) = (40.0, 57.0, 97.0);
        judge(&evidence)
    };
    let (verdict, audit) = crowded(2);
    assert!(verdict.valid, "{:?}", verdict.reasons);
    assert_eq!(audit.notes.len(), 1);
    for part in ["97 % of the time", "40 % on a core, 57 % waiting", "5 threads share 2 cores", "Latencies include"] {
        assert!(audit.notes[0].contains(part), "{:?}", audit.notes);
    }
    only(&crowded(5).0.reasons, &["something else took its core", "5 cores are enough for the 5 threads"]);
    assert!(reasons(|e| load(e).busy_or_waiting_percent = 94.9).is_empty());
}

#[test]
fn a_standstill_after_a_replica_ended_names_it() {
    let standstill = |zeros: &[usize], exits: &[(f64, u16)]| {
        reasons(|evidence| {
            // Drift is another matter.
            evidence.per_second = vec![100.0; 60];
            zeros.iter().for_each(|second| evidence.per_second[second - 1] = 0.0);
            let exit = |&(at_s, replica)| Exit { at_s, replica, how: "killed by signal 9".into() };
            evidence.exits = exits.iter().map(exit).collect();
        })
    };
    // It ended within second 3, which had begun well.
    let expected = "no operation completed in seconds 4 and 5, after replica 0 ended (killed by signal 9)";
    assert_eq!(standstill(&[4, 5], &[(2.4, 0)]), [expected]);
    assert_eq!(
        standstill(&[3, 7], &[(2.4, 0)]),
        [
            "no operation completed in second 3, after replica 0 ended (killed by signal 9)",
            "1 seconds of the measured window without a single operation: 7",
        ],
        "seconds later another cause is to be looked for"
    );
    only(&standstill(&[2], &[(2.4, 0)]), &["1 seconds of the measured window", ": 2"]);
    assert!(standstill(&[], &[(2.4, 0)]).is_empty());
}

#[test]
fn equal_ledgers_of_nothing_prove_nothing() {
    let reasons = reasons(|evidence| {
        for index in 0..4 {
            state(evidence, index).ledger = [(0, "00".into())].into();
        }
        state(evidence, 0).ledger.insert(10, "aa".into());
    });
    only(&reasons, &["equal at sequence number 0 only", "the last one is 10"]);
    // Nothing more was executed than what is compared, or fewer than a quorum went on: that is said.
    let mut evidence = sound();
    for index in 1..4 {
        let state = state(&mut evidence, index);
        (state.executed_sequence, state.ledger) = (8, [(8, "88".into())].into());
    }
    let (_, audit) = judge(&evidence);
    assert_eq!(audit.common_sequence, Some(8));
    let expected =
        "the ledgers of a quorum (3) were compared up to sequence number 8; those of fewer replicas go on to 10";
    assert!(audit.notes.contains(&expected.to_owned()), "{:?}", audit.notes);
}

#[test]
fn clients_that_nobody_could_be_asked_about_were_not_checked() {
    let mut evidence = sound();
    evidence.replicas = vec![ReplicaEvidence::Silent("timed out".into()); 4];
    let (verdict, audit) = judge(&evidence);
    assert_eq!((verdict.valid, audit.clients_checked), (false, 0));
}

#[test]
fn window_must_be_steady() {
    only(&reasons(|e| e.per_second[3] = 0.0), &["1 seconds of the measured window", ": 4"]);
    only(&reasons(|e| e.per_second = vec![100.0, 100.0, 80.0, 80.0, 60.0, 60.0]), &["drifted by -40 %"]);
    assert!(reasons(|e| e.per_second = vec![100.0, 100.0, 30.0, 30.0, 30.0]).is_empty(), "too short to judge");
    only(&reasons(|e| e.per_second.clear()), &["no whole second"]);
}

#[test]
fn faults_made_on_purpose_excuse_what_they_cause_and_say_so() {
    let disturbed = |seconds: &[u64], seconds_before| Some(Disturbed { seconds: seconds.to_vec(), seconds_before });
    let mut evidence = sound();
    evidence.per_second = vec![100.0, 100.0, 100.0, 0.0, 40.0, 40.0, 40.0, 40.0];
    evidence.disturbed = disturbed(&[4], 3);
    let (verdict, audit) = judge(&evidence);
    assert!(verdict.valid, "{:?}", verdict.reasons);
    assert!(audit.notes[0].ends_with("counted in all figures: 4"), "{:?}", audit.notes);
    assert!(audit.notes[1].contains("only 3 seconds lie before the first fault"), "{:?}", audit.notes);

    evidence.disturbed = disturbed(&[], 3);
    only(&judge(&evidence).0.reasons, &["1 seconds of the measured window", ": 4"]);

    let drifting = |e: &mut Evidence| {
        e.per_second = vec![100.0, 100.0, 80.0, 80.0, 60.0, 60.0, 100.0];
        e.disturbed = disturbed(&[], 6);
    };
    only(&reasons(drifting), &["drifted by -40 %"]);
}

#[test]
fn violations_of_safety_are_counted_apart() {
    let violations = |change: fn(&mut Evidence)| {
        let mut evidence = sound();
        change(&mut evidence);
        judge(&evidence).1.violations
    };
    assert_eq!(violations(|_| {}), 0);
    assert_eq!(violations(|e| e.per_second[3] = 0.0), 0, "unsteady, not unsafe");
    assert_eq!(violations(|e| load(e).unanswered = 2), 0, "not live, not unsafe");
    assert_eq!(violations(|e| state(e, 1).ledger = [(10, "bb".into())].into()), 1);
    assert_eq!(violations(|e| load(e).wrong_replies[2] = 5), 1);
    assert_eq!(violations(|e| state(e, 2).diverged = Some("at 128".into())), 1);
    assert_eq!(violations(|e| state(e, 0).last_timestamp[1] = 401), 1);
}

#[test]
fn build_steal_and_load_failures_are_told() {
    only(&reasons(|e| e.release_build = false), &["debug build"]);
    only(
        &reasons(|e| e.load = LoadOutcome::Failed("exit status: 101".into())),
        &["load generator failed: exit status: 101"],
    );
    only(&reasons(|e| e.failures.push("kill at 3 s did not happen".into())), &["did not happen"]);
    let mut evidence = sound();
    evidence.steal_percent = 12.0;
    let (verdict, audit) = judge(&evidence);
    assert!(verdict.valid);
    assert!(audit.notes[0].contains("12.0 %"));
}
