//! Pages in a real browser: `cargo test -p hippodrome --test page -- --ignored`, with Chromium on PATH or named by
//! `HIPPODROME_CHROMIUM`. With `HIPPODROME_SCREENSHOTS=FOLDER` it leaves a picture of each page there.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

mod browser;
mod common;

use browser::{Browser, Look};
use common::{Run, hippodrome, outcome};

const LOOKS: [Look; 3] = [
    Look { name: "light", width: 1200, is_dark: false },
    Look { name: "dark", width: 1200, is_dark: true },
    Look { name: "phone", width: 390, is_dark: false },
];

/// What a page says of itself once its charts are drawn.
const SURVEY: &str = r#"(() => {
  const charts = JSON.parse(document.getElementById('charts').textContent);
  const plots = [...document.querySelectorAll('.plot')].map((plot) => {
    const svg = plot.querySelector('svg');
    const box = svg ? svg.getBoundingClientRect() : { width: 0, height: 0 };
    const name = plot.getAttribute('aria-labelledby').split(' ').map((id) => document.getElementById(id).textContent);
    return { id: plot.id, width: box.width, height: box.height, shapes: svg ? svg.querySelectorAll('path').length : 0,
      texts: svg ? [...svg.querySelectorAll('text')].map((text) => text.textContent) : [], name: name.join(' ') };
  });
  const exported = charts.flatMap((chart) => chart.views.map((view) => hippodromeCharts.toSvg(view.option, 'light', 860, 400)));
  const luminance = (colour) => {
    const [r, g, b] = colour.match(/\d+/g).map(Number);
    return (0.2126 * r + 0.7152 * g + 0.0722 * b) / 255;
  };
  const wide = [...document.querySelectorAll('body *')].filter((element) =>
    !element.closest('.scroll') && !element.closest('svg') && element.getBoundingClientRect().right > innerWidth + 1);
  return {
    charts: charts.length,
    plots,
    exported: exported.map((text) => text.length),
    odd: [document.body.innerText, ...exported].join(' ').match(/@fn:|@c\d|\bNaN\b|undefined|\[object/g) || [],
    overflow: document.documentElement.scrollWidth - innerWidth,
    wide: wide.map((element) => element.outerHTML.slice(0, 120)),
    background: luminance(getComputedStyle(document.body).backgroundColor),
    text: luminance(getComputedStyle(document.body).color),
    headings: [...document.querySelectorAll('h1, h2, h3, h4')].map((heading) => Number(heading.tagName[1])),
    ids: [...document.querySelectorAll('[id]')].map((element) => element.id),
    lang: document.documentElement.lang,
    links: [...document.querySelectorAll('a[href]')].map((link) => link.getAttribute('href')),
    figures: Object.fromEntries([...document.querySelectorAll('.figures > div')].map((figure) =>
      [figure.querySelector('dt').textContent, Number((figure.querySelector('data') || {}).value)])),
    verdict: document.querySelector('.verdict b').textContent,
  };
})()"#;

/// Shows every other picture of each chart; tells how many shapes each has.
const SWITCH: &str = r"[...document.querySelectorAll('.views button')].map((button) => {
  button.click();
  return button.closest('figure').querySelectorAll('.plot svg path').length;
})";

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../analysis/testdata/pages")
}

/// Looks at a page in every way, and hands on what it says of itself.
fn inspect(browser: &mut Browser, name: &str, page: &Path) -> Value {
    let mut last = Value::Null;
    for look in LOOKS {
        let what = format!("{name}, {}", look.name);
        browser.open(page, look);
        let survey = browser.evaluate(SURVEY);
        if let Some(folder) = std::env::var_os("HIPPODROME_SCREENSHOTS") {
            let file = Path::new(&folder).join(format!("{name}-{}.png", look.name));
            fs::write(file, browser.screenshot()).unwrap();
        }
        let plots = survey["plots"].as_array().unwrap();
        assert!(!plots.is_empty() && survey["charts"] == plots.len(), "{what}: {survey}");
        for plot in plots {
            let size = |side: &str| plot[side].as_f64().unwrap();
            assert!(size("width") > 250.0 && size("height") > 90.0, "{what}: {plot}");
            assert!(plot["shapes"].as_u64().unwrap() > 5, "{what}: nothing is drawn: {plot}");
            assert!(!plot["texts"].as_array().unwrap().is_empty(), "{what}: no axis has labels: {plot}");
            assert!(plot["name"].as_str().unwrap().len() > 20, "{what}: not told to who can not see: {plot}");
        }
        let exported = survey["exported"].as_array().unwrap();
        assert!(exported.iter().all(|length| length.as_u64().unwrap() > 1000), "{what}: {exported:?}");
        assert_eq!(survey["odd"], serde_json::json!([]), "{what}");
        assert!(survey["overflow"].as_f64().unwrap() <= 0.0, "{what}: it scrolls sideways: {}", survey["wide"]);
        assert_eq!(survey["wide"], serde_json::json!([]), "{what}: beyond the edge");
        let (background, text) = (survey["background"].as_f64().unwrap(), survey["text"].as_f64().unwrap());
        let is_dark = background < 0.2 && text > 0.7;
        let is_light = background > 0.9 && text < 0.3;
        assert!(if look.is_dark { is_dark } else { is_light }, "{what}: {background} under {text}");
        assert_eq!(survey["lang"], "en", "{what}");
        let shapes = browser.evaluate(SWITCH);
        assert!(shapes.as_array().unwrap().iter().all(|shapes| shapes.as_u64().unwrap() > 5), "{what}: {shapes}");
        assert_eq!(browser.complaints(), [""; 0], "{what}");
        assert_eq!(browser.requests(page), [""; 0], "{what}");
        last = survey;
    }
    assert_well_formed(name, &last);
    last
}

