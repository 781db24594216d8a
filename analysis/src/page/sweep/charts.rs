//! All points of a sweep side by side: as a matrix, as rows, and as what must be given up for what.

use std::cmp::Ordering;

use serde_json::{Value, json};

use super::super::document::{Cell, Chart, Table, View};
use super::super::option::{VIRIDIS, number_axis, round, within, words_on_viridis};
use super::range;
use crate::shown::{CPU, P99, SWITCH, Shown, THROUGHPUT};
use crate::sweep::{Point, State, Sweep, Varied, combinations};

/// What is said of a point where it is pointed at.
fn note(sweep: &Sweep, point: &Point) -> Vec<String> {
    let mut lines = vec![sweep.label(&point.settings)];
    if !point.adjusted.is_empty() {
        lines.push(format!("with {}", point.adjusted_in_words()));
    }
    for shown in &SWITCH {
        lines.push(match shown.of(point) {
            Some(spread) => format!("{}: {}", shown.label, shown.range(spread)),
            None => format!("{}: {}", shown.label, point.lacking()),
        });
    }
    lines.push(format!("{} of {} runs VALID", point.summary.valid, point.runs.len()));
    lines
}

/// The last two varied options as rows and columns, a picture for each figure and each combination of the others.
pub(super) fn matrix(sweep: &Sweep) -> Option<Chart> {
    let [outer @ .., rows, columns] = sweep.varied.as_slice() else { return None };
    let outer: Vec<&Varied> = outer.iter().collect();
    let mut views = Vec::new();
    for fixed in combinations(&outer) {
        for shown in &SWITCH {
            let of: Vec<String> = outer.iter().zip(&fixed).map(|(key, value)| format!("{}={value}", key.key)).collect();
            let label = [of.join(" "), shown.label.to_owned()];
            views.push(View {
                label: label.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join(": "),
                suffix: file_part(&[of, vec![shown.name.to_owned()]].concat()),
                option: matrix_option(sweep, &fixed, rows, columns, shown),
            });
        }
    }
    let mut table = Table::new("Median of each point's VALID runs", &[]);
    table.columns = sweep.varied.iter().map(|varied| varied.key.clone()).collect();
    table.columns.extend(SWITCH.iter().map(|shown| shown.label.to_owned()));
    for point in &sweep.points {
        let mut row: Vec<Cell> = sweep.values(&point.settings).map(Cell::text).collect();
        row.extend(SWITCH.iter().map(|shown| match shown.of(point) {
            Some(spread) => shown.cell(spread.median),
            None => Cell::text(point.lacking()),
        }));
        table.push(row);
    }
    let values = |varied: &Varied| varied.values.len();
    #[allow(clippy::cast_possible_truncation, reason = "a matrix that is looked at")]
    let height = 130 + 44 * rows.values.len() as u32 + LINE_PIXELS * (column_lines(columns).1 as u32 - 1);
    Some(Chart {
        id: "matrix".into(),
        title: format!("{} by {}", rows.key, columns.key),
        says: format!("A matrix of {} values of {} by {} of {}.", values(rows), rows.key, values(columns), columns.key),
        how: "each cell is a point: the value of one setting in its row, of the other in its column. The lighter, the \
              better; colours follow the logarithm, so that equal steps are equal factors. The buttons choose the \
              figure. A star tells that not all of a point's runs were VALID; points without any are grey."
            .into(),
        height,
        views,
        table,
    })
}

/// A name that any file system takes.
fn file_part(parts: &[String]) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
    parts.join("-").chars().map(plain).collect()
}

/// Height of a line of a label that takes several, and about the width of one of its letters, pixels.
const LINE_PIXELS: u32 = 13;
const LETTER_PIXELS: usize = 6;
/// About the width of all cells of a matrix together, pixels.
const MATRIX_PIXELS: usize = 600;
/// Width of a point's label, pixels.
const POINT_LABEL_PIXELS: usize = 130;

/// How many lines the longest of these labels takes, of so many pixels each.
fn lines<'a>(labels: impl IntoIterator<Item = &'a String>, pixels: usize) -> usize {
    let letters = (pixels / LETTER_PIXELS).max(1);
    labels.into_iter().map(|label| label.chars().count().div_ceil(letters)).max().unwrap_or(1).max(1)
}

/// Width of a column's label, pixels, and how many lines the longest takes.
fn column_lines(columns: &Varied) -> (usize, usize) {
    let pixels = MATRIX_PIXELS / columns.values.len().max(1);
    (pixels, lines(&columns.values, pixels))
}

