//! The table of costs: as a file, and as a document shows it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;

use crate::cluster::{CASES, Case, Counted};
use crate::parts::Part;

/// The name of the row that has all nodes' parts together.
pub(crate) const TOTAL: &str = "total";

/// What all cases cost.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    /// The compiler's version.
    pub(crate) rustc: String,
    /// What instructions were counted on; empty if none were.
    pub(crate) machine: String,
    #[serde(rename = "case")]
    pub(crate) cases: Vec<CaseCosts>,
}

/// What one case costs.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CaseCosts {
    pub(crate) name: String,
    /// Requests in a batch, on average.
    pub(crate) batch: f64,
    /// By the names of the parts; each is that of one node, but for the [total](TOTAL).
    #[serde(rename = "part")]
    pub(crate) parts: BTreeMap<String, Cost>,
}

/// What one part costs.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cost {
    /// Allocations for each batch.
    pub(crate) allocations: f64,
    /// Bytes allocated for each operation.
    pub(crate) bytes: f64,
    /// Instructions for each operation, if they were counted.
    pub(crate) instructions: Option<f64>,
}

impl CaseCosts {
    /// Of what was counted; `instructions` are those of each part, for each operation.
    pub(crate) fn new(case: &Case, counted: &Counted, instructions: Option<&[f64]>) -> Self {
        let (batches, operations) = (number(counted.batches), number(counted.operations));
        let cost = |nodes: f64, allocations: u64, bytes: u64, instructions: Option<f64>| Cost {
            allocations: rounded(number(allocations) / batches / nodes, 2),
            bytes: rounded(number(bytes) / operations / nodes, 1),
            instructions: instructions.map(|instructions| rounded(instructions / nodes, 1)),
        };
        let mut parts = BTreeMap::new();
        for (index, (part, spent)) in Part::ALL.iter().zip(&counted.spent).enumerate() {
            let instructions = instructions.map(|instructions| instructions[index]);
            let cost = cost(number(part.nodes()), spent.allocations, spent.bytes, instructions);
            parts.insert(part.name().to_owned(), cost);
        }
        let allocations = counted.spent.iter().map(|spent| spent.allocations).sum();
        let bytes = counted.spent.iter().map(|spent| spent.bytes).sum();
        parts.insert(TOTAL.to_owned(), cost(1.0, allocations, bytes, instructions.map(|all| all.iter().sum())));
        Self { name: case.name.to_owned(), batch: rounded(operations / batches, 1), parts }
    }

    /// The parts in data-path order, and the total.
    fn rows(&self) -> impl Iterator<Item = (&'static str, &Cost)> {
        let names = Part::ALL.iter().map(|part| part.name()).chain([TOTAL]);
        names.filter_map(|name| Some((name, self.parts.get(name)?)))
    }
}

impl Table {
    /// Reads a table's file.
    ///
    /// # Errors
    /// Says where the text is not one.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    /// The table's file.
    pub(crate) fn to_toml(&self) -> String {
        let mut text = format!(
            "# What an operation costs: docs/performance.md. Made by\n\
             # HIPPODROME_BLESS=1 cargo bench --workspace --bench cost -- --check\n\
             # allocations: for each batch; bytes that are allocated, and instructions: for each operation. Each\n\
             # part is that of one node; the total is that of all.\n\
             rustc = \"{}\"\nmachine = \"{}\"\n",
            self.rustc, self.machine
        );
        for case in &self.cases {
            let _ = write!(text, "\n[[case]]\nname = \"{}\"\nbatch = {:.1}\n\n[case.part]\n", case.name, case.batch);
            for (name, Cost { allocations, bytes, instructions }) in case.rows() {
                let _ = write!(text, "\"{name}\" = {{ allocations = {allocations:.2}, bytes = {bytes:.1}");
                let _ = instructions.map(|instructions| write!(text, ", instructions = {instructions:.1}"));
                text.push_str(" }\n");
            }
        }
        text
    }

    /// The tables that a document shows: all cases' totals, then each case's parts.
    pub(crate) fn to_markdown(&self) -> String {
        let mut text = format!("Instructions: rustc {}, {}.\n\n", self.rustc, self.machine);
        text.push_str(&heading("case | requests a batch"));
        for case in &self.cases {
            let total = case.parts.get(TOTAL).map_or_else(String::new, |total| columns(total, case.batch));
            let _ = writeln!(text, "| `{}` | {:.1} | {total} |", case.name, case.batch);
        }
        for case in &self.cases {
            let about = CASES.iter().find(|known| known.name == case.name).map_or("", |known| known.about);
            let _ = write!(text, "\n`{}`: {about}.\n\n{}", case.name, heading("part, at one node"));
            for (name, cost) in case.rows() {
                let _ = writeln!(text, "| {name} | {} |", columns(cost, case.batch));
            }
        }
        text
    }
}

fn heading(first: &str) -> String {
    let columns = format!(
        "{first} | allocations a batch | allocations an operation | bytes an operation | instructions an operation"
    );
    format!("| {columns} |\n|{}\n", "---|".repeat(columns.matches('|').count() + 1))
}

fn columns(cost: &Cost, batch: f64) -> String {
    let Cost { allocations, bytes, instructions } = cost;
    let instructions = instructions.map_or_else(|| "-".to_owned(), |instructions| format!("{instructions:.0}"));
    format!("{allocations:.1} | {:.3} | {bytes:.1} | {instructions}", allocations / batch)
}

fn rounded(figure: f64, places: i32) -> f64 {
    let scale = 10_f64.powi(places);
    (figure * scale).round() / scale
}

#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
pub(crate) const fn number(count: u64) -> f64 {
    count as f64
}
