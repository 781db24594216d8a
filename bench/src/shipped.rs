//! What comes with the binary: files under their names. Copying it to a host is all the installation there is.

use anyhow::bail;

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
