//! Documents that drift from the code break the build: every path that they name exists, every option is one of the
//! binary's.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const DOCUMENTS: [&str; 6] =
    ["ARCHITECTURE.md", "README.md", "CONTRIBUTING.md", "docs/emulation.md", "docs/scenarios.md", "docs/wire.md"];
const FOLDERS: [&str; 8] = ["sim/", "fuzz/", "engine/", "loadgen/", "analysis/", "bench/", "docs/", ".ci/"];
const COMMANDS: [&str; 7] = ["run", "stress", "sim", "replica", "load", "keygen", "report"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(document: &str) -> String {
    fs::read_to_string(root().join(document)).unwrap_or_else(|error| panic!("{document}: {error}"))
}

/// What stands between single backquotes, blocks of code left out.
fn quoted(text: &str) -> Vec<&str> {
    let prose = text.split("```").step_by(2);
    prose.flat_map(|part| part.split('`').skip(1).step_by(2)).collect()
}

/// Lines of blocks of code.
fn block_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split("```").skip(1).step_by(2).flat_map(str::lines)
}

/// All code: lines of blocks, and what stands between backquotes.
fn code(text: &str) -> Vec<&str> {
    block_lines(text).chain(quoted(text)).collect()
}

/// Options (`--name`) in a text.
fn options(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let words = text.split(|c| !is_part(c));
    words.filter(|word| word.len() > 2 && word.starts_with("--") && !word[2..].starts_with('-')).collect()
}

/// The options that a command's help describes.
fn described(command: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_hippodrome")).args([command, "--help"]).output().unwrap();
    assert!(output.status.success(), "{command} --help");
    let help = String::from_utf8(output.stdout).unwrap();
    // An option's own line begins with it; elsewhere it is only mentioned.
    let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    lines.flat_map(|line| options(line).into_iter().map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn paths_in_documents_exist() {
    let mut checked = 0;
    for document in DOCUMENTS {
        let text = read(document);
        for path in quoted(&text).into_iter().filter(|path| FOLDERS.iter().any(|folder| path.starts_with(folder))) {
            assert!(root().join(path).exists(), "{document} names `{path}`, which does not exist");
            checked += 1;
        }
        // Links to files of this repository.
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap();
            if !file.is_empty() && !file.contains("://") {
                let path = root().join(document).parent().unwrap().join(file);
                assert!(path.exists(), "{document} links to {link}, which does not exist");
            }
        }
    }
    assert!(checked > 40, "only {checked} paths were found: are they still in backquotes?");
}

#[test]
fn options_in_documents_exist() {
    let described: Vec<(&str, BTreeSet<String>)> =
        COMMANDS.iter().map(|command| (*command, described(command))).collect();
    for document in DOCUMENTS {
        let text = read(document).replace("cargo run --release -- ", "hippodrome ");
        for code in code(&text) {
            let invoked = code.split("hippodrome ").nth(1).and_then(|rest| rest.split_whitespace().next());
            let invoked = described.iter().find(|(command, _)| Some(*command) == invoked);
            // What cargo and rustup are told is theirs.
            let foreign = ["cargo ", "rustup "].iter().any(|tool| code.contains(tool));
            for option in options(code).into_iter().filter(|_| !foreign) {
                let known = match invoked {
                    Some((_, allowed)) => allowed.contains(option),
                    None => described.iter().any(|(_, allowed)| allowed.contains(option)),
                };
                assert!(known, "{document} mentions {option}, which {invoked:?} does not have: {code}");
            }
        }
    }
}

#[test]
fn every_command_of_the_readme_is_one() {
    let text = read("README.md").replace("cargo run --release -- ", "hippodrome ");
    let mut seen = 0;
    for line in block_lines(&text).filter_map(|line| line.strip_prefix("hippodrome ")) {
        let command = line.split_whitespace().next().unwrap_or_default();
        assert!(COMMANDS.contains(&command), "README.md shows 'hippodrome {line}'");
        seen += 1;
    }
    assert!(seen >= 5, "only {seen} commands were found in the blocks of README.md");
}
