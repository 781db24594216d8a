//! The kernel and what it allows.

use hippodrome_engine::auth::backends::Backends;
use hippodrome_engine::limits::{CONTROL_CONNECTIONS_MAX, DESCRIPTORS_OWN, STRANGERS_MAX};
use hippodrome_engine::settings::{RingOptions, TransportChoice};
use hippodrome_engine::transport::probe;

use super::Check;
use super::machine::Machine;
use crate::cli::BUILD_PROFILE;

/// The oldest kernel whose `io_uring` has all that `--transport tokio-uring` and the log ask for.
const KERNEL_GOOD: (u32, u32) = (5, 11);
/// Descriptors that a replica opens without a single peer or client.
const DESCRIPTORS_LEAST: u64 = (STRANGERS_MAX + CONTROL_CONNECTIONS_MAX + DESCRIPTORS_OWN) as u64;
/// Descriptors for a large cluster, and clients with many connections.
const DESCRIPTORS_GOOD: u64 = 4096;

/// The kernel's version.
pub(super) fn kernel(machine: &Machine) -> Check {
    let found = format!("Linux {}", machine.kernel);
    if release(&machine.kernel).is_some_and(|release| release >= KERNEL_GOOD) {
        return Check::ok("kernel", found);
    }
    Check::warn(
        "kernel",
        found,
        "io_uring came with Linux 5.1 and lacked much before 5.11: logs fall back to pwrite, and only epoll moves bytes",
        "a newer kernel",
    )
}

