//! `hippodrome sim`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hippodrome_analysis::summary::count;
use hippodrome_engine::protocol::Ignored;
use hippodrome_engine::protocol::planted::Planted;
use hippodrome_sim::check::Violation;
use hippodrome_sim::coverage::{Coverage, UNJUDGED};
use hippodrome_sim::hunt::{Found, Hunt, hunt};
use hippodrome_sim::plan::Plan;
use hippodrome_sim::{mutants, run as simulate, shrink};
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::sim::SimArgs;
use crate::failure::Failure;
use crate::output::print;
use crate::signals;

/// Seeds of a hunt and of the search for one planted bug, unless something else is said.
const SEEDS: u64 = 1000;
const MUTANT_SEEDS: u64 = 2000;
/// Failures that are shrunk and written down. More of them mostly say the same.
const FAILURES_TOLD: usize = 3;
/// Lines of a trace that are printed.
const LINES_TOLD: usize = 30;
/// Reasons for ignoring something that are printed.
const REASONS_TOLD: usize = 6;
/// Seeds that are named.
const SEEDS_TOLD: usize = 8;

/// Hunts, replays, or looks for planted bugs.
pub(crate) fn run(arguments: &SimArgs) -> Result<(), Failure> {
    if arguments.mutants {
        return find_mutants(arguments);
    }
    if let Some(path) = &arguments.plan {
        return replay(arguments, &read(path)?);
    }
    match arguments.seed {
        Some(seed) if arguments.print_plan => {
            print(&format!("{}\n", to_json(&Plan::draw(seed))?));
            Ok(())
        }
        Some(seed) => one(arguments, seed),
        None => hunt_through(arguments),
    }
}

fn jobs(arguments: &SimArgs) -> usize {
    arguments.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into))
}

fn hunt_through(arguments: &SimArgs) -> Result<(), Failure> {
    let seeds = arguments.seeds.unwrap_or(SEEDS);
    let (began, stop) = (Instant::now(), signals::stop_flag()?);
    let bar = bar(seeds, "seeds");
    let what =
        Hunt { first: arguments.first, seeds, jobs: jobs(arguments), planted: arguments.planted, stop_early: false };
    let found = hunt(what, &|done, failures| progress(&bar, &stop, done, failures));
    bar.finish_and_clear();
    print(&summary(&found, began.elapsed()));
    for (seed, violation) in found.violations.iter().take(FAILURES_TOLD) {
        tell_failure(arguments, *seed, violation)?;
    }
    for (seed, violation) in found.violations.iter().skip(FAILURES_TOLD) {
        print(&format!("seed {seed}: {}: {}\n", violation.checker, violation.detail));
    }
    match (found.violations.is_empty(), stop.load(Ordering::Relaxed)) {
        (false, _) => Err(Failure::Invalid),
        (true, true) => Err(Failure::Interrupted),
        (true, false) => Ok(()),
    }
}

/// One seed: its verdict, and if it fails, why.
fn one(arguments: &SimArgs, seed: u64) -> Result<(), Failure> {
    let outcome = simulate(&Plan::draw(seed), arguments.planted, arguments.trace);
    if arguments.trace {
        print(&text(&outcome.trace));
    }
    match &outcome.violation {
        None => {
            print(&format!("seed {seed}: VALID\n"));
            Ok(())
        }
        Some(violation) => {
            tell_failure(arguments, seed, violation)?;
            Err(Failure::Invalid)
        }
    }
}

/// A plan, as it is.
fn replay(arguments: &SimArgs, plan: &Plan) -> Result<(), Failure> {
    let outcome = simulate(plan, arguments.planted, true);
    let from = if arguments.trace { 0 } else { outcome.trace.len().saturating_sub(LINES_TOLD) };
    match &outcome.violation {
        None => {
            if arguments.trace {
                print(&text(&outcome.trace));
            }
            print("VALID\n");
            Ok(())
        }
        Some(violation) => {
            print(&text(&outcome.trace[from..]));
            print(&format!("VIOLATION: {}: {}\n", violation.checker, violation.detail));
            Err(Failure::Invalid)
        }
    }
}

