//! A report as text that explains itself: the verdict first, then the numbers with what they mean.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use crate::attribution::Part;
use crate::report::{Phase, Replica, Report};
use crate::scorecard;

mod cost;
mod words;

pub(crate) use cost::{of_generator, of_outstanding, of_traffic};
pub use words::{Style, count, time};
pub(crate) use words::{digits, signed_percent, version};

/// What is told of a phase: where it stands in the data path, and between what the time passes. What is executed
/// tentatively does not wait for the commit phase, which goes on beside it.
pub(crate) fn phase<'a>(report: &Report, name: &'a str) -> (usize, &'a str) {
    let rank = PHASES.iter().position(|(known, _)| *known == name);
    let words = match (rank, is_tentative(report)) {
        (Some(COMMITTED), true) => "beside it, to committed",
        (Some(EXECUTED), true) => "prepared to executed",
        (Some(rank), _) => PHASES[rank].1,
        (None, _) => name,
    };
    (rank.unwrap_or(PHASES.len()), words)
}

/// Whether batches were executed when they were prepared.
pub(crate) fn is_tentative(report: &Report) -> bool {
    report.config.get("execution").and_then(|execution| execution.as_str()) == Some("tentative")
}

const COMMITTED: usize = 3;
const EXECUTED: usize = 4;

/// The phases in data-path order, each with what the time passes between; others follow by name.
pub(crate) const PHASES: &[(&str, &str)] = &[
    ("ingress_verify", "frame read to verified"),
    ("pre_prepare", "waiting for a batch"),
    ("prepared", "pre-prepare to prepared"),
    ("committed", "prepared to committed-local"),
    ("executed", "committed-local to executed"),
    ("replied", "executed to reply sealed"),
];

/// How long the log took to make a group durable: no gap between two phases, but within some of them.
pub(crate) const LOG_WRITTEN: &str = "log_written";

/// Reasons that every healthy run has: a quorum is complete before the last message of it arrives, and what was lost or
/// only slow is sent again. Not `reply_withheld`: there somebody asked at once for more bytes of old replies than a
/// table may hold, which honest clients come to only where many large replies were lost, and they wait longer for it.
pub(crate) const USUAL_REASONS: &[&str] = &[
    "already_committed",
    "below_low_watermark",
    "duplicate_pre_prepare",
    "duplicate_vote",
    "reply_repeated",
    "reply_resent",
    "request_in_progress",
    "request_outdated",
    "unwanted_body",
];

/// The summary of a report; `place` is where the results lie, as it is to be shown.
#[must_use]
pub fn render(report: &Report, place: &str, style: Style) -> String {
    let mut page = Page { text: String::new(), style };
    page.verdict(report);
    page.throughput(report);
    page.latency(report);
    page.cpu(report);
    page.generator(report);
    page.batches(report);
    page.phases(report);
    page.attribution(report);
    page.stages(report);
    page.bottleneck(report);
    page.undone(report);
    page.refusals(report);
    page.faults(report);
    page.scorecard(report);
    page.audit(report);
    page.environment(report);
    page.line("Results", format_args!("{place}"));
    page.text
}

struct Page {
    text: String,
    style: Style,
}

impl Page {
    /// One line with a label in the left column; an empty label continues the line before.
    fn line(&mut self, label: &str, rest: fmt::Arguments<'_>) {
        let label = format!("{label:<12}");
        let label = if label.trim().is_empty() { label } else { self.style.bold(&label) };
        let _ = writeln!(self.text, "{label} {rest}");
    }

    fn verdict(&mut self, report: &Report) {
        if report.verdict.valid {
            let _ = writeln!(self.text, "{}", self.style.good("VALID"));
            return;
        }
        let _ = writeln!(self.text, "{} (do not use these numbers)", self.style.bad("INVALID"));
        for reason in &report.verdict.reasons {
            let _ = writeln!(self.text, "  - {reason}");
        }
    }

    fn throughput(&mut self, report: &Report) {
        let t = &report.throughput;
        self.line("Throughput", format_args!("{} ops/s over {} s", count(t.ops_per_s), t.measured_s.round()));
        if let Some([low, high]) = t.ci95 {
            self.line("", format_args!("95 % interval {} to {} ops/s (this run only)", count(low), count(high)));
        }
        if let Some(offered) = t.offered_ops_per_s {
            self.line("", format_args!("offered {} ops/s", count(offered)));
        }
        if let Some(drift) = t.drift_percent {
            self.line("", format_args!("drift {drift:+.1} % from the first to the last third"));
        }
    }

