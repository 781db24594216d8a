//! What a run's page lists: faults, generator, audit, replicas, settings, machine and files.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::super::Context;
use super::super::document::{Block, Cell, Section, Table};
use super::{Run, scorecard_table, setting};
use crate::report::{Environment, Report};
use crate::results;
use crate::summary::{USUAL_REASONS, count, digits, of_outstanding, of_traffic, time};

/// What each file beside a page holds, in the order in which it is listed.
const FILES: &[(&str, &str)] = &[
    (results::REPORT, "all figures, for programs"),
    (results::LATENCY, "latencies, an HdrHistogram for each second"),
    (results::SERIES, "the run second by second"),
    (results::ATTRIBUTION, "the operations that were followed, a row each, part by part"),
    (results::CONFIG, "the settings; run it again with --config"),
    (results::LOAD, "the load generator's own report"),
    (results::TIMELINE, "what the scorecard is drawn from"),
    (results::SCENARIO, "the scenario that was played"),
    (results::CLUSTER, "the cluster file, without secret keys"),
    (results::NETWORK, "the network that was emulated"),
    (results::SWEEP, "all points and runs, for programs"),
    (results::SWEEP_CSV, "a row for each run"),
    (results::SWEEP_MARKDOWN, "a table for documents"),
    (results::COMPARISON, "the comparison, for programs"),
    (results::COMPARISON_CSV, "a row for each ratio"),
    (results::COMPARISON_MARKDOWN, "the same for documents"),
    (results::SEARCH, "the search, for programs"),
    (results::PLAN, "which runs there are to be, and in which order"),
    (results::LOGS, "what every process said"),
];

/// Rows of a name and a value.
fn pairs(caption: &str, rows: Vec<(&str, Cell)>) -> Table {
    let mut table = Table::new(caption, &["what", "value"]);
    rows.into_iter().for_each(|(name, cell)| table.push(vec![Cell::text(name), cell]));
    table
}

/// How faults were borne.
pub(super) fn faults(run: &Run, mut section: Section) -> Section {
    let report = &run.report;
    if let Some(card) = &report.scorecard {
        let mut text = match card.view_changes {
            0 => "The cluster stayed in its view.".to_owned(),
            1 => "The cluster went through one view change.".to_owned(),
            n => format!("The cluster went through {n} view changes."),
        };
        if let Some(percent) = card.final_percent {
            text.push_str(&format!(" In the end it had {percent:.0} % of the throughput before the first fault."));
        }
        if let Some(p50) = card.final_p50_us {
            text.push_str(&format!(" In the end half of all operations took less than {}.", time(p50)));
        }
        section.blocks.push(Block::Text(text));
        section.blocks.extend(super::charts::timeline(run).map(Block::Chart));
        if !card.faults.is_empty() {
            section.blocks.push(Block::Table(scorecard_table(card)));
        }
    }
    if !report.faults.is_empty() {
        let mut table =
            Table::new("All that happened; seconds since the load began", &["at", "fault", "replica", "detail"]);
        for fault in &report.faults {
            let replica = fault.replica.map_or(Cell::Nothing, |id| Cell::whole(id.into()));
            let at = Cell::number(fault.at_s, |at| format!("{at:.1} s"));
            table.push(vec![at, Cell::text(fault.kind.clone()), replica, Cell::text(fault.detail.clone())]);
        }
        section.blocks.push(Block::Table(table));
    }
    section
}

/// What replicas sent, beside what the protocol's message complexity says.
pub(super) fn traffic(report: &Report) -> Section {
    let section = Section::new("What replicas send");
    let Some(told) = &report.traffic else { return section };
    let number = |value: Option<f64>| Cell::number(value, digits);
    let mut table = Table::new(
        "What message complexity says, kind by kind",
        &["message", "for a batch", "bytes of one", "for an operation", "bytes for an operation"],
    );
    for part in &told.parts {
        table.push(vec![
            Cell::text(part.name.replace('_', "-")),
            number(Some(part.messages_per_batch)),
            number(part.frame_bytes),
            number(Some(part.messages_per_op)),
            number(part.bytes_per_op),
        ]);
    }
    let [all, all_bytes] = [Some(told.expected_messages_per_op), told.expected_bytes_per_op].map(number);
    table.push(vec![Cell::text("expected in all"), Cell::Nothing, Cell::Nothing, all, all_bytes]);
    let [sent, sent_bytes] = [told.messages_per_op, told.bytes_per_op].map(|value| number(Some(value)));
    table.push(vec![Cell::text("sent"), Cell::Nothing, Cell::Nothing, sent, sent_bytes]);
    section.with(Block::Text(format!("{}.", of_traffic(told)))).with(Block::Table(table))
}

