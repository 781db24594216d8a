//! Runs that another build of hippodrome makes, such as an earlier commit's.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

use super::point::Setting;
use super::trial::{self, Trial};
use crate::failure::Failure;
use crate::launch::Stop;

/// How often its end is looked for.
const TICK: Duration = Duration::from_millis(50);
/// How long it may take to end what it has begun.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Its standard error, beside what it writes itself.
const LOG: &str = "launcher.log";
/// As much of its standard error is told if it fails, lines.
const LINES_TOLD: usize = 5;

/// Another build.
#[derive(Debug)]
pub(crate) struct Binary {
    path: PathBuf,
    version: String,
    digest: String,
}

impl Binary {
    /// Asks it who it is. `option` gave it.
    ///
    /// # Errors
    /// If it can not be started, or is no hippodrome.
    pub(crate) fn new(option: &str, path: &Path) -> Result<Self, Failure> {
        let allowed = "another build of hippodrome";
        // A path that holds wherever it runs, also one without a directory in front of it.
        let absolute = std::path::absolute(path).with_context(|| path.display().to_string()).map_err(Failure::Usage)?;
        let output = Command::new(&absolute).arg("--version").stdin(Stdio::null()).output();
        let output = output.map_err(|error| Failure::value(option, path.display(), format!("{allowed} ({error})")))?;
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !output.status.success() || !version.starts_with("hippodrome ") {
            return Err(Failure::value(option, path.display(), allowed));
        }
        let mut hasher = blake3::Hasher::new();
        let content = File::open(&absolute).and_then(|mut file| std::io::copy(&mut file, &mut hasher));
        content.with_context(|| path.display().to_string()).map_err(Failure::Usage)?;
        Ok(Self { path: absolute, version, digest: hasher.finalize().to_hex().to_string() })
    }

    /// Of its file: two builds of one commit need not be the same.
    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }

    /// What it says it is: version, profile and commit.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Makes a run with these settings, and with its own defaults for everything else.
    ///
    /// # Errors
    /// If interrupted, or if it can not be started.
    pub(crate) fn run(&self, settings: &[Setting], directory: &Path, stop: &Stop) -> Result<Trial, Failure> {
        let started = Instant::now();
        let mut aside = directory.as_os_str().to_owned();
        aside.push(".log");
        let aside = PathBuf::from(aside);
        let log = File::create(&aside).with_context(|| aside.display().to_string())?;
        let mut command = Command::new(&self.path);
        command.arg("run").args(settings.iter().map(|setting| format!("--{setting}"))).arg("--out").arg(directory);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().with_context(|| self.path.display().to_string())?;
        let ended = Guard(child).wait(stop);
        let said = std::fs::read_to_string(&aside).unwrap_or_default();
        // It took only an empty directory, so that its log can be put there only now.
        let _ = std::fs::create_dir_all(directory);
        let _ = std::fs::rename(&aside, directory.join(LOG));
        ended?;
        let trial = trial::read(directory).unwrap_or_else(|| {
            let lines: Vec<&str> = said.lines().collect();
            trial::failed(format!("{}: {}", self.version, lines[lines.len().saturating_sub(LINES_TOLD)..].join("; ")))
        });
        trial::finish(trial, directory, started)
    }
}

/// A launcher that is asked to end when this is dropped: it ends its children itself.
struct Guard(Child);

impl Guard {
    fn wait(mut self, stop: &Stop) -> Result<(), Failure> {
        loop {
            stop.check()?;
            if self.0.try_wait().context("another build's run")?.is_some() {
                return Ok(());
            }
            std::thread::sleep(TICK);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Ok(None) = self.0.try_wait() else { return };
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(TICK);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_hippodrome_is_refused() {
        for path in ["/bin/true", "/nowhere/hippodrome"] {
            let error = Binary::new("b-binary", Path::new(path)).unwrap_err().words();
            assert!(error.contains(&format!("b-binary = {path}: allowed: another build of hippodrome")), "{error}");
        }
    }
}
