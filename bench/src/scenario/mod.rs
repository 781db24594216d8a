//! Scenarios: a load, what goes wrong meanwhile, and what is expected of the cluster.
//!
//! A scenario is a TOML file (`docs/scenarios.md`): read here, its actions in [events], the rule about how many replicas
//! may be faulty at one time in [budget]; [shipped] holds those that come with the binary. Playing one is the
//! launcher's business.

use std::path::Path;

use anyhow::{Context as _, anyhow, bail, ensure};
use hippodrome_analysis::scorecard::Expectations;
use hippodrome_engine::quorum::Quorums;
use serde::Deserialize;

use crate::cli::run::RunOptions;
use crate::config;

mod budget;
mod events;
pub(crate) mod shipped;
#[cfg(test)]
mod tests;

pub(crate) use events::{Action, Event, Links, Target, Whom};
use events::{RawEvent, read_event};

/// Longest name, so that it can be a folder's.
const NAME_BYTES_MAX: usize = 64;

/// A scenario that can be played.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// What it is called; also the name of its folder of results.
    pub(crate) name: String,
    /// What it is about, in a sentence.
    pub(crate) description: String,
    /// The run that it happens to.
    pub(crate) options: RunOptions,
    /// What happens, in order of time.
    pub(crate) events: Vec<Event>,
    /// What is expected.
    pub(crate) expected: Expectations,
    /// The file's text.
    pub(crate) text: String,
}

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    description: String,
    /// Why running all scenarios leaves this one out.
    #[serde(default)]
    skip: Option<String>,
    #[serde(default)]
    beyond_f: bool,
    #[serde(default)]
    run: toml::Table,
    #[serde(default)]
    at: Vec<RawEvent>,
    #[serde(default)]
    expect: RawExpect,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExpect {
    verdict: Option<String>,
    progress_within_s: Option<f64>,
    min_fraction_of_baseline: Option<f64>,
    view_changes_at_most: Option<u64>,
}

/// What can be said of a scenario without understanding the run that it asks for.
#[derive(Debug)]
pub(crate) struct Title {
    /// What it is called.
    pub(crate) name: String,
    /// What it is about.
    pub(crate) description: String,
    /// Why running all scenarios leaves it out, if it does.
    pub(crate) skip: Option<String>,
}

/// Reads a scenario's name and description.
///
/// # Errors
/// If the text is no scenario.
pub(crate) fn title(text: &str) -> anyhow::Result<Title> {
    let File { name, description, skip, .. } = toml::from_str(text)?;
    Ok(Title { name, description, skip })
}

impl Scenario {
    /// Reads a scenario's file.
    ///
    /// # Errors
    /// Names the file, the key, its value and what is allowed.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let name = path.display();
        let text = std::fs::read_to_string(path).with_context(|| name.to_string())?;
        Self::parse(&text).with_context(|| name.to_string())
    }

    /// Reads a scenario.
    ///
    /// # Errors
    /// Names the key, its value and what is allowed.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let file: File = toml::from_str(text)?;
        check_name(&file.name)?;
        let plain = config::options_of(&file.run, &[]).context("run")?;
        let n = plain.replicas;
        let mut events = Vec::new();
        let mut flags = Vec::new();
        for (index, raw) in file.at.iter().enumerate() {
            let event = read_event(raw, n).map_err(|error| anyhow!("at[{index}].{error}"))?;
            match event.at_the_start() {
                Some(flag) => flags.push(flag),
                None => events.push(event),
            }
        }
        // In order of time; what is to happen at the same time happens in the file's order.
        events.sort_by(|a, b| a.s.total_cmp(&b.s));
        let options = config::options_of(&file.run, &merged(&flags)).context("at (from s = 0 on)")?;
        check_times(&options, &events)?;
        let quorums = Quorums::new(usize::from(n)).ok_or_else(|| anyhow!("run.replicas = {n}: allowed: 4 to 64"))?;
        if !file.beyond_f {
            let faulty = flags.iter().filter(|(name, _)| *name == "byzantine").count();
            budget::check(&events, &quorums, config::is_durable(&options), faulty)?;
        }
        let expected = expectations(&file.expect)?;
        let File { name, description, .. } = file;
        Ok(Self { name, description, options, events, expected, text: text.to_owned() })
    }
}

fn check_name(name: &str) -> anyhow::Result<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
    ensure!(
        !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.chars().all(fits),
        "name = \"{name}\": allowed: 1 to {NAME_BYTES_MAX} letters, digits and hyphens"
    );
    Ok(())
}

/// `--name=value,value` for flags that may be given several times.
fn merged(flags: &[(&'static str, String)]) -> Vec<String> {
    ["byzantine", "hostile"]
        .into_iter()
        .filter_map(|name| {
            let values: Vec<&str> = flags.iter().filter(|(n, _)| *n == name).map(|(_, value)| value.as_str()).collect();
            (!values.is_empty()).then(|| format!("--{name}={}", values.join(",")))
        })
        .collect()
}

/// Events lie within the measured window, and there is a warm-up by which the launcher learns when that begins.
fn check_times(options: &RunOptions, events: &[Event]) -> anyhow::Result<()> {
    let (warmup, duration) = (options.load.warmup, options.load.duration);
    if events.is_empty() {
        return Ok(());
    }
    ensure!(warmup.0.as_secs() >= 1, "run.warmup = {warmup}: allowed: at least 1s in a scenario with events");
    for Event { s, .. } in events {
        if !(0.0..=duration.0.as_secs_f64()).contains(s) {
            bail!("s = {s}: allowed: 0 to {} (the length of the measured load)", duration.0.as_secs());
        }
    }
    Ok(())
}

fn expectations(raw: &RawExpect) -> anyhow::Result<Expectations> {
    let valid = match raw.verdict.as_deref() {
        None | Some("valid") => true,
        Some("invalid") => false,
        Some(other) => bail!("expect.verdict = \"{other}\": allowed: \"valid\" or \"invalid\""),
    };
    let positive = |name: &str, value: Option<f64>, most: f64| match value {
        Some(value) if !(value > 0.0 && value <= most) => {
            Err(anyhow!("expect.{name} = {value}: allowed: more than 0, at most {most}"))
        }
        value => Ok(value),
    };
    Ok(Expectations {
        valid,
        progress_within_s: positive("progress_within_s", raw.progress_within_s, 3600.0)?,
        min_fraction_of_baseline: positive("min_fraction_of_baseline", raw.min_fraction_of_baseline, 10.0)?,
        view_changes_at_most: raw.view_changes_at_most,
    })
}
