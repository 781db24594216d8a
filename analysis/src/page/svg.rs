//! Charts as files without a browser: the ECharts of the page, run by an embedded engine (QuickJS).

use rquickjs::{CatchResultExt as _, Context, Ctx, Function, Object, Runtime};
use serde_json::Value;
use thiserror::Error;

use super::document::{Block, Document};
use super::{CHARTS_JS, ECHARTS_JS};

/// Width of a chart in a file, pixels.
const WIDTH: u32 = 860;
/// More room for labels than they are assumed to take, pixels.
const MARGIN: u64 = 28;
/// What ECharts expects of any place it runs in. No chart is animated, so nothing ever needs to be called later.
const PLACE_JS: &str = "globalThis.setTimeout = () => 0; globalThis.clearTimeout = () => {};";
/// More than a chart with a hundred thousand points takes.
const MEMORY_BYTES_MAX: usize = 1 << 30;
const STACK_BYTES_MAX: usize = 1 << 20;

/// A chart could not be drawn.
#[derive(Debug, Error)]
#[error("{chart}: {error}")]
pub struct DrawError {
    chart: String,
    error: String,
}

/// All charts of a document, each with the name of its file, in order.
///
/// # Errors
/// If the engine can not be started or refuses a chart, which is our bug: names the chart.
pub fn svgs(document: &Document) -> Result<Vec<(String, String)>, DrawError> {
    let failed = |chart: &str, error: String| DrawError { chart: chart.to_owned(), error };
    let start = |error: rquickjs::Error| failed("charts", error.to_string());
    let runtime = Runtime::new().map_err(start)?;
    runtime.set_memory_limit(MEMORY_BYTES_MAX);
    runtime.set_max_stack_size(STACK_BYTES_MAX);
    let context = Context::full(&runtime).map_err(start)?;
    context.with(|ctx| {
        let load =
            |code: &str| ctx.eval::<(), _>(code).catch(&ctx).map_err(|error| failed("charts", error.to_string()));
        load(PLACE_JS)?;
        load(ECHARTS_JS)?;
        load(CHARTS_JS)?;
        let mut files = Vec::new();
        let charts = document.sections.iter().flat_map(|section| &section.blocks);
        for chart in charts.filter_map(|block| if let Block::Chart(chart) = block { Some(chart) } else { None }) {
            for view in &chart.views {
                let name = chart.file(view) + ".svg";
                let text = draw(&ctx, &with_margin(&view.option).to_string(), chart.height);
                files.push((name, text.catch(&ctx).map_err(|error| failed(&chart.id, error.to_string()))?));
            }
        }
        Ok(files)
    })
}

/// The option with room to the left of grids that keep their labels inside: there are no fonts here to measure those
/// by, and most that they are shown in are wider than what is assumed then.
fn with_margin(option: &Value) -> Value {
    let mut option = option.clone();
    let keeps_inside = |grid: &&mut Value| grid["outerBoundsMode"] == "same";
    if let Some(grid) = option.get_mut("grid").filter(keeps_inside)
        && let Some(left) = grid["left"].as_u64()
    {
        grid["left"] = (left + MARGIN).into();
    }
    option
}

fn draw(ctx: &Ctx<'_>, option: &str, height: u32) -> rquickjs::Result<String> {
    let charts: Object<'_> = ctx.globals().get("hippodromeCharts")?;
    let to_svg: Function<'_> = charts.get("toSvg")?;
    to_svg.call((ctx.json_parse(option)?, "light", WIDTH, height))
}
