//! What must exist before any process starts: the results directory, the cluster with its keys, and a bound port for
//! each replica.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use hippodrome_analysis::results::{self, NETWORK};
use hippodrome_engine::emulation::NetworkSpec;
use hippodrome_engine::pipeline::cores::Cores;
use hippodrome_engine::quorum::Quorums;
use hippodrome_engine::settings::ClusterFile;
use hippodrome_engine::transport;
use tempfile::TempDir;

use super::generator::Generator;
use super::hostile;
use crate::cli::run::{RunArgs, RunOptions};
use crate::cli::values::Sample;
use crate::cluster::NewCluster;
use crate::failure::Failure;

/// Everything that a run is made of.
pub(super) struct Setup {
    /// The resolved options.
    pub(super) options: RunOptions,
    /// How many threads and connections the load generator has.
    pub(super) generator: Generator,
    /// Who takes part.
    pub(super) cluster: ClusterFile,
    /// The network that is emulated.
    pub(super) network: Option<NetworkSpec>,
    /// Where replica 0 serves metrics, and each other process a port further.
    metrics: Option<SocketAddr>,
    /// The results directory.
    pub(super) directory: PathBuf,
    /// When the run began, RFC 3339.
    pub(super) started_at: String,
    /// One bound listener for each replica, until it is handed over.
    pub(super) listeners: Vec<TcpListener>,
    /// Cluster file and keys; removed when everybody has read them, or when this is dropped, however the run ends.
    keys: TempDir,
    keys_removed: bool,
}

impl Setup {
    /// Checks the options, binds the ports, makes the directory and the keys.
    ///
    /// # Errors
    /// Usage errors first, before anything is made.
    pub(super) fn prepare(arguments: &RunArgs) -> Result<Self, Failure> {
        check(&arguments.options, arguments.allow_too_many_faults)?;
        let options = arguments.options.clone().resolved();
        let generator = Generator::of(&options, &Cores::here());
        let shares = shares(&options);
        let network = options.transport.network(usize::from(options.replicas) + shares.len())?;
        check_metrics(&options, arguments.metrics)?;
        let listeners: Vec<TcpListener> = (0..options.replicas)
            .map(|_| transport::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))
            .collect::<std::io::Result<_>>()
            .context("no free port on 127.0.0.1")?;
        let addresses: Vec<SocketAddr> =
            listeners.iter().map(TcpListener::local_addr).collect::<std::io::Result<_>>().context("a bound port")?;
        let new = NewCluster::with_shares(options.cluster.settings(), &addresses, &shares).map_err(Failure::Usage)?;

        let started_at = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let directory = arguments.out.clone().unwrap_or_else(|| default_directory(&started_at));
        results::create(&directory).map_err(Failure::usage)?;
        // Children get paths that hold wherever they run.
        let directory = std::path::absolute(&directory).context("results directory")?;
        let keys = tempfile::Builder::new().prefix(".keys-").tempdir_in(&directory).context("directory for keys")?;
        new.write(keys.path())?;
        results::write(&directory, results::CLUSTER, &new.file.to_toml()).context("cluster file")?;
        // Every process reads the same, with a seed, so that the run can be made again.
        let network = network.map(|network| {
            #[allow(clippy::cast_possible_truncation, reason = "some of its bits will do")]
            let seed = network.seed.or(options.load.seed.map(|seed| seed as u32));
            NetworkSpec { seed, ..network }
        });
        if let Some(network) = &network {
            results::write(&directory, NETWORK, &network.to_toml()).context("emulated network")?;
        }
        let config = toml::to_string(&options).context("resolved options")?;
        let config = config + &generator.remark(&options);
        results::write(&directory, results::CONFIG, &config).context("resolved options")?;
        let (cluster, metrics) = (new.file, arguments.metrics);
        let keys_removed = false;
        Ok(Self { options, generator, cluster, network, metrics, directory, started_at, listeners, keys, keys_removed })
    }

    /// Where the cluster file lies.
    pub(super) fn cluster_path(&self) -> PathBuf {
        self.keys.path().join(results::CLUSTER)
    }

    /// How a process is told which network to emulate.
    pub(super) fn network_argument(&self) -> Option<OsString> {
        self.network.as_ref()?;
        let mut argument = OsString::from("--network=");
        argument.push(self.directory.join(NETWORK));
        Some(argument)
    }

    /// Where a process serves metrics, if it does: the replicas in order of their ids, then the load generator.
    pub(super) fn metrics_argument(&self, process: usize) -> Option<String> {
        let first = self.metrics?;
        let port = usize::from(first.port()) + process;
        Some(format!("--metrics={}", SocketAddr::new(first.ip(), u16::try_from(port).ok()?)))
    }

    /// How a process is told which operations to follow.
    pub(super) fn sample_argument(&self) -> String {
        match self.options.sample_one_in() {
            0 => Sample::Off.to_string(),
            many => Sample::OneIn(many).to_string(),
        }
    }

    /// Where a node's key lies: `replica-2.key`, `client-0.key`.
    pub(super) fn key_path(&self, name: &str) -> PathBuf {
        self.keys.path().join(format!("{name}.key"))
    }

    /// Removes the keys, once every process has read its own.
    pub(super) fn remove_keys(&mut self) {
        if !self.keys_removed {
            self.keys_removed = std::fs::remove_dir_all(self.keys.path()).is_ok();
        }
    }

    /// Where a process writes its log.
    pub(super) fn log_path(&self, name: &str) -> PathBuf {
        self.directory.join(results::LOGS).join(format!("{name}.log"))
    }

    /// Where a replica remembers what it must not forget.
    pub(super) fn data_path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Where the measured window begins and ends, whole seconds since the load began.
    pub(super) fn measured_s(&self) -> (u64, u64) {
        let (from, length) = (self.options.load.warmup.0.as_secs(), self.options.load.duration.0.as_secs());
        (from, from + length)
    }

    /// Length of the load without its drain.
    pub(super) fn load_time(&self) -> Duration {
        self.options.load.warmup.0 + self.options.load.duration.0
    }
}