    fn latency(&mut self, report: &Report) {
        let l = &report.latency_us;
        if l.count == 0 {
            return self.line("Latency", format_args!("no operation was recorded"));
        }
        let (p50, p90, p99) = (time(l.p50), time(l.p90), time(l.p99));
        self.line("Latency", format_args!("p50 {p50}  p90 {p90}  p99 {p99}"));
        let (p99_9, p99_99, max) = (time(l.p99_9), time(l.p99_99), time(l.max));
        self.line("", format_args!("p99.9 {p99_9}  p99.99 {p99_99}  max {max}  mean {}", time(l.mean)));
        #[allow(clippy::cast_precision_loss, reason = "shown with fewer digits")]
        let recorded = count(l.count as f64);
        match report.generator.mode.as_str() {
            "closed" => self.line("", format_args!("{recorded} operations, closed loop: it understates the tail")),
            _ => self.line("", format_args!("{recorded} operations, open loop: from the intended send")),
        }
    }

    fn cpu(&mut self, report: &Report) {
        let c = &report.cpu;
        let (total, replicas, clients) = (c.us_per_op_total, c.us_per_op_replicas, c.us_per_op_clients);
        self.line("CPU", format_args!("{total:.2} µs/op: replicas {replicas:.2}, clients {clients:.2}"));
        if let Some(told) = &report.efficiency {
            let (floor, percent) = (told.floor_us_per_op, told.percent);
            self.line(
                "",
                format_args!("{percent:.0} % of that, {floor:.3} µs/op, is the least that this machine needs"),
            );
        }
        self.line("", format_args!("{:.1} % stolen by the host", c.steal_percent));
        let (replicas, clients) = (c.system_calls_per_op_replicas, c.system_calls_per_op_clients);
        // Older results do not tell.
        if replicas + clients > 0.0 {
            let total = replicas + clients;
            self.line(
                "",
                format_args!("{total:.3} system calls for sockets/op: replicas {replicas:.3}, clients {clients:.3}"),
            );
        }
    }

    fn generator(&mut self, report: &Report) {
        let g = &report.generator;
        if g.mode.is_empty() {
            return self.line("Generator", format_args!("it did not report"));
        }
        let (clients, connections, threads) = (g.clients, g.connections, g.threads);
        self.line(
            "Generator",
            format_args!("clients {clients}, connections to each replica {connections}, threads {threads}"),
        );
        let (busiest, wait, share) = (g.busiest_thread_percent, g.wait_percent, g.cpu_share_percent);
        self.line(
            "",
            format_args!(
                "threads at most {busiest:.0} % on a core, at most {wait:.0} % waiting for one; {share:.0} % of all CPU time"
            ),
        );
        if let Some(cost) = of_generator(report) {
            self.line("", format_args!("{cost}"));
        }
        if g.mode != "closed" {
            let (late, waited, unsent) = (g.late_sends, g.waited_for_client, g.unsent);
            let (p99, max) = (time(g.lag_p99_us), time(g.lag_max_us));
            self.line(
                "",
                format_args!("late {late}, waited for a client {waited}, unsent {unsent}; lag p99 {p99}, max {max}"),
            );
        }
        let (again, timeouts, unanswered) = (g.retransmissions, g.timeouts, g.unanswered);
        let probes = if g.probes > 0 { format!(", probes {}", g.probes) } else { String::new() };
        self.line("", format_args!("retransmissions {again}{probes}, time-outs {timeouts}, unanswered {unanswered}"));
        if g.read_only + g.fell_back > 0 {
            let (read_only, fell_back) = (g.read_only, g.fell_back);
            self.line("", format_args!("{read_only} operations read-only, {fell_back} reads ordered after all"));
        }
        let dropped: BTreeMap<&str, u64> =
            g.dropped.iter().map(|(reason, n)| (reason.as_str(), *n)).filter(|(_, n)| *n > 0).collect();
        if !dropped.is_empty() {
            self.line("", format_args!("frames that never left: {}", counts(&dropped)));
        }
    }

    fn batches(&mut self, report: &Report) {
        let b = &report.batches;
        if b.count > 0 {
            self.line("Batches", format_args!("{} with {:.1} requests each on average", b.count, b.mean_requests));
        }
        if let Some(told) = &report.traffic {
            self.line("Sent", format_args!("{}", of_traffic(told)));
        }
    }

