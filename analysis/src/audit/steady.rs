//! Point 4: the measured window was steady.
//!
//! Faults that a scenario makes on purpose excuse what they cause and no more: seconds between a fault and the
//! cluster's recovery may be empty, and drift is judged before the first fault only. Both are said in notes, and the
//! seconds still count in throughput and latency.

use super::{Evidence, Findings};
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
    let zeros: Vec<String> = zeros.map(|(n, _)| n.to_string()).collect();
    if !zeros.is_empty() {
        let (count, which) = (zeros.len(), zeros.join(", "));
        findings.reason(format!("{count} seconds of the measured window without a single operation: {which}"));
    }
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
