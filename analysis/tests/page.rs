//! Pages of real results: what they say is what their files say, and every chart becomes a picture without a browser.

use std::path::{Path, PathBuf};

use hippodrome_analysis::comparison;
use hippodrome_analysis::page::document::{Block, Cell, Chart, Document, Look, Table};
use hippodrome_analysis::page::{Context, csv, html, markdown, read, svgs};
use hippodrome_analysis::results;
use hippodrome_analysis::summary::{Style, render};
use hippodrome_analysis::sweep::{self, State};

const BY_COMPLEXITY: &str = "expected from message complexity";
const BY_THE_FLOOR: &str = "expected by the shape of the floor";

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

fn chart<'a>(document: &'a Document, id: &str) -> &'a Chart {
    let mut blocks = document.sections.iter().flat_map(|section| &section.blocks);
    let found = blocks.find_map(|block| match block {
        Block::Chart(chart) if chart.id == id => Some(chart),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("no chart {id}"))
}

/// The first table of the section with this title.
fn table<'a>(document: &'a Document, title: &str) -> &'a Table {
    let section = document.sections.iter().find(|section| section.title == title);
    let mut blocks = section.unwrap_or_else(|| panic!("no section {title}")).blocks.iter();
    blocks.find_map(|block| if let Block::Table(table) = block { Some(table) } else { None }).unwrap()
}

/// What a table of names and values has under this name.
fn value<'a>(table: &'a Table, name: &str) -> &'a str {
    let row = table.rows.iter().find(|row| row[0].shown() == name);
    row.unwrap_or_else(|| panic!("no row {name}"))[1].shown()
}

/// The page of a fixture of which one file was changed.
fn edited(kind: &str, file: &str, edit: impl FnOnce(&mut serde_json::Value)) -> Document {
    let directory = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(fixture(kind).join(file)).unwrap();
    let mut content = serde_json::from_str(&text).unwrap();
    edit(&mut content);
    std::fs::write(directory.path().join(file), content.to_string()).unwrap();
    read(directory.path(), &Context::default()).unwrap()
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
    assert_eq!(charts(&document("run")), ["latency", "over-time", "path", "phases", "stages"]);
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
    for (label, found) in
        [("Highest rate that meets them", search.found.confirmed), ("Lowest rate that does not", search.found.refuted)]
    {
        assert_eq!(figure(&document("search"), label).to_bits(), found.unwrap().rate.to_bits(), "{label}");
    }
}

#[test]
fn rows_of_a_comparison_are_those_of_its_file() {
    let of = results::read_comparison(&fixture("comparison")).unwrap();
    assert_eq!(csv(&document("comparison")), comparison::table::csv(&of));
}

/// An INVALID run counts for nothing and is shown as what it is.
#[test]
fn invalid_runs_are_marked() {
    let sweep = document("sweep");
    assert!(!sweep.valid && sweep.verdicts[0].word == "INVALID");
    let text = html(&sweep);
    let reports = results::read_sweep(&fixture("sweep")).unwrap();
    let invalid: Vec<_> = reports.runs().filter(|(_, run)| run.state == State::Invalid).collect();
    assert!(!invalid.is_empty());
    for (point, run) in invalid {
        let label = reports.label(&point.settings);
        let told = format!("{label}, run {}: INVALID: {}", run.repeat, run.reasons.join("; "));
        assert!(run.reasons.iter().any(|reason| reason.len() > 10) && text.contains(&told), "not told: {told}");
    }
    assert!(text.contains("<tr class=\"bad\">") && text.contains("INVALID run"));
}

