//! Cores: how many, how much of them, and at what speed.

use std::collections::BTreeSet;

use super::Check;
use super::machine::Machine;

/// Cores that four replicas and a load generator have one each of.
const CORES_GOOD: usize = 5;

/// How many cores may be used.
pub(super) fn usable(machine: &Machine) -> Check {
    let Machine { cores, online, quota_cores, .. } = *machine;
    let found = format!("{cores} of {online} cores may be used");
    if let Some(quota) = quota_cores.filter(|&quota| quota < cores as f64) {
        return Check::warn(
            "cores",
            format!("{found}, and of them the time of {quota:.1}"),
            "a process that has used up its quota stands still for up to 100 ms: the tail of latency is the quota's",
            "raise the control group's cpu.max (docker run --cpus, Kubernetes limits.cpu)",
        );
    }
    if cores < online {
        return Check::warn(
            "cores",
            found,
            "an affinity mask leaves cores unused; a run's placement goes by those that are left",
            "taskset -p -a 0x.., cpuset.cpus of the control group, or docker run --cpuset-cpus",
        );
    }
    if cores < CORES_GOOD {
        return Check::warn(
            "cores",
            found,
            "replicas and load generator share cores, so throughput is that of the cores, and the tail of latency that of \
             the scheduler",
            "a machine with more cores, or one for each replica (hippodrome keygen, replica and load)",
        );
    }
    Check::ok("cores", found)
}

/// Whether cores keep their speed.
pub(super) fn governor(machine: &Machine) -> Check {
    let kinds: BTreeSet<&str> = machine.governors.iter().map(String::as_str).collect();
    let found = kinds.iter().copied().collect::<Vec<_>>().join(", ");
    if kinds.is_empty() {
        return Check::ok(
            "governor",
            "no frequency scaling is to be seen: a virtual machine, or fixed by the firmware",
        );
    }
    if kinds.iter().all(|&kind| kind == "performance") {
        return Check::ok("governor", found);
    }
    Check::warn(
        "governor",
        found,
        "a core that was idle begins slowly, so that latency at low load is that of the governor",
        "cpupower frequency-set -g performance",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::Verdict;

    #[test]
    fn quotas_masks_and_few_cores_are_told() {
        let machine = |cores, online, quota_cores| Machine { cores, online, quota_cores, ..Machine::default() };
        assert_eq!(usable(&machine(8, 8, None)), Check::ok("cores", "8 of 8 cores may be used"));
        assert_eq!(usable(&machine(8, 8, Some(8.0))).verdict, Verdict::Ok);
        for (machine, part) in [
            (machine(8, 8, Some(2.5)), "the time of 2.5"),
            (machine(8, 16, None), "8 of 16"),
            (machine(2, 2, None), "2 of 2"),
        ] {
            let check = usable(&machine);
            assert!(check.verdict == Verdict::Warn && check.found.contains(part), "{check:?}");
        }
    }

    #[test]
    fn any_core_that_scales_down_is_told() {
        let machine = |governors: &[&str]| Machine {
            governors: governors.iter().map(|&kind| kind.to_owned()).collect(),
            ..Machine::default()
        };
        assert_eq!(governor(&machine(&[])).verdict, Verdict::Ok);
        assert_eq!(governor(&machine(&["performance", "performance"])), Check::ok("governor", "performance"));
        let mixed = governor(&machine(&["performance", "powersave", "powersave"]));
        assert_eq!((mixed.verdict, mixed.found.as_str()), (Verdict::Warn, "performance, powersave"));
    }
}
