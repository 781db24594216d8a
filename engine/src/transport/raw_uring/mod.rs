//! Completion by `io_uring`, through its own operations: one system call of a turn hands over everything that is to be
//! sent, lets the kernel do what is due, waits if there is nothing, and brings all that was received.
//!
//! `ring` is the only file that names memory to the kernel, `buffers` where received bytes lie; both turn that into
//! safe calls. `operations` finds what is under way, `connection` is the state of one socket, `support` says what a
//! kernel lacks. Each socket has a receive that completes again and again, into buffers that are provided to all of
//! them together, and at most one send at a time, so that the order is kept. Whatever the kernel uses of this process's
//! memory belongs to the ring until the kernel is done with it, whatever becomes of the connection.
//!
//! A send is over at once, unless the one before it found too little room: then it waits for some. A receive ends by
//! itself when no buffer is left, and is begun anew in the next turn, with more of them. A paused connection's receive
//! is cancelled.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use socket2::SockAddr;

use self::connection::{Connection, Phase};
use self::operations::{Completion, Key, Outcome};
use self::ring::{Ring, Sending};
use super::table::{self, Table};
use super::{ConnectionId, Counters, Event, LISTENER_REST, Transport, Waker, sockets, sys};
use crate::settings::RingOptions;

mod buffers;
mod connection;
mod operations;
mod ring;
mod support;

pub(super) use support::check_short_sends;

/// The backend that speaks to `io_uring` itself.
pub struct RawUring {
    ring: Ring,
    connections: Table<Connection>,
    listeners: Vec<Accepting>,
    wake: Arc<Wake>,
    /// Whether the ring tells of wake-ups. With a thread of the kernel it never does.
    watching: bool,
    /// What is to be submitted. Connections may be there more than once, or be gone.
    to_connect: Vec<(ConnectionId, SocketAddr)>,
    to_receive: Vec<ConnectionId>,
    to_write: Vec<ConnectionId>,
    to_cancel: Vec<Key>,
    /// Connections that are read from again and may have something to tell at once.
    resumed: Vec<ConnectionId>,
    /// Whether the kernel took bytes in this poll that could not leave before.
    room: bool,
    completions: Vec<Completion>,
    /// Receives that were begun.
    receives: u64,
    counters: Counters,
}

struct Accepting {
    listener: TcpListener,
    /// Whether the kernel accepts for it.
    armed: bool,
    /// After an error: when to try again.
    resting_until: Option<Instant>,
}

/// How other threads end a wait.
struct Wake {
    called: AtomicBool,
    /// Counts calls. Nobody needs to read it where the ring tells of every write.
    file: std::fs::File,
}

impl RawUring {
    /// A transport without connections.
    ///
    /// # Errors
    /// If the kernel, a container's filter or a limit refuses the ring, if the kernel lacks something that is needed,
    /// or if the process has no file descriptor left.
    pub fn new(options: RingOptions) -> io::Result<Self> {
        Ring::new(options).and_then(Self::over)
    }

    fn over(ring: Ring) -> io::Result<Self> {
        Ok(Self {
            ring,
            connections: Table::new(),
            listeners: Vec::new(),
            wake: Arc::new(Wake { called: AtomicBool::new(false), file: sys::event_counter()? }),
            watching: false,
            to_connect: Vec::new(),
            to_receive: Vec::new(),
            to_write: Vec::new(),
            to_cancel: Vec::new(),
            resumed: Vec::new(),
            room: false,
            completions: Vec::new(),
            receives: 0,
            counters: Counters::default(),
        })
    }
}

impl Transport for RawUring {
    fn listen(&mut self, listener: TcpListener) -> io::Result<()> {
        // Of a non-blocking socket io_uring says at once that nobody is there, instead of waiting.
        listener.set_nonblocking(false)?;
        sockets::pass_on(&listener)?;
        self.listeners.push(Accepting { listener, armed: false, resting_until: None });
        Ok(())
    }

    fn connect(&mut self, address: SocketAddr) -> io::Result<ConnectionId> {
        let connection = self.add(sockets::socket(address)?.into(), Phase::Connecting);
        self.to_connect.push((connection, address));
        Ok(connection)
    }

    fn send(&mut self, connection: ConnectionId, bytes: Bytes) {
        if let Some(state) = self.live(connection)
            && state.push(bytes)
        {
            self.to_write.push(connection);
        }
    }

