//! Documents that drift from the code break the build: every path and link in them leads somewhere, every command and
//! option is one of the binary's, and the pages that list names or fields list all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hippodrome_analysis::attribution::{Attribution, Part, PartShare, rows};
use hippodrome_analysis::comparison::differences::Difference;
use hippodrome_analysis::comparison::verdict::{Conclusion, Gate, Outcome};
use hippodrome_analysis::comparison::{Compared, ComparedRun, Comparison, Ratio, Versus, figure, table};
use hippodrome_analysis::report::{Fault, Replica, Report, Stage, ThreadUse};
use hippodrome_analysis::roofline::{COMPONENTS, Component, Efficiency, SWITCH};
use hippodrome_analysis::scorecard::{Injected, Score, Scorecard, Timeline, ViewSample};
use hippodrome_analysis::search::curve::Knee;
use hippodrome_analysis::search::limit::{Confirmed, Found, Phase};
use hippodrome_analysis::search::objective::{Objective, Tail};
use hippodrome_analysis::search::{self, Search};
use hippodrome_analysis::sweep::scaling::{Beside, Curve, CurvePoint, FIGURES, Farthest};
use hippodrome_analysis::sweep::{self, Excluded, Figures, Point, Run, Spread, Summary, Sweep, Varied};
use hippodrome_analysis::traffic::{KINDS, Sent, Traffic};
use hippodrome_analysis::{results, series};
use hippodrome_engine::auth::strategies::{About, Reach, Strategy};
use hippodrome_engine::byzantine;
use hippodrome_engine::protocol::batching::{Batching, STRATEGIES};
use hippodrome_engine::protocol::planted::Planted;
use hippodrome_engine::settings::{Authentication, PlacedStage, Placement};
use hippodrome_loadgen::hostile;
use hippodrome_loadgen::report::{LoadReport, SecondSample};
use hippodrome_sim::check::Checker;
use hippodrome_sim::plan::Plan;
use serde_json::Value;

use crate::markdown::{anchors, block_lines, code, first_column, options, quoted, section};

mod markdown;

/// Documents outside of `docs/`, where all are.
const ELSEWHERE: [&str; 5] = ["ARCHITECTURE.md", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "fuzz/README.md"];
const FOLDERS: [&str; 8] = ["sim/", "fuzz/", "engine/", "loadgen/", "analysis/", "bench/", "docs/", ".ci/"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(document: &str) -> String {
    fs::read_to_string(root().join(document)).unwrap_or_else(|error| panic!("{document}: {error}"))
}

/// The files in a folder whose names end so, without their folder.
fn files(folder: &str, ending: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(ending)).collect();
    names.sort();
    assert!(!names.is_empty(), "{folder}: no files that end with {ending}");
    names
}

/// All documents with their texts. Commands that cargo runs are written as whoever has the binary types them, each on
/// one line.
fn documents() -> Vec<(String, String)> {
    let pages = files("docs", ".md").into_iter().map(|name| format!("docs/{name}"));
    let names = ELSEWHERE.into_iter().map(str::to_owned).chain(pages);
    let typed = |text: &str| text.replace("cargo run --release -- ", "hippodrome ").replace("\\\n", " ");
    names.map(|name| (name.clone(), typed(&read(&name)))).collect()
}

/// What links of a document lead nowhere. `document` is where it lies.
fn dead_links(document: &str, text: &str) -> Vec<String> {
    let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let is_dead = |link: &&str| {
        let (file, anchor) = link.split_once('#').map_or((*link, None), |(file, anchor)| (file, Some(anchor)));
        if file.contains("://") {
            return false;
        }
        let path = root().join(document).parent().unwrap().join(file);
        let target = if file.is_empty() { Some(text.to_owned()) } else { fs::read_to_string(&path).ok() };
        let is_there = file.is_empty() || path.exists();
        !is_there || anchor.is_some_and(|anchor| !target.is_some_and(|target| anchors(&target).contains(anchor)))
    };
    links.filter(is_dead).map(str::to_owned).collect()
}

fn help(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_hippodrome")).args(arguments).arg("--help").output().unwrap();
    assert!(output.status.success(), "{arguments:?} --help");
    String::from_utf8(output.stdout).unwrap()
}

