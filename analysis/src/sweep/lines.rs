//! Points that differ in one numeric setting alone: what a line along that setting joins.

use std::collections::BTreeMap;

use super::{Point, Sweep, Varied, combinations};

/// A number with or without a unit: `100`, `4KiB`, `250ms`, `adaptive` is none.
pub(crate) fn number(text: &str) -> Option<f64> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '_'))).unwrap_or(text.len());
    let value: f64 = text[..end].replace('_', "").parse().ok()?;
    let factor = match text[end..].trim() {
        "" | "B" | "s" => 1.0,
        "ms" => 1e-3,
        "us" | "µs" => 1e-6,
        "m" | "min" => 60.0,
        "kB" | "KB" | "k" => 1e3,
        "KiB" | "K" => 1024.0,
        "MB" => 1e6,
        "MiB" | "M" => 1024.0 * 1024.0,
        _ => return None,
    };
    Some(value * factor)
}

/// The varied options of several values that are all numbers.
pub(crate) fn numeric(sweep: &Sweep) -> impl Iterator<Item = &Varied> {
    let is_numeric =
        |varied: &&Varied| varied.values.len() > 1 && varied.values.iter().all(|value| number(value).is_some());
    sweep.varied.iter().filter(is_numeric)
}

/// One line.
pub(crate) struct Line<'a> {
    /// What is fixed along it, in words; `all` if nothing is.
    pub(crate) name: String,
    /// The values of the other varied options.
    pub(crate) settings: BTreeMap<String, String>,
    /// Its points by growing value, each with the place of that value among those of the setting.
    pub(crate) points: Vec<(usize, &'a Point)>,
}

/// The lines along a setting, one for each combination of the others: of points that have VALID runs, two at least.
pub(crate) fn lines_along<'a>(sweep: &'a Sweep, varied: &Varied) -> Vec<Line<'a>> {
    let others: Vec<&Varied> = sweep.varied.iter().filter(|other| other.key != varied.key).collect();
    let mut lines = Vec::new();
    for fixed in combinations(&others) {
        let settings: BTreeMap<String, String> =
            others.iter().map(|other| other.key.clone()).zip(fixed.iter().cloned()).collect();
        let is_on = |point: &Point| settings.iter().all(|(key, value)| point.settings.get(key) == Some(value));
        let mut points: Vec<(usize, &Point)> = Vec::new();
        for point in sweep.points.iter().filter(|point| is_on(point) && point.summary.valid > 0) {
            let place = point.settings.get(&varied.key).and_then(|value| varied.values.iter().position(|v| v == value));
            points.extend(place.map(|place| (place, point)));
        }
        points.sort_by(|a, b| {
            number(&varied.values[a.0]).unwrap_or(0.0).total_cmp(&number(&varied.values[b.0]).unwrap_or(0.0))
        });
        if points.len() > 1 {
            let pairs: Vec<String> =
                others.iter().zip(&fixed).map(|(other, value)| format!("{}={value}", other.key)).collect();
            let name = if pairs.is_empty() { "all".to_owned() } else { pairs.join(" ") };
            lines.push(Line { name, settings, points });
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_with_their_units() {
        let read = ["100", "4KiB", "250ms", "0", "1.5", "fixed:10", "", "none"].map(number);
        assert_eq!(read, [Some(100.0), Some(4096.0), Some(0.25), Some(0.0), Some(1.5), None, None, None]);
    }
}