/// The page of a run says what its summary on the terminal says, in the same words.
#[test]
fn a_run_is_told_in_the_words_of_its_summary() {
    let report = results::read_report(&fixture("run")).unwrap();
    let summary = render(&report, "results", Style::Plain);
    let run = document("run");
    let path = chart(&run, "path");
    let attribution = report.attribution.as_ref().unwrap();
    assert_eq!(path.table.rows.len(), attribution.parts.len() + 1);
    for row in &path.table.rows {
        let [part, median, slowest] = [0, 1, 2].map(|column| row[column].shown());
        let line =
            summary.lines().find(|line| line.contains(&format!(" {part:<27} {median:>10} "))).unwrap_or_default();
        assert!(line.contains(&format!(" {slowest} ")), "{part}: {median}, {slowest}: {summary}");
    }
    let limited = &report.bottleneck.sentence;
    assert!(!limited.is_empty() && summary.contains(limited) && run.sentence.contains(limited), "{}", run.sentence);
    let told = report.efficiency.as_ref().unwrap();
    assert_eq!(figure(&run, "CPU floor").to_bits(), told.floor_us_per_op.to_bits());
    let remark = &run.figures.iter().find(|figure| figure.label == "CPU floor").unwrap().remark;
    assert!(remark.contains(&format!("{:.0} % of what the run took", told.percent)), "{remark}");
}

/// What strategies of authenticators, execution, reads, replies and dissemination did is told: in the sentence, in
/// tables, in the row for programs.
#[test]
fn reads_replies_and_dissemination_are_told() {
    let changed = edited("run", results::REPORT, |report| {
        report["config"]["auth_granularity"] = "frame".into();
        report["config"]["dissemination"] = "digest".into();
        report["config"]["execution"] = "tentative".into();
        report["config"]["replies"] = "digest".into();
        report["config"]["reads"] = "read-only".into();
        report["generator"]["read_only"] = 1001.into();
        report["generator"]["fell_back"] = 1002.into();
        report["generator"]["stale_reads"] = 1003.into();
        report["audit"]["operations_read_only"] = 1004.into();
        report["replicas"][1]["rolled_back"] = 1005.into();
    });
    let replicas = table(&changed, "Replicas");
    let state = replicas.rows[1][1].shown();
    assert!(state.ends_with("; has undone 1005 batches that it had executed tentatively"), "{state}");
    let told = "dissemination digest, execution tentative, replies digest, reads read-only";
    assert!(changed.sentence.contains(told), "{}", changed.sentence);
    assert!(changed.sentence.contains("granularity of authenticators frame, batching"), "{}", changed.sentence);
    let generator = table(&changed, "Generator honesty");
    assert_eq!(value(generator, "operations answered without being ordered"), "1,001");
    assert_eq!(value(generator, "reads ordered after all"), "1,002");
    assert_eq!(value(generator, "reads of a value replaced before they began"), "1,003");
    assert_eq!(value(table(&changed, "Audit"), "operations answered without being ordered"), "1,004");
    for (column, expected) in [
        ("auth_granularity", "frame"),
        ("dissemination", "digest"),
        ("execution", "tentative"),
        ("replies", "digest"),
        ("reads", "read-only"),
    ] {
        let place = changed.rows.columns.iter().position(|name| name == column).unwrap();
        assert_eq!(changed.rows.rows[0][place].shown(), expected, "{column}");
    }
}

/// A difference that was not found is no good news: the sides may differ all the same.
#[test]
fn no_difference_found_is_not_shown_as_equality() {
    let comparison = document("comparison");
    let [badge] = &comparison.verdicts[..] else { panic!("{:?}", comparison.verdicts) };
    assert_eq!((badge.word.as_str(), badge.look), ("B: NO DIFFERENCE FOUND", Look::Neutral));
    assert!(html(&comparison).contains("<div class=\"verdict neutral\"><b>B: NO DIFFERENCE FOUND</b>"));
    let how = &chart(&comparison, "ratios").how;
    assert!(how.contains("do not tell the sides apart, which is not to say that they are equal"), "{how}");
    let equivalent = edited("comparison", results::COMPARISON, |comparison| {
        let decides = comparison["headline"].clone();
        let ratios = comparison["versus"][0]["figures"].as_array_mut().unwrap();
        let ratio = ratios.iter_mut().find(|ratio| ratio["figure"] == decides).unwrap();
        ratio["conclusion"] = "equivalent".into();
    });
    assert_eq!(equivalent.verdicts[0].look, Look::Good);
}

