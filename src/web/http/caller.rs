//! Whoever asks. The door finds out who it is and leaves it with the request, where handlers take it.

use std::convert::Infallible;

use accounts::Role;
use axum::extract::FromRequestParts;
use axum::http::Extensions;
use axum::http::request::Parts;

/// By what somebody is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Who {
    /// Nobody has to log in here.
    Anyone,
    /// Somebody has to, and this one has not (on the few paths that are open).
    Stranger,
    /// The command line on the daemon's own machine.
    Local,
    /// A user, with the id of their session.
    User {
        /// Name.
        name: String,
        /// The session's id.
        session: String,
    },
    /// A program with a token.
    Token {
        /// Name of the token.
        name: String,
    },
}

/// Whoever asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) who: Who,
    /// What they may do; a stranger nothing.
    pub(crate) role: Option<Role>,
    /// What their forms must carry. Empty for programs, whose forms are refused.
    pub(crate) csrf: String,
}

impl Caller {
    /// Somebody who is not known.
    pub(crate) fn stranger() -> Self {
        Self { who: Who::Stranger, role: None, csrf: String::new() }
    }

    /// Whoever the door left with a request or an answer; nobody known, where it left nobody.
    pub(crate) fn of(left: &Extensions) -> Self {
        left.get::<Self>().cloned().unwrap_or_else(Self::stranger)
    }

    /// Whether they may act.
    pub(crate) fn acts(&self) -> bool {
        self.role == Some(Role::Operator)
    }

    /// What the pages' forms carry. Empty for those who may only read: their pages have no forms.
    pub(crate) fn form_token(&self) -> &str {
        if self.acts() { &self.csrf } else { "" }
    }

    /// Their name, if they have one.
    pub(crate) fn name(&self) -> Option<&str> {
        match &self.who {
            Who::User { name, .. } | Who::Token { name } => Some(name),
            Who::Anyone | Who::Stranger | Who::Local => None,
        }
    }

    /// Their name for the audit, or the door they came through.
    pub(crate) fn by(&self, door: &str) -> String {
        match &self.who {
            Who::User { name, .. } => name.clone(),
            Who::Token { name } => format!("token {name}"),
            Who::Anyone | Who::Stranger | Who::Local => door.to_owned(),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.extensions))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_acts_and_is_named_as_they_came() {
        let who = Who::User { name: "ann".into(), session: "s".into() };
        let ann = Caller { who, role: Some(Role::Viewer), csrf: "form".into() };
        assert_eq!(Caller::of(&Extensions::new()), Caller::stranger());
        assert!(!ann.acts() && !Caller::stranger().acts());
        let acting = Caller { role: Some(Role::Operator), ..ann.clone() };
        assert_eq!((ann.form_token(), acting.form_token()), ("", "form"));
        assert_eq!(ann.by("web"), "ann");
        let token = Caller { who: Who::Token { name: "deploy".into() }, ..ann };
        assert_eq!((token.by("api"), Caller::stranger().by("api")), ("token deploy".into(), "api".into()));
    }
}
