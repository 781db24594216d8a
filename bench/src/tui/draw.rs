//! How the dashboard looks. Says nothing by colour alone.

use hippodrome_analysis::summary::{count, time};
use hippodrome_engine::control::ReplicaReport;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, LineGauge, Paragraph, Row, Table};

use super::dashboard::{Dashboard, Watched};

/// Seconds that the charts go back.
const SECONDS_SHOWN: usize = 120;
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().add_modifier(Modifier::DIM);

/// Draws all of it. What does not fit is left out from the bottom.
pub(super) fn draw(frame: &mut Frame<'_>, dashboard: &Dashboard) {
    let rows = u16::try_from(dashboard.replicas.len()).unwrap_or(u16::MAX).saturating_add(3);
    let [head, charts, replicas, stages, events] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Min(8),
        Constraint::Length(rows),
        Constraint::Length(rows),
        Constraint::Length(6),
    ])
    .areas(frame.area());
    draw_head(frame, head, dashboard);
    let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(charts);
    draw_throughput(frame, left, dashboard);
    draw_latency(frame, right, dashboard);
    draw_replicas(frame, replicas, dashboard);
    draw_stages(frame, stages, dashboard);
    draw_events(frame, events, dashboard);
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, dashboard: &Dashboard) {
    let [title, gauge] = Layout::vertical([Constraint::Length(1), Constraint::Length(1)]).areas(area);
    let line = Line::from(vec![Span::styled(" hippodrome  ", BOLD), Span::raw(&dashboard.title)]);
    frame.render_widget(Paragraph::new(line), title);
    let label = format!(" {:<9} {:>4} s ", part(dashboard), dashboard.seconds.len());
    let gauge_widget = LineGauge::default()
        .ratio(dashboard.progress())
        .label(label)
        .filled_symbol("━")
        .unfilled_symbol("─")
        .filled_style(BOLD);
    frame.render_widget(gauge_widget, gauge);
}

/// Which part of the run is under way.
fn part(dashboard: &Dashboard) -> &'static str {
    let over = dashboard.seconds.len() as u64;
    let (warmup, measured) = dashboard.length_s;
    match over {
        0 => "starting",
        _ if over < warmup => "warm-up",
        _ if over < warmup + measured => "measured",
        _ => "drain",
    }
}

fn draw_throughput(frame: &mut Frame<'_>, area: Rect, dashboard: &Dashboard) {
    let points = points(dashboard, |second| second.operations as f64);
    let now = points.last().map_or(0.0, |(_, rate)| *rate);
    let title = format!(" Throughput  {} ops/s ", count(now));
    let series = [Dataset::default().data(&points).graph_type(GraphType::Line).marker(Marker::Braille)];
    draw_chart(frame, area, title, series.to_vec(), &[&points], &|rate| count(rate));
}

fn draw_latency(frame: &mut Frame<'_>, area: Rect, dashboard: &Dashboard) {
    let p50 = points(dashboard, |second| second.p50_us);
    let p99 = points(dashboard, |second| second.p99_us);
    let title = dashboard.seconds.last().map_or_else(
        || " Latency ".to_owned(),
        |last| format!(" Latency  p50 {}  p99 {}  max {} ", time(last.p50_us), time(last.p99_us), time(last.max_us)),
    );
    let line = |name, data, marker, color| {
        let style = Style::new().fg(color);
        Dataset::default().name(name).data(data).graph_type(GraphType::Line).marker(marker).style(style)
    };
    let series = vec![
        line("p50", p50.as_slice(), Marker::Braille, Color::Cyan),
        line("p99", p99.as_slice(), Marker::Dot, Color::Yellow),
    ];
    draw_chart(frame, area, title, series, &[&p50, &p99], &time);
}

/// The last seconds of the run as points of a chart.
#[allow(clippy::cast_precision_loss, reason = "seconds of one run")]
fn points(dashboard: &Dashboard, value: impl Fn(&hippodrome_analysis::series::Second) -> f64) -> Vec<(f64, f64)> {
    let from = dashboard.seconds.len().saturating_sub(SECONDS_SHOWN);
    dashboard.seconds[from..].iter().map(|second| (second.second as f64, value(second))).collect()
}

