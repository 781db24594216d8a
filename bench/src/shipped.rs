//! Files that are called by their names, scenarios and experiments: those that come with the binary (copying it to a
//! host is all the installation there is), and those that people write.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};

/// Longest name, so that it can be a folder's.
const NAME_BYTES_MAX: usize = 64;

/// Names and texts of the files in a folder, in the order in which they are listed.
macro_rules! shipped {
    ($folder:literal: $($name:literal),* $(,)?) => {
        const TEXTS: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../", $folder, "/", $name, ".toml")))),*];
    };
}

pub(crate) use shipped;

/// The text of the one with this name; `what` they are.
///
/// # Errors
/// Lists the names if there is none.
pub(crate) fn text(texts: &[(&str, &'static str)], what: &str, name: &str) -> anyhow::Result<&'static str> {
    let Some((_, text)) = texts.iter().find(|(shipped, _)| *shipped == name) else {
        let names: Vec<&str> = texts.iter().map(|(name, _)| *name).collect();
        bail!("no {what} '{name}'; allowed: a file (its name ends with .toml), or one of {}", names.join(", "))
    };
    Ok(text)
}

/// Reads a file of somebody's own.
///
/// # Errors
/// Names the file, and whatever `parse` names.
pub(crate) fn read<T>(path: &Path, parse: impl FnOnce(&str) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let name = path.display();
    let text = std::fs::read_to_string(path).with_context(|| name.to_string())?;
    parse(&text).with_context(|| name.to_string())
}

/// Checks the name that a file gives itself.
///
/// # Errors
/// If it can not be a folder's.
pub(crate) fn check_name(name: &str) -> anyhow::Result<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
    ensure!(
        !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.chars().all(fits),
        "name = \"{name}\": allowed: 1 to {NAME_BYTES_MAX} letters, digits and hyphens"
    );
    Ok(())
}
