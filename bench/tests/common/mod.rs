//! What the tests of the real binary share: one cluster at a time, guards that leave no process behind, polling instead
//! of sleeping.

#![allow(dead_code, reason = "each test file uses its part")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) mod by_hand;

/// Longest that anything is waited for: machines that run tests are slow and shared.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// How often something that is waited for is looked at.
const TICK: Duration = Duration::from_millis(10);

/// Clusters share the machine's cores: tests that start one take turns.
static TRACK: Mutex<()> = Mutex::new(());

/// The right to start processes that need the machine for themselves, until it is dropped.
pub(crate) fn track() -> MutexGuard<'static, ()> {
    // A test that failed with it has left nothing behind: guards saw to that.
    TRACK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The binary in a directory of its own.
pub(crate) fn hippodrome(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hippodrome"));
    command.args(arguments).current_dir(directory);
    command
}

/// Exit code, stdout, stderr.
pub(crate) fn outcome(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Waits until `look` finds what it looks for.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(TICK);
    }
}

/// A child that is killed and reaped when this is dropped.
pub(crate) struct Guard(pub(crate) Child);

impl Guard {
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self, what: &str) -> ExitStatus {
        wait_for(&format!("the end of {what}"), || self.0.try_wait().unwrap())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a child has written to one of its pipes so far, gathered by a thread so that the child never blocks.
#[derive(Clone, Default)]
pub(crate) struct Captured {
    text: Arc<Mutex<String>>,
    hang_up: Arc<AtomicBool>,
}

impl Captured {
    pub(crate) fn of(pipe: impl Read + Send + 'static) -> Self {
        let captured = Self::default();
        let Self { text, hang_up } = captured.clone();
        std::thread::spawn(move || {
            let lines = BufReader::new(pipe).lines().map_while(Result::ok);
            for line in lines.take_while(|_| !hang_up.load(Ordering::Relaxed)) {
                let mut text = text.lock().unwrap();
                text.push_str(&line);
                text.push('\n');
            }
        });
        captured
    }

    pub(crate) fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    /// Closes the pipe at the next line, which is lost.
    pub(crate) fn hang_up(&self) {
        self.hang_up.store(true, Ordering::Relaxed);
    }
}

/// A `hippodrome run` under way. Its results go to `out` in a directory of its own. Dropped early, it and its children
/// are killed.
pub(crate) struct Run {
    launcher: Guard,
    stderr: Captured,
    directory: TempDir,
    _track: MutexGuard<'static, ()>,
}

/// A run that has ended by itself.
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) report: Value,
    pub(crate) stderr: String,
    /// Holds `out`.
    pub(crate) directory: TempDir,
}

impl Run {
    /// Starts a small run; `arguments` win over what is small about it.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let track = track();
        let directory = tempfile::tempdir().unwrap();
        let base = ["run", "--clients", "40", "--warmup", "1s", "--out", "out"];
        Self::launch(track, directory, &[&base, arguments].concat())
    }

    /// Starts a small scenario: a run's options, and what is to happen, as TOML.
    pub(crate) fn stress(rest: &str) -> Self {
        Self::scenario("", rest)
    }

    /// The same, with more than f faulty replicas.
    pub(crate) fn stress_beyond_f(rest: &str) -> Self {
        Self::scenario("beyond_f = true\n", rest)
    }

    fn scenario(head: &str, rest: &str) -> Self {
        let track = track();
        let directory = tempfile::tempdir().unwrap();
        let run = "[run]\nclients = 40\nwarmup = \"1s\"\n";
        let text = format!("name = \"test\"\ndescription = \"a test\"\n{head}{run}{rest}");
        fs::write(directory.path().join("test.toml"), text).unwrap();
        Self::launch(track, directory, &["stress", "test.toml", "--out", "out"])
    }

    fn launch(track: MutexGuard<'static, ()>, directory: TempDir, arguments: &[&str]) -> Self {
        let mut command = hippodrome(directory.path(), arguments);
        let mut launcher = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = Captured::of(launcher.stderr.take().unwrap());
        Self { launcher: Guard(launcher), stderr, directory, _track: track }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.launcher.pid()
    }

    pub(crate) fn results(&self) -> PathBuf {
        self.directory.path().join("out")
    }

    /// Waits until all processes run: the replicas in order of their ids, then the load generator.
    pub(crate) fn processes(&self, replicas: usize) -> Vec<Process> {
        wait_for("all processes of a run", || {
            let found = children(self.pid());
            (found.len() == replicas + 1).then_some(found)
        })
    }

    /// Waits until so many seconds of the load, warm-up included, have been told.
    pub(crate) fn wait_for_seconds(&mut self, count: usize) {
        wait_for("progress of a run", || {
            let stderr = self.stderr.text();
            let is_row = |line: &&str| {
                let mut words = line.split_whitespace();
                words.next().is_some_and(|word| word.parse::<u64>().is_ok()) && words.next() == Some("s")
            };
            assert!(self.launcher.is_alive(), "the run ended early: {stderr}");
            (stderr.lines().filter(is_row).count() >= count).then_some(())
        });
    }

    /// Waits until the launcher has said this.
    pub(crate) fn wait_for_words(&mut self, words: &str) {
        wait_for(words, || {
            let stderr = self.stderr.text();
            assert!(self.launcher.is_alive(), "the run ended early: {stderr}");
            stderr.contains(words).then_some(())
        });
    }

    /// The process of replica `id`, which may not be its first one.
    pub(crate) fn replica(&self, id: u16) -> Option<Process> {
        children(self.pid()).into_iter().find(|process| process.command.contains(&format!(" --id {id} ")))
    }

    /// Waits for the end without asking for a report.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.launcher.wait("a run")
    }

    /// Waits for the end and reads the report.
    pub(crate) fn finish(mut self) -> Finished {
        let status = self.wait();
        let stderr = self.stderr.text();
        let text = fs::read_to_string(self.results().join("report.json"))
            .unwrap_or_else(|error| panic!("report.json: {error}; the launcher said: {stderr}"));
        let directory = std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap());
        Finished { code: status.code(), report: serde_json::from_str(&text).unwrap(), stderr, directory }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.launcher.is_alive() {
            for process in children(self.pid()) {
                signal_if_alive("-KILL", process.pid);
            }
        }
    }
}

