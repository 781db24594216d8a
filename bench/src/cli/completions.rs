//! `hippodrome completions`.

use clap::Args;
use clap_complete::Shell;

pub(crate) const EXAMPLES: &str = "\
Examples:
  hippodrome completions bash > ~/.local/share/bash-completion/completions/hippodrome
  hippodrome completions zsh > ~/.zfunc/_hippodrome
  hippodrome completions fish > ~/.config/fish/completions/hippodrome.fish";

/// Print a script that completes commands and options in a shell
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Which shell
    #[arg(value_name = "SHELL", value_enum)]
    pub(crate) shell: Shell,
}
