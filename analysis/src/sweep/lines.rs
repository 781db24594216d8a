//! Points that differ in one numeric setting alone: what a line along that setting joins.

use std::collections::BTreeMap;

use super::{Point, Sweep, Varied};

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
    let place = |varied: &Varied, point: &Point| {
        let value = point.settings.get(&varied.key)?;
        varied.values.iter().position(|other| other == value)
    };
    // In the order of the combinations, of which there may be far more than there are points.
    let mut groups: BTreeMap<Vec<usize>, Vec<(usize, &Point)>> = BTreeMap::new();
    for point in sweep.points.iter().filter(|point| point.summary.valid > 0) {
        let fixed: Option<Vec<usize>> = others.iter().map(|other| place(other, point)).collect();
        if let Some((fixed, own)) = fixed.zip(place(varied, point)) {
            groups.entry(fixed).or_default().push((own, point));
        }
    }
    let value = |place: usize| number(&varied.values[place]).unwrap_or(0.0);
    let lines = groups.into_iter().filter(|(_, points)| points.len() > 1).map(|(fixed, mut points)| {
        points.sort_by(|a, b| value(a.0).total_cmp(&value(b.0)));
        let fixed: Vec<(&str, &str)> =
            others.iter().zip(fixed).map(|(other, place)| (other.key.as_str(), other.values[place].as_str())).collect();
        let pairs: Vec<String> = fixed.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let name = if pairs.is_empty() { "all".to_owned() } else { pairs.join(" ") };
        let settings = fixed.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        Line { name, settings, points }
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_with_their_units() {
        let read = ["100", "4KiB", "250ms", "0", "1.5", "fixed:10", "", "none"].map(number);
        assert_eq!(read, [Some(100.0), Some(4096.0), Some(0.25), Some(0.0), Some(1.5), None, None, None]);
    }

    /// Lines come in the order of the settings' values, not of the points, and are as many as there are points for: of
    /// a hundred values of each of five settings there are 10^8 combinations along one of them.
    #[test]
    fn lines_are_of_points_that_are_there() {
        let keys = ["a", "b", "c", "d", "e"];
        let values: Vec<String> = (0..100).map(|value| value.to_string()).collect();
        let varied = keys.map(|key| Varied { key: key.into(), values: values.clone() });
        let point = |own: [usize; 5]| {
            let settings = keys.iter().zip(own).map(|(key, value)| ((*key).to_owned(), value.to_string())).collect();
            let mut point = Point { settings, ..Point::default() };
            point.summary.valid = 1;
            point
        };
        let points =
            vec![point([7, 0, 0, 0, 9]), point([7, 0, 0, 0, 2]), point([1, 0, 0, 0, 2]), point([1, 0, 0, 0, 3])];
        let alone = (10..100).map(|own| point([own; 5]));
        let sweep =
            Sweep { points: points.into_iter().chain(alone).collect(), varied: varied.into(), ..Sweep::default() };
        let lines = lines_along(&sweep, &sweep.varied[4]);
        let names: Vec<&str> = lines.iter().map(|line| line.name.as_str()).collect();
        assert_eq!(names, ["a=1 b=0 c=0 d=0", "a=7 b=0 c=0 d=0"]);
        let places: Vec<usize> = lines[1].points.iter().map(|(place, _)| *place).collect();
        assert_eq!((places, lines[1].settings["a"].as_str()), (vec![2, 9], "7"));
    }
}
