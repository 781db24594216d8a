//! Hostile clients' processes, beside the measured load: started before it, killed when it has ended.

use std::process::Stdio;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use hippodrome_analysis::report::Fault;
use hippodrome_loadgen::hostile::{Kind, Tally};

use super::Stop;
use super::process::{Process, describe};
use super::setup::Setup;
use crate::failure::Failure;

/// Logical clients of each hostile node.
pub(super) const CLIENTS: u32 = 512;
/// One that has said nothing after this time is given up.
const UP_TIMEOUT: Duration = Duration::from_secs(20);
/// How often something that is waited for is looked at.
const TICK: Duration = Duration::from_millis(50);

/// All hostile clients of a run.
pub(super) struct Hostiles(Vec<(Kind, Process)>);

impl Hostiles {
    /// Starts them and waits until each has read its key.
    ///
    /// # Errors
    /// If one ends or says nothing, with the end of its log.
    pub(super) fn start(setup: &Setup, stop: &Stop) -> Result<Self, Failure> {
        let kinds = setup.options.hostile.iter().flat_map(|hostile| &hostile.0);
        let mut processes = Vec::new();
        // The first client node is the measured load's.
        for (index, kind) in (1..).zip(kinds) {
            processes.push((*kind, start(setup, index, *kind)?));
        }
        let deadline = Instant::now() + UP_TIMEOUT;
        for (_, process) in &mut processes {
            await_line(process, deadline, stop)?;
        }
        Ok(Self(processes))
    }

    /// Kills them all; what each did, or that it had ended before.
    pub(super) fn stop(mut self) -> (Vec<Fault>, Vec<String>) {
        let mut faults = Vec::new();
        let mut failures = Vec::new();
        for (kind, process) in &mut self.0 {
            if let Some(status) = process.ended() {
                failures.push(process.error(&format!("ended before the load did ({})", describe(status))).to_string());
            }
            process.kill();
            let told = process.lines.try_iter().filter_map(|line| serde_json::from_str::<Tally>(&line).ok()).last();
            let Tally { connections, closed, frames, bytes, bytes_read } = told.unwrap_or_default();
            faults.push(Fault {
                kind: "hostile_client".into(),
                detail: format!(
                    "{kind}: {connections} connections made, {closed} closed by replicas; {frames} frames, {bytes} bytes sent, {bytes_read} bytes read"
                ),
                ..Fault::default()
            });
        }
        (faults, failures)
    }
}

fn start(setup: &Setup, index: u16, kind: Kind) -> anyhow::Result<Process> {
    let name = format!("hostile-{index}-{kind}");
    Process::start(name.clone(), setup.log_path(&name), Stdio::null(), |command| {
        command.arg("load").arg(format!("--hostile={kind}")).arg(format!("--parent={}", std::process::id()));
        command.args(["--progress=json", "--duration=24h"]);
        if let Some(seed) = setup.options.load.seed {
            command.arg(format!("--seed={seed}"));
        }
        command.arg("--cluster").arg(setup.cluster_path());
        command.arg("--key").arg(setup.key_path(&format!("client-{index}")));
    })
}

/// Waits for the first line: keys may be removed once everybody has read them.
fn await_line(process: &mut Process, deadline: Instant, stop: &Stop) -> Result<(), Failure> {
    loop {
        stop.check()?;
        match process.lines.recv_timeout(TICK) {
            Ok(_) => return Ok(()),
            Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
            Err(_) => return Err(process.error("did not come up").into()),
        }
    }
}
