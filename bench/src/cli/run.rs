//! `hippodrome run`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser};
use hippodrome_analysis::report::Generator;
use hippodrome_engine::limits::{CLIENTS_MAX, REPLICAS_MAX, REPLICAS_MIN};
use serde::Serialize;

use super::faulty::{Byzantine, Hostile};
use super::options::{ClusterOptions, GeneratorOptions, LoadTuning, ReplicaTuning, TransportOptions};
use super::values::{Count, Sample, whole};

pub(crate) const EXAMPLES: &str = "\
Examples:
  hippodrome run --replicas 7 --clients 8000 --duration 30s
  hippodrome run --rate 20000 --arrivals poisson --json | jq .latency_us.p99
  hippodrome run --app kv --workload b --auth hybrid --out results/kv-b
  hippodrome run --config results/kv-b/config.toml --auth mac --out results/kv-b-mac
  hippodrome run --replicas 7 --byzantine 5:equivocate,6:slow --hostile replays,garbage

Configuration files are TOML. Their keys are the flags' names without the dashes in front:
  replicas = 4
  batch = \"adaptive:512,4\"
  request-bytes = \"4KiB\"
Flags win over the file; --auth also over its auth-clients, auth-replicas and auth-replies.";

/// Run a whole cluster with its load on this machine and judge the result
///
/// Starts a cluster and a load generator as processes of their own, watches them, audits the replicas when the load has
/// ended, and judges the run.
///
/// Prints progress each second on stderr and the summary on stdout. A run is INVALID (exit code 1) unless: the
/// replicas' ledgers agree; every client's operations were executed exactly once and answered correctly; the load
/// generator was not the bottleneck and kept its schedule; throughput was steady; this is a release build. Up to f
/// replicas may die or misbehave meanwhile, and any number of hostile clients: that is reported as a fault.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) options: RunOptions,

    /// Results directory; made if missing, refused unless empty [default: results/DATE-TIME]
    #[arg(long, value_name = "DIR", help_heading = "Results")]
    pub(crate) out: Option<PathBuf>,

    /// Print report.json on stdout, and nothing else there
    #[arg(long, help_heading = "Results")]
    pub(crate) json: bool,

    /// Leave progress out: nothing on stderr but errors
    #[arg(long, short, help_heading = "Results")]
    pub(crate) quiet: bool,

    /// Show a dashboard on the terminal while it runs, and the summary after it; q stops the run
    ///
    /// Throughput and latency second by second, each replica's view, sequence numbers and use of the machine, stages
    /// and queues, and what happened. Needs a terminal. See docs/monitoring.md.
    #[arg(long, help_heading = "Results", conflicts_with_all = ["json", "quiet"])]
    pub(crate) tui: bool,

    /// Serve metrics for Prometheus while it runs: replica 0 at this address, each other process a port further
    ///
    /// At /metrics; the load generator comes last. See docs/monitoring.md.
    #[arg(long, value_name = "IP:PORT", help_heading = "Results")]
    pub(crate) metrics: Option<SocketAddr>,

    /// Let more than f replicas misbehave: the run will be INVALID, whatever comes of it
    #[arg(long, help_heading = "Faults")]
    pub(crate) allow_too_many_faults: bool,

    /// Read options from this TOML file; flags win
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub(crate) config: Option<PathBuf>,
}

