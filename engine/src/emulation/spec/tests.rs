//! Descriptions of networks: what is shipped, what people write, what is refused.

use super::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn file(text: &str) -> Result<NetworkSpec, String> {
    NetworkSpec::parse(text, Path::new("net.toml")).map_err(|error| error.to_string())
}

#[test]
fn shipped_networks_are_what_they_say() {
    for (name, text) in PRESETS {
        let spec = NetworkSpec::open(name).unwrap();
        assert_eq!(spec.name, *name);
        assert!(!spec.source.is_empty() && !spec.is_clear(), "{name}");
        // Whatever is measured says when, and from where.
        assert_eq!(spec.measured.is_empty(), spec.regions.is_empty(), "{name}");
        if !spec.regions.is_empty() {
            assert!(spec.symmetric && spec.source.contains("https://"), "{name}");
            for (from, row) in spec.round_trip_ms.iter().enumerate() {
                for (to, ms) in row.iter().enumerate() {
                    assert!((*ms < 1.0) == (from == to), "{name}: {from} to {to}: {ms}");
                    // The detour over a third region is hardly ever shorter.
                    let detours = (0..row.len()).map(|via| row[via] + spec.round_trip_ms[via][to]);
                    assert!(detours.into_iter().all(|detour| *ms < 1.25 * detour), "{name}: {from} to {to}");
                }
            }
        }
        assert!(text.starts_with("# "), "{name} says what it is");
    }
    assert!(["wan-aws-5", "wan-eu", "wan-us", "lossy-lan", "lan"].iter().all(|name| presets().contains(name)));
}

#[test]
fn nodes_are_placed_in_regions_in_turn_and_half_of_a_round_trip_is_one_way() {
    let spec = NetworkSpec::open("wan-aws-5").unwrap();
    let regions: Vec<_> = (0..6).map(|node| spec.region_of(NodeId(node)).unwrap()).collect();
    assert_eq!(regions, ["eu-west-1", "us-west-1", "ap-southeast-1", "ca-central-1", "sa-east-1", "eu-west-1"]);
    assert_eq!(spec.link(NodeId(0), NodeId(1)).delay, Duration::from_micros(67_950));
    assert_eq!(spec.link(NodeId(0), NodeId(5)).delay, Duration::from_micros(77));
    let links = spec.links(NodeId(4), 6, 9);
    assert_eq!((links.models.len(), links.seed), (6, 9));
    assert_eq!(links.models[2].delay, Duration::from_micros(160_546));
    assert_eq!(links.models[2].jitter, Duration::from_micros(500));

    let spec = NetworkSpec { nodes: vec!["ca-central-1".into(), "sa-east-1".into()], seed: Some(7), ..spec };
    assert_eq!(spec.link(NodeId(0), NodeId(2)).delay, Duration::from_micros(52), "the same region");
    assert_eq!(spec.region_of(NodeId(3)), Some("sa-east-1"));
    assert_eq!(spec.links(NodeId(0), 3, 9).seed, 7);
}

#[test]
fn one_line_is_a_name_or_values_or_both() {
    let spec = NetworkSpec::open("delay=20ms,loss=0.1%").unwrap();
    assert_eq!((spec.link(NodeId(0), NodeId(1)).delay, spec.name.as_str()), (ms(20), ""));
    let spec = NetworkSpec::open("wan-us,loss=1%,delay=1ms").unwrap();
    let link = spec.link(NodeId(0), NodeId(1));
    assert_eq!((link.delay, link.jitter), (Duration::from_micros(6275), Duration::from_micros(300)));
    assert!((link.loss_percent - 1.0).abs() < 1e-9);
    for text in ["none", "delay=0s", "none,loss=0%"] {
        assert!(NetworkSpec::open(text).unwrap().is_clear(), "{text}");
    }
    assert_eq!(spec.to_string(), "wan-us; 4 regions 5.3 to 36.3 ms apart; every link delay=1ms,jitter=300us,loss=1%");
    assert_eq!(NetworkSpec::open("none").unwrap().to_string(), "none");
}

#[test]
fn files_describe_what_differs() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a=b,c.toml");
    let text = r#"
        link = "delay=5ms"
        regions = ["a", "b"]
        nodes = ["a", "a", "b"]
        round_trip_ms = [[0, 10], [30, 0]]
        [[override]]
        from = [0]
        to = [2, 3]
        link = "blocked=on"
        [[override]]
        to = [3]
        link = "loss=2%"
    "#;
    std::fs::write(&path, text).unwrap();
    assert_eq!(NetworkSpec::open(&path.display().to_string()).unwrap().name, "a=b,c");
    let path = path.with_file_name("mine");
    std::fs::write(&path, text).unwrap();
    let spec = NetworkSpec::open(&format!("{},jitter=1ms", path.display())).unwrap();
    let link = |from, to| spec.link(NodeId(from), NodeId(to));
    assert_eq!((link(0, 1).delay, link(1, 2).delay, link(2, 1).delay), (ms(5), ms(10), ms(20)));
    assert!(link(0, 2).blocked && !link(2, 0).blocked && !link(1, 2).blocked);
    assert!(link(0, 3).blocked && (link(0, 3).loss_percent - 2.0).abs() < 1e-9 && link(0, 1).jitter == ms(1));
    assert!(spec.check(4).is_ok());
    assert_eq!(spec.check(3).unwrap_err().to_string(), "override = node 3: allowed: nodes 0 to 2");
    assert_eq!((file(&spec.to_toml()).unwrap(), spec.name.as_str()), (spec.clone(), "mine"));
}

#[test]
fn what_can_not_be_is_named() {
    for (text, part) in [
        ("linkk = \"\"", "unknown field `linkk`"),
        ("link = \"delay=1\"", "'delay=1' is not allowed; allowed: delay=TIME"),
        ("regions = [\"a\"]", "round_trip_ms = 0 rows: allowed: one row and one column for each of the 1 regions"),
        ("regions = [\"a\"]\nround_trip_ms = [[0, 1]]", "one row and one column"),
        ("regions = [\"a\"]\nround_trip_ms = [[-1]]", "from a to a = -1: allowed: 0 to 120000"),
        ("regions = [\"a\"]\nround_trip_ms = [[nan]]", "from a to a = NaN"),
        ("regions = [\"a\"]\nround_trip_ms = [[1]]\nnodes = [\"b\"]", "nodes = b: allowed: a"),
        ("symmetric = true\nregions = [\"a\", \"b\"]\nround_trip_ms = [[0, 1], [2, 0]]", "from a to b = 1: allowed: 2"),
        ("[[override]]\nlink = \"x\"", "'x' is not allowed"),
    ] {
        let error = file(text).unwrap_err();
        assert!(error.starts_with("net.toml: ") && error.contains(part), "'{error}' lacks '{part}'");
    }
    for (text, part) in [
        ("wan-mars", "network = wan-mars: allowed: none, lan, lossy-lan, wan-aws-5, wan-eu, wan-us, a TOML file ("),
        ("wan-eu,latency=1ms", "'latency=1ms' is not allowed"),
        ("latency=1ms", "'latency=1ms' is not allowed"),
        ("", "network = : allowed: none"),
    ] {
        let error = NetworkSpec::open(text).unwrap_err().to_string();
        assert!(error.contains(part), "'{error}' lacks '{part}'");
    }
}
