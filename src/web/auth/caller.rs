//! Whoever asks: known to handlers through [`App`](crate::server::App), and to the frame of a page.

use accounts::Role;

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

tokio::task_local! {
    /// Set by the door around the handler of each request.
    static CALLER: Caller;
}

impl Caller {
    /// Somebody who is not known.
    pub(crate) fn stranger() -> Self {
        Self { who: Who::Stranger, role: None, csrf: String::new() }
    }

    /// Whoever sent the request that is being answered; outside of a request a stranger.
    pub(crate) fn current() -> Self {
        CALLER.try_with(Self::clone).unwrap_or_else(|_| Self::stranger())
    }

    /// Runs a handler for this caller.
    pub(crate) async fn asks<T>(self, handler: impl Future<Output = T>) -> T {
        CALLER.scope(self, handler).await
    }

    /// Whether they may act.
    pub(crate) fn acts(&self) -> bool {
        self.role == Some(Role::Operator)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_caller_is_known_while_their_request_is_answered() {
        let who = Who::User { name: "ann".into(), session: "s".into() };
        let ann = Caller { who, role: Some(Role::Viewer), csrf: "form".into() };
        assert_eq!(ann.clone().asks(async { Caller::current() }).await, ann);
        assert_eq!(Caller::current(), Caller::stranger());
        assert!(!ann.acts() && !Caller::stranger().acts());
        assert_eq!(ann.by("web"), "ann");
        let token = Caller { who: Who::Token { name: "deploy".into() }, ..ann };
        assert_eq!((token.by("api"), Caller::stranger().by("api")), ("token deploy".into(), "api".into()));
    }
}
