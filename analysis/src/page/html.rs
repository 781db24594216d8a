//! A document as one HTML file that needs no other: style, charts and the code that draws them are in it.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::document::{Block, Cell, Chart, Document, Section, Table};
use super::{CHARTS_JS, ECHARTS_JS};

const STYLE: &str = include_str!("../../assets/page/page.css");
const PAGE_JS: &str = include_str!("../../assets/page/page.js");

/// Nothing is loaded from anywhere, whatever the text of a result says.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; \
                      base-uri 'none'; form-action 'none'";

/// The page.
#[must_use]
pub fn html(document: &Document) -> String {
    let mut page = Page { text: String::with_capacity(ECHARTS_JS.len() + 200_000), charts: Vec::new() };
    page.head(document);
    page.top(document);
    page.put("<main id=\"content\">\n");
    for section in &document.sections {
        page.section(section);
    }
    page.put("</main>\n");
    page.foot();
    page.text
}

struct Page {
    text: String,
    charts: Vec<Value>,
}

impl Page {
    fn put(&mut self, html: &str) {
        self.text.push_str(html);
    }

    fn head(&mut self, document: &Document) {
        let title = escaped(&document.title);
        let _ = write!(
            self.text,
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"generator\" content=\"Hippodrome\">\n\
             <title>{title} - Hippodrome</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>\n{STYLE}</style>\n\
             </head>\n<body>\n<a class=\"skip\" href=\"#content\">Skip to the charts</a>\n"
        );
    }

    /// Name, verdict, the sentence and the figures, and what leads to the sections.
    fn top(&mut self, document: &Document) {
        let (kind, title) = (escaped(&document.kind), escaped(&document.title));
        let _ = write!(self.text, "<header>\n<p class=\"kind\">Hippodrome: {kind}</p>\n<h1>{title}</h1>\n");
        self.put("<div class=\"verdicts\">\n");
        for badge in &document.verdicts {
            let (class, word, meaning) = (badge.look.class(), escaped(&badge.word), escaped(&badge.meaning));
            let _ = writeln!(self.text, "<div class=\"verdict {class}\"><b>{word}</b>{meaning}</div>");
        }
        self.put("</div>\n");
        if !document.reasons.is_empty() {
            self.list("reasons", &document.reasons);
        }
        let _ = writeln!(self.text, "<p class=\"sentence\">{}</p>", escaped(&document.sentence));
        self.put("<dl class=\"figures\">\n");
        for figure in &document.figures {
            let (label, value, remark) = (escaped(&figure.label), cell(&figure.value), escaped(&figure.remark));
            let _ = writeln!(
                self.text,
                "<div><dt>{label}</dt><dd><div class=\"value\">{value}</div><div class=\"remark\">{remark}</div></dd></div>"
            );
        }
        self.put("</dl>\n</header>\n<nav aria-label=\"Sections\"><ul>\n");
        for section in &document.sections {
            let _ =
                writeln!(self.text, "<li><a href=\"#{}\">{}</a></li>", anchor(&section.title), escaped(&section.title));
        }
        self.put("</ul></nav>\n");
    }

    fn section(&mut self, section: &Section) {
        let (id, title) = (anchor(&section.title), escaped(&section.title));
        let _ = writeln!(self.text, "<section aria-labelledby=\"{id}\">\n<h2 id=\"{id}\">{title}</h2>");
        for block in &section.blocks {
            match block {
                Block::Text(text) => {
                    let _ = writeln!(self.text, "<p>{}</p>", escaped(text));
                }
                Block::Notes(notes) => self.list("notes", notes),
                Block::Chart(chart) => self.chart(chart),
                Block::Table(table) => self.table(table),
                Block::Folded(label, table) => self.folded(label, table),
                Block::Files(files) => {
                    self.put("<ul class=\"files\">\n");
                    for (link, holds) in files {
                        let (target, link) = (address(link), escaped(link.trim_end_matches('/')));
                        let name = link.rsplit('/').next().unwrap_or(&link);
                        let _ = writeln!(self.text, "<li><a href=\"{target}\">{name}</a>: {}</li>", escaped(holds));
                    }
                    self.put("</ul>\n");
                }
            }
        }
        self.put("</section>\n");
    }

