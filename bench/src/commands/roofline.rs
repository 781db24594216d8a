//! `hippodrome roofline`.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use clap::Parser as _;
use hippodrome_analysis::results::{self, Kind};
use hippodrome_analysis::roofline::{Component, compose, table};

use crate::cli::roofline::RooflineArgs;
use crate::cli::run::{RunFile, RunOptions};
use crate::failure::Failure;
use crate::{config, output, roofline};

/// Measures, composes, prints.
pub(crate) fn run(arguments: &RooflineArgs) -> Result<(), Failure> {
    match &arguments.directory {
        Some(directory) => of_run(directory, arguments),
        None => of_settings(arguments),
    }
}

fn of_settings(arguments: &RooflineArgs) -> Result<(), Failure> {
    let options = &arguments.options;
    #[allow(clippy::cast_precision_loss, reason = "at most 4096")]
    let most = options.replica.batch.requests_max().min(options.clients as usize) as f64;
    let (shape, costs) = roofline::measure(options, arguments.requests.unwrap_or(most))?;
    let components = compose(&shape, &costs);
    if arguments.json {
        let floor: f64 = components.iter().map(|component| component.us_per_op).sum();
        return print_json(&serde_json::json!({
            "floor_us_per_op": floor, "components": components, "shape": shape, "costs_ns": costs
        }));
    }
    let cores = shape.cores;
    output::print(&format!(
        "{} replicas, --auth {}, {:.1} requests a batch, at most {:.1} batches under way, {cores} cores\n",
        shape.replicas,
        options.cluster.authentication(),
        shape.batch,
        shape.in_flight
    ));
    print_table(&components);
    Ok(())
}

fn of_run(directory: &Path, arguments: &RooflineArgs) -> Result<(), Failure> {
    let defaults = RunFile::try_parse_from([""; 0]).map_err(|error| Failure::Usage(anyhow!("{error}")))?;
    if arguments.options != defaults.options {
        let error = anyhow!("{}: the settings are those of the run: allowed besides: --json", directory.display());
        return Err(Failure::Usage(error));
    }
    if results::kind(directory).map_err(Failure::usage)? != Kind::Run {
        let allowed =
            "that of one run, which holds report.json (a sweep, a comparison and a search have them under runs)";
        return Err(Failure::value("DIR", directory.display(), allowed));
    }
    let report = results::read_report(directory).map_err(Failure::usage)?;
    let options = options_of(directory).map_err(Failure::Usage)?;
    let told = roofline::of_run(&options, &report)?;
    let told = told.with_context(|| {
        format!("{}: a run without operations, or one with reads that were not ordered", directory.display())
    });
    let told = told.map_err(Failure::Usage)?;
    if arguments.json {
        return print_json(&told);
    }
    print_table(&told.components);
    let (achieved, percent) = (told.achieved_us_per_op, told.percent);
    output::print(&format!("the run took {achieved:.4} µs per operation: {percent:.0} % of that is the floor\n"));
    Ok(())
}

fn options_of(directory: &Path) -> anyhow::Result<RunOptions> {
    let path = directory.join(results::CONFIG);
    let name = || path.display().to_string();
    let text = std::fs::read_to_string(&path).with_context(name)?;
    config::options_of(&text.parse().with_context(name)?).with_context(name)
}

fn print_table(components: &[Component]) {
    output::print(&table(components));
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).context("JSON")?;
    output::print(&format!("{text}\n"));
    Ok(())
}
