//! How figures follow one numeric setting: a line for each combination of the others.

use serde_json::{Value, json};

use super::super::document::{Cell, Chart, Table, View};
use super::super::option::{number_axis, within};
use super::range;
use crate::shown::{CPU, P50, P99, SWITCH, Shown, THROUGHPUT};
use crate::sweep::{Point, Sweep, Varied, combinations};

/// More lines than this can not be told apart.
const LINES_MAX: usize = 14;
/// Settings of how much is asked for at once: along these, latency against throughput is a curve worth drawing.
const LOAD_KEYS: [&str; 2] = ["clients", "rate"];
/// Where greatest and least value differ by this factor, equal steps are equal factors.
const LOG_RATIO_MIN: f64 = 8.0;

/// A number with or without a unit: `100`, `4KiB`, `250ms`, `adaptive` is none.
fn number(text: &str) -> Option<f64> {
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

/// One line: its name and its points with their place along the setting.
struct Line<'a> {
    name: String,
    points: Vec<(usize, &'a Point)>,
}

/// The charts of all numeric settings.
pub(super) fn charts(sweep: &Sweep) -> Vec<Chart> {
    let numeric =
        |varied: &&Varied| varied.values.len() > 1 && varied.values.iter().all(|value| number(value).is_some());
    let mut charts = Vec::new();
    for varied in sweep.varied.iter().filter(numeric) {
        let lines = lines(sweep, varied);
        if lines.is_empty() || lines.len() > LINES_MAX {
            continue;
        }
        charts.push(along(varied, &lines));
        if LOAD_KEYS.contains(&varied.key.as_str()) {
            charts.push(against(varied, &lines));
        }
    }
    charts
}

fn lines<'a>(sweep: &'a Sweep, varied: &Varied) -> Vec<Line<'a>> {
    let others: Vec<&Varied> = sweep.varied.iter().filter(|other| other.key != varied.key).collect();
    let mut lines = Vec::new();
    for fixed in combinations(&others) {
        let pairs: Vec<String> =
            others.iter().zip(&fixed).map(|(other, value)| format!("{}={value}", other.key)).collect();
        let is_on = |point: &Point| {
            others.iter().zip(&fixed).all(|(other, value)| point.settings.get(&other.key) == Some(value))
        };
        let mut points: Vec<(usize, &Point)> = Vec::new();
        for point in sweep.points.iter().filter(|point| is_on(point) && point.summary.valid > 0) {
            let place = point.settings.get(&varied.key).and_then(|value| varied.values.iter().position(|v| v == value));
            points.extend(place.map(|place| (place, point)));
        }
        points.sort_by(|a, b| {
            number(&varied.values[a.0]).unwrap_or(0.0).total_cmp(&number(&varied.values[b.0]).unwrap_or(0.0))
        });
        if points.len() > 1 {
            let name = if pairs.is_empty() { "all".to_owned() } else { pairs.join(" ") };
            lines.push(Line { name, points });
        }
    }
    lines
}

