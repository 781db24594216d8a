//! Point 1: the replicas' ledgers agree.

use std::collections::{BTreeMap, BTreeSet};

use super::{Evidence, Findings, ReplicaEvidence, id, list};

pub(super) fn check(evidence: &Evidence, findings: &mut Findings) {
    faulty_replicas(evidence, findings);
    own_confessions(evidence, findings);
    compare(evidence, findings);
}

/// Up to f replicas may end, fall silent or misbehave: that is what the cluster is for. More than f may not.
fn faulty_replicas(evidence: &Evidence, findings: &mut Findings) {
    let mut faulty = Vec::new();
    let mut how = "ended or did not answer";
    for (index, replica) in evidence.replicas.iter().enumerate() {
        match replica {
            ReplicaEvidence::Up(_) => continue,
            ReplicaEvidence::Ended(how) => findings.note(format!("replica {index} ended before the load did: {how}")),
            ReplicaEvidence::Byzantine(kinds) => {
                findings.note(format!("replica {index} misbehaved on purpose ({kinds}): what it says does not count"));
                how = "ended, did not answer or misbehaved on purpose";
            }
            ReplicaEvidence::Silent(why) => findings.note(format!("replica {index} did not answer: {why}")),
        }
        faulty.push(id(index));
    }
    if faulty.len() > evidence.f {
        let (count, n, f) = (faulty.len(), evidence.replicas.len(), evidence.f);
        findings.reason(format!("{count} of {n} replicas ({}) {how}, more than f = {f}", list(&faulty)));
    }
}

fn own_confessions(evidence: &Evidence, findings: &mut Findings) {
    for (index, state) in evidence.up() {
        if let Some(how) = &state.diverged {
            findings.violation(format!("replica {index} found its state different from a quorum's: {how}"));
        }
        if let Some(how) = &state.left_behind {
            findings.note(format!("replica {index} was left behind: {how}"));
        }
    }
}

/// Compares digests at every sequence number that any replica answered for.
fn compare(evidence: &Evidence, findings: &mut Findings) {
    let sequences: BTreeSet<u64> = evidence.up().flat_map(|(_, state)| state.ledger.keys().copied()).collect();
    let mut compared = BTreeSet::new();
    let mut accused = BTreeSet::new();
    for &sequence in &sequences {
        let groups = by_digest(evidence, sequence);
        let votes: usize = groups.iter().map(|(_, replicas)| replicas.len()).sum();
        if votes >= 2 {
            compared.extend(groups.iter().flat_map(|(_, replicas)| replicas.iter().copied()));
        }
        let Some((digest, largest)) = groups.first() else { continue };
        if groups.len() > 1 {
            disagreement(sequence, &groups, &mut accused, findings);
        }
        // Sequence numbers ascend, so the highest one that a quorum shares stays.
        if largest.len() >= evidence.quorum {
            findings.audit.common_sequence = Some(sequence);
            findings.audit.ledger_digest = Some(digest.clone());
        }
    }
    reach(evidence, findings);
    for (index, state) in evidence.up() {
        if !compared.contains(&id(index)) {
            let sequence = state.executed_sequence;
            findings.note(format!(
                "replica {index} is at sequence number {sequence}, for which no other replica keeps a digest: not compared"
            ));
        }
    }
    findings.audit.replicas_compared = compared.into_iter().collect();
}

/// How much of what was executed the comparison covers. Ledgers that are equal before anything was executed prove
/// nothing.
fn reach(evidence: &Evidence, findings: &mut Findings) {
    let quorum = evidence.quorum;
    let last = evidence.up().map(|(_, state)| state.executed_sequence).max().unwrap_or(0);
    match findings.audit.common_sequence {
        None => findings
            .reason(format!("no sequence number at which the ledgers of a quorum ({quorum}) are known and equal")),
        Some(0) if last > 0 => findings.reason(format!(
            "the ledgers of a quorum ({quorum}) are known and equal at sequence number 0 only, before anything was executed; the last one is {last}"
        )),
        Some(common) if common < last => findings.note(format!(
            "the ledgers of a quorum ({quorum}) were compared up to sequence number {common}; those of fewer replicas go on to {last}"
        )),
        Some(_) => {}
    }
}

/// Replicas by the digest that they have at `sequence`, the largest group first.
fn by_digest(evidence: &Evidence, sequence: u64) -> Vec<(String, Vec<u16>)> {
    let mut groups: BTreeMap<&String, Vec<u16>> = BTreeMap::new();
    for (index, state) in evidence.up() {
        if let Some(digest) = state.ledger.get(&sequence) {
            groups.entry(digest).or_default().push(id(index));
        }
    }
    let mut groups: Vec<(String, Vec<u16>)> = groups.into_iter().map(|(digest, ids)| (digest.clone(), ids)).collect();
    groups.sort_by_key(|(_, replicas)| std::cmp::Reverse(replicas.len()));
    groups
}

/// Names who differs from the majority, each replica once: at the lowest sequence number at which it was seen to
/// differ.
fn disagreement(sequence: u64, groups: &[(String, Vec<u16>)], accused: &mut BTreeSet<u16>, findings: &mut Findings) {
    let (digest, majority) = &groups[0];
    if groups[1].1.len() == majority.len() {
        let sides: Vec<String> =
            groups.iter().map(|(digest, ids)| format!("replicas {}: {}", list(ids), short(digest))).collect();
        if groups.iter().flat_map(|(_, ids)| ids).any(|id| accused.insert(*id)) {
            findings.violation(format!(
                "ledgers differ at sequence number {sequence}, no side larger: {}",
                sides.join("; ")
            ));
        }
        return;
    }
    for (other, ids) in &groups[1..] {
        for id in ids.iter().filter(|id| accused.insert(**id)) {
            findings.violation(format!(
                "replica {id}'s ledger differs from the majority's at sequence number {sequence}: {} instead of {} (replicas {})",
                short(other),
                short(digest),
                list(majority)
            ));
        }
    }
}

fn short(digest: &str) -> String {
    let head: String = digest.chars().take(16).collect();
    if head.len() < digest.len() { format!("{head}..") } else { head }
}
