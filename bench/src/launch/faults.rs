//! What can be done to replicas while the load runs.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Instant;

use anyhow::Context as _;
use hippodrome_engine::transport::{BACKLOG, reserve};
use rustix::process::Signal;
use socket2::Socket;

use super::Stop;
use super::fleet::{Fleet, Member, TICK, UP_TIMEOUT, start};
use super::setup::Setup;
use crate::commands::replica::Ready;
use crate::control::Control;
use crate::failure::Failure;

/// How a replica ended that a scenario killed.
const KILLED: &str = "killed by the scenario";

/// What else a scenario makes of a replica.
#[derive(Default)]
pub(super) struct Ordeal {
    /// SIGSTOP has been sent, SIGCONT not.
    pub(super) stopped: bool,
    /// It was killed and is to come back at the same port, which is kept for it: any other process of this machine
    /// might be given it for a connection.
    port: Option<Socket>,
    /// CPU time of its earlier processes, µs.
    pub(super) retired_cpu_us: u64,
    /// It has been started anew and is not up yet.
    pub(super) starting: bool,
}

impl Member {
    /// Whether it can be asked, and takes part as far as anybody knows.
    pub(super) fn is_up(&self) -> bool {
        self.ended.is_none() && !self.ordeal.stopped && !self.ordeal.starting
    }

    /// Whether the scenario killed it, and it has not been started since.
    pub(super) fn was_killed(&self) -> bool {
        self.ended.as_deref() == Some(KILLED)
    }
}

impl Fleet {
    /// Kills a replica (SIGKILL) and keeps its port.
    pub(super) fn kill(&mut self, setup: &Setup, id: u16) {
        self.disturbed = true;
        let member = self.member(id);
        member.ordeal.retired_cpu_us = member.cpu_us().unwrap_or(member.ordeal.retired_cpu_us);
        member.process.kill();
        member.ended = Some(KILLED.into());
        member.ordeal = Ordeal { retired_cpu_us: member.ordeal.retired_cpu_us, ..Ordeal::default() };
        self.keep_ports(setup);
    }

    /// Keeps the ports of killed replicas as soon as the kernel has closed them, which may be a moment after the
    /// process ended.
    pub(super) fn keep_ports(&mut self, setup: &Setup) {
        for (id, member) in (0u16..).zip(&mut self.members) {
            if member.was_killed() && member.ordeal.port.is_none() {
                member.ordeal.port = address(setup, id).and_then(|address| reserve(address).ok());
            }
        }
    }

    /// Stops a replica's process, or lets it go on, with links as they are to be by then.
    ///
    /// # Errors
    /// If the process can not be signalled, or does not change its links.
    pub(super) fn pause(&mut self, id: u16, stopped: bool) -> anyhow::Result<()> {
        self.disturbed = true;
        let member = self.member(id);
        member.process.signal(if stopped { Signal::STOP } else { Signal::CONT })?;
        member.ordeal.stopped = stopped;
        if stopped { Ok(()) } else { self.make_links(id) }
    }

    /// Starts a killed replica anew at its old address, with what it kept on disk, perhaps as one that misbehaves. Does
    /// not wait until it is up.
    ///
    /// # Errors
    /// If its port can not be had (yet), or no process be started.
    pub(super) fn restart(&mut self, setup: &Setup, id: u16, byzantine: Option<&str>) -> anyhow::Result<()> {
        let address = address(setup, id).context("a replica without an address")?;
        let member = self.member(id);
        let socket = match member.ordeal.port.take() {
            Some(socket) => socket,
            None => reserve(address).with_context(|| format!("replica {id}: {address}"))?,
        };
        socket.listen(BACKLOG).with_context(|| format!("replica {id}: {address}"))?;
        let listener = Stdio::from(OwnedFd::from(TcpListener::from(socket)));
        let extra: Vec<String> = byzantine.map(|kind| format!("--byzantine={kind}")).into_iter().collect();
        member.process = start(setup, usize::from(id), listener, &extra)?;
        member.ended = None;
        member.ordeal.starting = true;
        if let Some(kind) = byzantine {
            member.byzantine = Some(kind.to_owned());
        }
        Ok(())
    }

    /// Notes the control ports of replicas that have come up since the last look, and makes their links what they are
    /// to be. What went wrong with that.
    pub(super) fn welcome(&mut self) -> Vec<String> {
        let mut problems = Vec::new();
        for (id, index) in (0u16..).zip(0..self.members.len()) {
            let member = &mut self.members[index];
            if !member.ordeal.starting {
                continue;
            }
            // If it has ended, whoever watches processes sees it.
            let line = member.process.lines.try_recv().unwrap_or_default();
            let Ok(ready) = serde_json::from_str::<Ready>(&line) else { continue };
            self.audience.replica(id, ready.control);
            member.control = Control::new(ready.control);
            member.ordeal.starting = false;
            problems.extend(self.make_links(id).err().map(|error| format!("{error:#}")));
        }
        problems
    }

    /// Waits for replicas that are still coming up.
    ///
    /// # Errors
    /// If interrupted. Those that do not come up are silent, and said to be.
    pub(super) fn await_starting(&mut self, stop: &Stop) -> Result<(), Failure> {
        let deadline = Instant::now() + UP_TIMEOUT;
        while self.members.iter().any(|member| member.ordeal.starting) && Instant::now() < deadline {
            stop.check()?;
            let problems = self.welcome();
            self.failures.extend(problems);
            if self.members.iter_mut().any(|member| member.ordeal.starting && member.process.ended().is_some()) {
                break;
            }
            std::thread::sleep(TICK);
        }
        Ok(())
    }

    fn member(&mut self, id: u16) -> &mut Member {
        &mut self.members[usize::from(id)]
    }
}

fn address(setup: &Setup, id: u16) -> Option<SocketAddr> {
    setup.cluster.nodes.get(usize::from(id)).and_then(|node| node.address)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_kept_port_refuses_connections_and_listens_again() {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = first.local_addr().unwrap();
        let peer = TcpStream::connect(address).unwrap();
        let accepted = first.accept().unwrap();
        assert!(reserve(address).is_err(), "somebody listens there");
        drop((first, accepted));
        // Its connections may linger in the kernel; the port can be had nevertheless.
        let kept = reserve(address).unwrap();
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        kept.listen(BACKLOG).unwrap();
        TcpStream::connect(address).unwrap();
        drop(peer);
    }
}
