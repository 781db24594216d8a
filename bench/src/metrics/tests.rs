//! What the pages say, and that the dashboard asks for nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use hippodrome_engine::control::{PhaseReport, ReplicaReport, StageReport};
use hippodrome_engine::types::{ReplicaId, SequenceNumber, View};
use hippodrome_loadgen::report::SecondSample;
use promql_parser::label::{MatchOp, Matchers};
use promql_parser::parser::{self, Expr, LabelModifier};
use serde_json::Value;

use super::load::Progress;
use super::replica::Status;
use super::{render, serve};

const DASHBOARD: &str = include_str!("../../grafana/hippodrome.json");

/// A replica with something to tell in every field.
fn status() -> Status {
    Status(ReplicaReport {
        id: ReplicaId(2),
        view: View(3),
        active: true,
        executed_ops: 5000,
        executed_sequence: SequenceNumber(40),
        cpu_us: 2_500_000,
        ignored: BTreeMap::from([("late \"vote\"\n".into(), 7)]),
        stages: vec![StageReport {
            name: "order".into(),
            thread: "t0".into(),
            busy_percent: 25.0,
            ..StageReport::default()
        }],
        phases: BTreeMap::from([("prepared".into(), PhaseReport { p50: 100.0, p99: 2000.0 })]),
        ..ReplicaReport::default()
    })
}

fn load() -> Progress {
    let progress = Progress::default();
    for second in 1..=2 {
        let sample = SecondSample {
            second,
            measured: second == 2,
            operations: 100 * second,
            retransmissions: 1,
            p50_us: 500.0,
            p99_us: 900.0,
            max_us: 1500.0,
        };
        progress.add(&sample);
    }
    progress
}

#[test]
fn a_replica_tells_its_status_in_base_units() {
    let page = render(status()).unwrap();
    for line in [
        "hippodrome_replica_info{id=\"2\",durability=\"\",transport=\"\",placement=\"\"} 1",
        "hippodrome_replica_view 3",
        "hippodrome_replica_active 1",
        "hippodrome_replica_operations_total 5000",
        "hippodrome_replica_cpu_seconds_total 2.5",
        "hippodrome_replica_ignored_total{reason=\"late \\\"vote\\\"\\n\"} 7",
        "hippodrome_replica_stage_busy_ratio{stage=\"order\",thread=\"t0\"} 0.25",
        "hippodrome_replica_phase_seconds{phase=\"prepared\",quantile=\"0.99\"} 0.002",
        "# TYPE hippodrome_replica_sent_bytes counter",
        "# EOF",
    ] {
        assert!(page.lines().any(|found| found == line), "no '{line}' in\n{page}");
    }
}

#[test]
fn a_load_generator_adds_its_seconds_up() {
    let page = load().page().unwrap();
    for line in [
        "hippodrome_load_operations_total 300",
        "hippodrome_load_retransmissions_total 2",
        "hippodrome_load_rate 200",
        "hippodrome_load_measured 1",
        "hippodrome_load_latency_seconds{quantile=\"1\"} 0.0015",
    ] {
        assert!(page.lines().any(|found| found == line), "no '{line}' in\n{page}");
    }
}

/// The names of the samples on a page, each with its labels and their values.
fn samples(page: &str) -> BTreeMap<String, BTreeMap<String, BTreeSet<String>>> {
    let mut found: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let Expr::VectorSelector(sample) = parser::parse(line.rsplit_once(' ').unwrap().0).unwrap() else {
            panic!("not a sample: {line}");
        };
        let labels = found.entry(sample.name.unwrap()).or_default();
        for label in sample.matchers.matchers {
            labels.entry(label.name).or_default().insert(label.value);
        }
    }
    found
}

