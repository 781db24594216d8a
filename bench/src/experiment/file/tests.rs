//! What experiments say, what they do not, and what the command line changes.

use super::*;

const HEAD: &str = "name = \"x\"\ndescription = \"y\"\nquestion = \"z?\"\n";

fn parse(rest: &str) -> Experiment {
    Experiment::parse(&format!("{HEAD}{rest}")).unwrap_or_else(|error| panic!("{error:#}"))
}

fn labels(experiment: &Experiment) -> Vec<String> {
    experiment.points().unwrap().iter().map(Point::label).collect()
}

fn error_of(text: &str) -> String {
    format!("{:#}", Experiment::parse(text).unwrap_err())
}

fn arguments(texts: &[&str]) -> anyhow::Result<Vec<Varied>> {
    vary_arguments(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
}

#[test]
fn everything_can_be_said() {
    let experiment = parse(
        r#"
        repeats = 5
        [base]
        duration = "2s"
        request_bytes = "1KiB"
        [vary]
        replicas = [7, 4]
        batch = ["none", 100, "time:100,2ms"]
        auth = ["mac-blake3", "ed25519"]
        [[point]]
        replicas = 10
        batch = "adaptive:512,4"
        auth = "none"
        [[exclude]]
        where = { auth = "ed25519", batch = ["none", 100] }
        reason = "It takes for ever."
        [[adjust]]
        where = { auth = ["ed25519"], replicas = 7 }
        set = { clients = 400 }
        [[adjust]]
        where = { auth = ["ed25519"] }
        set = { duration = "5s" }
        "#,
    );
    assert_eq!((experiment.name.as_str(), experiment.repeats), ("x", 5));
    let labels = labels(&experiment);
    assert_eq!(labels.len(), 2 * 3 * 2 - 4 + 1);
    // In the writer's order, the first option changing slowest.
    assert_eq!(
        labels[..3],
        [
            "replicas=7 batch=none auth=mac-blake3",
            "replicas=7 batch=fixed:100 auth=mac-blake3",
            "replicas=7 batch=time:100,2ms auth=mac-blake3",
        ]
    );
    assert_eq!(labels.last().unwrap(), "replicas=10 batch=adaptive:512,4 auth=none");
    assert_eq!(experiment.varied()[1].values, ["none", "fixed:100", "time:100,2ms", "adaptive:512,4"]);
    let excluded = experiment.excluded();
    assert_eq!(excluded.len(), 4);
    assert!(excluded.iter().all(|one| one.reason == "It takes for ever." && one.settings["auth"] == "ed25519"));
    let points = experiment.points().unwrap();
    let slow = points.iter().find(|point| point.label() == "replicas=7 batch=time:100,2ms auth=ed25519").unwrap();
    assert_eq!((slow.options.clients, slow.options.load.duration.to_string().as_str()), (400, "5s"));
    let quick = &points[0].options;
    assert_eq!((quick.clients, quick.load.duration.to_string().as_str()), (4000, "2s"));
    assert!(points.iter().all(|point| point.options.load.request_bytes.0 == 1024));
    let base = resolved_base(&experiment).unwrap();
    assert_eq!(
        (&base["duration"], &base["clients"], &base["auth"]),
        (&"2s".into(), &4000.into(), &serde_json::Value::Null)
    );
}

#[test]
fn errors_name_the_key_its_value_and_what_is_allowed() {
    let vary = "[vary]\nauth = [\"mac\", \"none\"]\n";
    for (rest, parts) in [
        ("repeats = 0", &["repeats = 0: allowed: a whole number from 1 to 1000"][..]),
        ("repeat = 3", &["unknown field `repeat`", "repeats"]),
        ("[base]\nclient = 3", &["base: unknown key 'client'; allowed: replicas, clients"]),
        ("[base]\nclients = [3]", &["base: clients = [3]: a array is not allowed"]),
        ("[vary]\nauth = [\"rsa\"]", &["vary: ", "'rsa' for '--auth <PRESET>'", "none, mac (or mac-blake3)"]),
        ("[vary]\nauth = []", &["vary: auth = []: allowed: one value or more"]),
        ("[vary]\nauth = \"mac\"", &["invalid type"]),
        ("[vary]\nbatch = [\"none\", 1]", &["vary: batch=none: given twice"]),
        ("[vary]\nclients = [10]\n[base]\nclients = 5", &["clients=5: clients is varied; allowed: either one"]),
        (
            "[vary]\nauth = [\"mac\"]\n[base]\nauth-replies = \"none\"",
            &["auth-replies=none: auth is varied", "auth-clients"],
        ),
        (
            "[vary]\nclients = [1]\n[base]\nconnections = 2",
            &["clients=1: connections = 2: allowed: at most --clients (1)"],
        ),
        ("", &["nothing is left to run"]),
        (&format!("{vary}[[exclude]]\nwhere = {{}}\nreason = \"x\""), &["exclude[0].where: empty"]),
        (&format!("{vary}[[exclude]]\nwhere = {{ auth = \"none\" }}\nreason = \" \""), &["exclude[0].reason = \"\""]),
        (
            &format!("{vary}[[exclude]]\nwhere = {{ clients = 3 }}\nreason = \"x\""),
            &["exclude[0].where: clients: it is not varied; allowed: auth"],
        ),
        (
            &format!("{vary}[[exclude]]\nwhere = {{ auth = \"hybrid\" }}\nreason = \"x\""),
            &["exclude[0].where: auth = hybrid: no point has it; allowed: mac, none"],
        ),
        (
            &format!("{vary}[[exclude]]\nwhere = {{ auth = [\"none\", \"mac\"] }}\nreason = \"x\""),
            &["every combination is excluded"],
        ),
        (
            &format!("{vary}[[adjust]]\nwhere = {{ auth = \"none\" }}\nset = {{ auth = \"mac\" }}"),
            &["adjust[0].set.auth: it is varied"],
        ),
        (
            &format!("{vary}[[adjust]]\nwhere = {{ auth = \"none\" }}\nset = {{ clients = 0 }}"),
            &["adjust[0].set: ", "'0' for '--clients <N>'"],
        ),
        (
            &format!("{vary}[[point]]\nclients = 3"),
            &["a point sets clients; allowed: the same options in all points (auth)"],
        ),
        ("[[point]]\nclients = 3\n[[point]]\nbatch = 3", &["the same options in all points"]),
        ("[[point]]\n", &["point[0]: empty"]),
        (&format!("{vary}[[point]]\nauth = \"mac\""), &["'auth=mac' and 'auth=mac' are the same run"]),
        (
            "[vary]\nbatch = [\"time:10,1ms\", \"time:10,1000us\"]",
            &["'batch=time:10,1ms' and 'batch=time:10,1000us' are the same run"],
        ),
    ] {
        let error = error_of(&format!("{HEAD}{rest}"));
        parts.iter().for_each(|part| assert!(error.contains(part), "{rest}: '{error}' lacks '{part}'"));
    }
    assert!(
        error_of("name = \"x y\"\ndescription = \"\"\nquestion = \"\"").contains("name = \"x y\": allowed: 1 to 64")
    );
    assert!(error_of("name = \"x\"\ndescription = \"\"").contains("missing field `question`"));
    let clients: Vec<String> = (1..=1001).map(|n| n.to_string()).collect();
    let many = format!("{HEAD}[vary]\nclients = [{}]", clients.join(", "));
    assert!(error_of(&many).contains("1001 points; allowed: at most 1000"));
}

#[test]
fn what_needs_more_cores_than_there_are_is_left_out_and_told() {
    let text = r#"
        [vary]
        placement = ["fused", "network,verify+order+execute+egress", "pipelined"]
        [[point]]
        placement = "auto"
        [[exclude]]
        where = { placement = ["pipelined", "auto"] }
        reason = "Not this one."
        [[needs]]
        where = { placement = ["network,verify+order+execute+egress", "pipelined"] }
        cores = 4
        [[needs]]
        where = { placement = ["auto", "pipelined"] }
        cores = 9
        "#;
    let cut = "placement=network,verify+order+execute+egress";
    assert_eq!(labels(&parse(text)), ["placement=fused", cut, "placement=auto"], "on any machine");
    assert_eq!(labels(&parse(text).on(9)), ["placement=fused", cut, "placement=auto"]);
    let small = parse(text).on(3);
    assert_eq!(labels(&small), ["placement=fused"]);
    let told: Vec<(String, String)> =
        small.excluded().into_iter().map(|one| (one.settings["placement"].clone(), one.reason)).collect();
    let expected = [
        ("network,verify+order+execute+egress", "it needs 4 cores, and 3 may be used here"),
        ("pipelined", "Not this one."),
        ("auto", "it needs 9 cores, and 3 may be used here"),
    ];
    assert_eq!(told, expected.map(|(value, reason)| (value.to_owned(), reason.to_owned())));
    let nothing = parse(&text.replace("\"fused\", ", "")).on(3).points().unwrap_err().to_string();
    assert!(nothing.starts_with("every combination is excluded, or needs more than 3 cores"), "{nothing}");
    let vary = "[vary]\nauth = [\"mac\", \"none\"]\n[[needs]]\n";
    for (rest, part) in [
        ("where = { auth = \"none\" }\ncores = 0", "needs[0].cores = 0: allowed: a whole number from 1 to 4096"),
        ("where = { clients = 3 }\ncores = 2", "needs[0].where: clients: it is not varied"),
        ("where = { auth = \"none\" }", "missing field `cores`"),
    ] {
        let error = error_of(&format!("{HEAD}{vary}{rest}"));
        assert!(error.contains(part), "'{error}' lacks '{part}'");
    }
}

#[test]
fn the_command_line_wins_over_the_file() {
    let text = r#"
        [base]
        duration = "2s"
        [vary]
        auth = ["mac", "none"]
        batch = ["none", "fixed:10"]
        [[exclude]]
        where = { batch = "none", auth = "none" }
        reason = "x"
        [[adjust]]
        where = { auth = "mac" }
        set = { clients = 50, duration = "9s" }
        "#;
    let mut experiment = parse(text);
    for varied in arguments(&["auth=mac,hybrid", "replicas=7"]).unwrap() {
        experiment.vary(varied).unwrap();
    }
    experiment.set(&[Setting::new("duration", "1s").unwrap()]).unwrap();
    assert_eq!(
        labels(&experiment),
        [
            "auth=mac batch=none replicas=7",
            "auth=mac batch=fixed:10 replicas=7",
            "auth=hybrid batch=none replicas=7",
            "auth=hybrid batch=fixed:10 replicas=7",
        ]
    );
    let options = &experiment.points().unwrap()[0].options;
    assert_eq!(
        (options.clients, options.load.duration.to_string().as_str()),
        (50, "1s"),
        "but for what it does not say"
    );
    let error = experiment.set(&[Setting::new("auth", "mac").unwrap()]).unwrap_err().to_string();
    assert_eq!(error, "--auth mac: auth is varied; allowed: --vary auth=mac, or another option");
    assert!(parse(text).set(&[Setting::new("auth-replies", "none").unwrap()]).is_err());
}

#[test]
fn a_configuration_file_gives_way_to_what_is_varied() {
    let mut experiment = parse("[vary]\nauth = [\"mac\", \"none\"]\nclients = [5]");
    let file = [("auth", "hybrid"), ("auth-replies", "none"), ("clients", "9"), ("replicas", "7")];
    let file = file.map(|(key, value)| Setting::new(key, value).unwrap());
    experiment.set_where_free(file.to_vec()).unwrap();
    let points = experiment.points().unwrap();
    assert_eq!(labels(&experiment), ["auth=mac clients=5", "auth=none clients=5"]);
    assert!(points.iter().all(|point| point.options.replicas == 7 && point.options.clients == 5));
    assert_eq!(points[1].options.cluster.authentication().to_string(), "none");
}

#[test]
fn arguments_hold_values_with_commas_behind_bars() {
    let values = |texts: &[&str]| {
        arguments(texts).unwrap().into_iter().map(|varied| (varied.key, varied.values.join(" "))).collect::<Vec<_>>()
    };
    let pairs = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(key, values)| ((*key).to_owned(), (*values).to_owned())).collect::<Vec<_>>()
    };
    assert_eq!(
        values(&["auth=mac-blake3,ed25519-batch", "batch=1,10,100,1000"]),
        pairs(&[("auth", "mac-blake3 ed25519-batch"), ("batch", "none fixed:10 fixed:100 fixed:1000")])
    );
    assert_eq!(
        values(&["batch=adaptive:512,4|time:100,2ms", "clients=1", "batch=none,fixed:5", "batch=time:9,1ms|"]),
        pairs(&[("batch", "adaptive:512,4 time:100,2ms none fixed:5 time:9,1ms"), ("clients", "1")])
    );
    assert_eq!(values(&["request_bytes=0,4KiB"]), pairs(&[("request-bytes", "0 4KiB")]));
    for (texts, part) in [
        (&["batch"][..], "--vary batch: allowed: KEY=VALUE[,VALUE..]"),
        (&["colour=red"], "--vary colour=red: unknown key 'colour'; allowed: replicas"),
        (&["batch="], "--vary batch=: invalid value '' for '--batch"),
        (&["batch=none,time:100,2ms"], "(values are separated by commas; by | where there is one"),
        (&["clients=1,1"], "--vary clients: clients=1: given twice"),
        (&["clients=1", "clients=2,1"], "given twice"),
    ] {
        let error = format!("{:#}", arguments(texts).unwrap_err());
        assert!(error.contains(part), "'{error}' lacks '{part}'");
    }
}
