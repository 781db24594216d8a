//! Cost along one numeric setting, beside what is expected of the protocol.

use super::super::document::{Cell, Chart, Table, View};
use super::lines::along_option;
use crate::shown::{BESIDE, Shown};
use crate::sweep::scaling::{Curve, CurvePoint, deviations};
use crate::sweep::{Line, Varied};

/// How to read it, the formula included.
const HOW: &str = "solid lines are what was measured, dotted ones what is expected. With n replicas, b requests in a batch and \
     a checkpoint every K batches, all replicas together send \
     ((n - 1) + (n - 1)² + n (n - 1) + n + n (n - 1) / K) / b messages for an operation: pre-prepares, prepares, commits, \
     replies, checkpoint messages (Castro and Liskov, OSDI '99); b is that of the runs. Bytes are these messages as long \
     as they are on the wire. What was sent besides, such as status messages and what was sent again, lies between the \
     lines. CPU time is expected to grow as the floor of the machine does, which counts the same messages, their proofs \
     and their bytes at what they cost here; it is scaled through the first point, so that only the shape says anything.";

/// The chart along a setting; none where nothing is expected of its lines.
pub(super) fn chart(varied: &Varied, lines: &[Line<'_>], curves: &[Curve]) -> Option<Chart> {
    let of_line = |line: &Line<'_>| {
        curves.iter().find(|curve| curve.along == varied.key && curve.settings == line.settings).cloned()
    };
    let curves: Vec<Curve> = lines.iter().map(|line| of_line(line).unwrap_or_default()).collect();
    let views: Vec<View> = BESIDE.iter().filter_map(|shown| view(varied, lines, &curves, shown)).collect();
    if views.is_empty() {
        return None;
    }
    Some(Chart {
        id: format!("expected-{}", varied.key),
        title: format!("Cost along {}, beside what is expected", varied.key),
        says: format!("Farthest from what is expected: {}.", deviations(&curves)),
        how: HOW.to_owned(),
        height: 420,
        views,
        table: table(varied, lines, &curves),
    })
}

fn view(varied: &Varied, lines: &[Line<'_>], curves: &[Curve], shown: &Shown) -> Option<View> {
    let place = |point: &CurvePoint| varied.values.iter().position(|value| *value == point.value);
    let of_curve = |curve: &Curve| -> Vec<(usize, f64)> {
        let known = curve.points.iter().filter_map(|point| Some((place(point)?, point.figures.get(shown.name)?)));
        known.map(|(place, beside)| (place, beside.expected)).collect()
    };
    let expected: Vec<Vec<(usize, f64)>> = curves.iter().map(of_curve).collect();
    let is_curve = expected.iter().any(|points| points.len() > 1);
    is_curve.then(|| View {
        label: shown.label.to_owned(),
        suffix: shown.name.to_owned(),
        option: along_option(varied, lines, shown, Some(&expected)),
    })
}

/// A row for each point: each figure, what is expected of it, and the one by the other.
fn table(varied: &Varied, lines: &[Line<'_>], curves: &[Curve]) -> Table {
    let mut table = Table::new("Medians of each point's VALID runs", &[varied.key.as_str(), "line"]);
    for shown in &BESIDE {
        table.columns.extend([shown.label, "expected", "measured / expected"].map(str::to_owned));
    }
    for (line, curve) in lines.iter().zip(curves) {
        for point in &curve.points {
            let mut row = vec![Cell::text(point.value.clone()), Cell::text(line.name.clone())];
            for shown in &BESIDE {
                let beside = point.figures.get(shown.name);
                row.extend([beside.map(|it| it.measured), beside.map(|it| it.expected)].map(|value| shown.cell(value)));
                row.push(Cell::number(beside.map(|it| it.ratio), |ratio| format!("{ratio:.2}")));
            }
            table.push(row);
        }
    }
    table
}
