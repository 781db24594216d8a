//! The terminal: drawn from a thread of its own, which also asks the replicas and listens to the keyboard.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hippodrome_engine::control::Question;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use super::{Shared, draw};
use crate::control::Control;
use crate::failure::Failure;
use crate::launch::Stop;

/// Between two pictures.
const FRAME: Duration = Duration::from_millis(250);
/// Between two questions to the replicas.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Owns the terminal until it is dropped.
pub(super) struct Painter {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Painter {
    /// # Errors
    /// If stdout is no terminal, or no thread can be started.
    pub(super) fn start(shared: Shared, stop: Stop) -> Result<Self, Failure> {
        if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
            return Err(Failure::value("tui", "on", "only where stdin and stdout are a terminal"));
        }
        let over = Arc::new(AtomicBool::new(false));
        let mut painter = Self { over: Arc::clone(&over), threads: Vec::new() };
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.into()).spawn(work).map_err(Failure::usage)
        };
        let (asked, asking) = (shared.clone(), Arc::clone(&over));
        painter.threads.push(spawn("tui-ask", Box::new(move || ask(&asked, &asking)))?);
        painter.threads.push(spawn("tui", Box::new(move || paint(&shared, &stop, &over)))?);
        Ok(painter)
    }
}

impl Drop for Painter {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic of theirs has been told already.
            let _ = thread.join();
        }
    }
}

/// Draws until it is over. The terminal is given back even after a panic: `ratatui` sees to that.
fn paint(shared: &Shared, stop: &Stop, over: &AtomicBool) {
    let mut terminal = ratatui::init();
    while !over.load(Ordering::Relaxed) {
        let drawn = terminal.draw(|frame| draw::draw(frame, &shared.lock()));
        // A terminal that is gone takes the run with it, as it would have by its signal.
        if drawn.is_err() || wants_to_stop() {
            stop.ask();
            break;
        }
    }
    ratatui::restore();
}

/// Waits for the keyboard as long as a picture may stand.
fn wants_to_stop() -> bool {
    let until = Instant::now() + FRAME;
    while event::poll(until.saturating_duration_since(Instant::now())).unwrap_or(false) {
        match event::read() {
            Ok(Event::Key(key)) if key.kind == KeyEventKind::Press => match key.code {
                KeyCode::Char('q') | KeyCode::Esc => return true,
                // The terminal passes it on as a key now, not as a signal.
                KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return true,
                _ => {}
            },
            Ok(Event::Resize(..)) => return false,
            Ok(_) => {}
            Err(_) => return true,
        }
    }
    false
}

/// Asks the replicas until it is over. One that does not answer delays only the others' next picture.
fn ask(shared: &Shared, over: &AtomicBool) {
    let begin = Instant::now();
    while !over.load(Ordering::Relaxed) {
        let controls: Vec<_> = shared.lock().replicas.iter().map(|replica| replica.control).collect();
        for (id, address) in controls.iter().enumerate() {
            let Some(address) = *address else { continue };
            let report = Control::new(address).ask(&Question::Status).ok();
            let mut dashboard = shared.lock();
            // It may have been started anew meanwhile.
            if let Some(replica) = dashboard.replicas.get_mut(id).filter(|replica| replica.control == Some(address)) {
                replica.told(begin.elapsed(), report);
            }
        }
        std::thread::sleep(ASK_EVERY);
    }
}
