//! What a page says, apart from how it looks: the same document becomes HTML, Markdown and CSV.

use serde_json::Value;

/// A page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// What kind of result it is about: `Run`, `Sweep`, ..
    pub kind: String,
    /// Its name.
    pub title: String,
    /// Whether the figures may be used.
    pub valid: bool,
    /// What may be concluded, in a word each.
    pub verdicts: Vec<Badge>,
    /// What speaks against it, in words.
    pub reasons: Vec<String>,
    /// What was done, in one sentence or two.
    pub sentence: String,
    /// The figures that everybody asks for.
    pub figures: Vec<Figure>,
    /// What `--csv` writes: column names fit for programs, a row for each run or point.
    pub rows: Table,
    /// Everything else, in order.
    pub sections: Vec<Section>,
}

/// A verdict: `VALID`, `INVALID`, `GREEN`, ..
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Badge {
    /// The word.
    pub word: String,
    /// What it means.
    pub meaning: String,
    /// What news it is.
    pub look: Look,
}

/// How a verdict looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Look {
    /// Good news.
    Good,
    /// Neither: nothing is wrong, and nothing was shown.
    #[default]
    Neutral,
    /// Bad news.
    Bad,
}

impl Look {
    /// Of what is either good or bad.
    pub(super) const fn good_if(good: bool) -> Self {
        if good { Self::Good } else { Self::Bad }
    }

    /// Its name in the style sheet.
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Neutral => "neutral",
            Self::Bad => "bad",
        }
    }
}

/// One of the figures at the top.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figure {
    /// What is measured.
    pub label: String,
    /// The figure.
    pub value: Cell,
    /// What to know about it: interval, unit, parts.
    pub remark: String,
}

/// A part of a page under a heading.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Section {
    /// Its heading.
    pub title: String,
    /// What it consists of.
    pub blocks: Vec<Block>,
}

impl Section {
    /// A section without any blocks.
    pub(super) fn new(title: &str) -> Self {
        Self { title: title.to_owned(), blocks: Vec::new() }
    }

    /// With a block more.
    pub(super) fn with(mut self, block: Block) -> Self {
        self.blocks.push(block);
        self
    }
}

/// A part of a section.
#[derive(Clone, Debug, PartialEq)]
pub enum Block {
    /// A paragraph.
    Text(String),
    /// A list of remarks.
    Notes(Vec<String>),
    /// A chart with its table.
    Chart(Chart),
    /// A table.
    Table(Table),
    /// A table that is shown when asked for, by this label.
    Folded(String, Table),
    /// Files beside the page: each a link and what it holds.
    Files(Vec<(String, String)>),
}

/// A chart: pictures of which one is shown at a time, in words, and as figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chart {
    /// Unique in the page; files are named by it.
    pub id: String,
    /// What it shows.
    pub title: String,
    /// The outcome in a sentence, for who can not see it.
    pub says: String,
    /// How to read it, for who has never seen such a chart.
    pub how: String,
    /// Height, pixels.
    pub height: u32,
    /// The pictures, at least one.
    pub views: Vec<View>,
    /// The figures behind it.
    pub table: Table,
}

/// One picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// What tells it from the others of its chart.
    pub label: String,
    /// Added to the chart's id to name a file; empty for the only view.
    pub suffix: String,
    /// The option object of ECharts; see `analysis/assets/page/charts.js` for strings that begin with `@`.
    pub option: Value,
}

impl Chart {
    /// The name of a view's file without its ending.
    pub(super) fn file(&self, view: &View) -> String {
        if view.suffix.is_empty() { self.id.clone() } else { format!("{}-{}", self.id, view.suffix) }
    }
}

/// A table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// What it is about; may be empty.
    pub caption: String,
    /// Headings of the columns; the first column names the row.
    pub columns: Vec<String>,
    /// As many cells each as there are columns.
    pub rows: Vec<Vec<Cell>>,
    /// Which rows must not be used, by their place.
    pub bad: Vec<usize>,
}

impl Table {
    /// A table of these columns, without rows.
    pub(super) fn new(caption: &str, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|&name| name.to_owned()).collect();
        Self { caption: caption.to_owned(), columns, ..Self::default() }
    }

    /// Adds a row.
    pub(super) fn push(&mut self, row: Vec<Cell>) {
        assert_eq!(row.len(), self.columns.len(), "{}: a cell for each column", self.caption);
        self.rows.push(row);
    }
}

/// A cell of a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Cell {
    /// Not measured, or not to be told.
    #[default]
    Nothing,
    /// Words.
    Text(String),
    /// A number, as it is and as it is shown.
    Number(f64, String),
    /// Words that lead to another file.
    Link(String, String),
}

impl Cell {
    /// Words.
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A number, shown by `show`; nothing if it is none.
    pub(crate) fn number(value: impl Into<Option<f64>>, show: impl Fn(f64) -> String) -> Self {
        match value.into() {
            Some(value) if value.is_finite() => Self::Number(value, show(value)),
            _ => Self::Nothing,
        }
    }

    /// A time of so many µs.
    pub(super) fn us(value: impl Into<Option<f64>>) -> Self {
        Self::number(value, crate::summary::time)
    }

    /// A whole number.
    pub(super) fn count(value: impl Into<Option<f64>>) -> Self {
        Self::number(value, crate::summary::count)
    }

    /// A whole number.
    #[allow(clippy::cast_precision_loss, reason = "shown in full up to 2^53")]
    pub(super) fn whole(value: u64) -> Self {
        Self::count(value as f64)
    }

    /// A share of a hundred.
    pub(super) fn percent(value: impl Into<Option<f64>>) -> Self {
        Self::number(value, |value| format!("{value:.1} %"))
    }

    /// As it is shown.
    #[must_use]
    pub fn shown(&self) -> &str {
        match self {
            Self::Nothing => "",
            Self::Text(text) | Self::Number(_, text) | Self::Link(text, _) => text,
        }
    }
}