    fn queued_bytes(&self, connection: ConnectionId) -> usize {
        let state = self.connections.get(connection).filter(|state| state.phase != Phase::Closing);
        state.map_or(0, Connection::queued)
    }

    fn set_reading(&mut self, connection: ConnectionId, reading: bool) {
        let Some(state) = self.live(connection) else { return };
        state.paused = !reading;
        let receiving = state.receiving;
        if reading {
            self.resumed.push(connection);
            self.to_receive.push(connection);
        } else {
            self.to_cancel.extend(receiving);
        }
    }

    fn close(&mut self, connection: ConnectionId) {
        let has_thread = self.ring.has_thread();
        let Some(state) = self.live(connection) else { return };
        // What the last poll has handed over leaves before the end does: the kernel's thread may not have begun it yet,
        // but does so before it cancels it. The end comes when the socket is let go.
        if state.phase == Phase::Open && !(has_thread && state.sending.is_some()) {
            state.shut_down();
        }
        state.phase = Phase::Closing;
        state.forget_queued();
        state.stash.clear();
        let under_way = [state.connecting, state.receiving, state.sending];
        self.to_cancel.extend(under_way.into_iter().flatten());
        self.remove_if_over(connection);
    }

    fn poll(&mut self, wait: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        let before = events.len();
        self.room = false;
        self.tell_resumed(events);
        let mut done = self.wake.take() || events.len() > before || wait.is_some_and(|wait| wait.is_zero());
        let end = wait.filter(|_| !done).map(|wait| Instant::now() + wait);
        loop {
            let more = self.submit_due()?;
            if done || more {
                self.ring.turn()?;
                self.reap(events)?;
            } else {
                let left = end.map(|end| end.saturating_duration_since(Instant::now()));
                let called = self.wait(self.until_listeners_wake(left))?;
                let completed = self.reap(events)?;
                done = !(called || completed) || end.is_some_and(|end| end <= Instant::now());
            }
            // Acquires, so that who polls sees afterwards what it was woken for.
            done |= self.wake.take() || events.len() > before || self.room;
            // Otherwise it was nothing to the owner: a call that an earlier poll has seen, a receive that begins anew,
            // something that was sent. What more is to be sent now waits for the next poll only if this one has brought
            // something, which is no more than a turn brings.
            if done && (!more || events.len() > before) {
                return Ok(());
            }
        }
    }

    fn waker(&self) -> Waker {
        let wake = Arc::clone(&self.wake);
        Waker::new(move || wake.call())
    }

    fn counters(&self) -> Counters {
        Counters { system_calls: self.ring.system_calls(), ..self.counters }
    }
}

impl Wake {
    fn call(&self) {
        if !self.called.swap(true, Ordering::AcqRel) {
            // The counter is never full: that would take 2^64 calls.
            let _ = (&self.file).write(&1_u64.to_ne_bytes());
        }
    }

    /// Whether it was called since.
    fn take(&self) -> bool {
        self.called.swap(false, Ordering::AcqRel)
    }
}

impl RawUring {
    /// A connection that is not over for its owner.
    fn live(&mut self, connection: ConnectionId) -> Option<&mut Connection> {
        self.connections.get_mut(connection).filter(|state| state.phase != Phase::Closing)
    }

    fn add(&mut self, stream: TcpStream, phase: Phase) -> ConnectionId {
        let file = stream.as_raw_fd();
        let connection = self.connections.insert(Connection::new(stream, ring::Target::Plain(file), phase));
        let target = self.ring.register(table::slot_of(connection), file);
        if let Some(state) = self.connections.get_mut(connection) {
            state.target = target;
        }
        connection
    }

    /// Shortens the wait so that it ends when a resting listener may try again.
    fn until_listeners_wake(&self, wait: Option<Duration>) -> Option<Duration> {
        let Some(end) = self.listeners.iter().filter_map(|accepting| accepting.resting_until).min() else {
            return wait;
        };
        let rest = end.saturating_duration_since(Instant::now());
        Some(wait.map_or(rest, |wait| wait.min(rest)))
    }

