//! What there is to show of a run.

use std::net::SocketAddr;
use std::time::Duration;

use hippodrome_analysis::series::Second;
use hippodrome_engine::control::ReplicaReport;
use hippodrome_engine::quorum::Quorums;

use crate::cli::run::RunOptions;

/// Everything that has been told so far.
pub(super) struct Dashboard {
    /// What is run, in a line.
    pub(super) title: String,
    /// Where the results go.
    pub(super) directory: String,
    /// Length of the warm-up and of the measured window, s.
    pub(super) length_s: (u64, u64),
    /// Seconds of the load.
    pub(super) seconds: Vec<Second>,
    /// The replicas, in order of their ids.
    pub(super) replicas: Vec<Watched>,
    /// What happened, in order of time.
    pub(super) events: Vec<String>,
}

/// A replica and what it told last.
#[derive(Default)]
pub(super) struct Watched {
    /// Where it can be asked.
    pub(super) control: Option<SocketAddr>,
    /// What it said last; `None` while it does not answer.
    pub(super) report: Option<ReplicaReport>,
    /// What it has done a second, between the last two answers.
    pub(super) rates: Rates,
    /// When it said that.
    at: Duration,
}

/// What a replica does in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rates {
    /// Operations executed.
    pub(super) operations: f64,
    /// Requests in a batch; 0 if there was no batch.
    pub(super) requests_in_a_batch: f64,
    /// Cores used.
    pub(super) cores: f64,
}

impl Dashboard {
    pub(super) fn new(options: &RunOptions) -> Self {
        let load = &options.load;
        let rate = load.rate.map_or_else(|| "closed loop".to_owned(), |rate| format!("{rate} ops/s offered"));
        let title = format!(
            "{} replicas  {} clients  auth {}  batch {}  {rate}",
            options.replicas,
            options.clients,
            options.cluster.authentication(),
            options.replica.batch,
        );
        Self {
            title,
            directory: String::new(),
            length_s: (load.warmup.0.as_secs(), load.duration.0.as_secs()),
            seconds: Vec::new(),
            replicas: (0..options.replicas).map(|_| Watched::default()).collect(),
            events: Vec::new(),
        }
    }

    /// A replica is up and answers there.
    pub(super) fn is_at(&mut self, id: u16, control: SocketAddr) {
        if let Some(replica) = self.replicas.get_mut(usize::from(id)) {
            *replica = Watched { control: Some(control), ..Watched::default() };
        }
    }

    /// The primary of the highest view that a replica is in, as far as is known.
    pub(super) fn primary(&self) -> Option<u16> {
        let view = self.replicas.iter().filter_map(|replica| Some(replica.report.as_ref()?.view)).max()?;
        Some(Quorums::new(self.replicas.len())?.primary(view).0)
    }

    /// How much of warm-up and measured window is over, 0 to 1.
    #[allow(clippy::cast_precision_loss, reason = "seconds of one run")]
    pub(super) fn progress(&self) -> f64 {
        let total = self.length_s.0 + self.length_s.1;
        (self.seconds.len() as f64 / total as f64).min(1.0)
    }
}

impl Watched {
    /// What the replica answered at a time since some beginning; `None` if it did not.
    pub(super) fn told(&mut self, at: Duration, report: Option<ReplicaReport>) {
        if let (Some(last), Some(now)) = (&self.report, &report) {
            self.rates = Rates::between(last, now, at.saturating_sub(self.at));
        }
        (self.report, self.at) = (report, at);
    }
}

impl Rates {
    #[allow(clippy::cast_precision_loss, reason = "shown with fewer digits")]
    fn between(last: &ReplicaReport, now: &ReplicaReport, passed: Duration) -> Self {
        let since = |now: u64, last: u64| now.saturating_sub(last) as f64;
        let (seconds, batches) = (passed.as_secs_f64(), since(now.batches, last.batches));
        let operations = since(now.executed_ops, last.executed_ops);
        let ratio = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
        Self {
            operations: ratio(operations, seconds),
            requests_in_a_batch: ratio(operations, batches),
            cores: ratio(since(now.cpu_us, last.cpu_us) / 1e6, seconds),
        }
    }
}
