//! Whole pages: the frame that is the same around all of them, and refusals as pages.

use std::convert::Infallible;

use askama::Template;
use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};

use super::caller::{Caller, Who};
use super::reader::Asked;
use super::reply::Refusal;
use crate::locale::{Language, Reader, Text, ToText, choice, filters, words};
use crate::view::{Fragment, Html};

/// What the frame of a page depends on: who reads it, who they are, and the page's own address.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    /// In which language, and below which path.
    pub(crate) reader: Reader,
    /// Who asks.
    pub(crate) caller: Caller,
    /// Path and query of the page, to come back to.
    place: String,
}

impl Frame {
    pub(crate) fn new(asked: Asked, caller: Caller) -> Self {
        Self { reader: asked.reader, caller, place: asked.place }
    }

    /// What the page's forms carry; empty where it has none.
    pub(crate) fn csrf(&self) -> &str {
        self.caller.form_token()
    }

    /// A page in this frame.
    pub(crate) fn page<'a>(
        &'a self,
        place: &'a str,
        title: impl ToText,
        events: Option<String>,
        fragments: Vec<Fragment>,
    ) -> Page<'a> {
        let reader = &self.reader;
        let (language, other) = (reader.language, reader.language.other());
        Page {
            place,
            title: title.to_text(),
            events,
            fragments,
            refreshes: false,
            version: env!("CARGO_PKG_VERSION"),
            who: badge(&self.caller, place, reader),
            csrf: self.csrf(),
            language,
            other,
            other_address: choice::address(other, &self.place),
            reader,
        }
    }

    /// Puts the page of a refusal into the answer that carries it, whose status and headers stay.
    pub(crate) fn draw(&self, refusal: &Refusal, answer: &mut Response) {
        let title = words::status(refusal.status);
        let [text, remedy] = [&refusal.error, &refusal.remedy].map(|said| said.to_text().sentence());
        let message = Notice { title: title.clone(), text, remedy, back: "/" };
        let page = self.page("message", title, None, vec![Fragment::new("message", &message, &self.reader)]);
        let (parts, body) = page.into_response().into_parts();
        answer.headers_mut().remove(header::CONTENT_LENGTH);
        answer.headers_mut().extend(parts.headers);
        *answer.body_mut() = body;
    }
}

impl<S: Sync> FromRequestParts<S> for Frame {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::new(Asked::of(&parts.extensions), Caller::of(&parts.extensions)))
    }
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
    csrf: &'a str,
    /// The language of the page, and the other one it can be read in.
    language: Language,
    other: Language,
    other_address: String,
    reader: &'a Reader,
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
    let (name, role) =
        (caller.name().unwrap_or_default(), caller.role.map_or_else(Text::default, words::role));
    Html::of(&Badge { session, name, role, csrf: &caller.csrf, place }, reader)
}

impl Page<'_> {
    /// A page of the stores' figures: the browser asks for it again every few seconds.
    pub(crate) fn refreshing(self) -> Self {
        Self { refreshes: true, ..self }
    }
}

impl IntoResponse for Page<'_> {
    fn into_response(self) -> Response {
        let headers =
            [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
        (headers, Html::of(&self, self.reader).to_string()).into_response()
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, StatusCode};

    use super::*;
    use crate::http::reply::PageRefusal;
    use domain::message::Message;
    use domain::said;

    #[test]
    fn a_refusal_becomes_sentences() {
        let sentence = |fragment: &'static str| Message::foreign(fragment).to_text().sentence().to_string();
        assert_eq!(sentence("the run has ended"), "The run has ended.");
        assert_eq!(sentence("what now?"), "What now?");
        assert_eq!(sentence(""), "");
    }

    #[test]
    fn a_refusal_is_drawn_into_its_answer_and_its_headers_stay() {
        let mut answer =
            PageRefusal(Refusal::missing(said!("there is nothing here"), said!("look elsewhere")))
                .into_response();
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        let refusal = answer.extensions_mut().remove::<Refusal>().expect("it travels with the answer");
        Frame::new(Asked::default(), Caller::stranger()).draw(&refusal, &mut answer);
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        assert_eq!(answer.headers()["retry-after"], "5");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        assert_eq!(answer.headers()["content-type"], "text/html; charset=utf-8");
    }
}
