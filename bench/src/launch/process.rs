//! Child processes of this very binary, killed and reaped when their guard is dropped: on errors, panics and Ctrl-C
//! alike.
//!
//! A launcher that is itself killed drops nothing. For that case children watch for their parent (`--parent`).

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

/// The file that this process runs, also after another one has taken its name: many runs in a row outlive a rebuild.
const THIS_BINARY: &str = "/proc/self/exe";
/// Lines of a log that error messages quote.
const TAIL_LINES: usize = 8;

/// A running or ended child.
pub(super) struct Process {
    name: String,
    log: PathBuf,
    child: Child,
    status: Option<ExitStatus>,
    /// Its standard output, line by line; closed when it closes its end.
    pub(super) lines: Receiver<String>,
}

impl Process {
    /// Starts this binary with these arguments. Its stderr is added to `log`, its stdout to [`lines`](Self::lines).
    ///
    /// # Errors
    /// If the log can not be made or the process not be started.
    pub(super) fn start(
        name: String,
        log: PathBuf,
        stdin: Stdio,
        arguments: impl FnOnce(&mut Command),
    ) -> anyhow::Result<Self> {
        let file = File::options().create(true).append(true).open(&log).with_context(|| log.display().to_string())?;
        let mut command = Command::new(THIS_BINARY);
        command.arg0("hippodrome");
        arguments(&mut command);
        // A process group of its own: a terminal's Ctrl-C reaches the launcher alone, which then ends its children.
        command.process_group(0).stdin(stdin).stdout(Stdio::piped()).stderr(file);
        let mut child = command.spawn().with_context(|| format!("can not start {name}"))?;
        let stdout = child.stdout.take();
        let (sender, lines) = channel();
        // Ends with the child, whose end of the pipe closes.
        std::thread::spawn(move || {
            for line in stdout.into_iter().flat_map(|pipe| BufReader::new(pipe).lines().map_while(Result::ok)) {
                // Nobody listens any more: read on, so that the child never blocks on a full pipe.
                let _ = sender.send(line);
            }
        });
        Ok(Self { name, log, child, status: None, lines })
    }

    /// What people call it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
        }
        self.status
    }

    /// Kills it if it lives, and reaps it.
    pub(super) fn kill(&mut self) {
        if self.ended().is_none() {
            let _ = self.child.kill();
            self.status = self.child.wait().ok();
        }
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// If it has ended.
    pub(super) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let name = &self.name;
        anyhow::ensure!(self.status.is_none(), "{name} has ended");
        kill_process(Pid::from_child(&self.child), signal).with_context(|| format!("{name} can not be signalled"))
    }

    /// An error about it, with the end of its log.
    pub(super) fn error(&self, what: &str) -> anyhow::Error {
        let (name, log) = (&self.name, self.log.display());
        let tail = tail(&self.log);
        if tail.is_empty() {
            return anyhow::anyhow!("{name} {what}; its log {log} is empty");
        }
        anyhow::anyhow!("{name} {what}; the end of its log {log}:\n{tail}")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// `exit status 3`, `killed by signal 9`.
pub(super) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// The last lines of a file, indented.
fn tail(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    last.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_read_well() {
        assert_eq!(describe(ExitStatus::from_raw(3 << 8)), "exit status 3");
        assert_eq!(describe(ExitStatus::from_raw(9)), "killed by signal 9");
    }

    #[test]
    fn tails_are_short() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text: String = (0..20).map(|n| format!("line {n}\n")).collect();
        std::fs::write(file.path(), text).unwrap();
        let tail = tail(file.path());
        assert!(tail.starts_with("  line 12\n") && tail.ends_with("  line 19"), "{tail}");
        assert_eq!(super::tail(Path::new("/nonexistent")), "");
    }
}
