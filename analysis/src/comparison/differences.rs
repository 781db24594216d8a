//! In what the sides differ besides what is compared, and what else is worth knowing about their runs.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::rounds::{self, Arranged};
use super::{Run, Side, side_name};
use crate::report::{Generator, Report};

/// Runs differ in it by themselves.
const NOT_COMPARED: &[&str] = &["seed"];
/// A setting that a run does not record: it was not given, or its build does not have it.
const NOT_SET: &str = "not set";
/// A share of the CPU time that the host gave to others, percent, above which it is mentioned.
const STEAL_PERCENT_NOTE: f64 = 5.0;

/// Something in which sides differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// `setting` or `environment`.
    pub kind: String,
    /// Which setting, or which part of the environment.
    pub name: String,
    /// What each side has; where its runs differ, all they have, by ` / `.
    pub values: Vec<String>,
}

/// Everything in which the sides' runs differ, settings first.
pub(super) fn between(sides: &[Side]) -> Vec<Difference> {
    let mut names = BTreeSet::new();
    for run in sides.iter().flat_map(|side| &side.runs) {
        names.extend(run.report.config.as_object().into_iter().flatten().map(|(name, _)| name.clone()));
    }
    names.retain(|name| !NOT_COMPARED.contains(&name.as_str()));
    let settings = names.into_iter().filter_map(|name| {
        difference(sides, "setting", &name, |report| match report.config.get(&name) {
            None | Some(serde_json::Value::Null) => NOT_SET.into(),
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
        })
    });
    let environment = ENVIRONMENT.iter().filter_map(|(name, of)| difference(sides, "environment", name, of));
    settings.chain(environment).collect()
}