/// Checks how the options relate to each other: what can be known before anything is made.
///
/// # Errors
/// Names the option, its value and what is allowed.
pub(crate) fn check(options: &RunOptions, too_many_faults: bool) -> Result<(), Failure> {
    options.load.check()?;
    options.generator.check(options.clients)?;
    let shares = shares(options);
    options.transport.network(usize::from(options.replicas) + shares.len())?;
    check_byzantine(options, too_many_faults)?;
    // Ports that nobody binds: only the settings are looked at.
    let addresses: Vec<SocketAddr> = (1..=options.replicas).map(|port| ([127, 0, 0, 1], port).into()).collect();
    NewCluster::with_shares(options.cluster.settings(), &addresses, &shares).map_err(Failure::Usage)?;
    Ok(())
}

/// How many logical clients each client node has: those of the load, then the hostile ones.
fn shares(options: &RunOptions) -> Vec<u32> {
    let hostile = options.hostile.iter().flat_map(|hostile| &hostile.0).map(|_| hostile::CLIENTS);
    std::iter::once(options.clients).chain(hostile).collect()
}

/// At most f replicas of the cluster may be told to misbehave.
fn check_byzantine(options: &RunOptions, too_many: bool) -> Result<(), Failure> {
    let Some(byzantine) = &options.byzantine else { return Ok(()) };
    let n = options.replicas;
    let replicas = byzantine.replicas();
    if let Some((id, _)) = replicas.last_key_value().filter(|(id, _)| **id >= n) {
        return Err(Failure::value("byzantine", byzantine, format!("replicas 0 to {} (there is no {id})", n - 1)));
    }
    let f = Quorums::new(usize::from(n)).map_or(0, Quorums::f);
    if replicas.len() > f && !too_many {
        let allowed = format!("at most f = {f} of {n} replicas (more with --allow-too-many-faults)");
        return Err(Failure::value("byzantine", byzantine, allowed));
    }
    Ok(())
}

/// There must be a port for each replica and for the load generator.
fn check_metrics(options: &RunOptions, first: Option<SocketAddr>) -> Result<(), Failure> {
    let last = u16::MAX - options.replicas;
    match first {
        Some(address) if !(1..=last).contains(&address.port()) => {
            let allowed = format!("a port from 1 to {last}: each of {} processes needs one", options.replicas + 1);
            Err(Failure::value("metrics", address, allowed))
        }
        _ => Ok(()),
    }
}

/// Where results go: where it was said, or a new directory that is named by the time.
pub(crate) fn results_directory(out: Option<&Path>) -> PathBuf {
    let now = || humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    out.map_or_else(|| default_directory(&now()), Path::to_owned)
}

/// `results/20260102-030405`, with a number behind it if that is taken.
fn default_directory(started_at: &str) -> PathBuf {
    let stamp: String =
        started_at.chars().filter(|c| !matches!(c, '-' | ':' | 'Z')).collect::<String>().replace('T', "-");
    let base = PathBuf::from("results");
    let mut candidates = std::iter::once(stamp.clone()).chain((2..).map(|n| format!("{stamp}-{n}")));
    candidates.find(|name| !base.join(name).exists()).map_or_else(|| base.clone(), |name| base.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_directories_are_dated() {
        assert_eq!(default_directory("2026-01-02T03:04:05Z"), PathBuf::from("results/20260102-030405"));
    }
}
