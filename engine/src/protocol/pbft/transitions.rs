//! The phases of a slot and every transition between them, in one table.

/// How far the batch of one sequence number has come at this replica (Castro & Liskov, OSDI'99, section 4.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// No pre-prepare yet; votes may be waiting for one.
    #[default]
    Idle,
    /// A pre-prepare is here, but some of its requests did not prove themselves to this replica: it waits for vouchers.
    Held,
    /// The pre-prepare is accepted.
    PrePrepared,
    /// Q replicas agree to the assignment.
    Prepared,
    /// The batch is decided, and its body is here.
    CommittedLocal,
    /// Handed to the executor.
    Executing,
    /// The executor is done with it.
    Executed,
}

/// What moves a slot on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A pre-prepare came whose requests do not all prove themselves.
    Hold,
    /// A pre-prepare was accepted, at once or vouched for.
    Accept,
    /// The prepares are complete.
    Prepare,
    /// The decision is known, by commits or by claims of others, and so is the body.
    Decide,
    /// All lower sequence numbers were handed to the executor.
    HandOut,
    /// The executor reported back.
    Execute,
    /// A stable checkpoint covers it.
    Collect,
    /// The view is over and the batch is not decided: a new view assigns anew.
    LeaveView,
}

/// The phase that `event` leads to, or `None` where it may not happen.
///
/// A decision overtakes every phase before it: it may be learned from others before the own votes are complete.
pub(super) const fn next(phase: Phase, event: Event) -> Option<Phase> {
    match (phase, event) {
        (Phase::Idle, Event::Hold) => Some(Phase::Held),
        (Phase::Idle | Phase::Held, Event::Accept) => Some(Phase::PrePrepared),
        (Phase::PrePrepared, Event::Prepare) => Some(Phase::Prepared),
        (Phase::Idle | Phase::Held | Phase::PrePrepared | Phase::Prepared, Event::Decide) => {
            Some(Phase::CommittedLocal)
        }
        (Phase::Idle | Phase::Held | Phase::PrePrepared | Phase::Prepared, Event::LeaveView) => Some(Phase::Idle),
        (Phase::CommittedLocal, Event::HandOut) => Some(Phase::Executing),
        (Phase::Executing, Event::Execute) => Some(Phase::Executed),
        (Phase::Executed, Event::Collect) => Some(Phase::Idle),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn the_table_is_as_written_down() {
        let phases = [
            Phase::Idle,
            Phase::Held,
            Phase::PrePrepared,
            Phase::Prepared,
            Phase::CommittedLocal,
            Phase::Executing,
            Phase::Executed,
        ];
        let events = [
            Event::Hold,
            Event::Accept,
            Event::Prepare,
            Event::Decide,
            Event::HandOut,
            Event::Execute,
            Event::Collect,
            Event::LeaveView,
        ];
        let mut table = String::new();
        for phase in phases {
            for event in events {
                if let Some(next) = next(phase, event) {
                    writeln!(table, "{phase:?} --{event:?}--> {next:?}").unwrap();
                }
            }
        }
        assert_eq!(table, include_str!("../testdata/transitions.txt"));
    }
}
