//! `hippodrome load`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use hippodrome_analysis::results::{LATENCY, LOAD, SAMPLES};
use hippodrome_analysis::series::Second;
use hippodrome_engine::auth::NodeKey;
use hippodrome_engine::emulation::Change;
use hippodrome_engine::settings::{ClusterFile, Role};
use hippodrome_engine::transport::raise_descriptor_limit;
use hippodrome_engine::types::NodeId;
use hippodrome_loadgen::generator::{self, LinkChanges, LoadOptions, Retransmission, WorkloadOptions};
use hippodrome_loadgen::hostile::{self, HostileOptions, Kind, Tally};
use hippodrome_loadgen::report::SecondSample;
use serde::Serialize;

use crate::cli::load::{LoadArgs, Progress};
use crate::cli::options::LoadTuning;
use crate::cluster::own_node;
use crate::failure::Failure;
use crate::output::ProgressTable;
use crate::{metrics, output, signals};

/// Drives load at a running cluster.
pub(crate) fn run(arguments: LoadArgs) -> Result<(), Failure> {
    super::exit_with_parent(arguments.parent);
    let stop = signals::stop_flag()?;
    arguments.tuning.check()?;
    let (threads, connections) = arguments.threads_and_connections()?;
    // Some thousands of connections in a large cluster. Where that is more than is allowed, connecting says so.
    let _ = raise_descriptor_limit();
    let mode = arguments.tuning.mode()?;
    let cluster = ClusterFile::read(&arguments.cluster).map_err(Failure::usage)?;
    let (node, key) = own_node(&cluster, &arguments.key, Role::Client).map_err(Failure::Usage)?;
    if let Some(kind) = arguments.hostile {
        return misbehave(kind, cluster, (node, key), &arguments.tuning, arguments.progress, stop);
    }
    let out = arguments.out.context("out")?;
    prepare(&out).map_err(Failure::Usage)?;
    let tuning = arguments.tuning;
    let request_bytes = usize::try_from(tuning.request_bytes.0).context("request_bytes")?;
    let progress = arguments.progress;
    let workload = match cluster.settings.application.as_str() {
        "kv" => {
            let value_bytes = usize::try_from(cluster.settings.value_bytes).context("value_bytes")?;
            WorkloadOptions::Kv { kind: tuning.workload.into(), zipf: tuning.zipf, value_bytes }
        }
        _ => WorkloadOptions::Null { request_bytes },
    };
    let network = arguments.transport.network(cluster.nodes.len())?;
    let changes = arguments.network_stdin.then(|| changes_from_stdin(cluster.nodes.len()));
    let options = LoadOptions {
        cluster,
        key,
        node,
        connections,
        threads,
        mode,
        warmup: tuning.warmup.0,
        duration: tuning.duration.0,
        workload,
        retransmission: Retransmission { first: tuning.retransmit_after.0, longest: tuning.retransmit_max.0 },
        timeout: tuning.timeout.0,
        transport: arguments.transport.transport,
        network,
        changes,
        sampling: super::sampling(arguments.sample)?,
        seed: tuning.seed.unwrap_or_else(rand::random),
        hlog: out.join(LATENCY),
        stop: stop.clone(),
    };
    let done = metrics::load::Progress::default();
    if let Some(address) = arguments.metrics {
        let done = done.clone();
        metrics::serve(address, move || done.page())?;
    }
    let mut table = ProgressTable::default();
    let mut on_second = |second: &SecondSample| {
        done.add(second);
        tell(second, progress, &mut table);
    };
    let report = generator::run(&options, &mut on_second).context("load")?;
    write(&report, &out.join(LOAD))?;
    if options.sampling.is_on() {
        write(&report.samples, &out.join(SAMPLES))?;
    }
    if stop.load(Ordering::Relaxed) {
        return Err(Failure::Interrupted);
    }
    if progress == Progress::Table {
        let place = out.display();
        let (operations, seconds) = (report.operations, report.measured_s);
        output::print(&format!("{operations} operations in {seconds:.1} s; results in {place}\n"));
    }
    Ok(())
}

/// Changes of emulated links, as they come in on standard input until it ends.
fn changes_from_stdin(nodes: usize) -> Arc<LinkChanges> {
    let changes = Arc::new(LinkChanges::default());
    let reader = Arc::clone(&changes);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok).filter(|line| !line.trim().is_empty()) {
            match read_change(&line, nodes) {
                Ok(change) => reader.make(&change),
                Err(error) => output::tell(&format!("network: '{line}': {error:#}")),
            }
        }
    });
    changes
}

fn read_change(line: &str, nodes: usize) -> anyhow::Result<Change> {
    let change: Change = serde_json::from_str(line)?;
    change.check(nodes)?;
    Ok(change)
}

/// Is a nuisance instead of a load.
fn misbehave(
    kind: Kind,
    cluster: ClusterFile,
    (node, key): (NodeId, NodeKey),
    tuning: &LoadTuning,
    progress: Progress,
    stop: Arc<AtomicBool>,
) -> Result<(), Failure> {
    let options = HostileOptions {
        cluster,
        key,
        node,
        kind,
        duration: tuning.warmup.0 + tuning.duration.0,
        seed: tuning.seed.unwrap_or_else(rand::random),
        stop: Arc::clone(&stop),
    };
    let mut tell = |tally: &Tally| {
        if let (Progress::Json, Ok(line)) = (progress, serde_json::to_string(tally)) {
            output::print(&format!("{line}\n"));
        }
    };
    let tally = hostile::run(&options, &mut tell).context("hostile client")?;
    if stop.load(Ordering::Relaxed) {
        return Err(Failure::Interrupted);
    }
    if progress == Progress::Table {
        let Tally { connections, closed, frames, bytes, bytes_read } = tally;
        output::print(&format!(
            "{kind}: {connections} connections made, {closed} closed by replicas; {frames} frames, {bytes} bytes sent, {bytes_read} bytes read\n"
        ));
    }
    Ok(())
}

/// Makes the directory; refuses to overwrite an earlier load's results.
fn prepare(out: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    for name in [LOAD, LATENCY, SAMPLES] {
        let path = out.join(name);
        anyhow::ensure!(!path.exists(), "{} exists and is not overwritten: choose another --out", path.display());
    }
    Ok(())
}

fn write(report: &impl Serialize, path: &Path) -> anyhow::Result<()> {
    let text = serde_json::to_string(report).context("load report")?;
    std::fs::write(path, text).with_context(|| path.display().to_string())
}

fn tell(sample: &SecondSample, progress: Progress, table: &mut ProgressTable) {
    match progress {
        Progress::Table => output::print(&format!("{}\n", table.row(&second(sample)))),
        Progress::Json => {
            if let Ok(line) = serde_json::to_string(sample) {
                output::print(&format!("{line}\n"));
            }
        }
    }
}

/// A load generator's second as the result files have it.
pub(crate) fn second(sample: &SecondSample) -> Second {
    let SecondSample { second, measured, operations, p50_us, p99_us, max_us, retransmissions } = *sample;
    Second { second, measured, operations, p50_us, p99_us, max_us, retransmissions }
}
