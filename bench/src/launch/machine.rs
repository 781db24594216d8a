//! What the kernel tells about the machine as a whole.

use std::fs::read_to_string;

use hippodrome_analysis::report::Environment;
use hippodrome_engine::auth::backends::Backends;

use crate::cli::{BUILD_PROFILE, GIT_COMMIT};

/// The machine's CPU time so far, ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MachineTime {
    steal: u64,
    idle: u64,
    total: u64,
}

impl MachineTime {
    /// Until now; zero where the kernel does not tell.
    pub(crate) fn now() -> Self {
        read_to_string("/proc/stat").ok().and_then(|text| Self::parse(&text)).unwrap_or_default()
    }

    fn parse(stat: &str) -> Option<Self> {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        // user, nice, system, idle, iowait, irq, softirq, steal; guest time is part of user time.
        let ticks: Vec<u64> = line.split_whitespace().take(8).map(|field| field.parse().ok()).collect::<Option<_>>()?;
        Some(Self { steal: *ticks.get(7)?, idle: ticks.get(3)? + ticks.get(4)?, total: ticks.iter().sum() })
    }

    /// Share of the time since `earlier` that the host gave to others, percent.
    pub(crate) fn steal_percent(self, earlier: Self) -> f64 {
        percent(self.steal.saturating_sub(earlier.steal), self.total.saturating_sub(earlier.total))
    }

    /// Share of the time since `earlier`, without what the host gave to others, that its cores did something, percent.
    pub(crate) fn busy_percent(self, earlier: Self) -> f64 {
        let since = |now: u64, then: u64| now.saturating_sub(then);
        let own = since(self.total, earlier.total).saturating_sub(since(self.steal, earlier.steal));
        percent(own.saturating_sub(since(self.idle, earlier.idle)), own)
    }
}

#[allow(clippy::cast_precision_loss, reason = "ticks of one run")]
fn percent(part: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { 100.0 * part as f64 / of as f64 }
}

/// The machine and the build; transports and placement are the replicas' to tell.
pub(crate) fn environment() -> Environment {
    let cpuinfo = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let meminfo = read_to_string("/proc/meminfo").unwrap_or_default();
    let kernel = read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Environment {
        cpu: field(&cpuinfo, "model name").unwrap_or("unknown").to_owned(),
        cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        kernel: kernel.trim().to_owned(),
        memory_bytes: kibibytes(&meminfo, "MemTotal").unwrap_or(0) * 1024,
        build_profile: BUILD_PROFILE.to_owned(),
        git_commit: GIT_COMMIT.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        simd: Backends::here().to_string(),
        ..Environment::default()
    }
}

/// The value of the first `name : value` line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim())
}

/// The value of a `name: value kB` line.
pub(crate) fn kibibytes(text: &str, name: &str) -> Option<u64> {
    field(text, name)?.strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steal_is_a_share_of_all_time() {
        let before = MachineTime::parse("cpu  100 0 100 700 0 0 0 100 5 5\ncpu0 1 1 1 1\n").unwrap();
        let after = MachineTime::parse("cpu  150 0 150 750 0 0 0 150 5 5\n").unwrap();
        assert!((after.steal_percent(before) - 25.0).abs() < 1e-9);
        assert!(before.steal_percent(before).abs() < 1e-9);
        // Of 150 ticks that were the machine's own 50 were idle.
        assert!((after.busy_percent(before) - 200.0 / 3.0).abs() < 1e-9);
        assert!(before.busy_percent(before).abs() < 1e-9);
        assert_eq!(MachineTime::parse("cpu  1 2 3\n"), None);
    }

    #[test]
    fn this_machine_has_a_name() {
        let environment = environment();
        assert!(environment.memory_bytes > 0 && environment.cores > 0 && !environment.kernel.is_empty());
        assert!(environment.simd.starts_with("curve25519 by "), "{}", environment.simd);
    }
}