/// Whether the load generator can be trusted.
pub(super) fn generator(report: &Report) -> Section {
    let section = Section::new("Generator honesty");
    let g = &report.generator;
    if g.mode.is_empty() {
        return section.with(Block::Text("The load generator did not report.".to_owned()));
    }
    let mut rows = vec![
        ("mode", Cell::text(g.mode.clone())),
        ("logical clients", Cell::whole(g.clients.into())),
        ("connections to each replica", Cell::whole(g.connections.into())),
        ("threads", Cell::whole(g.threads.into())),
        ("busiest thread, on a core", Cell::percent(g.busiest_thread_percent)),
        ("a thread waiting for a core, at most", Cell::percent(g.wait_percent)),
        ("a thread either, at most", Cell::percent(g.busy_or_waiting_percent)),
        ("share of all CPU time", Cell::percent(g.cpu_share_percent)),
        (
            "CPU time, in that of one replica",
            Cell::number(Some(g.cost_in_replicas).filter(|times| *times > 0.0), |times| format!("{times:.2} times")),
        ),
    ];
    if g.mode != "closed" {
        rows.extend([
            ("operations that the schedule asked for", Cell::whole(g.offered_operations)),
            ("of those sent late by its own fault", Cell::whole(g.late_sends)),
            ("of those late for want of a client", Cell::whole(g.waited_for_client)),
            ("lateness, p99", Cell::us(g.lag_p99_us)),
            ("lateness, greatest", Cell::us(g.lag_max_us)),
            ("never sent", Cell::whole(g.unsent)),
        ]);
    }
    rows.extend([
        ("requests sent again", Cell::whole(g.retransmissions)),
        ("probes", Cell::whole(g.probes)),
        ("operations answered without being ordered", Cell::whole(g.read_only)),
        ("reads ordered after all", Cell::whole(g.fell_back)),
        ("reads of a value replaced before they began", Cell::whole(g.stale_reads)),
        ("time-outs", Cell::whole(g.timeouts)),
        ("unanswered", Cell::whole(g.unanswered)),
        ("replies with a bad proof", Cell::whole(g.bad_replies)),
        ("batches without replies in time", Cell::whole(g.missing_replies)),
        ("impossible results", Cell::whole(g.wrong_results)),
    ]);
    rows.extend(g.dropped.iter().map(|(reason, n)| (reason.as_str(), Cell::whole(*n))));
    let why = "A load generator that is itself the bottleneck, or that sends late, measures itself. A thread that is busy \
               for 95 % of the time, or one send in a hundred that is late, makes a run INVALID.";
    section.with(Block::Text(why.to_owned())).with(Block::Table(pairs("", rows)))
}

/// What the verdict on correctness rests on.
pub(super) fn audit(report: &Report) -> Section {
    let a = &report.audit;
    let ids = |ids: &[u16]| Cell::text(ids.iter().map(u16::to_string).collect::<Vec<_>>().join(", "));
    #[allow(clippy::cast_precision_loss, reason = "shown in full up to 2^53")]
    let sequence = Cell::count(a.common_sequence.map(|sequence| sequence as f64));
    let rows = vec![
        ("ledgers agree up to sequence number", sequence),
        ("ledger digest there", a.ledger_digest.clone().map_or(Cell::Nothing, Cell::Text)),
        ("replicas compared", ids(&a.replicas_compared)),
        ("replicas up to date", ids(&a.replicas_up_to_date)),
        ("clients checked for exactly-once", Cell::whole(a.clients_checked)),
        ("operations answered without being ordered", Cell::whole(a.operations_read_only)),
        ("ordered operations begun", Cell::whole(a.operations_begun)),
        ("ordered operations completed", Cell::whole(a.operations_completed)),
        ("operations executed", Cell::whole(a.operations_executed)),
        ("violations of safety", Cell::whole(a.violations)),
    ];
    let why = "The replicas' ledgers (a hash chain over all executed batches) were compared, and each client's operations \
               counted at every replica that was up to date.";
    let mut section = Section::new("Audit").with(Block::Text(why.to_owned())).with(Block::Table(pairs("", rows)));
    if let Some(told) = of_outstanding(report) {
        section.blocks.push(Block::Text(format!("Little's law: {told}.")));
    }
    if a.notes.is_empty() { section } else { section.with(Block::Notes(a.notes.clone())) }
}