/// Figures along a setting.
fn along(varied: &Varied, lines: &[Line<'_>]) -> Chart {
    let views = SWITCH.iter().map(|shown| View {
        label: shown.label.to_owned(),
        suffix: shown.name.to_owned(),
        option: along_option(varied, lines, shown),
    });
    let mut table = Table::new("Median of each point's VALID runs (lowest to highest)", &[varied.key.as_str(), "line"]);
    table.columns.extend(SWITCH.iter().map(|shown| shown.label.to_owned()));
    for line in lines {
        for (place, point) in &line.points {
            let mut row = vec![Cell::text(varied.values[*place].clone()), Cell::text(line.name.clone())];
            row.extend(SWITCH.iter().map(|shown| range(point, shown)));
            table.push(row);
        }
    }
    Chart {
        id: format!("along-{}", varied.key),
        title: format!("Along {}", varied.key),
        says: format!("{} lines along {} values of {}.", lines.len(), varied.values.len(), varied.key),
        how: "each line holds everything else fixed. A level line: this setting does not matter. The thin strokes reach \
              from a point's lowest VALID run to its highest. Where the setting grows by factors, so does the axis: equal \
              steps are equal factors."
            .into(),
        height: 420,
        views: views.collect(),
        table,
    }
}

fn along_option(varied: &Varied, lines: &[Line<'_>], shown: &Shown) -> Value {
    let numbers: Vec<f64> = varied.values.iter().filter_map(|value| number(value)).collect();
    let (least, most) = numbers.iter().fold((f64::INFINITY, 0.0f64), |(low, high), v| (low.min(*v), high.max(*v)));
    // Nothing has no logarithm: where 0 is among values that differ by factors, they stand at equal steps.
    let by_name = least <= 0.0 && numbers.len() > 2;
    let at = |place: usize| if by_name { json!(varied.values[place]) } else { json!(numbers[place]) };
    let mut series = Vec::new();
    let mut values = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let colour = format!("@c{}", index % 7);
        // Past seven lines colours come again, with another stroke.
        let stroke = if index < 7 { "solid" } else { "dashed" };
        let known: Vec<_> = line.points.iter().filter_map(|(place, point)| Some((*place, shown.of(point)?))).collect();
        values.extend(known.iter().flat_map(|(_, s)| [s.lowest, s.highest]));
        let data: Vec<Value> = known.iter().map(|(place, s)| json!([at(*place), s.median])).collect();
        let whiskers: Vec<Value> = known.iter().map(|(place, s)| json!([at(*place), s.lowest, s.highest])).collect();
        series.push(json!({ "type": "line", "name": line.name, "data": data, "color": colour, "symbolSize": 7,
            "lineStyle": { "width": 2, "type": stroke }, "tooltip": { "valueFormatter": shown.format } }));
        series.push(json!({ "type": "custom", "name": line.name, "data": whiskers, "renderItem": "@fn:whisker_up",
            "color": colour, "silent": true, "tooltip": { "show": false }, "encode": { "x": 0, "y": [1, 2] } }));
    }
    let mut x = json!({ "name": varied.key, "nameLocation": "middle", "nameGap": 28 });
    if by_name {
        x["type"] = json!("category");
        x["data"] = json!(varied.values);
    } else {
        x["type"] = json!(if most / least >= LOG_RATIO_MIN { "log" } else { "value" });
        let mut ticks = numbers.clone();
        ticks.sort_by(f64::total_cmp);
        x["min"] = json!(least);
        x["max"] = json!(most);
        x["axisLabel"] = json!({ "customValues": ticks, "formatter": "@fn:short", "hideOverlap": true });
        x["axisTick"] = json!({ "customValues": ticks });
    }
    json!({
        "legend": { "top": 0, "type": "plain" },
        "grid": within(json!({ "left": 12, "right": 30, "top": 40 + 22 * lines.len().div_ceil(4), "bottom": 44 })),
        "tooltip": { "trigger": "axis", "confine": true },
        "xAxis": x,
        "yAxis": number_axis(values, shown.axis, shown.format),
        "series": series,
    })
}

/// Latency against throughput, along a setting of load.
fn against(varied: &Varied, lines: &[Line<'_>]) -> Chart {
    let views = [P50, P99].map(|shown| View {
        label: shown.label.to_owned(),
        suffix: shown.name.to_owned(),
        option: against_option(varied, lines, &shown),
    });
    let mut table =
        Table::new("Medians", &[varied.key.as_str(), "line", THROUGHPUT.label, P50.label, P99.label, CPU.label]);
    for line in lines {
        for (place, point) in &line.points {
            let mut row = vec![Cell::text(varied.values[*place].clone()), Cell::text(line.name.clone())];
            row.extend([THROUGHPUT, P50, P99, CPU].iter().map(|shown| range(point, shown)));
            table.push(row);
        }
    }
    Chart {
        id: format!("latency-throughput-{}", varied.key),
        title: format!("Latency against throughput, along {}", varied.key),
        says: format!("{} lines; each follows {} growing values of {}.", lines.len(), varied.values.len(), varied.key),
        how:
            "follow a line as the load grows: it runs to the right while the cluster still has something to give, and \
              turns upwards where it has not: from there on more load only means longer waiting."
                .into(),
        height: 420,
        views: views.into(),
        table,
    }
}

fn against_option(varied: &Varied, lines: &[Line<'_>], shown: &Shown) -> Value {
    let (mut xs, mut ys, mut series) = (Vec::new(), Vec::new(), Vec::new());
    for (index, line) in lines.iter().enumerate() {
        let mut data = Vec::new();
        for (place, point) in &line.points {
            let (Some(x), Some(y)) = (THROUGHPUT.of(point), shown.of(point)) else { continue };
            xs.push(x.median);
            ys.push(y.median);
            let value = &varied.values[*place];
            let note = [
                format!("{} {}={value}", line.name, varied.key),
                format!("{}: {}", THROUGHPUT.label, THROUGHPUT.range(x)),
                format!("{}: {}", shown.label, shown.range(y)),
            ];
            data.push(json!({ "value": [x.median, y.median], "note": note, "text": value }));
        }
        series.push(json!({ "type": "line", "name": line.name, "data": data, "color": format!("@c{}", index % 7),
            "symbolSize": 8, "lineStyle": { "width": 2, "type": if index < 7 { "solid" } else { "dashed" } },
            "label": { "show": lines.len() <= 3, "formatter": "@fn:cell", "position": "top", "color": "@muted", "fontSize": 11 } }));
    }
    let mut x = number_axis(xs, THROUGHPUT.axis, THROUGHPUT.format);
    x["nameLocation"] = json!("middle");
    x["nameGap"] = json!(28);
    x["nameTextStyle"] = json!({ "align": "center" });
    json!({
        "legend": { "top": 0 },
        "grid": within(json!({ "left": 12, "right": 30, "top": 40 + 22 * lines.len().div_ceil(4), "bottom": 44 })),
        "tooltip": { "formatter": "@fn:note", "confine": true },
        "xAxis": x,
        "yAxis": number_axis(ys, shown.axis, shown.format),
        "series": series,
    })
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