/// All options of a run that a configuration file may set.
#[derive(Clone, Debug, PartialEq, Args, Serialize)]
pub(crate) struct RunOptions {
    /// Replicas n, of which f = floor((n - 1) / 3) may be faulty, 4 to 64
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = whole::<u16>(REPLICAS_MIN as u64, REPLICAS_MAX as u64))]
    pub(crate) replicas: u16,

    /// Logical clients, each with one operation outstanding, 1 to 1048576
    #[arg(long, value_name = "N", default_value_t = 4000, value_parser = whole::<u32>(1, u64::from(CLIENTS_MAX)))]
    pub(crate) clients: u32,

    /// Tests only: replica 1 gives wrong results from this sequence number on
    #[arg(long, value_name = "N", hide = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) wrong_from: Option<u64>,

    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) cluster: ClusterOptions,

    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) replica: ReplicaTuning,

    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) transport: TransportOptions,

    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) load: LoadTuning,

    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) generator: GeneratorOptions,

    /// Operations that are followed all the way to tell where time goes: auto, off, or 1/N for one in N
    ///
    /// `auto`: some thousands a second. Where there are too many to keep, every second one is left out, as often as it
    /// takes. See docs/where-time-goes.md.
    #[arg(long, value_name = "WHICH", default_value_t = Sample::Auto, help_heading = "Results")]
    pub(crate) sample: Sample,

    /// Replicas that misbehave on purpose, at most f: ID:KIND[,ID:KIND..]
    ///
    /// One replica may have several kinds. KIND: `silent` (says nothing to other replicas), `slow` (says everything
    /// late, by three quarters of the view time-out), `equivocate` (two batches for one sequence number, different
    /// votes and histories to different replicas), `corrupt-mac` (no proof holds), `partial-authenticator` (proofs hold
    /// for half of the replicas), `wrong-digest` (votes for what nobody proposed), `wrong-reply` (wrong results to
    /// clients), `withhold-body` (batches to just enough replicas or one too few), `early-body` (bodies that nobody
    /// has asked for, and no prepare), `stale-view` (old messages, other views), `lying-checkpoint` and `lying-state`
    /// (states that do not exist), `flood` (many useless messages), `random` (any field changed, messages swallowed and
    /// doubled, tricks of equivocate, wrong-digest, withhold-body, early-body, lying-checkpoint, lying-state, flood and
    /// stale-view). What such a replica says does not count in the audit. See docs/adversaries.md.
    #[arg(long, value_name = "ID:KIND,..", help_heading = "Faults")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) byzantine: Option<Byzantine>,

    /// Clients that misbehave on purpose beside the load, each a client node of its own: KIND[,KIND..]
    ///
    /// KIND: `bad-signatures`, `partial-authenticators` (hold for some replicas only), `replays`,
    /// `growing-identifiers` (clients and timestamps up to the last number), `garbage`, `half-open` (hundreds of
    /// connections that stop in the middle of a word), `slow-reader` (never reads its replies). What they do is not
    /// counted as load.
    #[arg(long, value_name = "KIND,..", help_heading = "Faults")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hostile: Option<Hostile>,
}

impl RunOptions {
    /// One in how many operations is followed; 0 for none.
    pub(crate) fn sample_one_in(&self) -> u64 {
        self.sample.one_in(self.clients, self.load.rate)
    }

    /// With what was left to chance spelt out, so that the same options make the same run again. What goes by the
    /// machine stays `auto`: runs that were made alike have equal options.
    pub(crate) fn resolved(mut self) -> Self {
        // TOML's integers have a sign.
        self.load.seed.get_or_insert_with(|| rand::random::<u64>() >> 1);
        self
    }

    /// With the numbers that the load generator really had, by what is reported of it.
    pub(crate) fn with_numbers_of(mut self, generator: &Generator) -> Self {
        // A report of a run that failed has none.
        self.generator.connections = Count::Of(generator.connections.max(1));
        self.generator.load_threads = Count::Of(generator.threads.max(1));
        self
    }

    /// The options of a run for which none are given, as `config` of `report.json` has them.
    pub(crate) fn defaults() -> serde_json::Value {
        let file = RunFile::try_parse_from::<_, &str>([]).expect("no option is required");
        serde_json::to_value(&file.options).unwrap_or_default()
    }
}

/// A configuration file, read as if its keys were flags.
#[derive(Debug, Parser)]
#[command(name = "config", no_binary_name = true, args_override_self = true, disable_help_flag = true)]
pub(crate) struct RunFile {
    #[command(flatten)]
    pub(crate) options: RunOptions,
}
