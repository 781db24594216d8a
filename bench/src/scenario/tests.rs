//! Scenarios that read, and everything that is refused, with what is said then.

use std::collections::BTreeSet;

use super::*;

const HEAD: &str = "name = \"x\"\ndescription = \"y\"\n";

fn scenario(rest: &str) -> Scenario {
    let text = format!("{HEAD}{rest}");
    Scenario::parse(&text).unwrap_or_else(|error| panic!("{error:#}\n{text}"))
}

/// Every event, out of order, and every expectation.
const EVERYTHING: &str = r#"
[run]
replicas = 19
clients = 50
duration = "12s"
[[at]]
s = 9
resume = "stopped"
[[at]]
s = 2.5
kill = ["primary", 3]
[[at]]
s = 5
restart = 3
[[at]]
s = 5
heal = true
[[at]]
s = 4
partition = { from = "primary", to = [1, "backup"] }
[[at]]
s = 10.5
network = "delay=5ms"
[expect]
verdict = "invalid"
reason = "more than f"
safe = false
progress_within_s = 1.5
min_fraction_of_baseline = 0.4
final_p50_ms_at_most = 75
view_changes_at_most = 2
[[at]]
s = 8
stop = "backup"
[[at]]
s = 6
partition = [[0], ["primary", 6]]
"#;

#[test]
fn everything_can_be_said() {
    let scenario = scenario(EVERYTHING);
    assert_eq!((scenario.options.replicas, scenario.options.clients), (19, 50));
    assert_eq!(
        scenario.events,
        [
            Event { s: 2.5, action: Action::Kill(vec![Target::Primary, Target::Replica(3)]) },
            Event {
                s: 4.0,
                action: Action::Partition(Links::OneWay {
                    from: vec![Target::Primary],
                    to: vec![Target::Replica(1), Target::Backup],
                }),
            },
            // At the same time: in the file's order.
            Event { s: 5.0, action: Action::Restart(Whom::These(vec![3])) },
            Event { s: 5.0, action: Action::Heal },
            Event {
                s: 6.0,
                action: Action::Partition(Links::Between(vec![
                    vec![Target::Replica(0)],
                    vec![Target::Primary, Target::Replica(6)],
                ])),
            },
            Event { s: 8.0, action: Action::Stop(vec![Target::Backup]) },
            Event { s: 9.0, action: Action::Resume(Whom::All) },
            Event { s: 10.5, action: Action::Network("delay=5ms".into()) },
        ]
    );
    let expected = Expectations {
        valid: false,
        reason: Some("more than f".into()),
        safe: false,
        progress_within_s: Some(1.5),
        min_fraction_of_baseline: Some(0.4),
        final_p50_ms_at_most: Some(75.0),
        view_changes_at_most: Some(2),
    };
    assert_eq!(scenario.expected, expected);
}

#[test]
fn little_must_be_said() {
    let scenario = scenario("");
    assert_eq!((scenario.events.len(), scenario.options.replicas, scenario.expected.valid), (0, 4, true));
    let title = title(&format!("{HEAD}skip = \"later\"")).unwrap();
    assert_eq!((title.name.as_str(), title.skip.as_deref()), ("x", Some("later")));
}

