//! Point 2: every counted operation had a correct reply quorum, and each logical client's operations were executed
//! exactly once.

use super::{Evidence, Findings, LoadEvidence, ReplicaEvidence, ReplicaState, id, percent};

/// More operations than this without a reply quorum, percent of those begun, and the cluster was not live.
pub const UNANSWERED_PERCENT_MAX: f64 = 0.1;
/// More operations without a reply quorum than this, percent of the logical clients, and the cluster was dead in the
/// end, however few they are beside those of the time before.
pub const WAITING_CLIENTS_PERCENT_MAX: f64 = 50.0;

/// So many violations of one kind are spelt out.
const EXAMPLES: usize = 3;

pub(super) fn check(evidence: &Evidence, load: &LoadEvidence, findings: &mut Findings) {
    findings.audit.operations_begun = load.begun.iter().sum();
    findings.audit.operations_completed = load.completed.iter().sum();
    findings.audit.operations_read_only = load.read_only;
    replies(evidence, load, findings);
    if load.completed.len() != load.begun.len() {
        let (completed, begun) = (load.completed.len(), load.begun.len());
        findings.reason(format!(
            "the load generator counted completed operations of {completed} clients, begun of {begun}"
        ));
        return;
    }
    let top = evidence.up().map(|(_, state)| state.executed_sequence).max().unwrap_or(0);
    let mut hostile_ops: u64 = 0;
    for (index, state) in evidence.up() {
        if state.executed_sequence < top {
            let behind = top - state.executed_sequence;
            findings.note(format!("replica {index} is {behind} sequence numbers behind: its clients were not checked"));
            continue;
        }
        findings.audit.replicas_up_to_date.push(id(index));
        hostile_ops = state.executed.iter().skip(load.begun.len()).sum();
        findings.audit.operations_executed = state.executed_ops.saturating_sub(hostile_ops);
        clients(index, state, (load, evidence.hostile_clients), findings);
    }
    if hostile_ops > 0 {
        findings.note(format!("{hostile_ops} operations of hostile clients were executed besides"));
    }
    let up_to_date = findings.audit.replicas_up_to_date.len();
    findings.audit.clients_checked = if up_to_date > 0 { load.begun.len() as u64 } else { 0 };
    if up_to_date <= evidence.f {
        let needed = evidence.f + 1;
        findings.reason(format!(
            "only {up_to_date} replicas had executed everything when the run ended; f + 1 = {needed} are needed to check it"
        ));
    }
}

fn replies(evidence: &Evidence, load: &LoadEvidence, findings: &mut Findings) {
    if load.operations == 0 {
        findings.reason("no operation was completed in the measured window");
    }
    for (replica, &count) in load.wrong_replies.iter().enumerate().filter(|(_, count)| **count > 0) {
        let text = format!("replica {replica} sent {count} replies that contradict the agreed result");
        match evidence.replicas.get(replica) {
            Some(ReplicaEvidence::Byzantine(_)) => findings.note(text),
            _ => findings.violation(text),
        }
    }
    if load.wrong_results > 0 {
        let count = load.wrong_results;
        findings.violation(format!("{count} agreed results are impossible: they were never written"));
    }
    if load.stale_reads > 0 {
        let count = load.stale_reads;
        findings.violation(format!("{count} reads gave a value that had been replaced before they began"));
    }
    if load.bad_replies > 0 {
        findings.note(format!("{} replies had an authenticator that does not hold", load.bad_replies));
    }
    if load.unanswered > 0 {
        let share = percent(load.unanswered, load.begun.iter().sum::<u64>() + load.read_only);
        let text = format!("{} operations ({share:.2} %) never got a reply quorum", load.unanswered);
        let clients = load.begun.len() as u64;
        if percent(load.unanswered, clients) > WAITING_CLIENTS_PERCENT_MAX {
            findings.reason(format!("{text}: the cluster had stopped answering most of its {clients} clients"));
        } else if share > UNANSWERED_PERCENT_MAX {
            findings.reason(text);
        } else {
            findings.note(text);
        }
    }
    if load.timeouts > 0 {
        findings.note(format!("{} operations outlived the time-out", load.timeouts));
    }
}

/// Checks one up-to-date replica's client table against the load generator's counts. Nobody can say what hostile
/// clients should have had executed; only that all that was executed is somebody's.
fn clients(index: usize, state: &ReplicaState, (load, hostile): (&LoadEvidence, u64), findings: &mut Findings) {
    let (known, expected) = (state.executed.len(), load.begun.len());
    let all = expected as u64 + hostile;
    if known as u64 != all || state.last_timestamp.len() != known {
        findings.violation(format!("replica {index} knows {known} logical clients, the load generator {all}"));
        return;
    }
    let total: u64 = state.executed.iter().sum();
    if total != state.executed_ops {
        let counted = state.executed_ops;
        findings.violation(format!("replica {index} executed {counted} operations, but {total} by its client table"));
    }
    let executed = |client: usize| state.executed[client];
    violations(findings, expected, |client| {
        let last = state.last_timestamp[client];
        (executed(client) != last).then(|| {
            let count = executed(client);
            format!("replica {index}: client {client}: {count} operations executed, but the last timestamp is {last}")
        })
    });
    violations(findings, expected, |client| {
        let completed = load.completed[client];
        (completed > executed(client)).then(|| {
            let count = executed(client);
            format!("replica {index}: client {client}: {completed} operations completed, but only {count} executed")
        })
    });
    violations(findings, expected, |client| {
        let begun = load.begun[client];
        (executed(client) > begun).then(|| {
            let count = executed(client);
            format!("replica {index}: client {client}: {count} operations executed, but only {begun} begun")
        })
    });
}

/// Adds a reason for each client that violates a rule; past the first few only their number.
fn violations(findings: &mut Findings, clients: usize, rule: impl Fn(usize) -> Option<String>) {
    let mut count = 0;
    for text in (0..clients).filter_map(rule) {
        count += 1;
        if count <= EXAMPLES {
            findings.violation(text);
        }
    }
    if count > EXAMPLES {
        findings.violation(format!(".. and so for {} more clients", count - EXAMPLES));
    }
}