/// Shrinks what fails, writes it down and prints the end of the story.
fn tell_failure(arguments: &SimArgs, seed: u64, violation: &Violation) -> Result<(), Failure> {
    print(&format!("\nseed {seed}: VIOLATION: {}: {}\n", violation.checker, violation.detail));
    let shrinking = ProgressBar::new_spinner().with_message(format!("shrinking seed {seed}"));
    let plan = shrink(&Plan::draw(seed), arguments.planted, violation.checker, &mut |runs| {
        shrinking.set_position(runs as u64)
    });
    shrinking.finish_and_clear();
    let outcome = simulate(&plan, arguments.planted, true);
    let out = &arguments.out;
    fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let (plan_file, trace_file) = (out.join(format!("seed-{seed}.json")), out.join(format!("seed-{seed}.txt")));
    write(&plan_file, &to_json(&plan)?)?;
    write(&trace_file, &text(&outcome.trace))?;
    let tail = outcome.trace.len().saturating_sub(LINES_TOLD);
    let planted = arguments.planted.map_or_else(String::new, |planted| format!(" --planted {planted}"));
    print(&format!(
        "shrunk to {} replicas, {} clients, {} faults, {} Byzantine replicas; the whole of it is in {}:\n{}\
         again: hippodrome sim --plan {}{planted}\n",
        plan.replicas,
        plan.clients.count + u32::try_from(plan.hostile.len()).unwrap_or(0),
        plan.timeline.len(),
        plan.faulty.len(),
        trace_file.display(),
        text(&outcome.trace[tail..]),
        plan_file.display(),
    ));
    Ok(())
}

fn find_mutants(arguments: &SimArgs) -> Result<(), Failure> {
    let seeds = arguments.seeds.unwrap_or(MUTANT_SEEDS);
    let stop = signals::stop_flag()?;
    let mut missed = 0;
    print(&format!("{:<24} {:>8}  {:<14} {:>8}  {}\n", "planted bug", "seed", "found by", "after", "expected of"));
    for &planted in Planted::ALL {
        let bar = bar(seeds, planted.name());
        let mutant = mutants::find(planted, arguments.first, seeds, jobs(arguments), &|done, failures| {
            progress(&bar, &stop, done, failures)
        });
        bar.finish_and_clear();
        if stop.load(Ordering::Relaxed) {
            return Err(Failure::Interrupted);
        }
        let after = format!("{:.2} s", mutant.took.as_secs_f64());
        let row = match &mutant.found {
            Some((seed, violation)) => {
                format!("{:<24} {seed:>8}  {:<14} {after:>8}", planted.name(), violation.checker)
            }
            None => format!("{:<24} {:>8}  {:<14} {after:>8}", planted.name(), "-", "NOT FOUND"),
        };
        let expected: Vec<String> = mutants::expected(planted).iter().map(ToString::to_string).collect();
        let row = format!("{row}  {}", expected.join(", "));
        missed += usize::from(mutant.found.is_none());
        print(&format!("{row}\n"));
    }
    if missed == 0 {
        print(&format!("all {} planted bugs were found within {seeds} seeds each\n", Planted::ALL.len()));
        return Ok(());
    }
    print(&format!("{missed} of {} planted bugs were not found within {seeds} seeds\n", Planted::ALL.len()));
    Err(Failure::Invalid)
}

fn bar(seeds: u64, what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} [{bar:40}] {pos}/{len}, {per_sec}, {eta} left{msg}");
    let bar = ProgressBar::new(seeds).with_prefix(what.to_owned());
    style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style.progress_chars("=> ")))
}

fn progress(bar: &ProgressBar, stop: &Arc<AtomicBool>, done: u64, failures: usize) -> bool {
    bar.set_position(done);
    if failures > 0 {
        bar.set_message(format!(", {failures} failed"));
    }
    !stop.load(Ordering::Relaxed)
}

