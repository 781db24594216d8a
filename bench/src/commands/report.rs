//! `hippodrome report`.

use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;
use hippodrome_analysis::page::{self, document::Document};
use hippodrome_analysis::results::{self, Kind};

use super::{compare, search};
use crate::cli::report::ReportArgs;
use crate::failure::Failure;
use crate::output;

/// Prints a results directory again, or writes what else is asked for.
pub(crate) fn run(arguments: &ReportArgs) -> Result<(), Failure> {
    let directory = &arguments.directory;
    let writes = arguments.html.is_some() || arguments.svg.is_some();
    if writes || arguments.markdown || arguments.csv {
        let is_valid = make(arguments)?;
        if !arguments.json {
            return if is_valid { Ok(()) } else { Err(Failure::Invalid) };
        }
    }
    match results::kind(directory).map_err(Failure::usage)? {
        Kind::Run => {
            let report = results::read_report(directory).map_err(Failure::usage)?;
            output::verdict(&report, &directory.display().to_string(), arguments.json)
        }
        Kind::Sweep => {
            let sweep = results::read_sweep(directory).map_err(Failure::usage)?;
            output::sweep(&sweep, directory, arguments.json)
        }
        Kind::Comparison => {
            let comparison = results::read_comparison(directory).map_err(Failure::usage)?;
            compare::conclude(&comparison, Some(directory), arguments.json)
        }
        Kind::Search => {
            let search = results::read_search(directory).map_err(Failure::usage)?;
            search::conclude(&search, directory, arguments.json)
        }
    }
}

/// Writes and prints what is made of the page. Tells whether the figures may be used.
fn make(arguments: &ReportArgs) -> Result<bool, Failure> {
    let directory = &arguments.directory;
    let document = |files_at| page::read(directory, &output::page_context(files_at)).map_err(Failure::usage);
    if let Some(file) = &arguments.html {
        let document = document(way(file.parent().unwrap_or(Path::new("")), directory)?)?;
        std::fs::write(file, page::html(&document)).with_context(|| file.display().to_string())?;
    }
    let document = document(String::new())?;
    if let Some(folder) = &arguments.svg {
        draw(&document, folder)?;
    }
    if arguments.markdown {
        output::print(&page::markdown(&document));
    } else if arguments.csv {
        output::print(&page::csv(&document));
    }
    Ok(document.valid)
}

/// Writes each chart into a folder.
fn draw(document: &Document, folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for (name, text) in page::svgs(document)? {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        output::tell(&path.display().to_string());
    }
    Ok(())
}

/// How a page that lies in `from` gets to the files in `to`: empty if they lie beside it, else with `/` at its end.
fn way(from: &Path, to: &Path) -> Result<String, Failure> {
    let from = if from.as_os_str().is_empty() { Path::new(".") } else { from };
    let real = |path: &Path| path.canonicalize().with_context(|| path.display().to_string()).map_err(Failure::usage);
    let (from, to) = (real(from)?, real(to)?);
    let (from, to): (Vec<_>, Vec<_>) = (from.components().collect(), to.components().collect());
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = from[common..].iter().map(|_| Component::ParentDir);
    let path: PathBuf = up.chain(to[common..].iter().copied()).collect();
    let text = path.to_string_lossy();
    Ok(if text.is_empty() { String::new() } else { format!("{text}/") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_elsewhere_find_their_files() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b/c"].map(|name| folder.path().join(name));
        [&a, &b].into_iter().for_each(|path| std::fs::create_dir_all(path).unwrap());
        assert_eq!(way(&a, &a).unwrap(), "");
        assert_eq!(way(&a, &b).unwrap(), "../b/c/");
        assert_eq!(way(&b, &a).unwrap(), "../../a/");
        assert_eq!(way(folder.path(), &a).unwrap(), "a/");
        assert!(way(&folder.path().join("none"), &a).is_err());
    }
}
