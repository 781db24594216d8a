//! The replicas' views while the load runs, asked for over their control ports without ever waiting: a replica that
//! stands still must not hold up the launcher.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use hippodrome_analysis::scorecard::ViewSample;
use hippodrome_engine::control::Question;
use hippodrome_engine::limits::QUESTION_BYTES_MAX;
use serde::Deserialize;

/// A control port on this machine that takes longer to take a connection is tried again later.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(20);
/// An answer longer than this is none.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Watches all replicas.
pub(super) struct Watcher {
    links: Vec<Link>,
    samples: Vec<ViewSample>,
}

/// One replica's control port.
#[derive(Default)]
struct Link {
    address: Option<SocketAddr>,
    stream: Option<TcpStream>,
    /// Whether an answer is under way.
    asked: bool,
    answer: Vec<u8>,
    view: Option<u64>,
}

/// What is of interest in a replica's state.
#[derive(Deserialize)]
struct State {
    view: u64,
}

impl Watcher {
    /// Watches `n` replicas.
    pub(super) fn new(n: usize) -> Self {
        Self { links: (0..n).map(|_| Link::default()).collect(), samples: Vec::new() }
    }

    /// Reads what has been answered and asks again. `addresses`: the control port of each replica that is up.
    pub(super) fn poll(&mut self, at_s: f64, addresses: impl Iterator<Item = Option<SocketAddr>>) {
        for ((replica, link), address) in (0..).zip(&mut self.links).zip(addresses) {
            if let Some(view) = link.poll(address) {
                self.samples.push(ViewSample { at_s, replica, view });
            }
        }
    }

    /// The views that the replicas were in when they last said so; `None` of those that are not up.
    pub(super) fn views(&self) -> Vec<Option<u64>> {
        self.links.iter().map(|link| link.view.filter(|_| link.address.is_some())).collect()
    }

    /// Everything that was told, in order of time.
    pub(super) fn samples(&self) -> &[ViewSample] {
        &self.samples
    }
}

impl Link {
    /// The view, if an answer has come in.
    fn poll(&mut self, address: Option<SocketAddr>) -> Option<u64> {
        if self.address != address {
            *self = Self { address, ..Self::default() };
        }
        let address = address?;
        if self.stream.is_none() {
            self.stream = connect(address);
            (self.asked, self.answer) = (false, Vec::new());
        }
        let told = self.read();
        self.ask();
        self.view = told.or(self.view);
        told
    }

    fn read(&mut self) -> Option<u64> {
        let mut chunk = [0; QUESTION_BYTES_MAX];
        loop {
            match self.stream.as_mut()?.read(&mut chunk) {
                Ok(0) => break self.stream = None,
                Ok(count) => self.answer.extend(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => break self.stream = None,
            }
            if self.answer.len() > ANSWER_BYTES_MAX {
                break self.stream = None;
            }
        }
        let end = self.answer.iter().rposition(|byte| *byte == b'\n')?;
        let line: Vec<u8> = self.answer.drain(..=end).collect();
        self.asked = false;
        serde_json::from_slice::<State>(&line).ok().map(|state| state.view)
    }

    fn ask(&mut self) {
        let Some(stream) = self.stream.as_mut().filter(|_| !self.asked) else { return };
        let mut question = serde_json::to_vec(&Question::Status).unwrap_or_default();
        question.push(b'\n');
        // A few bytes into an empty socket buffer: they fit, or the connection is of no use.
        match stream.write(&question) {
            Ok(count) if count == question.len() => self.asked = true,
            _ => self.stream = None,
        }
    }
}

fn connect(address: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).ok()?;
    stream.set_nonblocking(true).ok()?;
    Some(stream)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::net::TcpListener;

    use super::*;

    fn poll_until(watcher: &mut Watcher, address: Option<SocketAddr>, samples: usize) {
        for _ in 0..2000 {
            watcher.poll(1.0, std::iter::once(address));
            if watcher.samples().len() >= samples {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("only {} samples", watcher.samples().len());
    }

    #[test]
    fn views_are_asked_for_again_and_again_and_silence_holds_nobody_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let replica = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            for view in [3, 4] {
                let mut question = String::new();
                reader.read_line(&mut question).unwrap();
                assert_eq!(question, "{\"ask\":\"status\"}\n");
                let answer = format!("{{\"view\":{view},\"other\":[1]}}\n");
                let (head, rest) = answer.split_at(5);
                stream.write_all(head.as_bytes()).unwrap();
                std::thread::sleep(Duration::from_millis(20));
                stream.write_all(rest.as_bytes()).unwrap();
            }
            // From now on it says nothing, and is still there.
            reader
        });
        let mut watcher = Watcher::new(1);
        assert_eq!(watcher.views(), [None]);
        poll_until(&mut watcher, Some(address), 2);
        let views: Vec<u64> = watcher.samples().iter().map(|sample| sample.view).collect();
        assert_eq!((views, watcher.views()), (vec![3, 4], vec![Some(4)]));
        let _reader = replica.join().unwrap();
        watcher.poll(2.0, std::iter::once(Some(address)));
        watcher.poll(3.0, std::iter::once(Some(address)));
        assert_eq!(watcher.samples().len(), 2);
        // It is gone, and one at another address has taken its place.
        watcher.poll(4.0, std::iter::once(None));
        assert_eq!(watcher.views(), [None]);
    }
}
