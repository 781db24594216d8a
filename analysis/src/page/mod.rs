//! Results as pages for people: one HTML file that opens anywhere, and Markdown, CSV and SVG files of the same.
//!
//! [document] says what is on a page apart from how it looks; `run` makes one from the files of a run, `sweep`,
//! `comparison` and `search` from those of many runs, with charts made of `option`s for Apache ECharts and of the
//! figures that are `shown` for many runs. `html` and `text` write it down; `svg` draws its charts
//! without a browser. Nothing but result files goes in, and the page loads nothing: its code, style and figures are
//! within it.

use std::path::Path;

use serde_json::Value;

use crate::results::{self, Kind, ResultsError};

mod comparison;
pub mod document;
mod html;
mod option;
mod run;
mod search;
mod svg;
mod sweep;
mod text;

pub use html::html;
pub use svg::{DrawError, svgs};
pub use text::{csv, markdown};

use document::Document;

/// Apache ECharts with what the charts use of it; made by `analysis/assets/echarts/renew.sh`.
const ECHARTS_JS: &str = include_str!("../../assets/echarts/echarts.min.js");
/// Colours, formats and drawing, for browsers and for [svgs].
const CHARTS_JS: &str = include_str!("../../assets/page/charts.js");

/// What a page is made from besides the files of a directory.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// What the settings are where nobody chose any, named as in `config` of `report.json`: the others are shown first.
    pub defaults: Value,
    /// How the page gets to the directory: empty if it lies there, else a relative path that ends with `/`.
    pub files_at: String,
}

/// The page of a results directory, from its files alone.
///
/// # Errors
/// Names the file that is missing or can not be read.
pub fn read(directory: &Path, context: &Context) -> Result<Document, ResultsError> {
    match results::kind(directory)? {
        Kind::Run => run::document(directory, context),
        Kind::Sweep => sweep::document(directory, context),
        Kind::Comparison => comparison::document(directory, context),
        Kind::Search => search::document(directory, context),
    }
}

/// Makes the page of a results directory and writes it there as [`results::PAGE`].
///
/// # Errors
/// Names the file that can not be read or written.
pub fn write(directory: &Path, context: &Context) -> Result<(), ResultsError> {
    let document = read(directory, context)?;
    results::write(directory, results::PAGE, &html(&document))
}
