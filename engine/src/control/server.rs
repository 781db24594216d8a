//! The server behind a replica's control port.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde::Serialize;

use crate::control::{LedgerAnswer, Question, ReplicaReport, SamplesAnswer};
use crate::limits::{CONTROL_CONNECTIONS_MAX, QUESTION_BYTES_MAX, QUESTION_SEQUENCES_MAX};
use crate::pipeline::board::{Questions, SharedBoard};
use crate::pipeline::clock::Clock;
use crate::pipeline::network::LinkChanges;
use crate::platform;

/// A connection that says nothing for so long is closed.
const IDLE: Duration = Duration::from_secs(60);

/// What the server answers from.
#[derive(Clone)]
pub struct Source {
    /// The stages' counters.
    pub board: SharedBoard,
    /// The stages' clock.
    pub clock: Clock,
    /// The execute stage.
    pub questions: Questions,
    /// The network.
    pub links: LinkChanges,
    /// Set by [`Question::Stop`].
    pub stop: Arc<AtomicBool>,
}

#[derive(Serialize)]
struct Refusal {
    error: String,
}

/// Answers on `listener` from a thread of its own, until the process ends.
///
/// # Errors
/// If no thread can be started.
pub fn serve(listener: TcpListener, source: Source) -> std::io::Result<()> {
    let open = Arc::new(AtomicUsize::new(0));
    std::thread::Builder::new().name("control".into()).spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                // Out of file descriptors, most likely: do not spin on it.
                std::thread::sleep(Duration::from_millis(50));
                continue;
            };
            if open.fetch_add(1, Ordering::Relaxed) >= CONTROL_CONNECTIONS_MAX {
                open.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let source = source.clone();
            let guard = Open(Arc::clone(&open));
            let spawned = std::thread::Builder::new().name("control-client".into()).spawn(move || {
                let _guard = guard;
                // A broken connection concerns only whoever was at its other end.
                let _ = converse(&stream, &source);
            });
            drop(spawned);
        }
    })?;
    Ok(())
}

struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn converse(stream: &TcpStream, source: &Source) -> std::io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(IDLE))?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        let read = reader.by_ref().take(QUESTION_BYTES_MAX as u64).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(());
        }
        if line.last() != Some(&b'\n') && read == QUESTION_BYTES_MAX {
            return say(stream, &Refusal { error: format!("a question has at most {QUESTION_BYTES_MAX} bytes") });
        }
        match serde_json::from_slice::<Question>(&line) {
            Ok(question) => answer(stream, question, source)?,
            Err(error) => say(stream, &Refusal { error: format!("not a question: {error}") })?,
        }
    }
}

fn answer(stream: &TcpStream, question: Question, source: &Source) -> std::io::Result<()> {
    let silent = || Refusal { error: "the execute stage does not answer".into() };
    match question {
        Question::Status => say(stream, &status(source)),
        Question::Ledger { sequences } if sequences.len() > QUESTION_SEQUENCES_MAX => {
            say(stream, &Refusal { error: format!("at most {QUESTION_SEQUENCES_MAX} sequence numbers at a time") })
        }
        Question::Ledger { sequences } => match source.questions.ledger(sequences) {
            Some(digests) => {
                let digests = digests.into_iter().map(|digest| digest.map(|digest| digest.to_string())).collect();
                say(stream, &LedgerAnswer { digests })
            }
            None => say(stream, &silent()),
        },
        Question::Clients => match source.questions.clients() {
            Some(clients) => say(stream, &clients),
            None => say(stream, &silent()),
        },
        Question::Samples => say(stream, &samples(source)),
        Question::Network(change) => match source.links.make(change) {
            Some(Ok(in_force)) => say(stream, &in_force),
            Some(Err(error)) => say(stream, &Refusal { error: error.to_string() }),
            None => say(stream, &Refusal { error: "the network does not answer".into() }),
        },
        Question::Stop => {
            say(stream, &serde_json::json!({}))?;
            source.stop.store(true, Ordering::Relaxed);
            Ok(())
        }
    }
}

fn status(source: &Source) -> ReplicaReport {
    let mut report = source.board.lock().report();
    report.pid = std::process::id();
    report.cpu_us = platform::process_cpu_us();
    report.resident_bytes = platform::resident_bytes();
    report
}

fn samples(source: &Source) -> SamplesAnswer {
    let notes = source.board.lock().notes.clone();
    SamplesAnswer {
        boot: platform::boot(),
        epoch_ns: source.clock.epoch_ns(),
        one_in: notes.sampling().many(),
        requests: notes.requests.as_slice().to_vec(),
        executions: notes.executions.as_slice().to_vec(),
        replies: notes.replies.as_slice().to_vec(),
    }
}

fn say(mut stream: &TcpStream, answer: &impl Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    stream.write_all(&line)
}
