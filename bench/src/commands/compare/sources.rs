//! Runs that were made before: a results directory, a directory that holds several, or those of its runs that have
//! certain settings.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, ensure};
use hippodrome_analysis::comparison::{Run, Side};
use hippodrome_analysis::{latency, results};
use serde_json::Value;

use crate::cli::compare::PAIRS_MAX;
use crate::experiment::journal::RUNS;
use crate::experiment::point::{self, Setting};

/// How deep results directories are looked for.
const DEPTH_MAX: usize = 4;
/// Most runs of one side: as many as can be compared by the exact methods in seconds.
const RUNS_MAX: usize = PAIRS_MAX as usize;

/// What may be given as results.
const ALLOWED: &str = "allowed: a run's results directory, which holds report.json, or one that holds some of these (what \
                       stress --all, sweep, compare and search leave behind)";

/// One side, as it is typed: `DIR` or `DIR:KEY=VALUE[,KEY=VALUE..]`.
#[derive(Debug, PartialEq, Eq)]
struct Source {
    directory: PathBuf,
    settings: Vec<(String, String)>,
}

/// Reads all sides.
///
/// # Errors
/// Names the directory or the file that can not be read, and settings that no run has.
pub(super) fn read(texts: &[String]) -> anyhow::Result<Vec<Side>> {
    let sources: Vec<Source> = texts.iter().map(|text| Source::parse(text)).collect();
    // Rounds of one experiment are those of all its runs; those of two have nothing to do with each other.
    let directory = &sources[0].directory;
    let is_one = sources.iter().all(|source| source.directory == *directory);
    let read = |(source, text): (&Source, &String)| source.read(is_one).with_context(|| text.clone());
    sources.iter().zip(texts).map(read).collect()
}

impl Source {
    /// The first colon with a key and an equals sign behind it ends the directory, unless all of it is one.
    fn parse(text: &str) -> Self {
        let is_key =
            |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
        let begins_setting = |text: &str| text.split_once('=').is_some_and(|(key, _)| is_key(key));
        let colon = text.match_indices(':').map(|(at, _)| at).find(|at| begins_setting(&text[at + 1..]));
        let Some(colon) = colon.filter(|_| !Path::new(text).exists()) else {
            return Self { directory: text.into(), settings: Vec::new() };
        };
        let mut settings: Vec<(String, String)> = Vec::new();
        for part in text[colon + 1..].split(',') {
            match part.split_once('=').filter(|(key, _)| is_key(key)) {
                Some((key, value)) => settings.push((key.to_owned(), value.to_owned())),
                // A comma inside a value.
                None => {
                    if let Some((_, value)) = settings.last_mut() {
                        value.push(',');
                        value.push_str(part);
                    }
                }
            }
        }
        Self { directory: text[..colon].into(), settings }
    }

    fn read(&self, with_rounds: bool) -> anyhow::Result<Side> {
        let mut directories = Vec::new();
        find(&self.directory, DEPTH_MAX, &mut directories)?;
        ensure!(!directories.is_empty(), "there is no run in it; {ALLOWED}");
        let wanted: Vec<(String, Value)> =
            self.settings.iter().map(|(key, value)| expected(key, value)).collect::<anyhow::Result<_>>()?;
        let (mut runs, mut values) = (Vec::new(), BTreeSet::new());
        for directory in directories {
            let report = results::read_report(&directory)?;
            values.extend(wanted.iter().map(|(key, _)| shown(key, report.config.get(key))));
            if !wanted.iter().all(|(key, value)| report.config.get(key) == Some(value)) {
                continue;
            }
            let latencies = std::fs::read(directory.join(results::LATENCY)).ok();
            let latencies = latencies.and_then(|log| latency::merge([log.as_slice()]).ok());
            let round = if with_rounds { round_of(&directory) } else { None };
            runs.push(Run { directory: directory.display().to_string(), report, latencies, round });
        }
        let settings: Vec<String> = self.settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
        ensure!(
            !runs.is_empty(),
            "no run has {}; allowed: what its runs have: {}",
            settings.join(" "),
            values.into_iter().collect::<Vec<_>>().join(", ")
        );
        ensure!(runs.len() <= RUNS_MAX, "{} runs; allowed: at most {RUNS_MAX}", runs.len());
        let directory = self.directory.display().to_string();
        let label = if settings.is_empty() { directory } else { format!("{directory}: {}", settings.join(" ")) };
        Ok(Side { label, runs })
    }
}

/// `auth=mac`, as a run's report has it.
fn shown(key: &str, value: Option<&Value>) -> String {
    match value {
        None => format!("{key} not recorded"),
        Some(Value::String(text)) => format!("{key}={text}"),
        Some(other) => format!("{key}={other}"),
    }
}

/// What a run's report has of an option that was given this value: `batch=10` is `fixed:10` there. An option that this
/// version does not know is looked for as it is typed.
fn expected(key: &str, value: &str) -> anyhow::Result<(String, Value)> {
    let name = key.replace('-', "_");
    let Ok(setting) = Setting::new(key, value) else {
        return Ok((name, Value::String(value.to_owned())));
    };
    let options = serde_json::to_value(point::options([&setting])?).context("options")?;
    let found = options
        .get(&name)
        .cloned()
        .ok_or_else(|| anyhow!("{key}: runs do not record it; allowed: options of hippodrome run"))?;
    Ok((name, found))
}

