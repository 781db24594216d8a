//! What a scenario asks for, and whether it was met.

use super::Scorecard;

/// What a scenario asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Expectations {
    /// Whether the run's verdict must be VALID (or, if false, INVALID).
    pub valid: bool,
    /// Part of a reason that an INVALID verdict must have.
    pub reason: Option<String>,
    /// Whether safety must have held (or, if false, been violated).
    pub safe: bool,
    /// After each fault operations complete again within this time, s.
    pub progress_within_s: Option<f64>,
    /// In the end throughput is at least this share of what it was before the first fault.
    pub min_fraction_of_baseline: Option<f64>,
    /// In the end the median latency is at most this, ms.
    pub final_p50_ms_at_most: Option<f64>,
    /// No more views than this are gone through.
    pub view_changes_at_most: Option<u64>,
}

impl Default for Expectations {
    fn default() -> Self {
        Self {
            valid: true,
            reason: None,
            safe: true,
            progress_within_s: None,
            min_fraction_of_baseline: None,
            final_p50_ms_at_most: None,
            view_changes_at_most: None,
        }
    }
}

/// What was found out about the run besides its scorecard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged<'a> {
    /// Why the verdict is INVALID; empty if it is VALID.
    pub reasons: &'a [String],
    /// Whether the audit found no violation of safety.
    pub safe: bool,
    /// Why the run does not show what the scenario is about: it was not played as it is written, or the load generator
    /// failed. No expectation excuses these.
    pub problems: &'a [String],
}

impl Scorecard {
    /// Compares with what was expected.
    pub fn expect(&mut self, expected: &Expectations, judged: &Judged<'_>) {
        self.safe = judged.safe;
        let mut failed = judged.problems.to_vec();
        verdict(expected, judged, &mut failed);
        if let Some(limit) = expected.progress_within_s {
            self.progress(limit, &mut failed);
        }
        if let Some(fraction) = expected.min_fraction_of_baseline {
            self.final_throughput(100.0 * fraction, &mut failed);
        }
        if let Some(most) = expected.final_p50_ms_at_most {
            match self.final_p50_us.map(|us| us / 1e3) {
                None => failed.push("no operation completed in the last seconds".to_owned()),
                Some(ms) if ms > most => {
                    failed.push(format!("in the end the median latency is {ms:.1} ms, expected: at most {most} ms"))
                }
                Some(_) => {}
            }
        }
        let used = self.view_changes;
        if let Some(most) = expected.view_changes_at_most.filter(|most| used > *most) {
            failed.push(format!("{used} view changes, expected: at most {most}"));
        }
        self.green = failed.is_empty();
        self.failed = failed;
    }

    /// When a fault was made, in seconds of the scenario.
    pub(super) fn scenario_s(&self, at_s: f64) -> f64 {
        at_s - self.measured_from_s
    }

    fn progress(&self, limit_s: f64, failed: &mut Vec<String>) {
        for score in &self.faults {
            let what = format!("after {} at {:.1} s", score.kind, self.scenario_s(score.at_s));
            match score.progress_after_ms {
                None if score.observed_s <= 0.0 => failed.push(format!("{what}: nothing was observed after it")),
                None => failed.push(format!("{what}: no operation completed any more, expected: within {limit_s} s")),
                Some(ms) if ms > limit_s * 1e3 => {
                    failed.push(format!("{what}: progress after {:.1} s, expected: within {limit_s} s", ms / 1e3));
                }
                Some(_) => {}
            }
        }
    }

    fn final_throughput(&self, least_percent: f64, failed: &mut Vec<String>) {
        match self.final_percent {
            None => failed.push("throughput before or after the faults is too short to compare".to_owned()),
            Some(percent) if percent < least_percent => failed.push(format!(
                "in the end throughput is {percent:.0} % of what it was before the first fault, expected: at least {least_percent:.0} %"
            )),
            Some(_) => {}
        }
    }
}

fn verdict(expected: &Expectations, judged: &Judged<'_>, failed: &mut Vec<String>) {
    match (expected.valid, judged.reasons.is_empty()) {
        (true, true) | (false, false) => {}
        (true, false) => failed.push("the verdict is INVALID, expected: VALID".to_owned()),
        (false, true) => failed.push("the verdict is VALID, expected: INVALID".to_owned()),
    }
    if let Some(part) = expected.reason.as_ref().filter(|_| !judged.reasons.is_empty())
        && !judged.reasons.iter().any(|reason| reason.contains(part.as_str()))
    {
        failed.push(format!("the verdict is INVALID, but not because of '{part}'"));
    }
    match (expected.safe, judged.safe) {
        (true, true) | (false, false) => {}
        (true, false) => failed.push("safety was violated".to_owned()),
        (false, true) => failed.push("safety held, expected: a violation".to_owned()),
    }
}
