//! Memory: what the kernel moves, merges and locks.

use bytesize::ByteSize;

use super::Check;
use super::machine::Machine;
use super::system::{limit, release};
use crate::launch::kibibytes;

/// Memory that a run of some replicas should find free, bytes.
const FREE_GOOD: u64 = 2 << 30;
/// Locked memory that rings of several processes take where the kernel counts it, bytes.
const LOCKED_GOOD: u64 = 8 << 20;

/// How much memory may be locked.
pub(super) fn locked(machine: &Machine) -> Check {
    let Some((soft, _)) = limit(&machine.limits, "Max locked memory") else {
        return Check::ok("memlock", "the kernel does not tell");
    };
    let found = if soft == u64::MAX { "unlimited".to_owned() } else { ByteSize(soft).to_string() };
    // Before 5.12 io_uring counted its rings as locked memory.
    let is_counted = release(&machine.kernel).is_none_or(|release| release < (5, 12));
    if is_counted && soft < LOCKED_GOOD {
        return Check::warn(
            "memlock",
            found,
            "this kernel counts the rings of io_uring as locked memory: some replicas may not get theirs",
            "ulimit -l unlimited (LimitMEMLOCK= of a systemd unit, docker run --ulimit memlock=-1)",
        );
    }
    Check::ok("memlock", found)
}

/// Whether the kernel makes huge pages of its own accord.
pub(super) fn huge_pages(machine: &Machine) -> Check {
    let chosen = machine.huge_pages.split_whitespace().find(|word| word.starts_with('['));
    let Some(chosen) = chosen.map(|word| word.trim_matches(['[', ']'])) else {
        return Check::ok("hugepages", "this kernel has no transparent huge pages");
    };
    if chosen == "always" {
        return Check::warn(
            "hugepages",
            "always",
            "memory is compacted to make huge pages of it, at moments that nobody chose: some requests wait",
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        );
    }
    Check::ok("hugepages", chosen)
}

/// Whether memory is on disk, or soon will be.
pub(super) fn swap(machine: &Machine) -> Check {
    let bytes = |name: &str| kibibytes(&machine.meminfo, name).unwrap_or(0) * 1024;
    let (total, used) = (bytes("SwapTotal"), bytes("SwapTotal").saturating_sub(bytes("SwapFree")));
    let available = bytes("MemAvailable");
    let found = format!("{} of memory available, {} of {} swap used", size(available), size(used), size(total));
    if available < FREE_GOOD {
        let why = "a run of many replicas or records may not fit, and is killed or swapped out";
        return Check::warn("memory", found, why, "end what uses memory (ps --sort=-rss)");
    }
    if used > 0 {
        let why = "what was swapped out is read from disk when it is next needed: some request waits for that";
        return Check::warn("memory", found, why, "swapoff -a");
    }
    Check::ok("memory", found)
}

fn size(bytes: u64) -> String {
    ByteSize(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::Verdict;

    fn swapped(meminfo: &str) -> Check {
        swap(&Machine { meminfo: meminfo.into(), ..Machine::default() })
    }

    #[test]
    fn little_memory_and_swap_in_use_are_told() {
        let meminfo = |available, free| {
            format!(
                "MemTotal: 24684092 kB\nMemAvailable:   {available} kB\nSwapTotal: 1048576 kB\nSwapFree: {free} kB\n"
            )
        };
        let well = swapped(&meminfo(21_180_864, 1_048_576));
        assert_eq!(well, Check::ok("memory", "20.2 GiB of memory available, 0 B of 1.0 GiB swap used"));
        let used = swapped(&meminfo(21_180_864, 524_288));
        assert!(used.verdict == Verdict::Warn && used.found.contains("512.0 MiB of 1.0 GiB"), "{used:?}");
        assert_eq!(swapped(&meminfo(100_000, 1_048_576)).verdict, Verdict::Warn);
        assert_eq!(swapped("").verdict, Verdict::Warn);
    }

    #[test]
    fn huge_pages_are_told_where_nobody_asked_for_them() {
        let pages = |text: &str| huge_pages(&Machine { huge_pages: text.into(), ..Machine::default() });
        assert_eq!(pages("[always] madvise never").verdict, Verdict::Warn);
        assert_eq!(pages("always [madvise] never"), Check::ok("hugepages", "madvise"));
        assert_eq!(pages("").verdict, Verdict::Ok);
    }

    #[test]
    fn locked_memory_matters_where_rings_are_counted() {
        let check = |soft: &str, kernel: &str| {
            let limits =
                format!("Max open files  1024  4096  files\nMax locked memory         {soft}  8388608  bytes\n");
            locked(&Machine { limits, kernel: kernel.into(), ..Machine::default() }).verdict
        };
        assert_eq!(check("65536", "5.4.0-150-generic"), Verdict::Warn);
        assert_eq!(check("65536", "6.1.0"), Verdict::Ok);
        assert_eq!(check("unlimited", "5.4.0"), Verdict::Ok);
    }
}
