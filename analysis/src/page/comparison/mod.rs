//! The page of a comparison, from `comparison.json` and the latencies of its runs. [charts] draws.

use std::path::{Component, Path, PathBuf};

use hdrhistogram::Histogram;

use super::Context;
use super::document::{Badge, Block, Cell, Document, Figure, Look, Section, Table};
use super::run::files;
use crate::comparison::figure::Figure as Measured;
use crate::comparison::verdict::{Conclusion, Outcome};
use crate::comparison::{Compared, Comparison, Ratio, Versus, table};
use crate::latency;
use crate::results::{self, ResultsError};
use crate::summary::{count, time};

mod charts;

/// The page of a comparison's directory.
pub(super) fn document(directory: &Path, context: &Context) -> Result<Document, ResultsError> {
    let comparison = results::read_comparison(directory)?;
    let labels: Vec<String> = comparison.sides.iter().map(titled).collect();
    let mut document = Document {
        kind: "a comparison".to_owned(),
        title: labels.join(" against "),
        valid: comparison.withheld.is_empty(),
        verdicts: verdicts(&comparison),
        reasons: comparison.withheld.clone(),
        sentence: sentence(&comparison),
        figures: figures(&comparison),
        rows: rows(&comparison),
        sections: Vec::new(),
    };
    let mut ratios = Section::new("Ratios");
    ratios.blocks.extend(charts::forest(&comparison).map(Block::Chart));
    for versus in &comparison.versus {
        ratios.blocks.push(Block::Notes(versus.figures.iter().map(stated).collect()));
    }
    let mut latency = Section::new("Latency");
    latency.blocks.extend(charts::percentiles(&merged(&comparison, directory)).map(Block::Chart));
    let mut runs = Section::new("Run by run");
    runs.blocks.extend(charts::runs(&comparison).map(Block::Chart));
    runs.blocks.push(Block::Folded("All runs".to_owned(), run_table(&comparison, directory, context)));
    let sections = [ratios, latency, runs, differences(&comparison), notes(&comparison), files(directory, context)];
    document.sections.extend(sections);
    document.sections.retain(|section| !section.blocks.is_empty());
    Ok(document)
}

/// A ratio's statement with what it is about.
fn stated(ratio: &Ratio) -> String {
    format!("{}: {}", ratio.figure.title(), ratio.statement)
}

/// A side's label; of a build's commit as much as tells it from others.
fn labelled(side: &Compared) -> String {
    const COMMIT_CHARS: usize = 12;
    let is_hash = |word: &str| word.len() == 40 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let words = side.label.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
    words
        .map(|word| {
            let bare = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            let end = &word[bare.len()..];
            if is_hash(bare) { format!("{}{end}", &bare[..COMMIT_CHARS]) } else { word.to_owned() }
        })
        .collect()
}

/// A side's label as far as a title has room for it.
fn titled(side: &Compared) -> String {
    elided(&labelled(side), 72)
}

/// A side's label with its name, as far as a legend has room for it on a small screen.
fn legend(side: &Compared) -> String {
    format!("{}: {}", side.name, elided(&labelled(side), 44))
}

/// At most so many characters of a label, from its beginning and its end: settings come first, builds last.
fn elided(label: &str, chars_max: usize) -> String {
    let chars: Vec<char> = label.chars().collect();
    if chars.len() <= chars_max {
        return label.to_owned();
    }
    let (head, tail) = ((chars_max - 1).div_ceil(2), (chars_max - 1) / 2);
    chars[..head].iter().chain(&['…']).chain(&chars[chars.len() - tail..]).collect()
}

/// How a figure is written.
const fn write(figure: Measured) -> fn(f64) -> String {
    match figure {
        Measured::OpsPerS => count,
        Measured::CpuUsPerOp => micros,
        _ => time,
    }
}

fn micros(us: f64) -> String {
    format!("{us:.2} µs")
}

fn headline<'a>(comparison: &Comparison, versus: &'a Versus) -> Option<&'a Ratio> {
    versus.figures.iter().find(|ratio| ratio.figure == comparison.headline)
}