/// A part of the environment and how to read it from a report.
type Part = (&'static str, fn(&Report) -> String);

/// The parts of the environment in which runs that are compared should not differ.
const ENVIRONMENT: &[Part] = &[
    ("cpu", |report| report.environment.cpu.clone()),
    ("cores", |report| report.environment.cores.to_string()),
    ("kernel", |report| report.environment.kernel.clone()),
    ("memory_bytes", |report| report.environment.memory_bytes.to_string()),
    ("build_profile", |report| report.environment.build_profile.clone()),
    ("git_commit", |report| report.environment.git_commit.clone()),
    ("version", |report| report.environment.version.clone()),
    ("transport", |report| report.environment.transport.clone()),
    ("client_transport", |report| report.environment.client_transport.clone()),
    ("placement", |report| without_cores(&report.environment.placement)),
    ("simd", |report| report.environment.simd.clone()),
    ("network", |report| report.environment.network.clone()),
    ("load_generator", |report| in_words(&report.generator)),
];

/// A placement without the cores that its threads are pinned to: it is the primary's, and which replica that is may
/// change.
fn without_cores(placement: &str) -> String {
    placement.split("; ").filter(|part| !part.starts_with("pinned: ")).collect::<Vec<_>>().join("; ")
}

/// What `auto` came to differs where machines or placements do, though the settings are the same.
fn in_words(generator: &Generator) -> String {
    let Generator { threads, connections, .. } = generator;
    format!("threads {threads}, connections to each replica {connections}")
}

fn difference(sides: &[Side], kind: &str, name: &str, of: impl Fn(&Report) -> String) -> Option<Difference> {
    let had = |side: &Side| side.runs.iter().map(|run| of(&run.report)).collect::<BTreeSet<String>>();
    let all: Vec<BTreeSet<String>> = sides.iter().map(had).collect();
    let distinct: BTreeSet<&String> = all.iter().flatten().collect();
    let values = all.iter().map(|had| had.iter().cloned().collect::<Vec<_>>().join(" / ")).collect();
    (distinct.len() > 1).then(|| Difference { kind: kind.into(), name: name.into(), values })
}

/// What a reader must know before they believe the comparison.
pub(super) fn notes(arranged: &Arranged, include_invalid: bool) -> Vec<String> {
    let mut notes = Vec::new();
    let sides = &arranged.sides;
    for (index, side) in sides.iter().enumerate() {
        let name = side_name(index);
        within(&name, side, &mut notes);
        let invalid = side.runs.iter().filter(|run| !run.report.verdict.valid).count();
        if invalid > 0 && include_invalid {
            let all = side.runs.len();
            notes.push(format!("of the {all} runs of {name} {invalid} are INVALID and count all the same"));
        }
        if arranged.left_over[index] > 0 {
            let count = arranged.left_over[index];
            notes.push(format!("runs of {name} without a counterpart in their round, which do not count: {count}"));
        }
        if side.runs.iter().any(|run| run.latencies.is_none()) {
            notes.push(format!(
                "latencies of {name} are not compared: not all of its runs have a latency.hlog that can be read"
            ));
        }
    }
    for (index, other) in sides.iter().enumerate().skip(1) {
        pair(&sides[0], other, &side_name(index), arranged.rounds.is_some(), &mut notes);
    }
    if sides.len() > 2 {
        let others = sides.len() - 1;
        notes.push(format!(
            "{others} sides are compared with A: each interval is 95 % by itself, so that one of them may well seem to differ by chance"
        ));
    }
    notes
}

/// Runs of one side that are not alike.
fn within(name: &str, side: &Side, notes: &mut Vec<String>) {
    let alone = std::slice::from_ref(side);
    for Difference { kind, name: what, values } in between(alone) {
        notes.push(format!("the runs of {name} differ in {kind} {what}: {}", values.join("; ")));
    }
    let steal = |run: &Run| run.report.cpu.steal_percent;
    let most = side.runs.iter().map(steal).fold(0.0, f64::max);
    if most > STEAL_PERCENT_NOTE {
        notes.push(format!("the host took up to {most:.0} % of the CPU time (steal) in runs of {name}"));
    }
}

/// What two sides have apart that is not one setting.
fn pair(a: &Side, b: &Side, name: &str, in_rounds: bool, notes: &mut Vec<String>) {
    let differences = between(&[a.clone(), b.clone()]);
    let of = |kind: &str| differences.iter().filter(|difference| difference.kind == kind).collect::<Vec<_>>();
    // What only one of two builds knows differs because they do.
    let two_builds = differences.iter().any(|difference| ["git_commit", "version"].contains(&difference.name.as_str()));
    let is_unknown = |difference: &&Difference| two_builds && difference.values.iter().any(|value| value == NOT_SET);
    let names = |differences: Vec<&Difference>| -> Vec<String> {
        differences.iter().map(|difference| difference.name.clone()).collect()
    };
    let (unknown, settings) = of("setting").into_iter().partition::<Vec<_>, _>(is_unknown);
    let (unknown, settings) = (names(unknown), names(settings));
    if !unknown.is_empty() {
        notes.push(format!("only one of the builds of A and {name} has these settings: {}", unknown.join(", ")));
    }
    if settings.len() > 1 {
        notes.push(format!(
            "A and {name} differ in {} settings ({}): what differs can not be put down to one of them",
            settings.len(),
            settings.join(", ")
        ));
    }
    for difference in of("environment") {
        notes.push(format!("A and {name} differ in {}: {}", difference.name, difference.values.join("; ")));
    }
    if !in_rounds {
        notes.push(if rounds::overlap(a, b) {
            format!("the runs of A and {name} were not made in rounds, so that they are compared as independent ones")
        } else {
            format!("A and {name} did not run interleaved: what the machine did meanwhile counts as a difference between them")
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_cores_the_primary_had_is_no_difference_between_placements() {
        let placement =
            |core: u8| format!("fused: 2 cores for 4 replicas; 1 thread a replica, parked; pinned: fused to {core}");
        assert_eq!(without_cores(&placement(0)), without_cores(&placement(1)));
        assert_eq!(without_cores(&placement(0)), "fused: 2 cores for 4 replicas; 1 thread a replica, parked");
        assert_ne!(without_cores("fused: asked for; spinning"), without_cores("fused: asked for; parked"));
    }
}