/// The binary's commands, each with the options that its help describes.
fn commands() -> BTreeMap<String, BTreeSet<String>> {
    let text = help(&[]);
    let listed = text.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = listed.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    let described = |command: &str| {
        let help = help(&[command]);
        // An option's own line begins with it; elsewhere it is only mentioned.
        let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
        lines.flat_map(options).collect()
    };
    names.map(|name| (name.to_owned(), described(name))).collect()
}

/// What a text asks of the binary that it does not have: commands in blocks of code, and options in any code.
fn unknown(text: &str, commands: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let invoked = |code: &str| {
        let rest = code.trim_start_matches("$ ").strip_prefix("hippodrome ")?;
        rest.split_whitespace().next().filter(|word| !word.starts_with('-')).map(str::to_owned)
    };
    let mut unknown = Vec::new();
    for line in block_lines(text) {
        let command = invoked(line).filter(|command| !commands.contains_key(command));
        unknown.extend(command.map(|command| format!("no command {command}: {line}")));
    }
    for code in code(text) {
        // What cargo and rustup are told is theirs.
        if ["cargo ", "rustup "].iter().any(|tool| code.contains(tool)) {
            continue;
        }
        let allowed = invoked(code).and_then(|command| commands.get(&command));
        let is_known = |option: &String| match allowed {
            Some(allowed) => allowed.contains(option),
            None => commands.values().any(|allowed| allowed.contains(option)),
        };
        let options = options(code).into_iter().filter(|option| !is_known(option));
        unknown.extend(options.map(|option| format!("no option {option}: {code}")));
    }
    unknown
}

/// The names of all fields of a value, those of tables in lists included.
fn fields(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(table) => table.iter().for_each(|(name, value)| {
            names.insert(name.clone());
            fields(value, names);
        }),
        Value::Array(list) => list.iter().for_each(|value| fields(value, names)),
        _ => {}
    }
}

/// Both ways: the first column of these tables lists all these names, and none besides.
fn assert_lists<'a>(document: &str, heading: &str, names: impl IntoIterator<Item = &'a str>) {
    let text = read(document);
    assert_eq!(first_column(&text, heading), names.into_iter().collect(), "{document}: tables of each {heading}");
}

fn assert_names_all<'a>(document: &str, names: impl IntoIterator<Item = &'a str>) {
    let text = read(document);
    let quoted: BTreeSet<&str> = quoted(&text).into_iter().collect();
    for name in names {
        assert!(quoted.contains(name), "{document} does not name `{name}`");
    }
}

#[test]
fn paths_in_documents_exist() {
    let mut checked = 0;
    for (document, text) in documents() {
        for path in quoted(&text).into_iter().filter(|path| FOLDERS.iter().any(|folder| path.starts_with(folder))) {
            assert!(root().join(path).exists(), "{document} names `{path}`, which does not exist");
            checked += 1;
        }
    }
    assert!(checked > 80, "only {checked} paths were found: are they still in backquotes?");
}

#[test]
fn links_in_documents_lead_somewhere() {
    for (document, text) in documents() {
        assert_eq!(dead_links(&document, &text), [""; 0], "{document}");
    }
    let text = "# A heading, of two `words`\n[a](wire.md) [b](none.md) [c](../README.md#two-commands) \
                [d](../README.md#three-commands) [e](#a-heading-of-two-words) [f](#none) [g](https://example.com/x#y)";
    assert_eq!(dead_links("docs/page.md", text), ["none.md", "../README.md#three-commands", "#none"]);
}

/// Comments are documents too. rustfmt, which keeps code within its width, does not look at them.
#[test]
fn comments_stay_within_the_width_of_code() {
    let width = read("rustfmt.toml").lines().find_map(|line| line.strip_prefix("max_width = ")?.parse().ok());
    let width: usize = width.expect("rustfmt.toml says how wide code is");
    let mut folders: Vec<PathBuf> =
        ["engine", "loadgen", "analysis", "bench", "sim", "fuzz"].map(|name| root().join(name)).into();
    let (mut lines, mut wide) = (0, Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                folders.extend((entry.file_name() != "target").then_some(path));
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| line.trim_start().starts_with("//")) {
                    lines += 1;
                    if line.chars().count() > width {
                        wide.push(format!("{}:{number}", path.display()));
                    }
                }
            }
        }
    }
    assert!(lines > 5_000, "comments are found: {lines}");
    assert!(wide.is_empty(), "wider than {width}: {wide:#?}");
}

