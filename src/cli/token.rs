//! `openbell token …`: tokens of programs. Works on the users file; a running daemon notices the change.

use std::path::Path;
use std::time::Duration;

use accounts::{Role, Token, secret, store};
use serde_json::json;

use super::exit::{Exit, Failure};
use super::table::{columns, print, print_json};
use super::user::UsersFile;
use clock::Clock;
use domain::units::duration;

/// Subcommands.
#[derive(Debug, clap::Subcommand)]
#[command(
    after_help = "Programs send a token in the header `Authorization: Bearer TOKEN`. openbell itself takes one from OPENBELL_TOKEN or --token-file.

Examples:
  openbell token create grafana                          to read /metrics and the API
  openbell token create deploy --role operator --expires 90d > deploy.token"
)]
pub enum Command {
    /// Make a token and print it: it is not shown again
    Create {
        /// What it is for
        name: String,
        /// viewer: reads everything; operator: also acts
        #[arg(long, default_value = "viewer", value_name = "ROLE")]
        role: Role,
        /// For how long it counts, for example 90d [default: until it is revoked]
        #[arg(long, value_name = "TIME", value_parser = duration)]
        expires: Option<Duration>,
        #[command(flatten)]
        place: UsersFile,
    },
    /// List tokens
    List {
        #[command(flatten)]
        place: UsersFile,
    },
    /// Make a token worthless
    Revoke {
        /// Its name or id
        token: String,
        #[command(flatten)]
        place: UsersFile,
    },
}

/// Carries out the command.
pub fn main(command: Command) -> super::exit::Result {
    let now = Clock::system().now();
    match command {
        Command::Create { name, role, expires, place } => {
            let (id, whole) = secret::api_token().map_err(Failure::unusable)?;
            let digest = secret::digest(&whole)
                .ok_or_else(|| Failure::unusable("the machine has no memory for a digest"))?;
            let expires_at = expires
                .map(|time| {
                    now.checked_add(time).map_err(|_| {
                        Failure::usage("--expires: that is too long; leave it away for a token without end")
                    })
                })
                .transpose()?;
            let token =
                Token { id: id.clone(), name: name.clone(), role, digest, created_at: now, expires_at };
            store::edit(&place.users()?, |all| all.add_token(token)).map_err(Failure::fault)?;
            let until =
                expires_at.map_or_else(|| "until it is revoked".to_owned(), |at| format!("until {at}"));
            if !place.json {
                eprintln!("token {name}, {role}, {until}; it is shown this once:");
            }
            let done =
                json!({ "id": id, "name": name, "role": role, "expires_at": expires_at, "token": whole });
            place.tell(&done, format!("{whole}\n"))?;
        }
        Command::List { place } => list(&place.users()?, place.json)?,
        Command::Revoke { token, place } => {
            store::edit(&place.users()?, |all| all.revoke(&token)).map_err(Failure::fault)?;
            place.tell(&json!({ "token": token, "revoked": true }), format!("{token} is revoked\n"))?;
        }
    }
    Ok(Exit::Fine)
}

fn list(path: &Path, as_json: bool) -> Result<(), Failure> {
    let all = store::read(path).map_err(Failure::unusable)?.unwrap_or_default();
    let used = store::last_used(path);
    if as_json {
        let token = |t: &Token| {
            json!({
                "id": t.id, "name": t.name, "role": t.role, "created_at": t.created_at, "expires_at": t.expires_at, "last_used_at": used.get(&t.id),
            })
        };
        return print_json(&json!({ "tokens": all.tokens.iter().map(token).collect::<Vec<_>>() }));
    }
    if all.tokens.is_empty() {
        return print(format!(
            "there is no token in {}; `openbell token create NAME` makes one\n",
            path.display()
        ));
    }
    let mut rows = vec![["ID", "NAME", "ROLE", "CREATED", "EXPIRES", "LAST USED"].map(str::to_owned)];
    let time = |at: Option<&jiff::Timestamp>, none: &str| {
        at.map_or_else(|| none.to_owned(), jiff::Timestamp::to_string)
    };
    rows.extend(all.tokens.iter().map(|t| {
        let (created, expires) = (t.created_at.to_string(), time(t.expires_at.as_ref(), "never"));
        [t.id.clone(), t.name.clone(), t.role.to_string(), created, expires, time(used.get(&t.id), "never")]
    }));
    print(columns(&rows))
}
