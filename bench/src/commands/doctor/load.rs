//! What else the machine does, and its host: two looks, some time apart.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use hippodrome_engine::platform;

use super::Check;
use super::machine::Machine;
use crate::launch::MachineTime;

/// Time between the two looks.
const APART: Duration = Duration::from_secs(1);
/// Share of the machine's time that others may have.
const BUSY_PERCENT: f64 = 5.0;
/// Share that the host may take.
const STEAL_PERCENT: f64 = 1.0;
/// Processes that are named.
const NAMED: usize = 3;

/// A look.
pub(super) struct Sample {
    at: Instant,
    machine: MachineTime,
    /// CPU time of each process so far, µs.
    processes: HashMap<u32, u64>,
}

/// Two looks.
pub(super) fn sample() -> (Sample, Sample) {
    let before = Sample::now();
    std::thread::sleep(APART);
    (before, Sample::now())
}

impl Sample {
    fn now() -> Self {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let processes = ids.filter_map(|pid| Some((pid, platform::cpu_us_of(pid)?))).collect();
        Self { at: Instant::now(), machine: MachineTime::now(), processes }
    }
}

/// What the host gave to others.
pub(super) fn steal(before: &Sample, after: &Sample) -> Check {
    judge_steal(after.machine.steal_percent(before.machine))
}

fn judge_steal(percent: f64) -> Check {
    let found = format!("{percent:.1} % of the time of the last second");
    if percent < STEAL_PERCENT {
        return Check::ok("steal", found);
    }
    Check::warn(
        "steal",
        found,
        "the host runs others on these cores: throughput and the tail of latency are theirs, too",
        "a machine of one's own (dedicated or metal), or another time",
    )
}

/// What other processes use.
pub(super) fn others(machine: &Machine, before: &Sample, after: &Sample) -> Check {
    let apart_us = after.at.duration_since(before.at).as_secs_f64() * 1e6;
    let mut used: Vec<(f64, String)> = after
        .processes
        .iter()
        .filter(|(pid, _)| **pid != std::process::id())
        .filter_map(|(pid, us)| {
            let since = us.saturating_sub(*before.processes.get(pid)?);
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            Some((100.0 * since as f64 / apart_us, format!("{} ({pid})", name.trim())))
        })
        .collect();
    used.sort_by(|one, other| other.0.total_cmp(&one.0));
    let busy = after.machine.busy_percent(before.machine);
    judge_others(busy, &machine.loadavg, &used)
}

/// `used`: percent of a core and name of each process, the busiest first.
fn judge_others(busy_percent: f64, loadavg: &str, used: &[(f64, String)]) -> Check {
    let minute = loadavg.split_whitespace().next().unwrap_or("unknown");
    let mut found = format!("{busy_percent:.0} % of all cores busy for a second, load average {minute}");
    let named: Vec<String> = used
        .iter()
        .take(NAMED)
        .filter(|(percent, _)| *percent >= 1.0)
        .map(|(p, name)| format!("{name} {p:.0} %"))
        .collect();
    if !named.is_empty() {
        found = format!("{found}; {}", named.join(", "));
    }
    if busy_percent < BUSY_PERCENT {
        return Check::ok("load", found);
    }
    Check::warn(
        "load",
        found,
        "others use the cores that are to be measured, and not evenly",
        "end them, or keep them off the cores (taskset, cpusets)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::Verdict;

    #[test]
    fn others_are_named() {
        let used = [(55.4, "cc1plus (77)".to_owned()), (3.0, "sshd (9)".to_owned()), (0.2, "init (1)".to_owned())];
        let check = judge_others(29.6, "1.25 0.80 0.40 2/181 4242", &used);
        assert_eq!(check.verdict, Verdict::Warn);
        assert_eq!(
            check.found,
            "30 % of all cores busy for a second, load average 1.25; cc1plus (77) 55 %, sshd (9) 3 %"
        );
        let quiet = judge_others(0.4, "0.01 0.00 0.00 1/90 500", &[]);
        assert_eq!(quiet, Check::ok("load", "0 % of all cores busy for a second, load average 0.01"));
    }

    #[test]
    fn a_host_that_takes_time_is_told() {
        assert_eq!(judge_steal(0.2).verdict, Verdict::Ok);
        assert_eq!(judge_steal(7.0).found, "7.0 % of the time of the last second");
        assert_eq!(judge_steal(7.0).verdict, Verdict::Warn);
    }

    #[test]
    fn this_process_is_looked_at() {
        assert!(Sample::now().processes.contains_key(&std::process::id()));
    }
}
