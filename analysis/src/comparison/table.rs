//! A comparison as text for terminals, as Markdown, and as CSV.

use std::fmt::Write as _;

use super::differences::Difference;
use super::figure::{Figure, Values};
use super::{Compared, Comparison, Ratio, Versus};
use crate::summary::{count, time};

/// For people who read it in a terminal.
#[must_use]
pub fn text(comparison: &Comparison) -> String {
    let mut text = String::new();
    for side in &comparison.sides {
        let (name, label, runs) = (&side.name, &side.label, side.runs.len());
        let _ = writeln!(text, "{name}  {label}: {runs} {}", if runs == 1 { "run" } else { "runs" });
    }
    for versus in &comparison.versus {
        let (a, b) = ends(comparison, versus);
        let (base, other) = (&versus.base, &versus.other);
        let _ = writeln!(text, "\n{:<18} {base:>12} {other:>12}  {other} / {base} (95 % interval)   p-value", "");
        for ratio in &versus.figures {
            let figure = ratio.figure;
            let (a, b) = (shown(figure, &a.values), shown(figure, &b.values));
            let row = format!("{:<18} {a:>12} {b:>12}  {:<24}  {}", figure.title(), span(ratio), p_value(ratio));
            let _ = writeln!(text, "{}", row.trim_end());
        }
        for ratio in &versus.figures {
            let mark = if ratio.figure == comparison.headline { "=>" } else { "  " };
            let (title, statement) = (ratio.figure.title(), &ratio.statement);
            let title = if statement.starts_with(title) { String::new() } else { format!("{title}: ") };
            let _ = writeln!(text, "{mark} {title}{statement}");
        }
    }
    if let Some(gate) = &comparison.gate {
        let _ = writeln!(text, "\n{}", gate.statement);
    }
    list(&mut text, "\nNo conclusion may be drawn:", "  - ", &comparison.withheld);
    list(&mut text, "\nNotes", "  - ", &comparison.notes);
    text
}

/// As Markdown: a table for each pair of sides, the differences, the notes.
#[must_use]
pub fn markdown(comparison: &Comparison) -> String {
    let mut text = String::from("| side | what | runs |\n|---|---|---|\n");
    for Compared { name, label, runs, .. } in &comparison.sides {
        let _ = writeln!(text, "| {name} | {} | {} |", escaped(label), runs.len());
    }
    for versus in &comparison.versus {
        let (a, b) = ends(comparison, versus);
        let (base, other) = (&versus.base, &versus.other);
        let _ =
            writeln!(text, "\n| figure | {base} | {other} | {other} / {base} (95 % interval) | p-value | conclusion |");
        text.push_str("|---|---|---|---|---|---|\n");
        for ratio in &versus.figures {
            let figure = ratio.figure;
            let (a, b) = (shown(figure, &a.values), shown(figure, &b.values));
            let (title, statement) = (figure.title(), &ratio.statement);
            let _ = writeln!(text, "| {title} | {a} | {b} | {} | {} | {statement} |", span(ratio), p_value(ratio));
        }
    }
    if !comparison.differences.is_empty() {
        let names: Vec<&str> = comparison.sides.iter().map(|side| side.name.as_str()).collect();
        let _ = writeln!(text, "\n| differs | {} |\n|---{}|", names.join(" | "), "|---".repeat(names.len()));
        for Difference { name, values, .. } in &comparison.differences {
            let values: Vec<String> = values.iter().map(|value| escaped(value)).collect();
            let _ = writeln!(text, "| {name} | {} |", values.join(" | "));
        }
    }
    if let Some(gate) = &comparison.gate {
        let _ = writeln!(text, "\n{}", gate.statement);
    }
    list(&mut text, "\nNo conclusion may be drawn:\n", "- ", &comparison.withheld);
    list(&mut text, "\nNotes:\n", "- ", &comparison.notes);
    text
}

/// The columns of [`csv`].
pub const COLUMNS: &str =
    "base,other,figure,base_value,other_value,ratio,interval_low,interval_high,p_value,conclusion\n";

/// As CSV: a row for each figure of each pair of sides.
#[must_use]
pub fn csv(comparison: &Comparison) -> String {
    let mut text = COLUMNS.to_owned();
    let cell = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    for versus in &comparison.versus {
        let (a, b) = ends(comparison, versus);
        for ratio in &versus.figures {
            let [low, high] = ratio.interval.map_or([None; 2], |interval| interval.map(Some));
            let conclusion = serde_json::to_value(ratio.conclusion).unwrap_or_default();
            let row = [
                versus.base.clone(),
                versus.other.clone(),
                ratio.figure.name().to_owned(),
                a.values.get(ratio.figure).to_string(),
                b.values.get(ratio.figure).to_string(),
                cell(ratio.ratio),
                cell(low),
                cell(high),
                cell(ratio.p_value),
                conclusion.as_str().unwrap_or_default().to_owned(),
            ];
            let _ = writeln!(text, "{}", row.join(","));
        }
    }
    text
}

fn ends<'a>(comparison: &'a Comparison, versus: &Versus) -> (&'a Compared, &'a Compared) {
    let named = |name: &str| comparison.sides.iter().find(|side| side.name == name).unwrap_or(&comparison.sides[0]);
    (named(&versus.base), named(&versus.other))
}

fn shown(figure: Figure, values: &Values) -> String {
    let value = values.get(figure);
    match figure {
        Figure::OpsPerS => format!("{} ops/s", count(value)),
        _ => time(value),
    }
}

fn span(ratio: &Ratio) -> String {
    match (ratio.ratio, ratio.interval) {
        (None, _) => "-".into(),
        (Some(ratio), None) => format!("{ratio:.3}"),
        (Some(ratio), Some([low, high])) => format!("{ratio:.3} ({low:.3} to {high:.3})"),
    }
}

fn p_value(ratio: &Ratio) -> String {
    ratio
        .p_value
        .map_or_else(String::new, |p_value| if p_value < 0.001 { "< 0.001".into() } else { format!("{p_value:.3}") })
}

/// Text that can not end a cell of a Markdown table.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|")
}

fn list(text: &mut String, heading: &str, bullet: &str, items: &[String]) {
    if !items.is_empty() {
        let _ = writeln!(text, "{heading}");
        items.iter().for_each(|item| {
            let _ = writeln!(text, "{bullet}{item}");
        });
    }
}