#[allow(clippy::cast_precision_loss, reason = "shown with fewer digits")]
fn summary(found: &Found, took: Duration) -> String {
    let many = |number: u64| count(number as f64);
    let mut text = String::new();
    let verdict = if found.violations.is_empty() { "VALID" } else { "VIOLATION" };
    let _ = writeln!(
        text,
        "{verdict}: {} seeds in {:.1} s, {} failed",
        many(found.seeds),
        took.as_secs_f64(),
        found.violations.len()
    );
    if !found.unjudged.is_empty() {
        let seeds: Vec<String> = found.unjudged.iter().take(SEEDS_TOLD).map(u64::to_string).collect();
        let more = if found.unjudged.len() > SEEDS_TOLD { ", .." } else { "" };
        let (count, seeds) = (many(found.unjudged.len() as u64), seeds.join(", "));
        let _ = writeln!(text, "  {count} seeds not judged for liveness ({seeds}{more}): {UNJUDGED}");
    }
    text + &met(found) + &recoveries(found) + &totals(&found.total)
}

/// How many seeds met what, those within others below them.
#[allow(clippy::cast_precision_loss, reason = "shown with fewer digits")]
fn met(found: &Found) -> String {
    let rows = [
        ("lies of a Byzantine replica", found.lied),
        ("  twins that contradict each other", found.contradicted),
        ("harm by faulty clients", found.did_harm),
        ("a view change", found.view_changes),
        ("  a new view that assigns batches again", found.reassigning),
        ("  prepared state through two of them in a row", found.prepared_twice),
        ("requests proven as one group", found.grouped),
        ("  of which a batch had a part only", found.parted),
        ("batches proposed by digests", found.by_digests),
        ("  of which a replica lacked requests", found.supplied),
        ("bodies brought before anybody asks", found.early_bodies),
        ("batches executed before they were committed", found.tentative),
        ("  and undone", found.rolled_back),
        ("a state transfer", found.transfers),
        ("  a state of several chunks", found.chunked),
        ("  a log that went ahead of the state", found.ahead),
        ("a crash", found.crashed),
        ("a power failure", found.power_failed),
        ("a partition", found.partitioned),
        ("results as digests", found.digested),
        ("replies to batches as digests", found.batch_digested),
        ("  of which some were missing", found.missed),
        ("reads that a quorum answered", found.read_only),
        ("  reads that fell back to being ordered", found.fell_back),
    ];
    let mut text = "  seeds with\n".to_owned();
    for (what, part) in rows {
        let (part, share) = (count(part as f64), share(part, found.seeds));
        let _ = writeln!(text, "    {what:<46} {part:>10}  {share:>8}");
    }
    text
}

/// A share in percent that is 0 only of nothing, and 100 only of everything.
#[allow(clippy::cast_precision_loss, reason = "shown with fewer digits")]
fn share(part: u64, whole: u64) -> String {
    let percent = 100.0 * part as f64 / whole.max(1) as f64;
    match percent {
        _ if part == 0 => "0 %".to_owned(),
        _ if part == whole => "100 %".to_owned(),
        ..0.01 => "< 0.01 %".to_owned(),
        ..1.0 => format!("{percent:.2} %"),
        _ => format!("{:.1} %", percent.min(99.9)),
    }
}

/// How long clusters took to recover.
#[allow(clippy::cast_precision_loss, reason = "shown with fewer digits")]
fn recoveries(found: &Found) -> String {
    let columns = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)].map(|(name, quantile)| {
        found.recovery(quantile).map(|recovery| {
            format!("{name} {:.2} s ({:.1} view time-outs)", recovery.ns as f64 / 1e9, recovery.view_timeouts)
        })
    });
    let columns: Vec<String> = columns.into_iter().flatten().collect();
    let Some((_, seed)) = found.slowest else { return String::new() };
    format!("  from healing to all well: {} (the slowest is seed {seed})\n", columns.join(", "))
}

