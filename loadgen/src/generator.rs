//! The load generator: connects, drives the load on its threads, and merges what they measured.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hippodrome_engine::app::{self, Validator};
use hippodrome_engine::auth::Keyring;
use hippodrome_engine::emulation::{NetworkSpec, OutgoingLinks};
use hippodrome_engine::limits::{CONNECTIONS_MAX, SAMPLES_MAX};
use hippodrome_engine::pipeline::clock::Clock;
use hippodrome_engine::platform;
use hippodrome_engine::sampling::Notes;
use hippodrome_engine::settings::{Reads, Replies};
use hippodrome_engine::types::{NodeId, nanos};

use crate::driver::{ThreadSecond, ThreadSummary};
pub use crate::options::{LinkChanges, LoadError, LoadOptions, Mode, Retransmission, WorkloadKind, WorkloadOptions};
use crate::recorder::{Interval, IntervalLog};
use crate::report::{LoadReport, Samples, SecondSample};
use crate::sampler::{Sampled, Sampler};
use crate::tenths::Tenths;
use crate::thread::{LoadThread, Ready, Start, schedule};
use crate::timetable::Timetable;
use crate::workload::Workload;
use crate::workload::fixed::Fixed;
use crate::workload::ycsb::{Ycsb, YcsbConfig};

pub mod by_hand;

/// After the load has ended, outstanding operations are waited for until none has completed for this long ..
const DRAIN: Duration = Duration::from_secs(3);
/// .. and no longer than this.
const DRAIN_MAX: Duration = Duration::from_secs(60);
/// Between "everybody is connected" and the start of the load.
const HEAD_START: Duration = Duration::from_millis(20);

fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> LoadError {
    let what = what.into();
    move |error| LoadError::Io { what, error }
}

/// Drives a load and reports what it took. `on_second` is called once a second.
///
/// # Errors
/// Anything that keeps the load from being driven, by name. What the cluster does wrong is in the report instead.
pub fn run(options: &LoadOptions, on_second: &mut dyn FnMut(&SecondSample)) -> Result<LoadReport, LoadError> {
    let setup = Setup::new(options)?;
    let (ready_in, ready) = channel();
    let (go, seconds, threads) = setup.spawn(&ready_in)?;
    drop(ready_in);
    let transport = setup.await_connections(&ready)?;
    let timetable = setup.timetable();
    let started = SystemTime::now() + setup.clock.until(timetable.start);
    let log = IntervalLog::create(&options.hlog, started);
    let mut log = log.map_err(io(options.hlog.display().to_string()))?;
    for start in &go {
        // A thread that is gone reports its error when it is joined.
        let _ = start.send(timetable);
    }
    let outcome = Sampler::new(setup.threads, (setup.clock, timetable), &mut log, on_second).sample(&seconds);
    let mut summaries = Vec::new();
    for thread in threads {
        let summary = thread.join().unwrap_or_else(|_| Err(std::io::Error::other("a load thread panicked")));
        summaries.push(summary.map_err(io("load thread"))?);
    }
    log.finish().map_err(io(options.hlog.display().to_string()))?;
    let outcome = outcome.map_err(io(options.hlog.display().to_string()))?;
    let mut report = setup.report(started + options.warmup, transport, outcome, summaries);
    report.samples.began_ns = setup.clock.epoch_ns() + timetable.start.0;
    Ok(report)
}

/// The validated options.
struct Setup<'a> {
    options: &'a LoadOptions,
    keyring: Arc<Keyring>,
    clients: Range<u32>,
    threads: u32,
    clock: Clock,
}

/// Starts of threads, their seconds, and themselves.
type Spawned = (Vec<Sender<Timetable>>, Receiver<ThreadSecond>, Vec<JoinHandle<std::io::Result<ThreadSummary>>>);