#[test]
fn errors_name_the_key_its_value_and_what_is_allowed() {
    let at = |event: &str| format!("[[at]]\n{event}\n");
    for (text, parts) in [
        ("speed = 1".to_owned(), &["unknown field `speed`"][..]),
        ("[expect]\nsoon = true".into(), &["unknown field `soon`", "progress_within_s"]),
        (at("s = 1\nexplode = 1"), &["unknown field `explode`", "partition"]),
        (at("kill = 1"), &["missing field `s`"]),
        (at("s = 1"), &["at[0].s = 1: no action; allowed: exactly one of kill, restart"]),
        (at("s = 1\nkill = 1\nstop = 1"), &["at[0].s = 1: kill and stop; allowed: exactly one of"]),
        (at("s = -1\nkill = 1"), &["at[0].s = -1: allowed: seconds"]),
        (at("s = 11\nkill = 1"), &["at[0].s = 11: allowed: 0 to 10"]),
        (
            format!("[expect]\nprogress_within_s = 2\n{}{}", at("s = 10\nheal = true"), at("s = 8.5\nstop = 1")),
            &["at[1].s = 8.5: allowed: 0 to 8 for a fault", "progress_within_s = 2 must be left"],
        ),
        (
            at("s = 1\nkill = \"leader\""),
            &["at[0].kill = \"leader\": allowed: \"primary\", \"backup\", a replica (0 to 3)"],
        ),
        (at("s = 1\nkill = 4"), &["at[0].kill = 4: allowed:", "0 to 3"]),
        (at("s = 1\nkill = []"), &["at[0].kill = []", "each once"]),
        (at("s = 1\nstop = [1, 1]"), &["at[0].stop = [1, 1]", "each once"]),
        (at("s = 1\nrestart = \"all\""), &["at[0].restart = \"all\": allowed: \"killed\" (all who are), a replica"]),
        (at("s = 1\nrestart = [\"primary\"]"), &["at[0].restart", "allowed: \"killed\""]),
        (at("s = 1\nresume = true"), &["at[0].resume = true: allowed: \"stopped\""]),
        (at("s = 1\nbyzantine = { replica = 1 }"), &["at[0].byzantine", "{ replica = .., kind = \"..\" }"]),
        (at("s = 1\nbyzantine = { replica = 1, kind = \"mad\" }"), &["at[0].byzantine", "\"mad\"", "silent, slow"]),
        (
            at("s = 0\nclients = \"mad\""),
            &["at[0].clients = \"mad\": allowed: one or several", "bad-signatures, partial"],
        ),
        (at("s = 1\nclients = \"garbage\""), &["at[0].clients = \"garbage\"", "from s = 0 on"]),
        (at("s = 1\npartition = [0, 1]"), &["at[0].partition = [0, 1]: allowed: a list of groups"]),
        (at("s = 1\npartition = [[0], [0]]"), &["at[0].partition", "each in one group"]),
        (at("s = 1\npartition = { from = 0 }"), &["at[0].partition", "from = .., to = .."]),
        (at("s = 1\nheal = false"), &["at[0].heal = false: allowed: true"]),
        (at("s = 1\nnetwork = 5"), &["at[0].network = 5: allowed: a description of links"]),
        (
            at("s = 1\nnetwork = \"delay=soon\""),
            &["at[0].network = \"delay=soon\": allowed:", "delay=TIME", "\"none\""],
        ),
        (at("s = 1\nnetwork = \"\""), &["at[0].network = \"\": allowed:"]),
        (
            [at("s = 3\nheal = true"), at("s = 2\nstop = 1"), at("s = 1\nkill = 2")].concat(),
            &["at[1]: stop at 2 s: 2 replicas would be faulty"],
        ),
        (at("s = 4\nresume = 1"), &["at[0]: resume at 4 s: allowed: replicas that were stopped"]),
        ("[run]\nclents = 5".into(), &["run: unknown key 'clents'; allowed: replicas, clients"]),
        ("[run]\nreplicas = 3".into(), &["run: invalid value '3'", "a whole number from 4 to 64"]),
        ("[run]\nwarmup = \"0s\"\n[[at]]\ns = 1\nkill = 1".into(), &["run.warmup = 0s: allowed: at least 1s"]),
        ("[expect]\nverdict = \"fast\"".into(), &["expect.verdict = \"fast\": allowed: \"valid\" or \"invalid\""]),
        ("[expect]\nverdict = \"invalid\"".into(), &["expect.verdict = \"invalid\": allowed: with reason = \"..\""]),
        ("[expect]\nverdict = \"invalid\"\nreason = \" \"".into(), &["allowed: with reason"]),
        ("[expect]\nreason = \"x\"".into(), &["expect.reason = \"x\": allowed: only with verdict = \"invalid\""]),
        ("[expect]\nfinal_p50_ms_at_most = 0".into(), &["expect.final_p50_ms_at_most = 0: allowed: more than 0"]),
        ("[expect]\nprogress_within_s = 0".into(), &["expect.progress_within_s = 0: allowed: more than 0"]),
        ("[expect]\nmin_fraction_of_baseline = 11".into(), &["min_fraction_of_baseline = 11", "at most 10"]),
        ("[expect]\nview_changes_at_most = -1".into(), &["view_changes_at_most", "-1"]),
    ] {
        let error = format!("{:#}", Scenario::parse(&format!("{HEAD}{text}")).unwrap_err());
        parts.iter().for_each(|part| assert!(error.contains(part), "'{error}' lacks '{part}'\n{text}"));
    }
    let error = Scenario::parse("name = \"a b\"\ndescription = \"\"").unwrap_err().to_string();
    assert!(error.contains("name = \"a b\": allowed: 1 to 64 letters"), "{error}");
    let error = format!("{:#}", Scenario::read(Path::new("/nowhere/x.toml")).unwrap_err());
    assert!(error.contains("/nowhere/x.toml"), "{error}");
}

/// What is said of these events in a cluster of `n`, with a log or without.
fn budget(n: u16, durable: bool, events: &str) -> Result<(), String> {
    let text = format!("{HEAD}[run]\nreplicas = {n}\n{events}");
    let file: File = toml::from_str(&text).unwrap();
    let events: Vec<(usize, Event)> = file.at.iter().map(|raw| read_event(raw, n).unwrap()).enumerate().collect();
    let quorums = Quorums::new(usize::from(n)).unwrap();
    budget::check(&events, &quorums, durable, BTreeSet::new()).map_err(|error| error.to_string())
}

