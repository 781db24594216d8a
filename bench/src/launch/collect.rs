//! What the living replicas say when the load has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use hippodrome_engine::control::{ClientsAnswer, LedgerAnswer, Question, ReplicaReport, SamplesAnswer};
use hippodrome_engine::types::SequenceNumber;

use super::Stop;
use super::fleet::Fleet;
use crate::control::Control;
use crate::failure::Failure;

/// How long replicas may take to agree on what was executed last.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);
/// .. after a scenario, which may have left one far behind.
const SETTLE_TIMEOUT_DISTURBED: Duration = Duration::from_secs(15);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// What became of one replica.
pub(super) enum Answer {
    /// It ended before it was told to; how.
    Ended(String),
    /// It lives and does not answer; why.
    Silent(String),
    /// It answered everything.
    Up(Box<Told>),
}

/// All that one replica told.
pub(super) struct Told {
    /// Its state and counters.
    pub(super) status: ReplicaReport,
    /// Ledger digests at the sequence numbers where any replica stands, as far as it keeps them.
    pub(super) ledger: BTreeMap<u64, String>,
    /// What was executed for each logical client.
    pub(super) clients: ClientsAnswer,
    /// What it noted of operations that are followed, if it told.
    pub(super) samples: Option<SamplesAnswer>,
}

/// Waits until the replicas have settled, then asks each for its state, its ledger and its client table. In order of
/// their ids.
///
/// # Errors
/// If interrupted.
pub(super) fn collect(fleet: &mut Fleet, stop: &Stop) -> Result<Vec<Answer>, Failure> {
    let states = settle(fleet, stop)?;
    // Where any replica stands: the lowest of these is the highest that all have in common.
    let sequences = positions(fleet, &states);
    let sequences: Vec<SequenceNumber> = sequences.into_iter().collect();
    let mut answers = Vec::new();
    for (member, state) in fleet.members.iter().zip(states) {
        stop.check()?;
        answers.push(match (&member.ended, state) {
            (Some(how), _) => Answer::Ended(how.clone()),
            (None, Err(why)) => Answer::Silent(why),
            (None, Ok(status)) => match details(&member.control, &sequences, status) {
                Ok(told) => Answer::Up(Box::new(told)),
                Err(error) => Answer::Silent(format!("{error:#}")),
            },
        });
    }
    Ok(answers)
}

/// Each replica's state once all living ones stand still at the same sequence number, or when they have had their time.
fn settle(fleet: &Fleet, stop: &Stop) -> Result<Vec<Result<ReplicaReport, String>>, Failure> {
    let deadline = Instant::now() + if fleet.disturbed { SETTLE_TIMEOUT_DISTURBED } else { SETTLE_TIMEOUT };
    let mut last: Option<SequenceNumber> = None;
    let mut silent: BTreeMap<usize, String> = BTreeMap::new();
    loop {
        let mut states = Vec::new();
        for (index, member) in fleet.members.iter().enumerate() {
            stop.check()?;
            states.push(match (&member.ended, silent.get(&index)) {
                (Some(how), _) => Err(how.clone()),
                // Who did not answer once is not waited for again.
                (None, Some(why)) => Err(why.clone()),
                (None, None) => member.control.ask(&Question::Status).map_err(|error| format!("{error:#}")),
            });
            if let Some(Err(why)) = states.last() {
                silent.insert(index, why.clone());
            }
        }
        let at = positions(fleet, &states);
        let common = if at.len() == 1 { at.first().copied() } else { None };
        let settled = common.is_some() && common == last;
        if settled || at.is_empty() || Instant::now() >= deadline {
            return Ok(states);
        }
        last = common;
        std::thread::sleep(PAUSE);
    }
}

/// Where replicas stand. Those that misbehave on purpose may say anything.
fn positions(fleet: &Fleet, states: &[Result<ReplicaReport, String>]) -> BTreeSet<SequenceNumber> {
    let honest = fleet.members.iter().zip(states).filter(|(member, _)| member.byzantine.is_none());
    honest.filter_map(|(_, state)| state.as_ref().ok()).map(|status| status.executed_sequence).collect()
}

fn details(control: &Control, sequences: &[SequenceNumber], status: ReplicaReport) -> anyhow::Result<Told> {
    let answer: LedgerAnswer = control.ask(&Question::Ledger { sequences: sequences.to_vec() })?;
    let digests = sequences.iter().zip(answer.digests);
    let ledger = digests.filter_map(|(sequence, digest)| Some((sequence.0, digest?))).collect();
    let clients: ClientsAnswer = control.ask(&Question::Clients)?;
    // A replica that catches up is still executing: its count must be of the same instant as its client table.
    // What can not be had is unattributed, and no reason to give up the rest.
    let samples = control.ask(&Question::Samples).ok();
    let status = ReplicaReport { executed_ops: clients.executed_ops, ..status };
    Ok(Told { status, ledger, clients, samples })
}