impl<'a> Setup<'a> {
    fn new(options: &'a LoadOptions) -> Result<Self, LoadError> {
        let keyring = Keyring::new(&options.cluster, options.node, &options.key)?;
        let clients = keyring.clients_of(options.node).ok_or(LoadError::NotAClient(options.node))?;
        let count = clients.end - clients.start;
        let range = |option, value: u32, max: u32| {
            if (1..=max).contains(&value) {
                return Ok(());
            }
            Err(LoadError::Option { option, value: value.to_string(), allowed: format!("1 to {max}") })
        };
        // Connections follow the threads where they are not given, so that these come first.
        range("load-threads", options.threads, options.connections.min(count))?;
        range("connections", options.connections, CONNECTIONS_MAX.min(count))?;
        // Made once here so that a rate that can not be is refused before anything starts.
        schedule(options.mode, options.seed)?;
        Ok(Self { options, keyring, clients, threads: options.threads, clock: Clock::start() })
    }

    fn timetable(&self) -> Timetable {
        let start = self.clock.now().after_duration(HEAD_START);
        let measure_from = start.after_duration(self.options.warmup);
        let measure_until = measure_from.after_duration(self.options.duration);
        let timeout_ns = nanos(self.options.timeout);
        let (drain_ns, drain_max_ns) = (nanos(DRAIN), nanos(DRAIN_MAX));
        Timetable { start, measure_from, measure_until, drain_ns, drain_max_ns, timeout_ns }
    }

    /// Thread `index`'s share of the connection numbers.
    fn owned(&self, index: u32) -> Range<u32> {
        share_of_connections(index, self.threads, self.options.connections)
    }

    /// The clients that those connections carry.
    fn clients_of(&self, owned: &Range<u32>) -> Range<u32> {
        clients_of(owned, &self.clients, self.options.connections)
    }

    fn spawn(&self, ready: &Sender<Ready>) -> Result<Spawned, LoadError> {
        let (seconds_in, seconds) = channel();
        let mut go = Vec::new();
        let mut threads = Vec::new();
        for (index, workload) in (0..self.threads).zip(self.workloads()?) {
            let (gives, starts) = channel();
            let thread = self.thread(index, workload, seconds_in.clone());
            let start = Start {
                transport: self.options.transport,
                emulation: self.emulation(),
                changes: self.options.changes.as_ref().map_or_else(|| channel().1, |changes| changes.subscribe()),
                ready: ready.clone(),
                starts,
            };
            let builder = std::thread::Builder::new().name(format!("load-{index}"));
            threads.push(builder.spawn(move || thread.run(start)).map_err(io("load thread"))?);
            go.push(gives);
        }
        Ok((go, seconds, threads))
    }

    /// Thread `index`, not started yet.
    fn thread(&self, index: u32, workload: Box<dyn Workload>, seconds: Sender<ThreadSecond>) -> LoadThread {
        LoadThread {
            index,
            count: self.threads,
            owned: self.owned(index),
            clients: self.clients_of(&self.owned(index)),
            node_clients: self.clients.clone(),
            connections: self.options.connections,
            keyring: Arc::clone(&self.keyring),
            replicas: self.options.cluster.voters().filter_map(|node| node.address).collect(),
            mode: self.options.mode,
            workload,
            reads: self.reads(),
            seed: self.options.seed,
            retransmission: self.options.retransmission,
            sampling: self.options.sampling,
            dissemination: self.options.cluster.settings.dissemination,
            batch_digests: self.options.cluster.settings.replies == Replies::BatchDigest,
            window: self.options.cluster.settings.window,
            clock: self.clock,
            seconds,
            stop: Arc::clone(&self.options.stop),
        }
    }

    /// What this node's links do, if they are emulated or may come to be.
    fn emulation(&self) -> Option<OutgoingLinks> {
        let clear = self.options.changes.is_some().then(NetworkSpec::default);
        let network = self.options.network.clone().filter(|network| !network.is_clear()).or(clear)?;
        Some(network.links(self.options.node, self.options.cluster.nodes.len(), self.options.seed))
    }

