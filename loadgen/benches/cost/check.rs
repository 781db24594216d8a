//! Whether operations have become dearer than the table says.

use std::fmt;

use crate::table::{Cost, Table};

/// A figure may be so much more than it was, or less, before anybody is told.
const TOLERANCE: f64 = 0.05;

/// What a comparison with the table has found.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Findings {
    /// What has grown by more than it may.
    pub(crate) grown: Vec<Change>,
    /// What has fallen so far that the table should be made anew, lest it grow again unnoticed.
    pub(crate) fallen: Vec<Change>,
    /// Instructions that have changed as much, but under another compiler or on another machine.
    pub(crate) elsewhere: Vec<Change>,
}

/// A figure that has changed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    pub(crate) case: String,
    pub(crate) part: String,
    pub(crate) figure: &'static str,
    pub(crate) was: f64,
    pub(crate) is: f64,
    /// How far it may be from what it was.
    pub(crate) slack: f64,
}

/// A figure of the table.
struct Figure {
    name: &'static str,
    of: fn(&Cost) -> Option<f64>,
    /// It may change by so much, however small it is.
    slack: f64,
    /// Whether it depends on the compiler and the machine.
    depends: bool,
}

const FIGURES: [Figure; 3] = [
    Figure { name: "allocations a batch", of: |cost| Some(cost.allocations), slack: 0.05, depends: false },
    Figure { name: "bytes an operation", of: |cost| Some(cost.bytes), slack: 1.0, depends: false },
    Figure { name: "instructions an operation", of: |cost| cost.instructions, slack: 2.0, depends: true },
];

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { case, part, figure, was, is, slack } = self;
        let (least, most) = (was - slack, was + slack);
        write!(f, "{case}, {part}: {figure}: was {was:.2}, is {is:.2}, allowed {:.2} to {most:.2}", least.max(0.0))
    }
}

/// Compares the table with what is now. Figures that were not counted now are not compared.
///
/// # Errors
/// If the table lacks something that was counted, or has what there is no more: it must be made anew then.
pub(crate) fn compare(was: &Table, is: &Table) -> Result<Findings, String> {
    let names = |table: &Table| table.cases.iter().map(|case| case.name.clone()).collect::<Vec<_>>();
    if names(was) != names(is) {
        return Err(format!("the table has the cases {:?}, and there are {:?}", names(was), names(is)));
    }
    let is_same = was.rustc == is.rustc && was.machine == is.machine;
    let mut findings = Findings::default();
    for (was, is) in was.cases.iter().zip(&is.cases) {
        if !was.parts.keys().eq(is.parts.keys()) {
            return Err(format!("{}: the table's parts are not those that there are", was.name));
        }
        for ((part, before), now) in was.parts.iter().zip(is.parts.values()) {
            for figure in &FIGURES {
                let Some(is) = (figure.of)(now) else { continue };
                let name = figure.name;
                let before = (figure.of)(before).ok_or_else(|| format!("{}, {part}: no {name} there", was.name))?;
                let slack = figure.slack + TOLERANCE * before;
                if (is - before).abs() <= slack {
                    continue;
                }
                let list = match is > before {
                    _ if figure.depends && !is_same => &mut findings.elsewhere,
                    true => &mut findings.grown,
                    false => &mut findings.fallen,
                };
                let (case, part) = (was.name.clone(), part.clone());
                list.push(Change { case, part, figure: name, was: before, is, slack });
            }
        }
    }
    Ok(findings)
}
