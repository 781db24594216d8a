//! What a replica tells: its answer to `{"ask":"status"}`, field by field.

use std::fmt::Error;
use std::net::SocketAddr;

use anyhow::Context as _;
use hippodrome_engine::control::{PhaseReport, Question, ReplicaReport};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::page::{Labels, Page};
use crate::control::Control;

const US_PER_S: f64 = 1e6;

/// The page of the replica whose control port is here: asked as anybody asks it, so that both say the same.
///
/// # Errors
/// If it does not answer.
pub(crate) fn page(control: SocketAddr) -> anyhow::Result<String> {
    let report: ReplicaReport = Control::new(control).ask(&Question::Status)?;
    super::render(Status(report)).context("metrics")
}

/// A replica's answer.
#[derive(Debug)]
pub(super) struct Status(pub(super) ReplicaReport);

impl Collector for Status {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut page = Page(encoder);
        self.identity(&mut page)?;
        self.protocol(&mut page)?;
        self.traffic(&mut page)?;
        self.process(&mut page)?;
        self.stages(&mut page)
    }
}

impl Status {
    fn identity(&self, page: &mut Page<'_>) -> Result<(), Error> {
        let ReplicaReport { id, durability, transport, placement, .. } = &self.0;
        let labels: Labels = vec![
            ("id", id.to_string()),
            ("durability", durability.clone()),
            ("transport", transport.clone()),
            ("placement", placement.clone()),
        ];
        page.info("hippodrome_replica", "Which replica this is, and how it runs", &labels)
    }

    fn protocol(&self, page: &mut Page<'_>) -> Result<(), Error> {
        let it = &self.0;
        let flag = |set: bool| u64::from(set);
        page.gauge("hippodrome_replica_view", "View that the replica is in or waits for", it.view.0)?;
        page.gauge(
            "hippodrome_replica_active",
            "1 if it takes part in its view, 0 while a new one is to start",
            flag(it.active),
        )?;
        page.gauge("hippodrome_replica_voting", "1 if it may vote, 0 if it has forgotten its votes", flag(it.voting))?;
        page.gauge(
            "hippodrome_replica_diverged",
            "1 if its state differed from what a quorum vouched for",
            flag(it.diverged.is_some()),
        )?;
        page.gauge(
            "hippodrome_replica_left_behind",
            "1 while it fetches the others' state",
            flag(it.left_behind.is_some()),
        )?;
        page.gauge("hippodrome_replica_executed_sequence", "Highest executed sequence number", it.executed_sequence.0)?;
        page.gauge("hippodrome_replica_stable_checkpoint", "Low watermark", it.stable_checkpoint.0)?;
        page.counter("hippodrome_replica_view_changes", "View changes begun", it.view_changes)?;
        page.counter("hippodrome_replica_states_installed", "States fetched and taken over", it.states_installed)?;
        page.counter(
            "hippodrome_replica_operations",
            "Operations executed, null requests and duplicates left out",
            it.executed_ops,
        )?;
        page.counter("hippodrome_replica_batches", "Batches executed", it.batches)?;
        page.counter(
            "hippodrome_replica_rolled_back_batches",
            "Batches executed before they were committed, and undone",
            it.rolled_back,
        )
    }

    fn traffic(&self, page: &mut Page<'_>) -> Result<(), Error> {
        let it = &self.0;
        let ignored = it.ignored.iter().map(|(reason, count)| (vec![("reason", reason.clone())], *count));
        page.counter("hippodrome_replica_messages_sent", "Frames sent to peers and clients", it.messages_sent)?;
        page.counter("hippodrome_replica_sent_bytes", "Bytes handed to the kernel", it.bytes_sent)?;
        page.counter("hippodrome_replica_received_bytes", "Bytes taken from the kernel", it.bytes_received)?;
        page.counter("hippodrome_replica_socket_calls", "Reads and writes that moved bytes", it.socket_calls)?;
        page.counter(
            "hippodrome_replica_system_calls",
            "System calls that moved bytes, waited for sockets or looked at them",
            it.system_calls,
        )?;
        page.gauge(
            "hippodrome_replica_connections",
            "Peers and client connections that stand",
            it.connected.len() as u64,
        )?;
        page.counters("hippodrome_replica_ignored", "What was refused or not needed, by reason", ignored)
    }

    #[allow(clippy::cast_precision_loss, reason = "CPU time of one process")]
    fn process(&self, page: &mut Page<'_>) -> Result<(), Error> {
        let cpu_s = self.0.cpu_us as f64 / US_PER_S;
        page.counter("hippodrome_replica_cpu_seconds", "CPU time of the process, user and system", cpu_s)?;
        page.gauge("hippodrome_replica_resident_bytes", "Resident memory", self.0.resident_bytes)
    }

    fn stages(&self, page: &mut Page<'_>) -> Result<(), Error> {
        let stages = &self.0.stages;
        let labels =
            |stage: &str, thread: &str| -> Labels { vec![("stage", stage.to_owned()), ("thread", thread.to_owned())] };
        let busy = stages.iter().map(|stage| (labels(&stage.name, &stage.thread), stage.busy_percent / 100.0));
        page.gauges(
            "hippodrome_replica_stage_busy_ratio",
            "Share of the time since the start that a stage worked",
            busy,
        )?;
        let queues = stages.iter().map(|stage| (labels(&stage.name, &stage.thread), stage.queue_p99));
        page.gauges("hippodrome_replica_stage_queue_batches", "99th percentile of a stage's input queue", queues)?;
        let phases = self.0.phases.iter().flat_map(|(name, PhaseReport { p50, p99 })| {
            [("0.5", p50), ("0.99", p99)]
                .map(|(quantile, us)| (vec![("phase", name.clone()), ("quantile", quantile.to_owned())], us / US_PER_S))
        });
        page.gauges(
            "hippodrome_replica_phase_seconds",
            "Time from each phase to the next, as the primary saw it",
            phases,
        )
    }
}