/// Of a build's commit twelve characters tell it from others; forty leave no room for anything else.
#[test]
fn commits_are_short_where_sides_are_named() {
    let (long, short) = ("022e1427e2fc42e3e348e89e39189d6345d878d0", "commit 022e1427e2fc)");
    let comparison = document("comparison");
    let path = fixture("comparison").join(results::COMPARISON);
    assert!(std::fs::read_to_string(path).unwrap().contains(long), "the file has it in full");
    let figures: Vec<&str> = comparison.figures.iter().map(|figure| figure.remark.as_str()).collect();
    for named in [&comparison.title, &comparison.sentence, figures[0], figures[1]] {
        assert!(named.contains(short) && !named.contains(long), "{named}");
    }
    for id in ["latency", "runs"] {
        let chart = chart(&comparison, id);
        let drawn = chart.views[0].option.to_string();
        assert!(drawn.contains("auth=mac") && drawn.contains(short) && !drawn.contains(long), "{id}: {drawn}");
        let names: Vec<&str> = chart.table.rows.iter().map(|row| row[0].shown()).collect();
        assert!(names.iter().all(|name| name.contains(short) && !name.contains(long)), "{id}: {names:?}");
    }
}

/// A run that was made again says nothing of its rate: it neither met nor missed the objectives.
#[test]
fn runs_of_a_search_that_were_made_again_are_neither_met_nor_missed() {
    let of = results::read_search(&fixture("search")).unwrap();
    let runs = || of.runs.iter().filter(|run| run.rate.is_some());
    let [met, missed, again] =
        [Some(true), Some(false), None].map(|outcome| runs().filter(|run| run.met == outcome).count());
    assert!(met > 0 && missed > 0 && again > 0, "{met}, {missed}, {again}: all of them are to be seen");
    let document = document("search");
    let tried = chart(&document, "tried");
    let series = &tried.views[0].option["series"];
    let drawn = [0, 1, 2].map(|place| series[place]["data"].as_array().unwrap().len());
    assert_eq!(drawn, [met + missed, met, missed], "the path, dots and crosses");
    assert_eq!(tried.table.rows.len(), runs().count(), "the table has all");
    let says = &tried.says;
    assert!(says.contains(&format!("{met} of {} runs met", met + missed)), "{says}");
    assert!(says.contains(&format!("{again} were made again")), "{says}");
    let text = csv(&document);
    let place = text.lines().next().unwrap().split(',').position(|name| name == "met").unwrap();
    let cells = |cell| text.lines().skip(1).filter(|line| line.split(',').nth(place) == Some(cell)).count();
    assert_eq!(["true", "false", ""].map(cells), [met, missed, again]);
}

/// Winners of a sweep are named with the points that their runs do not tell from them, as in its text.
#[test]
fn winners_of_a_sweep_have_the_caveat_of_its_text() {
    let of = results::read_sweep(&fixture("sweep")).unwrap();
    let text = sweep::render(&of, "results", Style::Plain);
    let document = document("sweep");
    let mut overlapping = 0;
    for (label, line) in
        [("Highest throughput", "Throughput"), ("Lowest p99", "p99"), ("Least CPU per operation", "CPU")]
    {
        let figure = document.figures.iter().find(|figure| figure.label == label).unwrap();
        let line = text.lines().find(|text| text.starts_with(&format!("  {line:<10} "))).unwrap();
        let caveat = line.split_once("; its runs overlap").map_or("", |(_, with)| with);
        let told = figure.remark.split_once("; its runs overlap").map_or("", |(_, with)| with);
        assert_eq!(told, caveat, "{label}: {line}");
        overlapping += usize::from(!caveat.is_empty());
    }
    assert!(overlapping > 0, "{text}");
    let how = &chart(&document, "pareto").how;
    assert!(how.contains("these runs do not say which of the two is the better one"), "{how}");
}

