//! Point 3: the generator was not the bottleneck and did what it was asked to.

use super::{Evidence, Findings, LoadEvidence, percent, real};

/// A generator thread busier than this, percent, may have held the cluster back; also one that was ready to run for so
/// long.
pub const BUSIEST_THREAD_PERCENT_MAX: f64 = 95.0;
/// Open loop: late sends may be less than this, percent of those scheduled.
pub const LATE_SENDS_PERCENT_MAX: f64 = 1.0;
/// Open loop: the completed and the scheduled operations may fall short of what was asked for by this, percent.
pub const SHORTFALL_PERCENT_MAX: f64 = 1.0;

pub(super) fn check(evidence: &Evidence, load: &LoadEvidence, findings: &mut Findings) {
    let busiest = load.busiest_thread_percent;
    if busiest >= BUSIEST_THREAD_PERCENT_MAX {
        findings.reason(format!(
            "a thread of the load generator was busy {busiest:.0} % of the time (below {BUSIEST_THREAD_PERCENT_MAX:.0} % is honest): \
             the generator may have been the bottleneck; give it more --load-threads"
        ));
    } else if load.busy_or_waiting_percent >= BUSIEST_THREAD_PERCENT_MAX {
        waited(evidence, load, findings);
    }
    if load.unsent > 0 {
        findings.reason(format!("{} scheduled operations were never sent", load.unsent));
    }
    if let Some(rate) = load.offered_ops_per_s {
        schedule(load, rate, findings);
    }
    recorded(evidence, load, findings);
}

/// A thread always had something to do, and could not do it all because others had the cores. Where replicas and load
/// share too few cores that is how it must be, and no reason; where there is a core for everybody it is one.
fn waited(evidence: &Evidence, load: &LoadEvidence, findings: &mut Findings) {
    let LoadEvidence { busiest_thread_percent: busy, wait_percent: wait, busy_or_waiting_percent: both, .. } = load;
    let what = format!(
        "a thread of the load generator had something to do {both:.0} % of the time (at most {busy:.0} % on a core, {wait:.0} % waiting for one)"
    );
    let (cores, threads) = (evidence.cores, evidence.threads);
    if threads > cores {
        findings.note(format!(
            "{what}: {threads} threads share {cores} cores. Latencies include its waiting, and throughput is what replicas and load reach together on this machine"
        ));
    } else {
        findings.reason(format!(
            "{what}, though {cores} cores are enough for the {threads} threads of this run: something else took its core, and the generator may have been the bottleneck"
        ));
    }
}

/// Open loop: the schedule asked for the configured rate, was kept, and was served.
fn schedule(load: &LoadEvidence, rate: f64, findings: &mut Findings) {
    let scheduled = load.offered_operations;
    let late = percent(load.late_sends, scheduled);
    if late >= LATE_SENDS_PERCENT_MAX {
        findings.reason(format!("{late:.2} % of the sends were late by the generator's fault (allowed: below 1 %)"));
    }
    let asked = rate * load.measured_s;
    let tolerance = asked * SHORTFALL_PERCENT_MAX / 100.0 + if load.random_arrivals { 4.0 * asked.sqrt() } else { 1.0 };
    if (real(scheduled) - asked).abs() > tolerance {
        findings
            .reason(format!("the schedule held {scheduled} operations, but {rate:.0} per second ask for {asked:.0}"));
    }
    let (completed, offered) = (load.operations, load.offered_operations);
    if real(completed) < real(offered) * (1.0 - SHORTFALL_PERCENT_MAX / 100.0) - 1.0 {
        let share = percent(completed, offered);
        findings.reason(format!(
            "overload: {completed} operations were completed of {offered} offered ({share:.1} %; at least 99 % is a rate that the cluster sustains)"
        ));
    }
}

/// The interval log holds every latency that was to be in it: nothing was dropped on the way.
fn recorded(evidence: &Evidence, load: &LoadEvidence, findings: &mut Findings) {
    let (recorded, expected) = (evidence.latencies, load.latencies);
    if recorded != expected {
        findings.reason(format!("{expected} latencies were measured, but the interval log holds {recorded}"));
    }
}
