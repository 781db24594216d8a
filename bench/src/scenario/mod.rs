//! Scenarios: a load, what goes wrong meanwhile, and what is expected of the cluster.
//!
//! A scenario is a TOML file (`docs/scenarios.md`): read here, its actions in [events], the rule about how many
//! replicas may be faulty at one time in [budget]; [shipped] holds those that come with the binary. Playing one is the
//! launcher's business.

use std::path::Path;

use anyhow::{Context as _, anyhow, bail, ensure};
use hippodrome_analysis::scorecard::Expectations;
use hippodrome_engine::quorum::Quorums;
use hippodrome_engine::settings::Durability;
use serde::Deserialize;

use crate::cli::faulty::Byzantine;
use crate::cli::run::RunOptions;
use crate::config;

mod budget;
mod events;
pub(crate) mod shipped;
#[cfg(test)]
mod tests;

pub(crate) use events::{Action, Event, Links, Target, Whom};
use events::{RawEvent, read_event};

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
    /// Whether more than f replicas may be faulty at one time.
    pub(crate) beyond_f: bool,
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
    reason: Option<String>,
    safe: Option<bool>,
    progress_within_s: Option<f64>,
    min_fraction_of_baseline: Option<f64>,
    final_p50_ms_at_most: Option<f64>,
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
        crate::shipped::read(path, Self::parse)
    }

    /// Reads a scenario.
    ///
    /// # Errors
    /// Names the key, its value and what is allowed.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let file: File = toml::from_str(text)?;
        crate::shipped::check_name(&file.name)?;
        let mut options = config::options_of(&file.run).context("run")?;
        let n = options.replicas;
        let mut events = Vec::new();
        for (index, raw) in file.at.iter().enumerate() {
            let event = read_event(raw, n).map_err(|error| anyhow!("at[{index}].{error}"))?;
            if !event.is_an_option(&mut options) {
                events.push((index, event));
            }
        }
        // In order of time; what is to happen at the same time happens in the file's order.
        events.sort_by(|(_, a), (_, b)| a.s.total_cmp(&b.s));
        let expected = expectations(&file.expect)?;
        check_times(&options, &events, expected.progress_within_s)?;
        let quorums = Quorums::new(usize::from(n)).ok_or_else(|| anyhow!("run.replicas = {n}: allowed: 4 to 64"))?;
        if !file.beyond_f {
            let misbehaving = options.byzantine.as_ref().map(Byzantine::replicas).unwrap_or_default();
            let durable = options.replica.durability == Durability::Wal;
            budget::check(&events, &quorums, durable, misbehaving.into_keys().collect())?;
        }
        let events = events.into_iter().map(|(_, event)| event).collect();
        let File { name, description, beyond_f, .. } = file;
        Ok(Self { name, description, options, events, beyond_f, expected, text: text.to_owned() })
    }
}

/// Events lie within the measured window, faults early enough for progress after them to be seen, and there is a
/// warm-up by which the launcher learns when the window begins.
fn check_times(options: &RunOptions, events: &[(usize, Event)], progress_s: Option<f64>) -> anyhow::Result<()> {
    let (warmup, duration) = (options.load.warmup, options.load.duration);
    if events.is_empty() {
        return Ok(());
    }
    ensure!(warmup.0.as_secs() >= 1, "run.warmup = {warmup}: allowed: at least 1s in a scenario with events");
    let length_s = duration.0.as_secs_f64();
    for (index, Event { s, action }) in events {
        ensure!((0.0..=length_s).contains(s), "at[{index}].s = {s}: allowed: 0 to {length_s} (the measured load)");
        if let Some(within) = progress_s.filter(|_| action.is_fault()) {
            let latest = (length_s - within).max(0.0);
            ensure!(
                *s <= latest,
                "at[{index}].s = {s}: allowed: 0 to {latest} for a fault: after it expect.progress_within_s = {within} must be left of the measured load ({length_s} s)"
            );
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
    match (valid, raw.reason.as_deref()) {
        (true, None) => {}
        (false, Some(reason)) if !reason.trim().is_empty() => {}
        (true, Some(reason)) => bail!("expect.reason = \"{reason}\": allowed: only with verdict = \"invalid\""),
        (false, _) => bail!("expect.verdict = \"invalid\": allowed: with reason = \"..\", a part of the reason"),
    }
    Ok(Expectations {
        valid,
        reason: raw.reason.clone(),
        safe: raw.safe.unwrap_or(true),
        progress_within_s: positive("progress_within_s", raw.progress_within_s, 3600.0)?,
        min_fraction_of_baseline: positive("min_fraction_of_baseline", raw.min_fraction_of_baseline, 10.0)?,
        final_p50_ms_at_most: positive("final_p50_ms_at_most", raw.final_p50_ms_at_most, 3_600_000.0)?,
        view_changes_at_most: raw.view_changes_at_most,
    })
}
