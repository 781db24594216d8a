//! `--metrics`: a page for Prometheus, in the OpenMetrics text format, at `/metrics` of a port of its own.
//!
//! In the order of a scrape: [server] answers it, [replica] or [load] says what there is to tell, and [page] is how
//! they say it. The page is made when it is asked for, from what the process counts anyway: nothing is added to the
//! data path. `bench/grafana/hippodrome.json` is a dashboard over it; a test asks it for nothing that is not there.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

pub(crate) mod load;
mod page;
pub(crate) mod replica;
mod server;

pub(crate) use server::serve;

#[cfg(test)]
mod tests;

/// The page of one collector.
fn render(collector: impl Collector) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(collector));
    let mut page = String::new();
    text::encode(&mut page, &registry)?;
    Ok(page)
}
