//! What the operating system tells about this process (Linux `/proc`), and what this process tells whoever runs it.

use std::fs;
use std::io::Write as _;

/// Writes a line to standard error. That nobody reads there any more, or that a disk is full, is no error of ours: `eprintln!` would panic, and strangers can
/// make a replica say something.
pub fn log(text: &str) {
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// User and system CPU time of this process so far, µs; 0 where `/proc` is missing.
#[must_use]
pub fn process_cpu_us() -> u64 {
    // Field 1 of schedstat counts only the main thread, so the stat file's ticks (10 ms) are summed by the kernel over all threads, living and dead.
    let Ok(stat) = fs::read_to_string("/proc/self/stat") else { return 0 };
    cpu_us_of_stat(&stat).unwrap_or(0)
}

/// utime + stime of a `/proc/PID/stat` line, µs. The kernel counts in ticks of 1/100 s there on every architecture.
#[must_use]
pub fn cpu_us_of_stat(stat: &str) -> Option<u64> {
    // The command's name may hold spaces and parentheses: count from the last ')'.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(ticks * 10_000)
}

/// CPU time of the calling thread so far, ns; 0 where `/proc` is missing.
#[must_use]
pub fn thread_cpu_ns() -> u64 {
    let Ok(stat) = fs::read_to_string("/proc/thread-self/schedstat") else { return 0 };
    stat.split_ascii_whitespace().next().and_then(|field| field.parse().ok()).unwrap_or(0)
}

/// Resident memory of this process, bytes; 0 where `/proc` is missing.
#[must_use]
pub fn resident_bytes() -> u64 {
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return 0 };
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|value| value.split_ascii_whitespace().next()?.parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

/// The cores that this process may use.
#[must_use]
pub fn cores() -> Vec<usize> {
    core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 100 1000 10";
        assert_eq!(cpu_us_of_stat(stat), Some(3_000_000));
        assert_eq!(cpu_us_of_stat("garbage"), None);
    }

    #[test]
    fn this_process_has_memory_and_cores() {
        assert!(resident_bytes() > 0);
        assert!(!cores().is_empty());
    }
}