fn verdicts(comparison: &Comparison) -> Vec<Badge> {
    let badge = |word: String, meaning: &str, look| Badge { word, meaning: meaning.to_owned(), look };
    if !comparison.withheld.is_empty() {
        return vec![badge("INCONCLUSIVE".to_owned(), "no conclusion may be drawn, for the reasons below", Look::Bad)];
    }
    let mut badges = Vec::new();
    for versus in &comparison.versus {
        let conclusion = headline(comparison, versus).map_or(Conclusion::Withheld, |ratio| ratio.conclusion);
        let (word, look) = match conclusion {
            Conclusion::Withheld => ("INCONCLUSIVE", Look::Bad),
            Conclusion::TooFewRuns => ("TOO FEW RUNS", Look::Bad),
            Conclusion::NoDifferenceFound => ("NO DIFFERENCE FOUND", Look::Neutral),
            Conclusion::Equivalent => ("EQUIVALENT", Look::Good),
            Conclusion::BelowMargin => ("BELOW THE MARGIN", Look::Good),
            Conclusion::Better => ("BETTER", Look::Good),
            Conclusion::Worse => ("WORSE", Look::Neutral),
        };
        // Not the same words twice.
        let meaning = versus.statement.strip_prefix(&word.to_lowercase()).unwrap_or(&versus.statement).trim_start();
        badges.push(badge(format!("{}: {word}", versus.other), meaning, look));
    }
    if let Some(gate) = &comparison.gate {
        let (word, look) = match gate.outcome {
            Outcome::Passed => ("PASSED", Look::Good),
            Outcome::Inconclusive => ("INCONCLUSIVE", Look::Bad),
            Outcome::Slower => ("SLOWER", Look::Bad),
        };
        badges.push(badge(word.to_owned(), &gate.statement, look));
    }
    badges
}

fn sentence(comparison: &Comparison) -> String {
    let sides: Vec<String> = comparison
        .sides
        .iter()
        .map(|side| format!("{} is {} ({} runs)", side.name, labelled(side), side.runs.len()))
        .collect();
    let made = match comparison.rounds {
        Some(rounds) => format!("The runs were made in {rounds} rounds, each with one of every side."),
        None => "The runs were not made side by side.".to_owned(),
    };
    let (confidence, margin) = (comparison.confidence_percent, comparison.margin_percent);
    let decides = comparison.headline.title();
    format!(
        "{}. {made} What decides is {decides}; intervals are of {confidence} % confidence, and differences up to {margin} % \
         are said not to matter.",
        sides.join("; ")
    )
}

fn figures(comparison: &Comparison) -> Vec<Figure> {
    let decides = comparison.headline;
    let of_side = comparison.sides.iter().map(|side| Figure {
        label: format!("{}: {}", side.name, decides.title()),
        value: Cell::number(side.values.get(decides), write(decides)),
        remark: labelled(side),
    });
    let of_ratio = comparison.versus.iter().filter_map(|versus| {
        let ratio = headline(comparison, versus)?;
        let remark = match ratio.interval {
            Some([low, high]) => format!("interval {low:.3} to {high:.3}"),
            None => "no interval: too few runs".to_owned(),
        };
        let label = format!("{} / {}", versus.other, versus.base);
        Some(Figure { label, value: Cell::number(ratio.ratio, |ratio| format!("{ratio:.3} ×")), remark })
    });
    of_side.chain(of_ratio).collect()
}

/// The latencies of each side whose runs' logs are all there, merged.
fn merged(comparison: &Comparison, directory: &Path) -> Vec<(String, Histogram<u64>)> {
    let sides = comparison.sides.iter().filter_map(|side| {
        let log = |text: &String| std::fs::read(locate(directory, text)?.join(results::LATENCY)).ok();
        let logs: Vec<Vec<u8>> = side.runs.iter().map(|run| log(&run.directory)).collect::<Option<_>>()?;
        let merged = latency::merge(logs.iter().map(Vec::as_slice)).ok()?;
        Some((legend(side), merged))
    });
    sides.collect()
}

/// A run's directory: the end of its path that lies in the comparison's directory, so that both can be moved together;
/// else as it was given.
fn locate(directory: &Path, text: &str) -> Option<PathBuf> {
    let parts: Vec<Component<'_>> = Path::new(text).components().collect();
    let ends = (0..parts.len()).map(|from| directory.join(parts[from..].iter().collect::<PathBuf>()));
    ends.chain([PathBuf::from(text)]).find(|path| path.join(results::REPORT).exists())
}

/// The address of a run's page, if it lies within the comparison's directory.
fn page_of(directory: &Path, context: &Context, text: &str) -> Option<String> {
    let place = locate(directory, text)?;
    let within = place.strip_prefix(directory).ok()?;
    let plain = within.components().all(|part| matches!(part, Component::Normal(_)));
    plain.then(|| format!("{}{}/{}", context.files_at, within.display(), results::PAGE))
}

fn run_table(comparison: &Comparison, directory: &Path, context: &Context) -> Table {
    let mut table = Table::new("", &["side", "round", "run", "state"]);
    table.columns.extend(Measured::ALL.map(|figure| figure.title().to_owned()));
    for side in &comparison.sides {
        for (index, run) in side.runs.iter().enumerate() {
            if !run.valid {
                table.bad.push(table.rows.len());
            }
            let name = run.directory.clone();
            let link = page_of(directory, context, &name);
            let state = if run.valid { "VALID".to_owned() } else { format!("INVALID: {}", run.reasons.join("; ")) };
            let mut row = vec![
                Cell::text(side.name.clone()),
                Cell::whole(run.round.unwrap_or(index + 1) as u64),
                link.map_or_else(|| Cell::text(name.clone()), |link| Cell::Link(name.clone(), link)),
                Cell::Text(state),
            ];
            row.extend(Measured::ALL.map(|figure| Cell::number(run.values.get(figure), write(figure))));
            table.push(row);
        }
    }
    table
}

