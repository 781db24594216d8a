//! How figures follow one numeric setting: a line for each combination of the others.

use serde_json::{Value, json};

use super::super::document::{Cell, Chart, Table, View};
use super::super::option::{number_axis, within};
use super::{expected, range};
use crate::shown::{CPU, P50, P99, SWITCH, Shown, THROUGHPUT};
use crate::sweep::scaling::curves;
use crate::sweep::{Line, Sweep, Varied, lines_along, number, numeric};

/// More lines than this can not be told apart.
const LINES_MAX: usize = 14;
/// Settings of how much is asked for at once: along these, latency against throughput is a curve worth drawing.
const LOAD_KEYS: [&str; 2] = ["clients", "rate"];
/// Where greatest and least value differ by this factor, equal steps are equal factors.
const LOG_RATIO_MIN: f64 = 8.0;
/// What a line is called that stands beside what is expected of it, and what that is called.
const MEASURED: &str = "measured";
const EXPECTED: &str = "expected from message complexity";
/// What it is called of CPU time, which follows no such law.
const EXPECTED_CPU: &str = "expected by the shape of the floor";
/// How the latter looks in the legend: dotted, as it is drawn.
const DOTS: &str = "path://M0,0h4v4h-4z M9,0h4v4h-4z M18,0h4v4h-4z";

/// The charts of all numeric settings.
pub(super) fn charts(sweep: &Sweep) -> Vec<Chart> {
    let curves = curves(sweep);
    let mut charts = Vec::new();
    for varied in numeric(sweep) {
        let lines = lines_along(sweep, varied);
        if lines.is_empty() || lines.len() > LINES_MAX {
            continue;
        }
        charts.push(along(varied, &lines));
        charts.extend(expected::chart(varied, &lines, &curves));
        if LOAD_KEYS.contains(&varied.key.as_str()) {
            charts.push(against(varied, &lines));
        }
    }
    charts
}

/// Figures along a setting.
fn along(varied: &Varied, lines: &[Line<'_>]) -> Chart {
    let views = SWITCH.iter().map(|shown| View {
        label: shown.label.to_owned(),
        suffix: shown.name.to_owned(),
        option: along_option(varied, lines, shown, None),
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

/// The picture of a figure along a setting. `expected` has what is expected of it, line by line: places of values and
/// the figure there.
pub(super) fn along_option(
    varied: &Varied,
    lines: &[Line<'_>],
    shown: &Shown,
    expected: Option<&[Vec<(usize, f64)>]>,
) -> Value {
    let numbers: Vec<f64> = varied.values.iter().filter_map(|value| number(value)).collect();
    let (least, most) = numbers.iter().fold((f64::INFINITY, 0.0f64), |(low, high), v| (low.min(*v), high.max(*v)));
    // Nothing has no logarithm: where 0 is among values that differ by factors, they stand at equal steps.
    let by_name = least <= 0.0 && numbers.len() > 2;
    let at = |place: usize| if by_name { json!(varied.values[place]) } else { json!(numbers[place]) };
    let expected_name = if shown.label == CPU.label { EXPECTED_CPU } else { EXPECTED };
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
        let name = if expected.is_some() && lines.len() == 1 { MEASURED } else { line.name.as_str() };
        series.push(json!({ "type": "line", "name": name, "data": data, "color": colour, "symbolSize": 7,
            "lineStyle": { "width": 2, "type": stroke }, "tooltip": { "valueFormatter": shown.format } }));
        series.push(json!({ "type": "custom", "name": name, "data": whiskers, "renderItem": "@fn:whisker_up",
            "color": colour, "silent": true, "tooltip": { "show": false }, "encode": { "x": 0, "y": [1, 2] } }));
        if let Some(expected) = expected.and_then(|expected| expected.get(index)) {
            values.extend(expected.iter().map(|(_, value)| *value));
            let data: Vec<Value> = expected.iter().map(|(place, value)| json!([at(*place), value])).collect();
            // All have one name, and so one entry in the legend: which is whose their colour tells.
            series.push(
                json!({ "type": "line", "name": expected_name, "data": data, "color": colour, "symbol": "none",
                "lineStyle": { "width": 2, "type": "dotted" },
                "tooltip": { "show": lines.len() == 1, "valueFormatter": shown.format } }),
            );
        }
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
    let entries = lines.len() + 2 * usize::from(expected.is_some());
    let mut legend = json!({ "top": 0, "type": "plain", "itemGap": 16 });
    if expected.is_some() {
        let measured =
            if lines.len() == 1 { vec![MEASURED] } else { lines.iter().map(|line| line.name.as_str()).collect() };
        let mut names: Vec<Value> = measured.into_iter().map(|name| json!({ "name": name })).collect();
        names.push(json!({ "name": expected_name, "icon": DOTS }));
        legend["data"] = json!(names);
    }
    json!({
        "legend": legend,
        "grid": within(json!({ "left": 12, "right": 30, "top": 40 + 22 * entries.div_ceil(4), "bottom": 44 })),
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