fn matrix_option(sweep: &Sweep, fixed: &[String], rows: &Varied, columns: &Varied, shown: &Shown) -> Value {
    let mut cells = Vec::new();
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    for (y, row) in rows.values.iter().enumerate() {
        for (x, column) in columns.values.iter().enumerate() {
            let values: Vec<&str> = fixed.iter().chain([row, column]).map(String::as_str).collect();
            let Some(point) = sweep.point(&values) else { continue };
            let note = note(sweep, point);
            let Some(median) = shown.of(point).map(|spread| spread.median).filter(|median| *median > 0.0) else {
                cells.push(json!({ "value": [x, y, 0], "note": note, "text": point.lacking(), "visualMap": false,
                    "itemStyle": { "color": "@shade" }, "label": { "color": "@bad" } }));
                continue;
            };
            (least, most) = (least.min(median), most.max(median));
            let star = if point.summary.invalid + point.summary.failed > 0 { " *" } else { "" };
            let text = format!("{}{star}", short(shown, median));
            cells.push(json!({ "value": [x, y, round(median.log10(), 4)], "note": note, "text": text }));
        }
    }
    let mut colours = VIRIDIS.to_vec();
    if !shown.more {
        colours.reverse();
    }
    // All the same, or nothing at all: any range will do.
    let (low, high) = match least.partial_cmp(&most) {
        Some(Ordering::Less) => (least.log10(), most.log10()),
        Some(Ordering::Equal) => (least.log10() - 1.0, least.log10() + 1.0),
        _ => (0.0, 1.0),
    };
    for cell in cells.iter_mut().filter(|cell| cell.get("visualMap").is_none()) {
        let share = (cell["value"][2].as_f64().unwrap_or(low) - low) / (high - low);
        cell["label"] = json!({ "color": words_on_viridis(if shown.more { share } else { 1.0 - share }) });
    }
    let (pixels, lines) = column_lines(columns);
    let mut labels = json!({ "interval": 0, "hideOverlap": false });
    if lines > 1 {
        labels =
            json!({ "interval": 0, "width": pixels, "overflow": "break", "lineHeight": LINE_PIXELS, "fontSize": 10 });
    }
    let gap = 28 + LINE_PIXELS as usize * (lines - 1);
    let ends = if least <= most { [short(shown, most), short(shown, least)] } else { Default::default() };
    json!({
        "grid": within(json!({ "left": 12, "right": 16, "top": 26, "bottom": 62 })),
        "tooltip": { "formatter": "@fn:note", "confine": true },
        "xAxis": { "type": "category", "data": columns.values, "name": columns.key, "nameLocation": "middle", "nameGap": gap,
            "axisTick": { "show": false }, "axisLabel": labels },
        "yAxis": { "type": "category", "data": rows.values, "name": rows.key, "inverse": true, "nameLocation": "start",
            "nameTextStyle": { "align": "left" }, "axisTick": { "show": false } },
        "visualMap": { "type": "continuous", "min": low, "max": high, "orient": "horizontal", "left": "center", "bottom": 0,
            "itemWidth": 12, "itemHeight": 140, "text": ends, "calculable": false, "hoverLink": false,
            "inRange": { "color": colours } },
        "series": [{ "type": "heatmap", "data": cells, "itemStyle": { "borderColor": "@surface", "borderWidth": 2 },
            "label": { "show": true, "formatter": "@fn:cell", "fontSize": 12 } }],
    })
}

/// A figure with few digits, for cells.
fn short(shown: &Shown, value: f64) -> String {
    if shown.name == THROUGHPUT.name && value >= 1e4 {
        return if value >= 1e6 { format!("{:.2} M", value / 1e6) } else { format!("{:.0} k", value / 1e3) };
    }
    (shown.write)(value)
}

/// Each point as a row: the median, from the lowest to the highest run, and every run.
pub(super) fn points(sweep: &Sweep) -> Option<Chart> {
    sweep.runs().next()?;
    let labels: Vec<String> = sweep.points.iter().map(|point| sweep.label(&point.settings)).collect();
    let views = SWITCH.iter().map(|shown| View {
        label: shown.label.to_owned(),
        suffix: shown.name.to_owned(),
        option: points_option(sweep, &labels, shown),
    });
    let mut table = Table::new("Median of each point's VALID runs (lowest to highest)", &["point"]);
    table.columns.extend(SWITCH.iter().map(|shown| shown.label.to_owned()));
    for (label, point) in labels.iter().zip(&sweep.points) {
        let mut row = vec![Cell::text(label.clone())];
        row.extend(SWITCH.iter().map(|shown| range(point, shown)));
        table.push(row);
    }
    let not_valid = sweep.runs().filter(|(_, run)| run.state != State::Valid).count();
    #[allow(clippy::cast_possible_truncation, reason = "as many points as can be looked at")]
    let row = (LINE_PIXELS * (1 + lines(&labels, POINT_LABEL_PIXELS) as u32)).max(30);
    #[allow(clippy::cast_possible_truncation, reason = "as many points as can be looked at")]
    let height = 100 + row * labels.len() as u32;
    Some(Chart {
        id: "points".into(),
        title: "Each point with all of its runs".into(),
        says: format!("{} points; {not_valid} of their runs are not VALID.", labels.len()),
        how: "each row is a point, each dot one of its runs, the line reaches from the lowest VALID run to the highest, \
              and the bar is their median. Where the lines of two points overlap, these runs do not tell them apart. Red \
              crosses are INVALID runs: they count for nothing."
            .into(),
        height,
        views: views.collect(),
        table,
    })
}

