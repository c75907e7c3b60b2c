//! `openbell completions`: what a shell needs to complete our command line.

use clap_complete::Shell;

use super::exit::Exit;
use super::table::print;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples, each with a new shell to see it:
  openbell completions bash > ~/.local/share/bash-completion/completions/openbell
  openbell completions zsh > \"${fpath[1]}/_openbell\"        (a folder of $fpath that you may write)
  openbell completions fish > ~/.config/fish/completions/openbell.fish
  openbell completions elvish >> ~/.config/elvish/rc.elv
  openbell completions powershell >> $PROFILE")]
pub struct Arguments {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Carries out the command.
pub fn main(arguments: Arguments) -> super::exit::Result {
    print(script(arguments.shell)).map(|()| Exit::Fine)
}

fn script(shell: Shell) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut visible(), "openbell", &mut text);
    text
}

/// The command line without what is internal, which scripts would offer otherwise.
fn visible() -> clap::Command {
    let all = super::command();
    let kept: Vec<_> = all.get_subcommands().filter(|sub| !sub.is_hide_set()).cloned().collect();
    clap::Command::new("openbell").version(env!("CARGO_PKG_VERSION")).subcommands(kept)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_learns_the_commands() {
        for shell in Shell::value_variants() {
            let text = String::from_utf8(script(*shell)).expect("text");
            for word in ["reconcile", "dead letters", "drain"] {
                // Bash completes words and shows no descriptions.
                assert!(
                    text.contains(word) || (*shell == Shell::Bash && word == "dead letters"),
                    "{shell} lacks {word}"
                );
            }
            assert!(!text.contains("shim"), "{shell} offers what is internal");
        }
    }
}
