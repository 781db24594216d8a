//! Where the time of operations that were followed all the way went.

use serde_json::json;

use super::super::document::{Cell, Chart, Table, View};
use super::super::option::{round, within};
use crate::attribution::{Attribution, Part, PartShare};
use crate::summary::{count, time};

/// The pieces of the path as a waterfall: of operations around the median, and of the slowest.
pub(super) fn chart(attribution: &Attribution) -> Option<Chart> {
    let parts = &attribution.parts;
    let [middle, tail]: [fn(&PartShare) -> f64; 2] = [|part| part.p50_share_us, |part| part.p99_9_share_us];
    let longest = parts.iter().max_by(|a, b| middle(a).total_cmp(&middle(b)))?;
    let view = |label: &str, suffix: &str, share| View {
        label: label.to_owned(),
        suffix: suffix.to_owned(),
        option: waterfall(parts, share),
    };
    let mut table = Table::new("", &["part", "around the median", "of the slowest", "p99 of the part"]);
    for part in parts {
        table.push(vec![Cell::text(words(part)), Cell::us(middle(part)), Cell::us(tail(part)), Cell::us(part.p99)]);
    }
    table.push(vec![
        Cell::text("the whole"),
        Cell::us(attribution.middle.mean_us),
        Cell::us(attribution.tail.mean_us),
        Cell::Nothing,
    ]);
    let clock = if attribution.shared_clock {
        ""
    } else {
        " The processes have no clock in common: what passes between them is one part."
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a handful of parts")]
    let height = 60 + 44 * parts.len() as u32;
    Some(Chart {
        id: "path".into(),
        title: "The path of an operation".into(),
        says: format!(
            "Of operations around the median ({} samples in all), the longest part is '{}': {} of {}.{clock}",
            count(attribution.samples as f64),
            words(longest),
            time(middle(longest)),
            time(attribution.middle.mean_us)
        ),
        how: "from top to bottom an operation passes from the client through the cluster and back; each bar begins where \
              the one before ends, and all together they are its latency. The buttons change between operations around \
              the median and the slowest ones: what grows most is what makes them slow."
            .into(),
        height,
        views: vec![view("Around the median", "median", middle), view("The slowest", "tail", tail)],
        table,
    })
}

/// What a part is, for people; its name where a later version wrote it.
fn words(part: &PartShare) -> &str {
    Part::of_name(&part.name).map_or(part.name.as_str(), |part| part.words())
}

fn waterfall(parts: &[PartShare], share: fn(&PartShare) -> f64) -> serde_json::Value {
    let (mut before, mut bars, mut begins) = (Vec::new(), Vec::new(), 0.0);
    for part in parts {
        let us = share(part);
        let note = [words(part).to_owned(), time(us)];
        before.push(json!(round(begins, 3)));
        bars.push(json!({ "value": round(us, 3), "note": note, "label": { "formatter": time(us) } }));
        begins += us;
    }
    json!({
        "grid": within(json!({ "left": 12, "right": 60, "top": 12, "bottom": 32 })),
        "tooltip": { "trigger": "item", "formatter": "@fn:note", "confine": true },
        "xAxis": { "type": "value", "min": 0, "axisLabel": { "formatter": "@fn:time", "hideOverlap": true } },
        "yAxis": { "type": "category", "inverse": true, "axisTick": { "show": false },
            "data": parts.iter().map(words).collect::<Vec<_>>() },
        "series": [
            { "type": "bar", "name": "before", "stack": "path", "data": before, "silent": true, "barWidth": "60%",
              "itemStyle": { "color": "transparent" } },
            { "type": "bar", "name": "time", "stack": "path", "data": bars, "color": "@c0",
              "label": { "show": true, "position": "right", "color": "@text", "fontSize": 11 } },
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribution::Group;

    #[test]
    fn parts_follow_each_other_in_the_words_of_the_summary() {
        let part = |name: &str, us: f64| PartShare {
            name: name.into(),
            p50_share_us: us,
            p99_9_share_us: 2.0 * us,
            ..PartShare::default()
        };
        let group = |mean_us: f64| Group { mean_us, ..Group::default() };
        let mut attribution = Attribution {
            samples: 30,
            shared_clock: true,
            middle: group(35.0),
            tail: group(70.0),
            parts: vec![part("client_wait", 10.0), part("prepare", 20.0), part("of a later version", 5.0)],
            ..Attribution::default()
        };
        let drawn = chart(&attribution).unwrap();
        assert!(
            drawn.says.ends_with("the longest part is 'pre-prepare to prepared': 20.0 µs of 35.0 µs."),
            "{}",
            drawn.says
        );
        let names = ["before it is sent", "pre-prepare to prepared", "of a later version"];
        assert_eq!(drawn.views[0].option["yAxis"]["data"], json!(names));
        assert_eq!(drawn.views[0].option["series"][0]["data"], json!([0.0, 10.0, 30.0]));
        assert_eq!(drawn.views[1].option["series"][0]["data"], json!([0.0, 20.0, 60.0]), "the slowest");
        let first: Vec<&str> = drawn.table.rows.iter().map(|row| row[0].shown()).collect();
        assert_eq!(first, [&names[..], &["the whole"]].concat());
        attribution.shared_clock = false;
        assert!(chart(&attribution).unwrap().says.contains("no clock in common"));
        attribution.parts.clear();
        assert!(chart(&attribution).is_none());
    }
}