fn points_option(sweep: &Sweep, labels: &[String], shown: &Shown) -> Value {
    let (mut valid, mut invalid, mut whiskers, mut medians) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut values = Vec::new();
    for (row, point) in sweep.points.iter().enumerate() {
        for run in &point.runs {
            let Some(figures) = run.figures else { continue };
            let Some((_, Some(value))) = figures.named().into_iter().find(|(name, _)| *name == shown.name) else {
                continue;
            };
            let state = format!("run {}: {}", run.repeat, run.state.shown());
            let mut note =
                vec![sweep.label(&point.settings), state, format!("{}: {}", shown.label, (shown.write)(value))];
            note.extend(run.reasons.iter().cloned());
            let datum = json!({ "value": [value, row], "note": note });
            if run.state == State::Valid {
                valid.push(datum)
            } else {
                invalid.push(datum)
            }
            values.push(value);
        }
        if let Some(s) = shown.of(point) {
            let note = note(sweep, point);
            whiskers.push(json!({ "value": [row, s.lowest, s.highest], "note": note }));
            medians.push(json!({ "value": [s.median, row], "note": note }));
        }
    }
    let mut axis = number_axis(values, shown.axis, shown.format);
    axis["nameLocation"] = json!("middle");
    axis["nameGap"] = json!(28);
    axis["nameTextStyle"] = json!({ "align": "center" });
    json!({
        "legend": { "top": 0 },
        "grid": within(json!({ "left": 12, "right": 30, "top": 46, "bottom": 44 })),
        "tooltip": { "formatter": "@fn:note", "confine": true },
        "xAxis": axis,
        "yAxis": { "type": "category", "data": labels, "inverse": true, "axisTick": { "show": false },
            "splitLine": { "show": true }, "axisLabel": { "width": POINT_LABEL_PIXELS, "overflow": "break", "lineHeight": LINE_PIXELS, "fontSize": 11,
            "interval": 0 } },
        "series": [
            { "type": "custom", "name": "lowest to highest", "data": whiskers, "renderItem": "@fn:whisker_along", "color": "@c0",
              "encode": { "x": [1, 2], "y": 0 } },
            { "type": "scatter", "name": "VALID run", "data": valid, "color": "@c5", "symbolSize": 8,
              "itemStyle": { "borderColor": "@surface", "borderWidth": 1 } },
            { "type": "scatter", "name": "median", "data": medians, "color": "@c0", "symbol": "rect", "symbolSize": [4, 16] },
            { "type": "scatter", "name": "INVALID run", "data": invalid, "color": "@bad", "symbolSize": 11,
              "symbol": "path://M2,0 L5,3 L8,0 L10,2 L7,5 L10,8 L8,10 L5,7 L2,10 L0,8 L3,5 L0,2 Z" },
        ],
    })
}

/// Points that no other point beats in throughput and p99 both, by their place, from the highest throughput down.
pub(super) fn frontier(points: &[(f64, f64)]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by(|&a, &b| points[b].0.total_cmp(&points[a].0).then(points[a].1.total_cmp(&points[b].1)));
    let mut least = f64::INFINITY;
    order.retain(|&index| {
        let beats = points[index].1 < least;
        least = least.min(points[index].1);
        beats
    });
    order
}

/// How far names on the frontier stand off from their points' heights, in pixels.
const LABEL_SHIFT: i32 = 14;