fn draw_chart(
    frame: &mut Frame<'_>,
    area: Rect,
    title: String,
    series: Vec<Dataset<'_>>,
    points: &[&[(f64, f64)]],
    label: &dyn Fn(f64) -> String,
) {
    let highest = points.iter().flat_map(|points| points.iter()).map(|(_, value)| *value).fold(0.0, f64::max);
    let top = if highest > 0.0 { highest * 1.1 } else { 1.0 };
    let first = points.iter().filter_map(|points| points.first()).map(|(at, _)| *at).fold(f64::MAX, f64::min);
    let last = points.iter().filter_map(|points| points.last()).map(|(at, _)| *at).fold(0.0, f64::max);
    let (first, last) = if first < last { (first, last) } else { (last - 1.0, last) };
    let chart = Chart::new(series)
        .block(Block::bordered().title(title).title_style(BOLD))
        .x_axis(Axis::default().bounds([first, last]).labels([format!("{first} s"), format!("{last} s")]).style(DIM))
        .y_axis(Axis::default().bounds([0.0, top]).labels(["0".to_owned(), label(top / 2.0), label(top)]).style(DIM));
    frame.render_widget(chart, area);
}

fn draw_replicas(frame: &mut Frame<'_>, area: Rect, dashboard: &Dashboard) {
    let head = ["replica", "role", "view", "executed", "stable", "ops/s", "batch", "cores", "memory", "state"];
    let widths = [9, 8, 6, 12, 12, 12, 7, 6, 9].map(Constraint::Length);
    let widths = widths.into_iter().chain([Constraint::Min(10)]);
    let primary = dashboard.primary();
    let rows = (0u16..).zip(&dashboard.replicas).map(|(id, replica)| {
        let cells = match &replica.report {
            Some(report) => cells(id, primary, report, replica),
            None => [id.to_string(), String::new(), String::new()]
                .into_iter()
                .chain((0..6).map(|_| String::new()))
                .chain([if replica.control.is_some() { "no answer" } else { "starting" }.to_owned()])
                .collect(),
        };
        let row = Row::new(cells);
        if primary == Some(id) { row.style(BOLD) } else { row }
    });
    let table = Table::new(rows, widths).header(Row::new(head).style(DIM)).block(Block::bordered().title(" Replicas "));
    frame.render_widget(table, area);
}

#[allow(clippy::cast_precision_loss, reason = "shown with fewer digits")]
fn cells(id: u16, primary: Option<u16>, report: &ReplicaReport, replica: &Watched) -> Vec<String> {
    let role = if primary == Some(id) { "primary" } else { "backup" };
    let rates = replica.rates;
    vec![
        id.to_string(),
        role.to_owned(),
        report.view.0.to_string(),
        count(report.executed_sequence.0 as f64),
        count(report.stable_checkpoint.0 as f64),
        count(rates.operations),
        format!("{:.1}", rates.requests_in_a_batch),
        format!("{:.2}", rates.cores),
        bytesize::ByteSize(report.resident_bytes).to_string(),
        state(report),
    ]
}

/// What is out of the ordinary, if anything is.
fn state(report: &ReplicaReport) -> String {
    if let Some(why) = &report.diverged {
        format!("DIVERGED: {why}")
    } else if let Some(why) = &report.left_behind {
        format!("left behind: {why}")
    } else if !report.active {
        "changes views".to_owned()
    } else if report.voting {
        "up".to_owned()
    } else {
        "follows without a vote".to_owned()
    }
}

fn draw_stages(frame: &mut Frame<'_>, area: Rect, dashboard: &Dashboard) {
    let reports = || dashboard.replicas.iter().map(|replica| replica.report.as_ref());
    let names: Vec<&str> = reports().flatten().next().map_or_else(Vec::new, stage_names);
    let rows = (0u16..).zip(reports()).map(|(id, report)| {
        let stages = report.into_iter().flat_map(|report| &report.stages);
        let cells = stages.map(|stage| match stage.queue_p99 {
            0 => format!("{:.0} %", stage.busy_percent),
            waiting => format!("{:.0} %  {waiting} waiting", stage.busy_percent),
        });
        Row::new(std::iter::once(id.to_string()).chain(cells))
    });
    let widths = std::iter::once(Constraint::Length(9)).chain(names.iter().map(|_| Constraint::Fill(1)));
    let head = Row::new(std::iter::once("replica").chain(names.iter().copied())).style(DIM);
    let title = " Stages: share of the time since the start that each worked, batches waiting (p99) ";
    frame.render_widget(Table::new(rows, widths).header(head).block(Block::bordered().title(title)), area);
}

fn stage_names(report: &ReplicaReport) -> Vec<&str> {
    report.stages.iter().map(|stage| stage.name.as_str()).collect()
}

fn draw_events(frame: &mut Frame<'_>, area: Rect, dashboard: &Dashboard) {
    let room = usize::from(area.height.saturating_sub(2));
    let from = dashboard.events.len().saturating_sub(room);
    let lines: Vec<Line<'_>> = dashboard.events[from..].iter().map(|event| Line::raw(event.trim_start())).collect();
    let keys = format!(" q stops the run  results in {} ", dashboard.directory);
    let block = Block::bordered().title(" Events ").title_bottom(keys);
    frame.render_widget(Paragraph::new(lines).block(block), area);
}
