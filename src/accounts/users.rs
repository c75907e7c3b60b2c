//! Users and API tokens, as they are kept in the users file. Pure: text in, text out; time and secrets are
//! arguments.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{password, secret};

/// The layout this program writes. It reads this one and older ones.
const VERSION: u32 = 1;

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads everything.
    Viewer,
    /// Reads everything and acts.
    Operator,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Viewer, Self::Operator];

    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "viewer" => Ok(Self::Viewer),
            "operator" => Ok(Self::Operator),
            _ => Err(format!(
                "\"{text}\" is not a role; write viewer (reads everything) or operator (also acts)"
            )),
        }
    }
}

/// Somebody who can log in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Name.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// Argon2 hash of their password.
    pub password: String,
    /// When they were added.
    pub created_at: Timestamp,
    /// When their password was set.
    pub changed_at: Timestamp,
}

/// A token of a program.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Public part of the token, by which it is found.
    pub id: String,
    /// What it is for.
    pub name: String,
    /// What its holder may do.
    pub role: Role,
    /// Digest of the token.
    pub digest: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is worth nothing.
    pub expires_at: Option<Timestamp>,
}

/// All of them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accounts {
    version: u32,
    /// By name.
    #[serde(default)]
    pub users: Vec<User>,
    /// In the order they were made.
    #[serde(default)]
    pub tokens: Vec<Token>,
}

impl Default for Accounts {
    fn default() -> Self {
        Self { version: VERSION, users: Vec::new(), tokens: Vec::new() }
    }
}

fn check_name(name: &str, what: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.@+".contains(c);
    if name.is_empty()
        || name.len() > 63
        || !name.chars().all(fits)
        || !name.starts_with(|c: char| c.is_ascii_alphanumeric())
    {
        return Err(format!(
            "\"{name}\" is not a usable name for a {what}; use 1 to 63 of a-z, A-Z, 0-9, '-', '_', '.', '@' and '+', starting with a letter or digit"
        ));
    }
    Ok(())
}