/// The replicas when the load had ended.
pub(super) fn replicas(report: &Report) -> Section {
    let section = Section::new("Replicas");
    if report.replicas.is_empty() {
        return section;
    }
    let columns = [
        "replica",
        "state",
        "view",
        "operations executed",
        "batches",
        "stable checkpoint",
        "frames sent",
        "MB sent",
        "MB resident",
    ];
    let mut table = Table::new("When the load had ended", &columns);
    #[allow(clippy::cast_precision_loss, reason = "shown in MB")]
    let megabytes = |bytes: u64| Cell::number(bytes as f64 / 1e6, |mb| format!("{mb:.1}"));
    let mut ignored =
        Table::new("What replicas refused or did not need", &["reason", "how many", "at replicas", "kind"]);
    let mut reasons: BTreeMap<&str, (u64, Vec<String>)> = BTreeMap::new();
    for replica in &report.replicas {
        let id = Cell::whole(replica.id.into());
        let mut state = replica.state.clone();
        for trouble in [&replica.diverged, &replica.left_behind].into_iter().flatten() {
            state.push_str(&format!("; {trouble}"));
        }
        if replica.rolled_back > 0 {
            state.push_str(&format!("; has undone {} batches that it had executed tentatively", replica.rolled_back));
        }
        let counts =
            [replica.view, replica.executed_ops, replica.batches, replica.stable_checkpoint, replica.messages_sent];
        let mut row = vec![id, Cell::Text(state)];
        row.extend(counts.map(Cell::whole));
        row.extend([replica.bytes_sent, replica.resident_bytes].map(megabytes));
        table.push(row);
        for (reason, n) in &replica.ignored {
            let (total, at) = reasons.entry(reason).or_default();
            *total += n;
            at.push(replica.id.to_string());
        }
    }
    for (reason, (n, at)) in &reasons {
        let kind = if USUAL_REASONS.contains(reason) { "late or sent again: normal" } else { "refused" };
        ignored.push(vec![Cell::text(*reason), Cell::whole(*n), Cell::text(at.join(", ")), Cell::text(kind)]);
    }
    let b = &report.batches;
    #[allow(clippy::cast_precision_loss, reason = "shown in full up to 2^53")]
    let batches = format!(
        "The primary executed {} batches of {:.1} requests on average.",
        count(b.count as f64),
        b.mean_requests
    );
    let section = if b.count > 0 { section.with(Block::Text(batches)) } else { section };
    let section = section.with(Block::Table(table));
    if reasons.is_empty() {
        section
    } else {
        section.with(Block::Folded("Messages ignored, by reason".to_owned(), ignored))
    }
}

/// The settings: those that somebody chose first.
pub(in crate::page) fn settings(config: &Value, defaults: &Value) -> Section {
    let mut chosen = Table::new("Other than by default", &["setting", "value", "default"]);
    let mut rest = Table::new("", &["setting", "value"]);
    let keys = config.as_object().map(|table| table.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    for key in keys {
        let Some(value) = setting(config, &key) else { continue };
        let default = setting(defaults, &key);
        // Drawn anew for each run, unless given.
        let is_chosen = default.as_ref() != Some(&value) && key != "seed";
        if is_chosen && defaults.is_object() {
            let default = default.map_or_else(|| Cell::text("none"), Cell::Text);
            chosen.push(vec![Cell::Text(key), Cell::Text(value), default]);
        } else {
            rest.push(vec![Cell::Text(key), Cell::Text(value)]);
        }
    }
    let mut section = Section::new("Settings");
    section.blocks.push(if chosen.rows.is_empty() {
        Block::Text("All settings are the defaults.".to_owned())
    } else {
        Block::Table(chosen)
    });
    if !rest.rows.is_empty() {
        section.blocks.push(Block::Folded("The settings left at their defaults".to_owned(), rest));
    }
    section
}

/// Machine, build, transport, placement and SIMD.
pub(in crate::page) fn environment(e: &Environment, steal_percent: Option<f64>) -> Section {
    #[allow(clippy::cast_precision_loss, reason = "shown in GB")]
    let memory = Cell::number(e.memory_bytes as f64 / 1e9, |gb| format!("{gb:.1} GB"));
    let mut rows = vec![
        ("processor", Cell::text(e.cpu.clone())),
        ("cores", Cell::whole(e.cores as u64)),
        ("memory", memory),
        ("kernel", Cell::text(e.kernel.clone())),
        ("stolen by the host", Cell::percent(steal_percent)),
        ("version", Cell::text(e.version.clone())),
        ("build", Cell::text(e.build_profile.clone())),
        ("commit", Cell::text(e.git_commit.clone())),
        ("transport of replicas", Cell::text(e.transport.clone())),
        ("transport of clients", Cell::text(e.client_transport.clone())),
        ("placement", Cell::text(e.placement.clone())),
        ("SIMD", Cell::text(e.simd.clone())),
        ("emulated network", Cell::text(e.network.clone())),
        ("begun", Cell::text(e.started_at.clone())),
    ];
    rows.retain(|(_, cell)| !cell.shown().is_empty());
    Section::new("Machine and build").with(Block::Table(pairs("", rows)))
}

/// Links to the files that the page is made from.
pub(in crate::page) fn files(directory: &Path, context: &Context) -> Section {
    let there = FILES.iter().filter(|(name, _)| directory.join(name).exists());
    let links = there.map(|(name, holds)| {
        let folder = if *name == results::LOGS { "/" } else { "" };
        (format!("{}{name}{folder}", context.files_at), (*holds).to_owned())
    });
    Section::new("Files").with(Block::Files(links.collect()))
}
