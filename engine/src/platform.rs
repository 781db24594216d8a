//! What the operating system tells about processes (Linux `/proc`), what this process tells whoever runs it, where its
//! memory comes from ([recycler]), and when that is in the cache ([mod@prefetch]).

use std::fs;
use std::io::Write as _;

pub mod prefetch;
pub mod recycler;

/// `/proc` counts CPU time in ticks of 1/100 s on every Linux (`USER_HZ`), whatever the kernel's own clock.
const TICK_US: u64 = 10_000;

/// Writes a line to standard error. That nobody reads there any more, or that a disk is full, is no error of ours:
/// `eprintln!` would panic, and strangers can make a replica say something.
pub fn log(text: &str) {
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// User and system CPU time of this process so far, µs; 0 where `/proc` is missing.
#[must_use]
pub fn process_cpu_us() -> u64 {
    cpu_us_of(std::process::id()).unwrap_or(0)
}

/// User and system CPU time so far of a process and all its threads, living and dead, µs. `None` once it is reaped.
#[must_use]
pub fn cpu_us_of(pid: u32) -> Option<u64> {
    // Field 1 of schedstat would be finer than the stat file's ticks, but counts only the main thread.
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// utime + stime of a `/proc/PID/stat` line, µs.
fn parse_stat(stat: &str) -> Option<u64> {
    // The command's name may hold spaces and parentheses: count from the last ')'.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(ticks * TICK_US)
}

/// How long a thread had something to do, ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadTime {
    /// It was on a core.
    pub cpu_ns: u64,
    /// It was ready to run and no core was free for it.
    pub wait_ns: u64,
}

/// What the calling thread has had so far; nothing where `/proc` is missing.
#[must_use]
pub fn thread_time() -> ThreadTime {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    parse_schedstat(&stat).unwrap_or_default()
}

/// The first two fields of a `schedstat` file: time on a core and time ready to run, ns.
fn parse_schedstat(stat: &str) -> Option<ThreadTime> {
    let mut fields = stat.split_ascii_whitespace().map(str::parse::<u64>);
    Some(ThreadTime { cpu_ns: fields.next()?.ok()?, wait_ns: fields.next()?.ok()? })
}

/// What one thread of a process has had so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadCounters {
    /// Its id.
    pub id: u32,
    /// Its name, of which the kernel keeps 15 bytes.
    pub name: String,
    /// How long it had something to do.
    pub time: ThreadTime,
    /// How often it gave up its core because it had nothing to do, and so was woken.
    pub sleeps: u64,
}

/// The living threads of a process; none where `/proc` is missing, or once the process is reaped.
#[must_use]
pub fn threads_of(pid: u32) -> Vec<ThreadCounters> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks
        .filter_map(|task| {
            let read = |name: &str| fs::read_to_string(task.path().join(name)).ok();
            Some(ThreadCounters {
                id: task.file_name().to_str()?.parse().ok()?,
                name: read("comm")?.trim_end().to_owned(),
                time: parse_schedstat(&read("schedstat")?)?,
                sleeps: parse_sleeps(&read("status")?)?,
            })
        })
        .collect()
}

/// How often a thread slept, of its `status` file.
fn parse_sleeps(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    value.trim().parse().ok()
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

/// Which boot of which machine this is, in the kernel's words; empty where it does not tell.
#[must_use]
pub fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
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
        assert_eq!(parse_stat(stat), Some(3_000_000));
        assert_eq!(parse_stat("garbage"), None);
        assert_eq!(parse_stat("42 (x) S 1"), None);
    }

    #[test]
    fn time_on_a_core_and_time_ready_to_run_are_told_apart() {
        let expected = ThreadTime { cpu_ns: 81_340_275, wait_ns: 9_876_543 };
        assert_eq!(parse_schedstat("81340275 9876543 72\n"), Some(expected));
        for garbage in ["", "81340275", "a b c", "-1 2 3"] {
            assert_eq!(parse_schedstat(garbage), None, "{garbage}");
        }
    }

    #[test]
    fn threads_are_known_by_name() {
        assert_eq!(parse_sleeps("Name:\tx\nvoluntary_ctxt_switches:\t42\nnonvoluntary_ctxt_switches:\t7\n"), Some(42));
        assert_eq!(parse_sleeps("nonvoluntary_ctxt_switches:\t7\n"), None);
        let (told, heard) = std::sync::mpsc::channel();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("someone-with-a-long-name".into()).spawn(move || {
            told.send(()).unwrap();
            let _ = stopped.recv();
        });
        heard.recv().unwrap();
        let threads = threads_of(std::process::id());
        assert!(threads.iter().any(|thread| thread.name == "someone-with-a-"), "{threads:?}");
        drop(stop);
        thread.unwrap().join().unwrap();
        assert_eq!(threads_of(u32::MAX), []);
    }

    #[test]
    fn a_process_that_is_gone_has_no_time() {
        assert!(cpu_us_of(std::process::id()).is_some());
        assert_eq!(cpu_us_of(u32::MAX), None);
    }

    #[test]
    fn this_process_has_memory_and_cores() {
        assert!(resident_bytes() > 0);
        assert!(!cores().is_empty());
    }
}