    fn phases(&mut self, report: &Report) {
        if report.phases_us.is_empty() {
            return;
        }
        self.line("Phases", format_args!("at the primary, from each to the next"));
        let mut phases: Vec<_> = report.phases_us.iter().filter(|(name, _)| *name != LOG_WRITTEN).collect();
        phases.sort_by_key(|(name, _)| phase(report, name).0);
        for (name, figures) in phases {
            self.phase("", phase(report, name).1, figures);
        }
        if let Some(phase) = report.phases_us.get(LOG_WRITTEN) {
            self.phase("Log", "a group made durable", phase);
        }
    }

    fn phase(&mut self, label: &str, words: &str, phase: &Phase) {
        let (p50, p99) = (time(phase.p50), time(phase.p99));
        self.line(label, format_args!("{words:<27}  p50 {p50:>9}  p99 {p99:>9}"));
    }

    /// What makes up the median and the tail, part by part.
    fn attribution(&mut self, report: &Report) {
        let Some(told) = &report.attribution else { return };
        #[allow(clippy::cast_precision_loss, reason = "shown with fewer digits")]
        let [samples, one_in] = [told.samples, told.one_in].map(|number| count(number as f64));
        let (middle, tail) = (&told.middle, &told.tail);
        self.line(
            "Where time",
            format_args!(
                "one in {one_in} operations followed, {samples}; at p99.9: the mean of the {} slowest",
                tail.samples
            ),
        );
        self.line("goes", format_args!("{:<27}  {:>10}     {:>10}", "", "at p50", "at p99.9"));
        for part in &told.parts {
            let words = Part::of_name(&part.name).map_or(part.name.as_str(), |part| part.words());
            self.share(words, (part.p50_share_us, middle.mean_us), (part.p99_9_share_us, tail.mean_us));
        }
        self.share("the whole", (middle.mean_us, middle.mean_us), (tail.mean_us, tail.mean_us));
        if !told.shared_clock {
            self.line("", format_args!("the processes have no clock in common: what passes between them is one part"));
        }
    }

    fn share(&mut self, words: &str, median: (f64, f64), slowest: (f64, f64)) {
        let cell = |(us, whole): (f64, f64)| {
            let percent = if whole > 0.0 { 100.0 * us / whole } else { 0.0 };
            format!("{:>10} {percent:>3.0}%", time(us))
        };
        self.line("", format_args!("{words:<27} {} {}", cell(median), cell(slowest)));
    }

    fn bottleneck(&mut self, report: &Report) {
        if !report.bottleneck.sentence.is_empty() {
            self.line("Bottleneck", format_args!("{}", report.bottleneck.sentence));
        }
    }

    fn stages(&mut self, report: &Report) {
        let mut label = "Stages";
        for replica in report.replicas.iter().filter(|replica| !replica.stages.is_empty()) {
            self.line(label, format_args!("replica {}: {}", replica.id, stages(replica)));
            label = "";
        }
    }

    /// What tentative execution cost.
    fn undone(&mut self, report: &Report) {
        let undone = report.replicas.iter().filter(|replica| replica.rolled_back > 0);
        let undone: Vec<_> = undone.map(|replica| format!("replica {}: {}", replica.id, replica.rolled_back)).collect();
        if !undone.is_empty() {
            self.line("Undone", format_args!("batches executed tentatively, at {}", undone.join(", ")));
        }
    }

    fn refusals(&mut self, report: &Report) {
        let mut label = "Ignored";
        let mut usual: BTreeMap<&str, u64> = BTreeMap::new();
        for replica in &report.replicas {
            let mut unusual = BTreeMap::new();
            for (reason, n) in &replica.ignored {
                let counts = if USUAL_REASONS.contains(&reason.as_str()) { &mut usual } else { &mut unusual };
                *counts.entry(reason.as_str()).or_default() += n;
            }
            if !unusual.is_empty() {
                self.line(label, format_args!("replica {}: {}", replica.id, counts(&unusual)));
                label = "";
            }
        }
        if !usual.is_empty() {
            self.line(label, format_args!("all replicas, late or sent again, which is normal: {}", counts(&usual)));
        }
    }

    fn faults(&mut self, report: &Report) {
        let mut label = "Faults";
        // Those of a scenario are told on its own clock, like everything that it says.
        let from_s = report.scorecard.as_ref().map_or(0.0, |card| card.measured_from_s);
        for fault in &report.faults {
            let who = fault.replica.map_or_else(String::new, |id| format!(" of replica {id}"));
            let when = when(fault.at_s, from_s);
            self.line(label, format_args!("{when}: {}{who}: {}", fault.kind, fault.detail));
            label = "";
        }
    }

