//! What a load generator tells: its latest second, and what it has counted so far.

use std::fmt::Error;
use std::sync::{Arc, Mutex, PoisonError};

use hippodrome_loadgen::report::SecondSample;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::page::Page;

const US_PER_S: f64 = 1e6;

/// What a load generator has done so far. Its clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Arc<Mutex<Totals>>);

#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    pub(super) operations: u64,
    pub(super) retransmissions: u64,
    pub(super) latest: SecondSample,
}

impl Progress {
    /// One more second of the load.
    pub(crate) fn add(&self, second: &SecondSample) {
        let mut totals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        totals.operations += second.operations;
        totals.retransmissions += second.retransmissions;
        totals.latest = second.clone();
    }

    /// The page about it.
    ///
    /// # Errors
    /// None that is known.
    pub(crate) fn page(&self) -> anyhow::Result<String> {
        let totals = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(super::render(totals)?)
    }
}

impl Collector for Totals {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut page = Page(encoder);
        let SecondSample { second, measured, operations, p50_us, p99_us, max_us, .. } = self.latest;
        page.counter("hippodrome_load_operations", "Operations whose reply quorum is complete", self.operations)?;
        page.counter("hippodrome_load_retransmissions", "Requests sent again", self.retransmissions)?;
        page.gauge("hippodrome_load_second", "Seconds of the load that are over, warm-up included", second)?;
        page.gauge("hippodrome_load_measured", "1 in the measured window, 0 outside of it", u64::from(measured))?;
        page.gauge("hippodrome_load_rate", "Operations per second in the latest second", operations)?;
        let quantiles = [("0.5", p50_us), ("0.99", p99_us), ("1", max_us)];
        let latencies = quantiles.map(|(quantile, us)| (vec![("quantile", quantile.to_owned())], us / US_PER_S));
        page.gauges(
            "hippodrome_load_latency_seconds",
            "From the intended send to the complete reply quorum, of the operations of the latest second",
            latencies,
        )
    }
}