    fn list(&mut self, class: &str, items: &[String]) {
        let _ = writeln!(self.text, "<ul class=\"{class}\">");
        for item in items {
            let _ = writeln!(self.text, "<li>{}</li>", escaped(item));
        }
        self.put("</ul>\n");
    }

    fn chart(&mut self, chart: &Chart) {
        let (id, title) = (escaped(&element(chart)), escaped(&chart.title));
        let _ = write!(
            self.text,
            "<figure>\n<div class=\"top\"><h3 id=\"{id}-title\">{title}</h3>\
             <button type=\"button\" class=\"save\" aria-label=\"Save as SVG: {title}\">Save as SVG</button></div>\n"
        );
        if chart.views.len() > 1 {
            let _ = write!(self.text, "<div class=\"views\" role=\"group\" aria-label=\"{title}: shown\">");
            for (index, view) in chart.views.iter().enumerate() {
                let (pressed, label) = (index == 0, escaped(&view.label));
                let _ = write!(self.text, "<button type=\"button\" aria-pressed=\"{pressed}\">{label}</button>");
            }
            self.put("</div>\n");
        }
        let _ = write!(
            self.text,
            "<div class=\"plot\" id=\"{id}\" style=\"height:{}px\" role=\"img\" aria-labelledby=\"{id}-title {id}-says\">\
             <noscript>Charts need JavaScript; the figures are in the table below.</noscript></div>\n\
             <figcaption><span id=\"{id}-says\">{}</span> <b>How to read this:</b> {}</figcaption>\n",
            chart.height,
            escaped(&chart.says),
            escaped(&chart.how)
        );
        self.folded("The figures as a table", &chart.table);
        self.put("</figure>\n");
        let views = chart.views.iter().map(|view| json!({ "option": view.option, "file": chart.file(view) + ".svg" }));
        self.charts.push(json!({ "id": element(chart), "views": views.collect::<Vec<_>>() }));
    }

    fn folded(&mut self, label: &str, table: &Table) {
        let _ = writeln!(self.text, "<details><summary>{}</summary>", escaped(label));
        self.table(table);
        self.put("</details>\n");
    }

    /// Wide tables scroll by themselves, so that the page never does.
    fn table(&mut self, table: &Table) {
        let numeric = |column: usize| {
            let mut cells = table.rows.iter().map(|row| &row[column]).filter(|cell| **cell != Cell::Nothing).peekable();
            cells.peek().is_some() && cells.all(|cell| matches!(cell, Cell::Number(..)))
        };
        let classes: Vec<&str> =
            (0..table.columns.len()).map(|column| if numeric(column) { "number" } else { "text" }).collect();
        let caption = escaped(&table.caption);
        let label = if caption.is_empty() { "Table".to_owned() } else { caption.clone() };
        let _ =
            write!(self.text, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{label}\"><table>");
        if !caption.is_empty() {
            let _ = write!(self.text, "<caption>{caption}</caption>");
        }
        self.put("<thead><tr>");
        for (name, class) in table.columns.iter().zip(&classes) {
            let _ = write!(self.text, "<th scope=\"col\" class=\"{class}\">{}</th>", escaped(name));
        }
        self.put("</tr></thead>\n<tbody>\n");
        for (index, row) in table.rows.iter().enumerate() {
            self.put(if table.bad.contains(&index) { "<tr class=\"bad\">" } else { "<tr>" });
            for (column, (value, class)) in row.iter().zip(&classes).enumerate() {
                let value = cell(value);
                let _ = match column {
                    0 => write!(self.text, "<th scope=\"row\" class=\"{class}\">{value}</th>"),
                    _ => write!(self.text, "<td class=\"{class}\">{value}</td>"),
                };
            }
            self.put("</tr>\n");
        }
        self.put("</tbody></table></div>\n");
    }