impl Accounts {
    /// Reads the users file's text.
    ///
    /// # Errors
    /// What is wrong with it, with line and column where known.
    pub fn parse(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } =
            serde_json::from_str(text).map_err(|e| format!("it is not a file of users: {e}"))?;
        if version > VERSION {
            return Err(format!(
                "it was written by a newer openbell (layout {version}, this one knows {VERSION}); use that one"
            ));
        }
        let accounts: Self =
            serde_json::from_str(text).map_err(|e| format!("it is not a file of users: {e}"))?;
        for user in &accounts.users {
            check_name(&user.name, "user")?;
            if !password::is_hash(&user.password) {
                return Err(format!(
                    "the password of {} is not an Argon2 hash; set it with `openbell user passwd {0}`",
                    user.name
                ));
            }
            if accounts.users.iter().filter(|u| u.name == user.name).count() > 1 {
                return Err(format!("it has more than one user {}; remove all but one", user.name));
            }
        }
        Ok(accounts)
    }

    /// The users file's text.
    pub fn text(&self) -> String {
        // Names, numbers and times always print.
        serde_json::to_string_pretty(self).map(|text| text + "\n").unwrap_or_default()
    }

    /// Whether nobody can log in or send a token.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.tokens.is_empty()
    }

    /// The user of a name.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|u| u.name == name)
    }

    fn user_mut(&mut self, name: &str) -> Result<&mut User, String> {
        let all = self.users.iter().map(|u| u.name.clone()).collect::<Vec<_>>().join(", ");
        let found = self.users.iter_mut().find(|u| u.name == name);
        found.ok_or_else(|| {
            format!("there is no user {name}; there are: {}", if all.is_empty() { "none" } else { &all })
        })
    }

    /// Adds a user with the hash of their password.
    ///
    /// # Errors
    /// A name that is not usable or taken.
    pub fn add_user(
        &mut self,
        name: &str,
        role: Role,
        password: String,
        now: Timestamp,
    ) -> Result<(), String> {
        check_name(name, "user")?;
        if self.user(name).is_some() {
            return Err(format!(
                "there is a user {name} already; `openbell user passwd {name}` sets their password"
            ));
        }
        self.users.push(User { name: name.to_owned(), role, password, created_at: now, changed_at: now });
        self.users.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(())
    }

    /// Sets the hash of a user's password. Their sessions were opened with another one and end.
    ///
    /// # Errors
    /// No such user.
    pub fn set_password(&mut self, name: &str, password: String, now: Timestamp) -> Result<(), String> {
        let user = self.user_mut(name)?;
        (user.password, user.changed_at) = (password, now);
        Ok(())
    }

    /// Changes what a user may do.
    ///
    /// # Errors
    /// No such user.
    pub fn set_role(&mut self, name: &str, role: Role) -> Result<(), String> {
        self.user_mut(name)?.role = role;
        Ok(())
    }

    /// Removes a user.
    ///
    /// # Errors
    /// No such user.
    pub fn remove_user(&mut self, name: &str) -> Result<(), String> {
        self.user_mut(name)?;
        self.users.retain(|u| u.name != name);
        Ok(())
    }

    /// Adds a token.
    ///
    /// # Errors
    /// A name that is not usable or taken by another token.
    pub fn add_token(&mut self, token: Token) -> Result<(), String> {
        check_name(&token.name, "token")?;
        if self.tokens.iter().any(|t| t.name == token.name) {
            return Err(format!(
                "there is a token {0} already; revoke it with `openbell token revoke {0}`, or choose another name",
                token.name
            ));
        }
        self.tokens.push(token);
        Ok(())
    }

    /// Removes a token, by its name or id.
    ///
    /// # Errors
    /// No such token.
    pub fn revoke(&mut self, token: &str) -> Result<(), String> {
        let before = self.tokens.len();
        self.tokens.retain(|t| t.name != token && t.id != token);
        if self.tokens.len() == before {
            return Err(format!("there is no token {token}; `openbell token list` shows them"));
        }
        Ok(())
    }

    /// The token somebody presents, if it is one and has not expired.
    pub fn token(&self, presented: &str, now: Timestamp) -> Option<&Token> {
        let id = secret::id_of(presented)?;
        let token = self.tokens.iter().find(|t| t.id == id)?;
        let right = secret::equal(&secret::digest(presented)?, &token.digest);
        (right && token.expires_at.is_none_or(|at| now < at)).then_some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time")
    }

    fn kept() -> String {
        password::NOBODY.to_owned()
    }

    #[test]
    fn users_come_change_and_go() {
        let mut accounts = Accounts::default();
        accounts.add_user("kim@example.com", Role::Viewer, kept(), at(1)).expect("added");
        accounts.add_user("ann", Role::Operator, kept(), at(1)).expect("added");
        assert!(
            accounts.add_user("ann", Role::Viewer, kept(), at(1)).expect_err("taken").contains("passwd ann")
        );
        for bad in ["", "-x", "a b", "a/b", "<script>", &"x".repeat(64)] {
            assert!(accounts.add_user(bad, Role::Viewer, kept(), at(1)).is_err(), "{bad}");
        }
        accounts.set_role("kim@example.com", Role::Operator).expect("there");
        accounts.set_password("ann", kept(), at(9)).expect("there");
        assert!(accounts.set_role("bob", Role::Viewer).expect_err("nobody").contains("ann, kim@example.com"));
        assert!(Accounts::parse(&accounts.text()).expect("reads what it wrote") == accounts);
        assert_eq!(accounts.user("ann").expect("there").changed_at, at(9));
        accounts.remove_user("ann").expect("there");
        assert!(accounts.user("ann").is_none() && accounts.remove_user("ann").is_err());
    }

    #[test]
    fn a_token_counts_until_it_expires_or_is_revoked() {
        let mut accounts = Accounts::default();
        let (id, whole) = secret::api_token().expect("random");
        let digest = secret::digest(&whole).expect("a digest");
        let token = Token {
            id: id.clone(),
            name: "grafana".into(),
            role: Role::Viewer,
            digest,
            created_at: at(1),
            expires_at: Some(at(100)),
        };
        accounts.add_token(token.clone()).expect("added");
        assert!(accounts.add_token(token).is_err(), "the name is taken");
        assert!(
            !accounts.text().contains(&whole) && !accounts.text().contains(&whole[30..]),
            "the token itself is not kept"
        );
        assert!(accounts.token(&whole, at(99)).is_some_and(|t| t.name == "grafana"));
        assert!(accounts.token(&whole, at(100)).is_none(), "expired");
        let guessed = format!("openbell_{id}_{}", secret::token().expect("random"));
        for bad in ["", "grafana", &guessed, &whole[..whole.len() - 1]] {
            assert!(accounts.token(bad, at(2)).is_none(), "{bad}");
        }
        accounts.revoke("grafana").expect("there");
        assert!(accounts.token(&whole, at(2)).is_none() && accounts.revoke(&id).is_err());
    }

    #[test]
    fn a_file_that_is_none_is_refused_with_words() {
        let user = |password: &str| {
            format!(
                r#"{{"version":1,"users":[{{"name":"a","role":"viewer","password":"{password}","created_at":"2026-01-01T00:00:00Z","changed_at":"2026-01-01T00:00:00Z"}}]}}"#
            )
        };
        assert!(Accounts::parse(&user(password::NOBODY)).is_ok());
        for (text, said) in [
            ("", "not a file of users"),
            ("[]", "not a file of users"),
            (r#"{"version":2,"seats":[]}"#, "newer openbell"),
            (r#"{"version":1,"user":[]}"#, "unknown field"),
            (&user("secret"), "openbell user passwd a"),
            (&user(password::NOBODY).replace("viewer", "admin"), "admin"),
        ] {
            let error = Accounts::parse(text).err().expect("refused");
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
