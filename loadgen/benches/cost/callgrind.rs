//! Instructions, by running this program again under valgrind's callgrind, which executes and counts every one.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::parts::Part;

/// What the program under valgrind is told, before the name of a case.
pub(crate) const COUNTED: &str = "--counted";

/// Callgrind's output with names and numbers in full, a line for each function: easy to read.
const PLAIN: [&str; 5] = ["--compress-strings=no", "--compress-pos=no", "--dump-line=no", "--demangle=no", "--quiet"];

/// Instructions of a case.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Instructions {
    /// Those of each part, at all nodes that have it, in the order of [`Part::ALL`].
    pub(crate) parts: Vec<u64>,
    /// Operations that took them.
    pub(crate) operations: u64,
    /// What the code found itself running on.
    pub(crate) machine: String,
}

/// Whether there is a valgrind.
pub(crate) fn is_there() -> bool {
    let version = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

/// A case that runs under valgrind.
pub(crate) struct Running {
    case: &'static str,
    child: Child,
    folder: TempDir,
}

impl Running {
    /// Starts it.
    ///
    /// # Errors
    /// Says what could not be started.
    pub(crate) fn start(case: &'static str) -> Result<Self, String> {
        let failed = |what: &str, error: std::io::Error| format!("{case}: {what}: {error}");
        let folder = tempfile::tempdir().map_err(|error| failed("a folder for callgrind's output", error))?;
        let program = std::env::current_exe().map_err(|error| failed("this program's file", error))?;
        let mut output = std::ffi::OsString::from("--callgrind-out-file=");
        output.push(output_file(&folder));
        let mut command = Command::new("valgrind");
        command.arg("--tool=callgrind").args(PLAIN).arg(output).arg(program).args([COUNTED, case]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let child = command.spawn().map_err(|error| failed("valgrind", error))?;
        Ok(Self { case, child, folder })
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Says what went wrong.
    pub(crate) fn finish(self) -> Result<Instructions, String> {
        let Self { case, child, folder } = self;
        let failed = |what: &str| format!("{case} under valgrind: {what}");
        let output = child.wait_with_output().map_err(|error| failed(&error.to_string()))?;
        if !output.status.success() {
            return Err(failed(&output.status.to_string()));
        }
        let told = String::from_utf8_lossy(&output.stdout);
        let (operations, machine) = told.trim().split_once(' ').ok_or_else(|| failed("it said nothing"))?;
        let operations = operations.parse().map_err(|_| failed(&format!("it said: {told}")))?;
        let profile = std::fs::read_to_string(output_file(&folder)).map_err(|error| failed(&error.to_string()))?;
        let parts = inclusive(&profile);
        match Part::ALL.iter().zip(&parts).find(|(_, instructions)| **instructions == 0) {
            Some((part, _)) => Err(failed(&format!("no instructions of {} were found", part.name()))),
            None => Ok(Instructions { parts, operations, machine: machine.to_owned() }),
        }
    }
}

fn output_file(folder: &TempDir) -> PathBuf {
    folder.path().join("callgrind.out")
}

/// What calls of each part's function took, with all that these called, out of a profile in callgrind's format
/// (valgrind's manual, "Callgrind Format Specification"): after `cfn=` and `calls=` the cost of these calls is the last
/// number of the next line.
pub(crate) fn inclusive(profile: &str) -> Vec<u64> {
    let mut parts = vec![0; Part::ALL.len()];
    let mut callee = None;
    let mut lines = profile.lines();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("cfn=") {
            callee = Part::ALL.iter().find(|part| name.contains(part.mark()));
        } else if line.starts_with("calls=") {
            let cost = lines.next().and_then(|line| line.split_whitespace().last()?.parse::<u64>().ok());
            if let (Some(part), Some(cost)) = (callee.take(), cost) {
                parts[*part as usize] += cost;
            }
        }
    }
    parts
}