/// `MAJOR.MINOR` of a kernel's release.
pub(super) fn release(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// How this binary was built.
pub(super) fn build() -> Check {
    if BUILD_PROFILE == "release" {
        return Check::ok("build", BUILD_PROFILE);
    }
    let why = "code that is not optimised measures the compiler: the verdict on every run of it is INVALID";
    Check::warn("build", BUILD_PROFILE, why, "cargo build --release")
}

/// By which instructions signatures and hashes are computed. `more`: the processor has more than this build may use.
pub(super) fn simd(backends: &Backends, more: bool) -> Check {
    if backends.curve25519 == "serial" || backends.blake3 == "portable" {
        return Check::warn(
            "simd",
            backends.to_string(),
            "without vector instructions signatures, or tags and digests, are computed one by one, not side by side",
            "a processor with AVX2, or a virtual machine that is shown it (-cpu host)",
        );
    }
    let unused = "; AVX-512 IFMA is there, and used for signatures by builds with RUSTFLAGS=-Ctarget-cpu=native";
    Check::ok("simd", format!("{backends}{}", if more { unused } else { "" }))
}

/// Whether `io_uring` works, by trying it.
pub(super) fn io_uring(machine: &Machine) -> Check {
    match probe::probe() {
        Ok(()) => match probe::probe_ring(RingOptions::default()) {
            Ok(()) => Check::ok("io_uring", "works: a ring moved bytes over loopback"),
            Err(error) => Check::ok("io_uring", format!("works, but not by --transport io-uring: {error}")),
        },
        Err(error) => {
            let (found, change) = refused(&error.to_string(), &machine.io_uring_disabled);
            Check::warn(
                "io_uring",
                found,
                "logs fall back to pwrite, and --transport tokio-uring and io-uring can not be had; the default is epoll",
                change,
            )
        }
    }
}

/// Why it does not work, and what changes that.
fn refused(error: &str, disabled: &str) -> (String, &'static str) {
    match disabled {
        "1" | "2" => {
            (format!("{error}; kernel.io_uring_disabled = {disabled}"), "sysctl -w kernel.io_uring_disabled=0")
        }
        _ => (
            error.to_owned(),
            "allow it in the container's seccomp profile (docker run --security-opt seccomp=FILE), or a newer kernel",
        ),
    }
}

/// Whether `epoll` works, by opening it.
pub(super) fn epoll() -> Check {
    match probe::open(TransportChoice::Epoll) {
        Ok(_) => Check::ok("epoll", "works"),
        Err(error) => Check::bad(
            "epoll",
            error.to_string(),
            "replicas and load generators open it, unless --transport says otherwise",
            "raise the limit of file descriptors, or allow it in the container's seccomp profile",
        ),
    }
}

/// How many files and sockets a process may open.
pub(super) fn descriptors(machine: &Machine) -> Check {
    let Some((soft, hard)) = limit(&machine.limits, "Max open files") else {
        return Check::ok("descriptors", "the kernel does not tell");
    };
    let number = |limit: u64| if limit == u64::MAX { "unlimited".to_owned() } else { limit.to_string() };
    let found = format!("{} now, {} at most, to which processes raise it", number(soft), number(hard));
    let change = "ulimit -Hn 65536 (LimitNOFILE= of a systemd unit, docker run --ulimit nofile=65536)";
    if hard < DESCRIPTORS_LEAST {
        let why = "a replica reserves some hundred for whoever connects, and runs out before its peers are there";
        return Check::bad("descriptors", found, why, change);
    }
    if hard < DESCRIPTORS_GOOD {
        let why = "with many replicas, or clients with many connections, a replica runs out of them";
        return Check::warn("descriptors", found, why, change);
    }
    Check::ok("descriptors", found)
}

/// Soft and hard limit of a row of `/proc/self/limits`; the largest number stands for `unlimited`.
pub(super) fn limit(limits: &str, name: &str) -> Option<(u64, u64)> {
    let row = limits.lines().find_map(|line| line.strip_prefix(name))?;
    let number = |word: &str| if word == "unlimited" { Some(u64::MAX) } else { word.parse().ok() };
    let mut words = row.split_whitespace().map(number);
    Some((words.next()??, words.next()??))
}

/// Where the kernel takes the time from.
pub(super) fn clock(machine: &Machine) -> Check {
    let Machine { clock, clocks, .. } = machine;
    let found = if clocks.is_empty() { clock.clone() } else { format!("{clock} (there are: {clocks})") };
    match clock.as_str() {
        "" => Check::ok("clock", "the kernel does not tell"),
        "hpet" | "acpi_pm" | "jiffies" | "refined-jiffies" => Check::warn(
            "clock",
            found,
            "each look at it is a slow system call, and every message is stamped with the time",
            "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource, if there is one",
        ),
        _ => Check::ok("clock", found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::Verdict;

    /// As Linux 6.18 writes it.
    const LIMITS: &str = "\
Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max open files            1024                 20000                files     
Max locked memory         8388608              unlimited            bytes     
";

    #[test]
    fn what_is_computed_without_vectors_is_told() {
        let backends = |curve25519, blake3: &str| Backends { curve25519, blake3: blake3.to_owned() };
        let fast = backends("avx2", "avx512");
        assert_eq!(simd(&fast, false), Check::ok("simd", "curve25519 by avx2, BLAKE3 by avx512"));
        let more = simd(&fast, true);
        assert!(more.verdict == Verdict::Ok && more.found.contains("target-cpu=native"), "{more:?}");
        for slow in [backends("serial", "avx2"), backends("avx2", "portable")] {
            assert_eq!(simd(&slow, false).verdict, Verdict::Warn);
        }
    }

    #[test]
    fn limits_are_read_as_the_kernel_writes_them() {
        assert_eq!(limit(LIMITS, "Max open files"), Some((1024, 20000)));
        assert_eq!(limit(LIMITS, "Max locked memory"), Some((8_388_608, u64::MAX)));
        assert_eq!(limit(LIMITS, "Max nice priority"), None);
        assert_eq!(limit("Max open files  many", "Max open files"), None);
    }

    #[test]
    fn descriptors_are_judged_by_the_hard_limit() {
        let check = |hard: &str| {
            let limits = LIMITS.replace("20000", hard);
            descriptors(&Machine { limits, ..Machine::default() })
        };
        assert_eq!(check("20000"), Check::ok("descriptors", "1024 now, 20000 at most, to which processes raise it"));
        assert_eq!(check("unlimited").verdict, Verdict::Ok);
        assert_eq!(check("2048").verdict, Verdict::Warn);
        assert_eq!(check("100").verdict, Verdict::Bad);
    }

    #[test]
    fn kernels_are_told_apart_by_their_version() {
        let check = |kernel: &str| kernel_of(kernel).verdict;
        fn kernel_of(kernel: &str) -> Check {
            super::kernel(&Machine { kernel: kernel.into(), ..Machine::default() })
        }
        assert_eq!(release("6.18.44-fc-v657"), Some((6, 18)));
        assert_eq!(release("garbage"), None);
        for kernel in ["6.18.44-fc-v657", "5.11.0", "5.15.0-1051-aws"] {
            assert_eq!(check(kernel), Verdict::Ok, "{kernel}");
        }
        for kernel in ["5.4.0-150-generic", "4.19.0", ""] {
            assert_eq!(check(kernel), Verdict::Warn, "{kernel}");
        }
    }

    #[test]
    fn slow_clocks_are_told() {
        let check = |clock: &str| {
            clock_of(Machine { clock: clock.into(), clocks: "tsc hpet acpi_pm".into(), ..Machine::default() })
        };
        fn clock_of(machine: Machine) -> Check {
            super::clock(&machine)
        }
        assert_eq!(check("tsc"), Check::ok("clock", "tsc (there are: tsc hpet acpi_pm)"));
        assert_eq!(check("kvm-clock").verdict, Verdict::Ok);
        assert_eq!(check("hpet").verdict, Verdict::Warn);
    }

    #[test]
    fn what_disables_io_uring_is_named() {
        let (found, change) = refused("Operation not permitted (os error 1)", "2");
        assert!(found.contains("kernel.io_uring_disabled = 2") && change.starts_with("sysctl"));
        let (found, change) = refused("Operation not permitted (os error 1)", "0");
        assert!(!found.contains("io_uring_disabled") && change.contains("seccomp"));
    }
}
