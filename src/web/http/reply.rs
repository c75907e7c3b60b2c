//! Answers of handlers: JSON, and refusals that say what to do instead.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::problem::{self, Kind};
use daemon::Refused;
use domain::message::Message;

/// A request that is not carried out: why, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// What programs tell it by.
    pub(crate) kind: Kind,
    pub(crate) error: Message,
    pub(crate) remedy: Message,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, error: Message, remedy: Message) -> Self {
        Self { status, kind: Kind::of(status), error, remedy }
    }

    /// The same, of a narrower kind than its status says.
    pub(crate) fn kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    /// Something that does not exist.
    pub(crate) fn missing(error: Message, remedy: Message) -> Self {
        Self::new(StatusCode::NOT_FOUND, error, remedy)
    }

    /// A request with a parameter that does not make sense.
    pub(crate) fn bad(error: Message, remedy: Message) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, remedy).kind(Kind::BadParameter)
    }

    /// A part of a request that cannot be read, in the words of whoever reads it.
    pub(crate) fn unread(words: &str, remedy: Message) -> Self {
        Self::bad(Message::foreign(words.to_lowercase()), remedy)
    }

    /// The answer where no handler says which kind it gives: a problem for programs, else a page.
    pub(crate) fn answer(self, programs: bool) -> Response {
        if programs { ApiRefusal(self).into_response() } else { PageRefusal(self).into_response() }
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        Self::new(StatusCode::CONFLICT, refused.why, refused.remedy)
    }
}

impl From<domain::ids::NameError> for Refusal {
    fn from(error: domain::ids::NameError) -> Self {
        let refused = error.said();
        Self::bad(refused.why, refused.remedy)
    }
}

/// A refusal of a page's handler. It travels with the answer, and [`reader`](super::reader) draws it: only
/// there is it known who reads.
pub(crate) struct PageRefusal(pub(crate) Refusal);

impl<R: Into<Refusal>> From<R> for PageRefusal {
    fn from(refusal: R) -> Self {
        Self(refusal.into())
    }
}

impl IntoResponse for PageRefusal {
    fn into_response(self) -> Response {
        let mut answer = self.0.status.into_response();
        answer.extensions_mut().insert(self.0);
        answer
    }
}

/// The answer of an API handler that reads.
pub(crate) type Reply = Result<Json<Value>, ApiRefusal>;
/// The answer to what acts.
pub(crate) type Acted = Result<Response, ApiRefusal>;

/// A refusal of an API handler.
pub(crate) struct ApiRefusal(pub(crate) Refusal);

impl<R: Into<Refusal>> From<R> for ApiRefusal {
    fn from(refusal: R) -> Self {
        Self(refusal.into())
    }
}

impl IntoResponse for ApiRefusal {
    fn into_response(self) -> Response {
        problem::answer(&self.0).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::locale::ToText;

    #[test]
    fn a_refused_command_tells_reason_and_remedy_apart() {
        let refusal = Refusal::from(Refused::foreign("the run has ended", "clear a step to run it again"));
        let told = [&refusal.error, &refusal.remedy].map(|said| said.to_text().sentence().to_string());
        assert_eq!(told, ["The run has ended.", "Clear a step to run it again."]);
        assert_eq!(Message::none().to_text().sentence().to_string(), "");
    }
}
