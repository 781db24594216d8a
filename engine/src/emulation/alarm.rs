//! Wakes a thread that waits on its sockets when a frame falls due. Sockets are waited for in whole milliseconds, which
//! is too coarse for the delays of a local network.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::transport::Waker;

/// An alarm with one time at a time.
pub struct Alarm(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    at: Option<Instant>,
    ended: bool,
}

impl Alarm {
    /// An alarm that calls `waker`, from a thread of its own that ends when this is dropped.
    ///
    /// # Errors
    /// If the thread can not be started.
    pub fn start(waker: Waker) -> io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let theirs = Arc::clone(&shared);
        std::thread::Builder::new().name("alarm".into()).spawn(move || theirs.run(&waker))?;
        Ok(Self(shared))
    }

    /// Wakes at this time and not at the one that was set before. May wake at other times too.
    pub fn set(&self, at: Instant) {
        let mut state = self.0.lock();
        let sooner = state.at.is_none_or(|before| at < before);
        state.at = Some(at);
        // A later time is found when the sooner one has come.
        if sooner {
            self.0.changed.notify_one();
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.changed.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, waker: &Waker) {
        let mut state = self.lock();
        while !state.ended {
            let now = Instant::now();
            state = match state.at {
                Some(at) if at <= now => {
                    state.at = None;
                    drop(state);
                    waker.wake();
                    self.lock()
                }
                Some(at) => {
                    let waited = self.changed.wait_timeout(state, at - now);
                    waited.map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state)
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    #[test]
    fn alarm_wakes_once_for_each_time_and_not_before() {
        let (woken, wakes) = channel();
        let alarm = Alarm::start(Waker::new(move || {
            let _ = woken.send(Instant::now());
        }))
        .unwrap();
        let now = Instant::now();
        // The sooner of the two replaces the later.
        alarm.set(now + Duration::from_secs(3600));
        let soon = now + Duration::from_millis(20);
        alarm.set(soon);
        assert!(wakes.recv().unwrap() >= soon);
        let past = Instant::now();
        alarm.set(past);
        assert!(wakes.recv().unwrap() >= past);
        drop(alarm);
        // The thread ends, and its waker with it.
        assert!(wakes.recv().is_err());
    }
}
