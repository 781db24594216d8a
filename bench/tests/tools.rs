//! What surrounds races, with the real binary: completions, manual pages, how loud it is and in what colours, and the
//! doctor.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Output};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::{hippodrome, outcome, track};

mod common;

const SHELLS: [&str; 5] = ["bash", "elvish", "fish", "powershell", "zsh"];
const COMMANDS: [&str; 14] = [
    "run",
    "stress",
    "sweep",
    "compare",
    "search",
    "replica",
    "load",
    "keygen",
    "report",
    "roofline",
    "sim",
    "doctor",
    "completions",
    "man",
];

fn run(directory: &Path, arguments: &[&str]) -> Output {
    hippodrome(directory, arguments).output().unwrap()
}

/// What a command says on standard output, when all is well.
fn said(arguments: &[&str]) -> String {
    let (code, stdout, stderr) = outcome(&run(Path::new("/tmp"), arguments));
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{arguments:?}");
    stdout
}

/// Long options that begin a line of the help.
fn options(command: &str) -> Vec<String> {
    let help = said(&[command, "--help"]);
    let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let words = lines.flat_map(|line| line.split([' ', ',', '=', '[']));
    words.filter(|word| word.starts_with("--")).map(str::to_owned).collect()
}

/// Neither is a line rewritten nor a cursor moved nor a colour changed.
fn assert_plain(text: &str) {
    assert!(!text.contains(['\r', '\x1b']), "{text:?}");
}

#[test]
fn completions_know_every_command_and_option() {
    for shell in SHELLS {
        let script = said(&["completions", shell]);
        for command in COMMANDS {
            assert!(script.contains(command), "{shell} lacks {command}");
        }
        for option in options("run") {
            assert!(script.contains(option.trim_start_matches('-')), "{shell} lacks {option}");
        }
    }
    let (code, _, stderr) = outcome(&run(Path::new("/tmp"), &["completions", "dos"]));
    assert!(code == Some(2) && SHELLS.iter().all(|shell| stderr.contains(shell)), "{stderr}");
}

#[test]
fn bash_reads_its_completions() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("completions"), said(&["completions", "bash"])).unwrap();
    match Command::new("bash").args(["-n", "completions"]).current_dir(directory.path()).output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => eprintln!("left out: bash: {error}"),
    }
}