/// In what the sides differ: if it is more than what was to be compared, the comparison is not of that alone.
fn differences(comparison: &Comparison) -> Section {
    let section = Section::new("What differs");
    if comparison.differences.is_empty() {
        return section.with(Block::Text("The sides have the same settings, machine and build.".to_owned()));
    }
    let mut table = Table::new("Settings, machine and build in which the sides differ", &["what", "kind"]);
    table.columns.extend(comparison.sides.iter().map(|side| side.name.clone()));
    for difference in &comparison.differences {
        let mut row = vec![Cell::text(difference.name.clone()), Cell::text(difference.kind.clone())];
        row.extend(difference.values.iter().cloned().map(Cell::Text));
        row.resize(table.columns.len(), Cell::Nothing);
        table.push(row);
    }
    section.with(Block::Table(table))
}

fn notes(comparison: &Comparison) -> Section {
    let section = Section::new("Methods and notes");
    let mut methods: Vec<String> = Vec::new();
    for ratio in comparison.versus.iter().flat_map(|versus| &versus.figures) {
        let method = format!("{}: {}", ratio.figure.title(), ratio.method);
        if !methods.contains(&method) {
            methods.push(method);
        }
    }
    let section = section.with(Block::Notes(methods));
    if comparison.notes.is_empty() { section } else { section.with(Block::Notes(comparison.notes.clone())) }
}

/// A row for each ratio, for programs.
fn rows(comparison: &Comparison) -> Table {
    // The same as comparison.csv, under the same names.
    let columns: Vec<&str> = table::COLUMNS.trim().split(',').collect();
    let mut table = Table::new("", &columns);
    let number = |value: Option<f64>| Cell::number(value, |value| value.to_string());
    for versus in &comparison.versus {
        let value = |name: &str, figure| {
            let side = comparison.sides.iter().find(|side| side.name == name);
            number(side.map(|side| side.values.get(figure)))
        };
        for ratio in &versus.figures {
            let conclusion = serde_json::to_value(ratio.conclusion).ok();
            let conclusion = conclusion.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
            table.push(vec![
                Cell::text(versus.base.clone()),
                Cell::text(versus.other.clone()),
                Cell::text(ratio.figure.name()),
                value(&versus.base, ratio.figure),
                value(&versus.other, ratio.figure),
                number(ratio.ratio),
                number(ratio.interval.map(|[low, _]| low)),
                number(ratio.interval.map(|[_, high]| high)),
                number(ratio.p_value),
                Cell::Text(conclusion),
            ]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_keep_both_ends_and_twelve_characters_of_a_commit() {
        let side = |label: &str| Compared { name: "B".into(), label: label.into(), ..Compared::default() };
        let hash = "0123456789abcdef0123456789abcdef01234567";
        let build = side(&format!("auth=mac (hippodrome 0.1.0 (release, commit {hash}))"));
        assert_eq!(labelled(&build), "auth=mac (hippodrome 0.1.0 (release, commit 0123456789ab))");
        assert_eq!(legend(&build), "B: auth=mac (hippodrome 0…commit 0123456789ab))");
        assert_eq!(legend(&build).chars().count(), 3 + 44);
        // What is no commit is left alone.
        for label in ["auth=mac", &hash[1..], &format!("{hash}x"), "größer = \"é\" 0123 ()"] {
            assert_eq!(labelled(&side(label)), label);
        }
        assert_eq!(elided("äbcdefgh", 5), "äb…gh");
    }

    #[test]
    fn runs_are_found_where_the_comparison_was_moved_to() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("runs/a r1");
        std::fs::create_dir_all(&run).unwrap();
        std::fs::write(run.join(results::REPORT), "{}").unwrap();
        let found = locate(folder.path(), "/elsewhere/results/x/runs/a r1");
        assert_eq!(found.as_deref(), Some(run.as_path()));
        assert_eq!(locate(folder.path(), "/elsewhere/none"), None);
        let page = page_of(folder.path(), &Context::default(), "results/x/runs/a r1");
        assert_eq!(page.as_deref(), Some("runs/a r1/report.html"));
        let given = run.display().to_string();
        let other = tempfile::tempdir().unwrap();
        assert_eq!(locate(other.path(), &given).as_deref(), Some(run.as_path()), "as it was given");
        assert_eq!(page_of(other.path(), &Context::default(), &given), None, "not within");
    }
}
