//! Answers: pages, JSON, and refusals that say what to do instead.

use askama::Template;
use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::problem::{self, Kind};
use crate::auth::{Caller, Who};
use crate::locale::{Language, Reader, Text, ToText, choice, filters, words};
use crate::view::{Fragment, Html};
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

/// Any handler's refusal for programs.
pub(crate) fn json(refusal: Refusal) -> impl IntoResponse {
    problem::answer(&refusal)
}

/// Any handler's refusal as a page.
pub(crate) fn page(refusal: Refusal) -> impl IntoResponse {
    let title = words::status(refusal.status);
    let [text, remedy] = [&refusal.error, &refusal.remedy].map(|said| said.to_text().sentence());
    let message = Notice { title: title.clone(), text, remedy, back: "/" };
    (refusal.status, Page::new("message", title, None, vec![Fragment::new("message", &message, &Reader::current())]))
}

#[derive(Template)]
#[template(path = "http/message.html")]
struct Notice<'a> {
    title: Text,
    text: Text,
    remedy: Text,
    back: &'a str,
}

/// A whole page.
#[derive(Template)]
#[template(path = "http/page.html")]
pub(crate) struct Page<'a> {
    place: &'a str,
    title: Text,
    /// Where its changes come from; `None` for a page that never changes.
    events: Option<String>,
    fragments: Vec<Fragment>,
    /// It is asked for again every few seconds.
    refreshes: bool,
    version: &'static str,
    /// Who is logged in, and the way out.
    who: Html,
    /// What the forms of live parts must carry; they are drawn for all who see the same, and without it.
    csrf: String,
    /// The language of the page, and the other one it can be read in.
    language: Language,
    other: Language,
    other_address: String,
}

/// Who is logged in, in the frame of every page.
#[derive(Template)]
#[template(path = "http/who.html")]
struct Badge<'a> {
    session: bool,
    name: &'a str,
    role: Text,
    csrf: &'a str,
    place: &'a str,
}

fn badge(caller: &Caller, place: &str, reader: &Reader) -> Html {
    let session = matches!(caller.who, Who::User { .. });
    let (name, role) = (caller.name().unwrap_or_default(), caller.role.map_or_else(Text::default, words::role));
    Html::of(&Badge { session, name, role, csrf: &caller.csrf, place }, reader)
}

impl<'a> Page<'a> {
    pub(crate) fn new(place: &'a str, title: impl ToText, events: Option<String>, fragments: Vec<Fragment>) -> Self {
        let reader = Reader::current();
        let caller = Caller::current();
        let who = badge(&caller, place, &reader);
        let csrf = if caller.acts() { caller.csrf } else { String::new() };
        let (language, other) = (reader.language, reader.language.other());
        let other_address = choice::address(other, &Reader::place());
        let (title, version) = (title.to_text(), env!("CARGO_PKG_VERSION"));
        Self { place, title, events, fragments, refreshes: false, version, who, csrf, language, other, other_address }
    }

    /// A page of the stores' figures: the browser asks for it again every few seconds.
    pub(crate) fn refreshing(self) -> Self {
        Self { refreshes: true, ..self }
    }
}

impl IntoResponse for Page<'_> {
    fn into_response(self) -> Response {
        let headers = [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
        (headers, Html::of(&self, &Reader::current()).to_string()).into_response()
    }
}

/// A refusal of a page's handler.
pub(crate) struct PageRefusal(pub(crate) Refusal);

impl<R: Into<Refusal>> From<R> for PageRefusal {
    fn from(refusal: R) -> Self {
        Self(refusal.into())
    }
}

impl IntoResponse for PageRefusal {
    fn into_response(self) -> Response {
        page(self.0).into_response()
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
        json(self.0).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_command_tells_reason_and_remedy_apart() {
        let refusal = Refusal::from(Refused::foreign("the run has ended", "clear a step to run it again"));
        let told = [&refusal.error, &refusal.remedy].map(|said| said.to_text().sentence().to_string());
        assert_eq!(told, ["The run has ended.", "Clear a step to run it again."]);
        assert_eq!(Message::none().to_text().sentence().to_string(), "");
    }
}
