//! Which daemon a command is about: the same words, and the same variables, for all of them.

use std::ops::Deref;
use std::path::{Path, PathBuf};

use super::client::Client;
use super::exit::Failure;

/// The data folder of a daemon.
#[derive(Debug, Clone, clap::Args)]
pub struct DataFolder {
    /// Data folder of the daemon
    #[arg(long = "data", default_value = "data", value_name = "DIR", env = "OPENBELL_DATA")]
    folder: PathBuf,
}

impl Deref for DataFolder {
    type Target = Path;
    fn deref(&self) -> &Path {
        &self.folder
    }
}

impl From<PathBuf> for DataFolder {
    fn from(folder: PathBuf) -> Self {
        Self { folder }
    }
}

/// A running daemon.
#[derive(Debug, Clone, clap::Args)]
pub struct Daemon {
    #[command(flatten)]
    pub(super) data: DataFolder,
    /// Address of the daemon, instead of the data folder's
    #[arg(long, value_name = "URL")]
    pub(super) url: Option<String>,
    /// File with a token of `openbell token create` [default: that of OPENBELL_TOKEN, or the data folder's
    /// own]
    #[arg(long, value_name = "FILE", env = "OPENBELL_TOKEN_FILE")]
    pub(super) token_file: Option<PathBuf>,
}

impl Daemon {
    /// A way to it.
    ///
    /// # Errors
    /// No note of a daemon in the data folder, an address that is none, or no token in the file.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        let client = match &self.url {
            Some(url) => Client::at(url)?,
            None => Client::find(&self.data)?,
        };
        match &self.token_file {
            Some(file) => client.with_token_of(file),
            None => Ok(client),
        }
    }
}

/// A running daemon, and whether its answers are printed as they are.
#[derive(Debug, Clone, clap::Args)]
pub struct Target {
    #[command(flatten)]
    daemon: Daemon,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl Target {
    /// A way to the daemon.
    ///
    /// # Errors
    /// Those of [`Daemon::client`].
    pub(super) fn client(&self) -> Result<Client, Failure> {
        self.daemon.client()
    }

    /// The daemon at an address.
    #[cfg(test)]
    pub(super) fn at(url: &str, json: bool) -> Self {
        let data = PathBuf::from("data").into();
        Self { daemon: Daemon { data, url: Some(url.to_owned()), token_file: None }, json }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    /// Every command that works on a daemon's data folder takes it from OPENBELL_DATA too, and every one that
    /// takes an address takes a token.
    #[test]
    fn commands_find_their_daemon_by_the_same_words() {
        fn look(command: &clap::Command, path: &str, seen: &mut Vec<String>) {
            for inner in command.get_subcommands() {
                look(inner, &format!("{path} {}", inner.get_name()), seen);
            }
            let argument = |long: &str| command.get_arguments().find(|a| a.get_long() == Some(long));
            // These make folders of their own: they must not work on that of a daemon because a variable
            // names it.
            let own = matches!(path, " demo" | " dag test" | " restore") || command.is_hide_set();
            if let Some(data) = argument("data").filter(|_| !own) {
                assert_eq!(
                    data.get_env().and_then(|name| name.to_str()),
                    Some("OPENBELL_DATA"),
                    "openbell{path}"
                );
                seen.push(path.to_owned());
            }
            if argument("url").is_some() && !path.starts_with(" simulate") {
                let token =
                    argument("token-file").unwrap_or_else(|| panic!("openbell{path} takes no --token-file"));
                assert_eq!(
                    token.get_env().and_then(|name| name.to_str()),
                    Some("OPENBELL_TOKEN_FILE"),
                    "openbell{path}"
                );
            }
        }
        let mut seen = Vec::new();
        look(&super::super::Arguments::command(), "", &mut seen);
        for wanted in [
            " up",
            " down",
            " doctor",
            " run list",
            " alerts list",
            " topics show",
            " dlq replay",
            " user add",
            " token list",
        ] {
            assert!(seen.iter().any(|path| path == wanted), "openbell{wanted} has no --data: {seen:?}");
        }
    }
}
