//! `run --tui`: a run as a dashboard on the terminal, while it goes on.
//!
//! [Screen] is an audience like any other: it is told seconds and events, and asks the replicas itself. [dashboard] is
//! what there is to show, [draw] is how, and [terminal] is the thread that draws, asks and listens to the keyboard, so
//! that nothing here ever holds up the launcher.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hippodrome_analysis::series::Second;

use crate::cli::run::RunOptions;
use crate::failure::Failure;
use crate::launch::{Audience, Stop};
use dashboard::Dashboard;

mod dashboard;
mod draw;
mod terminal;

#[cfg(test)]
mod tests;

/// The dashboard of one run, on the terminal until it is dropped.
pub(crate) struct Screen {
    shared: Shared,
    painter: RefCell<Option<terminal::Painter>>,
}

/// The dashboard, shared by who is told and who draws.
#[derive(Clone)]
struct Shared(Arc<Mutex<Dashboard>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Dashboard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Screen {
    /// Takes the terminal over. `q`, Escape and Ctrl-C there ask the run to stop.
    ///
    /// # Errors
    /// If stdout is no terminal.
    pub(crate) fn open(options: &RunOptions, stop: Stop) -> Result<Self, Failure> {
        let shared = Shared(Arc::new(Mutex::new(Dashboard::new(options))));
        let painter = terminal::Painter::start(shared.clone(), stop)?;
        Ok(Self { shared, painter: RefCell::new(Some(painter)) })
    }

    /// Gives the terminal back, with what happened meanwhile for who wants to read it.
    pub(crate) fn close(&self) -> Vec<String> {
        drop(self.painter.take());
        std::mem::take(&mut self.shared.lock().events)
    }
}

impl Audience for Screen {
    fn begins(&self, _: u16, directory: &Path) {
        self.shared.lock().directory = directory.display().to_string();
    }

    fn replica(&self, id: u16, control: SocketAddr) {
        self.shared.lock().is_at(id, control);
    }

    fn second(&self, second: &Second) {
        self.shared.lock().seconds.push(second.clone());
    }

    fn happened(&self, line: &str) {
        self.shared.lock().events.push(line.to_owned());
    }
}
