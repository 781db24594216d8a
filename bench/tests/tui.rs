//! The dashboard on a real terminal: a pseudo-terminal, whose output an emulator turns into a screen.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::common::{Guard, hippodrome, outcome, track, wait_for};

mod common;

const ROWS: u16 = 44;
const COLUMNS: u16 = 130;

/// A terminal with a run on it.
struct Terminal {
    keyboard: File,
    /// What the run has as its terminal.
    inside: File,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    fn new() -> Self {
        let outside = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&outside).unwrap();
        unlockpt(&outside).unwrap();
        let name = ptsname(&outside, Vec::new()).unwrap();
        let inside = OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        tcsetwinsize(&inside, Winsize { ws_row: ROWS, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let keyboard = File::from(outside);
        let screen = Arc::new(Mutex::new(vt100::Parser::new(ROWS, COLUMNS, 0)));
        let (mut output, shown) = (keyboard.try_clone().unwrap(), Arc::clone(&screen));
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut chunk) {
                shown.lock().unwrap().process(&chunk[..count]);
            }
        });
        Self { keyboard, inside, screen }
    }

    fn start(&self, directory: &Path, arguments: &[&str]) -> Guard {
        let end = || Stdio::from(self.inside.try_clone().unwrap());
        let mut command = hippodrome(directory, arguments);
        command.env("TERM", "xterm-256color").stdin(end()).stdout(end()).stderr(end());
        Guard(command.spawn().unwrap())
    }

    fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    fn is_dashboard(&self) -> bool {
        self.screen.lock().unwrap().screen().alternate_screen()
    }

    /// Whether what is typed is shown: not so while a program has the terminal to itself.
    fn echoes(&self) -> bool {
        tcgetattr(&self.inside).unwrap().local_modes.contains(LocalModes::ECHO)
    }

    fn wait_for(&self, words: &str) {
        wait_for(&format!("'{words}' on the screen"), || self.text().contains(words).then_some(()));
    }
}

const SMALL: [&str; 7] = ["run", "--tui", "--clients", "40", "--warmup", "1s", "--out"];

#[test]
fn a_run_is_shown_and_then_summed_up() {
    let (_track, directory, terminal) = (track(), tempfile::tempdir().unwrap(), Terminal::new());
    let mut run = terminal.start(directory.path(), &[&SMALL[..], &["out", "--duration", "4s"]].concat());
    terminal.wait_for("auth mac");
    // Something of every part: a second of the load, a replica's answer, stages, where the results go.
    for words in ["measured", "primary", "backup", "verify-0", "results in "] {
        terminal.wait_for(words);
    }
    assert!(terminal.is_dashboard() && !terminal.echoes());
    let status = run.wait("a run with a dashboard");
    assert_eq!(status.code(), Some(i32::from(cfg!(debug_assertions))));
    // Its last line: the terminal has no room for all of it.
    terminal.wait_for("Results   ");
    assert!(!terminal.is_dashboard() && terminal.echoes(), "the terminal is as it was");
}

#[test]
fn keys_stop_a_run_and_give_the_terminal_back() {
    let (_track, directory) = (track(), tempfile::tempdir().unwrap());
    for (name, key) in [("q", &b"q"[..]), ("ctrl-c", b"\x03")] {
        let mut terminal = Terminal::new();
        let mut run = terminal.start(directory.path(), &[&SMALL[..], &[name, "--duration", "10m"]].concat());
        terminal.wait_for("measured");
        terminal.keyboard.write_all(key).unwrap();
        assert_eq!(run.wait("a run that was stopped").code(), Some(130), "{name}");
        terminal.wait_for("interrupted");
        assert!(!terminal.is_dashboard() && terminal.echoes(), "{name}");
    }
}

#[test]
fn without_a_terminal_there_is_no_dashboard() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = [&SMALL[..], &["out", "--duration", "1s"]].concat();
    let output = hippodrome(directory.path(), &arguments).stdin(Stdio::null()).output().unwrap();
    let (code, _, stderr) = outcome(&output);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("tui = on: allowed: only where stdin and stdout are a terminal"), "{stderr}");
    assert!(!directory.path().join("out").exists());
}