    /// Waits for completions. True if a waker was called of which no completion tells.
    fn wait(&mut self, wait: Option<Duration>) -> io::Result<bool> {
        if !self.ring.has_thread() {
            return self.ring.wait(wait).map(|()| false);
        }
        let called = self.ring.wait_beside(self.wake.file.as_raw_fd(), wait)?;
        if called {
            // So that the next wait does not end by it. It was there to be read just now, and nobody else does.
            let _ = (&self.wake.file).read(&mut [0; 8]);
        }
        Ok(called)
    }

    /// Tells what came while nothing was wanted.
    fn tell_resumed(&mut self, events: &mut Vec<Event>) {
        for connection in std::mem::take(&mut self.resumed) {
            if let Some(state) = self.live(connection)
                && !state.paused
            {
                events.extend(state.stash.drain(..).map(|bytes| Event::Received { connection, bytes }));
                self.tell_end(connection, events);
            }
        }
    }

    /// Submits whatever is to be done. True if something that is sent at once is late, or more is to be sent after it:
    /// then nobody may wait before that is seen to.
    fn submit_due(&mut self) -> io::Result<bool> {
        // Before anything else may take the key of what was over by then.
        for key in self.to_cancel.drain(..) {
            self.ring.cancel(key)?;
        }
        if !self.watching && !self.ring.has_thread() {
            self.ring.watch(self.wake.file.as_raw_fd())?;
            self.watching = true;
        }
        self.accept_where_due()?;
        let Self { ring, connections, to_connect, to_receive, to_write, receives, .. } = self;
        for (connection, address) in to_connect.drain(..) {
            if let Some(state) = connections.get_mut(connection).filter(|state| state.phase == Phase::Connecting) {
                let address = Box::new(SockAddr::from(address));
                state.connecting = Some(ring.connect(connection, state.target, address)?);
            }
        }
        for connection in to_receive.drain(..) {
            if let Some(state) = connections.get_mut(connection).filter(|state| state.wants_receive()) {
                state.receiving = Some(ring.receive(connection, state.target)?);
                *receives += 1;
            }
        }
        let mut more = false;
        for connection in to_write.drain(..) {
            let Some(state) = connections.get_mut(connection) else { continue };
            state.in_to_write = false;
            let is_rest = state.was_short();
            if let Some(sending) = state.next_sending() {
                state.sending = Some(ring.send(connection, state.target, sending, is_rest)?);
                more |= state.note_late() && !is_rest;
            }
        }
        Ok(more && !ring.has_thread())
    }

    fn accept_where_due(&mut self) -> io::Result<()> {
        for (number, accepting) in self.listeners.iter_mut().enumerate() {
            if accepting.resting_until.is_some_and(|end| end <= Instant::now()) {
                accepting.resting_until = None;
            }
            if !accepting.armed && accepting.resting_until.is_none() {
                self.ring.accept(number, accepting.listener.as_raw_fd())?;
                accepting.armed = true;
            }
        }
        Ok(())
    }

    /// Does what follows from completions; false if there are none.
    fn reap(&mut self, events: &mut Vec<Event>) -> io::Result<bool> {
        let mut completions = std::mem::take(&mut self.completions);
        self.ring.reap(&mut completions)?;
        let any = !completions.is_empty();
        for Completion { last, outcome } in completions.drain(..) {
            match outcome {
                Outcome::Woken => self.watching = !last,
                Outcome::Accepted(listener, outcome) => self.on_accepted(listener, outcome, last, events),
                Outcome::Connected(connection, outcome) => self.on_connected(connection, outcome, events),
                Outcome::Received(connection, outcome) => self.on_received(connection, outcome, last, events),
                Outcome::Sent { connection, result, sending, at_once } => {
                    self.room |= !at_once;
                    self.on_sent(connection, result, sending);
                }
                Outcome::NotCancelled(key) => self.on_not_cancelled(key),
            }
        }
        self.completions = completions;
        Ok(any)
    }