#[test]
fn every_page_is_listed_in_the_readme() {
    let readme = read("README.md");
    for (document, _) in documents() {
        assert!(document == "README.md" || readme.contains(&format!("]({document})")), "README.md lacks {document}");
    }
}

#[test]
fn commands_and_options_in_documents_exist() {
    let commands = commands();
    assert!(commands.len() > 4 && commands["run"].contains("--replicas"), "{commands:?}");
    let mut shown = 0;
    for (document, text) in documents() {
        assert_eq!(unknown(&text, &commands), [""; 0], "{document}");
        shown += block_lines(&text).filter(|line| line.starts_with("hippodrome ")).count();
    }
    assert!(shown > 30, "only {shown} lines that run the binary were found in blocks of code");
    let text =
        "```\n$ hippodrome run --seeds 3\nhippodrome fly\n```\n`hippodrome sim --seeds 3`, `--wings 2`, `--help`";
    let expected = [
        "no command fly: hippodrome fly",
        "no option --seeds: $ hippodrome run --seeds 3",
        "no option --wings: --wings 2",
    ];
    assert_eq!(unknown(text, &commands), expected);
}

#[test]
fn pages_name_everything_that_they_are_about() {
    let adversaries = byzantine::Kind::ALL.iter().map(|kind| kind.name());
    assert_lists("docs/adversaries.md", "kind", adversaries.chain(hostile::Kind::ALL.iter().map(|kind| kind.name())));
    assert_lists("docs/simulator.md", "planted bug", Planted::ALL.iter().map(|bug| bug.name()));
    assert_lists("docs/simulator.md", "checker", Checker::ALL.iter().map(|checker| checker.name()));
    let mut fields_of_plans = BTreeSet::new();
    for seed in 0..200 {
        fields(&serde_json::to_value(Plan::draw(seed)).unwrap(), &mut fields_of_plans);
    }
    let plan = serde_json::to_value(Plan::draw(0)).unwrap();
    assert_lists("docs/simulator.md", "field", plan.as_object().unwrap().keys().map(String::as_str));
    let simulator = read("docs/simulator.md");
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let words: BTreeSet<&str> = quoted(&simulator).into_iter().flat_map(|code| code.split(|c| !is_part(c))).collect();
    for field in &fields_of_plans {
        assert!(words.contains(field.as_str()), "docs/simulator.md does not name {field}, a field of plans");
    }
    let experiments = files("bench/experiments", ".toml");
    assert_lists("docs/experiments.md", "name", experiments.iter().map(|name| name.trim_end_matches(".toml")));
    let scenarios = files("bench/scenarios", ".toml");
    assert_names_all("docs/scenarios.md", scenarios.iter().map(|name| name.trim_end_matches(".toml")));
}

/// A sweep with one of everything.
fn sweep_with_all() -> Sweep {
    let run = Run { figures: Some(Figures::default()), ..Run::default() };
    let figures = BTreeMap::from([("ops_per_s".to_owned(), Spread::default())]);
    let summary = Summary { figures, ..Summary::default() };
    let on_curve = CurvePoint {
        figures: FIGURES.map(|figure| (figure.to_owned(), Beside::default())).into(),
        ..CurvePoint::default()
    };
    let curve = Curve {
        points: vec![on_curve],
        farthest: FIGURES.map(|figure| (figure.to_owned(), Farthest::default())).into(),
        ..Curve::default()
    };
    Sweep {
        varied: vec![Varied::default()],
        excluded: vec![Excluded::default()],
        points: vec![Point { runs: vec![run], summary, ..Point::default() }],
        scaling: vec![curve],
        ..Sweep::default()
    }
}

#[test]
fn every_batching_strategy_has_a_row_and_a_section() {
    let page = read("docs/strategies.md");
    let page = section(&page, "Batching");
    let listed = first_column(page, "`--batch`");
    let default = "adaptive:1024,8";
    assert_eq!(Batching::default().to_string(), default);
    let expected: BTreeSet<&str> = STRATEGIES.iter().map(|strategy| strategy.usage).chain([default]).collect();
    assert_eq!(listed, expected, "docs/strategies.md");
    for strategy in STRATEGIES {
        assert!(page.contains(&format!("\n### {}\n", strategy.name)), "no section on {}", strategy.name);
    }
    let help = help(&["run"]);
    for strategy in STRATEGIES {
        // The help is wrapped at some width.
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
        for text in [strategy.usage, strategy.summary, strategy.allowed] {
            assert!(words(&help).contains(&words(text)), "run --help lacks: {text}");
        }
    }
}