/// The selectors of an expression, and the labels that it groups by.
fn parts<'a>(expression: &'a Expr, selectors: &mut Vec<(&'a str, &'a Matchers)>, groups: &mut Vec<&'a str>) {
    let labels = |modifier: &'a Option<LabelModifier>| match modifier {
        Some(LabelModifier::Include(labels) | LabelModifier::Exclude(labels)) => labels.labels.iter(),
        None => [].iter(),
    };
    match expression {
        Expr::Aggregate(aggregate) => {
            groups.extend(labels(&aggregate.modifier).map(String::as_str));
            parts(&aggregate.expr, selectors, groups);
        }
        Expr::Binary(binary) => {
            parts(&binary.lhs, selectors, groups);
            parts(&binary.rhs, selectors, groups);
        }
        Expr::Call(call) => call.args.args.iter().for_each(|argument| parts(argument, selectors, groups)),
        Expr::MatrixSelector(matrix) => selectors.push((matrix.vs.name.as_deref().unwrap(), &matrix.vs.matchers)),
        Expr::VectorSelector(vector) => selectors.push((vector.name.as_deref().unwrap(), &vector.matchers)),
        other => panic!("the dashboard has no such expression yet: {other:?}"),
    }
}

#[test]
fn the_dashboard_asks_for_metrics_and_labels_that_exist_and_for_all_of_them() {
    let mut known = samples(&render(status()).unwrap());
    known.extend(samples(&load().page().unwrap()));
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let mut asked = BTreeSet::new();
    for target in targets {
        let text = target["expr"].as_str().unwrap();
        let expression = parser::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let (mut selectors, mut groups) = (Vec::new(), Vec::new());
        parts(&expression, &mut selectors, &mut groups);
        let legend = target["legendFormat"].as_str().unwrap_or_default();
        let shown = legend.split("{{").skip(1).map(|rest| rest.split_once("}}").unwrap().0);
        let mentioned: Vec<&str> = shown.filter(|label| *label != "instance").chain(groups).collect();
        for (name, matchers) in selectors {
            let labels = known.get(name).unwrap_or_else(|| panic!("{text}: no metric {name}"));
            for label in &mentioned {
                assert!(labels.contains_key(*label), "{text}: {name} has no label {label}");
            }
            for matcher in &matchers.matchers {
                assert_eq!(matcher.op, MatchOp::Equal, "{text}");
                assert!(
                    labels[&matcher.name].contains(&matcher.value),
                    "{text}: no {} = {}",
                    matcher.name,
                    matcher.value
                );
            }
            asked.insert(name.to_owned());
        }
    }
    let unseen: Vec<&String> = known.keys().filter(|name| !asked.contains(*name)).collect();
    assert!(unseen.is_empty(), "on no panel: {unseen:?}");
}

#[test]
fn the_page_about_metrics_lists_all_of_them_and_no_others() {
    let known = samples(&[render(status()).unwrap(), load().page().unwrap()].concat());
    let page = include_str!("../../../docs/monitoring.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `hippodrome_")?.split_once('`'));
    let listed: BTreeSet<String> = rows.map(|(name, _)| format!("hippodrome_{name}")).collect();
    assert_eq!(listed, known.into_keys().collect());
}

fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_server_answers_one_path_and_says_what_is_allowed() {
    let progress = load();
    let address = serve("127.0.0.1:0".parse().unwrap(), move || progress.page()).unwrap();
    let page = ask(address, "GET /metrics");
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.ends_with("# EOF\n"), "{page}");
    assert!(page.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"), "{page}");
    let head = ask(address, "HEAD /metrics");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && !head.contains("hippodrome_"), "{head}");
    let elsewhere = ask(address, "GET /other");
    assert!(elsewhere.starts_with("HTTP/1.1 404") && elsewhere.ends_with("/other: allowed: /metrics\n"), "{elsewhere}");
    let method = ask(address, "DELETE /metrics");
    assert!(method.starts_with("HTTP/1.1 405") && method.contains("allow: GET, HEAD\r\n"), "{method}");
    assert!(ask(address, "nonsense").starts_with("HTTP/1.1 400"));
    let taken = serve(address, || Ok(String::new())).unwrap_err().words();
    assert!(taken.contains(&format!("metrics = {address}: allowed: an address that is free here")), "{taken}");
}

#[test]
fn a_page_that_can_not_be_made_says_why() {
    let address =
        serve("127.0.0.1:0".parse().unwrap(), || Err(anyhow::anyhow!("the replica does not answer"))).unwrap();
    let answer = ask(address, "GET /metrics");
    assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("the replica does not answer\n"), "{answer}");
}
