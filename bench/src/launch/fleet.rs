//! The replicas' processes.

use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::rc::Rc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use hippodrome_analysis::report::Fault;
use hippodrome_engine::control::Question;
use hippodrome_engine::platform::cpu_us_of;

use super::Stop;
use super::audience::Audience;
use super::control::Control;
use super::faults::Ordeal;
use super::hostile::Hostiles;
use super::links::Wanted;
use super::process::{Process, describe};
use super::setup::Setup;
use crate::commands::replica::Ready;
use crate::failure::Failure;

/// Replicas that are not up after this time are given up.
pub(super) const UP_TIMEOUT: Duration = Duration::from_secs(60);
/// Replicas that have not stopped after this time are killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// What reports call the end of a replica that nobody had planned.
pub(super) const PROCESS_EXIT: &str = "process_exit";
/// How often something that is waited for is looked at.
pub(super) const TICK: Duration = Duration::from_millis(50);

/// One replica and how to ask it.
pub(super) struct Member {
    /// Its process.
    pub(super) process: Process,
    /// Its control port.
    pub(super) control: Control,
    /// How it ended before it was told to, once that was seen.
    pub(super) ended: Option<String>,
    /// How it misbehaves on purpose, if it does: nothing that it says counts.
    pub(super) byzantine: Option<String>,
    /// What else a scenario made of it.
    pub(super) ordeal: Ordeal,
    /// What a scenario wants of its links, whichever of its processes runs.
    pub(super) links: Wanted,
}

impl Member {
    /// CPU time of all its processes so far, µs; `None` while none runs.
    pub(super) fn cpu_us(&self) -> Option<u64> {
        let running = if self.ended.is_some() { None } else { cpu_us_of(self.process.pid()) };
        running.map(|now| now + self.ordeal.retired_cpu_us)
    }
}

/// All replicas, in order of their ids.
pub(super) struct Fleet {
    /// The replicas.
    pub(super) members: Vec<Member>,
    /// What went wrong with them while the load ran.
    pub(super) faults: Vec<Fault>,
    /// What is worth knowing besides.
    pub(super) notes: Vec<String>,
    /// What else speaks against the run.
    pub(super) failures: Vec<String>,
    /// Whether a scenario has done something to a replica: it may have a lot to catch up with.
    pub(super) disturbed: bool,
    /// Who is told how the run goes.
    pub(super) audience: Rc<dyn Audience>,
}

impl Fleet {
    /// Starts every replica with its listener and waits until all are up. Gives the setup back without its listeners.
    ///
    /// # Errors
    /// If a replica ends or is not up in time, with the end of its log.
    pub(super) fn start(mut setup: Setup, audience: Rc<dyn Audience>, stop: &Stop) -> Result<(Setup, Self), Failure> {
        let listeners = std::mem::take(&mut setup.listeners);
        let mut processes = Vec::new();
        for (id, listener) in listeners.into_iter().enumerate() {
            processes.push(start(&setup, id, Stdio::from(OwnedFd::from(listener)), &[])?);
        }
        let deadline = Instant::now() + UP_TIMEOUT;
        let mut members = Vec::new();
        let mut faults = Vec::new();
        for (id, mut process) in (0u16..).zip(processes) {
            let ready = ready(&mut process, deadline, stop)?;
            let byzantine = setup.options.byzantine.as_ref().and_then(|byzantine| byzantine.of(id));
            faults.extend(byzantine.clone().map(|detail| Fault {
                kind: "byzantine".into(),
                replica: Some(id),
                detail,
                ..Fault::default()
            }));
            let control = Control::new(ready.control);
            let (ordeal, links) = (Ordeal::default(), Wanted::default());
            members.push(Member { process, control, ended: None, byzantine, ordeal, links });
        }
        let (notes, failures) = (Vec::new(), Vec::new());
        Ok((setup, Self { members, faults, notes, failures, disturbed: false, audience }))
    }

    /// Ends the hostile clients and notes what they did.
    pub(super) fn end_hostilities(&mut self, hostiles: Hostiles) {
        let (faults, failures) = hostiles.stop();
        self.faults.splice(0..0, faults);
        self.failures.extend(failures);
    }