#[test]
fn every_placement_is_described() {
    let page = read("docs/strategies.md");
    let names: BTreeSet<&str> = quoted(section(&page, "Placement")).into_iter().collect();
    for name in PlacedStage::ALL.iter().map(|stage| stage.name()).chain(["auto", "fused", "pipelined"]) {
        assert!(names.contains(name), "docs/strategies.md does not name `{name}`");
    }
    // What is shown there, and allowed, is what can be given.
    let examples = ["network+egress@2,verify@3,verify@4,order+execute@5", "0,1,2,2,3,4"];
    for example in examples {
        assert!(names.contains(example) && Placement::ALLOWED.contains(example), "{example}");
        assert_eq!(example.parse::<Placement>().unwrap().to_string(), example);
    }
}

/// One list of exit codes: on a page, and in the help of the binary and of all its commands.
#[test]
fn exit_codes_are_the_same_everywhere() {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let listed = |text: &str| words(text.split_once("Exit codes:").expect("exit codes").1);
    let page = read("docs/command-line.md");
    let expected = listed(block_lines(&page).collect::<Vec<_>>().join("\n").split("\nhippodrome ").next().unwrap());
    for code in ["0", "1", "2", "3", "4", "130"] {
        assert!(expected.iter().any(|word| word == code), "{expected:?}");
    }
    let commands = commands();
    for arguments in std::iter::once(vec![]).chain(commands.keys().map(|name| vec![name.as_str()])) {
        assert_eq!(listed(&help(&arguments)), expected, "{arguments:?} --help");
    }
}

#[test]
fn every_check_of_the_doctor_is_described() {
    let output = Command::new(env!("CARGO_BIN_EXE_hippodrome")).args(["doctor", "--json", "--out", "/tmp"]).output();
    let findings: Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    let checks = findings["checks"].as_array().unwrap();
    assert_lists("docs/command-line.md", "check", checks.iter().map(|check| check["name"].as_str().unwrap()));
    let mut names = BTreeSet::new();
    fields(&findings, &mut names);
    assert_names_all("docs/command-line.md", names.iter().map(String::as_str));
}

/// The example of a batching strategy is compiled and tested: what CONTRIBUTING.md shows is that very file.
#[test]
fn the_example_in_contributing_is_the_code_that_is_tested() {
    let page = read("CONTRIBUTING.md");
    let example = read("engine/src/protocol/batching/half.rs");
    assert!(page.contains(&format!("```rust\n{example}```\n")), "CONTRIBUTING.md and half.rs differ");
    let line = "    #[cfg(test)] half, // the example of CONTRIBUTING.md\n";
    assert!(page.contains(line) && read("engine/src/protocol/batching/mod.rs").contains(line));
}

#[test]
fn every_authentication_strategy_is_described_as_it_describes_itself() {
    let page = read("docs/strategies.md");
    let described = section(&page, "Authentication");
    let names: BTreeSet<&str> = Strategy::all().map(Strategy::name).collect();
    assert_eq!(first_column(described, "strategy"), names, "docs/strategies.md: tables of each strategy");
    for strategy in Strategy::all() {
        let About { name, summary, keys, proof_bytes, reach, .. } = strategy.about();
        let whom = match reach {
            Reach::Nobody => "nobody",
            Reach::Receiver => "its receiver",
            Reach::Everybody => "everybody",
        };
        let row = format!("\n| `{name}` | {summary} | {proof_bytes} | {whom} | {keys} |\n");
        assert!(described.contains(&row), "docs/strategies.md lacks the row {row}");
        assert_eq!(described.matches(&format!("\n| `{name}` |")).count(), 2, "{name}: what it is and what it costs");
    }
    assert_names_all("docs/wire.md", names);
    assert_names_all(
        "docs/strategies.md",
        Authentication::presets().chain(Strategy::all().flat_map(|s| s.about().aliases).copied()),
    );
}

