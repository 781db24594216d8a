//! Point 4: the measured window was steady.

use super::{Evidence, Findings};
use crate::statistics::drift_percent;

/// Rates may drift by so much between the first and the last third of the window, percent. Machines that are shared
/// drift by up to 30 %.
pub const DRIFT_PERCENT_MAX: f64 = 35.0;

pub(super) fn check(evidence: &Evidence, findings: &mut Findings) {
    let seconds = &evidence.per_second;
    if seconds.is_empty() {
        findings.reason("the measured window has no whole second");
    }
    let zeros: Vec<String> = (1..).zip(seconds).filter(|(_, rate)| **rate <= 0.0).map(|(n, _)| n.to_string()).collect();
    if !zeros.is_empty() {
        let (count, which) = (zeros.len(), zeros.join(", "));
        findings.reason(format!("{count} seconds of the measured window without a single operation: {which}"));
    }
    if let Some(drift) = drift_percent(seconds)
        && drift.abs() > DRIFT_PERCENT_MAX
    {
        findings.reason(format!(
            "throughput drifted by {drift:+.0} % from the first to the last third of the window (allowed: {DRIFT_PERCENT_MAX:.0} %)"
        ));
    }
}