/// Throughput against p99, coloured by CPU for each operation, with the frontier.
pub(super) fn pareto(sweep: &Sweep) -> Option<Chart> {
    let known: Vec<(&Point, [f64; 3])> = sweep
        .points
        .iter()
        .filter_map(|point| {
            let median = |shown: &Shown| shown.of(point).map(|spread| spread.median);
            Some((point, [median(&THROUGHPUT)?, median(&P99)?, median(&CPU)?]))
        })
        .collect();
    if known.len() < 2 {
        return None;
    }
    let places: Vec<(f64, f64)> = known.iter().map(|(_, [x, y, _])| (*x, *y)).collect();
    let best = frontier(&places);
    let mut table = Table::new("", &["point", THROUGHPUT.label, P99.label, CPU.label, "on the frontier"]);
    let mut data = Vec::new();
    let ends = places.iter().fold((f64::INFINITY, 0.0f64), |(low, high), (x, _)| (low.min(*x), high.max(*x)));
    for (index, (point, [x, y, cpu])) in known.iter().enumerate() {
        // A name is written towards the middle; those next to each other on the frontier at different heights.
        let above = best.iter().position(|&on| on == index).is_some_and(|rank| rank % 2 == 1);
        let offset = if above { -LABEL_SHIFT } else { LABEL_SHIFT };
        let side = if *x > (ends.0.max(1e-9) * ends.1).sqrt() { "left" } else { "right" };
        let label = sweep.label(&point.settings);
        let on = best.contains(&index);
        data.push(json!({ "value": [x, y, round(cpu.max(1e-3).log10(), 4)], "note": note(sweep, point), "text": label,
            "symbolSize": if on { 15 } else { 11 }, "label": { "show": on && best.len() <= 8, "position": side,
                "offset": [0, offset] } }));
        let on = Cell::text(if on { "yes" } else { "no" });
        table.push(vec![Cell::Text(label), THROUGHPUT.cell(*x), P99.cell(*y), CPU.cell(*cpu), on]);
    }
    let line: Vec<[f64; 2]> = best.iter().map(|&index| [places[index].0, places[index].1]).collect();
    let cpu = |pick: fn(f64, f64) -> f64| known.iter().map(|(_, [.., cpu])| *cpu).reduce(pick).unwrap_or(1.0);
    let (least, most) = (cpu(f64::min), cpu(f64::max));
    let mut x = number_axis(places.iter().map(|place| place.0), THROUGHPUT.axis, THROUGHPUT.format);
    x["nameLocation"] = json!("middle");
    x["nameGap"] = json!(28);
    x["nameTextStyle"] = json!({ "align": "center" });
    let (low, high) = (least.max(1e-3).log10(), most.max(1e-3).log10());
    let option = json!({
        "grid": within(json!({ "left": 12, "right": 40, "top": 40, "bottom": 96 })),
        "tooltip": { "formatter": "@fn:note", "confine": true },
        "xAxis": x,
        "yAxis": number_axis(places.iter().map(|place| place.1), P99.axis, P99.format),
        "visualMap": { "type": "continuous", "min": low, "max": if high > low { high } else { low + 1.0 }, "seriesIndex": 1,
            "dimension": 2, "orient": "horizontal", "left": "center", "bottom": 0, "itemWidth": 12, "itemHeight": 140,
            "text": [format!("{} per op", (CPU.write)(most)), (CPU.write)(least)], "calculable": false, "hoverLink": false,
            "inRange": { "color": VIRIDIS } },
        "series": [
            { "type": "line", "name": "frontier", "data": line, "symbol": "none", "step": "start", "color": "@muted", "silent": true,
              "lineStyle": { "type": "dashed", "width": 1.5 }, "tooltip": { "show": false } },
            { "type": "scatter", "name": "points", "data": data, "itemStyle": { "borderColor": "@frame", "borderWidth": 1 },
              "label": { "formatter": "@fn:cell", "color": "@text", "fontSize": 11, "distance": 8 } },
        ],
    });
    let names: Vec<String> = best.iter().map(|&index| sweep.label(&known[index].0.settings)).collect();
    Some(Chart {
        id: "pareto".into(),
        title: "What a higher throughput costs in latency".into(),
        says: format!("On the frontier, by medians: {}.", names.join("; ")),
        how: "each dot is a point: the farther right, the more operations per second; the lower, the shorter the slowest \
              one in a hundred took. So the best corner is at the bottom right. The dashed line joins the points that no \
              other beats in both, going by the medians alone. Where the runs of two points overlap (the rows above tell), \
              these runs do not say which of the two is the better one. Colour tells CPU time: the darker, the less."
            .into(),
        height: 460,
        views: vec![View { option, ..View::default() }],
        table,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frontier_is_what_nothing_beats_in_both() {
        let points = [(100.0, 10.0), (200.0, 20.0), (150.0, 25.0), (200.0, 30.0), (50.0, 10.0), (90.0, 5.0)];
        assert_eq!(frontier(&points), [1, 0, 5]);
        assert_eq!(frontier(&[]), [0; 0]);
    }

    #[test]
    fn long_values_get_the_lines_that_they_take() {
        let column = |value: &str, count| Varied { key: "placement".into(), values: vec![value.to_owned(); count] };
        assert_eq!(column_lines(&column("fused", 10)), (60, 1));
        assert_eq!(column_lines(&column("network+egress,verify,verify,verify,verify,order+execute", 10)), (60, 6));
        assert_eq!(column_lines(&column("network+egress,verify", 2)), (300, 1));
        assert_eq!(lines(&["auth=mac placement=network+egress,verify,order+execute".to_owned()], 130), 3);
        assert_eq!(lines([], 130), 1);
    }
}