    fn on_accepted(&mut self, number: usize, outcome: io::Result<TcpStream>, last: bool, events: &mut Vec<Event>) {
        let accepting = &mut self.listeners[number];
        accepting.armed = !last;
        let outcome = outcome.and_then(|stream| {
            let address = stream.peer_addr()?;
            Ok((self.add(stream, Phase::Open), address))
        });
        match outcome {
            Ok((connection, address)) => {
                events.push(Event::Accepted { connection, address });
                self.to_receive.push(connection);
            }
            // The stranger left before it was let in.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::Interrupted
                        | ErrorKind::ConnectionAborted
                        | ErrorKind::ConnectionReset
                        | ErrorKind::NotConnected
                ) => {}
            Err(_) => self.listeners[number].resting_until = Some(Instant::now() + LISTENER_REST),
        }
    }

    fn on_connected(&mut self, connection: ConnectionId, outcome: io::Result<()>, events: &mut Vec<Event>) {
        let Some(state) = self.connections.get_mut(connection) else { return };
        state.connecting = None;
        if state.phase == Phase::Closing {
            return self.remove_if_over(connection);
        }
        if let Err(error) = outcome {
            return self.lose(connection, Some(error), events);
        }
        state.phase = Phase::Open;
        if state.queue_to_write() {
            self.to_write.push(connection);
        }
        self.to_receive.push(connection);
        events.push(Event::Connected { connection });
    }

    fn on_received(
        &mut self,
        connection: ConnectionId,
        outcome: io::Result<Bytes>,
        last: bool,
        events: &mut Vec<Event>,
    ) {
        let Some(state) = self.connections.get_mut(connection) else { return };
        if last {
            state.receiving = None;
        }
        if state.phase == Phase::Closing {
            return self.remove_if_over(connection);
        }
        match outcome {
            Ok(bytes) if bytes.is_empty() => state.end = Some(None),
            Ok(bytes) => {
                self.counters.reads += 1;
                self.counters.bytes_received += bytes.len() as u64;
                if state.paused || !state.stash.is_empty() {
                    state.stash.push_back(bytes);
                } else {
                    events.push(Event::Received { connection, bytes });
                }
            }
            // It ended early: no buffer was left, or it was cancelled, which may have been undone meanwhile.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ECANCELED | libc::EINTR)) => {}
            Err(error) => state.end = Some(Some(error)),
        }
        if last {
            self.to_receive.push(connection);
        }
        self.tell_end(connection, events);
    }

    /// Tells that a connection is over, if it is and its owner has all that came before.
    fn tell_end(&mut self, connection: ConnectionId, events: &mut Vec<Event>) {
        if let Some(state) = self.live(connection)
            && !state.paused
            && state.stash.is_empty()
            && let Some(error) = state.end.take()
        {
            self.lose(connection, error, events);
        }
    }

    /// Ends a connection whose peer is gone. An earlier failure to write explains it better.
    fn lose(&mut self, connection: ConnectionId, error: Option<io::Error>, events: &mut Vec<Event>) {
        let broken = self.live(connection).and_then(|state| state.broken.take());
        events.push(Event::Closed { connection, error: broken.or(error) });
        self.close(connection);
    }

    fn on_sent(&mut self, connection: ConnectionId, result: io::Result<usize>, sending: Box<Sending>) {
        let Some(state) = self.connections.get_mut(connection) else { return };
        state.sending = None;
        if state.phase == Phase::Closing {
            return self.remove_if_over(connection);
        }
        self.room |= state.is_late;
        match result {
            Ok(0) => return state.break_off(ErrorKind::WriteZero.into()),
            Ok(bytes) => {
                self.counters.writes += 1;
                self.counters.bytes_sent += bytes as u64;
                state.sent(sending, bytes);
            }
            // There was no room at all.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                state.sent(sending, 0);
            }
            Err(error) => return state.break_off(error),
        }
        if state.queue_to_write() {
            self.to_write.push(connection);
        }
    }

    /// What was to end was just then doing its work, or is over. In the first case it is tried again.
    fn on_not_cancelled(&mut self, key: Key) {
        let state = self.ring.connection_of(key).and_then(|connection| self.connections.get(connection));
        // The key may have become another operation's meanwhile.
        let is_unwanted =
            |state: &Connection| state.phase == Phase::Closing || (state.paused && state.receiving == Some(key));
        if state.is_some_and(is_unwanted) {
            self.to_cancel.push(key);
        }
    }

    fn remove_if_over(&mut self, connection: ConnectionId) {
        if self.connections.get(connection).is_some_and(|state| state.phase == Phase::Closing && state.is_idle()) {
            // Not before: what is submitted is looked up only when it begins.
            if let Some(state) = self.connections.remove(connection) {
                self.ring.unregister(state.target);
            }
        }
    }
}

#[cfg(test)]
mod tests;