/// A sweep of which it is known what is expected: measured are a quarter more messages and a tenth more bytes, and CPU
/// time grows as the floor does but for one point.
fn sweep_with_expectations() -> Document {
    edited("sweep", results::SWEEP, |sweep| {
        for point in sweep["points"].as_array_mut().unwrap() {
            let is_dear = point["settings"]["clients"] == "1000";
            let figures = &mut point["summary"]["figures"];
            let median = |name: &str| figures[name]["median"].as_f64().unwrap();
            let expected = [
                ("expected_messages_per_op", median("messages_sent_per_op") / 1.25),
                ("expected_bytes_per_op", median("bytes_sent_per_op") / 1.1),
                ("floor_us_per_op", median("cpu_us_per_op") / if is_dear { 16.0 } else { 8.0 }),
            ];
            for (name, value) in expected {
                let spread = serde_json::json!({ "median": value, "lowest": value, "highest": value, "ci95": null });
                figures[name] = spread;
            }
        }
    })
}

#[test]
fn cost_is_drawn_beside_what_is_expected() {
    let document = sweep_with_expectations();
    let drawn = charts(&document);
    let expected = "expected-clients";
    assert_eq!(drawn[3..], ["along-clients", expected, "latency-throughput-clients"]);
    let chart = chart(&document, expected);
    let says = &chart.says;
    assert!(says.starts_with("Farthest from what is expected: messages +25.0 % at clients="), "{says}");
    assert!(
        says.contains(", bytes +10.0 % at clients=") && says.contains(", CPU time 2.0 times at clients=1000"),
        "{says}"
    );
    assert!(chart.how.contains("((n - 1) + (n - 1)² + n (n - 1) + n + n (n - 1) / K) / b"), "{}", chart.how);
    let ratios = |column: usize| chart.table.rows.iter().map(|row| row[column].shown().to_owned()).collect::<Vec<_>>();
    assert!(ratios(4).iter().all(|ratio| ratio == "1.25") && ratios(7).iter().all(|ratio| ratio == "1.10"));
    assert_eq!(ratios(10), ["1.00", "1.00", "1.00", "2.00", "1.00"].repeat(2), "two lines of five points");
    for view in &chart.views {
        let series = view.option["series"].as_array().unwrap();
        let dotted: Vec<_> = series.iter().filter(|one| one["lineStyle"]["type"] == "dotted").collect();
        let name = if view.label.starts_with("CPU") { BY_THE_FLOOR } else { BY_COMPLEXITY };
        assert_eq!(dotted.len(), 2, "{}: one for each line", view.label);
        assert!(
            dotted.iter().all(|one| one["data"].as_array().unwrap().len() == 5 && one["name"] == name),
            "{dotted:?}"
        );
    }
    let files = svgs(&document).unwrap();
    for figure in ["messages_sent_per_op", "bytes_sent_per_op", "cpu_us_per_op"] {
        let (_, text) = files.iter().find(|(name, _)| name.contains(&format!("{expected}-{figure}"))).unwrap();
        let name = if figure.starts_with("cpu") { BY_THE_FLOOR } else { BY_COMPLEXITY };
        assert!(text.contains(name) && !text.contains("NaN"), "{figure}: {text}");
    }
    assert!(markdown(&document).contains("**Cost along clients, beside what is expected**"));
    let rows = csv(&document);
    let columns: Vec<&str> = rows.lines().next().unwrap().split(',').collect();
    for name in ["messages_sent_per_op", "expected_messages_per_op", "expected_cpu_us_per_op_along_clients"] {
        let place = columns.iter().position(|column| *column == name).unwrap_or_else(|| panic!("{name}: {columns:?}"));
        let cells = rows.lines().skip(1).map(|line| line.split(',').nth(place).unwrap());
        assert!(cells.into_iter().all(|cell| cell.parse::<f64>().is_ok_and(|value| value > 0.0)), "{name}: {rows}");
    }
}

