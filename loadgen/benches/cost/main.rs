//! What an operation costs in allocations and instructions, stage by stage, and whether it has become dearer.
//!
//! Four replicas and a load generator run on this thread, without sockets (`cluster`), each step of each stage as a
//! `part`. Allocations are counted by the allocator (`allocations`), instructions by callgrind, where there is a
//! valgrind (`callgrind`): it knows no AVX-512 and hides it, so that code which looks takes its AVX2 ways. Both are the
//! same each time. `table` is what comes of it, `check` compares it with the file.
//!
//! - `cargo bench --workspace --bench cost`: prints the table, or only the cases whose names are given.
//! - `.. -- --check`: fails if anything has grown; with `HIPPODROME_BLESS=1` the file and the document become what is
//!   counted now. Always with `--workspace`: what crates are built with depends on which are built.
//! - `.. -- --test`: a few operations of each case.
//!
//! Exit codes: 0 done, 1 something has grown, 2 an argument can not be used, 3 something failed on the way.
#![allow(clippy::print_stdout, reason = "a program that prints a table")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

mod allocations;
mod callgrind;
mod check;
mod cluster;
mod parts;
mod table;

use callgrind::{COUNTED, Running};
use cluster::{CASES, Case, Cluster};
use table::{CaseCosts, Table, number};

/// The table, and the document that shows it, from the package's folder.
const FILE: &str = "testdata/cost.toml";
const DOCUMENT: &str = "../docs/performance.md";
/// The tables in the document stand between these lines.
const MARKS: [&str; 2] = ["<!-- cost: made by cargo bench --workspace --bench cost -->\n", "<!-- cost: end -->\n"];

/// Why the program ends without having done what it was to do.
enum Failure {
    Arguments(String),
    Failed(String),
}

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(Failure::Arguments(error)) => {
            eprintln!("cost: {error}");
            ExitCode::from(2)
        }
        Err(Failure::Failed(error)) => {
            eprintln!("cost: {error}");
            ExitCode::from(3)
        }
    }
}

/// False if something has grown.
fn run(arguments: impl Iterator<Item = String>) -> Result<bool, Failure> {
    let (mut check, mut test, mut counted) = (false, false, false);
    let mut names = Vec::new();
    for argument in arguments {
        match argument.as_str() {
            "--bench" => {} // cargo's own
            "--check" => check = true,
            "--test" => test = true,
            COUNTED => counted = true,
            option if option.starts_with('-') => {
                return Err(Failure::Arguments(format!("{option}: allowed: --check, --test, names of cases")));
            }
            _ => names.push(argument),
        }
    }
    let is_meant = |case: &&Case| names.is_empty() || names.iter().any(|name| name == case.name);
    let cases: Vec<&'static Case> = CASES.iter().filter(is_meant).collect();
    if cases.is_empty() {
        // A filter for other benchmarks: cargo gives it to all of them.
        println!("cost: no case is called {}: allowed: {}", names.join(", "), all_names());
        return Ok(true);
    }
    if counted {
        cases.iter().for_each(|case| run_counted(case));
        return Ok(true);
    }
    if test {
        for case in cases {
            let counted = Cluster::start(case).measure(case.warm_up / 16, case.operations / 16);
            println!("cost/{}: {} operations in {} batches", case.name, counted.operations, counted.batches);
        }
        return Ok(true);
    }
    if check && !names.is_empty() {
        return Err(Failure::Arguments(format!("--check {}: allowed: no names, all are checked", names.join(" "))));
    }
    let table = measure(&cases).map_err(Failure::Failed)?;
    if !check {
        println!("{}", table.to_markdown());
        return Ok(true);
    }
    if std::env::var_os("HIPPODROME_BLESS").is_some() {
        return bless(&table).map_err(Failure::Failed).map(|()| true);
    }
    compare(&table).map_err(Failure::Failed)
}

fn all_names() -> String {
    CASES.iter().map(|case| case.name).collect::<Vec<_>>().join(", ")
}

/// What runs under valgrind: says how many operations there were, and on what.
fn run_counted(case: &Case) {
    let counted = Cluster::start(case).measure(case.warm_up, case.operations);
    println!("{} {}", counted.operations, machine());
}