/// Headings in order, ids that are unique.
fn assert_well_formed(name: &str, survey: &Value) {
    let headings: Vec<u64> =
        survey["headings"].as_array().unwrap().iter().map(|level| level.as_u64().unwrap()).collect();
    assert_eq!(headings.iter().filter(|level| **level == 1).count(), 1, "{name}: {headings:?}");
    assert!(headings[0] == 1 && headings.windows(2).all(|pair| pair[1] <= pair[0] + 1), "{name}: {headings:?}");
    let mut ids: Vec<&str> = survey["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "{name}: ids are not unique: {ids:?}");
}

/// Every link leads to a file beside the page, or within it.
fn assert_links(name: &str, survey: &Value, directory: &Path) {
    for link in survey["links"].as_array().unwrap() {
        let link = link.as_str().unwrap();
        match link.strip_prefix('#') {
            Some(id) => assert!(survey["ids"].as_array().unwrap().contains(&id.into()), "{name}: {link}"),
            None => assert!(directory.join(link).exists(), "{name}: {link}"),
        }
    }
}

fn assert_figures(name: &str, survey: &Value, report: &Value) {
    let expected = [
        ("Throughput", &report["throughput"]["ops_per_s"]),
        ("Latency, p50", &report["latency_us"]["p50"]),
        ("Latency, p99", &report["latency_us"]["p99"]),
        ("Latency, p99.9", &report["latency_us"]["p99_9"]),
        ("CPU per operation", &report["cpu"]["us_per_op_total"]),
    ];
    for (label, value) in expected {
        assert_eq!(survey["figures"][label].as_f64(), value.as_f64(), "{name}: {label}: {}", survey["figures"]);
    }
    let word = if report["verdict"]["valid"] == true { "VALID" } else { "INVALID" };
    assert_eq!(survey["verdict"], word, "{name}");
}

#[test]
#[ignore = "needs Chromium: cargo test -p hippodrome --test page -- --ignored"]
fn pages_of_every_kind_draw_in_a_browser() {
    let mut browser = Browser::start();
    let mut seen = 0;
    for entry in fs::read_dir(fixtures()).unwrap() {
        let directory = entry.unwrap().path();
        let name = directory.file_name().unwrap().to_string_lossy().into_owned();
        let out = tempfile::tempdir().unwrap();
        let arguments = ["report", directory.to_str().unwrap(), "--html", "page.html"];
        let (code, _, stderr) = outcome(&hippodrome(out.path(), &arguments).output().unwrap());
        assert!(matches!(code, Some(0 | 1 | 4)), "{name}: {code:?}: {stderr}");
        let page = out.path().join("page.html");
        let survey = inspect(&mut browser, &name, &page);
        if directory.join("report.json").exists() {
            let report = fs::read_to_string(directory.join("report.json")).unwrap();
            assert_figures(&name, &survey, &serde_json::from_str(&report).unwrap());
            assert_links(&name, &survey, out.path());
        }
        seen += 1;
    }
    assert!(seen > 2, "{seen} kinds of pages");
}

#[test]
#[ignore = "needs Chromium: cargo test -p hippodrome --test page -- --ignored"]
fn a_run_leaves_a_page_that_says_what_its_report_says() {
    let finished = Run::start(&["--duration", "4s"]).finish();
    let directory = finished.directory.path().join("out");
    let mut browser = Browser::start();
    let survey = inspect(&mut browser, "fresh", &directory.join("report.html"));
    assert_figures("fresh", &survey, &finished.report);
    assert_links("fresh", &survey, &directory);
    assert!(survey["links"].as_array().unwrap().iter().any(|link| link == "report.json"), "{}", survey["links"]);
}