/// Results directories in this one, in order of their names. What a run left behind itself is not looked into, nor what
/// was set aside.
fn find(directory: &Path, depth: usize, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if directory.join(results::REPORT).exists() {
        found.push(directory.to_owned());
        return Ok(());
    }
    let entries =
        std::fs::read_dir(directory).map_err(|error| anyhow!("{}: {error}; {ALLOWED}", directory.display()))?;
    let mut folders: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect();
    folders.sort();
    for folder in folders {
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if depth > 0 && !name.starts_with('.') && name != "aside" && name != results::LOGS {
            find(&folder, depth - 1, found)?;
        }
    }
    Ok(())
}

/// The round that a run of an experiment was made in: its directory's name ends with it.
fn round_of(directory: &Path) -> Option<u32> {
    let of_experiment = directory.parent()?.file_name()? == RUNS;
    let name = directory.file_name()?.to_str()?;
    let (_, round) = name.rsplit_once("-r").filter(|_| of_experiment)?;
    round.parse().ok()
}

#[cfg(test)]
mod tests {
    use hippodrome_analysis::report::{Report, SCHEMA};
    use serde_json::json;

    use super::*;

    fn source(text: &str) -> (String, Vec<(String, String)>) {
        let Source { directory, settings } = Source::parse(text);
        (directory.display().to_string(), settings)
    }

    fn report(directory: &Path, config: Value) {
        std::fs::create_dir_all(directory).unwrap();
        let report = Report { schema: SCHEMA.into(), config, ..Report::default() };
        results::write(directory, results::REPORT, &results::to_json(&report)).unwrap();
    }

    #[test]
    fn settings_follow_the_first_colon_before_a_key() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(source("results/x"), ("results/x".into(), vec![]));
        assert_eq!(source("c:results"), ("c:results".into(), vec![]));
        assert_eq!(source("a:b:auth=mac"), ("a:b".into(), vec![pair("auth", "mac")]));
        let expected = [pair("batch", "adaptive:512,8"), pair("network", "wan-eu,loss=0.1%")];
        // A key inside a value can not be told from another setting.
        let (directory, settings) = source("s:batch=adaptive:512,8,network=wan-eu,loss=0.1%");
        assert_eq!((directory.as_str(), &settings[..1]), ("s", &expected[..1]));
        assert_eq!(settings[1..], [pair("network", "wan-eu"), pair("loss", "0.1%")]);
    }

    #[test]
    fn runs_are_found_by_their_reports_and_chosen_by_their_settings() {
        let home = tempfile::tempdir().unwrap();
        let sweep = home.path().join("sweep");
        for (name, batch) in [("001-x-r1", "fixed:10"), ("001-x-r2", "fixed:10"), ("002-y-r1", "none")] {
            report(&sweep.join(RUNS).join(name), json!({ "batch": batch, "clients": 40 }));
        }
        report(&sweep.join("aside/001-x-r1.1"), json!({ "batch": "fixed:10" }));
        let path = sweep.display();
        let sides = read(&[format!("{path}:batch=10"), format!("{path}:batch=none,clients=40")]).unwrap();
        let rounds: Vec<Vec<Option<u32>>> =
            sides.iter().map(|side| side.runs.iter().map(|run| run.round).collect()).collect();
        assert_eq!(rounds, [vec![Some(1), Some(2)], vec![Some(1)]]);
        assert!(sides[0].label.ends_with("sweep: batch=10"), "{}", sides[0].label);
        // Rounds of two experiments are not the same rounds.
        let other = home.path().join("other");
        report(&other, json!({ "batch": "none" }));
        let sides = read(&[path.to_string(), other.display().to_string()]).unwrap();
        assert_eq!((sides[0].runs.len(), sides[1].runs.len()), (3, 1));
        assert!(sides[0].runs.iter().all(|run| run.round.is_none() && run.latencies.is_none()));
    }

    #[test]
    fn what_can_not_be_compared_is_named() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name).display().to_string();
        std::fs::create_dir(home.path().join("empty")).unwrap();
        report(&home.path().join("one"), json!({ "auth": "mac" }));
        for (text, parts) in [
            (
                path("none"),
                &["none", "No such file", "allowed: a run's results directory, which holds report.json"][..],
            ),
            (path("empty"), &["empty", "there is no run in it; allowed: a run's results"]),
            (path("one:auth=none"), &["one:auth=none", "no run has auth=none; allowed: what its runs have: auth=mac"]),
            (path("one:wings=2"), &["no run has wings=2; allowed: what its runs have: wings not recorded"]),
        ] {
            let error = format!("{:#}", read(&[path("one"), text]).unwrap_err());
            parts.iter().for_each(|part| assert!(error.contains(part), "'{error}' lacks '{part}'"));
        }
    }
}
