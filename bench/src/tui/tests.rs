//! The dashboard on a terminal of 120 by 40 cells, against a picture of it.

use std::time::Duration;

use clap::Parser as _;
use hippodrome_analysis::series::Second;
use hippodrome_engine::control::{ReplicaReport, StageReport};
use hippodrome_engine::types::{ReplicaId, SequenceNumber, View};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::dashboard::{Dashboard, Rates};
use super::draw::draw;
use crate::cli::{Cli, Command};

const PICTURE: &str = "src/tui/testdata/dashboard.txt";

fn dashboard(arguments: &[&str]) -> Dashboard {
    let words = ["hippodrome", "run"].iter().chain(arguments);
    match Cli::try_parse_from(words).unwrap().command {
        Command::Run(run) => Dashboard::new(&run.options),
        other => panic!("{other:?}"),
    }
}

fn report(id: u16, seconds: u64) -> ReplicaReport {
    let stage = |name: &str, busy_percent, queue_p99| StageReport {
        name: name.into(),
        busy_percent,
        queue_p99,
        ..StageReport::default()
    };
    ReplicaReport {
        id: ReplicaId(id),
        view: View(1),
        active: true,
        voting: true,
        executed_ops: 1_000_000 * seconds,
        batches: 2_000 * seconds,
        executed_sequence: SequenceNumber(2_000 * seconds),
        stable_checkpoint: SequenceNumber(2_000 * seconds - 80),
        cpu_us: 500_000 * seconds,
        resident_bytes: 64 << 20,
        stages: vec![stage("ingress", 3.0, 0), stage("verify-0", 61.0, 12), stage("order", 5.4, 0)],
        ..ReplicaReport::default()
    }
}

fn picture(dashboard: &Dashboard, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, dashboard)).unwrap();
    let buffer = terminal.backend().buffer();
    let rows = buffer.content().chunks(usize::from(width));
    rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned() + "\n").collect()
}

/// A run under way: a replica is gone, another has fallen behind.
fn under_way() -> Dashboard {
    let mut it = dashboard(&["--auth", "hybrid", "--batch", "fixed:100", "--warmup", "2s"]);
    it.directory = "results/example".into();
    it.seconds = (1..=8)
        .map(|second| Second {
            second,
            measured: second > 2,
            operations: 900_000 + 20_000 * second,
            p50_us: 2000.0,
            p99_us: 3000.0 + 100.0 * second as f64,
            max_us: 8000.0,
            ..Second::default()
        })
        .collect();
    for id in 0..4 {
        it.is_at(id, "127.0.0.1:1".parse().unwrap());
        for seconds in [7, 8] {
            it.replicas[usize::from(id)].told(Duration::from_secs(seconds), Some(report(id, seconds)));
        }
    }
    it.replicas[2].told(Duration::from_secs(9), None);
    let behind = ReplicaReport { left_behind: Some("fetches 16000".into()), ..report(3, 9) };
    it.replicas[3].told(Duration::from_secs(9), Some(behind));
    it.events.push("   6.1 s  replica 2 ended: signal 9; the run goes on".into());
    it
}

#[test]
fn a_run_under_way_looks_like_its_picture() {
    let drawn = picture(&under_way(), 120, 40);
    if std::env::var_os("HIPPODROME_BLESS").is_some() {
        std::fs::write(PICTURE, &drawn).unwrap();
    }
    assert_eq!(drawn, std::fs::read_to_string(PICTURE).unwrap(), "HIPPODROME_BLESS=1 takes what is drawn now");
}

#[test]
fn a_run_that_has_told_nothing_and_a_terminal_of_any_size_can_be_drawn() {
    for (width, height) in [(1, 1), (20, 5), (80, 24), (300, 90)] {
        picture(&dashboard(&[]), width, height);
        picture(&under_way(), width, height);
    }
    let empty = picture(&dashboard(&["--rate", "5000"]), 120, 40);
    assert!(empty.contains("5000 ops/s offered") && empty.contains("starting"), "{empty}");
}

#[test]
fn rates_are_those_between_two_answers() {
    let it = under_way();
    let expected = Rates { operations: 1_000_000.0, requests_in_a_batch: 500.0, cores: 0.5 };
    assert_eq!(it.replicas[0].rates, expected);
    assert_eq!(it.primary(), Some(1));
}

#[test]
fn a_replica_that_was_started_anew_is_not_measured_against_its_former_life() {
    let mut it = under_way();
    it.is_at(0, "127.0.0.1:2".parse().unwrap());
    it.replicas[0].told(Duration::from_secs(10), Some(report(0, 1)));
    assert_eq!(it.replicas[0].rates, Rates::default());
}