impl Finished {
    /// What speaks against the run apart from this being a debug build.
    pub(crate) fn reasons(&self) -> Vec<String> {
        reasons(&self.report)
    }

    /// Expects that nothing does, and the exit code that goes with it.
    pub(crate) fn expect_sound(&self, what: &str) {
        assert_eq!(self.reasons(), Vec::<String>::new(), "{what}: {}\n{}", self.report, self.stderr);
        assert_eq!(self.code, Some(i32::from(cfg!(debug_assertions))), "{what}");
    }

    /// Expects as well that all replicas and all clients were compared.
    pub(crate) fn expect_whole(&self, what: &str) {
        self.expect_sound(what);
        let (audit, config) = (&self.report["audit"], &self.report["config"]);
        let replicas = config["replicas"].as_u64().unwrap();
        assert_eq!(numbers(&audit["replicas_compared"]), (0..replicas).collect::<Vec<_>>(), "{what}: {audit}");
        assert_eq!(audit["clients_checked"], config["clients"], "{what}: {audit}");
    }

    /// Expects that the others went on in a later view after replica 0, the primary, was killed. Seconds without an
    /// operation speak against the numbers; nothing may speak against the cluster.
    pub(crate) fn expect_another_primary(&self) {
        let report = &self.report;
        let reasons = report["verdict"]["reasons"].to_string();
        for part in ["ledger", "never got a reply quorum", "wrong", "contradict"] {
            assert!(!reasons.contains(part), "{reasons}: {report}");
        }
        assert_eq!(report["generator"]["unanswered"], 0, "{report}");
        for replica in &report["replicas"].as_array().unwrap()[1..] {
            assert!(replica["view"].as_u64().unwrap() >= 1, "{report}");
        }
    }
}

/// What speaks against a run apart from this being a debug build.
pub(crate) fn reasons(report: &Value) -> Vec<String> {
    let reasons = strings(&report["verdict"]["reasons"]);
    reasons.into_iter().filter(|reason| !reason.contains("debug build")).collect()
}

pub(crate) fn strings(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

pub(crate) fn numbers(list: &Value) -> Vec<u64> {
    list.as_array().unwrap().iter().map(|number| number.as_u64().unwrap()).collect()
}

/// A process that a test did not start itself.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    command: String,
}

impl Process {
    /// Ports at which it listens, on whatever address.
    pub(crate) fn listens_at(&self) -> Vec<u16> {
        let fds = fs::read_dir(format!("/proc/{}/fd", self.pid)).into_iter().flatten().flatten();
        let targets = fds.filter_map(|fd| fs::read_link(fd.path()).ok());
        let sockets: Vec<String> = targets.map(|target| target.to_string_lossy().into_owned()).collect();
        let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
        let ports = table.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (address, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
            // 0A: it listens.
            let is_own = *state == "0A" && sockets.contains(&format!("socket:[{inode}]"));
            is_own.then(|| u16::from_str_radix(address.rsplit(':').next()?, 16).ok())?
        });
        ports.collect()
    }
}

/// Children of a process, in the order in which they were started.
pub(crate) fn children(pid: u32) -> Vec<Process> {
    let ids = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let ids = ids.split_whitespace().map(|id| id.parse().unwrap());
    ids.map(|pid| Process {
        pid,
        command: fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " "),
    })
    .collect()
}

/// Sends a signal: `-KILL`, `-STOP`, `-CONT`, `-INT`.
pub(crate) fn signal(name: &str, pid: u32) {
    assert!(signal_if_alive(name, pid), "process {pid} can not be sent {name}");
}

fn signal_if_alive(name: &str, pid: u32) -> bool {
    Command::new("kill").args([name, &pid.to_string()]).stderr(Stdio::null()).status().unwrap().success()
}

/// Waits until none of these processes lives (a zombie that waits to be reaped does not).
pub(crate) fn wait_until_gone(processes: &[Process]) {
    for process in processes {
        let Process { pid, command } = process;
        wait_for(&format!("the end of process {pid}: {command}"), || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let lives = stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'));
            (!lives).then_some(())
        });
    }
}