    fn scorecard(&mut self, report: &Report) {
        let Some(card) = &report.scorecard else { return };
        let word = if card.green { self.style.good("GREEN") } else { self.style.bad("RED") };
        let safety = if card.safe { "safety held" } else { "SAFETY WAS VIOLATED" };
        self.line("Scorecard", format_args!("{}: {word}, {safety}, view changes {}", card.scenario, card.view_changes));
        for failed in &card.failed {
            self.line("", format_args!("not met: {failed}"));
        }
        for row in scorecard::table(card) {
            self.line("", format_args!("{row}"));
        }
        if let Some(percent) = card.final_percent {
            self.line("", format_args!("in the end {percent:.0} % of the throughput before the first fault"));
        }
        if let Some(p50) = card.final_p50_us {
            self.line("", format_args!("in the end half of all operations took less than {}", time(p50)));
        }
        if !card.faults.is_empty() {
            self.line("", format_args!("at: after the measured load began; times come in steps of 100 ms"));
        }
    }

    fn audit(&mut self, report: &Report) {
        let a = &report.audit;
        if let Some(sequence) = a.common_sequence {
            let (replicas, clients) = (a.replicas_compared.len(), a.clients_checked);
            self.line(
                "Audit",
                format_args!("{replicas} ledgers compared up to sequence number {sequence}, {clients} clients checked"),
            );
        }
        if let Some(told) = of_outstanding(report) {
            self.line("Little's law", format_args!("{told}"));
        }
        let mut label = "Notes";
        for note in &a.notes {
            self.line(label, format_args!("{note}"));
            label = "";
        }
    }

    fn environment(&mut self, report: &Report) {
        let e = &report.environment;
        self.line("Machine", format_args!("{}, {} cores, Linux {}", e.cpu, e.cores, version(&e.kernel)));
        self.line("Build", format_args!("{} {}, commit {}", e.version, e.build_profile, e.git_commit));
        if let Some(ns) = report.config.get("burn_ns").and_then(serde_json::Value::as_u64) {
            self.line("Handicap", format_args!("each replica burns {ns} ns of CPU time for each operation"));
        }
        let words =
            [("Transport", &e.transport), ("Placement", &e.placement), ("SIMD", &e.simd), ("Emulated", &e.network)];
        for (label, text) in words {
            if !text.is_empty() {
                self.line(label, format_args!("{text}"));
            }
        }
    }
}

/// When a fault happened that is `at_s` after the load began, on a clock that begins at `from_s`.
fn when(at_s: f64, from_s: f64) -> String {
    if at_s <= 0.0 {
        "from the beginning".to_owned()
    } else if at_s < from_s {
        format!("{:.1} s before the measured load", from_s - at_s)
    } else {
        format!("at {:.1} s", at_s - from_s)
    }
}

/// `order 41 %, execute 12 %`, with the core where there is one.
fn stages(replica: &Replica) -> String {
    let stages = replica.stages.iter().map(|stage| {
        let core = stage.core.map_or_else(String::new, |core| format!(" (core {core})"));
        format!("{} {:.0} %{core}", stage.name, stage.busy_percent)
    });
    stages.collect::<Vec<_>>().join(", ")
}

