//! `hippodrome doctor`: whether this machine is fit for measuring.
//!
//! [machine] reads what the kernel tells; [cores], [memory], [load] and [system] judge it, by pure functions of the
//! texts, so that those of other machines can be tested; [disk] and the transports are tried out.

use std::fmt::{self, Write as _};

use anyhow::Context as _;
use hippodrome_engine::auth::backends::Backends;
use serde::Serialize;

use crate::cli::doctor::DoctorArgs;
use crate::failure::Failure;
use crate::output;

mod cores;
mod disk;
mod load;
mod machine;
mod memory;
mod system;

use machine::Machine;

/// What a check comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
enum Verdict {
    /// Nothing speaks against measuring here.
    Ok,
    /// Figures will be worse, or less steady, than they could be.
    Warn,
    /// A run can not be made.
    Bad,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "OK",
            Self::Warn => "WARN",
            Self::Bad => "BAD",
        })
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Check {
    /// What was looked at.
    name: &'static str,
    verdict: Verdict,
    /// What was found, in words.
    found: String,
    /// Why it matters, where it is not OK.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
    /// The command or setting that changes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, found: found.into(), why: None, change: None }
    }

    fn warn(name: &'static str, found: impl Into<String>, why: &'static str, change: impl Into<String>) -> Self {
        let (why, change) = (Some(why), Some(change.into()));
        Self { name, verdict: Verdict::Warn, found: found.into(), why, change }
    }

    fn bad(name: &'static str, found: impl Into<String>, why: &'static str, change: impl Into<String>) -> Self {
        Self { verdict: Verdict::Bad, ..Self::warn(name, found, why, change) }
    }
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct Findings {
    schema: &'static str,
    /// Whether nothing is BAD.
    runs_possible: bool,
    checks: Vec<Check>,
}

/// Looks, and tells.
pub(crate) fn run(arguments: &DoctorArgs) -> Result<(), Failure> {
    let (before, after) = load::sample();
    let machine = Machine::here();
    let mut checks =
        vec![system::kernel(&machine), system::build(), cores::usable(&machine), cores::governor(&machine)];
    let backends = Backends::here();
    checks.push(system::simd(&backends, backends.could_use_avx512()));
    checks.extend([
        system::io_uring(&machine),
        system::epoll(),
        system::descriptors(&machine),
        memory::locked(&machine),
    ]);
    checks.extend([system::clock(&machine), memory::huge_pages(&machine), memory::swap(&machine)]);
    checks.extend([load::steal(&before, &after), load::others(&machine, &before, &after)]);
    checks.extend(disk::look(&arguments.out));
    let runs_possible = checks.iter().all(|check| check.verdict != Verdict::Bad);
    if arguments.json {
        let findings = Findings { schema: "hippodrome/doctor/1", runs_possible, checks };
        output::print(&format!("{}\n", serde_json::to_string_pretty(&findings).context("findings")?));
    } else {
        output::print(&table(&checks));
    }
    if runs_possible { Ok(()) } else { Err(Failure::Unfit) }
}

/// A line for each check, and two more for what is not OK.
fn table(checks: &[Check]) -> String {
    let mut text = String::new();
    for Check { name, verdict, found, why, change } in checks {
        let _ = writeln!(text, "{verdict:<5} {name:<17} {found}");
        for (label, words) in [("why", *why), ("change", change.as_deref())] {
            if let Some(words) = words {
                let _ = writeln!(text, "{:<6}{:<17} {label}: {words}", "", "");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ok_is_explained() {
        let checks = [Check::ok("a", "all well"), Check::warn("b", "odd", "it matters", "do this")];
        let expected = "OK    a                 all well\n\
                        WARN  b                 odd\n\
                        \x20                       why: it matters\n\
                        \x20                       change: do this\n";
        assert_eq!(table(&checks), expected);
        assert_eq!(Check::bad("c", "", "", "").verdict, Verdict::Bad);
    }
}