#[test]
fn every_field_of_the_results_is_described() {
    let report = Report {
        replicas: vec![Replica {
            stages: vec![Stage::default()],
            threads: vec![ThreadUse::default()],
            ..Replica::default()
        }],
        attribution: Some(Attribution { parts: vec![PartShare::default()], ..Attribution::default() }),
        faults: vec![Fault::default()],
        scorecard: Some(Scorecard { faults: vec![Score::default()], ..Scorecard::default() }),
        traffic: Some(Traffic { parts: vec![Sent::default()], ..Traffic::default() }),
        efficiency: Some(Efficiency { components: vec![Component::default()], ..Efficiency::default() }),
        ..Report::default()
    };
    let load = LoadReport { seconds: vec![SecondSample::default()], ..LoadReport::default() };
    let mut names = BTreeSet::new();
    fields(&serde_json::to_value(report).unwrap(), &mut names);
    fields(&serde_json::to_value(load).unwrap(), &mut names);
    let timeline =
        Timeline { views: vec![ViewSample::default()], faults: vec![Injected::default()], ..Timeline::default() };
    let timeline = serde_json::to_value(timeline).unwrap();
    fields(&timeline, &mut names);
    fields(&serde_json::to_value(sweep_with_all()).unwrap(), &mut names);
    for columns in [series::to_csv(&[]), rows::to_csv(&[]), sweep::to_csv(&Sweep::default())] {
        names.extend(columns.trim().split(',').map(str::to_owned));
    }
    fields(&search(), &mut names);
    let (comparison, columns) = comparison();
    fields(&comparison, &mut names);
    names.extend(columns.iter().cloned());
    assert!(names.len() > 100, "only {} fields", names.len());
    assert_names_all("docs/results.md", names.iter().map(String::as_str));
    let page = read("docs/results.md");
    for heading in ["field", "column", "reason"] {
        let listed = first_column(&page, heading);
        assert!(!listed.is_empty(), "docs/results.md has no table of each {heading}");
        let unknown: Vec<&&str> = listed.iter().filter(|name| !names.contains(**name)).collect();
        assert!(unknown.is_empty(), "docs/results.md describes what is no {heading}: {unknown:?}");
    }
    // Most of its names are others', too, so the page's other tables do not count.
    let own = section(&page, results::TIMELINE);
    let listed: BTreeSet<&str> = timeline.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(first_column(own, "field"), listed, "docs/results.md: {}", results::TIMELINE);
    let swept = serde_json::to_value(sweep_with_all()).unwrap();
    let mut of_sweeps = BTreeSet::new();
    fields(&swept, &mut of_sweeps);
    let own: BTreeSet<&str> = quoted(section(&page, results::SWEEP)).into_iter().collect();
    // What its environment holds is said of reports.
    for part in swept["environment"].as_object().unwrap().keys() {
        of_sweeps.remove(part);
    }
    for field in &of_sweeps {
        assert!(own.contains(field.as_str()), "docs/results.md: {} does not name `{field}`", results::SWEEP);
    }
    let of_many_runs = [results::SWEEP, results::SWEEP_CSV, results::SWEEP_MARKDOWN, results::PLAN, results::TRIAL];
    assert_names_all("docs/results.md", of_many_runs);
    assert_lists("docs/where-time-goes.md", "part", Part::ALL.iter().map(|part| part.name()));
    assert_lists("docs/roofline.md", "component", COMPONENTS.into_iter().chain([SWITCH]));
    assert_lists("docs/experiments.md", "message", KINDS);
    let files = [results::REPORT, results::CONFIG, results::SERIES, results::LOAD, results::LATENCY, results::CLUSTER];
    let of_comparisons = [results::COMPARISON, results::COMPARISON_MARKDOWN, results::COMPARISON_CSV, results::SEARCH];
    let of_some_runs = [results::NETWORK, results::SCENARIO, results::TIMELINE, results::LOGS, results::ATTRIBUTION];
    let of_some_runs = of_some_runs.into_iter().chain([results::SAMPLES, results::PAGE]);
    assert_names_all("docs/results.md", files.into_iter().chain(of_some_runs).chain(of_comparisons));
}

/// A search with all of its fields.
fn search() -> Value {
    let end = Some(Confirmed::default());
    let search = Search {
        objectives: vec![Objective::default()],
        found: Found { confirmed: end, refuted: end },
        knee: Some(Knee::default()),
        runs: vec![search::Run::default()],
        ..Search::default()
    };
    serde_json::to_value(search).unwrap()
}

