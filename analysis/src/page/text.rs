//! A document for papers and pull requests (Markdown), and for programs (CSV).

use std::fmt::Write as _;

use super::document::{Block, Cell, Document, Table};

/// Tables with more rows than this are for machines: Markdown leaves them out.
const ROWS_MAX: usize = 64;

/// The document as Markdown: verdict, figures and tables, those of the charts included.
#[must_use]
pub fn markdown(document: &Document) -> String {
    let mut text = format!("## {}\n\n", one_line(&document.title));
    for badge in &document.verdicts {
        let _ = writeln!(text, "**{}** {}\n", one_line(&badge.word), one_line(&badge.meaning));
    }
    list(&mut text, &document.reasons);
    let _ = writeln!(text, "{}\n", one_line(&document.sentence));
    let mut figures = Table::new("", &["figure", "value", "remark"]);
    for figure in &document.figures {
        let remark = Cell::text(figure.remark.clone());
        figures.push(vec![Cell::text(figure.label.clone()), figure.value.clone(), remark]);
    }
    table(&mut text, &figures);
    for section in &document.sections {
        let mut part = String::new();
        for block in &section.blocks {
            match block {
                Block::Text(words) => {
                    let _ = writeln!(part, "{}\n", one_line(words));
                }
                Block::Notes(notes) => list(&mut part, notes),
                Block::Chart(chart) if chart.table.rows.len() <= ROWS_MAX => {
                    let _ = writeln!(part, "**{}**\n", one_line(&chart.title));
                    table(&mut part, &chart.table);
                }
                Block::Table(rows) => table(&mut part, rows),
                Block::Chart(_) | Block::Folded(..) | Block::Files(_) => {}
            }
        }
        if !part.is_empty() {
            let _ = write!(text, "### {}\n\n{part}", one_line(&section.title));
        }
    }
    text
}

/// The document's rows as comma-separated values with a header line (RFC 4180, but with plain line feeds).
#[must_use]
pub fn csv(document: &Document) -> String {
    let mut text = String::new();
    let names = document.rows.columns.iter().map(|name| quoted(name)).collect::<Vec<_>>();
    let _ = writeln!(text, "{}", names.join(","));
    for row in &document.rows.rows {
        let cells = row.iter().map(|cell| match cell {
            Cell::Nothing => String::new(),
            Cell::Number(value, _) => value.to_string(),
            Cell::Text(words) | Cell::Link(words, _) => quoted(words),
        });
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join(","));
    }
    text
}

fn list(text: &mut String, items: &[String]) {
    for item in items {
        let _ = writeln!(text, "- {}", one_line(item));
    }
    if !items.is_empty() {
        text.push('\n');
    }
}

fn table(text: &mut String, table: &Table) {
    if table.rows.is_empty() {
        return;
    }
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    text.push_str(&line(table.columns.iter().map(|name| in_table(name)).collect()));
    let is_number = |column: usize| table.rows.iter().any(|row| matches!(row[column], Cell::Number(..)));
    let rule = (0..table.columns.len()).map(|column| if is_number(column) { "--:" } else { "---" });
    let _ = writeln!(text, "|{}|", rule.collect::<Vec<_>>().join("|"));
    for row in &table.rows {
        text.push_str(&line(row.iter().map(|cell| in_table(cell.shown())).collect()));
    }
    text.push('\n');
}

/// Markdown takes some characters for marks, and HTML in it for HTML.
fn one_line(text: &str) -> String {
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    flat.replace('&', "&amp;").replace('<', "&lt;").replace('*', "\\*").replace('`', "\\`")
}

fn in_table(text: &str) -> String {
    one_line(text).replace('|', "\\|")
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::document::{Badge, Figure, Look, Section};

    fn document() -> Document {
        let mut rows = Table::new("", &["name", "ops_per_s", "p99_us"]);
        rows.push(vec![Cell::text("a \"b\", c"), Cell::count(1234.5), Cell::Nothing]);
        let mut long = Table::new("", &["x"]);
        (0..=ROWS_MAX).for_each(|_| long.push(vec![Cell::whole(7)]));
        let chart = |table: &Table| {
            Block::Chart(crate::page::document::Chart { title: "T".into(), table: table.clone(), ..Default::default() })
        };
        let mut words = Table::new("", &["words"]);
        words.push(vec![Cell::text("a|b <i>\nc")]);
        Document {
            title: "A run".into(),
            verdicts: vec![Badge { word: "VALID".into(), meaning: "usable".into(), look: Look::Good }],
            sentence: "What was run.".into(),
            figures: vec![Figure { label: "p50".into(), value: Cell::us(1500.0), remark: String::new() }],
            sections: vec![Section::new("S").with(chart(&long)).with(chart(&words)), Section::new("Empty")],
            rows,
            ..Document::default()
        }
    }

    #[test]
    fn markdown_has_the_figures_and_short_tables() {
        let expected = "## A run\n\n**VALID** usable\n\nWhat was run.\n\n| figure | value | remark |\n|---|--:|---|\n\
                        | p50 | 1.50 ms |  |\n\n### S\n\n**T**\n\n| words |\n|---|\n| a\\|b &lt;i> c |\n\n";
        assert_eq!(markdown(&document()), expected);
    }

    #[test]
    fn csv_has_numbers_in_full_and_quotes_words() {
        assert_eq!(csv(&document()), "name,ops_per_s,p99_us\n\"a \"\"b\"\", c\",1234.5,\n");
    }
}