#[test]
fn manual_pages_name_every_option() {
    let directory = TempDir::new().unwrap();
    let out = directory.path().join("man");
    assert_eq!(said(&["man", "--out", out.to_str().unwrap()]), "");
    let page = |name: &str| {
        let text = fs::read_to_string(out.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        text.replace("\\-", "-")
    };
    for command in COMMANDS {
        let (text, options) = (page(&format!("hippodrome-{command}.1")), options(command));
        assert!(options.contains(&"--help".to_owned()), "{command}: {options:?}");
        for option in options {
            assert!(text.contains(&option), "the page of {command} lacks {option}");
        }
        assert!(text.contains("Exit codes:"), "{command}");
    }
    assert!(page("hippodrome.1").contains("Exit codes:"));
    assert_eq!(fs::read_dir(&out).unwrap().count(), 1 + COMMANDS.len());
    assert!(said(&["man"]).starts_with(".ie"), "roff");
    fs::write(directory.path().join("file"), "").unwrap();
    let (code, _, stderr) = outcome(&run(directory.path(), &["man", "--out", "file"]));
    assert!(code == Some(2) && stderr.contains("file"), "{stderr}");
}

#[test]
fn progress_is_plain_where_there_is_no_terminal_and_absent_where_it_is_not_wanted() {
    let _track = track();
    let directory = TempDir::new().unwrap();
    let race = ["run", "--clients", "10", "--warmup", "0s", "--duration", "1s"];
    let (code, stdout, stderr) = outcome(&run(directory.path(), &[&race[..], &["--out", "loud"]].concat()));
    assert_eq!(code, Some(i32::from(cfg!(debug_assertions))), "{stderr}");
    assert!(stdout.contains("Throughput") && stderr.contains("/loud\n"), "{stdout}{stderr}");
    assert!(stderr.lines().any(|line| line.starts_with("   1 s  measured")), "{stderr}");
    assert_plain(&stderr);
    assert_plain(&stdout);
    for quiet in ["--quiet", "-q"] {
        let out = quiet.trim_start_matches('-');
        let (_, stdout, stderr) = outcome(&run(directory.path(), &[&race[..], &[quiet, "--out", out]].concat()));
        assert_eq!(stderr, "");
        assert!(stdout.contains("Throughput") && stdout.contains(&format!("/{out}\n")), "{stdout}");
    }
    // Errors are not progress.
    let (code, stdout, stderr) = outcome(&run(directory.path(), &["run", "--quiet", "--out", "loud"]));
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    assert!(stderr.contains("loud is not empty"), "{stderr}");
}

#[test]
fn a_scenario_is_played_quietly() {
    let _track = track();
    let directory = TempDir::new().unwrap();
    let scenario = "name = \"test\"\ndescription = \"a test\"\n[run]\nclients = 10\nwarmup = \"1s\"\nduration = \"2s\"\n\
                    [[at]]\ns = 1\nstop = \"backup\"\n";
    fs::write(directory.path().join("test.toml"), scenario).unwrap();
    let (_, stdout, stderr) = outcome(&run(directory.path(), &["stress", "test.toml", "--quiet", "--out", "out"]));
    assert_eq!(stderr, "");
    assert!(stdout.contains("stop"), "{stdout}");
    assert_plain(&stdout);
}

#[test]
fn many_runs_are_made_quietly() {
    let _track = track();
    let directory = TempDir::new().unwrap();
    let small = ["--clients", "10", "--warmup", "0s", "--duration", "1s", "--out"];
    for (command, out) in [
        (&["sweep", "--vary", "batch=10", "--repeats", "1", "--quiet"][..], "swept"),
        (&["compare", "--b", "batch=10", "--pairs", "1", "-q"], "compared"),
    ] {
        let (_, stdout, stderr) = outcome(&run(directory.path(), &[command, &small, &[out]].concat()));
        assert_eq!(stderr, "", "{command:?}");
        assert!(stdout.contains(out), "{stdout}");
        assert_plain(&stdout);
    }
}

#[test]
fn a_hunt_draws_no_bar_where_there_is_no_terminal() {
    let directory = TempDir::new().unwrap();
    let (code, stdout, stderr) = outcome(&run(directory.path(), &["sim", "--seeds", "3"]));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert_plain(&stdout);
}

/// What a command shows on a terminal of its own, and writes there.
fn on_terminal(arguments: &[&str], no_color: Option<&str>) -> String {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let side = File::options().read(true).write(true).open(std::ffi::OsStr::from_bytes(name.to_bytes())).unwrap();
    let mut command = hippodrome(Path::new(env!("CARGO_MANIFEST_DIR")), arguments);
    command.env("TERM", "xterm-256color").env_remove("NO_COLOR").env_remove("CLICOLOR");
    command.envs(no_color.map(|value| ("NO_COLOR", value)));
    let mut child = command.stdout(side.try_clone().unwrap()).stderr(side).spawn().unwrap();
    drop(command);
    let mut shown = Vec::new();
    let mut chunk = [0; 4096];
    let mut terminal = File::from(terminal);
    // That nobody writes there any more is an error to who reads.
    while let Ok(bytes @ 1..) = terminal.read(&mut chunk) {
        shown.extend_from_slice(&chunk[..bytes]);
    }
    child.wait().unwrap();
    String::from_utf8_lossy(&shown).into_owned()
}

#[test]
fn terminals_get_colours_unless_somebody_said_no() {
    for arguments in [&["report", "../analysis/testdata/valid"][..], &["run", "--nonsense"], &["run", "--help"]] {
        let shown = |no_color| on_terminal(arguments, no_color);
        assert!(shown(None).contains("\x1b["), "{arguments:?}: {:?}", shown(None));
        // An empty value says nothing, as the convention has it.
        assert!(shown(Some("")).contains("\x1b["), "{arguments:?}");
        assert!(!shown(Some("1")).contains('\x1b'), "{arguments:?}: {:?}", shown(Some("1")));
    }
    assert!(!on_terminal(&["doctor"], Some("1")).contains('\x1b'));
}

#[test]
fn the_doctor_tells_what_it_found_and_why_it_matters() {
    let directory = TempDir::new().unwrap();
    let (code, stdout, stderr) = outcome(&run(directory.path(), &["doctor", "--json", "--out", "."]));
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    let findings: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&findings["schema"], &findings["runs_possible"]), (&"hippodrome/doctor/1".into(), &true.into()));
    let checks = findings["checks"].as_array().unwrap();
    for check in checks {
        let is_ok = check["verdict"] == "OK";
        assert!(!check["found"].as_str().unwrap().is_empty(), "{check}");
        assert_eq!(check["why"].is_null(), is_ok, "{check}");
        assert_eq!(check["change"].is_null(), is_ok, "{check}");
    }
    let (code, stdout, _) = outcome(&run(directory.path(), &["doctor", "--out", "."]));
    assert_eq!(code, Some(0));
    for check in checks {
        assert!(stdout.contains(check["name"].as_str().unwrap()), "{stdout}");
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left there");
}

#[test]
fn the_doctor_says_when_runs_can_not_be_made() {
    let directory = TempDir::new().unwrap();
    let few = format!("ulimit -n 100 && exec '{}' doctor --out .", env!("CARGO_BIN_EXE_hippodrome"));
    let output = Command::new("sh").args(["-c", &few]).current_dir(directory.path()).output().unwrap();
    let (code, stdout, _) = outcome(&output);
    assert_eq!(code, Some(1), "{stdout}");
    let line = stdout.lines().find(|line| line.contains("descriptors")).unwrap();
    assert!(line.starts_with("BAD") && line.contains("100 now"), "{line}");
}