#[test]
fn everything_in_a_search_is_described() {
    let page = read("docs/results.md");
    let own = section(&page, results::SEARCH);
    let mut names = BTreeSet::new();
    let mut search = search();
    // Described with the report's own, and the comparison's.
    search["environment"] = Value::Null;
    search["runs"][0]["values"] = Value::Null;
    fields(&search, &mut names);
    names.extend(Tail::ALL.map(|tail| tail.name().to_owned()));
    let phases = [Phase::Growth, Phase::Bisection, Phase::Confirmation, Phase::Curve];
    names.extend(phases.map(|phase| serde_json::to_value(phase).unwrap().as_str().unwrap().to_owned()));
    let words: BTreeSet<&str> = quoted(own).into_iter().collect();
    for name in &names {
        assert!(words.contains(name.as_str()), "docs/results.md, {}, does not name `{name}`", results::SEARCH);
    }
}

#[test]
fn everything_in_a_comparison_is_described() {
    let (comparison, columns) = comparison();
    let page = read("docs/results.md");
    let own = section(&page, results::COMPARISON);
    assert_eq!(first_column(own, "column"), columns.iter().map(String::as_str).collect());
    let mut names = BTreeSet::new();
    fields(&comparison, &mut names);
    names.extend(figure::Figure::ALL.map(|figure| figure.name().to_owned()));
    let conclusions = Conclusion::ALL.map(|conclusion| serde_json::to_value(conclusion).unwrap());
    let outcomes = [Outcome::Passed, Outcome::Inconclusive, Outcome::Slower];
    let outcomes = outcomes.map(|outcome| serde_json::to_value(outcome).unwrap());
    names.extend(conclusions.iter().chain(&outcomes).map(|name| name.as_str().unwrap().to_owned()));
    let words: BTreeSet<&str> = quoted(own).into_iter().collect();
    for name in &names {
        assert!(words.contains(name.as_str()), "docs/results.md, {}, does not name `{name}`", results::COMPARISON);
    }
}

/// A comparison with all of its fields, and the columns of its table.
fn comparison() -> (Value, Vec<String>) {
    let sides = vec![Compared { runs: vec![ComparedRun::default()], ..Compared::default() }];
    let versus = vec![Versus { figures: vec![Ratio::default()], ..Versus::default() }];
    let (differences, gate) = (vec![Difference::default()], Some(Gate::default()));
    let comparison = Comparison { sides, versus, differences, gate, ..Comparison::default() };
    let columns = table::COLUMNS.trim().split(',').map(str::to_owned).collect();
    (serde_json::to_value(comparison).unwrap(), columns)
}

#[test]
fn experiments_have_as_many_runs_as_their_page_says() {
    let page = read("docs/experiments.md");
    for name in files("bench/experiments", ".toml").iter().map(|name| name.trim_end_matches(".toml")) {
        let output =
            Command::new(env!("CARGO_BIN_EXE_hippodrome")).args(["sweep", name, "--dry-run"]).output().unwrap();
        assert!(output.status.success(), "{name}");
        let told = String::from_utf8(output.stdout).unwrap();
        let (runs, _) = told.lines().last().and_then(|line| line.split_once(" runs, about ")).unwrap();
        // The page counts those runs, too, for which this machine lacks cores.
        let repeats = told.split(" points, ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
        let lacking =
            told.lines().filter(|line| line.starts_with("left out: ") && line.contains(": it needs ")).count();
        let runs = (runs.parse::<usize>().unwrap() + lacking * repeats.parse::<usize>().unwrap()).to_string();
        let row = page.lines().find(|line| line.starts_with(&format!("| `{name}` |"))).unwrap();
        let cells: Vec<&str> = row.split(" | ").collect();
        assert_eq!(cells[cells.len() - 2], runs, "docs/experiments.md: runs of {name}");
    }
    let told = Command::new(env!("CARGO_BIN_EXE_hippodrome")).args(["sweep", "cores", "--dry-run"]).output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    let cores = std::thread::available_parallelism().unwrap().get();
    let lacking = "placement=network,verify,verify,verify,verify,order,execute,egress: it needs 16 cores, and";
    assert_eq!(told.contains(&format!("{lacking} {cores} may be used here\n")), cores < 16, "{told}");
}