#[test]
fn more_than_f_faulty_at_one_time_are_refused() {
    let at = |events: &[&str]| -> String {
        events.iter().zip(1..).map(|(event, s)| format!("[[at]]\ns = {s}\n{event}\n")).collect()
    };
    let fine = |n, durable, events: &[&str]| budget(n, durable, &at(events)).unwrap();
    let refused = |n, durable, events: &[&str], part: &str| {
        let error = budget(n, durable, &at(events)).unwrap_err();
        assert!(error.contains(part), "'{error}' lacks '{part}'");
    };
    fine(4, false, &["kill = 1"]);
    fine(4, false, &["kill = 1", "kill = 1"]);
    refused(4, false, &["kill = 1", "stop = 2"], "stop at 2 s: 2 replicas would be faulty at one time");
    refused(4, false, &["kill = [1, 2]"], "allowed: at most f = 1, or beyond_f = true");
    fine(7, false, &["kill = [1, 2]"]);
    refused(7, false, &["kill = [1, 2]", "kill = \"primary\""], "3 replicas");
    // Who stands still has forgotten nothing; who was killed has, but for its log.
    fine(4, false, &["stop = 1", "resume = 1", "stop = 2"]);
    refused(4, false, &["kill = 1", "restart = 1", "kill = 2"], "(who was killed without a log stays faulty)");
    fine(4, false, &["kill = 1", "restart = 1", "kill = 1"]);
    fine(4, true, &["kill = 1", "restart = 1", "kill = 2"]);
    fine(4, true, &["kill = \"primary\"", "restart = \"killed\"", "kill = \"primary\""]);
    refused(4, false, &["kill = \"primary\"", "restart = \"killed\"", "kill = \"primary\""], "kill at 3 s");
    // Nobody is brought back who was not taken away.
    refused(4, true, &["restart = 1"], "restart at 1 s: allowed: replicas that were killed");
    refused(4, true, &["kill = 1", "resume = 1"], "resume at 2 s: allowed: replicas that were stopped");
    // The smaller side of a partition is cut off.
    fine(4, false, &["partition = [[0]]", "heal = true", "stop = 1"]);
    fine(4, false, &["partition = [[0], [1, 2, 3]]"]);
    fine(4, false, &["partition = [[1, 2, 3]]"]);
    refused(4, false, &["partition = [[0, 1], [2, 3]]"], "partition at 1 s: 2 replicas");
    refused(4, false, &["partition = [[0]]", "stop = 1"], "2 replicas");
    fine(4, false, &["partition = { from = \"primary\", to = [2, 3] }"]);
    refused(4, false, &["partition = { from = [0, 1], to = [2, 3] }"], "2 replicas");
    // Whoever misbehaves does so for good.
    fine(4, true, &["byzantine = { replica = 1, kind = \"silent\" }", "kill = 1"]);
    refused(4, true, &["byzantine = { replica = 1, kind = \"silent\" }", "kill = 2"], "2 replicas");
    fine(4, false, &["network = \"loss=1%\"", "kill = 1"]);

    let too_many = format!("{HEAD}[[at]]\ns = 1\nkill = [1, 2]\n");
    assert!(Scenario::parse(&too_many).is_err());
    let beyond = format!("{HEAD}beyond_f = true\n[[at]]\ns = 1\nkill = [1, 2]\n");
    assert_eq!(Scenario::parse(&beyond).unwrap().events.len(), 1);
}

/// Whoever misbehaves from the beginning counts, wherever that is said, and counts once.
#[test]
fn replicas_that_misbehave_from_the_beginning_are_counted_once_each() {
    let byzantine =
        |id: u16, kind: &str| format!("[[at]]\ns = 0\nbyzantine = {{ replica = {id}, kind = \"{kind}\" }}\n");
    let run = |options: &str, events: &str| Scenario::parse(&format!("{HEAD}[run]\n{options}\n{events}"));
    let refused = |options: &str, events: &str, part: &str| {
        let error = format!("{:#}", run(options, events).unwrap_err());
        assert!(error.contains(part), "'{error}' lacks '{part}'");
    };
    let silent = "byzantine = \"3:silent\"";
    refused(silent, "[[at]]\ns = 1\nkill = 0\n", "at[0]: kill at 1 s: 2 replicas would be faulty");
    refused(silent, &byzantine(2, "flood"), "2 replicas would misbehave from the beginning; allowed: at most f = 1");
    refused("byzantine = \"2:slow,3:silent\"", "", "2 replicas would misbehave from the beginning");
    refused("", &format!("{}{}", byzantine(1, "slow"), byzantine(2, "slow")), "or beyond_f = true");

    let both = |scenario: Scenario| scenario.options.byzantine.unwrap().to_string();
    assert_eq!(both(run(silent, &byzantine(3, "flood,silent")).unwrap()), "3:silent,3:flood");
    let two = format!("{}{}", byzantine(1, "slow"), byzantine(1, "flood"));
    assert_eq!(both(run("", &two).unwrap()), "1:slow,1:flood");
    run(silent, "[[at]]\ns = 1\nkill = 3\n").unwrap();

    let clients = "[[at]]\ns = 0\nclients = \"garbage\"\n";
    let hostile = run("hostile = \"replays\"", clients).unwrap().options.hostile.unwrap();
    assert_eq!(hostile.to_string(), "replays,garbage");
}