    /// Says which operations are sent as read-only requests, in a cluster that has those.
    fn reads(&self) -> Option<Validator> {
        let settings = &self.options.cluster.settings;
        app::validator(settings).filter(|_| settings.reads == Reads::ReadOnly)
    }

    /// One workload for each thread.
    fn workloads(&self) -> Result<Vec<Box<dyn Workload>>, LoadError> {
        let cluster = &self.options.cluster;
        Ok(match self.options.workload {
            WorkloadOptions::Null { request_bytes } => {
                let reply_bytes = usize::try_from(cluster.settings.reply_bytes).unwrap_or(usize::MAX);
                let fixed = || Box::new(Fixed::new(request_bytes, reply_bytes)) as Box<dyn Workload>;
                (0..self.threads).map(|_| fixed()).collect()
            }
            WorkloadOptions::Kv { kind, zipf, value_bytes } => {
                let nodes: Vec<NodeId> = cluster.client_nodes().map(|(node, _)| node).collect();
                let position = nodes.iter().position(|node| *node == self.options.node).unwrap_or(0);
                let config = YcsbConfig {
                    theta: zipf,
                    value_bytes,
                    records: cluster.settings.records,
                    clients: self.clients.clone(),
                    node: u32::try_from(position).unwrap_or(0),
                    nodes: u32::try_from(nodes.len()).unwrap_or(1),
                    seed: self.options.seed,
                    timed: self.reads().is_some(),
                    ..YcsbConfig::new(kind, cluster.clients())
                };
                let threads = Ycsb::for_threads(&config, self.threads)?;
                threads.into_iter().map(|workload| Box::new(workload) as Box<dyn Workload>).collect()
            }
        })
    }

    /// Waits until all threads have tried; returns the transport that runs.
    fn await_connections(&self, ready: &Receiver<Ready>) -> Result<String, LoadError> {
        let quorums = self.keyring.quorums();
        let mut transport = String::new();
        for _ in 0..self.threads {
            let outcome = ready.recv().unwrap_or_else(|_| Err(std::io::Error::other("a load thread ended early")));
            let (connected, refused, opened) = outcome.map_err(io("connect"))?;
            let needed = quorums.n() - quorums.f();
            if connected < needed {
                let why = if refused.is_empty() { String::new() } else { format!("; refused: {refused}") };
                return Err(LoadError::Unreachable { connected, n: quorums.n(), needed, why });
            }
            transport = opened;
        }
        Ok(transport)
    }

    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    fn report(
        &self,
        started: SystemTime,
        transport: String,
        outcome: Sampled,
        summaries: Vec<ThreadSummary>,
    ) -> LoadReport {
        let mut report = LoadReport {
            started_unix_ms: u64::try_from(started.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis())
                .unwrap_or(u64::MAX),
            mode: self.options.mode.name().into(),
            clients: self.clients.end - self.clients.start,
            connections: self.options.connections,
            threads: self.threads,
            transport,
            measured_s: self.options.duration.as_secs_f64(),
            offered_ops_per_s: self.options.mode.rate(),
            cpu_us: outcome.cpu_us,
            seconds: outcome.seconds,
            wrong_replies: vec![0; self.keyring.quorums().n()],
            ..LoadReport::default()
        };
        let mut lag = Interval::new(0);
        let mut tenths = Tenths::default();
        let mut followed = Notes::new(self.options.sampling, SAMPLES_MAX);
        for mut summary in summaries {
            report.operations += summary.operations;
            report.latencies += summary.latencies;
            tenths.add(&summary.tenths);
            followed.take(&mut summary.followed);
            report.offered_operations += summary.offered_operations;
            report.late_sends += summary.late_sends;
            report.waited_for_client += summary.waited_for_client;
            report.unsent += summary.unsent;
            report.retransmissions += summary.retransmissions;
            report.probes += summary.probes;
            report.timeouts += summary.timeouts;
            report.unanswered += summary.unanswered;
            report.bad_replies += summary.bad_replies;
            report.missing_replies += summary.missing_replies;
            report.replier_changes += summary.replier_changes;
            report.wrong_results += summary.wrong_results;
            report.stale_reads += summary.stale_reads;
            report.read_only += summary.read_only;
            report.read_only_total += summary.read_only_total;
            report.fell_back += summary.fell_back;
            for (total, wrong) in report.wrong_replies.iter_mut().zip(summary.wrong_replies) {
                *total += wrong;
            }
            report.busiest_thread_percent = report.busiest_thread_percent.max(summary.busy_percent);
            report.wait_percent = report.wait_percent.max(summary.wait_percent);
            let busy_or_waiting = summary.busy_percent + summary.wait_percent;
            report.busy_or_waiting_percent = report.busy_or_waiting_percent.max(busy_or_waiting);
            report.bytes_sent += summary.bytes_sent;
            report.system_calls += summary.system_calls;
            report.dropped.add(&summary.dropped);
            report.completed.extend(summary.completed);
            report.begun.extend(summary.begun);
            if let Some(part) = &summary.lag {
                lag.add(part);
            }
        }
        report.per_100ms = tenths.into_counts();
        report.samples = Samples {
            boot: platform::boot(),
            epoch_ns: self.clock.epoch_ns(),
            began_ns: 0,
            one_in: followed.sampling().many(),
            operations: followed.as_slice().to_vec(),
        };
        report.lag_p99_us = lag.quantile_us(0.99);
        report.lag_max_us = lag.max_ns as f64 / 1e3;
        report
    }
}

