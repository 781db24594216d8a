//! Pages of real results: what they say is what their files say, and every chart becomes a picture without a browser.

use std::path::{Path, PathBuf};

use hippodrome_analysis::page::document::{Block, Cell, Document};
use hippodrome_analysis::page::{Context, csv, html, markdown, read, svgs};
use hippodrome_analysis::results;

const KINDS: [&str; 5] = ["run", "faults", "sweep", "comparison", "search"];

fn fixture(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/pages").join(kind)
}

fn document(kind: &str) -> Document {
    read(&fixture(kind), &Context::default()).unwrap_or_else(|error| panic!("{kind}: {error}"))
}

/// The ids of a document's charts.
fn charts(document: &Document) -> Vec<&str> {
    let blocks = document.sections.iter().flat_map(|section| &section.blocks);
    blocks.filter_map(|block| if let Block::Chart(chart) = block { Some(chart.id.as_str()) } else { None }).collect()
}

fn figure(document: &Document, label: &str) -> f64 {
    let found = document.figures.iter().find(|figure| figure.label == label);
    match found.map(|figure| &figure.value) {
        Some(Cell::Number(value, _)) => *value,
        other => panic!("{label}: {other:?}"),
    }
}

#[test]
fn every_kind_has_its_charts() {
    assert_eq!(charts(&document("run")), ["latency", "over-time", "phases", "stages"]);
    assert_eq!(charts(&document("faults")), ["timeline", "over-time", "latency", "phases", "stages"]);
    assert_eq!(
        charts(&document("sweep")),
        ["matrix", "points", "pareto", "along-clients", "latency-throughput-clients"]
    );
    assert_eq!(charts(&document("comparison")), ["ratios", "latency", "runs"]);
    assert_eq!(charts(&document("search")), ["curve", "tried"]);
}

#[test]
fn figures_are_those_of_the_files() {
    let report = results::read_report(&fixture("run")).unwrap();
    let run = document("run");
    let exactly = |label: &str, value: f64| assert_eq!(figure(&run, label).to_bits(), value.to_bits(), "{label}");
    exactly("Throughput", report.throughput.ops_per_s);
    exactly("Latency, p50", report.latency_us.p50);
    exactly("Latency, p99", report.latency_us.p99);
    exactly("CPU per operation", report.cpu.us_per_op_total);
    let sweep = results::read_sweep(&fixture("sweep")).unwrap();
    let best = sweep.points.iter().filter_map(|point| point.summary.figures.get("ops_per_s"));
    let best = best.map(|spread| spread.median).fold(0.0, f64::max);
    assert_eq!(figure(&document("sweep"), "Highest throughput").to_bits(), best.to_bits());
    let search = results::read_search(&fixture("search")).unwrap();
    let rate = search.found.refuted.unwrap().rate;
    assert_eq!(figure(&document("search"), "Lowest rate that does not").to_bits(), rate.to_bits());
}

/// An INVALID run counts for nothing and is shown as what it is.
#[test]
fn invalid_runs_are_marked() {
    let sweep = document("sweep");
    assert!(!sweep.valid && sweep.verdicts[0].word == "INVALID");
    let text = html(&sweep);
    assert!(text.contains("INVALID: this is a debug build") || text.contains("debug build"), "the reason is told");
    assert!(text.contains("<tr class=\"bad\">") && text.contains("INVALID run"));
}

#[test]
fn every_chart_becomes_a_picture_without_a_browser() {
    for kind in KINDS {
        let document = document(kind);
        let files = svgs(&document).unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert!(files.len() >= charts(&document).len(), "{kind}");
        for (name, text) in &files {
            let what = format!("{kind}: {name}");
            assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"), "{what}");
            assert!(text.matches("<path").count() > 5 && text.matches("<text").count() > 3, "{what}: {text}");
            let strange = ["NaN", "undefined", "@fn:", "@c0", "[object", "Infinity"];
            assert!(!strange.iter().any(|part| text.contains(part)), "{what}: {text}");
        }
        let mut names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), files.len(), "{kind}: two pictures have one name");
    }
}

#[test]
fn exports_have_a_line_for_each_thing() {
    for (kind, rows) in [("run", 1), ("faults", 1), ("sweep", 10), ("comparison", 6)] {
        let text = csv(&document(kind));
        let columns = text.lines().next().unwrap().split(',').count();
        assert_eq!(text.lines().count(), 1 + rows, "{kind}: {text}");
        assert!(columns > 8, "{kind}: {text}");
    }
    for kind in KINDS {
        let text = markdown(&document(kind));
        assert!(text.starts_with("## ") && text.contains("\n| "), "{kind}: {text}");
    }
}

/// What is not there is left out: a run made by hand, or of an older version, has a page as well.
#[test]
fn a_report_alone_makes_a_page() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("run").join(results::REPORT), directory.path().join(results::REPORT)).unwrap();
    let document = read(directory.path(), &Context::default()).unwrap();
    assert_eq!(charts(&document), ["latency", "phases", "stages"]);
    std::fs::write(directory.path().join(results::SERIES), "nonsense").unwrap();
    let error = read(directory.path(), &Context::default()).unwrap_err().to_string();
    assert!(error.contains("series.csv"), "{error}");
}

/// What is vendored is what its checksum says.
#[test]
fn echarts_is_the_build_that_its_checksum_names() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/echarts");
    let sum = std::process::Command::new("sha256sum")
        .args(["--check", "--status", "echarts.min.js.sha256"])
        .current_dir(folder)
        .status();
    assert!(sum.expect("sha256sum is part of every Linux").success());
}
