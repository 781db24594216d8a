//! Point 4: the measured window was steady.
//!
//! Faults that a scenario makes on purpose excuse what they cause and no more: seconds between a fault and the
//! cluster's recovery may be empty, and drift is judged before the first fault only. Both are said in notes, and the
//! seconds still count in throughput and latency.

use super::{Evidence, Exit, Findings};
use crate::statistics::{DRIFT_SECONDS_MIN, drift_percent};

/// Rates may drift by so much between the first and the last third of the window, percent. Machines that are shared
/// drift by up to 30 %.
pub const DRIFT_PERCENT_MAX: f64 = 35.0;

pub(super) fn check(evidence: &Evidence, findings: &mut Findings) {
    let seconds = &evidence.per_second;
    if seconds.is_empty() {
        findings.reason("the measured window has no whole second");
    }
    let excused = evidence.disturbed.as_ref().map_or(&[][..], |disturbed| &disturbed.seconds);
    let zeros = (1u64..).zip(seconds).filter(|(n, rate)| **rate <= 0.0 && !excused.contains(n));
    standstills(zeros.map(|(n, _)| n).collect(), &evidence.exits, findings);
    let judged = evidence.disturbed.as_ref().map_or(seconds.len(), |disturbed| {
        let before = disturbed.seconds_before.min(seconds.len());
        note(excused, before, findings);
        before
    });
    if let Some(drift) = drift_percent(&seconds[..judged])
        && drift.abs() > DRIFT_PERCENT_MAX
    {
        findings.reason(format!(
            "throughput drifted by {drift:+.0} % from the first to the last third of the window (allowed: {DRIFT_PERCENT_MAX:.0} %)"
        ));
    }
}

/// Seconds without an operation make numbers useless, whatever the cause; where a replica's process had just ended,
/// that is named.
fn standstills(mut zeros: Vec<u64>, exits: &[Exit], findings: &mut Findings) {
    for Exit { at_s, replica, how } in exits {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of the measured window")]
        let hit = at_s.max(0.0) as u64 + 1;
        // The second in which it ended may have begun well.
        let first = if zeros.contains(&hit) { hit } else { hit + 1 };
        let caused: Vec<u64> = (first..).take_while(|second| zeros.contains(second)).collect();
        zeros.retain(|second| !caused.contains(second));
        if !caused.is_empty() {
            let word = if caused.len() == 1 { "second" } else { "seconds" };
            let which = in_words(&caused);
            findings.reason(format!("no operation completed in {word} {which}, after replica {replica} ended ({how})"));
        }
    }
    if !zeros.is_empty() {
        let which: Vec<String> = zeros.iter().map(u64::to_string).collect();
        let (count, which) = (zeros.len(), which.join(", "));
        findings.reason(format!("{count} seconds of the measured window without a single operation: {which}"));
    }
}

/// `4`, `4 and 5`, `4, 5 and 6`.
fn in_words(seconds: &[u64]) -> String {
    let words: Vec<String> = seconds.iter().map(u64::to_string).collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

/// Says what was not judged.
fn note(excused: &[u64], before: usize, findings: &mut Findings) {
    if !excused.is_empty() {
        let which = excused.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        findings.note(format!(
            "seconds of the measured window between a fault and the recovery from it, not judged for steadiness but counted in all figures: {which}"
        ));
    }
    findings.note(if before < DRIFT_SECONDS_MIN {
        format!("drift was not judged: only {before} seconds lie before the first fault")
    } else {
        format!("drift was judged over the {before} seconds before the first fault")
    });
}