/// Thread `index`'s share, of `threads`, of the connection numbers: contiguous, as even as can be.
const fn share_of_connections(index: u32, threads: u32, connections: u32) -> Range<u32> {
    index * connections / threads..(index + 1) * connections / threads
}

/// The clients, of `clients`, that the connection numbers `owned` carry. Inverse of
/// [`connection_of`](hippodrome_engine::pipeline::egress::connection_of).
fn clients_of(owned: &Range<u32>, clients: &Range<u32>, connections: u32) -> Range<u32> {
    let count = u64::from(clients.end - clients.start);
    let first = |connection: u32| {
        #[allow(clippy::cast_possible_truncation, reason = "at most count")]
        let offset = (u64::from(connection) * count).div_ceil(u64::from(connections)) as u32;
        clients.start + offset
    };
    first(owned.start)..first(owned.end)
}

#[cfg(test)]
mod tests {
    use hippodrome_engine::pipeline::egress::connection_of;
    use hippodrome_engine::types::ClientId;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the numbers, each client belongs to exactly one thread, and that thread reads the connection over
        /// which replicas answer the client.
        #[test]
        fn every_client_is_served_by_the_thread_that_reads_its_connection(
            start in 0u32..1 << 19,
            count in 1u32..20_000,
            connections in 1u32..=CONNECTIONS_MAX,
            threads in 1u32..=CONNECTIONS_MAX,
        ) {
            let clients = start..start + count;
            let connections = connections.min(count);
            let threads = threads.min(connections);
            let (mut next_connection, mut next_client) = (0, start);
            for thread in 0..threads {
                let owned = share_of_connections(thread, threads, connections);
                let served = clients_of(&owned, &clients, connections);
                prop_assert_eq!((owned.start, served.start), (next_connection, next_client));
                prop_assert!(!owned.is_empty() && !served.is_empty());
                for client in served.clone() {
                    prop_assert!(owned.contains(&connection_of(ClientId(client), &clients, connections)));
                }
                (next_connection, next_client) = (owned.end, served.end);
            }
            prop_assert_eq!((next_connection, next_client), (connections, clients.end));
        }
    }
}