    /// Notes replicas that have ended since the last look. `at_s`: seconds since the load began.
    pub(super) fn watch(&mut self, at_s: f64) {
        for (id, member) in (0u16..).zip(&mut self.members) {
            if member.ended.is_some() {
                continue;
            }
            if let Some(status) = member.process.ended() {
                let how = describe(status);
                self.audience.happened(&format!("{at_s:>6.1} s  replica {id} ended: {how}; the run goes on"));
                self.faults.push(Fault {
                    at_s,
                    kind: PROCESS_EXIT.into(),
                    replica: Some(id),
                    detail: how.clone(),
                    ..Fault::default()
                });
                member.ended = Some(how);
            }
        }
    }

    /// Asks the living to stop, waits for them, and kills who does not.
    ///
    /// # Errors
    /// If interrupted.
    pub(super) fn stop(&mut self, stop: &Stop) -> Result<(), Failure> {
        for member in self.members.iter().filter(|member| member.is_up()) {
            // Whoever can not be asked is killed below.
            let _ = member.control.ask::<serde_json::Value>(&Question::Stop);
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        for member in self.members.iter_mut().filter(|member| member.ended.is_none()) {
            while member.process.ended().is_none() && !member.ordeal.stopped && Instant::now() < deadline {
                stop.check()?;
                std::thread::sleep(TICK);
            }
            match member.process.ended() {
                Some(status) if status.success() => {}
                Some(status) => {
                    self.notes.push(format!(
                        "{} ended with {} when told to stop",
                        member.process.name(),
                        describe(status)
                    ));
                }
                None => {
                    member.process.kill();
                    self.notes.push(format!("{} had to be killed: it did not stop", member.process.name()));
                }
            }
        }
        Ok(())
    }
}

/// Starts a replica's process; `extra` are arguments that only it is given.
pub(super) fn start(setup: &Setup, id: usize, stdin: Stdio, extra: &[String]) -> anyhow::Result<Process> {
    let name = format!("replica-{id}");
    let options = &setup.options;
    Process::start(name.clone(), setup.log_path(&name), stdin, |command| {
        command.arg("replica").arg("--cluster").arg(setup.cluster_path());
        command.arg("--key").arg(setup.key_path(&name)).args(["--id", &id.to_string()]);
        command.arg("--listen-from-stdin").args(["--parent", &std::process::id().to_string()]);
        command.args(["--batch", &options.replica.batch.to_string()]);
        command.args(["--placement", &options.replica.placement.to_string()]);
        command.args(["--wait", &options.replica.wait.to_string()]);
        command.arg("--data").arg(setup.data_path(&name));
        command.args(["--durability", options.replica.durability.name()]);
        command.args(["--snapshot-every", &options.replica.snapshot_every.to_string()]);
        if let Some(ns) = options.replica.burn_ns {
            command.args(["--burn-ns", &ns.to_string()]);
        }
        command.args(["--transport", &options.transport.transport.to_string()]);
        command.args(setup.network_argument());
        let byzantine = options.byzantine.as_ref().zip(u16::try_from(id).ok());
        if let Some(kinds) = byzantine.and_then(|(byzantine, id)| byzantine.of(id)) {
            command.args(["--byzantine", &kinds]);
        }
        if let Some(sequence) = options.wrong_from.filter(|_| id == 1) {
            command.args(["--wrong-from", &sequence.to_string()]);
        }
        command.args(extra);
    })
}

/// Waits for a replica's first line.
fn ready(process: &mut Process, deadline: Instant, stop: &Stop) -> Result<Ready, Failure> {
    loop {
        stop.check()?;
        match process.lines.recv_timeout(TICK) {
            Ok(line) => {
                return serde_json::from_str(&line)
                    .map_err(|error| Failure::Failed(process.error(&format!("said '{line}' ({error})"))));
            }
            Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
            Err(RecvTimeoutError::Timeout) => {
                let seconds = UP_TIMEOUT.as_secs();
                return Err(process.error(&format!("is not up after {seconds} s")).into());
            }
            Err(RecvTimeoutError::Disconnected) => {
                // Its output closes a moment before it can be reaped.
                std::thread::sleep(TICK);
                let how = process.ended().map_or_else(|| "closed its output".into(), describe);
                return Err(process.error(&format!("did not come up ({how})")).into());
            }
        }
    }
}