/// What decides which way code takes that looks at the processor.
fn machine() -> String {
    #[cfg(target_arch = "x86_64")]
    let simd = if is_x86_feature_detected!("avx2") { ", AVX2" } else { "" };
    #[cfg(not(target_arch = "x86_64"))]
    let simd = "";
    format!("{}{simd}", std::env::consts::ARCH)
}

/// Counts everything: allocations here, instructions under valgrind meanwhile.
fn measure(cases: &[&'static Case]) -> Result<Table, String> {
    let valgrind = callgrind::is_there();
    if !valgrind {
        println!("cost: instructions are not counted: there is no valgrind (apt-get install valgrind)");
    }
    let is_counted = |case: &Case| valgrind && case.instructions;
    let running = cases.iter().map(|case| is_counted(case).then(|| Running::start(case.name)).transpose());
    let running = running.collect::<Result<Vec<_>, _>>()?;
    let counted: Vec<_> = cases.iter().map(|c| Cluster::start(c).measure(c.warm_up, c.operations)).collect();
    let mut table = Table { rustc: rustc()?, machine: String::new(), cases: Vec::new() };
    for ((case, counted), running) in cases.iter().zip(&counted).zip(running) {
        let instructions = running.map(Running::finish).transpose()?;
        let each = instructions.map(|instructions| {
            table.machine = instructions.machine;
            let operations = number(instructions.operations);
            instructions.parts.iter().map(|part| number(*part) / operations).collect::<Vec<f64>>()
        });
        table.cases.push(CaseCosts::new(case, counted, each.as_deref()));
    }
    Ok(table)
}

/// The version of the compiler, which is the one that cargo has just built this with.
fn rustc() -> Result<String, String> {
    let program = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(program).arg("--version").output().map_err(|error| format!("rustc: {error}"))?;
    let told = String::from_utf8_lossy(&output.stdout);
    told.split_whitespace().nth(1).map(str::to_owned).ok_or_else(|| format!("rustc has no version: {told}"))
}

fn path(from_package: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(from_package)
}

fn read(from_package: &str) -> Result<String, String> {
    std::fs::read_to_string(path(from_package)).map_err(|error| format!("{from_package}: {error}"))
}

/// Says what has changed. False if something has grown.
fn compare(is: &Table) -> Result<bool, String> {
    let was = Table::parse(&read(FILE)?).map_err(|error| format!("{FILE}: {error}"))?;
    let renew = format!("HIPPODROME_BLESS=1 cargo bench --workspace --bench cost -- --check renews loadgen/{FILE}");
    let findings = check::compare(&was, is).map_err(|error| format!("{error}: {renew}"))?;
    if !findings.elsewhere.is_empty() {
        println!(
            "cost: the table's instructions are those of rustc {}, {}; these, of rustc {}, {}, are told, not judged:",
            was.rustc, was.machine, is.rustc, is.machine
        );
    }
    findings.elsewhere.iter().for_each(|change| println!("  {change}"));
    if !findings.fallen.is_empty() {
        println!("cost: cheaper than the table says; {renew}:");
    }
    findings.fallen.iter().for_each(|change| println!("  {change}"));
    if findings.grown.is_empty() {
        println!("cost: nothing has become dearer");
        return Ok(true);
    }
    println!("cost: dearer than the table says; if that is meant, {renew}:");
    findings.grown.iter().for_each(|change| println!("  {change}"));
    Ok(false)
}

/// Makes the file, and the document's tables, what was counted now.
fn bless(table: &Table) -> Result<(), String> {
    if table.machine.is_empty() {
        return Err("without valgrind the table would lose its instructions".to_owned());
    }
    let document = read(DOCUMENT)?;
    let [begin, end] = MARKS;
    let (before, rest) = document.split_once(begin).ok_or_else(|| format!("{DOCUMENT}: no line {begin}"))?;
    let (_, after) = rest.split_once(end).ok_or_else(|| format!("{DOCUMENT}: no line {end}"))?;
    let tables = table.to_markdown();
    let write = |file: &str, text: String| std::fs::write(path(file), text).map_err(|error| format!("{file}: {error}"));
    write(FILE, table.to_toml())?;
    write(DOCUMENT, format!("{before}{begin}\n{tables}\n{end}{after}"))?;
    println!("cost: wrote loadgen/{FILE} and docs/performance.md");
    Ok(())
}
