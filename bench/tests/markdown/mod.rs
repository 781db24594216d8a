//! What stands in a document: code, headings, tables, options.

use std::collections::BTreeSet;

/// What stands between single backquotes, blocks of code left out.
pub(crate) fn quoted(text: &str) -> Vec<&str> {
    let prose = text.split("```").step_by(2);
    prose.flat_map(|part| part.split('`').skip(1).step_by(2)).collect()
}

/// Lines of blocks of code.
pub(crate) fn block_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split("```").skip(1).step_by(2).flat_map(str::lines)
}

/// All code: lines of blocks, and what stands between backquotes.
pub(crate) fn code(text: &str) -> Vec<&str> {
    block_lines(text).chain(quoted(text)).collect()
}

/// What headings are linked to by, as forges make it: lower case, hyphens for spaces, no punctuation.
pub(crate) fn anchors(text: &str) -> BTreeSet<String> {
    let prose = text.split("```").step_by(2).flat_map(str::lines);
    let headings = prose.filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, '-' | '_' | ' ');
    headings.map(|heading| heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")).collect()
}

/// Options (`--name`) in a text.
pub(crate) fn options(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let words = text.split(|c| !is_part(c));
    let is_option = |word: &&str| word.len() > 2 && word.starts_with("--") && !word[2..].starts_with('-');
    words.filter(is_option).map(str::to_owned).collect()
}

/// What stands between backquotes in the first column of the tables of which the first heading is `heading`.
pub(crate) fn first_column<'a>(text: &'a str, heading: &str) -> BTreeSet<&'a str> {
    let cell = |line: &'a str| line.strip_prefix("| ").and_then(|row| row.split(" |").next());
    let mut names = BTreeSet::new();
    let mut is_inside = false;
    for line in text.lines() {
        let cell = cell(line);
        is_inside = cell == Some(heading) || is_inside && line.starts_with('|');
        names.extend(cell.filter(|cell| is_inside && *cell != heading).map(quoted).unwrap_or_default());
    }
    names
}

/// The part of a page under a heading of the second level.
pub(crate) fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let start = text.find(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no section {heading}"));
    let rest = &text[start + 4..];
    &rest[..rest.find("\n## ").unwrap_or(rest.len())]
}

#[test]
fn first_columns_are_those_of_the_tables_that_are_meant() {
    let text = "| kind | `x` |\n|---|---|\n| `a`, `b` | `c` |\n\n`d`\n| name | |\n|---|---|\n| `e` | |\n| kind | |\n| `f` | |\n";
    assert_eq!(first_column(text, "kind"), BTreeSet::from(["a", "b", "f"]));
    assert_eq!(first_column(text, "none"), BTreeSet::new());
    assert_eq!(section("# A\n## B\nb\n## C\nc\n", "B"), "B\nb");
}
