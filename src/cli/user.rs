//! `openbell user …`: who may log in. Works on the users file; a running daemon notices the change.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command as Program, Stdio};

use accounts::{Accounts, Role, User, password, secret, store};
use serde_json::json;

use super::exit::{Exit, Failure};
use super::serve::configuration;
use super::table::{columns, print, print_json};
use super::target::DataFolder;
use clock::Clock;

/// Which users file.
#[derive(Debug, Clone, clap::Args)]
pub struct UsersFile {
    #[command(flatten)]
    data: DataFolder,
    /// Configuration of the daemon (YAML), to find its users file
    #[arg(long, value_name = "FILE", env = "OPENBELL_CONFIG")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl UsersFile {
    /// Says what was done: to people in words, to programs as JSON.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub(super) fn tell(&self, done: &serde_json::Value, words: String) -> Result<(), Failure> {
        if self.json { print_json(done) } else { print(words) }
    }

    /// The users file.
    ///
    /// # Errors
    /// A configuration that cannot be used.
    pub(super) fn users(&self) -> Result<PathBuf, Failure> {
        Ok(self.data.join(configuration(self.config.as_deref())?.auth.users_path()))
    }
}

/// Where a password comes from.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Given {
    /// Read the password from the first line of standard input
    #[arg(long, conflicts_with = "generate")]
    password_stdin: bool,
    /// Make a random password and print it
    #[arg(long)]
    generate: bool,
}

/// Subcommands.
#[derive(Debug, clap::Subcommand)]
#[command(
    after_help = "As soon as there is a user, every page and the API ask for a login. A running daemon notices changes at once.
The command line on the daemon's own machine goes on working: it reads DATA/daemon.token.

Examples:
  openbell user add ann --role operator
  echo \"$PASSWORD\" | openbell user add kim --password-stdin"
)]
pub enum Command {
    /// Add a user; asks for the password
    Add {
        /// Name
        name: String,
        /// viewer: reads everything; operator: also acts
        #[arg(long, default_value = "viewer", value_name = "ROLE")]
        role: Role,
        #[command(flatten)]
        given: Given,
        #[command(flatten)]
        place: UsersFile,
    },
    /// List users
    List {
        #[command(flatten)]
        place: UsersFile,
    },
    /// Remove a user; their sessions end
    Remove {
        /// Name
        name: String,
        #[command(flatten)]
        place: UsersFile,
    },
    /// Set a user's password; their sessions end
    Passwd {
        /// Name
        name: String,
        #[command(flatten)]
        given: Given,
        #[command(flatten)]
        place: UsersFile,
    },
    /// Change what a user may do
    Role {
        /// Name
        name: String,
        /// viewer or operator
        role: Role,
        #[command(flatten)]
        place: UsersFile,
    },
}

/// Carries out the command.
pub fn main(command: Command) -> super::exit::Result {
    let now = Clock::system().now();
    match command {
        Command::Add { name, role, given, place } => {
            let path = place.users()?;
            // Asked before the password is typed.
            if known(&path)?.user(&name).is_some() {
                return Err(Failure::fault(format!(
                    "there is a user {name} already; `openbell user passwd {name}` sets their password"
                )));
            }
            let (password, made) = given.password(&name, place.json)?;
            store::edit(&path, |all| all.add_user(&name, role, password, now)).map_err(Failure::fault)?;
            let done = json!({ "user": name, "role": role, "file": path, "password": made });
            place.tell(&done, format!("{name} can log in as {role} (in {})\n", path.display()))?;
        }
        Command::List { place } => list(&place.users()?, place.json)?,
        Command::Remove { name, place } => {
            store::edit(&place.users()?, |all| all.remove_user(&name)).map_err(Failure::fault)?;
            place.tell(
                &json!({ "user": name, "removed": true }),
                format!("{name} is removed; their sessions have ended\n"),
            )?;
        }
        Command::Passwd { name, given, place } => {
            let path = place.users()?;
            known(&path)?.set_role(&name, Role::Viewer).map_err(Failure::fault)?;
            let (password, made) = given.password(&name, place.json)?;
            store::edit(&path, |all| all.set_password(&name, password, now)).map_err(Failure::fault)?;
            let done = json!({ "user": name, "password": made });
            place.tell(&done, format!("{name} has a new password; their sessions have ended\n"))?;
        }
        Command::Role { name, role, place } => {
            store::edit(&place.users()?, |all| all.set_role(&name, role)).map_err(Failure::fault)?;
            place.tell(&json!({ "user": name, "role": role }), format!("{name} is {role} from now on\n"))?;
        }
    }
    Ok(Exit::Fine)
}

/// The users there are; without a file none.
fn known(path: &Path) -> Result<Accounts, Failure> {
    Ok(store::read(path).map_err(Failure::unusable)?.unwrap_or_default())
}

fn list(path: &Path, as_json: bool) -> Result<(), Failure> {
    let all = known(path)?;
    if as_json {
        let user = |u: &User| json!({ "name": u.name, "role": u.role, "created_at": u.created_at, "changed_at": u.changed_at });
        return print_json(&json!({ "users": all.users.iter().map(user).collect::<Vec<_>>() }));
    }
    if all.users.is_empty() {
        return print(format!(
            "there is no user in {}; nobody has to log in. `openbell user add NAME --role operator` adds one\n",
            path.display()
        ));
    }
    let mut rows = vec![["NAME", "ROLE", "CREATED", "PASSWORD SET"].map(str::to_owned)];
    rows.extend(
        all.users.iter().map(|u| {
            [u.name.clone(), u.role.to_string(), u.created_at.to_string(), u.changed_at.to_string()]
        }),
    );
    print(columns(&rows))
}

impl Given {
    /// The hash of the password that was given; and the password itself, if it was made here and has to be
    /// told.
    fn password(self, name: &str, as_json: bool) -> Result<(String, Option<String>), Failure> {
        let mut told = None;
        let password = if self.generate {
            let made = secret::token().map_err(Failure::unusable)?[..24].to_owned();
            if !as_json {
                print(format!("password of {name}: {made}\n"))?;
            }
            told = Some(made.clone());
            made
        } else if self.password_stdin || !io::stdin().is_terminal() {
            line()?
        } else {
            asked(name)?
        };
        password::hash(&password).map(|hash| (hash, told)).map_err(Failure::fault)
    }
}

/// The next line of standard input.
fn line() -> Result<String, Failure> {
    let mut text = String::new();
    io::stdin().lock().read_line(&mut text).map_err(|e| Failure::unusable(format!("standard input: {e}")))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Asks twice, without showing what is typed.
fn asked(name: &str) -> Result<String, Failure> {
    let ask = |what: &str| {
        eprint!("{what}");
        // A prompt that is not seen is not worth failing for.
        drop(io::stderr().flush());
        let typed = line();
        eprintln!();
        typed
    };
    if !echo(false) {
        let remedy = "give the password with --password-stdin, or have one made with --generate";
        return Err(Failure::unusable(format!("this terminal cannot hide what is typed; {remedy}")));
    }
    let typed = ask(&format!("password of {name}: ")).and_then(|first| Ok((first, ask("again: ")?)));
    echo(true);
    let (first, again) = typed?;
    if first != again {
        return Err(Failure::fault("the two differ; nothing was changed, try again"));
    }
    Ok(first)
}

/// Whether the terminal shows what is typed; false if it cannot be told.
fn echo(on: bool) -> bool {
    let ended = Program::new("stty")
        .arg(if on { "echo" } else { "-echo" })
        .stdin(Stdio::inherit())
        .stderr(Stdio::null())
        .status();
    ended.is_ok_and(|status| status.success())
}