/// One line is called what it is: measured.
#[test]
fn one_line_is_measured_the_other_expected() {
    let directory = tempfile::tempdir().unwrap();
    let mut sweep = results::read_sweep(&fixture("sweep")).unwrap();
    sweep.varied.remove(0);
    sweep.points.retain(|point| point.settings["auth"] == "mac");
    for point in &mut sweep.points {
        point.settings.remove("auth");
        let sent = point.summary.figures["messages_sent_per_op"];
        point.summary.figures.insert("expected_messages_per_op".into(), sent);
    }
    let text = serde_json::to_string(&sweep).unwrap();
    std::fs::write(directory.path().join(results::SWEEP), text).unwrap();
    let document = read(directory.path(), &Context::default()).unwrap();
    let [view] = &chart(&document, "expected-clients").views[..] else {
        panic!("only of messages is anything expected")
    };
    let names = view.option["series"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["measured", "measured", BY_COMPLEXITY]);
}

/// What a run's replicas sent is told as its summary tells it, and kind by kind.
#[test]
fn what_replicas_sent_is_told() {
    let changed = edited("run", results::REPORT, |report| {
        report["cpu"]["us_per_op_one_replica"] = 0.5.into();
        report["generator"]["cost_in_replicas"] = 1.5.into();
        report["traffic"] = serde_json::json!({
            "messages_per_op": 34.1, "expected_messages_per_op": 31.0,
            "bytes_per_op": 4000.0, "expected_bytes_per_op": null,
            "parts": [{ "name": "pre_prepare", "messages_per_batch": 3.0, "frame_bytes": null, "messages_per_op": 3.0,
                "bytes_per_op": null }],
        });
    });
    let sent = table(&changed, "What replicas send");
    let rows: Vec<Vec<&str>> = sent.rows.iter().map(|row| row.iter().map(Cell::shown).collect()).collect();
    assert_eq!(rows[0], ["pre-prepare", "3.00", "", "3.00", ""]);
    assert_eq!(rows[1..], [["expected in all", "", "", "31.0", ""], ["sent", "", "", "34.1", "4,000"]]);
    assert!(html(&changed).contains("34.1 messages/op, 1.10 times what message complexity says; 4,000 bytes/op."));
    assert!((figure(&changed, "Cost of the load generator") - 1.5).abs() < 1e-12);
    assert_eq!(value(table(&changed, "Generator honesty"), "CPU time, in that of one replica"), "1.50 times");
    assert!(html(&changed).contains("more than a replica"));
}

#[test]
fn every_chart_becomes_a_picture_without_a_browser() {
    for kind in KINDS {
        let document = document(kind);
        let files = svgs(&document).unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert!(files.len() >= charts(&document).len(), "{kind}");
        for (name, text) in &files {
            let what = format!("{kind}: {name}");
            let drawing = roxmltree::Document::parse(text).unwrap_or_else(|error| panic!("{what}: {error}: {text}"));
            assert_eq!(drawing.root_element().tag_name().name(), "svg", "{what}");
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

/// What people name their sides after is text, whatever is in it.
#[test]
fn pictures_hold_names_as_they_are() {
    let name = r#"a <b> & "c" 'd' ]]>"#;
    let document = edited("comparison", results::COMPARISON, |comparison| {
        for side in comparison["sides"].as_array_mut().unwrap() {
            side["label"] = name.into();
        }
    });
    let mut named = 0;
    for (file, text) in svgs(&document).unwrap() {
        let drawing = roxmltree::Document::parse(&text).unwrap_or_else(|error| panic!("{file}: {error}: {text}"));
        named += drawing.descendants().filter(|node| node.text().is_some_and(|text| text.contains(name))).count();
    }
    assert!(named > 0, "no picture names a side");
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
    assert_eq!(charts(&document), ["latency", "path", "phases", "stages"]);
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