    fn foot(&mut self) {
        let version = env!("CARGO_PKG_VERSION");
        let _ = write!(
            self.text,
            "<footer><p>Made by Hippodrome {version} from the files beside it. Charts: Apache ECharts \
             (Apache-2.0) and zrender (BSD-3-Clause), within this file.</p></footer>\n\
             <script type=\"application/json\" id=\"charts\">{}</script>\n<script>\n{ECHARTS_JS}</script>\n\
             <script>\n{CHARTS_JS}{PAGE_JS}</script>\n</body>\n</html>\n",
            data(&Value::Array(std::mem::take(&mut self.charts)))
        );
    }
}

/// A cell; numbers carry their full value.
fn cell(cell: &Cell) -> String {
    match cell {
        Cell::Nothing => "<span aria-label=\"none\">-</span>".to_owned(),
        Cell::Text(text) => escaped(text),
        Cell::Number(value, shown) => format!("<data value=\"{value}\">{}</data>", escaped(shown)),
        Cell::Link(text, target) => format!("<a href=\"{}\">{}</a>", address(target), escaped(text)),
    }
}

/// Text for HTML, in elements and between double quotes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// JSON for a script element: nothing in a string can end the element or begin a comment.
fn data(value: &Value) -> String {
    value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// A relative path as an address: everything but letters, digits and what paths need is encoded, so that no name of a
/// file is taken for a scheme or a query.
fn address(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'~' => out.push(char::from(byte)),
            byte => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// The id of the element that a chart is drawn into.
fn element(chart: &Chart) -> String {
    format!("chart-{}", chart.id)
}

/// What a heading is linked to by.
fn anchor(title: &str) -> String {
    let word = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    title.chars().map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::document::{Badge, Look, View};

    #[test]
    fn nothing_in_a_result_becomes_markup_or_code() {
        let evil = "</script><script>alert(1)</script><!-- \" ' & <img src=x onerror=alert(1)>";
        let mut table = Table::new(evil, &[evil, "n"]);
        table.push(vec![Cell::Link(evil.into(), "javascript:alert(1)//\"".into()), Cell::Number(1.0, evil.into())]);
        let option = json!({ "series": [{ "name": evil, "data": [evil] }] });
        let chart = Chart {
            id: "x".into(),
            title: evil.into(),
            says: evil.into(),
            how: evil.into(),
            views: vec![View { label: evil.into(), option, ..View::default() }, View::default()],
            table: table.clone(),
            ..Chart::default()
        };
        let document = Document {
            title: evil.into(),
            sentence: evil.into(),
            verdicts: vec![Badge { word: evil.into(), meaning: evil.into(), look: Look::Bad }],
            reasons: vec![evil.into()],
            sections: vec![
                Section::new(evil)
                    .with(Block::Text(evil.into()))
                    .with(Block::Notes(vec![evil.into()]))
                    .with(Block::Chart(chart))
                    .with(Block::Folded(evil.into(), table))
                    .with(Block::Files(vec![(evil.into(), evil.into())])),
            ],
            ..Document::default()
        };
        let text = html(&document);
        assert_eq!(text.matches("<script").count(), 3, "the page's own alone");
        assert_eq!(text.matches("</script>").count(), 3);
        assert!(!text.contains("<img") && !text.contains("<!--") && !text.contains("href=\"javascript:"));
        assert!(text.contains("&lt;img src=x onerror=alert(1)&gt;"));
        let json = text.split("id=\"charts\">").nth(1).unwrap().split("</script>").next().unwrap();
        let read: Value = serde_json::from_str(json).unwrap();
        assert_eq!(read[0]["views"][0]["option"]["series"][0]["name"], evil, "what was escaped reads back");
    }

    #[test]
    fn code_that_is_embedded_can_not_end_its_element() {
        for code in [ECHARTS_JS, CHARTS_JS, PAGE_JS] {
            assert!(!code.to_lowercase().contains("</script") && !code.contains("<!--"));
        }
        assert!(!STYLE.contains("</") && !STYLE.contains("url(") && !STYLE.contains("@import"));
    }
}
