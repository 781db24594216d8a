//! Asking a replica through its control port: one JSON object a line in, one out.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context as _;
use hippodrome_engine::control::Question;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A replica that takes longer for one answer counts as silent.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// One replica's control port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Control {
    address: SocketAddr,
}

impl Control {
    /// The control port at this address.
    pub(crate) const fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    /// Where it is.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks one question on a connection of its own.
    ///
    /// # Errors
    /// If there is no answer in time, or it is not what the question asks for.
    pub(crate) fn ask<T: DeserializeOwned>(&self, question: &Question) -> anyhow::Result<T> {
        self.ask_json(question)
    }

    /// Asks a question in any form that is one in JSON.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub(crate) fn ask_json<T: DeserializeOwned>(&self, question: &impl Serialize) -> anyhow::Result<T> {
        let stream = TcpStream::connect_timeout(&self.address, ANSWER_TIMEOUT).context("control port")?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).context("control port")?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT)).context("control port")?;
        let mut text = serde_json::to_string(question).context("question")?;
        text.push('\n');
        (&stream).write_all(text.as_bytes()).context("control port")?;
        let mut answer = String::new();
        BufReader::new(&stream).read_line(&mut answer).context("control port: no answer")?;
        anyhow::ensure!(!answer.is_empty(), "control port: closed without an answer");
        let shown: String = answer.chars().take(120).collect();
        serde_json::from_str(&answer).with_context(|| format!("control port: unexpected answer '{}'", shown.trim_end()))
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use hippodrome_engine::control::{LedgerAnswer, ReplicaReport};

    use super::*;

    /// A replica that answers once.
    fn replica(answer: &'static str) -> Control {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut question = String::new();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut question).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        Control::new(address)
    }

    #[test]
    fn answers_are_read_and_nonsense_is_named() {
        let question = Question::Ledger { sequences: vec![] };
        let answer: LedgerAnswer = replica("{\"digests\":[\"aa\",null]}\n").ask(&question).unwrap();
        assert_eq!(answer.digests, [Some("aa".to_owned()), None]);
        let error = replica("{\"error\":\"no\"}\n").ask::<ReplicaReport>(&Question::Status).unwrap_err();
        assert!(format!("{error:#}").contains("unexpected answer '{\"error\":\"no\"}'"), "{error:#}");
        let error = replica("").ask::<ReplicaReport>(&Question::Status).unwrap_err();
        assert!(format!("{error:#}").contains("closed without an answer"));
    }
}
