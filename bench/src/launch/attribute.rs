//! What all processes noted of the operations that they followed, put together.

use hippodrome_analysis::attribution::join::{Execution, Operation, Reply, Request, Witness, join};
use hippodrome_analysis::attribution::{Attribution, Sample, groups, rows};
use hippodrome_analysis::results::{self, SAMPLES};
use hippodrome_engine::control::SamplesAnswer;
use hippodrome_engine::sampling::{OperationNote, Sampling};
use hippodrome_loadgen::report::Samples;

use super::collect::Answer;
use super::setup::Setup;

/// What became of the operations that were followed.
#[derive(Default)]
pub(super) struct Followed {
    /// For the report; `None` if none was followed.
    pub(super) attribution: Option<Attribution>,
    /// `attribution.csv`; `None` if none was followed.
    pub(super) rows: Option<String>,
    /// What kept them from being told, in words.
    pub(super) note: Option<String>,
}

/// Reads what the load generator noted, takes the file away, and joins it with what replicas told.
pub(super) fn followed(setup: &Setup, answers: &[Answer]) -> Followed {
    if setup.options.sample_one_in() == 0 {
        return Followed::default();
    }
    let path = setup.directory.join(SAMPLES);
    let read = || -> anyhow::Result<Samples> { Ok(serde_json::from_str(&std::fs::read_to_string(&path)?)?) };
    match read() {
        Ok(samples) => {
            // Its rows are in the other file from here on. That it stays if it can not be removed does no harm.
            let _ = std::fs::remove_file(&path);
            put_together(&samples, answers, setup.options.replicas)
        }
        Err(error) => {
            let note = Some(format!("operations were followed and can not be told: {SAMPLES}: {error:#}"));
            Followed { note, ..Followed::default() }
        }
    }
}

/// Writes what was followed.
pub(super) fn write(setup: &Setup, followed: &Followed) -> Result<(), results::ResultsError> {
    match &followed.rows {
        Some(rows) => results::write(&setup.directory, results::ATTRIBUTION, rows),
        None => Ok(()),
    }
}

fn put_together(load: &Samples, answers: &[Answer], replicas: u16) -> Followed {
    let told: Vec<(u16, &SamplesAnswer)> = (0..)
        .zip(answers)
        .filter_map(|(id, answer)| match answer {
            Answer::Up(told) => Some((id, told.samples.as_ref()?)),
            Answer::Ended(_) | Answer::Silent(_) => None,
        })
        .collect();
    let shared_clock = !load.boot.is_empty() && told.iter().all(|(_, answer)| answer.boot == load.boot);
    // Who had to make room follows fewer: those that all still follow.
    let one_in = told.iter().map(|(_, answer)| answer.one_in).max().unwrap_or(0).max(load.one_in);
    let sampling = Sampling::one_in(one_in);
    let operations: Vec<Operation> = load
        .operations
        .iter()
        .filter(|note| sampling.follows(note.client, note.timestamp))
        .map(|note| operation(note, load.epoch_ns))
        .collect();
    let witnesses: Vec<Witness> = told.iter().map(|(id, answer)| witness(*id, answer)).collect();
    let samples: Vec<Sample> = join(&operations, &witnesses, replicas, load.began_ns, shared_clock);
    let attribution = groups::attribute(&samples, one_in, shared_clock);
    Followed { rows: attribution.is_some().then(|| rows::to_csv(&samples)), attribution, note: None }
}

fn operation(note: &OperationNote, epoch_ns: u64) -> Operation {
    let at = |time: hippodrome_engine::types::Time| epoch_ns + time.0;
    Operation {
        client: note.client.0,
        timestamp: note.timestamp.0,
        intended: at(note.intended),
        begun: at(note.begun),
        handed: at(note.handed),
        read: at(note.read),
        counted: at(note.counted),
        completed: at(note.completed),
        first_replica: note.first.0,
        last_replica: note.last.0,
        sent_again: note.sent_again,
    }
}

fn witness(replica: u16, answer: &SamplesAnswer) -> Witness {
    let at = |time: hippodrome_engine::types::Time| answer.epoch_ns + time.0;
    let requests = answer.requests.iter().map(|note| Request {
        client: note.client.0,
        timestamp: note.timestamp.0,
        received: at(note.received),
        started: at(note.started),
        verified: at(note.verified),
    });
    let executions = answer.executions.iter().map(|note| Execution {
        client: note.client.0,
        timestamp: note.timestamp.0,
        sequence: note.sequence.0,
        view: note.view.0,
        pre_prepared: at(note.pre_prepared),
        prepared: at(note.prepared),
        committed: at(note.committed),
        durable: (note.durable.0 > 0).then(|| at(note.durable)),
        started: at(note.started),
        executed: at(note.executed),
    });
    let replies = answer.replies.iter().map(|note| Reply {
        client: note.client.0,
        timestamp: note.timestamp.0,
        sealed: at(note.sealed),
    });
    Witness { replica, requests: requests.collect(), executions: executions.collect(), replies: replies.collect() }
}