/// What was met, added up.
#[allow(clippy::cast_precision_loss, reason = "shown with fewer digits")]
fn totals(total: &Coverage) -> String {
    let many = |number: u64| count(number as f64);
    let early = total.ignored.get(Ignored::AboveHighWatermark.name()).copied().unwrap_or(0);
    let mut text = String::new();
    let _ = writeln!(
        text,
        "  faults: {} crashes, {} restarts ({} without a vote), {} power failures ({} unsynced records lost), \
         {} partitions, {} pauses, {} lies, {} harmful requests",
        many(total.crashes),
        many(total.restarts),
        many(total.forgetful),
        many(total.power_failures),
        many(total.unsynced_records_lost),
        many(total.partitions),
        many(total.pauses),
        many(total.lies),
        many(total.hostile_requests),
    );
    let _ = writeln!(
        text,
        "  views: {} entered (the highest is {}), {} new views that reassign batches, {} null requests, {} view-changes \
         with prepared state ({} with what the one before told of)",
        many(total.views_entered),
        total.highest_view,
        many(total.reassigning_views),
        many(total.null_requests),
        many(total.prepared_told),
        many(total.prepared_told_again),
    );
    let _ = writeln!(
        text,
        "  dissemination: {} batches proposed by digests, {} sent whole to replicas that lacked requests",
        many(total.by_digests),
        many(total.supplied),
    );
    let _ = writeln!(
        text,
        "  tentative: {} batches executed, {} of them undone, {} operations complete by tentative replies",
        many(total.tentative),
        many(total.rolled_back),
        many(total.promised),
    );
    let _ = writeln!(
        text,
        "  state: {} states taken over ({} in several chunks), {} logs gone ahead of their state, {} messages too early \
         to be kept",
        many(total.states_installed),
        many(total.states_of_chunks),
        many(total.went_ahead),
        many(early),
    );
    let mut ignored: Vec<(&str, u64)> = total.ignored.iter().map(|(reason, many)| (*reason, *many)).collect();
    ignored.sort_by_key(|(_, many)| std::cmp::Reverse(*many));
    let top = ignored.iter().take(REASONS_TOLD).map(|(reason, number)| format!("{reason} {}", many(*number)));
    let _ = writeln!(text, "  ignored, for these reasons above all: {}", top.collect::<Vec<_>>().join(", "));
    let _ = writeln!(
        text,
        "  {} operations, {} messages, {} events in {:.1} simulated hours",
        many(total.operations),
        many(total.messages),
        many(total.events),
        total.virtual_ns as f64 / 3.6e12,
    );
    text
}

fn text(lines: &[String]) -> String {
    lines.iter().fold(String::new(), |text, line| text + line + "\n")
}

fn to_json(plan: &Plan) -> Result<String, Failure> {
    Ok(serde_json::to_string_pretty(plan).context("plan")?)
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    Ok(fs::write(path, text).with_context(|| path.display().to_string())?)
}

fn read(path: &Path) -> Result<Plan, Failure> {
    let name = path.display();
    let text = fs::read_to_string(path).with_context(|| name.to_string()).map_err(Failure::Usage)?;
    let plan: Plan = serde_json::from_str(&text).with_context(|| name.to_string()).map_err(Failure::Usage)?;
    plan.check().with_context(|| name.to_string()).map_err(Failure::Usage)?;
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_share_hides_that_there_were_some() {
        let shares = [(0, 10_000), (3, 10_000), (3, 1_000_000), (150, 10_000), (9_999, 10_000), (7, 7), (0, 0)];
        assert_eq!(
            shares.map(|(part, whole)| share(part, whole)),
            ["0 %", "0.03 %", "< 0.01 %", "1.5 %", "99.9 %", "100 %", "0 %"]
        );
    }

    #[test]
    fn what_seeds_met_is_told_in_columns() {
        let found = Found {
            seeds: 10_000,
            lied: 6_000,
            transfers: 1_200,
            ahead: 3,
            unjudged: vec![12, 4711],
            ..Found::default()
        };
        let text = summary(&found, Duration::from_millis(1500));
        for line in [
            "VALID: 10,000 seeds in 1.5 s, 0 failed",
            "  2 seeds not judged for liveness (12, 4711): more than f replicas were Byzantine or had lost their votes in the \
             end",
            "    lies of a Byzantine replica                         6,000    60.0 %",
            "    a state transfer                                    1,200    12.0 %",
            "      a log that went ahead of the state                    3    0.03 %",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        let rows: Vec<usize> = text.lines().filter(|line| line.starts_with("    ")).map(str::len).collect();
        assert!(rows.len() > 10 && rows.windows(2).all(|pair| pair[0] == pair[1]), "{text}");
    }
}