/// `bad_frame 7, old_view 1,234`.
#[allow(clippy::cast_precision_loss, reason = "shown in full up to 2^53")]
fn counts(reasons: &BTreeMap<&str, u64>) -> String {
    let counts = reasons.iter().map(|(reason, n)| format!("{reason} {}", count(*n as f64)));
    counts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribution::{Attribution, Group, PartShare};
    use crate::results::read_report;
    use crate::roofline::Efficiency;

    /// The golden results directory beside this crate's sources.
    fn golden(name: &str) -> (Report, String) {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
        let expected = std::fs::read_to_string(directory.join("summary.txt")).unwrap();
        (read_report(&directory).unwrap(), expected)
    }

    #[test]
    fn golden_reports_print_as_ever() {
        for name in ["valid", "invalid"] {
            let (report, expected) = golden(name);
            assert_eq!(render(&report, "results/golden", Style::Plain), expected, "{name}");
        }
    }

    /// Phases are named for what they are, and what was undone is told; the commit phase does not stand in the way.
    #[test]
    fn tentative_execution_is_told_as_such() {
        let (mut report, _) = golden("valid");
        report.config["execution"] = "tentative".into();
        report.replicas[2].rolled_back = 7;
        let text = render(&report, "results/golden", Style::Plain);
        assert!(text.contains("prepared to executed") && text.contains("beside it, to committed"), "{text}");
        assert!(!text.contains("committed-local"), "{text}");
        assert!(text.contains("\nUndone       batches executed tentatively, at replica 2: 7\n"), "{text}");
    }

    #[test]
    fn system_calls_are_told_if_they_were_counted() {
        let (mut report, expected) = golden("valid");
        assert!(!expected.contains("system calls"));
        (report.cpu.system_calls_per_op_replicas, report.cpu.system_calls_per_op_clients) = (0.0421, 0.5);
        let told = render(&report, "results/golden", Style::Plain);
        let line = "             0.542 system calls for sockets/op: replicas 0.042, clients 0.500\n";
        assert_eq!(told.replacen(line, "", 1), expected);
        assert!(told.contains(line));
    }

    #[test]
    fn colours_are_the_only_difference() {
        let (report, expected) = golden("invalid");
        let coloured = render(&report, "results/golden", Style::Colour);
        assert!(coloured.contains("\x1b[1;31mINVALID\x1b[0m"));
        let plain = ["\x1b[1;31m", "\x1b[1m", "\x1b[0m"].iter().fold(coloured, |text, code| text.replace(code, ""));
        assert_eq!(plain, expected);
    }

    #[test]
    fn faults_are_on_the_clock_of_their_run() {
        let times = [(5.0, 0.0), (0.0, 0.0), (5.0, 2.0), (2.0, 2.0), (0.5, 2.0), (0.0, 2.0)];
        assert_eq!(
            times.map(|(at_s, from_s)| when(at_s, from_s)),
            [
                "at 5.0 s",
                "from the beginning",
                "at 3.0 s",
                "at 0.0 s",
                "1.5 s before the measured load",
                "from the beginning"
            ]
        );
    }

    /// A scenario's summary, with its table and its clock.
    #[test]
    fn scenarios_tell_their_faults_and_figures() {
        let (mut report, _) = golden("invalid");
        let failed = vec!["after process_exit at 3.0 s: nothing was observed after it".to_owned()];
        let score = crate::scorecard::Score { at_s: 5.0, kind: "kill".into(), replicas: vec![3], ..Default::default() };
        report.scorecard = Some(crate::scorecard::Scorecard {
            scenario: "kill-one".into(),
            measured_from_s: 2.0,
            faults: vec![score],
            final_p50_us: Some(1500.0),
            safe: true,
            failed,
            ..Default::default()
        });
        let text = render(&report, "results/golden", Style::Plain);
        for part in [
            "Faults       at 3.0 s: process_exit of replica 3: killed by signal 9",
            "Scorecard    kill-one: RED, safety held, view changes 0",
            "             not met: after process_exit at 3.0 s: nothing was observed after it",
            "             3.0 s  kill 3  no baseline  not observed",
            "             in the end half of all operations took less than 1.50 ms",
            "             at: after the measured load began; times come in steps of 100 ms",
        ] {
            assert!(text.contains(part), "'{part}' is missing: {text}");
        }
    }

    #[test]
    fn where_time_goes_is_a_table_of_parts() {
        let (mut report, _) = golden("valid");
        let part = |name: &str, p50_share_us, p99_9_share_us| PartShare {
            name: name.into(),
            p50_share_us,
            p99_9_share_us,
            ..PartShare::default()
        };
        report.attribution = Some(Attribution {
            samples: 12_345,
            one_in: 1024,
            shared_clock: true,
            middle: Group { samples: 1235, mean_us: 2000.0, ..Group::default() },
            tail: Group { samples: 13, mean_us: 4000.0, ..Group::default() },
            parts: vec![part("order_wait", 1500.0, 500.0), part("unattributed", 500.0, 3500.0)],
            ..Attribution::default()
        });
        report.bottleneck.sentence = "nothing is saturated".into();
        let (floor_us_per_op, percent) = (4.875, 25.0);
        report.efficiency = Some(Efficiency { floor_us_per_op, percent, ..Efficiency::default() });
        let text = render(&report, "results/golden", Style::Plain);
        let expected = "
Where time   one in 1,024 operations followed, 12,345; at p99.9: the mean of the 13 slowest
goes                                          at p50       at p99.9
             waiting for a batch            1.50 ms  75%     500 µs  12%
             unattributed                    500 µs  25%    3.50 ms  88%
             the whole                      2.00 ms 100%    4.00 ms 100%
Stages ";
        assert!(text.contains(expected), "{text}");
        assert!(
            text.contains("\n             25 % of that, 4.875 µs/op, is the least that this machine needs\n"),
            "{text}"
        );
        assert!(text.contains("\nBottleneck   nothing is saturated\n"), "{text}");
    }
}
